#include "bench/bench.h"
#include "bench/pattern.h"

#include <time.h>

uint64_t bench_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void bench_fail(struct bench *b, const char *what, const char *reason)
{
	if (b->failure[0])
		return;
	snprintf(b->failure, sizeof(b->failure), "%s: %s", what, reason);
	/* At once: who loads a server beside a measurement is ended before it could say that it was no load. */
	fprintf(stderr, "%sringbench: %s: %s\n", b->options.is_quiet ? "" : "\r\033[K", b->scenario->name, b->failure);
}

void bench_result(struct bench *b, const char *name, double value)
{
	ASSERT(b->result_count < BENCH_RESULTS_MAX);
	b->results[b->result_count].name = name;
	b->results[b->result_count++].value = value;
}

void bench_end(struct bench *b)
{
	if (!b->ended_us)
		b->ended_us = bench_now_us();
	timer_stop(b->ring, &b->limit);
	timer_stop(b->ring, &b->progress);
	ring_stop(b->ring);
}

void bench_give_up(struct bench *b, const char *what, const char *reason)
{
	b->failed++;
	bench_fail(b, what, reason);
	bench_end(b);
}

const char *bench_status_words(int status)
{
	return status < 0 ? "ended without a status" : "ended with another status than 0";
}

static const struct client_options *next_login(struct bench *b)
{
	return &b->logins[b->next_login++ % b->login_count];
}

struct client *bench_connect(struct bench *b, const struct client_events *events, void *owner)
{
	struct client *c = client_new(b->ring, next_login(b), events, owner);

	if (!c)
		bench_give_up(b, "a connection", "out of memory, or an algorithm that libssh does not know");
	return c;
}

void bench_left(struct bench *b)
{
	if (--b->live_count == 0)
		bench_end(b);
}

uint64_t bench_send_pattern(struct client_chan *ch, uint64_t *at, uint64_t size)
{
	uint64_t first = *at;
	uint32_t n;

	while (*at < size && (n = client_chan_room(ch)) > 0) {
		if (n > size - *at)
			n = (uint32_t)(size - *at);
		client_chan_write(ch, pattern_at(*at), n);
		*at += n;
	}
	return *at - first;
}
