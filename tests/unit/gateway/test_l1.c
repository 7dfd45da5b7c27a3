#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/l1.h"
#include "gateway/limits.h"

#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define TTL_MS 1000

static struct l1 *new_l1(uint32_t entries, uint32_t shards)
{
	struct l1_options o = {.entries = {entries, entries, entries, entries}, .shards = shards};
	struct l1 *l = l1_new(&o);

	assert_non_null(l);
	return l;
}

/* An entry that hangs on its own name and perhaps one more. */
static bool put(struct l1 *l, const char *name, const char *value, const char *dep, uint64_t asked, uint64_t now_ms)
{
	struct l1_deps deps = {.count = 0};

	l1_depend(l, &deps, name);
	if (dep)
		l1_depend(l, &deps, dep);
	return l1_put(l,
		      &(struct l1_fill){.kind = L1_KEY,
					.name = name,
					.value = bytes_str(value),
					.deps = &deps,
					.asked = asked,
					.expires_ms = now_ms + TTL_MS},
		      now_ms);
}

static void expect(struct l1 *l, const char *name, uint64_t now_ms, const char *value)
{
	char text[64];
	int n = l1_get(l, L1_KEY, name, now_ms, text, sizeof(text));

	if (!value) {
		assert_int_equal(n, -1);
		return;
	}
	assert_int_equal(n, strlen(value));
	assert_memory_equal(text, value, (size_t)n);
}

static void test_put_get(void **state)
{
	struct l1 *l = new_l1(64, 0);

	expect(l, "a", 0, NULL);
	assert_true(put(l, "a", "one", NULL, l1_now(l), 0));
	expect(l, "a", 0, "one");
	expect(l, "b", 0, NULL);
	assert_int_equal(l1_get(l, L1_ROUTE, "a", 0, NULL, 0), -1); /* each kind has its own table */
	assert_true(put(l, "a", "two", NULL, l1_now(l), 0));
	expect(l, "a", 0, "two");
	assert_true(put(l, "a", "", NULL, l1_now(l), 0));
	expect(l, "a", 0, "");
	l1_free(l);
	l1_free(NULL);
}

static void test_ttl(void **state)
{
	struct l1 *l = new_l1(64, 0);
	struct l1_stats stats;

	assert_true(put(l, "a", "one", NULL, l1_now(l), 5000));
	expect(l, "a", 5000 + TTL_MS - 1, "one");
	expect(l, "a", 5000 + TTL_MS, NULL);
	l1_stats(l, &stats);
	assert_int_equal(stats.count[L1_KEY], 0); /* it does not stay in the way */
	assert_int_equal(stats.hits[L1_KEY], 1);
	assert_int_equal(stats.misses[L1_KEY], 1);
	l1_free(l);
}

static void test_lru(void **state)
{
	struct l1 *l = new_l1(3, 1);
	struct l1_stats stats;

	put(l, "a", "1", NULL, l1_now(l), 0);
	put(l, "b", "2", NULL, l1_now(l), 0);
	put(l, "c", "3", NULL, l1_now(l), 0);
	expect(l, "a", 0, "1"); /* b is the last used now */
	put(l, "d", "4", NULL, l1_now(l), 0);
	expect(l, "b", 0, NULL);
	expect(l, "a", 0, "1");
	expect(l, "c", 0, "3");
	expect(l, "d", 0, "4");
	put(l, "a", "5", NULL, l1_now(l), 0); /* again, in its own place */
	expect(l, "c", 0, "3");
	l1_stats(l, &stats);
	assert_int_equal(stats.count[L1_KEY], 3);
	assert_int_equal(stats.pushed_out[L1_KEY], 1);
	l1_free(l);
}

static void test_bounded(void **state)
{
	struct l1 *l = new_l1(256, 0);
	struct l1_stats stats;
	char name[32];

	for (int i = 0; i < 10000; i++) {
		snprintf(name, sizeof(name), "name-%d", i);
		assert_true(put(l, name, name, NULL, l1_now(l), 0));
		expect(l, name, 0, name);
	}
	l1_stats(l, &stats);
	assert_true(stats.count[L1_KEY] <= 256);
	assert_true(stats.count[L1_KEY] > 128); /* the shards are used alike */
	l1_free(l);
}

static void test_drop(void **state)
{
	struct l1 *l = new_l1(64, 0);

	put(l, "a", "1", "team", l1_now(l), 0);
	put(l, "b", "2", "team", l1_now(l), 0);
	put(l, "c", "3", "other", l1_now(l), 0);
	l1_drop(l, "a");
	expect(l, "a", 0, NULL);
	expect(l, "b", 0, "2");
	l1_drop(l, "team");
	expect(l, "b", 0, NULL);
	expect(l, "c", 0, "3");
	assert_true(put(l, "a", "new", "team", l1_now(l), 0));
	expect(l, "a", 0, "new");
	l1_drop_all(l);
	expect(l, "a", 0, NULL);
	expect(l, "c", 0, NULL);
	l1_free(l);
}

/* Asked, dropped, then filled: it never comes in. */
static void test_late_fill(void **state)
{
	struct l1 *l = new_l1(64, 0);
	struct l1_deps deps = {.count = 0};
	struct l1_stats stats;
	uint64_t asked = l1_now(l);

	l1_depend(l, &deps, "team");
	assert_false(l1_is_stale(l, &deps, asked));
	l1_drop(l, "team");
	assert_true(l1_is_stale(l, &deps, asked));
	assert_false(put(l, "a", "old", "team", asked, 0));
	expect(l, "a", 0, NULL);
	assert_true(put(l, "a", "unrelated", NULL, asked, 0));
	expect(l, "a", 0, "unrelated");
	asked = l1_now(l);
	assert_false(l1_is_stale(l, &deps, asked));
	l1_drop_all(l);
	assert_true(l1_is_stale(l, &deps, asked));
	assert_false(put(l, "b", "old", NULL, asked, 0));
	l1_stats(l, &stats);
	assert_int_equal(stats.late, 2);
	l1_free(l);
}

static void test_redis(void **state)
{
	struct l1 *l = new_l1(64, 0);
	struct l1_deps deps = {.count = 0};
	struct l1_fill f = {.kind = L1_KEY, .name = "r", .value = bytes_str("1"), .deps = &deps, .expires_ms = TTL_MS};

	f.is_redis = true;
	assert_true(l1_put(l, &f, 0));
	assert_true(put(l, "c", "2", NULL, l1_now(l), 0));
	l1_drop_redis(l);
	expect(l, "r", 0, NULL);
	expect(l, "c", 0, "2");
	assert_false(l1_put(l, &f, 0)); /* asked before */
	f.asked = l1_now(l);
	assert_true(l1_put(l, &f, 0));
	expect(l, "r", 0, "1");
	l1_free(l);
}

static void test_versions(void **state)
{
	struct l1 *l = new_l1(64, 0);
	struct l1_deps deps = {.count = 0};
	struct l1_fill f = {
		.kind = L1_KEY, .name = "v", .value = bytes_str("7"), .deps = &deps, .expires_ms = TTL_MS, .version = 7};

	assert_true(l1_put(l, &f, 0));
	f.value = bytes_str("6");
	f.version = 6;
	assert_false(l1_put(l, &f, 0));
	expect(l, "v", 0, "7");
	f.value = bytes_str("8");
	f.version = 8;
	assert_true(l1_put(l, &f, 0));
	expect(l, "v", 0, "8");
	f.value = bytes_str("none");
	f.version = 0; /* nothing to compare by: the last one counts */
	assert_true(l1_put(l, &f, 0));
	expect(l, "v", 0, "none");
	l1_free(l);
}

/* --- threads: one drops and fills, others read; nobody may see a value that was dropped before it began to read --- */

#define READERS 3
#define ROUNDS 20000

struct shared {
	struct l1 *l;
	_Atomic uint32_t dropped; /* values up to this were dropped */
	_Atomic bool is_over;
	_Atomic uint32_t wrong;
};

static void *reader(void *arg)
{
	struct shared *s = arg;

	while (!atomic_load(&s->is_over)) {
		uint32_t at_least = atomic_load(&s->dropped), value;

		if (l1_get(s->l, L1_KEY, "x", 0, &value, sizeof(value)) == sizeof(value) && value <= at_least)
			atomic_fetch_add(&s->wrong, 1);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct shared s = {.l = new_l1(64, 0)};
	struct l1_deps deps = {.count = 0};
	pthread_t threads[READERS];

	l1_depend(s.l, &deps, "x");
	for (int i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, reader, &s), 0);
	for (uint32_t i = 1; i <= ROUNDS; i++) {
		struct l1_fill f = {.kind = L1_KEY,
				    .name = "x",
				    .value = bytes_of(&i, sizeof(i)),
				    .deps = &deps,
				    .asked = l1_now(s.l),
				    .expires_ms = TTL_MS};

		assert_true(l1_put(s.l, &f, 0));
		l1_drop(s.l, "x");
		atomic_store(&s.dropped, i);
		assert_false(l1_put(s.l, &f, 0)); /* a late one */
	}
	atomic_store(&s.is_over, true);
	for (int i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&s.wrong), 0);
	l1_free(s.l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_get), cmocka_unit_test(test_ttl),      cmocka_unit_test(test_lru),
		cmocka_unit_test(test_bounded), cmocka_unit_test(test_drop),     cmocka_unit_test(test_late_fill),
		cmocka_unit_test(test_redis),   cmocka_unit_test(test_versions), cmocka_unit_test(test_threads),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
