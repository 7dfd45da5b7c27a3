#include "http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void must(bool is_good, const char *what)
{
	if (is_good)
		return;
	fprintf(stderr, "http_server: %s: %s\n", what, strerror(errno));
	abort();
}

bool server_send_bytes(struct server_conn *c, const void *p, size_t n)
{
	while (n > 0) {
		ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL);

		if (sent <= 0)
			return false;
		p = (const char *)p + sent;
		n -= (size_t)sent;
	}
	return true;
}

bool server_send(struct server_conn *c, const char *text)
{
	return server_send_bytes(c, text, strlen(text));
}

bool server_answer(struct server_conn *c, int status, const char *body)
{
	char head[256];

	snprintf(head, sizeof(head),
		 "HTTP/1.1 %d Some\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", status,
		 strlen(body));
	return server_send(c, head) && server_send(c, body);
}

bool server_data(struct server_conn *c, const char *data)
{
	char *body;
	bool is_sent;

	must(asprintf(&body, "{\"success\": true, \"data\": %s}", data) > 0, "asprintf");
	is_sent = server_answer(c, 200, body);
	free(body);
	return is_sent;
}

bool server_error(struct server_conn *c, int status, const char *message)
{
	char *body;
	bool is_sent;

	must(asprintf(&body, "{\"success\": false, \"error\": {\"code\": \"some\", \"message\": \"%s\"}}", message) > 0,
	     "asprintf");
	is_sent = server_answer(c, status, body);
	free(body);
	return is_sent;
}

bool server_wait_end(struct server_conn *c)
{
	char bytes[256];

	while (recv(c->fd, bytes, sizeof(bytes), 0) > 0)
		;
	return false;
}

/* False at the end of the connection. */
static bool request_read(struct server_conn *c, char *request)
{
	size_t n = 0;

	request[0] = 0;
	while (!strstr(request, "\r\n\r\n")) {
		ssize_t got = recv(c->fd, request + n, SERVER_REQUEST_MAX - 1 - n, 0);

		if (got <= 0)
			return false;
		n += (size_t)got;
		request[n] = 0;
	}
	return true;
}

static void request_handle(struct server_conn *c, const char *request, bool *ret_stays)
{
	struct server *s = c->server;
	uint32_t busy = atomic_fetch_add(&s->busy_count, 1) + 1, most = atomic_load(&s->busy_most);

	while (busy > most && !atomic_compare_exchange_weak(&s->busy_most, &most, busy))
		;
	c->request++;
	atomic_fetch_add(&s->request_count, 1);
	*ret_stays = atomic_load(&s->handler)(c, request);
	atomic_fetch_sub(&s->busy_count, 1);
}

static void *conn_main(void *ctx)
{
	struct server_conn *c = ctx;
	char request[SERVER_REQUEST_MAX];
	bool stays = true;

	while (stays && request_read(c, request))
		request_handle(c, request, &stays);
	atomic_store(&c->is_ended, true);
	/* The descriptor stays until server_stop, so that its number is nobody else's. */
	shutdown(c->fd, SHUT_RDWR);
	return NULL;
}

static void *server_main(void *ctx)
{
	struct server *s = ctx;

	for (;;) {
		int fd = accept(s->fd, NULL, NULL);
		struct server_conn *c;

		if (fd < 0 || atomic_load(&s->is_stopping)) {
			if (fd >= 0)
				close(fd);
			return NULL;
		}
		must(s->conn_count < SERVER_CONNS_MAX, "too many connections");
		/* Or an answer in two pieces would wait for the acknowledgement of the first. */
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
		c = &s->conns[s->conn_count];
		*c = (struct server_conn){.server = s, .fd = fd, .number = s->conn_count + 1};
		atomic_fetch_add(&s->conn_count, 1);
		must(pthread_create(&c->thread, NULL, conn_main, c) == 0, "pthread_create");
	}
}

void server_start(struct server *s, uint16_t port, server_handler *handler)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	socklen_t bytes = sizeof(in);
	int on = 1;

	memset(s, 0, sizeof(*s));
	atomic_store(&s->handler, handler);
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(s->fd >= 0, "socket");
	setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	must(bind(s->fd, (struct sockaddr *)&in, sizeof(in)) == 0, "bind");
	must(listen(s->fd, 256) == 0, "listen");
	must(getsockname(s->fd, (struct sockaddr *)&in, &bytes) == 0, "getsockname");
	s->port = ntohs(in.sin_port);
	snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%u", s->port);
	must(pthread_create(&s->thread, NULL, server_main, s) == 0, "pthread_create");
}

void server_stop(struct server *s)
{
	atomic_store(&s->is_stopping, true);
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	close(s->fd);
	for (uint32_t i = 0; i < s->conn_count; i++)
		shutdown(s->conns[i].fd, SHUT_RDWR);
	for (uint32_t i = 0; i < s->conn_count; i++) {
		pthread_join(s->conns[i].thread, NULL);
		close(s->conns[i].fd);
	}
}
