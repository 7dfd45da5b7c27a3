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
bool no_sessions(void *ctx);
bool client_done(void *ctx);
bool client_live(void *ctx);
bool never(void *ctx);

/* scenarios_directory.c */
void test_withdrawn(void **state);
void test_checks(void **state);
void test_checks_of_many(void **state);

#endif
