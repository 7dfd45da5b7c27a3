#include "control/people.h"

#include "control/changes.h"
#include "control/random_id.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

/* --- users and teams --- */

static int team_ensure(struct store *s, const char *team)
{
	return store_write(s, "INSERT INTO teams (id, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
			   SQL_TEXT(team), SQL_INT(store_now_ms()));
}

int team_add(struct store *s, const char *team)
{
	int rc = store_begin(s);

	if (rc < 0)
		return rc;
	rc = team_ensure(s, team);
	return store_end(s, rc == 0 ? -EEXIST : rc);
}

static int member_insert(struct store *s, const char *user, const char *team)
{
	struct change c = {.kind = CHANGE_MEMBER};
	int rc = store_write(s, "INSERT INTO members (user_id, team_id, created_at) VALUES ($1, $2, $3)",
			     SQL_TEXT(user), SQL_TEXT(team), SQL_INT(store_now_ms()));

	if (rc < 0)
		return rc;
	strcpy(c.user, user);
	strcpy(c.team, team);
	return change_add(s, &c);
}

static int user_insert(struct store *s, const char *user, const char *team)
{
	int rc = store_write(s, "INSERT INTO users (id, created_at) VALUES ($1, $2)", SQL_TEXT(user),
			     SQL_INT(store_now_ms()));

	if (rc >= 0)
		rc = team_ensure(s, team);
	return rc < 0 ? rc : member_insert(s, user, team);
}

int user_add(struct store *s, const char *user, const char *team)
{
	int rc = store_begin(s);

	return rc < 0 ? rc : store_end(s, user_insert(s, user, team ? team : user));
}

/* A change for each of a list of rows: collected first, since a connection runs one statement at a time. */
struct subjects {
	struct change list[4 * KEYS_PER_USER_MAX]; /* its keys, and its teams */
	uint32_t count;
};

static int on_subject(void *ctx, const struct store_row *row)
{
	struct subjects *l = ctx;
	struct change *c = &l->list[l->count];

	if (l->count == ARRAY_LEN(l->list))
		return -EOVERFLOW;
	if (!store_row_text(row, 0, c->key, sizeof(c->key)) || !store_row_text(row, 1, c->user, sizeof(c->user)) ||
	    !store_row_text(row, 2, c->team, sizeof(c->team)))
		return -EIO;
	c->kind = c->key[0] ? CHANGE_KEY : CHANGE_MEMBER;
	l->count++;
	return 0;
}

static int user_delete(struct store *s, const char *user, struct subjects *l)
{
	int rc = store_query(s, "SELECT DISTINCT fingerprint, '', '' FROM ssh_keys WHERE user_id = $1", on_subject, l,
			     SQL_TEXT(user));

	if (rc >= 0)
		rc = store_query(s, "SELECT '', user_id, team_id FROM members WHERE user_id = $1", on_subject, l,
				 SQL_TEXT(user));
	if (rc >= 0)
		rc = store_write(s, "DELETE FROM users WHERE id = $1", SQL_TEXT(user));
	if (rc == 0)
		return -ENOENT;
	for (uint32_t i = 0; rc >= 0 && i < l->count; i++)
		rc = change_add(s, &l->list[i]);
	return rc;
}

int user_remove(struct store *s, const char *user)
{
	struct subjects *l = calloc(1, sizeof(*l));
	int rc = l ? store_begin(s) : -ENOMEM;

	if (rc == 0)
		rc = store_end(s, user_delete(s, user, l));
	free(l);
	return rc;
}

/* --- memberships --- */

int member_add(struct store *s, const char *user, const char *team)
{
	int rc = store_begin(s);

	return rc < 0 ? rc : store_end(s, member_insert(s, user, team));
}

static int member_delete(struct store *s, const char *user, const char *team)
{
	struct change c = {.kind = CHANGE_MEMBER};
	int rc = store_write(s, "DELETE FROM members WHERE user_id = $1 AND team_id = $2", SQL_TEXT(user),
			     SQL_TEXT(team));

	if (rc <= 0)
		return rc < 0 ? rc : -ENOENT;
	strcpy(c.user, user);
	strcpy(c.team, team);
	return change_add(s, &c);
}

int member_remove(struct store *s, const char *user, const char *team)
{
	int rc = store_begin(s);

	return rc < 0 ? rc : store_end(s, member_delete(s, user, team));
}

int member_is(struct store *s, const char *user, const char *team)
{
	return store_query(s, "SELECT 1 FROM members WHERE user_id = $1 AND team_id = $2", NULL, NULL, SQL_TEXT(user),
			   SQL_TEXT(team));
}

static int on_team(void *ctx, const struct store_row *row)
{
	return store_row_text(row, 0, ctx, TEAM_ID_MAX + 1) ? 0 : -EIO;
}

int member_first_team(struct store *s, const char *user, char ret_team[TEAM_ID_MAX + 1])
{
	int rc = store_query(s, "SELECT team_id FROM members WHERE user_id = $1 ORDER BY created_at, team_id LIMIT 1",
			     on_team, ret_team, SQL_TEXT(user));

	return rc == 0 ? -ENOENT : rc < 0 ? rc : 0;
}

/* --- tokens --- */

static void token_hash(struct bytes text, char ret_hash[TOKEN_HASH_CHARS + 1])
{
	uint8_t hash[crypto_hash_sha256_BYTES];

	/* A token is 256 random bits: a plain hash is as good as a slow one. */
	crypto_hash_sha256(hash, text.p, text.n);
	sodium_bin2hex(ret_hash, TOKEN_HASH_CHARS + 1, hash, sizeof(hash));
}

int token_create(struct store *s, struct token *t, char ret_text[TOKEN_CHARS + 1])
{
	char hash[TOKEN_HASH_CHARS + 1];
	uint8_t secret[32];
	int rc;

	_Static_assert(TOKEN_CHARS == 4 + (sizeof(secret) * 8 + 5) / 6, "prefix and unpadded base64");
	randombytes_buf(secret, sizeof(secret));
	memcpy(ret_text, "rgt_", 4);
	sodium_bin2base64(ret_text + 4, TOKEN_CHARS + 1 - 4, secret, sizeof(secret),
			  sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	sodium_memzero(secret, sizeof(secret));
	token_hash(bytes_str(ret_text), hash);
	random_id("tok-", t->id, sizeof(t->id));
	t->created_at = store_now_ms();
	rc = store_write(s,
			 "INSERT INTO tokens (id, hash, user_id, name, created_at, expires_at)"
			 " VALUES ($1, $2, $3, $4, $5, $6)",
			 SQL_TEXT(t->id), SQL_TEXT(hash), SQL_TEXT(t->user), SQL_TEXT(t->name), SQL_INT(t->created_at),
			 SQL_INT(t->expires_at));
	return rc < 0 ? rc : 0;
}

static int on_user(void *ctx, const struct store_row *row)
{
	return store_row_text(row, 0, ctx, USER_ID_MAX + 1) ? 0 : -EIO;
}

int token_find(struct store *s, struct bytes text, char ret_user[USER_ID_MAX + 1])
{
	char hash[TOKEN_HASH_CHARS + 1];
	int rc;

	if (text.n != TOKEN_CHARS)
		return -ENOENT;
	token_hash(text, hash);
	rc = store_query(s, "SELECT user_id FROM tokens WHERE hash = $1 AND (expires_at = 0 OR expires_at > $2)",
			 on_user, ret_user, SQL_TEXT(hash), SQL_INT(store_now_ms()));
	return rc == 0 ? -ENOENT : rc < 0 ? rc : 0;
}

int token_revoke(struct store *s, const char *id)
{
	int rc = store_write(s, "DELETE FROM tokens WHERE id = $1", SQL_TEXT(id));

	return rc == 0 ? -ENOENT : rc < 0 ? rc : 0;
}
