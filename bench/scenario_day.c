/*
 * day: what a region sees on an ordinary day, for --seconds: --mix SHELLS,COMMANDS,COPIES people at once.
 *
 *   a shell     a terminal in which a key is typed --interval-ms after the last one's echo; the echo's delay is the scenario's latency
 *   a command   a connection, a login, --command, the end; again after --pause-ms
 *   a copy      --size up over one connection, compared by the sandbox's sha256sum, and down again, compared here; again after --pause-ms
 *
 * What ends after the time is over is finished and checked, but does not count.
 */
#include "bench/bench.h"
#include "bench/pattern.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum kind {
	KIND_SHELL,
	KIND_COMMAND,
	KIND_COPY,
	KINDS,
};

/* Of a copy. */
enum part {
	PART_UP,
	PART_DOWN,
	PART_REMOVE,
};

/* Says that the terminal is set; what comes before it is a prompt or a message. */
#define SHELL "stty raw -echo && printf '\\001' && exec cat"
#define READY 1

struct person {
	struct list node; /* day.people, so that all are found when the time is over */
	enum kind kind;
	uint32_t index;
	struct client *client;
	struct client_chan chan;
	struct timer pause;
	uint64_t began_us, at;
	uint32_t typed;
	enum part part;
	bool is_ready, is_waiting,
		is_good; /* a shell: its terminal is set, a key's echo is to come; a command: it ended well */
	uint8_t key;
	char command[1200], said[80];
	size_t said_bytes;
};

static struct {
	struct bench *bench;
	struct list people;
	struct timer over;
	bool is_over;
	char sha256[65];
	uint64_t counts[KINDS];
	struct histogram latencies[KINDS]; /* of KIND_SHELL: the bench's own */
} day;

static const struct client_chan_events shell_events, command_events, copy_events;
static const struct client_events client_events;

static void give_up(const char *what, const char *reason)
{
	bench_give_up(day.bench, what, reason);
}

static void count(struct person *p)
{
	if (day.is_over)
		return;
	day.counts[p->kind]++;
	day.bench->done++;
	histogram_add(p->kind == KIND_SHELL ? &day.bench->latency : &day.latencies[p->kind],
		      bench_now_us() - p->began_us);
}

static void open_chan(struct person *p, const struct client_chan_events *events, const char *command)
{
	p->chan = (struct client_chan){
		.events = events,
		.owner = p,
		.command = command,
		.has_pty = p->kind == KIND_SHELL,
	};
	p->at = 0;
	p->said_bytes = 0;
	if (client_chan_open(p->client, &p->chan) < 0)
		give_up("a channel", "too many");
}

static void connect_person(struct person *p)
{
	p->began_us = bench_now_us();
	p->is_good = false;
	p->client = bench_connect(day.bench, &client_events, p);
}

static void leave(struct person *p)
{
	struct bench *b = day.bench;

	timer_stop(b->ring, &p->pause);
	list_del(&p->node);
	free(p);
	bench_left(b);
}

static void on_started(struct client_chan *ch, bool is_good)
{
	if (!is_good)
		give_up(ch->command, "was refused");
	else
		ch->events->on_room(ch);
}

/* --- shells --- */

static void type(struct person *p)
{
	if (client_chan_room(&p->chan) == 0) {
		timer_start(day.bench->ring, &p->pause, 1);
		return;
	}
	p->key = (uint8_t)('a' + p->typed++ % 26);
	p->is_waiting = true;
	p->began_us = bench_now_us();
	client_chan_write(&p->chan, &p->key, 1);
}

static void on_shell_data(struct client_chan *ch, bool is_error, struct bytes data)
{
	struct person *p = ch->owner;
	uint32_t interval_ms = day.bench->options.interval_ms;

	(void)is_error;
	for (size_t i = 0; i < data.n; i++) {
		if (!p->is_ready && data.p[i] == READY) {
			p->is_ready = true;
			/* Not all in the same millisecond. */
			timer_start(day.bench->ring, &p->pause, interval_ms ? p->index % interval_ms + 1 : 0);
		} else if (p->is_ready && (!p->is_waiting || data.p[i] != p->key)) {
			give_up("an echo", "BYTES DIFFER: it is not what was typed");
			return;
		} else if (p->is_ready) {
			p->is_waiting = false;
			count(p);
			if (day.is_over)
				client_close(p->client);
			else
				timer_start(day.bench->ring, &p->pause, interval_ms);
		}
	}
}

static void on_shell_room(struct client_chan *ch)
{
	(void)ch;
}

static void on_shell_closed(struct client_chan *ch, int status)
{
	(void)ch;
	(void)status;
	give_up("a shell", "ended by itself");
}

static const struct client_chan_events shell_events = {
	.on_started = on_started,
	.on_data = on_shell_data,
	.on_room = on_shell_room,
	.on_closed = on_shell_closed,
};

/* --- commands --- */

static void on_command_data(struct client_chan *ch, bool is_error, struct bytes data)
{
	(void)ch;
	(void)is_error;
	(void)data;
}

static void on_command_room(struct client_chan *ch)
{
	client_chan_eof(ch);
}

static void on_command_closed(struct client_chan *ch, int status)
{
	struct person *p = ch->owner;

	if (status != 0) {
		give_up("a command", bench_status_words(status));
		return;
	}
	p->is_good = true;
	count(p);
	client_close(p->client);
}

static const struct client_chan_events command_events = {
	.on_started = on_started,
	.on_data = on_command_data,
	.on_room = on_command_room,
	.on_closed = on_command_closed,
};

/* --- copies --- */

static void begin_part(struct person *p, enum part part)
{
	const char *path = day.bench->options.path;

	p->part = part;
	if (part != PART_REMOVE)
		p->began_us = bench_now_us();
	if (part == PART_UP)
		snprintf(p->command, sizeof(p->command), "cat >%s.%u && sha256sum <%s.%u", path, p->index, path,
			 p->index);
	else
		snprintf(p->command, sizeof(p->command), "%s %s.%u", part == PART_DOWN ? "cat" : "rm -f", path,
			 p->index);
	open_chan(p, &copy_events, p->command);
}

static void on_copy_room(struct client_chan *ch)
{
	struct person *p = ch->owner;
	uint64_t size = day.bench->options.size_bytes;
	uint64_t n = p->part == PART_UP ? bench_send_pattern(ch, &p->at, size) : 0;

	if (!day.is_over)
		day.bench->bytes += n;
	if (p->part != PART_UP || p->at == size)
		client_chan_eof(ch);
}

static void on_copy_data(struct client_chan *ch, bool is_error, struct bytes data)
{
	struct person *p = ch->owner;
	size_t n = sizeof(p->said) - p->said_bytes;

	if (is_error)
		return;
	if (p->part == PART_UP) {
		memcpy(p->said + p->said_bytes, data.p, data.n < n ? data.n : n);
		p->said_bytes += data.n < n ? data.n : n;
		return;
	}
	if (p->at + data.n > day.bench->options.size_bytes || !pattern_is(p->at, data.p, data.n)) {
		give_up("a copy down", "BYTES DIFFER from what was stored");
		return;
	}
	p->at += data.n;
	if (!day.is_over)
		day.bench->bytes += data.n;
}

static void on_copy_closed(struct client_chan *ch, int status)
{
	struct person *p = ch->owner;

	if (status != 0) {
		give_up(p->command, bench_status_words(status));
		return;
	}
	if (p->part == PART_REMOVE) {
		client_close(p->client);
		return;
	}
	if (p->part == PART_UP && (p->said_bytes < 64 || memcmp(p->said, day.sha256, 64) != 0)) {
		give_up("a copy up", "BYTES DIFFER: the sandbox's SHA-256 is another");
		return;
	}
	if (p->part == PART_DOWN && p->at != day.bench->options.size_bytes) {
		give_up("a copy down", "BYTES ARE MISSING");
		return;
	}
	count(p);
	if (p->part == PART_UP)
		begin_part(p, PART_DOWN);
	else if (day.is_over)
		begin_part(p, PART_REMOVE);
	else
		timer_start(day.bench->ring, &p->pause, day.bench->options.pause_ms);
}

static const struct client_chan_events copy_events = {
	.on_started = on_started,
	.on_data = on_copy_data,
	.on_room = on_copy_room,
	.on_closed = on_copy_closed,
};

/* --- life --- */

static void on_pause(struct timer *t)
{
	struct person *p = CONTAINER_OF(t, struct person, pause);

	if (p->kind == KIND_SHELL)
		type(p);
	else if (p->kind == KIND_COPY)
		begin_part(p, PART_UP);
	else
		connect_person(p);
}

static void on_live(struct client *c)
{
	struct person *p = c->owner;

	if (p->kind == KIND_SHELL)
		open_chan(p, &shell_events, SHELL);
	else if (p->kind == KIND_COMMAND)
		open_chan(p, &command_events, day.bench->options.command);
	else
		begin_part(p, PART_UP);
}

static void on_closed(struct client *c, bool was_asked, const char *reason)
{
	struct person *p = c->owner;

	p->client = NULL;
	if (!was_asked) {
		give_up(p->kind == KIND_COMMAND && p->is_good ? "a connection after its command" : "a connection",
			reason);
	} else if (p->kind == KIND_COMMAND && !day.is_over) {
		timer_start(day.bench->ring, &p->pause, day.bench->options.pause_ms);
	} else {
		leave(p);
	}
	client_free(c); /* the reason is its own */
}

static const struct client_events client_events = {.on_live = on_live, .on_closed = on_closed};

static void add_results(struct bench *b)
{
	double seconds = (double)(b->ended_us - b->first_us) / 1e6;
	const struct histogram *commands = &day.latencies[KIND_COMMAND], *copies = &day.latencies[KIND_COPY];

	bench_result(b, "echoes", (double)day.counts[KIND_SHELL]);
	bench_result(b, "commands", (double)day.counts[KIND_COMMAND]);
	bench_result(b, "copies", (double)day.counts[KIND_COPY]);
	bench_result(b, "commands_per_s", (double)day.counts[KIND_COMMAND] / seconds);
	bench_result(b, "mb_per_s", (double)b->bytes / 1e6 / seconds);
	bench_result(b, "command_p50_us", (double)histogram_at(commands, 0.5));
	bench_result(b, "command_p99_us", (double)histogram_at(commands, 0.99));
	bench_result(b, "copy_p50_us", (double)histogram_at(copies, 0.5));
	bench_result(b, "copy_p99_us", (double)histogram_at(copies, 0.99));
}

/* Nothing new begins: who rests leaves, who is at work leaves when it is done. */
static void on_over(struct timer *t)
{
	(void)t;
	day.is_over = true;
	day.bench->ended_us = bench_now_us();
	add_results(day.bench);
	for (struct list *n = day.people.next, *next; n != &day.people; n = next) {
		struct person *p = CONTAINER_OF(n, struct person, node);
		bool is_resting = timer_is_started(&p->pause);

		next = n->next;
		timer_stop(day.bench->ring, &p->pause);
		if (p->kind == KIND_SHELL && p->is_ready && !p->is_waiting)
			client_close(p->client);
		else if (p->kind == KIND_COMMAND && is_resting)
			leave(p);
		else if (p->kind == KIND_COPY && is_resting)
			begin_part(p, PART_REMOVE);
	}
}

static int start(struct bench *b)
{
	day.bench = b;
	list_init(&day.people);
	pattern_start();
	pattern_sha256(b->options.size_bytes, day.sha256);
	for (int kind = 0; kind < KINDS; kind++) {
		for (uint32_t i = 0; i < b->options.mix[kind]; i++) {
			struct person *p = calloc(1, sizeof(*p));

			if (!p)
				return -ENOMEM;
			p->kind = (enum kind)kind;
			p->index = i;
			timer_init(&p->pause, on_pause);
			list_add_tail(&day.people, &p->node);
			b->live_count++;
			connect_person(p);
		}
	}
	if (b->live_count == 0)
		return -EINVAL;
	b->first_us = bench_now_us();
	timer_init(&day.over, on_over);
	timer_start(b->ring, &day.over, b->options.seconds * 1000ull);
	return 0;
}

const struct scenario scenario_day = {
	.name = "day",
	.help = "--mix of shells, commands and copies of --size, for --seconds; latency is the keys'",
	.takes = "mix seconds size interval-ms pause-ms command path",
	.count = 1,
	.parallel = 1,
	.size_bytes = 8ull << 20,
	.start = start,
};
