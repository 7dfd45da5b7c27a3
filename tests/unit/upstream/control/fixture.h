/*
 * tests/unit/upstream/control/fixture.h - a ring, a client of the control plane and a server that does what a test says.
 *
 * Each test begins and ends with as many open descriptors.
 */
#ifndef TESTS_UNIT_UPSTREAM_CONTROL_FIXTURE_H
#define TESTS_UNIT_UPSTREAM_CONTROL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http_server.h"
#include "tests/unit/core/keys.h"
#include "upstream/control/client.h"
#include "upstream/control/limits.h"

#include <string.h>

#define FINGERPRINT PRINT_ED25519_1
#define KEY_DATA                                  \
	"{\"fingerprint_sha256\": \"" FINGERPRINT \
	"\", \"grants\": [{\"team_id\": \"t\", \"user_id\": \"u\"}], \"version\": 3}"
#define ROUTE_DATA                                                                                                  \
	"{\"sandbox_id\": \"rs-1\", \"team_id\": \"t\", \"user_id\": \"u\", \"procd_url\": \"tcp://127.0.0.1:9\", " \
	"\"state\": \"running\"}"
#define CHANGES_DATA "{\"next\": 9, \"revoked\": [{\"sandbox\": \"rs-1\"}], \"moved\": [{\"sandbox\": \"rs-2\"}]}"

/* A test that takes longer than this hangs. */
#define TEST_DEADLINE_MS 30000

extern struct ring *ring;
extern struct server server;
extern struct control_client *client;
extern int calls_left;            /* calls that were asked and are not done */
extern bool is_freed, last_state; /* what the client has told */
extern uint32_t state_count;
extern char last_why[256], changes_seen[256];

uint64_t clock_ms(void);

/* Runs the ring until all calls are done, or for a while (or until the next call is done). */
void run(void);
void run_for(uint64_t ms);
void run_calls(void);

/* Options for the server as it is. A client with them; its end. */
struct control_options options(void);
void client_make(const struct control_options *o);
void client_end(void);

/* A server and a client with these options, or with this deadline; and the end of both. */
void begin(server_handler *handler);
void make_hasty(server_handler *handler, uint32_t timeout_ms);
void end(void);

/* Asks; the same, and waits for the answer. */
void on_done(struct control_call *c);
void on_done_never(struct control_call *c);
void key_ask(struct control_key_call *k);
void route_ask(struct control_route_call *r, uint32_t wait_s);
void changes_ask(struct control_changes_call *ch, uint64_t since, uint32_t wait_s);
enum control_result key_of(struct control_key_call *k);
enum control_result route_of(struct control_route_call *r);
enum control_result changes_of(struct control_changes_call *ch, uint64_t since);
struct control_stats stats(void);

/* Handlers: as a control plane should; the same after 5 ms; never. */
bool answer_well(struct server_conn *c, const char *request);
bool answer_slowly(struct server_conn *c, const char *request);
bool answer_never(struct server_conn *c, const char *request);

/* This status and message; NULL: without an envelope. */
extern int status_to_say;
extern const char *message_to_say;
bool answer_as_told(struct server_conn *c, const char *request);

/* Until the server has got so many requests; until a connection, counted from 0, has ended. */
void wait_for_requests(uint32_t count);
void wait_for_end_of(uint32_t conn);

#define T(name) cmocka_unit_test_setup_teardown(name, count_fds, compare_fds)
int count_fds(void **state);
int compare_fds(void **state);

#endif
