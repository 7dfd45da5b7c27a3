#include "control/jwt.h"

#include "control/limits.h"

#include <errno.h>
#include <jansson.h>
#include <sodium.h>
#include <string.h>

#define KEY_PREFIX "ed25519:"

bool jwt_key_parse(const char *text, uint8_t ret_key[JWT_KEY_BYTES])
{
	size_t n;

	if (strncmp(text, KEY_PREFIX, strlen(KEY_PREFIX)) != 0)
		return false;
	text += strlen(KEY_PREFIX);
	return sodium_base642bin(ret_key, JWT_KEY_BYTES, text, strlen(text), NULL, &n, NULL,
				 sodium_base64_VARIANT_ORIGINAL) == 0 &&
	       n == JWT_KEY_BYTES;
}

/* HEADER.PAYLOAD.SIGNATURE */
struct parts {
	struct bytes header, payload, signature, is_signed;
};

static bool token_split(struct bytes token, struct parts *ret)
{
	const uint8_t *end = token.p + token.n, *first, *second;

	if (token.n == 0 || token.n > JWT_BYTES_MAX)
		return false;
	first = memchr(token.p, '.', token.n);
	if (!first)
		return false;
	second = memchr(first + 1, '.', (size_t)(end - first - 1));
	if (!second || memchr(second + 1, '.', (size_t)(end - second - 1)))
		return false;
	ret->header = bytes_of(token.p, (size_t)(first - token.p));
	ret->payload = bytes_of(first + 1, (size_t)(second - first - 1));
	ret->signature = bytes_of(second + 1, (size_t)(end - second - 1));
	ret->is_signed = bytes_of(token.p, (size_t)(second - token.p));
	return true;
}

static bool decode(struct bytes text, uint8_t *out, size_t size, size_t *ret_n)
{
	return sodium_base642bin(out, size, (const char *)text.p, text.n, NULL, ret_n, NULL,
				 sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0;
}

static json_t *object_of(struct bytes text)
{
	uint8_t json[JWT_BYTES_MAX];
	json_t *o;
	size_t n;

	if (!decode(text, json, sizeof(json), &n))
		return NULL;
	o = json_loadb((const char *)json, n, JSON_REJECT_DUPLICATES, NULL);
	if (o && !json_is_object(o)) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static bool is_signed_by_one(const struct parts *p, const uint8_t (*keys)[JWT_KEY_BYTES], uint32_t key_count)
{
	uint8_t signature[crypto_sign_BYTES];
	size_t n;

	_Static_assert(crypto_sign_PUBLICKEYBYTES == JWT_KEY_BYTES, "libsodium's public keys");
	if (!decode(p->signature, signature, sizeof(signature), &n) || n != sizeof(signature))
		return false;
	for (uint32_t i = 0; i < key_count; i++)
		if (crypto_sign_verify_detached(signature, p->is_signed.p, p->is_signed.n, keys[i]) == 0)
			return true;
	return false;
}

static const char *header_fault(const json_t *header)
{
	const char *alg = json_string_value(json_object_get(header, "alg"));

	if (!alg || strcmp(alg, "EdDSA") != 0)
		return "its algorithm is not EdDSA";
	/* RFC 7515: what must be understood, and is not. */
	return json_object_get(header, "crit") ? "it has critical extensions" : NULL;
}

static bool is_for_us(const json_t *audience)
{
	size_t i;
	json_t *one;

	if (json_is_string(audience))
		return strcmp(json_string_value(audience), JWT_AUDIENCE) == 0;
	json_array_foreach(audience, i, one) if (json_is_string(one) &&
						 strcmp(json_string_value(one), JWT_AUDIENCE) == 0) return true;
	return false;
}

/* Absent is fine; there, it has to be a number and in the past. */
static bool is_past(const json_t *time, int64_t now_s)
{
	return !time || (json_is_number(time) && json_number_value(time) <= (double)(now_s + JWT_LEEWAY_S));
}

static const char *time_fault(const json_t *payload, int64_t now_s)
{
	const json_t *exp = json_object_get(payload, "exp");

	if (!json_is_number(exp))
		return "it has no end";
	if (json_number_value(exp) <= (double)(now_s - JWT_LEEWAY_S))
		return "it is too old";
	if (json_number_value(exp) > (double)(now_s + JWT_LIFETIME_S_MAX + JWT_LEEWAY_S))
		return "it is good for too long";
	if (!is_past(json_object_get(payload, "iat"), now_s) || !is_past(json_object_get(payload, "nbf"), now_s))
		return "it begins in the future";
	return NULL;
}

/* A gateway's name, fit for a log. */
static bool is_name(const char *text)
{
	size_t n = text ? strlen(text) : 0;

	return n > 0 && n <= JWT_ISSUER_MAX &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

static const char *payload_fault(const json_t *payload, int64_t now_s)
{
	if (!is_name(json_string_value(json_object_get(payload, "iss"))))
		return "it does not name a gateway";
	if (!is_for_us(json_object_get(payload, "aud")))
		return "it is for somebody else";
	return time_fault(payload, now_s);
}

static const char *content_fault(const struct parts *p, int64_t now_s, char ret_issuer[JWT_ISSUER_MAX + 1])
{
	json_t *header = object_of(p->header), *payload = object_of(p->payload);
	const char *why = header && payload ? header_fault(header) : "its parts are no JSON objects";

	if (!why)
		why = payload_fault(payload, now_s);
	if (!why)
		strcpy(ret_issuer, json_string_value(json_object_get(payload, "iss")));
	json_decref(header);
	json_decref(payload);
	return why;
}

int jwt_check(struct bytes token, const uint8_t (*keys)[JWT_KEY_BYTES], uint32_t key_count, int64_t now_s,
	      char ret_issuer[JWT_ISSUER_MAX + 1], const char **ret_why)
{
	struct parts p;

	/* The signature first: nothing of a stranger's token is parsed. */
	if (!token_split(token, &p))
		*ret_why = "it is no token";
	else if (!is_signed_by_one(&p, keys, key_count))
		*ret_why = "no known gateway signed it";
	else
		*ret_why = content_fault(&p, now_s, ret_issuer);
	return *ret_why ? -EACCES : 0;
}
