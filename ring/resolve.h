/*
 * ring/resolve.h - names to addresses, on threads of its own, since getaddrinfo blocks; the answer comes by mail to a ring.
 *
 *   resolve_start ─► number, localhost, cache? ─► end of the batch ─► on_done
 *                      └ no ─► queue ─► a thread asks ─► mail ─► on_done         deadline, full queue ─► on_done with the error
 *
 * Owner:  a query is embedded in the asker. What the thread works on is not in it, so cancelling never waits for the thread.
 * Life:   from resolve_start until on_done or resolve_cancel. ring_free forgets whatever its ring still waits for.
 * Thread: the ring's. The queue and the cache are the process's: every ring uses the same.
 */
#ifndef RING_RESOLVE_H
#define RING_RESOLVE_H

#include "ring/limits.h"
#include "ring/ring.h"

#define RESOLVE_HOST_MAX 255 /* of DNS */

struct resolve_job;

struct resolve_address {
	union {
		struct sockaddr any;
		struct sockaddr_storage storage;
	};
	socklen_t bytes;
};

struct resolve {
	struct ring *ring;
	void (*on_done)(struct resolve *q);
	/* The answer: 0 and at least one address, in the order in which they should be tried; or negative errno. */
	int err;
	uint32_t count;
	struct resolve_address addresses[RESOLVE_ADDRESSES_MAX];
	void *owner; /* the asker's own; set it after resolve_start, or before: it is left alone */
	/* Private. */
	struct resolve_job *job;
	struct deferred done;
	struct timer deadline;
};

/* Once, before anything else: then resolve_cancel is harmless and resolve_is_started false. */
void resolve_init(struct resolve *q);
/*
 * Asks; on_done comes later, within RESOLVE_TIMEOUT_MS, never inside this call. host is a name, or a number without brackets; it
 * may go after the call. err becomes -ENOENT (no such host), -ETIMEDOUT or -EAGAIN (no name server answers),
 * -EBUSY (RESOLVE_QUEUE_MAX wait already), -EINVAL (no name), -ENOMEM.
 */
void resolve_start(struct resolve *q, struct ring *r, const char *host, uint16_t port,
		   void (*on_done)(struct resolve *q));
bool resolve_is_started(const struct resolve *q);
/* No on_done comes after this. Harmless when none would. */
void resolve_cancel(struct resolve *q);
/* A few words for err. */
const char *resolve_explain(int err);

#endif
