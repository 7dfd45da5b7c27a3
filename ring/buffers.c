/*
 * ring/buffers.c - the receive buffers that all streams of a ring share: the kernel takes one when data is there.
 *
 * Bytes are handed to on_recv and the buffer goes back at once, so between two batches the whole pool is the kernel's. An idle
 * stream holds none.
 */
#include "ring/internal.h"

#include <errno.h>
#include <sys/mman.h>

int buffers_init(struct ring *r, struct recv_buffers *b, uint16_t group, uint32_t count, uint32_t each_bytes)
{
	size_t bytes = (size_t)count * each_bytes;
	int err = 0;
	void *memory;

	/* Mapped, so that pages become resident only as the kernel fills them. */
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	b->ring = io_uring_setup_buf_ring(&r->uring, count, group, 0, &err);
	if (!b->ring) {
		(void)munmap(memory, bytes);
		return err == -EINVAL ? -EOPNOTSUPP : err;
	}
	b->memory = memory;
	b->memory_bytes = bytes;
	b->count = count;
	b->each_bytes = each_bytes;
	b->group = group;
	for (uint32_t id = 0; id < count; id++)
		buffers_return(b, id);
	buffers_publish(b);
	return 0;
}

void buffers_deinit(struct recv_buffers *b)
{
	/* The registration ends with the ring's descriptor; only the thread that ran the ring could end it earlier. */
	if (b->ring)
		(void)munmap(b->ring, b->count * sizeof(struct io_uring_buf));
	if (b->memory)
		(void)munmap(b->memory, b->memory_bytes);
	*b = (struct recv_buffers){0};
}

void buffers_return(struct recv_buffers *b, uint32_t id)
{
	ASSERT(id < b->count);
	io_uring_buf_ring_add(b->ring, buffers_at(b, id), b->each_bytes, (unsigned short)id, (int)b->count - 1,
			      (int)b->returned_count);
	b->returned_count++;
}

void buffers_publish(struct recv_buffers *b)
{
	if (b->returned_count > 0)
		io_uring_buf_ring_advance(b->ring, (int)b->returned_count);
	b->returned_count = 0;
}
