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
static void on_wanted(struct links *ls);

void bridge_init(struct bridge *b, struct session *s)
{
	memset(b, 0, sizeof(*b));
	b->session = s;
	timer_init(&b->linger, on_linger);
	procd_client_init(&b->procd, &procd_events);
	links_init(&b->links, s, &b->procd, on_wanted);
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

	if (b->procd.state == PROCD_READY) {
		links_on_ready(&b->links);
		return;
	}
	if ((b->procd.state != PROCD_IDLE && b->procd.state != PROCD_CLOSED) || b->is_asking_route)
		return; /* on its way, or ending: on_ready or on_closed goes on */
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

static void on_ready(struct procd_client *p)
{
	struct bridge *b = CONTAINER_OF(p, struct bridge, procd);

	b->is_retried = false;
	links_on_ready(&b->links);
	session_flush(b->session);
}

static int on_frame(struct procd_client *p, const struct frame *f)
{
	struct bridge *b = CONTAINER_OF(p, struct bridge, procd);

	if (b->is_closing)
		return 0; /* the client has gone: what is written for it now would be in nobody's hands */
	if (f->channel == 0)
		return f->type == FRAME_GOAWAY ? 0 : -EPROTO;
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
	b->is_retried = false;
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

/* A sandbox that moved is found again; anything else ends the channels that wait. */
static void on_retry_route(struct route_query *q)
{
	struct bridge *b = q->owner;
	struct session *s = b->session;

	b->is_asking_route = false;
	if (s->phase != SESSION_LIVE)
		return;
	if (q->verdict == VERDICT_YES && !is_same_route(&q->route, &s->route)) {
		s->route = q->route;
		if (b->procd.state == PROCD_CLOSED)
			connect_procd(b);
		return;
	}
	lose(b, q->verdict == VERDICT_NO ? "the sandbox is gone, or not yours any more" : end_texts[b->end_why]);
}

/* Nothing was there, or somebody else: the route may be old. True when it was asked for once more. */
static bool ask_route_again(struct bridge *b, enum procd_end why)
{
	struct session *s = b->session;
	struct route_query *q;

	if ((why != PROCD_WRONG && why != PROCD_UNREACHABLE) || b->is_retried)
		return false;
	if (!b->retry)
		b->retry = calloc(1, sizeof(*b->retry));
	q = b->retry;
	if (!q)
		return false;
	b->is_retried = b->is_asking_route = true;
	memcpy(q->sandbox, s->route.sandbox, sizeof(q->sandbox));
	memcpy(q->fingerprint, s->fingerprint, sizeof(q->fingerprint));
	q->grants = &s->route.grant;
	q->grant_count = 1;
	q->is_retry = true;
	q->ring = s->ring;
	q->on_done = on_retry_route;
	q->owner = b;
	s->server->directory->ops->route_find(s->server->directory, q);
	return true;
}

static void on_procd_end(struct procd_client *p, enum procd_end why, const char *detail)
{
	struct bridge *b = CONTAINER_OF(p, struct bridge, procd);
	struct session *s = b->session;

	log_event(LOG_WARN, "procd", LOG_STR("session", s->id), LOG_STR("sandbox", s->route.sandbox),
		  LOG_STR("why", end_texts[why]), LOG_STR("detail", detail));
	b->end_why = why;
	if (s->phase == SESSION_LIVE && !ask_route_again(b, why))
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
	if (b->is_asking_route)
		b->session->server->directory->ops->route_cancel(b->session->server->directory, b->retry);
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
	free(b->retry);
}
