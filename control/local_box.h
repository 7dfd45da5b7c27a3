/*
 * control/local_box.h - one sandbox of the local driver: what is wanted of it, what it is, and one step from here to there.
 *
 * Owner:  the driver's list, from an op that adds it until box_step says that it is gone.
 * Thread: what says "lock" is guarded by the driver's lock; all else is the driver's thread's.
 */
#ifndef CONTROL_LOCAL_BOX_H
#define CONTROL_LOCAL_BOX_H

#include "control/keeper_link.h"
#include "core/ids.h"
#include "core/list.h"

#include <pthread.h>

/*
 *	STOPPED ──┐             ┌──► PAUSING ──► PAUSED ──► WAKING ──┐
 *	SLEEPING ─┴► STARTING ──┴── RUNNING ◄────────────────────────┘
 *
 * STOPPED and SLEEPING (paused, but its processes were lost with the last control plane) have no keeper. A keeper's end leads
 * from anywhere to STOPPED. ENDING: until all is removed.
 */
enum box_state {
	BOX_STOPPED,
	BOX_SLEEPING,
	BOX_STARTING,
	BOX_RUNNING,
	BOX_PAUSING,
	BOX_PAUSED,
	BOX_WAKING,
	BOX_ENDING,
};

enum want { WANT_STOPPED, WANT_PAUSED, WANT_RUNNING, WANT_GONE };

/* What all boxes of a driver share. */
struct box_world {
	const struct driver_local_options *o;
	pthread_mutex_t lock;
	driver_report_fn *report;
	void *report_ctx;
	uint32_t starting_count; /* boxes in STARTING */
};

struct box {
	struct list node;    /* lock */
	enum want want;      /* lock; GONE stays */
	bool is_asked;       /* lock: a call's report is due */
	bool is_to_run;      /* lock: it was to run before it was to be paused: so it is started for that */
	uint64_t resume_ms;  /* lock: when a resume that was asked for begins; 0: none was */
	struct box_world *w; /* fixed, as the next */
	char id[SANDBOX_ID_MAX + 1];

	enum box_state state;
	uint64_t deadline_ms; /* of the keeper's answer; 0: none is due */
	struct keeper_link keeper;
	bool is_link_ended;    /* nothing comes from the keeper any more */
	bool is_keeper_reaped; /* set by the driver */
	bool is_remover;       /* the keeper only removes files */
	struct keeper_message last;
};

/* is_paused: it begins as SLEEPING. NULL without memory. */
MUST_USE struct box *box_new(struct box_world *w, const char *id, enum want want, bool is_paused);
/* Has no keeper. */
void box_free(struct box *b);

/* Reads what the keeper says. */
void box_read(struct box *b);

/* Goes as far as it can now. False: it is gone, to be freed. */
MUST_USE bool box_step(struct box *b, uint64_t now_ms);

/* When box_step is to be called next after the one at now_ms; UINT64_MAX: when something happens. */
uint64_t box_next_ms(struct box *b, uint64_t now_ms);

#endif
