/*
 * tests/unit/ring/test_watch.c - descriptors that somebody else reads and writes.
 */
#include "fixture.h"

#include <fcntl.h>
#include <poll.h>

#define CHURN 40
#define CHURN_TURNS 3000

static struct loop loop;
static struct watch watch, other;
static struct timer timer;
static int fds[2], ready_count, stopped_count;
static uint32_t seen;

static void on_stopped(struct watch *w)
{
	stopped_count++;
	ring_stop(w->ring);
}

static void on_timer(struct timer *t)
{
	ring_stop(loop.ring);
}

static int setup(void **state)
{
	loop_init(&loop, &(struct ring_options){.sq_entries = 8});
	make_pair(fds);
	watch = (struct watch){.owner = &loop, .on_stopped = on_stopped};
	other = (struct watch){.owner = &loop, .on_stopped = on_stopped};
	timer_init(&timer, on_timer);
	ready_count = stopped_count = 0;
	seen = 0;
	return 0;
}

static int teardown(void **state)
{
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	loop_deinit(&loop);
	return 0;
}

/* Runs for a while in which nothing more should come. */
static void run_for(uint64_t ms)
{
	timer_start(loop.ring, &timer, ms);
	loop_run(&loop);
}

static void stop_and_run(struct watch *w)
{
	int before = stopped_count;

	watch_stop(w);
	watch_stop(w);
	loop_run(&loop);
	assert_int_equal(stopped_count, before + 1);
}

static void note(struct watch *w, uint32_t events)
{
	assert_ptr_equal(w->owner, &loop);
	assert_int_equal(stopped_count, 0);
	ready_count++;
	seen |= events;
}

static void take_one(struct watch *w, uint32_t events)
{
	char c;

	note(w, events);
	assert_int_equal(events, POLLIN);
	assert_int_equal(read(w->fd, &c, 1), 1);
	assert_int_equal(c, 'a' + ready_count - 1);
	if (ready_count == 3)
		watch_stop(w);
}

/* What is left in the descriptor is told again, though nothing new has come. */
static void test_bytes_left_are_told_again(void **state)
{
	watch.on_ready = take_one;
	assert_int_equal(write(fds[1], "abc", 3), 3);
	watch_start(&watch, loop.ring, fds[0], POLLIN);
	loop_run(&loop);
	assert_int_equal(ready_count, 3);
	assert_int_equal(stopped_count, 1);
}

static void note_and_leave(struct watch *w, uint32_t events)
{
	note(w, events);
	ring_stop(w->ring);
}

static void note_and_want_nothing(struct watch *w, uint32_t events)
{
	note(w, events);
	watch_change(w, 0);
	ring_stop(w->ring);
}

static void test_change_of_what_is_wanted(void **state)
{
	watch.on_ready = note_and_want_nothing;
	watch_start(&watch, loop.ring, fds[0], POLLIN);
	run_for(20);
	assert_int_equal(ready_count, 0);
	/* While it is armed for something else. */
	watch_change(&watch, POLLOUT);
	loop_run(&loop);
	assert_int_equal(ready_count, 1);
	assert_int_equal(seen, POLLOUT);
	/* Nothing wanted, nothing told. */
	assert_int_equal(write(fds[1], "x", 1), 1);
	run_for(20);
	assert_int_equal(ready_count, 1);
	watch_change(&watch, POLLIN);
	loop_run(&loop);
	assert_int_equal(ready_count, 2);
	assert_int_equal(seen, POLLIN | POLLOUT);
	stop_and_run(&watch);
}

static void want_less(struct timer *t)
{
	watch_change(&watch, POLLOUT);
	ring_stop(loop.ring);
}

static void fill(int fd)
{
	static const char zeros[4096];

	while (send(fd, zeros, sizeof(zeros), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(errno, EAGAIN);
}

/* An event of what is no longer wanted is dropped, and the watch is not lost by it. */
static void test_less_wanted_while_armed(void **state)
{
	uint64_t completions;

	watch.on_ready = note_and_leave;
	fill(fds[0]);
	watch_start(&watch, loop.ring, fds[0], POLLIN | POLLOUT);
	timer.on_fire = want_less;
	run_for(10);
	timer.on_fire = on_timer;
	assert_int_equal(write(fds[1], "x", 1), 1);
	completions = ring_stats(loop.ring)->completions;
	run_for(30);
	assert_int_equal(ready_count, 0);
	/* No busy loop over the byte that nobody wants. */
	assert_true(ring_stats(loop.ring)->completions - completions < 10);
	watch_change(&watch, POLLIN);
	loop_run(&loop);
	assert_int_equal(ready_count, 1);
	stop_and_run(&watch);
}

static void test_hang_up_comes_unasked(void **state)
{
	watch.on_ready = note_and_want_nothing;
	watch_start(&watch, loop.ring, fds[0], POLLPRI);
	close(fds[1]);
	fds[1] = -1;
	loop_run(&loop);
	assert_int_equal(ready_count, 1);
	assert_true(seen & POLLHUP);
	stop_and_run(&watch);
}

static void test_stop_in_flight_and_before(void **state)
{
	watch.on_ready = note;
	watch_start(&watch, loop.ring, fds[0], POLLIN);
	run_for(5);
	stop_and_run(&watch);
	/* Ready, but stopped before the ring ran. */
	assert_int_equal(write(fds[1], "x", 1), 1);
	stopped_count = 0;
	watch_start(&watch, loop.ring, fds[0], POLLIN);
	stop_and_run(&watch);
	assert_int_equal(ready_count, 0);
	/* Of one that never started. */
	watch_stop(&other);
	run_for(5);
	assert_int_equal(stopped_count, 1);
}

static void stop_other(struct watch *w, uint32_t events)
{
	note(w, events);
	watch_stop(w == &watch ? &other : &watch);
	watch_stop(w);
}

/* Both are ready in one batch; the first one told stops both. */
static void test_stop_of_one_that_is_about_to_be_told(void **state)
{
	watch.on_ready = other.on_ready = stop_other;
	assert_int_equal(write(fds[1], "x", 1), 1);
	watch_start(&watch, loop.ring, fds[0], POLLIN);
	watch_start(&other, loop.ring, fds[1], POLLOUT);
	while (stopped_count < 2)
		loop_run(&loop);
	assert_int_equal(ready_count, 1);
}

/* A library may close its descriptor before the watch has ended, and the next one gets the same number. */
static void test_descriptor_is_reused(void **state)
{
	int again[2], old = fds[0];

	watch.on_ready = note;
	other.on_ready = note_and_want_nothing;
	watch_start(&watch, loop.ring, fds[0], POLLIN);
	run_for(5);
	watch_stop(&watch);
	close(fds[0]);
	make_pair(again);
	fds[0] = again[0];
	assert_int_equal(again[0], old);
	watch_start(&other, loop.ring, again[0], POLLIN);
	/* The old one's peer writes: this is nobody's. */
	(void)!send(fds[1], "x", 1, MSG_NOSIGNAL);
	loop_run(&loop);
	assert_int_equal(stopped_count, 1);
	stopped_count = 0;
	run_for(10);
	assert_int_equal(ready_count, 0);
	assert_int_equal(write(again[1], "y", 1), 1);
	loop_run(&loop);
	assert_int_equal(ready_count, 1);
	stop_and_run(&other);
	close(again[1]);
}

static void close_it(struct watch *w)
{
	close(w->fd);
	fds[0] = -1;
	on_stopped(w);
}

/* Closed in on_stopped, the peer sees its end at once. */
static void test_close_after_stop_is_seen(void **state)
{
	struct pollfd p = {.events = POLLIN};
	char c;

	watch.on_ready = note;
	watch.on_stopped = close_it;
	watch_start(&watch, loop.ring, fds[0], POLLIN);
	run_for(5);
	stop_and_run(&watch);
	p.fd = fds[1];
	assert_int_equal(poll(&p, 1, TEST_DEADLINE_MS), 1);
	assert_int_equal(read(fds[1], &c, 1), 0);
}

/* No descriptor at all: told once, and no busy loop. */
static void test_bad_descriptor(void **state)
{
	uint64_t completions;

	watch.on_ready = note_and_leave;
	watch_start(&watch, loop.ring, 1000000, POLLIN);
	loop_run(&loop);
	assert_int_equal(ready_count, 1);
	assert_int_equal(seen, POLLNVAL);
	completions = ring_stats(loop.ring)->completions;
	run_for(20);
	assert_int_equal(ready_count, 1);
	assert_true(ring_stats(loop.ring)->completions - completions < 10);
	stop_and_run(&watch);
}

/* ---- Many at once, at random ---- */

static struct {
	struct watch watch;
	int fds[2];
	bool is_on, is_stopping;
	uint32_t events;
} many[CHURN];
static uint32_t seed;
static int turn_count, many_ready, many_left;

static void many_on_ready(struct watch *w, uint32_t events)
{
	size_t i = (size_t)(w - &many[0].watch) * sizeof(struct watch) / sizeof(many[0]);
	char c;

	assert_true(many[i].is_on && !many[i].is_stopping);
	assert_int_equal(w->fd, many[i].fds[0]);
	assert_int_equal(events & ~(many[i].events | POLLERR | POLLHUP), 0);
	many_ready++;
	if (events & POLLIN)
		assert_int_equal(read(w->fd, &c, 1), 1);
}

static void many_on_stopped(struct watch *w)
{
	size_t i = (size_t)(w - &many[0].watch) * sizeof(struct watch) / sizeof(many[0]);

	assert_true(many[i].is_on && many[i].is_stopping);
	many[i].is_on = many[i].is_stopping = false;
	close(many[i].fds[0]);
	close(many[i].fds[1]);
	many_left--;
	if (many_left == 0 && turn_count >= CHURN_TURNS)
		ring_stop(loop.ring);
}

static void many_step(size_t i)
{
	static const uint32_t events[] = {0, POLLIN, POLLOUT, POLLIN | POLLOUT};

	if (!many[i].is_on) {
		make_pair(many[i].fds);
		many[i].is_on = true;
		many[i].events = events[test_random(&seed) % 4];
		many[i].watch = (struct watch){.on_ready = many_on_ready, .on_stopped = many_on_stopped};
		watch_start(&many[i].watch, loop.ring, many[i].fds[0], many[i].events);
		many_left++;
		return;
	}
	switch (test_random(&seed) % 4) {
	case 0:
		watch_stop(&many[i].watch);
		many[i].is_stopping = true;
		break;
	case 1:
		(void)!send(many[i].fds[1], "z", 1, MSG_DONTWAIT);
		break;
	default:
		many[i].events = events[test_random(&seed) % 4];
		watch_change(&many[i].watch, many[i].events);
	}
}

static void many_turn(struct deferred *d)
{
	if (turn_count++ < CHURN_TURNS) {
		for (int i = 0; i < 5; i++)
			many_step(test_random(&seed) % CHURN);
		deferred_ask(loop.ring, d);
		return;
	}
	for (size_t i = 0; i < CHURN; i++) {
		watch_stop(&many[i].watch);
		many[i].is_stopping = true;
	}
}

static void test_churn(void **state)
{
	struct deferred turn;

	seed = 4711;
	turn_count = many_ready = many_left = 0;
	deferred_init(&turn, many_turn);
	deferred_ask(loop.ring, &turn);
	loop_run(&loop);
	assert_int_equal(many_left, 0);
	assert_true(many_ready > CHURN_TURNS / 10);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_bytes_left_are_told_again),
		T(test_change_of_what_is_wanted),
		T(test_less_wanted_while_armed),
		T(test_hang_up_comes_unasked),
		T(test_stop_in_flight_and_before),
		T(test_stop_of_one_that_is_about_to_be_told),
		T(test_descriptor_is_reused),
		T(test_close_after_stop_is_seen),
		T(test_bad_descriptor),
		T(test_churn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
