#include "core/ids.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static bool sandbox(const char *s)
{
	return sandbox_id_is_good(bytes_str(s));
}

static bool member(const char *s)
{
	return member_id_is_good(bytes_str(s));
}

static void test_sandbox(void **state)
{
	char longest[SANDBOX_ID_MAX + 2];

	memset(longest, 'a', sizeof(longest));
	longest[SANDBOX_ID_MAX] = 0;
	assert_true(sandbox(longest));
	longest[SANDBOX_ID_MAX] = 'a';
	longest[SANDBOX_ID_MAX + 1] = 0;
	assert_false(sandbox(longest));
	assert_true(sandbox("a"));
	assert_true(sandbox("rs-1--x"));
	assert_false(sandbox(""));
	assert_false(sandbox("-a"));
	assert_false(sandbox("a-"));
	assert_false(sandbox("A"));
	assert_false(sandbox("a_b"));
	assert_false(sandbox("a/b"));
	assert_false(sandbox_id_is_good(bytes_of("a\0b", 3)));
}

static void test_member(void **state)
{
	assert_true(member("T_1-x"));
	assert_false(member(""));
	assert_false(member("a:b"));
	assert_false(member("a=b"));
	assert_false(member("a.b"));
	assert_false(member_id_is_good(bytes_of("a\0", 2)));
}

static void test_fingerprint(void **state)
{
	const char *good = "SHA256:0123456789012345678901234567890123456789+/A";

	assert_true(fingerprint_is_good(bytes_str(good)));
	assert_false(fingerprint_is_good(bytes_of(good, FINGERPRINT_CHARS - 1)));
	assert_false(fingerprint_is_good(bytes_str("SHA512:0123456789012345678901234567890123456789+/A")));
	assert_false(fingerprint_is_good(bytes_str("SHA256:0123456789012345678901234567890123456789+=A")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sandbox),
		cmocka_unit_test(test_member),
		cmocka_unit_test(test_fingerprint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
