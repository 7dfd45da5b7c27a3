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

/* Small buffers for light streams: a keystroke or a command's reply fits one, and bulk cannot take them all away. */
#define RING_LIGHT_BUFFERS 32
#define RING_LIGHT_BUFFER_BYTES 4096

/* A stream is light while it has moved less than this lately: bytes that halve every so often. A screen redraw still is. */
#define RING_LIGHT_BYTES (32 * 1024)
#define RING_LIGHT_HALVING_US 20000

/* Bytes of other streams that are handled before light ones are looked for again: some 0.3 ms of encryption. */
#define RING_QUANTUM_BYTES (256 * 1024)

/*
 * Gathering: after a batch that brought as many bytes of streams that ask for it the loop lets so many completions come before it wakes up, or so long pass, whichever
 * is first; then it sleeps as ever. A peer that writes a packet at a time wakes it once for several. Where that brought no second
 * receive (whoever sends waits for an answer) it is left out so many times, twice as many each time in a row.
 */
#define RING_GATHER_BYTES (16 * 1024)
#define RING_GATHER_COUNT 16
#define RING_GATHER_US 60
#define RING_GATHER_SKIP 4
#define RING_GATHER_SKIP_MAX 64

/* Chunks in one send: 1 MiB. What is queued beyond that waits for the completion, by which time the socket is full anyway. */
#define RING_SEND_IOV 16

/*
 * Of timers that wait for half a minute, such as keepalives: those due within the same tick are one batch, and may be late by it. Short
 * enough that what 10,000 idle sessions have to do in one, some 170 small packets, is not felt by those who type.
 */
#define RING_TICK_MS 250
/* Of shorter waits a tick is this part. */
#define RING_TICKS_A_WAIT 32

/* After EMFILE or ENFILE: long enough that sessions may end, short enough that nobody notices afterwards. */
#define RING_ACCEPT_PAUSE_MS 100

/* Connections that the kernel completes while nobody accepts; net.core.somaxconn caps it. */
#define RING_LISTEN_BACKLOG 4096

/* Rounds in which deferred objects may ask for one another within a batch; the rest runs in the next batch, without sleep. */
#define RING_DEFERRED_ROUNDS 8

/* Tries, 1 ms apart, of a submission that the kernel refuses for want of memory. */
#define RING_SUBMIT_TRIES 1000

/*
 * Names: getaddrinfo asks each name server for 5 s and more, so that one name that nobody answers for must not hold up the
 * others; four such at once are a name server that is down.
 */
#define RESOLVE_THREADS_MAX 4
/* Names that wait for a thread, in the whole process; more than this would wait longer than their deadline. */
#define RESOLVE_QUEUE_MAX 1024
/* Addresses of one name that are kept. */
#define RESOLVE_ADDRESSES_MAX 4
/* After that the asker has something better to do; what the thread still finds out goes into the cache. */
#define RESOLVE_TIMEOUT_MS 5000
/* A burst of connections to one name is one look-up; short, since getaddrinfo does not say how long an answer holds. */
#define RESOLVE_CACHE_MS 5000
#define RESOLVE_CACHE_FAILED_MS 1000
#define RESOLVE_CACHE_COUNT 64
/* getaddrinfo's own buffers, and what a name service switch module may want; AddressSanitizer's frames are larger. */
#define RESOLVE_STACK_BYTES (256 * 1024)
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#undef RESOLVE_STACK_BYTES
#define RESOLVE_STACK_BYTES (2 * 1024 * 1024)
#endif
#endif

#endif
