/*
 * tests/unit/upstream/control/test_answer_policy.c - policies in the answer to ssh-target: passed on as they are, and bounded.
 */
#include "upstream/control/answer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct grant grant = {.team = "t-1", .user = "u-1"};

/* `more` stands among the members of data. */
static int ask(const char *more, struct control_route_call *r, char reason[CONTROL_REASON_MAX])
{
	static const char head[] = "{\"success\": true, \"data\": {\"sandbox_id\": \"sb-1\", \"team_id\": \"t-1\", "
				   "\"user_id\": \"u-1\", \"procd_url\": \"tcp://127.0.0.1:7000\"";
	char *body = NULL;
	int n = asprintf(&body, "%s%s}}", head, more), rc;

	assert_true(n > 0);
	*r = (struct control_route_call){.sandbox = "sb-1", .grants = &grant, .grant_count = 1};
	strcpy(r->policy, "untouched");
	rc = answer_route(bytes_of(body, (size_t)n), r, reason);
	free(body);
	return rc;
}

static void test_what_is_passed_on(void **state)
{
	static const struct {
		const char *more, *policy;
	} cases[] = {
		{"", ""},
		{", \"policy\": null, \"team_policy\": null", ""},
		{", \"policy\": {}", "{\"sandbox\": {}}"},
		{", \"team_policy\": {\"agent\": false, \"new\": [1]}", "{\"team\": {\"agent\": false, \"new\": [1]}}"},
		{", \"policy\": {\"sftp\": \"none\"}, \"team_policy\": {\"jump\": true}",
		 "{\"sandbox\": {\"sftp\": \"none\"}, \"team\": {\"jump\": true}}"},
		{", \"policy\": {\"a\": \"\\n\u00e4\\\"\"}", "{\"sandbox\": {\"a\": \"\\n\\u00E4\\\"\"}}"},
		{", \"motd\": null", ""},
		{", \"motd\": \"a\\nb\"", "{\"motd\": \"a\\nb\"}"},
		{", \"motd\": \"\", \"policy\": {}", "{\"motd\": \"\", \"sandbox\": {}}"},
	};
	char reason[CONTROL_REASON_MAX];
	struct control_route_call r;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(ask(cases[i].more, &r, reason), 0);
		assert_string_equal(r.policy, cases[i].policy);
	}
}

static void test_what_is_refused(void **state)
{
	static const char *const bad[] = {", \"policy\": []",
					  ", \"policy\": \"none\"",
					  ", \"team_policy\": false",
					  ", \"motd\": {}",
					  ", \"motd\": 1",
					  ", \"policy\": {\"a\": 1, \"a\": 2}",
					  ", \"policy\": {\"a\": \"\\u0000\"}"};
	char reason[CONTROL_REASON_MAX], more[2 * POLICY_TEXT_MAX];
	struct control_route_call r;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(ask(bad[i], &r, reason), -EPROTO);
		assert_string_equal(r.policy, "untouched");
	}
	/* {"sandbox": {"a": "…"}} of as much as fits, and a byte more. */
	for (size_t n = POLICY_TEXT_MAX - 1 - 22; n <= POLICY_TEXT_MAX - 22; n++) {
		snprintf(more, sizeof(more), ", \"policy\": {\"a\": \"%*s\"}", (int)n, "x");
		assert_int_equal(ask(more, &r, reason), n < POLICY_TEXT_MAX - 22 ? 0 : -EPROTO);
	}
	assert_string_equal(reason, "the policies are too large");
}

/* Cut at a whole character, and it fits with every character escaped. */
static void test_a_long_motd(void **state)
{
	char reason[CONTROL_REASON_MAX], text[8 * MOTD_TEXT_MAX], more[sizeof(text) + 64];
	struct control_route_call r;
	size_t n = 0;

	text[n++] = 'x';
	while (n < 2 * MOTD_TEXT_MAX)
		n += (size_t)sprintf(text + n, "\u00e4");
	snprintf(more, sizeof(more), ", \"motd\": \"%s\"", text);
	assert_int_equal(ask(more, &r, reason), 0);
	assert_int_equal(strlen(r.policy), strlen("{\"motd\": \"x\"}") + (MOTD_TEXT_MAX - 1) / 2 * strlen("\\u00E4"));

	n = 0;
	while (n < 6 * MOTD_TEXT_MAX)
		n += (size_t)sprintf(text + n, "\\u0001");
	snprintf(more, sizeof(more), ", \"motd\": \"%s\"", text);
	assert_int_equal(ask(more, &r, reason), 0);
	assert_int_equal(strlen(r.policy), strlen("{\"motd\": \"\"}") + MOTD_TEXT_MAX * strlen("\\u0001"));
}

static int setup(void **state)
{
	answer_init();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_passed_on),
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_a_long_motd),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
