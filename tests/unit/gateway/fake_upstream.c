/*
 * tests/unit/gateway/fake_upstream.c - see fake_upstream.h.
 */
#include "fake_upstream.h"

#include <stdlib.h>
#include <string.h>

enum call_kind { CALL_KEY, CALL_ROUTE, CALL_CHANGES };

struct control_client {
	struct ring *ring;
	struct control_options o;
	struct list held, due;
	struct deferred answering;
	struct control_changes_call *feed; /* waits */
	struct mail freed;
};

struct cache {
	struct ring *ring;
	const struct cache_events *events;
	void *owner;
	void (*on_freed)(void *owner);
	struct list due;
	struct deferred answering;
	struct mail freed;
};

struct fake fake = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct control_client *client;
static struct cache *cache;

void fake_reset(void)
{
	pthread_mutex_t lock = fake.lock;

	memset(&fake, 0, sizeof(fake));
	fake.lock = lock;
	fake.key_result = fake.route_result = fake.feed_result = CONTROL_OK;
	strcpy(fake.grants[0].team, "t-one");
	strcpy(fake.grants[0].user, "u-ada");
	fake.grant_count = 1;
	fake.has_version = true;
	fake.version = 10;
	fake.feed_next = 10;
	strcpy(fake.procd_url, "tcp://192.0.2.7:40001");
	strcpy(fake.state, "running");
}

/* --- something done on the directory thread, from the test's --- */

struct errand {
	struct mail mail;
	void (*run)(void *arg);
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool is_done;
};

static void on_errand(struct ring *r, struct mail *m)
{
	struct errand *e = CONTAINER_OF(m, struct errand, mail);

	e->run(e->arg);
	pthread_mutex_lock(&e->lock);
	e->is_done = true;
	pthread_cond_signal(&e->done);
	pthread_mutex_unlock(&e->lock);
}

static void run_there(void (*run)(void *arg), void *arg)
{
	struct errand e = {.mail.on_mail = on_errand,
			   .run = run,
			   .arg = arg,
			   .lock = PTHREAD_MUTEX_INITIALIZER,
			   .done = PTHREAD_COND_INITIALIZER};

	ring_post(fake.ring, NULL, &e.mail);
	pthread_mutex_lock(&e.lock);
	while (!e.is_done)
		pthread_cond_wait(&e.done, &e.lock);
	pthread_mutex_unlock(&e.lock);
}

/* --- the control plane --- */

static void answer_key(struct control_key_call *k)
{
	k->call.result = fake.key_result;
	memcpy(k->grants, fake.grants, sizeof(k->grants));
	k->grant_count = fake.grant_count;
	k->has_version = fake.has_version;
	k->version = fake.version;
}

static void answer_route(struct control_route_call *r)
{
	r->call.result = fake.route_result;
	if (r->grant_count > 0)
		r->grant = r->grants[0];
	strcpy(r->procd_url, fake.procd_url);
	strcpy(r->procd_key, fake.procd_key);
	strcpy(r->state, fake.state);
	strcpy(r->policy, fake.policy);
	r->has_version = fake.has_version;
	r->version = fake.version;
}

static void answer(struct control_call *c)
{
	pthread_mutex_lock(&fake.lock);
	strcpy(c->reason, fake.reason);
	if (c->kind == CALL_KEY)
		answer_key(CONTAINER_OF(c, struct control_key_call, call));
	else
		answer_route(CONTAINER_OF(c, struct control_route_call, call));
	pthread_mutex_unlock(&fake.lock);
	c->on_done(c);
}

static void on_answering(struct deferred *d)
{
	while (!list_is_empty(&client->due)) {
		struct control_call *c = CONTAINER_OF(client->due.next, struct control_call, node);

		list_del(&c->node);
		answer(c);
	}
}

static void take(struct control_client *c, struct control_call *call, enum call_kind kind)
{
	call->kind = kind;
	list_add_tail(fake.is_held ? &c->held : &c->due, &call->node);
	deferred_ask(c->ring, &c->answering);
}

int control_client_new(struct ring *r, const struct control_options *o, struct control_client **ret_client,
		       char ret_error[256])
{
	client = calloc(1, sizeof(*client));
	client->ring = fake.ring = r;
	client->o = *o;
	list_init(&client->held);
	list_init(&client->due);
	deferred_init(&client->answering, on_answering);
	*ret_client = client;
	return 0;
}

static void on_freed(struct ring *r, struct mail *m)
{
	struct control_client *c = CONTAINER_OF(m, struct control_client, freed);

	c->o.on_freed(c->o.owner);
	free(c);
}

void control_client_free(struct control_client *c)
{
	if (!c)
		return;
	while (!list_is_empty(&c->held))
		list_del(c->held.next);
	while (!list_is_empty(&c->due))
		list_del(c->due.next);
	deferred_cancel(&c->answering);
	c->freed.on_mail = on_freed;
	ring_post(c->ring, c->ring, &c->freed);
	client = NULL;
}

void control_key_find(struct control_client *c, struct control_key_call *k)
{
	pthread_mutex_lock(&fake.lock);
	fake.key_calls++;
	take(c, &k->call, CALL_KEY);
	pthread_mutex_unlock(&fake.lock);
}

void control_route_find(struct control_client *c, struct control_route_call *r)
{
	pthread_mutex_lock(&fake.lock);
	fake.route_calls++;
	fake.was_no_wake = r->is_no_wake;
	fake.last_wait_s = r->wait_s;
	take(c, &r->call, CALL_ROUTE);
	pthread_mutex_unlock(&fake.lock);
}

static void feed_answer(struct control_client *c, enum control_result result, uint64_t next,
			const struct control_change *changes, uint32_t count)
{
	struct control_changes_call *f = c->feed;

	c->feed = NULL;
	f->call.result = result;
	f->next = next;
	f->changes = changes;
	f->change_count = count;
	f->call.on_done(&f->call);
}

static void on_feed_timer(struct timer *t)
{
	struct control_changes_call *f = CONTAINER_OF(t, struct control_changes_call, call.again);

	client->feed = f;
	feed_answer(client, fake.feed_result, fake.feed_next, NULL, 0);
}

void control_changes_wait(struct control_client *c, struct control_changes_call *ch)
{
	pthread_mutex_lock(&fake.lock);
	fake.feed_calls++;
	fake.feed_since = ch->since;
	ch->call.kind = CALL_CHANGES;
	if (ch->wait_s > 0 && fake.feed_result == CONTROL_OK) {
		c->feed = ch;
		fake.is_feed_waiting = true;
	} else {
		timer_init(&ch->call.again, on_feed_timer);
		timer_start(c->ring, &ch->call.again, 0);
	}
	pthread_mutex_unlock(&fake.lock);
}

void control_cancel(struct control_client *c, struct control_call *call)
{
	pthread_mutex_lock(&fake.lock);
	if (call->kind == CALL_CHANGES) {
		if (c->feed && &c->feed->call == call)
			c->feed = NULL;
		else
			timer_stop(c->ring, &call->again);
	} else {
		list_del(&call->node);
		fake.cancelled++;
	}
	pthread_mutex_unlock(&fake.lock);
}

static void release(void *arg)
{
	while (!list_is_empty(&client->held)) {
		struct list *n = client->held.next;

		list_del(n);
		list_add_tail(&client->due, n);
	}
	on_answering(&client->answering);
}

void fake_release(void)
{
	run_there(release, NULL);
}

struct told {
	enum control_result result;
	uint64_t next;
	const struct control_change *changes;
	uint32_t count;
};

static void tell(void *arg)
{
	const struct told *t = arg;

	if (client->feed)
		feed_answer(client, t->result, t->next, t->changes, t->count);
}

void fake_feed_tell(const struct control_change *changes, uint32_t count)
{
	struct told t = {CONTROL_OK, ++fake.feed_next, changes, count};

	run_there(tell, &t);
}

void fake_feed_end(enum control_result result, uint64_t next)
{
	struct told t = {result, next, NULL, 0};

	run_there(tell, &t);
}

static void control_state(void *arg)
{
	client->o.on_state(client->o.owner, *(bool *)arg, "as the test says");
}

void fake_control_state(bool is_up)
{
	run_there(control_state, &is_up);
}

static void nothing(void *arg)
{
}

void fake_nothing(void)
{
	run_there(nothing, NULL);
}

/* --- Redis --- */

static struct fake_value *value_find(const char *name)
{
	for (int i = 0; i < FAKE_VALUES_MAX; i++)
		if (fake.values[i].bytes > 0 && strcmp(fake.values[i].name, name) == 0)
			return &fake.values[i];
	return NULL;
}

static void on_reading(struct deferred *d)
{
	while (!list_is_empty(&cache->due)) {
		struct cache_read *q = CONTAINER_OF(cache->due.next, struct cache_read, node);

		list_del(&q->node);
		q->result = fake.is_redis_up ? CACHE_DONE : CACHE_FAILED;
		for (uint32_t i = 0; i < q->count; i++) {
			struct fake_value *v = value_find(q->names[i]);

			q->values[i] = v ? bytes_of(v->value, v->bytes) : bytes_of(NULL, 0);
		}
		q->on_done(q);
	}
}

int cache_new(struct ring *r, const struct cache_options *o, const struct cache_events *events, void *owner,
	      struct cache **ret_cache, char ret_error[256])
{
	cache = calloc(1, sizeof(*cache));
	cache->ring = r;
	cache->events = events;
	cache->owner = owner;
	list_init(&cache->due);
	deferred_init(&cache->answering, on_reading);
	*ret_cache = cache;
	return 0;
}

static void on_cache_freed(struct ring *r, struct mail *m)
{
	struct cache *c = CONTAINER_OF(m, struct cache, freed);

	c->on_freed(c->owner);
	free(c);
}

void cache_free(struct cache *c, void (*on_freed_)(void *owner))
{
	while (!list_is_empty(&c->due))
		list_del(c->due.next);
	deferred_cancel(&c->answering);
	c->on_freed = on_freed_;
	c->freed.on_mail = on_cache_freed;
	ring_post(c->ring, c->ring, &c->freed);
	cache = NULL;
}

void cache_get(struct cache *c, struct cache_read *q)
{
	fake.reads++;
	list_add_tail(&c->due, &q->node);
	deferred_ask(c->ring, &c->answering);
}

void cache_cancel(struct cache *c, struct cache_read *q)
{
	list_del(&q->node);
}

void cache_fill(struct cache *c, const char *name, uint64_t version, struct bytes value, uint32_t ttl_ms,
		const char (*revisions)[RECORD_NAME_MAX], uint32_t revision_count)
{
	struct fake_value *v = value_find(name);

	if (!fake.is_redis_up)
		return;
	fake.fills++;
	for (int i = 0; !v && i < FAKE_VALUES_MAX; i++)
		if (fake.values[i].bytes == 0)
			v = &fake.values[i];
	strcpy(v->name, name);
	memcpy(v->value, value.p, value.n);
	v->bytes = value.n;
}

void cache_revisions(struct cache *c)
{
	fake.revision_reads++;
	if (fake.revision_name[0])
		c->events->on_revision(c->owner, bytes_str(fake.revision_name), fake.revision);
}

void cache_stats(const struct cache *c, struct cache_stats *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->is_up = fake.is_redis_up;
	strcpy(ret->server, "fake");
}

void control_client_stats(const struct control_client *c, struct control_stats *ret)
{
	memset(ret, 0, sizeof(*ret));
}

static void redis(void *arg)
{
	fake.is_redis_up = *(bool *)arg;
	if (fake.is_redis_up)
		cache->events->on_up(cache->owner);
	else
		cache->events->on_down(cache->owner, "as the test says");
}

void fake_redis(bool is_up)
{
	run_there(redis, &is_up);
}

static void invalidate(void *arg)
{
	cache->events->on_invalidated(cache->owner, bytes_str(arg));
}

void fake_invalidate(const char *name)
{
	char copy[RECORD_NAME_MAX];

	strcpy(copy, name);
	run_there(invalidate, copy);
}
