/*
 * upstream/procd/proof.c - signatures of HELLO and WELCOME, and key files.
 */
#include "upstream/procd/proof.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PUBLIC_PREFIX "ed25519:"
#define SECRET_PREFIX "ed25519-private:"
#define KEY_FILE_MAX 512 /* a key's line is 61 characters */

/* With their NUL: what follows can never be read as part of the label. */
static const char hello_label[] = "procd-hello-1";
static const char welcome_label[] = "procd-welcome-1";

_Static_assert(crypto_sign_SECRETKEYBYTES == sizeof(((struct proof_secret *)0)->key), "libsodium's secret keys");
_Static_assert(crypto_sign_PUBLICKEYBYTES == PROOF_PUBLIC_BYTES, "libsodium's public keys");
_Static_assert(crypto_sign_BYTES == FRAME_SIGNATURE_BYTES, "libsodium's signatures");

int proof_init(void)
{
	return sodium_init() < 0 ? -EIO : 0;
}

void proof_random(void *p, size_t n)
{
	randombytes_buf(p, n);
}

/* --- signatures --- */

#define MESSAGE_MAX (sizeof(welcome_label) + FRAME_CHALLENGE_BYTES + TICKET_MAX)

/* label, its NUL, challenge, rest. Returns the length. */
static size_t message_build(uint8_t out[MESSAGE_MAX], const char *label, const uint8_t *challenge, struct bytes rest)
{
	size_t n = strlen(label) + 1;

	ASSERT(rest.n <= TICKET_MAX);
	memcpy(out, label, n);
	memcpy(out + n, challenge, FRAME_CHALLENGE_BYTES);
	n += FRAME_CHALLENGE_BYTES;
	if (rest.n > 0)
		memcpy(out + n, rest.p, rest.n);
	return n + rest.n;
}

static size_t welcome_message(uint8_t out[MESSAGE_MAX], const uint8_t *challenge, struct bytes ticket)
{
	uint8_t digest[crypto_hash_sha256_BYTES];

	crypto_hash_sha256(digest, ticket.p, ticket.n);
	return message_build(out, welcome_label, challenge, bytes_of(digest, sizeof(digest)));
}

void proof_hello_sign(const struct proof_secret *gateway, const uint8_t challenge[FRAME_CHALLENGE_BYTES],
		      struct bytes ticket, uint8_t ret_signature[FRAME_SIGNATURE_BYTES])
{
	uint8_t message[MESSAGE_MAX];
	size_t n = message_build(message, hello_label, challenge, ticket);

	crypto_sign_detached(ret_signature, NULL, message, n, gateway->key);
}

bool proof_hello_verify(const struct proof_public *gateway, const uint8_t challenge[FRAME_CHALLENGE_BYTES],
			struct bytes ticket, struct bytes signature)
{
	uint8_t message[MESSAGE_MAX];
	size_t n;

	if (ticket.n == 0 || ticket.n > TICKET_MAX || signature.n != FRAME_SIGNATURE_BYTES)
		return false;
	n = message_build(message, hello_label, challenge, ticket);
	return crypto_sign_verify_detached(signature.p, message, n, gateway->key) == 0;
}

void proof_welcome_sign(const struct proof_secret *sandbox, const uint8_t challenge[FRAME_CHALLENGE_BYTES],
			struct bytes ticket, uint8_t ret_signature[FRAME_SIGNATURE_BYTES])
{
	uint8_t message[MESSAGE_MAX];
	size_t n = welcome_message(message, challenge, ticket);

	crypto_sign_detached(ret_signature, NULL, message, n, sandbox->key);
}

bool proof_welcome_verify(const struct proof_public *sandbox, const uint8_t challenge[FRAME_CHALLENGE_BYTES],
			  struct bytes ticket, struct bytes signature)
{
	uint8_t message[MESSAGE_MAX];
	size_t n;

	if (ticket.n == 0 || ticket.n > TICKET_MAX || signature.n != FRAME_SIGNATURE_BYTES)
		return false;
	n = welcome_message(message, challenge, ticket);
	return crypto_sign_verify_detached(signature.p, message, n, sandbox->key) == 0;
}

/* --- keys as text --- */

/* PREFIX and the base64 of 32 bytes, white space around it. */
static int key_parse(const char *text, const char *prefix, uint8_t ret_key[32])
{
	uint8_t key[32];
	const char *end;
	size_t n;

	while (*text == ' ' || *text == '\t' || *text == '\n' || *text == '\r')
		text++;
	if (strncmp(text, prefix, strlen(prefix)) != 0)
		return -EINVAL;
	text += strlen(prefix);
	if (sodium_base642bin(key, sizeof(key), text, strlen(text), NULL, &n, &end, sodium_base64_VARIANT_ORIGINAL) !=
		    0 ||
	    n != sizeof(key))
		return -EINVAL;
	while (*end == ' ' || *end == '\t' || *end == '\n' || *end == '\r')
		end++;
	if (*end)
		return -EINVAL;
	memcpy(ret_key, key, sizeof(key));
	sodium_memzero(key, sizeof(key));
	return 0;
}

static void key_format(const char *prefix, const uint8_t key[32], char *ret_text, size_t size)
{
	size_t n = strlen(prefix);

	ASSERT(size >= n + sodium_base64_ENCODED_LEN(32, sodium_base64_VARIANT_ORIGINAL));
	memcpy(ret_text, prefix, n);
	sodium_bin2base64(ret_text + n, size - n, key, 32, sodium_base64_VARIANT_ORIGINAL);
}

int proof_public_parse(const char *text, struct proof_public *ret_key)
{
	return key_parse(text, PUBLIC_PREFIX, ret_key->key);
}

void proof_public_format(const struct proof_public *key, char ret_text[PROOF_PUBLIC_TEXT_MAX])
{
	key_format(PUBLIC_PREFIX, key->key, ret_text, PROOF_PUBLIC_TEXT_MAX);
}

void proof_secret_public(const struct proof_secret *secret, struct proof_public *ret_public)
{
	crypto_sign_ed25519_sk_to_pk(ret_public->key, secret->key);
}

void proof_secret_wipe(struct proof_secret *secret)
{
	sodium_memzero(secret, sizeof(*secret));
}

/* --- key files --- */

static int file_read(int fd, char ret_text[KEY_FILE_MAX])
{
	size_t n = 0;

	while (n < KEY_FILE_MAX - 1) {
		ssize_t k = read(fd, ret_text + n, KEY_FILE_MAX - 1 - n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		if (k == 0)
			break;
		n += (size_t)k;
	}
	ret_text[n] = 0;
	/* Too long for a key, or bytes behind a NUL that nobody would see. */
	return n == KEY_FILE_MAX - 1 || strlen(ret_text) != n ? -EINVAL : 0;
}

static int file_load(const char *path, bool is_secret, char ret_text[KEY_FILE_MAX])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	int rc;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		rc = -errno;
	else if (is_secret && (st.st_mode & 077))
		rc = -EACCES;
	else
		rc = file_read(fd, ret_text);
	close(fd);
	return rc;
}

int proof_public_load(const char *path, struct proof_public *ret_key)
{
	char text[KEY_FILE_MAX];
	int rc = file_load(path, false, text);

	return rc < 0 ? rc : proof_public_parse(text, ret_key);
}

int proof_secret_load(const char *path, struct proof_secret *ret_key)
{
	uint8_t seed[PROOF_SEED_BYTES], public[PROOF_PUBLIC_BYTES];
	char text[KEY_FILE_MAX];
	int rc = file_load(path, true, text);

	if (rc == 0)
		rc = key_parse(text, SECRET_PREFIX, seed);
	if (rc == 0)
		crypto_sign_seed_keypair(public, ret_key->key, seed);
	sodium_memzero(seed, sizeof(seed));
	sodium_memzero(text, sizeof(text));
	return rc;
}

/* One line in a new file. */
static int file_write(const char *path, int flags, mode_t mode, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | flags, mode);
	struct iovec {
		const void *p;
		size_t n;
	} parts[] = {{text, strlen(text)}, {"\n", 1}};
	int rc = 0;

	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_LEN(parts) && rc == 0; i++) {
		ssize_t n = write(fd, parts[i].p, parts[i].n);

		if (n != (ssize_t)parts[i].n)
			rc = n < 0 ? -errno : -ENOSPC;
	}
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	return rc;
}

int proof_keygen(const char *path, struct proof_public *ret_public)
{
	uint8_t seed[PROOF_SEED_BYTES];
	struct proof_secret secret;
	struct proof_public public;
	char text[128], public_path[4096];
	int rc;

	if (snprintf(public_path, sizeof(public_path), "%s.pub", path) >= (int)sizeof(public_path))
		return -ENAMETOOLONG;
	randombytes_buf(seed, sizeof(seed));
	crypto_sign_seed_keypair(public.key, secret.key, seed);
	key_format(SECRET_PREFIX, seed, text, sizeof(text));
	rc = file_write(path, O_EXCL, 0600, text);
	if (rc == 0) {
		proof_public_format(&public, text);
		/* A public key beside no secret one is left over from nothing useful, so it may be written over. */
		rc = file_write(public_path, O_TRUNC, 0644, text);
		if (rc < 0)
			unlink(path);
	}
	if (rc == 0)
		*ret_public = public;
	sodium_memzero(seed, sizeof(seed));
	sodium_memzero(text, sizeof(text));
	proof_secret_wipe(&secret);
	return rc;
}
