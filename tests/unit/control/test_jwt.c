#include "control/jwt.h"

#include "control/limits.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sodium.h>

#define NOW 1700000000

static uint8_t keys[2][JWT_KEY_BYTES], secret[crypto_sign_SECRETKEYBYTES], other[crypto_sign_SECRETKEYBYTES];
static char token[2 * JWT_BYTES_MAX];

static int setup(void **state)
{
	uint8_t unused[JWT_KEY_BYTES];

	assert_true(sodium_init() >= 0);
	crypto_sign_keypair(keys[0], other);
	crypto_sign_keypair(keys[1], secret);
	crypto_sign_keypair(unused, other);
	return 0;
}

static size_t encode(const void *p, size_t n, char *at)
{
	size_t room = sodium_base64_encoded_len(n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);

	sodium_bin2base64(at, room, p, n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	return strlen(at);
}

static const char *make(const char *header, const char *payload, const uint8_t *with)
{
	uint8_t signature[crypto_sign_BYTES];
	size_t n = encode(header, strlen(header), token);

	token[n++] = '.';
	n += encode(payload, strlen(payload), token + n);
	crypto_sign_detached(signature, NULL, (uint8_t *)token, n, with);
	token[n++] = '.';
	encode(signature, sizeof(signature), token + n);
	return token;
}

static int check(const char *text, char *issuer)
{
	const char *why = NULL;
	int rc = jwt_check(bytes_str(text), keys, 2, NOW, issuer, &why);

	assert_true((rc == 0) == (why == NULL));
	return rc;
}

#define HEADER "{\"alg\":\"EdDSA\"}"
#define GOOD "\"iss\":\"gw\",\"aud\":\"ringgate-control\""

static void expect(const char *payload, int rc)
{
	char issuer[JWT_ISSUER_MAX + 1] = "untouched", text[4096];

	snprintf(text, sizeof(text), "%s", payload);
	assert_int_equal(check(make(HEADER, text, secret), issuer), rc);
	assert_string_equal(issuer, rc == 0 ? "gw" : "untouched");
}

static void test_claims(void **state)
{
	expect("{" GOOD ",\"exp\":1700000060}", 0);
	expect("{" GOOD ",\"exp\":1700000360,\"iat\":1700000060,\"nbf\":1}", 0);
	expect("{" GOOD ",\"exp\":1700000361}", -EACCES);
	expect("{" GOOD ",\"exp\":1699999941}", 0);
	expect("{" GOOD ",\"exp\":1699999940}", -EACCES);
	expect("{" GOOD ",\"exp\":1e300}", -EACCES);
	expect("{" GOOD ",\"exp\":-1e300}", -EACCES);
	expect("{" GOOD ",\"exp\":null}", -EACCES);
	expect("{" GOOD ",\"exp\":1700000060,\"exp\":1700000061}", -EACCES);
	expect("{" GOOD ",\"exp\":1700000060,\"nbf\":1700000061}", -EACCES);
	expect("{" GOOD ",\"exp\":1700000060,\"iat\":\"1\"}", -EACCES);
	expect("{\"iss\":\"gw\",\"aud\":[\"a\",\"ringgate-control\"],\"exp\":1700000060}", 0);
	expect("{\"iss\":\"gw\",\"aud\":[],\"exp\":1700000060}", -EACCES);
	expect("{\"iss\":\"gw\",\"aud\":{\"ringgate-control\":1},\"exp\":1700000060}", -EACCES);
	expect("{\"iss\":\"\",\"aud\":\"ringgate-control\",\"exp\":1700000060}", -EACCES);
	expect("{\"iss\":\"g\\u0000w\",\"aud\":\"ringgate-control\",\"exp\":1700000060}", -EACCES);
	expect("{\"iss\":[\"gw\"],\"aud\":\"ringgate-control\",\"exp\":1700000060}", -EACCES);
	expect("[]", -EACCES);
	expect("", -EACCES);
	expect("{", -EACCES);
}

static void test_headers_and_keys(void **state)
{
	static const char *const headers[] = {
		"{}",
		"{\"alg\":\"none\"}",
		"{\"alg\":\"eddsa\"}",
		"{\"alg\":[\"EdDSA\"]}",
		"[]",
		"x",
		"{\"alg\":\"EdDSA\",\"crit\":[]}",
		"{\"alg\":\"EdDSA\",\"alg\":\"none\"}",
	};
	const char *payload = "{" GOOD ",\"exp\":1700000060}";
	char issuer[JWT_ISSUER_MAX + 1];

	for (size_t i = 0; i < ARRAY_LEN(headers); i++)
		assert_int_equal(check(make(headers[i], payload, secret), issuer), -EACCES);
	assert_int_equal(check(make(HEADER, payload, other), issuer), -EACCES);
	assert_int_equal(check(make("{\"alg\":\"EdDSA\",\"kid\":\"x\"}", payload, secret), issuer), 0);
}

/* Cut anywhere, or changed in any one character, it is none; nothing is read beyond it (the sanitizer build sees that). */
static void test_every_cut_and_change(void **state)
{
	const char *good = make(HEADER, "{" GOOD ",\"exp\":1700000060}", secret), *why;
	char issuer[JWT_ISSUER_MAX + 1];
	size_t n = strlen(good);

	for (size_t i = 0; i < n; i++) {
		char *cut = malloc(i ? i : 1), *changed = strdup(good);

		memcpy(cut, good, i);
		assert_int_equal(jwt_check(bytes_of(cut, i), keys, 2, NOW, issuer, &why), -EACCES);
		free(cut);
		changed[i] = changed[i] == 'A' ? 'B' : 'A';
		assert_int_equal(jwt_check(bytes_of(changed, n), keys, 2, NOW, issuer, &why), -EACCES);
		free(changed);
	}
	assert_int_equal(jwt_check(bytes_of(good, n), keys, 2, NOW, issuer, &why), 0);
	assert_int_equal(jwt_check(bytes_of(good, n), keys, 1, NOW, issuer, &why), -EACCES);
	assert_int_equal(jwt_check(bytes_of(good, n), keys, 0, NOW, issuer, &why), -EACCES);
}

static void test_long_ones(void **state)
{
	char *text = malloc(4 * JWT_BYTES_MAX), issuer[JWT_ISSUER_MAX + 1];

	memset(text, '.', 4 * JWT_BYTES_MAX);
	text[4 * JWT_BYTES_MAX - 1] = 0;
	assert_int_equal(check(text, issuer), -EACCES);
	memset(text, 'A', JWT_BYTES_MAX);
	text[JWT_BYTES_MAX] = 0;
	text[10] = text[2000] = '.';
	assert_int_equal(check(text, issuer), -EACCES);
	free(text);
}

static void test_key_texts(void **state)
{
	static const char *const bad[] = {"",
					  "ed25519:",
					  "ed25519:AAAA",
					  "x",
					  "ed25519:!",
					  "ED25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
					  "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
					  "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= "};
	uint8_t key[JWT_KEY_BYTES];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(jwt_key_parse(bad[i], key));
	assert_true(jwt_key_parse("ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", key));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_headers_and_keys),
		cmocka_unit_test(test_every_cut_and_change),
		cmocka_unit_test(test_long_ones),
		cmocka_unit_test(test_key_texts),
	};

	return cmocka_run_group_tests_name("jwt", tests, setup, NULL);
}
