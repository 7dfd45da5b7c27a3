#include "tests/unit/control/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sodium.h>

void scratch_init(struct scratch *x)
{
	char error[STORE_ERROR_BYTES];

	memset(x, 0, sizeof(*x));
	assert_true(sodium_init() >= 0);
	strcpy(x->folder, "/tmp/ringgate-unit-XXXXXX");
	assert_non_null(mkdtemp(x->folder));
	snprintf(x->path, sizeof(x->path), "%s/c.db", x->folder);
	if (store_pool_new(x->path, &x->pool, error) < 0)
		fail_msg("%s", error);
	x->s = store_take(x->pool);
	assert_non_null(x->s);
}

void scratch_deinit(struct scratch *x)
{
	static const char *const suffixes[] = {"", "-wal", "-shm"};
	char path[128];

	store_give(x->pool, x->s);
	store_pool_free(x->pool);
	for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
		snprintf(path, sizeof(path), "%s%s", x->path, suffixes[i]);
		(void)unlink(path);
	}
	assert_int_equal(rmdir(x->folder), 0);
}
