/*
 * gateway/directory.h - the one interface behind which stands who a key belongs to, who may enter, and where a sandbox is.
 *
 * Implemented by gateway/static_directory.c (a file); the control plane and Redis implement the same.
 *
 * Owner:  queries are embedded in the asker and belong to the directory from find until on_done (or directory_cancel).
 * Life:   an answer may come inside the call that asks, or later; on_done always runs on the thread whose ring is q->ring.
 * Thread: any thread may ask.
 */
#ifndef GATEWAY_DIRECTORY_H
#define GATEWAY_DIRECTORY_H

#include "core/bytes.h"
#include "core/limits.h"
#include "upstream/procd/proof.h"

#include <sys/socket.h>

struct ring;

struct grant {
	char team[TEAM_ID_MAX + 1];
	char user[USER_ID_MAX + 1];
};

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

/* May these grants enter this sandbox, and where is it? Asked only after the user's signature was verified: it may wake it. */
struct route_query {
	char sandbox[SANDBOX_ID_MAX + 1];
	char fingerprint[FINGERPRINT_CHARS + 1];
	const struct grant *grants; /* valid until on_done */
	uint32_t grant_count;
	bool is_retry; /* the route given last was wrong: ask the source, not a cache */
	struct ring *ring;
	void (*on_done)(struct route_query *q);
	/* The answer. */
	enum verdict verdict;
	struct route route;
	char reason[REASON_MAX];
	void *owner;
	void *pending;
};

struct directory {
	const struct directory_ops *ops;
};

struct directory_ops {
	void (*key_find)(struct directory *d, struct key_query *q);
	void (*route_find)(struct directory *d, struct route_query *q);
	/* No on_done comes after these. */
	void (*key_cancel)(struct directory *d, struct key_query *q);
	void (*route_cancel)(struct directory *d, struct route_query *q);
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
