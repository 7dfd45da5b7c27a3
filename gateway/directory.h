/*
 * gateway/directory.h - the one interface behind which stands who a key belongs to, who may enter, and where a sandbox is.
 *
 * Implemented by gateway/static_directory.c (a file) and gateway/region_directory.c (a control plane and Redis).
 *
 * Owner:  queries are embedded in the asker and belong to the directory from find until on_done (or key_cancel, route_cancel).
 * Life:   an answer may come inside the call that asks, or later; on_done always runs on the thread whose ring is q->ring. Every
 *         query is answered, within the directory's own deadline (and wait_ms).
 * Thread: any thread may ask.
 */
#ifndef GATEWAY_DIRECTORY_H
#define GATEWAY_DIRECTORY_H

#include "core/ids.h"
#include "core/policy.h"
#include "upstream/procd/proof.h"

#include <sys/socket.h>

struct ring;

enum verdict {
	VERDICT_YES,
	VERDICT_NO,     /* unknown key, unknown sandbox, or none of the grants may enter: the user sees no difference */
	VERDICT_WAKING, /* a route only: it was paused, its resume has been asked for */
	VERDICT_UNAVAILABLE, /* nobody could say; reason holds a sentence for the user */
};

#define REASON_MAX 128

/* Who is this key? */
struct key_query {
	char fingerprint[FINGERPRINT_CHARS + 1]; /* SHA256:… as ssh-keygen -l prints it */
	bool is_signed; /* its signature was verified; false: a probe, by anybody who knows the key */
	bool is_check;  /* for a live session: ask the source, not a cache */
	struct ring *ring;
	void (*on_done)(struct key_query *q);
	/* The answer. */
	enum verdict verdict;
	struct grant grants[GRANTS_MAX];
	uint32_t grant_count;
	char reason[REASON_MAX];
	void *owner;   /* the asker's own */
	void *pending; /* the directory's own */
};

struct route {
	char sandbox[SANDBOX_ID_MAX + 1];
	struct grant grant; /* the one that lets the user in */
	struct sockaddr_storage addr;
	socklen_t addr_bytes;
	struct proof_public procd_key;
	bool has_procd_key;
};

/*
 * May these grants enter this sandbox, and where is it? Asked only after the user's signature was verified: it may wake it.
 * Of VERDICT_WAKING's route only the sandbox and the grant's user are known.
 */
struct route_query {
	char sandbox[SANDBOX_ID_MAX + 1];
	char fingerprint[FINGERPRINT_CHARS + 1];
	const struct grant *grants; /* valid until on_done */
	uint32_t grant_count;
	bool is_retry; /* the route given last was wrong: ask the source, not a cache */
	/*
	 * For a live session: ask the source, not a cache, and wake nothing. A sandbox that rests is YES or WAKING then, as the
	 * source likes; of YES the route may lack an address (addr_bytes 0).
	 */
	bool is_check;
	/*
	 * 0: answer as soon as it is known. Else an answer WAKING may be held until the sandbox is awake (or never will be), at
	 * most this long; the asker asks again. Where nothing can hold it, it comes at once.
	 */
	uint32_t wait_ms;
	struct ring *ring;
	void (*on_done)(struct route_query *q);
	/* The answer. */
	enum verdict verdict;
	struct route route;
	/* Of YES: what the sandbox's team and it itself forbid, or NULL. The directory's until on_done has returned: policy_get. */
	struct policy *team_policy, *sandbox_policy;
	char reason[REASON_MAX];
	void *owner;
	void *pending;
};

/* What a change is about. */
enum subject_kind {
	SUBJECT_KEY,     /* fingerprint: deleted, or its grants are others */
	SUBJECT_MEMBER,  /* user in team */
	SUBJECT_SANDBOX, /* sandbox: deleted, moved, another team's */
	SUBJECT_ALL,     /* anything: changes were missed, or are not told apart */
};

struct subject {
	enum subject_kind kind;
	char fingerprint[FINGERPRINT_CHARS + 1];
	char user[USER_ID_MAX + 1];
	char team[TEAM_ID_MAX + 1];
	char sandbox[SANDBOX_ID_MAX + 1];
};

struct directory {
	const struct directory_ops *ops;
	/*
	 * Something about this subject may have changed: what hangs on it is asked for again (is_check), and only a NO then ends
	 * it. Set by the server before its threads start, NULL before that; call it by directory_changed, from any thread, after
	 * the change is what a query would be answered by. It does not block, and does not ask from within.
	 */
	void (*on_changed)(struct directory *d, const struct subject *s);
	void *owner; /* on_changed's */
};

static inline void directory_changed(struct directory *d, const struct subject *s)
{
	if (d->on_changed)
		d->on_changed(d, s);
}

struct directory_ops {
	void (*key_find)(struct directory *d, struct key_query *q);
	void (*route_find)(struct directory *d, struct route_query *q);
	/* On the asker's thread, of a query that is not answered yet. No on_done comes after these. */
	void (*key_cancel)(struct directory *d, struct key_query *q);
	void (*route_cancel)(struct directory *d, struct route_query *q);
	/*
	 * NULL where this process always knows. Else whether it does; the answer stands in q then, and there is no on_done. Of
	 * such a directory the answers to probes leave by the clock (login.h), and what has to be asked for is rationed.
	 */
	bool (*key_recall)(struct directory *d, struct key_query *q);
	/*
	 * Both may be NULL. start: once on_changed is set and before anybody asks; its own threads begin. stop: when nobody asks any
	 * more and while all rings are there; then its threads have ended, and neither on_done nor on_changed comes any more.
	 */
	MUST_USE int (*start)(struct directory *d, char ret_error[256]);
	void (*stop)(struct directory *d);
	void (*free)(struct directory *d);
};

/*
 * The static directory: a YAML file (docs/configuration.md), read now; static_directory_reload reads it again and keeps the
 * old content when the new one is wrong. Lookups take a read lock for a copy only. ret_error gets file:line and what is
 * wrong. 0 or negative errno.
 */
MUST_USE int static_directory_new(const char *path, struct directory **ret_directory, char ret_error[256]);
/*
 * 1: new content taken; 0: the file is unchanged; negative errno: unreadable or wrong, the old content stays. -EALREADY: it is
 * still wrong as the call before has told, with the same ret_error. Any thread.
 */
MUST_USE int static_directory_reload(struct directory *d, char ret_error[256]);

#endif
