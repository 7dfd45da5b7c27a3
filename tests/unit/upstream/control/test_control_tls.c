/*
 * tests/unit/upstream/control/test_control_tls.c - the control plane's client over TLS, its tokens looked at by PyJWT.
 */
#include "fixture.h"

#include <fcntl.h>
#include <sodium.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define PYTHON "/usr/bin/python3"

extern char **environ;

static char dir[] = "/tmp/test_control_tls.XXXXXX";
static char url[64], ca[64], other_ca[64];
static uint8_t key[64];
static pid_t pid;
static FILE *to, *from;

static bool has_python(void)
{
	return access(PYTHON, X_OK) == 0 && system(PYTHON " -c 'import jwt, cryptography' 2>/dev/null") == 0;
}

static void spawn_server(const char *public_hex)
{
	char *argv[] = {PYTHON, "tests/unit/upstream/control/tls_server.py", dir, (char *)public_hex, NULL};
	posix_spawn_file_actions_t actions;
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], 0);
	posix_spawn_file_actions_adddup2(&actions, out[1], 1);
	assert_int_equal(posix_spawn(&pid, PYTHON, &actions, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	close(in[0]);
	close(out[1]);
	to = fdopen(in[1], "w");
	from = fdopen(out[0], "r");
	assert_true(to && from);
}

static int begin_all(void **state)
{
	char hex[65], line[32];
	uint8_t public[32];
	int port;

	if (sodium_init() < 0 || !mkdtemp(dir))
		return -1;
	if (!has_python()) {
		print_message("skip: " PYTHON " with python3-jwt and python3-cryptography is not here\n");
		return 0;
	}
	crypto_sign_keypair(public, key);
	sodium_bin2hex(hex, sizeof(hex), public, sizeof(public));
	spawn_server(hex);
	if (!fgets(line, sizeof(line), from) || sscanf(line, "%d", &port) != 1)
		return -1;
	snprintf(url, sizeof(url), "https://127.0.0.1:%d", port);
	snprintf(ca, sizeof(ca), "%s/ca.pem", dir);
	snprintf(other_ca, sizeof(other_ca), "%s/other.pem", dir);
	return 0;
}

static int end_all(void **state)
{
	char command[128];

	if (to) {
		fclose(to);
		fclose(from);
		waitpid(pid, NULL, 0);
	}
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command) == 0 ? 0 : -1;
}

static void make(const char *where, const char *ca_file, const uint8_t *secret)
{
	struct control_options o = options();

	if (!to)
		skip();
	o.url = where;
	o.ca_file = ca_file;
	o.secret = secret;
	client_make(&o);
}

/* A handshake for the first call only, and a token that somebody else's library believes. */
static void test_calls(void **state)
{
	struct control_key_call k;
	uint64_t connection = 0;

	make(url, ca, key);
	for (int i = 0; i < 20; i++) {
		if (key_of(&k) != CONTROL_OK)
			fail_msg("%s", k.call.reason);
		if (i == 0)
			connection = k.version;
		assert_int_equal(k.version, connection);
	}
	client_end();
}

static void test_token_of_another_key(void **state)
{
	struct control_key_call k;
	uint8_t public[32], secret[64];

	crypto_sign_keypair(public, secret);
	make(url, ca, secret);
	assert_int_equal(key_of(&k), CONTROL_FAILED);
	assert_int_equal(k.call.status, 401);
	assert_non_null(strstr(k.call.reason, "InvalidSignatureError"));
	client_end();
}

/* Refused without a second try, and without a word of the request having gone out. */
static void expect_distrust(const char *where, const char *ca_file)
{
	struct control_key_call k;

	make(where, ca_file, key);
	assert_int_equal(key_of(&k), CONTROL_FAILED);
	assert_int_equal(k.call.status, 0);
	if (!strstr(k.call.reason, "certificate"))
		fail_msg("%s", k.call.reason);
	assert_int_equal(stats().retries, 0);
	client_end();
}

static void test_certificate_of_an_unknown_authority(void **state)
{
	expect_distrust(url, other_ca);
}

static void test_certificate_the_system_does_not_know(void **state)
{
	expect_distrust(url, NULL);
}

static void test_certificate_of_another_host(void **state)
{
	char where[64];

	snprintf(where, sizeof(where), "https://localhost:%s", url + strlen("https://127.0.0.1:"));
	expect_distrust(where, ca);
}

static void test_plain_request_to_tls(void **state)
{
	struct control_key_call k;
	char where[64];

	snprintf(where, sizeof(where), "http%s", url + strlen("https"));
	make(where, ca, key);
	assert_int_equal(key_of(&k), CONTROL_FAILED);
	client_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_calls),
		T(test_token_of_another_key),
		T(test_certificate_of_an_unknown_authority),
		T(test_certificate_the_system_does_not_know),
		T(test_certificate_of_another_host),
		T(test_plain_request_to_tls),
	};

	return cmocka_run_group_tests(tests, begin_all, end_all);
}
