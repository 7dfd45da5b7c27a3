/*
 * procd/forward.c - see forward.h.
 */
#include "procd/forward.h"

#include "procd/channel.h"
#include "procd/session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct listener;

struct listener_socket {
	struct watch watch;
	int fd;
	bool is_readable;
};

struct listener {
	struct list node;
	struct session *session;
	uint64_t request;
	uint32_t agent_of;                 /* the session channel whose agent it leads to; 0: a LISTEN's */
	struct listener_socket sockets[2]; /* IPv4 and IPv6 */
	uint32_t socket_count;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "" of a port */
	dev_t device; /* of the path when it was made: what is there later may be somebody else's */
	ino_t inode;
};

static void on_listener_events(struct watch *w, uint32_t events)
{
	struct listener_socket *ls = CONTAINER_OF(w, struct listener_socket, watch);

	(void)events;
	ls->is_readable = true;
}

/* For a LISTEN, or for the agent of a session channel. */
static struct listener *listener_new(struct session *s, uint64_t request, uint32_t agent_of)
{
	struct listener *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->session = s;
	l->request = request;
	l->agent_of = agent_of;
	list_add_tail(&s->listeners, &l->node);
	s->listener_count += agent_of == 0;
	return l;
}

static void close_sockets(struct listener *l)
{
	for (uint32_t i = 0; i < l->socket_count; i++)
		session_unwatch(l->session, &l->sockets[i].fd);
	l->socket_count = 0;
}

static void listener_end(struct listener *l)
{
	struct stat st;

	close_sockets(l);
	if (l->path[0] && lstat(l->path, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode)
		(void)unlink(l->path);
	list_del(&l->node);
	list_add_tail(&l->session->listeners_ended, &l->node);
	l->session->listener_count -= l->agent_of == 0;
}

static struct listener *listener_find(const struct session *s, uint64_t request)
{
	for (struct list *n = s->listeners.next; n != &s->listeners; n = n->next) {
		struct listener *l = CONTAINER_OF(n, struct listener, node);

		if (l->agent_of == 0 && l->request == request)
			return l;
	}
	return NULL;
}

/* --- listening --- */

/* Takes fd. 0 or negative errno. */
static int add_socket(struct listener *l, int fd)
{
	struct listener_socket *ls = &l->sockets[l->socket_count];
	int rc;

	ASSERT(l->socket_count < ARRAY_LEN(l->sockets));
	ls->fd = fd;
	ls->watch.on_events = on_listener_events;
	rc = listen(fd, LISTENER_BACKLOG) < 0 ? -errno : session_watch(l->session, fd, &ls->watch);
	if (rc < 0)
		close(fd);
	else
		l->socket_count++;
	return rc;
}

static int listen_at(struct listener *l, struct sockaddr_storage *a, uint16_t port)
{
	socklen_t bytes = a->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	int fd = socket(a->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1, error;

	if (fd < 0)
		return -errno;
	if (a->ss_family == AF_INET)
		((struct sockaddr_in *)a)->sin_port = htons(port);
	else
		((struct sockaddr_in6 *)a)->sin6_port = htons(port);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (a->ss_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)a, bytes) == 0)
		return add_socket(l, fd);
	error = errno;
	close(fd);
	return -error;
}

static uint16_t port_of(const struct listener *l)
{
	struct sockaddr_storage a = {0};
	socklen_t n = sizeof(a);

	if (getsockname(l->sockets[0].fd, (struct sockaddr *)&a, &n) < 0)
		return 0;
	return ntohs(a.ss_family == AF_INET ? ((struct sockaddr_in *)&a)->sin_port
					    : ((struct sockaddr_in6 *)&a)->sin6_port);
}

/* One port at all addresses; those of a family that this machine does not have are left out. */
static int listen_at_all(struct listener *l, struct sockaddr_storage *addresses, uint32_t count, uint16_t port)
{
	int rc = -EADDRNOTAVAIL;

	for (uint32_t i = 0; i < count && i < ARRAY_LEN(l->sockets); i++) {
		rc = listen_at(l, &addresses[i], port);
		if (rc < 0 && rc != -EADDRNOTAVAIL && rc != -EAFNOSUPPORT) {
			close_sockets(l);
			return rc;
		}
		if (port == 0 && l->socket_count > 0)
			port = port_of(l);
	}
	return l->socket_count > 0 ? 0 : rc;
}

static int listen_tcp(struct listener *l, struct bytes address, uint16_t port)
{
	struct sockaddr_storage addresses[ADDRESSES_MAX] = {{.ss_family = AF_INET}, {.ss_family = AF_INET6}};
	uint32_t count = 2; /* zeros: any address */
	char host[HOST_BYTES_MAX + 1];
	int rc = -EADDRINUSE;

	if (!bytes_is(address, "*")) {
		if (!bytes_copy_str(address, host, sizeof(host)))
			return -EADDRNOTAVAIL;
		memset(addresses, 0, sizeof(addresses));
		count = resolve_literal(host, port, addresses);
	}
	/* A port that is free at one address may be taken at the other. */
	for (int i = 0; i < LISTEN_TRIES && rc == -EADDRINUSE; i++)
		rc = listen_at_all(l, addresses, count, port);
	return rc;
}

/* A socket of the user's own at which nobody listens any more: what a lost session left behind. */
static bool remove_stale(const struct sockaddr_un *sa)
{
	struct stat st;
	bool is_stale;
	int fd;

	if (lstat(sa->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode) || st.st_uid != geteuid())
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	is_stale = connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0 && errno == ECONNREFUSED;
	close(fd);
	return is_stale && unlink(sa->sun_path) == 0;
}

static int listen_unix(struct listener *l, struct bytes path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct stat st;
	int fd, rc;

	if (!bytes_copy_str(path, sa.sun_path, sizeof(sa.sun_path)) || !sa.sun_path[0])
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* Linux makes the file with the socket's mode: a umask would be that of the SFTP servers' threads, too. */
	rc = fchmod(fd, S_IRUSR | S_IWUSR) < 0 ? -errno : 0;
	if (rc == 0 && bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		rc = -errno;
	if (rc == -EADDRINUSE && remove_stale(&sa))
		rc = bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 ? -errno : 0;
	if (rc < 0 || lstat(sa.sun_path, &st) < 0) {
		close(fd);
		return rc < 0 ? rc : -ENOENT;
	}
	memcpy(l->path, sa.sun_path, sizeof(l->path));
	l->device = st.st_dev;
	l->inode = st.st_ino;
	return add_socket(l, fd);
}

/* --- frames --- */

static void refuse(struct session *s, uint64_t request, const char *code, const char *message)
{
	struct frame f = {.type = FRAME_LISTEN_REFUSED};

	f.listen.request = request;
	f.listen.code = bytes_str(code);
	f.listen.message = bytes_str(message);
	session_urgent(s, &f);
}

static void refuse_error(struct session *s, uint64_t request, int error)
{
	bool is_denied = error == EACCES || error == EPERM;

	refuse(s, request, is_denied ? "denied" : error == ENOENT ? "not-found" : "unreachable", strerror(error));
}

void forward_listen(struct session *s, const struct frame *f)
{
	struct frame answer = {.type = FRAME_LISTENING};
	bool is_unix = bytes_is(f->listen.kind, "unix");
	uint64_t request = f->listen.request;
	struct listener *l;
	int rc;

	if (listener_find(s, request)) {
		session_fail(s, "protocol", "LISTEN with a request that is used already");
		return;
	}
	if (s->state != SESSION_READY) {
		refuse(s, request, "shutting-down", "the sandbox is shutting down");
		return;
	}
	if (!is_unix && !bytes_is(f->listen.kind, "tcp")) {
		refuse(s, request, "unknown-kind", "procd cannot listen there");
		return;
	}
	l = s->listener_count < LISTENERS_MAX ? listener_new(s, request, 0) : NULL;
	if (!l) {
		refuse(s, request, "too-many-channels", "too much is listened for already, or no memory");
		return;
	}
	rc = is_unix ? listen_unix(l, f->listen.address) : listen_tcp(l, f->listen.address, (uint16_t)f->listen.port);
	if (rc < 0) {
		refuse_error(s, request, -rc);
		listener_end(l);
		return;
	}
	answer.listen.request = request;
	answer.listen.port = is_unix ? 0 : port_of(l);
	session_urgent(s, &answer);
}

void forward_unlisten(struct session *s, const struct frame *f)
{
	struct listener *l = listener_find(s, f->listen.request);
	struct frame answer = {.type = FRAME_UNLISTENED};

	if (l)
		listener_end(l);
	answer.listen.request = f->listen.request;
	session_urgent(s, &answer);
}

/* --- agents --- */

int forward_agent(struct session *s, uint32_t channel, const char *path, struct listener **ret_listener)
{
	struct listener *l = listener_new(s, 0, channel);
	int rc = l ? listen_unix(l, bytes_str(path)) : -ENOMEM;

	if (rc == 0)
		*ret_listener = l;
	else if (l)
		listener_end(l);
	return rc;
}

void forward_agent_end(struct listener *l)
{
	l->session->is_agent_gone = true;
	listener_end(l);
}

void forward_end_orphans(struct session *s)
{
	struct frame f = {.type = FRAME_CLOSE};

	if (!s->is_agent_gone)
		return;
	s->is_agent_gone = false;
	for (struct list *n = s->channels.next, *next; n != &s->channels; n = next) {
		struct channel *c = CONTAINER_OF(n, struct channel, in_all);

		next = n->next;
		if (c->kind != &agent_kind || channel_find(s, c->tcp.agent_of))
			continue;
		/* What of it waits behind CLOSE is dropped by the gateway; and a CLOSE of its own is no answer to this. */
		channel_send_urgent(c, &f);
		channel_end(c);
	}
}

/* --- connections --- */

static void fill_originator(int fd, char text[INET6_ADDRSTRLEN], struct frame_open_options *o)
{
	struct sockaddr_storage a = {0};
	socklen_t n = sizeof(a);

	if (getpeername(fd, (struct sockaddr *)&a, &n) == 0 && a.ss_family == AF_INET) {
		(void)inet_ntop(AF_INET, &((struct sockaddr_in *)&a)->sin_addr, text, INET6_ADDRSTRLEN);
		o->originator_port = ntohs(((struct sockaddr_in *)&a)->sin_port);
	} else if (a.ss_family == AF_INET6) {
		(void)inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&a)->sin6_addr, text, INET6_ADDRSTRLEN);
		o->originator_port = ntohs(((struct sockaddr_in6 *)&a)->sin6_port);
	}
	o->originator_host = bytes_str(text);
}

/* Takes fd. */
static void offer(struct listener *l, int fd)
{
	struct frame f = {.type = FRAME_OPEN};
	char originator[INET6_ADDRSTRLEN] = "";
	struct channel *c;

	f.open.kind = bytes_str(l->path[0] ? "forwarded-unix" : "forwarded-tcp");
	f.open.options.request = l->request;
	fill_originator(fd, originator, &f.open.options);
	c = channel_offer(l->session, &tcp_kind, &f);
	if (c)
		tcp_accepted(c, fd);
	else
		close(fd);
}

/* Takes fd. */
static void offer_to_agent(struct listener *l, int fd)
{
	struct frame f = {.type = FRAME_OPEN};
	struct channel *c;

	f.open.kind = bytes_str("agent");
	f.open.options.session = l->agent_of;
	c = channel_offer(l->session, &agent_kind, &f);
	if (c)
		tcp_accepted_agent(c, fd, l->agent_of);
	else
		close(fd);
}

static bool may_offer(const struct listener *l)
{
	return channel_may_offer(l->session) && (l->agent_of == 0 || l->session->agent_count < AGENT_CONNECTIONS_MAX);
}

/* True: there may be another one. */
static bool accept_one(struct listener *l, struct listener_socket *ls)
{
	int fd;

	if (!ls->is_readable || !may_offer(l))
		return false;
	fd = accept4(ls->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0 && l->agent_of != 0)
		offer_to_agent(l, fd);
	else if (fd >= 0)
		offer(l, fd);
	else if (errno == EAGAIN)
		ls->is_readable = false;
	/* Else there are no descriptors or no memory: in the next round. */
	return fd >= 0 || errno == EINTR || errno == ECONNABORTED;
}

/* One of each in turn, for one that many connect to would take all that may be offered. Who had one is behind the others next time, too. */
void forward_accept(struct session *s)
{
	bool is_more = true;

	while (is_more) {
		is_more = false;
		for (struct list *n = s->listeners.next, *next; n != &s->listeners; n = next) {
			struct listener *l = CONTAINER_OF(n, struct listener, node);
			bool had_one = false;

			next = n->next;
			for (uint32_t i = 0; i < l->socket_count; i++)
				had_one |= accept_one(l, &l->sockets[i]);
			if (!had_one)
				continue;
			is_more = true;
			list_del(n);
			list_add_tail(&s->listeners, n);
		}
	}
}

void forward_end_all(struct session *s)
{
	while (!list_is_empty(&s->listeners))
		listener_end(CONTAINER_OF(s->listeners.next, struct listener, node));
}

void forward_bury(struct session *s)
{
	while (!list_is_empty(&s->listeners_ended)) {
		struct listener *l = CONTAINER_OF(s->listeners_ended.next, struct listener, node);

		list_del(&l->node);
		free(l);
	}
}
