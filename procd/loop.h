/*
 * procd/loop.h - epoll, edge-triggered: each descriptor is added once and remembers by itself whether it is ready.
 *
 * Owner:  a watch is embedded in what owns the descriptor; closing the descriptor ends it.
 * Life:   an event may still be on its way after the close, within the same round: the owner's memory stays until the round's
 *         end (session_bury).
 * Thread: the loop's.
 */
#ifndef PROCD_LOOP_H
#define PROCD_LOOP_H

#include "core/check.h"

#include <stdint.h>

struct watch {
	/* events are EPOLL*; never called for a watch whose on_events is NULL. */
	void (*on_events)(struct watch *w, uint32_t events);
};

/* Watches fd in both directions, as far as it has them. 0 or negative errno. */
MUST_USE int loop_watch(int epoll_fd, int fd, struct watch *w);

/* The signals that procd takes from a descriptor (CHLD, TERM, INT, HUP) come from there only. A signalfd, or -1. */
MUST_USE int loop_signals(void);

/* Milliseconds of the monotonic clock. */
uint64_t now_ms(void);

#endif
