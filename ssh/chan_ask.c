/*
 * Channels that the server opens towards the client: connections to what listens in the sandbox, and the user's agent.
 */
#include "config.h" /* libssh's: its internal headers need it first */

#include "ssh/internal.h"

#include "libssh/buffer.h"
#include "libssh/packet.h"
#include "libssh/priv.h"
#include "libssh/session.h"
#include "libssh/ssh2.h"

static int pack_open(ssh_buffer out, const struct chan *ch, const struct chan_open *o)
{
	switch (o->kind) {
	case CHAN_FORWARDED_TCP:
		return ssh_buffer_pack(out, "bsddddPddPd", SSH2_MSG_CHANNEL_OPEN, "forwarded-tcpip", ch->number,
				       ch->window, CHAN_PACKET_MAX, (uint32_t)o->host.n, o->host.n, o->host.p, o->port,
				       (uint32_t)o->originator_host.n, o->originator_host.n, o->originator_host.p,
				       o->originator_port);
	case CHAN_FORWARDED_UNIX:
		/* OpenSSH's PROTOCOL, section 2.4: the second string is reserved. */
		return ssh_buffer_pack(out, "bsddddPs", SSH2_MSG_CHANNEL_OPEN, "forwarded-streamlocal@openssh.com",
				       ch->number, ch->window, CHAN_PACKET_MAX, (uint32_t)o->path.n, o->path.n,
				       o->path.p, "");
	case CHAN_AGENT:
		return ssh_buffer_pack(out, "bsddd", SSH2_MSG_CHANNEL_OPEN, "auth-agent@openssh.com", ch->number,
				       ch->window, CHAN_PACKET_MAX);
	default:
		ASSERT(!"a kind that clients open");
		return SSH_ERROR;
	}
}

struct chan *conn_chan_open(struct conn *c, const struct chan_open *o, void *owner)
{
	struct chan *ch = c->has_ended ? NULL : chan_new(c);

	if (!ch)
		return NULL;
	ch->state = CHAN_ASKED;
	ch->is_forward = true;
	ch->owner = owner;
	ch->window = c->server->window_bytes;
	if (pack_open(c->session->out_buffer, ch, o) != SSH_OK || conn_send(c) < 0) {
		chan_free(ch);
		return NULL;
	}
	return ch;
}

void chan_abandon(struct chan *ch)
{
	ASSERT(ch->state == CHAN_ASKED);
	ch->owner = NULL;
}

/* The channel that an answer is about; NULL (and the end) where none was asked for. */
static struct chan *find_asked(struct conn *c, struct wire *w)
{
	uint32_t number = wire_u32(w);
	struct chan *ch = !w->is_bad && number < c->chan_slots ? c->chans[number] : NULL;

	if (ch && ch->state == CHAN_ASKED)
		return ch;
	conn_disconnect(c, DISCONNECT_PROTOCOL_ERROR, "an answer to a channel that was not opened");
	return NULL;
}

static void on_confirmation(struct chan *ch, struct wire *w)
{
	uint32_t number = wire_u32(w), window = wire_u32(w), packet = wire_u32(w);

	if (w->is_bad) {
		conn_disconnect(ch->conn, DISCONNECT_PROTOCOL_ERROR, "malformed channel confirmation");
		return;
	}
	chan_set_peer(ch, number, window, packet);
	ch->state = CHAN_LIVE;
	if (ch->owner)
		ch->conn->events->on_chan_opened(ch);
	else
		chan_close(ch);
}

static void on_failure(struct chan *ch, struct wire *w)
{
	uint32_t why = wire_u32(w);
	struct bytes text = wire_string(w);

	if (w->is_bad) {
		conn_disconnect(ch->conn, DISCONNECT_PROTOCOL_ERROR, "malformed channel failure");
		return;
	}
	if (ch->owner)
		ch->conn->events->on_chan_refused(ch, why, text);
	chan_free(ch);
}

void chan_on_answer(struct conn *c, uint8_t type, struct wire *w)
{
	struct chan *ch = find_asked(c, w);

	if (!ch)
		return;
	if (type == SSH2_MSG_CHANNEL_OPEN_CONFIRMATION)
		on_confirmation(ch, w);
	else
		on_failure(ch, w);
}
