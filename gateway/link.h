/*
 * gateway/link.h - the links of one SSH connection: each joins one channel to one channel of the procd stream, with credits end
 * to end.
 *
 *   client ──CHANNEL_DATA──► link.up ──DATA──► procd        windows open only as procd grants credit and takes bytes
 *   client ◄──CHANNEL_DATA── (nothing kept) ◄──DATA── procd  credit is granted only as the client's socket drains
 *
 * Owner:  `struct links` is embedded in the bridge; links are made for channels and freed when both sides closed.
 * Thread: the session's worker.
 */
#ifndef GATEWAY_LINK_H
#define GATEWAY_LINK_H

#include "core/list.h"
#include "gateway/forward.h"
#include "ssh/conn.h"
#include "upstream/procd/client.h"

struct session;
struct jump;
struct link_setup;
struct links;

/*
 *   NEW ──shell, exec, subsystem, direct-tcpip──► WAITING ──stream ready──► OPENING ──OPENED──► LIVE ──CLOSE both ways──► freed
 *                                                     └───────────── REFUSED, stream lost ──────────┴──► DONE (client's CLOSE is awaited)
 *   NEW ──procd opened it──► ASKED ──the client agrees──► LIVE
 *   NEW ──direct-tcpip to this gateway──► LIVE
 */
enum link_state {
	LINK_NEW,
	LINK_WAITING,
	LINK_ASKED, /* procd opened it, the client has not answered: link_forward.c */
	LINK_OPENING,
	LINK_LIVE,
	LINK_DONE,
};

struct link {
	struct list node;
	struct links *links;
	struct chan *chan; /* NULL once the client's side is gone */
	enum link_state state;
	uint32_t number;          /* on the procd stream; 0 before OPENING */
	struct link_setup *setup; /* what OPEN will say; NULL after it was sent */
	bool is_forward, is_subsystem, has_pty;
	bool offers_agent; /* a session: its client takes channels to his agent while it is live */
	struct jump *jump; /* its far side is this gateway: jump.h; NULL: it is procd */
	uint32_t agent_of; /* a link to the agent: the session's number; 0: it is none */
	uint32_t columns;  /* of the pty; 0: not known */
	/* links_tell_waking has told; and what its line takes up of a terminal, where it can be written over. */
	bool is_told;
	uint32_t told_columns;
	/* Client to procd. */
	struct chain up; /* held for want of credit */
	uint32_t up_credit;
	uint32_t up_granted; /* the window's size: outstanding and held together */
	uint32_t up_return;  /* passed on, not yet given back to the client's window */
	uint32_t up_excess;  /* of up_granted: to be taken back as the client uses it */
	uint64_t up_taken;   /* all that the client has sent */
	uint64_t up_mark;    /* where his window ended before the grant that is timed */
	uint64_t up_mark_us; /* when that grant was made; 0: none is timed */
	uint64_t up_heard_us;
	bool is_up_short; /* the client waited for a grant to travel: his window is smaller than the way */
	bool is_up_eof, is_up_eof_sent, is_up_discarded, is_close_wanted, is_close_sent;
	/* Procd to client. */
	uint32_t down_credit; /* granted and unused; never above chan_room */
	uint32_t down_limit;
	uint64_t down_end; /* where its last byte stands in all that the client is sent */
	bool is_exit_seen, is_peer_closed;
	const char *farewell;  /* LINK_DONE: what the user is told before the channel ends; NULL: nothing waits */
	bool is_silent;        /* OPENING: on_silent was called */
	struct timer deadline; /* OPENING: of the answer; the client closed: of what is held */
};

struct links {
	struct session *session;
	struct procd_client *procd; /* the stream that they share */
	struct list list;
	struct link *last;    /* the link of the last DATA: most come in runs */
	struct link *up_last; /* the same of the client's data */
	uint32_t count, next_number;
	uint32_t up_total;        /* sum of up_granted */
	uint32_t down_total;      /* sum of down_credit */
	uint32_t opened_count;    /* channels since the session began, for the log */
	uint64_t moved_us;        /* when a channel last carried something, or one was opened */
	struct forwards forwards; /* what listens in the sandbox for the client */
	struct deferred settle;   /* end of the batch: credits, windows */
	const struct links_events *events;
};

struct links_events {
	/* A link waits for the stream. */
	void (*on_wanted)(struct links *ls);
	/* procd has not answered OPEN within LINK_SILENT_MS, as it does when it lives. */
	void (*on_silent)(struct links *ls);
};

void links_init(struct links *ls, struct session *s, struct procd_client *procd, const struct links_events *events);
/* All are freed; the channels are gone already, or go with their connection. */
void links_deinit(struct links *ls);
/* Every channel that can still show it to its user. */
void links_tell_all(struct links *ls, const char *text);
/*
 * The sandbox wakes up, since so long: told to those who wait for it, on a terminal every time in the same line, else once. Never
 * on standard output.
 */
void links_tell_waking(struct links *ls, uint32_t seconds);
/* What a sandbox or a control plane says is shown to the user without what would steer his terminal. */
void tell_copy_plain(struct bytes from, char *ret_text, size_t size);
/* Credits and windows are looked at once more, at the end of the batch. */
void links_settle(struct links *ls);
bool links_have_waiting(const struct links *ls);
/* The same, or for procd's answer to OPEN. */
bool links_have_unopened(const struct links *ls);
/* Nothing moves: windows that had grown are on their way back. */
void links_rest(struct links *ls);

/* --- what the client does: struct conn_events --- */

enum chan_answer link_on_chan_open(struct links *ls, struct chan *ch, const struct chan_open *o);
enum chan_answer link_on_chan_request(struct chan *ch, const struct chan_request *r);
void link_on_chan_data(struct chan *ch, struct bytes data);
uint8_t *links_on_room(struct links *ls, size_t n);
bool link_on_room_data(struct chan *ch, struct bytes data);
void links_on_room_back(struct links *ls);
void link_on_chan_eof(struct chan *ch);
void link_on_chan_close(struct chan *ch);
void link_on_chan_gone(struct chan *ch);

/* A channel that procd had opened. */
void link_on_chan_opened(struct chan *ch);
void link_on_chan_refused(struct chan *ch, uint32_t why, struct bytes text);

/* --- what the stream does --- */

/* It is ready: what waits is opened. */
void links_on_ready(struct links *ls);
/* A frame or payload on a channel other than 0. -EPROTO when it makes no sense. */
MUST_USE int links_on_frame(struct links *ls, const struct frame *f);
MUST_USE int links_on_data(struct links *ls, uint32_t channel, uint32_t stream, struct bytes piece);
/* It is lost, or cannot be had: every channel that hangs on it or waits for it ends, and none looks like success. */
void links_lose(struct links *ls, const char *text);
/* The session ends: its connections to this gateway do, too. */
void links_drop_jumps(struct links *ls);
/* It is closed: numbers begin anew with the next one. */
void links_on_closed(struct links *ls);

#endif
