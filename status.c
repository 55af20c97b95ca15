/*
 * status.c: what zfpm is doing, as text, JSON, OpenMetrics or HTML.
 *
 * Owns the page under way (struct status). Reads pools, workers, requests and
 * counters, and changes none of them. Never does I/O.
 *
 * The page is made in pieces, and between two of them requests go on: pools and
 * workers come and go, so no pointer to one outlives the call that found it.
 * What is remembered are numbers: of configured pools, of the buckets in which
 * the living ones are found again, and of workers and app servers, which are
 * never used twice.
 * A configured pool comes once in every table, in the order of zfpm.conf, as
 * living if it lived at the beginning and still does. The pools of patterns follow.
 *
 * Methods, URIs and scripts come from clients, and are hostile: put_escaped().
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "zfpm.h"

#define PIECE		16384		/* bytes of a piece, before it is given out; one worker, app server or pool more may be in it */
#define LOOKS		2048		/* or so many pools and buckets looked at, if there is something to give out */
#define LONGEST_SHOWN	10	/* requests that run longest, in HTML */
#define QUEUE_SHOWN	100		/* requests of one pool's queue */
#define WIDTH_MIN	16		/* columns for a pool's name; a longer one moves its line to the right */
#define WIDTH_MAX	40

struct buf {
	char	*data;
	size_t	 len, size;
	bool	 failed;		/* no memory: what was to be put is missing */
};

/* What the page is made of, in this order; not every format has all. */
enum section {
	SECTION_LOOK,		/* nothing yet: which pools live */
	SECTION_HEAD,
	SECTION_FAMILY,		/* OpenMetrics: this one and SECTION_POOLS once for each family */
	SECTION_POOLS,
	SECTION_WORKERS,
	SECTION_SERVERS,
	SECTION_QUEUED,
	SECTION_FAILING,
	SECTION_END,
	SECTION_DONE,
};

/*
 * Where pools are: conf->npools places for those that are configured by name, then one for each bucket, for
 * what else is in it: pools of patterns, and of what was removed from the configuration.
 */
struct place {
	uint16_t	 bucket;	/* in which it lives, + 1; 0: it does not */
	uint16_t	 marks;		/* what there is to show of it, noted with the first table (MARK_..., family_marks()) */
};
_Static_assert(POOL_BUCKETS < UINT16_MAX, "place.bucket");
enum { MARK_WORKERS = 1, MARK_SERVERS = 2, MARK_QUEUED = 4, MARK_FAILING = 8 };

/* One of the things that a place comes out as. */
struct item {
	uint32_t	 worker;	/* its number, if it is one */
	uint32_t	 server;	/* its number, if it is an app server */
	size_t		 end;		/* else 0 < end: text, up to here in staged */
};

struct column {
	const char	*title;
	int		 width;		/* on the right; negative: on the left; 0: the last one */
};

struct status {
	const struct conf *conf;
	enum status_format format;
	struct status_info info;
	struct totals	 totals;
	int64_t		 now_ms;
	enum section	 section;
	int		 family;	/* OpenMetrics: the one under way; -1: none yet */

	char		 name[POOL_NAME_LEN + 1];	/* the one pool asked for; empty: all */
	const struct conf_pool *only;	/* that one's; NULL: there is none */

	struct place	*places;
	size_t		 first, end;	/* those that are to be shown */
	size_t		 next;
	uint16_t	 all_marks;	/* of all places */
	int		 nresting;	/* configured, not living, and not shown */

	struct item	*items;		/* of the last place, not put out yet */
	size_t		 nitems, next_item, items_size;
	struct buf	 staged;	/* their text */
	size_t		 staged_done;
	struct buf	 out;
	bool		 failed;

	/* where we are in the syntax */
	bool		 comma;		/* JSON: something is before us in this list */
	bool		 pool_comma;	/* and in that of pools */
	bool		 table;		/* text, HTML: this section has its head */
	const struct column *column;	/* of the next cell */
	int		 name_width;
};

/* ---- bytes ------------------------------------------------------------------------------ */

static bool
room(struct buf *b, size_t n)
{
	size_t size = b->size > 0 ? b->size : 4096;
	char *grown;

	if (b->size - b->len >= n)
		return true;
	while (size - b->len < n)
		size *= 2;
	if ((grown = realloc(b->data, size)) == NULL) {
		b->failed = true;
		return false;
	}
	b->data = grown;
	b->size = size;
	return true;
}

static void
put(struct buf *b, const char *s, size_t n)
{
	if (n == 0 || !room(b, n))
		return;
	memcpy(b->data + b->len, s, n);
	b->len += n;
}

static void
put_string(struct buf *b, const char *s)
{
	put(b, s, strlen(s));
}

static void
put_char(struct buf *b, char c)
{
	put(b, &c, 1);
}

static void
put_number(struct buf *b, uint64_t n)
{
	char digits[20];
	size_t i = sizeof(digits);

	do
		digits[--i] = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	put(b, digits + i, sizeof(digits) - i);
}

static void
put_signed(struct buf *b, int64_t n)
{
	if (n < 0)
		put_char(b, '-');
	put_number(b, n < 0 ? -(uint64_t)n : (uint64_t)n);
}

static void
put_two(struct buf *b, int64_t n)
{
	put_char(b, (char)('0' + n / 10 % 10));
	put_char(b, (char)('0' + n % 10));
}

/* For programs: seconds, with milliseconds. */
static void
put_seconds(struct buf *b, int64_t ms)
{
	if (ms < 0)
		ms = 0;
	put_number(b, (uint64_t)ms / 1000);
	if (ms % 1000 == 0)
		return;
	put_char(b, '.');
	put_char(b, (char)('0' + ms / 100 % 10));
	put_two(b, ms % 100);
}

/* For people: 1.2s 59s 12m03s 3h20m 5d07h. */
static void
put_time(struct buf *b, int64_t ms)
{
	static const struct {
		int64_t	 above;		/* seconds, from which on it is these units */
		int64_t	 unit, part;
		char	 unit_name, part_name;
	} units[] = {
		{ 86400, 86400, 3600, 'd', 'h' },
		{ 3600, 3600, 60, 'h', 'm' },
		{ 60, 60, 1, 'm', 's' },
	};
	int64_t s;
	size_t i;

	if (ms < 0)
		ms = 0;
	s = ms / 1000;
	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (s < units[i].above)
			continue;
		put_number(b, (uint64_t)(s / units[i].unit));
		put_char(b, units[i].unit_name);
		put_two(b, s % units[i].unit / units[i].part);
		put_char(b, units[i].part_name);
		return;
	}
	put_number(b, (uint64_t)s);
	if (s < 10) {
		put_char(b, '.');
		put_char(b, (char)('0' + ms / 100 % 10));
	}
	put_char(b, 's');
}

/* For people: 512, 1.5K, 20.0M ... */
static void
put_size(struct buf *b, uint64_t n)
{
	static const char units[] = "KMGTPE";
	int i = -1;
	uint64_t rest = 0;

	while (n >= 1024) {
		rest = n % 1024;
		n /= 1024;
		i++;
	}
	put_number(b, n);
	if (i == -1)
		return;
	put_char(b, '.');
	put_char(b, (char)('0' + rest * 10 / 1024));
	put_char(b, units[i]);
}

/* ---- hostile text ------------------------------------------------------------------------ */

enum escape {
	ESCAPE_TEXT,		/* like log.c */
	ESCAPE_WORD,		/* and without blanks: a column of a text table */
	ESCAPE_JSON,		/* the inside of a string */
	ESCAPE_LABEL,		/* OpenMetrics: the inside of a label's value */
	ESCAPE_HTML,
};

/* Length of the UTF-8 character that s begins with (1 to 4), as *c; 0 if that is none, then *c is its first byte. */
static size_t
utf8_get(const unsigned char *s, uint32_t *c)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };	/* no longer form than needed */
	size_t i, n;
	uint32_t u;

	*c = s[0];
	n = s[0] < 0x80 ? 1 : s[0] < 0xc0 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf8 ? 4 : 0;
	if (n <= 1)
		return n;
	u = s[0] & (0x7fu >> n);
	for (i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		u = u << 6 | (s[i] & 0x3fu);
	}
	if (u < least[n] || u > 0x10ffff || (u >= 0xd800 && u <= 0xdfff))
		return 0;
	*c = u;
	return n;
}

/* Controls, and what ends or turns a line on a terminal or a page. */
static bool
moves_cursor(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/* What stands for a character with a meaning of its own; NULL: itself. */
static const char *
stand_in(enum escape escape, uint32_t c)
{
	switch (escape) {
	case ESCAPE_WORD:
		if (c == ' ')
			return "\\x20";
		/* FALLTHROUGH */
	case ESCAPE_TEXT:
		return c == '\\' ? "\\\\" : NULL;
	case ESCAPE_JSON:
		return c == '\\' ? "\\\\" : c == '"' ? "\\\"" : NULL;
	case ESCAPE_LABEL:
		return c == '\\' ? "\\\\" : c == '"' ? "\\\"" : c == '\n' ? "\\n" : NULL;
	case ESCAPE_HTML:
		return c == '\\' ? "\\\\" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : c == '"' ? "&quot;" :
		    c == '\'' ? "&#39;" : NULL;
	}
	return NULL;
}

/* A character that can not stand there as it is; n bytes long, or one byte of none (c). */
static void
put_hex(struct buf *b, enum escape escape, const unsigned char *s, size_t n, uint32_t c)
{
	static const char hex[] = "0123456789ABCDEF";
	char code[6] = "\\u";
	int i;

	if (escape == ESCAPE_JSON) {	/* a byte as the character of that number */
		for (i = 0; i < 4; i++)
			code[2 + i] = hex[c >> (12 - 4 * i) & 15];
		put(b, code, 6);
		return;
	}
	for (; n > 0; n--, s++) {
		if (escape == ESCAPE_LABEL)
			put_char(b, '\\');	/* the backslash is to be seen in the label's value */
		code[1] = 'x';
		code[2] = hex[*s >> 4];
		code[3] = hex[*s & 15];
		put(b, code, 4);
	}
}

static void
put_escaped(struct buf *b, enum escape escape, const char *text)
{
	const unsigned char *s = (const unsigned char *)text, *run = s;
	const char *other;
	uint32_t c;
	size_t n;

	while (*s != '\0') {
		n = utf8_get(s, &c);
		other = stand_in(escape, c);
		if (n > 0 && other == NULL && !moves_cursor(c)) {
			s += n;
			continue;
		}
		put(b, (const char *)run, (size_t)(s - run));
		if (n > 0 && other != NULL)
			put_string(b, other);
		else
			put_hex(b, escape, s, n > 0 ? n : 1, c);
		s += n > 0 ? n : 1;
		run = s;
	}
	put(b, (const char *)run, (size_t)(s - run));
}

/* ---- what there is to show ----------------------------------------------------------------- */

enum shown { SHOWN_IDLE, SHOWN_BUSY, SHOWN_STARTING, SHOWN_STOPPING, SHOWN_FINISHING, SHOWN_KINDS };

static const char *const shown_names[SHOWN_KINDS] = { "idle", "busy", "starting", "stopping", "finishing" };

static const char *const cause_names[END_CAUSES] = {
	[END_IDLE] = "idle",		[END_MAX_REQUESTS] = "max_requests",	[END_TIMEOUT] = "timeout",
	[END_DIED] = "died",		[END_RELOAD] = "reload",		[END_EVICTED] = "evicted",
	[END_RETIRED] = "retired",	[END_CUT] = "cut",			[END_CLOSED] = "closed",
};

/* The timeouts that end a request. */
#define KINDS_SHOWN	4
static const char *const kind_names[KINDS_SHOWN] = {
	[TIMEOUT_WAIT] = "wait",	[TIMEOUT_APP] = "app",	[TIMEOUT_SERVER] = "server",	[TIMEOUT_REQUEST] = "request",
};

/* All pools together, one that lives, or one that rests. */
struct tally {
	const char	*name;		/* NULL: all */
	const struct conf_pool *conf;	/* and theirs: NULL */
	bool		 living;
	int		 max_workers;
	int		 workers[SHOWN_KINDS];
	int		 nworkers;
	int		 nservers;
	int		 queued;
	int64_t		 wait_ms;	/* the longest; not known of all together */
	double		 rate;		/* requests a second, in the last ten; not known of all together */
	const struct counters *counters;	/* NULL: it never had any */
};

static const struct counters no_counters;

/* Requests that ended in each second of the last whole window and of this one. */
static double
rate_of(const struct pool *p, int64_t now_ms)
{
	int64_t age_ms = now_ms - p->window_ms;

	if (p->window_ms == 0 || age_ms >= 2 * RATE_MS)
		return 0;
	if (age_ms >= RATE_MS)		/* that is the last one by now */
		return (double)p->window_requests * 1000 / RATE_MS;
	return (double)(p->last_requests + p->window_requests) * 1000 / (double)(RATE_MS + age_ms);
}

/* SHOWN_KINDS: it is none any more. */
static enum shown
worker_shown(const struct worker *w)
{
	switch (w->state) {
	case WORKER_STARTING:	return SHOWN_STARTING;
	case WORKER_IDLE:	return w->busy > 0 ? SHOWN_BUSY : SHOWN_IDLE;
	case WORKER_BUSY:	return SHOWN_BUSY;
	case WORKER_LEAVING:	return SHOWN_BUSY;
	case WORKER_STOPPING:	return SHOWN_STOPPING;
	case WORKER_ELSEWHERE:	return SHOWN_FINISHING;
	case WORKER_GONE:	break;
	}
	return SHOWN_KINDS;
}

/* The word for one worker says a little more than those for their numbers. */
static const char *
worker_word(const struct worker *w)
{
	enum shown shown = worker_shown(w);

	if (w->state == WORKER_LEAVING)
		return "leaving";
	if (shown == SHOWN_BUSY && w->retiring)
		return "retiring";
	return shown == SHOWN_KINDS ? "gone" : shown_names[shown];
}

/* The request that the worker has had for longest, and since when; NULL: it has none, or we do not know of it. */
static const struct about *
worker_request(const struct worker *w, int64_t *start_ms)
{
	const struct request *oldest = NULL;
	const struct link *l;

	if (w->state == WORKER_ELSEWHERE) {
		*start_ms = w->elsewhere_ms;
		return w->elsewhere_ms != 0 ? w->elsewhere : NULL;
	}
	if (w->busy == 0)
		return NULL;
	for (l = w->links; l < w->links + w->nlinks; l++)
		if (l->request != NULL && (oldest == NULL || l->request->start_ms < oldest->start_ms))
			oldest = l->request;
	if (oldest == NULL)
		return NULL;
	*start_ms = oldest->start_ms;
	return &oldest->about;
}

/* SERVER_NEW: an earlier router has had it, and nobody has needed it since; how far it is we have not asked yet. */
static const char *
server_word(const struct server *s)
{
	switch (s->state) {
	case SERVER_NEW:	return "ready";
	case SERVER_STARTING:	return "starting";
	case SERVER_READY:	return "ready";
	case SERVER_LOST:	return "ending";
	case SERVER_FAILED:	return "ending";
	}
	return "ending";
}

static uint64_t
server_workers(const struct server *s)
{
	const struct worker *w;
	uint64_t n = 0;

	for (w = s->workers; w != NULL; w = w->server_next)
		n += worker_shown(w) != SHOWN_KINDS;
	return n;
}

static void
tally_living(const struct status *st, struct tally *t, const struct pool *p)
{
	const struct worker *w;
	const struct server *s;
	enum shown shown;
	int i;

	memset(t, 0, sizeof(*t));
	t->name = p->name;
	t->conf = p->conf;
	t->living = true;
	t->max_workers = p->conf->max_workers;
	for (w = p->workers; w != NULL; w = w->pool_next)
		if ((shown = worker_shown(w)) != SHOWN_KINDS) {
			t->workers[shown]++;
			t->nworkers++;
		}
	for (s = p->servers; s != NULL; s = s->pool_next)
		t->nservers++;
	t->rate = rate_of(p, st->now_ms);
	t->queued = p->queued;
	if (p->queued > 0)
		for (i = 0; i < p->conf->napps; i++)
			if (p->apps[i].queue_first != NULL && st->now_ms - p->apps[i].queue_first->queued_ms > t->wait_ms)
				t->wait_ms = st->now_ms - p->apps[i].queue_first->queued_ms;
	t->counters = p->counters;
}

static void
tally_resting(struct tally *t, const struct conf_pool *cp, const char *name)
{
	memset(t, 0, sizeof(*t));
	t->name = name;
	t->conf = cp;
	t->max_workers = cp->max_workers;
	t->counters = cp->star == -1 ? pool_counters(cp) : NULL;
}

static void
tally_all(const struct status *st, struct tally *t)
{
	memset(t, 0, sizeof(*t));
	t->max_workers = st->info.max_workers;
	t->workers[SHOWN_IDLE] = st->totals.idle;
	t->workers[SHOWN_BUSY] = st->totals.busy;
	t->workers[SHOWN_STARTING] = st->totals.starting;
	t->workers[SHOWN_STOPPING] = st->totals.stopping;
	t->workers[SHOWN_FINISHING] = st->totals.elsewhere;
	t->nworkers = st->totals.workers;
	t->nservers = st->totals.servers;
	t->queued = st->totals.queued;
	t->counters = &st->totals.counters;
}

/* A clock that was set back makes nothing negative. */
static int64_t
seconds_since(int64_t then)
{
	int64_t now = (int64_t)time(NULL);

	return now > then ? now - then : 0;
}

/* ---- text and HTML: the same tables ------------------------------------------------------------ */

#define NAME_COLUMN	-1000		/* on the left, name_width wide */

static const struct column pool_columns[] = {
	{ "POOL", NAME_COLUMN },	{ "IDLE", 4 },		{ "BUSY", 4 },		{ "START", 5 },
	{ "STOP", 4 },			{ "FINISH", 6 },	{ "MAX", 5 },		{ "QUEUE", 5 },
	{ "WAIT", 6 },			{ "REQUESTS", 9 },	{ "FAILED", 6 },	{ "RESTARTS", -20 },
	{ "TIMEOUTS", 0 },		{ NULL, 0 },
};
static const struct column html_pool_columns[] = {	/* the same with a picture of it, and how it is at this moment */
	{ "POOL", NAME_COLUMN },	{ "", -1 },
	{ "IDLE", 4 },			{ "BUSY", 4 },		{ "START", 5 },		{ "STOP", 4 },
	{ "FINISH", 6 },		{ "MAX", 5 },		{ "QUEUE", 5 },
	{ "WAIT", 6 },			{ "RATE/S", 6 },	{ "REQUESTS", 9 },	{ "FAILED", 6 },	{ "RESTARTS", -20 },
	{ "TIMEOUTS", 0 },		{ NULL, 0 },
};
static const struct column worker_columns[] = {
	{ "POOL", NAME_COLUMN },	{ "PID", 7 },		{ "STATE", -9 },	{ "APP", -8 },
	{ "AGE", 6 },			{ "REQUESTS", 8 },	{ "LOAD", 5 },		{ "TIME", 6 },
	{ "METHOD", -6 },		{ "URI", 0 },		{ NULL, 0 },
};
static const struct column server_columns[] = {
	{ "POOL", NAME_COLUMN },	{ "APP", -8 },		{ "PID", 7 },		{ "STATE", -9 },
	{ "AGE", 6 },			{ "WORKERS", 7 },	{ NULL, 0 },
};
static const struct column queue_columns[] = {
	{ "POOL", NAME_COLUMN },	{ "APP", -8 },		{ "WAIT", 6 },		{ "METHOD", -6 },
	{ "URI", 0 },			{ NULL, 0 },
};
static const struct column failing_columns[] = {
	{ "POOL", NAME_COLUMN },	{ "APP", -8 },		{ "RETRY", 6 },		{ "REASON", 0 },
	{ NULL, 0 },
};
static const struct column head_columns[] = {	/* no titles are shown */
	{ "", -12 },			{ "", 0 },		{ NULL, 0 },
};

static bool
is_html(const struct status *st)
{
	return st->format == STATUS_HTML;
}

static int
column_width(const struct status *st, const struct column *c)
{
	return c->width == NAME_COLUMN ? -st->name_width : c->width;
}

/* Characters, not bytes: what is in the buffer from start on is escaped, and good UTF-8. */
static int
width_of(const struct buf *b, size_t start)
{
	int n = 0;

	for (; start < b->len; start++)
		n += ((unsigned char)b->data[start] & 0xc0) != 0x80;
	return n;
}

/* A cell is: c = cell_begin(); put it; cell_end(c). */
static size_t
cell_begin(struct status *st, struct buf *b)
{
	if (is_html(st))
		put_string(b, st->column->width > 0 ? "<td class=\"n\">" : "<td>");
	return b->len;
}

static void
cell_end(struct status *st, struct buf *b, size_t start)
{
	const struct column *c = st->column++;
	int width = column_width(st, c), blanks;

	if (b->failed)
		return;
	if (b->len == start)
		put_char(b, '-');
	if (is_html(st)) {
		put_string(b, "</td>");
		return;
	}
	blanks = (width < 0 ? -width : width) - width_of(b, start);
	if (blanks > 0 && room(b, (size_t)blanks)) {
		if (width > 0)
			memmove(b->data + start + blanks, b->data + start, b->len - start);
		memset(b->data + (width > 0 ? start : b->len), ' ', (size_t)blanks);
		b->len += (size_t)blanks;
	}
	put_char(b, st->column->title != NULL ? ' ' : '\n');
}

static void
cell_text(struct status *st, struct buf *b, const char *s)
{
	size_t c = cell_begin(st, b);

	/* Only the last column of a line may have blanks in it. */
	put_escaped(b, is_html(st) ? ESCAPE_HTML : st->column[1].title != NULL ? ESCAPE_WORD : ESCAPE_TEXT, s);
	cell_end(st, b, c);
}

static void
cell_number(struct status *st, struct buf *b, uint64_t n)
{
	size_t c = cell_begin(st, b);

	put_number(b, n);
	cell_end(st, b, c);
}

static void
cell_time(struct status *st, struct buf *b, int64_t ms)
{
	size_t c = cell_begin(st, b);

	put_time(b, ms);
	cell_end(st, b, c);
}

static void
cell_none(struct status *st, struct buf *b)
{
	cell_end(st, b, cell_begin(st, b));
}

static void
row_begin(struct status *st, struct buf *b, const struct column *columns)
{
	st->column = columns;
	if (is_html(st))
		put_string(b, "<tr>");
}

static void
row_end(struct status *st, struct buf *b)
{
	if (is_html(st))
		put_string(b, "</tr>\n");
}

/* The first row of a table brings the table's head with it. */
static void
table_row(struct status *st, struct buf *b, const char *title, const struct column *columns)
{
	const struct column *c;

	if (!st->table && is_html(st)) {
		put_string(b, "<h2>");
		put_string(b, title);
		put_string(b, "</h2>\n<table>\n<tr>");
		for (c = columns; c->title != NULL; c++) {
			put_string(b, c->width > 0 ? "<th class=\"n\">" : "<th>");
			put_string(b, c->title);
			put_string(b, "</th>");
		}
		put_string(b, "</tr>\n");
	} else if (!st->table) {
		put_char(b, '\n');
		row_begin(st, b, columns);
		for (c = columns; c->title != NULL; c++)
			cell_text(st, b, c->title);
	}
	st->table = true;
	row_begin(st, b, columns);
}

static void
table_close(struct status *st, struct buf *b)
{
	if (st->table && is_html(st))
		put_string(b, "</table>\n");
	st->table = false;
}

/* "idle=3,died=1", or nothing. */
static void
put_list(struct buf *b, const uint64_t *values, const char *const *names, int n)
{
	bool comma = false;
	int i;

	for (i = 0; i < n; i++) {
		if (values[i] == 0)
			continue;
		if (comma)
			put_char(b, ',');
		comma = true;
		put_string(b, names[i]);
		put_char(b, '=');
		put_number(b, values[i]);
	}
}

/* How many of the workers that there may be are busy, and how many idle. */
static void
cell_bar(struct status *st, struct buf *b, const struct tally *t)
{
	int busy = t->workers[SHOWN_BUSY] + t->workers[SHOWN_FINISHING], idle = t->workers[SHOWN_IDLE], max = t->max_workers;
	size_t c = cell_begin(st, b);

	if (max < busy + idle)	/* a reload may have lowered it */
		max = busy + idle;
	put_string(b, "<span class=\"bar\"><i class=\"busy\" style=\"width:");
	put_number(b, max > 0 ? (uint64_t)busy * 100 / (uint64_t)max : 0);
	put_string(b, "%\"></i><i class=\"idle\" style=\"width:");
	put_number(b, max > 0 ? (uint64_t)idle * 100 / (uint64_t)max : 0);
	put_string(b, "%\"></i></span>");
	cell_end(st, b, c);
}

static void
cell_rate(struct status *st, struct buf *b, double rate)
{
	size_t c = cell_begin(st, b);
	uint64_t tenths = (uint64_t)(rate * 10 + 0.5);

	put_number(b, tenths / 10);
	put_char(b, '.');
	put_number(b, tenths % 10);
	cell_end(st, b, c);
}

static void
table_pool(struct status *st, struct buf *b, const struct tally *t)
{
	const struct counters *counters = t->counters != NULL ? t->counters : &no_counters;
	size_t c;
	int i;

	table_row(st, b, "Pools", is_html(st) ? html_pool_columns : pool_columns);
	cell_text(st, b, t->name);
	if (is_html(st))
		cell_bar(st, b, t);
	for (i = 0; i < SHOWN_KINDS; i++)
		cell_number(st, b, (uint64_t)t->workers[i]);
	cell_number(st, b, (uint64_t)t->max_workers);
	cell_number(st, b, (uint64_t)t->queued);
	if (t->queued > 0)
		cell_time(st, b, t->wait_ms);
	else
		cell_none(st, b);
	if (is_html(st))
		cell_rate(st, b, t->rate);
	cell_number(st, b, counters->requests);
	cell_number(st, b, counters->failed);
	c = cell_begin(st, b);
	put_list(b, counters->ended, cause_names, END_CAUSES);
	cell_end(st, b, c);
	c = cell_begin(st, b);
	put_list(b, counters->timeouts, kind_names, KINDS_SHOWN);
	cell_end(st, b, c);
	row_end(st, b);
}

static void
cell_pid(struct status *st, struct buf *b, pid_t pid)
{
	if (pid > 0)
		cell_number(st, b, (uint64_t)pid);
	else
		cell_none(st, b);
}

static void
table_worker(struct status *st, struct buf *b, const char *title, const struct worker *w)
{
	const struct about *about;
	int64_t start_ms;
	size_t c;

	table_row(st, b, title, worker_columns);
	cell_text(st, b, w->pool->name);
	cell_pid(st, b, w->pid);
	cell_text(st, b, worker_word(w));
	cell_text(st, b, w->pool->conf->apps[w->app]->name);
	cell_time(st, b, st->now_ms - w->start_ms);
	cell_number(st, b, w->requests);
	c = cell_begin(st, b);
	put_number(b, (uint64_t)w->busy);
	put_char(b, '/');
	put_number(b, (uint64_t)w->nlinks);
	cell_end(st, b, c);
	if ((about = worker_request(w, &start_ms)) != NULL) {
		cell_time(st, b, st->now_ms - start_ms);
		cell_text(st, b, about->method);
		cell_text(st, b, about->uri);
	} else {
		cell_none(st, b);
		cell_none(st, b);
		cell_none(st, b);
	}
	row_end(st, b);
}

static void
table_server(struct status *st, struct buf *b, const struct server *s)
{
	table_row(st, b, "App servers", server_columns);
	cell_text(st, b, s->pool->name);
	cell_text(st, b, s->pool->conf->apps[s->app]->name);
	cell_pid(st, b, s->pid);
	cell_text(st, b, server_word(s));
	cell_time(st, b, st->now_ms - s->start_ms);
	cell_number(st, b, server_workers(s));
	row_end(st, b);
}

/* Of all pools, or of the one that is asked for: what has been running for longest. */
static void
table_longest(struct status *st, struct buf *b)
{
	const struct worker *longest[LONGEST_SHOWN], *w;
	int64_t since[LONGEST_SHOWN], start_ms;
	const struct pool *p;
	int i, n = 0;
	size_t bucket;

	for (bucket = 0; bucket < POOL_BUCKETS; bucket++)
		for (p = pool_bucket(bucket); p != NULL; p = p->hash_next) {
			if (st->name[0] != '\0' && strcmp(p->name, st->name) != 0)
				continue;
			for (w = p->workers; w != NULL; w = w->pool_next) {
				if (worker_shown(w) == SHOWN_KINDS || worker_request(w, &start_ms) == NULL || (n == LONGEST_SHOWN && start_ms >= since[n - 1]))
					continue;
				if (n < LONGEST_SHOWN)
					n++;
				for (i = n - 1; i > 0 && since[i - 1] > start_ms; i--) {
					since[i] = since[i - 1];
					longest[i] = longest[i - 1];
				}
				since[i] = start_ms;
				longest[i] = w;
			}
		}
	for (i = 0; i < n; i++)
		table_worker(st, b, "Longest running requests", longest[i]);
	table_close(st, b);
}

static void
table_queued(struct status *st, struct buf *b, const struct pool *p)
{
	const struct request *r;
	int i, n = 0;
	size_t c;

	for (i = 0; i < p->conf->napps; i++)
		for (r = p->apps[i].queue_first; r != NULL && n < QUEUE_SHOWN; r = r->queue_next, n++) {
			table_row(st, b, "Queued", queue_columns);
			cell_text(st, b, p->name);
			cell_text(st, b, p->conf->apps[i]->name);
			cell_time(st, b, st->now_ms - r->queued_ms);
			cell_text(st, b, r->about.method);
			cell_text(st, b, r->about.uri);
			row_end(st, b);
		}
	if (n == p->queued)
		return;
	table_row(st, b, "Queued", queue_columns);
	cell_text(st, b, p->name);
	cell_none(st, b);
	cell_none(st, b);
	cell_none(st, b);
	c = cell_begin(st, b);
	put_char(b, '(');
	put_signed(b, p->queued - n);
	put_string(b, " more)");
	cell_end(st, b, c);
	row_end(st, b);
}

static void
table_failing(struct status *st, struct buf *b, const struct pool *p)
{
	const struct pool_app *a;
	int i;

	for (i = 0; i < p->conf->napps; i++) {
		a = &p->apps[i];
		if (a->backoff_ms == 0)
			continue;
		table_row(st, b, "Failing", failing_columns);
		cell_text(st, b, p->name);
		cell_text(st, b, p->conf->apps[i]->name);
		if (a->retry_ms > st->now_ms)
			cell_time(st, b, a->retry_ms - st->now_ms);
		else
			cell_text(st, b, "now");
		cell_text(st, b, a->reason);
		row_end(st, b);
	}
}

/* A line of the head: its name, and then the rest, up to head_end(). */
static size_t
head_line(struct status *st, struct buf *b, const char *name)
{
	row_begin(st, b, head_columns);
	cell_text(st, b, name);
	return cell_begin(st, b);
}

static void
head_end(struct status *st, struct buf *b, size_t c)
{
	cell_end(st, b, c);
	row_end(st, b);
}

static void
put_counted(struct buf *b, uint64_t n, const char *what)
{
	put_number(b, n);
	put_string(b, what);
}

static void
head_tally(struct status *st, struct buf *b, const struct tally *t)
{
	const struct counters *n = t->counters != NULL ? t->counters : &no_counters;
	size_t c;
	int i;

	c = head_line(st, b, "workers");
	put_counted(b, (uint64_t)t->nworkers, " of ");
	put_counted(b, (uint64_t)t->max_workers, ":");
	for (i = 0; i < SHOWN_KINDS; i++) {
		put_string(b, i > 0 ? ", " : " ");
		put_counted(b, (uint64_t)t->workers[i], " ");
		put_string(b, shown_names[i]);
	}
	head_end(st, b, c);
	c = head_line(st, b, "app_servers");	/* a word, for awk */
	put_number(b, (uint64_t)t->nservers);
	head_end(st, b, c);
	c = head_line(st, b, "queued");
	put_number(b, (uint64_t)t->queued);
	if (t->wait_ms > 0) {
		put_string(b, ", the first for ");
		put_time(b, t->wait_ms);
	}
	head_end(st, b, c);
	c = head_line(st, b, "requests");
	put_counted(b, n->requests, " served, ");
	put_counted(b, n->failed, " failed (");
	put_counted(b, n->queue_full, " queue full), ");
	put_counted(b, n->aborted, " aborted, ");
	put_counted(b, n->slow, " slow");
	head_end(st, b, c);
	c = head_line(st, b, "bytes");
	put_size(b, n->bytes_in);
	put_string(b, " received, ");
	put_size(b, n->bytes_out);
	put_string(b, " sent");
	head_end(st, b, c);
	c = head_line(st, b, "starts");
	put_counted(b, n->started, " workers, ");
	put_counted(b, n->start_failures, " failed");
	head_end(st, b, c);
	c = head_line(st, b, "restarts");
	put_list(b, n->ended, cause_names, END_CAUSES);
	head_end(st, b, c);
	c = head_line(st, b, "timeouts");
	put_list(b, n->timeouts, kind_names, KINDS_SHOWN);
	head_end(st, b, c);
}

/* Where a pool of this bucket is. */
static size_t
place_of(const struct status *st, const struct pool *p, size_t bucket)
{
	return p->conf->star == -1 && p->conf->index >= 0 ? (size_t)p->conf->index : (size_t)st->conf->npools + bucket;
}

/* The pool in this place that comes after p, or the first (NULL); NULL if there is no further one. */
static const struct pool *
place_next(const struct status *st, size_t place, const struct pool *p)
{
	size_t bucket;

	if (st->places[place].bucket == 0)
		return NULL;
	bucket = st->places[place].bucket - 1u;
	for (p = p != NULL ? p->hash_next : pool_bucket(bucket); p != NULL; p = p->hash_next)
		if (place_of(st, p, bucket) == place && (st->name[0] == '\0' || strcmp(p->name, st->name) == 0))
			break;
	return p;
}

static void
page_head(struct status *st, struct buf *b)
{
	const struct pool *p;
	struct tally t;
	size_t c;

	if (is_html(st))
		put_string(b, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
		    "<meta name=\"robots\" content=\"noindex\">\n<meta http-equiv=\"refresh\" content=\"5\">\n"
		    "<title>zfpm status</title>\n<style>\n"
		    "body { font-family: sans-serif; font-size: 90%; }\n"
		    "table { border-collapse: collapse; }\n"
		    "td, th { padding: .1em .5em; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; }\n"
		    "td { overflow-wrap: anywhere; }\n"
		    ".n { text-align: right; white-space: nowrap; }\n"
		    ".bar { display: inline-flex; width: 8em; height: .9em; background: #eee; }\n"
		    ".busy { background: #c60; }\n.idle { background: #6a4; }\n"
		    "</style>\n</head>\n<body>\n<h1>zfpm status</h1>\n"
		    "<p><a href=\"?json\">JSON</a> <a href=\"?text\">text</a> <a href=\"?openmetrics\">OpenMetrics</a> "
		    "<span class=\"bar\"><i class=\"busy\" style=\"width:50%\"></i><i class=\"idle\" style=\"width:25%\"></i></span> "
		    "busy, idle, of what may be</p>\n<table>\n");
	c = head_line(st, b, "zfpm");
	put_string(b, ZFPM_VERSION ", master ");
	put_signed(b, st->info.master_pid);
	put_string(b, ", generation ");
	put_number(b, st->info.generation);
	put_string(b, ", up ");
	put_time(b, seconds_since(st->info.zfpm_start) * 1000);
	put_string(b, ", configured ");
	put_time(b, seconds_since(st->info.conf_start) * 1000);
	put_string(b, " ago");
	head_end(st, b, c);
	if (st->name[0] == '\0') {
		c = head_line(st, b, "pools");
		put_counted(b, (uint64_t)st->totals.pools, " living, ");
		put_counted(b, (uint64_t)st->info.npools, " configured");
		head_end(st, b, c);
		c = head_line(st, b, "connections");
		put_counted(b, (uint64_t)st->info.connections, " now, ");
		put_counted(b, st->totals.counters.accepted, " accepted");
		head_end(st, b, c);
		tally_all(st, &t);
		head_tally(st, b, &t);
	} else {
		p = st->first < st->end ? place_next(st, st->first, NULL) : NULL;
		c = head_line(st, b, "pool");
		put_escaped(b, is_html(st) ? ESCAPE_HTML : ESCAPE_TEXT, st->name);
		put_string(b, p != NULL ? ", living" : st->only != NULL ? ", resting" : ", unknown");
		head_end(st, b, c);
		if (p != NULL)
			tally_living(st, &t, p);
		else if (st->only != NULL)
			tally_resting(&t, st->only, st->name);
		if (p != NULL || st->only != NULL)
			head_tally(st, b, &t);
	}
	if (is_html(st)) {
		put_string(b, "</table>\n");
		table_longest(st, b);
	}
}

/* How many pools are configured, but have neither workers nor requests; together they take one line. */
static void
page_resting(struct status *st, struct buf *b)
{
	if (st->nresting == 0)
		return;
	put_string(b, is_html(st) ? "<p>" : "\n");
	put_number(b, (uint64_t)st->nresting);
	put_string(b, st->nresting == 1 ? " pool is resting" : " pools are resting");
	put_string(b, is_html(st) ? "</p>\n" : "\n");
}

/* ---- counters, for JSON and OpenMetrics ----------------------------------------------------------- */

/* Those that are simple numbers, in the order of struct counters. */
static const struct field {
	const char	*json;
	const char	*metric;
	const char	*unit;		/* NULL: they are counted */
	const char	*help;
	size_t		 offset;
} fields[] = {
	{ "requests", "requests", NULL, "Requests that an application has ended", offsetof(struct counters, requests) },
	{ "failed", "failed_requests", NULL, "Requests that zfpm failed", offsetof(struct counters, failed) },
	{ "aborted", "aborted_requests", NULL, "Requests whose web server or client left before the end",
	    offsetof(struct counters, aborted) },
	{ "queue_full", "queue_full", NULL, "Of the failed requests those that found the queue full",
	    offsetof(struct counters, queue_full) },
	{ "slow", "slow_requests", NULL, "Requests that took longer than slow allows", offsetof(struct counters, slow) },
	{ "request_bytes", "request_bytes", "bytes", "Bytes of request bodies", offsetof(struct counters, bytes_in) },
	{ "response_bytes", "response_bytes", "bytes", "Bytes of responses", offsetof(struct counters, bytes_out) },
	{ "workers_started", "workers_started", NULL, "Workers that were started", offsetof(struct counters, started) },
	{ "start_failures", "start_failures", NULL, "Workers that could not be started",
	    offsetof(struct counters, start_failures) },
};
#define NFIELDS	((int)(sizeof(fields) / sizeof(fields[0])))

static uint64_t
field_of(const struct counters *c, const struct field *f)
{
	uint64_t n;

	memcpy(&n, (const char *)c + f->offset, sizeof(n));
	return n;
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static void
json_string(struct buf *b, const char *s)
{
	put_char(b, '"');
	put_escaped(b, ESCAPE_JSON, s);
	put_char(b, '"');
}

/* "name":"text" and "name":n, with what stands before. */
static void
json_text(struct buf *b, const char *before, const char *s)
{
	put_string(b, before);
	json_string(b, s);
}

static void
json_number(struct buf *b, const char *before, uint64_t n)
{
	put_string(b, before);
	put_number(b, n);
}

static void
json_seconds(struct buf *b, const char *before, int64_t ms)
{
	put_string(b, before);
	put_seconds(b, ms);
}

static void
json_list(struct buf *b, const char *before, const uint64_t *values, const char *const *names, int n)
{
	int i;

	put_string(b, before);
	for (i = 0; i < n; i++) {
		put_string(b, i > 0 ? ",\"" : "{\"");
		put_string(b, names[i]);
		put(b, "\":", 2);
		put_number(b, values[i]);
	}
	put_char(b, '}');
}

static void
json_counters(struct buf *b, const struct counters *c)
{
	int i;

	put_string(b, ",\"counters\":");
	for (i = 0; i < NFIELDS; i++) {
		put_string(b, i > 0 ? ",\"" : "{\"");
		put_string(b, fields[i].json);
		put(b, "\":", 2);
		put_number(b, field_of(c, &fields[i]));
	}
	json_list(b, ",\"restarts\":", c->ended, cause_names, END_CAUSES);
	json_list(b, ",\"timeouts\":", c->timeouts, kind_names, KINDS_SHOWN);
	put_char(b, '}');
}

/* An object that is left open. */
static void
json_workers(struct buf *b, const struct tally *t)
{
	int i;

	json_number(b, ",\"workers\":{\"total\":", (uint64_t)t->nworkers);
	for (i = 0; i < SHOWN_KINDS; i++) {
		put(b, ",\"", 2);
		put_string(b, shown_names[i]);
		put(b, "\":", 2);
		put_number(b, (uint64_t)t->workers[i]);
	}
}

/* What a request is about, an object that is left open. */
static void
json_about(struct buf *b, const struct about *about)
{
	json_text(b, "{\"method\":", about->method);
	json_text(b, ",\"uri\":", about->uri);
	json_text(b, ",\"script\":", about->script);
}

/* From one of a list to the next. */
static void
json_comma(struct status *st, struct buf *b)
{
	if (st->comma)
		put_char(b, ',');
	st->comma = true;
}

static void
json_pid(struct buf *b, pid_t pid)
{
	put_string(b, ",\"pid\":");
	if (pid > 0)
		put_number(b, (uint64_t)pid);
	else
		put_string(b, "null");
}

static void
json_worker(struct status *st, struct buf *b, const struct worker *w)
{
	const struct about *about;
	int64_t start_ms;

	json_comma(st, b);
	json_number(b, "{\"number\":", w->number);
	json_pid(b, w->pid);
	json_text(b, ",\"state\":", worker_word(w));
	json_text(b, ",\"app\":", w->pool->conf->apps[w->app]->name);
	json_seconds(b, ",\"age_s\":", st->now_ms - w->start_ms);
	json_number(b, ",\"requests\":", w->requests);
	json_number(b, ",\"busy\":", (uint64_t)w->busy);
	json_number(b, ",\"connections\":", (uint64_t)w->nlinks);
	if (worker_shown(w) == SHOWN_IDLE)
		json_seconds(b, ",\"idle_s\":", st->now_ms - w->idle_ms);
	if ((w->retiring || w->state == WORKER_STOPPING) && (unsigned)w->cause < END_CAUSES)
		json_text(b, ",\"cause\":", cause_names[w->cause]);
	put_string(b, ",\"request\":");
	if ((about = worker_request(w, &start_ms)) != NULL) {
		json_about(b, about);
		json_seconds(b, ",\"elapsed_s\":", st->now_ms - start_ms);
		put_char(b, '}');
	} else {
		put_string(b, "null");
	}
	put_char(b, '}');
}

static void
json_server(struct status *st, struct buf *b, const struct server *s)
{
	json_comma(st, b);
	json_text(b, "{\"app\":", s->pool->conf->apps[s->app]->name);
	json_pid(b, s->pid);
	json_text(b, ",\"state\":", server_word(s));
	json_seconds(b, ",\"age_s\":", st->now_ms - s->start_ms);
	json_number(b, ",\"workers\":", server_workers(s));
	put_char(b, '}');
}

static void
json_queue(struct status *st, struct buf *b, const struct pool *p, const struct tally *t)
{
	const struct request *r;
	int i, n = 0;

	json_number(b, ",\"queue\":{\"length\":", (uint64_t)t->queued);
	json_seconds(b, ",\"longest_wait_s\":", t->wait_ms);
	put_string(b, ",\"list\":[");
	for (i = 0; p->queued > 0 && i < p->conf->napps; i++)
		for (r = p->apps[i].queue_first; r != NULL && n < QUEUE_SHOWN; r = r->queue_next, n++) {
			if (n > 0)
				put_char(b, ',');
			json_about(b, &r->about);
			json_text(b, ",\"app\":", p->conf->apps[i]->name);
			json_seconds(b, ",\"wait_s\":", st->now_ms - r->queued_ms);
			put_char(b, '}');
		}
	put(b, "]}", 2);
}

static void
json_failing(struct status *st, struct buf *b, const struct pool *p)
{
	const struct pool_app *a;
	bool comma = false;
	int i;

	put_string(b, ",\"failing\":[");
	for (i = 0; i < p->conf->napps; i++) {
		a = &p->apps[i];
		if (a->backoff_ms == 0)
			continue;
		if (comma)
			put_char(b, ',');
		comma = true;
		json_text(b, "{\"app\":", p->conf->apps[i]->name);
		json_text(b, ",\"reason\":", a->reason);
		json_seconds(b, ",\"retry_s\":", a->retry_ms - st->now_ms);
		put_char(b, '}');
	}
	put_char(b, ']');
}

/* From a pool's first byte to the list of its workers, or to its end if it rests. */
static void
json_pool_head(struct status *st, struct buf *b, const struct tally *t)
{
	put_string(b, st->pool_comma ? ",\n" : "\n");
	st->pool_comma = true;
	json_text(b, "{\"name\":", t->name);
	put_string(b, t->conf->index < 0 ? ",\"state\":\"removed\"" : t->living ? ",\"state\":\"living\"" : ",\"state\":\"resting\"");
	if (t->conf->star != -1)
		json_text(b, ",\"pattern\":", t->conf->name);
	json_number(b, ",\"max_workers\":", (uint64_t)t->max_workers);
	if (t->counters != NULL)
		json_counters(b, t->counters);
	if (!t->living) {
		put_char(b, '}');
		return;
	}
	json_workers(b, t);
	put_string(b, ",\"list\":[");
}

/* From there to the list of its app servers. */
static void
json_pool_servers(struct buf *b)
{
	put_string(b, "]},\"app_servers\":[");
}

static void
json_pool_tail(struct status *st, struct buf *b, const struct pool *p, const struct tally *t)
{
	put_char(b, ']');
	json_queue(st, b, p, t);
	json_failing(st, b, p);
	put_char(b, '}');
}

static void
json_head(struct status *st, struct buf *b)
{
	struct tally t;

	json_text(b, "{\"version\":", ZFPM_VERSION);
	put_string(b, ",\"master_pid\":");
	put_signed(b, st->info.master_pid);
	json_number(b, ",\"generation\":", st->info.generation);
	json_number(b, ",\"uptime_s\":", (uint64_t)seconds_since(st->info.zfpm_start));
	json_number(b, ",\"configuration_age_s\":", (uint64_t)seconds_since(st->info.conf_start));
	json_number(b, ",\"connections\":", (uint64_t)st->info.connections);
	json_number(b, ",\"connections_accepted\":", st->totals.counters.accepted);
	json_number(b, ",\"pools_configured\":", (uint64_t)st->info.npools);
	json_number(b, ",\"pools_living\":", (uint64_t)st->totals.pools);
	tally_all(st, &t);
	json_number(b, ",\"max_workers\":", (uint64_t)t.max_workers);
	json_workers(b, &t);
	json_number(b, "},\"app_servers\":", (uint64_t)t.nservers);
	json_number(b, ",\"queue\":{\"length\":", (uint64_t)t.queued);
	put_char(b, '}');
	json_counters(b, t.counters);
	put_string(b, ",\"pools\":[");
}

/* ---- OpenMetrics -------------------------------------------------------------------------------------------- */

/*
 * Families of zfpm as a whole (zfpm_NAME) and of each pool (zfpm_pool_NAME). All samples of one stand
 * together, so the pools are gone through once for each, and what is 0 in a pool is left out.
 */
enum { FAMILY_WORKERS, FAMILY_MAX_WORKERS, FAMILY_SERVERS, FAMILY_QUEUE, FAMILY_WAIT, FAMILY_FIELDS };
#define FAMILY_RESTARTS	(FAMILY_FIELDS + NFIELDS)
#define FAMILY_TIMEOUTS	(FAMILY_RESTARTS + 1)
#define FAMILIES	(FAMILY_TIMEOUTS + 1)
_Static_assert(FAMILIES <= 16, "place.marks");

struct family {
	const char	*name;
	bool		 counter;
	const char	*unit;		/* NULL: none; else the end of the name */
	const char	*help;
};

static struct family
family_of(int i)
{
	static const struct family gauges[FAMILY_FIELDS] = {
		[FAMILY_WORKERS] = { "workers", false, NULL, "Workers by state" },
		[FAMILY_MAX_WORKERS] = { "max_workers", false, NULL, "Workers that there may be" },
		[FAMILY_SERVERS] = { "app_servers", false, NULL, "Processes from which workers are forked" },
		[FAMILY_QUEUE] = { "queue_length", false, NULL, "Requests that wait for a worker" },
		[FAMILY_WAIT] = { "queue_longest_wait_seconds", false, "seconds", "Since when the first request in the queue waits" },
	};
	static const struct family restarts = { "worker_restarts", true, NULL, "Workers that have ended, by cause" };
	static const struct family timeouts = { "timeouts", true, NULL, "Requests that a timeout has ended" };
	struct family f;

	if (i < FAMILY_FIELDS)
		return gauges[i];
	if (i == FAMILY_RESTARTS)
		return restarts;
	if (i == FAMILY_TIMEOUTS)
		return timeouts;
	f.name = fields[i - FAMILY_FIELDS].metric;
	f.counter = true;
	f.unit = fields[i - FAMILY_FIELDS].unit;
	f.help = fields[i - FAMILY_FIELDS].help;
	return f;
}

static void
metric_family(struct buf *b, const char *prefix, const struct family *f)
{
	const char *const lines[][2] = {
		{ "# TYPE ", f->counter ? "counter" : "gauge" }, { "# UNIT ", f->unit }, { "# HELP ", f->help },
	};
	size_t i;

	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		if (lines[i][1] == NULL)
			continue;
		put_string(b, lines[i][0]);
		put_string(b, prefix);
		put_string(b, f->name);
		put_char(b, ' ');
		put_string(b, lines[i][1]);
		put_char(b, '\n');
	}
}

/* The name of a sample of t's with its labels, and the blank before the value. */
static void
metric_name(struct buf *b, const struct family *f, const struct tally *t, const char *label, const char *value)
{
	put_string(b, t->name != NULL ? "zfpm_pool_" : "zfpm_");
	put_string(b, f->name);
	if (f->counter)
		put_string(b, "_total");
	if (t->name != NULL) {
		put_string(b, "{pool=\"");
		put_escaped(b, ESCAPE_LABEL, t->name);
		put_char(b, '"');
	}
	if (label != NULL) {
		put_char(b, t->name != NULL ? ',' : '{');
		put_string(b, label);
		put_string(b, "=\"");
		put_string(b, value);
		put_char(b, '"');
	}
	if (t->name != NULL || label != NULL)
		put_char(b, '}');
	put_char(b, ' ');
}

/* One sample; of a pool it is left out if it is 0, unless always. */
static void
metric_put(struct buf *b, const struct family *f, const struct tally *t, const char *label, const char *value, uint64_t n,
    bool always)
{
	if (n == 0 && t->name != NULL && !always)
		return;
	metric_name(b, f, t, label, value);
	put_number(b, n);
	put_char(b, '\n');
}

static bool
any(const uint64_t *values, int n)
{
	while (n-- > 0)
		if (values[n] != 0)
			return true;
	return false;
}

/* Has this pool a sample in this family? */
static bool
family_has(int family, const struct tally *t)
{
	const struct counters *c = t->counters;

	if (family == FAMILY_WORKERS)
		return t->nworkers > 0;
	if (family == FAMILY_MAX_WORKERS)
		return t->living;
	if (family == FAMILY_SERVERS)
		return t->nservers > 0;
	if (family == FAMILY_QUEUE)
		return t->queued > 0;
	if (family == FAMILY_WAIT)
		return t->wait_ms > 0;
	if (c == NULL)
		return false;
	if (family == FAMILY_RESTARTS)
		return any(c->ended, END_CAUSES);
	if (family == FAMILY_TIMEOUTS)
		return any(c->timeouts, KINDS_SHOWN);
	/* requests, the first of them, is there for every pool that has counters. */
	return family == FAMILY_FIELDS || field_of(c, &fields[family - FAMILY_FIELDS]) != 0;
}

static uint16_t
family_marks(const struct tally *t)
{
	uint16_t marks = 0;
	int i;

	for (i = 0; i < FAMILIES; i++)
		if (family_has(i, t))
			marks |= (uint16_t)(1 << i);
	return marks;
}

static void
metric_samples(struct buf *b, int family, const struct tally *t)
{
	const struct counters *c = t->counters;
	struct family f = family_of(family);
	int i;

	if (family == FAMILY_WORKERS) {
		for (i = 0; i < SHOWN_KINDS; i++)
			metric_put(b, &f, t, "state", shown_names[i], (uint64_t)t->workers[i], false);
	} else if (family == FAMILY_MAX_WORKERS) {
		metric_put(b, &f, t, NULL, NULL, (uint64_t)t->max_workers, true);
	} else if (family == FAMILY_SERVERS) {
		metric_put(b, &f, t, NULL, NULL, (uint64_t)t->nservers, false);
	} else if (family == FAMILY_QUEUE) {
		metric_put(b, &f, t, NULL, NULL, (uint64_t)t->queued, false);
	} else if (family == FAMILY_WAIT) {
		metric_name(b, &f, t, NULL, NULL);
		put_seconds(b, t->wait_ms);
		put_char(b, '\n');
	} else if (family == FAMILY_RESTARTS) {
		for (i = 0; i < END_CAUSES; i++)
			metric_put(b, &f, t, "cause", cause_names[i], c->ended[i], false);
	} else if (family == FAMILY_TIMEOUTS) {
		for (i = 0; i < KINDS_SHOWN; i++)
			metric_put(b, &f, t, "kind", kind_names[i], c->timeouts[i], false);
	} else {
		metric_put(b, &f, t, NULL, NULL, field_of(c, &fields[family - FAMILY_FIELDS]), family == FAMILY_FIELDS);
	}
}

static void
metric_one(struct status *st, struct buf *b, const char *name, bool counter, const char *unit, const char *help, uint64_t n)
{
	struct family f = { name, counter, unit, help };
	struct tally t;

	tally_all(st, &t);
	metric_family(b, "zfpm_", &f);
	metric_put(b, &f, &t, NULL, NULL, n, true);
}

static void
metric_head(struct status *st, struct buf *b)
{
	struct family f;
	struct tally t;
	int i;

	put_string(b, "# TYPE zfpm info\n# HELP zfpm The program\nzfpm_info{version=\"" ZFPM_VERSION "\"} 1\n");
	metric_one(st, b, "start_time_seconds", false, "seconds", "When zfpm was started, since 1970",
	    (uint64_t)st->info.zfpm_start);
	metric_one(st, b, "configuration_time_seconds", false, "seconds", "When the configuration was taken, since 1970",
	    (uint64_t)st->info.conf_start);
	metric_one(st, b, "generation", false, NULL, "One more with every reload and upgrade", st->info.generation);
	metric_one(st, b, "connections", false, NULL, "Connections from web servers", (uint64_t)st->info.connections);
	metric_one(st, b, "accepted_connections", true, NULL, "Connections that web servers have made", st->totals.counters.accepted);
	metric_one(st, b, "configured_pools", false, NULL, "Pools and patterns in the configuration", (uint64_t)st->info.npools);
	metric_one(st, b, "living_pools", false, NULL, "Pools that have workers or requests", (uint64_t)st->totals.pools);
	tally_all(st, &t);
	for (i = 0; i < FAMILIES; i++) {
		if (i == FAMILY_WAIT)
			continue;	/* known of each pool alone */
		f = family_of(i);
		metric_family(b, "zfpm_", &f);
		metric_samples(b, i, &t);
	}
}

/* ---- pieces -------------------------------------------------------------------------------------------------- */

static void
stage_item(struct status *st, uint32_t worker, uint32_t server, size_t end)
{
	size_t size = st->items_size > 0 ? st->items_size * 2 : 256;
	struct item *grown;

	if (st->nitems == st->items_size) {
		if ((grown = realloc(st->items, size * sizeof(*grown))) == NULL) {
			st->failed = true;
			return;
		}
		st->items = grown;
		st->items_size = size;
	}
	st->items[st->nitems].worker = worker;
	st->items[st->nitems].server = server;
	st->items[st->nitems++].end = end;
}

/* What has been put into staged until now is an item. */
static void
stage_text(struct status *st)
{
	if (st->staged.len > 0)
		stage_item(st, 0, 0, st->staged.len);
}

static void
stage_workers(struct status *st, const struct pool *p)
{
	const struct worker *w;

	for (w = p->workers; w != NULL; w = w->pool_next)
		if (worker_shown(w) != SHOWN_KINDS)
			stage_item(st, w->number, 0, 0);
}

static void
stage_servers(struct status *st, const struct pool *p)
{
	const struct server *s;

	for (s = p->servers; s != NULL; s = s->pool_next)
		stage_item(st, 0, s->number, 0);
}

static uint16_t
pool_marks(const struct pool *p, const struct tally *t)
{
	uint16_t marks = 0;
	int i;

	if (t->nworkers > 0)
		marks |= MARK_WORKERS;
	if (t->nservers > 0)
		marks |= MARK_SERVERS;
	if (t->queued > 0)
		marks |= MARK_QUEUED;
	for (i = 0; i < p->conf->napps; i++)
		if (p->apps[i].backoff_ms != 0)
			marks |= MARK_FAILING;
	return marks;
}

static void
stage_pool(struct status *st, const struct pool *p)
{
	struct buf *b = &st->staged;
	struct tally t;

	switch (st->section) {
	case SECTION_POOLS:
		tally_living(st, &t, p);
		if (st->family <= 0)
			st->places[st->next].marks |= st->format == STATUS_OPENMETRICS ? family_marks(&t) : pool_marks(p, &t);
		if (st->format == STATUS_OPENMETRICS) {
			if (family_has(st->family, &t))
				metric_samples(b, st->family, &t);
		} else if (st->format == STATUS_JSON) {
			json_pool_head(st, b, &t);
			stage_text(st);
			stage_workers(st, p);
			json_pool_servers(b);
			stage_text(st);
			stage_servers(st, p);
			json_pool_tail(st, b, p, &t);
		} else {
			table_pool(st, b, &t);
		}
		break;
	case SECTION_WORKERS:
		stage_workers(st, p);
		break;
	case SECTION_SERVERS:
		stage_servers(st, p);
		break;
	case SECTION_QUEUED:
		table_queued(st, b, p);
		break;
	case SECTION_FAILING:
		table_failing(st, b, p);
		break;
	case SECTION_LOOK:
	case SECTION_HEAD:
	case SECTION_FAMILY:
	case SECTION_END:
	case SECTION_DONE:
		break;
	}
	stage_text(st);
}

/* A configured pool that does not live. */
static void
stage_resting(struct status *st, const struct conf_pool *cp)
{
	struct tally t;

	if (cp->star != -1 && st->name[0] == '\0')
		return;			/* a pattern is no pool */
	tally_resting(&t, cp, cp->star == -1 ? cp->name : st->name);
	switch (st->format) {
	case STATUS_JSON:
		json_pool_head(st, &st->staged, &t);
		break;
	case STATUS_OPENMETRICS:
		if (st->family == 0)
			st->places[st->next].marks = family_marks(&t);
		if (family_has(st->family, &t))
			metric_samples(&st->staged, st->family, &t);
		break;
	case STATUS_TEXT:
	case STATUS_HTML:
		if (st->name[0] != '\0')
			table_pool(st, &st->staged, &t);
		else
			st->nresting++;
		break;
	}
	stage_text(st);
}

static void
stage_place(struct status *st)
{
	const struct pool *p = place_next(st, st->next, NULL);

	st->nitems = st->next_item = 0;
	st->staged.len = st->staged_done = 0;
	if (p == NULL && st->section == SECTION_POOLS && st->next < (size_t)st->conf->npools)
		stage_resting(st, st->conf->pools[st->next]);
	for (; p != NULL; p = place_next(st, st->next, p))
		stage_pool(st, p);
	st->all_marks |= st->places[st->next].marks;
}

/* Put out the next item of the place. */
static void
put_item(struct status *st)
{
	const struct item *item = &st->items[st->next_item++];
	const struct server *s;
	const struct worker *w;

	if (item->end > 0) {
		put(&st->out, st->staged.data + st->staged_done, item->end - st->staged_done);
		st->staged_done = item->end;
		st->comma = false;
		return;
	}
	/* It may have gone since. */
	if (item->server != 0) {
		if ((s = server_find(item->server)) == NULL)
			return;
		if (st->format == STATUS_JSON)
			json_server(st, &st->out, s);
		else
			table_server(st, &st->out, s);
		return;
	}
	if ((w = pool_worker(item->worker)) == NULL || worker_shown(w) == SHOWN_KINDS)
		return;
	if (st->format == STATUS_JSON)
		json_worker(st, &st->out, w);
	else
		table_worker(st, &st->out, "Workers", w);
}

/* In the sections that go through the pools: what a place has to have; 0: it is not known yet. */
static int
marks_wanted(const struct status *st)
{
	switch (st->section) {
	case SECTION_POOLS:	return st->family > 0 ? 1 << st->family : 0;
	case SECTION_WORKERS:	return MARK_WORKERS;
	case SECTION_SERVERS:	return MARK_SERVERS;
	case SECTION_QUEUED:	return MARK_QUEUED;
	case SECTION_FAILING:	return MARK_FAILING;
	case SECTION_LOOK:
	case SECTION_HEAD:
	case SECTION_FAMILY:
	case SECTION_END:
	case SECTION_DONE:	break;
	}
	return 0;
}

/* One place. Returns whether that was the last. */
static bool
step_place(struct status *st)
{
	int wanted = marks_wanted(st);

	if (st->next >= st->end)
		return true;
	if (wanted == 0 || (st->places[st->next].marks & wanted) != 0)
		stage_place(st);
	st->next++;
	return false;
}

/* The next family that has samples. Returns whether there is none. */
static bool
step_family(struct status *st)
{
	struct family f;

	do
		st->family++;
	while (st->family > 0 && st->family < FAMILIES && (st->all_marks & 1 << st->family) == 0);
	if (st->family == FAMILIES)
		return true;
	f = family_of(st->family);
	metric_family(&st->out, "zfpm_pool_", &f);
	return false;
}

static void
widen(struct status *st, const char *name)
{
	size_t len = strlen(name);

	if (len > WIDTH_MAX)
		len = WIDTH_MAX;
	if ((int)len > st->name_width)
		st->name_width = (int)len;
}

/* Find the pools that live, and how wide their names are. */
static void
look(struct status *st)
{
	bool named = st->name[0] != '\0';
	const struct pool *p;
	size_t i, place;

	widen(st, st->name);
	st->first = 0;
	st->end = (size_t)st->conf->npools + POOL_BUCKETS;
	if (named) {
		/* Unless it lives: as what it would be. */
		st->first = st->only != NULL ? (size_t)st->only->index : 0;
		st->end = st->only != NULL ? st->first + 1 : 0;
	}
	for (i = 0; i < POOL_BUCKETS; i++)
		for (p = pool_bucket(i); p != NULL; p = p->hash_next) {
			if (named && strcmp(p->name, st->name) != 0)
				continue;
			place = place_of(st, p, i);
			st->places[place].bucket = (uint16_t)(i + 1);
			if (named) {
				st->first = place;
				st->end = place + 1;
			}
			widen(st, p->name);
		}
}

static void
put_head(struct status *st)
{
	if (st->format == STATUS_JSON)
		json_head(st, &st->out);
	else if (st->format == STATUS_OPENMETRICS)
		metric_head(st, &st->out);
	else
		page_head(st, &st->out);
}

static void
put_end(struct status *st)
{
	switch (st->format) {
	case STATUS_TEXT:
		break;
	case STATUS_JSON:
		put_string(&st->out, "\n]}\n");
		break;
	case STATUS_OPENMETRICS:
		put_string(&st->out, "# EOF\n");
		break;
	case STATUS_HTML:
		put_string(&st->out, "</body>\n</html>\n");
		break;
	}
}

static void
go_to(struct status *st, enum section section)
{
	st->section = section;
	st->next = st->first;
}

/* A little more of the page. */
static void
step(struct status *st)
{
	bool metrics = st->format == STATUS_OPENMETRICS, json = st->format == STATUS_JSON;

	if (st->next_item < st->nitems) {
		put_item(st);
		return;
	}
	switch (st->section) {
	case SECTION_LOOK:
		look(st);
		go_to(st, SECTION_HEAD);
		break;
	case SECTION_HEAD:
		put_head(st);
		go_to(st, metrics ? SECTION_FAMILY : SECTION_POOLS);
		break;
	case SECTION_FAMILY:
		go_to(st, step_family(st) ? SECTION_END : SECTION_POOLS);
		break;
	case SECTION_POOLS:
		if (!step_place(st))
			break;
		if (!metrics && !json) {
			table_close(st, &st->out);
			page_resting(st, &st->out);
		}
		go_to(st, metrics ? SECTION_FAMILY : json ? SECTION_END : SECTION_WORKERS);
		break;
	case SECTION_WORKERS:
	case SECTION_SERVERS:
	case SECTION_QUEUED:
	case SECTION_FAILING:
		if (!step_place(st))
			break;
		table_close(st, &st->out);
		go_to(st, st->section + 1);
		break;
	case SECTION_END:
		put_end(st);
		go_to(st, SECTION_DONE);
		break;
	case SECTION_DONE:
		break;
	}
}

/* ---- the page -------------------------------------------------------------------------------------------------- */

struct status *
status_new(const struct conf *conf, enum status_format format, const char *pool, const struct status_info *info)
{
	struct status *st;
	size_t len;

	if ((st = calloc(1, sizeof(*st))) == NULL)
		return NULL;
	if ((st->places = calloc((size_t)conf->npools + POOL_BUCKETS, sizeof(*st->places))) == NULL) {
		free(st);
		return NULL;
	}
	st->conf = conf;
	st->format = format;
	st->info = *info;
	st->family = -1;
	st->name_width = WIDTH_MIN;
	pool_totals(&st->totals);
	if (pool != NULL && pool[0] != '\0') {
		len = strlen(pool);
		if (len > POOL_NAME_LEN)
			len = POOL_NAME_LEN;	/* there is none of that length */
		memcpy(st->name, pool, len);
		st->only = conf_find(conf, st->name);
	}
	return st;
}

const char *
status_next(struct status *st, size_t *len, int64_t now_ms)
{
	int looks;

	st->now_ms = now_ms;
	st->out.len = 0;
	for (looks = 0; st->section != SECTION_DONE && st->out.len < PIECE; looks++) {
		if (looks >= LOOKS && st->out.len > 0)
			break;
		step(st);
		if (st->out.failed || st->staged.failed)
			st->failed = true;
		if (st->failed)
			return NULL;
	}
	if (st->out.len == 0)
		return NULL;
	*len = st->out.len;
	return st->out.data;
}

int
status_format(const char *name)
{
	static const char *const names[] = {
		[STATUS_TEXT] = "text",	[STATUS_JSON] = "json",	[STATUS_OPENMETRICS] = "openmetrics",	[STATUS_HTML] = "html",
	};
	int i;

	for (i = 0; i < (int)(sizeof(names) / sizeof(names[0])); i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}

bool
status_failed(const struct status *st)
{
	return st->failed;
}

void
status_free(struct status *st)
{
	if (st == NULL)
		return;
	free(st->places);
	free(st->items);
	free(st->staged.data);
	free(st->out.data);
	free(st);
}
