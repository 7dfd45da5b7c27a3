/*
 * sftp-up, sftp-down: --count files of --size bytes each in the folder --path, over --parallel connections with --requests in flight on each.
 *
 * One big file is a bulk transfer, ten thousand small ones a storm. down first stores the files, which is not measured; every byte down is compared. What went up is compared by
 * the sandbox's sha256sum over all files in their order. With --keep there is nothing but the measured part: the files are there before, and stay.
 */
#include "bench/bench.h"
#include "bench/pattern.h"
#include "bench/sftp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND_BYTES (3 * SFTP_PATH_BYTES)

enum part {
	PART_PREPARE, /* the folder */
	PART_STORE,   /* down: the files */
	PART_MOVE,    /* measured */
	PART_VERIFY,  /* up: sha256sum */
	PART_REMOVE,
};

struct link {
	struct storm *storm;
	struct client *client;
	struct sftp *sftp;
};

struct storm {
	struct bench *bench;
	struct sftp_options sftp;
	bool is_up;
	enum part part;
	uint32_t ready, begun, done; /* links; files of this part */
	struct link *links;
	struct client_chan shell; /* a command over the first connection */
	char command[COMMAND_BYTES], sha256[65], said[80];
	size_t said_bytes;
};

static void begin_part(struct storm *s, enum part part);

static bool is_sending(const struct storm *s)
{
	return s->part == PART_STORE || (s->part == PART_MOVE && s->is_up);
}

/* --- files --- */

static void on_ready(void *owner)
{
	struct storm *s = ((struct link *)owner)->storm;

	if (++s->ready == s->bench->options.parallel)
		begin_part(s, s->bench->options.is_kept && !s->is_up ? PART_MOVE : PART_PREPARE);
}

static bool next_file(void *owner, uint32_t *ret_index)
{
	struct storm *s = ((struct link *)owner)->storm;

	if ((s->part != PART_STORE && s->part != PART_MOVE) || s->begun == s->bench->options.count)
		return false;
	*ret_index = s->begun++;
	return true;
}

static void on_bytes(void *owner, uint64_t n)
{
	struct storm *s = ((struct link *)owner)->storm;

	if (s->part == PART_MOVE)
		s->bench->bytes += n;
}

static void add_results(struct storm *s)
{
	struct bench *b = s->bench;
	double us;

	b->ended_us = bench_now_us();
	us = (double)(b->ended_us - b->first_us);
	bench_result(b, "mb_per_s", (double)b->bytes / us);
	bench_result(b, "files_per_s", b->done / us * 1e6);
}

static void on_file_done(void *owner, uint64_t began_us)
{
	struct storm *s = ((struct link *)owner)->storm;
	struct bench *b = s->bench;

	if (s->part == PART_MOVE) {
		histogram_add(&b->latency, bench_now_us() - began_us);
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

static void on_failed(void *owner, const char *what, const char *reason)
{
	bench_give_up(((struct link *)owner)->storm->bench, what, reason);
}

static const struct sftp_events sftp_events = {
	.on_ready = on_ready,
	.next_file = next_file,
	.on_bytes = on_bytes,
	.on_file_done = on_file_done,
	.on_failed = on_failed,
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
			sftp_move(s->links[i].sftp, is_sending(s));
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

/* --- life --- */

static void on_live(struct client *c)
{
	struct link *l = c->owner;

	if (sftp_open(l->sftp, c) < 0)
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

	if (strlen(b->options.path) > SFTP_PATH_BYTES - 16)
		return -E2BIG;
	s->bench = b;
	s->is_up = b->scenario->is_up;
	s->sftp = (struct sftp_options){b->options.path, b->options.size_bytes, b->options.requests};
	s->links = calloc(b->options.parallel, sizeof(*s->links));
	if (!s->links)
		return -ENOMEM;
	pattern_start();
	if (s->is_up && !b->options.is_kept)
		pattern_sha256(b->options.count * b->options.size_bytes, s->sha256);
	for (uint32_t i = 0; i < b->options.parallel; i++) {
		struct link *l = &s->links[i];

		l->storm = s;
		l->sftp = sftp_new(&s->sftp, &sftp_events, l);
		l->client = bench_connect(b, &client_events, l);
		if (!l->sftp || !l->client)
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
