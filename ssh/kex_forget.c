/*
 * What a key exchange leaves behind in libssh: the ephemeral keys and the shared secret stay until the next exchange. They are wiped
 * as soon as the session keys are in use: nobody can steal what is not there, and a resting session is some 6 KiB smaller.
 */
#include "config.h" /* libssh's: its internal headers need it first */

#include "ssh/internal.h"

#include "libssh/crypto.h"
#include "libssh/dh.h"
#include "libssh/priv.h"
#include "libssh/session.h"

#include <openssl/evp.h>

static void forget_string(ssh_string *s)
{
	if (!*s)
		return;
	ssh_string_burn(*s);
	ssh_string_free(*s);
	*s = NULL;
}

static void forget_private_key(EVP_PKEY **key)
{
	EVP_PKEY_free(*key); /* clears it */
	*key = NULL;
}

/* The lists that both sides offered; what was chosen stays in kex_methods. */
static void forget_offers(struct ssh_kex_struct *kex)
{
	for (size_t i = 0; i < SSH_KEX_METHODS; i++)
		SAFE_FREE(kex->methods[i]);
}

void conn_forget_kex(struct conn *c)
{
	ssh_session s = c->session;
	struct ssh_crypto_struct *crypto = s->current_crypto;

	if (!crypto || crypto->used != SSH_DIRECTION_BOTH || s->dh_handshake_state != DH_STATE_FINISHED)
		return;
	ssh_dh_cleanup(crypto);
	bignum_safe_free(crypto->shared_secret);
	forget_string(&crypto->hybrid_shared_secret);
	forget_string(&crypto->hybrid_client_init);
	forget_string(&crypto->hybrid_server_reply);
	forget_string(&crypto->mlkem_client_pubkey);
	forget_string(&crypto->mlkem_ciphertext);
	forget_string(&crypto->ecdh_client_pubkey);
	forget_string(&crypto->ecdh_server_pubkey);
	forget_private_key(&crypto->ecdh_privkey);
	forget_private_key(&crypto->curve25519_privkey);
#ifdef HAVE_OPENSSL_MLKEM
	forget_private_key(&crypto->mlkem_privkey);
#else
	if (crypto->mlkem_privkey) {
		ssh_burn(crypto->mlkem_privkey, crypto->mlkem_privkey_len);
		SAFE_FREE(crypto->mlkem_privkey);
		crypto->mlkem_privkey_len = 0;
	}
#endif
	ssh_burn(crypto->sntrup761_privkey, sizeof(crypto->sntrup761_privkey));
	SAFE_FREE(crypto->dh_server_signature);
	forget_offers(&crypto->client_kex);
	forget_offers(&crypto->server_kex);
}
