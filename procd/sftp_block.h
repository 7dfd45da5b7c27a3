/*
 * procd/sftp_block.h - the memory in which bytes of an SFTP channel wait: blocks, in queues.
 *
 * Owner:  the channel, of its queues and of the blocks that are kept for the next use.
 * Life:   from block_new to block_free, or to its queue's end.
 * Thread: whoever holds the channel's lock. What lies behind a block's end is its filler's alone, without the lock.
 */
#ifndef PROCD_SFTP_BLOCK_H
#define PROCD_SFTP_BLOCK_H

#include <stddef.h>
#include <stdint.h>

struct block {
	struct block *next;
	uint32_t start, end, size; /* what waits is data[start..end) */
	uint8_t data[];
};

/* Blocks in order; bytes are put at the tail and taken from the head. */
struct block_queue {
	struct block *head, *tail;
};

/* Blocks for the next use. */
struct block_spares {
	struct block *head;
	uint32_t count;
};

/* An empty one in no queue. NULL: no memory. */
struct block *block_new(struct block_spares *spares, uint32_t size);
/* One that is in no queue. */
void block_free(struct block_spares *spares, struct block *b);
void block_spares_free(struct block_spares *spares);
void block_queue_free(struct block_queue *q);

static inline void block_queue_add(struct block_queue *q, struct block *b)
{
	if (q->tail)
		q->tail->next = b;
	else
		q->head = b;
	q->tail = b;
}

/* Of one that is not empty. */
static inline struct block *block_queue_pop(struct block_queue *q)
{
	struct block *b = q->head;

	q->head = b->next;
	if (!q->head)
		q->tail = NULL;
	return b;
}

#endif
