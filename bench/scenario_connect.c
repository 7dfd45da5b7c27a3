/*
 * connect: one connection for each command, as soon as another ends or --rate in a second. exec: one command after the other over each
 * of a few connections.
 */
#include "bench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct runner {
	struct bench *bench;
	struct client *client;
	struct client_chan chan;
	uint64_t began_us;
	bool is_exec, is_chan_done;
};

/* Logins at a rate: when the next one is due does not depend on when others end. */
static struct pace {
	struct bench *bench;
	struct timer timer;
	uint32_t running;
} pace;

static void begin(struct runner *r, uint64_t due_us);
static void begin_due(void);
static void next_command(struct runner *r);

static void count_done(struct runner *r, int status)
{
	struct bench *b = r->bench;

	if (status == 0) {
		histogram_add(&b->latency, bench_now_us() - r->began_us);
		b->done++;
	} else {
		b->failed++;
		bench_fail(b, "a command", bench_status_words(status));
	}
}

static void on_started(struct client_chan *ch, bool is_good)
{
	struct runner *r = ch->owner;

	if (!is_good)
		bench_fail(r->bench, "a command", "was refused");
}

static void on_data(struct client_chan *ch, bool is_error, struct bytes data)
{
	struct runner *r = ch->owner;

	(void)is_error;
	r->bench->bytes += data.n;
}

static void on_room(struct client_chan *ch)
{
	client_chan_eof(ch);
}

static void on_chan_closed(struct client_chan *ch, int status)
{
	struct runner *r = ch->owner;

	if (!r->is_exec) {
		r->is_chan_done = true;
		count_done(r, status);
		client_close(ch->client);
		return;
	}
	count_done(r, status);
	next_command(r);
}

static const struct client_chan_events chan_events = {
	.on_started = on_started,
	.on_data = on_data,
	.on_room = on_room,
	.on_closed = on_chan_closed,
};

static void open_command(struct runner *r)
{
	memset(&r->chan, 0, sizeof(r->chan));
	r->chan.events = &chan_events;
	r->chan.owner = r;
	r->chan.command = r->bench->options.command;
	if (client_chan_open(r->client, &r->chan) < 0)
		bench_fail(r->bench, "a channel", "too many");
}

static void next_command(struct runner *r)
{
	struct bench *b = r->bench;

	if (b->begun == b->options.count) {
		client_close(r->client);
		return;
	}
	b->begun++;
	r->began_us = bench_now_us();
	open_command(r);
}

static void on_live(struct client *c)
{
	struct runner *r = c->owner;

	if (r->is_exec) {
		if (!r->bench->first_us)
			r->bench->first_us = bench_now_us();
		next_command(r);
	} else {
		open_command(r);
	}
}

static void on_closed(struct client *c, bool was_asked, const char *reason)
{
	struct runner *r = c->owner;
	struct bench *b = r->bench;

	if (!was_asked) {
		b->failed++;
		bench_fail(b, "a connection", reason);
	}
	client_free(c); /* the reason is its own */
	r->client = NULL;
	if (!r->is_exec && !b->options.rate && b->begun < b->options.count) {
		begin(r, bench_now_us());
		return;
	}
	free(r);
	if (b->options.rate) {
		pace.running--;
		begin_due();
	}
	bench_left(b);
}

static const struct client_events client_events = {.on_live = on_live, .on_closed = on_closed};

static void begin(struct runner *r, uint64_t due_us)
{
	struct bench *b = r->bench;

	if (!r->is_exec)
		b->begun++;
	r->is_chan_done = false;
	r->began_us = due_us;
	r->client = bench_connect(b, &client_events, r);
}

static int add_runner(struct bench *b, uint64_t due_us)
{
	struct runner *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->bench = b;
	r->is_exec = b->scenario == &scenario_exec;
	b->live_count++;
	begin(r, due_us);
	return 0;
}

/* Begins what is due, as far as --parallel goes: what is late then is counted from when it was due. */
static void begin_due(void)
{
	struct bench *b = pace.bench;

	if (!b)
		return; /* the last one has begun */
	while (b->begun < b->options.count && pace.running < b->options.parallel) {
		uint64_t now_us = bench_now_us();
		uint64_t due_us = b->started_us + (uint64_t)b->begun * 1000000 / b->options.rate;

		if (due_us > now_us) {
			timer_start(b->ring, &pace.timer, (due_us - now_us + 999) / 1000);
			return;
		}
		pace.running++;
		if (add_runner(b, due_us) < 0) {
			pace.running--;
			bench_give_up(b, "a connection", "out of memory");
			return;
		}
	}
	timer_stop(b->ring, &pace.timer);
	if (b->begun == b->options.count) {
		pace.bench = NULL;
		bench_left(b); /* the pace's own */
	}
}

static void on_due(struct timer *t)
{
	(void)t;
	begin_due();
}

static int start(struct bench *b)
{
	uint32_t n = b->options.parallel < b->options.count ? b->options.parallel : b->options.count;

	if (b->options.rate) {
		pace = (struct pace){.bench = b};
		timer_init(&pace.timer, on_due);
		b->live_count++;
		begin_due();
		return 0;
	}
	for (uint32_t i = 0; i < n; i++)
		if (add_runner(b, bench_now_us()) < 0)
			return -ENOMEM;
	return 0;
}

const struct scenario scenario_connect = {
	.name = "connect",
	.help = "a connection, a login and one command, --count times, --parallel at once or --rate in a second",
	.takes = "count parallel rate command",
	.count = 1000,
	.parallel = 16,
	.start = start,
};

const struct scenario scenario_exec = {
	.name = "exec",
	.help = "--count commands over --parallel connections, one after the other on each",
	.takes = "count parallel command",
	.count = 2000,
	.parallel = 1,
	.start = start,
};
