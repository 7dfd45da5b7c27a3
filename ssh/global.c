/*
 * Global requests (RFC 4254 section 4), and their replies in the order of the requests: while one waits for the sandbox (somebody
 * is to listen there), all behind it wait, too.
 */
#include "config.h" /* libssh's: its internal headers need it first */

#include "ssh/internal.h"

#include "libssh/buffer.h"
#include "libssh/packet.h"
#include "libssh/priv.h"
#include "libssh/session.h"
#include "libssh/ssh2.h"

#include <stdlib.h>

struct global_reply {
	bool is_answered, is_yes, has_port;
	uint32_t port;
	struct proof proof; /* signed when its turn has come; none: count is 0 */
};

/* The replies that wait: those of the requests first .. first + count - 1. */
struct global_replies {
	uint64_t first;
	uint32_t count;
	struct global_reply waiting[CONN_REPLIES_MAX];
};

static struct global_reply *reply_at(struct global_replies *rs, uint64_t number)
{
	return &rs->waiting[number % CONN_REPLIES_MAX];
}

static void send_reply(struct conn *c, const struct global_reply *r)
{
	ssh_buffer out = c->session->out_buffer;
	bool is_yes = r->is_yes;
	int rc;

	if (r->proof.count > 0) {
		is_yes = rotation_prove(c, &r->proof);
		if (is_yes) {
			(void)conn_send(c);
			return;
		}
	}
	rc = is_yes && r->has_port
		     ? ssh_buffer_pack(out, "bd", SSH2_MSG_REQUEST_SUCCESS, r->port)
		     : ssh_buffer_pack(out, "b", is_yes ? SSH2_MSG_REQUEST_SUCCESS : SSH2_MSG_REQUEST_FAILURE);
	if (rc == SSH_OK)
		(void)conn_send(c);
}

/* Takes the next place in the order; 0 (and the end) when too many wait already. */
static uint64_t reply_expect(struct conn *c)
{
	struct global_replies *rs = c->replies;

	if (!rs) {
		rs = c->replies = calloc(1, sizeof(*rs));
		if (!rs) {
			conn_end(c, "out of memory", false);
			return 0;
		}
		rs->first = 1;
	}
	if (rs->count == CONN_REPLIES_MAX) {
		conn_disconnect(c, DISCONNECT_PROTOCOL_ERROR, "too many unanswered global requests");
		return 0;
	}
	*reply_at(rs, rs->first + rs->count) = (struct global_reply){0};
	return rs->first + rs->count++;
}

static void reply_give(struct conn *c, uint64_t number, struct global_reply r)
{
	struct global_replies *rs = c->replies;

	ASSERT(rs && number >= rs->first && number < rs->first + rs->count);
	r.is_answered = true;
	*reply_at(rs, number) = r;
	while (rs->count > 0 && reply_at(rs, rs->first)->is_answered && !c->has_ended) {
		send_reply(c, reply_at(rs, rs->first));
		rs->first++;
		rs->count--;
	}
}

void conn_listen_reply(struct conn *c, uint64_t number, bool is_yes, uint32_t port)
{
	struct global_reply r = {.is_yes = is_yes};

	if (number == 0)
		return;
	r.has_port = port > 0;
	r.port = port;
	reply_give(c, number, r);
}

/* The fields behind want_reply. False: no such request. */
static bool listen_read(struct conn_listen *l, struct bytes name, struct wire *w)
{
	if (bytes_is(name, "tcpip-forward") || bytes_is(name, "cancel-tcpip-forward")) {
		l->address = wire_string(w);
		l->port = wire_u32(w);
	} else if (bytes_is(name, "streamlocal-forward@openssh.com") ||
		   bytes_is(name, "cancel-streamlocal-forward@openssh.com")) {
		l->is_unix = true;
		l->address = wire_string(w);
	} else {
		return false;
	}
	l->is_cancel = name.p[0] == 'c';
	return true;
}

void global_on_request(struct conn *c, struct wire *w)
{
	struct bytes name = wire_string(w);
	bool wants_reply = wire_bool(w), is_listen;
	enum chan_answer answer = CHAN_NO;
	struct global_reply r = {0};
	struct conn_listen l = {0};
	uint64_t number = 0;

	is_listen = listen_read(&l, name, w);
	if (w->is_bad) {
		conn_disconnect(c, DISCONNECT_PROTOCOL_ERROR, "malformed global request");
		return;
	}
	if (wants_reply) {
		number = reply_expect(c);
		if (number == 0)
			return;
	}
	if (is_listen) {
		l.reply = number;
		answer = c->events->on_listen(c, &l);
	} else if (bytes_is(name, "no-more-sessions@openssh.com")) {
		c->no_more_sessions = true;
		answer = CHAN_YES;
	} else if (bytes_is(name, "hostkeys-prove-00@openssh.com")) {
		answer = wants_reply && rotation_read(c, w, &r.proof) ? CHAN_YES : CHAN_NO;
	} /* keepalive@openssh.com gets the failure that OpenSSH's server gives it, too. */
	r.is_yes = answer == CHAN_YES;
	if (number != 0 && answer != CHAN_LATER && !c->has_ended)
		reply_give(c, number, r);
}
