/*
 * control/sandboxes.h - sandboxes in the database: whose, in what state, and where.
 *
 * Every move of state or address is a change of the feed. Thread: that of the connection.
 */
#ifndef CONTROL_SANDBOXES_H
#define CONTROL_SANDBOXES_H

#include "control/limits.h"
#include "control/state.h"
#include "control/store.h"
#include "core/ids.h"

#define PROCD_URL_MAX 255
#define PROCD_KEY_MAX 63
#define DRIVER_NAME_MAX 31
#define REASON_MAX 255

/* The driver of sandboxes that were imported: nobody moves them. */
#define DRIVER_STATIC "static"

struct sandbox {
	char id[SANDBOX_ID_MAX + 1];
	char team[TEAM_ID_MAX + 1];
	enum sandbox_state state;
	bool auto_resume;
	char driver[DRIVER_NAME_MAX + 1];
	char procd_url[PROCD_URL_MAX + 1]; /* "" where it has none now */
	char procd_key[PROCD_KEY_MAX + 1];
	char reason[REASON_MAX + 1]; /* why it is not what was asked for; "": it is */
	int64_t failed_at;           /* since when, ms; 0 */
	int64_t created_at, updated_at;
	int64_t version; /* of this reading */
};

/* Fills the times. -EEXIST; -ENOENT: no such team. */
MUST_USE int sandbox_add(struct store *s, struct sandbox *b);
/* Makes or changes one with a fixed address. -EEXIST: there is one of that ID in another team or of a driver. */
MUST_USE int sandbox_import(struct store *s, struct sandbox *b);
/* -ENOENT. */
MUST_USE int sandbox_find(struct store *s, const char *id, struct sandbox *ret);
MUST_USE int sandbox_remove(struct store *s, const char *id);

/* 1: it was in `from` and is in `to` now, its reason forgotten; 0: it was not (any more). */
MUST_USE int sandbox_move(struct store *s, const char *id, enum sandbox_state from, enum sandbox_state to);
/*
 * What a driver says, in the fields id, state, procd_url, procd_key and reason: is so from now on. 1, or 0 for an unknown one and where
 * nothing is new.
 */
MUST_USE int sandbox_set(struct store *s, const struct sandbox *b);

typedef int sandbox_fn(void *ctx, const struct sandbox *b);
/* Those of the teams that the user is in; NULL: all. The oldest first, at most LIST_MAX for a user. */
MUST_USE int sandbox_list(struct store *s, const char *user, sandbox_fn *on_sandbox, void *ctx);

/* Whether the grant's user is in its team and, unless it is "", has this key there. 1, 0 or negative errno. */
MUST_USE int grant_is_good(struct store *s, const struct grant *g, const char *fingerprint);

#endif
