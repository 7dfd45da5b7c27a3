/*
 * Bulk that comes in small writes may wait for more of it, for a moment: nothing is left lying, and whoever waits for an answer does not pay
 * each time.
 */
#include "fixture.h"

#include <pthread.h>
#include <time.h>

#define ROUNDS 400
#define PIECE_BYTES (32 * 1024)

static struct {
	struct loop loop;
	struct stream stream;
	int peer;
	uint32_t piece_bytes, rest_bytes; /* of a round; the rest comes a little later */
	uint32_t rounds, got;
} t;

static void finish(void)
{
	stream_close(&t.stream);
}

static void on_recv(struct stream *s, const uint8_t *p, size_t n)
{
	t.got += (uint32_t)n;
	assert_true(t.got <= t.piece_bytes + t.rest_bytes);
	if (t.got < t.piece_bytes + t.rest_bytes)
		return;
	t.got = 0;
	assert_int_equal(chain_append(&s->out, "a", 1), 0);
	stream_send(s);
	if (++t.rounds == ROUNDS)
		finish();
}

static void on_recv_end(struct stream *s, int err)
{
	fail_msg("the peer ended");
}

static void on_sent(struct stream *s, size_t n)
{
}

static void on_send_error(struct stream *s, int err)
{
	fail_msg("sending failed");
}

static void on_closed(struct stream *s)
{
	ring_stop(t.loop.ring);
}

static const struct stream_events events = {
	.on_recv = on_recv,
	.on_recv_end = on_recv_end,
	.on_sent = on_sent,
	.on_send_error = on_send_error,
	.on_closed = on_closed,
};

static void put(const uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t done = write(t.peer, p, n);

		if (done <= 0)
			return; /* it is over */
		p += done;
		n -= (size_t)done;
	}
}

/* Sends nothing more before it is answered. */
static void *peer_main(void *arg)
{
	static const uint8_t bytes[PIECE_BYTES];
	const struct timespec pause = {.tv_nsec = 500000};
	uint8_t answer;

	for (int i = 0; i < ROUNDS; i++) {
		put(bytes, t.piece_bytes);
		if (t.rest_bytes > 0) {
			(void)nanosleep(&pause, NULL);
			put(bytes, t.rest_bytes);
		}
		if (i < ROUNDS - 1 && read(t.peer, &answer, 1) != 1)
			break;
	}
	return NULL;
}

/* How often the loop waited for more than one completion. */
static uint64_t run(bool gathers, uint32_t piece_bytes, uint32_t rest_bytes)
{
	pthread_t thread;
	uint64_t count;
	int fds[2];

	memset(&t, 0, sizeof(t));
	t.piece_bytes = piece_bytes;
	t.rest_bytes = rest_bytes;
	loop_init(&t.loop, NULL);
	make_tcp_pair(fds);
	t.peer = fds[1];
	stream_open(&t.stream, t.loop.ring, fds[0], &events);
	t.stream.gathers = gathers;
	stream_recv(&t.stream, true);
	assert_int_equal(pthread_create(&thread, NULL, peer_main, NULL), 0);
	loop_run(&t.loop);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(t.rounds, ROUNDS);
	count = ring_stats(t.loop.ring)->gathers;
	close(t.peer);
	loop_deinit(&t.loop);
	return count;
}

/* One piece, and then nothing before it is answered: waiting brings nothing and is soon left out. */
static void test_whoever_waits_for_an_answer(void **state)
{
	(void)state;
	assert_true(run(true, PIECE_BYTES, 0) < ROUNDS / 4);
}

/* A rest of a byte behind it is there long before as many completions are. */
static void test_a_short_rest(void **state)
{
	(void)state;
	assert_true(run(true, PIECE_BYTES, 1) < ROUNDS);
}

static void test_keystrokes_never_wait(void **state)
{
	(void)state;
	assert_int_equal(run(true, 1, 0), 0);
	assert_int_equal(run(true, 1000, 1), 0);
}

static void test_only_where_it_is_asked_for(void **state)
{
	(void)state;
	assert_int_equal(run(false, PIECE_BYTES, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whoever_waits_for_an_answer),
		cmocka_unit_test(test_a_short_rest),
		cmocka_unit_test(test_keystrokes_never_wait),
		cmocka_unit_test(test_only_where_it_is_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
