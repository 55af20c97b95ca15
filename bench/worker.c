/*
 * worker.c: a very small FastCGI application for bench/, so that thousands of its
 * processes fit into memory. One request at a time, connections kept as
 * FCGI_KEEP_CONN asks. It takes its listening socket from descriptor 0 and
 * no arguments. Never allocates memory, never writes to standard error.
 *
 * QUERY_STRING says what is to happen, NAME=VALUE with '&' between:
 *   token=TEXT   comes back in the answer
 *   sleep=MS     before the answer
 *   out=N        so many bytes 'x' behind the answer's line
 *   mid=MS       a pause in the middle of these
 * The answer is one line, and the bytes of out:
 *   token=TEXT pool=POOL body=N sum=HEX pid=N
 * POOL is the environment variable POOL; N and HEX are the length and the checksum (FNV-1a) of the body.
 */
#include <sys/types.h>
#include <sys/socket.h>

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../fcgi.h"

#define PARAMS_MAX	65536
#define OUT_RECORD	8192	/* content of a record of out */

static uint8_t		 in[16384];
static uint8_t		 params[PARAMS_MAX];	/* pages that no request needs are never touched */
static size_t		 params_len;
static char		 query[1024];
static bool		 keep;
static unsigned long	 body_len;
static uint32_t		 sum;
static uint16_t		 id;

static bool
put(int fd, const void *data, size_t len)
{
	const char *p = data;
	ssize_t n;

	while (len > 0) {
		n = write(fd, p, len);
		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static void
pause_ms(long ms)
{
	struct timespec ts;

	ts.tv_sec = ms / 1000;
	ts.tv_nsec = ms % 1000 * 1000000;
	while (ms > 0 && nanosleep(&ts, &ts) == -1 && errno == EINTR)
		;
}

/* The value of NAME= in the query, up to '&'; its length, or 0. */
static size_t
option(const char *name, const char **value)
{
	size_t len = strlen(name);
	const char *p;

	for (p = query; p != NULL && *p != '\0'; p = strchr(p, '&')) {
		if (*p == '&')
			p++;
		if (strncmp(p, name, len) == 0 && p[len] == '=') {
			*value = p + len + 1;
			return strcspn(*value, "&");
		}
	}
	*value = "";
	return 0;
}

static long
number(const char *name)
{
	const char *value;

	return option(name, &value) == 0 ? 0 : strtol(value, NULL, 10);
}

/* All PARAMS are there: find the query. */
static void
read_query(void)
{
	struct fcgi_pair pair;
	size_t at;

	query[0] = '\0';
	for (at = 0; fcgi_pair_get(params + at, params_len - at, PARAMS_MAX, &pair) == 1; at += pair.size) {
		if (pair.name_len != 12 || memcmp(pair.name, "QUERY_STRING", 12) != 0 || pair.value_len >= sizeof(query))
			continue;
		memcpy(query, pair.value, pair.value_len);
		query[pair.value_len] = '\0';
	}
}

/* n bytes 'x' of STDOUT. */
static bool
put_bulk(int fd, long n)
{
	static uint8_t record[FCGI_HEADER_LEN + OUT_RECORD];
	size_t len;

	memset(record + FCGI_HEADER_LEN, 'x', OUT_RECORD);
	for (; n > 0; n -= (long)len) {
		len = n < OUT_RECORD ? (size_t)n : OUT_RECORD;
		fcgi_put_header(record, FCGI_STDOUT, id, (uint16_t)len, 0);
		if (!put(fd, record, FCGI_HEADER_LEN + len))
			return false;
	}
	return true;
}

static bool
put_end(int fd)
{
	uint8_t end[FCGI_HEADER_LEN + FCGI_BODY_LEN];

	return put(fd, end, fcgi_put_end(end, id, 0, FCGI_REQUEST_COMPLETE));
}

static bool
answer(int fd)
{
	const char *token, *pool = getenv("POOL");
	char line[1500], head[128];
	char out[FCGI_HEADER_LEN + sizeof(head) + sizeof(line) + FCGI_HEADER_LEN + FCGI_BODY_LEN];
	size_t token_len, len;
	long bulk = number("out");
	int line_len, head_len;

	pause_ms(number("sleep"));
	token_len = option("token", &token);
	line_len = snprintf(line, sizeof(line), "token=%.*s pool=%.255s body=%lu sum=%08lx pid=%ld\n", (int)token_len, token,
	    pool == NULL ? "" : pool, body_len, (unsigned long)sum, (long)getpid());
	head_len = snprintf(head, sizeof(head), "Content-Type: text/plain\r\nContent-Length: %ld\r\n\r\n", line_len + bulk);
	len = fcgi_put_header((uint8_t *)out, FCGI_STDOUT, id, (uint16_t)(head_len + line_len), 0);
	memcpy(out + len, head, (size_t)head_len);
	memcpy(out + len + head_len, line, (size_t)line_len);
	len += (size_t)(head_len + line_len);
	if (bulk == 0) {	/* the usual case: one write */
		len += fcgi_put_end((uint8_t *)out + len, id, 0, FCGI_REQUEST_COMPLETE);
		return put(fd, out, len);
	}
	if (!put(fd, out, len) || !put_bulk(fd, bulk / 2))
		return false;
	pause_ms(number("mid"));
	return put_bulk(fd, bulk - bulk / 2) && put_end(fd);
}

/* One record, or a part of it. false: this connection is over. */
static bool
take(int fd, const struct fcgi_part *part)
{
	size_t i;

	switch (part->type) {
	case FCGI_BEGIN_REQUEST:
		if (part->len < FCGI_BODY_LEN)
			return false;	/* zfpm sends it in one piece */
		id = part->id;
		keep = part->data[2] & FCGI_KEEP_CONN;
		params_len = 0;
		body_len = 0;
		sum = 2166136261U;
		return true;
	case FCGI_PARAMS:
		if (part->len > PARAMS_MAX - params_len)
			return false;
		memcpy(params + params_len, part->data, part->len);
		params_len += part->len;
		if (part->content_len == 0)
			read_query();
		return true;
	case FCGI_STDIN:
		for (i = 0; i < part->len; i++)
			sum = (sum ^ part->data[i]) * 16777619U;
		body_len += part->len;
		return part->content_len > 0 || (answer(fd) && keep);
	case FCGI_ABORT_REQUEST:
		return put_end(fd) && keep;
	default:
		return true;
	}
}

static void
serve(int fd)
{
	struct fcgi_reader reader;
	struct fcgi_part part;
	const uint8_t *p;
	size_t len;
	ssize_t n;
	int got;

	memset(&reader, 0, sizeof(reader));
	while ((n = read(fd, in, sizeof(in))) > 0 || (n == -1 && errno == EINTR)) {
		p = in;
		len = n == -1 ? 0 : (size_t)n;
		while ((got = fcgi_read(&reader, &p, &len, &part)) == 1)
			if (!take(fd, &part))
				return;
		if (got == -1)
			return;
	}
}

int
main(void)
{
	int fd;

	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		if ((fd = accept(FCGI_LISTENSOCK_FILENO, NULL, NULL)) == -1) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			return 1;
		}
		serve(fd);
		close(fd);
	}
}
