/*
 * ring/socket.h - listening sockets, socket options, the ends of a socket as text.
 *
 * Thread: any.
 */
#ifndef RING_SOCKET_H
#define RING_SOCKET_H

#include "core/address.h"
#include "core/check.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

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

/*
 * What has come in is acknowledged now, not 40 ms later for want of bytes to go along with: a peer without TCP_NODELAY sends his
 * next packet no sooner. TCP_QUICKACK, which the kernel takes back by itself. Not TCP: nothing is done.
 */
void socket_acknowledge(int fd);

#endif
