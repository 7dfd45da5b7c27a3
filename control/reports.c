#include "control/reports.h"

#include "core/log.h"
#include "core/thread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct owed {
	struct list node;
	struct sandbox b;
};

static int store_it(struct reports *r, const struct sandbox *b)
{
	struct store *s = store_take(r->pool);
	int rc;

	if (!s)
		return -EIO;
	rc = sandbox_set(s, b);
	store_give(r->pool, s);
	if (rc > 0)
		feed_kick(r->feed);
	return rc;
}

/* --- what is owed; with the lock held --- */

static struct owed *first(const struct reports *r)
{
	return list_is_empty(&r->owed) ? NULL : CONTAINER_OF(r->owed.next, struct owed, node);
}

static void owed_free(struct owed *o)
{
	list_del(&o->node);
	free(o);
}

static void owed_drop(struct reports *r, const char *sandbox)
{
	for (struct list *n = r->owed.next; n != &r->owed; n = n->next) {
		struct owed *o = CONTAINER_OF(n, struct owed, node);

		if (strcmp(o->b.id, sandbox) == 0) {
			owed_free(o);
			return;
		}
	}
}

static void owed_add(struct reports *r, const struct sandbox *b)
{
	struct owed *o = malloc(sizeof(*o));

	if (!o) {
		log_event(LOG_ERROR, "sandbox", LOG_STR("sandbox", b->id), LOG_STR("stored", "no memory"));
		return;
	}
	o->b = *b;
	list_add_tail(&r->owed, &o->node);
	pthread_cond_signal(&r->changed);
}

/* Until the database refuses one again. */
static void owed_store(struct reports *r)
{
	struct owed *o;
	int rc = 0;

	while (rc >= 0 && (o = first(r)) != NULL) {
		rc = store_it(r, &o->b);
		if (rc < 0) {
			/* The next time begins with another one, should it be this one's fault. */
			list_del(&o->node);
			list_add_tail(&r->owed, &o->node);
			break;
		}
		log_event(LOG_INFO, "sandbox", LOG_STR("sandbox", o->b.id),
			  LOG_STR("state", sandbox_state_name(o->b.state)), LOG_STR("stored", "later"));
		owed_free(o);
	}
}

/* --- the thread --- */

static void rest(struct reports *r)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += REPORT_RETRY_S;
	while (!r->is_stopping)
		if (pthread_cond_timedwait(&r->changed, &r->lock, &until) == ETIMEDOUT)
			return;
}

static void *reports_main(void *arg)
{
	struct reports *r = arg;

	pthread_mutex_lock(&r->lock);
	while (!r->is_stopping) {
		if (list_is_empty(&r->owed)) {
			pthread_cond_wait(&r->changed, &r->lock);
			continue;
		}
		rest(r);
		if (!r->is_stopping)
			owed_store(r);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* --- what others call --- */

void reports_init(struct reports *r, struct store_pool *pool, struct feed *feed)
{
	pthread_condattr_t monotonic;

	*r = (struct reports){.pool = pool, .feed = feed};
	list_init(&r->owed);
	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&r->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

int reports_start(struct reports *r)
{
	return thread_start(&r->thread, 0, reports_main, r);
}

void reports_stop(struct reports *r, bool was_started)
{
	struct owed *o;

	pthread_mutex_lock(&r->lock);
	r->is_stopping = true;
	pthread_cond_signal(&r->changed);
	pthread_mutex_unlock(&r->lock);
	if (was_started)
		pthread_join(r->thread, NULL);
	while ((o = first(r)) != NULL)
		owed_free(o);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
}

int reports_take(struct reports *r, const struct sandbox *b)
{
	int rc;

	pthread_mutex_lock(&r->lock);
	owed_drop(r, b->id);
	rc = store_it(r, b);
	if (rc < 0)
		owed_add(r, b);
	pthread_mutex_unlock(&r->lock);
	return rc;
}

void reports_forget(struct reports *r, const char *sandbox)
{
	pthread_mutex_lock(&r->lock);
	owed_drop(r, sandbox);
	pthread_mutex_unlock(&r->lock);
}
