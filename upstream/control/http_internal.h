/*
 * upstream/control/http_internal.h - what http.c (requests) and http_sockets.c (curl's sockets on the ring) share.
 */
#ifndef UPSTREAM_CONTROL_HTTP_INTERNAL_H
#define UPSTREAM_CONTROL_HTTP_INTERNAL_H

#include "upstream/control/http.h"

#include <curl/curl.h>

struct http {
	struct ring *ring;
	CURLM *multi;
	struct list gets;     /* in flight */
	struct list sockets;  /* that are watched, or whose watch is ending */
	struct timer timer;   /* curl's next timeout */
	struct deferred soon; /* one that is due already */
	uint32_t connect_timeout_ms;
	char *ca; /* the CA file's text, or NULL */
	size_t ca_bytes;
	uint32_t depth; /* of calls into curl and of on_done on the stack */
	bool is_freed;
	void (*on_freed)(void *owner);
	void *owner;
};

/* Joins curl's multi handle and the ring. */
void http_sockets_init(struct http *h);
/* After curl has let go of everything. */
void http_sockets_stop(struct http *h);
/* What an easy handle needs, so that its sockets are made and closed here. */
void http_sockets_setup(struct http *h, CURL *easy);

/* Takes what curl has finished: on_done of each. http may be freed by that, but its memory is there until http_settle. */
void http_reap(struct http *h);
/* Frees what is left of a freed http once nothing holds it. */
void http_settle(struct http *h);

#endif
