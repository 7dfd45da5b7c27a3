/*
 * tests/unit/ring/test_listener.c - accepting, running out of descriptors, stopping; and connecting to what accepts.
 */
#include "fixture.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>

#define STORM 500

static struct loop loop;
static struct listener listener;
static struct sockaddr_storage addr;
static socklen_t addr_bytes;
static int listen_fd;
static int fds[STORM], fd_count, stopped_count;
static void (*after_accept)(void);

static void on_accept(struct listener *l, int fd)
{
	assert_ptr_equal(l->owner, &loop);
	assert_int_equal(stopped_count, 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fd_count < STORM);
	fds[fd_count++] = fd;
	if (after_accept)
		after_accept();
}

static void on_stopped(struct listener *l)
{
	stopped_count++;
	ring_stop(l->ring);
}

static int setup(void **state)
{
	loop_init(&loop, &(struct ring_options){.sq_entries = 8});
	listen_fd = make_listener(STORM, &addr, &addr_bytes);
	listener = (struct listener){.owner = &loop, .on_accept = on_accept, .on_stopped = on_stopped};
	fd_count = stopped_count = 0;
	after_accept = NULL;
	return 0;
}

static int teardown(void **state)
{
	for (int i = 0; i < fd_count; i++)
		close(fds[i]);
	close(listen_fd);
	loop_deinit(&loop);
	return 0;
}

static int dial(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, addr_bytes), 0);
	return fd;
}

static void stop_when_all_came(void)
{
	if (fd_count == STORM)
		listener_stop(&listener);
}

static void test_storm(void **state)
{
	int clients[STORM];

	for (int i = 0; i < STORM; i++)
		clients[i] = dial();
	after_accept = stop_when_all_came;
	listener_start(&listener, loop.ring, listen_fd);
	loop_run(&loop);
	assert_int_equal(fd_count, STORM);
	assert_int_equal(stopped_count, 1);
	assert_int_equal(ring_stats(loop.ring)->accepts, STORM);
	for (int i = 0; i < STORM; i++)
		close(clients[i]);
}

static void stop_after_three(void)
{
	if (fd_count == 3)
		listener_stop(&listener);
	assert_true(fd_count <= 3);
}

/* Those that the kernel had accepted already are closed, not leaked: their clients see the end. */
static void test_stop_in_callback(void **state)
{
	int clients[10], ended = 0;

	for (int i = 0; i < 10; i++)
		clients[i] = dial();
	after_accept = stop_after_three;
	listener_start(&listener, loop.ring, listen_fd);
	loop_run(&loop);
	assert_int_equal(fd_count, 3);
	assert_int_equal(stopped_count, 1);
	close(listen_fd);
	for (int i = 0; i < 10; i++) {
		char byte;
		ssize_t n;

		assert_int_equal(fcntl(clients[i], F_SETFL, O_NONBLOCK), 0);
		n = read(clients[i], &byte, 1);
		/* Never accepted ones are reset with the listening socket. */
		ended += n == 0 || (n < 0 && errno == ECONNRESET);
		close(clients[i]);
	}
	assert_int_equal(ended, 7);
	listen_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void test_stop_before_run_and_start_again(void **state)
{
	int client;

	listener_start(&listener, loop.ring, listen_fd);
	listener_stop(&listener);
	listener_stop(&listener);
	assert_int_equal(stopped_count, 0);
	loop_run(&loop);
	assert_int_equal(stopped_count, 1);
	stopped_count = 0;
	client = dial();
	after_accept = stop_when_all_came;
	fd_count = STORM - 1;
	listener_start(&listener, loop.ring, listen_fd);
	loop_run(&loop);
	assert_int_equal(stopped_count, 1);
	close(fds[STORM - 1]);
	close(client);
	fd_count = 0;
}

/* ---- A non-blocking listening socket ---- */

static struct timer dial_later;
static int late_client;

static void on_dial_later(struct timer *t)
{
	late_client = dial();
}

static void stop_at_first(void)
{
	listener_stop(&listener);
}

static void test_nonblocking_socket(void **state)
{
	assert_int_equal(fcntl(listen_fd, F_SETFL, fcntl(listen_fd, F_GETFL) | O_NONBLOCK), 0);
	timer_init(&dial_later, on_dial_later);
	timer_start(loop.ring, &dial_later, 30);
	after_accept = stop_at_first;
	listener_start(&listener, loop.ring, listen_fd);
	loop_run(&loop);
	assert_int_equal(fd_count, 1);
	/* It waited, rather than trying all the time. */
	assert_true(ring_stats(loop.ring)->enters < 40);
	close(late_client);
}

/* ---- Out of descriptors ---- */

static struct rlimit limit_before;
static struct timer relief;
static int came_before_relief;

static void on_relief(struct timer *t)
{
	came_before_relief = fd_count;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit_before), 0);
}

static void stop_after_five(void)
{
	if (fd_count == 5)
		listener_stop(&listener);
}

static void test_no_descriptors(void **state)
{
	struct rlimit tight;
	int clients[5], next;
	uint64_t enters;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit_before), 0);
	for (int i = 0; i < 5; i++)
		clients[i] = dial();
	next = dup(0);
	assert_true(next >= 0);
	close(next);
	/* Two more, then none. */
	tight = limit_before;
	tight.rlim_cur = (rlim_t)next + 2;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	timer_init(&relief, on_relief);
	timer_start(loop.ring, &relief, 250);
	after_accept = stop_after_five;
	listener_start(&listener, loop.ring, listen_fd);
	loop_run(&loop);
	assert_int_equal(came_before_relief, 2);
	assert_int_equal(fd_count, 5);
	/* It paused, rather than trying all the time. */
	enters = ring_stats(loop.ring)->enters;
	assert_true(enters < 40);
	for (int i = 0; i < 5; i++)
		close(clients[i]);
}

/* ---- Streams that connect to it ---- */

#define DIALS 20

struct dial {
	struct stream stream;
	int connected, got, closed;
};

static struct dial dials[DIALS], answers[DIALS];
static int closed_count;

static void dial_on_recv(struct stream *s, const uint8_t *p, size_t n)
{
	struct dial *d = CONTAINER_OF(s, struct dial, stream);

	for (size_t i = 0; i < n; i++)
		assert_int_equal(p[i], test_byte((uint64_t)d->got + i));
	d->got += (int)n;
}

static void dial_on_recv_end(struct stream *s, int err)
{
	assert_int_equal(err, 0);
	stream_close(s);
}

static void dial_on_sent(struct stream *s, size_t n)
{
}

static void dial_on_send_error(struct stream *s, int err)
{
	fail_msg("send: %s", strerror(-err));
}

static void dial_on_connected(struct stream *s, int err)
{
	assert_int_equal(err, 0);
	CONTAINER_OF(s, struct dial, stream)->connected++;
}

static void dial_on_closed(struct stream *s)
{
	CONTAINER_OF(s, struct dial, stream)->closed++;
	if (++closed_count == 2 * DIALS)
		listener_stop(&listener);
}

static const struct stream_events dial_events = {
	.on_recv = dial_on_recv,
	.on_recv_end = dial_on_recv_end,
	.on_sent = dial_on_sent,
	.on_send_error = dial_on_send_error,
	.on_connected = dial_on_connected,
	.on_closed = dial_on_closed,
};

static void dial_send(struct stream *s)
{
	uint8_t data[5000];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = test_byte(i);
	assert_int_equal(chain_append(&s->out, data, sizeof(data)), 0);
	stream_recv(s, true);
	stream_send(s);
	stream_shutdown(s);
}

static void answer(void)
{
	struct stream *s = &answers[fd_count - 1].stream;

	stream_open(s, loop.ring, fds[fd_count - 1], &dial_events);
	dial_send(s);
}

/* More than the submission queue holds (8), asked for before the ring runs, with their bytes: none is lost. */
static void test_connect_many_before_run(void **state)
{
	memset(dials, 0, sizeof(dials));
	memset(answers, 0, sizeof(answers));
	closed_count = 0;
	after_accept = answer;
	listener_start(&listener, loop.ring, listen_fd);
	for (int i = 0; i < DIALS; i++) {
		stream_connect(&dials[i].stream, loop.ring, (struct sockaddr *)&addr, addr_bytes, 5000, &dial_events);
		dial_send(&dials[i].stream);
	}
	loop_run(&loop);
	for (int i = 0; i < DIALS; i++) {
		assert_int_equal(dials[i].connected, 1);
		assert_int_equal(dials[i].got, 5000);
		assert_int_equal(answers[i].got, 5000);
		assert_int_equal(dials[i].closed, 1);
		assert_int_equal(answers[i].closed, 1);
	}
	/* The streams closed them. */
	fd_count = 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_storm),
		T(test_stop_in_callback),
		T(test_stop_before_run_and_start_again),
		T(test_nonblocking_socket),
		T(test_no_descriptors),
		T(test_connect_many_before_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
