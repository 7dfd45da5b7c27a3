/*
 * upstream/control/call.h - one call: what is sent, and what an answer makes of it.
 *
 * Pure. Thread: any.
 */
#ifndef UPSTREAM_CONTROL_CALL_H
#define UPSTREAM_CONTROL_CALL_H

#include "upstream/control/client.h"
#include "upstream/control/http.h"
#include "upstream/control/limits.h"

enum call_kind { CALL_KEY, CALL_ROUTE, CALL_CHANGES };

#define CALL_HEADER_COUNT_MAX 4

/* "X-SSH-Key-Grants: " and GRANTS_MAX times "team=user," */
#define CALL_GRANTS_BYTES (32 + GRANTS_MAX * (TEAM_ID_MAX + USER_ID_MAX + 2))

struct call_request {
	char url[CONTROL_URL_MAX + 256];
	const char *headers[CALL_HEADER_COUNT_MAX]; /* into those below */
	size_t header_count;
	char token[CONTROL_TOKEN_MAX + 32]; /* secret */
	char grants[CALL_GRANTS_BYTES];
	char fingerprint[FINGERPRINT_CHARS + 32];
};

/* wait_s: how long the answer may be held back. -EINVAL: a name in the call is none. */
MUST_USE int call_request_make(const struct control_call *k, const char *base, const char *token, uint32_t wait_s,
			       struct call_request *ret);

/* What an answer says of the control plane. */
enum call_verdict {
	CALL_ANSWERED, /* it is well; also where the answer is no */
	CALL_UNCLEAR,  /* neither */
	CALL_BROKEN,   /* it is not well */
	CALL_AGAIN,    /* the same, and the call may be tried again */
};

/* Fills the call's result, reason, status and answer. The list of changes is the caller's to free. */
enum call_verdict call_take(struct control_call *k, const struct http_get *g);

/* CONTROL_FAILED, with a reason. */
__attribute__((format(printf, 2, 3))) void call_fail(struct control_call *k, const char *format, ...);

static inline struct control_key_call *call_key(struct control_call *k)
{
	return CONTAINER_OF(k, struct control_key_call, call);
}

static inline struct control_route_call *call_route(struct control_call *k)
{
	return CONTAINER_OF(k, struct control_route_call, call);
}

static inline struct control_changes_call *call_changes(struct control_call *k)
{
	return CONTAINER_OF(k, struct control_changes_call, call);
}

#endif
