/*
 * procd/guard.c - see guard.h.
 */
#include "procd/guard.h"

#include "core/thread.h"
#include "procd/limits.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void guard_init(struct guard *g, void (*take_over)(struct guard *g))
{
	g->take_over = take_over;
	atomic_init(&g->step, 0);
	atomic_init(&g->is_asleep, false);
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->wake, NULL);
	g->has_thread = false;
}

void guard_loop_is_here(struct guard *g)
{
	g->loop_tid = (pid_t)syscall(SYS_gettid);
}

/* False: it runs, or wants to. Where /proc is not to be had it is taken to wait. */
static bool is_waiting(pid_t tid)
{
	char path[64], text[128];
	const char *end;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	end = strrchr(text, ')');
	return !end || strncmp(end, ") R", 3) != 0;
}

/* Until the next step. */
static void sleep_long(struct guard *g, uint64_t seen)
{
	pthread_mutex_lock(&g->lock);
	atomic_store(&g->is_asleep, true);
	/* A step that has begun since did not see it. */
	if (atomic_load(&g->step) != seen)
		atomic_store(&g->is_asleep, false);
	while (atomic_load(&g->is_asleep))
		pthread_cond_wait(&g->wake, &g->lock);
	pthread_mutex_unlock(&g->lock);
}

static void *guard_run(void *arg)
{
	const struct timespec tick = {.tv_nsec = GUARD_TICK_MS * 1000000L};
	struct guard *g = arg;
	uint64_t last = 0;
	unsigned same = 0;

	for (;;) {
		uint64_t now = atomic_load(&g->step);

		same = now == last ? same + 1 : 0;
		last = now;
		if (now % 2 == 0 && same >= GUARD_IDLE_TICKS) {
			sleep_long(g, now);
			same = 0;
		} else if (now % 2 != 0 &&
			   (same >= GUARD_RUN_TICKS || (same >= GUARD_WAIT_TICKS && is_waiting(g->loop_tid)))) {
			/* What the loop's thread did before the step is ours to see. */
			if (atomic_compare_exchange_strong(&g->step, &now, now + 1))
				break;
		}
		(void)nanosleep(&tick, NULL);
	}
	g->has_thread = false;
	guard_loop_is_here(g);
	g->take_over(g);
	return NULL;
}

bool guard_start(struct guard *g)
{
	pthread_t thread;

	if (g->has_thread)
		return true;
	if (thread_start(&thread, SFTP_STACK_BYTES, guard_run, g) < 0)
		return false;
	pthread_detach(thread);
	g->has_thread = true;
	return true;
}

static void wake(struct guard *g)
{
	pthread_mutex_lock(&g->lock);
	atomic_store(&g->is_asleep, false);
	pthread_cond_signal(&g->wake);
	pthread_mutex_unlock(&g->lock);
}

uint64_t guard_enter(struct guard *g)
{
	uint64_t step = atomic_load_explicit(&g->step, memory_order_relaxed) + 1;

	atomic_store(&g->step, step);
	if (atomic_load(&g->is_asleep))
		wake(g);
	return step;
}

bool guard_leave(struct guard *g, uint64_t step)
{
	return atomic_compare_exchange_strong(&g->step, &step, step + 1);
}
