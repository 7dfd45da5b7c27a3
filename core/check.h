/*
 * core/check.h - what our own code guarantees, checked in every build; and small compiler helpers.
 *
 * ASSERT is for our own invariants only. Foreign input that is wrong is an error path, never an assertion.
 */
#ifndef CORE_CHECK_H
#define CORE_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define ASSERT(cond) ((cond) ? (void)0 : check_failed(#cond, __FILE__, __LINE__))

#define MUST_USE __attribute__((warn_unused_result))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

__attribute__((noreturn, cold)) static inline void check_failed(const char *cond, const char *file, int line)
{
	fprintf(stderr, "assertion failed: %s (%s:%d)\n", cond, file, line);
	abort();
}

#endif
