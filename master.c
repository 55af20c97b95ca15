/*
 * master.c: root. Binds the sockets; starts, reaps and kills processes; keeps a router and a guard alive.
 *
 * Owns every process that zfpm ever started, and counts them against the
 * limits. Reads fixed-size messages from the router, which it treats as
 * hostile, and never a byte that came from the network or from an application.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <netinet/in.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zfpm.h"

#define MESSAGE_BATCH		256	/* of the router, in one turn */
#define PING_MS			5000	/* the router is asked for a sign of life */
#define PINGS_UNANSWERED	6	/* so many without an answer: it is stuck */
#define ROUTER_YOUNG_MS		10000	/* a router that died before this age is backed off */
#define ROUTER_BACKOFF_MIN_MS	100
#define ROUTER_BACKOFF_MAX_MS	10000
#define GUARD_YOUNG_MS		1000	/* a guard that died before this age is not replaced at once */
#define ROUTER_GRACE_MS		2000	/* to leave when the last application has gone */

enum proc_state {
	PROC_WAITING,	/* accepted; the processes of a dead router still fill the limit */
	PROC_STARTING,	/* forked, exec not yet reported */
	PROC_RUNNING,
	PROC_STOPPING,	/* SIGTERM sent; SIGKILL at kill_ms */
	PROC_KILLED,	/* SIGKILL sent */
};

/* One worker, from the router's wish to waitpid(). */
struct proc {
	enum proc_state	 state;
	uint32_t	 number;	/* the router's; names its socket */
	pid_t		 pid;		/* also its session and process group; 0 while waiting */
	const struct conf_pool *pool;
	int		 app;		/* index in pool->apps */
	char		*name;		/* of the pool; ours */
	int		 report_fd;	/* until exec is reported, then -1 */
	int		 error_fd;	/* until it is handed to the router, then -1 */
	int64_t		 kill_ms;	/* PROC_STOPPING */
	bool		 orphan;	/* its router is gone: tell nobody of it */
	bool		 failed;	/* text says which step */
	char		 text[TEXT_LEN];
};

struct queued {			/* a message that the router's socket had no room for */
	struct queued	*next;
	struct msg	 msg;
	int		 fd;		/* ours to close, or -1 */
};

enum master_state { MASTER_RUNNING, MASTER_QUITTING, MASTER_STOPPING };

static struct conf	*conf;
static enum master_state state;
static int		 signal_pipe[2];
static uid_t		 router_uid;
static gid_t		 router_gid;
static char		 apps_dir[PATH_MAX];
static int		 log_file_fd = STDERR_FILENO;
static int		 ready_fd;		/* told when requests can come; -1: nobody */
static int		 lock_fd;		/* RUN_DIR/zfpm.pid, locked as long as we live */

static struct proc	**procs;	/* in no order */
static int		 nprocs, procs_size;
static struct pollfd	*pfds;
static int		 pfds_size;

static pid_t		 router_pid;		/* 0: none */
static int		 router_sock = -1;
static pid_t		 guard_pid;		/* 0: none */
static int		 guard_sock = -1;
static int64_t		 guard_started_ms;
static bool		 guarded;		/* the system has handles of processes */
static int64_t		 router_started_ms;
static int64_t		 router_start_ms;	/* when to start the next one */
static int64_t		 router_backoff_ms;
static int64_t		 router_kill_ms;	/* it had its time to leave; 0 = no hurry */
static int64_t		 next_ping_ms;
static int		 pings;			/* without an answer */
static uint32_t		 last_number;		/* the highest number of a worker so far */
static struct queued	*queue_first, *queue_last;

/* ---- signals -------------------------------------------------------------------- */

static void
on_signal(int sig)
{
	int saved = errno;
	char c = (char)sig;
	ssize_t n;

	n = write(signal_pipe[1], &c, 1);
	(void)n;	/* a full pipe says already that there is something to do */
	errno = saved;
}

static void
catch_signals(void)
{
	static const int caught[] = { SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2 };
	struct sigaction sa;
	size_t i;

	if (os_pipe(signal_pipe) == -1 || fcntl(signal_pipe[0], F_SETFL, O_NONBLOCK) == -1 ||
	    fcntl(signal_pipe[1], F_SETFL, O_NONBLOCK) == -1)
		fatal("pipe");
	memset(&sa, 0, sizeof(sa));
	sigfillset(&sa.sa_mask);
	sa.sa_flags = SA_RESTART;
	sa.sa_handler = on_signal;
	for (i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		sigaction(caught[i], &sa, NULL);
	sa.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &sa, NULL);
}

/* ---- the table of processes --------------------------------------------------------- */

static struct proc *
proc_by_number(uint32_t number)
{
	int i;

	for (i = 0; i < nprocs; i++)
		if (procs[i]->number == number && !procs[i]->orphan)
			return procs[i];
	return NULL;
}

static struct proc *
proc_by_pid(pid_t pid)
{
	int i;

	for (i = 0; i < nprocs; i++)
		if (procs[i]->pid == pid)
			return procs[i];
	return NULL;
}

static struct proc *
proc_new(void)
{
	struct proc **grown, *p;
	int size;

	if (nprocs == procs_size) {
		size = procs_size == 0 ? 64 : 2 * procs_size;
		if ((grown = realloc(procs, (size_t)size * sizeof(struct proc *))) == NULL)
			return NULL;
		procs = grown;
		procs_size = size;
	}
	if ((p = calloc(1, sizeof(*p))) == NULL)
		return NULL;
	p->report_fd = p->error_fd = -1;
	procs[nprocs++] = p;
	return p;
}

static void	 guard_add(pid_t pid, bool is_router);

static void
socket_path(const struct proc *p, char *path, size_t size)
{
	snprintf(path, size, "%s/w%lu", apps_dir, (unsigned long)p->number);
}

static void
proc_free(struct proc *p)
{
	char path[PATH_MAX + 16];
	int i;

	if (p->report_fd != -1)
		close(p->report_fd);
	if (p->error_fd != -1)
		close(p->error_fd);
	socket_path(p, path, sizeof(path));
	unlink(path);
	for (i = 0; procs[i] != p; i++)
		;
	procs[i] = procs[--nprocs];
	free(p->name);
	free(p);
}

/* ---- messages to the router ------------------------------------------------------------ */

/* Send to the router, now or when it has room. fd, if not -1, is ours to close afterwards. */
static void
tell(const struct msg *msg, int fd)
{
	struct queued *q;

	if (router_sock == -1)
		goto done;
	if (queue_first == NULL && ipc_send(router_sock, msg, fd, false) == 0)
		goto done;
	if (queue_first == NULL && errno != EAGAIN && errno != ENOBUFS && errno != ETOOMANYREFS)
		goto done;	/* it is going; its death comes by SIGCHLD */
	if ((q = malloc(sizeof(*q))) == NULL) {
		/* It would wait for this message for ever: let a new one start from a clean state. */
		log_warn("router %ld: no memory for a message; killed", (long)router_pid);
		kill(router_pid, SIGKILL);
		goto done;
	}
	q->next = NULL;
	q->msg = *msg;
	q->fd = fd;
	if (queue_first == NULL)
		queue_first = q;
	else
		queue_last->next = q;
	queue_last = q;
	return;
done:
	if (fd != -1)
		close(fd);
}

static void
flush_queue(void)
{
	struct queued *q;

	while ((q = queue_first) != NULL) {
		if (router_sock != -1 && ipc_send(router_sock, &q->msg, q->fd, false) == -1 &&
		    (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS))
			return;
		queue_first = q->next;
		if (q->fd != -1)
			close(q->fd);
		free(q);
	}
}

static void
tell_worker(enum msg_type type, const struct proc *p, int value, const char *text, int fd)
{
	struct msg msg;

	if (p->orphan) {
		if (fd != -1)
			close(fd);
		return;
	}
	memset(&msg, 0, sizeof(msg));
	msg.type = type;
	msg.worker = p->number;
	msg.pid = (int32_t)p->pid;
	msg.value = value;
	if (text != NULL)
		snprintf(msg.text, sizeof(msg.text), "%s", text);
	tell(&msg, fd);
}

/* ---- workers ----------------------------------------------------------------------------- */

/* Ask a worker to go. What is only a wish so far is forgotten. */
static void
proc_stop(struct proc *p, int64_t now_ms)
{
	switch (p->state) {
	case PROC_WAITING:
		tell_worker(MSG_FAILED, p, 0, "start: stopped before it began", -1);
		proc_free(p);
		break;
	case PROC_STARTING:
	case PROC_RUNNING:
		kill(p->pid, SIGTERM);
		p->state = PROC_STOPPING;
		p->kill_ms = now_ms + p->pool->timeout_ms[TIMEOUT_KILL];
		break;
	case PROC_STOPPING:
	case PROC_KILLED:
		break;
	}
}

static void
stop_all(int64_t now_ms)
{
	int i;

	for (i = nprocs - 1; i >= 0; i--)
		proc_stop(procs[i], now_ms);
}

/* SIGKILL for a worker and all of its process group. */
static void
proc_kill(struct proc *p)
{
	kill(p->pid, SIGKILL);
	kill(-p->pid, SIGKILL);
	p->state = PROC_KILLED;
}

/* SIGKILL, with all of its process group, for those that had their time. Returns when the next one is due, or 0. */
static int64_t
kill_overdue(int64_t now_ms)
{
	int64_t next = 0;
	struct proc *p;
	int i;

	for (i = 0; i < nprocs; i++) {
		p = procs[i];
		if (p->state != PROC_STOPPING)
			continue;
		if (p->kill_ms <= now_ms) {
			log_warnx("pool %s: worker %ld: did not end within %.1fs of SIGTERM; killed", p->name, (long)p->pid,
			    (double)p->pool->timeout_ms[TIMEOUT_KILL] / 1000);
			proc_kill(p);
		} else if (next == 0 || p->kill_ms < next) {
			next = p->kill_ms;
		}
	}
	return next;
}

/* How many processes exist: of one name of one pool, and of all. */
static void
count_procs(const struct conf_pool *pool, const char *name, int *of_pool, int *of_all)
{
	int i;

	*of_pool = *of_all = 0;
	for (i = 0; i < nprocs; i++) {
		if (procs[i]->state == PROC_WAITING)
			continue;
		++*of_all;
		if (procs[i]->pool == pool && strcmp(procs[i]->name, name) == 0)
			++*of_pool;
	}
}

/* Fork it if the limits allow; else it stays PROC_WAITING until a process of an earlier router has gone. */
static void
proc_start(struct proc *p)
{
	char path[PATH_MAX + 16], text[TEXT_LEN];
	struct spawn_error err;
	struct spawned sp;
	int of_pool, of_all;

	count_procs(p->pool, p->name, &of_pool, &of_all);
	if (of_pool >= p->pool->max_workers || of_all >= conf->max_workers)
		return;
	socket_path(p, path, sizeof(path));
	if (spawn_worker(conf, p->pool, p->pool->apps[p->app], p->name, path, &sp, &err) == -1) {
		snprintf(text, sizeof(text), "%s: %s", err.step, err.reason);
		log_warnx("pool %s: cannot start FCGI process: %s", p->name, text);
		tell_worker(MSG_FAILED, p, 0, text, -1);
		proc_free(p);
		return;
	}
	p->pid = sp.pid;
	p->report_fd = sp.report_fd;
	p->error_fd = sp.error_fd;
	p->state = PROC_STARTING;
	guard_add(p->pid, false);
}

static void
start_waiting(void)
{
	int i;

	for (i = nprocs - 1; i >= 0; i--)
		if (procs[i]->state == PROC_WAITING)
			proc_start(procs[i]);
}

/* The child has reported, or exec has closed the pipe. */
static void
proc_report(struct proc *p)
{
	struct spawn_error err;
	ssize_t n;

	do
		n = read(p->report_fd, &err, sizeof(err));
	while (n == -1 && errno == EINTR);
	if (n == -1 && errno == EAGAIN)
		return;
	close(p->report_fd);
	p->report_fd = -1;
	if (n == 0) {
		log_debug("pool %s: worker %ld: started %s", p->name, (long)p->pid, p->pool->apps[p->app]->name);
		if (p->state == PROC_STARTING)
			p->state = PROC_RUNNING;
		tell_worker(MSG_STARTED, p, 0, NULL, p->error_fd);
		p->error_fd = -1;
		return;
	}
	p->failed = true;
	err.step[sizeof(err.step) - 1] = err.reason[sizeof(err.reason) - 1] = '\0';
	if (n == (ssize_t)sizeof(err))
		snprintf(p->text, sizeof(p->text), "%s: %s", err.step, err.reason);
	else
		snprintf(p->text, sizeof(p->text), "report: incomplete");
	log_warnx("pool %s: cannot start FCGI process: %s", p->name, p->text);
}

static void
proc_exited(struct proc *p, int status)
{
	/* The report may have come together with the exit. */
	if (p->report_fd != -1)
		proc_report(p);
	if (p->failed)
		tell_worker(MSG_FAILED, p, 0, p->text, -1);
	else
		tell_worker(MSG_EXITED, p, status, NULL, -1);
	log_debug("pool %s: worker %ld: %s", p->name, (long)p->pid, log_wait_status(status));
	proc_free(p);
}

/* ---- the guard --------------------------------------------------------------------------------- */

/* In a forked child: let go of what is the master's alone. */
static void
close_own(void)
{
	int i;

	close(signal_pipe[0]);
	close(signal_pipe[1]);
	close(lock_fd);
	if (ready_fd != -1)
		close(ready_fd);
	if (guard_sock != -1)
		close(guard_sock);
	if (router_sock != -1)
		close(router_sock);
	for (i = 0; i < nprocs; i++) {
		if (procs[i]->report_fd != -1)
			close(procs[i]->report_fd);
		if (procs[i]->error_fd != -1)
			close(procs[i]->error_fd);
	}
}

/*
 * Give the guard a handle of a process that has not been waited for yet. wait: until it has room, for a guard that
 * has just been started and takes all there are; else one that takes nothing any more is replaced.
 */
static void
guard_send(pid_t pid, bool is_router, bool wait)
{
	struct msg msg;
	int fd;

	memset(&msg, 0, sizeof(msg));
	msg.type = MSG_GUARD;
	msg.value = is_router;
	if ((fd = os_process_open(pid)) == -1 || ipc_send(guard_sock, &msg, fd, wait) == -1) {
		log_warn("guard %ld: process %ld; killed", (long)guard_pid, (long)pid);
		kill(guard_pid, SIGKILL);
	}
	if (fd != -1)
		close(fd);
}

static void
guard_start(void)
{
	struct conf_listen *l;
	int i, sv[2];

	if (!guarded || os_socketpair(SOCK_SEQPACKET, sv) == -1)
		return;
	guard_started_ms = os_now_ms();
	if ((guard_pid = fork()) == -1) {
		log_warn("guard: fork");
		guard_pid = 0;
		close(sv[0]);
		close(sv[1]);
		return;
	}
	if (guard_pid == 0) {
		close(sv[0]);
		close_own();
		for (l = conf->listens; l != NULL; l = l->next)
			if (l->fd != -1)
				close(l->fd);
		guard_run(sv[1]);
	}
	close(sv[1]);
	guard_sock = sv[0];
	if (router_pid != 0)
		guard_send(router_pid, true, true);
	for (i = 0; i < nprocs; i++)
		if (procs[i]->pid != 0)
			guard_send(procs[i]->pid, false, true);
}

static void
guard_add(pid_t pid, bool is_router)
{
	if (guard_sock != -1)
		guard_send(pid, is_router, false);
	else
		guard_start();		/* with this one among all */
}

/* It is not there to fail; but if it does, another one takes its place, at the latest with the next process. */
static void
guard_exited(int status, int64_t now_ms)
{
	log_warnx("guard %ld: %s", (long)guard_pid, log_wait_status(status));
	close(guard_sock);
	guard_sock = -1;
	guard_pid = 0;
	if (now_ms - guard_started_ms >= GUARD_YOUNG_MS)
		guard_start();
}

/* Everything has ended: let the guard see that, and end too. */
static void
guard_stop(void)
{
	if (guard_pid == 0)
		return;
	close(guard_sock);
	while (waitpid(guard_pid, NULL, 0) == -1 && errno == EINTR)
		;
}

/* ---- the router ------------------------------------------------------------------------------ */

static void
router_forget(void)
{
	if (router_sock != -1)
		close(router_sock);
	router_sock = -1;
	flush_queue();
	router_pid = 0;
	router_kill_ms = 0;
}

static void
router_start(int64_t now_ms)
{
	struct conf_listen *l;
	int sv[2], fd;

	router_started_ms = now_ms;
	router_start_ms = 0;
	next_ping_ms = now_ms + PING_MS;
	pings = 0;
	if (os_socketpair(SOCK_SEQPACKET, sv) == -1) {
		log_warn("router: socketpair");
		router_start_ms = now_ms + ROUTER_BACKOFF_MAX_MS;
		return;
	}
	if ((router_pid = fork()) == -1) {
		log_warn("router: fork");
		close(sv[0]);
		close(sv[1]);
		router_pid = 0;
		router_start_ms = now_ms + ROUTER_BACKOFF_MAX_MS;
		return;
	}
	if (router_pid != 0) {
		close(sv[1]);
		router_sock = sv[0];
		guard_add(router_pid, true);
		return;
	}

	/* In the child: nothing of the master's but the listening sockets, the log and our end. */
	close(sv[0]);
	close_own();
	if ((fd = open("/dev/null", O_RDWR)) == -1)
		fatal("/dev/null");
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	if (log_file_fd != STDERR_FILENO)
		dup2(fd, STDERR_FILENO);
	close(fd);
	for (l = conf->listens; l != NULL; l = l->next)
		if (fcntl(l->fd, F_SETFL, O_NONBLOCK) == -1)
			fatal("%s: fcntl", l->address);
	if (os_chroot(apps_dir) == -1 || chdir("/") == -1)
		fatal("router: chroot %s", apps_dir);
	if (os_set_groups(1, &router_gid) == -1 || setgid(router_gid) == -1 || setuid(router_uid) == -1)
		fatal("router: setuid");
	if (setuid(0) != -1 || seteuid(0) != -1)
		fatalx("router: root came back");
	router_run(conf, sv[1], last_number + 1);
}

/* The router has been reaped. Its workers hold requests that nobody can answer now. */
static void
router_exited(int status, int64_t now_ms)
{
	int i;

	if (state == MASTER_RUNNING)
		log_warnx("router %ld: %s; starting another", (long)router_pid, log_wait_status(status));
	else
		log_debug("router %ld: %s", (long)router_pid, log_wait_status(status));
	router_forget();
	stop_all(now_ms);
	for (i = 0; i < nprocs; i++)
		procs[i]->orphan = true;
	if (state != MASTER_RUNNING)
		return;
	if (now_ms - router_started_ms >= ROUTER_YOUNG_MS)
		router_backoff_ms = 0;
	router_start_ms = now_ms + router_backoff_ms;
	if (router_backoff_ms == 0)
		router_backoff_ms = ROUTER_BACKOFF_MIN_MS;
	else if ((router_backoff_ms *= 2) > ROUTER_BACKOFF_MAX_MS)
		router_backoff_ms = ROUTER_BACKOFF_MAX_MS;
}

static void
router_distrust(const char *why)
{
	log_warnx("router %ld: %s; killed", (long)router_pid, why);
	kill(router_pid, SIGKILL);
	close(router_sock);
	router_sock = -1;
	flush_queue();
}

/* A wish for a worker. Every field is the router's word only: 0, or -1 if it is nonsense. */
static int
router_wants(const struct msg *msg)
{
	const struct conf_pool *pool;
	struct proc *p;
	int i, of_router = 0;

	if (msg->worker != last_number + 1)	/* one after the other, so that they last */
		return -1;
	if (memchr(msg->text, '\0', sizeof(msg->text)) == NULL || !conf_name_ok(msg->text))
		return -1;
	/* The master alone decides which pool a name means. */
	if ((pool = conf_find(conf, msg->text)) == NULL || (uint32_t)pool->index != msg->pool)
		return -1;
	if (msg->app >= (uint32_t)pool->napps)
		return -1;
	/* It knows of all its workers until it has been told of their exit, so it never asks for too many. */
	for (i = 0; i < nprocs; i++)
		if (!procs[i]->orphan && procs[i]->pool == pool && strcmp(procs[i]->name, msg->text) == 0)
			of_router++;
	if (of_router >= pool->max_workers)
		return -1;
	for (i = 0, of_router = 0; i < nprocs; i++)
		of_router += !procs[i]->orphan;
	if (of_router >= conf->max_workers)
		return -1;

	last_number = msg->worker;
	if ((p = proc_new()) == NULL || (p->name = strdup(msg->text)) == NULL) {
		struct proc none = { .number = msg->worker };

		log_warn("pool %s: cannot start FCGI process", msg->text);
		tell_worker(MSG_FAILED, &none, 0, "memory: Cannot allocate memory", -1);
		if (p != NULL)
			proc_free(p);
		return 0;
	}
	p->number = msg->worker;
	p->pool = pool;
	p->app = (int)msg->app;
	p->state = PROC_WAITING;
	if (state == MASTER_STOPPING) {
		tell_worker(MSG_FAILED, p, 0, "start: zfpm is stopping", -1);
		proc_free(p);
		return 0;
	}
	proc_start(p);
	return 0;
}

/* Read what the router has to say. */
static void
router_read(int64_t now_ms)
{
	struct proc *p;
	struct msg msg;
	int fd, i, n;

	/* So many at a time: it shall not keep us from everything else. */
	for (i = 0; i < MESSAGE_BATCH && router_sock != -1; i++) {
		if ((n = ipc_recv(router_sock, &msg, &fd)) == -1)
			break;
		if (fd != -1) {
			close(fd);
			router_distrust("sent a descriptor");
			return;
		}
		if (n == 0) {
			/* On its way out; if it only closed its end, it is of no use any more. */
			kill(router_pid, SIGKILL);
			close(router_sock);
			router_sock = -1;
			return;
		}
		switch (msg.type) {
		case MSG_PONG:
			pings = 0;
			break;
		case MSG_SPAWN:
			if (router_wants(&msg) == -1) {
				router_distrust("asked for a worker that it can not have");
				return;
			}
			break;
		case MSG_STOP:
			/* Unknown is no offence: it may have died while the message was under way. */
			if ((p = proc_by_number(msg.worker)) == NULL)
				break;
			if (msg.value != 0 && p->pid != 0)
				proc_kill(p);
			else
				proc_stop(p, now_ms);
			break;
		default:
			router_distrust("sent an unknown message");
			return;
		}
	}
	if (router_sock == -1 || i == MESSAGE_BATCH || errno == EAGAIN)
		return;
	if (errno == ECONNRESET) {	/* gone, with messages of ours unread */
		close(router_sock);
		router_sock = -1;
	} else {
		router_distrust("sent a message of a wrong size");
	}
}

static void
router_ping(int64_t now_ms)
{
	struct msg msg;

	if (router_pid == 0 || router_sock == -1 || now_ms < next_ping_ms)
		return;
	next_ping_ms = now_ms + PING_MS;
	if (pings == PINGS_UNANSWERED) {
		router_distrust("has given no sign of life for 30s");
		return;
	}
	memset(&msg, 0, sizeof(msg));
	msg.type = MSG_PING;
	if (pings++ == 0)
		tell(&msg, -1);		/* one under way is enough */
}

/* ---- the whole -------------------------------------------------------------------------------- */

/* Reap everything that has ended. */
static void
reap(int64_t now_ms)
{
	struct proc *p;
	siginfo_t si;
	int status;

	for (;;) {
		memset(&si, 0, sizeof(si));
		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) == -1 || si.si_pid == 0)
			break;
		/*
		 * It is still a zombie, so its pid and process group can not belong to anybody else. A program that did
		 * not end by itself leaves nothing behind: PHP's own children would go on serving without a parent.
		 * What a script has put into the background on purpose survives an ordinary end.
		 */
		p = proc_by_pid(si.si_pid);
		if (p != NULL && (si.si_code != CLD_EXITED || p->state == PROC_KILLED))
			kill(-si.si_pid, SIGKILL);
		if (waitpid(si.si_pid, &status, WNOHANG) != si.si_pid)
			break;
		if (p != NULL)
			proc_exited(p, status);
		else if (si.si_pid == router_pid)
			router_exited(status, now_ms);
		else if (si.si_pid == guard_pid)
			guard_exited(status, now_ms);
	}
	start_waiting();
}

static void
begin_quit(enum master_state to, int64_t now_ms)
{
	struct conf_listen *l;
	struct msg msg;

	if (to <= state)
		return;
	state = to;
	os_notify("STOPPING=1");
	log_info("%s", to == MASTER_QUITTING ? "stopping when the running requests are done" : "stopping");
	for (l = conf->listens; l != NULL; l = l->next) {
		if (l->fd == -1)
			continue;
		close(l->fd);
		l->fd = -1;
		if (l->sa.ss_family == AF_UNIX)
			unlink(l->address);
	}
	memset(&msg, 0, sizeof(msg));
	msg.type = MSG_QUIT;
	msg.value = to == MASTER_STOPPING;
	tell(&msg, -1);
	if (to == MASTER_STOPPING)
		stop_all(now_ms);
}

static void
read_signals(int64_t now_ms)
{
	char buf[64];
	ssize_t i, n;

	while ((n = read(signal_pipe[0], buf, sizeof(buf))) > 0)
		for (i = 0; i < n; i++)
			switch (buf[i]) {
			case SIGTERM:
			case SIGINT:
				begin_quit(MASTER_STOPPING, now_ms);
				break;
			case SIGQUIT:
				begin_quit(MASTER_QUITTING, now_ms);
				break;
			case SIGHUP:
			case SIGUSR1:
			case SIGUSR2:
				log_warnx("signal %d ignored", buf[i]);
				break;
			case SIGCHLD:
				break;
			}
	reap(now_ms);
}

/* Wait for whatever comes first, and see to it. */
static void
turn(void)
{
	int64_t now_ms = os_now_ms(), next, kill_ms;
	struct pollfd *grown;
	struct proc *p;
	int i, n, timeout;

	if (pfds_size < nprocs + 2) {
		if ((grown = realloc(pfds, (size_t)(nprocs + 64) * sizeof(*pfds))) == NULL)
			fatal("poll set");
		pfds = grown;
		pfds_size = nprocs + 64;
	}
	pfds[0].fd = signal_pipe[0];
	pfds[0].events = POLLIN;
	pfds[1].fd = router_sock;	/* -1: ignored by poll() */
	pfds[1].events = (short)(POLLIN | (queue_first != NULL ? POLLOUT : 0));
	for (i = 0, n = 2; i < nprocs; i++)
		if (procs[i]->report_fd != -1) {
			pfds[n].fd = procs[i]->report_fd;
			pfds[n++].events = POLLIN;
		}

	next = kill_overdue(now_ms);
	if (router_sock != -1 && (next == 0 || next_ping_ms < next))
		next = next_ping_ms;
	if (router_start_ms != 0 && (next == 0 || router_start_ms < next))
		next = router_start_ms;
	if (router_kill_ms != 0 && (next == 0 || router_kill_ms < next))
		next = router_kill_ms;
	timeout = next == 0 ? -1 : next <= now_ms ? 0 : next - now_ms > INT_MAX ? INT_MAX : (int)(next - now_ms);
	if (poll(pfds, (nfds_t)n, timeout) == -1) {
		if (errno != EINTR)
			fatal("poll");
		return;
	}
	now_ms = os_now_ms();

	/* Reports before exits: a failed start is told with its reason. */
	for (i = 2; i < n; i++) {
		if (pfds[i].revents == 0)
			continue;
		for (int k = 0; k < nprocs; k++)
			if ((p = procs[k])->report_fd == pfds[i].fd) {
				proc_report(p);
				break;
			}
	}
	if (pfds[1].revents & POLLOUT)
		flush_queue();
	if (pfds[1].revents & ~POLLOUT)
		router_read(now_ms);
	if (pfds[0].revents != 0)
		read_signals(now_ms);
	router_ping(now_ms);
	if (router_start_ms != 0 && router_start_ms <= now_ms && state == MASTER_RUNNING)
		router_start(now_ms);

	kill_ms = router_kill_ms;
	if (state != MASTER_RUNNING) {
		router_start_ms = 0;
		if (router_pid == 0 && nprocs > 0)
			stop_all(now_ms);
		if (state == MASTER_STOPPING && router_pid != 0 && nprocs == 0) {
			if (kill_ms == 0)
				router_kill_ms = now_ms + ROUTER_GRACE_MS;
			else if (kill_ms <= now_ms)
				kill(router_pid, SIGKILL);
		}
	}
}

/* Only one zfpm at a time may own a run_dir: hold a lock on its pid file. */
static void
lock_run_dir(void)
{
	char path[PATH_MAX], pid[32];
	struct flock lock;

	if (snprintf(path, sizeof(path), "%s/zfpm.pid", conf->run_dir) >= (int)sizeof(path))
		fatalx("run_dir: too long");
	if ((lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644)) == -1)
		fatal("%s", path);
	memset(&lock, 0, sizeof(lock));
	lock.l_type = F_WRLCK;
	lock.l_whence = SEEK_SET;
	if (fcntl(lock_fd, F_SETLK, &lock) == -1) {
		if (fcntl(lock_fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK)
			fatalx("%s: zfpm is running already, process %ld", path, (long)lock.l_pid);
		fatal("%s: lock", path);
	}
	snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	if (ftruncate(lock_fd, 0) == -1 || write(lock_fd, pid, strlen(pid)) != (ssize_t)strlen(pid))
		log_warn("%s", path);	/* the lock holds all the same, until we end */
}

/* RUN_DIR and RUN_DIR/apps, the router's world: it can pass through, and write nothing. */
static void
make_run_dir(void)
{
	struct dirent *d;
	struct stat st;
	DIR *dir;

	if (mkdir(conf->run_dir, 0755) == -1 && errno != EEXIST)
		fatal("%s", conf->run_dir);
	if (lstat(conf->run_dir, &st) == -1)
		fatal("%s", conf->run_dir);
	if (!S_ISDIR(st.st_mode) || st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		fatalx("%s: run_dir must be a directory of root's that nobody else can write", conf->run_dir);
	lock_run_dir();
	if (snprintf(apps_dir, sizeof(apps_dir), "%s/apps", conf->run_dir) >= (int)sizeof(apps_dir))
		fatalx("run_dir: too long");
	if (mkdir(apps_dir, 0710) == -1 && errno != EEXIST)
		fatal("%s", apps_dir);
	if (chown(apps_dir, 0, router_gid) == -1 || chmod(apps_dir, 0710) == -1 || (dir = opendir(apps_dir)) == NULL)
		fatal("%s", apps_dir);
	/* Sockets of a zfpm that did not end by itself. */
	while ((d = readdir(dir)) != NULL)
		if (d->d_name[0] == 'w')
			unlinkat(dirfd(dir), d->d_name, 0);
	closedir(dir);
}

/* Take the place of a socket that nobody listens on any more. */
static void
remove_stale(const struct conf_listen *l)
{
	struct stat st;
	int fd;

	if (lstat(l->address, &st) == -1)
		return;
	if (!S_ISSOCK(st.st_mode))
		fatalx("listen %s: exists and is no socket", l->address);
	if ((fd = os_socket(AF_UNIX, SOCK_STREAM)) == -1)
		fatal("socket");
	if (connect(fd, (const struct sockaddr *)&l->sa, l->sa_len) == 0 || errno == EAGAIN)
		fatalx("listen %s: another process listens there", l->address);
	close(fd);
	unlink(l->address);
}

static void
bind_listener(struct conf_listen *l)
{
	mode_t mask;
	int on = 1;

	if ((l->fd = os_socket(l->sa.ss_family, SOCK_STREAM)) == -1)
		fatal("listen %s: socket", l->address);
	if (l->sa.ss_family == AF_UNIX)
		remove_stale(l);
	else
		setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* Nobody can connect before owner and mode are as configured. */
	mask = umask(0777);
	if (bind(l->fd, (struct sockaddr *)&l->sa, l->sa_len) == -1)
		fatal("listen %s", l->address);
	umask(mask);
	if (l->sa.ss_family == AF_UNIX && (chown(l->address, l->uid, l->gid) == -1 || chmod(l->address, l->mode) == -1))
		fatal("listen %s", l->address);
	if (listen(l->fd, SOMAXCONN) == -1)
		fatal("listen %s", l->address);
}

static void
open_log(void)
{
	if (conf->log_target == LOG_TO_FILE) {
		log_file_fd = open(conf->log_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0640);
		if (log_file_fd == -1)
			fatal("log %s", conf->log_file);
	}
	log_init("master", conf->log_target, log_file_fd, conf->log_level);
}

int
master_run(struct conf *c, int ready)
{
	struct conf_listen *l;
	struct passwd *pw;
	int fd;

	conf = c;
	ready_fd = ready;
	if (geteuid() != 0)
		fatalx("must be started by root: it runs applications under their own users");
	do {	/* 0, 1 and 2 are always something, so that no descriptor of ours lands there */
		if ((fd = open("/dev/null", O_RDWR)) == -1)
			fatal("/dev/null");
	} while (fd <= STDERR_FILENO);
	close(fd);
	if ((pw = getpwnam(conf->router_user)) == NULL)
		fatalx("router_user '%s' is unknown", conf->router_user);
	if (pw->pw_uid == 0 || pw->pw_gid == 0)
		fatalx("router_user '%s' must not be root or in root's group", conf->router_user);
	router_uid = pw->pw_uid;
	router_gid = pw->pw_gid;

	os_title("zfpm: master");
	if ((fd = os_process_open(getpid())) != -1) {
		guarded = true;
		close(fd);
	}
	spawn_init(router_uid, router_gid, guarded);
	make_run_dir();
	for (l = conf->listens; l != NULL; l = l->next)
		bind_listener(l);
	open_log();
	catch_signals();
	log_info("version " ZFPM_VERSION ", %d pools, %d apps", conf->npools, conf->napps);
	guard_start();
	router_start(os_now_ms());
	os_notify("READY=1");
	if (ready_fd != -1) {
		/* Whoever started us has seen all there was to see: let go of his terminal. */
		if ((fd = open("/dev/null", O_RDWR | O_CLOEXEC)) != -1) {
			dup2(fd, STDERR_FILENO);
			close(fd);
		}
		if (write(ready_fd, "", 1) != 1)
			log_warn("detach");
		close(ready_fd);
		ready_fd = -1;
	}
	while (state == MASTER_RUNNING || router_pid != 0 || nprocs > 0)
		turn();
	guard_stop();
	if (ftruncate(lock_fd, 0) == -1)	/* nobody shall signal whoever gets this number next */
		log_warn("pid file");
	log_info("stopped");
	return 0;
}
