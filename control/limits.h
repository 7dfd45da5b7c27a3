/*
 * control/limits.h - the control plane's limits that are no settings, with their reasons.
 */
#ifndef CONTROL_LIMITS_H
#define CONTROL_LIMITS_H

/* A request's body: a public key line of the largest kind is 6 KB. */
#define BODY_BYTES_MAX (64 * 1024)

/* A longer body without a length is read and thrown away up to here, so that its sender reads the 413; then the connection ends. */
#define BODY_DRAIN_BYTES (1024 * 1024)

/* Memory of one HTTP connection: its request line and headers (32 grants of 130 characters are 4 KB). */
#define HTTP_CONNECTION_BYTES (32 * 1024)

/* Connections: each gateway keeps a handful, held answers take one each. */
#define HTTP_CONNECTIONS_MAX 4000

/* At the end held answers are given and sent; who does not read his by then loses it. */
#define HTTP_STOP_MS 1000

/* A connection that is silent this long is closed; held answers do not count. */
#define HTTP_IDLE_S 75

/* Answers that are held back at once; beyond it they are given at once, as if the time were over. */
#define WAITERS_MAX 3500

/* The longest that an answer is held, whatever was asked for: under what proxies cut. */
#define WAIT_S_MAX 60

/* More than an hour is a mistake in the asker's units. */
#define WAIT_S_ASKED_MAX 3600

/* Versions stay what every JSON library reads exactly. */
#define VERSION_MAX ((1ll << 53) - 1)

/* POST .../pause holds its answer so long for the sandbox to be paused. */
#define PAUSE_WAIT_S 10

/* A resume that failed is not tried again for so long: users who wait would ask for it over and over. */
#define RESUME_RETRY_S 10

/* What a driver said and the database did not take is tried again after so long. */
#define REPORT_RETRY_S 1

/* Segments of a path, and the longest one after decoding. */
#define PATH_SEGMENTS_MAX 8
#define PATH_SEGMENT_MAX 128

/* What users write: a name in characters, and their UTF-8. */
#define KEY_NAME_MAX 128
#define KEY_NAME_BYTES (4 * KEY_NAME_MAX)
#define KEY_COMMENT_MAX 1024
#define TOKEN_NAME_MAX 128

/* Keys of one user: a machine each, and then some. */
#define KEYS_PER_USER_MAX 256

/* Entries of one list in an answer. */
#define LIST_MAX 1000

/* A token of a gateway may be good for so long from now, and clocks may differ by so much. */
#define JWT_LIFETIME_S_MAX 300
#define JWT_LEEWAY_S 60
#define JWT_BYTES_MAX 4096

/* Changes in one answer of the feed, and one step of whoever follows it. */
#define CHANGES_BATCH 1000

/* What is kept of the feed: a gateway that was away for longer asks for all it has. */
#define CHANGES_KEPT_COUNT 100000
#define CHANGES_KEPT_S 3600
#define CHANGES_TRIM_S 60

/* The table of changes is looked at so often, for those made by the command line or another server. */
#define FEED_POLL_MS 200

/* What the shared cache is told again at the start: as long as it keeps versions of changes. */
#define PUBLISH_REPLAY_S 600

/* A cache that did not take a change is told again after so long, doubling up to the second. */
#define PUBLISH_RETRY_MS 100
#define PUBLISH_RETRY_MAX_MS 5000

/* While nothing changes the cache is looked at so often: one that began anew without its memory is told again. */
#define PUBLISH_LOOK_MS 1000

/* Grants of a member are looked for in so many names of the cache at a time, and in so many steps: a million names, a second. */
#define PUBLISH_SCAN_COUNT 1000
#define PUBLISH_SCAN_STEPS_MAX 1000

/* One reply of the cache: a step of that scan is 200 KiB. */
#define REDIS_REPLY_BYTES_MAX (1024 * 1024)
#define REDIS_REPLY_ELEMENTS_MAX 4096

/* Connections to the database: one for each thread that uses it at once, and how long one waits for one. */
#define STORE_CONNECTIONS_MAX 64
#define STORE_TAKE_MS 5000

/* One statement, waiting for other writers included. */
#define STORE_STATEMENT_MS 5000

#endif
