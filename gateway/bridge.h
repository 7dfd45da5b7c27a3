/*
 * gateway/bridge.h - joins one SSH connection's channels to one procd stream, with credits end to end.
 *
 *   client ──CHANNEL_DATA──► link.up ──DATA──► procd        windows open only as procd grants credit and takes bytes
 *   client ◄──CHANNEL_DATA── (nothing kept) ◄──DATA── procd  credit is granted only as the client's socket drains
 *
 * Owner:  embedded in a session; links are made for channels and freed when both sides closed.
 * Thread: the session's worker.
 */
#ifndef GATEWAY_BRIDGE_H
#define GATEWAY_BRIDGE_H

#include "core/list.h"
#include "gateway/directory.h"
#include "ssh/conn.h"
#include "upstream/procd/client.h"

struct session;
struct link_setup;

/*
 *   NEW ──shell, exec, subsystem, direct-tcpip──► WAITING ──stream ready──► OPENING ──OPENED──► LIVE ──CLOSE both ways──► freed
 *                                                     └───────────── REFUSED, stream lost ──────────┴──► DONE (client's CLOSE is awaited)
 */
enum link_state {
	LINK_NEW,
	LINK_WAITING,
	LINK_OPENING,
	LINK_LIVE,
	LINK_DONE,
};

struct link {
	struct list node;
	struct bridge *bridge;
	struct chan *chan; /* NULL once the client's side is gone */
	enum link_state state;
	uint32_t number;          /* on the procd stream; 0 before OPENING */
	struct link_setup *setup; /* what OPEN will say; NULL after it was sent */
	bool is_tcp, is_subsystem, has_pty;
	/* Client to procd. */
	struct chain up; /* held for want of credit */
	uint32_t up_credit;
	uint32_t up_granted; /* the window's size: outstanding and held together */
	uint32_t up_return;  /* passed on, not yet given back to the client's window */
	bool is_up_eof, is_up_eof_sent, is_up_discarded, is_close_wanted, is_close_sent;
	/* Procd to client. */
	uint32_t down_credit; /* granted and unused; never above chan_room */
	uint32_t down_limit;
	bool is_exit_seen, is_peer_closed;
	const char *farewell;  /* LINK_DONE: what the user is told before the channel ends; NULL: nothing waits */
	struct timer deadline; /* OPENING: of the answer; the client closed: of what is held */
};

struct bridge {
	struct session *session;
	struct procd_client procd;
	struct list links;
	struct link *last; /* the link of the last DATA: most come in runs */
	uint32_t link_count, next_number;
	uint32_t up_total;      /* sum of up_granted */
	uint32_t down_total;    /* sum of down_credit */
	uint32_t opened_count;  /* channels since the session began, for the log */
	struct deferred settle; /* end of the batch: credits, windows */
	bool is_closing, is_retried, is_asking_route;
	struct timer linger;
	enum procd_end end_why;    /* why the last stream ended */
	struct route_query *retry; /* asked once when something else answered, or nobody, where the sandbox should be */
};

void bridge_init(struct bridge *b, struct session *s);

enum chan_answer bridge_on_chan_open(struct bridge *b, struct chan *ch, const struct chan_open *o);
enum chan_answer bridge_on_chan_request(struct chan *ch, const struct chan_request *r);
void bridge_on_chan_data(struct chan *ch, struct bytes data);
void bridge_on_chan_eof(struct chan *ch);
void bridge_on_chan_close(struct chan *ch);
void bridge_on_chan_gone(struct chan *ch);
/* Credits and windows are looked at once more, at the end of the batch. */
void bridge_settle(struct bridge *b);

/* Ends the procd stream (live channels are hung up by procd); session_bridge_closed follows, perhaps later. */
void bridge_close(struct bridge *b);
bool bridge_is_closed(const struct bridge *b);
void bridge_deinit(struct bridge *b);

#endif
