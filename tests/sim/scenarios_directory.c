/*
 * tests/sim/scenarios_directory.c - scenarios in which the directory changes its mind, or its answers take their time.
 */
#include "tests/sim/scenario.h"

#include <stdio.h>
#include <string.h>

/* --- access is withdrawn --- */

#define CROWD_MAX 6

static struct {
	struct sim_client *clients[CROWD_MAX];
	struct client_chan *chans[CROWD_MAX]; /* NULL: it has none */
	int sandbox[CROWD_MAX];
	uint32_t count;
} crowd;

static bool round_reached(void *ctx)
{
	gateway_watch();
	return sim.round_count >= *(uint64_t *)ctx;
}

static void crowd_enters(void)
{
	static const char *const users[] = {"sb-1", "sb-2", "sb-3"};
	struct client_chan_plan plan = {.window_bytes = 64 * 1024, .keeps_input_open = true};

	memset(&crowd, 0, sizeof(crowd));
	crowd.count = sim_between(1, CROWD_MAX);
	for (uint32_t i = 0; i < crowd.count; i++) {
		struct client_options o = gateway_client_options();
		int number = (int)sim_between(1, 3);

		o.user = users[number - 1];
		crowd.sandbox[i] = number;
		crowd.clients[i] = gateway_client(&o);
		strcpy(plan.command, sim_chance(50) ? "hold" : "echo");
		if (sim_chance(70))
			crowd.chans[i] = client_open(crowd.clients[i], &plan);
	}
}

static void crowd_leaves(void)
{
	for (uint32_t i = 0; i < crowd.count; i++) {
		client_disconnect(crowd.clients[i]);
		client_free(crowd.clients[i]);
	}
}

static bool is_out(const struct sim_client *c)
{
	return c->state == CLIENT_ENDED || (c->was_denied && !c->is_authenticated);
}

/* Whoever is in that sandbox, or in any (0), is out or was never let in; the others are in. */
static bool is_settled(void *ctx)
{
	int number = *(int *)ctx;

	gateway_watch();
	for (uint32_t i = 0; i < crowd.count; i++) {
		const struct sim_client *c = crowd.clients[i];
		bool is_meant = number == 0 || crowd.sandbox[i] == number;

		if (is_meant ? !is_out(c) : c->state != CLIENT_LIVE)
			return false;
	}
	return true;
}

static void check_farewells(int number)
{
	for (uint32_t i = 0; i < crowd.count; i++) {
		const struct sim_client *c = crowd.clients[i];
		const struct client_chan *ch = crowd.chans[i];

		if ((number != 0 && crowd.sandbox[i] != number) || !c->is_authenticated)
			continue;
		CHECK(c->was_disconnected && strcmp(c->farewell, "access to this sandbox has been withdrawn") == 0);
		CHECK(!ch || ch->end == CHAN_END_NONE); /* nothing that looks like success */
		CHECK(!ch || !ch->is_started || ch->got_error > 0);
	}
}

static void tell_unrelated(void)
{
	static const char *const names[] = {"SHA256:somebody-else's", "team9", "sb-9"};
	enum subject_kind kind = sim_random(3);

	gateway_changed(kind, names[kind]);
}

/* The directory says no from now on: to sandbox `number`, or to all (0); and tells of it. */
static void withdraw(int number)
{
	char name[8];

	snprintf(name, sizeof(name), "sb-%d", number);
	if (number > 0) {
		gw.is_withdrawn[number] = true;
		gateway_changed(sim_chance(80) ? SUBJECT_SANDBOX : SUBJECT_ALL, name);
		return;
	}
	switch (sim_random(3)) {
	case 0:
		gw.key_verdict = VERDICT_NO;
		gateway_changed(SUBJECT_KEY, gateway_fingerprint());
		break;
	case 1:
		gw.route_verdict = VERDICT_NO;
		gateway_changed(SUBJECT_MEMBER, "team1");
		break;
	case 2:
		gw.key_verdict = VERDICT_NO;
		gateway_changed(SUBJECT_ALL, NULL);
		break;
	}
}

/* At any time of a login or a session. */
static void withdrawn(void)
{
	uint64_t round = sim.round_count + sim_random(sim_chance(50) ? 300 : 3000);
	int number = (int)sim_between(0, 3);

	gw.is_late = sim_chance(50);
	crowd_enters();
	(void)sim_run(round_reached, &round, sim.now_us + 30 * SECOND);
	for (uint32_t i = sim_chance(10) ? CHANGES_KEPT + 10 : sim_random(5); i > 0; i--)
		tell_unrelated();
	withdraw(number);
	for (uint32_t i = sim_chance(10) ? CHANGES_KEPT + 10 : sim_random(5); i > 0; i--)
		tell_unrelated();
	/* Some are at the beginning of their login. */
	CHECK(sim_run(is_settled, &number, sim.now_us + 30 * SECOND));
	check_farewells(number);
	crowd_leaves();
}
SCENARIO(withdrawn, 300)

/* Only a NO ends a session, and nobody is asked for whom nothing has changed. */
static void checks(void)
{
	int nobody = SANDBOXES_MAX, number = (int)sim_between(0, 3);
	uint64_t start;
	uint32_t asked;

	crowd_enters();
	CHECK(sim_run(is_settled, &nobody, sim.now_us + 60 * SECOND));
	for (uint32_t i = 0; i < 20; i++)
		tell_unrelated();
	(void)sim_run(never, NULL, sim.now_us + 5 * SECOND);
	CHECK(gw.check_count == 0 && is_settled(&nobody));
	/* Each is asked for, by its key and its sandbox. */
	gateway_changed(SUBJECT_ALL, NULL);
	(void)sim_run(never, NULL, sim.now_us + 5 * SECOND);
	CHECK(gw.check_count == 2 * crowd.count && is_settled(&nobody));
	/* Nobody can say for some minutes: it is asked again and again, ever less often. */
	gw.is_unavailable = true;
	asked = gw.check_count;
	withdraw(number);
	(void)sim_run(never, NULL, sim.now_us + 300 * SECOND);
	asked = gw.check_count - asked;
	CHECK(is_settled(&nobody) && asked <= crowd.count * (6 + 300 * 1000 / (CHECK_RETRY_MAX_MS / 4 * 3)));
	gw.is_unavailable = false;
	start = sim.now_us;
	CHECK(sim_run(is_settled, &number, start + CHECK_RETRY_MAX_MS * 1000 / 4 * 5 + 5 * SECOND));
	check_farewells(number);
	CHECK(gw.checks_pending_max <= CHECKS_AT_ONCE);
	crowd_leaves();
}
SCENARIO(checks, 60)

/* However many sessions a change concerns, they are asked for in turns; one that is named does not wait for them. */
static void checks_of_many(void)
{
	struct sim_client *clients[60];
	struct client_options o = gateway_client_options();
	uint64_t start;

	sim.weather.chunk_max = 64 * 1024;
	gw.directory_delay_us = 0;
	for (uint32_t i = 0; i < ARRAY_LEN(clients); i++) {
		o.user = i == ARRAY_LEN(clients) - 1 ? "sb-2" : "sb-1";
		clients[i] = gateway_client(&o);
		CHECK(sim_run(client_live, clients[i], sim.now_us + 60 * SECOND) && clients[i]->is_authenticated);
	}
	gw.directory_delay_us = 10 * SECOND;
	start = sim.now_us;
	gateway_changed(SUBJECT_ALL, NULL);
	(void)sim_run(never, NULL, start + SECOND);
	CHECK(gw.checks_pending_max == CHECKS_AT_ONCE);
	gw.is_withdrawn[2] = true;
	gateway_changed(SUBJECT_SANDBOX, "sb-2");
	CHECK(sim_run(client_done, clients[ARRAY_LEN(clients) - 1], start + 60 * SECOND));
	CHECK(gw.check_count < ARRAY_LEN(clients)); /* most of the others are still to be asked for */
	(void)sim_run(never, NULL, start + 300 * SECOND);
	CHECK(gw.server.counters.session_count == ARRAY_LEN(clients) - 1);
	CHECK(gw.check_count >= 2 * ARRAY_LEN(clients) && gw.checks_pending_max == CHECKS_AT_ONCE);
	for (uint32_t i = 0; i < ARRAY_LEN(clients); i++)
		client_free(clients[i]);
}
SCENARIO(checks_of_many, 3)
