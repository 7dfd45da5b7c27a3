/*
 * bench/bench.h - what ringbench's scenarios share: the options, the ring, the results.
 *
 * Owner:  main. Thread: one.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "bench/client.h"
#include "bench/histogram.h"

#include <stdio.h>

/* More would need more descriptors and memory than one generator should take. */
#define BENCH_COUNT_MAX 1000000
#define BENCH_PARALLEL_MAX 20000
/* Logins that begin in a second: the timer ticks in milliseconds, several may be due at a tick. */
#define BENCH_RATE_MAX 100000
#define BENCH_RESULTS_MAX 64
#define BENCH_KEYS_MAX 65536
#define BENCH_USERS_MAX 256

struct bench_options {
	uint32_t count;       /* how many in all */
	uint32_t parallel;    /* how many at once */
	uint64_t size_bytes;  /* of each stream or file */
	uint32_t rate;        /* connect: logins that begin in a second; 0: each as soon as one has ended */
	uint32_t requests;    /* sftp: in flight at once, of one connection */
	uint32_t mix[3];      /* day: shells, runners of commands, copiers */
	uint32_t seconds;     /* day: how long */
	uint32_t pause_ms;    /* day: after a command, after a copy */
	uint32_t interval_ms; /* between keystrokes */
	uint32_t hold_s;      /* idle: how long the sessions rest; 0: until standard input ends */
	uint32_t limit_s;     /* the whole run's deadline */
	const char *command;  /* connect, exec */
	const char *path;     /* up, down, sftp: the file or folder in the sandbox */
	bool is_kept;         /* what goes up stays and is not compared, what comes down is there already */
	bool is_json, is_quiet;
};

struct scenario;

struct bench {
	struct ring *ring;
	const struct scenario *scenario;
	struct bench_options options;
	struct client_options client;
	struct ssh_key_struct **keys;
	const char *users[BENCH_USERS_MAX];
	struct client_options *logins; /* users and keys in turn: see bench_login */
	uint32_t key_count, user_count, login_count, next_login;
	struct timer limit, progress;
	struct histogram latency; /* of what the scenario names */
	uint64_t started_us, ended_us, first_us;
	uint32_t begun, done, failed;
	uint32_t live_count; /* connections of the scenario that have not ended */
	uint64_t bytes;
	char failure[CLIENT_REASON_MAX]; /* the first */
	/* Further figures, in the order in which they were added. */
	struct {
		const char *name;
		double value;
	} results[BENCH_RESULTS_MAX];
	uint32_t result_count;
};

struct scenario {
	const char *name, *help;
	const char *takes;        /* names of the options that are not everybody's, separated by a space */
	uint32_t count, parallel; /* defaults */
	uint64_t size_bytes;
	bool is_up; /* of two that differ by their direction */
	/* Starts it; the ring runs after it. 0 or negative errno. */
	int (*start)(struct bench *b);
};

extern const struct scenario scenario_connect, scenario_exec, scenario_idle, scenario_echo, scenario_up, scenario_down,
	scenario_sftp_up, scenario_sftp_down, scenario_day;

/* Real microseconds, not the ring's batch time. */
uint64_t bench_now_us(void);
/* Remembers the first reason; the run ends with status 1. */
void bench_fail(struct bench *b, const char *what, const char *reason);
void bench_result(struct bench *b, const char *name, double value);
/* All is done: the ring stops. */
void bench_end(struct bench *b);
/* One more that failed, for that reason, and the end. */
void bench_give_up(struct bench *b, const char *what, const char *reason);

/* As client_new, by the next user and the next key; who calls adds to live_count. NULL: then the run was given up. */
struct client *bench_connect(struct bench *b, const struct client_events *events, void *owner);
/* One of live_count has ended; the run ends with the last. */
void bench_left(struct bench *b);
/* How a command ended whose status is not 0. */
const char *bench_status_words(int status);
/* Of `size` bytes of the pattern from *at on as many as there is room for; how many went. */
uint64_t bench_send_pattern(struct client_chan *ch, uint64_t *at, uint64_t size);

#endif
