#include "bench/relay.h"

#include "ring/socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_MS 10000
#define ONE_SOCKET 1
/* One direction: 100 ms at 2.5 GB/s. */
#define RELAY_HELD_MAX (256u << 20)
#define TICK_MS 1

/* Bytes that came within one millisecond. */
struct parcel {
	struct list node;
	uint64_t due_us;
	size_t n;
	uint8_t bytes[];
};

struct leg {
	struct stream stream;
	struct pair *pair;
	struct leg *other;
	struct list held; /* parcels towards the other leg */
	size_t held_bytes;
	uint64_t end_due_us; /* of the EOF that came; 0: none */
	bool is_open, is_paused, is_shut;
};

struct pair {
	struct relay *relay;
	struct list node;
	struct leg client, server;
};

struct relay {
	struct ring *ring;
	const struct relay_options *options;
	struct listener listener;
	struct timer tick;
	struct list pairs;
};

static const struct stream_events events;

static void drop_held(struct leg *l)
{
	while (!list_is_empty(&l->held)) {
		struct parcel *p = CONTAINER_OF(l->held.next, struct parcel, node);

		list_del(&p->node);
		free(p);
	}
	l->held_bytes = 0;
}

static void close_pair(struct pair *p)
{
	stream_close(&p->client.stream);
	stream_close(&p->server.stream);
}

static void on_recv(struct stream *s, const uint8_t *bytes, size_t n)
{
	struct leg *l = CONTAINER_OF(s, struct leg, stream);
	struct parcel *p = malloc(sizeof(*p) + n);

	if (!p) {
		close_pair(l->pair);
		return;
	}
	p->due_us = ring_now_us(s->ring) + l->pair->relay->options->delay_ms * 1000ull;
	p->n = n;
	memcpy(p->bytes, bytes, n);
	list_add_tail(&l->held, &p->node);
	l->held_bytes += n;
	if (l->held_bytes >= RELAY_HELD_MAX && !l->is_paused) {
		l->is_paused = true;
		stream_recv(s, false);
	}
}

static void on_recv_end(struct stream *s, int err)
{
	struct leg *l = CONTAINER_OF(s, struct leg, stream);

	if (err < 0)
		close_pair(l->pair);
	else
		l->end_due_us = ring_now_us(s->ring) + l->pair->relay->options->delay_ms * 1000ull;
}

static void on_sent(struct stream *s, size_t n)
{
	(void)s;
	(void)n;
}

static void on_send_error(struct stream *s, int err)
{
	(void)err;
	close_pair(CONTAINER_OF(s, struct leg, stream)->pair);
}

static void on_connected(struct stream *s, int err)
{
	if (err < 0)
		close_pair(CONTAINER_OF(s, struct leg, stream)->pair);
	else
		stream_recv(s, true);
}

static void on_closed(struct stream *s)
{
	struct leg *l = CONTAINER_OF(s, struct leg, stream);
	struct pair *p = l->pair;

	l->is_open = false;
	if (p->client.is_open || p->server.is_open)
		return;
	drop_held(&p->client);
	drop_held(&p->server);
	list_del(&p->node);
	free(p);
}

static const struct stream_events events = {
	.on_recv = on_recv,
	.on_recv_end = on_recv_end,
	.on_sent = on_sent,
	.on_send_error = on_send_error,
	.on_connected = on_connected,
	.on_closed = on_closed,
};

/* Gives the other side what is due. */
static void deliver(struct leg *l, uint64_t now_us)
{
	struct stream *to = &l->other->stream;

	while (!list_is_empty(&l->held)) {
		struct parcel *p = CONTAINER_OF(l->held.next, struct parcel, node);

		if (p->due_us > now_us)
			break;
		if (chain_append(&to->out, p->bytes, p->n) < 0) {
			close_pair(l->pair);
			return;
		}
		l->held_bytes -= p->n;
		list_del(&p->node);
		free(p);
	}
	if (to->out.bytes > 0)
		stream_send(to);
	if (l->is_paused && l->held_bytes < RELAY_HELD_MAX / 2) {
		l->is_paused = false;
		stream_recv(&l->stream, true);
	}
	if (l->end_due_us && now_us >= l->end_due_us && list_is_empty(&l->held) && !l->is_shut) {
		l->is_shut = true;
		stream_shutdown(to);
	}
}

static void on_tick(struct timer *t)
{
	struct relay *r = CONTAINER_OF(t, struct relay, tick);
	uint64_t now_us = ring_now_us(r->ring);

	for (struct list *n = r->pairs.next, *next; n != &r->pairs; n = next) {
		struct pair *p = CONTAINER_OF(n, struct pair, node);

		next = n->next;
		deliver(&p->client, now_us);
		deliver(&p->server, now_us);
		if (p->client.is_shut && p->server.is_shut && p->client.stream.out.bytes == 0 &&
		    p->server.stream.out.bytes == 0)
			close_pair(p);
	}
	timer_start(r->ring, t, TICK_MS);
}

static void leg_init(struct leg *l, struct pair *p, struct leg *other)
{
	l->pair = p;
	l->other = other;
	l->is_open = true;
	list_init(&l->held);
}

static void on_accept(struct listener *listener, int fd)
{
	struct relay *r = listener->owner;
	struct pair *p = calloc(1, sizeof(*p));

	if (!p)
		return; /* the descriptor is lost with the process */
	p->relay = r;
	leg_init(&p->client, p, &p->server);
	leg_init(&p->server, p, &p->client);
	list_add_tail(&r->pairs, &p->node);
	(void)socket_tune(fd, 0, 0);
	stream_open(&p->client.stream, r->ring, fd, &events);
	stream_recv(&p->client.stream, true);
	stream_connect(&p->server.stream, r->ring, r->options->to, r->options->to_bytes, CONNECT_MS, &events);
}

int relay_run(struct ring *ring, const struct relay_options *o)
{
	static struct relay relay;
	char text[SOCKET_TEXT_MAX];
	int fd, rc = listen_sockets(o->listen, ONE_SOCKET, &fd);

	if (rc < 0) {
		fprintf(stderr, "ringbench: cannot listen on %s: %s\n", o->listen, strerror(-rc));
		return rc;
	}
	relay.ring = ring;
	relay.options = o;
	list_init(&relay.pairs);
	relay.listener.owner = &relay;
	relay.listener.on_accept = on_accept;
	listener_start(&relay.listener, ring, fd);
	timer_init(&relay.tick, on_tick);
	timer_start(ring, &relay.tick, TICK_MS);
	printf("relay %s\n", socket_local_text(fd, text, sizeof(text)));
	fflush(stdout);
	return ring_run(ring);
}
