/*
 * upstream/procd/client.h - the gateway's end of one procd stream: connect, prove, verify, then frames both ways.
 *
 *   IDLE ─start─► CONNECTING ─► CHALLENGE ─(HELLO sent)─► WELCOME ─► READY ─► ENDED ─close─► CLOSED
 *                     └──────────────┴──────────────────────┴─ error, deadline ─┘
 *
 * Owner:  embedded in a session; one stream for one SSH connection.
 * Life:   from procd_client_start until on_closed; its memory stays until then.
 * Thread: the ring's.
 *
 * Nothing of the user's is sent before WELCOME was verified.
 */
#ifndef UPSTREAM_PROCD_CLIENT_H
#define UPSTREAM_PROCD_CLIENT_H

#include "ring/ring.h"
#include "upstream/procd/frame.h"
#include "upstream/procd/proof.h"

enum procd_client_state {
	PROCD_IDLE,
	PROCD_CONNECTING,
	PROCD_CHALLENGE,
	PROCD_WELCOME,
	PROCD_READY,
	PROCD_ENDED,
	PROCD_CLOSED,
};

/* Why a stream ended; the text for the user is procd_client_reason(). */
enum procd_end {
	PROCD_UNREACHABLE, /* no connection, or nothing said in time */
	PROCD_WRONG,       /* a wrong key or wrong-sandbox: the route is stale or somebody else's */
	PROCD_REFUSED,     /* ERROR before WELCOME: bad ticket, version, shutting down */
	PROCD_BROKEN,      /* protocol error in what procd sent */
	PROCD_LOST,        /* EOF, reset, no answer to PING after it was ready */
};

struct procd_client;

struct procd_client_events {
	void (*on_ready)(struct procd_client *p);
	/* A whole frame on a channel other than 0, or GOAWAY. Negative errno when it makes no sense here: the stream ends. */
	int (*on_frame)(struct procd_client *p, const struct frame *f);
	int (*on_data)(struct procd_client *p, uint32_t channel, uint32_t stream, struct bytes piece, uint32_t left);
	/* The kernel took bytes; procd_client_unsent tells how much is left. */
	void (*on_sent)(struct procd_client *p);
	/* Once. Then call procd_client_close. */
	void (*on_end)(struct procd_client *p, enum procd_end why, const char *detail);
	void (*on_closed)(struct procd_client *p);
};

struct procd_client_options {
	const struct sockaddr *addr;
	socklen_t addr_bytes;
	uint32_t connect_timeout_ms;
	uint32_t hello_timeout_ms; /* from the start to WELCOME */
	uint32_t ping_ms;          /* silence after which PING is sent */
	uint32_t ping_count;       /* unanswered ones before the stream is lost */
	uint32_t tcp_user_timeout_ms;
	const struct ticket *ticket;
	const struct proof_secret *secret;   /* the gateway's; outlives the client */
	const struct proof_public *expected; /* the sandbox's; NULL where it is not known */
};

struct procd_client {
	const struct procd_client_events *events;
	struct stream stream;
	struct frame_reader reader;
	struct timer deadline; /* until READY; then of the next PING */
	enum procd_client_state state;
	bool is_feeding, is_closing;
	const struct proof_secret *secret;
	struct proof_public expected;
	bool has_expected;
	uint8_t challenge[FRAME_CHALLENGE_BYTES];
	uint8_t ticket[TICKET_MAX];
	uint16_t ticket_bytes;
	uint32_t ping_ms, ping_count, pings_out;
	uint32_t tcp_user_timeout_ms;
	uint64_t heard_us;
	uint8_t *reserved; /* for a DATA frame, its head included; NULL: nothing is */
};

/* Once, before anything else; state is IDLE. */
void procd_client_init(struct procd_client *p, const struct procd_client_events *events);
/* All else comes by events. */
void procd_client_start(struct procd_client *p, struct ring *r, const struct procd_client_options *o);

/* Queues a frame (never DATA); it goes out at the end of the batch. 0 or negative errno. */
MUST_USE int procd_client_send(struct procd_client *p, const struct frame *f);
/* Queues payload as DATA frames on a channel. */
MUST_USE int procd_client_send_data(struct procd_client *p, uint32_t channel, struct bytes payload);
/*
 * The same with a payload that is written where it is sent from: room for up to `size` bytes of it, before which FRAME_DATA_HEADER_WIDE
 * bytes may be written, too; NULL: not now. Until procd_client_commit_data, which says how many bytes they are (0: it was for
 * nothing), nothing else is queued.
 */
MUST_USE uint8_t *procd_client_reserve_data(struct procd_client *p, size_t size);
void procd_client_commit_data(struct procd_client *p, uint32_t channel, uint32_t n);
size_t procd_client_unsent(const struct procd_client *p);

/* Ends at once; on_closed follows (on_end does not). Harmless when closing; not allowed when IDLE. */
void procd_client_close(struct procd_client *p);

#endif
