/*
 * procd/env.h - the environment of a command, as sshd makes it.
 *
 * Owner:  env_free frees what env_make took, all in one block.
 */
#ifndef PROCD_ENV_H
#define PROCD_ENV_H

#include "core/check.h"
#include "upstream/procd/frame.h"

struct session;

/* Names and values together are within the limit, and none holds a NUL; names have no '='. */
bool env_is_valid(const struct frame_open_options *o);

/*
 * The user's own variables, then (so that they win) USER, LOGNAME, HOME, PATH, SHELL, SSH_CLIENT, SSH_CONNECTION, and with a
 * terminal TERM and SSH_TTY, with an agent SSH_AUTH_SOCK. tty and agent are NULL without one. NULL when out of memory.
 */
char **env_make(const struct session *s, const struct frame_open_options *o, const char *tty, const char *agent);
void env_free(char **env);

#endif
