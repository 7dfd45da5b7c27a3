/*
 * core/slice.h - a thread that moves bulk gives way to whoever wakes up.
 *
 * The kernel lets a running thread end its slice (a few milliseconds, all threads alike) before one that wakes up runs: a keystroke
 * waits for that at each process that it passes. A thread that asks for long slices is interrupted by those with shorter ones, and has
 * the same share of the processor (sched_setattr(2), sched_runtime of SCHED_OTHER: Linux 6.12; older ones ignore it).
 *
 * Owner:  embedded in what the thread runs.
 * Thread: the one that it is about.
 */
#ifndef CORE_SLICE_H
#define CORE_SLICE_H

#include <stdbool.h>
#include <stdint.h>

/* How often it is looked, and how much moved meanwhile makes it bulk: 25 MB/s. */
#define SLICE_LOOK_US 20000
#define SLICE_BULK_BYTES (512 * 1024)
/* The longest that the kernel takes: longer than that of anybody who has not asked for any. */
#define SLICE_BULK_NS 100000000ull

struct slice {
	uint64_t looked_us, looked_bytes;
	bool is_bulk;
};

/* Once a batch, with the clock and all bytes that were ever moved. */
void slice_look(struct slice *s, uint64_t now_us, uint64_t bytes);
/* The calling thread's slice is the usual one again: for a child that is to be somebody else's program. Async-signal-safe. */
void slice_reset(void);

#endif
