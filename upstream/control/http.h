/*
 * upstream/control/http.h - HTTP/1.1 GETs on a ring: libcurl's multi interface, whose sockets the ring watches and whose timeouts
 * it keeps.
 *
 *	curl ── CURLMOPT_SOCKETFUNCTION ──► struct watch ── on_ready ──► curl_multi_socket_action ──► get_done
 *	     ── CURLMOPT_TIMERFUNCTION ───► struct timer ── on_fire ──►
 *
 * curl makes and closes its sockets; a close waits until the ring has let go of the socket. No redirects, no proxies, no netrc, no
 * cookies, no decompression; an answer's headers and body are bounded (limits.h). Certificates are always verified.
 *
 * HTTP/1.1 alone, by choice: a connection carries one call, so that a call that is given up harms no other.
 *
 * Owner:  the client makes it; gets are embedded in their askers.
 * Life:   http_free ends all gets without on_done; http is gone when on_freed comes.
 * Thread: the ring's.
 */
#ifndef UPSTREAM_CONTROL_HTTP_H
#define UPSTREAM_CONTROL_HTTP_H

#include "core/bytes.h"
#include "core/check.h"
#include "ring/ring.h"
#include "upstream/control/client.h"

struct http;

struct http_options {
	const char *ca_file; /* NULL: the system's */
	uint32_t connect_timeout_ms;
	uint32_t connection_count; /* at most */
	uint32_t rest_count;       /* kept alive with nothing to do */
	void (*on_freed)(void *owner);
	void *owner;
};

enum http_end {
	HTTP_ANSWERED,      /* a whole answer: status and body */
	HTTP_NO_CONNECTION, /* none could be had, or it ended before the answer did */
	HTTP_BAD_ANSWER,    /* too large, or not HTTP */
	HTTP_LATE,          /* not within the time */
};

struct http_get {
	void (*on_done)(struct http_get *g);
	/* The answer, valid during on_done. */
	enum http_end end;
	uint32_t status;
	struct bytes body;
	char why[CONTROL_REASON_MAX]; /* where there is none; printable */
	/* Private to http. */
	struct http *http;
	void *easy, *headers; /* curl's */
	struct list node;     /* while it is in flight */
	uint8_t *memory;
	size_t memory_bytes, body_bytes, header_bytes;
	bool is_too_large;
	char error[256]; /* curl's own words */
};

/* As control_client_new. */
MUST_USE int http_new(struct ring *r, const struct http_options *o, struct http **ret_http, char ret_error[256]);
/* NULL is fine. on_freed may come inside when nothing was in flight. */
void http_free(struct http *h);

/*
 * Asks. A get is zeroed before its first use. url and headers ("Name: value") are copied. on_done comes later, from the ring's loop. 0
 * or -ENOMEM.
 */
MUST_USE int http_start(struct http *h, struct http_get *g, const char *url, const char *const *headers,
			size_t header_count, uint32_t timeout_ms);
/* No on_done comes after this. Harmless when it is not in flight. */
void http_stop(struct http_get *g);
/* Gives its memory back; stops it. */
void http_get_deinit(struct http_get *g);

/* A URL that the client can have: http or https, no user, no query; as it is, but for slashes at the end. 0 or -EINVAL and why. */
MUST_USE int http_url_check(const char *url, char ret_base[CONTROL_URL_MAX], char ret_error[256]);

#endif
