/*
 * tests/unit/ring/fixture.h - what the ring's tests share: includes, sockets, a stream that checks what it gets.
 */
#ifndef TESTS_UNIT_RING_FIXTURE_H
#define TESTS_UNIT_RING_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ring/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A test that takes longer than this hangs. */
#define TEST_DEADLINE_MS 20000

/* A ring and a timer that fails the test when it does not end. */
struct loop {
	struct ring *ring;
	struct timer deadline;
};

void loop_init(struct loop *l, const struct ring_options *o);
void loop_run(struct loop *l);
void loop_deinit(struct loop *l);

void make_pair(int fds[2]);
/* Two ends of a TCP connection over loopback. */
void make_tcp_pair(int fds[2]);
/* A listening TCP socket on a free port of 127.0.0.1, and its address. */
int make_listener(int backlog, struct sockaddr_storage *ret_addr, socklen_t *ret_bytes);

/* Byte `at` of a stream of test bytes: whatever is lost, doubled or moved shows. */
static inline uint8_t test_byte(uint64_t at)
{
	return (uint8_t)((at * 0x9e3779b97f4a7c15ULL) >> 56);
}

uint32_t test_random(uint32_t *seed);

#endif
