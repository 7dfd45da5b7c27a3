/*
 * up, down: --parallel streams, each over a connection of its own, of --size bytes each: `cat` of the file --path in the sandbox.
 *
 * down first stores the file by one upload that is not measured. Every byte down is compared; what went up is compared by the sandbox's
 * sha256sum afterwards, which is not measured either. All streams begin when every connection is logged in. With --keep there is nothing but
 * the measured part: the file (of `ringbench pattern`) is there before a download, and whoever called compares what was uploaded.
 */
#include "bench/bench.h"
#include "bench/pattern.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum part {
	PART_STORE,  /* down: one upload */
	PART_MOVE,   /* measured */
	PART_VERIFY, /* up: sha256sum, one after the other */
	PART_REMOVE,
};

struct stream_job {
	struct bulk *bulk;
	struct client *client;
	struct client_chan chan;
	uint32_t index;
	uint64_t at; /* sent or received */
	uint64_t done_us;
	char command[512];
	char said[80]; /* sha256sum's first words */
	size_t said_bytes;
};

struct bulk {
	struct bench *bench;
	bool is_up;
	enum part part;
	uint32_t live, running, verified;
	struct stream_job *jobs;
	char sha256[65];
};

static void begin_part(struct bulk *k, enum part part);

static bool is_sending(const struct bulk *k)
{
	return k->part == PART_STORE || (k->part == PART_MOVE && k->is_up);
}

static void open_command(struct stream_job *j)
{
	j->at = 0;
	j->said_bytes = 0;
	if (client_chan_open(j->client, &j->chan) < 0)
		bench_give_up(j->bulk->bench, "a channel", "too many");
}

static const char *file_of(const struct bulk *k, uint32_t index, char *buf, size_t size)
{
	if (k->bench->options.is_kept && !k->is_up)
		snprintf(buf, size, "%s", k->bench->options.path);
	else
		snprintf(buf, size, "%s.%u", k->bench->options.path, k->is_up ? index : 0);
	return buf;
}

static void run(struct stream_job *j, const char *format)
{
	char file[256];

	j->bulk->running++;
	/* NOLINTNEXTLINE: one of begin_part's own formats. */
	snprintf(j->command, sizeof(j->command), "%s%s", format, file_of(j->bulk, j->index, file, sizeof(file)));
	j->chan.command = j->command;
	open_command(j);
}

static void begin_part(struct bulk *k, enum part part)
{
	struct bench *b = k->bench;

	k->part = part;
	switch (part) {
	case PART_STORE:
		run(&k->jobs[0], "cat >");
		break;
	case PART_MOVE:
		b->first_us = bench_now_us();
		for (uint32_t i = 0; i < b->options.parallel; i++)
			run(&k->jobs[i], k->is_up ? "cat >" : "cat ");
		break;
	case PART_VERIFY:
		run(&k->jobs[k->verified], "sha256sum ");
		break;
	case PART_REMOVE:
		for (uint32_t i = 0; i < (k->is_up ? b->options.parallel : 1); i++)
			run(&k->jobs[i], "rm -f ");
		break;
	}
}

static void add_results(struct bulk *k)
{
	struct bench *b = k->bench;
	uint64_t slowest = 0, fastest = UINT64_MAX;

	b->ended_us = bench_now_us();
	for (uint32_t i = 0; i < b->options.parallel; i++) {
		uint64_t us = k->jobs[i].done_us - b->first_us;

		histogram_add(&b->latency, us);
		slowest = us > slowest ? us : slowest;
		fastest = us < fastest ? us : fastest;
	}
	bench_result(b, "mb_per_s", (double)b->bytes / (double)(b->ended_us - b->first_us));
	bench_result(b, "slowest_to_fastest", slowest > 0 ? (double)fastest / (double)slowest : 1);
}

static void close_all(struct bulk *k)
{
	for (uint32_t i = 0; i < k->bench->options.parallel; i++)
		client_close(k->jobs[i].client);
}

static void part_is_done(struct bulk *k)
{
	struct bench *b = k->bench;

	switch (k->part) {
	case PART_STORE:
		begin_part(k, PART_MOVE);
		break;
	case PART_MOVE:
		add_results(k);
		if (b->options.is_kept)
			close_all(k);
		else
			begin_part(k, k->is_up ? PART_VERIFY : PART_REMOVE);
		break;
	case PART_VERIFY:
		k->verified++;
		begin_part(k, k->verified < b->options.parallel ? PART_VERIFY : PART_REMOVE);
		break;
	case PART_REMOVE:
		close_all(k);
		break;
	}
}

static void on_room(struct client_chan *ch)
{
	struct stream_job *j = ch->owner;
	uint64_t size = j->bulk->bench->options.size_bytes;
	uint64_t n;

	if (!is_sending(j->bulk)) {
		client_chan_eof(ch);
		return;
	}
	n = bench_send_pattern(ch, &j->at, size);
	if (j->bulk->part == PART_MOVE)
		j->bulk->bench->bytes += n;
	if (j->at == size)
		client_chan_eof(ch);
}

static void on_started(struct client_chan *ch, bool is_good)
{
	struct stream_job *j = ch->owner;

	if (is_good)
		on_room(ch);
	else
		bench_give_up(j->bulk->bench, "a command", "was refused");
}

static void on_data(struct client_chan *ch, bool is_error, struct bytes data)
{
	struct stream_job *j = ch->owner;
	struct bulk *k = j->bulk;

	if (is_error)
		return;
	if (k->part == PART_MOVE && !k->is_up) {
		if (j->at + data.n > k->bench->options.size_bytes || !pattern_is(j->at, data.p, data.n)) {
			bench_give_up(k->bench, "a download", "BYTES DIFFER from what was stored");
			return;
		}
		j->at += data.n;
		k->bench->bytes += data.n;
	} else if (k->part == PART_VERIFY) {
		size_t n = sizeof(j->said) - 1 - j->said_bytes;

		memcpy(j->said + j->said_bytes, data.p, data.n < n ? data.n : n);
		j->said_bytes += data.n < n ? data.n : n;
	}
}

static void on_chan_closed(struct client_chan *ch, int status)
{
	struct stream_job *j = ch->owner;
	struct bulk *k = j->bulk;

	if (status != 0) {
		bench_give_up(k->bench, j->command, bench_status_words(status));
		return;
	}
	if (k->part == PART_MOVE) {
		j->done_us = bench_now_us();
		if (j->at != k->bench->options.size_bytes) {
			bench_give_up(k->bench, "a transfer", "BYTES ARE MISSING");
			return;
		}
		k->bench->done++;
	}
	if (k->part == PART_VERIFY && (j->said_bytes < 64 || memcmp(j->said, k->sha256, 64) != 0)) {
		bench_give_up(k->bench, "an upload", "BYTES DIFFER: the sandbox's SHA-256 is another");
		return;
	}
	if (--k->running == 0)
		part_is_done(k);
}

static const struct client_chan_events chan_events = {
	.on_started = on_started,
	.on_data = on_data,
	.on_room = on_room,
	.on_closed = on_chan_closed,
};

static void on_live(struct client *c)
{
	struct stream_job *j = c->owner;
	struct bulk *k = j->bulk;

	if (++k->live == k->bench->options.parallel)
		begin_part(k, k->is_up || k->bench->options.is_kept ? PART_MOVE : PART_STORE);
}

static void on_closed(struct client *c, bool was_asked, const char *reason)
{
	struct stream_job *j = c->owner;
	struct bulk *k = j->bulk;
	struct bench *b = k->bench;

	j->client = NULL;
	if (!was_asked)
		bench_give_up(k->bench, "a connection", reason);
	else
		bench_left(b);
	client_free(c); /* the reason is its own */
}

static const struct client_events client_events = {.on_live = on_live, .on_closed = on_closed};

static int start(struct bench *b)
{
	static struct bulk bulk; /* one scenario a process */
	struct bulk *k = &bulk;

	k->bench = b;
	k->is_up = b->scenario->is_up;
	k->jobs = calloc(b->options.parallel, sizeof(*k->jobs));
	if (!k->jobs)
		return -ENOMEM;
	pattern_start();
	if (k->is_up && !b->options.is_kept)
		pattern_sha256(b->options.size_bytes, k->sha256);
	for (uint32_t i = 0; i < b->options.parallel; i++) {
		struct stream_job *j = &k->jobs[i];

		j->bulk = k;
		j->index = i;
		j->chan.events = &chan_events;
		j->chan.owner = j;
		j->client = bench_connect(b, &client_events, j);
		if (!j->client)
			return -ENOMEM;
		b->live_count++;
	}
	return 0;
}

const struct scenario scenario_up = {
	.name = "up",
	.help = "--parallel uploads of --size each by an exec stream, compared by SHA-256",
	.takes = "parallel size path keep",
	.count = 1,
	.parallel = 1,
	.size_bytes = 1ull << 30,
	.is_up = true,
	.start = start,
};

const struct scenario scenario_down = {
	.name = "down",
	.help = "--parallel downloads of --size each by an exec stream, every byte compared",
	.takes = "parallel size path keep",
	.count = 1,
	.parallel = 1,
	.size_bytes = 1ull << 30,
	.start = start,
};
