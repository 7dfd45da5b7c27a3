#include "gateway/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

/* Decimal digits, 0 to 65535. */
static bool port_parse(const char *text, in_port_t *ret_port)
{
	uint32_t port = 0;
	size_t n = 0;

	for (; text[n] >= '0' && text[n] <= '9' && n < 6; n++)
		port = port * 10 + (uint32_t)(text[n] - '0');
	if (n == 0 || text[n] || port > 65535)
		return false;
	*ret_port = htons((uint16_t)port);
	return true;
}

static int unix_parse(const char *path, struct sockaddr_storage *ret_addr, socklen_t *ret_bytes)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	size_t n = strlen(path);

	if (path[0] != '/' || n >= sizeof(un.sun_path))
		return -EINVAL;
	memcpy(un.sun_path, path, n + 1);
	memset(ret_addr, 0, sizeof(*ret_addr));
	memcpy(ret_addr, &un, sizeof(un));
	*ret_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
	return 0;
}

int address_parse(const char *text, struct sockaddr_storage *ret_addr, socklen_t *ret_bytes)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	const char *colon = strrchr(text, ':');
	char host[INET6_ADDRSTRLEN];
	bool is_v6 = text[0] == '[';
	in_port_t port;
	size_t n;

	if (strncmp(text, "unix:", 5) == 0)
		return unix_parse(text + 5, ret_addr, ret_bytes);
	if (!colon || !port_parse(colon + 1, &port))
		return -EINVAL;
	n = (size_t)(colon - text);
	if (is_v6) {
		if (n < 2 || text[n - 1] != ']')
			return -EINVAL;
		text++;
		n -= 2;
	}
	if (n >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, n);
	host[n] = 0;
	if (inet_pton(is_v6 ? AF_INET6 : AF_INET, host, is_v6 ? (void *)&in6.sin6_addr : (void *)&in.sin_addr) != 1)
		return -EINVAL;
	memset(ret_addr, 0, sizeof(*ret_addr));
	in.sin_port = in6.sin6_port = port;
	if (is_v6)
		memcpy(ret_addr, &in6, sizeof(in6));
	else
		memcpy(ret_addr, &in, sizeof(in));
	*ret_bytes = is_v6 ? sizeof(in6) : sizeof(in);
	return 0;
}
