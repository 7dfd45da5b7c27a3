/*
 * tests/unit/procd/test_outq.c - order on the wire: batches, urgent frames between frames, partial sends.
 */
#include "procd/outq.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct pair {
	int ours, theirs;
	struct outq q;
};

static void pair_open(struct pair *p, int buffer_bytes)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	p->ours = fds[0];
	p->theirs = fds[1];
	if (buffer_bytes)
		assert_int_equal(setsockopt(p->ours, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof(buffer_bytes)), 0);
	outq_init(&p->q, p->ours);
}

static void pair_close(struct pair *p)
{
	outq_deinit(&p->q);
	close(p->ours);
	close(p->theirs);
}

/* What the other side decodes: "channel:first byte*count" for each DATA frame, "PONG n" for urgent ones. */
struct seen {
	char text[65536];
	size_t n;
	uint32_t frame_bytes;
	uint8_t first;
};

static int on_frame(void *ctx, const struct frame *f)
{
	struct seen *s = ctx;

	s->n += (size_t)snprintf(s->text + s->n, sizeof(s->text) - s->n, "%s%llu ", frame_type_name(f->type),
				 (unsigned long long)(f->type == FRAME_PONG ? f->opaque : f->channel));
	return 0;
}

static int on_data(void *ctx, uint32_t channel, uint32_t stream, struct bytes piece, uint32_t left)
{
	struct seen *s = ctx;

	if (s->frame_bytes == 0)
		s->first = piece.p[0];
	for (size_t i = 0; i < piece.n; i++)
		assert_int_equal(piece.p[i], s->first);
	s->frame_bytes += (uint32_t)piece.n;
	if (left == 0) {
		s->n += (size_t)snprintf(s->text + s->n, sizeof(s->text) - s->n, "%u.%u:%c*%u ", channel, stream,
					 s->first, s->frame_bytes);
		s->frame_bytes = 0;
	}
	return 0;
}

static const struct frame_sink sink = {.on_frame = on_frame, .on_data = on_data};

/* Sends and reads in steps of `step` bytes until all is over there. */
static const char *drain(struct pair *p, size_t step)
{
	static struct seen s;
	struct frame_reader r;
	uint8_t buf[65536];

	memset(&s, 0, sizeof(s));
	frame_reader_init(&r, &sink, &s);
	for (;;) {
		ssize_t n;

		p->q.is_blocked = false;
		assert_true(outq_send(&p->q) >= 0);
		n = read(p->theirs, buf, step);
		if (n < 0 && outq_is_empty(&p->q))
			break;
		if (n > 0)
			assert_int_equal(frame_reader_feed(&r, buf, (size_t)n), 0);
	}
	assert_true(frame_reader_is_between(&r));
	frame_reader_deinit(&r);
	return s.text;
}

static void put_pong(struct pair *p, uint64_t n)
{
	struct frame f = {.type = FRAME_PONG, .opaque = n};

	assert_int_equal(outq_urgent(&p->q, &f), 0);
}

static void test_order(void **state)
{
	static uint8_t a[1000], b[FRAME_DATA_MAX];
	struct frame eof = {.type = FRAME_EOF, .channel = 2};
	struct pair p;

	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	pair_open(&p, 0);
	assert_true(outq_is_empty(&p.q));
	outq_add_borrowed(&p.q, 2, 0, a, sizeof(a));
	outq_add_borrowed(&p.q, 4, 1, b, sizeof(b));
	outq_add(&p.q, &eof);
	put_pong(&p, 7);
	assert_false(outq_is_empty(&p.q));
	assert_string_equal(drain(&p, 65536), "PONG7 2.0:a*1000 4.1:b*32768 EOF2 ");
	assert_true(outq_is_empty(&p.q));
	pair_close(&p);
}

/* An urgent frame that comes while a frame is half sent waits for that frame's end, and no longer. */
static void test_urgent_between_frames(void **state)
{
	static uint8_t a[FRAME_DATA_MAX];
	uint8_t buf[100000];
	struct pair p;

	memset(a, 'a', sizeof(a));
	for (size_t first = 1; first < 70000; first += 911) {
		static struct seen s;
		struct frame_reader r;
		ssize_t n;

		memset(&s, 0, sizeof(s));
		frame_reader_init(&r, &sink, &s);
		pair_open(&p, 4096);
		for (int i = 0; i < 4; i++)
			outq_add_borrowed(&p.q, 2, 0, a, sizeof(a));
		while (p.q.sent_bytes < first) {
			p.q.is_blocked = false;
			assert_true(outq_send(&p.q) >= 0);
			n = read(p.theirs, buf, 1 + first % 5000);
			assert_true(n > 0);
			assert_int_equal(frame_reader_feed(&r, buf, (size_t)n), 0);
		}
		uint32_t whole = (uint32_t)(p.q.sent_bytes / (FRAME_DATA_MAX + 7));
		bool is_mid = p.q.sent_bytes % (FRAME_DATA_MAX + 7) > 0;
		char want[200] = "";

		put_pong(&p, 1);
		put_pong(&p, 2);
		while (!outq_is_empty(&p.q) || (n = read(p.theirs, buf, 0)) > 0) {
			p.q.is_blocked = false;
			assert_true(outq_send(&p.q) >= 0);
			n = read(p.theirs, buf, 3000);
			if (n > 0)
				assert_int_equal(frame_reader_feed(&r, buf, (size_t)n), 0);
		}
		while ((n = read(p.theirs, buf, sizeof(buf))) > 0)
			assert_int_equal(frame_reader_feed(&r, buf, (size_t)n), 0);
		for (uint32_t i = 0; i < 4; i++) {
			if (i == whole + is_mid)
				strcat(want, "PONG1 PONG2 ");
			strcat(want, "2.0:a*32768 ");
		}
		if (whole + is_mid >= 4)
			strcat(want, "PONG1 PONG2 ");
		assert_string_equal(s.text, want);
		frame_reader_deinit(&r);
		pair_close(&p);
	}
}

static void test_read(void **state)
{
	uint8_t blob[50000];
	uint32_t asked;
	struct pair p;
	int fds[2];

	memset(blob, 'x', sizeof(blob));
	pair_open(&p, 0);
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	assert_int_equal(outq_read(&p.q, fds[0], 2, 0, 8, 100, &asked), -EAGAIN);
	assert_int_equal(write(fds[1], blob, sizeof(blob)), sizeof(blob));
	/* By credit, by frames, and what is left. */
	assert_int_equal(outq_read(&p.q, fds[0], 2, 1, 8, 100, &asked), 100);
	assert_int_equal(asked, 100);
	assert_int_equal(outq_read(&p.q, fds[0], 2, 0, 1, 1000000, &asked), FRAME_DATA_MAX);
	assert_int_equal(outq_read(&p.q, fds[0], 2, 0, 8, 1000000, &asked), sizeof(blob) - 100 - FRAME_DATA_MAX);
	assert_true(asked > sizeof(blob) - 100 - FRAME_DATA_MAX);
	close(fds[1]);
	assert_int_equal(outq_read(&p.q, fds[0], 2, 0, 8, 1000000, &asked), 0);
	assert_string_equal(drain(&p, 777), "2.1:x*100 2.0:x*32768 2.0:x*17132 ");
	close(fds[0]);
	pair_close(&p);
}

/* A batch of nothing but small frames: their places are counted too. */
static void test_room(void **state)
{
	struct frame f = {.type = FRAME_CLOSE, .channel = 2};
	struct pair p;
	uint32_t n = 0;

	pair_open(&p, 0);
	while (outq_room(&p.q) > 0) {
		outq_add(&p.q, &f);
		n++;
	}
	assert_int_equal(n, BATCH_FRAMES);
	assert_int_equal(strlen(drain(&p, 65536)), n * strlen("CLOSE2 "));
	assert_int_equal(outq_room(&p.q), BATCH_FRAMES);
	pair_close(&p);
}

static void test_terminal_frames(void **state)
{
	struct pair p;
	uint8_t *to;

	pair_open(&p, 0);
	for (int i = 0; i < 3; i++) {
		to = outq_urgent_reserve(&p.q, 5000);
		assert_non_null(to);
		memset(to, 'p' + i, 10u + (unsigned)i);
		outq_urgent_commit(&p.q, 70000, 0, 10u + (unsigned)i);
		put_pong(&p, (uint64_t)i);
	}
	assert_string_equal(drain(&p, 3), "70000.0:p*10 PONG0 70000.0:q*11 PONG1 70000.0:r*12 PONG2 ");
	pair_close(&p);
}

static void test_urgent_is_bounded(void **state)
{
	struct frame f = {.type = FRAME_PONG, .opaque = UINT64_MAX};
	struct pair p;
	int rc;

	pair_open(&p, 0);
	while ((rc = outq_urgent(&p.q, &f)) == 0)
		assert_true(p.q.urgent_size <= 2 * URGENT_BYTES_MAX);
	assert_int_equal(rc, -ENOBUFS);
	assert_null(outq_urgent_reserve(&p.q, 100));
	pair_close(&p);
}

static void test_peer_gone(void **state)
{
	struct pair p;

	pair_open(&p, 0);
	close(p.theirs);
	p.theirs = dup(p.ours);
	put_pong(&p, 1);
	assert_int_equal(outq_send(&p.q), -EPIPE);
	pair_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_urgent_between_frames),
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_terminal_frames),
		cmocka_unit_test(test_urgent_is_bounded),
		cmocka_unit_test(test_peer_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
