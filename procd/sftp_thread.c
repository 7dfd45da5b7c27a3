#include "procd/sftp_thread.h"

#include "procd/channel.h"
#include "procd/session.h"
#include "procd/sftp_step.h"

#include <errno.h>

/* Waits for input. As sftp_io's. */
static ssize_t peek(struct channel *c, const uint8_t **ret_p)
{
	struct sftp_channel *f = &c->sftp;
	ssize_t n = 0;

	pthread_mutex_lock(&f->lock);
	for (;;) {
		const struct block *b = sftp_step_input(f);

		if (b) {
			*ret_p = b->data + b->start;
			n = b->end - b->start;
			break;
		}
		if (f->is_gone || f->is_eof)
			break;
		/* Before it waits for more, all that it has said must be on its way. */
		if (f->out_unannounced > 0)
			sftp_thread_notify(f, c->session->notify_fd);
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
		sftp_thread_notify(f, c->session->notify_fd);
	pthread_mutex_unlock(&f->lock);
}

void sftp_thread_serve(struct channel *c, size_t n, bool in_block, int rc)
{
	struct sftp_channel *f = &c->sftp;

	consume(c, n, in_block);
	while (rc == 0) {
		const uint8_t *p = NULL;
		ssize_t there = peek(c, &p);

		if (there < 0)
			there = 0; /* gone */
		n = sftp_step_size(f, p, (size_t)there);
		rc = sftp_step_run(f, p, n);
		consume(c, n, true);
	}
	pthread_mutex_lock(&f->lock);
	f->result = rc;
	f->is_ended = true;
	sftp_thread_notify(f, c->session->notify_fd);
	pthread_mutex_unlock(&f->lock);
}

void sftp_thread_check(struct channel *c)
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
}
