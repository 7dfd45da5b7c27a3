/*
 * gateway/region_lookup.h - a look-up under way; region_lookup.c's and region_decide.c's own.
 *
 *   NEW ── ANYBODY, with Redis ──► READING ──► DECIDING ──► answered, freed
 *    └──── SOURCE, CHECK ──► ASKING ──────────► ▲ │ └─ its address is a name ──► RESOLVING ─┐
 *                              ▲                └─┼──────────────────────────────────────────┘
 *                              └──────────────────┴ not in Redis; overtaken by a change
 *
 * Owner:  the region's table, until it is answered. lookup_answer and lookup_fail free it, and so may whatever decides.
 * Thread: the directory thread.
 */
#ifndef GATEWAY_REGION_LOOKUP_H
#define GATEWAY_REGION_LOOKUP_H

#include "gateway/region_internal.h"
#include "ring/resolve.h"

enum lookup_phase { LOOKUP_NEW, LOOKUP_READING, LOOKUP_ASKING, LOOKUP_DECIDING, LOOKUP_RESOLVING };

struct lookup {
	struct list node; /* in its bucket */
	struct list requests;
	struct region *region;
	enum lookup_phase phase;
	uint32_t tries;
	uint64_t until_ms; /* one that is held back: at the latest */
	struct known known;
	struct l1_deps deps; /* the revisions of what is asked: a change of one makes an answer on its way worthless */
	struct cache_read *read;
	union {
		struct control_key_call key;
		struct control_route_call route;
	} call;
	struct record_route record;
	struct route route;
	struct policy *team_policy, *sandbox_policy; /* of the record */
	struct resolve resolve;
	struct ask ask;
	struct grant grants[];
};

/* The only writer of l->phase. */
void lookup_move(struct lookup *l, enum lookup_phase to);
void lookup_ask_control(struct lookup *l);
/* Gives it to all who wait. Takes a's reference (NULL: there was no memory for it) and frees l. */
void lookup_answer(struct lookup *l, struct answer *a);
void lookup_fail(struct lookup *l, const char *reason);

/* region_decide.c: what was found becomes an answer; or l asks again. l->known says where it comes from. */
void lookup_no(struct lookup *l);
void lookup_waking(struct lookup *l);
void lookup_found_key(struct lookup *l, const struct record_key *k);
/* l->record says where it is and `g` who may enter. */
void lookup_found_route(struct lookup *l, const struct grant *g);
/* Nobody could say; why is for the log. */
void lookup_failed(struct lookup *l, const char *why, const char *text);

#endif
