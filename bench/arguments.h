/*
 * bench/arguments.h - ringbench's command line: which options there are, and which of them a subcommand takes.
 *
 * Owner:  main. Thread: one.
 */
#ifndef BENCH_ARGUMENTS_H
#define BENCH_ARGUMENTS_H

#include "bench/bench.h"

/* What is not a scenario's option. */
struct arguments {
	const char *address, *identity, *listen;
	uint32_t delay_ms;
	bool is_help;
};

/*
 * argv[0] is the subcommand's name. Into b's options, users and client, and a, which hold the defaults. 0, or -EINVAL with a sentence on
 * stderr that says what to do; after --help nothing is missing.
 */
MUST_USE int arguments_parse(int argc, char **argv, const struct scenario *s, struct bench *b, struct arguments *a);
/* The help of one subcommand, to standard output. */
void arguments_help(const struct scenario *s);

#endif
