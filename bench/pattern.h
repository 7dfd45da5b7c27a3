/*
 * bench/pattern.h - bytes that can be made and checked anywhere in a stream at memcpy's speed.
 *
 * A block of random bytes of an odd length, repeated: a piece that is lost, doubled or moved by anything but whole blocks differs.
 */
#ifndef BENCH_PATTERN_H
#define BENCH_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define PATTERN_BLOCK ((1u << 20) + 7)
/* One piece at most. */
#define PATTERN_PIECE_MAX (64u << 10)

/* Once, before all else. */
void pattern_start(void);
/* n bytes from place `at` of the stream; n <= PATTERN_PIECE_MAX. */
const uint8_t *pattern_at(uint64_t at);
bool pattern_is(uint64_t at, const uint8_t *p, size_t n);
/* The first n bytes, to a file. 0 or negative errno. */
__attribute__((warn_unused_result)) int pattern_write(uint64_t n, FILE *f);
/* SHA-256 of the first n bytes, in hex. */
void pattern_sha256(uint64_t n, char ret_hex[65]);

#endif
