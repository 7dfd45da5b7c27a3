/*
 * ring/socket.h - addresses as text, listening sockets, socket options.
 *
 * Addresses are numeric: nothing here asks a name server. "192.0.2.1:22", "[2001:db8::1]:22", "unix:/run/x.sock".
 * Thread: any.
 */
#ifndef RING_SOCKET_H
#define RING_SOCKET_H

#include "core/check.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Enough for every text of socket_address_text, its NUL included. */
#define SOCKET_TEXT_MAX 128

/* 0, or -EINVAL. */
MUST_USE int socket_address_parse(const char *text, struct sockaddr_storage *ret_addr, socklen_t *ret_bytes);

/* The same form back; an IPv4 address mapped into IPv6 as IPv4. "unknown" for other families. Returns buf. */
const char *socket_address_text(const struct sockaddr *addr, socklen_t bytes, char *buf, size_t size);

/* The far and the near end of a socket as text; "unknown" where there is none. Return buf. */
const char *socket_peer_text(int fd, char *buf, size_t size);
const char *socket_local_text(int fd, char *buf, size_t size);

/*
 * `count` sockets that listen on one TCP address and share its connections (SO_REUSEPORT), one a thread; with port 0 all on the
 * one port that the kernel chose. A port that anybody else listens on is -EADDRINUSE, which plain SO_REUSEPORT never says to the
 * same user. "[::]" is IPv6 alone: listen on "0.0.0.0" as well for both. 0, or negative errno with nothing left open
 * and nothing of use in ret_fds.
 */
MUST_USE int listen_sockets(const char *address, uint32_t count, int *ret_fds);

/*
 * TCP_NODELAY, SO_KEEPALIVE; TCP_USER_TIMEOUT and TCP_NOTSENT_LOWAT unless 0. Not TCP: nothing is done. 0 or the first error; the
 * socket is of use all the same.
 */
int socket_tune(int fd, uint32_t user_timeout_ms, uint32_t notsent_lowat_bytes);

#endif
