/*
 * gateway/probe_limit.h - how many keys that clients offer are asked for elsewhere: in all, and by address.
 *
 * Two rates, each with a second's worth at once (the generic cell rate algorithm). Addresses share PROBE_ADDRESSES places by a
 * keyed hash: two that meet share a rate, and there is nothing that a flood of addresses could fill.
 *
 * Thread: any.
 */
#ifndef GATEWAY_PROBE_LIMIT_H
#define GATEWAY_PROBE_LIMIT_H

#include "core/check.h"
#include "gateway/limits.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct probe_limit {
	pthread_mutex_t lock;
	uint8_t hash_key[16];
	uint64_t all_us; /* an interval each; 0: no limit */
	uint64_t address_us;
	uint64_t all_next_us;
	uint64_t next_us[PROBE_ADDRESSES];
};

/* A second; 0 is no limit. */
void probe_limit_init(struct probe_limit *p, uint32_t rate, uint32_t rate_address);
void probe_limit_deinit(struct probe_limit *p);

/* One of PROBE_ADDRESSES, by a keyed hash. IPv6 goes by /64. */
uint32_t probe_limit_place(const struct probe_limit *p, const struct sockaddr *from);
/* Counts one, and says how long it has to wait. False, and not counted: longer than max_wait_us. IPv6 goes by /64. */
MUST_USE bool probe_limit_take(struct probe_limit *p, const struct sockaddr *from, uint64_t now_us,
			       uint64_t max_wait_us, uint64_t *ret_wait_us);

#endif
