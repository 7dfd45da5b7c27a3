/*
 * gateway/forward.h - what the client wants listened for in the sandbox (ssh -R): LISTEN and its answers.
 *
 *   WAITING ──stream ready──► ASKED ──LISTENING──► LIVE ──cancelled──► ENDING ──UNLISTENED──► freed
 *      ▲                        └── LISTEN_REFUSED, no answer: freed       ▲
 *      └────────── the stream is lost: asked again on the next one ── LIVE ┘ (freed)
 *
 * Each connection that is made there is a channel of procd's own (link_forward.c), and nothing else of procd's is.
 *
 * Owner:  `struct forwards` is embedded in the links of a session.
 * Life:   a listening lives until it is cancelled or refused, at the longest as long as its session.
 * Thread: the session's worker.
 */
#ifndef GATEWAY_FORWARD_H
#define GATEWAY_FORWARD_H

#include "core/list.h"
#include "ring/ring.h"
#include "ssh/conn.h"
#include "upstream/procd/frame.h"

struct links;

enum listening_state { LISTENING_WAITING, LISTENING_ASKED, LISTENING_LIVE, LISTENING_ENDING };

struct listening {
	struct list node;
	struct links *links;
	enum listening_state state;
	uint64_t request; /* of the last LISTEN */
	uint64_t reply;   /* for the client; 0: none is waited for */
	bool is_unix, is_port_chosen, is_silent;
	bool is_again;         /* it was LIVE on a stream that was lost */
	uint32_t port;         /* in use; where the client left it open 0 before LISTENING */
	struct timer deadline; /* ASKED: of the answer */
	struct bytes address;  /* as the client wrote it; the bytes follow the struct */
};

struct forwards {
	struct list list;
	uint32_t count, ending_count; /* all; those of them that are ENDING */
	uint32_t asked_count;         /* channels that procd opened and the client has not answered */
	uint64_t next_request;
	uint32_t highest_channel; /* of procd's own */
	bool is_agent_asked;      /* some channel's OPEN on this stream said that the client offers its agent */
	bool is_offer_over;       /* a session with an agent has ended: links_end_agents has to look */
	uint32_t agent_count;     /* links to the client's agent */
};

void forwards_init(struct forwards *f);
void forwards_deinit(struct links *ls);
enum chan_answer forwards_on_listen(struct links *ls, const struct conn_listen *c);
/* Somebody waits for the stream, or, with or_asked, for procd's answer. */
bool forwards_are_waiting(const struct links *ls, bool or_asked);
struct listening *forwards_find(struct links *ls, uint64_t request);

/* --- what the stream does --- */

void forwards_on_ready(struct links *ls);
/* A frame on channel 0. -EPROTO when it makes no sense. */
MUST_USE int forwards_on_frame(struct links *ls, const struct frame *f);
/* It is lost, or cannot be had: who waits is told no; the others are asked for anew on the next one. */
void forwards_lose(struct links *ls, const char *text);

#endif
