#include "control/publish.h"

#include "control/changes.h"
#include "control/limits.h"
#include "core/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct publisher {
	struct store_pool *pool;
	struct feed *feed;
	struct publish_sink *sink;
	pthread_t thread;
	int64_t told;      /* all changes up to here */
	uint32_t pause_ms; /* before the next try; 0: all is well */
};

static int on_change(void *ctx, const struct change *c)
{
	struct publisher *p = ctx;
	int rc = feed_is_stopping(p->feed) ? -ECANCELED : p->sink->ops->change(p->sink, c);

	if (rc == 0)
		p->told = c->seq;
	return rc;
}

/* Collected first: a cache that is slow does not keep a statement open. */
struct batch {
	struct change *list;
	uint32_t count;
};

static int on_row(void *ctx, const struct change *c)
{
	struct batch *b = ctx;

	b->list[b->count++] = *c;
	return 0;
}

static int batch_read(struct publisher *p, struct batch *b)
{
	struct store *s = store_take(p->pool);
	int rc;

	if (!s)
		return -EIO;
	rc = changes_read(s, p->told, CHANGES_BATCH, on_row, b);
	store_give(p->pool, s);
	return rc;
}

static int tell_new(struct publisher *p, struct batch *b)
{
	int rc;

	b->count = 0;
	rc = batch_read(p, b);
	for (uint32_t i = 0; rc >= 0 && i < b->count; i++)
		rc = on_change(p, &b->list[i]);
	return rc;
}

/* Back to what is old enough that nobody needs to be told any more. */
static int rewind_told(struct publisher *p)
{
	struct store *s = store_take(p->pool);
	int rc;

	if (!s)
		return -EIO;
	rc = changes_since_time(s, store_now_ms() - PUBLISH_REPLAY_S * 1000ll, &p->told);
	store_give(p->pool, s);
	return rc < 0 ? rc : 0;
}

static int turn(struct publisher *p, struct batch *b)
{
	int rc = p->sink->ops->look(p->sink);

	if (rc > 0)
		rc = rewind_told(p);
	return rc < 0 ? rc : tell_new(p, b);
}

/* Says once that the cache is away, and once that it is back. */
static void outcome_note(struct publisher *p, int rc)
{
	if (rc >= 0) {
		if (p->pause_ms)
			log_event(LOG_INFO, "publish", LOG_STR("result", "goes on"), LOG_I64("told", p->told));
		p->pause_ms = 0;
		return;
	}
	if (!p->pause_ms && rc != -ECANCELED)
		log_event(LOG_WARN, "publish", LOG_STR("error", strerror(-rc)), LOG_I64("told", p->told));
	p->pause_ms = p->pause_ms ? 2 * p->pause_ms : PUBLISH_RETRY_MS;
	if (p->pause_ms > PUBLISH_RETRY_MAX_MS)
		p->pause_ms = PUBLISH_RETRY_MAX_MS;
}

static void *publisher_main(void *arg)
{
	struct publisher *p = arg;
	struct batch b = {.list = calloc(CHANGES_BATCH, sizeof(struct change))};

	while (b.list && !feed_is_stopping(p->feed)) {
		/* A cache that is away is left alone for a while, whatever is new. */
		(void)feed_wait_blocking(p->feed, p->pause_ms ? INT64_MAX : p->told,
					 p->pause_ms ? p->pause_ms : PUBLISH_LOOK_MS);
		outcome_note(p, turn(p, &b));
	}
	free(b.list);
	return NULL;
}

static int publisher_begin(struct publisher *p)
{
	int rc = rewind_told(p);

	return rc < 0 ? rc : -pthread_create(&p->thread, NULL, publisher_main, p);
}

int publisher_start(struct store_pool *pool, struct feed *feed, struct publish_sink *sink,
		    struct publisher **ret_publisher)
{
	struct publisher *p = calloc(1, sizeof(*p));
	int rc = -ENOMEM;

	if (p) {
		p->pool = pool;
		p->feed = feed;
		p->sink = sink;
		rc = publisher_begin(p);
	}
	if (rc < 0) {
		sink->ops->free(sink);
		free(p);
		return rc;
	}
	*ret_publisher = p;
	return 0;
}

void publisher_stop(struct publisher *p)
{
	if (!p)
		return;
	pthread_join(p->thread, NULL);
	p->sink->ops->free(p->sink);
	free(p);
}
