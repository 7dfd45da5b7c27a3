/*
 * ring/watch.c - readiness of a descriptor that somebody else reads and writes.
 *
 *   ACTIVE: armed when something is wanted  ──watch_stop──►  STOPPING  ──all completions seen──►  NONE, on_stopped
 *
 * A poll for one event, armed anew at the end of the batch: that looks again whether the descriptor is ready, so nothing is
 * lost when its user leaves bytes in it. A multishot poll tells changes only.
 */
#include "ring/internal.h"

#include <errno.h>
#include <poll.h>

enum { WATCH_NONE, WATCH_ACTIVE, WATCH_STOPPING };

/* What poll(2) tells unasked. */
#define ALWAYS (POLLERR | POLLHUP | POLLNVAL)

static void watch_arm(struct watch *w)
{
	struct io_uring_sqe *sqe = ring_sqe(w->ring);

	io_uring_prep_poll_add(sqe, w->fd, w->wanted);
	io_uring_sqe_set_data64(sqe, op_tag(w, OP_WATCH));
	w->armed = w->wanted;
	w->is_armed = true;
	w->is_cancelled = false;
	w->pending_count++;
}

static void watch_cancel(struct watch *w)
{
	if (!w->is_armed || w->is_cancelled)
		return;
	w->is_cancelled = true;
	w->pending_count++;
	ring_cancel(w->ring, op_tag(w, OP_WATCH), op_tag(w, OP_WATCH_CANCEL));
}

static void watch_on_run(struct deferred *d)
{
	struct watch *w = CONTAINER_OF(d, struct watch, work);

	if (w->state == WATCH_ACTIVE) {
		if (!w->is_armed && w->wanted && !w->is_broken)
			watch_arm(w);
		else if (w->wanted & ~w->armed)
			/* More than is asked for. Less needs nothing: what comes unwanted is dropped. */
			watch_cancel(w);
		return;
	}
	watch_cancel(w);
	if (w->pending_count == 0) {
		w->state = WATCH_NONE;
		if (w->on_stopped)
			w->on_stopped(w);
	}
}

void watch_on_poll(struct watch *w, int res)
{
	uint32_t events = 0;

	w->is_armed = false;
	w->pending_count--;
	deferred_ask(w->ring, &w->work);
	if (w->state != WATCH_ACTIVE)
		return;
	if (res > 0) {
		events = (uint32_t)res & (w->wanted | ALWAYS);
	} else if (res != -ECANCELED && res != -EINTR && res != -EAGAIN) {
		w->is_broken = true;
		events = POLLNVAL;
	}
	/* Not while nothing is wanted: the user has nothing to do with it. */
	if (events && w->wanted)
		w->on_ready(w, events);
}

void watch_on_cancel(struct watch *w)
{
	/* Whether it found its target says nothing: the target's own completion counts. */
	w->pending_count--;
	deferred_ask(w->ring, &w->work);
}

void watch_start(struct watch *w, struct ring *r, int fd, uint32_t events)
{
	ring_check_thread(r);
	w->ring = r;
	w->fd = fd;
	w->wanted = events;
	w->armed = 0;
	w->state = WATCH_ACTIVE;
	w->is_armed = w->is_cancelled = w->is_broken = false;
	w->pending_count = 0;
	deferred_init(&w->work, watch_on_run);
	deferred_ask(r, &w->work);
}

void watch_change(struct watch *w, uint32_t events)
{
	if (w->state != WATCH_ACTIVE)
		return;
	w->wanted = events;
	w->is_broken = false;
	deferred_ask(w->ring, &w->work);
}

void watch_stop(struct watch *w)
{
	if (w->state != WATCH_ACTIVE)
		return;
	w->state = WATCH_STOPPING;
	deferred_ask(w->ring, &w->work);
}
