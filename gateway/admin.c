/*
 * gateway/admin.c - the socket, and who asks at it. See admin.h.
 */
#include "gateway/admin.h"

#include "core/log.h"
#include "gateway/status.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define REQUEST_MAX 64

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Waits until fd is ready; 0, or -ETIMEDOUT, or -ECANCELED where the other one is. */
static int wait_for(int fd, short events, int stop_fd, uint64_t until_ms)
{
	for (;;) {
		struct pollfd fds[] = {{.fd = fd, .events = events}, {.fd = stop_fd, .events = POLLIN}};
		uint64_t now = now_ms();
		int timeout = until_ms == UINT64_MAX ? -1 : until_ms > now ? (int)(until_ms - now) : 0;
		int n = poll(fds, stop_fd < 0 ? 1 : 2, timeout);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ETIMEDOUT;
		if (n > 0 && stop_fd >= 0 && fds[1].revents)
			return -ECANCELED;
		if (n > 0 && fds[0].revents)
			return 0;
	}
}

/* One line, without its end. */
static int read_line(int fd, int stop_fd, uint64_t until_ms, char line[REQUEST_MAX])
{
	size_t n = 0;

	while (n < REQUEST_MAX - 1) {
		int rc = wait_for(fd, POLLIN, stop_fd, until_ms);
		ssize_t got;

		if (rc < 0)
			return rc;
		got = recv(fd, line + n, REQUEST_MAX - 1 - n, MSG_DONTWAIT);
		if (got <= 0)
			return -EPIPE;
		n += (size_t)got;
		line[n] = 0;
		if (strchr(line, '\n')) {
			*strchr(line, '\n') = 0;
			return 0;
		}
	}
	return -EMSGSIZE;
}

static int write_all(int fd, int stop_fd, uint64_t until_ms, const char *text)
{
	size_t left = strlen(text);

	while (left > 0) {
		int rc = wait_for(fd, POLLOUT, stop_fd, until_ms);
		ssize_t n;

		if (rc < 0)
			return rc;
		n = send(fd, text, left, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			return -errno;
		if (n > 0) {
			text += n;
			left -= (size_t)n;
		}
	}
	return 0;
}

/* --- the gateway's side --- */

static void serve(struct admin *a, int fd)
{
	uint64_t until_ms = now_ms() + ADMIN_ASKER_MS;
	char line[REQUEST_MAX] = "";
	char *text;

	if (read_line(fd, a->stop_fd, until_ms, line) < 0 || strcmp(line, "status") != 0)
		return;
	text = status_text(a->server);
	if (text && write_all(fd, a->stop_fd, until_ms, text) < 0)
		log_event(LOG_DEBUG, "admin", LOG_STR("result", "the asker did not take the answer"));
	free(text);
}

static void *admin_main(void *arg)
{
	struct admin *a = arg;

	pthread_setname_np(pthread_self(), "admin");
	while (wait_for(a->listen_fd, POLLIN, a->stop_fd, UINT64_MAX) == 0) {
		int fd = accept4(a->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			serve(a, fd);
			close(fd);
		} else if (wait_for(a->stop_fd, POLLIN, -1, now_ms() + ADMIN_PAUSE_MS) == 0) {
			break; /* it failed, for want of descriptors perhaps */
		}
	}
	return NULL;
}

static int address_of(const char *path, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(ret->sun_path))
		return -ENAMETOOLONG;
	strcpy(ret->sun_path, path);
	return 0;
}

static int connect_to(const char *path)
{
	struct sockaddr_un un;
	int fd, rc = address_of(path, &un);

	if (rc < 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/* A socket at which nobody listens any more. */
static void remove_leftover(const char *path)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return;
	fd = connect_to(path);
	if (fd == -ECONNREFUSED)
		unlink(path);
	if (fd >= 0)
		close(fd);
}

/* Nobody can connect before listen: by then it is its owner's alone. */
static int listen_at(const char *path)
{
	struct sockaddr_un un;
	int fd, rc = address_of(path, &un);

	if (rc < 0)
		return rc;
	remove_leftover(path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	if (chmod(path, 0600) == 0 && listen(fd, ADMIN_BACKLOG) == 0)
		return fd;
	rc = -errno;
	unlink(path);
	close(fd);
	return rc;
}

int admin_start(struct admin *a, struct server *s, const char *path, char ret_error[512])
{
	int rc;

	*a = (struct admin){.server = s, .listen_fd = -1, .stop_fd = -1};
	rc = listen_at(path);
	if (rc >= 0) {
		a->listen_fd = rc;
		strcpy(a->path, path);
		a->stop_fd = eventfd(0, EFD_CLOEXEC);
		rc = a->stop_fd < 0 ? -errno : -pthread_create(&a->thread, NULL, admin_main, a);
	}
	if (rc == 0) {
		a->is_running = true;
		return 0;
	}
	snprintf(ret_error, 512, "admin.socket %s: %s%s", path, strerror(-rc),
		 rc == -EADDRINUSE ? " (another gateway answers there)" : "");
	admin_stop(a);
	return rc;
}

void admin_stop(struct admin *a)
{
	const uint64_t one = 1;

	if (!a->path[0])
		return;
	unlink(a->path);
	if (a->is_running) {
		while (write(a->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
		pthread_join(a->thread, NULL);
	}
	close(a->listen_fd);
	if (a->stop_fd >= 0)
		close(a->stop_fd);
	*a = (struct admin){.listen_fd = -1, .stop_fd = -1};
}

/* --- the asker's side --- */

static char *read_answer(int fd, uint64_t until_ms)
{
	char *text = malloc(ADMIN_ANSWER_MAX + 1);
	size_t n = 0;

	while (text && n < ADMIN_ANSWER_MAX) {
		ssize_t got =
			wait_for(fd, POLLIN, -1, until_ms) == 0 ? recv(fd, text + n, ADMIN_ANSWER_MAX - n, 0) : -1;

		if (got == 0 && n > 0) {
			text[n] = 0;
			return text;
		}
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	free(text);
	return NULL;
}

int admin_ask(const char *path, bool is_json)
{
	uint64_t until_ms = now_ms() + ADMIN_ANSWER_MS;
	int fd = connect_to(path), rc;
	char *text = NULL;

	if (fd < 0) {
		fprintf(stderr, "ringgate: %s: %s\n", path, strerror(-fd));
		return EXIT_FAILURE;
	}
	rc = write_all(fd, -1, until_ms, "status\n");
	if (rc == 0)
		text = read_answer(fd, until_ms);
	close(fd);
	if (text && is_json)
		puts(text);
	if (!text || (!is_json && !status_print(text))) {
		fprintf(stderr, "ringgate: %s: no answer of a gateway\n", path);
		rc = -EPROTO;
	}
	free(text);
	return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
