/*
 * core/ids.h - the names of sandboxes, teams and users, and a grant of a team to a user.
 *
 * A sandbox ID matches ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$, a team or user ID ^[A-Za-z0-9_-]{1,64}$. Both are checked before any
 * use: they become parts of paths, of Redis keys and of headers.
 *
 * Pure. Thread: any.
 */
#ifndef CORE_IDS_H
#define CORE_IDS_H

#include "core/bytes.h"
#include "core/limits.h"

/* This user is in this team with this key. */
struct grant {
	char team[TEAM_ID_MAX + 1];
	char user[USER_ID_MAX + 1];
};

bool sandbox_id_is_good(struct bytes id);
/* Of a team or a user. */
bool member_id_is_good(struct bytes id);
/* "SHA256:" and 43 characters of base64, as ssh-keygen -l prints it. */
bool fingerprint_is_good(struct bytes text);

#endif
