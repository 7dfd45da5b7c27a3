/*
 * procd/forward.h - what listens in the sandbox for the gateway's user: ports and Unix sockets (LISTEN). Each connection made
 * there is a channel that procd opens. So is each one to the user's agent (agent.h).
 *
 * Owner:  the session. A listener's memory stays to the end of the loop's round: events may be on their way.
 * Thread: the loop's.
 */
#ifndef PROCD_FORWARD_H
#define PROCD_FORWARD_H

#include <stdint.h>

struct frame;
struct listener;
struct session;

/* LISTEN: answered at once. */
void forward_listen(struct session *s, const struct frame *f);
/* UNLISTEN: answered, whether it was known or not. */
void forward_unlisten(struct session *s, const struct frame *f);
/*
 * Listens at a path for connections to the agent that the user of that session channel offers. Negative errno; no LISTEN, and not
 * counted as one.
 */
int forward_agent(struct session *s, uint32_t channel, const char *path, struct listener **ret_listener);
/* The socket goes; its connections do at forward_end_orphans. */
void forward_agent_end(struct listener *l);
/* Once a round: ends connections to agents whose session has ended. */
void forward_end_orphans(struct session *s);
/* Once a round: opens channels for the connections that wait, as many as there may be. */
void forward_accept(struct session *s);
/* The stream ends, and its channels have. */
void forward_end_all(struct session *s);
/* At the round's end: frees what ended in it. */
void forward_bury(struct session *s);

#endif
