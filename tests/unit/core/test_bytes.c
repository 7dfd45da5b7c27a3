#include "core/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* Every byte and none beside them, whatever the size is next to the pieces'. */
static void test_copies_of_any_size(void **state)
{
	static const size_t sizes[] = {
		0, 1, BYTES_COPY_PIECE - 1, BYTES_COPY_PIECE, BYTES_COPY_PIECE + 1, 2 * BYTES_COPY_PIECE, 32780,
	};
	enum { ROOM = 40000 };
	uint8_t *from = malloc(ROOM), *to = malloc(ROOM);

	(void)state;
	for (size_t i = 0; i < ROOM; i++)
		from[i] = (uint8_t)(1 + i % 251);
	for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		size_t n = sizes[k];

		memset(to, 0, ROOM);
		bytes_copy(to + 23, from + 10, n);
		for (size_t i = 0; i < ROOM; i++)
			assert_int_equal(to[i], i >= 23 && i < 23 + n ? from[10 + i - 23] : 0);
	}
	free(from);
	free(to);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copies_of_any_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
