/*
 * ring/limits.h - the ring's own limits, with the reason for each size.
 */
#ifndef RING_LIMITS_H
#define RING_LIMITS_H

/* Submissions that one batch gathers before it enters the kernel early; 2 to 3 for each busy stream. */
#define RING_SQ_ENTRIES 512

/* Completions: a multishot operation posts many for one submission. More than this and the kernel allocates. */
#define RING_CQ_PER_SQ 8

/*
 * The shared receive buffers of one loop. The kernel goes through the pool in a circle, so all of it becomes resident and is
 * what a batch drags through the cache: 2 MiB. A multishot recv takes up to 32 buffers from one busy stream before the kernel
 * turns to the next. Relaying one stream, 32 took 0.39 to 0.44 s of CPU a GB, 64 took 0.42 to 0.49, 8 0.52 to 0.59.
 */
#define RING_RECV_BUFFERS 32
#define RING_RECV_BUFFER_BYTES (64 * 1024)
#define RING_RECV_BUFFERS_MAX 32768 /* the kernel's */

/* Chunks in one send: 1 MiB. What is queued beyond that waits for the completion, by which time the socket is full anyway. */
#define RING_SEND_IOV 16

/* After EMFILE or ENFILE: long enough that sessions may end, short enough that nobody notices afterwards. */
#define RING_ACCEPT_PAUSE_MS 100

/* Connections that the kernel completes while nobody accepts; net.core.somaxconn caps it. */
#define RING_LISTEN_BACKLOG 4096

/* Rounds in which deferred objects may ask for one another within a batch; the rest runs in the next batch, without sleep. */
#define RING_DEFERRED_ROUNDS 8

/* Tries, 1 ms apart, of a submission that the kernel refuses for want of memory. */
#define RING_SUBMIT_TRIES 1000

#endif
