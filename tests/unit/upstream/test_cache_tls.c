/*
 * tests/unit/upstream/test_cache_tls.c - the cache over TLS: whom it trusts, and that bytes get through.
 */
#include "cache_world.h"
#include "certs.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 5000

static struct redis_server server;
static struct read reads[64];
static uint16_t tls_port;

static int setup(void **state)
{
	if (!redis_program())
		return 0;
	redis_init(&server);
	world_init();
	return 0;
}

static int teardown(void **state)
{
	if (!redis_program())
		return 0;
	world_deinit();
	redis_deinit(&server);
	return 0;
}

/* A server with TLS and a certificate of these names. */
static void begin_server(const char *names)
{
	static char port[8], cert[128], key[128], ca[128];
	const char *args[] = {"--tls-port",         port, "--tls-cert-file",    cert, "--tls-key-file", key,
			      "--tls-ca-cert-file", ca,   "--tls-auth-clients", "no"};

	if (!redis_program()) {
		print_message("skip: neither redis-server nor valkey-server is installed\n");
		skip();
	}
	certs_make(server.dir, "good", names);
	tls_port = redis_free_port();
	snprintf(port, sizeof(port), "%u", tls_port);
	snprintf(cert, sizeof(cert), "%s/good-cert.pem", server.dir);
	snprintf(key, sizeof(key), "%s/good-key.pem", server.dir);
	snprintf(ca, sizeof(ca), "%s/good-ca.pem", server.dir);
	memcpy(server.args, args, sizeof(args));
	redis_start(&server);
}

static void begin_cache(const char *host, const char *ca)
{
	char url[128], path[128];
	struct cache_options o = {.connect_timeout_ms = TIMEOUT_MS, .timeout_ms = TIMEOUT_MS};

	snprintf(url, sizeof(url), "rediss://%s:%u", host, tls_port);
	snprintf(path, sizeof(path), "%s/%s-ca.pem", server.dir, ca);
	o.url = url;
	o.ca_file = path;
	world_cache_with(&o);
}

static void test_name(void **state)
{
	begin_server("DNS:localhost");
	begin_cache("localhost", "good");
	world_await_up(1);
	redis_do(&server, "SET rg:a 1");
	world_await_invalidated("rg:a");
	assert_int_equal(read_names(&reads[0], "rg:a", "rg:none", NULL), CACHE_DONE);
	assert_true(read_is(&reads[0], 0, "1"));
	assert_int_equal(fill("rg:route:a", 1, "x", 10000, "rg:rev:x", NULL), FILLED);
}

static void test_number(void **state)
{
	begin_server("IP:127.0.0.1");
	begin_cache("127.0.0.1", "good");
	world_await_up(1);
	assert_int_equal(read_names(&reads[0], "rg:a", NULL, NULL), CACHE_DONE);
}

/* Many large values: records that are cut anywhere, and several in one receive. */
static void test_much(void **state)
{
	static char value[RECORD_VALUE_MAX];

	begin_server("DNS:localhost");
	begin_cache("localhost", "good");
	world_await_up(1);
	for (int i = 0; i < 3; i++) {
		memset(value, 'a' + i, sizeof(value));
		redis_do(&server, "SET rg:v%d %b", i, value, sizeof(value));
	}
	for (size_t i = 0; i < ARRAY_LEN(reads); i++)
		read_start(&reads[i], "rg:v0", "rg:v1", "rg:v2");
	for (size_t i = 0; i < ARRAY_LEN(reads); i++) {
		read_await(&reads[i]);
		for (int v = 0; v < 3; v++) {
			memset(value, 'a' + v, sizeof(value));
			assert_int_equal(reads[i].bytes[v], sizeof(value));
			assert_memory_equal(reads[i].values[v], value, sizeof(value));
		}
	}
}

static void test_restart(void **state)
{
	begin_server("DNS:localhost");
	begin_cache("localhost", "good");
	world_await_up(1);
	redis_kill(&server);
	world_await_down(1);
	redis_start(&server);
	world_await_up(2);
	assert_int_equal(read_names(&reads[0], "rg:a", NULL, NULL), CACHE_DONE);
}

static void never_up(const char *why)
{
	world_await_down(1);
	if (!strstr(world.why, why))
		fail_msg("down because of: %s", world.why);
	world_pass(300);
	assert_int_equal(world.ups, 0);
	assert_int_equal(read_names(&reads[0], "rg:a", NULL, NULL), CACHE_FAILED);
}

static void test_other_ca(void **state)
{
	begin_server("DNS:localhost");
	certs_make(server.dir, "other", "DNS:localhost");
	begin_cache("localhost", "other");
	never_up("TLS: ");
}

static void test_other_name(void **state)
{
	begin_server("DNS:redis.example,IP:192.0.2.1");
	begin_cache("localhost", "good");
	never_up("hostname mismatch");
}

static void test_other_number(void **state)
{
	begin_server("DNS:127.0.0.1,IP:192.0.2.1");
	begin_cache("127.0.0.1", "good");
	never_up("IP address mismatch");
}

/* Without a CA of its own it trusts the system's, which do not know this server. */
static void test_system_ca(void **state)
{
	struct cache_options o = {.connect_timeout_ms = TIMEOUT_MS, .timeout_ms = TIMEOUT_MS};
	char url[64];

	begin_server("DNS:localhost");
	snprintf(url, sizeof(url), "rediss://localhost:%u", tls_port);
	o.url = url;
	world_cache_with(&o);
	never_up("TLS: ");
}

static void test_plain_server(void **state)
{
	begin_server("DNS:localhost");
	redis_kill(&server);
	server.args[0] = NULL;
	server.port = tls_port;
	redis_start(&server);
	begin_cache("localhost", "good");
	never_up("localhost:");
}

static void test_bad_ca_file(void **state)
{
	struct cache_options o = {.url = "rediss://localhost", .connect_timeout_ms = 100, .timeout_ms = 100};
	struct cache *c;
	char error[256];

	if (!redis_program())
		skip();
	o.ca_file = "/nonexistent.pem";
	assert_int_equal(cache_new(world.ring, &o, &(struct cache_events){0}, NULL, &c, error), -EINVAL);
	assert_non_null(strstr(error, "/nonexistent.pem"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_name),         TEST(test_number),      TEST(test_much),         TEST(test_restart),
		TEST(test_other_ca),     TEST(test_other_name),  TEST(test_other_number), TEST(test_system_ca),
		TEST(test_plain_server), TEST(test_bad_ca_file),
#undef TEST
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
