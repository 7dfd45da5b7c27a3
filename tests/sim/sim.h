/*
 * tests/sim/sim.h - a world of one thread, one seed and a virtual clock, in which the gateway's real code runs.
 *
 * fake_ring.c stands where the kernel is: ring/'s own stream.c, timer.c, mail.c, wheel.c run unmodified, and what they submit
 * to io_uring is done here, in memory: random chunks, short sends, delays, cancellations that come too late, an empty pool of
 * receive buffers, resets. The far ends (SSH clients, procds, the directory) are actors. Everything random comes from the seed, so a
 * seed that failed fails again.
 *
 * Owner:  one world at a time, sim_begin to sim_end.
 * Thread: one.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include "core/check.h"
#include "core/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define SIM_NEVER UINT64_MAX
/* Descriptors of the fake sockets: numbers that the kernel never gave out, so that whatever else touches one fails harmlessly. */
#define SIM_FD_FIRST (1 << 24)

/* What must hold in this world; says where, and which seed. */
#define CHECK(cond) ((cond) ? (void)0 : sim_failed(#cond, __FILE__, __LINE__))
__attribute__((noreturn, cold)) void sim_failed(const char *what, const char *file, int line);

/* How rough the world is; drawn from the seed by sim_begin, changed at will. */
struct sim_weather {
	uint32_t chunk_max;    /* bytes of one receive, on all sockets */
	uint32_t socket_bytes; /* room of a socket's receive buffer */
	uint32_t latency_us;   /* at most, of a batch of bytes */
	uint32_t skip_percent; /* how often a ring or an actor misses its turn */
	uint32_t recv_buffers; /* of each ring: few, so that they run out */
};

struct sim {
	uint64_t seed, random_state;
	uint64_t now_us;
	uint64_t round_count;
	bool is_fair;  /* nobody misses a turn now */
	bool is_still; /* nobody did anything in the last round */
	struct sim_weather weather;
	struct list rings, actors, sockets;
	const char *scenario;
};

extern struct sim sim;

void sim_begin(const char *scenario, uint64_t seed);
/* Asserts that no socket and no actor is left. */
void sim_end(void);

uint64_t sim_random64(void);
uint32_t sim_random(uint32_t below);
/* low..high, both included */
uint32_t sim_between(uint32_t low, uint32_t high);
bool sim_chance(uint32_t percent);
/* Somebody's turn, or an operation's: it is missed. */
bool sim_misses(void);

/*
 * Whoever acts besides the rings. step does what can be done now and says whether it did something; wake_us is when it has
 * something to do by itself. An actor may end itself in its step, nowhere else while the world runs.
 */
struct sim_actor {
	struct list node;
	bool (*step)(struct sim_actor *a);
	uint64_t wake_us;
};

void sim_actor_start(struct sim_actor *a, bool (*step)(struct sim_actor *a));
void sim_actor_stop(struct sim_actor *a);

/*
 * Runs until is_done(ctx) says so or until_us (virtual) has come. True when it is done. With is_done NULL: until nothing can move
 * and no timer is left, or until_us. Fails when the world spins without time passing.
 */
bool sim_run(bool (*is_done)(void *ctx), void *ctx, uint64_t until_us);

/* One end of a connection. */
struct sim_socket {
	struct list node;
	struct sim_socket *peer; /* NULL once the other end is closed */
	int fd;                  /* of an end that a ring holds; -1 of an actor's */
	uint8_t *in;             /* come and unread */
	size_t start, bytes, size;
	uint64_t ready_us; /* before that it is on its way */
	bool is_fin;       /* the peer sends no more */
	bool is_reset;
	bool is_shut; /* we send no more */
	bool has_ops; /* a ring's operations are in flight */
	uint64_t read_total;
};

/* A connection between a ring and an actor. The ring's end is known by its descriptor. */
struct sim_socket *sim_connection(int *ret_fd);

/* For actors. */
bool sim_socket_is_readable(const struct sim_socket *s);
/* Up to n bytes; 0 when there are none (yet, or any more: sim_socket_has_ended). */
size_t sim_socket_read(struct sim_socket *s, void *p, size_t n);
/* True at EOF or reset, when all was read. */
bool sim_socket_has_ended(const struct sim_socket *s);
/* How many bytes were taken: the peer's buffer is bounded. */
size_t sim_socket_write(struct sim_socket *s, const void *p, size_t n);
void sim_socket_shutdown(struct sim_socket *s);
void sim_socket_close(struct sim_socket *s, bool is_reset);
/* When a readable socket becomes so, or SIM_NEVER. */
uint64_t sim_socket_next_us(const struct sim_socket *s);

/* The gateway connects. 0 and the actor's end taken over; negative errno after a while; -EINPROGRESS: never an answer. */
extern int (*sim_on_connect)(const struct sockaddr *addr, struct sim_socket *far_end);

struct ring;
/* Timers that are started on a ring? */
bool sim_ring_has_timers(const struct ring *r);
/* Operations in flight. */
uint32_t sim_ring_ops(const struct ring *r);

#endif
