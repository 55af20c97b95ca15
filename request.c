/*
 * request.c: one request between web server and worker: the state machine.
 *
 * Owns the connection from the web server, the bytes under way in both
 * directions, and what the web server is told when something fails. Every
 * handler moves a request as far as it goes without blocking and leaves the
 * outcome in r->state. Never frees a request, never decides which worker serves
 * it (pool.c), never talks to the master.
 *
 * Responses and bodies are read straight into the chain that they leave by:
 * record headers are rewritten in place, and a record that is only partly there
 * goes on as a shorter one, so nothing is held back and a chain always ends
 * between two records.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zfpm.h"

#define APP_ID		1		/* every request's id at the application */
#define MIN_READ	4096		/* a block with less room is not read into */
#define MAX_IOV		8
#define PEEK_MAX	65536		/* a response that is longer is no longer only looked at */
#define LEAVE_MAX	32768		/* bytes of one that are left in an idle worker's socket */
#define MAX_FREE_BLOCKS	64		/* kept for reuse: 4 MB */
#define MAX_FREE_REQUESTS 256
#define LOST_MS		200		/* for the master to tell why a worker closed its connection */
#define LINGER_MS	5000		/* for a peer to take the end of a response and close */
#define LAST_MS		1000		/* for the first request of a connection, when zfpm is to end */

static const struct conf	*conf;
static const struct status_info	*status_info;
static struct block		*free_blocks;
static int			 nfree_blocks;
static struct request		*free_requests;
static int			 nfree_requests;
static uint8_t			 scratch[BLOCK_DATA];	/* what is read and not kept */

void
request_init(const struct conf *c, const struct status_info *info)
{
	conf = c;
	status_info = info;
}

/* ---- chains of blocks -------------------------------------------------------------- */

static struct block *
block_new(void)
{
	struct block *b;

	if ((b = free_blocks) != NULL) {
		free_blocks = b->next;
		nfree_blocks--;
	} else if ((b = malloc(sizeof(*b))) == NULL) {
		return NULL;
	}
	b->next = NULL;
	b->head = b->tail = 0;
	return b;
}

static void
block_free(struct block *b)
{
	if (nfree_blocks == MAX_FREE_BLOCKS) {
		free(b);
		return;
	}
	b->next = free_blocks;
	free_blocks = b;
	nfree_blocks++;
}

static void
chain_free(struct chain *c)
{
	struct block *b;

	while ((b = c->first) != NULL) {
		c->first = b->next;
		block_free(b);
	}
	c->last = NULL;
	c->len = 0;
}

/* A block at the end of the chain with room for size bytes, or NULL without memory. */
static struct block *
chain_room(struct chain *c, size_t size)
{
	struct block *b = c->last;

	if (b != NULL && BLOCK_DATA - b->tail >= size)
		return b;
	if ((b = block_new()) == NULL)
		return NULL;
	if (c->last != NULL)
		c->last->next = b;
	else
		c->first = b;
	c->last = b;
	return b;
}

/*
 * Append one record. The content may lie in the last block already, at least a
 * header's length behind its end, where it was read to: then it does not move.
 * padding_len bytes of padding follow it there. 0, or -1 without memory.
 */
static int
chain_put(struct chain *c, int type, uint16_t id, const uint8_t *data, size_t len, uint8_t padding_len)
{
	struct block *b;
	uint8_t *p;

	if ((b = chain_room(c, FCGI_HEADER_LEN + len + padding_len)) == NULL)
		return -1;
	p = b->data + b->tail;
	if (len > 0 && data != p + FCGI_HEADER_LEN)
		memmove(p + FCGI_HEADER_LEN, data, len);
	if (padding_len > 0)
		memset(p + FCGI_HEADER_LEN + len, 0, padding_len);
	fcgi_put_header(p, type, id, (uint16_t)len, padding_len);
	len += FCGI_HEADER_LEN + padding_len;
	b->tail += (uint32_t)len;
	c->len += len;
	return 0;
}

/* Where to read to, so that chain_put() finds the content in place: returns the room, 0 without memory. */
static size_t
chain_read_at(struct chain *c, const struct fcgi_reader *reader, uint8_t **p)
{
	size_t hole = fcgi_at_boundary(reader) ? 0 : FCGI_HEADER_LEN;
	struct block *b;

	if ((b = chain_room(c, MIN_READ + hole)) == NULL)
		return 0;
	*p = b->data + b->tail + hole;
	return BLOCK_DATA - b->tail - hole;
}

/* Give back a block that nothing came into. */
static void
chain_trim(struct chain *c)
{
	if (c->len == 0)
		chain_free(c);
}

/*
 * Write as much as the descriptor takes. Returns 1 when the chain is empty, 0
 * when it takes no more now, -1 with errno when it is broken.
 */
static int
chain_write(struct chain *c, int fd, bool *moved)
{
	struct iovec iov[MAX_IOV];
	struct block *b;
	ssize_t n;
	int i;

	while (c->len > 0) {
		for (i = 0, b = c->first; b != NULL && i < MAX_IOV; b = b->next, i++) {
			iov[i].iov_base = b->data + b->head;
			iov[i].iov_len = b->tail - b->head;
		}
		do
			n = writev(fd, iov, i);
		while (n == -1 && errno == EINTR);
		if (n == -1)
			return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
		*moved = true;
		c->len -= (size_t)n;
		while (n > 0) {
			b = c->first;
			if ((size_t)n < b->tail - b->head) {
				b->head += (uint32_t)n;
				return 0;
			}
			n -= b->tail - b->head;
			c->first = b->next;
			if (c->first == NULL)
				c->last = NULL;
			block_free(b);
		}
	}
	chain_free(c);
	return 1;
}

/* ---- life of a request ------------------------------------------------------------------ */

struct request *
request_new(int fd, const struct conf_listen *listen, int64_t now_ms)
{
	struct request *r;
	int on = 1;

	if ((r = free_requests) != NULL) {
		free_requests = r->dead_next;
		nfree_requests--;
	} else if ((r = malloc(sizeof(*r))) == NULL) {
		close(fd);
		errno = ENOMEM;
		return NULL;
	}
	memset(r, 0, offsetof(struct request, pool_name));
	timeout_init(&r->timer, TIMER_REQUEST);
	r->state = REQ_IDLE;
	r->web_fd = fd;
	r->web_slot = r->app_slot = -1;
	r->listen = listen;
	r->web_in_ms = r->start_ms = now_ms;
	r->status_name[0] = r->pool_name[0] = r->app_name[0] = r->about.method[0] = r->about.uri[0] = r->about.script[0] = '\0';
	if (listen->sa.ss_family != AF_UNIX) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		os_keepalive(fd);
	}
	return r;
}

/* The request on this connection is over: forget it, and keep the connection. */
static void
request_reset(struct request *r)
{
	if (r->pool != NULL) {
		r->pool->counters->bytes_in += (uint64_t)(r->stdin_len + r->data_len);
		r->pool->counters->bytes_out += (uint64_t)r->stdout_len;
		all_counters.bytes_in += (uint64_t)(r->stdin_len + r->data_len);
		all_counters.bytes_out += (uint64_t)r->stdout_len;
		pool_release(r->pool);
	}
	r->pool = NULL;
	r->app = 0;
	status_free(r->status);
	r->status = NULL;
	chain_free(&r->up);
	chain_free(&r->down);
	timeout_disarm(&r->timer);
	r->active = false;
}

void
request_free(struct request *r)
{
	request_reset(r);
	timeout_remove(&r->timer);
	free(r->values);
	if (r->web_fd != -1)
		close(r->web_fd);
	if (nfree_requests == MAX_FREE_REQUESTS) {
		free(r);
		return;
	}
	r->dead_next = free_requests;
	free_requests = r;
	nfree_requests++;
}

/* "pool NAME: worker PID: TEXT (METHOD URI, script SCRIPT, 1.234s)", as far as that is known. */
static void
log_request(const struct request *r, int64_t now_ms, const char *text)
{
	char worker[32] = "", script[sizeof(r->about.script) + 16] = "";
	double seconds = (double)(now_ms - r->start_ms) / 1000;

	if (r->pid != 0)
		snprintf(worker, sizeof(worker), "worker %ld: ", (long)r->pid);
	if (r->about.script[0] != '\0')
		snprintf(script, sizeof(script), ", script %s", r->about.script);
	log_warnx("pool %s: %s%s (%s %s%s, %.3fs)", r->pool_name[0] != '\0' ? r->pool_name : "-", worker, text,
	    r->about.method[0] != '\0' ? r->about.method : "-", r->about.uri[0] != '\0' ? r->about.uri : "-", script, seconds);
}

/* Count for the pool, where it is known, and for all. */
#define COUNT_REQUEST(r, what)	((void)((r)->pool != NULL && (r)->pool->counters->what++), all_counters.what++)

/* The last word to the web server about this request has been put into the chain. */
static void
begin_drain(struct request *r, int64_t now_ms)
{
	r->active = false;
	r->web_out_ms = now_ms;
	r->state = REQ_DRAIN;
}

/* ENOMEM, or a web server that is gone: nothing more can be told. */
static void
give_up(struct request *r)
{
	r->state = REQ_DEAD;
}

static void
put_end(struct request *r, int status)
{
	uint8_t end[2 * FCGI_BODY_LEN];

	fcgi_put_end(end, r->id, 0, status);
	if (chain_put(&r->down, FCGI_END_REQUEST, r->id, end + FCGI_HEADER_LEN, FCGI_BODY_LEN, 0) == -1)
		r->keep = false;
}

/* END_REQUEST with this protocol status and nothing else. */
static void
request_end(struct request *r, int status, int64_t now_ms)
{
	put_end(r, status);
	begin_drain(r, now_ms);
}

/*
 * Fail the request: text goes to the log and as FCGI_STDERR to the web server. If
 * nothing of the response has gone down, a whole response with this status
 * follows (headers: "Status: ..." and more lines, each with its \r\n), and
 * END_REQUEST with this protocol status; else the connection is closed without
 * END_REQUEST, so that the cut can be seen. The stream that the text is in has an
 * end in any case: HAProxy 2.6 dies otherwise. The worker, if there is one, has
 * been let go by the caller.
 */
static void
request_fail_as(struct request *r, int64_t now_ms, const char *headers, int status, const char *text)
{
	char head[256];
	int n;

	log_request(r, now_ms, text);
	COUNT_REQUEST(r, failed);
	chain_free(&r->up);
	if (r->web_fd == -1) {
		give_up(r);
		return;
	}
	if (chain_put(&r->down, FCGI_STDERR, r->id, (const uint8_t *)text, strlen(text), 0) == -1 ||
	    chain_put(&r->down, FCGI_STDERR, r->id, NULL, 0, 0) == -1) {
		give_up(r);
		return;
	}
	if (r->answered || headers == NULL) {
		r->keep = false;
		begin_drain(r, now_ms);
		return;
	}
	n = snprintf(head, sizeof(head), "%sContent-Length: 0\r\n\r\n", headers);
	if (chain_put(&r->down, FCGI_STDOUT, r->id, (const uint8_t *)head, (size_t)n, 0) == -1 ||
	    chain_put(&r->down, FCGI_STDOUT, r->id, NULL, 0, 0) == -1) {
		give_up(r);
		return;
	}
	request_end(r, status, now_ms);
}

static void
request_fail(struct request *r, int64_t now_ms, const char *headers, const char *text)
{
	request_fail_as(r, now_ms, headers, FCGI_REQUEST_COMPLETE, text);
}

#define STATUS_400	"Status: 400 Bad Request\r\n"
#define STATUS_403	"Status: 403 Forbidden\r\n"
#define STATUS_404	"Status: 404 Not Found\r\n"
#define STATUS_500	"Status: 500 Internal Server Error\r\n"
#define STATUS_503	"Status: 503 Service Unavailable\r\nRetry-After: 5\r\n"

void
request_refuse(struct request *r, const char *reason, int64_t now_ms)
{
	request_fail(r, now_ms, STATUS_500, reason);
}

/* ---- parameters: decoded, and re-packed into up ----------------------------------------------- */

/* Note what we broke on; nothing more of this connection is read. */
static void
broken(struct request *r, const char *text)
{
	r->verdict = VERDICT_BROKEN;
	r->verdict_text = text;
}

static void
copy_head(char *to, size_t size, const struct fcgi_pair *pair)
{
	size_t n = pair->value_len < size - 1 ? pair->value_len : size - 1;

	if (n > 0)
		memcpy(to, pair->value, n);
	to[n] = '\0';
}

static void
copy_tail(char *to, size_t size, const struct fcgi_pair *pair)
{
	size_t n = pair->value_len < size - 1 ? pair->value_len : size - 1;

	if (n > 0)
		memcpy(to, pair->value + pair->value_len - n, n);
	to[n] = '\0';
}

#define LENGTH_NONE	(-1)	/* not given, or empty, as nginx gives it */
#define LENGTH_WRONG	(-2)

static int64_t
get_length(const struct fcgi_pair *pair)
{
	int64_t n = 0;
	uint32_t i;

	if (pair->value_len == 0)
		return LENGTH_NONE;
	if (pair->value_len > 18)
		return LENGTH_WRONG;
	for (i = 0; i < pair->value_len; i++) {
		if (pair->value[i] < '0' || pair->value[i] > '9')
			return LENGTH_WRONG;
		n = 10 * n + (pair->value[i] - '0');
	}
	return n;
}

/* Does the value equal the key? Takes the same time wherever the first difference is. */
static bool
key_equal(const struct conf_listen *l, const struct fcgi_pair *pair)
{
	volatile uint8_t diff = 0;
	uint32_t i;

	for (i = 0; i < pair->value_len; i++)
		diff |= (uint8_t)(pair->value[i] ^ (uint8_t)l->key[i % l->key_len]);
	return diff == 0 && pair->value_len == l->key_len;
}

#define IS(pair, s)	((pair)->name_len == sizeof(s) - 1 && memcmp((pair)->name, s, sizeof(s) - 1) == 0)

/*
 * Is it for zfpm alone? Apache, with its own mod_proxy_fcgi, keeps all parameters
 * of a request that it redirects to an ErrorDocument, each with REDIRECT_ before
 * its name, and once more with every further redirect. Of a name that is longer
 * than any such the beginning decides: it need not all be there.
 */
static bool
is_private(const struct fcgi_pair *pair)
{
	const uint8_t *name = pair->name;
	size_t len = pair->name_len < 1024 ? pair->name_len : 1024;

	for (; len >= 9 && memcmp(name, "REDIRECT_", 9) == 0; len -= 9)
		name += 9;
	return len >= 5 && memcmp(name, "ZFPM_", 5) == 0;
}

/* Note what we need of a pair. Returns whether it goes on to the application. */
static bool
see_pair(struct request *r, const struct fcgi_pair *pair)
{
	switch (pair->name[0]) {
	case 'C':
		if (!IS(pair, "CONTENT_LENGTH"))
			return true;
		r->content_length = get_length(pair);
		return r->role != FCGI_AUTHORIZER;	/* it gets no body (6.3): PHP would wait for this one for ever */
	case 'F':
		if (IS(pair, "FCGI_DATA_LENGTH"))
			r->data_length = get_length(pair);
		return true;
	case 'H':
		return !IS(pair, "HTTP_PROXY");
	case 'R':
		if (IS(pair, "REQUEST_METHOD"))
			copy_head(r->about.method, sizeof(r->about.method), pair);
		else if (IS(pair, "REQUEST_URI"))
			copy_head(r->about.uri, sizeof(r->about.uri), pair);
		return !is_private(pair);
	case 'S':
		if (IS(pair, "SCRIPT_FILENAME"))
			copy_tail(r->about.script, sizeof(r->about.script), pair);
		return true;
	case 'Z':
		if (!is_private(pair))
			return true;
		if (IS(pair, "ZFPM_POOL"))
			copy_head(r->pool_name, sizeof(r->pool_name), pair);
		else if (IS(pair, "ZFPM_APP"))
			copy_head(r->app_name, sizeof(r->app_name), pair);
		else if (IS(pair, "ZFPM_STATUS"))
			copy_head(r->status_name, sizeof(r->status_name), pair);
		else if (IS(pair, "ZFPM_KEY") && r->listen->key != NULL)
			r->key_ok = key_equal(r->listen, pair);
		return false;
	default:
		return true;
	}
}

/* Start a PARAMS record in a block that has nothing else to come behind it; -1 without memory. */
static int
record_open(struct request *r, bool new_block)
{
	struct block *b;

	if ((b = chain_room(&r->up, new_block ? BLOCK_DATA : FCGI_HEADER_LEN)) == NULL)
		return -1;
	r->record = b->tail;
	b->tail += FCGI_HEADER_LEN;
	return 0;
}

/* Write the header of the open record; an empty one would end the stream, so it goes away. */
static void
record_close(struct request *r)
{
	struct block *b = r->up.last;
	size_t len = b->tail - r->record - FCGI_HEADER_LEN;

	if (len == 0)
		b->tail = r->record;
	else
		fcgi_put_header(b->data + r->record, FCGI_PARAMS, APP_ID, (uint16_t)len, 0);
}

/* Bytes that still fit into the open record. */
static size_t
record_room(const struct request *r)
{
	const struct block *b = r->up.last;
	size_t end = r->record + FCGI_HEADER_LEN + FCGI_MAX_CONTENT;

	if (end > BLOCK_DATA)
		end = BLOCK_DATA;
	return end - b->tail - r->partial;
}

/*
 * The open record is full and its last pair is not complete: go on in a new
 * record, on a pair boundary, as PHP wants it. A pair that is longer than any
 * record has to straddle several. -1 without memory or for a broken pair.
 */
static int
record_next(struct request *r)
{
	struct block *b = r->up.last;
	struct fcgi_pair pair;
	const uint8_t *rest;

	if (b->tail > r->record + FCGI_HEADER_LEN) {
		record_close(r);
		rest = b->data + b->tail;
		if (record_open(r, true) == -1)
			return -1;
		b = r->up.last;
		memcpy(b->data + b->tail, rest, r->partial);
		return 0;
	}
	fcgi_pair_get(b->data + b->tail, r->partial, SIZE_MAX, &pair);
	if (pair.name == NULL || pair.size <= r->partial)
		return -1;
	r->pair_left = pair.size - r->partial;
	pair.value_len = 0;	/* none of the names that we read has such a value */
	r->pair_drop = !see_pair(r, &pair);
	if (!r->pair_drop)
		b->tail += r->partial;
	r->partial = 0;
	if (r->pair_drop)
		return 0;
	record_close(r);
	return record_open(r, true);
}

/* Take in content of PARAMS. */
static void
params_read(struct request *r, const uint8_t *data, size_t len)
{
	struct fcgi_pair pair;
	struct block *b;
	size_t n;
	int got;

	if ((r->params_len += len) > conf->max_params) {
		broken(r, "PARAMS exceed max_params");
		return;
	}
	while (len > 0) {
		b = r->up.last;
		if ((n = record_room(r)) == 0) {
			if (r->partial == 0) {
				record_close(r);
				if (record_open(r, true) == -1) {
					broken(r, "no memory");
					return;
				}
			} else if (record_next(r) == -1) {
				broken(r, "PARAMS can not be re-packed");
				return;
			}
			continue;
		}
		if (n > len)
			n = len;
		if (r->pair_left > 0) {
			if (n > r->pair_left)
				n = r->pair_left;
			if (!r->pair_drop) {
				memcpy(b->data + b->tail, data, n);
				b->tail += (uint32_t)n;
			}
			r->pair_left -= n;
			data += n;
			len -= n;
			continue;
		}
		memcpy(b->data + b->tail + r->partial, data, n);
		r->partial += (uint32_t)n;
		data += n;
		len -= n;
		while ((got = fcgi_pair_get(b->data + b->tail, r->partial, conf->max_params, &pair)) == 1) {
			r->partial -= (uint32_t)pair.size;
			if (pair.name_len == 0 || see_pair(r, &pair))
				b->tail += (uint32_t)pair.size;
			else
				memmove(b->data + b->tail, b->data + b->tail + pair.size, r->partial);
		}
		if (got == -1) {
			broken(r, "a length in PARAMS overflows");
			return;
		}
	}
}

/* Take the pool's chroot off the front of the paths that the application gets; it sees them so. */
static void
strip_chroot(struct request *r)
{
	static const char *const names[] = {
		"SCRIPT_FILENAME", "DOCUMENT_ROOT", "PATH_TRANSLATED", "CONTEXT_DOCUMENT_ROOT",
	};
	char dir[1024];
	struct fcgi_pair pair;
	struct block *b;
	size_t dir_len, i, value_len, size, name_at, value_at, skip = 0;
	uint32_t at, record;
	uint8_t *p, head[8];
	const uint8_t *value;

	if (r->pool->conf->chroot == NULL)
		return;
	if (r->pool->conf->star == -1)
		snprintf(dir, sizeof(dir), "%s", r->pool->conf->chroot);
	else if (conf_expand(dir, sizeof(dir), r->pool->conf->chroot, r->pool->conf, r->pool_name) == -1)
		return;
	for (dir_len = strlen(dir); dir_len > 0 && dir[dir_len - 1] == '/'; dir_len--)
		;
	if (dir_len == 0)
		return;
	for (b = r->up.first; b != NULL; b = b->next) {
		/* BEGIN_REQUEST, if it is here, then one record of PARAMS. */
		record = b == r->up.first ? 2 * FCGI_BODY_LEN : 0;
		at = record + FCGI_HEADER_LEN;
		/* It may begin in the midst of a pair that is longer than a record. */
		for (; skip > 0 && at < b->tail; at += (uint32_t)size, skip -= size)
			size = skip < b->tail - at ? skip : b->tail - at;
		for (; at < b->tail; at += (uint32_t)size) {
			p = b->data + at;
			if (fcgi_pair_get(p, b->tail - at, SIZE_MAX, &pair) != 1) {
				skip = pair.size - (b->tail - at);
				break;
			}
			size = pair.size;
			for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
				if (pair.name_len == strlen(names[i]) && memcmp(pair.name, names[i], pair.name_len) == 0)
					break;
			if (i == sizeof(names) / sizeof(names[0]) || pair.value_len < dir_len || memcmp(pair.value, dir, dir_len) != 0 ||
			    (pair.value_len > dir_len && pair.value[dir_len] != '/'))
				continue;
			value = pair.value + dir_len;
			value_len = pair.value_len - dir_len;
			if (value_len == 0) {	/* the directory itself: its last byte becomes the new root's name */
				b->data[(pair.value - b->data) + (ptrdiff_t)dir_len - 1] = '/';
				value--;
				value_len = 1;
			}
			/* The pair gets shorter: lengths, name and value move to the front, the rest follows. */
			name_at = (size_t)(pair.name - b->data);
			value_at = (size_t)(value - b->data);
			i = fcgi_put_pair_header(head, pair.name_len, (uint32_t)value_len);
			memcpy(p, head, i);
			memmove(p + i, b->data + name_at, pair.name_len);
			memmove(p + i + pair.name_len, b->data + value_at, value_len);
			size = i + pair.name_len + value_len;
			memmove(p + size, p + pair.size, b->tail - at - pair.size);
			b->tail -= (uint32_t)(pair.size - size);
		}
		if (b->tail > record + FCGI_HEADER_LEN)
			fcgi_put_header(b->data + record, FCGI_PARAMS, APP_ID, (uint16_t)(b->tail - record - FCGI_HEADER_LEN), 0);
	}
}

/* ZFPM_STATUS: the answer is a status page, of all or of the pool that is named. */
static void
begin_status(struct request *r, int64_t now_ms)
{
	static const char *const types[] = {
		[STATUS_TEXT] = "text/plain; charset=utf-8",	[STATUS_JSON] = "application/json",
		[STATUS_OPENMETRICS] = "application/openmetrics-text; version=1.0.0; charset=utf-8",
		[STATUS_HTML] = "text/html; charset=utf-8",
	};
	int format = status_format(r->status_name), n;
	char head[128], text[POOL_NAME_LEN + 64];

	chain_free(&r->up);
	r->body_done = true;
	if (format == -1 || (r->pool_name[0] != '\0' && (!conf_name_ok(r->pool_name) || conf_find(conf, r->pool_name) == NULL))) {
		if (format == -1)
			snprintf(text, sizeof(text), "Unknown format '%s' of a status page", r->status_name);
		else
			snprintf(text, sizeof(text), "Unknown pool '%s'", r->pool_name);
		request_fail(r, now_ms, STATUS_404, text);
		return;
	}
	n = snprintf(head, sizeof(head), "Content-Type: %s\r\nCache-Control: no-store\r\n\r\n", types[format]);
	if ((r->status = status_new(conf, (enum status_format)format, r->pool_name, status_info)) == NULL ||
	    chain_put(&r->down, FCGI_STDOUT, r->id, (const uint8_t *)head, (size_t)n, 0) == -1) {
		request_fail(r, now_ms, STATUS_500, "Cannot make the status page: no memory");
		return;
	}
	r->answered = true;
	r->state = REQ_STATUS;
}

/* Make more of the page, while the web server takes it. */
static void
step_status(struct request *r, int64_t now_ms)
{
	const char *piece;
	size_t len, n;

	while (r->down.len < BLOCK_DATA) {
		if ((piece = status_next(r->status, &len, now_ms)) == NULL)
			break;
		for (; len > 0; piece += n, len -= n) {
			n = len < FCGI_MAX_CONTENT ? len : FCGI_MAX_CONTENT;
			if (chain_put(&r->down, FCGI_STDOUT, r->id, (const uint8_t *)piece, n, 0) == -1) {
				request_fail(r, now_ms, NULL, "Cannot make the status page: no memory");
				return;
			}
		}
	}
	if (r->down.len >= BLOCK_DATA)
		return;
	if (status_failed(r->status))
		request_fail(r, now_ms, NULL, "Cannot make the status page: no memory");
	else if (chain_put(&r->down, FCGI_STDOUT, r->id, NULL, 0, 0) == -1)
		give_up(r);
	else
		request_end(r, FCGI_REQUEST_COMPLETE, now_ms);
}

/* Find the pool and app of these names: 0, or ENOENT (no such pool), EINVAL (no such app of it), ENOMEM. */
static int
find_pool(struct request *r)
{
	const struct conf_pool *cp;

	if ((r->pool = pool_get(r->pool_name)) == NULL)
		return errno;
	if (r->app_name[0] == '\0')
		return 0;
	cp = r->pool->conf;
	for (r->app = 0; r->app < cp->napps; r->app++)
		if (strcmp(cp->apps[r->app]->name, r->app_name) == 0)
			return 0;
	r->app = 0;
	return EINVAL;
}

static void
fail_unknown(struct request *r, int error, int64_t now_ms)
{
	char text[POOL_NAME_LEN + sizeof(r->app_name) + 64];

	if (error == ENOENT)
		snprintf(text, sizeof(text), "Unknown pool '%s'", r->pool_name);
	else if (error == EINVAL)
		snprintf(text, sizeof(text), "Unknown application '%s' in pool '%s'", r->app_name, r->pool_name);
	else
		snprintf(text, sizeof(text), "Cannot make pool '%s': %s", r->pool_name, strerror(error));
	request_fail(r, now_ms, STATUS_500, text);
}

/* Does the app serve this role, and this script? If not, the request is answered. */
static bool
admitted(struct request *r, int64_t now_ms)
{
	const struct conf_app *app = r->pool->conf->apps[r->app];
	char text[sizeof(r->about.script) + 128], **ext;
	size_t len, n;

	if ((app->roles & 1u << r->role) == 0) {
		snprintf(text, sizeof(text), "Application '%s' does not serve role %u", app->name, r->role);
		log_request(r, now_ms, text);
		request_end(r, FCGI_UNKNOWN_ROLE, now_ms);
		return false;
	}
	if (app->extensions != NULL) {
		len = strlen(r->about.script);
		for (ext = app->extensions; *ext != NULL; ext++)
			if (len >= (n = strlen(*ext)) && strcmp(r->about.script + len - n, *ext) == 0)
				break;
		if (*ext == NULL) {
			snprintf(text, sizeof(text), "Access denied: '%s' has no extension of application '%s'", r->about.script, app->name);
			request_fail(r, now_ms, STATUS_403, text);
			return false;
		}
	}
	return true;
}

/* PARAMS are complete: find out whether this may be served, and by which pool and app. */
static void
params_end(struct request *r, int64_t now_ms)
{
	struct block *b;
	int error;

	if (r->partial > 0 || r->pair_left > 0) {
		broken(r, "PARAMS end in the middle of a pair");
		return;
	}
	record_close(r);
	r->stdin_done = r->body_done = false;
	if (r->listen->key != NULL && !r->key_ok) {
		request_fail(r, now_ms, STATUS_403, "Access denied: ZFPM_KEY is missing or wrong");
		return;
	}
	if (r->content_length == LENGTH_WRONG || r->data_length == LENGTH_WRONG) {
		request_fail(r, now_ms, STATUS_400, "CONTENT_LENGTH or FCGI_DATA_LENGTH is no length");
		return;
	}
	if (r->status_name[0] != '\0') {
		begin_status(r, now_ms);
		return;
	}
	if ((error = find_pool(r)) != 0) {
		fail_unknown(r, error, now_ms);
		return;
	}
	if (!admitted(r, now_ms))
		return;
	strip_chroot(r);
	r->up.len = 0;
	for (b = r->up.first; b != NULL; b = b->next)
		r->up.len += b->tail - b->head;
	if (chain_put(&r->up, FCGI_PARAMS, APP_ID, NULL, 0, 0) == -1) {
		broken(r, "no memory");
		return;
	}
	r->body_done = r->role == FCGI_AUTHORIZER;	/* it has no body (6.3) */
	r->state = REQ_BODY;
}

/* ---- what comes from the web server ------------------------------------------------------------------ */

/* BEGIN_REQUEST is complete in r->begin. */
static void
begin_read(struct request *r, uint16_t id, int64_t now_ms)
{
	uint16_t role = (uint16_t)(r->begin[0] << 8 | r->begin[1]);
	uint8_t end[2 * FCGI_BODY_LEN];
	struct block *b;

	if (r->state != REQ_IDLE) {
		if (r->active && id == r->id) {
			broken(r, "BEGIN_REQUEST for a request that is active");
			return;
		}
		fcgi_put_end(end, id, 0, FCGI_CANT_MPX_CONN);
		if (chain_put(&r->down, FCGI_END_REQUEST, id, end + FCGI_HEADER_LEN, FCGI_BODY_LEN, 0) == -1)
			broken(r, "no memory");
		return;
	}
	r->id = id;
	r->role = role;
	r->keep = (r->begin[2] & FCGI_KEEP_CONN) != 0 && r->last_ms == 0;
	r->active = true;
	r->key_ok = r->body_done = r->stdin_done = r->answered = false;
	r->app_deaf = r->app_reset = r->exited = r->app_began = false;
	r->content_length = r->data_length = LENGTH_NONE;
	r->stdin_len = r->stdout_len = r->data_len = 0;
	r->params_len = 0;
	r->partial = 0;
	r->pair_left = 0;
	r->pid = 0;
	r->link = NULL;
	r->status_name[0] = '\0';
	r->pool_name[0] = r->app_name[0] = r->about.method[0] = r->about.uri[0] = r->about.script[0] = '\0';
	r->start_ms = r->web_in_ms = now_ms;
	r->state = REQ_PARAMS;
	if (role < FCGI_RESPONDER || role > FCGI_FILTER) {
		request_end(r, FCGI_UNKNOWN_ROLE, now_ms);
		return;
	}
	/* The connection to the application is kept whatever the web server does with its own. */
	if ((b = chain_room(&r->up, BLOCK_DATA)) == NULL) {
		broken(r, "no memory");
		return;
	}
	b->tail += (uint32_t)fcgi_put_begin(b->data, APP_ID, role, FCGI_KEEP_CONN);
	record_open(r, false);
}

/* GET_VALUES is complete: answer the names that we know (4.1). */
static void
values_read(struct request *r, const uint8_t *data, size_t len)
{
	static const char *const names[] = { "FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS" };
	bool asked[3] = { false, false, false };
	struct fcgi_pair pair;
	uint8_t answer[256];
	char value[16];
	size_t i, n = 0;

	while (len > 0 && fcgi_pair_get(data, len, len, &pair) == 1) {
		for (i = 0; i < 3; i++)
			if (pair.name_len == strlen(names[i]) && memcmp(pair.name, names[i], pair.name_len) == 0)
				asked[i] = true;
		data += pair.size;
		len -= pair.size;
	}
	for (i = 0; i < 3; i++) {
		if (!asked[i])
			continue;
		snprintf(value, sizeof(value), "%d", i == 2 ? 0 : conf->max_workers);
		n += fcgi_put_pair(answer + n, names[i], (uint32_t)strlen(names[i]), value, (uint32_t)strlen(value));
	}
	if (chain_put(&r->down, FCGI_GET_VALUES_RESULT, 0, answer, n, 0) == -1)
		broken(r, "no memory");
}

/* A part of a management record (id 0). */
static void
management_read(struct request *r, const struct fcgi_part *part)
{
	uint8_t unknown[2 * FCGI_BODY_LEN];

	if (part->type == FCGI_BEGIN_REQUEST) {
		broken(r, "BEGIN_REQUEST with id 0");
		return;
	}
	if (part->type != FCGI_GET_VALUES) {
		/* Records of requests that lost their id are ignored like those of inactive ids. */
		if (!part->last || (part->type >= FCGI_BEGIN_REQUEST && part->type <= FCGI_DATA))
			return;
		fcgi_put_unknown_type(unknown, part->type);
		if (chain_put(&r->down, FCGI_UNKNOWN_TYPE, 0, unknown + FCGI_HEADER_LEN, FCGI_BODY_LEN, 0) == -1)
			broken(r, "no memory");
		return;
	}
	if (part->first && part->last) {
		values_read(r, part->data, part->len);
		return;
	}
	if (part->first) {
		free(r->values);
		r->values_len = 0;
		if ((r->values = malloc(part->content_len)) == NULL) {
			broken(r, "no memory");
			return;
		}
	}
	memcpy(r->values + r->values_len, part->data, part->len);
	r->values_len += part->len;
	if (part->last) {
		values_read(r, r->values, r->values_len);
		free(r->values);
		r->values = NULL;
	}
}

/* Does the body go to the application, or has it lost its interest? */
static bool
body_wanted(const struct request *r)
{
	return !r->app_deaf && (r->state == REQ_BODY || r->state == REQ_QUEUED || r->state == REQ_RELAY);
}

/* A part of STDIN or DATA. */
static void
body_read(struct request *r, const struct fcgi_part *part)
{
	bool filter = r->role == FCGI_FILTER;
	uint8_t padding = part->last && part->content_len + part->padding_len <= FCGI_MAX_CONTENT ? part->padding_len : 0;

	if (r->state == REQ_PARAMS) {
		broken(r, "STDIN before the end of PARAMS");
		return;
	}
	if (r->body_done || r->role == FCGI_AUTHORIZER)
		return;
	if (part->type == FCGI_STDIN) {
		if (r->stdin_done)
			return;
		r->stdin_len += (int64_t)part->len;
	} else if (!filter || !r->stdin_done) {
		return;
	} else {
		r->data_len += (int64_t)part->len;
	}
	if (part->len > 0) {
		if (body_wanted(r) && chain_put(&r->up, part->type, APP_ID, part->data, part->len, padding) == -1)
			broken(r, "no memory");
		return;
	}
	/* The end of a stream. A short body is never passed off as a complete one. */
	if (part->type == FCGI_STDIN ? r->content_length > r->stdin_len : r->data_length > r->data_len) {
		r->verdict = VERDICT_SHORT;
		r->active = false;
		return;
	}
	if (body_wanted(r) && chain_put(&r->up, part->type, APP_ID, NULL, 0, 0) == -1) {
		broken(r, "no memory");
		return;
	}
	if (part->type == FCGI_STDIN)
		r->stdin_done = true;
	r->body_done = part->type == FCGI_DATA || !filter;
}

static void
part_read(struct request *r, const struct fcgi_part *part, int64_t now_ms)
{
	size_t at;

	if (part->id == 0) {
		management_read(r, part);
		return;
	}
	if (part->type == FCGI_BEGIN_REQUEST) {
		if (part->content_len != FCGI_BODY_LEN) {
			broken(r, "BEGIN_REQUEST of a wrong length");
			return;
		}
		/* The reader knows how much of the record is still to come. */
		at = FCGI_BODY_LEN - r->web_reader.content_left - part->len;
		memcpy(r->begin + at, part->data, part->len);
		if (part->last)
			begin_read(r, part->id, now_ms);
		return;
	}
	if (!r->active || part->id != r->id)
		return;		/* 3.3: records of inactive ids are ignored */
	switch (part->type) {
	case FCGI_PARAMS:
		if (r->state != REQ_PARAMS)
			return;
		if (part->len > 0)
			params_read(r, part->data, part->len);
		else
			params_end(r, now_ms);
		break;
	case FCGI_STDIN:
	case FCGI_DATA:
		body_read(r, part);
		break;
	case FCGI_ABORT_REQUEST:
		r->verdict = VERDICT_ABORT;
		r->active = false;
		break;
	default:
		break;		/* what only an application sends */
	}
}

/*
 * Let the worker of a request go that will not be waited for: its application
 * decides whether the script goes on. Not so if it waits for the rest of a body.
 */
static void
leave_worker(struct request *r, int64_t now_ms)
{
	if (r->link != NULL && (r->body_done || r->app_deaf))
		pool_leave(r->link, now_ms);
	else if (r->link != NULL)
		pool_kill(r->link, now_ms);
	r->link = NULL;
}

/* The request leaves the place where it stands, whatever that is. */
static void
withdraw(struct request *r, int64_t now_ms)
{
	if (r->state == REQ_QUEUED)
		pool_unqueue(r);
	leave_worker(r, now_ms);
	chain_free(&r->up);
}

/* The web server has gone. Did it say before that nobody waits for this request? */
static bool
aborted(struct request *r)
{
	struct fcgi_part part;
	const uint8_t *p;
	size_t len;
	ssize_t n;

	while (r->active && (n = recv(r->web_fd, scratch, sizeof(scratch), MSG_DONTWAIT)) > 0) {
		p = scratch;
		len = (size_t)n;
		while (fcgi_read(&r->web_reader, &p, &len, &part) == 1)
			if (part.type == FCGI_ABORT_REQUEST && part.id == r->id)
				return true;
	}
	return false;
}

/* The web server has closed the connection, or broken it. */
static void
web_gone(struct request *r, int64_t now_ms)
{
	bool goes_on = (r->state == REQ_RELAY && r->body_done && r->pool->conf->on_server_close == SERVER_CLOSE_FINISH &&
	    !aborted(r)) || r->state == REQ_LOST;

	if (r->active && r->state != REQ_IDLE)
		COUNT_REQUEST(r, aborted);
	if (r->active)
		log_debug("pool %s: web server closed the connection (%s %s)%s", r->pool_name, r->about.method, r->about.uri,
		    goes_on ? ", the script goes on" : "");
	if (goes_on) {
		chain_free(&r->down);
		close(r->web_fd);
		r->web_fd = -1;
		return;
	}
	withdraw(r, now_ms);
	r->state = REQ_DEAD;
}

static void
web_write(struct request *r, int64_t now_ms)
{
	bool moved = false;
	int done;

	if (r->web_fd == -1) {
		chain_free(&r->down);
		done = 1;
	} else {
		done = chain_write(&r->down, r->web_fd, &moved);
	}
	if (moved)
		r->web_out_ms = now_ms;
	if (done == -1) {
		web_gone(r, now_ms);
		return;
	}
	if (done == 0 || r->state != REQ_DRAIN)
		return;
	if (r->keep && r->web_fd != -1 && !r->web_eof) {
		request_reset(r);
		r->state = REQ_IDLE;
	} else if (r->web_fd != -1 && !r->web_eof && !(r->last_ms != 0 && r->body_done) && shutdown(r->web_fd, SHUT_WR) == 0) {
		/*
		 * A close with bytes unread would be a reset; a peer that still sends would break on EPIPE, the answer unread.
		 * When zfpm ends, one that has sent all is not waited for: it keeps its connection, as it has asked to.
		 */
		r->web_out_ms = now_ms;
		r->state = REQ_LINGER;
	} else {
		r->state = REQ_DEAD;
	}
}

static void
app_write(struct request *r, int64_t now_ms)
{
	bool moved = false;

	if (r->up.len == 0)
		return;
	if (chain_write(&r->up, r->link->fd, &moved) == -1) {
		/* It reads no more; what it still has to say is read to its end. */
		r->app_deaf = true;
		chain_free(&r->up);
	}
	if (moved)
		r->app_ms = now_ms;
}

/* Act on what has just been read. */
static void
web_step(struct request *r, int64_t now_ms)
{
	enum req_verdict verdict = r->verdict;
	char text[128];

	r->verdict = VERDICT_NONE;
	switch (verdict) {
	case VERDICT_NONE:
		break;
	case VERDICT_BROKEN:
		log_request(r, now_ms, r->verdict_text);
		withdraw(r, now_ms);
		r->state = REQ_DEAD;
		return;
	case VERDICT_ABORT:
		log_debug("pool %s: aborted by the web server (%s %s)", r->pool_name, r->about.method, r->about.uri);
		COUNT_REQUEST(r, aborted);
		withdraw(r, now_ms);
		request_end(r, FCGI_REQUEST_COMPLETE, now_ms);
		break;
	case VERDICT_SHORT:
		snprintf(text, sizeof(text), "Request body is incomplete (%lld of %lld bytes)",
		    (long long)(r->stdin_done ? r->data_len : r->stdin_len),
		    (long long)(r->stdin_done ? r->data_length : r->content_length));
		withdraw(r, now_ms);
		request_fail(r, now_ms, STATUS_400, text);
		break;
	}
	/* A small body is complete before it takes a worker; a large one streams. */
	if (r->state == REQ_BODY && (r->body_done || r->up.len >= r->params_len + r->pool->conf->buffer_request)) {
		r->queued_ms = now_ms;		/* its place */
		if (pool_queue(r) == -1) {
			snprintf(text, sizeof(text), "Queue is full (%d requests) while waiting for FCGI process to become available",
			    r->pool->queued);
			COUNT_REQUEST(r, queue_full);
			request_fail_as(r, now_ms, STATUS_503, FCGI_OVERLOADED, text);	/* web servers know the one or the other */
		} else {
			r->state = REQ_QUEUED;
		}
	}
	if (r->state == REQ_RELAY)
		app_write(r, now_ms);
	if (r->state == REQ_STATUS)
		step_status(r, now_ms);
	if (r->down.len > 0 || r->state == REQ_DRAIN)
		web_write(r, now_ms);
}

/* One read from the web server. Returns false when there was nothing, or its end. */
static bool
web_read(struct request *r, int64_t now_ms)
{
	bool in_place = !r->body_done && body_wanted(r);
	uint8_t *buf = scratch;
	size_t room = sizeof(scratch), len;
	struct fcgi_part part;
	const uint8_t *p;
	ssize_t n;
	int got;

	if (in_place && (room = chain_read_at(&r->up, &r->web_reader, &buf)) == 0) {
		in_place = false;
		buf = scratch;
		room = sizeof(scratch);
	}
	do
		n = read(r->web_fd, buf, room);
	while (n == -1 && errno == EINTR);
	if (r->state == REQ_LINGER) {
		if (n == 0 || (n == -1 && errno != EAGAIN && errno != EWOULDBLOCK))
			r->state = REQ_DEAD;
		return n > 0;
	}
	if (n <= 0) {
		if (in_place)
			chain_trim(&r->up);
		if (n == 0)
			r->web_eof = true;
		else if (errno != EAGAIN && errno != EWOULDBLOCK)
			web_gone(r, now_ms);
		return false;
	}
	r->web_in_ms = now_ms;
	p = buf;
	len = (size_t)n;
	while ((got = fcgi_read(&r->web_reader, &p, &len, &part)) == 1) {
		part_read(r, &part, now_ms);
		if (r->verdict == VERDICT_BROKEN || r->state == REQ_DEAD)
			break;
	}
	if (got == -1)
		broken(r, "not a FastCGI record (wrong version)");
	if (in_place)
		chain_trim(&r->up);
	if (r->state != REQ_DEAD)
		web_step(r, now_ms);
	return r->state != REQ_DEAD;
}

/* The end of what the web server sends has been read. */
static void
web_ended(struct request *r, bool hung_up, int64_t now_ms)
{
	switch (r->state) {
	case REQ_IDLE:
	case REQ_PARAMS:
	case REQ_BODY:
	case REQ_STATUS:
		web_gone(r, now_ms);
		break;
	case REQ_QUEUED:
	case REQ_RELAY:
		/* Half-closed after a whole request is a peer that waits for the answer. */
		if (hung_up || !r->body_done)
			web_gone(r, now_ms);
		break;
	case REQ_LOST:
	case REQ_DRAIN:
	case REQ_LINGER:
		if (hung_up)
			web_gone(r, now_ms);
		break;
	case REQ_DEAD:
		break;
	}
}

void
request_web_ready(struct request *r, short revents, int64_t now_ms)
{
	bool hung_up = (revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;

	if ((revents & POLLOUT) != 0 && r->state == REQ_STATUS)
		step_status(r, now_ms);
	if ((revents & POLLOUT) != 0)
		web_write(r, now_ms);
	if (r->state == REQ_RELAY && r->exited)
		request_worker_exited(r, r->exit_status, now_ms);	/* room for more of what it left */
	if (r->state == REQ_DEAD || r->web_fd == -1 || r->web_eof) {
		if (hung_up && r->state != REQ_DEAD && r->web_fd != -1)
			web_ended(r, true, now_ms);
		return;
	}
	if (hung_up) {
		/* What it sent before it left is still worth reading: an abort, the end of a body. */
		while (r->web_fd != -1 && web_read(r, now_ms))
			;
		if (r->state != REQ_DEAD && r->web_fd != -1)
			web_ended(r, true, now_ms);
	} else if ((revents & POLLIN) != 0) {
		if (!web_read(r, now_ms) && r->state != REQ_DEAD && r->web_eof && r->web_fd != -1)
			web_ended(r, false, now_ms);
	}
}

/* ---- the application ------------------------------------------------------------------------------------ */

int
request_connect(const struct worker *w)
{
	return server_connect('w', w->number);
}

bool
request_connected_to(const struct worker *w, int fd)
{
	struct sockaddr_un sun;
	socklen_t len = sizeof(sun);
	char name[24];
	size_t name_len, path_len;
	uid_t uid;

	/* The master made the socket: its user, and its path as the master sees it. */
	memset(&sun, 0, sizeof(sun));
	if (getpeername(fd, (struct sockaddr *)&sun, &len) == -1 || sun.sun_family != AF_UNIX || os_peer_uid(fd, &uid) == -1 || uid != 0)
		return false;
	if (w->forked && w->server == NULL)
		return false;
	name_len = (size_t)snprintf(name, sizeof(name), "/%c%lu", w->forked ? 's' : 'w', (unsigned long)(w->forked ? w->server->number : w->number));
	path_len = strnlen(sun.sun_path, sizeof(sun.sun_path));
	return path_len >= name_len && path_len < sizeof(sun.sun_path) && memcmp(sun.sun_path + path_len - name_len, name, name_len) == 0;
}

/*
 * Who takes bytes out of a Unix socket wakes, on Linux, a writer that sleeps in
 * read() at the other end, because there is room again. An application that has
 * just answered does sleep there, so the end of a response would wake it for
 * nothing, and that costs more than anything we do with a request. Therefore we
 * only look at a response, and take its end when the next request has been
 * written: then the application is awake.
 */
static void
take_out(struct link *l, size_t len)
{
	ssize_t n;

	for (; len > 0; len -= (size_t)n) {
		do
			n = recv(l->fd, scratch, len < sizeof(scratch) ? len : sizeof(scratch), MSG_DONTWAIT);
		while (n == -1 && errno == EINTR);
		if (n <= 0)
			break;
	}
	l->unread = 0;
}

void
request_link(struct link *l, int fd)
{
	l->fd = fd;
	l->unread = 0;
	l->peeks = os_peek_on(fd) == 0;
}

void
request_unlink(struct link *l)
{
	if (l->unread > 0)
		take_out(l, l->unread);
}

/* Is this kept connection fit for another request? What is left of the last response lies before what this looks at. */
static bool
still_open(int fd)
{
	char c;

	return recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) == -1 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

int
request_begin(struct request *r, struct link *l, int64_t now_ms)
{
	bool moved = false;
	int fd;

	if (l->fd != -1 && !still_open(l->fd)) {
		close(l->fd);
		l->fd = -1;
		l->unread = 0;
		/* Some close after every response. Another one is on its way out, and its socket still takes what nobody will read. */
		if (l->worker->nlinks == 1 && !l->worker->closes)
			return 1;
	}
	if (l->fd == -1 && l->worker->forked)
		return 1;		/* it serves one connection, and that is over */
	if (l->fd == -1) {
		if ((fd = request_connect(l->worker)) == -1)
			return errno == ECONNREFUSED || errno == ENOENT || errno == ECONNRESET || errno == EAGAIN ? 1 : -1;
		request_link(l, fd);
	}
	if (chain_write(&r->up, l->fd, &moved) == -1 && !moved) {
		/* Not a byte went out: it closed in this very moment. */
		close(l->fd);
		l->fd = -1;
		l->unread = 0;
		return 1;
	}
	if (l->unread > 0)
		take_out(l, l->unread);
	memset(&r->app_reader, 0, sizeof(r->app_reader));
	r->link = l;
	r->pid = l->worker->pid;
	r->relay_ms = r->app_ms = now_ms;
	r->state = REQ_RELAY;
	return 0;
}

/* `slow`: a request that took its worker or its place in the queue for long, though it went well. */
static void
log_slow(const struct request *r, int64_t now_ms)
{
	int64_t slow_ms = r->pool->conf->slow_ms;

	if (slow_ms == 0 || now_ms - r->queued_ms < slow_ms)
		return;
	COUNT(r->pool, slow);
	log_warnx("pool %s: worker %ld: slow: waited %.3fs, ran %.3fs (%s %s, script %s, %lld bytes in, %lld bytes out)", r->pool_name,
	    (long)r->pid, (double)(r->relay_ms - r->queued_ms) / 1000, (double)(now_ms - r->relay_ms) / 1000,
	    r->about.method[0] != '\0' ? r->about.method : "-", r->about.uri[0] != '\0' ? r->about.uri : "-", r->about.script[0] != '\0' ? r->about.script : "-",
	    (long long)r->stdin_len, (long long)r->stdout_len);
}

/* END_REQUEST has come: the worker is free again. clean: nothing came behind it. unread: bytes that have only been looked at. */
static void
app_ended(struct request *r, bool clean, size_t unread, int64_t now_ms)
{
	struct link *l = r->link;

	log_slow(r, now_ms);
	pool_served(r->pool, now_ms);
	/*
	 * An answer before the whole request was taken, or rubbish after it: this connection is out of step. One that the
	 * worker is about to close would still look open to the next request, which then is lost.
	 */
	if (!clean || r->up.len > 0 || !r->body_done || r->app_deaf || r->exited || (l->worker->closes && l->worker->nlinks == 1) ||
	    pool_leaves(l->worker)) {
		take_out(l, unread);
		close(l->fd);
		l->fd = -1;
	} else {
		l->unread = (uint32_t)unread;
	}
	r->link = NULL;
	chain_free(&r->up);
	pool_put(l, true, now_ms);
	/* The application's own status and protocol status are the web server's. */
	if (r->web_fd != -1 && chain_put(&r->down, FCGI_END_REQUEST, r->id, r->end, FCGI_BODY_LEN, 0) == -1)
		r->keep = false;
	begin_drain(r, now_ms);
}

/* Tell the end of a worker that closed its connection before END_REQUEST. */
static void
app_lost(struct request *r, int64_t now_ms)
{
	struct link *l = r->link;
	struct worker *w = l->worker;
	/*
	 * It took all of the request into its socket, left some of it there, and said nothing: most likely it was about to close
	 * after the response before. That is no proof: PHP does not read the end of STDIN before its script runs.
	 */
	bool unread = r->app_reset && !r->app_began && r->body_done && r->up.len == 0 && !r->app_deaf;
	char text[128];

	r->link = NULL;
	close(l->fd);
	l->fd = -1;
	if (r->exited && WIFEXITED(r->exit_status) && w->requests == 0 && !r->app_began && r->app_reset && r->stdin_len == 0) {
		/* It ended without having read its first request, not even one without a body: no request's fault. */
		snprintf(text, sizeof(text), CANNOT_START "start: %s", log_wait_status(r->exit_status));
		pool_failed(w, text, now_ms);
		pool_overdue(l, END_DIED);
		request_refuse(r, text, now_ms);
		return;
	}
	if (r->exited) {
		snprintf(text, sizeof(text), "FCGI process %ld %s", (long)r->pid, log_wait_status(r->exit_status));
		if (unread && WIFEXITED(r->exit_status))
			pool_left(w);
		pool_overdue(l, END_DIED);
	} else {
		snprintf(text, sizeof(text), "FCGI process %ld closed the connection", (long)r->pid);
		if (unread)
			pool_closed(l, now_ms);
		else
			pool_put(l, false, now_ms);
	}
	request_fail(r, now_ms, NULL, text);
}

/* Its bytes are no FastCGI: it can not be trusted with another request. */
static void
app_rubbish(struct request *r, int64_t now_ms)
{
	char text[128];

	snprintf(text, sizeof(text), "FCGI process %ld sent a record that is not FastCGI", (long)r->pid);
	pool_overdue(r->link, END_DIED);
	r->link = NULL;
	request_fail(r, now_ms, r->answered ? NULL : STATUS_500, text);
}

/* One read from the application. Returns false when there was nothing, or no more to come. */
static bool
app_read(struct request *r, int64_t now_ms)
{
	bool discard = r->web_fd == -1, peek = !discard && r->link->peeks && r->stdout_len < PEEK_MAX, ended = false, clean;
	uint8_t *buf = scratch;
	size_t at, room = sizeof(scratch), len, limit;
	struct fcgi_part part;
	const uint8_t *p;
	ssize_t n;
	int got;

	if (!discard) {
		if ((room = chain_read_at(&r->down, &r->app_reader, &buf)) == 0) {
			log_request(r, now_ms, "no memory for the response");
			withdraw(r, now_ms);
			give_up(r);
			return false;
		}
		limit = r->pool->conf->buffer_response;
		if (r->down.len < limit && room > limit - r->down.len)
			room = limit - r->down.len > MIN_READ ? limit - r->down.len : MIN_READ;
	}
	do
		n = recv(r->link->fd, buf, room, peek ? MSG_PEEK : 0);
	while (n == -1 && errno == EINTR);
	/* Something to read, and nothing to see: the other end has more ways to write than there are to look (MSG_OOB). */
	if (n == -1 && peek && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		peek = false;
		n = recv(r->link->fd, buf, room, 0);
	}
	if (n == -1 && (errno == EAGAIN || errno == EWOULDBLOCK) && !r->exited) {
		chain_trim(&r->down);
		return false;
	}
	if (n <= 0) {
		/* Closed; or its process is gone, and only something that it started still holds the other end. */
		r->app_reset = n == -1 && errno == ECONNRESET;
		chain_trim(&r->down);
		r->lost_ms = now_ms;
		r->state = REQ_LOST;
		if (r->exited)
			app_lost(r, now_ms);
		return false;
	}
	r->app_ms = now_ms;
	r->app_began = true;
	p = buf;
	len = (size_t)n;
	while ((got = fcgi_read(&r->app_reader, &p, &len, &part)) == 1) {
		if (part.id != APP_ID)
			continue;
		if (part.type == FCGI_STDOUT || part.type == FCGI_STDERR) {
			if (part.type == FCGI_STDOUT)
				r->stdout_len += (int64_t)part.len;
			if (discard)
				continue;
			if (chain_put(&r->down, part.type, r->id, part.data, part.len, part.len == 0 ? 0 : part.padding_len) == -1) {
				got = -1;
				break;
			}
			if (part.type == FCGI_STDOUT && part.len > 0)
				r->answered = true;
		} else if (part.type == FCGI_END_REQUEST) {
			if (part.content_len != FCGI_BODY_LEN) {
				got = -1;
				break;
			}
			at = FCGI_BODY_LEN - r->app_reader.content_left - part.len;
			memcpy(r->end + at, part.data, part.len);
			if (part.last) {
				ended = true;
				break;
			}
		}
	}
	if (!discard)
		chain_trim(&r->down);
	clean = ended && len == 0 && fcgi_at_boundary(&r->app_reader);
	if (peek && !(clean && n <= LEAVE_MAX)) {
		take_out(r->link, (size_t)n);
		peek = false;
	}
	if (ended)
		app_ended(r, clean, peek ? (size_t)n : 0, now_ms);
	else if (got == -1)
		app_rubbish(r, now_ms);
	if (r->down.len > 0 || r->state == REQ_DRAIN)
		web_write(r, now_ms);
	return r->state == REQ_RELAY;
}

void
request_app_ready(struct request *r, short revents, int64_t now_ms)
{
	if (r->state != REQ_RELAY)
		return;
	if ((revents & POLLOUT) != 0)
		app_write(r, now_ms);
	if ((revents & (POLLIN | POLLHUP | POLLERR)) != 0)
		app_read(r, now_ms);
}

void
request_worker_exited(struct request *r, int status, int64_t now_ms)
{
	r->exited = true;
	r->exit_status = status;
	if (r->state == REQ_LOST) {
		app_lost(r, now_ms);
		return;
	}
	/* It may have answered before it went: what is there to read counts. */
	while (r->state == REQ_RELAY && r->down.len < r->pool->conf->buffer_response && app_read(r, now_ms))
		;
}

/* ---- time --------------------------------------------------------------------------------------------------- */

enum why {
	WHY_WAIT,
	WHY_APP_READ,
	WHY_APP_WRITE,
	WHY_SERVER_READ,
	WHY_SERVER_WRITE,
	WHY_REQUEST,
	WHY_LOST,
};

/* Room for more of the body? */
static bool
up_room(const struct request *r)
{
	size_t limit = r->pool->conf->buffer_request;

	/* What was collected before a worker was there may be as much; when streaming, never less than one read. */
	return r->up.len < (r->state == REQ_QUEUED ? r->params_len + limit : limit > BLOCK_DATA ? limit : BLOCK_DATA);
}

static void
sooner(int64_t *best, enum why *why, int64_t due_ms, enum why reason)
{
	if (*best == 0 || due_ms < *best) {
		*best = due_ms;
		*why = reason;
	}
}

/* The next deadline of a request and what it is for; 0: none. */
static int64_t
deadline(const struct request *r, enum why *why)
{
	const int64_t *t = r->pool != NULL ? r->pool->conf->timeout_ms : conf->timeout_ms;
	int64_t best = 0;

	switch (r->state) {
	case REQ_IDLE:
	case REQ_DEAD:
		/* The first record of a request that does not get further; answers to management records that are not taken. */
		if (r->state == REQ_IDLE && !fcgi_at_boundary(&r->web_reader))
			sooner(&best, why, r->web_in_ms + t[TIMEOUT_SERVER], WHY_SERVER_READ);
		if (r->state == REQ_IDLE && r->down.len > 0)
			sooner(&best, why, r->web_out_ms + t[TIMEOUT_SERVER], WHY_SERVER_WRITE);
		if (r->state == REQ_IDLE && r->last_ms != 0)
			sooner(&best, why, r->last_ms + LAST_MS, WHY_SERVER_READ);
		return best;
	case REQ_PARAMS:
	case REQ_BODY:
		sooner(&best, why, r->web_in_ms + t[TIMEOUT_SERVER], WHY_SERVER_READ);
		break;
	case REQ_STATUS:
		sooner(&best, why, r->web_out_ms + t[TIMEOUT_SERVER], WHY_SERVER_WRITE);
		break;
	case REQ_QUEUED:
		sooner(&best, why, r->queued_ms + t[TIMEOUT_WAIT], WHY_WAIT);
		break;
	case REQ_RELAY:
		/* While we read nothing of it, the web server is the slow one. */
		if (r->down.len >= r->pool->conf->buffer_response)
			;
		else if (r->up.len > 0)
			sooner(&best, why, r->app_ms + t[TIMEOUT_APP], WHY_APP_WRITE);
		else if (r->body_done || r->app_deaf)
			sooner(&best, why, r->app_ms + t[TIMEOUT_APP], WHY_APP_READ);
		if (!r->body_done && up_room(r))
			sooner(&best, why, r->web_in_ms + t[TIMEOUT_SERVER], WHY_SERVER_READ);
		if (r->down.len > 0)
			sooner(&best, why, r->web_out_ms + t[TIMEOUT_SERVER], WHY_SERVER_WRITE);
		break;
	case REQ_LOST:
		sooner(&best, why, r->lost_ms + LOST_MS, WHY_LOST);
		return best;
	case REQ_DRAIN:
		sooner(&best, why, r->web_out_ms + t[TIMEOUT_SERVER], WHY_SERVER_WRITE);
		break;
	case REQ_LINGER:
		sooner(&best, why, r->web_out_ms + LINGER_MS, WHY_SERVER_READ);
		return best;
	}
	sooner(&best, why, r->start_ms + t[TIMEOUT_REQUEST], WHY_REQUEST);
	return best;
}

void
request_timeout(struct request *r, int64_t now_ms)
{
	static const struct {
		enum timeout_kind kind;
		const char	*doing;
	} expired[] = {
		[WHY_WAIT]		= { TIMEOUT_WAIT,	"waiting for FCGI process to become available" },
		[WHY_APP_READ]		= { TIMEOUT_APP,	"reading from socket (application)" },
		[WHY_APP_WRITE]		= { TIMEOUT_APP,	"writing to socket (application)" },
		[WHY_SERVER_READ]	= { TIMEOUT_SERVER,	"reading from socket (server)" },
		[WHY_SERVER_WRITE]	= { TIMEOUT_SERVER,	"writing to socket (server)" },
		[WHY_REQUEST]		= { TIMEOUT_REQUEST,	"processing request" },
		[WHY_LOST]		= { TIMEOUT_APP,	"" },
	};
	const int64_t *t = r->pool != NULL ? r->pool->conf->timeout_ms : conf->timeout_ms;
	enum why why = WHY_REQUEST;
	int64_t due_ms;
	char text[128];

	if ((due_ms = deadline(r, &why)) == 0)
		return;
	if (due_ms > now_ms)
		return;
	if (why == WHY_LOST) {
		app_lost(r, now_ms);
		web_write(r, now_ms);
		return;
	}
	/* A socket tells of room only when much of it is free; a slow peer that has taken some shows when we try. */
	if (why == WHY_APP_WRITE)
		app_write(r, now_ms);
	else if (why == WHY_SERVER_WRITE)
		web_write(r, now_ms);
	if ((why == WHY_APP_WRITE && (r->app_ms == now_ms || r->app_deaf)) ||
	    (why == WHY_SERVER_WRITE && (r->web_out_ms == now_ms || r->state == REQ_DEAD)))
		return;
	snprintf(text, sizeof(text), "Timeout (%llds) exceeded while %s", (long long)t[expired[why].kind] / 1000, expired[why].doing);
	if (r->state == REQ_QUEUED)
		pool_unqueue(r);
	switch (why) {
	case WHY_APP_READ:
	case WHY_APP_WRITE:
	case WHY_REQUEST:
		/* The worker is overdue: it has to go. */
		if (r->link != NULL)
			pool_overdue(r->link, END_TIMEOUT);
		r->link = NULL;
		break;
	case WHY_WAIT:
	case WHY_SERVER_READ:
	case WHY_SERVER_WRITE:
	case WHY_LOST:
		leave_worker(r, now_ms);
		break;
	}
	if (r->state == REQ_LINGER || (r->state == REQ_IDLE && r->last_ms != 0)) {
		r->state = REQ_DEAD;
		return;
	}
	COUNT_REQUEST(r, timeouts[expired[why].kind]);
	if (why == WHY_SERVER_WRITE || r->state == REQ_IDLE || (why == WHY_REQUEST && r->state == REQ_DRAIN)) {
		/* It takes nothing, or has asked for nothing, so there is nobody to tell. */
		log_request(r, now_ms, text);
		r->state = REQ_DEAD;
		return;
	}
	request_fail(r, now_ms, r->answered ? NULL : STATUS_500, text);
	if (why == WHY_SERVER_READ)
		r->keep = false;	/* whatever it still sends, later, belongs to nothing */
	if (r->state == REQ_DRAIN)
		web_write(r, now_ms);
}

/* ---- from one router to the next ------------------------------------------------------------------------------- */

bool
request_movable(const struct request *r)
{
	const struct fcgi_reader *reader = &r->web_reader;

	if (r->web_fd == -1 || r->down.len > 0 || r->values != NULL)
		return false;
	if (r->state == REQ_IDLE)
		return !r->web_eof && fcgi_at_boundary(reader);
	if (r->state != REQ_QUEUED)
		return false;
	/* A part of a record that is collected here can not be left behind. */
	return reader->hdr_len < FCGI_HEADER_LEN || (reader->id != 0 && reader->type != FCGI_BEGIN_REQUEST);
}

void
request_moved(struct request *r)
{
	if (r->state == REQ_QUEUED)
		pool_unqueue(r);
	r->stdin_len = r->stdout_len = r->data_len = 0;	/* counted where it is now */
	r->state = REQ_DEAD;
}

int
request_append(struct request *r, const uint8_t *data, size_t len)
{
	struct block *b;
	size_t n;

	while (len > 0) {
		if ((b = chain_room(&r->up, 1)) == NULL)
			return -1;
		n = BLOCK_DATA - b->tail < len ? BLOCK_DATA - b->tail : len;
		memcpy(b->data + b->tail, data, n);
		b->tail += (uint32_t)n;
		r->up.len += n;
		data += n;
		len -= n;
	}
	return 0;
}

void
request_arrived(struct request *r, int64_t now_ms)
{
	int error;

	if (r->state != REQ_QUEUED)
		return;
	r->state = REQ_BODY;		/* until it has a place in a queue */
	if ((error = find_pool(r)) != 0) {
		fail_unknown(r, error, now_ms);
	} else if (admitted(r, now_ms)) {
		r->state = REQ_QUEUED;
		pool_queue_again(r);
	}
	if (r->state == REQ_DRAIN)
		web_write(r, now_ms);
}

void
request_drop(struct request *r, int64_t now_ms)
{
	if (r->state != REQ_DEAD)
		withdraw(r, now_ms);
	r->state = REQ_DEAD;
}

void
request_last(struct request *r, bool at_once, int64_t now_ms)
{
	r->keep = false;
	if (r->last_ms == 0)
		r->last_ms = now_ms;
	if (r->state == REQ_IDLE && !at_once && r->web_fd != -1)
		request_web_ready(r, POLLIN, now_ms);
	/* Between two requests the web server finds out in time; where there was none yet, it has just connected to send one. */
	if (r->state == REQ_IDLE && (at_once || r->id != 0))
		r->state = REQ_DEAD;
}

void
request_settle(struct request *r, int64_t now_ms)
{
	short web = 0, app = 0;
	enum why why;
	int64_t due_ms;

	switch (r->state) {
	case REQ_IDLE:
	case REQ_PARAMS:
	case REQ_BODY:
	case REQ_LINGER:
		web = POLLIN;
		break;
	case REQ_STATUS:
		web = POLLIN | POLLOUT;
		break;
	case REQ_QUEUED:
	case REQ_RELAY:
		/* With the whole request here, we still want to see an abort. */
		if (r->body_done || r->app_deaf || up_room(r))
			web = POLLIN;
		break;
	case REQ_LOST:
	case REQ_DRAIN:
	case REQ_DEAD:
		break;
	}
	/* Whoever asks without taking the answers is not listened to. */
	if (r->web_eof || r->down.len >= (r->pool != NULL ? r->pool->conf->buffer_response : 0) + 2 * BLOCK_DATA)
		web = 0;
	if (r->down.len > 0 || r->state == REQ_DRAIN)
		web |= POLLOUT;
	if (r->web_fd == -1)
		web = 0;
	if (r->state == REQ_RELAY) {
		if (r->web_fd == -1 || r->down.len < r->pool->conf->buffer_response)
			app |= POLLIN;
		if (r->up.len > 0)
			app |= POLLOUT;
	}
	/* A timeout runs from when we began to want, not from the last byte before that. */
	if ((web & ~r->web_events & POLLIN) != 0)
		r->web_in_ms = now_ms;
	if ((web & ~r->web_events & POLLOUT) != 0)
		r->web_out_ms = now_ms;
	if ((app & ~r->app_events) != 0)
		r->app_ms = now_ms;
	r->web_events = web;
	r->app_events = app;
	if ((due_ms = deadline(r, &why)) == 0)
		timeout_disarm(&r->timer);
	else if (timeout_arm(&r->timer, due_ms) == -1)
		log_warnx("pool %s: no memory for a timer", r->pool_name);
}
