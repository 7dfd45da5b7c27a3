/*
 * control/publish_redis.h - tells a Redis or Valkey of changes: what it holds of the subject goes, and rg:rev:... says the version.
 *
 * Names only: values are the gateways' (upstream/redis/record.h). The revision is set first, so that no late fill of a gateway can
 * come between; then what is cached is deleted. Grants of a member or a sandbox are found by SCAN.
 */
#ifndef CONTROL_PUBLISH_REDIS_H
#define CONTROL_PUBLISH_REDIS_H

#include "control/publish.h"
#include "control/redis_link.h"

/* 0, or negative errno with a sentence. Connects to nothing yet. */
MUST_USE int publish_redis_new(const struct redis_link_options *o, struct publish_sink **ret_sink, char ret_error[256]);

#endif
