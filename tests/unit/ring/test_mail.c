/*
 * tests/unit/ring/test_mail.c - mail between threads: all of it, in each poster's order.
 */
#include "fixture.h"

#include <pthread.h>

#define POSTERS 4
#define MAILS 100000

struct letter {
	struct mail mail;
	int poster;
	int number;
};

struct poster {
	pthread_t thread;
	int index;
	struct ring *to, *ring;
	struct timer tick;
	struct letter *letters;
	int posted;
};

static struct loop loop;
static int seen[POSTERS], all;

static void on_letter(struct ring *r, struct mail *m)
{
	struct letter *l = CONTAINER_OF(m, struct letter, mail);

	assert_ptr_equal(r, loop.ring);
	assert_int_equal(l->number, seen[l->poster]);
	seen[l->poster]++;
	if (++all == POSTERS * MAILS)
		ring_stop(r);
}

static void poster_init(struct poster *p, int index)
{
	memset(p, 0, sizeof(*p));
	p->index = index;
	p->to = loop.ring;
	p->letters = calloc(MAILS, sizeof(*p->letters));
	assert_non_null(p->letters);
}

static void post_one(struct poster *p, struct ring *from)
{
	struct letter *l = &p->letters[p->posted];

	l->mail.on_mail = on_letter;
	l->poster = p->index;
	l->number = p->posted++;
	ring_post(p->to, from, &l->mail);
}

static void *plain_main(void *arg)
{
	struct poster *p = arg;

	while (p->posted < MAILS)
		post_one(p, NULL);
	return NULL;
}

static void run_posters(struct poster *posters, void *(*thread_main)(void *))
{
	memset(seen, 0, sizeof(seen));
	all = 0;
	for (int i = 0; i < POSTERS; i++)
		assert_int_equal(pthread_create(&posters[i].thread, NULL, thread_main, &posters[i]), 0);
	loop_run(&loop);
	for (int i = 0; i < POSTERS; i++) {
		assert_int_equal(pthread_join(posters[i].thread, NULL), 0);
		assert_int_equal(seen[i], MAILS);
		free(posters[i].letters);
	}
	assert_int_equal(ring_stats(loop.ring)->mails, POSTERS * MAILS);
}

static void test_from_plain_threads(void **state)
{
	struct poster posters[POSTERS];

	loop_init(&loop, NULL);
	for (int i = 0; i < POSTERS; i++)
		poster_init(&posters[i], i);
	run_posters(posters, plain_main);
	loop_deinit(&loop);
}

/* Some in each batch of the poster's own ring, by MSG_RING; the ring ends with the last. */
static void on_tick(struct timer *t)
{
	struct poster *p = CONTAINER_OF(t, struct poster, tick);

	for (int i = 0; i < 1000 && p->posted < MAILS; i++)
		post_one(p, p->ring);
	if (p->posted < MAILS)
		timer_start(p->ring, t, 0);
	else
		ring_stop(p->ring);
}

static void *ring_main(void *arg)
{
	struct poster *p = arg;

	timer_init(&p->tick, on_tick);
	timer_start(p->ring, &p->tick, 0);
	assert_int_equal(ring_run(p->ring), 0);
	return NULL;
}

static void test_from_rings(void **state)
{
	struct poster posters[POSTERS];

	loop_init(&loop, NULL);
	for (int i = 0; i < POSTERS; i++) {
		poster_init(&posters[i], i);
		assert_int_equal(ring_new(NULL, &posters[i].ring), 0);
	}
	run_posters(posters, ring_main);
	for (int i = 0; i < POSTERS; i++)
		ring_free(posters[i].ring);
	loop_deinit(&loop);
}

static void on_last(struct ring *r, struct mail *m)
{
	all++;
	ring_stop(r);
}

/* The receiver does not run yet: MSG_RING would be refused. */
static void test_before_the_receiver_runs(void **state)
{
	struct poster p;

	loop_init(&loop, NULL);
	all = seen[0] = 0;
	poster_init(&p, 0);
	assert_int_equal(ring_new(NULL, &p.ring), 0);
	(void)ring_main(&p);
	assert_int_equal(all, 0);
	assert_int_equal(p.posted, MAILS);
	{
		struct mail last = {.on_mail = on_last};

		ring_post(loop.ring, NULL, &last);
		loop_run(&loop);
	}
	assert_int_equal(seen[0], MAILS);
	assert_int_equal(all, MAILS + 1);
	free(p.letters);
	ring_free(p.ring);
	loop_deinit(&loop);
}

static int chain_left;
static struct mail self;

static void on_self(struct ring *r, struct mail *m)
{
	if (--chain_left > 0)
		ring_post(r, r, m);
	else
		ring_stop(r);
}

static void test_to_itself(void **state)
{
	loop_init(&loop, NULL);
	chain_left = 1000;
	self.on_mail = on_self;
	ring_post(loop.ring, loop.ring, &self);
	loop_run(&loop);
	assert_int_equal(chain_left, 0);
	loop_deinit(&loop);
}

/* ---- A single mail wakes a sleeper, each way; and back ---- */

struct pong {
	struct mail mail;
	struct ring *rings[2];
	int side, left;
};

static void on_pong(struct ring *r, struct mail *m)
{
	struct pong *p = CONTAINER_OF(m, struct pong, mail);
	int to = !p->side;

	assert_ptr_equal(r, p->rings[p->side]);
	if (p->left-- == 0) {
		ring_stop(p->rings[0]);
		ring_stop(p->rings[1]);
		return;
	}
	p->side = to;
	ring_post(p->rings[to], r, m);
}

static void *pong_main(void *arg)
{
	assert_int_equal(ring_run(arg), 0);
	return NULL;
}

static void test_ping_pong(void **state)
{
	struct pong p = {.left = 20000};
	pthread_t thread;

	loop_init(&loop, NULL);
	p.rings[0] = loop.ring;
	assert_int_equal(ring_new(NULL, &p.rings[1]), 0);
	p.mail.on_mail = on_pong;
	assert_int_equal(pthread_create(&thread, NULL, pong_main, p.rings[1]), 0);
	ring_post(p.rings[0], NULL, &p.mail);
	loop_run(&loop);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(p.left, -1);
	ring_free(p.rings[1]);
	loop_deinit(&loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_from_plain_threads),
		cmocka_unit_test(test_from_rings),
		cmocka_unit_test(test_before_the_receiver_runs),
		cmocka_unit_test(test_to_itself),
		cmocka_unit_test(test_ping_pong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
