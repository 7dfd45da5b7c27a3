/*
 * A host key's certificate (OpenSSH's PROTOCOL.certkeys): read at start, put beside its key. What it says is for clients to judge; here
 * only what would make it useless to all of them is refused.
 */
#include "config.h" /* libssh's: its internal headers need it first */

#include "ssh/internal.h"

#include "libssh/buffer.h"
#include "libssh/pki.h"

#include <errno.h>
#include <stdio.h>

/* Of the field `type`. */
#define CERTIFICATE_HOST 2

static uint64_t wire_u64(struct wire *w)
{
	uint64_t high = wire_u32(w);

	return high << 32 | wire_u32(w);
}

/* NULL, or what is wrong. */
static const char *fields_read(struct server_key *k, ssh_buffer blob)
{
	struct wire w = {.p = ssh_buffer_get(blob), .n = ssh_buffer_get_len(blob)};
	struct bytes critical;
	uint32_t kind;

	(void)wire_string(&w); /* the algorithm */
	(void)wire_string(&w); /* nonce */
	(void)wire_string(&w); /* Ed25519: the key; ECDSA: curve; RSA: e */
	if (k->type != HOST_KEY_ED25519)
		(void)wire_string(&w); /* ECDSA: point; RSA: n */
	(void)wire_u64(&w);            /* serial */
	kind = wire_u32(&w);
	(void)wire_string(&w); /* key ID */
	(void)wire_string(&w); /* principals */
	k->valid_from_s = wire_u64(&w);
	k->valid_until_s = wire_u64(&w);
	critical = wire_string(&w);
	(void)wire_string(&w); /* extensions */
	(void)wire_string(&w); /* reserved */
	(void)wire_string(&w); /* the authority's key */
	(void)wire_string(&w); /* its signature */
	if (w.is_bad || w.n > 0)
		return "is no certificate that can be read";
	if (kind != CERTIFICATE_HOST)
		return "is a user's certificate, not a host's (ssh-keygen -h)";
	if (critical.n > 0)
		return "has critical options, which no client takes of a host";
	return NULL;
}

int host_certificate_load(struct server_key *k, const char *path, char ret_error[256])
{
	const char *why = "is no certificate that can be read";
	ssh_key certificate = NULL;

	if (ssh_pki_import_cert_file(path, &certificate) == SSH_OK) {
		if (ssh_key_cmp(certificate, k->key, SSH_KEY_CMP_PUBLIC) != 0)
			why = "is a certificate of another key than the one beside it";
		else
			why = fields_read(k, certificate->cert);
	}
	if (!why && ssh_pki_copy_cert_to_privkey(certificate, k->key) != SSH_OK)
		why = "cannot be used: out of memory";
	ssh_key_free(certificate);
	if (why) {
		snprintf(ret_error, 256, "%s: %s", path, why);
		return -EINVAL;
	}
	k->has_certificate = true;
	return 0;
}
