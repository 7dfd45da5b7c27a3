/*
 * gateway/region_status.c - the directory thread counts what it has, when another thread asks.
 */
#include "gateway/region_internal.h"

#include <errno.h>
#include <time.h>

void region_status_init(struct region *r)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->status_told, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&r->status_lock, NULL);
}

void region_status_deinit(struct region *r)
{
	pthread_cond_destroy(&r->status_told);
	pthread_mutex_destroy(&r->status_lock);
}

static const char *feed_name(enum feed_state s)
{
	static const char *const names[] = {
		[FEED_OFF] = "starting", [FEED_BEGIN] = "starting", [FEED_LIVE] = "up",
		[FEED_LOST] = "down",    [FEED_ABSENT] = "absent",
	};

	return names[s];
}

static void count(struct region *r, struct region_status *s)
{
	uint64_t now_us = ring_now_us(r->ring);

	memset(s, 0, sizeof(*s));
	s->is_control_up = r->is_control_up;
	s->control_since_s = (now_us - r->control_since_us) / 1000000;
	if (r->control)
		control_client_stats(r->control, &s->control);
	s->has_redis = r->has_redis;
	s->is_redis_up = r->is_redis_up;
	s->redis_since_s = (now_us - r->redis_since_us) / 1000000;
	if (r->cache)
		cache_stats(r->cache, &s->redis);
	s->feed = feed_name(r->feed.state);
	s->feed_position = r->feed.since;
	s->feed_answered_s = r->feed.answered_us ? (now_us - r->feed.answered_us) / 1000000 : 0;
	s->lookups_open = r->lookup_count;
	pthread_mutex_lock(&r->requests_lock);
	s->requests_open = r->request_count;
	pthread_mutex_unlock(&r->requests_lock);
}

static void on_status(struct ring *ring, struct mail *m)
{
	struct region *r = CONTAINER_OF(m, struct region, status_mail);

	pthread_mutex_lock(&r->status_lock);
	count(r, &r->status);
	r->is_status_asked = false;
	r->is_status_told = true;
	pthread_cond_signal(&r->status_told);
	pthread_mutex_unlock(&r->status_lock);
}

/* The mail of a question that was given up is still on its way: it does for this one. */
static int status_wait(struct region *r)
{
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += REGION_STATUS_MS / 1000;
	if (!r->is_status_asked) {
		r->is_status_asked = true;
		r->status_mail.on_mail = on_status;
		ring_post(r->ring, NULL, &r->status_mail);
	}
	r->is_status_told = false;
	while (!r->is_status_told && rc == 0)
		rc = pthread_cond_timedwait(&r->status_told, &r->status_lock, &until);
	return r->is_status_told ? 0 : -ETIMEDOUT;
}

int region_directory_status(struct directory *d, struct region_status *ret)
{
	struct region *r = CONTAINER_OF(d, struct region, base);
	const struct region_counters *n = &r->counters;
	int rc;

	pthread_mutex_lock(&r->status_lock);
	rc = status_wait(r);
	if (rc == 0)
		*ret = r->status;
	pthread_mutex_unlock(&r->status_lock);
	if (rc < 0)
		return rc;
	l1_stats(r->l1, &ret->l1);
	ret->requests = atomic_load(&n->requests);
	ret->refused = atomic_load(&n->refused);
	ret->lookups = atomic_load(&n->lookups);
	ret->joined = atomic_load(&n->joined);
	ret->again = atomic_load(&n->again);
	ret->from_redis = atomic_load(&n->from_redis);
	ret->from_control = atomic_load(&n->from_control);
	ret->unavailable = atomic_load(&n->unavailable);
	ret->not_verified = atomic_load(&n->not_verified);
	ret->changes = atomic_load(&n->changes);
	return 0;
}
