/*
 * bench/histogram.h - latencies in microseconds, within one part in 256, in fixed memory.
 *
 * Log-linear, as HdrHistogram: each power of two has HISTOGRAM_STEPS buckets. (HdrHistogram_c itself is in no distribution that we
 * support, and this is all that is used of it.)
 *
 * Pure. Thread: one at a time.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS 256
/* The largest value that is told apart: 2^36 us, 19 hours. */
#define HISTOGRAM_POWERS 29

struct histogram {
	uint64_t count, sum, max;
	uint64_t buckets[HISTOGRAM_POWERS * HISTOGRAM_STEPS];
};

void histogram_add(struct histogram *h, uint64_t us);
/* The value that a share of all (0 to 1) does not exceed; 0 for an empty one. The bucket's upper end, never above max. */
uint64_t histogram_at(const struct histogram *h, double share);
double histogram_mean(const struct histogram *h);

#endif
