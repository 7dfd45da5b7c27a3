/*
 * upstream/control/token.h - the gateway's token for the control plane: a JWT (RFC 7519) signed with Ed25519 (RFC 8037).
 *
 * Owner:  the client.
 * Life:   a text is good until the next token_get.
 * Thread: one. The clock is an argument.
 */
#ifndef UPSTREAM_CONTROL_TOKEN_H
#define UPSTREAM_CONTROL_TOKEN_H

#include "core/check.h"
#include "upstream/control/limits.h"

#include <stdint.h>
#include <sys/types.h>

/* Secret, as what it signs lets its bearer in: never to a log. */
struct token {
	char name[CONTROL_NAME_MAX + 1];
	const uint8_t *secret; /* 64 bytes in libsodium's form */
	uint64_t issued, expires;
	char text[CONTROL_TOKEN_MAX]; /* "" before the first */
};

/* secret outlives the token. -EINVAL: a name that is empty, too long or not UTF-8. */
MUST_USE int token_init(struct token *t, const char *name, const uint8_t *secret);
/* A token that is good for more than CONTROL_TOKEN_LEFT_S at now_s, seconds since 1970. NULL without memory. */
MUST_USE const char *token_get(struct token *t, uint64_t now_s);
void token_wipe(struct token *t);

/* The compact form of RFC 7515 of a header and a payload. Returns its length, or -ENOBUFS. */
MUST_USE ssize_t token_sign(const char *header, const char *payload, const uint8_t secret[64], char *ret_text,
			    size_t size);

#endif
