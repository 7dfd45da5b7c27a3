/*
 * bench/relay.h - a long way between a client and a server: what goes in at one end comes out at the other delay_ms later.
 *
 * TCP ends at the relay on both sides, so its own windows do not matter; what is left is how far a protocol on top lets its sender
 * run ahead. Nothing is lost and the rate is not limited; a direction that holds RELAY_HELD_MAX is not read until half of it has left.
 *
 * Owner:  main. Thread: the ring's.
 */
#ifndef BENCH_RELAY_H
#define BENCH_RELAY_H

#include "ring/ring.h"

struct relay_options {
	const char *listen; /* ADDR:PORT, port 0 for any */
	const struct sockaddr *to;
	socklen_t to_bytes;
	uint32_t delay_ms; /* each way */
};

/* Listens, says "relay ADDR:PORT" on standard output, and runs until the ring stops. 0 or negative errno with a sentence on stderr. */
MUST_USE int relay_run(struct ring *r, const struct relay_options *o);

#endif
