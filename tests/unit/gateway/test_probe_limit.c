#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/address.h"
#include "gateway/probe_limit.h"

#include <sodium.h>
#include <string.h>

#define SECOND 1000000ull
#define START (1000 * SECOND)

static struct probe_limit limit;

/* Its wait, or -1 where it is refused. */
static int64_t take(const char *address, uint64_t now_us, uint64_t max_wait_us)
{
	struct sockaddr_storage from;
	socklen_t bytes;
	uint64_t wait;

	assert_int_equal(socket_address_parse(address, &from, &bytes), 0);
	if (!probe_limit_take(&limit, (struct sockaddr *)&from, now_us, max_wait_us, &wait))
		return -1;
	return (int64_t)wait;
}

static void test_address(void **state)
{
	probe_limit_init(&limit, 0, 10);
	for (int i = 0; i <= 10; i++)
		assert_int_equal(take("192.0.2.1:22", START, 60 * SECOND), 0);
	for (int i = 1; i <= 30; i++)
		assert_int_equal(take("192.0.2.1:4444", START, 60 * SECOND), i * SECOND / 10);
	assert_int_equal(take("192.0.2.2:22", START, 60 * SECOND), 0); /* a neighbour is not held up */
	assert_int_equal(take("192.0.2.1:22", START + 3 * SECOND, 60 * SECOND), SECOND / 10);
	assert_int_equal(take("192.0.2.1:22", START + 60 * SECOND, 60 * SECOND), 0);
	probe_limit_deinit(&limit);
}

static void test_prefix(void **state)
{
	char address[64];

	probe_limit_init(&limit, 0, 1);
	assert_int_equal(take("[2001:db8:1:2::1]:22", START, SECOND), 0);
	assert_int_equal(take("[2001:db8:1:2:ffff::1]:22", START, SECOND), 0);
	for (int i = 0; i < 4; i++) {
		snprintf(address, sizeof(address), "[2001:db8:1:2::%d]:22", i);
		assert_int_equal(take(address, START, 0), -1);
	}
	assert_int_equal(take("[2001:db8:1:3::1]:22", START, 0), 0);
	assert_int_equal(take("192.0.2.7:22", START, 0), 0);
	assert_int_equal(take("[::ffff:192.0.2.7]:22", START, 0), 0);
	assert_int_equal(take("192.0.2.7:22", START, 0), -1);
	probe_limit_deinit(&limit);
}

/* A refused one costs nobody anything. */
static void test_refused(void **state)
{
	probe_limit_init(&limit, 0, 2);
	for (int i = 0; i < 3; i++)
		assert_int_equal(take("192.0.2.1:22", START, 0), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(take("192.0.2.1:22", START, 0), -1);
	assert_int_equal(take("192.0.2.1:22", START + SECOND / 2, 0), 0);
	assert_int_equal(take("192.0.2.1:22", START + SECOND / 2, SECOND), SECOND / 2);
	probe_limit_deinit(&limit);
}

static void test_all(void **state)
{
	char address[64];
	uint32_t good = 0;

	probe_limit_init(&limit, 100, 0);
	for (int i = 0; i < 1000; i++) {
		snprintf(address, sizeof(address), "10.%d.%d.1:22", i / 250, i % 250);
		good += take(address, START, 0) == 0;
	}
	assert_int_equal(good, 101);
	assert_int_equal(take("192.0.2.1:22", START + 5 * SECOND, 0), 0);
	probe_limit_deinit(&limit);
}

static void test_none(void **state)
{
	probe_limit_init(&limit, 0, 0);
	for (int i = 0; i < 10000; i++)
		assert_int_equal(take("192.0.2.1:22", START, 0), 0);
	probe_limit_deinit(&limit);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_address), cmocka_unit_test(test_prefix), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_all),     cmocka_unit_test(test_none),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
