/*
 * The life of links: made for a channel, moved through their states, freed when both sides are done.
 */
#include "gateway/link.h"

#include "gateway/jump.h"
#include "gateway/limits.h"
#include "gateway/link_internal.h"
#include "gateway/link_setup.h"
#include "gateway/session.h"

#include <stdlib.h>
#include <string.h>

static void on_deadline(struct timer *t);

static const uint8_t allowed[] = {
	[LINK_NEW] = 1u << LINK_WAITING | 1u << LINK_ASKED | 1u << LINK_LIVE | 1u << LINK_DONE,
	[LINK_ASKED] = 1u << LINK_LIVE | 1u << LINK_DONE,
	[LINK_WAITING] = 1u << LINK_OPENING | 1u << LINK_DONE,
	[LINK_OPENING] = 1u << LINK_LIVE | 1u << LINK_DONE,
	[LINK_LIVE] = 1u << LINK_DONE,
	[LINK_DONE] = 0,
};

void link_move(struct link *l, enum link_state to)
{
	ASSERT(allowed[l->state] & 1u << to);
	l->state = to;
	if (to == LINK_DONE)
		link_offer_is_over(l);
}

void links_init(struct links *ls, struct session *s, struct procd_client *procd, const struct links_events *events)
{
	memset(ls, 0, sizeof(*ls));
	ls->session = s;
	ls->procd = procd;
	ls->events = events;
	ls->next_number = 2;
	list_init(&ls->list);
	forwards_init(&ls->forwards);
	deferred_init(&ls->settle, links_on_settle);
}

void links_deinit(struct links *ls)
{
	deferred_cancel(&ls->settle);
	forwards_deinit(ls);
	while (!list_is_empty(&ls->list)) {
		struct link *l = CONTAINER_OF(ls->list.next, struct link, node);

		l->chan = NULL;
		link_free(l);
	}
}

void links_settle(struct links *ls)
{
	deferred_ask(ls->session->ring, &ls->settle);
}

struct link *link_new(struct links *ls, struct chan *ch)
{
	struct link *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->links = ls;
	l->chan = ch;
	l->up_granted = LINK_WINDOW_FIRST;
	l->down_limit = LINK_CREDIT_FIRST;
	timer_init(&l->deadline, on_deadline);
	chain_init(&l->up, ring_pool(ls->session->ring));
	list_add_tail(&ls->list, &l->node);
	ls->count++;
	ls->moved_us = ring_now_us(ls->session->ring);
	ls->up_total += l->up_granted;
	chan_set_owner(ch, l);
	return l;
}

void link_free(struct link *l)
{
	struct links *ls = l->links;

	ASSERT(!l->chan);
	if (l->jump)
		jump_drop(l);
	if (ls->last == l)
		ls->last = NULL;
	if (ls->up_last == l)
		ls->up_last = NULL;
	timer_stop(ls->session->ring, &l->deadline);
	ls->count--;
	ls->down_total -= l->down_credit;
	if (l->agent_of != 0)
		ls->forwards.agent_count--;
	link_window_deinit(l);
	chain_clear(&l->up);
	link_setup_free(l->setup);
	list_del(&l->node);
	free(l);
}

void link_free_when_done(struct link *l)
{
	if (!l->chan && (l->state == LINK_DONE || l->state == LINK_NEW))
		link_free(l);
}

struct link *link_find(struct links *ls, uint32_t number)
{
	if (number == 0)
		return NULL; /* what is not on the stream has it */
	if (ls->last && ls->last->number == number)
		return ls->last;
	for (struct list *n = ls->list.next; n != &ls->list; n = n->next) {
		struct link *l = CONTAINER_OF(n, struct link, node);

		if (l->number == number) {
			ls->last = l;
			return l;
		}
	}
	return NULL;
}

bool link_number_was_used(const struct links *ls, uint32_t number)
{
	return number % 2 == 0 ? number < ls->next_number : number <= ls->forwards.highest_channel;
}

bool link_can_send(const struct link *l)
{
	return l->chan && !chan_is_close_sent(l->chan);
}

void link_send_frame(struct link *l, uint32_t type)
{
	struct frame f = {.type = type, .channel = l->number};

	if (procd_client_send(l->links->procd, &f) < 0)
		session_close(l->links->session, "out of memory");
}

static bool have(const struct links *ls, uint32_t states)
{
	for (const struct list *n = ls->list.next; n != &ls->list; n = n->next)
		if (states & 1u << CONTAINER_OF(n, struct link, node)->state)
			return true;
	return false;
}

bool links_have_waiting(const struct links *ls)
{
	return have(ls, 1u << LINK_WAITING) || forwards_are_waiting(ls, false);
}

bool links_have_unopened(const struct links *ls)
{
	return have(ls, 1u << LINK_WAITING | 1u << LINK_OPENING) || forwards_are_waiting(ls, true);
}

void links_on_closed(struct links *ls)
{
	ls->next_number = 2;
	ls->forwards.highest_channel = 0;
	ls->forwards.is_agent_asked = false;
	ls->last = NULL;
	for (struct list *n = ls->list.next; n != &ls->list; n = n->next)
		CONTAINER_OF(n, struct link, node)->number = 0;
}

void links_lose(struct links *ls, const char *text)
{
	for (struct list *n = ls->list.next, *next; n != &ls->list; n = next) {
		struct link *l = CONTAINER_OF(n, struct link, node);

		next = n->next;
		if (l->jump)
			continue;
		if (l->state == LINK_LIVE)
			link_lose(l, text);
		else if (l->state == LINK_ASKED)
			link_abandon(l);
		else if (l->state != LINK_NEW && l->state != LINK_DONE)
			link_fail(l, text, EXIT_UNREACHABLE);
	}
	forwards_lose(ls, text);
}

void links_drop_jumps(struct links *ls)
{
	for (struct list *n = ls->list.next; n != &ls->list; n = n->next) {
		struct link *l = CONTAINER_OF(n, struct link, node);

		if (!l->jump)
			continue;
		link_move(l, LINK_DONE);
		jump_drop(l);
	}
}

/*
 * procd does not answer OPEN: the user is told. Or the client closed and procd gives no credit for what he had sent (its
 * program reads nothing, perhaps because nobody reads from it): that is dropped, so that CLOSE hangs the program up.
 */
static void on_deadline(struct timer *t)
{
	struct link *l = CONTAINER_OF(t, struct link, deadline);
	struct session *s = l->links->session;

	/* Nobody is left to be told, or to find the sandbox for: procd's stream only lingers. */
	if (s->phase != SESSION_LIVE)
		return;
	if (l->farewell && l->chan) {
		link_say_farewell(l);
		session_flush(s);
		return;
	}
	if (l->state == LINK_ASKED) {
		(void)!link_refuse(l, "unreachable", "the client does not answer");
		return;
	}
	if (l->state != LINK_OPENING && l->state != LINK_LIVE)
		return;
	if (l->state == LINK_OPENING && !l->is_silent && !l->is_close_wanted) {
		l->is_silent = true;
		timer_start(s->ring, &l->deadline, LINK_OPEN_MS - LINK_SILENT_MS);
		l->links->events->on_silent(l->links);
		return;
	}
	l->is_up_discarded = true;
	link_window_release(l, l->up.bytes);
	chain_clear(&l->up);
	l->is_close_wanted = true;
	if (l->state == LINK_OPENING && link_can_send(l))
		link_client_fail(l, "the sandbox does not answer", EXIT_UNREACHABLE); /* keeps l: it is OPENING still */
	link_push_up(l);
	session_flush(s);
}
