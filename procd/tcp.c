/*
 * procd/tcp.c - see tcp.h.
 *
 * Addresses are tried one after another, all within one deadline; one that does not answer has its share of it. Both directions
 * end by themselves; an error on the connection ends the channel with CLOSE and no EOF, so that a torn connection is not taken
 * for a finished one.
 */
#include "procd/tcp.h"

#include "procd/channel.h"
#include "procd/session.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/un.h>
#include <unistd.h>

/* --- the open connection --- */

static void input_end(struct channel *c)
{
	struct tcp *t = &c->tcp;
	uint32_t waiting = sink_waiting(&t->sink);

	t->sink.state = SINK_CLOSED;
	sink_deinit(&t->sink);
	if (waiting > 0)
		channel_consumed(c, waiting);
	channel_ready(c);
}

static int tcp_on_input(struct channel *c)
{
	struct tcp *t = &c->tcp;
	ssize_t n = sink_flush(&t->sink);

	if (n == -ENOMEM)
		return -ENOMEM;
	if (n < 0) {
		/* The peer takes no more. What it still sends is read; an error there will tell. */
		input_end(c);
		return 0;
	}
	if (n > 0)
		channel_consumed(c, (uint32_t)n);
	if (n > 0 && c->is_close_in)
		channel_deadline(c, DRAIN_MS);
	if (t->sink.state == SINK_ENDING && sink_waiting(&t->sink) == 0) {
		(void)shutdown(t->sink.fd, SHUT_WR);
		input_end(c);
	}
	return 0;
}

static int tcp_on_data(struct channel *c, struct bytes piece)
{
	if (c->tcp.sink.state != SINK_OPEN) {
		channel_consumed(c, (uint32_t)piece.n);
		return 0;
	}
	return sink_put(&c->tcp.sink, piece);
}

static void tcp_on_eof(struct channel *c)
{
	struct tcp *t = &c->tcp;

	if (t->sink.state != SINK_OPEN)
		return;
	t->sink.state = SINK_ENDING;
	if (tcp_on_input(c) < 0)
		session_fail(c->session, "no-memory", "out of memory");
}

/* What the user had sent still reaches the connection: his EOF and CLOSE may come while it is being written. */
static bool tcp_on_close(struct channel *c)
{
	struct tcp *t = &c->tcp;

	if (sink_waiting(&t->sink) == 0)
		return false;
	t->in.is_done = c->is_eof_out = true; /* nobody wants more of it */
	if (t->sink.state == SINK_OPEN)
		t->sink.state = SINK_ENDING;
	channel_deadline(c, DRAIN_MS);
	return true;
}

static bool close_is_due(const struct channel *c)
{
	const struct tcp *t = &c->tcp;

	return t->in.is_done && (t->in.is_broken || (c->is_eof_out && t->sink.state == SINK_CLOSED));
}

static bool tcp_has_output(const struct channel *c)
{
	const struct tcp *t = &c->tcp;

	return c->state == CHANNEL_OPEN &&
	       (source_has_output(&t->in, c) || (t->in.is_done && !c->is_eof_out) || close_is_due(c));
}

static void tcp_emit(struct channel *c, uint32_t frames)
{
	struct tcp *t = &c->tcp;

	if (source_emit(&t->in, c, frames))
		return;
	if (close_is_due(c))
		channel_close(c);
	else if (t->in.is_done && !c->is_eof_out)
		channel_send_eof(c);
}

/* --- connecting --- */

static void connect_next(struct channel *c);

static void connect_failed(struct channel *c)
{
	const struct tcp *t = &c->tcp;
	const char *code = "unreachable";

	if (t->last_error == EACCES || t->last_error == EPERM)
		code = "denied";
	else if (t->last_error == ENOENT)
		code = "not-found";
	channel_refuse(c, code, strerror(t->last_error));
}

static void use_connection(struct channel *c, int fd)
{
	struct tcp *t = &c->tcp;
	int on = 1;

	t->is_connected = true;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	sink_init(&t->sink, fd);
	source_init(&t->in, fd, SOURCE_SOCKET, 0);
	/* What came with the event of the connection is not told again. */
	t->in.is_readable = true;
}

static void connected(struct channel *c)
{
	use_connection(c, c->tcp.sink.fd);
	c->deadline_ms = 0;
	channel_opened(c);
	if (c->is_eof_in)
		tcp_on_eof(c);
}

static void attempt_close(struct channel *c)
{
	session_unwatch(c->session, &c->tcp.sink.fd);
}

static void on_tcp_events(struct watch *w, uint32_t events)
{
	struct channel *c = CONTAINER_OF(w, struct channel, tcp.watch);
	struct tcp *t = &c->tcp;
	struct sockaddr_storage peer;
	socklen_t n = sizeof(int);
	int error = 0;

	if (c->state == CHANNEL_GONE)
		return;
	if (!t->is_connected) {
		if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
			return;
		if (getsockopt(t->sink.fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
			error = errno;
		if (error) {
			t->last_error = error;
			attempt_close(c);
			connect_next(c);
			return;
		}
		/* An event can come before there is news. Only a peer proves that it is connected. */
		n = sizeof(peer);
		if (getpeername(t->sink.fd, (struct sockaddr *)&peer, &n) < 0)
			return;
		connected(c);
	}
	if ((events & EPOLLOUT) && t->sink.state != SINK_CLOSED) {
		t->sink.is_writable = true;
		if (tcp_on_input(c) < 0)
			session_fail(c->session, "no-memory", "out of memory");
	}
	source_on_events(&t->in, events);
	channel_ready(c);
}

/* 0: connected or connecting; else the error. */
static int attempt(struct channel *c, const struct sockaddr *sa, socklen_t bytes)
{
	struct tcp *t = &c->tcp;
	int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), rc;

	if (fd < 0)
		return errno;
	t->sink.fd = fd;
	do {
		rc = connect(fd, sa, bytes);
	} while (rc < 0 && errno == EINTR);
	if (rc < 0 && errno != EINPROGRESS)
		rc = errno;
	else
		rc = -session_watch(c->session, fd, &t->watch);
	if (rc)
		attempt_close(c);
	return rc;
}

/* For the next address: what is left, shared with those behind it. */
static void share_deadline(struct channel *c)
{
	const struct tcp *t = &c->tcp;
	uint64_t now_ms = c->session->now_ms, left_ms = t->until_ms > now_ms ? t->until_ms - now_ms : 0;
	uint64_t share_ms = left_ms / (t->address_count - t->address_at);

	if (share_ms < CONNECT_SHARE_MS)
		share_ms = CONNECT_SHARE_MS;
	channel_deadline(c, share_ms < left_ms ? share_ms : left_ms);
}

static void connect_next(struct channel *c)
{
	struct tcp *t = &c->tcp;

	while (t->address_at < t->address_count) {
		const struct sockaddr_storage *a = &t->addresses[t->address_at];
		int error;

		share_deadline(c);
		t->address_at++;
		error = attempt(c, (const struct sockaddr *)a,
				a->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
		if (error == 0)
			return; /* its first event says how it went */
		t->last_error = error;
	}
	connect_failed(c);
}

static void tcp_on_deadline(struct channel *c)
{
	struct tcp *t = &c->tcp;

	if (c->is_close_in) {
		input_end(c); /* it does not read */
	} else if (c->state == CHANNEL_OPENING && t->job) {
		channel_refuse(c, "unreachable", "the name was not resolved in time");
	} else if (c->state == CHANNEL_OPENING) {
		t->last_error = ETIMEDOUT;
		attempt_close(c);
		if (c->session->now_ms >= t->until_ms)
			t->address_at = t->address_count;
		connect_next(c);
	}
}

void tcp_resolved(struct session *s)
{
	struct resolve_job *job;

	while ((job = resolve_take())) {
		struct channel *c = job->owner;
		struct tcp *t = &c->tcp;

		t->job = NULL;
		if (job->error) {
			channel_refuse(c, "not-found", gai_strerror(job->error));
		} else {
			memcpy(t->addresses, job->addresses, sizeof(t->addresses));
			t->address_count = job->count;
			connect_next(c);
		}
		free(job);
	}
}

static void tcp_init(struct channel *c)
{
	c->tcp.sink.fd = -1;
	c->tcp.sink.state = SINK_CLOSED;
	c->tcp.in.is_done = true;
	c->tcp.watch.on_events = on_tcp_events;
	c->tcp.last_error = EHOSTUNREACH;
}

static void connect_until(struct channel *c)
{
	channel_deadline(c, CONNECT_MS);
	c->tcp.until_ms = c->deadline_ms;
}

int tcp_open(struct channel *c, const struct frame *f)
{
	struct tcp *t = &c->tcp;
	uint16_t port = (uint16_t)f->open.options.port;
	char host[HOST_BYTES_MAX + 1];

	tcp_init(c);
	if (!bytes_copy_str(f->open.options.host, host, sizeof(host)) || !host[0] || port == 0)
		return channel_refuse(c, "not-found", "no such address");
	connect_until(c);
	t->address_count = resolve_literal(host, port, t->addresses);
	if (t->address_count > 0) {
		connect_next(c);
		return 0;
	}
	t->job = resolve_start(host, port, c);
	return t->job ? 0 : channel_refuse(c, "no-memory", "the name cannot be looked up");
}

int tcp_open_unix(struct channel *c, const struct frame *f)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int error;

	tcp_init(c);
	if (!bytes_copy_str(f->open.options.path, sa.sun_path, sizeof(sa.sun_path)) || !sa.sun_path[0])
		return channel_refuse(c, "not-found", "no such path");
	connect_until(c);
	error = attempt(c, (const struct sockaddr *)&sa, sizeof(sa));
	if (error) {
		c->tcp.last_error = error == EAGAIN ? ECONNREFUSED : error; /* its queue is full */
		connect_failed(c);
	}
	return 0;
}

void tcp_accepted(struct channel *c, int fd)
{
	tcp_init(c);
	use_connection(c, fd);
	if (session_watch(c->session, fd, &c->tcp.watch) < 0)
		c->tcp.in.is_done = c->tcp.in.is_broken = true; /* closed as soon as the gateway has agreed */
}

void tcp_accepted_agent(struct channel *c, int fd, uint32_t session)
{
	tcp_accepted(c, fd);
	c->tcp.agent_of = session;
	c->session->agent_count++;
}

static void tcp_end(struct channel *c)
{
	struct tcp *t = &c->tcp;

	if (t->job)
		resolve_cancel(t->job);
	t->job = NULL;
	attempt_close(c);
	sink_deinit(&t->sink);
	t->sink.state = SINK_CLOSED;
	t->in.is_done = true;
}

const struct channel_kind tcp_kind = {
	.on_data = tcp_on_data,
	.on_input = tcp_on_input,
	.on_eof = tcp_on_eof,
	.on_close = tcp_on_close,
	.has_output = tcp_has_output,
	.emit = tcp_emit,
	.on_deadline = tcp_on_deadline,
	.end = tcp_end,
};

static void agent_end(struct channel *c)
{
	c->session->agent_count--;
	tcp_end(c);
}

const struct channel_kind agent_kind = {
	.on_data = tcp_on_data,
	.on_input = tcp_on_input,
	.on_eof = tcp_on_eof,
	.on_close = tcp_on_close,
	.has_output = tcp_has_output,
	.emit = tcp_emit,
	.on_deadline = tcp_on_deadline,
	.end = agent_end,
};
