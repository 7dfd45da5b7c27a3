/*
 * upstream/control/http_sockets.c - curl's sockets and timeouts on the ring.
 *
 * curl says by on_socket what it waits for on which descriptor, and by on_timer when it wants to be called at the latest. A descriptor
 * that it has done with is either closed by on_close (a connection's) or by curl itself, right after (what its resolver's threads wake
 * it with). Of the first kind the close waits for the watch's end. Of the second kind a poll may still be in flight: it holds the
 * old file and tells nobody.
 */
#include "upstream/control/http_internal.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

struct http_socket {
	struct watch watch;
	struct http *http;
	struct list node;
	bool is_close_wanted;
};

/* ---- Into curl ---- */

static void http_act(struct http *h, curl_socket_t fd, int flags)
{
	int running;

	h->depth++;
	/* Fails only for a handle that is none, or that a callback has aborted. */
	(void)curl_multi_socket_action(h->multi, fd, flags, &running);
	http_reap(h);
	h->depth--;
	http_settle(h);
}

static void on_ready(struct watch *w, uint32_t events)
{
	struct http_socket *s = CONTAINER_OF(w, struct http_socket, watch);
	int flags = 0;

	/* What has failed is both: reading or writing tells curl how. */
	if (events & (POLLIN | POLLHUP | POLLERR))
		flags |= CURL_CSELECT_IN;
	if (events & (POLLOUT | POLLHUP | POLLERR))
		flags |= CURL_CSELECT_OUT;
	if (events & POLLNVAL)
		flags |= CURL_CSELECT_ERR;
	http_act(s->http, w->fd, flags);
}

static void on_fire(struct timer *t)
{
	http_act(CONTAINER_OF(t, struct http, timer), CURL_SOCKET_TIMEOUT, 0);
}

static void on_soon(struct deferred *d)
{
	http_act(CONTAINER_OF(d, struct http, soon), CURL_SOCKET_TIMEOUT, 0);
}

/* ---- From curl ---- */

static int on_timer(CURLM *multi, long timeout_ms, void *ctx)
{
	struct http *h = ctx;

	timer_stop(h->ring, &h->timer);
	deferred_cancel(&h->soon);
	if (h->is_freed || timeout_ms < 0)
		return 0;
	/* Not at once: curl may not be called from here. */
	if (timeout_ms == 0)
		deferred_ask(h->ring, &h->soon);
	else
		timer_start(h->ring, &h->timer, (uint64_t)timeout_ms);
	return 0;
}

static void on_stopped(struct watch *w)
{
	struct http_socket *s = CONTAINER_OF(w, struct http_socket, watch);
	struct http *h = s->http;

	if (s->is_close_wanted)
		(void)close(w->fd);
	list_del(&s->node);
	free(s);
	http_settle(h);
}

static uint32_t events_of(int what)
{
	return (what == CURL_POLL_IN || what == CURL_POLL_INOUT ? POLLIN : 0) |
	       (what == CURL_POLL_OUT || what == CURL_POLL_INOUT ? POLLOUT : 0);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *assigned)
{
	struct http_socket *s = assigned;
	struct http *h = ctx;

	if (what == CURL_POLL_REMOVE) {
		if (s)
			watch_stop(&s->watch);
		return 0;
	}
	if (s) {
		watch_change(&s->watch, events_of(what));
		return 0;
	}
	s = calloc(1, sizeof(*s));
	/* To say so would end all of curl's transfers for good. This one ends by its deadline. */
	if (!s)
		return 0;
	s->http = h;
	s->watch = (struct watch){.on_ready = on_ready, .on_stopped = on_stopped};
	list_add_head(&h->sockets, &s->node);
	(void)curl_multi_assign(h->multi, fd, s);
	watch_start(&s->watch, h->ring, fd, events_of(what));
	return 0;
}

static curl_socket_t on_open(void *ctx, curlsocktype purpose, struct curl_sockaddr *a)
{
	unsigned timeout_ms = ((struct http *)ctx)->connect_timeout_ms;
	int fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);

	/*
	 * Bytes that nobody acknowledges end the connection, so that a call on one whose other end has vanished is tried again in
	 * time. A control plane that is frozen acknowledges.
	 */
	if (fd >= 0 && (a->family == AF_INET || a->family == AF_INET6))
		(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
	return fd < 0 ? CURL_SOCKET_BAD : fd;
}

static int on_close(void *ctx, curl_socket_t fd)
{
	struct http *h = ctx;

	/* The newest first: an older one of the same number is not this one's. */
	for (struct list *n = h->sockets.next; n != &h->sockets; n = n->next) {
		struct http_socket *s = CONTAINER_OF(n, struct http_socket, node);

		if (s->watch.fd != fd || s->is_close_wanted)
			continue;
		s->is_close_wanted = true;
		watch_stop(&s->watch);
		return 0;
	}
	return close(fd);
}

void http_sockets_setup(struct http *h, CURL *easy)
{
	/* These cannot fail. */
	(void)curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
	(void)curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, h);
	(void)curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
	(void)curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, h);
}

void http_sockets_init(struct http *h)
{
	list_init(&h->sockets);
	timer_init(&h->timer, on_fire);
	deferred_init(&h->soon, on_soon);
	(void)curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	(void)curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
	(void)curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	(void)curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
}

void http_sockets_stop(struct http *h)
{
	timer_stop(h->ring, &h->timer);
	deferred_cancel(&h->soon);
	for (struct list *n = h->sockets.next; n != &h->sockets; n = n->next)
		watch_stop(&CONTAINER_OF(n, struct http_socket, node)->watch);
}
