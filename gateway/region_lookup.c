/*
 * gateway/region_lookup.c - joined look-ups: a thousand questions about one key, or about one sandbox by one key, are one.
 *
 * See region_lookup.h. One that nobody waits for any more goes on, for the caches' sake, unless it is one that is held back.
 */
#include "gateway/region_lookup.h"

#include <stdlib.h>

static uint64_t now_ms(const struct region *r)
{
	return ring_now_us(r->ring) / 1000;
}

/* --- the table --- */

static bool ask_is_same(const struct ask *a, const struct ask *b)
{
	if (a->kind != b->kind || a->how != b->how || (a->wait_ms > 0) != (b->wait_ms > 0) ||
	    a->grant_count != b->grant_count || strcmp(a->fingerprint, b->fingerprint) != 0 ||
	    strcmp(a->sandbox, b->sandbox) != 0)
		return false;
	for (uint32_t i = 0; i < a->grant_count; i++)
		if (strcmp(a->grants[i].team, b->grants[i].team) != 0 ||
		    strcmp(a->grants[i].user, b->grants[i].user) != 0)
			return false;
	return true;
}

/* The fingerprint is a hash already, and whoever makes two that meet in a bucket has gained nothing. */
static struct list *bucket_of(struct region *r, const struct ask *a)
{
	uint32_t h = 2166136261u;

	for (const char *p = a->fingerprint; *p; p++)
		h = (h ^ (uint8_t)*p) * 16777619u;
	for (const char *p = a->sandbox; *p; p++)
		h = (h ^ (uint8_t)*p) * 16777619u;
	return &r->lookups[(h ^ h >> 15) % REGION_LOOKUP_BUCKETS];
}

static bool lookup_is_stale(const struct lookup *l)
{
	return l1_is_stale(l->region->l1, &l->deps, l->known.asked);
}

static struct lookup *lookup_find(struct region *r, const struct ask *a)
{
	struct list *bucket = bucket_of(r, a);

	for (struct list *n = bucket->next; n != bucket; n = n->next) {
		struct lookup *l = CONTAINER_OF(n, struct lookup, node);

		/* What was asked before a change is no answer for who asks after it. */
		if (ask_is_same(&l->ask, a) && !lookup_is_stale(l) &&
		    l->until_ms <= now_ms(r) + a->wait_ms + REGION_JOIN_MS)
			return l;
	}
	return NULL;
}

static struct lookup *lookup_new(struct region *r, const struct ask *a)
{
	struct lookup *l = NULL;

	if (r->lookup_count < REGION_LOOKUPS_MAX)
		l = calloc(1, sizeof(*l) + a->grant_count * sizeof(l->grants[0]));
	if (!l) {
		atomic_fetch_add(&r->counters.refused, 1);
		return NULL;
	}
	l->region = r;
	l->ask = *a;
	if (a->grant_count > 0)
		memcpy(l->grants, a->grants, a->grant_count * sizeof(l->grants[0]));
	l->ask.grants = l->grants;
	l->until_ms = a->wait_ms > 0 ? now_ms(r) + a->wait_ms : 0;
	list_init(&l->requests);
	resolve_init(&l->resolve);
	if (a->kind == ASK_KEY)
		depend_on_key(r->l1, &l->deps, a->fingerprint, NULL, 0);
	else
		depend_on_route(r->l1, &l->deps, a->sandbox, l->grants, a->grant_count);
	list_add_tail(bucket_of(r, a), &l->node);
	r->lookup_count++;
	atomic_fetch_add(&r->counters.lookups, 1);
	return l;
}

static void lookup_free(struct lookup *l)
{
	struct region *r = l->region;

	ASSERT(list_is_empty(&l->requests));
	resolve_cancel(&l->resolve);
	if (l->phase == LOOKUP_READING)
		cache_cancel(r->cache, l->read);
	else if (l->phase == LOOKUP_ASKING)
		control_cancel(r->control, l->ask.kind == ASK_KEY ? &l->call.key.call : &l->call.route.call);
	list_del(&l->node);
	r->lookup_count--;
	policy_put(l->team_policy);
	policy_put(l->sandbox_policy);
	free(l->read);
	free(l);
}

void lookup_move(struct lookup *l, enum lookup_phase to)
{
	static const uint8_t allowed[] = {
		[LOOKUP_NEW] = 1 << LOOKUP_READING | 1 << LOOKUP_ASKING,
		[LOOKUP_READING] = 1 << LOOKUP_DECIDING,
		[LOOKUP_ASKING] = 1 << LOOKUP_DECIDING,
		[LOOKUP_DECIDING] = 1 << LOOKUP_ASKING | 1 << LOOKUP_RESOLVING,
		[LOOKUP_RESOLVING] = 1 << LOOKUP_DECIDING,
	};

	ASSERT((allowed[l->phase] & 1 << to) != 0);
	l->phase = to;
}

/* --- answers --- */

void lookup_answer(struct lookup *l, struct answer *a)
{
	while (!list_is_empty(&l->requests)) {
		struct request *q = CONTAINER_OF(l->requests.next, struct request, node);

		list_del(&q->node);
		q->lookup = NULL;
		if (a)
			request_answer(q, a);
		else
			request_fail(q, "");
	}
	answer_put(a);
	lookup_free(l);
}

void lookup_fail(struct lookup *l, const char *reason)
{
	struct answer *a = answer_new(VERDICT_UNAVAILABLE);

	atomic_fetch_add(&l->region->counters.unavailable, 1);
	if (a)
		snprintf(a->reason, sizeof(a->reason), "%s", reason[0] ? reason : TEMPORARILY_UNAVAILABLE);
	lookup_answer(l, a);
}

/* --- the control plane --- */

static void on_key_done(struct control_call *c)
{
	struct lookup *l = c->owner;
	const struct control_key_call *k = &l->call.key;
	struct record_key record;

	lookup_move(l, LOOKUP_DECIDING);
	atomic_fetch_add(&l->region->counters.from_control, 1);
	if (c->result == CONTROL_NOT_FOUND || (c->result == CONTROL_OK && k->grant_count == 0)) {
		lookup_no(l); /* who is in no team may enter nothing */
	} else if (c->result == CONTROL_OK) {
		l->known.version = k->has_version ? k->version : 0;
		memcpy(record.grants, k->grants, k->grant_count * sizeof(k->grants[0]));
		record.grant_count = k->grant_count;
		lookup_found_key(l, &record);
	} else {
		lookup_failed(l, "the control plane did not say", c->reason);
	}
}

static void on_route_ok(struct lookup *l)
{
	const struct control_route_call *c = &l->call.route;
	struct record_route *record = &l->record;
	struct grant grant = c->grant;

	_Static_assert(sizeof(record->procd_url) >= sizeof(c->procd_url) &&
			       sizeof(record->procd_key) >= sizeof(c->procd_key) &&
			       sizeof(record->state) >= sizeof(c->state) && sizeof(record->policy) >= sizeof(c->policy),
		       "what the control plane says fits");
	l->known.version = c->has_version ? c->version : 0;
	memset(record, 0, sizeof(*record));
	strcpy(record->procd_url, c->procd_url);
	strcpy(record->procd_key, c->procd_key);
	strcpy(record->state, c->state);
	strcpy(record->policy, c->policy);
	strcpy(record->team, grant.team);
	lookup_found_route(l, &grant);
}

static void on_route_done(struct control_call *c)
{
	struct lookup *l = c->owner;

	lookup_move(l, LOOKUP_DECIDING);
	atomic_fetch_add(&l->region->counters.from_control, 1);
	switch (c->result) {
	case CONTROL_OK:
		on_route_ok(l);
		break;
	case CONTROL_NOT_FOUND:
	case CONTROL_FORBIDDEN:
		lookup_no(l);
		break;
	case CONTROL_WAKING:
		lookup_waking(l);
		break;
	case CONTROL_UNAVAILABLE:
		lookup_fail(l, c->reason);
		break;
	case CONTROL_TOO_OLD:
	case CONTROL_FAILED:
		lookup_failed(l, "the control plane did not say", c->reason);
		break;
	}
}

void lookup_ask_control(struct lookup *l)
{
	struct region *r = l->region;
	const struct ask *a = &l->ask;

	lookup_move(l, LOOKUP_ASKING);
	l->known = (struct known){.asked = l1_now(r->l1)};
	memset(&l->call, 0, sizeof(l->call));
	if (a->kind == ASK_KEY) {
		l->call.key.call.on_done = on_key_done;
		l->call.key.call.owner = l;
		strcpy(l->call.key.fingerprint, a->fingerprint);
		control_key_find(r->control, &l->call.key);
		return;
	}
	l->call.route.call.on_done = on_route_done;
	l->call.route.call.owner = l;
	strcpy(l->call.route.sandbox, a->sandbox);
	strcpy(l->call.route.fingerprint, a->fingerprint);
	l->call.route.grants = a->grants;
	l->call.route.grant_count = a->grant_count;
	l->call.route.is_no_wake = a->how == ASK_CHECK;
	if (l->until_ms > now_ms(r))
		l->call.route.wait_s = (uint32_t)((l->until_ms - now_ms(r) + 999) / 1000);
	control_route_find(r->control, &l->call.route);
}

/* --- Redis --- */

static void on_read(struct cache_read *q)
{
	struct lookup *l = q->owner;
	struct region *r = l->region;
	struct record_key key;
	struct grant grant;
	bool is_there = false;

	lookup_move(l, LOOKUP_DECIDING);
	l->read = NULL;
	if (q->result == CACHE_DONE && l->ask.kind == ASK_KEY)
		is_there = redis_key(r, &l->ask, q, &key, &l->known);
	else if (q->result == CACHE_DONE)
		is_there = redis_route(r, &l->ask, q, &l->record, &grant, &l->known);
	free(q);
	if (!is_there) {
		lookup_ask_control(l);
		return;
	}
	atomic_fetch_add(&r->counters.from_redis, 1);
	if (l->ask.kind == ASK_KEY)
		lookup_found_key(l, &key);
	else
		lookup_found_route(l, &grant);
}

static bool lookup_read(struct lookup *l)
{
	struct region *r = l->region;
	const struct ask *a = &l->ask;
	struct cache_read *q = calloc(1, sizeof(*q));

	if (!q)
		return false;
	q->on_done = on_read;
	q->owner = l;
	q->count = 1;
	if (a->kind == ASK_KEY) {
		record_key_name(a->fingerprint, q->names[0]);
	} else {
		record_route_name(a->sandbox, q->names[0]);
		for (uint32_t i = 0; i < a->grant_count; i++)
			record_grant_name(a->sandbox, &a->grants[i], q->names[q->count++]);
	}
	lookup_move(l, LOOKUP_READING);
	l->read = q;
	l->known = (struct known){.asked = l1_now(r->l1)};
	cache_get(r->cache, q);
	return true;
}

/* --- requests --- */

void lookup_ask(struct region *r, struct request *q)
{
	struct answer known;
	struct lookup *l;

	/* It may have been answered while the mail was on its way. */
	if (region_recall(r, &q->ask, now_ms(r), &known)) {
		struct answer *a = answer_new(known.verdict);

		if (a) {
			a->route = known.route;
			a->team_policy = known.team_policy;
			a->sandbox_policy = known.sandbox_policy;
			a->grant_count = known.grant_count;
			memcpy(a->grants, known.grants, known.grant_count * sizeof(known.grants[0]));
			request_answer(q, a);
			answer_put(a);
			return;
		}
		policy_put(known.team_policy);
		policy_put(known.sandbox_policy);
	}
	l = lookup_find(r, &q->ask);
	if (l) {
		atomic_fetch_add(&r->counters.joined, 1);
	} else {
		l = lookup_new(r, &q->ask);
		if (!l) {
			request_fail(q, "");
			return;
		}
		if (!r->cache || q->ask.how != ASK_ANYBODY || !lookup_read(l))
			lookup_ask_control(l);
	}
	q->lookup = l;
	list_add_tail(&l->requests, &q->node);
}

void lookup_leave(struct lookup *l)
{
	if (list_is_empty(&l->requests) && l->until_ms > 0)
		lookup_free(l);
}

void lookups_end(struct region *r)
{
	for (uint32_t i = 0; i < REGION_LOOKUP_BUCKETS; i++) {
		while (!list_is_empty(&r->lookups[i])) {
			struct lookup *l = CONTAINER_OF(r->lookups[i].next, struct lookup, node);

			/* They stay in region.requests, unanswered. */
			while (!list_is_empty(&l->requests)) {
				struct request *q = CONTAINER_OF(l->requests.next, struct request, node);

				list_del(&q->node);
				q->lookup = NULL;
				timer_stop(r->ring, &q->deadline);
			}
			lookup_free(l);
		}
	}
}
