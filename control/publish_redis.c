/*
 * control/publish_redis.c - see publish_redis.h.
 */
#include "control/publish_redis.h"

#include "control/limits.h"
#include "core/log.h"
#include "upstream/redis/record.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

struct publish_redis {
	struct publish_sink base;
	struct redis_link *link;
	bool is_down; /* it was said so */
};

/* A command about a name. */
static int ask(struct publish_redis *p, const char *name, redisReply **ret_reply, int argc, const char **argv)
{
	*ret_reply = redis_link_ask(p->link, name, argc, argv);
	return *ret_reply ? 0 : -EIO;
}

/* --- revisions --- */

/* 1: it says so already, from before the cache or we were away: then nobody needs to be told again. */
static int rev_is(struct publish_redis *p, const char *name, const char *version)
{
	/* MGET has no error for what is no string. */
	const char *argv[2] = {"MGET", name};
	redisReply *reply;
	int rc = ask(p, name, &reply, 2, argv);

	if (rc == 0 && reply->type == REDIS_REPLY_ARRAY && reply->elements == 1 &&
	    reply->element[0]->type == REDIS_REPLY_STRING)
		rc = strcmp(reply->element[0]->str, version) == 0;
	freeReplyObject(reply);
	return rc;
}

static int rev_set(struct publish_redis *p, const char *name, int64_t seq)
{
	char version[24], lifetime[16];
	const char *argv[5] = {"SET", name, version, "PX", lifetime};
	redisReply *reply;
	int rc;

	snprintf(version, sizeof(version), "%lld", (long long)seq);
	snprintf(lifetime, sizeof(lifetime), "%d", PUBLISH_REPLAY_S * 1000);
	rc = rev_is(p, name, version);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	rc = ask(p, name, &reply, 5, argv);
	freeReplyObject(reply);
	return rc;
}

/* --- deletions --- */

static int del(struct publish_redis *p, const char *name)
{
	const char *argv[2] = {"DEL", name};
	redisReply *reply;
	int rc = ask(p, name, &reply, 2, argv);

	freeReplyObject(reply);
	return rc;
}

static bool scan_is_good(const redisReply *r)
{
	return r->type == REDIS_REPLY_ARRAY && r->elements == 2 && r->element[0]->type == REDIS_REPLY_STRING &&
	       r->element[1]->type == REDIS_REPLY_ARRAY;
}

/* One step of SCAN: the names it found are deleted. 1: there is more, ret_cursor says where. */
static int scan_step(struct publish_redis *p, uint32_t server, const char *pattern, char cursor[24])
{
	char count[16];
	const char *argv[6] = {"SCAN", cursor, "MATCH", pattern, "COUNT", count};
	redisReply *reply;
	int rc;

	snprintf(count, sizeof(count), "%d", PUBLISH_SCAN_COUNT);
	reply = redis_link_ask_server(p->link, server, 6, argv);
	rc = !reply ? -EIO : scan_is_good(reply) ? 0 : -EPROTO;
	for (size_t i = 0; rc == 0 && i < reply->element[1]->elements; i++) {
		const redisReply *name = reply->element[1]->element[i];

		if (name->type == REDIS_REPLY_STRING && strncmp(name->str, RECORD_PREFIX, strlen(RECORD_PREFIX)) == 0)
			rc = del(p, name->str);
	}
	if (rc == 0) {
		snprintf(cursor, 24, "%.20s", reply->element[0]->str);
		rc = strcmp(cursor, "0") != 0;
	}
	freeReplyObject(reply);
	return rc;
}

/* What is not found in the time expires by itself, within a minute. */
static int scan_server(struct publish_redis *p, uint32_t server, const char *pattern)
{
	char cursor[24] = "0";
	int rc = 1;

	for (int i = 0; rc > 0 && i < PUBLISH_SCAN_STEPS_MAX; i++)
		rc = scan_step(p, server, pattern, cursor);
	if (rc > 0)
		log_event(LOG_WARN, "publish_scan", LOG_STR("pattern", pattern),
			  LOG_STR("error", "too many names in this Redis: some grants live on until they expire"));
	return rc < 0 ? rc : 0;
}

static int del_grants(struct publish_redis *p, const char *sandbox, const char *team, const char *user)
{
	struct grant pattern;
	char name[RECORD_NAME_MAX];
	int rc = 0;

	snprintf(pattern.team, sizeof(pattern.team), "%s", team);
	snprintf(pattern.user, sizeof(pattern.user), "%s", user);
	record_grant_name(sandbox, &pattern, name);
	for (uint32_t i = 0; rc == 0 && i < redis_link_server_count(p->link); i++)
		rc = scan_server(p, i, name);
	return rc;
}

/* --- changes --- */

static int tell_key(struct publish_redis *p, const struct change *c)
{
	char name[RECORD_NAME_MAX];
	int rc;

	record_rev_key_name(c->key, name);
	rc = rev_set(p, name, c->seq);
	record_key_name(c->key, name);
	return rc < 0 ? rc : del(p, name);
}

static int tell_member(struct publish_redis *p, const struct change *c)
{
	struct grant member;
	char name[RECORD_NAME_MAX];
	int rc;

	memcpy(member.team, c->team, sizeof(member.team));
	memcpy(member.user, c->user, sizeof(member.user));
	record_rev_member_name(&member, name);
	rc = rev_set(p, name, c->seq);
	return rc < 0 ? rc : del_grants(p, "*", c->team, c->user);
}

static int tell_sandbox(struct publish_redis *p, const struct change *c)
{
	char name[RECORD_NAME_MAX];
	int rc;

	record_rev_sandbox_name(c->sandbox, name);
	rc = rev_set(p, name, c->seq);
	record_route_name(c->sandbox, name);
	if (rc == 0)
		rc = del(p, name);
	return rc < 0 || c->kind == CHANGE_MOVED ? rc : del_grants(p, c->sandbox, "*", "*");
}

static int op_change(struct publish_sink *s, const struct change *c)
{
	struct publish_redis *p = (struct publish_redis *)s;

	switch (c->kind) {
	case CHANGE_KEY:
		return tell_key(p, c);
	case CHANGE_MEMBER:
		return tell_member(p, c);
	case CHANGE_SANDBOX:
	case CHANGE_MOVED:
		return tell_sandbox(p, c);
	}
	return 0;
}

/* Each state is said once. */
static int op_look(struct publish_sink *s)
{
	struct publish_redis *p = (struct publish_redis *)s;
	int rc = redis_link_open(p->link);

	if (rc > 0)
		log_event(LOG_INFO, "redis", LOG_STR("state", "up"), LOG_STR("server", redis_link_state(p->link)));
	else if (rc < 0 && !p->is_down)
		log_event(LOG_WARN, "redis", LOG_STR("state", "down"), LOG_STR("error", redis_link_state(p->link)));
	p->is_down = rc < 0;
	return rc;
}

static void op_free(struct publish_sink *s)
{
	struct publish_redis *p = (struct publish_redis *)s;

	redis_link_free(p->link);
	free(p);
}

static const struct publish_sink_ops ops = {.look = op_look, .change = op_change, .free = op_free};

int publish_redis_new(const struct redis_link_options *o, struct publish_sink **ret_sink, char ret_error[256])
{
	struct publish_redis *p = calloc(1, sizeof(*p));
	int rc;

	if (!p) {
		snprintf(ret_error, 256, "no memory");
		return -ENOMEM;
	}
	p->base.ops = &ops;
	rc = redis_link_new(o, &p->link, ret_error);
	if (rc < 0) {
		free(p);
		return rc;
	}
	*ret_sink = &p->base;
	return 0;
}
