/*
 * core/bytes.h - a borrowed run of bytes.
 *
 * Owner:  whoever owns the memory it points into; a struct bytes owns nothing.
 * Life:   as long as the call that hands it over says; copy what must stay.
 * Thread: any.
 */
#ifndef CORE_BYTES_H
#define CORE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
	const uint8_t *p;
	size_t n;
};

static inline struct bytes bytes_of(const void *p, size_t n)
{
	return (struct bytes){.p = p, .n = n};
}

static inline struct bytes bytes_str(const char *s)
{
	return (struct bytes){.p = (const uint8_t *)s, .n = strlen(s)};
}

/* True if b holds exactly the characters of s. */
static inline bool bytes_is(struct bytes b, const char *s)
{
	return b.n == strlen(s) && (b.n == 0 || memcmp(b.p, s, b.n) == 0);
}

/* Copies b into a C string of `size` bytes; false (and nothing copied) if it does not fit or holds a NUL. */
static inline bool bytes_copy_str(struct bytes b, char *ret_str, size_t size)
{
	if (b.n >= size || (b.n > 0 && memchr(b.p, 0, b.n)))
		return false;
	if (b.n > 0)
		memcpy(ret_str, b.p, b.n);
	ret_str[b.n] = 0;
	return true;
}

/*
 * memcpy for more bytes than a few, in pieces. For larger ones glibc has `rep movsb` where the processor says that it is fast; on AMD's
 * Zen 3 and 4 it is not (2.8 GB/s instead of 15 to 50) where the target's place in its page is up to 63 bytes behind the
 * source's, which for bytes behind a short head it is for as long as both buffers live.
 */
#define BYTES_COPY_PIECE 2048

static inline void bytes_copy(void *to, const void *from, size_t n)
{
	uint8_t *t = to;
	const uint8_t *f = from;

	for (; n > BYTES_COPY_PIECE; n -= BYTES_COPY_PIECE, t += BYTES_COPY_PIECE, f += BYTES_COPY_PIECE)
		memcpy(t, f, BYTES_COPY_PIECE);
	memcpy(t, f, n);
}

#endif
