#include "core/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

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
