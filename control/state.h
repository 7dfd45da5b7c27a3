/*
 * control/state.h - what a sandbox does, and the ends of the names that the API shows.
 *
 *	          resume asked for            driver reports
 *	 PAUSED ──────────────────► RESUMING ───────────────► RUNNING
 *	    ▲                          │ failed                  │ pause: driver reports
 *	    └──────────────────────────┴─────────────────────────┘        any ──► STOPPED: its processes are gone
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
