/*
 * tests/unit/ring/test_wheel.c - the timing wheel on a clock of the test's own, against a plain table.
 */
#include "fixture.h"

#include "ring/wheel.h"

struct entry {
	struct timer timer;
	uint64_t fired_at_ms; /* 0: not yet */
};

static struct wheel wheel;

static void on_fire(struct timer *t)
{
	struct entry *e = CONTAINER_OF(t, struct entry, timer);

	assert_false(timer_is_started(t));
	e->fired_at_ms = wheel.now_ms;
}

static void entry_start(struct entry *e, uint64_t at_ms)
{
	e->fired_at_ms = 0;
	timer_init(&e->timer, on_fire);
	e->timer.at_ms = at_ms;
	wheel_add(&wheel, &e->timer);
}

/* From seconds to centuries, and across every boundary of the wheel's digits: each fires exactly at its time. */
static void test_each_delay_alone(void **state)
{
	static const uint64_t starts[] = {0, 1, 62, 63, 64, 4095, 123456789, (1ULL << 36) - 1, 1ULL << 60};

	for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
		for (int bit = 0; bit < 62; bit++) {
			uint64_t at = starts[i] + (1ULL << bit) + (uint64_t)bit;
			struct entry e;
			int steps = 0;

			wheel_init(&wheel, starts[i]);
			entry_start(&e, at);
			/* As a ring does: sleep until wheel_next, advance. */
			while (!e.fired_at_ms) {
				uint64_t next = wheel_next(&wheel);

				assert_true(next > wheel.now_ms || steps == 0);
				assert_true(next <= at);
				wheel_advance(&wheel, next);
				assert_true(++steps <= WHEEL_LEVELS);
			}
			assert_int_equal(e.fired_at_ms, at);
			assert_true(wheel_next(&wheel) == WHEEL_NONE);
		}
	}
}

#define MANY 500

static void test_random_against_table(void **state)
{
	static struct entry entries[MANY];
	uint32_t seed = 12345;
	uint64_t now = 1000000;

	memset(entries, 0, sizeof(entries));
	wheel_init(&wheel, now);
	for (int step = 0; step < 100000; step++) {
		struct entry *e = &entries[test_random(&seed) % MANY];
		uint32_t what = test_random(&seed) % 10;

		if (what < 5) {
			if (timer_is_started(&e->timer))
				wheel_remove(&wheel, &e->timer);
			entry_start(e, now + 1 + test_random(&seed) % (1u << test_random(&seed) % 24));
		} else if (what < 7) {
			if (timer_is_started(&e->timer)) {
				wheel_remove(&wheel, &e->timer);
				assert_false(timer_is_started(&e->timer));
				e->fired_at_ms = UINT64_MAX;
			}
		} else {
			uint64_t earliest = WHEEL_NONE, next = wheel_next(&wheel);

			for (int i = 0; i < MANY; i++)
				if (timer_is_started(&entries[i].timer) && entries[i].timer.at_ms < earliest)
					earliest = entries[i].timer.at_ms;
			assert_true(next <= earliest);
			assert_int_equal(next == WHEEL_NONE, earliest == WHEEL_NONE);
			now += test_random(&seed) % (1u << test_random(&seed) % 16);
			wheel_advance(&wheel, now);
			for (int i = 0; i < MANY; i++) {
				const struct entry *x = &entries[i];

				if (timer_is_started(&x->timer))
					assert_true(x->timer.at_ms > now);
				else if (x->fired_at_ms && x->fired_at_ms != UINT64_MAX)
					assert_int_equal(x->fired_at_ms, x->timer.at_ms);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_delay_alone),
		cmocka_unit_test(test_random_against_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
