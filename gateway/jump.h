/*
 * gateway/jump.h - a client's connections to the gateway itself, through the gateway (ssh -J rs-a@gw rs-b@gw).
 *
 *   client ══ SSH ══► session of rs-a ─► link ─► jump ══ socketpair ══► session of rs-b: logs in as any other connection
 *
 * A direct-tcpip to a name of the gateway's own never reaches the sandbox, nor waits for it: its far side is a connection that a
 * handshake thread takes as one that was accepted, with the limits for those, under the true address of the client.
 *
 * Owner:  the link, until either side ends; then the jump itself, until its stream is closed.
 * Life:   freed when the kernel has nothing in flight of it.
 * Thread: the worker of the outer session.
 */
#ifndef GATEWAY_JUMP_H
#define GATEWAY_JUMP_H

#include "ssh/conn.h"

struct link;
struct links;
struct session;

/* Does it lead to this gateway, and are jumps not switched off? */
bool jump_is_meant(const struct session *s, const struct chan_open *o);
/* Makes a LIVE link of the channel, or refuses it. */
enum chan_answer jump_open(struct links *ls, struct chan *ch);

/* --- for a link with a jump --- */

/* Bytes of the client's, within up_credit. 0 or negative errno. */
MUST_USE int jump_send(struct link *l, struct bytes data);
/* The client sends no more. */
void jump_eof(struct link *l);
/* What waits goes to the client as far as his window and socket take it. May free the link. */
void jump_settle(struct link *l);
/* The client closed the channel: what he sent still arrives. The link has no jump after that. */
void jump_leave(struct link *l);
/* Ends at once. The link has no jump after that. */
void jump_drop(struct link *l);

#endif
