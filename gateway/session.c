#include "gateway/session.h"

#include "core/log.h"
#include "gateway/login.h"
#include "ring/socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Little is kept unsent in the kernel, so that a keystroke's echo never waits behind a copy. */
#define CLIENT_NOTSENT_LOWAT (128 * 1024)

static const bool phase_allowed[4][4] = {
	[SESSION_LOGIN] = {[SESSION_MOVING] = true, [SESSION_CLOSING] = true},
	[SESSION_MOVING] = {[SESSION_LIVE] = true, [SESSION_CLOSING] = true},
	[SESSION_LIVE] = {[SESSION_CLOSING] = true},
};

static const struct stream_events client_events;
static const struct conn_events conn_events;
static void on_timer(struct timer *t);

/* The only writer of s->phase. */
static void session_move(struct session *s, enum session_phase to)
{
	ASSERT(phase_allowed[s->phase][to]);
	s->phase = to;
}

static void hex(const uint8_t *p, size_t n, char *ret_text)
{
	for (size_t i = 0; i < n; i++)
		sprintf(ret_text + 2 * i, "%02x", p[i]);
}

static void uncount_unauthenticated(struct session *s)
{
	if (!s->is_counted_unauthenticated)
		return;
	s->is_counted_unauthenticated = false;
	if (s->address_place > 0)
		atomic_fetch_sub(&s->server->unauthenticated_at[s->address_place - 1], 1);
	atomic_fetch_sub(&s->server->counters.unauthenticated_count, 1);
}

static void take_origin(struct session *s, int fd, const struct session_origin *from)
{
	if (from) {
		snprintf(s->address, sizeof(s->address), "%s", from->address);
		snprintf(s->local, sizeof(s->local), "%s", from->local);
		s->jump_depth = from->depth;
	} else {
		socket_peer_text(fd, s->address, sizeof(s->address));
		socket_local_text(fd, s->local, sizeof(s->local));
	}
}

void session_start(struct handshaker *h, int fd, const struct session_origin *from)
{
	struct session *s = calloc(1, sizeof(*s));
	uint8_t id[PROOF_SESSION_BYTES];

	if (!s || !(s->login = calloc(1, sizeof(*s->login)))) {
		free(s);
		close(fd);
		return;
	}
	s->server = h->server;
	s->handshaker = h;
	s->ring = h->ring;
	s->started_us = s->heard_us = ring_now_us(h->ring);
	proof_random(id, sizeof(id));
	hex(id, sizeof(id), s->id);
	take_origin(s, fd, from);
	if (!login_admits_address(s)) {
		free(s->login);
		free(s);
		close(fd);
		return;
	}
	(void)socket_tune(fd, s->server->config->session.tcp_user_timeout_ms, CLIENT_NOTSENT_LOWAT);
	timer_init(&s->timer, on_timer);
	check_init(s);
	idle_init(s);
	bridge_init(&s->bridge, s);
	stream_open(&s->client, h->ring, fd, &client_events);
	s->conn = conn_new(s->server->conn_server, &conn_events, s, &s->client.out);
	list_add_tail(&h->sessions, &s->node);
	s->is_counted_unauthenticated = true;
	atomic_fetch_add(&s->server->counters.unauthenticated_count, 1);
	atomic_fetch_add(&s->server->counters.session_count, 1);
	if (from)
		log_event(LOG_INFO, "connect", LOG_STR("session", s->id), LOG_STR("client", s->address),
			  LOG_STR("via", from->via));
	else
		log_event(LOG_INFO, "connect", LOG_STR("session", s->id), LOG_STR("client", s->address));
	if (!s->conn) {
		session_close(s, "out of memory");
		return;
	}
	timer_start(s->ring, &s->timer, (uint64_t)s->server->config->login.grace_s * 1000);
	stream_recv(&s->client, true);
	stream_send(&s->client);
}

static void session_free(struct session *s)
{
	list_del(&s->node);
	uncount_unauthenticated(s);
	atomic_fetch_sub(&s->server->counters.session_count, 1);
	atomic_fetch_add(&s->server->counters.sessions_ended, 1);
	if (s->worker)
		atomic_fetch_sub(&s->worker->session_count, 1);
	conn_free(s->conn);
	bridge_deinit(&s->bridge);
	free(s->grants);
	policy_put(s->team_policy);
	policy_put(s->sandbox_policy);
	free(s);
}

static void close_client(struct session *s)
{
	timer_stop(s->ring, &s->timer);
	stream_close(&s->client);
}

/*
 * Closing with bytes unread makes the kernel send RST, which may overtake our last words at the client: say FIN, and close when he
 * does, or at the linger timer.
 */
static void close_when_sent(struct session *s)
{
	if (s->client.out.bytes > 0)
		return;
	if (s->is_recv_ended)
		close_client(s);
	else
		stream_shutdown(&s->client);
}

static void free_when_closed(struct session *s)
{
	if (s->is_client_closed && bridge_is_closed(&s->bridge))
		session_free(s);
}

static void log_end(struct session *s)
{
	uint64_t now = ring_now_us(s->ring);

	log_event(LOG_INFO, "end", LOG_STR("session", s->id), LOG_STR("reason", s->end_reason),
		  LOG_STR("client", s->address), LOG_STR("sandbox", s->route.sandbox),
		  LOG_STR("user", s->route.grant.user), LOG_F3("seconds", (double)(now - s->started_us) / 1e6),
		  LOG_U64("bytes_in", s->bytes_from_client), LOG_U64("bytes_out", s->bytes_to_client),
		  LOG_U64("channels", s->bridge.links.opened_count));
}

void session_close(struct session *s, const char *reason)
{
	if (s->phase == SESSION_CLOSING)
		return;
	session_move(s, SESSION_CLOSING);
	snprintf(s->end_reason, sizeof(s->end_reason), "%s", reason);
	log_end(s);
	login_free(s);
	check_end(s);
	idle_stop(s);
	uncount_unauthenticated(s);
	bridge_close(&s->bridge);
	if (s->conn) {
		conn_flush(s->conn);
		/* It may be in the middle of a read, whose other packets would find nothing to work on. */
		conn_stop(s->conn);
	}
	/* What the client should still read goes out first; he sends nothing that we would heed. */
	if (s->client.out.bytes > 0) {
		timer_start(s->ring, &s->timer, SESSION_LINGER_MS);
		stream_recv(&s->client, true); /* dropped, but his end is seen */
		stream_send(&s->client);
	} else {
		close_client(s);
	}
}

void session_disconnect(struct session *s, uint32_t code, const char *text)
{
	if (s->phase == SESSION_CLOSING)
		return;
	if (s->conn && !conn_has_ended(s->conn))
		conn_disconnect(s->conn, code, text); /* closes by on_end */
	else
		session_close(s, text);
}

void session_withdraw(struct session *s)
{
	static const char text[] = "access to this sandbox has been withdrawn";

	links_tell_all(&s->bridge.links, text);
	bridge_drop(&s->bridge);
	session_disconnect(s, DISCONNECT_BY_APPLICATION, text);
}

bool session_set_grants(struct session *s, const struct grant *grants, uint32_t count)
{
	struct grant *copy = calloc(count, sizeof(*copy));

	if (!copy)
		return false;
	memcpy(copy, grants, count * sizeof(*copy));
	free(s->grants);
	s->grants = copy;
	s->grant_count = count;
	return true;
}

struct policies session_policies(const struct session *s)
{
	return (struct policies){s->server->policy, s->team_policy, s->sandbox_policy, s->route.grant.team};
}

void session_take_policies(struct session *s, const struct route_query *q)
{
	struct policy *team = s->team_policy, *sandbox = s->sandbox_policy;

	ASSERT(q->verdict == VERDICT_YES);
	s->team_policy = policy_get(q->team_policy);
	s->sandbox_policy = policy_get(q->sandbox_policy);
	policy_put(team);
	policy_put(sandbox);
	idle_start(s);
}

/* Waits more for the client, or for procd on his behalf, than who reads his replies leaves there? */
static bool is_flooded(const struct session *s, size_t part)
{
	size_t out_max = s->phase == SESSION_LOGIN ? LOGIN_OUT_MAX : SESSION_OUT_MAX;

	return s->client.out.bytes > out_max / part || procd_client_unsent(&s->bridge.procd) > SESSION_PROCD_MAX / part;
}

/* A client that floods requests whose answers nobody takes is not read until half of them are gone. */
static void regulate_recv(struct session *s)
{
	if (s->phase != SESSION_LOGIN && s->phase != SESSION_LIVE)
		return;
	if (s->is_recv_paused ? is_flooded(s, 2) : !is_flooded(s, 1))
		return;
	s->is_recv_paused = !s->is_recv_paused;
	stream_recv(&s->client, !s->is_recv_paused);
}

void session_flush(struct session *s)
{
	conn_flush(s->conn);
	if (s->client.out.bytes > 0)
		stream_send(&s->client);
	regulate_recv(s);
}

void session_bridge_closed(struct session *s)
{
	if (s->phase == SESSION_CLOSING)
		free_when_closed(s);
}

/* --- hand-over --- */

static void on_mail(struct ring *r, struct mail *m)
{
	struct session *s = CONTAINER_OF(m, struct session, mail);

	(void)r;
	session_adopt(s->worker, s);
}

static void hand_over(struct session *s)
{
	timer_start(s->ring, &s->timer, SESSION_MOVE_MS);
	login_free(s);
	uncount_unauthenticated(s);
	session_move(s, SESSION_MOVING);
	s->authenticated_us = ring_now_us(s->ring);
	conn_pause(s->conn, true);
	stream_detach(&s->client);
}

static void on_detached(struct stream *st, int fd, int err)
{
	struct session *s = CONTAINER_OF(st, struct session, client);
	struct worker *w = server_pick_worker(s->server);

	timer_stop(s->ring, &s->timer);
	list_del(&s->node);
	s->moved_fd = fd;
	s->worker = w;
	(void)err; /* an end is seen again by the worker's recv */
	atomic_fetch_add(&w->session_count, 1);
	s->mail.on_mail = on_mail;
	ring_post(w->ring, s->ring, &s->mail);
}

void session_adopt(struct worker *w, struct session *s)
{
	s->handshaker = NULL;
	s->ring = w->ring;
	list_add_tail(&w->sessions, &s->node);
	stream_open(&s->client, w->ring, s->moved_fd, &client_events);
	s->moved_fd = -1;
	conn_move(s->conn, &s->client.out);
	session_move(s, SESSION_LIVE);
	s->heard_us = ring_now_us(w->ring);
	timer_start_lazily(w->ring, &s->timer, SESSION_REST_MS, SESSION_REST_MS);
	s->is_recv_paused = false;
	stream_recv(&s->client, true);
	if (atomic_load(&s->server->is_stopping)) {
		session_disconnect(s, DISCONNECT_BY_APPLICATION, "the gateway is shutting down");
		return;
	}
	check_adopt(s);
	s->bridge.links.moved_us = s->heard_us;
	idle_start(s);
	conn_pause(s->conn, false);
	session_flush(s);
}

/* --- the client's leg --- */

static void on_recv(struct stream *st, const uint8_t *p, size_t n)
{
	struct session *s = CONTAINER_OF(st, struct session, client);
	uint64_t now_us = ring_now_us(s->ring);
	bool is_answer = s->is_trimmed && n <= SESSION_ANSWER_MAX && now_us - s->asked_us < SESSION_REST_MS * 1000ull;

	if (s->phase == SESSION_CLOSING)
		return;
	s->bytes_from_client += n;
	s->heard_us = now_us;
	s->keepalives_out = 0;
	if (s->is_trimmed && !is_answer) {
		s->is_trimmed = false;
		timer_start_lazily(s->ring, &s->timer, SESSION_REST_MS, SESSION_REST_MS);
	}
	conn_input(s->conn, p, n);
	if (s->phase == SESSION_LIVE)
		links_settle(&s->bridge.links);
	session_flush(s);
	if (is_answer && s->phase == SESSION_LIVE)
		conn_trim(s->conn); /* it rests on; the timer stands at the next keepalive */
	/* OpenSSH, too, sets TCP_NODELAY only when it is logged in: its KEXINIT, which crosses ours, would hold up what follows. */
	if (s->phase == SESSION_LOGIN && st->out.bytes == 0)
		socket_acknowledge(st->fd);
}

static void on_recv_end(struct stream *st, int err)
{
	struct session *s = CONTAINER_OF(st, struct session, client);

	s->is_recv_ended = true;
	if (s->phase == SESSION_CLOSING)
		close_when_sent(s);
	else
		session_close(s, err < 0 ? strerror(-err) : "the client closed the connection");
}

static void on_sent(struct stream *st, size_t n)
{
	struct session *s = CONTAINER_OF(st, struct session, client);

	s->bytes_to_client += n;
	if (s->phase == SESSION_CLOSING) {
		close_when_sent(s);
		return;
	}
	regulate_recv(s);
	if (s->phase == SESSION_LIVE)
		links_settle(&s->bridge.links);
}

static void on_send_error(struct stream *st, int err)
{
	struct session *s = CONTAINER_OF(st, struct session, client);

	session_close(s, strerror(-err));
	close_client(s);
}

static void on_closed(struct stream *st)
{
	struct session *s = CONTAINER_OF(st, struct session, client);

	s->is_client_closed = true;
	free_when_closed(s);
}

static const struct stream_events client_events = {
	.on_recv = on_recv,
	.on_recv_end = on_recv_end,
	.on_sent = on_sent,
	.on_send_error = on_send_error,
	.on_closed = on_closed,
	.on_detached = on_detached,
};

/* --- time --- */

/* LIVE: after SESSION_REST_MS of rest buffers are given back, after keepalive_s of silence the client is asked for a sign. */
static void on_rest(struct session *s)
{
	const struct config *c = s->server->config;
	uint64_t now_us = ring_now_us(s->ring);
	uint64_t silent_ms = (now_us - s->heard_us) / 1000;
	/* The client has this long for each answer, however late it was asked. */
	uint64_t waited_ms = (now_us - (s->keepalives_out > 0 ? s->asked_us : s->heard_us)) / 1000;
	uint64_t keepalive_ms = (uint64_t)c->session.keepalive_s * 1000;
	uint64_t next_ms = SESSION_REST_MS;

	if (silent_ms >= SESSION_REST_MS && !s->is_trimmed && s->client.out.bytes == 0) {
		conn_trim(s->conn);
		links_rest(&s->bridge.links);
		s->is_trimmed = true;
	}
	if (keepalive_ms > 0 && waited_ms >= keepalive_ms) {
		if (s->keepalives_out >= c->session.keepalive_count) {
			session_close(s, "the client does not answer any more");
			return;
		}
		conn_keepalive(s->conn);
		if (s->phase != SESSION_LIVE)
			return; /* it could not be sent: the timer is CLOSING's now */
		s->keepalives_out++;
		s->asked_us = now_us;
		waited_ms = 0;
		session_flush(s);
	}
	if (s->is_trimmed)
		next_ms = keepalive_ms > 0 ? keepalive_ms - waited_ms : 30 * 1000;
	else if (keepalive_ms > 0 && keepalive_ms - waited_ms < next_ms)
		next_ms = keepalive_ms - waited_ms;
	timer_start_lazily(s->ring, &s->timer, next_ms, keepalive_ms > 0 ? keepalive_ms : SESSION_REST_MS);
}

static void on_timer(struct timer *t)
{
	struct session *s = CONTAINER_OF(t, struct session, timer);

	switch (s->phase) {
	case SESSION_LOGIN:
		atomic_fetch_add(&s->server->counters.auth_timeout, 1);
		session_disconnect(s, DISCONNECT_BY_APPLICATION, "login took too long");
		break;
	case SESSION_LIVE:
		on_rest(s);
		break;
	case SESSION_CLOSING:
		close_client(s);
		break;
	case SESSION_MOVING:
		session_close(s, "the client did not take the answer to its login");
		break;
	}
}

/* --- what the connection reports --- */

static void on_auth_begin(struct conn *c)
{
	login_on_begin(conn_owner(c));
}

static void on_auth(struct conn *c, const struct auth_query *q)
{
	login_on_auth(conn_owner(c), q);
}

static void on_auth_failure(struct conn *c, enum auth_failure why, const char *detail)
{
	login_on_auth_failure(conn_owner(c), why, detail);
}

static void on_authenticated(struct conn *c)
{
	hand_over(conn_owner(c));
}

static enum chan_answer on_chan_open(struct chan *ch, const struct chan_open *o)
{
	struct session *s = conn_owner(chan_conn(ch));

	return link_on_chan_open(&s->bridge.links, ch, o);
}

static enum chan_answer on_listen(struct conn *c, const struct conn_listen *l)
{
	struct session *s = conn_owner(c);

	return forwards_on_listen(&s->bridge.links, l);
}

static uint8_t *on_room(struct conn *c, size_t n)
{
	struct session *s = conn_owner(c);

	return s->phase == SESSION_LIVE ? links_on_room(&s->bridge.links, n) : NULL;
}

static void on_room_back(struct conn *c)
{
	struct session *s = conn_owner(c);

	links_on_room_back(&s->bridge.links);
}

static void on_chan_window(struct chan *ch)
{
	struct session *s = conn_owner(chan_conn(ch));

	links_settle(&s->bridge.links);
}

static void on_keepalive_reply(struct conn *c)
{
	(void)c; /* any byte counts as a sign of life: on_recv */
}

static void on_rekeyed(struct conn *c)
{
	struct session *s = conn_owner(c);

	links_settle(&s->bridge.links);
}

static void on_end(struct conn *c, const char *reason, bool is_clean)
{
	(void)is_clean;
	session_close(conn_owner(c), reason);
}

static const struct conn_events conn_events = {
	.on_auth_begin = on_auth_begin,
	.on_auth = on_auth,
	.on_auth_failure = on_auth_failure,
	.on_authenticated = on_authenticated,
	.on_chan_open = on_chan_open,
	.on_chan_opened = link_on_chan_opened,
	.on_chan_refused = link_on_chan_refused,
	.on_listen = on_listen,
	.on_chan_request = link_on_chan_request,
	.on_chan_data = link_on_chan_data,
	.on_room = on_room,
	.on_room_data = link_on_room_data,
	.on_room_back = on_room_back,
	.on_chan_eof = link_on_chan_eof,
	.on_chan_close = link_on_chan_close,
	.on_chan_window = on_chan_window,
	.on_chan_gone = link_on_chan_gone,
	.on_keepalive_reply = on_keepalive_reply,
	.on_rekeyed = on_rekeyed,
	.on_end = on_end,
};
