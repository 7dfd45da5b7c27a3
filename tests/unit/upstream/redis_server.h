/*
 * tests/unit/upstream/redis_server.h - real servers for tests: redis-server or valkey-server, in folders of their own.
 *
 * Owner:  the test. A server ends with the test's process, whatever happens.
 * Thread: any one.
 */
#ifndef TESTS_UNIT_UPSTREAM_REDIS_SERVER_H
#define TESTS_UNIT_UPSTREAM_REDIS_SERVER_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct redis_server {
	pid_t pid; /* 0: not running */
	char dir[64];
	char socket[96];       /* dir/socket */
	uint16_t port;         /* 0: the socket only */
	const char *args[32];  /* besides these; NULL ends them */
	redisContext *control; /* for redis_do */
};

/* The program, or NULL: then the test says why it skips. $REDIS_SERVER comes first, so that one can choose. */
const char *redis_program(void);
/* A free port of 127.0.0.1. Somebody else may take it at once; redis_start then fails the test. */
uint16_t redis_free_port(void);

/* Makes a folder; args are set by the caller, in pairs as on the command line. */
void redis_init(struct redis_server *s);
/* Starts it and waits until it answers. Again after redis_kill: with the same port and folder. */
void redis_start(struct redis_server *s);
/* `redis-server … --sentinel` with a configuration file of these lines in its folder. */
void redis_start_sentinel(struct redis_server *s, const char *config);
void redis_kill(struct redis_server *s);
/* Ends it and removes the folder. */
void redis_deinit(struct redis_server *s);

/* A command on a connection of the test's own; its reply has to be freed. Fails the test where there is none. */
redisReply *redis_ask(struct redis_server *s, const char *format, ...);
/* The same, and the reply must not be an error. */
void redis_do(struct redis_server *s, const char *format, ...);

#endif
