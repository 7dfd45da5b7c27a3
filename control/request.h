/*
 * control/request.h - one HTTP request as its handler sees it, and its answer.
 *
 * A handler runs to its end without waiting and either answers or holds the answer (request_hold). Then it runs again,
 * from the beginning, when something has changed or the time is over: it keeps nothing but r->has_asked between the runs.
 *
 * Owner:  http.c, from the request line until the answer is sent.
 * Thread: one at a time.
 */
#ifndef CONTROL_REQUEST_H
#define CONTROL_REQUEST_H

#include "control/feed.h"
#include "control/limits.h"
#include "control/server.h"
#include "core/ids.h"

#include <jansson.h>
#include <microhttpd.h>

struct route;

struct request {
	struct server *server;
	struct MHD_Connection *connection;
	const struct route *route;
	char method[16];               /* as it came, cut; for the log */
	char *path;                    /* as it came, for the log */
	char id[PATH_SEGMENT_MAX + 1]; /* what stands for {id} in the route's path, decoded */
	char user[USER_ID_MAX + 1];    /* whose token it was; "" */
	char gateway[64];              /* the same of a gateway */
	struct {
		char *p;
		size_t n;
		bool is_too_long;
	} body;
	uint64_t began_ms;

	/* Holding the answer. */
	struct waiter waiter;
	bool is_held;   /* the handler's wish */
	bool is_over;   /* no more holding: the time is over */
	bool has_asked; /* the handler's own: it asked for a resume or a pause */

	/* The answer. */
	unsigned status;
	json_t *answer;
	char allow[32];   /* for 405 */
	bool is_answered; /* handed to the HTTP library */
};

/* Takes data. */
void answer_data(struct request *r, unsigned status, json_t *data);
__attribute__((format(printf, 4, 5))) void answer_error(struct request *r, unsigned status, const char *code,
							const char *format, ...);
/* The database failed. */
void answer_failure(struct request *r);

/*
 * Wants the answer to be held until there is a change of this sandbox ("": of anything) after `seen`, at most wait_s (and WAIT_S_MAX) after the
 * first time. False: the time is over, answer.
 */
MUST_USE bool request_hold(struct request *r, const char *sandbox, int64_t seen, uint32_t wait_s);

/* NULL where there is none. */
const char *request_header(const struct request *r, const char *name);
/* A number up to `most` in the query; 0 where there is none. False, and answered with 400, for anything else. */
MUST_USE bool request_number(struct request *r, const char *name, int64_t most, int64_t *ret_number);
const char *request_argument(const struct request *r, const char *name);
/* The body as a JSON object. NULL, and answered with 400. An empty body is an empty object where may_be_empty. */
MUST_USE json_t *request_object(struct request *r, bool may_be_empty);

/* RFC 3339, UTC, with milliseconds. */
json_t *json_time(int64_t ms);

/* --- routes --- */

enum route_auth {
	AUTH_NONE,
	AUTH_USER,    /* Authorization: Bearer TOKEN */
	AUTH_GATEWAY, /* X-Internal-Token: JWT */
};

typedef void handler_fn(struct request *r, struct store *s);

struct route {
	const char *method;
	const char *path; /* with {id}: one segment; or {rest}: all that follows */
	enum route_auth auth;
	handler_fn *handler;
};

/*
 * Sets r->route and r->id; else answers 404 or 405. HEAD is served as GET.
 */
MUST_USE bool route_find(struct request *r, const char *method, const char *path);

handler_fn handle_key_list, handle_key_add, handle_key_remove;
handler_fn handle_sandbox_list, handle_sandbox_get, handle_sandbox_create, handle_sandbox_pause, handle_sandbox_resume,
	handle_sandbox_remove;
handler_fn handle_grants, handle_target, handle_changes;
handler_fn handle_health, handle_openapi;

#endif
