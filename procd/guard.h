/*
 * procd/guard.h - the loop's thread may call what can hang: a second thread takes the loop over when it does.
 *
 * Files are served by the loop itself, since a switch to a thread and back costs more than most requests do, and no system call
 * tells beforehand that it will not wait (RWF_NOWAIT: not for writes on ext4, not at all on tmpfs; RESOLVE_CACHED: not for O_CREAT).
 * So each such step stands between guard_enter and guard_leave, and while there are any the guard looks at the clock:
 *
 *   one step, waiting for GUARD_WAIT_TICKS, or on the processor for GUARD_RUN_TICKS: the guard is the loop's thread from now on,
 *   with a new guard behind it. guard_leave tells the other that it is not any more: it goes on with what it had begun alone.
 *
 * So others on the connection wait for a file at most (GUARD_WAIT_TICKS + 1) * GUARD_TICK_MS, with GUARD_RUN_TICKS where it is the
 * processor that takes so long. Threads are bounded by SFTP_CHANNELS_MAX: each that hangs is one channel's. A step that ends in time
 * costs two writes to memory and no system call; 100 ms after the last one the guard sleeps.
 *
 * Owner:  embedded in the session.
 * Thread: each function says whose. Between enter and leave the one that entered touches nothing but the step's own.
 */
#ifndef PROCD_GUARD_H
#define PROCD_GUARD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct guard {
	/* Runs in the guard's thread, which is the loop's by then; the thread ends with it. */
	void (*take_over)(struct guard *g);
	_Atomic uint64_t step; /* odd in a step; each is another number */
	_Atomic bool is_asleep;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool has_thread; /* the loop's */
	pid_t loop_tid;  /* set by the loop's thread, read in a step of its own */
};

void guard_init(struct guard *g, void (*take_over)(struct guard *g));
/* The calling thread runs the loop. */
void guard_loop_is_here(struct guard *g);
/* Loop's: starts the guard where there is none. False: no thread could be had; steps may then hang the loop. */
bool guard_start(struct guard *g);
/* Loop's. Returns what leave wants. */
uint64_t guard_enter(struct guard *g);
/* True: the calling thread is still the loop's. False: another one has been since the middle of the step. */
bool guard_leave(struct guard *g, uint64_t step);

#endif
