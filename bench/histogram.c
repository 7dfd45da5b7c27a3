#include "bench/histogram.h"

#include <math.h>

static uint32_t bucket_of(uint64_t us)
{
	uint32_t power = 0;

	while (us >> power >= HISTOGRAM_STEPS && power < HISTOGRAM_POWERS - 1)
		power++;
	us >>= power;
	return power * HISTOGRAM_STEPS + (uint32_t)(us < HISTOGRAM_STEPS ? us : HISTOGRAM_STEPS - 1);
}

void histogram_add(struct histogram *h, uint64_t us)
{
	h->buckets[bucket_of(us)]++;
	h->count++;
	h->sum += us;
	if (us > h->max)
		h->max = us;
}

uint64_t histogram_at(const struct histogram *h, double share)
{
	uint64_t rank = (uint64_t)ceil(share * (double)h->count), seen = 0;

	if (rank == 0)
		rank = 1;
	for (uint32_t i = 0; i < HISTOGRAM_POWERS * HISTOGRAM_STEPS; i++) {
		uint32_t power = i / HISTOGRAM_STEPS;
		uint64_t upper = ((uint64_t)(i % HISTOGRAM_STEPS + 1) << power) - 1;

		seen += h->buckets[i];
		if (seen >= rank)
			return upper < h->max ? upper : h->max;
	}
	return h->max;
}

double histogram_mean(const struct histogram *h)
{
	return h->count ? (double)h->sum / (double)h->count : 0;
}
