/*
 * gateway/l1.h - what a gateway remembers of answers: bounded LRU tables, cut into shards.
 *
 * An entry is bytes under a name. It is gone when its time is over, when newer ones push it out, or when one of the names that
 * it hangs on was dropped after it was asked for. Dropping costs one store: each name has a slot with the sequence number of
 * its last drop, and an entry counts only if it was asked for since. So a fill that was asked for before a drop and
 * comes after it is dead on arrival. Two names in one slot cost a miss, no more.
 *
 * Owner:  whoever makes it.
 * Thread: any; a shard is locked while an entry is copied. Drops are made by one thread at a time.
 */
#ifndef GATEWAY_L1_H
#define GATEWAY_L1_H

#include "core/bytes.h"
#include "core/check.h"
#include "core/limits.h"
#include "upstream/redis/record.h"

struct l1;

enum l1_kind {
	L1_KEY,
	L1_ROUTE,
	L1_GRANT,
	L1_NO, /* what is unknown or forbidden: a table of its own, so that scanners push nobody out */
};
#define L1_KINDS 4

#define L1_NAME_MAX RECORD_NAME_MAX
/* A route and its policies' text; a key's grants are less. */
#define L1_VALUE_MAX (GRANTS_MAX * sizeof(struct grant) + POLICY_TEXT_MAX)
/* A key's record, its revision, and that of each of its grants. */
#define L1_DEPS_MAX (2 + GRANTS_MAX)

struct l1_options {
	uint32_t entries[L1_KINDS]; /* at most, of each table */
	uint32_t shards;            /* power of two; 0: L1_SHARDS */
};

struct l1_stats {
	uint64_t hits[L1_KINDS], misses[L1_KINDS];
	uint64_t pushed_out[L1_KINDS]; /* by newer ones */
	uint64_t late;                 /* fills that were dead on arrival */
	uint32_t count[L1_KINDS];
};

/* What an entry hangs on. */
struct l1_deps {
	uint32_t slots[L1_DEPS_MAX];
	uint32_t count;
};

struct l1_fill {
	enum l1_kind kind;
	const char *name;
	struct bytes value;
	const struct l1_deps *deps;
	uint64_t asked; /* l1_now when it was asked for */
	uint64_t expires_ms;
	uint64_t version; /* 0: none. One that is below the version of what is there changes nothing */
	bool is_redis;    /* only Redis vouches for it: l1_drop_redis ends it */
};

/* NULL without memory. */
struct l1 *l1_new(const struct l1_options *o);
void l1_free(struct l1 *l);

/* The number of drops so far. Ask for it before asking for an answer that will be kept. */
uint64_t l1_now(const struct l1 *l);
void l1_depend(const struct l1 *l, struct l1_deps *d, const char *name);
/* Was one of these dropped since; or that, or everything? */
bool l1_was_dropped(const struct l1 *l, const struct l1_deps *d, uint64_t asked);
bool l1_is_stale(const struct l1 *l, const struct l1_deps *d, uint64_t asked);

/* False when it was dead on arrival, or there is no memory. */
bool l1_put(struct l1 *l, const struct l1_fill *f, uint64_t now_ms);
/* Copies a value of at most `size` bytes; returns its length, or -1 where there is none. */
MUST_USE int l1_get(struct l1 *l, enum l1_kind kind, const char *name, uint64_t now_ms, void *ret_value, size_t size);

void l1_drop(struct l1 *l, const char *name);
void l1_drop_redis(struct l1 *l);
void l1_drop_all(struct l1 *l);

void l1_stats(const struct l1 *l, struct l1_stats *ret);

#endif
