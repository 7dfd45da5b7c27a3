/*
 * control/store.h - the database: one thin interface to SQLite and PostgreSQL, one connection, and a pool of them.
 *
 * All SQL is written once, in what both dialects share: parameters are $1, $2, ...; texts and 64-bit integers only. What
 * differs (how to open, how a transaction that writes begins) is behind struct store_ops.
 *
 * Transactions that write are serial: store_begin waits for other writers, on this machine or another. So what is read
 * in one stays true until its end, and the changes feed grows in the order of the commits.
 *
 * Owner:  a connection belongs to whoever took it from the pool until store_give.
 * Thread: the pool any; a connection one at a time.
 */
#ifndef CONTROL_STORE_H
#define CONTROL_STORE_H

#include "core/check.h"

#include <stdbool.h>
#include <stdint.h>

#define STORE_COLUMNS_MAX 16
#define STORE_PARAMS_MAX 16
#define STORE_ERROR_BYTES 256

struct store_param {
	const char *text; /* NULL: the number, or NULL in SQL */
	int64_t number;
	bool is_number;
};

#define SQL_TEXT(s) ((struct store_param){.text = (s)})
#define SQL_INT(n) ((struct store_param){.number = (n), .is_number = true})

/* A row's columns as text, NULL for SQL's; good during the call. */
struct store_row {
	uint32_t count;
	const char *columns[STORE_COLUMNS_MAX];
};

/* 0 goes on; a negative errno ends the statement with it. */
typedef int store_row_fn(void *ctx, const struct store_row *row);

struct store;

struct store_ops {
	int (*exec)(struct store *s, const char *sql, const struct store_param *params, uint32_t count,
		    store_row_fn *on_row, void *ctx);
	const char *begin_sql; /* a transaction that will write */
	const char *lock_sql;  /* and what makes it wait for the others; or NULL */
	void (*free)(struct store *s);
};

/* Embedded as the first member of each kind's own struct. */
struct store {
	const struct store_ops *ops;
	bool is_in_transaction;
	struct store *next; /* in the pool */
};

/*
 * Runs one statement. Returns how many rows it gave or, without any, changed. -EEXIST: a row like this is there already. -ENOENT: what
 * a row refers to is not. -EBUSY: another writer held it too long. -EIO: all else, which is logged.
 */
MUST_USE int store_exec(struct store *s, const char *sql, const struct store_param *params, uint32_t count,
			store_row_fn *on_row, void *ctx);

/* With parameters, and perhaps rows: store_query(s, "SELECT ... $1", on_row, ctx, SQL_TEXT(id)) */
#define store_query(s, sql, on_row, ctx, ...)                             \
	store_exec((s), (sql), (const struct store_param[]){__VA_ARGS__}, \
		   sizeof((const struct store_param[]){__VA_ARGS__}) / sizeof(struct store_param), (on_row), (ctx))
#define store_write(s, sql, ...) store_query(s, sql, NULL, NULL, __VA_ARGS__)

MUST_USE int store_begin(struct store *s);
/* Commits where rc >= 0, else rolls back. Returns rc, or what the commit failed with. */
MUST_USE int store_end(struct store *s, int rc);

/* A column as a number; 0 for NULL. */
int64_t store_row_int(const struct store_row *row, uint32_t column);
/* A column as text of a fixed size; "" for NULL. False where it does not fit: a database of somebody else. */
MUST_USE bool store_row_text(const struct store_row *row, uint32_t column, char *ret_text, size_t size);

/* For whatever only wants the first number: ctx is an int64_t. */
int store_on_int(void *ctx, const struct store_row *row);

/* Milliseconds since 1970: all times in the database. */
int64_t store_now_ms(void);

/* "postgres://..." or "postgresql://..." or a file's path. */
MUST_USE int store_sqlite_open(const char *path, struct store **ret_store, char ret_error[STORE_ERROR_BYTES]);
MUST_USE int store_postgres_open(const char *url, struct store **ret_store, char ret_error[STORE_ERROR_BYTES]);
bool store_is_postgres(const char *database);

/* --- the pool --- */

struct store_pool;

/* Opens a first connection and brings the tables up to date. A database that is newer than this program is refused. */
MUST_USE int store_pool_new(const char *database, struct store_pool **ret_pool, char ret_error[STORE_ERROR_BYTES]);
/* All connections must be back. */
void store_pool_free(struct store_pool *p);
/* NULL, logged, where none is to be had. */
MUST_USE struct store *store_take(struct store_pool *p);
void store_give(struct store_pool *p, struct store *s);

/* migrations.c */
MUST_USE int store_migrate(struct store *s, char ret_error[STORE_ERROR_BYTES]);

#endif
