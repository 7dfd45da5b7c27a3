/*
 * control/commands.h - what `ringgate-control COMMAND` does.
 *
 * The commands that change something work on the database directly, whether a server runs or not; running servers see it in the
 * feed of changes.
 */
#ifndef CONTROL_COMMANDS_H
#define CONTROL_COMMANDS_H

#include "control/config.h"

enum { EXIT_USAGE = 2 };

/* What stands behind a command, over the settings. */
struct command_options {
	const char *user, *team, *name, *id, *procd, *procd_key, *state, *ready_path, *expires, *file;
	bool is_auto_resume_off;
};

/* Returns 0 or negative errno with a sentence in error; what it prints goes to standard output. */
int command_serve(const struct config *c, const struct command_options *o, char error[CONFIG_ERROR_BYTES]);

struct command {
	const char *name, *verb; /* verb "": none */
	int (*run)(const struct config *c, const struct command_options *o, char error[CONFIG_ERROR_BYTES]);
	const char *usage, *help;
};

extern const struct command commands[];
extern const size_t command_count;

#endif
