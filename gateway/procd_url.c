#include "gateway/procd_url.h"

#include "core/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

/* Letters, digits, - and _ between dots, no dot at its start. */
static bool host_is_good(const char *host)
{
	size_t n = strlen(host);

	if (n == 0 || n > PROCD_HOST_MAX || host[0] == '.' || host[0] == '-')
		return false;
	for (size_t i = 0; i < n; i++) {
		char c = host[i];
		bool is_alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

		if (!is_alnum && c != '-' && c != '_' && (c != '.' || host[i + 1] == '.'))
			return false;
	}
	return true;
}

static bool port_parse(const char *text, uint16_t *ret_port)
{
	uint32_t port = 0;
	size_t n;

	for (n = 0; text[n] >= '0' && text[n] <= '9' && n < 5; n++)
		port = port * 10 + (uint32_t)(text[n] - '0');
	if (n == 0 || text[n] || port == 0 || port > UINT16_MAX)
		return false;
	*ret_port = (uint16_t)port;
	return true;
}

/* A last part of digits alone: what looks like an IPv4 address and is none (127.1, 0x7f.1) is no name. */
static bool ends_as_number(const char *host)
{
	const char *dot = strrchr(host, '.'), *last = dot ? dot + 1 : host;

	return *last >= '0' && *last <= '9';
}

int procd_url_parse(const char *url, struct procd_place *ret)
{
	char text[PROCD_HOST_MAX + 16];
	struct procd_place place = {.port = 0};
	const char *colon;
	size_t n;

	if (strncmp(url, "unix:", 5) == 0) {
		if (url[5] != '/' || socket_address_parse(url, &place.addr, &place.addr_bytes) < 0)
			return -EINVAL;
		*ret = place;
		return 0;
	}
	if (strncmp(url, "tcp://", 6) == 0)
		url += 6;
	else if (strncmp(url, "http://", 7) == 0)
		url += 7;
	n = strcspn(url, "/?#");
	if (n >= sizeof(text))
		return -EINVAL;
	memcpy(text, url, n);
	text[n] = 0;
	colon = strrchr(text, ':');
	if (!colon || !port_parse(colon + 1, &place.port))
		return -EINVAL;
	if (socket_address_parse(text, &place.addr, &place.addr_bytes) == 0) {
		if (place.addr.ss_family == AF_UNIX)
			return -EINVAL;
		*ret = place;
		return 0;
	}
	text[colon - text] = 0;
	if (!host_is_good(text) || ends_as_number(text))
		return -EINVAL;
	strcpy(place.host, text);
	*ret = place;
	return 0;
}

/* --- CIDRs --- */

struct cidr {
	int family;
	uint8_t address[16];
	uint32_t bits;
};

static bool cidr_parse(const char *text, struct cidr *ret)
{
	char copy[INET6_ADDRSTRLEN + 8], *slash, *end;
	uint32_t most;

	if (strlen(text) >= sizeof(copy))
		return false;
	strcpy(copy, text);
	slash = strchr(copy, '/');
	if (slash)
		*slash = 0;
	if (inet_pton(AF_INET, copy, ret->address) == 1)
		ret->family = AF_INET;
	else if (inet_pton(AF_INET6, copy, ret->address) == 1)
		ret->family = AF_INET6;
	else
		return false;
	most = ret->family == AF_INET ? 32 : 128;
	ret->bits = most;
	if (!slash)
		return true;
	if (slash[1] < '0' || slash[1] > '9')
		return false;
	ret->bits = (uint32_t)strtoul(slash + 1, &end, 10);
	return *end == 0 && ret->bits <= most && strlen(slash + 1) <= 3;
}

bool cidr_is_good(const char *text)
{
	struct cidr c;

	return cidr_parse(text, &c);
}

static bool bits_are_equal(const uint8_t *a, const uint8_t *b, uint32_t bits)
{
	uint32_t whole = bits / 8, rest = bits % 8;

	if (memcmp(a, b, whole) != 0)
		return false;
	return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

bool cidr_holds(const char *cidr, const struct sockaddr *addr)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)addr;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;
	struct cidr c;

	if (!cidr_parse(cidr, &c))
		return false;
	if (addr->sa_family == AF_INET)
		return c.family == AF_INET && bits_are_equal((const uint8_t *)&in->sin_addr, c.address, c.bits);
	if (addr->sa_family != AF_INET6)
		return false;
	if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
		return c.family == AF_INET && bits_are_equal(in6->sin6_addr.s6_addr + 12, c.address, c.bits);
	return c.family == AF_INET6 && bits_are_equal(in6->sin6_addr.s6_addr, c.address, c.bits);
}
