/*
 * upstream/control/breaker.h - decides whether the control plane is asked at all.
 *
 *            enough failures in a row                   PROBE_MS later a call is let through
 *   CLOSED ─────────────────────────────► OPEN ─────────────────────────────────────────────► PROBING
 *     ▲                                     ▲                    it fails                       │ │
 *     │                                     └───────────────────────────────────────────────────┘ │
 *     └───────────────────────────────── any call succeeds ───────────────────────────────────────┘
 *
 * A probe that has not come back after PROBE_MS is followed by the next one.
 *
 * Pure: time is an argument. Owner: the client.
 */
#ifndef UPSTREAM_CONTROL_BREAKER_H
#define UPSTREAM_CONTROL_BREAKER_H

#include "core/check.h"

#include <stdbool.h>
#include <stdint.h>

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_PROBING };

struct breaker {
	enum breaker_state state;
	uint32_t failures; /* in a row */
	uint64_t row_us;   /* when the first of them was begun */
	uint64_t probe_us; /* when the next probe may go */
};

void breaker_init(struct breaker *b);
static inline bool breaker_is_closed(const struct breaker *b)
{
	return b->state == BREAKER_CLOSED;
}

/* May a call go now? Of one that is not closed, yes is for one call: the probe. */
MUST_USE bool breaker_lets(struct breaker *b, uint64_t now_us);

/* These return true when it has closed or opened by this. A failed call says when it was begun. */
bool breaker_succeeded(struct breaker *b);
bool breaker_failed(struct breaker *b, uint64_t now_us, uint64_t began_us);

#endif
