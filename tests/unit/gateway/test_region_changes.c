/*
 * The region's directory and the control plane's feed of changes: what is forgotten, and what a change overtakes.
 */
#include "gateway/limits.h"
#include "region_world.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* --- the feed --- */

static void test_feed(void **state)
{
	struct control_change member = {.kind = CONTROL_SUBJECT_MEMBER, .member = ada},
			      moved = {.kind = CONTROL_SUBJECT_SANDBOX, .is_moved = true, .sandbox = "rs-one"};

	world_start(false);
	world_run();
	assert_int_equal(fake.feed_since, 10);
	assert_int_equal(world.changed[SUBJECT_ALL], 1); /* what was before is not known */
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);

	change_key(PRINT_1);
	assert_int_equal(world.changed[SUBJECT_KEY], 1);
	assert_string_equal(world.last.fingerprint, PRINT_1);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 2);
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	assert_int_equal(fake.route_calls, 1);

	fake_feed_tell(&member, 1);
	assert_int_equal(world.changed[SUBJECT_MEMBER], 1);
	assert_string_equal(world.last.user, "u-ada");
	assert_string_equal(world.last.team, "t-one");
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 3);
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	assert_int_equal(fake.route_calls, 2);

	strcpy(fake.procd_url, "tcp://192.0.2.8:40001");
	fake_feed_tell(&moved, 1);
	assert_int_equal(world.changed[SUBJECT_SANDBOX], 1);
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	assert_int_equal(fake.route_calls, 3);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 3);
	assert_int_equal(fake.feed_since, 13);
	world_finish();
}

/* Lost and found again: it goes on where it was. */
static void test_feed_lost(void **state)
{
	uint32_t calls;

	world_start(false);
	world_run();
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	calls = fake.feed_calls;
	fake.feed_result = CONTROL_FAILED;
	fake_feed_end(CONTROL_FAILED, 0);
	while (fake.feed_calls < calls + 2)
		usleep(1000);
	fake.feed_result = CONTROL_OK; /* asked without a wait, it says at once that it is back */
	for (fake.is_feed_waiting = false; !fake.is_feed_waiting;)
		usleep(1000);
	fake_nothing();
	assert_int_equal(fake.feed_since, 10);
	change_key(PRINT_1);
	assert_int_equal(world.changed[SUBJECT_KEY], 1);
	assert_int_equal(world.changed[SUBJECT_ALL], 1);
	world_finish();
}

static void test_feed_too_old(void **state)
{
	world_start(false);
	world_run();
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	fake_feed_end(CONTROL_TOO_OLD, 700); /* the answer tells where to go on */
	assert_int_equal(world.changed[SUBJECT_ALL], 2);
	assert_int_equal(fake.feed_since, 700);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 2); /* nothing was kept */
	fake.feed_next = 900;
	fake_feed_end(CONTROL_TOO_OLD, 0); /* it does not: the feed is begun anew */
	while (atomic_load(&world.changed[SUBJECT_ALL]) < 3)
		usleep(1000);
	fake_nothing();
	assert_int_equal(fake.feed_since, 900);
	world_finish();
}

/* A control plane on which nothing was ever changed answers at once, and does not list the first change. */
static void test_feed_from_nothing(void **state)
{
	world_start(false);
	fake.feed_next = 0;
	world_run();
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	fake_feed_end(CONTROL_OK, 0);
	assert_int_equal(world.changed[SUBJECT_ALL], 1);
	for (fake.is_feed_waiting = false; !fake.is_feed_waiting;)
		usleep(1000);
	fake_feed_end(CONTROL_OK, 1);
	assert_int_equal(world.changed[SUBJECT_ALL], 2);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 2);
	world_finish();
}

static void test_feed_absent(void **state)
{
	world_start(false);
	fake.feed_result = CONTROL_NOT_FOUND;
	world_run();
	usleep(50000);
	assert_int_equal(fake.feed_calls, 1);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 1);
	world_finish();
}

/* A control plane takes the place of one that had a feed: what the feed vouched for is not believed for as long as it would have been. */
static void test_feed_goes_away(void **state)
{
	world_start(false);
	world_run();
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 1);
	fake.feed_result = CONTROL_NOT_FOUND;
	fake_feed_end(CONTROL_NOT_FOUND, 0);
	fake_nothing();
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 2);
	world_finish();
}

/* --- a change while the answer is on its way --- */

static void test_late_answer(void **state)
{
	struct key_query a, b;

	world_start(false);
	world_run();
	fake.is_held = true;
	ask_key(&a, PRINT_1);
	fake_nothing();
	change_key(PRINT_1);  /* deleted; the answer on its way says yes */
	ask_key(&b, PRINT_1); /* asked after the change: does not join what was asked before */
	fake_nothing();
	assert_int_equal(fake.key_calls, 2);
	fake_release();
	assert_int_equal(fake.key_calls, 3); /* the overtaken one is asked again */
	fake.key_result = CONTROL_NOT_FOUND;
	fake_release();
	world_wait();
	assert_int_equal(a.verdict, VERDICT_NO);
	assert_int_equal(b.verdict, VERDICT_YES); /* as the control plane said after the change */
	world_finish();
}

static void test_overtaken_again_and_again(void **state)
{
	struct key_query q;

	world_start(false);
	world_run();
	fake.is_held = true;
	ask_key(&q, PRINT_1);
	fake_nothing();
	for (int i = 0; i < REGION_LOOKUP_TRIES; i++) {
		assert_int_equal(fake.key_calls, 1 + i);
		change_key(PRINT_1);
		fake_release();
	}
	world_wait();
	assert_int_equal(q.verdict, VERDICT_YES); /* whoever gets it is checked when he is live */
	fake.is_held = false;
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, REGION_LOOKUP_TRIES + 1); /* it was not remembered */
	world_finish();
}

/* A change of one of the grants overtakes it, too. */
static void test_late_grant(void **state)
{
	struct control_change member = {.kind = CONTROL_SUBJECT_MEMBER, .member = ada};
	struct key_query q;

	world_start(false);
	world_run();
	fake.is_held = true;
	ask_key(&q, PRINT_1);
	fake_nothing();
	fake_feed_tell(&member, 1);
	fake_release();
	assert_int_equal(fake.key_calls, 2);
	fake_release();
	world_wait();
	assert_int_equal(q.verdict, VERDICT_YES);
	world_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_feed),         cmocka_unit_test(test_feed_lost),
		cmocka_unit_test(test_feed_too_old), cmocka_unit_test(test_feed_from_nothing),
		cmocka_unit_test(test_feed_absent),  cmocka_unit_test(test_feed_goes_away),
		cmocka_unit_test(test_late_answer),  cmocka_unit_test(test_overtaken_again_and_again),
		cmocka_unit_test(test_late_grant),
	};

	return cmocka_run_group_tests(tests, world_setup, world_teardown);
}
