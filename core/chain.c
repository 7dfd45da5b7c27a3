#include "core/chain.h"

#include <errno.h>

_Static_assert(sizeof(struct chunk) == CHUNK_BYTES, "a chunk is exactly CHUNK_BYTES");

void chunk_pool_init(struct chunk_pool *p)
{
	*p = (struct chunk_pool){0};
}

void chunk_pool_trim(struct chunk_pool *p, uint32_t keep)
{
	while (p->free_count > keep) {
		struct chunk *k = p->free;

		p->free = k->next;
		p->free_count--;
		free(k);
	}
}

void chunk_pool_deinit(struct chunk_pool *p)
{
	ASSERT(p->used_count == 0);
	chunk_pool_trim(p, 0);
}

static struct chunk *chunk_get(struct chunk_pool *p)
{
	struct chunk *k = p->free;

	if (k) {
		p->free = k->next;
		p->free_count--;
	} else {
		k = malloc(sizeof(*k));
		if (!k)
			return NULL;
	}
	p->used_count++;
	k->next = NULL;
	k->start = k->end = 0;
	return k;
}

static void chunk_put(struct chunk_pool *p, struct chunk *k)
{
	ASSERT(p->used_count > 0);
	p->used_count--;
	if (p->free_count >= CHUNK_POOL_KEEP) {
		free(k);
		return;
	}
	k->next = p->free;
	p->free = k;
	p->free_count++;
}

void chain_init(struct chain *c, struct chunk_pool *pool)
{
	*c = (struct chain){.pool = pool};
}

void chain_clear(struct chain *c)
{
	chain_consume(c, c->bytes);
}

static size_t chunk_room(const struct chunk *k)
{
	return k ? sizeof(k->data) - k->end : 0;
}

static struct chunk *chain_grow(struct chain *c)
{
	struct chunk *k = chunk_get(c->pool);

	if (!k)
		return NULL;
	if (c->tail)
		c->tail->next = k;
	else
		c->head = k;
	c->tail = k;
	return k;
}

/* Undoes chunks that a failed append began after `last` (NULL: all). */
static void chain_cut(struct chain *c, struct chunk *last, uint32_t last_end)
{
	struct chunk *k = last ? last->next : c->head;

	while (k) {
		struct chunk *next = k->next;

		chunk_put(c->pool, k);
		k = next;
	}
	c->tail = last;
	if (last) {
		last->next = NULL;
		last->end = last_end;
	} else {
		c->head = NULL;
	}
}

int chain_append(struct chain *c, const void *p, size_t n)
{
	struct chunk *last = c->tail;
	uint32_t last_end = last ? last->end : 0;
	const uint8_t *from = p;
	size_t left = n;

	ASSERT(!c->is_reserved);
	while (left > 0) {
		struct chunk *k = c->tail;
		size_t room = chunk_room(k);

		if (room == 0) {
			k = chain_grow(c);
			if (!k) {
				chain_cut(c, last, last_end);
				return -ENOMEM;
			}
			room = chunk_room(k);
		}
		if (room > left)
			room = left;
		bytes_copy(k->data + k->end, from, room);
		k->end += (uint32_t)room;
		from += room;
		left -= room;
	}
	c->bytes += n;
	chunk_pool_count_copy(c->pool, n);
	return 0;
}

uint8_t *chain_reserve(struct chain *c, size_t want)
{
	struct chunk *k = c->tail;

	ASSERT(want <= sizeof(k->data));
	ASSERT(!c->is_reserved);
	if (!k || chunk_room(k) < want)
		k = chain_grow(c);
	c->is_reserved = k != NULL;
	return k ? k->data + k->end : NULL;
}

void chain_commit(struct chain *c, size_t n)
{
	ASSERT(c->is_reserved && c->tail && n <= chunk_room(c->tail));
	c->is_reserved = false;
	c->tail->end += (uint32_t)n;
	c->bytes += n;
	if (c->bytes == 0)
		chain_consume(c, 0); /* a chunk that was begun for nothing */
}

int chain_iov(const struct chain *c, struct iovec *iov, int max)
{
	int count = 0;

	for (struct chunk *k = c->head; k && count < max; k = k->next) {
		if (k->start == k->end)
			continue;
		iov[count].iov_base = k->data + k->start;
		iov[count].iov_len = k->end - k->start;
		count++;
	}
	return count;
}

void chain_consume(struct chain *c, size_t n)
{
	ASSERT(n <= c->bytes);
	c->bytes -= n;
	while (c->head) {
		struct chunk *k = c->head;
		size_t have = k->end - k->start;

		if (n < have) {
			k->start += (uint32_t)n;
			return;
		}
		n -= have;
		if (k == c->tail && c->is_reserved) {
			k->start = k->end;
			break;
		}
		/* The last chunk goes too once it is empty: an idle chain holds no memory. */
		c->head = k->next;
		if (!c->head)
			c->tail = NULL;
		chunk_put(c->pool, k);
	}
	ASSERT(n == 0);
}
