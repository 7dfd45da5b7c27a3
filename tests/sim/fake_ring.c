/*
 * The kernel's part and the loop of ring/, in memory. ring/stream.c, timer.c, mail.c, wheel.c and socket.c are the real
 * ones, but for socket(), close() and shutdown(), which build.zig points at the functions below.
 *
 * As with io_uring, completions are there before the batch looks at them: one that came before a cancellation or a close in
 * the same batch is handed out after it.
 */
#include "tests/sim/fake_ring.h"
#include "tests/sim/fake_libc.h"
#include "tests/sim/sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SQES_MAX 1024
#define BUFFER_BYTES (16 * 1024)

int (*sim_on_connect)(const struct sockaddr *addr, struct sim_socket *far_end);

/* --- sockets --- */

static struct sim_socket **fd_table;
static uint32_t fd_count, fd_size;

static int fd_new(struct sim_socket *s)
{
	if (sim.round_count == 0 && list_is_empty(&sim.sockets))
		fd_count = 0; /* a new world */
	if (fd_count == fd_size) {
		fd_size = fd_size ? 2 * fd_size : 64;
		fd_table = realloc(fd_table, fd_size * sizeof(struct sim_socket *));
		ASSERT(fd_table);
	}
	fd_table[fd_count] = s;
	return SIM_FD_FIRST + (int)fd_count++;
}

static struct sim_socket *fd_socket(int fd)
{
	CHECK(fd >= SIM_FD_FIRST && fd < SIM_FD_FIRST + (int)fd_count);
	CHECK(fd_table[fd - SIM_FD_FIRST]); /* not closed before */
	return fd_table[fd - SIM_FD_FIRST];
}

static struct sim_socket *socket_new(void)
{
	struct sim_socket *s = calloc(1, sizeof(*s));

	ASSERT(s);
	s->fd = -1;
	list_add_tail(&sim.sockets, &s->node);
	return s;
}

static void socket_pair(struct sim_socket *a, struct sim_socket *b)
{
	a->peer = b;
	b->peer = a;
}

struct sim_socket *sim_connection(int *ret_fd)
{
	struct sim_socket *near = socket_new(), *far = socket_new();

	near->fd = fd_new(near);
	socket_pair(near, far);
	*ret_fd = near->fd;
	return far;
}

static void socket_delay(struct sim_socket *s)
{
	uint64_t at = sim.now_us + sim_random(sim.weather.latency_us);

	if (at > s->ready_us)
		s->ready_us = at;
}

bool sim_socket_is_readable(const struct sim_socket *s)
{
	return s->bytes > 0 && sim.now_us >= s->ready_us;
}

bool sim_socket_has_ended(const struct sim_socket *s)
{
	return sim.now_us >= s->ready_us && (s->is_reset || s->is_fin) && s->bytes == 0;
}

uint64_t sim_socket_next_us(const struct sim_socket *s)
{
	return s->bytes > 0 || s->is_fin || s->is_reset ? s->ready_us : SIM_NEVER;
}

size_t sim_socket_read(struct sim_socket *s, void *p, size_t n)
{
	if (!sim_socket_is_readable(s))
		return 0;
	if (n > s->bytes)
		n = s->bytes;
	memcpy(p, s->in + s->start, n);
	s->start += n;
	s->bytes -= n;
	s->read_total += n;
	if (s->bytes == 0)
		s->start = 0;
	return n;
}

size_t sim_socket_write(struct sim_socket *s, const void *p, size_t n)
{
	struct sim_socket *to = s->peer;
	size_t room;

	ASSERT(!s->is_shut);
	if (s->is_reset)
		return n;
	if (!to) {
		/* Into the void, as with TCP until the other side's reset is there. */
		s->is_reset = true;
		socket_delay(s);
		return n;
	}
	room = to->bytes < sim.weather.socket_bytes ? sim.weather.socket_bytes - to->bytes : 0;
	if (n > room)
		n = room;
	if (n == 0)
		return 0;
	if (to->bytes == 0)
		socket_delay(to);
	if (to->start + to->bytes + n > to->size) {
		if (to->bytes > 0)
			memmove(to->in, to->in + to->start, to->bytes);
		to->start = 0;
		if (to->bytes + n > to->size) {
			to->size = to->bytes + n < 4096 ? 4096 : 2 * (to->bytes + n);
			to->in = realloc(to->in, to->size);
			ASSERT(to->in);
		}
	}
	memcpy(to->in + to->start + to->bytes, p, n);
	to->bytes += n;
	return n;
}

void sim_socket_shutdown(struct sim_socket *s)
{
	if (s->is_shut)
		return;
	s->is_shut = true;
	if (s->peer) {
		s->peer->is_fin = true;
		socket_delay(s->peer);
	}
}

void sim_socket_close(struct sim_socket *s, bool is_reset)
{
	CHECK(!s->has_ops);
	/* As TCP: a close with bytes unread is a reset. */
	if (s->peer) {
		if (is_reset || s->bytes > 0) {
			s->peer->is_reset = true;
			if (is_reset && s->peer->bytes > 0 && sim_chance(50))
				s->peer->bytes =
					sim_random((uint32_t)s->peer->bytes + 1); /* the rest was not sent yet */
			socket_delay(s->peer);
		} else if (!s->is_shut) {
			sim_socket_shutdown(s);
		}
		s->peer->peer = NULL;
	}
	if (s->fd >= 0)
		fd_table[s->fd - SIM_FD_FIRST] = NULL;
	list_del(&s->node);
	free(s->in);
	free(s);
}

/* --- what ring/ calls instead of libc --- */

int sim_libc_socket(int family, int type, int protocol)
{
	struct sim_socket *s = socket_new();

	(void)family;
	(void)type;
	(void)protocol;
	s->fd = fd_new(s);
	return s->fd;
}

int sim_libc_close(int fd)
{
	sim_socket_close(fd_socket(fd), false);
	return 0;
}

int sim_libc_shutdown(int fd, int how)
{
	CHECK(how == SHUT_WR);
	sim_socket_shutdown(fd_socket(fd));
	return 0;
}

/* --- operations --- */

struct fake_op {
	struct list node;
	uint64_t tag;
	uint8_t opcode;
	int fd;
	bool is_cancelled;
	uint64_t due_us;
	struct iovec iov[RING_SEND_IOV];
	int iov_count;
	int connect_result; /* -EINPROGRESS: none */
	uint64_t target;    /* of a cancellation */
};

struct fake_cqe {
	uint64_t tag;
	int res;
	uint32_t flags;
};

static void cqe_add(struct fake_ring *f, uint64_t tag, int res, uint32_t flags)
{
	if (f->cqe_count == f->cqe_size) {
		f->cqe_size = f->cqe_size ? 2 * f->cqe_size : 64;
		f->cqes = realloc(f->cqes, f->cqe_size * sizeof(*f->cqes));
		ASSERT(f->cqes);
	}
	f->cqes[f->cqe_count++] = (struct fake_cqe){tag, res, flags};
}

static void op_end(struct fake_ring *f, struct fake_op *op, int res, uint32_t flags)
{
	cqe_add(f, op->tag, res, flags);
	if (op->opcode == IORING_OP_RECV || op->opcode == IORING_OP_SEND || op->opcode == IORING_OP_CONNECT) {
		struct fake_op *other;
		bool has_ops = false;

		list_del(&op->node);
		for (struct list *n = f->ops.next; n != &f->ops; n = n->next) {
			other = CONTAINER_OF(n, struct fake_op, node);
			has_ops |= other->fd == op->fd;
		}
		fd_socket(op->fd)->has_ops = has_ops;
	}
	list_del(&op->node);
	free(op);
}

static bool has_failed(const struct sim_socket *s)
{
	return sim.now_us >= s->ready_us && s->is_reset;
}

static bool recv_complete(struct fake_ring *f, struct fake_op *op)
{
	struct sim_socket *s = fd_socket(op->fd);
	uint32_t times = sim_between(1, 3);

	/* What has come may win over the cancellation. */
	if (op->is_cancelled && (!sim_socket_is_readable(s) || sim_chance(50))) {
		op_end(f, op, -ECANCELED, 0);
		return true;
	}
	if (sim_socket_has_ended(s)) {
		op_end(f, op, s->is_reset ? -ECONNRESET : 0, 0);
		return true;
	}
	if (!sim_socket_is_readable(s))
		return false;
	for (uint32_t i = 0; i < times && sim_socket_is_readable(s); i++) {
		uint32_t max = sim.weather.chunk_max < BUFFER_BYTES ? sim.weather.chunk_max : BUFFER_BYTES, id;
		size_t n;

		if (f->free_count == 0) {
			op_end(f, op, -ENOBUFS, 0);
			return true;
		}
		id = f->free_buffers[--f->free_count];
		n = sim_socket_read(s, buffers_at(&f->ring.buffers, id), sim_between(1, max));
		if (sim_chance(2)) { /* the kernel may end a multishot at any time */
			op_end(f, op, (int)n, IORING_CQE_F_BUFFER | id << IORING_CQE_BUFFER_SHIFT);
			return true;
		}
		cqe_add(f, op->tag, (int)n, IORING_CQE_F_BUFFER | IORING_CQE_F_MORE | id << IORING_CQE_BUFFER_SHIFT);
	}
	return true;
}

static bool send_complete(struct fake_ring *f, struct fake_op *op)
{
	struct sim_socket *s = fd_socket(op->fd);
	size_t total = 0, most, done = 0;

	if (has_failed(s)) {
		op_end(f, op, -ECONNRESET, 0);
		return true;
	}
	for (int i = 0; i < op->iov_count; i++)
		total += op->iov[i].iov_len;
	most = sim_chance(30) ? sim_between(1, (uint32_t)total) : total;
	/* The bytes are read from their owner's memory only now: it must still be there. */
	for (int i = 0; i < op->iov_count && done < most; i++) {
		size_t n = op->iov[i].iov_len < most - done ? op->iov[i].iov_len : most - done;
		size_t took = sim_socket_write(s, op->iov[i].iov_base, n);

		done += took;
		if (took < n)
			break;
	}
	if (done > 0) {
		op_end(f, op, (int)done, 0);
		return true;
	}
	if (op->is_cancelled) {
		op_end(f, op, -ECANCELED, 0);
		return true;
	}
	return false;
}

static bool connect_complete(struct fake_ring *f, struct fake_op *op)
{
	if (op->is_cancelled && (op->connect_result == -EINPROGRESS || sim_chance(50)))
		op_end(f, op, -ECANCELED, 0);
	else if (op->connect_result == -EINPROGRESS || sim.now_us < op->due_us)
		return false;
	else
		op_end(f, op, op->connect_result, 0);
	return true;
}

static bool cancel_complete(struct fake_ring *f, struct fake_op *op)
{
	int res = -ENOENT;

	for (struct list *n = f->ops.next; n != &f->ops; n = n->next) {
		struct fake_op *other = CONTAINER_OF(n, struct fake_op, node);

		if (other->tag == op->target && other->opcode != IORING_OP_ASYNC_CANCEL) {
			other->is_cancelled = true;
			res = 0;
		}
	}
	op_end(f, op, res, 0);
	return true;
}

static bool complete(struct fake_ring *f, struct fake_op *op)
{
	switch (op->opcode) {
	case IORING_OP_RECV:
		return recv_complete(f, op);
	case IORING_OP_SEND:
		return send_complete(f, op);
	case IORING_OP_CONNECT:
		return connect_complete(f, op);
	default:
		return cancel_complete(f, op);
	}
}

/* What the kernel has to say about each operation, in random order. */
static bool kernel(struct fake_ring *f)
{
	uint32_t count = 0;
	bool moved = false;

	for (struct list *n = f->ops.next, *next; n != &f->ops; n = next) {
		next = n->next;
		count++;
		if (sim_chance(30)) {
			list_del(n);
			list_add_head(&f->ops, n);
		}
	}
	/* Each is looked at once: those that stay go to the end. */
	for (; count > 0; count--) {
		struct fake_op *op = CONTAINER_OF(f->ops.next, struct fake_op, node);

		list_del(&op->node);
		list_add_tail(&f->ops, &op->node);
		if (!sim_misses())
			moved |= complete(f, op);
	}
	return moved;
}

static void begin_connect(struct fake_op *op, const struct sockaddr *addr)
{
	struct sim_socket *near = fd_socket(op->fd), *far = socket_new();

	op->connect_result = sim_on_connect(addr, far);
	op->due_us = sim.now_us + sim_random(sim.weather.latency_us);
	if (op->connect_result == 0) {
		socket_pair(near, far);
		return;
	}
	list_del(&far->node);
	free(far);
}

static void submit_one(struct fake_ring *f, const struct io_uring_sqe *sqe)
{
	struct fake_op *op;

	if (sqe->opcode == IORING_OP_MSG_RING)
		return; /* wakes nobody: all rings get their turns */
	op = calloc(1, sizeof(*op));
	ASSERT(op);
	op->tag = sqe->user_data;
	op->opcode = sqe->opcode;
	op->fd = sqe->fd;
	list_add_tail(&f->ops, &op->node);
	switch (sqe->opcode) {
	case IORING_OP_RECV:
		break;
	case IORING_OP_SEND:
		op->iov[0] = (struct iovec){.iov_base = (void *)(uintptr_t)sqe->addr, .iov_len = sqe->len};
		op->iov_count = 1;
		break;
	case IORING_OP_SENDMSG: {
		const struct msghdr *m = (const struct msghdr *)(uintptr_t)sqe->addr;

		op->opcode = IORING_OP_SEND;
		op->iov_count = (int)m->msg_iovlen;
		memcpy(op->iov, m->msg_iov, m->msg_iovlen * sizeof(struct iovec));
		break;
	}
	case IORING_OP_CONNECT:
		begin_connect(op, (const struct sockaddr *)(uintptr_t)sqe->addr);
		break;
	case IORING_OP_ASYNC_CANCEL:
		op->target = sqe->addr;
		return;
	default:
		CHECK(!"an operation that the fake ring does not know");
	}
	fd_socket(op->fd)->has_ops = true;
}

static bool submit(struct fake_ring *f)
{
	uint32_t count = f->sqe_count;

	for (uint32_t i = 0; i < count; i++)
		submit_one(f, &f->sqes[i]);
	f->sqe_count = 0;
	return count > 0;
}

/* --- what loop.c and buffers.c do for the rest of ring/ --- */

static struct fake_ring *fake(struct ring *r)
{
	return CONTAINER_OF(r, struct fake_ring, ring);
}

int ring_new(const struct ring_options *o, struct ring **ret_ring)
{
	struct fake_ring *f;
	uint32_t count = sim.weather.recv_buffers;

	(void)o;
	if (posix_memalign((void **)&f, _Alignof(struct fake_ring), sizeof(*f)) != 0)
		return -ENOMEM;
	memset(f, 0, sizeof(*f));
	f->ring.is_enabled = f->ring.is_running = true;
	f->ring.wake_fd = -1;
	f->ring.now_us = sim.now_us;
	list_init(&f->ring.deferred);
	list_init(&f->ring.starved);
	chunk_pool_init(&f->ring.pool);
	wheel_init(&f->ring.wheel, sim.now_us / 1000);
	list_init(&f->ops);
	f->sqes = calloc(SQES_MAX, sizeof(*f->sqes));
	f->ring.args = calloc(SQES_MAX, sizeof(*f->ring.args));
	f->ring.buffers = (struct recv_buffers){
		.memory = malloc((size_t)count * BUFFER_BYTES), .count = count, .each_bytes = BUFFER_BYTES};
	f->free_buffers = calloc(count, sizeof(*f->free_buffers));
	ASSERT(f->sqes && f->ring.args && f->ring.buffers.memory && f->free_buffers);
	for (uint32_t i = 0; i < count; i++)
		f->free_buffers[f->free_count++] = i;
	list_add_tail(&sim.rings, &f->node);
	*ret_ring = &f->ring;
	return 0;
}

void ring_free(struct ring *r)
{
	struct fake_ring *f = fake(r);

	CHECK(list_is_empty(&f->ops));
	CHECK(list_is_empty(&r->deferred) && list_is_empty(&r->starved));
	chunk_pool_deinit(&r->pool);
	list_del(&f->node);
	free(f->sqes);
	free(f->cqes);
	free(f->free_buffers);
	free(r->args);
	free(r->buffers.memory);
	free(f);
}

uint64_t ring_now_us(const struct ring *r)
{
	return r->now_us;
}

struct chunk_pool *ring_pool(struct ring *r)
{
	return &r->pool;
}

void ring_check_thread(const struct ring *r)
{
	(void)r;
}

void ring_read_clock(struct ring *r)
{
	r->now_us = sim.now_us;
}

struct io_uring_sqe *ring_sqe(struct ring *r)
{
	struct fake_ring *f = fake(r);

	if (f->sqe_count == SQES_MAX)
		(void)submit(f);
	return &f->sqes[f->sqe_count++];
}

union sqe_args *ring_sqe_args(struct ring *r, const struct io_uring_sqe *sqe)
{
	return &r->args[sqe - fake(r)->sqes];
}

void ring_cancel(struct ring *r, uint64_t target, uint64_t tag)
{
	struct io_uring_sqe *sqe = ring_sqe(r);

	io_uring_prep_cancel64(sqe, target, 0);
	io_uring_sqe_set_data64(sqe, tag);
}

void buffers_return(struct recv_buffers *b, uint32_t id)
{
	struct fake_ring *f = CONTAINER_OF(b, struct fake_ring, ring.buffers);

	ASSERT(f->free_count < b->count);
	memset(buffers_at(b, id), 0xdb,
	       b->each_bytes < 64 ? b->each_bytes : 64); /* whoever still reads there sees it */
	f->free_buffers[f->free_count++] = id;
}

void deferred_init(struct deferred *d, void (*on_run)(struct deferred *d))
{
	list_init(&d->node);
	d->on_run = on_run;
}

void deferred_ask(struct ring *r, struct deferred *d)
{
	if (list_is_empty(&d->node))
		list_add_tail(&r->deferred, &d->node);
}

void deferred_cancel(struct deferred *d)
{
	list_del(&d->node);
}

static bool run_deferred(struct ring *r)
{
	bool moved = false;

	for (int i = 0; i < RING_DEFERRED_ROUNDS && !list_is_empty(&r->deferred); i++) {
		struct list round;

		list_init(&round);
		list_add_tail(r->deferred.next, &round);
		list_del(&r->deferred);
		while (!list_is_empty(&round)) {
			struct deferred *d = CONTAINER_OF(round.next, struct deferred, node);

			list_del(&d->node);
			d->on_run(d);
			moved = true;
		}
	}
	return moved;
}

static void dispatch(uint64_t tag, int res, uint32_t flags)
{
	void *owner = (void *)(uintptr_t)(tag & ~OP_MASK);

	switch ((enum op)(tag & OP_MASK)) {
	case OP_RECV:
		stream_on_recv(owner, res, flags);
		break;
	case OP_SEND:
		stream_on_send(owner, res);
		break;
	case OP_CONNECT:
		stream_on_connect(owner, res);
		break;
	case OP_STREAM_CANCEL:
		stream_on_cancel(owner);
		break;
	case OP_WATCH:
		watch_on_poll(owner, res);
		break;
	case OP_WATCH_CANCEL:
		watch_on_cancel(owner);
		break;
	default:
		CHECK(!"a completion of a kind that the fake ring does not make");
	}
}

bool fake_ring_batch(struct fake_ring *f)
{
	struct ring *r = &f->ring;
	uint64_t next_ms;
	bool moved;

	ring_read_clock(r);
	moved = kernel(f);
	for (uint32_t i = 0; i < f->cqe_count; i++) {
		struct fake_cqe cqe = f->cqes[i];

		dispatch(cqe.tag, cqe.res, cqe.flags);
	}
	f->cqe_count = 0;
	next_ms = wheel_next(&r->wheel);
	moved |= next_ms <= r->now_us / 1000;
	wheel_advance(&r->wheel, r->now_us / 1000);
	moved |= atomic_load(&r->mail) != NULL;
	mail_deliver(r);
	moved |= run_deferred(r);
	moved |= !list_is_empty(&r->starved);
	stream_feed(r, true);
	moved |= submit(f);
	return moved;
}

uint64_t fake_ring_next_us(const struct fake_ring *f)
{
	uint64_t next_ms = wheel_next(&f->ring.wheel), next = SIM_NEVER;

	if (next_ms != WHEEL_NONE)
		next = next_ms * 1000;
	for (struct list *n = f->ops.next; n != &f->ops; n = n->next) {
		const struct fake_op *op = CONTAINER_OF(n, struct fake_op, node);

		if (op->opcode == IORING_OP_CONNECT && op->connect_result != -EINPROGRESS && op->due_us < next)
			next = op->due_us;
	}
	return next;
}

bool sim_ring_has_timers(const struct ring *r)
{
	return wheel_next(&r->wheel) != WHEEL_NONE;
}

uint32_t sim_ring_ops(const struct ring *r)
{
	const struct fake_ring *f = CONTAINER_OF(r, struct fake_ring, ring);
	uint32_t count = 0;

	for (struct list *n = f->ops.next; n != &f->ops; n = n->next)
		count++;
	return count;
}
