#include "upstream/control/call.h"

#include "upstream/control/answer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>

#define WAKING_MESSAGE "sandbox is waking up"

/* ---- The request ---- */

/* As a segment of a path: of what a fingerprint may hold these two mean something else there. */
static void fingerprint_escape(const char *fingerprint, char ret[3 * FINGERPRINT_CHARS + 1])
{
	for (; *fingerprint; fingerprint++) {
		if (*fingerprint == '/' || *fingerprint == '+')
			ret += sprintf(ret, "%%%02X", *fingerprint);
		else
			*ret++ = *fingerprint;
	}
	*ret = 0;
}

static bool grant_is_good(const struct grant *g)
{
	return member_id_is_good(bytes_str(g->team)) && member_id_is_good(bytes_str(g->user));
}

static int grants_header(const struct control_route_call *r, char ret[CALL_GRANTS_BYTES])
{
	size_t n = (size_t)sprintf(ret, "X-SSH-Key-Grants: ");

	if (r->grant_count == 0 || r->grant_count > GRANTS_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < r->grant_count; i++) {
		if (!grant_is_good(&r->grants[i]))
			return -EINVAL;
		n += (size_t)sprintf(ret + n, "%s%s=%s", i ? "," : "", r->grants[i].team, r->grants[i].user);
	}
	return 0;
}

static int key_request(const struct control_key_call *k, const char *base, struct call_request *ret)
{
	char escaped[3 * FINGERPRINT_CHARS + 1];

	if (!fingerprint_is_good(bytes_str(k->fingerprint)))
		return -EINVAL;
	fingerprint_escape(k->fingerprint, escaped);
	(void)snprintf(ret->url, sizeof(ret->url), "%s/internal/v1/ssh-keys/%s", base, escaped);
	return 0;
}

static int route_request(const struct control_route_call *r, const char *base, uint32_t wait_s,
			 struct call_request *ret)
{
	int n;

	if (!sandbox_id_is_good(bytes_str(r->sandbox)) || !fingerprint_is_good(bytes_str(r->fingerprint)) ||
	    grants_header(r, ret->grants) != 0)
		return -EINVAL;
	n = snprintf(ret->url, sizeof(ret->url), "%s/internal/v1/sandboxes/%s/ssh-target", base, r->sandbox);
	if (wait_s > 0)
		n += snprintf(ret->url + n, sizeof(ret->url) - (size_t)n, "?wait=%" PRIu32, wait_s);
	if (r->is_no_wake)
		(void)snprintf(ret->url + n, sizeof(ret->url) - (size_t)n, "%cwake=no", wait_s > 0 ? '&' : '?');
	(void)snprintf(ret->fingerprint, sizeof(ret->fingerprint), "X-SSH-Key-Fingerprint: %s", r->fingerprint);
	ret->headers[ret->header_count++] = ret->grants;
	ret->headers[ret->header_count++] = ret->fingerprint;
	return 0;
}

static int changes_request(const struct control_changes_call *c, const char *base, uint32_t wait_s,
			   struct call_request *ret)
{
	int n = snprintf(ret->url, sizeof(ret->url), "%s/internal/v1/changes", base);

	/* Without since it is where the feed is now that is asked for, and there is nothing to wait for. */
	if (c->since > 0)
		n += snprintf(ret->url + n, sizeof(ret->url) - (size_t)n, "?since=%" PRIu64, c->since);
	if (c->since > 0 && wait_s > 0)
		(void)snprintf(ret->url + n, sizeof(ret->url) - (size_t)n, "&wait=%" PRIu32, wait_s);
	return 0;
}

int call_request_make(const struct control_call *k, const char *base, const char *token, uint32_t wait_s,
		      struct call_request *ret)
{
	ASSERT(strlen(base) < CONTROL_URL_MAX && strlen(token) < CONTROL_TOKEN_MAX);
	ret->header_count = 0;
	(void)snprintf(ret->token, sizeof(ret->token), "X-Internal-Token: %s", token);
	ret->headers[ret->header_count++] = ret->token;
	ret->headers[ret->header_count++] = "Accept: application/json";
	switch ((enum call_kind)k->kind) {
	case CALL_KEY:
		return key_request(CONTAINER_OF(k, const struct control_key_call, call), base, ret);
	case CALL_ROUTE:
		return route_request(CONTAINER_OF(k, const struct control_route_call, call), base, wait_s, ret);
	case CALL_CHANGES:
		return changes_request(CONTAINER_OF(k, const struct control_changes_call, call), base, wait_s, ret);
	}
	return -EINVAL;
}

/* ---- The answer ---- */

void call_fail(struct control_call *k, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(k->reason, sizeof(k->reason), format, ap);
	va_end(ap);
	k->result = CONTROL_FAILED;
}

static int answer_take(struct control_call *k, struct bytes body)
{
	struct control_change *list = NULL;
	int err;

	switch ((enum call_kind)k->kind) {
	case CALL_KEY:
		return answer_key(body, call_key(k), k->reason);
	case CALL_ROUTE:
		return answer_route(body, call_route(k), k->reason);
	case CALL_CHANGES:
		err = answer_changes(body, call_changes(k)->since, &call_changes(k)->next, &list,
				     &call_changes(k)->change_count, k->reason);
		call_changes(k)->changes = list;
		return err;
	}
	return -EPROTO;
}

static enum call_verdict take_success(struct control_call *k, struct bytes body)
{
	switch (answer_take(k, body)) {
	case 0:
		break;
	case -E2BIG:
		k->result = CONTROL_TOO_OLD;
		return CALL_ANSWERED;
	case -ENOMEM:
		call_fail(k, "out of memory");
		return CALL_UNCLEAR;
	default:
		return CALL_BROKEN;
	}
	k->result = CONTROL_OK;
	k->reason[0] = 0;
	if (k->kind == CALL_KEY && call_key(k)->grant_count == 0) {
		k->result = CONTROL_NOT_FOUND;
		(void)snprintf(k->reason, sizeof(k->reason), "the key has no grant");
	}
	return CALL_ANSWERED;
}

/* What a status with an error in the envelope means; FAILED where it means nothing for this kind of call. */
static enum control_result result_of(const struct control_call *k, uint32_t status, const char *message)
{
	switch (status) {
	case 404:
		return CONTROL_NOT_FOUND;
	case 403:
		return k->kind == CALL_ROUTE ? CONTROL_FORBIDDEN : CONTROL_FAILED;
	case 410:
		return k->kind == CALL_CHANGES ? CONTROL_TOO_OLD : CONTROL_FAILED;
	case 503:
		if (k->kind != CALL_ROUTE)
			return CONTROL_FAILED;
		return strcmp(message, WAKING_MESSAGE) == 0 ? CONTROL_WAKING : CONTROL_UNAVAILABLE;
	default:
		return CONTROL_FAILED;
	}
}

static enum call_verdict take_failure(struct control_call *k, uint32_t status, struct bytes body)
{
	char message[CONTROL_REASON_MAX];
	bool has_envelope = answer_error(body, message) == 0;
	enum control_result result = has_envelope ? result_of(k, status, message) : CONTROL_FAILED;

	if (result != CONTROL_FAILED) {
		k->result = result;
		memcpy(k->reason, message, sizeof(k->reason));
		return CALL_ANSWERED;
	}
	/* Cut, so that the words in front of it have room. */
	call_fail(k, "status %" PRIu32 ": %.100s", status,
		  has_envelope ? message : "without an answer that makes sense");
	if (k->kind == CALL_CHANGES && status == 404) {
		/* One that has no feed need not know how to say so. */
		k->result = CONTROL_NOT_FOUND;
		return CALL_UNCLEAR;
	}
	if (status == 401) {
		call_fail(k, "it refuses this gateway's token: %.90s", has_envelope ? message : "status 401");
		return CALL_BROKEN;
	}
	if (status >= 500)
		return status == 503 && has_envelope ? CALL_BROKEN : CALL_AGAIN;
	return has_envelope ? CALL_ANSWERED : CALL_BROKEN;
}

enum call_verdict call_take(struct control_call *k, const struct http_get *g)
{
	k->status = 0;
	k->result = CONTROL_FAILED;
	if (g->end != HTTP_ANSWERED) {
		call_fail(k, "%s", g->why);
		return g->end == HTTP_NO_CONNECTION ? CALL_AGAIN : CALL_BROKEN;
	}
	k->status = g->status;
	return g->status == 200 ? take_success(k, g->body) : take_failure(k, g->status, g->body);
}
