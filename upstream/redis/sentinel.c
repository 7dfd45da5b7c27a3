/*
 * upstream/redis/sentinel.c - which server is the master: asked of one Sentinel after the other until one knows.
 *
 * A connection to one of them stays. It is asked when it is made, when the master does not answer, and from time to time; and it
 * tells by itself of a failover (+switch-master). What it says is only where to go: the server there must say that it is a
 * master (node_hello.c).
 */
#include "upstream/redis/internal.h"

static void on_master(struct node *n, void *ctx, uint32_t index, redisReply **reply);

/* --- moving on to another Sentinel --- */

static void try_next(struct sentinel *s)
{
	const struct target *t = &s->cache->target;

	s->failed_count++;
	s->index = (s->index + 1) % t->endpoint_count;
	/* Each is tried once at once; a round later they get time. */
	if (s->failed_count < t->endpoint_count)
		node_point(&s->node, &t->endpoints[s->index]);
	else
		node_aim(&s->node, &t->endpoints[s->index]);
}

static void query(struct sentinel *s)
{
	const char *argv[] = {"SENTINEL", "get-master-addr-by-name", s->cache->target.master};

	s->asked_us = ring_now_us(s->cache->ring);
	timer_start(s->cache->ring, &s->refresh, SENTINEL_REFRESH_MS);
	if (node_send(&s->node, ARRAY_LEN(argv), argv, NULL, on_master, s, 0) < 0)
		node_fail(&s->node, "its pipeline is full");
}

static void on_refresh(struct timer *t)
{
	struct sentinel *s = CONTAINER_OF(t, struct sentinel, refresh);

	if (node_is_up(&s->node))
		query(s);
}

void sentinel_ask(struct sentinel *s)
{
	uint64_t since_us = ring_now_us(s->cache->ring) - s->asked_us;

	/* One that is not up asks when it is. */
	if (!node_is_up(&s->node))
		return;
	if (since_us >= SENTINEL_REFRESH_MIN_MS * 1000ULL)
		query(s);
	else
		timer_start(s->cache->ring, &s->refresh, SENTINEL_REFRESH_MIN_MS);
}

/* --- what it says --- */

static void master_is(struct sentinel *s, struct bytes host, struct bytes port)
{
	struct endpoint e;
	uint64_t number;

	if (record_version_parse(port, &number) && endpoint_set(&e, host, number))
		node_point(&s->cache->node, &e);
}

/* [host, port], or nil where it does not know the name. */
static void on_master(struct node *n, void *ctx, uint32_t index, redisReply **reply)
{
	struct sentinel *s = ctx;
	const redisReply *r = *reply;

	if (!r)
		return;
	if (reply_is_array(r, 2)) {
		s->failed_count = 0;
		master_is(s, reply_bytes(r->element[0]), reply_bytes(r->element[1]));
		return;
	}
	node_fail(n, r->type == REDIS_REPLY_ERROR ? "it does not answer as a Sentinel"
						  : "it does not know this master's name");
}

static struct bytes take_word(struct bytes *b)
{
	const uint8_t *space = b->n > 0 ? memchr(b->p, ' ', b->n) : NULL;
	struct bytes word = bytes_of(b->p, space ? (size_t)(space - b->p) : b->n);
	size_t skip = word.n + (space ? 1 : 0);

	*b = bytes_of(b->p + skip, b->n - skip);
	return word;
}

/* [message, +switch-master, "NAME OLD-HOST OLD-PORT NEW-HOST NEW-PORT"] */
static void on_push(struct node *n, const redisReply *push)
{
	struct sentinel *s = CONTAINER_OF(n, struct sentinel, node);
	struct bytes text, host, port;

	if (!reply_is_array(push, 3) || !bytes_is(reply_bytes(push->element[0]), "message") ||
	    !bytes_is(reply_bytes(push->element[1]), "+switch-master"))
		return;
	text = reply_bytes(push->element[2]);
	if (!bytes_is(take_word(&text), s->cache->target.master))
		return;
	(void)take_word(&text);
	(void)take_word(&text);
	host = take_word(&text);
	port = take_word(&text);
	master_is(s, host, port);
}

/* --- its connection --- */

static void on_up(struct node *n)
{
	struct sentinel *s = CONTAINER_OF(n, struct sentinel, node);
	const char *argv[] = {"SUBSCRIBE", "+switch-master"};

	query(s);
	if (node_send_unanswered(n, ARRAY_LEN(argv), argv) < 0)
		node_fail(n, "its pipeline is full");
}

static void on_down(struct node *n, bool was_up, const char *why)
{
	struct sentinel *s = CONTAINER_OF(n, struct sentinel, node);
	struct cache *c = s->cache;
	char text[256], where[ENDPOINT_TEXT_MAX];

	/* Only where there is no master to talk to is it news for the owner. */
	if (n->is_news && !node_is_up(&c->node) && c->events.on_down) {
		snprintf(text, sizeof(text), "Sentinel %.80s: %s", endpoint_text(&n->endpoint, where), why);
		c->events.on_down(c->owner, text);
	}
	try_next(s);
}

static void on_stopped(struct node *n)
{
	cache_check_freed(CONTAINER_OF(n, struct sentinel, node)->cache);
}

static const struct node_events sentinel_events = {
	.on_up = on_up,
	.on_down = on_down,
	.on_push = on_push,
	.on_stopped = on_stopped,
};

void sentinel_init(struct sentinel *s, struct cache *c)
{
	s->cache = c;
	timer_init(&s->refresh, on_refresh);
	node_init(&s->node, c->ring, &c->options, NODE_SENTINEL, &sentinel_events, c);
}

void sentinel_start(struct sentinel *s)
{
	node_point(&s->node, &s->cache->target.endpoints[0]);
}

void sentinel_stop(struct sentinel *s)
{
	timer_stop(s->cache->ring, &s->refresh);
	node_stop(&s->node);
}
