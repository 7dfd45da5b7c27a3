/*
 * upstream/redis/cache.c - reads, and what the owner is told. See cache.h, and internal.h for the other parts.
 */
#include "upstream/redis/internal.h"

#include <errno.h>
#include <sodium.h>

/* One cache_read on its way: an MGET, or in a Cluster a GET for each name. */
struct read_op {
	struct cache *cache;
	struct cache_read *q; /* NULL: cancelled, or told that it failed */
	uint64_t deadline_us; /* no redirection after that */
	uint32_t left;        /* calls that are not done */
	redisReply *replies[CACHE_READ_KEYS_MAX];
};

/* --- servers --- */

struct node *cache_node(struct cache *c, const char *name)
{
	struct node *n = &c->node;

	if (c->cluster) {
		uint32_t at = c->cluster->slots[slot_of(bytes_str(name))];

		n = at > 0 ? c->cluster->nodes[at - 1] : NULL;
	}
	return n && node_is_up(n) ? n : NULL;
}

void cache_each_up(struct cache *c, void (*f)(struct cache *c, struct node *n))
{
	if (!c->cluster && node_is_up(&c->node))
		f(c, &c->node);
	for (uint32_t i = 0; c->cluster && i < CLUSTER_NODES_MAX; i++)
		if (c->cluster->nodes[i] && node_is_up(c->cluster->nodes[i]))
			f(c, c->cluster->nodes[i]);
}

void cache_judge(struct cache *c, struct node *n, const redisReply *reply)
{
	bool is_redirected = reply_is_error(reply, "MOVED") || reply_is_error(reply, "ASK");

	if (c->cluster && (is_redirected || reply_is_error(reply, "CLUSTERDOWN")))
		cluster_ask(c->cluster);
	else
		node_judge(n, reply);
}

static void on_up(struct node *n)
{
	struct cache *c = n->owner;

	if (n->connect_count > 1)
		c->stats.reconnects++;
	if (c->events.on_up)
		c->events.on_up(c->owner);
}

static void on_down(struct node *n, bool was_up, const char *why)
{
	struct cache *c = n->owner;
	char text[256], where[ENDPOINT_TEXT_MAX];

	if (c->target.kind == TARGET_SENTINELS)
		sentinel_ask(&c->sentinel);
	if (c->cluster)
		cluster_ask(c->cluster);
	if (!n->is_news || !c->events.on_down)
		return;
	snprintf(text, sizeof(text), "%.90s: %s", endpoint_text(&n->endpoint, where), why);
	c->events.on_down(c->owner, text);
}

static void invalidate(struct cache *c, struct bytes name)
{
	c->stats.invalidations++;
	if (c->events.on_invalidated)
		c->events.on_invalidated(c->owner, name);
}

/* [invalidate, names or nil]. What makes no sense counts as everything. */
static void on_push(struct node *n, const redisReply *push)
{
	struct cache *c = n->owner;
	const redisReply *names;

	if (push->elements < 1 || !bytes_is(reply_bytes(push->element[0]), "invalidate"))
		return;
	names = push->elements == 2 ? push->element[1] : NULL;
	if (!names || names->type != REDIS_REPLY_ARRAY) {
		invalidate(c, (struct bytes){0});
		return;
	}
	for (size_t i = 0; i < names->elements && !c->is_freeing; i++)
		invalidate(c, reply_bytes(names->element[i]));
}

static void on_stopped(struct node *n)
{
	struct cache *c = n->owner;

	if (c->cluster)
		cluster_forget(c->cluster, n);
	cache_check_freed(c);
}

const struct node_events cache_node_events = {
	.on_up = on_up,
	.on_down = on_down,
	.on_push = on_push,
	.on_stopped = on_stopped,
};

/* --- reads --- */

static void read_tell(struct cache *c, struct cache_read *q, enum cache_result result)
{
	list_del(&q->node);
	q->pending = NULL;
	q->result = result;
	c->stats.in_flight--;
	if (result == CACHE_FAILED) {
		c->stats.failures++;
		memset(q->values, 0, sizeof(q->values));
	}
	q->on_done(q);
}

static void op_free(struct read_op *op)
{
	for (size_t i = 0; i < ARRAY_LEN(op->replies); i++)
		if (op->replies[i])
			freeReplyObject(op->replies[i]);
	free(op);
}

static void op_fail(struct read_op *op)
{
	struct cache_read *q = op->q;

	op->q = NULL;
	if (q)
		read_tell(op->cache, q, CACHE_FAILED);
}

/* A string of a size that a record may have. */
static struct bytes value_of(struct cache *c, const redisReply *r)
{
	if (r->type == REDIS_REPLY_NIL)
		return (struct bytes){0};
	if (r->type != REDIS_REPLY_STRING || r->len > RECORD_VALUE_MAX) {
		c->stats.wrong += !reply_is_error(r, "ASK");
		return (struct bytes){0};
	}
	c->stats.hits++;
	return reply_bytes(r);
}

static void op_finish(struct read_op *op)
{
	struct cache *c = op->cache;
	struct cache_read *q = op->q;

	if (q) {
		for (uint32_t i = 0; i < q->count; i++)
			q->values[i] = value_of(c, c->cluster ? op->replies[i] : op->replies[0]->element[i]);
		op->q = NULL;
		read_tell(c, q, CACHE_DONE);
	}
	op_free(op);
}

static void op_done(struct read_op *op)
{
	if (--op->left == 0)
		op_finish(op);
}

static void on_value(struct node *n, void *ctx, uint32_t index, redisReply **reply);

static int send_get(struct node *n, struct read_op *op, uint32_t index)
{
	const char *argv[] = {"GET", op->q->names[index]};

	return node_send(n, 2, argv, NULL, on_value, op, index);
}

/* An error in answer to a GET: true when the read goes on in spite of it. */
static bool value_goes_on(struct node *n, struct read_op *op, uint32_t index, redisReply **reply)
{
	struct cache *c = op->cache;
	struct node *to;

	/* Of the wrong type: absent. On its way to another server: so it is, for us; the next read finds it there. */
	if (reply_is_error(*reply, "WRONGTYPE") || reply_is_error(*reply, "ASK")) {
		op->replies[index] = *reply;
		*reply = NULL;
		return true;
	}
	if (!reply_is_error(*reply, "MOVED"))
		return false;
	to = cluster_moved(c->cluster, n, *reply);
	if (!to || to == n || !op->q || ring_now_us(c->ring) >= op->deadline_us || send_get(to, op, index) < 0)
		return false;
	op->left++;
	return true;
}

/* In a Cluster. */
static void on_value(struct node *n, void *ctx, uint32_t index, redisReply **reply)
{
	struct read_op *op = ctx;
	redisReply *r = *reply;

	if (r && r->type == REDIS_REPLY_ERROR) {
		if (!value_goes_on(n, op, index, reply)) {
			op_fail(op);
			cache_judge(op->cache, n, r);
		}
	} else if (r) {
		op->replies[index] = r;
		*reply = NULL;
	} else {
		op_fail(op);
	}
	op_done(op);
}

static void on_values(struct node *n, void *ctx, uint32_t index, redisReply **reply)
{
	struct read_op *op = ctx;
	redisReply *r = *reply;

	if (op->q && r && reply_is_array(r, op->q->count)) {
		op->replies[0] = r;
		*reply = NULL;
	} else {
		op_fail(op);
		if (r && r->type == REDIS_REPLY_ERROR)
			cache_judge(op->cache, n, r);
	}
	op_done(op);
}

static int send_mget(struct node *n, struct read_op *op)
{
	const struct cache_read *q = op->q;
	const char *argv[1 + CACHE_READ_KEYS_MAX] = {"MGET"};

	for (uint32_t i = 0; i < q->count; i++)
		argv[1 + i] = q->names[i];
	return node_send(n, 1 + (int)q->count, argv, NULL, on_values, op, 0);
}

/* Sends what is to be sent; op->left counts it. Negative where not all could be. */
static int op_send(struct read_op *op)
{
	struct cache *c = op->cache;
	const struct cache_read *q = op->q;
	int rc = 0;

	if (!c->cluster) {
		rc = node_is_up(&c->node) ? send_mget(&c->node, op) : -ENOTCONN;
		op->left += rc == 0;
		return rc;
	}
	for (uint32_t i = 0; i < q->count && rc == 0; i++) {
		struct node *n = cache_node(c, q->names[i]);

		rc = n ? send_get(n, op, i) : -ENOTCONN;
		op->left += rc == 0;
	}
	return rc;
}

static int read_start(struct cache *c, struct cache_read *q)
{
	struct read_op *op = calloc(1, sizeof(*op));
	int rc;

	if (!op)
		return -ENOMEM;
	op->cache = c;
	op->q = q;
	op->deadline_us = ring_now_us(c->ring) + (uint64_t)c->options.timeout_ms * 1000;
	rc = op_send(op);
	if (rc < 0) {
		/* Answers to what was sent all the same find nobody. */
		op->q = NULL;
		if (op->left == 0)
			op_free(op);
		return rc;
	}
	q->pending = op;
	list_add_tail(&c->reads, &q->node);
	return 0;
}

void cache_get(struct cache *c, struct cache_read *q)
{
	ASSERT(!c->is_freeing && q->count > 0 && q->count <= CACHE_READ_KEYS_MAX);
	list_init(&q->node);
	q->pending = NULL;
	memset(q->values, 0, sizeof(q->values));
	c->stats.reads++;
	c->stats.in_flight++;
	if (read_start(c, q) == 0)
		return;
	list_add_tail(&c->failed, &q->node);
	deferred_ask(c->ring, &c->work);
}

static void read_drop(struct cache *c, struct cache_read *q)
{
	struct read_op *op = q->pending;

	list_del(&q->node);
	q->pending = NULL;
	c->stats.in_flight--;
	if (op)
		op->q = NULL;
}

void cache_cancel(struct cache *c, struct cache_read *q)
{
	/* In no list: it is done, or being told. */
	if (!list_is_empty(&q->node))
		read_drop(c, q);
}

static void on_work(struct deferred *d)
{
	struct cache *c = CONTAINER_OF(d, struct cache, work);

	/* What a callback asks for is told in the next round. */
	for (struct list *last = c->failed.prev; !list_is_empty(&c->failed);) {
		struct list *first = c->failed.next;

		read_tell(c, CONTAINER_OF(first, struct cache_read, node), CACHE_FAILED);
		if (first == last)
			break;
	}
	if (!list_is_empty(&c->failed))
		deferred_ask(c->ring, &c->work);
	if (c->is_freeing)
		cache_check_freed(c);
}

/* --- the cache --- */

static int cache_prepare(struct cache *c, const struct cache_options *o, char ret_error[256])
{
	int rc = target_parse(o->url, &c->target, ret_error);

	if (rc == 0 && o->password_file)
		rc = target_load_password(&c->target, o->password_file, ret_error);
	if (rc == 0 && c->target.is_tls)
		rc = tls_context_new(o->ca_file, &c->tls, ret_error);
	if (rc == 0 && sodium_init() < 0) {
		snprintf(ret_error, 256, "libsodium cannot be initialized");
		rc = -EIO;
	}
	if (rc == 0 && c->target.kind == TARGET_CLUSTER) {
		c->cluster = cluster_new(c);
		if (!c->cluster) {
			snprintf(ret_error, 256, "out of memory");
			rc = -ENOMEM;
		}
	}
	return rc;
}

static void cache_destroy(struct cache *c)
{
	cluster_free(c->cluster);
	tls_context_free(c->tls);
	target_wipe(&c->target);
	free(c);
}

static void cache_start(struct cache *c)
{
	switch (c->target.kind) {
	case TARGET_SERVER:
		node_point(&c->node, &c->target.endpoints[0]);
		break;
	case TARGET_SENTINELS:
		sentinel_start(&c->sentinel);
		break;
	case TARGET_CLUSTER:
		cluster_start(c->cluster);
		break;
	}
}

int cache_new(struct ring *r, const struct cache_options *o, const struct cache_events *events, void *owner,
	      struct cache **ret_cache, char ret_error[256])
{
	struct cache *c = aligned_alloc(_Alignof(struct cache), sizeof(*c));
	int rc;

	if (!c) {
		snprintf(ret_error, 256, "out of memory");
		return -ENOMEM;
	}
	*c = (struct cache){.ring = r, .events = *events, .owner = owner};
	c->options = (struct node_options){
		.target = &c->target, .connect_timeout_ms = o->connect_timeout_ms, .timeout_ms = o->timeout_ms};
	list_init(&c->reads);
	list_init(&c->failed);
	list_init(&c->scans);
	deferred_init(&c->work, on_work);
	rc = cache_prepare(c, o, ret_error);
	if (rc < 0) {
		cache_destroy(c);
		return rc;
	}
	c->options.tls = c->tls;
	node_init(&c->node, r, &c->options, c->target.kind == TARGET_SENTINELS ? NODE_MASTER : NODE_SERVER,
		  &cache_node_events, c);
	sentinel_init(&c->sentinel, c);
	fill_init(c);
	cache_start(c);
	*ret_cache = c;
	return 0;
}

void cache_check_freed(struct cache *c)
{
	void (*on_freed)(void *owner) = c->on_freed;
	void *owner = c->owner;

	if (!c->is_freeing || c->node.state != NODE_STOPPED || c->sentinel.node.state != NODE_STOPPED ||
	    (c->cluster && !cluster_is_stopped(c->cluster)))
		return;
	deferred_cancel(&c->work);
	cache_destroy(c);
	if (on_freed)
		on_freed(owner);
}

static void drop_all(struct cache *c, struct list *reads)
{
	while (!list_is_empty(reads))
		read_drop(c, CONTAINER_OF(reads->next, struct cache_read, node));
}

void cache_free(struct cache *c, void (*on_freed)(void *owner))
{
	ASSERT(!c->is_freeing);
	c->is_freeing = true;
	c->on_freed = on_freed;
	c->events = (struct cache_events){0};
	drop_all(c, &c->reads);
	drop_all(c, &c->failed);
	node_stop(&c->node);
	sentinel_stop(&c->sentinel);
	if (c->cluster)
		cluster_stop(c->cluster);
	/* Where nothing runs, nothing stops. */
	deferred_ask(c->ring, &c->work);
}

static uint32_t cluster_count(const struct cluster *cl, uint32_t *ret_up)
{
	uint32_t count = 0;

	*ret_up = 0;
	for (uint32_t i = 0; i < CLUSTER_NODES_MAX; i++) {
		count += cl->nodes[i] != NULL;
		*ret_up += cl->nodes[i] && node_is_up(cl->nodes[i]);
	}
	return count;
}

void cache_stats(const struct cache *c, struct cache_stats *ret)
{
	char where[ENDPOINT_TEXT_MAX];
	uint32_t count, up;

	*ret = c->stats;
	if (c->cluster) {
		count = cluster_count(c->cluster, &up);
		ret->is_up = count > 0 && up == count;
		snprintf(ret->server, sizeof(ret->server), "a Cluster, %u of %u masters", up, count);
		return;
	}
	ret->is_up = node_is_up(&c->node);
	if (c->node.state != NODE_STOPPED)
		snprintf(ret->server, sizeof(ret->server), "%.120s", endpoint_text(&c->node.endpoint, where));
	else
		ret->server[0] = 0;
}
