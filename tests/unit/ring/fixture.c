/*
 * tests/unit/ring/fixture.c - see fixture.h.
 */
#include "fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static void on_deadline(struct timer *t)
{
	fail_msg("the loop did not end within %d ms", TEST_DEADLINE_MS);
}

void loop_init(struct loop *l, const struct ring_options *o)
{
	int err = ring_new(o, &l->ring);

	if (err)
		fail_msg("ring_new: %s", ring_explain(err));
	timer_init(&l->deadline, on_deadline);
}

void loop_run(struct loop *l)
{
	timer_start(l->ring, &l->deadline, TEST_DEADLINE_MS);
	assert_int_equal(ring_run(l->ring), 0);
	timer_stop(l->ring, &l->deadline);
}

void loop_deinit(struct loop *l)
{
	ring_free(l->ring);
}

void make_pair(int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

int make_listener(int backlog, struct sockaddr_storage *ret_addr, socklen_t *ret_bytes)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(fd, backlog), 0);
	*ret_bytes = sizeof(*ret_addr);
	assert_int_equal(getsockname(fd, (struct sockaddr *)ret_addr, ret_bytes), 0);
	return fd;
}

void make_tcp_pair(int fds[2])
{
	struct sockaddr_storage addr;
	socklen_t bytes;
	int listener = make_listener(1, &addr, &bytes);

	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fds[0] >= 0);
	assert_int_equal(connect(fds[0], (struct sockaddr *)&addr, bytes), 0);
	fds[1] = accept(listener, NULL, NULL);
	assert_true(fds[1] >= 0);
	close(listener);
}

uint32_t test_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}
