/*
 * The region's directory: questions that are joined, cancelled, held back, or never answered.
 */
#include "gateway/limits.h"
#include "region_world.h"

#include <stdlib.h>
#include <string.h>

#define THOUSAND 1000

/* --- joined look-ups --- */

static void test_thousand_keys(void **state)
{
	struct key_query *q = calloc(THOUSAND, sizeof(*q));

	world_start(false);
	world_run();
	fake.is_held = true;
	for (int i = 0; i < THOUSAND; i++)
		ask_key(&q[i], PRINT_1);
	fake_nothing();
	assert_int_equal(fake.key_calls, 1);
	fake_release();
	world_wait();
	for (int i = 0; i < THOUSAND; i++) {
		assert_int_equal(q[i].verdict, VERDICT_YES);
		assert_string_equal(q[i].grants[0].user, "u-ada");
	}
	assert_int_equal(fake.key_calls, 1);
	world_finish();
	free(q);
}

static void test_different_questions(void **state)
{
	struct grant both[] = {ada, {.team = "t-two", .user = "u-ada"}};
	struct route_query a = {.grant_count = 0}, b = {.grants = both, .grant_count = 2}, c = {.is_retry = true},
			   d = {.wait_ms = 5000}, again = {.grant_count = 0};

	world_start(false);
	world_run();
	fake.is_held = true;
	ask_route(&a, "rs-one");
	ask_route(&b, "rs-one"); /* other grants */
	ask_route(&c, "rs-one"); /* the source */
	ask_route(&d, "rs-one"); /* may be held back */
	ask_route(&again, "rs-one");
	fake_nothing();
	assert_int_equal(fake.route_calls, 4);
	assert_int_equal(fake.last_wait_s, 5);
	fake_release();
	world_wait();
	world_finish();
}

static void test_cancel(void **state)
{
	struct key_query a, b;

	world_start(false);
	world_run();
	fake.is_held = true;
	ask_key(&a, PRINT_1);
	ask_key(&b, PRINT_1);
	world.directory->ops->key_cancel(world.directory, &a);
	world.awaited--;
	fake_nothing();
	fake_release();
	world_wait();
	assert_int_equal(b.verdict, VERDICT_YES);
	/* One whose answer is in our mailbox already. */
	ask_key(&a, PRINT_2);
	fake_nothing();
	fake_release();
	world.directory->ops->key_cancel(world.directory, &a);
	world.awaited--;
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	/* Nobody waits: the answer is remembered all the same. */
	assert_int_equal(fake.cancelled, 0);
	assert_int_equal(key_verdict(PRINT_2), VERDICT_YES);
	assert_int_equal(fake.key_calls, 2);
	fake.is_held = false;
	change_key(PRINT_1);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES); /* our ring has run */
	assert_int_equal(world_open_requests(), 0);          /* none of them stays behind */
	world_finish();
}

static void test_cancel_of_a_wait(void **state)
{
	struct route_query a = {.wait_ms = 30000}, b = {.wait_ms = 30000};

	world_start(false);
	world_run();
	fake.is_held = true;
	ask_route(&a, "rs-one");
	ask_route(&b, "rs-one");
	fake_nothing();
	assert_int_equal(fake.route_calls, 1);
	world.directory->ops->route_cancel(world.directory, &a);
	fake_nothing();
	assert_int_equal(fake.cancelled, 0);
	world.directory->ops->route_cancel(world.directory, &b);
	fake_nothing();
	assert_int_equal(fake.cancelled, 1); /* nobody waits any more: it is dropped */
	world.awaited = 0;
	world_finish();
}

static void test_waking(void **state)
{
	struct route_query q = {.wait_ms = 20000};

	world_start(false);
	fake.route_result = CONTROL_WAKING;
	world_run();
	assert_int_equal(route_verdict("rs-one"), VERDICT_WAKING);
	ask_route(&q, "rs-one");
	world_wait();
	assert_int_equal(q.verdict, VERDICT_WAKING);
	assert_string_equal(q.route.sandbox, "rs-one");
	assert_string_equal(q.route.grant.user, "u-ada");
	fake.route_result = CONTROL_UNAVAILABLE;
	strcpy(fake.reason, "its image is gone");
	ask_route(&q, "rs-one");
	world_wait();
	assert_int_equal(q.verdict, VERDICT_UNAVAILABLE);
	assert_string_equal(q.reason, "its image is gone");
	fake.route_result = CONTROL_OK;
	ask_route(&q, "rs-one");
	world_wait();
	assert_int_equal(q.verdict, VERDICT_YES);
	world_finish();
}

/* With questions on their way, answers in mailboxes, and some cancelled. */
static void test_stop_in_any_state(void **state)
{
	struct key_query a, b, c;
	struct route_query d = {.wait_ms = 1000};

	world_start(true);
	world_run();
	fake.is_held = true;
	ask_key(&a, PRINT_1);
	ask_route(&d, "rs-one");
	fake_nothing();
	fake_release();
	ask_key(&b, PRINT_2);
	ask_key(&c, PRINT_2);
	world.directory->ops->key_cancel(world.directory, &c);
	world_finish();

	world_start(false);
	world.directory->ops->free(world.directory); /* never started */
	ring_free(world.ring);

	world_start(true);
	world_run();
	world_finish(); /* at once */
}

static void test_bounded(void **state)
{
	struct key_query *q = calloc(REGION_REQUESTS_MAX + 1, sizeof(*q));

	world_start(false);
	world_run();
	fake.is_held = true;
	for (int i = 0; i < REGION_REQUESTS_MAX; i++)
		ask_key(&q[i], PRINT_1);
	assert_int_equal(world.awaited, REGION_REQUESTS_MAX);
	ask_key(&q[REGION_REQUESTS_MAX], PRINT_1);
	assert_int_equal(world.awaited, REGION_REQUESTS_MAX);
	assert_int_equal(q[REGION_REQUESTS_MAX].verdict, VERDICT_UNAVAILABLE);
	fake_release();
	world_wait();
	world_finish();
	free(q);
}

/* --- failures --- */

static void test_control_down(void **state)
{
	struct key_query q;

	world_start(false);
	world_run();
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	fake.key_result = fake.route_result = fake.feed_result = CONTROL_FAILED;
	fake_control_state(false);
	fake_feed_end(CONTROL_FAILED, 0);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES); /* what is known is used until its time is over */
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	ask_key(&q, PRINT_2);
	world_wait();
	assert_int_equal(q.verdict, VERDICT_UNAVAILABLE);
	assert_string_equal(q.reason, "temporarily unavailable; try again in a moment");
	assert_int_equal(route_verdict("rs-two"), VERDICT_UNAVAILABLE);
	fake.key_result = CONTROL_OK;
	assert_int_equal(key_verdict(PRINT_2), VERDICT_YES); /* a failure is not remembered */
	world_finish();
}

/* Nothing comes back at all: the asker is told in time. */
static void test_deadline(void **state)
{
	struct key_query q;

	world_start(false);
	world.config.control.timeout_ms = world.config.redis.timeout_ms = 50;
	world_run();
	fake.is_held = true;
	ask_key(&q, PRINT_1);
	world_wait();
	assert_int_equal(q.verdict, VERDICT_UNAVAILABLE);
	world_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_thousand_keys), cmocka_unit_test(test_different_questions),
		cmocka_unit_test(test_cancel),        cmocka_unit_test(test_cancel_of_a_wait),
		cmocka_unit_test(test_waking),        cmocka_unit_test(test_stop_in_any_state),
		cmocka_unit_test(test_bounded),       cmocka_unit_test(test_control_down),
		cmocka_unit_test(test_deadline),
	};

	return cmocka_run_group_tests(tests, world_setup, world_teardown);
}
