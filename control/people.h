/*
 * control/people.h - users, teams, who is in which, and users' tokens.
 *
 * IDs that are given were checked (core/ids.h). Thread: that of the connection.
 */
#ifndef CONTROL_PEOPLE_H
#define CONTROL_PEOPLE_H

#include "control/limits.h"
#include "control/store.h"
#include "core/ids.h"

/* -EEXIST where it is there already. */
MUST_USE int team_add(struct store *s, const char *team);
/* With a first team, which is made where it is not there; NULL: one of the user's own, of the same name. */
MUST_USE int user_add(struct store *s, const char *user, const char *team);
/* With its tokens, keys and memberships. -ENOENT. */
MUST_USE int user_remove(struct store *s, const char *user);

/* -EEXIST, -ENOENT. */
MUST_USE int member_add(struct store *s, const char *user, const char *team);
MUST_USE int member_remove(struct store *s, const char *user, const char *team);
/* 1, 0 or negative errno. */
MUST_USE int member_is(struct store *s, const char *user, const char *team);
/* The team that the user was in first. -ENOENT without one. */
MUST_USE int member_first_team(struct store *s, const char *user, char ret_team[TEAM_ID_MAX + 1]);

/* "rgt_" and 32 random bytes in base64url: 47 characters. */
#define TOKEN_CHARS 47
#define TOKEN_HASH_CHARS 64

struct token {
	char id[32];
	char user[USER_ID_MAX + 1];
	char name[TOKEN_NAME_MAX + 1];
	int64_t created_at, expires_at; /* expires_at 0: never */
};

/* Fills id and created_at. The text is shown this once: only its hash is kept. -ENOENT: no such user. */
MUST_USE int token_create(struct store *s, struct token *t, char ret_text[TOKEN_CHARS + 1]);
/* Whose it is. -ENOENT for one that is unknown, revoked or expired, whatever its form. */
MUST_USE int token_find(struct store *s, struct bytes text, char ret_user[USER_ID_MAX + 1]);
MUST_USE int token_revoke(struct store *s, const char *id);

#endif
