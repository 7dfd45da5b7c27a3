/*
 * A byte on a quiet stream does not wait for what busy ones have brought.
 */
#include "fixture.h"

#define BUSY 8
#define PINGS 40
/* Between two bytes of the quiet stream. */
#define APART_BYTES (4u << 20)
/* What is left of a quantum, a whole one, and the one in which the kernel reported the byte. */
#define WAIT_MAX_BYTES (3 * 256 * 1024)

struct busy {
	struct stream rx, tx;
};

static struct {
	struct loop loop;
	struct busy busy[BUSY];
	struct stream quiet;
	int quiet_peer;
	uint64_t busy_bytes, pinged_at, worst;
	uint32_t pings, closes;
	bool is_waiting;
} t;

static uint8_t junk[64 * 1024];

static void end_all(void)
{
	for (int i = 0; i < BUSY; i++) {
		stream_close(&t.busy[i].rx);
		stream_close(&t.busy[i].tx);
	}
	stream_close(&t.quiet);
}

static void on_busy_recv(struct stream *s, const uint8_t *p, size_t n)
{
	t.busy_bytes += n;
	if (!t.is_waiting && t.pings < PINGS && t.busy_bytes >= t.pinged_at + APART_BYTES) {
		t.is_waiting = true;
		t.pinged_at = t.busy_bytes;
		assert_int_equal(write(t.quiet_peer, "x", 1), 1);
	}
}

static void fill(struct stream *s)
{
	while (s->out.bytes < 16 * sizeof(junk))
		assert_int_equal(chain_append(&s->out, junk, sizeof(junk)), 0);
	stream_send(s);
}

static void on_busy_sent(struct stream *s, size_t n)
{
	fill(s);
}

static void on_quiet_recv(struct stream *s, const uint8_t *p, size_t n)
{
	uint64_t waited = t.busy_bytes - t.pinged_at;

	assert_true(t.is_waiting);
	t.is_waiting = false;
	t.worst = waited > t.worst ? waited : t.worst;
	if (++t.pings == PINGS)
		end_all();
}

static void on_recv_end(struct stream *s, int err)
{
}

static void on_send_error(struct stream *s, int err)
{
}

static void on_sent(struct stream *s, size_t n)
{
}

static void on_closed(struct stream *s)
{
	if (++t.closes == 2 * BUSY + 1)
		ring_stop(t.loop.ring);
}

static const struct stream_events busy_events = {
	.on_recv = on_busy_recv,
	.on_recv_end = on_recv_end,
	.on_sent = on_busy_sent,
	.on_send_error = on_send_error,
	.on_closed = on_closed,
};

static const struct stream_events quiet_events = {
	.on_recv = on_quiet_recv,
	.on_recv_end = on_recv_end,
	.on_sent = on_sent,
	.on_send_error = on_send_error,
	.on_closed = on_closed,
};

static void test_quiet_stream_goes_first(void **state)
{
	int fds[2];

	loop_init(&t.loop, NULL);
	for (int i = 0; i < BUSY; i++) {
		make_tcp_pair(fds);
		stream_open(&t.busy[i].rx, t.loop.ring, fds[0], &busy_events);
		stream_open(&t.busy[i].tx, t.loop.ring, fds[1], &busy_events);
		stream_recv(&t.busy[i].rx, true);
		fill(&t.busy[i].tx);
	}
	make_tcp_pair(fds);
	stream_open(&t.quiet, t.loop.ring, fds[0], &quiet_events);
	stream_recv(&t.quiet, true);
	t.quiet_peer = fds[1];
	loop_run(&t.loop);
	assert_int_equal(t.pings, PINGS);
	if (t.worst > WAIT_MAX_BYTES)
		print_message("a quiet byte waited for %llu others\n", (unsigned long long)t.worst);
	assert_true(t.worst <= WAIT_MAX_BYTES);
	close(t.quiet_peer);
	loop_deinit(&t.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quiet_stream_goes_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
