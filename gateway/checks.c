#include "gateway/checks.h"

#include "core/log.h"
#include "gateway/limits.h"
#include "gateway/server.h"
#include "gateway/session.h"

#include <stdlib.h>
#include <string.h>

/* One session's questions, while they are asked. */
struct checker {
	struct session *session;
	struct key_query key;
	struct route_query route;
	bool is_key_pending, is_route_pending;
};

static const uint8_t allowed[] = {
	[CHECK_IDLE] = 1u << CHECK_DUE,
	[CHECK_DUE] = 1u << CHECK_DUE | 1u << CHECK_ASKING | 1u << CHECK_IDLE,
	[CHECK_ASKING] = 1u << CHECK_IDLE | 1u << CHECK_LATER,
	[CHECK_LATER] = 1u << CHECK_DUE | 1u << CHECK_IDLE,
};

/* The only writer of c->state. */
static void check_move(struct check *c, enum check_state to)
{
	ASSERT(allowed[c->state] & 1u << to);
	c->state = to;
}

static struct session *session_of(struct check *c)
{
	return CONTAINER_OF(c, struct session, check);
}

/* --- whom a change concerns --- */

static bool has_grant(const struct session *s, const struct subject *subject)
{
	for (uint32_t i = 0; i < s->grant_count; i++)
		if (strcmp(s->grants[i].user, subject->user) == 0 && strcmp(s->grants[i].team, subject->team) == 0)
			return true;
	return false;
}

static bool hangs_on(const struct session *s, const struct subject *subject)
{
	switch (subject->kind) {
	case SUBJECT_KEY:
		return strcmp(s->fingerprint, subject->fingerprint) == 0;
	case SUBJECT_MEMBER:
		return has_grant(s, subject);
	case SUBJECT_SANDBOX:
		return strcmp(s->route.sandbox, subject->sandbox) == 0;
	case SUBJECT_ALL:
		return true;
	}
	return true;
}

static void mark(struct session *s, bool is_named)
{
	struct checks *all = &s->worker->checks;
	struct check *c = &s->check;

	if (c->state == CHECK_ASKING) {
		c->is_again = true;
		return;
	}
	if (c->state == CHECK_DUE && !is_named)
		return;
	timer_stop(s->ring, &c->retry);
	list_del(&c->node);
	check_move(c, CHECK_DUE);
	list_add_tail(is_named ? &all->named : &all->others, &c->node);
	deferred_ask(s->ring, &all->work);
}

/* Marks where one of the subjects says so. */
static void look_at(struct session *s, const struct subject *subjects, uint32_t count)
{
	bool is_due = false, is_named = false;

	if (s->phase != SESSION_LIVE)
		return;
	for (uint32_t i = 0; i < count; i++) {
		if (!hangs_on(s, &subjects[i]))
			continue;
		is_due = true;
		is_named |= subjects[i].kind != SUBJECT_ALL;
	}
	if (is_due)
		mark(s, is_named);
}

static void start_tick(struct checks *c)
{
	if (!timer_is_started(&c->tick))
		timer_start(c->worker->ring, &c->tick, CHECK_TICK_MS);
}

/* One walk over all sessions for a few changes; what is left waits for the next tick, so that nobody's keystroke waits long. */
static void read_changes(struct checks *c)
{
	struct changes *changes = &c->worker->server->changes;
	struct list *sessions = &c->worker->sessions;
	struct subject subjects[CHANGES_A_WALK];
	uint32_t count = changes_read(changes, &c->position, subjects, CHANGES_A_WALK);

	if (count == 0)
		return;
	for (struct list *n = sessions->next; n != sessions; n = n->next)
		look_at(CONTAINER_OF(n, struct session, node), subjects, count);
	if (changes_position(changes) != c->position)
		start_tick(c);
}

static void on_mail(struct ring *r, struct mail *m)
{
	struct checks *c = CONTAINER_OF(m, struct checks, mail);

	atomic_store(&c->is_posted, false); /* before reading: what is added from now on posts anew */
	if (!timer_is_started(&c->tick))
		read_changes(c);
}

void checks_tell(struct server *s, const struct subject *subject)
{
	changes_add(&s->changes, subject);
	for (uint32_t i = 0; i < s->worker_count; i++) {
		struct checks *c = &s->workers[i].checks;

		if (!atomic_exchange(&c->is_posted, true))
			ring_post(s->workers[i].ring, NULL, &c->mail);
	}
}

/* --- asking --- */

static void checker_free(struct checker *k)
{
	struct session *s = k->session;
	struct directory *d = s->server->directory;

	if (k->is_key_pending)
		d->ops->key_cancel(d, &k->key);
	if (k->is_route_pending)
		d->ops->route_cancel(d, &k->route);
	s->check.checker = NULL;
	s->worker->checks.asking_count--;
	deferred_ask(s->ring, &s->worker->checks.work);
	free(k);
}

static void later(struct session *s)
{
	struct check *c = &s->check;
	struct checks *all = &s->worker->checks;
	uint32_t ms = CHECK_RETRY_MS << c->try_count;

	if (ms < CHECK_RETRY_MAX_MS)
		c->try_count++;
	else
		ms = CHECK_RETRY_MAX_MS;
	all->jitter = all->jitter * 1664525 + 1013904223;
	check_move(c, CHECK_LATER);
	timer_start(s->ring, &c->retry, ms - ms / 4 + (all->jitter >> 8) % (ms / 2));
}

static void withdraw(struct session *s, const char *why)
{
	check_move(&s->check, CHECK_IDLE);
	atomic_fetch_add(&s->server->counters.withdrawn, 1);
	log_event(LOG_INFO, "withdrawn", LOG_STR("session", s->id), LOG_STR("why", why),
		  LOG_STR("sandbox", s->route.sandbox), LOG_STR("user", s->route.grant.user),
		  LOG_STR("key", s->fingerprint), LOG_STR("client", s->address));
	session_withdraw(s);
}

/* Frees the checker. `why` says what the NO was to. */
static void answered(struct checker *k, enum verdict verdict, const char *why)
{
	struct session *s = k->session;
	struct check *c = &s->check;

	checker_free(k);
	if (verdict == VERDICT_NO) {
		withdraw(s, why);
		return;
	}
	if (verdict == VERDICT_UNAVAILABLE) {
		later(s);
		return;
	}
	c->try_count = 0;
	check_move(c, CHECK_IDLE);
	if (c->is_again)
		mark(s, true);
}

static void on_route(struct route_query *q)
{
	struct checker *k = CONTAINER_OF(q, struct checker, route);
	struct session *s = k->session;

	k->is_route_pending = false;
	if (q->verdict == VERDICT_YES) {
		s->route.grant = q->route.grant; /* perhaps another team's now */
		session_take_policies(s, q);
	}
	if (q->verdict == VERDICT_YES || q->verdict == VERDICT_WAKING)
		(void)session_set_grants(s, k->key.grants, k->key.grant_count);
	answered(k, q->verdict, "the sandbox is gone, or not for this user any more");
}

/* Grants of whoever logged in; a key that somebody else has now is not his any more. */
static void keep_own_grants(struct key_query *q, const char *user)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < q->grant_count; i++)
		if (strcmp(q->grants[i].user, user) == 0)
			q->grants[kept++] = q->grants[i];
	q->grant_count = kept;
}

static void on_key(struct key_query *q)
{
	struct checker *k = CONTAINER_OF(q, struct checker, key);
	struct session *s = k->session;
	struct route_query *r = &k->route;

	k->is_key_pending = false;
	if (q->verdict == VERDICT_UNAVAILABLE) {
		answered(k, VERDICT_UNAVAILABLE, NULL);
		return;
	}
	keep_own_grants(q, s->route.grant.user);
	if (q->verdict != VERDICT_YES || q->grant_count == 0) {
		answered(k, VERDICT_NO, "the key is gone, or not this user's any more");
		return;
	}
	memcpy(r->sandbox, s->route.sandbox, sizeof(r->sandbox));
	memcpy(r->fingerprint, s->fingerprint, sizeof(r->fingerprint));
	r->grants = q->grants;
	r->grant_count = q->grant_count;
	r->is_check = true;
	r->ring = s->ring;
	r->on_done = on_route;
	k->is_route_pending = true;
	s->server->directory->ops->route_find(s->server->directory, r);
}

static void ask(struct session *s)
{
	struct checker *k = calloc(1, sizeof(*k));
	struct check *c = &s->check;

	list_del(&c->node);
	check_move(c, CHECK_ASKING);
	c->is_again = false;
	if (!k) {
		later(s);
		return;
	}
	k->session = s;
	c->checker = k;
	s->worker->checks.asking_count++;
	memcpy(k->key.fingerprint, s->fingerprint, sizeof(k->key.fingerprint));
	k->key.is_signed = k->key.is_check = true;
	k->key.ring = s->ring;
	k->key.on_done = on_key;
	k->is_key_pending = true;
	s->server->directory->ops->key_find(s->server->directory, &k->key);
}

static struct session *next_due(struct checks *c)
{
	struct list *from = list_is_empty(&c->named) ? &c->others : &c->named;

	return list_is_empty(from) ? NULL : session_of(CONTAINER_OF(from->next, struct check, node));
}

static void on_work(struct deferred *d)
{
	struct checks *c = CONTAINER_OF(d, struct checks, work);
	struct session *s;

	while (c->asking_count < CHECKS_AT_ONCE && (s = next_due(c))) {
		start_tick(c);
		if (c->asked_in_tick == CHECKS_A_TICK)
			return;
		c->asked_in_tick++;
		ask(s);
	}
}

static void on_tick(struct timer *t)
{
	struct checks *c = CONTAINER_OF(t, struct checks, tick);

	c->asked_in_tick = 0;
	read_changes(c);
	deferred_ask(c->worker->ring, &c->work);
}

static void on_retry(struct timer *t)
{
	mark(session_of(CONTAINER_OF(t, struct check, retry)), false);
}

/* --- the life of a worker's and of a session's --- */

void checks_init(struct checks *c, struct worker *w)
{
	memset(c, 0, sizeof(*c));
	c->worker = w;
	c->mail.on_mail = on_mail;
	list_init(&c->named);
	list_init(&c->others);
	timer_init(&c->tick, on_tick);
	deferred_init(&c->work, on_work);
}

void check_init(struct session *s)
{
	list_init(&s->check.node);
	timer_init(&s->check.retry, on_retry);
}

void check_begin(struct session *s)
{
	s->check.position = changes_position(&s->server->changes);
}

void check_adopt(struct session *s)
{
	struct subject subjects[CHANGES_A_WALK];
	struct changes *changes = &s->server->changes;
	uint64_t end = changes_position(changes); /* what comes behind it is the worker's own walk to see */

	while (s->check.position < end)
		look_at(s, subjects, changes_read(changes, &s->check.position, subjects, CHANGES_A_WALK));
}

void check_end(struct session *s)
{
	struct check *c = &s->check;

	if (c->state == CHECK_IDLE)
		return;
	if (c->checker)
		checker_free(c->checker);
	timer_stop(s->ring, &c->retry);
	list_del(&c->node);
	check_move(c, CHECK_IDLE);
}
