/*
 * pattern.h: bytes that both ends of a test know without sending them, and the
 * checksum of cksum(1), so that a shell can compare. Used by app.c and client.c.
 */
#ifndef PATTERN_H
#define PATTERN_H

#include <stddef.h>
#include <stdint.h>

/* Byte i of the pattern: lines of 64, of which neighbours differ. */
static inline uint8_t
pattern_byte(uint64_t i)
{
	return i % 64 == 63 ? '\n' : (uint8_t)('0' + (i + i / 64 * 7 + i / 4096 * 5 + i / 1048576 * 3) % 75);
}

static inline void
pattern_fill(uint8_t *p, uint64_t at, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		p[i] = pattern_byte(at + i);
}

/* The CRC of POSIX cksum. Zeroed, it is the sum of nothing. */
struct cksum {
	uint32_t	 crc;
	uint64_t	 len;
};

static uint32_t cksum_table[256];

static inline void
cksum_init(void)
{
	uint32_t c;
	int i, bit;

	for (i = 0; i < 256; i++) {
		c = (uint32_t)i << 24;
		for (bit = 0; bit < 8; bit++)
			c = c & 0x80000000 ? c << 1 ^ 0x04c11db7 : c << 1;
		cksum_table[i] = c;
	}
}

static inline void
cksum_add(struct cksum *s, const uint8_t *p, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		s->crc = s->crc << 8 ^ cksum_table[s->crc >> 24 ^ p[i]];
	s->len += len;
}

static inline uint32_t
cksum_value(const struct cksum *s)
{
	uint32_t crc;
	uint64_t n;

	crc = s->crc;
	for (n = s->len; n > 0; n >>= 8)	/* the length follows, its low byte first */
		crc = crc << 8 ^ cksum_table[crc >> 24 ^ (n & 0xff)];
	return ~crc;
}

#endif
