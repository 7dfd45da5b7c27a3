/*
 * tests/unit/upstream/test_cache.c - the cache against one real server: reads, news of others' writes, fills, revisions, and a
 * server that is killed, frozen, loading, locked, or another one than it was.
 */
#include "cache_world.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TIMEOUT_MS 5000

static struct redis_server server;
static struct read reads[4];

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

/* Starts a server on its socket and a cache on it. */
static void begin(uint32_t timeout_ms)
{
	char url[128];

	if (!redis_program()) {
		print_message("skip: neither redis-server nor valkey-server is installed\n");
		skip();
	}
	redis_start(&server);
	snprintf(url, sizeof(url), "unix:%s", server.socket);
	world_cache(url, timeout_ms);
	world_await_up(1);
}

static void begin_cache_tcp(uint32_t timeout_ms, const char *login)
{
	char url[128];

	snprintf(url, sizeof(url), "redis://%slocalhost:%u", login, server.port);
	world_cache(url, timeout_ms);
}

static void begin_server_tcp(void)
{
	if (!redis_program()) {
		print_message("skip: neither redis-server nor valkey-server is installed\n");
		skip();
	}
	server.port = redis_free_port();
	redis_start(&server);
}

static void begin_tcp(uint32_t timeout_ms, const char *login)
{
	begin_server_tcp();
	begin_cache_tcp(timeout_ms, login);
}

/* --- reads --- */

static void test_hits_and_misses(void **state)
{
	begin(TIMEOUT_MS);
	redis_do(&server, "SET rg:a value-a");
	redis_do(&server, "SET rg:b %b", "nul\0in", (size_t)6);
	assert_int_equal(read_names(&reads[0], "rg:a", "rg:none", "rg:b"), CACHE_DONE);
	assert_true(read_is(&reads[0], 0, "value-a"));
	assert_true(reads[0].bytes[1] == SIZE_MAX);
	assert_int_equal(reads[0].bytes[2], 6);
	assert_memory_equal(reads[0].values[2], "nul\0in", 6);
	assert_int_equal(world_stats().hits, 2);
	assert_int_equal(world_stats().in_flight, 0);
}

static void test_pipelined(void **state)
{
	static struct read many[64];
	char name[64], value[64];

	begin(TIMEOUT_MS);
	for (int i = 0; i < 64; i++)
		redis_do(&server, "SET rg:n%d value-%d", i, i);
	for (int i = 0; i < 64; i++) {
		snprintf(name, sizeof(name), "rg:n%d", i);
		read_start(&many[i], name, NULL, NULL);
	}
	for (int i = 63; i >= 0; i--)
		read_await(&many[i]);
	for (int i = 0; i < 64; i++) {
		snprintf(value, sizeof(value), "value-%d", i);
		assert_true(read_is(&many[i], 0, value));
	}
}

static void test_wrong_types_and_sizes(void **state)
{
	static char big[RECORD_VALUE_MAX + 1];

	begin(TIMEOUT_MS);
	memset(big, 'x', sizeof(big));
	redis_do(&server, "RPUSH rg:list a");
	redis_do(&server, "SET rg:big %b", big, sizeof(big));
	redis_do(&server, "SET rg:full %b", big, sizeof(big) - 1);
	redis_do(&server, "HSET rg:hash a b");
	redis_do(&server, "SET rg:empty %b", "", (size_t)0);
	assert_int_equal(read_names(&reads[0], "rg:list", "rg:big", "rg:full"), CACHE_DONE);
	assert_true(reads[0].bytes[0] == SIZE_MAX);
	assert_true(reads[0].bytes[1] == SIZE_MAX);
	assert_int_equal(reads[0].bytes[2], RECORD_VALUE_MAX);
	assert_int_equal(read_names(&reads[0], "rg:hash", "rg:empty", NULL), CACHE_DONE);
	assert_true(reads[0].bytes[0] == SIZE_MAX);
	assert_int_equal(reads[0].bytes[1], 0);
	assert_int_equal(world_stats().wrong, 1);
}

/* A bulk of 10 MB: the connection ends, the read fails, and the next one works. */
static void test_too_large(void **state)
{
	begin(TIMEOUT_MS);
	redis_do(&server, "SETRANGE rg:huge 10000000 x");
	assert_int_equal(read_names(&reads[0], "rg:huge", NULL, NULL), CACHE_FAILED);
	assert_non_null(strstr(world.why, "too large"));
	world_await_up(2);
	assert_int_equal(read_names(&reads[0], "rg:none", NULL, NULL), CACHE_DONE);
	assert_int_equal(world_stats().reconnects, 1);
}

static void on_never(struct cache_read *q)
{
	fail_msg("a cancelled read was answered");
}

static void test_cancel(void **state)
{
	begin(TIMEOUT_MS);
	redis_do(&server, "SET rg:a 1");
	for (int i = 0; i < 3; i++)
		read_start(&reads[i], "rg:a", NULL, NULL);
	reads[1].q.on_done = on_never;
	cache_cancel(world.cache, &reads[1].q);
	cache_cancel(world.cache, &reads[1].q);
	memset(&reads[1], 0xff, sizeof(reads[1]));
	read_await(&reads[2]);
	assert_true(reads[0].is_done && read_is(&reads[2], 0, "1"));
	assert_int_equal(world_stats().in_flight, 0);
	cache_cancel(world.cache, &reads[0].q);
}

/* Not connected: fails at once, and not inside the call. */
static void test_down(void **state)
{
	if (!redis_program())
		skip();
	world_cache("unix:/nonexistent/socket", 200);
	world_await_down(1);
	assert_non_null(strstr(world.why, "No such file"));
	assert_int_equal(read_names(&reads[0], "rg:a", NULL, NULL), CACHE_FAILED);
	read_start(&reads[1], "rg:a", NULL, NULL);
	reads[1].q.on_done = on_never;
	cache_cancel(world.cache, &reads[1].q);
	assert_int_equal(fill("rg:a", 1, "x", 1000, NULL, NULL), FILL_FAILED);
	world_pass(500);
	/* The same reason is told once, however often it is tried. */
	assert_int_equal(world.downs, 1);
	read_start(&reads[1], "rg:a", NULL, NULL);
	reads[1].q.on_done = on_never;
	world_cache_free();
}

/* --- what others do --- */

static void test_invalidation(void **state)
{
	begin(TIMEOUT_MS);
	redis_do(&server, "SET other:a 1");
	redis_do(&server, "SET rg:key:x 1");
	world_await_invalidated("rg:key:x");
	assert_false(world_was_invalidated("other:a"));
	redis_do(&server, "DEL rg:key:x");
	world.invalidated_count = 0;
	redis_do(&server, "SET rg:short 1 PX 30");
	world_await_invalidated("rg:short");
	world.invalidated_count = 0;
	/* It expires. */
	world_await_invalidated("rg:short");
	redis_do(&server, "MSET rg:m1 1 rg:m2 2");
	world_await_invalidated("rg:m1");
	assert_true(world_was_invalidated("rg:m2"));
}

static bool is_everything(void)
{
	return world.everything > 0;
}

static void test_flushall(void **state)
{
	begin(TIMEOUT_MS);
	redis_do(&server, "SET rg:a 1");
	redis_do(&server, "FLUSHALL");
	world_run(is_everything, "FLUSHALL's news");
	assert_int_equal(read_names(&reads[0], "rg:a", NULL, NULL), CACHE_DONE);
	assert_true(reads[0].bytes[0] == SIZE_MAX);
}

/* What this cache fills itself is told as well, and what others fill: see on_invalidated. */
static void test_fills_are_told(void **state)
{
	begin(TIMEOUT_MS);
	assert_int_equal(fill("rg:route:a", 5, "x", 10000, NULL, NULL), FILLED);
	world_await_invalidated("rg:route:a");
}

/* --- fills --- */

static bool stored_is(const char *name, const char *want)
{
	redisReply *r = redis_ask(&server, "GET %s", name);
	bool is = want ? r->type == REDIS_REPLY_STRING && strcmp(r->str, want) == 0 : r->type == REDIS_REPLY_NIL;

	freeReplyObject(r);
	return is;
}

static long long ttl_of(const char *name)
{
	redisReply *r = redis_ask(&server, "PTTL %s", name);
	long long ttl = r->integer;

	freeReplyObject(r);
	return ttl;
}

static void test_fill(void **state)
{
	begin(TIMEOUT_MS);
	assert_int_equal(fill("rg:route:a", 7, "seven", 20000, "rg:rev:sandbox:a", NULL), FILLED);
	assert_true(stored_is("rg:route:a", "00000000000000000007seven"));
	assert_true(ttl_of("rg:route:a") > 10000 && ttl_of("rg:route:a") <= 20000);
	/* Older: refused. The same and newer: stored. */
	assert_int_equal(fill("rg:route:a", 6, "six", 20000, NULL, NULL), FILL_REFUSED);
	assert_true(stored_is("rg:route:a", "00000000000000000007seven"));
	assert_int_equal(fill("rg:route:a", 7, "again", 20000, NULL, NULL), FILLED);
	assert_int_equal(fill("rg:route:a", 18446744073709551615u, "last", 20000, NULL, NULL), FILLED);
	assert_int_equal(fill("rg:route:a", 18446744073709551614u, "late", 20000, NULL, NULL), FILL_REFUSED);
	assert_int_equal(world_stats().fills, 3);
	assert_int_equal(world_stats().fills_refused, 2);
	assert_int_equal(world_stats().fills_failed, 0);
}

static void test_fill_and_revisions(void **state)
{
	begin(TIMEOUT_MS);
	redis_do(&server, "SET rg:rev:sandbox:a 10 PX 600000");
	redis_do(&server, "SET rg:rev:key:k 00000000000000000005 PX 600000");
	assert_int_equal(fill("rg:route:a", 9, "late", 20000, "rg:rev:key:k", "rg:rev:sandbox:a"), FILL_REFUSED);
	assert_true(stored_is("rg:route:a", NULL));
	assert_int_equal(fill("rg:route:a", 10, "new", 20000, "rg:rev:key:k", "rg:rev:sandbox:a"), FILLED);
	assert_int_equal(fill("rg:route:b", 4, "late", 20000, "rg:rev:key:k", NULL), FILL_REFUSED);
	assert_int_equal(fill("rg:route:b", 6, "new", 20000, "rg:rev:key:k", "rg:rev:none"), FILLED);
	/* Numbers, not texts: 9 is below 10. */
	redis_do(&server, "SET rg:rev:key:k 100");
	assert_int_equal(fill("rg:route:c", 99, "late", 20000, "rg:rev:key:k", NULL), FILL_REFUSED);
}

/* A key in as many teams as there may be: its own revision and all of theirs count. */
static void test_fill_with_all_revisions(void **state)
{
	char names[1 + GRANTS_MAX][RECORD_NAME_MAX];

	begin(TIMEOUT_MS);
	for (int i = 0; i <= GRANTS_MAX; i++)
		snprintf(names[i], RECORD_NAME_MAX, "rg:rev:member:team-%d:user", i);
	assert_int_equal(fill_names("rg:key:k", 5, "x", 10000, names, ARRAY_LEN(names)), FILLED);
	redis_do(&server, "SET rg:rev:member:team-%d:user 6", GRANTS_MAX);
	assert_int_equal(fill_names("rg:key:k", 5, "x", 10000, names, ARRAY_LEN(names)), FILL_REFUSED);
	assert_int_equal(fill_names("rg:key:k", 6, "x", 10000, names, ARRAY_LEN(names)), FILLED);
}

/* Look-up, change, late fill: nothing old comes back, whichever comes first. */
static void test_late_fill(void **state)
{
	begin(TIMEOUT_MS);
	assert_int_equal(fill("rg:grant:s:t:u", 3, "yes", 20000, "rg:rev:member:t:u", NULL), FILLED);
	redis_do(&server, "SET rg:rev:member:t:u 4 PX 600000");
	redis_do(&server, "DEL rg:grant:s:t:u");
	world_await_invalidated("rg:grant:s:t:u");
	assert_true(world_was_invalidated("rg:rev:member:t:u"));
	assert_int_equal(fill("rg:grant:s:t:u", 3, "yes", 20000, "rg:rev:member:t:u", NULL), FILL_REFUSED);
	assert_int_equal(read_names(&reads[0], "rg:grant:s:t:u", NULL, NULL), CACHE_DONE);
	assert_true(reads[0].bytes[0] == SIZE_MAX);
}

static void test_fill_over_garbage(void **state)
{
	static const char *const revs[] = {"SET rg:rev:x abc", "SET rg:rev:x 123456789012345678901", "SET rg:rev:x -1",
					   "RPUSH rg:rev:x 1"};

	begin(TIMEOUT_MS);
	/* A revision that cannot be read refuses, and breaks nothing. */
	for (size_t i = 0; i < ARRAY_LEN(revs); i++) {
		redis_do(&server, "DEL rg:rev:x");
		redis_do(&server, revs[i]);
		assert_int_equal(fill("rg:route:g", 5, "v", 20000, "rg:rev:x", NULL), FILL_REFUSED);
	}
	/* Where no record is, one may be stored. */
	redis_do(&server, "RPUSH rg:route:g a b");
	assert_int_equal(fill("rg:route:g", 5, "v", 20000, NULL, NULL), FILLED);
	redis_do(&server, "SET rg:route:g garbage PX 100000");
	assert_int_equal(fill("rg:route:g", 5, "v", 20000, NULL, NULL), FILLED);
	/* Nobody bars a name for ever. */
	redis_do(&server, "SET rg:route:g 99999999999999999999x");
	assert_int_equal(fill("rg:route:g", 5, "v", 20000, NULL, NULL), FILLED);
	assert_true(stored_is("rg:route:g", "00000000000000000005v"));
}

static void test_fill_without_version(void **state)
{
	begin(TIMEOUT_MS);
	assert_int_equal(fill("rg:key:k", 0, "a", 300000, "rg:rev:key:k", NULL), FILLED);
	assert_true(ttl_of("rg:key:k") <= 10000);
	assert_int_equal(fill("rg:key:k", 0, "b", 1000, NULL, NULL), FILL_REFUSED);
	assert_int_equal(fill("rg:key:k", 1, "c", 300000, NULL, NULL), FILLED);
	assert_int_equal(fill("rg:key:k", 0, "d", 1000, NULL, NULL), FILL_REFUSED);
	redis_do(&server, "SET rg:rev:key:q 1");
	assert_int_equal(fill("rg:key:q", 0, "e", 1000, "rg:rev:key:q", NULL), FILL_REFUSED);
}

/* The server has forgotten the script. */
static void test_script_flush(void **state)
{
	begin(TIMEOUT_MS);
	assert_int_equal(fill("rg:route:a", 1, "x", 10000, NULL, NULL), FILLED);
	redis_do(&server, "SCRIPT FLUSH");
	assert_int_equal(fill("rg:route:a", 2, "x", 10000, NULL, NULL), FILLED);
	assert_true(stored_is("rg:route:a", "00000000000000000002x"));
	assert_int_equal(world_stats().fills_failed, 0);
}

static void test_fill_when_full(void **state)
{
	begin(TIMEOUT_MS);
	redis_do(&server, "CONFIG SET maxmemory 1");
	assert_int_equal(fill("rg:route:a", 1, "x", 10000, NULL, NULL), FILL_FAILED);
	assert_int_equal(read_names(&reads[0], "rg:route:a", NULL, NULL), CACHE_DONE);
}

/* --- revisions --- */

static bool are_revisions_done(void)
{
	return world.revisions_done > 0 || world.everything > 0;
}

static void test_revisions(void **state)
{
	begin(TIMEOUT_MS);
	for (int i = 0; i < 3000; i++)
		redis_do(&server, "SET rg:rev:sandbox:s%d %d", i, i);
	redis_do(&server, "SET rg:route:a 1");
	redis_do(&server, "SET rg:rev:key:bad garbage");
	redis_do(&server, "RPUSH rg:rev:key:list 1");
	world_await_invalidated("rg:rev:key:list");
	world.invalidated_count = 0;
	cache_revisions(world.cache);
	cache_revisions(world.cache);
	world_run(are_revisions_done, "the revisions");
	assert_int_equal(world.everything, 0);
	assert_int_equal(world_revision("rg:rev:sandbox:s2999"), 2999);
	assert_int_equal(world_revision("rg:rev:sandbox:s0"), 0);
	assert_true(world_revision("rg:route:a") == UINT64_MAX);
	/* What is no number is told as a change. */
	assert_true(world_revision("rg:rev:key:bad") == UINT64_MAX);
	assert_true(world_was_invalidated("rg:rev:key:bad"));
	assert_true(world_was_invalidated("rg:rev:key:list"));
}

/* More of them than are read: everything counts as changed. */
static void test_too_many_revisions(void **state)
{
	begin(TIMEOUT_MS);
	redis_do(&server, "EVAL %s 0", "for i = 1, 21000 do redis.call('SET', 'rg:rev:sandbox:x' .. i, i) end");
	/* The news of all of them is one push, larger than any that is taken: made anew, and told as such. */
	world_await_up(2);
	assert_non_null(strstr(world.why, "too large"));
	cache_revisions(world.cache);
	world_run(are_revisions_done, "the end of revisions");
	assert_int_equal(world.everything, 1);
	assert_int_equal(world.revisions_done, 0);
}

/* --- servers that fail --- */

static void test_kill_and_restart(void **state)
{
	begin(TIMEOUT_MS);
	redis_kill(&server);
	world_await_down(1);
	assert_false(world_is_up());
	assert_int_equal(read_names(&reads[0], "rg:a", NULL, NULL), CACHE_FAILED);
	unlink(server.socket);
	redis_start(&server);
	redis_do(&server, "SET rg:a 1");
	world_await_up(2);
	assert_int_equal(read_names(&reads[0], "rg:a", NULL, NULL), CACHE_DONE);
	assert_true(read_is(&reads[0], 0, "1"));
	redis_do(&server, "SET rg:b 1");
	world_await_invalidated("rg:b");
	assert_int_equal(world_stats().reconnects, 1);
}

/* Reads in flight when the server dies. */
static void test_kill_in_flight(void **state)
{
	begin(TIMEOUT_MS);
	kill(server.pid, SIGSTOP);
	for (int i = 0; i < 4; i++)
		read_start(&reads[i], "rg:a", NULL, NULL);
	world_pass(20);
	redis_kill(&server);
	for (int i = 0; i < 4; i++) {
		read_await(&reads[i]);
		assert_int_equal(reads[i].q.result, CACHE_FAILED);
	}
}

/* Frozen, with reads: each is told in time; a few late ones and the connection counts as down. */
static void test_frozen(void **state)
{
	uint64_t began_us;

	begin(100);
	kill(server.pid, SIGSTOP);
	began_us = ring_now_us(world.ring);
	read_start(&reads[0], "rg:a", NULL, NULL);
	world_pass(20);
	read_start(&reads[1], "rg:a", NULL, NULL);
	read_await(&reads[0]);
	assert_int_equal(reads[0].q.result, CACHE_FAILED);
	assert_in_range(ring_now_us(world.ring) - began_us, 100000, 5000000);
	read_await(&reads[1]);
	assert_int_equal(reads[1].q.result, CACHE_FAILED);
	world_await_down(1);
	assert_non_null(strstr(world.why, "too late"));
	world_pass(500);
	kill(server.pid, SIGCONT);
	world_await_up(2);
	redis_do(&server, "SET rg:a 1");
	assert_int_equal(read_names(&reads[0], "rg:a", NULL, NULL), CACHE_DONE);
	assert_true(read_is(&reads[0], 0, "1"));
}

/* Frozen while nobody asks: found out all the same. */
static void test_frozen_idle(void **state)
{
	begin(100);
	kill(server.pid, SIGSTOP);
	world_await_down(1);
	kill(server.pid, SIGCONT);
	world_await_up(2);
}

/* A late answer is dropped, and those behind it still find their reads. */
static void test_late_answer(void **state)
{
	begin(300);
	redis_do(&server, "SET rg:a 1");
	kill(server.pid, SIGSTOP);
	read_start(&reads[0], "rg:a", NULL, NULL);
	read_await(&reads[0]);
	assert_int_equal(reads[0].q.result, CACHE_FAILED);
	read_start(&reads[1], "rg:a", "rg:none", NULL);
	kill(server.pid, SIGCONT);
	read_await(&reads[1]);
	if (reads[1].q.result == CACHE_DONE)
		assert_true(read_is(&reads[1], 0, "1"));
	assert_int_equal(read_names(&reads[2], "rg:a", NULL, NULL), CACHE_DONE);
	assert_true(read_is(&reads[2], 0, "1"));
}

/* Late ones with good answers between them end nothing, however many. */
static void test_late_ones_apart(void **state)
{
	begin(300);
	for (int i = 0; i < 5; i++) {
		kill(server.pid, SIGSTOP);
		read_start(&reads[0], "rg:a", NULL, NULL);
		read_await(&reads[0]);
		assert_int_equal(reads[0].q.result, CACHE_FAILED);
		kill(server.pid, SIGCONT);
		while (read_names(&reads[1], "rg:a", NULL, NULL) != CACHE_DONE)
			;
	}
	assert_int_equal(world.downs, 0);
}

static void test_client_kill(void **state)
{
	begin(TIMEOUT_MS);
	redis_do(&server, "CLIENT KILL TYPE normal SKIPME yes");
	world_await_up(2);
	redis_do(&server, "SET rg:a 1");
	world_await_invalidated("rg:a");
}

/* The pipeline is bounded, and what is beyond fails at once. */
static void test_full_pipeline(void **state)
{
	static struct cache_read many[6000];
	static struct read last;
	uint32_t failed = 0;

	begin(TIMEOUT_MS);
	kill(server.pid, SIGSTOP);
	for (size_t i = 0; i < ARRAY_LEN(many); i++) {
		many[i].count = 1;
		snprintf(many[i].names[0], RECORD_NAME_MAX, "rg:a");
		many[i].on_done = on_never;
		cache_get(world.cache, &many[i]);
		failed += many[i].pending == NULL;
	}
	assert_int_equal(failed, ARRAY_LEN(many) - 4096);
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		cache_cancel(world.cache, &many[i]);
	kill(server.pid, SIGCONT);
	world_pass(300);
	assert_int_equal(read_names(&last, "rg:a", NULL, NULL), CACHE_DONE);
}

/* --- who may --- */

static void begin_acl(const char *rules, const char *login)
{
	begin_server_tcp();
	redis_do(&server, rules);
	begin_cache_tcp(TIMEOUT_MS, login);
}

/* All that a gateway's user needs: docs/redis.md. */
static void test_acl_user(void **state)
{
	begin_acl("ACL SETUSER gw on >s3cret/@ ~rg:* resetchannels -@all +hello +client|tracking +mget +get +set +del "
		  "+pttl "
		  "+evalsha +eval +scan +ping",
		  "gw:s3cret%2f%40@");
	world_await_up(1);
	redis_do(&server, "SET rg:rev:key:a 5");
	assert_int_equal(fill("rg:key:a", 6, "x", 10000, "rg:rev:key:a", NULL), FILLED);
	assert_int_equal(fill("rg:key:a", 5, "x", 10000, "rg:rev:key:a", NULL), FILL_REFUSED);
	assert_int_equal(read_names(&reads[0], "rg:key:a", NULL, NULL), CACHE_DONE);
	assert_true(read_is(&reads[0], 0, "00000000000000000006x"));
	redis_do(&server, "SET rg:b 1");
	world_await_invalidated("rg:b");
	cache_revisions(world.cache);
	world_run(are_revisions_done, "the revisions");
	assert_int_equal(world_revision("rg:rev:key:a"), 5);
}

static void test_password_file(void **state)
{
	struct cache_options o = {.connect_timeout_ms = TIMEOUT_MS, .timeout_ms = TIMEOUT_MS};
	char url[128], path[128], error[256];
	struct cache *c;
	FILE *f;

	if (!redis_program())
		skip();
	server.args[0] = "--requirepass";
	server.args[1] = "from a file";
	redis_start(&server);
	snprintf(url, sizeof(url), "unix:%s", server.socket);
	snprintf(path, sizeof(path), "%s/password", server.dir);
	f = fopen(path, "w");
	fputs("from a file\n", f);
	fclose(f);
	o.url = url;
	o.password_file = path;
	chmod(path, 0644);
	assert_int_equal(cache_new(world.ring, &o, &(struct cache_events){0}, NULL, &c, error), -EACCES);
	assert_non_null(strstr(error, "others may read"));
	chmod(path, 0600);
	world_cache_with(&o);
	world_await_up(1);
	assert_int_equal(read_names(&reads[0], "rg:a", NULL, NULL), CACHE_DONE);
}

static void test_wrong_password(void **state)
{
	server.args[0] = "--requirepass";
	server.args[1] = "right";
	begin_tcp(TIMEOUT_MS, ":wrong@");
	world_await_down(1);
	assert_non_null(strstr(world.why, "wrong user or password"));
	assert_int_equal(world.ups, 0);
}

static void test_no_password(void **state)
{
	server.args[0] = "--requirepass";
	server.args[1] = "right";
	begin_tcp(TIMEOUT_MS, "");
	world_await_down(1);
	assert_non_null(strstr(world.why, "wants a password"));
	assert_int_equal(read_names(&reads[0], "rg:a", NULL, NULL), CACHE_FAILED);
}

static void test_may_not_read(void **state)
{
	begin_acl("ACL SETUSER gw on nopass ~other:* +@all", "gw:x@");
	world_await_down(1);
	assert_non_null(strstr(world.why, "NOPERM"));
	assert_int_equal(world.ups, 0);
}

/* --- databases, replicas --- */

static void test_database(void **state)
{
	char url[128];

	begin_tcp(TIMEOUT_MS, "");
	world_await_up(1);
	world_cache_free();
	snprintf(url, sizeof(url), "redis://127.0.0.1:%u/3", server.port);
	redis_do(&server, "SET rg:a zero");
	redis_do(&server, "SELECT 3");
	redis_do(&server, "SET rg:a three");
	world_cache(url, TIMEOUT_MS);
	world_await_up(2);
	assert_int_equal(read_names(&reads[0], "rg:a", NULL, NULL), CACHE_DONE);
	assert_true(read_is(&reads[0], 0, "three"));
}

/* The master becomes somebody's replica: a fill finds out, and the connection is made anew. */
static void test_demoted(void **state)
{
	begin(TIMEOUT_MS);
	redis_do(&server, "REPLICAOF 127.0.0.1 1");
	assert_int_equal(fill("rg:route:a", 1, "x", 10000, NULL, NULL), FILL_FAILED);
	assert_non_null(strstr(world.why, "no master any more"));
	/* Reads of a replica work; what it refuses now ends nothing. */
	redis_do(&server, "CONFIG SET replica-serve-stale-data yes");
	world_await_up(2);
	assert_int_equal(read_names(&reads[0], "rg:a", NULL, NULL), CACHE_DONE);
	assert_int_equal(fill("rg:route:a", 1, "x", 10000, NULL, NULL), FILL_FAILED);
	assert_true(world_is_up());
}

static void test_bad_urls(void **state)
{
	static const char *const bad[] = {
		"",
		"localhost",
		"http://a",
		"redis://",
		"redis://a:0",
		"redis://a:70000",
		"redis://a:1x",
		"redis://a,b",
		"redis://a/x",
		"redis://a/9999",
		"redis://a b",
		"redis://u:%zz@a",
		"redis://u:%00@a",
		"redis://[::1",
		"redis://[::1]x",
		"unix:",
		"unix:relative",
		"unix:/a?x=1",
		"unix:/a?db=x",
		"sentinel://a",
		"sentinel://a/",
		"cluster://a/1",
		"cluster://",
		"cluster://a,,b",
	};
	struct cache_options o = {.connect_timeout_ms = 100, .timeout_ms = 100};
	struct cache *c;
	char error[256];

	if (!redis_program())
		skip();
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		o.url = bad[i];
		memset(error, 0, sizeof(error));
		if (cache_new(world.ring, &o, &(struct cache_events){0}, NULL, &c, error) != -EINVAL || !error[0])
			fail_msg("taken: %s", bad[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_hits_and_misses),
		TEST(test_pipelined),
		TEST(test_wrong_types_and_sizes),
		TEST(test_too_large),
		TEST(test_cancel),
		TEST(test_down),
		TEST(test_invalidation),
		TEST(test_flushall),
		TEST(test_fills_are_told),
		TEST(test_fill),
		TEST(test_fill_and_revisions),
		TEST(test_fill_with_all_revisions),
		TEST(test_late_fill),
		TEST(test_fill_over_garbage),
		TEST(test_fill_without_version),
		TEST(test_script_flush),
		TEST(test_fill_when_full),
		TEST(test_revisions),
		TEST(test_too_many_revisions),
		TEST(test_kill_and_restart),
		TEST(test_kill_in_flight),
		TEST(test_frozen),
		TEST(test_frozen_idle),
		TEST(test_late_answer),
		TEST(test_late_ones_apart),
		TEST(test_client_kill),
		TEST(test_full_pipeline),
		TEST(test_acl_user),
		TEST(test_password_file),
		TEST(test_wrong_password),
		TEST(test_no_password),
		TEST(test_may_not_read),
		TEST(test_database),
		TEST(test_demoted),
		TEST(test_bad_urls),
#undef TEST
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
