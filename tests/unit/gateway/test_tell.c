#include "gateway/link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_words_steer_no_terminal(void **state)
{
	static const struct {
		const char *from, *plain;
	} cases[] = {
		{"no room", "no room"},
		{"caf\xc3\xa9 \xe2\x80\xa6 \xf0\x9f\x98\x80", "caf\xc3\xa9 \xe2\x80\xa6 \xf0\x9f\x98\x80"},
		{"a\033[2Jb\r\nc\x7f", "a?[2Jb??c?"},
		/* The same in one character, in UTF-8 and in eight bits. */
		{"a\xc2\x9b"
		 "2Jb",
		 "a?2Jb"},
		{"a\x9b"
		 "2Jb",
		 "a?2Jb"},
		{"a\xc2\x80z\xc2\x9fz\xc2\xa0", "a?z?z\xc2\xa0"},
		/* Cut short, too long a form, a surrogate. */
		{"a\xc3", "a?"},
		{"\xc0\x9b", "??"},
		{"\xed\xa0\x80", "???"},
		{"", ""},
	};
	char text[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		tell_copy_plain(bytes_str(cases[i].from), text, sizeof(text));
		assert_string_equal(text, cases[i].plain);
	}
}

/* No character in two. */
static void test_words_are_cut_between_characters(void **state)
{
	char text[5];

	(void)state;
	tell_copy_plain(bytes_str("abc\xc3\xa9"), text, sizeof(text));
	assert_string_equal(text, "abc");
	tell_copy_plain(bytes_str("abcde"), text, sizeof(text));
	assert_string_equal(text, "abcd");
	tell_copy_plain(bytes_str("ab\xc3\xa9z"), text, sizeof(text));
	assert_string_equal(text, "ab\xc3\xa9");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words_steer_no_terminal),
		cmocka_unit_test(test_words_are_cut_between_characters),
	};

	return cmocka_run_group_tests_name("tell", tests, NULL, NULL);
}
