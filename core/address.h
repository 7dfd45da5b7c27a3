/*
 * core/address.h - socket addresses as text.
 *
 * Addresses are numeric: nothing here asks a name server. "192.0.2.1:22", "[2001:db8::1]:22", "unix:/run/x.sock".
 *
 * Pure. Thread: any.
 */
#ifndef CORE_ADDRESS_H
#define CORE_ADDRESS_H

#include "core/check.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Enough for every text of socket_address_text, its NUL included. */
#define SOCKET_TEXT_MAX 128

/* 0, or -EINVAL. */
MUST_USE int socket_address_parse(const char *text, struct sockaddr_storage *ret_addr, socklen_t *ret_bytes);

/* The same form back; an IPv4 address mapped into IPv6 as IPv4. "unknown" for other families. Returns buf. */
const char *socket_address_text(const struct sockaddr *addr, socklen_t bytes, char *buf, size_t size);

#endif
