/* Implements libssh/socket.h; each function does what libssh 0.12.2's callers need of it. Checked at each libssh update. */
#include "config.h"

#include "ssh/libssh_socket.h"

#include "libssh/poll.h"
#include "libssh/priv.h"
#include "libssh/session.h"
#include "libssh/socket.h"

#include <errno.h>
#include <stdlib.h>

struct ssh_socket_struct {
	struct chain *out;
	ssh_socket_callbacks callbacks;
	bool is_open;
	const struct libssh_placing *placing; /* NULL: nobody wants it */
	void *placing_user;
};

int ssh_socket_init(void)
{
	ssh_poll_init();
	return 0;
}

void ssh_socket_cleanup(void)
{
	ssh_poll_cleanup();
}

ssh_socket ssh_socket_new(ssh_session session)
{
	ssh_socket s = calloc(1, sizeof(*s));

	if (!s)
		ssh_set_error_oom(session);
	return s;
}

void ssh_socket_free(ssh_socket s)
{
	free(s);
}

void libssh_socket_attach(ssh_socket s, struct chain *out)
{
	s->out = out;
	s->is_open = true;
}

struct chain *libssh_socket_out(const struct ssh_socket_struct *s)
{
	return s->out;
}

size_t libssh_socket_feed(ssh_socket s, const uint8_t *p, size_t n)
{
	if (!s->is_open || !s->callbacks || !s->callbacks->data)
		return 0;
	return s->callbacks->data(p, n, s->callbacks->userdata);
}

void libssh_socket_set_placing(ssh_socket s, const struct libssh_placing *placing, void *user)
{
	s->placing = placing;
	s->placing_user = user;
}

/* Called by packet.c, which declares them. */
uint8_t *libssh_socket_place(ssh_socket s, size_t n);
ssize_t libssh_socket_take(ssh_socket s, const uint8_t *p, size_t n);

uint8_t *libssh_socket_place(ssh_socket s, size_t n)
{
	return s->placing ? s->placing->place(s->placing_user, n) : NULL;
}

ssize_t libssh_socket_take(ssh_socket s, const uint8_t *p, size_t n)
{
	return s->placing->take(s->placing_user, p, n);
}

void ssh_socket_set_callbacks(ssh_socket s, ssh_socket_callbacks callbacks)
{
	s->callbacks = callbacks;
}

int ssh_socket_write(ssh_socket s, const void *buffer, uint32_t len)
{
	if (!s->is_open || !s->out || chain_append(s->out, buffer, len) < 0)
		return SSH_ERROR;
	return SSH_OK;
}

int ssh_socket_is_open(ssh_socket s)
{
	return s->is_open;
}

void ssh_socket_close(ssh_socket s)
{
	s->is_open = false;
}

int ssh_socket_nonblocking_flush(ssh_socket s)
{
	return s->is_open ? SSH_OK : SSH_ERROR;
}

int ssh_socket_get_status(ssh_socket s)
{
	return s->is_open ? 0 : SSH_CLOSED;
}

/* Everything below belongs to blocking use or to clients; it is linked, never of effect here. */

socket_t ssh_socket_get_fd(ssh_socket s)
{
	(void)s;
	return SSH_INVALID_SOCKET;
}

int ssh_socket_set_fd(ssh_socket s, socket_t fd)
{
	(void)s;
	(void)fd;
	return SSH_ERROR;
}

void ssh_socket_reset(ssh_socket s)
{
	s->is_open = false;
}

void ssh_socket_set_connected(ssh_socket s, struct ssh_poll_handle_struct *p)
{
	(void)s;
	(void)p;
}

struct ssh_poll_handle_struct *ssh_socket_get_poll_handle(ssh_socket s)
{
	(void)s;
	return NULL;
}

int ssh_socket_get_poll_flags(ssh_socket s)
{
	(void)s;
	return 0;
}

int ssh_socket_buffered_write_bytes(ssh_socket s)
{
	(void)s;
	return 0;
}

int ssh_socket_data_available(ssh_socket s)
{
	(void)s;
	return 0;
}

int ssh_socket_data_writable(ssh_socket s)
{
	(void)s;
	return 0;
}

void ssh_socket_set_read_wontblock(ssh_socket s)
{
	(void)s;
}

void ssh_socket_set_write_wontblock(ssh_socket s)
{
	(void)s;
}

void ssh_socket_set_except(ssh_socket s)
{
	(void)s;
}

int ssh_socket_unix(ssh_socket s, const char *path)
{
	(void)s;
	(void)path;
	return SSH_ERROR;
}

int ssh_socket_set_nonblocking(socket_t fd)
{
	(void)fd;
	return SSH_ERROR;
}

int ssh_socket_set_blocking(socket_t fd)
{
	(void)fd;
	return SSH_ERROR;
}

int ssh_socket_connect(ssh_socket s, const char *host, uint16_t port, const char *bind_addr)
{
	(void)s;
	(void)host;
	(void)port;
	(void)bind_addr;
	return SSH_ERROR;
}

int ssh_socket_connect_proxycommand(ssh_socket s, const char *command);
int ssh_socket_connect_proxycommand(ssh_socket s, const char *command)
{
	(void)s;
	(void)command;
	return SSH_ERROR;
}

int ssh_socket_connect_proxyjump(ssh_socket s)
{
	(void)s;
	return SSH_ERROR;
}
