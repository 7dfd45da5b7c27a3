/*
 * control/policies.h - what teams and sandboxes forbid, in the database: JSON that gateways understand (core/policy.h).
 *
 * A change of one is a move in the feed of every sandbox that it concerns. IDs were checked. Thread: that of the connection.
 */
#ifndef CONTROL_POLICIES_H
#define CONTROL_POLICIES_H

#include "control/store.h"
#include "core/bytes.h"
#include "core/limits.h"

/* Of one, so that a team's and a sandbox's fit into one answer together (POLICY_TEXT_MAX). */
#define POLICY_ONE_MAX (POLICY_TEXT_MAX / 2 - 32)
#define POLICY_WRONG_BYTES 256

/* JSON made short and checked as a gateway does. -EINVAL with what is wrong, -ENOMEM. */
MUST_USE int policy_check(struct bytes text, char ret_policy[POLICY_ONE_MAX], char ret_wrong[POLICY_WRONG_BYTES]);

/* Of a team, or of a sandbox (then team is NULL). "" takes it away. -ENOENT. */
MUST_USE int policy_set(struct store *s, const char *team, const char *sandbox, const char *policy);
/* "" where there is none. -ENOENT: no such team or sandbox. */
MUST_USE int policy_find(struct store *s, const char *team, const char *sandbox, char ret_policy[POLICY_ONE_MAX]);

#endif
