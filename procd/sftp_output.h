/*
 * procd/sftp_output.h - an SFTP channel's answers on their way: from the server into blocks, from these to the gateway.
 *
 * Nothing is copied: the server reads files straight into blocks, and batches are sent from them. A block is given back when it was
 * sent. A thread that serves waits while SFTP_OUTPUT_BYTES are unsent; the loop begins no request while SFTP_LOOP_OUTPUT_BYTES are (sftp_loop.h).
 *
 * Owner:  the channel. Its memory is held while a batch borrows from it.
 * Life:   bytes are borrowed from sftp_output_emit until sftp_output_release.
 * Thread: what sftp_output_io gives is called by whoever serves; all else by the loop.
 */
#ifndef PROCD_SFTP_OUTPUT_H
#define PROCD_SFTP_OUTPUT_H

#include "procd/sftp_channel.h"

/* What the server writes to. */
struct sftp_io sftp_output_io(struct channel *c);

/* As struct channel_kind's. */
bool sftp_output_has(const struct channel *c);
void sftp_output_emit(struct channel *c, uint32_t frames);

/* The batch is gone, or will never go: its bytes leave the blocks. False: there were none of this channel's. */
bool sftp_output_release(struct channel *c);

#endif
