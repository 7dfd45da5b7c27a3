/*
 * procd/channel.c - see channel.h.
 */
#include "procd/channel.h"

#include "procd/session.h"

#include <errno.h>
#include <stdlib.h>

/* We opened it. */
static bool is_own(const struct channel *c)
{
	return c->number % 2 != 0;
}

bool channel_number_was_used(const struct session *s, uint32_t number)
{
	return number <= (number % 2 == 0 ? s->highest_number : s->highest_own);
}

static struct list *bucket(struct session *s, uint32_t number)
{
	return &s->buckets[(number / 2) % CHANNEL_BUCKETS];
}

struct channel *channel_find(const struct session *s, uint32_t number)
{
	const struct list *head = &s->buckets[(number / 2) % CHANNEL_BUCKETS];

	if (s->last_found && s->last_found->number == number)
		return s->last_found;
	for (struct list *l = head->next; l != head; l = l->next) {
		struct channel *c = CONTAINER_OF(l, struct channel, in_bucket);

		if (c->number == number)
			return c;
	}
	return NULL;
}

/* --- credit that we give --- */

/* Takes up to `want` of the shared budget. */
static uint32_t budget_take(struct session *s, uint32_t want)
{
	uint32_t n = want < s->budget_left ? want : s->budget_left;

	s->budget_left -= n;
	return n;
}

/* A channel that used its whole window gets a larger one, as long as there is budget for all. */
static void window_raise(struct channel *c)
{
	uint32_t more = c->window < WINDOW_MAX - c->window ? c->window : WINDOW_MAX - c->window;

	if (c->used < c->window)
		return;
	c->used = 0;
	c->window += budget_take(c->session, more);
}

void channel_consumed(struct channel *c, uint32_t n)
{
	struct frame f = {.type = FRAME_CREDIT};
	uint32_t room;

	ASSERT(n <= c->held);
	c->held -= n;
	if (c->state != CHANNEL_OPEN || c->is_eof_in || c->is_close_in)
		return;
	window_raise(c);
	ASSERT(c->granted + c->held <= c->window);
	room = c->window - c->granted - c->held;
	if (room < c->window / 4)
		return;
	c->granted += room;
	f.credit = room;
	channel_send_urgent(c, &f);
}

/* --- sending --- */

void channel_send_urgent(struct channel *c, struct frame *f)
{
	f->channel = c->number;
	session_urgent(c->session, f);
}

void channel_send(struct channel *c, struct frame *f)
{
	f->channel = c->number;
	if (c->is_urgent)
		session_urgent(c->session, f);
	else
		outq_add(&c->session->out, f);
}

void channel_send_eof(struct channel *c)
{
	struct frame f = {.type = FRAME_EOF};

	c->is_eof_out = true;
	channel_send(c, &f);
}

void channel_close(struct channel *c)
{
	struct frame f = {.type = FRAME_CLOSE};

	channel_send(c, &f);
	channel_end(c);
}

void channel_ready(struct channel *c)
{
	if (c->state != CHANNEL_OPEN)
		return;
	list_del(&c->in_ready);
	/* Terminals first. */
	if (c->is_urgent)
		list_add_head(&c->session->ready, &c->in_ready);
	else
		list_add_tail(&c->session->ready, &c->in_ready);
}

void channel_deadline(struct channel *c, uint64_t ms_from_now)
{
	c->deadline_ms = c->session->now_ms + ms_from_now;
}

/* --- opening and ending --- */

void channel_opened(struct channel *c)
{
	struct frame f = {.type = FRAME_OPENED, .opened.credit = c->window};

	ASSERT(c->state == CHANNEL_OPENING);
	c->state = CHANNEL_OPEN;
	c->granted = c->window;
	channel_send_urgent(c, &f);
	channel_ready(c);
}

int channel_refuse(struct channel *c, const char *code, const char *message)
{
	struct frame f = {.type = FRAME_REFUSED, .error = {bytes_str(code), bytes_str(message)}};

	ASSERT(c->state == CHANNEL_OPENING);
	channel_send_urgent(c, &f);
	channel_end(c);
	return -ECANCELED;
}

void channel_hold(struct channel *c)
{
	c->hold_count++;
}

void channel_unhold(struct channel *c)
{
	ASSERT(c->hold_count > 0);
	c->hold_count--;
}

void channel_end(struct channel *c)
{
	struct session *s = c->session;

	if (c->state == CHANNEL_GONE)
		return;
	if (c->state == CHANNEL_OPENING && is_own(c))
		s->offered_count--;
	c->state = CHANNEL_GONE;
	c->deadline_ms = 0;
	if (s->last_found == c)
		s->last_found = NULL;
	list_del(&c->in_bucket);
	list_del(&c->in_all);
	list_del(&c->in_ready);
	list_del(&c->in_input);
	s->channel_count--;
	if (c->window > WINDOW_RESERVE)
		s->budget_left += c->window - WINDOW_RESERVE;
	c->kind->end(c);
	list_add_tail(&s->graveyard, &c->in_grave);
}

/* What an OPEN may ask for. */
struct opening {
	const char *name;
	const struct channel_kind *kind;
	/* Calls channel_opened, now or later; or returns negative errno after channel_refuse. */
	int (*open)(struct channel *c, const struct frame *f);
};

static const struct opening *find_opening(const struct frame *f)
{
	static const struct opening openings[] = {
		{"shell", &process_kind, process_open_shell}, {"exec", &process_kind, process_open_exec},
		{"subsystem", &sftp_kind, sftp_open},         {"tcp", &tcp_kind, tcp_open},
		{"unix", &tcp_kind, tcp_open_unix},
	};

	for (size_t i = 0; i < ARRAY_LEN(openings); i++)
		if (bytes_is(f->open.kind, openings[i].name))
			return &openings[i];
	return NULL;
}

/* REFUSED for an OPEN that never became a channel. */
static void refuse(struct session *s, const struct frame *open, const char *code, const char *message)
{
	struct frame f = {
		.type = FRAME_REFUSED, .channel = open->channel, .error = {bytes_str(code), bytes_str(message)}};

	session_urgent(s, &f);
}

static struct channel *channel_new(struct session *s, const struct channel_kind *kind, uint32_t number)
{
	struct channel *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->session = s;
	c->kind = kind;
	c->number = number;
	c->state = CHANNEL_OPENING;
	c->window = WINDOW_RESERVE + budget_take(s, WINDOW_START - WINDOW_RESERVE);
	list_init(&c->in_ready);
	list_init(&c->in_input);
	list_init(&c->in_grave);
	list_add_tail(bucket(s, c->number), &c->in_bucket);
	list_add_tail(&s->channels, &c->in_all);
	s->channel_count++;
	return c;
}

int channel_open(struct session *s, const struct frame *f)
{
	const struct opening *o = find_opening(f);
	struct channel *c;
	int rc;

	if (f->channel % 2 != 0 || f->channel <= s->highest_number) {
		session_fail(s, "protocol", "OPEN with a number that is odd or was used before");
		return -EPROTO;
	}
	s->highest_number = f->channel;
	if (f->open.credit > SEND_CREDIT_MAX) {
		session_fail(s, "protocol", "too much credit");
		return -EPROTO;
	}
	if (s->state == SESSION_LEAVING) {
		refuse(s, f, "shutting-down", "the sandbox is shutting down");
		return 0;
	}
	if (!o) {
		refuse(s, f, "unknown-kind", "procd does not know this kind of channel");
		return 0;
	}
	if (s->channel_count >= CHANNELS_MAX) {
		refuse(s, f, "too-many-channels", "too many channels are open");
		return 0;
	}
	c = channel_new(s, o->kind, f->channel);
	if (!c) {
		refuse(s, f, "no-memory", "out of memory");
		return 0;
	}
	c->send_credit = f->open.credit;
	rc = o->open(c, f);
	ASSERT(rc == 0 || c->state == CHANNEL_GONE);
	return 0;
}

bool channel_may_offer(const struct session *s)
{
	return s->state == SESSION_READY && s->offered_count < OFFERED_MAX && s->channel_count < CHANNELS_MAX;
}

struct channel *channel_offer(struct session *s, const struct channel_kind *kind, struct frame *open)
{
	struct channel *c;

	ASSERT(channel_may_offer(s));
	c = channel_new(s, kind, s->highest_own == 0 ? 1 : s->highest_own + 2);
	if (!c)
		return NULL;
	s->highest_own = c->number;
	s->offered_count++;
	c->granted = c->window;
	open->open.credit = c->window;
	channel_send_urgent(c, open);
	return c;
}

/* --- frames of a channel --- */

static int on_answer(struct channel *c, const struct frame *f)
{
	if (!is_own(c) || c->state != CHANNEL_OPENING ||
	    (f->type == FRAME_OPENED && f->opened.credit > SEND_CREDIT_MAX)) {
		session_fail(c->session, "protocol", "an answer that makes no sense");
		return -EPROTO;
	}
	if (f->type == FRAME_REFUSED) {
		channel_end(c);
		return 0;
	}
	c->session->offered_count--;
	c->state = CHANNEL_OPEN;
	c->send_credit = f->opened.credit;
	channel_ready(c);
	return 0;
}

static int on_credit(struct channel *c, uint32_t credit)
{
	if (credit > SEND_CREDIT_MAX - c->send_credit) {
		session_fail(c->session, "protocol", "too much credit");
		return -EPROTO;
	}
	c->send_credit += credit;
	channel_ready(c);
	return 0;
}

static int on_close(struct channel *c)
{
	struct frame f = {.type = FRAME_CLOSE};

	c->is_close_in = true;
	if (c->state == CHANNEL_OPEN && c->kind->on_close && c->kind->on_close(c))
		return 0;
	if (c->state == CHANNEL_OPENING) {
		f.type = FRAME_REFUSED;
		f.error.code = bytes_str("denied");
		f.error.message = bytes_str("closed before it was open");
	}
	channel_send_urgent(c, &f);
	channel_end(c);
	return 0;
}

int channel_on_frame(struct channel *c, const struct frame *f)
{
	if (c->is_close_in)
		return 0;
	if (c->state == CHANNEL_OPENING && is_own(c) && f->type != FRAME_OPENED && f->type != FRAME_REFUSED) {
		session_fail(c->session, "protocol", "a frame before the answer to OPEN");
		return -EPROTO;
	}
	switch (f->type) {
	case FRAME_OPENED:
	case FRAME_REFUSED:
		return on_answer(c, f);
	case FRAME_CREDIT:
		return on_credit(c, f->credit);
	case FRAME_EOF:
		if (c->is_eof_in)
			break;
		c->is_eof_in = true;
		if (c->state == CHANNEL_OPEN)
			c->kind->on_eof(c);
		return 0;
	case FRAME_CLOSE:
		return on_close(c);
	case FRAME_RESIZE:
	case FRAME_SIGNAL:
		return c->kind->on_frame ? c->kind->on_frame(c, f) : 0;
	default:
		break;
	}
	session_fail(c->session, "protocol", "a frame that makes no sense on a channel");
	return -EPROTO;
}

int channel_on_data(struct channel *c, uint32_t stream, struct bytes piece)
{
	int rc;

	if (stream != 0 || c->is_eof_in || c->is_close_in || c->state != CHANNEL_OPEN) {
		session_fail(c->session, "protocol", "DATA that may not be sent");
		return -EPROTO;
	}
	if (piece.n > c->granted) {
		session_fail(c->session, "protocol", "DATA without credit");
		return -EPROTO;
	}
	c->granted -= (uint32_t)piece.n;
	c->held += (uint32_t)piece.n;
	c->used += (uint32_t)piece.n;
	list_del(&c->in_input);
	list_add_tail(&c->session->input_pending, &c->in_input);
	rc = c->kind->on_data(c, piece);
	if (rc < 0)
		session_fail(c->session, "no-memory", "out of memory");
	return rc;
}
