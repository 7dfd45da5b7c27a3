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

/* Who may have a packet decrypted elsewhere than into the session's buffer (ssh/patches/0003). */
struct libssh_placing {
	/* Room for the n bytes of a packet's cleartext, from its padding's length on; NULL: the session's buffer. */
	uint8_t *(*place)(void *user, size_t n);
	/*
	 * They stand there and are verified. How many they are without the padding and its length: they are taken. 0: they were put into the session's
	 * buffer, as if they had been decrypted there; -1: that failed. Where verification fails this does not come.
	 */
	ssize_t (*take)(void *user, const uint8_t *p, size_t n);
};
void libssh_socket_set_placing(struct ssh_socket_struct *s, const struct libssh_placing *placing, void *user);

/* Where written bytes go; NULL before libssh_socket_attach. */
struct chain *libssh_socket_out(const struct ssh_socket_struct *s);

#endif
