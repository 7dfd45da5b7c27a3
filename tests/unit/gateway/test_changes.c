#include "gateway/changes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct changes changes;

static int setup(void **state)
{
	changes_init(&changes);
	return 0;
}

static int teardown(void **state)
{
	changes_deinit(&changes);
	return 0;
}

static void add(uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		struct subject s = {.kind = SUBJECT_SANDBOX};

		snprintf(s.sandbox, sizeof(s.sandbox), "sb-%u", i);
		changes_add(&changes, &s);
	}
}

static void expect(uint64_t *position, uint32_t from, uint32_t to)
{
	struct subject got[4];
	char name[SANDBOX_ID_MAX + 1];
	uint32_t n;

	while ((n = changes_read(&changes, position, got, 4)) > 0) {
		for (uint32_t i = 0; i < n; i++, from++) {
			snprintf(name, sizeof(name), "sb-%u", from);
			assert_int_equal(got[i].kind, SUBJECT_SANDBOX);
			assert_string_equal(got[i].sandbox, name);
		}
	}
	assert_int_equal(from, to);
	assert_int_equal(*position, changes_position(&changes));
}

static void test_each_reader_in_order(void **state)
{
	uint64_t early = changes_position(&changes), late;

	expect(&early, 0, 0);
	add(0, 10);
	late = changes_position(&changes);
	add(10, 13);
	expect(&late, 10, 13);
	expect(&early, 0, 13);
	add(13, 14);
	expect(&early, 13, 14);
}

static void test_as_many_as_are_kept(void **state)
{
	uint64_t position = changes_position(&changes);

	add(0, CHANGES_KEPT);
	expect(&position, 0, CHANGES_KEPT);
}

static void test_more_than_are_kept(void **state)
{
	uint64_t position = changes_position(&changes);
	struct subject got[4];

	add(0, CHANGES_KEPT + 1);
	assert_int_equal(changes_read(&changes, &position, got, 4), 1);
	assert_int_equal(got[0].kind, SUBJECT_ALL);
	expect(&position, 0, 0);
	add(500, 502);
	expect(&position, 500, 502);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_reader_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_as_many_as_are_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_more_than_are_kept, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
