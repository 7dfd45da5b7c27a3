/*
 * control/local_box.c - see local_box.h.
 */
#include "control/local_box.h"

#include "control/driver_limits.h"
#include "control/process_tree.h"
#include "core/log.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define BIT(s) (1u << (s))

static const unsigned box_allowed[] = {
	[BOX_STOPPED] = BIT(BOX_STARTING) | BIT(BOX_ENDING),
	[BOX_SLEEPING] = BIT(BOX_STARTING) | BIT(BOX_ENDING),
	[BOX_STARTING] = BIT(BOX_RUNNING) | BIT(BOX_STOPPED) | BIT(BOX_ENDING),
	[BOX_RUNNING] = BIT(BOX_PAUSING) | BIT(BOX_STOPPED) | BIT(BOX_ENDING),
	[BOX_PAUSING] = BIT(BOX_PAUSED) | BIT(BOX_RUNNING) | BIT(BOX_STOPPED) | BIT(BOX_ENDING),
	[BOX_PAUSED] = BIT(BOX_WAKING) | BIT(BOX_STOPPED) | BIT(BOX_ENDING),
	[BOX_WAKING] = BIT(BOX_RUNNING) | BIT(BOX_PAUSED) | BIT(BOX_STOPPED) | BIT(BOX_ENDING),
	[BOX_ENDING] = 0,
};

/* The only writer of b->state but box_new. */
static void box_move(struct box *b, enum box_state to)
{
	ASSERT((box_allowed[b->state] & BIT(to)) != 0);
	b->w->starting_count += (to == BOX_STARTING);
	b->w->starting_count -= (b->state == BOX_STARTING);
	b->state = to;
	b->deadline_ms = 0;
}

struct box *box_new(struct box_world *w, const char *id, enum want want, bool is_paused)
{
	struct box *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	list_init(&b->node);
	b->w = w;
	strcpy(b->id, id);
	b->want = want;
	b->is_asked = true;
	b->is_to_run = want == WANT_RUNNING;
	b->state = is_paused ? BOX_SLEEPING : BOX_STOPPED;
	b->keeper.fd = -1;
	return b;
}

void box_free(struct box *b)
{
	ASSERT(b->keeper.pid == 0);
	free(b);
}

/* --- what is, against what is wanted --- */

static bool is_resting(const struct box *b)
{
	return b->state == BOX_STOPPED || b->state == BOX_SLEEPING || b->state == BOX_RUNNING || b->state == BOX_PAUSED;
}

static enum want what_is(const struct box *b)
{
	switch (b->state) {
	case BOX_RUNNING:
		return WANT_RUNNING;
	case BOX_PAUSED:
	case BOX_SLEEPING:
		return WANT_PAUSED;
	default:
		return WANT_STOPPED;
	}
}

/* In a resting state. */
static void report(struct box *b, const char *reason)
{
	static const enum sandbox_state states[] = {
		[WANT_STOPPED] = SANDBOX_STOPPED, [WANT_PAUSED] = SANDBOX_PAUSED, [WANT_RUNNING] = SANDBOX_RUNNING};
	struct driver_report r = {.sandbox = b->id, .state = states[what_is(b)], .reason = reason};

	if (r.state == SANDBOX_RUNNING) {
		r.procd_url = b->last.procd_url;
		r.procd_key = b->last.procd_key;
	}
	b->w->report(b->w->report_ctx, &r);
}

/* What is wanted from now on is what is, unless somebody wants something else meanwhile than what was tried (bits). */
static void give_up(struct box *b, unsigned tried, const char *reason)
{
	pthread_mutex_lock(&b->w->lock);
	b->is_to_run = false;
	if ((BIT(b->want) & tried) != 0) {
		b->want = what_is(b);
		b->is_asked = false;
	}
	pthread_mutex_unlock(&b->w->lock);
	report(b, reason);
}

/* --- the keeper --- */

static void order(struct box *b, enum keeper_order what, enum box_state to, uint64_t now_ms)
{
	keeper_order(&b->keeper, what);
	box_move(b, to);
	if (to != BOX_ENDING)
		b->deadline_ms = now_ms + LOCAL_ANSWER_MS;
}

/* False when there is no process to be had. */
static bool keeper_begin(struct box *b, bool is_remover)
{
	int rc = keeper_spawn(b->w->o, b->id, is_remover, &b->keeper);

	b->is_link_ended = b->is_keeper_reaped = false;
	b->is_remover = is_remover;
	memset(&b->last, 0, sizeof(b->last));
	if (rc < 0)
		log_event(LOG_ERROR, "keeper_start", LOG_STR("sandbox", b->id), LOG_STR("error", strerror(-rc)));
	return rc == 0;
}

static void begin_start(struct box *b, uint64_t now_ms)
{
	if (!keeper_begin(b, false)) {
		give_up(b, BIT(WANT_RUNNING) | BIT(WANT_PAUSED), "the sandbox could not be started: no process for it");
		return;
	}
	box_move(b, BOX_STARTING);
	b->deadline_ms = now_ms + LOCAL_ANSWER_MS;
}

/* An answer that does not fit what was asked is none: the deadline is left to pass. */
static void take_message(struct box *b, const struct keeper_message *m)
{
	const char *reason = m->reason[0] ? m->reason : NULL;
	bool is_change = (b->state == BOX_STARTING || b->state == BOX_WAKING || b->state == BOX_PAUSING) &&
			 m->kind != KEEPER_IS_ENDED;

	if (m->kind == KEEPER_IS_PAUSED && b->state == BOX_STARTING)
		return;
	b->last = *m;
	if (!is_change)
		return;
	box_move(b, m->kind == KEEPER_IS_RUNNING ? BOX_RUNNING : BOX_PAUSED);
	if (reason)
		give_up(b, BIT(b->state == BOX_RUNNING ? WANT_PAUSED : WANT_RUNNING), reason);
}

void box_read(struct box *b)
{
	struct keeper_message m;
	int rc;

	while ((rc = keeper_read(&b->keeper, &m)) > 0)
		if (b->state != BOX_ENDING)
			take_message(b, &m);
	b->is_link_ended = rc < 0;
}

static void keeper_forget(struct box *b)
{
	keeper_close(&b->keeper);
	b->is_link_ended = b->is_keeper_reaped = false;
}

/* It ended though nobody asked for it. */
static void keeper_lost(struct box *b)
{
	const char *reason = b->last.kind == KEEPER_IS_ENDED && b->last.reason[0]
				     ? b->last.reason
				     : "the process that held the sandbox has ended";

	keeper_forget(b);
	box_move(b, BOX_STOPPED);
	pthread_mutex_lock(&b->w->lock);
	b->is_to_run = false;
	if (b->want != WANT_GONE) {
		b->want = WANT_STOPPED;
		b->is_asked = false;
	}
	pthread_mutex_unlock(&b->w->lock);
	report(b, reason);
}

static bool files_are_left(const struct box *b)
{
	char path[PATH_MAX];

	return snprintf(path, sizeof(path), "%s/%s", b->w->o->folder, b->id) < PATH_MAX && access(path, F_OK) == 0;
}

/* False: all is done. A keeper whose procd had just died did not hear the order to remove: another one does it. */
static bool keeper_done(struct box *b)
{
	bool was_remover = b->is_remover;

	keeper_forget(b);
	return !b->w->o->keeps_files && !was_remover && files_are_left(b) && keeper_begin(b, true);
}

/* --- steps --- */

/* False: gone already. */
static bool step_gone(struct box *b, uint64_t now_ms)
{
	if (b->keeper.pid > 0) {
		order(b, b->w->o->keeps_files ? KEEPER_END : KEEPER_REMOVE, BOX_ENDING, now_ms);
		return true;
	}
	if (b->w->o->keeps_files || !files_are_left(b) || !keeper_begin(b, true))
		return false;
	box_move(b, BOX_ENDING);
	return true;
}

static void step_up(struct box *b, uint64_t resume_ms, uint64_t now_ms)
{
	if (resume_ms > now_ms)
		return;
	if (resume_ms > 0 && b->w->o->fails_resume)
		give_up(b, BIT(WANT_RUNNING), "the local driver is set to fail resumes");
	else if (b->state == BOX_PAUSED)
		order(b, KEEPER_RESUME, BOX_WAKING, now_ms);
	else if (b->w->starting_count < LOCAL_STARTS_MAX)
		begin_start(b, now_ms);
}

/* In a resting state: begins what is wanted, or says that it is so. */
static bool step_from_rest(struct box *b, uint64_t now_ms)
{
	enum want want;
	bool is_due, is_to_run;
	uint64_t resume_ms;

	pthread_mutex_lock(&b->w->lock);
	want = b->want;
	resume_ms = b->resume_ms;
	is_to_run = b->is_to_run;
	is_due = want == what_is(b) && b->is_asked;
	if (is_due)
		b->is_asked = false;
	pthread_mutex_unlock(&b->w->lock);
	if (want == WANT_GONE)
		return step_gone(b, now_ms);
	if (is_due)
		report(b, NULL);
	else if (want == WANT_RUNNING && b->state != BOX_RUNNING)
		step_up(b, resume_ms, now_ms);
	else if (want == WANT_PAUSED && b->state == BOX_STOPPED && is_to_run)
		step_up(b, 0, now_ms);
	else if (want == WANT_PAUSED && b->state == BOX_RUNNING)
		order(b, KEEPER_PAUSE, BOX_PAUSING, now_ms);
	else if (want == WANT_PAUSED && b->state == BOX_STOPPED)
		give_up(b, BIT(want), "the sandbox is stopped");
	return true;
}

static bool is_wanted(struct box *b)
{
	bool yes;

	pthread_mutex_lock(&b->w->lock);
	yes = b->want != WANT_GONE;
	pthread_mutex_unlock(&b->w->lock);
	return yes;
}

bool box_step(struct box *b, uint64_t now_ms)
{
	if (b->is_link_ended && b->is_keeper_reaped) {
		if (b->state == BOX_ENDING)
			return keeper_done(b);
		keeper_lost(b);
	}
	if (b->keeper.pid > 0 && !b->is_keeper_reaped && b->deadline_ms > 0 && now_ms >= b->deadline_ms) {
		log_event(LOG_ERROR, "keeper_late", LOG_STR("sandbox", b->id), LOG_I64("pid", b->keeper.pid));
		b->deadline_ms = 0;
		(void)kill(b->keeper.pid, SIGKILL);
	}
	if (b->is_link_ended)
		return true;
	if (is_resting(b))
		return step_from_rest(b, now_ms);
	/* A deletion does not wait for a start. */
	return b->state == BOX_ENDING || is_wanted(b) || step_gone(b, now_ms);
}

uint64_t box_next_ms(struct box *b, uint64_t now_ms)
{
	uint64_t next = b->deadline_ms > 0 ? b->deadline_ms : UINT64_MAX;

	/* The signal of its end comes with no event of ours. */
	if (b->is_link_ended)
		return now_ms + LOCAL_REAP_LOOK_MS;
	pthread_mutex_lock(&b->w->lock);
	if (is_resting(b) && b->want == WANT_RUNNING && b->resume_ms > now_ms && b->resume_ms < next)
		next = b->resume_ms;
	pthread_mutex_unlock(&b->w->lock);
	return next;
}
