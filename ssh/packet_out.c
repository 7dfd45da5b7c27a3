#include "config.h" /* libssh's: its internal headers need it first */

#include "ssh/packet_out.h"

#include "ssh/internal.h"
#include "ssh/libssh_socket.h"

#include "libssh/crypto.h"
#include "libssh/misc.h"
#include "libssh/packet.h"
#include "libssh/priv.h"
#include "libssh/session.h"
#include "libssh/ssh2.h"
#include "libssh/wrapper.h"

#include <openssl/evp.h>

#include <errno.h>
#include <string.h>

#define LENGTH_BYTES 4
/* Behind the packet: the cipher's tag, or the MAC. */
#define TAG_BYTES_MAX DIGEST_MAX_LEN
#define PADDING_MIN 4
#define PADDING_MAX (PADDING_MIN + 16)
/*
 * Random bytes that are asked for at once: a call costs 0.8 us, a system call among it, whether for 6 bytes or for 500; 30,000
 * packets are a gigabyte.
 */
#define PADDING_POOL_BYTES 512
/* RFC 4344 section 3.1: rekey long before sequence numbers come round; libssh's own limit. */
#define PACKETS_MAX (1UL << 31)

static bool is_ctr(const struct ssh_cipher_struct *cipher)
{
	return cipher->ciphertype == SSH_AES128_CTR || cipher->ciphertype == SSH_AES192_CTR ||
	       cipher->ciphertype == SSH_AES256_CTR;
}

static bool is_known(const struct ssh_crypto_struct *crypto)
{
	if (crypto->do_compress_out)
		return false;
	if (is_ctr(crypto->out_cipher))
		return crypto->out_hmac == SSH_HMAC_SHA256 || crypto->out_hmac == SSH_HMAC_SHA512;
	return crypto->out_cipher->aead_encrypt && crypto->out_cipher->tag_size == hmac_digest_len(crypto->out_hmac);
}

/* The cipher, where packets may go this way: authenticated, no key exchange running or due, a cipher and a MAC that are known here. */
static struct ssh_cipher_struct *fast_cipher(struct conn *c)
{
	ssh_session s = c->session;
	struct ssh_crypto_struct *crypto = s->current_crypto;
	struct ssh_cipher_struct *cipher;

	if (!c->auth.is_done || s->dh_handshake_state != DH_STATE_FINISHED || !crypto ||
	    crypto->used != SSH_DIRECTION_BOTH)
		return NULL;
	if (!is_known(crypto))
		return NULL;
	cipher = crypto->out_cipher;
	if (cipher->packets >= PACKETS_MAX ||
	    (cipher->max_blocks != 0 && cipher->blocks + CHAN_PACKET_MAX / cipher->blocksize >= cipher->max_blocks))
		return NULL; /* libssh's way begins the key exchange */
	if (s->opts.rekey_time != 0 && ssh_timeout_elapsed(&s->last_rekey_time, (int)s->opts.rekey_time))
		return NULL;
	return cipher;
}

static int open_packet(struct chan *ch, bool is_error)
{
	struct conn *c = ch->conn;
	struct packet_out *o = &c->packet;
	struct wire_writer w;
	uint8_t *p;

	if (!fast_cipher(c))
		return 0;
	p = chain_reserve(libssh_socket_out(c->session->socket),
			  LENGTH_BYTES + 1 + CHAN_DATA_HEAD_MAX + ch->peer_packet + PADDING_MAX + TAG_BYTES_MAX);
	if (!p)
		return -ENOMEM;
	w = (struct wire_writer){.p = p + LENGTH_BYTES + 1};
	wire_put_u8(&w, is_error ? SSH2_MSG_CHANNEL_EXTENDED_DATA : SSH2_MSG_CHANNEL_DATA);
	wire_put_u32(&w, ch->peer_number);
	if (is_error)
		wire_put_u32(&w, CHAN_STDERR);
	*o = (struct packet_out){
		.at = p,
		.head_bytes = (uint32_t)(w.p - p) + 4, /* the payload's length is written last */
		.payload_max = ch->peer_packet,
		.peer_number = ch->peer_number,
		.is_error = is_error,
	};
	return 1;
}

int packet_out_append(struct chan *ch, bool is_error, const uint8_t *p, size_t n)
{
	struct conn *c = ch->conn;
	struct packet_out *o = &c->packet;
	uint32_t take;

	if (o->at && (o->peer_number != ch->peer_number || o->is_error != is_error))
		packet_out_seal(c);
	if (c->has_ended)
		return -EIO; /* it could not be sealed: what is begun now would be in nobody's hands */
	if (!o->at) {
		int rc = open_packet(ch, is_error);

		if (rc <= 0)
			return rc;
	}
	take = o->payload_max - o->payload_bytes;
	if (take > n)
		take = (uint32_t)n;
	bytes_copy(o->at + o->head_bytes + o->payload_bytes, p, take);
	o->payload_bytes += take;
	chunk_pool_count_copy(libssh_socket_out(c->session->socket)->pool, take);
	if (o->payload_bytes == o->payload_max)
		packet_out_seal(c);
	return (int)take;
}

/* n random bytes for no secret, n up to PADDING_MAX; each byte is given out once. RFC 4253 section 6 asks for them. */
static void padding_take(uint8_t *p, size_t n)
{
	static _Thread_local uint8_t pool[PADDING_POOL_BYTES];
	static _Thread_local size_t left;

	if (left < n) {
		/* Without random bytes zeroes will do: with these ciphers padding hides nothing. */
		if (!ssh_get_random(pool, sizeof(pool), 0))
			memset(pool, 0, sizeof(pool));
		left = sizeof(pool);
	}
	left -= n;
	memcpy(p, pool + left, n);
}

/* In place; the tag comes behind the n bytes. False: p may still be readable. */
static bool seal_aead(struct conn *c, uint8_t *p, size_t n)
{
	static const uint8_t no_tag[TAG_BYTES_MAX];
	struct ssh_cipher_struct *cipher = c->session->current_crypto->out_cipher;

	/* It says nothing when it fails. The tag comes last. */
	memset(p + n, 0, cipher->tag_size);
	cipher->aead_encrypt(cipher, p, p, n, p + n, c->session->send_seq);
	return memcmp(p + n, no_tag, cipher->tag_size) != 0;
}

/* The same; libssh's encrypt would say nothing when it fails. The counter goes on in libssh's own context. */
static bool ctr_encrypt(struct ssh_cipher_struct *cipher, uint8_t *p, size_t n)
{
	int done = 0;

	return EVP_EncryptUpdate(cipher->ctx, p, &done, p, (int)n) == 1 && done == (int)n;
}

static bool add_mac(struct conn *c, uint8_t *p, size_t n)
{
	return ssh_packet_mac(c->session->current_crypto, SSH_DIRECTION_OUT, c->session->send_seq, p, n, p + n) ==
	       SSH_OK;
}

/* The MAC is of what is sent, behind a length that can be read (-etm), or of what is then encrypted with its length. */
static bool seal_ctr(struct conn *c, uint8_t *p, size_t n)
{
	struct ssh_crypto_struct *crypto = c->session->current_crypto;

	if (crypto->out_hmac_etm)
		return ctr_encrypt(crypto->out_cipher, p + LENGTH_BYTES, n - LENGTH_BYTES) && add_mac(c, p, n);
	return add_mac(c, p, n) && ctr_encrypt(crypto->out_cipher, p, n);
}

/* What makes the encrypted part whole blocks. The length field belongs to it where it is encrypted with the rest. */
static size_t padding_for(const struct ssh_crypto_struct *crypto, size_t body)
{
	size_t block = crypto->out_cipher->blocksize;
	size_t n = 1 + body, padding;

	if (is_ctr(crypto->out_cipher) && !crypto->out_hmac_etm)
		n += LENGTH_BYTES;
	padding = block - n % block;
	return padding < PADDING_MIN ? padding + block : padding;
}

void packet_out_seal(struct conn *c)
{
	struct packet_out *o = &c->packet;
	struct ssh_crypto_struct *crypto;
	struct wire_writer w;
	size_t body, padding, packet;
	uint8_t *p = o->at;

	if (!p)
		return;
	o->at = NULL;
	crypto = c->session->current_crypto;
	w = (struct wire_writer){.p = p + o->head_bytes - 4};
	wire_put_u32(&w, o->payload_bytes);
	body = o->head_bytes - LENGTH_BYTES - 1 + o->payload_bytes;
	padding = padding_for(crypto, body);
	packet = LENGTH_BYTES + 1 + body + padding;
	w.p = p;
	wire_put_u32(&w, (uint32_t)(packet - LENGTH_BYTES));
	wire_put_u8(&w, (uint8_t)padding);
	padding_take(p + packet - padding, padding);
	if (!(is_ctr(crypto->out_cipher) ? seal_ctr : seal_aead)(c, p, packet)) {
		memset(p, 0, packet);
		chain_commit(libssh_socket_out(c->session->socket), 0);
		conn_end(c, "encryption failed", false);
		return;
	}
	chain_commit(libssh_socket_out(c->session->socket), packet + hmac_digest_len(crypto->out_hmac));
	c->session->send_seq++;
	crypto->out_cipher->packets++;
	crypto->out_cipher->blocks += body / crypto->out_cipher->blocksize;
}
