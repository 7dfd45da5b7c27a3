#include "ssh/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_reads_fields_in_order(void **state)
{
	static const uint8_t packet[] = {7, 1, 0, 0, 1, 2, 0, 0, 0, 3, 'a', 'b', 'c'};
	struct wire w = {.p = packet, .n = sizeof(packet)};

	(void)state;
	assert_int_equal(wire_u8(&w), 7);
	assert_true(wire_bool(&w));
	assert_int_equal(wire_u32(&w), 258);
	assert_true(bytes_is(wire_string(&w), "abc"));
	assert_false(w.is_bad);
	assert_int_equal(w.n, 0);
}

/* Every cut of a string is bad, none reads past the end, and bad stays bad. */
static void test_cut_packets_are_bad(void **state)
{
	static const uint8_t packet[] = {0, 0, 0, 3, 'a', 'b', 'c'};

	(void)state;
	for (size_t n = 0; n < sizeof(packet); n++) {
		struct wire w = {.p = packet, .n = n};

		assert_int_equal(wire_string(&w).n, 0);
		assert_true(w.is_bad);
		assert_int_equal(wire_u8(&w), 0);
	}
}

static void test_lengths_beyond_the_packet(void **state)
{
	static const uint8_t packet[] = {0xff, 0xff, 0xff, 0xff, 'a'};
	struct wire w = {.p = packet, .n = sizeof(packet)};

	(void)state;
	assert_int_equal(wire_string(&w).n, 0);
	assert_true(w.is_bad);
}

static void test_written_fields_are_read_back(void **state)
{
	uint8_t buf[9];
	struct wire_writer out = {.p = buf};
	struct wire in = {.p = buf, .n = sizeof(buf)};

	(void)state;
	wire_put_u8(&out, 94);
	wire_put_u32(&out, 0x01020304);
	wire_put_u32(&out, 0xfffefdfc);
	assert_int_equal(out.p - buf, 9);
	assert_int_equal(wire_u8(&in), 94);
	assert_int_equal(wire_u32(&in), 0x01020304);
	assert_int_equal(wire_u32(&in), 0xfffefdfc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_fields_in_order),
		cmocka_unit_test(test_cut_packets_are_bad),
		cmocka_unit_test(test_lengths_beyond_the_packet),
		cmocka_unit_test(test_written_fields_are_read_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
