/* Host keys and algorithms: what all connections share. */
#include "config.h" /* libssh's: its internal headers need it first */

#include "ssh/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int host_key_load(struct conn_server *s, int i, const char *path, char ret_error[256])
{
	unsigned char *hash = NULL;
	size_t hash_bytes = 0;

	if (ssh_pki_import_privkey_file(path, NULL, NULL, NULL, &s->host_keys[i]) != SSH_OK) {
		snprintf(ret_error, 256, "%s: no private host key that can be read", path);
		return -EINVAL;
	}
	if (ssh_get_publickey_hash(s->host_keys[i], SSH_PUBLICKEY_HASH_SHA256, &hash, &hash_bytes) != SSH_OK)
		return -ENOMEM;
	s->fingerprints[i] = ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256, hash, hash_bytes);
	ssh_clean_pubkey_hash(&hash);
	return s->fingerprints[i] ? 0 : -ENOMEM;
}

int conn_server_new(const struct conn_server_options *o, struct conn_server **ret_server, char ret_error[256])
{
	struct conn_server *s = calloc(1, sizeof(*s));
	int keys = 0;

	snprintf(ret_error, 256, "out of memory");
	if (!s)
		return -ENOMEM;
	if (ssh_init() != SSH_OK) {
		snprintf(ret_error, 256, "libssh does not start");
		free(s);
		return -EINVAL;
	}
	ssh_set_log_level(SSH_LOG_NOLOG);
	s->kex = strdup(o->kex);
	s->ciphers = strdup(o->ciphers);
	s->macs = strdup(o->macs);
	s->host_key_algorithms = strdup(o->host_key_algorithms);
	s->version = strdup(o->version);
	s->rekey_bytes = o->rekey_bytes;
	s->rekey_s = o->rekey_s;
	s->max_bad_signatures = o->max_bad_signatures;
	s->max_keys = o->max_keys;
	s->max_channels = o->max_channels < CHAN_COUNT_MAX ? o->max_channels : CHAN_COUNT_MAX;
	s->window_bytes = o->window_bytes;
	if (!s->kex || !s->ciphers || !s->macs || !s->host_key_algorithms || !s->version)
		goto fail;
	for (int i = 0; i < 3; i++) {
		if (!o->host_key_paths[i])
			continue;
		if (host_key_load(s, i, o->host_key_paths[i], ret_error) < 0)
			goto fail;
		keys++;
	}
	if (keys == 0) {
		snprintf(ret_error, 256, "no host key");
		goto fail;
	}
	*ret_server = s;
	return 0;
fail:
	conn_server_free(s);
	return -EINVAL;
}

void conn_server_free(struct conn_server *s)
{
	if (!s)
		return;
	for (int i = 0; i < 3; i++) {
		ssh_key_free(s->host_keys[i]);
		ssh_string_free_char(s->fingerprints[i]);
	}
	free(s->kex);
	free(s->ciphers);
	free(s->macs);
	free(s->host_key_algorithms);
	free(s->version);
	free(s);
	ssh_finalize();
}

const char *conn_server_fingerprint(const struct conn_server *s, int index)
{
	for (int i = 0; i < 3; i++)
		if (s->fingerprints[i] && index-- == 0)
			return s->fingerprints[i];
	return NULL;
}
