/*
 * ring/loop.c - set-up of a ring, and its loop.
 *
 *   completions ──► receive buffers back ──► timers ──► mail ──► deferred ──► starved streams ──► submit and sleep ──┐
 *        ▲                                                                                                          │
 *        └──────────────────────────────────── one io_uring_enter a batch ◄─────────────────────────────────────────┘
 *
 * Nothing is submitted outside of ring_run: what is started before only asks for deferred work.
 */
#include "ring/internal.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static const int ops_needed[] = {
	IORING_OP_ACCEPT,       IORING_OP_RECV,     IORING_OP_SEND, IORING_OP_SENDMSG,  IORING_OP_CONNECT,
	IORING_OP_ASYNC_CANCEL, IORING_OP_MSG_RING, IORING_OP_READ, IORING_OP_POLL_ADD,
};

/* SUBMIT_STABLE: see union sqe_args. NODROP: a full completion queue loses nothing. EXT_ARG: sleeping with a time limit. */
#define FEATURES_NEEDED (IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_FAST_POLL)

const char *ring_explain(int err)
{
	switch (err) {
	case -ENOSYS:
		return "there is no io_uring here: a container's seccomp profile hides it, as Podman's does (use "
		       "deploy/seccomp-io-uring.json, see deploy/README.md), or the kernel lacks it (Linux 6.1 or "
		       "newer with CONFIG_IO_URING is needed)";
	case -EPERM:
	case -EACCES:
		return "io_uring is forbidden here: a container's seccomp profile does not allow io_uring_setup (use "
		       "deploy/seccomp-io-uring.json, see deploy/README.md), or the sysctl kernel.io_uring_disabled is "
		       "1 or 2 (set it to 0)";
	case -EOPNOTSUPP:
		return "this kernel's io_uring is too old; Linux 6.1 or newer is needed";
	case -ENOMEM:
		return "no memory for an io_uring; raise the memory limit (and on kernels that count it, "
		       "RLIMIT_MEMLOCK)";
	case -EMFILE:
	case -ENFILE:
		return "no descriptor left for an io_uring; raise the limit of open files (ulimit -n)";
	default:
		return "io_uring could not be set up";
	}
}

void ring_read_clock(struct ring *r)
{
	struct timespec ts;

	/* CLOCK_MONOTONIC with a valid pointer cannot fail. */
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	r->now_us = (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static int ring_probe(struct ring *r)
{
	struct io_uring_probe *probe;
	int ret = 0;

	if ((r->uring.features & FEATURES_NEEDED) != FEATURES_NEEDED)
		return -EOPNOTSUPP;
	probe = io_uring_get_probe_ring(&r->uring);
	if (!probe)
		return -EOPNOTSUPP;
	for (size_t i = 0; i < ARRAY_LEN(ops_needed); i++)
		if (!io_uring_opcode_supported(probe, ops_needed[i]))
			ret = -EOPNOTSUPP;
	io_uring_free_probe(probe);
	return ret;
}

/*
 * The flags need 6.1, and with that kernel come multishot accept and recv, buffer rings and cancellation as we use them.
 * DEFER_TASKRUN runs completions only when we enter, so a batch is never interrupted. R_DISABLED: the submitting thread is the one
 * that enables it, in ring_run. SUBMIT_ALL: one refused entry does not hold up those behind it.
 */
static int ring_setup(struct ring *r, uint32_t sq_entries)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED |
			 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
		.cq_entries = sq_entries * RING_CQ_PER_SQ,
	};
	int err = io_uring_queue_init_params(sq_entries, &r->uring, &p);

	return err == -EINVAL ? -EOPNOTSUPP : err;
}

/* What follows a ring that is set up; the caller tears down. */
static int ring_equip(struct ring *r, const struct ring_options *o)
{
	uint32_t count = o && o->recv_buffer_count ? o->recv_buffer_count : RING_RECV_BUFFERS;
	uint32_t each = o && o->recv_buffer_bytes ? o->recv_buffer_bytes : RING_RECV_BUFFER_BYTES;
	int err = ring_probe(r);

	if (err)
		return err;
	ASSERT(count <= RING_RECV_BUFFERS_MAX && (count & (count - 1)) == 0);
	r->args = calloc(r->uring.sq.ring_entries, sizeof(*r->args));
	if (!r->args)
		return -ENOMEM;
	/* Blocking, or io_uring would not wait for it but answer EAGAIN. Nothing else reads it. */
	r->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (r->wake_fd < 0)
		return -errno;
	err = buffers_init(r, &r->buffers, 0, count, each);
	if (err || (o && o->has_no_light_buffers))
		return err;
	return buffers_init(r, &r->light_buffers, 1, RING_LIGHT_BUFFERS, RING_LIGHT_BUFFER_BYTES);
}

static void ring_teardown(struct ring *r)
{
	/* The kernel ends whatever is left in flight before the buffers go. */
	io_uring_queue_exit(&r->uring);
	buffers_deinit(&r->buffers);
	buffers_deinit(&r->light_buffers);
	if (r->wake_fd >= 0)
		(void)close(r->wake_fd);
	free(r->args);
	free(r);
}

int ring_new(const struct ring_options *o, struct ring **ret_ring)
{
	struct ring *r;
	int err;

	if (posix_memalign((void **)&r, _Alignof(struct ring), sizeof(*r)) != 0)
		return -ENOMEM;
	*r = (struct ring){.wake_fd = -1};
	list_init(&r->deferred);
	list_init(&r->starved);
	r->gather_skip_next = RING_GATHER_SKIP;
	chunk_pool_init(&r->pool);
	ring_read_clock(r);
	wheel_init(&r->wheel, r->now_us / 1000);
	err = ring_setup(r, o && o->sq_entries ? o->sq_entries : RING_SQ_ENTRIES);
	if (err) {
		free(r);
		return err;
	}
	err = ring_equip(r, o);
	if (err) {
		ring_teardown(r);
		return err;
	}
	*ret_ring = r;
	return 0;
}

void ring_free(struct ring *r)
{
	if (!r)
		return;
	ASSERT(!r->is_running);
	resolve_forget(r);
	/* Streams of a broken ring never close; their chunks are lost with them. */
	if (!r->broken)
		chunk_pool_deinit(&r->pool);
	ring_teardown(r);
}

uint64_t ring_now_us(const struct ring *r)
{
	return r->now_us;
}

const struct ring_stats *ring_stats(const struct ring *r)
{
	return &r->stats;
}

void ring_stats_read(const struct ring *r, struct ring_stats *ret)
{
	const uint64_t *from = (const uint64_t *)&r->stats;
	uint64_t *to = (uint64_t *)ret;

	_Static_assert(sizeof(*ret) % sizeof(*to) == 0, "it is counters alone");
	for (size_t i = 0; i < sizeof(*ret) / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

struct chunk_pool *ring_pool(struct ring *r)
{
	return &r->pool;
}

void ring_check_thread(const struct ring *r)
{
	ASSERT(!r->is_running || pthread_equal(r->thread, pthread_self()));
}

/* ---- Submission ---- */

/* As io_uring_submit and its relatives, with no work done twice: one system call, always. Returns what the kernel does. */
static int ring_enter(struct ring *r, unsigned wait_count, const struct __kernel_timespec *timeout, unsigned gather_us)
{
	struct io_uring *u = &r->uring;
	struct io_uring_getevents_arg arg = {
		.sigmask_sz = _NSIG / 8, .min_wait_usec = gather_us, .ts = (uintptr_t)timeout};
	unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;

	if (u->enter_ring_fd != u->ring_fd)
		flags |= IORING_ENTER_REGISTERED_RING;
	u->sq.sqe_head = u->sq.sqe_tail;
	io_uring_smp_store_release(u->sq.ktail, u->sq.sqe_tail);
	ring_count(&r->stats.enters, 1);
	return io_uring_enter2((unsigned)u->enter_ring_fd, io_uring_sq_ready(u), wait_count, flags, &arg, sizeof(arg));
}

/* Errors that pass: nothing to do, a signal, completions to be taken first, memory short for the moment. */
static bool ring_error_passes(int err)
{
	return err == -ETIME || err == -EINTR || err == -EBUSY || err == -EAGAIN || err == -ENOMEM;
}

/* Makes room in the submission queue without handling completions: those would call back into whoever is calling. */
static void ring_make_room(struct ring *r)
{
	ASSERT(r->is_running);
	for (int i = 0; i < RING_SUBMIT_TRIES; i++) {
		int ret = io_uring_submit(&r->uring);

		ring_count(&r->stats.enters, 1);
		if (io_uring_sq_space_left(&r->uring) > 0)
			return;
		if (ret < 0 && !ring_error_passes(ret)) {
			r->broken = ret;
			return;
		}
		(void)usleep(1000);
	}
	r->broken = -EAGAIN;
}

struct io_uring_sqe *ring_sqe(struct ring *r)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring);

	if (sqe)
		return sqe;
	if (!r->broken)
		ring_make_room(r);
	sqe = io_uring_get_sqe(&r->uring);
	return sqe ? sqe : &r->spare;
}

union sqe_args *ring_sqe_args(struct ring *r, const struct io_uring_sqe *sqe)
{
	return &r->args[sqe == &r->spare ? 0 : sqe - r->uring.sq.sqes];
}

void ring_cancel(struct ring *r, uint64_t target, uint64_t tag)
{
	struct io_uring_sqe *sqe = ring_sqe(r);

	io_uring_prep_cancel64(sqe, target, 0);
	io_uring_sqe_set_data64(sqe, tag);
}

static void ring_arm_wake(struct ring *r)
{
	struct io_uring_sqe *sqe = ring_sqe(r);

	io_uring_prep_read(sqe, r->wake_fd, &r->wake_count, sizeof(r->wake_count), 0);
	io_uring_sqe_set_data64(sqe, TAG_WAKE);
	r->is_wake_armed = true;
}

/* ---- Completion ---- */

static void ring_dispatch(struct ring *r, uint64_t tag, int res, uint32_t flags)
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
	case OP_ACCEPT:
		listener_on_accept(owner, res, flags);
		break;
	case OP_LISTENER_CANCEL:
		listener_on_cancel(owner);
		break;
	case OP_POST:
		mail_wake(owner);
		break;
	case OP_WATCH:
		watch_on_poll(owner, res);
		break;
	case OP_WATCH_CANCEL:
		watch_on_cancel(owner);
		break;
	case OP_RING:
		/* TAG_MAIL needs nothing: mail is looked for in each batch. */
		if (tag == TAG_WAKE)
			ring_arm_wake(r);
		break;
	}
}

/* The stream whose bytes a completion is about; NULL for all else. */
static struct stream *cqe_stream(const struct io_uring_cqe *cqe)
{
	enum op op = (enum op)(cqe->user_data & OP_MASK);

	return op == OP_RECV || op == OP_SEND ? (struct stream *)(uintptr_t)(cqe->user_data & ~OP_MASK) : NULL;
}

/* As it is at the first of its completions in this scan, so that they stay in order. */
static bool is_light_now(struct ring *r, struct stream *s)
{
	if (s->scan != r->scan) {
		s->scan = r->scan;
		s->scan_is_light = stream_is_light(s);
	}
	return s->scan_is_light;
}

static void ring_take(struct ring *r, const struct io_uring_cqe *cqe)
{
	uint64_t tag = cqe->user_data;
	uint32_t flags = cqe->flags;
	int res = cqe->res;

	ring_count(&r->stats.completions, 1);
	ring_dispatch(r, tag, res, flags);
}

/* The light streams' completions, wherever they stand; what is left of them does nothing. */
static void ring_reap_light(struct ring *r, unsigned head, unsigned tail)
{
	struct io_uring_cq *cq = &r->uring.cq;

	r->scan++;
	for (; head != tail; head++) {
		struct io_uring_cqe *cqe = &cq->cqes[head & cq->ring_mask];
		struct stream *s = cqe_stream(cqe);

		if (!s || !is_light_now(r, s))
			continue;
		ring_take(r, cqe);
		cqe->user_data = TAG_NONE;
	}
}

/*
 * Light streams first, then the others in their order, up to a quantum of bytes. True when nothing of what was there is left;
 * completions that come meanwhile belong to the next batch.
 */
static bool ring_reap(struct ring *r)
{
	struct io_uring_cq *cq = &r->uring.cq;
	unsigned head = *cq->khead;
	unsigned tail = io_uring_smp_load_acquire(cq->ktail);
	size_t bytes = 0;

	r->batch_recvs = r->batch_recv_bytes = 0;
	if (tail - head > 1)
		ring_reap_light(r, head, tail);
	for (; head != tail && bytes < RING_QUANTUM_BYTES; head++) {
		struct io_uring_cqe cqe = cq->cqes[head & cq->ring_mask];

		/* Its place is free before the callback, which may have to submit. */
		io_uring_smp_store_release(cq->khead, head + 1);
		if (cqe.user_data == TAG_NONE)
			continue;
		if ((cqe.user_data & OP_MASK) == OP_RECV && cqe.res > 0)
			bytes += (size_t)cqe.res;
		ring_take(r, &cqe);
	}
	buffers_publish(&r->buffers);
	buffers_publish(&r->light_buffers);
	return head == tail;
}

/* ---- Deferred work ---- */

void deferred_init(struct deferred *d, void (*on_run)(struct deferred *d))
{
	list_init(&d->node);
	d->on_run = on_run;
}

void deferred_ask(struct ring *r, struct deferred *d)
{
	ring_check_thread(r);
	if (list_is_empty(&d->node))
		list_add_tail(&r->deferred, &d->node);
}

void deferred_cancel(struct deferred *d)
{
	list_del(&d->node);
}

/* Moves all nodes to the empty list `to`. */
static void list_take(struct list *to, struct list *from)
{
	if (list_is_empty(from))
		return;
	list_add_tail(from, to);
	list_del(from);
}

static void ring_run_deferred(struct ring *r)
{
	for (int i = 0; i < RING_DEFERRED_ROUNDS && !list_is_empty(&r->deferred); i++) {
		struct list round;

		list_init(&round);
		list_take(&round, &r->deferred);
		while (!list_is_empty(&round)) {
			struct deferred *d = CONTAINER_OF(round.next, struct deferred, node);

			list_del(&d->node);
			d->on_run(d);
		}
	}
}

/* ---- The loop ---- */

static int ring_begin(struct ring *r)
{
	r->thread = pthread_self();
	if (!r->is_enabled) {
		int err = io_uring_enable_rings(&r->uring);

		if (err < 0)
			return err;
		r->is_enabled = true;
	}
	/* Saves the look-up of the descriptor at each enter; it works without, too. */
	(void)io_uring_register_ring_fd(&r->uring);
	r->is_running = true;
	if (!r->is_wake_armed)
		ring_arm_wake(r);
	return 0;
}

static void ring_end(struct ring *r)
{
	r->is_running = false;
	/* The registration is the thread's. */
	(void)io_uring_unregister_ring_fd(&r->uring);
}

/* True when there is work that no new completion announces. */
static bool ring_is_busy(struct ring *r)
{
	return io_uring_cq_ready(&r->uring) > 0 || !list_is_empty(&r->deferred) || !list_is_empty(&r->starved) ||
	       atomic_load(&r->mail) || atomic_load(&r->is_stopping);
}

/*
 * May the next completions wait for one another? Each wake-up for a packet costs as much as the packet. Only behind a batch of bulk, so
 * that a keystroke never pays unless it shares its worker with a copy, and no longer than RING_GATHER_US: then the kernel wakes us
 * for what is there, or for the first that comes.
 */
static bool ring_gathers(struct ring *r)
{
	if (r->has_gathered) {
		r->has_gathered = false;
		if (r->batch_recvs > 1) {
			r->gather_skip_next = RING_GATHER_SKIP;
		} else {
			r->gather_skip = r->gather_skip_next;
			if (r->gather_skip_next < RING_GATHER_SKIP_MAX)
				r->gather_skip_next *= 2;
		}
	}
	/* Linux 6.12; older ones would wait for all. */
	if (r->batch_recv_bytes < RING_GATHER_BYTES || !(r->uring.features & IORING_FEAT_MIN_TIMEOUT))
		return false;
	if (r->gather_skip == 0)
		return true;
	r->gather_skip--;
	return false;
}

/* Submits, and sleeps until a completion comes or the next timer is due. */
static int ring_sleep(struct ring *r)
{
	struct __kernel_timespec ts, *timeout = NULL;
	uint64_t next_ms;
	int ret;

	if (ring_is_busy(r)) {
		ret = ring_enter(r, 0, NULL, 0);
		return ret < 0 && !ring_error_passes(ret) ? ret : 0;
	}
	next_ms = wheel_next(&r->wheel);
	if (next_ms != WHEEL_NONE) {
		uint64_t at_us = next_ms * 1000, wait_us;

		/* The batch took its time since the clock was read. */
		ring_read_clock(r);
		wait_us = at_us > r->now_us ? at_us - r->now_us : 0;
		ts = (struct __kernel_timespec){.tv_sec = (int64_t)(wait_us / 1000000),
						.tv_nsec = (int64_t)(wait_us % 1000000) * 1000};
		timeout = &ts;
	}
	if (ring_gathers(r)) {
		ring_count(&r->stats.gathers, 1);
		r->has_gathered = true;
		ret = ring_enter(r, RING_GATHER_COUNT, timeout, RING_GATHER_US);
	} else {
		ret = ring_enter(r, 1, timeout, 0);
	}
	return ret < 0 && !ring_error_passes(ret) ? ret : 0;
}

static void ring_batch(struct ring *r)
{
	bool is_all;

	ring_read_clock(r);
	is_all = ring_reap(r);
	wheel_advance(&r->wheel, r->now_us / 1000);
	mail_deliver(r);
	ring_run_deferred(r);
	stream_feed(r, is_all);
}

int ring_run(struct ring *r)
{
	int err;

	ASSERT(!r->is_running);
	err = ring_begin(r);
	while (!err) {
		ring_batch(r);
		err = r->broken;
		if (err)
			break;
		if (atomic_exchange(&r->is_stopping, false)) {
			/* What was asked for in the last batch, wake-ups of other rings among it, still goes out. */
			int ret = ring_enter(r, 0, NULL, 0);

			err = ret < 0 && !ring_error_passes(ret) ? ret : 0;
			break;
		}
		err = ring_sleep(r);
	}
	if (err)
		r->broken = err;
	if (r->is_running)
		ring_end(r);
	return err;
}

void ring_stop(struct ring *r)
{
	atomic_store(&r->is_stopping, true);
	mail_wake(r);
}
