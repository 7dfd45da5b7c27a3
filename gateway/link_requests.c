/*
 * What the client asks: channels, pty, environment, programs, signals, the end of a channel.
 */
#include "gateway/jump.h"
#include "gateway/limits.h"
#include "gateway/link_internal.h"
#include "gateway/link_setup.h"
#include "gateway/session.h"

#include <stdio.h>

/* A channel that is not opened: its link, where there is one, goes. */
static enum chan_answer refuse_open(struct link *l, struct chan *ch, enum chan_open_failure why, const char *text)
{
	if (l) {
		l->chan = NULL;
		link_free(l);
	}
	chan_set_owner(ch, NULL);
	chan_refuse(ch, why, text);
	return CHAN_NO;
}

bool link_is_allowed(const struct link *l, char ret_why[POLICY_WHY_MAX])
{
	struct policies p = session_policies(l->links->session);

	return link_setup_is_allowed(l->setup, &p, ret_why);
}

enum chan_answer link_on_chan_open(struct links *ls, struct chan *ch, const struct chan_open *o)
{
	char *why = ls->session->worker->why; /* read after this call */
	struct link *l;

	if (o->kind == CHAN_TCP && jump_is_meant(ls->session, o))
		return jump_open(ls, ch);
	if (o->kind == CHAN_TCP && (o->port == 0 || o->port > 65535)) {
		chan_refuse(ch, CHAN_CONNECT_FAILED, "no such port");
		return CHAN_NO;
	}
	if (o->kind == CHAN_UNIX && !path_is_good(o->path)) {
		chan_refuse(ch, CHAN_CONNECT_FAILED, "the path of a Unix socket has 1 to 107 bytes, and no NUL");
		return CHAN_NO;
	}
	l = ls->count < LINK_COUNT_MAX ? link_new(ls, ch) : NULL;
	if (l)
		l->setup = link_setup_new();
	if (!l || !l->setup || (o->kind != CHAN_SESSION && !link_setup_forward(l->setup, o)))
		return refuse_open(l, ch, CHAN_RESOURCE_SHORTAGE, "too many channels, or no memory");
	if (o->kind != CHAN_SESSION && !link_is_allowed(l, why))
		return refuse_open(l, ch, CHAN_PROHIBITED, why);
	ls->opened_count++;
	if (o->kind == CHAN_SESSION)
		return CHAN_YES;
	l->is_forward = true;
	link_move(l, LINK_WAITING);
	ls->events->on_wanted(ls);
	return CHAN_LATER;
}

static void refuse_legacy_scp(struct link *l)
{
	struct chan *ch = l->chan;
	static const char text[] = "legacy scp mode is not supported; use the default scp (SFTP) mode\n";

	link_move(l, LINK_DONE);
	chan_reply(ch, true);
	if (chan_room(ch) >= sizeof(text) - 1)
		(void)chan_write(ch, true, (const uint8_t *)text, sizeof(text) - 1);
	chan_exit_status(ch, 1);
	chan_eof(ch);
	chan_close(ch);
}

static enum chan_answer on_start(struct link *l, const struct chan_request *r)
{
	char why[POLICY_WHY_MAX];

	if (!link_setup_start(l->setup, r))
		return CHAN_NO;
	if (r->kind == CHAN_EXEC && command_is_legacy_scp(r->value)) {
		refuse_legacy_scp(l);
		return CHAN_LATER;
	}
	if (!link_is_allowed(l, why)) {
		link_forbid(l, why);
		return CHAN_LATER;
	}
	l->is_subsystem = r->kind == CHAN_SUBSYSTEM;
	link_move(l, LINK_WAITING);
	l->links->events->on_wanted(l->links);
	return CHAN_LATER;
}

static void send_resize(struct link *l, const struct chan_request *r)
{
	struct frame f = {.type = FRAME_RESIZE, .channel = l->number};

	f.resize.columns = r->columns;
	f.resize.rows = r->rows;
	f.resize.xpixels = r->xpixels;
	f.resize.ypixels = r->ypixels;
	if (procd_client_send(l->links->procd, &f) < 0)
		session_close(l->links->session, "out of memory");
}

static enum chan_answer on_window_change(struct link *l, const struct chan_request *r)
{
	if (!l->has_pty)
		return CHAN_NO;
	l->columns = r->columns;
	if (l->setup) {
		l->setup->options.pty.columns = r->columns;
		l->setup->options.pty.rows = r->rows;
		l->setup->options.pty.xpixels = r->xpixels;
		l->setup->options.pty.ypixels = r->ypixels;
	} else if (l->state == LINK_OPENING || l->state == LINK_LIVE) {
		send_resize(l, r);
	}
	return CHAN_YES;
}

static enum chan_answer on_signal(struct link *l, const struct chan_request *r)
{
	struct frame f = {.type = FRAME_SIGNAL, .channel = l->number, .signal = r->value};

	if ((l->state != LINK_OPENING && l->state != LINK_LIVE) || r->value.n == 0 || r->value.n > 32)
		return CHAN_NO;
	return procd_client_send(l->links->procd, &f) == 0 ? CHAN_YES : CHAN_NO;
}

bool link_may_offer_agent(struct link *l)
{
	const struct session *s = l->links->session;
	char why[POLICY_WHY_MAX], text[POLICY_WHY_MAX + 32];
	struct policies p = session_policies(s);

	if (policies_allow_agent(&p, why))
		return true;
	/* Most clients want no reply: it is for those who look with ssh -v. */
	snprintf(text, sizeof(text), "ringgate: %s", why);
	conn_debug(s->conn, text);
	return false;
}

static enum chan_answer on_offer_agent(struct link *l)
{
	if (l->state != LINK_NEW)
		return CHAN_NO;
	if (!link_may_offer_agent(l)) {
		l->setup->is_agent_refused = true;
		return CHAN_NO;
	}
	l->offers_agent = l->setup->options.agent = true;
	return CHAN_YES;
}

enum chan_answer link_on_chan_request(struct chan *ch, const struct chan_request *r)
{
	struct link *l = chan_owner(ch);
	struct session *s = l->links->session;

	switch (r->kind) {
	case CHAN_PTY:
		if (l->state != LINK_NEW || !link_setup_pty(l->setup, r))
			return CHAN_NO;
		l->has_pty = true;
		l->columns = r->columns;
		return CHAN_YES;
	case CHAN_ENV:
		return l->state == LINK_NEW && link_setup_env(l->setup, s->server->config, r) ? CHAN_YES : CHAN_NO;
	case CHAN_SHELL:
	case CHAN_EXEC:
	case CHAN_SUBSYSTEM:
		return l->state == LINK_NEW ? on_start(l, r) : CHAN_NO;
	case CHAN_WINDOW_CHANGE:
		return on_window_change(l, r);
	case CHAN_SIGNAL:
		return on_signal(l, r);
	case CHAN_BREAK:
		return l->has_pty ? CHAN_YES
				  : CHAN_NO; /* a pty has no line to break: as sshd, accepted and without effect */
	case CHAN_OFFER_AGENT:
		return on_offer_agent(l);
	case CHAN_OTHER: /* x11-req among them */
		break;
	}
	return CHAN_NO;
}

/*
 * A client whose two directions are at EOF closes at once, while the command may still run: its exit status is waited for, as
 * sshd does. Any other CLOSE gives the channel up.
 */
static bool still_owes_exit(const struct link *l)
{
	return l->state == LINK_LIVE && !l->is_forward && !l->is_exit_seen && l->is_up_eof && chan_is_eof_sent(l->chan);
}

void link_on_chan_close(struct chan *ch)
{
	struct link *l = chan_owner(ch);

	if (still_owes_exit(l))
		return;
	if (l->jump) {
		link_move(l, LINK_DONE);
		jump_leave(l);
	}
	if (l->state == LINK_OPENING || l->state == LINK_LIVE) {
		l->is_close_wanted = true;
		link_push_up(l);
		if (!l->is_close_sent)
			timer_start(l->links->session->ring, &l->deadline,
				    l->is_forward && l->is_up_eof ? LINK_DRAIN_MS : SESSION_LINGER_MS);
	} else if (l->state == LINK_WAITING) {
		link_move(l, LINK_DONE);
	}
	link_offer_is_over(l);
	chan_close(ch);
}

void link_on_chan_gone(struct chan *ch)
{
	struct link *l = chan_owner(ch);

	if (!l)
		return;
	l->chan = NULL;
	link_free_when_done(l);
}
