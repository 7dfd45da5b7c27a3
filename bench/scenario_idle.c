/*
 * idle: --count connections, each with a running `cat` that has echoed --size bytes; then they rest.
 *
 * When all rest, "resting" and their count go to standard output: whoever measures memory waits for that line. They end after
 * --hold seconds, or when standard input ends. --parallel log in and move bytes at a time.
 */
#include "bench/bench.h"
#include "bench/pattern.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sleeper {
	struct bench *bench;
	struct client *client;
	struct client_chan chan;
	uint64_t sent, got, began_us;
};

static struct {
	struct sleeper *sleepers;
	uint32_t resting;
	bool is_waking;
	struct timer hold;
	struct mail input_ended;
} idle;

static void begin(struct bench *b);

static void wake_all(struct bench *b)
{
	idle.is_waking = true;
	for (uint32_t i = 0; i < b->options.count; i++)
		if (idle.sleepers[i].client)
			client_close(idle.sleepers[i].client);
}

static void on_hold_over(struct timer *t)
{
	(void)t;
	wake_all(idle.sleepers[0].bench);
}

static void on_input_ended(struct ring *r, struct mail *m)
{
	(void)r;
	(void)m;
	wake_all(idle.sleepers[0].bench);
}

static void *watch_input(void *arg)
{
	struct bench *b = arg;
	char buf[256];

	while (read(STDIN_FILENO, buf, sizeof(buf)) > 0)
		;
	idle.input_ended.on_mail = on_input_ended;
	ring_post(b->ring, NULL, &idle.input_ended);
	return NULL;
}

static void all_rest(struct bench *b)
{
	pthread_t thread;

	bench_result(b, "seconds_to_rest", (double)(bench_now_us() - b->started_us) / 1e6);
	printf("resting %u\n", b->options.count);
	fflush(stdout);
	if (b->options.hold_s > 0) {
		timer_init(&idle.hold, on_hold_over);
		timer_start(b->ring, &idle.hold, b->options.hold_s * 1000ull);
	} else if (pthread_create(&thread, NULL, watch_input, b) == 0) {
		pthread_detach(thread);
	} else {
		wake_all(b);
	}
}

static void rest(struct sleeper *s)
{
	struct bench *b = s->bench;

	histogram_add(&b->latency, bench_now_us() - s->began_us);
	b->done++;
	if (idle.is_waking)
		client_close(s->client);
	else if (++idle.resting == b->options.count)
		all_rest(b);
	else if (b->begun < b->options.count)
		begin(b);
}

static void on_room(struct client_chan *ch)
{
	struct sleeper *s = ch->owner;

	bench_send_pattern(ch, &s->sent, s->bench->options.size_bytes);
}

static void on_started(struct client_chan *ch, bool is_good)
{
	struct sleeper *s = ch->owner;

	if (!is_good)
		bench_fail(s->bench, "a command", "was refused");
	else if (s->bench->options.size_bytes == 0)
		rest(s);
	else
		on_room(ch);
}

static void on_data(struct client_chan *ch, bool is_error, struct bytes data)
{
	struct sleeper *s = ch->owner;
	struct bench *b = s->bench;

	if (is_error)
		return;
	if (s->got + data.n > s->sent || !pattern_is(s->got, data.p, data.n)) {
		bench_fail(b, "an echo", "BYTES DIFFER");
		return;
	}
	s->got += data.n;
	b->bytes += data.n;
	if (s->got == b->options.size_bytes)
		rest(s);
}

static void on_chan_closed(struct client_chan *ch, int status)
{
	struct sleeper *s = ch->owner;

	/* Fewer sessions than were asked for take less memory. */
	if (idle.is_waking)
		return;
	s->bench->failed++;
	bench_fail(s->bench, "a session", bench_status_words(status));
	wake_all(s->bench);
}

static const struct client_chan_events chan_events = {
	.on_started = on_started,
	.on_data = on_data,
	.on_room = on_room,
	.on_closed = on_chan_closed,
};

static void on_live(struct client *c)
{
	struct sleeper *s = c->owner;

	s->chan.events = &chan_events;
	s->chan.owner = s;
	s->chan.command = "exec cat";
	if (client_chan_open(c, &s->chan) < 0)
		bench_fail(s->bench, "a channel", "too many");
}

static void on_closed(struct client *c, bool was_asked, const char *reason)
{
	struct sleeper *s = c->owner;
	struct bench *b = s->bench;

	s->client = NULL;
	if (!was_asked) {
		b->failed++;
		bench_fail(b, "a connection", reason);
		wake_all(b);
	}
	client_free(c); /* the reason is its own */
	bench_left(b);
}

static const struct client_events client_events = {.on_live = on_live, .on_closed = on_closed};

static void begin(struct bench *b)
{
	struct sleeper *s = &idle.sleepers[b->begun++];

	s->bench = b;
	s->began_us = bench_now_us();
	s->client = bench_connect(b, &client_events, s);
	b->live_count++;
}

static int start(struct bench *b)
{
	pattern_start();
	idle.sleepers = calloc(b->options.count, sizeof(*idle.sleepers));
	if (!idle.sleepers)
		return -ENOMEM;
	for (uint32_t i = 0; i < b->options.parallel && i < b->options.count; i++)
		begin(b);
	return 0;
}

const struct scenario scenario_idle = {
	.name = "idle",
	.help = "--count sessions that rest after an echo of --size bytes each; says `resting N` when all do",
	.takes = "count parallel size hold",
	.count = 1000,
	.parallel = 16,
	.size_bytes = 10ull << 20,
	.start = start,
};
