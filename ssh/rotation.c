/*
 * Host keys that clients learn (OpenSSH's PROTOCOL, section 2.5): told of all after login, each proved to who asks. So a client knows
 * the next key before it is used, and forgets one that is not told of any more.
 */
#include "config.h" /* libssh's: its internal headers need it first */

#include "ssh/internal.h"

#include "libssh/buffer.h"
#include "libssh/crypto.h"
#include "libssh/packet.h"
#include "libssh/pki.h"
#include "libssh/pki_priv.h"
#include "libssh/priv.h"
#include "libssh/session.h"
#include "libssh/ssh2.h"
#include "libssh/string.h"

#include <string.h>

#define TELL_NAME "hostkeys-00@openssh.com"
#define PROVE_NAME "hostkeys-prove-00@openssh.com"

/* Clients that break on a global request that they do not know, by the beginnings of their versions: as OpenSSH's server has them. */
static bool breaks_on_telling(const char *version)
{
	static const char *const begins[] = {
		"SSH-2.0-Cisco-1.",  "SSH-2.0-TeraTerm SSH", "SSH-2.0-TTSSH/1.5.", "SSH-2.0-TTSSH/2.1",
		"SSH-2.0-TTSSH/2.2", "SSH-2.0-TTSSH/2.3",    "SSH-2.0-TTSSH/2.4",  "SSH-2.0-TTSSH/2.5",
		"SSH-2.0-TTSSH/2.6", "SSH-2.0-TTSSH/2.70",   "SSH-2.0-TTSSH/2.71", "SSH-2.0-TTSSH/2.72",
	};

	for (size_t i = 0; i < ARRAY_LEN(begins); i++)
		if (strncmp(version, begins[i], strlen(begins[i])) == 0)
			return true;
	return false;
}

void rotation_tell(struct conn *c)
{
	ssh_buffer told = c->server->told;

	if (c->has_ended || ssh_buffer_get_len(told) == 0 || breaks_on_telling(conn_client_version(c)))
		return;
	if (ssh_buffer_pack(c->session->out_buffer, "bsbP", SSH2_MSG_GLOBAL_REQUEST, TELL_NAME, 0,
			    (size_t)ssh_buffer_get_len(told), ssh_buffer_get(told)) == SSH_OK)
		(void)conn_send(c);
}

/* The place of a key that is ours and was not named before; -1. */
static int place_of(const struct conn_server *s, struct bytes blob, const struct proof *before)
{
	for (uint32_t i = 0; i < s->key_count; i++) {
		ssh_string own = s->keys[i].blob;

		if (ssh_string_len(own) == blob.n && memcmp(ssh_string_data(own), blob.p, blob.n) == 0)
			return memchr(before->keys, (int)i, before->count) ? -1 : (int)i;
	}
	return -1;
}

bool rotation_read(struct conn *c, struct wire *w, struct proof *ret_proof)
{
	struct proof p = {0};

	if (++c->proof_count > CONN_PROOFS_MAX)
		return false;
	while (w->n > 0) {
		struct bytes blob = wire_string(w);
		int place = w->is_bad ? -1 : place_of(c->server, blob, &p);

		if (place < 0)
			return false;
		p.keys[p.count++] = (uint8_t)place;
	}
	if (p.count == 0)
		return false;
	*ret_proof = p;
	return true;
}

/* Of RSA: what the key exchange was signed with, else what the client said that it takes; OpenSSH's client expects the former. */
static enum ssh_digest_e digest_of(const struct conn *c, enum host_key_type type)
{
	ssh_session s = c->session;

	if (type != HOST_KEY_RSA)
		return type == HOST_KEY_ECDSA ? SSH_DIGEST_SHA256 : SSH_DIGEST_AUTO; /* P-256; Ed25519 has its own */
	if (ssh_key_type_plain(s->srv.hostkey) == SSH_KEYTYPE_RSA && s->srv.hostkey_digest != SSH_DIGEST_AUTO)
		return s->srv.hostkey_digest;
	return s->extensions & SSH_EXT_SIG_RSA_SHA256 ? SSH_DIGEST_SHA256 : SSH_DIGEST_SHA512;
}

static bool prove_one(struct conn *c, const struct server_key *k, struct ssh_crypto_struct *crypto)
{
	ssh_buffer data = ssh_buffer_new();
	ssh_signature sig = NULL;
	ssh_string blob = NULL;
	bool is_done = false;

	if (data && ssh_buffer_pack(data, "sdPS", PROVE_NAME, (uint32_t)crypto->session_id_len, crypto->session_id_len,
				    crypto->session_id, k->blob) == SSH_OK)
		sig = pki_do_sign(k->key, ssh_buffer_get(data), ssh_buffer_get_len(data), digest_of(c, k->type));
	if (sig && ssh_pki_export_signature_blob(sig, &blob) == SSH_OK)
		is_done = ssh_buffer_pack(c->session->out_buffer, "S", blob) == SSH_OK;
	ssh_string_free(blob);
	ssh_signature_free(sig);
	SSH_BUFFER_FREE(data);
	return is_done;
}

bool rotation_prove(struct conn *c, const struct proof *p)
{
	struct ssh_crypto_struct *crypto = ssh_packet_get_current_crypto(c->session, SSH_DIRECTION_OUT);
	ssh_buffer out = c->session->out_buffer;
	bool is_done = crypto && ssh_buffer_pack(out, "b", SSH2_MSG_REQUEST_SUCCESS) == SSH_OK;

	for (uint32_t i = 0; i < p->count && is_done; i++)
		is_done = prove_one(c, &c->server->keys[p->keys[i]], crypto);
	if (!is_done)
		ssh_buffer_reinit(out);
	return is_done;
}
