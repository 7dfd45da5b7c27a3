/*
 * procd/forward.h - what listens in the sandbox for the gateway's user: ports and Unix sockets (LISTEN). Each connection made
 * there is a channel that procd opens.
 *
 * Owner:  the session. A listener's memory stays to the end of the loop's round: events may be on their way.
 * Thread: the loop's.
 */
#ifndef PROCD_FORWARD_H
#define PROCD_FORWARD_H

struct frame;
struct session;

/* LISTEN: answered at once. */
void forward_listen(struct session *s, const struct frame *f);
/* UNLISTEN: answered, whether it was known or not. */
void forward_unlisten(struct session *s, const struct frame *f);
/* Once a round: opens channels for the connections that wait, as many as there may be. */
void forward_accept(struct session *s);
/* The stream ends. */
void forward_end_all(struct session *s);
/* At the round's end: frees what ended in it. */
void forward_bury(struct session *s);

#endif
