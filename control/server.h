/*
 * control/server.h - the running control plane: what the handlers share.
 *
 * Owner:  main (serve.c). Read-only once HTTP is served, but for what has locks of its own.
 */
#ifndef CONTROL_SERVER_H
#define CONTROL_SERVER_H

#include "control/config.h"
#include "control/feed.h"
#include "control/fleet.h"
#include "control/jwt.h"
#include "control/publish.h"
#include "control/store.h"

struct http;

struct server {
	const struct config *config;
	struct store_pool *pool;
	struct feed *feed;
	struct fleet fleet;
	struct publisher *publisher; /* NULL: no shared cache */
	uint8_t gateway_keys[CONFIG_LIST_MAX][JWT_KEY_BYTES];
	struct http *http;
};

/* http.c: accepts connections on the socket from now on. */
MUST_USE int http_start(struct server *s, int listen_fd);
/* After feed_stop: ends all connections. */
void http_stop(struct server *s);

#endif
