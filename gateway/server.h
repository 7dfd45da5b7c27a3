/*
 * gateway/server.h - what all threads of the gateway share: configuration, host keys, directory, counters, the threads.
 *
 * Owner:  main.
 * Life:   from server_new until server_free, which comes after all threads ended.
 * Thread: read-only but for the counters (atomic).
 */
#ifndef GATEWAY_SERVER_H
#define GATEWAY_SERVER_H

#include "gateway/changes.h"
#include "gateway/checks.h"
#include "gateway/config.h"
#include "gateway/directory.h"
#include "gateway/limits.h"
#include "gateway/probe_limit.h"
#include "gateway/texts.h"
#include "ring/ring.h"
#include "ssh/conn.h"
#include "upstream/procd/proof.h"

#include <pthread.h>
#include <stdatomic.h>

struct counters {
	_Atomic uint64_t accepted, dropped_early, dropped_full;
	_Atomic uint64_t auth_good, auth_denied, auth_bad_request, auth_bad_key, auth_bad_signature, auth_no_method,
		auth_timeout;
	_Atomic uint64_t sessions_ended, withdrawn; /* withdrawn: the directory said no to a live one */
	_Atomic uint32_t unauthenticated_count;     /* now */
	_Atomic uint32_t session_count;             /* now */
};

/* A worker: one ring and the live sessions that were handed to it. */
struct worker {
	struct server *server;
	struct ring *ring;
	pthread_t thread;
	bool is_running;
	struct list sessions;
	struct checks checks;
	struct mail stop;
	struct timer shutdown;
	uint64_t shutdown_until_us;
	_Atomic uint32_t session_count;
	char why[POLICY_WHY_MAX]; /* why a channel is not opened, while that is said */
	uint32_t jump_count;      /* connections to ourselves whose end here is not closed yet: jump.h */
};

/* A handshake thread: listeners, and the sessions that are logging in. */
struct handshaker {
	struct server *server;
	struct ring *ring;
	pthread_t thread;
	bool is_running;
	struct listener listeners[CONFIG_LIST_MAX];
	int listen_fds[CONFIG_LIST_MAX];
	struct list sessions;
	struct mail stop;
	struct timer shutdown;
	uint64_t shutdown_until_us;
	uint64_t drop_logged_us;
	uint64_t drops_unlogged;
};

struct server {
	const struct config *config;
	uint64_t started_us; /* CLOCK_MONOTONIC */
	struct conn_server *conn_server;
	struct directory *directory;
	struct policy *policy; /* the region's; made by server_start */
	struct proof_secret secret;
	struct texts texts;
	struct counters counters;
	_Atomic uint64_t up_grown_bytes; /* of all sessions: windows beyond session.window_bytes */
	_Atomic uint64_t up_held_bytes;  /* of all sessions: sent by clients, and no credit of procd's for it yet */
	struct worker *workers;
	uint32_t worker_count;
	struct handshaker *handshakers;
	uint32_t handshaker_count;
	struct changes changes;
	struct probe_limit probes;
	_Atomic bool is_stopping;
	_Atomic uint32_t telling_count; /* of threads that post to our rings: these stay until it is 0 */
	_Atomic uint32_t arrival_count; /* jumps, by which the handshake threads take turns */
	_Atomic uint32_t unauthenticated_at[PROBE_ADDRESSES]; /* now, by place of the address; with per_address */
};

/* Opens the listening sockets, makes rings and threads. 0, or negative errno with a sentence. */
MUST_USE int server_start(struct server *s, char ret_error[512]);
/* Closes the listeners, ends live sessions with a message, waits for all threads. */
void server_stop(struct server *s);
/* The bound address of listener i, "127.0.0.1:2222"; NULL behind the last. */
const char *server_address(const struct server *s, uint32_t i, char *buf, size_t size);

/* The worker with the fewest sessions. Any thread. */
struct worker *server_pick_worker(struct server *s);

#endif
