/*
 * upstream/redis/node.c - see node.h. What is said before a connection is of use stands in node_hello.c.
 *
 * Callbacks may stop the node or make it fail, so that whoever has called one looks at the state again.
 */
#include "upstream/redis/node.h"

#include "ring/socket.h"

#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <sys/un.h>

/* Plaintext that TLS gives at a time: one record. */
#define PLAIN_BYTES (16 * 1024)

static const struct stream_events stream_events;

#define BIT(n) (1u << (n))

static const uint8_t node_allowed[] = {
	[NODE_STOPPED] = BIT(NODE_RESOLVING),
	[NODE_RESOLVING] = BIT(NODE_CONNECTING) | BIT(NODE_CLOSING),
	[NODE_CONNECTING] = BIT(NODE_HELLO) | BIT(NODE_CLOSING),
	[NODE_HELLO] = BIT(NODE_UP) | BIT(NODE_CLOSING),
	[NODE_UP] = BIT(NODE_CLOSING),
	[NODE_CLOSING] = BIT(NODE_WAITING) | BIT(NODE_STOPPED),
	[NODE_WAITING] = BIT(NODE_RESOLVING) | BIT(NODE_CLOSING),
};

/* The only writer of n->state but for node_init. */
static void node_move(struct node *n, enum node_state to)
{
	ASSERT(node_allowed[n->state] & BIT(to));
	n->state = to;
}

static bool node_has_connection(const struct node *n)
{
	return n->state == NODE_HELLO || n->state == NODE_UP;
}

/* --- calls --- */

struct call {
	struct list node;
	uint64_t deadline_us;
	node_done on_done; /* NULL: it was told that it is late */
	void *ctx;
	uint32_t index;
};

static void call_tell(struct node *n, struct call *c, redisReply *reply)
{
	node_done on_done = c->on_done;

	c->on_done = NULL;
	if (on_done)
		on_done(n, c->ctx, c->index, &reply);
	if (reply)
		freeReplyObject(reply);
}

static struct call *call_oldest(struct node *n)
{
	return list_is_empty(&n->calls) ? NULL : CONTAINER_OF(n->calls.next, struct call, node);
}

static struct call *call_take(struct node *n)
{
	struct call *c = call_oldest(n);

	if (!c)
		return NULL;
	list_del(&c->node);
	n->call_count--;
	return c;
}

/* No reply comes any more. What a callback asks for meanwhile is refused, since the state is CLOSING. */
static void calls_end(struct node *n)
{
	struct call *c;

	while ((c = call_take(n))) {
		call_tell(n, c, NULL);
		free(c);
	}
}

static void on_timer(struct timer *t);

/* The timer of UP stands at the oldest call's deadline or at the next look for silence, whichever is first. */
static void node_watch(struct node *n, uint64_t at_us)
{
	uint64_t now_us = ring_now_us(n->ring);
	uint64_t delay_ms = at_us > now_us ? (at_us - now_us + 999) / 1000 : 0;

	if (!timer_is_started(&n->timer) || n->timer.at_ms > at_us / 1000 + 1)
		timer_start(n->ring, &n->timer, delay_ms);
}

static int out_append(struct node *n, const char *p, size_t bytes)
{
	int rc;

	if (bytes > NODE_OUT_MAX || n->stream.out.bytes > NODE_OUT_MAX - bytes)
		return -EBUSY;
	if (n->tls.ssl)
		rc = tls_write(&n->tls, p, bytes, &n->stream.out);
	else
		rc = chain_append(&n->stream.out, p, bytes);
	if (rc == 0)
		stream_send(&n->stream);
	return rc;
}

static int call_send(struct node *n, int argc, const char **argv, const size_t *bytes, struct call *c)
{
	char *command = NULL;
	long long n_bytes = redisFormatCommandArgv(&command, argc, argv, bytes);
	int rc;

	if (n_bytes < 0)
		return -ENOMEM;
	rc = out_append(n, command, (size_t)n_bytes);
	redisFreeCommand(command);
	if (rc < 0)
		return rc;
	c->deadline_us = ring_now_us(n->ring) + (uint64_t)n->options->timeout_ms * 1000;
	list_add_tail(&n->calls, &c->node);
	n->call_count++;
	if (n->state == NODE_UP)
		node_watch(n, c->deadline_us);
	return 0;
}

static int node_call(struct node *n, int argc, const char **argv, const size_t *bytes, node_done on_done, void *ctx,
		     uint32_t index)
{
	struct call *c;
	int rc;

	if (n->call_count >= NODE_PIPELINE_MAX)
		return -EBUSY;
	c = malloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	*c = (struct call){.on_done = on_done, .ctx = ctx, .index = index};
	list_init(&c->node);
	rc = call_send(n, argc, argv, bytes, c);
	if (rc < 0)
		free(c);
	return rc;
}

int node_send(struct node *n, int argc, const char **argv, const size_t *bytes, node_done on_done, void *ctx,
	      uint32_t index)
{
	return n->state == NODE_UP ? node_call(n, argc, argv, bytes, on_done, ctx, index) : -ENOTCONN;
}

int node_send_unanswered(struct node *n, int argc, const char **argv)
{
	char *command = NULL;
	long long bytes;
	int rc;

	if (n->state != NODE_UP)
		return -ENOTCONN;
	bytes = redisFormatCommandArgv(&command, argc, argv, NULL);
	if (bytes < 0)
		return -ENOMEM;
	rc = out_append(n, command, (size_t)bytes);
	redisFreeCommand(command);
	return rc;
}

int node_send_early(struct node *n, int argc, const char **argv, node_done on_done, uint32_t index)
{
	ASSERT(n->state == NODE_HELLO);
	return node_call(n, argc, argv, NULL, on_done, n, index);
}

/* --- the end of a connection --- */

static void node_begin(struct node *n);

static void node_wait(struct node *n)
{
	uint32_t wait_ms = n->is_hurried ? 0 : n->backoff_ms;

	node_move(n, NODE_WAITING);
	n->is_hurried = false;
	/* So that gateways which lost the same server do not come back in step. */
	if (wait_ms > 0)
		wait_ms -= randombytes_uniform(wait_ms / 2 + 1);
	timer_start(n->ring, &n->timer, wait_ms);
}

static void node_after_close(struct node *n)
{
	tls_deinit(&n->tls);
	reply_reader_deinit(&n->replies);
	if (!n->is_stopping) {
		node_wait(n);
		return;
	}
	node_move(n, NODE_STOPPED);
	n->is_stopping = false;
	n->events->on_stopped(n);
}

/* What is in flight ends now, the rest from the loop. */
static void node_close(struct node *n)
{
	node_move(n, NODE_CLOSING);
	resolve_cancel(&n->resolve);
	timer_stop(n->ring, &n->timer);
	calls_end(n);
	if (n->has_stream)
		stream_close(&n->stream);
	else
		timer_start(n->ring, &n->timer, 0);
}

static void count_backoff(struct node *n, bool was_up)
{
	uint64_t lasted_us = ring_now_us(n->ring) - n->up_us;

	if (was_up && lasted_us >= NODE_STEADY_MS * 1000ULL)
		n->backoff_ms = 0;
	n->backoff_ms = n->backoff_ms == 0 ? NODE_BACKOFF_FIRST_MS : 2 * n->backoff_ms;
	if (n->backoff_ms > NODE_BACKOFF_LAST_MS)
		n->backoff_ms = NODE_BACKOFF_LAST_MS;
}

void node_end(struct node *n, const char *why)
{
	bool was_up = n->state == NODE_UP;

	if (n->state == NODE_STOPPED || n->state == NODE_CLOSING || n->state == NODE_WAITING)
		return;
	n->is_news = was_up || strcmp(n->why, why) != 0;
	snprintf(n->why, sizeof(n->why), "%s", why);
	count_backoff(n, was_up);
	node_close(n);
	if (!n->is_stopping)
		n->events->on_down(n, was_up, n->why);
}

void node_fail(struct node *n, const char *why)
{
	if (n->state == NODE_UP)
		node_end(n, why);
}

void node_stop(struct node *n)
{
	if (n->state == NODE_STOPPED || n->is_stopping)
		return;
	n->is_stopping = true;
	if (n->state == NODE_WAITING)
		timer_stop(n->ring, &n->timer);
	if (n->state != NODE_CLOSING)
		node_close(n);
}

/* --- deadlines and silence --- */

static void on_pong(struct node *n, void *ctx, uint32_t index, redisReply **reply)
{
	if (*reply && (*reply)->type == REDIS_REPLY_ERROR)
		node_judge(n, *reply);
}

static void node_ping(struct node *n)
{
	const char *argv[] = {"PING"};

	/* A pipeline that is full has deadlines of its own. */
	(void)!node_send(n, 1, argv, NULL, on_pong, NULL, 0);
}

/* The first whose deadline has not been told; at most NODE_SLOW_COUNT late ones are before it. */
static struct call *call_awaited(struct node *n)
{
	for (struct list *l = n->calls.next; l != &n->calls; l = l->next) {
		struct call *c = CONTAINER_OF(l, struct call, node);

		if (c->on_done)
			return c;
	}
	return NULL;
}

static void node_look(struct node *n)
{
	uint64_t now_us = ring_now_us(n->ring), silent_us, next_us;
	struct call *c;

	while ((c = call_awaited(n)) && c->deadline_us <= now_us) {
		n->late_count++;
		call_tell(n, c, NULL);
		if (n->state != NODE_UP)
			return;
		if (n->late_count >= NODE_SLOW_COUNT) {
			node_end(n, "it answers too late");
			return;
		}
	}
	silent_us = now_us - n->heard_us;
	if (!c && (silent_us >= NODE_IDLE_MS * 1000ULL || n->late_count > 0))
		node_ping(n);
	c = call_awaited(n);
	next_us = n->heard_us + NODE_IDLE_MS * 1000ULL;
	if (next_us <= now_us)
		next_us = now_us + NODE_IDLE_MS * 1000ULL;
	node_watch(n, c && c->deadline_us < next_us ? c->deadline_us : next_us);
}

static void on_timer(struct timer *t)
{
	struct node *n = CONTAINER_OF(t, struct node, timer);

	switch (n->state) {
	case NODE_RESOLVING:
	case NODE_CONNECTING:
	case NODE_HELLO:
		node_end(n, "no answer in time");
		break;
	case NODE_UP:
		node_look(n);
		break;
	case NODE_CLOSING:
		node_after_close(n);
		break;
	case NODE_WAITING:
		node_begin(n);
		break;
	case NODE_STOPPED:
		break;
	}
}

/* --- making a connection --- */

static void node_connect(struct node *n, const struct sockaddr *addr, socklen_t bytes)
{
	node_move(n, NODE_CONNECTING);
	n->has_stream = true;
	/* The node's own deadline is over all of it. */
	stream_connect(&n->stream, n->ring, addr, bytes, n->options->connect_timeout_ms, &stream_events);
}

static void on_resolved(struct resolve *q)
{
	struct node *n = CONTAINER_OF(q, struct node, resolve);
	const struct resolve_address *a;
	char why[NODE_WHY_MAX];

	if (q->err) {
		snprintf(why, sizeof(why), "%.100s: %s", n->endpoint.host, resolve_explain(q->err));
		node_end(n, why);
		return;
	}
	/* Where one address does not answer, the next try takes the next. */
	a = &q->addresses[n->turn++ % q->count];
	node_connect(n, &a->any, a->bytes);
}

static void node_connect_unix(struct node *n)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	size_t bytes = strlen(n->endpoint.host) + 1;

	ASSERT(bytes <= sizeof(un.sun_path));
	memcpy(un.sun_path, n->endpoint.host, bytes);
	node_connect(n, (const struct sockaddr *)&un, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes));
}

static void node_begin(struct node *n)
{
	node_move(n, NODE_RESOLVING);
	n->late_count = 0;
	n->is_login_sent = false;
	timer_start(n->ring, &n->timer, n->options->connect_timeout_ms);
	if (n->endpoint.port == 0)
		node_connect_unix(n);
	else
		resolve_start(&n->resolve, n->ring, n->endpoint.host, n->endpoint.port, on_resolved);
}

void node_init(struct node *n, struct ring *r, const struct node_options *o, enum node_role role,
	       const struct node_events *events, void *owner)
{
	*n = (struct node){
		.ring = r, .options = o, .role = role, .events = events, .owner = owner, .state = NODE_STOPPED};
	list_init(&n->calls);
	timer_init(&n->timer, on_timer);
	resolve_init(&n->resolve);
}

void node_aim(struct node *n, const struct endpoint *e)
{
	n->endpoint = *e;
	n->turn = 0;
}

void node_point(struct node *n, const struct endpoint *e)
{
	bool is_same = endpoint_is_same(&n->endpoint, e);

	n->endpoint = *e;
	if (n->is_stopping || (is_same && n->state != NODE_STOPPED))
		return;
	n->turn = 0;
	n->backoff_ms = 0;
	n->is_hurried = true;
	switch (n->state) {
	case NODE_STOPPED:
		n->is_hurried = false;
		node_begin(n);
		break;
	case NODE_WAITING:
		n->is_hurried = false;
		timer_start(n->ring, &n->timer, 0);
		break;
	case NODE_CLOSING:
		break;
	default:
		node_end(n, "another server takes its place");
		break;
	}
}

/* --- the stream --- */

static void node_say_hello(struct node *n)
{
	char why[NODE_WHY_MAX];
	int rc;

	if (reply_reader_init(&n->replies) < 0) {
		node_end(n, strerror(ENOMEM));
		return;
	}
	rc = node_hello(n);
	if (rc < 0) {
		snprintf(why, sizeof(why), "HELLO: %s", strerror(-rc));
		node_end(n, why);
	}
}

static void on_connected(struct stream *s, int err)
{
	struct node *n = CONTAINER_OF(s, struct node, stream);
	int rc;

	if (n->state != NODE_CONNECTING)
		return;
	if (err < 0) {
		node_end(n, strerror(-err));
		return;
	}
	(void)socket_tune(s->fd, 0, 0);
	node_move(n, NODE_HELLO);
	stream_recv(s, true);
	if (!n->options->tls) {
		node_say_hello(n);
		return;
	}
	rc = tls_start(&n->tls, n->options->tls, n->endpoint.host, &s->out);
	if (rc < 0)
		node_end(n, "TLS could not be started");
	else
		stream_send(s);
}

void node_is_ready(struct node *n)
{
	node_move(n, NODE_UP);
	n->up_us = n->heard_us = ring_now_us(n->ring);
	n->connect_count++;
	timer_start(n->ring, &n->timer, NODE_IDLE_MS);
	n->events->on_up(n);
}

static void take_reply(struct node *n, redisReply *reply)
{
	struct call *c;

	if (reply->type == REDIS_REPLY_PUSH) {
		if (n->state == NODE_UP)
			n->events->on_push(n, reply);
		freeReplyObject(reply);
		return;
	}
	c = call_take(n);
	if (!c) {
		/* A Sentinel that does not let us subscribe is asked from time to time instead. */
		if (n->role != NODE_SENTINEL || reply->type != REDIS_REPLY_ERROR)
			node_end(n, "an answer to nothing");
		freeReplyObject(reply);
		return;
	}
	if (c->on_done)
		n->late_count = 0;
	call_tell(n, c, reply);
	free(c);
}

static void take_plain(struct node *n, const uint8_t *p, size_t bytes)
{
	redisReply *reply;
	int rc = reply_feed(&n->replies, p, bytes);

	while (rc == 0 && node_has_connection(n)) {
		rc = reply_next(&n->replies, &reply);
		if (rc == 0)
			return;
		if (rc < 0)
			break;
		rc = 0;
		take_reply(n, reply);
	}
	if (rc < 0)
		node_end(n, rc == -EMSGSIZE ? "an answer that is too large"
			    : rc == -EPROTO ? "bytes that are no answer"
					    : strerror(-rc));
}

static void take_tls(struct node *n, const uint8_t *p, size_t bytes)
{
	uint8_t plain[PLAIN_BYTES];
	char why[NODE_WHY_MAX];
	ssize_t got = tls_feed(&n->tls, p, bytes);

	while (got >= 0 && node_has_connection(n)) {
		bool was_up = n->tls.is_up;

		got = tls_read(&n->tls, plain, sizeof(plain), &n->stream.out);
		stream_send(&n->stream);
		if (!was_up && n->tls.is_up)
			node_say_hello(n);
		if (got == 0)
			return;
		if (got > 0 && node_has_connection(n))
			take_plain(n, plain, (size_t)got);
	}
	if (got == -EPIPE)
		node_end(n, "it closed the connection");
	else if (got < 0)
		node_end(n, tls_why(&n->tls, why, sizeof(why)));
}

static void on_recv(struct stream *s, const uint8_t *p, size_t bytes)
{
	struct node *n = CONTAINER_OF(s, struct node, stream);

	if (!node_has_connection(n))
		return;
	n->heard_us = ring_now_us(n->ring);
	if (n->tls.ssl)
		take_tls(n, p, bytes);
	else
		take_plain(n, p, bytes);
}

static void on_recv_end(struct stream *s, int err)
{
	node_end(CONTAINER_OF(s, struct node, stream), err < 0 ? strerror(-err) : "it closed the connection");
}

static void on_sent(struct stream *s, size_t bytes)
{
}

static void on_send_error(struct stream *s, int err)
{
	node_end(CONTAINER_OF(s, struct node, stream), strerror(-err));
}

static void on_closed(struct stream *s)
{
	struct node *n = CONTAINER_OF(s, struct node, stream);

	n->has_stream = false;
	node_after_close(n);
}

static const struct stream_events stream_events = {
	.on_recv = on_recv,
	.on_recv_end = on_recv_end,
	.on_sent = on_sent,
	.on_send_error = on_send_error,
	.on_connected = on_connected,
	.on_closed = on_closed,
};
