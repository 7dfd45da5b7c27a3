/*
 * tests/sim/scenario.h - what the files of scenarios share: SCENARIO makes a test of a function, run over many seeds.
 */
#ifndef TESTS_SIM_SCENARIO_H
#define TESTS_SIM_SCENARIO_H

#include "tests/sim/gateway_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SECOND 1000000u

/* Each seed's world begins before the scenario and ends, with nothing left, behind it. */
void over_seeds(const char *name, void (*scenario)(void), uint32_t count);

#define SCENARIO(name, count)                   \
	void test_##name(void **state);         \
	void test_##name(void **state)          \
	{                                       \
		over_seeds(#name, name, count); \
	}

/* Conditions for sim_run; ctx is a sim_client where one is meant. */
bool no_sessions(void *ctx); /* nor any of their timers */
bool client_done(void *ctx);
bool client_live(void *ctx);
bool never(void *ctx);

/* A channel whose bytes come back: by the seed. And what it must have come to. */
struct client_chan_plan echo_plan(void);
void check_echo(const struct client_chan *ch);
/* The session is alive, and a new channel reaches a program. */
void check_next_channel(struct sim_client *c);

/* scenarios_directory.c */
void test_withdrawn(void **state);
void test_checks(void **state);
void test_checks_of_many(void **state);
void test_resume(void **state);
void test_resume_is_dropped(void **state);
void test_paused_while_live(void **state);
void test_refused_while_live(void **state);
void test_moved_while_channels_open(void **state);

/* scenarios_odd_ends.c */
void test_procd_outlives_the_client(void **state);
void test_nobody_asks_for_the_gone(void **state);
void test_warning_leaves_the_window(void **state);
void test_words_before_a_key_exchange(void **state);
void test_ends_inside_a_read(void **state);
void test_keepalive_is_not_sent(void **state);
void test_rest_outlasts_answers(void **state);
void test_answer_to_login_is_not_taken(void **state);
void test_client_gives_a_channel_up(void **state);
void test_procd_ends_while_the_client_is_not_read(void **state);
void test_encryption_fails(void **state);
void test_channels_wait(void **state);

#endif
