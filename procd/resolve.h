/*
 * procd/resolve.h - names to addresses, on threads, since getaddrinfo blocks.
 *
 * Owner:  a job belongs to the loop from resolve_take on; before that to whoever works on it.
 * Thread: all functions are the loop's.
 */
#ifndef PROCD_RESOLVE_H
#define PROCD_RESOLVE_H

#include "core/check.h"
#include "core/list.h"
#include "procd/limits.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define HOST_BYTES_MAX 255

struct resolve_job {
	struct list node;
	void *owner;     /* NULL: nobody wants the answer any more */
	bool is_waiting; /* no thread has taken it; the pool's lock */
	char host[HOST_BYTES_MAX + 1];
	uint16_t port;
	int error; /* of getaddrinfo */
	struct sockaddr_storage addresses[ADDRESSES_MAX];
	uint32_t count;
};

/* notify_fd: an eventfd that is written to when a job is done. */
void resolve_init(int notify_fd);
/* Addresses that need nobody's help (numbers, localhost) into ret; their count, 0 where there are none. */
uint32_t resolve_literal(const char *host, uint16_t port, struct sockaddr_storage ret[ADDRESSES_MAX]);
/* Begins. NULL: no memory, no thread. */
struct resolve_job *resolve_start(const char *host, uint16_t port, void *owner);
/* Nobody is asked where that has not begun, else the answer is dropped. The job is not the caller's any more. */
void resolve_cancel(struct resolve_job *job);
/* The next job that is done and still wanted, or NULL. The caller frees it. */
struct resolve_job *resolve_take(void);

#endif
