/*
 * How large the client's windows are.
 *
 *   LINK_WINDOW_FIRST ──procd is there──► a share ──use──► session.window_bytes ──the way is longer──► session.window_max_bytes
 *                                                                 ▲────────────── rest ──────────────────────┘
 *
 * A window that the client uses up while a grant travels to him and his next bytes travel back limits him to one window a round trip.
 * That is seen without a clock at his end: the first byte beyond the old window comes a round trip after the grant, and after a pause. Such
 * a window becomes eight times as large. While procd keeps up it holds no memory; what does pile up, over all sessions, counts against
 * session.window_budget_bytes, and beyond that no window is grown. All that could pile up in grown windows is within WINDOWS_GROWN_MAX.
 */
#include "gateway/limits.h"
#include "gateway/link_internal.h"
#include "gateway/session.h"

/* A pause shorter than this is the machine's, longer than the other is the user's own. */
#define STALL_MIN_US 5000
#define ROUND_TRIP_MAX_US 2000000

static const struct config *config_of(const struct link *l)
{
	return l->links->session->server->config;
}

void link_window_on_data(struct link *l, size_t n)
{
	uint64_t now = ring_now_us(l->links->session->ring);

	if (l->up_mark_us && l->up_taken + n > l->up_mark) {
		uint64_t round_trip = now - l->up_mark_us, pause = now - l->up_heard_us;

		l->is_up_short = round_trip >= STALL_MIN_US && round_trip <= ROUND_TRIP_MAX_US &&
				 pause >= STALL_MIN_US && pause >= round_trip / 8;
		l->up_mark_us = 0;
	}
	l->up_taken += n;
	l->up_heard_us = l->links->moved_us = now;
}

void link_window_hold(struct link *l, size_t n)
{
	atomic_fetch_add_explicit(&l->links->session->server->up_held_bytes, n, memory_order_relaxed);
}

void link_window_release(struct link *l, size_t n)
{
	if (n > 0)
		atomic_fetch_sub_explicit(&l->links->session->server->up_held_bytes, n, memory_order_relaxed);
}

/* What of a window of this size is beyond session.window_bytes. */
static uint64_t grown_part(const struct link *l, uint64_t size)
{
	uint64_t base = config_of(l)->session.window_bytes;

	return size > base ? size - base : 0;
}

static void resize(struct link *l, uint32_t to)
{
	struct links *ls = l->links;

	/* Unsigned: what shrinks is added as its complement. */
	atomic_fetch_add_explicit(&ls->session->server->up_grown_bytes,
				  grown_part(l, to) - grown_part(l, l->up_granted), memory_order_relaxed);
	ls->up_total += to - l->up_granted;
	l->up_granted = to;
}

void link_window_deinit(struct link *l)
{
	link_window_release(l, l->up.bytes);
	resize(l, 0);
}

/* Is there memory for windows of so many bytes more beyond the usual size, if all of it should pile up? */
static bool has_budget(const struct link *l, uint64_t more)
{
	struct server *s = l->links->session->server;

	return atomic_load_explicit(&s->up_held_bytes, memory_order_relaxed) <=
		       config_of(l)->session.window_budget_bytes &&
	       atomic_load_explicit(&s->up_grown_bytes, memory_order_relaxed) + more <= WINDOWS_GROWN_MAX;
}

/* How much larger the window may be: none where it is large enough, or somebody's budget is used up. */
static uint32_t growth(const struct link *l)
{
	const struct config *c = config_of(l);
	const struct links *ls = l->links;
	uint64_t size = (l->is_up_short ? 8 : 2) * (uint64_t)l->up_granted, total = SESSION_UP_BUDGET;

	if (l->up_excess > 0)
		return 0;
	if (l->is_up_short && l->up.bytes == 0 && has_budget(l, size - l->up_granted)) {
		if (size > c->session.window_max_bytes)
			size = c->session.window_max_bytes;
		if (total < c->session.window_max_bytes)
			total = c->session.window_max_bytes;
	} else if (size > c->session.window_bytes) {
		size = c->session.window_bytes;
	}
	if (size <= l->up_granted || ls->up_total + (size - l->up_granted) > total)
		return 0;
	return (uint32_t)(size - l->up_granted);
}

void link_window_opened(struct link *l)
{
	const struct links *ls = l->links;
	uint32_t max = config_of(l)->session.window_bytes;
	uint32_t share = ls->up_total < SESSION_UP_BUDGET ? (SESSION_UP_BUDGET - ls->up_total) / LINK_WINDOW_SHARE : 0;

	if (l->has_pty || l->up_granted >= max)
		return;
	if (share > max - l->up_granted)
		share = max - l->up_granted;
	if (share < LINK_WINDOW_FIRST)
		return;
	resize(l, l->up_granted + share);
	chan_grant(l->chan, share);
}

void link_window_settle(struct link *l)
{
	struct links *ls = l->links;
	uint32_t n = l->up_return, more;

	if (!l->chan || n < l->up_granted / 2 || (!l->jump && procd_client_unsent(ls->procd) > PROCD_OUT_MAX))
		return;
	more = growth(l);
	if (more > 0) {
		n += more;
		resize(l, l->up_granted + more);
	} else if (l->up_excess > 0) {
		uint32_t cut = n < l->up_excess ? n : l->up_excess;

		n -= cut;
		l->up_excess -= cut;
		resize(l, l->up_granted - cut);
	}
	l->is_up_short = false;
	l->up_return = 0;
	if (n == 0)
		return;
	if (!l->up_mark_us) {
		l->up_mark = l->up_taken + chan_window(l->chan);
		l->up_mark_us = ring_now_us(ls->session->ring);
	}
	chan_grant(l->chan, n);
}

void links_rest(struct links *ls)
{
	uint32_t base = ls->session->server->config->session.window_bytes;

	for (struct list *n = ls->list.next; n != &ls->list; n = n->next) {
		struct link *l = CONTAINER_OF(n, struct link, node);

		l->up_excess = l->up_granted > base ? l->up_granted - base : 0;
		l->up_mark_us = 0;
	}
}
