#include "control/keys.h"

#include "control/changes.h"
#include "control/people.h"
#include "control/random_id.h"

#include <errno.h>
#include <string.h>

static int key_changed(struct store *s, const char *fingerprint)
{
	struct change c = {.kind = CHANGE_KEY};

	strcpy(c.key, fingerprint);
	return change_add(s, &c);
}

/* Within the transaction: what no constraint of the table says. */
static int key_may_add(struct store *s, const struct ssh_key *k)
{
	int64_t others = 0, teams = 0, keys = 0;
	int rc = member_is(s, k->user, k->team);

	if (rc <= 0)
		return rc < 0 ? rc : -ENOENT;
	rc = store_query(s, "SELECT count(*) FROM ssh_keys WHERE fingerprint = $1 AND user_id <> $2", store_on_int,
			 &others, SQL_TEXT(k->fingerprint), SQL_TEXT(k->user));
	if (rc >= 0)
		rc = store_query(s, "SELECT count(*) FROM ssh_keys WHERE fingerprint = $1", store_on_int, &teams,
				 SQL_TEXT(k->fingerprint));
	if (rc >= 0)
		rc = store_query(s, "SELECT count(*) FROM ssh_keys WHERE user_id = $1", store_on_int, &keys,
				 SQL_TEXT(k->user));
	if (rc < 0)
		return rc;
	if (others > 0)
		return -EEXIST;
	return teams >= GRANTS_MAX || keys >= KEYS_PER_USER_MAX ? -EDQUOT : 0;
}

static int key_insert(struct store *s, const struct ssh_key *k)
{
	int rc = key_may_add(s, k);

	if (rc < 0)
		return rc;
	rc = store_write(s,
			 "INSERT INTO ssh_keys (id, user_id, team_id, name, key_type, public_key, fingerprint, comment,"
			 " created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
			 SQL_TEXT(k->id), SQL_TEXT(k->user), SQL_TEXT(k->team), SQL_TEXT(k->name), SQL_TEXT(k->type),
			 SQL_TEXT(k->text), SQL_TEXT(k->fingerprint), SQL_TEXT(k->comment), SQL_INT(k->created_at),
			 SQL_INT(k->updated_at));
	return rc < 0 ? rc : key_changed(s, k->fingerprint);
}

int key_add(struct store *s, struct ssh_key *k)
{
	int rc = store_begin(s);

	if (rc < 0)
		return rc;
	random_id("key-", k->id, sizeof(k->id));
	k->created_at = k->updated_at = store_now_ms();
	rc = store_end(s, key_insert(s, k));
	return rc < 0 ? rc : 0;
}

static int on_fingerprint(void *ctx, const struct store_row *row)
{
	return store_row_text(row, 0, ctx, FINGERPRINT_CHARS + 1) ? 0 : -EIO;
}

static int key_delete(struct store *s, const char *user, const char *id)
{
	char fingerprint[FINGERPRINT_CHARS + 1];
	int rc = store_query(s, "DELETE FROM ssh_keys WHERE id = $1 AND user_id = $2 RETURNING fingerprint",
			     on_fingerprint, fingerprint, SQL_TEXT(id), SQL_TEXT(user));

	if (rc <= 0)
		return rc < 0 ? rc : -ENOENT;
	return key_changed(s, fingerprint);
}

int key_remove(struct store *s, const char *user, const char *id)
{
	int rc = store_begin(s);

	if (rc < 0)
		return rc;
	rc = store_end(s, key_delete(s, user, id));
	return rc < 0 ? rc : 0;
}

struct listing {
	key_fn *on_key;
	void *ctx;
};

static int on_key_row(void *ctx, const struct store_row *row)
{
	struct listing *l = ctx;
	struct ssh_key k = {.created_at = store_row_int(row, 8), .updated_at = store_row_int(row, 9)};

	if (!store_row_text(row, 0, k.id, sizeof(k.id)) || !store_row_text(row, 1, k.user, sizeof(k.user)) ||
	    !store_row_text(row, 2, k.team, sizeof(k.team)) || !store_row_text(row, 3, k.name, sizeof(k.name)) ||
	    !store_row_text(row, 4, k.type, sizeof(k.type)) || !store_row_text(row, 5, k.text, sizeof(k.text)) ||
	    !store_row_text(row, 6, k.fingerprint, sizeof(k.fingerprint)) ||
	    !store_row_text(row, 7, k.comment, sizeof(k.comment)))
		return -EIO;
	return l->on_key(l->ctx, &k);
}

int key_list(struct store *s, const char *user, const char *team, key_fn *on_key, void *ctx)
{
	struct listing l = {.on_key = on_key, .ctx = ctx};

	return store_query(s,
			   "SELECT id, user_id, team_id, name, key_type, public_key, fingerprint, comment, created_at,"
			   " updated_at FROM ssh_keys WHERE user_id = $1 AND ($2 = '' OR team_id = $2)"
			   " ORDER BY created_at, id",
			   on_key_row, &l, SQL_TEXT(user), SQL_TEXT(team ? team : ""));
}

static int on_grant(void *ctx, const struct store_row *row)
{
	struct key_grants *g = ctx;
	struct grant *one = &g->grants[g->count];

	if (g->count == GRANTS_MAX)
		return 0;
	if (!store_row_text(row, 0, g->text, sizeof(g->text)) ||
	    !store_row_text(row, 1, one->team, sizeof(one->team)) ||
	    !store_row_text(row, 2, one->user, sizeof(one->user)))
		return -EIO;
	g->count++;
	return 0;
}

int key_grants_find(struct store *s, const char *fingerprint, struct key_grants *ret)
{
	struct feed_range range;
	int rc = changes_range(s, &range); /* before what it is the version of */

	if (rc < 0)
		return rc;
	ret->version = range.last;
	ret->count = 0;
	rc = store_query(s,
			 "SELECT k.public_key, k.team_id, k.user_id FROM ssh_keys k JOIN members m"
			 " ON m.user_id = k.user_id AND m.team_id = k.team_id WHERE k.fingerprint = $1"
			 " ORDER BY k.created_at, k.team_id",
			 on_grant, ret, SQL_TEXT(fingerprint));
	if (rc < 0)
		return rc;
	return ret->count > 0 ? 0 : -ENOENT;
}
