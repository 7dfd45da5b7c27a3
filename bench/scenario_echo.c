/*
 * echo: how long a keystroke waits. Each connection has a terminal without line editing or local echo in which `cat` answers; a byte
 * is sent, and the next one --interval-ms after its echo has come.
 */
#include "bench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The first ones find caches cold and are not counted. */
#define WARM_UP 20

struct typist {
	struct bench *bench;
	struct client *client;
	struct client_chan chan;
	struct timer pause;
	uint64_t typed_us;
	uint32_t count;
	bool is_ready, is_waiting;
	uint8_t key;
};

/* Says that the terminal is set; what comes before it is a prompt or a message. */
#define COMMAND "stty raw -echo && printf '\\001' && exec cat"

static void type(struct typist *t)
{
	if (client_chan_room(&t->chan) == 0) {
		timer_start(t->bench->ring, &t->pause, 1);
		return;
	}
	t->key = (uint8_t)('a' + t->count % 26);
	t->is_waiting = true;
	t->typed_us = bench_now_us();
	client_chan_write(&t->chan, &t->key, 1);
}

static void on_pause(struct timer *timer)
{
	type(CONTAINER_OF(timer, struct typist, pause));
}

static void on_echo(struct typist *t)
{
	struct bench *b = t->bench;

	t->is_waiting = false;
	if (++t->count > WARM_UP) {
		histogram_add(&b->latency, bench_now_us() - t->typed_us);
		b->done++;
	}
	if (t->count == WARM_UP + b->options.count)
		client_close(t->client);
	else
		timer_start(b->ring, &t->pause, b->options.interval_ms);
}

static void on_data(struct client_chan *ch, bool is_error, struct bytes data)
{
	struct typist *t = ch->owner;

	(void)is_error;
	for (size_t i = 0; i < data.n; i++) {
		if (!t->is_ready && data.p[i] == 1) {
			t->is_ready = true;
			timer_start(t->bench->ring, &t->pause, t->bench->options.interval_ms);
		} else if (t->is_ready && (!t->is_waiting || data.p[i] != t->key)) {
			bench_fail(t->bench, "an echo", "is another byte than was typed");
		} else if (t->is_ready) {
			on_echo(t);
		}
	}
}

static void on_started(struct client_chan *ch, bool is_good)
{
	struct typist *t = ch->owner;

	if (!is_good)
		bench_fail(t->bench, "a terminal", "was refused");
}

static void on_room(struct client_chan *ch)
{
	(void)ch;
}

static void on_chan_closed(struct client_chan *ch, int status)
{
	struct typist *t = ch->owner;

	(void)status;
	timer_stop(t->bench->ring, &t->pause);
	client_close(ch->client);
}

static const struct client_chan_events chan_events = {
	.on_started = on_started,
	.on_data = on_data,
	.on_room = on_room,
	.on_closed = on_chan_closed,
};

static void on_live(struct client *c)
{
	struct typist *t = c->owner;

	t->chan.events = &chan_events;
	t->chan.owner = t;
	t->chan.command = COMMAND;
	t->chan.has_pty = true;
	if (client_chan_open(c, &t->chan) < 0)
		bench_fail(t->bench, "a channel", "too many");
}

static void on_closed(struct client *c, bool was_asked, const char *reason)
{
	struct typist *t = c->owner;
	struct bench *b = t->bench;

	timer_stop(b->ring, &t->pause);
	if (!was_asked || t->count < WARM_UP + b->options.count) {
		b->failed++;
		bench_fail(b, "a terminal's connection", reason);
	}
	client_free(c); /* the reason is its own */
	free(t);
	bench_left(b);
}

static const struct client_events client_events = {.on_live = on_live, .on_closed = on_closed};

static int start(struct bench *b)
{
	for (uint32_t i = 0; i < b->options.parallel; i++) {
		struct typist *t = calloc(1, sizeof(*t));

		if (!t)
			return -ENOMEM;
		t->bench = b;
		timer_init(&t->pause, on_pause);
		t->client = bench_connect(b, &client_events, t);
		if (!t->client)
			return -ENOMEM;
		b->live_count++;
	}
	return 0;
}

const struct scenario scenario_echo = {
	.name = "echo",
	.help = "--count keystrokes in each of --parallel terminals, --interval-ms after each echo",
	.takes = "count parallel interval-ms",
	.count = 1000,
	.parallel = 1,
	.start = start,
};
