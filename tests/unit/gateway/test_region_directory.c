/*
 * The region's directory with its thread, between this thread's ring and a control plane and Redis in memory (fake_upstream.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/log.h"
#include "fake_upstream.h"
#include "gateway/limits.h"
#include "gateway/region_directory.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PRINT_1 "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define PRINT_2 "SHA256:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"
#define SECRET_HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

/* A test that takes longer than this hangs. */
#define DEADLINE_MS 20000

#define THOUSAND 1000

static char dir[] = "/tmp/test_region.XXXXXX";
static char secret_path[64];
static uint8_t control_secret[64];

struct world {
	struct config config;
	struct directory *directory;
	struct ring *ring;
	struct timer deadline;
	uint32_t awaited;            /* answers */
	_Atomic uint32_t changed[4]; /* on_changed, by kind */
	struct subject last;
};

static struct world w;

static void on_deadline(struct timer *t)
{
	fail_msg("no answer within %d ms", DEADLINE_MS);
}

static void on_changed(struct directory *d, const struct subject *s)
{
	w.last = *s;
	atomic_fetch_add(&w.changed[s->kind], 1);
}

static void start(bool has_redis)
{
	char error[CONFIG_ERROR_BYTES] = "", setting[128];

	fake_reset();
	memset(&w, 0, sizeof(w));
	config_defaults(&w.config);
	assert_int_equal(config_set(&w.config, "control.url=http://127.0.0.1:1", error), 0);
	if (has_redis) {
		snprintf(setting, sizeof(setting), "redis.secret_file=%s", secret_path);
		assert_int_equal(config_set(&w.config, "redis.url=redis://127.0.0.1:1", error), 0);
		assert_int_equal(config_set(&w.config, setting, error), 0);
	}
	assert_int_equal(ring_new(&(struct ring_options){0}, &w.ring), 0);
	timer_init(&w.deadline, on_deadline);
	if (region_directory_new(&w.config, control_secret, &w.directory, error) < 0)
		fail_msg("%s", error);
	w.directory->on_changed = on_changed;
}

/* The feed is live from then on, or as the test has said. */
static void run(void)
{
	char error[256];

	assert_int_equal(w.directory->ops->start(w.directory, error), 0);
	for (int i = 0; i < 2000 && !atomic_load(&w.changed[SUBJECT_ALL]) && fake.feed_result == CONTROL_OK; i++)
		usleep(1000);
	fake_nothing();
}

static void finish(void)
{
	w.directory->ops->stop(w.directory);
	ring_free(w.ring);
	w.directory->ops->free(w.directory);
}

static void answered(void)
{
	if (--w.awaited == 0)
		ring_stop(w.ring);
}

static void on_key(struct key_query *q)
{
	answered();
}

/* Of the last answer; "" where all is allowed. */
static char agent_why[POLICY_WHY_MAX], jump_why[POLICY_WHY_MAX];

static void on_route(struct route_query *q)
{
	struct policies p = {NULL, q->team_policy, q->sandbox_policy, "t-one"};

	if (q->verdict == VERDICT_YES) {
		if (policies_allow_agent(&p, agent_why))
			agent_why[0] = 0;
		if (policies_allow_jump(&p, jump_why))
			jump_why[0] = 0;
	}
	answered();
}

static void wait_answers(void)
{
	timer_start(w.ring, &w.deadline, DEADLINE_MS);
	while (w.awaited > 0) /* an answer inside the call has stopped the next run */
		assert_int_equal(ring_run(w.ring), 0);
	timer_stop(w.ring, &w.deadline);
}

static void ask_key(struct key_query *q, const char *fingerprint)
{
	*q = (struct key_query){.ring = w.ring, .on_done = on_key, .is_signed = true};
	strcpy(q->fingerprint, fingerprint);
	w.awaited++;
	w.directory->ops->key_find(w.directory, q);
}

static struct grant ada = {.team = "t-one", .user = "u-ada"};

static void ask_route(struct route_query *q, const char *sandbox)
{
	q->ring = w.ring;
	q->on_done = on_route;
	strcpy(q->sandbox, sandbox);
	strcpy(q->fingerprint, PRINT_1);
	if (!q->grants) {
		q->grants = &ada;
		q->grant_count = 1;
	}
	w.awaited++;
	w.directory->ops->route_find(w.directory, q);
}

static enum verdict key_verdict(const char *fingerprint)
{
	struct key_query q;

	ask_key(&q, fingerprint);
	wait_answers();
	return q.verdict;
}

static enum verdict route_verdict(const char *sandbox)
{
	struct route_query q = {.grant_count = 0};

	ask_route(&q, sandbox);
	wait_answers();
	return q.verdict;
}

static uint32_t open_requests(void)
{
	struct region_status status;

	assert_int_equal(region_directory_status(w.directory, &status), 0);
	return status.requests_open;
}

static void change_key(const char *fingerprint)
{
	struct control_change c = {.kind = CONTROL_SUBJECT_KEY};

	strcpy(c.fingerprint, fingerprint);
	fake_feed_tell(&c, 1);
}

/* --- the way of an answer --- */

static void test_key(void **state)
{
	struct key_query q;

	start(false);
	run();
	ask_key(&q, PRINT_1);
	assert_int_equal(w.awaited, 1); /* it has to be asked for */
	wait_answers();
	assert_int_equal(q.verdict, VERDICT_YES);
	assert_int_equal(q.grant_count, 1);
	assert_string_equal(q.grants[0].user, "u-ada");
	ask_key(&q, PRINT_1);
	assert_int_equal(w.awaited, 0); /* inside the call */
	assert_int_equal(q.verdict, VERDICT_YES);
	assert_string_equal(q.grants[0].team, "t-one");
	assert_int_equal(fake.key_calls, 1);
	assert_true(w.directory->ops->key_recall(w.directory, &q));
	strcpy(q.fingerprint, PRINT_2);
	assert_false(w.directory->ops->key_recall(w.directory, &q));
	finish();
}

static void test_route(void **state)
{
	struct route_query q = {.grant_count = 0};
	const struct sockaddr_in *in = (const struct sockaddr_in *)&q.route.addr;

	start(false);
	strcpy(fake.procd_key, "ed25519:AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=");
	run();
	for (int i = 0; i < 2; i++) {
		q = (struct route_query){.grant_count = 0};
		ask_route(&q, "rs-one");
		assert_int_equal(w.awaited, i == 0);
		wait_answers();
		assert_int_equal(q.verdict, VERDICT_YES);
		assert_string_equal(q.route.sandbox, "rs-one");
		assert_string_equal(q.route.grant.user, "u-ada");
		assert_int_equal(ntohl(in->sin_addr.s_addr), 0xc0000207);
		assert_int_equal(ntohs(in->sin_port), 40001);
		assert_true(q.route.has_procd_key);
		assert_int_equal(q.route.procd_key.key[31], 32);
	}
	assert_int_equal(fake.route_calls, 1);
	finish();
}

/* What L1 knows of one user says nothing of another. */
static void test_route_of_others(void **state)
{
	struct grant ben = {.team = "t-two", .user = "u-ben"};
	struct route_query q = {.grants = &ben, .grant_count = 1};

	start(false);
	run();
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	fake.route_result = CONTROL_FORBIDDEN;
	ask_route(&q, "rs-one");
	assert_int_equal(w.awaited, 1);
	wait_answers();
	assert_int_equal(q.verdict, VERDICT_NO);
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES); /* still in L1 */
	assert_int_equal(fake.route_calls, 2);
	finish();
}

static void test_no(void **state)
{
	start(false);
	fake.key_result = CONTROL_NOT_FOUND;
	fake.route_result = CONTROL_NOT_FOUND;
	run();
	assert_int_equal(key_verdict(PRINT_2), VERDICT_NO);
	assert_int_equal(route_verdict("rs-none"), VERDICT_NO);
	assert_int_equal(key_verdict(PRINT_2), VERDICT_NO);
	assert_int_equal(route_verdict("rs-none"), VERDICT_NO);
	assert_int_equal(fake.key_calls, 1);
	assert_int_equal(fake.route_calls, 1);
	fake.key_result = CONTROL_OK;
	change_key(PRINT_2); /* it was uploaded: nobody waits for the 5 s */
	assert_int_equal(key_verdict(PRINT_2), VERDICT_YES);
	finish();
}

static void test_no_grants(void **state)
{
	start(false);
	fake.grant_count = 0;
	run();
	assert_int_equal(key_verdict(PRINT_1), VERDICT_NO);
	finish();
}

static void test_checks_go_to_the_source(void **state)
{
	struct key_query k;
	struct route_query q = {.is_check = true}, retry = {.is_retry = true};

	start(false);
	run();
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	k = (struct key_query){.ring = w.ring, .on_done = on_key, .is_check = true};
	strcpy(k.fingerprint, PRINT_1);
	w.awaited = 1;
	w.directory->ops->key_find(w.directory, &k);
	wait_answers();
	assert_int_equal(fake.key_calls, 2);
	ask_route(&retry, "rs-one");
	wait_answers();
	assert_false(fake.was_no_wake);
	ask_route(&q, "rs-one");
	wait_answers();
	assert_int_equal(fake.route_calls, 3);
	assert_true(fake.was_no_wake);
	/* A no that somebody has got this way is everybody's. */
	fake.route_result = CONTROL_FORBIDDEN;
	ask_route(&q, "rs-one");
	wait_answers();
	assert_int_equal(q.verdict, VERDICT_NO);
	assert_int_equal(route_verdict("rs-one"), VERDICT_NO);
	assert_int_equal(fake.route_calls, 4);
	finish();
}

static void test_check_of_a_resting_one(void **state)
{
	struct route_query q = {.is_check = true};

	start(false);
	strcpy(fake.state, "paused");
	fake.procd_url[0] = 0;
	run();
	ask_route(&q, "rs-one");
	wait_answers();
	assert_int_equal(q.verdict, VERDICT_YES);
	assert_int_equal(q.route.addr_bytes, 0);
	assert_int_equal(route_verdict("rs-one"), VERDICT_WAKING); /* nothing of it was remembered */
	finish();
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

	start(false);
	strcpy(fake.policy, "{\"sandbox\": {\"agent\": false}, \"team\": {\"jump\": false}}");
	run();
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	calls = fake.route_calls;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(strncmp(agent_why, "this sandbox's policy forbids agent", 35), 0);
		assert_int_equal(strncmp(jump_why, "the policy of team t-one forbids jump", 37), 0);
		agent_why[0] = jump_why[0] = 0;
		assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	}
	assert_int_equal(fake.route_calls, calls);
	strcpy(fake.policy, "{\"sandbox\": {\"jump\": false}}");
	ask_route(&check, "rs-one");
	wait_answers();
	assert_string_equal(agent_why, "");
	assert_int_equal(strncmp(jump_why, "this sandbox's policy forbids jump", 34), 0);
	strcpy(fake.state, "paused");
	fake.procd_url[0] = 0;
	jump_why[0] = 0;
	ask_route(&resting, "rs-two");
	wait_answers();
	assert_int_equal(resting.verdict, VERDICT_YES);
	assert_int_equal(strncmp(jump_why, "this sandbox's policy forbids jump", 34), 0);
	strcpy(fake.state, "running");
	strcpy(fake.procd_url, "tcp://192.0.2.7:40001");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char name[16];

		strcpy(fake.policy, bad[i]);
		snprintf(name, sizeof(name), "rs-%zu", i);
		assert_int_equal(route_verdict(name), VERDICT_UNAVAILABLE);
	}
	finish();
}

static void test_bad_routes(void **state)
{
	char error[CONFIG_ERROR_BYTES];

	start(false);
	assert_int_equal(config_set(&w.config, "procd.allow=192.0.2.0/24", error), 0);
	run();
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	strcpy(fake.procd_url, "tcp://169.254.169.254:80");
	assert_int_equal(route_verdict("rs-two"), VERDICT_UNAVAILABLE);
	strcpy(fake.procd_url, "gopher://x");
	assert_int_equal(route_verdict("rs-two"), VERDICT_UNAVAILABLE);
	strcpy(fake.procd_url, "tcp://192.0.2.9:1");
	strcpy(fake.procd_key, "ed25519:AAAA");
	assert_int_equal(route_verdict("rs-two"), VERDICT_UNAVAILABLE);
	finish();
}

static void test_names(void **state)
{
	struct route_query q = {.grant_count = 0}, none = {.grant_count = 0};

	start(false);
	strcpy(fake.procd_url, "tcp://localhost:40001");
	run();
	ask_route(&q, "rs-one");
	wait_answers();
	assert_int_equal(q.verdict, VERDICT_YES);
	assert_true(q.route.addr.ss_family == AF_INET || q.route.addr.ss_family == AF_INET6);
	assert_int_equal(((struct sockaddr_in *)&q.route.addr)->sin_port, htons(40001));
	strcpy(fake.procd_url, "tcp://no-such-host.invalid:40001");
	ask_route(&none, "rs-two");
	wait_answers();
	assert_int_equal(none.verdict, VERDICT_UNAVAILABLE);
	finish();
}

/* --- joined look-ups --- */

static void test_thousand_keys(void **state)
{
	struct key_query *q = calloc(THOUSAND, sizeof(*q));

	start(false);
	run();
	fake.is_held = true;
	for (int i = 0; i < THOUSAND; i++)
		ask_key(&q[i], PRINT_1);
	fake_nothing();
	assert_int_equal(fake.key_calls, 1);
	fake_release();
	wait_answers();
	for (int i = 0; i < THOUSAND; i++) {
		assert_int_equal(q[i].verdict, VERDICT_YES);
		assert_string_equal(q[i].grants[0].user, "u-ada");
	}
	assert_int_equal(fake.key_calls, 1);
	finish();
	free(q);
}

static void test_different_questions(void **state)
{
	struct grant both[] = {ada, {.team = "t-two", .user = "u-ada"}};
	struct route_query a = {.grant_count = 0}, b = {.grants = both, .grant_count = 2}, c = {.is_retry = true},
			   d = {.wait_ms = 5000}, again = {.grant_count = 0};

	start(false);
	run();
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
	wait_answers();
	finish();
}

static void test_cancel(void **state)
{
	struct key_query a, b;

	start(false);
	run();
	fake.is_held = true;
	ask_key(&a, PRINT_1);
	ask_key(&b, PRINT_1);
	w.directory->ops->key_cancel(w.directory, &a);
	w.awaited--;
	fake_nothing();
	fake_release();
	wait_answers();
	assert_int_equal(b.verdict, VERDICT_YES);
	/* One whose answer is in our mailbox already. */
	ask_key(&a, PRINT_2);
	fake_nothing();
	fake_release();
	w.directory->ops->key_cancel(w.directory, &a);
	w.awaited--;
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	/* Nobody waits: the answer is remembered all the same. */
	assert_int_equal(fake.cancelled, 0);
	assert_int_equal(key_verdict(PRINT_2), VERDICT_YES);
	assert_int_equal(fake.key_calls, 2);
	fake.is_held = false;
	change_key(PRINT_1);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES); /* our ring has run */
	assert_int_equal(open_requests(), 0);                /* none of them stays behind */
	finish();
}

static void test_cancel_of_a_wait(void **state)
{
	struct route_query a = {.wait_ms = 30000}, b = {.wait_ms = 30000};

	start(false);
	run();
	fake.is_held = true;
	ask_route(&a, "rs-one");
	ask_route(&b, "rs-one");
	fake_nothing();
	assert_int_equal(fake.route_calls, 1);
	w.directory->ops->route_cancel(w.directory, &a);
	fake_nothing();
	assert_int_equal(fake.cancelled, 0);
	w.directory->ops->route_cancel(w.directory, &b);
	fake_nothing();
	assert_int_equal(fake.cancelled, 1); /* nobody waits any more: it is dropped */
	w.awaited = 0;
	finish();
}

static void test_waking(void **state)
{
	struct route_query q = {.wait_ms = 20000};

	start(false);
	fake.route_result = CONTROL_WAKING;
	run();
	assert_int_equal(route_verdict("rs-one"), VERDICT_WAKING);
	ask_route(&q, "rs-one");
	wait_answers();
	assert_int_equal(q.verdict, VERDICT_WAKING);
	assert_string_equal(q.route.sandbox, "rs-one");
	assert_string_equal(q.route.grant.user, "u-ada");
	fake.route_result = CONTROL_UNAVAILABLE;
	strcpy(fake.reason, "its image is gone");
	ask_route(&q, "rs-one");
	wait_answers();
	assert_int_equal(q.verdict, VERDICT_UNAVAILABLE);
	assert_string_equal(q.reason, "its image is gone");
	fake.route_result = CONTROL_OK;
	ask_route(&q, "rs-one");
	wait_answers();
	assert_int_equal(q.verdict, VERDICT_YES);
	finish();
}

/* With questions on their way, answers in mailboxes, and some cancelled. */
static void test_stop_in_any_state(void **state)
{
	struct key_query a, b, c;
	struct route_query d = {.wait_ms = 1000};

	start(true);
	run();
	fake.is_held = true;
	ask_key(&a, PRINT_1);
	ask_route(&d, "rs-one");
	fake_nothing();
	fake_release();
	ask_key(&b, PRINT_2);
	ask_key(&c, PRINT_2);
	w.directory->ops->key_cancel(w.directory, &c);
	finish();

	start(false);
	w.directory->ops->free(w.directory); /* never started */
	ring_free(w.ring);

	start(true);
	run();
	finish(); /* at once */
}

static void test_bounded(void **state)
{
	struct key_query *q = calloc(REGION_REQUESTS_MAX + 1, sizeof(*q));

	start(false);
	run();
	fake.is_held = true;
	for (int i = 0; i < REGION_REQUESTS_MAX; i++)
		ask_key(&q[i], PRINT_1);
	assert_int_equal(w.awaited, REGION_REQUESTS_MAX);
	ask_key(&q[REGION_REQUESTS_MAX], PRINT_1);
	assert_int_equal(w.awaited, REGION_REQUESTS_MAX);
	assert_int_equal(q[REGION_REQUESTS_MAX].verdict, VERDICT_UNAVAILABLE);
	fake_release();
	wait_answers();
	finish();
	free(q);
}

/* --- failures --- */

static void test_control_down(void **state)
{
	struct key_query q;

	start(false);
	run();
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	fake.key_result = fake.route_result = fake.feed_result = CONTROL_FAILED;
	fake_control_state(false);
	fake_feed_end(CONTROL_FAILED, 0);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES); /* what is known is used until its time is over */
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	ask_key(&q, PRINT_2);
	wait_answers();
	assert_int_equal(q.verdict, VERDICT_UNAVAILABLE);
	assert_string_equal(q.reason, "temporarily unavailable; try again in a moment");
	assert_int_equal(route_verdict("rs-two"), VERDICT_UNAVAILABLE);
	fake.key_result = CONTROL_OK;
	assert_int_equal(key_verdict(PRINT_2), VERDICT_YES); /* a failure is not remembered */
	finish();
}

/* Nothing comes back at all: the asker is told in time. */
static void test_deadline(void **state)
{
	struct key_query q;

	start(false);
	w.config.control.timeout_ms = w.config.redis.timeout_ms = 50;
	run();
	fake.is_held = true;
	ask_key(&q, PRINT_1);
	wait_answers();
	assert_int_equal(q.verdict, VERDICT_UNAVAILABLE);
	finish();
}

/* --- changes --- */

static void test_feed(void **state)
{
	struct control_change member = {.kind = CONTROL_SUBJECT_MEMBER, .member = ada},
			      moved = {.kind = CONTROL_SUBJECT_SANDBOX, .is_moved = true, .sandbox = "rs-one"};

	start(false);
	run();
	assert_int_equal(fake.feed_since, 10);
	assert_int_equal(w.changed[SUBJECT_ALL], 1); /* what was before is not known */
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);

	change_key(PRINT_1);
	assert_int_equal(w.changed[SUBJECT_KEY], 1);
	assert_string_equal(w.last.fingerprint, PRINT_1);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 2);
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	assert_int_equal(fake.route_calls, 1);

	fake_feed_tell(&member, 1);
	assert_int_equal(w.changed[SUBJECT_MEMBER], 1);
	assert_string_equal(w.last.user, "u-ada");
	assert_string_equal(w.last.team, "t-one");
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 3);
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	assert_int_equal(fake.route_calls, 2);

	strcpy(fake.procd_url, "tcp://192.0.2.8:40001");
	fake_feed_tell(&moved, 1);
	assert_int_equal(w.changed[SUBJECT_SANDBOX], 1);
	assert_int_equal(route_verdict("rs-one"), VERDICT_YES);
	assert_int_equal(fake.route_calls, 3);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 3);
	assert_int_equal(fake.feed_since, 13);
	finish();
}

/* Lost and found again: it goes on where it was. */
static void test_feed_lost(void **state)
{
	uint32_t calls;

	start(false);
	run();
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
	assert_int_equal(w.changed[SUBJECT_KEY], 1);
	assert_int_equal(w.changed[SUBJECT_ALL], 1);
	finish();
}

static void test_feed_too_old(void **state)
{
	start(false);
	run();
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	fake_feed_end(CONTROL_TOO_OLD, 700); /* the answer tells where to go on */
	assert_int_equal(w.changed[SUBJECT_ALL], 2);
	assert_int_equal(fake.feed_since, 700);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 2); /* nothing was kept */
	fake.feed_next = 900;
	fake_feed_end(CONTROL_TOO_OLD, 0); /* it does not: the feed is begun anew */
	while (atomic_load(&w.changed[SUBJECT_ALL]) < 3)
		usleep(1000);
	fake_nothing();
	assert_int_equal(fake.feed_since, 900);
	finish();
}

/* A control plane on which nothing was ever changed answers at once, and does not list the first change. */
static void test_feed_from_nothing(void **state)
{
	start(false);
	fake.feed_next = 0;
	run();
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	fake_feed_end(CONTROL_OK, 0);
	assert_int_equal(w.changed[SUBJECT_ALL], 1);
	for (fake.is_feed_waiting = false; !fake.is_feed_waiting;)
		usleep(1000);
	fake_feed_end(CONTROL_OK, 1);
	assert_int_equal(w.changed[SUBJECT_ALL], 2);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 2);
	finish();
}

static void test_feed_absent(void **state)
{
	start(false);
	fake.feed_result = CONTROL_NOT_FOUND;
	run();
	usleep(50000);
	assert_int_equal(fake.feed_calls, 1);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 1);
	finish();
}

/* --- a change while the answer is on its way --- */

static void test_late_answer(void **state)
{
	struct key_query a, b;

	start(false);
	run();
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
	wait_answers();
	assert_int_equal(a.verdict, VERDICT_NO);
	assert_int_equal(b.verdict, VERDICT_YES); /* as the control plane said after the change */
	finish();
}

static void test_overtaken_again_and_again(void **state)
{
	struct key_query q;

	start(false);
	run();
	fake.is_held = true;
	ask_key(&q, PRINT_1);
	fake_nothing();
	for (int i = 0; i < REGION_LOOKUP_TRIES; i++) {
		assert_int_equal(fake.key_calls, 1 + i);
		change_key(PRINT_1);
		fake_release();
	}
	wait_answers();
	assert_int_equal(q.verdict, VERDICT_YES); /* whoever gets it is checked when he is live */
	fake.is_held = false;
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, REGION_LOOKUP_TRIES + 1); /* it was not remembered */
	finish();
}

/* A change of one of the grants overtakes it, too. */
static void test_late_grant(void **state)
{
	struct control_change member = {.kind = CONTROL_SUBJECT_MEMBER, .member = ada};
	struct key_query q;

	start(false);
	run();
	fake.is_held = true;
	ask_key(&q, PRINT_1);
	fake_nothing();
	fake_feed_tell(&member, 1);
	fake_release();
	assert_int_equal(fake.key_calls, 2);
	fake_release();
	wait_answers();
	assert_int_equal(q.verdict, VERDICT_YES);
	finish();
}

/* --- Redis --- */

static uint64_t wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void test_redis_fill_and_read(void **state)
{
	struct route_query q = {.grant_count = 0};

	start(true);
	run();
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
	wait_answers();
	assert_int_equal(q.verdict, VERDICT_YES);
	assert_string_equal(q.route.grant.user, "u-ada");
	assert_int_equal(((struct sockaddr_in *)&q.route.addr)->sin_port, htons(40001));
	assert_int_equal(fake.reads, 4);
	assert_int_equal(fake.key_calls, 1);
	assert_int_equal(fake.route_calls, 1);
	assert_int_equal(w.changed[SUBJECT_KEY] + w.changed[SUBJECT_SANDBOX], 0); /* no session is asked about it */
	finish();
}

static void test_redis_forged(void **state)
{
	struct record_key forged = {.grant_count = 1, .grants = {{.team = "t-root", .user = "u-eve"}}};
	struct record_head head = {.version = 999, .expires_ms = wall_ms() + 60000};
	uint8_t secret[RECORD_SECRET_BYTES] = {1};
	struct key_query q;
	ssize_t n;

	start(true);
	run();
	fake_redis(true);
	strcpy(fake.values[0].name, "rg:key:" PRINT_1);
	n = record_key_seal(secret, "rg:key:" PRINT_1, &head, &forged, fake.values[0].value);
	assert_true(n > 0);
	fake.values[0].bytes = (size_t)n;
	ask_key(&q, PRINT_1);
	wait_answers();
	assert_int_equal(q.verdict, VERDICT_YES);
	assert_string_equal(q.grants[0].user, "u-ada"); /* the control plane was asked */
	assert_int_equal(fake.key_calls, 1);
	strcpy(fake.values[1].name, "rg:key:" PRINT_2);
	memcpy(fake.values[1].value, "garbage", 7);
	fake.values[1].bytes = 7;
	assert_int_equal(key_verdict(PRINT_2), VERDICT_YES);
	assert_int_equal(fake.key_calls, 2);
	finish();
}

static void test_redis_down(void **state)
{
	start(true);
	fake.feed_result = CONTROL_NOT_FOUND; /* nobody but Redis tells of changes */
	run();
	fake_redis(true);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 1);
	fake_redis(false);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES); /* asked again: L1 had it by Redis's word */
	assert_int_equal(fake.key_calls, 2);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES); /* and has it by its own, for a while */
	assert_int_equal(fake.key_calls, 2);
	finish();
}

static void test_redis_down_with_feed(void **state)
{
	start(true);
	run();
	fake_redis(true);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	fake_redis(false);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 1); /* the feed would have told */
	finish();
}

static void test_redis_revision(void **state)
{
	start(true);
	run();
	fake_redis(true);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 1);
	fake.values[0].bytes = 0; /* as the control plane deletes it */
	fake_invalidate("rg:rev:key:" PRINT_1);
	assert_int_equal(w.changed[SUBJECT_KEY], 1);
	assert_string_equal(w.last.fingerprint, PRINT_1);
	fake.key_result = CONTROL_NOT_FOUND;
	assert_int_equal(key_verdict(PRINT_1), VERDICT_NO);
	fake_invalidate("rg:rev:member:t-one:u-ada");
	assert_int_equal(w.changed[SUBJECT_MEMBER], 1);
	assert_string_equal(w.last.team, "t-one");
	fake_invalidate("rg:rev:sandbox:rs-one");
	assert_int_equal(w.changed[SUBJECT_SANDBOX], 1);
	fake_invalidate("rg:rev:sandbox:RS ONE");
	fake_invalidate("rg:rev:key:x");
	fake_invalidate("rg:something");
	assert_int_equal(w.changed[SUBJECT_SANDBOX], 1);
	assert_int_equal(w.changed[SUBJECT_KEY], 1);
	finish();
}

/* An invalidation that was lost in a reconnect is found again, once. */
static void test_redis_lost_invalidation(void **state)
{
	start(true);
	run();
	fake_redis(true);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	fake_redis(false);
	fake.values[0].bytes = 0;
	strcpy(fake.revision_name, "rg:rev:key:" PRINT_1);
	fake.revision = 44;
	fake_redis(true);
	assert_int_equal(w.changed[SUBJECT_KEY], 1);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 2);
	fake_redis(false);
	fake_redis(true);
	assert_int_equal(w.changed[SUBJECT_KEY], 1); /* it was seen */
	fake.revision = 45;
	fake_redis(false);
	fake_redis(true);
	assert_int_equal(w.changed[SUBJECT_KEY], 2);
	finish();
}

static void test_redis_flushed(void **state)
{
	struct key_query q;

	start(true);
	run();
	fake_redis(true);
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	memset(fake.values, 0, sizeof(fake.values));
	fake_invalidate("");
	assert_int_equal(w.changed[SUBJECT_ALL], 2); /* a revision may have gone with it */
	assert_int_equal(key_verdict(PRINT_1), VERDICT_YES);
	assert_int_equal(fake.key_calls, 2);
	/* One under way is not asked again, and not remembered. */
	fake.is_held = true;
	ask_key(&q, PRINT_2);
	fake_nothing();
	fake_invalidate("");
	fake_release();
	wait_answers();
	assert_int_equal(fake.key_calls, 3);
	fake.is_held = false;
	memset(fake.values, 0, sizeof(fake.values));
	assert_int_equal(key_verdict(PRINT_2), VERDICT_YES);
	assert_int_equal(fake.key_calls, 4);
	finish();
}

static int setup(void **state)
{
	int fd;

	if (sodium_init() < 0 || !mkdtemp(dir))
		return -1;
	snprintf(secret_path, sizeof(secret_path), "%s/secret", dir);
	fd = open(secret_path, O_WRONLY | O_CREAT, 0600);
	if (fd < 0 || write(fd, SECRET_HEX "\n", 65) != 65)
		return -1;
	close(fd);
	return log_start(&(struct log_options){.level = LOG_ERROR, .path = "/dev/null"});
}

static int teardown(void **state)
{
	log_stop();
	unlink(secret_path);
	return rmdir(dir);
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
		cmocka_unit_test(test_thousand_keys),
		cmocka_unit_test(test_different_questions),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_cancel_of_a_wait),
		cmocka_unit_test(test_waking),
		cmocka_unit_test(test_stop_in_any_state),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_control_down),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_feed),
		cmocka_unit_test(test_feed_lost),
		cmocka_unit_test(test_feed_too_old),
		cmocka_unit_test(test_feed_from_nothing),
		cmocka_unit_test(test_feed_absent),
		cmocka_unit_test(test_late_answer),
		cmocka_unit_test(test_overtaken_again_and_again),
		cmocka_unit_test(test_late_grant),
		cmocka_unit_test(test_redis_fill_and_read),
		cmocka_unit_test(test_redis_forged),
		cmocka_unit_test(test_redis_down),
		cmocka_unit_test(test_redis_down_with_feed),
		cmocka_unit_test(test_redis_revision),
		cmocka_unit_test(test_redis_lost_invalidation),
		cmocka_unit_test(test_redis_flushed),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
