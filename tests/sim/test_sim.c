/*
 * tests/sim/test_sim.c - scenarios, each over many seeds.
 *
 * A failure names the scenario and the seed:  SIM_SCENARIO=name SIM_SEED=n  runs that one again, with SIM_LOG=1 the
 * gateway's log is shown, SIM_TIMES=k makes each scenario k times as long.
 */
#include "tests/sim/gateway_world.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SECOND 1000000u

static void tell_seed(void)
{
	char text[160];
	int n = snprintf(text, sizeof(text), "sim: again by: SIM_SCENARIO=%s SIM_SEED=%llu\n",
			 sim.scenario ? sim.scenario : "?", (unsigned long long)sim.seed);

	(void)!write(2, text, (size_t)n);
}

static void on_crash(int sig)
{
	tell_seed();
	signal(sig, SIG_DFL);
	raise(sig);
}

/* ASan's runtime has it. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void over_seeds(const char *name, void (*scenario)(void), uint32_t count)
{
	const char *only = getenv("SIM_SCENARIO"), *seed = getenv("SIM_SEED"), *times = getenv("SIM_TIMES");

	if (only && strcmp(only, name) != 0)
		skip();
	/* Not cmocka's, which would go on. ASan has its own. */
	signal(SIGABRT, on_crash);
	if (!__sanitizer_set_death_callback)
		signal(SIGSEGV, on_crash);
	if (times)
		count *= (uint32_t)strtoul(times, NULL, 10);
	for (uint64_t i = 1; i <= count; i++) {
		gateway_begin(name, seed ? strtoull(seed, NULL, 10) : i);
		scenario();
		gateway_end();
		if (seed)
			break;
	}
}

#define SCENARIO(name, count)                   \
	static void test_##name(void **state)   \
	{                                       \
		over_seeds(#name, name, count); \
	}

/* --- conditions --- */

static bool no_sessions(void *ctx)
{
	gateway_watch();
	return gw.server.counters.session_count == 0;
}

static bool client_done(void *ctx)
{
	const struct sim_client *c = ctx;

	gateway_watch();
	return c->state == CLIENT_ENDED || (c->state == CLIENT_LIVE && client_is_done(c));
}

static bool client_live(void *ctx)
{
	const struct sim_client *c = ctx;

	gateway_watch();
	return c->state == CLIENT_ENDED || c->state == CLIENT_LIVE;
}

static bool never(void *ctx)
{
	gateway_watch();
	return false;
}

/* --- login --- */

static void login_deadline(void)
{
	uint32_t count = sim_between(1, 3);
	uint64_t start = sim.now_us;
	struct sim_client *clients[3];

	gw.config.login.grace_s = sim_between(1, 60);
	for (uint32_t i = 0; i < count; i++) {
		struct client_options o = gateway_client_options();
		uint32_t how = sim_random(3);

		o.is_dumb = how == 0;
		o.stops_at_kex = how == 1;
		o.stops_at_auth = how == 2;
		clients[i] = gateway_client(&o);
	}
	CHECK(sim_run(no_sessions, NULL, start + (gw.config.login.grace_s + 60) * SECOND));
	CHECK(sim.now_us >= start + gw.config.login.grace_s * SECOND);
	/* A client that does not read holds its farewell up for as long as that is allowed. */
	CHECK(sim.now_us <= start + gw.config.login.grace_s * SECOND + SESSION_LINGER_MS * 1000 + SECOND);
	CHECK(gw.server.counters.auth_timeout == count);
	for (uint32_t i = 0; i < count; i++)
		client_free(clients[i]);
}
SCENARIO(login_deadline, 200)

/* --- keepalive --- */

static void keepalive(void)
{
	struct client_options o = gateway_client_options();
	struct client_chan_plan hold = {.command = "hold", .window_bytes = 64 * 1024, .keeps_input_open = true};
	bool is_live = sim_chance(50);
	uint32_t every, count;
	struct sim_client *c;
	uint64_t silent_since;

	every = gw.config.session.keepalive_s = sim_between(5, 60);
	count = gw.config.session.keepalive_count = sim_between(1, 4);
	c = gateway_client(&o);
	if (sim_chance(50))
		(void)client_open(c, &hold);
	CHECK(sim_run(client_live, c, sim.now_us + 60 * SECOND) && c->is_authenticated);
	(void)sim_run(never, c, sim.now_us + sim_random(100) * SECOND);
	CHECK(c->state == CLIENT_LIVE);
	if (is_live) {
		(void)sim_run(never, c, sim.now_us + 10ull * every * (count + 1) * SECOND);
		CHECK(c->state == CLIENT_LIVE && gw.server.counters.session_count == 1);
		CHECK(c->keepalives_seen >= 5);
		/* Nor is the sandbox's stream lost, over which nothing goes but PING and PONG. */
		CHECK(!c->chans[0].is_used || (c->chans[0].is_started && c->chans[0].end == CHAN_END_NONE));
		client_disconnect(c);
	} else {
		silent_since = sim.now_us;
		c->is_mute = true;
		c->is_deaf = sim_chance(50);
		CHECK(sim_run(no_sessions, NULL, sim.now_us + 10000ull * SECOND));
		CHECK(sim.now_us >= silent_since + (uint64_t)every * count * SECOND - every * SECOND);
		CHECK(sim.now_us <=
		      silent_since + ((uint64_t)every * (count + 1) + 2 * SESSION_REST_MS / 1000 + 4) * SECOND);
	}
	client_free(c);
}
SCENARIO(keepalive, 300)

/* --- data --- */

static struct client_chan_plan echo_plan(void)
{
	static const uint32_t packets[] = {1, 10, 1000, 32 * 1024, 32 * 1024};
	static const uint32_t windows[] = {1, 100, 4096, 64 * 1024, 2 * 1024 * 1024};
	static const char *const commands[] = {"echo", "echo", "echo", "", "tcp"};
	struct client_chan_plan p = {.is_echo = true};
	uint32_t most;

	strcpy(p.command, commands[sim_random(ARRAY_LEN(commands))]);
	p.packet_max = packets[sim_random(ARRAY_LEN(packets))];
	p.window_bytes = windows[sim_random(ARRAY_LEN(windows))];
	/* Bytes that go one by one are slow here, too. */
	most = p.packet_max;
	if (p.window_bytes < most)
		most = p.window_bytes;
	if (sim.weather.chunk_max < most)
		most = sim.weather.chunk_max;
	if (gw.places[0].plan.credit_bytes < most)
		most = gw.places[0].plan.credit_bytes;
	p.up_bytes = sim_random(most < 50 ? 300 : most < 2000 ? 20000 : 300000);
	return p;
}

static void check_echo(const struct client_chan *ch)
{
	CHECK(ch->sent == ch->plan.up_bytes && ch->got == ch->sent && ch->got_error == 0);
	if (strcmp(ch->plan.command, "tcp") == 0)
		CHECK(ch->end == CHAN_END_BARE && ch->is_eof_seen);
	else
		CHECK(ch->end == CHAN_END_STATUS && ch->status == 0 && ch->is_eof_seen);
}

static void echo(void)
{
	struct client_options o = gateway_client_options();
	struct sim_client *c = gateway_client(&o);
	uint32_t count = sim_between(1, 5);
	struct client_chan *chans[5];

	for (uint32_t i = 0; i < count; i++) {
		struct client_chan_plan p = echo_plan();

		chans[i] = client_open(c, &p);
	}
	CHECK(sim_run(client_done, c, sim.now_us + 3600ull * SECOND));
	CHECK(c->state == CLIENT_LIVE);
	for (uint32_t i = 0; i < count; i++)
		check_echo(chans[i]);
	CHECK(gw.places[0].connect_count == 1 && gw.retry_count == 0);
	client_disconnect(c);
	client_free(c);
}
SCENARIO(echo, 250)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_login_deadline),
		cmocka_unit_test(test_keepalive),
		cmocka_unit_test(test_echo),
	};
	int rc;

	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(tell_seed);
	gateway_prepare();
	rc = cmocka_run_group_tests_name("sim", tests, NULL, NULL);
	gateway_forget();
	return rc;
}
