/*
 * ring/wheel.h - a hierarchical timing wheel, on whatever clock its user has: a ring's, or a simulation's.
 *
 * Eleven levels of 64 slots cover all 64 bits of a millisecond clock. A timer stands on the level of the highest digit (base 64)
 * in which its time differs from the wheel's, in the slot of that digit of its time. So everything on a lower level is due before
 * everything on a higher one, slots at or before the wheel's own digit are empty, and the next slot in use is found by one
 * count of zero bits. When the wheel reaches a slot of a higher level, its timers are sorted in again and come nearer.
 *
 * Owner:  whoever embeds it; timers are embedded in their own users and only linked here.
 * Thread: one.
 */
#ifndef RING_WHEEL_H
#define RING_WHEEL_H

#include "ring/ring.h"

#define WHEEL_LEVELS 11
#define WHEEL_BITS 6
#define WHEEL_SLOTS (1 << WHEEL_BITS)
#define WHEEL_NONE UINT64_MAX

struct wheel {
	uint64_t now_ms;
	uint64_t used[WHEEL_LEVELS]; /* a bit for each slot that holds timers */
	struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *w, uint64_t now_ms);

/* t is in no wheel and t->at_ms is not before w->now_ms. From a callback of wheel_advance it is after it. */
void wheel_add(struct wheel *w, struct timer *t);
void wheel_remove(struct wheel *w, struct timer *t);

/* Fires what is due up to now_ms, in the order of time; timers of the same millisecond in no promised order. */
void wheel_advance(struct wheel *w, uint64_t now_ms);

/* When wheel_advance has something to do next, or WHEEL_NONE. Perhaps only to sort far timers into nearer slots. */
uint64_t wheel_next(const struct wheel *w);

#endif
