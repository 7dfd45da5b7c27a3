/*
 * gateway/region_request.c - a query on its way to the directory thread and back.
 *
 * The query stays the asker's: the directory thread sees only the request, which has a copy of what is asked. Who moves the
 * request out of OPEN decides who frees it.
 */
#include "gateway/region_internal.h"
#include "ring/resolve.h"

#include <sodium.h>
#include <stdlib.h>

struct answer *answer_new(enum verdict v)
{
	struct answer *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	atomic_init(&a->refs, 1);
	a->verdict = v;
	return a;
}

void answer_put(struct answer *a)
{
	if (!a || atomic_fetch_sub(&a->refs, 1) != 1)
		return;
	policy_put(a->team_policy);
	policy_put(a->sandbox_policy);
	free(a);
}

static void request_free(struct request *q)
{
	struct region *r = q->region;

	pthread_mutex_lock(&r->requests_lock);
	list_del(&q->registered);
	r->request_count--;
	pthread_mutex_unlock(&r->requests_lock);
	answer_put(q->answer);
	free(q);
}

static bool request_move(struct request *q, enum request_state to)
{
	uint32_t from = REQUEST_OPEN;

	return atomic_compare_exchange_strong(&q->state, &from, to);
}

/* --- the asker's thread --- */

static void answer_key(struct key_query *k, const struct answer *a)
{
	k->verdict = a->verdict;
	k->grant_count = a->grant_count;
	memcpy(k->grants, a->grants, a->grant_count * sizeof(a->grants[0]));
	memcpy(k->reason, a->reason, sizeof(k->reason));
	k->pending = NULL;
	k->on_done(k);
}

static void answer_route(struct route_query *q, const struct answer *a)
{
	q->verdict = a->verdict;
	q->route = a->route;
	q->team_policy = a->team_policy;
	q->sandbox_policy = a->sandbox_policy;
	memcpy(q->reason, a->reason, sizeof(q->reason));
	q->pending = NULL;
	q->on_done(q);
}

static void on_reply(struct ring *ring, struct mail *m)
{
	struct request *q = CONTAINER_OF(m, struct request, mail);
	struct answer *a = q->answer;
	enum ask_kind kind = q->ask.kind;
	void *query = q->query;

	q->answer = NULL;
	request_free(q); /* before on_done, which may ask again */
	if (query && kind == ASK_KEY)
		answer_key(query, a);
	else if (query)
		answer_route(query, a);
	answer_put(a);
}

static void on_ask(struct ring *ring, struct mail *m);
static void on_cancel(struct ring *ring, struct mail *m);

static void request_deadline(struct timer *t)
{
	struct request *q = CONTAINER_OF(t, struct request, deadline);

	request_fail(q, "");
}

bool request_send(struct region *r, const struct ask *a, struct ring *ring, void *query)
{
	struct request *q = calloc(1, sizeof(*q) + a->grant_count * sizeof(q->grants[0]));
	bool is_full;

	if (!q)
		return false;
	q->region = r;
	q->ring = ring;
	q->query = query;
	q->ask = *a;
	if (a->grant_count > 0)
		memcpy(q->grants, a->grants, a->grant_count * sizeof(q->grants[0]));
	q->ask.grants = q->grants;
	q->mail.on_mail = on_ask;
	q->cancel.on_mail = on_cancel;
	list_init(&q->node);
	timer_init(&q->deadline, request_deadline);
	pthread_mutex_lock(&r->requests_lock);
	is_full = r->request_count == REGION_REQUESTS_MAX;
	if (!is_full) {
		list_add_tail(&r->requests, &q->registered);
		r->request_count++;
	}
	pthread_mutex_unlock(&r->requests_lock);
	if (is_full) {
		free(q);
		return false;
	}
	if (a->kind == ASK_KEY)
		((struct key_query *)query)->pending = q;
	else
		((struct route_query *)query)->pending = q;
	ring_post(r->ring, ring, &q->mail);
	return true;
}

void request_cancel(struct request *q)
{
	if (request_move(q, REQUEST_CANCELLED))
		ring_post(q->region->ring, q->ring, &q->cancel);
	else
		q->query = NULL; /* the reply is in our own mailbox */
}

/* --- the directory thread --- */

static void on_ask(struct ring *ring, struct mail *m)
{
	struct request *q = CONTAINER_OF(m, struct request, mail);
	const struct config *c = q->region->config;

	if (atomic_load(&q->state) == REQUEST_CANCELLED)
		return;
	timer_start(ring, &q->deadline,
		    (uint64_t)q->ask.wait_ms + c->control.timeout_ms + c->redis.timeout_ms + RESOLVE_TIMEOUT_MS +
			    REGION_DEADLINE_MS);
	lookup_ask(q->region, q);
}

static void request_unlink(struct request *q)
{
	struct lookup *l = q->lookup;

	timer_stop(q->region->ring, &q->deadline);
	list_del(&q->node);
	q->lookup = NULL;
	if (l)
		lookup_leave(l);
}

static void on_cancel(struct ring *ring, struct mail *m)
{
	struct request *q = CONTAINER_OF(m, struct request, cancel);

	request_unlink(q);
	request_free(q);
}

void request_answer(struct request *q, struct answer *a)
{
	request_unlink(q);
	atomic_fetch_add(&a->refs, 1);
	q->answer = a;
	q->mail.on_mail = on_reply;
	if (request_move(q, REQUEST_ANSWERED))
		ring_post(q->ring, q->region->ring, &q->mail);
	/* Else its cancel is on the way here. */
}

/* What is said when there is no memory for an answer of its own. */
static struct answer no_memory = {.refs = 1, .verdict = VERDICT_UNAVAILABLE, .reason = TEMPORARILY_UNAVAILABLE};

void request_fail(struct request *q, const char *reason)
{
	struct answer *a = answer_new(VERDICT_UNAVAILABLE);

	atomic_fetch_add(&q->region->counters.unavailable, 1);
	if (!a) {
		request_answer(q, &no_memory);
		return;
	}
	snprintf(a->reason, sizeof(a->reason), "%s", reason[0] ? reason : no_memory.reason);
	request_answer(q, a);
	answer_put(a);
}

void requests_free(struct region *r)
{
	while (!list_is_empty(&r->requests))
		request_free(CONTAINER_OF(r->requests.next, struct request, registered));
}
