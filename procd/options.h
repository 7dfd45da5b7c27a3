/*
 * procd/options.h - what `procd serve` was told.
 */
#ifndef PROCD_OPTIONS_H
#define PROCD_OPTIONS_H

#include "core/log.h"
#include "procd/limits.h"
#include "upstream/procd/proof.h"

#include <sys/types.h>

struct options {
	const char *listen; /* ADDR:PORT, [ADDR]:PORT or unix:/path */
	const char *sandbox;
	const char *user, *home, *shell; /* NULL: the passwd entry's */
	const char *address_file;        /* or NULL */
	enum log_level log_level;
	uint32_t streams_max;
	struct proof_secret key;
	struct proof_public gateway_keys[GATEWAY_KEYS_MAX];
	uint32_t gateway_key_count;
	const char *path; /* PATH of commands */
	pid_t main_pid;
};

/*
 * Reads flags and environment. 0; 1 when help was asked for; -EINVAL for a usage error, other errno for files that
 * cannot be read: in each case but 0 the message was printed.
 */
MUST_USE int options_parse(int argc, char **argv, struct options *ret_options);
void options_usage(FILE *to);

#endif
