/*
 * control/jwt.h - a gateway's token (X-Internal-Token): a JWT signed with Ed25519 (RFC 7519, RFC 8037).
 *
 * Pure, but for the clock that the caller gives. Thread: any.
 */
#ifndef CONTROL_JWT_H
#define CONTROL_JWT_H

#include "core/bytes.h"
#include "core/check.h"

#include <stdint.h>

#define JWT_AUDIENCE "ringgate-control"
#define JWT_ISSUER_MAX 63
#define JWT_KEY_BYTES 32

/* "ed25519:BASE64", as in a gateway's key file with .pub. */
MUST_USE bool jwt_key_parse(const char *text, uint8_t ret_key[JWT_KEY_BYTES]);

/*
 * Who says so: the gateway's name. -EACCES with the reason (for the log) in ret_why: not signed by one of the keys, another
 * algorithm, not for us, too old, good for too long.
 */
MUST_USE int jwt_check(struct bytes token, const uint8_t (*keys)[JWT_KEY_BYTES], uint32_t key_count, int64_t now_s,
		       char ret_issuer[JWT_ISSUER_MAX + 1], const char **ret_why);

#endif
