/*
 * tests/unit/ring/test_resolve.c - names to addresses: what needs no thread, what does, cancelling, rings that go.
 *
 * getaddrinfo is this file's own: it answers by name, counts, and can be held back.
 */
#include "fixture.h"

#include "core/address.h"
#include "ring/resolve.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool is_held;
	int inside, calls;
} names = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void names_hold(bool is_held)
{
	pthread_mutex_lock(&names.lock);
	names.is_held = is_held;
	pthread_cond_broadcast(&names.changed);
	pthread_mutex_unlock(&names.lock);
}

/* Until n threads are being held. */
static void names_await(int n)
{
	pthread_mutex_lock(&names.lock);
	while (names.inside < n)
		pthread_cond_wait(&names.changed, &names.lock);
	pthread_mutex_unlock(&names.lock);
}

static int names_calls(void)
{
	int n;

	pthread_mutex_lock(&names.lock);
	n = names.calls;
	names.calls = 0;
	pthread_mutex_unlock(&names.lock);
	return n;
}

/* A list as freeaddrinfo takes it: made by the real one. */
static int numeric(const char *number, struct addrinfo **ret)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};

	*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	assert_non_null(real);
	return real(number, NULL, &hints, ret);
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **ret)
{
	if (hints->ai_flags & AI_NUMERICHOST)
		return numeric(host, ret);
	pthread_mutex_lock(&names.lock);
	names.calls++;
	names.inside++;
	pthread_cond_broadcast(&names.changed);
	while (names.is_held)
		pthread_cond_wait(&names.changed, &names.lock);
	names.inside--;
	pthread_mutex_unlock(&names.lock);
	if (strncmp(host, "good", 4) == 0)
		return numeric("192.0.2.7", ret);
	if (strncmp(host, "six", 3) == 0)
		return numeric("2001:db8::1", ret);
	return strncmp(host, "later", 5) == 0 ? EAI_AGAIN : EAI_NONAME;
}

#define ASKED_MAX (RESOLVE_QUEUE_MAX + 64)

static struct {
	struct loop loop;
	struct resolve q[ASKED_MAX];
	uint32_t done, want;
} t;

static void on_done(struct resolve *q)
{
	assert_false(resolve_is_started(q));
	assert_true((q->err == 0) == (q->count > 0));
	t.done++;
	if (t.done == t.want)
		ring_stop(t.loop.ring);
}

static void start(uint32_t i, const char *host)
{
	char copy[512];

	snprintf(copy, sizeof(copy), "%s", host);
	resolve_init(&t.q[i]);
	resolve_start(&t.q[i], t.loop.ring, copy, 7000, on_done);
	memset(copy, 'x', sizeof(copy));
	assert_true(resolve_is_started(&t.q[i]));
}

static void run_until(uint32_t want)
{
	uint32_t before = t.done;

	t.want = want;
	/* Nothing is answered inside resolve_start. */
	assert_int_equal(before, 0);
	loop_run(&t.loop);
	assert_int_equal(t.done, want);
	t.done = 0;
}

static void assert_address(uint32_t i, const char *want)
{
	char text[SOCKET_TEXT_MAX];

	assert_int_equal(t.q[i].err, 0);
	assert_string_equal(
		socket_address_text(&t.q[i].addresses[0].any, t.q[i].addresses[0].bytes, text, sizeof(text)), want);
}

static int setup(void **state)
{
	memset(&t, 0, sizeof(t));
	loop_init(&t.loop, NULL);
	(void)names_calls();
	return 0;
}

static int teardown(void **state)
{
	names_hold(false);
	loop_deinit(&t.loop);
	return 0;
}

static void test_needs_nobody(void **state)
{
	start(0, "127.0.0.9");
	start(1, "::1");
	start(2, "LocalHost");
	start(3, "");
	run_until(4);
	assert_address(0, "127.0.0.9:7000");
	assert_address(1, "[::1]:7000");
	assert_address(2, "127.0.0.1:7000");
	assert_int_equal(t.q[2].count, 2);
	assert_int_equal(t.q[3].err, -EINVAL);
	assert_int_equal(names_calls(), 0);
}

static void test_names(void **state)
{
	char longer[RESOLVE_HOST_MAX + 2];

	memset(longer, 'g', sizeof(longer));
	longer[sizeof(longer) - 1] = 0;
	start(0, "good.names.example");
	start(1, "six.names.example");
	start(2, "none.names.example");
	start(3, "later.names.example");
	start(4, longer);
	run_until(5);
	assert_address(0, "192.0.2.7:7000");
	assert_address(1, "[2001:db8::1]:7000");
	assert_int_equal(t.q[2].err, -ENOENT);
	assert_int_equal(t.q[3].err, -EAGAIN);
	assert_int_equal(t.q[4].err, -EINVAL);
	assert_int_equal(names_calls(), 4);
}

static void test_cache(void **state)
{
	start(0, "good.cache.example");
	start(1, "none.cache.example");
	run_until(2);
	assert_int_equal(names_calls(), 2);
	start(0, "GOOD.cache.example");
	start(1, "none.cache.example");
	run_until(2);
	assert_address(0, "192.0.2.7:7000");
	assert_int_equal(t.q[1].err, -ENOENT);
	assert_int_equal(names_calls(), 0);
	/* What failed is forgotten sooner. */
	(void)usleep((RESOLVE_CACHE_FAILED_MS + 20) * 1000);
	start(0, "good.cache.example");
	start(1, "none.cache.example");
	run_until(2);
	assert_int_equal(names_calls(), 1);
}

/* A hundred askers for one name: as many look-ups as there are threads, at most. */
static void test_one_name_many_askers(void **state)
{
	names_hold(true);
	for (uint32_t i = 0; i < 100; i++)
		start(i, "good.many.example");
	names_await(RESOLVE_THREADS_MAX);
	names_hold(false);
	run_until(100);
	assert_int_equal(names_calls(), RESOLVE_THREADS_MAX);
}

static void test_full_queue(void **state)
{
	char host[64];
	uint32_t busy = 0;

	names_hold(true);
	for (uint32_t i = 0; i < RESOLVE_THREADS_MAX; i++) {
		snprintf(host, sizeof(host), "good%u.first.example", i);
		start(i, host);
	}
	names_await(RESOLVE_THREADS_MAX);
	for (uint32_t i = RESOLVE_THREADS_MAX; i < ASKED_MAX; i++) {
		snprintf(host, sizeof(host), "good%u.full.example", i);
		start(i, host);
	}
	names_hold(false);
	run_until(ASKED_MAX);
	for (uint32_t i = 0; i < ASKED_MAX; i++)
		busy += t.q[i].err == -EBUSY;
	assert_int_equal(busy, ASKED_MAX - RESOLVE_THREADS_MAX - RESOLVE_QUEUE_MAX);
}

/* In the queue, at a thread, answered but not yet told: no callback in any of these. */
static void test_cancel(void **state)
{
	char host[64];

	names_hold(true);
	for (uint32_t i = 0; i < 2 * RESOLVE_THREADS_MAX; i++) {
		snprintf(host, sizeof(host), "good%u.cancel.example", i);
		start(i, host);
	}
	names_await(RESOLVE_THREADS_MAX);
	start(100, "127.0.0.1");
	resolve_cancel(&t.q[100]);
	assert_false(resolve_is_started(&t.q[100]));
	for (uint32_t i = 0; i < 2 * RESOLVE_THREADS_MAX; i++)
		resolve_cancel(&t.q[i]);
	/* Its memory may go at once. */
	memset(t.q, 0xff, 50 * sizeof(t.q[0]));
	names_hold(false);
	start(101, "good.after.example");
	run_until(1);
	/* The waiting ones were never asked for. */
	assert_int_equal(names_calls(), RESOLVE_THREADS_MAX + 1);
	resolve_cancel(&t.q[101]);
}

static void test_deadline(void **state)
{
	names_hold(true);
	start(0, "good.deadline.example");
	run_until(1);
	assert_int_equal(t.q[0].err, -ETIMEDOUT);
	names_hold(false);
}

/* The ring goes while one is asked for, others wait, others are answered. */
static void test_ring_goes(void **state)
{
	char host[64];

	start(50, "good.posted.example");
	while (names_calls() == 0)
		(void)usleep(1000);
	names_hold(true);
	for (uint32_t i = 0; i < 2 * RESOLVE_THREADS_MAX; i++) {
		snprintf(host, sizeof(host), "good%u.gone.example", i);
		start(i, host);
	}
	names_await(RESOLVE_THREADS_MAX);
	loop_deinit(&t.loop);
	names_hold(false);
	loop_init(&t.loop, NULL);
	start(51, "good.anew.example");
	run_until(1);
	assert_address(51, "192.0.2.7:7000");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_needs_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cache, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_name_many_askers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_queue, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ring_goes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
