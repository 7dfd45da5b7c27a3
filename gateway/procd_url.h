/*
 * gateway/procd_url.h - where a control plane says that a sandbox's procd is, and whether the gateway may go there.
 *
 * tcp://HOST:PORT, HOST:PORT, [V6]:PORT, http://HOST:PORT (platforms write it so; a path is not looked at), unix:/PATH.
 *
 * Pure. Thread: any.
 */
#ifndef GATEWAY_PROCD_URL_H
#define GATEWAY_PROCD_URL_H

#include "core/check.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define PROCD_HOST_MAX 253

struct procd_place {
	char host[PROCD_HOST_MAX + 1]; /* a name that is to be resolved; "" when addr is known */
	uint16_t port;
	struct sockaddr_storage addr;
	socklen_t addr_bytes;
};

/* 0, or -EINVAL. */
MUST_USE int procd_url_parse(const char *url, struct procd_place *ret);

/* "10.0.0.0/8", "fd00::/8", "192.0.2.7" */
bool cidr_is_good(const char *text);
/* Whether one of the CIDRs holds the address; an IPv4 address mapped into IPv6 counts as IPv4. */
bool cidr_holds(const char *cidr, const struct sockaddr *addr);

#endif
