/*
 * control/changes.h - the table behind the changes feed, see change.h.
 *
 * Thread: that of the connection.
 */
#ifndef CONTROL_CHANGES_H
#define CONTROL_CHANGES_H

#include "control/change.h"
#include "control/store.h"

struct feed_range {
	int64_t low;  /* the last seq that is forgotten */
	int64_t last; /* the last seq there is: the version of what is read from now on */
};

/* Within a transaction of whoever makes the change; fills c->seq. */
MUST_USE int change_add(struct store *s, struct change *c);

MUST_USE int changes_range(struct store *s, struct feed_range *ret_range);

typedef int change_fn(void *ctx, const struct change *c);
/* Those after `since`, in order, at most `most`. Returns how many. */
MUST_USE int changes_read(struct store *s, int64_t since, uint32_t most, change_fn *on_change, void *ctx);

/* The last seq before that time, for those who begin to follow. */
MUST_USE int changes_since_time(struct store *s, int64_t time_ms, int64_t *ret_seq);

/* Forgets what is older or more than is kept. 1 where there was something, else 0. */
MUST_USE int changes_trim(struct store *s, int64_t kept_count, int64_t kept_ms);

#endif
