/*
 * gateway/link_internal.h - what the files of links share with each other: link.c (life), link_flow.c (bytes and credits),
 * link_window.c (how large the client's windows are), link_forward.c (links that procd opens),
 * link_requests.c (what the client asks), link_frames.c (what procd says), link_tell.c (words for the user).
 */
#ifndef GATEWAY_LINK_INTERNAL_H
#define GATEWAY_LINK_INTERNAL_H

#include "core/policy.h"
#include "gateway/link.h"

/* --- link.c --- */

/* NEW; NULL without memory. */
struct link *link_new(struct links *ls, struct chan *ch);
/* Its channel is gone. */
void link_free(struct link *l);
/* Both sides are done with it? */
void link_free_when_done(struct link *l);
/* The only writer of l->state. */
void link_move(struct link *l, enum link_state to);
struct link *link_find(struct links *ls, uint32_t number);
/* On this stream, by either side: a frame for another one makes no sense. */
bool link_number_was_used(const struct links *ls, uint32_t number);
/* The client's side takes bytes still. */
bool link_can_send(const struct link *l);
/* A frame without content; the session ends where it cannot be queued. */
void link_send_frame(struct link *l, uint32_t type);

/* --- link_forward.c --- */

/* procd opens a channel. -EPROTO: nobody asked for it. */
MUST_USE int links_on_open(struct links *ls, const struct frame *f);
/* An ASKED link ends without a word to procd; or with REFUSED (-EPROTO: it reads no answers). Both free it. */
void link_abandon(struct link *l);
MUST_USE int link_refuse(struct link *l, const char *code, const char *message);

/* Does the policy let the session have its client's agent? Where not the client is told. */
bool link_may_offer_agent(struct link *l);
/* The session takes no more connections to its agent: those that were made are to end at the end of the batch. */
void link_offer_is_over(struct link *l);
/* Ends the links to agents whose session is no more. */
void links_end_agents(struct links *ls);

/* --- link_requests.c --- */

/*
 * Does the policy allow what its setup says? Else ret_why says why not. Asked when the client asks, so that nothing is woken or
 * connected in vain, and when procd is asked, since the policy of a sandbox that sleeps is known only then.
 */
MUST_USE bool link_is_allowed(const struct link *l, char ret_why[POLICY_WHY_MAX]);

/* --- link_flow.c --- */

/* Sends what is held as far as procd's credit goes; then EOF or CLOSE when they were waiting for that. */
void link_push_up(struct link *l);
/* What procd may be given on this channel now, within the connection's budget and the client's window. */
uint32_t link_down_allowance(const struct link *l);
/* Looks at all links: deferred to the end of the batch. */
void links_on_settle(struct deferred *d);

/* --- link_window.c --- */

/* n bytes came from the client, some of which are held in l->up. Before they are counted anywhere else. */
void link_window_on_data(struct link *l, size_t n);
/* Bytes that are held for want of procd's credit count against one budget of the process. */
void link_window_hold(struct link *l, size_t n);
void link_window_release(struct link *l, size_t n);
/* The link goes. */
void link_window_deinit(struct link *l);
/* procd is there: what the client sends first need not wait for his window, a round trip for each time it doubles. */
void link_window_opened(struct link *l);
/* Opens the client's window by what procd's socket took. */
void link_window_settle(struct link *l);

/* --- link_tell.c --- */

/* On the channel's stderr, as far as the client's window goes. */
void link_tell(struct link *l, const char *text);
bool link_has_room_to_tell(const struct link *l);
/* Takes the line that links_tell_waking wrote off the terminal, before anything else is shown there. */
void link_clear_waking(struct link *l);
/* Ends the client's side of a channel that never reached a program: a message and an exit status, never a bare close. */
void link_client_fail(struct link *l, const char *text, uint32_t status);
/* The same, and the link's. */
void link_fail(struct link *l, const char *text, uint32_t status);
/* The policy forbids it: a message and exit status EXIT_FORBIDDEN, or a forward's refusal. Frees the link of a forward. */
void link_forbid(struct link *l, const char *why);
/* A LIVE link whose stream is lost ends; may wait for the client's window. Frees the link where the client had closed before. */
void link_lose(struct link *l, const char *text);
/* LINK_DONE with a farewell: it is said now, as far as it can be. */
void link_say_farewell(struct link *l);

#endif
