/*
 * tests/unit/ring/test_socket.c - addresses as text, and listening.
 */
#include "fixture.h"

#include "ring/socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

static void test_good_addresses(void **state)
{
	static const char *const same[] = {
		"127.0.0.1:22", "0.0.0.0:0",          "255.255.255.255:65535",
		"[::]:22",      "[2001:db8::1]:2222", "unix:/run/x.sock",
	};
	char text[SOCKET_TEXT_MAX];

	for (size_t i = 0; i < ARRAY_LEN(same); i++) {
		struct sockaddr_storage addr;
		socklen_t bytes;

		assert_int_equal(socket_address_parse(same[i], &addr, &bytes), 0);
		assert_string_equal(socket_address_text((struct sockaddr *)&addr, bytes, text, sizeof(text)), same[i]);
	}
}

static void test_mapped_address_reads_as_v4(void **state)
{
	struct sockaddr_storage addr;
	socklen_t bytes;
	char text[SOCKET_TEXT_MAX];

	assert_int_equal(socket_address_parse("[::ffff:10.1.2.3]:7", &addr, &bytes), 0);
	assert_string_equal(socket_address_text((struct sockaddr *)&addr, bytes, text, sizeof(text)), "10.1.2.3:7");
}

static void test_bad_addresses(void **state)
{
	static const char *const bad[] = {
		"",
		":",
		":22",
		"22",
		"127.0.0.1",
		"127.0.0.1:",
		"127.0.0.1:65536",
		"1.2.3.4:-1",
		"1.2.3.4:+1",
		"1.2.3.4: 1",
		"1.2.3.4:1 ",
		"1.2.3.4:000001",
		"1.2.3:4",
		"1.2.3.4.5:6",
		"host:22",
		"localhost:1",
		"[::1]",
		"[::1]22",
		"[::1:22",
		"::1:22",
		"[]:22",
		"[:22",
		"]:22",
		"[1.2.3.4]:22",
		"[::1%lo]:22",
		"unix:",
		"*:22",
		"1.2.3.4:0x10",
	};
	char longest[200];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct sockaddr_storage addr;
		socklen_t bytes;

		if (socket_address_parse(bad[i], &addr, &bytes) != -EINVAL)
			fail_msg("accepted: %s", bad[i]);
	}
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	memcpy(longest, "unix:/", 6);
	assert_int_equal(socket_address_parse(longest, &(struct sockaddr_storage){0}, &(socklen_t){0}), -EINVAL);
	/* As long as a Unix address can be. */
	longest[5 + sizeof(((struct sockaddr_un *)0)->sun_path) - 1] = 0;
	assert_int_equal(socket_address_parse(longest, &(struct sockaddr_storage){0}, &(socklen_t){0}), 0);
}

static void test_unnamed_ends(void **state)
{
	char text[SOCKET_TEXT_MAX];
	int fds[2];

	make_pair(fds);
	assert_string_equal(socket_peer_text(fds[0], text, sizeof(text)), "unix:");
	close(fds[0]);
	close(fds[1]);
	assert_string_equal(socket_peer_text(-1, text, sizeof(text)), "unknown");
}

static int dial(const char *where, char *ret_local)
{
	struct sockaddr_storage addr;
	socklen_t bytes;
	int fd;

	assert_int_equal(socket_address_parse(where, &addr, &bytes), 0);
	fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, bytes), 0);
	(void)socket_local_text(fd, ret_local, SOCKET_TEXT_MAX);
	return fd;
}

#define DIALS 64

static void test_listeners_share_and_others_may_not(void **state)
{
	char where[SOCKET_TEXT_MAX], text[SOCKET_TEXT_MAX], local[SOCKET_TEXT_MAX];
	int fds[3], clients[DIALS], per_socket[3] = {0}, others[2];

	assert_int_equal(listen_sockets("127.0.0.1:0", 3, fds), 0);
	(void)socket_local_text(fds[0], where, sizeof(where));
	for (int i = 1; i < 3; i++)
		assert_string_equal(socket_local_text(fds[i], text, sizeof(text)), where);
	assert_int_equal(listen_sockets(where, 1, others), -EADDRINUSE);
	assert_int_equal(listen_sockets(where, 2, others), -EADDRINUSE);
	for (int i = 0; i < DIALS; i++)
		clients[i] = dial(where, local);
	/* The kernel spreads them by a hash of the address: each gets some, together all. */
	for (int i = 0, left = DIALS; i < 3; i++) {
		struct sockaddr_storage peer;
		int fd;

		assert_int_equal(fcntl(fds[i], F_SETFL, O_NONBLOCK), 0);
		while ((fd = accept(fds[i], (struct sockaddr *)&peer, &(socklen_t){sizeof(peer)})) >= 0) {
			per_socket[i]++;
			left--;
			close(fd);
		}
		assert_true(per_socket[i] > 0);
		if (i == 2)
			assert_int_equal(left, 0);
		close(fds[i]);
	}
	for (int i = 0; i < DIALS; i++)
		close(clients[i]);
}

static void test_busy_port_of_plain_socket(void **state)
{
	struct sockaddr_storage addr;
	socklen_t bytes;
	char where[SOCKET_TEXT_MAX];
	int fd = make_listener(1, &addr, &bytes), other;

	assert_int_equal(listen_sockets(socket_local_text(fd, where, sizeof(where)), 1, &other), -EADDRINUSE);
	close(fd);
	/* And free afterwards. */
	assert_int_equal(listen_sockets(where, 1, &other), 0);
	close(other);
	assert_int_equal(listen_sockets("unix:/tmp/x", 1, &other), -EAFNOSUPPORT);
	assert_int_equal(listen_sockets("nonsense", 1, &other), -EINVAL);
}

static void test_tune(void **state)
{
	int fds[2], value;
	socklen_t bytes = sizeof(value);

	make_tcp_pair(fds);
	assert_int_equal(socket_tune(fds[0], 45000, 131072), 0);
	assert_int_equal(getsockopt(fds[0], IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &bytes), 0);
	assert_int_equal(value, 45000);
	assert_int_equal(getsockopt(fds[0], IPPROTO_TCP, TCP_NOTSENT_LOWAT, &value, &bytes), 0);
	assert_int_equal(value, 131072);
	assert_int_equal(getsockopt(fds[0], IPPROTO_TCP, TCP_NODELAY, &value, &bytes), 0);
	assert_int_equal(value, 1);
	assert_int_equal(getsockopt(fds[0], SOL_SOCKET, SO_KEEPALIVE, &value, &bytes), 0);
	assert_int_equal(value, 1);
	close(fds[0]);
	close(fds[1]);
	make_pair(fds);
	assert_int_equal(socket_tune(fds[0], 45000, 131072), 0);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_addresses),
		cmocka_unit_test(test_mapped_address_reads_as_v4),
		cmocka_unit_test(test_bad_addresses),
		cmocka_unit_test(test_unnamed_ends),
		cmocka_unit_test(test_listeners_share_and_others_may_not),
		cmocka_unit_test(test_busy_port_of_plain_socket),
		cmocka_unit_test(test_tune),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
