/* tests/unit/core/test_whole_file.c - a file is there whole, or not at all. */
#include "core/whole_file.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64], path[128], part[160];

static int setup(void **state)
{
	strcpy(dir, "/tmp/test-whole-file-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/file", dir);
	snprintf(part, sizeof(part), "%s.part", path);
	return 0;
}

static int teardown(void **state)
{
	(void)unlink(path);
	(void)rmdir(path);
	(void)unlink(part);
	return rmdir(dir);
}

static void write_text(const char *text)
{
	struct whole_file w;

	assert_int_equal(whole_file_start(&w, path), 0);
	fputs(text, w.stream);
	assert_int_equal(whole_file_finish(&w), 0);
}

static void assert_content(const char *text)
{
	char buf[64] = {0};
	FILE *f = fopen(path, "r");

	assert_non_null(f);
	(void)!fread(buf, 1, sizeof(buf) - 1, f);
	fclose(f);
	assert_string_equal(buf, text);
	assert_int_equal(access(part, F_OK), -1);
}

static void test_replaces(void **state)
{
	struct whole_file w;

	write_text("first\n");
	assert_content("first\n");
	assert_int_equal(whole_file_start(&w, path), 0);
	fputs("second, and longer\n", w.stream);
	fflush(w.stream);
	assert_int_equal(access(part, F_OK), 0);
	assert_int_equal(whole_file_finish(&w), 0);
	assert_content("second, and longer\n");
}

static void test_old_stays_when_the_disk_is_full(void **state)
{
	struct whole_file w;

	write_text("first\n");
	assert_int_equal(symlink("/dev/full", part), 0);
	assert_int_equal(whole_file_start(&w, path), 0);
	fputs("second\n", w.stream);
	assert_int_equal(whole_file_finish(&w), -ENOSPC);
	assert_content("first\n");
	/* The same when it was noticed before the end. */
	assert_int_equal(symlink("/dev/full", part), 0);
	assert_int_equal(whole_file_start(&w, path), 0);
	fputs("second\n", w.stream);
	assert_int_equal(fflush(w.stream), EOF);
	assert_true(whole_file_finish(&w) < 0);
	assert_content("first\n");
}

static void test_errors(void **state)
{
	static char longest[PATH_MAX + 10];
	struct whole_file w;

	memset(longest, 'a', PATH_MAX - 3);
	assert_int_equal(whole_file_start(&w, longest), -ENAMETOOLONG);
	memset(longest, 'a', sizeof(longest) - 1);
	assert_int_equal(whole_file_start(&w, longest), -ENAMETOOLONG);
	assert_int_equal(whole_file_start(&w, "/nowhere/at/all"), -ENOENT);
	/* A folder stands there. */
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(whole_file_start(&w, path), 0);
	assert_int_equal(whole_file_finish(&w), -EISDIR);
	assert_int_equal(access(part, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_replaces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_old_stays_when_the_disk_is_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
