/*
 * upstream/redis/cache.h - the cache that gateways share: a Redis or Valkey, one server, behind Sentinels, or a Cluster.
 *
 * hiredis makes commands and reads replies (RESP3); their bytes go over the ring's streams. One connection to each server that
 * is in use; commands are pipelined. Client tracking in broadcast mode over the prefixes rg: tells what others change.
 *
 * Everything has a deadline: a read that is not answered in time is CACHE_FAILED, and after CACHE_SLOW_COUNT late ones in a row the
 * connection counts as down, is closed and made anew with backoff and jitter. While it is down reads fail at once.
 *
 * Owner:  one thread makes it and everything else here runs on it. Reads are embedded in the asker and belong to the cache
 *         until on_done, which never comes inside the call that asks.
 * Thread: the ring's.
 */
#ifndef UPSTREAM_REDIS_CACHE_H
#define UPSTREAM_REDIS_CACHE_H

#include "core/check.h"
#include "core/list.h"
#include "upstream/redis/record.h"

struct ring;
struct cache;

/* A route and as many grants as a key may have. */
#define CACHE_READ_KEYS_MAX (1 + GRANTS_MAX)

struct cache_options {
	/*
	 * redis://[user:password@]HOST[:PORT][/DB], rediss://…, unix:/PATH, sentinel://[…@]HOST:PORT,HOST:PORT/NAME,
	 * cluster://[…@]HOST:PORT,HOST:PORT; sentinels:// and clusters:// with TLS. HOST may be a name.
	 */
	const char *url;
	const char *password_file; /* or NULL: instead of one in the URL */
	const char *ca_file;       /* for TLS; NULL: the system's */
	uint32_t connect_timeout_ms;
	uint32_t timeout_ms; /* of a command */
};

struct cache_events {
	/*
	 * Connected, with tracking on from now: whatever came from here before may be stale. For every server of a Cluster.
	 * The owner reads the revisions again (cache_revisions).
	 */
	void (*on_up)(void *owner);
	void (*on_down)(void *owner, const char *why);
	/*
	 * This name was written, deleted, evicted, or has expired. An empty name: everything (FLUSHALL). Any gateway's fill comes
	 * here as well, this one's too: of a value it says only that a copy is no longer good, and not that anything has changed. Of
	 * names rg:rev:, which no gateway writes, it says that.
	 */
	void (*on_invalidated)(void *owner, struct bytes name);
	/* One of the answers to cache_revisions: a name that starts with rg:rev: and its number. */
	void (*on_revision)(void *owner, struct bytes name, uint64_t version);
	/* All of a server's were told. Where that was not possible on_invalidated with an empty name came instead. */
	void (*on_revisions_done)(void *owner);
};

enum cache_result {
	CACHE_DONE,   /* each value is there or absent */
	CACHE_FAILED, /* not connected, too late, or the server said an error */
};

struct cache_read {
	struct list node; /* private */
	char names[CACHE_READ_KEYS_MAX][RECORD_NAME_MAX];
	uint32_t count;
	void (*on_done)(struct cache_read *q);
	enum cache_result result;
	struct bytes
		values[CACHE_READ_KEYS_MAX]; /* valid during on_done; p is NULL where there is none, or it is no string */
	void *owner;
	void *pending; /* private */
};

/* 0, or negative errno with a sentence. Connecting goes on by itself. */
MUST_USE int cache_new(struct ring *r, const struct cache_options *o, const struct cache_events *events, void *owner,
		       struct cache **ret_cache, char ret_error[256]);
/* Drops all reads without on_done; on_freed runs once nothing is in flight. */
void cache_free(struct cache *c, void (*on_freed)(void *owner));

void cache_get(struct cache *c, struct cache_read *q);
/* No on_done comes after this. */
void cache_cancel(struct cache *c, struct cache_read *q);

/*
 * Stores a sealed value for ttl_ms unless a newer version is there, or a newer number stands under one of the revisions (names
 * rg:rev:…, 1 + GRANTS_MAX at most): one Lua script, by its SHA. In a Cluster the script sees only the value's own server; there the revisions are
 * read first, and again after the fill, which is deleted where one is newer. Nobody is told how it went; dropped while it is down.
 */
void cache_fill(struct cache *c, const char *name, uint64_t version, struct bytes value, uint32_t ttl_ms,
		const char (*revisions)[RECORD_NAME_MAX], uint32_t revision_count);

/*
 * Reads all rg:rev: names of the servers that are up (SCAN, bounded by CACHE_REVISIONS_MAX) and reports each by on_revision. Where
 * it cannot, on_invalidated with an empty name comes, perhaps inside this call.
 */
void cache_revisions(struct cache *c);

struct cache_stats {
	bool is_up;
	char server[128]; /* where it is connected, without secrets */
	uint64_t reads, hits, fills, failures, reconnects, invalidations;
	uint64_t fills_refused; /* something newer was there */
	uint64_t fills_failed;  /* not sent, not answered, or an error */
	uint64_t wrong;         /* values that are no record: of a wrong type (seen in a Cluster only) or too large */
	uint32_t in_flight;
};

void cache_stats(const struct cache *c, struct cache_stats *ret);

#endif
