/*
 * The region's directory with Redis: what is kept there, what it tells of changes, and what is not believed.
 */
#include "region_world.h"

#include <netinet/in.h>
#include <string.h>
#include <time.h>

static uint64_t wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void test_redis_fill_and_read(void **state)
{
	struct route_query q = {.grant_count = 0};

	world_start(true);
	world_run();
	fake_redis(true);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	fake_nothing();
	assert_int_equal(fake.fills, 3);
	assert_int_equal(fake.reads, 2);
	/* That they were written is told to us as well, and is no news: */
	fake_invalidate("rg:key:" PRINT_1);
	fake_invalidate("rg:route:rs-one");
	fake_invalidate("rg:grant:rs-one:t-one:u-ada");
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	assert_int_equal(fake.reads, 2);
	/* Another gateway has written them, too: L1 forgets, Redis answers. */
	fake_invalidate("rg:key:" PRINT_1);
	fake_invalidate("rg:route:rs-one");
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	ask_route(&q, "rs-one");
	world_wait();
	assert_int_equal(q.verdict, VERDICT_YES);
	assert_string_equal(q.route.grant.user, "u-ada");
	assert_int_equal(((struct sockaddr_in *)&q.route.addr)->sin_port, htons(40001));
	assert_int_equal(fake.reads, 4);
	assert_int_equal(fake.key_calls, 1);
	assert_int_equal(fake.route_calls, 1);
	/* No session is asked about it. */
	assert_int_equal(world.changed[SUBJECT_KEY] + world.changed[SUBJECT_SANDBOX], 0);
	world_finish();
}

static void test_redis_forged(void **state)
{
	struct record_key forged = {.grant_count = 1, .grants = {{.team = "t-root", .user = "u-eve"}}};
	struct record_head head = {.version = 999, .expires_ms = wall_ms() + 60000};
	uint8_t secret[RECORD_SECRET_BYTES] = {1};
	struct key_query q;
	ssize_t n;

	world_start(true);
	world_run();
	fake_redis(true);
	strcpy(fake.values[0].name, "rg:key:" PRINT_1);
	n = record_key_seal(secret, "rg:key:" PRINT_1, &head, &forged, fake.values[0].value);
	assert_true(n > 0);
	fake.values[0].bytes = (size_t)n;
	ask_key(&q, PRINT_1);
	world_wait();
	assert_int_equal(q.verdict, VERDICT_YES);
	assert_string_equal(q.grants[0].user, "u-ada"); /* the control plane was asked */
	assert_int_equal(fake.key_calls, 1);
	strcpy(fake.values[1].name, "rg:key:" PRINT_2);
	memcpy(fake.values[1].value, "garbage", 7);
	fake.values[1].bytes = 7;
	assert_int_equal(key_verdict(PRINT_2), VERDICT_YES);
	assert_int_equal(fake.key_calls, 2);
	world_finish();
}

static void test_redis_down(void **state)
{
	world_start(true);
	fake.feed_result = CONTROL_NOT_FOUND; /* nobody but Redis tells of changes */
	world_run();
	fake_redis(true);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 1);
	fake_redis(false);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES); /* asked again: L1 had it by Redis's word */
	assert_int_equal(fake.key_calls, 2);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES); /* and has it by its own, for a while */
	assert_int_equal(fake.key_calls, 2);
	world_finish();
}

static void test_redis_down_with_feed(void **state)
{
	world_start(true);
	world_run();
	fake_redis(true);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	fake_redis(false);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 1); /* the feed would have told */
	world_finish();
}

static void test_redis_revision(void **state)
{
	world_start(true);
	world_run();
	fake_redis(true);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 1);
	fake.values[0].bytes = 0; /* as the control plane deletes it */
	fake_invalidate("rg:rev:key:" PRINT_1);
	assert_int_equal(world.changed[SUBJECT_KEY], 1);
	assert_string_equal(world.last.fingerprint, PRINT_1);
	fake.key_result = CONTROL_NOT_FOUND;
	assert_int_equal(key_verdict(PRINT_1), VERDICT_NO);
	fake_invalidate("rg:rev:member:t-one:u-ada");
	assert_int_equal(world.changed[SUBJECT_MEMBER], 1);
	assert_string_equal(world.last.team, "t-one");
	fake_invalidate("rg:rev:sandbox:rs-one");
	assert_int_equal(world.changed[SUBJECT_SANDBOX], 1);
	fake_invalidate("rg:rev:sandbox:RS ONE");
	fake_invalidate("rg:rev:key:x");
	fake_invalidate("rg:something");
	assert_int_equal(world.changed[SUBJECT_SANDBOX], 1);
	assert_int_equal(world.changed[SUBJECT_KEY], 1);
	world_finish();
}

/* An invalidation that was lost in a reconnect is found again, once. */
static void test_redis_lost_invalidation(void **state)
{
	world_start(true);
	world_run();
	fake_redis(true);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	fake_redis(false);
	fake.values[0].bytes = 0;
	strcpy(fake.revision_name, "rg:rev:key:" PRINT_1);
	fake.revision = 44;
	fake_redis(true);
	assert_int_equal(world.changed[SUBJECT_KEY], 1);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 2);
	fake_redis(false);
	fake_redis(true);
	assert_int_equal(world.changed[SUBJECT_KEY], 1); /* it was seen */
	fake.revision = 45;
	fake_redis(false);
	fake_redis(true);
	assert_int_equal(world.changed[SUBJECT_KEY], 2);
	world_finish();
}

static void test_redis_flushed(void **state)
{
	struct key_query q;

	world_start(true);
	world_run();
	fake_redis(true);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	memset(fake.values, 0, sizeof(fake.values));
	fake_invalidate("");
	assert_int_equal(world.changed[SUBJECT_ALL], 2); /* a revision may have gone with it */
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 2);
	/* One under way is not asked again, and not remembered. */
	fake.is_held = true;
	ask_key(&q, PRINT_2);
	fake_nothing();
	fake_invalidate("");
	fake_release();
	world_wait();
	assert_int_equal(fake.key_calls, 3);
	fake.is_held = false;
	memset(fake.values, 0, sizeof(fake.values));
	assert_int_equal(key_verdict(PRINT_2), VERDICT_YES);
	assert_int_equal(fake.key_calls, 4);
	world_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_redis_fill_and_read), cmocka_unit_test(test_redis_forged),
		cmocka_unit_test(test_redis_down),          cmocka_unit_test(test_redis_down_with_feed),
		cmocka_unit_test(test_redis_revision),      cmocka_unit_test(test_redis_lost_invalidation),
		cmocka_unit_test(test_redis_flushed),
	};

	return cmocka_run_group_tests(tests, world_setup, world_teardown);
}
