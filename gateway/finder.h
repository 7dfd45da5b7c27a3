/*
 * gateway/finder.h - finds where a session's sandbox is while its channels wait: after a login that found it paused, and when
 * nothing, or something else, answers at its address.
 *
 *   asked ──YES──────────────────► on_found
 *     ├─WAKING──► asked again, the answer held by the directory as long as it likes; on_waking for the user, every second
 *     └─NO, UNAVAILABLE, too late► on_failed
 *
 * Owner:  a bridge has at most one: one question however many channels wait.
 * Life:   until its owner frees it, at the latest inside on_found or on_failed; finder_free cancels what is asked. Each callback
 *         may free it, and on_found and on_failed come once. None comes inside finder_start.
 * Thread: the session's worker.
 */
#ifndef GATEWAY_FINDER_H
#define GATEWAY_FINDER_H

#include "gateway/directory.h"

struct finder;
struct session;

struct finder_events {
	/* r is valid during the call. It was asleep, or has been there all the time. */
	void (*on_found)(void *owner, const struct route *r, bool was_asleep);
	/* A sentence for the user, valid during the call. NO: he may not enter, or there is nothing to enter. */
	void (*on_failed)(void *owner, enum verdict why, const char *text);
	/* It wakes up, since so long. First after WAKE_TELL_MS. */
	void (*on_waking)(void *owner, uint32_t seconds);
};

/*
 * is_retry: the route that is known is wrong. is_asleep: the directory has said so, at the login.
 * NULL without memory.
 */
struct finder *finder_new(struct session *s, bool is_retry, bool is_asleep, const struct finder_events *events,
			  void *owner);
void finder_start(struct finder *f);
/* NULL is fine. */
void finder_free(struct finder *f);

#endif
