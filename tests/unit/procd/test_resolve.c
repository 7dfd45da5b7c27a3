/*
 * tests/unit/procd/test_resolve.c - who is asked for a name. getaddrinfo is the test's own, and answers nothing: at once, or for
 * names below "slow" once the gate is open.
 */
#include "procd/resolve.h"

#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS 10000

static atomic_int asked;
static int notify_fd;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **ret)
{
	(void)service;
	(void)hints;
	(void)ret;
	atomic_fetch_add(&asked, 1);
	if (strcmp(host, "slow") == 0) {
		pthread_mutex_lock(&gate);
		pthread_mutex_unlock(&gate);
	}
	return EAI_AGAIN;
}

/* getaddrinfo's error for a name, whatever others end meanwhile. */
static int wanted_error_of(const char *host)
{
	struct pollfd p = {.fd = notify_fd, .events = POLLIN};
	struct resolve_job *job;
	uint64_t done;
	int owner, error;

	assert_non_null(resolve_start(host, 22, &owner));
	do {
		assert_int_equal(poll(&p, 1, WAIT_MS), 1);
		assert_int_equal(read(notify_fd, &done, sizeof(done)), sizeof(done));
		job = resolve_take();
	} while (!job);
	assert_ptr_equal(job->owner, &owner);
	assert_int_equal(job->count, 0);
	error = job->error;
	free(job);
	return error;
}

/* *ret_asked: how often getaddrinfo was called for it. */
static int error_of(const char *host, int *ret_asked)
{
	int error;

	atomic_store(&asked, 0);
	error = wanted_error_of(host);
	*ret_asked = atomic_load(&asked);
	return error;
}

static void test_invalid_is_not_asked_for(void **state)
{
	static const char *const names[] = {"name.invalid", "a.b.INVALID.", ".invalid"};
	int count;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_int_equal(error_of(names[i], &count), EAI_NONAME);
		assert_int_equal(count, 0);
	}
}

static void test_others_are(void **state)
{
	static const char *const names[] = {"invalid.example", "name.invalidated", "notinvalid", "x"};
	int count;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_int_equal(error_of(names[i], &count), EAI_AGAIN);
		assert_int_equal(count, 1);
	}
}

/* Names that nobody waits for any more hold up nobody: only what the threads were at is ended. */
static void test_cancelled_ones_are_not_asked_for(void **state)
{
	struct resolve_job *slow[RESOLVERS_MAX + 100];
	int owner;

	(void)state;
	atomic_store(&asked, 0);
	pthread_mutex_lock(&gate);
	for (size_t i = 0; i < ARRAY_LEN(slow); i++) {
		slow[i] = resolve_start("slow", 22, &owner);
		assert_non_null(slow[i]);
	}
	while (atomic_load(&asked) < RESOLVERS_MAX)
		(void)usleep(1000);
	for (size_t i = 0; i < ARRAY_LEN(slow); i++)
		resolve_cancel(slow[i]);
	pthread_mutex_unlock(&gate);
	assert_int_equal(wanted_error_of("x"), EAI_AGAIN);
	assert_int_equal(atomic_load(&asked), RESOLVERS_MAX + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_invalid_is_not_asked_for),
		cmocka_unit_test(test_others_are),
		cmocka_unit_test(test_cancelled_ones_are_not_asked_for),
	};

	notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (notify_fd < 0)
		return 1;
	resolve_init(notify_fd);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
