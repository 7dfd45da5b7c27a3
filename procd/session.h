/*
 * procd/session.h - one gateway connection: a process of its own.
 *
 *   CHALLENGED ─good HELLO─► READY ─SIGTERM─► LEAVING
 *        └──────────┬───────────┴────────────────┴──► ENDED
 *
 * Owner:  the process, which ends with it.
 * Thread: the loop's: the main one, until it hangs in a file (guard.h). Name look-ups, and SFTP servers whose files hang, have
 *         threads that touch nothing here.
 */
#ifndef PROCD_SESSION_H
#define PROCD_SESSION_H

#include "core/list.h"
#include "procd/guard.h"
#include "procd/loop.h"
#include "procd/options.h"
#include "procd/outq.h"
#include "procd/user.h"
#include "upstream/procd/proof.h"

#include <sys/types.h>

enum session_state { SESSION_CHALLENGED, SESSION_READY, SESSION_LEAVING, SESSION_ENDED };

/* In memory that the main process and all sessions share. A session writes its own is_ready only. */
struct stream_slot {
	pid_t pid; /* 0: free; the main process's */
	uint64_t started_ms;
	_Atomic bool is_ready;
};

struct session {
	struct options *options;
	struct stream_slot *slots;
	uint32_t slot; /* ours */
	struct user user;
	enum session_state state;
	int fd, epoll_fd, signal_fd, notify_fd;
	struct watch stream_watch, signal_watch, notify_watch;
	bool is_readable, is_eof;
	bool is_output_left; /* the round ended before all was sent that could be */

	struct frame_reader reader;
	struct outq out;
	uint8_t *input; /* READ_BYTES */
	uint8_t challenge[FRAME_CHALLENGE_BYTES];
	struct ticket ticket;
	char address[128]; /* our end of the stream, as text */

	struct list channels;                 /* all live ones */
	struct list buckets[CHANNEL_BUCKETS]; /* by number */
	struct list ready;                    /* may have something to send */
	struct list input_pending;            /* have pieces of the read at hand */
	struct list serving;                  /* SFTP servers that have something to do */
	uint32_t serving_turn;
	uint64_t served_ms;     /* what their turns took in this round */
	struct channel *served; /* in the guard's step */
	struct guard guard;
	struct list graveyard;
	struct channel *last_found;
	struct list listeners, listeners_ended; /* forward.h; ended in this round */
	uint32_t listener_count;
	uint32_t channel_count, sftp_count;
	uint32_t highest_number; /* of the gateway's channels */
	uint32_t highest_own;    /* of those that we opened */
	uint32_t offered_count;  /* of them: not answered yet */
	uint32_t agent_count;    /* of them: to the user's agent */
	bool is_agent_gone;      /* a session that had one has ended: forward_end_orphans has to look */
	uint32_t budget_left;

	uint64_t now_ms, started_ms, heard_ms;
	uint64_t deadline_ms; /* HELLO's, or of leaving */
	uint32_t pings_out;
	uint64_t received_bytes;

	const char *end_reason; /* for the log */
	const char *error_code; /* ERROR is sent with it, when not NULL */
};

/*
 * Serves the connection and ends the process when it is over. Takes fd. The process does nothing else: it changes its user, its
 * signals and its folder, and wipes the key.
 */
__attribute__((noreturn)) void session_run(int fd, struct options *options, struct stream_slot *slots, uint32_t slot);

/* For the channels: */
void session_fail(struct session *s, const char *code, const char *reason);
void session_urgent(struct session *s, struct frame *f);
MUST_USE int session_watch(struct session *s, int fd, struct watch *w);
/*
 * Ends the watch and closes *fd, which becomes -1; harmless at -1. A close alone leaves the watch in place while a child that has
 * not come to its exec still holds a copy of the descriptor.
 */
void session_unwatch(struct session *s, int *fd);

/* handshake.c: the first frames. Negative errno when the stream must end (session_fail was called). */
MUST_USE int handshake_start(struct session *s);
MUST_USE int handshake_on_frame(struct session *s, const struct frame *f);

#endif
