/*
 * control/driver.h - what makes, pauses, resumes and deletes sandboxes.
 *
 * The control plane decides and keeps the state; a driver only does, and reports what is. No call waits for the work to end: it
 * begins it and returns; the end is one report. What happens by itself (a sandbox's processes died) is a report, too. So
 * there is one way in which a state changes: driver_report.
 *
 * The control plane calls resume once for each time that a sandbox leaves PAUSED or STOPPED, however many users wait for it. It may call
 * pause, resume and delete while an earlier call for the same sandbox is not over: the driver does them in turn, or answers -EBUSY.
 *
 * Without a driver (the setting `driver: none`) sandboxes are imported with a fixed address and never change.
 *
 * Owner:  main, from driver_*_new until ops->free, which waits for the driver's threads; after it nothing is reported any more. What
 *         happens then to sandboxes that run is the driver's choice, and documented there.
 * Thread: ops are called from any thread, also several at once. Reports come from any thread, never from within an op.
 */
#ifndef CONTROL_DRIVER_H
#define CONTROL_DRIVER_H

#include "control/state.h"
#include "core/check.h"

struct driver_report {
	const char *sandbox;
	enum sandbox_state state; /* what it is now */
	/* RUNNING: where its procd listens ("tcp://ADDR:PORT" or "unix:PATH") and proves itself ("ed25519:BASE64"). Else NULL. */
	const char *procd_url;
	const char *procd_key;
	/* Not NULL: what was asked for failed, or it stopped by itself. One sentence that users may read. */
	const char *reason;
};

/*
 * Copies what it needs. Takes a database transaction, so it may wait for some milliseconds. Unknown sandboxes are ignored. What the
 * database does not take is kept and tried again: nothing has to be said twice.
 */
typedef void driver_report_fn(void *ctx, const struct driver_report *report);

struct driver;

struct driver_ops {
	/*
	 * Before all else, once for each sandbox of this driver in the database: what it was when the control plane ended. The driver
	 * reports what it is now.
	 */
	MUST_USE int (*restore)(struct driver *d, const char *sandbox, enum sandbox_state was);
	/* 0: begun. Negative errno: nothing was begun and nothing will be reported. */
	MUST_USE int (*create)(struct driver *d, const char *sandbox); /* reports RUNNING, or STOPPED with the reason */
	MUST_USE int (*pause)(struct driver *d, const char *sandbox);  /* reports PAUSED, or what it is and why */
	MUST_USE int (*resume)(struct driver *d,
			       const char *sandbox); /* reports RUNNING, or PAUSED or STOPPED and why */
	/* Its processes and its files. Reports nothing: for the control plane it is gone already. create is -EBUSY until it is over. */
	MUST_USE int (*remove)(struct driver *d, const char *sandbox);
	void (*free)(struct driver *d);
};

/* Embedded as the first member of a driver's own struct. */
struct driver {
	const struct driver_ops *ops;
};

#endif
