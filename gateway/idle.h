/*
 * gateway/idle.h - sessions that rest for longer than a policy allows: told, and then ended. Without such a policy nothing runs.
 *
 * What counts is bytes of channels, either way, and channels that open; keepalives and new keys do not. A channel that waits for its
 * sandbox keeps its session. Costs a store for each DATA (links.moved_us) and a timer a session.
 *
 * Owner:  embedded in a session.
 * Thread: the session's worker.
 */
#ifndef GATEWAY_IDLE_H
#define GATEWAY_IDLE_H

#include "ring/ring.h"

struct session;

struct idle {
	struct timer timer;
	uint64_t told_us; /* links.moved_us when the user was last told; another one: he has to be told anew */
};

void idle_init(struct session *s);
/* LIVE, and again when its policies have changed. */
void idle_start(struct session *s);
void idle_stop(struct session *s);

#endif
