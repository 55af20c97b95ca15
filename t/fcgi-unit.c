/*
 * fcgi-unit.c: everything that fcgi.h promises, without a socket; prints TAP.
 *
 * Every piece of a stream is handed over in memory of exactly its size, so that
 * a read past its end is found by -fsanitize=address. The random parts have a
 * fixed seed: a failure comes again.
 */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../fcgi.h"

static int tests, failures;

static void
ok(int good, const char *title)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++tests, title);
	if (!good)
		failures++;
}

/* Why a test fails; says so once or a few times, not a million. */
static int
complain(const char *fmt, ...)
{
	static int said;
	va_list ap;

	if (said++ < 20) {
		printf("# ");
		va_start(ap, fmt);
		vprintf(fmt, ap);
		va_end(ap);
		printf("\n");
	}
	return 0;
}

static void *
need(size_t n)
{
	void *p;

	p = malloc(n > 0 ? n : 1);
	if (p == NULL) {
		printf("Bail out! no memory\n");
		exit(1);
	}
	return p;
}

/* xorshift: the same numbers everywhere */
static uint64_t seed = 0x5a46504d;

static uint32_t
rnd(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16) % below;
}

/* ---- a stream and what must come out of it --------------------------------------- */

#define MAX_RECORDS	600

struct record {
	int		 type;
	unsigned	 id;
	size_t		 len, padding;
	size_t		 at;		/* offset of its content in the stream */
	size_t		 begin, end;	/* of the whole record */
};

struct stream {
	uint8_t		*bytes;
	size_t		 len, room;
	struct record	 records[MAX_RECORDS];
	int		 n;
};

static void
stream_add(struct stream *s, int type, unsigned id, size_t len, size_t padding)
{
	struct record *r;
	size_t i;

	if (s->n == MAX_RECORDS || s->len + FCGI_HEADER_LEN + len + padding > s->room) {
		s->room = s->room * 2 + FCGI_HEADER_LEN + len + padding;
		s->bytes = realloc(s->bytes, s->room);
		if (s->bytes == NULL || s->n == MAX_RECORDS) {
			printf("Bail out! stream too long\n");
			exit(1);
		}
	}
	r = &s->records[s->n++];
	r->type = type;
	r->id = id;
	r->len = len;
	r->padding = padding;
	r->begin = s->len;
	s->len += fcgi_put_header(s->bytes + s->len, type, (uint16_t)id, (uint16_t)len, (uint8_t)padding);
	/* The reserved byte means nothing, and neither does padding: make both look like something. */
	s->bytes[s->len - 1] = (uint8_t)(s->n * 37);
	r->at = s->len;
	for (i = 0; i < len; i++)
		s->bytes[s->len++] = (uint8_t)(i * 31 + (size_t)s->n);
	for (i = 0; i < padding; i++)
		s->bytes[s->len++] = FCGI_VERSION_1;
	r->end = s->len;
}

static void
stream_free(struct stream *s)
{
	free(s->bytes);
	memset(s, 0, sizeof(*s));
}

/* The reading end: a reader, and how far it has come in the stream. */
struct check {
	const struct stream *s;
	struct fcgi_reader r;
	int		 record;	/* that comes next or is under way */
	size_t		 seen;		/* bytes of its content that have come */
	size_t		 fed;
	int		 parts;
};

static int
check_part(struct check *c, const struct fcgi_part *p, const uint8_t *piece, size_t n, const uint8_t *rest)
{
	const struct record *r;
	size_t after;

	if (c->record == c->s->n)
		return complain("a part after the last record");
	r = &c->s->records[c->record];
	if (p->type != r->type || p->id != r->id || p->content_len != r->len)
		return complain("record %d: type %d id %d length %d", c->record, p->type, p->id, p->content_len);
	if (p->data < piece || p->data + p->len > piece + n)
		return complain("record %d: data outside the buffer", c->record);
	if (p->first != (c->seen == 0))
		return complain("record %d: first is %d at %zu", c->record, p->first, c->seen);
	if (p->len == 0 && r->len != 0)
		return complain("record %d: an empty part of a record that is not", c->record);
	if (c->seen + p->len > r->len || memcmp(p->data, c->s->bytes + r->at + c->seen, p->len) != 0)
		return complain("record %d: content differs", c->record);
	c->seen += p->len;
	if (p->last != (c->seen == r->len))
		return complain("record %d: last is %d at %zu of %zu", c->record, p->last, c->seen, r->len);
	/* padding_len: all or nothing, and what it covers has been taken */
	after = (size_t)(piece + n - (p->data + p->len));
	if (p->padding_len != (p->last && after >= r->padding ? r->padding : 0))
		return complain("record %d: padding_len is %d", c->record, p->padding_len);
	if (rest != p->data + p->len + p->padding_len)
		return complain("record %d: the unread bytes do not follow the part", c->record);
	if (p->last) {
		c->record++;
		c->seen = 0;
	}
	c->parts++;
	return 1;
}

/* Feed n bytes at p in memory of their own. */
static int
check_feed(struct check *c, const uint8_t *p, size_t n)
{
	struct fcgi_part part;
	const uint8_t *buf;
	uint8_t *piece;
	size_t left;
	int good, i, boundary;

	piece = need(n);
	memcpy(piece, p, n);
	buf = piece;
	left = n;
	good = 1;
	while (good && (i = fcgi_read(&c->r, &buf, &left, &part)) != 0)
		good = i == 1 ? check_part(c, &part, piece, n, buf) : complain("record %d: not FastCGI", c->record);
	if (good && (left != 0 || buf != piece + n))
		good = complain("%zu bytes left though more are asked for", left);
	free(piece);
	c->fed += n;
	/* Between two records, and only there, the reader says so. */
	boundary = c->fed == 0;
	for (i = 0; i < c->s->n; i++)
		if (c->s->records[i].end == c->fed)
			boundary = 1;
	if (good && (fcgi_at_boundary(&c->r) != 0) != boundary)
		good = complain("boundary is %d after %zu bytes", !boundary, c->fed);
	return good;
}

static void
check_start(struct check *c, const struct stream *s)
{
	memset(c, 0, sizeof(*c));
	c->s = s;
}

static int
check_end(const struct check *c)
{
	if (c->record != c->s->n || c->seen != 0)
		return complain("the stream ends in record %d of %d", c->record, c->s->n);
	return 1;
}

/* The whole stream in pieces of size bytes. */
static int
in_pieces(const struct stream *s, size_t size, int *parts)
{
	struct check c;
	size_t at, n;

	check_start(&c, s);
	for (at = 0; at < s->len; at += n) {
		n = s->len - at < size ? s->len - at : size;
		if (!check_feed(&c, s->bytes + at, n))
			return complain("in pieces of %zu", size);
	}
	if (parts != NULL)
		*parts = c.parts;
	return check_end(&c);
}

/* ---- records ------------------------------------------------------------------------ */

static void
mixed(struct stream *s)
{
	memset(s, 0, sizeof(*s));
	stream_add(s, FCGI_BEGIN_REQUEST, 1, FCGI_BODY_LEN, 0);
	stream_add(s, FCGI_PARAMS, 1, 37, 3);
	stream_add(s, FCGI_PARAMS, 1, 1, 7);
	stream_add(s, FCGI_PARAMS, 1, 0, 0);
	stream_add(s, FCGI_GET_VALUES, 0, 0, 5);
	stream_add(s, FCGI_STDIN, 65535, 20, 0);
	stream_add(s, FCGI_STDIN, 65535, 0, 11);
	stream_add(s, FCGI_STDIN, 2, 0, 0);
	stream_add(s, 0, 0, 2, 1);
	stream_add(s, 255, 256, 9, 1);
	stream_add(s, FCGI_END_REQUEST, 1, FCGI_BODY_LEN, 8);
}

static void
test_splits(void)
{
	struct stream s;
	struct check c;
	size_t i, j;
	int good;

	mixed(&s);
	ok(in_pieces(&s, s.len, NULL), "a mixed stream in one buffer");
	ok(in_pieces(&s, 1, NULL), "byte by byte");
	for (good = 1, i = 2; good && i < s.len; i++)
		good = in_pieces(&s, i, NULL);
	ok(good, "in pieces of every size");
	for (good = 1, i = 0; good && i <= s.len; i++) {
		for (j = i; good && j <= s.len; j++) {
			check_start(&c, &s);
			good = check_feed(&c, s.bytes, i) && check_feed(&c, s.bytes + i, j - i) &&
			    check_feed(&c, s.bytes + j, s.len - j) && check_end(&c);
		}
	}
	ok(good, "split at every position, and at every pair of positions");
	stream_free(&s);
}

static void
test_padding(void)
{
	static const size_t sizes[] = { 0, 1, 8, 200 };
	struct stream s;
	size_t i, padding;
	int good;

	for (good = 1, i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (padding = 0; good && padding < 256; padding++) {
			memset(&s, 0, sizeof(s));
			stream_add(&s, FCGI_STDOUT, 1, sizes[i], padding);
			stream_add(&s, FCGI_STDOUT, 1, 3, 255 - padding);
			good = in_pieces(&s, s.len, NULL) && in_pieces(&s, 1, NULL) && in_pieces(&s, 7, NULL) &&
			    in_pieces(&s, FCGI_HEADER_LEN + sizes[i] + padding / 2 + 1, NULL);
			stream_free(&s);
		}
	}
	ok(good, "any padding from 0 to 255, also of empty records");
}

static void
test_large(void)
{
	struct stream s;
	int parts, good;

	memset(&s, 0, sizeof(s));
	stream_add(&s, FCGI_STDIN, 1, FCGI_MAX_CONTENT, 255);
	stream_add(&s, FCGI_STDIN, 1, FCGI_MAX_CONTENT, 0);
	stream_add(&s, FCGI_STDIN, 1, 0, 0);
	good = in_pieces(&s, s.len, &parts);
	ok(good && parts == 3, "a record of 65,535 bytes is one part where one buffer holds it");
	good = in_pieces(&s, 4096, &parts);
	ok(good && parts > 30 && parts < 40, "and a part for each buffer where it does not");
	ok(in_pieces(&s, 1, NULL) && in_pieces(&s, 65536, NULL) && in_pieces(&s, 65543, NULL), "and comes through in any pieces");
	stream_free(&s);
}

static void
test_ids_and_types(void)
{
	struct stream s;
	int i, good;

	memset(&s, 0, sizeof(s));
	for (i = 0; i < 256; i++)
		stream_add(&s, i, (unsigned)i * 257, (size_t)i % 3, (size_t)i % 5);
	stream_add(&s, FCGI_STDIN, 0, 1, 0);
	stream_add(&s, FCGI_STDIN, 65535, 1, 0);
	good = in_pieces(&s, s.len, NULL) && in_pieces(&s, 1, NULL) && in_pieces(&s, 13, NULL);
	ok(good, "every type, known or not, and ids from 0 to 65535 are handed on as they are");
	stream_free(&s);
}

/* Nothing is held back: each byte of content is given in the call that brings it. */
static void
test_at_once(void)
{
	struct fcgi_reader r;
	struct fcgi_part part;
	const uint8_t *p;
	uint8_t buf[64];
	size_t len, n;
	int good;

	memset(buf, FCGI_VERSION_1, sizeof(buf));
	n = fcgi_put_header(buf, FCGI_STDOUT, 7, 3, 2);
	memset(&r, 0, sizeof(r));
	p = buf;
	len = n;
	good = fcgi_read(&r, &p, &len, &part) == 0 && len == 0 && !fcgi_at_boundary(&r);
	ok(good, "a header alone is no part");
	len = 1;
	good = fcgi_read(&r, &p, &len, &part) == 1 && part.len == 1 && part.first && !part.last && part.padding_len == 0;
	ok(good, "the first byte of content is one at once");
	len = 3;
	good = fcgi_read(&r, &p, &len, &part) == 1 && part.len == 2 && !part.first && part.last && part.padding_len == 0 && len == 1;
	ok(good, "padding that the buffer holds only in part stays out of the part");
	good = fcgi_read(&r, &p, &len, &part) == 0 && len == 0 && !fcgi_at_boundary(&r);
	len = 1;
	good = good && fcgi_read(&r, &p, &len, &part) == 0 && len == 0 && fcgi_at_boundary(&r);
	ok(good, "and is skipped in silence");
	n = fcgi_put_header(buf, FCGI_STDIN, 7, 0, 9);
	memset(&r, 0, sizeof(r));
	p = buf;
	len = n;
	good = fcgi_read(&r, &p, &len, &part) == 1 && part.len == 0 && part.first && part.last && part.padding_len == 0 && !fcgi_at_boundary(&r);
	ok(good, "the header of an empty record is a part, even while its padding is still to come");
	len = 0;
	good = fcgi_read(&r, &p, &len, &part) == 0 && !fcgi_at_boundary(&r);
	ok(good, "no bytes change nothing");
}

static void
test_version(void)
{
	struct fcgi_reader r;
	struct fcgi_part part;
	const uint8_t *p;
	uint8_t buf[32];
	size_t len;
	int v, good;

	for (good = 1, v = 0; v < 256; v++) {
		if (v == FCGI_VERSION_1)
			continue;
		memset(&r, 0, sizeof(r));
		buf[0] = (uint8_t)v;
		p = buf;
		len = 1;
		if (fcgi_read(&r, &p, &len, &part) != -1 || fcgi_read(&r, &p, &len, &part) != -1)
			good = complain("version %d", v);
	}
	ok(good, "any version but 1 is refused at its first byte, and for good");
	memset(&r, 0, sizeof(r));
	len = fcgi_put_header(buf, FCGI_STDIN, 1, 2, 1) + 3;
	memset(buf + len, 0, 8);
	len += 8;
	p = buf;
	good = fcgi_read(&r, &p, &len, &part) == 1 && part.len == 2 && part.last && fcgi_read(&r, &p, &len, &part) == -1;
	ok(good, "what came before a wrong version is given first");
}

/* ---- name-value pairs ----------------------------------------------------------------- */

static const uint32_t lengths[] = { 0, 1, 2, 126, 127, 128, 129, 255, 256, 16383, 65535, 65536, 100000 };
#define NLENGTHS	(sizeof(lengths) / sizeof(lengths[0]))

/* Encode with long (4-byte) lengths where asked, whatever the length. */
static size_t
put_long(uint8_t *p, uint32_t value, int is_long)
{
	if (!is_long) {
		p[0] = (uint8_t)value;
		return 1;
	}
	p[0] = (uint8_t)(0x80 | value >> 24);
	p[1] = (uint8_t)(value >> 16);
	p[2] = (uint8_t)(value >> 8);
	p[3] = (uint8_t)value;
	return 4;
}

/* Look at the first len bytes of the pair at p alone, in memory of their own; head: bytes of both lengths. */
static int
pair_prefix(const uint8_t *p, size_t len, size_t head, uint32_t name_len, uint32_t value_len)
{
	struct fcgi_pair pair;
	size_t size;
	uint8_t *copy;
	int i, good;

	size = head + name_len + value_len;
	copy = need(len);
	memcpy(copy, p, len);
	memset(&pair, 0x55, sizeof(pair));
	i = fcgi_pair_get(copy, len, SIZE_MAX, &pair);
	good = i == (len >= size);
	good = good && pair.size == (len < head ? 0 : size);
	if (len < head + name_len)
		good = good && pair.name == NULL;
	else
		good = good && pair.name == copy + head && pair.name_len == name_len;
	if (i == 1)
		good = good && pair.value == pair.name + name_len && pair.value_len == value_len;
	free(copy);
	return good ? 1 : complain("%zu bytes of a pair of %u and %u: %d", len, name_len, value_len, i);
}

static void
test_pairs(void)
{
	uint8_t *buf, *name;
	size_t i, j, head, size, k, expected;
	int good, complete, nlong, vlong;

	name = need(100000);
	for (i = 0; i < 100000; i++)
		name[i] = (uint8_t)(i * 7 + i / 256);
	buf = need(200016);
	for (good = complete = 1, i = 0; i < NLENGTHS; i++) {
		for (j = 0; j < NLENGTHS; j++) {
			size = fcgi_put_pair(buf, name, lengths[i], name, lengths[j]);
			head = (lengths[i] < 128 ? 1 : 4) + (lengths[j] < 128 ? 1 : 4);
			expected = head + lengths[i] + lengths[j];
			if (size != expected || fcgi_pair_size(lengths[i], lengths[j]) != expected)
				good = complain("a pair of %u and %u takes %zu", lengths[i], lengths[j], size);
			good = good && pair_prefix(buf, size, head, lengths[i], lengths[j]) &&
			    memcmp(buf + head, name, lengths[i]) == 0 && memcmp(buf + head + lengths[i], name, lengths[j]) == 0;
			/* Every prefix of a short pair, and the interesting ones of a long one. */
			for (k = 0; complete && k < size; k++) {
				complete = pair_prefix(buf, k, head, lengths[i], lengths[j]);
				if (k == 300 && size > 600)
					k = lengths[i] > 301 ? head + lengths[i] - 3 : size - 3;
				else if (k == head + lengths[i] + 2 && size > 600 && k < size - 3)
					k = size - 3;
			}
		}
	}
	ok(good, "1- and 4-byte lengths in all combinations");
	ok(complete, "an incomplete pair tells its size and its name as soon as they are known");

	for (good = 1, i = 0; i < 5; i++) {
		for (j = 0; j < 5; j++) {
			for (nlong = 0; nlong < 2; nlong++) {
				for (vlong = 0; vlong < 2; vlong++) {
					head = put_long(buf, lengths[i], nlong);
					head += put_long(buf + head, lengths[j], vlong);
					memcpy(buf + head, name, lengths[i]);
					memcpy(buf + head + lengths[i], name, lengths[j]);
					for (k = 0; good && k <= head + lengths[i] + lengths[j]; k++)
						good = pair_prefix(buf, k, head, lengths[i], lengths[j]);
				}
			}
		}
	}
	ok(good, "the 4-byte form of a small length is accepted");
	free(buf);
	free(name);
}

static void
test_pair_limits(void)
{
	static const uint8_t huge[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 'n', 'v' };
	static const uint8_t small_name[] = { 1, 0xff, 0xff, 0xff, 0xff, 'n', 'v' };
	static const uint8_t max_name[] = { 0xff, 0xff, 0xff, 0xff, 0 };
	struct fcgi_pair pair;
	uint8_t buf[64];
	size_t size, len, max;
	int good;

	for (good = 1, len = 4; len <= sizeof(huge); len++)
		if (fcgi_pair_get(huge, len, 1 << 20, &pair) != -1)
			good = complain("after %zu bytes", len);
	good = good && fcgi_pair_get(huge, 3, 1 << 20, &pair) == 0;
	ok(good, "0x7fffffff and 0x7fffffff are refused as soon as the first length is known");
	for (good = 1, len = 5; len <= sizeof(small_name); len++)
		if (fcgi_pair_get(small_name, len, 1 << 20, &pair) != -1)
			good = complain("after %zu bytes", len);
	good = good && fcgi_pair_get(small_name, 4, 1 << 20, &pair) == 0;
	ok(good, "so is a value of 0x7fffffff");
#if SIZE_MAX > 0xffffffff
	good = fcgi_pair_get(huge, sizeof(huge), SIZE_MAX, &pair) == 0 && pair.size == (size_t)0x7fffffff * 2 + 8 && pair.name == NULL;
	ok(good, "without a limit their sum does not wrap");
#else
	ok(fcgi_pair_get(huge, sizeof(huge), SIZE_MAX, &pair) == -1, "a sum beyond the address space is refused");
#endif
	good = fcgi_pair_get(max_name, sizeof(max_name), (size_t)0x7fffffff + 5, &pair) == 0 && pair.size == (size_t)0x7fffffff + 5 &&
	    fcgi_pair_get(max_name, sizeof(max_name), (size_t)0x7fffffff + 4, &pair) == -1;
	ok(good, "the longest name fits its own limit and not one byte less");

	for (good = 1, max = 0; max < 32; max++) {
		for (size = 2; size < 32; size++) {
			memset(buf, 'x', sizeof(buf));
			fcgi_put_pair_header(buf, (uint32_t)(size - 2) / 2, (uint32_t)(size - 2 - (size - 2) / 2));
			if (fcgi_pair_get(buf, size, max, &pair) != (size <= max ? 1 : -1))
				good = complain("size %zu, max %zu", size, max);
		}
	}
	ok(good, "a pair of max bytes is given, one of max + 1 is refused");
	buf[0] = 5;
	good = fcgi_pair_get(buf, 1, 6, &pair) == -1 && fcgi_pair_get(buf, 1, 7, &pair) == 0;
	ok(good, "a name that leaves no room for the length of its value is refused at once");
	good = fcgi_pair_get(buf, 0, 100, &pair) == 0 && pair.size == 0 && pair.name == NULL;
	ok(good, "no bytes are an incomplete pair of unknown size");
	memset(buf, 0, 2);
	good = fcgi_pair_get(buf, 2, 2, &pair) == 1 && pair.size == 2 && pair.name == buf + 2 && pair.name_len == 0 && pair.value_len == 0;
	ok(good, "an empty name with an empty value is a pair of 2 bytes");
	good = fcgi_put_pair(buf, NULL, 0, NULL, 0) == 2 && buf[0] == 0 && buf[1] == 0;
	ok(good, "and is written without looking at either");
}

/* ---- writers ----------------------------------------------------------------------------- */

static void
test_writers(void)
{
	static const uint8_t header[] = { 1, 6, 0xff, 0xfe, 0xab, 0xcd, 0xef, 0 };
	static const uint8_t begin[] = { 1, 1, 1, 2, 0, 8, 0, 0, 0xab, 0xcd, 1, 0, 0, 0, 0, 0 };
	static const uint8_t end[] = { 1, 3, 0xff, 0xff, 0, 8, 0, 0, 0xde, 0xad, 0xbe, 0xef, 2, 0, 0, 0 };
	static const uint8_t unknown[] = { 1, 11, 0, 0, 0, 8, 0, 0, 0xc8, 0, 0, 0, 0, 0, 0, 0 };
	static const uint8_t longs[] = { 0x80, 0, 0, 0x80, 0xff, 0xff, 0xff, 0xff };
	static const uint8_t shorts[] = { 0x7f, 0 };
	uint8_t buf[32];
	int good;

#define WRITES(call, expected) \
	(memset(buf, 0xaa, sizeof(buf)), (call) == sizeof(expected) && memcmp(buf, expected, sizeof(expected)) == 0 && \
	    buf[sizeof(expected)] == 0xaa)

	good = WRITES(fcgi_put_header(buf, FCGI_STDOUT, 0xfffe, 0xabcd, 0xef), header);
	ok(good, "a header");
	good = WRITES(fcgi_put_begin(buf, 0x0102, 0xabcd, FCGI_KEEP_CONN), begin);
	ok(good, "a BEGIN_REQUEST, its reserved bytes zero");
	good = WRITES(fcgi_put_end(buf, 65535, 0xdeadbeef, FCGI_OVERLOADED), end);
	ok(good, "an END_REQUEST");
	good = WRITES(fcgi_put_unknown_type(buf, 200), unknown);
	ok(good, "an UNKNOWN_TYPE");
	good = WRITES(fcgi_put_pair_header(buf, 128, 0x7fffffff), longs) && WRITES(fcgi_put_pair_header(buf, 127, 0), shorts);
	ok(good, "lengths of a pair, in the short form up to 127");
}

/* ---- random --------------------------------------------------------------------------------- */

static void
test_random_streams(void)
{
	static const uint32_t size_classes[] = { 1, 2, 9, 130, 3000, FCGI_MAX_CONTENT + 1 };
	struct stream s;
	struct check c;
	size_t at, n;
	int round, i, records, good;

	for (good = 1, round = 0; good && round < 300; round++) {
		memset(&s, 0, sizeof(s));
		records = 1 + (int)rnd(20);
		for (i = 0; i < records; i++)
			stream_add(&s, (int)rnd(256), rnd(65536), rnd(size_classes[rnd(6)]), rnd(2) ? 0 : rnd(256));
		check_start(&c, &s);
		for (at = 0; good && at < s.len; at += n) {
			n = 1 + rnd(size_classes[rnd(6)]);
			if (n > s.len - at)
				n = s.len - at;
			good = check_feed(&c, s.bytes + at, n);
		}
		good = good && check_end(&c);
		if (!good)
			complain("in round %d", round);
		stream_free(&s);
	}
	ok(good, "300 random streams in random pieces");
}

static void
test_random_pairs(void)
{
	static const uint32_t classes[] = { 1, 3, 129, 140, 2000 };
	struct fcgi_pair pair;
	uint32_t nlen[50], vlen[50];
	uint8_t text[2000], *buf;
	size_t len, at, i;
	int round, n, k, good;

	for (i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)rnd(256);
	buf = need(50 * (sizeof(text) * 2 + 8));
	for (good = 1, round = 0; good && round < 500; round++) {
		n = (int)rnd(50);
		for (len = 0, k = 0; k < n; k++) {
			nlen[k] = rnd(classes[rnd(5)]);
			vlen[k] = rnd(classes[rnd(5)]);
			len += fcgi_put_pair(buf + len, text, nlen[k], text, vlen[k]);
		}
		for (at = 0, k = 0; good && k < n; k++, at += pair.size) {
			good = fcgi_pair_get(buf + at, len - at, len, &pair) == 1 && pair.name_len == nlen[k] && pair.value_len == vlen[k] &&
			    memcmp(pair.name, text, nlen[k]) == 0 && memcmp(pair.value, text, vlen[k]) == 0;
		}
		good = good && at == len;
	}
	ok(good, "500 random lists of pairs come back as they were written");
	free(buf);
}

/* Bytes that are nothing: whatever the readers say, they stay inside the buffer and come to an end. */
static void
test_garbage(void)
{
	struct fcgi_reader r;
	struct fcgi_part part;
	struct fcgi_pair pair;
	const uint8_t *p, *before;
	uint8_t *buf;
	size_t len, n, i;
	int round, calls, good, got;

	for (good = 1, round = 0; good && round < 20000; round++) {
		len = rnd(80);
		buf = need(len);
		for (i = 0; i < len; i++)
			buf[i] = (uint8_t)(rnd(3) ? rnd(256) : rnd(2));
		memset(&r, 0, sizeof(r));
		p = buf;
		n = len;
		for (calls = 0; good; calls++) {
			before = p;
			got = fcgi_read(&r, &p, &n, &part);
			good = p >= before && p + n == buf + len && calls <= (int)len;
			if (got != 1)
				break;
			good = good && part.data >= buf && part.data + part.len + part.padding_len <= buf + len;
		}
		good = good && (got == -1 || n == 0);
		got = fcgi_pair_get(buf, len, 1000, &pair);
		if (got == 1)
			good = good && pair.size <= len && pair.value + pair.value_len == buf + pair.size;
		else
			good = good && (got == -1 || pair.size == 0 || (pair.size > len && pair.size <= 1000));
		free(buf);
	}
	ok(good, "20,000 pieces of garbage: no step outside the buffer, no endless loop");
}

int
main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	test_splits();
	test_padding();
	test_large();
	test_ids_and_types();
	test_at_once();
	test_version();
	test_pairs();
	test_pair_limits();
	test_writers();
	test_random_streams();
	test_random_pairs();
	test_garbage();
	printf("1..%d\n", tests);
	return failures > 0;
}
