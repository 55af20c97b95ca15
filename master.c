/*
 * master.c: root. Starts, reaps and kills processes; keeps a router and a guard alive; reload, upgrade, stop.
 *
 * Owns every process that zfpm ever started, and counts them against the
 * limits. Reads fixed-size messages from the routers, which it treats as
 * hostile, and from root's own commands, and never a byte that came from the
 * network or from an application.
 *
 * A reload and an upgrade are a new router beside the old one (begin_router()).
 * When it has said that it lives, it becomes the current one (commit()): the
 * old one is told to hand over, and when it has answered, the new one may go
 * (check_go()). What still runs is finished by the old one, whose workers come
 * one by one, when they are idle (router_gives()).
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

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
#include <time.h>
#include <unistd.h>

#include "zfpm.h"

#define MESSAGE_BATCH		256	/* of a router, in one turn */
#define PING_MS			5000	/* a router is asked for a sign of life */
#define PINGS_UNANSWERED	6	/* so many without an answer: it is stuck */
#define RELEASE_MS		30000	/* for an earlier router to hand over what it does not need */
#define RETRY_MS		1000	/* between two attempts at that, at least */
#define UNREAD_MAX		1000	/* messages that a router may leave unread, and ... */
#define UNREAD_PER_WORKER	8	/* ... so many more for each worker that there is */
#define ROUTER_YOUNG_MS		10000	/* a router that died before this age is backed off */
#define ROUTER_BACKOFF_MIN_MS	100
#define ROUTER_BACKOFF_MAX_MS	10000
#define GUARD_YOUNG_MS		1000	/* a guard that died before this age is not replaced at once */
#define ROUTER_GRACE_MS		2000	/* to leave when the last application has gone */
#define CHECK_MS		60000	/* for `zfpm -t` of a new program */
#define CHECK_TEXT		4096	/* of what that says */
#define SAY_MAX			64	/* messages of text to one command */
#define CGROUP_SWEEP_MS		1000
#define STAMP_MS		1000	/* the files that app servers are made from are looked at that often, when one is asked for a worker */
#define SERVER_GRACE_MS		1000	/* for an app server to end, beside what it gives its workers */
#define CONTROL_PAUSE_MS	1000
#define RETIRED			0	/* instead of a fingerprint, which no settings have: zfpm retire; survives an upgrade as well */

enum master_state { MASTER_RUNNING, MASTER_QUITTING, MASTER_STOPPING };

/* What is under way; one at a time. */
enum operation {
	OP_NONE,
	OP_START,	/* a router for the first time, or in the place of one that died */
	OP_RELOAD,
	OP_CHECK,	/* zfpm -t of the program that is to be upgraded to */
	OP_UPGRADE,	/* that is us now; the first router of ours is not there yet */
};

static struct conf	*conf;			/* in force */
static const struct start *start;
static struct master	 m = { .control_fd = -1, .guard_sock = -1, .lock_fd = -1 };
static enum master_state state;
static int		 signal_pipe[2];
static uid_t		 router_uid;
static gid_t		 router_gid;
static char		 apps_dir[PATH_MAX];
static int		 log_fd = STDERR_FILENO;
static int		 ready_fd;		/* told when requests can come; -1: nobody */
static int64_t		 conf_start;		/* seconds since 1970: when conf was taken */

static enum operation	 operation;
static struct conf	*next_conf;		/* of the router that begins; conf itself if that stays */
static int		 next_log_fd;
static int		 next_control_fd = -1;	/* -1: that stays as well */
static bool		 want_reload, want_upgrade;	/* as soon as nothing else is under way */
static pid_t		 check_pid;		/* OP_CHECK; 0: it has ended */
static int		 check_status;
static int		 check_fd = -1;
static char		 check_text[CHECK_TEXT];
static size_t		 check_len;
static int64_t		 check_end_ms;

static struct router	*current;		/* it accepts; NULL: none */
static struct router	*next_router;		/* it begins; NULL: none */
static bool		 gone;			/* current has been told to go */
static int64_t		 router_started_ms;	/* current was started */
static int64_t		 router_start_ms;	/* when to start the next one; 0: there is one */
static int64_t		 router_backoff_ms;
static int64_t		 router_kill_ms;	/* the routers had their time to leave; 0 = no hurry */
static int64_t		 next_ping_ms;
static int64_t		 watchdog_ms, next_watchdog_ms;	/* 0: nobody asks for it */
static int64_t		 control_ms;		/* no descriptor for one more command: wait until then; 0: no */
static int64_t		 next_sweep_ms;		/* of cgroups that could not be removed; 0: none */
static int		 told_workers = -1;	/* systemd was told of so many */

static int64_t		 guard_started_ms;
static int64_t		 guard_start_ms;	/* when to start the next one; 0: there is one, or shall be none */
static bool		 guarded;		/* the system has handles of processes */

/* What stands behind an entry of the poll set. */
enum watch_kind { WATCH_SIGNAL, WATCH_CONTROL, WATCH_CHECK, WATCH_ROUTER, WATCH_CLIENT, WATCH_PROC };
struct watch {
	enum watch_kind	 kind;
	void		*owner;
};
static struct pollfd	*pfds;
static struct watch	*watches;
static int		 npfds, pfds_size;

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

/* A worker's. */
static struct proc *
proc_by_number(uint32_t number)
{
	int i;

	for (i = 0; i < m.nprocs; i++)
		if (m.procs[i]->number == number && m.procs[i]->kind != PROC_SERVER)
			return m.procs[i];
	return NULL;
}

static struct proc *
server_by_number(uint32_t number)
{
	int i;

	for (i = 0; i < m.nprocs; i++)
		if (m.procs[i]->number == number && m.procs[i]->kind == PROC_SERVER)
			return m.procs[i];
	return NULL;
}

static struct proc *
proc_by_pid(pid_t pid)
{
	int i;

	for (i = 0; i < m.nprocs; i++)
		if (m.procs[i]->pid == pid && pid != 0)
			return m.procs[i];
	return NULL;
}

struct proc *
proc_new(struct master *mp)
{
	struct proc **grown, *p;
	int size;

	if (mp->nprocs == mp->procs_size) {
		size = mp->procs_size == 0 ? 64 : 2 * mp->procs_size;
		if ((grown = realloc(mp->procs, (size_t)size * sizeof(struct proc *))) == NULL)
			return NULL;
		mp->procs = grown;
		mp->procs_size = size;
	}
	if ((p = calloc(1, sizeof(*p))) == NULL)
		return NULL;
	p->report_fd = p->error_fd = -1;
	mp->procs[mp->nprocs++] = p;
	return p;
}

static void	 guard_add(pid_t pid, bool is_router);
static void	 servers_check_files(void);
static void	 forget_stamps(void);
static void	 clients_check(void);

static const char *
proc_kind(const struct proc *p)
{
	return p->kind == PROC_SERVER ? "app server" : "worker";
}

static void
socket_path(const struct proc *p, char *path, size_t size)
{
	snprintf(path, size, "%s/%c%lu", apps_dir, p->kind == PROC_SERVER ? 's' : 'w', (unsigned long)p->number);
}

/* The last process of a pool with a cgroup has gone? */
static bool
last_in_cgroup(const struct proc *p)
{
	int i;

	for (i = 0; i < m.nprocs; i++)
		if (m.procs[i] != p && m.procs[i]->cgroup && strcmp(m.procs[i]->name, p->name) == 0)
			return false;
	return true;
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
	if (p->number != 0 && p->kind != PROC_FORKED) {
		socket_path(p, path, sizeof(path));
		unlink(path);
	}
	m.nservers -= p->kind == PROC_SERVER;
	if (p->server != NULL)
		p->server->nforked--;
	if (p->cgroup && last_in_cgroup(p)) {
		cgroup_leave(p->name);
		next_sweep_ms = os_now_ms() + CGROUP_SWEEP_MS;
	}
	for (i = 0; m.procs[i] != p; i++)
		;
	m.procs[i] = m.procs[--m.nprocs];
	free(p->name);
	free(p->app_name);
	free(p);
}

/* What its name means in the configuration in force. */
static void
proc_resolve(struct proc *p)
{
	int i;

	p->app = -1;
	if ((p->pool = conf_find(conf, p->name)) == NULL)
		return;
	for (i = 0; i < p->pool->napps; i++)
		if (strcmp(p->pool->apps[i]->name, p->app_name) == 0)
			p->app = i;
}

/* Would it be started in the same way now? */
static bool
proc_unchanged(const struct proc *p)
{
	return !p->stale && p->pool != NULL && p->app != -1 && conf_fingerprint(p->pool, p->pool->apps[p->app], p->name) == p->fingerprint;
}

/* ---- messages to a router ------------------------------------------------------------ */

static void	 router_distrust(struct router *, const char *why);

/* Send, now or when there is room. fd, if not -1, is ours to close afterwards. */
static void
tell(struct router *r, const struct msg *msg, int fd)
{
	struct queued *q;

	if (r == NULL || r->sock == -1)
		goto done;
	if (r->queue_first == NULL && ipc_send(r->sock, msg, fd, false) == 0)
		goto done;
	if (r->queue_first == NULL && errno != EAGAIN && errno != ENOBUFS && errno != ETOOMANYREFS)
		goto done;	/* it is going; its death comes by SIGCHLD */
	if ((q = malloc(sizeof(*q))) == NULL) {
		/* It would wait for this message for ever: let a new one start from a clean state. */
		log_warn("router %ld: no memory for a message; killed", (long)r->pid);
		kill(r->pid, SIGKILL);
		goto done;
	}
	q->next = NULL;
	q->msg = *msg;
	q->fd = fd;
	if (r->queue_first == NULL)
		r->queue_first = q;
	else
		r->queue_last->next = q;
	r->queue_last = q;
	if (++r->nqueued > UNREAD_MAX + UNREAD_PER_WORKER * m.nprocs)
		router_distrust(r, "takes no messages");
	return;
done:
	if (fd != -1)
		close(fd);
}

static void
flush_queue(struct router *r)
{
	struct queued *q;

	while ((q = r->queue_first) != NULL) {
		if (r->sock != -1 && ipc_send(r->sock, &q->msg, q->fd, false) == -1 &&
		    (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS))
			return;
		r->queue_first = q->next;
		r->nqueued--;
		if (q->fd != -1)
			close(q->fd);
		free(q);
	}
}

/* A message with a text or a descriptor and nothing else. */
static void
tell_simple(struct router *r, enum msg_type type, int value, const char *text, int fd)
{
	struct msg msg;

	memset(&msg, 0, sizeof(msg));
	msg.type = type;
	msg.value = value;
	if (text != NULL)
		snprintf(msg.text, sizeof(msg.text), "%s", text);
	tell(r, &msg, fd);
}

static void
tell_worker(struct router *r, enum msg_type type, const struct proc *p, int value, const char *text, int fd)
{
	struct msg msg;

	memset(&msg, 0, sizeof(msg));
	msg.type = type;
	msg.worker = p->number;
	msg.pid = (int32_t)p->pid;
	msg.value = value;
	if (text != NULL)
		snprintf(msg.text, sizeof(msg.text), "%s", text);
	tell(r, &msg, fd);
}

/* An earlier router's worker, to the current one. */
static void
tell_take(const struct proc *p, enum take take)
{
	struct msg msg;

	memset(&msg, 0, sizeof(msg));
	msg.type = MSG_TAKE;
	msg.worker = p->number;
	msg.server = p->server != NULL ? p->server->number : 0;
	msg.pid = (int32_t)p->pid;
	msg.value = take;
	msg.pool = p->pool != NULL ? (uint32_t)p->pool->index : NO_POOL;
	msg.app = p->app != -1 ? (uint32_t)p->app : 0;
	snprintf(msg.text, sizeof(msg.text), "%s", p->name);
	tell(current, &msg, -1);
}

/* An app server, to a router that is to talk to it. */
static void
tell_server(struct router *r, struct proc *p)
{
	struct msg msg;

	memset(&msg, 0, sizeof(msg));
	msg.type = MSG_SERVER;
	msg.server = p->number;
	msg.pid = (int32_t)p->pid;
	msg.pool = p->pool != NULL ? (uint32_t)p->pool->index : NO_POOL;
	msg.app = p->app != -1 ? (uint32_t)p->app : 0;
	snprintf(msg.text, sizeof(msg.text), "%s", p->name);
	tell(r, &msg, p->error_fd);
	p->error_fd = -1;
}

/* Its pool's error log, opened, to the router that reads its standard error. */
static void
tell_error_log(struct router *r, const struct proc *p)
{
	int fd;

	if (r == NULL || p->pool == NULL || p->pool->error_log == NULL)
		return;
	if ((fd = spawn_error_log(p->pool, p->name)) != -1)
		tell_simple(r, MSG_ERROR_LOG, 0, p->name, fd);
}

/* ---- workers ----------------------------------------------------------------------------- */

static void
sooner(int64_t *next, int64_t due_ms)
{
	if (due_ms != 0 && (*next == 0 || due_ms < *next))
		*next = due_ms;
}

/* Ask a process to go. One that an app server has forked its router ends. */
static void
proc_stop(struct proc *p, int64_t now_ms)
{
	if (p->state != PROC_STARTING && p->state != PROC_RUNNING)
		return;
	p->state = PROC_STOPPING;
	if (p->kind == PROC_FORKED)
		return;
	kill(p->pid, SIGTERM);
	p->kill_ms = now_ms + p->patience_ms + (p->kind == PROC_SERVER ? SERVER_GRACE_MS : 0);
}

static void
stop_all(int64_t now_ms)
{
	int i;

	for (i = m.nprocs - 1; i >= 0; i--)
		proc_stop(m.procs[i], now_ms);
}

/* SIGKILL for a worker and all of its process group; for an app server and all of its session. */
static void
proc_kill(struct proc *p)
{
	if (p->kind == PROC_FORKED || p->state == PROC_KILLED)
		return;
	if (p->kind == PROC_SERVER)
		os_kill_session(p->pid);
	kill(p->pid, SIGKILL);
	kill(-p->pid, SIGKILL);
	p->state = PROC_KILLED;
}

/*
 * SIGKILL, with all that belongs to it, for those that had their time. Returns when the next one is due, or 0.
 *
 * Before that a worker gets a second SIGTERM. A program that finishes its request first, as PHP does, notes the signal and looks
 * at its note before it waits for a connection: if the signal comes between the two, it waits for ever. It often comes
 * just then, because such a worker has lost its last connection that moment.
 */
static int64_t
kill_overdue(int64_t now_ms)
{
	int64_t next = 0, again_ms;
	struct proc *p;
	int i;

	for (i = 0; i < m.nprocs; i++) {
		p = m.procs[i];
		if (p->state != PROC_STOPPING || p->kind == PROC_FORKED)
			continue;
		if (p->kill_ms <= now_ms) {
			log_warnx("pool %s: %s %ld: did not end within %.1fs of SIGTERM; killed", p->name, proc_kind(p), (long)p->pid,
			    (double)p->patience_ms / 1000);
			proc_kill(p);
			continue;
		}
		sooner(&next, p->kill_ms);
		if (p->kind != PROC_DIRECT || p->told_twice)
			continue;
		again_ms = p->kill_ms - p->patience_ms + (p->patience_ms < 2 * TERM_AGAIN_MS ? p->patience_ms / 2 : TERM_AGAIN_MS);
		if (again_ms <= now_ms) {
			kill(p->pid, SIGTERM);
			p->told_twice = true;
		} else {
			sooner(&next, again_ms);
		}
	}
	return next;
}

/* How many workers a pool has. */
static int
count_procs(const char *name)
{
	int i, n = 0;

	for (i = 0; i < m.nprocs; i++)
		n += m.procs[i]->kind != PROC_SERVER && strcmp(m.procs[i]->name, name) == 0;
	return n;
}

/* 0, or -1 with STEP: REASON in text, which is logged. */
static int
proc_start(struct proc *p, char *text, size_t size)
{
	const struct conf_app *app = p->pool->apps[p->app];
	char path[PATH_MAX + 16];
	struct spawn_error err;
	struct spawned sp;

	socket_path(p, path, sizeof(path));
	if (spawn_worker(conf, p->pool, app, p->name, path, &sp, &err) == -1) {
		snprintf(text, size, "%s: %s", err.step, err.reason);
		log_warnx("pool %s: cannot start FCGI process: %s", p->name, text);
		return -1;
	}
	p->pid = sp.pid;
	p->report_fd = sp.report_fd;
	p->error_fd = sp.error_fd;
	p->state = PROC_STARTING;
	p->fingerprint = conf_fingerprint(p->pool, app, p->name);
	p->patience_ms = p->pool->timeout_ms[TIMEOUT_KILL];
	p->cgroup = p->pool->cgroups != NULL;
	guard_add(p->pid, false);
	return 0;
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
		log_debug("pool %s: %s %ld: started %s", p->name, proc_kind(p), (long)p->pid, p->app_name);
		if (p->state == PROC_STARTING)
			p->state = PROC_RUNNING;
		if (p->kind == PROC_SERVER) {
			tell_error_log(current, p);
			return;
		}
		tell_error_log(p->router, p);
		tell_worker(p->router, MSG_STARTED, p, 0, NULL, p->error_fd);
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

/* An app server has ended, and with it all that it has forked. */
static void
server_exited(struct proc *s, int status)
{
	struct router *r;
	struct msg msg;
	int i;

	memset(&msg, 0, sizeof(msg));
	msg.type = MSG_SERVER_GONE;
	msg.server = s->number;
	msg.value = status;
	if (s->failed)
		snprintf(msg.text, sizeof(msg.text), "%s", s->text);
	for (r = m.routers; r != NULL; r = r->next)
		tell(r, &msg, -1);	/* one that does not know it has nothing to do */
	log_debug("pool %s: app server %ld: %s", s->name, (long)s->pid, log_wait_status(status));
	for (i = m.nprocs - 1; i >= 0; i--)
		if (m.procs[i]->server == s)
			proc_free(m.procs[i]);
	proc_free(s);
	clients_check();
}

static void
proc_exited(struct proc *p, int status)
{
	/* The report may have come together with the exit. */
	if (p->report_fd != -1)
		proc_report(p);
	if (p->kind == PROC_SERVER) {
		server_exited(p, status);
		return;
	}
	tell_worker(p->router, p->failed ? MSG_FAILED : MSG_EXITED, p, p->failed ? 0 : status, p->text, -1);
	if (current != NULL && p->router != current)
		tell_worker(current, MSG_EXITED, p, status, NULL, -1);	/* which counts it */
	log_debug("pool %s: worker %ld: %s", p->name, (long)p->pid, log_wait_status(status));
	proc_free(p);
	clients_check();
}

/* ---- the guard --------------------------------------------------------------------------------- */

/* In a forked child: let go of what is the master's alone. */
static void
close_own(void)
{
	struct queued *q;
	struct router *r;
	struct client *c;
	int i;

	close(signal_pipe[0]);
	close(signal_pipe[1]);
	close(m.lock_fd);
	if (m.control_fd != -1)
		close(m.control_fd);
	if (ready_fd != -1)
		close(ready_fd);
	if (m.guard_sock != -1)
		close(m.guard_sock);
	if (check_fd != -1)
		close(check_fd);
	for (r = m.routers; r != NULL; r = r->next) {
		if (r->sock != -1)
			close(r->sock);
		for (q = r->queue_first; q != NULL; q = q->next)
			if (q->fd != -1)
				close(q->fd);
	}
	for (c = m.clients; c != NULL; c = c->next)
		if (c->fd != -1)
			close(c->fd);
	for (i = 0; i < m.nprocs; i++) {
		if (m.procs[i]->report_fd != -1)
			close(m.procs[i]->report_fd);
		if (m.procs[i]->error_fd != -1)
			close(m.procs[i]->error_fd);
	}
}

static void
close_listeners(const struct conf *c)
{
	struct conf_listen *l;

	for (l = c->listens; l != NULL; l = l->next)
		if (l->fd != -1)
			close(l->fd);
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
	if ((fd = os_process_open(pid)) == -1 || ipc_send(m.guard_sock, &msg, fd, wait) == -1) {
		log_warn("guard %ld: process %ld; killed", (long)m.guard_pid, (long)pid);
		kill(m.guard_pid, SIGKILL);
	}
	if (fd != -1)
		close(fd);
}

static void
guard_start(void)
{
	struct router *r;
	int i, sv[2];

	guard_start_ms = 0;
	if (!guarded)
		return;
	guard_started_ms = os_now_ms();
	if (os_socketpair(SOCK_SEQPACKET, sv) == -1) {
		log_warn("guard: socketpair");
		guard_start_ms = guard_started_ms + GUARD_YOUNG_MS;
		return;
	}
	if ((m.guard_pid = fork()) == -1) {
		log_warn("guard: fork");
		guard_start_ms = guard_started_ms + GUARD_YOUNG_MS;
		m.guard_pid = 0;
		close(sv[0]);
		close(sv[1]);
		return;
	}
	if (m.guard_pid == 0) {
		close(sv[0]);
		close_own();
		close_listeners(conf);
		if (next_conf != NULL && next_conf != conf)
			close_listeners(next_conf);
		if (next_control_fd != -1)
			close(next_control_fd);
		guard_run(sv[1], log_fd);
	}
	close(sv[1]);
	m.guard_sock = sv[0];
	for (r = m.routers; r != NULL; r = r->next)
		guard_send(r->pid, true, true);
	for (i = 0; i < m.nprocs; i++)
		if (m.procs[i]->pid != 0)	/* not those that an app server has forked: they go with that */
			guard_send(m.procs[i]->pid, false, true);
}

static void
guard_add(pid_t pid, bool is_router)
{
	if (m.guard_sock != -1)
		guard_send(pid, is_router, false);
	else
		guard_start();		/* with this one among all */
}

/* It is not there to fail; but if it does, another one takes its place, a second later if it was young. */
static void
guard_exited(int status, int64_t now_ms)
{
	log_warnx("guard %ld: %s", (long)m.guard_pid, log_wait_status(status));
	close(m.guard_sock);
	m.guard_sock = -1;
	m.guard_pid = 0;
	if (now_ms - guard_started_ms >= GUARD_YOUNG_MS)
		guard_start();
	else
		guard_start_ms = guard_started_ms + GUARD_YOUNG_MS;
}

/* Everything has ended: let the guard see that, and end too. */
static void
guard_stop(void)
{
	guard_start_ms = 0;
	if (m.guard_pid == 0)
		return;
	close(m.guard_sock);
	m.guard_sock = -1;
	while (waitpid(m.guard_pid, NULL, 0) == -1 && errno == EINTR)
		;
}

/* After an upgrade the guard is of the program before: put one of ours in its place. */
static void
guard_replace(void)
{
	pid_t old_pid = m.guard_pid;
	int old_sock = m.guard_sock;

	m.guard_pid = 0;
	m.guard_sock = -1;
	guard_start();
	if (m.guard_pid == 0 && old_pid != 0) {
		m.guard_pid = old_pid;		/* better than none */
		m.guard_sock = old_sock;
		return;
	}
	if (old_pid == 0)
		return;
	/* Killed before it can take the end of its socket for our death. */
	kill(old_pid, SIGKILL);
	while (waitpid(old_pid, NULL, 0) == -1 && errno == EINTR)
		;
	close(old_sock);
}

/* ---- commands ------------------------------------------------------------------------------------ */

static void
say(const struct client *c, bool error, const char *text)
{
	struct msg msg;
	size_t len = strlen(text), n;
	int i;

	for (i = 0; c->fd != -1 && len > 0; i++, text += n, len -= n) {
		memset(&msg, 0, sizeof(msg));
		msg.type = MSG_SAY;
		msg.value = error;
		n = len < sizeof(msg.text) - 1 ? len : sizeof(msg.text) - 1;
		memcpy(msg.text, text, n);
		/* Nobody is waited for; who takes nothing gets no more. */
		if (i == SAY_MAX) {
			snprintf(msg.text, sizeof(msg.text), "\n... and more: see the log\n");
			ipc_send(c->fd, &msg, -1, false);
			return;
		}
		ipc_send(c->fd, &msg, -1, false);
	}
}

/* The command's end. text: what it says, a line or several; NULL: nothing. */
static void
client_done(struct client *c, int status, const char *text)
{
	struct msg msg;

	if (text != NULL && text[0] != '\0') {
		say(c, status != 0, text);
		if (text[strlen(text) - 1] != '\n')
			say(c, status != 0, "\n");
	}
	memset(&msg, 0, sizeof(msg));
	msg.type = MSG_DONE;
	msg.value = status;
	if (c->fd != -1) {
		ipc_send(c->fd, &msg, -1, false);
		close(c->fd);
	}
	c->fd = -1;
	c->waits = false;
}

/* The end of all that wait for this command, and whose it was. */
static void
clients_done(enum control_command command, int status, const char *text)
{
	struct client *c;

	for (c = m.clients; c != NULL; c = c->next)
		if (c->waits && c->begun && c->command == command)
			client_done(c, status, text);
}

static void
clients_begin(enum control_command command)
{
	struct client *c;

	for (c = m.clients; c != NULL; c = c->next)
		if (c->waits && c->command == command)
			c->begun = true;
}

/* Has zfpm retire got what it waits for? */
static void
clients_check(void)
{
	struct client *c;
	char text[POOL_NAME_LEN + 64];
	int i;

	for (c = m.clients; c != NULL; c = c->next) {
		if (!c->waits || c->command != CONTROL_RETIRE)
			continue;
		for (i = 0; i < m.nprocs; i++)
			if (m.procs[i]->kind != PROC_SERVER && m.procs[i]->number <= c->last_number && strcmp(m.procs[i]->name, c->pool) == 0)
				break;
		if (i < m.nprocs)
			continue;
		snprintf(text, sizeof(text), "pool %s: all workers have been replaced", c->pool);
		client_done(c, 0, text);
	}
}

static void
clients_sweep(void)
{
	struct client **cp, *c;

	for (cp = &m.clients; (c = *cp) != NULL; )
		if (c->fd == -1) {
			*cp = c->next;
			free(c);
		} else {
			cp = &c->next;
		}
}

/* ---- routers -------------------------------------------------------------------------------------- */

static void
router_close(struct router *r)
{
	if (r->sock != -1)
		close(r->sock);
	r->sock = -1;
	flush_queue(r);
}

static void
router_distrust(struct router *r, const char *why)
{
	log_warnx("router %ld: %s; killed", (long)r->pid, why);
	kill(r->pid, SIGKILL);
	router_close(r);
}

/* Is this descriptor one of the configuration's listeners? */
static bool
listening(const struct conf *c, int fd)
{
	const struct conf_listen *l;

	for (l = c->listens; l != NULL; l = l->next)
		if (l->fd == fd)
			return true;
	return false;
}

static bool
cgroups_wanted(const struct conf *c)
{
	int i;

	for (i = 0; i < c->npools; i++)
		if (c->pools[i]->cgroups != NULL)
			return true;
	return false;
}

/* Fork a router for this configuration; it becomes next_router. 0, or -1 with errno. */
static int
router_fork(struct conf *c, int log)
{
	struct conf_listen *l;
	struct status_info info;
	struct router *r;
	int sv[2], error, fd;

	if ((r = calloc(1, sizeof(*r))) == NULL)
		return -1;
	if (os_socketpair(SOCK_SEQPACKET, sv) == -1) {
		error = errno;
		free(r);
		errno = error;
		return -1;
	}
	if ((r->pid = fork()) == -1) {
		error = errno;
		close(sv[0]);
		close(sv[1]);
		free(r);
		errno = error;
		return -1;
	}
	if (r->pid != 0) {
		close(sv[1]);
		r->sock = sv[0];
		r->generation = ++m.generation;
		r->next = m.routers;
		m.routers = r;
		next_router = r;
		router_start_ms = 0;	/* a reload's takes the place of one that died, too */
		guard_add(r->pid, true);
		return 0;
	}

	/* In the child: nothing of the master's but the listening sockets, the log and our end. */
	close(sv[0]);
	close_own();
	if (next_control_fd != -1)
		close(next_control_fd);
	if (c != conf)
		for (l = conf->listens; l != NULL; l = l->next)
			if (l->fd != -1 && !listening(c, l->fd))
				close(l->fd);
	if (log != log_fd && log_fd > STDERR_FILENO)
		close(log_fd);
	log_init("router", c->log_target, log, c->log_level);
	if ((fd = open("/dev/null", O_RDWR)) == -1)
		fatal("/dev/null");
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	if (log != STDERR_FILENO)
		dup2(fd, STDERR_FILENO);
	close(fd);
	if (os_chroot(apps_dir) == -1 || chdir("/") == -1)
		fatal("router: chroot %s", apps_dir);
	if (os_set_groups(1, &router_gid) == -1 || setgid(router_gid) == -1 || setuid(router_uid) == -1)
		fatal("router: setuid");
	if (setuid(0) != -1 || seteuid(0) != -1)
		fatalx("router: root came back");
	memset(&info, 0, sizeof(info));
	info.master_pid = getppid();
	info.zfpm_start = m.zfpm_start;
	info.conf_start = c == conf ? conf_start : (int64_t)time(NULL);
	info.generation = m.generation + 1;
	router_run(c, sv[1], log, &info);
}

static void	 operation_failed(const char *text);

/* Begin with a router in the place of one that died, or of none. */
static void
begin_start(int64_t now_ms)
{
	router_start_ms = 0;
	if (operation == OP_NONE)
		operation = OP_START;
	next_conf = conf;
	next_log_fd = log_fd;
	next_control_fd = -1;
	if (router_fork(conf, log_fd) == -1) {
		log_warn("router: fork");
		router_start_ms = now_ms + ROUTER_BACKOFF_MAX_MS;
	}
}

/* Have an earlier router give to the current one what it can, through a socket of their own. */
static void
hand_over(struct router *from)
{
	int sv[2];

	if (from->sock == -1)
		return;
	if (os_socketpair(SOCK_SEQPACKET, sv) == -1) {
		/* Then it can only finish what it has. */
		log_warn("router %ld: socketpair", (long)from->pid);
		tell_simple(from, MSG_QUIT, 0, NULL, -1);
		from->told = from->released = true;
		return;
	}
	tell_simple(current, MSG_HEIR, 0, NULL, sv[0]);
	tell_simple(from, MSG_HANDOVER, 0, NULL, sv[1]);
	from->told = true;
	from->told_ms = os_now_ms();
}

static void	 operation_done(void);

/* Let the current router accept, as soon as it has been told of all that those before it had. */
static void
check_go(void)
{
	struct router *r;
	struct msg msg;

	if (current == NULL || gone)
		return;
	for (r = m.routers; r != NULL; r = r->next)
		if (r != current && r != next_router && r->sock != -1 && !r->released)
			return;
	memset(&msg, 0, sizeof(msg));
	msg.type = MSG_GO;
	msg.worker = m.last_number + 1;
	tell(current, &msg, -1);
	gone = true;
	operation_done();
}

/* A new configuration is in force from now on. */
static void
conf_commit(void)
{
	int i;

	listen_commit(next_conf, conf);
	if (next_control_fd != -1) {
		close(m.control_fd);
		if (strcmp(m.control_path, next_conf->control) != 0)
			unlink(m.control_path);
		m.control_fd = next_control_fd;
		free(m.control_path);
		if ((m.control_path = strdup(next_conf->control)) == NULL)
			fatal("control");
	}
	conf_free(conf);
	conf = next_conf;
	conf_start = (int64_t)time(NULL);
	for (i = 0; i < m.nprocs; i++)
		proc_resolve(m.procs[i]);
	forget_stamps();
	servers_check_files();
}

/* Lines go there from now on, ours and the guard's. */
static void
log_switch(int fd)
{
	struct msg msg;

	log_init("master", conf->log_target, fd, conf->log_level);
	if (fd == log_fd)
		return;
	if (log_fd > STDERR_FILENO)
		close(log_fd);
	log_fd = fd;
	if (m.guard_sock == -1 || fd == -1)
		return;
	memset(&msg, 0, sizeof(msg));
	msg.type = MSG_LOG;
	ipc_send(m.guard_sock, &msg, fd, false);
}

/* The next router has said that it lives: it is the current one. */
static void
commit(int64_t now_ms)
{
	struct router *r;
	struct proc *p;
	int i;

	if (next_conf != conf)
		conf_commit();
	log_switch(next_log_fd);
	current = next_router;
	next_router = NULL;
	next_control_fd = -1;
	gone = false;
	router_started_ms = now_ms;
	for (i = 0; i < m.nprocs; i++)
		if (m.procs[i]->kind == PROC_SERVER)
			tell_server(current, m.procs[i]);
	for (i = m.nprocs - 1; i >= 0; i--) {
		p = m.procs[i];
		if (p->kind == PROC_SERVER) {
			tell_error_log(current, p);
			continue;
		}
		if (p->kind == PROC_FORKED && p->router == NULL) {
			p->router = current;	/* it has to see its end */
			tell_take(p, TAKE_STOPPED);
			continue;
		}
		/* What has just been started comes to the new one at once. */
		if (p->state == PROC_STARTING && p->router != NULL && proc_unchanged(p)) {
			tell_worker(p->router, MSG_FAILED, p, 0, NULL, -1);
			p->router = current;
			tell_take(p, TAKE_STARTING);
		} else {
			tell_take(p, TAKE_ELSEWHERE);
			if (p->state == PROC_STARTING)
				proc_stop(p, now_ms);
		}
		if (p->kind == PROC_DIRECT)
			tell_error_log(current, p);
	}
	for (r = m.routers; r != NULL; r = r->next)
		if (r != current)
			hand_over(r);
	check_go();
}

/* A router has been reaped. Its workers hold requests that nobody can answer now. */
static void
router_exited(struct router *r, int status, int64_t now_ms)
{
	struct router **rp;
	bool left = r->released && WIFEXITED(status) && WEXITSTATUS(status) == 0;
	int i;

	if (state == MASTER_RUNNING && !left)
		log_warnx("router %ld: %s%s", (long)r->pid, log_wait_status(status), r == current ? "; starting another" : "");
	else
		log_debug("router %ld: %s", (long)r->pid, log_wait_status(status));
	router_close(r);
	for (rp = &m.routers; *rp != r; rp = &(*rp)->next)
		;
	*rp = r->next;
	for (i = m.nprocs - 1; i >= 0; i--)
		if (m.procs[i]->router == r) {
			m.procs[i]->router = NULL;
			proc_stop(m.procs[i], now_ms);
			if (m.procs[i]->kind == PROC_FORKED && current != NULL && current != r) {
				m.procs[i]->router = current;	/* it has to see its end */
				tell_take(m.procs[i], TAKE_STOPPED);
			}
		}
	if (r == next_router) {
		next_router = NULL;
		if (operation == OP_RELOAD && next_conf != conf)
			operation_failed("the new router could not begin: see the log");
		else if (state == MASTER_RUNNING)
			router_start_ms = now_ms + ROUTER_BACKOFF_MIN_MS;
	} else if (r == current) {
		current = NULL;
		if (now_ms - router_started_ms >= ROUTER_YOUNG_MS)
			router_backoff_ms = 0;
		/* One that has begun already takes its place. */
		if (state == MASTER_RUNNING && next_router == NULL)
			router_start_ms = now_ms + (router_backoff_ms > 0 ? router_backoff_ms : 1);
		router_backoff_ms = router_backoff_ms == 0 ? ROUTER_BACKOFF_MIN_MS : 2 * router_backoff_ms;
		if (router_backoff_ms > ROUTER_BACKOFF_MAX_MS)
			router_backoff_ms = ROUTER_BACKOFF_MAX_MS;
	}
	free(r);
	check_go();
}

/* ---- app servers ------------------------------------------------------------------------------------ */

/* The stamps of some apps, for a second. */
static struct {
	const struct conf_app *app;
	int64_t		 ms;
	uint64_t	 stamp;
} stamps[16];

static void
forget_stamps(void)
{
	memset(stamps, 0, sizeof(stamps));
}

static uint64_t
stamp_of(const struct proc *s)
{
	const struct conf_app *app = s->pool->apps[s->app];
	size_t i = ((uintptr_t)app >> 4) % (sizeof(stamps) / sizeof(stamps[0]));
	int64_t now_ms = os_now_ms();

	/* A chroot is a tenant's: root looks at nothing in there. */
	if (s->pool->chroot != NULL)
		return 0;
	if (stamps[i].app != app || now_ms - stamps[i].ms >= STAMP_MS) {
		stamps[i].app = app;
		stamps[i].ms = now_ms;
		stamps[i].stamp = spawn_stamp(app);
	}
	return stamps[i].stamp;
}

/* Has the program changed, or one of the files that it read? Then it forks no more. */
static void
server_check_files(struct proc *s)
{
	struct msg msg;
	int i;

	/* One whose settings have changed is not looked at: those may not even have a library now. */
	if (s->stale || !proc_unchanged(s) || stamp_of(s) == s->stamp)
		return;
	log_info("pool %s: app server %ld: its program or a file that it has read has changed; replacing it", s->name, (long)s->pid);
	s->stale = true;
	for (i = 0; i < m.nprocs; i++)
		if (m.procs[i]->server == s)
			m.procs[i]->stale = true;
	/* Idle ones that an earlier router still has are stopped when it gives them away. */
	memset(&msg, 0, sizeof(msg));
	msg.type = MSG_SERVER_STALE;
	msg.server = s->number;
	tell(current, &msg, -1);
}

/* The same for all: a pool whose workers are never too few asks for none. */
static void
servers_check_files(void)
{
	int i;

	for (i = 0; m.nservers > 0 && i < m.nprocs; i++)
		if (m.procs[i]->kind == PROC_SERVER)
			server_check_files(m.procs[i]);
}

/* The app server that forks workers of this pool and app; NULL: there is none. */
static struct proc *
server_find_for(const struct proc *p)
{
	struct proc *s;
	int i;

	for (i = 0; i < m.nprocs; i++) {
		s = m.procs[i];
		if (s->kind != PROC_SERVER || (s->state != PROC_STARTING && s->state != PROC_RUNNING) || s->pool != p->pool || s->app != p->app ||
		    strcmp(s->name, p->name) != 0 || !proc_unchanged(s))
			continue;
		server_check_files(s);
		if (!s->stale)
			return s;
	}
	return NULL;
}

/*
 * Patterns can make any number of pools, so app servers have a limit too: one for each configured pool, and as many as
 * workers beside. Above that the one that has been idle for longest goes. 0; -1: so many are on their way out already.
 */
static int
servers_make_room(void)
{
	int i, max = conf->npools + conf->max_workers;
	struct proc *s, *idle = NULL;

	if (m.nservers < max)
		return 0;
	for (i = 0; i < m.nprocs; i++) {
		s = m.procs[i];
		if (s->kind == PROC_SERVER && s->nforked == 0 && (s->state == PROC_STARTING || s->state == PROC_RUNNING) &&
		    (idle == NULL || s->idle_ms < idle->idle_ms))
			idle = s;
	}
	if (idle != NULL) {
		log_debug("pool %s: app server %ld: retired for another one", idle->name, (long)idle->pid);
		proc_stop(idle, os_now_ms());
	}
	return m.nservers < 2 * max ? 0 : -1;
}

/* Start one for this pool and app. NULL with STEP: REASON in text. */
static struct proc *
server_start(const struct proc *p, char *text, size_t size)
{
	struct proc *s;

	if (servers_make_room() == -1) {
		snprintf(text, size, "start: there are %d app servers already", m.nservers);
		log_warnx("pool %s: cannot start FCGI process: %s", p->name, text);
		return NULL;
	}
	if ((s = proc_new(&m)) == NULL || (s->name = strdup(p->name)) == NULL || (s->app_name = strdup(p->app_name)) == NULL) {
		log_warn("pool %s: app server", p->name);
		snprintf(text, size, "memory: Cannot allocate memory");
		if (s != NULL)
			proc_free(s);
		return NULL;
	}
	s->kind = PROC_SERVER;
	m.nservers++;
	s->number = ++m.last_server;
	s->pool = p->pool;
	s->app = p->app;
	s->stamp = stamp_of(s);
	s->idle_ms = os_now_ms();
	if (proc_start(s, text, size) == -1) {
		proc_free(s);
		return NULL;
	}
	tell_server(current, s);
	return s;
}

/* A worker that an app server is to fork: have the router ask that for it. 0, or -1 with STEP: REASON in text. */
static int
server_fork(struct proc *p, char *text, size_t size)
{
	struct proc *s;
	struct msg msg;

	if ((s = server_find_for(p)) == NULL && (s = server_start(p, text, size)) == NULL)
		return -1;
	p->kind = PROC_FORKED;
	p->state = PROC_RUNNING;
	p->server = s;
	s->nforked++;
	p->fingerprint = s->fingerprint;
	memset(&msg, 0, sizeof(msg));
	msg.type = MSG_FORK;
	msg.worker = p->number;
	msg.server = s->number;
	tell(p->router, &msg, -1);
	return 0;
}

/* The router says that a worker has ended, which its app server has told it. */
static void
forked_ended(struct proc *p, int status, int64_t now_ms)
{
	struct proc *s = p->server;

	if (current != NULL && p->router != current)
		tell_worker(current, MSG_EXITED, p, status, NULL, -1);	/* which counts it */
	proc_free(p);
	s->idle_ms = now_ms;
	clients_check();
}

/* Retire app servers without workers: those that fork no more, and those that had none for long. When the next one is due, or 0. */
static int64_t
servers_retire(int64_t now_ms)
{
	int64_t due_ms, next = 0;
	struct proc *s;
	int i;

	for (i = 0; m.nservers > 0 && i < m.nprocs; i++) {
		s = m.procs[i];
		if (s->kind != PROC_SERVER || s->nforked > 0 || (s->state != PROC_STARTING && s->state != PROC_RUNNING))
			continue;
		due_ms = proc_unchanged(s) ? s->idle_ms + s->pool->timeout_ms[TIMEOUT_APP_SERVER] : now_ms;
		if (due_ms <= now_ms) {
			log_debug("pool %s: app server %ld: retired", s->name, (long)s->pid);
			proc_stop(s, now_ms);
		} else if (next == 0 || due_ms < next) {
			next = due_ms;
		}
	}
	return next;
}

/* A wish for a worker. Every field is the router's word only: 0, or -1 if it is nonsense. */
static int
router_wants(struct router *r, const struct msg *msg)
{
	const struct conf_pool *pool;
	char text[TEXT_LEN];
	struct proc *p;
	struct proc none = { .number = msg->worker };

	if (r->told || (state != MASTER_RUNNING && r != current && r != next_router)) {
		/* It did not know yet that there is another one, or is of the program before an upgrade that the end of zfpm has overtaken. */
		tell_worker(r, MSG_FAILED, &none, 0, NULL, -1);
		return 0;
	}
	if (r != current || !gone)
		return -1;
	if (msg->worker != m.last_number + 1)	/* one after the other, so that they last */
		return -1;
	if (memchr(msg->text, '\0', sizeof(msg->text)) == NULL || !conf_name_ok(msg->text))
		return -1;
	/* The master alone decides which pool a name means. */
	if ((pool = conf_find(conf, msg->text)) == NULL || (uint32_t)pool->index != msg->pool)
		return -1;
	if (msg->app >= (uint32_t)pool->napps)
		return -1;
	/* It knows of all that there are until it has been told of their exit, so it never asks for too many. */
	if (m.nprocs - m.nservers >= conf->max_workers || count_procs(msg->text) >= pool->max_workers)
		return -1;

	m.last_number = msg->worker;
	if (state == MASTER_STOPPING) {
		tell_worker(r, MSG_FAILED, &none, 0, "start: zfpm is stopping", -1);
		return 0;
	}
	if ((p = proc_new(&m)) == NULL || (p->name = strdup(msg->text)) == NULL ||
	    (p->app_name = strdup(pool->apps[msg->app]->name)) == NULL) {
		log_warn("pool %s: cannot start FCGI process", msg->text);
		tell_worker(r, MSG_FAILED, &none, 0, "memory: Cannot allocate memory", -1);
		if (p != NULL)
			proc_free(p);
		return 0;
	}
	p->number = msg->worker;
	p->router = r;
	p->pool = pool;
	p->app = (int)msg->app;
	if ((pool->apps[msg->app]->fork_server ? server_fork(p, text, sizeof(text)) : proc_start(p, text, sizeof(text))) == -1) {
		tell_worker(r, MSG_FAILED, p, 0, text, -1);
		proc_free(p);
	}
	return 0;
}

/* An earlier router has sent the descriptors of an idle worker to the current one: whose is it now? */
static void
router_gives(struct router *r, uint32_t number, int64_t now_ms)
{
	struct proc *p = proc_by_number(number);

	if (p == NULL || p->router != r)
		return;
	p->router = current;
	if (current == NULL || (p->state == PROC_RUNNING && !proc_unchanged(p)))
		proc_stop(p, now_ms);
	if (current != NULL)
		tell_take(p, p->state == PROC_RUNNING ? TAKE_IDLE : p->fingerprint == RETIRED ? TAKE_RETIRED : TAKE_STOPPED);
}

/* Read what a router has to say. Returns whether there may be more. */
static bool
router_read(struct router *r, int64_t now_ms)
{
	struct proc *p;
	struct msg msg;
	int fd, i, n;

	/* So many at a time: it shall not keep us from everything else. */
	for (i = 0; i < MESSAGE_BATCH && r->sock != -1; i++) {
		if ((n = ipc_recv(r->sock, &msg, &fd)) == -1)
			break;
		if (fd != -1) {
			close(fd);
			router_distrust(r, "sent a descriptor");
			return false;
		}
		if (n == 0) {
			/* On its way out; if it only closed its end, nobody would look after it any more. */
			kill(r->pid, SIGKILL);
			router_close(r);
			return false;
		}
		switch (msg.type) {
		case MSG_PONG:
			r->pings = 0;
			if (r == next_router && state == MASTER_RUNNING)
				commit(now_ms);
			break;
		case MSG_SPAWN:
			if (router_wants(r, &msg) == -1) {
				router_distrust(r, "asked for a worker that it can not have");
				return false;
			}
			break;
		case MSG_STOP:
			/* Unknown is no offence: it may have died while the message was under way. */
			if ((p = proc_by_number(msg.worker)) == NULL || p->router != r || p->kind != PROC_DIRECT)
				break;
			p->whole |= msg.value == 2;
			if (msg.value == 1)
				proc_kill(p);
			else
				proc_stop(p, now_ms);
			break;
		case MSG_ENDED:
			if ((p = proc_by_number(msg.worker)) != NULL && p->router == r && p->kind == PROC_FORKED)
				forked_ended(p, msg.value, now_ms);
			break;
		case MSG_END_SERVER:
			if ((p = server_by_number(msg.server)) == NULL || (r != current && !r->told))
				break;
			p->stale = true;
			if (msg.value != 0)
				proc_kill(p);
			break;
		case MSG_GIVE:
			if (!r->told) {
				router_distrust(r, "gave a worker away");
				return false;
			}
			router_gives(r, msg.worker, now_ms);
			break;
		case MSG_RELEASED:
			if (!r->told) {
				router_distrust(r, "let go of everything");
				return false;
			}
			/* Once more: the current one took nothing for a while. They may try again, but not all the time. */
			if (r->released && current != NULL && now_ms - r->told_ms >= RETRY_MS)
				hand_over(r);
			r->released = true;
			check_go();
			break;
		default:
			router_distrust(r, "sent an unknown message");
			return false;
		}
	}
	if (r->sock == -1 || errno == EAGAIN || i == MESSAGE_BATCH)
		return r->sock != -1 && i == MESSAGE_BATCH;
	if (errno == ECONNRESET)	/* gone, with messages of ours unread */
		router_close(r);
	else
		router_distrust(r, "sent a message of a wrong size");
	return false;
}

/* After an upgrade: a router of the program before, which speaks of a configuration that nobody knows any more, until it is told. */
static bool
is_foreign(const struct router *r)
{
	return operation == OP_UPGRADE && r != next_router && !r->told;
}

static void
routers_ping(int64_t now_ms)
{
	struct router *r, *next;
	char text[96];

	if (now_ms < next_ping_ms)
		return;
	next_ping_ms = now_ms + PING_MS;
	servers_check_files();
	for (r = m.routers; r != NULL; r = next) {
		next = r->next;
		if (r->sock == -1 || is_foreign(r))
			continue;
		if (r->pings == PINGS_UNANSWERED)
			router_distrust(r, "has given no sign of life for 30s");
		else if (r->told && !r->released && now_ms - r->told_ms >= RELEASE_MS)
			router_distrust(r, "has not handed over within 30s");	/* the current one waits for that */
		else if (r->pings++ == 0)
			tell_simple(r, MSG_PING, 0, NULL, -1);	/* one under way is enough */
	}
	if (m.nprocs - m.nservers != told_workers && state == MASTER_RUNNING) {
		snprintf(text, sizeof(text), "STATUS=%d pools configured, %d workers", conf->npools, m.nprocs - m.nservers);
		os_notify(text);
		told_workers = m.nprocs - m.nservers;
	}
}

/* ---- reload ---------------------------------------------------------------------------------------- */

/* Open what lines go to. Returns the descriptor (-1 is one too: see log_init()), or -2 with the reason in err. */
static int
open_log(const struct conf *c, char *err, size_t size)
{
	int fd;

	switch (c->log_target) {
	case LOG_TO_STDERR:
		return STDERR_FILENO;
	case LOG_TO_SYSLOG:
		return log_syslog();
	case LOG_TO_FILE:
		break;
	}
	/* Without waiting, if it is a pipe that nobody reads. */
	fd = open(c->log_file, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0640);
	if (fd != -1)
		return fd;
	snprintf(err, size, "log %s: %s", c->log_file, strerror(errno));
	return -2;
}

/* Every line of text to the log, which has its own line ends. */
static void
log_lines(const char *what, const char *text)
{
	const char *end;

	for (; *text != '\0'; text = *end != '\0' ? end + 1 : end) {
		end = text + strcspn(text, "\n");
		log_warnx("%s: %.*s", what, (int)(end - text), text);
	}
}

static const char *
operation_name(void)
{
	return operation == OP_RELOAD ? "reload" : "upgrade";
}

static enum control_command
operation_command(void)
{
	return operation == OP_RELOAD ? CONTROL_RELOAD : CONTROL_UPGRADE;
}

static void
notify_ready(void)
{
	char text[128];

	snprintf(text, sizeof(text), "READY=1\nSTATUS=%d pools configured, %d workers", conf->npools, m.nprocs - m.nservers);
	os_notify(text);
	told_workers = m.nprocs - m.nservers;
}

static void	 unprepare(void);

/* A reload or upgrade has failed, and everything is as before. */
static void
operation_failed(const char *text)
{
	log_lines(operation_name(), text);
	log_warnx("%s: failed; nothing has changed", operation_name());
	clients_done(operation_command(), 1, text);
	if (operation == OP_RELOAD)
		unprepare();
	/* A router that was begun during the check goes on beginning. */
	if (operation == OP_CHECK && next_router != NULL) {
		operation = OP_START;
		notify_ready();
		return;
	}
	operation = OP_NONE;
	notify_ready();
	/* A router that died meanwhile waits for its successor. */
	if (current == NULL && state == MASTER_RUNNING && router_start_ms == 0)
		router_start_ms = os_now_ms() + 1;
}

/* The current router accepts. */
static void
operation_done(void)
{
	char text[128];
	int fd;

	switch (operation) {
	case OP_NONE:
	case OP_CHECK:
		return;
	case OP_START:
		notify_ready();
		if (ready_fd == -1)
			break;
		/* Whoever started us has seen all there was to see: let go of his terminal. */
		if ((fd = open("/dev/null", O_RDWR | O_CLOEXEC)) != -1) {
			dup2(fd, STDERR_FILENO);
			close(fd);
		}
		if (write(ready_fd, "", 1) != 1)
			log_warn("detach");
		close(ready_fd);
		ready_fd = -1;
		break;
	case OP_RELOAD:
	case OP_UPGRADE:
		snprintf(text, sizeof(text), "%s: done: %d pools, %d apps, %d workers go on", operation_name(), conf->npools, conf->napps, m.nprocs - m.nservers);
		if (operation == OP_UPGRADE)
			log_info("upgrade: version " ZFPM_VERSION " is running");
		log_info("%s", text);
		clients_done(operation_command(), 0, text);
		notify_ready();
		break;
	}
	operation = OP_NONE;
	next_conf = NULL;
}

/* Give back what prepare() has made. */
static void
unprepare(void)
{
	if (next_conf != NULL && next_conf != conf) {
		listen_undo(next_conf, conf);
		if (next_control_fd != -1) {
			close(next_control_fd);
			if (strcmp(m.control_path, next_conf->control) != 0)
				unlink(next_conf->control);
		}
		if (next_log_fd > STDERR_FILENO && next_log_fd != log_fd)
			close(next_log_fd);
		conf_free(next_conf);
	}
	next_conf = NULL;
	next_control_fd = -1;
	next_log_fd = log_fd;
}

/*
 * Read the configuration anew, and open what it needs: next_conf, next_log_fd, next_control_fd. Returns NULL; or what is
 * wrong, the caller's to free, and unprepare() is next.
 */
static char *
prepare(void)
{
	char err[512] = "", *text = NULL;
	size_t size = 0;
	FILE *errors;

	next_conf = NULL;
	next_log_fd = log_fd;
	next_control_fd = -1;
	if ((errors = open_memstream(&text, &size)) == NULL)
		return strdup("no memory");
	next_conf = conf_load(start->file, false, errors);
	if (fclose(errors) == EOF || text == NULL) {
		free(text);
		return strdup("no memory");
	}
	if (next_conf == NULL)
		return text;
	free(text);
	if (strcmp(next_conf->run_dir, conf->run_dir) != 0)
		snprintf(err, sizeof(err), "%s: run_dir can not change while zfpm runs (from %s to %s)", start->file, conf->run_dir, next_conf->run_dir);
	else if (strcmp(next_conf->router_user, conf->router_user) != 0)
		snprintf(err, sizeof(err), "%s: router_user can not change while zfpm runs (from %s to %s)", start->file, conf->router_user,
		    next_conf->router_user);
	else if (listen_open(next_conf, conf, err, sizeof(err)) == 0)
		next_log_fd = open_log(next_conf, err, sizeof(err));
	if (err[0] == '\0' && strcmp(next_conf->control, m.control_path) != 0)
		next_control_fd = control_listen(next_conf->control, err, sizeof(err));
	return err[0] != '\0' ? strdup(err) : NULL;
}

static void
begin_reload(void)
{
	char err[512], *text;

	operation = OP_RELOAD;
	want_reload = false;
	clients_begin(CONTROL_RELOAD);
	log_info("reload: %s", start->file);
	os_notify_reloading();
	if ((text = prepare()) == NULL) {
		if (cgroups_wanted(next_conf) && cgroup_init(err, sizeof(err)) == -1)
			log_warnx("cgroup: %s", err);	/* the workers that need one are not started, and say so */
		if (router_fork(next_conf, next_log_fd) == 0)
			return;
		snprintf(err, sizeof(err), "router: fork: %s", strerror(errno));
		text = strdup(err);
	}
	operation_failed(text != NULL ? text : "no memory");
	free(text);
}

/* ---- upgrade ----------------------------------------------------------------------------------------- */

/* Ask the installed program what it thinks of the configuration, and of following us. */
static void
begin_upgrade(int64_t now_ms)
{
	char value[16], *argv[] = { (char *)(uintptr_t)start->binary, "-t", "-c", (char *)(uintptr_t)start->file, NULL };
	struct spawn_error err;
	char text[sizeof(err.reason) + 64];
	pid_t master = getpid();
	int fd[2];

	operation = OP_CHECK;
	want_upgrade = false;
	clients_begin(CONTROL_UPGRADE);
	log_info("upgrade: asking %s", start->binary);
	os_notify_reloading();
	check_len = 0;
	if (spawn_check_command(start->binary, 0, &err) == -1) {
		snprintf(text, sizeof(text), "%s: %s", err.step, err.reason);
		operation_failed(text);
		return;
	}
	if (os_pipe(fd) == -1) {
		operation_failed(strerror(errno));
		return;
	}
	if ((check_pid = fork()) == -1) {
		check_pid = 0;
		snprintf(text, sizeof(text), "fork: %s", strerror(errno));
		close(fd[0]);
		close(fd[1]);
		operation_failed(text);
		return;
	}
	if (check_pid == 0) {
		os_die_with_parent(master, SIGKILL);
		dup2(fd[1], STDOUT_FILENO);
		dup2(fd[1], STDERR_FILENO);
		os_close_from(STDERR_FILENO + 1);
		spawn_reset_signals();
		snprintf(value, sizeof(value), "%d", HANDOVER_VERSION);
		setenv("ZFPM_UPGRADE", value, 1);
		execv(start->binary, argv);
		dprintf(STDERR_FILENO, "%s: %s\n", start->binary, strerror(errno));
		_exit(1);
	}
	close(fd[1]);
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	check_fd = fd[0];
	check_end_ms = now_ms + CHECK_MS;
}

/* It agrees: become it. Returns only if that fails. */
static void
upgrade_exec(void)
{
	char value[16], text[PATH_MAX + 64], *wrong;
	sigset_t all, before;
	int fd, i;

	/* What the next program could not open would be the end of it, and of everything. */
	wrong = prepare();
	unprepare();
	if (wrong != NULL) {
		operation_failed(wrong);
		free(wrong);
		return;
	}
	if ((fd = upgrade_save(&m, conf)) == -1) {
		snprintf(text, sizeof(text), "state: %s", strerror(errno));
		operation_failed(text);
		return;
	}
	/* A signal between the two programs waits for the handlers of the next one. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	snprintf(value, sizeof(value), "%d", fd);
	setenv("ZFPM_STATE", value, 1);
	log_info("upgrade: executing %s", start->binary);
	execv(start->binary, start->argv);
	i = errno;
	unsetenv("ZFPM_STATE");
	upgrade_undo(&m, conf, fd);
	sigprocmask(SIG_SETMASK, &before, NULL);
	snprintf(text, sizeof(text), "exec %s: %s", start->binary, strerror(i));
	operation_failed(text);
}

/* Read what the check says; when it has ended and said all, go on with its verdict. */
static void
check_read(int64_t now_ms)
{
	char rest[256];
	ssize_t n;

	while (check_fd != -1) {
		if (check_len < CHECK_TEXT - 1)
			n = read(check_fd, check_text + check_len, CHECK_TEXT - 1 - check_len);
		else
			n = read(check_fd, rest, sizeof(rest));
		if (n > 0) {
			if (check_len < CHECK_TEXT - 1)
				check_len += (size_t)n;
			continue;
		}
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 && errno == EAGAIN && check_pid != 0 && now_ms < check_end_ms)
			return;
		close(check_fd);
		check_fd = -1;
	}
	if (check_pid != 0 || operation != OP_CHECK)	/* it has not ended, or zfpm is stopping */
		return;
	check_text[check_len] = '\0';
	if (check_status != 0 || strstr(check_text, UPGRADE_WORD "\n") == NULL) {
		if (check_status == 0)
			snprintf(check_text, sizeof(check_text), "%s -t does not say '" UPGRADE_WORD "': this is no zfpm that can take over", start->binary);
		else if (check_len == 0)
			snprintf(check_text, sizeof(check_text), "%s -t %s", start->binary, log_wait_status(check_status));
		operation_failed(check_text);
		return;
	}
	if (next_router != NULL)
		return;		/* it has to begin first */
	/* What is still to be told to a router would be lost. */
	for (struct router *r = m.routers; r != NULL; r = r->next) {
		if (r->queue_first == NULL)
			continue;
		if (now_ms >= check_end_ms) {
			snprintf(check_text, sizeof(check_text), "router %ld takes no messages", (long)r->pid);
			operation_failed(check_text);
		}
		return;
	}
	upgrade_exec();
}

static void
check_overdue(int64_t now_ms)
{
	if (operation != OP_CHECK)
		return;
	if (check_pid != 0 && check_end_ms <= now_ms) {
		kill(check_pid, SIGKILL);
		check_end_ms = now_ms + CHECK_MS;
		log_warnx("upgrade: %s -t did not end within %ds; killed", start->binary, CHECK_MS / 1000);
	}
	check_read(now_ms);
}

/* ---- reopen, retire, stop ------------------------------------------------------------------------------ */

/* Log files anew, after logrotate has renamed them. Returns 0, or -1 with the reason in err. */
static int
reopen(char *err, size_t size)
{
	struct router *r;
	int fd, i, next;

	if ((fd = open_log(conf, err, size)) == -2) {
		log_warnx("reopen: %s", err);
		return -1;
	}
	/* A router that begins may have a log of its own, which will be ours. */
	if (next_log_fd == log_fd) {
		next_log_fd = fd;
	} else if ((next = open_log(next_conf, err, size)) == -2) {
		log_warnx("reopen: %s", err);
	} else if (next != next_log_fd) {
		if (next_log_fd > STDERR_FILENO)
			close(next_log_fd);
		next_log_fd = next;
	}
	if (fd != log_fd)
		log_switch(fd);
	for (r = m.routers; r != NULL; r = r->next)
		if ((next = r == next_router ? next_log_fd : log_fd) > STDERR_FILENO)
			tell_simple(r, MSG_LOG, 0, NULL, fcntl(next, F_DUPFD_CLOEXEC, 0));
	for (i = 0; i < m.nprocs; i++)
		tell_error_log(m.procs[i]->kind == PROC_SERVER ? current : m.procs[i]->router, m.procs[i]);
	log_info("reopen: done");
	return 0;
}

static void
begin_quit(enum master_state to, int64_t now_ms)
{
	struct router *r;
	int i;

	if (to <= state)
		return;
	state = to;
	os_notify("STOPPING=1");
	log_info("%s", to == MASTER_QUITTING ? "stopping when the running requests are done" : "stopping");
	if (operation == OP_RELOAD || operation == OP_CHECK || operation == OP_UPGRADE)
		clients_done(operation_command(), 1, "zfpm is stopping");
	if (check_pid != 0)
		kill(check_pid, SIGKILL);	/* nobody waits for its answer */
	operation = OP_NONE;
	router_start_ms = 0;
	listen_close(conf);
	if (next_conf != NULL && next_conf != conf)
		listen_close(next_conf);
	for (r = m.routers; r != NULL; r = r->next)
		tell_simple(r, MSG_QUIT, to == MASTER_STOPPING, NULL, -1);
	if (to != MASTER_STOPPING)
		return;
	/* All that runs, and which worker still has a script only its router knows. */
	for (i = 0; i < m.nprocs; i++)
		m.procs[i]->whole = m.procs[i]->kind == PROC_DIRECT;
	stop_all(now_ms);
}

/* What a command asks for. fd: a descriptor that came with it, ours to close, or -1. */
static void
client_command(struct client *c, struct msg *msg, int fd, int64_t now_ms)
{
	char err[512];
	struct router *r;
	int i;

	msg->text[sizeof(msg->text) - 1] = '\0';
	c->command = (enum control_command)msg->value;
	c->waits = true;
	if (state != MASTER_RUNNING && c->command != CONTROL_STATUS && c->command != CONTROL_STOP && c->command != CONTROL_QUIT) {
		client_done(c, 1, "zfpm is stopping");
		goto out;
	}
	switch (c->command) {
	case CONTROL_STATUS:
		if (msg->text[0] != '\0' && (!conf_name_ok(msg->text) || conf_find(conf, msg->text) == NULL)) {
			snprintf(err, sizeof(err), "zfpm: no pool is called '%s'", msg->text);
			client_done(c, 1, err);
		} else if (current == NULL || current->sock == -1) {
			client_done(c, 1, "zfpm: there is no router now; see the log");
		} else {
			tell_simple(current, MSG_STATUS, (int)msg->app, msg->text, fd);
			fd = -1;
			client_done(c, 0, NULL);
		}
		break;
	case CONTROL_RELOAD:
		want_reload = true;
		break;
	case CONTROL_UPGRADE:
		want_upgrade = true;
		break;
	case CONTROL_REOPEN:
		err[0] = '\0';
		if (reopen(err, sizeof(err)) == 0)
			client_done(c, 0, "reopen: done");
		else
			client_done(c, 1, err);
		break;
	case CONTROL_STOP:
		begin_quit(MASTER_STOPPING, now_ms);
		break;
	case CONTROL_QUIT:
		begin_quit(MASTER_QUITTING, now_ms);
		break;
	case CONTROL_RETIRE:
		if (!conf_name_ok(msg->text) || conf_find(conf, msg->text) == NULL) {
			snprintf(err, sizeof(err), "zfpm: no pool is called '%s'", msg->text);
			client_done(c, 1, err);
			break;
		}
		log_info("pool %s: replacing its workers", msg->text);
		snprintf(c->pool, sizeof(c->pool), "%.*s", POOL_NAME_LEN, msg->text);
		c->last_number = m.last_number;
		/* One that is on its way from one router to the next both overlook: it shall not be fit for that (proc_unchanged()). */
		for (i = 0; i < m.nprocs; i++)
			if (strcmp(m.procs[i]->name, c->pool) == 0)
				m.procs[i]->fingerprint = RETIRED;	/* of app servers too: they fork no more */
		for (r = m.routers; r != NULL; r = r->next)
			tell_simple(r, MSG_RETIRE, 0, c->pool, -1);
		clients_check();
		break;
	default:
		client_done(c, 1, "zfpm: this command is not known to the zfpm that runs");
		break;
	}
out:
	if (fd != -1)
		close(fd);
}

static void
client_ready(struct client *c, int64_t now_ms)
{
	struct msg msg;
	int fd, n;

	if ((n = ipc_recv(c->fd, &msg, &fd)) == -1 && errno == EAGAIN)
		return;
	if (n != 1 || msg.type != MSG_COMMAND || c->waits) {
		/* It has left, or speaks out of turn. What it began goes on. */
		if (n == 1 && fd != -1)
			close(fd);
		close(c->fd);
		c->fd = -1;
		c->waits = false;
		return;
	}
	client_command(c, &msg, fd, now_ms);
}

static void
client_accept(void)
{
	struct client *c;
	int fd;

	while ((fd = control_accept(m.control_fd)) != -1) {
		if ((c = calloc(1, sizeof(*c))) == NULL) {
			close(fd);
			return;
		}
		c->fd = fd;
		c->next = m.clients;
		m.clients = c;
	}
	if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
		log_warn("control");
		control_ms = os_now_ms() + CONTROL_PAUSE_MS;
	}
}

/* ---- the whole -------------------------------------------------------------------------------- */

/* Reap everything that has ended. */
static void
reap(int64_t now_ms)
{
	struct router *r;
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
		 * What a script has put into the background on purpose survives an ordinary end. That of one that was overdue
		 * is none, even if it exits by itself: fcgiwrap does, and leaves the script that it was to end.
		 */
		p = proc_by_pid(si.si_pid);
		if (p != NULL && (si.si_code != CLD_EXITED || p->state == PROC_KILLED || p->whole)) {
			kill(-si.si_pid, SIGKILL);
			if (p->kind == PROC_SERVER)
				os_kill_session(si.si_pid);
		}
		for (r = m.routers; r != NULL && r->pid != si.si_pid; r = r->next)
			;
		/* Its last words count: a worker that it has given away is not its own any more. */
		while (r != NULL && r->sock != -1 && router_read(r, now_ms))
			;
		if (waitpid(si.si_pid, &status, WNOHANG) != si.si_pid)
			break;
		if (p != NULL) {
			proc_exited(p, status);
		} else if (r != NULL) {
			router_exited(r, status, now_ms);
		} else if (si.si_pid == m.guard_pid) {
			guard_exited(status, now_ms);
		} else if (si.si_pid == check_pid) {
			check_pid = 0;
			check_status = status;
			if (operation == OP_CHECK)
				check_read(now_ms);
		}
	}
}

static void
read_signals(int64_t now_ms)
{
	char buf[64], err[512];
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
				want_reload = true;
				break;
			case SIGUSR1:
				reopen(err, sizeof(err));
				break;
			case SIGUSR2:
				want_upgrade = true;
				break;
			case SIGCHLD:
				break;
			}
	reap(now_ms);
}

static void
watch(int fd, short events, enum watch_kind kind, void *owner)
{
	void *grown;
	int size;

	if (fd == -1)
		return;
	if (npfds == pfds_size) {
		size = pfds_size + 256;
		if ((grown = realloc(pfds, (size_t)size * sizeof(*pfds))) == NULL)
			fatal("poll set");
		pfds = grown;
		if ((grown = realloc(watches, (size_t)size * sizeof(*watches))) == NULL)
			fatal("poll set");
		watches = grown;
		pfds_size = size;
	}
	pfds[npfds].fd = fd;
	pfds[npfds].events = events;
	pfds[npfds].revents = 0;
	watches[npfds].kind = kind;
	watches[npfds++].owner = owner;
}

/* When the master has to look again though nothing happens; 0: never. */
static int64_t
next_due(int64_t now_ms)
{
	int64_t next = servers_retire(now_ms);

	sooner(&next, kill_overdue(now_ms));
	if (m.routers != NULL)
		sooner(&next, next_ping_ms);
	sooner(&next, router_start_ms);
	sooner(&next, router_kill_ms);
	sooner(&next, next_sweep_ms);
	sooner(&next, guard_start_ms);
	sooner(&next, control_ms);
	if (watchdog_ms != 0)
		sooner(&next, next_watchdog_ms);
	if (operation == OP_CHECK)
		sooner(&next, check_end_ms);
	return next;
}

static void
timers_ready(int64_t now_ms)
{
	routers_ping(now_ms);
	check_overdue(now_ms);
	if (control_ms != 0 && control_ms <= now_ms)
		control_ms = 0;
	if (watchdog_ms != 0 && next_watchdog_ms <= now_ms) {
		os_notify("WATCHDOG=1");
		next_watchdog_ms = now_ms + watchdog_ms;
	}
	if (next_sweep_ms != 0 && next_sweep_ms <= now_ms)
		next_sweep_ms = cgroup_sweep() > 0 ? now_ms + CGROUP_SWEEP_MS : 0;
	if (guard_start_ms != 0 && guard_start_ms <= now_ms)
		guard_start();
	if (state == MASTER_RUNNING) {
		if (router_start_ms != 0 && router_start_ms <= now_ms && next_router == NULL)
			begin_start(now_ms);
		if (operation == OP_NONE && want_reload)
			begin_reload();
		if (operation == OP_NONE && want_upgrade)
			begin_upgrade(now_ms);
		return;
	}
	if (m.routers == NULL && m.nprocs > 0)
		stop_all(now_ms);
	if (state == MASTER_STOPPING && m.routers != NULL && m.nprocs == 0) {
		if (router_kill_ms == 0)
			router_kill_ms = now_ms + ROUTER_GRACE_MS;
		else if (router_kill_ms <= now_ms)
			for (struct router *r = m.routers; r != NULL; r = r->next)
				kill(r->pid, SIGKILL);
	}
}

/* Wait for whatever comes first, and see to it. */
static void
turn(void)
{
	int64_t now_ms = os_now_ms(), next;
	struct router *r;
	struct client *c;
	short revents;
	int i, timeout;

	npfds = 0;
	watch(signal_pipe[0], POLLIN, WATCH_SIGNAL, NULL);
	watch(control_ms == 0 ? m.control_fd : -1, POLLIN, WATCH_CONTROL, NULL);
	watch(check_fd, POLLIN, WATCH_CHECK, NULL);
	for (r = m.routers; r != NULL; r = r->next)
		if (!is_foreign(r))
			watch(r->sock, (short)(POLLIN | (r->queue_first != NULL ? POLLOUT : 0)), WATCH_ROUTER, r);
	for (c = m.clients; c != NULL; c = c->next)
		watch(c->fd, POLLIN, WATCH_CLIENT, c);
	for (i = 0; i < m.nprocs; i++)
		watch(m.procs[i]->report_fd, POLLIN, WATCH_PROC, m.procs[i]);

	next = next_due(now_ms);
	timeout = next == 0 ? -1 : next <= now_ms ? 0 : next - now_ms > INT_MAX ? INT_MAX : (int)(next - now_ms);
	if (poll(pfds, (nfds_t)npfds, timeout) == -1) {
		if (errno != EINTR)
			fatal("poll");
		return;
	}
	now_ms = os_now_ms();

	/* From the end: reports before exits, so that a failed start is told with its reason. Nothing in the set is freed before signals. */
	for (i = npfds - 1; i >= 0; i--) {
		if ((revents = pfds[i].revents) == 0)
			continue;
		switch (watches[i].kind) {
		case WATCH_PROC:
			proc_report(watches[i].owner);
			break;
		case WATCH_CLIENT:
			client_ready(watches[i].owner, now_ms);
			break;
		case WATCH_ROUTER:
			r = watches[i].owner;
			if ((revents & POLLOUT) != 0)
				flush_queue(r);
			if ((revents & ~POLLOUT) != 0 && r->sock != -1)
				router_read(r, now_ms);
			break;
		case WATCH_CHECK:
			check_read(now_ms);
			break;
		case WATCH_CONTROL:
			client_accept();
			break;
		case WATCH_SIGNAL:
			read_signals(now_ms);
			break;
		}
	}
	timers_ready(now_ms);
	clients_sweep();
}

/* Only one zfpm at a time may own a run_dir: hold a lock on its pid file. */
static void
lock_run_dir(void)
{
	char path[PATH_MAX], pid[32];
	struct flock lock;

	if (snprintf(path, sizeof(path), "%s/zfpm.pid", conf->run_dir) >= (int)sizeof(path))
		fatalx("run_dir: too long");
	if ((m.lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644)) == -1)
		fatal("%s", path);
	memset(&lock, 0, sizeof(lock));
	lock.l_type = F_WRLCK;
	lock.l_whence = SEEK_SET;
	if (fcntl(m.lock_fd, F_SETLK, &lock) == -1) {
		if (fcntl(m.lock_fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK)
			fatalx("%s: zfpm is running already, process %ld", path, (long)lock.l_pid);
		fatal("%s: lock", path);
	}
	snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	if (ftruncate(m.lock_fd, 0) == -1 || write(m.lock_fd, pid, strlen(pid)) != (ssize_t)strlen(pid))
		log_warn("%s", path);	/* the lock holds all the same, until we end */
}

/* RUN_DIR and RUN_DIR/apps, the router's world: it can pass through, and write nothing. */
static void
make_run_dir(bool fresh)
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
	if (fresh)
		lock_run_dir();
	if (snprintf(apps_dir, sizeof(apps_dir), "%s/apps", conf->run_dir) >= (int)sizeof(apps_dir))
		fatalx("run_dir: too long");
	if (mkdir(apps_dir, 0710) == -1 && errno != EEXIST)
		fatal("%s", apps_dir);
	if (chown(apps_dir, 0, router_gid) == -1 || chmod(apps_dir, 0710) == -1 || (dir = opendir(apps_dir)) == NULL)
		fatal("%s", apps_dir);
	/* Sockets of a zfpm that did not end by itself. */
	while (fresh && (d = readdir(dir)) != NULL)
		if (d->d_name[0] == 'w' || d->d_name[0] == 's')
			unlinkat(dirfd(dir), d->d_name, 0);
	closedir(dir);
}

/* As nothing of an earlier program is there. */
static void
begin(void)
{
	char err[512];

	m.zfpm_start = (int64_t)time(NULL);
	make_run_dir(true);
	if (listen_open(conf, NULL, err, sizeof(err)) == -1)
		fatalx("%s", err);
	err[0] = '\0';
	if ((m.control_fd = control_listen(conf->control, err, sizeof(err))) == -1)
		fatalx("%s", err);
	if ((m.control_path = strdup(conf->control)) == NULL)
		fatal("control");
	if ((log_fd = open_log(conf, err, sizeof(err))) == -2)
		fatalx("%s", err);
	log_init("master", conf->log_target, log_fd, conf->log_level);
	catch_signals();
	log_info("version " ZFPM_VERSION ", %d pools, %d apps", conf->npools, conf->napps);
	guard_start();
}

/* After an upgrade: everything goes on. What can not be restored ends zfpm, and the guard sees to the rest. */
static void
resume(void)
{
	int64_t end_ms = os_now_ms() + RESUME_MS;
	struct client *c;
	struct conf *anew;
	sigset_t none;
	char err[512];
	int i;

	if (upgrade_load(&m, start->state_fd) == -1)
		fatalx("upgrade: what the program before has left can not be read");
	make_run_dir(false);
	/* As in load() of zfpm.c: the address that can not be had may come and go with the line that names it. */
	while (listen_open(conf, NULL, err, sizeof(err)) == -1) {
		if (os_now_ms() >= end_ms)
			fatalx("%s", err);
		log_warnx("%s", err);
		poll(NULL, 0, RESUME_NAP_MS);
		if ((anew = conf_load(start->file, false, stderr)) != NULL) {
			conf_free(conf);
			conf = anew;
		}
	}
	if (m.control_path == NULL || strcmp(m.control_path, conf->control) != 0) {
		if (m.control_path != NULL)
			unlink(m.control_path);
		if (m.control_fd != -1)
			close(m.control_fd);
		free(m.control_path);
		if ((m.control_fd = control_listen(conf->control, err, sizeof(err))) == -1 || (m.control_path = strdup(conf->control)) == NULL)
			fatalx("%s", err);
	}
	if ((log_fd = open_log(conf, err, sizeof(err))) == -2)
		fatalx("%s", err);
	log_init("master", conf->log_target, log_fd, conf->log_level);
	for (i = 0; i < m.nprocs; i++)
		proc_resolve(m.procs[i]);
	for (c = m.clients; c != NULL; c = c->next)
		if (c->waits && !c->begun && c->command == CONTROL_RELOAD)
			want_reload = true;
		else if (c->waits && !c->begun && c->command == CONTROL_UPGRADE)
			want_upgrade = true;
	operation = OP_UPGRADE;
	catch_signals();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	guard_replace();
	/* What ended in between sent its SIGCHLD to nobody. */
	on_signal(SIGCHLD);
}

int
master_run(struct conf *c, const struct start *st)
{
	struct client *cl;
	struct passwd *pw;
	char err[512];
	int fd;

	conf = c;
	start = st;
	ready_fd = st->ready_fd;
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
	conf_start = (int64_t)time(NULL);
	if (st->state_fd == -1)
		begin();
	else
		resume();
	if (cgroups_wanted(conf) && cgroup_init(err, sizeof(err)) == -1)
		log_warnx("cgroup: %s", err);
	if ((watchdog_ms = os_watchdog_ms()) != 0)
		next_watchdog_ms = os_now_ms();
	next_ping_ms = os_now_ms() + PING_MS;
	begin_start(os_now_ms());
	while (state == MASTER_RUNNING || m.routers != NULL || m.nprocs > 0)
		turn();
	guard_stop();
	if (ftruncate(m.lock_fd, 0) == -1)	/* nobody shall signal whoever gets this number next */
		log_warn("pid file");
	unlink(m.control_path);
	log_info("stopped");
	for (cl = m.clients; cl != NULL; cl = cl->next)
		if (cl->waits && (cl->command == CONTROL_STOP || cl->command == CONTROL_QUIT))
			client_done(cl, 0, "stopped");
		else if (cl->waits)
			client_done(cl, 1, "zfpm has stopped");
	return 0;
}
