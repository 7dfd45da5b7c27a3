/*
 * tests/unit/control/scratch.h - a database of the test's own, in a folder that goes with it.
 */
#ifndef TESTS_UNIT_CONTROL_SCRATCH_H
#define TESTS_UNIT_CONTROL_SCRATCH_H

#include "control/store.h"

struct scratch {
	char folder[64], path[96];
	struct store_pool *pool;
	struct store *s; /* one connection of it */
};

/* Fails the test where it cannot. */
void scratch_init(struct scratch *x);
void scratch_deinit(struct scratch *x);

#endif
