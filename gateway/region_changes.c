/*
 * gateway/region_changes.c - what Redis says was changed, and who is told.
 *
 * An invalidation means "ask again", nothing more. Of a revision (rg:rev:…) the sessions are told; of any other name only L1 forgets.
 */
#include "core/log.h"
#include "gateway/region_internal.h"

#include <sodium.h>

/* False for whatever is no revision, or what somebody else wrote there. */
static bool subject_of(struct bytes name, struct subject *ret)
{
	struct record_name n;

	if (!record_name_parse(name, &n))
		return false;
	memset(ret, 0, sizeof(*ret));
	switch (n.kind) {
	case RECORD_REV_KEY:
		ret->kind = SUBJECT_KEY;
		memcpy(ret->fingerprint, n.fingerprint, sizeof(ret->fingerprint));
		return true;
	case RECORD_REV_MEMBER:
		ret->kind = SUBJECT_MEMBER;
		memcpy(ret->team, n.member.team, sizeof(ret->team));
		memcpy(ret->user, n.member.user, sizeof(ret->user));
		return true;
	case RECORD_REV_SANDBOX:
		ret->kind = SUBJECT_SANDBOX;
		memcpy(ret->sandbox, n.sandbox, sizeof(ret->sandbox));
		return true;
	default:
		return false;
	}
}

static void drop_subject(struct region *r, const struct subject *s)
{
	struct grant member;
	char name[RECORD_NAME_MAX];

	switch (s->kind) {
	case SUBJECT_KEY:
		record_rev_key_name(s->fingerprint, name);
		break;
	case SUBJECT_MEMBER:
		memset(&member, 0, sizeof(member));
		strcpy(member.team, s->team);
		strcpy(member.user, s->user);
		record_rev_member_name(&member, name);
		break;
	case SUBJECT_SANDBOX:
		record_rev_sandbox_name(s->sandbox, name);
		break;
	case SUBJECT_ALL:
		l1_drop_all(r->l1);
		return;
	}
	l1_drop(r->l1, name);
}

void region_changed(struct region *r, const struct subject *s)
{
	drop_subject(r, s);
	atomic_fetch_add(&r->counters.changes, 1);
	directory_changed(&r->base, s);
}

/* --- what the cache reports --- */

static void redis_move(struct region *r, bool is_up, const char *why)
{
	struct cache_stats stats;

	/* Only what others vouch for stays: from here on nobody would tell, and what was told before is not complete. */
	l1_drop_redis(r->l1);
	if (r->is_redis_up == is_up)
		return;
	r->is_redis_up = is_up;
	r->redis_since_us = ring_now_us(r->ring);
	cache_stats(r->cache, &stats);
	if (is_up)
		log_event(LOG_INFO, "redis", LOG_STR("state", "up"), LOG_STR("server", stats.server));
	else
		log_event(LOG_WARN, "redis", LOG_STR("state", "down"), LOG_STR("why", why));
}

static void on_up(void *owner)
{
	struct region *r = owner;

	redis_move(r, true, "");
	cache_revisions(r->cache);
}

static void on_down(void *owner, const char *why)
{
	redis_move(owner, false, why);
}

static uint64_t name_hash(struct bytes name)
{
	uint8_t full[crypto_hash_sha256_BYTES];
	uint64_t hash;

	crypto_hash_sha256(full, name.p, name.n);
	memcpy(&hash, full, sizeof(hash));
	return hash;
}

void fill_mark(struct region *r, const char *name)
{
	uint64_t hash = name_hash(bytes_str(name));

	r->fill_marks[hash % REGION_FILL_MARKS] =
		(struct fill_mark){.hash = hash, .until_ms = ring_now_us(r->ring) / 1000 + REGION_FILL_MS};
}

static bool is_own_fill(struct region *r, struct bytes name)
{
	uint64_t hash = name_hash(name);
	struct fill_mark *m = &r->fill_marks[hash % REGION_FILL_MARKS];
	bool is_own = m->hash == hash && ring_now_us(r->ring) / 1000 < m->until_ms;

	if (is_own)
		*m = (struct fill_mark){.hash = 0};
	return is_own;
}

/* An empty name: FLUSHALL, or revisions that could not be read. Nobody knows what was changed. */
static void on_invalidated(void *owner, struct bytes name)
{
	struct region *r = owner;
	struct subject s = {.kind = SUBJECT_ALL};
	char text[RECORD_NAME_MAX];

	if (name.n == 0 || subject_of(name, &s))
		region_changed(r, &s);
	else if (bytes_copy_str(name, text, sizeof(text)) && !is_own_fill(r, name))
		l1_drop(r->l1, text);
}

/* True when this version is not one that was seen before. */
static bool revision_is_new(struct region *r, struct bytes name, uint64_t version)
{
	uint64_t hash = name_hash(name);
	struct revision *slot = &r->revisions[hash % REGION_REVISIONS];

	if (slot->hash == hash && slot->version == version)
		return false;
	*slot = (struct revision){.hash = hash, .version = version};
	return true;
}

/* Read anew after a connection was made: what was changed while there was none stands here. */
static void on_revision(void *owner, struct bytes name, uint64_t version)
{
	struct region *r = owner;
	struct subject s;

	if (subject_of(name, &s) && revision_is_new(r, name, version))
		region_changed(r, &s);
}

const struct cache_events region_cache_events = {
	.on_up = on_up,
	.on_down = on_down,
	.on_invalidated = on_invalidated,
	.on_revision = on_revision,
};
