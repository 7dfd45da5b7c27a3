/*
 * core/pubkey.h - users' public keys: the line of a .pub file, the blob of RFC 4253 section 6.6, the fingerprint.
 *
 * Accepted: ssh-ed25519, ecdsa-sha2-nistp256/384/521, ssh-rsa of 2048 to 16384 bits, and the sk- types of security keys. The
 * form is checked in full; whether a point lies on its curve is left to the library that verifies with it.
 *
 * Pure; SHA-256 and base64 by libsodium. Thread: any.
 */
#ifndef CORE_PUBKEY_H
#define CORE_PUBKEY_H

#include "core/bytes.h"
#include "core/check.h"
#include "core/limits.h"

#define PUBKEY_TYPE_MAX 64
#define PUBKEY_ERROR_BYTES 128

#define PUBKEY_RSA_BITS_MIN 2048
#define PUBKEY_RSA_BITS_MAX 16384

/* A blob of the largest RSA key is 2.1 KB, an application name of a security key at most 1 KiB. */
#define PUBKEY_BLOB_MAX 4096
#define PUBKEY_APPLICATION_MAX 1024

struct pubkey {
	char type[PUBKEY_TYPE_MAX];
	uint32_t bits;
	char fingerprint[FINGERPRINT_CHARS + 1];
	uint32_t blob_bytes;
	uint8_t blob[PUBKEY_BLOB_MAX];
};

/*
 * One line: type, base64, perhaps a comment; no options before them. 0, or -EINVAL with a sentence in ret_error; what it quotes
 * of the line is printable.
 */
MUST_USE int pubkey_parse_line(const char *line, struct pubkey *ret, char ret_error[PUBKEY_ERROR_BYTES]);

/*
 * 0 for a key that is accepted. -EINVAL: malformed; -ENOTSUP: a type that is not accepted; -EKEYREJECTED: an RSA key of too few or too
 * many bits. ret_type (which must be of a known form, or stays untouched) and ret_bits may be NULL.
 */
MUST_USE int pubkey_check_blob(struct bytes blob, char ret_type[PUBKEY_TYPE_MAX], uint32_t *ret_bits);

/* "SHA256:" and unpadded base64, as ssh-keygen -l prints it. Any blob. */
void pubkey_fingerprint(struct bytes blob, char ret[FINGERPRINT_CHARS + 1]);

#endif
