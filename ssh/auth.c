/*
 * Authentication by public key, the server's side: RFC 4252, RFC 8332 (rsa-sha2), PROTOCOL.u2f (sk- keys) and OpenSSH's
 * publickey-hostbound-v00.
 *
 *   SERVICE_REQUEST ─► accepted ─► USERAUTH_REQUEST ─► probe ──► on_auth ─► PK_OK or FAILURE
 *                                       ▲    └────────► signed ─► verified ─► on_auth ─► SUCCESS or FAILURE
 *                                       └── one at a time; AUTH_WAITING_MAX more wait
 *
 * Who the user is comes from the request whose signature was verified, and from nothing else. Every request is answered,
 * the unparsable too, so that no client waits for the deadline.
 */
#include "config.h" /* libssh's: its internal headers need it first */

#include "ssh/internal.h"

#include "libssh/buffer.h"
#include "libssh/crypto.h"
#include "libssh/dh.h"
#include "libssh/packet.h"
#include "libssh/pki.h"
#include "libssh/priv.h"
#include "libssh/session.h"
#include "libssh/ssh2.h"
#include "libssh/string.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SK_USER_PRESENT 0x01
#define SK_SUFFIX_BYTES (1 + 4) /* flags and counter behind an sk- signature */
#define RSA_BITS_MAX 16384

/* Signature algorithms that are taken, and the key type that each goes with. No SHA-1, no certificates. */
static const struct {
	const char *algorithm, *key_type;
} accepted[] = {
	{"ssh-ed25519", "ssh-ed25519"},
	{"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"},
	{"ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384"},
	{"ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521"},
	{"rsa-sha2-256", "ssh-rsa"},
	{"rsa-sha2-512", "ssh-rsa"},
	{"sk-ssh-ed25519@openssh.com", "sk-ssh-ed25519@openssh.com"},
	{"sk-ecdsa-sha2-nistp256@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"},
};

/* A publickey request, its fields still in the packet. */
struct request {
	struct bytes user, service, method, algorithm, key, host_key, signature;
	bool is_signed, is_hostbound;
	struct bytes covered; /* what the signature covers, behind the session id and the type byte */
};

void auth_init(struct auth *a)
{
	*a = (struct auth){0};
}

void auth_deinit(struct auth *a)
{
	free(a->key);
	for (uint32_t i = 0; i < a->waiting_count; i++)
		free(a->waiting[i].payload);
}

static void send_failure(struct conn *c)
{
	if (ssh_buffer_pack(c->session->out_buffer, "bsb", SSH2_MSG_USERAUTH_FAILURE, "publickey", 0) == SSH_OK)
		(void)conn_send(c);
}

static void refuse(struct conn *c, enum auth_failure why, const char *detail)
{
	c->events->on_auth_failure(c, why, detail);
	if (why == AUTH_BAD_SIGNATURE && ++c->auth.bad_count >= c->server->max_bad_signatures) {
		conn_disconnect(c, DISCONNECT_NO_MORE_AUTH_METHODS, "Too many authentication failures");
		return;
	}
	send_failure(c);
}

static const char *accepted_key_type(struct bytes algorithm)
{
	for (size_t i = 0; i < ARRAY_LEN(accepted); i++)
		if (bytes_is(algorithm, accepted[i].algorithm))
			return accepted[i].key_type;
	return NULL;
}

static ssh_string string_of(struct bytes b)
{
	ssh_string s = ssh_string_new(b.n);

	if (s && ssh_string_fill(s, b.p, b.n) != 0) {
		ssh_string_free(s);
		s = NULL;
	}
	return s;
}

/* Imports the key when it is of the kind that the algorithm asks for; else NULL and why. */
static ssh_key key_import(const struct request *r, const char **ret_why)
{
	const char *type = accepted_key_type(r->algorithm);
	struct wire w = {.p = r->key.p, .n = r->key.n};
	ssh_string blob;
	ssh_key key = NULL;
	int rc;

	if (!type) {
		*ret_why = "this kind of key or signature is not accepted";
		return NULL;
	}
	if (!bytes_is(wire_string(&w), type)) {
		*ret_why = "the key is not of the kind that its algorithm says";
		return NULL;
	}
	*ret_why = "the key cannot be parsed";
	blob = string_of(r->key);
	if (!blob)
		return NULL;
	rc = ssh_pki_import_pubkey_blob(blob, &key);
	ssh_string_free(blob);
	if (rc != SSH_OK)
		return NULL;
	if (strcmp(type, "ssh-rsa") == 0 && (ssh_key_size(key) < RSA_BITS_MIN || ssh_key_size(key) > RSA_BITS_MAX)) {
		*ret_why = "RSA keys have 2048 to 16384 bits";
		ssh_key_free(key);
		return NULL;
	}
	return key;
}

/* The host key named in a hostbound request must be the one that this connection was made with: its certificate, if that was sent. */
static bool host_key_matches(struct conn *c, struct bytes named)
{
	ssh_string blob = NULL;
	bool same;

	if (ssh_dh_get_current_server_publickey_blob(c->session, &blob) != SSH_OK || !blob)
		return false;
	same = ssh_string_len(blob) == named.n && memcmp(ssh_string_data(blob), named.p, named.n) == 0;
	ssh_string_free(blob);
	return same;
}

/* The signature over session id, type byte and the request up to the signature (RFC 4252 section 7). */
static bool signature_verify(struct conn *c, const struct request *r, ssh_key key, const char **ret_why)
{
	struct ssh_crypto_struct *crypto = ssh_packet_get_current_crypto(c->session, SSH_DIRECTION_IN);
	struct wire w = {.p = r->signature.p, .n = r->signature.n};
	ssh_string blob = string_of(r->signature);
	ssh_buffer signed_data = ssh_buffer_new();
	ssh_signature sig = NULL;
	bool is_good = false;

	*ret_why = "the signature does not verify";
	if (!crypto || !blob || !signed_data)
		goto out;
	if (!bytes_is(wire_string(&w), c->auth.algorithm)) {
		*ret_why = "the signature is of another algorithm than the request";
		goto out;
	}
	/* libssh does not look behind the fields that it needs. */
	(void)wire_string(&w);
	if (strncmp(c->auth.algorithm, "sk-", 3) == 0)
		(void)wire_take(&w, SK_SUFFIX_BYTES);
	if (w.is_bad || w.n != 0)
		goto out;
	if (ssh_buffer_pack(signed_data, "dPbP", (uint32_t)crypto->session_id_len, crypto->session_id_len,
			    crypto->session_id, SSH2_MSG_USERAUTH_REQUEST, r->covered.n, r->covered.p) != SSH_OK)
		goto out;
	if (ssh_pki_import_signature_blob(blob, key, &sig) != SSH_OK)
		goto out;
	if (strncmp(c->auth.algorithm, "sk-", 3) == 0 && !(sig->sk_flags & SK_USER_PRESENT)) {
		*ret_why = "the security key was not touched";
		goto out;
	}
	is_good = ssh_pki_signature_verify(c->session, sig, key, ssh_buffer_get(signed_data),
					   ssh_buffer_get_len(signed_data)) == SSH_OK;
out:
	ssh_signature_free(sig);
	SSH_BUFFER_FREE(signed_data);
	ssh_string_free(blob);
	return is_good;
}

static void ask(struct conn *c, const struct request *r)
{
	struct auth *a = &c->auth;
	struct auth_query q;

	free(a->key);
	a->key = malloc(r->key.n);
	if (!a->key) {
		refuse(c, AUTH_BAD_REQUEST, "out of memory");
		return;
	}
	memcpy(a->key, r->key.p, r->key.n);
	a->key_bytes = r->key.n;
	a->is_asking = true;
	a->is_asking_signed = r->is_signed;
	q = (struct auth_query){
		.is_signed = r->is_signed,
		.user = a->user,
		.algorithm = a->algorithm,
		.key = bytes_of(a->key, a->key_bytes),
	};
	c->events->on_auth(c, &q);
}

static void publickey(struct conn *c, const struct request *r)
{
	struct auth *a = &c->auth;
	const char *why = NULL;
	ssh_key key;
	bool is_good = true;

	if (!r->is_signed && ++a->key_count > c->server->max_keys) {
		conn_disconnect(c, DISCONNECT_NO_MORE_AUTH_METHODS, "Too many authentication failures");
		return;
	}
	if (!bytes_copy_str(r->algorithm, a->algorithm, sizeof(a->algorithm))) {
		refuse(c, AUTH_BAD_KEY, "this kind of key or signature is not accepted");
		return;
	}
	key = key_import(r, &why);
	if (!key) {
		/* Signed or not, it counts as an offer: a client that signs without probing has no more tries than others. */
		if (r->is_signed && ++a->key_count > c->server->max_keys) {
			conn_disconnect(c, DISCONNECT_NO_MORE_AUTH_METHODS, "Too many authentication failures");
			return;
		}
		refuse(c, AUTH_BAD_KEY, why);
		return;
	}
	if (r->is_signed) {
		is_good = signature_verify(c, r, key, &why);
		if (is_good && r->is_hostbound && !host_key_matches(c, r->host_key)) {
			is_good = false;
			why = "the request is bound to another host key";
		}
	}
	ssh_key_free(key);
	if (is_good)
		ask(c, r);
	else
		refuse(c, AUTH_BAD_SIGNATURE, why);
}

/* The user name is kept from the first request on and must not change, nor the service (RFC 4252 section 5: or else disconnect). */
static bool user_is_kept(struct conn *c, const struct request *r)
{
	struct auth *a = &c->auth;
	char user[AUTH_USER_MAX + 1];

	if (!bytes_is(r->service, "ssh-connection"))
		return false;
	if (!bytes_copy_str(r->user, user, sizeof(user)))
		memset(user, 0, sizeof(user)); /* no sandbox has the empty name: fails like an unknown one */
	if (a->has_user && strcmp(a->user, user) != 0)
		return false;
	a->has_user = true;
	memcpy(a->user, user, sizeof(user));
	return true;
}

static void handle_request(struct conn *c, const uint8_t *p, size_t n)
{
	struct wire w = {.p = p, .n = n};
	struct request r = {0};

	r.user = wire_string(&w);
	r.service = wire_string(&w);
	r.method = wire_string(&w);
	if (w.is_bad) {
		conn_disconnect(c, DISCONNECT_PROTOCOL_ERROR, "malformed authentication request");
		return;
	}
	if (!user_is_kept(c, &r)) {
		conn_disconnect(c, DISCONNECT_PROTOCOL_ERROR,
				"the user name or service of an authentication may not change");
		return;
	}
	if (!c->auth.has_begun) {
		c->auth.has_begun = true;
		c->events->on_auth_begin(c);
		if (c->has_ended)
			return;
	}
	r.is_hostbound = bytes_is(r.method, "publickey-hostbound-v00@openssh.com");
	if (!r.is_hostbound && !bytes_is(r.method, "publickey")) {
		bool is_none = bytes_is(r.method, "none");

		if (++c->auth.other_count > c->server->max_keys) {
			conn_disconnect(c, DISCONNECT_NO_MORE_AUTH_METHODS, "Too many authentication failures");
			return;
		}
		if (is_none)
			send_failure(c); /* how every client asks what is offered: not a failure worth a log line */
		else
			refuse(c, AUTH_NO_METHOD, "only public keys are accepted");
		return;
	}
	r.is_signed = wire_bool(&w);
	r.algorithm = wire_string(&w);
	r.key = wire_string(&w);
	if (r.is_hostbound)
		r.host_key = wire_string(&w);
	r.covered = bytes_of(p, n - w.n);
	if (r.is_signed)
		r.signature = wire_string(&w);
	if (w.is_bad || w.n != 0) {
		/* Counted as an offer, so that a client cannot send these for ever. */
		if (++c->auth.key_count > c->server->max_keys)
			conn_disconnect(c, DISCONNECT_NO_MORE_AUTH_METHODS, "Too many authentication failures");
		else
			refuse(c, AUTH_BAD_REQUEST, "malformed publickey request");
		return;
	}
	publickey(c, &r);
}

static void keep_waiting(struct conn *c, struct wire *w)
{
	struct auth *a = &c->auth;
	uint8_t *copy;

	if (a->waiting_count == AUTH_WAITING_MAX || w->n > AUTH_REQUEST_BYTES_MAX || w->n == 0) {
		conn_disconnect(c, DISCONNECT_PROTOCOL_ERROR, "too many authentication requests at once");
		return;
	}
	copy = malloc(w->n);
	if (!copy) {
		conn_disconnect(c, DISCONNECT_BY_APPLICATION, "out of memory");
		return;
	}
	memcpy(copy, w->p, w->n);
	a->waiting[a->waiting_count++] = (struct auth_waiting){.payload = copy, .bytes = w->n};
}

static void service_request(struct conn *c, struct wire *w)
{
	if (!bytes_is(wire_string(w), "ssh-userauth") || w->is_bad) {
		conn_disconnect(c, DISCONNECT_SERVICE_NOT_AVAILABLE, "only ssh-userauth can be asked for");
		return;
	}
	c->auth.is_service_accepted = true;
	if (ssh_buffer_pack(c->session->out_buffer, "bs", SSH2_MSG_SERVICE_ACCEPT, "ssh-userauth") == SSH_OK)
		(void)conn_send(c);
}

int auth_on_packet(struct conn *c, uint8_t type, struct wire *w)
{
	struct auth *a = &c->auth;

	if (type == SSH2_MSG_SERVICE_REQUEST)
		service_request(c, w);
	else if (!a->is_service_accepted)
		conn_disconnect(c, DISCONNECT_PROTOCOL_ERROR, "authentication before its service was asked for");
	else if (a->is_done)
		; /* RFC 4252 section 5.3: requests after success are ignored */
	else if (w->n > AUTH_REQUEST_BYTES_MAX)
		conn_disconnect(c, DISCONNECT_PROTOCOL_ERROR, "the authentication request is too long");
	else if (a->is_asking)
		keep_waiting(c, w);
	else
		handle_request(c, w->p, w->n);
	return SSH_PACKET_USED;
}

static void next_waiting(struct conn *c)
{
	struct auth *a = &c->auth;

	while (a->waiting_count > 0 && !a->is_asking && !a->is_done && !c->has_ended) {
		struct auth_waiting first = a->waiting[0];

		a->waiting_count--;
		memmove(a->waiting, a->waiting + 1, a->waiting_count * sizeof(a->waiting[0]));
		handle_request(c, first.payload, first.bytes);
		free(first.payload);
	}
}

void conn_auth_answer(struct conn *c, bool is_yes)
{
	struct auth *a = &c->auth;

	ASSERT(a->is_asking);
	a->is_asking = false;
	if (c->has_ended)
		return;
	if (!is_yes && a->is_asking_signed && ++a->key_count > c->server->max_keys) {
		/* Proved and denied counts as an offer too, for a client that signs without probing. */
		conn_disconnect(c, DISCONNECT_NO_MORE_AUTH_METHODS, "Too many authentication failures");
	} else if (!is_yes) {
		send_failure(c);
	} else if (a->is_asking_signed) {
		a->is_done = true;
		if (ssh_auth_reply_success(c->session, 0) == SSH_ERROR)
			conn_end(c, "sending failed", false);
		rotation_tell(c);
		if (!c->has_ended)
			c->events->on_authenticated(c);
	} else if (ssh_buffer_pack(c->session->out_buffer, "bsdP", SSH2_MSG_USERAUTH_PK_OK, a->algorithm,
				   (uint32_t)a->key_bytes, a->key_bytes, a->key) == SSH_OK) {
		(void)conn_send(c);
	}
	free(a->key);
	a->key = NULL;
	next_waiting(c);
}
