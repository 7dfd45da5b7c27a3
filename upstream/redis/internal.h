/*
 * upstream/redis/internal.h - what the files of the cache share.
 *
 *   cache.c      reads, and what the owner is told        fill.c      the script     revisions.c   SCAN
 *   sentinel.c   which server is the master               cluster.c   which server has which slot
 *
 * Owner:  struct cache is made by cache_new.
 * Thread: the ring's.
 */
#ifndef UPSTREAM_REDIS_INTERNAL_H
#define UPSTREAM_REDIS_INTERNAL_H

#include "upstream/redis/cache.h"
#include "upstream/redis/node.h"
#include "upstream/redis/slot.h"

#define SCRIPT_SHA_CHARS 40

struct sentinel {
	struct cache *cache;
	struct node node; /* to one of the Sentinels */
	uint32_t index;   /* which */
	uint32_t failed_count;
	struct timer refresh;
	uint64_t asked_us;
};

struct cluster {
	struct cache *cache;
	struct node topology; /* to whichever server is asked for the slots */
	uint32_t index;       /* which of the seeds and masters */
	uint32_t failed_count;
	struct timer refresh;
	uint64_t asked_us;
	struct node *nodes[CLUSTER_NODES_MAX]; /* masters; NULL between them */
	uint32_t leaving_count;                /* nodes that are stopping and in no table any more */
	uint8_t slots[SLOT_COUNT];             /* 1 + index in nodes; 0: nobody's */
};

struct cache {
	struct ring *ring;
	struct cache_events events;
	void *owner;
	struct target target;
	struct tls_context *tls;
	struct node_options options;
	struct cache_stats stats;
	struct list reads;  /* not answered */
	struct list failed; /* answered at the end of the batch */
	struct deferred work;
	struct list scans;
	size_t fill_bytes;
	char script_sha[SCRIPT_SHA_CHARS + 1];
	struct node node;         /* the server, or the master; not in a Cluster */
	struct sentinel sentinel; /* started with Sentinels only */
	struct cluster *cluster;  /* NULL but in a Cluster */
	bool is_freeing;
	void (*on_freed)(void *owner);
};

/* The server that has this name, if it is up; or NULL. */
struct node *cache_node(struct cache *c, const char *name);
/* Calls f for each server that is up. */
void cache_each_up(struct cache *c, void (*f)(struct cache *c, struct node *n));
/* Of masters and the one server; n->owner is the cache. */
extern const struct node_events cache_node_events;
/* An error in answer to a command: what it says of the connection, the slots or the configuration. */
void cache_judge(struct cache *c, struct node *n, const redisReply *reply);
/* Another node has stopped. */
void cache_check_freed(struct cache *c);

void fill_init(struct cache *c);

void sentinel_init(struct sentinel *s, struct cache *c);
void sentinel_start(struct sentinel *s);
void sentinel_stop(struct sentinel *s);
/* The master does not answer: asks who is it now. */
void sentinel_ask(struct sentinel *s);

/* NULL: no memory. */
struct cluster *cluster_new(struct cache *c);
void cluster_start(struct cluster *cl);
void cluster_stop(struct cluster *cl);
/* Once it is stopped. */
bool cluster_is_stopped(const struct cluster *cl);
void cluster_free(struct cluster *cl);
/* Asks for the slots again, soon. */
void cluster_ask(struct cluster *cl);
/* A -MOVED: takes the word for this slot and asks for the rest. The slot's server, if it is up; or NULL. */
struct node *cluster_moved(struct cluster *cl, struct node *from, const redisReply *moved);
/* A node of the Cluster has stopped. */
void cluster_forget(struct cluster *cl, struct node *n);
/* Takes a CLUSTER SLOTS' answer. 0 or -EPROTO with nothing changed. */
MUST_USE int cluster_take_slots(struct cluster *cl, const redisReply *reply);

#endif
