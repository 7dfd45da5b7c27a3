#include "procd/sftp_output.h"

#include "procd/channel.h"
#include "procd/session.h"
#include "procd/sftp_thread.h"

#include <errno.h>
#include <stdio.h>

/* --- the server's side --- */

static struct sftp_channel *of(void *ctx)
{
	return &((struct channel *)ctx)->sftp;
}

static int notify_fd(void *ctx)
{
	return ((struct channel *)ctx)->session->notify_fd;
}

static int io_reserve(void *ctx, size_t n, uint8_t **ret_p)
{
	struct sftp_channel *f = of(ctx);
	struct block *b;
	int rc = 0;

	ASSERT(n <= SFTP_RESERVE_MAX);
	pthread_mutex_lock(&f->lock);
	if (f->out_bytes + n > SFTP_OUTPUT_BYTES && f->out_unannounced > 0) {
		sftp_thread_notify(f, notify_fd(ctx));
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
		b = block_new(&f->spares, SFTP_BLOCK_BYTES);
		if (b)
			block_queue_add(&f->out, b);
	}
	if (f->is_gone)
		rc = -EPIPE;
	else if (!b)
		rc = -ENOMEM;
	else
		*ret_p = b->data + b->end;
	pthread_mutex_unlock(&f->lock);
	return rc;
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
		sftp_thread_notify(f, notify_fd(ctx));
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

struct sftp_io sftp_output_io(struct channel *c)
{
	return (struct sftp_io){
		.ctx = c,
		.reserve = io_reserve,
		.commit = io_commit,
		.is_gone = io_is_gone,
		.tell = io_tell,
	};
}

/* --- the loop's side --- */

/* Both are asked by the loop often: the answer may be one notification late, never lost. */
static bool is_finished(const struct sftp_channel *f)
{
	return f->is_ended && f->out_ready == 0;
}

bool sftp_output_has(const struct channel *c)
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

void sftp_output_emit(struct channel *c, uint32_t frames)
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

bool sftp_output_release(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;
	bool were_words = f->is_told_borrowed;
	size_t n = f->borrowed;

	if (were_words)
		channel_unhold(c);
	f->is_told_borrowed = false;
	if (n == 0)
		return were_words;
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
			block_free(&f->spares, block_queue_pop(&f->out));
		}
	}
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
	return true;
}
