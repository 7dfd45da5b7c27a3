/*
 * core/log.h - structured log records, one line each, logfmt or JSON.
 *
 * Records are formatted on the caller's thread into a bounded queue; one log thread writes them out, so no caller ever
 * waits for a file or a terminal. A full queue drops records and says later how many.
 *
 * Life:   log_start once, log_stop flushes and ends the thread. Before log_start and after log_stop records go straight to
 *         standard error.
 * Thread: log_event from any thread.
 *
 *	log_event(LOG_INFO, "auth", LOG_STR("session", id), LOG_U64("bytes", n));
 *
 * Never pass a secret. Strings of foreign origin are escaped and cut at LOG_VALUE_MAX; anything goes in them.
 */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include "core/bytes.h"
#include "core/check.h"

#include <stdint.h>

#define LOG_VALUE_MAX 256         /* bytes of one value that are kept */
#define LOG_RECORD_MAX 2048       /* bytes of one record; longer ones are cut at a field */
#define LOG_QUEUE_BYTES (1 << 20) /* records waiting for the log thread */

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_LOGFMT, LOG_JSON };

struct log_options {
	enum log_level level;
	enum log_format format;
	const char *path; /* "-" is standard error; a file is appended to, reopened by log_reopen */
};

struct log_field {
	const char *key;
	enum { LOG_FIELD_STR, LOG_FIELD_BYTES, LOG_FIELD_U64, LOG_FIELD_I64, LOG_FIELD_F3 } kind;
	union {
		const char *str;
		struct bytes bytes;
		uint64_t u64;
		int64_t i64;
		double f3; /* three decimals: seconds */
	};
};

#define LOG_STR(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_STR, .str = (v)})
#define LOG_BYTES(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_BYTES, .bytes = (v)})
#define LOG_U64(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_U64, .u64 = (v)})
#define LOG_I64(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_I64, .i64 = (v)})
#define LOG_F3(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_F3, .f3 = (v)})

/* 0 or negative errno (the file cannot be opened, no thread). */
MUST_USE int log_start(const struct log_options *o);
void log_stop(void);
/* After a rotation: opens the file anew. Any thread. */
void log_reopen(void);

/* Writes ts, level, event and the fields. fields has `count` entries. */
void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t count);

/* log_event(LOG_INFO, "connect", LOG_STR("client", addr), LOG_U64("port", 22)); at least one field. */
#define log_event(level, event, ...)                                         \
	log_write((level), (event), (const struct log_field[]){__VA_ARGS__}, \
		  sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

#endif
