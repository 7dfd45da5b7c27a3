/*
 * control/http.c - requests in, answers out, by libmicrohttpd: bodies, tokens, held answers, the log.
 *
 * A few threads of the library's own serve all connections by epoll. A held answer's connection is suspended and takes no thread; the
 * feed resumes it.
 */
#include "control/people.h"
#include "control/request.h"
#include "core/address.h"
#include "core/log.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

struct http {
	struct MHD_Daemon *daemon;
	_Atomic int open_count; /* requests that are not answered, or whose answer is not sent */
};

/* --- who asks --- */

static bool bearer_take(const char *header, struct bytes *ret_token)
{
	if (!header || strncasecmp(header, "Bearer", 6) != 0 || header[6] != ' ')
		return false;
	header += 6 + strspn(header + 6, " ");
	*ret_token = bytes_of(header, strcspn(header, " "));
	return true;
}

static void user_take(struct request *r, struct store *s)
{
	struct bytes token;
	int rc = bearer_take(request_header(r, "Authorization"), &token) ? token_find(s, token, r->user) : -ENOENT;

	if (rc == -ENOENT)
		answer_error(r, 401, "unauthorized", "a good token is needed: Authorization: Bearer rgt_...");
	else if (rc < 0)
		answer_failure(r);
}

static void gateway_take(struct request *r)
{
	const char *header = request_header(r, "X-Internal-Token"), *why = "there is none";
	const struct server *s = r->server;

	if (header && jwt_check(bytes_str(header), s->gateway_keys, s->config->gateway_key_count, store_now_ms() / 1000,
				r->gateway, &why) == 0)
		return;
	answer_error(r, 401, "unauthorized", "a gateway's token is needed in X-Internal-Token");
	log_event(LOG_WARN, "gateway_refused", LOG_STR("token", why));
}

/* --- held answers --- */

static void on_sleep(struct waiter *w)
{
	MHD_suspend_connection(CONTAINER_OF(w, struct request, waiter)->connection);
}

static void on_wake(struct waiter *w)
{
	MHD_resume_connection(CONTAINER_OF(w, struct request, waiter)->connection);
}

/* --- one request --- */

static void handler_run(struct request *r, bool is_first)
{
	struct store *s = store_take(r->server->pool);

	r->is_held = false;
	if (!s) {
		answer_failure(r);
		return;
	}
	/* A user's again when a held answer is looked at again; a gateway's is short-lived and was good when it asked. */
	if (r->route->auth == AUTH_USER)
		user_take(r, s);
	else if (r->route->auth == AUTH_GATEWAY && is_first)
		gateway_take(r);
	if (!r->answer && r->body.is_too_long)
		answer_error(r, 413, "payload_too_large", "a body has at most %d bytes", BODY_BYTES_MAX);
	if (!r->answer)
		r->route->handler(r, s);
	ASSERT(r->answer || r->is_held || r->status);
	store_give(r->server->pool, s);
	/* Whatever it changed, the others learn at once. */
	if (strcmp(r->route->method, "GET") != 0)
		feed_kick(r->server->feed);
}

static enum MHD_Result answer_send(struct request *r)
{
	static const char no_memory[] =
		"{\"success\": false, \"error\": {\"code\": \"internal_error\", \"message\": \"no memory\"}}";
	char *text = r->answer ? json_dumps(r->answer, JSON_COMPACT) : NULL;
	struct MHD_Response *response;
	enum MHD_Result ok;

	if (text) {
		response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
	} else {
		r->status = 500;
		response =
			MHD_create_response_from_buffer(strlen(no_memory), (void *)no_memory, MHD_RESPMEM_PERSISTENT);
	}
	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (r->status == 401)
		MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
	if (r->status == 405)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, r->allow);
	r->is_answered = true;
	ok = MHD_queue_response(r->connection, r->status, response);
	MHD_destroy_response(response);
	return ok;
}

/* Runs the handler until there is an answer, or until it waits. */
static enum MHD_Result request_serve(struct request *r)
{
	bool is_first = r->waiter.deadline_ms == 0; /* else it was held, and was woken now */

	while (!r->answer && !r->status) {
		handler_run(r, is_first);
		is_first = false;
		if (!r->is_held || r->answer || r->status)
			continue;
		switch (feed_wait(r->server->feed, &r->waiter)) {
		case FEED_ASLEEP:
			return MHD_YES;
		case FEED_OVER:
			r->is_over = true;
			break;
		case FEED_NEWS:
			break;
		}
	}
	return answer_send(r);
}

static bool body_append(struct request *r, const char *p, size_t n)
{
	char *grown;

	if (r->body.is_too_long || n > BODY_BYTES_MAX - r->body.n) {
		r->body.is_too_long = true;
		r->body.n += n;
		return r->body.n <= BODY_DRAIN_BYTES;
	}
	grown = realloc(r->body.p, r->body.n + n);
	if (!grown)
		return false;
	memcpy(grown + r->body.n, p, n);
	r->body.p = grown;
	r->body.n += n;
	return true;
}

static struct request *request_new(struct server *s, struct MHD_Connection *c, const char *method, const char *path)
{
	struct request *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->path = strdup(path);
	if (!r->path) {
		free(r);
		return NULL;
	}
	snprintf(r->method, sizeof(r->method), "%s", method);
	r->server = s;
	r->connection = c;
	r->began_ms = feed_clock_ms();
	r->waiter.on_sleep = on_sleep;
	r->waiter.on_wake = on_wake;
	return r;
}

/* A length that is announced is refused before the body comes; the connection ends then, so that nothing of it is read. */
static bool length_is_good(struct request *r)
{
	const char *length = request_header(r, MHD_HTTP_HEADER_CONTENT_LENGTH);

	if (!length || strtoull(length, NULL, 10) <= BODY_BYTES_MAX)
		return true;
	answer_error(r, 413, "payload_too_large", "a body has at most %d bytes", BODY_BYTES_MAX);
	return false;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *c, const char *path, const char *method,
				  const char *version, const char *body, size_t *body_bytes, void **at)
{
	struct request *r = *at;

	if (!r) {
		*at = r = request_new(ctx, c, method, path);
		if (!r)
			return MHD_NO;
		atomic_fetch_add(&r->server->http->open_count, 1);
		return length_is_good(r) ? MHD_YES : answer_send(r);
	}
	if (*body_bytes > 0) {
		size_t n = *body_bytes;

		*body_bytes = 0;
		return body_append(r, body, n) ? MHD_YES : MHD_NO;
	}
	if (!r->route && !route_find(r, method, path))
		return answer_send(r);
	return request_serve(r);
}

/* The library does not say how long the address is. */
static const char *client_text(struct MHD_Connection *c, char *buf, size_t size)
{
	const union MHD_ConnectionInfo *peer = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	const struct sockaddr *addr = peer ? peer->client_addr : NULL;

	if (!addr || (addr->sa_family != AF_INET && addr->sa_family != AF_INET6))
		return addr && addr->sa_family == AF_UNIX ? "unix" : "unknown";
	return socket_address_text(
		addr, addr->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6), buf, size);
}

static void on_completed(void *ctx, struct MHD_Connection *c, void **at, enum MHD_RequestTerminationCode code)
{
	char address[SOCKET_TEXT_MAX];
	struct request *r = *at;

	if (!r)
		return;
	log_event(LOG_INFO, "request", LOG_STR("method", r->method), LOG_STR("path", r->path),
		  LOG_U64("status", r->status), LOG_U64("ms", feed_clock_ms() - r->began_ms), LOG_STR("user", r->user),
		  LOG_STR("gateway", r->gateway), LOG_STR("client", client_text(c, address, sizeof(address))),
		  LOG_STR("end", code == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "sent" : "connection lost"));
	json_decref(r->answer);
	/* It may be a private key. */
	if (r->body.p)
		explicit_bzero(r->body.p, r->body.is_too_long ? 0 : r->body.n);
	free(r->body.p);
	free(r->path);
	atomic_fetch_sub(&r->server->http->open_count, 1);
	free(r);
	*at = NULL;
}

/* Paths and arguments stay as they came: routes.c decodes what it takes. */
static size_t keep_encoded(void *ctx, struct MHD_Connection *c, char *text)
{
	return strlen(text);
}

__attribute__((format(printf, 2, 0))) static void on_library_log(void *ctx, const char *format, va_list ap)
{
	char text[LOG_VALUE_MAX];
	size_t n;

	vsnprintf(text, sizeof(text), format, ap);
	n = strcspn(text, "\n");
	text[n] = 0;
	log_event(LOG_DEBUG, "http", LOG_STR("library", text));
}

int http_start(struct server *s, int listen_fd)
{
	struct http *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	s->http = h;
	h->daemon = MHD_start_daemon(
		MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL,
		NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_library_log, NULL, MHD_OPTION_LISTEN_SOCKET,
		listen_fd, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)s->config->threads, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned)HTTP_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_IDLE_S,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_CONNECTION_BYTES, MHD_OPTION_NOTIFY_COMPLETED,
		on_completed, NULL, MHD_OPTION_UNESCAPE_CALLBACK, keep_encoded, NULL, MHD_OPTION_STRICT_FOR_CLIENT, 1,
		MHD_OPTION_END);
	if (!h->daemon) {
		s->http = NULL;
		free(h);
		return -EIO;
	}
	return 0;
}

void http_stop(struct server *s)
{
	uint64_t until = feed_clock_ms() + HTTP_STOP_MS;
	int fd;

	if (!s->http)
		return;
	/* No new connections; the held answers have been woken. */
	fd = MHD_quiesce_daemon(s->http->daemon);
	while (atomic_load(&s->http->open_count) > 0 && feed_clock_ms() < until)
		usleep(5000);
	MHD_stop_daemon(s->http->daemon);
	if (fd >= 0)
		close(fd);
	free(s->http);
	s->http = NULL;
}
