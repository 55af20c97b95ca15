/*
 * forkserver.c: plays the routers of an app server, so that zfpm-forkserver.so is tested without zfpm.
 *
 * forkserver [-c] [-n N] [-u USER] SOCKET PRELOAD COMMAND [ARG ...]    start COMMAND with LD_PRELOAD=PRELOAD and, on descriptor
 * 0, a listening socket at SOCKET (-c: a connected one instead), as USER, who may have N processes; then do what standard input says, a line each.
 * R is a router's digit, W a worker's number below 1000:
 *   router R [GENERATION [VERSION [MS]]]    connect and say FS_HELLO (generation R, kill after 60 s)
 *   connect R              connect, nothing else
 *   raw R N                N bytes that are no message
 *   say R TYPE W [VALUE [DESCRIPTORS]]      any message, TYPE without FS_
 *   trickle R TYPE W       the same, byte by byte
 *   fork R W [DESCRIPTORS [NUMBER]]         a connection of its own with FS_FORK; DESCRIPTORS: that many instead of one;
 *                          NUMBER: another than W
 *   kill R W SIGNAL, release R W, adopt R W
 *   get R [N]              N messages, each printed: TYPE WORKER [STATUS or ERROR] [TEXT]
 *   skip R N               N messages
 *   flood R                FS_ADOPT of workers that are not there, until no more is taken; nothing is read
 *   drain R                all answers to them, with what else comes printed
 *   closed R               wait for the end of the connection
 *   close R
 *   request W SCRIPT [NAME=VALUE ...]       FastCGI with FCGI_KEEP_CONN
 *   answer W               the response, its headers left out
 *   text W TEXT            a line; line W: one line that comes, printed
 *   end W                  close its connection; ended W: wait for the end of it
 *   output W [N]           what it writes to descriptors 1 and 2, to the end or N lines
 *   pid W                  print its process id
 *   gone W, dead PID       wait until there is no such process any more
 *   sleeps W               wait until it waits for something
 *   signal SIGNAL [W]      to the app server or a worker
 *   wait                   for the end of the app server; printed
 *   file PATH              wait until it is there
 *   sleep MS, echo TEXT, repeat N COMMAND (each # in it is the turn, counted from 1)
 * exit: 0, 1 what a line wants does not work, 5 it takes too long
 *
 * forkserver app MODE    an application. On its connection a line `report` is answered with what it has found, `child`
 * by a process of its own with its id, `hang` never, others as they are.
 *   plain; accept4: with that; select, poll: asks these before; copy: of descriptor 0; threads: has some; forked: accepts
 *   in a child; thread: serves its connection in a thread; handler: has handlers without SA_RESTART
 */
#include <sys/types.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../fcgi.h"
#include "../forkserver.h"

#define MAX_ROUTERS	10
#define MAX_WORKERS	1000
#define MAX_WORDS	64
#define PATIENCE	20	/* seconds for one line */

static const struct {
	const char	*name;
	int		 number;
} types[] = {
	{ "HELLO", FS_HELLO }, { "FORK", FS_FORK }, { "KILL", FS_KILL }, { "RELEASE", FS_RELEASE }, { "ADOPT", FS_ADOPT },
	{ "READY", FS_READY }, { "REFUSED", FS_REFUSED }, { "FORKED", FS_FORKED }, { "FAILED", FS_FAILED },
	{ "EXITED", FS_EXITED }, { "UNKNOWN", FS_UNKNOWN },
}, signals[] = {
	{ "TERM", SIGTERM }, { "KILL", SIGKILL }, { "INT", SIGINT }, { "QUIT", SIGQUIT }, { "HUP", SIGHUP }, { "USR1", SIGUSR1 },
	{ "STOP", SIGSTOP }, { "CONT", SIGCONT },
}, errors[] = {
	{ "EAGAIN", EAGAIN }, { "EBADF", EBADF }, { "ECANCELED", ECANCELED }, { "EEXIST", EEXIST }, { "EMFILE", EMFILE },
	{ "ESHUTDOWN", ESHUTDOWN }, { "EINTR", EINTR }, { "EINVAL", EINVAL }, { "ENOTCONN", ENOTCONN },
};
#define COUNT(table)	(sizeof(table) / sizeof((table)[0]))

static const char	*socket_path;
static pid_t		 server;
static struct {
	int	 fd;
	uint32_t generation;
} routers[MAX_ROUTERS];
static struct {
	int	 fd, output_fd;
	pid_t	 pid;
} workers[MAX_WORKERS];
static char		 script_line[4096];

/* And what it has started, workers apart. */
static void
kill_server(void)
{
	if (server <= 0)
		return;
	kill(-server, SIGKILL);
	kill(server, SIGKILL);
}

static void
die(const char *format, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "forkserver: %s: ", script_line);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	kill_server();
	exit(1);
}

static void
too_late(int sig)
{
	static const char text[] = "forkserver: it takes too long: ";

	(void)sig;
	kill_server();
	if (write(2, text, sizeof(text) - 1) == -1 || write(2, script_line, strlen(script_line)) == -1 || write(2, "\n", 1) == -1)
		_exit(5);
	_exit(5);
}

static void
pause_ms(long ms)
{
	const struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

#define NUMBER_OF(table, word)	number_of(word, (const void *)(table), COUNT(table))
static int
number_of(const char *word, const void *table, size_t n)
{
	const struct { const char *name; int number; } *t = table;
	size_t i;

	for (i = 0; i < n; i++)
		if (strcmp(t[i].name, word) == 0)
			return t[i].number;
	return atoi(word);
}

#define NAME_OF(table, number)	name_of(number, (const void *)(table), COUNT(table))
static const char *
name_of(int number, const void *table, size_t n)
{
	const struct { const char *name; int number; } *t = table;
	static char buf[16];
	size_t i;

	for (i = 0; i < n; i++)
		if (t[i].number == number)
			return t[i].name;
	snprintf(buf, sizeof(buf), "%d", number);
	return buf;
}

/* ---- the application ------------------------------------------------------------------ */

static int	 accept_fd;
static volatile sig_atomic_t handled;
static struct sockaddr_un accept_addr;
static socklen_t accept_len;

static void
on_term(int sig)
{
	handled = sig;
}

/* One line without its end, -1 at the end of all. */
static int
read_line(int fd, char *line, size_t size)
{
	size_t len = 0;
	ssize_t n;
	char c;

	while ((n = read(fd, &c, 1)) != 0 && !(n == 1 && c == '\n')) {
		if (n == -1 && errno != EINTR && errno != EAGAIN)
			return -1;
		if (n == 1 && len < size - 1)
			line[len++] = c;
	}
	line[len] = '\0';
	return n == 1 ? 0 : -1;
}

static void
report(int fd)
{
	struct pollfd pfd = { .fd = accept_fd, .events = POLLIN };
	struct sockaddr_un sun;
	struct sigaction term, child;
	struct dirent *e;
	sigset_t mask;
	socklen_t len = sizeof(sun);
	const char *preload = getenv("LD_PRELOAD");
	int n = 0, on = 0;
	socklen_t on_len = sizeof(on);
	DIR *dir;

	dprintf(fd, "preload %s, ", preload == NULL ? "none" : preload);
	dprintf(fd, "peer of 0 %s, ", getpeername(0, (struct sockaddr *)&sun, &len) == -1 ? NAME_OF(errors, errno) : "there");
	getsockopt(accept_fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &on_len);
	dprintf(fd, "%s, poll %d, ", on ? "listening" : "not listening", poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLIN));
	dprintf(fd, "family %s %d, ", accept_addr.sun_family == AF_UNIX ? "unix" : "other", accept_len > 0);
	dprintf(fd, "cloexec %d, nonblock %d, ", fcntl(fd, F_GETFD) == FD_CLOEXEC, (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
	dprintf(fd, "group %s, ", getpgrp() == getpid() ? "own" : "other");
	sigaction(SIGTERM, NULL, &term);
	sigaction(SIGCHLD, NULL, &child);
	sigprocmask(SIG_SETMASK, NULL, &mask);
	dprintf(fd, "handlers %d %d, blocked %d %d %d, ", term.sa_handler == on_term, child.sa_handler == SIG_DFL,
	    sigismember(&mask, SIGTERM), sigismember(&mask, SIGHUP), sigismember(&mask, SIGUSR2));
	if ((dir = opendir("/proc/self/fd")) != NULL) {
		while ((e = readdir(dir)) != NULL)
			n += e->d_name[0] != '.' && atoi(e->d_name) > 2;
		closedir(dir);
	}
	dprintf(fd, "descriptors %d\n", n - 1);		/* dir's own */
}

static void *
serve_lines(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char line[4096];
	pid_t pid;

	while (read_line(fd, line, sizeof(line)) == 0) {
		if (strcmp(line, "report") == 0)
			report(fd);
		else if (strcmp(line, "child") == 0) {
			if ((pid = fork()) == 0)
				for (;;)
					pause();
			dprintf(fd, "%d\n", (int)pid);
		} else if (strcmp(line, "hang") == 0)
			for (;;)
				pause();
		else
			dprintf(fd, "%s\n", line);
	}
	close(fd);
	return NULL;
}

static void *
wait_for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static int
app(const char *mode)
{
	struct sigaction sa;
	pthread_t thread;
	fd_set set;
	sigset_t mask;
	int fd, i;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_term;
	sigaction(SIGTERM, &sa, NULL);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	accept_fd = strcmp(mode, "copy") == 0 ? dup(0) : 0;
	if (strcmp(mode, "threads") == 0 && pthread_create(&thread, NULL, wait_for_ever, NULL) != 0)
		return 1;
	if (strcmp(mode, "forked") == 0 && fork() > 0)
		wait_for_ever(NULL);
	printf("start\n");	/* stays in stdio's buffer */
	for (i = 0; i < 4; i++) {
		if (strcmp(mode, "select") == 0) {
			FD_ZERO(&set);
			FD_SET(accept_fd, &set);
			select(accept_fd + 1, &set, NULL, NULL, NULL);
		}
		if (strcmp(mode, "poll") == 0) {
			struct pollfd pfd = { .fd = accept_fd, .events = POLLIN };

			while (poll(&pfd, 1, -1) != 1 || (pfd.revents & POLLIN) == 0)
				;
		}
		accept_len = sizeof(accept_addr);
		if (strcmp(mode, "accept4") == 0)
			fd = accept4(accept_fd, (struct sockaddr *)&accept_addr, &accept_len, SOCK_NONBLOCK);
		else
			fd = accept(accept_fd, (struct sockaddr *)&accept_addr, &accept_len);
		if (fd == -1) {
			printf("accept: %s%s\n", NAME_OF(errors, errno), handled ? " after a signal" : "");
			fflush(stdout);
			handled = 0;
		} else if (strcmp(mode, "thread") == 0) {
			if (pthread_create(&thread, NULL, serve_lines, (void *)(intptr_t)fd) != 0)
				return 1;
		} else
			serve_lines((void *)(intptr_t)fd);
	}
	return 3;
}

/* ---- the routers ------------------------------------------------------------------------- */

static int
router_of(const char *word)
{
	int r = atoi(word);

	if (r < 0 || r >= MAX_ROUTERS)
		die("no such router");
	return r;
}

static int
worker_of(const char *word)
{
	int w = atoi(word);

	if (w < 0 || w >= MAX_WORKERS)
		die("no such worker");
	return w;
}

static int
connect_server(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd;

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", socket_path);
	if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) == -1 || connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == -1)
		die("connect: %s", strerror(errno));
	return fd;
}

/* A message, with copies of passed_fd. */
static void
send_msg(int fd, int type, uint32_t generation, int worker, int value, int ms, int passed_fd, int copies)
{
	union {
		struct cmsghdr	hdr;
		char		buf[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct msghdr mh;
	struct cmsghdr *cm;
	struct iovec iov;
	struct fs_msg m;
	int i;

	memset(&m, 0, sizeof(m));
	m.type = (uint32_t)type;
	m.router = generation;
	m.worker = (uint32_t)worker;
	m.value = value;
	m.ms = ms;
	iov.iov_base = &m;
	iov.iov_len = sizeof(m);
	memset(&mh, 0, sizeof(mh));
	mh.msg_iov = &iov;
	mh.msg_iovlen = 1;
	if (copies > 0) {
		memset(&control, 0, sizeof(control));
		mh.msg_control = control.buf;
		mh.msg_controllen = CMSG_SPACE((size_t)copies * sizeof(int));
		cm = CMSG_FIRSTHDR(&mh);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN((size_t)copies * sizeof(int));
		for (i = 0; i < copies; i++)
			memcpy(CMSG_DATA(cm) + (size_t)i * sizeof(int), &passed_fd, sizeof(int));
	}
	if (sendmsg(fd, &mh, MSG_NOSIGNAL) != (ssize_t)sizeof(m))
		die("send: %s", strerror(errno));
}

static void
get_msg(int r, bool print)
{
	struct fs_msg m;

	if (recv(routers[r].fd, &m, sizeof(m), MSG_WAITALL) != (ssize_t)sizeof(m))
		die("no message");
	if (m.type == FS_FORKED && m.worker < MAX_WORKERS)
		workers[m.worker].pid = m.pid;
	if (!print)
		return;
	printf("%s", NAME_OF(types, (int)m.type));
	if (m.type != FS_READY && m.type != FS_REFUSED)
		printf(" %u", m.worker);
	if (m.type == FS_EXITED)
		printf(WIFEXITED(m.value) ? " exit %d" : " signal %d", WIFEXITED(m.value) ? WEXITSTATUS(m.value) : WTERMSIG(m.value));
	if (m.type == FS_FAILED)
		printf(" %s", NAME_OF(errors, m.value));
	if ((m.type == FS_READY || m.type == FS_REFUSED) && m.pid != server)
		printf(" of another process");
	printf("%s%.*s\n", m.text[0] != '\0' ? " " : "", FS_TEXT_LEN, m.text);
}

static int	 flooded;

static void
flood(int r)
{
	struct fs_msg m;
	int stuck = 0;

	memset(&m, 0, sizeof(m));
	m.type = FS_ADOPT;
	m.router = routers[r].generation;
	m.worker = UINT32_MAX;
	while (stuck < 20) {
		if (send(routers[r].fd, &m, sizeof(m), MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof(m)) {
			flooded++;
			stuck = 0;
		} else if (errno != EAGAIN)
			die("send: %s", strerror(errno));
		else {
			stuck++;
			pause_ms(10);
		}
	}
}

static void
drain(int r)
{
	struct fs_msg m;

	while (flooded > 0) {
		if (recv(routers[r].fd, &m, sizeof(m), MSG_PEEK | MSG_WAITALL) != (ssize_t)sizeof(m))
			die("no message");
		get_msg(r, m.type != FS_UNKNOWN || m.worker != UINT32_MAX);
		flooded -= m.type == FS_UNKNOWN;
	}
}

static void
fork_worker(int r, int w, int copies, int number)
{
	int out[2];

	if (pipe2(out, O_CLOEXEC) == -1)
		die("pipe");
	workers[w].fd = connect_server();
	workers[w].output_fd = out[0];
	send_msg(workers[w].fd, FS_FORK, routers[r].generation, number, 0, 0, out[1], copies);
	close(out[1]);
}

static void
send_request(int w, int argc, char **argv)
{
	uint8_t buf[65536], *p = buf + FCGI_HEADER_LEN;
	uint8_t head[16], ends[2 * FCGI_HEADER_LEN];
	char *value;
	int i;

	p += fcgi_put_pair(p, "SCRIPT_FILENAME", 15, argv[0], (uint32_t)strlen(argv[0]));
	p += fcgi_put_pair(p, "REQUEST_METHOD", 14, "GET", 3);
	for (i = 1; i < argc; i++) {
		if ((value = strchr(argv[i], '=')) == NULL)
			die("NAME=VALUE");
		*value++ = '\0';
		p += fcgi_put_pair(p, argv[i], (uint32_t)strlen(argv[i]), value, (uint32_t)strlen(value));
	}
	fcgi_put_begin(head, 1, FCGI_RESPONDER, FCGI_KEEP_CONN);
	fcgi_put_header(buf, FCGI_PARAMS, 1, (uint16_t)(p - buf - FCGI_HEADER_LEN), 0);
	fcgi_put_header(ends, FCGI_PARAMS, 1, 0, 0);
	fcgi_put_header(ends + FCGI_HEADER_LEN, FCGI_STDIN, 1, 0, 0);
	if (send(workers[w].fd, head, sizeof(head), MSG_NOSIGNAL) == -1 || send(workers[w].fd, buf, (size_t)(p - buf), MSG_NOSIGNAL) == -1 ||
	    send(workers[w].fd, ends, sizeof(ends), MSG_NOSIGNAL) == -1)
		die("send: %s", strerror(errno));
}

static void
get_answer(int w)
{
	static uint8_t buf[65536], out[65536];
	struct fcgi_reader reader;
	struct fcgi_part part;
	const uint8_t *p;
	size_t len, out_len = 0;
	bool done = false;
	uint8_t *body;
	ssize_t n = 0;

	memset(&reader, 0, sizeof(reader));
	while (!done && (n = recv(workers[w].fd, buf, sizeof(buf), 0)) > 0) {
		p = buf;
		len = (size_t)n;
		while (fcgi_read(&reader, &p, &len, &part) == 1) {
			if (part.type == FCGI_STDOUT && out_len + part.len < sizeof(out)) {
				memcpy(out + out_len, part.data, part.len);
				out_len += part.len;
			}
			if (part.type == FCGI_STDERR)
				printf("stderr: %.*s\n", (int)part.len, (const char *)part.data);
			done = done || (part.type == FCGI_END_REQUEST && part.last);
		}
	}
	out[out_len] = '\0';
	body = (uint8_t *)strstr((char *)out, "\r\n\r\n");
	fwrite(body == NULL ? out : body + 4, 1, out_len - (body == NULL ? 0 : (size_t)(body + 4 - out)), stdout);
	if (!done)
		printf("no end of the response\n");
}

static void
await_close(int fd)
{
	char buf[4096];
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		;
	if (n == -1 && errno != ECONNRESET)
		die("recv: %s", strerror(errno));
}

static void
copy_output(int fd, int n)
{
	char line[4096];

	while (n-- != 0 && read_line(fd, line, sizeof(line)) == 0)
		printf("%s\n", line);
}

/* Not even as a zombie. */
static void
await_gone(pid_t pid)
{
	while (pid > 0 && kill(pid, 0) == 0)
		pause_ms(5);
}

static void
await_sleep(pid_t pid)
{
	char path[64], line[512], *state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	do {
		pause_ms(5);
		if ((f = fopen(path, "r")) == NULL || fgets(line, sizeof(line), f) == NULL)
			die("%s: %s", path, strerror(errno));
		fclose(f);
		state = strrchr(line, ')');
	} while (state == NULL || state[1] == '\0' || state[2] != 'S');
}

static void
trickle(int fd, int type, uint32_t generation, int worker)
{
	struct fs_msg m;
	size_t i;

	memset(&m, 0, sizeof(m));
	m.type = (uint32_t)type;
	m.router = generation;
	m.worker = (uint32_t)worker;
	m.value = FS_VERSION;
	for (i = 0; i < sizeof(m); i++) {
		if (send(fd, (char *)&m + i, 1, MSG_NOSIGNAL) != 1)
			die("send: %s", strerror(errno));
		if (i < 16)
			pause_ms(1);
	}
}

static void	 execute(char *);

static void
repeat(int times, const char *what)
{
	char line[4096];
	size_t len;
	int i;

	for (i = 1; i <= times; i++) {
		len = strcspn(what, "#");
		if (what[len] == '#')
			snprintf(line, sizeof(line), "%.*s%d%s", (int)len, what, i, what + len + 1);
		else
			snprintf(line, sizeof(line), "%s", what);
		execute(line);
	}
}

static void
execute(char *line)
{
	char *argv[MAX_WORDS + 1], *rest, buf[4096];
	int argc = 0, r, w, status;
	char *s, copy[4096];
	const char *command;

	snprintf(copy, sizeof(copy), "%s", line);
	for (s = strtok(line, " "); s != NULL && argc < MAX_WORDS; s = strtok(NULL, " "))
		argv[argc++] = s;
	if (argc == 0)
		return;
	argv[argc] = NULL;
	while (argc < 6)
		argv[argc++] = NULL;
	command = argv[0];
	rest = argv[1] == NULL ? copy + strlen(copy) : copy + (argv[1] - line);
#define OPTIONAL(i, other)	(argv[i] == NULL ? (other) : atoi(argv[i]))
#define IS(name, words)		(strcmp(command, name) == 0 && ((words) < 1 || argv[words] != NULL))
	alarm(PATIENCE);
	if (IS("echo", 0))
		printf("%s\n", rest);
	else if (IS("sleep", 1))
		pause_ms(atol(argv[1]));
	else if (IS("repeat", 2))
		repeat(atoi(argv[1]), copy + (argv[2] - line));
	else if (IS("connect", 1))
		routers[router_of(argv[1])].fd = connect_server();
	else if (IS("router", 1)) {
		r = router_of(argv[1]);
		routers[r].fd = connect_server();
		routers[r].generation = (uint32_t)OPTIONAL(2, r);
		send_msg(routers[r].fd, FS_HELLO, routers[r].generation, 0, OPTIONAL(3, FS_VERSION), OPTIONAL(4, 60000), -1, 0);
	} else if (IS("raw", 2)) {
		memset(buf, 0xff, sizeof(buf));
		if (send(routers[router_of(argv[1])].fd, buf, (size_t)atoi(argv[2]) % sizeof(buf), MSG_NOSIGNAL) == -1)
			die("send: %s", strerror(errno));
	} else if (IS("say", 3)) {
		r = router_of(argv[1]);
		send_msg(routers[r].fd, NUMBER_OF(types, argv[2]), routers[r].generation, atoi(argv[3]), OPTIONAL(4, 0), 0, 1, OPTIONAL(5, 0));
	} else if (IS("trickle", 3)) {
		r = router_of(argv[1]);
		trickle(routers[r].fd, NUMBER_OF(types, argv[2]), routers[r].generation, atoi(argv[3]));
	} else if (IS("fork", 2))
		fork_worker(router_of(argv[1]), worker_of(argv[2]), OPTIONAL(3, 1), argv[3] == NULL ? atoi(argv[2]) : OPTIONAL(4, atoi(argv[2])));
	else if (IS("kill", 3)) {
		r = router_of(argv[1]);
		send_msg(routers[r].fd, FS_KILL, routers[r].generation, atoi(argv[2]), NUMBER_OF(signals, argv[3]), 0, -1, 0);
	} else if (IS("release", 2) || IS("adopt", 2)) {
		r = router_of(argv[1]);
		send_msg(routers[r].fd, strcmp(command, "adopt") == 0 ? FS_ADOPT : FS_RELEASE, routers[r].generation, atoi(argv[2]), 0, 0, -1, 0);
	} else if (IS("get", 1) || IS("skip", 2))
		for (w = OPTIONAL(2, 1), r = router_of(argv[1]); w > 0; w--)
			get_msg(r, command[0] == 'g');
	else if (IS("flood", 1))
		flood(router_of(argv[1]));
	else if (IS("drain", 1))
		drain(router_of(argv[1]));
	else if (IS("closed", 1)) {
		await_close(routers[router_of(argv[1])].fd);
		printf("closed\n");
	} else if (IS("close", 1))
		close(routers[router_of(argv[1])].fd);
	else if (IS("request", 2)) {
		for (w = 2; argv[w] != NULL; w++)
			;
		send_request(worker_of(argv[1]), w - 2, argv + 2);
	} else if (IS("answer", 1))
		get_answer(worker_of(argv[1]));
	else if (IS("text", 2)) {
		snprintf(buf, sizeof(buf), "%s\n", copy + (argv[2] - line));
		if (send(workers[worker_of(argv[1])].fd, buf, strlen(buf), MSG_NOSIGNAL) == -1)
			die("send: %s", strerror(errno));
	} else if (IS("line", 1)) {
		if (read_line(workers[worker_of(argv[1])].fd, buf, sizeof(buf)) == -1)
			die("no line");
		printf("%s\n", buf);
	} else if (IS("end", 1))
		close(workers[worker_of(argv[1])].fd);
	else if (IS("ended", 1)) {
		await_close(workers[worker_of(argv[1])].fd);
		printf("ended\n");
	} else if (IS("output", 1))
		copy_output(workers[worker_of(argv[1])].output_fd, OPTIONAL(2, -1));
	else if (IS("pid", 1))
		printf("%d\n", (int)workers[worker_of(argv[1])].pid);
	else if (IS("gone", 1))
		await_gone(workers[worker_of(argv[1])].pid);
	else if (IS("dead", 1))
		await_gone(atoi(argv[1]));
	else if (IS("sleeps", 1))
		await_sleep(workers[worker_of(argv[1])].pid);
	else if (IS("signal", 1))
		kill(argv[2] != NULL ? workers[worker_of(argv[2])].pid : server, NUMBER_OF(signals, argv[1]));
	else if (IS("file", 1))
		while (access(argv[1], F_OK) == -1)
			pause_ms(5);
	else if (IS("wait", 0)) {
		if (waitpid(server, &status, 0) != server)
			die("wait");
		server = 0;
		printf(WIFEXITED(status) ? "exit %d\n" : "signal %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	} else
		die("what?");
	alarm(0);
	fflush(stdout);
}

static void
start_server(const char *user, int nproc, bool connected, const char *preload, char **argv)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct passwd *pw = NULL;
	struct rlimit rl;
	int fds[2] = { -1, -1 }, fd;

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", socket_path);
	if (user != NULL && (pw = getpwnam(user)) == NULL)
		die("no user %s", user);
	if (connected) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == -1)
			die("socketpair");
	} else if ((fds[0] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) == -1 ||
	    bind(fds[0], (struct sockaddr *)&sun, sizeof(sun)) == -1 || listen(fds[0], 100) == -1)
		die("%s: %s", socket_path, strerror(errno));
	if ((server = fork()) == -1)
		die("fork");
	if (server == 0) {
		if (dup2(fds[0], 0) == -1 || setenv("LD_PRELOAD", preload, 1) == -1)
			_exit(126);
		if (preload[0] == '\0')
			unsetenv("LD_PRELOAD");
		rl.rlim_cur = rl.rlim_max = (rlim_t)nproc;
		if (nproc != -1 && setrlimit(RLIMIT_NPROC, &rl) == -1)
			_exit(126);
		if (pw != NULL && (setgid(pw->pw_gid) == -1 || setuid(pw->pw_uid) == -1))
			_exit(126);
		setsid();
		for (fd = 3; fd < 1024; fd++)
			close(fd);
		execv(argv[0], argv);
		_exit(127);
	}
	close(fds[0]);
}

int
main(int argc, char **argv)
{
	const char *user = NULL;
	bool connected = false;
	int opt, nproc = -1;

	if (argc == 3 && strcmp(argv[1], "app") == 0)
		return app(argv[2]);
	while ((opt = getopt(argc, argv, "+cn:u:")) != -1)
		switch (opt) {
		case 'c':
			connected = true;
			break;
		case 'n':
			nproc = atoi(optarg);
			break;
		case 'u':
			user = optarg;
			break;
		default:
			return 2;
		}
	if (argc - optind < 3) {
		fprintf(stderr, "usage: forkserver [-c] [-n N] [-u USER] SOCKET PRELOAD COMMAND [ARG ...]; see the top of forkserver.c\n");
		return 2;
	}
	signal(SIGALRM, too_late);
	socket_path = argv[optind];
	start_server(user, nproc, connected, argv[optind + 1], argv + optind + 2);
	while (fgets(script_line, sizeof(script_line), stdin) != NULL) {
		char line[sizeof(script_line)];

		script_line[strcspn(script_line, "\n")] = '\0';
		memcpy(line, script_line, sizeof(line));
		execute(line);
	}
	/* A script that does not wait for the app server's end is done with it. */
	kill_server();
	if (server > 0)
		waitpid(server, NULL, 0);
	return 0;
}
