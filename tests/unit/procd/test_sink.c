/*
 * tests/unit/procd/test_sink.c - input to a descriptor that takes it slowly, or not at all.
 */
#include "procd/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void pipe_open(int fds[2])
{
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	assert_true(fcntl(fds[1], F_SETPIPE_SZ, 4096) >= 4096);
}

/* Random pieces in, random reads out: the same bytes in the same order, and every byte reported as written once. */
static void test_same_bytes(void **state)
{
	enum { TOTAL = 400000 };
	static uint8_t in[TOTAL], out[TOTAL];
	unsigned seed = 7;
	size_t put = 0, got = 0, written = 0;
	struct sink s;
	int fds[2];

	for (size_t i = 0; i < TOTAL; i++)
		in[i] = (uint8_t)rand_r(&seed);
	pipe_open(fds);
	sink_init(&s, fds[1]);
	while (got < TOTAL) {
		ssize_t n;

		for (int i = rand_r(&seed) % 40; i > 0 && put < TOTAL && sink_waiting(&s) < 100000; i--) {
			size_t size = 1 + (size_t)rand_r(&seed) % 3000;

			if (size > TOTAL - put)
				size = TOTAL - put;
			assert_int_equal(sink_put(&s, bytes_of(in + put, size)), 0);
			put += size;
		}
		n = sink_flush(&s);
		assert_true(n >= 0);
		written += (size_t)n;
		assert_int_equal(written + sink_waiting(&s), put);
		n = read(fds[0], out + got, 1 + (size_t)rand_r(&seed) % 5000);
		if (n > 0)
			got += (size_t)n;
		s.is_writable = true;
	}
	assert_int_equal(written, TOTAL);
	assert_int_equal(sink_waiting(&s), 0);
	assert_memory_equal(in, out, TOTAL);
	sink_deinit(&s);
	close(fds[0]);
	close(fds[1]);
}

static void test_waits_for_an_event(void **state)
{
	static uint8_t blob[10000];
	struct sink s;
	int fds[2];

	pipe_open(fds);
	sink_init(&s, fds[1]);
	assert_int_equal(sink_put(&s, bytes_of(blob, sizeof(blob))), 0);
	assert_int_equal(sink_flush(&s), 4096);
	assert_false(s.is_writable);
	assert_int_equal(sink_waiting(&s), sizeof(blob) - 4096);
	assert_int_equal(read(fds[0], blob, 4096), 4096);
	/* Room again, but nobody said so. */
	assert_int_equal(sink_flush(&s), 0);
	s.is_writable = true;
	assert_int_equal(sink_flush(&s), 4096);
	sink_deinit(&s);
	close(fds[0]);
	close(fds[1]);
}

static void test_nobody_reads(void **state)
{
	struct sink s;
	int fds[2];

	pipe_open(fds);
	sink_init(&s, fds[1]);
	close(fds[0]);
	assert_int_equal(sink_put(&s, bytes_str("x")), 0);
	assert_int_equal(sink_flush(&s), -EPIPE);
	sink_deinit(&s);
	assert_int_equal(sink_waiting(&s), 0);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_bytes),
		cmocka_unit_test(test_waits_for_an_event),
		cmocka_unit_test(test_nobody_reads),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
