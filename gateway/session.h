/*
 * gateway/session.h - one SSH connection of a user: its client leg, its login, and then its bridge to procd.
 *
 *   LOGIN ──signature verified, may enter──► MOVING ──on the worker──► LIVE
 *     └───────────── end ───────────────────────┴──────── end ──────────┴──► CLOSING ──all completions seen──► freed
 *
 * Owner:  the thread whose ring it is on: a handshake thread up to MOVING, a worker from then on. MOVING belongs to nobody
 *         but the mail that carries it.
 * Life:   freed when nothing is in flight on either leg.
 */
#ifndef GATEWAY_SESSION_H
#define GATEWAY_SESSION_H

#include "gateway/bridge.h"
#include "gateway/checks.h"
#include "gateway/directory.h"
#include "gateway/idle.h"
#include "gateway/server.h"

#define SESSION_ID_CHARS (2 * PROOF_SESSION_BYTES)

enum session_phase {
	SESSION_LOGIN,
	SESSION_MOVING,
	SESSION_LIVE,
	SESSION_CLOSING,
};

/* Login only; freed at the hand-over. */
struct login {
	struct key_query key;
	struct route_query route;
	bool is_key_pending, is_route_pending;
	bool is_signed;
	/* With a directory that asks elsewhere: */
	struct timer timer; /* the key's turn to be asked for, or for a probe's answer to leave */
	uint64_t ask_at_us; /* not before; 0: it is not waiting for its turn */
	bool is_known;      /* the answer that waits */
	char user[64 + 16]; /* the SSH user name, cut: for the log */
};

struct session {
	struct list node; /* in its thread's list */
	struct mail mail;
	struct server *server;
	struct handshaker *handshaker; /* LOGIN */
	struct worker *worker;         /* LIVE */
	struct ring *ring;
	struct stream client;
	struct conn *conn;
	struct login *login;
	struct timer timer; /* LOGIN, MOVING: the deadline; LIVE: rest and keepalive; CLOSING: linger */
	struct bridge bridge;
	enum session_phase phase;
	bool is_client_closed, is_recv_paused, is_recv_ended, is_counted_unauthenticated, is_trimmed;
	int moved_fd;
	char id[SESSION_ID_CHARS + 1];
	char address[64]; /* the client's, and ours that he reached: of the outermost session */
	char local[64];
	uint32_t jump_depth;    /* how many sessions it is inside of */
	uint32_t address_place; /* 1 + where unauthenticated_at counts it; 0: it does not */
	char end_reason[128];
	char fingerprint[FINGERPRINT_CHARS + 1];
	struct route route;
	/* As the directory last said; NULL: nothing. Not known while the sandbox sleeps, and that is before any stream to it. */
	struct policy *team_policy, *sandbox_policy;
	struct grant *grants; /* all of the key's, from the last answer of the directory */
	uint32_t grant_count;
	struct check check;
	struct idle idle;
	uint64_t started_us, authenticated_us, heard_us;
	uint64_t asked_us; /* when the last keepalive was sent; while keepalives_out > 0 */
	uint64_t bytes_from_client, bytes_to_client;
	uint32_t keepalives_out;
};

/* Where a connection comes from that arrives inside another session's (jump.h). */
struct session_origin {
	char address[64], local[64];
	char via[SESSION_ID_CHARS + 1]; /* that session */
	uint32_t depth;
};

/* Takes a connected socket into LOGIN; from is NULL for one from the network. Closes it where that fails or may not be. */
void session_start(struct handshaker *h, int fd, const struct session_origin *from);
/* On the worker: what came by mail goes LIVE. */
void session_adopt(struct worker *w, struct session *s);

/* Ends with a message for the user where the protocol still lets us; harmless when CLOSING. */
void session_disconnect(struct session *s, uint32_t code, const char *text);
/* The directory says that he may not be here any more: ends at once, with a message for the user. */
void session_withdraw(struct session *s);
/* Ends: flushes what is queued for the client (bounded), closes both legs. */
void session_close(struct session *s, const char *reason);

/* Copied. False: no memory, and the old ones are kept. */
MUST_USE bool session_set_grants(struct session *s, const struct grant *grants, uint32_t count);

/* What holds for it now; valid until the directory is heard again. */
struct policies session_policies(const struct session *s);
/* From an answer VERDICT_YES. New channels heed it at once. */
void session_take_policies(struct session *s, const struct route_query *q);

/* What the client's socket was given is flushed at the end of the batch. */
void session_flush(struct session *s);
/* From the bridge: its stream to procd is closed. */
void session_bridge_closed(struct session *s);

#endif
