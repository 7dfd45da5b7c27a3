/*
 * tests/unit/upstream/test_target.c - what a cache's URL says, and the slots of names.
 */
#include "upstream/redis/slot.h"
#include "upstream/redis/target.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>

static struct target parsed(const char *url)
{
	struct target t;
	char error[256];

	if (target_parse(url, &t, error) < 0)
		fail_msg("%s: %s", url, error);
	return t;
}

static void assert_endpoint(const struct target *t, uint32_t i, const char *want)
{
	char text[ENDPOINT_TEXT_MAX];

	assert_true(i < t->endpoint_count);
	assert_string_equal(endpoint_text(&t->endpoints[i], text), want);
}

static void test_server(void **state)
{
	struct target t = parsed("redis://redis.example");

	assert_true(t.kind == TARGET_SERVER && !t.is_tls && t.db == 0 && !t.user[0] && !t.password[0]);
	assert_endpoint(&t, 0, "redis.example:6379");
	t = parsed("rediss://user:p%40ss%3a%2F:x@[2001:db8::1]:7000/15");
	assert_true(t.is_tls && t.db == 15);
	assert_string_equal(t.user, "user");
	assert_string_equal(t.password, "p@ss:/:x");
	assert_endpoint(&t, 0, "[2001:db8::1]:7000");
	t = parsed("redis://:secret@127.0.0.1:1/");
	assert_string_equal(t.user, "");
	assert_string_equal(t.password, "secret");
	/* The last @ ends the login. */
	t = parsed("redis://u:a@b@h");
	assert_string_equal(t.password, "a@b");
	assert_endpoint(&t, 0, "h:6379");
	t = parsed("redis://[::1]");
	assert_endpoint(&t, 0, "[::1]:6379");
}

static void test_unix(void **state)
{
	struct target t = parsed("unix:/run/redis/redis.sock");

	assert_true(t.kind == TARGET_SERVER && t.endpoints[0].port == 0);
	assert_endpoint(&t, 0, "unix:/run/redis/redis.sock");
	t = parsed("unix://gw:secret@/run/redis.sock?db=2");
	assert_string_equal(t.user, "gw");
	assert_string_equal(t.password, "secret");
	assert_int_equal(t.db, 2);
	assert_endpoint(&t, 0, "unix:/run/redis.sock");
	t = parsed("unix:///run/redis.sock");
	assert_endpoint(&t, 0, "unix:/run/redis.sock");
}

static void test_many(void **state)
{
	struct target t = parsed("sentinel://a,b:1,[::1]:2/main");

	assert_true(t.kind == TARGET_SENTINELS && t.endpoint_count == 3);
	assert_endpoint(&t, 0, "a:26379");
	assert_endpoint(&t, 1, "b:1");
	assert_endpoint(&t, 2, "[::1]:2");
	assert_string_equal(t.master, "main");
	t = parsed("sentinels://u:p@a/my%20name/3");
	assert_true(t.is_tls && t.db == 3);
	assert_string_equal(t.master, "my name");
	t = parsed("clusters://a:1,b:2");
	assert_true(t.kind == TARGET_CLUSTER && t.is_tls && t.endpoint_count == 2);
}

/* The error never shows the URL, which may hold a password. */
static void test_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"redis",
		"redis:",
		"redis:/",
		"redis://",
		"redis://s3cret@",
		"redis://:s3cret@",
		"redis://u:s3cret@h:0",
		"redis://u:s3cret@h:65536",
		"redis://u:s3cret@h:1:2",
		"redis://u:s3cret@h/1024",
		"redis://u:s3cret@h/1/2",
		"redis://u:s3cret%@h",
		"redis://u:s3cret%4@h",
		"redis://u:s3cret%00@h",
		"redis://u:s3cret@h\n",
		"redis://[::1",
		"redis://[]",
		"redis://[::1]:",
		"redis://a,b",
		"unix:",
		"unix:a",

		"unix:/a?db=",
		"unix:/a?db=1x",
		"unix:/a?password=s3cret",
		"sentinel://a",
		"sentinel://a//1",
		"sentinel:///main",
		"cluster://a/1",

		"cluster://a,,b",
		"CLUSTER://a",
		"cluster://a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a",
	};
	char longer[1024] = "redis://", error[256];
	struct target t;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		memset(error, 0, sizeof(error));
		if (target_parse(bad[i], &t, error) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
		if (!error[0] || strstr(error, "s3cret"))
			fail_msg("%s: %s", bad[i], error);
	}
	memset(longer + 8, 'h', 256);
	assert_int_equal(target_parse(longer, &t, error), -EINVAL);
	memcpy(longer, "unix:/", 6);
	memset(longer + 6, 'h', 107);
	longer[113] = 0;
	assert_int_equal(target_parse(longer, &t, error), -EINVAL);
	longer[112] = 0;
	assert_int_equal(target_parse(longer, &t, error), 0);
}

/* The specification's check value, and names whose slots redis-cli's CLUSTER KEYSLOT tells. */
static void test_slots(void **state)
{
	static const struct {
		const char *key;
		uint32_t slot;
	} known[] = {
		{"123456789", 12739},
		{"", 0},
		{"foo", 12182},
		{"bar", 5061},
		{"{user1000}.following", 3443},
		{"{user1000}.followers", 3443},
		{"user1000", 3443},
		{"foo{}{bar}", 8363},
		{"foo{{bar}}zap", 4015},
		{"{bar", 4015},
		{"foo{bar}{zap}", 5061},
		{"foo{bar", 15278},
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (slot_of(bytes_str(known[i].key)) != known[i].slot)
			fail_msg("%s: %u", known[i].key, slot_of(bytes_str(known[i].key)));
	assert_int_equal(slot_of((struct bytes){0}), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server),  cmocka_unit_test(test_unix),  cmocka_unit_test(test_many),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_slots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
