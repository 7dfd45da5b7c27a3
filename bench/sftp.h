/*
 * bench/sftp.h - files over SFTP for measuring: one channel, many requests in flight.
 *
 *   sftp_open ──► on_ready ──► sftp_move ──► on_file_done of each file, for as long as next_file has one
 *
 * File i holds the pattern from byte i * size on, so one that comes in another's place differs. What comes down is compared here.
 *
 * Owner:  the scenario, which also owns the client. Life: as long as the process.
 * Thread: the ring's.
 */
#ifndef BENCH_SFTP_H
#define BENCH_SFTP_H

#include "bench/client.h"

#define SFTP_REQUESTS_MAX 1024
#define SFTP_PATH_BYTES 512

struct sftp;

struct sftp_events {
	/* The subsystem told its version. */
	void (*on_ready)(void *owner);
	/* The number of the next file; false: none now. */
	bool (*next_file)(void *owner, uint32_t *ret_index);
	void (*on_bytes)(void *owner, uint64_t n);
	void (*on_file_done)(void *owner, uint64_t began_us);
	/* Nothing more happens. */
	void (*on_failed)(void *owner, const char *what, const char *reason);
};

struct sftp_options {
	const char *folder;  /* shorter than SFTP_PATH_BYTES by what a number takes */
	uint64_t size_bytes; /* of each file */
	uint32_t requests;   /* in flight at once, at most SFTP_REQUESTS_MAX */
};

/* NULL: no memory. o stays valid. */
struct sftp *sftp_new(const struct sftp_options *o, const struct sftp_events *events, void *owner);
/* Over a client that is live. 0 or negative errno. */
MUST_USE int sftp_open(struct sftp *s, struct client *c);
/* From now on files go up, or come down. */
void sftp_move(struct sftp *s, bool is_up);

#endif
