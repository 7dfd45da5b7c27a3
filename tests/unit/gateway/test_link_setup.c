#include "gateway/link_setup.h"
#include "gateway/login.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_legacy_scp_is_known(void **state)
{
	static const char *const legacy[] = {"scp -t .", "scp -f /etc/motd", "scp -v -r -p -d -t -- /tmp", "scp -qrt x",
					     "/usr/bin/scp -t ."};
	static const char *const other[] = {"scp",          "scp a b", "scp -r a host:f", "scpx -t .", "echo scp -t .",
					    "scp -P 22 -t", "",        "scp --t ."};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(legacy); i++)
		assert_true(command_is_legacy_scp(bytes_str(legacy[i])));
	for (size_t i = 0; i < ARRAY_LEN(other); i++)
		if (command_is_legacy_scp(bytes_str(other[i])))
			fail_msg("taken for legacy scp: %s", other[i]);
}

static void test_loopback_hosts(void **state)
{
	static const char *const inside[] = {"", "localhost", "127.0.0.1", "127.9.8.7", "::1"};
	static const char *const outside[] = {"10.0.0.1",   "0.0.0.0",  "::", "example.org", "127.0.0.1.example.org",
					      "localhost.", "128.0.0.1"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(inside); i++)
		assert_true(host_is_loopback(bytes_str(inside[i])));
	for (size_t i = 0; i < ARRAY_LEN(outside); i++)
		assert_false(host_is_loopback(bytes_str(outside[i])));
}

static void test_paths(void **state)
{
	char path[109];

	(void)state;
	memset(path, 'x', sizeof(path));
	assert_true(path_is_good(bytes_of(path, 1)));
	assert_true(path_is_good(bytes_of(path, 107)));
	assert_false(path_is_good(bytes_of(path, 108)));
	assert_false(path_is_good(bytes_of(path, 0)));
	path[3] = 0;
	assert_true(path_is_good(bytes_of(path, 3)));
	assert_false(path_is_good(bytes_of(path, 4)));
}

static bool env(struct link_setup *s, const struct config *c, const char *name, const char *value)
{
	struct chan_request r = {.kind = CHAN_ENV, .key = bytes_str(name), .value = bytes_str(value)};

	return link_setup_env(s, c, &r);
}

static void test_environment_allow_list(void **state)
{
	static struct config c;
	struct link_setup *s = link_setup_new();

	(void)state;
	c.session.accept_env_count = 2;
	strcpy(c.session.accept_env[0], "EXACT");
	strcpy(c.session.accept_env[1], "MY_*");
	assert_true(env(s, &c, "LANG", "C"));
	assert_true(env(s, &c, "LC_ALL", ""));
	assert_true(env(s, &c, "GIT_PROTOCOL", "version=2"));
	assert_true(env(s, &c, "EXACT", "1"));
	assert_true(env(s, &c, "MY_THING", "1"));
	assert_false(env(s, &c, "LD_PRELOAD", "x"));
	assert_false(env(s, &c, "EXACTLY", "1"));
	assert_false(env(s, &c, "LANGUAGE", "1"));
	assert_false(env(s, &c, "LC_A=B", "1"));
	assert_false(env(s, &c, "", "1"));
	assert_int_equal(s->options.env_count, 5);
	assert_true(bytes_is(s->options.env[2].name, "GIT_PROTOCOL"));
	assert_true(bytes_is(s->options.env[2].value, "version=2"));
	link_setup_free(s);
}

static void test_environment_is_bounded(void **state)
{
	static struct config c;
	static char big[40 * 1024];
	struct link_setup *s = link_setup_new();
	int taken = 0;

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	for (int i = 0; i < 10; i++)
		taken += env(s, &c, "LC_BIG", big);
	assert_int_equal(taken, 3); /* 3 * 40 KiB fit in 128 KiB */
	link_setup_free(s);
	s = link_setup_new();
	taken = 0;
	for (int i = 0; i < 1000; i++)
		taken += env(s, &c, "LC_SMALL", "x");
	assert_int_equal(taken, FRAME_ENV_MAX);
	link_setup_free(s);
}

static void test_commands_are_copied_and_bounded(void **state)
{
	static uint8_t big[LINK_COMMAND_MAX + 1];
	struct link_setup *s = link_setup_new();
	char command[] = "echo one";
	struct chan_request r = {.kind = CHAN_EXEC, .value = bytes_str(command)};

	(void)state;
	assert_true(link_setup_start(s, &r));
	command[0] = 'X';
	assert_true(bytes_is(s->options.command, "echo one"));
	r.value = bytes_of(big, sizeof(big));
	assert_false(link_setup_start(s, &r));
	link_setup_free(s);
}

static void test_user_names(void **state)
{
	static const char *const good[] = {"rs-one", "rs-one+main", "a", "0", "a-b-c"};
	static const char *const bad[] = {"",   "+main", "rs-one+other", "rs-one+", "-a",   "a-",
					  "Rs", "a_b",   "a b",          "a/b",     "../a", "rs-one+main+main"};
	char id[SANDBOX_ID_MAX + 1], longest[SANDBOX_ID_MAX + 2];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_true(login_sandbox_of(good[i], id));
	assert_true(login_sandbox_of("rs-one+main", id));
	assert_string_equal(id, "rs-one");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (login_sandbox_of(bad[i], id))
			fail_msg("taken for a sandbox: %s", bad[i]);
	memset(longest, 'a', sizeof(longest));
	longest[SANDBOX_ID_MAX + 1] = 0;
	assert_false(login_sandbox_of(longest, id));
	longest[SANDBOX_ID_MAX] = 0;
	assert_true(login_sandbox_of(longest, id));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_legacy_scp_is_known),
		cmocka_unit_test(test_loopback_hosts),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_environment_allow_list),
		cmocka_unit_test(test_environment_is_bounded),
		cmocka_unit_test(test_commands_are_copied_and_bounded),
		cmocka_unit_test(test_user_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
