/*
 * upstream/redis/limits.h - the cache's own limits that are no settings, with the reason for each.
 */
#ifndef UPSTREAM_REDIS_LIMITS_H
#define UPSTREAM_REDIS_LIMITS_H

#include "core/limits.h"

#include "core/limits.h"

/* --- the URL --- */

/* Sentinels or seeds in one URL: people run three to five. */
#define TARGET_ENDPOINTS_MAX 16
#define TARGET_HOST_MAX 255 /* of DNS; a unix socket's path is shorter still */
#define TARGET_SECRET_MAX 512
#define TARGET_NAME_MAX 127
#define TARGET_DB_MAX 1023 /* no server has as many */

/* --- one connection --- */

/* Commands sent and not answered: 2000 logins a second of three reads each, against a server that takes 250 ms, are 1500. */
#define NODE_PIPELINE_MAX 4096

/* Bytes of commands that wait for a socket: beyond it the server is not reading. */
#define NODE_OUT_MAX (1024 * 1024)

/* Late answers in a row after which the connection is closed: one may be a hiccup of the network. */
#define NODE_SLOW_COUNT 3

/* Nothing heard for so long: PING. A frozen server is found out that much and NODE_SLOW_COUNT timeouts later. */
#define NODE_IDLE_MS 1000

/* Waits between tries, doubled from the first to the last, each shortened at random by up to half. */
#define NODE_BACKOFF_FIRST_MS 100
#define NODE_BACKOFF_LAST_MS 5000

/* A connection that lasted this long counts as good: the next waits begin at the first again. */
#define NODE_STEADY_MS 5000

/* What the log and the status show of why it ended. */
#define NODE_WHY_MAX 160

/* --- replies --- */

/* One reply: values of CACHE_READ_KEYS_MAX names are 270 KiB; the slots of a Cluster in a thousand pieces 200 KiB. */
#define REPLY_BYTES_MAX (512 * 1024)

/* One array: names in one invalidation. hiredis takes memory as an array's head says, 8 bytes an element. */
#define REPLY_ELEMENTS_MAX 65536

/* Arrays within arrays: HELLO's modules and CLUSTER SLOTS' metadata are 4 deep. hiredis frees them recursively. */
#define REPLY_DEPTH_MAX 8

/* --- fills and revisions --- */

/* A key's, and that of the user in each of his teams. */
#define FILL_REVISIONS_MAX (1 + GRANTS_MAX)

/* Copies of values that are on their way, in case the server has forgotten the script: 500 with the names they hang on. */
#define FILL_BYTES_MAX (4 * 1024 * 1024)

/* An answer without a version cannot be told from an older one: it lives no longer than this. */
#define FILL_UNVERSIONED_MS 10000

/* One step of SCAN looks at about this many names: well under a millisecond of the server's one thread. */
#define SCAN_COUNT 1000

/* Steps of one scan: a million names in the database. Beyond it, everything counts as changed. */
#define SCAN_STEPS_MAX 1000

/* Names that one step may give; hash tables give a little more than they are asked for. */
#define SCAN_STEP_NAMES_MAX 4000

/* Names of one scan in all: revisions live 10 minutes, so that is 30 changes a second. */
#define CACHE_REVISIONS_MAX 20000

/* --- many servers --- */

/* Masters of a Cluster; a gateway keeps one connection to each. */
#define CLUSTER_NODES_MAX 128

/* The slots are asked for again at most this often, however many commands are redirected, */
#define CLUSTER_REFRESH_MIN_MS 200
/* and at least this often. */
#define CLUSTER_REFRESH_MS 30000

/* Which server is master is asked of a Sentinel again at least this often: its message may have been lost. */
#define SENTINEL_REFRESH_MS 10000
/* And at most this often while the master that it names does not answer. */
#define SENTINEL_REFRESH_MIN_MS 200

#endif
