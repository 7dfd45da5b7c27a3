/*
 * upstream/control/client.c - the calls that are asked, waiting, under way.
 *
 *   IDLE ──ask──► QUEUED ──a slot──► ACTIVE ──answered──► IDLE, on_done
 *                  │  ▲                │
 *                  │  └── PAUSED ◄─────┘ failed, and may be tried again
 *                  └► ENDED ──► IDLE, on_done: refused; told from the loop, not from inside the call that asked
 *
 * The deadline ends a call in each of these states. A slot is a transfer and the connection it may use; there are some for calls that
 * are held back, so that the others never wait for them.
 */
#include "upstream/control/client.h"

#include "upstream/control/answer.h"
#include "upstream/control/breaker.h"
#include "upstream/control/call.h"
#include "upstream/control/http.h"
#include "upstream/control/token.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <time.h>

enum call_state { STATE_IDLE, STATE_QUEUED, STATE_ACTIVE, STATE_PAUSED, STATE_ENDED };

/* Which transfers may be used by whom. */
enum pool { POOL_SHORT, POOL_HELD, POOL_FEED, POOL_COUNT };

struct control_slot {
	struct http_get get;
	struct control_client *client;
	struct control_call *call; /* while it is used */
	enum pool pool;
	struct list node; /* while it is not: in its pool */
};

struct control_client {
	struct ring *ring;
	struct control_options options; /* its strings are the caller's and not used */
	char base[CONTROL_URL_MAX];
	struct token token;
	struct breaker breaker;
	char why_down[CONTROL_REASON_MAX];
	struct http *http;
	struct control_slot *slots;
	uint32_t slot_count;
	struct list pools[POOL_COUNT];
	struct list fresh; /* QUEUED: not looked at yet */
	struct list queue; /* QUEUED: for a slot of POOL_SHORT */
	struct list active, paused, ended;
	uint32_t queued_count, ended_count;
	struct deferred work;
	uint64_t calls, retries, failures, rejected;
	uint32_t in_flight;
	bool is_working, is_freed, is_http_gone;
};

#define BIT(n) (1u << (n))

static const uint8_t call_allowed[] = {
	[STATE_IDLE] = BIT(STATE_QUEUED) | BIT(STATE_ENDED),
	[STATE_QUEUED] = BIT(STATE_ACTIVE) | BIT(STATE_ENDED) | BIT(STATE_IDLE),
	[STATE_ACTIVE] = BIT(STATE_PAUSED) | BIT(STATE_IDLE),
	[STATE_PAUSED] = BIT(STATE_QUEUED) | BIT(STATE_IDLE),
	[STATE_ENDED] = BIT(STATE_IDLE),
};

/* The only writer of k->state; `to` is the list of calls in that state, NULL for none. */
static void call_move(struct control_call *k, enum call_state to, struct list *list)
{
	struct control_client *c = k->client;

	ASSERT((call_allowed[k->state] & BIT(to)) != 0);
	if (k->state == STATE_QUEUED)
		c->queued_count--;
	if (k->state == STATE_ENDED)
		c->ended_count--;
	if (k->state != STATE_IDLE)
		list_del(&k->node);
	else
		list_init(&k->node);
	k->state = to;
	if (to == STATE_QUEUED)
		c->queued_count++;
	if (to == STATE_ENDED)
		c->ended_count++;
	if (list)
		list_add_tail(list, &k->node);
}

static void client_ask_work(struct control_client *c)
{
	if (!c->is_freed)
		deferred_ask(c->ring, &c->work);
}

/* ---- Slots ---- */

static struct control_slot *slot_of(struct control_client *c, enum pool pool)
{
	return list_is_empty(&c->pools[pool]) ? NULL : CONTAINER_OF(c->pools[pool].next, struct control_slot, node);
}

static void slot_use(struct control_slot *s, struct control_call *k)
{
	list_del(&s->node);
	s->call = k;
	k->slot = s;
}

static void slot_release(struct control_slot *s)
{
	struct control_client *c = s->client;

	s->call->slot = NULL;
	s->call = NULL;
	/* The one used last is used next: its memory is warm. */
	list_add_head(&c->pools[s->pool], &s->node);
	client_ask_work(c);
}

/* ---- A call's end ---- */

/* Takes it from the client, in whichever state it is. */
static void call_detach(struct control_call *k)
{
	struct control_client *c = k->client;

	timer_stop(c->ring, &k->deadline);
	timer_stop(c->ring, &k->again);
	if (k->slot) {
		http_stop(&k->slot->get);
		slot_release(k->slot);
	}
	call_move(k, STATE_IDLE, NULL);
	c->in_flight--;
}

/* From the loop only. The client may be gone afterwards. */
static void call_end(struct control_call *k)
{
	const struct control_change *list = k->kind == CALL_CHANGES ? call_changes(k)->changes : NULL;

	if (k->result == CONTROL_FAILED)
		k->client->failures++;
	call_detach(k);
	k->on_done(k);
	free((void *)list);
}

/* Refused: its result and reason are set. */
static void call_end_later(struct control_call *k)
{
	struct control_client *c = k->client;

	call_move(k, STATE_ENDED, &c->ended);
	client_ask_work(c);
}

/* ---- The control plane's health ---- */

static void tell_state(struct control_client *c, bool is_up, const char *why)
{
	/* Calls that wait are refused now. */
	client_ask_work(c);
	if (c->options.on_state)
		c->options.on_state(c->options.owner, is_up, why);
}

static void take_verdict(struct control_call *k, enum call_verdict verdict)
{
	struct control_client *c = k->client;

	switch (verdict) {
	case CALL_ANSWERED:
		if (breaker_succeeded(&c->breaker))
			tell_state(c, true, "");
		break;
	case CALL_BROKEN:
	case CALL_AGAIN:
		memcpy(c->why_down, k->reason, sizeof(c->why_down));
		if (breaker_failed(&c->breaker, ring_now_us(c->ring), k->tried_us))
			tell_state(c, false, c->why_down);
		break;
	case CALL_UNCLEAR:
		break;
	}
}

/* ---- A try ---- */

static uint32_t wait_asked(const struct control_call *k)
{
	uint32_t wait_s = 0;

	if (k->kind == CALL_ROUTE)
		wait_s = CONTAINER_OF(k, const struct control_route_call, call)->wait_s;
	else if (k->kind == CALL_CHANGES)
		wait_s = CONTAINER_OF(k, const struct control_changes_call, call)->wait_s;
	return wait_s < CONTROL_WAIT_MAX_S ? wait_s : CONTROL_WAIT_MAX_S;
}

/* Sets how long it may still take. */
static void call_limit(struct control_call *k, uint64_t ms)
{
	struct ring *r = k->client->ring;

	k->until_us = ring_now_us(r) + ms * 1000;
	timer_start(r, &k->deadline, ms);
}

/* How long an answer may be held back that is asked for now: later tries have less time for it. */
static uint32_t wait_left(const struct control_call *k)
{
	uint64_t past_s = (ring_now_us(k->client->ring) - k->asked_us + 999999) / 1000000;
	uint32_t wait_s = wait_asked(k);

	if (k->tries == 0)
		return wait_s;
	return past_s < wait_s ? wait_s - (uint32_t)past_s : 0;
}

/* Of an active call. True when it will be tried again. */
static bool call_pauses(struct control_call *k)
{
	struct control_client *c = k->client;
	uint64_t pause_ms;

	if (k->tries >= CONTROL_TRIES_MAX || !breaker_is_closed(&c->breaker))
		return false;
	pause_ms = randombytes_uniform(CONTROL_PAUSE_MS << (k->tries - 1)) + 1;
	if (ring_now_us(c->ring) + pause_ms * 1000 >= k->until_us)
		return false;
	call_move(k, STATE_PAUSED, &c->paused);
	timer_start(c->ring, &k->again, pause_ms);
	return true;
}

static void on_again(struct timer *t)
{
	struct control_call *k = CONTAINER_OF(t, struct control_call, again);

	k->client->retries++;
	call_move(k, STATE_QUEUED, &k->client->fresh);
	client_ask_work(k->client);
}

static void on_get_done(struct http_get *g)
{
	struct control_slot *s = CONTAINER_OF(g, struct control_slot, get);
	struct control_call *k = s->call;
	enum call_verdict verdict = call_take(k, g);

	slot_release(s);
	take_verdict(k, verdict);
	if (verdict != CALL_AGAIN || !call_pauses(k))
		call_end(k);
}

static void on_deadline(struct timer *t)
{
	struct control_call *k = CONTAINER_OF(t, struct control_call, deadline);
	uint64_t ms = (k->until_us - k->asked_us) / 1000;

	switch ((enum call_state)k->state) {
	case STATE_ACTIVE:
		call_fail(k, "no answer within %u ms", (unsigned)ms);
		take_verdict(k, CALL_BROKEN);
		break;
	case STATE_QUEUED:
		if (k->tries == 0)
			call_fail(k, "no connection was free within %u ms", (unsigned)ms);
		break;
	case STATE_PAUSED: /* why it failed last stands there */
	case STATE_ENDED:
	case STATE_IDLE:
		break;
	}
	call_end(k);
}

/* Puts a queued call onto a free slot. What fails here is ours, not the control plane's. */
static void call_start(struct control_call *k, struct control_slot *s, uint32_t wait_s)
{
	struct control_client *c = k->client;
	uint64_t now_us = ring_now_us(c->ring);
	uint64_t left_ms = k->until_us > now_us ? (k->until_us - now_us) / 1000 : 0;
	const char *token = token_get(&c->token, (uint64_t)time(NULL));
	struct call_request q;
	int err;

	err = token ? call_request_make(k, c->base, token, wait_s, &q) : -ENOMEM;
	if (!err)
		err = http_start(c->http, &s->get, q.url, q.headers, q.header_count,
				 (uint32_t)left_ms + CONTROL_CURL_LATER_MS);
	sodium_memzero(q.token, sizeof(q.token));
	if (err) {
		call_fail(k, "%s", err == -ENOMEM ? "out of memory" : "the call names what cannot be");
		call_end_later(k);
		return;
	}
	slot_use(s, k);
	k->tried_us = now_us;
	k->tries++;
	call_move(k, STATE_ACTIVE, &c->active);
}

/* ---- The queue ---- */

static enum pool pool_of(const struct control_call *k)
{
	return k->kind == CALL_CHANGES ? POOL_FEED : POOL_HELD;
}

/* Those that may be held back and find a slot for it start; all others queue up. */
static void look_at_fresh(struct control_client *c)
{
	while (!list_is_empty(&c->fresh)) {
		struct control_call *k = CONTAINER_OF(c->fresh.next, struct control_call, node);
		struct control_slot *s = slot_of(c, pool_of(k));
		uint32_t wait_s = wait_left(k);

		if (wait_s > 0 && s && breaker_is_closed(&c->breaker)) {
			call_start(k, s, wait_s);
			continue;
		}
		if (wait_s > 0 && k->tries == 0)
			call_limit(k, c->options.timeout_ms);
		list_del(&k->node);
		list_add_tail(&c->queue, &k->node);
	}
}

static void look_at_queue(struct control_client *c)
{
	while (!list_is_empty(&c->queue)) {
		struct control_call *k = CONTAINER_OF(c->queue.next, struct control_call, node);
		struct control_slot *s = slot_of(c, POOL_SHORT);

		if (breaker_is_closed(&c->breaker) && !s)
			return;
		if (s && breaker_lets(&c->breaker, ring_now_us(c->ring))) {
			call_start(k, s, 0);
			continue;
		}
		c->rejected++;
		call_fail(k, "it is down: %.100s", c->why_down);
		call_end_later(k);
	}
}

static void client_settle(struct control_client *c)
{
	void (*on_freed)(void *) = c->options.on_freed;
	void *owner = c->options.owner;

	if (!c->is_http_gone || c->is_working)
		return;
	free(c->slots);
	token_wipe(&c->token);
	free(c);
	if (on_freed)
		on_freed(owner);
}

static void on_work(struct deferred *d)
{
	struct control_client *c = CONTAINER_OF(d, struct control_client, work);

	c->is_working = true;
	look_at_fresh(c);
	look_at_queue(c);
	/* Those that are refused while these are told are told the next time. */
	for (uint32_t n = c->ended_count; n > 0 && !list_is_empty(&c->ended); n--)
		call_end(CONTAINER_OF(c->ended.next, struct control_call, node));
	c->is_working = false;
	client_settle(c);
}

/* ---- What askers call ---- */

static void client_ask(struct control_client *c, struct control_call *k, enum call_kind kind)
{
	ASSERT(!c->is_freed && k->state == STATE_IDLE);
	k->client = c;
	k->kind = kind;
	k->tries = 0;
	k->slot = NULL;
	k->status = 0;
	k->reason[0] = 0;
	k->asked_us = k->tried_us = ring_now_us(c->ring);
	timer_init(&k->deadline, on_deadline);
	timer_init(&k->again, on_again);
	c->calls++;
	c->in_flight++;
	if (c->queued_count >= CONTROL_QUEUE_MAX) {
		call_fail(k, "too many calls are waiting");
		call_end_later(k);
		return;
	}
	call_limit(k, c->options.timeout_ms + wait_asked(k) * 1000ull);
	call_move(k, STATE_QUEUED, &c->fresh);
	client_ask_work(c);
}

void control_key_find(struct control_client *c, struct control_key_call *k)
{
	k->grant_count = 0;
	client_ask(c, &k->call, CALL_KEY);
}

void control_route_find(struct control_client *c, struct control_route_call *r)
{
	client_ask(c, &r->call, CALL_ROUTE);
}

void control_changes_wait(struct control_client *c, struct control_changes_call *ch)
{
	ch->changes = NULL;
	ch->change_count = 0;
	client_ask(c, &ch->call, CALL_CHANGES);
}

void control_cancel(struct control_client *c, struct control_call *call)
{
	if (call->state == STATE_IDLE)
		return;
	ASSERT(call->client == c);
	call_detach(call);
}

void control_client_stats(const struct control_client *c, struct control_stats *ret)
{
	*ret = (struct control_stats){
		.is_up = breaker_is_closed(&c->breaker),
		.calls = c->calls,
		.retries = c->retries,
		.failures = c->failures,
		.rejected = c->rejected,
		.in_flight = c->in_flight,
	};
}

/* ---- The client ---- */

static pthread_once_t answer_once = PTHREAD_ONCE_INIT;

static void on_http_freed(void *owner)
{
	struct control_client *c = owner;

	c->is_http_gone = true;
	client_settle(c);
}

static int slots_make(struct control_client *c)
{
	const uint32_t counts[POOL_COUNT] = {c->options.connection_count, CONTROL_HELD_MAX, CONTROL_FEED_MAX};
	struct control_slot *s;

	c->slot_count = counts[POOL_SHORT] + counts[POOL_HELD] + counts[POOL_FEED];
	s = c->slots = calloc(c->slot_count, sizeof(*c->slots));
	if (!s)
		return -ENOMEM;
	for (int pool = 0; pool < POOL_COUNT; pool++) {
		list_init(&c->pools[pool]);
		for (uint32_t i = 0; i < counts[pool]; i++, s++) {
			s->client = c;
			s->pool = pool;
			s->get.on_done = on_get_done;
			list_add_tail(&c->pools[pool], &s->node);
		}
	}
	return 0;
}

static void client_init(struct control_client *c, struct ring *r, const struct control_options *o)
{
	c->ring = r;
	c->options = *o;
	breaker_init(&c->breaker);
	list_init(&c->fresh);
	list_init(&c->queue);
	list_init(&c->active);
	list_init(&c->paused);
	list_init(&c->ended);
	deferred_init(&c->work, on_work);
}

static int refuse(char ret_error[256], int err, const char *text)
{
	(void)snprintf(ret_error, 256, "%s", text);
	return err;
}

/* What may be wrong with the options; http_new looks at the rest. */
static int client_check(struct control_client *c, const struct control_options *o, char ret_error[256])
{
	if (o->connection_count == 0 || o->connection_count > CONTROL_CONNECTIONS_MAX)
		return refuse(ret_error, -EINVAL, "the number of connections to the control plane is out of range");
	if (sodium_init() < 0)
		return refuse(ret_error, -EIO, "libsodium does not start");
	if (token_init(&c->token, o->name, o->secret) != 0)
		return refuse(ret_error, -EINVAL, "the gateway's name cannot be one in a token");
	return http_url_check(o->url, c->base, ret_error);
}

int control_client_new(struct ring *r, const struct control_options *o, struct control_client **ret_client,
		       char ret_error[256])
{
	struct control_client *c = calloc(1, sizeof(*c));
	int err;

	(void)pthread_once(&answer_once, answer_init);
	if (!c)
		return refuse(ret_error, -ENOMEM, "out of memory");
	client_init(c, r, o);
	err = client_check(c, o, ret_error);
	if (!err && slots_make(c) != 0)
		err = refuse(ret_error, -ENOMEM, "out of memory");
	if (!err) {
		struct http_options h = {
			.ca_file = o->ca_file,
			.connect_timeout_ms = o->connect_timeout_ms,
			.connection_count = c->slot_count,
			.rest_count = o->connection_count,
			.on_freed = on_http_freed,
			.owner = c,
		};

		err = http_new(r, &h, &c->http, ret_error);
	}
	if (err) {
		free(c->slots);
		free(c);
		return err;
	}
	*ret_client = c;
	return 0;
}

static void detach_all(struct list *l)
{
	while (!list_is_empty(l))
		call_detach(CONTAINER_OF(l->next, struct control_call, node));
}

void control_client_free(struct control_client *c)
{
	if (!c)
		return;
	ASSERT(!c->is_freed);
	c->is_freed = true;
	deferred_cancel(&c->work);
	detach_all(&c->fresh);
	detach_all(&c->queue);
	detach_all(&c->active);
	detach_all(&c->paused);
	detach_all(&c->ended);
	for (uint32_t i = 0; i < c->slot_count; i++)
		http_get_deinit(&c->slots[i].get);
	http_free(c->http);
}
