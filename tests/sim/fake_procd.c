#include "tests/sim/fake_procd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct frame_sink sink;

static void send_frame(struct fake_procd *p, const struct frame *f)
{
	uint8_t buf[FRAME_SMALL_MAX];
	ssize_t n = frame_encode(f, buf, sizeof(buf));

	ASSERT(n > 0);
	ASSERT(chain_append(&p->out, buf, (size_t)n) == 0);
	p->event_count++;
}

static void send_simple(struct fake_procd *p, uint32_t channel, uint32_t type)
{
	send_frame(p, &(struct frame){.type = type, .channel = channel});
}

static void send_data(struct fake_procd *p, struct procd_chan *ch, uint32_t stream, const uint8_t *data, uint32_t n)
{
	uint8_t head[FRAME_DATA_HEADER_MAX];
	size_t head_bytes = frame_encode_data_head(ch->number, stream, n, head);

	ASSERT(n <= ch->credit);
	ch->credit -= n;
	ASSERT(chain_append(&p->out, head, head_bytes) == 0 && chain_append(&p->out, data, n) == 0);
	p->event_count++;
}

static struct procd_chan *find(struct fake_procd *p, uint32_t number)
{
	for (uint32_t i = 0; i < p->chan_count; i++)
		if (p->chans[i].number == number)
			return &p->chans[i];
	return NULL;
}

static void drop(struct fake_procd *p, struct procd_chan *ch)
{
	chain_clear(&ch->held);
	*ch = p->chans[--p->chan_count];
}

/* --- frames that come --- */

static void on_hello(struct fake_procd *p, const struct frame *f)
{
	struct frame welcome = {.type = FRAME_WELCOME};
	uint8_t signature[FRAME_SIGNATURE_BYTES];
	struct ticket t;

	CHECK(!p->is_hello_seen && f->type == FRAME_HELLO && f->hello.version == FRAME_VERSION);
	CHECK(proof_hello_verify(p->plan.gateway, p->challenge, f->hello.ticket, f->hello.signature));
	CHECK(ticket_decode(f->hello.ticket, &t) == 0);
	CHECK(strncmp(t.sandbox, "sb-", 3) == 0 && strcmp(t.user, "user1") == 0);
	p->is_hello_seen = true;
	if (p->plan.never_welcomes)
		return;
	if (p->plan.says_wrong_sandbox) {
		struct frame e = {.type = FRAME_ERROR};

		e.error.code = bytes_str("wrong-sandbox");
		e.error.message = bytes_str("not me");
		send_frame(p, &e);
		p->is_at_end = true;
		return;
	}
	proof_welcome_sign(p->plan.secret, p->challenge, f->hello.ticket, signature);
	welcome.welcome.version = FRAME_VERSION;
	welcome.welcome.signature = bytes_of(signature, sizeof(signature));
	send_frame(p, &welcome);
	p->is_ready = true;
}

static void on_open(struct fake_procd *p, const struct frame *f)
{
	struct frame answer = {.type = FRAME_OPENED, .channel = f->channel};
	struct procd_chan *ch;
	size_t n;

	CHECK(f->channel % 2 == 0 && f->channel > p->last_number);
	p->last_number = f->channel;
	if (p->open_seen++ == 0)
		p->opened_us = sim.now_us;
	if (p->plan.never_opens)
		return;
	if (p->chan_count == PROCD_CHANS_MAX || sim_chance(p->plan.refuse_percent)) {
		answer.type = FRAME_REFUSED;
		answer.error.code = bytes_str(sim_chance(50) ? "denied" : "not-found");
		answer.error.message = bytes_str("no");
		send_frame(p, &answer);
		return;
	}
	ch = &p->chans[p->chan_count++];
	*ch = (struct procd_chan){.number = f->channel, .credit = f->open.credit};
	chain_init(&ch->held, &p->pool);
	ch->is_tcp = bytes_is(f->open.kind, "tcp");
	n = f->open.options.command.n < sizeof(ch->command) - 1 ? f->open.options.command.n : sizeof(ch->command) - 1;
	if (n > 0)
		memcpy(ch->command, f->open.options.command.p, n);
	if (n == 0)
		strcpy(ch->command, "echo"); /* the subsystem, tcp */
	if (strncmp(ch->command, "flood ", 6) == 0)
		ch->to_send = strtoull(ch->command + 6, NULL, 10);
	if (strncmp(ch->command, "exit ", 5) == 0)
		ch->status = (uint32_t)strtoul(ch->command + 5, NULL, 10);
}

static int on_frame(void *ctx, const struct frame *f)
{
	struct fake_procd *p = ctx;
	struct procd_chan *ch;

	p->event_count++;
	if (f->type == FRAME_PING) {
		send_frame(p, &(struct frame){.type = FRAME_PONG, .opaque = f->opaque});
		return 0;
	}
	if (f->type == FRAME_PONG)
		return 0;
	if (!p->is_ready) {
		on_hello(p, f);
		return 0;
	}
	CHECK(!p->plan.is_wrong); /* not a byte behind HELLO to one that is not the sandbox */
	if (f->type == FRAME_OPEN) {
		on_open(p, f);
		return 0;
	}
	CHECK(f->channel != 0 && f->channel <= p->last_number);
	ch = find(p, f->channel);
	if (!ch)
		return 0; /* refused, or never answered */
	CHECK(!ch->is_close_seen);
	switch (f->type) {
	case FRAME_CREDIT:
		CHECK(f->credit > 0 && f->credit <= 64 * 1024 * 1024);
		ch->credit += f->credit;
		break;
	case FRAME_EOF:
		CHECK(!ch->is_eof_seen);
		ch->is_eof_seen = true;
		break;
	case FRAME_CLOSE:
		ch->is_close_seen = true;
		break;
	case FRAME_RESIZE:
	case FRAME_SIGNAL:
		break;
	default:
		CHECK(!"a frame that no gateway sends");
	}
	return 0;
}

static int on_data(void *ctx, uint32_t channel, uint32_t stream, struct bytes piece, uint32_t left)
{
	struct fake_procd *p = ctx;
	struct procd_chan *ch = find(p, channel);

	p->event_count++;
	(void)left;
	CHECK(p->is_ready && !p->plan.is_wrong && stream == 0);
	CHECK(ch && ch->is_opened && !ch->is_eof_seen && !ch->is_close_seen);
	CHECK(piece.n <= ch->granted);
	ch->granted -= (uint32_t)piece.n;
	ch->read += piece.n;
	if (strcmp(ch->command, "echo") == 0)
		ASSERT(chain_append(&ch->held, piece.p, piece.n) == 0);
	else if (strcmp(ch->command, "hold") != 0)
		ch->due += (uint32_t)piece.n;
	return 0;
}

static const struct frame_sink sink = {.on_frame = on_frame, .on_data = on_data};

/* --- what channels do by themselves --- */

/* Has that much time passed since the first OPEN? Otherwise it wakes up when it has. */
static bool has_passed(struct fake_procd *p, uint64_t us)
{
	uint64_t at = p->opened_us + us;

	if (sim.now_us < at && at < p->actor.wake_us)
		p->actor.wake_us = at;
	return sim.now_us >= at;
}

static bool finish(struct fake_procd *p, struct procd_chan *ch)
{
	struct frame f = {.type = FRAME_EXIT, .channel = ch->number, .exit_status = ch->status};

	if (!ch->is_exit_sent && !ch->is_tcp)
		send_frame(p, &f);
	ch->is_exit_sent = true;
	if (!ch->is_eof_sent)
		send_simple(p, ch->number, FRAME_EOF);
	ch->is_eof_sent = true;
	send_simple(p, ch->number, FRAME_CLOSE);
	ch->is_close_sent = true;
	return true;
}

static bool echo(struct fake_procd *p, struct procd_chan *ch)
{
	bool moved = false;
	struct iovec iov;

	while (ch->credit > 0 && p->out.bytes < 64 * 1024 && chain_iov(&ch->held, &iov, 1) == 1) {
		uint32_t n = iov.iov_len < ch->credit ? (uint32_t)iov.iov_len : ch->credit;

		n = sim_between(1, n < FRAME_DATA_MAX ? n : FRAME_DATA_MAX);
		send_data(p, ch, 0, iov.iov_base, n);
		chain_consume(&ch->held, n);
		ch->due += n;
		moved = true;
	}
	if (ch->is_eof_seen && ch->held.bytes == 0)
		return finish(p, ch);
	return moved;
}

static bool flood(struct fake_procd *p, struct procd_chan *ch)
{
	static const uint8_t zeroes[FRAME_DATA_MAX];
	bool moved = false;

	if (!has_passed(p, p->plan.silence_us))
		return false;
	while (ch->credit > 0 && ch->to_send > 0 && p->out.bytes < 256 * 1024) {
		uint32_t n = ch->credit < FRAME_DATA_MAX ? ch->credit : FRAME_DATA_MAX;

		n = ch->to_send < n ? (uint32_t)ch->to_send : n;
		n = sim_between(n / 2 ? n / 2 : 1, n);
		send_data(p, ch, sim_chance(10), zeroes, n);
		ch->to_send -= n;
		moved = true;
	}
	if (ch->to_send == 0)
		return finish(p, ch);
	return moved;
}

static bool step_chan(struct fake_procd *p, struct procd_chan *ch)
{
	bool moved = false;

	if (!ch->is_opened) {
		struct frame f = {.type = FRAME_OPENED, .channel = ch->number, .opened.credit = p->plan.credit_bytes};

		if (sim_chance(30))
			return true; /* takes its time */
		ch->granted = p->plan.credit_bytes;
		ch->is_opened = true;
		send_frame(p, &f);
		return true;
	}
	if (ch->is_close_sent)
		return false;
	if (ch->is_close_seen) {
		send_simple(p, ch->number, FRAME_CLOSE);
		ch->is_close_sent = true;
		return true;
	}
	if (strcmp(ch->command, "echo") == 0)
		moved = echo(p, ch);
	else if (strncmp(ch->command, "flood ", 6) == 0)
		moved = flood(p, ch);
	else if (strncmp(ch->command, "exit ", 5) == 0)
		moved = finish(p, ch);
	else if (strcmp(ch->command, "sink") == 0 && ch->is_eof_seen)
		moved = finish(p, ch);
	if (ch->due > 0 && !ch->is_close_sent && !p->plan.stops_granting &&
	    (ch->due >= p->plan.credit_bytes / 4 || sim_chance(10))) {
		send_frame(p, &(struct frame){.type = FRAME_CREDIT, .channel = ch->number, .credit = ch->due});
		ch->granted += ch->due;
		ch->due = 0;
		moved = true;
	}
	return moved;
}

static bool is_deaf(const struct fake_procd *p)
{
	return p->is_ready && (p->plan.stops_reading || (p->plan.stops_reading_after_open && p->open_seen > 0));
}

static bool receive(struct fake_procd *p)
{
	uint8_t buf[64 * 1024];
	size_t n;

	if (is_deaf(p))
		return false;
	n = sim_socket_read(p->socket, buf, sim_between(1, sim.weather.chunk_max));
	if (n > 0)
		CHECK(frame_reader_feed(&p->reader, buf, n) == 0);
	return n > 0;
}

static bool transmit(struct fake_procd *p)
{
	struct iovec iov;
	bool moved = false;

	while (chain_iov(&p->out, &iov, 1) == 1) {
		size_t n = sim_between(1, (uint32_t)iov.iov_len);
		size_t took = sim_socket_write(p->socket, iov.iov_base, n);

		chain_consume(&p->out, took);
		if (took == 0)
			break;
		moved = true;
	}
	return moved;
}

static void garbage(struct fake_procd *p)
{
	uint8_t junk[64];
	struct frame f = {.type = FRAME_CREDIT, .channel = 2, .credit = UINT32_MAX};

	p->has_sent_garbage = true;
	p->is_at_end = true; /* where the junk looks like a long frame the gateway waits for the rest of it */
	switch (sim_random(5)) {
	case 0: /* no frame at all */
		for (size_t i = 0; i < sizeof(junk); i++)
			junk[i] = (uint8_t)sim_random64();
		ASSERT(chain_append(&p->out, junk, sizeof(junk)) == 0);
		return;
	case 1: /* more credit than makes sense */
		break;
	case 2: /* for a channel that was never opened */
		f = (struct frame){.type = FRAME_CLOSE, .channel = 4000};
		break;
	case 3: /* of its own */
		f = (struct frame){.type = FRAME_OPENED, .channel = 3, .opened.credit = 1};
		break;
	case 4: /* twice */
		f = (struct frame){.type = FRAME_WELCOME};
		f.welcome.version = FRAME_VERSION;
		f.welcome.signature = bytes_of(junk, 0);
		break;
	}
	send_frame(p, &f);
}

static void end(struct fake_procd *p, bool is_reset)
{
	for (uint32_t i = p->chan_count; i > 0; i--)
		drop(p, &p->chans[i - 1]);
	sim_socket_close(p->socket, is_reset);
	sim_actor_stop(&p->actor);
	chain_clear(&p->out);
	chunk_pool_deinit(&p->pool);
	frame_reader_deinit(&p->reader);
	free(p);
}

static bool step(struct sim_actor *a)
{
	struct fake_procd *p = CONTAINER_OF(a, struct fake_procd, actor);
	bool moved;

	if (*p->plan.is_gone) {
		end(p, p->plan.is_reset);
		return true;
	}
	if (*p->plan.is_frozen && p->socket->peer)
		return false;
	moved = receive(p);
	if ((p->plan.end_after > 0 && p->event_count >= p->plan.end_after) ||
	    (p->plan.lifetime_us > 0 && p->open_seen > 0 && has_passed(p, p->plan.lifetime_us))) {
		end(p, p->plan.is_reset);
		return true;
	}
	if (p->plan.garbage_after > 0 && p->event_count >= p->plan.garbage_after && !p->has_sent_garbage)
		garbage(p);
	if (p->is_ready && !p->has_sent_garbage)
		for (uint32_t i = p->chan_count; i > 0; i--) {
			moved |= step_chan(p, &p->chans[i - 1]);
			if (p->chans[i - 1].is_close_sent && p->chans[i - 1].is_close_seen)
				drop(p, &p->chans[i - 1]);
		}
	if (p->is_ready && p->plan.floods_pings)
		for (int i = 0; i < 100 && p->out.bytes < 64 * 1024; i++)
			send_frame(p, &(struct frame){.type = FRAME_PING, .opaque = p->event_count});
	moved |= transmit(p);
	/* While nothing is read the stream's end does not show either; the writer finds out. */
	if (sim_socket_has_ended(p->socket) || (is_deaf(p) && !p->socket->peer) ||
	    (p->is_at_end && p->out.bytes == 0)) {
		end(p, false);
		return true;
	}
	return moved;
}

struct fake_procd *procd_start(struct sim_socket *s, const struct procd_plan *plan)
{
	struct fake_procd *p = calloc(1, sizeof(*p));
	struct frame f = {.type = FRAME_CHALLENGE};

	ASSERT(p);
	p->socket = s;
	p->plan = *plan;
	chunk_pool_init(&p->pool);
	chain_init(&p->out, &p->pool);
	frame_reader_init(&p->reader, &sink, p);
	for (size_t i = 0; i < sizeof(p->challenge); i++)
		p->challenge[i] = (uint8_t)sim_random64();
	f.challenge.version = FRAME_VERSION;
	f.challenge.nonce = bytes_of(p->challenge, sizeof(p->challenge));
	if (!plan->says_nothing)
		send_frame(p, &f);
	sim_actor_start(&p->actor, step);
	return p;
}

void procd_stop(struct fake_procd *p, bool is_reset)
{
	end(p, is_reset);
}
