/*
 * upstream/redis/fill.c - storing a value unless something newer is there.
 *
 * One server: the script compares and stores, in one step.
 * A Cluster:  REVISIONS ─► STORE (the script, which sees the value's name only) ─► AGAIN ─► newer? DEL
 *             A revision that is set after AGAIN has read it is followed by the control plane's own DEL of the value.
 *
 * A fill owns a copy of all that it needs, since a server that has forgotten the script is sent it with the value once more.
 */
#include "upstream/redis/internal.h"

#include <inttypes.h>
#include <openssl/evp.h>

/*
 * KEYS: the value's name, then revisions. ARGV: the value, its time to live in ms. 1: stored, 0: not.
 *
 * Versions are compared as 20 digits. A revision that is no number refuses: something was withdrawn, and nobody can say when. A
 * stored value that is no record is nothing; nor is one that never expires, which no gateway has written and which would bar
 * the name for ever. Version 0 (the answer had none) is stored only where nothing is.
 */
static const char script[] =
	"local new, none = string.sub(ARGV[1], 1, 20), string.rep('0', 20)\n"
	"local function read(key)\n"
	"  local v = redis.pcall('GET', key)\n"
	"  if type(v) == 'table' then return '' end\n"
	"  return v\n"
	"end\n"
	"for i = 2, #KEYS do\n"
	"  local rev = read(KEYS[i])\n"
	"  if rev then\n"
	"    if #rev > 20 or not string.find(rev, '^%d+$') then return 0 end\n"
	"    if string.rep('0', 20 - #rev) .. rev > new then return 0 end\n"
	"  end\n"
	"end\n"
	"local old = read(KEYS[1])\n"
	"if old and string.find(old, '^' .. string.rep('%d', 20)) then\n"
	"  if (string.sub(old, 1, 20) > new or new == none) and redis.call('PTTL', KEYS[1]) >= 0 then return 0 end\n"
	"end\n"
	"redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])\n"
	"return 1\n";

enum fill_stage {
	FILL_REVISIONS, /* a Cluster only */
	FILL_STORE,
	FILL_AGAIN, /* a Cluster only */
	FILL_DELETE,
};

struct fill {
	struct cache *cache;
	enum fill_stage stage;
	bool is_text;    /* the script was sent as text */
	bool is_refused; /* a revision is newer, or could not be read */
	uint32_t left;   /* answers that are to come in this stage */
	uint64_t version;
	char ttl_ms[16];
	size_t bytes; /* of all of it */
	struct bytes value;
	const char *name;
	const char *revisions[FILL_REVISIONS_MAX];
	uint32_t revision_count;
	char data[]; /* the value, then the names with their NULs */
};

void fill_init(struct cache *c)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	/* What Redis calls a script by. Without it each fill sends the script's text, since no server has one of no name. */
	if (EVP_Digest(script, sizeof(script) - 1, digest, &n, EVP_sha1(), NULL) != 1)
		n = 0;
	for (unsigned i = 0; i < n && 2 * i < SCRIPT_SHA_CHARS; i++)
		snprintf(c->script_sha + 2 * i, 3, "%02x", digest[i]);
}

static void fill_free(struct fill *f)
{
	f->cache->fill_bytes -= f->bytes;
	free(f);
}

static void fill_end(struct fill *f, uint64_t *count)
{
	(*count)++;
	fill_free(f);
}

/* --- the script --- */

static void on_stored(struct node *n, void *ctx, uint32_t index, redisReply **reply);

static int send_script(struct node *n, struct fill *f)
{
	bool sees_revisions = !f->cache->cluster;
	const char *argv[6 + FILL_REVISIONS_MAX];
	size_t bytes[6 + FILL_REVISIONS_MAX];
	char keys[8];
	int argc = 0;

	argv[argc++] = f->is_text ? "EVAL" : "EVALSHA";
	argv[argc++] = f->is_text ? script : f->cache->script_sha;
	argv[argc++] = keys;
	argv[argc++] = f->name;
	for (uint32_t i = 0; sees_revisions && i < f->revision_count; i++)
		argv[argc++] = f->revisions[i];
	snprintf(keys, sizeof(keys), "%d", argc - 3);
	for (int i = 0; i < argc; i++)
		bytes[i] = strlen(argv[i]);
	argv[argc] = (const char *)f->value.p;
	bytes[argc++] = f->value.n;
	argv[argc] = f->ttl_ms;
	bytes[argc] = strlen(f->ttl_ms);
	argc++;
	return node_send(n, argc, argv, bytes, on_stored, f, 0);
}

static void fill_store(struct fill *f)
{
	struct node *n = cache_node(f->cache, f->name);

	f->stage = FILL_STORE;
	if (!n || send_script(n, f) < 0)
		fill_end(f, &f->cache->stats.fills_failed);
}

static void fill_read_revisions(struct fill *f, enum fill_stage stage);

static void on_stored(struct node *n, void *ctx, uint32_t index, redisReply **reply)
{
	struct fill *f = ctx;
	struct cache *c = f->cache;
	const redisReply *r = *reply;

	if (r && reply_is_error(r, "NOSCRIPT") && !f->is_text) {
		f->is_text = true;
		if (send_script(n, f) == 0)
			return;
	}
	if (r && r->type == REDIS_REPLY_INTEGER && r->integer == 1) {
		if (c->cluster && f->revision_count > 0)
			fill_read_revisions(f, FILL_AGAIN);
		else
			fill_end(f, &c->stats.fills);
		return;
	}
	if (r && r->type == REDIS_REPLY_INTEGER) {
		fill_end(f, &c->stats.fills_refused);
		return;
	}
	if (r && r->type == REDIS_REPLY_ERROR)
		cache_judge(c, n, r);
	fill_end(f, &c->stats.fills_failed);
}

/* --- what a Cluster needs besides --- */

static void on_deleted(struct node *n, void *ctx, uint32_t index, redisReply **reply)
{
	struct fill *f = ctx;

	fill_end(f, &f->cache->stats.fills_refused);
}

static void fill_delete(struct fill *f)
{
	struct node *n = cache_node(f->cache, f->name);
	const char *argv[] = {"DEL", f->name};

	f->stage = FILL_DELETE;
	/* Where it cannot be said any more the value lives on, as it does when the control plane's own DEL is lost. */
	if (!n || node_send(n, 2, argv, NULL, on_deleted, f, 0) < 0)
		fill_end(f, &f->cache->stats.fills_failed);
}

static void revisions_done(struct fill *f)
{
	if (f->stage == FILL_REVISIONS && f->is_refused)
		fill_end(f, &f->cache->stats.fills_refused);
	else if (f->stage == FILL_REVISIONS)
		fill_store(f);
	else if (f->is_refused)
		fill_delete(f);
	else
		fill_end(f, &f->cache->stats.fills);
}

/* True when this answer lets the fill go on: no such revision, or one that is not newer. */
static bool revision_allows(const struct fill *f, const redisReply *r)
{
	uint64_t version;

	if (!r)
		return false;
	if (r->type == REDIS_REPLY_NIL)
		return true;
	return r->type == REDIS_REPLY_STRING && record_version_parse(reply_bytes(r), &version) && version <= f->version;
}

static void on_fill_revision(struct node *n, void *ctx, uint32_t index, redisReply **reply)
{
	struct fill *f = ctx;

	if (!revision_allows(f, *reply))
		f->is_refused = true;
	if (*reply && (*reply)->type == REDIS_REPLY_ERROR)
		cache_judge(f->cache, n, *reply);
	if (--f->left == 0)
		revisions_done(f);
}

static void fill_read_revisions(struct fill *f, enum fill_stage stage)
{
	f->stage = stage;
	f->left = 1; /* this loop */
	for (uint32_t i = 0; i < f->revision_count; i++) {
		struct node *n = cache_node(f->cache, f->revisions[i]);
		const char *argv[] = {"GET", f->revisions[i]};

		if (n && node_send(n, 2, argv, NULL, on_fill_revision, f, i) == 0)
			f->left++;
		else
			f->is_refused = true;
	}
	if (--f->left == 0)
		revisions_done(f);
}

/* --- */

/* Copies into data, and moves behind it. */
static const char *keep(char **data, const void *p, size_t n)
{
	char *at = *data;

	memcpy(at, p, n);
	*data += n;
	return at;
}

static struct fill *fill_new(struct cache *c, const char *name, uint64_t version, struct bytes value, uint32_t ttl_ms,
			     const char (*revisions)[RECORD_NAME_MAX], uint32_t revision_count)
{
	size_t bytes = sizeof(struct fill) + value.n + strlen(name) + 1;
	struct fill *f = NULL;
	char *data;

	if (value.n > RECORD_VALUE_MAX || revision_count > FILL_REVISIONS_MAX)
		return NULL;
	for (uint32_t i = 0; i < revision_count; i++)
		bytes += strlen(revisions[i]) + 1;
	if (c->fill_bytes + bytes <= FILL_BYTES_MAX)
		f = malloc(bytes);
	if (!f)
		return NULL;
	c->fill_bytes += bytes;
	*f = (struct fill){.cache = c, .version = version, .bytes = bytes, .revision_count = revision_count};
	snprintf(f->ttl_ms, sizeof(f->ttl_ms), "%" PRIu32, ttl_ms);
	data = f->data;
	f->value = bytes_of(keep(&data, value.p, value.n), value.n);
	f->name = keep(&data, name, strlen(name) + 1);
	for (uint32_t i = 0; i < revision_count; i++)
		f->revisions[i] = keep(&data, revisions[i], strlen(revisions[i]) + 1);
	return f;
}

void cache_fill(struct cache *c, const char *name, uint64_t version, struct bytes value, uint32_t ttl_ms,
		const char (*revisions)[RECORD_NAME_MAX], uint32_t revision_count)
{
	struct fill *f;

	ASSERT(!c->is_freeing);
	if (version == 0 && ttl_ms > FILL_UNVERSIONED_MS)
		ttl_ms = FILL_UNVERSIONED_MS;
	if (ttl_ms == 0)
		return;
	f = cache_node(c, name) ? fill_new(c, name, version, value, ttl_ms, revisions, revision_count) : NULL;
	if (!f)
		c->stats.fills_failed++;
	else if (c->cluster && revision_count > 0)
		fill_read_revisions(f, FILL_REVISIONS);
	else
		fill_store(f);
}
