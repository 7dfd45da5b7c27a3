/*
 * procd/spawn.h - starting a program with pipes or a terminal.
 *
 * Thread: the loop's, which waits until the program is there; other threads may run: between vfork and exec nothing is done that takes
 *         a lock or writes to memory that is not the child's own.
 */
#ifndef PROCD_SPAWN_H
#define PROCD_SPAWN_H

#include "core/check.h"

#include <stdbool.h>
#include <sys/types.h>

struct spawn {
	const char *path;
	char *const *argv;
	char *const *envp;
	const char *folder; /* where it starts; "/" where that is not there */
	int in, out, err;   /* its descriptors; -1 with a terminal */
	int tty;            /* its controlling terminal, or -1 */
};

/* Returns the process id, which is also its session's and process group's, or negative errno. Closes nothing here. */
MUST_USE pid_t spawn_program(const struct spawn *s);

/* A pipe, both ends close-on-exec, ours without blocking. reader_is_ours says which. 0 or negative errno. */
MUST_USE int spawn_pipe(bool reader_is_ours, int *ret_ours, int *ret_theirs);

#endif
