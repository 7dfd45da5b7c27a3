/*
 * tests/unit/upstream/test_cache_sentinel.c - a master, a replica and a Sentinel: failovers, and Sentinels that are of no use.
 */
#include "cache_world.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_MS 2000

static struct redis_server a, b, sentinel;
static struct read got;

static int setup(void **state)
{
	if (!redis_program())
		return 0;
	redis_init(&a);
	redis_init(&b);
	redis_init(&sentinel);
	world_init();
	return 0;
}

static int teardown(void **state)
{
	if (!redis_program())
		return 0;
	world_deinit();
	redis_deinit(&sentinel);
	redis_deinit(&b);
	redis_deinit(&a);
	return 0;
}

/* Until a command's answer has this text in it. */
static void await_text(struct redis_server *s, const char *command, const char *text)
{
	for (int i = 0; i < 3000; i++) {
		redisReply *r = redis_ask(s, command);
		bool is_there = r->str && strstr(r->str, text);

		freeReplyObject(r);
		if (is_there)
			return;
		usleep(10000);
	}
	fail_msg("%s: never %s", command, text);
}

static void begin_servers(const char *password)
{
	static char port[8];
	char config[512];
	int n = 0;

	if (!redis_program()) {
		print_message("skip: neither redis-server nor valkey-server is installed\n");
		skip();
	}
	a.port = redis_free_port();
	b.port = redis_free_port();
	sentinel.port = redis_free_port();
	snprintf(port, sizeof(port), "%u", a.port);
	if (password) {
		const char *args[] = {"--requirepass", password, "--masterauth", password};

		memcpy(a.args, args, sizeof(args));
		memcpy(b.args, args, sizeof(args));
		n = 4;
	}
	for (int i = 0; i < 2; i++)
		a.args[n + i] = b.args[n + i] = i == 0 ? "--repl-diskless-sync-delay" : "0";
	b.args[n + 2] = "--replicaof";
	b.args[n + 3] = "127.0.0.1";
	b.args[n + 4] = port;
	redis_start(&a);
	redis_start(&b);
	snprintf(config, sizeof(config),
		 "sentinel monitor main 127.0.0.1 %u 1\nsentinel down-after-milliseconds main 500\n"
		 "sentinel failover-timeout main 3000\n%s%s%s%s\n",
		 a.port, password ? "requirepass " : "", password ? password : "",
		 password ? "\nsentinel auth-pass main " : "", password ? password : "");
	redis_start_sentinel(&sentinel, config);
	if (password) {
		redis_do(&a, "AUTH %s", password);
		redis_do(&b, "AUTH %s", password);
		redis_do(&sentinel, "AUTH %s", password);
	}
	await_text(&b, "INFO replication", "master_link_status:up");
	await_text(&sentinel, "INFO sentinel", "slaves=1");
}

static bool is_at(uint16_t port)
{
	struct cache_stats s = world_stats();
	char want[32];

	snprintf(want, sizeof(want), "127.0.0.1:%u", port);
	return s.is_up && strcmp(s.server, want) == 0;
}

static bool is_at_a(void)
{
	return is_at(a.port);
}

static bool is_at_b(void)
{
	return is_at(b.port);
}

static void begin_cache(const char *login, const char *first, const char *name)
{
	char url[192];

	snprintf(url, sizeof(url), "sentinel://%s%s127.0.0.1:%u/%s", login, first, sentinel.port, name);
	world_cache(url, TIMEOUT_MS);
}

static void check_works(struct redis_server *master)
{
	static uint64_t version;

	assert_int_equal(fill("rg:route:a", ++version, "x", 10000, "rg:rev:sandbox:a", NULL), FILLED);
	assert_int_equal(read_names(&got, "rg:route:a", NULL, NULL), CACHE_DONE);
	assert_true(got.bytes[0] == 21);
	world.invalidated_count = 0;
	redis_do(master, "SET rg:news 1");
	world_await_invalidated("rg:news");
}

static void test_failover(void **state)
{
	begin_servers(NULL);
	begin_cache("", "", "main");
	world_await_up(1);
	assert_true(is_at_a());
	check_works(&a);
	redis_kill(&a);
	world_run(is_at_b, "the other master");
	assert_true(world.ups == 2 && world.downs >= 1);
	check_works(&b);
	/* The first one comes back, and for a while believes that it is a master still. */
	redis_start(&a);
	world_pass(500);
	assert_true(is_at_b());
}

/* A master that is frozen, not dead: its connections stay open. */
static void test_frozen_master(void **state)
{
	begin_servers(NULL);
	begin_cache("", "", "main");
	world_await_up(1);
	kill(a.pid, SIGSTOP);
	world_run(is_at_b, "the other master");
	check_works(&b);
	kill(a.pid, SIGCONT);
	world_pass(300);
	assert_true(is_at_b());
}

/* On request, while all is well: told by the Sentinel. */
static void test_switch(void **state)
{
	begin_servers(NULL);
	begin_cache("", "", "main");
	world_await_up(1);
	/* It has to know the replica well before it is willing. */
	await_text(&sentinel, "SENTINEL FAILOVER main", "OK");
	world_run(is_at_b, "the other master");
	check_works(&b);
}

/* The Sentinel goes; the master's connection stays. It comes back and is used again. */
static void test_sentinel_dies(void **state)
{
	char config[256];

	begin_servers(NULL);
	begin_cache("", "", "main");
	world_await_up(1);
	redis_kill(&sentinel);
	world_pass(300);
	assert_int_equal(world.downs, 0);
	check_works(&a);
	unlink(sentinel.socket);
	snprintf(config, sizeof(config),
		 "sentinel monitor main 127.0.0.1 %u 1\nsentinel down-after-milliseconds main 500\n"
		 "sentinel failover-timeout main 3000\n",
		 a.port);
	redis_start_sentinel(&sentinel, config);
	await_text(&sentinel, "INFO sentinel", "slaves=1");
	redis_kill(&a);
	world_run(is_at_b, "the other master");
}

/* The first Sentinel of the list is not there. */
static void test_second_sentinel(void **state)
{
	begin_servers(NULL);
	begin_cache("", "127.0.0.1:1,", "main");
	world_await_up(1);
	check_works(&a);
}

static void test_unknown_name(void **state)
{
	begin_servers(NULL);
	begin_cache("", "", "other");
	world_await_down(1);
	assert_non_null(strstr(world.why, "does not know this master's name"));
	assert_int_equal(world.ups, 0);
	assert_int_equal(read_names(&got, "rg:a", NULL, NULL), CACHE_FAILED);
}

/* A server that is no Sentinel. */
static void test_no_sentinel(void **state)
{
	char url[64];

	begin_servers(NULL);
	snprintf(url, sizeof(url), "sentinel://127.0.0.1:%u/main", a.port);
	world_cache(url, TIMEOUT_MS);
	world_await_down(1);
	assert_non_null(strstr(world.why, "does not answer as a Sentinel"));
}

/* What the Sentinel names is a replica: it is not used. */
static void test_replica_is_named(void **state)
{
	begin_servers(NULL);
	begin_cache("", "", "main");
	world_await_up(1);
	world_cache_free();
	redis_kill(&sentinel);
	redis_do(&a, "REPLICAOF 127.0.0.1 %u", (unsigned)b.port);
	redis_do(&b, "REPLICAOF 127.0.0.1 %u", (unsigned)a.port);
	/* A Sentinel that believes otherwise for a while. */
	{
		char config[256];

		unlink(sentinel.socket);
		snprintf(config, sizeof(config),
			 "sentinel monitor main 127.0.0.1 %u 1\nsentinel down-after-milliseconds main 60000\n", a.port);
		redis_start_sentinel(&sentinel, config);
	}
	begin_cache("", "", "main");
	world_await_down(world.downs + 1);
	assert_non_null(strstr(world.why, "no master"));
	assert_int_equal(world.ups, 1);
}

/* The password is for the master; the Sentinel gets it where it asks for one. */
static void test_password(void **state)
{
	begin_servers("s3cret");
	begin_cache(":s3cret@", "", "main");
	world_await_up(1);
	assert_int_equal(fill("rg:route:a", 1, "x", 10000, NULL, NULL), FILLED);
	redis_kill(&a);
	world_run(is_at_b, "the other master");
	assert_int_equal(fill("rg:route:a", 2, "x", 10000, NULL, NULL), FILLED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_failover),      TEST(test_frozen_master),    TEST(test_switch),
		TEST(test_sentinel_dies), TEST(test_second_sentinel),  TEST(test_unknown_name),
		TEST(test_no_sentinel),   TEST(test_replica_is_named), TEST(test_password),
#undef TEST
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
