/*
 * gateway/region_directory.h - the directory of a region: a control plane is asked, a Redis may be asked before it, and what they
 * said is remembered for a while.
 *
 *   asker's thread   key_find, route_find: L1 has it ──► on_done inside the call
 *                       └─ else a request by mail ─┐                     ▲ mail
 *   directory thread                     joined look-up: Redis ─► control plane ─► L1, Redis
 *                                        changes: Redis's invalidations, the changes feed ─► L1, on_changed
 *
 * What a gateway does not know for sure it asks: an entry lives at most for its setting, is gone with the first word of a change,
 * and an answer that was on its way when the word came is asked for again.
 *
 * Owner:  main. A directory: see directory.h for how it is started, asked, stopped and freed.
 */
#ifndef GATEWAY_REGION_DIRECTORY_H
#define GATEWAY_REGION_DIRECTORY_H

#include "gateway/config.h"
#include "gateway/directory.h"
#include "gateway/l1.h"
#include "upstream/control/client.h"
#include "upstream/redis/cache.h"

/*
 * Checks control.*, redis.* and cache.*, reads their files; nothing is connected before start. `control_secret` signs the tokens for
 * the control plane (Ed25519, 64 bytes in libsodium's form); it and the configuration outlive the directory. 0 or
 * negative errno with a sentence.
 */
MUST_USE int region_directory_new(const struct config *c, const uint8_t *control_secret,
				  struct directory **ret_directory, char ret_error[256]);

/* For `ringgate status`. Times are seconds. */
struct region_status {
	bool is_control_up;
	uint64_t control_since_s; /* for so long */
	struct control_stats control;
	bool has_redis, is_redis_up;
	uint64_t redis_since_s;
	struct cache_stats redis;
	const char *feed; /* "starting", "up", "down", "absent" */
	uint64_t feed_position;
	uint64_t feed_answered_s; /* since it was answered last */
	struct l1_stats l1;
	uint32_t requests_open, lookups_open;
	uint64_t requests, refused, lookups, joined, again, from_redis, from_control, unavailable, not_verified,
		changes;
};

/* Asks the directory's thread. One thread at a time. 0; -ETIMEDOUT: it does not answer, or has not begun. */
MUST_USE int region_directory_status(struct directory *d, struct region_status *ret);

#endif
