/*
 * control/process_tree.h - all processes below one, through /proc: stopped, continued, signalled.
 *
 * The root must be a subreaper (PR_SET_CHILD_SUBREAPER), or processes whose parent ended are lost. The root itself is not touched.
 * Needs neither root nor cgroups. What it cannot do: stop a process of another user (setuid), or hide the stop from a debugger that
 * runs below the same root, which sees a SIGSTOP.
 *
 * A walk of /proc is no snapshot: each operation walks again until a walk finds nothing left to do, and gives up at its deadline.
 *
 * Thread: any, one at a time for one root.
 */
#ifndef CONTROL_PROCESS_TREE_H
#define CONTROL_PROCESS_TREE_H

#include "core/check.h"

#include <stdint.h>
#include <sys/types.h>

struct process {
	pid_t pid, parent;
	char state; /* as in proc(5): R, S, D, T, t, Z, ... */
};

/* Owner: the caller; process_list_free after use. */
struct process_list {
	struct process *of;
	uint32_t count, room;
};

void process_list_free(struct process_list *l);

/* All processes below root that are no zombies, parents before their children. Negative errno. */
MUST_USE int process_tree_read(pid_t root, struct process_list *ret_list);

/*
 * Stops all, parents first: a shell must not see that its child stopped. ret_resting gets those that rested before (job control),
 * for process_tree_continue. -ETIMEDOUT when new ones keep coming; then some are stopped, and ret_resting is good all the same.
 */
MUST_USE int process_tree_stop(pid_t root, uint64_t deadline_ms, struct process_list *ret_resting);

/* Lets all run on but those of `resting`, children first. */
MUST_USE int process_tree_continue(pid_t root, const struct process_list *resting);

/* Sends one signal to all. Returns how many there were, or negative errno. */
MUST_USE int process_tree_signal(pid_t root, int number);

/* Milliseconds of CLOCK_MONOTONIC, for deadlines. */
uint64_t process_now_ms(void);

#endif
