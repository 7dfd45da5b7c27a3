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
		/* Nothing that looks like success. One that waited may have been told by its own question's answer. */
		CHECK(!ch || ch->end == CHAN_END_NONE || (gw.is_asleep && ch->status == 254));
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
	if (sim_chance(30)) { /* who waits for it to wake up is sent away as well */
		gw.is_asleep = true;
		gw.holds_answers = sim_chance(50);
		gw.wake_delay_us = SIM_NEVER;
	}
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

/* --- a paused sandbox --- */

#define SLEEPERS_MAX 3
#define SLEEPER_CHANS_MAX 5

static struct {
	struct sim_client *clients[SLEEPERS_MAX];
	struct client_chan *chans[SLEEPERS_MAX][SLEEPER_CHANS_MAX];
	uint32_t count, chan_count;
} sleepers;

static bool sleepers_done(void *ctx)
{
	gateway_watch();
	for (uint32_t i = 0; i < sleepers.count; i++)
		if (!client_done(sleepers.clients[i]))
			return false;
	return true;
}

static void fall_asleep(void)
{
	gw.is_asleep = true;
	gw.awake_us = gw.listens_us = 0;
	gw.holds_answers = sim_chance(70);
	gw.holds_for_ever = false;
	gw.has_asleep_hang = sim_chance(20);
	gw.wake_delay_us = sim_random(sim_chance(50) ? 2000000 : 100 * SECOND);
	if (sim_chance(10))
		gw.wake_delay_us = SIM_NEVER;
	/* Who comes when it is awake does not know that it has just woken up. */
	if (gw.wake_delay_us > 5 * SECOND && sim_chance(30))
		gw.listen_delay_us = sim_random(3 * SECOND);
	gw.wake_end = sim_chance(70) ? VERDICT_YES : sim_chance(50) ? VERDICT_NO : VERDICT_UNAVAILABLE;
	gw.config.session.resume_timeout_s = sim_between(1, 60);
	gw.config.session.resume_poll_s = sim_between(1, 20);
}

static void sleepers_come(void)
{
	memset(&sleepers, 0, sizeof(sleepers));
	sleepers.count = sim_between(1, SLEEPERS_MAX);
	sleepers.chan_count = sim_between(1, SLEEPER_CHANS_MAX);
	for (uint32_t i = 0; i < sleepers.count; i++) {
		struct client_options o = gateway_client_options();

		sleepers.clients[i] = gateway_client(&o);
		for (uint32_t k = 0; k < sleepers.chan_count; k++) {
			struct client_chan_plan plan = echo_plan();

			plan.has_pty = strcmp(plan.command, "echo") == 0 && sim_chance(50);
			sleepers.chans[i][k] = client_open(sleepers.clients[i], &plan);
		}
	}
}

/* What a terminal of one line shows in the end; false where it was left before. */
static void show(const char *text, char ret_line[128])
{
	size_t at = 0;

	memset(ret_line, 0, 128);
	for (; *text && *text != '\n'; text++) {
		if (*text == '\r')
			at = 0;
		else if ((*text & 0xc0) != 0x80) /* a character of several bytes is one */
			ret_line[at++] = *text;
		CHECK(at < 127);
	}
}

/* Only what is told of waking up: one line, or on a terminal one that is gone in the end. */
static void check_told(const struct client_chan *ch, bool is_told)
{
	static const char says[] = "sandbox sb-1 is waking up (";
	const char *text = ch->error_text, *line = text + (*text == '\r');
	char shown[128];

	/* Where the client let nothing in, nothing is told. */
	CHECK(ch->got_error == 0 || strncmp(line, says, strlen(says)) == 0);
	if (strcmp(ch->plan.command, "tcp") == 0)
		CHECK(ch->got_error == 0);
	else if (is_told && ch->plan.window_bytes >= 4096)
		CHECK(ch->got_error > 0);
	if (ch->got_error == 0)
		return;
	if (ch->plan.has_pty) {
		show(text, shown);
		CHECK(shown[strspn(shown, " ")] == 0);
	} else {
		CHECK(strstr(text, " s)…\n") && strchr(text, '\n')[1] == 0 && !strchr(text, '\r'));
	}
}

static void check_given_up(const struct client_chan *ch)
{
	CHECK(ch->got == 0 && ch->is_closed);
	if (strcmp(ch->plan.command, "tcp") == 0) {
		CHECK(ch->end == CHAN_END_REFUSED && ch->got_error == 0);
		return;
	}
	CHECK(ch->end == CHAN_END_STATUS && ch->status == 254);
	if (ch->plan.window_bytes < 4096)
		return;
	if (gw.wake_end == VERDICT_NO && sim.now_us >= gw.awake_us)
		CHECK(strstr(ch->error_text, "ringgate: the sandbox is gone, or not yours any more\r\n"));
	else if (gw.wake_end == VERDICT_UNAVAILABLE && sim.now_us >= gw.awake_us)
		CHECK(strstr(ch->error_text, "ringgate: the sandbox cannot be reached: no room?\r\n"));
	else
		CHECK(strstr(ch->error_text, "ringgate: the sandbox did not wake up within "));
}

static bool was_in_time(const struct client_chan *ch)
{
	return ch->end != CHAN_END_REFUSED && !(ch->end == CHAN_END_STATUS && ch->status == 254);
}

static void resume(void)
{
	uint64_t start = sim.now_us, timeout_us, asked_us;
	bool is_sure;

	fall_asleep();
	gw.holds_for_ever = gw.holds_answers && sim_chance(10);
	if (gw.holds_for_ever)
		gw.wake_delay_us = SIM_NEVER;
	gw.directory_delay_us /= 10;
	timeout_us = (uint64_t)gw.config.session.resume_timeout_s * SECOND;
	sleepers_come();
	CHECK(sim_run(sleepers_done, NULL, start + 3600ull * SECOND));
	CHECK(gw.wake_count == 1 && gw.waits_pending_max <= sleepers.count);
	/* Two polls a second at the worst, however many wait; but a channel that comes behind a refusal asks anew. */
	asked_us = gw.wake_delay_us < timeout_us ? gw.wake_delay_us : timeout_us;
	CHECK(gw.wait_count <= sleepers.count * (1 + sleepers.chan_count + asked_us / (WAKE_ASK_MS * 1000)));
	/* Some login or channel may have come so late that it was awake by then, or waited less than it seems. */
	is_sure = gw.wake_delay_us < timeout_us / 2 || gw.wake_delay_us > timeout_us + 10 * SECOND;
	for (uint32_t i = 0; i < sleepers.count; i++) {
		for (uint32_t k = 0; k < sleepers.chan_count; k++) {
			const struct client_chan *ch = sleepers.chans[i][k];
			bool is_told = gw.wake_delay_us > 10 * SECOND;

			CHECK(sleepers.clients[i]->state == CLIENT_LIVE || sleepers.clients[i]->was_denied ||
			      sleepers.clients[i]->was_disconnected);
			if (sleepers.clients[i]->state != CLIENT_LIVE)
				continue;
			if (is_sure)
				CHECK(was_in_time(ch) == (gw.wake_end == VERDICT_YES && gw.wake_delay_us < timeout_us));
			if (was_in_time(ch)) {
				check_echo(ch);
				check_told(ch, is_told);
			} else {
				check_given_up(ch);
			}
		}
	}
	for (uint32_t i = 0; i < sleepers.count; i++) {
		client_disconnect(sleepers.clients[i]);
		client_free(sleepers.clients[i]);
	}
}
SCENARIO(resume, 150)

static bool is_waited_for(void *ctx)
{
	gateway_watch();
	return gw.waits_pending > 0;
}

/* The user goes, or closes what he had opened: nothing is asked for any more. */
static void resume_is_dropped(void)
{
	struct client_options o = gateway_client_options();
	struct client_chan_plan plan = {.command = "echo", .window_bytes = 64 * 1024, .keeps_input_open = true};
	struct sim_client *c;
	uint64_t start;

	fall_asleep();
	gw.holds_answers = true;
	gw.wake_delay_us = SIM_NEVER;
	gw.config.session.resume_timeout_s = 60;
	c = gateway_client(&o);
	for (uint32_t i = sim_between(1, 3); i > 0; i--)
		client_open(c, &plan);
	CHECK(sim_run(is_waited_for, NULL, sim.now_us + 30 * SECOND));
	(void)sim_run(never, NULL, sim.now_us + sim_random(30 * SECOND));
	start = sim.now_us;
	switch (sim_random(3)) {
	case 0:
		client_vanish(c, sim_chance(50));
		break;
	case 1:
		client_disconnect(c);
		break;
	case 2:
		for (uint32_t i = 0; i < CLIENT_CHANS_MAX; i++)
			c->chans[i].plan.close_percent = 100;
		CHECK(sim_run(client_done, c, start + SECOND));
		break;
	}
	(void)sim_run(never, NULL, start + 2 * SECOND);
	CHECK(gw.waits_pending == 0);
	gw.wait_count = 0;
	(void)sim_run(never, NULL, sim.now_us + 100 * SECOND);
	CHECK(gw.wait_count == 0);
	client_vanish(c, false);
	client_free(c);
}
SCENARIO(resume_is_dropped, 100)

static bool has_got_all(void *ctx)
{
	const struct client_chan *ch = ctx;

	gateway_watch();
	return ch->got == ch->plan.up_bytes;
}

/* Paused under a connection that lives on: its stream is lost, or stands still. The next channel wakes it. */
static void paused_while_live(void)
{
	struct client_options o = gateway_client_options();
	struct client_chan_plan plan = {
		.command = "echo", .window_bytes = 256 * 1024, .is_echo = true, .packet_max = 1000, .up_bytes = 300};
	bool is_lost = sim_chance(50);
	struct sim_client *c = gateway_client(&o);
	struct client_chan *held, *next;
	uint64_t start;

	check_next_channel((sim_run(client_live, c, sim.now_us + 60 * SECOND), c));
	plan.keeps_input_open = true;
	held = client_open(c, &plan);
	CHECK(sim_run(has_got_all, held, sim.now_us + 600 * SECOND));
	fall_asleep();
	gw.wake_end = VERDICT_YES;
	gw.wake_delay_us = sim_random(20 * SECOND);
	if (gw.wake_delay_us < 5 * SECOND)
		gw.listen_delay_us = 0;
	gw.config.session.resume_timeout_s = 60;
	if (is_lost)
		gw.is_gone = true;
	else
		gw.is_frozen = true;
	(void)sim_run(never, NULL, sim.now_us + sim_between(SECOND, 3 * SECOND));
	gw.is_gone = false;
	CHECK((held->end == CHAN_END_SIGNAL) == is_lost && gw.wake_count == 0);
	plan.keeps_input_open = false;
	start = sim.now_us;
	next = client_open(c, &plan);
	held->plan.keeps_input_open = false;
	CHECK(sim_run(client_done, c, start + 3600ull * SECOND));
	CHECK(c->state == CLIENT_LIVE && gw.wake_count == 1);
	check_echo(next);
	check_told(next, gw.wake_delay_us > 10 * SECOND);
	if (!is_lost)
		check_echo(held); /* as if nothing had been */
	client_disconnect(c);
	client_free(c);
}
SCENARIO(paused_while_live, 80)

/* --- the directory is asked because procd is silent, and knows better --- */

static uint32_t connects(void)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < ROUTES_MAX; i++)
		count += gw.places[i].connect_count;
	return count;
}

static bool chan_is_closed(void *ctx)
{
	gateway_watch();
	return ((const struct client_chan *)ctx)->is_closed;
}

/* He may not be there any more, says the directory: no later channel goes to where the sandbox was without asking again. */
static void refused_while_live(void)
{
	struct client_options o = gateway_client_options();
	struct client_chan_plan plan = {.command = "echo",
					.window_bytes = 64 * 1024,
					.packet_max = 1000,
					.up_bytes = 300,
					.keeps_input_open = true};
	struct sim_client *c = gateway_client(&o);
	struct client_chan *ch;
	uint32_t count;

	ch = client_open(c, &plan);
	CHECK(sim_run(has_got_all, ch, sim.now_us + 600 * SECOND));
	count = connects();
	gw.is_frozen = gw.is_withdrawn[1] = true;
	plan.keeps_input_open = false;
	ch = client_open(c, &plan);
	CHECK(sim_run(chan_is_closed, ch, sim.now_us + 60 * SECOND));
	CHECK(ch->end == CHAN_END_STATUS && ch->status == 254);
	gw.is_frozen = false;
	ch = client_open(c, &plan);
	CHECK(sim_run(client_done, c, sim.now_us + 60 * SECOND) && c->state == CLIENT_LIVE);
	CHECK(ch->end == CHAN_END_STATUS && ch->status == 254 && connects() == count);
	gw.is_withdrawn[1] = false;
	check_next_channel(c);
	client_disconnect(c);
	client_free(c);
}
SCENARIO(refused_while_live, 40)

static struct {
	bool is_frozen;
	uint64_t opened_us;
} moved;

static bool open_now_and_then(struct sim_client *c)
{
	struct client_chan_plan plan = {.command = "tcp", .window_bytes = 64 * 1024};

	if (gw.retry_count == 0 || gw.places[1].connect_count > 0 || sim.now_us == moved.opened_us ||
	    c->flood_count == 200)
		return false;
	moved.opened_us = sim.now_us;
	c->flood_count++;
	client_open(c, &plan);
	return true;
}

static bool has_moved(void *ctx)
{
	return gw.places[1].connect_count > 0 && client_done(ctx);
}

/* The sandbox is elsewhere now. What is opened while the stream to the old place closes goes to the new one, and waits for nothing. */
static void moved_while_channels_open(void)
{
	struct client_options o = gateway_client_options();
	struct client_chan_plan plan = {.command = "exit 0", .window_bytes = 64 * 1024};
	struct sim_client *c;

	gateway_never_rekeys();
	o.rekey_bytes = 0;
	moved.is_frozen = false;
	moved.opened_us = 0;
	sim.weather.chunk_max = 64 * 1024;
	sim.weather.latency_us = sim_between(1, 100);
	gw.directory_delay_us = sim_between(100, 3000);
	gw.places[0].plan.is_frozen = &moved.is_frozen;
	gw.retry_route = 1;
	c = gateway_client(&o);
	check_next_channel((sim_run(client_live, c, sim.now_us + 60 * SECOND), c));
	moved.is_frozen = true;
	c->on_live = open_now_and_then;
	client_open(c, &plan);
	CHECK(sim_run(has_moved, c, sim.now_us + 30 * SECOND));
	CHECK(c->state == CLIENT_LIVE && gw.places[1].connect_count == 1);
	client_disconnect(c);
	client_free(c);
}
SCENARIO(moved_while_channels_open, 100)
