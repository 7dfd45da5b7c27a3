#include "control/changes.h"
#include "control/feed.h"
#include "control/people.h"
#include "control/publish.h"
#include "control/sandboxes.h"
#include "tests/unit/control/scratch.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define WAIT_S 20

static struct scratch x;
static struct feed *feed;

static int setup(void **state)
{
	scratch_init(&x);
	assert_int_equal(team_add(x.s, "dev"), 1);
	assert_int_equal(feed_new(x.pool, &feed), 0);
	return 0;
}

static int teardown(void **state)
{
	feed_stop(feed);
	feed_free(feed);
	scratch_deinit(&x);
	return 0;
}

static int64_t last_seq(void)
{
	struct feed_range r;

	assert_int_equal(changes_range(x.s, &r), 0);
	return r.last;
}

/* --- waiters --- */

struct held {
	struct waiter w;
	pthread_mutex_t lock;
	pthread_cond_t woken;
	bool is_awake, is_asleep;
};

static void on_sleep(struct waiter *w)
{
	struct held *h = CONTAINER_OF(w, struct held, w);

	h->is_asleep = true;
}

static void on_wake(struct waiter *w)
{
	struct held *h = CONTAINER_OF(w, struct held, w);

	pthread_mutex_lock(&h->lock);
	h->is_awake = true;
	pthread_cond_signal(&h->woken);
	pthread_mutex_unlock(&h->lock);
}

static void held_init(struct held *h, const char *sandbox, int64_t seen, uint32_t ms)
{
	memset(h, 0, sizeof(*h));
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->woken, NULL);
	h->w.on_sleep = on_sleep;
	h->w.on_wake = on_wake;
	strcpy(h->w.sandbox, sandbox);
	h->w.seen = seen;
	h->w.deadline_ms = feed_clock_ms() + ms;
}

static bool wakes(struct held *h, uint32_t ms)
{
	struct timespec until;
	bool is_awake;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_mutex_lock(&h->lock);
	while (!h->is_awake)
		if (pthread_cond_timedwait(&h->woken, &h->lock, &until) != 0)
			break;
	is_awake = h->is_awake;
	pthread_mutex_unlock(&h->lock);
	return is_awake;
}

static void sandbox_make(const char *id)
{
	struct sandbox b = {.team = "dev", .driver = "x"};

	strcpy(b.id, id);
	assert_int_equal(sandbox_add(x.s, &b), 0);
}

static void test_only_whom_it_concerns(void **state)
{
	struct held one, other, any;

	held_init(&one, "rs-one", last_seq(), WAIT_S * 1000);
	held_init(&other, "rs-two", last_seq(), WAIT_S * 1000);
	held_init(&any, "", last_seq(), WAIT_S * 1000);
	assert_int_equal(feed_wait(feed, &one.w), FEED_ASLEEP);
	assert_int_equal(feed_wait(feed, &other.w), FEED_ASLEEP);
	assert_int_equal(feed_wait(feed, &any.w), FEED_ASLEEP);
	assert_true(one.is_asleep);
	sandbox_make("rs-one");
	feed_kick(feed);
	assert_true(wakes(&one, WAIT_S * 1000));
	assert_true(wakes(&any, WAIT_S * 1000));
	assert_false(wakes(&other, 300));
	/* Not kicked: another process's change. */
	sandbox_make("rs-two");
	assert_true(wakes(&other, WAIT_S * 1000));
}

static void test_what_came_before_the_wait(void **state)
{
	int64_t seen = last_seq();
	struct held h;

	sandbox_make("rs-one");
	assert_true(feed_wait_blocking(feed, seen, WAIT_S * 1000) > seen);
	held_init(&h, "rs-one", seen, WAIT_S * 1000);
	assert_int_equal(feed_wait(feed, &h.w), FEED_NEWS);
	assert_false(h.is_asleep);
	h.w.seen = last_seq();
	assert_int_equal(feed_wait(feed, &h.w), FEED_ASLEEP);
	feed_stop(feed); /* wakes it */
	assert_true(h.is_awake);
	h.w.deadline_ms = feed_clock_ms() + 1000;
	assert_int_equal(feed_wait(feed, &h.w), FEED_OVER);
}

static void test_deadlines(void **state)
{
	uint64_t began = feed_clock_ms();
	struct held h;

	held_init(&h, "", last_seq(), 0);
	assert_int_equal(feed_wait(feed, &h.w), FEED_OVER);
	held_init(&h, "", last_seq(), 300);
	assert_int_equal(feed_wait(feed, &h.w), FEED_ASLEEP);
	assert_true(wakes(&h, WAIT_S * 1000));
	assert_true(feed_clock_ms() - began >= 300);
	began = feed_clock_ms();
	assert_int_equal(feed_wait_blocking(feed, last_seq(), 100), last_seq());
	assert_true(feed_clock_ms() - began >= 100);
}

/* --- publishing --- */

struct sink {
	struct publish_sink sink;
	pthread_mutex_t lock;
	pthread_cond_t told;
	int64_t seqs[64];
	int count, fail_count;
	bool is_freed;
};

static int sink_look(struct publish_sink *p)
{
	(void)p;
	return 0;
}

static int sink_change(struct publish_sink *p, const struct change *c)
{
	struct sink *s = (struct sink *)p;
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	if (s->fail_count > 0) {
		s->fail_count--;
		rc = -ECONNREFUSED;
	} else if (s->count < 64) {
		s->seqs[s->count++] = c->seq;
	}
	pthread_cond_signal(&s->told);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static void sink_free(struct publish_sink *p)
{
	((struct sink *)p)->is_freed = true;
}

static const struct publish_sink_ops sink_ops = {.look = sink_look, .change = sink_change, .free = sink_free};

static void sink_await(struct sink *s, int count)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_S;
	pthread_mutex_lock(&s->lock);
	while (s->count < count)
		if (pthread_cond_timedwait(&s->told, &s->lock, &until) != 0)
			break;
	assert_int_equal(s->count, count);
	pthread_mutex_unlock(&s->lock);
}

/* In order, none left out, also those before the start and those that the cache refused at first. */
static void test_a_cache_is_told_all(void **state)
{
	struct sink s = {.sink = {&sink_ops},
			 .lock = PTHREAD_MUTEX_INITIALIZER,
			 .told = PTHREAD_COND_INITIALIZER,
			 .fail_count = 3};
	int64_t start = last_seq();
	struct publisher *p;

	sandbox_make("rs-before");
	assert_int_equal(publisher_start(x.pool, feed, &s.sink, &p), 0);
	sink_await(&s, 1);
	pthread_mutex_lock(&s.lock);
	s.fail_count = 2;
	pthread_mutex_unlock(&s.lock);
	sandbox_make("rs-one");
	sandbox_make("rs-two");
	feed_kick(feed);
	sink_await(&s, 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(s.seqs[i], start + 1 + i);
	feed_stop(feed);
	publisher_stop(p);
	assert_true(s.is_freed);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_only_whom_it_concerns),
		TEST(test_what_came_before_the_wait),
		TEST(test_deadlines),
		TEST(test_a_cache_is_told_all),
	};

	return cmocka_run_group_tests_name("feed", tests, NULL, NULL);
}
