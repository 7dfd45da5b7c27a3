/*
 * ring/stream.c - connected sockets: multishot recv, one send in flight, closing that waits for every completion.
 *
 * Calls from outside and completions only note what is wanted or has happened and ask for stream_on_run; that, once a stream and
 * batch, is the one place that submits. So pausing and resuming within a batch costs nothing, many appends make one send, nothing
 * is submitted before the ring runs, and on_closed never comes from inside stream_close.
 *
 *                             ┌──► FAILED ──────────┐
 *   NONE ──► CONNECTING ──► OPEN ──► DETACHING ──► CLOSING ──► NONE
 *     └────────────────────────┘         └──► NONE (on_detached)
 */
#include "ring/internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

enum stream_state {
	STREAM_NONE,
	STREAM_CONNECTING,
	STREAM_FAILED, /* did not connect; only stream_close is left */
	STREAM_OPEN,
	STREAM_DETACHING,
	STREAM_CLOSING,
};

#define BIT(n) (1u << (n))

static const uint8_t stream_allowed[] = {
	[STREAM_NONE] = BIT(STREAM_CONNECTING) | BIT(STREAM_OPEN),
	[STREAM_CONNECTING] = BIT(STREAM_OPEN) | BIT(STREAM_FAILED) | BIT(STREAM_CLOSING),
	[STREAM_FAILED] = BIT(STREAM_CLOSING),
	[STREAM_OPEN] = BIT(STREAM_DETACHING) | BIT(STREAM_CLOSING),
	[STREAM_DETACHING] = BIT(STREAM_NONE) | BIT(STREAM_CLOSING),
	[STREAM_CLOSING] = BIT(STREAM_NONE),
};

/* The only writer of s->state but for stream_init. */
static void stream_move(struct stream *s, enum stream_state to)
{
	ASSERT((stream_allowed[s->state] & BIT(to)) != 0);
	s->state = to;
}

static bool stream_is_live(const struct stream *s)
{
	return s->state == STREAM_OPEN || s->state == STREAM_DETACHING;
}

static void stream_ask(struct stream *s)
{
	deferred_ask(s->ring, &s->work);
}

/* ---- How much it moves ---- */

static void stream_decay(struct stream *s)
{
	uint64_t periods = (ring_now_us(s->ring) - s->recent_us) / RING_LIGHT_HALVING_US;

	if (periods == 0)
		return;
	s->recent_bytes = periods < 32 ? s->recent_bytes >> periods : 0;
	s->recent_us += periods * RING_LIGHT_HALVING_US;
}

static void stream_count(struct stream *s, uint32_t n)
{
	stream_decay(s);
	s->recent_bytes += n < UINT32_MAX - s->recent_bytes ? n : UINT32_MAX - s->recent_bytes;
}

bool stream_is_light(struct stream *s)
{
	stream_decay(s);
	return s->recent_bytes < RING_LIGHT_BYTES;
}

/* ---- Receiving ---- */

static struct recv_buffers *stream_buffers(struct stream *s)
{
	return s->recv_is_light ? &s->ring->light_buffers : &s->ring->buffers;
}

static void stream_arm_recv(struct stream *s)
{
	struct io_uring_sqe *sqe = ring_sqe(s->ring);

	s->recv_is_light = s->ring->light_buffers.count > 0 && stream_is_light(s);

	io_uring_prep_recv_multishot(sqe, s->fd, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = stream_buffers(s)->group;
	io_uring_sqe_set_data64(sqe, op_tag(s, OP_RECV));
	s->recv_armed = true;
	s->recv_cancelled = false;
	s->pending_count++;
}

static void stream_cancel_recv(struct stream *s)
{
	if (!s->recv_armed || s->recv_cancelled)
		return;
	s->recv_cancelled = true;
	s->pending_count++;
	ring_cancel(s->ring, op_tag(s, OP_RECV), op_tag(s, OP_STREAM_CANCEL));
}

static void stream_sync_recv(struct stream *s)
{
	bool is_wanted = s->state == STREAM_OPEN && s->recv_wanted && !s->recv_ended;

	/* One that has become heavy goes over to the large buffers. */
	if (!is_wanted || (s->recv_armed && s->recv_is_light && !stream_is_light(s))) {
		list_del(&s->starved);
		stream_cancel_recv(s);
	} else if (!s->recv_armed && list_is_empty(&s->starved)) {
		stream_arm_recv(s);
	}
}

static void stream_end_recv(struct stream *s, int err)
{
	s->recv_ended = true;
	if (!s->err)
		s->err = err;
	s->events->on_recv_end(s, err);
}

static void stream_starve(struct stream *s)
{
	if (stream_is_light(s))
		list_add_tail(s->ring->starved.next, &s->starved); /* before the first */
	else
		list_add_tail(&s->ring->starved, &s->starved);
}

static void stream_take_recv_error(struct stream *s, int res)
{
	switch (res) {
	case -ENOBUFS:
		ring_count(&s->ring->stats.recv_no_buffer, 1);
		if (s->state == STREAM_OPEN)
			stream_starve(s);
		break;
	case -ECANCELED: /* paused; armed again if that has changed */
	case -EINTR:
	case -EAGAIN:
		break;
	default:
		stream_end_recv(s, res);
	}
}

void stream_on_recv(struct stream *s, int res, uint32_t flags)
{
	struct ring *r = s->ring;

	if (!(flags & IORING_CQE_F_MORE)) {
		s->recv_armed = false;
		s->pending_count--;
		stream_ask(s);
	}
	if (flags & IORING_CQE_F_BUFFER) {
		struct recv_buffers *b = stream_buffers(s);
		uint32_t id = flags >> IORING_CQE_BUFFER_SHIFT;

		if (res > 0 && stream_is_live(s) && !s->recv_ended) {
			ring_count(&r->stats.recvs, 1);
			ring_count(&r->stats.recv_bytes, (uint64_t)res);
			stream_count(s, (uint32_t)res);
			if (s->gathers) {
				r->batch_recvs++;
				r->batch_recv_bytes += (uint32_t)res;
			}
			if (s->recv_is_light && s->recent_bytes >= RING_LIGHT_BYTES)
				stream_ask(s);
			/* Works on s->ring until it returns; afterwards s may be closing, but it is there. */
			s->events->on_recv(s, buffers_at(b, id), (size_t)res);
		}
		buffers_return(b, id);
	}
	if (res > 0 || !stream_is_live(s) || s->recv_ended)
		return;
	if (res == 0)
		stream_end_recv(s, 0);
	else
		stream_take_recv_error(s, res);
}

/*
 * No more streams than buffers are let on, the longest waiting first; the ring does not sleep while some are left.
 */
void stream_feed(struct ring *r, bool is_all)
{
	for (uint32_t i = 0; i < r->buffers.count && !list_is_empty(&r->starved); i++) {
		struct stream *s = CONTAINER_OF(r->starved.next, struct stream, starved);

		if (!is_all && !stream_is_light(s))
			return;
		list_del(&s->starved);
		stream_arm_recv(s);
	}
}

/* ---- Sending ---- */

static void stream_arm_send(struct stream *s)
{
	struct io_uring_sqe *sqe = ring_sqe(s->ring);
	union sqe_args *args = ring_sqe_args(s->ring, sqe);
	int count = chain_iov(&s->out, args->iov, RING_SEND_IOV);

	/*
	 * No MSG_WAITALL: a short send completes at once, and its bytes count as gone (credits, memory) while the rest waits. One
	 * buffer needs no message header, which saves the kernel copying it.
	 */
	if (count == 1) {
		io_uring_prep_send(sqe, s->fd, args->iov[0].iov_base, args->iov[0].iov_len, MSG_NOSIGNAL);
	} else {
		args->msg = (struct msghdr){.msg_iov = args->iov, .msg_iovlen = (size_t)count};
		io_uring_prep_sendmsg(sqe, s->fd, &args->msg, MSG_NOSIGNAL);
	}
	/* The last one filled the socket: no use to try before it says that there is room. */
	if (s->send_was_short)
		sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
	io_uring_sqe_set_data64(sqe, op_tag(s, OP_SEND));
	s->send_armed = true;
	s->send_bytes = 0;
	for (int i = 0; i < count; i++)
		s->send_bytes += (uint32_t)args->iov[i].iov_len;
	s->pending_count++;
}

static void stream_sync_send(struct stream *s)
{
	if (s->send_armed)
		return;
	if (s->send_failed) {
		chain_clear(&s->out);
	} else if (s->out.bytes > 0) {
		stream_arm_send(s);
	} else if (s->shutdown_wanted && !s->shutdown_done) {
		/* Only queues a FIN, so it need not go through the ring. An error means that the peer is gone, which recv tells. */
		s->shutdown_done = true;
		(void)shutdown(s->fd, SHUT_WR);
	}
}

static void stream_fail_send(struct stream *s, int err)
{
	s->send_failed = true;
	chain_clear(&s->out);
	if (!s->err)
		s->err = err;
	s->events->on_send_error(s, err);
}

void stream_on_send(struct stream *s, int res)
{
	struct ring *r = s->ring;

	s->send_armed = false;
	s->pending_count--;
	stream_ask(s);
	if (!stream_is_live(s))
		return;
	if (res > 0) {
		ring_count(&r->stats.sends, 1);
		ring_count(&r->stats.send_bytes, (uint64_t)res);
		stream_count(s, (uint32_t)res);
		s->send_was_short = (uint32_t)res < s->send_bytes;
		chain_consume(&s->out, (size_t)res);
		s->events->on_sent(s, (size_t)res);
	} else if (res != -EINTR && res != -EAGAIN) {
		/* Nothing taken of something cannot be; if it were, sending again would be a busy loop. */
		stream_fail_send(s, res < 0 ? res : -EPIPE);
	}
}

/* ---- Connecting ---- */

static void stream_fail_connect(struct stream *s, int err)
{
	stream_move(s, STREAM_FAILED);
	timer_stop(s->ring, &s->deadline);
	s->err = err;
	s->events->on_connected(s, err);
}

static void stream_cancel_connect(struct stream *s)
{
	if (!s->connect_armed || s->connect_cancelled)
		return;
	s->connect_cancelled = true;
	s->pending_count++;
	ring_cancel(s->ring, op_tag(s, OP_CONNECT), op_tag(s, OP_STREAM_CANCEL));
}

static void stream_sync_connect(struct stream *s)
{
	struct io_uring_sqe *sqe;
	union sqe_args *args;

	if (s->connect_armed) {
		if (s->err)
			stream_cancel_connect(s);
		return;
	}
	if (s->err) {
		stream_fail_connect(s, s->err);
		return;
	}
	sqe = ring_sqe(s->ring);
	args = ring_sqe_args(s->ring, sqe);
	memcpy(&args->addr, s->addr, s->addr_bytes);
	io_uring_prep_connect(sqe, s->fd, (struct sockaddr *)&args->addr, s->addr_bytes);
	io_uring_sqe_set_data64(sqe, op_tag(s, OP_CONNECT));
	s->connect_armed = true;
	s->pending_count++;
	free(s->addr);
	s->addr = NULL;
}

static void stream_on_deadline(struct timer *t)
{
	struct stream *s = CONTAINER_OF(t, struct stream, deadline);

	s->err = -ETIMEDOUT;
	stream_ask(s);
}

void stream_on_connect(struct stream *s, int res)
{
	s->connect_armed = false;
	s->pending_count--;
	stream_ask(s);
	if (s->state != STREAM_CONNECTING)
		return;
	if (res < 0) {
		/* When the deadline cancelled it, that is the reason. */
		stream_fail_connect(s, s->err ? s->err : res);
		return;
	}
	stream_move(s, STREAM_OPEN);
	timer_stop(s->ring, &s->deadline);
	s->err = 0;
	s->events->on_connected(s, 0);
}

/* ---- Ending ---- */

static void stream_finish_close(struct stream *s)
{
	chain_clear(&s->out);
	/* A plain close: no operation holds the socket any more and SO_LINGER is off, so it does not wait. */
	if (s->fd >= 0)
		(void)close(s->fd);
	s->fd = -1;
	stream_move(s, STREAM_NONE);
	s->events->on_closed(s);
}

static void stream_sync_close(struct stream *s)
{
	stream_cancel_recv(s);
	stream_cancel_connect(s);
	if (s->send_armed && !s->send_cancelled) {
		s->send_cancelled = true;
		s->pending_count++;
		ring_cancel(s->ring, op_tag(s, OP_SEND), op_tag(s, OP_STREAM_CANCEL));
	}
	if (s->pending_count == 0)
		stream_finish_close(s);
}

static void stream_sync_detach(struct stream *s)
{
	int fd = s->fd;

	stream_sync_recv(s);
	stream_sync_send(s);
	if (s->pending_count > 0 || s->out.bytes > 0)
		return;
	s->fd = -1;
	stream_move(s, STREAM_NONE);
	s->events->on_detached(s, fd, s->err);
}

void stream_on_cancel(struct stream *s)
{
	/* Whether it found its target says nothing: the target's own completion counts. */
	s->pending_count--;
	stream_ask(s);
}

static void stream_on_run(struct deferred *d)
{
	struct stream *s = CONTAINER_OF(d, struct stream, work);

	switch ((enum stream_state)s->state) {
	case STREAM_CONNECTING:
		stream_sync_connect(s);
		break;
	case STREAM_OPEN:
		stream_sync_recv(s);
		stream_sync_send(s);
		break;
	case STREAM_DETACHING:
		stream_sync_detach(s);
		break;
	case STREAM_CLOSING:
		stream_sync_close(s);
		break;
	case STREAM_NONE:
	case STREAM_FAILED:
		break;
	}
}

/* ---- What users call ---- */

static void stream_init(struct stream *s, struct ring *r, int fd, const struct stream_events *events)
{
	*s = (struct stream){.ring = r, .events = events, .fd = fd, .state = STREAM_NONE};
	chain_init(&s->out, &r->pool);
	list_init(&s->starved);
	deferred_init(&s->work, stream_on_run);
	timer_init(&s->deadline, stream_on_deadline);
}

void stream_open(struct stream *s, struct ring *r, int fd, const struct stream_events *events)
{
	ring_check_thread(r);
	stream_init(s, r, fd, events);
	stream_move(s, STREAM_OPEN);
}

static int stream_prepare_connect(struct stream *s, const struct sockaddr *addr, socklen_t addr_bytes)
{
	if (addr_bytes > sizeof(struct sockaddr_storage))
		return -EINVAL;
	s->addr = malloc(addr_bytes);
	if (!s->addr)
		return -ENOMEM;
	memcpy(s->addr, addr, addr_bytes);
	s->addr_bytes = addr_bytes;
	s->fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return s->fd < 0 ? -errno : 0;
}

void stream_connect(struct stream *s, struct ring *r, const struct sockaddr *addr, socklen_t addr_bytes,
		    uint32_t timeout_ms, const struct stream_events *events)
{
	int err;

	ring_check_thread(r);
	stream_init(s, r, -1, events);
	stream_move(s, STREAM_CONNECTING);
	err = stream_prepare_connect(s, addr, addr_bytes);
	if (err) {
		free(s->addr);
		s->addr = NULL;
		s->err = err;
	} else {
		timer_start(r, &s->deadline, timeout_ms);
	}
	stream_ask(s);
}

void stream_recv(struct stream *s, bool is_wanted)
{
	if (s->recv_wanted == is_wanted)
		return;
	s->recv_wanted = is_wanted;
	if (s->state == STREAM_OPEN)
		stream_ask(s);
}

void stream_send(struct stream *s)
{
	if (stream_is_live(s) && !s->send_armed)
		stream_ask(s);
}

void stream_shutdown(struct stream *s)
{
	s->shutdown_wanted = true;
	if (stream_is_live(s))
		stream_ask(s);
}

void stream_close(struct stream *s)
{
	if (s->state == STREAM_NONE || s->state == STREAM_CLOSING)
		return;
	stream_move(s, STREAM_CLOSING);
	timer_stop(s->ring, &s->deadline);
	list_del(&s->starved);
	free(s->addr);
	s->addr = NULL;
	/* What the kernel may be reading goes when the send has completed. */
	if (!s->send_armed)
		chain_clear(&s->out);
	stream_ask(s);
}

void stream_detach(struct stream *s)
{
	if (s->state == STREAM_CLOSING || s->state == STREAM_DETACHING)
		return;
	stream_move(s, STREAM_DETACHING);
	stream_ask(s);
}
