/*
 * tests/unit/ring/test_timer.c - timers and deferred work on a running ring.
 */
#include "fixture.h"

#include "ring/limits.h"

#include <time.h>

static struct loop loop;
static struct timer timers[5];
static int order[16], order_count;
static uint64_t fired_us[5];

static uint64_t clock_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void note(struct timer *t)
{
	int i = (int)(t - timers);

	assert_false(timer_is_started(t));
	assert_true(order_count < 16);
	order[order_count++] = i;
	fired_us[i] = clock_us();
}

static int setup(void **state)
{
	loop_init(&loop, NULL);
	order_count = 0;
	for (int i = 0; i < 5; i++)
		timer_init(&timers[i], note);
	return 0;
}

static int teardown(void **state)
{
	loop_deinit(&loop);
	return 0;
}

static void note_and_stop_ring(struct timer *t)
{
	note(t);
	ring_stop(loop.ring);
}

static void test_order_and_time(void **state)
{
	static const uint64_t delays[] = {70, 1, 30, 3, 150};
	uint64_t begin_us = clock_us(), enters;

	timers[4].on_fire = note_and_stop_ring;
	for (int i = 0; i < 5; i++)
		timer_start(loop.ring, &timers[i], delays[i]);
	loop_run(&loop);
	assert_int_equal(order_count, 5);
	assert_int_equal(order[0], 1);
	assert_int_equal(order[1], 3);
	assert_int_equal(order[2], 2);
	assert_int_equal(order[3], 0);
	assert_int_equal(order[4], 4);
	for (int i = 0; i < 5; i++) {
		assert_true(fired_us[i] - begin_us >= delays[i] * 1000);
		assert_true(fired_us[i] - begin_us < delays[i] * 1000 + 2000 * 1000);
	}
	/* It slept in between: one enter for each timer, a few for sorting and for the test's deadline. */
	enters = ring_stats(loop.ring)->enters;
	assert_true(enters <= 5 + 10);
}

static void move_others(struct timer *t)
{
	note(t);
	/* Those of the same millisecond, which may be next in line. */
	timer_stop(loop.ring, &timers[1]);
	timer_stop(loop.ring, &timers[2]);
	timer_stop(loop.ring, &timers[2]);
	timer_start(loop.ring, &timers[2], 20);
	/* Moved forward. */
	timer_start(loop.ring, &timers[3], 5);
}

static void test_stop_and_move_in_callback(void **state)
{
	timers[0].on_fire = move_others;
	timers[4].on_fire = note_and_stop_ring;
	timer_start(loop.ring, &timers[0], 5);
	timer_start(loop.ring, &timers[1], 5);
	timer_start(loop.ring, &timers[2], 5);
	timer_start(loop.ring, &timers[3], 10000);
	timer_start(loop.ring, &timers[4], 60);
	loop_run(&loop);
	assert_int_equal(order_count, 4);
	assert_int_equal(order[0], 0);
	assert_int_equal(order[1], 3);
	assert_int_equal(order[2], 2);
	assert_int_equal(order[3], 4);
	assert_false(timer_is_started(&timers[1]));
}

static int again_left;

static void again(struct timer *t)
{
	if (--again_left > 0)
		timer_start(loop.ring, t, 0);
	else
		ring_stop(loop.ring);
}

/* Zero is the next millisecond, never the same batch for ever. */
static void test_zero_delay_yields(void **state)
{
	uint64_t begin_us = clock_us();

	again_left = 20;
	timers[0].on_fire = again;
	timer_start(loop.ring, &timers[0], 0);
	loop_run(&loop);
	assert_true(clock_us() - begin_us >= 18 * 1000);
	assert_int_equal(again_left, 0);
}

static void test_far_delays_do_not_fire(void **state)
{
	timers[4].on_fire = note_and_stop_ring;
	timer_start(loop.ring, &timers[0], 1000ULL * 86400 * 365 * 100);
	timer_start(loop.ring, &timers[1], UINT64_MAX);
	timer_start(loop.ring, &timers[4], 10);
	loop_run(&loop);
	assert_int_equal(order_count, 1);
	assert_true(timer_is_started(&timers[0]));
	assert_true(timer_is_started(&timers[1]));
	timer_stop(loop.ring, &timers[0]);
	timer_stop(loop.ring, &timers[1]);
}

/* Those due within the same tick, an eighth of a second here, are one batch; none is early, or late by more than it. */
static void test_lazy_ones_fire_together(void **state)
{
	static const uint64_t delays[] = {130, 140, 170, 200, 240};
	uint64_t begin_us = clock_us(), apart_us, enters;
	int batches = 1;

	timers[4].on_fire = note_and_stop_ring;
	for (int i = 0; i < 5; i++)
		timer_start_lazily(loop.ring, &timers[i], delays[i], 125 * RING_TICKS_A_WAIT);
	loop_run(&loop);
	assert_int_equal(order_count, 5);
	for (int i = 0; i < 5; i++) {
		assert_true(fired_us[i] - begin_us >= delays[i] * 1000);
		assert_true(timers[i].at_ms % 125 == 0);
		assert_true(timers[i].at_ms <= (begin_us + 5000) / 1000 + delays[i] + 125);
		apart_us = i > 0 ? (timers[i].at_ms - timers[i - 1].at_ms) * 1000 : 0;
		batches += apart_us > 0;
	}
	assert_true(batches <= 2);
	enters = ring_stats(loop.ring)->enters;
	assert_true(enters <= 2 + 8);
	/* Short waits are not rounded to more than a part of them. */
	timer_start_lazily(loop.ring, &timers[0], 5, 10);
	timer_start(loop.ring, &timers[1], 5);
	assert_int_equal(timers[0].at_ms, timers[1].at_ms);
	timer_start_lazily(loop.ring, &timers[0], 5, 1000ULL * 3600);
	assert_true(timers[0].at_ms % RING_TICK_MS == 0 && timers[0].at_ms < timers[1].at_ms + RING_TICK_MS);
	timer_stop(loop.ring, &timers[0]);
	timer_stop(loop.ring, &timers[1]);
}

static void test_zeroed_timer_is_stopped(void **state)
{
	struct timer t = {0};

	assert_false(timer_is_started(&t));
	timer_stop(loop.ring, &t);
}

/* ---- Deferred work ---- */

static struct deferred jobs[3];
static int job_runs[3];

static void on_job(struct deferred *d)
{
	int i = (int)(d - jobs);

	job_runs[i]++;
	if (i == 0) {
		/* Asked for from deferred work: still in this batch. */
		deferred_ask(loop.ring, &jobs[1]);
		deferred_ask(loop.ring, &jobs[1]);
		deferred_ask(loop.ring, &jobs[2]);
		deferred_cancel(&jobs[2]);
		deferred_cancel(&jobs[2]);
	}
}

static void ask_jobs(struct timer *t)
{
	for (int i = 0; i < 3; i++)
		deferred_ask(loop.ring, &jobs[0]);
	assert_int_equal(job_runs[0], 0);
	ring_stop(loop.ring);
}

static void test_deferred_runs_once_in_the_batch(void **state)
{
	for (int i = 0; i < 3; i++) {
		deferred_init(&jobs[i], on_job);
		job_runs[i] = 0;
	}
	timers[0].on_fire = ask_jobs;
	timer_start(loop.ring, &timers[0], 1);
	loop_run(&loop);
	/* The stop was asked for in the same batch, so all this ran in it. */
	assert_int_equal(job_runs[0], 1);
	assert_int_equal(job_runs[1], 1);
	assert_int_equal(job_runs[2], 0);
}

static void on_endless(struct deferred *d)
{
	deferred_ask(loop.ring, d);
}

/* One that asks for itself for ever does not keep timers from firing. */
static void test_endless_deferred_lets_the_loop_go_on(void **state)
{
	deferred_init(&jobs[0], on_endless);
	deferred_ask(loop.ring, &jobs[0]);
	timers[0].on_fire = note_and_stop_ring;
	timer_start(loop.ring, &timers[0], 20);
	loop_run(&loop);
	assert_int_equal(order_count, 1);
	deferred_cancel(&jobs[0]);
}

static void test_stop_before_run(void **state)
{
	ring_stop(loop.ring);
	loop_run(&loop);
	/* And that was used up: the next run lasts. */
	timers[0].on_fire = note_and_stop_ring;
	timer_start(loop.ring, &timers[0], 5);
	loop_run(&loop);
	assert_int_equal(order_count, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_order_and_time),
		T(test_stop_and_move_in_callback),
		T(test_zero_delay_yields),
		T(test_far_delays_do_not_fire),
		T(test_lazy_ones_fire_together),
		T(test_zeroed_timer_is_stopped),
		T(test_deferred_runs_once_in_the_batch),
		T(test_endless_deferred_lets_the_loop_go_on),
		T(test_stop_before_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
