/*
 * t/unit/status-unit.c: status.c with pools that are made here, for t/17-status-format.t, which compiles it
 * (cc -I. t/unit/status-unit.c). Stands for pool.c, server.c and conf.c, as far as status.c calls them.
 *
 * status SCENE FORMAT [POOL]      the page on standard output; FORMAT: text, json, openmetrics, html
 *   empty      nothing is configured
 *   mixed      pools and workers in every state, with names and URIs of hostile clients
 *   change     1,000 pools; with every piece some come to life, others rest, workers come and go
 *   crowd      one pool with 20,000 workers and 20,000 app servers, of which one each goes with every piece
 *   many       10,000 living pools with 2,000 workers of 20,000 pools; how long it took, on descriptor 2
 *   queue      a pool with 250 requests in two queues
 * status memory FORMAT            no memory, at one place after the other: exit 0 if each was reported
 */
#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t allocations_left = -1;	/* -1: as many as you like */

static bool
no_memory(void)
{
	if (allocations_left > 0)
		allocations_left--;
	return allocations_left == 0;
}

static void *
unit_realloc(void *p, size_t n)
{
	return no_memory() ? NULL : realloc(p, n);
}

static void *
unit_calloc(size_t n, size_t size)
{
	return no_memory() ? NULL : calloc(n, size);
}

#define realloc	unit_realloc
#define calloc	unit_calloc
#include "status.c"
#undef realloc
#undef calloc

#define NOW_MS		1000000000LL
#define NPOOLS		20000

static struct conf	 conf;
static struct conf_pool	*conf_pools[NPOOLS];
static struct conf_app	 app_php = { .name = "php8.2", .connections = 1 };
static struct conf_app	 app_odd = { .name = "odd \"app\"\n", .connections = 4 };
static struct conf_app	*apps[] = { &app_php, &app_odd };
static struct counters	*known[NPOOLS];		/* by index of the configured pool */
static struct pool	*buckets[POOL_BUCKETS];
static struct worker	*workers[65536];	/* by number */
static struct server	*servers[65536];	/* by theirs */
static uint32_t		 next_worker = 1, next_server = 1;
struct counters		 all_counters;

/* ---- instead of pool.c, server.c and conf.c ------------------------------------------------- */

struct pool *
pool_bucket(size_t i)
{
	return buckets[i];
}

struct worker *
pool_worker(uint32_t number)
{
	return workers[number];
}

struct server *
server_find(uint32_t number)
{
	return servers[number];
}

const struct counters *
pool_counters(const struct conf_pool *cp)
{
	return known[cp->index];
}

void
pool_totals(struct totals *t)
{
	struct pool *p;
	struct server *s;
	struct worker *w;
	size_t i;

	memset(t, 0, sizeof(*t));
	for (i = 0; i < POOL_BUCKETS; i++)
		for (p = buckets[i]; p != NULL; p = p->hash_next) {
			t->pools++;
			t->queued += p->queued;
			for (s = p->servers; s != NULL; s = s->pool_next)
				t->servers++;
			for (w = p->workers; w != NULL; w = w->pool_next) {
				switch (worker_shown(w)) {
				case SHOWN_IDLE:	t->idle++; break;
				case SHOWN_BUSY:	t->busy++; break;
				case SHOWN_STARTING:	t->starting++; break;
				case SHOWN_STOPPING:	t->stopping++; break;
				case SHOWN_FINISHING:	t->elsewhere++; break;
				case SHOWN_KINDS:	continue;
				}
				t->workers++;
			}
		}
	t->counters = all_counters;
}

struct conf_pool *
conf_find(const struct conf *c, const char *name)
{
	int i;

	for (i = 0; i < c->npools; i++)
		if (strcmp(c->pools[i]->name, name) == 0 || (c->pools[i]->star == 0 && strstr(name, c->pools[i]->name + 1) != NULL))
			return c->pools[i];
	return NULL;
}

/* ---- making pools -------------------------------------------------------------------- */

static struct conf_pool *
configure(const char *name)
{
	struct conf_pool *cp = calloc(1, sizeof(*cp));

	cp->name = strdup(name);
	cp->index = conf.npools;
	cp->star = name[0] == '*' ? 0 : -1;
	cp->apps = apps;
	cp->napps = 2;
	cp->max_workers = 10;
	conf_pools[conf.npools++] = cp;
	return cp;
}

static struct pool *
live(struct conf_pool *cp, const char *name)
{
	struct pool *p = calloc(1, sizeof(*p));
	size_t h = 5381;
	const char *s;

	p->conf = cp;
	p->apps = calloc((size_t)cp->napps, sizeof(*p->apps));
	snprintf(p->name, sizeof(p->name), "%s", name);
	p->counters = calloc(1, sizeof(*p->counters));
	if (cp->star == -1 && cp->index >= 0) {
		if (known[cp->index] == NULL)
			known[cp->index] = p->counters;
		p->counters = known[cp->index];
	}
	for (s = name; *s != '\0'; s++)
		h = h * 33 + (unsigned char)*s;
	p->hash_next = buckets[h % POOL_BUCKETS];
	buckets[h % POOL_BUCKETS] = p;
	return p;
}

static void
rest(struct pool *p)
{
	struct pool **pp;
	size_t i;

	for (i = 0; i < POOL_BUCKETS; i++)
		for (pp = &buckets[i]; *pp != NULL; pp = &(*pp)->hash_next)
			if (*pp == p) {
				*pp = p->hash_next;
				memset(p, 0x5a, sizeof(*p));	/* who still looks at it will notice */
				free(p);
				return;
			}
}

static struct request *
ask(struct pool *p, int app, const char *method, const char *uri, const char *script, int64_t ago_ms)
{
	struct request *r = calloc(1, sizeof(*r));

	r->pool = p;
	r->app = app;
	r->start_ms = r->queued_ms = NOW_MS - ago_ms;
	snprintf(r->about.method, sizeof(r->about.method), "%s", method);
	snprintf(r->about.uri, sizeof(r->about.uri), "%s", uri);
	snprintf(r->about.script, sizeof(r->about.script), "%s", script);
	return r;
}

static struct worker *
add_worker(struct pool *p, int app, enum worker_state state, int64_t age_ms)
{
	int nlinks = p->conf->apps[app]->connections;
	struct worker *w = calloc(1, sizeof(*w) + (size_t)nlinks * sizeof(struct link));

	w->state = state;
	w->number = next_worker++;
	w->pid = state == WORKER_STARTING ? 0 : (pid_t)(100000 + w->number);
	w->pool = p;
	w->app = app;
	w->nlinks = nlinks;
	w->start_ms = NOW_MS - age_ms;
	w->idle_ms = NOW_MS - age_ms / 2;
	w->requests = w->number;
	w->pool_next = p->workers;
	if (p->workers != NULL)
		p->workers->pool_prev = w;
	p->workers = w;
	p->nworkers++;
	workers[w->number] = w;
	return w;
}

static struct server *
add_server(struct pool *p, int app, enum server_state state, int64_t age_ms)
{
	struct server *s = calloc(1, sizeof(*s));

	s->state = state;
	s->number = next_server++;
	s->pid = (pid_t)(200000 + s->number);
	s->pool = p;
	s->app = app;
	s->start_ms = NOW_MS - age_ms;
	s->pool_next = p->servers;
	p->servers = s;
	servers[s->number] = s;
	return s;
}

/* It has forked this worker. */
static void
forked(struct server *s, struct worker *w)
{
	w->forked = true;
	w->server = s;
	w->server_next = s->workers;
	s->workers = w;
}

static void
remove_server(struct server *s)
{
	struct server **sp;

	for (sp = &s->pool->servers; *sp != s; sp = &(*sp)->pool_next)
		;
	*sp = s->pool_next;
	servers[s->number] = NULL;
	memset(s, 0x5a, sizeof(*s));
	free(s);
}

static void
serve(struct worker *w, int link, struct request *r)
{
	w->links[link].request = r;
	w->busy++;
}

static void
remove_worker(struct worker *w)
{
	if (w->pool_prev != NULL)
		w->pool_prev->pool_next = w->pool_next;
	else
		w->pool->workers = w->pool_next;
	if (w->pool_next != NULL)
		w->pool_next->pool_prev = w->pool_prev;
	w->pool->nworkers--;
	workers[w->number] = NULL;
	memset(w, 0x5a, sizeof(*w));
	free(w);
}

static void
wait_for_worker(struct request *r)
{
	struct pool_app *a = &r->pool->apps[r->app];

	if (a->queue_last != NULL)
		a->queue_last->queue_next = r;
	else
		a->queue_first = r;
	a->queue_last = r;
	a->queued++;
	r->pool->queued++;
}

/* Every counter another number. */
static void
count(struct counters *c, uint64_t from)
{
	uint64_t n[sizeof(*c) / sizeof(uint64_t)] = { 0 };
	size_t i;

	for (i = 0; i < sizeof(n) / sizeof(n[0]); i++)
		n[i] = from + i;
	memcpy(c, n, sizeof(*c));
}

/* ---- scenes ------------------------------------------------------------------------------- */

static void
mixed(void)
{
	static const struct conf_pool removed = { .name = "(removed)", .index = -1, .star = -1, .apps = apps, .napps = 1 };
	struct conf_pool *cp, *pattern;
	struct server *s;
	struct pool *p;
	struct worker *w;
	int64_t i;

	cp = configure("www.example.com");
	p = live(cp, cp->name);
	count(p->counters, 100);
	add_worker(p, 0, WORKER_STARTING, 50);
	add_worker(p, 0, WORKER_IDLE, 7384000);
	w = add_worker(p, 0, WORKER_BUSY, 61000);
	serve(w, 0, ask(p, 0, "GET", "/slow.php?a=1&b=<script>alert(\"x\")</script>", "/srv/www/slow page.php", 1500));
	w = add_worker(p, 1, WORKER_IDLE, 1000);
	serve(w, 2, ask(p, 1, "POST", "/late", "/srv/late", 100));
	serve(w, 1, ask(p, 1, "PUT", "/early", "/srv/early", 200));
	w = add_worker(p, 0, WORKER_BUSY, 1000);
	w->retiring = true;
	w->cause = END_RETIRED;
	serve(w, 0, ask(p, 0, "G\tE T", "/\033[2J\r\nX: y\\", "\001\177", 43200000));
	add_worker(p, 0, WORKER_LEAVING, 1000);
	w = add_worker(p, 0, WORKER_STOPPING, 1000);
	w->cause = END_MAX_REQUESTS;
	w = add_worker(p, 0, WORKER_ELSEWHERE, 1000);
	w->elsewhere = calloc(1, sizeof(*w->elsewhere));
	w->elsewhere_ms = NOW_MS - 90000000;
	snprintf(w->elsewhere->method, sizeof(w->elsewhere->method), "HEAD");
	snprintf(w->elsewhere->uri, sizeof(w->elsewhere->uri), "/elsewhere");
	add_worker(p, 0, WORKER_ELSEWHERE, 1000);
	w = add_worker(p, 0, WORKER_GONE, 1000);
	serve(w, 0, ask(p, 0, "GET", "/gone", "", 10));
	s = add_server(p, 0, SERVER_READY, 7385000);
	forked(s, workers[1]);
	forked(s, workers[2]);
	forked(s, w);			/* gone, and not counted */
	forked(add_server(p, 0, SERVER_LOST, 90000000), workers[8]);
	add_server(p, 1, SERVER_STARTING, 40);
	wait_for_worker(ask(p, 0, "GET", "/first", "/srv/first", 2500));
	wait_for_worker(ask(p, 1, "", "", "", 5000));
	wait_for_worker(ask(p, 0, "GET", "/second", "/srv/second", 10));

	/* Bytes that are no UTF-8, are cut off, longer than they need be, surrogates, controls, and good ones. */
	pattern = configure("*.users.example.com");
	p = live(pattern, "bob.users.example.com");
	w = add_worker(p, 0, WORKER_BUSY, 1000);
	serve(w, 0, ask(p, 0, "GET", "/\xff\xfe \xc3( \xc0\xbc \xed\xa0\x80 \xf4\x90\x80\x80 \xe2\x82 \xc2\x85 \xe2\x80\xae \xc3\xa9 \xe2\x82\xac "
	    "\xf0\x9f\x98\x80 \xc3", "\x80", 0));

	cp = configure("bad\"na\\me\n<b>&'\xff");
	p = live(cp, cp->name);
	add_server(p, 1, SERVER_NEW, 1000);
	add_server(p, 0, SERVER_FAILED, 1000);
	p->apps[0].backoff_ms = 400;
	p->apps[0].retry_ms = NOW_MS + 250;
	snprintf(p->apps[0].reason, sizeof(p->apps[0].reason), "exec: <No> such \"file\"\x1b");
	p->apps[1].backoff_ms = 100;
	p->apps[1].retry_ms = NOW_MS - 1;
	snprintf(p->apps[1].reason, sizeof(p->apps[1].reason), "user: gone");

	add_worker(live((struct conf_pool *)(uintptr_t)&removed, removed.name), 0, WORKER_ELSEWHERE, 0);

	cp = configure("rested.example.com");		/* it has been alive */
	known[cp->index] = calloc(1, sizeof(struct counters));
	count(known[cp->index], 500);
	configure("never.example.com");
	count(&all_counters, 1000);
	/* Numbers that need all their digits. */
	all_counters.bytes_out = UINT64_MAX;
	for (i = 0; i < POOL_BUCKETS; i++)
		for (p = buckets[i]; p != NULL; p = p->hash_next)
			if (p->conf == pattern)
				p->counters->bytes_in = 1536;
}

static struct pool *changing[1000];

static void
change_make(void)
{
	char name[32];
	int i;

	for (i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "site%d", i);
		configure(name);
		if (i % 2 == 0) {
			changing[i] = live(conf_pools[i], name);
			add_worker(changing[i], 0, WORKER_IDLE, 1000);
		}
	}
	all_counters.requests = 1;
}

/* With each piece other ones: every pool changes its state now and then. */
static void
change(void)
{
	static unsigned turn;
	int i;

	turn++;
	for (i = 0; i < 1000; i++) {
		if ((unsigned)(i * 7 + 3) % 5 != turn % 5)
			continue;
		if (changing[i] == NULL) {
			changing[i] = live(conf_pools[i], conf_pools[i]->name);
			if (next_worker < 60000)
				add_worker(changing[i], 0, WORKER_IDLE, 1000);
		} else {
			while (changing[i]->workers != NULL)
				remove_worker(changing[i]->workers);
			rest(changing[i]);
			changing[i] = NULL;
		}
	}
}

static struct pool *crowded;

static void
crowd_make(void)
{
	int i;

	crowded = live(configure("crowd"), "crowd");
	for (i = 0; i < 20000; i++)
		serve(add_worker(crowded, 0, WORKER_BUSY, 1000), 0, ask(crowded, 0, "GET", "/index.php", "/srv/index.php", 700));
	for (i = 0; i < 20000; i++)
		forked(add_server(crowded, 0, SERVER_READY, 1000), workers[next_worker - 20000 + (uint32_t)i]);
}

/* The last of the lists go: number 1 first, which comes last. */
static void
crowd(void)
{
	static uint32_t number;

	if (number == 20000)
		return;
	number++;
	remove_server(servers[number]);
	remove_worker(workers[number]);
}

static void
many(void)
{
	char name[64];
	struct pool *p;
	struct worker *w;
	int i;

	for (i = 0; i < NPOOLS; i++) {
		snprintf(name, sizeof(name), "www.customer%05d.example.com", i);
		configure(name);
		if (i % 2 == 1)
			continue;
		p = live(conf_pools[i], name);
		p->counters->requests = (uint64_t)i * 1000;
		p->counters->bytes_out = (uint64_t)i * 100000;
		p->counters->started = p->counters->ended[END_IDLE] = (uint64_t)i;
		if (i % 10 == 0) {
			w = add_worker(p, 0, i % 20 == 0 ? WORKER_BUSY : WORKER_IDLE, i * 1000);
			if (w->state == WORKER_BUSY)
				serve(w, 0, ask(p, 0, "GET", "/index.php?page=about&lang=en&session=0123456789abcdef", "/srv/customer/htdocs/index.php", 700));
		}
	}
	count(&all_counters, 1000000);
}

static void
queue(void)
{
	struct pool *p = live(configure("full"), "full");
	char uri[32];
	int i;

	for (i = 0; i < 250; i++) {
		snprintf(uri, sizeof(uri), "/%d", i);
		wait_for_worker(ask(p, i % 5 == 0, "GET", uri, "/srv/x", 25000 - i * 100));
	}
}

/* ---- the page ----------------------------------------------------------------------------- */

static int64_t
cpu_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* A page, with something happening between its pieces. Returns 0 if it is whole. */
static int
page(enum status_format format, const char *pool, FILE *to, void (*between)(void), bool timed)
{
	struct status_info info = {
		.master_pid = 4711, .zfpm_start = (int64_t)time(NULL) - 93784, .conf_start = (int64_t)time(NULL) - 3700, .generation = 3,
		.connections = 12, .max_workers = 500, .npools = conf.npools,
	};
	int64_t started = cpu_us(), before, took, longest = 0, total;
	size_t len, bytes = 0, biggest = 0;
	struct status *st;
	const char *s;
	int result, pieces = 0;

	all_counters.accepted = 123456789012;
	st = status_new(&conf, format, pool, &info);
	total = cpu_us() - started;
	if (timed)
		fprintf(stderr, "first %lld us\n", (long long)total);
	if (st == NULL)
		return 1;
	for (;;) {
		before = cpu_us();
		s = status_next(st, &len, NOW_MS);
		took = cpu_us() - before;
		total += took;
		if (took > longest)
			longest = took;
		if (s == NULL)
			break;
		if (len == 0)
			abort();
		if (len > biggest)
			biggest = len;
		bytes += len;
		pieces++;
		if (to != NULL)
			fwrite(s, 1, len, to);
		if (between != NULL)
			between();
	}
	result = status_failed(st);
	status_free(st);
	if (timed)
		fprintf(stderr, "pieces %d\nbytes %zu\nbiggest %zu\nlongest %lld us\ntotal %lld us\n", pieces, bytes, biggest,
		    (long long)longest, (long long)total);
	return result;
}

/* It fails with the first allocation that fails, until there are enough. */
static int
memory(enum status_format format)
{
	int64_t n;

	for (n = 1; n < 1000; n++) {
		allocations_left = n;
		if (page(format, NULL, NULL, NULL, false) == 0) {
			if (allocations_left == 0)
				return 1;	/* one had failed, and nobody was told */
			return n > 3 ? 0 : 1;
		}
		if (allocations_left != 0)
			return 1;		/* it failed, though none had */
	}
	return 1;
}

int
main(int argc, char **argv)
{
	static const char *const formats[] = { "text", "json", "openmetrics", "html" };
	const char *scene = argc > 1 ? argv[1] : "", *pool = argc > 3 ? argv[3] : NULL;
	void (*between)(void) = NULL;
	int format = 0;

	while (argc > 2 && format < 4 && strcmp(formats[format], argv[2]) != 0)
		format++;
	if (format == 4)
		return 2;
	conf.pools = conf_pools;
	conf.apps = apps;
	conf.napps = 2;
	if (strcmp(scene, "mixed") == 0) {
		mixed();
	} else if (strcmp(scene, "change") == 0) {
		change_make();
		between = change;
	} else if (strcmp(scene, "crowd") == 0) {
		crowd_make();
		between = crowd;
	} else if (strcmp(scene, "many") == 0) {
		many();
		page((enum status_format)format, pool, NULL, NULL, false);
	} else if (strcmp(scene, "queue") == 0) {
		queue();
	} else if (strcmp(scene, "memory") == 0) {
		mixed();
		crowd_make();
		return memory((enum status_format)format);
	} else if (strcmp(scene, "empty") != 0) {
		return 2;
	}
	return page((enum status_format)format, pool, stdout, between, strcmp(scene, "many") == 0 || strcmp(scene, "crowd") == 0);
}
