/* tests/unit/core/test_thread.c - threads without signals. */
#include "core/thread.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct seen {
	sigset_t blocked;
	size_t stack_bytes;
};

static void *look(void *arg)
{
	struct seen *s = arg;
	pthread_attr_t attr;

	pthread_sigmask(SIG_BLOCK, NULL, &s->blocked);
	if (pthread_getattr_np(pthread_self(), &attr) == 0) {
		pthread_attr_getstacksize(&attr, &s->stack_bytes);
		pthread_attr_destroy(&attr);
	}
	return s;
}

static void test_signals_and_stack(void **state)
{
	struct seen s = {0};
	sigset_t own;
	pthread_t thread;
	void *result;

	assert_int_equal(thread_start(&thread, 512 * 1024, look, &s), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_ptr_equal(result, &s);
	assert_true(sigismember(&s.blocked, SIGTERM) && sigismember(&s.blocked, SIGCHLD));
	assert_int_equal(s.stack_bytes, 512 * 1024);
	/* Ours are as before. */
	pthread_sigmask(SIG_BLOCK, NULL, &own);
	assert_false(sigismember(&own, SIGTERM));
}

static void test_error(void **state)
{
	pthread_t thread = pthread_self();

	assert_int_equal(thread_start(&thread, 1, look, NULL), -EINVAL); /* no such small stacks */
	assert_true(pthread_equal(thread, pthread_self()));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signals_and_stack),
		cmocka_unit_test(test_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
