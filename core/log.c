/*
 * core/log.c - formats records on the caller's thread, writes them on one thread of its own.
 *
 * Two buffers of half the queue each: callers fill one under a mutex that is held for a copy, the log thread writes the
 * other out with no lock held. A record that finds no room is counted, and the count is a record of its own.
 */
#include "core/log.h"

#include "core/utf8.h"

#include "core/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#define HALF_BYTES (LOG_QUEUE_BYTES / 2)

/* Kept free at a record's end for "cut" (how many fields were left out), the bracket and the newline. */
#define TAIL_BYTES 40

/* log_stop waits this long for a reader that does not read, then goes without. */
#define STOP_S 3

_Static_assert(LOG_RECORD_MAX < HALF_BYTES, "a record fits into an empty queue");
/* Every value's byte may become six ("\u0000"), and one value must always fit. */
_Static_assert(LOG_VALUE_MAX * 6 + TAIL_BYTES + 256 < LOG_RECORD_MAX, "one value fits into a record");

/* DIRECT: to `fd` by the caller. QUEUED: the log thread runs. MUTE: that thread is stuck and was left behind. */
enum mode { MODE_DIRECT, MODE_QUEUED, MODE_MUTE };

struct queue {
	uint8_t *data;
	size_t n;
};

static struct {
	pthread_mutex_t lock; /* filling, dropped, is_stopping, is_reopening; the mode's changes */
	pthread_cond_t wake;
	struct queue filling;
	uint64_t dropped;
	bool is_stopping, is_reopening;
	_Atomic int mode, level, format;
	/* The log thread's own while it runs. */
	struct queue writing;
	int fd;
	bool is_mid_line; /* the last write ended within a record */
	char path[PATH_MAX];
	pthread_t thread;
} logger = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.wake = PTHREAD_COND_INITIALIZER,
	.mode = MODE_DIRECT,
	.level = LOG_INFO,
	.format = LOG_LOGFMT,
	.fd = STDERR_FILENO,
};

static uint8_t halves[2][HALF_BYTES];

static const char *const level_names[] = {"debug", "info", "warn", "error"};

/* A record being made. A field that does not fit is taken back whole. */
struct record {
	char text[LOG_RECORD_MAX];
	size_t n;
	bool is_full;
	bool is_json;
};

static void put_bytes(struct record *r, const void *p, size_t n)
{
	if (r->is_full || n > sizeof(r->text) - TAIL_BYTES - r->n) {
		r->is_full = true;
		return;
	}
	memcpy(r->text + r->n, p, n);
	r->n += n;
}

static void put(struct record *r, const char *s)
{
	put_bytes(r, s, strlen(s));
}

__attribute__((format(printf, 2, 3))) static void put_format(struct record *r, const char *format, ...)
{
	char tmp[64];
	va_list ap;

	va_start(ap, format);
	vsnprintf(tmp, sizeof(tmp), format, ap);
	va_end(ap);
	put(r, tmp);
}

/* Characters that end a line somewhere, move a terminal's cursor or turn text around. */
static bool is_unsafe(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code <= 0x9f) || (code >= 0x200b && code <= 0x200f) ||
	       (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) || code == 0xfeff ||
	       (code >= 0xfff9 && code <= 0xfffb);
}

static void put_quoted(struct record *r, struct bytes b)
{
	put(r, "\"");
	for (size_t i = 0; i < b.n;) {
		uint32_t code;
		size_t n = utf8_at(b.p + i, b.n - i, &code);

		if (n == 0) {
			if (r->is_json)
				put(r, "\\ufffd");
			else
				put_format(r, "\\x%02x", b.p[i]);
			i++;
			continue;
		}
		if (code == '"' || code == '\\')
			put_format(r, "\\%c", (char)code);
		else if (code == '\n')
			put(r, "\\n");
		else if (code == '\r')
			put(r, "\\r");
		else if (code == '\t')
			put(r, "\\t");
		else if (is_unsafe(code))
			put_format(r, "\\u%04x", code);
		else
			put_bytes(r, b.p + i, n);
		i += n;
	}
	put(r, "\"");
}

/* True where logfmt needs no quotes. */
static bool is_bare(struct bytes b)
{
	for (size_t i = 0; i < b.n; i++)
		if (b.p[i] <= ' ' || b.p[i] >= 0x7f || b.p[i] == '"' || b.p[i] == '=' || b.p[i] == '\\')
			return false;
	return b.n > 0;
}

/* The first bytes that are kept; a character is not cut in two. */
static struct bytes value_cut(struct bytes b)
{
	size_t n = LOG_VALUE_MAX - 3;
	size_t back = 0;

	while (back < 3 && (b.p[n - back] & 0xc0) == 0x80)
		back++;
	/* Four continuation bytes in a row are no character: cut anywhere. */
	if ((b.p[n - back] & 0xc0) != 0x80)
		n -= back;
	return bytes_of(b.p, n);
}

static void put_text(struct record *r, struct bytes b)
{
	if (b.n > LOG_VALUE_MAX) {
		char tmp[LOG_VALUE_MAX];

		b = value_cut(b);
		memcpy(tmp, b.p, b.n);
		memcpy(tmp + b.n, "...", 3);
		put_text(r, bytes_of(tmp, b.n + 3));
	} else if (!r->is_json && is_bare(b)) {
		put_bytes(r, b.p, b.n);
	} else {
		put_quoted(r, b);
	}
}

/* Not by printf: the decimal point must not follow a locale. */
static void put_f3(struct record *r, double v)
{
	uint64_t thousandths;

	if (!(v > -1e15 && v < 1e15)) {
		put(r, r->is_json ? "null" : "nan");
		return;
	}
	thousandths = (uint64_t)((v < 0 ? -v : v) * 1000 + 0.5);
	put_format(r, "%s%llu.%03u", v < 0 && thousandths > 0 ? "-" : "", (unsigned long long)(thousandths / 1000),
		   (unsigned)(thousandths % 1000));
}

static void put_value(struct record *r, const struct log_field *f)
{
	switch (f->kind) {
	case LOG_FIELD_STR:
		if (f->str)
			put_text(r, bytes_of(f->str, strnlen(f->str, LOG_VALUE_MAX + 1)));
		else
			put(r, r->is_json ? "null" : "\"\"");
		break;
	case LOG_FIELD_BYTES:
		put_text(r, f->bytes);
		break;
	case LOG_FIELD_U64:
		put_format(r, "%llu", (unsigned long long)f->u64);
		break;
	case LOG_FIELD_I64:
		put_format(r, "%lld", (long long)f->i64);
		break;
	case LOG_FIELD_F3:
		put_f3(r, f->f3);
		break;
	}
}

static void put_key(struct record *r, const char *key)
{
	put(r, r->is_json ? ",\"" : " ");
	put(r, key);
	put(r, r->is_json ? "\":" : "=");
}

/* RFC 3339 in UTC with milliseconds. Not by gmtime_r: that takes a lock over the time zone. */
static void put_time(struct record *r, const struct timespec *t)
{
	int64_t days = t->tv_sec / 86400, left = t->tv_sec % 86400;
	int64_t era, day_of_era, year, day_of_year, month;

	if (left < 0)
		left += 86400, days--;
	/* Days since 0000-03-01, in eras of 400 years that begin in March. */
	days += 719468;
	era = (days >= 0 ? days : days - 146096) / 146097;
	day_of_era = days - era * 146097;
	year = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
	month = (5 * day_of_year + 2) / 153;
	put_format(r, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", (int)(year + era * 400 + (month >= 10)),
		   (int)(month < 10 ? month + 3 : month - 9), (int)(day_of_year - (153 * month + 2) / 5 + 1),
		   (int)(left / 3600), (int)(left / 60 % 60), (int)(left % 60), (int)(t->tv_nsec / 1000000));
}

static void record_make(struct record *r, enum log_level level, const char *event, const struct log_field *fields,
			size_t count)
{
	struct timespec now;
	size_t i, room;
	char *tail;
	int n;

	r->n = 0;
	r->is_full = false;
	r->is_json = atomic_load_explicit(&logger.format, memory_order_relaxed) == LOG_JSON;
	clock_gettime(CLOCK_REALTIME, &now);
	put(r, r->is_json ? "{\"ts\":\"" : "ts=");
	put_time(r, &now);
	put(r, r->is_json ? "\",\"level\":\"" : " level=");
	put(r, level_names[level]);
	put(r, r->is_json ? "\",\"event\":" : " event=");
	put_text(r, bytes_str(event));
	for (i = 0; i < count; i++) {
		size_t complete = r->n;

		put_key(r, fields[i].key);
		put_value(r, &fields[i]);
		if (r->is_full) {
			r->n = complete;
			break;
		}
	}
	/* TAIL_BYTES are left for this. */
	tail = r->text + r->n;
	room = sizeof(r->text) - r->n;
	if (i < count)
		n = snprintf(tail, room, r->is_json ? ",\"cut\":%zu}\n" : " cut=%zu\n", count - i);
	else
		n = snprintf(tail, room, r->is_json ? "}\n" : "\n");
	ASSERT(n > 0 && (size_t)n < room);
	r->n += (size_t)n;
}

/* Writes all of it. Negative errno where the rest cannot be written; waits where the reader is slow. */
static int write_all(int fd, const uint8_t *p, size_t n, size_t *ret_done)
{
	*ret_done = 0;
	while (*ret_done < n) {
		ssize_t wrote = write(fd, p + *ret_done, n - *ret_done);

		if (wrote >= 0) {
			*ret_done += (size_t)wrote;
		} else if (errno == EAGAIN) {
			/* Standard error may be shared with someone who made it non-blocking. */
			struct pollfd ready = {.fd = fd, .events = POLLOUT};

			(void)poll(&ready, 1, 1000);
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

static uint64_t count_lines(const uint8_t *p, size_t n)
{
	uint64_t lines = 0;

	for (size_t i = 0; i < n; i++)
		lines += p[i] == '\n';
	return lines;
}

/* Log thread: writes records out. Returns how many were lost (the disk is full, the reader is gone). */
static uint64_t write_out(const uint8_t *p, size_t n)
{
	size_t done;

	if (n == 0)
		return 0;
	if (logger.is_mid_line) {
		if (write_all(logger.fd, (const uint8_t *)"\n", 1, &done) < 0)
			return count_lines(p, n);
		logger.is_mid_line = false;
	}
	if (write_all(logger.fd, p, n, &done) == 0)
		return 0;
	logger.is_mid_line = done > 0 && p[done - 1] != '\n';
	return count_lines(p + done, n - done);
}

static int file_open(const char *path)
{
	int fd;

	if (strcmp(path, "-") == 0)
		return STDERR_FILENO;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
	return fd < 0 ? -errno : fd;
}

/* Log thread: a record of its own, not through the queue. */
static uint64_t own_record(enum log_level level, const char *event, const struct log_field *field)
{
	struct record r;

	record_make(&r, level, event, field, 1);
	return write_out((const uint8_t *)r.text, r.n);
}

static void file_reopen(void)
{
	int fd = file_open(logger.path);

	if (fd < 0) {
		own_record(LOG_ERROR, "log_reopen_failed", &LOG_STR("error", strerror(-fd)));
		return;
	}
	if (logger.fd != STDERR_FILENO)
		close(logger.fd);
	logger.fd = fd;
	logger.is_mid_line = false;
}

static void *log_thread(void *unused)
{
	uint64_t lost = 0;
	bool is_stopping;

	pthread_mutex_lock(&logger.lock);
	do {
		struct queue full;
		bool is_reopening;

		while (logger.filling.n == 0 && logger.dropped == 0 && !logger.is_stopping && !logger.is_reopening)
			pthread_cond_wait(&logger.wake, &logger.lock);
		full = logger.filling;
		logger.filling = logger.writing;
		logger.writing = full;
		lost += logger.dropped;
		logger.dropped = 0;
		is_reopening = logger.is_reopening;
		logger.is_reopening = false;
		is_stopping = logger.is_stopping;
		pthread_mutex_unlock(&logger.lock);

		/* What was logged before the call of log_reopen belongs into the old file. */
		lost += write_out(full.data, full.n);
		logger.writing.n = 0;
		if (is_reopening)
			file_reopen();
		if (lost > 0 && own_record(LOG_WARN, "log_dropped", &LOG_U64("count", lost)) == 0)
			lost = 0;
		pthread_mutex_lock(&logger.lock);
	} while (!is_stopping);
	pthread_mutex_unlock(&logger.lock);
	return NULL;
}

static void fork_prepare(void)
{
	pthread_mutex_lock(&logger.lock);
}

static void fork_parent(void)
{
	pthread_mutex_unlock(&logger.lock);
}

/* The child has no log thread; what waits in the queue is the parent's to write. */
static void fork_child(void)
{
	pthread_mutex_init(&logger.lock, NULL);
	pthread_cond_init(&logger.wake, NULL);
	logger.filling.n = 0;
	logger.dropped = 0;
	if (atomic_load(&logger.mode) == MODE_QUEUED)
		atomic_store(&logger.mode, MODE_DIRECT);
}

static int logger_start(void)
{
	int rc = thread_start(&logger.thread, 0, log_thread, NULL);

	if (rc == 0)
		pthread_setname_np(logger.thread, "log");
	return rc;
}

int log_start(const struct log_options *o)
{
	static bool has_fork_handlers;
	const char *path = o->path ? o->path : "-";
	int fd, r;

	if (atomic_load(&logger.mode) != MODE_DIRECT)
		return -EALREADY;
	if (strlen(path) >= sizeof(logger.path))
		return -ENAMETOOLONG;
	if (!has_fork_handlers && pthread_atfork(fork_prepare, fork_parent, fork_child) != 0)
		return -ENOMEM;
	has_fork_handlers = true;
	fd = file_open(path);
	if (fd < 0)
		return fd;
	strcpy(logger.path, path);
	logger.filling = (struct queue){.data = halves[0]};
	logger.writing = (struct queue){.data = halves[1]};
	logger.dropped = 0;
	logger.is_stopping = logger.is_reopening = logger.is_mid_line = false;
	logger.fd = fd;
	r = logger_start();
	if (r < 0) {
		if (fd != STDERR_FILENO)
			close(fd);
		logger.fd = STDERR_FILENO;
		return r;
	}
	atomic_store(&logger.level, o->level);
	atomic_store(&logger.format, o->format);
	atomic_store(&logger.mode, MODE_QUEUED);
	return 0;
}

void log_stop(void)
{
	struct timespec until;

	if (atomic_load(&logger.mode) != MODE_QUEUED)
		return;
	pthread_mutex_lock(&logger.lock);
	logger.is_stopping = true;
	/* From here on nothing is queued: what the thread takes now is the last. */
	atomic_store(&logger.mode, MODE_MUTE);
	pthread_mutex_unlock(&logger.lock);
	pthread_cond_signal(&logger.wake);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_S;
	if (pthread_timedjoin_np(logger.thread, NULL, &until) != 0) {
		pthread_detach(logger.thread);
		return;
	}
	if (logger.fd != STDERR_FILENO)
		close(logger.fd);
	logger.fd = STDERR_FILENO;
	atomic_store(&logger.mode, MODE_DIRECT);
}

void log_reopen(void)
{
	if (atomic_load(&logger.mode) != MODE_QUEUED)
		return;
	pthread_mutex_lock(&logger.lock);
	logger.is_reopening = true;
	pthread_mutex_unlock(&logger.lock);
	pthread_cond_signal(&logger.wake);
}

/* False where the log thread does not run (any more). */
static bool record_queue(const struct record *r)
{
	bool is_queued;

	pthread_mutex_lock(&logger.lock);
	is_queued = atomic_load_explicit(&logger.mode, memory_order_relaxed) == MODE_QUEUED;
	if (is_queued && r->n <= HALF_BYTES - logger.filling.n) {
		memcpy(logger.filling.data + logger.filling.n, r->text, r->n);
		logger.filling.n += r->n;
	} else if (is_queued) {
		logger.dropped++;
	}
	pthread_mutex_unlock(&logger.lock);
	if (is_queued)
		pthread_cond_signal(&logger.wake);
	return is_queued;
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t count)
{
	struct record r;
	size_t done;

	if ((int)level < atomic_load_explicit(&logger.level, memory_order_relaxed))
		return;
	record_make(&r, level, event, fields, count);
	if (atomic_load(&logger.mode) == MODE_QUEUED && record_queue(&r))
		return;
	if (atomic_load(&logger.mode) == MODE_DIRECT)
		(void)write_all(logger.fd, (const uint8_t *)r.text, r.n, &done);
}
