/*
 * gateway/region_directory.c - the operations of a region's directory, its thread, and what L1 answers at once.
 */
#include "gateway/region_directory.h"

#include "core/log.h"
#include "gateway/region_internal.h"
#include "gateway/secret_file.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

/* --- what L1 knows --- */

static bool recall_key(struct region *r, const struct ask *a, uint64_t now_ms, struct answer *ret)
{
	char name[L1_NAME_MAX];
	int n;

	record_key_name(a->fingerprint, name);
	n = l1_get(r->l1, L1_KEY, name, now_ms, ret->grants, sizeof(ret->grants));
	if (n < 0)
		return false;
	ret->grant_count = (uint32_t)((size_t)n / sizeof(ret->grants[0]));
	return true;
}

/* Where it is, and one of the grants of which it is known that it lets its user in. */
static bool recall_route(struct region *r, const struct ask *a, uint64_t now_ms, struct answer *ret)
{
	char name[L1_NAME_MAX], error[128];
	struct kept_route kept;

	record_route_name(a->sandbox, name);
	if (l1_get(r->l1, L1_ROUTE, name, now_ms, &kept, sizeof(kept)) < 0)
		return false;
	ret->route = kept.route;
	for (uint32_t i = 0; i < a->grant_count; i++) {
		record_grant_name(a->sandbox, &a->grants[i], name);
		if (l1_get(r->l1, L1_GRANT, name, now_ms, NULL, 0) < 0)
			continue;
		ret->route.grant = a->grants[i];
		/* It was read before it was kept: there is no memory, or all is well. */
		return policies_read(kept.policy, &ret->team_policy, &ret->sandbox_policy, error, sizeof(error)) == 0;
	}
	return false;
}

bool region_recall(struct region *r, const struct ask *a, uint64_t now_ms, struct answer *ret)
{
	char name[L1_NAME_MAX];

	ret->team_policy = ret->sandbox_policy = NULL;
	if (a->how != ASK_ANYBODY)
		return false;
	ret->verdict = VERDICT_YES;
	ret->reason[0] = 0;
	ret->grant_count = 0;
	if (a->kind == ASK_KEY ? recall_key(r, a, now_ms, ret) : recall_route(r, a, now_ms, ret))
		return true;
	ret->verdict = VERDICT_NO;
	no_name(a, name);
	return l1_get(r->l1, L1_NO, name, now_ms, NULL, 0) >= 0;
}

/* --- questions, on the asker's thread --- */

static bool ask_send(struct region *r, const struct ask *a, struct ring *ring, void *query)
{
	atomic_fetch_add(&r->counters.requests, 1);
	if (request_send(r, a, ring, query))
		return true;
	atomic_fetch_add(&r->counters.refused, 1);
	return false;
}

static struct ask ask_of_key(const struct key_query *q)
{
	struct ask a = {.kind = ASK_KEY, .how = q->is_check ? ASK_SOURCE : ASK_ANYBODY};

	memcpy(a.fingerprint, q->fingerprint, sizeof(a.fingerprint));
	return a;
}

static bool key_recall(struct directory *d, struct key_query *q)
{
	struct region *r = CONTAINER_OF(d, struct region, base);
	struct ask a = ask_of_key(q);
	struct answer known;

	q->reason[0] = 0;
	q->grant_count = 0;
	q->pending = NULL;
	if (!region_recall(r, &a, ring_now_us(q->ring) / 1000, &known))
		return false;
	q->verdict = known.verdict;
	q->grant_count = known.grant_count;
	memcpy(q->grants, known.grants, known.grant_count * sizeof(known.grants[0]));
	return true;
}

static void key_find(struct directory *d, struct key_query *q)
{
	struct region *r = CONTAINER_OF(d, struct region, base);
	struct ask a = ask_of_key(q);

	if (key_recall(d, q)) {
		q->on_done(q);
	} else if (!ask_send(r, &a, q->ring, q)) {
		q->verdict = VERDICT_UNAVAILABLE;
		strcpy(q->reason, "too many look-ups");
		q->on_done(q);
	}
}

static void route_find(struct directory *d, struct route_query *q)
{
	struct region *r = CONTAINER_OF(d, struct region, base);
	struct ask a = {.kind = ASK_ROUTE, .grants = q->grants, .grant_count = q->grant_count, .wait_ms = q->wait_ms};
	struct answer known;

	a.how = q->is_check ? ASK_CHECK : q->is_retry ? ASK_SOURCE : ASK_ANYBODY;
	memcpy(a.fingerprint, q->fingerprint, sizeof(a.fingerprint));
	memcpy(a.sandbox, q->sandbox, sizeof(a.sandbox));
	q->reason[0] = 0;
	q->pending = NULL;
	if (region_recall(r, &a, ring_now_us(q->ring) / 1000, &known)) {
		q->verdict = known.verdict;
		q->route = known.route;
		q->team_policy = known.team_policy;
		q->sandbox_policy = known.sandbox_policy;
		q->on_done(q);
		policy_put(known.team_policy);
		policy_put(known.sandbox_policy);
	} else if (!ask_send(r, &a, q->ring, q)) {
		q->verdict = VERDICT_UNAVAILABLE;
		strcpy(q->reason, "too many look-ups");
		q->on_done(q);
	}
}

static void key_cancel(struct directory *d, struct key_query *q)
{
	if (q->pending)
		request_cancel(q->pending);
	q->pending = NULL;
}

static void route_cancel(struct directory *d, struct route_query *q)
{
	if (q->pending)
		request_cancel(q->pending);
	q->pending = NULL;
}

/* --- the thread --- */

static void on_control_state(void *owner, bool is_up, const char *why)
{
	struct region *r = owner;

	if (r->is_control_up == is_up)
		return;
	r->is_control_up = is_up;
	r->control_since_us = ring_now_us(r->ring);
	log_event(is_up ? LOG_INFO : LOG_WARN, "control", LOG_STR("state", is_up ? "up" : "down"),
		  LOG_STR("why", why ? why : ""));
}

static const char *or_null(const char *text)
{
	return text[0] ? text : NULL;
}

static void on_client_freed(void *owner)
{
	struct region *r = owner;

	if (--r->client_count == 0)
		ring_stop(r->ring);
}

/* Which settings are wrong, before what is wrong. */
static int refuse(int rc, const char *settings, const char *why, char ret_error[256])
{
	snprintf(ret_error, 256, "%s: %.200s", settings, why);
	return rc;
}

static int make_clients(struct region *r, char ret_error[256])
{
	const struct config *c = r->config;
	struct control_options control = {
		.url = c->control.url,
		.ca_file = or_null(c->control.ca_file),
		.name = c->name,
		.secret = r->control_secret,
		.connect_timeout_ms = c->control.connect_timeout_ms,
		.timeout_ms = c->control.timeout_ms,
		.connection_count = c->control.connections,
		.on_state = on_control_state,
		.on_freed = on_client_freed,
		.owner = r,
	};
	struct cache_options cache = {
		.url = c->redis.url,
		.password_file = or_null(c->redis.password_file),
		.ca_file = or_null(c->redis.ca_file),
		.connect_timeout_ms = c->redis.connect_timeout_ms,
		.timeout_ms = c->redis.timeout_ms,
	};
	char error[256] = "";
	int rc = control_client_new(r->ring, &control, &r->control, error);

	if (rc < 0)
		return refuse(rc, "control", error, ret_error);
	r->client_count++;
	if (!r->has_redis)
		return 0;
	rc = cache_new(r->ring, &cache, &region_cache_events, r, &r->cache, error);
	if (rc < 0)
		return refuse(rc, "redis", error, ret_error);
	r->client_count++;
	return 0;
}

/* Nothing is answered from here on; what the clients have in flight is waited for. */
static void end_clients(struct region *r)
{
	feed_stop(r);
	lookups_end(r);
	control_client_free(r->control);
	r->control = NULL;
	if (r->cache)
		cache_free(r->cache, on_client_freed);
	r->cache = NULL;
}

static void on_stop(struct ring *ring, struct mail *m)
{
	end_clients(CONTAINER_OF(m, struct region, stop));
}

static void *region_main(void *arg)
{
	struct region *r = arg;
	int rc;

	pthread_setname_np(pthread_self(), "directory");
	feed_start(r);
	rc = ring_run(r->ring);
	if (rc < 0)
		log_event(LOG_ERROR, "ring", LOG_STR("thread", "directory"), LOG_STR("error", strerror(-rc)));
	return NULL;
}

static int region_start(struct directory *d, char ret_error[256])
{
	struct region *r = CONTAINER_OF(d, struct region, base);
	int rc = -pthread_create(&r->thread, NULL, region_main, r);

	if (rc < 0)
		snprintf(ret_error, 256, "cannot make a thread: %s", strerror(-rc));
	else
		r->is_running = true;
	return rc;
}

static void region_stop(struct directory *d)
{
	struct region *r = CONTAINER_OF(d, struct region, base);

	if (!r->is_running)
		return;
	r->stop.on_mail = on_stop;
	ring_post(r->ring, NULL, &r->stop);
	pthread_join(r->thread, NULL);
	r->is_running = false;
}

static void region_free(struct directory *d)
{
	struct region *r;

	if (!d)
		return;
	r = CONTAINER_OF(d, struct region, base);
	region_stop(d);
	if (r->client_count > 0) { /* it never ran */
		end_clients(r);
		if (ring_run(r->ring) < 0)
			log_event(LOG_ERROR, "ring", LOG_STR("thread", "directory"), LOG_STR("error", "broken"));
	}
	requests_free(r);
	ring_free(r->ring);
	l1_free(r->l1);
	sodium_memzero(r->record_secret, sizeof(r->record_secret));
	pthread_mutex_destroy(&r->requests_lock);
	region_status_deinit(r);
	free(r->revisions);
	free(r);
}

static const struct directory_ops region_ops = {
	.key_find = key_find,
	.key_recall = key_recall,
	.route_find = route_find,
	.key_cancel = key_cancel,
	.route_cancel = route_cancel,
	.start = region_start,
	.stop = region_stop,
	.free = region_free,
};

static int make_parts(struct region *r, char ret_error[256])
{
	const struct config *c = r->config;
	struct l1_options l1 = {.entries = {
					[L1_KEY] = c->cache.keys,
					[L1_ROUTE] = c->cache.routes,
					[L1_GRANT] = c->cache.routes,
					[L1_NO] = c->cache.unknown,
				}};
	char error[256] = "";
	int rc;

	snprintf(ret_error, 256, "out of memory");
	r->revisions = calloc(REGION_REVISIONS, sizeof(*r->revisions));
	r->l1 = l1_new(&l1);
	if (!r->revisions || !r->l1)
		return -ENOMEM;
	if (r->has_redis) {
		rc = secret_file_load(c->redis.secret_file, r->record_secret, error);
		if (rc < 0)
			return refuse(rc, "redis.secret_file", error, ret_error);
	}
	rc = ring_new(&(struct ring_options){.recv_buffer_count = 16, .recv_buffer_bytes = 16 * 1024}, &r->ring);
	if (rc < 0) {
		snprintf(ret_error, 256, "%s", ring_explain(rc));
		return rc;
	}
	r->control_since_us = r->redis_since_us = ring_now_us(r->ring);
	return make_clients(r, ret_error);
}

int region_directory_new(const struct config *c, const uint8_t *control_secret, struct directory **ret_directory,
			 char ret_error[256])
{
	struct region *r = calloc(1, sizeof(*r));
	int rc;

	if (!r) {
		snprintf(ret_error, 256, "out of memory");
		return -ENOMEM;
	}
	r->base.ops = &region_ops;
	r->config = c;
	r->control_secret = control_secret;
	r->has_redis = c->redis.url[0] != 0;
	r->is_control_up = true; /* until shown otherwise */
	pthread_mutex_init(&r->requests_lock, NULL);
	region_status_init(r);
	list_init(&r->requests);
	for (uint32_t i = 0; i < REGION_LOOKUP_BUCKETS; i++)
		list_init(&r->lookups[i]);
	rc = make_parts(r, ret_error);
	if (rc < 0) {
		region_free(&r->base);
		return rc;
	}
	*ret_directory = &r->base;
	return 0;
}
