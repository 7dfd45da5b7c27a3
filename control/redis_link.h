/*
 * control/redis_link.h - the shared cache, spoken to by a thread that may block: one server, the master that Sentinels name, or the
 * masters of a Cluster.
 *
 * What failed is connected to anew at the next redis_link_open, wherever names, Sentinels or the Cluster lead then.
 *
 * Owner:  the caller. Thread: one at a time; every call may wait for its timeouts, a Cluster's for those of each master.
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

/* 0: all servers were open, and answer; 1: one is open anew, so it may have forgotten anything; negative errno: one is away. */
MUST_USE int redis_link_open(struct redis_link *l);

/*
 * The reply to a command about this name, to be freed with freeReplyObject. NULL: an error of the connection or of the server; then
 * redis_link_open comes before the next.
 */
MUST_USE struct redisReply *redis_link_ask(struct redis_link *l, const char *name, int argc, const char **argv);

/* The same to each server in turn. */
uint32_t redis_link_server_count(const struct redis_link *l);
MUST_USE struct redisReply *redis_link_ask_server(struct redis_link *l, uint32_t index, int argc, const char **argv);

/* Where something failed last, or the first server, and why: "127.0.0.1:6379: Connection refused". */
const char *redis_link_state(const struct redis_link *l);

#endif
