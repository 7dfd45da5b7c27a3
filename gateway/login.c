/*
 * A probe asks only "is this key known?"; its answer depends on the key alone. A verified signature asks that again, then
 * whether one of the key's grants may enter the sandbox. Every no is the same FAILURE.
 */
#include "gateway/login.h"

#include "core/address.h"
#include "core/log.h"
#include "core/pubkey.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A few dropped connections a second are one line in the log. */
#define DROP_LOG_US 1000000

static void log_drops(struct handshaker *h, const char *why)
{
	uint64_t now = ring_now_us(h->ring);

	h->drops_unlogged++;
	if (now - h->drop_logged_us < DROP_LOG_US)
		return;
	log_event(LOG_WARN, "drop", LOG_STR("reason", why), LOG_U64("count", h->drops_unlogged));
	h->drop_logged_us = now;
	h->drops_unlogged = 0;
}

static uint32_t random_below(uint32_t n)
{
	uint32_t r;

	proof_random(&r, sizeof(r));
	return r % n;
}

bool login_admits(struct handshaker *h)
{
	struct server *s = h->server;
	const struct config *c = s->config;
	uint32_t now = atomic_load(&s->counters.unauthenticated_count);
	uint32_t begin = c->login.start_begin, full = c->login.start_full, rate = c->login.start_rate;

	atomic_fetch_add(&s->counters.accepted, 1);
	if (atomic_load(&s->counters.session_count) >= c->session.max_sessions) {
		atomic_fetch_add(&s->counters.dropped_full, 1);
		log_drops(h, "session.max_sessions is reached");
		return false;
	}
	if (now < begin)
		return true;
	if (now < full && full > begin)
		rate += (100 - rate) * (now - begin) / (full - begin);
	else
		rate = 100;
	if (random_below(100) >= rate)
		return true;
	atomic_fetch_add(&s->counters.dropped_early, 1);
	log_drops(h, "too many unauthenticated connections");
	return false;
}

static void address_of(const struct session *s, struct sockaddr_storage *ret_addr)
{
	socklen_t bytes;

	if (socket_address_parse(s->address, ret_addr, &bytes) < 0)
		ret_addr->ss_family = AF_UNSPEC;
}

bool login_admits_address(struct session *s)
{
	struct server *server = s->server;
	uint32_t most = server->config->login.per_address, place;
	struct sockaddr_storage from;

	if (most == 0)
		return true;
	address_of(s, &from);
	place = probe_limit_place(&server->probes, (const struct sockaddr *)&from);
	if (atomic_fetch_add(&server->unauthenticated_at[place], 1) < most) {
		s->address_place = place + 1;
		return true;
	}
	atomic_fetch_sub(&server->unauthenticated_at[place], 1);
	atomic_fetch_add(&server->counters.dropped_early, 1);
	log_drops(s->handshaker, "too many unauthenticated connections from one address");
	return false;
}

bool login_sandbox_of(const char *user, char ret_sandbox[SANDBOX_ID_MAX + 1])
{
	size_t n = strcspn(user, "+");

	if (user[n] && strcmp(user + n, "+main") != 0)
		return false;
	if (!sandbox_id_is_good(bytes_of(user, n)))
		return false;
	memcpy(ret_sandbox, user, n);
	ret_sandbox[n] = 0;
	return true;
}

static void answer(struct session *s, bool is_yes)
{
	conn_auth_answer(s->conn, is_yes);
	session_flush(s);
}

static void denied(struct session *s, const char *why)
{
	struct login *l = s->login;

	atomic_fetch_add(&s->server->counters.auth_denied, 1);
	log_event(LOG_INFO, "auth", LOG_STR("session", s->id), LOG_STR("result", "denied"), LOG_STR("why", why),
		  LOG_STR("user", l->user), LOG_STR("key", s->fingerprint), LOG_STR("client", s->address));
	answer(s, false);
}

static void unavailable(struct session *s, const char *reason)
{
	log_event(LOG_WARN, "auth", LOG_STR("session", s->id), LOG_STR("result", "unavailable"), LOG_STR("why", reason),
		  LOG_STR("user", s->login->user), LOG_STR("client", s->address));
	session_disconnect(s, DISCONNECT_SERVICE_NOT_AVAILABLE,
			   reason[0] ? reason : "temporarily unavailable; try again in a moment");
}

/* Of one that is asleep nothing is known yet but that the user may enter; its finder asks again. */
static void take_route(struct session *s, const struct route_query *q)
{
	if (q->verdict == VERDICT_YES) {
		s->route = q->route;
		session_take_policies(s, q);
		return;
	}
	memset(&s->route, 0, sizeof(s->route));
	memcpy(s->route.sandbox, q->sandbox, sizeof(s->route.sandbox));
	memcpy(s->route.grant.user, q->grants[0].user, sizeof(s->route.grant.user));
}

static void enter(struct session *s)
{
	const struct route *r = &s->route;
	const char *kex, *cipher;

	take_route(s, &s->login->route);
	if (!session_set_grants(s, s->login->key.grants, s->login->key.grant_count)) {
		session_close(s, "out of memory");
		return;
	}
	conn_algorithms(s->conn, &kex, &cipher);
	atomic_fetch_add(&s->server->counters.auth_good, 1);
	log_event(LOG_INFO, "auth", LOG_STR("session", s->id), LOG_STR("result", "accepted"),
		  LOG_STR("sandbox", r->sandbox), LOG_STR("user", r->grant.user), LOG_STR("team", r->grant.team),
		  LOG_STR("key", s->fingerprint), LOG_STR("client", s->address),
		  LOG_STR("version", conn_client_version(s->conn)), LOG_STR("kex", kex), LOG_STR("cipher", cipher));
	answer(s, true);
}

static void on_route(struct route_query *q)
{
	struct login *l = CONTAINER_OF(q, struct login, route);
	struct session *s = q->owner;

	l->is_route_pending = false;
	switch (q->verdict) {
	case VERDICT_YES:
	case VERDICT_WAKING:
		enter(s);
		break;
	case VERDICT_NO:
		denied(s, "no such sandbox, or not for this user");
		break;
	case VERDICT_UNAVAILABLE:
		unavailable(s, q->reason);
		break;
	}
}

static void ask_route(struct session *s)
{
	struct login *l = s->login;

	if (!login_sandbox_of(l->user, l->route.sandbox)) {
		denied(s, "the user name is no sandbox ID");
		return;
	}
	memcpy(l->route.fingerprint, s->fingerprint, sizeof(l->route.fingerprint));
	l->route.grants = l->key.grants;
	l->route.grant_count = l->key.grant_count;
	l->route.is_retry = false;
	l->route.ring = s->ring;
	l->route.on_done = on_route;
	l->route.owner = s;
	l->is_route_pending = true;
	s->server->directory->ops->route_find(s->server->directory, &l->route);
}

/*
 * --- a directory that asks elsewhere: answers to probes leave by the clock, and what is to be asked for is rationed, signed or not: a key
 * that nobody knows costs nothing to make, and nothing to sign with ---
 */

static void on_answer_due(struct timer *t)
{
	struct login *l = CONTAINER_OF(t, struct login, timer);

	answer(l->key.owner, l->is_known);
}

/* At the next tick since the connection began. Known here, known elsewhere, known to nobody: all take whole ticks. */
static void answer_probe(struct session *s, bool is_yes)
{
	struct login *l = s->login;
	uint64_t tick_us = (uint64_t)s->server->config->login.probe_tick_ms * 1000;
	uint64_t age_us = ring_now_us(s->ring) - s->started_us;

	if (!s->server->directory->ops->key_recall || tick_us == 0) {
		answer(s, is_yes);
		return;
	}
	l->is_known = is_yes;
	timer_init(&l->timer, on_answer_due);
	timer_start(s->ring, &l->timer, (tick_us - age_us % tick_us + 999) / 1000);
}

static void key_answered(struct session *s)
{
	const struct key_query *q = &s->login->key;

	if (q->verdict == VERDICT_UNAVAILABLE)
		unavailable(s, q->reason);
	else if (!s->login->is_signed)
		answer_probe(s, q->verdict == VERDICT_YES);
	else if (q->verdict == VERDICT_YES)
		ask_route(s);
	else
		denied(s, "unknown key");
}

static void on_key(struct key_query *q)
{
	struct session *s = q->owner;

	s->login->is_key_pending = false;
	key_answered(s);
}

static void ask_key(struct session *s)
{
	s->login->is_key_pending = true;
	s->server->directory->ops->key_find(s->server->directory, &s->login->key);
}

static void key_step(struct session *s);

static void on_turn(struct timer *t)
{
	struct login *l = CONTAINER_OF(t, struct login, timer);

	key_step(l->key.owner);
}

/* When it may be asked for. False: not within the time that is left for logging in. */
static bool key_take_turn(struct session *s)
{
	uint64_t now_us = ring_now_us(s->ring), wait_us;
	uint64_t until_us = s->started_us + (uint64_t)s->server->config->login.grace_s * 1000000;
	struct sockaddr_storage from;

	address_of(s, &from);
	if (!probe_limit_take(&s->server->probes, (struct sockaddr *)&from, now_us,
			      until_us > now_us ? until_us - now_us : 0, &wait_us))
		return false;
	s->login->ask_at_us = now_us + wait_us;
	return true;
}

/* Somebody else's look-up may have brought the answer while this one waited. */
static void key_step(struct session *s)
{
	struct login *l = s->login;
	struct directory *d = s->server->directory;
	uint64_t now_us = ring_now_us(s->ring), wait_ms;

	if (d->ops->key_recall(d, &l->key)) {
		key_answered(s);
	} else if (l->ask_at_us == 0 && !key_take_turn(s)) {
		unavailable(s, "too many keys are being looked up; try again in a moment");
	} else if (l->ask_at_us <= now_us) {
		ask_key(s);
	} else {
		wait_ms = (l->ask_at_us - now_us + 999) / 1000;
		timer_init(&l->timer, on_turn);
		timer_start(s->ring, &l->timer, wait_ms < PROBE_LOOK_MS ? wait_ms : PROBE_LOOK_MS);
	}
}

void login_on_begin(struct session *s)
{
	char banner[BANNER_BYTES];

	texts_banner(&s->server->texts, banner);
	if (banner[0])
		conn_banner(s->conn, banner);
}

void login_on_auth(struct session *s, const struct auth_query *q)
{
	struct login *l = s->login;

	l->is_signed = q->is_signed;
	if (q->is_signed)
		check_begin(s);
	snprintf(l->user, sizeof(l->user), "%s", q->user);
	pubkey_fingerprint(q->key, s->fingerprint);
	memcpy(l->key.fingerprint, s->fingerprint, sizeof(l->key.fingerprint));
	l->key.is_signed = q->is_signed;
	l->key.ring = s->ring;
	l->key.on_done = on_key;
	l->key.owner = s;
	l->ask_at_us = 0;
	if (s->server->directory->ops->key_recall)
		key_step(s);
	else
		ask_key(s);
}

void login_on_auth_failure(struct session *s, enum auth_failure why, const char *detail)
{
	struct counters *n = &s->server->counters;
	_Atomic uint64_t *counter[] = {
		[AUTH_BAD_REQUEST] = &n->auth_bad_request,
		[AUTH_BAD_KEY] = &n->auth_bad_key,
		[AUTH_BAD_SIGNATURE] = &n->auth_bad_signature,
		[AUTH_NO_METHOD] = &n->auth_no_method,
	};

	atomic_fetch_add(counter[why], 1);
	log_event(LOG_INFO, "auth", LOG_STR("session", s->id), LOG_STR("result", "refused"), LOG_STR("why", detail),
		  LOG_STR("client", s->address));
}

void login_free(struct session *s)
{
	struct login *l = s->login;

	if (!l)
		return;
	if (l->is_key_pending)
		s->server->directory->ops->key_cancel(s->server->directory, &l->key);
	if (l->is_route_pending)
		s->server->directory->ops->route_cancel(s->server->directory, &l->route);
	if (timer_is_started(&l->timer))
		timer_stop(s->ring, &l->timer);
	free(l);
	s->login = NULL;
}
