/*
 * ring/ring.h - one io_uring loop: listeners, streams, watches, timers, mail from other threads.
 *
 * Owner:  each thread that does socket I/O makes one ring and is the only one to touch it, but for ring_post and ring_stop.
 * Life:   objects (stream, timer, listener, watch) are embedded in their users. The kernel may touch a stream until on_closed or
 *         on_detached was called for it; its memory stays valid until then.
 * Thread: the ring's own, but for ring_post and ring_stop. Callbacks run on it, one at a time; a callback may start and
 *         close anything, its own object too.
 *
 * This header is the whole seam between the gateway and the kernel: tests/sim puts a fake ring and a virtual clock under
 * the same functions.
 */
#ifndef RING_RING_H
#define RING_RING_H

#include "core/chain.h"
#include "core/check.h"
#include "core/list.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct ring;

/* Of objects that submit operations: their addresses carry the kind of operation in the low bits. malloc's is as good. */
#define RING_OWNER_ALIGN 16

struct ring_options {
	uint32_t sq_entries;        /* 0: RING_SQ_ENTRIES */
	uint32_t recv_buffer_count; /* power of two; 0: RING_RECV_BUFFERS */
	uint32_t recv_buffer_bytes; /* 0: RING_RECV_BUFFER_BYTES */
	bool has_no_light_buffers;  /* one pool serves all streams */
};

/* Counters since the ring began. */
struct ring_stats {
	uint64_t enters;  /* io_uring_enter calls */
	uint64_t gathers; /* those that waited for more than one completion, for a moment */
	uint64_t completions;
	uint64_t recvs, recv_bytes;
	uint64_t sends, send_bytes;
	uint64_t recv_no_buffer; /* -ENOBUFS: the pool was empty */
	uint64_t accepts;
	uint64_t mails;
};

/*
 * Makes a ring. Any thread may make it and start objects on it; the thread that calls ring_run owns it from then on, and
 * nothing happens before. 0, or negative errno: -ENOSYS (no io_uring in this kernel), -EPERM (forbidden: a
 * container's seccomp profile or kernel.io_uring_disabled), -EOPNOTSUPP (kernel older than 6.1), -ENOMEM.
 * ring_explain turns these into a sentence that says what to do.
 */
MUST_USE int ring_new(const struct ring_options *o, struct ring **ret_ring);
/* After ring_run returned, its streams and listeners ended, and no other ring may still post to it. NULL is fine. */
void ring_free(struct ring *r);
const char *ring_explain(int err);

/* Runs until ring_stop; 0 or negative errno of a ring that is broken for good. It may be called again by the same thread. */
MUST_USE int ring_run(struct ring *r);

/* Any thread, also a signal handler. ring_run returns after the batch at hand; if it does not run, its next call does so. */
void ring_stop(struct ring *r);

/* Monotonic microseconds, read once a batch. Before ring_run: at ring_new or the last timer_start. */
uint64_t ring_now_us(const struct ring *r);

/* On the ring's own thread. */
const struct ring_stats *ring_stats(const struct ring *r);
/* On any other, while the ring is there: each figure is whole, but they are not of one moment. The ring does nothing for it. */
void ring_stats_read(const struct ring *r, struct ring_stats *ret);
struct chunk_pool *ring_pool(struct ring *r);

/*
 * Timers: one-shot, 1 ms resolution, a timing wheel; starting and stopping cost O(1) and cannot fail.
 */
struct timer {
	struct list node;
	uint64_t at_ms;
	void (*on_fire)(struct timer *t);
	uint16_t slot; /* private: where in the wheel it stands; 0 is nowhere */
};

void timer_init(struct timer *t, void (*on_fire)(struct timer *t));
/*
 * Fires once, delay_ms from ring_now_us, never before; an already started timer is moved. Zero fires in the next
 * millisecond, not in the same batch. A timer is stopped on the ring on which it was started.
 */
void timer_start(struct ring *r, struct timer *t, uint64_t delay_ms);
/*
 * The same, but up to a tick later: at RING_TICK_MS, or at a part of wait_ms where that is less. So what many idle objects have to do now
 * and then is one wake-up of the thread and one batch, instead of one each. wait_ms: how long such an object waits as a rule.
 */
void timer_start_lazily(struct ring *r, struct timer *t, uint64_t delay_ms, uint64_t wait_ms);
/* Harmless when it is not started. */
void timer_stop(struct ring *r, struct timer *t);
bool timer_is_started(const struct timer *t);

/*
 * Work at the end of the batch: each deferred object runs once after all completions of the batch were handled and before
 * the submission, however often it was asked for. For flushing what several completions have queued. One that is asked for
 * while deferred objects run still runs in the same batch (up to RING_DEFERRED_ROUNDS times round).
 */
struct deferred {
	struct list node;
	void (*on_run)(struct deferred *d);
};

void deferred_init(struct deferred *d, void (*on_run)(struct deferred *d));
void deferred_ask(struct ring *r, struct deferred *d);
void deferred_cancel(struct deferred *d);

/*
 * Mail: one pointer to another thread's ring. Intrusive, so posting never fails; the receiver owns the mail's holder from
 * then on. on_mail runs on the receiver's thread. `from` is the poster's ring (MSG_RING, sent at the end of its batch) or NULL
 * (a thread without one: an eventfd wakes the receiver). Several mails cost one wake-up; the mails of one poster arrive in
 * order. What is posted before ring_run waits for it.
 */
struct mail {
	struct mail *next;
	void (*on_mail)(struct ring *r, struct mail *m);
};

void ring_post(struct ring *to, struct ring *from, struct mail *m);

/*
 * Listeners: multishot accept on a listening socket. Accepted sockets are close-on-exec.
 * After listener_stop no callback comes but on_stopped, from the loop.
 * When descriptors run out (EMFILE, ENFILE) the listener waits RING_ACCEPT_PAUSE_MS and goes on by itself.
 */
struct listener {
	_Alignas(RING_OWNER_ALIGN) struct ring *ring;
	int fd;      /* owned by the caller; the listener never closes it */
	void *owner; /* the user's own */
	void (*on_accept)(struct listener *l, int fd);
	void (*on_stopped)(struct listener *l);
	/* Private to ring/. */
	uint8_t state;
	bool is_armed, is_cancelled;
	uint8_t pending_count;
	struct timer retry;
	struct deferred work;
};

/* owner, on_accept and on_stopped (or NULL) are set by the caller before. */
void listener_start(struct listener *l, struct ring *r, int fd);
void listener_stop(struct listener *l);

/*
 * Watches: say when a descriptor that somebody else reads and writes (a library with its own sockets) is ready. As with poll(2):
 * while it is ready for what is wanted on_ready comes once a batch, and POLLERR, POLLHUP come unasked. One of POLLNVAL says that
 * nothing more will come before watch_change: the descriptor cannot be watched.
 * After watch_stop no callback comes but on_stopped, from the loop. The descriptor is closed after that: until then the kernel keeps
 * its file open, and no FIN goes out.
 */
struct watch {
	_Alignas(RING_OWNER_ALIGN) struct ring *ring;
	int fd;      /* owned by the caller; the watch never closes it */
	void *owner; /* the user's own */
	void (*on_ready)(struct watch *w, uint32_t events);
	void (*on_stopped)(struct watch *w);
	/* Private to ring/. */
	uint8_t state;
	bool is_armed, is_cancelled, is_broken;
	uint8_t pending_count;
	uint32_t wanted, armed; /* events */
	struct deferred work;
};

/* owner, on_ready and on_stopped (or NULL) are set by the caller before. events of poll(2): POLLIN, POLLOUT, or 0 for the time being. */
void watch_start(struct watch *w, struct ring *r, int fd, uint32_t events);
void watch_change(struct watch *w, uint32_t events);
/* Harmless when it is stopping or stopped. */
void watch_stop(struct watch *w);

/*
 * Streams: a connected socket. Receiving is a multishot recv into the ring's shared buffers; sending is at most one
 * sendmsg in flight over what stands in `out`.
 *
 * Streams that have moved little of late are light: their completions go before those of the others, and they have receive
 * buffers of their own. So a keystroke waits for RING_QUANTUM_BYTES of other people's bytes, not for all that is there.
 *
 *            stream_open ──► OPEN ──► stream_close ──► CLOSING ── all completions seen ──► on_closed (fd closed)
 *   stream_connect ─► CONNECTING ┘         └─ stream_detach ──► DETACHING ── recv cancelled, out empty ──► on_detached
 */
struct stream;

struct stream_events {
	/* The bytes are valid during this call only. */
	void (*on_recv)(struct stream *s, const uint8_t *p, size_t n);
	/* Nothing more comes: err 0 is the peer's EOF, else negative errno. Once. Sending goes on until stream_close. */
	void (*on_recv_end)(struct stream *s, int err);
	/* n bytes of `out` were taken by the kernel; out.bytes is what is left. */
	void (*on_sent)(struct stream *s, size_t n);
	/* Sending failed: out was cleared, nothing is sent any more. Once. */
	void (*on_send_error)(struct stream *s, int err);
	/* stream_connect is done: 0 or negative errno (then call stream_close). */
	void (*on_connected)(struct stream *s, int err);
	void (*on_closed)(struct stream *s);
	/*
	 * After stream_detach: fd is the caller's again, with nothing in flight. err is 0, or why receiving or sending had failed
	 * (EOF is no failure). Until then on_recv, on_recv_end and the like come as before.
	 */
	void (*on_detached)(struct stream *s, int fd, int err);
};

struct stream {
	_Alignas(RING_OWNER_ALIGN) struct ring *ring;
	const struct stream_events *events;
	struct chain out; /* append here, then stream_send */
	int fd;
	bool gathers; /* set after it was opened: its bulk comes in many small writes, some of which may wait for one another */
	/* Private to ring/. */
	uint8_t state;
	bool recv_wanted, recv_armed, recv_ended, recv_cancelled;
	bool send_armed, send_failed, send_cancelled, send_was_short;
	bool shutdown_wanted, shutdown_done;
	bool connect_armed, connect_cancelled;
	uint8_t pending_count; /* operations of which a completion is still to come */
	uint32_t send_bytes;   /* of the send in flight */
	uint32_t recent_bytes; /* moved lately, halved every RING_LIGHT_HALVING_US */
	uint64_t recent_us;    /* when that was last halved */
	uint32_t scan;         /* the last look at the completion queue that met it... */
	bool scan_is_light;    /* ...and how it was classed then */
	bool recv_is_light;    /* the recv that is armed takes small buffers */
	int err;               /* the first failure */
	struct list starved;   /* in the ring's list of streams that wait for a recv buffer */
	struct deferred work;  /* brings what is in flight in line with what is wanted */
	struct timer deadline; /* of stream_connect */
	struct sockaddr *addr; /* of stream_connect, until it is submitted */
	socklen_t addr_bytes;
};

/* Takes a connected socket, blocking or not: to io_uring it is the same. Nothing is received before stream_recv. */
void stream_open(struct stream *s, struct ring *r, int fd, const struct stream_events *events);

/*
 * Makes a socket and connects; on_connected comes later, always (unless the stream is closed before), within timeout_ms
 * (-ETIMEDOUT). stream_recv, stream_send may be called at once and take effect when connected.
 */
void stream_connect(struct stream *s, struct ring *r, const struct sockaddr *addr, socklen_t addr_bytes,
		    uint32_t timeout_ms, const struct stream_events *events);

/* Starts or pauses receiving. A paused stream may still get what was already received: one more on_recv or several. */
void stream_recv(struct stream *s, bool is_wanted);

/*
 * Says that `out` has grown. One send goes out at the end of the batch, or when the one in flight is done. Bytes in `out` may be
 * in the kernel's hands: append, never consume or clear.
 */
void stream_send(struct stream *s);

/* FIN once `out` is empty. */
void stream_shutdown(struct stream *s);

/*
 * Drops what is unsent, cancels, waits for every completion, closes the descriptor, then on_closed, from the loop. No other
 * callback comes. Harmless when it is closing or closed.
 */
void stream_close(struct stream *s);

/*
 * For the hand-over to another ring: sends what is queued, cancels recv, and gives the descriptor back by on_detached. How long
 * that takes is the peer's choice: stream_close ends it. Only of a connected stream.
 */
void stream_detach(struct stream *s);

#endif
