/*
 * core/nearest.h - which known name was meant by one with a slip in it: for error messages.
 *
 * Pure. Thread: any.
 *
 *	nearest_begin(&n, "max_chanels");
 *	for each known name: nearest_offer(&n, known);
 *	if (n.best) ...
 */
#ifndef CORE_NEAREST_H
#define CORE_NEAREST_H

#include <stddef.h>

/* Longer names are never near: the work stays bounded. */
#define NEAREST_NAME_MAX 64

struct nearest {
	const char *name;
	const char *best; /* one of those offered; NULL while none is near enough */
	size_t distance;  /* of `best`; before that the largest that is near enough, plus 1 */
};

void nearest_begin(struct nearest *n, const char *name);
void nearest_offer(struct nearest *n, const char *known);

#endif
