/*
 * tests/unit/ring/test_stream.c - streams: bytes arrive exact and in order, and everything ends at its time.
 */
#include "fixture.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

#define MIB (1024 * 1024)

/* One end of a connection: sends test bytes, checks what it receives, or echoes it. */
struct end {
	struct stream stream;
	struct loop *loop;
	uint32_t seed;
	bool is_echo;
	uint64_t to_send, queued, sent, got;
	uint32_t recv_calls, recv_ends, send_errors, closes, detaches, connects;
	int recv_err, send_err, connect_err, detach_err, fd;
	/* What happens when: called after the figures were updated. */
	void (*on_change)(struct end *e);
	void *user;
};

static struct end *end_of(struct stream *s)
{
	return CONTAINER_OF(s, struct end, stream);
}

static void end_changed(struct end *e)
{
	if (e->on_change)
		e->on_change(e);
}

/* Keeps up to 1 MiB queued, in pieces of random size. */
static void end_fill(struct end *e)
{
	static uint8_t piece[100 * 1024];

	while (e->queued < e->to_send && e->stream.out.bytes < MIB) {
		size_t n = 1 + test_random(&e->seed) % (test_random(&e->seed) % 4 ? 3000 : sizeof(piece));

		if (n > e->to_send - e->queued)
			n = (size_t)(e->to_send - e->queued);
		for (size_t i = 0; i < n; i++)
			piece[i] = test_byte(e->queued + i);
		assert_int_equal(chain_append(&e->stream.out, piece, n), 0);
		e->queued += n;
	}
	stream_send(&e->stream);
	if (e->queued == e->to_send && e->to_send > 0 && !e->is_echo)
		stream_shutdown(&e->stream);
}

static void on_recv(struct stream *s, const uint8_t *p, size_t n)
{
	struct end *e = end_of(s);

	assert_true(n > 0);
	assert_int_equal(e->recv_ends, 0);
	assert_int_equal(e->closes, 0);
	e->recv_calls++;
	for (size_t i = 0; i < n; i++)
		if (p[i] != test_byte(e->got + i))
			fail_msg("byte %llu is wrong", (unsigned long long)(e->got + i));
	e->got += n;
	if (e->is_echo) {
		assert_int_equal(chain_append(&s->out, p, n), 0);
		stream_send(s);
		if (s->out.bytes > MIB)
			stream_recv(s, false);
	}
	end_changed(e);
}

static void on_recv_end(struct stream *s, int err)
{
	struct end *e = end_of(s);

	e->recv_ends++;
	e->recv_err = err;
	if (e->is_echo)
		stream_shutdown(s);
	end_changed(e);
}

static void on_sent(struct stream *s, size_t n)
{
	struct end *e = end_of(s);

	e->sent += n;
	if (e->is_echo) {
		if (s->out.bytes < MIB / 2)
			stream_recv(s, true);
	} else {
		end_fill(e);
	}
	end_changed(e);
}

static void on_send_error(struct stream *s, int err)
{
	struct end *e = end_of(s);

	e->send_errors++;
	e->send_err = err;
	assert_int_equal(s->out.bytes, 0);
	end_changed(e);
}

static void on_connected(struct stream *s, int err)
{
	struct end *e = end_of(s);

	e->connects++;
	e->connect_err = err;
	end_changed(e);
}

static void on_closed(struct stream *s)
{
	struct end *e = end_of(s);

	e->closes++;
	end_changed(e);
}

static void on_detached(struct stream *s, int fd, int err)
{
	struct end *e = end_of(s);

	e->detaches++;
	e->fd = fd;
	e->detach_err = err;
	end_changed(e);
}

static const struct stream_events events = {
	.on_recv = on_recv,
	.on_recv_end = on_recv_end,
	.on_sent = on_sent,
	.on_send_error = on_send_error,
	.on_connected = on_connected,
	.on_closed = on_closed,
	.on_detached = on_detached,
};

static struct end *end_new(struct loop *l, void (*on_change)(struct end *e))
{
	struct end *e = calloc(1, sizeof(*e));

	assert_non_null(e);
	e->loop = l;
	e->seed = 0x2545f491;
	e->on_change = on_change;
	e->fd = -1;
	return e;
}

static struct end *end_open(struct loop *l, int fd, void (*on_change)(struct end *e))
{
	struct end *e = end_new(l, on_change);

	stream_open(&e->stream, l->ring, fd, &events);
	return e;
}

/* A test's two ends. */
struct two {
	struct loop loop;
	int fds[2];
	struct end *a, *b;
};

static void two_init(struct two *t, const struct ring_options *o, bool is_tcp, void (*on_change)(struct end *e))
{
	loop_init(&t->loop, o);
	if (is_tcp)
		make_tcp_pair(t->fds);
	else
		make_pair(t->fds);
	t->a = end_open(&t->loop, t->fds[0], on_change);
	t->b = end_open(&t->loop, t->fds[1], on_change);
	t->a->user = t->b->user = t;
}

static void stop_when_both_closed(struct two *t)
{
	if (t->a->closes && t->b->closes)
		ring_stop(t->loop.ring);
}

static void two_deinit(struct two *t)
{
	assert_int_equal(t->a->closes, 1);
	assert_int_equal(t->b->closes, 1);
	free(t->a);
	free(t->b);
	loop_deinit(&t->loop);
}

/* ---- Bytes there and back ---- */

static void echo_changed(struct end *e)
{
	struct two *t = e->user;

	if (t->a->recv_ends && t->b->recv_ends && !t->a->stream.out.bytes && !t->b->stream.out.bytes) {
		stream_close(&t->a->stream);
		stream_close(&t->b->stream);
	}
	stop_when_both_closed(t);
}

static void echo(const struct ring_options *o, bool is_tcp, uint64_t bytes)
{
	struct two t;

	two_init(&t, o, is_tcp, echo_changed);
	t.b->is_echo = true;
	t.a->to_send = bytes;
	stream_recv(&t.a->stream, true);
	stream_recv(&t.b->stream, true);
	end_fill(t.a);
	loop_run(&t.loop);
	assert_int_equal(t.a->got, bytes);
	assert_int_equal(t.b->got, bytes);
	assert_int_equal(t.a->sent, bytes);
	assert_int_equal(t.b->sent, bytes);
	assert_int_equal(t.a->recv_err, 0);
	assert_int_equal(t.a->recv_ends, 1);
	assert_int_equal(t.b->recv_ends, 1);
	assert_int_equal(ring_stats(t.loop.ring)->recv_bytes, 2 * bytes);
	assert_int_equal(ring_stats(t.loop.ring)->send_bytes, 2 * bytes);
	two_deinit(&t);
}

static void test_echo_unix(void **state)
{
	echo(NULL, false, 32 * MIB + 1);
}

static void test_echo_tcp(void **state)
{
	echo(NULL, true, 32 * MIB + 1);
}

static void test_echo_one_byte(void **state)
{
	echo(NULL, true, 1);
}

/* Two buffers of 512 bytes: receiving starves all the time and must go on each time. */
static void test_echo_starving(void **state)
{
	echo(&(struct ring_options){.recv_buffer_count = 2, .recv_buffer_bytes = 512}, true, 4 * MIB);
}

static void test_echo_smallest_queue(void **state)
{
	echo(&(struct ring_options){.sq_entries = 1}, true, 4 * MIB);
}

/* O_NONBLOCK changes nothing: no EAGAIN comes back, and no busy loop. */
static void test_nonblocking_socket(void **state)
{
	struct two t;

	two_init(&t, NULL, true, echo_changed);
	for (int i = 0; i < 2; i++)
		assert_int_equal(fcntl(t.fds[i], F_SETFL, fcntl(t.fds[i], F_GETFL) | O_NONBLOCK), 0);
	t.b->is_echo = true;
	t.a->to_send = 8 * MIB;
	stream_recv(&t.a->stream, true);
	stream_recv(&t.b->stream, true);
	end_fill(t.a);
	loop_run(&t.loop);
	assert_int_equal(t.a->got, 8 * MIB);
	assert_true(ring_stats(t.loop.ring)->completions < 10000);
	two_deinit(&t);
}

/* ---- Many streams on few buffers ---- */

#define CROWD 50

struct crowd {
	struct loop loop;
	struct end *tx[CROWD], *rx[CROWD];
	int closes;
};

static void crowd_changed(struct end *e)
{
	struct crowd *c = e->user;

	if (e->closes && ++c->closes == 2 * CROWD)
		ring_stop(c->loop.ring);
	if (!e->closes && e->recv_ends && e->got > 0) {
		for (int i = 0; i < CROWD; i++) {
			if (c->rx[i] == e) {
				stream_close(&e->stream);
				stream_close(&c->tx[i]->stream);
			}
		}
	}
}

static void test_crowd_on_few_buffers(void **state)
{
	struct crowd c = {0};
	int fds[2];

	loop_init(&c.loop, &(struct ring_options){.recv_buffer_count = 4, .recv_buffer_bytes = 4096});
	for (int i = 0; i < CROWD; i++) {
		make_pair(fds);
		c.tx[i] = end_open(&c.loop, fds[0], crowd_changed);
		c.rx[i] = end_open(&c.loop, fds[1], crowd_changed);
		c.tx[i]->user = c.rx[i]->user = &c;
		c.tx[i]->to_send = 300 * 1000;
		end_fill(c.tx[i]);
		stream_recv(&c.rx[i]->stream, true);
	}
	loop_run(&c.loop);
	for (int i = 0; i < CROWD; i++) {
		assert_int_equal(c.rx[i]->got, 300 * 1000);
		assert_int_equal(c.rx[i]->recv_err, 0);
		free(c.tx[i]);
		free(c.rx[i]);
	}
	assert_true(ring_stats(c.loop.ring)->recv_no_buffer > 0);
	loop_deinit(&c.loop);
}

/* ---- Backpressure, pause ---- */

struct pause {
	struct two two;
	struct timer timer;
	uint64_t got_before;
	int step;
};

static void pause_changed(struct end *e)
{
	struct pause *p = CONTAINER_OF(e->user, struct pause, two);

	if (e == p->two.b && p->step == 0 && e->got > 0) {
		/* On and off again in one batch, then off. */
		stream_recv(&e->stream, false);
		stream_recv(&e->stream, true);
		stream_recv(&e->stream, false);
		p->step = 1;
		timer_start(p->two.loop.ring, &p->timer, 30);
	}
	if (p->step == 3)
		echo_changed(e);
}

static void pause_on_timer(struct timer *t)
{
	struct pause *p = CONTAINER_OF(t, struct pause, timer);
	struct end *b = p->two.b;

	switch (p->step++) {
	case 1:
		p->got_before = b->got;
		timer_start(p->two.loop.ring, t, 50);
		break;
	case 2:
		/* Nothing came in 50 ms, and the sender is held up: its socket and ours are full. */
		assert_int_equal(b->got, p->got_before);
		assert_true(p->two.a->sent < p->two.a->to_send);
		assert_true(p->two.a->stream.out.bytes > 0);
		stream_recv(&b->stream, true);
		break;
	}
}

static void test_pause_and_backpressure(void **state)
{
	struct pause p = {0};

	two_init(&p.two, NULL, true, pause_changed);
	timer_init(&p.timer, pause_on_timer);
	p.two.a->to_send = 64 * MIB;
	p.two.b->to_send = 1;
	stream_recv(&p.two.a->stream, true);
	stream_recv(&p.two.b->stream, true);
	end_fill(p.two.a);
	end_fill(p.two.b);
	loop_run(&p.two.loop);
	assert_int_equal(p.two.b->got, 64 * MIB);
	assert_int_equal(p.two.b->recv_err, 0);
	two_deinit(&p.two);
}

/* ---- Half-close ---- */

static void half_changed(struct end *e)
{
	struct two *t = e->user;

	/* b answers only after a's end. */
	if (e == t->b && e->recv_ends && !e->queued) {
		e->to_send = 3 * MIB;
		end_fill(e);
	}
	echo_changed(e);
}

static void test_send_after_eof(void **state)
{
	struct two t;

	two_init(&t, NULL, true, half_changed);
	t.a->to_send = 10;
	stream_recv(&t.a->stream, true);
	stream_recv(&t.b->stream, true);
	end_fill(t.a);
	loop_run(&t.loop);
	assert_int_equal(t.b->got, 10);
	assert_int_equal(t.a->got, 3 * MIB);
	two_deinit(&t);
}

/* ---- Closing ---- */

static void close_midway(struct end *e)
{
	struct two *t = e->user;

	if (e->closes) {
		stop_when_both_closed(t);
		return;
	}
	if (e == t->b && e->got > 100 * 1000) {
		/* Its own and the other, both with operations in flight, and completions of the other perhaps in this batch. */
		uint32_t before = t->a->closes + t->b->closes;

		stream_close(&t->a->stream);
		stream_close(&t->b->stream);
		stream_close(&t->b->stream);
		assert_int_equal(t->a->closes + t->b->closes, before);
	}
}

static void test_close_both_in_callback(void **state)
{
	for (int tcp = 0; tcp < 2; tcp++) {
		struct two t;

		two_init(&t, NULL, tcp, close_midway);
		t.a->to_send = t.b->to_send = 16 * MIB;
		stream_recv(&t.a->stream, true);
		stream_recv(&t.b->stream, true);
		end_fill(t.a);
		end_fill(t.b);
		loop_run(&t.loop);
		/* Nothing came after the close. */
		assert_true(t.b->got < 16 * MIB);
		two_deinit(&t);
	}
}

/* Streams that free themselves in on_closed, and now and then close another one in whichever callback comes. */
struct killers {
	struct loop loop;
	struct timer afterwards;
	struct end *ends[64];
	int left;
};

static void killer_changed(struct end *e)
{
	struct killers *k = e->user;

	if (e->closes) {
		for (int i = 0; i < 64; i++)
			if (k->ends[i] == e)
				k->ends[i] = NULL;
		free(e);
		/* It runs on, so that a completion that comes too late finds freed memory. */
		if (--k->left == 0)
			timer_start(k->loop.ring, &k->afterwards, 3);
		return;
	}
	if (e->recv_ends)
		stream_close(&e->stream);
	if (test_random(&e->seed) % 8 == 0) {
		struct end *victim = k->ends[test_random(&e->seed) % 64];

		if (victim)
			stream_close(&victim->stream);
	}
}

static void killers_on_end(struct timer *t)
{
	ring_stop(CONTAINER_OF(t, struct killers, afterwards)->loop.ring);
}

static void test_close_others_in_same_batch(void **state)
{
	for (uint32_t round = 1; round <= 4; round++) {
		struct killers k = {.left = 64};
		int fds[2];

		loop_init(&k.loop, &(struct ring_options){.recv_buffer_count = 8, .recv_buffer_bytes = 1024});
		timer_init(&k.afterwards, killers_on_end);
		for (int i = 0; i < 64; i += 2) {
			make_pair(fds);
			for (int j = 0; j < 2; j++) {
				struct end *e = k.ends[i + j] = end_open(&k.loop, fds[j], killer_changed);

				e->seed = round * 1000 + (uint32_t)(i + j);
				e->user = &k;
				e->to_send = MIB;
				end_fill(e);
				stream_recv(&e->stream, true);
			}
		}
		loop_run(&k.loop);
		loop_deinit(&k.loop);
	}
}

/* ---- Closing with a send in flight ---- */

struct unread {
	struct timer timer;
	struct end *end;
};

static void unread_on_timer(struct timer *t)
{
	struct unread *u = CONTAINER_OF(t, struct unread, timer);
	struct chunk_pool *pool = ring_pool(u->end->loop->ring);

	assert_true(u->end->stream.out.bytes > 0);
	stream_close(&u->end->stream);
	/* The kernel may still be reading from the chunks. */
	assert_true(pool->used_count > 0);
}

static void unread_changed(struct end *e)
{
	if (!e->closes)
		return;
	assert_int_equal(ring_pool(e->loop->ring)->used_count, 0);
	ring_stop(e->loop->ring);
}

static void test_close_keeps_what_is_in_flight(void **state)
{
	struct unread u;
	struct loop l;
	int fds[2];

	loop_init(&l, NULL);
	make_pair(fds);
	u.end = end_open(&l, fds[0], unread_changed);
	u.end->to_send = 16 * MIB;
	end_fill(u.end);
	timer_init(&u.timer, unread_on_timer);
	timer_start(l.ring, &u.timer, 20);
	loop_run(&l);
	assert_int_equal(u.end->closes, 1);
	close(fds[1]);
	free(u.end);
	loop_deinit(&l);
}

static void close_ignored(struct end *e)
{
	ring_stop(e->loop->ring);
}

/* Closed before the ring ever ran, and while connecting. */
static void test_close_at_once(void **state)
{
	struct sockaddr_storage addr;
	socklen_t bytes;
	struct loop l;
	struct end *e;
	int fds[2], listener = make_listener(5, &addr, &bytes);

	loop_init(&l, NULL);
	make_pair(fds);
	e = end_open(&l, fds[0], close_ignored);
	stream_recv(&e->stream, true);
	assert_int_equal(chain_append(&e->stream.out, "x", 1), 0);
	stream_send(&e->stream);
	stream_close(&e->stream);
	assert_int_equal(e->closes, 0);
	loop_run(&l);
	assert_int_equal(e->closes, 1);
	assert_int_equal(e->got + e->sent, 0);
	/* Its descriptor is closed. */
	assert_int_equal(read(fds[1], &(char){0}, 1), 0);
	stream_connect(&e->stream, l.ring, (struct sockaddr *)&addr, bytes, 1000, &events);
	stream_close(&e->stream);
	loop_run(&l);
	assert_int_equal(e->closes, 2);
	assert_int_equal(e->connects, 0);
	close(fds[1]);
	close(listener);
	free(e);
	loop_deinit(&l);
}

/* ---- Errors ---- */

static void reset_changed(struct end *e)
{
	if (e->closes)
		ring_stop(e->loop->ring);
	else if (e->recv_ends && e->send_errors)
		stream_close(&e->stream);
}

static void test_peer_resets(void **state)
{
	struct loop l;
	struct end *e;
	struct linger linger = {.l_onoff = 1, .l_linger = 0};
	int fds[2];

	loop_init(&l, NULL);
	make_tcp_pair(fds);
	e = end_open(&l, fds[0], reset_changed);
	e->to_send = 64 * MIB;
	end_fill(e);
	stream_recv(&e->stream, true);
	assert_int_equal(setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	close(fds[1]);
	loop_run(&l);
	assert_int_equal(e->send_errors, 1);
	assert_int_equal(e->recv_ends, 1);
	/* The socket tells its error once: to the one, and the other sees its end. */
	assert_true(e->send_err == -ECONNRESET || e->send_err == -EPIPE);
	assert_true(e->recv_err == -ECONNRESET || e->recv_err == 0);
	assert_int_equal(e->closes, 1);
	free(e);
	loop_deinit(&l);
}

/* ---- Connecting ---- */

static void connect_changed(struct end *e)
{
	if (e->closes)
		ring_stop(e->loop->ring);
	else if (e->connect_err)
		stream_close(&e->stream);
}

static void test_connect_refused(void **state)
{
	struct sockaddr_storage addr;
	socklen_t bytes;
	struct loop l;
	struct end *e;

	loop_init(&l, NULL);
	close(make_listener(1, &addr, &bytes));
	e = end_new(&l, connect_changed);
	stream_connect(&e->stream, l.ring, (struct sockaddr *)&addr, bytes, 5000, &events);
	assert_int_equal(e->connects, 0);
	loop_run(&l);
	assert_int_equal(e->connects, 1);
	assert_int_equal(e->connect_err, -ECONNREFUSED);
	free(e);
	loop_deinit(&l);
}

static void test_connect_bad_family(void **state)
{
	struct sockaddr_storage addr = {.ss_family = 250};
	struct loop l;
	struct end *e;

	loop_init(&l, NULL);
	e = end_new(&l, connect_changed);
	stream_connect(&e->stream, l.ring, (struct sockaddr *)&addr, sizeof(addr), 5000, &events);
	assert_int_equal(e->connects, 0);
	loop_run(&l);
	assert_int_equal(e->connect_err, -EAFNOSUPPORT);
	free(e);
	loop_deinit(&l);
}

/* A listener whose backlog is full drops SYNs. */
static void test_connect_timeout(void **state)
{
	struct sockaddr_storage addr;
	socklen_t bytes;
	struct loop l;
	struct end *e;
	int fillers[16];
	uint64_t begin_us, took_ms;
	int listener = make_listener(0, &addr, &bytes);

	for (size_t i = 0; i < ARRAY_LEN(fillers); i++) {
		fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)!connect(fillers[i], (struct sockaddr *)&addr, bytes);
	}
	loop_init(&l, NULL);
	e = end_new(&l, connect_changed);
	begin_us = ring_now_us(l.ring);
	stream_connect(&e->stream, l.ring, (struct sockaddr *)&addr, bytes, 100, &events);
	loop_run(&l);
	took_ms = (ring_now_us(l.ring) - begin_us) / 1000;
	assert_int_equal(e->connects, 1);
	assert_int_equal(e->connect_err, -ETIMEDOUT);
	assert_true(took_ms >= 100 && took_ms < 10000);
	for (size_t i = 0; i < ARRAY_LEN(fillers); i++)
		close(fillers[i]);
	close(listener);
	free(e);
	loop_deinit(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_echo_unix),
		cmocka_unit_test(test_echo_tcp),
		cmocka_unit_test(test_echo_one_byte),
		cmocka_unit_test(test_echo_starving),
		cmocka_unit_test(test_echo_smallest_queue),
		cmocka_unit_test(test_nonblocking_socket),
		cmocka_unit_test(test_crowd_on_few_buffers),
		cmocka_unit_test(test_pause_and_backpressure),
		cmocka_unit_test(test_send_after_eof),
		cmocka_unit_test(test_close_both_in_callback),
		cmocka_unit_test(test_close_others_in_same_batch),
		cmocka_unit_test(test_close_keeps_what_is_in_flight),
		cmocka_unit_test(test_close_at_once),
		cmocka_unit_test(test_peer_resets),
		cmocka_unit_test(test_connect_refused),
		cmocka_unit_test(test_connect_bad_family),
		cmocka_unit_test(test_connect_timeout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
