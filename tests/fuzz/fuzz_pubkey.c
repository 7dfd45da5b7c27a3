/*
 * tests/fuzz/fuzz_pubkey.c - libFuzzer target for public keys: the input as a blob, and as a line.
 *
 * What is accepted must be stable: a line that is good has a good blob of the same type, and cutting a good blob makes it
 * bad.
 */
#include "core/pubkey.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check_blob(struct bytes blob)
{
	char type[PUBKEY_TYPE_MAX] = "", fingerprint[FINGERPRINT_CHARS + 1];
	uint32_t bits = 0;
	int rc = pubkey_check_blob(blob, type, &bits);

	ASSERT(rc == 0 || rc == -EINVAL || rc == -ENOTSUP || rc == -EKEYREJECTED);
	ASSERT(rc != 0 || (type[0] && bits >= 256 && bits <= PUBKEY_RSA_BITS_MAX));
	if (rc == 0)
		ASSERT(pubkey_check_blob(bytes_of(blob.p, blob.n - 1), NULL, NULL) == -EINVAL);
	pubkey_fingerprint(blob, fingerprint);
	ASSERT(strlen(fingerprint) == FINGERPRINT_CHARS);
}

static void check_line(const uint8_t *p, size_t n)
{
	char *line = malloc(n + 1), error[PUBKEY_ERROR_BYTES];
	char type[PUBKEY_TYPE_MAX];
	struct pubkey key;
	int rc;

	ASSERT(line);
	memcpy(line, p, n);
	line[n] = 0;
	memset(error, 'x', sizeof(error));
	rc = pubkey_parse_line(line, &key, error);
	ASSERT(rc == 0 || (rc == -EINVAL && memchr(error, 0, sizeof(error))));
	if (rc == 0) {
		ASSERT(key.blob_bytes <= PUBKEY_BLOB_MAX);
		ASSERT(pubkey_check_blob(bytes_of(key.blob, key.blob_bytes), type, NULL) == 0);
		ASSERT(strcmp(type, key.type) == 0);
	}
	free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	check_blob(bytes_of(p, n));
	check_line(p, n);
	return 0;
}
