#include "control/sandboxes.h"

#include "control/changes.h"

#include <errno.h>
#include <string.h>

#define COLUMNS \
	"id, team_id, state, auto_resume, driver, procd_url, procd_key, reason, failed_at, created_at, updated_at"

static int sandbox_changed(struct store *s, const char *id, enum change_kind kind)
{
	struct change c = {.kind = kind};

	strcpy(c.sandbox, id);
	return change_add(s, &c);
}

static int insert(struct store *s, struct sandbox *b)
{
	int rc;

	b->created_at = b->updated_at = store_now_ms();
	rc = store_write(s, "INSERT INTO sandboxes (" COLUMNS ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
			 SQL_TEXT(b->id), SQL_TEXT(b->team), SQL_TEXT(sandbox_state_name(b->state)),
			 SQL_INT(b->auto_resume), SQL_TEXT(b->driver), SQL_TEXT(b->procd_url), SQL_TEXT(b->procd_key),
			 SQL_TEXT(b->reason), SQL_INT(b->failed_at), SQL_INT(b->created_at), SQL_INT(b->updated_at));
	return rc < 0 ? rc : sandbox_changed(s, b->id, CHANGE_MOVED);
}

int sandbox_add(struct store *s, struct sandbox *b)
{
	int rc = store_begin(s);

	if (rc < 0)
		return rc;
	rc = store_end(s, insert(s, b));
	return rc < 0 ? rc : 0;
}

static int import(struct store *s, struct sandbox *b)
{
	struct sandbox old;
	int rc = sandbox_find(s, b->id, &old);

	if (rc == -ENOENT)
		return insert(s, b);
	if (rc < 0)
		return rc;
	if (strcmp(old.team, b->team) != 0 || strcmp(old.driver, b->driver) != 0)
		return -EEXIST;
	b->created_at = old.created_at;
	b->updated_at = store_now_ms();
	rc = store_write(s,
			 "UPDATE sandboxes SET state = $2, auto_resume = $3, procd_url = $4, procd_key = $5,"
			 " updated_at = $6 WHERE id = $1",
			 SQL_TEXT(b->id), SQL_TEXT(sandbox_state_name(b->state)), SQL_INT(b->auto_resume),
			 SQL_TEXT(b->procd_url), SQL_TEXT(b->procd_key), SQL_INT(b->updated_at));
	return rc < 0 ? rc : sandbox_changed(s, b->id, CHANGE_MOVED);
}

int sandbox_import(struct store *s, struct sandbox *b)
{
	int rc = store_begin(s);

	if (rc < 0)
		return rc;
	strcpy(b->driver, DRIVER_STATIC);
	rc = store_end(s, import(s, b));
	return rc < 0 ? rc : 0;
}

static int sandbox_read(const struct store_row *row, struct sandbox *b)
{
	char state[16];

	if (!store_row_text(row, 0, b->id, sizeof(b->id)) || !store_row_text(row, 1, b->team, sizeof(b->team)) ||
	    !store_row_text(row, 2, state, sizeof(state)) || !sandbox_state_parse(state, &b->state) ||
	    !store_row_text(row, 4, b->driver, sizeof(b->driver)) ||
	    !store_row_text(row, 5, b->procd_url, sizeof(b->procd_url)) ||
	    !store_row_text(row, 6, b->procd_key, sizeof(b->procd_key)) ||
	    !store_row_text(row, 7, b->reason, sizeof(b->reason)))
		return -EIO;
	b->auto_resume = store_row_int(row, 3) != 0;
	b->failed_at = store_row_int(row, 8);
	b->created_at = store_row_int(row, 9);
	b->updated_at = store_row_int(row, 10);
	return 0;
}

static int on_one(void *ctx, const struct store_row *row)
{
	return sandbox_read(row, ctx);
}

int sandbox_find(struct store *s, const char *id, struct sandbox *ret)
{
	struct feed_range range;
	int rc = changes_range(s, &range); /* before what it is the version of */

	if (rc < 0)
		return rc;
	ret->version = range.last;
	rc = store_query(s, "SELECT " COLUMNS " FROM sandboxes WHERE id = $1", on_one, ret, SQL_TEXT(id));
	return rc == 0 ? -ENOENT : rc < 0 ? rc : 0;
}

static int delete(struct store *s, const char *id)
{
	int rc = store_write(s, "DELETE FROM sandboxes WHERE id = $1", SQL_TEXT(id));

	if (rc <= 0)
		return rc < 0 ? rc : -ENOENT;
	return sandbox_changed(s, id, CHANGE_SANDBOX);
}

int sandbox_remove(struct store *s, const char *id)
{
	int rc = store_begin(s);

	if (rc < 0)
		return rc;
	rc = store_end(s, delete (s, id));
	return rc < 0 ? rc : 0;
}

static int move(struct store *s, const char *id, enum sandbox_state from, enum sandbox_state to)
{
	int rc = store_write(s,
			     "UPDATE sandboxes SET state = $3, reason = '', failed_at = 0, updated_at = $4"
			     " WHERE id = $1 AND state = $2",
			     SQL_TEXT(id), SQL_TEXT(sandbox_state_name(from)), SQL_TEXT(sandbox_state_name(to)),
			     SQL_INT(store_now_ms()));

	if (rc <= 0)
		return rc;
	rc = sandbox_changed(s, id, CHANGE_MOVED);
	return rc < 0 ? rc : 1;
}

int sandbox_move(struct store *s, const char *id, enum sandbox_state from, enum sandbox_state to)
{
	int rc = store_begin(s);

	return rc < 0 ? rc : store_end(s, move(s, id, from, to));
}

static int set(struct store *s, const struct sandbox *b)
{
	int64_t now = store_now_ms();
	struct sandbox old;
	int rc = sandbox_find(s, b->id, &old);

	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	if (old.state == b->state && !b->reason[0] && !old.reason[0] && strcmp(old.procd_url, b->procd_url) == 0 &&
	    strcmp(old.procd_key, b->procd_key) == 0)
		return 0;
	rc = store_write(s,
			 "UPDATE sandboxes SET state = $2, procd_url = $3, procd_key = $4, reason = $5, failed_at = $6,"
			 " updated_at = $7 WHERE id = $1",
			 SQL_TEXT(b->id), SQL_TEXT(sandbox_state_name(b->state)), SQL_TEXT(b->procd_url),
			 SQL_TEXT(b->procd_key), SQL_TEXT(b->reason), SQL_INT(b->reason[0] ? now : 0), SQL_INT(now));
	if (rc >= 0)
		rc = sandbox_changed(s, b->id, CHANGE_MOVED);
	return rc < 0 ? rc : 1;
}

int sandbox_set(struct store *s, const struct sandbox *b)
{
	int rc = store_begin(s);

	return rc < 0 ? rc : store_end(s, set(s, b));
}

struct listing {
	sandbox_fn *on_sandbox;
	void *ctx;
};

static int on_listed(void *ctx, const struct store_row *row)
{
	struct listing *l = ctx;
	struct sandbox b = {0};
	int rc = sandbox_read(row, &b);

	return rc < 0 ? rc : l->on_sandbox(l->ctx, &b);
}

int sandbox_list(struct store *s, const char *user, sandbox_fn *on_sandbox, void *ctx)
{
	struct listing l = {.on_sandbox = on_sandbox, .ctx = ctx};

	if (!user)
		return store_exec(s, "SELECT " COLUMNS " FROM sandboxes ORDER BY created_at, id", NULL, 0, on_listed,
				  &l);
	return store_query(s,
			   "SELECT " COLUMNS " FROM sandboxes WHERE team_id IN"
			   " (SELECT team_id FROM members WHERE user_id = $1) ORDER BY created_at, id LIMIT $2",
			   on_listed, &l, SQL_TEXT(user), SQL_INT(LIST_MAX));
}

int grant_is_good(struct store *s, const struct grant *g, const char *fingerprint)
{
	return store_query(s,
			   "SELECT 1 FROM members m WHERE m.user_id = $1 AND m.team_id = $2 AND ($3 = '' OR EXISTS"
			   " (SELECT 1 FROM ssh_keys k WHERE k.user_id = m.user_id AND k.team_id = m.team_id"
			   " AND k.fingerprint = $3))",
			   NULL, NULL, SQL_TEXT(g->user), SQL_TEXT(g->team), SQL_TEXT(fingerprint));
}
