/*
 * control/redis_conn.h - a connection to one Redis server that may block, within its timeouts.
 *
 * hiredis does the talking; TLS by OpenSSL, with the server's name checked. Replies are bounded in bytes and in time.
 *
 * Owner:  embedded; all zero is a closed one. redis_conn_close before it goes.
 * Thread: one at a time.
 */
#ifndef CONTROL_REDIS_CONN_H
#define CONTROL_REDIS_CONN_H

#include "upstream/redis/target.h"

#include <stdint.h>

struct redisContext;
struct redisReply;
struct ssl_ctx_st;

/* Shared by all connections of a cache, and outlives them. */
struct redis_conn_options {
	struct target target;
	struct ssl_ctx_st *tls; /* NULL: none */
	uint32_t connect_timeout_ms, timeout_ms;
};

#define REDIS_WHY_MAX 160

struct redis_conn {
	const struct redis_conn_options *o;
	struct endpoint endpoint;
	struct redisContext *context; /* NULL: closed */
	char why[REDIS_WHY_MAX];      /* it was closed */
};

/* Who must answer there. */
enum redis_role {
	REDIS_MASTER, /* of the target's database */
	REDIS_SENTINEL,
	REDIS_ANY, /* of a Cluster, for its slots */
};

/* False, and why: not to be had. */
MUST_USE bool redis_conn_open(struct redis_conn *c, const struct redis_conn_options *o, const struct endpoint *e,
			      enum redis_role role);
void redis_conn_close(struct redis_conn *c);

/*
 * The reply to a command, to be freed with freeReplyObject. NULL: an error. It closes the connection, but for one that says that
 * another server of the Cluster is to be asked.
 */
MUST_USE struct redisReply *redis_conn_ask(struct redis_conn *c, int argc, const char **argv);

#endif
