/*
 * tests/unit/ring/test_handover.c - a connection moves from one ring's thread to another's in mid-stream, as a login does.
 */
#include "fixture.h"

#include <pthread.h>
#include <sys/socket.h>

#define GREETING 1000
#define BULK (8 * 1024 * 1024)

struct mover {
	struct stream stream;
	struct mail mail;
	struct timer afterwards;
	struct ring *first, *second;
	pthread_t first_thread;
	uint64_t got, sent;
	int moved_fd, detach_err, ended, closed, hops;
};

static void check(struct mover *m, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != test_byte(m->got + i))
			fail_msg("byte %llu is wrong", (unsigned long long)(m->got + i));
	m->got += n;
}

static void second_on_recv(struct stream *s, const uint8_t *p, size_t n)
{
	check(CONTAINER_OF(s, struct mover, stream), p, n);
}

static void second_on_recv_end(struct stream *s, int err)
{
	struct mover *m = CONTAINER_OF(s, struct mover, stream);

	assert_int_equal(err, 0);
	m->ended++;
	stream_close(s);
}

static void on_sent(struct stream *s, size_t n)
{
	CONTAINER_OF(s, struct mover, stream)->sent += n;
}

static void on_send_error(struct stream *s, int err)
{
	fail_msg("send: %s", strerror(-err));
}

static void second_on_closed(struct stream *s)
{
	struct mover *m = CONTAINER_OF(s, struct mover, stream);

	m->closed++;
	ring_stop(m->second);
}

static const struct stream_events second_events = {
	.on_recv = second_on_recv,
	.on_recv_end = second_on_recv_end,
	.on_sent = on_sent,
	.on_send_error = on_send_error,
	.on_closed = second_on_closed,
};

static void on_moved(struct ring *r, struct mail *mail)
{
	struct mover *m = CONTAINER_OF(mail, struct mover, mail);

	assert_ptr_equal(r, m->second);
	m->hops++;
	stream_open(&m->stream, r, m->moved_fd, &second_events);
	stream_recv(&m->stream, true);
	assert_int_equal(chain_append(&m->stream.out, "2", 1), 0);
	stream_send(&m->stream);
}

/* Bytes that come between stream_detach and on_detached are kept: they are not lost and not read twice. */
static void first_on_recv(struct stream *s, const uint8_t *p, size_t n)
{
	struct mover *m = CONTAINER_OF(s, struct mover, stream);
	uint64_t before = m->got;

	check(m, p, n);
	if (before < GREETING && m->got >= GREETING) {
		static const uint8_t reply[300 * 1024] = {'1'};

		/* More than a socket takes at once: the detaching waits for it. */
		assert_int_equal(chain_append(&s->out, reply, sizeof(reply)), 0);
		stream_detach(s);
		stream_detach(s);
	}
}

static void first_on_recv_end(struct stream *s, int err)
{
	fail_msg("it ends on the second ring only");
}

static void first_on_closed(struct stream *s)
{
	fail_msg("it closes on the second ring only");
}

static void first_on_end(struct timer *t)
{
	ring_stop(CONTAINER_OF(t, struct mover, afterwards)->first);
}

static void first_on_detached(struct stream *s, int fd, int err)
{
	struct mover *m = CONTAINER_OF(s, struct mover, stream);

	assert_int_equal(s->out.bytes, 0);
	assert_int_equal(m->sent, 300 * 1024);
	m->moved_fd = fd;
	m->detach_err = err;
	/* It is ours again: whatever of the first ring touched it from now on would show, and that ring runs on. */
	memset(s, 0xdd, sizeof(*s));
	timer_init(&m->afterwards, first_on_end);
	timer_start(m->first, &m->afterwards, 10);
	m->mail.on_mail = on_moved;
	ring_post(m->second, m->first, &m->mail);
}

static const struct stream_events first_events = {
	.on_recv = first_on_recv,
	.on_recv_end = first_on_recv_end,
	.on_sent = on_sent,
	.on_send_error = on_send_error,
	.on_closed = first_on_closed,
	.on_detached = first_on_detached,
};

static void *first_main(void *arg)
{
	struct mover *m = arg;

	assert_int_equal(ring_run(m->first), 0);
	return NULL;
}

/* The client: a thread that writes without pause, and reads the replies. */
static void *client_main(void *arg)
{
	int fd = *(int *)arg;
	static uint8_t data[64 * 1024];
	uint64_t at = 0;

	while (at < BULK) {
		size_t n = BULK - at < sizeof(data) ? BULK - at : sizeof(data);

		for (size_t i = 0; i < n; i++)
			data[i] = test_byte(at + i);
		for (size_t done = 0; done < n;) {
			ssize_t k = write(fd, data + done, n - done);

			assert_true(k > 0);
			done += (size_t)k;
		}
		at += n;
	}
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	return NULL;
}

static void hand_over_once(bool is_tcp)
{
	struct loop l;
	struct mover *m = calloc(1, sizeof(*m));
	pthread_t client;
	int fds[2];
	char first_byte, byte, last = 0;
	uint64_t replies = 0;
	ssize_t n;

	assert_non_null(m);
	loop_init(&l, NULL);
	m->second = l.ring;
	assert_int_equal(ring_new(NULL, &m->first), 0);
	if (is_tcp)
		make_tcp_pair(fds);
	else
		make_pair(fds);
	stream_open(&m->stream, m->first, fds[1], &first_events);
	stream_recv(&m->stream, true);
	assert_int_equal(pthread_create(&client, NULL, client_main, &fds[0]), 0);
	assert_int_equal(pthread_create(&m->first_thread, NULL, first_main, m), 0);
	/* The first ring's thread goes on only as this is read. */
	assert_int_equal(read(fds[0], &first_byte, 1), 1);
	assert_int_equal(first_byte, '1');
	replies = 1;
	while (replies < 300 * 1024) {
		char buf[4096];
		size_t want = 300 * 1024 - replies < sizeof(buf) ? 300 * 1024 - replies : sizeof(buf);

		n = read(fds[0], buf, want);
		assert_true(n > 0);
		replies += (uint64_t)n;
	}
	loop_run(&l);
	while ((n = read(fds[0], &byte, 1)) > 0)
		last = byte;
	assert_int_equal(last, '2');
	assert_int_equal(pthread_join(client, NULL), 0);
	assert_int_equal(pthread_join(m->first_thread, NULL), 0);
	assert_int_equal(m->hops, 1);
	assert_int_equal(m->detach_err, 0);
	assert_int_equal(m->got, BULK);
	assert_int_equal(m->ended, 1);
	assert_int_equal(m->closed, 1);
	close(fds[0]);
	ring_free(m->first);
	loop_deinit(&l);
	free(m);
}

static void test_hand_over(void **state)
{
	for (int i = 0; i < 10; i++)
		hand_over_once(i % 2);
}

/* ---- A peer that does not read keeps detaching waiting; closing ends that ---- */

struct stuck {
	struct stream stream;
	struct timer timer;
	int closed, detached;
};

static void stuck_on_recv(struct stream *s, const uint8_t *p, size_t n)
{
}

static void stuck_on_recv_end(struct stream *s, int err)
{
}

static void stuck_on_sent(struct stream *s, size_t n)
{
}

static void stuck_on_closed(struct stream *s)
{
	CONTAINER_OF(s, struct stuck, stream)->closed++;
	ring_stop(s->ring);
}

static void stuck_on_detached(struct stream *s, int fd, int err)
{
	CONTAINER_OF(s, struct stuck, stream)->detached++;
}

static const struct stream_events stuck_events = {
	.on_recv = stuck_on_recv,
	.on_recv_end = stuck_on_recv_end,
	.on_sent = stuck_on_sent,
	.on_send_error = on_send_error,
	.on_closed = stuck_on_closed,
	.on_detached = stuck_on_detached,
};

static void stuck_on_timer(struct timer *t)
{
	struct stuck *s = CONTAINER_OF(t, struct stuck, timer);

	assert_int_equal(s->detached, 0);
	stream_close(&s->stream);
}

static void test_close_while_detaching(void **state)
{
	static const uint8_t data[1024 * 1024];
	struct stuck s = {0};
	struct loop l;
	int fds[2];

	loop_init(&l, NULL);
	make_pair(fds);
	stream_open(&s.stream, l.ring, fds[0], &stuck_events);
	stream_recv(&s.stream, true);
	assert_int_equal(chain_append(&s.stream.out, data, sizeof(data)), 0);
	stream_detach(&s.stream);
	timer_init(&s.timer, stuck_on_timer);
	timer_start(l.ring, &s.timer, 30);
	loop_run(&l);
	assert_int_equal(s.closed, 1);
	assert_int_equal(s.detached, 0);
	close(fds[1]);
	loop_deinit(&l);
}

/* ---- What is detached is the caller's at once: freed here ---- */

#define LEAVERS 50

struct leavers {
	struct loop loop;
	struct timer leave, end;
	struct stream *streams[LEAVERS];
	int count;
};

static struct leavers leavers;

static void leaver_on_detached(struct stream *s, int fd, int err)
{
	assert_int_equal(err, 0);
	leavers.count++;
	close(fd);
	free(s);
}

static const struct stream_events leaver_events = {
	.on_recv = stuck_on_recv,
	.on_recv_end = stuck_on_recv_end,
	.on_sent = stuck_on_sent,
	.on_send_error = on_send_error,
	.on_detached = leaver_on_detached,
};

/* By now each waits for bytes. */
static void on_leave(struct timer *t)
{
	for (int i = 0; i < LEAVERS; i++)
		stream_detach(leavers.streams[i]);
	assert_int_equal(leavers.count, 0);
	timer_start(leavers.loop.ring, &leavers.end, 20);
}

static void on_leave_end(struct timer *t)
{
	ring_stop(leavers.loop.ring);
}

static void test_detached_memory_is_free(void **state)
{
	int fds[2], peers[LEAVERS];

	memset(&leavers, 0, sizeof(leavers));
	loop_init(&leavers.loop, NULL);
	for (int i = 0; i < LEAVERS; i++) {
		make_pair(fds);
		peers[i] = fds[1];
		leavers.streams[i] = calloc(1, sizeof(struct stream));
		assert_non_null(leavers.streams[i]);
		stream_open(leavers.streams[i], leavers.loop.ring, fds[0], &leaver_events);
		stream_recv(leavers.streams[i], true);
	}
	timer_init(&leavers.leave, on_leave);
	timer_init(&leavers.end, on_leave_end);
	timer_start(leavers.loop.ring, &leavers.leave, 10);
	loop_run(&leavers.loop);
	assert_int_equal(leavers.count, LEAVERS);
	for (int i = 0; i < LEAVERS; i++)
		close(peers[i]);
	loop_deinit(&leavers.loop);
}

/* ---- After the peer's end ---- */

static void eof_on_recv_end(struct stream *s, int err)
{
	assert_int_equal(err, 0);
	CONTAINER_OF(s, struct stuck, stream)->closed++;
	stream_detach(s);
}

static void eof_on_detached(struct stream *s, int fd, int err)
{
	assert_int_equal(err, 0);
	CONTAINER_OF(s, struct stuck, stream)->detached++;
	close(fd);
	ring_stop(s->ring);
}

static const struct stream_events eof_events = {
	.on_recv = stuck_on_recv,
	.on_recv_end = eof_on_recv_end,
	.on_sent = stuck_on_sent,
	.on_send_error = on_send_error,
	.on_detached = eof_on_detached,
};

static void test_detach_after_eof(void **state)
{
	struct stuck s = {0};
	struct loop l;
	int fds[2];

	loop_init(&l, NULL);
	make_pair(fds);
	assert_int_equal(shutdown(fds[1], SHUT_WR), 0);
	stream_open(&s.stream, l.ring, fds[0], &eof_events);
	stream_recv(&s.stream, true);
	loop_run(&l);
	assert_int_equal(s.closed, 1);
	assert_int_equal(s.detached, 1);
	close(fds[1]);
	loop_deinit(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hand_over),
		cmocka_unit_test(test_close_while_detaching),
		cmocka_unit_test(test_detached_memory_is_free),
		cmocka_unit_test(test_detach_after_eof),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
