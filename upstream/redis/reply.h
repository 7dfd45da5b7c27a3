/*
 * upstream/redis/reply.h - hiredis' reader with limits, and small questions to its replies.
 *
 * Owner:  embedded in a connection. Replies that reply_next gives belong to the caller (freeReplyObject).
 * Thread: any one.
 */
#ifndef UPSTREAM_REDIS_REPLY_H
#define UPSTREAM_REDIS_REPLY_H

#include "core/bytes.h"
#include "core/check.h"

#include <hiredis/hiredis.h>

struct reply_reader {
	redisReader *reader;
	redisReplyObjectFunctions functions; /* hiredis' own but for what they refuse */
	const redisReplyObjectFunctions *plain;
	size_t pending_bytes; /* fed since the last whole reply */
};

/* 0 or -ENOMEM. */
MUST_USE int reply_reader_init(struct reply_reader *r);
/* Also of one that is all zero. */
void reply_reader_deinit(struct reply_reader *r);

/* 0; -EMSGSIZE: one reply has more than REPLY_BYTES_MAX bytes; -ENOMEM. Call reply_next until it gives none after each. */
MUST_USE int reply_feed(struct reply_reader *r, const uint8_t *p, size_t n);
/* 1 and a reply; 0: the bytes end before one does; -EPROTO: not RESP, or beyond the limits. */
MUST_USE int reply_next(struct reply_reader *r, redisReply **ret_reply);

/* A string's, status', error's or verbatim's bytes; p is NULL for anything else. */
struct bytes reply_bytes(const redisReply *r);
/* True for an array, push or set of exactly n elements. */
bool reply_is_array(const redisReply *r, size_t n);
/* True for an error whose first word this is. */
bool reply_is_error(const redisReply *r, const char *word);
/* The value of a key in a map (or, before RESP3, in an array that stands for one); NULL. */
const redisReply *reply_map_get(const redisReply *r, const char *key);

/*
 * "what: CODE" of an error. Only its first word: what follows may repeat the command, and that one may hold a password.
 */
#define REPLY_CODE_MAX 24
const char *reply_code(const redisReply *r, char ret_code[REPLY_CODE_MAX]);

#endif
