/*
 * upstream/redis/view.h - which master has which slot: what one server of a Cluster says (CLUSTER SLOTS).
 *
 * Pure. Thread: any.
 */
#ifndef UPSTREAM_REDIS_VIEW_H
#define UPSTREAM_REDIS_VIEW_H

#include "upstream/redis/reply.h"
#include "upstream/redis/slot.h"
#include "upstream/redis/target.h"

struct view {
	struct endpoint masters[CLUSTER_NODES_MAX];
	uint32_t count;
	uint8_t slots[SLOT_COUNT]; /* 1 + index in masters; 0: nobody's */
};

/* Into one that is all zero. asked: who said it. 0, or -EPROTO for an answer that makes no sense. */
MUST_USE int view_take(struct view *v, const redisReply *r, const struct endpoint *asked);
bool view_has(const struct view *v, const struct endpoint *e);

#endif
