/*
 * upstream/redis/target.h - what a cache's URL says.
 *
 *   redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]       rediss://…      one server
 *   unix:/PATH[?db=DB]    unix://[USER[:PASSWORD]@]/PATH[?db=DB]      one server, by its socket
 *   sentinel://[USER[:PASSWORD]@]HOST[:PORT],…/NAME[/DB]   sentinels://…   the master that Sentinels name
 *   cluster://[USER[:PASSWORD]@]HOST[:PORT],…        clusters://…    a Cluster, by some of its servers
 *
 * USER and PASSWORD may have %XX. A password without a user is the user default's. HOST may be a name, an IPv4 address, or an
 * IPv6 address in brackets.
 *
 * Pure. Thread: any.
 */
#ifndef UPSTREAM_REDIS_TARGET_H
#define UPSTREAM_REDIS_TARGET_H

#include "core/bytes.h"
#include "core/check.h"
#include "upstream/redis/limits.h"

#define TARGET_PORT 6379
#define TARGET_SENTINEL_PORT 26379

struct endpoint {
	char host[TARGET_HOST_MAX + 1]; /* without brackets; a path where the port is 0 */
	uint16_t port;
};

/* "HOST:PORT", "[V6]:PORT" or "unix:PATH". Enough for every one. */
#define ENDPOINT_TEXT_MAX (TARGET_HOST_MAX + 16)
const char *endpoint_text(const struct endpoint *e, char ret_text[ENDPOINT_TEXT_MAX]);
bool endpoint_is_same(const struct endpoint *a, const struct endpoint *b);
/* From a server's words. False: no host, or no port of TCP. */
MUST_USE bool endpoint_set(struct endpoint *e, struct bytes host, uint64_t port);

enum target_kind { TARGET_SERVER, TARGET_SENTINELS, TARGET_CLUSTER };

/* Secret: wipe with target_wipe. */
struct target {
	enum target_kind kind;
	bool is_tls;
	char user[TARGET_NAME_MAX + 1];       /* or "" */
	char password[TARGET_SECRET_MAX + 1]; /* or "" */
	uint32_t db;
	char master[TARGET_NAME_MAX + 1]; /* of Sentinels */
	struct endpoint endpoints[TARGET_ENDPOINTS_MAX];
	uint32_t endpoint_count;
};

/* 0, or -EINVAL with a sentence that does not show the URL. */
MUST_USE int target_parse(const char *url, struct target *ret_target, char ret_error[256]);
/* Takes the password from the first line of a file that only its owner may read. 0, or negative errno with a sentence. */
MUST_USE int target_load_password(struct target *t, const char *path, char ret_error[256]);
void target_wipe(struct target *t);

#endif
