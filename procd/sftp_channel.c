/*
 * procd/sftp_channel.c - see sftp_channel.h.
 *
 * Input is copied once, from the stream's buffer into blocks. Output is not copied here: the server reads files straight into
 * blocks, and batches are sent from them. A block is given back when it was sent.
 */
#include "procd/sftp_channel.h"

#include "core/thread.h"
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

/* --- the server's side: its thread --- */

static struct sftp_channel *of(void *ctx)
{
	return &((struct channel *)ctx)->sftp;
}

static int notify_fd(void *ctx)
{
	return ((struct channel *)ctx)->session->notify_fd;
}

static ssize_t io_peek(void *ctx, const uint8_t **ret_p)
{
	struct sftp_channel *f = of(ctx);
	ssize_t n = 0;

	pthread_mutex_lock(&f->lock);
	for (;;) {
		struct block *b = f->in.head;

		/* Behind an empty block there may be another one; the last is left to the loop, which fills it. */
		while (b && b->start == b->end && b->next) {
			block_free(f, queue_pop(&f->in));
			b = f->in.head;
		}
		if (b && b->start < b->end) {
			*ret_p = b->data + b->start;
			n = b->end - b->start;
			break;
		}
		if (f->is_gone || f->is_eof)
			break;
		/* Before it waits for more, all that it has said must be on its way. */
		if (f->out_unannounced > 0)
			notify(f, notify_fd(ctx));
		f->out_unannounced = 0;
		pthread_cond_wait(&f->wake, &f->lock);
	}
	if (f->is_gone)
		n = -EPIPE;
	pthread_mutex_unlock(&f->lock);
	return n;
}

static void io_consume(void *ctx, size_t n)
{
	struct sftp_channel *f = of(ctx);

	pthread_mutex_lock(&f->lock);
	ASSERT(f->in.head && n <= f->in.head->end - f->in.head->start);
	f->in.head->start += (uint32_t)n;
	f->consumed += (uint32_t)n;
	if (f->consumed >= f->consumed_notice)
		notify(f, notify_fd(ctx));
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

static void *server(void *arg)
{
	struct channel *c = arg;
	struct sftp_channel *f = &c->sftp;
	const struct sftp_io io = {
		.ctx = c,
		.peek = io_peek,
		.consume = io_consume,
		.reserve = io_reserve,
		.commit = io_commit,
		.is_gone = io_is_gone,
		.tell = io_tell,
	};
	const struct sftp_options options = {
		.home = c->session->user.home,
		.is_read_only = f->read_only != NULL,
		.read_only = f->read_only,
	};
	int rc = sftp_serve(&io, &options);

	pthread_mutex_lock(&f->lock);
	f->result = rc;
	f->is_ended = true;
	notify(f, c->session->notify_fd);
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

/* --- the loop's side --- */

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
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->wake, NULL);
	f->consumed_notice = c->window / 4;
	if (thread_start(&f->thread, SFTP_STACK_BYTES, server, c) < 0) {
		pthread_cond_destroy(&f->wake);
		pthread_mutex_destroy(&f->lock);
		f->consumed_notice = 0;
		free(f->read_only);
		return channel_refuse(c, "no-memory", "no thread for SFTP");
	}
	f->has_thread = true;
	c->session->sftp_count++;
	channel_hold(c);
	channel_opened(c);
	return 0;
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

static int sftp_on_data(struct channel *c, struct bytes piece)
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

static int sftp_on_input(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;

	pthread_mutex_lock(&f->lock);
	f->in.tail->end += f->filled;
	f->filled = 0;
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
	return 0;
}

static void sftp_on_eof(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;

	pthread_mutex_lock(&f->lock);
	if (f->in.tail) {
		f->in.tail->end += f->filled;
		f->filled = 0;
	}
	f->is_eof = true;
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
}

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
	const uint32_t max = BATCH_BORROWED_BYTES / FRAME_DATA_MAX;
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
			if (c->kind == &sftp_kind && c->sftp.has_thread)
				look(c);
		}
	}
}

void sftp_channels_sent(struct session *s)
{
	for_each(s, output_release);
}

/* The thread said something: credit for what it took, output to send, or its end. */
static void check(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;
	uint32_t consumed;
	bool is_ended;

	pthread_mutex_lock(&f->lock);
	f->is_notified = false;
	consumed = f->consumed;
	f->consumed = 0;
	is_ended = f->is_ended;
	pthread_mutex_unlock(&f->lock);
	if (consumed > 0 && c->state == CHANNEL_OPEN) {
		channel_consumed(c, consumed);
		pthread_mutex_lock(&f->lock);
		f->consumed_notice = c->window / 4;
		pthread_mutex_unlock(&f->lock);
	}
	channel_ready(c);
	if (is_ended && c->state == CHANNEL_GONE) {
		pthread_join(f->thread, NULL);
		f->has_thread = false;
		c->session->sftp_count--;
		channel_unhold(c);
	}
}

void sftp_channels_check(struct session *s)
{
	for_each(s, check);
}

static void sftp_end(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;

	if (!f->has_thread)
		return;
	pthread_mutex_lock(&f->lock);
	f->is_gone = true;
	/* If it has ended already its word came before: it is looked at again. */
	if (f->is_ended)
		notify(f, c->session->notify_fd);
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
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
