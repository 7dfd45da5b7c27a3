/*
 * core/chain.h - a byte queue made of fixed-size chunks from a pool.
 *
 * Owner:  embedded in whoever queues bytes (a stream's outgoing bytes, for one). Chunks belong to the pool that they came
 *         from; an empty chain holds none, so an idle session costs nothing here.
 * Life:   bytes between head and tail stay where they are until consumed, so a send may read them while more are appended.
 * Thread: chain and pool belong to one thread. A chain moves to another thread only when empty (chain_init anew).
 */
#ifndef CORE_CHAIN_H
#define CORE_CHAIN_H

#include "core/bytes.h"
#include "core/check.h"
#include "core/limits.h"

#include <sys/uio.h>

struct chunk {
	struct chunk *next;
	uint32_t start, end; /* the queued bytes are data[start..end) */
	uint8_t data[CHUNK_BYTES - 16];
};

struct chunk_pool {
	struct chunk *free;
	uint32_t free_count;
	uint32_t used_count;
	uint64_t copied_bytes; /* into its chunks, and by whom chunk_pool_count_copy was told; since the start */
};

struct chain {
	struct chunk_pool *pool;
	struct chunk *head, *tail;
	size_t bytes;
	bool is_reserved; /* between chain_reserve and chain_commit the last chunk stays, whatever is consumed */
};

void chunk_pool_init(struct chunk_pool *p);

/* Gives all free chunks back to the system; asserts that none is in use. */
void chunk_pool_deinit(struct chunk_pool *p);

/* Gives back free chunks above `keep` (for the idle timer). */
void chunk_pool_trim(struct chunk_pool *p, uint32_t keep);

/* One more copy on the path of this pool's bytes: what copies a gigabyte costs is a figure of `ringgate status`. */
static inline void chunk_pool_count_copy(struct chunk_pool *p, size_t n)
{
	__atomic_store_n(&p->copied_bytes, p->copied_bytes + n, __ATOMIC_RELAXED);
}

/* Any thread. */
static inline uint64_t chunk_pool_copied(const struct chunk_pool *p)
{
	return __atomic_load_n(&p->copied_bytes, __ATOMIC_RELAXED);
}

void chain_init(struct chain *c, struct chunk_pool *pool);

/* Drops all bytes; a reservation stays good. */
void chain_clear(struct chain *c);

/* Copies n bytes to the end. 0, or -ENOMEM with nothing appended. */
MUST_USE int chain_append(struct chain *c, const void *p, size_t n);

/*
 * Room at the end for up to `want` contiguous bytes (want <= sizeof(chunk.data)); a new chunk is begun where the last one
 * has less. NULL when there is no memory. Bytes written there count from chain_commit on; until then nothing is appended.
 */
MUST_USE uint8_t *chain_reserve(struct chain *c, size_t want);
void chain_commit(struct chain *c, size_t n);

/* Fills iov with the queued bytes in order, at most `max` entries; returns how many. The bytes stay queued. */
int chain_iov(const struct chain *c, struct iovec *iov, int max);

/* Drops n bytes (<= c->bytes) from the front. */
void chain_consume(struct chain *c, size_t n);

#endif
