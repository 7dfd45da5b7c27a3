#include "upstream/redis/reply.h"

#include "upstream/redis/limits.h"

#include <errno.h>

static bool is_aggregate(const redisReply *r)
{
	return r->type == REDIS_REPLY_ARRAY || r->type == REDIS_REPLY_PUSH || r->type == REDIS_REPLY_SET ||
	       r->type == REDIS_REPLY_MAP;
}

/* Called before hiredis takes memory for the elements. */
static void *create_array(const redisReadTask *task, size_t elements)
{
	const struct reply_reader *r = task->privdata;
	uint32_t depth = 1;

	for (const redisReadTask *t = task->parent; t; t = t->parent)
		depth++;
	if (depth > REPLY_DEPTH_MAX || elements > REPLY_ELEMENTS_MAX)
		return NULL;
	return r->plain->createArray(task, elements);
}

int reply_reader_init(struct reply_reader *r)
{
	*r = (struct reply_reader){.reader = redisReaderCreate()};
	if (!r->reader)
		return -ENOMEM;
	r->plain = r->reader->fn;
	r->functions = *r->plain;
	r->functions.createArray = create_array;
	r->reader->fn = &r->functions;
	r->reader->maxelements = REPLY_ELEMENTS_MAX;
	r->reader->privdata = r; /* so that it must not move */
	return 0;
}

void reply_reader_deinit(struct reply_reader *r)
{
	if (r->reader)
		redisReaderFree(r->reader);
	*r = (struct reply_reader){0};
}

int reply_feed(struct reply_reader *r, const uint8_t *p, size_t n)
{
	r->pending_bytes += n;
	if (r->pending_bytes > REPLY_BYTES_MAX)
		return -EMSGSIZE;
	return redisReaderFeed(r->reader, (const char *)p, n) == REDIS_OK ? 0 : -ENOMEM;
}

int reply_next(struct reply_reader *r, redisReply **ret_reply)
{
	void *reply = NULL;

	if (redisReaderGetReply(r->reader, &reply) != REDIS_OK)
		return -EPROTO;
	if (!reply)
		return 0;
	r->pending_bytes = r->reader->len - r->reader->pos;
	*ret_reply = reply;
	return 1;
}

struct bytes reply_bytes(const redisReply *r)
{
	if (r->type != REDIS_REPLY_STRING && r->type != REDIS_REPLY_STATUS && r->type != REDIS_REPLY_ERROR &&
	    r->type != REDIS_REPLY_VERB)
		return (struct bytes){0};
	return bytes_of(r->str, r->len);
}

bool reply_is_array(const redisReply *r, size_t n)
{
	return is_aggregate(r) && r->type != REDIS_REPLY_MAP && r->elements == n;
}

/* The first word. */
static struct bytes error_word(const redisReply *r)
{
	size_t n = 0;

	while (n < r->len && ((r->str[n] >= 'A' && r->str[n] <= 'Z') || r->str[n] == '_'))
		n++;
	return bytes_of(r->str, n);
}

bool reply_is_error(const redisReply *r, const char *word)
{
	return r->type == REDIS_REPLY_ERROR && bytes_is(error_word(r), word);
}

const char *reply_code(const redisReply *r, char ret_code[REPLY_CODE_MAX])
{
	struct bytes word = r->type == REDIS_REPLY_ERROR ? error_word(r) : (struct bytes){0};

	if (word.n == 0 || !bytes_copy_str(word, ret_code, REPLY_CODE_MAX))
		snprintf(ret_code, REPLY_CODE_MAX, "%s", r->type == REDIS_REPLY_ERROR ? "an error" : "not the answer");
	return ret_code;
}

const redisReply *reply_map_get(const redisReply *r, const char *key)
{
	if (!is_aggregate(r))
		return NULL;
	for (size_t i = 0; i + 1 < r->elements; i += 2) {
		struct bytes k = reply_bytes(r->element[i]);

		if (k.p && bytes_is(k, key))
			return r->element[i + 1];
	}
	return NULL;
}
