/*
 * procd/sink.h - input on its way into a descriptor: a command's stdin, a terminal, a socket.
 *
 * Owner:  embedded in a channel; owns the descriptor.
 * Life:   gathered pieces are borrowed until sink_flush, which comes before the bytes they lie in are overwritten.
 * Thread: the loop's.
 *
 * Pieces are gathered and written with one system call from where they were received. What the descriptor does not take is
 * kept, at most the credit that was given for it.
 */
#ifndef PROCD_SINK_H
#define PROCD_SINK_H

#include "core/bytes.h"
#include "procd/limits.h"
#include "procd/loop.h"

#include <sys/uio.h>

enum sink_state {
	SINK_OPEN,
	SINK_ENDING, /* no more comes; closed when all is written */
	SINK_CLOSED,
};

struct sink {
	struct watch watch; /* of a descriptor that is the sink's alone; else the owner calls sink_ready */
	int fd;
	enum sink_state state;
	bool is_writable;
	struct iovec pieces[SINK_PIECES];
	uint32_t piece_count, piece_bytes;
	uint8_t *kept;
	uint32_t kept_at, kept_end, kept_size;
	uint64_t written_bytes;
};

void sink_init(struct sink *s, int fd);
/* Frees memory; does not close. */
void sink_deinit(struct sink *s);

/* Takes a piece. 0, or -ENOMEM. Only in SINK_OPEN. */
MUST_USE int sink_put(struct sink *s, struct bytes piece);
/* Writes what the descriptor takes, keeps the rest. Returns the bytes written, -ENOMEM, or -EPIPE: nobody reads there. */
MUST_USE ssize_t sink_flush(struct sink *s);
/* Bytes not written yet. */
uint32_t sink_waiting(const struct sink *s);

#endif
