/*
 * ring/listener.c - multishot accept.
 *
 *   ACTIVE: armed, or waiting for `retry`  ──listener_stop──►  STOPPING  ──all completions seen──►  NONE, on_stopped
 */
#include "ring/internal.h"

#include <errno.h>
#include <unistd.h>

enum { LISTENER_NONE, LISTENER_ACTIVE, LISTENER_STOPPING };

static void listener_arm(struct listener *l)
{
	struct io_uring_sqe *sqe = ring_sqe(l->ring);

	io_uring_prep_multishot_accept(sqe, l->fd, NULL, NULL, SOCK_CLOEXEC);
	io_uring_sqe_set_data64(sqe, op_tag(l, OP_ACCEPT));
	l->is_armed = true;
	l->pending_count++;
}

static void listener_on_run(struct deferred *d)
{
	struct listener *l = CONTAINER_OF(d, struct listener, work);

	if (l->state == LISTENER_ACTIVE) {
		if (!l->is_armed && !timer_is_started(&l->retry))
			listener_arm(l);
		return;
	}
	if (l->is_armed && !l->is_cancelled) {
		l->is_cancelled = true;
		l->pending_count++;
		ring_cancel(l->ring, op_tag(l, OP_ACCEPT), op_tag(l, OP_LISTENER_CANCEL));
	}
	if (l->pending_count == 0) {
		l->state = LISTENER_NONE;
		if (l->on_stopped)
			l->on_stopped(l);
	}
}

static void listener_on_retry(struct timer *t)
{
	struct listener *l = CONTAINER_OF(t, struct listener, retry);

	deferred_ask(l->ring, &l->work);
}

void listener_start(struct listener *l, struct ring *r, int fd)
{
	l->ring = r;
	l->fd = fd;
	l->state = LISTENER_ACTIVE;
	l->is_armed = l->is_cancelled = false;
	l->pending_count = 0;
	timer_init(&l->retry, listener_on_retry);
	deferred_init(&l->work, listener_on_run);
	deferred_ask(r, &l->work);
}

void listener_stop(struct listener *l)
{
	if (l->state != LISTENER_ACTIVE)
		return;
	l->state = LISTENER_STOPPING;
	timer_stop(l->ring, &l->retry);
	deferred_ask(l->ring, &l->work);
}

/* accept(2): these are a connection's own bad luck, and the next one may be fine. */
static bool accept_error_is_of_peer(int err)
{
	switch (-err) {
	case ECONNABORTED:
	case ENETDOWN:
	case EPROTO:
	case ENOPROTOOPT:
	case EHOSTDOWN:
	case ENONET:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EPERM: /* a firewall's rule */
	case EINTR:
		return true;
	default:
		return false;
	}
}

void listener_on_accept(struct listener *l, int res, uint32_t flags)
{
	if (!(flags & IORING_CQE_F_MORE)) {
		l->is_armed = false;
		l->pending_count--;
		deferred_ask(l->ring, &l->work);
	}
	if (l->state != LISTENER_ACTIVE) {
		if (res >= 0)
			(void)close(res);
		return;
	}
	if (res >= 0) {
		ring_count(&l->ring->stats.accepts, 1);
		l->on_accept(l, res);
	} else if (!accept_error_is_of_peer(res)) {
		/* No descriptors (EMFILE, ENFILE) or no memory; whatever it is, never a busy loop. */
		timer_start(l->ring, &l->retry, RING_ACCEPT_PAUSE_MS);
	}
}

void listener_on_cancel(struct listener *l)
{
	l->pending_count--;
	deferred_ask(l->ring, &l->work);
}
