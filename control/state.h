/*
 * control/state.h - what a sandbox does, with the names that the API shows.
 *
 *	PAUSED, STOPPED ── resume asked for ──► RESUMING ── driver reports ──► RUNNING ── pause: driver reports ──► PAUSED
 *
 * RESUMING goes back to where it was when the driver says that it failed. Whatever it is, it becomes STOPPED when its
 * processes end by themselves. Users who come wake a paused one; a stopped one is resumed only through the API.
 *
 * A created sandbox begins as RESUMING. Thread: any.
 */
#ifndef CONTROL_STATE_H
#define CONTROL_STATE_H

#include "core/check.h"

#include <stdbool.h>

enum sandbox_state { SANDBOX_RUNNING, SANDBOX_PAUSED, SANDBOX_RESUMING, SANDBOX_STOPPED };

/* "running", "paused", "resuming", "stopped". */
const char *sandbox_state_name(enum sandbox_state state);
MUST_USE bool sandbox_state_parse(const char *name, enum sandbox_state *ret_state);

#endif
