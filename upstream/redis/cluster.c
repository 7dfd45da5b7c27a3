/*
 * upstream/redis/cluster.c - which server has which slot, and a connection to each master.
 *
 * The slots are asked of a connection of its own (topology): of one seed or master after the other until one answers; then when a
 * command was redirected or a master is lost, and from time to time. Masters that are in no answer any more are let go.
 */
#include "upstream/redis/internal.h"
#include "upstream/redis/view.h"

#include <errno.h>

_Static_assert(CLUSTER_NODES_MAX < UINT8_MAX, "a slot's entry has a byte");

static void on_slots(struct node *n, void *ctx, uint32_t index, redisReply **reply);

/* --- asking --- */

static void query(struct cluster *cl)
{
	const char *argv[] = {"CLUSTER", "SLOTS"};

	cl->asked_us = ring_now_us(cl->cache->ring);
	timer_start(cl->cache->ring, &cl->refresh, CLUSTER_REFRESH_MS);
	if (node_send(&cl->topology, ARRAY_LEN(argv), argv, NULL, on_slots, cl, 0) < 0)
		node_fail(&cl->topology, "its pipeline is full");
}

static void on_refresh(struct timer *t)
{
	struct cluster *cl = CONTAINER_OF(t, struct cluster, refresh);

	if (node_is_up(&cl->topology))
		query(cl);
}

void cluster_ask(struct cluster *cl)
{
	uint64_t since_us = ring_now_us(cl->cache->ring) - cl->asked_us;
	uint64_t wait_ms = since_us >= CLUSTER_REFRESH_MIN_MS * 1000ULL ? 0 : CLUSTER_REFRESH_MIN_MS;

	/* One that is not up asks when it is. */
	if (!node_is_up(&cl->topology) || cl->cache->is_freeing)
		return;
	if (!timer_is_started(&cl->refresh) || wait_ms == 0 ||
	    cl->refresh.at_ms > ring_now_us(cl->cache->ring) / 1000 + wait_ms)
		timer_start(cl->cache->ring, &cl->refresh, wait_ms);
}

/* Seeds first, then the masters that are known. */
static bool candidate(const struct cluster *cl, uint32_t index, struct endpoint *ret)
{
	const struct target *t = &cl->cache->target;

	if (index < t->endpoint_count) {
		*ret = t->endpoints[index];
		return true;
	}
	index -= t->endpoint_count;
	if (index >= CLUSTER_NODES_MAX || !cl->nodes[index])
		return false;
	*ret = cl->nodes[index]->endpoint;
	return true;
}

static uint32_t candidate_count(const struct cluster *cl)
{
	uint32_t count = cl->cache->target.endpoint_count;

	for (uint32_t i = 0; i < CLUSTER_NODES_MAX; i++)
		count += cl->nodes[i] != NULL;
	return count;
}

static void try_next(struct cluster *cl)
{
	const uint32_t places = cl->cache->target.endpoint_count + CLUSTER_NODES_MAX;
	struct endpoint e;

	cl->failed_count++;
	do
		cl->index = (cl->index + 1) % places;
	while (!candidate(cl, cl->index, &e));
	/* Each is tried once at once; a round later they get time. */
	if (cl->failed_count < candidate_count(cl))
		node_point(&cl->topology, &e);
	else
		node_aim(&cl->topology, &e);
}

/* --- the masters --- */

static uint32_t node_find(const struct cluster *cl, const struct endpoint *e)
{
	for (uint32_t i = 0; i < CLUSTER_NODES_MAX; i++)
		if (cl->nodes[i] && endpoint_is_same(&cl->nodes[i]->endpoint, e))
			return i;
	return CLUSTER_NODES_MAX;
}

/* The index of a new one, or CLUSTER_NODES_MAX. */
static uint32_t node_add(struct cluster *cl, const struct endpoint *e)
{
	struct node *n;
	uint32_t i = 0;

	while (i < CLUSTER_NODES_MAX && cl->nodes[i])
		i++;
	n = i < CLUSTER_NODES_MAX ? aligned_alloc(_Alignof(struct node), sizeof(*n)) : NULL;
	if (!n)
		return CLUSTER_NODES_MAX;
	node_init(n, cl->cache->ring, &cl->cache->options, NODE_MASTER, &cache_node_events, cl->cache);
	cl->nodes[i] = n;
	node_point(n, e);
	return i;
}

static void node_leave(struct cluster *cl, uint32_t i)
{
	struct node *n = cl->nodes[i];

	cl->nodes[i] = NULL;
	cl->leaving_count++;
	/* It never is STOPPED while it stands in the table. */
	node_stop(n);
}

static void view_apply(struct cluster *cl, const struct view *v)
{
	uint8_t place[CLUSTER_NODES_MAX]; /* of each master of the view: 1 + index in nodes */

	/* The table first: calls that end may ask for others at once, or free the cache. */
	memset(cl->slots, 0, sizeof(cl->slots));
	for (uint32_t i = 0; i < CLUSTER_NODES_MAX; i++)
		if (cl->nodes[i] && !view_has(v, &cl->nodes[i]->endpoint))
			node_leave(cl, i);
	if (cl->cache->is_freeing)
		return;
	for (uint32_t i = 0; i < v->count; i++) {
		uint32_t at = node_find(cl, &v->masters[i]);

		if (at == CLUSTER_NODES_MAX)
			at = node_add(cl, &v->masters[i]);
		place[i] = at == CLUSTER_NODES_MAX ? 0 : (uint8_t)(at + 1);
	}
	for (uint32_t i = 0; i < SLOT_COUNT; i++)
		cl->slots[i] = v->slots[i] > 0 ? place[v->slots[i] - 1] : 0;
}

int cluster_take_slots(struct cluster *cl, const redisReply *reply)
{
	struct view *v = calloc(1, sizeof(*v));
	int rc;

	if (!v)
		return -ENOMEM;
	rc = view_take(v, reply, &cl->topology.endpoint);
	if (rc == 0)
		view_apply(cl, v);
	free(v);
	return rc;
}

static void on_slots(struct node *n, void *ctx, uint32_t index, redisReply **reply)
{
	struct cluster *cl = ctx;
	const redisReply *r = *reply;
	char why[NODE_WHY_MAX], code[REPLY_CODE_MAX];

	if (!r || cl->cache->is_freeing)
		return;
	if (r->type == REDIS_REPLY_ERROR) {
		snprintf(why, sizeof(why), "CLUSTER SLOTS: %s (is it a Cluster?)", reply_code(r, code));
		node_fail(n, why);
	} else if (cluster_take_slots(cl, r) < 0) {
		node_fail(n, "CLUSTER SLOTS: an answer that makes no sense");
	} else {
		cl->failed_count = 0;
	}
}

/* --- redirections --- */

/* "MOVED 3999 127.0.0.1:6381"; the host may be empty, and an IPv6 address has no brackets. */
static bool moved_parse(const redisReply *r, const struct endpoint *from, uint32_t *ret_slot, struct endpoint *ret_to)
{
	struct bytes text = reply_bytes(r), slot, host;
	const uint8_t *space, *colon;
	uint64_t slot_number, port;

	if (text.n < 6 || memcmp(text.p, "MOVED ", 6) != 0)
		return false;
	text = bytes_of(text.p + 6, text.n - 6);
	space = memchr(text.p, ' ', text.n);
	if (!space)
		return false;
	slot = bytes_of(text.p, (size_t)(space - text.p));
	text = bytes_of(space + 1, text.n - slot.n - 1);
	colon = memrchr(text.p, ':', text.n);
	if (!colon)
		return false;
	host = bytes_of(text.p, (size_t)(colon - text.p));
	if (host.n == 0)
		host = bytes_str(from->host);
	if (!record_version_parse(slot, &slot_number) || slot_number >= SLOT_COUNT ||
	    !record_version_parse(bytes_of(colon + 1, text.n - (size_t)(colon + 1 - text.p)), &port) ||
	    !endpoint_set(ret_to, host, port))
		return false;
	*ret_slot = (uint32_t)slot_number;
	return true;
}

struct node *cluster_moved(struct cluster *cl, struct node *from, const redisReply *moved)
{
	struct endpoint to;
	uint32_t slot, at;

	cluster_ask(cl);
	if (!moved_parse(moved, &from->endpoint, &slot, &to))
		return NULL;
	at = node_find(cl, &to);
	if (at == CLUSTER_NODES_MAX)
		return NULL;
	cl->slots[slot] = (uint8_t)(at + 1);
	return node_is_up(cl->nodes[at]) ? cl->nodes[at] : NULL;
}

/* --- the topology's connection --- */

static void on_up(struct node *n)
{
	query(CONTAINER_OF(n, struct cluster, topology));
}

static void on_down(struct node *n, bool was_up, const char *why)
{
	struct cluster *cl = CONTAINER_OF(n, struct cluster, topology);
	struct cache *c = cl->cache;
	char text[256], where[ENDPOINT_TEXT_MAX];
	struct cache_stats stats;

	/* Only where some master cannot be talked to is it news for the owner. */
	cache_stats(c, &stats);
	if (n->is_news && !stats.is_up && c->events.on_down) {
		snprintf(text, sizeof(text), "Cluster, %.80s: %s", endpoint_text(&n->endpoint, where), why);
		c->events.on_down(c->owner, text);
	}
	try_next(cl);
}

static void on_push(struct node *n, const redisReply *push)
{
}

static void on_stopped(struct node *n)
{
	cache_check_freed(CONTAINER_OF(n, struct cluster, topology)->cache);
}

static const struct node_events topology_events = {
	.on_up = on_up,
	.on_down = on_down,
	.on_push = on_push,
	.on_stopped = on_stopped,
};

/* --- life --- */

struct cluster *cluster_new(struct cache *c)
{
	struct cluster *cl = aligned_alloc(_Alignof(struct cluster), sizeof(*cl));

	if (!cl)
		return NULL;
	*cl = (struct cluster){.cache = c};
	timer_init(&cl->refresh, on_refresh);
	node_init(&cl->topology, c->ring, &c->options, NODE_TOPOLOGY, &topology_events, c);
	return cl;
}

void cluster_start(struct cluster *cl)
{
	node_point(&cl->topology, &cl->cache->target.endpoints[0]);
}

void cluster_stop(struct cluster *cl)
{
	timer_stop(cl->cache->ring, &cl->refresh);
	node_stop(&cl->topology);
	for (uint32_t i = 0; i < CLUSTER_NODES_MAX; i++)
		if (cl->nodes[i])
			node_leave(cl, i);
	memset(cl->slots, 0, sizeof(cl->slots));
}

bool cluster_is_stopped(const struct cluster *cl)
{
	return cl->topology.state == NODE_STOPPED && cl->leaving_count == 0;
}

void cluster_forget(struct cluster *cl, struct node *n)
{
	ASSERT(cl->leaving_count > 0);
	cl->leaving_count--;
	free(n);
}

void cluster_free(struct cluster *cl)
{
	free(cl);
}
