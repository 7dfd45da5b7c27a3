#include "control/feed.h"

#include "control/changes.h"
#include "control/limits.h"
#include "core/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct feed {
	struct store_pool *pool;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t kicked; /* the thread waits for it */
	pthread_cond_t moved;  /* threads of feed_wait_blocking do */
	struct list waiters;
	uint32_t waiter_count;
	int64_t seq; /* all changes up to here have woken whom they concern */
	bool is_kicked, is_stopping, is_failing;
	uint64_t trimmed_ms; /* the thread's own */
};

uint64_t feed_clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* With the lock held. */
static void wake(struct feed *f, struct waiter *w)
{
	list_del(&w->link);
	f->waiter_count--;
	w->on_wake(w);
}

static void wake_matching(struct feed *f, const struct change *c)
{
	struct list *next;

	for (struct list *l = f->waiters.next; l != &f->waiters; l = next) {
		struct waiter *w = CONTAINER_OF(l, struct waiter, link);

		next = l->next;
		if (w->sandbox[0] == 0 || strcmp(w->sandbox, c->sandbox) == 0)
			wake(f, w);
	}
}

static void wake_late(struct feed *f, bool is_all)
{
	uint64_t now = feed_clock_ms();
	struct list *next;

	for (struct list *l = f->waiters.next; l != &f->waiters; l = next) {
		struct waiter *w = CONTAINER_OF(l, struct waiter, link);

		next = l->next;
		if (is_all || w->deadline_ms <= now)
			wake(f, w);
	}
}

static int on_change(void *ctx, const struct change *c)
{
	struct feed *f = ctx;

	pthread_mutex_lock(&f->lock);
	f->seq = c->seq;
	wake_matching(f, c);
	pthread_cond_broadcast(&f->moved);
	pthread_mutex_unlock(&f->lock);
	return 0;
}

/* Reads all that is new. Says once that the database is away, and once that it is back. */
static void follow(struct feed *f)
{
	struct store *s = store_take(f->pool);
	int rc = -EIO;

	if (s) {
		do
			rc = changes_read(s, f->seq, CHANGES_BATCH, on_change, f);
		while (rc == CHANGES_BATCH);
		if (rc >= 0 && feed_clock_ms() - f->trimmed_ms > CHANGES_TRIM_S * 1000) {
			f->trimmed_ms = feed_clock_ms();
			rc = changes_trim(s, CHANGES_KEPT_COUNT, CHANGES_KEPT_S * 1000ll);
		}
		store_give(f->pool, s);
	}
	if ((rc < 0) != f->is_failing)
		log_event(rc < 0 ? LOG_ERROR : LOG_INFO, "feed",
			  LOG_STR("result", rc < 0 ? "the database does not answer" : "goes on"));
	f->is_failing = rc < 0;
}

static struct timespec time_in(clockid_t clock, uint32_t ms)
{
	struct timespec t;

	clock_gettime(clock, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	return t;
}

static void *feed_main(void *arg)
{
	struct feed *f = arg;

	pthread_mutex_lock(&f->lock);
	while (!f->is_stopping) {
		struct timespec until = time_in(CLOCK_MONOTONIC, FEED_POLL_MS);

		if (!f->is_kicked)
			pthread_cond_timedwait(&f->kicked, &f->lock, &until);
		f->is_kicked = false;
		wake_late(f, false);
		pthread_mutex_unlock(&f->lock);
		follow(f);
		pthread_mutex_lock(&f->lock);
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

static int feed_begin(struct feed *f)
{
	struct store *s = store_take(f->pool);
	struct feed_range range;
	int rc;

	if (!s)
		return -EIO;
	rc = changes_range(s, &range);
	store_give(f->pool, s);
	if (rc < 0)
		return rc;
	f->seq = range.last;
	return -pthread_create(&f->thread, NULL, feed_main, f);
}

int feed_new(struct store_pool *pool, struct feed **ret_feed)
{
	struct feed *f = calloc(1, sizeof(*f));
	pthread_condattr_t monotonic;
	int rc;

	if (!f)
		return -ENOMEM;
	f->pool = pool;
	f->trimmed_ms = feed_clock_ms();
	list_init(&f->waiters);
	pthread_mutex_init(&f->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&f->kicked, &monotonic);
	pthread_cond_init(&f->moved, &monotonic);
	pthread_condattr_destroy(&monotonic);
	rc = feed_begin(f);
	if (rc < 0) {
		free(f);
		return rc;
	}
	*ret_feed = f;
	return 0;
}

void feed_stop(struct feed *f)
{
	pthread_mutex_lock(&f->lock);
	f->is_stopping = true;
	wake_late(f, true);
	pthread_cond_signal(&f->kicked);
	pthread_cond_broadcast(&f->moved);
	pthread_mutex_unlock(&f->lock);
}

void feed_free(struct feed *f)
{
	if (!f)
		return;
	pthread_join(f->thread, NULL);
	ASSERT(f->waiter_count == 0);
	pthread_cond_destroy(&f->kicked);
	pthread_cond_destroy(&f->moved);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

void feed_kick(struct feed *f)
{
	pthread_mutex_lock(&f->lock);
	f->is_kicked = true;
	pthread_cond_signal(&f->kicked);
	pthread_mutex_unlock(&f->lock);
}

enum feed_wait feed_wait(struct feed *f, struct waiter *w)
{
	enum feed_wait result = FEED_ASLEEP;

	pthread_mutex_lock(&f->lock);
	if (f->is_stopping || w->deadline_ms <= feed_clock_ms() || f->waiter_count == WAITERS_MAX) {
		result = FEED_OVER;
	} else if (f->seq > w->seen) {
		result = FEED_NEWS;
	} else {
		list_add_tail(&f->waiters, &w->link);
		f->waiter_count++;
		w->on_sleep(w);
	}
	pthread_mutex_unlock(&f->lock);
	return result;
}

int64_t feed_wait_blocking(struct feed *f, int64_t seen, uint32_t ms)
{
	struct timespec until = time_in(CLOCK_MONOTONIC, ms);
	int64_t seq;

	pthread_mutex_lock(&f->lock);
	while (!f->is_stopping && f->seq <= seen)
		if (pthread_cond_timedwait(&f->moved, &f->lock, &until) == ETIMEDOUT)
			break;
	seq = f->seq;
	pthread_mutex_unlock(&f->lock);
	return seq;
}

bool feed_is_stopping(struct feed *f)
{
	bool is_stopping;

	pthread_mutex_lock(&f->lock);
	is_stopping = f->is_stopping;
	pthread_mutex_unlock(&f->lock);
	return is_stopping;
}
