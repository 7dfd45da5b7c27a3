#include "config.h" /* libssh's: its internal headers need it first */

#include "tests/unit/ssh/far_client.h"

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

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_TYPE SSH2_MSG_IGNORE
#define LAST_TYPE SSH2_MSG_CHANNEL_FAILURE
#define TYPE_COUNT (LAST_TYPE - FIRST_TYPE + 1)
#define IN_MAX (512 * 1024)

bool far_mac_fails;

/* In place of libcrypto's, which fails only without memory. */
int HMAC_Final(HMAC_CTX *ctx, unsigned char *md, unsigned int *len)
{
	int (*real)(HMAC_CTX *, unsigned char *, unsigned int *);

	*(void **)&real = dlsym(RTLD_NEXT, "HMAC_Final");
	ASSERT(real);
	return far_mac_fails ? 0 : real(ctx, md, len);
}

static void sent(struct far_client *f, int packed)
{
	ASSERT(packed == SSH_OK && ssh_packet_send(f->session) != SSH_ERROR);
}

/* A packet by hand: formats as ssh_buffer_pack. */
#define far_send(f, ...) sent((f), ssh_buffer_pack((f)->session->out_buffer, __VA_ARGS__))

static void authenticate(struct far_client *f)
{
	ssh_session s = f->session;
	ssh_string blob = NULL, signature;

	ASSERT(ssh_pki_export_pubkey_blob(f->key, &blob) == SSH_OK);
	ASSERT(ssh_buffer_pack(s->out_buffer, "bsssbsS", SSH2_MSG_USERAUTH_REQUEST, "user", "ssh-connection",
			       "publickey", 1, "ssh-ed25519", blob) == SSH_OK);
	signature = ssh_pki_do_sign(s, s->out_buffer, f->key, SSH_DIGEST_AUTO);
	ASSERT(signature && ssh_buffer_add_ssh_string(s->out_buffer, signature) == SSH_OK);
	ssh_string_free(signature);
	ssh_string_free(blob);
	s->auth.state = SSH_AUTH_STATE_PUBKEY_AUTH_SENT;
	sent(f, SSH_OK);
}

static void on_data(struct far_client *f, bool is_error, struct wire *w)
{
	struct bytes data = wire_string(w);

	ASSERT(!w->is_bad && w->n == 0 && data.n > 0 && data.n <= FAR_PACKET_BYTES);
	for (size_t i = 0; i < data.n; i++)
		ASSERT(data.p[i] == far_byte(is_error, f->got[is_error]++));
}

static int on_packet(ssh_session session, uint8_t type, ssh_buffer packet, void *user)
{
	struct far_client *f = user;
	struct wire w = {.p = ssh_buffer_get(packet), .n = ssh_buffer_get_len(packet)};

	(void)session;
	switch (type) {
	case SSH2_MSG_DEBUG:
		f->debugs++;
		break;
	case SSH2_MSG_SERVICE_ACCEPT:
		authenticate(f);
		break;
	case SSH2_MSG_USERAUTH_SUCCESS:
		far_send(f, "bsddd", SSH2_MSG_CHANNEL_OPEN, "session", 0, FAR_WINDOW_BYTES, FAR_PACKET_BYTES);
		return SSH_PACKET_NOT_USED; /* libssh marks its session */
	case SSH2_MSG_GLOBAL_REQUEST:
		f->keepalives += bytes_is(wire_string(&w), "keepalive@openssh.com");
		break;
	case SSH2_MSG_CHANNEL_OPEN_CONFIRMATION:
		(void)wire_u32(&w);
		f->peer_number = wire_u32(&w);
		f->peer_window = wire_u32(&w);
		f->is_open = true;
		break;
	case SSH2_MSG_CHANNEL_WINDOW_ADJUST:
		(void)wire_u32(&w);
		f->peer_window += wire_u32(&w);
		f->adjusts++;
		break;
	case SSH2_MSG_CHANNEL_DATA:
		(void)wire_u32(&w);
		on_data(f, false, &w);
		break;
	case SSH2_MSG_CHANNEL_EXTENDED_DATA:
		(void)wire_u32(&w);
		(void)wire_u32(&w);
		on_data(f, true, &w);
		break;
	case SSH2_MSG_CHANNEL_CLOSE:
		f->is_closed = true;
		break;
	default:
		return SSH_PACKET_NOT_USED;
	}
	return SSH_PACKET_USED;
}

static void options(struct far_client *f, const char *cipher, const char *mac)
{
	ssh_session s = f->session;
	bool process_config = false;

	ssh_set_blocking(s, 0);
	ASSERT(ssh_options_set(s, SSH_OPTIONS_PROCESS_CONFIG, &process_config) == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_HOST, "far") == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_USER, "user") == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_KNOWNHOSTS, "/dev/null") == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null") == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_SSH_DIR, "/nonexistent") == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_KEY_EXCHANGE, "curve25519-sha256") == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_HOSTKEYS, "ssh-ed25519") == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_CIPHERS_C_S, cipher) == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_CIPHERS_S_C, cipher) == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_HMAC_C_S, mac) == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_HMAC_S_C, mac) == SSH_OK &&
	       ssh_options_set(s, SSH_OPTIONS_COMPRESSION, "no") == SSH_OK);
}

void far_client_init(struct far_client *f, const char *cipher, const char *mac, uint64_t rekey_bytes)
{
	static ssh_packet_callback callbacks[TYPE_COUNT];
	ssh_session s;

	*f = (struct far_client){.in = malloc(IN_MAX), .callbacks = malloc(sizeof(*f->callbacks))};
	ASSERT(f->in && f->callbacks);
	chunk_pool_init(&f->pool);
	chain_init(&f->out, &f->pool);
	ASSERT(ssh_pki_generate_key(SSH_KEYTYPE_ED25519, NULL, &f->key) == SSH_OK);
	s = f->session = ssh_new();
	ASSERT(s);
	options(f, cipher, mac);
	s->opts.rekey_data = rekey_bytes;
	for (size_t i = 0; i < TYPE_COUNT; i++)
		callbacks[i] = on_packet;
	*f->callbacks = (struct ssh_packet_callbacks_struct){
		.start = FIRST_TYPE, .n_callbacks = TYPE_COUNT, .callbacks = callbacks, .user = f};
	ssh_packet_set_callbacks(s, f->callbacks);
	/* It sets its callbacks and then fails, since libssh_socket.c connects nowhere: there is a connection already. */
	ASSERT(ssh_connect(s) == SSH_ERROR);
	libssh_socket_attach(s->socket, &f->out);
	s->alive = 1;
	s->session_state = SSH_SESSION_STATE_CONNECTING;
	s->socket_callbacks.connected(SSH_SOCKET_CONNECTED_OK, 0, s);
	ASSERT(s->session_state == SSH_SESSION_STATE_SOCKET_CONNECTED);
}

void far_client_deinit(struct far_client *f)
{
	chain_clear(&f->out);
	ssh_free(f->session);
	ssh_key_free(f->key);
	chunk_pool_deinit(&f->pool);
	free(f->callbacks);
	free(f->in);
}

void far_client_input(struct far_client *f, const uint8_t *p, size_t n)
{
	ssh_session s = f->session;
	size_t used = 0, took;

	ASSERT(f->in_bytes + n <= IN_MAX);
	memcpy(f->in + f->in_bytes, p, n);
	f->in_bytes += n;
	while (used < f->in_bytes) {
		took = libssh_socket_feed(s->socket, f->in + used, f->in_bytes - used);
		ASSERT(s->session_state != SSH_SESSION_STATE_ERROR);
		if (took == 0)
			break;
		used += took;
	}
	f->in_bytes -= used;
	memmove(f->in, f->in + used, f->in_bytes);
	if (!f->is_asking && s->session_state == SSH_SESSION_STATE_AUTHENTICATING) {
		f->is_asking = true;
		s->auth.service_state = SSH_AUTH_SERVICE_SENT;
		far_send(f, "bs", SSH2_MSG_SERVICE_REQUEST, "ssh-userauth");
	}
}

void far_client_send(struct far_client *f, uint32_t n)
{
	static uint8_t data[FAR_PACKET_BYTES];

	ASSERT(n <= f->peer_window && n <= sizeof(data));
	for (uint32_t i = 0; i < n; i++)
		data[i] = far_byte(false, f->sent++);
	f->peer_window -= n;
	far_send(f, "bddP", SSH2_MSG_CHANNEL_DATA, f->peer_number, n, (size_t)n, data);
}

void far_client_ignore(struct far_client *f, uint32_t n)
{
	static const uint8_t data[FAR_PACKET_BYTES];

	far_send(f, "bdP", SSH2_MSG_IGNORE, n, (size_t)n, data);
}
