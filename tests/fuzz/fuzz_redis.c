/*
 * tests/fuzz/fuzz_redis.c - libFuzzer target for what a Redis server says, for the cache's URL, and for slots.
 *
 * The first byte says where the answers are cut. What they are must not depend on that: both readings are compared.
 */
#include "upstream/redis/reply.h"
#include "upstream/redis/slot.h"
#include "upstream/redis/target.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

struct sum {
	uint64_t hash;
	uint32_t count;
};

static void add(struct sum *s, uint64_t v)
{
	s->hash = (s->hash ^ v) * 0x100000001b3u;
}

static void add_reply(struct sum *s, const redisReply *r)
{
	struct bytes b = reply_bytes(r);
	char code[REPLY_CODE_MAX];

	s->count++;
	add(s, (uint64_t)r->type);
	add(s, (uint64_t)r->integer);
	for (size_t i = 0; i < b.n; i++)
		add(s, b.p[i]);
	add(s, strlen(reply_code(r, code)));
	(void)reply_map_get(r, "role");
	if (b.p || !r->element)
		return;
	for (size_t i = 0; i < r->elements; i++)
		add_reply(s, r->element[i]);
}

static int run(const uint8_t *p, size_t n, size_t step, struct sum *s)
{
	struct reply_reader r;
	int rc = reply_reader_init(&r);

	*s = (struct sum){.hash = 0xcbf29ce484222325u};
	ASSERT(rc == 0);
	for (size_t at = 0; at < n && rc == 0;) {
		size_t take = n - at < step ? n - at : step;
		uint8_t *copy = malloc(take);
		redisReply *reply;

		ASSERT(copy);
		memcpy(copy, p + at, take);
		rc = reply_feed(&r, copy, take);
		free(copy);
		while (rc == 0 && (rc = reply_next(&r, &reply)) == 1) {
			add_reply(s, reply);
			freeReplyObject(reply);
			rc = 0;
		}
		at += take;
	}
	reply_reader_deinit(&r);
	ASSERT(rc == 0 || rc == -EPROTO || rc == -EMSGSIZE);
	return rc;
}

static void check_url(const uint8_t *p, size_t n)
{
	char *url = malloc(n + 1), error[256], text[ENDPOINT_TEXT_MAX];
	struct target t;
	int rc;

	ASSERT(url);
	memcpy(url, p, n);
	url[n] = 0;
	memset(error, 'x', sizeof(error));
	rc = target_parse(url, &t, error);
	ASSERT(rc == 0 || (rc == -EINVAL && memchr(error, 0, sizeof(error))));
	for (uint32_t i = 0; rc == 0 && i < t.endpoint_count; i++)
		ASSERT(endpoint_text(&t.endpoints[i], text)[0]);
	ASSERT(rc < 0 || (t.endpoint_count > 0 && t.endpoint_count <= TARGET_ENDPOINTS_MAX));
	free(url);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct sum whole, cut;
	int a, b;

	if (n < 1)
		return 0;
	a = run(p + 1, n - 1, n, &whole);
	b = run(p + 1, n - 1, 1u + p[0], &cut);
	ASSERT((a < 0) == (b < 0) && whole.hash == cut.hash && whole.count == cut.count);
	check_url(p, n);
	ASSERT(slot_of(bytes_of(p, n)) < SLOT_COUNT);
	return 0;
}
