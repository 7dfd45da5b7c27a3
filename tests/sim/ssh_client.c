#include "config.h" /* libssh's: its internal headers need it first */

#include "tests/sim/ssh_client.h"

#include "ssh/libssh_socket.h"

#include "libssh/buffer.h"
#include "libssh/crypto.h"
#include "libssh/packet.h"
#include "libssh/pki.h"
#include "libssh/priv.h"
#include "libssh/session.h"
#include "libssh/socket.h"
#include "libssh/ssh2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_TYPE SSH2_MSG_SERVICE_ACCEPT
#define LAST_TYPE SSH2_MSG_CHANNEL_FAILURE
#define CHANNEL_WINDOW_MAX (32 * 1024)
/* Of the private ones, which nobody uses. */
#define JUNK_TYPE 240

/* A packet by hand: formats as ssh_buffer_pack. */
#define client_send(c, ...) CHECK(client_pack_send((c), ssh_buffer_pack((c)->session->out_buffer, __VA_ARGS__)))

static bool client_pack_send(struct sim_client *c, int packed)
{
	return packed == SSH_OK && ssh_packet_send(c->session) != SSH_ERROR;
}

static void on_data(struct client_chan *ch, bool is_error, struct bytes data)
{
	CHECK(!ch->is_eof_seen && !ch->is_closed);
	CHECK(data.n <= ch->window);
	CHECK(data.n > 0 && data.n <= CHANNEL_WINDOW_MAX);
	ch->window -= (uint32_t)data.n;
	ch->ungranted += (uint32_t)data.n;
	if (is_error) {
		for (size_t i = 0; i < data.n && ch->got_error + i < sizeof(ch->error_text) - 1; i++)
			ch->error_text[ch->got_error + i] = (char)data.p[i];
		ch->got_error += data.n;
		return;
	}
	if (ch->plan.is_echo) {
		CHECK(ch->got + data.n <= ch->sent);
		for (size_t i = 0; i < data.n; i++)
			CHECK(data.p[i] == pattern_at(ch->key, ch->got + i));
	}
	ch->got += data.n;
}

static void on_request(struct client_chan *ch, struct wire *w)
{
	struct bytes name = wire_string(w);
	bool wants_reply = wire_bool(w);

	CHECK(!w->is_bad && !wants_reply);
	if (bytes_is(name, "exit-status")) {
		CHECK(ch->end == CHAN_END_NONE);
		ch->end = CHAN_END_STATUS;
		ch->status = wire_u32(w);
		CHECK(!w->is_bad && w->n == 0);
	} else if (bytes_is(name, "exit-signal")) {
		CHECK(ch->end == CHAN_END_NONE);
		ch->end = CHAN_END_SIGNAL;
	} else {
		CHECK(bytes_is(name, "eow@openssh.com"));
	}
}

static void close_chan(struct sim_client *c, struct client_chan *ch)
{
	if (ch->is_close_sent)
		return;
	ch->is_close_sent = true;
	client_send(c, "bd", SSH2_MSG_CHANNEL_CLOSE, ch->peer_number);
}

static void start(struct sim_client *c, struct client_chan *ch)
{
	static char command[CHANNEL_WINDOW_MAX];
	size_t n = strlen(ch->plan.command);

	memset(command, ' ', sizeof(command));
	memcpy(command, ch->plan.command, n);
	if (n < ch->plan.command_bytes)
		n = ch->plan.command_bytes;
	client_send(c, "bdsbdP", SSH2_MSG_CHANNEL_REQUEST, ch->peer_number, "exec", 1, (uint32_t)n, n, command);
}

static void on_channel(struct sim_client *c, uint8_t type, struct wire *w)
{
	uint32_t number = wire_u32(w);
	struct client_chan *ch;

	CHECK(number < CLIENT_CHANS_MAX && c->chans[number].is_used);
	ch = &c->chans[number];
	CHECK(!ch->is_closed); /* nothing follows CLOSE */
	switch (type) {
	case SSH2_MSG_CHANNEL_OPEN_CONFIRMATION:
		CHECK(!ch->is_open);
		ch->is_open = true;
		ch->peer_number = wire_u32(w);
		ch->peer_window = wire_u32(w);
		ch->peer_packet = wire_u32(w);
		if (ch->plan.offers_agent)
			client_send(c, "bdsb", SSH2_MSG_CHANNEL_REQUEST, ch->peer_number, "auth-agent-req@openssh.com",
				    0);
		if (ch->plan.has_pty)
			client_send(c, "bdsbsdddds", SSH2_MSG_CHANNEL_REQUEST, ch->peer_number, "pty-req", 0, "xterm",
				    80, 24, 0, 0, "");
		if (strcmp(ch->plan.command, "tcp") == 0)
			ch->is_started = true;
		else if (ch->plan.command[0])
			start(c, ch);
		else
			client_send(c, "bdsbs", SSH2_MSG_CHANNEL_REQUEST, ch->peer_number, "subsystem", 1, "sftp");
		break;
	case SSH2_MSG_CHANNEL_OPEN_FAILURE:
		CHECK(!ch->is_open);
		ch->is_closed = ch->is_close_sent = true;
		ch->end = CHAN_END_REFUSED;
		break;
	case SSH2_MSG_CHANNEL_SUCCESS:
		CHECK(!ch->is_started);
		ch->is_started = true;
		break;
	case SSH2_MSG_CHANNEL_FAILURE:
		CHECK(!ch->is_started);
		ch->end = CHAN_END_REFUSED;
		close_chan(c, ch);
		break;
	case SSH2_MSG_CHANNEL_DATA:
		on_data(ch, false, wire_string(w));
		CHECK(!w->is_bad && w->n == 0);
		break;
	case SSH2_MSG_CHANNEL_EXTENDED_DATA:
		CHECK(wire_u32(w) == 1);
		on_data(ch, true, wire_string(w));
		CHECK(!w->is_bad && w->n == 0);
		break;
	case SSH2_MSG_CHANNEL_WINDOW_ADJUST: {
		uint32_t n = wire_u32(w);

		CHECK(!w->is_bad && n <= UINT32_MAX - ch->peer_window);
		ch->peer_window += n;
		break;
	}
	case SSH2_MSG_CHANNEL_EOF:
		CHECK(!ch->is_eof_seen);
		ch->is_eof_seen = true;
		break;
	case SSH2_MSG_CHANNEL_CLOSE:
		ch->is_closed = true;
		if (ch->end == CHAN_END_NONE)
			ch->end = CHAN_END_BARE;
		close_chan(c, ch);
		break;
	case SSH2_MSG_CHANNEL_REQUEST:
		on_request(ch, w);
		break;
	default:
		CHECK(!"a packet that no server sends");
	}
}

static void authenticate(struct sim_client *c, bool is_signed)
{
	ssh_session s = c->session;
	ssh_string key = NULL, signature;

	CHECK(ssh_pki_export_pubkey_blob(c->options.key, &key) == SSH_OK);
	CHECK(ssh_buffer_pack(s->out_buffer, "bsssbsS", SSH2_MSG_USERAUTH_REQUEST, c->options.user, "ssh-connection",
			      "publickey", is_signed ? 1 : 0, "ssh-ed25519", key) == SSH_OK);
	if (is_signed) {
		signature = ssh_pki_do_sign(s, s->out_buffer, c->options.key, SSH_DIGEST_AUTO);
		CHECK(signature && ssh_buffer_add_ssh_string(s->out_buffer, signature) == SSH_OK);
		ssh_string_free(signature);
	}
	ssh_string_free(key);
	s->auth.state = is_signed ? SSH_AUTH_STATE_PUBKEY_AUTH_SENT : SSH_AUTH_STATE_PUBKEY_OFFER_SENT;
	CHECK(client_pack_send(c, SSH_OK));
}

static int on_packet(ssh_session session, uint8_t type, ssh_buffer packet, void *user)
{
	struct sim_client *c = user;
	struct wire w = {.p = ssh_buffer_get(packet), .n = ssh_buffer_get_len(packet)};

	(void)session;
	switch (type) {
	case SSH2_MSG_SERVICE_ACCEPT:
		CHECK(c->state == CLIENT_SERVICE);
		c->state = CLIENT_PROBE;
		return SSH_PACKET_USED;
	case SSH2_MSG_USERAUTH_FAILURE:
		c->was_denied = true;
		return SSH_PACKET_USED;
	case SSH2_MSG_USERAUTH_SUCCESS:
		CHECK(c->state == CLIENT_AUTH);
		c->state = CLIENT_LIVE;
		c->is_authenticated = true;
		return SSH_PACKET_NOT_USED; /* libssh marks its session */
	case SSH2_MSG_USERAUTH_PK_OK:
		CHECK(c->state == CLIENT_PROBE);
		if (!c->options.stops_at_auth) {
			c->state = CLIENT_AUTH;
			authenticate(c, true);
		}
		return SSH_PACKET_USED;
	case SSH2_MSG_GLOBAL_REQUEST:
		if (bytes_is(wire_string(&w), "keepalive@openssh.com")) {
			c->keepalives_seen++;
			if (wire_bool(&w) && !c->is_mute)
				client_send(c, "b", SSH2_MSG_REQUEST_FAILURE);
		}
		return SSH_PACKET_USED;
	case SSH2_MSG_REQUEST_SUCCESS:
	case SSH2_MSG_REQUEST_FAILURE:
		return SSH_PACKET_USED;
	default:
		on_channel(c, type, &w);
		return SSH_PACKET_USED;
	}
}

static ssh_packet_callback packet_callbacks[LAST_TYPE - FIRST_TYPE + 1] = {
	[SSH2_MSG_SERVICE_ACCEPT - FIRST_TYPE] = on_packet,
	[SSH2_MSG_USERAUTH_FAILURE - FIRST_TYPE] = on_packet,
	[SSH2_MSG_USERAUTH_SUCCESS - FIRST_TYPE] = on_packet,
	[SSH2_MSG_USERAUTH_PK_OK - FIRST_TYPE] = on_packet,
	[SSH2_MSG_GLOBAL_REQUEST - FIRST_TYPE] = on_packet,
	[SSH2_MSG_REQUEST_SUCCESS - FIRST_TYPE] = on_packet,
	[SSH2_MSG_REQUEST_FAILURE - FIRST_TYPE] = on_packet,
	[SSH2_MSG_CHANNEL_OPEN_CONFIRMATION - FIRST_TYPE] = on_packet,
	[SSH2_MSG_CHANNEL_OPEN_FAILURE - FIRST_TYPE] = on_packet,
	[SSH2_MSG_CHANNEL_WINDOW_ADJUST - FIRST_TYPE] = on_packet,
	[SSH2_MSG_CHANNEL_DATA - FIRST_TYPE] = on_packet,
	[SSH2_MSG_CHANNEL_EXTENDED_DATA - FIRST_TYPE] = on_packet,
	[SSH2_MSG_CHANNEL_EOF - FIRST_TYPE] = on_packet,
	[SSH2_MSG_CHANNEL_CLOSE - FIRST_TYPE] = on_packet,
	[SSH2_MSG_CHANNEL_REQUEST - FIRST_TYPE] = on_packet,
	[SSH2_MSG_CHANNEL_SUCCESS - FIRST_TYPE] = on_packet,
	[SSH2_MSG_CHANNEL_FAILURE - FIRST_TYPE] = on_packet,
};

static void options(struct sim_client *c)
{
	ssh_session s = c->session;
	bool process_config = false;
	int zero = 0;

	ssh_set_blocking(s, 0);
	CHECK(ssh_options_set(s, SSH_OPTIONS_PROCESS_CONFIG, &process_config) == SSH_OK);
	CHECK(ssh_options_set(s, SSH_OPTIONS_HOST, "sim") == SSH_OK);
	CHECK(ssh_options_set(s, SSH_OPTIONS_USER, c->options.user) == SSH_OK);
	CHECK(ssh_options_set(s, SSH_OPTIONS_KNOWNHOSTS, "/dev/null") == SSH_OK);
	CHECK(ssh_options_set(s, SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null") == SSH_OK);
	CHECK(ssh_options_set(s, SSH_OPTIONS_SSH_DIR, "/nonexistent") == SSH_OK);
	CHECK(ssh_options_set(s, SSH_OPTIONS_KEY_EXCHANGE, c->options.kex) == SSH_OK);
	CHECK(ssh_options_set(s, SSH_OPTIONS_HOSTKEYS, "ssh-ed25519") == SSH_OK);
	CHECK(ssh_options_set(s, SSH_OPTIONS_CIPHERS_C_S, c->options.cipher) == SSH_OK);
	CHECK(ssh_options_set(s, SSH_OPTIONS_CIPHERS_S_C, c->options.cipher) == SSH_OK);
	CHECK(ssh_options_set(s, SSH_OPTIONS_COMPRESSION, "no") == SSH_OK);
	CHECK(ssh_options_set(s, SSH_OPTIONS_LOG_VERBOSITY, &zero) == SSH_OK);
	s->opts.rekey_data = c->options.rekey_bytes;
}

static void begin(struct sim_client *c)
{
	ssh_session s = c->session;

	/* It sets its callbacks and then fails, since libssh_socket.c connects nowhere: there is a connection already. */
	CHECK(ssh_connect(s) == SSH_ERROR);
	libssh_socket_attach(s->socket, &c->out);
	s->alive = 1;
	s->session_state = SSH_SESSION_STATE_CONNECTING;
	s->socket_callbacks.connected(SSH_SOCKET_CONNECTED_OK, 0, s);
	CHECK(s->session_state == SSH_SESSION_STATE_SOCKET_CONNECTED);
}

/* Each is answered with UNIMPLEMENTED. */
static void send_junk(struct sim_client *c)
{
	for (uint32_t i = 0; i < c->options.junk_count; i++)
		client_send(c, "b", JUNK_TYPE);
	c->is_deaf = c->options.junk_count > 0;
}

/* What the connection's state asks for next. */
static bool login(struct sim_client *c)
{
	ssh_session s = c->session;

	if (c->state == CLIENT_KEX && s->session_state == SSH_SESSION_STATE_AUTHENTICATING &&
	    !c->options.stops_at_kex) {
		c->state = CLIENT_SERVICE;
		s->auth.service_state = SSH_AUTH_SERVICE_SENT;
		client_send(c, "bs", SSH2_MSG_SERVICE_REQUEST, "ssh-userauth");
		return true;
	}
	if (c->state == CLIENT_PROBE && s->auth.state != SSH_AUTH_STATE_PUBKEY_OFFER_SENT) {
		if (c->options.stops_at_auth || (sim_chance(30) && c->options.junk_count == 0)) {
			authenticate(c, false);
		} else {
			send_junk(c);
			c->state = CLIENT_AUTH;
			authenticate(c, true);
		}
		return true;
	}
	return false;
}

static void open_chan(struct sim_client *c, struct client_chan *ch)
{
	bool is_tcp = strcmp(ch->plan.command, "tcp") == 0;

	ch->window = ch->plan.window_bytes;
	if (is_tcp)
		client_send(c, "bsdddsdsd", SSH2_MSG_CHANNEL_OPEN, "direct-tcpip", ch->number, ch->window,
			    CHANNEL_WINDOW_MAX, "localhost", 80, "127.0.0.1", 1234);
	else
		client_send(c, "bsddd", SSH2_MSG_CHANNEL_OPEN, "session", ch->number, ch->window, CHANNEL_WINDOW_MAX);
}

static bool send_data(struct sim_client *c, struct client_chan *ch)
{
	uint8_t data[CHANNEL_WINDOW_MAX];
	uint64_t left = ch->plan.up_bytes - ch->sent;
	uint32_t n = ch->peer_window < ch->peer_packet ? ch->peer_window : ch->peer_packet;

	if (n > ch->plan.packet_max)
		n = ch->plan.packet_max;
	n = (uint32_t)(left < n ? left : n);
	if (n == 0)
		return false;
	n = sim_between(n / 2 ? n / 2 : 1, n);
	for (uint32_t i = 0; i < n; i++)
		data[i] = pattern_at(ch->key, ch->sent + i);
	client_send(c, "bddP", SSH2_MSG_CHANNEL_DATA, ch->peer_number, n, (size_t)n, data);
	ch->sent += n;
	ch->peer_window -= n;
	return true;
}

static bool step_chan(struct sim_client *c, struct client_chan *ch)
{
	bool moved = false;

	if (!ch->is_open || ch->is_closed)
		return false;
	if (ch->ungranted > 0 && !c->is_deaf && !ch->is_close_sent &&
	    (ch->ungranted >= ch->plan.window_bytes / 2 || sim_chance(20))) {
		client_send(c, "bdd", SSH2_MSG_CHANNEL_WINDOW_ADJUST, ch->peer_number, ch->ungranted);
		ch->window += ch->ungranted;
		ch->ungranted = 0;
		moved = true;
	}
	if (ch->is_close_sent)
		return moved;
	/* A client may send before it knows that its command runs. */
	while (!ch->is_eof_sent && ch->sent < ch->plan.up_bytes && c->out.bytes < 256 * 1024 && send_data(c, ch))
		moved = true;
	if (!ch->is_eof_sent && ch->sent == ch->plan.up_bytes && !ch->plan.keeps_input_open) {
		ch->is_eof_sent = true;
		client_send(c, "bd", SSH2_MSG_CHANNEL_EOF, ch->peer_number);
		moved = true;
	}
	if (ch->plan.close_percent > 0 && sim_chance(ch->plan.close_percent)) {
		close_chan(c, ch);
		moved = true;
	}
	return moved;
}

static bool receive(struct sim_client *c)
{
	uint32_t want = sim_between(1, sim.weather.chunk_max);
	size_t used = 0, n;

	if (c->is_deaf)
		return false;
	if (c->in_bytes + want > c->in_size) {
		c->in_size = 2 * (c->in_bytes + want);
		c->in = realloc(c->in, c->in_size);
		ASSERT(c->in);
	}
	n = sim_socket_read(c->socket, c->in + c->in_bytes, want);
	c->in_bytes += n;
	while (n > 0 && used < c->in_bytes && c->state != CLIENT_ENDED) {
		size_t took = libssh_socket_feed(c->session->socket, c->in + used, c->in_bytes - used);

		if (c->session->peer_discon_msg) {
			c->was_disconnected = true;
			snprintf(c->farewell, sizeof(c->farewell), "%s", c->session->peer_discon_msg);
		}
		if (c->session->session_state == SSH_SESSION_STATE_ERROR) {
			if (!c->was_disconnected)
				fprintf(stderr, "sim: the client gives up: %s\n", ssh_get_error(c->session));
			CHECK(c->was_disconnected);
			c->state = CLIENT_ENDED;
		}
		if (took == 0)
			break;
		used += took;
	}
	c->in_bytes -= used;
	memmove(c->in, c->in + used, c->in_bytes);
	if (n == 0 && sim_socket_has_ended(c->socket))
		c->state = CLIENT_ENDED;
	return n > 0;
}

static bool transmit(struct sim_client *c)
{
	struct iovec iov;
	bool moved = false;

	while (chain_iov(&c->out, &iov, 1) == 1) {
		size_t n = iov.iov_len < sim.weather.chunk_max ? iov.iov_len : sim_between(1, sim.weather.chunk_max);
		size_t took = sim_socket_write(c->socket, iov.iov_base, n);

		if (took == 0)
			break;
		chain_consume(&c->out, took);
		moved = true;
		if (took < n)
			break;
	}
	return moved;
}

static bool step(struct sim_actor *a)
{
	struct sim_client *c = CONTAINER_OF(a, struct sim_client, actor);
	bool moved;

	if (c->state == CLIENT_ENDED || c->options.is_dumb)
		return false;
	moved = receive(c);
	if (c->state != CLIENT_ENDED && !c->is_mute) {
		moved |= login(c);
		if (c->state == CLIENT_LIVE) {
			for (uint32_t i = 0; i < c->chan_slots; i++) {
				struct client_chan *ch = &c->chans[i];

				if (ch->is_used && !ch->is_asked) {
					ch->is_asked = true;
					open_chan(c, ch);
					moved = true;
				} else if (ch->is_used) {
					moved |= step_chan(c, ch);
				}
			}
			if (c->on_live)
				moved |= c->on_live(c);
		}
	}
	if (c->state != CLIENT_ENDED && !c->is_mute)
		moved |= transmit(c);
	return moved;
}

struct sim_client *client_new(struct sim_socket *s, const struct client_options *o)
{
	struct sim_client *c = calloc(1, sizeof(*c));

	ASSERT(c);
	c->socket = s;
	c->options = *o;
	chunk_pool_init(&c->pool);
	chain_init(&c->out, &c->pool);
	c->session = ssh_new();
	ASSERT(c->session);
	options(c);
	c->callbacks = malloc(sizeof(*c->callbacks));
	ASSERT(c->callbacks);
	*c->callbacks = (struct ssh_packet_callbacks_struct){
		.start = FIRST_TYPE,
		.n_callbacks = ARRAY_LEN(packet_callbacks),
		.callbacks = packet_callbacks,
		.user = c,
	};
	ssh_packet_set_callbacks(c->session, c->callbacks);
	if (!o->is_dumb)
		begin(c);
	sim_actor_start(&c->actor, step);
	return c;
}

void client_vanish(struct sim_client *c, bool is_reset)
{
	if (!c->socket)
		return;
	sim_socket_close(c->socket, is_reset);
	c->socket = NULL;
	c->state = CLIENT_ENDED;
}

void client_disconnect(struct sim_client *c)
{
	if (c->state == CLIENT_ENDED)
		return;
	client_send(c, "bdss", SSH2_MSG_DISCONNECT, SSH2_DISCONNECT_BY_APPLICATION, "bye", "");
	while (c->out.bytes > 0 && transmit(c))
		;
	client_vanish(c, false);
}

void client_free(struct sim_client *c)
{
	client_vanish(c, false);
	sim_actor_stop(&c->actor);
	chain_clear(&c->out);
	ssh_free(c->session);
	free(c->callbacks);
	chunk_pool_deinit(&c->pool);
	free(c->in);
	free(c);
}

struct client_chan *client_open(struct sim_client *c, const struct client_chan_plan *plan)
{
	for (uint32_t i = 0; i < CLIENT_CHANS_MAX; i++) {
		struct client_chan *ch = &c->chans[i];

		if (ch->is_used && !(ch->is_closed && ch->is_close_sent))
			continue;
		if (i >= c->chan_slots)
			c->chan_slots = i + 1;
		*ch = (struct client_chan){.is_used = true, .plan = *plan, .number = i, .key = sim_random64() | 1};
		return ch;
	}
	return NULL;
}

bool client_is_done(const struct sim_client *c)
{
	for (uint32_t i = 0; i < c->chan_slots; i++)
		if (c->chans[i].is_used && !(c->chans[i].is_closed && c->chans[i].is_close_sent))
			return false;
	return true;
}

void client_window_change(struct sim_client *c, const struct client_chan *ch, uint32_t columns)
{
	client_send(c, "bdsbdddd", SSH2_MSG_CHANNEL_REQUEST, ch->peer_number, "window-change", 0, columns, 24, 0, 0);
}

void client_signal(struct sim_client *c, const struct client_chan *ch)
{
	client_send(c, "bdsbs", SSH2_MSG_CHANNEL_REQUEST, ch->peer_number, "signal", 0, "WINCH");
}
