/*
 * control/migrations.c - the tables, as numbered steps. A step that was released is never changed: add another.
 *
 * Times are milliseconds since 1970. IDs and states were checked before they came here.
 */
#include "control/store.h"

#include <errno.h>
#include <stdio.h>

#define STATEMENTS_MAX 24

static const char *const steps[][STATEMENTS_MAX] = {
	{
		"CREATE TABLE users (id TEXT PRIMARY KEY, created_at BIGINT NOT NULL)",
		"CREATE TABLE teams (id TEXT PRIMARY KEY, created_at BIGINT NOT NULL)",
		"CREATE TABLE members ("
		" user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,"
		" team_id TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,"
		" created_at BIGINT NOT NULL, PRIMARY KEY (user_id, team_id))",
		/* hash: SHA-256 of the token's text, in hex. expires_at 0: never. */
		"CREATE TABLE tokens ("
		" id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE,"
		" user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,"
		" name TEXT NOT NULL, created_at BIGINT NOT NULL, expires_at BIGINT NOT NULL)",
		/* One row for each team in which its user registered the key. */
		"CREATE TABLE ssh_keys ("
		" id TEXT PRIMARY KEY,"
		" user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,"
		" team_id TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,"
		" name TEXT NOT NULL, key_type TEXT NOT NULL, public_key TEXT NOT NULL, fingerprint TEXT NOT NULL,"
		" comment TEXT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL,"
		" UNIQUE (fingerprint, team_id))",
		"CREATE INDEX ssh_keys_user ON ssh_keys (user_id)",
		/* reason: why it is not what was last asked for, or ''; failed_at: since when, or 0. */
		"CREATE TABLE sandboxes ("
		" id TEXT PRIMARY KEY,"
		" team_id TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,"
		" state TEXT NOT NULL, auto_resume BIGINT NOT NULL, driver TEXT NOT NULL,"
		" procd_url TEXT NOT NULL, procd_key TEXT NOT NULL,"
		" reason TEXT NOT NULL, failed_at BIGINT NOT NULL,"
		" created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL)",
		"CREATE INDEX sandboxes_team ON sandboxes (team_id)",
		/* low: the last seq whose row is gone. */
		"CREATE TABLE feed (id BIGINT PRIMARY KEY, seq BIGINT NOT NULL, low BIGINT NOT NULL)",
		"CREATE TABLE changes ("
		" seq BIGINT PRIMARY KEY, at BIGINT NOT NULL, kind TEXT NOT NULL, fingerprint TEXT NOT NULL,"
		" user_id TEXT NOT NULL, team_id TEXT NOT NULL, sandbox_id TEXT NOT NULL)",
		"CREATE INDEX changes_at ON changes (at)",
	},
	{
		/* JSON, or '': none. Of a team, what is forbidden in all of its sandboxes. */
		"ALTER TABLE teams ADD COLUMN policy TEXT NOT NULL DEFAULT ''",
		"ALTER TABLE sandboxes ADD COLUMN policy TEXT NOT NULL DEFAULT ''",
	},
};

static int step_apply(struct store *s, size_t i)
{
	int64_t now = store_now_ms();
	int rc = 0;

	for (size_t k = 0; rc >= 0 && steps[i][k]; k++)
		rc = store_exec(s, steps[i][k], NULL, 0, NULL, NULL);
	/* Versions begin at the time: a database made anew never counts below what caches remember of an older one. */
	if (rc >= 0 && i == 0)
		rc = store_write(s, "INSERT INTO feed (id, seq, low) VALUES (1, $1, $2)", SQL_INT(now), SQL_INT(now));
	if (rc >= 0)
		rc = store_write(s, "INSERT INTO migrations (number, at) VALUES ($1, $2)", SQL_INT((int64_t)i + 1),
				 SQL_INT(now));
	return rc;
}

static int steps_apply(struct store *s, int64_t *ret_found)
{
	int64_t done = 0;
	int rc = store_exec(s, "CREATE TABLE IF NOT EXISTS migrations (number BIGINT PRIMARY KEY, at BIGINT NOT NULL)",
			    NULL, 0, NULL, NULL);

	if (rc >= 0)
		rc = store_exec(s, "SELECT max(number) FROM migrations", NULL, 0, store_on_int, &done);
	*ret_found = done;
	if (rc >= 0 && done > (int64_t)ARRAY_LEN(steps))
		return -ENOTSUP;
	for (size_t i = (size_t)done; rc >= 0 && i < ARRAY_LEN(steps); i++)
		rc = step_apply(s, i);
	return rc;
}

int store_migrate(struct store *s, char ret_error[STORE_ERROR_BYTES])
{
	int64_t found = 0;
	int rc = store_begin(s);

	if (rc == 0)
		rc = store_end(s, steps_apply(s, &found));
	if (rc == -ENOTSUP)
		snprintf(ret_error, STORE_ERROR_BYTES,
			 "the database is of a newer version (step %lld; this program knows %zu)", (long long)found,
			 ARRAY_LEN(steps));
	else if (rc < 0)
		snprintf(ret_error, STORE_ERROR_BYTES, "the database's tables cannot be made (the log says more)");
	return rc < 0 ? rc : 0;
}
