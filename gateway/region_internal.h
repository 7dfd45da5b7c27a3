/*
 * gateway/region_internal.h - what the files of the region's directory share.
 *
 *   region_directory.c  the operations, the thread, what L1 answers at once
 *   region_request.c    a query on its way to the directory thread and back
 *   region_lookup.c     joined look-ups: Redis, then the control plane
 *   region_decide.c     what they have said becomes an answer
 *   region_store.c      what is put into L1 and into Redis, and what is taken out
 *   region_changes.c    what was invalidated, and who is told
 *   region_feed.c       the control plane's changes feed
 *   region_status.c     what the admin wants to know
 *
 * Thread: the directory thread, where nothing else is said. "Asker's": the thread whose ring is the query's.
 */
#ifndef GATEWAY_REGION_INTERNAL_H
#define GATEWAY_REGION_INTERNAL_H

#include "core/list.h"
#include "gateway/l1.h"
#include "gateway/limits.h"
#include "gateway/procd_url.h"
#include "gateway/region_directory.h"
#include "ring/ring.h"
#include "upstream/control/client.h"
#include "upstream/redis/cache.h"

#include <pthread.h>
#include <stdatomic.h>

/* For users: where nobody could say, and why is for the log. */
#define TEMPORARILY_UNAVAILABLE "temporarily unavailable; try again in a moment"

struct lookup;

/* --- what is asked; equal ones are joined --- */

enum ask_kind { ASK_KEY, ASK_ROUTE };

enum ask_how {
	ASK_ANYBODY, /* L1, Redis, control plane */
	ASK_SOURCE,  /* the control plane */
	ASK_CHECK,   /* the control plane, and nothing is woken */
};

struct ask {
	enum ask_kind kind;
	enum ask_how how;
	uint32_t wait_ms;
	char fingerprint[FINGERPRINT_CHARS + 1];
	char sandbox[SANDBOX_ID_MAX + 1];
	uint32_t grant_count;
	const struct grant *grants; /* of a route; stand behind the request or the look-up */
};

/* Made once, then shared by all who asked and never changed. */
struct answer {
	_Atomic uint32_t refs;
	enum verdict verdict;
	char reason[REASON_MAX];
	struct route route;
	struct policy *team_policy, *sandbox_policy; /* each a reference, or NULL */
	uint32_t grant_count;
	struct grant grants[GRANTS_MAX];
};

/*
 *   OPEN ──answered, by the directory thread──► ANSWERED: the reply's mail is the asker's, who frees it
 *     └────────cancelled, by the asker────────► CANCELLED: the cancel's mail is the directory thread's, which frees it
 */
enum request_state { REQUEST_OPEN, REQUEST_ANSWERED, REQUEST_CANCELLED };

struct request {
	struct list registered; /* in region.requests: what is left at the end is freed from there */
	struct region *region;
	struct ring *ring; /* the asker's */
	struct mail mail;  /* there, and then back */
	struct mail cancel;
	_Atomic uint32_t state;
	void *query;           /* asker's: key_query or route_query; NULL once cancelled */
	struct list node;      /* in its look-up */
	struct lookup *lookup; /* NULL: in none */
	struct timer deadline;
	struct answer *answer;
	struct ask ask;
	struct grant grants[];
};

/* --- the directory --- */

/* Redis: the versions of revisions that were seen; one slot a name, by hash. */
struct revision {
	uint64_t hash, version;
};

/* Fills of ours: Redis tells of them as of everybody's. */
struct fill_mark {
	uint64_t hash, until_ms;
};

enum feed_state {
	FEED_OFF,    /* not begun */
	FEED_BEGIN,  /* asks where the changes are */
	FEED_LIVE,   /* knows, and was answered last time */
	FEED_LOST,   /* knows, and was not answered */
	FEED_ABSENT, /* this control plane has none */
};

struct feed {
	enum feed_state state;
	bool is_asking, is_absence_told;
	struct control_changes_call call;
	struct timer timer;
	uint64_t since;
	uint64_t asked_us, answered_us;
	uint32_t backoff_ms;
};

struct region_counters {
	_Atomic uint64_t requests, refused;        /* refused: REGION_REQUESTS_MAX or REGION_LOOKUPS_MAX was reached */
	_Atomic uint64_t lookups, joined, again;   /* again: a change came while the answer was on its way */
	_Atomic uint64_t from_redis, from_control; /* look-ups that were answered there */
	_Atomic uint64_t unavailable;              /* nobody could say */
	_Atomic uint64_t not_verified;             /* values in Redis */
	_Atomic uint64_t changes;                  /* on_changed calls */
};

struct region {
	struct directory base;
	const struct config *config;
	const uint8_t *control_secret;
	bool has_redis;
	uint8_t record_secret[RECORD_SECRET_BYTES];
	struct l1 *l1;
	struct region_counters counters;

	pthread_mutex_t requests_lock; /* the next two */
	struct list requests;
	uint32_t request_count;

	struct ring *ring;
	pthread_t thread;
	bool is_running;
	struct mail stop;

	pthread_mutex_t status_lock; /* all of these */
	pthread_cond_t status_told;
	struct mail status_mail;
	bool is_status_asked, is_status_told;
	struct region_status status;

	/* Directory thread. */
	struct control_client *control;
	struct cache *cache;   /* NULL without Redis */
	uint32_t client_count; /* of these two; the ring has to run until both are gone */
	struct list lookups[REGION_LOOKUP_BUCKETS];
	uint32_t lookup_count;
	struct feed feed;
	bool is_control_up, is_redis_up;
	uint64_t control_since_us, redis_since_us; /* of the state */
	struct revision *revisions;
	struct fill_mark fill_marks[REGION_FILL_MARKS];
	uint64_t not_verified_logged_us, failure_logged_us;
	uint32_t not_verified_unlogged, failures_unlogged;
};

/* region_directory.c. Any thread: fills what L1 knows into ret, whose policies are the caller's to put. */
MUST_USE bool region_recall(struct region *r, const struct ask *a, uint64_t now_ms, struct answer *ret);

/* region_request.c */
MUST_USE bool request_send(struct region *r, const struct ask *a, struct ring *ring, void *query); /* asker's */
void request_cancel(struct request *q);                                                            /* asker's */
void request_answer(struct request *q, struct answer *a); /* takes no reference: it makes its own */
void request_fail(struct request *q, const char *reason);
void requests_free(struct region *r); /* when neither thread runs any more */
MUST_USE struct answer *answer_new(enum verdict v);
void answer_put(struct answer *a);

/* region_lookup.c */
void lookup_ask(struct region *r, struct request *q);
/* Its request has gone. */
void lookup_leave(struct lookup *l);
void lookups_end(struct region *r);

/* region_store.c: names that an answer hangs on, and its way into L1 and Redis. */
struct known {
	bool is_redis;    /* it came from there */
	uint64_t asked;   /* l1_now then */
	uint64_t version; /* 0: none */
	uint64_t left_ms; /* of a value from Redis */
};
void depend_on_key(const struct l1 *l, struct l1_deps *d, const char *fingerprint, const struct grant *g,
		   uint32_t count);
void depend_on_route(const struct l1 *l, struct l1_deps *d, const char *sandbox, const struct grant *g, uint32_t count);
void store_key(struct region *r, const char *fingerprint, const struct record_key *k, const struct known *n);
void store_route(struct region *r, const struct route *route, const struct record_route *record, const struct known *n);

/* A route as it lies in L1: as long as its policies' text. */
struct kept_route {
	struct route route;
	char policy[POLICY_TEXT_MAX];
};
void store_no(struct region *r, const struct ask *a, uint64_t asked);
/* Of a NO: the name under which it is remembered. */
void no_name(const struct ask *a, char ret_name[L1_NAME_MAX]);
MUST_USE bool redis_key(struct region *r, const struct ask *a, const struct cache_read *q, struct record_key *ret,
			struct known *n);
MUST_USE bool redis_route(struct region *r, const struct ask *a, const struct cache_read *q, struct record_route *ret,
			  struct grant *ret_grant, struct known *n);

/* region_changes.c */
void fill_mark(struct region *r, const char *name);
void region_changed(struct region *r, const struct subject *s);
extern const struct cache_events region_cache_events; /* owner: the region */

/* region_status.c */
void region_status_init(struct region *r);
void region_status_deinit(struct region *r);

/* region_feed.c */
void feed_start(struct region *r);
void feed_stop(struct region *r);
static inline bool region_is_told(const struct region *r)
{
	return r->is_redis_up || r->feed.state == FEED_LIVE;
}

#endif
