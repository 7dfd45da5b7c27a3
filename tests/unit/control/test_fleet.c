#include "control/fleet.h"
#include "control/people.h"
#include "tests/unit/control/scratch.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct scratch x;
static struct feed *feed;
static struct fleet fleet;

/* --- a driver that counts --- */

static struct {
	struct driver driver;
	atomic_int restored, created, paused, resumed, removed, freed;
	int answer;
} fake;

static int fake_restore(struct driver *d, const char *id, enum sandbox_state was)
{
	fake.restored++;
	return fake.answer;
}

static int fake_create(struct driver *d, const char *id)
{
	fake.created++;
	return fake.answer;
}

static int fake_pause(struct driver *d, const char *id)
{
	fake.paused++;
	return fake.answer;
}

static int fake_resume(struct driver *d, const char *id)
{
	fake.resumed++;
	return fake.answer;
}

static int fake_remove(struct driver *d, const char *id)
{
	fake.removed++;
	return fake.answer;
}

static void fake_free(struct driver *d)
{
	fake.freed++;
}

static const struct driver_ops fake_ops = {
	.restore = fake_restore,
	.create = fake_create,
	.pause = fake_pause,
	.resume = fake_resume,
	.remove = fake_remove,
	.free = fake_free,
};

static int setup(void **state)
{
	scratch_init(&x);
	assert_int_equal(team_add(x.s, "dev"), 1);
	assert_int_equal(feed_new(x.pool, &feed), 0);
	memset(&fake, 0, sizeof(fake));
	fake.driver.ops = &fake_ops;
	fleet = (struct fleet){.driver = &fake.driver, .driver_name = "fake"};
	fleet_init(&fleet, x.pool, feed);
	return 0;
}

static int teardown(void **state)
{
	fleet_stop(&fleet);
	feed_stop(feed);
	feed_free(feed);
	scratch_deinit(&x);
	return 0;
}

static struct sandbox find(const char *id)
{
	struct sandbox b;

	assert_int_equal(sandbox_find(x.s, id, &b), 0);
	return b;
}

static void make(const char *id)
{
	struct sandbox b = {.team = "dev", .auto_resume = true};

	strcpy(b.id, id);
	assert_int_equal(fleet_create(&fleet, x.s, &b), 0);
}

static void report(const char *id, enum sandbox_state state, const char *reason)
{
	struct driver_report r = {.sandbox = id, .state = state, .reason = reason};

	if (state == SANDBOX_RUNNING) {
		r.procd_url = "tcp://127.0.0.1:7";
		r.procd_key = "ed25519:x";
	}
	fleet_report(&fleet, &r);
}

static void test_life(void **state)
{
	struct sandbox b;

	make("rs-one");
	assert_int_equal(find("rs-one").state, SANDBOX_RESUMING);
	report("rs-one", SANDBOX_RUNNING, NULL);
	b = find("rs-one");
	assert_int_equal(b.state, SANDBOX_RUNNING);
	assert_string_equal(b.procd_url, "tcp://127.0.0.1:7");
	assert_int_equal(fleet_pause(&fleet, x.s, &b), 0);
	assert_int_equal(find("rs-one").state, SANDBOX_RUNNING); /* until the driver says so */
	report("rs-one", SANDBOX_PAUSED, NULL);
	b = find("rs-one");
	assert_int_equal(b.state, SANDBOX_PAUSED);
	assert_int_equal(fleet_pause(&fleet, x.s, &b), -EBUSY);
	assert_int_equal(fleet_resume(&fleet, x.s, &b, "alice"), 1);
	assert_int_equal(fleet_resume(&fleet, x.s, &b, "alice"), 0); /* who saw it paused, too */
	assert_int_equal(find("rs-one").state, SANDBOX_RESUMING);
	report("rs-one", SANDBOX_STOPPED, "killed");
	b = find("rs-one");
	assert_int_equal(b.state, SANDBOX_STOPPED);
	assert_int_equal(fleet_resume(&fleet, x.s, &b, "alice"), 1);
	assert_int_equal(fleet_remove(&fleet, x.s, &b), 0);
	report("rs-one", SANDBOX_RUNNING, NULL); /* too late */
	assert_int_equal(sandbox_find(x.s, "rs-one", &b), -ENOENT);
	assert_int_equal(fake.created, 1);
	assert_int_equal(fake.paused, 1);
	assert_int_equal(fake.resumed, 2);
	assert_int_equal(fake.removed, 1);
}

static void test_a_driver_that_refuses(void **state)
{
	struct sandbox b = {.id = "rs-two", .team = "dev"};

	make("rs-one");
	report("rs-one", SANDBOX_PAUSED, NULL);
	fake.answer = -ENOSPC;
	assert_int_equal(fleet_create(&fleet, x.s, &b), -ENOSPC);
	assert_int_equal(sandbox_find(x.s, "rs-two", &b), -ENOENT);
	b = find("rs-one");
	assert_int_equal(fleet_resume(&fleet, x.s, &b, "alice"), -ENOSPC);
	b = find("rs-one");
	assert_int_equal(b.state, SANDBOX_PAUSED);
	assert_string_equal(b.reason, "No space left on device");
	assert_true(b.failed_at > 0);
}

struct asker {
	pthread_t thread;
	struct sandbox seen;
	int result;
};

static void *ask(void *arg)
{
	struct asker *a = arg;
	struct store *s = store_take(x.pool);

	a->result = s ? fleet_resume(&fleet, s, &a->seen, "alice") : -EIO;
	store_give(x.pool, s);
	return NULL;
}

static void test_many_ask_once(void **state)
{
	struct asker askers[16];
	int asked = 0;

	make("rs-one");
	report("rs-one", SANDBOX_PAUSED, NULL);
	for (size_t i = 0; i < ARRAY_LEN(askers); i++)
		askers[i].seen = find("rs-one");
	for (size_t i = 0; i < ARRAY_LEN(askers); i++) {
		assert_int_equal(pthread_create(&askers[i].thread, NULL, ask, &askers[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(askers); i++) {
		pthread_join(askers[i].thread, NULL);
		assert_true(askers[i].result >= 0);
		asked += askers[i].result;
	}
	assert_int_equal(asked, 1);
	assert_int_equal(fake.resumed, 1);
}

static void test_long_reasons_are_cut_at_a_character(void **state)
{
	char reason[2 * REASON_MAX + 1] = "";
	struct sandbox b;

	for (size_t i = 0; i < REASON_MAX / 2; i++)
		strcat(reason, "\xc3\xa9");
	strcat(reason, "\xe2\x82\xac and more");
	make("rs-one");
	report("rs-one", SANDBOX_PAUSED, reason);
	b = find("rs-one");
	assert_int_equal(strlen(b.reason), REASON_MAX - 1);
	assert_memory_equal(b.reason, reason, REASON_MAX - 1);
}

static void test_reports_that_cannot_be(void **state)
{
	char url[PROCD_URL_MAX + 20], id[SANDBOX_ID_MAX + 20];
	struct driver_report r = {.sandbox = "rs-one", .state = SANDBOX_RUNNING, .procd_url = url, .procd_key = "x"};

	memset(url, 'a', sizeof(url) - 1);
	url[sizeof(url) - 1] = 0;
	memset(id, 'a', sizeof(id) - 1);
	id[sizeof(id) - 1] = 0;
	make("rs-one");
	fleet_report(&fleet, &r);
	assert_int_equal(find("rs-one").state, SANDBOX_RESUMING);
	r.sandbox = id;
	fleet_report(&fleet, &r);
	report("rs-unknown", SANDBOX_RUNNING, NULL);
}

static void database_break(bool is_broken)
{
	assert_true(
		store_exec(x.s,
			   is_broken ? "ALTER TABLE sandboxes RENAME TO away" : "ALTER TABLE away RENAME TO sandboxes",
			   NULL, 0, NULL, NULL) >= 0);
}

static void wait_for_state(const char *id, enum sandbox_state state)
{
	for (int i = 0; i < 1000 && find(id).state != state; i++)
		(void)usleep(10000);
	assert_int_equal(find(id).state, state);
}

/* A driver says it once: a database that was away for a while has it afterwards, and of each sandbox what was said last. */
static void test_reports_outlast_a_database_that_is_away(void **state)
{
	make("rs-one");
	make("rs-two");
	assert_int_equal(fleet_start(&fleet), 0);
	database_break(true);
	report("rs-one", SANDBOX_STOPPED, "killed");
	report("rs-one", SANDBOX_RUNNING, NULL);
	report("rs-two", SANDBOX_RUNNING, NULL);
	database_break(false);
	report("rs-two", SANDBOX_PAUSED, NULL);
	wait_for_state("rs-one", SANDBOX_RUNNING);
	assert_string_equal(find("rs-one").procd_url, "tcp://127.0.0.1:7");
	assert_int_equal(find("rs-two").state, SANDBOX_PAUSED);
}

/* What is owed of a sandbox is not said of the next one of its name. */
static void test_nothing_is_owed_of_one_made_anew(void **state)
{
	struct sandbox b;

	make("rs-one");
	database_break(true);
	report("rs-one", SANDBOX_STOPPED, "killed");
	database_break(false);
	b = find("rs-one");
	assert_int_equal(fleet_remove(&fleet, x.s, &b), 0);
	make("rs-one");
	make("rs-two");
	database_break(true);
	report("rs-two", SANDBOX_PAUSED, NULL);
	database_break(false);
	assert_int_equal(fleet_start(&fleet), 0);
	wait_for_state("rs-two", SANDBOX_PAUSED);
	assert_int_equal(find("rs-one").state, SANDBOX_RESUMING);
}

/* Only its own: not imported ones, not another driver's. */
static void test_whose(void **state)
{
	struct sandbox imported = {.id = "rs-fixed", .team = "dev", .state = SANDBOX_PAUSED};
	struct sandbox foreign = {.id = "rs-far", .team = "dev", .driver = "far", .state = SANDBOX_PAUSED};

	make("rs-one");
	assert_int_equal(sandbox_import(x.s, &imported), 0);
	assert_int_equal(sandbox_add(x.s, &foreign), 0);
	assert_int_equal(fleet_start(&fleet), 0);
	assert_int_equal(fake.restored, 1);
	assert_int_equal(fleet_resume(&fleet, x.s, &imported, "alice"), -ENOTSUP);
	assert_int_equal(fleet_pause(&fleet, x.s, &foreign), -ENOTSUP);
	assert_int_equal(fleet_remove(&fleet, x.s, &foreign), -ENOTSUP);
	assert_int_equal(fleet_remove(&fleet, x.s, &imported), 0);
	assert_int_equal(fake.removed, 0);
	fleet_stop(&fleet);
	assert_int_equal(fake.freed, 1);
	assert_int_equal(fleet_create(&fleet, x.s, &foreign), -ENOTSUP);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_life),
		TEST(test_a_driver_that_refuses),
		TEST(test_many_ask_once),
		TEST(test_long_reasons_are_cut_at_a_character),
		TEST(test_reports_that_cannot_be),
		TEST(test_reports_outlast_a_database_that_is_away),
		TEST(test_nothing_is_owed_of_one_made_anew),
		TEST(test_whose),
	};

	return cmocka_run_group_tests_name("fleet", tests, NULL, NULL);
}
