/*
 * tests/sim/test_sim.c - scenarios, each over many seeds.
 *
 * Those that the directory makes are in scenarios_directory.c.
 * A failure names the scenario and the seed:  SIM_SCENARIO=name SIM_SEED=n  runs that one again, with SIM_LOG=1 the
 * gateway's log is shown, SIM_TIMES=k makes each scenario k times as long.
 */
#include "tests/sim/scenario.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

void over_seeds(const char *name, void (*scenario)(void), uint32_t count)
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

/* --- conditions --- */

bool no_sessions(void *ctx)
{
	gateway_watch();
	if (gw.server.counters.session_count > 0)
		return false;
	CHECK(!sim_ring_has_timers(gw.worker.ring) && !sim_ring_has_timers(gw.handshaker.ring));
	return true;
}

bool client_done(void *ctx)
{
	const struct sim_client *c = ctx;

	gateway_watch();
	return c->state == CLIENT_ENDED || (c->state == CLIENT_LIVE && client_is_done(c));
}

bool client_live(void *ctx)
{
	const struct sim_client *c = ctx;

	gateway_watch();
	return c->state == CLIENT_ENDED || c->state == CLIENT_LIVE;
}

bool never(void *ctx)
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

	every = gw.config.session.keepalive_s = sim_between(1, sim_chance(50) ? 10 : 60);
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
		CHECK(c->keepalives_seen >= 3);
		/* Nor is the sandbox's stream lost, over which nothing goes but PING and PONG. */
		CHECK(!c->chans[0].is_used || (c->chans[0].is_started && c->chans[0].end == CHAN_END_NONE));
		client_disconnect(c);
	} else {
		silent_since = sim.now_us;
		c->is_mute = true;
		c->is_deaf = sim_chance(50);
		CHECK(sim_run(no_sessions, NULL, sim.now_us + 10000ull * SECOND));
		/* It was last heard a keepalive, and some time on the way, before it fell silent. */
		CHECK(sim.now_us + 4 * sim.weather.latency_us + 10000 >=
		      silent_since + (uint64_t)every * count * SECOND);
		CHECK(sim.now_us <=
		      silent_since + ((uint64_t)every * (count + 1) + SESSION_LINGER_MS / 1000 + 1) * SECOND);
	}
	client_free(c);
}
SCENARIO(keepalive, 300)

/* --- data --- */

struct client_chan_plan echo_plan(void)
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

void check_echo(const struct client_chan *ch)
{
	CHECK(ch->sent == ch->plan.up_bytes && ch->got == ch->sent);
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
	for (uint32_t i = 0; i < count; i++)
		CHECK(chans[i]->got_error == 0);
	CHECK(gw.places[0].connect_count == 1 && gw.retry_count == 0);
	client_disconnect(c);
	client_free(c);
}
SCENARIO(echo, 120)

/* --- procd ends, lies, or says nothing --- */

/* Whatever happens to procd, nothing looks like success that was none, and no session channel ends without a word. */
static void check_chan_end(const struct client_chan *ch)
{
	bool is_tcp = strcmp(ch->plan.command, "tcp") == 0;

	CHECK(ch->is_closed);
	switch (ch->end) {
	case CHAN_END_STATUS:
		CHECK(!is_tcp);
		if (ch->status == 0)
			CHECK(ch->got == ch->plan.up_bytes); /* its program did end, and all it said has come */
		else
			CHECK(ch->status == 254);
		break;
	case CHAN_END_SIGNAL:
		CHECK(!is_tcp);
		break;
	case CHAN_END_REFUSED:
		CHECK(is_tcp || ch->plan.command[0] == 0);
		break;
	default:
		CHECK(is_tcp && ch->end == CHAN_END_BARE);
	}
}

void check_next_channel(struct sim_client *c)
{
	struct client_chan_plan p = {.command = "exit 3", .window_bytes = 64 * 1024};
	struct client_chan *ch;

	CHECK(c->state == CLIENT_LIVE);
	ch = client_open(c, &p);
	CHECK(sim_run(client_done, c, sim.now_us + 3600ull * SECOND));
	/* The stream that is to end may have lived until now: then it is the one after that. */
	if (gw.places[0].has_later && !(ch->end == CHAN_END_STATUS && ch->status == 3)) {
		gw.places[0].has_later = false;
		gw.places[0].plan = gw.places[0].later;
		check_chan_end(ch);
		check_next_channel(c);
		return;
	}
	CHECK(c->state == CLIENT_LIVE && ch->end == CHAN_END_STATUS && ch->status == 3);
}

static void run_and_check_end(struct sim_client *c)
{
	uint32_t count = sim_between(1, 5);
	struct client_chan *chans[5];

	for (uint32_t i = 0; i < count; i++) {
		struct client_chan_plan p = echo_plan();

		chans[i] = client_open(c, &p);
	}
	CHECK(sim_run(client_done, c, sim.now_us + 3600ull * SECOND));
	for (uint32_t i = 0; i < count; i++)
		check_chan_end(chans[i]);
	check_next_channel(c);
	client_disconnect(c);
	client_free(c);
}

static void procd_ends(void)
{
	struct client_options o = gateway_client_options();
	struct place *p = &gw.places[0];

	p->has_later = true;
	p->plan.is_reset = sim_chance(50);
	if (sim_chance(70))
		p->plan.end_after = 1 + sim_random(sim_chance(50) ? 10 : 200);
	else
		p->plan.garbage_after = 2 + sim_random(50);
	run_and_check_end(gateway_client(&o));
}
SCENARIO(procd_ends, 200)

static void procd_refuses(void)
{
	struct client_options o = gateway_client_options();
	struct place *p = &gw.places[0];
	struct sim_client *c = gateway_client(&o);
	uint32_t count = sim_between(1, 5);
	struct client_chan *chans[5];

	p->plan.refuse_percent = 50;
	for (uint32_t i = 0; i < count; i++) {
		struct client_chan_plan plan = echo_plan();

		chans[i] = client_open(c, &plan);
	}
	CHECK(sim_run(client_done, c, sim.now_us + 3600ull * SECOND));
	for (uint32_t i = 0; i < count; i++) {
		check_chan_end(chans[i]);
		CHECK(chans[i]->end != CHAN_END_SIGNAL); /* the others are not touched */
	}
	CHECK(c->state == CLIENT_LIVE && p->connect_count == 1);
	client_disconnect(c);
	client_free(c);
}
SCENARIO(procd_refuses, 150)

static void procd_is_silent(void)
{
	struct client_options o = gateway_client_options();
	struct place *p = &gw.places[0];
	uint64_t most_ms = 2 * (gw.config.procd.connect_timeout_ms + gw.config.procd.hello_timeout_ms) + 2000;
	struct client_chan_plan plan = {.command = "echo", .window_bytes = 64 * 1024};
	struct sim_client *c = gateway_client(&o);
	struct client_chan *ch;
	bool is_stream_left;
	uint64_t start;

	switch (sim_random(5)) {
	case 0:
		p->answer = CONNECT_REFUSED;
		break;
	case 1:
		p->answer = CONNECT_HANGS;
		break;
	case 2:
		p->plan.says_nothing = true;
		break;
	case 3:
		p->plan.never_welcomes = true;
		break;
	case 4:
		p->plan.never_opens = true;
		most_ms += LINK_OPEN_MS;
		break;
	}
	CHECK(sim_run(client_live, c, sim.now_us + 60 * SECOND) && c->is_authenticated);
	start = sim.now_us;
	ch = client_open(c, &plan);
	CHECK(sim_run(client_done, c, start + 3600ull * SECOND));
	CHECK(c->state == CLIENT_LIVE);
	CHECK(sim.now_us - start <= most_ms * 1000 + 2 * gw.directory_delay_us);
	CHECK(ch->end == CHAN_END_STATUS && ch->status == 254);
	CHECK(gw.retry_count == 1);
	/* It comes back; a stream that is silent stays. */
	is_stream_left = p->plan.never_opens;
	p->plan = gateway_honest_plan();
	p->answer = CONNECT_YES;
	if (sim_chance(50) && !is_stream_left)
		check_next_channel(c);
	client_disconnect(c);
	client_free(c);
}
SCENARIO(procd_is_silent, 200)

/* fake_procd.c asserts that nothing behind HELLO reaches one whose WELCOME is wrong. */
static void procd_is_wrong(void)
{
	struct client_options o = gateway_client_options();
	bool has_moved = sim_chance(50);
	struct sim_client *c = gateway_client(&o);
	struct client_chan_plan plan = echo_plan();
	struct client_chan *ch;

	if (sim_chance(70))
		gateway_make_wrong(&gw.places[0].plan);
	else
		gw.places[0].plan.says_wrong_sandbox = true;
	gw.retry_route = has_moved ? 1 : 0;
	ch = client_open(c, &plan);
	CHECK(sim_run(client_done, c, sim.now_us + 3600ull * SECOND));
	CHECK(gw.retry_count == 1 && gw.places[0].connect_count == 1 && gw.places[1].connect_count == has_moved);
	if (has_moved) {
		check_echo(ch);
		check_next_channel(c);
	} else {
		CHECK(strcmp(plan.command, "tcp") == 0 ? ch->end == CHAN_END_REFUSED
						       : ch->end == CHAN_END_STATUS && ch->status == 254);
		CHECK(ch->got == 0);
	}
	client_disconnect(c);
	client_free(c);
}
SCENARIO(procd_is_wrong, 100)

/* --- the client goes --- */

static bool round_reached(void *ctx)
{
	gateway_watch();
	return sim.round_count >= *(uint64_t *)ctx;
}

static void client_vanishes(void)
{
	struct client_options o = gateway_client_options();
	struct place *p = &gw.places[0];
	uint32_t count = sim_between(1, 3);
	uint64_t round = sim_random(sim_chance(30) ? 100 : sim_chance(50) ? 1000 : 10000);
	struct sim_client *clients[3];

	p->plan.stops_granting = sim_chance(20);
	p->plan.stops_reading = sim_chance(20);
	p->plan.never_opens = sim_chance(10);
	p->plan.never_welcomes = sim_chance(10);
	p->plan.says_nothing = sim_chance(10);
	p->answer = sim_chance(80) ? CONNECT_YES : sim_chance(50) ? CONNECT_REFUSED : CONNECT_HANGS;
	gw.route_verdict = sim_chance(90) ? VERDICT_YES : sim_chance(50) ? VERDICT_NO : VERDICT_UNAVAILABLE;
	for (uint32_t i = 0; i < count; i++) {
		clients[i] = gateway_client(&o);
		for (uint32_t k = sim_random(5); k > 0; k--) {
			struct client_chan_plan plan = echo_plan();

			plan.up_bytes *= 10;
			if (sim_chance(30)) {
				strcpy(plan.command, "hold");
				plan.is_echo = false;
			}
			plan.close_percent = sim_chance(30) ? sim_random(5) : 0;
			client_open(clients[i], &plan);
		}
	}
	for (uint32_t i = 0; i < count; i++) {
		round += sim_random(1000);
		(void)sim_run(round_reached, &round, sim.now_us + 10 * SECOND);
		if (sim_chance(50))
			client_vanish(clients[i], sim_chance(50));
		else if (clients[i]->state == CLIENT_LIVE)
			client_disconnect(clients[i]);
		else
			client_vanish(clients[i], false);
	}
	/* gateway_end sees that nothing is left; a bound on how long that takes: */
	CHECK(sim_run(no_sessions, NULL, sim.now_us + SESSION_LINGER_MS * 1000 + SECOND));
	for (uint32_t i = 0; i < count; i++)
		client_free(clients[i]);
}
SCENARIO(client_vanishes, 120)

/* --- memory: one side does not read --- */

static void client_is_deaf(void)
{
	struct client_options o = gateway_client_options();
	struct client_chan_plan plan = {.command = "flood 3000000", .window_bytes = 1u << 30};
	uint32_t count = sim_between(1, 4);
	uint64_t kept_max = SESSION_DOWN_BUDGET + count * LINK_CREDIT_MIN;
	struct sim_client *c;
	struct client_chan *chans[4];

	plan.has_pty = sim_chance(50);
	if (plan.has_pty)
		kept_max = count * LINK_TERMINAL_BYTES;
	gw.places[0].plan.credit_bytes = 64 * 1024;
	sim.weather.chunk_max = 64 * 1024;
	c = gateway_client(&o);
	for (uint32_t i = 0; i < count; i++)
		chans[i] = client_open(c, &plan);
	(void)sim_run(never, c, sim.now_us + sim_random(20000));
	CHECK(sim_run(client_live, c, sim.now_us + 60 * SECOND));
	c->is_deaf = true;
	(void)sim_run(never, c, sim.now_us + 20 * SECOND);
	CHECK(c->state == CLIENT_LIVE); /* too little time for a keepalive to be missed */
	/* Nothing is kept beyond the budget: what procd may still send, and what waits for the client. */
	CHECK(gw.out_max <= kept_max + kept_max / 16);
	c->is_deaf = false;
	CHECK(sim_run(client_done, c, sim.now_us + 3600ull * SECOND));
	for (uint32_t i = 0; i < count; i++)
		CHECK(chans[i]->end == CHAN_END_STATUS && chans[i]->got + chans[i]->got_error == 3000000);
	client_disconnect(c);
	client_free(c);
}
SCENARIO(client_is_deaf, 10)

static void procd_stalls(void)
{
	static const uint32_t packets[] = {1, 50, 32 * 1024, 32 * 1024};
	struct client_options o = gateway_client_options();
	struct client_chan_plan plan = {.command = "sink", .window_bytes = 64 * 1024, .up_bytes = 8000000};
	uint32_t count = sim_between(1, 4);
	struct sim_client *c;

	plan.packet_max = packets[sim_random(ARRAY_LEN(packets))];
	if (plan.packet_max == 1)
		plan.up_bytes = 50000;
	gw.places[0].plan.credit_bytes = sim_chance(50) ? 64 * 1024 : 64 * 1024 * 1024;
	gw.places[0].plan.stops_granting = sim_chance(50);
	gw.places[0].plan.stops_reading = !gw.places[0].plan.stops_granting;
	gw.config.procd.ping_s = 3600;
	sim.weather.chunk_max = 64 * 1024;
	c = gateway_client(&o);
	for (uint32_t i = 0; i < count; i++)
		client_open(c, &plan);
	(void)sim_run(never, c, sim.now_us + 30 * SECOND);
	CHECK(c->state == CLIENT_LIVE);
	/* The memory, too, not the payload alone, however small the packets are. */
	CHECK((uint64_t)gw.chunks_max * CHUNK_BYTES <=
	      SESSION_PROCD_MAX + SESSION_UP_BUDGET + (2 * count + 8) * CHUNK_BYTES);
	client_vanish(c, sim_chance(50));
	client_free(c);
}
SCENARIO(procd_stalls, 8)

/* A client and its sandbox work together: the one sends what becomes frames, the other does not read them. */
static bool flood_windows(struct sim_client *c)
{
	if (!c->chans[0].is_started || c->flood_count > 20000 || c->out.bytes > 64 * 1024)
		return false;
	for (int i = 0; i < 200; i++)
		client_window_change(c, &c->chans[0], (uint32_t)++c->flood_count);
	return true;
}

static bool flood_signals(struct sim_client *c)
{
	if (!c->chans[0].is_started || c->flood_count > 20000 || c->out.bytes > 64 * 1024)
		return false;
	for (int i = 0; i < 200; i++, c->flood_count++)
		client_signal(c, &c->chans[0]);
	return true;
}

/* Opens, starts something, with a long command or a short one, and closes without waiting. */
static bool flood_channels(struct sim_client *c)
{
	struct client_chan_plan plan = {.command = "hold", .window_bytes = 64 * 1024, .close_percent = 100};

	plan.command_bytes = sim.seed % 2 ? 30000 : 0;

	if (c->flood_count > 3000 || c->out.bytes > 64 * 1024)
		return false;
	if (!client_open(c, &plan))
		return false;
	c->flood_count++;
	return true;
}

static void floods(void)
{
	struct client_options o = gateway_client_options();
	struct client_chan_plan plan = {.command = "hold", .window_bytes = 64 * 1024, .has_pty = true};
	struct procd_plan *p = &gw.places[0].plan;
	struct sim_client *c;

	p->stops_reading_after_open = true;
	gw.config.procd.ping_s = 3600;
	/* A client that is not read for its flood is not seen to go, either: keepalives notice. */
	gw.config.session.keepalive_s = 10;
	gw.config.session.keepalive_count = 1;
	sim.weather.chunk_max = 64 * 1024;
	c = gateway_client(&o);
	switch (sim_random(4)) {
	case 0:
		client_open(c, &plan);
		c->on_live = flood_windows;
		break;
	case 1:
		client_open(c, &plan);
		c->on_live = flood_signals;
		break;
	case 2:
		p->never_opens = true;
		c->on_live = flood_channels;
		break;
	case 3:
		client_open(c, &plan);
		p->floods_pings = true;
		break;
	}
	(void)sim_run(never, c, sim.now_us + SECOND);
	CHECK((uint64_t)gw.chunks_max * CHUNK_BYTES <= SESSION_OUT_MAX + SESSION_PROCD_MAX + 32 * CHUNK_BYTES);
	CHECK(!gateway_session() || gateway_session()->bridge.links.count <= LINK_COUNT_MAX);
	client_vanish(c, sim_chance(50));
	client_free(c);
}
SCENARIO(floods, 10)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_login_deadline),
		cmocka_unit_test(test_keepalive),
		cmocka_unit_test(test_echo),
		cmocka_unit_test(test_procd_ends),
		cmocka_unit_test(test_procd_refuses),
		cmocka_unit_test(test_procd_is_silent),
		cmocka_unit_test(test_procd_is_wrong),
		cmocka_unit_test(test_client_vanishes),
		cmocka_unit_test(test_client_is_deaf),
		cmocka_unit_test(test_procd_stalls),
		cmocka_unit_test(test_floods),
		cmocka_unit_test(test_withdrawn),
		cmocka_unit_test(test_checks),
		cmocka_unit_test(test_checks_of_many),
		cmocka_unit_test(test_resume),
		cmocka_unit_test(test_resume_is_dropped),
		cmocka_unit_test(test_paused_while_live),
		cmocka_unit_test(test_refused_while_live),
		cmocka_unit_test(test_moved_while_channels_open),
		cmocka_unit_test(test_procd_outlives_the_client),
		cmocka_unit_test(test_nobody_asks_for_the_gone),
		cmocka_unit_test(test_warning_leaves_the_window),
		cmocka_unit_test(test_words_before_a_key_exchange),
		cmocka_unit_test(test_keepalive_is_not_sent),
		cmocka_unit_test(test_rest_outlasts_answers),
		cmocka_unit_test(test_answer_to_login_is_not_taken),
		cmocka_unit_test(test_client_gives_a_channel_up),
		cmocka_unit_test(test_procd_ends_while_the_client_is_not_read),
		cmocka_unit_test(test_encryption_fails),
		cmocka_unit_test(test_ends_inside_a_read),
		cmocka_unit_test(test_channels_wait),
	};
	int rc;

	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(tell_seed);
	gateway_prepare();
	rc = cmocka_run_group_tests_name("sim", tests, NULL, NULL);
	gateway_forget();
	return rc;
}
