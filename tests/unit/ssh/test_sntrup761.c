/*
 * tests/unit/ssh/test_sntrup761.c - libssh's sntrup761 with ssh/patches/0006 gives what it gave without: keys, ciphertexts and secrets from
 * a given stream of "random" bytes. The expected digest is that of the code before the patch. OpenSSH's own implementation is at the
 * other end in tests/e2e.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

#define SECRET_KEY 1763
#define PUBLIC_KEY 1158
#define CIPHERTEXT 1039
#define SECRET 32
#define ROUNDS 20

/* libssh's, in no header. */
typedef void random_func(void *ctx, size_t length, uint8_t *dst);
void sntrup761_keypair(uint8_t *pk, uint8_t *sk, void *ctx, random_func *random);
void sntrup761_enc(uint8_t *c, uint8_t *k, const uint8_t *pk, void *ctx, random_func *random);
void sntrup761_dec(uint8_t *k, const uint8_t *c, const uint8_t *sk);

/* SplitMix64 by the byte: the same stream however it is cut. */
static void stream(void *ctx, size_t length, uint8_t *dst)
{
	uint64_t *state = ctx;

	for (size_t i = 0; i < length; i++) {
		uint64_t z = *state += 0x9e3779b97f4a7c15;

		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
		z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
		dst[i] = (uint8_t)(z ^ (z >> 31));
	}
}

static void test_same_as_before(void **state)
{
	static const char expected[] = "9ab6d6e320eb5a58df3c8fe6956e70c56c70eee1c4cb1cb82cbf62989ce29b88";
	static uint8_t sk[SECRET_KEY], pk[PUBLIC_KEY], c[CIPHERTEXT];
	uint8_t theirs[SECRET], ours[SECRET], digest[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	uint64_t seed = 761;
	unsigned n = 0;
	char hex[65] = "";

	(void)state;
	assert_non_null(md);
	assert_int_equal(EVP_DigestInit_ex(md, EVP_sha256(), NULL), 1);
	for (int i = 0; i < ROUNDS; i++) {
		sntrup761_keypair(pk, sk, &seed, stream);
		/* Off the honest path too: a public key whose coefficients are as large as may be. */
		if (i % 4 == 3)
			memset(pk, 0xff, sizeof(pk));
		sntrup761_enc(c, theirs, pk, &seed, stream);
		sntrup761_dec(ours, c, sk);
		if (i % 4 != 3)
			assert_memory_equal(ours, theirs, SECRET);
		EVP_DigestUpdate(md, pk, sizeof(pk));
		EVP_DigestUpdate(md, sk, sizeof(sk));
		EVP_DigestUpdate(md, c, sizeof(c));
		EVP_DigestUpdate(md, theirs, SECRET);
		EVP_DigestUpdate(md, ours, SECRET);
	}
	assert_int_equal(EVP_DigestFinal_ex(md, digest, &n), 1);
	EVP_MD_CTX_free(md);
	for (unsigned i = 0; i < n; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	assert_string_equal(hex, expected);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_as_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
