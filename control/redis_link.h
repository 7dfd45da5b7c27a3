/*
 * control/redis_link.h - a connection to the shared cache that may block: one server, or the master that Sentinels name.
 *
 * Not a Cluster: redis_link_new says so. hiredis does the talking; TLS by OpenSSL, with the server's name checked.
 * A connection that failed is made anew at the next redis_link_open, wherever the Sentinels or the name lead then.
 *
 * Owner:  the caller. Thread: one at a time; every call may wait for its timeouts.
 */
#ifndef CONTROL_REDIS_LINK_H
#define CONTROL_REDIS_LINK_H

#include "core/check.h"

#include <stdint.h>

struct redis_link;
struct redisReply;

struct redis_link_options {
	const char *url;           /* upstream/redis/target.h */
	const char *password_file; /* or NULL */
	const char *ca_file;       /* for TLS; NULL: the system's */
	uint32_t connect_timeout_ms;
	uint32_t timeout_ms; /* of a command */
};

/* Connects to nothing yet. 0, or negative errno with a sentence that shows no secret. */
MUST_USE int redis_link_new(const struct redis_link_options *o, struct redis_link **ret_link, char ret_error[256]);
void redis_link_free(struct redis_link *l);

/* 0: it was open, and answers; 1: it is open anew, so the server may have forgotten anything; negative errno: away. */
MUST_USE int redis_link_open(struct redis_link *l);

/* The reply to a command, to be freed with freeReplyObject; NULL: closed, because of an error of the connection or of the server. */
MUST_USE struct redisReply *redis_link_ask(struct redis_link *l, int argc, const char **argv);

/* Why it was closed last: a few words. And where it is or was connected. */
const char *redis_link_why(const struct redis_link *l);
const char *redis_link_where(const struct redis_link *l);

#endif
