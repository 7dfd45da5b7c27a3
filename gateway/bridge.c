/*
 * The bridge: channels to links, links to frames.
 *
 * Invariants, checked here:
 *   down_credit <= chan_room                 so what procd sends always fits the client's window, and nothing is kept
 *   up held + chan_window <= up_granted      so what the client sends always has a place
 *
 * Over 800 lines because both directions share these invariants and the life of a link; the client's requests and the messages for
 * the user are what could stand apart.
 */
#include "gateway/bridge.h"

#include "core/log.h"
#include "gateway/link_setup.h"
#include "gateway/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct procd_client_events procd_events;
static void on_settle(struct deferred *d);
static void on_linger(struct timer *t);
static void on_link_deadline(struct timer *t);
static void say_farewell(struct link *l);
static void connect_procd(struct bridge *b);

static const uint8_t allowed[] = {
	[LINK_NEW] = 1u << LINK_WAITING | 1u << LINK_DONE,
	[LINK_WAITING] = 1u << LINK_OPENING | 1u << LINK_DONE,
	[LINK_OPENING] = 1u << LINK_LIVE | 1u << LINK_DONE,
	[LINK_LIVE] = 1u << LINK_DONE,
	[LINK_DONE] = 0,
};

/* The only writer of l->state. */
static void link_move(struct link *l, enum link_state to)
{
	ASSERT(allowed[l->state] & 1u << to);
	l->state = to;
}

void bridge_init(struct bridge *b, struct session *s)
{
	memset(b, 0, sizeof(*b));
	b->session = s;
	b->next_number = 2;
	list_init(&b->links);
	deferred_init(&b->settle, on_settle);
	timer_init(&b->linger, on_linger);
	procd_client_init(&b->procd, &procd_events);
}

static struct link *link_new(struct bridge *b, struct chan *ch)
{
	struct link *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->setup = link_setup_new();
	if (!l->setup) {
		free(l);
		return NULL;
	}
	l->bridge = b;
	l->chan = ch;
	l->up_granted = LINK_WINDOW_FIRST;
	l->down_limit = LINK_CREDIT_FIRST;
	timer_init(&l->deadline, on_link_deadline);
	chain_init(&l->up, ring_pool(b->session->ring));
	list_add_tail(&b->links, &l->node);
	b->link_count++;
	b->up_total += l->up_granted;
	chan_set_owner(ch, l);
	return l;
}

static void link_free(struct link *l)
{
	struct bridge *b = l->bridge;

	ASSERT(!l->chan);
	if (b->last == l)
		b->last = NULL;
	timer_stop(b->session->ring, &l->deadline);
	b->link_count--;
	b->up_total -= l->up_granted;
	b->down_total -= l->down_credit;
	chain_clear(&l->up);
	link_setup_free(l->setup);
	list_del(&l->node);
	free(l);
}

/* Both sides are done with it? */
static void link_free_when_done(struct link *l)
{
	if (!l->chan && (l->state == LINK_DONE || l->state == LINK_NEW))
		link_free(l);
}

static struct link *link_find(struct bridge *b, uint32_t number)
{
	if (b->last && b->last->number == number)
		return b->last;
	for (struct list *n = b->links.next; n != &b->links; n = n->next) {
		struct link *l = CONTAINER_OF(n, struct link, node);

		if (l->number == number) {
			b->last = l;
			return l;
		}
	}
	return NULL;
}

static void send_frame(struct link *l, uint32_t type)
{
	struct frame f = {.type = type, .channel = l->number};

	if (procd_client_send(&l->bridge->procd, &f) < 0)
		session_close(l->bridge->session, "out of memory");
}

/* --- messages for the user --- */

/* What a sandbox says is shown to the user without what would steer his terminal. */
static void copy_plain(struct bytes from, char *ret_text, size_t size)
{
	size_t n = from.n < size - 1 ? from.n : size - 1;

	for (size_t i = 0; i < n; i++)
		ret_text[i] = from.p[i] < ' ' || from.p[i] == 0x7f ? '?' : (char)from.p[i];
	ret_text[n] = 0;
}

#define TELL_MAX 256

static bool has_room_to_tell(const struct link *l)
{
	return chan_room(l->chan) >= TELL_MAX;
}

/* On the channel's stderr, as far as the client's window goes. */
static void tell_user(struct link *l, const char *text)
{
	char line[TELL_MAX];
	int n = snprintf(line, sizeof(line), "ringgate: %s\r\n", text);

	if (n < 0 || l->is_tcp || !l->chan)
		return;
	if ((size_t)n >= sizeof(line))
		n = sizeof(line) - 1;
	if (chan_room(l->chan) >= (uint32_t)n)
		(void)chan_write(l->chan, true, (const uint8_t *)line, (size_t)n);
}

/* Ends the client's side of a channel that never reached a program: a message and an exit status, never a bare close. */
static void client_fail(struct link *l, const char *text, uint32_t status)
{
	struct chan *ch = l->chan;

	if (l->is_tcp) {
		l->chan = NULL;
		chan_refuse(ch, CHAN_CONNECT_FAILED, text);
		link_free_when_done(l);
		return;
	}
	chan_reply(ch, true);
	tell_user(l, text);
	chan_exit_status(ch, status);
	chan_eof(ch);
	chan_close(ch);
}

/* The same, and the link's. */
static void link_fail(struct link *l, const char *text, uint32_t status)
{
	link_move(l, LINK_DONE);
	if (l->chan && !chan_is_close_sent(l->chan))
		client_fail(l, text, status);
	else
		link_free_when_done(l);
}

/* --- from the client --- */

enum chan_answer bridge_on_chan_open(struct bridge *b, struct chan *ch, const struct chan_open *o)
{
	const struct config *c = b->session->server->config;
	struct link *l;

	if (o->is_tcp && (c->session.forward_tcp == 0 || (c->session.forward_tcp == 1 && !host_is_loopback(o->host)))) {
		chan_refuse(ch, CHAN_PROHIBITED,
			    c->session.forward_tcp == 0
				    ? "forwarding is switched off at this gateway"
				    : "only addresses inside the sandbox (localhost) can be reached");
		return CHAN_NO;
	}
	if (o->is_tcp && (o->port == 0 || o->port > 65535)) {
		chan_refuse(ch, CHAN_CONNECT_FAILED, "no such port");
		return CHAN_NO;
	}
	l = b->link_count < LINK_COUNT_MAX ? link_new(b, ch) : NULL;
	if (!l || (o->is_tcp && !link_setup_tcp(l->setup, o))) {
		if (l) {
			l->chan = NULL;
			link_free(l);
		}
		chan_set_owner(ch, NULL);
		chan_refuse(ch, CHAN_RESOURCE_SHORTAGE, "too many channels, or no memory");
		return CHAN_NO;
	}
	b->opened_count++;
	if (!o->is_tcp)
		return CHAN_YES;
	l->is_tcp = true;
	link_move(l, LINK_WAITING);
	connect_procd(b);
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
	if (!link_setup_start(l->setup, r))
		return CHAN_NO;
	if (r->kind == CHAN_EXEC && command_is_legacy_scp(r->value)) {
		refuse_legacy_scp(l);
		return CHAN_LATER;
	}
	l->is_subsystem = r->kind == CHAN_SUBSYSTEM;
	link_move(l, LINK_WAITING);
	connect_procd(l->bridge);
	return CHAN_LATER;
}

static void send_resize(struct link *l, const struct chan_request *r)
{
	struct frame f = {.type = FRAME_RESIZE, .channel = l->number};

	f.resize.columns = r->columns;
	f.resize.rows = r->rows;
	f.resize.xpixels = r->xpixels;
	f.resize.ypixels = r->ypixels;
	if (procd_client_send(&l->bridge->procd, &f) < 0)
		session_close(l->bridge->session, "out of memory");
}

static enum chan_answer on_window_change(struct link *l, const struct chan_request *r)
{
	if (!l->has_pty)
		return CHAN_NO;
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
	return procd_client_send(&l->bridge->procd, &f) == 0 ? CHAN_YES : CHAN_NO;
}

enum chan_answer bridge_on_chan_request(struct chan *ch, const struct chan_request *r)
{
	struct link *l = chan_owner(ch);
	struct session *s = l->bridge->session;

	switch (r->kind) {
	case CHAN_PTY:
		if (l->state != LINK_NEW || !link_setup_pty(l->setup, r))
			return CHAN_NO;
		l->has_pty = true;
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
	case CHAN_OTHER:
		break;
	}
	return CHAN_NO;
}

/* Sends what is held as far as procd's credit goes; then EOF or CLOSE when they were waiting for that. */
static void push_up(struct link *l)
{
	struct procd_client *p = &l->bridge->procd;
	struct iovec iov;

	if (l->state != LINK_LIVE)
		return;
	while (l->up.bytes > 0 && l->up_credit > 0 && chain_iov(&l->up, &iov, 1) == 1) {
		uint32_t n = iov.iov_len < l->up_credit ? (uint32_t)iov.iov_len : l->up_credit;

		if (procd_client_send_data(p, l->number, bytes_of(iov.iov_base, n)) < 0) {
			session_close(l->bridge->session, "out of memory");
			return;
		}
		chain_consume(&l->up, n);
		l->up_credit -= n;
		l->up_return += n;
	}
	if (l->up.bytes > 0)
		return;
	if (l->is_up_eof && !l->is_up_eof_sent && !l->is_close_sent) {
		l->is_up_eof_sent = true;
		send_frame(l, FRAME_EOF);
	}
	if (l->is_close_wanted && !l->is_close_sent) {
		l->is_close_sent = true;
		send_frame(l, FRAME_CLOSE);
	}
}

void bridge_on_chan_data(struct chan *ch, struct bytes data)
{
	struct link *l = chan_owner(ch);
	struct bridge *b = l->bridge;
	size_t now = 0;

	if (l->state == LINK_DONE || l->is_up_discarded) {
		l->up_return += (uint32_t)data.n;
		return;
	}
	if (l->state == LINK_LIVE && l->up.bytes == 0) {
		now = data.n < l->up_credit ? data.n : l->up_credit;
		if (now > 0 && procd_client_send_data(&b->procd, l->number, bytes_of(data.p, now)) < 0) {
			session_close(b->session, "out of memory");
			return;
		}
		l->up_credit -= (uint32_t)now;
		l->up_return += (uint32_t)now;
	}
	if (now < data.n && chain_append(&l->up, data.p + now, data.n - now) < 0)
		session_close(b->session, "out of memory");
}

void bridge_on_chan_eof(struct chan *ch)
{
	struct link *l = chan_owner(ch);

	l->is_up_eof = true;
	push_up(l);
}

/*
 * A client whose two directions are at EOF closes at once, while the command may still run: its exit status is waited for, as
 * sshd does. Any other CLOSE gives the channel up.
 */
static bool still_owes_exit(const struct link *l)
{
	return l->state == LINK_LIVE && !l->is_tcp && !l->is_exit_seen && l->is_up_eof && chan_is_eof_sent(l->chan);
}

void bridge_on_chan_close(struct chan *ch)
{
	struct link *l = chan_owner(ch);

	if (still_owes_exit(l))
		return;
	if (l->state == LINK_OPENING || l->state == LINK_LIVE) {
		l->is_close_wanted = true;
		push_up(l);
		if (!l->is_close_sent)
			timer_start(l->bridge->session->ring, &l->deadline, SESSION_LINGER_MS);
	} else if (l->state == LINK_WAITING) {
		link_move(l, LINK_DONE);
	}
	chan_close(ch);
}

/*
 * procd does not answer OPEN: the user is told. Or the client closed and procd gives no credit for what he had sent (its
 * program reads nothing, perhaps because nobody reads from it): that is dropped, so that CLOSE hangs the program up.
 */
static void on_link_deadline(struct timer *t)
{
	struct link *l = CONTAINER_OF(t, struct link, deadline);
	struct session *s = l->bridge->session;

	if (l->farewell && l->chan) {
		say_farewell(l);
		session_flush(s);
		return;
	}
	if (l->state != LINK_OPENING && l->state != LINK_LIVE)
		return;
	l->is_up_discarded = true;
	chain_clear(&l->up);
	l->is_close_wanted = true;
	if (l->state == LINK_OPENING && l->chan && !chan_is_close_sent(l->chan))
		client_fail(l, "the sandbox does not answer", EXIT_UNREACHABLE); /* keeps l: it is OPENING still */
	push_up(l);
	session_flush(s);
}

void bridge_on_chan_gone(struct chan *ch)
{
	struct link *l = chan_owner(ch);

	if (!l)
		return;
	l->chan = NULL;
	link_free_when_done(l);
}

/* --- credits, at the end of a batch --- */

/* Opens the client's window by what procd's socket took; doubles it while use and budget ask for more. */
static void settle_up(struct link *l)
{
	struct bridge *b = l->bridge;
	uint32_t max = b->session->server->config->session.window_bytes, n = l->up_return;

	if (!l->chan || n < l->up_granted / 2 || procd_client_unsent(&b->procd) > PROCD_OUT_MAX)
		return;
	if (2 * l->up_granted <= max && b->up_total + l->up_granted <= SESSION_UP_BUDGET) {
		n += l->up_granted;
		b->up_total += l->up_granted;
		l->up_granted *= 2;
	}
	l->up_return = 0;
	chan_grant(l->chan, n);
}

/* What procd may be given on this channel now, within the connection's budget and the client's window. */
static uint32_t down_allowance(const struct link *l)
{
	const struct bridge *b = l->bridge;
	size_t used = b->session->client.out.bytes + b->down_total;
	uint32_t want = chan_room(l->chan) < l->down_limit ? chan_room(l->chan) : l->down_limit;
	uint32_t left = used < SESSION_DOWN_BUDGET ? (uint32_t)(SESSION_DOWN_BUDGET - used) : 0;

	if (want <= l->down_credit)
		return 0;
	want -= l->down_credit;
	/* A channel without credit gets one packet's worth however much the others have, unless the client does not read. */
	if (left < LINK_CREDIT_MIN && l->down_credit == 0 && b->session->client.out.bytes < SESSION_DOWN_BUDGET / 2)
		left = LINK_CREDIT_MIN;
	return want < left ? want : left;
}

static void settle_down(struct link *l)
{
	struct frame f = {.type = FRAME_CREDIT, .channel = l->number};
	uint32_t n;

	if (!l->chan || l->state != LINK_LIVE || l->is_peer_closed || l->is_close_sent)
		return;
	n = down_allowance(l);
	if (n == 0 || (n < l->down_limit / 4 && l->down_credit > l->down_limit / 4))
		return;
	if (l->down_credit < l->down_limit / 2 && l->down_limit < LINK_CREDIT_MAX)
		l->down_limit *= 2; /* more than half was used since the last grant */
	l->down_credit += n;
	l->bridge->down_total += n;
	f.credit = n;
	if (procd_client_send(&l->bridge->procd, &f) < 0)
		session_close(l->bridge->session, "out of memory");
}

static void on_settle(struct deferred *d)
{
	struct bridge *b = CONTAINER_OF(d, struct bridge, settle);
	struct session *s = b->session;

	/* While keys are exchanged anew libssh holds what is sent: nothing more is asked for. */
	if (s->phase != SESSION_LIVE)
		return;
	if (conn_is_rekeying(s->conn)) {
		session_flush(s);
		return;
	}
	for (struct list *n = b->links.next, *next; n != &b->links; n = next) {
		struct link *l = CONTAINER_OF(n, struct link, node);

		next = n->next;
		if (l->farewell && l->chan && has_room_to_tell(l)) {
			say_farewell(l);
			continue;
		}
		settle_up(l);
		settle_down(l);
		if (s->phase != SESSION_LIVE)
			return;
	}
	session_flush(s);
}

void bridge_settle(struct bridge *b)
{
	deferred_ask(b->session->ring, &b->settle);
}

/* --- towards procd --- */

static void send_open(struct link *l)
{
	struct bridge *b = l->bridge;
	struct frame f = {.type = FRAME_OPEN};

	link_move(l, LINK_OPENING);
	timer_start(b->session->ring, &l->deadline, LINK_OPEN_MS);
	l->number = b->next_number;
	b->next_number += 2;
	/* A tcp channel is not accepted yet, so its room is 0 and its first credit comes when it is. */
	l->down_credit = down_allowance(l);
	b->down_total += l->down_credit;
	f.channel = l->number;
	f.open.kind = bytes_str(l->setup->kind);
	f.open.credit = l->down_credit;
	f.open.options = l->setup->options;
	if (procd_client_send(&b->procd, &f) < 0) {
		session_close(b->session, "out of memory");
		return;
	}
	link_setup_free(l->setup);
	l->setup = NULL;
}

static void open_waiting(struct bridge *b)
{
	for (struct list *n = b->links.next, *next; n != &b->links; n = next) {
		struct link *l = CONTAINER_OF(n, struct link, node);

		next = n->next;
		if (l->state == LINK_WAITING && b->procd.state == PROCD_READY)
			send_open(l);
	}
}

static void connect_procd(struct bridge *b)
{
	struct session *s = b->session;
	const struct config *c = s->server->config;
	struct ticket t = {0};
	struct procd_client_options o = {
		.addr = (const struct sockaddr *)&s->route.addr,
		.addr_bytes = s->route.addr_bytes,
		.connect_timeout_ms = c->procd.connect_timeout_ms,
		.hello_timeout_ms = c->procd.hello_timeout_ms,
		.ping_ms = c->procd.ping_s * 1000,
		.ping_count = c->procd.ping_count,
		.tcp_user_timeout_ms = c->session.tcp_user_timeout_ms,
		.ticket = &t,
		.secret = &s->server->secret,
		.expected = s->route.has_procd_key ? &s->route.procd_key : NULL,
	};

	if (b->procd.state == PROCD_READY) {
		open_waiting(b);
		return;
	}
	if ((b->procd.state != PROCD_IDLE && b->procd.state != PROCD_CLOSED) || b->is_asking_route)
		return; /* on its way, or ending: on_ready or on_closed goes on */
	snprintf(t.sandbox, sizeof(t.sandbox), "%s", s->route.sandbox);
	snprintf(t.user, sizeof(t.user), "%s", s->route.grant.user);
	snprintf(t.team, sizeof(t.team), "%s", s->route.grant.team);
	snprintf(t.session, sizeof(t.session), "%s", s->id);
	snprintf(t.gateway, sizeof(t.gateway), "%s", c->name);
	snprintf(t.client, sizeof(t.client), "%s", s->address);
	t.issued = (uint64_t)time(NULL);
	procd_client_start(&b->procd, s->ring, &o);
}

static void on_ready(struct procd_client *p)
{
	struct bridge *b = CONTAINER_OF(p, struct bridge, procd);

	b->is_retried = false;
	open_waiting(b);
	session_flush(b->session);
}

/* --- from procd --- */

static int on_opened(struct link *l, uint32_t credit)
{
	if (l->state != LINK_OPENING || credit > PROCD_CREDIT_MAX)
		return -EPROTO;
	link_move(l, LINK_LIVE);
	if (!l->is_close_wanted)
		timer_stop(l->bridge->session->ring, &l->deadline);
	l->up_credit = credit;
	if (l->chan && !chan_is_close_sent(l->chan)) {
		if (l->is_tcp)
			chan_accept(l->chan);
		else
			chan_reply(l->chan, true);
	}
	push_up(l);
	return 0;
}

static int on_refused(struct link *l, const struct frame *f)
{
	struct chan *ch = l->chan;
	char text[160];

	if (l->state != LINK_OPENING)
		return -EPROTO;
	copy_plain(f->error.message, text, sizeof(text));
	if (ch && !chan_is_close_sent(ch) && l->is_subsystem) {
		link_move(l, LINK_DONE);
		chan_reply(ch, false);
	} else if (ch && l->is_tcp && bytes_is(f->error.code, "denied")) {
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
	push_up(l);
	return 0;
}

static bool can_send(const struct link *l)
{
	return l->chan && !chan_is_close_sent(l->chan);
}

static int on_exit_frame(struct link *l, const struct frame *f)
{
	char message[160];

	if (l->state != LINK_LIVE || l->is_exit_seen || l->is_tcp)
		return -EPROTO;
	l->is_exit_seen = true;
	if (!can_send(l))
		return 0;
	if (f->type == FRAME_EXIT) {
		chan_exit_status(l->chan, f->exit_status);
		return 0;
	}
	copy_plain(f->exit_signal.message, message, sizeof(message));
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
	chain_clear(&l->up);
	if (can_send(l))
		chan_eow(l->chan);
	push_up(l);
	return 0;
}

static int on_close_frame(struct link *l)
{
	if (l->state != LINK_LIVE)
		return -EPROTO;
	l->is_peer_closed = true;
	if (!l->is_close_sent) {
		l->is_close_sent = true;
		send_frame(l, FRAME_CLOSE);
	}
	link_move(l, LINK_DONE);
	if (can_send(l)) {
		chan_eof(l->chan);
		chan_close(l->chan); /* frees the link where the client had closed before */
	} else {
		link_free_when_done(l);
	}
	return 0;
}

static int on_frame(struct procd_client *p, const struct frame *f)
{
	struct bridge *b = CONTAINER_OF(p, struct bridge, procd);
	struct link *l;
	int rc = 0;

	if (b->is_closing)
		return 0; /* the client has gone: what is written for it now would be in nobody's hands */
	if (f->channel == 0)
		return f->type == FRAME_GOAWAY ? 0 : -EPROTO;
	if (f->channel >= b->next_number || f->channel % 2 != 0)
		return -EPROTO; /* nothing of procd's own is answered here yet, so it opens nothing unasked */
	l = link_find(b, f->channel);
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
		else if (can_send(l))
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
	bridge_settle(b);
	return rc;
}

static int on_data(struct procd_client *p, uint32_t channel, uint32_t stream, struct bytes piece, uint32_t left)
{
	struct bridge *b = CONTAINER_OF(p, struct bridge, procd);
	struct link *l;

	(void)left;
	if (b->is_closing)
		return 0;
	l = link_find(b, channel);
	if (channel >= b->next_number || channel % 2 != 0 || stream > 1)
		return -EPROTO;
	if (!l || l->state == LINK_DONE)
		return 0;
	if (l->state != LINK_LIVE || piece.n > l->down_credit)
		return -EPROTO;
	l->down_credit -= (uint32_t)piece.n;
	b->down_total -= (uint32_t)piece.n;
	if (!can_send(l))
		return 0;
	if (chan_is_eof_sent(l->chan))
		return -EPROTO;
	(void)chan_write(l->chan, stream == 1, piece.p, piece.n);
	bridge_settle(b);
	return 0;
}

static void on_sent(struct procd_client *p)
{
	struct bridge *b = CONTAINER_OF(p, struct bridge, procd);

	if (b->is_closing) {
		if (procd_client_unsent(p) == 0) {
			timer_stop(b->session->ring, &b->linger);
			procd_client_close(p);
		}
		return;
	}
	bridge_settle(b);
}

/*
 * The sandbox is lost: words, exit-signal, EOF, CLOSE. Where the client's window is used up all of it waits for the window, since
 * the words need some; on_settle and the link's deadline come back to it. Frees the link where the client had closed before.
 */
static void say_farewell(struct link *l)
{
	struct chan *ch = l->chan;
	const char *text = l->farewell;

	l->farewell = NULL;
	timer_stop(l->bridge->session->ring, &l->deadline);
	tell_user(l, text);
	if (!l->is_tcp && !l->is_exit_seen)
		chan_exit_signal(ch, bytes_str("HUP"), false, bytes_str(text));
	chan_eof(ch);
	chan_close(ch);
}

/* The stream is gone: every channel that hangs on it ends, and none looks like success. */
static void links_lose(struct bridge *b, const char *text)
{
	b->is_retried = false;
	for (struct list *n = b->links.next, *next; n != &b->links; n = next) {
		struct link *l = CONTAINER_OF(n, struct link, node);

		next = n->next;
		if (l->state == LINK_NEW || l->state == LINK_DONE)
			continue;
		if (l->state != LINK_LIVE) {
			link_fail(l, text, EXIT_UNREACHABLE);
			continue;
		}
		link_move(l, LINK_DONE);
		if (!can_send(l)) {
			link_free_when_done(l);
			continue;
		}
		l->farewell = text;
		if (l->is_tcp || has_room_to_tell(l) || chan_is_eof_sent(l->chan))
			say_farewell(l);
		else
			timer_start(b->session->ring, &l->deadline, SESSION_LINGER_MS);
	}
}

static const char *const end_texts[] = {
	[PROCD_UNREACHABLE] = "the sandbox cannot be reached",
	[PROCD_WRONG] = "the sandbox cannot be reached: something else answers at its address",
	[PROCD_REFUSED] = "the sandbox refused the connection",
	[PROCD_BROKEN] = "the connection to the sandbox was lost: it broke the protocol",
	[PROCD_LOST] = "the connection to the sandbox was lost",
};

static bool is_same_route(const struct route *a, const struct route *b)
{
	return a->addr_bytes == b->addr_bytes && memcmp(&a->addr, &b->addr, a->addr_bytes) == 0 &&
	       a->has_procd_key == b->has_procd_key && memcmp(&a->procd_key, &b->procd_key, sizeof(a->procd_key)) == 0;
}

/* A sandbox that moved is found again; anything else ends the channels that wait. */
static void on_retry_route(struct route_query *q)
{
	struct bridge *b = q->owner;
	struct session *s = b->session;

	b->is_asking_route = false;
	if (s->phase != SESSION_LIVE)
		return;
	if (q->verdict == VERDICT_YES && !is_same_route(&q->route, &s->route)) {
		s->route = q->route;
		if (b->procd.state == PROCD_CLOSED)
			connect_procd(b);
		return;
	}
	links_lose(b, q->verdict == VERDICT_NO ? "the sandbox is gone, or not yours any more" : end_texts[b->end_why]);
	session_flush(s);
}

/* Nothing was there, or somebody else: the route may be old. True when it was asked for once more. */
static bool ask_route_again(struct bridge *b, enum procd_end why)
{
	struct session *s = b->session;
	struct route_query *q;

	if ((why != PROCD_WRONG && why != PROCD_UNREACHABLE) || b->is_retried)
		return false;
	if (!b->retry)
		b->retry = calloc(1, sizeof(*b->retry));
	q = b->retry;
	if (!q)
		return false;
	b->is_retried = b->is_asking_route = true;
	memcpy(q->sandbox, s->route.sandbox, sizeof(q->sandbox));
	memcpy(q->fingerprint, s->fingerprint, sizeof(q->fingerprint));
	q->grants = &s->route.grant;
	q->grant_count = 1;
	q->is_retry = true;
	q->ring = s->ring;
	q->on_done = on_retry_route;
	q->owner = b;
	s->server->directory->ops->route_find(s->server->directory, q);
	return true;
}

static void on_procd_end(struct procd_client *p, enum procd_end why, const char *detail)
{
	struct bridge *b = CONTAINER_OF(p, struct bridge, procd);
	struct session *s = b->session;

	log_event(LOG_WARN, "procd", LOG_STR("session", s->id), LOG_STR("sandbox", s->route.sandbox),
		  LOG_STR("why", end_texts[why]), LOG_STR("detail", detail));
	b->end_why = why;
	if (s->phase == SESSION_LIVE && !ask_route_again(b, why)) {
		links_lose(b, end_texts[why]);
		session_flush(s);
	}
	procd_client_close(p);
}

static void on_procd_closed(struct procd_client *p)
{
	struct bridge *b = CONTAINER_OF(p, struct bridge, procd);
	bool has_waiting = false;

	b->next_number = 2;
	b->last = NULL;
	if (b->is_closing) {
		timer_stop(b->session->ring, &b->linger); /* procd may be gone before its time is up */
		session_bridge_closed(b->session);
		return;
	}
	/* Numbers begin anew with the next stream. Channels that were asked for in the meantime get that one. */
	for (struct list *n = b->links.next; n != &b->links; n = n->next) {
		struct link *l = CONTAINER_OF(n, struct link, node);

		l->number = 0;
		has_waiting |= l->state == LINK_WAITING;
	}
	if (has_waiting)
		connect_procd(b);
	session_flush(b->session); /* the client may have been waiting for what was unsent */
}

static const struct procd_client_events procd_events = {
	.on_ready = on_ready,
	.on_frame = on_frame,
	.on_data = on_data,
	.on_sent = on_sent,
	.on_end = on_procd_end,
	.on_closed = on_procd_closed,
};

/* --- the end --- */

static void on_linger(struct timer *t)
{
	struct bridge *b = CONTAINER_OF(t, struct bridge, linger);

	procd_client_close(&b->procd);
}

void bridge_close(struct bridge *b)
{
	struct procd_client *p = &b->procd;

	if (b->is_closing)
		return;
	b->is_closing = true;
	deferred_cancel(&b->settle);
	if (b->is_asking_route)
		b->session->server->directory->ops->route_cancel(b->session->server->directory, b->retry);
	if (p->state == PROCD_IDLE || p->state == PROCD_CLOSED)
		return;
	/* What the user sent still reaches the sandbox. */
	if (p->state == PROCD_READY && procd_client_unsent(p) > 0)
		timer_start(b->session->ring, &b->linger, SESSION_LINGER_MS);
	else
		procd_client_close(p);
}

bool bridge_is_closed(const struct bridge *b)
{
	return b->procd.state == PROCD_IDLE || b->procd.state == PROCD_CLOSED;
}

void bridge_deinit(struct bridge *b)
{
	deferred_cancel(&b->settle);
	while (!list_is_empty(&b->links)) {
		struct link *l = CONTAINER_OF(b->links.next, struct link, node);

		l->chan = NULL;
		link_free(l);
	}
	free(b->retry);
}
