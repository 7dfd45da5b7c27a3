/*
 * control/redis_link.c - see redis_link.h.
 */
#include "control/redis_link.h"

#include "control/redis_conn.h"
#include "upstream/redis/view.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

struct redis_link {
	struct redis_conn_options options;
	struct redis_conn *servers; /* CLUSTER_NODES_MAX of a Cluster, else one */
	uint32_t count;
	struct view *view; /* of a Cluster: whose places are those of servers; else NULL */
	bool is_stale;     /* the view is to be asked for */
	char state[ENDPOINT_TEXT_MAX + REDIS_WHY_MAX + 2];
};

const char *redis_link_state(const struct redis_link *l)
{
	return l->state;
}

/* --- commands --- */

static void note(struct redis_link *l, const struct redis_conn *c)
{
	char where[ENDPOINT_TEXT_MAX];

	endpoint_text(&c->endpoint, where);
	if (c->context && !l->is_stale)
		snprintf(l->state, sizeof(l->state), "%s", where);
	else
		snprintf(l->state, sizeof(l->state), "%s: %s", where, c->why);
}

uint32_t redis_link_server_count(const struct redis_link *l)
{
	return l->count;
}

redisReply *redis_link_ask_server(struct redis_link *l, uint32_t index, int argc, const char **argv)
{
	redisReply *reply;

	ASSERT(index < l->count);
	reply = redis_conn_ask(&l->servers[index], argc, argv);
	if (reply)
		return reply;
	/* A lost master or a slot that moved: either way the Cluster knows better than we. */
	l->is_stale = l->view != NULL;
	note(l, &l->servers[index]);
	return NULL;
}

redisReply *redis_link_ask(struct redis_link *l, const char *name, int argc, const char **argv)
{
	uint8_t place = l->view ? l->view->slots[slot_of(bytes_str(name))] : 1;

	if (place > 0)
		return redis_link_ask_server(l, place - 1u, argc, argv);
	l->is_stale = true;
	snprintf(l->state, sizeof(l->state), "the Cluster has a slot that is nobody's");
	return NULL;
}

/* --- one server, or the one that Sentinels name --- */

/* What one Sentinel says of the master's address. */
static bool sentinel_ask(struct redis_link *l, const struct endpoint *sentinel, struct endpoint *ret_master)
{
	const char *argv[3] = {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", l->options.target.master};
	struct redis_conn c = {0};
	redisReply *reply = NULL;
	bool is_good = false;

	if (redis_conn_open(&c, &l->options, sentinel, REDIS_SENTINEL))
		reply = redis_conn_ask(&c, 3, argv);
	if (reply) {
		is_good = reply_is_array(reply, 2) &&
			  endpoint_set(ret_master, reply_bytes(reply->element[0]),
				       strtoull(reply->element[1]->str ? reply->element[1]->str : "", NULL, 10));
		snprintf(c.why, sizeof(c.why), "this Sentinel knows no such master");
	}
	freeReplyObject(reply);
	redis_conn_close(&c);
	if (!is_good)
		note(l, &c);
	return is_good;
}

static bool find_master(struct redis_link *l, struct endpoint *ret_master)
{
	const struct target *t = &l->options.target;

	if (t->kind == TARGET_SERVER) {
		*ret_master = t->endpoints[0];
		return true;
	}
	for (uint32_t i = 0; i < t->endpoint_count; i++)
		if (sentinel_ask(l, &t->endpoints[i], ret_master))
			return true;
	return false;
}

/* --- a Cluster --- */

static bool view_ask(struct redis_link *l, const struct endpoint *e, struct view *v)
{
	const char *argv[2] = {"CLUSTER", "SLOTS"};
	struct redis_conn c = {0};
	redisReply *reply = NULL;
	int rc = -EIO;

	if (redis_conn_open(&c, &l->options, e, REDIS_ANY))
		reply = redis_conn_ask(&c, 2, argv);
	if (reply) {
		rc = view_take(v, reply, e);
		snprintf(c.why, sizeof(c.why), "CLUSTER SLOTS: an answer that makes no sense");
	}
	freeReplyObject(reply);
	redis_conn_close(&c);
	if (rc < 0)
		note(l, &c);
	return rc == 0;
}

/* Connections to masters that are still such go on. */
static void view_apply(struct redis_link *l, const struct view *v)
{
	struct redis_conn *old = l->servers;
	uint32_t old_count = l->count;

	l->servers = calloc(CLUSTER_NODES_MAX, sizeof(*l->servers));
	if (!l->servers) {
		l->servers = old;
		return;
	}
	l->count = v->count;
	for (uint32_t i = 0; i < v->count; i++) {
		l->servers[i].endpoint = v->masters[i];
		for (uint32_t k = 0; k < old_count; k++)
			if (old[k].context && endpoint_is_same(&old[k].endpoint, &v->masters[i])) {
				l->servers[i] = old[k];
				old[k].context = NULL;
			}
	}
	for (uint32_t k = 0; k < old_count; k++)
		redis_conn_close(&old[k]);
	free(old);
	*l->view = *v;
	l->is_stale = false;
}

/* Seeds first, then the masters that are known. */
static bool view_find(struct redis_link *l)
{
	const struct target *t = &l->options.target;
	struct view *v = calloc(1, sizeof(*v));
	bool is_found = false;

	for (uint32_t i = 0; v && !is_found && i < t->endpoint_count; i++)
		is_found = view_ask(l, &t->endpoints[i], v);
	for (uint32_t i = 0; v && !is_found && i < l->count; i++) {
		memset(v, 0, sizeof(*v));
		is_found = view_ask(l, &l->servers[i].endpoint, v);
	}
	if (is_found)
		view_apply(l, v);
	free(v);
	return is_found && !l->is_stale;
}

/* --- all of it --- */

/* As redis_link_open. */
static int server_open(struct redis_link *l, struct redis_conn *c)
{
	const char *ping[1] = {"PING"};
	redisReply *reply = redis_conn_ask(c, 1, ping);
	struct endpoint e = c->endpoint;
	int rc = -ENOTCONN;

	freeReplyObject(reply);
	if (reply)
		return 0;
	/* A connection that ended while nothing was asked is no failure: the next one counts. */
	if (!l->view && !find_master(l, &e))
		return rc;
	if (redis_conn_open(c, &l->options, &e, REDIS_MASTER))
		rc = 1;
	else
		l->is_stale = l->view != NULL;
	note(l, c);
	return rc;
}

int redis_link_open(struct redis_link *l)
{
	int rc = 0, one;

	if (l->is_stale && !view_find(l))
		return -ENOTCONN;
	for (uint32_t i = 0; rc >= 0 && i < l->count; i++) {
		one = server_open(l, &l->servers[i]);
		rc = one != 0 ? one : rc;
	}
	return rc;
}

static int make_tls(struct redis_conn_options *o, const char *ca_file, char ret_error[256])
{
	o->tls = SSL_CTX_new(TLS_client_method());
	if (!o->tls) {
		snprintf(ret_error, 256, "redis: TLS does not start");
		return -ENOMEM;
	}
	SSL_CTX_set_min_proto_version(o->tls, TLS1_2_VERSION);
	SSL_CTX_set_verify(o->tls, SSL_VERIFY_PEER, NULL);
	if ((ca_file ? SSL_CTX_load_verify_locations(o->tls, ca_file, NULL)
		     : SSL_CTX_set_default_verify_paths(o->tls)) == 1)
		return 0;
	snprintf(ret_error, 256, "redis: no certificates in %.150s", ca_file ? ca_file : "the system's place");
	ERR_clear_error();
	return -EINVAL;
}

/* The first place of a Cluster is nobody's until the view is there. */
static int make_places(struct redis_link *l)
{
	bool is_cluster = l->options.target.kind == TARGET_CLUSTER;

	l->servers = calloc(1, sizeof(*l->servers));
	l->view = is_cluster ? calloc(1, sizeof(*l->view)) : NULL;
	l->count = is_cluster ? 0 : 1;
	l->is_stale = is_cluster;
	return !l->servers || (is_cluster && !l->view) ? -ENOMEM : 0;
}

int redis_link_new(const struct redis_link_options *o, struct redis_link **ret_link, char ret_error[256])
{
	struct redis_link *l = calloc(1, sizeof(*l));
	int rc = l ? 0 : -ENOMEM;

	snprintf(ret_error, 256, "no memory");
	if (rc == 0)
		rc = target_parse(o->url, &l->options.target, ret_error);
	if (rc == 0 && o->password_file)
		rc = target_load_password(&l->options.target, o->password_file, ret_error);
	if (rc == 0 && l->options.target.is_tls)
		rc = make_tls(&l->options, o->ca_file, ret_error);
	if (rc == 0)
		rc = make_places(l);
	if (rc < 0) {
		redis_link_free(l);
		return rc;
	}
	l->options.connect_timeout_ms = o->connect_timeout_ms;
	l->options.timeout_ms = o->timeout_ms;
	*ret_link = l;
	return 0;
}

void redis_link_free(struct redis_link *l)
{
	if (!l)
		return;
	for (uint32_t i = 0; i < l->count; i++)
		redis_conn_close(&l->servers[i]);
	free(l->servers);
	free(l->view);
	SSL_CTX_free(l->options.tls);
	target_wipe(&l->options.target);
	free(l);
}
