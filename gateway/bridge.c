/*
 * The bridge: one stream to procd, made when a channel wants it, and its frames given to the links.
 */
#include "gateway/bridge.h"

#include "core/log.h"
#include "gateway/limits.h"
#include "gateway/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct procd_client_events procd_events;
static void on_linger(struct timer *t);
static void on_pause(struct timer *t);
static const struct links_events links_events;
static const struct finder_events finder_events;

void bridge_init(struct bridge *b, struct session *s)
{
	memset(b, 0, sizeof(*b));
	b->session = s;
	timer_init(&b->linger, on_linger);
	timer_init(&b->pause, on_pause);
	procd_client_init(&b->procd, &procd_events);
	links_init(&b->links, s, &b->procd, &links_events);
}

/* `is_retry`: the route that is known seems to be wrong. `is_new_wanted`: the same one again is of no use. */
static void find(struct bridge *b, bool is_retry, bool is_new_wanted)
{
	struct session *s = b->session;

	b->is_new_wanted = is_new_wanted;
	b->finder = finder_new(s, is_retry, !is_retry, &finder_events, b);
	if (b->finder)
		finder_start(b->finder);
	else
		session_close(s, "out of memory");
}

static void stop_finding(struct bridge *b)
{
	finder_free(b->finder);
	b->finder = NULL;
}

static void connect_procd(struct bridge *b)
{
	struct session *s = b->session;
	const struct config *c = s->server->config;
	struct ticket t = {0};
	struct procd_client_options o = {
		.addr = (const struct sockaddr *)&s->route.addr,
		.addr_bytes = s->route.addr_bytes,
		.connect_timeout_ms = c->procd.connect_timeout_ms,
		.hello_timeout_ms = c->procd.hello_timeout_ms,
		.ping_ms = c->procd.ping_s * 1000,
		.ping_count = c->procd.ping_count,
		.tcp_user_timeout_ms = c->session.tcp_user_timeout_ms,
		.ticket = &t,
		.secret = &s->server->secret,
		.expected = s->route.has_procd_key ? &s->route.procd_key : NULL,
	};

	if (b->procd.state == PROCD_READY && !b->procd.is_closing) {
		links_on_ready(&b->links);
		return;
	}
	if (!bridge_is_closed(b) || b->finder || timer_is_started(&b->pause))
		return; /* on its way, or ending: on_ready, on_closed or on_found goes on */
	if (s->route.addr_bytes == 0) {
		find(b, false, false);
		return;
	}
	snprintf(t.sandbox, sizeof(t.sandbox), "%s", s->route.sandbox);
	snprintf(t.user, sizeof(t.user), "%s", s->route.grant.user);
	snprintf(t.team, sizeof(t.team), "%s", s->route.grant.team);
	snprintf(t.session, sizeof(t.session), "%s", s->id);
	snprintf(t.gateway, sizeof(t.gateway), "%s", c->name);
	snprintf(t.client, sizeof(t.client), "%s", s->address);
	t.issued = (uint64_t)time(NULL);
	procd_client_start(&b->procd, s->ring, &o);
}

static void on_wanted(struct links *ls)
{
	connect_procd(CONTAINER_OF(ls, struct bridge, links));
}

/* It lives no more, or was paused with its connections alive: then the question wakes it, and it goes on. */
static void on_silent(struct links *ls)
{
	struct bridge *b = CONTAINER_OF(ls, struct bridge, links);

	if (b->procd.state == PROCD_READY && !b->finder)
		find(b, true, false);
}

static const struct links_events links_events = {
	.on_wanted = on_wanted,
	.on_silent = on_silent,
};

static void on_pause(struct timer *t)
{
	struct bridge *b = CONTAINER_OF(t, struct bridge, pause);

	if (links_have_waiting(&b->links))
		connect_procd(b);
}

static void on_ready(struct procd_client *p)
{
	struct bridge *b = CONTAINER_OF(p, struct bridge, procd);

	b->is_retried = b->is_tried_again = false;
	links_on_ready(&b->links);
	session_flush(b->session);
}

static int on_frame(struct procd_client *p, const struct frame *f)
{
	struct bridge *b = CONTAINER_OF(p, struct bridge, procd);

	if (b->is_closing)
		return 0; /* the client has gone: what is written for it now would be in nobody's hands */
	if (f->channel == 0)
		return f->type == FRAME_GOAWAY ? 0 : forwards_on_frame(&b->links, f);
	return links_on_frame(&b->links, f);
}

static int on_data(struct procd_client *p, uint32_t channel, uint32_t stream, struct bytes piece, uint32_t left)
{
	struct bridge *b = CONTAINER_OF(p, struct bridge, procd);

	(void)left;
	return b->is_closing ? 0 : links_on_data(&b->links, channel, stream, piece);
}

static void on_sent(struct procd_client *p)
{
	struct bridge *b = CONTAINER_OF(p, struct bridge, procd);

	if (b->is_closing) {
		if (procd_client_unsent(p) == 0) {
			timer_stop(b->session->ring, &b->linger);
			procd_client_close(p);
		}
		return;
	}
	links_settle(&b->links);
}

static void lose(struct bridge *b, const char *text)
{
	b->is_retried = b->is_tried_again = false;
	links_lose(&b->links, text);
	session_flush(b->session);
}

static const char *const end_texts[] = {
	[PROCD_UNREACHABLE] = "the sandbox cannot be reached",
	[PROCD_WRONG] = "the sandbox cannot be reached: something else answers at its address",
	[PROCD_REFUSED] = "the sandbox refused the connection",
	[PROCD_BROKEN] = "the connection to the sandbox was lost: it broke the protocol",
	[PROCD_LOST] = "the connection to the sandbox was lost",
};

static bool is_same_route(const struct route *a, const struct route *b)
{
	return a->addr_bytes == b->addr_bytes && memcmp(&a->addr, &b->addr, a->addr_bytes) == 0 &&
	       a->has_procd_key == b->has_procd_key && memcmp(&a->procd_key, &b->procd_key, sizeof(a->procd_key)) == 0;
}

/* The stream that is there leads nowhere: what hangs on it ends, what waits gets another one. */
static void lose_stream(struct bridge *b, const char *text)
{
	lose(b, text);
	if (!bridge_is_closed(b))
		procd_client_close(&b->procd);
}

static bool has_just_woken(const struct bridge *b)
{
	return b->woke_us > 0 && ring_now_us(b->session->ring) - b->woke_us < WAKE_SETTLE_MS * 1000;
}

/* The same address where nobody was: perhaps it slept, and it was our question that woke it, or somebody else's. */
static bool may_try_again(struct bridge *b)
{
	bool is_first = !b->is_tried_again && b->end_why == PROCD_UNREACHABLE;

	b->is_tried_again = true;
	return is_first || has_just_woken(b);
}

static void on_found(void *owner, const struct route *r, bool was_asleep)
{
	struct bridge *b = owner;
	struct session *s = b->session;
	bool is_same = is_same_route(r, &s->route);

	s->route = *r;
	stop_finding(b);
	if (was_asleep)
		b->woke_us = ring_now_us(s->ring);
	if (b->procd.state == PROCD_READY && !is_same)
		lose_stream(b, end_texts[PROCD_LOST]);
	else if (b->procd.state == PROCD_READY || !links_have_waiting(&b->links))
		return;
	else if (s->route.addr_bytes == 0)
		lose(b, end_texts[PROCD_UNREACHABLE]);
	else if (!is_same || was_asleep || !b->is_new_wanted)
		connect_procd(b);
	else if (may_try_again(b))
		timer_start(s->ring, &b->pause, WAKE_SETTLE_PAUSE_MS);
	else
		lose(b, end_texts[b->end_why]);
}

static void on_failed(void *owner, enum verdict why, const char *text)
{
	struct bridge *b = owner;

	snprintf(b->lost_text, sizeof(b->lost_text), "%s", text);
	stop_finding(b);
	/* Who may not enter any more is not let in by where it was: the next channel asks again. */
	if (why == VERDICT_NO)
		b->session->route.addr_bytes = 0;
	if (b->procd.state != PROCD_READY)
		lose(b, b->lost_text);
	else if (why == VERDICT_NO)
		lose_stream(b, b->lost_text); /* else it may answer yet */
}

static void on_waking(void *owner, uint32_t seconds)
{
	struct bridge *b = owner;

	if (!links_have_unopened(&b->links)) {
		stop_finding(b); /* nobody waits any more */
		return;
	}
	links_tell_waking(&b->links, seconds);
	session_flush(b->session);
}

static const struct finder_events finder_events = {
	.on_found = on_found,
	.on_failed = on_failed,
	.on_waking = on_waking,
};

/* Nothing was there, or somebody else: the route may be old, or the sandbox asleep. True when it was asked for once more. */
static bool find_again(struct bridge *b, enum procd_end why)
{
	if ((why != PROCD_WRONG && why != PROCD_UNREACHABLE) || b->finder || (b->is_retried && !has_just_woken(b)))
		return false;
	b->is_retried = true;
	find(b, true, true);
	return true;
}

static void on_procd_end(struct procd_client *p, enum procd_end why, const char *detail)
{
	struct bridge *b = CONTAINER_OF(p, struct bridge, procd);
	struct session *s = b->session;

	log_event(LOG_WARN, "procd", LOG_STR("session", s->id), LOG_STR("sandbox", s->route.sandbox),
		  LOG_STR("why", end_texts[why]), LOG_STR("detail", detail));
	b->end_why = why;
	if (s->phase == SESSION_LIVE && !find_again(b, why))
		lose(b, end_texts[why]);
	procd_client_close(p);
}

static void on_procd_closed(struct procd_client *p)
{
	struct bridge *b = CONTAINER_OF(p, struct bridge, procd);

	links_on_closed(&b->links);
	if (b->is_closing) {
		timer_stop(b->session->ring, &b->linger); /* procd may be gone before its time is up */
		session_bridge_closed(b->session);
		return;
	}
	/* Channels that were asked for in the meantime get the next stream. */
	if (links_have_waiting(&b->links))
		connect_procd(b);
	session_flush(b->session); /* the client may have been waiting for what was unsent */
}

static const struct procd_client_events procd_events = {
	.on_ready = on_ready,
	.on_frame = on_frame,
	.on_data = on_data,
	.on_sent = on_sent,
	.on_end = on_procd_end,
	.on_closed = on_procd_closed,
};

/* --- the end --- */

static void on_linger(struct timer *t)
{
	struct bridge *b = CONTAINER_OF(t, struct bridge, linger);

	procd_client_close(&b->procd);
}

static void end(struct bridge *b, bool is_dropped)
{
	struct procd_client *p = &b->procd;

	if (b->is_closing)
		return;
	b->is_closing = true;
	deferred_cancel(&b->links.settle);
	links_drop_jumps(&b->links);
	stop_finding(b);
	timer_stop(b->session->ring, &b->pause);
	if (bridge_is_closed(b))
		return;
	/* What the user sent still reaches the sandbox. */
	if (!is_dropped && p->state == PROCD_READY && procd_client_unsent(p) > 0)
		timer_start(b->session->ring, &b->linger, SESSION_LINGER_MS);
	else
		procd_client_close(p);
}

void bridge_close(struct bridge *b)
{
	end(b, false);
}

void bridge_drop(struct bridge *b)
{
	end(b, true);
}

bool bridge_is_closed(const struct bridge *b)
{
	return b->procd.state == PROCD_IDLE || b->procd.state == PROCD_CLOSED;
}

void bridge_deinit(struct bridge *b)
{
	links_deinit(&b->links);
}
