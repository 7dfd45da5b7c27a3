/*
 * tests/unit/procd/test_resolve.c - who is asked for a name. getaddrinfo is the test's own, and answers nothing.
 */
#include "procd/resolve.h"

#include <netdb.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS 10000

static atomic_int asked;
static int notify_fd;

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **ret)
{
	(void)host;
	(void)service;
	(void)hints;
	(void)ret;
	atomic_fetch_add(&asked, 1);
	return EAI_AGAIN;
}

/* getaddrinfo's error for a name; *ret_asked: how often it was called. */
static int error_of(const char *host, int *ret_asked)
{
	struct pollfd p = {.fd = notify_fd, .events = POLLIN};
	struct resolve_job *job;
	uint64_t done;
	int owner, error;

	atomic_store(&asked, 0);
	assert_non_null(resolve_start(host, 22, &owner));
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_int_equal(read(notify_fd, &done, sizeof(done)), sizeof(done));
	job = resolve_take();
	assert_non_null(job);
	assert_ptr_equal(job->owner, &owner);
	assert_int_equal(job->count, 0);
	error = job->error;
	free(job);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_invalid_is_not_asked_for),
		cmocka_unit_test(test_others_are),
	};

	notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (notify_fd < 0)
		return 1;
	resolve_init(notify_fd);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
