/*
 * gateway/admin.h - a Unix socket on which the gateway tells what it is doing: `ringgate status`.
 *
 *   asker: "status\n"        gateway: one JSON object, then the end
 *
 * Owner:  main.
 * Life:   from admin_start until admin_stop, both while the server's threads run.
 * Thread: one of its own, which serves one asker after another, each within ADMIN_ASKER_MS. Never a worker's.
 */
#ifndef GATEWAY_ADMIN_H
#define GATEWAY_ADMIN_H

#include "gateway/server.h"

struct admin {
	struct server *server;
	char path[108];
	int listen_fd, stop_fd;
	pthread_t thread;
	bool is_running;
};

/* 0, or negative errno with a sentence. What another gateway has left at that path is removed; one that answers there is not. */
MUST_USE int admin_start(struct admin *a, struct server *s, const char *path, char ret_error[512]);
/* Harmless when it was not started. */
void admin_stop(struct admin *a);

/* `ringgate status`: asks the gateway at that socket and prints its answer, as lines or as it came. The exit status. */
int admin_ask(const char *path, bool is_json);

#endif
