/*
 * control/store_sqlite.c - the database as a file.
 *
 * Write-ahead log: readers never wait for a writer. Each commit is on the disk before it is answered: a key that was deleted stays
 * so when the power goes.
 */
#include "control/limits.h"
#include "control/store.h"
#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sqlite {
	struct store store;
	sqlite3 *db;
};

static int sqlite_error(struct sqlite *q, int code)
{
	int extended = sqlite3_extended_errcode(q->db);

	if (extended == SQLITE_CONSTRAINT_UNIQUE || extended == SQLITE_CONSTRAINT_PRIMARYKEY)
		return -EEXIST;
	if (extended == SQLITE_CONSTRAINT_FOREIGNKEY)
		return -ENOENT;
	if (code == SQLITE_BUSY || code == SQLITE_LOCKED) {
		log_event(LOG_WARN, "database", LOG_STR("error", "another writer held it too long"));
		return -EBUSY;
	}
	log_event(LOG_ERROR, "database", LOG_STR("error", sqlite3_errmsg(q->db)), LOG_I64("code", extended));
	return -EIO;
}

static int params_bind(sqlite3_stmt *st, const struct store_param *params, uint32_t count)
{
	int rc = SQLITE_OK;

	for (uint32_t i = 0; i < count && rc == SQLITE_OK; i++) {
		char name[8];
		int at;

		snprintf(name, sizeof(name), "$%u", i + 1);
		at = sqlite3_bind_parameter_index(st, name);
		ASSERT(at > 0);
		if (params[i].is_number)
			rc = sqlite3_bind_int64(st, at, params[i].number);
		else
			rc = sqlite3_bind_text(st, at, params[i].text, -1, SQLITE_STATIC);
	}
	return rc;
}

static int row_give(sqlite3_stmt *st, store_row_fn *on_row, void *ctx)
{
	struct store_row row = {.count = (uint32_t)sqlite3_column_count(st)};

	ASSERT(row.count <= STORE_COLUMNS_MAX);
	for (uint32_t i = 0; i < row.count; i++)
		row.columns[i] = (const char *)sqlite3_column_text(st, (int)i);
	return on_row ? on_row(ctx, &row) : 0;
}

/* Rows given, or changed where it gives none. */
static int statement_run(struct sqlite *q, sqlite3_stmt *st, store_row_fn *on_row, void *ctx)
{
	int count = 0, code, rc = 0;

	while ((code = sqlite3_step(st)) == SQLITE_ROW && rc == 0) {
		count++;
		rc = row_give(st, on_row, ctx);
	}
	if (rc < 0)
		return rc;
	if (code != SQLITE_DONE)
		return sqlite_error(q, code);
	return sqlite3_column_count(st) > 0 ? count : sqlite3_changes(q->db);
}

static int sqlite_exec(struct store *s, const char *sql, const struct store_param *params, uint32_t count,
		       store_row_fn *on_row, void *ctx)
{
	struct sqlite *q = (struct sqlite *)s;
	sqlite3_stmt *st;
	int code, rc;

	/* A transaction that the database ended by itself (no room, out of memory) needs no ROLLBACK. */
	if (strcmp(sql, "ROLLBACK") == 0 && sqlite3_get_autocommit(q->db))
		return 0;
	code = sqlite3_prepare_v2(q->db, sql, -1, &st, NULL);
	if (code != SQLITE_OK)
		return sqlite_error(q, code);
	code = params_bind(st, params, count);
	rc = code == SQLITE_OK ? statement_run(q, st, on_row, ctx) : sqlite_error(q, code);
	sqlite3_finalize(st);
	return rc;
}

static void sqlite_free(struct store *s)
{
	struct sqlite *q = (struct sqlite *)s;

	sqlite3_close(q->db);
	free(q);
}

static const struct store_ops sqlite_ops = {
	.exec = sqlite_exec,
	.begin_sql = "BEGIN IMMEDIATE",
	.free = sqlite_free,
};

/*
 * Made by us, so that nobody else may read the hashes and keys in it. One that is there is not opened: closing it again would
 * drop the locks that SQLite's other connections of this process hold on it (fcntl(2), "Advisory record locking").
 */
static int file_ensure(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || errno == EEXIST ? 0 : -errno;
}

int store_sqlite_open(const char *path, struct store **ret_store, char ret_error[STORE_ERROR_BYTES])
{
	static const char pragmas[] = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;";
	struct sqlite *q;
	int rc = file_ensure(path);

	if (rc < 0) {
		snprintf(ret_error, STORE_ERROR_BYTES, "%.150s: %s", path, strerror(-rc));
		return rc;
	}
	q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	q->store.ops = &sqlite_ops;
	if (sqlite3_open_v2(path, &q->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK ||
	    sqlite3_busy_timeout(q->db, STORE_STATEMENT_MS) != SQLITE_OK ||
	    sqlite3_exec(q->db, pragmas, NULL, NULL, NULL) != SQLITE_OK) {
		snprintf(ret_error, STORE_ERROR_BYTES, "%.150s: %s", path, q->db ? sqlite3_errmsg(q->db) : "no memory");
		sqlite_free(&q->store);
		return -EIO;
	}
	*ret_store = &q->store;
	return 0;
}
