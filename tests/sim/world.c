#include "tests/sim/fake_ring.h"
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rounds of one world before it counts as spinning. The longest honest one needs some 300,000. */
#define ROUNDS_MAX 20000000

struct sim sim;

void sim_failed(const char *what, const char *file, int line)
{
	fprintf(stderr, "sim: %s:%d: failed: %s (at %.6f s)\n", file, line, what, (double)sim.now_us / 1e6);
	abort(); /* the handler in test_sim.c names the seed */
}

/* splitmix64 */
uint64_t sim_random64(void)
{
	uint64_t z = sim.random_state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

uint32_t sim_random(uint32_t below)
{
	return below ? (uint32_t)(sim_random64() % below) : 0;
}

uint32_t sim_between(uint32_t low, uint32_t high)
{
	return low + sim_random(high - low + 1);
}

bool sim_chance(uint32_t percent)
{
	return sim_random(100) < percent;
}

bool sim_misses(void)
{
	return !sim.is_fair && sim_chance(sim.weather.skip_percent);
}

void sim_begin(const char *scenario, uint64_t seed)
{
	static const uint32_t chunks[] = {7, 100, 1500, 16 * 1024, 64 * 1024, 64 * 1024};
	static const uint32_t rooms[] = {2048, 16 * 1024, 64 * 1024, 256 * 1024, 1024 * 1024};

	sim = (struct sim){.seed = seed, .random_state = seed * 0x2545f4914f6cdd1du + 1, .scenario = scenario};
	sim.now_us = 1000000 + sim_random(1000000);
	sim.weather = (struct sim_weather){
		.chunk_max = chunks[sim_random(ARRAY_LEN(chunks))],
		.socket_bytes = rooms[sim_random(ARRAY_LEN(rooms))],
		.latency_us = sim_chance(50) ? 0 : sim_between(1, 50000),
		.skip_percent = sim_random(50),
		.recv_buffers = 1u << sim_random(5),
	};
	list_init(&sim.rings);
	list_init(&sim.actors);
	list_init(&sim.sockets);
}

void sim_end(void)
{
	CHECK(list_is_empty(&sim.actors));
	CHECK(list_is_empty(&sim.sockets));
	CHECK(list_is_empty(&sim.rings));
}

void sim_actor_start(struct sim_actor *a, bool (*step)(struct sim_actor *a))
{
	a->step = step;
	a->wake_us = SIM_NEVER;
	list_add_tail(&sim.actors, &a->node);
}

void sim_actor_stop(struct sim_actor *a)
{
	list_del(&a->node);
}

static uint64_t next_event_us(void)
{
	uint64_t next = SIM_NEVER;

	for (struct list *n = sim.rings.next; n != &sim.rings; n = n->next) {
		uint64_t at = fake_ring_next_us(CONTAINER_OF(n, struct fake_ring, node));

		next = at < next ? at : next;
	}
	for (struct list *n = sim.actors.next; n != &sim.actors; n = n->next) {
		uint64_t at = CONTAINER_OF(n, struct sim_actor, node)->wake_us;

		next = at < next ? at : next;
	}
	for (struct list *n = sim.sockets.next; n != &sim.sockets; n = n->next) {
		uint64_t at = sim_socket_next_us(CONTAINER_OF(n, struct sim_socket, node));

		if (at > sim.now_us)
			next = at < next ? at : next;
	}
	return next;
}

/* Everybody's turn once, in the order of a lottery; true when somebody did something. */
static bool everybody(void)
{
	struct list *turns[256];
	bool is_ring[256], moved = false;
	uint32_t count = 0;

	for (struct list *n = sim.rings.next; n != &sim.rings && count < ARRAY_LEN(turns); n = n->next) {
		is_ring[count] = true;
		turns[count++] = n;
	}
	for (struct list *n = sim.actors.next; n != &sim.actors && count < ARRAY_LEN(turns); n = n->next) {
		is_ring[count] = false;
		turns[count++] = n;
	}
	for (uint32_t i = count; i > 1; i--) {
		uint32_t k = sim_random(i);
		struct list *t = turns[k];
		bool was_ring = is_ring[k];

		turns[k] = turns[i - 1];
		turns[i - 1] = t;
		is_ring[k] = is_ring[i - 1];
		is_ring[i - 1] = was_ring;
	}
	for (uint32_t i = 0; i < count; i++) {
		if (sim_misses())
			continue;
		if (is_ring[i]) {
			moved |= fake_ring_batch(CONTAINER_OF(turns[i], struct fake_ring, node));
		} else {
			struct sim_actor *a = CONTAINER_OF(turns[i], struct sim_actor, node);

			if (a->wake_us <= sim.now_us)
				a->wake_us = SIM_NEVER;
			moved |= a->step(a);
		}
	}
	return moved;
}

bool sim_run(bool (*is_done)(void *ctx), void *ctx, uint64_t until_us)
{
	while (sim.now_us < until_us) {
		uint64_t next;

		if (is_done && is_done(ctx))
			return true;
		CHECK(++sim.round_count < ROUNDS_MAX);
		/* Time jumps only when nobody can do anything, those who missed their turn included. */
		sim.is_fair = !sim.is_fair && sim.is_still;
		sim.is_still = !everybody();
		if (!sim.is_still) {
			sim.now_us += sim_random(50);
			continue;
		}
		if (!sim.is_fair)
			continue;
		next = next_event_us();
		if (next == SIM_NEVER)
			return is_done ? is_done(ctx) : true;
		if (next > sim.now_us)
			sim.now_us = next < until_us ? next : until_us;
		else
			sim.now_us++;
	}
	return is_done ? is_done(ctx) : false;
}
