/*
 * gateway/region_decide.c - what Redis or the control plane has said of a look-up becomes its answer, or it is asked again.
 */
#include "core/log.h"
#include "gateway/region_lookup.h"

#define FAILURE_LOG_US 1000000ull

/* Failures are many at once and of one reason. */
static void log_failure(struct lookup *l, const char *why, const char *text)
{
	struct region *r = l->region;
	uint64_t now = ring_now_us(r->ring);

	r->failures_unlogged++;
	if (r->failure_logged_us > 0 && now - r->failure_logged_us < FAILURE_LOG_US)
		return;
	log_event(LOG_WARN, "lookup", LOG_STR("result", "failed"), LOG_U64("count", r->failures_unlogged),
		  LOG_STR(l->ask.kind == ASK_KEY ? "key" : "sandbox",
			  l->ask.kind == ASK_KEY ? l->ask.fingerprint : l->ask.sandbox),
		  LOG_STR("why", why), LOG_STR("text", text));
	r->failure_logged_us = now;
	r->failures_unlogged = 0;
}

void lookup_failed(struct lookup *l, const char *why, const char *text)
{
	log_failure(l, why, text);
	lookup_fail(l, "");
}

/*
 * True when a change has overtaken the answer: then l asks again. One that is overtaken again and again is given all the same, and
 * not remembered: whom it lets in is checked once more when the worker takes him over (checks.h). So is everybody after
 * "everything may have changed", which may come often (somebody flushes Redis) and here makes nobody wait.
 */
static bool is_overtaken(struct lookup *l)
{
	if (!l1_was_dropped(l->region->l1, &l->deps, l->known.asked))
		return false;
	if (!l->known.is_redis) {
		if (++l->tries == REGION_LOOKUP_TRIES)
			return false;
		atomic_fetch_add(&l->region->counters.again, 1);
	}
	lookup_ask_control(l);
	return true;
}

void lookup_no(struct lookup *l)
{
	if (is_overtaken(l))
		return;
	store_no(l->region, &l->ask, l->known.asked);
	lookup_answer(l, answer_new(VERDICT_NO));
}

void lookup_found_key(struct lookup *l, const struct record_key *k)
{
	struct answer *a;

	l->deps.count = 0;
	depend_on_key(l->region->l1, &l->deps, l->ask.fingerprint, k->grants, k->grant_count);
	if (is_overtaken(l))
		return;
	store_key(l->region, l->ask.fingerprint, k, &l->known);
	a = answer_new(VERDICT_YES);
	if (a) {
		memcpy(a->grants, k->grants, k->grant_count * sizeof(k->grants[0]));
		a->grant_count = k->grant_count;
	}
	lookup_answer(l, a);
}

static bool may_connect(const struct region *r, const struct sockaddr *addr)
{
	const struct config *c = r->config;

	for (uint32_t i = 0; i < c->procd.allow_count; i++)
		if (cidr_holds(c->procd.allow[i], addr))
			return true;
	return c->procd.allow_count == 0;
}

static void bad_record(struct lookup *l, const char *what, const char *text, const char *reason)
{
	log_failure(l, what, text);
	if (l->known.is_redis)
		lookup_ask_control(l);
	else
		lookup_fail(l, reason);
}

static void bad_route(struct lookup *l, const char *what, const char *text)
{
	bad_record(l, what, text, "the sandbox's address cannot be used");
}

/* What cannot be understood may forbid anything. */
static bool take_policies(struct lookup *l)
{
	struct policy *team = NULL, *sandbox = NULL;
	char error[128];

	if (policies_read(l->record.policy, &team, &sandbox, error, sizeof(error)) < 0) {
		bad_record(l, "the policy cannot be understood", error, "the sandbox's policy cannot be used");
		return false;
	}
	policy_put(l->team_policy);
	policy_put(l->sandbox_policy);
	l->team_policy = team;
	l->sandbox_policy = sandbox;
	return true;
}

static void give_route(const struct lookup *l, struct answer *a)
{
	a->route = l->route;
	a->team_policy = policy_get(l->team_policy);
	a->sandbox_policy = policy_get(l->sandbox_policy);
}

static void lookup_yes(struct lookup *l)
{
	const char *state = l->record.state;
	struct answer *a;

	if (is_overtaken(l))
		return;
	if (!state[0] || strcmp(state, "running") == 0)
		store_route(l->region, &l->route, &l->record, &l->known);
	a = answer_new(VERDICT_YES);
	if (a)
		give_route(l, a);
	lookup_answer(l, a);
}

/* A live session is checked; nobody connects there now. */
static void lookup_yes_resting(struct lookup *l)
{
	struct answer *a;

	if (is_overtaken(l))
		return;
	a = answer_new(l->ask.how == ASK_CHECK ? VERDICT_YES : VERDICT_WAKING);
	if (a)
		give_route(l, a);
	lookup_answer(l, a);
}

static void lookup_connect_to(struct lookup *l, const void *addr, socklen_t bytes)
{
	if (!may_connect(l->region, addr)) {
		bad_route(l, "procd.allow does not hold the address", l->record.procd_url);
		return;
	}
	memcpy(&l->route.addr, addr, bytes);
	l->route.addr_bytes = bytes;
	lookup_yes(l);
}

static void on_resolved(struct resolve *q)
{
	struct lookup *l = CONTAINER_OF(q, struct lookup, resolve);

	lookup_move(l, LOOKUP_DECIDING);
	if (q->err < 0)
		bad_route(l, resolve_explain(q->err), l->record.procd_url);
	else
		lookup_connect_to(l, &q->addresses[0].any, q->addresses[0].bytes);
}

void lookup_found_route(struct lookup *l, const struct grant *g)
{
	const struct record_route *record = &l->record;
	struct route *route = &l->route;
	struct procd_place place;

	memset(route, 0, sizeof(*route));
	strcpy(route->sandbox, l->ask.sandbox);
	route->grant = *g;
	route->has_procd_key = record->procd_key[0] != 0;
	if (!take_policies(l))
		return;
	if (!record->procd_url[0]) {
		lookup_yes_resting(l);
	} else if (procd_url_parse(record->procd_url, &place) < 0) {
		bad_route(l, "procd_url is no tcp://HOST:PORT", record->procd_url);
	} else if (route->has_procd_key && proof_public_parse(record->procd_key, &route->procd_key) < 0) {
		bad_route(l, "procd_key is no ed25519:BASE64", record->procd_key);
	} else if (!place.host[0]) {
		lookup_connect_to(l, &place.addr, place.addr_bytes);
	} else {
		lookup_move(l, LOOKUP_RESOLVING);
		resolve_start(&l->resolve, l->region->ring, place.host, place.port, on_resolved);
	}
}

/* By which of his grants he may enter is told later; all of a key's are the same user's. */
void lookup_waking(struct lookup *l)
{
	struct answer *a = answer_new(VERDICT_WAKING);

	if (a) {
		strcpy(a->route.sandbox, l->ask.sandbox);
		if (l->ask.grant_count > 0)
			strcpy(a->route.grant.user, l->grants[0].user);
	}
	lookup_answer(l, a);
}
