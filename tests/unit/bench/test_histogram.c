#include "bench/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct histogram h;

static void test_empty(void **state)
{
	memset(&h, 0, sizeof(h));
	assert_int_equal(histogram_at(&h, 0.99), 0);
	assert_true(histogram_mean(&h) == 0);
}

static void test_small_values_are_exact(void **state)
{
	memset(&h, 0, sizeof(h));
	for (uint64_t i = 1; i <= 100; i++)
		histogram_add(&h, i);
	assert_int_equal(histogram_at(&h, 0.5), 50);
	assert_int_equal(histogram_at(&h, 0.99), 99);
	assert_int_equal(histogram_at(&h, 1), 100);
	assert_int_equal(histogram_at(&h, 0), 1);
	assert_true(histogram_mean(&h) == 50.5);
}

/* Each value alone: what comes back is never less, and at most one part in 128 more. */
static void test_every_size(void **state)
{
	for (uint64_t v = 1; v < 1ull << 36; v = v * 9 / 8 + 1) {
		uint64_t got;

		memset(&h, 0, sizeof(h));
		histogram_add(&h, v);
		histogram_add(&h, 1ull << 37); /* so that max does not hide it */
		got = histogram_at(&h, 0.5);
		assert_true(got >= v);
		assert_true(got - v <= v / 128);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_small_values_are_exact),
		cmocka_unit_test(test_every_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
