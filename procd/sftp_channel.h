/*
 * procd/sftp_channel.h - channels of kind `subsystem`, names `sftp` and `sftp-read-only`: an SFTP server.
 *
 *   on the loop ─its files hang─► on a thread ─► ended
 *        └─────────────────────────────────────────┘
 *
 * The loop serves requests where they lie in what it has read, each in a step of the guard's (guard.h). The thread that such a step
 * has held up for too long is the server's own from then on, to its end, with memory between it and the loop.
 *
 * Owner:  embedded in its channel, which is held until the server has ended.
 * Thread: fields say whose they are; those under the lock are shared.
 */
#ifndef PROCD_SFTP_CHANNEL_H
#define PROCD_SFTP_CHANNEL_H

#include "core/list.h"
#include "procd/limits.h"
#include "procd/sftp.h"
#include "procd/sftp_block.h"

#include <pthread.h>
#include <sys/uio.h>

struct session;
struct channel;
struct frame;
struct channel_kind;

struct sftp_channel {
	struct sftp_io io; /* these two are not changed */
	struct sftp_options options;
	struct sftp *server; /* whoever serves */

	struct list in_serving; /* the loop's, as all down to the lock */
	uint32_t turn;
	struct iovec pieces[SFTP_PIECES]; /* input that lies in the read at hand */
	uint32_t piece_at, piece_count;
	uint8_t *old_input;    /* the read at hand when the step hung; its thread may still use it */
	bool is_live;          /* opened, and the server has not ended */
	bool is_full;          /* waits for output to leave */
	char *read_only;       /* what is said to who writes; NULL: he may */
	char *told;            /* read_only as a line on the error stream; NULL: not said yet */
	bool is_told_borrowed; /* it is in the batch */
	bool is_exit_sent;
	uint32_t filled;      /* bytes behind the input's tail that are copied, not yet published */
	size_t borrowed;      /* bytes in the batch */
	struct block *cursor; /* where the next output is taken from */
	uint32_t cursor_at;

	pthread_mutex_t lock;
	pthread_cond_t wake; /* the thread waits for input, or for output to leave */
	struct block_queue in, out;
	struct block_spares spares;
	size_t out_bytes;         /* committed and not yet sent */
	size_t out_ready;         /* committed and not yet handed to a batch */
	uint32_t out_unannounced; /* weight of answers that the loop was not told of */
	uint32_t consumed;        /* input bytes to give credit for */
	uint32_t consumed_notice; /* tell the loop from this many on */
	bool is_threaded;         /* the loop's to set */
	bool is_eof, is_gone, is_ended, is_notified;
	bool is_tell_wanted; /* something was refused */
	int result;
};

extern const struct channel_kind sftp_kind;

/* An OPEN of kind `subsystem`. */
int sftp_open(struct channel *c, const struct frame *open);

/* The notify descriptor was written: looks at all SFTP channels. */
void sftp_channels_check(struct session *s);
/* The batch is sent: its memory may be used again. */
void sftp_channels_sent(struct session *s);
/*
 * A turn for each server that the loop serves and that has something to do, within SFTP_ROUND_MS a round. What was read is kept where
 * it is not served: it may be overwritten. False: see session.c.
 */
MUST_USE bool sftp_channels_serve(struct session *s);
/* The calling thread has taken the loop over from one that hangs in s->served. */
void sftp_channels_taken_over(struct session *s);

#endif
