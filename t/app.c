/*
 * app.c: the test suite's FastCGI application. It listens on descriptor 0, as
 * zfpm starts it, and does what the request's QUERY_STRING asks for. It is as
 * strict as php-cgi about what a relay sends: a name-value pair that straddles
 * two PARAMS records though one could hold it, padding after an empty record, or
 * a record that is longer than 65,535 bytes with its padding make it say so on
 * descriptor 2 and close.
 *
 * app [options]
 *   -c N          serve N connections at a time, a thread each (1)
 *   -n N          exit with status 0 after N requests
 *   -g            on SIGTERM finish the running request, then exit 0, as PHP does
 *   -l            the same, but it does not get to know of the first SIGTERM, as one that was about to accept()
 *   -I            ignore SIGTERM
 *   -w TEXT       write TEXT as a line to descriptor 2 at start
 *   -o FILE       append "start PID" to FILE at start
 *   -s MS         wait so long before the first accept()
 *   -i MS         close a connection on which no request begins for so long
 *   -f N          fork N processes at start that only sleep
 *   --start-fail N    exit with status N at start (-w and -o come first)
 *   --no-accept       never accept a connection
 *   WORD              nothing; it is to be seen in the report
 *
 * QUERY_STRING: key=value&key&..., %XX is decoded.
 * What comes back (default: a report of process, environment, parameters and body, a line each)
 *   out=N         N bytes of the pattern (pattern.h)
 *   echo          the request's body, each piece as it comes
 *   show=NAME     the value of one parameter, nothing else
 *   code=N        a Status header; header=LINE one more header; noheaders: no headers at all
 *   stderr=TEXT   a line of FCGI_STDERR before the headers, stderr-n=N times; stderr-end: after the body
 *   status=N      appStatus of END_REQUEST; pstatus=N its protocolStatus
 * How the body is read (default: all of it before the first byte is answered)
 *   noread        not at all
 *   early=N       after the headers and N bytes of `out`
 *   slowread=MS   with such a pause after every 64K at most; read=N: after every N bytes
 * How the response is sent
 *   record=N      content of a record at most (8192); big: 65535
 *   split=N       in writes of N bytes (1)
 *   pad=N         padding of every record; pad-empty: of the empty ones too
 *   emptystdout   with the end of the STDOUT stream, which PHP never sends
 *   pause=MS      between two records
 *   noend         without END_REQUEST, and the connection stays open, KEEP_CONN or not
 *   closeafter    and the connection is closed, whatever KEEP_CONN says
 *   ignore-abort  goes on when the connection is gone (PHP's ignore_user_abort)
 * What happens, and when
 *   at=POINT      start (default: parameters read), body (body read too), headers (sent), mid (half of the
 *                 output sent), record (in the midst of a record of 1,000 bytes more), end (all but
 *                 END_REQUEST sent), after (END_REQUEST too)
 *   sleep=S, spin=S           wait idly, or with the processor (fractions are allowed)
 *   note=FILE                 append "POINT PID" to FILE; "cut PID" is appended where the body stops short
 *   log=TEXT, log-n=N         lines to descriptor 2
 *   partial=TEXT              to descriptor 2 without the end of the line
 *   rubbish, badversion, wrongid, unknown   send garbage; a record of version 2; of another id; of type 99
 *   endless                   output until the connection breaks
 *   hang                      never another byte
 *   exit=N, signal=N, close   end so
 * What it tries, one line of the report each
 *   fds           its open descriptors, but for the connection's
 *   open=PATH, connect=PATH, setuid=N, kill=PID, mem=N (megabytes), fork=S (a process that sleeps S seconds)
 */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include <sys/types.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
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

#define IN_SIZE		65536

extern char **environ;

struct pair {			/* a parameter, or an option of the query string */
	struct pair	*next;
	char		*name;
	char		*value;
	size_t		 value_len;
};

struct text {			/* grows; what a report is put together in */
	char		*p;
	size_t		 len, room;
};

struct conn {
	int		 fd;
	long		 serial;	/* of the connection, in this process */
	long		 requests;	/* on this connection */
	struct fcgi_reader reader;
	uint8_t		 in[IN_SIZE];
	const uint8_t	*in_p;
	size_t		 in_len;
	size_t		 in_max;	/* bytes that one read() takes at most */
	/* the request */
	long		 number;	/* of the request, in this process */
	uint16_t	 id;
	int		 role;
	bool		 keep;
	struct pair	*params;
	struct pair	*options;
	int		 params_records, body_records;
	size_t		 body_record_max;
	struct cksum	 body, data;	/* STDIN and DATA so far */
	bool		 body_end;	/* the last stream that the role has is at its end */
	bool		 stdin_end;
	bool		 aborted;	/* FCGI_ABORT_REQUEST came */
	/* the response */
	size_t		 record_max, split;
	int		 padding;
	bool		 pad_empty, ignore_abort;
	long		 pause_ms;
	bool		 broken;	/* a write failed */
};

static int	 argc_at_start;
static char	**argv_at_start;
static char	 signals_at_start[512];
static long	 idle_ms = -1;
static long	 max_requests;
static long	 connections, requests;		/* under lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile sig_atomic_t leaving, term_lost;

static void
say(const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	line[n++] = '\n';
	if (write(2, line, (size_t)n) == -1)
		return;		/* nobody listens; there is nobody else to tell */
}

static void
die(const char *what)
{
	say("app: %s: %s", what, strerror(errno));
	exit(111);
}

static void *
need(size_t n)
{
	void *p;

	p = malloc(n > 0 ? n : 1);
	if (p == NULL)
		die("malloc");
	return p;
}

static void
text_bytes(struct text *t, const char *p, size_t len)
{
	if (t->len + len > t->room) {
		t->room = t->room * 2 + len + 1024;
		t->p = realloc(t->p, t->room);
		if (t->p == NULL)
			die("realloc");
	}
	memcpy(t->p + t->len, p, len);
	t->len += len;
}

static void
wait_ms(double ms)
{
	struct timespec ts;

	ts.tv_sec = (time_t)(ms / 1000);
	ts.tv_nsec = (long)((ms - (double)ts.tv_sec * 1000) * 1e6);
	while (nanosleep(&ts, &ts) == -1 && errno == EINTR)
		continue;
}

static void
append_line(const char *file, const char *what)
{
	char line[128];
	int fd, n;

	n = snprintf(line, sizeof(line), "%s %ld\n", what, (long)getpid());
	fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (fd == -1 || write(fd, line, (size_t)n) != n)
		say("app: %s: %s", file, strerror(errno));
	if (fd != -1)
		close(fd);
}

/* ---- parameters and options ---------------------------------------------------- */

static void
pair_add(struct pair **list, const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len)
{
	struct pair *p;

	p = need(sizeof(*p));
	p->name = need(name_len + 1);
	memcpy(p->name, name, name_len);
	p->name[name_len] = '\0';
	p->value = need(value_len + 1);
	memcpy(p->value, value, value_len);
	p->value[value_len] = '\0';
	p->value_len = value_len;
	p->next = NULL;
	while (*list != NULL)
		list = &(*list)->next;
	*list = p;
}

static void
pairs_free(struct pair **list)
{
	struct pair *p;

	while ((p = *list) != NULL) {
		*list = p->next;
		free(p->name);
		free(p->value);
		free(p);
	}
}

static const struct pair *
pair_find(const struct pair *p, const char *name)
{
	while (p != NULL && strcmp(p->name, name) != 0)
		p = p->next;
	return p;
}

static int
hex(int c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static size_t
decode(char *s, size_t len)
{
	size_t i, n;

	for (n = i = 0; i < len; i++) {
		if (s[i] == '%' && i + 2 < len && hex(s[i + 1]) >= 0 && hex(s[i + 2]) >= 0) {
			s[n++] = (char)(hex(s[i + 1]) << 4 | hex(s[i + 2]));
			i += 2;
		} else {
			s[n++] = s[i] == '+' ? ' ' : s[i];
		}
	}
	return n;
}

static void
read_options(struct conn *c)
{
	const struct pair *q;
	char *copy, *s, *end, *eq;
	size_t value_len;

	q = pair_find(c->params, "QUERY_STRING");
	if (q == NULL)
		return;
	copy = need(q->value_len + 1);
	memcpy(copy, q->value, q->value_len + 1);
	for (s = copy; *s != '\0'; s = *end == '\0' ? end : end + 1) {
		end = s + strcspn(s, "&");
		eq = memchr(s, '=', (size_t)(end - s));
		value_len = eq == NULL ? 0 : decode(eq + 1, (size_t)(end - eq - 1));
		pair_add(&c->options, (uint8_t *)s, (size_t)((eq == NULL ? end : eq) - s),
		    (uint8_t *)(eq == NULL ? end : eq + 1), value_len);
	}
	free(copy);
}

/* The value of an option, "" if it has none, NULL if it is not there. */
static const char *
option(const struct conn *c, const char *name)
{
	const struct pair *p;

	p = pair_find(c->options, name);
	return p == NULL ? NULL : p->value;
}

static bool
given(const struct conn *c, const char *name)
{
	return pair_find(c->options, name) != NULL;
}

static long long
number(const struct conn *c, const char *name, long long otherwise)
{
	const char *s;

	s = option(c, name);
	return s == NULL || *s == '\0' ? otherwise : atoll(s);
}

/* ---- the connection ---------------------------------------------------------------- */

static void
put_bytes(struct conn *c, const uint8_t *p, size_t len)
{
	size_t piece;
	ssize_t n;

	while (len > 0 && !c->broken) {
		piece = c->split > 0 && c->split < len ? c->split : len;
		n = send(c->fd, p, piece, MSG_NOSIGNAL);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1) {
			c->broken = true;
			return;
		}
		p += n;
		len -= (size_t)n;
	}
}

static void
put_record(struct conn *c, int version, int type, uint16_t id, const void *content, size_t len)
{
	static const uint8_t zeros[256];
	uint8_t buf[FCGI_HEADER_LEN + FCGI_MAX_CONTENT + 255];
	size_t padding, n;

	padding = len > 0 || c->pad_empty ? (size_t)c->padding : 0;
	n = fcgi_put_header(buf, type, id, (uint16_t)len, (uint8_t)padding);
	buf[0] = (uint8_t)version;
	if (len > 0)
		memcpy(buf + n, content, len);
	memcpy(buf + n + len, zeros, padding);
	put_bytes(c, buf, n + len + padding);
}

static void
put_stream(struct conn *c, int type, const void *content, size_t len)
{
	const uint8_t *p;
	size_t n;

	for (p = content; len > 0 && !c->broken; p += n, len -= n) {
		n = len < c->record_max ? len : c->record_max;
		put_record(c, FCGI_VERSION_1, type, c->id, p, n);
		if (c->pause_ms > 0)
			wait_ms((double)c->pause_ms);
	}
}

/* Wait for bytes; the connection's own limit holds only between two requests. */
static bool
fill(struct conn *c, bool between)
{
	struct pollfd pfd;
	ssize_t n;

	for (;;) {
		if (between && (idle_ms >= 0 || leaving)) {
			pfd.fd = c->fd;
			pfd.events = POLLIN;
			if (poll(&pfd, 1, leaving ? 0 : (int)idle_ms) == 0)
				return false;
		}
		n = read(c->fd, c->in, c->in_max);
		if (n == -1 && errno == EINTR && !(between && leaving))
			continue;
		if (n <= 0)
			return false;
		c->in_p = c->in;
		c->in_len = (size_t)n;
		return true;
	}
}

/* The next part of a record; false where the connection ends, or is to be given up. */
static bool
next_part(struct conn *c, struct fcgi_part *part, bool between)
{
	size_t padding;
	int i;

	while ((i = fcgi_read(&c->reader, &c->in_p, &c->in_len, part)) == 0) {
		if (!fill(c, between && fcgi_at_boundary(&c->reader)))
			return false;
	}
	if (i == -1) {
		say("app: not FastCGI");
		return false;
	}
	if (!part->last)
		return true;
	padding = part->padding_len > 0 ? part->padding_len : c->reader.padding_left;
	if (padding > 0 && part->content_len == 0) {
		say("app: an empty record of type %d has padding", part->type);
		return false;
	}
	if (part->content_len + padding > FCGI_MAX_CONTENT) {
		say("app: content and padding of a record are more than 65535 bytes");
		return false;
	}
	return true;
}

/* Collect the record that begins with *part, at most max bytes. */
static bool
whole_record(struct conn *c, struct fcgi_part *part, uint8_t *buf, size_t max, size_t *len)
{
	*len = 0;
	for (;;) {
		if (part->len > max - *len)
			return false;
		memcpy(buf + *len, part->data, part->len);
		*len += part->len;
		if (part->last)
			return true;
		if (!next_part(c, part, false))
			return false;
	}
}

/* A record with the id 0, valid at any time (4). */
static bool
management(struct conn *c, struct fcgi_part *part)
{
	uint8_t buf[FCGI_MAX_CONTENT], reply[64];
	size_t len;
	uint8_t type;

	type = part->type;
	if (!whole_record(c, part, buf, sizeof(buf), &len))
		return false;
	if (type == FCGI_GET_VALUES) {
		len = fcgi_put_pair(reply, "FCGI_MPXS_CONNS", 15, "0", 1);
		put_record(c, FCGI_VERSION_1, FCGI_GET_VALUES_RESULT, 0, reply, len);
	} else {
		len = fcgi_put_unknown_type(reply, type);
		put_bytes(c, reply, len);
	}
	return !c->broken;
}

static bool
wait_for_begin(struct conn *c)
{
	struct fcgi_part part;
	uint8_t body[FCGI_BODY_LEN];
	size_t len;

	while (next_part(c, &part, true)) {
		if (part.id == 0) {
			if (!management(c, &part))
				return false;
		} else if (part.type == FCGI_BEGIN_REQUEST) {
			c->id = part.id;
			if (!whole_record(c, &part, body, sizeof(body), &len) || len != FCGI_BODY_LEN) {
				say("app: a BEGIN_REQUEST that is none");
				return false;
			}
			c->role = body[0] << 8 | body[1];
			c->keep = body[2] & FCGI_KEEP_CONN;
			return true;
		}
		/* anything else belongs to a request that has ended */
	}
	return false;
}

/*
 * Take the pairs of one record, which come behind what an earlier record left:
 * the beginning of a pair that no record can hold. Any other must be whole.
 */
static bool
take_pairs(struct conn *c, struct text *t)
{
	struct fcgi_pair pair;
	size_t at;

	for (at = 0; at < t->len; at += pair.size) {
		if (fcgi_pair_get((uint8_t *)t->p + at, t->len - at, INT32_MAX, &pair) == 1) {
			pair_add(&c->params, pair.name, pair.name_len, pair.value, pair.value_len);
		} else if (pair.size > FCGI_MAX_CONTENT) {
			break;
		} else {
			say("app: a pair straddles two records");
			return false;
		}
	}
	memmove(t->p, t->p + at, t->len - at);
	t->len -= at;
	return true;
}

static bool
read_params(struct conn *c)
{
	struct text t = { NULL, 0, 0 };
	struct fcgi_part part;
	bool good;

	while ((good = next_part(c, &part, false))) {
		if (part.id == 0) {
			if (!management(c, &part)) {
				good = false;
				break;
			}
			continue;
		}
		if (part.id != c->id)
			continue;
		if (part.type == FCGI_ABORT_REQUEST) {
			c->aborted = true;
			break;
		}
		if (part.type != FCGI_PARAMS || (part.len == 0 && t.len > 0)) {
			say("app: type %d among the parameters", part.type);
			good = false;
			break;
		}
		if (part.len == 0)
			break;
		c->params_records += part.first;
		text_bytes(&t, (const char *)part.data, part.len);
		if (part.last && !take_pairs(c, &t)) {
			good = false;
			break;
		}
	}
	free(t.p);
	return good;
}

/* Read on in the request's body: 1 and a piece of it, 0 at its end, -1 where the connection ends before. */
static int
read_body(struct conn *c, struct fcgi_part *part)
{
	while (!c->body_end) {
		if (!next_part(c, part, false))
			return -1;
		if (part->id == 0) {
			if (!management(c, part))
				return -1;
		} else if (part->id == c->id && part->type == FCGI_ABORT_REQUEST) {
			c->aborted = true;
			return -1;
		} else if (part->id == c->id && part->type == FCGI_STDIN && !c->stdin_end) {
			if (part->content_len == 0) {
				c->stdin_end = true;
				c->body_end = c->role != FCGI_FILTER;
				continue;
			}
			c->body_records += part->first;
			if (part->content_len > c->body_record_max)
				c->body_record_max = part->content_len;
			cksum_add(&c->body, part->data, part->len);
			return 1;
		} else if (part->id == c->id && part->type == FCGI_DATA && c->stdin_end) {
			if (part->content_len == 0) {
				c->body_end = true;
				continue;
			}
			cksum_add(&c->data, part->data, part->len);
			return 1;
		}
	}
	return 0;
}

/* ---- the report --------------------------------------------------------------------- */

static void
text_line(struct text *t, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	text_bytes(t, line, n < (int)sizeof(line) ? (size_t)n : sizeof(line) - 1);
	text_bytes(t, "\n", 1);
}

/* Control characters come as \xHH, so that a line stays one. */
static void
text_escaped(struct text *t, const char *s, size_t len)
{
	char escaped[5];
	size_t i;

	for (i = 0; i < len; i++) {
		if ((unsigned char)s[i] >= ' ' && s[i] != 127) {
			text_bytes(t, s + i, 1);
		} else {
			snprintf(escaped, sizeof(escaped), "\\x%02x", (unsigned char)s[i]);
			text_bytes(t, escaped, 4);
		}
	}
}

static void
report_limits(struct text *t)
{
	static const struct { const char *name; int resource; } limits[] = {
		{ "as", RLIMIT_AS }, { "core", RLIMIT_CORE }, { "cpu", RLIMIT_CPU }, { "data", RLIMIT_DATA },
		{ "fsize", RLIMIT_FSIZE }, { "nofile", RLIMIT_NOFILE }, { "stack", RLIMIT_STACK },
#ifdef RLIMIT_NPROC
		{ "nproc", RLIMIT_NPROC },
#endif
	};
	char soft[32], hard[32];
	struct rlimit l;
	size_t i;

	for (i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		if (getrlimit(limits[i].resource, &l) == -1)
			continue;
		snprintf(soft, sizeof(soft), "%llu", (unsigned long long)l.rlim_cur);
		snprintf(hard, sizeof(hard), "%llu", (unsigned long long)l.rlim_max);
		text_line(t, "rlimit %s %s %s", limits[i].name, l.rlim_cur == RLIM_INFINITY ? "unlimited" : soft,
		    l.rlim_max == RLIM_INFINITY ? "unlimited" : hard);
	}
}

static void
report_process(struct text *t)
{
	char buf[1024], *p;
	gid_t groups[256];
	mode_t mask;
	int i, n;

	text_line(t, "pid %ld", (long)getpid());
	text_line(t, "ppid %ld", (long)getppid());
	text_line(t, "sid %ld", (long)getsid(0));
	text_line(t, "pgrp %ld", (long)getpgrp());
	text_line(t, "uid %ld", (long)getuid());
	text_line(t, "euid %ld", (long)geteuid());
	text_line(t, "gid %ld", (long)getgid());
	text_line(t, "egid %ld", (long)getegid());
	n = getgroups(256, groups);
	strcpy(buf, "groups");
	p = buf + strlen(buf);
	for (i = 0; i < n && p < buf + sizeof(buf) - 32; i++)
		p += sprintf(p, " %ld", (long)groups[i]);
	text_line(t, "%s", buf);
	text_line(t, "cwd %s", getcwd(buf, sizeof(buf)) == NULL ? strerror(errno) : buf);
	mask = umask(077);
	umask(mask);
	text_line(t, "umask %04o", (unsigned)mask);
	text_line(t, "nice %d", getpriority(PRIO_PROCESS, 0));
	text_line(t, "signals%s", signals_at_start);
	for (i = 0; i < argc_at_start; i++)
		text_line(t, "arg %d %s", i, argv_at_start[i]);
	report_limits(t);
	for (i = 0; environ[i] != NULL; i++) {
		text_bytes(t, "env ", 4);
		text_escaped(t, environ[i], strlen(environ[i]));
		text_bytes(t, "\n", 1);
	}
}

static void
report_fds(struct conn *c, struct text *t)
{
	struct stat st;
	socklen_t len;
	int fd, listening;

	for (fd = 0; fd < 1024; fd++) {
		if (fd == c->fd || fstat(fd, &st) == -1)
			continue;
		listening = 0;
		len = sizeof(listening);
		if (S_ISSOCK(st.st_mode))
			getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len);
		text_line(t, "fd %d %s", fd, listening ? "listening socket" : S_ISSOCK(st.st_mode) ? "socket" :
		    S_ISFIFO(st.st_mode) ? "pipe" : S_ISCHR(st.st_mode) ? "device" : S_ISDIR(st.st_mode) ? "directory" : "file");
	}
}

static const char *
try_connect(const char *path)
{
	struct sockaddr_un sun;
	int fd, i;

	memset(&sun, 0, sizeof(sun));
	sun.sun_family = AF_UNIX;
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd == -1)
		return strerror(errno);
	i = connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == -1 ? errno : 0;
	close(fd);
	return i == 0 ? "ok" : strerror(i);
}

static void
report_attempts(struct conn *c, struct text *t)
{
	const char *s;
	char *mem;
	size_t n;
	pid_t pid;
	int fd, i;

	if (given(c, "fds"))
		report_fds(c, t);
	if ((s = option(c, "open")) != NULL) {
		fd = open(s, O_RDONLY | O_CLOEXEC);
		text_line(t, "open %s: %s", s, fd == -1 ? strerror(errno) : "ok");
		if (fd != -1)
			close(fd);
	}
	if ((s = option(c, "connect")) != NULL)
		text_line(t, "connect %s: %s", s, try_connect(s));
	if ((s = option(c, "setuid")) != NULL) {
		i = setuid((uid_t)atol(s));
		text_line(t, "setuid %s: %s", s, i == -1 ? strerror(errno) : "ok");
	}
	if ((s = option(c, "kill")) != NULL) {
		i = kill((pid_t)atol(s), 0);
		text_line(t, "kill %s: %s", s, i == -1 ? strerror(errno) : "ok");
	}
	if ((s = option(c, "mem")) != NULL) {
		n = (size_t)atol(s) << 20;
		mem = malloc(n);
		if (mem != NULL)
			memset(mem, 1, n);
		text_line(t, "mem %s: %s", s, mem == NULL ? strerror(errno) : "ok");
		free(mem);
	}
	if ((s = option(c, "fork")) != NULL) {
		pid = fork();
		if (pid == 0) {
			wait_ms(atof(s) * 1000);
			_exit(0);
		}
		text_line(t, "fork %ld", (long)pid);
	}
}

static void
report(struct conn *c, struct text *t)
{
	const struct pair *p;

	report_process(t);
	for (p = c->params; p != NULL; p = p->next) {
		text_bytes(t, "param ", 6);
		text_escaped(t, p->name, strlen(p->name));
		text_bytes(t, "=", 1);
		text_escaped(t, p->value, p->value_len);
		text_bytes(t, "\n", 1);
	}
	text_line(t, "role %d", c->role);
	text_line(t, "keep %d", c->keep);
	text_line(t, "connection %ld", c->serial);
	text_line(t, "request %ld", c->requests);
	text_line(t, "total %ld", c->number);
	text_line(t, "records %d %d %zu", c->params_records, c->body_records, c->body_record_max);
	text_line(t, "stdin %llu %lu", (unsigned long long)c->body.len, (unsigned long)cksum_value(&c->body));
	text_line(t, "data %llu %lu", (unsigned long long)c->data.len, (unsigned long)cksum_value(&c->data));
	report_attempts(c, t);
}

/* ---- what happens, and when -------------------------------------------------------- */

static void
do_endless(struct conn *c)
{
	uint8_t buf[8192];
	uint64_t at;

	for (at = 0; !c->broken; at += sizeof(buf)) {
		pattern_fill(buf, at, sizeof(buf));
		put_stream(c, FCGI_STDOUT, buf, sizeof(buf));
	}
}

static void
do_spin(double seconds)
{
	struct timespec start, now;

	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9 < seconds);
}

/* A record of 1,000 bytes, of which the first 10 are sent now and the others later, if at all. */
static void
half_record(struct conn *c, bool second_half)
{
	uint8_t buf[FCGI_HEADER_LEN + 1000];

	fcgi_put_header(buf, FCGI_STDOUT, c->id, 1000, 0);
	pattern_fill(buf + FCGI_HEADER_LEN, 0, 1000);
	if (second_half)
		put_bytes(c, buf + FCGI_HEADER_LEN + 10, 990);
	else
		put_bytes(c, buf, FCGI_HEADER_LEN + 10);
}

/* The request has come to a point: do what was asked for there. False if that ends the connection. */
static bool
at(struct conn *c, const char *point)
{
	static const char rubbish[] = "HTTP/1.1 200 OK\r\n\r\nthis is not FastCGI at all\n";
	const char *wanted, *s;
	long long n;

	wanted = option(c, "at");
	if (strcmp(wanted == NULL ? "start" : wanted, point) == 0) {
		if (strcmp(point, "record") == 0)
			half_record(c, false);
		if ((s = option(c, "sleep")) != NULL)
			wait_ms(atof(s) * 1000);
		if ((s = option(c, "spin")) != NULL)
			do_spin(atof(s));
		if ((s = option(c, "note")) != NULL)
			append_line(s, point);
		if ((s = option(c, "log")) != NULL)
			for (n = number(c, "log-n", 1); n > 0; n--)
				say("%s", s);
		if ((s = option(c, "partial")) != NULL && write(2, s, strlen(s)) == -1)
			return false;
		if (given(c, "rubbish"))
			put_bytes(c, (const uint8_t *)rubbish, sizeof(rubbish) - 1);
		if (given(c, "badversion"))
			put_record(c, 2, FCGI_STDOUT, c->id, rubbish, 10);
		if (given(c, "wrongid"))
			put_record(c, FCGI_VERSION_1, FCGI_STDOUT, (uint16_t)(c->id + 1), rubbish, 10);
		if (given(c, "unknown"))
			put_record(c, FCGI_VERSION_1, 99, c->id, rubbish, 10);
		if (given(c, "endless"))
			do_endless(c);
		while (given(c, "hang"))
			wait_ms(3600000);
		if (given(c, "exit"))
			exit((int)number(c, "exit", 0));
		if (given(c, "signal")) {
			signal((int)number(c, "signal", SIGKILL), SIG_DFL);
			raise((int)number(c, "signal", SIGKILL));
		}
		if (given(c, "close"))
			return false;
		if (strcmp(point, "record") == 0)
			half_record(c, true);
	}
	return !c->broken || c->ignore_abort;
}

/* ---- the response --------------------------------------------------------------------- */

static void
put_stderr(struct conn *c)
{
	const char *s;
	char *line;
	long long n;
	size_t len;

	if ((s = option(c, "stderr")) == NULL)
		return;
	len = strlen(s) + 1;
	line = need(len + 1);
	snprintf(line, len + 1, "%s\n", s);
	for (n = number(c, "stderr-n", 1); n > 0; n--)
		put_stream(c, FCGI_STDERR, line, len);
	free(line);
}

static void
put_headers(struct conn *c)
{
	char line[1024];
	const char *s;
	int n;

	if (given(c, "noheaders"))
		return;
	n = 0;
	if ((s = option(c, "code")) != NULL)
		n += snprintf(line + n, sizeof(line) - (size_t)n, "Status: %.100s\r\n", s);
	else if (c->role == FCGI_AUTHORIZER)
		n += snprintf(line + n, sizeof(line) - (size_t)n, "Status: 200 OK\r\nVariable-ZFPM_TEST: authorized\r\n");
	if ((s = option(c, "header")) != NULL)
		n += snprintf(line + n, sizeof(line) - (size_t)n, "%.600s\r\n", s);
	n += snprintf(line + n, sizeof(line) - (size_t)n, "Content-Type: text/plain\r\n\r\n");
	put_stream(c, FCGI_STDOUT, line, (size_t)n);
}

/* Bytes from..to of the pattern. */
static void
put_pattern(struct conn *c, uint64_t from, uint64_t to)
{
	uint8_t buf[FCGI_MAX_CONTENT];
	size_t n;

	for (; from < to && !c->broken; from += n) {
		n = to - from < c->record_max ? (size_t)(to - from) : c->record_max;
		pattern_fill(buf, from, n);
		put_stream(c, FCGI_STDOUT, buf, n);
	}
}

/* Read the body to its end; with echo each piece goes back as it comes. */
static bool
take_body(struct conn *c)
{
	struct fcgi_part part;
	const char *s;
	bool echo;
	long pause;
	int i;

	echo = given(c, "echo");
	pause = (long)number(c, "slowread", 0);
	c->in_max = (size_t)number(c, "read", IN_SIZE);
	if (c->in_max == 0 || c->in_max > IN_SIZE)
		c->in_max = IN_SIZE;
	while ((i = read_body(c, &part)) == 1) {
		if (echo)
			put_stream(c, FCGI_STDOUT, part.data, part.len);
		if (c->broken && !c->ignore_abort)
			return false;
		if (pause > 0 && c->in_len == 0)
			wait_ms((double)pause);
	}
	c->in_max = IN_SIZE;
	if (i == -1 && (s = option(c, "note")) != NULL)
		append_line(s, "cut");
	return i == 0;
}

/*
 * Answer the request whose parameters have been read, up to where END_REQUEST
 * follows. False if the connection ends here.
 */
static bool
answer(struct conn *c)
{
	const struct pair *p;
	struct text t = { NULL, 0, 0 };
	uint64_t out, early, half;
	bool good;

	out = (uint64_t)number(c, "out", 0);
	early = (uint64_t)number(c, "early", 0);
	if (early > out)
		early = out;
	half = early > out / 2 ? early : out / 2;
	if (!at(c, "start"))
		return false;
	if (given(c, "noread") || c->role == FCGI_AUTHORIZER)
		c->body_end = true;
	if (given(c, "early") || given(c, "echo")) {
		put_stderr(c);
		put_headers(c);
		put_pattern(c, 0, early);
		if (!at(c, "headers") || !take_body(c) || !at(c, "body"))
			return false;
	} else {
		if (!given(c, "stderr-end"))
			put_stderr(c);
		if (!take_body(c) || !at(c, "body"))
			return false;
		put_headers(c);
		if (!at(c, "headers"))
			return false;
	}
	if (given(c, "out") || given(c, "early")) {
		put_pattern(c, early, half);
		if (!at(c, "mid") || !at(c, "record"))
			return false;
		put_pattern(c, half, out);
	} else if (given(c, "show")) {
		p = pair_find(c->params, option(c, "show"));
		if (p != NULL)
			put_stream(c, FCGI_STDOUT, p->value, p->value_len);
	} else if (!given(c, "echo")) {
		report(c, &t);
		put_stream(c, FCGI_STDOUT, t.p, t.len / 2);
		good = at(c, "mid") && at(c, "record");
		if (good)
			put_stream(c, FCGI_STDOUT, t.p + t.len / 2, t.len - t.len / 2);
		free(t.p);
		if (!good)
			return false;
	}
	if (given(c, "stderr-end"))
		put_stderr(c);
	if (given(c, "emptystdout"))
		put_record(c, FCGI_VERSION_1, FCGI_STDOUT, c->id, NULL, 0);
	return at(c, "end");
}

static void
put_end(struct conn *c)
{
	uint8_t buf[FCGI_HEADER_LEN + FCGI_BODY_LEN];
	size_t n;

	n = fcgi_put_end(buf, c->id, (uint32_t)number(c, "status", 0), (int)number(c, "pstatus", FCGI_REQUEST_COMPLETE));
	put_bytes(c, buf, n);
}

/* One request from BEGIN_REQUEST to END_REQUEST. False if the connection ends with it. */
static bool
serve_request(struct conn *c)
{
	bool good;

	c->params_records = c->body_records = 0;
	c->body_record_max = 0;
	memset(&c->body, 0, sizeof(c->body));
	memset(&c->data, 0, sizeof(c->data));
	c->body_end = c->stdin_end = c->aborted = false;
	c->split = 0;
	c->pause_ms = 0;
	c->padding = 0;
	c->pad_empty = c->ignore_abort = false;
	c->record_max = 8192;
	if (!wait_for_begin(c))
		return false;
	pthread_mutex_lock(&lock);
	c->number = ++requests;
	pthread_mutex_unlock(&lock);
	c->requests++;

	good = read_params(c);
	if (good && !c->aborted) {
		read_options(c);
		c->record_max = given(c, "big") ? FCGI_MAX_CONTENT : (size_t)number(c, "record", 8192);
		if (c->record_max == 0 || c->record_max > FCGI_MAX_CONTENT)
			c->record_max = FCGI_MAX_CONTENT;
		c->split = given(c, "split") ? (size_t)number(c, "split", 1) : 0;
		c->padding = (int)number(c, "pad", 0) & 255;
		c->pad_empty = given(c, "pad-empty");
		c->pause_ms = (long)number(c, "pause", 0);
		c->ignore_abort = given(c, "ignore-abort");
		good = answer(c);
	}
	if (c->aborted)
		good = true;	/* the web server wants an END_REQUEST all the same (5.4) */
	if (good && !given(c, "noend"))
		put_end(c);
	good = good && at(c, "after") && !c->broken && (c->keep || given(c, "noend")) && !given(c, "closeafter");
	pairs_free(&c->params);
	pairs_free(&c->options);
	return good;
}

static void *
accept_loop(void *unused)
{
	struct conn *c;
	bool more;

	(void)unused;
	c = need(sizeof(*c));
	while (!leaving) {
		memset(c, 0, sizeof(*c));
		c->fd = accept(FCGI_LISTENSOCK_FILENO, NULL, NULL);
		if (c->fd == -1) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			die("accept");
		}
		c->in_max = IN_SIZE;
		pthread_mutex_lock(&lock);
		c->serial = ++connections;
		pthread_mutex_unlock(&lock);
		do {
			more = serve_request(c);
			if (max_requests > 0 && requests >= max_requests)
				exit(0);
		} while (more && !leaving);
		pairs_free(&c->params);
		pairs_free(&c->options);
		close(c->fd);
	}
	exit(0);
}

/* ---- start ---------------------------------------------------------------------------- */

static void
on_term(int sig)
{
	(void)sig;
	if (term_lost)
		term_lost = 0;
	else
		leaving = 1;
}

/* Which signals the process was started with blocked or ignored: none, if all is well. */
static void
note_signals(void)
{
	struct sigaction sa;
	sigset_t blocked;
	char *p;
	int sig;

	p = signals_at_start;
	sigprocmask(SIG_BLOCK, NULL, &blocked);
	for (sig = 1; sig < 32; sig++) {
		if (sigismember(&blocked, sig) == 1)
			p += sprintf(p, " blocked:%d", sig);
		if (sigaction(sig, NULL, &sa) == 0 && sa.sa_handler != SIG_DFL)
			p += sprintf(p, " ignored:%d", sig);
	}
}

int
main(int argc, char **argv)
{
	struct sigaction sa;
	const char *fail, *o;
	pthread_t thread;
	long threads, start_ms, forks, i;
	bool graceful, no_accept;

	argc_at_start = argc;
	argv_at_start = argv;
	note_signals();
	cksum_init();
	memset(&sa, 0, sizeof(sa));
	fail = NULL;
	threads = 1;
	start_ms = forks = 0;
	graceful = no_accept = false;
	for (i = 1; i < argc; i++) {
		o = argv[i];
		if (strcmp(o, "-g") == 0)
			graceful = true;
		else if (strcmp(o, "-l") == 0)
			graceful = true, term_lost = 1;
		else if (strcmp(o, "-I") == 0)
			signal(SIGTERM, SIG_IGN);
		else if (strcmp(o, "--no-accept") == 0)
			no_accept = true;
		else if (o[0] != '-')
			continue;
		else if (i + 1 == argc) {
			say("app: %s: no such option, or nothing after it", o);
			return 110;
		} else if (strcmp(o, "-c") == 0)
			threads = atol(argv[++i]);
		else if (strcmp(o, "-n") == 0)
			max_requests = atol(argv[++i]);
		else if (strcmp(o, "-w") == 0)
			say("%s", argv[++i]);
		else if (strcmp(o, "-o") == 0)
			append_line(argv[++i], "start");
		else if (strcmp(o, "-s") == 0)
			start_ms = atol(argv[++i]);
		else if (strcmp(o, "-i") == 0)
			idle_ms = atol(argv[++i]);
		else if (strcmp(o, "-f") == 0)
			forks = atol(argv[++i]);
		else if (strcmp(o, "--start-fail") == 0)
			fail = argv[++i];
		else {
			say("app: %s: no such option", o);
			return 110;
		}
	}
	if (fail != NULL)
		return atoi(fail);
	if (graceful) {
		sa.sa_handler = on_term;	/* without SA_RESTART: accept() and read() come back */
		sigaction(SIGTERM, &sa, NULL);
	}
	for (; forks > 0; forks--)
		if (fork() == 0)
			for (;;)
				pause();
	if (start_ms > 0)
		wait_ms((double)start_ms);
	while (no_accept)
		pause();
	for (i = 1; i < threads; i++)
		if (pthread_create(&thread, NULL, accept_loop, NULL) != 0)
			die("pthread_create");
	accept_loop(NULL);
}
