/*
 * ring/mail.c - mail between threads: a lock-free stack that its one reader takes whole and turns round.
 *
 * Whoever posts onto an empty stack wakes the reader; the others know that somebody does. The reader looks before each sleep,
 * too, so a wake-up that comes late finds nothing and is harmless.
 */
#include "ring/internal.h"

#include <errno.h>
#include <unistd.h>

void mail_wake(struct ring *r)
{
	const uint64_t one = 1;
	int saved = errno;

	/* Cannot block: the counter is far from its end. A write cut short by a signal has not happened. */
	while (write(r->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	errno = saved;
}

/*
 * No completion where it succeeds. A ring that is not enabled yet refuses with EBADFD: then, as with every failure, OP_POST
 * completes and the eventfd is used.
 */
static void mail_wake_from(struct ring *to, struct ring *from)
{
	struct io_uring_sqe *sqe = ring_sqe(from);

	io_uring_prep_msg_ring(sqe, to->uring.ring_fd, 0, TAG_MAIL, 0);
	io_uring_sqe_set_data64(sqe, op_tag(to, OP_POST));
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

void ring_post(struct ring *to, struct ring *from, struct mail *m)
{
	struct mail *newest = atomic_load_explicit(&to->mail, memory_order_relaxed);

	do
		m->next = newest;
	while (!atomic_compare_exchange_weak(&to->mail, &newest, m));
	/* m is the receiver's now. */
	if (newest)
		return;
	if (from)
		ring_check_thread(from);
	if (from && from->is_running && from != to)
		mail_wake_from(to, from);
	else if (from != to || !to->is_running)
		mail_wake(to);
	/* To itself: the loop looks before it sleeps. */
}

void mail_deliver(struct ring *r)
{
	struct mail *newest, *oldest = NULL;

	if (!atomic_load_explicit(&r->mail, memory_order_relaxed))
		return;
	newest = atomic_exchange(&r->mail, NULL);
	while (newest) {
		struct mail *m = newest;

		newest = m->next;
		m->next = oldest;
		oldest = m;
	}
	while (oldest) {
		struct mail *m = oldest;

		/* The callback may free m. */
		oldest = m->next;
		ring_count(&r->stats.mails, 1);
		m->on_mail(r, m);
	}
}
