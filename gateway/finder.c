#include "gateway/finder.h"

#include "core/log.h"
#include "gateway/limits.h"
#include "gateway/link.h"
#include "gateway/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct finder {
	struct session *session;
	const struct finder_events *events;
	void *owner;
	struct route_query query;
	bool is_pending, is_asleep;
	uint64_t begun_us, asked_us;
	struct timer ask;  /* pending: the end of all waiting; else the next question */
	struct timer tell; /* on_waking */
	struct grant grants[];
};

static void on_ask(struct timer *t);
static void on_tell(struct timer *t);
static void on_route(struct route_query *q);

struct finder *finder_new(struct session *s, bool is_retry, bool is_asleep, const struct finder_events *events,
			  void *owner)
{
	struct finder *f = calloc(1, sizeof(*f) + s->grant_count * sizeof(f->grants[0]));
	struct route_query *q;

	if (!f)
		return NULL;
	f->session = s;
	f->events = events;
	f->owner = owner;
	f->is_asleep = is_asleep;
	timer_init(&f->ask, on_ask);
	timer_init(&f->tell, on_tell);
	/* A copy: the session's own may change while the directory has the question. */
	memcpy(f->grants, s->grants, s->grant_count * sizeof(f->grants[0]));
	q = &f->query;
	memcpy(q->sandbox, s->route.sandbox, sizeof(q->sandbox));
	memcpy(q->fingerprint, s->fingerprint, sizeof(q->fingerprint));
	q->grants = f->grants;
	q->grant_count = s->grant_count;
	q->is_retry = is_retry;
	q->ring = s->ring;
	q->on_done = on_route;
	q->owner = f;
	return f;
}

void finder_free(struct finder *f)
{
	struct directory *d;

	if (!f)
		return;
	d = f->session->server->directory;
	if (f->is_pending)
		d->ops->route_cancel(d, &f->query);
	timer_stop(f->session->ring, &f->ask);
	timer_stop(f->session->ring, &f->tell);
	free(f);
}

static uint64_t elapsed_ms(const struct finder *f, uint64_t since_us)
{
	return (ring_now_us(f->session->ring) - since_us) / 1000;
}

/* Of the whole wait; 0: it is over. */
static uint64_t left_ms(const struct finder *f)
{
	uint64_t all = (uint64_t)f->session->server->config->session.resume_timeout_s * 1000;
	uint64_t gone = elapsed_ms(f, f->begun_us);

	return gone < all ? all - gone : 0;
}

static void log_wake(const struct finder *f, const char *result)
{
	log_event(LOG_INFO, "wake", LOG_STR("session", f->session->id), LOG_STR("sandbox", f->query.sandbox),
		  LOG_STR("result", result), LOG_F3("seconds", (double)elapsed_ms(f, f->begun_us) / 1e3));
}

static void failed(struct finder *f, enum verdict why, const char *text)
{
	timer_stop(f->session->ring, &f->ask);
	timer_stop(f->session->ring, &f->tell);
	if (f->is_asleep)
		log_wake(f, text);
	f->events->on_failed(f->owner, why, text);
}

static void too_late(struct finder *f)
{
	struct directory *d = f->session->server->directory;
	char text[REASON_MAX];

	if (f->is_pending)
		d->ops->route_cancel(d, &f->query);
	f->is_pending = false;
	snprintf(text, sizeof(text), "the sandbox did not wake up within %u s",
		 f->session->server->config->session.resume_timeout_s);
	failed(f, VERDICT_UNAVAILABLE,
	       f->is_asleep ? text : "the sandbox cannot be reached: nobody could say where it is");
}

static void unavailable(struct finder *f)
{
	char text[REASON_MAX + 64], reason[REASON_MAX];

	tell_copy_plain(bytes_str(f->query.reason), reason, sizeof(reason));
	snprintf(text, sizeof(text), "the sandbox cannot be reached%s%s", reason[0] ? ": " : "", reason);
	failed(f, VERDICT_UNAVAILABLE, text);
}

static void ask(struct finder *f)
{
	struct directory *d = f->session->server->directory;
	uint64_t left = left_ms(f), poll = (uint64_t)f->session->server->config->session.resume_poll_s * 1000;

	/* Only who is known to sleep is waited for: the user is told from then on. */
	f->query.wait_ms = f->is_asleep ? (uint32_t)(left < poll ? left : poll) : 0;
	f->is_pending = true;
	f->asked_us = ring_now_us(f->session->ring);
	timer_start(f->session->ring, &f->ask, left);
	d->ops->route_find(d, &f->query);
}

static void begin_to_tell(struct finder *f)
{
	uint64_t gone = elapsed_ms(f, f->begun_us);

	log_wake(f, "waiting");
	timer_start(f->session->ring, &f->tell, gone < WAKE_TELL_MS ? WAKE_TELL_MS - gone : 0);
}

/* It sleeps: the next question at once, but not more often than WAKE_ASK_MS where the directory holds no answer back. */
static void asleep(struct finder *f)
{
	uint64_t gone = elapsed_ms(f, f->asked_us),
		 pause = f->query.wait_ms > 0 && gone < WAKE_ASK_MS ? WAKE_ASK_MS - gone : 0;
	uint64_t left = left_ms(f);

	if (!f->is_asleep) {
		f->is_asleep = true;
		begin_to_tell(f);
	}
	timer_start(f->session->ring, &f->ask, pause < left ? pause : left);
}

static void on_route(struct route_query *q)
{
	struct finder *f = q->owner;

	f->is_pending = false;
	switch (q->verdict) {
	case VERDICT_YES:
		timer_stop(f->session->ring, &f->ask);
		timer_stop(f->session->ring, &f->tell);
		if (f->is_asleep)
			log_wake(f, "awake");
		session_take_policies(f->session, q);
		f->events->on_found(f->owner, &q->route, f->is_asleep);
		break;
	case VERDICT_NO:
		failed(f, VERDICT_NO, "the sandbox is gone, or not yours any more");
		break;
	case VERDICT_WAKING:
		asleep(f);
		break;
	case VERDICT_UNAVAILABLE:
		unavailable(f);
		break;
	}
}

static void on_ask(struct timer *t)
{
	struct finder *f = CONTAINER_OF(t, struct finder, ask);

	if (f->is_pending || left_ms(f) == 0)
		too_late(f);
	else
		ask(f);
}

static void on_tell(struct timer *t)
{
	struct finder *f = CONTAINER_OF(t, struct finder, tell);

	timer_start(f->session->ring, t, 1000);
	f->events->on_waking(f->owner, (uint32_t)((elapsed_ms(f, f->begun_us) + 999) / 1000));
}

void finder_start(struct finder *f)
{
	f->begun_us = ring_now_us(f->session->ring);
	if (f->is_asleep)
		begin_to_tell(f);
	timer_start(f->session->ring, &f->ask, 0); /* an answer may come inside the question */
}
