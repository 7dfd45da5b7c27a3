/*
 * procd/user.h - the user that commands run as.
 */
#ifndef PROCD_USER_H
#define PROCD_USER_H

#include "core/check.h"

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct options;

struct user {
	char name[256];
	char home[PATH_MAX];
	char shell[PATH_MAX];
	uid_t uid;
	gid_t gid;
	bool is_switched; /* this process is another user */
};

/* By the options and the passwd database. 0; -ENOENT: no such user; -EPERM: only root can become another one. */
MUST_USE int user_find(const struct options *o, struct user *ret_user);
/* Becomes that user for good. 0 or negative errno. */
MUST_USE int user_become(const struct user *u);

#endif
