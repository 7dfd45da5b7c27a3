/*
 * tests/unit/upstream/control/http_server.h - a tiny HTTP server on a thread for each connection, which does what a test's handler says, good
 * or evil.
 *
 * Owner: the test. server_stop ends all threads, whatever they wait for.
 */
#ifndef TESTS_UNIT_UPSTREAM_CONTROL_HTTP_SERVER_H
#define TESTS_UNIT_UPSTREAM_CONTROL_HTTP_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SERVER_CONNS_MAX 1024
#define SERVER_REQUEST_MAX 8192

struct server;

struct server_conn {
	struct server *server;
	pthread_t thread;
	int fd;
	uint32_t number;       /* of the connection, from 1 */
	uint32_t request;      /* of the request on it, from 1 */
	_Atomic bool is_ended; /* its peer is gone, or it has closed */
};

/* One request, headers and all. False closes the connection. Runs on the connection's thread. */
typedef bool server_handler(struct server_conn *c, const char *request);

struct server {
	int fd;
	uint16_t port;
	char url[64];
	pthread_t thread;
	_Atomic(server_handler *) handler;
	_Atomic uint32_t conn_count, request_count; /* so far */
	_Atomic uint32_t busy_count, busy_most;     /* requests being handled at a time */
	_Atomic bool is_stopping;
	struct server_conn conns[SERVER_CONNS_MAX];
};

/* On 127.0.0.1; port 0 takes a free one. */
void server_start(struct server *s, uint16_t port, server_handler *handler);
void server_stop(struct server *s);

/* False when the peer is gone. */
bool server_send(struct server_conn *c, const char *text);
bool server_send_bytes(struct server_conn *c, const void *p, size_t n);
/* A whole answer; the connection stays. Returns what a handler does. */
bool server_answer(struct server_conn *c, int status, const char *body);
/* {"success": true, "data": DATA} and {"success": false, "error": {…}} */
bool server_data(struct server_conn *c, const char *data);
bool server_error(struct server_conn *c, int status, const char *message);
/* Waits until the peer has closed. Returns false, as a handler that closes. */
bool server_wait_end(struct server_conn *c);

#endif
