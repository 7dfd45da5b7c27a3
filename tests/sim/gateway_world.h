/*
 * tests/sim/gateway_world.h - a gateway of one handshake ring and one worker ring in the simulated world, with a directory whose
 * answers take their time and with procds by plan.
 *
 * Owner:  the test; between gateway_begin and gateway_end.
 */
#ifndef TESTS_SIM_GATEWAY_WORLD_H
#define TESTS_SIM_GATEWAY_WORLD_H

#include "gateway/server.h"
#include "gateway/session.h"
#include "tests/sim/fake_procd.h"
#include "tests/sim/sim.h"
#include "tests/sim/ssh_client.h"

#define ROUTES_MAX 4
#define PORT_FIRST 1000
/* Sandboxes are sb-1 and so on. */
#define SANDBOXES_MAX 8

enum connect_answer { CONNECT_YES, CONNECT_REFUSED, CONNECT_HANGS };

/* What stands at one address. */
struct place {
	enum connect_answer answer;
	struct procd_plan plan;
	uint32_t connect_count;
	struct procd_plan later; /* from the second connection on, when has_later */
	bool has_later;
};

struct gateway {
	struct config config;
	struct server server;
	struct worker worker;
	struct handshaker handshaker;
	struct directory directory;
	struct place places[ROUTES_MAX];
	uint32_t route;       /* the place that the directory names */
	uint32_t retry_route; /* and when it is asked again */
	uint32_t directory_delay_us;
	uint32_t key_count, route_count, retry_count;
	uint32_t check_count, checks_pending, checks_pending_max; /* live sessions asked for again: keys and routes */
	uint32_t pending_count;
	enum verdict key_verdict, route_verdict;
	bool is_withdrawn[SANDBOXES_MAX + 1]; /* by the number of the sandbox: its route is NO */
	bool is_unavailable;                  /* all answers are */
	bool is_late; /* an answer says what was so when it was asked for, not when it is given */

	/* The sandbox is paused: nobody listens, and who asks for its route wakes it up. */
	bool is_asleep;
	uint64_t wake_delay_us;   /* from there until it is awake, or is not any more; SIM_NEVER */
	enum verdict wake_end;    /* YES; else why it cannot */
	uint32_t listen_delay_us; /* from being awake until it listens */
	bool holds_answers;       /* for wait_ms */
	bool holds_for_ever;      /* which no directory should */
	bool has_asleep_hang;     /* connections to it get no answer, instead of being refused */
	uint64_t awake_us, listens_us;
	uint32_t wake_count, wait_count, waits_pending, waits_pending_max;
	/* All procds: they stand still, as a paused process whose connections live; they end. */
	bool is_frozen, is_gone;
	uint32_t chunks_max; /* most chunks that the worker's pool had in use */
	uint64_t out_max;    /* most bytes that waited for one client */
	uint64_t procd_out_max;
};

extern struct gateway gw;

/* Once a process. */
void gateway_prepare(void);
void gateway_forget(void);

/* config is set to defaults and may be changed until the first client. */
void gateway_begin(const char *scenario, uint64_t seed);
struct sim_client *gateway_client(const struct client_options *o);
/* Options that the seed chooses. */
struct client_options gateway_client_options(void);
/* The far procd trusts and proves. */
struct procd_plan gateway_honest_plan(void);
/* Has another key than the directory says. */
void gateway_make_wrong(struct procd_plan *plan);
/* No client is left: waits until all is quiet, and asserts that nothing is left of anything. */
void gateway_end(void);

/* The directory tells of a change; `what` is a fingerprint, a team of user1, or a sandbox. */
void gateway_changed(enum subject_kind kind, const char *what);
extern const struct directory_ops fake_directory_ops;
/* What the directory says of the sandbox. */
const struct proof_public *gateway_sandbox_key(void);
/* Of the one key that all clients have. */
const char *gateway_fingerprint(void);

/* For scenarios in which the gateway must not begin a key exchange of its own; before the first client. */
void gateway_never_rekeys(void);

/* The only session on the worker; NULL when there is none. */
struct session *gateway_session(void);
/* To be called now and then: notes the highest water, asserts the limits of what a session may hold. */
void gateway_watch(void);

#endif
