#include "gateway/config.h"
#include "gateway/directory.h"
#include "gateway/limits.h"
#include "gateway/server.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

static struct config c;
static const struct directory_ops no_ops; /* nobody logs in here */
static struct directory directory = {.ops = &no_ops};

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int open_count(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static int start_and_stop(void)
{
	struct server s = {.config = &c, .directory = &directory};
	char error[512] = "";
	int rc = server_start(&s, error);

	if (rc < 0)
		assert_true(strlen(error) > 0);
	server_stop(&s);
	return rc;
}

static int setup(void **state)
{
	config_defaults(&c);
	snprintf(c.listen[0], sizeof(c.listen[0]), "127.0.0.1:0");
	c.listen_count = 1;
	c.workers = c.handshake_threads = 2;
	/* Descriptor 0 must be somebody's: it is what a field that nobody set would name. */
	if (!is_open(STDIN_FILENO))
		return open("/dev/null", O_RDONLY) == STDIN_FILENO ? 0 : -1;
	return 0;
}

/* However far the start came, its end closes what it opened, and nothing else. */
static void test_too_few_descriptors(void **state)
{
	struct rlimit usual, low;
	int before = open_count(), failed = 0, rc = -1;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
	low = usual;
	for (low.rlim_cur = (rlim_t)dup(0); rc < 0 && failed < 100; low.rlim_cur++) {
		if (failed == 0)
			close((int)low.rlim_cur); /* the lowest that is free */
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
		rc = start_and_stop();
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
		failed += rc < 0;
		assert_true(is_open(STDIN_FILENO));
		assert_int_equal(open_count(), before);
	}
	assert_int_equal(rc, 0);
	assert_true(failed >= 6); /* four rings and two sockets at least */
}

#if !defined(__SANITIZE_ADDRESS__) && !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
static void test_no_memory(void **state)
{
	struct rlimit usual, none;
	struct server s = {.config = &c, .directory = &directory};
	char error[512] = "";
	void **block, **taken = NULL;
	int rc;

	c.workers = WORKERS_MAX;
	c.handshake_threads = HANDSHAKERS_MAX;
	assert_int_equal(getrlimit(RLIMIT_AS, &usual), 0);
	none = usual;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
	while ((block = malloc(4096))) { /* what earlier tests have left in the heap */
		*block = taken;
		taken = block;
	}
	rc = server_start(&s, error);
	server_stop(&s);
	while ((block = taken)) {
		taken = *block;
		free(block);
	}
	assert_int_equal(setrlimit(RLIMIT_AS, &usual), 0);
	assert_int_equal(rc, -ENOMEM);
	assert_string_equal(error, "out of memory");
}
#else
static void test_no_memory(void **state)
{
	skip(); /* a sanitizer does not live with a bound on its addresses */
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_too_few_descriptors, setup),
		cmocka_unit_test_setup(test_no_memory, setup),
	};

	return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
