/*
 * control/fleet.h - sandboxes and their driver: who asks it for what, once, and what its reports do.
 *
 * Owner:  main; the driver is the fleet's from fleet_start to fleet_stop.
 * Thread: any; a report comes on a thread of the driver's.
 */
#ifndef CONTROL_FLEET_H
#define CONTROL_FLEET_H

#include "control/driver.h"
#include "control/feed.h"
#include "control/reports.h"
#include "control/sandboxes.h"

struct fleet {
	struct store_pool *pool;
	struct feed *feed;
	struct driver *driver;   /* NULL: sandboxes are imported */
	const char *driver_name; /* which sandboxes are its */
	struct reports reports;
	bool is_started;
};

/* Before a driver is made for it, whose reports come here. */
void fleet_init(struct fleet *f, struct store_pool *pool, struct feed *feed);
/* Tells the driver of all its sandboxes. */
MUST_USE int fleet_start(struct fleet *f);
/* Frees the driver. */
void fleet_stop(struct fleet *f);

/* All of these: -ENOTSUP where no driver of ours has it; -EBUSY: something else is going on with it; other errors of the driver. */

/* Fills driver and state. -EEXIST. */
MUST_USE int fleet_create(struct fleet *f, struct store *s, struct sandbox *b);
/* Of one that is paused or stopped. 1: the driver was asked; 0: somebody else has asked it. */
MUST_USE int fleet_resume(struct fleet *f, struct store *s, const struct sandbox *b, const char *user);
/* Of one that runs. */
MUST_USE int fleet_pause(struct fleet *f, struct store *s, const struct sandbox *b);
/* Of any, also an imported one. */
MUST_USE int fleet_remove(struct fleet *f, struct store *s, const struct sandbox *b);

/* ctx is the fleet. */
driver_report_fn fleet_report;

#endif
