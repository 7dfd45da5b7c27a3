/*
 * procd/session.c - see session.h.
 *
 * One round of the loop: events mark what is ready; what the gateway sent is read and passed on, SFTP requests are served; then batches
 * are filled from the channels in turn and sent, until the kernel takes no more or nothing is left. What died in the round is freed
 * at its end. A function that returns false has lost the loop to another thread in a file: nothing here is its to touch any more.
 */
#include "procd/session.h"

#include "procd/channel.h"
#include "procd/forward.h"
#include "procd/listen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 64

void session_fail(struct session *s, const char *code, const char *reason)
{
	if (s->state == SESSION_ENDED)
		return;
	s->state = SESSION_ENDED;
	s->error_code = code;
	s->end_reason = reason;
}

void session_urgent(struct session *s, struct frame *f)
{
	int rc = outq_urgent(&s->out, f);

	if (rc < 0)
		session_fail(s, "too-large", "the gateway sends without reading");
}

int session_watch(struct session *s, int fd, struct watch *w)
{
	return loop_watch(s->epoll_fd, fd, w);
}

void session_unwatch(struct session *s, int *fd)
{
	if (*fd < 0)
		return;
	(void)epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, *fd, NULL);
	close(*fd);
	*fd = -1;
}

/* --- frames --- */

static int on_ping(struct session *s, const struct frame *f)
{
	struct frame pong = {.type = FRAME_PONG, .opaque = f->opaque};

	session_urgent(s, &pong);
	return 0;
}

static int on_connection_frame(struct session *s, const struct frame *f)
{
	switch (f->type) {
	case FRAME_PING:
		return on_ping(s, f);
	case FRAME_PONG:
	case FRAME_GOAWAY:
		return 0;
	case FRAME_LISTEN:
		forward_listen(s, f);
		return 0;
	case FRAME_UNLISTEN:
		forward_unlisten(s, f);
		return 0;
	case FRAME_ERROR:
		session_fail(s, NULL, "the gateway reported an error");
		return -ECONNABORTED;
	default:
		session_fail(s, "protocol", "a frame that a gateway does not send");
		return -EPROTO;
	}
}

static int on_frame(void *ctx, const struct frame *f)
{
	struct session *s = ctx;
	struct channel *c;

	if (s->state == SESSION_CHALLENGED)
		return handshake_on_frame(s, f);
	if (s->state == SESSION_ENDED)
		return -ECONNABORTED;
	if (f->channel == 0)
		return on_connection_frame(s, f);
	if (f->type == FRAME_OPEN)
		return channel_open(s, f);
	c = channel_find(s, f->channel);
	if (c) {
		s->last_found = c;
		return channel_on_frame(c, f);
	}
	if (channel_number_was_used(s, f->channel))
		return 0; /* it was on its way when the channel ended */
	session_fail(s, "protocol", "a frame for a channel that never was");
	return -EPROTO;
}

static int on_data(void *ctx, uint32_t channel, uint32_t stream, struct bytes piece, uint32_t left)
{
	struct session *s = ctx;
	struct channel *c;

	if (s->state == SESSION_CHALLENGED || s->state == SESSION_ENDED) {
		session_fail(s, "protocol", "DATA before HELLO");
		return -EPROTO;
	}
	c = channel_find(s, channel);
	if (c) {
		s->last_found = c;
		return channel_on_data(c, stream, piece);
	}
	if (channel_number_was_used(s, channel))
		return 0;
	session_fail(s, "protocol", "DATA for a channel that never was");
	return -EPROTO;
}

static const struct frame_sink sink = {.on_frame = on_frame, .on_data = on_data};

/* --- reading --- */

/* Gathered pieces lie in the input buffer: they must go before it is read into again. */
static int flush_input(struct session *s)
{
	while (!list_is_empty(&s->input_pending)) {
		struct channel *c = CONTAINER_OF(s->input_pending.next, struct channel, in_input);
		int rc;

		list_del(&c->in_input);
		rc = c->kind->on_input(c);
		if (rc < 0) {
			session_fail(s, "no-memory", "out of memory");
			return rc;
		}
	}
	return 0;
}

static void feed(struct session *s, size_t n)
{
	int rc = frame_reader_feed(&s->reader, s->input, n);

	s->received_bytes += n;
	s->heard_ms = s->now_ms;
	s->pings_out = 0;
	(void)!flush_input(s);
	if (rc < 0)
		session_fail(s,
			     rc == -EMSGSIZE ? "too-large"
			     : rc == -ENOMEM ? "no-memory"
					     : "protocol",
			     frame_reader_error(&s->reader));
}

MUST_USE static bool read_stream(struct session *s)
{
	for (int i = 0; i < READS_IN_A_ROW && s->is_readable && s->state != SESSION_ENDED; i++) {
		ssize_t n = recv(s->fd, s->input, READ_BYTES, MSG_DONTWAIT);

		if (n > 0) {
			/* A read that did not fill the buffer emptied the socket; more is an event, an announced end is not. */
			s->is_readable = n == READ_BYTES || s->is_eof;
			feed(s, (size_t)n);
			if (!sftp_channels_serve(s))
				return false;
		} else if (n == 0) {
			session_fail(s, NULL,
				     frame_reader_is_between(&s->reader) ? "the gateway closed the stream"
									 : "the stream was cut");
		} else if (errno == EAGAIN) {
			s->is_readable = false;
		} else if (errno != EINTR) {
			session_fail(s, NULL, strerror(errno));
		}
	}
	return true;
}

/* --- writing --- */

/* Asks the channels in turn for one frame each; a channel that is alone for all there is room for. */
static void fill(struct session *s)
{
	uint32_t room;

	while ((room = outq_room(&s->out)) > 0 && s->state != SESSION_ENDED && !list_is_empty(&s->ready)) {
		struct channel *c = CONTAINER_OF(s->ready.next, struct channel, in_ready);
		bool is_alone = s->ready.next == s->ready.prev;
		uint32_t before = s->out.part_end, urgent_before = s->out.urgent_end;

		list_del(&c->in_ready);
		if (!c->kind->has_output(c))
			continue;
		c->kind->emit(c, is_alone ? room : 1);
		if (c->state == CHANNEL_GONE || !c->kind->has_output(c))
			continue;
		/* Still ready but nothing came: there is no room for it. */
		list_add_tail(&s->ready, &c->in_ready);
		if (s->out.part_end == before && s->out.urgent_end == urgent_before)
			break;
	}
}

/* A few batches, then a look at what came in: keystrokes and signals must not wait for the end of a flood. */
MUST_USE static bool write_stream(struct session *s)
{
	s->is_output_left = false;
	for (int i = 0; i < SENDS_IN_A_ROW && s->state != SESSION_ENDED; i++) {
		int rc;

		fill(s);
		if (s->out.is_blocked || outq_is_empty(&s->out))
			return true;
		rc = outq_send(&s->out);
		if (rc < 0)
			session_fail(s, NULL, strerror(-rc));
		if (rc == 1)
			sftp_channels_sent(s);
		if (!sftp_channels_serve(s))
			return false;
	}
	s->is_output_left = !s->out.is_blocked;
	return true;
}

/* --- events --- */

static void on_stream_events(struct watch *w, uint32_t events)
{
	struct session *s = CONTAINER_OF(w, struct session, stream_watch);

	if (events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP | EPOLLERR))
		s->is_readable = true;
	if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR))
		s->is_eof = true;
	if (events & EPOLLOUT)
		s->out.is_blocked = false;
}

static void leave(struct session *s)
{
	struct frame f = {.type = FRAME_GOAWAY, .error.message = bytes_str("the sandbox is shutting down")};

	if (s->state == SESSION_CHALLENGED)
		session_fail(s, "shutting-down", "the sandbox is shutting down");
	if (s->state != SESSION_READY)
		return;
	s->state = SESSION_LEAVING;
	s->deadline_ms = s->now_ms + LEAVE_MS;
	session_urgent(s, &f);
}

static void on_signal_events(struct watch *w, uint32_t events)
{
	struct session *s = CONTAINER_OF(w, struct session, signal_watch);
	struct signalfd_siginfo info;

	while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			process_reap(s);
		else if (info.ssi_signo == SIGHUP)
			session_fail(s, "shutting-down", "procd was killed");
		else
			leave(s);
	}
}

static void on_notify_events(struct watch *w, uint32_t events)
{
	struct session *s = CONTAINER_OF(w, struct session, notify_watch);

	sftp_channels_check(s);
	tcp_resolved(s);
}

/* --- time --- */

static uint64_t ping_ms(const struct session *s)
{
	return s->heard_ms + PING_FIRST_MS + (uint64_t)PING_MS * s->pings_out;
}

static int next_timeout(const struct session *s)
{
	uint64_t next = s->state == SESSION_CHALLENGED ? UINT64_MAX : ping_ms(s);

	if (s->deadline_ms && s->deadline_ms < next)
		next = s->deadline_ms;
	for (struct list *l = s->channels.next; l != &s->channels; l = l->next) {
		const struct channel *c = CONTAINER_OF(l, struct channel, in_all);

		if (c->deadline_ms && c->deadline_ms < next)
			next = c->deadline_ms;
	}
	if (next <= s->now_ms)
		return 0;
	return next - s->now_ms > 60000 ? 60000 : (int)(next - s->now_ms);
}

static void ping(struct session *s)
{
	struct frame f = {.type = FRAME_PING};

	if (s->pings_out == PING_COUNT) {
		session_fail(s, NULL, "the gateway does not answer");
		return;
	}
	f.opaque = ++s->pings_out;
	session_urgent(s, &f);
}

static void check_deadlines(struct session *s)
{
	struct list *l = s->channels.next;

	if (s->deadline_ms && s->now_ms >= s->deadline_ms)
		session_fail(s, s->state == SESSION_CHALLENGED ? "bad-ticket" : "shutting-down",
			     s->state == SESSION_CHALLENGED ? "no HELLO in time" : "the sandbox is shutting down");
	if (s->state != SESSION_CHALLENGED && s->state != SESSION_ENDED && s->now_ms >= ping_ms(s))
		ping(s);
	while (l != &s->channels) {
		struct channel *c = CONTAINER_OF(l, struct channel, in_all);

		l = l->next;
		if (c->deadline_ms && s->now_ms >= c->deadline_ms) {
			c->deadline_ms = 0;
			c->kind->on_deadline(c);
		}
	}
}

/* --- the loop --- */

static void bury(struct session *s)
{
	struct list *l = s->graveyard.next;

	while (l != &s->graveyard) {
		struct channel *c = CONTAINER_OF(l, struct channel, in_grave);

		l = l->next;
		if (c->hold_count > 0)
			continue;
		list_del(&c->in_grave);
		if (c->kind->deinit)
			c->kind->deinit(c);
		free(c);
	}
}

/* True when a round can go on without waiting. */
static bool has_work(const struct session *s)
{
	return s->is_readable || s->is_output_left || s->is_agent_gone || !list_is_empty(&s->serving);
}

MUST_USE static bool round_run(struct session *s)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	int n = epoll_wait(s->epoll_fd, events, EVENTS_AT_ONCE, has_work(s) ? 0 : next_timeout(s));

	s->now_ms = now_ms();
	s->served_ms = 0;
	for (int i = 0; i < n; i++) {
		struct watch *w = events[i].data.ptr;

		if (w->on_events)
			w->on_events(w, events[i].events);
	}
	if (!read_stream(s))
		return false;
	check_deadlines(s);
	forward_end_orphans(s);
	forward_accept(s);
	if (!sftp_channels_serve(s) || !write_stream(s))
		return false;
	bury(s);
	forward_bury(s);
	if (s->state == SESSION_LEAVING && s->channel_count == 0 && outq_is_empty(&s->out))
		session_fail(s, NULL, "the sandbox is shutting down");
	return true;
}

/* Sends what must still be said and waits for the gateway to have read it: closing early would make the kernel drop it. */
static void say_last_words(struct session *s)
{
	struct frame f = {.type = FRAME_ERROR};
	uint64_t until = now_ms() + LINGER_MS;

	if (s->error_code) {
		f.error.code = bytes_str(s->error_code);
		f.error.message = bytes_str(s->end_reason);
		(void)!outq_urgent(&s->out, &f);
	}
	for (bool is_shut = false;;) {
		struct pollfd p = {.fd = s->fd, .events = POLLIN | POLLOUT};
		uint64_t now = now_ms();
		ssize_t n;

		if (now >= until)
			return;
		s->out.is_blocked = false;
		if (outq_send(&s->out) < 0)
			return;
		if (outq_is_empty(&s->out)) {
			p.events = POLLIN;
			if (!is_shut && shutdown(s->fd, SHUT_WR) < 0)
				return;
			is_shut = true;
		}
		(void)poll(&p, 1, (int)(until - now));
		n = recv(s->fd, s->input, READ_BYTES, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return;
	}
}

static int setup(struct session *s)
{
	sigset_t set;

	(void)signal(SIGPIPE, SIG_IGN);
	/* sftp.h wants it; programs are started with none blocked. */
	sigemptyset(&set);
	sigaddset(&set, SIGXFSZ);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
	s->signal_fd = loop_signals();
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	s->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->input = malloc(READ_BYTES);
	if (s->signal_fd < 0 || s->epoll_fd < 0 || s->notify_fd < 0 || !s->input)
		return -ENOMEM;
	s->stream_watch.on_events = on_stream_events;
	s->signal_watch.on_events = on_signal_events;
	s->notify_watch.on_events = on_notify_events;
	if (session_watch(s, s->fd, &s->stream_watch) < 0 || session_watch(s, s->signal_fd, &s->signal_watch) < 0 ||
	    session_watch(s, s->notify_fd, &s->notify_watch) < 0)
		return -ENOMEM;
	resolve_init(s->notify_fd);
	/* The main process is gone: so is this stream. */
	if (prctl(PR_SET_PDEATHSIG, SIGHUP) < 0)
		return -errno;
	return handshake_start(s);
}

static void finish(struct session *s)
{
	bool was_ready = s->ticket.session[0] != 0;

	while (!list_is_empty(&s->channels))
		channel_end(CONTAINER_OF(s->channels.next, struct channel, in_all));
	forward_end_all(s);
	say_last_words(s);
	close(s->fd);
	log_event(was_ready ? LOG_INFO : LOG_WARN, was_ready ? "stream_end" : "stream_refused",
		  LOG_STR("session", was_ready ? s->ticket.session : "-"), LOG_STR("reason", s->end_reason),
		  LOG_U64("received", s->received_bytes), LOG_U64("sent", s->out.sent_bytes),
		  LOG_F3("seconds", (double)(now_ms() - s->started_ms) / 1000));
}

/* Until the session ends, and the process with it; or until another thread has the loop. */
static void rounds_run(struct session *s)
{
	while (s->state != SESSION_ENDED)
		if (!round_run(s))
			return;
	finish(s);
	/* No exit handlers: threads may still be at work. */
	_exit(0);
}

static void take_over(struct guard *g)
{
	struct session *s = CONTAINER_OF(g, struct session, guard);

	s->is_output_left = true; /* the other one's round goes on at once */
	sftp_channels_taken_over(s);
	rounds_run(s);
}

void session_run(int fd, struct options *options, struct stream_slot *slots, uint32_t slot)
{
	static struct session session;
	struct session *s = &session;

	s->options = options;
	s->slots = slots;
	s->slot = slot;
	s->fd = fd;
	s->now_ms = s->started_ms = s->heard_ms = now_ms();
	s->budget_left = BUDGET_SHARED;
	list_init(&s->channels);
	list_init(&s->ready);
	list_init(&s->input_pending);
	list_init(&s->serving);
	list_init(&s->graveyard);
	list_init(&s->listeners);
	list_init(&s->listeners_ended);
	for (int i = 0; i < CHANNEL_BUCKETS; i++)
		list_init(&s->buckets[i]);
	listen_name(fd, s->address, sizeof(s->address));
	frame_reader_init(&s->reader, &sink, s);
	outq_init(&s->out, fd);
	if (setup(s) < 0)
		session_fail(s, "no-memory", "out of memory or descriptors");
	guard_init(&s->guard, take_over);
	guard_loop_is_here(&s->guard);
	rounds_run(s);
	/* The first thread's end would leave a process that looks dead from outside. */
	for (;;)
		(void)pause();
}
