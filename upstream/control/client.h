/*
 * upstream/control/client.h - asks a control plane over HTTP (docs/control-plane.md, "Internal").
 *
 * libcurl's multi interface, driven by the ring: its sockets are watched and its timeouts kept by the ring, its name look-ups
 * run on libcurl's own thread. Nothing here caches or joins calls: gateway/ does.
 *
 * All calls may be repeated without harm. Where no connection could be had, or the control plane had nothing to say but a status of
 * 5xx, a call is tried again, with jitter, within its deadline. After CONTROL_BREAKER_FAILURES failures in a row the control plane
 * counts as down, and calls fail at once but for one probe every CONTROL_BREAKER_PROBE_MS.
 *
 * Calls that may be held back (wait_s) have connections of their own: however many sandboxes are waking up, and however long the
 * feed of changes is silent, other calls do not wait for them. Where these run out, a route's call is not held back. A
 * probe is not, either.
 *
 * Owner:  one thread makes the client and everything else here runs on it. Calls are embedded in the asker, zeroed before the
 *         first use, and belong to the client from the asking until on_done, which never comes inside the call that asks.
 *         on_done may ask again, cancel other calls and free the client.
 * Life:   control_client_free ends all calls without on_done; the client is gone when on_freed comes.
 * Thread: the ring's. libcurl resolves names on threads that it starts for this.
 */
#ifndef UPSTREAM_CONTROL_CLIENT_H
#define UPSTREAM_CONTROL_CLIENT_H

#include "core/check.h"
#include "core/ids.h"
#include "ring/ring.h"

struct control_client;
struct control_slot;

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
	uint32_t connection_count; /* at most, kept alive; those of calls that may be held back come on top */
	/* The breaker's state has changed; for logs and status. May not free the client. NULL: nobody wants to know. */
	void (*on_state)(void *owner, bool is_up, const char *why);
	/*
	 * After control_client_free, from the ring's loop: nothing is in flight any more. Inside that call when nothing was. NULL:
	 * nobody wants to know.
	 */
	void (*on_freed)(void *owner);
	void *owner;
};

enum control_result {
	CONTROL_OK,
	CONTROL_NOT_FOUND,   /* 404; a key without any grant; of changes: there is no feed */
	CONTROL_FORBIDDEN,   /* 403 */
	CONTROL_WAKING,      /* 503, "sandbox is waking up": its resume has been asked for */
	CONTROL_UNAVAILABLE, /* 503, any other: the sandbox is not to be had, reason says why */
	CONTROL_TOO_OLD,     /* of changes: 410, or the feed has begun anew below `since`, or there are too many */
	CONTROL_FAILED, /* no answer, a late one, one that makes no sense, 401, other statuses; reason is for the log */
};

/* What all calls share. */
struct control_call {
	void (*on_done)(struct control_call *c);
	enum control_result result;
	char reason[CONTROL_REASON_MAX]; /* printable ASCII, perhaps foreign; of CONTROL_OK "" */
	uint32_t status;                 /* HTTP's; 0 without one */
	void *owner;                     /* the asker's own */
	/* Private to the client. */
	uint8_t state, kind, tries;
	bool is_probe;
	struct control_client *client;
	struct control_slot *slot; /* the transfer, while there is one */
	struct list node;          /* in the queue of those that are in the same state */
	struct timer deadline, again;
	uint64_t asked_us, tried_us, until_us;
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
	char procd_url[CONTROL_URL_MAX]; /* as it came: tcp://HOST:PORT or HOST:PORT; "" only of one that does not run */
	char procd_key[CONTROL_KEY_TEXT_MAX]; /* ed25519:BASE64, or "" */
	char state[16];                       /* or "" */
	/* JSON, printable ASCII: {"motd": …, "sandbox": …, "team": …}, what of them came, otherwise unread; "" where none did. */
	char policy[POLICY_TEXT_MAX];
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

#define CONTROL_CHANGES_MAX 1024 /* more in one answer are CONTROL_TOO_OLD */

struct control_changes_call {
	struct control_call call;
	uint64_t since; /* 0: only says where the feed is */
	uint32_t wait_s;
	/* The answer to CONTROL_OK; the list is the client's and valid during on_done. */
	uint64_t next;
	const struct control_change *changes;
	uint32_t change_count;
};

/*
 * 0, or negative errno with a sentence in ret_error (a URL that cannot be one, a CA file that cannot be read, a libcurl that would
 * resolve names on the caller's thread). url, ca_file and name are copied. Connections are made when they are needed.
 */
MUST_USE int control_client_new(struct ring *r, const struct control_options *o, struct control_client **ret_client,
				char ret_error[256]);
/* NULL is fine. The ring has to run until on_freed. */
void control_client_free(struct control_client *c);

void control_key_find(struct control_client *c, struct control_key_call *k);
void control_route_find(struct control_client *c, struct control_route_call *r);
void control_changes_wait(struct control_client *c, struct control_changes_call *ch);
/* No on_done comes after this. Harmless when the call is done. */
void control_cancel(struct control_client *c, struct control_call *call);

struct control_stats {
	bool is_up;
	uint64_t calls, retries;
	uint64_t failures; /* calls that ended with CONTROL_FAILED */
	uint64_t rejected; /* those of them that the breaker refused */
	uint32_t in_flight;
};

void control_client_stats(const struct control_client *c, struct control_stats *ret);

#endif
