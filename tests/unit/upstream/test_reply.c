/*
 * tests/unit/upstream/test_reply.c - hiredis' reader with our limits: whole replies however they are cut, and what is refused.
 */
#include "upstream/redis/limits.h"
#include "upstream/redis/reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>

/* Reads all in steps of `step` bytes, each from memory of its own. The number of replies, or the error. */
static int run(const char *bytes, size_t n, size_t step)
{
	struct reply_reader r;
	int rc, count = 0;

	assert_int_equal(reply_reader_init(&r), 0);
	rc = 0;
	for (size_t at = 0; at < n && rc == 0;) {
		size_t take = n - at < step ? n - at : step;
		uint8_t *copy = malloc(take);
		redisReply *reply;

		memcpy(copy, bytes + at, take);
		rc = reply_feed(&r, copy, take);
		free(copy);
		while (rc == 0 && (rc = reply_next(&r, &reply)) == 1) {
			freeReplyObject(reply);
			count++;
			rc = 0;
		}
		at += take;
	}
	reply_reader_deinit(&r);
	return rc < 0 ? rc : count;
}

static int run_text(const char *text, size_t step)
{
	return run(text, strlen(text), step);
}

static void test_cuts(void **state)
{
	static const char text[] =
		"+OK\r\n$5\r\nhello\r\n*2\r\n$1\r\na\r\n_\r\n%1\r\n+k\r\n:1\r\n>2\r\n+invalidate\r\n*1\r\n$"
		"1\r\nx\r\n-ERR no\r\n~1\r\n#t\r\n";

	for (size_t step = 1; step <= sizeof(text); step++)
		assert_int_equal(run_text(text, step), 7);
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"x",
		"HTTP/1.1 400 Bad Request\r\n",
		"$-2\r\n",
		"$x\r\n",
		"*-2\r\n",
		"*65537\r\n",
		"*4294967295\r\n",
		":a\r\n",
		"%40000\r\n",
		"$99999999999999999999\r\n",
		"#x\r\n",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (run_text(bad[i], 1000) != -EPROTO)
			fail_msg("taken: %s", bad[i]);
}

static void test_depth(void **state)
{
	char text[64] = "";

	for (int i = 0; i < REPLY_DEPTH_MAX; i++)
		strcat(text, "*1\r\n");
	assert_int_equal(run_text(text, 7), 0);
	strcat(text, ":1\r\n");
	assert_int_equal(run_text(text, 7), 1);
	memcpy(text + 4 * REPLY_DEPTH_MAX, "*1\r\n:1\r\n", 9);
	assert_int_equal(run_text(text, 1000), -EPROTO);
}

/* Far deeper than any stack would bear. */
static void test_depth_bomb(void **state)
{
	size_t n = 4 * 60000;
	char *text = malloc(n);

	for (size_t i = 0; i < n; i += 4)
		memcpy(text + i, "*1\r\n", 4);
	assert_int_equal(run(text, n, n), -EPROTO);
	free(text);
}

static void test_size(void **state)
{
	size_t n = REPLY_BYTES_MAX + 64 * 1024;
	char *text = malloc(n);
	int head = snprintf(text, n, "$%d\r\n", 100 * 1000 * 1000);

	memset(text + head, 'x', n - (size_t)head);
	assert_int_equal(run(text, n, 4096), -EMSGSIZE);
	/* As many bytes of small replies are no matter. */
	for (size_t i = 0; i + 4 <= n; i += 4)
		memcpy(text + i, ":1\r\n", 4);
	assert_int_equal(run(text, n, 64 * 1024), n / 4);
	/* Nor is one reply after the other that is just within the limit. */
	head = snprintf(text, n, "$%d\r\n", REPLY_BYTES_MAX - 100);
	memcpy(text + head + REPLY_BYTES_MAX - 100, "\r\n", 2);
	assert_int_equal(run(text, (size_t)head + REPLY_BYTES_MAX - 98, 65536), 1);
	free(text);
}

/* Of many elements: their bytes count together. */
static void test_size_of_many(void **state)
{
	size_t n = 0;
	char *text = malloc(2 * REPLY_BYTES_MAX);

	n += (size_t)snprintf(text, 32, "*%d\r\n", 1000);
	while (n < REPLY_BYTES_MAX + 70000)
		n += (size_t)snprintf(text + n, 2000, "$1000\r\n%01000d\r\n", 0);
	assert_int_equal(run(text, n, 65536), -EMSGSIZE);
	free(text);
}

static redisReply *one(struct reply_reader *r, const char *text)
{
	redisReply *reply;

	assert_int_equal(reply_reader_init(r), 0);
	assert_int_equal(reply_feed(r, (const uint8_t *)text, strlen(text)), 0);
	assert_int_equal(reply_next(r, &reply), 1);
	reply_reader_deinit(r);
	return reply;
}

static void test_questions(void **state)
{
	struct reply_reader r;
	char code[REPLY_CODE_MAX];
	redisReply *a = one(&r, "-WRONGPASS invalid for user s3cret\r\n");

	assert_true(reply_is_error(a, "WRONGPASS"));
	assert_false(reply_is_error(a, "WRONG"));
	assert_string_equal(reply_code(a, code), "WRONGPASS");
	freeReplyObject(a);
	a = one(&r, "-s3cret is not known\r\n");
	assert_string_equal(reply_code(a, code), "an error");
	freeReplyObject(a);
	a = one(&r, "-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA x\r\n");
	assert_string_equal(reply_code(a, code), "an error");
	freeReplyObject(a);
	a = one(&r, "%2\r\n+role\r\n$6\r\nmaster\r\n:1\r\n_\r\n");
	assert_true(bytes_is(reply_bytes(reply_map_get(a, "role")), "master"));
	assert_null(reply_map_get(a, "mode"));
	assert_null(reply_bytes(a).p);
	assert_false(reply_is_array(a, 4));
	freeReplyObject(a);
	a = one(&r, "*3\r\n+role\r\n:5\r\n+odd\r\n");
	assert_true(reply_is_array(a, 3));
	assert_null(reply_bytes(reply_map_get(a, "role")).p);
	assert_null(reply_map_get(a, "odd"));
	freeReplyObject(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cuts),       cmocka_unit_test(test_refused), cmocka_unit_test(test_depth),
		cmocka_unit_test(test_depth_bomb), cmocka_unit_test(test_size),    cmocka_unit_test(test_size_of_many),
		cmocka_unit_test(test_questions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
