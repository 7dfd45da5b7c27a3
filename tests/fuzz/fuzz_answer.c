/*
 * tests/fuzz/fuzz_answer.c - libFuzzer target for a control plane's answers: the input as the answer to each of the calls.
 *
 * What is taken was checked in full: names are names, the answer is one to the question, texts are printable and end. What is not
 * taken leaves a reason and changes nothing.
 */
#include "upstream/control/answer.h"
#include "upstream/control/limits.h"

#include <errno.h>

#define FINGERPRINT "SHA256:qARteTb2oz7ABVRSXf/ocAxO+Pv8UOQSflvmYv1Lqv0"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check_text(const char *text, size_t size)
{
	size_t n = strnlen(text, size);

	ASSERT(n < size);
	for (size_t i = 0; i < n; i++)
		ASSERT(text[i] >= ' ' && text[i] <= '~');
}

static void check_rc(int rc, const char *reason)
{
	ASSERT(rc == 0 || rc == -EPROTO);
	if (rc != 0) {
		check_text(reason, CONTROL_REASON_MAX);
		ASSERT(reason[0]);
	}
}

static void check_grant(const struct grant *g)
{
	ASSERT(member_id_is_good(bytes_str(g->team)) && member_id_is_good(bytes_str(g->user)));
}

static void check_key(struct bytes body)
{
	struct control_key_call k = {.fingerprint = FINGERPRINT, .grant_count = 77};
	char reason[CONTROL_REASON_MAX];
	int rc = answer_key(body, &k, reason);

	check_rc(rc, reason);
	ASSERT(rc == 0 ? k.grant_count <= GRANTS_MAX : k.grant_count == 77);
	for (uint32_t i = 0; rc == 0 && i < k.grant_count; i++)
		check_grant(&k.grants[i]);
}

static void check_route(struct bytes body)
{
	static const struct grant grants[] = {{"t-1", "u-1"}, {"t-2", "u-1"}};
	struct control_route_call r = {
		.sandbox = "sb-1", .fingerprint = FINGERPRINT, .grants = grants, .grant_count = 2};
	char reason[CONTROL_REASON_MAX];
	int rc = answer_route(body, &r, reason);

	check_rc(rc, reason);
	ASSERT((rc == 0) == (r.grant.team[0] != 0));
	if (rc != 0)
		return;
	ASSERT(strcmp(r.grant.user, "u-1") == 0);
	ASSERT(strcmp(r.grant.team, "t-1") == 0 || strcmp(r.grant.team, "t-2") == 0);
	check_text(r.procd_url, sizeof(r.procd_url));
	check_text(r.procd_key, sizeof(r.procd_key));
	check_text(r.state, sizeof(r.state));
}

static void check_change(const struct control_change *c)
{
	switch (c->kind) {
	case CONTROL_SUBJECT_KEY:
		ASSERT(fingerprint_is_good(bytes_str(c->fingerprint)) && !c->is_moved);
		break;
	case CONTROL_SUBJECT_MEMBER:
		check_grant(&c->member);
		ASSERT(!c->is_moved);
		break;
	case CONTROL_SUBJECT_SANDBOX:
		ASSERT(sandbox_id_is_good(bytes_str(c->sandbox)));
		break;
	}
}

static void check_changes(struct bytes body)
{
	struct control_change *list = NULL;
	char reason[CONTROL_REASON_MAX];
	uint32_t count = 0;
	uint64_t next = 0;
	int rc = answer_changes(body, 5, &next, &list, &count, reason);

	if (rc == -E2BIG)
		check_text(reason, sizeof(reason));
	else
		check_rc(rc, reason);
	ASSERT(rc == 0 ? next >= 5 && count <= CONTROL_CHANGES_MAX : !list && count == 0);
	for (uint32_t i = 0; i < count; i++)
		check_change(&list[i]);
	free(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct bytes body = bytes_of(p, n);
	char message[CONTROL_REASON_MAX] = "";

	if (n > CONTROL_BODY_MAX)
		return 0;
	check_key(body);
	check_route(body);
	check_changes(body);
	(void)!answer_error(body, message);
	check_text(message, sizeof(message));
	return 0;
}
