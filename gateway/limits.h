/*
 * gateway/limits.h - the gateway's own limits that are no settings, with their reasons.
 */
#ifndef GATEWAY_LIMITS_H
#define GATEWAY_LIMITS_H

/* First receive window of a channel, all that may be held while its sandbox is being reached. */
#define LINK_WINDOW_FIRST (32 * 1024)

/* When it is reached a channel without a terminal gets one of so many parts of what is left of SESSION_UP_BUDGET: the first one 1 MiB. */
#define LINK_WINDOW_SHARE 8

/* procd's answer to OPEN: a connection that it makes for direct-tcpip may take it 10 s for each address. */
#define LINK_OPEN_MS (60 * 1000)

/* Links of a connection, those whose channel is closed and whose procd has not answered CLOSE among them. */
#define LINK_COUNT_MAX 512

/* Credit that a channel gives procd with OPEN, and to which use raises it: twice what a loopback or a 10 Gbit/s link needs. */
#define LINK_CREDIT_FIRST (64 * 1024)
#define LINK_CREDIT_MAX (1024 * 1024)

/*
 * A terminal's credit together with what waits for the client's socket: nobody sees his Ctrl-C work before that has gone by. Measured
 * with 200 MB: as little CPU as with LINK_CREDIT_MAX; 64 KiB take 1.3 times as much.
 */
#define LINK_TERMINAL_BYTES (128 * 1024)

/* However many channels share the connection, each gets at least this much: one SSH packet. */
#define LINK_CREDIT_MIN (32 * 1024)

/*
 * A message for the user and what surrounds it. So much of a session channel's window is not procd's, unless the window is smaller than
 * so many of them: then programs need it more.
 */
#define LINK_TELL_BYTES 256
#define LINK_TELL_PARTS 8

/* Credit granted to procd and bytes not yet taken by the client's socket, over all channels of a connection. */
#define SESSION_DOWN_BUDGET (1024 * 1024)

/* Receive windows of all channels of a connection: what may be held at most when procd stalls. */
#define SESSION_UP_BUDGET (8 * 1024 * 1024)

/* What windows of all sessions may be beyond session.window_bytes, together: held at the worst if every sandbox stalls at once. */
#define WINDOWS_GROWN_MAX (1024ull * 1024 * 1024)

/* The client is not read while more than this waits for its socket (a flood of requests whose replies it does not read). */
#define SESSION_OUT_MAX (2 * 1024 * 1024)

/* The same before he is logged in: key exchange and answers to authentication are far less. */
#define LOGIN_OUT_MAX (64 * 1024)

/* Nor while more than this waits for procd's socket: all uploads, and what resizes, signals and OPENs may pile up. */
#define SESSION_PROCD_MAX (SESSION_UP_BUDGET + 2 * 1024 * 1024)

/* The client's windows are not opened while more than this waits for procd's socket. */
#define PROCD_OUT_MAX (512 * 1024)

/* A credit from procd beyond this makes no sense. */
#define PROCD_CREDIT_MAX (64 * 1024 * 1024)

/* Environment of one channel, names and values: as procd's limit. */
#define LINK_ENV_BYTES (128 * 1024)
/* Terminal name and encoded modes of a pty. */
#define LINK_TERM_MAX 128
#define LINK_MODES_MAX 2048
/* A command: under the kernel's limit for one argument. */
#define LINK_COMMAND_MAX (128 * 1024 - 1)
/* A Unix socket's path: Linux takes 108 bytes with the NUL. */
#define LINK_PATH_MAX 107

/* The hand-over waits for the client's socket to take what is queued, SUCCESS at its end; a slow link needs a second or two. */
#define SESSION_MOVE_MS 30000

/* A sandbox that wakes up quickly is no news: the user is told after this. */
#define WAKE_TELL_MS 500
/* A directory that holds no answer back is asked no more often than this while a sandbox wakes up. */
#define WAKE_ASK_MS 500
/* A sandbox that has just woken up may not listen yet: a connection is tried again after the pause, for as long as this. */
#define WAKE_SETTLE_MS 10000
#define WAKE_SETTLE_PAUSE_MS 250

/* procd answers OPEN at once: one that has not by now may have been paused with its connections alive, and is asked for. */
#define LINK_SILENT_MS 2000

/* Farewell messages leave within this, or are dropped. */
#define SESSION_LINGER_MS 3000

/*
 * A client that has sent all and closed a forwarded connection: what the sandbox's end has no room for yet is kept so long. A program
 * that reads nothing is hung up after SESSION_LINGER_MS instead.
 */
#define LINK_DRAIN_MS (60 * 1000)

/* What one connection may have listening in the sandbox; procd takes as many. */
#define FORWARD_LISTEN_MAX 32
/* Channels that procd opened and the client has not answered: as procd's limit. */
#define FORWARD_ASKED_MAX 64
/* What a connection knows of at one time, with those that were cancelled and procd has not yet answered for. */
#define FORWARD_KNOWN_MAX (4 * FORWARD_LISTEN_MAX)
/* Connections to the user's agent: a program needs one for as long as a signature takes. As procd's limit. */
#define FORWARD_AGENT_MAX 32
/* Jumps one inside the other (jump.depth): each costs its bytes one more encryption, and a session. */
#define JUMP_DEPTH_MAX 8
/* Of one jump, on its way to the inner session: more waits in its link, within the client's window. */
#define JUMP_CREDIT (256 * 1024)
/* An address to listen at, or where a connection came from: names have at most 253 bytes. */
#define FORWARD_ADDRESS_MAX 255

/* Buffers of a connection that rests are given back after this. */
#define SESSION_REST_MS 5000

/* What a client sends when he is asked whether he lives, and a little more: no end of his rest. */
#define SESSION_ANSWER_MAX 256

/* Live sessions end with a message and may take this long at SIGTERM. */
#define SHUTDOWN_MS 5000

/* Changes that the directory told of and a worker has not read yet: at more it asks for all its sessions again, at its leisure. */
#define CHANGES_KEPT 256

/*
 * A walk over a worker's sessions for so many changes, and so many sessions asked for, every CHECK_TICK_MS: a walk over 10,000
 * sessions is a millisecond or two of everybody's keystrokes, and all of them are asked for within 4 s.
 */
#define CHANGES_A_WALK 16
#define CHECKS_A_TICK 32
#define CHECK_TICK_MS 10

/* Sessions of a worker that are asked for at one time: the control plane has others to answer, too. */
#define CHECKS_AT_ONCE 16

/* Nobody could say whether a live session may go on: it is asked for again, later each time. */
#define CHECK_RETRY_MS 1000
#define CHECK_RETRY_MAX_MS 30000

/* Of login.banner_file and session.motd_file: several screens. */
#define TEXT_FILE_BYTES_MAX (8 * 1024)

#define WORKERS_MAX 256
#define HANDSHAKERS_MAX 64

/* Places that addresses share for the rate of probes (64 KiB): several hundred busy ones before two of them meet often. */
#define PROBE_ADDRESSES 8192

/* A probe that waits for its turn looks this often whether somebody else has asked for the same key meanwhile. */
#define PROBE_LOOK_MS 100

/* What is remembered of answers (l1.h): locks, so that threads seldom meet; slots of drops, 128 KiB, so that names seldom do. */
#define L1_SHARDS 16
#define L1_SLOTS 16384

/*
 * Queries on their way to the directory thread and back: more than connections that may log in at once, and a round of checks. About
 * 1 KB each.
 */
#define REGION_REQUESTS_MAX 16384

/* Look-ups under way; each holds up to 30 KB. The control plane answers in milliseconds, so more are a sign that it does not. */
#define REGION_LOOKUPS_MAX 4096
#define REGION_LOOKUP_BUCKETS 1024

/* An answer that a change has overtaken is asked for again, so often. */
#define REGION_LOOKUP_TRIES 4

/* On top of what Redis, control plane and name server may take: then the asker is told that nobody could say. */
#define REGION_DEADLINE_MS 1000

/* A look-up that is held back for up to this much longer than the asker would wait is good enough to join. */
#define REGION_JOIN_MS 1000

/* Versions of revisions that were seen, to tell new ones after a reconnect; one that was forgotten costs a check of its sessions. */
#define REGION_REVISIONS 16384

/*
 * Redis tells a gateway of its own fills, too: within this time one word of a name that was just filled is taken for that. A
 * change never hides behind it, since it is told by a revision.
 */
#define REGION_FILL_MARKS 1024
#define REGION_FILL_MS 1000

/* The changes feed: how long an answer is held back; waits after failures; how often one that was absent is looked for. */
#define FEED_WAIT_S 25
#define FEED_BACKOFF_MIN_MS 200
#define FEED_BACKOFF_MAX_MS 2000
#define FEED_ABSENT_MS (60 * 1000)
/* A feed that answers at once with nothing is asked again after this. */
#define FEED_EMPTY_MS 200

/* Who asks at the admin's socket: is served within this, one after another; may be kept waiting so long; gets no more than this. */
#define ADMIN_ASKER_MS 2000
#define ADMIN_BACKLOG 8
#define ADMIN_ANSWER_MS 10000
#define ADMIN_ANSWER_MAX (256 * 1024)
/* After an accept that failed, and how long the admin waits for the directory thread to count. */
#define ADMIN_PAUSE_MS 100
#define REGION_STATUS_MS 1000

/* The exit status that says: the gateway could not reach the sandbox. */
#define EXIT_UNREACHABLE 254

/* And: a policy forbids this program. */
#define EXIT_FORBIDDEN 1

#endif
