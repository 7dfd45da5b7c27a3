/*
 * sftp-up, sftp-down: --count files of --size bytes each in the folder --path, over --parallel connections with --requests in flight on each.
 *
 * One big file is a bulk transfer, ten thousand small ones a storm. File i holds the pattern from byte i * size on, so a file that comes in
 * another's place differs. down first stores the files, which is not measured; every byte down is compared. What went up is compared by
 * the sandbox's sha256sum over all files in their order. With --keep there is nothing but the measured part: the files are there before, and stay.
 */
#include "bench/bench.h"
#include "bench/pattern.h"

#include "ssh/wire.h"

#include <errno.h>
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

#define REQUESTS_MAX 1024
/* Open at once on one connection; servers have a limit of their own. */
#define FILES_MAX 16
#define HANDLE_MAX 256
/* Of one read or write, as OpenSSH's client. */
#define DATA_MAX (32u << 10)
#define PACKET_MAX (DATA_MAX + 1024)
/* Requests are made until that much waits for the channel. */
#define OUT_ENOUGH (64u << 10)
/* With room for what every read in flight may ask for again. */
#define OUT_BYTES (OUT_ENOUGH + PACKET_MAX + REQUESTS_MAX * (HANDLE_MAX + 64))
#define PATH_BYTES 512
#define COMMAND_BYTES (3 * PATH_BYTES)

enum part {
	PART_PREPARE, /* the folder */
	PART_STORE,   /* down: the files */
	PART_MOVE,    /* measured */
	PART_VERIFY,  /* up: sha256sum */
	PART_REMOVE,
};

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

struct link {
	struct storm *storm;
	struct client *client;
	struct client_chan chan;
	bool is_ready; /* the subsystem told its version */
	struct file files[FILES_MAX];
	struct request *requests;
	uint32_t free_count; /* of requests */
	uint8_t *out, *in;
	size_t out_at, out_end, in_bytes;
};

struct storm {
	struct bench *bench;
	bool is_up;
	enum part part;
	uint32_t ready, begun, done; /* links; files of this part */
	struct link *links;
	struct client_chan shell; /* a command over the first connection */
	char command[COMMAND_BYTES], sha256[65], said[80];
	size_t said_bytes;
};

static void begin_part(struct storm *s, enum part part);
static void make_requests(struct link *l);

static bool is_sending(const struct storm *s)
{
	return s->part == PART_STORE || (s->part == PART_MOVE && s->is_up);
}

static bool is_moving(const struct storm *s)
{
	return s->part == PART_STORE || s->part == PART_MOVE;
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
static uint8_t *head(struct link *l, uint8_t type, uint32_t number)
{
	struct wire_writer w = {.p = l->out + l->out_end + 4};

	wire_put_u8(&w, type);
	wire_put_u32(&w, number);
	return w.p;
}

static void finish(struct link *l, uint8_t *end)
{
	struct wire_writer w = {.p = l->out + l->out_end};
	size_t n = (size_t)(end - w.p);

	ASSERT(n <= PACKET_MAX && l->out_end + n <= OUT_BYTES);
	wire_put_u32(&w, (uint32_t)n - 4);
	l->out_end += n;
}

static void send_open(struct link *l, uint32_t number, struct file *f)
{
	char path[PATH_BYTES];
	int n = snprintf(path, sizeof(path), "%s/%u", l->storm->bench->options.path, f->index);
	struct wire_writer w;

	w.p = put_string(head(l, FXP_OPEN, number), path, (uint32_t)n);
	wire_put_u32(&w, is_sending(l->storm) ? FXF_WRITE_NEW : FXF_READ);
	wire_put_u32(&w, 0); /* no attributes */
	finish(l, w.p);
}

static void send_piece(struct link *l, uint32_t number)
{
	const struct request *q = &l->requests[number];
	uint64_t at = q->file->index * l->storm->bench->options.size_bytes + q->at;
	uint8_t *p = put_string(head(l, q->type, number), q->file->handle, q->file->handle_bytes);
	struct wire_writer w = {.p = put_u64(p, q->at)};

	if (q->type == FXP_WRITE)
		w.p = put_string(w.p, pattern_at(at), q->n);
	else
		wire_put_u32(&w, q->n);
	finish(l, w.p);
}

static void send_request(struct link *l, struct file *f, uint8_t type, uint64_t at, uint32_t n)
{
	uint32_t number = 0;

	while (l->requests[number].file)
		number++;
	l->free_count--;
	l->requests[number] = (struct request){.file = f, .type = type, .at = at, .n = n};
	if (type == FXP_OPEN)
		send_open(l, number, f);
	else if (type == FXP_CLOSE)
		finish(l, put_string(head(l, type, number), f->handle, f->handle_bytes));
	else
		send_piece(l, number);
}

/* The next request that file f wants; false: none now. */
static bool want_of_file(struct link *l, struct file *f)
{
	struct storm *s = l->storm;
	uint64_t size = s->bench->options.size_bytes, left = size - f->asked;

	if (f->state == FILE_NONE && s->begun < s->bench->options.count) {
		*f = (struct file){.state = FILE_OPENING, .index = s->begun++, .began_us = bench_now_us()};
		send_request(l, f, FXP_OPEN, 0, 0);
	} else if (f->state == FILE_OPEN && left > 0) {
		uint32_t n = left < DATA_MAX ? (uint32_t)left : DATA_MAX;

		send_request(l, f, is_sending(s) ? FXP_WRITE : FXP_READ, f->asked, n);
		f->asked += n;
	} else if (f->state == FILE_OPEN && f->answered == size) {
		f->state = FILE_CLOSING;
		send_request(l, f, FXP_CLOSE, 0, 0);
	} else {
		return false;
	}
	return true;
}

/* Gives the channel what waits for it. */
static void pump(struct link *l)
{
	uint32_t n;

	while (l->out_at < l->out_end && (n = client_chan_room(&l->chan)) > 0) {
		if (n > l->out_end - l->out_at)
			n = (uint32_t)(l->out_end - l->out_at);
		client_chan_write(&l->chan, l->out + l->out_at, n);
		l->out_at += n;
	}
	memmove(l->out, l->out + l->out_at, l->out_end - l->out_at);
	l->out_end -= l->out_at;
	l->out_at = 0;
}

static void make_requests(struct link *l)
{
	bool is_progress = true;

	while (is_progress && is_moving(l->storm)) {
		is_progress = false;
		for (uint32_t i = 0; i < FILES_MAX; i++)
			while (l->free_count > 0 && l->out_end < OUT_ENOUGH && want_of_file(l, &l->files[i]))
				is_progress = true;
		pump(l);
	}
}

/* --- answers --- */

static void add_results(struct storm *s)
{
	struct bench *b = s->bench;
	double us;

	b->ended_us = bench_now_us();
	us = (double)(b->ended_us - b->first_us);
	bench_result(b, "mb_per_s", (double)b->bytes / us);
	bench_result(b, "files_per_s", b->done / us * 1e6);
}

static void file_is_done(struct storm *s, struct file *f)
{
	struct bench *b = s->bench;

	f->state = FILE_NONE;
	if (s->part == PART_MOVE) {
		histogram_add(&b->latency, bench_now_us() - f->began_us);
		b->done++;
	}
	if (++s->done < b->options.count)
		return;
	if (s->part == PART_STORE) {
		begin_part(s, PART_MOVE);
		return;
	}
	add_results(s);
	if (!b->options.is_kept)
		begin_part(s, s->is_up ? PART_VERIFY : PART_REMOVE);
	else
		for (uint32_t i = 0; i < b->options.parallel; i++)
			client_close(s->links[i].client);
}

static void on_answer(struct link *l, uint8_t type, uint32_t number, struct wire *w)
{
	struct storm *s = l->storm;
	struct request *q = &l->requests[number], was = *q;
	struct file *f = was.file;
	uint64_t at = f->index * s->bench->options.size_bytes + was.at;
	struct bytes data = {0};

	q->file = NULL;
	l->free_count++;
	if (type == FXP_STATUS && wire_u32(w) != 0) {
		bench_give_up(s->bench, "sftp",
			      was.type == FXP_READ ? "BYTES ARE MISSING: a read failed" : "a request failed");
		return;
	}
	if (type == FXP_HANDLE || type == FXP_DATA)
		data = wire_string(w);
	if (w->is_bad || (was.type == FXP_OPEN) != (type == FXP_HANDLE) ||
	    (was.type == FXP_READ) != (type == FXP_DATA) || (type == FXP_HANDLE && data.n > HANDLE_MAX) ||
	    (type == FXP_DATA && (data.n == 0 || data.n > was.n))) {
		bench_give_up(s->bench, "sftp", "the server's answer makes no sense");
		return;
	}
	switch (was.type) {
	case FXP_OPEN:
		memcpy(f->handle, data.p, data.n);
		f->handle_bytes = (uint32_t)data.n;
		f->state = FILE_OPEN;
		return;
	case FXP_CLOSE:
		file_is_done(s, f);
		return;
	case FXP_READ:
		if (!pattern_is(at, data.p, data.n)) {
			bench_give_up(s->bench, "a download", "BYTES DIFFER from what was stored");
			return;
		}
		if (data.n < was.n) /* a server may give less than was asked for */
			send_request(l, f, FXP_READ, was.at + data.n, was.n - (uint32_t)data.n);
		break;
	default:
		data.n = was.n;
		break;
	}
	f->answered += data.n;
	if (s->part == PART_MOVE)
		s->bench->bytes += data.n;
}

static void on_sftp_packet(struct link *l, const uint8_t *p, size_t n)
{
	struct storm *s = l->storm;
	struct wire w = {.p = p, .n = n};
	uint8_t type = wire_u8(&w);
	uint32_t number = wire_u32(&w);

	if (type == FXP_VERSION && !l->is_ready) {
		l->is_ready = true;
		if (++s->ready == s->bench->options.parallel)
			begin_part(s, s->bench->options.is_kept && !s->is_up ? PART_MOVE : PART_PREPARE);
	} else if (number < s->bench->options.requests && l->requests[number].file) {
		on_answer(l, type, number, &w);
	} else {
		bench_give_up(s->bench, "sftp", "the server answered what was not asked");
	}
}

static void on_data(struct client_chan *ch, bool is_error, struct bytes data)
{
	struct link *l = ch->owner;
	size_t at = 0;

	if (is_error)
		return;
	if (l->in_bytes + data.n > PACKET_MAX + CLIENT_PACKET_BYTES) {
		bench_give_up(l->storm->bench, "sftp", "the server's answer is too long");
		return;
	}
	memcpy(l->in + l->in_bytes, data.p, data.n);
	l->in_bytes += data.n;
	while (l->in_bytes - at >= 4 && !l->storm->bench->ended_us) {
		struct wire w = {.p = l->in + at, .n = 4};
		uint32_t n = wire_u32(&w);

		if (n > PACKET_MAX) {
			bench_give_up(l->storm->bench, "sftp", "the server's answer is too long");
			return;
		}
		if (l->in_bytes - at < 4 + (size_t)n)
			break;
		on_sftp_packet(l, l->in + at + 4, n);
		at += 4 + (size_t)n;
	}
	memmove(l->in, l->in + at, l->in_bytes - at);
	l->in_bytes -= at;
	make_requests(l);
}

static void on_started(struct client_chan *ch, bool is_good)
{
	struct link *l = ch->owner;
	struct wire_writer w = {.p = l->out};

	if (!is_good) {
		bench_give_up(l->storm->bench, "the subsystem sftp", "was refused");
		return;
	}
	wire_put_u32(&w, 5);
	wire_put_u8(&w, FXP_INIT);
	wire_put_u32(&w, FXP_VERSION_WANTED);
	l->out_end = 9;
	pump(l);
}

static void on_room(struct client_chan *ch)
{
	struct link *l = ch->owner;

	pump(l);
	if (l->is_ready)
		make_requests(l);
}

static void on_chan_closed(struct client_chan *ch, int status)
{
	struct link *l = ch->owner;

	(void)status;
	bench_give_up(l->storm->bench, "sftp", "the server ended it");
}

static const struct client_chan_events chan_events = {
	.on_started = on_started,
	.on_data = on_data,
	.on_room = on_room,
	.on_closed = on_chan_closed,
};

/* --- commands around it --- */

static void on_shell_started(struct client_chan *ch, bool is_good)
{
	struct storm *s = ch->owner;

	if (is_good)
		client_chan_eof(ch);
	else
		bench_give_up(s->bench, "a command", "was refused");
}

static void on_shell_data(struct client_chan *ch, bool is_error, struct bytes data)
{
	struct storm *s = ch->owner;
	size_t n = sizeof(s->said) - 1 - s->said_bytes;

	if (is_error)
		return;
	memcpy(s->said + s->said_bytes, data.p, data.n < n ? data.n : n);
	s->said_bytes += data.n < n ? data.n : n;
}

static void on_shell_room(struct client_chan *ch)
{
	client_chan_eof(ch);
}

static void on_shell_closed(struct client_chan *ch, int status)
{
	struct storm *s = ch->owner;

	if (status != 0) {
		bench_give_up(s->bench, s->command, bench_status_words(status));
		return;
	}
	switch (s->part) {
	case PART_PREPARE:
		begin_part(s, s->is_up ? PART_MOVE : PART_STORE);
		break;
	case PART_VERIFY:
		if (s->said_bytes < 64 || memcmp(s->said, s->sha256, 64) != 0)
			bench_give_up(s->bench, "an upload", "BYTES DIFFER: the sandbox's SHA-256 is another");
		else
			begin_part(s, PART_REMOVE);
		break;
	default:
		for (uint32_t i = 0; i < s->bench->options.parallel; i++)
			client_close(s->links[i].client);
		break;
	}
}

static const struct client_chan_events shell_events = {
	.on_started = on_shell_started,
	.on_data = on_shell_data,
	.on_room = on_shell_room,
	.on_closed = on_shell_closed,
};

/* --- life --- */

static void command(struct storm *s, const char *before, const char *after)
{
	snprintf(s->command, sizeof(s->command), "%s%s%s", before, s->bench->options.path, after);
	s->said_bytes = 0;
	s->shell = (struct client_chan){.events = &shell_events, .owner = s, .command = s->command};
	if (client_chan_open(s->links[0].client, &s->shell) < 0)
		bench_give_up(s->bench, "a channel", "too many");
}

static void begin_part(struct storm *s, enum part part)
{
	struct bench *b = s->bench;
	char after[128];

	s->part = part;
	switch (part) {
	case PART_PREPARE:
		command(s, "mkdir -p ", "");
		break;
	case PART_STORE:
	case PART_MOVE:
		s->begun = s->done = 0;
		if (part == PART_MOVE)
			b->first_us = bench_now_us();
		for (uint32_t i = 0; i < b->options.parallel; i++)
			make_requests(&s->links[i]);
		break;
	case PART_VERIFY:
		snprintf(after, sizeof(after), " && seq 0 %u | xargs cat | sha256sum", b->options.count - 1);
		command(s, "cd ", after);
		break;
	case PART_REMOVE:
		snprintf(after, sizeof(after), " && seq 0 %u | xargs rm -f && rmdir \"$PWD\"", b->options.count - 1);
		command(s, "cd ", after);
		break;
	}
}

static void on_live(struct client *c)
{
	struct link *l = c->owner;

	l->chan = (struct client_chan){.events = &chan_events, .owner = l, .command = "sftp", .is_subsystem = true};
	if (client_chan_open(c, &l->chan) < 0)
		bench_give_up(l->storm->bench, "a channel", "too many");
}

static void on_closed(struct client *c, bool was_asked, const char *reason)
{
	struct link *l = c->owner;
	struct storm *s = l->storm;

	l->client = NULL;
	if (!was_asked)
		bench_give_up(s->bench, "a connection", reason);
	else
		bench_left(s->bench);
	client_free(c); /* the reason is its own */
}

static const struct client_events client_events = {.on_live = on_live, .on_closed = on_closed};

static int start(struct bench *b)
{
	static struct storm storm; /* one scenario a process */
	struct storm *s = &storm;

	if (b->options.requests > REQUESTS_MAX || strlen(b->options.path) > PATH_BYTES - 16)
		return -E2BIG;
	s->bench = b;
	s->is_up = b->scenario->is_up;
	s->links = calloc(b->options.parallel, sizeof(*s->links));
	if (!s->links)
		return -ENOMEM;
	pattern_start();
	if (s->is_up && !b->options.is_kept)
		pattern_sha256(b->options.count * b->options.size_bytes, s->sha256);
	for (uint32_t i = 0; i < b->options.parallel; i++) {
		struct link *l = &s->links[i];

		l->storm = s;
		l->free_count = b->options.requests;
		l->requests = calloc(b->options.requests, sizeof(*l->requests));
		l->out = malloc(OUT_BYTES);
		l->in = malloc(PACKET_MAX + CLIENT_PACKET_BYTES);
		l->client = bench_connect(b, &client_events, l);
		if (!l->requests || !l->out || !l->in || !l->client)
			return -ENOMEM;
		b->live_count++;
	}
	return 0;
}

const struct scenario scenario_sftp_up = {
	.name = "sftp-up",
	.help = "--count files of --size each up by SFTP, --requests in flight; compared by SHA-256",
	.takes = "count parallel size requests path keep",
	.count = 1,
	.parallel = 1,
	.size_bytes = 1ull << 30,
	.is_up = true,
	.start = start,
};

const struct scenario scenario_sftp_down = {
	.name = "sftp-down",
	.help = "--count files of --size each down by SFTP, --requests in flight; every byte compared",
	.takes = "count parallel size requests path keep",
	.count = 1,
	.parallel = 1,
	.size_bytes = 1ull << 30,
	.start = start,
};
