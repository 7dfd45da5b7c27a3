/*
 * The connection protocol, the server's side (RFC 4254): channels, their windows and requests. Those that we open: chan_ask.c.
 *
 * A channel lives from CHANNEL_OPEN until CLOSE went both ways. Each direction is a half-state of its own:
 *
 *      HALF_OPEN ──EOF──► HALF_EOF ──CLOSE──► HALF_CLOSED          (in: what the client sends; out: what we send)
 *          └────────────────CLOSE────────────────┘
 *
 * Replies to requests leave in the order of the requests (RFC 4254 section 4): while the answer to shell, exec or subsystem
 * is pending, later replies wait behind it.
 */
#include "config.h" /* libssh's: its internal headers need it first */

#include "ssh/internal.h"

#include "ssh/packet_out.h"

#include "libssh/buffer.h"
#include "libssh/packet.h"
#include "libssh/priv.h"
#include "libssh/session.h"
#include "libssh/ssh2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const bool half_allowed[3][3] = {
	[HALF_OPEN] = {[HALF_EOF] = true, [HALF_CLOSED] = true},
	[HALF_EOF] = {[HALF_CLOSED] = true},
};

/* The only writer of ch->in and ch->out. */
static void half_move(enum half *half, enum half to)
{
	ASSERT(half_allowed[*half][to]);
	*half = to;
}

void chan_free(struct chan *ch)
{
	struct conn *c = ch->conn;

	ASSERT(c->chans[ch->number] == ch);
	c->chans[ch->number] = NULL;
	c->chan_count--;
	free(ch);
}

void chan_free_all(struct conn *c)
{
	for (uint32_t i = 0; i < c->chan_slots; i++)
		if (c->chans[i])
			chan_free(c->chans[i]);
	free(c->chans);
}

static void protocol_error(struct conn *c, const char *text)
{
	conn_disconnect(c, DISCONNECT_PROTOCOL_ERROR, text);
}

struct chan *chan_new(struct conn *c)
{
	struct chan *ch;
	uint32_t i = 0;

	if (c->chan_count >= c->server->max_channels)
		return NULL;
	while (i < c->chan_slots && c->chans[i])
		i++;
	if (i == c->chan_slots) {
		uint32_t slots = c->chan_slots ? 2 * c->chan_slots : 4;
		struct chan **grown = realloc(c->chans, slots * sizeof(struct chan *));

		if (!grown)
			return NULL;
		memset(grown + c->chan_slots, 0, (slots - c->chan_slots) * sizeof(struct chan *));
		c->chans = grown;
		c->chan_slots = slots;
	}
	ch = calloc(1, sizeof(*ch));
	if (!ch)
		return NULL;
	ch->conn = c;
	ch->number = i;
	c->chans[i] = ch;
	c->chan_count++;
	return ch;
}

void chan_set_peer(struct chan *ch, uint32_t number, uint32_t window, uint32_t packet)
{
	ch->peer_number = number;
	ch->peer_window = window;
	/* A peer that wants tiny packets would make us send one for each byte. */
	ch->peer_packet = packet < CHAN_PACKET_MAX ? packet : CHAN_PACKET_MAX;
	if (ch->peer_packet < 64)
		ch->peer_packet = 64;
}

static void send_open_failure(struct conn *c, uint32_t peer_number, uint32_t why, const char *text)
{
	if (ssh_buffer_pack(c->session->out_buffer, "bddss", SSH2_MSG_CHANNEL_OPEN_FAILURE, peer_number, why, text,
			    "") == SSH_OK)
		(void)conn_send(c);
}

static void send_channel_u32(struct chan *ch, uint8_t type, uint32_t value)
{
	struct conn *c = ch->conn;

	if (ssh_buffer_pack(c->session->out_buffer, "bdd", type, ch->peer_number, value) == SSH_OK)
		(void)conn_send(c);
}

static void send_channel(struct chan *ch, uint8_t type)
{
	struct conn *c = ch->conn;

	if (ssh_buffer_pack(c->session->out_buffer, "bd", type, ch->peer_number) == SSH_OK)
		(void)conn_send(c);
}

void chan_accept(struct chan *ch)
{
	struct conn *c = ch->conn;

	ASSERT(ch->state == CHAN_OPENING);
	ch->state = CHAN_LIVE;
	ch->window = c->server->window_bytes;
	if (ssh_buffer_pack(c->session->out_buffer, "bdddd", SSH2_MSG_CHANNEL_OPEN_CONFIRMATION, ch->peer_number,
			    ch->number, ch->window, CHAN_PACKET_MAX) == SSH_OK)
		(void)conn_send(c);
}

void chan_refuse(struct chan *ch, enum chan_open_failure why, const char *text)
{
	ASSERT(ch->state == CHAN_OPENING);
	if (ch->is_answering) {
		ch->refusal = why;
		ch->refusal_text = text;
		return;
	}
	send_open_failure(ch->conn, ch->peer_number, why, text);
	chan_free(ch);
}

/* The kind's own fields; false where the kind is not known. */
static bool open_read(struct chan_open *o, struct bytes type, struct wire *w)
{
	if (bytes_is(type, "session")) {
		o->kind = CHAN_SESSION;
	} else if (bytes_is(type, "direct-tcpip")) {
		o->kind = CHAN_TCP;
		o->host = wire_string(w);
		o->port = wire_u32(w);
		o->originator_host = wire_string(w);
		o->originator_port = wire_u32(w);
	} else if (bytes_is(type, "direct-streamlocal@openssh.com")) {
		/* OpenSSH's PROTOCOL, section 2.4: two fields are reserved. */
		o->kind = CHAN_UNIX;
		o->path = wire_string(w);
		(void)wire_string(w);
		(void)wire_u32(w);
	} else {
		return false;
	}
	return true;
}

static void on_open(struct conn *c, struct wire *w)
{
	struct bytes type = wire_string(w);
	uint32_t peer_number = wire_u32(w), peer_window = wire_u32(w), peer_packet = wire_u32(w);
	struct chan_open o = {0};
	bool is_known = open_read(&o, type, w);
	enum chan_answer answer;
	struct chan *ch;

	if (w->is_bad) {
		protocol_error(c, "malformed channel open");
		return;
	}
	if (!is_known) {
		send_open_failure(c, peer_number, CHAN_UNKNOWN_TYPE, "this type of channel is not supported");
		return;
	}
	if (o.kind == CHAN_SESSION && c->no_more_sessions) {
		protocol_error(c, "a session after no-more-sessions");
		return;
	}
	ch = chan_new(c);
	if (!ch) {
		send_open_failure(c, peer_number, CHAN_RESOURCE_SHORTAGE, "too many open channels on this connection");
		return;
	}
	ch->is_forward = o.kind != CHAN_SESSION;
	chan_set_peer(ch, peer_number, peer_window, peer_packet);
	ch->refusal = CHAN_PROHIBITED;
	ch->refusal_text = "not allowed";
	ch->is_answering = true;
	answer = c->events->on_chan_open(ch, &o);
	ch->is_answering = false;
	if (answer == CHAN_YES)
		chan_accept(ch);
	else if (answer == CHAN_NO)
		chan_refuse(ch, (enum chan_open_failure)ch->refusal, ch->refusal_text);
}

/* The live channel that a packet is about; NULL (and the end) when there is none. */
static struct chan *chan_find(struct conn *c, struct wire *w)
{
	uint32_t number = wire_u32(w);
	struct chan *ch = NULL;

	if (!w->is_bad && number < c->chan_slots)
		ch = c->chans[number];
	if (!ch || ch->state != CHAN_LIVE) {
		protocol_error(c, "a packet for a channel that is not open");
		return NULL;
	}
	return ch;
}

static void on_data(struct chan *ch, uint8_t type, struct wire *w)
{
	struct conn *c = ch->conn;
	struct bytes data;

	if (type == SSH2_MSG_CHANNEL_EXTENDED_DATA)
		(void)wire_u32(w);
	data = wire_string(w);
	if (w->is_bad || data.n > CHAN_PACKET_MAX || ch->in != HALF_OPEN) {
		protocol_error(c, "channel data that is malformed, too long, or behind EOF");
		return;
	}
	if (data.n > ch->window) {
		protocol_error(c, "more channel data than the window allows");
		return;
	}
	ch->window -= (uint32_t)data.n;
	if (data.n == 0)
		return;
	/* A client's extended data has no meaning to a server (RFC 4254 section 5.2): dropped, its window given back. */
	if (type == SSH2_MSG_CHANNEL_EXTENDED_DATA || ch->out == HALF_CLOSED)
		chan_grant(ch, (uint32_t)data.n);
	else
		c->events->on_chan_data(ch, data);
}

bool chan_take_in_room(struct conn *c, struct wire *w)
{
	struct chan *ch = NULL;
	struct bytes data;
	uint32_t number;

	/* Whatever is wrong with it is found out and said where packets usually go. */
	if (wire_u8(w) != SSH2_MSG_CHANNEL_DATA)
		return false;
	number = wire_u32(w);
	if (number < c->chan_slots)
		ch = c->chans[number];
	data = wire_string(w);
	if (!ch || ch->state != CHAN_LIVE || w->is_bad || data.n == 0 || data.n > CHAN_PACKET_MAX ||
	    data.n > ch->window || ch->in != HALF_OPEN || ch->out == HALF_CLOSED)
		return false;
	if (!c->events->on_room_data(ch, data))
		return false;
	ch->window -= (uint32_t)data.n;
	return true;
}

static void on_window_adjust(struct chan *ch, struct wire *w)
{
	uint32_t n = wire_u32(w);

	if (w->is_bad || n > UINT32_MAX - ch->peer_window) {
		protocol_error(ch->conn, "a window over 4 GiB");
		return;
	}
	ch->peer_window += n;
	ch->conn->events->on_chan_window(ch);
}

static void on_eof(struct chan *ch)
{
	if (ch->in != HALF_OPEN)
		return;
	half_move(&ch->in, HALF_EOF);
	if (ch->out != HALF_CLOSED)
		ch->conn->events->on_chan_eof(ch);
}

static void gone_if_closed(struct chan *ch)
{
	if (ch->in != HALF_CLOSED || ch->out != HALF_CLOSED)
		return;
	ch->conn->events->on_chan_gone(ch);
	chan_free(ch);
}

static void on_close(struct chan *ch)
{
	if (ch->in == HALF_CLOSED) {
		protocol_error(ch->conn, "a channel closed twice");
		return;
	}
	half_move(&ch->in, HALF_CLOSED);
	if (ch->out != HALF_CLOSED)
		ch->conn->events->on_chan_close(ch);
	else
		gone_if_closed(ch);
}

static void send_reply(struct chan *ch, bool is_yes)
{
	if (ch->out != HALF_CLOSED)
		send_channel(ch, is_yes ? SSH2_MSG_CHANNEL_SUCCESS : SSH2_MSG_CHANNEL_FAILURE);
}

static void reply_in_order(struct chan *ch, bool is_yes)
{
	if (!ch->is_start_pending) {
		send_reply(ch, is_yes);
		return;
	}
	if (ch->reply_count == CHAN_REPLIES_MAX) {
		protocol_error(ch->conn, "too many unanswered requests on a channel");
		return;
	}
	ch->replies[ch->reply_count++] = is_yes;
}

void chan_reply(struct chan *ch, bool is_yes)
{
	ASSERT(ch->is_start_pending);
	ch->is_start_pending = false;
	if (!is_yes)
		ch->is_started = false;
	if (ch->start_wants_reply)
		send_reply(ch, is_yes);
	for (uint8_t i = 0; i < ch->reply_count; i++)
		send_reply(ch, ch->replies[i]);
	ch->reply_count = 0;
}

static const struct {
	const char *name;
	enum chan_request_kind kind;
} request_kinds[] = {
	{"pty-req", CHAN_PTY},
	{"env", CHAN_ENV},
	{"shell", CHAN_SHELL},
	{"exec", CHAN_EXEC},
	{"subsystem", CHAN_SUBSYSTEM},
	{"window-change", CHAN_WINDOW_CHANGE},
	{"signal", CHAN_SIGNAL},
	{"break", CHAN_BREAK},
	{"auth-agent-req@openssh.com", CHAN_OFFER_AGENT},
};

/* Reads the fields behind want_reply; false when they are malformed. */
static bool request_read(struct chan_request *r, struct wire *w)
{
	switch (r->kind) {
	case CHAN_PTY:
		r->key = wire_string(w);
		r->columns = wire_u32(w);
		r->rows = wire_u32(w);
		r->xpixels = wire_u32(w);
		r->ypixels = wire_u32(w);
		r->value = wire_string(w);
		break;
	case CHAN_ENV:
		r->key = wire_string(w);
		r->value = wire_string(w);
		break;
	case CHAN_EXEC:
	case CHAN_SUBSYSTEM:
	case CHAN_SIGNAL:
		r->value = wire_string(w);
		break;
	case CHAN_WINDOW_CHANGE:
		r->columns = wire_u32(w);
		r->rows = wire_u32(w);
		r->xpixels = wire_u32(w);
		r->ypixels = wire_u32(w);
		break;
	case CHAN_SHELL:
	case CHAN_BREAK:
	case CHAN_OFFER_AGENT:
	case CHAN_OTHER:
		break;
	}
	return !w->is_bad;
}

static bool is_start(enum chan_request_kind kind)
{
	return kind == CHAN_SHELL || kind == CHAN_EXEC || kind == CHAN_SUBSYSTEM;
}

static void on_request(struct chan *ch, struct wire *w)
{
	struct conn *c = ch->conn;
	struct chan_request r = {.kind = CHAN_OTHER};
	enum chan_answer answer = CHAN_NO;

	r.name = wire_string(w);
	r.wants_reply = wire_bool(w);
	for (size_t i = 0; i < ARRAY_LEN(request_kinds); i++)
		if (bytes_is(r.name, request_kinds[i].name))
			r.kind = request_kinds[i].kind;
	if (!request_read(&r, w)) {
		protocol_error(c, "malformed channel request");
		return;
	}
	if (ch->out == HALF_CLOSED)
		return; /* we said CLOSE; nothing may follow it */
	if (is_start(r.kind)) {
		/* Only one of these can succeed on a channel (RFC 4254 section 6.5). */
		if (!ch->is_started && !ch->is_forward) {
			ch->is_started = ch->is_start_pending = true;
			ch->start_wants_reply = r.wants_reply;
			answer = c->events->on_chan_request(ch, &r);
			if (answer != CHAN_LATER && ch->is_start_pending)
				chan_reply(ch, answer == CHAN_YES);
			return;
		}
	} else if (!ch->is_forward) {
		answer = c->events->on_chan_request(ch, &r);
	}
	if (r.wants_reply && !c->has_ended)
		reply_in_order(ch, answer == CHAN_YES);
}

int chan_on_packet(struct conn *c, uint8_t type, struct wire *w)
{
	struct chan *ch;

	switch (type) {
	case SSH2_MSG_GLOBAL_REQUEST:
		global_on_request(c, w);
		return SSH_PACKET_USED;
	case SSH2_MSG_REQUEST_SUCCESS:
	case SSH2_MSG_REQUEST_FAILURE:
		c->events->on_keepalive_reply(c);
		return SSH_PACKET_USED;
	case SSH2_MSG_CHANNEL_OPEN:
		on_open(c, w);
		return SSH_PACKET_USED;
	case SSH2_MSG_CHANNEL_OPEN_CONFIRMATION:
	case SSH2_MSG_CHANNEL_OPEN_FAILURE:
		chan_on_answer(c, type, w);
		return SSH_PACKET_USED;
	default:
		break;
	}
	ch = chan_find(c, w);
	if (!ch)
		return SSH_PACKET_USED;
	switch (type) {
	case SSH2_MSG_CHANNEL_DATA:
	case SSH2_MSG_CHANNEL_EXTENDED_DATA:
		on_data(ch, type, w);
		break;
	case SSH2_MSG_CHANNEL_WINDOW_ADJUST:
		on_window_adjust(ch, w);
		break;
	case SSH2_MSG_CHANNEL_EOF:
		on_eof(ch);
		break;
	case SSH2_MSG_CHANNEL_CLOSE:
		on_close(ch);
		break;
	case SSH2_MSG_CHANNEL_REQUEST:
		on_request(ch, w);
		break;
	default: /* SUCCESS, FAILURE: to requests of ours, which want no reply */
		break;
	}
	return SSH_PACKET_USED;
}

struct chan *conn_chan_next(const struct conn *c, const struct chan *after)
{
	for (uint32_t i = after ? after->number + 1 : 0; i < c->chan_slots; i++)
		if (c->chans[i])
			return c->chans[i];
	return NULL;
}

uint32_t conn_chan_count(const struct conn *c)
{
	return c->chan_count;
}

struct conn *chan_conn(const struct chan *ch)
{
	return ch->conn;
}

void *chan_owner(const struct chan *ch)
{
	return ch->owner;
}

void chan_set_owner(struct chan *ch, void *owner)
{
	ch->owner = owner;
}

uint32_t chan_number(const struct chan *ch)
{
	return ch->number;
}

uint32_t chan_room(const struct chan *ch)
{
	return ch->state == CHAN_LIVE && ch->out == HALF_OPEN ? ch->peer_window : 0;
}

uint32_t chan_window(const struct chan *ch)
{
	return ch->window;
}

/* One CHANNEL_DATA or CHANNEL_EXTENDED_DATA by libssh's way. */
static int send_data(struct chan *ch, bool is_error, struct bytes data)
{
	struct conn *c = ch->conn;
	uint8_t head[CHAN_DATA_HEAD_MAX];
	struct wire_writer w = {.p = head};

	wire_put_u8(&w, is_error ? SSH2_MSG_CHANNEL_EXTENDED_DATA : SSH2_MSG_CHANNEL_DATA);
	wire_put_u32(&w, ch->peer_number);
	if (is_error)
		wire_put_u32(&w, CHAN_STDERR);
	wire_put_u32(&w, (uint32_t)data.n);
	if (ssh_buffer_pack(c->session->out_buffer, "PP", (size_t)(w.p - head), head, data.n, data.p) != SSH_OK)
		return -ENOMEM;
	return conn_send(c);
}

int chan_write(struct chan *ch, bool is_error, const uint8_t *p, size_t n)
{
	struct conn *c = ch->conn;

	ASSERT(ch->out == HALF_OPEN && n <= ch->peer_window);
	while (n > 0) {
		int took = c->has_ended ? -EIO : packet_out_append(ch, is_error, p, n);

		if (took == 0) {
			took = n < ch->peer_packet ? (int)n : (int)ch->peer_packet;
			if (send_data(ch, is_error, bytes_of(p, (size_t)took)) < 0)
				took = -ENOMEM;
		}
		if (took < 0) {
			conn_end(c, "out of memory", false);
			return took;
		}
		ch->peer_window -= (uint32_t)took;
		p += took;
		n -= (size_t)took;
	}
	return 0;
}

void chan_grant(struct chan *ch, uint32_t n)
{
	ASSERT(n <= UINT32_MAX - ch->window);
	if (ch->in != HALF_OPEN || ch->out == HALF_CLOSED || n == 0)
		return;
	ch->window += n;
	send_channel_u32(ch, SSH2_MSG_CHANNEL_WINDOW_ADJUST, n);
}

void chan_eof(struct chan *ch)
{
	if (ch->out != HALF_OPEN)
		return;
	half_move(&ch->out, HALF_EOF);
	send_channel(ch, SSH2_MSG_CHANNEL_EOF);
}

void chan_close(struct chan *ch)
{
	if (ch->out == HALF_CLOSED)
		return;
	if (ch->is_start_pending)
		chan_reply(ch, false);
	half_move(&ch->out, HALF_CLOSED);
	send_channel(ch, SSH2_MSG_CHANNEL_CLOSE);
	gone_if_closed(ch);
}

void chan_exit_status(struct chan *ch, uint32_t status)
{
	struct conn *c = ch->conn;

	if (ch->out == HALF_CLOSED)
		return;
	if (ssh_buffer_pack(c->session->out_buffer, "bdsbd", SSH2_MSG_CHANNEL_REQUEST, ch->peer_number, "exit-status",
			    0, status) == SSH_OK)
		(void)conn_send(c);
}

void chan_exit_signal(struct chan *ch, struct bytes name, bool core_dumped, struct bytes message)
{
	struct conn *c = ch->conn;

	if (ch->out == HALF_CLOSED)
		return;
	if (ssh_buffer_pack(c->session->out_buffer, "bdsbdPbdPs", SSH2_MSG_CHANNEL_REQUEST, ch->peer_number,
			    "exit-signal", 0, (uint32_t)name.n, name.n, name.p, core_dumped ? 1 : 0,
			    (uint32_t)message.n, message.n, message.p, "") == SSH_OK)
		(void)conn_send(c);
}

void chan_eow(struct chan *ch)
{
	struct conn *c = ch->conn;

	if (ch->out == HALF_CLOSED || !conn_knows_eow(c))
		return;
	if (ssh_buffer_pack(c->session->out_buffer, "bdsb", SSH2_MSG_CHANNEL_REQUEST, ch->peer_number,
			    "eow@openssh.com", 0) == SSH_OK)
		(void)conn_send(c);
}

bool chan_is_eof_sent(const struct chan *ch)
{
	return ch->out != HALF_OPEN;
}

bool chan_is_close_sent(const struct chan *ch)
{
	return ch->out == HALF_CLOSED;
}
