/*
 * control/keeper_link.c - see keeper_link.h.
 */
#include "control/keeper_link.h"

#include "control/driver_limits.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of our environment, which may hold a database's password, a sandbox's procd gets only these. */
static const char *const kept_variables[] = {"PATH", "LANG", "TZ", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"};

struct environment {
	char text[ARRAY_LEN(kept_variables)][PATH_MAX];
	char *list[ARRAY_LEN(kept_variables) + 1];
};

static void environment_make(struct environment *e)
{
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(kept_variables); i++) {
		const char *value = getenv(kept_variables[i]);

		if (value && snprintf(e->text[n], PATH_MAX, "%s=%s", kept_variables[i], value) < PATH_MAX) {
			e->list[n] = e->text[n];
			n++;
		}
	}
	e->list[n] = NULL;
}

struct arguments {
	const char *list[16 + 2 * (LOCAL_GATEWAY_KEYS_MAX + LOCAL_PROCD_ARGS_MAX)];
	size_t count;
};

static void add(struct arguments *a, const char *flag, const char *value)
{
	if (!value)
		return;
	ASSERT(a->count + 3 <= ARRAY_LEN(a->list));
	a->list[a->count++] = flag;
	a->list[a->count++] = value;
}

static void arguments_make(const struct driver_local_options *o, const char *sandbox, const char *folder,
			   const char *trash, bool is_remove, struct arguments *a)
{
	*a = (struct arguments){.list = {"ringgate-control", "keeper"}, .count = 2};
	add(a, "--folder", folder);
	add(a, "--trash", trash);
	if (is_remove)
		return;
	add(a, "--sandbox", sandbox);
	add(a, "--procd", o->procd);
	add(a, "--user", o->user);
	add(a, "--shell", o->shell);
	for (size_t i = 0; o->gateway_keys[i]; i++)
		add(a, "--gateway-key", o->gateway_keys[i]);
	for (size_t i = 0; o->procd_args && o->procd_args[i]; i++)
		add(a, "--procd-arg", o->procd_args[i]);
}

/* The log of a removal is nobody's: it would make the folder anew. */
static int log_path_make(const char *folder, bool is_remove, char ret_path[PATH_MAX])
{
	char old[PATH_MAX];
	struct stat st;

	if (is_remove) {
		strcpy(ret_path, "/dev/null");
		return 0;
	}
	if (mkdir(folder, 0755) < 0 && errno != EEXIST)
		return -errno;
	if (snprintf(ret_path, PATH_MAX, "%s/log", folder) >= PATH_MAX ||
	    snprintf(old, sizeof(old), "%s.old", ret_path) >= PATH_MAX)
		return -ENAMETOOLONG;
	if (stat(ret_path, &st) == 0 && st.st_size > KEEPER_LOG_BYTES && rename(ret_path, old) < 0)
		return -errno;
	return 0;
}

/* A session of its own, so that a terminal's Ctrl-C is for ringgate-control alone; signals as if nobody had touched them. */
static int attributes_make(posix_spawnattr_t *at)
{
	sigset_t none, all;
	int rc = posix_spawnattr_setflags(at, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

	sigemptyset(&none);
	sigfillset(&all);
	if (rc == 0)
		rc = posix_spawnattr_setsigmask(at, &none);
	if (rc == 0)
		rc = posix_spawnattr_setsigdefault(at, &all);
	return -rc;
}

static int actions_make(posix_spawn_file_actions_t *fa, int link_fd, const char *log_path)
{
	int rc = posix_spawn_file_actions_adddup2(fa, link_fd, KEEPER_LINK_FD);

	if (rc == 0)
		rc = posix_spawn_file_actions_addopen(fa, 0, "/dev/null", O_RDONLY, 0);
	if (rc == 0)
		rc = posix_spawn_file_actions_addopen(fa, 1, log_path, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (rc == 0)
		rc = posix_spawn_file_actions_adddup2(fa, 1, 2);
	return -rc;
}

/* The keeper is this program itself, whatever has become of its file. */
static int spawn(int link_fd, const char *log_path, const struct arguments *a, pid_t *ret_pid)
{
	struct environment e;
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	int rc = -posix_spawnattr_init(&at);

	if (rc < 0)
		return rc;
	rc = -posix_spawn_file_actions_init(&fa);
	if (rc == 0) {
		rc = attributes_make(&at);
		if (rc == 0)
			rc = actions_make(&fa, link_fd, log_path);
		environment_make(&e);
		if (rc == 0)
			rc = -posix_spawn(ret_pid, "/proc/self/exe", &fa, &at, (char *const *)a->list, e.list);
		posix_spawn_file_actions_destroy(&fa);
	}
	posix_spawnattr_destroy(&at);
	return rc;
}

int keeper_spawn(const struct driver_local_options *o, const char *sandbox, bool is_remove,
		 struct keeper_link *ret_link)
{
	char folder[PATH_MAX], trash[PATH_MAX], log_path[PATH_MAX];
	struct arguments a;
	int fds[2], rc;
	pid_t pid;

	if (snprintf(folder, sizeof(folder), "%s/%s", o->folder, sandbox) >= PATH_MAX ||
	    snprintf(trash, sizeof(trash), "%s/.trash", o->folder) >= PATH_MAX)
		return -ENAMETOOLONG;
	rc = log_path_make(folder, is_remove, log_path);
	if (rc < 0)
		return rc;
	arguments_make(o, sandbox, folder, trash, is_remove, &a);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	rc = spawn(fds[1], log_path, &a, &pid);
	close(fds[1]);
	if (rc < 0) {
		close(fds[0]);
		return rc;
	}
	*ret_link = (struct keeper_link){.pid = pid, .fd = fds[0]};
	return 0;
}

void keeper_order(const struct keeper_link *l, enum keeper_order order)
{
	char byte = (char)order;

	(void)send(l->fd, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int keeper_read(const struct keeper_link *l, struct keeper_message *ret_message)
{
	ssize_t n = recv(l->fd, ret_message, sizeof(*ret_message), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n != sizeof(*ret_message))
		return -EPIPE;
	ret_message->procd_url[sizeof(ret_message->procd_url) - 1] = 0;
	ret_message->procd_key[sizeof(ret_message->procd_key) - 1] = 0;
	ret_message->reason[sizeof(ret_message->reason) - 1] = 0;
	return 1;
}

void keeper_close(struct keeper_link *l)
{
	close(l->fd);
	*l = (struct keeper_link){.fd = -1};
}
