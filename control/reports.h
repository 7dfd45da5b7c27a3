/*
 * control/reports.h - what a driver says of its sandboxes, on its way into the database.
 *
 * A driver says it once. What the database does not take then is owed: it is tried again until it is there or something newer was
 * said of that sandbox. Else one that runs would be resuming for ever.
 *
 * Owner:  the fleet. Thread: any; one of its own tries again.
 */
#ifndef CONTROL_REPORTS_H
#define CONTROL_REPORTS_H

#include "control/feed.h"
#include "control/sandboxes.h"

#include <pthread.h>

struct reports {
	struct store_pool *pool;
	struct feed *feed;
	pthread_mutex_t lock; /* held over a transaction, so that what was said last is what stays */
	pthread_cond_t changed;
	struct list owed; /* one of a sandbox at most */
	pthread_t thread;
	bool is_stopping;
};

void reports_init(struct reports *r, struct store_pool *pool, struct feed *feed);
/* The thread that tries again. */
MUST_USE int reports_start(struct reports *r);
/* Ends it, if it was started; what is owed is lost. */
void reports_stop(struct reports *r, bool was_started);

/* As sandbox_set; negative errno: it is owed. */
int reports_take(struct reports *r, const struct sandbox *b);
/* Nothing is owed of a sandbox that is made anew. */
void reports_forget(struct reports *r, const char *sandbox);

#endif
