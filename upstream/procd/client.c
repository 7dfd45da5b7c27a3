#include "upstream/procd/client.h"

#include "ring/socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A PING is not answered while more than this waits for a procd that does not read: what waits is a sign of life itself. */
#define PONG_OUT_MAX (1024 * 1024)

static const struct stream_events stream_events;
static const struct frame_sink sink;

static const uint8_t allowed[] = {
	[PROCD_IDLE] = 1u << PROCD_CONNECTING,
	[PROCD_CONNECTING] = 1u << PROCD_CHALLENGE | 1u << PROCD_ENDED | 1u << PROCD_CLOSED,
	[PROCD_CHALLENGE] = 1u << PROCD_WELCOME | 1u << PROCD_ENDED | 1u << PROCD_CLOSED,
	[PROCD_WELCOME] = 1u << PROCD_READY | 1u << PROCD_ENDED | 1u << PROCD_CLOSED,
	[PROCD_READY] = 1u << PROCD_ENDED | 1u << PROCD_CLOSED,
	[PROCD_ENDED] = 1u << PROCD_CLOSED,
	[PROCD_CLOSED] = 1u << PROCD_CONNECTING,
};

/* The only writer of p->state. */
static void client_move(struct procd_client *p, enum procd_client_state to)
{
	ASSERT(allowed[p->state] & 1u << to);
	p->state = to;
}

static void client_end(struct procd_client *p, enum procd_end why, const char *detail)
{
	if (p->state == PROCD_ENDED || p->state == PROCD_CLOSED || p->is_closing)
		return;
	client_move(p, PROCD_ENDED);
	timer_stop(p->stream.ring, &p->deadline);
	stream_recv(&p->stream, false);
	p->events->on_end(p, why, detail);
}

static void on_deadline(struct timer *t)
{
	struct procd_client *p = CONTAINER_OF(t, struct procd_client, deadline);
	struct frame ping = {.type = FRAME_PING};
	uint64_t silent_ms = (ring_now_us(p->stream.ring) - p->heard_us) / 1000;

	if (p->state != PROCD_READY) {
		client_end(p, PROCD_UNREACHABLE, "no answer in time");
		return;
	}
	if (silent_ms < p->ping_ms) {
		timer_start_lazily(p->stream.ring, t, p->ping_ms - silent_ms, p->ping_ms);
		return;
	}
	if (p->pings_out >= p->ping_count) {
		client_end(p, PROCD_LOST, "it does not answer any more");
		return;
	}
	p->pings_out++;
	ping.opaque = p->pings_out;
	if (procd_client_send(p, &ping) < 0) {
		client_end(p, PROCD_LOST, "out of memory");
		return;
	}
	timer_start_lazily(p->stream.ring, t, p->ping_ms, p->ping_ms);
}

void procd_client_init(struct procd_client *p, const struct procd_client_events *events)
{
	memset(p, 0, sizeof(*p));
	p->events = events;
	timer_init(&p->deadline, on_deadline);
}

void procd_client_start(struct procd_client *p, struct ring *r, const struct procd_client_options *o)
{
	ssize_t n = ticket_encode(o->ticket, p->ticket, sizeof(p->ticket));

	ASSERT(n > 0);
	client_move(p, PROCD_CONNECTING);
	p->ticket_bytes = (uint16_t)n;
	p->secret = o->secret;
	p->has_expected = o->expected != NULL;
	if (o->expected)
		p->expected = *o->expected;
	p->ping_ms = o->ping_ms;
	p->ping_count = o->ping_count;
	p->pings_out = 0;
	p->tcp_user_timeout_ms = o->tcp_user_timeout_ms;
	p->is_closing = p->is_feeding = false;
	frame_reader_init(&p->reader, &sink, p);
	stream_connect(&p->stream, r, o->addr, o->addr_bytes, o->connect_timeout_ms, &stream_events);
	timer_start(r, &p->deadline, o->hello_timeout_ms);
}

int procd_client_send(struct procd_client *p, const struct frame *f)
{
	size_t size = f->type == FRAME_OPEN ? FRAME_OPEN_MAX : FRAME_SMALL_MAX;
	uint8_t small[FRAME_SMALL_MAX], *big = NULL;
	ssize_t n;
	int rc;

	if (p->state < PROCD_CHALLENGE || p->state > PROCD_READY)
		return -ENOTCONN;
	if (f->type == FRAME_HELLO)
		size = 2 * TICKET_MAX;
	if (size > sizeof(small)) {
		big = malloc(size);
		if (!big)
			return -ENOMEM;
	}
	n = frame_encode(f, big ? big : small, size);
	rc = n < 0 ? (int)n : chain_append(&p->stream.out, big ? big : small, (size_t)n);
	free(big);
	if (rc == 0)
		stream_send(&p->stream);
	return rc;
}

int procd_client_send_data(struct procd_client *p, uint32_t channel, struct bytes payload)
{
	uint8_t head[FRAME_DATA_HEADER_MAX];

	if (p->state != PROCD_READY)
		return -ENOTCONN;
	while (payload.n > 0) {
		uint32_t take = payload.n < FRAME_DATA_MAX ? (uint32_t)payload.n : FRAME_DATA_MAX;
		size_t head_bytes = frame_encode_data_head(channel, 0, take, head);

		if (chain_append(&p->stream.out, head, head_bytes) < 0 ||
		    chain_append(&p->stream.out, payload.p, take) < 0)
			return -ENOMEM;
		payload.p += take;
		payload.n -= take;
	}
	stream_send(&p->stream);
	return 0;
}

uint8_t *procd_client_reserve_data(struct procd_client *p, size_t size)
{
	if (p->state != PROCD_READY || p->is_closing)
		return NULL;
	ASSERT(!p->reserved);
	p->reserved = chain_reserve(&p->stream.out, FRAME_DATA_HEADER_WIDE + size);
	return p->reserved ? p->reserved + FRAME_DATA_HEADER_WIDE : NULL;
}

void procd_client_commit_data(struct procd_client *p, uint32_t channel, uint32_t n)
{
	ASSERT(p->reserved);
	if (n > 0)
		frame_encode_data_head_wide(channel, 0, n, p->reserved);
	chain_commit(&p->stream.out, n > 0 ? FRAME_DATA_HEADER_WIDE + n : 0);
	p->reserved = NULL;
	if (n > 0)
		stream_send(&p->stream);
}

size_t procd_client_unsent(const struct procd_client *p)
{
	return p->state == PROCD_IDLE || p->state == PROCD_CLOSED ? 0 : p->stream.out.bytes;
}

void procd_client_close(struct procd_client *p)
{
	ASSERT(p->state != PROCD_IDLE);
	if (p->is_closing || p->state == PROCD_CLOSED)
		return;
	p->is_closing = true;
	timer_stop(p->stream.ring, &p->deadline);
	stream_close(&p->stream);
}

/* --- the opening --- */

static int on_challenge(struct procd_client *p, const struct frame *f)
{
	uint8_t signature[FRAME_SIGNATURE_BYTES];
	struct frame hello = {.type = FRAME_HELLO};

	if (f->type != FRAME_CHALLENGE || f->challenge.version != FRAME_VERSION ||
	    f->challenge.nonce.n != FRAME_CHALLENGE_BYTES)
		return -EPROTO;
	memcpy(p->challenge, f->challenge.nonce.p, FRAME_CHALLENGE_BYTES);
	proof_hello_sign(p->secret, p->challenge, bytes_of(p->ticket, p->ticket_bytes), signature);
	hello.hello.version = FRAME_VERSION;
	hello.hello.ticket = bytes_of(p->ticket, p->ticket_bytes);
	hello.hello.signature = bytes_of(signature, sizeof(signature));
	client_move(p, PROCD_WELCOME);
	return procd_client_send(p, &hello);
}

static int on_welcome(struct procd_client *p, const struct frame *f)
{
	if (f->type != FRAME_WELCOME || f->welcome.version != FRAME_VERSION)
		return -EPROTO;
	if (p->has_expected && !proof_welcome_verify(&p->expected, p->challenge, bytes_of(p->ticket, p->ticket_bytes),
						     f->welcome.signature)) {
		client_end(p, PROCD_WRONG, "it does not prove to be this sandbox");
		return 0;
	}
	client_move(p, PROCD_READY);
	p->heard_us = ring_now_us(p->stream.ring);
	timer_start_lazily(p->stream.ring, &p->deadline, p->ping_ms, p->ping_ms);
	p->events->on_ready(p);
	return 0;
}

static void on_error_frame(struct procd_client *p, const struct frame *f)
{
	bool is_open = p->state == PROCD_READY;
	char text[160];

	snprintf(text, sizeof(text), "%.*s: %.*s", (int)(f->error.code.n < 32 ? f->error.code.n : 32),
		 (const char *)f->error.code.p, (int)(f->error.message.n < 120 ? f->error.message.n : 120),
		 (const char *)f->error.message.p);
	if (bytes_is(f->error.code, "wrong-sandbox") && !is_open)
		client_end(p, PROCD_WRONG, text);
	else
		client_end(p, is_open ? PROCD_LOST : PROCD_REFUSED, text);
}

static int on_ping(struct procd_client *p, const struct frame *f)
{
	struct frame pong = {.type = FRAME_PONG, .opaque = f->opaque};

	if (p->stream.out.bytes > PONG_OUT_MAX)
		return 0;
	return procd_client_send(p, &pong);
}

static int on_frame(void *ctx, const struct frame *f)
{
	struct procd_client *p = ctx;

	if (p->is_closing || p->state == PROCD_ENDED)
		return 0;
	if (f->type == FRAME_ERROR) {
		on_error_frame(p, f);
		return 0;
	}
	switch (p->state) {
	case PROCD_CHALLENGE:
		return on_challenge(p, f);
	case PROCD_WELCOME:
		return on_welcome(p, f);
	case PROCD_READY:
		break;
	default:
		return 0;
	}
	switch (f->type) {
	case FRAME_PING:
		return on_ping(p, f);
	case FRAME_PONG:
		return 0;
	case FRAME_CHALLENGE:
	case FRAME_HELLO:
	case FRAME_WELCOME:
		return -EPROTO;
	default:
		return p->events->on_frame(p, f);
	}
}

static int on_data(void *ctx, uint32_t channel, uint32_t stream, struct bytes piece, uint32_t left)
{
	struct procd_client *p = ctx;

	if (p->is_closing || p->state == PROCD_ENDED)
		return 0;
	return p->state == PROCD_READY ? p->events->on_data(p, channel, stream, piece, left) : -EPROTO;
}

static const struct frame_sink sink = {.on_frame = on_frame, .on_data = on_data};

/* --- the stream --- */

static void on_connected(struct stream *s, int err)
{
	struct procd_client *p = CONTAINER_OF(s, struct procd_client, stream);

	if (p->is_closing || p->state != PROCD_CONNECTING)
		return;
	if (err < 0) {
		client_end(p, PROCD_UNREACHABLE, strerror(-err));
		return;
	}
	(void)socket_tune(s->fd, p->tcp_user_timeout_ms, 0);
	client_move(p, PROCD_CHALLENGE);
	stream_recv(s, true);
}

static void on_recv(struct stream *s, const uint8_t *bytes, size_t n)
{
	struct procd_client *p = CONTAINER_OF(s, struct procd_client, stream);
	int rc;

	if (p->is_closing || p->state == PROCD_ENDED)
		return;
	p->heard_us = ring_now_us(s->ring);
	p->pings_out = 0;
	p->is_feeding = true;
	rc = frame_reader_feed(&p->reader, bytes, n);
	p->is_feeding = false;
	if (rc < 0) {
		const char *why = frame_reader_error(&p->reader);

		client_end(p, PROCD_BROKEN, why && rc == -EPROTO ? why : strerror(-rc));
	}
}

static void on_recv_end(struct stream *s, int err)
{
	struct procd_client *p = CONTAINER_OF(s, struct procd_client, stream);

	client_end(p, p->state == PROCD_READY ? PROCD_LOST : PROCD_UNREACHABLE,
		   err < 0 ? strerror(-err) : "it closed the connection");
}

static void on_sent(struct stream *s, size_t n)
{
	struct procd_client *p = CONTAINER_OF(s, struct procd_client, stream);

	(void)n;
	if (!p->is_closing && p->state == PROCD_READY)
		p->events->on_sent(p);
}

static void on_send_error(struct stream *s, int err)
{
	struct procd_client *p = CONTAINER_OF(s, struct procd_client, stream);

	client_end(p, PROCD_LOST, strerror(-err));
}

static void on_closed(struct stream *s)
{
	struct procd_client *p = CONTAINER_OF(s, struct procd_client, stream);

	ASSERT(!p->is_feeding);
	frame_reader_deinit(&p->reader);
	client_move(p, PROCD_CLOSED);
	p->events->on_closed(p);
}

static const struct stream_events stream_events = {
	.on_recv = on_recv,
	.on_recv_end = on_recv_end,
	.on_sent = on_sent,
	.on_send_error = on_send_error,
	.on_connected = on_connected,
	.on_closed = on_closed,
};
