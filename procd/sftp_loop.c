#include "procd/sftp_loop.h"

#include "procd/sftp_step.h"
#include "procd/sftp_thread.h"

#include <errno.h>
#include <string.h>

/* --- what comes in --- */

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
	b = block_new(&f->spares, c->window > WINDOW_START ? SFTP_BLOCK_BYTES : WINDOW_START);
	if (b)
		block_queue_add(&f->in, b);
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

int sftp_loop_on_data(struct channel *c, struct bytes piece)
{
	struct sftp_channel *f = &c->sftp;
	int rc;

	/* Without the lock: where the loop serves it is alone with the blocks. */
	if (!f->is_threaded && f->filled == 0 && !sftp_step_input(f) && f->piece_count < SFTP_PIECES) {
		f->pieces[f->piece_count++] =
			(struct iovec){.iov_base = (void *)(uintptr_t)piece.p, .iov_len = piece.n};
		return 0;
	}
	rc = input_keep(c);
	return rc < 0 ? rc : input_copy(c, piece);
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

int sftp_loop_on_input(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;

	if (f->filled > 0)
		input_publish(f);
	if (!f->is_threaded)
		sftp_loop_want(c);
	return 0;
}

void sftp_loop_on_eof(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;

	pthread_mutex_lock(&f->lock);
	f->is_eof = true;
	pthread_mutex_unlock(&f->lock);
	input_publish(f);
	if (!f->is_threaded)
		sftp_loop_want(c);
}

void sftp_loop_keep(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;

	if (input_keep(c) < 0)
		session_fail(c->session, "no-memory", "out of memory");
	if (f->filled > 0)
		input_publish(f);
}

/* --- serving --- */

/* The input's next bytes that lie in one piece; 0: there are none. *ret_is_piece: not in a block. */
static size_t input_peek(struct sftp_channel *f, const uint8_t **ret_p, bool *ret_is_piece)
{
	const struct block *b = sftp_step_input(f);
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
	rc = sftp_step_run(f, p, n);
	if (!guard_leave(&s->guard, number)) {
		sftp_thread_serve(c, n, !is_piece, rc);
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
			sftp_loop_want(c);
			break;
		}
		n = sftp_step_size(f, p, n);
		if (!step(c, p, n, is_piece))
			return false;
		weight += SFTP_ANSWER_COST + n + (f->out_bytes - before);
	}
	return true;
}

bool sftp_loop_turn(struct channel *c)
{
	if (!serve_turn(c))
		return false;
	sftp_loop_keep(c);
	channel_ready(c);
	return true;
}
