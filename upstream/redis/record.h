/*
 * upstream/redis/record.h - what gateways keep in Redis: its names, and values that only gateways can write.
 *
 *   value = version, 20 decimal digits || msgpack [expires, payload] || HMAC-SHA256
 *   HMAC over "ringgate-record-1\0" || name || "\0" || all of the value before it, with the secret that the gateways share
 *
 *   payload of rg:key:   [[team, user], ...]
 *              rg:route: [procd_url, procd_key, team, state, policy]
 *              rg:grant: true
 *
 * The version stands first and in digits so that the fill script compares it as text. Whoever can write to Redis cannot write grants:
 * a value that does not verify, is of another name, or has expired counts as absent. Old values of the same name verify until
 * they expire; that is why they live short.
 *
 * Pure; HMAC-SHA256 by libsodium, msgpack by msgpack-c. Thread: any. Source: docs/redis.md.
 */
#ifndef UPSTREAM_REDIS_RECORD_H
#define UPSTREAM_REDIS_RECORD_H

#include "core/check.h"
#include "core/ids.h"

#include <sys/types.h>

#define RECORD_SECRET_BYTES 32
#define RECORD_VERSION_DIGITS 20
/* "rg:grant:" and three IDs. */
#define RECORD_NAME_MAX 224
/* A route's: its texts, with what msgpack, version and HMAC add. GRANTS_MAX grants of two IDs are less. */
#define RECORD_VALUE_MAX (POLICY_TEXT_MAX + 1024)
#define RECORD_URL_MAX 256
#define RECORD_KEY_TEXT_MAX 64
#define RECORD_STATE_MAX 16

/* All names start with this: what client tracking listens to. */
#define RECORD_PREFIX "rg:"
/* And revisions with this. */
#define RECORD_REV_PREFIX "rg:rev:"

struct record_key {
	struct grant grants[GRANTS_MAX];
	uint32_t grant_count;
};

struct record_route {
	char procd_url[RECORD_URL_MAX];
	char procd_key[RECORD_KEY_TEXT_MAX]; /* or "" */
	char team[TEAM_ID_MAX + 1];
	char state[RECORD_STATE_MAX]; /* or "" */
	char policy[POLICY_TEXT_MAX]; /* JSON of the team's and the sandbox's, printable ASCII, or "" */
};

/* What a record says besides its payload. */
struct record_head {
	uint64_t version;    /* 0: the answer had none */
	uint64_t expires_ms; /* since 1970 */
};

/* Names: rg:key:FINGERPRINT, rg:route:SANDBOX, rg:grant:SANDBOX:TEAM:USER, and rg:rev: of a key, member or sandbox. */
void record_key_name(const char *fingerprint, char ret_name[RECORD_NAME_MAX]);
void record_route_name(const char *sandbox, char ret_name[RECORD_NAME_MAX]);
void record_grant_name(const char *sandbox, const struct grant *g, char ret_name[RECORD_NAME_MAX]);
/* rg:rev:key:FINGERPRINT, rg:rev:member:TEAM:USER, rg:rev:sandbox:ID */
void record_rev_key_name(const char *fingerprint, char ret_name[RECORD_NAME_MAX]);
void record_rev_member_name(const struct grant *g, char ret_name[RECORD_NAME_MAX]);
void record_rev_sandbox_name(const char *sandbox, char ret_name[RECORD_NAME_MAX]);

enum record_kind {
	RECORD_KEY,
	RECORD_ROUTE,
	RECORD_GRANT,
	RECORD_REV_KEY,
	RECORD_REV_MEMBER,
	RECORD_REV_SANDBOX,
};

/* A name taken apart; what its kind does not have is empty. */
struct record_name {
	enum record_kind kind;
	char fingerprint[FINGERPRINT_CHARS + 1];
	char sandbox[SANDBOX_ID_MAX + 1];
	struct grant member;
};

/* False when it is none of the names above, or an ID in it is not good. */
MUST_USE bool record_name_parse(struct bytes name, struct record_name *ret);

/* The version that a sealed value says it has (unverified), or the number that stands under a revision. False: neither. */
MUST_USE bool record_version_parse(struct bytes text, uint64_t *ret_version);

/* Length; -EINVAL for a text without end, an ID that is not good or too many grants. */
MUST_USE ssize_t record_key_seal(const uint8_t secret[RECORD_SECRET_BYTES], const char *name,
				 const struct record_head *h, const struct record_key *k,
				 uint8_t ret_value[RECORD_VALUE_MAX]);
MUST_USE ssize_t record_route_seal(const uint8_t secret[RECORD_SECRET_BYTES], const char *name,
				   const struct record_head *h, const struct record_route *r,
				   uint8_t ret_value[RECORD_VALUE_MAX]);
MUST_USE ssize_t record_grant_seal(const uint8_t secret[RECORD_SECRET_BYTES], const char *name,
				   const struct record_head *h, uint8_t ret_value[RECORD_VALUE_MAX]);

/*
 * 0; -ENOENT: expired at now_ms; -EBADMSG: does not verify or is none of these. Every ID and text was checked. ret_head and
 * ret are untouched where it is not 0.
 */
MUST_USE int record_key_open(const uint8_t secret[RECORD_SECRET_BYTES], const char *name, struct bytes value,
			     uint64_t now_ms, struct record_head *ret_head, struct record_key *ret);
MUST_USE int record_route_open(const uint8_t secret[RECORD_SECRET_BYTES], const char *name, struct bytes value,
			       uint64_t now_ms, struct record_head *ret_head, struct record_route *ret);
MUST_USE int record_grant_open(const uint8_t secret[RECORD_SECRET_BYTES], const char *name, struct bytes value,
			       uint64_t now_ms, struct record_head *ret_head);

#endif
