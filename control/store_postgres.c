/*
 * control/store_postgres.c - the database as a PostgreSQL server.
 *
 * libpq's calls that wait for the server have no deadline of their own: statements are sent, and their results waited for with
 * poll. A connection that was lost is made anew before the next statement; one that only reads or begins is tried again.
 *
 * Writers are serial by an advisory lock: it is released when the commit is visible, so the next one sees it.
 */
#include "control/feed.h"
#include "control/limits.h"
#include "control/store.h"
#include "core/log.h"

#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The server ends a statement by itself first; this is for a server that is gone or stands still. */
#define ANSWER_MS (STORE_STATEMENT_MS + 1000)

struct postgres {
	struct store store;
	PGconn *c;
	bool is_broken; /* an answer is outstanding that nobody waits for any more */
};

static bool is_usable(const struct postgres *p)
{
	return !p->is_broken && PQstatus(p->c) == CONNECTION_OK;
}

/* --- results --- */

static int result_error(const PGresult *res)
{
	static const struct {
		const char *state;
		int error;
	} known[] = {
		{"23505", -EEXIST}, /* unique_violation */
		{"23503", -ENOENT}, /* foreign_key_violation */
		{"57014", -EBUSY},  /* query_canceled: statement_timeout */
		{"55P03", -EBUSY},  /* lock_not_available */
		{"40P01", -EBUSY},  /* deadlock_detected */
	};
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	/* The primary message alone: details quote values. */
	const char *message = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	int rc = -EIO;

	for (size_t i = 0; state && i < ARRAY_LEN(known); i++)
		if (strcmp(known[i].state, state) == 0)
			rc = known[i].error;
	if (rc == -EIO || rc == -EBUSY)
		log_event(rc == -EIO ? LOG_ERROR : LOG_WARN, "database",
			  LOG_STR("error", message ? message : "no answer"), LOG_STR("state", state ? state : ""));
	return rc;
}

static int rows_give(const PGresult *res, store_row_fn *on_row, void *ctx)
{
	int count = PQntuples(res), rc = 0;
	struct store_row row = {.count = (uint32_t)PQnfields(res)};

	ASSERT(row.count <= STORE_COLUMNS_MAX);
	for (int i = 0; on_row && rc == 0 && i < count; i++) {
		for (uint32_t k = 0; k < row.count; k++)
			row.columns[k] = PQgetisnull(res, i, (int)k) ? NULL : PQgetvalue(res, i, (int)k);
		rc = on_row(ctx, &row);
	}
	return rc < 0 ? rc : count;
}

static int result_take(const PGresult *res, store_row_fn *on_row, void *ctx)
{
	switch (PQresultStatus(res)) {
	case PGRES_TUPLES_OK:
		return rows_give(res, on_row, ctx);
	case PGRES_COMMAND_OK:
		return atoi(PQcmdTuples((PGresult *)res));
	default:
		return result_error(res);
	}
}

/* --- statements --- */

static int params_send(struct postgres *p, const char *sql, const struct store_param *params, uint32_t count)
{
	const char *values[STORE_PARAMS_MAX];
	char numbers[STORE_PARAMS_MAX][24];

	for (uint32_t i = 0; i < count; i++) {
		values[i] = params[i].text;
		if (params[i].is_number) {
			snprintf(numbers[i], sizeof(numbers[i]), "%lld", (long long)params[i].number);
			values[i] = numbers[i];
		}
	}
	return PQsendQueryParams(p->c, sql, (int)count, NULL, values, NULL, NULL, 0) ? 0 : -EIO;
}

/* Until the next result is there, or the time is over. */
static bool result_wait(struct postgres *p, uint64_t until_ms)
{
	while (PQisBusy(p->c)) {
		struct pollfd fd = {.fd = PQsocket(p->c), .events = POLLIN};
		uint64_t now = feed_clock_ms();

		if (now >= until_ms || (poll(&fd, 1, (int)(until_ms - now)) < 0 && errno != EINTR))
			return false;
		if (!PQconsumeInput(p->c))
			return true; /* lost: the result says so */
	}
	return true;
}

static int results_take(struct postgres *p, store_row_fn *on_row, void *ctx)
{
	uint64_t until_ms = feed_clock_ms() + ANSWER_MS;
	int rc = -EIO;
	PGresult *res;

	for (;;) {
		if (!result_wait(p, until_ms)) {
			p->is_broken = true;
			log_event(LOG_ERROR, "database", LOG_STR("error", "no answer in time"));
			return -EIO;
		}
		res = PQgetResult(p->c);
		if (!res)
			return rc;
		rc = result_take(res, on_row, ctx);
		PQclear(res);
	}
}

/* How every connection begins: the server ends what takes too long by itself. */
static bool session_set(struct postgres *p)
{
	char sql[200];
	PGresult *res;
	bool is_good;

	snprintf(sql, sizeof(sql),
		 "SET client_min_messages = warning; SET statement_timeout = %d;"
		 " SET idle_in_transaction_session_timeout = %d",
		 STORE_STATEMENT_MS, 2 * STORE_STATEMENT_MS);
	res = PQexec(p->c, sql);
	is_good = PQresultStatus(res) == PGRES_COMMAND_OK;
	PQclear(res);
	return is_good;
}

static bool connection_renew(struct postgres *p)
{
	PQreset(p->c);
	p->is_broken = false;
	if (PQstatus(p->c) == CONNECTION_OK && session_set(p))
		return true;
	log_event(LOG_ERROR, "database", LOG_STR("error", PQerrorMessage(p->c)));
	return false;
}

static int statement_run(struct postgres *p, const char *sql, const struct store_param *params, uint32_t count,
			 store_row_fn *on_row, void *ctx)
{
	/* Within a transaction nothing can be mended: it is lost with its connection. */
	if (!is_usable(p) && (p->store.is_in_transaction || !connection_renew(p)))
		return -EIO;
	if (params_send(p, sql, params, count) < 0)
		return -EIO;
	return results_take(p, on_row, ctx);
}

static int postgres_exec(struct store *s, const char *sql, const struct store_param *params, uint32_t count,
			 store_row_fn *on_row, void *ctx)
{
	struct postgres *p = (struct postgres *)s;
	int rc = statement_run(p, sql, params, count, on_row, ctx);
	bool is_harmless = strncmp(sql, "SELECT", 6) == 0 || strcmp(sql, s->ops->begin_sql) == 0;

	/* The server was restarted since: rows have not been given, for the result was none. */
	if (rc == -EIO && !p->is_broken && !is_usable(p) && is_harmless && !s->is_in_transaction)
		rc = statement_run(p, sql, params, count, on_row, ctx);
	return rc;
}

static void postgres_free(struct store *s)
{
	struct postgres *p = (struct postgres *)s;

	PQfinish(p->c);
	free(p);
}

static const struct store_ops postgres_ops = {
	.exec = postgres_exec,
	.begin_sql = "BEGIN",
	.lock_sql = "SELECT pg_advisory_xact_lock(727170797480)",
	.free = postgres_free,
};

int store_postgres_open(const char *url, struct store **ret_store, char ret_error[STORE_ERROR_BYTES])
{
	/* What the URL says itself comes before these. */
	static const char *const keys[] = {"connect_timeout", "tcp_user_timeout", "application_name",
					   "dbname",          "client_encoding",  NULL};
	const char *const values[] = {"5", "6000", "ringgate-control", url, "UTF8", NULL};
	struct postgres *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->store.ops = &postgres_ops;
	p->c = PQconnectdbParams(keys, values, 1);
	if (PQstatus(p->c) != CONNECTION_OK || !session_set(p)) {
		snprintf(ret_error, STORE_ERROR_BYTES, "PostgreSQL: %.*s", (int)strcspn(PQerrorMessage(p->c), "\n"),
			 PQerrorMessage(p->c));
		postgres_free(&p->store);
		return -EIO;
	}
	*ret_store = &p->store;
	return 0;
}
