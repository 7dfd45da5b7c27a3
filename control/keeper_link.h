/*
 * control/keeper_link.h - the driver's end of a keeper: starts the process, gives orders, reads messages (keeper.h).
 *
 * Owner:  the caller, from keeper_spawn until its child was reaped and keeper_close was called.
 * Thread: the driver's. Nothing here waits for the keeper.
 */
#ifndef CONTROL_KEEPER_LINK_H
#define CONTROL_KEEPER_LINK_H

#include "control/driver_local.h"
#include "control/keeper.h"

#include <stdbool.h>
#include <sys/types.h>

struct keeper_link {
	pid_t pid; /* 0: there is none */
	int fd;
};

/* Starts a keeper that starts a procd; or, with is_remove, only removes the sandbox's files. Negative errno. */
MUST_USE int keeper_spawn(const struct driver_local_options *o, const char *sandbox, bool is_remove,
			  struct keeper_link *ret_link);

/* An order that cannot be given shows as the link's end. */
void keeper_order(const struct keeper_link *l, enum keeper_order order);

/* 1: a message; 0: none yet; -EPIPE: it has ended or is ending. Its texts are terminated. */
MUST_USE int keeper_read(const struct keeper_link *l, struct keeper_message *ret_message);

/* The child is somebody else's to reap. */
void keeper_close(struct keeper_link *l);

#endif
