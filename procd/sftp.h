/*
 * procd/sftp.h - an SFTP server, version 3 with OpenSSH's extensions: packets in, answers out.
 *
 * Owner:  the caller owns the stream and the options; both must live until sftp_free, or until sftp_serve returns.
 * Life:   one server is one client, from its INIT to the end of its input. sftp_free closes all handles.
 * Thread: one at a time, which may block in file I/O in any call but sftp_next and sftp_is_between. It has SIGXFSZ blocked: a file
 *         over RLIMIT_FSIZE would end the process. Servers in one process share nothing that they write: no chdir, no umask; new
 *         files get the process's umask as it was configured.
 */
#ifndef PROCD_SFTP_H
#define PROCD_SFTP_H

#include "core/check.h"
#include "procd/sftp_limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The byte stream under the server. All calls come from the thread that calls the server. */
struct sftp_io {
	void *ctx;

	/*
	 * Of sftp_serve only.
	 *
	 * Lends the next unread input bytes, as many as lie in one piece, and blocks until there is at least one. Returns
	 * their count, 0 at the end of the input, negative errno. *ret_p is valid until consume; peeking again without
	 * consuming returns the same bytes (maybe with more behind them).
	 */
	ssize_t (*peek)(void *ctx, const uint8_t **ret_p);
	void (*consume)(void *ctx, size_t n);

	/*
	 * Room for n output bytes (n <= SFTP_RESERVE_MAX) in one piece; blocks while the output is full. 0, -EPIPE when the peer
	 * is gone, or another negative errno, which is no end that looks like success. commit sends the first n of them, at most
	 * what was reserved. A reservation that is followed by another one instead of a commit is given up.
	 */
	int (*reserve)(void *ctx, size_t n, uint8_t **ret_p);
	int (*commit)(void *ctx, size_t n);

	/* May be NULL. True when nobody waits for answers any more: a long copy-data then stops. */
	bool (*is_gone)(void *ctx);

	/* May be NULL. Something was refused with options->read_only, which not every client shows to its user. */
	void (*tell)(void *ctx);
};

struct sftp_options {
	/*
	 * The user's home folder: relative paths start there, and "~" and the home-directory request mean it. NULL: the
	 * process's current folder, and the passwd entry for home-directory. A home that cannot be opened falls back to "/".
	 */
	const char *home;
	bool is_read_only;     /* refuse every request that would change something */
	const char *read_only; /* and say this; NULL: "Permission denied" */
};

struct sftp;

/* NULL: no memory. */
struct sftp *sftp_new(const struct sftp_io *io, const struct sftp_options *options);
void sftp_free(struct sftp *s);

/*
 * How many of the n >= 1 input bytes at p the next sftp_take is to be given, at least one: those of one request, or of a part of one.
 * Looks at nothing but these bytes and the server's memory.
 */
size_t sftp_next(const struct sftp *s, const uint8_t *p, size_t n);
/*
 * Takes these bytes; makes at most one answer. 0, or negative errno, which is the client's end: -EPROTO when the input cannot be
 * SFTP, -EPIPE when the stream took no answer, -ENOMEM.
 */
MUST_USE int sftp_take(struct sftp *s, const uint8_t *p, size_t n);
/* True where the input may end without being cut. */
bool sftp_is_between(const struct sftp *s);

/*
 * Serves one client until its input ends. 0, or negative errno: -EPROTO when the input cannot be SFTP, -EPIPE when the peer
 * went away in the middle of a packet or took no answer, or what the stream returned.
 */
MUST_USE int sftp_serve(const struct sftp_io *io, const struct sftp_options *options);

/*
 * `procd sftp-server`: a filter on stdin and stdout, usable as `sftp -D "procd sftp-server"` or as sshd's Subsystem.
 * argv[0] is the subcommand. Returns the exit status.
 */
int sftp_main(int argc, char **argv);

#endif
