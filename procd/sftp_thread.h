/*
 * procd/sftp_thread.h - an SFTP channel whose files hang: served by a thread of its own, which was the loop's until then.
 *
 * What comes in is copied once, into blocks under the lock, for which the thread waits. What it has done it tells the loop by the
 * session's notify descriptor.
 *
 * Owner:  the channel, which is held until the server has ended.
 * Life:   from the step that hung to the server's end.
 * Thread: each function says whose.
 */
#ifndef PROCD_SFTP_THREAD_H
#define PROCD_SFTP_THREAD_H

#include "procd/sftp_channel.h"

#include <unistd.h>

/*
 * The thread's, when it has lost the loop in a step: that took n bytes of input, which in_block says lie in the input's head, and gave
 * rc. Returns when the server has ended; the channel may be gone by then.
 */
void sftp_thread_serve(struct channel *c, size_t n, bool in_block, int rc);
/* The loop's: a thread said something. Credit for what it took, and a look at what there is to send. */
void sftp_thread_check(struct channel *c);

/* The thread's: wakes the loop, once until it looks. With the lock held. */
static inline void sftp_thread_notify(struct sftp_channel *f, int notify_fd)
{
	const uint64_t one = 1;

	if (f->is_notified)
		return;
	f->is_notified = true;
	(void)!write(notify_fd, &one, sizeof(one));
}

#endif
