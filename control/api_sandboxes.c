/*
 * control/api_sandboxes.c - /api/v1/sandboxes: what users see and do.
 */
#include "control/people.h"
#include "control/random_id.h"
#include "control/request.h"
#include "control/sandboxes.h"

#include <errno.h>
#include <string.h>

static json_t *sandbox_json(const struct config *c, const struct sandbox *b)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:b, s:o, s:o, s:{s:s, s:I, s:s}}", "id", b->id, "status",
			      sandbox_state_name(b->state), "team_id", b->team, "auto_resume", (int)b->auto_resume,
			      "created_at", json_time(b->created_at), "updated_at", json_time(b->updated_at), "ssh",
			      "host", c->ssh.host, "port", (json_int_t)c->ssh.port, "username", b->id);

	if (o && b->reason[0])
		json_object_set_new(o, "reason", json_string(b->reason));
	return o;
}

struct listing {
	const struct config *config;
	json_t *list;
};

static int on_sandbox(void *ctx, const struct sandbox *b)
{
	struct listing *l = ctx;

	return json_array_append_new(l->list, sandbox_json(l->config, b)) == 0 ? 0 : -ENOMEM;
}

void handle_sandbox_list(struct request *r, struct store *s)
{
	struct listing l = {.config = r->server->config, .list = json_array()};

	if (sandbox_list(s, r->user, on_sandbox, &l) >= 0) {
		answer_data(r, 200, json_pack("{s:o}", "sandboxes", l.list));
		return;
	}
	json_decref(l.list);
	answer_failure(r);
}

/* The one of the path, if the user may see it. False, and answered: 404 in every other case. */
static bool sandbox_take(struct request *r, struct store *s, struct sandbox *b)
{
	int rc = sandbox_id_is_good(bytes_str(r->id)) ? sandbox_find(s, r->id, b) : -ENOENT;

	if (rc == 0)
		rc = member_is(s, r->user, b->team);
	if (rc > 0)
		return true;
	if (rc == 0 || rc == -ENOENT)
		answer_error(r, 404, "not_found", "you have no sandbox of that ID");
	else
		answer_failure(r);
	return false;
}

void handle_sandbox_get(struct request *r, struct store *s)
{
	struct sandbox b;

	if (sandbox_take(r, s, &b))
		answer_data(r, 200, sandbox_json(r->server->config, &b));
}

/* --- create --- */

static bool body_take_id(struct request *r, const json_t *given, struct sandbox *b)
{
	const char *id = json_string_value(given);

	if (!given) {
		random_id("sb-", b->id, sizeof(b->id));
		return true;
	}
	if (id && sandbox_id_is_good(bytes_str(id))) {
		strcpy(b->id, id);
		return true;
	}
	answer_error(r, 400, "bad_request",
		     "id: 1 to %d small letters, digits and hyphens are expected, no hyphen at the ends",
		     SANDBOX_ID_MAX);
	return false;
}

static bool body_take_team(struct request *r, struct store *s, const json_t *given, struct sandbox *b)
{
	const char *team = json_string_value(given);
	int rc;

	if (given && (!team || !member_id_is_good(bytes_str(team)))) {
		answer_error(r, 400, "bad_request", "team_id: not the ID of a team");
		return false;
	}
	if (given) {
		strcpy(b->team, team);
		rc = member_is(s, r->user, team);
	} else {
		rc = member_first_team(s, r->user, b->team);
		rc = rc == 0 ? 1 : rc == -ENOENT ? 0 : rc;
	}
	if (rc == 0)
		answer_error(r, 403, "forbidden", "you are not in that team");
	else if (rc < 0)
		answer_failure(r);
	return rc > 0;
}

static bool body_take(struct request *r, struct store *s, const json_t *body, struct sandbox *b)
{
	const json_t *auto_resume = json_object_get(body, "auto_resume");

	if (auto_resume && !json_is_boolean(auto_resume)) {
		answer_error(r, 400, "bad_request", "auto_resume: true or false is expected");
		return false;
	}
	b->auto_resume = !json_is_false(auto_resume);
	return body_take_id(r, json_object_get(body, "id"), b) &&
	       body_take_team(r, s, json_object_get(body, "team_id"), b);
}

/* What the driver said when it was asked for something. */
static void answer_refusal(struct request *r, int rc)
{
	if (rc == -ENOTSUP)
		answer_error(r, 501, "not_implemented", "this control plane has no driver that could do that");
	else if (rc == -EBUSY)
		answer_error(r, 409, "conflict", "something else is going on with this sandbox; try again");
	else
		answer_error(r, 503, "unavailable", "the sandbox's driver refused: %s", strerror(-rc));
}

void handle_sandbox_create(struct request *r, struct store *s)
{
	json_t *body = request_object(r, true);
	struct sandbox b = {0};
	int rc;

	if (!body)
		return;
	if (body_take(r, s, body, &b)) {
		rc = fleet_create(&r->server->fleet, s, &b);
		if (rc == 0)
			answer_data(r, 201, sandbox_json(r->server->config, &b));
		else if (rc == -EEXIST)
			answer_error(r, 409, "conflict", "there is a sandbox of that ID");
		else if (rc == -EIO)
			answer_failure(r);
		else
			answer_refusal(r, rc);
	}
	json_decref(body);
}

/* --- pause, resume, delete --- */

static void answer_wrong_state(struct request *r, const struct sandbox *b)
{
	answer_error(r, 409, "conflict", "the sandbox is %s", sandbox_state_name(b->state));
}

/* Answers when it is paused, so that who asked may count on it. */
void handle_sandbox_pause(struct request *r, struct store *s)
{
	struct sandbox b;
	int rc;

	if (!sandbox_take(r, s, &b))
		return;
	if (b.state == SANDBOX_PAUSED) {
		answer_data(r, 200, sandbox_json(r->server->config, &b));
	} else if (b.state != SANDBOX_RUNNING) {
		answer_wrong_state(r, &b);
	} else if (r->has_asked && b.reason[0]) {
		answer_error(r, 503, "unavailable", "the sandbox could not be paused: %s", b.reason);
	} else {
		rc = r->has_asked ? 0 : fleet_pause(&r->server->fleet, s, &b);
		r->has_asked = true;
		if (rc < 0)
			answer_refusal(r, rc);
		else if (!request_hold(r, b.id, b.version, PAUSE_WAIT_S))
			answer_error(r, 503, "unavailable", "the sandbox is not paused yet");
	}
}

/* Answers at once: it runs or is resuming. A stopped one is started anew, if its driver can. */
void handle_sandbox_resume(struct request *r, struct store *s)
{
	struct sandbox b;
	int rc;

	if (!sandbox_take(r, s, &b))
		return;
	if (b.state == SANDBOX_RUNNING || b.state == SANDBOX_RESUMING) {
		answer_data(r, 200, sandbox_json(r->server->config, &b));
		return;
	}
	rc = fleet_resume(&r->server->fleet, s, &b, r->user);
	if (rc < 0)
		answer_refusal(r, rc);
	else if (sandbox_take(r, s, &b)) /* as it is now */
		answer_data(r, 200, sandbox_json(r->server->config, &b));
}

void handle_sandbox_remove(struct request *r, struct store *s)
{
	struct sandbox b;
	int rc;

	if (!sandbox_take(r, s, &b))
		return;
	rc = fleet_remove(&r->server->fleet, s, &b);
	if (rc == 0 || rc == -ENOENT)
		answer_data(r, 200, json_pack("{s:s}", "message", "the sandbox is deleted"));
	else
		answer_refusal(r, rc);
}
