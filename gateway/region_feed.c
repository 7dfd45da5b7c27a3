/*
 * gateway/region_feed.c - the control plane's changes feed, by long poll. Always on where there is one.
 *
 *   OFF ──► BEGIN ──answered──► LIVE ◄──────┐
 *             ▲ │ 404            │ fails    │ answered
 *             │ ▼                ▼          │
 *             │ ABSENT          LOST ───────┘
 *             └──── too old ─────┘
 *
 * BEGIN learns where the feed is; what came before is unknown, so everything that is remembered goes and all sessions are checked.
 * LOST goes on from where it was: nothing is missed.
 */
#include "core/log.h"
#include "gateway/region_internal.h"

#include <sodium.h>

static void feed_ask(struct region *r);

static void feed_move(struct feed *f, enum feed_state to)
{
	static const uint8_t allowed[] = {
		[FEED_OFF] = 1 << FEED_BEGIN,
		[FEED_BEGIN] = 1 << FEED_BEGIN | 1 << FEED_LIVE | 1 << FEED_ABSENT | 1 << FEED_OFF,
		[FEED_LIVE] = 1 << FEED_LIVE | 1 << FEED_LOST | 1 << FEED_BEGIN | 1 << FEED_ABSENT | 1 << FEED_OFF,
		[FEED_LOST] = 1 << FEED_LOST | 1 << FEED_LIVE | 1 << FEED_BEGIN | 1 << FEED_ABSENT | 1 << FEED_OFF,
		[FEED_ABSENT] = 1 << FEED_BEGIN | 1 << FEED_OFF,
	};

	ASSERT((allowed[f->state] & 1 << to) != 0);
	f->state = to;
}

static void ask_after(struct region *r, uint64_t ms)
{
	timer_start(r->ring, &r->feed.timer, ms);
}

static void on_timer(struct timer *t)
{
	struct region *r = CONTAINER_OF(t, struct region, feed.timer);

	if (r->feed.state == FEED_ABSENT)
		feed_move(&r->feed, FEED_BEGIN);
	feed_ask(r);
}

/* --- answers --- */

static void apply(struct region *r, const struct control_change *c)
{
	struct subject s = {.kind = SUBJECT_KEY};

	switch (c->kind) {
	case CONTROL_SUBJECT_KEY:
		memcpy(s.fingerprint, c->fingerprint, sizeof(s.fingerprint));
		break;
	case CONTROL_SUBJECT_MEMBER:
		s.kind = SUBJECT_MEMBER;
		memcpy(s.team, c->member.team, sizeof(s.team));
		memcpy(s.user, c->member.user, sizeof(s.user));
		break;
	case CONTROL_SUBJECT_SANDBOX:
		s.kind = SUBJECT_SANDBOX;
		memcpy(s.sandbox, c->sandbox, sizeof(s.sandbox));
		break;
	}
	region_changed(r, &s);
}

static void log_state(const char *state, const char *why)
{
	log_event(why[0] ? LOG_WARN : LOG_INFO, "changes", LOG_STR("state", state), LOG_STR("why", why));
}

static void feed_up(struct feed *f, uint64_t next, uint64_t now_us)
{
	if (f->state != FEED_LIVE)
		log_state("up", "");
	feed_move(f, FEED_LIVE);
	f->is_absence_told = false;
	f->since = next;
	f->backoff_ms = 0;
	f->answered_us = now_us;
}

/* The feed's place is known from now on; what came before is not. */
static void on_begun(struct region *r, uint64_t next)
{
	feed_up(&r->feed, next, ring_now_us(r->ring));
	region_changed(r, &(struct subject){.kind = SUBJECT_ALL});
	feed_ask(r);
}

static void on_changes(struct region *r)
{
	struct feed *f = &r->feed;
	struct control_changes_call *c = &f->call;
	bool is_empty = c->change_count == 0 && c->next == f->since;

	/* There had never been a change, and "since 0" does not list the first one: it asks where the feed is. */
	if (f->since == 0 && c->next > 0) {
		on_begun(r, c->next);
		return;
	}
	feed_up(f, c->next, ring_now_us(r->ring));
	for (uint32_t i = 0; i < c->change_count; i++)
		apply(r, &c->changes[i]);
	if (is_empty && f->answered_us - f->asked_us < FEED_EMPTY_MS * 1000)
		ask_after(r, FEED_EMPTY_MS);
	else
		feed_ask(r);
}

/* Twice as long each time, and a random part of it, so that gateways do not come back together. */
static void on_failure(struct region *r)
{
	struct feed *f = &r->feed;

	if (f->state == FEED_LIVE) {
		log_state("down", f->call.call.reason);
		feed_move(f, FEED_LOST);
	}
	f->backoff_ms = f->backoff_ms ? f->backoff_ms * 2 : FEED_BACKOFF_MIN_MS;
	if (f->backoff_ms > FEED_BACKOFF_MAX_MS)
		f->backoff_ms = FEED_BACKOFF_MAX_MS;
	ask_after(r, f->backoff_ms / 2 + randombytes_uniform(f->backoff_ms / 2 + 1));
}

/* Changes were missed, or `since` was 0 and there were ever so many. The answer may say where to go on. */
static void on_too_old(struct region *r)
{
	struct feed *f = &r->feed;

	if (f->state != FEED_BEGIN)
		log_state("began anew", f->call.call.reason[0] ? f->call.call.reason : "changes were missed");
	if (f->call.next > 0) {
		on_begun(r, f->call.next);
	} else if (f->state == FEED_BEGIN) {
		on_failure(r);
	} else {
		feed_move(f, FEED_BEGIN);
		ask_after(r, 0);
	}
}

static void on_done(struct control_call *call)
{
	struct region *r = call->owner;
	struct feed *f = &r->feed;

	f->is_asking = false;
	switch (call->result) {
	case CONTROL_OK:
		if (f->state == FEED_BEGIN)
			on_begun(r, f->call.next);
		else
			on_changes(r);
		break;
	case CONTROL_NOT_FOUND:
		if (!f->is_absence_told)
			log_state("absent", "this control plane has no changes feed");
		f->is_absence_told = true;
		/* What it vouched for lives too long for answers of whose changes nobody tells. */
		if (f->state != FEED_BEGIN)
			l1_drop_all(r->l1);
		feed_move(f, FEED_ABSENT);
		ask_after(r, FEED_ABSENT_MS);
		break;
	case CONTROL_TOO_OLD:
		on_too_old(r);
		break;
	default:
		on_failure(r);
		break;
	}
}

static void feed_ask(struct region *r)
{
	struct feed *f = &r->feed;

	ASSERT(!f->is_asking);
	memset(&f->call, 0, sizeof(f->call));
	f->call.call.on_done = on_done;
	f->call.call.owner = r;
	if (f->state != FEED_BEGIN)
		f->call.since = f->since;
	if (f->state == FEED_LIVE)
		f->call.wait_s = FEED_WAIT_S; /* else an answer at once tells that it is back */
	f->is_asking = true;
	f->asked_us = ring_now_us(r->ring);
	control_changes_wait(r->control, &f->call);
}

void feed_start(struct region *r)
{
	timer_init(&r->feed.timer, on_timer);
	feed_move(&r->feed, FEED_BEGIN);
	feed_ask(r);
}

void feed_stop(struct region *r)
{
	if (r->feed.state == FEED_OFF)
		return;
	timer_stop(r->ring, &r->feed.timer);
	if (r->feed.is_asking)
		control_cancel(r->control, &r->feed.call.call);
	r->feed.is_asking = false;
	feed_move(&r->feed, FEED_OFF);
}
