#include "bench/sftp.h"

#include "bench/bench.h"
#include "bench/pattern.h"

#include "ssh/wire.h"

#include <stdlib.h>
#include <string.h>

/* draft-ietf-secsh-filexfer-02, the version that everybody speaks. */
enum {
	FXP_INIT = 1,
	FXP_VERSION = 2,
	FXP_OPEN = 3,
	FXP_CLOSE = 4,
	FXP_READ = 5,
	FXP_WRITE = 6,
	FXP_STATUS = 101,
	FXP_HANDLE = 102,
	FXP_DATA = 103,
};
#define FXP_VERSION_WANTED 3
#define FXF_READ 0x01
#define FXF_WRITE_NEW (0x02 | 0x08 | 0x10) /* write, create, truncate */

/* Open at once on one connection; servers have a limit of their own. */
#define FILES_MAX 16
#define HANDLE_MAX 256
/* Of one read or write, as OpenSSH's client. */
#define DATA_MAX (32u << 10)
#define PACKET_MAX (DATA_MAX + 1024)
/* Requests are made until that much waits for the channel. */
#define OUT_ENOUGH (64u << 10)
/* With room for what every read in flight may ask for again. */
#define OUT_BYTES (OUT_ENOUGH + PACKET_MAX + SFTP_REQUESTS_MAX * (HANDLE_MAX + 64))

enum file_state {
	FILE_NONE,
	FILE_OPENING,
	FILE_OPEN,
	FILE_CLOSING,
};

struct file {
	enum file_state state;
	uint32_t index, handle_bytes;
	uint64_t asked, answered; /* bytes of it */
	uint64_t began_us;
	uint8_t handle[HANDLE_MAX];
};

/* A request in flight; its place in the table is its number. */
struct request {
	struct file *file; /* NULL: free */
	uint8_t type;
	uint32_t n;
	uint64_t at;
};

struct sftp {
	const struct sftp_options *options;
	const struct sftp_events *events;
	void *owner;
	struct client_chan chan;
	bool is_ready, is_failed; /* is_ready: the subsystem told its version */
	bool is_moving, is_up;
	struct file files[FILES_MAX];
	struct request *requests;
	uint32_t free_count; /* of requests */
	uint8_t *out, *in;
	size_t out_at, out_end, in_bytes;
};

static void fail(struct sftp *s, const char *what, const char *reason)
{
	s->is_failed = true;
	s->events->on_failed(s->owner, what, reason);
}

/* --- requests --- */

static uint8_t *put_string(uint8_t *p, const void *from, uint32_t n)
{
	struct wire_writer w = {.p = p};

	wire_put_u32(&w, n);
	memcpy(w.p, from, n);
	return w.p + n;
}

static uint8_t *put_u64(uint8_t *p, uint64_t v)
{
	struct wire_writer w = {.p = p};

	wire_put_u32(&w, (uint32_t)(v >> 32));
	wire_put_u32(&w, (uint32_t)v);
	return w.p;
}

/* A request's head; its length is written by finish. */
static uint8_t *head(struct sftp *s, uint8_t type, uint32_t number)
{
	struct wire_writer w = {.p = s->out + s->out_end + 4};

	wire_put_u8(&w, type);
	wire_put_u32(&w, number);
	return w.p;
}

static void finish(struct sftp *s, uint8_t *end)
{
	struct wire_writer w = {.p = s->out + s->out_end};
	size_t n = (size_t)(end - w.p);

	ASSERT(n <= PACKET_MAX && s->out_end + n <= OUT_BYTES);
	wire_put_u32(&w, (uint32_t)n - 4);
	s->out_end += n;
}

static void send_open(struct sftp *s, uint32_t number, struct file *f)
{
	char path[SFTP_PATH_BYTES];
	int n = snprintf(path, sizeof(path), "%s/%u", s->options->folder, f->index);
	struct wire_writer w;

	w.p = put_string(head(s, FXP_OPEN, number), path, (uint32_t)n);
	wire_put_u32(&w, s->is_up ? FXF_WRITE_NEW : FXF_READ);
	wire_put_u32(&w, 0); /* no attributes */
	finish(s, w.p);
}

static void send_piece(struct sftp *s, uint32_t number)
{
	const struct request *q = &s->requests[number];
	uint64_t at = q->file->index * s->options->size_bytes + q->at;
	uint8_t *p = put_string(head(s, q->type, number), q->file->handle, q->file->handle_bytes);
	struct wire_writer w = {.p = put_u64(p, q->at)};

	if (q->type == FXP_WRITE)
		w.p = put_string(w.p, pattern_at(at), q->n);
	else
		wire_put_u32(&w, q->n);
	finish(s, w.p);
}

static void send_request(struct sftp *s, struct file *f, uint8_t type, uint64_t at, uint32_t n)
{
	uint32_t number = 0;

	while (s->requests[number].file)
		number++;
	s->free_count--;
	s->requests[number] = (struct request){.file = f, .type = type, .at = at, .n = n};
	if (type == FXP_OPEN)
		send_open(s, number, f);
	else if (type == FXP_CLOSE)
		finish(s, put_string(head(s, type, number), f->handle, f->handle_bytes));
	else
		send_piece(s, number);
}

/* The next request that file f wants; false: none now. */
static bool want_of_file(struct sftp *s, struct file *f)
{
	uint64_t size = s->options->size_bytes, left = size - f->asked;
	uint32_t index;

	if (f->state == FILE_NONE && s->events->next_file(s->owner, &index)) {
		*f = (struct file){.state = FILE_OPENING, .index = index, .began_us = bench_now_us()};
		send_request(s, f, FXP_OPEN, 0, 0);
	} else if (f->state == FILE_OPEN && left > 0) {
		uint32_t n = left < DATA_MAX ? (uint32_t)left : DATA_MAX;

		send_request(s, f, s->is_up ? FXP_WRITE : FXP_READ, f->asked, n);
		f->asked += n;
	} else if (f->state == FILE_OPEN && f->answered == size) {
		f->state = FILE_CLOSING;
		send_request(s, f, FXP_CLOSE, 0, 0);
	} else {
		return false;
	}
	return true;
}

/* Gives the channel what waits for it. */
static void pump(struct sftp *s)
{
	uint32_t n;

	while (s->out_at < s->out_end && (n = client_chan_room(&s->chan)) > 0) {
		if (n > s->out_end - s->out_at)
			n = (uint32_t)(s->out_end - s->out_at);
		client_chan_write(&s->chan, s->out + s->out_at, n);
		s->out_at += n;
	}
	memmove(s->out, s->out + s->out_at, s->out_end - s->out_at);
	s->out_end -= s->out_at;
	s->out_at = 0;
}

static void make_requests(struct sftp *s)
{
	bool is_progress = true;

	while (is_progress && s->is_moving && !s->is_failed) {
		is_progress = false;
		for (uint32_t i = 0; i < FILES_MAX; i++)
			while (s->free_count > 0 && s->out_end < OUT_ENOUGH && want_of_file(s, &s->files[i]))
				is_progress = true;
		pump(s);
	}
}

/* --- answers --- */

static void on_answer(struct sftp *s, uint8_t type, uint32_t number, struct wire *w)
{
	struct request *q = &s->requests[number], was = *q;
	struct file *f = was.file;
	uint64_t at = f->index * s->options->size_bytes + was.at;
	struct bytes data = {0};

	q->file = NULL;
	s->free_count++;
	if (type == FXP_STATUS && wire_u32(w) != 0) {
		fail(s, "sftp", was.type == FXP_READ ? "BYTES ARE MISSING: a read failed" : "a request failed");
		return;
	}
	if (type == FXP_HANDLE || type == FXP_DATA)
		data = wire_string(w);
	if (w->is_bad || (was.type == FXP_OPEN) != (type == FXP_HANDLE) ||
	    (was.type == FXP_READ) != (type == FXP_DATA) || (type == FXP_HANDLE && data.n > HANDLE_MAX) ||
	    (type == FXP_DATA && (data.n == 0 || data.n > was.n))) {
		fail(s, "sftp", "the server's answer makes no sense");
		return;
	}
	switch (was.type) {
	case FXP_OPEN:
		memcpy(f->handle, data.p, data.n);
		f->handle_bytes = (uint32_t)data.n;
		f->state = FILE_OPEN;
		return;
	case FXP_CLOSE:
		f->state = FILE_NONE;
		s->events->on_file_done(s->owner, f->began_us);
		return;
	case FXP_READ:
		if (!pattern_is(at, data.p, data.n)) {
			fail(s, "a download", "BYTES DIFFER from what was stored");
			return;
		}
		if (data.n < was.n) /* a server may give less than was asked for */
			send_request(s, f, FXP_READ, was.at + data.n, was.n - (uint32_t)data.n);
		break;
	default:
		data.n = was.n;
		break;
	}
	f->answered += data.n;
	s->events->on_bytes(s->owner, data.n);
}

static void on_sftp_packet(struct sftp *s, const uint8_t *p, size_t n)
{
	struct wire w = {.p = p, .n = n};
	uint8_t type = wire_u8(&w);
	uint32_t number = wire_u32(&w);

	if (type == FXP_VERSION && !s->is_ready) {
		s->is_ready = true;
		s->events->on_ready(s->owner);
	} else if (number < s->options->requests && s->requests[number].file) {
		on_answer(s, type, number, &w);
	} else {
		fail(s, "sftp", "the server answered what was not asked");
	}
}

static void on_data(struct client_chan *ch, bool is_error, struct bytes data)
{
	struct sftp *s = ch->owner;
	size_t at = 0;

	if (is_error)
		return;
	if (s->in_bytes + data.n > PACKET_MAX + CLIENT_PACKET_BYTES) {
		fail(s, "sftp", "the server's answer is too long");
		return;
	}
	memcpy(s->in + s->in_bytes, data.p, data.n);
	s->in_bytes += data.n;
	while (s->in_bytes - at >= 4 && !s->is_failed) {
		struct wire w = {.p = s->in + at, .n = 4};
		uint32_t n = wire_u32(&w);

		if (n > PACKET_MAX) {
			fail(s, "sftp", "the server's answer is too long");
			return;
		}
		if (s->in_bytes - at < 4 + (size_t)n)
			break;
		on_sftp_packet(s, s->in + at + 4, n);
		at += 4 + (size_t)n;
	}
	memmove(s->in, s->in + at, s->in_bytes - at);
	s->in_bytes -= at;
	make_requests(s);
}

static void on_started(struct client_chan *ch, bool is_good)
{
	struct sftp *s = ch->owner;
	struct wire_writer w = {.p = s->out};

	if (!is_good) {
		fail(s, "the subsystem sftp", "was refused");
		return;
	}
	wire_put_u32(&w, 5);
	wire_put_u8(&w, FXP_INIT);
	wire_put_u32(&w, FXP_VERSION_WANTED);
	s->out_end = 9;
	pump(s);
}

static void on_room(struct client_chan *ch)
{
	struct sftp *s = ch->owner;

	pump(s);
	if (s->is_ready)
		make_requests(s);
}

static void on_chan_closed(struct client_chan *ch, int status)
{
	struct sftp *s = ch->owner;

	(void)status;
	fail(s, "sftp", "the server ended it");
}

static const struct client_chan_events chan_events = {
	.on_started = on_started,
	.on_data = on_data,
	.on_room = on_room,
	.on_closed = on_chan_closed,
};

struct sftp *sftp_new(const struct sftp_options *o, const struct sftp_events *events, void *owner)
{
	struct sftp *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->options = o;
	s->events = events;
	s->owner = owner;
	s->free_count = o->requests;
	s->requests = calloc(o->requests, sizeof(*s->requests));
	s->out = malloc(OUT_BYTES);
	s->in = malloc(PACKET_MAX + CLIENT_PACKET_BYTES);
	return s->requests && s->out && s->in ? s : NULL; /* what there is ends with the process */
}

int sftp_open(struct sftp *s, struct client *c)
{
	s->chan = (struct client_chan){.events = &chan_events, .owner = s, .command = "sftp", .is_subsystem = true};
	return client_chan_open(c, &s->chan);
}

void sftp_move(struct sftp *s, bool is_up)
{
	s->is_moving = true;
	s->is_up = is_up;
	make_requests(s);
}
