#include "ring/socket.h"

#include "ring/limits.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* 1 to 5 digits and nothing else. */
static int port_parse(const char *text, uint16_t *ret_port)
{
	uint32_t port = 0;
	size_t n = strlen(text);

	if (n == 0 || n > 5)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		port = port * 10 + (uint32_t)(text[i] - '0');
	}
	if (port > UINT16_MAX)
		return -EINVAL;
	*ret_port = (uint16_t)port;
	return 0;
}

static int unix_parse(const char *path, struct sockaddr_storage *ret_addr, socklen_t *ret_bytes)
{
	struct sockaddr_un *un = (struct sockaddr_un *)ret_addr;
	size_t n = strlen(path);

	if (n == 0 || n >= sizeof(un->sun_path))
		return -EINVAL;
	memset(ret_addr, 0, sizeof(*ret_addr));
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, n + 1);
	*ret_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
	return 0;
}

/* host is not terminated. */
static int inet_parse(const char *host, size_t n, bool is_v6, uint16_t port, struct sockaddr_storage *ret_addr,
		      socklen_t *ret_bytes)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	char text[INET6_ADDRSTRLEN];

	if (n >= sizeof(text))
		return -EINVAL;
	memcpy(text, host, n);
	text[n] = 0;
	if (inet_pton(is_v6 ? AF_INET6 : AF_INET, text, is_v6 ? (void *)&in6.sin6_addr : (void *)&in.sin_addr) != 1)
		return -EINVAL;
	memset(ret_addr, 0, sizeof(*ret_addr));
	if (is_v6)
		memcpy(ret_addr, &in6, sizeof(in6));
	else
		memcpy(ret_addr, &in, sizeof(in));
	*ret_bytes = is_v6 ? sizeof(in6) : sizeof(in);
	return 0;
}

int socket_address_parse(const char *text, struct sockaddr_storage *ret_addr, socklen_t *ret_bytes)
{
	const char *colon = strrchr(text, ':');
	uint16_t port;

	if (strncmp(text, "unix:", 5) == 0)
		return unix_parse(text + 5, ret_addr, ret_bytes);
	if (!colon || port_parse(colon + 1, &port) != 0)
		return -EINVAL;
	if (text[0] != '[')
		return inet_parse(text, (size_t)(colon - text), false, port, ret_addr, ret_bytes);
	if (colon < text + 2 || colon[-1] != ']')
		return -EINVAL;
	return inet_parse(text + 1, (size_t)(colon - text) - 2, true, port, ret_addr, ret_bytes);
}

static void inet6_text(const struct sockaddr_in6 *in6, char *buf, size_t size)
{
	char host[INET6_ADDRSTRLEN];

	if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
		(void)inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], host, sizeof(host));
		(void)snprintf(buf, size, "%s:%u", host, ntohs(in6->sin6_port));
	} else {
		(void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		(void)snprintf(buf, size, "[%s]:%u", host, ntohs(in6->sin6_port));
	}
}

const char *socket_address_text(const struct sockaddr *addr, socklen_t bytes, char *buf, size_t size)
{
	char host[INET_ADDRSTRLEN];

	if (bytes >= sizeof(struct sockaddr_in) && addr->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)addr;

		(void)inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		(void)snprintf(buf, size, "%s:%u", host, ntohs(in->sin_port));
	} else if (bytes >= sizeof(struct sockaddr_in6) && addr->sa_family == AF_INET6) {
		inet6_text((const struct sockaddr_in6 *)addr, buf, size);
	} else if (bytes >= sizeof(sa_family_t) && addr->sa_family == AF_UNIX) {
		const struct sockaddr_un *un = (const struct sockaddr_un *)addr;
		size_t n = bytes - offsetof(struct sockaddr_un, sun_path);

		/* An unnamed one has no path at all; the kernel's may lack the NUL. */
		n = bytes > offsetof(struct sockaddr_un, sun_path) ? strnlen(un->sun_path, n) : 0;
		(void)snprintf(buf, size, "unix:%.*s", (int)n, un->sun_path);
	} else {
		(void)snprintf(buf, size, "unknown");
	}
	return buf;
}

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
