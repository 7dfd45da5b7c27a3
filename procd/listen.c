/*
 * procd/listen.c - see listen.h.
 */
#include "procd/listen.h"

#include "core/whole_file.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define UNIX_PREFIX "unix:"
/* A harness connects a thousand times at once; a full queue costs each of the others a second. */
#define BACKLOG 1024

static int socket_listen(int family, const struct sockaddr *sa, socklen_t bytes, int *ret_fd)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1, error;

	if (fd < 0)
		return -errno;
	if (family != AF_UNIX)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, sa, bytes) < 0 || listen(fd, BACKLOG) < 0) {
		error = errno;
		close(fd);
		return -error;
	}
	*ret_fd = fd;
	return 0;
}

/* True when a process answers at that path. */
static bool is_alive(const struct sockaddr_un *sa)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool alive = fd >= 0 && connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0;

	if (fd >= 0)
		close(fd);
	return alive;
}

static int listen_unix(const char *path, int *ret_fd)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int rc;

	if (!path[0] || strlen(path) >= sizeof(sa.sun_path))
		return -EINVAL;
	strcpy(sa.sun_path, path);
	rc = socket_listen(AF_UNIX, (const struct sockaddr *)&sa, sizeof(sa), ret_fd);
	if (rc != -EADDRINUSE || is_alive(&sa) || unlink(path) < 0)
		return rc;
	return socket_listen(AF_UNIX, (const struct sockaddr *)&sa, sizeof(sa), ret_fd);
}

static bool port_is_valid(const char *text)
{
	return strspn(text, "0123456789") == strlen(text) && text[0] && strlen(text) <= 5 && atoi(text) <= 65535;
}

static int listen_tcp(const char *text, int *ret_fd)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found;
	const char *colon = strrchr(text, ':');
	char host[256];
	size_t n;
	int rc;

	if (!colon || !port_is_valid(colon + 1) || (size_t)(colon - text) >= sizeof(host))
		return -EINVAL;
	n = (size_t)(colon - text);
	if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
		text++;
		n -= 2;
	}
	memcpy(host, text, n);
	host[n] = 0;
	if (getaddrinfo(n > 0 ? host : NULL, colon + 1, &hints, &found) != 0)
		return -EINVAL;
	rc = socket_listen(found->ai_family, found->ai_addr, found->ai_addrlen, ret_fd);
	freeaddrinfo(found);
	return rc;
}

int listen_open(const char *text, int *ret_fd)
{
	if (strncmp(text, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0)
		return listen_unix(text + strlen(UNIX_PREFIX), ret_fd);
	return listen_tcp(text, ret_fd);
}

void listen_name(int fd, char *ret_text, size_t size)
{
	union {
		struct sockaddr sa;
		struct sockaddr_un un;
		struct sockaddr_storage all;
	} a;
	socklen_t bytes = sizeof(a);
	char host[NI_MAXHOST], port[NI_MAXSERV];

	memset(&a, 0, sizeof(a));
	if (getsockname(fd, &a.sa, &bytes) < 0)
		snprintf(ret_text, size, "unknown");
	else if (a.sa.sa_family == AF_UNIX)
		snprintf(ret_text, size, UNIX_PREFIX "%.*s", (int)sizeof(a.un.sun_path), a.un.sun_path);
	else if (getnameinfo(&a.sa, bytes, host, sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) !=
		 0)
		snprintf(ret_text, size, "unknown");
	else
		snprintf(ret_text, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

int listen_write_file(const char *path, const char *text)
{
	struct whole_file w;
	int rc = whole_file_start(&w, path);

	if (rc < 0)
		return rc;
	fprintf(w.stream, "%s\n", text);
	return whole_file_finish(&w);
}

void listen_remove(const char *text)
{
	if (strncmp(text, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0)
		(void)unlink(text + strlen(UNIX_PREFIX));
}
