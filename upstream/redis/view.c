/*
 * upstream/redis/view.c - see view.h.
 */
#include "upstream/redis/view.h"

#include <errno.h>

_Static_assert(CLUSTER_NODES_MAX < UINT8_MAX, "a slot's entry has a byte");

static int view_add(struct view *v, const struct endpoint *e)
{
	for (uint32_t i = 0; i < v->count; i++)
		if (endpoint_is_same(&v->masters[i], e))
			return (int)i;
	if (v->count == CLUSTER_NODES_MAX)
		return -EPROTO;
	v->masters[v->count] = *e;
	return (int)v->count++;
}

static bool is_slot(const redisReply *r)
{
	return r->type == REDIS_REPLY_INTEGER && r->integer >= 0 && r->integer < SLOT_COUNT;
}

/* [first, last, [host, port, …] of the master, …replicas]. A host that is nil or empty is the one that was asked. */
static int view_take_range(struct view *v, const redisReply *r, const struct endpoint *asked)
{
	const redisReply *master;
	struct endpoint e;
	struct bytes host;
	int at;

	if (r->type != REDIS_REPLY_ARRAY || r->elements < 3 || !is_slot(r->element[0]) || !is_slot(r->element[1]) ||
	    r->element[0]->integer > r->element[1]->integer)
		return -EPROTO;
	master = r->element[2];
	if (master->type != REDIS_REPLY_ARRAY || master->elements < 2 ||
	    master->element[1]->type != REDIS_REPLY_INTEGER)
		return -EPROTO;
	host = reply_bytes(master->element[0]);
	if (host.n == 0)
		host = bytes_str(asked->host);
	if (master->element[1]->integer < 0 || !endpoint_set(&e, host, (uint64_t)master->element[1]->integer))
		return -EPROTO;
	at = view_add(v, &e);
	if (at < 0)
		return at;
	memset(&v->slots[r->element[0]->integer], at + 1,
	       (size_t)(r->element[1]->integer - r->element[0]->integer + 1));
	return 0;
}

int view_take(struct view *v, const redisReply *r, const struct endpoint *asked)
{
	int rc = 0;

	if (r->type != REDIS_REPLY_ARRAY || r->elements == 0)
		return -EPROTO;
	for (size_t i = 0; i < r->elements && rc == 0; i++)
		rc = view_take_range(v, r->element[i], asked);
	return rc;
}

bool view_has(const struct view *v, const struct endpoint *e)
{
	for (uint32_t i = 0; i < v->count; i++)
		if (endpoint_is_same(&v->masters[i], e))
			return true;
	return false;
}
