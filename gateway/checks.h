/*
 * gateway/checks.h - asks the directory again for live sessions, after it said that something has changed.
 *
 *   IDLE ──a change that the session hangs on──► DUE ──its turn──► ASKING ──may enter──► IDLE
 *                                                 ▲                  ├────no───────────► the session ends
 *                                                 └───time─── LATER ◄┘ nobody could say
 *
 * Few are asked for at a time, and so many in a while, however many sessions a change concerns: those that it names first.
 * Only a NO ends a session. One that is still logging in while something changes is looked at when the worker takes it over.
 *
 * Owner:  struct checks is embedded in a worker, struct check in a session.
 * Thread: the worker's, but for checks_tell.
 */
#ifndef GATEWAY_CHECKS_H
#define GATEWAY_CHECKS_H

#include "gateway/directory.h"
#include "ring/ring.h"

#include <stdatomic.h>

struct server;
struct worker;
struct session;
struct checker;

enum check_state {
	CHECK_IDLE,
	CHECK_DUE,
	CHECK_ASKING,
	CHECK_LATER,
};

struct check {
	struct list node; /* DUE */
	enum check_state state;
	bool is_again; /* ASKING: something has changed since it was asked */
	uint8_t try_count;
	struct timer retry;      /* LATER */
	struct checker *checker; /* ASKING */
	uint64_t position;       /* in the server's changes: when its login was asked for */
};

struct checks {
	struct worker *worker;
	struct mail mail; /* changes have come */
	_Atomic bool is_posted;
	uint64_t position;         /* of the server's changes: read up to here */
	struct list named, others; /* DUE: named by a change; by SUBJECT_ALL, or asked for again */
	struct timer tick;
	struct deferred work;
	uint32_t asking_count, asked_in_tick;
	uint32_t jitter; /* the last one */
};

void checks_init(struct checks *c, struct worker *w);

/* Something about this subject has changed: every worker hears of it. Any thread; does not block. */
void checks_tell(struct server *s, const struct subject *subject);

void check_init(struct session *s);
/* Before its key is asked for: what changes from now on is looked at when it is live. */
void check_begin(struct session *s);
/* It has become live. */
void check_adopt(struct session *s);
/* It is not live any more; what is asked for it is cancelled. */
void check_end(struct session *s);

#endif
