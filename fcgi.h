/*
 * fcgi.h: FastCGI 1.0 on the wire, shared by zfpm and mod_zfpm.
 *
 * Constants, the record reader, the name-value reader and the writers. All
 * functions are pure: bytes in, bytes out, no I/O, no clock, no memory, no log.
 * Section numbers are those of the FastCGI specification 1.0.
 */
#ifndef FCGI_H
#define FCGI_H

#include <stddef.h>
#include <stdint.h>

#define FCGI_LISTENSOCK_FILENO	0
#define FCGI_VERSION_1		1
#define FCGI_HEADER_LEN		8
#define FCGI_MAX_CONTENT	65535
#define FCGI_BODY_LEN		8	/* of BEGIN_REQUEST, END_REQUEST, UNKNOWN_TYPE */
#define FCGI_KEEP_CONN		1	/* flag of BEGIN_REQUEST */

enum fcgi_type {
	FCGI_BEGIN_REQUEST = 1,
	FCGI_ABORT_REQUEST,
	FCGI_END_REQUEST,
	FCGI_PARAMS,
	FCGI_STDIN,
	FCGI_STDOUT,
	FCGI_STDERR,
	FCGI_DATA,
	FCGI_GET_VALUES,
	FCGI_GET_VALUES_RESULT,
	FCGI_UNKNOWN_TYPE,
};

enum fcgi_role {
	FCGI_RESPONDER = 1,
	FCGI_AUTHORIZER,
	FCGI_FILTER,
};

enum fcgi_status {
	FCGI_REQUEST_COMPLETE,
	FCGI_CANT_MPX_CONN,
	FCGI_OVERLOADED,
	FCGI_UNKNOWN_ROLE,
};

/*
 * A position in a stream of records: all that must be remembered between two
 * reads. Zeroed, it stands before the first record.
 */
struct fcgi_reader {
	uint8_t		 hdr[FCGI_HEADER_LEN];	/* a header, hdr_len bytes of it known */
	uint8_t		 hdr_len;
	uint8_t		 type;			/* of the record we are in */
	uint8_t		 padding_left;		/* bytes of padding not seen yet */
	uint16_t	 id;
	uint16_t	 content_len;		/* of the whole record */
	uint16_t	 content_left;		/* bytes of content not seen yet */
};

/* A piece of one record's content, as much of it as one buffer holds. */
struct fcgi_part {
	uint8_t		 type;
	uint8_t		 first;		/* the record begins with this part */
	uint8_t		 last;		/* the record's content ends with it */
	uint8_t		 padding_len;	/* if last: padding that follows data directly, complete, in the buffer; else 0 */
	uint16_t	 id;
	uint16_t	 content_len;	/* of the whole record */
	size_t		 len;		/* bytes at data; 0 only for an empty record */
	const uint8_t	*data;		/* inside the buffer given to fcgi_read() */
};

/* One name-value pair (3.4). Pointers into the buffer given to fcgi_pair_get(). */
struct fcgi_pair {
	const uint8_t	*name;
	const uint8_t	*value;
	uint32_t	 name_len;
	uint32_t	 value_len;
	size_t		 size;		/* of the encoded pair, lengths included */
};

/*
 * Read on in a stream of records. *buf and *len say which bytes are unread;
 * both are moved past what was taken. Returns 1 and fills *part when a part of
 * a record was met, 0 when all bytes are taken and more are needed, -1 when the
 * bytes are not FastCGI (a version other than 1); then the stream is lost.
 * A part is given as soon as any of its content is there: nothing is held back.
 */
int	 fcgi_read(struct fcgi_reader *, const uint8_t **buf, size_t *len, struct fcgi_part *part);

/* True if the reader stands between two records, with nothing of the next one seen. */
int	 fcgi_at_boundary(const struct fcgi_reader *);

/*
 * Take apart the pair at the start of buf. Returns 1, 0 when the pair is not
 * complete (pair->size is then its size if the lengths are known, else 0; and
 * name and name_len are set if the whole name is there, else name is NULL), or
 * -1 when its lengths overflow max, the largest pair that the caller allows.
 */
int	 fcgi_pair_get(const uint8_t *buf, size_t len, size_t max, struct fcgi_pair *pair);

/* Bytes that a pair of these lengths takes when encoded. */
size_t	 fcgi_pair_size(size_t name_len, size_t value_len);

/*
 * Writers. Each stores at p, which must have room, and returns the number of
 * bytes stored. fcgi_put_pair() lengths are below 2^31.
 */
size_t	 fcgi_put_header(uint8_t *p, int type, uint16_t id, uint16_t content_len, uint8_t padding_len);
size_t	 fcgi_put_begin(uint8_t *p, uint16_t id, uint16_t role, uint8_t flags);	/* 16 bytes */
size_t	 fcgi_put_end(uint8_t *p, uint16_t id, uint32_t app_status, int status);	/* 16 bytes */
size_t	 fcgi_put_unknown_type(uint8_t *p, uint8_t type);			/* 16 bytes */
size_t	 fcgi_put_pair_header(uint8_t *p, uint32_t name_len, uint32_t value_len);	/* 2 to 8 bytes */
size_t	 fcgi_put_pair(uint8_t *p, const void *name, uint32_t name_len, const void *value, uint32_t value_len);

#endif
