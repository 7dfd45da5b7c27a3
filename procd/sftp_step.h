/*
 * procd/sftp_step.h - one step of a channel's SFTP server, which the loop and the thread take alike.
 *
 * Owner:  the channel owns the server and the input.
 * Life:   the server is made in its first step; the step that ends it frees it.
 * Thread: whoever serves: the loop's until the guard takes the loop over in a step, then that step's own. The functions are here, and
 *         inline, since each request passes them.
 */
#ifndef PROCD_SFTP_STEP_H
#define PROCD_SFTP_STEP_H

#include "procd/sftp_channel.h"

#include <errno.h>

/* The head of the input that has bytes, or NULL. With the lock held, or where the loop serves. */
static inline struct block *sftp_step_input(struct sftp_channel *f)
{
	struct block *b = f->in.head;

	/* Behind an empty block there may be another one; the last is left to the loop, which fills it. */
	while (b && b->start == b->end && b->next) {
		block_free(&f->spares, block_queue_pop(&f->in));
		b = f->in.head;
	}
	return b && b->start < b->end ? b : NULL;
}

/* The bytes of the next step. */
static inline size_t sftp_step_size(const struct sftp_channel *f, const uint8_t *p, size_t n)
{
	/* Without a server it is only made: that may take long, too. */
	return n > 0 && f->server ? sftp_next(f->server, p, n) : 0;
}

/* Makes the server; else gives it n bytes, none at the input's end. 0, 1 when that is its end, or negative errno, its end too. */
static inline int sftp_step_run(struct sftp_channel *f, const uint8_t *p, size_t n)
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

#endif
