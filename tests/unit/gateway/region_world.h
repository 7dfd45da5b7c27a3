/*
 * tests/unit/gateway/region_world.h - the region's directory with its thread, between this thread's ring and a control plane and Redis
 * in memory (fake_upstream.h).
 *
 * Owner:  the test's program has one world.
 * Life:   world_start to world_finish, in each test anew.
 * Thread: the test's, which runs the ring in world_wait; changes are counted on the directory's.
 */
#ifndef TESTS_UNIT_GATEWAY_REGION_WORLD_H
#define TESTS_UNIT_GATEWAY_REGION_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_upstream.h"
#include "gateway/region_directory.h"

#define PRINT_1 "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define PRINT_2 "SHA256:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"

struct world {
	struct config config;
	struct directory *directory;
	struct ring *ring;
	struct timer deadline;
	uint32_t awaited;            /* answers */
	_Atomic uint32_t changed[4]; /* on_changed, by kind */
	struct subject last;
	char agent_why[POLICY_WHY_MAX], jump_why[POLICY_WHY_MAX]; /* of the last yes; "" where it is allowed */
};

extern struct world world;

/* The user of fake_reset's key, in his team. */
extern struct grant ada;

/* Of a group of tests: a folder with the secret file in it, the log, libsodium. */
int world_setup(void **state);
int world_teardown(void **state);

/* A directory that is not started: the test may still change world.config, and `fake`. */
void world_start(bool has_redis);
/* Starts it. The feed is live from then on, or as the test has said. */
void world_run(void);
void world_finish(void);

/* Each is one answer more that is awaited, unless it comes inside the call. */
void ask_key(struct key_query *q, const char *fingerprint);
void ask_route(struct route_query *q, const char *sandbox);
/* on_done of a query that the test fills in itself; it counts it in world.awaited. */
void world_on_key(struct key_query *q);
/* Until nothing is awaited. */
void world_wait(void);
/* Ask and wait. */
enum verdict key_verdict(const char *fingerprint);
enum verdict route_verdict(const char *sandbox);

/* Requests that the directory has not let go of. */
uint32_t world_open_requests(void);
/* The feed tells that this key has changed. */
void change_key(const char *fingerprint);

#endif
