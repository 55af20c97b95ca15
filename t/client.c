/*
 * client.c: a FastCGI client for the tests: the web server's part, well-behaved
 * or not. Without a mode it makes requests:
 *
 * client ADDRESS [options] [QUERY ...]        (also: client -s ADDRESS [options] [QUERY ...])
 *   ADDRESS is a path or HOST:PORT; the QUERYs are joined with '&', like those of -q.
 *   -P POOL, -a APP, -k KEY   ZFPM_POOL, ZFPM_APP, ZFPM_KEY (-k @FILE: the first line of FILE)
 *   -p NAME=VALUE   one more parameter, or another value for one; -p POOL: the same as -P
 *   -p NAME=@FILE   its value is what the file holds; -u NAME: without this parameter
 *   -q QUERY, -m METHOD, -r ROLE (a number or responder, authorizer, filter), -i ID (1)
 *   -b FILE, -B N   the body: a file (-: standard input), or N bytes of the pattern (pattern.h)
 *   -D N            N bytes of the pattern as FCGI_DATA
 *   -l N            CONTENT_LENGTH, if it is not to be true; -l none
 *   -K, -n N        FCGI_KEEP_CONN; N requests on one connection, one after the other
 *   -t S            for a request (10 seconds), then exit 5
 *  The stream of bytes
 *   -c N            content of a record at most (65535): pairs straddle records when it is small
 *   -z N            padding of each record, empty ones too; -4: all lengths of pairs in 4 bytes
 *   -S N, -d MS     send in pieces of N bytes, with a pause after each piece
 *   -w MS[:SIZE]    read so many bytes (4096), then pause; -W MS: do not read at all before
 *  What goes wrong
 *   -T N            end the body after N bytes as if that were all
 *   -Y N            say nothing more after N bytes of the body
 *   -H              half-close when all is sent
 *   -A MS, -X MS    send ABORT_REQUEST, or close (exit 6), after so long (-A first: after the first byte of STDOUT)
 *   -2              a second BEGIN_REQUEST, with the id + 1, after the parameters
 *   -g              FCGI_GET_VALUES before, and a record of an unknown management type after the parameters
 *  What is printed
 *   STDOUT on standard output, STDERR on descriptor 2 with `stderr: ` before each line
 *   -O              not the response's headers; -C: length and cksum(1) sum instead of the bytes
 *   -E              wait, after the last END_REQUEST, until the connection is closed
 *   -v              each record sent (>) and received (<), on descriptor 2
 * exit: 0 END_REQUEST with REQUEST_COMPLETE, 1 no connection, 2 usage, 3 closed without END_REQUEST,
 * 4 another protocol status, 5 too late, 6 closed as -X asked
 *
 * client raw ADDRESS [-x] [-H] [-E] [-t S]    send standard input (-x: hexadecimal) as it is; print what comes back,
 *                                             a record a line, until END_REQUEST (-E: until the connection is closed)
 * client script ADDRESS [options]             the same, with a script on standard input, a command a line:
 *   begin ID [ROLE [FLAGS]]     params ID (those of the options and the end of them)
 *   param ID NAME=VALUE         text TYPE ID TEXT       record TYPE ID LEN [PADDING]    end TYPE ID
 *   header VERSION TYPE ID CONTENT_LEN PADDING_LEN      hex XX ...    repeat N COMMAND
 *   wait N (records have come since the last wait)      sleep MS      shut      closed (wait for that)     close
 *   exit: 0 at its end, 3 closed where `wait` wanted records, 5 too late
 * client values ADDRESS [-t S] [NAME ...]     FCGI_GET_VALUES; NAME=VALUE lines
 * client fuzz ADDRESS SEED COUNT [options]    COUNT malformed streams, each on a connection of its own; -w MS: how
 *                                             long to wait for an answer to each (20). exit 1 if one cannot connect
 * client pattern N                            N bytes of the pattern
 * client listen ADDRESS COMMAND ...           execute an application with a listening socket on descriptor 0
 */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../fcgi.h"
#include "pattern.h"

enum { EXIT_CONNECT = 1, EXIT_USAGE, EXIT_CLOSED, EXIT_STATUS, EXIT_LATE, EXIT_LEFT };

#define MAX_PARAMS	256
#define NEVER		INT64_MAX
#define AT_FIRST	-2	/* -A first, -X first */

struct param {
	char		*name, *value;
	size_t		 value_len;
};

static struct {
	const char	*address;
	struct param	 params[MAX_PARAMS];
	int		 nparams;
	const char	*body_file;
	uint64_t	 body_len, data_len;
	bool		 body, data, long_lengths, keep, half_close, second_begin, management;
	bool		 body_only, sum, until_closed, verbose, is_hex;
	int		 role;
	int		 id;
	int		 requests;
	int64_t		 timeout_ms;
	size_t		 content_max, split, read_size;
	int		 padding;
	long		 send_pause_ms, read_pause_ms, read_after_ms;
	int64_t		 truncate_at, stop_at, abort_ms, close_ms;	/* -1: not */
} o = {
	.role = FCGI_RESPONDER, .id = 1, .requests = 1, .timeout_ms = 10000, .content_max = FCGI_MAX_CONTENT,
	.read_size = 65536, .truncate_at = -1, .stop_at = -1, .abort_ms = -1, .close_ms = -1,
};

_Noreturn static void
die(int status, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "client: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	exit(status);
}

static void *
need(void *old, size_t n)
{
	void *p;

	p = realloc(old, n > 0 ? n : 1);
	if (p == NULL)
		die(EXIT_USAGE, "no memory");
	return p;
}

static int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void
wait_ms(long ms)
{
	struct timespec ts;

	ts.tv_sec = ms / 1000;
	ts.tv_nsec = ms % 1000 * 1000000;
	while (nanosleep(&ts, &ts) == -1 && errno == EINTR)
		continue;
}

/* ---- bytes to send -------------------------------------------------------------- */

struct bytes {
	uint8_t		*p;
	size_t		 len, room;
};

static uint8_t *
bytes_room(struct bytes *b, size_t n)
{
	if (b->len + n > b->room) {
		b->room = b->room * 2 + n;
		b->p = need(b->p, b->room);
	}
	return b->p + b->len;
}

static void
bytes_add(struct bytes *b, const void *p, size_t n)
{
	if (n > 0)
		memcpy(bytes_room(b, n), p, n);
	b->len += n;
}

static void
bytes_record(struct bytes *b, int type, int id, const void *content, size_t len, int padding)
{
	bytes_room(b, FCGI_HEADER_LEN + len + 255);
	b->len += fcgi_put_header(b->p + b->len, type, (uint16_t)id, (uint16_t)len, (uint8_t)padding);
	bytes_add(b, content, len);
	memset(b->p + b->len, 0, (size_t)padding);
	b->len += (size_t)padding;
}

/* A stream's content as records of at most max bytes. */
static void
bytes_stream(struct bytes *b, int type, int id, const uint8_t *p, size_t len, size_t max)
{
	size_t n;

	for (; len > 0; p += n, len -= n) {
		n = len < max ? len : max;
		bytes_record(b, type, id, p, n, o.padding);
	}
}

static void
bytes_pair(struct bytes *b, const char *name, size_t name_len, const char *value, size_t value_len)
{
	uint8_t *p;
	int i;

	p = bytes_room(b, fcgi_pair_size(name_len, value_len) + 8);
	if (!o.long_lengths) {
		b->len += fcgi_put_pair(p, name, (uint32_t)name_len, value, (uint32_t)value_len);
		return;
	}
	for (i = 0; i < 4; i++) {
		p[i] = (uint8_t)((name_len | 0x80000000) >> (24 - 8 * i));
		p[4 + i] = (uint8_t)((value_len | 0x80000000) >> (24 - 8 * i));
	}
	b->len += 8;
	bytes_add(b, name, name_len);
	bytes_add(b, value, value_len);
}

static void
bytes_params(struct bytes *b)
{
	const struct param *p;

	for (p = o.params; p < o.params + o.nparams; p++)
		bytes_pair(b, p->name, strlen(p->name), p->value, p->value_len);
}

static void
bytes_begin(struct bytes *b, int id, int role, int flags)
{
	b->len += fcgi_put_begin(bytes_room(b, FCGI_HEADER_LEN + FCGI_BODY_LEN), (uint16_t)id, (uint16_t)role, (uint8_t)flags);
}

static void
bytes_get_values(struct bytes *b, int n, char **names)
{
	struct bytes pairs = { NULL, 0, 0 };
	int i;

	for (i = 0; i < n; i++)
		bytes_pair(&pairs, names[i], strlen(names[i]), "", 0);
	bytes_record(b, FCGI_GET_VALUES, 0, pairs.p, pairs.len, o.padding);
	free(pairs.p);
}

static char *values_names[] = { "FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS" };

/* ---- parameters ------------------------------------------------------------------- */

static struct param *
param_find(const char *name)
{
	int i;

	for (i = 0; i < o.nparams; i++)
		if (strcmp(o.params[i].name, name) == 0)
			return &o.params[i];
	return NULL;
}

static void
param_set(const char *name, const char *value, size_t len)
{
	struct param *p;

	p = param_find(name);
	if (p == NULL) {
		if (o.nparams == MAX_PARAMS)
			die(EXIT_USAGE, "too many parameters");
		p = &o.params[o.nparams++];
		p->name = need(NULL, strlen(name) + 1);
		strcpy(p->name, name);
		p->value = NULL;
	}
	p->value = need(p->value, len + 1);
	if (len > 0)
		memcpy(p->value, value, len);
	p->value[len] = '\0';
	p->value_len = len;
}

static void
param_remove(const char *name)
{
	struct param *p;

	p = param_find(name);
	if (p == NULL)
		return;
	free(p->name);
	free(p->value);
	*p = o.params[--o.nparams];
}

static void
param_add_query(const char *query)
{
	struct bytes b = { NULL, 0, 0 };
	struct param *p;

	p = param_find("QUERY_STRING");
	if (p != NULL && p->value_len > 0) {
		bytes_add(&b, p->value, p->value_len);
		bytes_add(&b, "&", 1);
	}
	bytes_add(&b, query, strlen(query));
	param_set("QUERY_STRING", (char *)b.p, b.len);
	free(b.p);
}

static void
read_file(const char *name, struct bytes *b)
{
	ssize_t n;
	int fd;

	fd = strcmp(name, "-") == 0 ? 0 : open(name, O_RDONLY);
	if (fd == -1)
		die(EXIT_USAGE, "%s: %s", name, strerror(errno));
	while ((n = read(fd, bytes_room(b, 65536), 65536)) > 0)
		b->len += (size_t)n;
	if (fd != 0)
		close(fd);
}

/* NAME=VALUE, NAME=@FILE, or the pool's name. */
static void
param_option(const char *arg)
{
	struct bytes b = { NULL, 0, 0 };
	char *name;
	size_t n;

	n = strcspn(arg, "=");
	if (arg[n] == '\0') {
		param_set("ZFPM_POOL", arg, n);
		return;
	}
	name = need(NULL, n + 1);
	memcpy(name, arg, n);
	name[n] = '\0';
	if (arg[n + 1] == '@') {
		read_file(arg + n + 2, &b);
		param_set(name, (char *)b.p, b.len);
		free(b.p);
	} else {
		param_set(name, arg + n + 1, strlen(arg + n + 1));
	}
	free(name);
}

static void
param_key(const char *arg)
{
	struct bytes b = { NULL, 0, 0 };

	if (*arg != '@') {
		param_set("ZFPM_KEY", arg, strlen(arg));
		return;
	}
	read_file(arg + 1, &b);
	bytes_add(&b, "\n", 2);
	param_set("ZFPM_KEY", (char *)b.p, strcspn((char *)b.p, "\n"));
	free(b.p);
}

static void
param_defaults(void)
{
	static const char *const pairs[][2] = {
		{ "GATEWAY_INTERFACE", "CGI/1.1" }, { "SERVER_PROTOCOL", "HTTP/1.1" }, { "REQUEST_METHOD", "GET" },
		{ "SCRIPT_FILENAME", "/app" }, { "SCRIPT_NAME", "/app" }, { "REQUEST_URI", "/" }, { "QUERY_STRING", "" },
		{ "REMOTE_ADDR", "127.0.0.1" },
	};
	size_t i;

	for (i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		param_set(pairs[i][0], pairs[i][1], strlen(pairs[i][1]));
}

/* ---- connection ---------------------------------------------------------------------- */

/* A socket, connected or listening. */
static int
open_socket(const char *address, bool listening)
{
	struct sockaddr_un sun;
	struct addrinfo hints, *ai;
	struct sockaddr *sa;
	const char *colon;
	char host[256];
	socklen_t len;
	int fd, i;

	ai = NULL;
	colon = strchr(address, '/') == NULL ? strrchr(address, ':') : NULL;
	if (colon != NULL) {
		snprintf(host, sizeof(host), "%.*s", (int)(colon - address), address);
		memset(&hints, 0, sizeof(hints));
		hints.ai_socktype = SOCK_STREAM;
		hints.ai_flags = AI_NUMERICSERV;
		if (host[0] == '[')
			host[strlen(host) - 1] = '\0';
		i = getaddrinfo(host[0] == '[' ? host + 1 : host, colon + 1, &hints, &ai);
		if (i != 0)
			die(EXIT_CONNECT, "%s: %s", address, gai_strerror(i));
		sa = ai->ai_addr;
		len = ai->ai_addrlen;
	} else {
		memset(&sun, 0, sizeof(sun));
		sun.sun_family = AF_UNIX;
		/* Under another name until it listens: whoever sees it can connect to it. */
		if ((size_t)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s%s", address, listening ? "~" : "") >= sizeof(sun.sun_path))
			die(EXIT_USAGE, "%s: too long", address);
		sa = (struct sockaddr *)&sun;
		len = sizeof(sun);
		if (listening)
			unlink(sun.sun_path);
	}
	fd = socket(sa->sa_family, SOCK_STREAM, 0);
	if (fd == -1)
		die(EXIT_CONNECT, "socket: %s", strerror(errno));
	i = 1;
	if (listening && colon != NULL)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &i, sizeof(i));
	if (listening)
		i = bind(fd, sa, len) == -1 || listen(fd, 128) == -1 || (colon == NULL && rename(sun.sun_path, address) == -1) ? -1 : 0;
	else
		i = connect(fd, sa, len);
	if (i == -1)
		die(EXIT_CONNECT, "%s: %s", address, strerror(errno));
	if (!listening && fcntl(fd, F_SETFL, O_NONBLOCK) == -1)
		die(EXIT_CONNECT, "fcntl: %s", strerror(errno));
	if (ai != NULL)
		freeaddrinfo(ai);
	return fd;
}

/* ---- records in words ------------------------------------------------------------------- */

static const char *const type_names[] = {
	"0", "BEGIN_REQUEST", "ABORT_REQUEST", "END_REQUEST", "PARAMS", "STDIN", "STDOUT", "STDERR", "DATA",
	"GET_VALUES", "GET_VALUES_RESULT", "UNKNOWN_TYPE",
};
static const char *const status_names[] = { "REQUEST_COMPLETE", "CANT_MPX_CONN", "OVERLOADED", "UNKNOWN_ROLE" };
static const char *const role_names[] = { "0", "responder", "authorizer", "filter" };

/* A name, or the number where there is none. */
static const char *
name_of(const char *const *names, size_t n, int value)
{
	static char buf[16];

	if (value >= 0 && (size_t)value < n)
		return names[value];
	snprintf(buf, sizeof(buf), "%d", value);
	return buf;
}
#define NAME_OF(names, value)	name_of(names, sizeof(names) / sizeof(names[0]), value)

static int
value_of(const char *const *names, size_t n, const char *name)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return (int)i;
	if (strspn(name, "0123456789") != strlen(name) || *name == '\0')
		die(EXIT_USAGE, "%s: neither a name nor a number", name);
	return atoi(name);
}
#define VALUE_OF(names, name)	value_of(names, sizeof(names) / sizeof(names[0]), name)

static void
print_escaped(FILE *f, const uint8_t *p, size_t len)
{
	size_t i;

	for (i = 0; i < len && i < 200; i++) {
		if (p[i] == '\n')
			fprintf(f, "\\n");
		else if (p[i] == '\r')
			fprintf(f, "\\r");
		else if (p[i] < ' ' || p[i] > '~' || p[i] == '"' || p[i] == '\\')
			fprintf(f, "\\x%02x", p[i]);
		else
			fputc(p[i], f);
	}
	if (i < len)
		fprintf(f, "...");
}

/* `TYPE id=N len=N pad=N` and what the content means. */
static void
print_record(FILE *f, int type, int id, const uint8_t *p, size_t len, int padding)
{
	struct fcgi_pair pair;
	size_t at;

	fprintf(f, "%s id=%d len=%zu pad=%d", NAME_OF(type_names, type), id, len, padding);
	if (type == FCGI_END_REQUEST && len >= 5) {
		fprintf(f, " app=%lu", (unsigned long)p[0] << 24 | (unsigned long)p[1] << 16 | (unsigned long)p[2] << 8 | p[3]);
		fprintf(f, " status=%s", NAME_OF(status_names, p[4]));
	} else if (type == FCGI_UNKNOWN_TYPE && len >= 1) {
		fprintf(f, " type=%d", p[0]);
	} else if (type == FCGI_GET_VALUES_RESULT || type == FCGI_PARAMS) {
		for (at = 0; fcgi_pair_get(p + at, len - at, len, &pair) == 1; at += pair.size) {
			fprintf(f, " ");
			print_escaped(f, pair.name, pair.name_len);
			fprintf(f, "=");
			print_escaped(f, pair.value, pair.value_len);
		}
	} else if (len > 0) {
		fprintf(f, " \"");
		print_escaped(f, p, len);
		fprintf(f, "\"");
	}
	fprintf(f, "\n");
	fflush(f);
}

/* ---- receiving --------------------------------------------------------------------------- */

struct receiver {
	struct fcgi_reader reader;
	bool		 print;		/* raw and script: each record goes to standard output as a line */
	bool		 silent;	/* no record is shown */
	uint8_t		 record[FCGI_MAX_CONTENT];	/* under way */
	size_t		 record_len;
	int		 id;		/* of our request */
	long		 records;	/* that have come */
	bool		 ended;		/* END_REQUEST of our id */
	int		 status;	/* of that */
	bool		 closed, reset;
	bool		 first;		/* a byte of STDOUT has come */
	int		 newlines;	/* -O: of the empty line that ends the headers */
	bool		 in_body, in_line;
	struct cksum	 sum;
};

static void
write_all(const uint8_t *p, size_t len)
{
	ssize_t n;

	for (; len > 0; p += n, len -= (size_t)n) {
		n = write(1, p, len);
		if (n == -1)
			die(EXIT_USAGE, "standard output: %s", strerror(errno));
	}
}

static void
take_stdout(struct receiver *r, const uint8_t *p, size_t len)
{
	r->first = r->first || len > 0;
	while (o.body_only && !r->in_body && len > 0) {
		if (*p == '\n')
			r->newlines++;
		else if (*p != '\r')
			r->newlines = 0;
		r->in_body = r->newlines == 2;
		p++;
		len--;
	}
	if (o.sum)
		cksum_add(&r->sum, p, len);
	else
		write_all(p, len);
}

static void
take_stderr(struct receiver *r, const uint8_t *p, size_t len)
{
	for (; len > 0; p++, len--) {
		if (!r->in_line)
			fprintf(stderr, "stderr: ");
		fputc(*p, stderr);
		r->in_line = *p != '\n';
	}
}

static void
take_record(struct receiver *r, int type, int id, int padding)
{
	bool ours;

	r->records++;
	ours = id == r->id && !r->ended;
	if (r->print) {
		print_record(stdout, type, id, r->record, r->record_len, padding);
	} else if (!r->silent && (o.verbose || !ours || (type != FCGI_END_REQUEST && type != FCGI_STDOUT && type != FCGI_STDERR))) {
		fprintf(stderr, "%s", o.verbose ? "< " : "record: ");
		print_record(stderr, type, id, r->record, r->record_len, padding);
	}
	if (ours && type == FCGI_END_REQUEST) {
		r->ended = true;
		r->status = r->record_len >= 5 ? r->record[4] : -1;
	}
}

static void
take_part(struct receiver *r, const struct fcgi_part *part)
{
	if (part->first)
		r->record_len = 0;
	memcpy(r->record + r->record_len, part->data, part->len);
	r->record_len += part->len;
	if (!r->print && part->id == r->id && !r->ended) {
		if (part->type == FCGI_STDOUT)
			take_stdout(r, part->data, part->len);
		else if (part->type == FCGI_STDERR)
			take_stderr(r, part->data, part->len);
	}
	if (part->last)
		take_record(r, part->type, part->id, part->padding_len > 0 ? part->padding_len : r->reader.padding_left);
}

/* Read once, at most max bytes. */
static void
receive(struct receiver *r, int fd, size_t max)
{
	static uint8_t buf[65536];
	struct fcgi_part part;
	const uint8_t *p;
	size_t len;
	ssize_t n;
	int i;

	n = recv(fd, buf, max < sizeof(buf) ? max : sizeof(buf), 0);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		r->closed = true;
		r->reset = n == -1;
		return;
	}
	p = buf;
	len = (size_t)n;
	while ((i = fcgi_read(&r->reader, &p, &len, &part)) == 1)
		take_part(r, &part);
	if (i == -1)
		die(EXIT_CLOSED, "what comes is not FastCGI");
}

/* ---- a request ------------------------------------------------------------------------------ */

enum phase { HEAD, BODY, BODY_END, DATA, DATA_END, SENT };

struct sender {
	enum phase	 phase;
	struct bytes	 chunk;		/* under way */
	size_t		 chunk_at;	/* of it sent */
	int		 body_fd;	/* -1: the pattern */
	uint64_t	 at, end;	/* in the body or the data */
	int64_t		 next_ms;	/* -d: not before */
	bool		 quiet;		/* nothing more is said: -Y, or nobody listens */
};

static void
chunk_record(struct sender *s, int type, const uint8_t *p, size_t len)
{
	bytes_record(&s->chunk, type, o.id, p, len, o.padding);
	if (o.verbose) {
		fprintf(stderr, "> ");
		print_record(stderr, type, o.id, p, len, o.padding);
	}
}

/* Put the next record of the body or the data into the chunk; false at its end. */
static bool
chunk_body(struct sender *s, int type)
{
	static uint8_t buf[FCGI_MAX_CONTENT];
	size_t n;
	ssize_t got;

	n = s->end - s->at < o.content_max ? (size_t)(s->end - s->at) : o.content_max;
	if (n == 0)
		return false;
	if (type == FCGI_STDIN && s->body_fd != -1) {
		got = read(s->body_fd, buf, n);
		if (got <= 0)
			return false;
		n = (size_t)got;
	} else {
		pattern_fill(buf, s->at, n);
	}
	s->at += n;
	chunk_record(s, type, buf, n);
	return true;
}

/* True: the next bytes to send are in the chunk. */
static bool
chunk_next(struct sender *s)
{
	s->chunk.len = s->chunk_at = 0;
	while (!s->quiet) {
		switch (s->phase) {
		case HEAD:
			s->phase = BODY;
			s->at = 0;
			s->end = o.body_len;
			if (o.truncate_at >= 0 && (uint64_t)o.truncate_at < s->end)
				s->end = (uint64_t)o.truncate_at;
			if (o.stop_at >= 0 && (uint64_t)o.stop_at < s->end)
				s->end = (uint64_t)o.stop_at;
			break;
		case BODY:
			if (chunk_body(s, FCGI_STDIN))
				return true;
			s->phase = BODY_END;
			break;
		case BODY_END:
			if (o.stop_at >= 0) {
				s->quiet = true;
				break;
			}
			s->phase = o.data ? DATA : SENT;
			s->at = 0;
			s->end = o.data_len;
			chunk_record(s, FCGI_STDIN, NULL, 0);
			return true;
		case DATA:
			if (chunk_body(s, FCGI_DATA))
				return true;
			s->phase = DATA_END;
			break;
		case DATA_END:
			s->phase = SENT;
			chunk_record(s, FCGI_DATA, NULL, 0);
			return true;
		case SENT:
			return false;
		}
	}
	return false;
}

static void
sender_start(struct sender *s)
{
	struct bytes pairs = { NULL, 0, 0 };

	s->phase = HEAD;
	s->chunk.len = s->chunk_at = 0;
	s->next_ms = 0;
	s->quiet = false;
	s->body_fd = -1;
	if (o.body_file != NULL) {
		s->body_fd = strcmp(o.body_file, "-") == 0 ? 0 : open(o.body_file, O_RDONLY);
		if (s->body_fd == -1)
			die(EXIT_USAGE, "%s: %s", o.body_file, strerror(errno));
	}
	if (o.management)
		bytes_get_values(&s->chunk, 3, values_names);
	bytes_begin(&s->chunk, o.id, o.role, o.keep ? FCGI_KEEP_CONN : 0);
	bytes_params(&pairs);
	bytes_stream(&s->chunk, FCGI_PARAMS, o.id, pairs.p, pairs.len, o.content_max);
	bytes_record(&s->chunk, FCGI_PARAMS, o.id, NULL, 0, o.padding);
	if (o.verbose) {
		fprintf(stderr, "> ");
		print_record(stderr, FCGI_PARAMS, o.id, pairs.p, pairs.len, o.padding);
	}
	if (o.second_begin) {
		bytes_begin(&s->chunk, o.id + 1, o.role, o.keep ? FCGI_KEEP_CONN : 0);
		bytes_stream(&s->chunk, FCGI_PARAMS, o.id + 1, pairs.p, pairs.len, o.content_max);
		bytes_record(&s->chunk, FCGI_PARAMS, o.id + 1, NULL, 0, o.padding);
		bytes_record(&s->chunk, FCGI_STDIN, o.id + 1, NULL, 0, o.padding);
	}
	if (o.management)
		bytes_record(&s->chunk, 77, 0, NULL, 0, o.padding);
	free(pairs.p);
}

/* Send what goes without waiting; false when there is no more to send. */
static bool
send_some(struct sender *s, int fd, int64_t now)
{
	size_t n;
	ssize_t sent;

	for (;;) {
		if (s->chunk_at == s->chunk.len && !chunk_next(s))
			return false;
		if (now < s->next_ms)
			return true;
		n = s->chunk.len - s->chunk_at;
		if (o.split > 0 && n > o.split)
			n = o.split;
		sent = send(fd, s->chunk.p + s->chunk_at, n, MSG_NOSIGNAL);
		if (sent == -1 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (sent == -1) {
			/* The peer wants no more; what it has said is still to be read. */
			s->quiet = true;
			s->chunk_at = s->chunk.len;
			return false;
		}
		s->chunk_at += (size_t)sent;
		if (o.send_pause_ms > 0)
			s->next_ms = now + o.send_pause_ms;
	}
}

static int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* When -A or -X is to happen. */
static int64_t
due(int64_t ms, int64_t start, const struct receiver *r)
{
	if (ms == -1 || (ms == AT_FIRST && !r->first))
		return NEVER;
	return ms == AT_FIRST ? 0 : start + ms;
}

/* One request on an open connection, up to its END_REQUEST; returns the exit status. */
static int
do_request(int fd, struct sender *s, struct receiver *r)
{
	struct pollfd pfd;
	int64_t start, now, next, read_ms;
	bool sending, half_closed, aborted;

	start = now_ms();
	read_ms = start + o.read_after_ms;
	half_closed = aborted = false;
	r->id = o.id;
	r->ended = r->first = r->in_body = false;
	r->newlines = 0;
	sender_start(s);
	while (!r->ended && !r->closed) {
		now = now_ms();
		if (now >= start + o.timeout_ms)
			return EXIT_LATE;
		if (now >= due(o.close_ms, start, r))
			return EXIT_LEFT;
		/* ABORT_REQUEST stands between two records, and the body is not gone on with. */
		if (!aborted && now >= due(o.abort_ms, start, r) && s->chunk_at == s->chunk.len) {
			aborted = true;
			s->chunk.len = s->chunk_at = 0;
			s->phase = SENT;
			chunk_record(s, FCGI_ABORT_REQUEST, NULL, 0);
		}
		sending = send_some(s, fd, now);
		if (!sending && o.half_close && !half_closed) {
			half_closed = true;
			shutdown(fd, SHUT_WR);
		}
		next = earlier(start + o.timeout_ms, due(o.close_ms, start, r));
		if (!aborted)
			next = earlier(next, due(o.abort_ms, start, r));
		pfd.fd = fd;
		pfd.events = 0;
		pfd.revents = 0;
		if (sending && now >= s->next_ms)
			pfd.events |= POLLOUT;
		else if (sending)
			next = earlier(next, s->next_ms);
		if (now >= read_ms)
			pfd.events |= POLLIN;
		else
			next = earlier(next, read_ms);
		if (pfd.events == 0)
			pfd.fd = -1;	/* or POLLHUP would wake us */
		if (poll(&pfd, 1, next > now ? (int)(next - now) : 1) == -1 && errno != EINTR)
			die(EXIT_USAGE, "poll: %s", strerror(errno));
		if (now >= read_ms && pfd.revents & (POLLIN | POLLHUP | POLLERR)) {
			receive(r, fd, o.read_size);
			if (o.read_pause_ms > 0)
				read_ms = now_ms() + o.read_pause_ms;
		}
	}
	if (!r->ended)
		return EXIT_CLOSED;
	/* The next request needs the stream at a record's end: say what is still to be said, though it has been answered. */
	while (o.requests > 1 && !r->closed && send_some(s, fd, now_ms())) {
		if (now_ms() >= start + o.timeout_ms)
			return EXIT_LATE;
		pfd.fd = fd;
		pfd.events = POLLIN | POLLOUT;
		poll(&pfd, 1, 10);
		if (pfd.revents & (POLLIN | POLLHUP | POLLERR))
			receive(r, fd, o.read_size);
	}
	if (s->body_fd > 0)
		close(s->body_fd);
	return r->status == FCGI_REQUEST_COMPLETE ? 0 : EXIT_STATUS;
}

/* Receive until n records have come; -1: until the peer closes, which else is an error. */
static int
pull(int fd, struct receiver *r, long n)
{
	struct pollfd pfd;
	int64_t end, now;

	end = now_ms() + o.timeout_ms;
	while (n == -1 || r->records < n) {
		if (r->closed)
			return n == -1 ? 0 : EXIT_CLOSED;
		now = now_ms();
		if (now >= end)
			return EXIT_LATE;
		pfd.fd = fd;
		pfd.events = POLLIN;
		if (poll(&pfd, 1, (int)(end - now)) > 0)
			receive(r, fd, 65536);
	}
	return 0;
}

static int
mode_request(void)
{
	static struct receiver r;
	static struct sender s;
	int fd, i, status;

	fd = open_socket(o.address, false);
	status = 0;
	for (i = 0; i < o.requests && status == 0; i++)
		status = do_request(fd, &s, &r);
	if (status == 0 && o.until_closed)
		status = pull(fd, &r, -1);
	if (r.in_line)
		fprintf(stderr, "\n");
	if (o.sum)
		printf("%llu %lu\n", (unsigned long long)r.sum.len, (unsigned long)cksum_value(&r.sum));
	if (status == EXIT_CLOSED && o.verbose)
		fprintf(stderr, "< %s\n", r.reset ? "reset" : "closed");
	free(s.chunk.p);
	close(fd);
	return status;
}

/* ---- raw and script ---------------------------------------------------------------------------- */

/* Send it all, receiving meanwhile; 0 or the exit status. */
static int
push(int fd, struct receiver *r, const uint8_t *p, size_t len)
{
	struct pollfd pfd;
	int64_t end;
	ssize_t n;

	end = now_ms() + o.timeout_ms;
	while (len > 0 && !r->closed) {
		if (now_ms() >= end)
			return EXIT_LATE;
		pfd.fd = fd;
		pfd.events = POLLIN | POLLOUT;
		if (poll(&pfd, 1, 100) <= 0)
			continue;
		if (pfd.revents & (POLLIN | POLLHUP | POLLERR))
			receive(r, fd, 65536);
		if (!(pfd.revents & POLLOUT) || r->closed)
			continue;
		n = send(fd, p, o.split > 0 && o.split < len ? o.split : len, MSG_NOSIGNAL);
		if (n > 0) {
			p += n;
			len -= (size_t)n;
			if (o.send_pause_ms > 0)
				wait_ms(o.send_pause_ms);
		} else if (n == -1 && errno != EAGAIN && errno != EINTR) {
			break;		/* what it has said before is still to be read */
		}
	}
	return 0;
}

static int
say_end(const struct receiver *r, int status)
{
	if (status == EXIT_LATE)
		printf("timeout\n");
	else if (r->closed)
		printf("%s\n", r->reset ? "reset" : "closed");
	return status;
}

static void
hex_bytes(struct bytes *b, const char *s)
{
	unsigned byte;
	int n;

	for (; *(s += strspn(s, " \t\r\n")) != '\0'; s += n) {
		if (sscanf(s, "%2x%n", &byte, &n) != 1)
			die(EXIT_USAGE, "not hexadecimal: %.20s", s);
		*bytes_room(b, 1) = (uint8_t)byte;
		b->len++;
	}
}

static int
mode_raw(void)
{
	static struct receiver r;
	struct bytes in = { NULL, 0, 0 }, out = { NULL, 0, 0 };
	int fd, status;

	read_file("-", &in);
	if (o.is_hex) {
		bytes_add(&in, "", 1);
		hex_bytes(&out, (char *)in.p);
		free(in.p);
		in = out;
	}
	r.print = true;
	r.id = o.id;
	fd = open_socket(o.address, false);
	status = push(fd, &r, in.p, in.len);
	if (o.half_close)
		shutdown(fd, SHUT_WR);
	while (status == 0 && (o.until_closed || !r.ended))
		status = pull(fd, &r, r.records + 1);
	free(in.p);
	close(fd);
	if (status == EXIT_CLOSED && r.ended)
		status = 0;
	if (status == 0 && r.status != FCGI_REQUEST_COMPLETE)
		status = EXIT_STATUS;
	return say_end(&r, status);
}

/* Put the bytes of one command of a script into b; false if it is none that sends. */
static bool
script_bytes(struct bytes *b, char *line)
{
	static uint8_t buf[FCGI_MAX_CONTENT];
	struct bytes pairs = { NULL, 0, 0 };
	char word[32], type[32], role[32];
	unsigned a[4];
	size_t at;
	int n, rest;
	char *eq;

	n = rest = 0;
	a[0] = a[1] = a[2] = a[3] = 0;
	if (sscanf(line, "%31s%n", word, &n) != 1)
		return true;	/* an empty line */
	line += n;
	if (strcmp(word, "begin") == 0 && (n = sscanf(line, "%u %31s %u", &a[0], role, &a[1])) >= 1) {
		bytes_begin(b, (int)a[0], n >= 2 ? VALUE_OF(role_names, role) : FCGI_RESPONDER, (int)a[1]);
	} else if (strcmp(word, "params") == 0 && sscanf(line, "%u", &a[0]) == 1) {
		bytes_params(&pairs);
		bytes_stream(b, FCGI_PARAMS, (int)a[0], pairs.p, pairs.len, o.content_max);
		bytes_record(b, FCGI_PARAMS, (int)a[0], NULL, 0, o.padding);
	} else if (strcmp(word, "param") == 0 && sscanf(line, "%u %n", &a[0], &rest) == 1 && (eq = strchr(line + rest, '=')) != NULL) {
		bytes_pair(&pairs, line + rest, (size_t)(eq - line - rest), eq + 1, strlen(eq + 1));
		bytes_stream(b, FCGI_PARAMS, (int)a[0], pairs.p, pairs.len, o.content_max);
	} else if (strcmp(word, "text") == 0 && sscanf(line, "%31s %u %n", type, &a[0], &rest) == 2) {
		bytes_stream(b, VALUE_OF(type_names, type), (int)a[0], (uint8_t *)line + rest, strlen(line + rest), o.content_max);
	} else if (strcmp(word, "record") == 0 && sscanf(line, "%31s %u %u %u", type, &a[0], &a[1], &a[2]) >= 3 && a[1] <= FCGI_MAX_CONTENT) {
		pattern_fill(buf, 0, a[1]);
		bytes_record(b, VALUE_OF(type_names, type), (int)a[0], buf, a[1], (int)a[2] & 255);
	} else if (strcmp(word, "end") == 0 && sscanf(line, "%31s %u", type, &a[0]) == 2) {
		bytes_record(b, VALUE_OF(type_names, type), (int)a[0], NULL, 0, o.padding);
	} else if (strcmp(word, "header") == 0 && sscanf(line, "%u %31s %u %u %u", &a[0], type, &a[1], &a[2], &a[3]) == 5) {
		at = b->len;
		b->len += fcgi_put_header(bytes_room(b, FCGI_HEADER_LEN), VALUE_OF(type_names, type), (uint16_t)a[1],
		    (uint16_t)a[2], (uint8_t)a[3]);
		b->p[at] = (uint8_t)a[0];
	} else if (strcmp(word, "hex") == 0) {
		hex_bytes(b, line);
	} else if (strcmp(word, "repeat") == 0 && sscanf(line, "%u %n", &a[0], &rest) == 1) {
		while (a[0]-- > 0)
			if (!script_bytes(b, line + rest))
				die(EXIT_USAGE, "repeat:%s", line);
	} else {
		return false;
	}
	free(pairs.p);
	return true;
}

static int
mode_script(void)
{
	static struct receiver r;
	struct bytes in = { NULL, 0, 0 }, b;
	char *line, *end;
	long waited;
	unsigned n;
	int fd, status;

	read_file("-", &in);
	bytes_add(&in, "\n", 2);
	r.print = true;
	r.id = o.id;
	fd = open_socket(o.address, false);
	waited = 0;
	status = 0;
	for (line = (char *)in.p; status == 0 && (end = strchr(line, '\n')) != NULL; line = end + 1) {
		*end = '\0';
		line += strspn(line, " \t");
		memset(&b, 0, sizeof(b));
		if (*line == '#')
			continue;
		if (script_bytes(&b, line)) {
			status = push(fd, &r, b.p, b.len);
			free(b.p);
		} else if (sscanf(line, "wait %u", &n) == 1) {
			waited += n;
			status = pull(fd, &r, waited);
		} else if (sscanf(line, "sleep %u", &n) == 1) {
			wait_ms((long)n);
		} else if (strcmp(line, "shut") == 0) {
			shutdown(fd, SHUT_WR);
		} else if (strcmp(line, "closed") == 0) {
			status = pull(fd, &r, -1);
		} else if (strcmp(line, "close") == 0) {
			break;
		} else {
			die(EXIT_USAGE, "script: %s", line);
		}
	}
	free(in.p);
	close(fd);
	return say_end(&r, status);
}

static int
mode_values(int n, char **names)
{
	static struct receiver r;
	struct bytes b = { NULL, 0, 0 };
	struct fcgi_pair pair;
	size_t at;
	int fd, status;

	if (n == 0) {
		n = 3;
		names = values_names;
	}
	bytes_get_values(&b, n, names);
	fd = open_socket(o.address, false);
	r.silent = !o.verbose;
	status = push(fd, &r, b.p, b.len);
	if (status == 0)
		status = pull(fd, &r, 1);
	free(b.p);
	close(fd);
	for (at = 0; status == 0 && fcgi_pair_get(r.record + at, r.record_len - at, r.record_len, &pair) == 1; at += pair.size)
		printf("%.*s=%.*s\n", (int)pair.name_len, (const char *)pair.name, (int)pair.value_len, (const char *)pair.value);
	return status;
}

/* ---- fuzz ------------------------------------------------------------------------------------------ */

static uint64_t fuzz_state;

static uint32_t
rnd(uint32_t below)
{
	fuzz_state ^= fuzz_state << 13;
	fuzz_state ^= fuzz_state >> 7;
	fuzz_state ^= fuzz_state << 17;
	return (uint32_t)(fuzz_state >> 20) % below;
}

/* Stream number i does not depend on how the others went. */
static void
fuzz_seed(uint64_t seed, uint64_t i)
{
	int n;

	fuzz_state = (seed + 1) * 0x9e3779b97f4a7c15u ^ (i + 1) * 0xbf58476d1ce4e5b9u;
	if (fuzz_state == 0)
		fuzz_state = 1;
	for (n = 0; n < 16; n++)
		rnd(1);
}

#define FUZZ_RECORDS	64

struct fuzz_stream {
	struct bytes	 b;
	size_t		 at[FUZZ_RECORDS];	/* where the headers are */
	int		 n;
};

static void
fuzz_record(struct fuzz_stream *f, int type, int id, const uint8_t *p, size_t len)
{
	if (f->n < FUZZ_RECORDS)
		f->at[f->n++] = f->b.len;
	bytes_record(&f->b, type, id, p, len, rnd(3) ? 0 : (int)rnd(256));
}

static void
fuzz_split(struct fuzz_stream *f, int type, int id, const uint8_t *p, size_t len)
{
	size_t n;

	for (; len > 0; p += n, len -= n) {
		n = 1 + rnd(rnd(2) ? 400 : 40000);
		if (n > len)
			n = len;
		fuzz_record(f, type, id, p, n);
	}
	fuzz_record(f, type, id, NULL, 0);
}

/* A request as it should be, in records of any size. */
static void
fuzz_valid(struct fuzz_stream *f, int id)
{
	struct bytes pairs = { NULL, 0, 0 };
	uint8_t body[3000];
	uint8_t begin[FCGI_BODY_LEN] = { 0 };
	char number[24];
	size_t len;

	len = rnd(2) ? 0 : rnd(sizeof(body));
	pattern_fill(body, 0, len);
	begin[1] = (uint8_t)o.role;
	begin[2] = (uint8_t)rnd(2);
	fuzz_record(f, FCGI_BEGIN_REQUEST, id, begin, sizeof(begin));
	bytes_params(&pairs);
	snprintf(number, sizeof(number), "%zu", len);
	bytes_pair(&pairs, "CONTENT_LENGTH", 14, number, strlen(number));
	fuzz_split(f, FCGI_PARAMS, id, pairs.p, pairs.len);
	fuzz_split(f, FCGI_STDIN, id, body, len);
	free(pairs.p);
}

static void
fuzz_garbage(uint8_t *p, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		p[i] = (uint8_t)(rnd(4) ? rnd(256) : rnd(12));
}

/* len bytes of garbage at a random place */
static void
fuzz_insert(struct fuzz_stream *f, size_t len)
{
	size_t at;

	at = rnd((uint32_t)f->b.len + 1);
	bytes_room(&f->b, len);
	memmove(f->b.p + at + len, f->b.p + at, f->b.len - at);
	fuzz_garbage(f->b.p + at, len);
	f->b.len += len;
}

/* Some bytes at a random place are left out. */
static void
fuzz_remove(struct fuzz_stream *f)
{
	size_t at, len;

	at = rnd((uint32_t)f->b.len);
	len = rnd((uint32_t)(f->b.len - at));
	memmove(f->b.p + at, f->b.p + at + len, f->b.len - at - len);
	f->b.len -= len;
}

/* Between two records a second request begins. */
static void
fuzz_nested(struct fuzz_stream *f)
{
	struct bytes copy = { NULL, 0, 0 };

	bytes_add(&copy, f->b.p, f->b.len);
	f->b.len = f->at[rnd((uint32_t)f->n)];
	bytes_begin(&f->b, (int)rnd(3), (int)rnd(5), 1);
	bytes_add(&f->b, copy.p, copy.len);
	free(copy.p);
}

/* Lengths of pairs that fit nowhere. */
static void
fuzz_lengths(struct fuzz_stream *f, int id)
{
	static const uint8_t huge[][9] = {
		{ 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, { 1, 0xff, 0xff, 0xff, 0xff }, { 0xff, 0xff, 0xff, 0xff, 1 },
		{ 0x80, 0x10, 0, 0, 0x80, 0x10, 0, 0 }, { 0x80, 0, 0, 0, 0x80, 0, 0, 0 }, { 0, 0 }, { 0xff }, { 5, 5, 'a' },
	};
	uint32_t i;

	bytes_begin(&f->b, id, FCGI_RESPONDER, (int)rnd(2));
	for (i = rnd(4); i < 5; i++)
		fuzz_record(f, FCGI_PARAMS, id, huge[rnd(sizeof(huge) / sizeof(huge[0]))], 1 + rnd(sizeof(huge[0])));
	if (rnd(2))
		fuzz_record(f, FCGI_PARAMS, id, NULL, 0);
}

/* One stream that is wrong somewhere. */
static void
fuzz_make(struct fuzz_stream *f)
{
	static uint8_t buf[FCGI_MAX_CONTENT];
	uint8_t *h;
	size_t n;
	uint32_t i, kind;
	int id;

	f->b.len = 0;
	f->n = 0;
	id = rnd(4) ? 1 : 1 + (int)rnd(65535);
	fuzz_valid(f, id);
	h = f->b.p + f->at[rnd((uint32_t)f->n)];	/* one of the headers */
	kind = rnd(17);
	if (kind >= 12)
		f->b.len = 0;		/* those have nothing of it */
	switch (kind) {
	case 0:		/* a few bytes changed anywhere */
		for (i = 1 + rnd(8); i > 0; i--)
			f->b.p[rnd((uint32_t)f->b.len)] = (uint8_t)rnd(256);
		break;
	case 1:		/* one bit */
		f->b.p[rnd((uint32_t)f->b.len)] ^= (uint8_t)(1 << rnd(8));
		break;
	case 2:		/* a wrong version */
		h[0] = (uint8_t)rnd(256);
		break;
	case 3:		/* a wrong type */
		h[1] = (uint8_t)rnd(rnd(2) ? 13 : 256);
		break;
	case 4:		/* another id, 0 among them */
		h[2] = 0;
		h[3] = (uint8_t)rnd(3);
		break;
	case 5:		/* a wrong content length */
		h[4] = (uint8_t)rnd(256);
		h[5] = (uint8_t)rnd(256);
		break;
	case 6:		/* a wrong padding length */
		h[6] = (uint8_t)rnd(256);
		break;
	case 7:		/* cut off */
		f->b.len = rnd((uint32_t)f->b.len);
		break;
	case 8:		/* bytes too many */
		fuzz_insert(f, 1 + rnd(300));
		break;
	case 9:		/* bytes too few */
		fuzz_remove(f);
		break;
	case 10:	/* two requests in one another */
		fuzz_nested(f);
		break;
	case 11:	/* more of everything behind it */
		n = 1 + rnd(3000);
		fuzz_garbage(bytes_room(&f->b, n), n);
		f->b.len += n;
		break;
	case 12:	/* nothing but garbage */
		n = 1 + rnd(3000);
		fuzz_garbage(bytes_room(&f->b, n), n);
		f->b.len = n;
		break;
	case 13:	/* garbage in well-formed records */
		for (i = 1 + rnd(40); i > 0; i--) {
			n = rnd(rnd(2) ? 20 : 5000);
			fuzz_garbage(buf, n);
			fuzz_record(f, (int)rnd(13), (int)rnd(4), buf, n);
		}
		break;
	case 14:
		fuzz_lengths(f, id);
		break;
	case 15:	/* more parameters than anybody allows */
		bytes_begin(&f->b, id, FCGI_RESPONDER, 1);
		memset(buf, 'x', 60000);
		n = fcgi_put_pair_header(buf, 1, 59990) + 59991;
		for (i = 0; i < 20; i++)
			fuzz_record(f, FCGI_PARAMS, id, buf, n);
		break;
	case 16:	/* a BEGIN_REQUEST that is none, and what only applications say */
		fuzz_garbage(buf, 100);
		if (rnd(2))
			fuzz_record(f, FCGI_BEGIN_REQUEST, id, buf, rnd(17));
		for (i = 0; i < 5; i++) {
			fuzz_record(f, rnd(2) ? FCGI_STDOUT : FCGI_END_REQUEST, id, buf, rnd(100));
			fuzz_record(f, (int)rnd(20), 0, buf, rnd(100));
		}
		fuzz_valid(f, id);
		break;
	}
}

/* Say it, and hear the answer or none. Returns 'c' closed by the peer, 'e' END_REQUEST, 'o' left open by the peer. */
static int
fuzz_one(const struct fuzz_stream *f, long patience_ms)
{
	static uint8_t buf[65536];
	struct fcgi_reader reader;
	struct fcgi_part part;
	struct pollfd pfd;
	const uint8_t *p;
	size_t at, len, piece;
	int64_t end_ms, quiet_ms;
	ssize_t n;
	int fd, i;
	bool half_close, ended;

	memset(&reader, 0, sizeof(reader));
	fd = open_socket(o.address, false);
	piece = rnd(3) ? 1 << 20 : 1 + rnd(500);
	half_close = rnd(4) == 0;
	at = 0;
	ended = false;
	end_ms = now_ms() + 5000;
	quiet_ms = now_ms() + patience_ms;
	while (!ended && now_ms() < end_ms && (at < f->b.len || now_ms() < quiet_ms)) {
		pfd.fd = fd;
		pfd.events = at < f->b.len ? POLLIN | POLLOUT : POLLIN;
		i = poll(&pfd, 1, (int)patience_ms);
		if (i <= 0 && at < f->b.len)
			break;		/* it takes no more, and says nothing */
		if (i <= 0)
			continue;
		if (pfd.revents & POLLOUT) {
			n = send(fd, f->b.p + at, f->b.len - at < piece ? f->b.len - at : piece, MSG_NOSIGNAL);
			if (n > 0)
				at += (size_t)n;
			else if (errno != EAGAIN)
				at = f->b.len;
			if (at == f->b.len && half_close)
				shutdown(fd, SHUT_WR);
			quiet_ms = now_ms() + patience_ms;
		}
		if (!(pfd.revents & (POLLIN | POLLHUP | POLLERR)))
			continue;
		n = recv(fd, buf, sizeof(buf), 0);
		if (n == 0 || (n == -1 && errno != EAGAIN)) {
			close(fd);
			return 'c';
		}
		p = buf;
		len = n > 0 ? (size_t)n : 0;
		while ((i = fcgi_read(&reader, &p, &len, &part)) == 1)
			ended = ended || part.type == FCGI_END_REQUEST;
		if (i == -1)
			die(EXIT_STATUS, "the answer is not FastCGI");
	}
	close(fd);
	return ended ? 'e' : 'o';
}

static int
mode_fuzz(uint64_t seed, long count)
{
	static struct fuzz_stream f;
	long i, closed, ended, left;

	closed = ended = left = 0;
	for (i = 0; i < count; i++) {
		fuzz_seed(seed, (uint64_t)i);
		fuzz_make(&f);
		switch (fuzz_one(&f, o.read_pause_ms > 0 ? o.read_pause_ms : 20)) {
		case 'c':
			closed++;
			break;
		case 'e':
			ended++;
			break;
		default:
			left++;
		}
	}
	free(f.b.p);
	printf("%ld streams: %ld closed, %ld ended, %ld left open\n", count, closed, ended, left);
	return 0;
}

/* ---- the others, and main ------------------------------------------------------------------------------ */

static int
mode_pattern(uint64_t n)
{
	static uint8_t buf[65536];
	uint64_t at;
	size_t len;

	for (at = 0; at < n; at += len) {
		len = n - at < sizeof(buf) ? (size_t)(n - at) : sizeof(buf);
		pattern_fill(buf, at, len);
		write_all(buf, len);
	}
	return 0;
}

static int
mode_listen(const char *address, char **argv)
{
	int fd;

	fd = open_socket(address, true);
	if (fd != 0) {
		dup2(fd, 0);
		close(fd);
	}
	signal(SIGPIPE, SIG_DFL);
	execvp(argv[0], argv);
	die(EXIT_USAGE, "%s: %s", argv[0], strerror(errno));
}

static int64_t
ms_or_first(const char *arg)
{
	return strcmp(arg, "first") == 0 ? AT_FIRST : atoll(arg);
}

static void
option(int c)
{
	switch (c) {
	case 's': o.address = optarg; break;
	case 'P': param_set("ZFPM_POOL", optarg, strlen(optarg)); break;
	case 'a': param_set("ZFPM_APP", optarg, strlen(optarg)); break;
	case 'k': param_key(optarg); break;
	case 'p': param_option(optarg); break;
	case 'u': param_remove(optarg); break;
	case 'q': param_add_query(optarg); break;
	case 'm': param_set("REQUEST_METHOD", optarg, strlen(optarg)); break;
	case 'r': o.role = VALUE_OF(role_names, optarg); break;
	case 'i': o.id = atoi(optarg); break;
	case 'b': o.body_file = optarg; break;
	case 'B': o.body = true; o.body_len = (uint64_t)atoll(optarg); break;
	case 'D': o.data = true; o.data_len = (uint64_t)atoll(optarg); break;
	case 'l': param_set("CONTENT_LENGTH", optarg, strlen(optarg)); break;
	case 'K': o.keep = true; break;
	case 'n': o.requests = atoi(optarg); o.keep = o.keep || o.requests > 1; break;
	case 't': o.timeout_ms = (int64_t)(atof(optarg) * 1000); break;
	case 'c': o.content_max = (size_t)atol(optarg); break;
	case 'z': o.padding = atoi(optarg) & 255; break;
	case '4': o.long_lengths = true; break;
	case 'S': o.split = (size_t)atol(optarg); break;
	case 'd': o.send_pause_ms = atol(optarg); break;
	case 'w':
		o.read_pause_ms = atol(optarg);
		o.read_size = strchr(optarg, ':') == NULL ? 4096 : (size_t)atol(strchr(optarg, ':') + 1);
		break;
	case 'W': o.read_after_ms = atol(optarg); break;
	case 'T': o.truncate_at = atoll(optarg); break;
	case 'Y': o.stop_at = atoll(optarg); break;
	case 'H': o.half_close = true; break;
	case 'A': o.abort_ms = ms_or_first(optarg); break;
	case 'X': o.close_ms = ms_or_first(optarg); break;
	case '2': o.second_begin = true; break;
	case 'g': o.management = true; break;
	case 'O': o.body_only = true; break;
	case 'C': o.sum = true; break;
	case 'E': o.until_closed = true; break;
	case 'v': o.verbose = true; break;
	case 'x': o.is_hex = true; break;
	default:
		exit(EXIT_USAGE);
	}
}

/* Options, before, between and behind the other words; these come to the front. Returns how many they are. */
static int
options(int argc, char **argv)
{
	int c, n;

	n = 0;
	while (optind < argc) {
		c = getopt(argc, argv, "+s:P:a:k:p:u:q:m:r:i:b:B:D:l:Kn:t:c:z:4S:d:w:W:T:Y:HA:X:2gOCEvx");
		if (c != -1)
			option(c);
		else if (optind < argc)
			argv[n++] = argv[optind++];
	}
	return n;
}

/* How long the body is must be known before its first byte is sent. */
static void
measure_body(void)
{
	const struct param *p;
	char number[32];
	off_t size;
	int fd;

	if (o.body_file != NULL) {
		o.body = true;
		fd = strcmp(o.body_file, "-") == 0 ? 0 : open(o.body_file, O_RDONLY);
		size = fd == -1 ? -1 : lseek(fd, 0, SEEK_END);
		if (size == -1)
			die(EXIT_USAGE, "%s: not a file with a size", o.body_file);
		lseek(fd, 0, SEEK_SET);
		if (fd != 0)
			close(fd);
		o.body_len = (uint64_t)size;
	}
	p = param_find("CONTENT_LENGTH");
	if (p != NULL && strcmp(p->value, "none") == 0) {
		param_remove("CONTENT_LENGTH");
	} else if (p == NULL && o.body) {
		snprintf(number, sizeof(number), "%llu", (unsigned long long)o.body_len);
		param_set("CONTENT_LENGTH", number, strlen(number));
	}
	if (o.body && strcmp(param_find("REQUEST_METHOD") == NULL ? "" : param_find("REQUEST_METHOD")->value, "GET") == 0)
		param_set("REQUEST_METHOD", "POST", 4);
}

int
main(int argc, char **argv)
{
	static const char *const modes[] = { "", "raw", "script", "values", "fuzz", "pattern", "listen" };
	enum { REQUEST, RAW, SCRIPT, VALUES, FUZZ, PATTERN, LISTEN };
	uint64_t seed;
	long count;
	int mode, i;

	signal(SIGPIPE, SIG_IGN);
	cksum_init();
	param_defaults();
	for (mode = REQUEST, i = RAW; i <= LISTEN && argc > 1; i++)
		if (strcmp(argv[1], modes[i]) == 0)
			mode = i;
	if (mode != REQUEST) {
		argv++;
		argc--;
	}
	if (mode == PATTERN && argc == 2)
		return mode_pattern((uint64_t)atoll(argv[1]));
	if (mode == LISTEN && argc > 2)
		return mode_listen(argv[1], argv + 2);
	if (argc > 1 && argv[1][0] != '-') {
		o.address = argv[1];
		argv++;
		argc--;
	}
	seed = 0;
	count = 0;
	if (mode == FUZZ && argc > 2) {
		seed = (uint64_t)atoll(argv[1]);
		count = atol(argv[2]);
		argv += 2;
		argc -= 2;
	}
	argc = options(argc, argv);
	if (o.address == NULL || mode == PATTERN || mode == LISTEN || o.content_max == 0 || o.content_max > FCGI_MAX_CONTENT)
		die(EXIT_USAGE, "usage: client [MODE] ADDRESS [options]; see the top of client.c");
	if (mode == VALUES)
		return mode_values(argc, argv);
	for (; argc > 0; argc--, argv++)
		param_add_query(*argv);
	measure_body();
	switch (mode) {
	case RAW:
		return mode_raw();
	case SCRIPT:
		return mode_script();
	case FUZZ:
		return mode_fuzz(seed, count);
	default:
		return mode_request();
	}
}
