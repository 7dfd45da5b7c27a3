/*
 * procd/limits.h - every limit of procd but the SFTP server's, with its reason. docs/procd-protocol.md names some of them.
 */
#ifndef PROCD_LIMITS_H
#define PROCD_LIMITS_H

#include "core/limits.h"

/* Descriptors that whoever starts procd may have left open, where the kernel has no call for all of them. */
#define INHERITED_FD_MAX 65536

/* Gateway connections at once; each is a process. A setting. */
#define STREAMS_DEFAULT 64
#define STREAMS_MAX 4096
/* Connections besides them that have not proved themselves yet; with more, the oldest gives way. */
#define STREAMS_UNPROVEN 16

/* Gateway keys trusted at once: two for a rotation, some for regions side by side. */
#define GATEWAY_KEYS_MAX 16

/* Channels of one stream that are open at once. */
#define CHANNELS_MAX 256

/* LISTENs of one stream, and channels for their connections that the gateway has not answered. */
#define LISTENERS_MAX 32
#define OFFERED_MAX 64
/* Connections that wait in the kernel meanwhile. */
#define LISTENER_BACKLOG 128
/* Connections to users' agents, of all sessions of a stream; more wait in the kernel. As the gateway's limit. */
#define AGENT_CONNECTIONS_MAX 32
/* For a port of the kernel's choice that is free for both IPv4 and IPv6. */
#define LISTEN_TRIES 8

/* Buckets of the table of channels by number: a power of two. */
#define CHANNEL_BUCKETS 64

/* All names and values of one OPEN's environment, and the one argument that the kernel takes at most (MAX_ARG_STRLEN). */
#define ENV_BYTES_MAX (128 * 1024)
#define COMMAND_BYTES_MAX (128 * 1024 - 1)

/* TERM is a terminal's name, not a place to hide bytes in. */
#define TERM_BYTES_MAX 256

/* A message of the day; a longer one is left out. */
#define GREETING_BYTES_MAX (32 * 1024)
/* Rows and columns of a terminal are 16 bits in the kernel. */
#define TERMINAL_CELLS_MAX 65535

/*
 * Credit that the gateway has and bytes that wait here, of all channels of a stream together. Each of CHANNELS_MAX channels has
 * WINDOW_RESERVE for sure; the rest is shared: a channel starts with WINDOW_START and is raised by use to WINDOW_MAX.
 */
#define BUDGET_BYTES (8 * 1024 * 1024)
#define WINDOW_RESERVE (8 * 1024)
#define WINDOW_START (64 * 1024)
#define WINDOW_MAX (1024 * 1024)
#define BUDGET_SHARED (BUDGET_BYTES - CHANNELS_MAX * WINDOW_RESERVE)

/* Credit that the gateway may give one channel in all: more makes no sense and is a protocol error. */
#define SEND_CREDIT_MAX (1u << 30)

/* One read from the gateway. Measured: with 256 KiB the bytes have left the cache before they are passed on, 1.3 times the CPU. */
#define READ_BYTES (64 * 1024)
/* Reads in a row before what came in is answered. */
#define READS_IN_A_ROW 8
/* Batches in a row before the next look at what came in. */
#define SENDS_IN_A_ROW 4

/*
 * One batch to the gateway: what is sent with one system call, and what a frame of another channel waits for. What is read for it
 * is copied while it is in the cache (256 KiB: 1.5 times the CPU); what is borrowed is not read here, so it may be more.
 */
#define BATCH_BYTES (64 * 1024)
#define BATCH_BORROWED_BYTES (128 * 1024)
#define BATCH_FRAMES 32
/* A control frame inside a batch: EXIT_SIGNAL is the longest. */
#define BATCH_SMALL_BYTES 96

/* Control frames and terminals' output that wait for the gateway to read. More: it sends without reading. */
#define URGENT_BYTES_MAX (256 * 1024)
/* Terminals are read only while less than this waits. */
#define URGENT_BYTES_FULL (64 * 1024)

/* Unsent bytes in the kernel, so that a keystroke never waits behind a copy. */
#define NOTSENT_BYTES (128 * 1024)

/* Pieces of input to one descriptor that are gathered for one system call. */
#define SINK_PIECES 16

/* A pipe is made this large once it carried PIPE_BULK_BYTES: the kernel's allowance for a user (64 MiB) is not for idle ones. */
#define PIPE_BULK_BYTES (1024 * 1024)
#define PIPE_BYTES (256 * 1024)

/* A stream without a good HELLO. */
#define HELLO_MS 5000
/*
 * Silence after which PING is sent, the time for each answer, and how many may stay unanswered. The gateway asks after 30 s: while both live
 * its PING is what is heard, and procd sends none.
 */
#define PING_FIRST_MS 45000
#define PING_MS 25000
#define PING_COUNT 3
/* Resolving a name and connecting to it. */
#define CONNECT_MS 10000
/* One of several addresses has this at least: a lost packet is sent again after 1 s. */
#define CONNECT_SHARE_MS 2000
/* The gateway has closed a connection's channel: what its user had sent is still written, unless nothing of it is taken for so long. */
#define DRAIN_MS 30000
/* A program that closes its stdin mostly ends: only one that has not by then is worth a word of its own. */
#define EOW_MS 20
/* What is left in a terminal when its process has ended: time that nothing comes, and bytes in all. */
#define PTY_DRAIN_MS 100
#define PTY_DRAIN_BYTES (256 * 1024)
/* The gateway reads our last frame before the connection is torn down. */
#define LINGER_MS 500
/* Live channels after SIGTERM, before they are hung up; and how long the main process waits for its sessions in all. */
#define LEAVE_MS 1000
#define STOP_MS 3000

/* Threads that resolve names, and names that wait for one. */
#define RESOLVERS_MAX 8
/* glibc's resolver is at home in less, with room for its plug-ins; AddressSanitizer's frames are not. */
#define RESOLVER_STACK_BYTES (256 * 1024)
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#undef RESOLVER_STACK_BYTES
#define RESOLVER_STACK_BYTES (2 * 1024 * 1024)
#endif
#endif
/* Addresses of one name that are tried. */
#define ADDRESSES_MAX 8

/* SFTP servers of one stream: those whose files hang have a thread each. */
#define SFTP_CHANNELS_MAX 64
/* Answers of one SFTP server that wait to be sent, where a thread serves; and the piece in which memory is taken for them. */
#define SFTP_OUTPUT_BYTES (1024 * 1024)
#define SFTP_BLOCK_BYTES (320 * 1024)
#define SFTP_SPARE_BLOCKS 4
/* Where the loop serves: no request is begun with so much unsent, which is a batch. */
#define SFTP_LOOP_OUTPUT_BYTES BATCH_BORROWED_BYTES
/* Pieces of one read that are served where they lie. */
#define SFTP_PIECES 16
/*
 * One SFTP server's turn on the loop: requests and answers in bytes, with a cost for each request; and a time, for disks. The
 * others wait for it.
 */
#define SFTP_TURN_BYTES (256 * 1024)
#define SFTP_TURN_MS 2
/*
 * Turns of all of a stream's servers in one round of the loop, but the last of them: slow files, each of which answers before it would
 * be called hanging, do not add up for who types beside them.
 */
#define SFTP_ROUND_MS 4
/*
 * The loop is told of a thread's answers once their weight, their bytes and a cost for each, reaches SFTP_ANNOUNCE (8 short ones,
 * or a large one), and always before the server waits for input.
 */
#define SFTP_ANSWER_COST 4096
#define SFTP_ANNOUNCE (32 * 1024)
#define SFTP_STACK_BYTES (512 * 1024)

/* How long a file may hold up the loop. Two ticks: a disk's usual answer is no reason; the other: a copy inside the sandbox, or
 * a machine that is so busy that the loop does not come to run. */
#define GUARD_TICK_MS 4
#define GUARD_WAIT_TICKS 2
#define GUARD_RUN_TICKS 10
#define GUARD_IDLE_TICKS 25

#endif
