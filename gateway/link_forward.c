/*
 * Links that procd opens: to what the client wants listened for, or to his agent. All else is refused by the stream's end.
 *
 *   NEW ──► ASKED (the client is) ──CONFIRMATION──► LIVE, as any other
 *                  └── FAILURE, no answer, stream lost ──► DONE
 */
#include "gateway/limits.h"
#include "gateway/link_internal.h"
#include "gateway/session.h"

#include <errno.h>

static int send_refused(struct links *ls, uint32_t number, const char *code, const char *message)
{
	struct frame f = {.type = FRAME_REFUSED, .channel = number, .error = {bytes_str(code), bytes_str(message)}};

	/* One that asks again and again and reads no answer. */
	if (procd_client_unsent(ls->procd) > PROCD_OUT_MAX)
		return -EPROTO;
	if (procd_client_send(ls->procd, &f) < 0)
		session_close(ls->session, "out of memory");
	return 0;
}

/* The client takes channels to his agent for this session, now. */
static bool has_offer(const struct link *l)
{
	return l && l->offers_agent && l->state == LINK_LIVE && link_can_send(l);
}

/* 1: it was asked for, and *ret_open says what. 0: it was, but not any more. -EPROTO: never. */
static int find_asked_for(struct links *ls, const struct frame *f, struct chan_open *ret_open)
{
	const struct frame_open_options *o = &f->open.options;
	struct policies p = session_policies(ls->session);
	char why[POLICY_WHY_MAX];
	const struct listening *n;

	if (bytes_is(f->open.kind, "agent")) {
		ret_open->kind = CHAN_AGENT;
		if (!ls->forwards.is_agent_asked)
			return -EPROTO;
		return has_offer(link_find(ls, o->session)) && policies_allow_agent(&p, why);
	}
	ret_open->kind = bytes_is(f->open.kind, "forwarded-tcp")    ? CHAN_FORWARDED_TCP
			 : bytes_is(f->open.kind, "forwarded-unix") ? CHAN_FORWARDED_UNIX
								    : CHAN_SESSION;
	n = ret_open->kind != CHAN_SESSION ? forwards_find(ls, o->request) : NULL;
	if (!n || n->is_unix != (ret_open->kind == CHAN_FORWARDED_UNIX) || n->state == LISTENING_ASKED)
		return -EPROTO;
	if (o->originator_host.n > FORWARD_ADDRESS_MAX || o->originator_port > 65535)
		return -EPROTO;
	ret_open->host = ret_open->path = n->address;
	ret_open->port = n->port;
	ret_open->originator_host = o->originator_host;
	ret_open->originator_port = o->originator_port;
	return n->state == LISTENING_LIVE;
}

static struct link *link_ask(struct links *ls, const struct frame *f, const struct chan_open *o)
{
	struct chan *ch = conn_chan_open(ls->session->conn, o, NULL);
	struct link *l = ch ? link_new(ls, ch) : NULL;

	if (ch && !l)
		chan_abandon(ch);
	if (!l)
		return NULL;
	link_move(l, LINK_ASKED);
	l->is_forward = true;
	l->number = f->channel;
	l->up_credit = f->open.credit;
	if (o->kind == CHAN_AGENT) {
		l->agent_of = f->open.options.session;
		ls->forwards.agent_count++;
	}
	ls->opened_count++;
	ls->forwards.asked_count++;
	timer_start(ls->session->ring, &l->deadline, LINK_OPEN_MS);
	return l;
}

int links_on_open(struct links *ls, const struct frame *f)
{
	struct chan_open o = {0};
	int rc;

	if (f->channel % 2 == 0 || f->channel <= ls->forwards.highest_channel || f->open.credit > PROCD_CREDIT_MAX)
		return -EPROTO;
	rc = find_asked_for(ls, f, &o);
	if (rc < 0)
		return rc;
	ls->forwards.highest_channel = f->channel;
	if (rc == 0)
		rc = send_refused(ls, f->channel, "denied",
				  o.kind == CHAN_AGENT ? "no agent is offered there" : "nobody waits for it any more");
	else if (ls->forwards.asked_count >= FORWARD_ASKED_MAX || ls->count >= LINK_COUNT_MAX ||
		 (o.kind == CHAN_AGENT && ls->forwards.agent_count >= FORWARD_AGENT_MAX) || !link_ask(ls, f, &o))
		rc = send_refused(ls, f->channel, "too-many-channels", "too many channels, or no memory");
	else
		rc = 0;
	links_settle(ls);
	return rc;
}

/* The client has answered, or will not be waited for. */
static void link_answered(struct link *l)
{
	ASSERT(l->state == LINK_ASKED);
	l->links->forwards.asked_count--;
	timer_stop(l->links->session->ring, &l->deadline);
}

void link_abandon(struct link *l)
{
	link_answered(l);
	link_move(l, LINK_DONE);
	chan_abandon(l->chan);
	l->chan = NULL;
	link_free(l);
}

int link_refuse(struct link *l, const char *code, const char *message)
{
	int rc = send_refused(l->links, l->number, code, message);

	link_abandon(l);
	return rc;
}

void link_on_chan_opened(struct chan *ch)
{
	struct link *l = chan_owner(ch);
	struct frame f = {.type = FRAME_OPENED, .channel = l->number};

	link_answered(l);
	link_move(l, LINK_LIVE);
	l->down_credit = link_down_allowance(l);
	l->links->down_total += l->down_credit;
	f.opened.credit = l->down_credit;
	if (procd_client_send(l->links->procd, &f) < 0)
		session_close(l->links->session, "out of memory");
}

void link_on_chan_refused(struct chan *ch, uint32_t why, struct bytes text)
{
	struct link *l = chan_owner(ch);
	char plain[160];

	tell_copy_plain(text, plain, sizeof(plain));
	link_answered(l);
	link_move(l, LINK_DONE);
	/* Where procd reads no answers the stream ends by what it sends next. */
	(void)!send_refused(l->links, l->number, why == CHAN_CONNECT_FAILED ? "unreachable" : "denied", plain);
	l->chan = NULL;
	link_free(l);
}

/* --- the end of an offer --- */

void link_offer_is_over(struct link *l)
{
	if (!l->offers_agent)
		return;
	l->links->forwards.is_offer_over = true;
	links_settle(l->links);
}

static void end_agent(struct link *l)
{
	if (l->state == LINK_ASKED) {
		(void)!link_refuse(l, "denied", "its session has ended");
		return;
	}
	l->is_up_discarded = l->is_close_wanted = true;
	link_window_release(l, l->up.bytes);
	chain_clear(&l->up);
	link_push_up(l);
	if (link_can_send(l)) {
		chan_eof(l->chan);
		chan_close(l->chan); /* keeps l: it is LIVE still */
	}
}

void links_end_agents(struct links *ls)
{
	if (!ls->forwards.is_offer_over)
		return;
	ls->forwards.is_offer_over = false;
	for (struct list *n = ls->list.next, *next; n != &ls->list; n = next) {
		struct link *l = CONTAINER_OF(n, struct link, node);

		next = n->next;
		if (l->agent_of != 0 && l->state != LINK_DONE && !has_offer(link_find(ls, l->agent_of)))
			end_agent(l);
	}
}
