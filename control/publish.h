/*
 * control/publish.h - tells a shared cache of each change, in order, at least once.
 *
 * A thread follows the table of changes by its own cursor: a change that cannot be told now is told later, so a cache that is away
 * for a while loses nothing. At the start, and when the cache may have lost its memory, the changes of the last PUBLISH_REPLAY_S are
 * told again.
 *
 * Owner:  main; publisher_start takes the sink, publisher_stop ends the thread and frees the sink.
 */
#ifndef CONTROL_PUBLISH_H
#define CONTROL_PUBLISH_H

#include "control/change.h"
#include "control/feed.h"
#include "core/check.h"

/* What a cache is told through; the first member of its own struct. Called by the publisher's thread only. */
struct publish_sink {
	const struct publish_sink_ops *ops;
};

struct publish_sink_ops {
	/*
	 * Before changes are told, and now and then while there are none. 0: all is well; 1: the cache may have forgotten what it was told,
	 * so the changes of the last PUBLISH_REPLAY_S are told again; negative errno: it is away. May wait as `change` may.
	 */
	MUST_USE int (*look)(struct publish_sink *s);
	/*
	 * Tells one change: deletes what the cache holds of its subject and leaves `rg:rev:…` with seq as version. May wait for a second
	 * or two, not longer. 0, or negative errno: it will be called again with the same change after a while.
	 */
	MUST_USE int (*change)(struct publish_sink *s, const struct change *c);
	void (*free)(struct publish_sink *s);
};

struct publisher;

/* Frees the sink where it fails. */
MUST_USE int publisher_start(struct store_pool *pool, struct feed *feed, struct publish_sink *sink,
			     struct publisher **ret_publisher);
/* After feed_stop; waits for the call that the sink is in. NULL is fine. */
void publisher_stop(struct publisher *p);

#endif
