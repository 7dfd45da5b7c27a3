/*
 * The region's directory: what is asked, and how its answer comes to whoever asked.
 */
#include "region_world.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static void test_key(void **state)
{
	struct key_query q;

	world_start(false);
	world_run();
	ask_key(&q, PRINT_1);
	assert_int_equal(world.awaited, 1); /* it has to be asked for */
	world_wait();
	assert_int_equal(q.verdict, VERDICT_YES);
	assert_int_equal(q.grant_count, 1);
	assert_string_equal(q.grants[0].user, "u-ada");
	ask_key(&q, PRINT_1);
	assert_int_equal(world.awaited, 0); /* inside the call */
	assert_int_equal(q.verdict, VERDICT_YES);
	assert_string_equal(q.grants[0].team, "t-one");
	assert_int_equal(fake.key_calls, 1);
	assert_true(world.directory->ops->key_recall(world.directory, &q));
	strcpy(q.fingerprint, PRINT_2);
	assert_false(world.directory->ops->key_recall(world.directory, &q));
	world_finish();
}

static void test_route(void **state)
{
	struct route_query q = {.grant_count = 0};
	const struct sockaddr_in *in = (const struct sockaddr_in *)&q.route.addr;

	world_start(false);
	strcpy(fake.procd_key, "ed25519:AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=");
	world_run();
	for (int i = 0; i < 2; i++) {
		q = (struct route_query){.grant_count = 0};
		ask_route(&q, "rs-one");
		assert_int_equal(world.awaited, i == 0);
		world_wait();
		assert_int_equal(q.verdict, VERDICT_YES);
		assert_string_equal(q.route.sandbox, "rs-one");
		assert_string_equal(q.route.grant.user, "u-ada");
		assert_int_equal(ntohl(in->sin_addr.s_addr), 0xc0000207);
		assert_int_equal(ntohs(in->sin_port), 40001);
		assert_true(q.route.has_procd_key);
		assert_int_equal(q.route.procd_key.key[31], 32);
	}
	assert_int_equal(fake.route_calls, 1);
	world_finish();
}

/* What L1 knows of one user says nothing of another. */
static void test_route_of_others(void **state)
{
	struct grant ben = {.team = "t-two", .user = "u-ben"};
	struct route_query q = {.grants = &ben, .grant_count = 1};

	world_start(false);
	world_run();
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	fake.route_result = CONTROL_FORBIDDEN;
	ask_route(&q, "rs-one");
	assert_int_equal(world.awaited, 1);
	world_wait();
	assert_int_equal(q.verdict, VERDICT_NO);
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES); /* still in L1 */
	assert_int_equal(fake.route_calls, 2);
	world_finish();
}

static void test_no(void **state)
{
	world_start(false);
	fake.key_result = CONTROL_NOT_FOUND;
	fake.route_result = CONTROL_NOT_FOUND;
	world_run();
	assert_int_equal(key_verdict(PRINT_2), VERDICT_NO);
	assert_int_equal(route_verdict("rs-none"), VERDICT_NO);
	assert_int_equal(key_verdict(PRINT_2), VERDICT_NO);
	assert_int_equal(route_verdict("rs-none"), VERDICT_NO);
	assert_int_equal(fake.key_calls, 1);
	assert_int_equal(fake.route_calls, 1);
	fake.key_result = CONTROL_OK;
	change_key(PRINT_2); /* it was uploaded: nobody waits for the 5 s */
	assert_int_equal(key_verdict(PRINT_2), VERDICT_YES);
	world_finish();
}

static void test_no_grants(void **state)
{
	world_start(false);
	fake.grant_count = 0;
	world_run();
	assert_int_equal(key_verdict(PRINT_1), VERDICT_NO);
	world_finish();
}

static void test_checks_go_to_the_source(void **state)
{
	struct key_query k;
	struct route_query q = {.is_check = true}, retry = {.is_retry = true};

	world_start(false);
	world_run();
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	k = (struct key_query){.ring = world.ring, .on_done = world_on_key, .is_check = true};
	strcpy(k.fingerprint, PRINT_1);
	world.awaited = 1;
	world.directory->ops->key_find(world.directory, &k);
	world_wait();
	assert_int_equal(fake.key_calls, 2);
	ask_route(&retry, "rs-one");
	world_wait();
	assert_false(fake.was_no_wake);
	ask_route(&q, "rs-one");
	world_wait();
	assert_int_equal(fake.route_calls, 3);
	assert_true(fake.was_no_wake);
	/* A no that somebody has got this way is everybody's. */
	fake.route_result = CONTROL_FORBIDDEN;
	ask_route(&q, "rs-one");
	world_wait();
	assert_int_equal(q.verdict, VERDICT_NO);
	assert_int_equal(route_verdict("rs-one"), VERDICT_NO);
	assert_int_equal(fake.route_calls, 4);
	world_finish();
}

static void test_check_of_a_resting_one(void **state)
{
	struct route_query q = {.is_check = true};

	world_start(false);
	strcpy(fake.state, "paused");
	fake.procd_url[0] = 0;
	world_run();
	ask_route(&q, "rs-one");
	world_wait();
	assert_int_equal(q.verdict, VERDICT_YES);
	assert_int_equal(q.route.addr_bytes, 0);
	assert_int_equal(route_verdict("rs-one"), VERDICT_WAKING); /* nothing of it was remembered */
	world_finish();
}

/* They come with the route, stay with it in L1, and hold for checks, too. What cannot be understood lets nobody in. */
static void test_policies(void **state)
{
	static const char *const bad[] = {"{\"sandbox\": {\"agnet\": false}}",
					  "{\"sandbox\": [1]}",
					  "{\"others\": {}}",
					  "[]",
					  "{",
					  "{\"sandbox\": {\"commands\": [\"\\ud83d\\ude00\"]}}"};
	struct route_query check = {.is_check = true}, resting = {.is_check = true};
	uint32_t calls;

	world_start(false);
	strcpy(fake.policy, "{\"sandbox\": {\"agent\": false}, \"team\": {\"jump\": false}}");
	world_run();
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	calls = fake.route_calls;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(strncmp(world.agent_why, "this sandbox's policy forbids agent", 35), 0);
		assert_int_equal(strncmp(world.jump_why, "the policy of team t-one forbids jump", 37), 0);
		world.agent_why[0] = world.jump_why[0] = 0;
		assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	}
	assert_int_equal(fake.route_calls, calls);
	strcpy(fake.policy, "{\"sandbox\": {\"jump\": false}}");
	ask_route(&check, "rs-one");
	world_wait();
	assert_string_equal(world.agent_why, "");
	assert_int_equal(strncmp(world.jump_why, "this sandbox's policy forbids jump", 34), 0);
	strcpy(fake.state, "paused");
	fake.procd_url[0] = 0;
	world.jump_why[0] = 0;
	ask_route(&resting, "rs-two");
	world_wait();
	assert_int_equal(resting.verdict, VERDICT_YES);
	assert_int_equal(strncmp(world.jump_why, "this sandbox's policy forbids jump", 34), 0);
	strcpy(fake.state, "running");
	strcpy(fake.procd_url, "tcp://192.0.2.7:40001");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char name[16];

		strcpy(fake.policy, bad[i]);
		snprintf(name, sizeof(name), "rs-%zu", i);
		assert_int_equal(route_verdict(name), VERDICT_UNAVAILABLE);
	}
	world_finish();
}

static void test_bad_routes(void **state)
{
	char error[CONFIG_ERROR_BYTES];

	world_start(false);
	assert_int_equal(config_set(&world.config, "procd.allow=192.0.2.0/24", error), 0);
	world_run();
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	strcpy(fake.procd_url, "tcp://169.254.169.254:80");
	assert_int_equal(route_verdict("rs-two"), VERDICT_UNAVAILABLE);
	strcpy(fake.procd_url, "gopher://x");
	assert_int_equal(route_verdict("rs-two"), VERDICT_UNAVAILABLE);
	strcpy(fake.procd_url, "tcp://192.0.2.9:1");
	strcpy(fake.procd_key, "ed25519:AAAA");
	assert_int_equal(route_verdict("rs-two"), VERDICT_UNAVAILABLE);
	world_finish();
}

static void test_names(void **state)
{
	struct route_query q = {.grant_count = 0}, none = {.grant_count = 0};

	world_start(false);
	strcpy(fake.procd_url, "tcp://localhost:40001");
	world_run();
	ask_route(&q, "rs-one");
	world_wait();
	assert_int_equal(q.verdict, VERDICT_YES);
	assert_true(q.route.addr.ss_family == AF_INET || q.route.addr.ss_family == AF_INET6);
	assert_int_equal(((struct sockaddr_in *)&q.route.addr)->sin_port, htons(40001));
	strcpy(fake.procd_url, "tcp://no-such-host.invalid:40001");
	ask_route(&none, "rs-two");
	world_wait();
	assert_int_equal(none.verdict, VERDICT_UNAVAILABLE);
	world_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_key),
		cmocka_unit_test(test_route),
		cmocka_unit_test(test_route_of_others),
		cmocka_unit_test(test_no),
		cmocka_unit_test(test_no_grants),
		cmocka_unit_test(test_checks_go_to_the_source),
		cmocka_unit_test(test_check_of_a_resting_one),
		cmocka_unit_test(test_bad_routes),
		cmocka_unit_test(test_policies),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, world_setup, world_teardown);
}
