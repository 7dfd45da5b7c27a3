/*
 * upstream/control/client.h - asks a control plane over HTTP (docs/control-plane.md, "Internal").
 *
 * libcurl's multi interface, driven by the ring: its sockets are watched and its timeouts kept by the ring, its name look-ups
 * run on libcurl's own thread. Nothing here caches or joins calls: gateway/ does.
 *
 * A call that changes nothing is tried again, with jitter, within its deadline; after CONTROL_BREAKER_FAILURES failures in a row
 * the control plane counts as down, and calls fail at once but for one probe every CONTROL_BREAKER_PROBE_MS.
 *
 * Owner:  one thread makes the client and everything else here runs on it. Calls are embedded in the asker and belong to the
 *         client from the asking until on_done, which never comes inside the call that asks.
 * Life:   control_client_free ends all calls without on_done.
 * Thread: the ring's.
 */
#ifndef UPSTREAM_CONTROL_CLIENT_H
#define UPSTREAM_CONTROL_CLIENT_H

#include "core/check.h"
#include "core/ids.h"

struct ring;
struct control_client;

#define CONTROL_REASON_MAX 128
#define CONTROL_URL_MAX 256
#define CONTROL_KEY_TEXT_MAX 64

struct control_options {
	const char *url; /* http://HOST:PORT or https://HOST:PORT, perhaps a path before /internal; no user, no query */
	const char *ca_file;   /* PEM; NULL: the system's */
	const char *name;      /* this gateway's: the token's iss */
	const uint8_t *secret; /* Ed25519, 64 bytes in libsodium's form; outlives the client */
	uint32_t connect_timeout_ms;
	uint32_t timeout_ms;       /* of a whole call, its retries included; what it may be held back comes on top */
	uint32_t connection_count; /* at most, kept alive */
	/* The breaker's state has changed; for logs and status. */
	void (*on_state)(void *owner, bool is_up, const char *why);
	void *owner;
};

enum control_result {
	CONTROL_OK,
	CONTROL_NOT_FOUND,   /* 404 */
	CONTROL_FORBIDDEN,   /* 403 */
	CONTROL_WAKING,      /* 503, "sandbox is waking up": its resume has been asked for */
	CONTROL_UNAVAILABLE, /* 503, any other: the sandbox is not to be had, reason says why */
	CONTROL_TOO_OLD,     /* 410, of changes */
	CONTROL_FAILED, /* no answer, a late one, one that makes no sense, 401, other statuses; reason is for the log */
};

/* What all calls share. */
struct control_call {
	void (*on_done)(struct control_call *c);
	enum control_result result;
	char reason[CONTROL_REASON_MAX]; /* printable */
	uint32_t status;                 /* HTTP's; 0 without one */
	void *owner;                     /* the asker's own */
	void *pending;                   /* the client's own */
};

struct control_key_call {
	struct control_call call;
	char fingerprint[FINGERPRINT_CHARS + 1];
	/* The answer to CONTROL_OK; every ID was checked. */
	struct grant grants[GRANTS_MAX];
	uint32_t grant_count;
	bool has_version;
	uint64_t version;
};

struct control_route_call {
	struct control_call call;
	char sandbox[SANDBOX_ID_MAX + 1];
	char fingerprint[FINGERPRINT_CHARS + 1];
	const struct grant *grants; /* valid until on_done */
	uint32_t grant_count;
	uint32_t wait_s; /* the answer may be held back this long while the sandbox wakes up; 0: not at all */
	bool is_no_wake; /* ?wake=no: a paused sandbox stays so */
	/* The answer to CONTROL_OK; its sandbox is the one asked for and its grant one of the grants. */
	struct grant grant;
	char procd_url[CONTROL_URL_MAX];      /* as it came: tcp://HOST:PORT or HOST:PORT */
	char procd_key[CONTROL_KEY_TEXT_MAX]; /* ed25519:BASE64, or "" */
	char state[16];                       /* or "" */
	bool has_version;
	uint64_t version;
};

enum control_subject_kind {
	CONTROL_SUBJECT_KEY,
	CONTROL_SUBJECT_MEMBER,
	CONTROL_SUBJECT_SANDBOX,
};

struct control_change {
	enum control_subject_kind kind;
	bool is_moved; /* a sandbox's route or state; else something was withdrawn */
	char fingerprint[FINGERPRINT_CHARS + 1];
	struct grant member;
	char sandbox[SANDBOX_ID_MAX + 1];
};

#define CONTROL_CHANGES_MAX 1024

struct control_changes_call {
	struct control_call call;
	uint64_t since;
	uint32_t wait_s;
	/* The answer to CONTROL_OK. The list is the client's and valid during on_done; more than CONTROL_CHANGES_MAX are CONTROL_TOO_OLD. */
	uint64_t next;
	const struct control_change *changes;
	uint32_t change_count;
};

/* 0, or negative errno with a sentence in ret_error (a URL that cannot be one, a CA file that cannot be read). */
MUST_USE int control_client_new(struct ring *r, const struct control_options *o, struct control_client **ret_client,
				char ret_error[256]);
void control_client_free(struct control_client *c);

void control_key_find(struct control_client *c, struct control_key_call *k);
void control_route_find(struct control_client *c, struct control_route_call *r);
void control_changes_wait(struct control_client *c, struct control_changes_call *ch);
/* No on_done comes after this. Harmless when the call is done. */
void control_cancel(struct control_client *c, struct control_call *call);

struct control_stats {
	bool is_up;
	uint64_t calls, retries, failures, rejected; /* rejected: by the breaker */
	uint32_t in_flight;
};

void control_client_stats(const struct control_client *c, struct control_stats *ret);

#endif
