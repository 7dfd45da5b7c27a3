/*
 * procd/sftp_loop.h - an SFTP channel that is served on the connection's loop, and what comes in for it.
 *
 * Input is used where it was read. What has to wait is copied once, into blocks: what a turn left, since the next read may
 * overwrite it, and all that is a thread's (sftp_thread.h).
 *
 * Owner:  the channel.
 * Life:   to the server's end, or until a step hangs; input is taken in as long as the channel is open.
 * Thread: the loop's.
 */
#ifndef PROCD_SFTP_LOOP_H
#define PROCD_SFTP_LOOP_H

#include "procd/channel.h"
#include "procd/session.h"

/* As struct channel_kind's. */
int sftp_loop_on_data(struct channel *c, struct bytes piece);
int sftp_loop_on_input(struct channel *c);
void sftp_loop_on_eof(struct channel *c);

/* A turn of the server's; what it did not come to is kept. False: the calling thread has lost the loop, and the server has ended. */
MUST_USE bool sftp_loop_turn(struct channel *c);
/* What was not served waits in blocks. */
void sftp_loop_keep(struct channel *c);

/* Something for the server to do, on the loop. */
static inline void sftp_loop_want(struct channel *c)
{
	if (list_is_empty(&c->sftp.in_serving))
		list_add_tail(&c->session->serving, &c->sftp.in_serving);
}

#endif
