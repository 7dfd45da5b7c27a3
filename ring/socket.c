#include "ring/socket.h"

#include "ring/limits.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

static const char *end_text(int fd, int (*get)(int, struct sockaddr *, socklen_t *), char *buf, size_t size)
{
	struct sockaddr_storage addr = {0};
	socklen_t bytes = sizeof(addr);

	if (get(fd, (struct sockaddr *)&addr, &bytes) != 0)
		bytes = 0;
	return socket_address_text((struct sockaddr *)&addr, bytes, buf, size);
}

static int get_peer(int fd, struct sockaddr *addr, socklen_t *bytes)
{
	return getpeername(fd, addr, bytes);
}

static int get_local(int fd, struct sockaddr *addr, socklen_t *bytes)
{
	return getsockname(fd, addr, bytes);
}

const char *socket_peer_text(int fd, char *buf, size_t size)
{
	return end_text(fd, get_peer, buf, size);
}

const char *socket_local_text(int fd, char *buf, size_t size)
{
	return end_text(fd, get_local, buf, size);
}

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) == 0 ? 0 : -errno;
}

/* The first binds without SO_REUSEPORT, so that a foreign listener is noticed, and sets it then, so that the others may join. */
static int listen_on(int fd, const struct sockaddr_storage *addr, socklen_t bytes, bool is_first)
{
	int err = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);

	if (!err && addr->ss_family == AF_INET6)
		err = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (!err && !is_first)
		err = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (!err && bind(fd, (const struct sockaddr *)addr, bytes) != 0)
		err = -errno;
	if (!err && is_first)
		err = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (!err && listen(fd, RING_LISTEN_BACKLOG) != 0)
		err = -errno;
	return err;
}

int listen_sockets(const char *address, uint32_t count, int *ret_fds)
{
	struct sockaddr_storage addr;
	socklen_t bytes;
	uint32_t made = 0;
	int err = socket_address_parse(address, &addr, &bytes);

	if (!err && addr.ss_family == AF_UNIX)
		err = -EAFNOSUPPORT;
	while (!err && made < count) {
		int fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0) {
			err = -errno;
			break;
		}
		err = listen_on(fd, &addr, bytes, made == 0);
		/* Port 0 has become a number, which the others use. */
		if (!err && getsockname(fd, (struct sockaddr *)&addr, &bytes) != 0)
			err = -errno;
		ret_fds[made++] = fd;
	}
	while (err && made > 0)
		(void)close(ret_fds[--made]);
	return err;
}

int socket_tune(int fd, uint32_t user_timeout_ms, uint32_t notsent_lowat_bytes)
{
	int err = set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1), next;

	/* A Unix socket. */
	if (err == -EOPNOTSUPP || err == -ENOPROTOOPT)
		return 0;
	next = set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	err = err ? err : next;
	next = user_timeout_ms ? set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)user_timeout_ms) : 0;
	err = err ? err : next;
	next = notsent_lowat_bytes ? set_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, (int)notsent_lowat_bytes) : 0;
	return err ? err : next;
}

void socket_acknowledge(int fd)
{
	(void)set_int(fd, IPPROTO_TCP, TCP_QUICKACK, 1);
}
