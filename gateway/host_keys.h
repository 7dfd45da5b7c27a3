/*
 * gateway/host_keys.h - the files of the gateway's host keys.
 *
 * DIR/ssh_host_TYPE_key, mode 0600, in OpenSSH's format, and DIR/ssh_host_TYPE_key.pub beside it; TYPE is ed25519, ecdsa, rsa.
 * Where they are there, DIR/ssh_host_TYPE_key.next and .old hold keys that clients are only told of, and
 * DIR/ssh_host_TYPE_key-cert.pub the key's certificate.
 */
#ifndef GATEWAY_HOST_KEYS_H
#define GATEWAY_HOST_KEYS_H

#include "core/check.h"
#include "gateway/config.h"
#include "ssh/conn.h"
#include "ssh/limits.h"

#include <stddef.h>

/* Writes the path of a type's private key. -ENAMETOOLONG. */
MUST_USE int host_key_path(const char *dir, const char *type, char *buf, size_t size);

/*
 * Makes what is missing: the folder (0700), a key of each type (logged as host_key_made with its fingerprint). No file is ever
 * written over; gateways that start at once with one folder agree on one key. Fails with what to do when others may read a key
 * file. 0 or negative errno.
 */
MUST_USE int host_keys_ensure(const char *dir, char ret_error[256]);

struct host_key_files {
	struct conn_host_key keys[HOST_KEYS_MAX]; /* the active ones first */
	uint32_t count;
	char paths[HOST_KEYS_MAX][CONFIG_PATH_MAX + 64];
	char certificate_paths[HOST_KEYS_MAX][CONFIG_PATH_MAX + 64];
};

/* The files that are there, of which nobody else may read one. 0, or negative errno with a sentence. */
MUST_USE int host_keys_find(const char *dir, struct host_key_files *ret_files, char ret_error[256]);

#endif
