/*
 * procd/sftp_channel.c - see sftp_channel.h.
 *
 * Where the loop serves, input is used where it was read; what has to wait, and what is a thread's, is copied once, into blocks.
 * Output is not copied here: the server reads files straight into blocks, and batches are sent from them. A block is given back
 * when it was sent.
 */
#include "procd/sftp_channel.h"

#include "core/log.h"
#include "procd/channel.h"
#include "procd/session.h"
#include "procd/sftp.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct block {
	struct block *next;
	uint32_t start, end, size; /* what waits is data[start..end) */
	uint8_t data[];
};

/* --- blocks; with the lock held --- */

static struct block *block_new(struct sftp_channel *f, uint32_t size)
{
	struct block *b = size == SFTP_BLOCK_BYTES ? f->spare : NULL;

	if (b) {
		f->spare = b->next;
		f->spare_count--;
	} else {
		b = malloc(sizeof(*b) + size);
		if (!b)
			return NULL;
		b->size = size;
	}
	b->next = NULL;
	b->start = b->end = 0;
	return b;
}

/* Large blocks are kept for the next use: memory fresh from the kernel costs more than the copy into it. */
static void block_free(struct sftp_channel *f, struct block *b)
{
	if (b->size != SFTP_BLOCK_BYTES || f->spare_count == SFTP_SPARE_BLOCKS) {
		free(b);
		return;
	}
	b->next = f->spare;
	f->spare = b;
	f->spare_count++;
}

static void queue_add(struct block_queue *q, struct block *b)
{
	if (q->tail)
		q->tail->next = b;
	else
		q->head = b;
	q->tail = b;
}

static struct block *queue_pop(struct block_queue *q)
{
	struct block *b = q->head;

	q->head = b->next;
	if (!q->head)
		q->tail = NULL;
	return b;
}

static void queue_free(struct block_queue *q)
{
	while (q->head)
		free(queue_pop(q));
}

/* Wakes the loop, once until it looks. */
static void notify(struct sftp_channel *f, int notify_fd)
{
	const uint64_t one = 1;

	if (f->is_notified)
		return;
	f->is_notified = true;
	(void)!write(notify_fd, &one, sizeof(one));
}

/* The head of the input that has bytes, or NULL. */
static struct block *input_head(struct sftp_channel *f)
{
	struct block *b = f->in.head;

	/* Behind an empty block there may be another one; the last is left to the loop, which fills it. */
	while (b && b->start == b->end && b->next) {
		block_free(f, queue_pop(&f->in));
		b = f->in.head;
	}
	return b && b->start < b->end ? b : NULL;
}

/* --- the server's side: its thread, or the loop's in a step --- */

static struct sftp_channel *of(void *ctx)
{
	return &((struct channel *)ctx)->sftp;
}

static int notify_fd(void *ctx)
{
	return ((struct channel *)ctx)->session->notify_fd;
}

/* Waits for input. As sftp_io's. */
static ssize_t peek(struct channel *c, const uint8_t **ret_p)
{
	struct sftp_channel *f = &c->sftp;
	ssize_t n = 0;

	pthread_mutex_lock(&f->lock);
	for (;;) {
		const struct block *b = input_head(f);

		if (b) {
			*ret_p = b->data + b->start;
			n = b->end - b->start;
			break;
		}
		if (f->is_gone || f->is_eof)
			break;
		/* Before it waits for more, all that it has said must be on its way. */
		if (f->out_unannounced > 0)
			notify(f, c->session->notify_fd);
		f->out_unannounced = 0;
		pthread_cond_wait(&f->wake, &f->lock);
	}
	if (f->is_gone)
		n = -EPIPE;
	pthread_mutex_unlock(&f->lock);
	return n;
}

/* n bytes of input are done with; in_block: they lie in the input's head. */
static void consume(struct channel *c, size_t n, bool in_block)
{
	struct sftp_channel *f = &c->sftp;

	if (n == 0)
		return;
	pthread_mutex_lock(&f->lock);
	if (in_block) {
		ASSERT(f->in.head && n <= f->in.head->end - f->in.head->start);
		f->in.head->start += (uint32_t)n;
	}
	f->consumed += (uint32_t)n;
	if (f->consumed >= f->consumed_notice)
		notify(f, c->session->notify_fd);
	pthread_mutex_unlock(&f->lock);
}

static uint8_t *io_reserve(void *ctx, size_t n)
{
	struct sftp_channel *f = of(ctx);
	uint8_t *p = NULL;
	struct block *b;

	ASSERT(n <= SFTP_RESERVE_MAX);
	pthread_mutex_lock(&f->lock);
	if (f->out_bytes + n > SFTP_OUTPUT_BYTES && f->out_unannounced > 0) {
		notify(f, notify_fd(ctx));
		f->out_unannounced = 0;
	}
	while (f->out_bytes + n > SFTP_OUTPUT_BYTES && f->out_bytes > 0 && !f->is_gone)
		pthread_cond_wait(&f->wake, &f->lock);
	b = f->out.tail;
	/* All is sent: the same memory again, which is in the cache. */
	if (b && b == f->out.head && f->out_bytes == 0) {
		b->start = b->end = 0;
		f->cursor = NULL;
		f->cursor_at = 0;
	}
	if (!f->is_gone && (!b || b->size - b->end < n)) {
		b = block_new(f, SFTP_BLOCK_BYTES);
		if (b)
			queue_add(&f->out, b);
	}
	if (!f->is_gone && b)
		p = b->data + b->end;
	pthread_mutex_unlock(&f->lock);
	return p;
}

static int io_commit(void *ctx, size_t n)
{
	struct sftp_channel *f = of(ctx);
	int rc;

	pthread_mutex_lock(&f->lock);
	f->out.tail->end += (uint32_t)n;
	f->out_bytes += n;
	f->out_ready += n;
	rc = f->is_gone ? -EPIPE : 0;
	/* Short answers are gathered: each wake of the loop costs more than they do. */
	if (f->is_threaded)
		f->out_unannounced += SFTP_ANSWER_COST + (uint32_t)n;
	if (f->out_unannounced >= SFTP_ANNOUNCE) {
		notify(f, notify_fd(ctx));
		f->out_unannounced = 0;
	}
	pthread_mutex_unlock(&f->lock);
	return rc;
}

static bool io_is_gone(void *ctx)
{
	struct sftp_channel *f = of(ctx);
	bool is_gone;

	pthread_mutex_lock(&f->lock);
	is_gone = f->is_gone;
	pthread_mutex_unlock(&f->lock);
	return is_gone;
}

static void io_tell(void *ctx)
{
	struct sftp_channel *f = of(ctx);

	pthread_mutex_lock(&f->lock);
	f->is_tell_wanted = true; /* the answer that follows wakes the loop */
	pthread_mutex_unlock(&f->lock);
}

/* Makes the server; else gives it n bytes, none at the input's end. 0, 1 when that is its end, or negative errno, its end too. */
static int work(struct sftp_channel *f, const uint8_t *p, size_t n)
{
	int rc = 0;

	if (!f->server) {
		f->server = sftp_new(&f->io, &f->options);
		return f->server ? 0 : -ENOMEM;
	}
	if (n > 0)
		rc = sftp_take(f->server, p, n);
	else
		rc = sftp_is_between(f->server) ? 1 : -EPIPE;
	if (rc != 0) {
		sftp_free(f->server);
		f->server = NULL;
	}
	return rc;
}

/* The bytes of the next step. */
static size_t next(const struct sftp_channel *f, const uint8_t *p, size_t n)
{
	/* Without a server it is only made: that may take long, too. */
	return n > 0 && f->server ? sftp_next(f->server, p, n) : 0;
}

/* The calling thread has lost the loop in a step: it is the server's from now on, and returns when that has ended. */
static void serve_apart(struct channel *c, int rc)
{
	struct sftp_channel *f = &c->sftp;

	while (rc == 0) {
		const uint8_t *p = NULL;
		ssize_t n = peek(c, &p);
		size_t taken;

		if (n < 0)
			n = 0; /* gone */
		taken = next(f, p, (size_t)n);
		rc = work(f, p, taken);
		consume(c, taken, true);
	}
	pthread_mutex_lock(&f->lock);
	f->result = rc;
	f->is_ended = true;
	notify(f, c->session->notify_fd);
	pthread_mutex_unlock(&f->lock);
}

/* --- the loop's side --- */

static void guard_wanted(struct session *s)
{
	if (!guard_start(&s->guard))
		log_event(LOG_WARN, "no_guard", LOG_STR("reason", "no thread: files that hang hold up the stream"));
}

/* What is told to who writes. False: no memory. */
static bool read_only_set(struct sftp_channel *f, struct bytes message)
{
	if (message.n == 0)
		message = bytes_str("these files may only be read");
	if (message.n > FRAME_MESSAGE_MAX)
		message.n = FRAME_MESSAGE_MAX;
	f->read_only = strndup((const char *)message.p, message.n);
	return f->read_only != NULL;
}

int sftp_open(struct channel *c, const struct frame *open)
{
	struct sftp_channel *f = &c->sftp;
	bool is_read_only = bytes_is(open->open.options.name, FRAME_SFTP_READ_ONLY);

	if (!is_read_only && !bytes_is(open->open.options.name, "sftp"))
		return channel_refuse(c, "unknown-subsystem", "this sandbox has no such subsystem");
	if (c->session->sftp_count >= SFTP_CHANNELS_MAX)
		return channel_refuse(c, "too-many-channels", "too many SFTP sessions are open");
	if (is_read_only && !read_only_set(f, open->open.options.message))
		return channel_refuse(c, "no-memory", "no memory for SFTP");
	guard_wanted(c->session);
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->wake, NULL);
	f->consumed_notice = c->window / 4;
	f->io = (struct sftp_io){
		.ctx = c,
		.reserve = io_reserve,
		.commit = io_commit,
		.is_gone = io_is_gone,
		.tell = io_tell,
	};
	f->options = (struct sftp_options){
		.home = c->session->user.home,
		.is_read_only = is_read_only,
		.read_only = f->read_only,
	};
	list_init(&f->in_serving);
	f->is_live = true;
	c->session->sftp_count++;
	channel_hold(c);
	channel_opened(c);
	return 0;
}

/* Ends what the server is here, once it has ended, and so has its channel. */
static void bury(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;
	bool is_ended;

	pthread_mutex_lock(&f->lock);
	is_ended = f->is_ended;
	pthread_mutex_unlock(&f->lock);
	if (!f->is_live || !is_ended || c->state != CHANNEL_GONE || f->borrowed > 0 || f->is_told_borrowed)
		return;
	f->is_live = false;
	list_del(&f->in_serving);
	c->session->sftp_count--;
	channel_unhold(c);
}

/* Room behind the input's tail for the next piece. */
static struct block *input_tail(struct channel *c, uint32_t n)
{
	struct sftp_channel *f = &c->sftp;
	struct block *b = f->in.tail;

	if (b && f->filled == 0 && b->start == b->end)
		b->start = b->end = 0;
	if (b && b->size - b->end - f->filled >= n)
		return b;
	/* The server may go on with what is there while a new block is filled. */
	if (b)
		b->end += f->filled;
	f->filled = 0;
	b = block_new(f, c->window > WINDOW_START ? SFTP_BLOCK_BYTES : WINDOW_START);
	if (b)
		queue_add(&f->in, b);
	return b;
}

static int input_copy(struct channel *c, struct bytes piece)
{
	struct sftp_channel *f = &c->sftp;
	struct block *b;

	pthread_mutex_lock(&f->lock);
	b = input_tail(c, (uint32_t)piece.n);
	pthread_mutex_unlock(&f->lock);
	if (!b)
		return -ENOMEM;
	/* Behind end nobody looks. */
	memcpy(b->data + b->end + f->filled, piece.p, piece.n);
	f->filled += (uint32_t)piece.n;
	return 0;
}

/* The pieces that were not served must not stay where they lie. */
static int input_keep(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;
	int rc = 0;

	while (f->piece_at < f->piece_count && rc == 0) {
		const struct iovec *v = &f->pieces[f->piece_at++];

		rc = input_copy(c, bytes_of(v->iov_base, v->iov_len));
	}
	f->piece_at = f->piece_count = 0;
	return rc;
}

static int sftp_on_data(struct channel *c, struct bytes piece)
{
	struct sftp_channel *f = &c->sftp;
	int rc;

	/* Without the lock: where the loop serves it is alone with the blocks. */
	if (!f->is_threaded && f->filled == 0 && !input_head(f) && f->piece_count < SFTP_PIECES) {
		f->pieces[f->piece_count++] =
			(struct iovec){.iov_base = (void *)(uintptr_t)piece.p, .iov_len = piece.n};
		return 0;
	}
	rc = input_keep(c);
	return rc < 0 ? rc : input_copy(c, piece);
}

/* Something for the server to do, on the loop. */
static void want(struct channel *c)
{
	if (list_is_empty(&c->sftp.in_serving))
		list_add_tail(&c->session->serving, &c->sftp.in_serving);
}

/* What was copied may be served. */
static void input_publish(struct sftp_channel *f)
{
	pthread_mutex_lock(&f->lock);
	if (f->in.tail)
		f->in.tail->end += f->filled;
	f->filled = 0;
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
}

static int sftp_on_input(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;

	if (f->filled > 0)
		input_publish(f);
	if (!f->is_threaded)
		want(c);
	return 0;
}

static void sftp_on_eof(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;

	pthread_mutex_lock(&f->lock);
	f->is_eof = true;
	pthread_mutex_unlock(&f->lock);
	input_publish(f);
	if (!f->is_threaded)
		want(c);
}

/* --- serving on the loop --- */

/* The input's next bytes that lie in one piece; 0: there are none. *ret_is_piece: not in a block. */
static size_t input_peek(struct sftp_channel *f, const uint8_t **ret_p, bool *ret_is_piece)
{
	const struct block *b = input_head(f);
	const struct iovec *v = &f->pieces[f->piece_at];

	*ret_is_piece = !b;
	*ret_p = NULL;
	if (b) {
		*ret_p = b->data + b->start;
		return b->end - b->start;
	}
	if (f->piece_at == f->piece_count)
		return 0;
	*ret_p = v->iov_base;
	return v->iov_len;
}

static void piece_consume(struct sftp_channel *f, size_t n)
{
	struct iovec *v = &f->pieces[f->piece_at];

	v->iov_base = (uint8_t *)v->iov_base + n;
	v->iov_len -= n;
	if (v->iov_len == 0)
		f->piece_at++;
}

/* One step. False: the thread has lost the loop, and the server has ended. */
static bool step(struct channel *c, const uint8_t *p, size_t n, bool is_piece)
{
	struct session *s = c->session;
	struct sftp_channel *f = &c->sftp;
	uint64_t number;
	int rc;

	/* A piece is what the next loop's thread does not have to keep; a block is this thread's until it has consumed. */
	if (is_piece && n > 0)
		piece_consume(f, n);
	s->served = c;
	number = guard_enter(&s->guard);
	rc = work(f, p, n);
	if (!guard_leave(&s->guard, number)) {
		consume(c, n, !is_piece);
		serve_apart(c, rc);
		return false;
	}
	if (!is_piece)
		f->in.head->start += (uint32_t)n;
	if (n > 0)
		channel_consumed(c, (uint32_t)n);
	if (rc != 0) {
		f->result = rc;
		f->is_ended = true;
	}
	return true;
}

/* What was not served waits in blocks. */
static void keep(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;

	if (input_keep(c) < 0)
		session_fail(c->session, "no-memory", "out of memory");
	if (f->filled > 0)
		input_publish(f);
}

/*
 * Steps until there is nothing to do, or output is full, or the turn is over. Output that is not full has room for any answer. False:
 * see step.
 */
static bool serve_turn(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;
	uint64_t until = now_ms() + SFTP_TURN_MS;
	size_t weight = 0;

	while (!f->is_ended) {
		size_t before = f->out_bytes, n = 0;
		const uint8_t *p = NULL;
		bool is_piece = true;

		if (!f->is_gone)
			n = input_peek(f, &p, &is_piece);
		if (n == 0 && f->server && !f->is_gone && !f->is_eof)
			break;
		f->is_full = f->out_bytes >= SFTP_LOOP_OUTPUT_BYTES && !f->is_gone;
		if (f->is_full)
			break;
		if (weight >= SFTP_TURN_BYTES || (weight > 0 && now_ms() >= until)) {
			want(c);
			break;
		}
		n = next(f, p, n);
		if (!step(c, p, n, is_piece))
			return false;
		weight += SFTP_ANSWER_COST + n + (f->out_bytes - before);
	}
	return true;
}

bool sftp_channels_serve(struct session *s)
{
	uint32_t turn = ++s->serving_turn;

	while (!list_is_empty(&s->serving)) {
		struct channel *c = CONTAINER_OF(s->serving.next, struct channel, sftp.in_serving);

		if (c->sftp.turn == turn)
			break;
		c->sftp.turn = turn;
		list_del(&c->sftp.in_serving);
		if (!serve_turn(c))
			return false;
		keep(c);
		channel_ready(c);
		bury(c);
	}
	return true;
}

void sftp_channels_taken_over(struct session *s)
{
	struct channel *c = s->served;

	pthread_mutex_lock(&c->sftp.lock);
	c->sftp.is_threaded = true;
	pthread_mutex_unlock(&c->sftp.lock);
	list_del(&c->sftp.in_serving);
	keep(c);
	for (struct list *l = s->serving.next; l != &s->serving; l = l->next)
		keep(CONTAINER_OF(l, struct channel, sftp.in_serving));
	/* The step may still write from what was read last. */
	c->sftp.old_input = s->input;
	s->input = malloc(READ_BYTES);
	if (!s->input)
		session_fail(s, "no-memory", "out of memory");
	log_event(LOG_INFO, "files_hang", LOG_U64("channel", c->number));
	guard_wanted(s);
	/* It may have answered before it could see that it is alone. */
	channel_ready(c);
}

/* --- output --- */

/* Both are asked by the loop often: the answer may be one notification late, never lost. */
static bool is_finished(const struct sftp_channel *f)
{
	return f->is_ended && f->out_ready == 0;
}

static bool sftp_has_output(const struct channel *c)
{
	struct sftp_channel *f = (struct sftp_channel *)(uintptr_t)&c->sftp;
	bool has;

	if (c->state != CHANNEL_OPEN)
		return false;
	pthread_mutex_lock(&f->lock);
	has = (f->out_ready > 0 && c->send_credit > 0) || is_finished(f);
	pthread_mutex_unlock(&f->lock);
	return has;
}

/* The next run of output bytes that lie in one piece, at most max; 0 when there are none. */
static uint32_t output_take(struct sftp_channel *f, uint32_t max, const uint8_t **ret_p)
{
	struct block *b = f->cursor ? f->cursor : f->out.head;
	uint32_t n;

	if (f->out_ready == 0 || max == 0)
		return 0;
	while (f->cursor_at == b->end) {
		b = b->next;
		f->cursor_at = 0;
	}
	f->cursor = b;
	n = b->end - f->cursor_at;
	if (n > max)
		n = max;
	*ret_p = b->data + f->cursor_at;
	f->cursor_at += n;
	f->out_ready -= n;
	return n;
}

/* Once, where there is credit for it. With the lock held. True: one frame of the batch is used. */
static bool emit_text(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;
	int n;

	if (!f->is_tell_wanted || f->told || c->send_credit < FRAME_MESSAGE_MAX + 32)
		return false;
	n = asprintf(&f->told, "ringgate: %s\r\n", f->read_only);
	if (n < 0) {
		f->told = NULL;
		return false;
	}
	outq_add_borrowed(&c->session->out, c->number, 1, (const uint8_t *)f->told, (uint32_t)n);
	c->send_credit -= (uint32_t)n;
	channel_hold(c);
	f->is_told_borrowed = true;
	return true;
}

static void emit_data(struct channel *c, uint32_t frames)
{
	struct sftp_channel *f = &c->sftp;

	pthread_mutex_lock(&f->lock);
	if (frames > 0 && emit_text(c))
		frames--;
	while (frames-- > 0) {
		uint32_t max = c->send_credit < FRAME_DATA_MAX ? c->send_credit : FRAME_DATA_MAX;
		const uint8_t *p;
		uint32_t n = output_take(f, max, &p);

		if (n == 0)
			break;
		outq_add_borrowed(&c->session->out, c->number, 0, p, n);
		c->send_credit -= n;
		if (f->borrowed == 0)
			channel_hold(c);
		f->borrowed += n;
	}
	pthread_mutex_unlock(&f->lock);
}

static void sftp_emit(struct channel *c, uint32_t frames)
{
	struct sftp_channel *f = &c->sftp;
	/* One more: answers are a few bytes longer than what was asked for. */
	const uint32_t max = BATCH_BORROWED_BYTES / FRAME_DATA_MAX + 1;
	struct frame exit = {.type = FRAME_EXIT};
	bool is_over;

	pthread_mutex_lock(&f->lock);
	is_over = is_finished(f);
	exit.exit_status = f->result < 0 && f->result != -EPIPE ? 1 : 0;
	pthread_mutex_unlock(&f->lock);
	if (!is_over)
		emit_data(c, frames < max ? frames : max);
	else if (!f->is_exit_sent)
		channel_send(c, &exit);
	else if (!c->is_eof_out)
		channel_send_eof(c);
	else
		channel_close(c);
	f->is_exit_sent = is_over;
}

/* The batch is gone, or will never go: its bytes leave the blocks. */
static void output_release(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;
	size_t n = f->borrowed;

	if (f->is_told_borrowed)
		channel_unhold(c);
	f->is_told_borrowed = false;
	if (n == 0)
		return;
	f->borrowed = 0;
	channel_unhold(c);
	pthread_mutex_lock(&f->lock);
	f->out_bytes -= n;
	while (n > 0) {
		struct block *b = f->out.head;
		uint32_t take = n < b->end - b->start ? (uint32_t)n : b->end - b->start;

		b->start += take;
		n -= take;
		/* The last one is the server's to fill; it stays where the cursor is. */
		if (b->start == b->end && b->next) {
			if (f->cursor == b) {
				f->cursor = NULL;
				f->cursor_at = 0;
			}
			block_free(f, queue_pop(&f->out));
		}
	}
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
	if (f->is_full && !f->is_threaded)
		want(c);
	bury(c);
}

static void for_each(struct session *s, void (*look)(struct channel *c))
{
	struct list *lists[] = {&s->channels, &s->graveyard};

	for (size_t i = 0; s->sftp_count > 0 && i < ARRAY_LEN(lists); i++) {
		struct list *l = lists[i]->next;

		while (l != lists[i]) {
			struct channel *c = i == 0 ? CONTAINER_OF(l, struct channel, in_all)
						   : CONTAINER_OF(l, struct channel, in_grave);

			l = l->next;
			if (c->kind == &sftp_kind && c->sftp.is_live)
				look(c);
		}
	}
}

void sftp_channels_sent(struct session *s)
{
	for_each(s, output_release);
}

/* A thread said something: credit for what it took, output to send, or its end. */
static void check(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;
	uint32_t consumed;

	pthread_mutex_lock(&f->lock);
	f->is_notified = false;
	consumed = f->consumed;
	f->consumed = 0;
	pthread_mutex_unlock(&f->lock);
	if (consumed > 0 && c->state == CHANNEL_OPEN) {
		channel_consumed(c, consumed);
		pthread_mutex_lock(&f->lock);
		f->consumed_notice = c->window / 4;
		pthread_mutex_unlock(&f->lock);
	}
	channel_ready(c);
	bury(c);
}

void sftp_channels_check(struct session *s)
{
	for_each(s, check);
}

static void sftp_end(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;

	if (!f->is_live)
		return;
	pthread_mutex_lock(&f->lock);
	f->is_gone = true;
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
	if (!f->is_threaded && !f->is_ended)
		want(c);
	bury(c);
}

static void sftp_deinit(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;

	if (f->consumed_notice == 0)
		return; /* it never started */
	queue_free(&f->in);
	queue_free(&f->out);
	while (f->spare) {
		struct block *b = f->spare;

		f->spare = b->next;
		free(b);
	}
	free(f->old_input);
	free(f->read_only);
	free(f->told);
	pthread_cond_destroy(&f->wake);
	pthread_mutex_destroy(&f->lock);
}

const struct channel_kind sftp_kind = {
	.on_data = sftp_on_data,
	.on_input = sftp_on_input,
	.on_eof = sftp_on_eof,
	.has_output = sftp_has_output,
	.emit = sftp_emit,
	.end = sftp_end,
	.deinit = sftp_deinit,
};
