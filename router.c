/*
 * router.c: user zfpm, chrooted in a directory that holds the workers' sockets only.
 *
 * Owns the poll loop: which descriptor is in the set, whose turn it is, the
 * connections' acceptance, the workers' error pipes, the talk with the master, with app
 * servers, with the router before (heritage) and the one after (successor). Never opens a file,
 * never spawns, never sends a signal.
 */
#include <sys/types.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <arpa/inet.h>
#include <netinet/in.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zfpm.h"

#define ACCEPT_BATCH	64	/* connections accepted in one turn */
#define ACCEPT_LAST	1024	/* times that at most, before the listeners are closed */
#define SPARE_FDS	64	/* never taken by connections: master, listeners, one for a new worker ... */
#define START_MS	1000	/* a worker that ends so soon without having served has failed to start */
#define PAUSE_MS	100	/* without a descriptor for it, accepting is tried again after that */
#define PAUSE_LOG_MS	10000	/* and logged that often */
#define WATCH_FROM	32		/* with more connections than these, idle ones are watched apart: poll() of so many costs less */
#define WATCH_MS	1000	/* how often error pipes are asked where they can not be polled at once */
#define LINE_MS		1000	/* in this time a worker may log ... */
#define LINES_MAX	200	/* ... so many lines; what it says beyond waits in its pipe */
#define ERROR_LOG_MS	60000	/* an error_log that can not be written is told of that often */
#define HAND_BATCH	256	/* packets of an earlier router in one turn */
#define SERVER_BATCH	64	/* messages of an app server in one turn */
#define STRAYS_MAX	10000	/* times that an app server may speak of workers that nobody knows, until it forks one */
#define SERVER_LOST_MS	1000	/* for an app server that has closed our connection to end, and the master to tell how */
#define STATUS_MAX	8	/* status pages under way */
#define STATUS_PIECES	16	/* of one, in one turn, of about a tenth of a millisecond each */
#define STATUS_END_MS	1000	/* for all of them, before we leave */

/* What stands behind an entry of the poll set. */
enum watch_kind {
	WATCH_MASTER,
	WATCH_ERRORS,
	WATCH_WEBS,		/* all connections from web servers that want nothing but to be read from */
	WATCH_LISTEN,		/* struct conf_listen */
	WATCH_WEB,		/* struct request, server side */
	WATCH_APP,		/* struct request, application side */
	WATCH_PROBE,		/* struct link of a worker that is leaving */
	WATCH_SERVER,		/* struct server */
	WATCH_HERITAGE,		/* struct heritage */
	WATCH_STATUS,		/* struct page */
};

struct watch {
	enum watch_kind	 kind;
	void		*owner;
};

/* A status page on its way to whoever asked for it. */
struct page {
	int		 fd;		/* ours to close; -1: none is under way */
	int		 slot;
	struct status	*status;
	bool		 last;		/* all pieces are written, or there is no more memory for one */
	const char	*rest;		/* of the piece that is being written; NULL: another one is next */
	size_t		 rest_len;
};

static const struct conf *conf;
static struct status_info info;
static int		 master_fd;
static int		 log_fd;		/* the log file, if there is one: MSG_LOG puts another in its place */
static int		 errors_fd;		/* os_watch of the error pipes; -1: ask once a second */
static int		 webs_fd;		/* os_watch of web servers' connections; -1: they are in the poll set */
static int64_t		 errors_ms;		/* next time to ask, if so */
static struct pollfd	*pfds;			/* dense, edited in place */
static struct watch	*watches;		/* in the same order */
static int		 npfds, pfds_size;
static struct request	*all;			/* every connection from a web server */
static struct request	*dead;			/* for router_sweep() */
static int		 nworkers, nservers;
static int		 max_fds;
static int64_t		 paused_ms;		/* the listeners wait for descriptors, at least until then; 0: they do not */
static int64_t		 paused_log_ms;		/* this was last logged */
static bool		 going;			/* the master has told all there was before us */
static bool		 quitting;
static bool		 released;		/* there is a next router, though it may be dead now */
static int		 successor = -1;	/* the socket to it; -1: none (yet) */
static struct heritage	*heritages;		/* earlier routers that still have something for us */
static struct page	 pages[STATUS_MAX];
static struct errors	**muted;		/* said too much: their pipes are not read until mute_ms */
static int		 nmuted, muted_size;
static int64_t		 mute_ms;

/* ---- the poll set ------------------------------------------------------------------------ */

/* Put fd into the set; its slot, or -1 without memory. */
static int
watch_add(int fd, short events, enum watch_kind kind, void *owner)
{
	struct pollfd *p;
	struct watch *w;
	int size;

	if (npfds == pfds_size) {
		size = pfds_size == 0 ? 256 : 2 * pfds_size;
		if ((p = realloc(pfds, (size_t)size * sizeof(*p))) == NULL)
			return -1;
		pfds = p;
		if ((w = realloc(watches, (size_t)size * sizeof(*w))) == NULL)
			return -1;
		watches = w;
		pfds_size = size;
	}
	pfds[npfds].fd = fd;
	pfds[npfds].events = events;
	pfds[npfds].revents = 0;
	watches[npfds].kind = kind;
	watches[npfds].owner = owner;
	return npfds++;
}

/*
 * Take an entry out; the last one moves into its place. The loop in turn() goes
 * from the end to the beginning, so what moves has had its turn.
 */
static void
watch_remove(int *slot)
{
	int i = *slot;

	if (i == -1)
		return;
	*slot = -1;
	if (i == --npfds)
		return;
	pfds[i] = pfds[npfds];
	watches[i] = watches[npfds];
	switch (watches[i].kind) {
	case WATCH_WEB:
		((struct request *)watches[i].owner)->web_slot = i;
		break;
	case WATCH_APP:
		((struct request *)watches[i].owner)->app_slot = i;
		break;
	case WATCH_PROBE:
		((struct link *)watches[i].owner)->slot = i;
		break;
	case WATCH_SERVER:
		((struct server *)watches[i].owner)->slot = i;
		break;
	case WATCH_HERITAGE:
		((struct heritage *)watches[i].owner)->slot = i;
		break;
	case WATCH_STATUS:
		((struct page *)watches[i].owner)->slot = i;
		break;
	case WATCH_MASTER:
	case WATCH_ERRORS:
	case WATCH_WEBS:
	case WATCH_LISTEN:
		break;		/* the first entries of all: they never move */
	}
}

/* Keep fd in the set for these events, or out of it. -1 without memory. */
static int
watch_set(int *slot, bool in, int fd, short events, enum watch_kind kind, void *owner)
{
	if (!in) {
		watch_remove(slot);
	} else if (*slot == -1) {
		*slot = watch_add(fd, events, kind, owner);
		return *slot == -1 ? -1 : 0;
	} else {
		pfds[*slot].fd = fd;
		pfds[*slot].events = events;
	}
	return 0;
}

static void	 tell_master(enum msg_type, const struct worker *);

/* The next router is gone, and the master makes another one and tells us; or it takes nothing, and we ask for another try. */
static void
successor_lost(void)
{
	bool lives = errno == ETIMEDOUT;

	log_debug("the next router is gone: %s", strerror(errno));
	close(successor);
	successor = -1;
	pool_hand_over(false);
	if (lives)
		tell_master(MSG_RELEASED, NULL);
}

/*
 * Most connections from web servers are idle at any time, and poll() looks at every one of its set: with 1,000 of them
 * that takes more than all else we do for a request. So, when there are many, they are watched apart, from an idle
 * moment on, and with the same events until the end of a request, unless one has to wait for room: that one is polled
 * until it is idle.
 */
static void
sync_web_watch(struct request *r, bool web)
{
	bool in = web && r->web_events == POLLIN && (r->web_watched || (r->state == REQ_IDLE && info.connections > WATCH_FROM));

	if (in == r->web_watched || webs_fd == -1)
		return;
	if (in) {
		r->web_watched = os_watch_add(webs_fd, r->web_fd, r) == 0;
	} else {
		/* If it has been closed, that has taken it out. */
		if (r->web_fd != -1)
			os_watch_remove(webs_fd, r->web_fd);
		r->web_watched = false;
	}
}

/* Bring the poll set and the timer in line with what has become of a request; give it away if it is the next router's. */
static void
sync_request(struct request *r, int64_t now_ms)
{
	struct link *l;
	bool web, app;

	if (successor != -1 && request_movable(r)) {
		if (hand_request(successor, r) == 0)
			request_moved(r);
		else
			successor_lost();
	}
	request_settle(r, now_ms);
	l = r->link;
	web = r->state != REQ_DEAD && r->web_fd != -1;
	app = r->state == REQ_RELAY;
	sync_web_watch(r, web);
	if (watch_set(&r->web_slot, web && !r->web_watched, r->web_fd, r->web_events, WATCH_WEB, r) == -1 ||
	    watch_set(&r->app_slot, app, app ? l->fd : -1, r->app_events, WATCH_APP, r) == -1) {
		log_warnx("pool %s: no memory for the poll set", r->pool_name);
		request_drop(r, now_ms);
		sync_web_watch(r, false);
		watch_remove(&r->web_slot);
		watch_remove(&r->app_slot);
	}
	if (r->state == REQ_DEAD && !r->in_dead) {
		r->in_dead = true;
		r->dead_next = dead;
		dead = r;
	}
}

/* ---- connections from web servers ----------------------------------------------------------- */

/* Descriptors that may be in use: one for a connection and one for its worker, every worker's error pipe, and an app server's two. */
static bool
fds_left(void)
{
	return 2 * info.connections + 2 * nworkers + 2 * nservers < max_fds;
}

static void
listeners_watch(short events)
{
	int i;

	for (i = 0; i < npfds; i++)
		if (watches[i].kind == WATCH_LISTEN)
			pfds[i].events = events;
}

/* No descriptor for one more connection: those that come wait in the listeners' queues. */
static void
listeners_pause(const struct conf_listen *l, const char *why, int64_t now_ms)
{
	if (paused_log_ms == 0 || now_ms - paused_log_ms >= PAUSE_LOG_MS) {
		log_warnx("listen %s: %s: new connections wait (%d connections, %d workers)", l->address, why, info.connections, nworkers);
		paused_log_ms = now_ms;
	}
	paused_ms = now_ms + PAUSE_MS;
	listeners_watch(0);
}

static bool
net_allowed(const struct conf_net *net, int family, const uint8_t *addr)
{
	int i;

	for (; net != NULL; net = net->next) {
		if (net->family != family)
			continue;
		for (i = 0; i < net->prefix_len; i++)
			if (((addr[i / 8] ^ net->addr[i / 8]) & 0x80 >> i % 8) != 0)
				break;
		if (i == net->prefix_len)
			return true;
	}
	return false;
}

/*
 * May this address use the listener? One of IPv4 that has connected to a socket
 * of IPv6 comes as ::ffff:a.b.c.d. For us, and in the log, it is what it is.
 */
static bool
address_allowed(const struct conf_listen *l, const struct sockaddr_storage *sa)
{
	const struct in6_addr *in6 = &((const struct sockaddr_in6 *)sa)->sin6_addr;
	const void *addr = in6;
	char text[INET6_ADDRSTRLEN];
	int family = sa->ss_family;

	if (family == AF_INET6 && net_allowed(l->allow, family, in6->s6_addr))
		return true;
	if (family == AF_INET) {
		addr = &((const struct sockaddr_in *)sa)->sin_addr;
	} else if (IN6_IS_ADDR_V4MAPPED(in6)) {
		addr = &in6->s6_addr[12];
		family = AF_INET;
	}
	if (family == AF_INET && net_allowed(l->allow, family, addr))
		return true;
	log_warnx("listen %s: peer %s is not allowed", l->address, inet_ntop(family, addr, text, sizeof(text)));
	return false;
}

/* May this peer use the listener? */
static bool
peer_allowed(const struct conf_listen *l, int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	uid_t uid;
	int i;

	if (l->sa.ss_family != AF_UNIX)
		return getpeername(fd, (struct sockaddr *)&sa, &len) == 0 && address_allowed(l, &sa);
	if (l->nallow_uids == 0)
		return true;
	if (os_peer_uid(fd, &uid) == -1) {
		log_warn("listen %s: peer's user", l->address);
		return false;
	}
	for (i = 0; i < l->nallow_uids; i++)
		if (l->allow_uids[i] == uid)
			return true;
	log_warnx("listen %s: peer's uid %lu is not allowed", l->address, (unsigned long)uid);
	return false;
}

/* A new connection, or one that an earlier router had. */
static void
add_request(struct request *r, int64_t now_ms)
{
	r->all_next = all;
	if (all != NULL)
		all->all_prev = r;
	all = r;
	info.connections++;
	sync_request(r, now_ms);
}

/* Returns whether there may be more of them. */
static bool
accept_ready(const struct conf_listen *l, int64_t now_ms)
{
	struct request *r;
	int fd, i;

	for (i = 0; i < ACCEPT_BATCH && !quitting && !released; i++) {
		if (!fds_left()) {
			listeners_pause(l, "no descriptors left", now_ms);
			return false;
		}
		if ((fd = os_accept(l->fd)) == -1) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
				listeners_pause(l, strerror(errno), now_ms);
			} else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ECONNABORTED && errno != EINTR) {
				log_warn("listen %s: accept", l->address);
			}
			return errno == ECONNABORTED || errno == EINTR;
		}
		if (!peer_allowed(l, fd)) {
			close(fd);
			continue;
		}
		if ((r = request_new(fd, l, now_ms)) == NULL) {
			log_warn("listen %s: a connection", l->address);
			return false;
		}
		all_counters.accepted++;
		add_request(r, now_ms);
	}
	return i == ACCEPT_BATCH;
}

/*
 * What has connected before we accept no more has been told that it is served:
 * it may have sent its request already, and who has sent one can not know
 * whether to try it elsewhere. Close each listener right behind its last one.
 */
static void
accept_last(int64_t now_ms)
{
	int i, n;

	for (i = 0; i < npfds; i++) {
		if (watches[i].kind != WATCH_LISTEN || pfds[i].fd == -1)
			continue;
		for (n = 0; n < ACCEPT_LAST && accept_ready(watches[i].owner, now_ms); n++)
			;
		close(pfds[i].fd);
		pfds[i].fd = -1;
	}
}

/* Free what died in this turn: no pointer to it is live now. */
static void
router_sweep(int64_t now_ms)
{
	struct request *r;

	while ((r = dead) != NULL) {
		dead = r->dead_next;
		if (r->all_prev != NULL)
			r->all_prev->all_next = r->all_next;
		else
			all = r->all_next;
		if (r->all_next != NULL)
			r->all_next->all_prev = r->all_prev;
		request_free(r);
		info.connections--;
	}
	if (paused_ms != 0 && paused_ms <= now_ms && going && fds_left()) {
		paused_ms = 0;
		listeners_watch(POLLIN);
	}
}

/* ---- workers ---------------------------------------------------------------------------------- */

static void
send_master(const struct msg *msg)
{
	/* The master never waits for us, so we can wait for it. */
	if (master_fd != -1 && ipc_send(master_fd, msg, -1, true) == -1 && errno != EPIPE && errno != ECONNRESET)
		log_warn("message to the master");
}

static void
tell_master(enum msg_type type, const struct worker *w)
{
	struct msg msg;

	memset(&msg, 0, sizeof(msg));
	msg.type = type;
	if (w != NULL) {
		msg.worker = w->number;
		msg.pool = (uint32_t)w->pool->conf->index;
		msg.app = (uint32_t)w->app;
		snprintf(msg.text, sizeof(msg.text), "%s", w->pool->name);
	}
	if (type == MSG_STOP)
		msg.value = w->kill ? 1 : w->cause == END_TIMEOUT ? 2 : 0;
	send_master(&msg);
}

/* A worker of an app server is no more, or never was. */
static void
tell_master_ended(const struct worker *w, int status)
{
	struct msg msg;

	memset(&msg, 0, sizeof(msg));
	msg.type = MSG_ENDED;
	msg.worker = w->number;
	msg.value = status;
	send_master(&msg);
}

/* An app server forks no more; with kill, it has to go, at once. */
static void
tell_master_server(const struct server *s, bool kill)
{
	struct msg msg;

	memset(&msg, 0, sizeof(msg));
	msg.type = MSG_END_SERVER;
	msg.server = s->number;
	msg.value = kill;
	send_master(&msg);
}

static void
close_links(struct worker *w)
{
	struct link *l;

	for (l = w->links; l < w->links + w->nlinks; l++) {
		if (l->fd == -1 || l->request != NULL)
			continue;
		watch_remove(&l->slot);
		request_unlink(l);
		close(l->fd);
		l->fd = -1;
	}
}

/*
 * A worker's request was given up, and only the worker knows when it is through with it. Offer it a
 * connection that has ended already: when it is back at accept(), it takes that, finds the end, and closes.
 * A program may also die of that, and close on its way out: a second one it does not take, and the kernel resets that.
 */
static void
probe(struct worker *w)
{
	struct link *l = &w->links[0];

	if (w->forked)
		return;			/* it serves one connection, and ends with that: its app server tells */
	if ((l->fd = request_connect(w)) == -1)
		return;			/* it does not listen any more; its exit, or its timer, is next */
	shutdown(l->fd, SHUT_WR);
	if ((l->slot = watch_add(l->fd, POLLIN, WATCH_PROBE, l)) == -1)
		pool_retire(w, END_DIED);
}

static void
probe_ready(struct link *l, int64_t now_ms)
{
	struct worker *w = l->worker;
	char buf[64];
	ssize_t n;

	/* What it may say to an empty request is of no interest. */
	if ((n = read(l->fd, buf, sizeof(buf))) > 0 || (n == -1 && (errno == EAGAIN || errno == EINTR)))
		return;
	close_links(w);
	if (n == 0 && !w->asked) {
		w->asked = true;
		probe(w);
	} else if (n == 0 || !w->asked) {
		pool_returned(w, now_ms);
	}	/* else its exit, or its timer, is next */
}

/* Give a request to the worker that pool.c has chosen. */
static void
serve(struct request *r, struct link *l, int64_t now_ms)
{
	char reason[128];

	switch (request_begin(r, l, now_ms)) {
	case 0:
		break;
	case 1:
		log_debug("pool %s: worker %ld: has closed its connection", r->pool_name, (long)l->worker->pid);
		pool_doubt(l, now_ms);
		pool_requeue(r);
		break;
	default:
		snprintf(reason, sizeof(reason), CANNOT_START "connect: %s", strerror(errno));
		pool_put(l, false, now_ms);
		request_refuse(r, reason, now_ms);
		break;
	}
}

static void	 close_errors(struct errors *);
static void	 server_talk(struct server *, int64_t now_ms);

/* It is idle, so the next router's: its descriptors first, then the master's consent. */
static void
give(struct worker *w)
{
	struct handed h;

	memset(&h, 0, sizeof(h));
	h.worker = w->number;
	h.pid = w->pid;
	h.requests = w->requests;
	h.start_ms = w->start_ms;
	h.idle_ms = w->idle_ms;
	h.closes = w->closes;
	w->errors.line[w->errors.line_len] = '\0';
	h.line = w->errors.line;
	h.error_fd = w->errors.fd;
	/* Of several connections one goes along: a program that serves many takes new ones at any time. */
	request_unlink(&w->links[0]);
	h.link_fd = w->links[0].fd;
	if (w->server != NULL)
		server_release(w);
	if (hand_worker(successor, &h) == -1) {
		successor_lost();
		if (w->server != NULL) {
			w->wants_adopt = true;
			server_talk(w->server, os_now_ms());
		}
		return;
	}
	tell_master(MSG_GIVE, w);
	w->errors.line_len = 0;		/* an unfinished line went along */
	close_errors(&w->errors);
	nworkers--;
	pool_given(w);
}

/* Have the app server of a worker send it a signal, and see to what follows if it does not end (worker_overdue()). */
static void
signal_worker(struct worker *w, int sig, int64_t now_ms)
{
	if (w->server == NULL || w->forking)
		return;			/* it is ending already, or there is nobody to signal yet */
	w->signal = w->wants_signal = sig;
	timeout_arm(&w->timer, now_ms + w->pool->conf->timeout_ms[TIMEOUT_KILL]);
	server_talk(w->server, now_ms);
}

/* Do what pool.c has decided, until there is nothing more to do. */
static void
dispatch(int64_t now_ms)
{
	struct pool_step s;

	for (;;) {
		switch (pool_next(&s, now_ms)) {
		case POOL_NOTHING:
			return;
		case POOL_SERVE:
			serve(s.request, s.link, now_ms);
			sync_request(s.request, now_ms);
			break;
		case POOL_REFUSE:
			request_refuse(s.request, s.reason, now_ms);
			sync_request(s.request, now_ms);
			break;
		case POOL_START:
			nworkers++;
			tell_master(MSG_SPAWN, s.worker);
			break;
		case POOL_STOP:
			if (!s.worker->kill)
				close_links(s.worker);
			log_debug("pool %s: worker %ld: retired after %llu requests", s.worker->pool->name, (long)s.worker->pid,
			    (unsigned long long)s.worker->requests);
			if (s.worker->forked)
				signal_worker(s.worker, s.worker->kill ? SIGKILL : SIGTERM, now_ms);
			else
				tell_master(MSG_STOP, s.worker);
			break;
		case POOL_PROBE:
			probe(s.worker);
			break;
		case POOL_GIVE:
			give(s.worker);
			break;
		}
	}
}

/* ---- what applications say on their standard error ------------------------------------------------ */

static void
log_error_line(struct errors *e)
{
	struct pool *p = e->pool;
	const char *who = e->server ? "app server" : "worker";
	int64_t now_ms;

	e->line[e->line_len] = '\0';
	if (e->line_len == 0)
		return;
	e->line_len = 0;
	if (p->error_log_fd == -1) {
		log_info("pool %s: %s %ld: stderr: %s", p->name, who, (long)e->pid, e->line);
	} else if (log_to(p->error_log_fd, "pool %s: %s %ld: %s", p->name, who, (long)e->pid, e->line) == -1) {
		now_ms = os_now_ms();
		if (p->error_log_ms == 0 || now_ms - p->error_log_ms >= ERROR_LOG_MS)
			log_warn("pool %s: error_log", p->name);
		p->error_log_ms = now_ms;
	}
}

/* From now on it is read; its end may be there already. */
static void
watch_errors(struct errors *e)
{
	if (e->fd == -1)
		return;
	e->watched = true;
	if (os_watch_add(errors_fd, e->fd, e) == -1)
		log_warn("pool %s: process %ld: error pipe", e->pool->name, (long)e->pid);
}

static void
mute(struct errors *e, int64_t now_ms)
{
	struct errors **grown;

	if (nmuted == muted_size) {
		if ((grown = realloc(muted, (size_t)(muted_size + 64) * sizeof(struct errors *))) == NULL)
			return;
		muted = grown;
		muted_size += 64;
	}
	os_watch_remove(errors_fd, e->fd);
	muted[nmuted++] = e;
	e->muted = true;
	if (mute_ms == 0)
		mute_ms = now_ms + LINE_MS;
}

static void
unmute(int64_t now_ms)
{
	int i;

	if (mute_ms == 0 || mute_ms > now_ms)
		return;
	for (i = 0; i < nmuted; i++) {
		muted[i]->muted = false;
		watch_errors(muted[i]);
	}
	nmuted = 0;
	mute_ms = 0;
}

/* The process or its pipe is going: forget it. */
static void
close_errors(struct errors *e)
{
	int i;

	if (e->fd == -1)
		return;
	if (e->muted) {
		for (i = 0; muted[i] != e; i++)
			;
		muted[i] = muted[--nmuted];
		e->muted = false;
	} else {
		os_watch_remove(errors_fd, e->fd);
	}
	log_error_line(e);
	close(e->fd);
	e->fd = -1;
	e->watched = false;
}

/* One read of an error pipe. Returns false when it has no more. */
static bool
read_errors(struct errors *e)
{
	char buf[1024];
	ssize_t i, n;

	do
		n = read(e->fd, buf, sizeof(buf));
	while (n == -1 && errno == EINTR);
	if (n == -1 && errno == EAGAIN)
		return false;
	if (n <= 0) {
		close_errors(e);
		return false;
	}
	for (i = 0; i < n; i++) {
		if (buf[i] == '\n' || e->line_len == (int)sizeof(e->line) - 1)
			log_error_line(e);
		if (buf[i] != '\n')
			e->line[e->line_len++] = buf[i];
	}
	return true;
}

/* The process has ended: what it said last, and the end. */
static void
finish_errors(struct errors *e)
{
	int i;

	for (i = 0; e->fd != -1 && i < LINES_MAX && read_errors(e); i++)
		;
	close_errors(e);
}

static void
errors_ready(int64_t now_ms)
{
	void *ready[64];
	struct errors *e;
	int i, n;

	errors_ms = now_ms + WATCH_MS;
	n = os_watch_ready(errors_fd, ready, NULL, 64);
	for (i = 0; i < n; i++) {
		e = ready[i];
		if (now_ms - e->line_ms >= LINE_MS) {
			e->line_ms = now_ms;
			e->line_count = 0;
		}
		if (read_errors(e) && ++e->line_count == LINES_MAX) {
			log_warnx("pool %s: %s %ld: stderr: too much in one second, the rest waits", e->pool->name,
			    e->server ? "app server" : "worker", (long)e->pid);
			mute(e, now_ms);
		}
	}
}

/* ---- the end of a worker ----------------------------------------------------------------------------------- */

/* And not by somebody who sent it a signal? */
static bool
ended_by_itself(int status)
{
	return !WIFSIGNALED(status) || (WTERMSIG(status) != SIGKILL && WTERMSIG(status) != SIGTERM &&
	    WTERMSIG(status) != SIGINT && WTERMSIG(status) != SIGHUP && WTERMSIG(status) != SIGQUIT);
}

/* It was not started. message: to those who wait for it; NULL: nobody's fault. */
static void
worker_failed(struct worker *w, const char *message, int64_t now_ms)
{
	close_links(w);
	close_errors(&w->errors);
	nworkers--;
	if (message != NULL && w->state != WORKER_STOPPING)
		pool_failed(w, message, now_ms);
	pool_gone(w);
}

static void
worker_exited(struct worker *w, int status, int64_t now_ms)
{
	/* That of an app server ends with its connection, also when a client gave up its first request. */
	bool expected = w->forked && WIFEXITED(status) && w->busy == 0 &&
	    (w->state == WORKER_LEAVING || (w->state == WORKER_IDLE && w->requests > 0));
	/* The status 0 is on purpose (section 8 of the specification), SIGTERM somebody's; a request that suffers has a warning of its own. */
	bool crashed = status != 0 && w->busy == 0 && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	char reason[128];
	struct request *r;
	struct link *l;
	int left;

	finish_errors(&w->errors);
	if (expected && !w->retiring)
		w->cause = END_CLOSED;
	if (expected && (status == 0 || w->retiring))
		log_debug("pool %s: worker %ld: exited after %llu requests", w->pool->name, (long)w->pid, (unsigned long long)w->requests);
	else if (crashed && w->state != WORKER_STOPPING && w->state != WORKER_ELSEWHERE)
		log_warnx("pool %s: worker %ld: %s after %llu requests", w->pool->name, (long)w->pid, log_wait_status(status),
		    (unsigned long long)w->requests);
	else if ((w->state != WORKER_STOPPING && w->state != WORKER_ELSEWHERE) || w->busy > 0)
		log_info("pool %s: worker %ld: %s after %llu requests", w->pool->name, (long)w->pid, log_wait_status(status),
		    (unsigned long long)w->requests);
	if (w->state == WORKER_LEAVING && w->asked && status != 0)
		pool_fragile(w);
	/* Ended by itself, at once, and before it served anybody: it could not start. */
	if (!expected && w->requests == 0 && w->busy == 0 && w->state != WORKER_STOPPING && w->state != WORKER_ELSEWHERE && ended_by_itself(status) &&
	    now_ms - w->idle_ms < START_MS) {
		snprintf(reason, sizeof(reason), CANNOT_START "start: %s", log_wait_status(status));
		pool_failed(w, reason, now_ms);
	}
	/*
	 * Ended by itself, and at once after a response: a program that does not keep connections, whatever it is asked for,
	 * or counts its requests. Not so where we have closed it, because a request was given up.
	 */
	if (w->busy == 0 && (w->state != WORKER_LEAVING || w->doubted) && w->state != WORKER_STOPPING &&
	    w->state != WORKER_ELSEWHERE && WIFEXITED(status) && now_ms - w->idle_ms < START_MS)
		pool_left(w);
	close_links(w);
	nworkers--;
	/* The worker goes with its last request, so it is not looked at after that. */
	left = w->busy;
	l = w->links;
	pool_gone(w);
	while (left > 0) {
		if ((r = l++->request) == NULL)
			continue;
		left--;
		request_worker_exited(r, status, now_ms);
		sync_request(r, now_ms);
	}
}

/* ---- app servers --------------------------------------------------------------------------------------------- */

/* It is not to be used any more. Those that it was to fork are not; its others end with it. */
static void
server_close(struct server *s, enum server_state state, int64_t now_ms)
{
	s->state = state;
	watch_remove(&s->slot);
	if (s->fd != -1)
		close(s->fd);
	s->fd = -1;
	if (state == SERVER_LOST)
		timeout_arm(&s->timer, now_ms + SERVER_LOST_MS);
	else
		timeout_disarm(&s->timer);
}

static void
fail_forking(struct server *s, const char *message, int64_t now_ms)
{
	struct worker *w, *next;

	for (w = s->workers; w != NULL; w = next) {
		next = w->server_next;
		if (!w->forking)
			continue;
		tell_master_ended(w, 0);
		worker_failed(w, message, now_ms);
	}
}

/* Have it killed. message: to those who wait for what it was to fork; NULL: they wait for another one. */
static void
server_end(struct server *s, const char *message, int64_t now_ms)
{
	server_close(s, SERVER_FAILED, now_ms);
	tell_master_server(s, true);
	fail_forking(s, message, now_ms);
}

/* It does what it must not, or not what it must. */
static void
server_fail(struct server *s, const char *message, int64_t now_ms)
{
	log_warnx("pool %s: app server %ld: %s", s->pool->name, (long)s->pid, message);
	server_end(s, message, now_ms);
}

/* Nobody else is at the other end any more: this is how a connection fails then. */
static bool
says_gone(int error)
{
	return error == ECONNREFUSED || error == ENOENT || error == ECONNRESET || error == EPIPE || error == ENOTCONN || error == 0;
}

/* Be ready for what it says, and have it say how far it is. */
static void
server_watch(struct server *s, int64_t now_ms)
{
	if (watch_set(&s->slot, s->fd != -1, s->fd, (short)(POLLIN | (s->full ? POLLOUT : 0)), WATCH_SERVER, s) == -1)
		server_fail(s, CANNOT_START "start: no memory for the poll set", now_ms);
}

static void
server_talk(struct server *s, int64_t now_ms)
{
	char message[128];
	struct worker *w;

	while (server_flush(s, &w) == -1) {
		if (says_gone(errno)) {
			server_close(s, SERVER_LOST, now_ms);
			return;
		}
		snprintf(message, sizeof(message), CANNOT_START "connect: %s", strerror(errno));
		if (w == NULL || !w->wants_fork) {
			server_fail(s, message, now_ms);
			return;
		}
		tell_master_ended(w, 0);
		worker_failed(w, message, now_ms);
	}
	for (w = s->workers; w != NULL; w = w->server_next)
		if (w->forking && w->errors.fd != -1 && !w->errors.watched) {
			watch_errors(&w->errors);
			request_link(&w->links[0], w->links[0].fd);
		}
	server_watch(s, now_ms);
}

/* The time to fork, or to reach accept() first, runs as long as something is to be forked. */
static void
server_arm(struct server *s, int64_t now_ms)
{
	if (s->state == SERVER_LOST || s->state == SERVER_FAILED)
		return;			/* another time is running, or none any more */
	if (s->forking > 0 || s->state == SERVER_STARTING)
		timeout_arm(&s->timer, now_ms + s->pool->conf->timeout_ms[TIMEOUT_START]);
	else
		timeout_disarm(&s->timer);
}

/* The master has granted a worker of ours: have it forked. */
static void
fork_there(struct worker *w, struct server *s, int64_t now_ms)
{
	if (s->state == SERVER_FAILED || w->state == WORKER_STOPPING) {
		tell_master_ended(w, 0);
		worker_failed(w, NULL, now_ms);	/* the next one is asked of another */
		return;
	}
	server_attach(s, w);
	w->forking = w->wants_fork = true;
	if (s->forking++ == 0)
		server_arm(s, now_ms);
	server_talk(s, now_ms);
}

/* One message of an app server; it is a tenant's. Returns what is wrong with it, or NULL. */
static const char *
server_said(struct server *s, const struct fs_msg *msg, int64_t now_ms)
{
	struct worker *w = pool_worker(msg->worker);
	char message[FS_TEXT_LEN + 96];

	if (msg->type == FS_READY) {
		if (s->state != SERVER_STARTING || msg->value != FS_VERSION)
			return "said that it is ready, in another version or again";
		s->state = SERVER_READY;
		s->ready = true;
		log_debug("pool %s: app server %ld: ready", s->pool->name, (long)s->pid);
		server_arm(s, now_ms);
		return NULL;
	}
	if (msg->type == FS_REFUSED) {
		snprintf(message, sizeof(message), CANNOT_START "start: %s", msg->text);
		server_fail(s, message, now_ms);
		return NULL;
	}
	if (w != NULL && w->state == WORKER_GONE)
		w = NULL;		/* only its last request still needs it */
	/* Two of our messages may have crossed its end; but that it forks none and speaks of them all the time is no accident. */
	if (s->state == SERVER_READY && w == NULL && (msg->type == FS_UNKNOWN || msg->type == FS_EXITED) && s->strays++ < STRAYS_MAX)
		return NULL;
	if (s->state != SERVER_READY || w == NULL || w->server != s)
		return "spoke of a worker that is not its own";
	switch ((enum fs_type)msg->type) {
	case FS_FORKED:
		if (!w->forking || w->wants_fork || msg->pid <= 1)
			return "forked a worker that nobody asked for";
		w->forking = false;
		s->forking--;
		s->strays = 0;
		server_arm(s, now_ms);
		log_debug("pool %s: worker %ld: started", w->pool->name, (long)msg->pid);
		pool_started(w, (pid_t)msg->pid, now_ms);
		if (w->state == WORKER_STOPPING)
			signal_worker(w, w->kill ? SIGKILL : SIGTERM, now_ms);
		break;
	case FS_FAILED:
		if (!w->forking || w->wants_fork)
			return "failed to fork a worker that nobody asked for";
		snprintf(message, sizeof(message), CANNOT_START "%s: %s", msg->text[0] != '\0' ? msg->text : "fork", strerror(msg->value));
		log_warnx("pool %s: app server %ld: %s", s->pool->name, (long)s->pid, message);
		if (msg->value == ECANCELED)	/* somebody has told it to end */
			tell_master_server(s, false);
		tell_master_ended(w, 0);
		worker_failed(w, message, now_ms);
		server_arm(s, now_ms);
		break;
	case FS_EXITED:
	case FS_UNKNOWN:
		if (w->forking)
			return "told of the end of a worker that was not forked";
		tell_master_ended(w, msg->type == FS_EXITED ? msg->value : 0);
		worker_exited(w, msg->type == FS_EXITED ? msg->value : 0, now_ms);
		break;
	default:
		return "sent an unknown message";
	}
	return NULL;
}

static void
server_ready(struct server *s, int64_t now_ms)
{
	char message[160];
	const char *wrong;
	struct fs_msg msg;
	int i, n = 1;

	for (i = 0; i < SERVER_BATCH && s->fd != -1 && (n = server_read(s, &msg)) == 1; i++)
		if ((wrong = server_said(s, &msg, now_ms)) != NULL) {
			snprintf(message, sizeof(message), CANNOT_START "start: its app server %s", wrong);
			server_fail(s, message, now_ms);
		}
	if (s->fd == -1)
		return;
	if (n == -1)
		server_close(s, SERVER_LOST, now_ms);
	else
		server_talk(s, now_ms);
}

/* Its timer is due: it has not forked, not even reached accept(); or it has closed our connection and lives on. */
static void
server_overdue(struct server *s, int64_t now_ms)
{
	char message[160];

	if (s->state == SERVER_FAILED)
		return;
	if (s->state == SERVER_LOST && s->ready) {
		log_warnx("pool %s: app server %ld: has closed its connection, and not ended within %.1fs; killed", s->pool->name, (long)s->pid,
		    (double)SERVER_LOST_MS / 1000);
		server_end(s, NULL, now_ms);
		return;
	}
	if (s->state == SERVER_LOST)
		snprintf(message, sizeof(message), CANNOT_START "start: its fork server is not there: it was not loaded (needs 'fork_server off'), or has failed");
	else
		snprintf(message, sizeof(message), "Timeout (%llds) exceeded while starting FCGI process",
		    (long long)s->pool->conf->timeout_ms[TIMEOUT_START] / 1000);
	server_fail(s, message, now_ms);
}

/* A worker that is being stopped has had its time. */
static void
worker_overdue(struct worker *w, int64_t now_ms)
{
	double seconds = (double)w->pool->conf->timeout_ms[TIMEOUT_KILL] / 1000;
	struct server *s = w->server;

	if (s == NULL || w->signal == 0 || s->state == SERVER_FAILED)
		return;
	if (w->signal == SIGTERM) {
		log_warnx("pool %s: worker %ld: did not end within %.1fs of SIGTERM; killed", w->pool->name, (long)w->pid, seconds);
		signal_worker(w, SIGKILL, now_ms);
		return;
	}
	log_warnx("pool %s: app server %ld: did not end worker %ld within %.1fs; killed, with all of its session", s->pool->name, (long)s->pid,
	    (long)w->pid, seconds);
	server_end(s, NULL, now_ms);
}

/* The master tells of an app server: a new one, with its error pipe, or one that an earlier router knew. */
static void
server_known(const struct msg *msg, int error_fd, int64_t now_ms)
{
	struct pool *p = NULL;
	struct server *s;

	if (server_find(msg->server) == NULL && (p = msg->pool != NO_POOL ? pool_get(msg->text) : pool_removed()) != NULL && msg->app < (uint32_t)p->conf->napps &&
	    (s = server_new(msg->server, (pid_t)msg->pid, p, (int)msg->app, now_ms)) != NULL) {
		nservers++;
		s->errors.fd = error_fd;
		watch_errors(&s->errors);
		error_fd = -1;
	} else {
		log_warnx("pool %s: app server %ld can not be used", msg->text, (long)msg->pid);
	}
	if (p != NULL)
		pool_release(p);
	if (error_fd != -1)
		close(error_fd);
}

static void
server_gone(struct server *s, const struct msg *msg, int64_t now_ms)
{
	char message[TEXT_LEN + 64];
	struct pool *p = s->pool;
	struct worker *w;
	/*
	 * Somebody else has ended it (on SIGTERM with status 0, for its accept() never returns), which is no fault of the
	 * program's: another one is asked for what it had still to fork. Not so one that ends at once: it might always.
	 */
	bool again = s->ready && now_ms - s->start_ms >= START_MS &&
	    (!ended_by_itself(msg->value) || (WIFEXITED(msg->value) && WEXITSTATUS(msg->value) == 0));

	finish_errors(&s->errors);
	if (msg->text[0] != '\0')
		snprintf(message, sizeof(message), CANNOT_START "%s", msg->text);
	else
		snprintf(message, sizeof(message), CANNOT_START "start: its app server %s", log_wait_status(msg->value));
	if (s->workers != NULL && msg->text[0] == '\0')
		log_info("pool %s: app server %ld: %s", p->name, (long)s->pid, log_wait_status(msg->value));
	/*
	 * The master has forgotten its workers already. They are killed with it (become_worker(), in forkserver.c), and some other
	 * process may hold their connections open; what they have answered counts.
	 */
	while ((w = s->workers) != NULL) {
		if (w->forking)
			worker_failed(w, again ? NULL : message, now_ms);
		else
			worker_exited(w, SIGKILL, now_ms);
	}
	watch_remove(&s->slot);
	nservers--;
	p->requests++;		/* it may be the last that holds the pool */
	server_free(s);
	pool_release(p);
}

/* ---- the router before, and the one after --------------------------------------------------------------- */

static void
listeners_close(void)
{
	int i;

	for (i = 0; i < npfds; i++)
		if (watches[i].kind == WATCH_LISTEN && pfds[i].fd != -1) {
			close(pfds[i].fd);
			pfds[i].fd = -1;	/* ignored by poll() */
		}
}

static void
hand_all_counters(void)
{
	static const struct counters none;
	const struct counters *c;
	struct pool *p;
	size_t b;
	int i;

	for (i = 0; successor != -1 && i < conf->npools; i++)
		if ((c = pool_counters(conf->pools[i])) != NULL && memcmp(c, &none, sizeof(none)) != 0 &&
		    hand_counters(successor, conf->pools[i]->name, c) == -1)
			successor_lost();
	for (b = 0; successor != -1 && b < POOL_BUCKETS; b++)
		for (p = pool_bucket(b); successor != -1 && p != NULL; p = p->hash_next)
			if (p->conf->star != -1 && hand_counters(successor, p->name, p->counters) == -1)
				successor_lost();
	if (successor != -1 && hand_counters(successor, "", &all_counters) == -1)
		successor_lost();
	if (successor != -1)
		pool_forget_counters();
}

/* It reads what app servers say from now on. */
static void
hand_servers(void)
{
	struct server *s;
	struct handed h;

	for (s = server_after(NULL); successor != -1 && s != NULL; s = server_after(s)) {
		if (s->errors.fd == -1)
			continue;
		memset(&h, 0, sizeof(h));
		h.worker = s->number;
		h.start_ms = s->start_ms;
		s->errors.line[s->errors.line_len] = '\0';
		h.line = s->errors.line;
		h.error_fd = s->errors.fd;
		h.link_fd = -1;
		if (hand_server(successor, &h) == -1) {
			successor_lost();
			break;
		}
		s->errors.line_len = 0;
		close_errors(&s->errors);
	}
}

/*
 * There is a next router at the other end of fd. Give it all that does not run here; what runs is finished
 * here, and its connection and worker follow. The workers come first: with them known it can begin.
 */
static void
hand_over(int fd, int64_t now_ms)
{
	struct request *r, *next;
	struct worker *w;
	struct pool *p;
	bool again = released;
	size_t b;
	int i;

	if (successor != -1)
		close(successor);
	successor = fd;
	released = true;
	listeners_close();
	hand_all_counters();
	pool_hand_over(true);
	dispatch(now_ms);
	hand_servers();
	for (b = 0; b < POOL_BUCKETS; b++)
		for (p = pool_bucket(b); p != NULL; p = p->hash_next)
			for (w = p->workers; successor != -1 && w != NULL; w = w->pool_next)
				if (w->busy > 0 && hand_serving(successor, w) == -1)
					successor_lost();
	if (!again)
		tell_master(MSG_RELEASED, NULL);
	/* In the order in which they wait. */
	for (b = 0; b < POOL_BUCKETS; b++)
		for (p = pool_bucket(b); p != NULL; p = p->hash_next)
			for (i = 0; i < p->conf->napps; i++)
				for (r = p->apps[i].queue_first; r != NULL; r = next) {
					next = r->queue_next;
					sync_request(r, now_ms);
				}
	for (r = all; r != NULL; r = r->all_next)
		if (r->state == REQ_IDLE)
			sync_request(r, now_ms);
}

/* An error pipe that an earlier router has read so far; *fd becomes -1 if it is ours now. */
static void
take_errors(struct errors *e, int *fd, const char *line)
{
	if (e->fd != -1 || *fd == -1)
		return;
	e->line_len = (int)strlen(line);
	memcpy(e->line, line, (size_t)e->line_len);
	e->fd = *fd;
	*fd = -1;
	watch_errors(e);
}

static void
server_handed(const struct handed *h)
{
	struct server *s = server_find(h->worker);
	int error_fd = h->error_fd;

	if (released) {
		if (successor != -1 && hand_server(successor, h) == -1)
			successor_lost();
	} else if (s != NULL) {
		s->start_ms = h->start_ms;
		take_errors(&s->errors, &error_fd, h->line);
	}
	if (error_fd != -1)
		close(error_fd);
	if (h->link_fd != -1)
		close(h->link_fd);
}

static void
worker_handed(const struct handed *h)
{
	struct worker *w = pool_worker(h->worker);
	int error_fd = h->error_fd, link_fd = h->link_fd;

	if (released) {
		/* It was under way when we were replaced ourselves: on to the one that gets it. */
		if (successor != -1 && hand_worker(successor, h) == -1)
			successor_lost();
		goto close;
	}
	if (w == NULL || w->state == WORKER_STARTING || w->state == WORKER_GONE || w->handed)
		goto close;		/* it has exited meanwhile */
	w->handed = true;
	/* The master's word may have been faster, when this came by way of two routers. */
	w->requests = w->state == WORKER_ELSEWHERE ? h->requests : w->requests + h->requests;
	w->start_ms = h->start_ms;
	if (w->state == WORKER_ELSEWHERE) {
		w->idle_ms = h->idle_ms;
		w->closes = h->closes;
	}
	if (w->forked && h->pid > 0)
		w->pid = w->errors.pid = h->pid;
	if (link_fd != -1 && w->links[0].fd == -1 && w->busy == 0 && request_connected_to(w, link_fd) && (w->state == WORKER_ELSEWHERE || w->state == WORKER_IDLE)) {
		request_link(&w->links[0], link_fd);
		link_fd = -1;
	}
	take_errors(&w->errors, &error_fd, h->line);
close:
	if (error_fd != -1)
		close(error_fd);
	if (link_fd != -1)
		close(link_fd);
}

static void
worker_serves(const struct handed *h)
{
	struct worker *w = pool_worker(h->worker);

	if (w == NULL || w->state != WORKER_ELSEWHERE)
		return;
	w->requests = h->requests;
	if (w->forked && h->pid > 0)
		w->pid = w->errors.pid = h->pid;
	w->start_ms = h->start_ms;
	w->elsewhere_ms = h->request_ms;
	if (w->elsewhere == NULL && (w->elsewhere = malloc(sizeof(*w->elsewhere))) == NULL)
		return;			/* status has less to say */
	*w->elsewhere = *h->about;
}

static void
request_handed(struct request *r, int64_t now_ms)
{
	if (r->state == REQ_IDLE && (quitting || !peer_allowed(r->listen, r->web_fd)))
		r->state = REQ_DEAD;
	if (r->state == REQ_DEAD) {
		request_free(r);
		return;
	}
	request_arrived(r, now_ms);
	if (quitting)
		request_last(r, true, now_ms);
	add_request(r, now_ms);
}

static void
heritage_end(struct heritage *h)
{
	struct heritage **hp;

	for (hp = &heritages; *hp != h; hp = &(*hp)->next)
		;
	*hp = h->next;
	watch_remove(&h->slot);
	close(h->sock);
	free(h);
}

/* Take what an earlier router gives, at most so many packets; -1: all there are. */
static void
heritage_ready(struct heritage *h, int batch, int64_t now_ms)
{
	struct handed in;

	while (batch == -1 || batch-- > 0)
		switch (hand_get(h, &in, conf, now_ms)) {
		case HAND_NOTHING:
			return;
		case HAND_END:
			heritage_end(h);
			return;
		case HAND_NONSENSE:
			log_warnx("the router before handed over something that can not be used");
			break;
		case HAND_WORKER:
			worker_handed(&in);
			break;
		case HAND_SERVING:
			worker_serves(&in);
			break;
		case HAND_SERVER:
			server_handed(&in);
			break;
		case HAND_REQUEST:
			request_handed(in.request, now_ms);
			break;
		case HAND_COUNTERS:
			pool_add_counters(in.pool, in.counters);
			break;
		case HAND_BYTES:
			break;
		}
}

static void
heritage_new(int fd)
{
	struct heritage *h;

	if (fd == -1 || (h = calloc(1, sizeof(*h))) == NULL) {
		log_warnx("nothing can be taken over from the router before");
		if (fd != -1)
			close(fd);
		return;
	}
	h->sock = fd;
	if ((h->slot = watch_add(fd, POLLIN, WATCH_HERITAGE, h)) == -1) {
		log_warnx("nothing can be taken over from the router before");
		close(fd);
		free(h);
		return;
	}
	h->next = heritages;
	heritages = h;
}

/* The master's word on a worker that an earlier router had. */
static void
take_over(const struct msg *msg, int64_t now_ms)
{
	struct worker *w = pool_worker(msg->worker);
	struct heritage *h, *next;
	struct server *s;
	struct pool *p = NULL;

	if (w == NULL) {
		if ((p = msg->pool != NO_POOL ? pool_get(msg->text) : pool_removed()) != NULL && msg->app < (uint32_t)p->conf->napps)
			w = pool_adopt(msg->worker, (pid_t)msg->pid, p, (int)msg->app, (enum take)msg->value, now_ms);
		if (p != NULL)
			pool_release(p);
		if (w == NULL) {
			log_warn("pool %s: worker %ld can not be taken over", msg->text, (long)msg->pid);
			return;
		}
		nworkers++;
		if (msg->server != 0) {
			w->forked = true;
			if ((s = server_find(msg->server)) != NULL)
				server_attach(s, w);
		}
	}
	if (msg->value != TAKE_IDLE && msg->value != TAKE_STOPPED && msg->value != TAKE_RETIRED)
		return;
	/* What belongs to it was sent before the master was asked, so it is here. */
	for (h = heritages; !w->handed && h != NULL; h = next) {
		next = h->next;
		heritage_ready(h, -1, now_ms);
	}
	w->wants_adopt = w->server != NULL;
	if (msg->value == TAKE_IDLE) {
		pool_taken(w, now_ms);
		/* Its connection was none of its app server's. */
		if (w->forked && w->links[0].fd == -1)
			pool_retire(w, END_CLOSED);
	} else {
		close_links(w);
		pool_stopped(w, msg->value == TAKE_RETIRED ? END_RETIRED : END_RELOAD);
		signal_worker(w, SIGTERM, now_ms);
	}
	if (w->server != NULL)
		server_talk(w->server, now_ms);
}

/* ---- status ------------------------------------------------------------------------------------------------ */

static void
page_end(struct page *pg)
{
	watch_remove(&pg->slot);
	close(pg->fd);
	pg->fd = -1;
	status_free(pg->status);
}

/* Write on, as far as the reader takes it. */
static void
page_ready(struct page *pg, int64_t now_ms)
{
	int pieces = 0;
	ssize_t n;

	for (;;) {
		if (pg->rest == NULL) {
			if (pieces++ == STATUS_PIECES)
				return;
			if ((pg->rest = status_next(pg->status, &pg->rest_len, now_ms)) == NULL) {
				if (pg->last) {
					page_end(pg);
					return;
				}
				pg->last = true;
				if (status_failed(pg->status)) {
					log_warnx("status: no memory; the page is cut");
					continue;
				}
				pg->rest = "";		/* its NUL says that this was all */
				pg->rest_len = 1;
			}
		}
		if ((n = write(pg->fd, pg->rest, pg->rest_len)) == -1) {
			if (errno == EAGAIN || errno == EINTR)
				return;
			page_end(pg);	/* it has seen enough */
			return;
		}
		pg->rest += n;
		if ((pg->rest_len -= (size_t)n) == 0)
			pg->rest = NULL;
	}
}

/* Before we leave: a page that is under way shall not end in its middle, unless its reader does not read. */
static void
pages_finish(void)
{
	int64_t now_ms, end_ms = os_now_ms() + STATUS_END_MS;
	struct pollfd pfd;
	int i;

	for (i = 0; i < STATUS_MAX; i++)
		while (pages[i].fd != -1 && (now_ms = os_now_ms()) < end_ms) {
			pfd.fd = pages[i].fd;
			pfd.events = POLLOUT;
			if (poll(&pfd, 1, (int)(end_ms - now_ms)) == 1)
				page_ready(&pages[i], now_ms);
		}
}

static void
page_new(int fd, enum status_format format, const char *pool)
{
	struct page *pg = NULL;
	int i;

	for (i = 0; i < STATUS_MAX; i++)
		if (pages[i].fd == -1)
			pg = &pages[i];
	if (fd == -1 || pg == NULL || fcntl(fd, F_SETFL, O_NONBLOCK) == -1)
		goto fail;
	if ((pg->status = status_new(conf, format, pool, &info)) == NULL)
		goto fail;
	if ((pg->slot = watch_add(fd, POLLOUT, WATCH_STATUS, pg)) == -1) {
		status_free(pg->status);
		goto fail;
	}
	pg->fd = fd;
	pg->last = false;
	pg->rest = NULL;
	return;
fail:
	log_warnx("status: %s", pg == NULL ? "too many pages at a time" : "no memory");
	if (fd != -1)
		close(fd);
}

/* ---- the master --------------------------------------------------------------------------------------- */

/* Accept no more; with refuse, answer what waits; leave when the last request is done. */
static void
quit(bool refuse, int64_t now_ms)
{
	struct request *r;

	if (going && !quitting && !refuse)
		accept_last(now_ms);
	quitting = true;
	listeners_close();
	for (r = all; r != NULL; r = r->all_next) {
		request_last(r, refuse, now_ms);
		sync_request(r, now_ms);
	}
	if (refuse)
		pool_close(CANNOT_START "stop: zfpm is stopping");
}

static void
master_ready(int64_t now_ms)
{
	char message[TEXT_LEN + sizeof(CANNOT_START)];
	struct server *s;
	struct worker *w;
	struct msg msg;
	int fd, n;

	while ((n = ipc_recv(master_fd, &msg, &fd)) == 1) {
		w = pool_worker(msg.worker);
		switch (msg.type) {
		case MSG_PING:
			tell_master(MSG_PONG, NULL);
			break;
		case MSG_STARTED:
			if (w == NULL)
				break;
			w->errors.fd = fd;
			w->errors.pid = (pid_t)msg.pid;
			fd = -1;
			watch_errors(&w->errors);
			log_debug("pool %s: worker %ld: started", w->pool->name, (long)msg.pid);
			pool_started(w, (pid_t)msg.pid, now_ms);
			break;
		case MSG_FAILED:
			if (w == NULL)
				break;
			/* No text: nothing was wrong with it, but it is the next router's, and so is every one to come. */
			if (msg.text[0] == '\0')
				pool_hand_over(successor != -1);
			snprintf(message, sizeof(message), CANNOT_START "%.*s", TEXT_LEN - 1, msg.text);
			worker_failed(w, msg.text[0] != '\0' ? message : NULL, now_ms);
			break;
		case MSG_EXITED:
			if (w != NULL)
				worker_exited(w, msg.value, now_ms);
			break;
		case MSG_SERVER:
			msg.text[sizeof(msg.text) - 1] = '\0';
			server_known(&msg, fd, now_ms);
			fd = -1;
			break;
		case MSG_FORK:
			if (w != NULL && (s = server_find(msg.server)) != NULL) {
				fork_there(w, s, now_ms);
			} else if (w != NULL) {
				tell_master_ended(w, 0);
				worker_failed(w, CANNOT_START "start: its app server is not known", now_ms);
			}
			break;
		case MSG_SERVER_STALE:
			if ((s = server_find(msg.server)) != NULL)
				for (w = s->workers; w != NULL; w = w->server_next)
					pool_replace(w, END_RELOAD);
			break;
		case MSG_SERVER_GONE:
			msg.text[sizeof(msg.text) - 1] = '\0';
			if ((s = server_find(msg.server)) != NULL)
				server_gone(s, &msg, now_ms);
			break;
		case MSG_QUIT:
			quit(msg.value != 0, now_ms);
			break;
		case MSG_HANDOVER:
			if (fd == -1)
				break;
			hand_over(fd, now_ms);
			fd = -1;
			break;
		case MSG_HEIR:
			heritage_new(fd);
			fd = -1;
			break;
		case MSG_TAKE:
			msg.text[sizeof(msg.text) - 1] = '\0';
			take_over(&msg, now_ms);
			break;
		case MSG_GO:
			going = true;
			if (!released) {
				if (!quitting)
					listeners_watch(POLLIN);
				pool_go(msg.worker);
			}
			break;
		case MSG_LOG:
			if (fd != -1 && log_fd != -1) {
				dup2(fd, log_fd);
			} else if (fd != -1) {
				log_init("router", conf->log_target, log_fd = fd, conf->log_level);
				fd = -1;
			}
			break;
		case MSG_ERROR_LOG:
			msg.text[sizeof(msg.text) - 1] = '\0';
			if (pool_set_error_log(msg.text, fd) == 0)
				fd = -1;
			break;
		case MSG_RETIRE:
			msg.text[sizeof(msg.text) - 1] = '\0';
			pool_renew(msg.text);
			break;
		case MSG_STATUS:
			msg.text[sizeof(msg.text) - 1] = '\0';
			page_new(fd, (enum status_format)msg.value, msg.text);
			fd = -1;
			break;
		default:
			fatalx("unknown message %u from the master", msg.type);
		}
		if (fd != -1)
			close(fd);
		dispatch(now_ms);
	}
	if (n == 0 || (n == -1 && errno != EAGAIN)) {
		/* It is gone, and nobody starts workers any more: finish what runs. */
		log_warnx("the master is gone; finishing");
		close(master_fd);
		master_fd = -1;
		for (n = 0; n < npfds; n++)
			if (watches[n].kind == WATCH_MASTER)
				pfds[n].fd = -1;
		quit(true, now_ms);
		dispatch(now_ms);
	}
}

/* ---- time ------------------------------------------------------------------------------------------------- */

/* The struct that a timer is embedded in. */
#define OWNER(t, type)	((struct type *)(void *)((char *)(t) - offsetof(struct type, timer)))

static void
timers_ready(int64_t now_ms)
{
	struct timer *t;
	struct request *r;
	struct worker *w;

	while ((t = timeout_pop(now_ms)) != NULL) {
		switch (t->kind) {
		case TIMER_REQUEST:
			r = OWNER(t, request);
			request_timeout(r, now_ms);
			sync_request(r, now_ms);
			break;
		case TIMER_WORKER:
			w = OWNER(t, worker);
			if (w->state == WORKER_STOPPING) {
				worker_overdue(w, now_ms);
			} else if (w->state == WORKER_LEAVING && pool_patience(w, now_ms)) {
				break;
			} else if (w->state == WORKER_LEAVING) {
				log_warnx("pool %s: worker %ld: did not come back within %llds of losing its request", w->pool->name,
				    (long)w->pid, (long long)w->pool->conf->timeout_ms[TIMEOUT_APP] / 1000);
				close_links(w);
				pool_retire(w, END_TIMEOUT);
			} else {
				pool_idle_too_long(w);
			}
			break;
		case TIMER_POOL:
			pool_timeout(OWNER(t, pool), now_ms);
			break;
		case TIMER_SERVER:
			server_overdue(OWNER(t, server), now_ms);
			break;
		}
		dispatch(now_ms);
	}
}

/* Milliseconds until something is due, for poll(). */
static int
wait_ms(int64_t now_ms)
{
	int64_t next = timeout_next();

	if (errors_fd == -1 && nworkers + nservers > 0 && (next == 0 || errors_ms < next))
		next = errors_ms;
	if (mute_ms != 0 && (next == 0 || mute_ms < next))
		next = mute_ms;
	if (paused_ms > now_ms && (next == 0 || paused_ms < next))
		next = paused_ms;
	if (next == 0)
		return -1;
	if (next <= now_ms)
		return 0;
	return next - now_ms > INT_MAX ? INT_MAX : (int)(next - now_ms);
}

/* ---- the whole ---------------------------------------------------------------------------------------------- */

static void
webs_ready(int64_t now_ms)
{
	short revents[64];
	void *ready[64];
	struct request *r;
	int i, n;

	n = os_watch_ready(webs_fd, ready, revents, 64);
	for (i = 0; i < n; i++) {
		r = ready[i];
		if (!r->web_watched)
			continue;	/* one before it has changed that */
		request_web_ready(r, revents[i], now_ms);
		sync_request(r, now_ms);
		dispatch(now_ms);
	}
}

/* Wait, and serve everything that is ready once. */
static void
turn(void)
{
	int64_t now_ms = os_now_ms();
	struct request *r;
	short revents;
	int i, n;

	if ((n = poll(pfds, (nfds_t)npfds, wait_ms(now_ms))) == -1) {
		if (errno != EINTR)
			fatal("poll");
		return;
	}
	now_ms = os_now_ms();
	for (i = npfds - 1; i >= 0 && n > 0; i--) {
		if (i >= npfds || (revents = pfds[i].revents) == 0)
			continue;
		pfds[i].revents = 0;
		n--;
		switch (watches[i].kind) {
		case WATCH_MASTER:
			master_ready(now_ms);
			break;
		case WATCH_ERRORS:
			errors_ready(now_ms);
			break;
		case WATCH_WEBS:
			webs_ready(now_ms);
			break;
		case WATCH_LISTEN:
			accept_ready(watches[i].owner, now_ms);
			break;
		case WATCH_WEB:
			r = watches[i].owner;
			request_web_ready(r, revents, now_ms);
			sync_request(r, now_ms);
			break;
		case WATCH_APP:
			r = watches[i].owner;
			request_app_ready(r, revents, now_ms);
			sync_request(r, now_ms);
			break;
		case WATCH_PROBE:
			probe_ready(watches[i].owner, now_ms);
			break;
		case WATCH_SERVER:
			server_ready(watches[i].owner, now_ms);
			break;
		case WATCH_HERITAGE:
			if (!going)	/* what it belongs to has to be known first */
				master_ready(now_ms);
			if (i < npfds && watches[i].kind == WATCH_HERITAGE)
				heritage_ready(watches[i].owner, HAND_BATCH, now_ms);
			break;
		case WATCH_STATUS:
			page_ready(watches[i].owner, now_ms);
			break;
		}
		dispatch(now_ms);
	}
	timers_ready(now_ms);
	unmute(now_ms);
	if (errors_fd == -1 && errors_ms <= now_ms)
		errors_ready(now_ms);
	router_sweep(now_ms);
}

/* Is there nothing left to do, now or later? */
static bool
finished(void)
{
	if (all != NULL || heritages != NULL)
		return false;
	return quitting || (released && !pool_own_workers());
}

void
router_run(const struct conf *c, int fd, int log, const struct status_info *si)
{
	static const int ignored[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGPIPE };
	struct conf_listen *l;
	struct sigaction sa;
	struct rlimit rl;
	size_t i;

	conf = c;
	master_fd = fd;
	log_fd = log;
	info = *si;
	info.max_workers = conf->max_workers;
	info.npools = conf->npools;
	for (i = 0; i < STATUS_MAX; i++)
		pages[i].fd = pages[i].slot = -1;
	log_process("router");
	os_title("zfpm: router");
	/* From a terminal or a service manager these reach us too; the master says when to leave. */
	memset(&sa, 0, sizeof(sa));
	sigemptyset(&sa.sa_mask);
	sa.sa_handler = SIG_IGN;
	for (i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		sigaction(ignored[i], &sa, NULL);
	sa.sa_handler = SIG_DFL;
	sigaction(SIGCHLD, &sa, NULL);
	/* It never starts a process, and never may. */
	rl.rlim_cur = rl.rlim_max = 0;
	if (os_no_new_privileges() == -1 || setrlimit(RLIMIT_NPROC, &rl) == -1)
		fatal("giving up privileges");
	if (getrlimit(RLIMIT_NOFILE, &rl) == -1)
		fatal("getrlimit");
	max_fds = rl.rlim_cur == RLIM_INFINITY || rl.rlim_cur > INT_MAX ? INT_MAX : (int)rl.rlim_cur;
	max_fds -= SPARE_FDS;

	pool_init(conf);
	request_init(conf, &info);
	server_init(info.generation);
	errors_fd = os_watch_open();
	webs_fd = os_watch_open();
	if (watch_add(master_fd, POLLIN, WATCH_MASTER, NULL) == -1 || watch_add(errors_fd, POLLIN, WATCH_ERRORS, NULL) == -1 ||
	    watch_add(webs_fd, POLLIN, WATCH_WEBS, NULL) == -1)
		fatal("poll set");
	for (l = conf->listens; l != NULL; l = l->next)
		if (watch_add(l->fd, 0, WATCH_LISTEN, l) == -1)	/* until MSG_GO */
			fatal("poll set");
	tell_master(MSG_PONG, NULL);
	while (!finished())
		turn();
	pages_finish();
	if (successor != -1)
		hand_all_counters();
	log_debug("done");
	exit(0);
}
