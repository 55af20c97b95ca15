/*
 * talk.c: POST to /say says something, /wait?N waits for what is said behind
 * number N. It has as many threads as its argument says, and serves a request
 * with each. cc -O2 -pthread -o talk talk.c -lfcgi
 */
#include <fcgiapp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WAIT_S	30	/* then the client may ask again; that it has left nobody tells a thread that waits */

static pthread_mutex_t	 mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t	 news = PTHREAD_COND_INITIALIZER;
static unsigned long	 number;
static char		 said[1000];

static void
answer(FCGX_Stream *out, unsigned long n, const char *text)
{
	FCGX_FPrintF(out, "Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n\r\n%lu %s\n", n, text);
}

static void
say(FCGX_Request *r)
{
	char text[sizeof(said)];
	unsigned long n;
	int len;

	len = FCGX_GetStr(text, sizeof(text) - 1, r->in);
	text[len] = '\0';
	pthread_mutex_lock(&mutex);
	n = ++number;
	strcpy(said, text);
	pthread_cond_broadcast(&news);
	pthread_mutex_unlock(&mutex);
	answer(r->out, n, text);
}

static void
wait_for_news(FCGX_Request *r, unsigned long seen)
{
	struct timespec end;
	char text[sizeof(said)];
	unsigned long n;
	int error = 0;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += WAIT_S;
	pthread_mutex_lock(&mutex);
	while (number <= seen && error == 0)
		error = pthread_cond_timedwait(&news, &mutex, &end);
	n = number;
	strcpy(text, said);
	pthread_mutex_unlock(&mutex);
	answer(r->out, n, text);	/* not under the mutex: a client that reads slowly would stop all */
}

static void *
serve(void *unused)
{
	const char *path, *query;
	FCGX_Request r;

	FCGX_InitRequest(&r, 0, 0);	/* descriptor 0: the socket that zfpm listens on for it */
	while (FCGX_Accept_r(&r) == 0) {
		path = FCGX_GetParam("PATH_INFO", r.envp);
		query = FCGX_GetParam("QUERY_STRING", r.envp);
		if (path != NULL && strcmp(path, "/say") == 0)
			say(&r);
		else if (path != NULL && strcmp(path, "/wait") == 0)
			wait_for_news(&r, query != NULL ? strtoul(query, NULL, 10) : 0);
		else
			FCGX_FPrintF(r.out, "Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nprocess %ld: say, or wait\n", (long)getpid());
	}
	return unused;
}

int
main(int argc, char **argv)
{
	int i, threads = argc > 1 ? atoi(argv[1]) : 4;
	pthread_t t;

	if (FCGX_Init() != 0)
		return 1;
	for (i = 1; i < threads; i++)
		if (pthread_create(&t, NULL, serve, NULL) != 0)
			return 1;	/* zfpm counts on all of them */
	serve(NULL);
	return 0;
}
