/*
 * ring/timer.c - timers on a ring's clock.
 */
#include "ring/internal.h"

/* Far enough for ever, and no sum overflows. */
#define DELAY_MAX_MS (UINT64_MAX >> 2)

void timer_init(struct timer *t, void (*on_fire)(struct timer *t))
{
	*t = (struct timer){.on_fire = on_fire};
	list_init(&t->node);
}

static void start_at(struct ring *r, struct timer *t, uint64_t delay_ms, uint64_t tick_ms)
{
	struct wheel *w = &r->wheel;

	ring_check_thread(r);
	if (!r->is_running)
		ring_read_clock(r);
	if (timer_is_started(t))
		wheel_remove(w, t);
	if (delay_ms > DELAY_MAX_MS)
		delay_ms = DELAY_MAX_MS;
	/* Rounded up: never early. */
	t->at_ms = (r->now_us + 999) / 1000 + delay_ms;
	if (t->at_ms <= w->now_ms)
		t->at_ms = w->now_ms + 1;
	t->at_ms = (t->at_ms + tick_ms - 1) / tick_ms * tick_ms;
	wheel_add(w, t);
}

void timer_start(struct ring *r, struct timer *t, uint64_t delay_ms)
{
	start_at(r, t, delay_ms, 1);
}

void timer_start_lazily(struct ring *r, struct timer *t, uint64_t delay_ms, uint64_t wait_ms)
{
	uint64_t tick_ms = wait_ms / RING_TICKS_A_WAIT;

	start_at(r, t, delay_ms, tick_ms < 1 ? 1 : tick_ms < RING_TICK_MS ? tick_ms : RING_TICK_MS);
}

void timer_stop(struct ring *r, struct timer *t)
{
	ring_check_thread(r);
	if (timer_is_started(t))
		wheel_remove(&r->wheel, t);
}

bool timer_is_started(const struct timer *t)
{
	return t->slot != 0;
}
