/*
 * tests/unit/ring/test_probe.c - where io_uring is missing or forbidden, ring_new says so. A seccomp filter plays the container.
 */
#include "fixture.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* In a child in which io_uring_setup fails with `forbidden`: does ring_new say `expected`? */
static void check_forbidden(int forbidden, int expected)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)forbidden),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = ARRAY_LEN(code), .filter = code};
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct ring *untouched = (struct ring *)1, *r = untouched;

		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
			_exit(2);
		_exit(ring_new(NULL, &r) == expected && r == untouched ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 2) {
		print_message("no seccomp here: cannot play a container\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_forbidden(void **state)
{
	check_forbidden(EPERM, -EPERM);
}

static void test_missing(void **state)
{
	check_forbidden(ENOSYS, -ENOSYS);
}

/* What a kernel before 6.1 says to the flags. */
static void test_too_old(void **state)
{
	check_forbidden(EINVAL, -EOPNOTSUPP);
}

static void test_explain(void **state)
{
	assert_non_null(strstr(ring_explain(-EPERM), "deploy/seccomp-io-uring.json"));
	assert_non_null(strstr(ring_explain(-EPERM), "kernel.io_uring_disabled"));
	assert_non_null(strstr(ring_explain(-ENOSYS), "deploy/seccomp-io-uring.json"));
	assert_non_null(strstr(ring_explain(-ENOSYS), "6.1"));
	assert_non_null(strstr(ring_explain(-EOPNOTSUPP), "6.1"));
	assert_non_null(strstr(ring_explain(-EMFILE), "open files"));
	assert_non_null(ring_explain(-EIO));
}

/* A ring that never ran is freed whole. */
static void test_new_and_free(void **state)
{
	for (int i = 0; i < 100; i++) {
		struct ring *r;

		assert_int_equal(ring_new(NULL, &r), 0);
		ring_free(r);
	}
	ring_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forbidden), cmocka_unit_test(test_missing),      cmocka_unit_test(test_too_old),
		cmocka_unit_test(test_explain),   cmocka_unit_test(test_new_and_free),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
