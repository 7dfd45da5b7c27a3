/*
 * ring/internal.h - what the files of ring/ share.
 *
 * Owner:  struct ring is made by ring_new.
 * Thread: the one in ring_run, but for the mailbox, the stop flag and the wake-up descriptor.
 */
#ifndef RING_INTERNAL_H
#define RING_INTERNAL_H

#include "ring/limits.h"
#include "ring/ring.h"
#include "ring/wheel.h"

#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>

/*
 * user_data is a pointer with the kind of operation in its low bits. A completion's owner is always alive: it is not given
 * back to its user before all its operations have completed.
 */
enum op {
	OP_RING = 0, /* no pointer: one of the values below */
	OP_RECV,
	OP_SEND,
	OP_CONNECT,
	OP_STREAM_CANCEL,
	OP_ACCEPT,
	OP_LISTENER_CANCEL,
	OP_POST, /* the pointer is the receiver's ring; completes only where MSG_RING failed */
	OP_WATCH,
	OP_WATCH_CANCEL,
};
#define OP_MASK (RING_OWNER_ALIGN - 1ULL)

/* Values of user_data with OP_RING. */
#define TAG_NONE 0           /* it was handled out of its turn */
#define TAG_WAKE (1ULL << 4) /* the eventfd was read */
#define TAG_MAIL (2ULL << 4) /* another ring's MSG_RING */

/* See buffers.c. */
struct recv_buffers {
	struct io_uring_buf_ring *ring;
	uint8_t *memory;
	size_t memory_bytes;
	uint32_t count, each_bytes;
	uint32_t returned_count; /* added, not yet published */
	uint16_t group;
};

/*
 * What a submission points to besides its stream: one for each entry of the submission queue, since the kernel has copied it
 * when it takes the entry (IORING_FEAT_SUBMIT_STABLE). So no stream carries them.
 */
union sqe_args {
	struct {
		struct msghdr msg;
		struct iovec iov[RING_SEND_IOV];
	};
	struct sockaddr_storage addr;
};

struct ring {
	struct io_uring uring;
	uint64_t now_us;
	bool is_enabled, is_running, is_wake_armed;
	int broken; /* negative errno once nothing can be submitted any more */
	int wake_fd;
	uint64_t wake_count; /* read from wake_fd */
	pthread_t thread;
	struct wheel wheel;
	struct list deferred;
	struct list starved; /* streams that wait for a recv buffer, light ones first */
	struct recv_buffers buffers;
	struct recv_buffers light_buffers; /* count 0: there are none */
	uint32_t scan;                     /* number of the look at the completion queue at hand */
	/* See ring_gathers; of streams that gather, in the batch at hand. */
	uint32_t batch_recvs, batch_recv_bytes;
	uint32_t gather_skip, gather_skip_next;
	bool has_gathered;
	struct chunk_pool pool;
	struct ring_stats stats;
	union sqe_args *args;
	struct io_uring_sqe spare; /* taken by operations of a broken ring */

	/* Written by other threads. */
	_Alignas(64) _Atomic(struct mail *) mail; /* newest first */
	_Atomic bool is_stopping;
};

/* An addition like any other to this thread, and never half of one to a thread that reads it (ring_stats_read). */
static inline void ring_count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline uint64_t op_tag(const void *owner, enum op op)
{
	return (uint64_t)(uintptr_t)owner | op;
}

/* A cleared submission entry; enters the kernel where the queue is full, so it never fails. */
struct io_uring_sqe *ring_sqe(struct ring *r);
/* The arguments that go with it. */
union sqe_args *ring_sqe_args(struct ring *r, const struct io_uring_sqe *sqe);
/* Asks to cancel the operation that has the user_data `target`; the answer itself completes as `tag`. */
void ring_cancel(struct ring *r, uint64_t target, uint64_t tag);
/* Asserts that the caller may touch r. */
void ring_check_thread(const struct ring *r);
void ring_read_clock(struct ring *r);

MUST_USE int buffers_init(struct ring *r, struct recv_buffers *b, uint16_t group, uint32_t count, uint32_t each_bytes);
void buffers_deinit(struct recv_buffers *b);
static inline uint8_t *buffers_at(const struct recv_buffers *b, uint32_t id)
{
	return b->memory + (size_t)id * b->each_bytes;
}
/* The kernel may fill it again after buffers_publish. */
void buffers_return(struct recv_buffers *b, uint32_t id);
void buffers_publish(struct recv_buffers *b);

/* Takes all that was posted and hands it out. */
void mail_deliver(struct ring *r);
void mail_wake(struct ring *r);

/* Has it moved little of late? */
bool stream_is_light(struct stream *s);
void stream_on_recv(struct stream *s, int res, uint32_t flags);
void stream_on_send(struct stream *s, int res);
void stream_on_connect(struct stream *s, int res);
void stream_on_cancel(struct stream *s);
/* Lets starved streams receive: light ones always, the others when all buffers are the kernel's again. */
void stream_feed(struct ring *r, bool is_all);

/* The ring goes: names that it still waits for are asked for nobody. */
void resolve_forget(struct ring *r);

void listener_on_accept(struct listener *l, int res, uint32_t flags);
void listener_on_cancel(struct listener *l);

void watch_on_poll(struct watch *w, int res);
void watch_on_cancel(struct watch *w);

#endif
