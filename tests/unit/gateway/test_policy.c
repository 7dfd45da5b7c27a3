#include "core/policy.h"

#include "core/yaml.h"
#include "gateway/config.h"
#include "gateway/link_setup.h"
#include "upstream/control/answer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct doc_limits limits = {.bytes = 64 * 1024, .nodes = 1000};

static int read_text(const char *text, struct policy **ret, char error[256])
{
	struct doc *d;
	int rc = doc_parse("text", bytes_str(text), &limits, &d, error, 256);

	if (rc < 0)
		return rc;
	rc = policy_read(d, doc_root(d), ret, error, 256);
	doc_free(d);
	return rc;
}

static struct policy *policy(const char *text)
{
	struct policy *p = NULL;
	char error[256] = "";

	if (read_text(text, &p, error) < 0)
		fail_msg("%s: %s", text, error);
	return p;
}

static void expect_error(const char *text, const char *says)
{
	struct policy *p = NULL;
	char error[256] = "";

	assert_int_equal(read_text(text, &p, error), -EINVAL);
	if (strstr(error, says) == NULL)
		fail_msg("%s: '%s' does not say '%s'", text, error, says);
	assert_null(p);
}

enum question { CONNECT, LISTEN, UNIX, AGENT, JUMP, SHELL, SFTP, SUBSYSTEM, WRITING, QUESTIONS };

static const char *const question_names[] = {"connect", "listen", "unix",      "agent",  "jump",
					     "shell",   "sftp",   "subsystem", "writing"};

static bool ask(const struct policies *p, enum question q, char why[POLICY_WHY_MAX])
{
	switch (q) {
	case CONNECT:
		return policies_allow_connect(p, bytes_str("10.0.0.1"), 80, why);
	case LISTEN:
		return policies_allow_listen(p, 0, why);
	case UNIX:
		return policies_allow_unix(p, why);
	case AGENT:
		return policies_allow_agent(p, why);
	case JUMP:
		return policies_allow_jump(p, why);
	case SHELL:
		return policies_allow_shell(p, why);
	case SFTP:
		return policies_allow_sftp(p, why);
	case SUBSYSTEM:
		return policies_allow_subsystem(p, why);
	default:
		return policies_allow_writing(p, why);
	}
}

/* Each field forbids what it is for, by name, and nothing else; whoever's policy it is. */
static void test_what_each_field_forbids(void **state)
{
	static const struct {
		const char *text, *field;
		uint32_t forbidden;
	} cases[] = {
		{"{}", "", 0},
		{"forward_tcp: none", "forward_tcp", 1u << CONNECT},
		{"forward_tcp: loopback", "forward_tcp", 1u << CONNECT},
		{"forward_ports: [81, 443-8000]", "forward_ports", 1u << CONNECT},
		{"forward_listen: none", "forward_listen", 1u << LISTEN},
		{"listen_ports: [8080]", "listen_ports", 1u << LISTEN},
		{"forward_unix: no", "forward_unix", 1u << UNIX},
		{"agent: no", "agent", 1u << AGENT},
		{"agent: false", "agent", 1u << AGENT},
		{"jump: no", "jump", 1u << JUMP},
		{"commands: [id]", "commands", 1u << SHELL | 1u << SUBSYSTEM},
		{"sftp: none", "sftp: ", 1u << SFTP | 1u << WRITING},
		{"sftp_only: true", "sftp_only",
		 1u << CONNECT | 1u << LISTEN | 1u << UNIX | 1u << AGENT | 1u << JUMP | 1u << SHELL | 1u << SUBSYSTEM},
		{"sftp: read_only", "sftp: read_only",
		 1u << CONNECT | 1u << LISTEN | 1u << UNIX | 1u << AGENT | 1u << JUMP | 1u << SHELL | 1u << SUBSYSTEM |
			 1u << WRITING},
		{"{sftp: read_only, commands: [ls]}", "", 1u << SHELL | 1u << SUBSYSTEM | 1u << WRITING},
		{"{forward_tcp: all, forward_listen: all, forward_unix: yes, agent: yes, jump: true, sftp: full, "
		 "sftp_only: no}",
		 "", 0},
	};
	static const char *const whose[] = {"this gateway's policy", "the policy of team blue",
					    "this sandbox's policy"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (int layer = 0; layer < 3; layer++) {
			struct policy *of[3] = {policy("{}"), NULL, NULL}, *q = policy(cases[i].text);
			struct policies p = {of[0], NULL, NULL, "blue"};

			*(layer == 0 ? &p.region : layer == 1 ? &p.team : &p.sandbox) = q;
			for (enum question k = 0; k < QUESTIONS; k++) {
				char why[POLICY_WHY_MAX] = "";
				bool is_yes = ask(&p, k, why);

				if (is_yes == (cases[i].forbidden >> k & 1))
					fail_msg("%s: %s: %s", cases[i].text, question_names[k], why);
				if (is_yes)
					continue;
				if (!strstr(why, whose[layer]) || !strstr(why, cases[i].field))
					fail_msg("%s: %s", cases[i].text, why);
			}
			policy_put(q);
			policy_put(of[0]);
		}
	}
}

static bool connects(const struct policies *p, const char *host, uint32_t port)
{
	char why[POLICY_WHY_MAX];

	return policies_allow_connect(p, bytes_str(host), port, why);
}

static bool listens(const struct policies *p, uint32_t port)
{
	char why[POLICY_WHY_MAX];

	return policies_allow_listen(p, port, why);
}

/* Of several, each must allow it. */
static void test_the_strictest_rules(void **state)
{
	struct policies p = {policy("{forward_tcp: loopback, forward_ports: [1-1000], listen_ports: [8000-9000]}"),
			     policy("{forward_tcp: all, forward_ports: ['80', 900-2000], idle_timeout_s: 100}"),
			     policy("{listen_ports: [8080], idle_timeout_s: 200, idle_warning_s: 99}"), "blue"};
	struct idle_limit idle;
	char why[POLICY_WHY_MAX];

	(void)state;
	assert_true(connects(&p, "localhost", 80));
	assert_true(connects(&p, "127.0.0.5", 900));
	assert_true(connects(&p, "::1", 1000));
	assert_false(connects(&p, "10.0.0.1", 80));
	assert_false(connects(&p, "localhost", 81));
	assert_false(connects(&p, "localhost", 1001));
	assert_false(connects(&p, "localhost", 899));
	assert_true(listens(&p, 8080));
	assert_false(listens(&p, 8081));
	assert_false(listens(&p, 0));
	assert_true(policies_listen_anywhere(&p));
	assert_false(policies_allow_connect(&p, bytes_str("localhost"), 81, why));
	assert_string_equal(why, "the policy of team blue forbids forwarding to port 81 (forward_ports); ask its "
				 "administrators");
	policies_idle(&p, &idle);
	assert_int_equal(idle.timeout_s, 100);
	assert_int_equal(idle.warning_s, 50);
	assert_string_equal(idle.whose, "the policy of team blue (idle_timeout_s)");
	policy_put(p.region);
	p.region = policy("{forward_listen: loopback, idle_timeout_s: 5}");
	assert_false(policies_listen_anywhere(&p));
	assert_true(listens(&p, 8080));
	policies_idle(&p, &idle);
	assert_int_equal(idle.timeout_s, 5);
	assert_int_equal(idle.warning_s, 2);
	assert_string_equal(idle.whose, "this gateway's policy (policy.idle_timeout_s)");
	policy_put(p.region);
	policy_put(p.team);
	policy_put(p.sandbox);
	policies_idle(&(struct policies){NULL, NULL, NULL, NULL}, &idle);
	assert_int_equal(idle.timeout_s, 0);
}

static bool runs(const char *policy_text, struct bytes command)
{
	struct policies p = {NULL, NULL, policy(policy_text), NULL};
	char why[POLICY_WHY_MAX];
	bool is_yes = policies_allow_command(&p, command, why);

	assert_true(policies_limit_commands(&p));
	policy_put(p.sandbox);
	return is_yes;
}

static void test_commands(void **state)
{
	static const char list[] = "commands: [\"uptime\", \"git-upload-pack '*'\", 'tail -n * log', 'a*b*c', 'x **']";
	static const char *const good[] = {"uptime",
					   "git-upload-pack 'r/s-1.git'",
					   "git-upload-pack ''",
					   "tail -n 5 log",
					   "abc",
					   "aXXbYYbZZc",
					   "x ",
					   "x a/b",
					   "tail -n  log"};
	static const char *const bad[] = {"",
					  "uptim",
					  "uptime ",
					  " uptime",
					  "uptime; id",
					  "uptime\nid",
					  "git-upload-pack 'a'; 'id'",
					  "git-upload-pack 'a' 'b'",
					  "git-upload-pack '$(id)'",
					  "git-upload-pack '`id`'",
					  "git-upload-pack 'a\nb'",
					  "tail -n $(id) log",
					  "tail -n 5 log log2",
					  "tail -n >x log",
					  "tail -n ~ log",
					  "tail -n \xc3\xa4 log",
					  "ab",
					  "aXcXb",
					  "a&b&c",
					  "x *",
					  "x a|b"};
	static uint8_t big[POLICY_COMMAND_MAX + 1];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		if (!runs(list, bytes_str(good[i])))
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (runs(list, bytes_str(bad[i])))
			fail_msg("allowed: %s", bad[i]);
	assert_false(runs(list, bytes_of("uptime\0", 7)));
	assert_false(runs(list, bytes_of("a\0bc", 4)));
	memset(big, 'x', sizeof(big));
	big[1] = ' ';
	assert_true(runs(list, bytes_of(big, POLICY_COMMAND_MAX)));
	assert_false(runs(list, bytes_of(big, POLICY_COMMAND_MAX + 1)));
}

/* Two policies with commands: what both list. */
static void test_commands_of_two(void **state)
{
	struct policies p = {policy("commands: ['git *', id]"), policy("commands: ['git pull', 'git push', ls]"), NULL,
			     "t"};
	char why[POLICY_WHY_MAX];

	(void)state;
	assert_true(policies_allow_command(&p, bytes_str("git pull"), why));
	assert_false(policies_allow_command(&p, bytes_str("git clone"), why));
	assert_non_null(strstr(why, "the policy of team t forbids this command (commands)"));
	assert_false(policies_allow_command(&p, bytes_str("ls"), why));
	assert_non_null(strstr(why, "this gateway's policy forbids this command (policy.commands)"));
	policy_put(p.region);
	policy_put(p.team);
}

/* What could turn a permitted command into another one does not come along, and sftp's name says how it is served. */
static void test_what_is_sent(void **state)
{
	static const char *const names[] = {"LANG", "GIT_SSH_COMMAND", "LC_ALL", "MINE", "GIT_PROTOCOL"};
	static struct config c;
	struct policies p = {NULL, NULL, policy("{commands: [id], sftp: read_only}"), NULL};
	struct chan_request r = {.kind = CHAN_SUBSYSTEM, .value = bytes_str("sftp")};
	struct link_setup *s = link_setup_new();
	char why[POLICY_WHY_MAX];

	(void)state;
	c.session.accept_env_count = 1;
	strcpy(c.session.accept_env[0], "MINE");
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_true(link_setup_env(
			s, &c,
			&(struct chan_request){.kind = CHAN_ENV, .key = bytes_str(names[i]), .value = bytes_str("v")}));
	assert_true(link_setup_start(s, &r));
	assert_true(link_setup_is_allowed(s, &p, why));
	link_setup_limit(s, &p, why);
	assert_int_equal(s->options.env_count, 3);
	assert_true(bytes_is(s->options.env[0].name, "LANG"));
	assert_true(bytes_is(s->options.env[1].name, "LC_ALL"));
	assert_true(bytes_is(s->options.env[2].name, "GIT_PROTOCOL"));
	assert_true(bytes_is(s->options.name, "sftp-read-only"));
	assert_true(bytes_is(s->options.message,
			     "this sandbox's policy forbids writing files (sftp: read_only); ask its owner"));
	link_setup_free(s);
	policy_put(p.sandbox);
	/* The read-only server by its own name is no way around sftp: none. */
	p.sandbox = policy("sftp: none");
	s = link_setup_new();
	r.value = bytes_str("sftp-read-only");
	assert_true(link_setup_start(s, &r));
	assert_false(link_setup_is_allowed(s, &p, why));
	link_setup_free(s);
	policy_put(p.sandbox);
}

static void test_mistakes(void **state)
{
	(void)state;
	expect_error("forward_tpc: none", "text:1: policy: unknown key 'forward_tpc'; known here: forward_tcp, ");
	expect_error("[a]", "a list where a map is expected");
	expect_error("forward_tcp: nothing", "allowed: none, loopback, all");
	expect_error("forward_tcp: [none]", "forward_tcp: a list where a value is expected");
	expect_error("forward_ports: 80", "forward_ports: a value where a list is expected");
	expect_error("forward_ports: []", "forward_ports is empty");
	expect_error("commands: []", "sftp_only: yes");
	expect_error("forward_ports: [0]", "'0' is not accepted; allowed: PORT or FIRST-LAST");
	expect_error("forward_ports: [65536]", "not accepted");
	expect_error("forward_ports: [9-8]", "not accepted");
	expect_error("forward_ports: [1-2-3]", "not accepted");
	expect_error("forward_ports: ['80 ']", "not accepted");
	expect_error("forward_ports: ['-80']", "not accepted");
	expect_error("forward_ports: [80-]", "not accepted");
	expect_error("forward_ports: [[80]]", "a list where a text is expected");
	expect_error("forward_ports: [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]", "at most 16");
	expect_error("commands: ['* x']", "not accepted");
	expect_error("commands: ['']", "not accepted");
	expect_error("commands: [\"a\\nb\"]", "not accepted");
	expect_error("commands: [\"a\\u00e4\"]", "not accepted");
	expect_error(
		"commands: [aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggggggghhhhhhhhhhiiiiiiiii"
		"ijjjjjjjjjjkkkkkkkkkkllllllllllmmmmmmmmmmnnnnnnnnnn]",
		"longer than 127");
	expect_error("agent: maybe", "allowed: no, yes");
	expect_error("agent: 'true'", "allowed: no, yes");
	expect_error("agent: null", "allowed: no, yes");
	expect_error("idle_timeout_s: -1", "no number");
	expect_error("idle_timeout_s: 99999999999999999999", "no number");
	expect_error("idle_timeout_s: 40000000", "out of bounds");
	expect_error("{agent: no, agent: no}", "agent");
}

/* As a control plane's JSON writes it. */
static void test_json(void **state)
{
	struct policies p = {
		NULL, NULL,
		policy("{\"agent\": false, \"commands\": [\"say \\\"*\\\"\", \"a\\\\b\"], \"forward_ports\": "
		       "[\"80\", \"90-99\"], \"idle_timeout_s\": 7, \"jump\": true}"),
		NULL};
	char why[POLICY_WHY_MAX];

	(void)state;
	assert_false(policies_allow_agent(&p, why));
	assert_true(policies_allow_jump(&p, why));
	assert_true(policies_allow_command(&p, bytes_str("say \"hello\""), why));
	assert_true(policies_allow_command(&p, bytes_str("a\\b"), why));
	assert_true(connects(&p, "10.1.1.1", 95));
	policy_put(p.sandbox);
}

/* The region's defaults forbid no more than they did before there were policies. */
static void test_region_defaults(void **state)
{
	static struct config c;
	struct policies p = {0};
	char why[POLICY_WHY_MAX];
	struct idle_limit idle;

	(void)state;
	config_defaults(&c);
	p.region = policy_new(&c.policy);
	for (enum question q = LISTEN; q < QUESTIONS; q++)
		assert_true(ask(&p, q, why));
	assert_true(connects(&p, "localhost", 1));
	assert_false(connects(&p, "10.0.0.1", 1));
	assert_false(policies_listen_anywhere(&p));
	assert_false(policies_limit_commands(&p));
	assert_true(policies_allow_command(&p, bytes_str("anything; at all"), why));
	policies_idle(&p, &idle);
	assert_int_equal(idle.timeout_s, 0);
	policy_put(p.region);
}

/* Whatever the words of a control plane are, what is kept of them can be read: nobody is kept out by them. */
static void test_a_motd_can_be_read(void **state)
{
	static const struct {
		const char *json, *said;
	} cases[] = {
		{"\xf0\x9f\x98\x80 up", "\xf0\x9f\x98\x80 up"},
		{"\\uD83D\\uDE00\\\\uD83D \xf4\x8f\xbf\xbf", "\xf0\x9f\x98\x80\\uD83D \xf4\x8f\xbf\xbf"},
		{"a\x7f\\u007f\\u0080\\uFEFF\\u2028\\uFFFF", "a???\ufeff\u2028\xef\xbf\xbf"},
		{"\\\"\\\\\\t/", "\"\\\t/"},
	};
	static const struct grant grant = {.team = "t-1", .user = "u-1"};
	struct control_route_call r = {.sandbox = "sb-1", .grants = &grant, .grant_count = 1};
	char reason[CONTROL_REASON_MAX], body[512], error[128];

	answer_init();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct policies p = {0};
		struct policy *team = NULL, *sandbox = NULL;

		snprintf(body, sizeof(body),
			 "{\"success\": true, \"data\": {\"sandbox_id\": \"sb-1\", \"team_id\": \"t-1\", \"user_id\": "
			 "\"u-1\", \"procd_url\": \"tcp://127.0.0.1:7000\", \"motd\": \"%s\"}}",
			 cases[i].json);
		assert_int_equal(answer_route(bytes_str(body), &r, reason), 0);
		if (policies_read(r.policy, &team, &sandbox, error, sizeof(error)) < 0)
			fail_msg("%s: %s", r.policy, error);
		p.sandbox = sandbox;
		assert_string_equal(policies_motd(&p), cases[i].said);
		policy_put(sandbox);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_each_field_forbids),
		cmocka_unit_test(test_the_strictest_rules),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_commands_of_two),
		cmocka_unit_test(test_what_is_sent),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_region_defaults),
		cmocka_unit_test(test_a_motd_can_be_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
