/*
 * badserver.c: an app server that does not keep to forkserver.h, for the tests of what a hostile tenant can do. Speaks it
 * without the library (the library's accept() is not called: the kernel is), so an app with `fork_server on` takes it
 * for its app server. Its workers answer every request with "pid PID" and the like, as a plain FastCGI application.
 *
 * badserver MODE [ARGUMENT]
 *  an app server that keeps to it, but for this
 *   good              nothing
 *   pieces            every message goes byte by byte
 *   rubbish-first     bytes that are no message instead of FS_READY
 *   rubbish           FS_READY, and then such bytes
 *   half              FS_READY, and then half a message
 *   version N         FS_READY with that version
 *   ready-twice       FS_READY again
 *   early             FS_FORKED for worker 1 before FS_READY
 *   refused           FS_REFUSED with control characters and no end of its text
 *   failed N          FS_FAILED for every worker, with that errno and control characters
 *   silent            FS_FORKED never comes
 *   uninvited N       FS_READY, and FS_FORKED for a worker of that number
 *   forked-twice      FS_FORKED once more
 *   pid N             FS_FORKED with that pid, or the one that the file N holds
 *   exited N          FS_EXITED for a worker of that number with the first FS_FORKED
 *   exited-alive N    FS_EXITED with that wait status as soon as a worker serves, which lives on
 *   exited-twice      FS_EXITED always twice
 *   failed-late       FS_FAILED behind FS_FORKED
 *   type N            a message of that type about the worker behind FS_FORKED
 *   flood N           FS_READY, then messages of that type about worker 4000000000 without end
 *   deaf              reads nothing behind FS_HELLO; it forks workers that do not end with their connection
 *   stuck             does nothing at all after FS_READY
 *   closes            closes the connection with the router instead of FS_READY, and lives on
 *   closes-later      closes it with the first request that is served, and lives on
 *   holds             a process of another session keeps each worker's connection open
 *   holds-on          the same, and the worker never answers
 *   kills             a worker is killed as soon as a request has come to it
 *   stubborn          neither it nor its workers heed SIGTERM or FS_KILL
 *   leaves            each worker leaves a process in a session of its own
 *  none at all
 *   threads           has a thread when it calls the library's accept()
 *   forks             calls the library's accept() in a child
 *   bare              becomes an ordinary FastCGI application, executed anew without LD_PRELOAD
 * What setsid() or `holds` takes away appends its pid to the file ARGUMENT.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../fcgi.h"
#include "../forkserver.h"

#define MAX_WORKERS	1024
#define MAX_ROUTERS	8

static struct {
	pid_t		 pid;
	uint32_t	 number;
	uint32_t	 router;
} workers[MAX_WORKERS];

static struct {
	int		 fd;		/* -1: none */
	uint32_t	 generation;
} routers[MAX_ROUTERS];

static const char *mode, *argument = "";
/* 128 characters and more */
static const char forged[] = "\033[31mred\r\n2026-01-01T00:00:00.000+0000 master[1] info: forged\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
static bool served;		/* somebody has said so: SIGUSR1 */

static bool
is(const char *name)
{
	return strcmp(mode, name) == 0;
}

static void
on_usr1(int sig)
{
	(void)sig;
	served = true;
}

static void
note(pid_t pid)
{
	FILE *f;

	if (argument[0] == '/' && (f = fopen(argument, "a")) != NULL) {
		fprintf(f, "%ld\n", (long)pid);
		fclose(f);
	}
}

static int
pid_to_tell(void)
{
	FILE *f;
	int pid = 0;

	if (argument[0] != '/')
		return atoi(argument);
	if ((f = fopen(argument, "r")) == NULL || fscanf(f, "%d", &pid) != 1)
		exit(1);
	fclose(f);
	return pid;
}

/* ---- a worker ---------------------------------------------------------------------------- */

static bool
read_all(int fd, void *buf, size_t len)
{
	size_t done = 0;
	ssize_t n;

	while (done < len) {
		if ((n = read(fd, (char *)buf + done, len - done)) == -1 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static void
put(int fd, int type, int id, const void *data, size_t len)
{
	unsigned char head[8] = { 1, (unsigned char)type, (unsigned char)(id >> 8), (unsigned char)id, (unsigned char)(len >> 8), (unsigned char)len };

	if (write(fd, head, sizeof(head)) == -1 || write(fd, data, len) == -1)
		_exit(1);
}

/* Records until the end of STDIN, then the answer; until the connection ends, or what comes is no FastCGI. */
static void
serve(int fd)
{
	static const unsigned char end[8];
	unsigned char head[8], content[65535 + 255];
	char text[128];
	size_t len;

	while (read_all(fd, head, sizeof(head))) {
		len = (size_t)head[4] << 8 | head[5];
		if (head[0] != 1 || head[1] > 11 || !read_all(fd, content, len + head[6]))
			return;
		if (head[1] == 4 && len == 0 && is("kills")) {
			kill(getppid(), SIGUSR1);
			pause();
		}
		if (head[1] != 5 || len != 0)
			continue;
		if (is("closes-later") || is("exited-alive")) {
			kill(getppid(), SIGUSR1);
			sleep(1);
		}
		if (is("holds"))
			_exit(3);
		while (is("holds-on"))
			pause();
		snprintf(text, sizeof(text), "Content-Type: text/plain\r\n\r\npid %ld\nppid %ld\nuid %ld\n", (long)getpid(), (long)getppid(), (long)getuid());
		put(fd, 6, head[2] << 8 | head[3], text, strlen(text));
		put(fd, 3, head[2] << 8 | head[3], end, sizeof(end));
	}
}

/* ---- the app server ------------------------------------------------------------------------ */

static void
send_bytes(int fd, const void *data, size_t len)
{
	size_t i, piece = is("pieces") ? 1 : len;

	for (i = 0; i < len; i += piece) {
		if (send(fd, (const char *)data + i, piece, MSG_NOSIGNAL) == -1)
			return;
		if (piece == 1 && i % 16 == 0)
			usleep(1000);
	}
}

static void
say(int fd, uint32_t type, uint32_t number, int32_t pid, int32_t value, const char *text)
{
	struct fs_msg m;

	memset(&m, 0, sizeof(m));
	m.type = type;
	m.worker = number;
	m.pid = pid;
	m.value = value;
	memcpy(m.text, text, strnlen(text, sizeof(m.text)));	/* without its NUL if it is so long */
	send_bytes(fd, &m, sizeof(m));
}

static int
router_fd(uint32_t generation)
{
	int i;

	for (i = 0; i < MAX_ROUTERS; i++)
		if (routers[i].fd != -1 && routers[i].generation == generation)
			return routers[i].fd;
	return -1;
}

/* A process out of anybody's reach, which has all descriptors, or none. */
static void
leave_behind(bool keep)
{
	int fd;

	if (fork() != 0)
		return;
	setsid();
	if (fork() != 0)
		_exit(0);
	signal(SIGTERM, SIG_IGN);
	for (fd = 0; !keep && fd < 100; fd++)
		close(fd);
	note(getpid());
	sleep(100);
	_exit(0);
}

static void
hello(int fd, const struct fs_msg *m)
{
	static const unsigned char rubbish[4096] = "no message";
	int i;

	for (i = 0; i < MAX_ROUTERS && routers[i].fd != -1; i++)
		;
	if (i == MAX_ROUTERS)
		exit(1);
	routers[i].fd = fd;
	routers[i].generation = m->router;
	if (is("closes")) {
		close(fd);
		routers[i].fd = -1;
		return;
	}
	if (is("rubbish-first"))
		send_bytes(fd, rubbish, sizeof(rubbish));
	if (is("refused"))
		say(fd, FS_REFUSED, 0, (int)getpid(), FS_VERSION, forged);
	if (is("early"))
		say(fd, FS_FORKED, 1, (int)getpid(), 0, "");
	say(fd, FS_READY, 0, (int)getpid(), is("version") ? atoi(argument) : FS_VERSION, "");
	if (is("ready-twice"))
		say(fd, FS_READY, 0, (int)getpid(), FS_VERSION, "");
	if (is("rubbish"))
		send_bytes(fd, rubbish, sizeof(rubbish));
	if (is("half"))
		send_bytes(fd, rubbish, sizeof(struct fs_msg) / 2);
	if (is("uninvited"))
		say(fd, FS_FORKED, (uint32_t)strtoul(argument, NULL, 10), 12345, 0, "");
	while (is("flood"))
		say(fd, (uint32_t)FS_TYPE(atoi(argument)), 4000000000, 12345, 0, "");
	while (is("stuck"))
		pause();
}

/* Fork the worker; fd is its connection, error_fd what it gets for its standard error. */
static void
fork_worker(int fd, int error_fd, const struct fs_msg *m)
{
	int i, to = router_fd(m->router);
	pid_t pid;

	if (is("silent"))
		return;
	if (is("failed")) {
		say(to, FS_FAILED, m->worker, 0, atoi(argument), "for\033[31mged\r\nline");
		return;
	}
	for (i = 0; i < MAX_WORKERS && workers[i].pid != 0; i++)
		;
	if (i == MAX_WORKERS || (pid = fork()) == -1)
		exit(1);
	if (pid == 0) {
		if (!is("stubborn"))
			signal(SIGTERM, SIG_DFL);
		dup2(error_fd, 1);
		dup2(error_fd, 2);
		if (is("leaves"))
			leave_behind(false);
		for (i = 0; i < MAX_ROUTERS; i++)
			if (routers[i].fd != -1)
				close(routers[i].fd);
		if (is("holds") || is("holds-on"))
			leave_behind(true);
		serve(fd);
		while (is("deaf"))
			pause();
		_exit(0);
	}
	workers[i].pid = pid;
	workers[i].number = m->worker;
	workers[i].router = m->router;
	say(to, FS_FORKED, m->worker, is("pid") ? pid_to_tell() : (int)pid, 0, "");
	if (is("forked-twice"))
		say(to, FS_FORKED, m->worker, (int)pid, 0, "");
	if (is("failed-late"))
		say(to, FS_FAILED, m->worker, 0, 5, "late");
	if (is("exited"))
		say(to, FS_EXITED, (uint32_t)strtoul(argument, NULL, 10), (int)pid, 9, "");
	if (is("type"))
		say(to, (uint32_t)FS_TYPE(atoi(argument)), m->worker, (int)pid, 0, "");
}

static void
kill_worker(const struct fs_msg *m)
{
	int i;

	if (is("stubborn"))
		return;
	for (i = 0; i < MAX_WORKERS; i++)
		if (workers[i].pid != 0 && workers[i].number == m->worker)
			kill(workers[i].pid, m->value);
}

/* The first message of a connection, and with it its descriptor. False: there is none. */
static bool
read_message(int fd, struct fs_msg *m, int *passed)
{
	union {
		struct cmsghdr	 hdr;
		char		 buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr mh;
	struct iovec iov = { m, sizeof(*m) };

	memset(&mh, 0, sizeof(mh));
	mh.msg_iov = &iov;
	mh.msg_iovlen = 1;
	mh.msg_control = control.buf;
	mh.msg_controllen = sizeof(control.buf);
	*passed = -1;
	if (recvmsg(fd, &mh, MSG_WAITALL) != (ssize_t)sizeof(*m))
		return false;
	if (CMSG_FIRSTHDR(&mh) != NULL)
		memcpy(passed, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof(*passed));
	return true;
}

static void
accept_one(void)
{
	struct fs_msg m;
	int fd, passed;

	if ((fd = (int)syscall(SYS_accept4, 0, NULL, NULL, 0)) == -1)
		return;
	if (!read_message(fd, &m, &passed)) {
		close(fd);
		return;
	}
	if (m.type == FS_HELLO) {
		hello(fd, &m);
		return;
	}
	if (m.type == FS_FORK)
		fork_worker(fd, passed, &m);
	if (!is("silent"))
		close(fd);
	close(passed);
}

static void
reap(void)
{
	int i, status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (i = 0; i < MAX_WORKERS; i++) {
			if (workers[i].pid != pid)
				continue;
			workers[i].pid = 0;
			say(router_fd(workers[i].router), FS_EXITED, workers[i].number, (int)pid, status, "");
			if (is("exited-twice"))
				say(router_fd(workers[i].router), FS_EXITED, workers[i].number, (int)pid, status, "");
		}
}

/* What a worker has asked for with its signal. */
static void
worker_serves(void)
{
	int i;

	served = false;
	for (i = 0; i < MAX_WORKERS; i++) {
		if (workers[i].pid == 0)
			continue;
		if (is("kills"))
			kill(workers[i].pid, SIGKILL);
		if (is("exited-alive"))
			say(router_fd(workers[i].router), FS_EXITED, workers[i].number, (int)workers[i].pid, (int)strtol(argument, NULL, 0), "");
	}
	for (i = 0; is("closes-later") && i < MAX_ROUTERS; i++)
		if (routers[i].fd != -1) {
			close(routers[i].fd);
			routers[i].fd = -1;
		}
}

static void
app_server(void)
{
	struct pollfd pfd[MAX_ROUTERS + 1];
	struct fs_msg m;
	int i, passed;

	for (i = 0; i < MAX_ROUTERS; i++)
		routers[i].fd = -1;
	for (;;) {
		for (i = 0; i < MAX_ROUTERS; i++) {
			pfd[i].fd = is("deaf") ? -1 : routers[i].fd;
			pfd[i].events = POLLIN;
			pfd[i].revents = 0;
		}
		pfd[MAX_ROUTERS].fd = 0;
		pfd[MAX_ROUTERS].events = POLLIN;
		pfd[MAX_ROUTERS].revents = 0;
		poll(pfd, MAX_ROUTERS + 1, 20);
		if (served)
			worker_serves();
		reap();
		for (i = 0; i < MAX_ROUTERS; i++) {
			if (pfd[i].revents == 0)
				continue;
			if (read_message(routers[i].fd, &m, &passed)) {
				if (m.type == FS_KILL)
					kill_worker(&m);
				continue;
			}
			close(routers[i].fd);
			routers[i].fd = -1;
		}
		if (pfd[MAX_ROUTERS].revents != 0)
			accept_one();
	}
}

/* ---- no app server -------------------------------------------------------------------------- */

static void *
thread(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static void
application(void)
{
	int fd;

	while ((fd = accept(0, NULL, NULL)) != -1) {
		serve(fd);
		close(fd);
	}
}

int
main(int argc, char **argv)
{
	struct sigaction sa;
	pthread_t t;

	if (argc < 2) {
		fprintf(stderr, "usage: badserver MODE [ARGUMENT]; see the top of badserver.c\n");
		return 2;
	}
	mode = argv[1];
	if (argc > 2)
		argument = argv[2];
	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_usr1;
	sigaction(SIGUSR1, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (is("threads") && pthread_create(&t, NULL, thread, NULL) != 0)
		return 1;
	if (is("forks") && fork() != 0) {
		sleep(100);
		return 1;
	}
	if (is("bare") && argument[0] == '\0') {
		unsetenv("LD_PRELOAD");
		execl("/proc/self/exe", argv[0], "bare", "again", (char *)NULL);
		return 1;
	}
	if (is("threads") || is("forks") || is("bare"))
		application();
	else if (is("stubborn"))
		signal(SIGTERM, SIG_IGN), app_server();
	else
		app_server();
	return 0;
}
