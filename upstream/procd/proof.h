/*
 * upstream/procd/proof.h - who is at the other end: tickets, their signatures, and the keys' text form.
 *
 * Pure; Ed25519 and SHA-256 by libsodium, so that procd needs nothing else. Source: docs/procd-protocol.md,
 * "Opening a connection".
 *
 * HELLO's signature covers   "procd-hello-1\0"   || challenge || ticket
 * WELCOME's signature covers "procd-welcome-1\0" || challenge || SHA-256(ticket)
 */
#ifndef UPSTREAM_PROCD_PROOF_H
#define UPSTREAM_PROCD_PROOF_H

#include "core/bytes.h"
#include "core/check.h"
#include "core/limits.h"
#include "upstream/procd/frame.h"

#define PROOF_PUBLIC_BYTES 32
#define PROOF_SEED_BYTES 32
#define PROOF_SESSION_BYTES 16
#define TICKET_MAX 1024
#define PROOF_PUBLIC_TEXT_MAX 64 /* "ed25519:" and base64 */

struct proof_public {
	uint8_t key[PROOF_PUBLIC_BYTES];
};

/* Secret: wipe with proof_secret_wipe. */
struct proof_secret {
	uint8_t key[64]; /* libsodium's form: seed and public key */
};

struct ticket {
	char sandbox[SANDBOX_ID_MAX + 1];
	char user[USER_ID_MAX + 1];
	char team[TEAM_ID_MAX + 1];
	char session[2 * PROOF_SESSION_BYTES + 1]; /* hex; also in both sides' logs */
	char gateway[64];                          /* the gateway's name */
	char client[64];                           /* the user's address, as text */
	uint64_t issued;                           /* seconds since 1970; for logs, never trusted */
};

/* Once a process, before all else here. 0 or -EIO. */
MUST_USE int proof_init(void);

/* Random bytes from the kernel. */
void proof_random(void *p, size_t n);

/* Encodes as a msgpack map. Returns its length, or -ENOBUFS. */
MUST_USE ssize_t ticket_encode(const struct ticket *t, uint8_t *out, size_t size);
/* -EPROTO when it is no ticket: fields missing, too long, not text. */
MUST_USE int ticket_decode(struct bytes encoded, struct ticket *ret_ticket);

void proof_hello_sign(const struct proof_secret *gateway, const uint8_t challenge[FRAME_CHALLENGE_BYTES],
		      struct bytes ticket, uint8_t ret_signature[FRAME_SIGNATURE_BYTES]);
MUST_USE bool proof_hello_verify(const struct proof_public *gateway, const uint8_t challenge[FRAME_CHALLENGE_BYTES],
				 struct bytes ticket, struct bytes signature);
void proof_welcome_sign(const struct proof_secret *sandbox, const uint8_t challenge[FRAME_CHALLENGE_BYTES],
			struct bytes ticket, uint8_t ret_signature[FRAME_SIGNATURE_BYTES]);
MUST_USE bool proof_welcome_verify(const struct proof_public *sandbox, const uint8_t challenge[FRAME_CHALLENGE_BYTES],
				   struct bytes ticket, struct bytes signature);

/* "ed25519:BASE64" (surrounding white space is fine). 0 or -EINVAL. */
MUST_USE int proof_public_parse(const char *text, struct proof_public *ret_key);
void proof_public_format(const struct proof_public *key, char ret_text[PROOF_PUBLIC_TEXT_MAX]);

/* Files of one line. Reading a secret fails with -EACCES when others may read the file. Negative errno, -EINVAL for content. */
MUST_USE int proof_public_load(const char *path, struct proof_public *ret_key);
MUST_USE int proof_secret_load(const char *path, struct proof_secret *ret_key);
/* Makes a key pair: PATH (mode 0600, never overwritten: -EEXIST) and PATH.pub. */
MUST_USE int proof_keygen(const char *path, struct proof_public *ret_public);
void proof_secret_public(const struct proof_secret *secret, struct proof_public *ret_public);
void proof_secret_wipe(struct proof_secret *secret);

#endif
