/*
 * tests/unit/gateway/fake_upstream.h - a control plane and a Redis in memory, behind upstream/control/client.h and
 * upstream/redis/cache.h.
 *
 * Calls are answered by what `fake` says when they come, or held while it says so. The test's thread sets it under fake.lock; the
 * directory thread reads it.
 */
#ifndef TESTS_UNIT_GATEWAY_FAKE_UPSTREAM_H
#define TESTS_UNIT_GATEWAY_FAKE_UPSTREAM_H

#include "upstream/control/client.h"
#include "upstream/redis/cache.h"

#include <pthread.h>

#define FAKE_VALUES_MAX 64

struct fake_value {
	char name[RECORD_NAME_MAX];
	uint8_t value[RECORD_VALUE_MAX];
	size_t bytes; /* 0: free */
};

struct fake {
	pthread_mutex_t lock;
	struct ring *ring; /* the directory's */

	/* The control plane. */
	bool is_held; /* calls wait for fake_release */
	enum control_result key_result, route_result;
	struct grant grants[GRANTS_MAX];
	uint32_t grant_count;
	bool has_version;
	uint64_t version;
	char procd_url[CONTROL_URL_MAX], procd_key[CONTROL_KEY_TEXT_MAX], state[16], reason[CONTROL_REASON_MAX];
	char policy[POLICY_TEXT_MAX];
	uint32_t key_calls, route_calls, cancelled; /* counted */
	bool was_no_wake;
	uint32_t last_wait_s;

	/* The changes feed. */
	_Atomic enum control_result feed_result;
	uint64_t feed_next;
	uint64_t feed_since; /* of the last call */
	_Atomic uint32_t feed_calls;
	_Atomic bool is_feed_waiting;

	/* Redis. */
	bool is_redis_up;
	struct fake_value values[FAKE_VALUES_MAX];
	uint32_t reads, fills, revision_reads;
	char revision_name[RECORD_NAME_MAX]; /* told by cache_revisions; "" none */
	uint64_t revision;
};

extern struct fake fake;

/* Everything as new: one user in team t-one, rs-one at 192.0.2.7:40001, a feed at 10, Redis down. */
void fake_reset(void);

/* On the directory thread, waited for: */
void fake_release(void); /* answers what was held, by what `fake` says now */
void fake_feed_tell(const struct control_change *changes, uint32_t count); /* to the feed's call that waits */
void fake_feed_end(enum control_result result, uint64_t next);
void fake_control_state(bool is_up);
void fake_redis(bool is_up);
void fake_invalidate(const char *name);
void fake_nothing(void); /* what was posted before has been handled */

#endif
