/*
 * tests/unit/procd/test_terminal.c - terminal modes, environment and signal names as SSH has them.
 */
#include "procd/env.h"
#include "procd/limits.h"
#include "procd/session.h"
#include "procd/signals.h"
#include "procd/ttymodes.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct termios apply(const char *modes, size_t n)
{
	struct termios t = {.c_lflag = ECHO | ICANON, .c_iflag = ICRNL, .c_cflag = CS8};
	uint8_t *copy = malloc(n ? n : 1);

	/* Memory of exactly this size: ASan sees a read behind it. */
	memcpy(copy, modes, n);
	ttymodes_apply(bytes_of(copy, n), &t);
	free(copy);
	return t;
}

#define APPLY(s) apply(s, sizeof(s) - 1)

static void test_modes(void **state)
{
	assert_false(APPLY("\x35\0\0\0\0").c_lflag & ECHO);
	assert_true(APPLY("\x35\0\0\0\x01").c_lflag & ECHO);
	assert_true(APPLY("\x2a\0\0\0\x01").c_iflag & IUTF8);
	assert_int_equal(APPLY("\x03\0\0\0\x08").c_cc[VERASE], 8);
	assert_int_equal(APPLY("\x03\0\0\0\xff").c_cc[VERASE], _POSIX_VDISABLE);
	assert_int_equal(APPLY("\x5a\0\0\0\x01").c_cflag & CSIZE, CS7);
	assert_int_equal(APPLY("\x5a\0\0\0\0").c_cflag & CSIZE, CS8);
	{
		struct termios t = APPLY("\x80\0\0\x96\0\x81\0\0\x25\x80");

		/* Linux has one speed for both directions. */
		assert_int_equal(cfgetospeed(&t), B9600);
	}
	/* Unknown opcodes below 160 have an argument and are skipped; the end, 160 and a cut argument end the list. */
	assert_false(APPLY("\x7f\0\0\0\x01\x35\0\0\0\0").c_lflag & ECHO);
	assert_true(APPLY("\0\x35\0\0\0\0").c_lflag & ECHO);
	assert_true(APPLY("\xa0\0\0\0\0\x35\0\0\0\0").c_lflag & ECHO);
	assert_true(APPLY("\x35\0\0\0").c_lflag & ECHO);
	assert_true(APPLY("").c_lflag & ECHO);
}

static void test_modes_of_garbage(void **state)
{
	unsigned seed = 3;
	char modes[64];

	for (int i = 0; i < 100000; i++) {
		for (size_t k = 0; k < sizeof(modes); k++)
			modes[k] = (char)(rand_r(&seed) % 3 ? rand_r(&seed) % 160 : rand_r(&seed));
		(void)apply(modes, (size_t)rand_r(&seed) % sizeof(modes));
	}
}

static bool is_valid(struct bytes name, struct bytes value)
{
	const struct frame_env env = {name, value};
	const struct frame_open_options o = {.env = &env, .env_count = 1};

	return env_is_valid(&o);
}

static void test_env_validity(void **state)
{
	static char big[ENV_BYTES_MAX];

	memset(big, 'x', sizeof(big));
	assert_true(is_valid(bytes_str("LANG"), bytes_str("C")));
	assert_true(is_valid(bytes_str("LANG"), bytes_str("a=b\n\xff")));
	assert_true(is_valid(bytes_str("EMPTY"), bytes_of(NULL, 0)));
	assert_false(is_valid(bytes_of(NULL, 0), bytes_str("C")));
	assert_false(is_valid(bytes_str("A=B"), bytes_str("C")));
	assert_false(is_valid(bytes_of("A\0", 2), bytes_str("C")));
	assert_false(is_valid(bytes_str("A"), bytes_of("x\0y", 3)));
	assert_true(is_valid(bytes_str("A"), bytes_of(big, sizeof(big) - 3)));
	assert_false(is_valid(bytes_str("A"), bytes_of(big, sizeof(big) - 2)));
}

static const char *get(char **env, const char *name)
{
	const char *found = NULL;
	size_t n = strlen(name);

	for (; *env; env++) {
		if (strncmp(*env, name, n) == 0 && (*env)[n] == '=') {
			assert_null(found); /* never twice */
			found = *env + n + 1;
		}
	}
	return found;
}

static void test_env(void **state)
{
	static struct session s;
	static struct options options = {.path = "/opt/bin:/bin"};
	const struct frame_env given[] = {
		{bytes_str("LANG"), bytes_str("C.UTF-8")}, {bytes_str("HOME"), bytes_str("/evil")},
		{bytes_str("LANG"), bytes_str("second")},  {bytes_str("TERM"), bytes_str("evil")},
		{bytes_str("LA"), bytes_str("prefix")},
	};
	struct frame_open_options o = {.env = given, .env_count = ARRAY_LEN(given)};
	char **env;

	s.options = &options;
	strcpy(s.user.name, "me");
	strcpy(s.user.home, "/home/me");
	strcpy(s.user.shell, "/bin/sh");
	strcpy(s.ticket.client, "[2001:db8::7]:4711");
	strcpy(s.address, "10.0.0.1:22");
	env = env_make(&s, &o, NULL, NULL);
	assert_non_null(env);
	assert_string_equal(get(env, "LANG"), "second");
	assert_string_equal(get(env, "LA"), "prefix");
	assert_string_equal(get(env, "HOME"), "/home/me");
	assert_string_equal(get(env, "USER"), "me");
	assert_string_equal(get(env, "LOGNAME"), "me");
	assert_string_equal(get(env, "SHELL"), "/bin/sh");
	assert_string_equal(get(env, "PATH"), "/opt/bin:/bin");
	assert_string_equal(get(env, "SSH_CLIENT"), "2001:db8::7 4711 22");
	assert_string_equal(get(env, "SSH_CONNECTION"), "2001:db8::7 4711 10.0.0.1 22");
	assert_null(get(env, "SSH_TTY"));
	assert_null(get(env, "SSH_AUTH_SOCK"));
	env_free(env);
	o.pty.term = bytes_str("xterm");
	strcpy(s.ticket.client, "somewhere");
	strcpy(s.address, "unix:/run/procd");
	env = env_make(&s, &o, "/dev/pts/3", "/tmp/agent");
	assert_string_equal(get(env, "TERM"), "xterm");
	assert_string_equal(get(env, "SSH_TTY"), "/dev/pts/3");
	assert_string_equal(get(env, "SSH_AUTH_SOCK"), "/tmp/agent");
	assert_string_equal(get(env, "SSH_CONNECTION"), "somewhere 0 UNKNOWN 0");
	env_free(env);
}

static void test_signals(void **state)
{
	assert_int_equal(signal_number(bytes_str("KILL")), SIGKILL);
	assert_int_equal(signal_number(bytes_str("SIGKILL")), 0);
	assert_int_equal(signal_number(bytes_str("")), 0);
	assert_int_equal(signal_number(bytes_str("STOP")), 0);
	assert_string_equal(signal_name(SIGTERM), "TERM");
	assert_string_equal(signal_name(SIGBUS), "SIG@openssh.com");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_modes),        cmocka_unit_test(test_modes_of_garbage),
		cmocka_unit_test(test_env_validity), cmocka_unit_test(test_env),
		cmocka_unit_test(test_signals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
