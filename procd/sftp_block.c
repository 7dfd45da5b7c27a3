#include "procd/sftp_block.h"

#include "procd/limits.h"

#include <stdlib.h>

struct block *block_new(struct block_spares *spares, uint32_t size)
{
	struct block *b = size == SFTP_BLOCK_BYTES ? spares->head : NULL;

	if (b) {
		spares->head = b->next;
		spares->count--;
	} else {
		b = malloc(sizeof(*b) + size);
		if (!b)
			return NULL;
		b->size = size;
	}
	b->next = NULL;
	b->start = b->end = 0;
	return b;
}

/* Large blocks are kept for the next use: memory fresh from the kernel costs more than the copy into it. */
void block_free(struct block_spares *spares, struct block *b)
{
	if (b->size != SFTP_BLOCK_BYTES || spares->count == SFTP_SPARE_BLOCKS) {
		free(b);
		return;
	}
	b->next = spares->head;
	spares->head = b;
	spares->count++;
}

void block_spares_free(struct block_spares *spares)
{
	while (spares->head) {
		struct block *b = spares->head;

		spares->head = b->next;
		free(b);
	}
}

void block_queue_free(struct block_queue *q)
{
	while (q->head)
		free(block_queue_pop(q));
}
