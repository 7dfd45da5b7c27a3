/*
 * tests/sim/fake_ring.h - a ring whose kernel is memory; see sim.h.
 *
 * Owner:  made by ring_new, as a ring is.
 */
#ifndef TESTS_SIM_FAKE_RING_H
#define TESTS_SIM_FAKE_RING_H

#include "ring/internal.h"

struct fake_op;

struct fake_ring {
	struct ring ring;
	struct list node; /* in sim.rings */
	struct list ops;  /* in flight */
	struct io_uring_sqe *sqes;
	uint32_t sqe_count;
	struct fake_cqe *cqes;
	uint32_t cqe_count, cqe_size;
	uint32_t *free_buffers;
	uint32_t free_count;
};

/* One turn of the loop; true when anything completed, fired, came or was submitted. */
bool fake_ring_batch(struct fake_ring *f);
/* When it has something to do by itself. */
uint64_t fake_ring_next_us(const struct fake_ring *f);

#endif
