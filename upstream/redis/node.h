/*
 * upstream/redis/node.h - one connection to one Redis server, made anew whenever it ends.
 *
 *   STOPPED ─► RESOLVING ─► CONNECTING ─► HELLO ─► UP
 *                  ▲             └──────────┴───────┴─ error, deadline ─► CLOSING ─► WAITING (backoff) ─► RESOLVING
 *                  └────────────────────────────────────────────────────────────────────┘      node_stop ─► STOPPED
 *
 * HELLO: TLS, login, database and client tracking, in one round trip after TLS. Commands go out pipelined; replies come in their
 * order. Each has a deadline; the caller is told at once when it passes, and the reply is thrown away when it comes after all.
 *
 * Owner:  embedded in a cache, its Sentinels or its Cluster.
 * Life:   from node_point until on_stopped; its memory stays until then.
 * Thread: the ring's.
 */
#ifndef UPSTREAM_REDIS_NODE_H
#define UPSTREAM_REDIS_NODE_H

#include "ring/resolve.h"
#include "ring/ring.h"
#include "upstream/redis/limits.h"
#include "upstream/redis/reply.h"
#include "upstream/redis/target.h"
#include "upstream/redis/tls.h"

enum node_state {
	NODE_STOPPED,
	NODE_RESOLVING,
	NODE_CONNECTING,
	NODE_HELLO,
	NODE_UP,
	NODE_CLOSING,
	NODE_WAITING,
};

/* What is said after the connection is made, and who must be there. */
enum node_role {
	NODE_SERVER,   /* database, tracking; a replica will do */
	NODE_MASTER,   /* the same, and the server must be a master */
	NODE_TOPOLOGY, /* a Cluster's server that is only asked for the slots: no tracking */
	NODE_SENTINEL, /* logs in only where a password is asked for */
};

struct node;

struct node_events {
	void (*on_up)(struct node *n);
	/* It was up, or another try has failed. It goes on trying by itself. */
	void (*on_down)(struct node *n, bool was_up, const char *why);
	/* RESP3's push. */
	void (*on_push)(struct node *n, const redisReply *push);
	/* After node_stop; nothing of the node is touched any more. */
	void (*on_stopped)(struct node *n);
};

/* What all nodes of a cache share; outlives them. */
struct node_options {
	const struct target *target;
	struct tls_context *tls; /* NULL: none */
	uint32_t connect_timeout_ms;
	uint32_t timeout_ms; /* of a command */
};

struct node {
	struct ring *ring;
	const struct node_options *options;
	const struct node_events *events;
	void *owner;
	enum node_role role;
	enum node_state state;
	struct endpoint endpoint;
	bool is_stopping, is_hurried; /* hurried: the next try does not wait */
	bool has_stream, is_login_sent, is_replica;
	uint32_t backoff_ms;
	uint32_t turn; /* which of the name's addresses the next try takes */
	struct resolve resolve;
	struct stream stream;
	struct tls tls;
	struct reply_reader replies;
	struct list calls; /* in the order of their replies */
	uint32_t call_count, late_count;
	uint32_t hello_left; /* replies that are to come before it is up */
	struct timer timer;  /* of the state: a deadline, the backoff, the next look at deadlines and silence */
	uint64_t heard_us, up_us;
	uint64_t connect_count; /* times that it was up */
	char why[NODE_WHY_MAX]; /* the last end's */
	bool is_news;           /* in on_down: it was up, or the reason is another one than last time */
};

/* Once; state is STOPPED. */
void node_init(struct node *n, struct ring *r, const struct node_options *o, enum node_role role,
	       const struct node_events *events, void *owner);
/* Begins, or goes on, with this server; a connection to another one ends. No event comes inside the call of a stopped one. */
void node_point(struct node *n, const struct endpoint *e);
/* Only the next try goes to this server. */
void node_aim(struct node *n, const struct endpoint *e);
/* Ends for good: on_stopped follows, from the loop, and no other event. Calls are ended inside. Harmless when STOPPED or stopping. */
void node_stop(struct node *n);
/* The connection is of no use any more: ends it and goes on trying. Harmless when it is not up. */
void node_fail(struct node *n, const char *why);

static inline bool node_is_up(const struct node *n)
{
	return n->state == NODE_UP;
}

/*
 * Called once: with the reply, or with NULL when it was not there in time or the connection ended. The reply is freed afterwards,
 * unless *reply is set to NULL: then it is the callee's.
 */
typedef void (*node_done)(struct node *n, void *ctx, uint32_t index, redisReply **reply);

/* Sends a command; bytes may be NULL for C strings. 0; or -ENOTCONN, -EBUSY (a limit of the pipeline), -ENOMEM: then on_done is not called. */
MUST_USE int node_send(struct node *n, int argc, const char **argv, const size_t *bytes, node_done on_done, void *ctx,
		       uint32_t index);
/* For a command whose only answers are pushes: SUBSCRIBE. */
MUST_USE int node_send_unanswered(struct node *n, int argc, const char **argv);

/* What a reply says of the connection as a whole: LOADING, NOAUTH and the like end it. Asked for each reply that is an error. */
void node_judge(struct node *n, const redisReply *reply);

/* node_hello.c: what is said before UP. Called when bytes can be sent. */
MUST_USE int node_hello(struct node *n);
/* node.c for node_hello.c: sends while in HELLO; ends it; says that the last answer was good. */
MUST_USE int node_send_early(struct node *n, int argc, const char **argv, node_done on_done, uint32_t index);
void node_end(struct node *n, const char *why);
void node_is_ready(struct node *n);

#endif
