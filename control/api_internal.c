/*
 * control/api_internal.c - /internal/v1: what gateways ask.
 */
#include "control/changes.h"
#include "control/keys.h"
#include "control/policies.h"
#include "control/request.h"
#include "control/sandboxes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- ssh-keys --- */

void handle_grants(struct request *r, struct store *s)
{
	struct key_grants *g = malloc(sizeof(*g));
	int rc = -ENOMEM;
	json_t *list;

	if (g)
		rc = fingerprint_is_good(bytes_str(r->id)) ? key_grants_find(s, r->id, g) : -ENOENT;
	if (rc == -ENOENT) {
		answer_error(r, 404, "not_found", "nobody has this key");
	} else if (rc < 0) {
		answer_failure(r);
	} else {
		list = json_array();
		for (uint32_t i = 0; i < g->count; i++)
			json_array_append_new(list, json_pack("{s:s, s:s}", "team_id", g->grants[i].team, "user_id",
							      g->grants[i].user));
		answer_data(r, 200,
			    json_pack("{s:s, s:s, s:o, s:I}", "fingerprint_sha256", r->id, "public_key", g->text,
				      "grants", list, "version", (json_int_t)g->version));
	}
	free(g);
}

/* --- ssh-target --- */

struct target {
	struct grant grants[GRANTS_MAX];
	uint32_t count;
	char fingerprint[FINGERPRINT_CHARS + 1]; /* "" where none was given */
	uint32_t wait_s;
	bool may_wake;
};

/* "team=user" */
static bool grant_parse(struct bytes text, struct grant *ret)
{
	const uint8_t *equals = text.n ? memchr(text.p, '=', text.n) : NULL;
	struct bytes team, user;

	if (!equals)
		return false;
	team = bytes_of(text.p, (size_t)(equals - text.p));
	user = bytes_of(equals + 1, text.n - team.n - 1);
	return member_id_is_good(team) && member_id_is_good(user) &&
	       bytes_copy_str(team, ret->team, sizeof(ret->team)) && bytes_copy_str(user, ret->user, sizeof(ret->user));
}

/* "team=user, team2=user2" */
static bool grants_parse(const char *text, struct target *t)
{
	for (t->count = 0; t->count < GRANTS_MAX; t->count++) {
		size_t n, end;

		text += strspn(text, " \t");
		n = end = strcspn(text, ",");
		while (n > 0 && strchr(" \t", text[n - 1]))
			n--;
		if (!grant_parse(bytes_of(text, n), &t->grants[t->count]))
			return false;
		if (!text[end]) {
			t->count++;
			return true;
		}
		text += end + 1;
	}
	return false;
}

/* False, and answered with 400. */
static bool target_parse(struct request *r, struct target *t)
{
	const char *grants = request_header(r, "X-SSH-Key-Grants"), *wake = request_argument(r, "wake");
	const char *fingerprint = request_header(r, "X-SSH-Key-Fingerprint");
	int64_t wait_s;

	if (!request_number(r, "wait", WAIT_S_ASKED_MAX, &wait_s))
		return false;
	t->wait_s = (uint32_t)wait_s;
	t->may_wake = !wake || strcmp(wake, "yes") == 0;
	t->fingerprint[0] = 0;
	if (wake && !t->may_wake && strcmp(wake, "no") != 0)
		answer_error(r, 400, "bad_request", "wake: yes or no is expected");
	else if (!grants || !grants_parse(grants, t))
		answer_error(r, 400, "bad_request", "X-SSH-Key-Grants: team=user,team2=user2 is expected, at most %d",
			     GRANTS_MAX);
	else if (fingerprint && !fingerprint_is_good(bytes_str(fingerprint)))
		answer_error(r, 400, "bad_request", "X-SSH-Key-Fingerprint: SHA256:... is expected");
	else
		return strcpy(t->fingerprint, fingerprint ? fingerprint : "");
	return false;
}

/* The first of the grants that lets its user in. NULL, and answered. */
static const struct grant *grant_find(struct request *r, struct store *s, const struct target *t,
				      const struct sandbox *b)
{
	for (uint32_t i = 0; i < t->count; i++) {
		int rc;

		if (strcmp(t->grants[i].team, b->team) != 0)
			continue;
		rc = grant_is_good(s, &t->grants[i], t->fingerprint);
		if (rc > 0)
			return &t->grants[i];
		if (rc < 0) {
			answer_failure(r);
			return NULL;
		}
	}
	answer_error(r, 403, "forbidden", "none of the grants may enter this sandbox");
	return NULL;
}

/* NULL without one. What is no JSON is passed on as a text, which no gateway takes for a policy: it lets nobody in. */
static json_t *policy_json(const char *policy)
{
	return policy[0] ? (json_loads(policy, JSON_REJECT_DUPLICATES, NULL) ?: json_string("unreadable")) : NULL;
}

static void answer_target(struct request *r, struct store *s, const struct grant *g, const struct sandbox *b)
{
	bool is_there = b->state == SANDBOX_RUNNING;
	char policy[POLICY_ONE_MAX], team_policy[POLICY_ONE_MAX];

	/* Read after b.version: they are that old or newer. */
	if (policy_find(s, NULL, b->id, policy) < 0 || policy_find(s, b->team, NULL, team_policy) < 0) {
		answer_failure(r);
		return;
	}
	answer_data(r, 200,
		    json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:o*, s:o*}", "sandbox_id", b->id, "team_id",
			      b->team, "user_id", g->user, "procd_url", is_there ? b->procd_url : "", "procd_key",
			      is_there ? b->procd_key : "", "state", sandbox_state_name(b->state), "version",
			      (json_int_t)b->version, "policy", policy_json(policy), "team_policy",
			      policy_json(team_policy)));
}

/* True: it is being resumed, by us or by somebody else. */
static bool wake(struct request *r, struct store *s, const struct grant *g, const struct sandbox *b)
{
	bool is_fresh_failure = b->reason[0] && store_now_ms() - b->failed_at < RESUME_RETRY_S * 1000ll;
	int rc;

	if (!b->auto_resume) {
		answer_error(r, 503, "unavailable", "sandbox is paused and auto_resume is off");
		return false;
	}
	if (is_fresh_failure) {
		answer_error(r, 503, "unavailable", "sandbox could not be resumed: %s", b->reason);
		return false;
	}
	rc = fleet_resume(&r->server->fleet, s, b, g->user);
	if (rc >= 0)
		return true;
	if (rc == -ENOTSUP)
		answer_error(r, 503, "unavailable", "sandbox is paused and there is no driver to resume it");
	else
		answer_error(r, 503, "unavailable", "sandbox could not be resumed: %s", strerror(-rc));
	return false;
}

void handle_target(struct request *r, struct store *s)
{
	const struct grant *g;
	struct sandbox b;
	struct target t;
	int rc;

	if (!target_parse(r, &t))
		return;
	rc = sandbox_id_is_good(bytes_str(r->id)) ? sandbox_find(s, r->id, &b) : -ENOENT;
	if (rc == -ENOENT) {
		answer_error(r, 404, "not_found", "there is no such sandbox");
		return;
	}
	if (rc < 0) {
		answer_failure(r);
		return;
	}
	g = grant_find(r, s, &t, &b);
	if (!g)
		return;
	if (b.state == SANDBOX_RUNNING || !t.may_wake) {
		answer_target(r, s, g, &b);
	} else if (b.state == SANDBOX_STOPPED) {
		answer_error(r, 503, "unavailable", "sandbox is stopped%s%s", b.reason[0] ? ": " : "", b.reason);
	} else if (b.state == SANDBOX_RESUMING || wake(r, s, g, &b)) {
		if (!request_hold(r, b.id, b.version, t.wait_s))
			answer_error(r, 503, "unavailable", "sandbox is waking up");
	}
}

/* --- changes --- */

struct changes_answer {
	json_t *revoked, *moved;
	int64_t next;
};

static int on_change(void *ctx, const struct change *c)
{
	struct changes_answer *a = ctx;
	json_t *subject, *list = c->kind == CHANGE_MOVED ? a->moved : a->revoked;

	if (c->kind == CHANGE_KEY)
		subject = json_pack("{s:s}", "key", c->key);
	else if (c->kind == CHANGE_MEMBER)
		subject = json_pack("{s:s, s:s}", "user", c->user, "team", c->team);
	else
		subject = json_pack("{s:s}", "sandbox", c->sandbox);
	a->next = c->seq;
	return json_array_append_new(list, subject) == 0 ? 0 : -ENOMEM;
}

static bool is_in_feed(const struct feed_range *range, int64_t since)
{
	return since >= range->low && since <= range->last;
}

static void changes_since(struct request *r, struct store *s, int64_t since, uint32_t wait_s)
{
	struct changes_answer a = {.revoked = json_array(), .moved = json_array(), .next = since};
	int rc = changes_read(s, since, CHANGES_BATCH, on_change, &a);
	struct feed_range range;
	bool is_used = false;

	/* Looked at after the reading: nothing of it was forgotten in between. */
	if (rc < 0 || changes_range(s, &range) < 0) {
		answer_failure(r);
	} else if (!is_in_feed(&range, since)) {
		answer_error(r, 410, "gone", "this is not in the feed any more: begin anew without since");
	} else if (rc > 0 || !request_hold(r, "", since, wait_s)) {
		answer_data(r, 200,
			    json_pack("{s:I, s:o, s:o}", "next", (json_int_t)a.next, "revoked", a.revoked, "moved",
				      a.moved));
		is_used = true;
	}
	if (!is_used) {
		json_decref(a.revoked);
		json_decref(a.moved);
	}
}

void handle_changes(struct request *r, struct store *s)
{
	struct feed_range range;
	int64_t since, wait_s;

	if (!request_number(r, "since", VERSION_MAX, &since) || !request_number(r, "wait", WAIT_S_ASKED_MAX, &wait_s))
		return;
	if (since > 0)
		changes_since(r, s, since, (uint32_t)wait_s);
	else if (changes_range(s, &range) < 0)
		answer_failure(r);
	else
		answer_data(r, 200, json_pack("{s:I, s:[], s:[]}", "next", (json_int_t)range.last, "revoked", "moved"));
}
