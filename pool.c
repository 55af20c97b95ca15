/*
 * pool.c: who serves, who waits, who is evicted.
 *
 * Owns the living pools, their workers and their queues, and every decision
 * about them; router.c carries the decisions out (pool_next()). Never does
 * I/O, never sees a byte of a request.
 *
 * A pool stands in the ready list when something has changed for it, in the
 * starved list when nothing but the global limit keeps it from a worker, and in
 * the ahead list when it has fewer workers than its min_workers.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zfpm.h"

#define WORKER_HASH	4096		/* a power of two */
#define AHEAD_MAX	8		/* workers that nobody waits for start so many at a time */
#define DOUBT_MS	100		/* a worker that closed its connection is back by then, or has exited */
#define LEFT_MAX	2		/* so many workers that leave after as many responses are a habit, one may be an accident */
#define BACKOFF_MIN_MS	100
#define BACKOFF_MAX_MS	10000
#define BACKOFF_FORGET_MS 60000		/* so long after the last failed start, the next one counts as the first */

static const struct conf *conf;
static struct pool	*pool_hash[POOL_BUCKETS];
static struct worker	*worker_hash[WORKER_HASH];
static struct worker	*lru_first, *lru_last;	/* workers that serve nobody, longest idle first */
static int		 nlru;
static struct worker	*chores;		/* to be stopped or probed */
static struct pool	*ready_first, *ready_last;
static struct pool	*starved;		/* unordered */
static int		 nstarved;
static struct pool	*ahead_first, *ahead_last;
static int		 nahead;		/* workers that start ahead */
static int		 total;			/* workers of all pools that have not exited */
static int		 by_state[WORKER_GONE + 1];	/* of them */
static uint32_t		 next_worker;
static const char	*closing;		/* why nothing is started any more */
static bool		 starting;		/* workers may be started: not before all is known that earlier routers had, nor when there is a next one */
static bool		 giving;		/* there is a next router that takes what becomes idle */
static struct counters	**exact;		/* of the configured pools, by index; NULL: none yet */
static struct pool_app	**exact_apps;		/* likewise: what is known of them outlives their workers */
struct counters		 all_counters;

/* What becomes of workers whose pool is configured no more: they count, and are never ours. */
static const struct conf_app removed_app = { .name = "-", .connections = 1 };
static const struct conf_app *const removed_apps[] = { &removed_app };
static const struct conf_pool removed_conf = {
	.name = "(removed)", .index = -1, .star = -1, .napps = 1, .apps = (struct conf_app **)(uintptr_t)removed_apps,
	.timeout_ms = { [TIMEOUT_KILL] = 5000, [TIMEOUT_START] = 60000, [TIMEOUT_APP] = 900000 },
};

void
pool_init(const struct conf *c)
{
	conf = c;
	exact = calloc((size_t)conf->npools + 1, sizeof(struct counters *));
	exact_apps = calloc((size_t)conf->npools + 1, sizeof(struct pool_app *));
	if (exact == NULL || exact_apps == NULL)
		fatal("pools");
}

/* ---- lists -------------------------------------------------------------------------- */

static void
set_ready(struct pool *p)
{
	if (p->in_ready)
		return;
	p->in_ready = true;
	p->ready_next = NULL;
	if (ready_first == NULL)
		ready_first = p;
	else
		ready_last->ready_next = p;
	ready_last = p;
}

static void
unset_ready(struct pool *p)
{
	struct pool **pp, *last = NULL;

	if (!p->in_ready)
		return;
	for (pp = &ready_first; *pp != p; pp = &(*pp)->ready_next)
		last = *pp;
	*pp = p->ready_next;
	if (ready_last == p)
		ready_last = last;
	p->in_ready = false;
}

static void
set_starved(struct pool *p)
{
	if (p->in_starved)
		return;
	p->in_starved = true;
	p->starved_prev = NULL;
	p->starved_next = starved;
	if (starved != NULL)
		starved->starved_prev = p;
	starved = p;
	nstarved++;
}

static void
unset_starved(struct pool *p)
{
	if (!p->in_starved)
		return;
	p->in_starved = false;
	if (p->starved_prev != NULL)
		p->starved_prev->starved_next = p->starved_next;
	else
		starved = p->starved_next;
	if (p->starved_next != NULL)
		p->starved_next->starved_prev = p->starved_prev;
	nstarved--;
}

static void
idle_insert(struct worker *w)
{
	struct pool_app *a = &w->pool->apps[w->app];

	w->idle_prev = NULL;
	w->idle_next = a->idle_first;
	if (a->idle_first != NULL)
		a->idle_first->idle_prev = w;
	else
		a->idle_last = w;
	a->idle_first = w;
}

static void
idle_remove(struct worker *w)
{
	struct pool_app *a = &w->pool->apps[w->app];

	if (w->idle_prev != NULL)
		w->idle_prev->idle_next = w->idle_next;
	else
		a->idle_first = w->idle_next;
	if (w->idle_next != NULL)
		w->idle_next->idle_prev = w->idle_prev;
	else
		a->idle_last = w->idle_prev;
}

static void
lru_insert(struct worker *w)
{
	w->in_lru = true;
	nlru++;
	w->lru_next = NULL;
	w->lru_prev = lru_last;
	if (lru_last != NULL)
		lru_last->lru_next = w;
	else
		lru_first = w;
	lru_last = w;
}

static void
lru_remove(struct worker *w)
{
	if (!w->in_lru)
		return;
	w->in_lru = false;
	nlru--;
	if (w->lru_prev != NULL)
		w->lru_prev->lru_next = w->lru_next;
	else
		lru_first = w->lru_next;
	if (w->lru_next != NULL)
		w->lru_next->lru_prev = w->lru_prev;
	else
		lru_last = w->lru_prev;
}

static void
add_chore(struct worker *w)
{
	if (w->in_chores)
		return;
	w->in_chores = true;
	w->chore_next = chores;
	chores = w;
}

static void
set_ahead(struct pool *p)
{
	if (p->in_ahead)
		return;
	p->in_ahead = true;
	p->ahead_next = NULL;
	if (ahead_first == NULL)
		ahead_first = p;
	else
		ahead_last->ahead_next = p;
	ahead_last = p;
}

/* ---- pools ----------------------------------------------------------------------------- */

static struct pool **
bucket_of(const char *name)
{
	uint32_t h = 2166136261u;	/* FNV-1a */

	for (; *name != '\0'; name++)
		h = (h ^ (uint8_t)*name) * 16777619u;
	return &pool_hash[h % POOL_BUCKETS];
}

/* The bucket that i stands for, for whoever looks at all pools. */
struct pool *
pool_bucket(size_t i)
{
	return pool_hash[i];
}

const struct counters *
pool_counters(const struct conf_pool *cp)
{
	return exact[cp->index];
}

static struct pool *
pool_new(const struct conf_pool *cp, const char *name)
{
	struct pool **bucket = bucket_of(name), *p;
	bool lasts = cp->index >= 0 && cp->star == -1;
	struct counters *counters = lasts ? exact[cp->index] : NULL;
	struct pool_app *apps = lasts ? exact_apps[cp->index] : NULL;

	p = calloc(1, sizeof(*p));
	if (apps == NULL)
		apps = calloc((size_t)cp->napps, sizeof(*apps));
	if (counters == NULL)
		counters = calloc(1, sizeof(*counters));
	if (lasts) {
		exact[cp->index] = counters;
		exact_apps[cp->index] = apps;
	}
	if (p == NULL || apps == NULL || counters == NULL) {
		if (!lasts) {
			free(apps);
			free(counters);
		}
		free(p);
		errno = ENOMEM;
		return NULL;
	}
	p->apps = apps;
	p->counters = counters;
	p->conf = cp;
	p->error_log_fd = -1;
	snprintf(p->name, sizeof(p->name), "%s", name);
	timeout_init(&p->timer, TIMER_POOL);
	p->hash_next = *bucket;
	*bucket = p;
	return p;
}

static struct pool *
pool_find(const char *name)
{
	struct pool *p;

	for (p = *bucket_of(name); p != NULL; p = p->hash_next)
		if (strcmp(p->name, name) == 0)
			return p;
	return NULL;
}

struct pool *
pool_get(const char *name)
{
	const struct conf_pool *cp;
	struct pool *p;

	if ((p = pool_find(name)) == NULL) {
		errno = ENOENT;
		if (!conf_name_ok(name) || (cp = conf_find(conf, name)) == NULL)
			return NULL;
		if ((p = pool_new(cp, name)) == NULL)
			return NULL;
	}
	p->requests++;
	return p;
}

struct pool *
pool_removed(void)
{
	struct pool *p;

	if ((p = pool_find(removed_conf.name)) == NULL && (p = pool_new(&removed_conf, removed_conf.name)) == NULL)
		return NULL;
	p->requests++;
	return p;
}

/* Free the pool if nothing of it is left. */
static void
pool_settle(struct pool *p)
{
	struct pool **pp;
	int i;

	if (p->nworkers > 0 || p->requests > 0 || p->servers != NULL || p->workers != NULL || p->conf->min_workers > 0)
		return;
	for (i = 0; i < p->conf->napps; i++)
		if (p->apps[i].backoff_ms != 0)
			return;
	for (pp = bucket_of(p->name); *pp != p; pp = &(*pp)->hash_next)
		;
	*pp = p->hash_next;
	unset_ready(p);
	unset_starved(p);
	timeout_remove(&p->timer);
	if (p->error_log_fd != -1)
		close(p->error_log_fd);
	if (p->conf->index < 0 || p->counters != exact[p->conf->index]) {
		free(p->counters);
		free(p->apps);
	}
	free(p);
}

void
pool_served(struct pool *p, int64_t now_ms)
{
	COUNT(p, requests);
	if (now_ms - p->window_ms >= RATE_MS) {
		p->last_requests = now_ms - p->window_ms < 2 * RATE_MS ? p->window_requests : 0;
		p->window_requests = 0;
		p->window_ms = now_ms - now_ms % RATE_MS;
	}
	p->window_requests++;
}

void
pool_release(struct pool *p)
{
	p->requests--;
	pool_settle(p);
}

int
pool_queue(struct request *r)
{
	struct pool *p = r->pool;
	struct pool_app *a = &p->apps[r->app];
	int64_t room;

	/* Those whose worker is idle, starts, or can be started, do not wait for one that is busy. */
	room = p->conf->max_workers - p->nworkers;
	if (room > conf->max_workers - total)
		room = conf->max_workers - total;
	room = (room > 0 ? room : 0) + a->starting + (a->idle_first != NULL);
	if (p->queued - room * p->conf->apps[r->app]->connections >= p->conf->max_queue)
		return -1;
	pool_queue_again(r);
	return 0;
}

void
pool_queue_again(struct request *r)
{
	struct pool_app *a = &r->pool->apps[r->app];
	struct request *before = a->queue_last, *next;

	while (before != NULL && before->queued_ms > r->queued_ms)
		before = before->queue_prev;
	next = before != NULL ? before->queue_next : a->queue_first;
	r->queue_prev = before;
	r->queue_next = next;
	if (before != NULL)
		before->queue_next = r;
	else
		a->queue_first = r;
	if (next != NULL)
		next->queue_prev = r;
	else
		a->queue_last = r;
	a->queued++;
	r->pool->queued++;
	set_ready(r->pool);
}

void
pool_requeue(struct request *r)
{
	struct pool_app *a = &r->pool->apps[r->app];

	r->queue_prev = NULL;
	r->queue_next = a->queue_first;
	if (a->queue_first != NULL)
		a->queue_first->queue_prev = r;
	else
		a->queue_last = r;
	a->queue_first = r;
	a->queued++;
	r->pool->queued++;
	set_ready(r->pool);
}

void
pool_unqueue(struct request *r)
{
	struct pool_app *a = &r->pool->apps[r->app];

	if (r->queue_prev != NULL)
		r->queue_prev->queue_next = r->queue_next;
	else
		a->queue_first = r->queue_next;
	if (r->queue_next != NULL)
		r->queue_next->queue_prev = r->queue_prev;
	else
		a->queue_last = r->queue_prev;
	r->queue_prev = r->queue_next = NULL;
	a->queued--;
	r->pool->queued--;
	if (r->pool->queued == 0)
		unset_starved(r->pool);
}

/* ---- workers -------------------------------------------------------------------------------- */

struct worker *
pool_worker(uint32_t number)
{
	struct worker *w;

	for (w = worker_hash[number % WORKER_HASH]; w != NULL; w = w->hash_next)
		if (w->number == number)
			return w;
	return NULL;
}

static void	 state_enter(struct worker *, enum worker_state);

static struct worker *
worker_new(struct pool *p, int app, uint32_t number, enum worker_state state, int64_t now_ms)
{
	int i, nlinks = p->conf->apps[app]->connections;
	struct worker *w;

	if ((w = calloc(1, sizeof(*w) + (size_t)nlinks * sizeof(struct link))) == NULL)
		return NULL;
	w->number = number;
	w->pool = p;
	w->app = app;
	w->cause = END_DIED;
	w->closes = p->apps[app].closes;
	w->start_ms = now_ms;
	w->errors.fd = -1;
	w->errors.pool = p;
	w->nlinks = nlinks;
	for (i = 0; i < nlinks; i++) {
		w->links[i].worker = w;
		w->links[i].fd = w->links[i].slot = -1;
	}
	timeout_init(&w->timer, TIMER_WORKER);
	w->hash_next = worker_hash[w->number % WORKER_HASH];
	worker_hash[w->number % WORKER_HASH] = w;
	w->pool_next = p->workers;
	if (p->workers != NULL)
		p->workers->pool_prev = w;
	p->workers = w;
	p->nworkers++;
	total++;
	w->state = WORKER_GONE;
	by_state[WORKER_GONE]++;
	state_enter(w, state);
	return w;
}

static void
worker_free(struct worker *w)
{
	struct worker **pp;
	struct pool *p = w->pool;
	int i;

	for (pp = &worker_hash[w->number % WORKER_HASH]; *pp != w; pp = &(*pp)->hash_next)
		;
	*pp = w->hash_next;
	if (w->in_chores) {
		for (pp = &chores; *pp != w; pp = &(*pp)->chore_next)
			;
		*pp = w->chore_next;
	}
	if (w->pool_prev != NULL)
		w->pool_prev->pool_next = w->pool_next;
	else
		p->workers = w->pool_next;
	if (w->pool_next != NULL)
		w->pool_next->pool_prev = w->pool_prev;
	for (i = 0; i < w->nlinks; i++)
		if (w->links[i].fd != -1)
			close(w->links[i].fd);
	timeout_remove(&w->timer);
	server_detach(w);
	by_state[w->state]--;
	free(w->elsewhere);
	free(w);
	pool_settle(p);
}

/* Take the worker out of whatever its state has put it into. */
static void
state_leave(struct worker *w)
{
	struct pool_app *a = &w->pool->apps[w->app];

	by_state[w->state]--;
	switch (w->state) {
	case WORKER_STARTING:
		if (w->ahead)
			nahead--;
		w->ahead = false;
		a->starting--;
		a->alive--;
		break;
	case WORKER_IDLE:
		idle_remove(w);
		lru_remove(w);
		a->alive--;
		break;
	case WORKER_LEAVING:
		if (w->doubted)
			a->starting--;
		w->doubted = false;
		a->alive--;
		break;
	case WORKER_BUSY:
		a->alive--;
		break;
	case WORKER_STOPPING:
		w->pool->stopping--;
		break;
	case WORKER_ELSEWHERE:
		w->pool->elsewhere--;
		break;
	case WORKER_GONE:
		break;
	}
}

static void
state_enter(struct worker *w, enum worker_state to)
{
	struct pool_app *a = &w->pool->apps[w->app];

	state_leave(w);
	w->state = to;
	by_state[to]++;
	switch (to) {
	case WORKER_STARTING:
		a->starting++;
		a->alive++;
		break;
	case WORKER_IDLE:
		idle_insert(w);
		if (w->busy == 0)
			lru_insert(w);
		a->alive++;
		if (giving && w->busy == 0)
			add_chore(w);
		set_ready(w->pool);
		break;
	case WORKER_BUSY:
	case WORKER_LEAVING:
		a->alive++;
		break;
	case WORKER_STOPPING:
		w->pool->stopping++;
		add_chore(w);
		break;
	case WORKER_ELSEWHERE:
		w->pool->elsewhere++;
		break;
	case WORKER_GONE:
		break;
	}
}

/* Do it with its last request. The first cause is the one that counts. */
static void
set_retiring(struct worker *w, enum end_cause cause)
{
	if (!w->retiring)
		w->cause = cause;
	w->retiring = true;
}

void
pool_retire(struct worker *w, enum end_cause cause)
{
	set_retiring(w, cause);
	if (w->state == WORKER_STOPPING || w->state == WORKER_GONE)
		return;
	if (w->busy == 0)
		state_enter(w, WORKER_STOPPING);
	else if (w->state == WORKER_IDLE)
		state_enter(w, WORKER_BUSY);
}

static void
idle_since(struct worker *w, int64_t now_ms)
{
	w->idle_ms = now_ms;
	/* Without memory for the timer it only stays idle for longer. */
	timeout_arm(&w->timer, now_ms + w->pool->conf->timeout_ms[TIMEOUT_IDLE]);
}

/* A link has become free: decide what its worker is now. */
static void
link_freed(struct link *l, int64_t now_ms)
{
	struct worker *w = l->worker;

	l->request = NULL;
	w->busy--;
	w->pool->busy--;
	switch (w->state) {
	case WORKER_STARTING:
	case WORKER_LEAVING:
	case WORKER_STOPPING:
	case WORKER_ELSEWHERE:
		break;
	case WORKER_GONE:
		if (w->busy == 0)
			worker_free(w);
		break;
	case WORKER_IDLE:
	case WORKER_BUSY:
		if (w->forked && l->fd == -1)
			set_retiring(w, END_CLOSED);
		if (w->retiring) {
			pool_retire(w, w->cause);
			break;
		}
		if (w->busy == 0)
			idle_since(w, now_ms);
		state_enter(w, WORKER_IDLE);	/* to the front: the most recently used */
		break;
	}
}

bool
pool_leaves(const struct worker *w)
{
	const struct pool_app *a = &w->pool->apps[w->app];

	/* A direct worker that stays after all comes back, and then serves on; a forked one has to go. */
	return w->nlinks == 1 && a->left >= (w->forked ? LEFT_MAX : 1) && w->requests + 1 == a->left_after;
}

void
pool_left(struct worker *w)
{
	struct pool_app *a = &w->pool->apps[w->app];

	if (w->requests == 0)
		return;
	a->left = w->requests == a->left_after ? a->left + 1 : 1;
	a->left_after = w->requests;
}

void
pool_put(struct link *l, bool served, int64_t now_ms)
{
	struct worker *w = l->worker;
	struct pool_app *a = &w->pool->apps[w->app];
	int max = w->pool->conf->max_requests;
	bool leaves = served && pool_leaves(w);

	if (served) {
		w->requests++;
		a->backoff_ms = 0;
		if (max != 0 && w->requests >= (uint64_t)max)
			set_retiring(w, END_MAX_REQUESTS);
		if (w->requests > a->left_after)
			a->left = 0;
	}
	if (leaves && (w->forked || !a->fragile) && !w->retiring && w->state == WORKER_BUSY) {
		pool_leave(l, now_ms);
		if (w->forked)
			set_retiring(w, END_CLOSED);
	} else {
		link_freed(l, now_ms);
	}
}

void
pool_leave(struct link *l, int64_t now_ms)
{
	struct worker *w = l->worker;

	if (l->fd != -1)
		close(l->fd);
	l->fd = -1;
	if (w->nlinks > 1 || w->retiring || w->state != WORKER_BUSY) {
		link_freed(l, now_ms);
		return;
	}
	l->request = NULL;
	w->busy--;
	w->pool->busy--;
	state_enter(w, WORKER_LEAVING);
	w->asked = false;
	timeout_arm(&w->timer, now_ms + w->pool->conf->timeout_ms[TIMEOUT_APP]);
	add_chore(w);
}

void
pool_kill(struct link *l, int64_t now_ms)
{
	struct worker *w = l->worker;

	if (w->nlinks > 1) {	/* others are served there */
		pool_leave(l, now_ms);
		return;
	}
	set_retiring(w, END_CUT);
	w->kill = true;
	link_freed(l, now_ms);
}

void
pool_doubt(struct link *l, int64_t now_ms)
{
	struct worker *w = l->worker;

	if (w->nlinks > 1 || w->retiring || w->state != WORKER_BUSY) {
		pool_overdue(l, END_DIED);
		return;
	}
	l->request = NULL;
	w->busy--;
	w->pool->busy--;
	state_enter(w, WORKER_LEAVING);
	w->asked = false;
	/* Back or gone within moments, most likely: nobody else is started in its place so long. */
	w->doubted = true;
	w->pool->apps[w->app].starting++;
	timeout_arm(&w->timer, now_ms + DOUBT_MS);
	add_chore(w);
}

bool
pool_patience(struct worker *w, int64_t now_ms)
{
	struct pool *p = w->pool;

	if (!w->doubted)
		return false;
	if (w->forked) {
		pool_retire(w, END_CLOSED);	/* it lives, but nothing can come to it any more */
		return true;
	}
	w->doubted = false;
	p->apps[w->app].starting--;
	set_ready(p);
	return timeout_arm(&w->timer, now_ms + p->conf->timeout_ms[TIMEOUT_APP]) == 0;
}

void
pool_overdue(struct link *l, enum end_cause cause)
{
	struct worker *w = l->worker;

	if (l->fd != -1)
		close(l->fd);
	l->fd = -1;
	set_retiring(w, cause);
	link_freed(l, 0);
}

void
pool_returned(struct worker *w, int64_t now_ms)
{
	if (w->state != WORKER_LEAVING)
		return;
	if (w->doubted)
		w->closes = true;
	if (w->retiring) {
		state_enter(w, WORKER_STOPPING);
		return;
	}
	idle_since(w, now_ms);
	state_enter(w, WORKER_IDLE);
}

/* So do all workers of its app, or it is to be taken for so. */
static void
all_close(struct worker *w)
{
	struct worker *o;

	w->pool->apps[w->app].closes = true;
	for (o = w->pool->workers; o != NULL; o = o->pool_next)
		if (o->app == w->app)
			o->closes = true;
}

void
pool_closed(struct link *l, int64_t now_ms)
{
	struct worker *w = l->worker;
	struct pool_app *a = &w->pool->apps[w->app];

	if (w->forked || w->nlinks > 1 || w->requests == 0) {
		pool_left(w);
		pool_put(l, false, now_ms);
		return;
	}
	if (!a->closes)
		log_info("pool %s: app %s: closes its connection after a response; its workers will get no second request on one",
		    w->pool->name, w->pool->conf->apps[w->app]->name);
	all_close(w);
	if (a->fragile)
		pool_put(l, false, now_ms);
	else
		pool_doubt(l, now_ms);
}

void
pool_fragile(struct worker *w)
{
	struct pool_app *a = &w->pool->apps[w->app];

	if (a->fragile)
		return;
	a->fragile = true;
	all_close(w);
	log_info("pool %s: app %s: does not survive an empty connection; its workers will not be asked with one when they have closed theirs",
	    w->pool->name, w->pool->conf->apps[w->app]->name);
}

void
pool_started(struct worker *w, pid_t pid, int64_t now_ms)
{
	w->pid = w->errors.pid = pid;
	COUNT(w->pool, started);
	if (w->state != WORKER_STARTING)
		return;
	idle_since(w, now_ms);
	state_enter(w, WORKER_IDLE);
}

void
pool_failed(struct worker *w, const char *reason, int64_t now_ms)
{
	struct pool *p = w->pool;
	struct pool_app *a = &p->apps[w->app];

	/* Those that were started together fail together: that is one failure. */
	if (now_ms >= a->retry_ms) {
		a->backoff_ms = a->backoff_ms == 0 ? BACKOFF_MIN_MS : 2 * a->backoff_ms;
		if (a->backoff_ms > BACKOFF_MAX_MS)
			a->backoff_ms = BACKOFF_MAX_MS;
		a->retry_ms = now_ms + a->backoff_ms;
	}
	snprintf(a->reason, sizeof(a->reason), "%s", reason);
	COUNT(p, start_failures);
	/* Another app of the pool may be due earlier. */
	if ((p->timer.due_ms == 0 || p->timer.due_ms > a->retry_ms) && timeout_arm(&p->timer, a->retry_ms) == -1)
		a->retry_ms = 0;
	set_ready(p);
}

void
pool_timeout(struct pool *p, int64_t now_ms)
{
	struct pool_app *a;
	int64_t next = 0, t;
	int i;

	for (i = 0; i < p->conf->napps; i++) {
		a = &p->apps[i];
		if (a->backoff_ms == 0)
			continue;
		t = a->retry_ms > now_ms ? a->retry_ms : a->retry_ms + BACKOFF_FORGET_MS;
		if (t <= now_ms)
			a->backoff_ms = 0;
		else if (next == 0 || t < next)
			next = t;
	}
	set_ready(p);
	if (p->conf->min_workers > 0)
		set_ahead(p);
	if (next != 0 && timeout_arm(&p->timer, next) == -1)
		log_warnx("pool %s: no memory for a timer", p->name);
	pool_settle(p);
}

void
pool_gone(struct worker *w)
{
	struct pool *p = w->pool;

	/* What happens elsewhere is counted there. */
	if (w->pid != 0 && (w->state != WORKER_ELSEWHERE || w->handed))
		COUNT(p, ended[w->cause]);
	state_enter(w, WORKER_GONE);
	if (w->errors.fd != -1) {
		close(w->errors.fd);
		w->errors.fd = -1;
	}
	server_detach(w);
	p->nworkers--;
	total--;
	set_ready(p);
	if (p->conf->min_workers > 0)
		set_ahead(p);
	if (w->busy == 0)
		worker_free(w);
}

/* Workers that will serve. */
static int
alive(const struct pool *p)
{
	int i, n = p->elsewhere;

	for (i = 0; i < p->conf->napps; i++)
		n += p->apps[i].alive;
	return n;
}

void
pool_idle_too_long(struct worker *w)
{
	/* A worker that min_workers keeps is not looked at again: one that is idle beside it has a timer of its own. */
	if (w->state == WORKER_IDLE && w->busy == 0 && alive(w->pool) > w->pool->conf->min_workers)
		pool_retire(w, END_IDLE);
}

void
pool_replace(struct worker *w, enum end_cause cause)
{
	if (w->state == WORKER_LEAVING)
		set_retiring(w, cause);		/* its script may still run */
	else if (w->state != WORKER_ELSEWHERE)
		pool_retire(w, cause);
}

void
pool_renew(const char *name)
{
	struct worker *w, *next;
	struct pool *p;

	if ((p = pool_find(name)) == NULL)
		return;
	for (w = p->workers; w != NULL; w = next) {
		next = w->pool_next;
		pool_replace(w, END_RETIRED);
	}
}

static void	 make_room(void);

/* ---- from one router to the next ------------------------------------------------------------ */

void
pool_hand_over(bool on)
{
	struct worker *w;

	starting = false;
	giving = on;
	for (w = lru_first; on && w != NULL; w = w->lru_next)
		add_chore(w);
}

void
pool_given(struct worker *w)
{
	struct pool *p = w->pool;

	state_enter(w, WORKER_GONE);
	p->nworkers--;
	total--;
	worker_free(w);
}

struct worker *
pool_adopt(uint32_t number, pid_t pid, struct pool *p, int app, enum take take, int64_t now_ms)
{
	static const enum worker_state states[] = {
		[TAKE_ELSEWHERE] = WORKER_ELSEWHERE,	[TAKE_IDLE] = WORKER_ELSEWHERE,
		[TAKE_STOPPED] = WORKER_ELSEWHERE,	[TAKE_RETIRED] = WORKER_ELSEWHERE,
		[TAKE_STARTING] = WORKER_STARTING,
	};
	struct worker *w;

	if ((w = worker_new(p, app, number, states[take], now_ms)) == NULL)
		return NULL;
	if (take != TAKE_STARTING)
		w->pid = w->errors.pid = pid;
	return w;
}

void
pool_taken(struct worker *w, int64_t now_ms)
{
	struct pool *p = w->pool;

	if (w->state != WORKER_ELSEWHERE)
		return;
	free(w->elsewhere);
	w->elsewhere = NULL;
	w->elsewhere_ms = 0;
	if (w->idle_ms == 0 || w->idle_ms > now_ms)
		w->idle_ms = now_ms;
	timeout_arm(&w->timer, w->idle_ms + p->conf->timeout_ms[TIMEOUT_IDLE]);
	state_enter(w, WORKER_IDLE);
	if (p->nworkers - p->stopping > p->conf->max_workers)
		pool_retire(w, END_RELOAD);
	make_room();
}

void
pool_stopped(struct worker *w, enum end_cause cause)
{
	set_retiring(w, cause);
	if (w->state == WORKER_ELSEWHERE) {
		state_enter(w, WORKER_STOPPING);
		w->told = true;
	}
}

int
pool_set_error_log(const char *name, int fd)
{
	struct pool *p;

	if ((p = pool_find(name)) == NULL)
		return -1;
	if (p->error_log_fd != -1)
		close(p->error_log_fd);
	p->error_log_fd = fd;
	p->error_log_ms = 0;
	return 0;
}

void
pool_add_counters(const char *name, const struct counters *c)
{
	uint64_t *to = (uint64_t *)&all_counters;
	const uint64_t *from = (const uint64_t *)c;
	const struct conf_pool *cp;
	struct pool *p;
	size_t i;

	if (name[0] != '\0') {
		/* Of a pattern's pool they are known as long as that lives. */
		if ((p = pool_find(name)) != NULL)
			to = (uint64_t *)p->counters;
		else if (!conf_name_ok(name) || (cp = conf_find(conf, name)) == NULL || cp->star != -1)
			return;
		else if (exact[cp->index] != NULL || (exact[cp->index] = calloc(1, sizeof(*c))) != NULL)
			to = (uint64_t *)exact[cp->index];
		else
			return;
	}
	for (i = 0; i < sizeof(*c) / sizeof(*to); i++)
		to[i] += from[i];
}

void
pool_forget_counters(void)
{
	struct pool *p;
	size_t b;
	int i;

	memset(&all_counters, 0, sizeof(all_counters));
	for (i = 0; i < conf->npools; i++)
		if (exact[i] != NULL)
			memset(exact[i], 0, sizeof(*exact[i]));
	for (b = 0; b < POOL_BUCKETS; b++)
		for (p = pool_hash[b]; p != NULL; p = p->hash_next)
			memset(p->counters, 0, sizeof(*p->counters));
}

bool
pool_own_workers(void)
{
	return total > by_state[WORKER_ELSEWHERE];
}

void
pool_totals(struct totals *t)
{
	struct server *s;
	struct pool *p;
	size_t i;

	memset(t, 0, sizeof(*t));
	for (i = 0; i < POOL_BUCKETS; i++)
		for (p = pool_hash[i]; p != NULL; p = p->hash_next) {
			t->pools++;
			t->queued += p->queued;
			for (s = p->servers; s != NULL; s = s->pool_next)
				t->servers++;
		}
	t->workers = total;
	t->starting = by_state[WORKER_STARTING];
	t->idle = nlru;
	t->busy = by_state[WORKER_IDLE] - nlru + by_state[WORKER_BUSY] + by_state[WORKER_LEAVING];
	t->stopping = by_state[WORKER_STOPPING];
	t->elsewhere = by_state[WORKER_ELSEWHERE];
	t->counters = all_counters;
}

/* Something has changed for every pool. */
static void
look_at_all(void)
{
	struct pool *p;
	size_t i;

	for (i = 0; i < POOL_BUCKETS; i++)
		for (p = pool_hash[i]; p != NULL; p = p->hash_next)
			set_ready(p);
}

/* A reload may have left fewer places than there are workers: those that have been idle for longest go. */
static void
make_room(void)
{
	while (starting && lru_first != NULL && total - by_state[WORKER_STOPPING] > conf->max_workers)
		pool_retire(lru_first, END_RELOAD);
}

void
pool_go(uint32_t first_worker)
{
	struct pool *p;
	int i;

	next_worker = first_worker;
	starting = true;
	make_room();
	look_at_all();
	for (i = 0; i < conf->npools; i++) {
		if (conf->pools[i]->min_workers == 0)
			continue;
		if ((p = pool_get(conf->pools[i]->name)) == NULL) {
			log_warn("pool %s", conf->pools[i]->name);
			continue;
		}
		p->requests--;		/* it stays, for it has min_workers */
		set_ahead(p);
	}
}

void
pool_close(const char *reason)
{
	closing = reason;
	look_at_all();
}

/* ---- decisions ---------------------------------------------------------------------------------- */

/* The places that a pool uses now: requests served, and workers that start for one. */
static int
share(const struct pool *p)
{
	int i, n = p->busy + p->elsewhere;

	for (i = 0; i < p->conf->napps; i++)
		n += p->apps[i].starting;
	return n;
}

/* When the oldest request that the pool has in a queue came. */
static int64_t
waiting_since(const struct pool *p)
{
	int64_t since = INT64_MAX;
	int i;

	for (i = 0; i < p->conf->napps; i++)
		if (p->apps[i].queue_first != NULL && p->apps[i].queue_first->queued_ms < since)
			since = p->apps[i].queue_first->queued_ms;
	return since;
}

/* Does p come before q when there is a place for one of them? */
static bool
comes_before(const struct pool *p, const struct pool *q)
{
	int of_p = share(p), of_q = share(q);

	return of_p != of_q ? of_p < of_q : waiting_since(p) < waiting_since(q);
}

/* The pool whose turn it is among those that wait for a place; NULL if none does. */
static struct pool *
most_starved(void)
{
	struct pool *p, *best = NULL;

	for (p = starved; p != NULL; p = p->starved_next)
		if (best == NULL || comes_before(p, best))
			best = p;
	return best;
}

/* Must p leave a place to another pool? */
static bool
others_first(const struct pool *p)
{
	struct pool *hungry = most_starved();

	return hungry != NULL && hungry != p && comes_before(hungry, p);
}

/*
 * A worker that can take a request of p's, while another pool waits: let it go
 * for that. One that serves several at a time and is never idle is drained,
 * one of the pool's at a time. Returns whether this worker is not to be used.
 */
static bool
give_way(struct pool *p, struct worker *w)
{
	struct worker *other;

	if (nstarved <= by_state[WORKER_STOPPING] || !others_first(p))
		return false;
	if (w->busy > 0)
		for (other = p->workers; other != NULL; other = other->pool_next)
			if (other->retiring && other->state == WORKER_BUSY)
				return false;
	pool_retire(w, END_EVICTED);
	return true;
}

/* Give the first request of the app to its most recently used worker. */
static void
take(struct pool *p, struct pool_app *a, struct pool_step *s)
{
	struct worker *w = a->idle_first;
	struct request *r = a->queue_first;
	struct link *l, *free_link = NULL;

	for (l = w->links; l < w->links + w->nlinks; l++)
		if (l->request == NULL) {
			free_link = l;
			if (l->fd != -1)
				break;
		}
	pool_unqueue(r);
	free_link->request = r;
	lru_remove(w);
	w->busy++;
	p->busy++;
	if (w->busy == w->nlinks)
		state_enter(w, WORKER_BUSY);
	s->request = r;
	s->link = free_link;
}

/* What can be done for the requests of one app of a ready pool? */
static enum pool_action
app_next(struct pool *p, int app, struct pool_step *s, int64_t now_ms)
{
	struct pool_app *a = &p->apps[app];
	struct worker *w;

	if (a->queue_first == NULL)
		return POOL_NOTHING;
	if ((w = a->idle_first) != NULL) {
		if (give_way(p, w))
			return POOL_NOTHING;
		take(p, a, s);
		return POOL_SERVE;
	}
	if (!starting && closing == NULL)
		return POOL_NOTHING;
	if (closing != NULL || a->retry_ms > now_ms) {
		if (closing == NULL && a->alive > 0)
			return POOL_NOTHING;	/* one that lives will come to it */
		s->request = a->queue_first;
		s->reason = closing != NULL ? closing : a->reason;
		pool_unqueue(s->request);
		return POOL_REFUSE;
	}
	if ((int64_t)a->starting * p->conf->apps[app]->connections >= a->queued)
		return POOL_NOTHING;
	if (p->nworkers >= p->conf->max_workers) {
		/* All places of the pool are taken; one that idles for another of its apps makes room. */
		if (p->stopping == 0)
			for (w = p->workers; w != NULL; w = w->pool_next)
				if (w->state == WORKER_IDLE && w->busy == 0) {
					pool_retire(w, END_EVICTED);
					break;
				}
		return POOL_NOTHING;
	}
	if (total >= conf->max_workers) {
		set_starved(p);
		if (lru_first != NULL && by_state[WORKER_STOPPING] < nstarved)
			pool_retire(lru_first, END_EVICTED);
		return POOL_NOTHING;
	}
	if (others_first(p)) {		/* there is a place, but not for us */
		set_starved(p);
		return POOL_NOTHING;
	}
	unset_starved(p);
	if ((s->worker = worker_new(p, app, next_worker, WORKER_STARTING, now_ms)) == NULL) {
		if (a->alive > 0)
			return POOL_NOTHING;
		s->request = a->queue_first;
		s->reason = CANNOT_START "memory: Cannot allocate memory";
		pool_unqueue(s->request);
		return POOL_REFUSE;
	}
	next_worker++;
	return POOL_START;
}

/* With nobody waiting anywhere: start one of those that min_workers asks for. */
static enum pool_action
start_ahead(struct pool_step *s, int64_t now_ms)
{
	struct pool *p;

	if (closing != NULL || !starting)
		return POOL_NOTHING;
	while ((p = ahead_first) != NULL && nahead < AHEAD_MAX && total < conf->max_workers && nstarved == 0) {
		ahead_first = p->ahead_next;
		p->in_ahead = false;
		if (alive(p) >= p->conf->min_workers || p->nworkers >= p->conf->max_workers || p->apps[0].retry_ms > now_ms)
			continue;	/* pool_gone() and pool_timeout() see to the latter two */
		if ((s->worker = worker_new(p, 0, next_worker, WORKER_STARTING, now_ms)) == NULL) {
			set_ahead(p);		/* when there is memory */
			break;
		}
		next_worker++;
		s->worker->ahead = true;
		nahead++;
		set_ahead(p);		/* for the next one */
		return POOL_START;
	}
	return POOL_NOTHING;
}

/* The same for the whole pool: of several apps, the one whose first request is oldest. */
static enum pool_action
pool_look(struct pool *p, struct pool_step *s, int64_t now_ms)
{
	enum pool_action action;
	bool looked[MAX_APPS] = { false };
	int i, n, oldest;

	for (n = 0; n < p->conf->napps; n++) {
		oldest = -1;
		for (i = 0; i < p->conf->napps; i++)
			if (!looked[i] && p->apps[i].queue_first != NULL &&
			    (oldest == -1 || p->apps[i].queue_first->queued_ms < p->apps[oldest].queue_first->queued_ms))
				oldest = i;
		if (oldest == -1)
			break;
		looked[oldest] = true;
		if ((action = app_next(p, oldest, s, now_ms)) != POOL_NOTHING)
			return action;
	}
	return POOL_NOTHING;
}

enum pool_action
pool_next(struct pool_step *s, int64_t now_ms)
{
	enum pool_action action;
	struct worker *w;
	struct pool *p;

	for (;;) {
		while ((w = chores) != NULL) {
			chores = w->chore_next;
			w->in_chores = false;
			s->worker = w;
			if (w->state == WORKER_STOPPING && !w->told) {
				w->told = true;
				return POOL_STOP;
			}
			if (w->state == WORKER_LEAVING)
				return POOL_PROBE;
			if (w->state == WORKER_IDLE && w->busy == 0 && giving)
				return POOL_GIVE;
		}
		if ((p = ready_first) == NULL) {
			if (nstarved == 0)
				return ahead_first != NULL ? start_ahead(s, now_ms) : POOL_NOTHING;
			if (total >= conf->max_workers) {
				/* A worker that has become idle since makes room. */
				if (lru_first == NULL || by_state[WORKER_STOPPING] >= nstarved)
					return POOL_NOTHING;
				pool_retire(lru_first, END_EVICTED);
				continue;
			}
			/* A place among all is free: to the pool that has least. */
			p = most_starved();
			unset_starved(p);
			set_ready(p);
		}
		if ((action = pool_look(p, s, now_ms)) != POOL_NOTHING)
			return action;
		unset_ready(p);
	}
}
