/*
 * Frames of links: OPEN, and what procd says on a channel.
 */
#include "gateway/limits.h"
#include "gateway/link_internal.h"
#include "gateway/link_setup.h"
#include "gateway/session.h"

#include <errno.h>
#include <string.h>

/* Of a sandbox that slept it was not known when the client asked. On a terminal its user is told; ssh -v was told already. */
static void limit_agent(struct link *l, const struct policies *p)
{
	char why[POLICY_WHY_MAX];

	if (l->offers_agent && !link_may_offer_agent(l)) {
		l->offers_agent = l->setup->options.agent = false;
		l->setup->is_agent_refused = true;
	}
	if (l->setup->is_agent_refused && l->has_pty && !policies_allow_agent(p, why))
		link_tell(l, why);
}

/* The last line ends, too; `to` has room. */
static void add_lines(char *to, const char *text)
{
	size_t n = strlen(text);

	if (n == 0)
		return;
	to += strlen(to);
	memcpy(to, text, n + 1);
	if (text[n - 1] != '\n')
		strcpy(to + n, "\n");
}

static void send_open(struct link *l)
{
	struct links *ls = l->links;
	struct policies p = session_policies(ls->session);
	struct frame f = {.type = FRAME_OPEN};
	char why[POLICY_WHY_MAX], motd[MOTD_BYTES + MOTD_TEXT_MAX + 1];

	if (!link_is_allowed(l, why)) {
		link_forbid(l, why);
		return;
	}
	link_setup_limit(l->setup, &p, why);
	limit_agent(l, &p);
	link_move(l, LINK_OPENING);
	link_clear_waking(l);         /* while all of the client's window is ours still */
	l->is_silent = l->is_forward; /* a connection that procd makes may take its time */
	timer_start(ls->session->ring, &l->deadline, l->is_silent ? LINK_OPEN_MS : LINK_SILENT_MS);
	l->number = ls->next_number;
	ls->next_number += 2;
	/* A tcp channel is not accepted yet, so its room is 0 and its first credit comes when it is. */
	l->down_credit = link_down_allowance(l);
	ls->down_total += l->down_credit;
	f.channel = l->number;
	f.open.kind = bytes_str(l->setup->kind);
	f.open.credit = l->down_credit;
	f.open.options = l->setup->options;
	if (link_setup_is_greeted(l->setup)) {
		texts_motd(&ls->session->server->texts, motd);
		add_lines(motd, policies_motd(&p));
		f.open.options.message = bytes_str(motd);
	}
	if (l->setup->options.agent)
		ls->forwards.is_agent_asked = true;
	if (procd_client_send(ls->procd, &f) < 0) {
		session_close(ls->session, "out of memory");
		return;
	}
	link_setup_free(l->setup);
	l->setup = NULL;
}

void links_on_ready(struct links *ls)
{
	for (struct list *n = ls->list.next, *next; n != &ls->list; n = next) {
		struct link *l = CONTAINER_OF(n, struct link, node);

		next = n->next;
		if (l->state == LINK_WAITING && ls->procd->state == PROCD_READY)
			send_open(l);
	}
	forwards_on_ready(ls);
}

static int on_opened(struct link *l, uint32_t credit)
{
	if (l->state != LINK_OPENING || credit > PROCD_CREDIT_MAX)
		return -EPROTO;
	link_move(l, LINK_LIVE);
	if (!l->is_close_wanted)
		timer_stop(l->links->session->ring, &l->deadline);
	l->up_credit = credit;
	link_clear_waking(l);
	if (link_can_send(l)) {
		if (l->is_forward)
			chan_accept(l->chan);
		else
			chan_reply(l->chan, true);
		link_window_opened(l);
	}
	link_push_up(l);
	return 0;
}

static int on_refused(struct link *l, const struct frame *f)
{
	struct chan *ch = l->chan;
	char text[160];

	if (l->state != LINK_OPENING)
		return -EPROTO;
	tell_copy_plain(f->error.message, text, sizeof(text));
	if (ch && !chan_is_close_sent(ch) && l->is_subsystem) {
		link_move(l, LINK_DONE);
		chan_reply(ch, false);
	} else if (ch && l->is_forward && bytes_is(f->error.code, "denied")) {
		link_move(l, LINK_DONE);
		l->chan = NULL;
		chan_refuse(ch, CHAN_PROHIBITED, text);
		link_free_when_done(l);
	} else if (ch && !chan_is_close_sent(ch)) {
		link_fail(l, text, EXIT_UNREACHABLE);
	} else {
		link_move(l, LINK_DONE);
		link_free_when_done(l);
	}
	return 0;
}

static int on_credit(struct link *l, uint32_t credit)
{
	if (l->state != LINK_LIVE || credit > PROCD_CREDIT_MAX || l->up_credit > PROCD_CREDIT_MAX - credit)
		return -EPROTO;
	l->up_credit += credit;
	link_push_up(l);
	return 0;
}

static int on_exit_frame(struct link *l, const struct frame *f)
{
	char message[160];

	if (l->state != LINK_LIVE || l->is_exit_seen || l->is_forward)
		return -EPROTO;
	l->is_exit_seen = true;
	if (!link_can_send(l))
		return 0;
	if (f->type == FRAME_EXIT) {
		chan_exit_status(l->chan, f->exit_status);
		return 0;
	}
	tell_copy_plain(f->exit_signal.message, message, sizeof(message));
	chan_exit_signal(l->chan, f->exit_signal.name, f->exit_signal.core_dumped, bytes_str(message));
	return 0;
}

/* The command takes no more input: what is held is dropped, and so is what comes, while the client's window stays open. */
static int on_eow(struct link *l)
{
	if (l->state != LINK_LIVE)
		return -EPROTO;
	if (l->is_up_discarded)
		return 0; /* told once: each would be a message to the client */
	l->is_up_discarded = true;
	l->up_return += (uint32_t)l->up.bytes;
	link_window_release(l, l->up.bytes);
	chain_clear(&l->up);
	if (link_can_send(l))
		chan_eow(l->chan);
	link_push_up(l);
	return 0;
}

static int on_close_frame(struct link *l)
{
	if (l->state == LINK_ASKED)
		return link_refuse(l, "denied", "closed before it was open");
	if (l->state != LINK_LIVE)
		return -EPROTO;
	l->is_peer_closed = true;
	if (!l->is_close_sent) {
		l->is_close_sent = true;
		link_send_frame(l, FRAME_CLOSE);
	}
	link_move(l, LINK_DONE);
	if (link_can_send(l)) {
		chan_eof(l->chan);
		chan_close(l->chan); /* frees the link where the client had closed before */
	} else {
		link_free_when_done(l);
	}
	return 0;
}

int links_on_frame(struct links *ls, const struct frame *f)
{
	struct link *l;
	int rc = 0;

	if (f->type == FRAME_OPEN)
		return links_on_open(ls, f);
	if (!link_number_was_used(ls, f->channel))
		return -EPROTO;
	l = link_find(ls, f->channel);
	if (!l || l->state == LINK_DONE)
		return 0; /* it was on its way */
	switch (f->type) {
	case FRAME_OPENED:
		rc = on_opened(l, f->opened.credit);
		break;
	case FRAME_REFUSED:
		rc = on_refused(l, f);
		break;
	case FRAME_CREDIT:
		rc = on_credit(l, f->credit);
		break;
	case FRAME_EOF:
		if (l->state != LINK_LIVE)
			rc = -EPROTO;
		else if (link_can_send(l))
			chan_eof(l->chan);
		break;
	case FRAME_EXIT:
	case FRAME_EXIT_SIGNAL:
		rc = on_exit_frame(l, f);
		break;
	case FRAME_EOW:
		rc = on_eow(l);
		break;
	case FRAME_CLOSE:
		rc = on_close_frame(l);
		break;
	default:
		rc = -EPROTO;
	}
	links_settle(ls);
	return rc;
}
