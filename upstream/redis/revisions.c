/*
 * upstream/redis/revisions.c - reading all rg:rev: names of the servers that are up.
 *
 *   SCAN a step ─► its names' values ─► on_revision for each ─► the next step, until the cursor is 0 again ─► on_revisions_done
 *
 * What cannot be read in full (too many names or steps, no permission, a late answer) is told as an invalidation of everything.
 *
 * Life: a scan lives until its last answer, which comes when its connection ends at the latest.
 */
#include "upstream/redis/internal.h"

#define CURSOR_MAX 20 /* digits of 64 bits */

struct scan {
	struct list node;
	struct cache *cache;
	struct node *server;
	char cursor[CURSOR_MAX + 1];
	uint32_t step_count, name_count;
	bool is_again;      /* asked for anew while it ran */
	redisReply *step;   /* the names being read; NULL before they came */
	const char **names; /* in step, those that count */
	uint32_t count, left;
};

static void scan_step(struct scan *s);

static void step_drop(struct scan *s)
{
	if (s->step)
		freeReplyObject(s->step);
	free(s->names);
	s->step = NULL;
	s->names = NULL;
	s->count = 0;
}

static void scan_free(struct scan *s)
{
	list_del(&s->node);
	step_drop(s);
	free(s);
}

static void scan_begin(struct scan *s)
{
	s->is_again = false;
	s->step_count = s->name_count = 0;
	snprintf(s->cursor, sizeof(s->cursor), "0");
	scan_step(s);
}

/* Of a server that is not up nobody needs to know: the owner asks again when it is. */
static void scan_give_up(struct scan *s)
{
	struct cache *c = s->cache;
	bool is_up = node_is_up(s->server);

	scan_free(s);
	if (!is_up || !c->events.on_invalidated)
		return;
	c->stats.invalidations++;
	c->events.on_invalidated(c->owner, (struct bytes){0});
}

static void scan_end(struct scan *s)
{
	struct cache *c = s->cache;

	if (s->is_again) {
		scan_begin(s);
		return;
	}
	scan_free(s);
	if (c->events.on_revisions_done)
		c->events.on_revisions_done(c->owner);
}

static void step_end(struct scan *s)
{
	bool is_last = strcmp(s->cursor, "0") == 0;

	step_drop(s);
	if (is_last)
		scan_end(s);
	else
		scan_step(s);
}

/* A number is told; what is none, and what is gone already, is told as a change. */
static void tell(struct scan *s, uint32_t i, const redisReply *r)
{
	struct cache *c = s->cache;
	struct bytes name = bytes_str(s->names[i]),
		     value = r->type == REDIS_REPLY_STRING ? reply_bytes(r) : (struct bytes){0};
	uint64_t version;

	if (record_version_parse(value, &version)) {
		if (c->events.on_revision)
			c->events.on_revision(c->owner, name, version);
	} else if (c->events.on_invalidated) {
		c->events.on_invalidated(c->owner, name);
	}
}

static void on_values(struct node *n, void *ctx, uint32_t index, redisReply **reply)
{
	struct scan *s = ctx;
	const redisReply *r = *reply;

	if (!r || !reply_is_array(r, s->count)) {
		scan_give_up(s);
		return;
	}
	for (uint32_t i = 0; i < s->count; i++)
		tell(s, i, r->element[i]);
	step_end(s);
}

/* In a Cluster: each name by itself. */
static void on_value(struct node *n, void *ctx, uint32_t index, redisReply **reply)
{
	struct scan *s = ctx;

	if (*reply)
		tell(s, index, *reply);
	else
		s->count = 0; /* given up when the others are done */
	if (--s->left > 0)
		return;
	if (s->count == 0)
		scan_give_up(s);
	else
		step_end(s);
}

static int send_mget(struct scan *s)
{
	const char **argv = malloc((s->count + 1) * sizeof(*argv));
	int rc;

	if (!argv)
		return -1;
	argv[0] = "MGET";
	memcpy(argv + 1, s->names, s->count * sizeof(*argv));
	rc = node_send(s->server, (int)s->count + 1, argv, NULL, on_values, s, 0);
	free(argv);
	return rc;
}

static int send_gets(struct scan *s)
{
	s->left = 0;
	for (uint32_t i = 0; i < s->count; i++) {
		const char *argv[] = {"GET", s->names[i]};

		if (node_send(s->server, 2, argv, NULL, on_value, s, i) < 0)
			break;
		s->left++;
	}
	if (s->left == s->count)
		return 0;
	/* What was sent is awaited. */
	s->count = 0;
	return s->left > 0 ? 0 : -1;
}

/* Of what a step gave, the names that can be revisions. */
static bool step_take_names(struct scan *s, const redisReply *list)
{
	if (list->elements > SCAN_STEP_NAMES_MAX)
		return false;
	s->count = 0;
	s->names = malloc((list->elements + 1) * sizeof(*s->names));
	if (!s->names)
		return false;
	for (size_t i = 0; i < list->elements; i++) {
		struct bytes name = reply_bytes(list->element[i]);

		if (name.n >= RECORD_NAME_MAX || name.n < strlen(RECORD_REV_PREFIX) ||
		    memcmp(name.p, RECORD_REV_PREFIX, strlen(RECORD_REV_PREFIX)) != 0 || memchr(name.p, 0, name.n))
			continue;
		s->names[s->count++] = list->element[i]->str;
	}
	s->name_count += s->count;
	return s->name_count <= CACHE_REVISIONS_MAX;
}

/* [cursor, names] */
static bool step_take(struct scan *s, redisReply **reply)
{
	redisReply *r = *reply;
	struct bytes cursor;

	if (!reply_is_array(r, 2) || r->element[1]->type != REDIS_REPLY_ARRAY)
		return false;
	cursor = reply_bytes(r->element[0]);
	if (!cursor.p || cursor.n == 0 || !bytes_copy_str(cursor, s->cursor, sizeof(s->cursor)))
		return false;
	s->step = r;
	*reply = NULL;
	return step_take_names(s, r->element[1]);
}

static void on_step(struct node *n, void *ctx, uint32_t index, redisReply **reply)
{
	struct scan *s = ctx;

	if (*reply && (*reply)->type == REDIS_REPLY_ERROR)
		cache_judge(s->cache, n, *reply);
	if (!*reply || !step_take(s, reply))
		scan_give_up(s);
	else if (s->count == 0)
		step_end(s);
	else if ((s->cache->cluster ? send_gets(s) : send_mget(s)) < 0)
		scan_give_up(s);
}

static void scan_step(struct scan *s)
{
	char count[16];
	const char *argv[] = {"SCAN", s->cursor, "MATCH", RECORD_REV_PREFIX "*", "COUNT", count};

	snprintf(count, sizeof(count), "%d", SCAN_COUNT);
	if (++s->step_count > SCAN_STEPS_MAX || node_send(s->server, ARRAY_LEN(argv), argv, NULL, on_step, s, 0) < 0)
		scan_give_up(s);
}

static void scan_server(struct cache *c, struct node *n)
{
	struct scan *s;

	for (struct list *l = c->scans.next; l != &c->scans; l = l->next) {
		s = CONTAINER_OF(l, struct scan, node);
		if (s->server != n)
			continue;
		s->is_again = true;
		return;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		if (c->events.on_invalidated)
			c->events.on_invalidated(c->owner, (struct bytes){0});
		return;
	}
	s->cache = c;
	s->server = n;
	list_add_tail(&c->scans, &s->node);
	scan_begin(s);
}

void cache_revisions(struct cache *c)
{
	ASSERT(!c->is_freeing);
	cache_each_up(c, scan_server);
}
