#include "cache_world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct world world;

static void on_poll(struct timer *t)
{
	if (world.is_done() || ring_now_us(world.ring) >= world.deadline_us)
		ring_stop(world.ring);
	else
		timer_start(world.ring, t, 1);
}

void world_init(void)
{
	int rc;

	memset(&world, 0, sizeof(world));
	rc = ring_new(NULL, &world.ring);
	if (rc < 0)
		fail_msg("ring_new: %s", ring_explain(rc));
	timer_init(&world.poll, on_poll);
}

static void on_up(void *owner)
{
	world.ups++;
}

static void on_down(void *owner, const char *why)
{
	world.downs++;
	snprintf(world.why, sizeof(world.why), "%s", why);
	if (getenv("CACHE_LOUD"))
		fprintf(stderr, "down: %s\n", why);
}

static void put(struct note *list, uint32_t *count, struct bytes name, uint64_t version)
{
	if (*count == WORLD_NOTES_MAX)
		*count = 0;
	assert_true(bytes_copy_str(name, list[*count].name, sizeof(list[*count].name)));
	list[*count].version = version;
	(*count)++;
}

static void on_invalidated(void *owner, struct bytes name)
{
	if (name.n == 0)
		world.everything++;
	else
		put(world.invalidated, &world.invalidated_count, name, 0);
}

static void on_revision(void *owner, struct bytes name, uint64_t version)
{
	put(world.revisions, &world.revision_count, name, version);
}

static void on_revisions_done(void *owner)
{
	world.revisions_done++;
}

static void on_freed(void *owner)
{
	world.is_freed = true;
}

void world_cache_with(const struct cache_options *o)
{
	static const struct cache_events events = {
		.on_up = on_up,
		.on_down = on_down,
		.on_invalidated = on_invalidated,
		.on_revision = on_revision,
		.on_revisions_done = on_revisions_done,
	};
	char error[256];
	int rc = cache_new(world.ring, o, &events, &world, &world.cache, error);

	if (rc < 0)
		fail_msg("cache_new: %s", error);
	world.is_freed = false;
}

void world_cache(const char *url, uint32_t timeout_ms)
{
	const struct cache_options o = {.url = url, .connect_timeout_ms = timeout_ms, .timeout_ms = timeout_ms};

	world_cache_with(&o);
}

static bool is_freed(void)
{
	return world.is_freed;
}

void world_cache_free(void)
{
	cache_free(world.cache, on_freed);
	world.cache = NULL;
	world_run(is_freed, "the cache to be freed");
}

void world_deinit(void)
{
	if (world.cache)
		world_cache_free();
	timer_stop(world.ring, &world.poll);
	ring_free(world.ring);
}

void world_run(bool (*is_done)(void), const char *what)
{
	world.is_done = is_done;
	timer_start(world.ring, &world.poll, 0);
	world.deadline_us = ring_now_us(world.ring) + WORLD_DEADLINE_MS * 1000ULL;
	assert_int_equal(ring_run(world.ring), 0);
	if (!is_done())
		fail_msg("waited too long for %s (last down: %s)", what, world.why);
}

static uint64_t pass_until_us;

static bool is_past(void)
{
	return ring_now_us(world.ring) >= pass_until_us;
}

void world_pass(uint32_t ms)
{
	timer_start(world.ring, &world.poll, 0);
	pass_until_us = ring_now_us(world.ring) + ms * 1000ULL;
	world_run(is_past, "time to pass");
}

static uint32_t wanted;

static bool is_up_often(void)
{
	return world.ups >= wanted;
}

static bool is_down_often(void)
{
	return world.downs >= wanted;
}

void world_await_up(uint32_t n)
{
	wanted = n;
	world_run(is_up_often, "the cache to be up");
}

void world_await_down(uint32_t n)
{
	wanted = n;
	world_run(is_down_often, "the cache to be down");
}

struct cache_stats world_stats(void)
{
	struct cache_stats s;

	cache_stats(world.cache, &s);
	return s;
}

bool world_is_up(void)
{
	return world_stats().is_up;
}

bool world_was_invalidated(const char *name)
{
	for (uint32_t i = 0; i < world.invalidated_count; i++)
		if (strcmp(world.invalidated[i].name, name) == 0)
			return true;
	return false;
}

static const char *awaited_name;

static bool is_invalidated(void)
{
	return world_was_invalidated(awaited_name);
}

void world_await_invalidated(const char *name)
{
	awaited_name = name;
	world_run(is_invalidated, name);
}

uint64_t world_revision(const char *name)
{
	for (uint32_t i = 0; i < world.revision_count; i++)
		if (strcmp(world.revisions[i].name, name) == 0)
			return world.revisions[i].version;
	return UINT64_MAX;
}

/* --- reads --- */

static void on_read(struct cache_read *q)
{
	struct read *r = q->owner;

	assert_false(r->is_done);
	r->is_done = true;
	for (uint32_t i = 0; i < q->count; i++) {
		r->bytes[i] = q->values[i].p ? q->values[i].n : SIZE_MAX;
		if (q->values[i].p && i < 4) {
			assert_true(q->values[i].n <= RECORD_VALUE_MAX);
			memcpy(r->values[i], q->values[i].p, q->values[i].n);
		}
	}
}

void read_start(struct read *r, const char *a, const char *b, const char *c)
{
	const char *names[] = {a, b, c};

	memset(r, 0, sizeof(*r));
	for (size_t i = 0; i < ARRAY_LEN(names) && names[i]; i++)
		snprintf(r->q.names[r->q.count++], RECORD_NAME_MAX, "%s", names[i]);
	r->q.on_done = on_read;
	r->q.owner = r;
	cache_get(world.cache, &r->q);
	assert_false(r->is_done);
}

static struct read *awaited_read;

static bool is_read(void)
{
	return awaited_read->is_done;
}

void read_await(struct read *r)
{
	awaited_read = r;
	world_run(is_read, "a read");
}

enum cache_result read_names(struct read *r, const char *a, const char *b, const char *c)
{
	read_start(r, a, b, c);
	read_await(r);
	return r->q.result;
}

bool read_is(const struct read *r, uint32_t i, const char *text)
{
	return r->bytes[i] == strlen(text) && memcmp(r->values[i], text, strlen(text)) == 0;
}

/* --- fills --- */

static uint64_t fills_before;

static uint64_t fills_told(void)
{
	struct cache_stats s = world_stats();

	return s.fills + s.fills_refused + s.fills_failed;
}

static bool is_filled(void)
{
	return fills_told() > fills_before;
}

enum fill_outcome fill_names(const char *name, uint64_t version, const char *rest, uint32_t ttl_ms,
			     char (*revs)[RECORD_NAME_MAX], uint32_t count)
{
	struct cache_stats before = world_stats(), after;
	char value[RECORD_VALUE_MAX];

	fills_before = fills_told();
	snprintf(value, sizeof(value), "%020" PRIu64 "%s", version, rest);
	cache_fill(world.cache, name, version, bytes_str(value), ttl_ms, (const char(*)[RECORD_NAME_MAX])revs, count);
	/* It owns a copy of all. */
	memset(value, 'x', sizeof(value));
	world_run(is_filled, "a fill");
	after = world_stats();
	if (after.fills > before.fills)
		return FILLED;
	return after.fills_refused > before.fills_refused ? FILL_REFUSED : FILL_FAILED;
}

enum fill_outcome fill(const char *name, uint64_t version, const char *rest, uint32_t ttl_ms, const char *rev_a,
		       const char *rev_b)
{
	const char *revs[] = {rev_a, rev_b};
	char names[2][RECORD_NAME_MAX];
	uint32_t count = 0;

	for (size_t i = 0; i < ARRAY_LEN(revs) && revs[i]; i++)
		snprintf(names[count++], RECORD_NAME_MAX, "%s", revs[i]);
	return fill_names(name, version, rest, ttl_ms, names, count);
}
