/*
 * tests/sim/scenarios_odd_ends.c - one session that ends, or is held up, at an odd moment. Each was once a fault of the gateway's.
 */
#include "config.h" /* libssh's: its internal headers need it first */

#include "gateway/session.h"
#include "ssh/internal.h"
#include "ssh/libssh_socket.h"
#include "tests/sim/scenario.h"

#include "libssh/crypto.h"
#include "libssh/session.h"

#include <string.h>

static struct procd_client *procd_of_session(void)
{
	return &gateway_session()->bridge.procd;
}

/* --- procd lives longer than the session --- */

static bool much_waits_for_procd(void *ctx)
{
	gateway_watch();
	return gateway_session() && procd_client_unsent(procd_of_session()) > 64 * 1024;
}

/*
 * The client has gone and procd does not read what he had sent, so that the session lingers. In that time procd speaks, and where it
 * ends first, the session ends with it: nothing of either stays behind.
 */
static void procd_outlives_the_client(void)
{
	struct client_options o = gateway_client_options();
	struct client_chan_plan plan = {
		.command = "flood 1000000", .up_bytes = 8000000, .packet_max = 32 * 1024, .window_bytes = 1u << 30};
	struct procd_plan *p = &gw.places[0].plan;
	struct sim_client *c;
	uint64_t gone;

	gateway_never_rekeys();
	o.rekey_bytes = 0;
	sim.weather.chunk_max = 64 * 1024;
	p->credit_bytes = 64 * 1024 * 1024;
	p->stops_reading_after_open = true;
	p->silence_us = 4 * SECOND;
	p->lifetime_us = sim_chance(50) ? 0 : sim_between(4 * SECOND + 1, 6 * SECOND);
	p->is_reset = sim_chance(50);
	c = gateway_client(&o);
	client_open(c, &plan);
	CHECK(sim_run(much_waits_for_procd, NULL, sim.now_us + 3600ull * SECOND));
	(void)sim_run(never, NULL, sim.now_us + 2 * SECOND);
	CHECK(much_waits_for_procd(NULL) && c->chans[0].got + c->chans[0].got_error == 0);
	client_vanish(c, sim_chance(50));
	gone = sim.now_us;
	CHECK(sim_run(no_sessions, NULL, gone + SESSION_LINGER_MS * 1000 + SECOND));
	CHECK(p->lifetime_us > 0 || sim.now_us >= gone + SESSION_LINGER_MS * 1000);
	client_free(c);
}
SCENARIO(procd_outlives_the_client, 40)

static bool second_is_asked_for(void *ctx)
{
	gateway_watch();
	return gateway_session()->bridge.links.next_number == 6; /* its OPEN waits behind what procd does not read */
}

/*
 * The client goes while procd has not yet answered an OPEN. The session lingers past the time after which the directory would be asked
 * whether the sandbox sleeps: nobody waits for that any more, and the answer would find no session.
 */
static void nobody_asks_for_the_gone(void)
{
	struct client_options o = gateway_client_options();
	struct client_chan_plan plan = {
		.command = "sink", .up_bytes = 8000000, .packet_max = 32 * 1024, .window_bytes = 1u << 30};
	struct client_chan_plan second = {.command = "hold", .window_bytes = 64 * 1024, .keeps_input_open = true};
	struct procd_plan *p = &gw.places[0].plan;
	uint32_t asked;
	struct sim_client *c;

	gateway_never_rekeys();
	o.rekey_bytes = 0;
	sim.weather.chunk_max = 64 * 1024;
	p->credit_bytes = 64 * 1024 * 1024;
	p->stops_reading_after_open = true;
	c = gateway_client(&o);
	client_open(c, &plan);
	CHECK(sim_run(much_waits_for_procd, NULL, sim.now_us + 3600ull * SECOND));
	client_open(c, &second);
	CHECK(sim_run(second_is_asked_for, NULL, sim.now_us + 60 * SECOND));
	gw.directory_delay_us = 60 * SECOND;
	asked = gw.retry_count;
	client_vanish(c, sim_chance(50));
	CHECK(sim_run(no_sessions, NULL, sim.now_us + SESSION_LINGER_MS * 1000 + SECOND));
	CHECK(gw.retry_count == asked);
	client_free(c);
}
SCENARIO(nobody_asks_for_the_gone, 20)

/* --- words beside what procd may send --- */

/*
 * A session that rests is told that it will end, while procd may send all that the client's window takes. What it then sends still has
 * its place, and where the window is no tiny one the words have had theirs.
 */
static void warning_leaves_the_window(void)
{
	struct client_options o = gateway_client_options();
	struct client_chan_plan plan = {.command = "flood 200000", .keeps_input_open = true};
	struct policy_values v = gw.config.policy;
	struct sim_client *c;
	struct client_chan *ch;

	v.idle_timeout_s = 20;
	v.idle_warning_s = 10;
	gw.server.policy = policy_new(&v);
	gateway_never_rekeys();
	o.rekey_bytes = 0;
	sim.weather.chunk_max = 64 * 1024;
	plan.window_bytes = sim_between(100, sim_chance(50) ? 3000 : 100000);
	gw.places[0].plan.silence_us = 15 * SECOND;
	c = gateway_client(&o);
	ch = client_open(c, &plan);
	CHECK(sim_run(client_done, c, sim.now_us + 3600ull * SECOND));
	CHECK(c->state == CLIENT_LIVE && ch->end == CHAN_END_STATUS && ch->status == 0);
	CHECK(ch->got + ch->got_error >= 200000);
	if (plan.window_bytes >= LINK_TELL_PARTS * LINK_TELL_BYTES)
		CHECK(strncmp(ch->error_text, "ringgate: nothing is being sent", 31) == 0);
	client_disconnect(c);
	client_free(c);
	CHECK(sim_run(no_sessions, NULL, sim.now_us + 10 * SECOND));
	policy_put(gw.server.policy);
}
SCENARIO(warning_leaves_the_window, 40)

/* --- sending fails --- */

static bool is_on_the_worker(void *ctx)
{
	gateway_watch();
	return gateway_session() && gateway_session()->phase == SESSION_LIVE;
}

/* A keepalive that cannot be sent, for want of memory here, ends the session; its timer goes with it. */
static void keepalive_is_not_sent(void)
{
	struct client_options o = gateway_client_options();
	struct sim_client *c;

	gateway_never_rekeys();
	gw.config.session.keepalive_s = sim_between(1, 10);
	c = gateway_client(&o);
	CHECK(sim_run(is_on_the_worker, NULL, sim.now_us + 60 * SECOND));
	libssh_socket_attach(gateway_session()->conn->session->socket, NULL);
	CHECK(sim_run(no_sessions, NULL,
		      sim.now_us + gw.config.session.keepalive_s * SECOND + SESSION_REST_MS * 1000ull + SECOND));
	client_free(c);
}
SCENARIO(keepalive_is_not_sent, 20)

static bool is_trimmed(void *ctx)
{
	return gateway_session() && gateway_session()->is_trimmed;
}

static bool is_asked(void *ctx)
{
	struct sim_client *c = ctx;

	CHECK(gateway_session()->is_trimmed); /* through all answers */
	return c->keepalives_seen == 5;
}

/* The answer to a keepalive does not end a session's rest: no buffers that a timer has to take back. What else it sends does. */
static void rest_outlasts_answers(void)
{
	struct client_options o = gateway_client_options();
	struct client_chan_plan hold = {.command = "hold", .window_bytes = 64 * 1024, .keeps_input_open = true};
	struct client_chan *ch;
	struct sim_client *c;

	gateway_never_rekeys();
	gw.config.session.keepalive_s = sim_between(10, 60);
	c = gateway_client(&o);
	ch = client_open(c, &hold);
	CHECK(sim_run(is_trimmed, NULL, sim.now_us + 120 * SECOND));
	CHECK(sim_run(is_asked, c, sim.now_us + 6ull * gw.config.session.keepalive_s * SECOND));
	/* The answer has arrived, and is long ago. */
	(void)sim_run(never, c, sim.now_us + SESSION_REST_MS * 1000ull + SECOND);
	CHECK(is_trimmed(NULL));
	client_window_change(c, ch, 100);
	(void)sim_run(never, c, sim.now_us + 2 * SECOND);
	CHECK(!is_trimmed(NULL));
	CHECK(sim_run(is_trimmed, NULL, sim.now_us + 2 * SESSION_REST_MS * 1000ull));
	client_disconnect(c);
	client_free(c);
}
SCENARIO(rest_outlasts_answers, 20)

static void encrypts_nothing(struct ssh_cipher_struct *cipher, void *in, void *out, size_t n, uint8_t *tag,
			     uint64_t seq)
{
	(void)cipher, (void)in, (void)out, (void)n, (void)tag, (void)seq;
}

static bool is_started(void *ctx)
{
	gateway_watch();
	return ((const struct client_chan *)ctx)->is_started;
}

static bool is_closed(void *ctx)
{
	gateway_watch();
	return ((const struct client_chan *)ctx)->is_closed;
}

static bool has_come(void *ctx)
{
	const struct client_chan *ch = ctx;

	gateway_watch();
	return ch->got > 100000;
}

/* Packets are encrypted in place: one that was not must not leave. The client, which asserts that all is well encrypted, sees an end. */
static void encryption_fails(void)
{
	struct client_options o = gateway_client_options();
	struct client_chan_plan plan = {.command = "flood 3000000", .window_bytes = 64 * 1024 * 1024};
	struct sim_client *c;
	struct client_chan *ch;

	gateway_never_rekeys();
	o.rekey_bytes = 0;
	o.cipher = sim_chance(50) ? "aes128-gcm@openssh.com" : "chacha20-poly1305@openssh.com";
	sim.weather.chunk_max = 64 * 1024;
	c = gateway_client(&o);
	ch = client_open(c, &plan);
	CHECK(sim_run(has_come, ch, sim.now_us + 3600ull * SECOND) && ch->got < 3000000);
	gateway_session()->conn->session->current_crypto->out_cipher->aead_encrypt = encrypts_nothing;
	CHECK(sim_run(client_done, c, sim.now_us + 60 * SECOND));
	CHECK(c->state == CLIENT_ENDED && !c->was_disconnected);
	client_free(c);
}
SCENARIO(encryption_fails, 20)

/* --- a key exchange begins --- */

static struct ssh_cipher_struct *cipher_in(void)
{
	return gateway_session()->conn->session->current_crypto->in_cipher;
}

static bool has_other_keys(void *ctx)
{
	const uint64_t *max = ctx;

	return cipher_in()->max_blocks != *max;
}

/*
 * The packet that brings the key exchange on is one on which the client is told something: libssh begins the exchange as soon as the
 * packet was handled, so what was written must be a whole packet by then.
 */
static void words_before_a_key_exchange(void)
{
	struct client_options o = gateway_client_options();
	struct client_chan_plan hold = {.command = "hold", .window_bytes = 64 * 1024, .keeps_input_open = true};
	struct client_chan_plan plan = {.command = "exit 3",
					.window_bytes = 64 * 1024,
					.command_bytes = 30000,
					.offers_agent = true,
					.has_pty = true};
	struct policy_values v = gw.config.policy;
	struct ssh_cipher_struct *in;
	uint64_t in_max;
	struct sim_client *c;
	struct client_chan *ch;

	v.agent = 0;
	gw.server.policy = policy_new(&v);
	gateway_never_rekeys();
	o.rekey_bytes = 0;
	o.cipher = sim_chance(50) ? "aes128-gcm@openssh.com" : "chacha20-poly1305@openssh.com";
	c = gateway_client(&o);
	ch = client_open(c, &hold);
	CHECK(sim_run(is_started, ch, sim.now_us + 600 * SECOND));
	in = cipher_in();
	in->max_blocks = in_max = in->blocks + 1000; /* that of the command */
	ch = client_open(c, &plan);
	CHECK(sim_run(is_closed, ch, sim.now_us + 600 * SECOND));
	CHECK(sim_run(has_other_keys, &in_max, sim.now_us + 60 * SECOND));
	CHECK(ch->end == CHAN_END_STATUS && ch->status == 3);
	CHECK(strncmp(ch->error_text, "ringgate: ", 10) == 0);
	client_disconnect(c);
	client_free(c);
	CHECK(sim_run(no_sessions, NULL, sim.now_us + 10 * SECOND));
	policy_put(gw.server.policy);
}
SCENARIO(words_before_a_key_exchange, 20)

/* --- the session ends inside a read --- */

static uint32_t opens_seen;

/* As where there is no memory for what the packet asks for. */
static enum chan_answer close_session(struct chan *ch, const struct chan_open *o)
{
	opens_seen++;
	session_close(conn_owner(chan_conn(ch)), "out of memory");
	return CHAN_NO;
}

/*
 * A session that ends while one packet of a read is handled is not given the others: they would connect to procd, or ask where the
 * sandbox is, for a session that is about to be freed.
 */
static void ends_inside_a_read(void)
{
	struct client_options o = gateway_client_options();
	struct client_chan_plan plan = {.command = "tcp", .window_bytes = 64 * 1024};
	static struct conn_events events;
	struct conn *conn;
	struct sim_client *c;

	gateway_never_rekeys();
	o.rekey_bytes = 0;
	sim.weather.chunk_max = 64 * 1024;
	c = gateway_client(&o);
	CHECK(sim_run(is_on_the_worker, NULL, sim.now_us + 60 * SECOND));
	CHECK(sim_run(client_live, c, sim.now_us + 60 * SECOND));
	conn = gateway_session()->conn;
	events = *conn->events;
	events.on_chan_open = close_session;
	conn->events = &events;
	opens_seen = 0;
	for (uint32_t i = 0; i < 8; i++)
		client_open(c, &plan);
	CHECK(sim_run(no_sessions, NULL, sim.now_us + SESSION_LINGER_MS * 1000 + 60 * SECOND));
	CHECK(opens_seen == 1 && gw.places[0].connect_count == 0);
	client_free(c);
}
SCENARIO(ends_inside_a_read, 20)

/* --- deadlines --- */

/* SUCCESS waits behind much that the client does not read: he has a while for that, and no longer. */
static void answer_to_login_is_not_taken(void)
{
	struct client_options o = gateway_client_options();
	uint64_t start = sim.now_us;
	struct sim_client *c;

	o.junk_count = LOGIN_OUT_MAX / 64; /* each answer has some 48 bytes: the gateway reads on */
	gw.config.login.grace_s = 10;
	gw.config.session.keepalive_s = 0;
	sim.weather.socket_bytes = 2048;
	c = gateway_client(&o);
	CHECK(sim_run(no_sessions, NULL, start + 3600ull * SECOND));
	CHECK(gw.route_count == 1 && gw.server.counters.auth_timeout == 0 && !c->is_authenticated);
	CHECK(sim.now_us >= start + SESSION_MOVE_MS * 1000ull);
	CHECK(sim.now_us <=
	      start + (gw.config.login.grace_s + 1ull) * SECOND + (SESSION_MOVE_MS + SESSION_LINGER_MS) * 1000ull);
	client_free(c);
}
SCENARIO(answer_to_login_is_not_taken, 40)

static bool no_links(void *ctx)
{
	gateway_watch();
	return gateway_session() && gateway_session()->bridge.links.count == 0;
}

static bool all_is_sent(void *ctx)
{
	const struct client_chan *ch = ctx;

	gateway_watch();
	return ch->is_started && ch->peer_window == 0;
}

/* What he had sent waits for credit that does not come: it is dropped, so that CLOSE reaches procd and hangs the program up. */
static void client_gives_a_channel_up(void)
{
	struct client_options o = gateway_client_options();
	struct client_chan_plan plan = {
		.command = "hold", .up_bytes = 3000000, .packet_max = 32 * 1024, .window_bytes = 64 * 1024};
	struct sim_client *c;
	struct client_chan *ch;
	uint64_t closed;

	gw.places[0].plan.credit_bytes = sim_between(1, LINK_WINDOW_FIRST - 1);
	c = gateway_client(&o);
	ch = client_open(c, &plan);
	CHECK(sim_run(all_is_sent, ch, sim.now_us + 3600ull * SECOND));
	ch->plan.close_percent = 100;
	CHECK(sim_run(client_done, c, sim.now_us + 60 * SECOND) && c->state == CLIENT_LIVE);
	closed = sim.now_us;
	CHECK(sim_run(no_links, NULL, closed + SESSION_LINGER_MS * 1000 + SECOND));
	check_next_channel(c);
	client_disconnect(c);
	client_free(c);
}
SCENARIO(client_gives_a_channel_up, 40)

/* --- limits --- */

/*
 * Opens, starts something with a long command and closes, one after the other: procd is to be told of each, and a client that is not
 * read any more has no channel open.
 */
static bool open_and_close(struct sim_client *c)
{
	struct client_chan_plan plan = {
		.command = "hold", .window_bytes = 64 * 1024, .close_percent = 100, .command_bytes = 30000};

	if (c->flood_count >= 1000 || !client_is_done(c))
		return false;
	client_open(c, &plan);
	c->flood_count++;
	return true;
}

static bool is_paused(void *ctx)
{
	gateway_watch();
	return gateway_session() && gateway_session()->is_recv_paused;
}

static bool flood_is_over(void *ctx)
{
	const struct sim_client *c = ctx;

	gateway_watch();
	return c->state == CLIENT_ENDED || (c->flood_count == 1000 && client_is_done(c));
}

/* The client was not read for what waited for procd. With procd all that is gone, and nothing is sent to the client that would show it. */
static void procd_ends_while_the_client_is_not_read(void)
{
	struct client_options o = gateway_client_options();
	struct procd_plan *p = &gw.places[0].plan;
	struct sim_client *c;

	gateway_never_rekeys();
	o.rekey_bytes = 0;
	p->stops_reading_after_open = p->never_opens = true;
	p->lifetime_us = 1000 * SECOND;
	p->is_reset = sim_chance(50);
	gw.places[0].has_later = true;
	gw.config.procd.ping_s = 3600;
	gw.config.session.keepalive_s = 0;
	sim.weather.chunk_max = 64 * 1024;
	c = gateway_client(&o);
	c->on_live = open_and_close;
	CHECK(sim_run(is_paused, NULL, sim.now_us + 900 * SECOND));
	CHECK(sim_run(flood_is_over, c, sim.now_us + 3600ull * SECOND));
	CHECK(c->state == CLIENT_LIVE && gw.places[0].connect_count == 2);
	client_disconnect(c);
	client_free(c);
}
SCENARIO(procd_ends_while_the_client_is_not_read, 10)

/* All channels that a connection may have wait for a procd that takes nothing: what they hold stays within the budget. */
static void channels_wait(void)
{
	struct client_options o = gateway_client_options();
	struct client_chan_plan plan = {.command = "sink", .up_bytes = 1000000, .window_bytes = 64 * 1024};
	uint32_t count = gw.config.session.max_channels;
	struct links *all;
	uint64_t held = 0;
	struct sim_client *c;

	CHECK(count == CLIENT_CHANS_MAX);
	sim.weather.chunk_max = 64 * 1024;
	plan.packet_max = sim_chance(50) ? 32 * 1024 : 500;
	gw.places[0].plan.never_opens = true;
	c = gateway_client(&o);
	for (uint32_t i = 0; i < count; i++)
		CHECK(client_open(c, &plan));
	(void)sim_run(never, NULL, sim.now_us + 30 * SECOND); /* the deadline of OPEN is later */
	CHECK(c->state == CLIENT_LIVE);
	all = &gateway_session()->bridge.links;
	CHECK(all->count == count && all->up_total == count * LINK_WINDOW_FIRST);
	CHECK(all->up_total <= SESSION_UP_BUDGET);
	for (struct list *n = all->list.next; n != &all->list; n = n->next)
		held += CONTAINER_OF(n, struct link, node)->up.bytes;
	CHECK(held == all->up_total); /* he used all that he was given */
	/* A chunk for each, and a few on the way to either side. */
	CHECK(gw.chunks_max <= count + 8);
	client_vanish(c, sim_chance(50));
	client_free(c);
}
SCENARIO(channels_wait, 5)
