/*
 * control/keys.h - users' SSH keys in the database.
 *
 * A row is one key of one user in one team. Thread: that of the connection.
 */
#ifndef CONTROL_KEYS_H
#define CONTROL_KEYS_H

#include "control/limits.h"
#include "control/store.h"
#include "core/ids.h"
#include "core/pubkey.h"

/* Type, a blank, base64 without a comment. */
#define KEY_TEXT_MAX (PUBKEY_TYPE_MAX + 1 + (PUBKEY_BLOB_MAX + 2) / 3 * 4)

struct ssh_key {
	char id[32];
	char user[USER_ID_MAX + 1];
	char team[TEAM_ID_MAX + 1];
	char name[KEY_NAME_BYTES + 1];
	char type[PUBKEY_TYPE_MAX];
	char text[KEY_TEXT_MAX + 1];
	char fingerprint[FINGERPRINT_CHARS + 1];
	char comment[KEY_COMMENT_MAX + 1];
	int64_t created_at, updated_at;
};

/*
 * Fills id and the times. -EEXIST: another user has it, or this one in this team. -ENOENT: the user is not in that team. -EDQUOT: the user
 * has too many, or this one in too many teams.
 */
MUST_USE int key_add(struct store *s, struct ssh_key *k);
/* -ENOENT where this user has none of that ID. */
MUST_USE int key_remove(struct store *s, const char *user, const char *id);

typedef int key_fn(void *ctx, const struct ssh_key *k);
/* A user's, in one team or (NULL) in all; the oldest first. Returns how many. */
MUST_USE int key_list(struct store *s, const char *user, const char *team, key_fn *on_key, void *ctx);

struct key_grants {
	char text[KEY_TEXT_MAX + 1];
	struct grant grants[GRANTS_MAX];
	uint32_t count;
	int64_t version;
};

/* Who may log in with it: rows whose user is still in their team. -ENOENT for an unknown key, and for one without a grant. */
MUST_USE int key_grants_find(struct store *s, const char *fingerprint, struct key_grants *ret);

#endif
