#include "control/changes.h"

#include <errno.h>
#include <string.h>

static const char *const kinds[] = {"key", "member", "sandbox", "moved"};

int change_add(struct store *s, struct change *c)
{
	int rc;

	ASSERT(s->is_in_transaction);
	rc = store_exec(s, "UPDATE feed SET seq = seq + 1 WHERE id = 1 RETURNING seq", NULL, 0, store_on_int, &c->seq);
	if (rc != 1)
		return rc < 0 ? rc : -EIO;
	return store_write(s,
			   "INSERT INTO changes (seq, at, kind, fingerprint, user_id, team_id, sandbox_id)"
			   " VALUES ($1, $2, $3, $4, $5, $6, $7)",
			   SQL_INT(c->seq), SQL_INT(store_now_ms()), SQL_TEXT(kinds[c->kind]), SQL_TEXT(c->key),
			   SQL_TEXT(c->user), SQL_TEXT(c->team), SQL_TEXT(c->sandbox));
}

static int on_range(void *ctx, const struct store_row *row)
{
	struct feed_range *r = ctx;

	r->low = store_row_int(row, 0);
	r->last = store_row_int(row, 1);
	return 0;
}

int changes_range(struct store *s, struct feed_range *ret_range)
{
	int rc = store_exec(s, "SELECT low, seq FROM feed WHERE id = 1", NULL, 0, on_range, ret_range);

	return rc == 1 ? 0 : rc < 0 ? rc : -EIO;
}

struct reading {
	change_fn *on_change;
	void *ctx;
};

static int on_row(void *ctx, const struct store_row *row)
{
	struct reading *r = ctx;
	struct change c = {.seq = store_row_int(row, 0)};
	char kind[16];
	size_t i = 0;

	if (!store_row_text(row, 1, kind, sizeof(kind)) || !store_row_text(row, 2, c.key, sizeof(c.key)) ||
	    !store_row_text(row, 3, c.user, sizeof(c.user)) || !store_row_text(row, 4, c.team, sizeof(c.team)) ||
	    !store_row_text(row, 5, c.sandbox, sizeof(c.sandbox)))
		return -EIO;
	while (i < ARRAY_LEN(kinds) && strcmp(kinds[i], kind) != 0)
		i++;
	if (i == ARRAY_LEN(kinds))
		return -EIO;
	c.kind = (enum change_kind)i;
	return r->on_change(r->ctx, &c);
}

int changes_read(struct store *s, int64_t since, uint32_t most, change_fn *on_change, void *ctx)
{
	struct reading r = {.on_change = on_change, .ctx = ctx};

	return store_query(s,
			   "SELECT seq, kind, fingerprint, user_id, team_id, sandbox_id FROM changes"
			   " WHERE seq > $1 ORDER BY seq LIMIT $2",
			   on_row, &r, SQL_INT(since), SQL_INT(most));
}

int changes_since_time(struct store *s, int64_t time_ms, int64_t *ret_seq)
{
	int rc =
		store_query(s,
			    "SELECT coalesce((SELECT max(seq) FROM changes WHERE at < $1), low) FROM feed WHERE id = 1",
			    store_on_int, ret_seq, SQL_INT(time_ms));

	return rc == 1 ? 0 : rc < 0 ? rc : -EIO;
}

static int trim(struct store *s, int64_t kept_count, int64_t kept_ms)
{
	int64_t low = 0;
	int rc = store_query(s,
			     "SELECT coalesce(max(seq), 0) FROM changes"
			     " WHERE at < $1 OR seq <= (SELECT seq FROM feed WHERE id = 1) - $2",
			     store_on_int, &low, SQL_INT(store_now_ms() - kept_ms), SQL_INT(kept_count));

	if (rc < 0 || low == 0)
		return rc < 0 ? rc : 0;
	rc = store_write(s, "DELETE FROM changes WHERE seq <= $1", SQL_INT(low));
	if (rc < 0)
		return rc;
	return store_write(s, "UPDATE feed SET low = $1 WHERE id = 1", SQL_INT(low));
}

int changes_trim(struct store *s, int64_t kept_count, int64_t kept_ms)
{
	int rc = store_begin(s);

	return rc < 0 ? rc : store_end(s, trim(s, kept_count, kept_ms));
}
