/*
 * gateway/static_directory.c - the directory from a YAML file (docs/configuration.md).
 *
 * The file becomes one immutable `content`, made off to the side and then swapped in. Lookups hold a read lock while they
 * copy their answer, and give it after that. A file that is wrong changes nothing.
 */
#include "core/nearest.h"
#include "core/pubkey.h"
#include "core/yaml.h"
#include "gateway/directory.h"
#include "ring/socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sodium.h>
#include <sys/stat.h>
#include <time.h>

/* Of users, keys, sandboxes and teams each. A region that has more has a control plane. */
#define ENTRIES_MAX 100000

/* 100,000 users with a key, a team and a sandbox each are 2.2 million nodes and 30 MB. */
static const struct doc_limits file_limits = {.bytes = 64 << 20, .nodes = 4000000};

#define ERROR_BYTES 256

/* A file that was changed less than this ago may change again within the same tick of its clock: it is read again. */
#define SETTLED_S 2

struct user {
	char id[USER_ID_MAX + 1];
	uint32_t team_count;
	uint32_t team_first; /* in content.memberships */
};

struct team {
	char id[TEAM_ID_MAX + 1];
	bool is_listed;        /* among `teams`, not only named by users and sandboxes */
	struct policy *policy; /* or NULL */
};

struct key {
	char fingerprint[FINGERPRINT_CHARS + 1];
	uint32_t user;
	uint32_t line;
};

struct sandbox {
	char id[SANDBOX_ID_MAX + 1];
	uint32_t team;
	socklen_t addr_bytes;
	bool has_procd_key;
	struct proof_public procd_key;
	struct policy *policy; /* or NULL */
	struct sockaddr_storage addr;
};

/* Entries of one type that begin with their name, found by it: open addressing, at most half full. */
struct table {
	uint8_t *entries;
	size_t entry_bytes;
	uint32_t count, room;
	uint32_t *slots; /* index + 1, 0: free */
	uint32_t slot_mask;
};

struct content {
	struct table users, keys, sandboxes, teams;
	uint32_t *memberships; /* indexes of teams */
	uint32_t membership_count, membership_room;
};

struct static_directory {
	struct directory base;
	char *path;
	pthread_rwlock_t lock; /* content */
	struct content *content;
	pthread_mutex_t reload_lock; /* all below: what was last read */
	bool is_settled;
	struct stat seen;
	uint8_t hash[crypto_hash_sha256_BYTES];
	int last_error; /* of that; 0: it is the content */
	char last_text[ERROR_BYTES];
};

/* Of one reading. */
struct loader {
	struct content *content;
	const struct doc *doc;
	char *error;
};

/* --- tables --- */

static uint32_t name_hash(const char *name)
{
	uint32_t h = 2166136261u;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 16777619u;
	return h ^ h >> 15;
}

static void *table_at(const struct table *t, uint32_t index)
{
	return t->entries + (size_t)index * t->entry_bytes;
}

/* The slot that holds `name`, or the free one where it belongs. */
static uint32_t *table_slot(const struct table *t, const char *name)
{
	uint32_t i = name_hash(name) & t->slot_mask;

	while (t->slots[i] && strcmp(table_at(t, t->slots[i] - 1), name) != 0)
		i = (i + 1) & t->slot_mask;
	return &t->slots[i];
}

static void *table_find(const struct table *t, const char *name)
{
	uint32_t slot = t->count ? *table_slot(t, name) : 0;

	return slot ? table_at(t, slot - 1) : NULL;
}

static uint32_t table_index(const struct table *t, const void *entry)
{
	return (uint32_t)((size_t)((const uint8_t *)entry - t->entries) / t->entry_bytes);
}

static int table_grow(struct table *t)
{
	uint32_t room = t->room ? t->room * 2 : 32;
	uint8_t *entries = reallocarray(t->entries, room, t->entry_bytes);
	uint32_t *slots = entries ? calloc(room, 2 * sizeof(*slots)) : NULL;

	if (entries)
		t->entries = entries;
	if (!slots)
		return -ENOMEM;
	free(t->slots);
	t->slots = slots;
	t->slot_mask = room * 2 - 1;
	t->room = room;
	for (uint32_t i = 0; i < t->count; i++)
		*table_slot(t, table_at(t, i)) = i + 1;
	return 0;
}

/* A new entry of a name that is not there yet, zero but for the name. It stays in place until the next one is added. */
static int table_add(struct table *t, const char *name, size_t name_room, void **ret_entry)
{
	char *entry;

	if (t->count == ENTRIES_MAX)
		return -E2BIG;
	if (t->count == t->room && table_grow(t) < 0)
		return -ENOMEM;
	ASSERT(strlen(name) < name_room);
	entry = table_at(t, t->count);
	memset(entry, 0, t->entry_bytes);
	strcpy(entry, name);
	*table_slot(t, name) = ++t->count;
	*ret_entry = entry;
	return 0;
}

static void table_deinit(struct table *t)
{
	free(t->entries);
	free(t->slots);
}

static struct content *content_new(void)
{
	struct content *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->users.entry_bytes = sizeof(struct user);
	c->keys.entry_bytes = sizeof(struct key);
	c->sandboxes.entry_bytes = sizeof(struct sandbox);
	c->teams.entry_bytes = sizeof(struct team);
	return c;
}

static void content_free(struct content *c)
{
	if (!c)
		return;
	for (uint32_t i = 0; i < c->teams.count; i++)
		policy_put(((struct team *)table_at(&c->teams, i))->policy);
	for (uint32_t i = 0; i < c->sandboxes.count; i++)
		policy_put(((struct sandbox *)table_at(&c->sandboxes, i))->policy);
	table_deinit(&c->users);
	table_deinit(&c->keys);
	table_deinit(&c->sandboxes);
	table_deinit(&c->teams);
	free(c->memberships);
	free(c);
}

/* --- reading the file --- */

#define FAIL(l, node, ...) doc_fail((l)->doc, (node), (l)->error, ERROR_BYTES, __VA_ARGS__)

static int cannot_add(const struct loader *l, const struct doc_node *n, int rc, const char *what)
{
	if (rc == -E2BIG)
		return FAIL(l, n, "more than %d %s", ENTRIES_MAX, what);
	snprintf(l->error, ERROR_BYTES, "out of memory");
	return rc;
}

/* The keys that a map may have, and their values where they are there. */
struct map_field {
	const char *name;
	enum doc_kind kind;
	bool is_required;
	const struct doc_node *value;
};

static int map_field_set(const struct loader *l, struct map_field *f, const struct doc_node *value)
{
	if (value->kind != f->kind)
		return FAIL(l, value, "%s: %s where %s is expected", f->name, doc_kind_name(value),
			    doc_kind_name(&(struct doc_node){.kind = (uint8_t)f->kind}));
	if (f->kind == DOC_SCALAR && value->count == 0)
		return FAIL(l, value, "%s has no value", f->name);
	f->value = value;
	return 0;
}

static int refuse_key(const struct loader *l, const struct doc_node *k, const struct map_field *fields, size_t count)
{
	char shown[DOC_SHOW_BYTES], known[128] = "";
	struct nearest near;

	nearest_begin(&near, doc_text(l->doc, k));
	for (size_t i = 0; i < count; i++) {
		nearest_offer(&near, fields[i].name);
		ASSERT(strlen(known) + strlen(fields[i].name) + 3 < sizeof(known));
		strcat(known, i ? ", " : "");
		strcat(known, fields[i].name);
	}
	doc_show(doc_text(l->doc, k), shown);
	if (near.best)
		return FAIL(l, k, "unknown key '%s'; did you mean '%s'?", shown, near.best);
	return FAIL(l, k, "unknown key '%s'; known here: %s", shown, known);
}

static int map_read(const struct loader *l, const struct doc_node *map, struct map_field *fields, size_t count)
{
	const struct doc_node *value;

	if (map->kind != DOC_MAP)
		return FAIL(l, map, "%s where a map (%s: ...) is expected", doc_kind_name(map), fields[0].name);
	for (const struct doc_node *k = doc_first(l->doc, map); k; k = doc_next(l->doc, value)) {
		size_t i = 0;

		value = doc_next(l->doc, k);
		while (i < count && strcmp(doc_text(l->doc, k), fields[i].name) != 0)
			i++;
		if (i == count)
			return refuse_key(l, k, fields, count);
		if (map_field_set(l, &fields[i], value) < 0)
			return -EINVAL;
	}
	for (size_t i = 0; i < count; i++)
		if (fields[i].is_required && !fields[i].value)
			return FAIL(l, map, "%s is missing", fields[i].name);
	return 0;
}

static int team_intern(const struct loader *l, const struct doc_node *n, uint32_t *ret_index)
{
	struct table *teams = &l->content->teams;
	const char *id;
	char shown[DOC_SHOW_BYTES];
	void *team;
	int rc;

	if (n->kind != DOC_SCALAR)
		return FAIL(l, n, "%s where a team ID is expected", doc_kind_name(n));
	id = doc_text(l->doc, n);
	if (!member_id_is_good(bytes_str(id)))
		return FAIL(l, n, "'%s' is no team ID: 1 to %d of A-Z a-z 0-9 _ -", doc_show(id, shown), TEAM_ID_MAX);
	team = table_find(teams, id);
	rc = team ? 0 : table_add(teams, id, TEAM_ID_MAX + 1, &team);
	if (rc < 0)
		return cannot_add(l, n, rc, "teams");
	*ret_index = table_index(teams, team);
	return 0;
}

static int membership_add(struct content *c, uint32_t team)
{
	if (c->membership_count == c->membership_room) {
		uint32_t room = c->membership_room ? c->membership_room * 2 : 64;
		uint32_t *m = reallocarray(c->memberships, room, sizeof(*m));

		if (!m)
			return -ENOMEM;
		c->memberships = m;
		c->membership_room = room;
	}
	c->memberships[c->membership_count++] = team;
	return 0;
}

static int user_teams(const struct loader *l, struct user *u, const struct doc_node *list)
{
	struct content *c = l->content;

	u->team_first = c->membership_count;
	if (list->count > GRANTS_MAX)
		return FAIL(l, list, "user %s: %u teams; at most %d", u->id, list->count, GRANTS_MAX);
	for (const struct doc_node *n = doc_first(l->doc, list); n; n = doc_next(l->doc, n)) {
		uint32_t team = 0;
		int rc = team_intern(l, n, &team);

		if (rc < 0)
			return rc;
		for (uint32_t i = u->team_first; i < c->membership_count; i++)
			if (c->memberships[i] == team)
				return FAIL(l, n, "user %s: team %s stands here twice", u->id, doc_text(l->doc, n));
		rc = membership_add(c, team);
		if (rc < 0)
			return cannot_add(l, n, rc, "teams");
		u->team_count++;
	}
	return 0;
}

static int user_key(const struct loader *l, uint32_t user, const struct doc_node *n)
{
	struct table *users = &l->content->users, *keys = &l->content->keys;
	const char *id = table_at(users, user);
	char error[PUBKEY_ERROR_BYTES];
	struct pubkey parsed;
	struct key *key;
	void *entry;
	int rc;

	if (n->kind != DOC_SCALAR)
		return FAIL(l, n, "user %s: %s where a key (ssh-ed25519 AAAA...) is expected", id, doc_kind_name(n));
	if (pubkey_parse_line(doc_text(l->doc, n), &parsed, error) < 0)
		return FAIL(l, n, "user %s: %s", id, error);
	key = table_find(keys, parsed.fingerprint);
	if (key)
		return FAIL(l, n, "user %s: this key is user %s's already, in line %u", id,
			    (char *)table_at(users, key->user), key->line);
	rc = table_add(keys, parsed.fingerprint, sizeof(key->fingerprint), &entry);
	if (rc < 0)
		return cannot_add(l, n, rc, "keys");
	key = entry;
	key->user = user;
	key->line = n->line;
	return 0;
}

static int user_read(const struct loader *l, const struct doc_node *map)
{
	struct map_field fields[] = {
		{"id", DOC_SCALAR, true, NULL},
		{"teams", DOC_LIST, true, NULL},
		{"keys", DOC_LIST, true, NULL},
	};
	struct table *users = &l->content->users;
	char shown[DOC_SHOW_BYTES];
	const char *id;
	uint32_t index;
	void *user;
	int rc = map_read(l, map, fields, ARRAY_LEN(fields));

	if (rc < 0)
		return rc;
	id = doc_text(l->doc, fields[0].value);
	if (!member_id_is_good(bytes_str(id)))
		return FAIL(l, fields[0].value, "'%s' is no user ID: 1 to %d of A-Z a-z 0-9 _ -", doc_show(id, shown),
			    USER_ID_MAX);
	if (table_find(users, id))
		return FAIL(l, fields[0].value, "user %s stands here twice", id);
	rc = table_add(users, id, USER_ID_MAX + 1, &user);
	if (rc < 0)
		return cannot_add(l, map, rc, "users");
	index = table_index(users, user);
	rc = user_teams(l, user, fields[1].value);
	for (const struct doc_node *n = doc_first(l->doc, fields[2].value); n && rc == 0; n = doc_next(l->doc, n))
		rc = user_key(l, index, n);
	return rc;
}

static bool procd_address(const char *text, struct sandbox *s)
{
	if (strncmp(text, "unix:", 5) == 0 && text[5] != '/')
		return false;
	if (socket_address_parse(text, &s->addr, &s->addr_bytes) < 0)
		return false;
	if (s->addr.ss_family == AF_INET)
		return ((struct sockaddr_in *)&s->addr)->sin_port != 0;
	return s->addr.ss_family != AF_INET6 || ((struct sockaddr_in6 *)&s->addr)->sin6_port != 0;
}

/* Where there is one. */
static int policy_take(const struct loader *l, const struct doc_node *map, struct policy **ret_policy)
{
	return map ? policy_read(l->doc, map, ret_policy, l->error, ERROR_BYTES) : 0;
}

static int team_read(const struct loader *l, const struct doc_node *map)
{
	struct map_field fields[] = {{"id", DOC_SCALAR, true, NULL}, {"policy", DOC_MAP, false, NULL}};
	struct team *t;
	uint32_t index = 0;
	int rc = map_read(l, map, fields, ARRAY_LEN(fields));

	if (rc == 0)
		rc = team_intern(l, fields[0].value, &index);
	if (rc < 0)
		return rc;
	t = table_at(&l->content->teams, index);
	if (t->is_listed)
		return FAIL(l, fields[0].value, "team %s stands here twice", t->id);
	t->is_listed = true;
	return policy_take(l, fields[1].value, &t->policy);
}

static int sandbox_read(const struct loader *l, const struct doc_node *map)
{
	struct map_field fields[] = {
		{"id", DOC_SCALAR, true, NULL},    {"team", DOC_SCALAR, true, NULL},
		{"procd", DOC_SCALAR, true, NULL}, {"procd_key", DOC_SCALAR, false, NULL},
		{"policy", DOC_MAP, false, NULL},
	};
	struct table *sandboxes = &l->content->sandboxes;
	char shown[DOC_SHOW_BYTES];
	struct sandbox *s;
	const char *text;
	uint32_t team = 0;
	void *entry;
	int rc = map_read(l, map, fields, ARRAY_LEN(fields));

	if (rc == 0)
		rc = team_intern(l, fields[1].value, &team);
	if (rc < 0)
		return rc;
	text = doc_text(l->doc, fields[0].value);
	if (!sandbox_id_is_good(bytes_str(text)))
		return FAIL(l, fields[0].value, "'%s' is no sandbox ID: 1 to %d of a-z 0-9 -, no - at either end",
			    doc_show(text, shown), SANDBOX_ID_MAX);
	if (table_find(sandboxes, text))
		return FAIL(l, fields[0].value, "sandbox %s stands here twice", text);
	rc = table_add(sandboxes, text, SANDBOX_ID_MAX + 1, &entry);
	if (rc < 0)
		return cannot_add(l, map, rc, "sandboxes");
	s = entry;
	s->team = team;
	text = doc_text(l->doc, fields[2].value);
	if (!procd_address(text, s))
		return FAIL(l, fields[2].value, "sandbox %s: '%s' is no address: IP:PORT, [V6]:PORT or unix:/PATH",
			    s->id, doc_show(text, shown));
	rc = policy_take(l, fields[4].value, &s->policy);
	if (rc < 0 || !fields[3].value)
		return rc;
	if (proof_public_parse(doc_text(l->doc, fields[3].value), &s->procd_key) < 0)
		return FAIL(l, fields[3].value,
			    "sandbox %s: procd_key is no ed25519:BASE64, as in procd keygen's .pub file", s->id);
	s->has_procd_key = true;
	return 0;
}

static int file_read(const struct loader *l)
{
	struct map_field fields[] = {
		{"users", DOC_LIST, true, NULL}, {"sandboxes", DOC_LIST, true, NULL}, {"teams", DOC_LIST, false, NULL}};
	const struct doc_node *root = doc_root(l->doc);
	int rc;

	if (!root)
		return FAIL(l, NULL, "the file is empty; users and sandboxes are expected");
	rc = map_read(l, root, fields, ARRAY_LEN(fields));
	if (rc < 0)
		return rc;
	for (const struct doc_node *n = doc_first(l->doc, fields[0].value); n && rc == 0; n = doc_next(l->doc, n))
		rc = user_read(l, n);
	for (const struct doc_node *n = doc_first(l->doc, fields[1].value); n && rc == 0; n = doc_next(l->doc, n))
		rc = sandbox_read(l, n);
	for (const struct doc_node *n = fields[2].value ? doc_first(l->doc, fields[2].value) : NULL; n && rc == 0;
	     n = doc_next(l->doc, n))
		rc = team_read(l, n);
	return rc;
}

static int content_parse(const char *name, struct bytes text, struct content **ret_content, char ret_error[ERROR_BYTES])
{
	struct loader l = {.error = ret_error};
	struct doc *doc;
	int rc = doc_parse(name, text, &file_limits, &doc, ret_error, ERROR_BYTES);

	if (rc < 0)
		return rc;
	l.doc = doc;
	l.content = content_new();
	if (l.content)
		rc = file_read(&l);
	else
		rc = cannot_add(&l, NULL, -ENOMEM, "");
	doc_free(doc);
	if (rc < 0)
		content_free(l.content);
	else
		*ret_content = l.content;
	return rc;
}

/* --- reading it again --- */

static bool is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static bool is_settled(const struct stat *st)
{
	/* The clock that file systems take their times from. */
	struct timespec now;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return now.tv_sec - st->st_ctim.tv_sec >= SETTLED_S || st->st_ctim.tv_sec - now.tv_sec >= SETTLED_S;
}

static int remember_error(struct static_directory *d, int rc, char ret_error[ERROR_BYTES])
{
	d->last_error = rc;
	snprintf(d->last_text, sizeof(d->last_text), "%s", ret_error);
	return rc;
}

/* Nothing has changed: an error that was told before is still there. */
static int still_so(const struct static_directory *d, char ret_error[ERROR_BYTES])
{
	if (d->last_error == 0)
		return 0;
	memcpy(ret_error, d->last_text, sizeof(d->last_text));
	return -EALREADY;
}

static void content_swap(struct static_directory *d, struct content *new)
{
	struct content *old;

	pthread_rwlock_wrlock(&d->lock);
	old = d->content;
	d->content = new;
	pthread_rwlock_unlock(&d->lock);
	content_free(old);
}

static int parse_if_new(struct static_directory *d, struct bytes text, bool is_first, char ret_error[ERROR_BYTES])
{
	uint8_t hash[crypto_hash_sha256_BYTES];
	struct content *new;
	int rc;

	crypto_hash_sha256(hash, text.p, text.n);
	if (!is_first && memcmp(hash, d->hash, sizeof(hash)) == 0)
		return still_so(d, ret_error);
	memcpy(d->hash, hash, sizeof(hash));
	rc = content_parse(d->path, text, &new, ret_error);
	if (rc < 0)
		return remember_error(d, rc, ret_error);
	d->last_error = 0;
	content_swap(d, new);
	return 1;
}

/* The file is not there or cannot be read: told once, and again when it fails in another way. */
static int unreadable(struct static_directory *d, int rc, char ret_error[ERROR_BYTES])
{
	if (strcmp(d->last_text, ret_error) == 0 && d->last_error == rc)
		return -EALREADY;
	d->seen = (struct stat){0};
	d->is_settled = false;
	memset(d->hash, 0, sizeof(d->hash));
	return remember_error(d, rc, ret_error);
}

static int reload_locked(struct static_directory *d, bool is_first, char ret_error[ERROR_BYTES])
{
	struct stat st;
	uint8_t *text;
	size_t n;
	int rc;

	if (!is_first && d->is_settled && stat(d->path, &st) == 0 && is_same_file(&st, &d->seen))
		return still_so(d, ret_error);
	rc = doc_read_file(d->path, file_limits.bytes, &text, &n, &st, ret_error, ERROR_BYTES);
	if (rc < 0)
		return unreadable(d, rc, ret_error);
	d->seen = st;
	d->is_settled = is_settled(&st);
	rc = parse_if_new(d, bytes_of(text, n), is_first, ret_error);
	free(text);
	return rc;
}

int static_directory_reload(struct directory *directory, char ret_error[ERROR_BYTES])
{
	struct static_directory *d = CONTAINER_OF(directory, struct static_directory, base);
	int rc;

	pthread_mutex_lock(&d->reload_lock);
	rc = reload_locked(d, false, ret_error);
	pthread_mutex_unlock(&d->reload_lock);
	if (rc == 1)
		directory_changed(directory, &(struct subject){.kind = SUBJECT_ALL});
	return rc;
}

/* --- lookups --- */

static void key_find(struct directory *directory, struct key_query *q)
{
	struct static_directory *d = CONTAINER_OF(directory, struct static_directory, base);
	const struct content *c;
	const struct key *key;

	q->grant_count = 0;
	q->reason[0] = 0;
	pthread_rwlock_rdlock(&d->lock);
	c = d->content;
	key = table_find(&c->keys, q->fingerprint);
	if (key) {
		const struct user *u = table_at(&c->users, key->user);

		for (uint32_t i = 0; i < u->team_count; i++) {
			struct grant *g = &q->grants[q->grant_count++];

			strcpy(g->team, table_at(&c->teams, c->memberships[u->team_first + i]));
			strcpy(g->user, u->id);
		}
	}
	pthread_rwlock_unlock(&d->lock);
	/* Who is in no team may enter nothing: his keys are as good as unknown. */
	q->verdict = q->grant_count > 0 ? VERDICT_YES : VERDICT_NO;
	q->on_done(q);
}

static const struct grant *grant_of_team(const struct route_query *q, const char *team)
{
	for (uint32_t i = 0; i < q->grant_count; i++)
		if (strcmp(q->grants[i].team, team) == 0)
			return &q->grants[i];
	return NULL;
}

/* The query may be gone after on_done. */
static void answer_route(struct route_query *q)
{
	struct policy *team = q->team_policy, *sandbox = q->sandbox_policy;

	q->on_done(q);
	policy_put(team);
	policy_put(sandbox);
}

static void route_find(struct directory *directory, struct route_query *q)
{
	struct static_directory *d = CONTAINER_OF(directory, struct static_directory, base);
	const struct sandbox *s;
	const struct grant *g = NULL;
	const struct team *team;

	q->team_policy = q->sandbox_policy = NULL;
	q->verdict = VERDICT_NO;
	q->reason[0] = 0;
	pthread_rwlock_rdlock(&d->lock);
	s = table_find(&d->content->sandboxes, q->sandbox);
	team = s ? table_at(&d->content->teams, s->team) : NULL;
	if (s)
		g = grant_of_team(q, team->id);
	if (g) {
		q->team_policy = policy_get(team->policy);
		q->sandbox_policy = policy_get(s->policy);
		q->verdict = VERDICT_YES;
		memset(&q->route, 0, sizeof(q->route));
		strcpy(q->route.sandbox, s->id);
		q->route.grant = *g;
		q->route.addr = s->addr;
		q->route.addr_bytes = s->addr_bytes;
		q->route.procd_key = s->procd_key;
		q->route.has_procd_key = s->has_procd_key;
	}
	pthread_rwlock_unlock(&d->lock);
	answer_route(q);
}

/* Answers come inside the call that asks: there is never anything to cancel. */
static void key_cancel(struct directory *directory, struct key_query *q)
{
}

static void route_cancel(struct directory *directory, struct route_query *q)
{
}

static void directory_free(struct directory *directory)
{
	struct static_directory *d;

	if (!directory)
		return;
	d = CONTAINER_OF(directory, struct static_directory, base);
	content_free(d->content);
	pthread_rwlock_destroy(&d->lock);
	pthread_mutex_destroy(&d->reload_lock);
	free(d->path);
	free(d);
}

static const struct directory_ops static_ops = {
	.key_find = key_find,
	.route_find = route_find,
	.key_cancel = key_cancel,
	.route_cancel = route_cancel,
	.free = directory_free,
};

int static_directory_new(const char *path, struct directory **ret_directory, char ret_error[ERROR_BYTES])
{
	struct static_directory *d = calloc(1, sizeof(*d));
	int rc;

	if (!d || !(d->path = strdup(path))) {
		free(d);
		snprintf(ret_error, ERROR_BYTES, "out of memory");
		return -ENOMEM;
	}
	d->base.ops = &static_ops;
	pthread_rwlock_init(&d->lock, NULL);
	pthread_mutex_init(&d->reload_lock, NULL);
	rc = reload_locked(d, true, ret_error);
	if (rc < 0) {
		directory_free(&d->base);
		return rc;
	}
	*ret_directory = &d->base;
	return 0;
}
