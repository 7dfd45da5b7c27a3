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

#endif
