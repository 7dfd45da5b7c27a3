/*
 * tests/unit/upstream/test_cache_cluster.c - three masters on loopback: reads of all of them at once, fills whose revisions live
 * elsewhere, slots that move, masters that die.
 */
#include "cache_world.h"
#include "upstream/redis/slot.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TIMEOUT_MS 3000
#define MASTERS 3
#define BUS_PORTS 10000 /* above a server's own */

static struct redis_server servers[MASTERS + 1]; /* the last one is a replica, where there is one */
static uint32_t server_count;
static struct read got;

static int setup(void **state)
{
	server_count = 0;
	if (redis_program())
		world_init();
	return 0;
}

static int teardown(void **state)
{
	if (!redis_program())
		return 0;
	world_deinit();
	for (uint32_t i = 0; i < server_count; i++)
		redis_deinit(&servers[i]);
	return 0;
}

/* A port that has a free one for the cluster's bus above it. */
static uint16_t cluster_port(void)
{
	for (;;) {
		uint16_t port = redis_free_port();
		struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		int fd, rc;

		if (port > UINT16_MAX - BUS_PORTS)
			port = (uint16_t)(port - BUS_PORTS);
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		in.sin_port = htons((uint16_t)(port + BUS_PORTS));
		rc = bind(fd, (struct sockaddr *)&in, sizeof(in));
		close(fd);
		if (rc == 0)
			return port;
	}
}

static struct redis_server *start_server(void)
{
	static const char *const args[] = {"--cluster-enabled",
					   "yes",
					   "--cluster-node-timeout",
					   "2000",
					   "--cluster-require-full-coverage",
					   "no",
					   "--repl-diskless-sync-delay",
					   "0"};
	struct redis_server *s = &servers[server_count++];

	redis_init(s);
	memcpy(s->args, args, sizeof(args));
	s->port = cluster_port();
	redis_start(s);
	return s;
}

/* Until what a command of this server answers has the text in it. */
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

static uint32_t first_slot(uint32_t i)
{
	return i * SLOT_COUNT / MASTERS;
}

static void begin_servers(void)
{
	if (!redis_program()) {
		print_message("skip: neither redis-server nor valkey-server is installed\n");
		skip();
	}
	for (uint32_t i = 0; i < MASTERS; i++) {
		struct redis_server *s = start_server();

		redis_do(s, "CLUSTER SET-CONFIG-EPOCH %u", i + 1);
		redis_do(s, "CLUSTER ADDSLOTSRANGE %u %u", first_slot(i), first_slot(i + 1) - 1);
		if (i > 0)
			redis_do(s, "CLUSTER MEET 127.0.0.1 %u", (unsigned)servers[0].port);
	}
	for (uint32_t i = 0; i < MASTERS; i++) {
		await_text(&servers[i], "CLUSTER INFO", "cluster_slots_ok:16384");
		await_text(&servers[i], "CLUSTER INFO", "cluster_size:3");
	}
}

static bool is_up(void)
{
	return world_is_up();
}

static void begin_cache(const char *first)
{
	char url[128];

	snprintf(url, sizeof(url), "cluster://%s127.0.0.1:%u", first, servers[0].port);
	world_cache(url, TIMEOUT_MS);
	world_run(is_up, "all masters");
}

static void begin(void)
{
	begin_servers();
	begin_cache("");
	assert_int_equal(world.ups, MASTERS);
}

/* The server that has this name, by the slots that were given out. */
static uint32_t owner_of(const char *name)
{
	uint32_t slot = slot_of(bytes_str(name)), i = 0;

	while (slot >= first_slot(i + 1))
		i++;
	return i;
}

/* The first of PREFIX0, PREFIX1, … that this server has. */
static const char *name_at(uint32_t server, const char *prefix, char ret_name[64])
{
	for (int i = 0;; i++) {
		snprintf(ret_name, 64, "%s%d", prefix, i);
		if (owner_of(ret_name) == server)
			return ret_name;
	}
}

/* --- reads --- */

static struct cache_read big;
static bool is_big_done;
static uint32_t big_good;

static void on_big(struct cache_read *q)
{
	is_big_done = true;
	for (uint32_t i = 0; i < q->count; i++)
		big_good += q->values[i].p && bytes_is(q->values[i], q->names[i]);
}

static bool is_big_read(void)
{
	return is_big_done;
}

/* As many names as a read may have, over all servers; each has its own name as its value. */
static void test_reads_of_all(void **state)
{
	uint32_t at[MASTERS] = {0};

	begin();
	big = (struct cache_read){.count = CACHE_READ_KEYS_MAX, .on_done = on_big};
	for (uint32_t i = 0; i < big.count; i++) {
		snprintf(big.names[i], RECORD_NAME_MAX, "rg:grant:sb-%u:team:user", i);
		at[owner_of(big.names[i])]++;
		redis_do(&servers[owner_of(big.names[i])], "SET %s %s", big.names[i], big.names[i]);
	}
	assert_true(at[0] > 0 && at[1] > 0 && at[2] > 0);
	is_big_done = false;
	big_good = 0;
	cache_get(world.cache, &big);
	world_run(is_big_read, "a read of all servers");
	assert_int_equal(big.result, CACHE_DONE);
	assert_int_equal(big_good, CACHE_READ_KEYS_MAX);
}

static void test_misses_and_wrong_types(void **state)
{
	char a[64], b[64], c[64];

	begin();
	name_at(0, "rg:a", a);
	name_at(1, "rg:b", b);
	name_at(2, "rg:c", c);
	redis_do(&servers[0], "SET %s 1", a);
	redis_do(&servers[2], "RPUSH %s 1", c);
	assert_int_equal(read_names(&got, a, b, c), CACHE_DONE);
	assert_true(read_is(&got, 0, "1"));
	assert_true(got.bytes[1] == SIZE_MAX && got.bytes[2] == SIZE_MAX);
	assert_int_equal(world_stats().wrong, 1);
}

static void test_invalidations_of_all(void **state)
{
	char name[64];

	begin();
	for (uint32_t i = 0; i < MASTERS; i++) {
		redis_do(&servers[i], "SET %s 1", name_at(i, "rg:x", name));
		world_await_invalidated(name);
	}
}

/* --- fills --- */

static void test_fills(void **state)
{
	char value[64], near[64], far[64];

	begin();
	name_at(0, "rg:route:a", value);
	name_at(0, "rg:rev:sandbox:a", near);
	name_at(1, "rg:rev:sandbox:a", far);
	assert_int_equal(fill(value, 5, "x", 10000, near, far), FILLED);
	assert_int_equal(fill(value, 4, "x", 10000, near, far), FILL_REFUSED);
	redis_do(&servers[1], "SET %s 7", far);
	assert_int_equal(fill(value, 6, "x", 10000, near, far), FILL_REFUSED);
	assert_int_equal(fill(value, 7, "x", 10000, near, far), FILLED);
	redis_do(&servers[0], "SET %s garbage", near);
	assert_int_equal(fill(value, 8, "x", 10000, near, far), FILL_REFUSED);
	redis_do(&servers[0], "DEL %s", near);
	assert_int_equal(fill(value, 8, "x", 10000, near, far), FILLED);
	assert_int_equal(read_names(&got, value, NULL, NULL), CACHE_DONE);
	assert_true(read_is(&got, 0, "00000000000000000008x"));
}

static bool is_refused(void)
{
	return world_stats().fills_refused > 0;
}

/* The revision moves while the value is on its way to a server that answers late: it does not stay. */
static void test_change_during_fill(void **state)
{
	char value[64], rev[1][RECORD_NAME_MAX], far[64];

	begin();
	name_at(0, "rg:route:a", value);
	name_at(1, "rg:rev:sandbox:a", far);
	snprintf(rev[0], sizeof(rev[0]), "%s", far);
	kill(servers[0].pid, SIGSTOP);
	cache_fill(world.cache, value, 5, bytes_str("00000000000000000005x"), 10000,
		   (const char(*)[RECORD_NAME_MAX])rev, 1);
	/* By now the revisions are read, and the value is sent. */
	world_pass(200);
	redis_do(&servers[1], "SET %s 6", far);
	kill(servers[0].pid, SIGCONT);
	world_run(is_refused, "the end of the fill");
	assert_int_equal(read_names(&got, value, NULL, NULL), CACHE_DONE);
	assert_true(got.bytes[0] == SIZE_MAX);
	assert_int_equal(world_stats().fills, 0);
}

static bool are_revisions_done(void)
{
	return world.revisions_done >= MASTERS || world.everything > 0;
}

static void test_revisions_of_all(void **state)
{
	char name[64];

	begin();
	for (uint32_t i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "rg:rev:sandbox:s%u", i);
		redis_do(&servers[owner_of(name)], "SET %s %u", name, i);
	}
	cache_revisions(world.cache);
	world_run(are_revisions_done, "the revisions");
	assert_int_equal(world.everything, 0);
	for (uint64_t i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "rg:rev:sandbox:s%u", (unsigned)i);
		assert_true(world_revision(name) == i);
	}
}

/* --- slots that move --- */

static void node_id(uint32_t i, char ret_id[64])
{
	redisReply *r = redis_ask(&servers[i], "CLUSTER MYID");

	assert_int_equal(r->type, REDIS_REPLY_STRING);
	snprintf(ret_id, 64, "%s", r->str);
	freeReplyObject(r);
}

/* The cache learns of it by being sent away. */
static void test_moved(void **state)
{
	char name[64], id[64];
	uint32_t slot;

	begin();
	slot = slot_of(bytes_str(name_at(0, "rg:a", name)));
	node_id(1, id);
	redis_do(&servers[1], "CLUSTER SETSLOT %u NODE %s", slot, id);
	redis_do(&servers[0], "CLUSTER SETSLOT %u NODE %s", slot, id);
	redis_do(&servers[1], "SET %s there", name);
	assert_int_equal(read_names(&got, name, NULL, NULL), CACHE_DONE);
	assert_true(read_is(&got, 0, "there"));
	assert_int_equal(fill(name, 1, "x", 10000, NULL, NULL), FILLED);
	assert_int_equal(world.downs, 0);
}

/* A fill is sent away and lost; the next one finds its server. */
static void test_moved_fill(void **state)
{
	char name[64], id[64];
	uint32_t slot;

	begin();
	slot = slot_of(bytes_str(name_at(2, "rg:route:a", name)));
	node_id(0, id);
	redis_do(&servers[0], "CLUSTER SETSLOT %u NODE %s", slot, id);
	redis_do(&servers[2], "CLUSTER SETSLOT %u NODE %s", slot, id);
	assert_int_equal(fill(name, 1, "x", 10000, NULL, NULL), FILL_FAILED);
	while (fill(name, 1, "x", 10000, NULL, NULL) != FILLED)
		world_pass(50);
	assert_int_equal(world.downs, 0);
}

/* A slot on its way: what has left already counts as absent, and nothing ends. */
static void test_asking(void **state)
{
	char name[64], from[64], to[64];
	uint32_t slot;

	begin();
	slot = slot_of(bytes_str(name_at(0, "rg:a", name)));
	node_id(0, from);
	node_id(1, to);
	redis_do(&servers[1], "CLUSTER SETSLOT %u IMPORTING %s", slot, from);
	redis_do(&servers[0], "CLUSTER SETSLOT %u MIGRATING %s", slot, to);
	assert_int_equal(read_names(&got, name, NULL, NULL), CACHE_DONE);
	assert_true(got.bytes[0] == SIZE_MAX);
	assert_int_equal(fill(name, 1, "x", 10000, NULL, NULL), FILL_FAILED);
	assert_int_equal(world.downs, 0);
}

/* --- masters that die --- */

static bool is_down(void)
{
	return !world_is_up();
}

static void test_master_dies(void **state)
{
	char a[64], b[64];

	begin();
	name_at(1, "rg:a", a);
	name_at(2, "rg:b", b);
	redis_do(&servers[2], "SET %s 1", b);
	redis_kill(&servers[1]);
	world_run(is_down, "the end of a master");
	assert_int_equal(read_names(&got, a, NULL, NULL), CACHE_FAILED);
	assert_int_equal(read_names(&got, a, b, NULL), CACHE_FAILED);
	assert_int_equal(read_names(&got, b, NULL, NULL), CACHE_DONE);
	assert_true(read_is(&got, 0, "1"));
	unlink(servers[1].socket);
	redis_start(&servers[1]);
	world_run(is_up, "the master again");
	while (read_names(&got, a, b, NULL) != CACHE_DONE)
		world_pass(20);
	assert_true(got.bytes[0] == SIZE_MAX && read_is(&got, 1, "1"));
}

/* The one that is asked for the slots dies: another one is asked. */
static void test_seed_dies(void **state)
{
	char name[64], id[64];
	uint32_t slot;

	begin();
	redis_kill(&servers[0]);
	world_run(is_down, "the end of a master");
	slot = slot_of(bytes_str(name_at(1, "rg:a", name)));
	node_id(2, id);
	redis_do(&servers[2], "CLUSTER SETSLOT %u NODE %s", slot, id);
	redis_do(&servers[1], "CLUSTER SETSLOT %u NODE %s", slot, id);
	redis_do(&servers[2], "SET %s there", name);
	while (fill(name, 1, "x", 10000, NULL, NULL) != FILLED)
		world_pass(50);
}

static void test_second_seed(void **state)
{
	begin_servers();
	begin_cache("127.0.0.1:1,");
	assert_int_equal(world.ups, MASTERS);
}

/* A replica takes over; the old master is let go of, and the new one is used. */
static void test_takeover(void **state)
{
	char name[64], id[64];
	struct redis_server *replica;

	begin();
	replica = start_server();
	node_id(0, id);
	redis_do(replica, "CLUSTER MEET 127.0.0.1 %u", (unsigned)servers[0].port);
	await_text(replica, "CLUSTER INFO", "cluster_size:3");
	redis_do(replica, "CLUSTER REPLICATE %s", id);
	await_text(replica, "INFO replication", "master_link_status:up");
	redis_do(replica, "CLUSTER FAILOVER TAKEOVER");
	await_text(replica, "INFO replication", "role:master");
	name_at(0, "rg:a", name);
	/* The old one may take fills until it has heard of it; they are lost with it. Then it sends them away. */
	while (world.ups <= MASTERS || !world_is_up()) {
		(void)fill(name, 1, "x", 10000, NULL, NULL);
		world_pass(20);
	}
	while (fill(name, 1, "x", 10000, NULL, NULL) != FILLED)
		world_pass(50);
	redis_do(replica, "SET rg:{%s}:news 1", name);
	snprintf(id, sizeof(id), "rg:{%s}:news", name);
	world_await_invalidated(id);
}

/* redis:// to a server of a Cluster says what is wrong. */
static void test_wrong_scheme(void **state)
{
	char url[64], name[64];

	begin_servers();
	snprintf(url, sizeof(url), "redis://127.0.0.1:%u", servers[0].port);
	world_cache(url, TIMEOUT_MS);
	world_await_down(1);
	if (!strstr(world.why, "cluster://"))
		fail_msg("down because of: %s", world.why);
	assert_int_equal(read_names(&got, name_at(1, "rg:a", name), NULL, NULL), CACHE_FAILED);
}

/* cluster:// to a server of none. */
static void test_no_cluster(void **state)
{
	char url[64];

	if (!redis_program())
		skip();
	server_count = 1;
	redis_init(&servers[0]);
	servers[0].port = redis_free_port();
	redis_start(&servers[0]);
	snprintf(url, sizeof(url), "cluster://127.0.0.1:%u", servers[0].port);
	world_cache(url, TIMEOUT_MS);
	world_await_down(1);
	assert_non_null(strstr(world.why, "is it a Cluster?"));
	assert_int_equal(read_names(&got, "rg:a", NULL, NULL), CACHE_FAILED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_reads_of_all),
		TEST(test_misses_and_wrong_types),
		TEST(test_invalidations_of_all),
		TEST(test_fills),
		TEST(test_change_during_fill),
		TEST(test_revisions_of_all),
		TEST(test_moved),
		TEST(test_moved_fill),
		TEST(test_asking),
		TEST(test_master_dies),
		TEST(test_seed_dies),
		TEST(test_second_seed),
		TEST(test_takeover),
		TEST(test_wrong_scheme),
		TEST(test_no_cluster),
#undef TEST
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
