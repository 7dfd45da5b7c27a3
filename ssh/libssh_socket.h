/*
 * ssh/libssh_socket.h - libssh's socket layer, in memory.
 *
 * libssh's own socket.c is not compiled; libssh_socket.c implements libssh/socket.h instead: what libssh writes goes to a
 * byte chain, what it reads is handed to it. No descriptor, no poll.
 *
 * Owner:  the ssh_session that made it.
 * Thread: the session's.
 */
#ifndef SSH_LIBSSH_SOCKET_H
#define SSH_LIBSSH_SOCKET_H

#include "core/chain.h"

#include <libssh/libssh.h>

struct ssh_socket_struct;

/* Where written bytes go from now on. */
void libssh_socket_attach(struct ssh_socket_struct *s, struct chain *out);

/* Hands bytes to libssh; returns how many of them it took, 0 for "more are needed" or when the socket is closed. */
size_t libssh_socket_feed(struct ssh_socket_struct *s, const uint8_t *p, size_t n);

/* Where written bytes go; NULL before libssh_socket_attach. */
struct chain *libssh_socket_out(const struct ssh_socket_struct *s);

#endif
