/*
 * control/feed.h - follows the table of changes and wakes whoever waits for one.
 *
 * One thread reads what is new: at once after feed_kick (this process committed something), else every FEED_POLL_MS (the command
 * line or another server did). A waiter is a held answer; it is woken by a change that concerns it, by its deadline, or by the end.
 *
 * A waiter says up to which seq it has seen: a change that came between its look at the database and its wait wakes it at
 * once, so none is lost.
 *
 * Owner:  main. The waiters belong to who waits.
 * Thread: any.
 */
#ifndef CONTROL_FEED_H
#define CONTROL_FEED_H

#include "control/change.h"
#include "control/store.h"
#include "core/list.h"

#include <stdint.h>

struct waiter {
	struct list link;
	/* Called with the feed's lock held: only to stop, and to start again, what waits. */
	void (*on_sleep)(struct waiter *w);
	void (*on_wake)(struct waiter *w);
	char sandbox[SANDBOX_ID_MAX + 1]; /* "": any change wakes it */
	int64_t seen;                     /* the last seq that it knows of */
	uint64_t deadline_ms;             /* of feed_clock_ms */
};

struct feed;

/* The thread starts. Takes the pool's connections. */
MUST_USE int feed_new(struct store_pool *pool, struct feed **ret_feed);
/* From here on nobody waits: all are woken, and feed_wait refuses. */
void feed_stop(struct feed *f);
/* After feed_stop, when nobody uses it any more. */
void feed_free(struct feed *f);

/* Something was committed. */
void feed_kick(struct feed *f);

/* Monotonic milliseconds. */
uint64_t feed_clock_ms(void);

enum feed_wait {
	FEED_ASLEEP, /* on_wake comes */
	FEED_NEWS,   /* there is something new already */
	FEED_OVER,   /* the time is over, too many wait, or we are ending */
};

MUST_USE enum feed_wait feed_wait(struct feed *f, struct waiter *w);

/* For threads of their own: waits until there is more than `seen`, at most `ms`. Returns the last seq that is known. */
int64_t feed_wait_blocking(struct feed *f, int64_t seen, uint32_t ms);
bool feed_is_stopping(struct feed *f);

#endif
