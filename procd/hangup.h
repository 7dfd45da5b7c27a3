/*
 * procd/hangup.h - whom a lost user takes along: SIGHUP for a command that still talks to him.
 *
 * A command without a terminal is hung up together with those of its process group that have one of its pipes as
 * stdin, stdout or stderr. Whoever was started in the background with its streams elsewhere was left running on purpose: an
 * editor's server finds its user again over his next connection. nohup alone would not save it, since Node.js takes back the
 * ignored SIGHUP that it inherits.
 */
#ifndef PROCD_HANGUP_H
#define PROCD_HANGUP_H

#include <sys/stat.h>
#include <sys/types.h>

/* The three pipes of a command, known also when our ends are closed. */
struct hangup {
	dev_t dev;
	ino_t pipes[3];
	int count;
};

/* Remembers the pipe that this descriptor is an end of. */
void hangup_note(struct hangup *h, int fd);

/* SIGHUP, and SIGCONT for one that is stopped, to the leader of a process group and those of it that have the pipes. */
void hangup_send(const struct hangup *h, pid_t leader);

#endif
