/*
 * gateway/jump.c - see jump.h.
 *
 * Towards the inner session at most JUMP_CREDIT waits in `out`: the link holds the rest within the client's window. Towards the client
 * nothing is received while something waits in `down`.
 */
#include "gateway/jump.h"

#include "core/address.h"
#include "gateway/link_internal.h"
#include "gateway/link_setup.h"
#include "gateway/login.h"
#include "gateway/session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

struct jump {
	struct stream stream; /* our end of the pair */
	struct link *link;    /* NULL: it ends */
	struct worker *worker;
	struct chain down; /* came from the inner session and is not sent yet */
	bool has_ended;    /* the inner session sends no more */
	struct timer linger;
};

/* The other end on its way to a handshake thread. */
struct arrival {
	struct mail mail;
	struct handshaker *handshaker;
	int fd;
	struct session_origin origin;
};

/* --- is it meant? --- */

static bool is_listened_at(const struct server *s, uint32_t port)
{
	char text[SOCKET_TEXT_MAX];

	for (uint32_t i = 0; server_address(s, i, text, sizeof(text)); i++)
		if ((uint32_t)strtoul(strrchr(text, ':') + 1, NULL, 10) == port)
			return true;
	return false;
}

/* "NAME", "NAME:PORT", "[V6]" or "[V6]:PORT", as jump.names has them. */
static bool is_named(const struct server *s, const char *entry, const char *host, uint32_t port)
{
	const char *name = entry[0] == '[' ? entry + 1 : entry;
	const char *end = name + strcspn(name, entry[0] == '[' ? "]" : ":"), *rest = *end == ']' ? end + 1 : end;

	if (strlen(host) != (size_t)(end - name) || strncasecmp(host, name, (size_t)(end - name)) != 0)
		return false;
	return rest[0] == ':' ? strtoul(rest + 1, NULL, 10) == port : is_listened_at(s, port);
}

/* An address in digits at which the gateway was reached, or listens. Loopback is the sandbox's own. */
static bool is_address(const struct session *s, const char *host, uint32_t port)
{
	char text[INET6_ADDRSTRLEN + 16], own[SOCKET_TEXT_MAX];
	struct sockaddr_storage addr;
	socklen_t bytes;

	if (host_is_loopback(bytes_str(host)))
		return false;
	snprintf(text, sizeof(text), strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
	if (socket_address_parse(text, &addr, &bytes) < 0 || addr.ss_family == AF_UNIX)
		return false;
	socket_address_text((const struct sockaddr *)&addr, bytes, text, sizeof(text));
	if (strcmp(text, s->local) == 0)
		return true;
	for (uint32_t i = 0; server_address(s->server, i, own, sizeof(own)); i++)
		if (strcmp(text, own) == 0)
			return true;
	return false;
}

bool jump_is_meant(const struct session *s, const struct chan_open *o)
{
	const struct config *c = s->server->config;
	char host[FORWARD_ADDRESS_MAX + 1];

	if (c->jump.depth == 0 || !bytes_copy_str(o->host, host, sizeof(host)))
		return false;
	for (uint32_t i = 0; i < c->jump.names_count; i++)
		if (is_named(s->server, c->jump.names[i], host, o->port))
			return true;
	return strlen(host) < INET6_ADDRSTRLEN && is_address(s, host, o->port);
}

/* --- the inner session's beginning --- */

static void on_arrival(struct ring *r, struct mail *m)
{
	struct arrival *a = CONTAINER_OF(m, struct arrival, mail);
	struct handshaker *h = a->handshaker;

	(void)r;
	if (!atomic_load(&h->server->is_stopping) && login_admits(h))
		session_start(h, a->fd, &a->origin);
	else
		close(a->fd);
	free(a);
}

/* Takes fd. The handshake threads get their mail for as long as nobody has begun to stop them. */
static int arrive(const struct session *s, int fd)
{
	struct server *server = s->server;
	struct arrival *a = calloc(1, sizeof(*a));
	uint32_t turn = atomic_fetch_add(&server->arrival_count, 1);
	int rc = a ? 0 : -ENOMEM;

	if (a) {
		a->handshaker = &server->handshakers[turn % server->handshaker_count];
		a->fd = fd;
		a->mail.on_mail = on_arrival;
		a->origin.depth = s->jump_depth + 1;
		snprintf(a->origin.address, sizeof(a->origin.address), "%s", s->address);
		snprintf(a->origin.local, sizeof(a->origin.local), "%s", s->local);
		snprintf(a->origin.via, sizeof(a->origin.via), "%s", s->id);
	}
	atomic_fetch_add(&server->telling_count, 1);
	if (rc == 0 && atomic_load(&server->is_stopping))
		rc = -ESHUTDOWN;
	if (rc == 0)
		ring_post(a->handshaker->ring, s->ring, &a->mail);
	atomic_fetch_sub(&server->telling_count, 1);
	if (rc < 0) {
		close(fd);
		free(a);
	}
	return rc;
}

/* --- our end --- */

static struct jump *of(struct stream *st)
{
	return CONTAINER_OF(st, struct jump, stream);
}

/* What the client takes now. */
static size_t room(const struct link *l)
{
	const struct session *s = l->links->session;

	if (s->phase != SESSION_LIVE || conn_is_rekeying(s->conn) || s->client.out.bytes >= SESSION_DOWN_BUDGET / 2)
		return 0;
	return chan_room(l->chan);
}

static void write_down(struct link *l, const uint8_t *p, size_t n)
{
	l->links->moved_us = ring_now_us(l->links->session->ring);
	(void)chan_write(l->chan, false, p, n);
}

static struct jump *part(struct link *l)
{
	struct jump *j = l->jump;

	j->link = NULL;
	l->jump = NULL;
	chain_clear(&j->down);
	return j;
}

void jump_drop(struct link *l)
{
	stream_close(&part(l)->stream);
}

void jump_leave(struct link *l)
{
	struct jump *j;
	struct iovec iov;

	while (l->up.bytes > 0 && chain_iov(&l->up, &iov, 1) == 1) {
		size_t n = iov.iov_len;

		if (chain_append(&l->jump->stream.out, iov.iov_base, n) < 0)
			break;
		chain_consume(&l->up, n);
		link_window_release(l, n);
	}
	j = part(l);
	stream_recv(&j->stream, true); /* its end is waited for */
	stream_send(&j->stream);
	stream_shutdown(&j->stream);
	timer_start(j->worker->ring, &j->linger, SESSION_LINGER_MS);
}

/* The inner session is over, and the client has all of it. */
static void finish(struct link *l)
{
	struct chan *ch = l->chan;

	link_move(l, LINK_DONE);
	jump_drop(l);
	chan_eof(ch);
	chan_close(ch); /* frees the link where the client had closed before */
}

int jump_send(struct link *l, struct bytes data)
{
	struct jump *j = l->jump;

	if (chain_append(&j->stream.out, data.p, data.n) < 0)
		return -ENOMEM;
	stream_send(&j->stream);
	return 0;
}

void jump_eof(struct link *l)
{
	stream_shutdown(&l->jump->stream);
}

void jump_settle(struct link *l)
{
	struct jump *j = l->jump;
	struct iovec iov;
	size_t n;

	while (j->down.bytes > 0 && (n = room(l)) > 0 && chain_iov(&j->down, &iov, 1) == 1) {
		if (n > iov.iov_len)
			n = iov.iov_len;
		write_down(l, iov.iov_base, n);
		if (!j->link)
			return; /* the session ended by it */
		chain_consume(&j->down, n);
	}
	if (j->down.bytes > 0)
		return;
	if (j->has_ended)
		finish(l);
	else
		stream_recv(&j->stream, true);
}

static void on_recv(struct stream *st, const uint8_t *p, size_t n)
{
	struct jump *j = of(st);
	struct link *l = j->link;
	size_t now;

	if (!l)
		return;
	now = j->down.bytes == 0 ? room(l) : 0;
	if (now > n)
		now = n;
	if (now > 0)
		write_down(l, p, now);
	if (!j->link)
		return;
	if (now < n) {
		stream_recv(st, false);
		if (chain_append(&j->down, p + now, n - now) < 0) {
			session_close(l->links->session, "out of memory");
			return;
		}
	}
	links_settle(l->links);
}

static void on_recv_end(struct stream *st, int err)
{
	struct jump *j = of(st);

	(void)err; /* an SSH connection says itself whether it ended well */
	j->has_ended = true;
	if (j->link)
		links_settle(j->link->links);
	else
		stream_close(st);
}

static void on_sent(struct stream *st, size_t n)
{
	struct link *l = of(st)->link;

	if (!l)
		return;
	l->up_credit += (uint32_t)n;
	link_push_up(l);
	links_settle(l->links);
}

/* It takes no more; what it still says is passed on until its end. */
static void on_send_error(struct stream *st, int err)
{
	struct link *l = of(st)->link;

	(void)err;
	if (!l)
		return;
	l->is_up_discarded = true;
	l->up_return += (uint32_t)l->up.bytes;
	link_window_release(l, l->up.bytes);
	chain_clear(&l->up);
	links_settle(l->links);
}

static void on_closed(struct stream *st)
{
	struct jump *j = of(st);

	ASSERT(!j->link);
	timer_stop(j->worker->ring, &j->linger);
	j->worker->jump_count--;
	free(j);
}

static void on_linger(struct timer *t)
{
	stream_close(&CONTAINER_OF(t, struct jump, linger)->stream);
}

static const struct stream_events events = {
	.on_recv = on_recv,
	.on_recv_end = on_recv_end,
	.on_sent = on_sent,
	.on_send_error = on_send_error,
	.on_closed = on_closed,
};

static int start(struct link *l)
{
	struct session *s = l->links->session;
	struct jump *j = calloc(1, sizeof(*j));
	int fds[2], rc = j ? 0 : -ENOMEM;

	if (rc == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		rc = -errno;
	if (rc == 0) {
		rc = arrive(s, fds[1]);
		if (rc < 0)
			close(fds[0]);
	}
	if (rc < 0) {
		free(j);
		return rc;
	}
	j->link = l;
	j->worker = s->worker;
	j->worker->jump_count++;
	timer_init(&j->linger, on_linger);
	chain_init(&j->down, ring_pool(s->ring));
	stream_open(&j->stream, s->ring, fds[0], &events);
	stream_recv(&j->stream, true);
	l->jump = j;
	l->up_credit = JUMP_CREDIT;
	return 0;
}

enum chan_answer jump_open(struct links *ls, struct chan *ch)
{
	const struct session *s = ls->session;
	struct policies p = session_policies(s);
	struct link *l;
	int rc;

	if (!policies_allow_jump(&p, s->worker->why)) {
		chan_refuse(ch, CHAN_PROHIBITED, s->worker->why);
		return CHAN_NO;
	}
	if (s->jump_depth >= s->server->config->jump.depth) {
		chan_refuse(ch, CHAN_PROHIBITED, "too many jumps one inside the other (jump.depth)");
		return CHAN_NO;
	}
	l = ls->count < LINK_COUNT_MAX ? link_new(ls, ch) : NULL;
	rc = l ? start(l) : -ENOMEM;
	if (rc < 0) {
		if (l) {
			l->chan = NULL;
			link_free(l);
		}
		chan_set_owner(ch, NULL);
		chan_refuse(ch, CHAN_RESOURCE_SHORTAGE,
			    rc == -ESHUTDOWN ? "the gateway is shutting down" : "too many channels, or no memory");
		return CHAN_NO;
	}
	ls->opened_count++;
	l->is_forward = true;
	link_move(l, LINK_LIVE);
	return CHAN_YES;
}
