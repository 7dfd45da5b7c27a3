/*
 * tests/fuzz/fuzz_policy.c - libFuzzer target for policies as a control plane's answer has them, and for commands against them.
 *
 * The input is that text; it is a command, too. What is taken answers every question; no answer depends on more than its input.
 */
#include "core/policy.h"

#include "core/limits.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check(bool is_yes, const char *why)
{
	ASSERT(is_yes || strnlen(why, POLICY_WHY_MAX) < POLICY_WHY_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct policies all = {.team_id = "t"};
	char text[POLICY_TEXT_MAX], error[128] = "", why[POLICY_WHY_MAX] = "";
	struct idle_limit idle;
	int rc;

	if (n >= sizeof(text))
		return 0;
	memcpy(text, p, n);
	text[n] = 0;
	rc = policies_read(text, &all.team, &all.sandbox, error, sizeof(error));
	ASSERT(rc == 0 || (error[0] && !all.team && !all.sandbox));
	if (rc < 0)
		return 0;
	check(policies_allow_connect(&all, bytes_of(p, n), (uint32_t)n, why), why);
	check(policies_allow_listen(&all, (uint32_t)n, why), why);
	check(policies_allow_unix(&all, why), why);
	check(policies_allow_agent(&all, why), why);
	check(policies_allow_jump(&all, why), why);
	check(policies_allow_shell(&all, why), why);
	check(policies_allow_command(&all, bytes_of(p, n), why), why);
	check(policies_allow_sftp(&all, why), why);
	check(policies_allow_writing(&all, why), why);
	policies_idle(&all, &idle);
	ASSERT(idle.warning_s <= idle.timeout_s);
	policy_put(all.team);
	policy_put(all.sandbox);
	return 0;
}
