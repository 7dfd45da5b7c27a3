/*
 * upstream/control/answer.h - what a control plane's answers say, checked in full.
 *
 * An answer is foreign text: its size, depth and number of values are bounded, the same member twice is an error, and so is one
 * of a wrong type. Members that are not known are passed over.
 *
 * All return -EPROTO with a reason for an answer that makes no sense, -ENOMEM, and leave what they fill untouched then.
 *
 * Pure; JSON by jansson. Thread: any, after answer_init.
 */
#ifndef UPSTREAM_CONTROL_ANSWER_H
#define UPSTREAM_CONTROL_ANSWER_H

#include "core/bytes.h"
#include "upstream/control/client.h"

/* Once a process, before threads do the same: seeds jansson's hash tables. */
void answer_init(void);

/* Of these calls the question is read and the answer filled in. A key's grants may be none. */
MUST_USE int answer_key(struct bytes body, struct control_key_call *k, char ret_reason[CONTROL_REASON_MAX]);
MUST_USE int answer_route(struct bytes body, struct control_route_call *r, char ret_reason[CONTROL_REASON_MAX]);

/* The list is the caller's to free. -E2BIG: the feed cannot be followed from `since` on; the reason says why. */
MUST_USE int answer_changes(struct bytes body, uint64_t since, uint64_t *ret_next, struct control_change **ret_changes,
			    uint32_t *ret_count, char ret_reason[CONTROL_REASON_MAX]);

/* An envelope that says an error: its message, printable and cut. */
MUST_USE int answer_error(struct bytes body, char ret_message[CONTROL_REASON_MAX]);

/* Copies text for a log or a user: printable ASCII, cut to fit; what is neither becomes '?'. */
void answer_printable(struct bytes text, char *ret, size_t size);

#endif
