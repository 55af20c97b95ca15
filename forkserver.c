/*
 * forkserver.c: zfpm-forkserver.so, which LD_PRELOAD puts into an application that is to be an app server.
 *
 * The application starts as always, until it wants its first connection. Its accept() on descriptor 0 is ours: there the
 * process becomes the app server, which talks to routers (forkserver.h), forks workers and reaps them, and never returns.
 * In a worker the same call returns the worker's one connection, and the application serves it without having noticed.
 *
 * Runs as the application's user, inside a program that it knows nothing of: it keeps to descriptors that it has opened,
 * signals only its own children, and gives each worker signal handlers, mask and memory as the application left them. It
 * never blocks except in ppoll(), never writes to a log, and has no effect beyond LD_PRELOAD where descriptor 0 is not
 * a listening Unix socket.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#ifdef __linux__
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <dirent.h>
#include <sched.h>
#endif

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "forkserver.h"

/*
 * It goes into applications with an older C library than it was made with too, in a chroot or a tree of their own, and
 * so asks for nothing younger than it needs. With glibc 2.34 dlsym() came from libdl into libc: this is its older name,
 * and an application without libdl has none. fstat(), of glibc 2.33, is left to systems without statx().
 */
#if defined(__GLIBC__) && defined(__x86_64__)
__asm__(".symver dlsym, dlsym@GLIBC_2.2.5");
#elif defined(__GLIBC__) && defined(__aarch64__)
__asm__(".symver dlsym, dlsym@GLIBC_2.17");
#endif
#pragma weak dlsym

#define LISTEN_FD	0	/* where a FastCGI application finds its socket */
#define MAX_CONNS	32	/* routers, and workers' connections whose FS_FORK has not come: both are few */
#define FIRST_MS	5000	/* for the first message of a connection */
#define PAUSE_MS	100	/* after an accept() that failed for want of descriptors or memory */
#define STOP_MS		5000	/* how long to wait, at the end, for routers that do not read */
#define REFUSED_MS	2000	/* and for one that is to read why there are no workers */
#define LOOK_MS		1000	/* between two looks whether the application has closed its connection */
#define NEVER		INT64_MAX

/* ---- what this process is ------------------------------------------------------ */

/* Which file or socket a descriptor leads to. */
struct identity {
	uint64_t	 device, inode;
};

static enum {
	ROLE_STARTING,	/* the application has not waited for a connection yet */
	ROLE_SERVER,	/* the app server, in its loop for good */
	ROLE_AWAITS,	/* a worker: nothing has come on its connection yet */
	ROLE_SERVES,	/* a worker: accept() has returned its connection */
	ROLE_LEAVES,	/* a worker that has been told that there will be no other */
} role;

static pid_t		 started_pid;	/* the process that was started; in a worker too */
static struct identity	 our_socket;	/* descriptor 0: the listening socket, in a worker what took its place */
static int		 conn_fd = -1;	/* in a worker: its connection */
static struct identity	 conn_id;	/* what it is: the application may close it and open others */

typedef int		 accept_fn(int, struct sockaddr *, socklen_t *);
typedef int		 accept4_fn(int, struct sockaddr *, socklen_t *, int);
static accept_fn	*real_accept;
static accept4_fn	*real_accept4;

/* The C library's accept() and accept4(), under names of their own here: its headers declare them in several ways. */
__attribute__((visibility("default"))) int fs_accept(int, struct sockaddr *, socklen_t *) __asm__("accept");
__attribute__((visibility("default"))) int fs_accept4(int, struct sockaddr *, socklen_t *, int) __asm__("accept4");

/* ---- in the app server ----------------------------------------------------------- */

enum conn_state {
	CONN_FREE,
	CONN_NEW,	/* its first message has not come, or not all of it */
	CONN_ROUTER,	/* a router that has said FS_HELLO */
	CONN_DEAF,	/* a router that can be told nothing more; what it has sent is read to the end */
	CONN_OVER,	/* to be closed by sweep(), never inside a handler */
};

struct queued {
	struct queued	*next;
	struct fs_msg	 msg;
};

struct conn {
	enum conn_state	 state;
	int		 fd;
	int		 passed_fd;	/* the descriptor that came along with the message in `in`, or -1 */
	bool		 lost;		/* one or more came that could not be received */
	struct fs_msg	 in;		/* in_len bytes of it have come */
	size_t		 in_len;
	int64_t		 deadline_ms;	/* CONN_NEW: when to give up */
	uint32_t	 router;	/* CONN_ROUTER: its generation, and */
	int32_t		 kill_ms;	/* the time between SIGTERM and SIGKILL */
	struct queued	*out;		/* CONN_ROUTER: what it has not taken yet, in order */
	struct queued	**out_end;
	size_t		 out_sent;	/* bytes of the first that are gone already */
};

struct worker {
	struct worker	*next;
	uint32_t	 number;	/* the routers' */
	pid_t		 pid;
	struct conn	*owner;		/* the router that hears of its end, NULL after FS_RELEASE */
	int32_t		 kill_ms;
	int64_t		 kill_at_ms;	/* when SIGKILL is due, 0: it has not been told to leave */
};

static struct conn	 conns[MAX_CONNS];
static struct worker	*workers;
static const char	*refusal;	/* why this process can not be an app server, NULL if it can */
static bool		 stopping;	/* no more workers; exit when the last has gone */
static int64_t		 stop_at_ms;	/* then: not later than this, once no worker is left */
static int		 listen_flags;	/* O_NONBLOCK or not, as the application had set it; */
static int		 listen_fd_flags;	/* FD_CLOEXEC likewise */

static const int	 our_signals[] = { SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP };
#define NSIGNALS	(sizeof(our_signals) / sizeof(our_signals[0]))
static struct sigaction	 app_actions[NSIGNALS];		/* the application's own */
static volatile sig_atomic_t got_stop, got_child;

static int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static bool
identify(int fd, struct identity *id)
{
#ifdef STATX_INO
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_INO, &st) == -1)
		return false;
	id->device = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
	id->inode = st.stx_ino;
#else
	struct stat st;

	if (fstat(fd, &st) == -1)
		return false;
	id->device = (uint64_t)st.st_dev;
	id->inode = (uint64_t)st.st_ino;
#endif
	return true;
}

static bool
same_file(const struct identity *a, const struct identity *b)
{
	return a->device == b->device && a->inode == b->inode;
}

static void
on_signal(int sig)
{
	if (sig == SIGCHLD)
		got_child = 1;
	else
		got_stop = 1;
}

/* Has somebody asked us to end? Also if that came after the last moment in which signals were let in. */
static bool
stop_pending(void)
{
	sigset_t set;
	size_t i;

	if (got_stop || sigpending(&set) == -1)
		return got_stop;
	for (i = 0; i < NSIGNALS; i++)
		if (our_signals[i] != SIGCHLD && sigismember(&set, our_signals[i]) == 1)
			return true;
	return false;
}

/* ---- messages to a router --------------------------------------------------------- */

static void
drop_queue(struct conn *c)
{
	struct queued *q;

	while ((q = c->out) != NULL) {
		c->out = q->next;
		free(q);
	}
	c->out_end = &c->out;
	c->out_sent = 0;
}

/* Write of len bytes as many as it takes. -1: it will never take any more. */
static ssize_t
write_some(struct conn *c, const void *data, size_t len)
{
	ssize_t n = send(c->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n == -1 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == ENOBUFS || errno == ENOMEM))
		return 0;
	if (n == -1) {
		c->state = CONN_DEAF;
		drop_queue(c);
	}
	return n;
}

/* What a router has not taken yet. */
static void
flush(struct conn *c)
{
	struct queued *q;
	ssize_t n;

	while ((q = c->out) != NULL) {
		n = write_some(c, (const char *)&q->msg + c->out_sent, sizeof(q->msg) - c->out_sent);
		if (n == -1 || (c->out_sent += (size_t)n) < sizeof(q->msg))
			return;
		c->out_sent = 0;
		if ((c->out = q->next) == NULL)
			c->out_end = &c->out;
		free(q);
	}
}

/* Tell a router; c may be NULL, for nobody. What it does not take now is kept until it does. */
static void
tell(struct conn *c, enum fs_type type, uint32_t number, pid_t pid, int32_t value, const char *text)
{
	struct queued *q;
	struct fs_msg m;
	ssize_t n = 0;

	if (c == NULL || c->state != CONN_ROUTER)
		return;
	memset(&m, 0, sizeof(m));
	m.type = type;
	m.router = c->router;
	m.worker = number;
	m.pid = (int32_t)pid;
	m.value = value;
	snprintf(m.text, sizeof(m.text), "%s", text);
	if (c->out == NULL && ((n = write_some(c, &m, sizeof(m))) == -1 || n == (ssize_t)sizeof(m)))
		return;
	if ((q = malloc(sizeof(*q))) == NULL) {
		c->state = CONN_OVER;	/* better than a message that it never gets */
		return;
	}
	q->next = NULL;
	q->msg = m;
	if (c->out == NULL)
		c->out_sent = (size_t)n;
	*c->out_end = q;
	c->out_end = &q->next;
}

/* ---- workers ------------------------------------------------------------------------ */

static struct worker *
find_worker(uint32_t number)
{
	struct worker *w;

	for (w = workers; w != NULL; w = w->next)
		if (w->number == number)
			return w;
	return NULL;
}

/* Its process group too: what it has started. None of the numbers can be another's, for it has not been reaped. */
static void
kill_hard(struct worker *w)
{
	kill(-w->pid, SIGKILL);
	kill(w->pid, SIGKILL);
	w->kill_at_ms = NEVER;
}

/* SIGTERM, and SIGKILL when its time is over. */
static void
end_worker(struct worker *w, int64_t now)
{
	if (w->kill_at_ms != 0)
		return;
	kill(w->pid, SIGTERM);
	w->kill_at_ms = now + w->kill_ms;
}

/* The dead: workers, whose routers are told, and what else the application may have started. */
static void
reap(void)
{
	struct worker **wp, *w;
	siginfo_t si;
	int status;

	for (;;) {
		memset(&si, 0, sizeof(si));
		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) == -1 || si.si_pid == 0)
			return;
		for (wp = &workers; (w = *wp) != NULL && w->pid != si.si_pid; wp = &w->next)
			;
		/* What a worker leaves behind that did not end by itself goes with it; its number stays taken until it is reaped. */
		if (w != NULL && si.si_code != CLD_EXITED)
			kill(-w->pid, SIGKILL);
		if (waitpid(si.si_pid, &status, 0) != si.si_pid)
			return;
		if (w == NULL)
			continue;
		*wp = w->next;
		tell(w->owner, FS_EXITED, w->number, w->pid, status, "");
		free(w);
	}
}

/*
 * What descriptor 0 becomes in a worker: a socket that is not connected, as FastCGI wants it, and that select() and
 * poll() call readable, so that the application comes to accept(). The listening socket itself is a privilege.
 */
static int
make_idle_socket(void)
{
	int fd;

	if ((fd = socket(AF_UNIX, SOCK_STREAM, 0)) == -1)
		return -1;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	shutdown(fd, SHUT_RDWR);
	if (listen_flags & O_NONBLOCK)
		fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

/*
 * In the child: become a worker; the caller's accept() goes on in it. Nothing here can fail for want of something.
 *  1 parent       it goes with the app server; a session of its own, so that it can be ended with what it starts, and
 *                 since Linux may share a busy processor out by sessions: it is no less than a worker without app server
 *  2 descriptors  the app server's are closed; 0, 1 and 2 are its own, and whatever else is the listening socket
 *  3 signals      the application's handlers; they can run when accept() lets them, with the application's mask
 */
static void
become_worker(struct conn *own, int idle_fd, int app_fd)
{
	size_t i;

	/* 1 */
	setsid();
#ifdef __linux__
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
#endif
	if (getppid() != started_pid)
		_exit(1);

	/* 2 */
	for (i = 0; i < MAX_CONNS; i++)
		if (conns[i].state != CONN_FREE && &conns[i] != own) {
			close(conns[i].fd);
			if (conns[i].passed_fd != -1)
				close(conns[i].passed_fd);
		}
	dup2(own->passed_fd, STDOUT_FILENO);
	dup2(own->passed_fd, STDERR_FILENO);
	close(own->passed_fd);
	dup2(idle_fd, LISTEN_FD);
	if (app_fd != LISTEN_FD)
		dup2(idle_fd, app_fd);
	close(idle_fd);
	fcntl(app_fd, F_SETFD, listen_fd_flags);
	identify(LISTEN_FD, &our_socket);
	conn_fd = own->fd;
	identify(conn_fd, &conn_id);

	/* 3 */
	for (i = 0; i < NSIGNALS; i++)
		sigaction(our_signals[i], &app_actions[i], NULL);

	role = ROLE_AWAITS;
}

static struct conn *
find_router(uint32_t generation)
{
	int i;

	for (i = 0; i < MAX_CONNS; i++)
		if (conns[i].state == CONN_ROUTER && conns[i].router == generation)
			return &conns[i];
	return NULL;
}

static bool	 read_conn(struct conn *, int);

/*
 * The router that sent an FS_FORK. It said FS_HELLO before, on a connection that we may not have read yet, which can
 * not make a worker.
 */
static struct conn *
find_asking_router(uint32_t generation, int app_fd)
{
	struct conn *c;
	uint32_t type;

	if ((c = find_router(generation)) != NULL)
		return c;
	for (c = conns; c < conns + MAX_CONNS; c++) {
		if (c->state != CONN_NEW)
			continue;
		if (c->in_len >= sizeof(type))
			type = c->in.type;
		else if (c->in_len > 0 || recv(c->fd, &type, sizeof(type), MSG_PEEK | MSG_DONTWAIT) != (ssize_t)sizeof(type))
			continue;
		if (type == FS_HELLO)
			read_conn(c, app_fd);
	}
	return find_router(generation);
}

/*
 * A connection whose first message is FS_FORK. Returns in the child too, as a worker; here the connection is over,
 * whatever became of it.
 */
static void
fork_worker(struct conn *c, int app_fd)
{
	struct conn *router;
	struct worker *w = NULL;
	int idle_fd = -1, error;
	const char *what;

	c->state = CONN_OVER;
	if ((router = find_asking_router(c->in.router, app_fd)) == NULL)
		return;		/* its router has gone meanwhile, or can not be told */
	what = "fork";
	error = ECANCELED;
	if (stopping || stop_pending())
		goto fail;
	what = "worker";
	error = EEXIST;
	if (find_worker(c->in.worker) != NULL)
		goto fail;
	what = "descriptor";
	error = c->lost ? EMFILE : EBADF;
	if (c->lost || c->passed_fd == -1)
		goto fail;
	if ((idle_fd = make_idle_socket()) == -1) {
		what = "socket";
		error = errno;
		goto fail;
	}
	if ((w = calloc(1, sizeof(*w))) == NULL) {
		what = "memory";
		error = ENOMEM;
		goto fail;
	}
	w->number = c->in.worker;
	w->owner = router;
	w->kill_ms = router->kill_ms;
	w->pid = fork();
	if (w->pid == 0) {
		become_worker(c, idle_fd, app_fd);
		return;
	}
	if (w->pid == -1) {
		what = "fork";
		error = errno;
		goto fail;
	}
	close(idle_fd);
	/* Before anybody is told: when the worker closes its connection, no copy of ours may keep it open. */
	close(c->fd);
	close(c->passed_fd);
	c->fd = c->passed_fd = -1;
	w->next = workers;
	workers = w;
	tell(router, FS_FORKED, w->number, w->pid, 0, "");
	return;

fail:
	free(w);
	if (idle_fd != -1)
		close(idle_fd);
	tell(router, FS_FAILED, c->in.worker, 0, error, what);
}

/* ---- messages from routers ------------------------------------------------------------ */

static void
hear_hello(struct conn *c, int app_fd)
{
	const struct fs_msg *m = &c->in;
	struct conn *other;
	char text[FS_TEXT_LEN];

	/* One of the same number may be at its end, and we have not seen it yet. */
	if ((other = find_router(m->router)) != NULL)
		read_conn(other, app_fd);
	if (c->passed_fd != -1 || c->lost || find_router(m->router) != NULL) {
		c->state = CONN_OVER;
		return;
	}
	c->state = CONN_ROUTER;
	c->router = m->router;
	c->kill_ms = m->ms < 0 ? 0 : m->ms;
	c->out_end = &c->out;
	if (m->value != FS_VERSION) {
		snprintf(text, sizeof(text), "the router speaks version %ld, zfpm-forkserver.so %d", (long)m->value, FS_VERSION);
		tell(c, FS_REFUSED, 0, getpid(), FS_VERSION, text);
		c->state = CONN_OVER;
	} else if (refusal != NULL) {
		tell(c, FS_REFUSED, 0, getpid(), FS_VERSION, refusal);
		/* Our end may be known before the reason has been read, and then that is not looked for: stay until it hangs up. */
		shutdown(c->fd, SHUT_WR);
		poll(&(struct pollfd){ .fd = c->fd }, 1, REFUSED_MS);
		_exit(1);
	} else
		tell(c, FS_READY, 0, getpid(), FS_VERSION, "");
}

static void
hear_kill(struct conn *c, int sig)
{
	struct worker *w = find_worker(c->in.worker);

	if (sig != SIGTERM && sig != SIGKILL)
		c->state = CONN_OVER;
	else if (w == NULL)
		tell(c, FS_UNKNOWN, c->in.worker, 0, 0, "");
	else if (sig == SIGTERM)
		kill(w->pid, SIGTERM);	/* its router keeps the time */
	else
		kill_hard(w);
}

/* The two of two routers may come in any order: only its owner can release a worker. */
static void
hear_release(struct conn *c)
{
	struct worker *w = find_worker(c->in.worker);

	if (w != NULL && w->owner == c)
		w->owner = NULL;
}

static void
hear_adopt(struct conn *c)
{
	struct worker *w = find_worker(c->in.worker);

	if (w == NULL) {
		tell(c, FS_UNKNOWN, c->in.worker, 0, 0, "");
		return;
	}
	w->owner = c;
	w->kill_ms = c->kill_ms;
}

/* One whole message. In a child that it made, role says so. */
static void
hear(struct conn *c, int app_fd)
{
	if (c->state == CONN_NEW) {
		if (c->in.type == FS_HELLO)
			hear_hello(c, app_fd);
		else if (c->in.type == FS_FORK)
			fork_worker(c, app_fd);
		else
			c->state = CONN_OVER;
		return;
	}
	if (c->passed_fd != -1 || c->lost)
		c->state = CONN_OVER;
	else if (c->in.type == FS_KILL)
		hear_kill(c, c->in.value);
	else if (c->in.type == FS_RELEASE)
		hear_release(c);
	else if (c->in.type == FS_ADOPT)
		hear_adopt(c);
	else
		c->state = CONN_OVER;
}

/* The descriptor that came with what has just been read; more than one is nonsense. */
static void
take_descriptors(struct conn *c, struct msghdr *mh)
{
	struct cmsghdr *cm;
	size_t i, n;
	int fd;

	if (mh->msg_flags & MSG_CTRUNC)
		c->lost = true;
	for (cm = CMSG_FIRSTHDR(mh); cm != NULL; cm = CMSG_NXTHDR(mh, cm)) {
		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(fd);
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(cm) + i * sizeof(fd), sizeof(fd));
			if (c->passed_fd == -1)
				c->passed_fd = fd;
			else {
				close(fd);
				c->lost = true;
			}
		}
	}
}

/* Read on in a message, and no byte more: what follows FS_FORK is the worker's. True: it is complete. */
static bool
read_message(struct conn *c)
{
	union {
		struct cmsghdr	 hdr;
		char		 buf[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct msghdr mh;
	struct iovec iov;
	ssize_t n;

	iov.iov_base = (char *)&c->in + c->in_len;
	iov.iov_len = sizeof(c->in) - c->in_len;
	memset(&mh, 0, sizeof(mh));
	mh.msg_iov = &iov;
	mh.msg_iovlen = 1;
	mh.msg_control = control.buf;
	mh.msg_controllen = sizeof(control.buf);
	n = recvmsg(c->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n == -1 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return false;
	if (n <= 0) {
		c->state = CONN_OVER;
		return false;
	}
	take_descriptors(c, &mh);
	c->in_len += (size_t)n;
	return c->in_len == sizeof(c->in);
}

/*
 * Read one message, if a whole one has come. Never two in one turn: before the second the router may have sent an FS_FORK
 * that this turn does not see, and it may speak of that worker. Returns true in a child, which is a worker then.
 */
static bool
read_conn(struct conn *c, int app_fd)
{
	/* As long as a router takes no answers it is not asked for more that want some. */
	if (c->out != NULL || c->state == CONN_OVER || !read_message(c))
		return false;
	hear(c, app_fd);
	if (role != ROLE_SERVER)
		return true;
	c->in_len = 0;
	if (c->passed_fd != -1) {
		close(c->passed_fd);
		c->passed_fd = -1;
	}
	return false;
}

/* ---- the loop ---------------------------------------------------------------------------- */

/* Close what is over. Of the workers of a router that has gone nobody would hear: they go too. */
static void
sweep(int64_t now)
{
	struct worker *w;
	int i;

	for (i = 0; i < MAX_CONNS; i++) {
		if (conns[i].state != CONN_OVER)
			continue;
		for (w = workers; w != NULL; w = w->next)
			if (w->owner == &conns[i]) {
				w->owner = NULL;
				end_worker(w, now);
			}
		drop_queue(&conns[i]);
		if (conns[i].fd != -1)
			close(conns[i].fd);
		if (conns[i].passed_fd != -1)
			close(conns[i].passed_fd);
		conns[i].state = CONN_FREE;
	}
}

static int
accept_any(int fd, struct sockaddr *addr, socklen_t *len)
{
	int new;

	if (real_accept4 != NULL)
		return real_accept4(fd, addr, len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if ((new = real_accept(fd, addr, len)) != -1) {
		fcntl(new, F_SETFD, FD_CLOEXEC);
		fcntl(new, F_SETFL, fcntl(new, F_GETFL) | O_NONBLOCK);
	}
	return new;
}

static struct conn *
free_conn(void)
{
	int i;

	for (i = 0; i < MAX_CONNS; i++)
		if (conns[i].state == CONN_FREE)
			return &conns[i];
	return NULL;
}

/*
 * Those who have connected; what they have written already is read at once. Returns true in a child. *pause_ms is
 * moved when there is nothing to accept them with.
 */
static bool
accept_conns(int app_fd, int64_t now, int64_t *pause_ms)
{
	struct conn *c;
	int i, fd;

	for (i = 0; i < MAX_CONNS && (c = free_conn()) != NULL; i++) {
		if ((fd = accept_any(LISTEN_FD, NULL, NULL)) == -1) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			if (errno != EAGAIN && errno != EWOULDBLOCK)
				*pause_ms = now + PAUSE_MS;
			return false;
		}
		memset(c, 0, sizeof(*c));
		c->state = CONN_NEW;
		c->fd = fd;
		c->passed_fd = -1;
		c->out_end = &c->out;
		c->deadline_ms = now + FIRST_MS;
		if (read_conn(c, app_fd))
			return true;
		sweep(now);
	}
	return false;
}

/* SIGTERM and its like, for all of us. */
static void
stop(int64_t now)
{
	struct worker *w;

	if (stopping)
		return;
	stopping = true;
	for (w = workers; w != NULL; w = w->next)
		end_worker(w, now);
}

/* What is due, and when the next thing is. */
static int64_t
look_at_clock(int64_t now, int64_t next)
{
	struct worker *w;
	int i;

	for (w = workers; w != NULL; w = w->next) {
		if (w->kill_at_ms != 0 && w->kill_at_ms <= now)
			kill_hard(w);
		if (w->kill_at_ms != 0 && w->kill_at_ms < next)
			next = w->kill_at_ms;
	}
	for (i = 0; i < MAX_CONNS; i++) {
		if (conns[i].state != CONN_NEW)
			continue;
		if (conns[i].deadline_ms <= now)
			conns[i].state = CONN_OVER;
		else if (conns[i].deadline_ms < next)
			next = conns[i].deadline_ms;
	}
	return next;
}

/* The last worker has gone: so do we, when the routers know of it. Returns when they do not, and until when to wait. */
static int64_t
leave(int64_t now)
{
	int i;

	if (stop_at_ms == 0)
		stop_at_ms = now + STOP_MS;
	for (i = 0; i < MAX_CONNS; i++)
		if (conns[i].state == CONN_ROUTER && conns[i].out != NULL && now < stop_at_ms)
			return stop_at_ms;
	_exit(0);
}

/* One turn: wait for something, and do it. Returns true in a child. */
static bool
turn(int app_fd, const sigset_t *waiting, const sigset_t *blocked)
{
	static int64_t pause_ms;	/* until then nobody is accepted */
	struct pollfd pfd[MAX_CONNS + 1];	/* dense: ppoll() refuses more than rlimit nofile, used or not */
	struct conn *polled[MAX_CONNS + 1];	/* in the same order; NULL: the listening socket */
	struct timespec ts, *timeout = NULL;
	int64_t now = now_ms(), next = NEVER;
	int i, npfd = 0;

	if (got_child) {
		got_child = 0;
		reap();
	}
	if (got_stop)
		stop(now);
	if (pause_ms <= now)
		pause_ms = 0;
	else
		next = pause_ms;
	next = look_at_clock(now, next);
	sweep(now);
	if (stopping && workers == NULL)
		next = leave(now);

	for (i = 0; i < MAX_CONNS; i++) {
		if (conns[i].state == CONN_FREE)
			continue;
		polled[npfd] = &conns[i];
		pfd[npfd].fd = conns[i].fd;
		pfd[npfd++].events = conns[i].out != NULL ? POLLOUT : POLLIN;
	}
	if (pause_ms == 0 && free_conn() != NULL) {
		polled[npfd] = NULL;
		pfd[npfd].fd = LISTEN_FD;
		pfd[npfd++].events = POLLIN;
	}
	if (next != NEVER) {
		now = now_ms();
		next = next > now ? next - now : 0;
		ts.tv_sec = (time_t)(next / 1000);
		ts.tv_nsec = (long)(next % 1000) * 1000000;
		timeout = &ts;
	}
	if (ppoll(pfd, (nfds_t)npfd, timeout, waiting) <= 0)
		return false;

	/* It lets signals in only while it waits: somebody who always has something to say shall not keep them out. */
	sigprocmask(SIG_SETMASK, waiting, NULL);
	sigprocmask(SIG_SETMASK, blocked, NULL);

	now = now_ms();
	if (got_stop)
		stop(now);
	/* Routers last: one may speak of a worker as soon as it has sent its FS_FORK. */
	for (i = 0; i < npfd; i++)
		if (pfd[i].revents != 0 && polled[i] == NULL && accept_conns(app_fd, now, &pause_ms))
			return true;
	for (i = 0; i < npfd; i++)
		if (pfd[i].revents != 0 && polled[i] != NULL && polled[i]->state == CONN_NEW && read_conn(polled[i], app_fd))
			return true;
	for (i = 0; i < npfd; i++) {
		if (pfd[i].revents == 0 || polled[i] == NULL || (polled[i]->state != CONN_ROUTER && polled[i]->state != CONN_DEAF))
			continue;
		flush(polled[i]);
		if (read_conn(polled[i], app_fd))
			return true;
	}
	sweep(now);
	return false;
}

/*
 * Whether fork() would leave threads behind. The kernel is asked for something that it does for a process with one
 * thread alone, and that is nothing then; only where it may not be asked we count.
 */
static bool
has_threads(void)
{
#ifdef __linux__
	struct dirent *e;
	DIR *dir;
	int n = 0;

	if (unshare(CLONE_THREAD) == 0)
		return false;
	if (errno == EINVAL)
		return true;
	if ((dir = opendir("/proc/self/task")) == NULL)
		return false;
	while ((e = readdir(dir)) != NULL)
		if (e->d_name[0] != '.')
			n++;
	closedir(dir);
	return n > 1;
#else
	return false;
#endif
}

/*
 * Be the app server from here on. Returns only in workers, each forked from inside, with all signals blocked as they are
 * now. app_fd is the descriptor that the application knows our socket by: 0, or a copy of it.
 */
static void
serve(int app_fd)
{
	sigset_t waiting, blocked;
	struct sigaction sa;
	size_t i;
	int fd;

	role = ROLE_SERVER;
	if (getpid() != started_pid)
		refusal = "the program has forked before it waits for a request: it needs 'fork_server off'";
	else if (has_threads())
		refusal = "the program has threads when it first waits for a request: it needs 'fork_server off'";

	/* Signals that are not ours wait, and are forgotten: a worker does not inherit them. */
	sigfillset(&blocked);
	sigfillset(&waiting);
	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = refusal == NULL ? on_signal : SIG_DFL;
	sigfillset(&sa.sa_mask);
	for (i = 0; i < NSIGNALS; i++) {
		sigaction(our_signals[i], &sa, &app_actions[i]);
		sigdelset(&waiting, our_signals[i]);
	}
	got_child = refusal == NULL;	/* whoever died before is not announced again */

	/* Descriptors of ours shall not become 1 or 2, which a worker gets others for. */
	while ((fd = dup(LISTEN_FD)) != -1 && fd <= STDERR_FILENO)
		;
	if (fd != -1)
		close(fd);
	listen_flags = fcntl(LISTEN_FD, F_GETFL);
	listen_fd_flags = fcntl(app_fd, F_GETFD);
	fcntl(LISTEN_FD, F_SETFL, listen_flags | O_NONBLOCK);

	/* What is still in stdio's buffers would be written by every worker again. */
	fflush(NULL);

	while (!turn(app_fd, &waiting, &blocked))
		;
}

/* ---- in a worker ------------------------------------------------------------------------------ */

/* Whether the application still has its connection open. */
static bool
conn_is_open(void)
{
	struct identity id;

	return identify(conn_fd, &id) && same_file(&id, &conn_id);
}

/* Wait for its first byte: 1, its end: 0, or a signal handler: -1. Applications are not patient once they have it. */
static int
await_byte(const sigset_t *mask)
{
	struct pollfd pfd = { .fd = conn_fd, .events = POLLIN };
	ssize_t n;
	char c;

	for (;;) {
		if (ppoll(&pfd, 1, NULL, mask) == -1 && errno == EINTR)
			return -1;
		if ((n = recv(conn_fd, &c, 1, MSG_PEEK | MSG_DONTWAIT)) >= 0)
			return (int)n;
		if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
			return 0;
	}
}

/* Wait until the router closes the connection, or the application: 0, or a signal handler has run: -1. */
static int
await_end(const sigset_t *mask)
{
	const struct timespec look = { .tv_sec = LOOK_MS / 1000 };
	struct pollfd pfd = { .fd = conn_fd };	/* POLLHUP needs no asking */

	while (conn_is_open()) {
		switch (ppoll(&pfd, 1, &look, mask)) {
		case 0:
			break;
		case -1:
			if (errno == EINTR)
				return -1;
			return 0;
		default:
			return 0;
		}
	}
	return 0;
}

/* The connection, as accept() returns one. */
static int
return_conn(struct sockaddr *addr, socklen_t *len, int flags)
{
	int fl = fcntl(conn_fd, F_GETFL);

	if (addr != NULL && getpeername(conn_fd, addr, len) == -1)
		return -1;
	/* It stays close-on-exec, whatever was asked for: programs that a script starts shall not hold it. */
	fcntl(conn_fd, F_SETFL, flags & SOCK_NONBLOCK ? fl | O_NONBLOCK : fl & ~O_NONBLOCK);
	role = ROLE_SERVES;
	return conn_fd;
}

/* accept() in a worker, with all signals blocked; mask is the application's. */
static int
worker_accept(struct sockaddr *addr, socklen_t *len, int flags, const sigset_t *mask)
{
	int got;

	if (role == ROLE_LEAVES)
		_exit(0);
	if (role == ROLE_AWAITS) {
		if ((got = await_byte(mask)) == 1)
			return return_conn(addr, len, flags);
		if (got == 0)
			close(conn_fd);
	} else {
		/* Some want the next connection while they serve one, in a thread: they must not be told too early. */
		got = await_end(mask);
	}
	if (got == -1) {
		errno = EINTR;
		return -1;
	}
	/* To most this is the end, and they leave in their own way. Those who ask again leave in ours. */
	role = ROLE_LEAVES;
	errno = ESHUTDOWN;
	return -1;
}

/* ---- what the application calls ------------------------------------------------------------------ */

/*
 * Whether this is the socket that we were started with, or in a worker the one that took its place. Some programs make
 * a copy of descriptor 0 and use that.
 */
static bool
is_ours(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss), on_len = sizeof(int);
	struct identity id;
	int on = 0;

	if (!identify(fd, &id))
		return false;
	if (role != ROLE_STARTING)
		return same_file(&id, &our_socket);
	if (!identify(LISTEN_FD, &our_socket) || !same_file(&id, &our_socket))
		return false;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &on_len) == -1 || !on)
		return false;
	return getsockname(fd, (struct sockaddr *)&ss, &len) == 0 && ss.ss_family == AF_UNIX;
}

#ifdef __linux__
static int
call_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	return (int)syscall(SYS_accept4, fd, addr, len, 0);
}

static int
call_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	return (int)syscall(SYS_accept4, fd, addr, len, flags);
}
#endif

static void
find_real(void)
{
	if (real_accept != NULL)
		return;
#ifdef __linux__
	if (dlsym == NULL) {
		real_accept = call_accept;
		real_accept4 = call_accept4;
		return;
	}
#endif
	real_accept = (accept_fn *)dlsym(RTLD_NEXT, "accept");
	real_accept4 = (accept4_fn *)dlsym(RTLD_NEXT, "accept4");
}

static int
accept_ours(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	sigset_t all, mask;
	static atomic_flag taken = ATOMIC_FLAG_INIT;
	int conn, error;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &mask);
	/*
	 * Of several threads the first one tells the router that there are some. To the others nothing comes: an error, and
	 * the program might be gone before that is said.
	 */
	if (role == ROLE_STARTING && !atomic_flag_test_and_set(&taken))
		serve(fd);
	else if (role == ROLE_STARTING || role == ROLE_SERVER)
		for (;;)
			pause();
	conn = worker_accept(addr, len, flags, &mask);
	error = errno;
	sigprocmask(SIG_SETMASK, &mask, NULL);
	errno = error;
	return conn;
}

int
fs_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	find_real();
	return is_ours(fd) ? accept_ours(fd, addr, len, 0) : real_accept(fd, addr, len);
}

int
fs_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	find_real();
	if (is_ours(fd) && (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == 0)
		return accept_ours(fd, addr, len, flags);
	if (real_accept4 != NULL)
		return real_accept4(fd, addr, len, flags);
	errno = ENOSYS;
	return -1;
}

/*
 * Before the application runs: LD_PRELOAD, of which the first word is this library, goes from the environment, for the
 * programs that the application starts. In place: no copy of the environment's array keeps it.
 */
__attribute__((constructor)) static void
start(void)
{
	extern char **environ;
	static const char name[] = "LD_PRELOAD=";
	char **e, *value;
	size_t len;

	started_pid = getpid();
	find_real();
	for (e = environ; e != NULL && *e != NULL && strncmp(*e, name, sizeof(name) - 1) != 0; e++)
		;
	if (e == NULL || *e == NULL)
		return;
	value = *e + sizeof(name) - 1;
	len = strcspn(value, ": ");
	len += strspn(value + len, ": ");
	if (value[len] != '\0')
		memmove(value, value + len, strlen(value + len) + 1);
	else
		do
			e[0] = e[1];
		while (*e++ != NULL);
}
