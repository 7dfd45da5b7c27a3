/*
 * procd/agent.h - the user's SSH agent inside a session (ssh -A): a socket in a folder of its own, which only the session's user can
 * enter, for as long as the session's channel lives. Each connection there is a channel of kind `agent`.
 *
 * Owner:  the channel's process.
 * Thread: the loop's.
 */
#ifndef PROCD_AGENT_H
#define PROCD_AGENT_H

#include "core/check.h"

struct agent;
struct channel;

/* 0 or negative errno. */
MUST_USE int agent_start(struct channel *c, struct agent **ret_agent);
/* The socket's path: SSH_AUTH_SOCK. */
const char *agent_path(const struct agent *a);
/* Socket and folder go, and all connections with them. NULL is fine. */
void agent_stop(struct agent *a);

#endif
