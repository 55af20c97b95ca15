/*
 * load.c: makes requests to zfpm, or through a web server, on many connections at
 * once, checks every answer, and says what became of all of them. The application
 * has to be worker.c: its answer tells the token that the request brought along.
 * One process, one poll loop. Never believes an answer that it has not compared.
 *
 * load [options] ADDRESS          a path or HOST:PORT
 *   -c N          connections (64), each with request after request, kept open
 *   -P N          pools (1); -p FORMAT: their names, with %d for the number from 0 (p%d)
 *   -e NAME       the pool that every answer has to name (the one that the request was for)
 *   -o            the pools one after the other; without it each request goes to one at random
 *   -H            HTTP/1.1 instead of FastCGI: the pool is the Host; the token is also in X-Token
 *   -k FILE       its first line is ZFPM_KEY
 *   -q QUERY      for the application, see worker.c; several: one of them at random for each request
 *   -b N          bytes of body (0); several likewise
 *   -i MS         pause of a connection between two requests: at random up to twice that (0)
 *   -1            a connection for each request
 *   -t S, -n N    end after S seconds, after N requests; SIGTERM and SIGINT end it too. What runs is waited for;
 *                 with SIGQUIT it is not: the connections are closed at once
 *   -w S          no request takes longer than that: it is late, and its connection is closed (60)
 *   -r FILE       make this file when every connection has sent its first request
 *   -l FILE       append a line for every request that failed:
 *                 its start and end (milliseconds since 1970), outcome, pool, token, text
 *   -s N          seed of what is at random
 *
 * On standard output, KEY VALUE lines:
 *   seconds, requests, rate (complete ones per second), ok, failed; latency of the complete ones: p50_ms, p99_ms,
 *   p999_ms, max_ms; stall_ms, stall_at_s: the longest time without a complete answer on any connection, and when;
 *   connects; closed_idle: connections that were found closed before a request; and the number of every outcome:
 *     timeout, died, cannot_start, queue_full     zfpm's errors, by the text that came as FCGI_STDERR
 *     error       another text, or another status than 200
 *     refused     no connection
 *     closed      its connection ended before a byte of the answer; cut: after one
 *     late        see -w
 *     wrong       an answer that is not this request's: this is never right
 *   sample OUTCOME N TEXT       the first texts of each outcome that differ in more than numbers, and how many
 * exit: 0 all requests were answered, 1 some failed, 2 usage, 3 some answer was wrong
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "../fcgi.h"

#define CHOICES		16	/* of -q, of -b */
#define SAMPLES		5	/* of each outcome */
#define TEXT_MAX	400
#define ANSWER_MAX	(16U << 20)
#define RETRY_US	5000	/* a listening queue is full */
#define REFUSED_US	20000	/* nobody listens: try the next request so much later */

enum outcome {
	OK, TIMEOUT, DIED, CANNOT_START, QUEUE_FULL, ERROR, REFUSED, CLOSED, CUT, LATE, WRONG, OUTCOMES
};
static const char *const outcome_names[OUTCOMES] = {
	"ok", "timeout", "died", "cannot_start", "queue_full", "error", "refused", "closed", "cut", "late", "wrong"
};

enum conn_state {
	FREE,		/* no request; the next one at next_us */
	WAITING,	/* a request, but the listening queue is full; again at next_us */
	CONNECTING,
	BUSY,		/* the request is being sent, or its answer read */
};

struct buffer {
	char		*data;
	size_t		 len, size;
};

struct conn {
	enum conn_state	 state;
	int		 fd;		/* -1: not connected */
	bool		 sent_one;	/* see -r */
	int64_t		 next_us;

	/* the request */
	int64_t		 start_us;
	unsigned long	 pool;
	char		 token[48];
	char		 expected[512];	/* the beginning of the answer */
	size_t		 bulk;		/* bytes 'x' behind its first line */
	struct buffer	 out;
	size_t		 out_at;	/* bytes of it that are sent */

	/* the answer */
	struct buffer	 in;		/* STDOUT; with -H all bytes */
	struct buffer	 text;		/* STDERR */
	bool		 began;		/* a byte of whatever record has come */
	struct fcgi_reader reader;
	uint8_t		 end[FCGI_BODY_LEN];
	size_t		 end_len;
};

struct sample {
	char		 text[TEXT_MAX], shape[TEXT_MAX];	/* shape: without its numbers */
	unsigned long	 n;
};

static struct sockaddr_storage addr;
static socklen_t	 addr_len;
static const char	*format = "p%d";
static const char	*answered;	/* see -e */
static const char	*key;
static const char	*queries[CHOICES] = { "" };
static size_t		 bodies[CHOICES];
static int		 nqueries, nbodies;
static unsigned long	 nconns = 64, npools = 1, max_requests;
static int64_t		 pause_us, duration_us, late_us = 60000000;
static bool		 http, in_order, one_each;
static const char	*ready_file;
static FILE		*failures;
static uint64_t		 seed;

static volatile sig_atomic_t told, told_at_once;	/* to end */
static bool		 ending;
static struct conn	*conns;
static unsigned long	 begun, finished, ready_conns, connects, closed_idle, next_pool;
static unsigned long	 outcomes[OUTCOMES];
static struct sample	 samples[OUTCOMES][SAMPLES];
static int64_t		 begin_us, last_us, stall_us, stall_at_us, since_1970_us;
static uint32_t		*latencies;
static size_t		 nlatencies, latencies_size;

static void
die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("load: ", stderr);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(2);
}

static int64_t
clock_us(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static int64_t
now_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

/* 0 to n - 1 (xorshift64*). */
static unsigned long
at_random(unsigned long n)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (unsigned long)((seed * 2685821657736338717ULL >> 33) % n);
}

static void *
need(void *p)
{
	if (p == NULL)
		die("no memory");
	return p;
}

/* Room for len more bytes; where they go. */
static char *
room(struct buffer *b, size_t len)
{
	while (b->size - b->len < len) {
		b->size = b->size == 0 ? 1024 : 2 * b->size;
		b->data = need(realloc(b->data, b->size));
	}
	return b->data + b->len;
}

static void
append(struct buffer *b, const void *data, size_t len)
{
	if (len > 0)
		memcpy(room(b, len), data, len);
	b->len += len;
}

/* The name of a pool. */
static void
pool_name(char *buf, size_t size, unsigned long pool)
{
	const char *number = strstr(format, "%d");

	if (number == NULL)
		snprintf(buf, size, "%s", format);
	else
		snprintf(buf, size, "%.*s%lu%s", (int)(number - format), format, pool, number + 2);
}

/* ---- what became of a request ----------------------------------------------------------- */

/* Printable, in one line, and without its numbers. */
static void
clean(const char *text, size_t len, char *line, char *shape)
{
	size_t i, at = 0, shape_at = 0;
	bool digit = false;
	char c;

	while (len > 0 && isspace((unsigned char)text[len - 1]))
		len--;
	for (i = 0; i < len && at < TEXT_MAX - 1; i++) {
		c = isprint((unsigned char)text[i]) ? text[i] : ' ';
		line[at++] = c;
		if (!isdigit((unsigned char)c))
			shape[shape_at++] = c;
		else if (!digit)
			shape[shape_at++] = '#';
		digit = isdigit((unsigned char)c);
	}
	line[at] = shape[shape_at] = '\0';
}

static void
note_failure(const struct conn *c, enum outcome outcome, const char *text, size_t len, int64_t now)
{
	char line[TEXT_MAX], shape[TEXT_MAX], name[256];
	struct sample *s;
	int i;

	clean(text, len, line, shape);
	for (i = 0; i < SAMPLES; i++) {
		s = &samples[outcome][i];
		if (s->n > 0 && strcmp(s->shape, shape) != 0)
			continue;
		if (s->n++ == 0) {
			strcpy(s->text, line);
			strcpy(s->shape, shape);
		}
		break;
	}
	if (failures == NULL)
		return;
	pool_name(name, sizeof(name), c->pool);
	fprintf(failures, "%lld %lld %s %s %s %s\n", (long long)(c->start_us + since_1970_us) / 1000,
	    (long long)(now + since_1970_us + 999) / 1000, outcome_names[outcome], name, c->token, line);
	fflush(failures);
}

static void
conn_close(struct conn *c)
{
	if (c->fd != -1)
		close(c->fd);
	c->fd = -1;
}

/* The longest gap so far without an answer. */
static void
note_gap(int64_t now)
{
	if (last_us != 0 && now - last_us > stall_us) {
		stall_us = now - last_us;
		stall_at_us = last_us - begin_us;
	}
	last_us = now;
}

/* This is the end of the request. stay: its connection can be used again. */
static void
finish(struct conn *c, enum outcome outcome, const char *text, size_t len, bool stay)
{
	int64_t now = now_us();

	finished++;
	outcomes[outcome]++;
	if (outcome == OK) {
		if (!ending)
			note_gap(now);
		if (nlatencies == latencies_size) {
			latencies_size = latencies_size == 0 ? 65536 : 2 * latencies_size;
			latencies = need(realloc(latencies, latencies_size * sizeof(latencies[0])));
		}
		latencies[nlatencies++] = (uint32_t)(now - c->start_us);
	} else {
		note_failure(c, outcome, text, len, now);
	}
	if (!stay || one_each)
		conn_close(c);
	c->state = FREE;
	c->next_us = now;
	if (outcome == REFUSED)
		c->next_us += REFUSED_US;
	if (pause_us > 0)
		c->next_us += (int64_t)at_random(2 * (unsigned long)pause_us);
}

static void
finish_text(struct conn *c, enum outcome outcome, const char *text, bool stay)
{
	finish(c, outcome, text, strlen(text), stay);
}

static enum outcome
outcome_of_text(const struct buffer *text)
{
	static const struct {
		const char	*begin;
		enum outcome	 outcome;
	} designed[] = {
		{ "Timeout (",			TIMEOUT },
		{ "FCGI process ",		DIED },
		{ "Cannot start FCGI process: ", CANNOT_START },
		{ "Queue is full (",		QUEUE_FULL },
	};
	size_t i, len;

	for (i = 0; i < sizeof(designed) / sizeof(designed[0]); i++) {
		len = strlen(designed[i].begin);
		if (text->len > len && memcmp(text->data, designed[i].begin, len) == 0)
			return designed[i].outcome;
	}
	return ERROR;
}

/* Is this body what the application had to answer? */
static bool
body_right(const struct conn *c, const char *body, size_t len)
{
	size_t at = strlen(c->expected);

	if (len < at || memcmp(body, c->expected, at) != 0)
		return false;
	while (at < len && isdigit((unsigned char)body[at]))
		at++;
	if (at == len || body[at++] != '\n' || len - at != c->bulk)
		return false;
	for (; at < len; at++)
		if (body[at] != 'x')
			return false;
	return true;
}

/* Where the header's value begins, in a head that ends with an empty line and a NUL; NULL: it is not there. */
static const char *
header(const char *head, const char *name)
{
	size_t len = strlen(name);

	for (; head != NULL; head = strstr(head, "\r\n")) {
		if (*head == '\r')
			head += 2;
		if (strncasecmp(head, name, len) == 0 && head[len] == ':')
			return head + len + 1 + strspn(head + len + 1, " ");
	}
	return NULL;
}

/* The length of the head with its empty line, which becomes a NUL-terminated string; 0: it is not complete. */
static size_t
split_head(struct buffer *in)
{
	size_t i;

	for (i = 0; i + 4 <= in->len; i++)
		if (memcmp(in->data + i, "\r\n\r\n", 4) == 0) {
			in->data[i + 2] = '\0';
			return i + 4;
		}
	return 0;
}

/* END_REQUEST has come. */
static void
fcgi_answered(struct conn *c)
{
	bool stay = c->out_at == c->out.len;
	const char *status;
	size_t head_len;

	if (c->text.len > 0) {
		finish(c, outcome_of_text(&c->text), c->text.data, c->text.len, stay);
	} else if (c->end[4] != FCGI_REQUEST_COMPLETE) {
		finish_text(c, ERROR, "END_REQUEST without REQUEST_COMPLETE", stay);
	} else if ((head_len = split_head(&c->in)) == 0) {
		finish(c, WRONG, c->in.data, c->in.len, false);
	} else if ((status = header(c->in.data, "Status")) != NULL) {
		finish(c, ERROR, status, strcspn(status, "\r"), stay);
	} else if (!body_right(c, c->in.data + head_len, c->in.len - head_len)) {
		finish(c, WRONG, c->in.data + head_len, c->in.len - head_len, false);
	} else {
		finish(c, OK, "", 0, stay);
	}
}

/* All of the HTTP answer, if it is there. */
static void
http_answered(struct conn *c)
{
	const char *body, *connection, *length;
	size_t head_len, body_len, want;
	bool stay;

	if ((head_len = split_head(&c->in)) == 0)
		return;
	length = header(c->in.data, "Content-Length");
	if (length == NULL) {
		finish_text(c, WRONG, "an answer without Content-Length", false);
		return;
	}
	want = (size_t)strtoul(length, NULL, 10);
	body = c->in.data + head_len;
	body_len = c->in.len - head_len;
	if (body_len < want) {
		c->in.data[head_len - 2] = '\r';	/* until the next read */
		return;
	}
	connection = header(c->in.data, "Connection");
	stay = c->out_at == c->out.len && body_len == want && (connection == NULL || strncasecmp(connection, "close", 5) != 0);
	if (strncmp(c->in.data, "HTTP/1.1 200 ", 13) != 0)
		finish(c, ERROR, c->in.data, strcspn(c->in.data, "\r"), stay);
	else if (body_len != want || !body_right(c, body, body_len))
		finish(c, WRONG, body, body_len, false);
	else
		finish(c, OK, "", 0, stay);
}

/* ---- a request ----------------------------------------------------------------------------- */

static void
put_pair(struct buffer *b, const char *name, const char *value)
{
	size_t name_len = strlen(name), value_len = strlen(value);

	room(b, fcgi_pair_size(name_len, value_len));
	b->len += fcgi_put_pair((uint8_t *)b->data + b->len, name, (uint32_t)name_len, value, (uint32_t)value_len);
}

static void
put_header(struct buffer *b, int type, size_t content_len)
{
	room(b, FCGI_HEADER_LEN);
	b->len += fcgi_put_header((uint8_t *)b->data + b->len, type, 1, (uint16_t)content_len, 0);
}

static void
make_fcgi(struct conn *c, const char *pool, const char *query, const char *body, size_t body_len)
{
	struct buffer *b = &c->out;
	char length[24];
	size_t at, n;

	snprintf(length, sizeof(length), "%zu", body_len);
	room(b, FCGI_HEADER_LEN + FCGI_BODY_LEN);
	b->len += fcgi_put_begin((uint8_t *)b->data, 1, FCGI_RESPONDER, one_each ? 0 : FCGI_KEEP_CONN);
	put_header(b, FCGI_PARAMS, 0);	/* its length follows */
	at = b->len;
	put_pair(b, "GATEWAY_INTERFACE", "CGI/1.1");
	put_pair(b, "SERVER_PROTOCOL", "HTTP/1.1");
	put_pair(b, "REQUEST_METHOD", body_len > 0 ? "POST" : "GET");
	put_pair(b, "REQUEST_URI", "/load");
	put_pair(b, "SCRIPT_NAME", "/load");
	put_pair(b, "SCRIPT_FILENAME", "/load");
	put_pair(b, "QUERY_STRING", query);
	put_pair(b, "CONTENT_LENGTH", length);
	put_pair(b, "ZFPM_POOL", pool);
	if (key != NULL)
		put_pair(b, "ZFPM_KEY", key);
	fcgi_put_header((uint8_t *)b->data + at - FCGI_HEADER_LEN, FCGI_PARAMS, 1, (uint16_t)(b->len - at), 0);
	put_header(b, FCGI_PARAMS, 0);
	for (; body_len > 0; body += n, body_len -= n) {
		n = body_len < 32768 ? body_len : 32768;
		put_header(b, FCGI_STDIN, n);
		append(b, body, n);
	}
	put_header(b, FCGI_STDIN, 0);
}

static void
make_http(struct conn *c, const char *pool, const char *query, const char *body, size_t body_len)
{
	char head[1600];
	int n;

	n = snprintf(head, sizeof(head), "%s /load?%s HTTP/1.1\r\nHost: %s\r\nX-Token: %s\r\nContent-Length: %zu\r\n%s\r\n",
	    body_len > 0 ? "POST" : "GET", query, pool, c->token, body_len, one_each ? "Connection: close\r\n" : "");
	append(&c->out, head, (size_t)n);
	append(&c->out, body, body_len);
}

/* Choose the next request of this connection. */
static void
make_request(struct conn *c)
{
	char name[256], query[1200], *body = NULL;
	const char *q, *bulk;
	size_t body_len, i;
	uint32_t sum = 2166136261U;

	c->pool = in_order ? next_pool++ % npools : at_random(npools);
	pool_name(name, sizeof(name), c->pool);
	snprintf(c->token, sizeof(c->token), "%lx.%lx.%lx", (unsigned long)getpid(), (unsigned long)(c - conns), begun);
	q = queries[nqueries > 1 ? at_random((unsigned long)nqueries) : 0];
	snprintf(query, sizeof(query), "%s%stoken=%s", q, *q == '\0' ? "" : "&", c->token);
	bulk = strncmp(q, "out=", 4) == 0 ? q : strstr(q, "&out=");
	c->bulk = bulk == NULL ? 0 : (size_t)strtoul(strchr(bulk, '=') + 1, NULL, 10);
	body_len = bodies[nbodies > 1 ? at_random((unsigned long)nbodies) : 0];
	if (body_len > 0)
		body = need(malloc(body_len));
	for (i = 0; i < body_len; i++) {
		body[i] = c->token[i % strlen(c->token)];
		sum = (sum ^ (uint8_t)body[i]) * 16777619U;
	}
	snprintf(c->expected, sizeof(c->expected), "token=%s pool=%s body=%zu sum=%08lx pid=", c->token,
	    answered == NULL ? name : answered, body_len, (unsigned long)sum);
	c->out.len = c->out_at = c->in.len = c->text.len = c->end_len = 0;
	c->began = false;
	memset(&c->reader, 0, sizeof(c->reader));
	if (http)
		make_http(c, name, query, body, body_len);
	else
		make_fcgi(c, name, query, body, body_len);
	free(body);
}

/* ---- a connection ------------------------------------------------------------------------------ */

static void
conn_open(struct conn *c)
{
	int on = 1;

	if ((c->fd = socket(addr.ss_family, SOCK_STREAM, 0)) == -1 || fcntl(c->fd, F_SETFL, O_NONBLOCK) == -1)
		die("socket: %s", strerror(errno));
	if (addr.ss_family != AF_UNIX)
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(c->fd, (struct sockaddr *)&addr, addr_len) == 0) {
		connects++;
		c->state = BUSY;
	} else if (errno == EINPROGRESS) {
		c->state = CONNECTING;
	} else if (errno == EAGAIN) {
		conn_close(c);
		c->state = WAITING;
		c->next_us = now_us() + RETRY_US;
	} else {
		finish_text(c, REFUSED, strerror(errno), false);
	}
}

static void
send_some(struct conn *c)
{
	ssize_t n;

	while (c->state == BUSY && c->out_at < c->out.len) {
		n = send(c->fd, c->out.data + c->out_at, c->out.len - c->out_at, MSG_NOSIGNAL);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 && errno == EAGAIN)
			return;
		if (n == -1)
			break;	/* what there is to read tells more */
		c->out_at += (size_t)n;
	}
	if (c->state == BUSY && !c->sent_one) {
		c->sent_one = true;
		if (++ready_conns == nconns && ready_file != NULL && fclose(need(fopen(ready_file, "w"))) != 0)
			die("%s: %s", ready_file, strerror(errno));
	}
}

static void
request_start(struct conn *c)
{
	char byte;

	make_request(c);
	begun++;
	c->start_us = now_us();
	/* As every good web server does: is the kept connection still one? */
	if (c->fd != -1 && (recv(c->fd, &byte, 1, MSG_PEEK) != -1 || errno != EAGAIN)) {
		closed_idle++;
		conn_close(c);
	}
	if (c->fd == -1)
		conn_open(c);
	else
		c->state = BUSY;
	send_some(c);
}

/* Bytes of records. Returns when the request has ended or all are taken. */
static void
take_records(struct conn *c, const uint8_t *p, size_t len)
{
	struct fcgi_part part;
	int got;

	while ((got = fcgi_read(&c->reader, &p, &len, &part)) == 1) {
		c->began = true;
		if (part.type == FCGI_STDOUT) {
			append(&c->in, part.data, part.len);
		} else if (part.type == FCGI_STDERR) {
			append(&c->text, part.data, part.len);
		} else if (part.type == FCGI_END_REQUEST && part.len <= sizeof(c->end) - c->end_len) {
			memcpy(c->end + c->end_len, part.data, part.len);
			c->end_len += part.len;
			if (!part.last)
				continue;
			if (c->end_len != sizeof(c->end) || len > 0)
				finish_text(c, WRONG, "an END_REQUEST that is none, or bytes behind it", false);
			else
				fcgi_answered(c);
			return;
		} else {
			finish_text(c, WRONG, "a record that has no place in an answer", false);
			return;
		}
	}
	if (got == -1 || c->in.len > ANSWER_MAX)
		finish_text(c, WRONG, "bytes that are not FastCGI, or too many", false);
}

/* The connection has ended within a request. */
static void
conn_lost(struct conn *c, int err)
{
	if (c->text.len > 0)
		finish(c, outcome_of_text(&c->text), c->text.data, c->text.len, false);
	else
		finish_text(c, c->began ? CUT : CLOSED, err == 0 ? "end of stream" : strerror(err), false);
}

static void
receive_some(struct conn *c)
{
	static uint8_t buf[65536];
	ssize_t n;

	while (c->state == BUSY) {
		n = recv(c->fd, buf, sizeof(buf), 0);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 && errno == EAGAIN)
			return;
		if (n <= 0) {
			conn_lost(c, n == 0 ? 0 : errno);
			return;
		}
		if (http) {
			c->began = true;
			append(&c->in, buf, (size_t)n);
			http_answered(c);
		} else {
			take_records(c, buf, (size_t)n);
		}
		if ((size_t)n < sizeof(buf))
			return;
	}
}

static void
conn_ready(struct conn *c, short revents)
{
	socklen_t len;
	int err;

	if (c->state == CONNECTING) {
		err = 0;
		len = sizeof(err);
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
		if (err != 0) {
			finish_text(c, REFUSED, strerror(err), false);
			return;
		}
		connects++;
		c->state = BUSY;
	}
	if (revents & (POLLIN | POLLHUP | POLLERR))
		receive_some(c);
	send_some(c);
}

/* ---- the loop ------------------------------------------------------------------------------------- */

/* What is due on a connection; returns when the next thing may be. */
static int64_t
conn_due(struct conn *c, int64_t now)
{
	switch (c->state) {
	case FREE:
		if (ending)
			return INT64_MAX;
		if (max_requests > 0 && begun == max_requests)
			return INT64_MAX;
		if (c->next_us > now)
			return c->next_us;
		request_start(c);
		return c->state == FREE || c->state == WAITING ? c->next_us : c->start_us + late_us;
	case WAITING:
		if (c->next_us <= now && now - c->start_us < late_us) {
			conn_open(c);
			send_some(c);
		}
		break;
	case CONNECTING:
	case BUSY:
		break;
	}
	if (c->state != FREE && now - c->start_us >= late_us)
		finish_text(c, LATE, "no end", false);
	return c->state == FREE || c->state == WAITING ? c->next_us : c->start_us + late_us;
}

static void
run(void)
{
	struct pollfd *pfds = need(calloc(nconns, sizeof(*pfds)));
	int64_t now, due, next;
	unsigned long i;
	struct conn *c;
	int wait;

	for (;;) {
		now = now_us();
		if (!ending && (told || (duration_us > 0 && now - begin_us >= duration_us) ||
		    (max_requests > 0 && finished >= max_requests))) {
			if (last_us == 0)
				last_us = begin_us;	/* no answer at all */
			note_gap(now);
			ending = true;
		}
		if (ending && (finished == begun || told_at_once))
			break;
		next = !ending && duration_us > 0 ? begin_us + duration_us : now + 1000000;
		for (i = 0; i < nconns; i++) {
			c = &conns[i];
			if ((due = conn_due(c, now)) < next)
				next = due;
			pfds[i].fd = c->state == CONNECTING || c->state == BUSY ? c->fd : -1;
			pfds[i].events = POLLIN;
			if (c->state == CONNECTING || c->out_at < c->out.len)
				pfds[i].events |= POLLOUT;
		}
		now = now_us();
		wait = next <= now ? 0 : next - now > 1000000 ? 1000 : (int)((next - now + 999) / 1000);
		if (poll(pfds, (nfds_t)nconns, wait) == -1) {
			if (errno != EINTR)
				die("poll: %s", strerror(errno));
			continue;
		}
		for (i = 0; i < nconns; i++)
			if (pfds[i].revents != 0)
				conn_ready(&conns[i], pfds[i].revents);
	}
	free(pfds);
}

static int
by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static double
percentile_ms(double part)
{
	if (nlatencies == 0)
		return 0;
	return latencies[(size_t)(part * (double)(nlatencies - 1) + 0.5)] / 1000.0;
}

static void
print(int64_t seconds_us)
{
	int i, j;

	if (nlatencies > 0)
		qsort(latencies, nlatencies, sizeof(latencies[0]), by_value);
	printf("seconds %.3f\nrequests %lu\nrate %.1f\nok %lu\nfailed %lu\n", (double)seconds_us / 1e6, finished,
	    (double)outcomes[OK] * 1e6 / (double)(seconds_us > 0 ? seconds_us : 1), outcomes[OK], finished - outcomes[OK]);
	printf("p50_ms %.3f\np99_ms %.3f\np999_ms %.3f\nmax_ms %.3f\n", percentile_ms(0.5), percentile_ms(0.99),
	    percentile_ms(0.999), percentile_ms(1));
	printf("stall_ms %.3f\nstall_at_s %.3f\n", (double)stall_us / 1e3, (double)stall_at_us / 1e6);
	printf("connects %lu\nclosed_idle %lu\n", connects, closed_idle);
	for (i = OK + 1; i < OUTCOMES; i++)
		printf("%s %lu\n", outcome_names[i], outcomes[i]);
	for (i = OK + 1; i < OUTCOMES; i++)
		for (j = 0; j < SAMPLES && samples[i][j].n > 0; j++)
			printf("sample %s %lu %s\n", outcome_names[i], samples[i][j].n, samples[i][j].text);
}

/* ---- start ------------------------------------------------------------------------------------------- */

static void
on_signal(int sig)
{
	told = 1;
	if (sig == SIGQUIT)
		told_at_once = 1;
}

static void
find_address(const char *address)
{
	struct sockaddr_un *sun = (struct sockaddr_un *)&addr;
	struct addrinfo hints, *found;
	char host[256];
	const char *port;

	if (address[0] == '/') {
		if (strlen(address) >= sizeof(sun->sun_path))
			die("%s: too long", address);
		sun->sun_family = AF_UNIX;
		strcpy(sun->sun_path, address);
		addr_len = sizeof(*sun);
		return;
	}
	if ((port = strrchr(address, ':')) == NULL || (size_t)(port - address) >= sizeof(host))
		die("%s: neither a path nor HOST:PORT", address);
	snprintf(host, sizeof(host), "%.*s", (int)(port - address), address);
	memset(&hints, 0, sizeof(hints));
	hints.ai_socktype = SOCK_STREAM;
	if (getaddrinfo(host, port + 1, &hints, &found) != 0)
		die("%s: no such address", address);
	memcpy(&addr, found->ai_addr, found->ai_addrlen);
	addr_len = found->ai_addrlen;
	freeaddrinfo(found);
}

static const char *
read_key(const char *file)
{
	static char line[512];
	FILE *f;

	if ((f = fopen(file, "r")) == NULL || fgets(line, sizeof(line), f) == NULL)
		die("%s: %s", file, strerror(errno));
	fclose(f);
	line[strcspn(line, "\n")] = '\0';
	return line;
}

static void
options(int argc, char **argv)
{
	int o;

	while ((o = getopt(argc, argv, "c:P:p:e:oHk:q:b:i:1t:n:w:r:l:s:")) != -1) {
		switch (o) {
		case 'c': nconns = strtoul(optarg, NULL, 10); break;
		case 'P': npools = strtoul(optarg, NULL, 10); break;
		case 'p': format = optarg; break;
		case 'e': answered = optarg; break;
		case 'o': in_order = true; break;
		case 'H': http = true; break;
		case 'k': key = read_key(optarg); break;
		case 'q':
			if (nqueries == CHOICES || strlen(optarg) > 1000)
				die("-q: too much");
			queries[nqueries++] = optarg;
			break;
		case 'b':
			if (nbodies == CHOICES)
				die("-b: too many");
			bodies[nbodies++] = (size_t)strtoul(optarg, NULL, 10);
			break;
		case 'i': pause_us = (int64_t)(strtod(optarg, NULL) * 1e3); break;
		case '1': one_each = true; break;
		case 't': duration_us = (int64_t)(strtod(optarg, NULL) * 1e6); break;
		case 'n': max_requests = strtoul(optarg, NULL, 10); break;
		case 'w': late_us = (int64_t)(strtod(optarg, NULL) * 1e6); break;
		case 'r': ready_file = optarg; break;
		case 'l':
			if ((failures = fopen(optarg, "a")) == NULL)
				die("%s: %s", optarg, strerror(errno));
			break;
		case 's': seed = strtoul(optarg, NULL, 10); break;
		default: exit(2);
		}
	}
	if (optind + 1 != argc || nconns == 0 || npools == 0)
		die("usage: load [options] ADDRESS (see load.c)");
	find_address(argv[optind]);
}

int
main(int argc, char **argv)
{
	struct sigaction sa;
	unsigned long i;

	options(argc, argv);
	if (seed == 0)
		seed = (uint64_t)clock_us(CLOCK_REALTIME) ^ (uint64_t)getpid() << 32;
	memset(&sa, 0, sizeof(sa));
	sigemptyset(&sa.sa_mask);
	sa.sa_handler = on_signal;
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGQUIT, &sa, NULL);
	conns = need(calloc(nconns, sizeof(*conns)));
	begin_us = now_us();
	since_1970_us = clock_us(CLOCK_REALTIME) - begin_us;
	for (i = 0; i < nconns; i++) {
		conns[i].fd = -1;
		/* Not all in one moment, if they pause at all. */
		conns[i].next_us = begin_us + (pause_us > 0 ? (int64_t)at_random(2 * (unsigned long)pause_us) : 0);
	}
	run();
	print(now_us() - begin_us);
	return outcomes[WRONG] > 0 ? 3 : outcomes[OK] < finished ? 1 : 0;
}
