/*
 * See l1.h. Tables of all kinds stand in each shard; an entry is one block: header, deps, value, name.
 */
#include "gateway/l1.h"

#include "core/list.h"
#include "gateway/limits.h"

#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>

struct entry {
	struct list lru; /* in its table, the last used first */
	struct entry *next;
	uint64_t hash;
	uint64_t asked, expires_ms, version;
	uint32_t value_bytes, dep_count;
	bool is_redis;
	uint32_t deps[]; /* then the value, then the name with its NUL */
};

struct table {
	struct entry **buckets;
	uint32_t bucket_mask;
	uint32_t count, most;
	struct list lru;
	uint64_t hits, misses, pushed_out;
};

struct shard {
	pthread_mutex_t lock;
	struct table tables[L1_KINDS];
};

struct l1 {
	uint8_t hash_key[crypto_shorthash_KEYBYTES]; /* so that nobody can choose names that meet */
	uint32_t shard_mask;
	struct shard *shards;
	_Atomic uint64_t drops, dropped_all, dropped_redis, late;
	_Atomic uint64_t dropped[L1_SLOTS];
};

static uint64_t name_hash(const struct l1 *l, const char *name)
{
	uint64_t h;

	_Static_assert(sizeof(h) == crypto_shorthash_BYTES, "SipHash-2-4");
	crypto_shorthash((uint8_t *)&h, (const uint8_t *)name, strlen(name), l->hash_key);
	return h;
}

static struct shard *shard_of(struct l1 *l, uint64_t hash)
{
	return &l->shards[hash & l->shard_mask];
}

static struct entry **bucket_of(struct table *t, uint64_t hash)
{
	return &t->buckets[hash >> 32 & t->bucket_mask];
}

static uint8_t *entry_value(struct entry *e)
{
	return (uint8_t *)(e->deps + e->dep_count);
}

static const char *entry_name(struct entry *e)
{
	return (const char *)(entry_value(e) + e->value_bytes);
}

/* --- life --- */

static bool table_init(struct table *t, uint32_t most)
{
	uint32_t buckets = 1;

	while (buckets < most)
		buckets *= 2;
	t->most = most;
	t->bucket_mask = buckets - 1;
	list_init(&t->lru);
	t->buckets = calloc(buckets, sizeof(struct entry *));
	return t->buckets != NULL;
}

struct l1 *l1_new(const struct l1_options *o)
{
	uint32_t shards = o->shards ? o->shards : L1_SHARDS;
	struct l1 *l = calloc(1, sizeof(*l));
	bool is_good = true;

	ASSERT((shards & (shards - 1)) == 0);
	if (!l)
		return NULL;
	l->shards = calloc(shards, sizeof(*l->shards));
	if (!l->shards) {
		free(l);
		return NULL;
	}
	crypto_shorthash_keygen(l->hash_key);
	l->shard_mask = shards - 1;
	for (uint32_t i = 0; i < shards; i++) {
		pthread_mutex_init(&l->shards[i].lock, NULL);
		for (int k = 0; k < L1_KINDS; k++)
			if (!table_init(&l->shards[i].tables[k], (o->entries[k] + shards - 1) / shards))
				is_good = false;
	}
	if (is_good)
		return l;
	l1_free(l);
	return NULL;
}

static void table_deinit(struct table *t)
{
	for (struct list *n = t->lru.next, *next; n != &t->lru; n = next) {
		next = n->next;
		free(CONTAINER_OF(n, struct entry, lru));
	}
	free(t->buckets);
}

void l1_free(struct l1 *l)
{
	if (!l)
		return;
	for (uint32_t i = 0; i <= l->shard_mask; i++) {
		for (int k = 0; k < L1_KINDS; k++)
			table_deinit(&l->shards[i].tables[k]);
		pthread_mutex_destroy(&l->shards[i].lock);
	}
	free(l->shards);
	free(l);
}

/* --- what was dropped --- */

uint64_t l1_now(const struct l1 *l)
{
	return atomic_load(&l->drops);
}

static uint32_t slot_of(uint64_t hash)
{
	_Static_assert((L1_SLOTS & (L1_SLOTS - 1)) == 0, "a mask");
	return (uint32_t)(hash & (L1_SLOTS - 1));
}

void l1_depend(const struct l1 *l, struct l1_deps *d, const char *name)
{
	ASSERT(d->count < L1_DEPS_MAX);
	d->slots[d->count++] = slot_of(name_hash(l, name));
}

static bool was_dropped(const struct l1 *l, const uint32_t *slots, uint32_t count, uint64_t asked)
{
	for (uint32_t i = 0; i < count; i++)
		if (atomic_load(&l->dropped[slots[i]]) > asked)
			return true;
	return false;
}

bool l1_was_dropped(const struct l1 *l, const struct l1_deps *d, uint64_t asked)
{
	return was_dropped(l, d->slots, d->count, asked);
}

bool l1_is_stale(const struct l1 *l, const struct l1_deps *d, uint64_t asked)
{
	return atomic_load(&l->dropped_all) > asked || l1_was_dropped(l, d, asked);
}

/* The number of drops grows last: who reads it sees the drop, too. */
static void drop(struct l1 *l, _Atomic uint64_t *dropped)
{
	uint64_t number = atomic_load(&l->drops) + 1;

	atomic_store(dropped, number);
	atomic_store(&l->drops, number);
}

void l1_drop(struct l1 *l, const char *name)
{
	drop(l, &l->dropped[slot_of(name_hash(l, name))]);
}

void l1_drop_redis(struct l1 *l)
{
	drop(l, &l->dropped_redis);
}

void l1_drop_all(struct l1 *l)
{
	drop(l, &l->dropped_all);
}

/* --- entries --- */

static bool entry_is_good(const struct l1 *l, const struct entry *e, uint64_t now_ms)
{
	if (now_ms >= e->expires_ms || atomic_load(&l->dropped_all) > e->asked ||
	    (e->is_redis && atomic_load(&l->dropped_redis) > e->asked))
		return false;
	return !was_dropped(l, e->deps, e->dep_count, e->asked);
}

static struct entry *table_find(struct table *t, uint64_t hash, const char *name)
{
	struct entry *e = *bucket_of(t, hash);

	while (e && (e->hash != hash || strcmp(entry_name(e), name) != 0))
		e = e->next;
	return e;
}

static void table_remove(struct table *t, struct entry *e)
{
	struct entry **at = bucket_of(t, e->hash);

	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	list_del(&e->lru);
	t->count--;
	free(e);
}

static void table_add(struct table *t, struct entry *e)
{
	struct entry **at = bucket_of(t, e->hash);

	if (t->count == t->most) {
		table_remove(t, CONTAINER_OF(t->lru.prev, struct entry, lru));
		t->pushed_out++;
	}
	e->next = *at;
	*at = e;
	list_add_head(&t->lru, &e->lru);
	t->count++;
}

static struct entry *entry_new(const struct l1_fill *f, uint64_t hash)
{
	size_t name_bytes = strlen(f->name) + 1;
	struct entry *e = malloc(sizeof(*e) + f->deps->count * sizeof(e->deps[0]) + f->value.n + name_bytes);

	if (!e)
		return NULL;
	*e = (struct entry){.hash = hash,
			    .asked = f->asked,
			    .expires_ms = f->expires_ms,
			    .version = f->version,
			    .value_bytes = (uint32_t)f->value.n,
			    .dep_count = f->deps->count,
			    .is_redis = f->is_redis};
	memcpy(e->deps, f->deps->slots, f->deps->count * sizeof(e->deps[0]));
	if (f->value.n > 0)
		memcpy(entry_value(e), f->value.p, f->value.n);
	memcpy(entry_value(e) + f->value.n, f->name, name_bytes);
	return e;
}

bool l1_put(struct l1 *l, const struct l1_fill *f, uint64_t now_ms)
{
	uint64_t hash = name_hash(l, f->name);
	struct shard *s = shard_of(l, hash);
	struct table *t = &s->tables[f->kind];
	struct entry *new = entry_new(f, hash), *old;
	bool is_kept = false;

	ASSERT(f->value.n <= L1_VALUE_MAX);
	if (!new)
		return false;
	pthread_mutex_lock(&s->lock);
	old = table_find(t, hash, f->name);
	if (!entry_is_good(l, new, now_ms)) {
		atomic_fetch_add(&l->late, 1);
	} else if (!old || new->version == 0 || new->version >= old->version || !entry_is_good(l, old, now_ms)) {
		if (old)
			table_remove(t, old);
		table_add(t, new);
		is_kept = true;
	}
	pthread_mutex_unlock(&s->lock);
	if (!is_kept)
		free(new);
	return is_kept;
}

int l1_get(struct l1 *l, enum l1_kind kind, const char *name, uint64_t now_ms, void *ret_value, size_t size)
{
	uint64_t hash = name_hash(l, name);
	struct shard *s = shard_of(l, hash);
	struct table *t = &s->tables[kind];
	struct entry *e;
	int n = -1;

	pthread_mutex_lock(&s->lock);
	e = table_find(t, hash, name);
	if (e && !entry_is_good(l, e, now_ms)) {
		table_remove(t, e);
		e = NULL;
	}
	if (e) {
		ASSERT(e->value_bytes <= size);
		if (e->value_bytes > 0)
			memcpy(ret_value, entry_value(e), e->value_bytes);
		n = (int)e->value_bytes;
		list_del(&e->lru);
		list_add_head(&t->lru, &e->lru);
		t->hits++;
	} else {
		t->misses++;
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

void l1_stats(const struct l1 *l, struct l1_stats *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->late = atomic_load(&l->late);
	for (uint32_t i = 0; i <= l->shard_mask; i++) {
		struct shard *s = &l->shards[i];

		pthread_mutex_lock(&s->lock);
		for (int k = 0; k < L1_KINDS; k++) {
			ret->hits[k] += s->tables[k].hits;
			ret->misses[k] += s->tables[k].misses;
			ret->pushed_out[k] += s->tables[k].pushed_out;
			ret->count[k] += s->tables[k].count;
		}
		pthread_mutex_unlock(&s->lock);
	}
}
