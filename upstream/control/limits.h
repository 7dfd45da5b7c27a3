/*
 * upstream/control/limits.h - the limits of the control plane's client, with the reason for each size.
 */
#ifndef UPSTREAM_CONTROL_LIMITS_H
#define UPSTREAM_CONTROL_LIMITS_H

/* An answer's body: CONTROL_CHANGES_MAX changes are some 150 KB, a key with GRANTS_MAX grants 10 KB. */
#define CONTROL_BODY_MAX (256 * 1024)

/* All headers of an answer, those of informational answers before it too. */
#define CONTROL_HEADERS_MAX (16 * 1024)

/* An answer's memory stays with its connection for the next one up to this. */
#define CONTROL_BODY_KEEP (16 * 1024)

/* How deep an answer's JSON may go; ours goes to 4. And how many values it may hold: CONTROL_CHANGES_MAX changes have some 5,000. */
#define CONTROL_JSON_DEPTH_MAX 16
#define CONTROL_JSON_VALUES_MAX 16384

/* Sandboxes that are waited for at once, each by a connection that is held back. Others are asked for without waiting. */
#define CONTROL_HELD_MAX 64

/* Feeds of changes that are waited for at once: a gateway has one. */
#define CONTROL_FEED_MAX 2

/* Connections of a client, and the longest wait that may be asked for: a proxy in between ends idle ones after a minute or some. */
#define CONTROL_CONNECTIONS_MAX 256
#define CONTROL_WAIT_MAX_S 300

/* Calls that wait for a connection: each has a deadline, and a control plane that is this far behind is down. */
#define CONTROL_QUEUE_MAX 4096

/*
 * Tries of a call, and the longest pause before the second; it doubles. Jitter takes it anywhere from nothing to that, so that
 * those who failed together do not come back together.
 */
#define CONTROL_TRIES_MAX 3
#define CONTROL_PAUSE_MS 200

/*
 * Failures in a row that make a control plane count as down, if they began at least so long ago: a restart that fails a hundred
 * calls at the same moment is no outage. Then how often a call is let through to see.
 */
#define CONTROL_BREAKER_FAILURES 5
#define CONTROL_BREAKER_MIN_MS 500
#define CONTROL_BREAKER_PROBE_MS 1000

/* A resolved address is kept this long, and a connection that rests. Servers and balancers close theirs after 60 s or more. */
#define CONTROL_DNS_KEEP_S 30
#define CONTROL_CONNECTION_REST_S 50

/* curl's own deadline is behind ours by this: it is the second line. */
#define CONTROL_CURL_LATER_MS 500

/* A token is good for a minute and used while more than this is left. A control plane's clock may be behind ours by the skew. */
#define CONTROL_TOKEN_S 60
#define CONTROL_TOKEN_LEFT_S 20
#define CONTROL_TOKEN_SKEW_S 5

/* The gateway's name in the token, and the whole token: its name may cost 6 characters each in JSON, and base64 a third. */
#define CONTROL_NAME_MAX 128
#define CONTROL_TOKEN_MAX 2048

/* A file of CA certificates: a system's bundle is 250 KB. */
#define CONTROL_CA_FILE_MAX (4 * 1024 * 1024)

#endif
