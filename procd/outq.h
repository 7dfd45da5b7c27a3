/*
 * procd/outq.h - what goes to the gateway: urgent frames, and a batch of DATA that is sent with one system call.
 *
 * Owner:  embedded in the session.
 * Life:   payload that a batch borrows stays where it is until on_sent.
 * Thread: the loop's.
 *
 * Nothing is queued here that could still wait where it is: a batch is filled only when the last one is gone, from
 * descriptors and blocks that are ready, so memory is bounded and a slow gateway is felt by the commands themselves.
 * Urgent frames (control frames, terminals' output) pass a batch at the next end of a frame.
 */
#ifndef PROCD_OUTQ_H
#define PROCD_OUTQ_H

#include "procd/limits.h"
#include "upstream/procd/frame.h"

#include <sys/uio.h>

struct outq_part {
	const uint8_t *p;
	uint32_t n;
	bool ends_frame;
};

struct outq {
	int fd;
	bool is_blocked; /* the kernel takes no more for now */

	uint8_t *urgent;
	uint32_t urgent_at, urgent_end, urgent_size; /* unsent: urgent[at..end) */
	bool urgent_is_cut;                          /* a part of them is sent: the rest goes before the batch */

	struct outq_part parts[2 * BATCH_FRAMES];
	uint32_t part_at, part_end, part_offset; /* offset: bytes of parts[part_at] that are sent */
	uint8_t small[BATCH_FRAMES][BATCH_SMALL_BYTES];
	uint32_t small_count;
	uint8_t *data; /* BATCH_BYTES, taken at first use */
	uint32_t data_used;

	uint64_t sent_bytes;
};

void outq_init(struct outq *q, int fd);
void outq_deinit(struct outq *q);

/* Queues a frame that passes the batch. 0, -ENOBUFS when the gateway does not read, -ENOMEM. */
MUST_USE int outq_urgent(struct outq *q, const struct frame *f);
/*
 * Room for a DATA frame among the urgent: where to put up to n (<= FRAME_DATA_MAX) bytes of payload. NULL: full, or no
 * memory. Commit makes a frame of the n (>= 1) bytes that were put there; nothing else is queued between.
 */
uint8_t *outq_urgent_reserve(struct outq *q, uint32_t n);
void outq_urgent_commit(struct outq *q, uint32_t channel, uint32_t stream, uint32_t n);

/* How many more frames the batch may hold; 0 while an earlier batch is on its way. */
uint32_t outq_room(const struct outq *q);
/* A control frame behind what the batch holds. Only with room. */
void outq_add(struct outq *q, const struct frame *f);
/* Payload that stays where it is until the batch is sent. Only with room; 1 <= n <= FRAME_DATA_MAX. */
void outq_add_borrowed(struct outq *q, uint32_t channel, uint32_t stream, const uint8_t *p, uint32_t n);
/*
 * Reads from a descriptor straight into up to `frames` frames, max bytes in all. Returns the bytes read, 0 at its end,
 * or negative errno. *ret_asked is how many it had room for: fewer read means that there is no more for now (of a pipe).
 */
MUST_USE ssize_t outq_read(struct outq *q, int fd, uint32_t channel, uint32_t stream, uint32_t frames, uint32_t max,
			   uint32_t *ret_asked);

/* True when there is nothing to send. */
bool outq_is_empty(const struct outq *q);
/* Sends as much as the kernel takes. 1 when the batch was sent to its end by this call, 0, or negative errno. */
MUST_USE int outq_send(struct outq *q);

#endif
