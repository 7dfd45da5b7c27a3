/*
 * tests/unit/upstream/cache_world.h - a ring with a cache on it, and notes of what the cache has told.
 */
#ifndef TESTS_UNIT_UPSTREAM_CACHE_WORLD_H
#define TESTS_UNIT_UPSTREAM_CACHE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "redis_server.h"
#include "ring/ring.h"
#include "upstream/redis/cache.h"

/* A wait that takes longer than this hangs. */
#define WORLD_DEADLINE_MS 30000
#define WORLD_NOTES_MAX 16384

struct note {
	char name[RECORD_NAME_MAX];
	uint64_t version;
};

struct world {
	struct ring *ring;
	struct cache *cache;
	struct timer poll;
	uint64_t deadline_us;
	bool (*is_done)(void);
	bool is_freed;
	uint32_t ups, downs, everything, revisions_done;
	char why[256]; /* of the last on_down */
	struct note invalidated[WORLD_NOTES_MAX];
	uint32_t invalidated_count;
	struct note revisions[WORLD_NOTES_MAX];
	uint32_t revision_count;
};

extern struct world world;

/* A ring and nothing on it. */
void world_init(void);
/* Frees the cache, if there is one, and the ring. */
void world_deinit(void);
/* timeout_ms is that of a command and of a connection. */
void world_cache(const char *url, uint32_t timeout_ms);
void world_cache_with(const struct cache_options *o);
void world_cache_free(void);

/* Runs the ring until is_done; looks every millisecond. */
void world_run(bool (*is_done)(void), const char *what);
/* Lets it run for so long. */
void world_pass(uint32_t ms);
/* Until it has been up n times. */
void world_await_up(uint32_t n);
void world_await_down(uint32_t n);
bool world_is_up(void);

bool world_was_invalidated(const char *name);
void world_await_invalidated(const char *name);
/* The number told for it, or UINT64_MAX. */
uint64_t world_revision(const char *name);

/* One read of up to three names; NULL ends them. Values are copied, so that they can be looked at. */
struct read {
	struct cache_read q;
	bool is_done;
	size_t bytes[CACHE_READ_KEYS_MAX]; /* SIZE_MAX: absent */
	uint8_t values[4][RECORD_VALUE_MAX];
};

void read_start(struct read *r, const char *a, const char *b, const char *c);
void read_await(struct read *r);
/* Asks and waits. */
enum cache_result read_names(struct read *r, const char *a, const char *b, const char *c);
bool read_is(const struct read *r, uint32_t i, const char *text);

/* A fill whose outcome is awaited by the counters. */
enum fill_outcome { FILLED, FILL_REFUSED, FILL_FAILED };
enum fill_outcome fill(const char *name, uint64_t version, const char *rest, uint32_t ttl_ms, const char *rev_a,
		       const char *rev_b);
enum fill_outcome fill_names(const char *name, uint64_t version, const char *rest, uint32_t ttl_ms,
			     char (*revs)[RECORD_NAME_MAX], uint32_t count);

struct cache_stats world_stats(void);

#endif
