/*
 * gateway/bridge.h - one SSH connection's stream to procd: made for the first channel that wants it and after each loss, shared
 * by the links of all channels.
 *
 * Owner:  embedded in a session.
 * Thread: the session's worker.
 */
#ifndef GATEWAY_BRIDGE_H
#define GATEWAY_BRIDGE_H

#include "gateway/directory.h"
#include "gateway/finder.h"
#include "gateway/link.h"
#include "upstream/procd/client.h"

struct session;

struct bridge {
	struct session *session;
	struct procd_client procd;
	struct links links;
	bool is_closing;
	bool is_retried,
		is_tried_again; /* since the last stream: the route was asked for anew; it was the same, and tried */
	struct timer linger;
	struct timer pause;     /* before the next connection to a sandbox that has just woken up */
	enum procd_end end_why; /* why the last stream ended */
	struct finder *finder;  /* NULL: nothing is asked */
	bool is_new_wanted;     /* of the finder: the route that is known does not lead to the sandbox */
	uint64_t woke_us;       /* when the finder found it awake that had slept; 0: never */
	char lost_text[REASON_MAX + 64];
};

void bridge_init(struct bridge *b, struct session *s);

/* Ends the procd stream (live channels are hung up by procd); session_bridge_closed follows, perhaps later. */
void bridge_close(struct bridge *b);
/* The same, but what the user sent and procd has not got is dropped. */
void bridge_drop(struct bridge *b);
bool bridge_is_closed(const struct bridge *b);
void bridge_deinit(struct bridge *b);

#endif
