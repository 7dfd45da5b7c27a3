/* Host keys and algorithms: what all connections share. */
#include "config.h" /* libssh's: its internal headers need it first */

#include "ssh/internal.h"

#include "libssh/buffer.h"
#include "libssh/pki.h"
#include "libssh/priv.h"
#include "libssh/string.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
	const char *name;
	enum ssh_keytypes_e type;
	const char *algorithms[2]; /* that prove such a key */
} types[HOST_KEY_TYPE_COUNT] = {
	[HOST_KEY_ED25519] = {"ed25519", SSH_KEYTYPE_ED25519, {"ssh-ed25519"}},
	[HOST_KEY_ECDSA] = {"ecdsa", SSH_KEYTYPE_ECDSA_P256, {"ecdsa-sha2-nistp256"}},
	[HOST_KEY_RSA] = {"rsa", SSH_KEYTYPE_RSA, {"rsa-sha2-512", "rsa-sha2-256"}},
};

static enum host_key_type type_of(const char *name)
{
	enum host_key_type t = HOST_KEY_ED25519;

	while (strcmp(types[t].name, name) != 0) {
		t++;
		ASSERT(t < HOST_KEY_TYPE_COUNT);
	}
	return t;
}

static int fingerprint_make(struct server_key *k)
{
	unsigned char *hash = NULL;
	size_t hash_bytes = 0;

	if (ssh_get_publickey_hash(k->key, SSH_PUBLICKEY_HASH_SHA256, &hash, &hash_bytes) != SSH_OK)
		return -ENOMEM;
	k->fingerprint = ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256, hash, hash_bytes);
	ssh_clean_pubkey_hash(&hash);
	return k->fingerprint ? 0 : -ENOMEM;
}

static int key_load(struct conn_server *s, const struct conn_host_key *file, char ret_error[256])
{
	struct server_key *k = &s->keys[s->key_count++];

	k->type = type_of(file->type);
	k->is_active = file->is_active;
	if (ssh_pki_import_privkey_file(file->path, NULL, NULL, NULL, &k->key) != SSH_OK) {
		snprintf(ret_error, 256, "%s: no private host key that can be read", file->path);
		return -EINVAL;
	}
	if (ssh_key_type(k->key) != types[k->type].type) {
		snprintf(ret_error, 256, "%s: is no key of the type %s%s", file->path, types[k->type].name,
			 k->type == HOST_KEY_ECDSA ? " (P-256)" : "");
		return -EINVAL;
	}
	if (k->type == HOST_KEY_RSA && ssh_key_size(k->key) < RSA_BITS_MIN) {
		snprintf(ret_error, 256, "%s: an RSA key has at least %d bits", file->path, RSA_BITS_MIN);
		return -EINVAL;
	}
	if (ssh_pki_export_pubkey_blob(k->key, &k->blob) != SSH_OK)
		return -ENOMEM;
	if (k->is_active) {
		ASSERT(!s->active[k->type]);
		s->active[k->type] = k->key;
	}
	if (fingerprint_make(k) < 0)
		return -ENOMEM;
	return file->certificate_path ? host_certificate_load(k, file->certificate_path, ret_error) : 0;
}

static void key_unload(struct server_key *k)
{
	ssh_key_free(k->key);
	ssh_string_free(k->blob);
	ssh_string_free_char(k->fingerprint);
	*k = (struct server_key){0};
}

/* A copy in place of a move leaves one key in two files. Clients take no key twice. */
static void drop_last_if_known(struct conn_server *s)
{
	struct server_key *last = &s->keys[s->key_count - 1];

	for (struct server_key *k = s->keys; k < last; k++) {
		if (!last->is_active && ssh_key_cmp(k->key, last->key, SSH_KEY_CMP_PUBLIC) == 0) {
			key_unload(last);
			s->key_count--;
			return;
		}
	}
}

static bool is_offered(const struct conn_server *s, enum host_key_type t)
{
	for (size_t i = 0; i < ARRAY_LEN(types[t].algorithms); i++)
		if (types[t].algorithms[i] && match_group(s->host_key_algorithms, types[t].algorithms[i]))
			return true;
	return false;
}

/* What every client is told, packed once. A type that no key exchange may use is nothing to learn. */
static int told_make(struct conn_server *s)
{
	s->told = ssh_buffer_new();
	if (!s->told)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->key_count; i++)
		if (is_offered(s, s->keys[i].type) && ssh_buffer_pack(s->told, "S", s->keys[i].blob) != SSH_OK)
			return -ENOMEM;
	return 0;
}

static int keys_load(struct conn_server *s, const struct conn_server_options *o, char ret_error[256])
{
	ASSERT(o->host_key_count <= HOST_KEYS_MAX);
	for (uint32_t i = 0; i < o->host_key_count; i++) {
		if (key_load(s, &o->host_keys[i], ret_error) < 0)
			return -EINVAL;
		drop_last_if_known(s);
	}
	if (!s->active[HOST_KEY_ED25519] && !s->active[HOST_KEY_ECDSA] && !s->active[HOST_KEY_RSA]) {
		snprintf(ret_error, 256, "no host key");
		return -EINVAL;
	}
	return told_make(s);
}

int conn_server_new(const struct conn_server_options *o, struct conn_server **ret_server, char ret_error[256])
{
	struct conn_server *s = calloc(1, sizeof(*s));

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
	if (keys_load(s, o, ret_error) < 0)
		goto fail;
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
	for (uint32_t i = 0; i < s->key_count; i++)
		key_unload(&s->keys[i]);
	SSH_BUFFER_FREE(s->told);
	free(s->kex);
	free(s->ciphers);
	free(s->macs);
	free(s->host_key_algorithms);
	free(s->version);
	free(s);
	ssh_finalize();
}

static bool has_valid_certificate(const struct server_key *k, uint64_t now_s)
{
	return k->has_certificate && now_s >= k->valid_from_s && now_s < k->valid_until_s;
}

void server_offered(const struct conn_server *s, char ret_list[OFFERED_MAX])
{
	uint64_t now_s = (uint64_t)time(NULL);
	size_t n = 0;

	for (uint32_t i = 0; i < s->key_count; i++) {
		const struct server_key *k = &s->keys[i];

		for (size_t a = 0; a < ARRAY_LEN(types[0].algorithms) && has_valid_certificate(k, now_s); a++) {
			const char *name = types[k->type].algorithms[a];

			if (name && match_group(s->host_key_algorithms, name))
				n += (size_t)sprintf(ret_list + n, "%s-cert-v01@openssh.com,", name);
		}
	}
	snprintf(ret_list + n, OFFERED_MAX - n, "%s", s->host_key_algorithms);
}

bool conn_server_host_key(const struct conn_server *s, uint32_t index, struct conn_host_key_told *ret_told)
{
	const struct server_key *k;

	if (index >= s->key_count)
		return false;
	k = &s->keys[index];
	*ret_told = (struct conn_host_key_told){
		.type = types[k->type].name,
		.fingerprint = k->fingerprint,
		.is_active = k->is_active,
		.has_certificate = k->has_certificate,
		.valid_from_s = k->valid_from_s,
		.valid_until_s = k->valid_until_s,
	};
	return true;
}
