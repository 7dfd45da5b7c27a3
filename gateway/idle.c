#include "gateway/idle.h"

#include "gateway/session.h"

#include <stdio.h>

static void end(struct session *s, const struct idle_limit *limit)
{
	char text[POLICY_WHY_MAX + 96];

	snprintf(text, sizeof(text), "nothing was sent for %u s: the session ends by %s", limit->timeout_s,
		 limit->whose);
	links_tell_all(&s->bridge.links, text);
	session_disconnect(s, DISCONNECT_BY_APPLICATION, text);
}

static void warn(struct session *s, const struct idle_limit *limit, uint64_t left_ms)
{
	char text[POLICY_WHY_MAX + 96];

	snprintf(text, sizeof(text), "nothing is being sent: the session ends in %u s by %s",
		 (uint32_t)((left_ms + 999) / 1000), limit->whose);
	links_tell_all(&s->bridge.links, text);
	session_flush(s);
}

static void look(struct session *s)
{
	struct policies p = session_policies(s);
	struct links *ls = &s->bridge.links;
	uint64_t now_us = ring_now_us(s->ring), timeout_ms, warn_ms, rested_ms;
	struct idle_limit limit;

	policies_idle(&p, &limit);
	if (limit.timeout_s == 0)
		return;
	if (links_have_unopened(ls))
		ls->moved_us = now_us;
	timeout_ms = (uint64_t)limit.timeout_s * 1000;
	warn_ms = timeout_ms - (uint64_t)limit.warning_s * 1000;
	rested_ms = (now_us - ls->moved_us) / 1000;
	if (rested_ms >= timeout_ms) {
		end(s, &limit);
		return;
	}
	if (rested_ms < warn_ms) {
		timer_start(s->ring, &s->idle.timer, warn_ms - rested_ms);
		return;
	}
	/* What moves from now on is told of again in time: a warning comes in the second half of the timeout. */
	timer_start(s->ring, &s->idle.timer, timeout_ms - rested_ms);
	if (s->idle.told_us != ls->moved_us) {
		s->idle.told_us = ls->moved_us;
		warn(s, &limit, timeout_ms - rested_ms);
	}
}

static void on_timer(struct timer *t)
{
	struct session *s = CONTAINER_OF(t, struct session, idle.timer);

	if (s->phase == SESSION_LIVE)
		look(s);
}

void idle_init(struct session *s)
{
	timer_init(&s->idle.timer, on_timer);
}

void idle_start(struct session *s)
{
	struct policies p = session_policies(s);
	struct idle_limit limit;

	if (s->phase != SESSION_LIVE)
		return;
	policies_idle(&p, &limit);
	timer_stop(s->ring, &s->idle.timer);
	if (limit.timeout_s > 0)
		timer_start(s->ring, &s->idle.timer, 0);
}

void idle_stop(struct session *s)
{
	timer_stop(s->ring, &s->idle.timer);
}
