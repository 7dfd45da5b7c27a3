/*
 * procd/process.h - channels of kind `shell` and `exec`: a process with pipes or a terminal.
 *
 * Owner:  embedded in its channel.
 * Life:   the process may outlive the channel; it is then reaped without a word.
 * Thread: the loop's.
 */
#ifndef PROCD_PROCESS_H
#define PROCD_PROCESS_H

#include "procd/hangup.h"
#include "procd/sink.h"
#include "procd/source.h"

#include <sys/types.h>

struct agent;
struct session;
struct channel;
struct frame;
struct channel_kind;

struct process {
	pid_t pid;
	int wait_status;
	bool has_pty;
	bool is_reaped;
	bool is_exit_sent;
	bool is_stdin_enlarged;
	bool is_eow_owed; /* nobody reads stdin any more: said at the deadline, if the program still lives then */
	uint32_t next_source;
	uint64_t reaped_bytes; /* terminal: read_bytes at that time */
	struct sink sink;      /* stdin or the terminal; the terminal's descriptor is here */
	struct source out, err;
	struct agent *agent;  /* NULL: the user offers none here */
	struct hangup hangup; /* without a terminal */
};

extern const struct channel_kind process_kind;

/* An OPEN of each kind. */
int process_open_shell(struct channel *c, const struct frame *f);
int process_open_exec(struct channel *c, const struct frame *f);

/* Reaps what has ended. */
void process_reap(struct session *s);

#endif
