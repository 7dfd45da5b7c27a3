#include "config.h" /* libssh's: its internal headers need it first */

#include "bench/client.h"

#include "ring/socket.h"
#include "ssh/libssh_socket.h"
#include "ssh/wire.h"

#include "libssh/buffer.h"
#include "libssh/callbacks.h"
#include "libssh/crypto.h"
#include "libssh/packet.h"
#include "libssh/pki.h"
#include "libssh/priv.h"
#include "libssh/session.h"
#include "libssh/socket.h"
#include "libssh/ssh2.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_TYPE SSH2_MSG_SERVICE_ACCEPT
#define LAST_TYPE SSH2_MSG_CHANNEL_FAILURE

/* No more is given to the socket's queue by one connection. */
#define OUT_MAX (256 * 1024)
#define HOST_KEYS "ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512"
/* A packet of RFC 4253 section 6.1 with room for what OpenSSH sends more. */
#define PARTIAL_MAX (512 * 1024)

static void fail(struct client *c, const char *reason)
{
	if (c->is_closing)
		return;
	c->is_closing = true;
	snprintf(c->reason, sizeof(c->reason), "%s", reason);
	timer_stop(c->ring, &c->deadline);
	stream_close(&c->stream);
}

static bool packed_send(struct client *c, int packed)
{
	if (c->is_closing)
		return false;
	if (packed == SSH_OK && ssh_packet_send(c->session) != SSH_ERROR)
		return true;
	fail(c, "out of memory, or libssh could not send");
	return false;
}

/* A packet by hand: formats as ssh_buffer_pack. */
#define client_send(c, ...) packed_send((c), ssh_buffer_pack((c)->session->out_buffer, __VA_ARGS__))

/* --- channels --- */

static void chan_end(struct client_chan *ch)
{
	struct client *c = ch->client;

	c->chans[ch->number] = NULL;
	c->chan_count--;
	ch->events->on_closed(ch, ch->status);
}

static void chan_close(struct client_chan *ch)
{
	if (ch->is_close_sent)
		return;
	ch->is_close_sent = true;
	client_send(ch->client, "bd", SSH2_MSG_CHANNEL_CLOSE, ch->peer_number);
}

static void chan_start(struct client_chan *ch)
{
	struct client *c = ch->client;

	if (ch->has_pty)
		client_send(c, "bdsbsdddds", SSH2_MSG_CHANNEL_REQUEST, ch->peer_number, "pty-req", 0, "xterm", 80, 24,
			    0, 0, "");
	if (ch->command)
		client_send(c, "bdsbs", SSH2_MSG_CHANNEL_REQUEST, ch->peer_number,
			    ch->is_subsystem ? "subsystem" : "exec", 1, ch->command);
	else
		client_send(c, "bdsb", SSH2_MSG_CHANNEL_REQUEST, ch->peer_number, "shell", 1);
}

static void on_chan_data(struct client_chan *ch, bool is_error, struct bytes data)
{
	ch->ungranted += (uint32_t)data.n;
	if (ch->ungranted >= CLIENT_WINDOW_BYTES / 16 && !ch->is_close_sent) {
		client_send(ch->client, "bdd", SSH2_MSG_CHANNEL_WINDOW_ADJUST, ch->peer_number, ch->ungranted);
		ch->ungranted = 0;
	}
	ch->events->on_data(ch, is_error, data);
}

static void on_chan_request(struct client_chan *ch, struct wire *w)
{
	struct bytes name = wire_string(w);

	(void)wire_bool(w);
	if (bytes_is(name, "exit-status"))
		ch->status = (int)wire_u32(w);
}

static void on_chan_packet(struct client *c, uint8_t type, struct wire *w)
{
	uint32_t number = wire_u32(w);
	struct client_chan *ch = number < CLIENT_CHANS_MAX ? c->chans[number] : NULL;

	if (!ch) {
		fail(c, "the server named a channel that is not open");
		return;
	}
	switch (type) {
	case SSH2_MSG_CHANNEL_OPEN_CONFIRMATION:
		ch->is_open = true;
		ch->peer_number = wire_u32(w);
		ch->peer_window = wire_u32(w);
		ch->peer_packet = wire_u32(w);
		chan_start(ch);
		break;
	case SSH2_MSG_CHANNEL_OPEN_FAILURE:
		ch->events->on_started(ch, false);
		chan_end(ch);
		return;
	case SSH2_MSG_CHANNEL_SUCCESS:
		ch->events->on_started(ch, true);
		break;
	case SSH2_MSG_CHANNEL_FAILURE:
		ch->events->on_started(ch, false);
		chan_close(ch);
		break;
	case SSH2_MSG_CHANNEL_EXTENDED_DATA:
		(void)wire_u32(w);
		on_chan_data(ch, true, wire_string(w));
		break;
	case SSH2_MSG_CHANNEL_DATA:
		on_chan_data(ch, false, wire_string(w));
		break;
	case SSH2_MSG_CHANNEL_WINDOW_ADJUST:
		ch->peer_window += wire_u32(w);
		if (!ch->is_eof_sent && !ch->is_close_sent)
			ch->events->on_room(ch);
		break;
	case SSH2_MSG_CHANNEL_REQUEST:
		on_chan_request(ch, w);
		break;
	case SSH2_MSG_CHANNEL_CLOSE:
		chan_close(ch);
		chan_end(ch);
		return;
	default:
		break;
	}
	if (w->is_bad)
		fail(c, "the server sent a packet that is cut off");
}

int client_chan_open(struct client *c, struct client_chan *ch)
{
	uint32_t number = 0;

	while (number < CLIENT_CHANS_MAX && c->chans[number])
		number++;
	if (number == CLIENT_CHANS_MAX)
		return -EMFILE;
	ch->client = c;
	ch->number = number;
	ch->peer_number = ch->peer_window = ch->peer_packet = ch->ungranted = 0;
	ch->is_open = ch->is_eof_sent = ch->is_close_sent = ch->is_refused = false;
	ch->status = -1;
	c->chans[number] = ch;
	c->chan_count++;
	client_send(c, "bsddd", SSH2_MSG_CHANNEL_OPEN, "session", number, CLIENT_WINDOW_BYTES, CLIENT_PACKET_BYTES);
	stream_send(&c->stream);
	return 0;
}

uint32_t client_chan_room(const struct client_chan *ch)
{
	const struct client *c = ch->client;
	uint32_t n = ch->peer_window < ch->peer_packet ? ch->peer_window : ch->peer_packet;

	if (!ch->is_open || ch->is_eof_sent || ch->is_close_sent || c->is_closing || c->stream.out.bytes >= OUT_MAX)
		return 0;
	return n < CLIENT_PACKET_BYTES ? n : CLIENT_PACKET_BYTES;
}

void client_chan_write(struct client_chan *ch, const uint8_t *p, uint32_t n)
{
	client_send(ch->client, "bddP", SSH2_MSG_CHANNEL_DATA, ch->peer_number, n, (size_t)n, p);
	ch->peer_window -= n;
	stream_send(&ch->client->stream);
}

void client_chan_eof(struct client_chan *ch)
{
	if (ch->is_eof_sent || ch->is_close_sent)
		return;
	ch->is_eof_sent = true;
	client_send(ch->client, "bd", SSH2_MSG_CHANNEL_EOF, ch->peer_number);
	stream_send(&ch->client->stream);
}

/* --- login --- */

/* What the signature's algorithm hashes with; AUTO: it has no choice. */
static enum ssh_digest_e digest_of(ssh_key key)
{
	switch (ssh_key_type(key)) {
	case SSH_KEYTYPE_RSA:
	case SSH_KEYTYPE_ECDSA_P521:
		return SSH_DIGEST_SHA512;
	case SSH_KEYTYPE_ECDSA_P384:
		return SSH_DIGEST_SHA384;
	case SSH_KEYTYPE_ECDSA_P256:
		return SSH_DIGEST_SHA256;
	default:
		return SSH_DIGEST_AUTO;
	}
}

/* Signed at once, without a probe: as few round trips as a client can do. */
static void authenticate(struct client *c)
{
	ssh_session s = c->session;
	ssh_key key = c->options->key;
	const char *algorithm = ssh_key_get_signature_algorithm(s, ssh_key_type(key));
	ssh_string blob = NULL, signature = NULL;
	bool is_good;

	if (ssh_key_type(key) == SSH_KEYTYPE_RSA)
		algorithm = "rsa-sha2-512";
	is_good = algorithm && ssh_pki_export_pubkey_blob(key, &blob) == SSH_OK &&
		  ssh_buffer_pack(s->out_buffer, "bsssbsS", SSH2_MSG_USERAUTH_REQUEST, c->options->user,
				  "ssh-connection", "publickey", 1, algorithm, blob) == SSH_OK;
	if (is_good)
		signature = ssh_pki_do_sign(s, s->out_buffer, key, digest_of(key));
	is_good = signature && ssh_buffer_add_ssh_string(s->out_buffer, signature) == SSH_OK;
	ssh_string_free(blob);
	ssh_string_free(signature);
	s->auth.state = SSH_AUTH_STATE_PUBKEY_AUTH_SENT;
	c->state = CLIENT_AUTH;
	packed_send(c, is_good ? SSH_OK : SSH_ERROR);
}

static void on_success(struct client *c)
{
	c->state = CLIENT_LIVE;
	timer_stop(c->ring, &c->deadline);
	c->events->on_live(c);
}

static int on_packet(ssh_session session, uint8_t type, ssh_buffer packet, void *user)
{
	struct client *c = user;
	struct wire w = {.p = ssh_buffer_get(packet), .n = ssh_buffer_get_len(packet)};

	(void)session;
	if (c->is_closing)
		return SSH_PACKET_USED;
	switch (type) {
	case SSH2_MSG_SERVICE_ACCEPT:
		authenticate(c);
		return SSH_PACKET_USED;
	case SSH2_MSG_USERAUTH_FAILURE:
		fail(c, "the server denied the login");
		return SSH_PACKET_USED;
	case SSH2_MSG_USERAUTH_SUCCESS:
		on_success(c);
		return SSH_PACKET_NOT_USED; /* libssh marks its session */
	case SSH2_MSG_USERAUTH_PK_OK:
	case SSH2_MSG_REQUEST_SUCCESS:
	case SSH2_MSG_REQUEST_FAILURE:
		return SSH_PACKET_USED;
	case SSH2_MSG_GLOBAL_REQUEST:
		(void)wire_string(&w);
		if (wire_bool(&w))
			client_send(c, "b", SSH2_MSG_REQUEST_FAILURE);
		return SSH_PACKET_USED;
	default:
		on_chan_packet(c, type, &w);
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

/* --- the socket --- */

static void after_input(struct client *c)
{
	ssh_session s = c->session;

	if (c->is_closing)
		return;
	if (s->session_state == SSH_SESSION_STATE_ERROR) {
		fail(c, s->peer_discon_msg ? s->peer_discon_msg : ssh_get_error(s));
		return;
	}
	if (c->state == CLIENT_KEX && s->session_state == SSH_SESSION_STATE_AUTHENTICATING) {
		c->state = CLIENT_SERVICE;
		s->auth.service_state = SSH_AUTH_SERVICE_SENT;
		client_send(c, "bs", SSH2_MSG_SERVICE_REQUEST, "ssh-userauth");
	}
}

/* Gives libssh whole packets out of p; returns how many bytes it took. */
static size_t feed(struct client *c, const uint8_t *p, size_t n)
{
	size_t used = 0;

	while (used < n && !c->is_closing) {
		size_t took = libssh_socket_feed(c->session->socket, p + used, n - used);

		after_input(c);
		if (took == 0)
			break;
		used += took;
	}
	return used;
}

static bool keep(struct client *c, const uint8_t *p, size_t n)
{
	if (c->partial_bytes + n > PARTIAL_MAX)
		return false;
	if (c->partial_bytes + n > c->partial_size) {
		size_t size = 2 * (c->partial_bytes + n);
		uint8_t *bigger = realloc(c->partial, size);

		if (!bigger)
			return false;
		c->partial = bigger;
		c->partial_size = size;
	}
	memcpy(c->partial + c->partial_bytes, p, n);
	c->partial_bytes += n;
	return true;
}

static void on_recv(struct stream *st, const uint8_t *p, size_t n)
{
	struct client *c = CONTAINER_OF(st, struct client, stream);
	size_t used;

	if (c->is_closing)
		return;
	if (c->partial_bytes == 0) {
		used = feed(c, p, n);
		if (!c->is_closing && used < n && !keep(c, p + used, n - used))
			fail(c, "a packet that is too long, or no memory");
	} else if (!keep(c, p, n)) {
		fail(c, "a packet that is too long, or no memory");
	} else {
		used = feed(c, c->partial, c->partial_bytes);
		c->partial_bytes -= used;
		memmove(c->partial, c->partial + used, c->partial_bytes);
	}
	if (c->is_closing)
		return;
	if (c->partial_bytes == 0 && c->partial_size > CLIENT_PACKET_BYTES) {
		free(c->partial);
		c->partial = NULL;
		c->partial_size = 0;
	}
	if (c->stream.out.bytes > 0)
		stream_send(&c->stream);
}

static void on_recv_end(struct stream *st, int err)
{
	fail(CONTAINER_OF(st, struct client, stream), err < 0 ? strerror(-err) : "the server closed the connection");
}

static void on_sent(struct stream *st, size_t n)
{
	struct client *c = CONTAINER_OF(st, struct client, stream);

	(void)n;
	if (c->was_asked && st->out.bytes == 0) {
		fail(c, "closed");
		return;
	}
	if (st->out.bytes >= OUT_MAX / 2)
		return;
	for (uint32_t i = 0, left = c->chan_count; i < CLIENT_CHANS_MAX && left > 0; i++) {
		struct client_chan *ch = c->chans[i];

		if (!ch)
			continue;
		left--;
		if (client_chan_room(ch) > 0)
			ch->events->on_room(ch);
	}
}

static void on_send_error(struct stream *st, int err)
{
	fail(CONTAINER_OF(st, struct client, stream), strerror(-err));
}

static void on_connected(struct stream *st, int err)
{
	struct client *c = CONTAINER_OF(st, struct client, stream);

	if (err < 0) {
		fail(c, strerror(-err));
		return;
	}
	/* Or Nagle's algorithm and the server's delayed acknowledgement are in every figure, 40 ms each time. */
	(void)socket_tune(st->fd, 0, 0);
	c->state = CLIENT_KEX;
	c->session->socket_callbacks.connected(SSH_SOCKET_CONNECTED_OK, 0, c->session);
	stream_recv(st, true);
	stream_send(st);
}

static void on_stream_closed(struct stream *st)
{
	struct client *c = CONTAINER_OF(st, struct client, stream);

	c->state = CLIENT_CLOSED;
	c->events->on_closed(c, c->was_asked, c->reason);
}

static const struct stream_events stream_events = {
	.on_recv = on_recv,
	.on_recv_end = on_recv_end,
	.on_sent = on_sent,
	.on_send_error = on_send_error,
	.on_connected = on_connected,
	.on_closed = on_stream_closed,
};

static void on_deadline(struct timer *t)
{
	fail(CONTAINER_OF(t, struct client, deadline), "no login within the deadline");
}

/* --- life --- */

int client_library_start(void)
{
	return ssh_init() == SSH_OK ? 0 : -EIO;
}

int client_key_load(const char *path, struct ssh_key_struct **ret_key)
{
	return ssh_pki_import_privkey_file(path, "", NULL, NULL, ret_key) == SSH_OK ? 0 : -EINVAL;
}

void client_key_free(struct ssh_key_struct *key)
{
	ssh_key_free(key);
}

static bool set_options(struct client *c)
{
	const struct client_options *o = c->options;
	ssh_session s = c->session;
	bool process_config = false;
	int zero = 0;

	ssh_set_blocking(s, 0);
	return ssh_options_set(s, SSH_OPTIONS_PROCESS_CONFIG, &process_config) == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_HOST, "bench") == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_USER, o->user) == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_KNOWNHOSTS, "/dev/null") == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null") == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_SSH_DIR, "/nonexistent") == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_COMPRESSION, "no") == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_LOG_VERBOSITY, &zero) == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_HOSTKEYS, o->host_key ? o->host_key : HOST_KEYS) == SSH_OK &&
	       (!o->kex || ssh_options_set(s, SSH_OPTIONS_KEY_EXCHANGE, o->kex) == SSH_OK) &&
	       (!o->cipher || (ssh_options_set(s, SSH_OPTIONS_CIPHERS_C_S, o->cipher) == SSH_OK &&
			       ssh_options_set(s, SSH_OPTIONS_CIPHERS_S_C, o->cipher) == SSH_OK)) &&
	       (!o->mac || (ssh_options_set(s, SSH_OPTIONS_HMAC_C_S, o->mac) == SSH_OK &&
			    ssh_options_set(s, SSH_OPTIONS_HMAC_S_C, o->mac) == SSH_OK));
}

struct client *client_new(struct ring *r, const struct client_options *o, const struct client_events *events,
			  void *owner)
{
	struct client *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->ring = r;
	c->options = o;
	c->events = events;
	c->owner = owner;
	c->session = ssh_new();
	c->callbacks = malloc(sizeof(*c->callbacks));
	if (!c->session || !c->callbacks || !set_options(c))
		goto fail;
	*c->callbacks = (struct ssh_packet_callbacks_struct){
		.start = FIRST_TYPE,
		.n_callbacks = ARRAY_LEN(packet_callbacks),
		.callbacks = packet_callbacks,
		.user = c,
	};
	ssh_packet_set_callbacks(c->session, c->callbacks);
	/* It sets its callbacks and then fails, since libssh_socket.c connects nowhere: the connection is ours. */
	if (ssh_connect(c->session) != SSH_ERROR)
		goto fail;
	timer_init(&c->deadline, on_deadline);
	timer_start(r, &c->deadline, o->login_ms);
	stream_connect(&c->stream, r, o->addr, o->addr_bytes, o->login_ms, &stream_events);
	libssh_socket_attach(c->session->socket, &c->stream.out);
	c->session->alive = 1;
	c->session->session_state = SSH_SESSION_STATE_CONNECTING;
	return c;
fail:
	if (c->session)
		ssh_free(c->session);
	free(c->callbacks);
	free(c);
	return NULL;
}

void client_close(struct client *c)
{
	if (c->is_closing || c->was_asked)
		return;
	c->was_asked = true;
	client_send(c, "bdss", SSH2_MSG_DISCONNECT, SSH2_DISCONNECT_BY_APPLICATION, "bye", "");
	stream_send(&c->stream);
}

void client_free(struct client *c)
{
	if (!c)
		return;
	ASSERT(c->state == CLIENT_CLOSED);
	timer_stop(c->ring, &c->deadline);
	ssh_free(c->session);
	free(c->callbacks);
	free(c->partial);
	free(c);
}
