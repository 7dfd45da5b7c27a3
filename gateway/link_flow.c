/*
 * Bytes and credits of links, in both directions.
 *
 * Invariants, checked here:
 *   down_credit <= chan_room                 so what procd sends always fits the client's window, and nothing is kept
 *   up held + chan_window <= up_granted      so what the client sends always has a place
 */
#include "gateway/jump.h"
#include "gateway/limits.h"
#include "gateway/link_internal.h"
#include "gateway/session.h"

#include <errno.h>

/* --- client to procd --- */

static int send_up(struct link *l, struct bytes data)
{
	return l->jump ? jump_send(l, data) : procd_client_send_data(l->links->procd, l->number, data);
}

void link_push_up(struct link *l)
{
	struct iovec iov;

	if (l->state != LINK_LIVE)
		return;
	while (l->up.bytes > 0 && l->up_credit > 0 && chain_iov(&l->up, &iov, 1) == 1) {
		uint32_t n = iov.iov_len < l->up_credit ? (uint32_t)iov.iov_len : l->up_credit;

		if (send_up(l, bytes_of(iov.iov_base, n)) < 0) {
			session_close(l->links->session, "out of memory");
			return;
		}
		chain_consume(&l->up, n);
		link_window_release(l, n);
		l->up_credit -= n;
		l->up_return += n;
	}
	if (l->up.bytes > 0)
		return;
	if (l->is_up_eof && !l->is_up_eof_sent && !l->is_close_sent) {
		l->is_up_eof_sent = true;
		if (l->jump)
			jump_eof(l);
		else
			link_send_frame(l, FRAME_EOF);
	}
	if (l->is_close_wanted && !l->is_close_sent) {
		l->is_close_sent = true;
		link_send_frame(l, FRAME_CLOSE);
	}
}

/* May n bytes of the client's go into procd's chain as they come? */
static bool can_place(const struct link *l, size_t n)
{
	return l->state == LINK_LIVE && !l->jump && !l->is_up_discarded && l->up.bytes == 0 && l->up_credit >= n;
}

/*
 * OpenSSH writes a packet at a time: of a plain stream several may be gathered. Not of SFTP, whose every packet is answered: measured, the
 * same CPU and 0.93 of the MB/s.
 */
static void set_up_last(struct links *ls, struct link *l)
{
	ls->up_last = l;
	ls->session->client.gathers = !l->is_subsystem;
}

uint8_t *links_on_room(struct links *ls, size_t n)
{
	uint8_t *p;

	_Static_assert(CONN_ROOM_HEAD <= FRAME_DATA_HEADER_WIDE, "a packet's head goes where the frame's head will");
	/* Whose data it is nobody knows yet: most likely his whose was the last. */
	if (!ls->up_last || !can_place(ls->up_last, n))
		return NULL;
	p = procd_client_reserve_data(ls->procd, n);
	return p ? p - CONN_ROOM_HEAD : NULL;
}

bool link_on_room_data(struct chan *ch, struct bytes data)
{
	struct link *l = chan_owner(ch);

	if (!can_place(l, data.n))
		return false;
	link_window_on_data(l, data.n);
	procd_client_commit_data(l->links->procd, l->number, (uint32_t)data.n);
	set_up_last(l->links, l);
	l->up_credit -= (uint32_t)data.n;
	l->up_return += (uint32_t)data.n;
	return true;
}

void links_on_room_back(struct links *ls)
{
	procd_client_commit_data(ls->procd, 0, 0);
}

void link_on_chan_data(struct chan *ch, struct bytes data)
{
	struct link *l = chan_owner(ch);
	struct links *ls = l->links;
	size_t now = 0;

	set_up_last(ls, l);
	link_window_on_data(l, data.n);
	if (l->state == LINK_DONE || l->is_up_discarded) {
		l->up_return += (uint32_t)data.n;
		return;
	}
	if (l->state == LINK_LIVE && l->up.bytes == 0) {
		now = data.n < l->up_credit ? data.n : l->up_credit;
		if (now > 0 && send_up(l, bytes_of(data.p, now)) < 0) {
			session_close(ls->session, "out of memory");
			return;
		}
		l->up_credit -= (uint32_t)now;
		l->up_return += (uint32_t)now;
	}
	if (now == data.n)
		return;
	if (chain_append(&l->up, data.p + now, data.n - now) < 0)
		session_close(ls->session, "out of memory");
	else
		link_window_hold(l, data.n - now);
}

void link_on_chan_eof(struct chan *ch)
{
	struct link *l = chan_owner(ch);

	l->is_up_eof = true;
	link_push_up(l);
}

/* --- procd to client --- */

/* What the client's socket still has to take before it has this link's last byte. */
static uint64_t down_waiting(const struct link *l)
{
	uint64_t sent = l->links->session->bytes_to_client;

	return l->down_end > sent ? l->down_end - sent : 0;
}

/* What procd may have at most: none to spare for a terminal whose client is slow. */
static uint32_t down_limit(const struct link *l)
{
	uint64_t waiting = down_waiting(l);

	if (!l->has_pty)
		return l->down_limit;
	return waiting < LINK_TERMINAL_BYTES ? (uint32_t)(LINK_TERMINAL_BYTES - waiting) : 0;
}

/* What procd may fill of the client's window: not all, or nobody could be told that the sandbox is lost or the session ends. */
static uint32_t down_room(const struct link *l)
{
	uint32_t room = chan_room(l->chan);

	return l->is_forward || room < LINK_TELL_PARTS * LINK_TELL_BYTES ? room : room - LINK_TELL_BYTES;
}

uint32_t link_down_allowance(const struct link *l)
{
	const struct links *ls = l->links;
	size_t waiting = ls->session->client.out.bytes, used = waiting + ls->down_total;
	uint32_t limit = down_limit(l), room = down_room(l), want = room < limit ? room : limit;
	uint32_t left = used < SESSION_DOWN_BUDGET ? (uint32_t)(SESSION_DOWN_BUDGET - used) : 0;

	if (want <= l->down_credit)
		return 0;
	want -= l->down_credit;
	/* A channel without credit gets one packet's worth however much the others have, unless the client does not read. */
	if (left < LINK_CREDIT_MIN && l->down_credit == 0 && waiting < SESSION_DOWN_BUDGET / 2)
		left = LINK_CREDIT_MIN;
	return want < left ? want : left;
}

static void settle_down(struct link *l)
{
	struct frame f = {.type = FRAME_CREDIT, .channel = l->number};
	uint32_t n;

	if (!l->chan || l->state != LINK_LIVE || l->is_peer_closed || l->is_close_sent)
		return;
	n = link_down_allowance(l);
	if (n == 0 || (n < l->down_limit / 4 && l->down_credit > l->down_limit / 4))
		return;
	if (!l->has_pty && l->down_credit < l->down_limit / 2 && l->down_limit < LINK_CREDIT_MAX)
		l->down_limit *= 2; /* more than half was used since the last grant */
	l->down_credit += n;
	l->links->down_total += n;
	f.credit = n;
	if (procd_client_send(l->links->procd, &f) < 0)
		session_close(l->links->session, "out of memory");
}

int links_on_data(struct links *ls, uint32_t channel, uint32_t stream, struct bytes piece)
{
	struct link *l = link_find(ls, channel);

	if (!link_number_was_used(ls, channel) || stream > 1)
		return -EPROTO;
	if (!l || l->state == LINK_DONE)
		return 0;
	if (l->state != LINK_LIVE || piece.n > l->down_credit)
		return -EPROTO;
	l->down_credit -= (uint32_t)piece.n;
	ls->down_total -= (uint32_t)piece.n;
	ls->moved_us = ring_now_us(ls->session->ring);
	if (!link_can_send(l))
		return 0;
	if (chan_is_eof_sent(l->chan))
		return -EPROTO;
	(void)chan_write(l->chan, stream == 1, piece.p, piece.n);
	l->down_end = ls->session->bytes_to_client + ls->session->client.out.bytes;
	links_settle(ls);
	return 0;
}

/* --- at the end of a batch --- */

void links_on_settle(struct deferred *d)
{
	struct links *ls = CONTAINER_OF(d, struct links, settle);
	struct session *s = ls->session;

	if (s->phase != SESSION_LIVE)
		return;
	links_end_agents(ls);
	/* While keys are exchanged anew libssh holds what is sent: nothing more is asked for. */
	if (conn_is_rekeying(s->conn)) {
		session_flush(s);
		return;
	}
	for (struct list *n = ls->list.next, *next; n != &ls->list; n = next) {
		struct link *l = CONTAINER_OF(n, struct link, node);

		next = n->next;
		if (l->farewell && l->chan && link_has_room_to_tell(l)) {
			link_say_farewell(l);
			continue;
		}
		link_window_settle(l);
		if (l->jump)
			jump_settle(l);
		else
			settle_down(l);
		if (s->phase != SESSION_LIVE)
			return;
	}
	session_flush(s);
}
