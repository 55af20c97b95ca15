/*
 * fcgi.c: bytes <-> FastCGI records and name-value pairs. Section numbers are
 * those of the FastCGI specification 1.0.
 *
 * Owns nothing: all state is the caller's, all pointers that come out point
 * into the buffer that went in. Never reads or writes a descriptor, asks for
 * memory or the time, or logs; never looks at a byte past the length it got.
 */
#include <string.h>

#include "fcgi.h"

#define LENGTH_LONG	0x80	/* set in the first byte of a length of four (3.4) */
#define LENGTH_SHORT	0x7f	/* the largest length of one byte */

/* ---- reading records (3.3) ---------------------------------------------------- */

/* A header is complete, at h: from here on the reader is inside that record. */
static void
enter(struct fcgi_reader *r, const uint8_t *h)
{
	r->hdr_len = FCGI_HEADER_LEN;
	r->type = h[1];
	r->id = (uint16_t)(h[2] << 8 | h[3]);
	r->content_len = (uint16_t)(h[4] << 8 | h[5]);
	r->padding_left = h[6];
	r->content_left = r->content_len;
	/* h[7] is reserved: whatever it holds, it means nothing */
}

/* Skip what is there of the record's padding; after its last byte the record has ended. */
static void
skip_padding(struct fcgi_reader *r, const uint8_t **buf, size_t *len)
{
	size_t n;

	n = r->padding_left < *len ? r->padding_left : *len;
	*buf += n;
	*len -= n;
	r->padding_left = (uint8_t)(r->padding_left - n);
	if (r->padding_left == 0)
		r->hdr_len = 0;
}

/*
 * hdr_len says where we are: below 8 in a header (0: between two records), at 8
 * in a record's content while content_left, then in its padding. Most headers
 * lie whole in the buffer and are read where they are; hdr is for the others.
 */
int
fcgi_read(struct fcgi_reader *r, const uint8_t **buf, size_t *len, struct fcgi_part *part)
{
	size_t n;

	if (r->hdr_len == FCGI_HEADER_LEN && r->content_left == 0)
		skip_padding(r, buf, len);
	if (*len == 0)
		return 0;

	if (r->hdr_len < FCGI_HEADER_LEN) {
		/* Not one byte more is read from a peer that speaks something else. */
		if (r->hdr_len == 0 && (*buf)[0] != FCGI_VERSION_1)
			return -1;
		n = (size_t)(FCGI_HEADER_LEN - r->hdr_len);
		if (r->hdr_len == 0 && *len >= n) {
			enter(r, *buf);
		} else {
			if (n > *len)
				n = *len;
			memcpy(r->hdr + r->hdr_len, *buf, n);
			r->hdr_len = (uint8_t)(r->hdr_len + n);
			if (r->hdr_len == FCGI_HEADER_LEN)
				enter(r, r->hdr);
		}
		*buf += n;
		*len -= n;
		if (r->hdr_len < FCGI_HEADER_LEN)
			return 0;
		/* An empty record is a part of its own; any other one needs a byte to be a part. */
		if (*len == 0 && r->content_len > 0)
			return 0;
	}

	n = r->content_left < *len ? r->content_left : *len;
	part->type = r->type;
	part->first = r->content_left == r->content_len;
	part->id = r->id;
	part->content_len = r->content_len;
	part->len = n;
	part->data = *buf;
	part->padding_len = 0;
	*buf += n;
	*len -= n;
	r->content_left = (uint16_t)(r->content_left - n);
	part->last = r->content_left == 0;
	if (part->last && r->padding_left <= *len) {
		part->padding_len = r->padding_left;
		skip_padding(r, buf, len);
	}
	return 1;
}

int
fcgi_at_boundary(const struct fcgi_reader *r)
{
	return r->hdr_len == 0;
}

/* ---- name-value pairs (3.4) ----------------------------------------------------- */

/* Read a length of one or four bytes. Returns how many it took, 0 if they are not all there. */
static size_t
get_length(const uint8_t *p, size_t len, uint32_t *value)
{
	if (len == 0)
		return 0;
	if (!(p[0] & LENGTH_LONG)) {
		*value = p[0];
		return 1;
	}
	if (len < 4)
		return 0;
	*value = (uint32_t)(p[0] & LENGTH_SHORT) << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
	return 4;
}

static size_t
put_length(uint8_t *p, uint32_t value)
{
	if (value <= LENGTH_SHORT) {
		p[0] = (uint8_t)value;
		return 1;
	}
	p[0] = (uint8_t)(LENGTH_LONG | value >> 24);
	p[1] = (uint8_t)(value >> 16);
	p[2] = (uint8_t)(value >> 8);
	p[3] = (uint8_t)value;
	return 4;
}

int
fcgi_pair_get(const uint8_t *buf, size_t len, size_t max, struct fcgi_pair *pair)
{
	uint64_t size;		/* two lengths of 31 bits overflow a size_t of 32 */
	size_t head, n;

	memset(pair, 0, sizeof(*pair));
	head = get_length(buf, len, &pair->name_len);
	/* The smallest value takes one byte, for its length: what a name cannot leave is refused now. */
	if (head > 0 && (uint64_t)head + 1 + pair->name_len > max)
		return -1;
	n = head > 0 ? get_length(buf + head, len - head, &pair->value_len) : 0;
	if (n == 0)
		return 0;
	head += n;
	size = (uint64_t)head + pair->name_len + pair->value_len;
	if (size > max)
		return -1;
	pair->size = (size_t)size;
	if (len - head >= pair->name_len)
		pair->name = buf + head;
	if (len < pair->size)
		return 0;
	pair->value = pair->name + pair->name_len;
	return 1;
}

size_t
fcgi_pair_size(size_t name_len, size_t value_len)
{
	return (name_len <= LENGTH_SHORT ? 1U : 4U) + (value_len <= LENGTH_SHORT ? 1U : 4U) + name_len + value_len;
}

size_t
fcgi_put_pair_header(uint8_t *p, uint32_t name_len, uint32_t value_len)
{
	size_t n;

	n = put_length(p, name_len);
	return n + put_length(p + n, value_len);
}

size_t
fcgi_put_pair(uint8_t *p, const void *name, uint32_t name_len, const void *value, uint32_t value_len)
{
	size_t n;

	n = fcgi_put_pair_header(p, name_len, value_len);
	if (name_len > 0)	/* an empty one may be NULL */
		memcpy(p + n, name, name_len);
	n += name_len;
	if (value_len > 0)
		memcpy(p + n, value, value_len);
	return n + value_len;
}

/* ---- writing records ------------------------------------------------------------- */

size_t
fcgi_put_header(uint8_t *p, int type, uint16_t id, uint16_t content_len, uint8_t padding_len)
{
	p[0] = FCGI_VERSION_1;
	p[1] = (uint8_t)type;
	p[2] = (uint8_t)(id >> 8);
	p[3] = (uint8_t)id;
	p[4] = (uint8_t)(content_len >> 8);
	p[5] = (uint8_t)content_len;
	p[6] = padding_len;
	p[7] = 0;
	return FCGI_HEADER_LEN;
}

/* The header of a record whose body is of the fixed size, and that body, zeroed. */
static uint8_t *
put_fixed(uint8_t *p, int type, uint16_t id)
{
	p += fcgi_put_header(p, type, id, FCGI_BODY_LEN, 0);
	memset(p, 0, FCGI_BODY_LEN);
	return p;
}

/* BEGIN_REQUEST (5.1) */
size_t
fcgi_put_begin(uint8_t *p, uint16_t id, uint16_t role, uint8_t flags)
{
	uint8_t *body;

	body = put_fixed(p, FCGI_BEGIN_REQUEST, id);
	body[0] = (uint8_t)(role >> 8);
	body[1] = (uint8_t)role;
	body[2] = flags;
	return FCGI_HEADER_LEN + FCGI_BODY_LEN;
}

/* END_REQUEST (5.5) */
size_t
fcgi_put_end(uint8_t *p, uint16_t id, uint32_t app_status, int status)
{
	uint8_t *body;

	body = put_fixed(p, FCGI_END_REQUEST, id);
	body[0] = (uint8_t)(app_status >> 24);
	body[1] = (uint8_t)(app_status >> 16);
	body[2] = (uint8_t)(app_status >> 8);
	body[3] = (uint8_t)app_status;
	body[4] = (uint8_t)status;
	return FCGI_HEADER_LEN + FCGI_BODY_LEN;
}

/* UNKNOWN_TYPE (4.2): a management record, its id is always 0 */
size_t
fcgi_put_unknown_type(uint8_t *p, uint8_t type)
{
	uint8_t *body;

	body = put_fixed(p, FCGI_UNKNOWN_TYPE, 0);
	body[0] = type;
	return FCGI_HEADER_LEN + FCGI_BODY_LEN;
}
