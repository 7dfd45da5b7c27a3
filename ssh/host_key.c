#include "ssh/host_key.h"

#include <errno.h>
#include <libssh/libssh.h>
#include <stdlib.h>
#include <string.h>

#define RSA_BITS 3072

static const struct {
	const char *name;
	enum ssh_keytypes_e type;
} types[] = {
	{"ed25519", SSH_KEYTYPE_ED25519},
	{"ecdsa", SSH_KEYTYPE_ECDSA_P256},
	{"rsa", SSH_KEYTYPE_RSA},
};

static void text_wipe(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
}

void host_key_deinit(struct host_key *key)
{
	text_wipe(key->private_text);
	free(key->public_text);
	*key = (struct host_key){0};
}

static char *public_text(ssh_key key)
{
	const char *name = ssh_key_type_to_char(ssh_key_type(key));
	char *base64 = NULL, *text = NULL;

	if (!name || ssh_pki_export_pubkey_base64(key, &base64) != SSH_OK)
		return NULL;
	if (asprintf(&text, "%s %s", name, base64) < 0)
		text = NULL;
	ssh_string_free_char(base64);
	return text;
}

static char *private_text(ssh_key key)
{
	char *base64 = NULL, *text;

	if (ssh_pki_export_privkey_base64_format(key, NULL, NULL, NULL, &base64, SSH_FILE_FORMAT_OPENSSH) != SSH_OK)
		return NULL;
	text = strdup(base64);
	explicit_bzero(base64, strlen(base64));
	ssh_string_free_char(base64);
	return text;
}

static ssh_key key_generate(enum ssh_keytypes_e type)
{
	ssh_pki_ctx options = ssh_pki_ctx_new();
	ssh_key key = NULL;
	int bits = RSA_BITS;

	if (options && ssh_pki_ctx_options_set(options, SSH_PKI_OPTION_RSA_KEY_SIZE, &bits) == SSH_OK &&
	    ssh_pki_generate_key(type, options, &key) != SSH_OK)
		key = NULL;
	ssh_pki_ctx_free(options);
	return key;
}

int host_key_make(const char *type, struct host_key *ret_key)
{
	struct host_key made = {0};
	size_t i = 0;
	ssh_key key;

	while (i < ARRAY_LEN(types) && strcmp(types[i].name, type) != 0)
		i++;
	if (i == ARRAY_LEN(types))
		return -EINVAL;
	if (ssh_init() != SSH_OK)
		return -EIO;
	key = key_generate(types[i].type);
	if (key) {
		made.private_text = private_text(key);
		made.public_text = public_text(key);
	}
	ssh_key_free(key);
	ssh_finalize();
	if (!made.private_text || !made.public_text) {
		host_key_deinit(&made);
		return -EIO;
	}
	*ret_key = made;
	return 0;
}
