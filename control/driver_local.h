/*
 * control/driver_local.h - sandboxes on this machine: for a laptop, for tests, and as an example of a driver.
 *
 * Each sandbox is a procd with a home, a key and a log of its own in FOLDER/ID, held by a keeper process (keeper.h). It is no
 * isolation: all run on this machine, as one user. Paused means that every process of it is stopped and its memory stays; that is
 * done by SIGSTOP, which needs neither root nor cgroups (the freezer of cgroup v2 is not used).
 *
 * When the control plane ends, all sandboxes end, and their files stay. What was running is started again with it; what was
 * paused has lost its processes and starts at its next resume.
 *
 * Calls for one sandbox that come faster than they are done are not queued: what was asked last is what happens, and its
 * end is reported. A procd that dies is reported as STOPPED; resume starts it again.
 *
 * Thread: one of its own, which does all work and all reports; ops only note what is wanted.
 */
#ifndef CONTROL_DRIVER_LOCAL_H
#define CONTROL_DRIVER_LOCAL_H

#include "control/driver.h"

#include <stdbool.h>
#include <stdint.h>

/* Everything is copied. */
struct driver_local_options {
	const char *folder;              /* made if it is not there; absolute */
	const char *procd;               /* the program */
	const char *const *gateway_keys; /* of those who may come in, "ed25519:BASE64"; their end is a NULL */
	const char *user;                /* or NULL: who runs this */
	const char *shell;               /* or NULL: the user's */
	const char *const *procd_args;   /* more arguments for each procd, to a NULL; or NULL */
	bool keeps_files;                /* of sandboxes that are deleted */
	/* For tests: resumes begin so much later, or fail. */
	uint32_t resume_delay_ms;
	bool fails_resume;
};

/* 0, or negative errno with a sentence. Nothing runs yet: the control plane calls restore. */
MUST_USE int driver_local_new(const struct driver_local_options *o, driver_report_fn *report, void *ctx,
			      struct driver **ret_driver, char ret_error[256]);

#endif
