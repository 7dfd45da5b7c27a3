/*
 * control/store.c - what both kinds of database share, and the pool.
 */
#include "control/store.h"

#include "control/limits.h"
#include "core/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int store_exec(struct store *s, const char *sql, const struct store_param *params, uint32_t count, store_row_fn *on_row,
	       void *ctx)
{
	ASSERT(count <= STORE_PARAMS_MAX);
	return s->ops->exec(s, sql, params, count, on_row, ctx);
}

int store_begin(struct store *s)
{
	int rc = store_exec(s, s->ops->begin_sql, NULL, 0, NULL, NULL);

	ASSERT(!s->is_in_transaction);
	if (rc < 0)
		return rc;
	s->is_in_transaction = true;
	if (s->ops->lock_sql)
		rc = store_exec(s, s->ops->lock_sql, NULL, 0, NULL, NULL);
	return rc < 0 ? store_end(s, rc) : 0;
}

int store_end(struct store *s, int rc)
{
	int end = 0;

	ASSERT(s->is_in_transaction);
	if (rc >= 0)
		end = store_exec(s, "COMMIT", NULL, 0, NULL, NULL);
	if (rc < 0 || end < 0)
		(void)!store_exec(s, "ROLLBACK", NULL, 0, NULL, NULL);
	s->is_in_transaction = false;
	return rc >= 0 && end < 0 ? end : rc;
}

int64_t store_row_int(const struct store_row *row, uint32_t column)
{
	ASSERT(column < row->count);
	return row->columns[column] ? strtoll(row->columns[column], NULL, 10) : 0;
}

bool store_row_text(const struct store_row *row, uint32_t column, char *ret_text, size_t size)
{
	const char *text;

	ASSERT(column < row->count);
	text = row->columns[column] ? row->columns[column] : "";
	return bytes_copy_str(bytes_str(text), ret_text, size);
}

int store_on_int(void *ctx, const struct store_row *row)
{
	*(int64_t *)ctx = store_row_int(row, 0);
	return 0;
}

int64_t store_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

bool store_is_postgres(const char *database)
{
	return strncmp(database, "postgres://", 11) == 0 || strncmp(database, "postgresql://", 13) == 0;
}

/* --- the pool --- */

struct store_pool {
	pthread_mutex_t lock;
	pthread_cond_t given;
	struct store *idle;
	uint32_t count; /* open, idle ones included */
	char *database;
};

static int pool_open(const struct store_pool *p, struct store **ret_store, char error[STORE_ERROR_BYTES])
{
	return store_is_postgres(p->database) ? store_postgres_open(p->database, ret_store, error)
					      : store_sqlite_open(p->database, ret_store, error);
}

int store_pool_new(const char *database, struct store_pool **ret_pool, char ret_error[STORE_ERROR_BYTES])
{
	struct store_pool *p = calloc(1, sizeof(*p));
	struct store *s;
	int rc;

	if (!p || !(p->database = strdup(database))) {
		free(p);
		return -ENOMEM;
	}
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->given, NULL);
	rc = pool_open(p, &s, ret_error);
	if (rc == 0) {
		p->idle = s;
		p->count = 1;
		rc = store_migrate(s, ret_error);
	}
	if (rc < 0) {
		store_pool_free(p);
		return rc;
	}
	*ret_pool = p;
	return 0;
}

void store_pool_free(struct store_pool *p)
{
	if (!p)
		return;
	while (p->idle) {
		struct store *s = p->idle;

		p->idle = s->next;
		p->count--;
		s->ops->free(s);
	}
	ASSERT(p->count == 0);
	pthread_cond_destroy(&p->given);
	pthread_mutex_destroy(&p->lock);
	free(p->database);
	free(p);
}

/* An idle one, or NULL: then *ret_may_open says whether to make one, which then counts already. */
static struct store *pool_idle(struct store_pool *p, bool *ret_may_open)
{
	struct timespec until;
	struct store *s;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STORE_TAKE_MS / 1000;
	pthread_mutex_lock(&p->lock);
	while (!p->idle && p->count >= STORE_CONNECTIONS_MAX)
		if (pthread_cond_timedwait(&p->given, &p->lock, &until) == ETIMEDOUT)
			break;
	s = p->idle;
	if (s)
		p->idle = s->next;
	*ret_may_open = !s && p->count < STORE_CONNECTIONS_MAX;
	if (*ret_may_open)
		p->count++;
	pthread_mutex_unlock(&p->lock);
	return s;
}

struct store *store_take(struct store_pool *p)
{
	char error[STORE_ERROR_BYTES] = "all connections are in use";
	bool may_open;
	struct store *s = pool_idle(p, &may_open);

	if (s)
		return s;
	if (may_open) {
		if (pool_open(p, &s, error) == 0)
			return s;
		pthread_mutex_lock(&p->lock);
		p->count--;
		pthread_cond_signal(&p->given);
		pthread_mutex_unlock(&p->lock);
	}
	log_event(LOG_ERROR, "database", LOG_STR("error", error));
	return NULL;
}

void store_give(struct store_pool *p, struct store *s)
{
	ASSERT(!s->is_in_transaction);
	pthread_mutex_lock(&p->lock);
	s->next = p->idle;
	p->idle = s;
	pthread_cond_signal(&p->given);
	pthread_mutex_unlock(&p->lock);
}
