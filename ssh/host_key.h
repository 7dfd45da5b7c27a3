/*
 * ssh/host_key.h - makes a host key pair as text. Files are the caller's matter (gateway/host_keys.c).
 *
 * Thread: any; takes long for RSA (some 100 ms).
 */
#ifndef SSH_HOST_KEY_H
#define SSH_HOST_KEY_H

#include "core/check.h"

#include <stdint.h>

struct host_key {
	char *private_text; /* OpenSSH's own file format, unencrypted */
	char *public_text;  /* "ssh-ed25519 AAAA...", no newline */
};

/* "ed25519", "ecdsa" (P-256) or "rsa" (3072 bits). 0; -EINVAL for another type; -EIO when libssh or libcrypto fails. */
MUST_USE int host_key_make(const char *type, struct host_key *ret_key);

/* Wipes the secret. */
void host_key_deinit(struct host_key *key);

#endif
