#include "upstream/control/token.h"

#include <errno.h>
#include <jansson.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define HEADER "{\"alg\":\"EdDSA\",\"typ\":\"JWT\"}"
#define AUDIENCE "ringgate-control"
#define ID_BYTES 16

#define VARIANT sodium_base64_VARIANT_URLSAFE_NO_PADDING

int token_init(struct token *t, const char *name, const uint8_t *secret)
{
	size_t n = strlen(name);
	json_t *text;

	if (n == 0 || n > CONTROL_NAME_MAX)
		return -EINVAL;
	text = json_string(name);
	if (!text)
		return -EINVAL;
	json_decref(text);
	*t = (struct token){.secret = secret};
	memcpy(t->name, name, n + 1);
	return 0;
}

/* Appends base64 of p to text, of which *n characters are there. */
static int append(char *text, size_t size, size_t *n, const void *p, size_t bytes)
{
	size_t need = sodium_base64_encoded_len(bytes, VARIANT);

	/* need counts a NUL; one more may follow as a dot. */
	if (size - *n < need + 1)
		return -ENOBUFS;
	(void)sodium_bin2base64(text + *n, size - *n, p, bytes, VARIANT);
	*n += need - 1;
	return 0;
}

ssize_t token_sign(const char *header, const char *payload, const uint8_t secret[64], char *ret_text, size_t size)
{
	uint8_t signature[crypto_sign_BYTES];
	size_t n = 0;

	if (append(ret_text, size, &n, header, strlen(header)) != 0)
		return -ENOBUFS;
	ret_text[n++] = '.';
	if (append(ret_text, size, &n, payload, strlen(payload)) != 0)
		return -ENOBUFS;
	(void)crypto_sign_detached(signature, NULL, (const uint8_t *)ret_text, n, secret);
	ret_text[n++] = '.';
	if (append(ret_text, size, &n, signature, sizeof(signature)) != 0)
		return -ENOBUFS;
	return (ssize_t)n;
}

/* NULL without memory; freed by the caller. */
static char *payload_make(const struct token *t)
{
	uint8_t id[ID_BYTES];
	char id_text[2 * ID_BYTES + 1];
	json_t *claims;
	char *text;

	randombytes_buf(id, sizeof(id));
	(void)sodium_bin2hex(id_text, sizeof(id_text), id, sizeof(id));
	claims = json_pack("{ss ss sI sI sI ss}", "iss", t->name, "aud", AUDIENCE, "iat", (json_int_t)t->issued, "nbf",
			   (json_int_t)(t->issued - CONTROL_TOKEN_SKEW_S), "exp", (json_int_t)t->expires, "jti",
			   id_text);
	if (!claims)
		return NULL;
	text = json_dumps(claims, JSON_COMPACT);
	json_decref(claims);
	return text;
}

const char *token_get(struct token *t, uint64_t now_s)
{
	char *payload;
	ssize_t n;

	/* A clock that was put back makes a token of the future. */
	if (t->text[0] && now_s >= t->issued && now_s + CONTROL_TOKEN_LEFT_S <= t->expires)
		return t->text;
	t->text[0] = 0;
	t->issued = now_s;
	t->expires = now_s + CONTROL_TOKEN_S;
	payload = payload_make(t);
	if (!payload)
		return NULL;
	n = token_sign(HEADER, payload, t->secret, t->text, sizeof(t->text));
	free(payload);
	/* The name's length is checked: it fits. */
	ASSERT(n > 0);
	return t->text;
}

void token_wipe(struct token *t)
{
	sodium_memzero(t, sizeof(*t));
}
