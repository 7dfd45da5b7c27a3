/*
 * One connection's life: libssh's transport fed from memory, packets given to auth.c and chan.c, the end.
 */
#include "config.h" /* libssh's: its internal headers need it first */

#include "ssh/internal.h"

#include "ssh/libssh_socket.h"

#include "libssh/buffer.h"
#include "libssh/crypto.h"
#include "libssh/packet.h"
#include "libssh/priv.h"
#include "libssh/server.h"
#include "libssh/session.h"
#include "libssh/socket.h"
#include "libssh/ssh2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_TYPE SSH2_MSG_SERVICE_REQUEST
#define LAST_TYPE SSH2_MSG_CHANNEL_FAILURE
#define TYPE_COUNT (LAST_TYPE - FIRST_TYPE + 1)

static int on_packet(ssh_session session, uint8_t type, ssh_buffer packet, void *user)
{
	struct conn *c = user;
	struct wire w = {.p = ssh_buffer_get(packet), .n = ssh_buffer_get_len(packet)};

	(void)session;
	int rc;

	if (c->has_ended)
		return SSH_PACKET_USED;
	if (type == SSH2_MSG_SERVICE_REQUEST || type == SSH2_MSG_USERAUTH_REQUEST)
		rc = auth_on_packet(c, type, &w);
	else
		rc = chan_on_packet(c, type, &w);
	packet_out_seal(c); /* libssh may begin a key exchange as soon as this returns */
	return rc;
}

/* Ours stand before libssh's defaults, so SERVICE_REQUEST, USERAUTH_REQUEST and 80..100 never reach those. */
static ssh_packet_callback our_callbacks[TYPE_COUNT] = {
	[SSH2_MSG_SERVICE_REQUEST - FIRST_TYPE] = on_packet,
	[SSH2_MSG_USERAUTH_REQUEST - FIRST_TYPE] = on_packet,
	[SSH2_MSG_GLOBAL_REQUEST - FIRST_TYPE] = on_packet,
	[SSH2_MSG_REQUEST_SUCCESS - FIRST_TYPE] = on_packet,
	[SSH2_MSG_REQUEST_FAILURE - FIRST_TYPE] = on_packet,
	[SSH2_MSG_CHANNEL_OPEN - FIRST_TYPE] = on_packet,
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

/* --- decrypting large packets where their data is sent on from --- */

static uint8_t *place(void *user, size_t n)
{
	struct conn *c = user;
	uint8_t *p;

	if (n < CHAN_PLACE_MIN || n > CONN_ROOM_HEAD + CHAN_PACKET_MAX + UINT8_MAX || !c->auth.is_done ||
	    c->has_ended || !c->events->on_room)
		return NULL;
	p = c->events->on_room(c, n);
	c->has_room = p != NULL;
	return p;
}

static void give_room_back(struct conn *c)
{
	if (!c->has_room)
		return;
	c->has_room = false;
	c->events->on_room_back(c);
}

static ssize_t take(void *user, const uint8_t *p, size_t n)
{
	struct conn *c = user;
	size_t padding = p[0];
	uint8_t *copy;

	ASSERT(c->has_room);
	if (padding < n) {
		struct wire w = {.p = p + 1, .n = n - 1 - padding};

		if (chan_take_in_room(c, &w)) {
			c->has_room = false;
			return (ssize_t)(n - 1 - padding);
		}
	}
	/* Out of the room before anybody who is told of it may queue something there. */
	copy = ssh_buffer_allocate(c->session->in_buffer, (uint32_t)n);
	if (copy)
		bytes_copy(copy, p, n);
	give_room_back(c);
	return copy ? 0 : -1;
}

static const struct libssh_placing placing = {.place = place, .take = take};

/* What ssh_bind_accept_fd would copy from an ssh_bind; the host keys are shared instead of duplicated a session. */
static int session_options(struct conn *c)
{
	ssh_session s = c->session;
	const struct conn_server *o = c->server;
	char offered[OFFERED_MAX];
	bool process_config = false;
	int zero = 0;

	s->server = 1;
	ssh_set_blocking(s, 0);
	server_offered(o, offered);
	if (ssh_options_set(s, SSH_OPTIONS_PROCESS_CONFIG, &process_config) != SSH_OK ||
	    ssh_options_set(s, SSH_OPTIONS_KEY_EXCHANGE, o->kex) != SSH_OK ||
	    ssh_options_set(s, SSH_OPTIONS_HOSTKEYS, offered) != SSH_OK ||
	    ssh_options_set(s, SSH_OPTIONS_CIPHERS_C_S, o->ciphers) != SSH_OK ||
	    ssh_options_set(s, SSH_OPTIONS_CIPHERS_S_C, o->ciphers) != SSH_OK ||
	    ssh_options_set(s, SSH_OPTIONS_HMAC_C_S, o->macs) != SSH_OK ||
	    ssh_options_set(s, SSH_OPTIONS_HMAC_S_C, o->macs) != SSH_OK ||
	    ssh_options_set(s, SSH_OPTIONS_COMPRESSION, "no") != SSH_OK ||
	    ssh_options_set(s, SSH_OPTIONS_LOG_VERBOSITY, &zero) != SSH_OK)
		return -EINVAL;
	s->opts.pubkey_accepted_types =
		strdup("ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,"
		       "sk-ssh-ed25519@openssh.com,sk-ecdsa-sha2-nistp256@openssh.com,"
		       "rsa-sha2-512,rsa-sha2-256");
	s->server_opts.custombanner = strdup(o->version);
	if (!s->opts.pubkey_accepted_types || !s->server_opts.custombanner)
		return -ENOMEM;
	s->opts.rsa_min_size = RSA_BITS_MIN;
	s->opts.rekey_data = o->rekey_bytes;
	s->opts.rekey_time = o->rekey_s * 1000;
	s->srv.ed25519_key = o->active[HOST_KEY_ED25519];
	s->srv.ecdsa_key = o->active[HOST_KEY_ECDSA];
	s->srv.rsa_key = o->active[HOST_KEY_RSA];
	return 0;
}

struct conn *conn_new(const struct conn_server *server, const struct conn_events *events, void *owner,
		      struct chain *out)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->server = server;
	c->events = events;
	c->owner = owner;
	auth_init(&c->auth);
	c->session = ssh_new();
	if (!c->session || session_options(c) < 0)
		goto fail;
	c->callbacks = (struct ssh_packet_callbacks_struct){
		.start = FIRST_TYPE,
		.n_callbacks = TYPE_COUNT,
		.callbacks = our_callbacks,
		.user = c,
	};
	ssh_packet_set_callbacks(c->session, &c->callbacks);
	libssh_socket_attach(c->session->socket, out);
	libssh_socket_set_placing(c->session->socket, &placing, c);
	/*
	 * Queues the version line and sets the callbacks up; it would then wait for packets, finds no poll handle (libssh_socket.c)
	 * and returns. From there on input drives the state.
	 */
	(void)ssh_handle_key_exchange(c->session);
	if (c->session->session_state != SSH_SESSION_STATE_SOCKET_CONNECTED)
		goto fail;
	ssh_reset_error(c->session); /* "out of memory", for want of that poll handle */
	return c;
fail:
	conn_free(c);
	return NULL;
}

void conn_free(struct conn *c)
{
	if (!c)
		return;
	ASSERT(!c->is_feeding);
	chan_free_all(c);
	auth_deinit(&c->auth);
	free(c->partial);
	free(c->replies);
	if (c->session) {
		/* Shared with all sessions: not libssh's to free. */
		c->session->srv.ed25519_key = NULL;
		c->session->srv.ecdsa_key = NULL;
		c->session->srv.rsa_key = NULL;
		ssh_free(c->session);
	}
	free(c);
}

void *conn_owner(const struct conn *c)
{
	return c->owner;
}

void conn_move(struct conn *c, struct chain *out)
{
	ASSERT(!c->packet.at);
	ASSERT(libssh_socket_out(c->session->socket)->bytes == 0);
	libssh_socket_attach(c->session->socket, out);
	conn_forget_kex(c);
}

void conn_end(struct conn *c, const char *reason, bool is_clean)
{
	if (c->has_ended)
		return;
	c->has_ended = true;
	c->events->on_end(c, reason, is_clean);
}

void conn_stop(struct conn *c)
{
	c->has_ended = true;
}

int conn_send(struct conn *c)
{
	uint32_t bytes;

	if (c->has_ended)
		return -EIO;
	packet_out_seal(c);
	if (c->has_ended)
		return -EIO;
	bytes = ssh_buffer_get_len(c->session->out_buffer);
	if (ssh_packet_send(c->session) == SSH_ERROR) {
		conn_end(c, "sending failed", false);
		return -EIO;
	}
	if (!conn_is_rekeying(c))
		return 0;
	c->was_rekeying = true;
	c->rekey_held += bytes + CONN_REKEY_HELD_EACH;
	if (c->rekey_held > CONN_REKEY_HELD_MAX) {
		conn_end(c, "the client does not answer the key exchange", false);
		return -EIO;
	}
	return 0;
}

/* After each packet: has libssh given up, has a key re-exchange ended? */
static void conn_look(struct conn *c)
{
	ssh_session s = c->session;

	if (s->peer_discon_msg)
		conn_end(c, "the client disconnected", true);
	else if (s->session_state == SSH_SESSION_STATE_ERROR || !ssh_socket_is_open(s->socket))
		conn_end(c, *ssh_get_error(s) ? ssh_get_error(s) : "a malformed packet", false);
	if (c->has_ended)
		return;
	if (conn_is_rekeying(c)) {
		c->was_rekeying = true;
	} else if (c->was_rekeying) {
		c->was_rekeying = false;
		c->rekey_held = 0;
		conn_forget_kex(c);
		c->events->on_rekeyed(c);
	}
}

/* Feeds libssh with whole packets from p; returns how many bytes it took. */
static size_t feed(struct conn *c, const uint8_t *p, size_t n)
{
	size_t used = 0;

	while (used < n && !c->is_paused && !c->has_ended) {
		size_t took;

		packet_out_seal(c); /* libssh may send by itself: a key exchange, say */
		took = libssh_socket_feed(c->session->socket, p + used, n - used);
		give_room_back(c); /* it could not be decrypted */

		conn_look(c);
		if (took == 0)
			break;
		used += took;
	}
	return used;
}

static int partial_append(struct conn *c, const uint8_t *p, size_t n)
{
	size_t want = c->partial_bytes + n;

	if (want > CONN_PACKET_BYTES_MAX)
		return -EMSGSIZE;
	if (want > c->partial_size) {
		size_t size = c->partial_size ? c->partial_size : 1024;
		uint8_t *grown;

		while (size < want)
			size *= 2;
		grown = realloc(c->partial, size);
		if (!grown)
			return -ENOMEM;
		c->partial = grown;
		c->partial_size = size;
	}
	bytes_copy(c->partial + c->partial_bytes, p, n);
	chunk_pool_count_copy(libssh_socket_out(c->session->socket)->pool, n);
	c->partial_bytes = want;
	return 0;
}

/* How many bytes the packet that begins in `partial` has in all, as far as is known. */
static size_t partial_wants(struct conn *c)
{
	struct ssh_crypto_struct *crypto;
	size_t mac = 0;

	if (c->session->packet_state != PACKET_STATE_SIZEREAD)
		return c->partial_bytes + 64;
	crypto = ssh_packet_get_current_crypto(c->session, SSH_DIRECTION_IN);
	if (crypto)
		mac = hmac_digest_len(crypto->in_hmac);
	return sizeof(uint32_t) + c->session->in_packet.len + mac;
}

static void partial_drop(struct conn *c, size_t n)
{
	c->partial_bytes -= n;
	memmove(c->partial, c->partial + n, c->partial_bytes);
}

/* Handles what stands in `partial`; false when it needs more, or must wait. */
static bool partial_feed(struct conn *c)
{
	size_t used = feed(c, c->partial, c->partial_bytes);

	partial_drop(c, used);
	return c->partial_bytes == 0 && !c->is_paused && !c->has_ended;
}

void conn_input(struct conn *c, const uint8_t *p, size_t n)
{
	ASSERT(!c->is_feeding);
	c->is_feeding = true;
	/* The packet that was cut is completed with as little copying as can be; the rest is handled where it lies. */
	while (c->partial_bytes > 0 && n > 0 && !c->has_ended) {
		size_t take = n;

		if (!c->is_paused) {
			size_t wants = partial_wants(c);
			size_t more = wants > c->partial_bytes ? wants - c->partial_bytes : 1;

			take = more < n ? more : n;
		}
		if (partial_append(c, p, take) < 0) {
			conn_end(c, "more input than a packet may have", false);
			break;
		}
		p += take;
		n -= take;
		if (!c->is_paused && partial_feed(c))
			break;
	}
	if (n > 0 && !c->has_ended) {
		size_t used = feed(c, p, n);

		if (!c->has_ended && used < n && partial_append(c, p + used, n - used) < 0)
			conn_end(c, "more input than a packet may have", false);
	}
	c->is_feeding = false;
}

void conn_pause(struct conn *c, bool is_paused)
{
	c->is_paused = is_paused;
	if (is_paused || c->is_feeding || c->has_ended || c->partial_bytes == 0)
		return;
	c->is_feeding = true;
	(void)partial_feed(c);
	c->is_feeding = false;
}

bool conn_is_authenticated(const struct conn *c)
{
	return c->auth.is_done;
}

bool conn_is_rekeying(const struct conn *c)
{
	return c->auth.is_done && c->session->dh_handshake_state != DH_STATE_FINISHED;
}

bool conn_has_ended(const struct conn *c)
{
	return c->has_ended;
}

bool conn_knows_eow(const struct conn *c)
{
	static const char begin[] = "SSH-2.0-OpenSSH";
	const char *version = conn_client_version(c);

	/* As OpenSSH's server decides: by the name, whatever follows it ("_for_Windows_9.5"), but for versions 2 to 4. */
	if (strncmp(version, begin, sizeof(begin) - 1) != 0)
		return false;
	version += sizeof(begin) - 1;
	return !(version[0] == '_' && version[1] >= '2' && version[1] <= '4');
}

const char *conn_client_version(const struct conn *c)
{
	return c->session->clientbanner ? c->session->clientbanner : "";
}

void conn_algorithms(const struct conn *c, const char **ret_kex, const char **ret_cipher)
{
	const char *kex = ssh_get_kex_algo(c->session);
	const char *cipher = ssh_get_cipher_in(c->session);

	*ret_kex = kex ? kex : "";
	*ret_cipher = cipher ? cipher : "";
}

void conn_disconnect(struct conn *c, uint32_t code, const char *text)
{
	if (c->has_ended)
		return;
	packet_out_seal(c);
	if (ssh_buffer_pack(c->session->out_buffer, "bdss", SSH2_MSG_DISCONNECT, code, text, "") == SSH_OK)
		(void)ssh_packet_send(c->session);
	conn_end(c, text, false);
}

void conn_flush(struct conn *c)
{
	packet_out_seal(c);
}

void conn_keepalive(struct conn *c)
{
	if (c->has_ended || conn_is_rekeying(c))
		return;
	if (ssh_buffer_pack(c->session->out_buffer, "bsb", SSH2_MSG_GLOBAL_REQUEST, "keepalive@openssh.com", 1) ==
	    SSH_OK)
		(void)conn_send(c);
}

void conn_debug(struct conn *c, const char *text)
{
	if (c->has_ended)
		return;
	if (ssh_buffer_pack(c->session->out_buffer, "bbss", SSH2_MSG_DEBUG, 1, text, "") == SSH_OK)
		(void)conn_send(c);
}

void conn_banner(struct conn *c, const char *text)
{
	if (c->has_ended || c->auth.is_done)
		return;
	if (ssh_buffer_pack(c->session->out_buffer, "bss", SSH2_MSG_USERAUTH_BANNER, text, "") == SSH_OK)
		(void)conn_send(c);
}

void conn_trim(struct conn *c)
{
	ssh_session s = c->session;

	if (c->is_feeding || c->has_ended)
		return;
	if (c->partial_bytes == 0) {
		free(c->partial);
		c->partial = NULL;
		c->partial_size = 0;
	}
	/*
	 * In the middle of a packet in_buffer holds its head; between two of them what is left of the last one, which nobody
	 * reads again. out_buffer is empty between two sends.
	 */
	if (s->packet_state == PACKET_STATE_INIT) {
		SSH_BUFFER_FREE(s->in_buffer);
		s->in_buffer = NULL;
	}
	if (ssh_buffer_get_len(s->out_buffer) == 0) {
		ssh_buffer fresh = ssh_buffer_new();

		if (fresh) {
			SSH_BUFFER_FREE(s->out_buffer);
			s->out_buffer = fresh;
		}
	}
}
