/*
 * control/random_id.h - names for what is made: a prefix and 80 random bits in lower-case letters and digits.
 *
 * Good as a sandbox ID, too. Thread: any.
 */
#ifndef CONTROL_RANDOM_ID_H
#define CONTROL_RANDOM_ID_H

#include "core/check.h"

#include <sodium.h>
#include <string.h>

#define RANDOM_ID_CHARS 16

static inline void random_id(const char *prefix, char *ret_id, size_t size)
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
	size_t n = strlen(prefix);
	uint8_t bits[RANDOM_ID_CHARS];

	ASSERT(n + RANDOM_ID_CHARS < size);
	randombytes_buf(bits, sizeof(bits));
	memcpy(ret_id, prefix, n);
	for (size_t i = 0; i < RANDOM_ID_CHARS; i++)
		ret_id[n + i] = digits[bits[i] & 31];
	ret_id[n + RANDOM_ID_CHARS] = 0;
}

#endif
