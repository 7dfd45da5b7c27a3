/*
 * tests/unit/upstream/test_cache_hostile.c - a server that says what no server should. It never takes the cache down, and the
 * cache goes on with the next connection.
 *
 * The server is a thread of this test: it answers the greeting, and everything after that with the same bytes.
 */
#include "cache_world.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char hello[] = "%2\r\n$5\r\nproto\r\n:3\r\n$4\r\nrole\r\n$6\r\nmaster\r\n";
static const char good_greeting[] = "%1\r\n$4\r\nrole\r\n$6\r\nmaster\r\n+OK\r\n*1\r\n_\r\n";

static struct {
	char dir[64], path[108];
	int listener;
	pthread_t thread;
	_Atomic int stop;
	const char *greeting, *answer; /* answer NULL: closes */
	size_t answer_bytes;
	_Atomic uint32_t connections;
} fake;

static struct read got;

static bool await_bytes(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	while (!atomic_load(&fake.stop))
		if (poll(&p, 1, 20) > 0)
			return true;
	return false;
}

static void put(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t k = send(fd, p, n, MSG_NOSIGNAL);

		if (k <= 0)
			return;
		p += k;
		n -= (size_t)k;
	}
}

static void serve(int fd)
{
	char bytes[4096];
	bool is_greeted = false;

	while (await_bytes(fd) && recv(fd, bytes, sizeof(bytes), 0) > 0) {
		if (!is_greeted)
			put(fd, fake.greeting, strlen(fake.greeting));
		else if (fake.answer)
			put(fd, fake.answer, fake.answer_bytes);
		else
			break;
		is_greeted = true;
	}
	close(fd);
}

static void *fake_run(void *unused)
{
	while (await_bytes(fake.listener)) {
		int fd = accept(fake.listener, NULL, NULL);

		if (fd < 0)
			continue;
		atomic_fetch_add(&fake.connections, 1);
		serve(fd);
	}
	return NULL;
}

static int setup(void **state)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	memset(&fake, 0, sizeof(fake));
	snprintf(fake.dir, sizeof(fake.dir), "/tmp/ringgate-fake.XXXXXX");
	assert_non_null(mkdtemp(fake.dir));
	snprintf(fake.path, sizeof(fake.path), "%s/socket", fake.dir);
	memcpy(un.sun_path, fake.path, strlen(fake.path) + 1);
	fake.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fake.listener, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(fake.listener, 16), 0);
	world_init();
	return 0;
}

static int teardown(void **state)
{
	world_deinit();
	atomic_store(&fake.stop, 1);
	pthread_join(fake.thread, NULL);
	close(fake.listener);
	unlink(fake.path);
	rmdir(fake.dir);
	return 0;
}

static void begin(const char *greeting, const char *answer, size_t answer_bytes)
{
	char url[160];

	fake.greeting = greeting;
	fake.answer = answer;
	fake.answer_bytes = answer_bytes;
	assert_int_equal(pthread_create(&fake.thread, NULL, fake_run, NULL), 0);
	snprintf(url, sizeof(url), "unix:%s", fake.path);
	world_cache(url, 1000);
}

/* Greets well, then answers each read with this: the read fails, the connection ends and another one is made. */
static void ends(const char *answer, size_t n, const char *why)
{
	begin(good_greeting, answer, n);
	world_await_up(1);
	assert_int_equal(read_names(&got, "rg:a", NULL, NULL), CACHE_FAILED);
	if (!strstr(world.why, why))
		fail_msg("down because of: %s", world.why);
	world_await_up(2);
}

static void test_closes(void **state)
{
	ends(NULL, 0, "closed");
}

static void test_garbage(void **state)
{
	ends("HTTP/1.1 400 Bad Request\r\n\r\n", 28, "no answer");
}

static void test_large_array(void **state)
{
	ends("*4000000000\r\n", 13, "no answer");
}

static void test_nested(void **state)
{
	static char text[4 * 10000];

	for (size_t i = 0; i < sizeof(text); i += 4)
		memcpy(text + i, "*1\r\n", 4);
	ends(text, sizeof(text), "no answer");
}

static void test_large_bulk(void **state)
{
	static char text[10 * 1000 * 1000];

	memset(text, 'x', sizeof(text));
	memcpy(text, "*1\r\n$90000000\r\n", 15);
	ends(text, sizeof(text), "too large");
}

/* More answers than there were commands. */
static void test_too_many_answers(void **state)
{
	begin(good_greeting, "*1\r\n_\r\n*1\r\n_\r\n", 14);
	world_await_up(1);
	assert_int_equal(read_names(&got, "rg:a", NULL, NULL), CACHE_DONE);
	world_await_down(1);
	assert_non_null(strstr(world.why, "to nothing"));
	world_await_up(2);
}

/* An answer that is none to a MGET: the read fails, the connection may stay. */
static void test_wrong_answers(void **state)
{
	static const char *const answers[] = {"+OK\r\n",     ":1\r\n",     "*2\r\n_\r\n_\r\n", "*0\r\n", "_\r\n",
					      "$1\r\nx\r\n", "-ERR x\r\n", "%0\r\n",           "*-1\r\n"};

	begin(good_greeting, answers[0], strlen(answers[0]));
	world_await_up(1);
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		fake.answer = answers[i];
		fake.answer_bytes = strlen(answers[i]);
		if (read_names(&got, "rg:a", NULL, NULL) != CACHE_FAILED)
			fail_msg("answer %zu was taken", i);
	}
	assert_int_equal(world.ups, 1);
}

static void test_wrong_values(void **state)
{
	static const char answer[] = "*3\r\n:1\r\n*1\r\n$1\r\nx\r\n%1\r\n+a\r\n+b\r\n";

	begin(good_greeting, answer, strlen(answer));
	world_await_up(1);
	assert_int_equal(read_names(&got, "rg:a", "rg:b", "rg:c"), CACHE_DONE);
	for (int i = 0; i < 3; i++)
		assert_true(got.bytes[i] == SIZE_MAX);
}

/* Pushes that are none: unknown ones are passed over, an invalidation of nothing in particular is one of everything. */
static void test_wrong_pushes(void **state)
{
	static const char answer[] =
		">0\r\n>1\r\n+x\r\n>2\r\n+message\r\n:1\r\n>1\r\n:1\r\n>1\r\n+invalidate\r\n"
		">2\r\n+invalidate\r\n:7\r\n>2\r\n+invalidate\r\n*2\r\n$4\r\nrg:x\r\n:9\r\n*1\r\n_\r\n";

	begin(good_greeting, answer, strlen(answer));
	world_await_up(1);
	assert_int_equal(read_names(&got, "rg:a", NULL, NULL), CACHE_DONE);
	assert_true(world_was_invalidated("rg:x"));
	assert_int_equal(world.everything, 3);
}

static bool is_tried_often(void)
{
	return atomic_load(&fake.connections) >= 3;
}

static void never_up(const char *greeting, const char *why)
{
	begin(greeting, NULL, 0);
	world_run(is_tried_often, "another try");
	if (!strstr(world.why, why))
		fail_msg("down because of: %s", world.why);
	assert_int_equal(world.ups, 0);
	assert_int_equal(read_names(&got, "rg:a", NULL, NULL), CACHE_FAILED);
}

static void test_old_server(void **state)
{
	/* It repeats the password, which the log does not. */
	never_up("-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `s3cret`\r\n", "Redis 6");
	assert_null(strstr(world.why, "s3cret"));
}

static void test_loading(void **state)
{
	char greeting[256];

	snprintf(greeting, sizeof(greeting), "%s+OK\r\n-LOADING Redis is loading the dataset in memory\r\n", hello);
	never_up(greeting, "LOADING");
}

static void test_no_tracking(void **state)
{
	char greeting[256];

	snprintf(greeting, sizeof(greeting), "%s-ERR unknown subcommand s3cret\r\n*1\r\n_\r\n", hello);
	never_up(greeting, "CLIENT TRACKING: ERR");
}

static void test_greeting_is_garbage(void **state)
{
	never_up("SSH-2.0-OpenSSH_9.2p1\r\n", "no answer");
}

static void test_greeting_is_wrong(void **state)
{
	never_up("+OK\r\n+OK\r\n+OK\r\n", "HELLO: not the answer");
}

/* --- a server that is asked for a Cluster's slots, and a Sentinel --- */

static uint16_t serve_tcp(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(in);

	close(fake.listener);
	fake.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fake.listener, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(fake.listener, 16), 0);
	assert_int_equal(getsockname(fake.listener, (struct sockaddr *)&in, &bytes), 0);
	fake.greeting = hello;
	assert_int_equal(pthread_create(&fake.thread, NULL, fake_run, NULL), 0);
	return ntohs(in.sin_port);
}

static void answer_with(const char *answer)
{
	fake.answer = answer;
	fake.answer_bytes = strlen(answer);
}

static void slots_refused(const char *const *answers, size_t count)
{
	char url[64];

	snprintf(url, sizeof(url), "cluster://127.0.0.1:%u", serve_tcp());
	for (size_t i = 0; i < count; i++) {
		answer_with(answers[i]);
		world.downs = 0;
		world_cache(url, 1000);
		world_await_down(1);
		if (!strstr(world.why, "makes no sense"))
			fail_msg("answer %zu: %s", i, world.why);
		assert_int_equal(read_names(&got, "rg:a", NULL, NULL), CACHE_FAILED);
		world_cache_free();
	}
	assert_int_equal(world.ups, 0);
}

static void test_wrong_slots(void **state)
{
#define HOST "*2\r\n$9\r\n127.0.0.1\r\n:1\r\n"
	static const char *const answers[] = {
		"*0\r\n",
		"+OK\r\n",
		"*1\r\n:1\r\n",
		"*1\r\n*2\r\n:0\r\n:1\r\n",
		"*1\r\n*3\r\n:0\r\n:1\r\n*0\r\n",
		"*1\r\n*3\r\n:-1\r\n:1\r\n" HOST,
		"*1\r\n*3\r\n:0\r\n:16384\r\n" HOST,
		"*1\r\n*3\r\n:2\r\n:1\r\n" HOST,
		"*1\r\n*3\r\n:0\r\n:9223372036854775807\r\n" HOST,
		"*1\r\n*3\r\n+0\r\n+1\r\n" HOST,
		"*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$9\r\n127.0.0.1\r\n:70000\r\n",
		"*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$9\r\n127.0.0.1\r\n:0\r\n",
		"*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$9\r\n127.0.0.1\r\n:-1\r\n",
		"*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$9\r\n127.0.\n.1\r\n:1\r\n",
		"*2\r\n*3\r\n:0\r\n:1\r\n" HOST "*1\r\n:1\r\n",
	};
#undef HOST

	slots_refused(answers, ARRAY_LEN(answers));
}

/* A thousand masters: more than there are connections for. */
static void test_too_many_masters(void **state)
{
	static char text[100000];
	size_t n = (size_t)snprintf(text, sizeof(text), "*1000\r\n");
	const char *answers[] = {text};

	for (int i = 0; i < 1000; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n,
				      "*3\r\n:%d\r\n:%d\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n", i, i, i + 1);
	slots_refused(answers, 1);
}

/* A Sentinel that names no place: nothing is connected to, and the Sentinel is asked again. */
static void test_wrong_master(void **state)
{
	static const char *const answers[] = {
		"*2\r\n$9\r\n127.0.0.1\r\n$1\r\n0\r\n",
		"*2\r\n$9\r\n127.0.0.1\r\n$5\r\n65536\r\n",
		"*2\r\n$0\r\n\r\n$1\r\n1\r\n",
		"*2\r\n$3\r\na b\r\n$1\r\n1\r\n",
		"*2\r\n:1\r\n:1\r\n",
	};
	char url[64];

	snprintf(url, sizeof(url), "sentinel://127.0.0.1:%u/main", serve_tcp());
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		answer_with(answers[i]);
		world_cache(url, 1000);
		world_pass(100);
		assert_string_equal(world_stats().server, "");
		world_cache_free();
	}
	assert_int_equal(world.ups, 0);
}

static bool is_scanned(void)
{
	return world.everything > 0;
}

/* SCAN's answers that make no sense: everything counts as changed. */
static void scan_is_refused(const char *answer)
{
	begin(good_greeting, answer, strlen(answer));
	world_await_up(1);
	cache_revisions(world.cache);
	world_run(is_scanned, "the end of a scan");
	assert_int_equal(world.revision_count, 0);
}

static void test_scan_cursor(void **state)
{
	scan_is_refused("*2\r\n$21\r\n000000000000000000000\r\n*0\r\n");
}

static void test_scan_shape(void **state)
{
	scan_is_refused("*2\r\n*0\r\n$1\r\n0\r\n");
}

/* A cursor that never comes back to 0. */
static void test_scan_without_end(void **state)
{
	scan_is_refused("*2\r\n$1\r\n7\r\n*1\r\n$8\r\nother:na\r\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_closes),
		TEST(test_garbage),
		TEST(test_large_array),
		TEST(test_nested),
		TEST(test_large_bulk),
		TEST(test_too_many_answers),
		TEST(test_wrong_answers),
		TEST(test_wrong_values),
		TEST(test_wrong_pushes),
		TEST(test_old_server),
		TEST(test_loading),
		TEST(test_no_tracking),
		TEST(test_greeting_is_garbage),
		TEST(test_greeting_is_wrong),
		TEST(test_wrong_slots),
		TEST(test_too_many_masters),
		TEST(test_wrong_master),
		TEST(test_scan_cursor),
		TEST(test_scan_shape),
		TEST(test_scan_without_end),
#undef TEST
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
