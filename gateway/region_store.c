/*
 * gateway/region_store.c - answers on their way into L1 and Redis, and values of Redis on their way out.
 *
 * L1 and Redis hold the same three things under the same names: a key's grants, a route, and that a grant lets its user in.
 */
#include "core/log.h"
#include "gateway/region_internal.h"

#include <errno.h>
#include <sodium.h>
#include <time.h>

static uint64_t wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t now_ms(const struct region *r)
{
	return ring_now_us(r->ring) / 1000;
}

/* --- what an answer hangs on --- */

static void depend_on_members(const struct l1 *l, struct l1_deps *d, const struct grant *g, uint32_t count)
{
	char name[RECORD_NAME_MAX];

	for (uint32_t i = 0; i < count; i++) {
		record_rev_member_name(&g[i], name);
		l1_depend(l, d, name);
	}
}

void depend_on_key(const struct l1 *l, struct l1_deps *d, const char *fingerprint, const struct grant *g,
		   uint32_t count)
{
	char name[RECORD_NAME_MAX];

	record_rev_key_name(fingerprint, name);
	l1_depend(l, d, name);
	depend_on_members(l, d, g, count);
}

void depend_on_route(const struct l1 *l, struct l1_deps *d, const char *sandbox, const struct grant *g, uint32_t count)
{
	char name[RECORD_NAME_MAX];

	record_rev_sandbox_name(sandbox, name);
	l1_depend(l, d, name);
	depend_on_members(l, d, g, count);
}

/* --- how long --- */

/* The whole time of an answer: short where nothing would tell a change of it. */
static uint64_t ttl_ms(const struct region *r, uint32_t setting_s, const struct known *n)
{
	uint64_t ttl = (uint64_t)setting_s * 1000, most = (uint64_t)r->config->cache.unversioned_ttl_s * 1000;

	return (n->version == 0 || !region_is_told(r)) && ttl > most ? most : ttl;
}

/* Up to a tenth less, so that what was learned together is not forgotten together. */
static uint64_t expiry_ms(const struct region *r, uint64_t ttl, const struct known *n)
{
	if (n->is_redis && n->left_ms < ttl)
		ttl = n->left_ms;
	return now_ms(r) + ttl - randombytes_uniform((uint32_t)(ttl / 10) + 1);
}

static void remember(struct region *r, enum l1_kind kind, const char *name, struct bytes value, struct l1_deps *d,
		     uint64_t ttl, const struct known *n)
{
	struct l1_fill f = {.kind = kind,
			    .name = name,
			    .value = value,
			    .deps = d,
			    .asked = n->asked,
			    .expires_ms = expiry_ms(r, ttl, n),
			    .version = n->version};

	/* Who but Redis would tell that it has changed? */
	f.is_redis = n->is_redis || (r->is_redis_up && r->feed.state != FEED_LIVE);
	(void)l1_put(r->l1, &f, now_ms(r));
}

/* --- keys --- */

static void redis_fill(struct region *r, const char *name, const struct known *n, const uint8_t *value, ssize_t bytes,
		       uint64_t ttl, const char (*revisions)[RECORD_NAME_MAX], uint32_t count)
{
	if (bytes <= 0 || !r->is_redis_up)
		return;
	fill_mark(r, name);
	cache_fill(r->cache, name, n->version, bytes_of(value, (size_t)bytes), (uint32_t)ttl, revisions, count);
}

static void redis_fill_key(struct region *r, const char *name, const char *fingerprint, const struct record_key *k,
			   const struct known *n, uint64_t ttl)
{
	struct record_head head = {.version = n->version, .expires_ms = wall_ms() + ttl};
	char revisions[1 + GRANTS_MAX][RECORD_NAME_MAX];
	uint8_t value[RECORD_VALUE_MAX];
	ssize_t bytes = record_key_seal(r->record_secret, name, &head, k, value);

	record_rev_key_name(fingerprint, revisions[0]);
	for (uint32_t i = 0; i < k->grant_count; i++)
		record_rev_member_name(&k->grants[i], revisions[1 + i]);
	redis_fill(r, name, n, value, bytes, ttl, (const char(*)[RECORD_NAME_MAX])revisions, 1 + k->grant_count);
}

void store_key(struct region *r, const char *fingerprint, const struct record_key *k, const struct known *n)
{
	uint64_t ttl = ttl_ms(r, r->config->cache.key_ttl_s, n);
	struct l1_deps deps = {.count = 0};
	char name[RECORD_NAME_MAX];

	record_key_name(fingerprint, name);
	l1_depend(r->l1, &deps, name);
	depend_on_key(r->l1, &deps, fingerprint, k->grants, k->grant_count);
	remember(r, L1_KEY, name, bytes_of(k->grants, k->grant_count * sizeof(k->grants[0])), &deps, ttl, n);
	if (r->is_redis_up && !n->is_redis)
		redis_fill_key(r, name, fingerprint, k, n, ttl);
}

/* --- routes --- */

static void redis_fill_route(struct region *r, const char *route_name, const char *grant_name,
			     const struct route *route, const struct record_route *record, const struct known *n,
			     uint64_t ttl)
{
	struct record_head head = {.version = n->version, .expires_ms = wall_ms() + ttl};
	char revisions[2][RECORD_NAME_MAX];
	uint8_t value[RECORD_VALUE_MAX];
	ssize_t bytes;

	record_rev_sandbox_name(route->sandbox, revisions[0]);
	record_rev_member_name(&route->grant, revisions[1]);
	bytes = record_route_seal(r->record_secret, route_name, &head, record, value);
	redis_fill(r, route_name, n, value, bytes, ttl, (const char(*)[RECORD_NAME_MAX])revisions, 1);
	bytes = record_grant_seal(r->record_secret, grant_name, &head, value);
	redis_fill(r, grant_name, n, value, bytes, ttl, (const char(*)[RECORD_NAME_MAX])revisions, 2);
}

void store_route(struct region *r, const struct route *route, const struct record_route *record, const struct known *n)
{
	uint64_t ttl = ttl_ms(r, r->config->cache.route_ttl_s, n);
	struct l1_deps deps = {.count = 0}, grant_deps = {.count = 0};
	char name[RECORD_NAME_MAX], grant_name[RECORD_NAME_MAX];
	size_t policy_bytes = strlen(record->policy) + 1;
	struct kept_route kept;

	_Static_assert(sizeof(kept) <= L1_VALUE_MAX, "L1 takes it");

	record_route_name(route->sandbox, name);
	l1_depend(r->l1, &deps, name);
	depend_on_route(r->l1, &deps, route->sandbox, NULL, 0);
	kept.route = *route;
	memcpy(kept.policy, record->policy, policy_bytes);
	remember(r, L1_ROUTE, name, bytes_of(&kept, offsetof(struct kept_route, policy) + policy_bytes), &deps, ttl, n);
	record_grant_name(route->sandbox, &route->grant, grant_name);
	l1_depend(r->l1, &grant_deps, grant_name);
	depend_on_route(r->l1, &grant_deps, route->sandbox, &route->grant, 1);
	remember(r, L1_GRANT, grant_name, bytes_of("", 0), &grant_deps, ttl, n);
	if (r->is_redis_up && !n->is_redis)
		redis_fill_route(r, name, grant_name, route, record, n, ttl);
}

/* --- no --- */

void no_name(const struct ask *a, char ret_name[L1_NAME_MAX])
{
	uint8_t hash[crypto_hash_sha256_BYTES];
	crypto_hash_sha256_state st;
	char hex[2 * sizeof(hash) + 1];

	if (a->kind == ASK_KEY) {
		record_key_name(a->fingerprint, ret_name);
		return;
	}
	crypto_hash_sha256_init(&st);
	for (uint32_t i = 0; i < a->grant_count; i++) {
		crypto_hash_sha256_update(&st, (const uint8_t *)a->grants[i].team, strlen(a->grants[i].team) + 1);
		crypto_hash_sha256_update(&st, (const uint8_t *)a->grants[i].user, strlen(a->grants[i].user) + 1);
	}
	crypto_hash_sha256_final(&st, hash);
	sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash));
	snprintf(ret_name, L1_NAME_MAX, "no:%s:%s", a->sandbox, hex);
}

/* Whatever is still remembered of a yes was wrong, or is. */
static void forget_yes(struct region *r, const struct ask *a)
{
	char name[RECORD_NAME_MAX];

	if (a->kind == ASK_KEY) {
		record_key_name(a->fingerprint, name);
		l1_drop(r->l1, name);
	}
	for (uint32_t i = 0; a->kind == ASK_ROUTE && i < a->grant_count; i++) {
		record_grant_name(a->sandbox, &a->grants[i], name);
		l1_drop(r->l1, name);
	}
}

void store_no(struct region *r, const struct ask *a, uint64_t asked)
{
	struct known n = {.asked = asked};
	struct l1_deps deps = {.count = 0};
	char name[L1_NAME_MAX];

	if (a->kind == ASK_KEY)
		depend_on_key(r->l1, &deps, a->fingerprint, NULL, 0);
	else
		depend_on_route(r->l1, &deps, a->sandbox, a->grants, a->grant_count);
	no_name(a, name);
	remember(r, L1_NO, name, bytes_of("", 0), &deps, (uint64_t)r->config->cache.unknown_ttl_s * 1000, &n);
	forget_yes(r, a);
}

/* --- values in Redis --- */

#define NOT_VERIFIED_LOG_US (60 * 1000000ull)

static void log_not_verified(struct region *r, const char *name)
{
	uint64_t now = ring_now_us(r->ring);

	atomic_fetch_add(&r->counters.not_verified, 1);
	r->not_verified_unlogged++;
	if (r->not_verified_logged_us > 0 && now - r->not_verified_logged_us < NOT_VERIFIED_LOG_US)
		return;
	log_event(LOG_WARN, "redis", LOG_STR("result", "values that do not verify are not believed"),
		  LOG_U64("count", r->not_verified_unlogged), LOG_STR("name", name));
	r->not_verified_logged_us = now;
	r->not_verified_unlogged = 0;
}

static bool is_opened(struct region *r, const char *name, int rc, const struct record_head *h, struct known *n)
{
	uint64_t now = wall_ms();

	if (rc == -EBADMSG)
		log_not_verified(r, name);
	if (rc < 0 || h->expires_ms <= now)
		return false;
	n->is_redis = true;
	if (n->left_ms == 0 || h->expires_ms - now < n->left_ms)
		n->left_ms = h->expires_ms - now;
	if (n->version == 0 || h->version < n->version)
		n->version = h->version;
	return true;
}

bool redis_key(struct region *r, const struct ask *a, const struct cache_read *q, struct record_key *ret,
	       struct known *n)
{
	struct record_head h;
	char name[RECORD_NAME_MAX];

	if (!q->values[0].p)
		return false;
	record_key_name(a->fingerprint, name);
	return is_opened(r, name, record_key_open(r->record_secret, name, q->values[0], wall_ms(), &h, ret), &h, n) &&
	       ret->grant_count > 0;
}

bool redis_route(struct region *r, const struct ask *a, const struct cache_read *q, struct record_route *ret,
		 struct grant *ret_grant, struct known *n)
{
	const uint8_t *secret = r->record_secret;
	struct record_head h;
	char name[RECORD_NAME_MAX];

	if (!q->values[0].p)
		return false;
	record_route_name(a->sandbox, name);
	if (!is_opened(r, name, record_route_open(secret, name, q->values[0], wall_ms(), &h, ret), &h, n) ||
	    (ret->state[0] && strcmp(ret->state, "running") != 0))
		return false;
	for (uint32_t i = 0; i < a->grant_count; i++) {
		if (!q->values[1 + i].p)
			continue;
		record_grant_name(a->sandbox, &a->grants[i], name);
		if (!is_opened(r, name, record_grant_open(secret, name, q->values[1 + i], wall_ms(), &h), &h, n))
			continue;
		*ret_grant = a->grants[i];
		return true;
	}
	return false;
}
