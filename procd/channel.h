/*
 * procd/channel.h - channels: their table, credit both ways, and what the kinds of channels share.
 *
 * The gateway opens them, with even numbers, or we do, with odd ones (channel_offer).
 *
 *   OPENING ─opened─► OPEN ─CLOSE sent─► GONE
 *      └──────── refused ────────────────┘
 *
 * Owner:  the session. A kind's own state is in the channel's union.
 * Life:   from OPEN until GONE; the memory stays to the end of the loop's round (events may be on their way), and longer where
 *         a kind holds it (channel_hold): for a batch that borrows from it, for a thread.
 * Thread: the loop's.
 *
 * After CLOSE was sent the number is gone: what the gateway sent before it saw our CLOSE is dropped, its CLOSE too.
 */
#ifndef PROCD_CHANNEL_H
#define PROCD_CHANNEL_H

#include "core/list.h"
#include "procd/outq.h"
#include "procd/process.h"
#include "procd/sftp_channel.h"
#include "procd/source.h"
#include "procd/tcp.h"

struct session;
struct channel;

enum channel_state { CHANNEL_OPENING, CHANNEL_OPEN, CHANNEL_GONE };

/* What a channel does once it is asked for; its opening is the table's in channel.c. */
struct channel_kind {
	/* A piece of DATA; its memory stays as it is until on_input. Negative errno ends the stream. */
	int (*on_data)(struct channel *c, struct bytes piece);
	/* The pieces of one read are all there. */
	int (*on_input)(struct channel *c);
	/* The gateway sends no more DATA. */
	void (*on_eof)(struct channel *c);
	/* The gateway's CLOSE. False: the channel ends at once; true: later, by channel_close. May be NULL. */
	bool (*on_close)(struct channel *c);
	/* RESIZE and SIGNAL; may be NULL. Negative errno ends the stream. */
	int (*on_frame)(struct channel *c, const struct frame *f);
	/* True when emit has something to send (credit counted). */
	bool (*has_output)(const struct channel *c);
	/* Puts the next thing to send into the session's outq: at most `frames` frames. May end the channel. */
	void (*emit)(struct channel *c, uint32_t frames);
	/* May be NULL. */
	void (*on_deadline)(struct channel *c);
	/* The channel ends, finished or not: closes descriptors, hangs up what runs. Memory stays. */
	void (*end)(struct channel *c);
	/* May be NULL: frees what the union holds. */
	void (*deinit)(struct channel *c);
};

struct channel {
	struct session *session;
	const struct channel_kind *kind;
	uint32_t number;
	enum channel_state state;
	uint32_t hold_count;
	bool is_urgent;   /* a terminal: its frames pass the batch */
	bool is_eof_in;   /* the gateway's EOF came */
	bool is_eof_out;  /* ours was sent */
	bool is_close_in; /* the gateway's CLOSE came: it takes nothing more */

	uint32_t send_credit; /* payload bytes that we may send */
	uint32_t granted;     /* that the gateway may send */
	uint32_t held;        /* received, not passed on yet */
	uint32_t window;      /* granted + held stay within it */
	uint32_t used;        /* received since the window was raised */

	uint64_t deadline_ms; /* 0: none */
	struct list in_bucket, in_all, in_ready, in_input, in_grave;

	union {
		struct process process;
		struct tcp tcp;
		struct sftp_channel sftp;
	};
};

/* An OPEN from the gateway. Negative errno ends the stream. */
MUST_USE int channel_open(struct session *s, const struct frame *f);
/* More may be offered to the gateway now. */
bool channel_may_offer(const struct session *s);
/*
 * Opens a channel from our side: sends `open`, whose kind and options are filled in. Its kind's state is the caller's to set at
 * once; data flows when the gateway has agreed. NULL: no memory.
 */
struct channel *channel_offer(struct session *s, const struct channel_kind *kind, struct frame *open);
/* By either side: a frame for another number makes no sense. */
bool channel_number_was_used(const struct session *s, uint32_t number);
/* The live channel of that number, or NULL. */
struct channel *channel_find(const struct session *s, uint32_t number);
/* A frame (never DATA) for a live channel. Negative errno ends the stream. */
MUST_USE int channel_on_frame(struct channel *c, const struct frame *f);
MUST_USE int channel_on_data(struct channel *c, uint32_t stream, struct bytes piece);

/* For the kinds: */
void channel_opened(struct channel *c);
/* Returns -ECANCELED, so that open can return it. */
int channel_refuse(struct channel *c, const char *code, const char *message);
/* n bytes of DATA were passed on (or dropped): gives credit where it is worth a frame. */
void channel_consumed(struct channel *c, uint32_t n);
/* May have something to send: emit will be asked. */
void channel_ready(struct channel *c);
/* Sends a control frame in order with the channel's DATA: only from emit. */
void channel_send(struct channel *c, struct frame *f);
void channel_send_eof(struct channel *c);
/* Sends CLOSE and ends the channel: only from emit. */
void channel_close(struct channel *c);
/* Sends at once, before DATA that waits. */
void channel_send_urgent(struct channel *c, struct frame *f);
void channel_deadline(struct channel *c, uint64_t ms_from_now);
/* Ends it without a word: the stream is lost, or the CLOSE was answered. */
void channel_end(struct channel *c);
void channel_hold(struct channel *c);
void channel_unhold(struct channel *c);

#endif
