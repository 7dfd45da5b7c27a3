#include "redis_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGS_MAX 64
#define START_TRIES 1000 /* of 10 ms: two cores may be shared by many */

static bool is_in_path(const char *name)
{
	const char *path = getenv("PATH");
	char file[512];

	if (strchr(name, '/'))
		return access(name, X_OK) == 0;
	while (path && *path) {
		size_t n = strcspn(path, ":");

		snprintf(file, sizeof(file), "%.*s/%s", (int)n, path, name);
		if (access(file, X_OK) == 0)
			return true;
		path += n + (path[n] == ':');
	}
	return false;
}

const char *redis_program(void)
{
	const char *names[] = {getenv("REDIS_SERVER"), "redis-server", "valkey-server"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i] && is_in_path(names[i]))
			return names[i];
	return NULL;
}

uint16_t redis_free_port(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &bytes), 0);
	close(fd);
	return ntohs(in.sin_port);
}

void redis_init(struct redis_server *s)
{
	signal(SIGPIPE, SIG_IGN);
	memset(s, 0, sizeof(*s));
	snprintf(s->dir, sizeof(s->dir), "/tmp/ringgate-redis.XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->socket, sizeof(s->socket), "%s/socket", s->dir);
}

/* In the child. Signals that the test blocks or ignores are not the server's business. */
static void child_run(const char *log, char *const argv[])
{
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fd >= 0) {
		dup2(fd, 1);
		dup2(fd, 2);
	}
	execvp(argv[0], argv);
	_exit(127);
}

static void show_log(const struct redis_server *s)
{
	char path[128], text[4096];
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "%s/log", s->dir);
	f = fopen(path, "r");
	if (!f)
		return;
	while ((n = fread(text, 1, sizeof(text), f)) > 0)
		fwrite(text, 1, n, stderr);
	fclose(f);
}

static bool answers(struct redis_server *s)
{
	struct timeval limit = {.tv_sec = 10};
	redisContext *c = redisConnectUnixWithTimeout(s->socket, limit);
	redisReply *r = NULL;
	bool is_there = false;

	if (c && !c->err && redisSetTimeout(c, limit) == REDIS_OK)
		r = redisCommand(c, "PING");
	/* NOAUTH is an answer, too; LOADING is not yet the one. */
	if (r)
		is_there = r->type != REDIS_REPLY_ERROR || strncmp(r->str, "NOAUTH", 6) == 0;
	freeReplyObject(r);
	if (is_there)
		s->control = c;
	else if (c)
		redisFree(c);
	return is_there;
}

static void await(struct redis_server *s)
{
	for (int i = 0; i < START_TRIES; i++) {
		if (answers(s))
			return;
		if (waitpid(s->pid, NULL, WNOHANG) == s->pid) {
			s->pid = 0;
			show_log(s);
			fail_msg("the server ended at its start");
		}
		usleep(10000);
	}
	show_log(s);
	fail_msg("the server does not answer");
}

static void spawn(struct redis_server *s, char *const argv[])
{
	char log[128];

	snprintf(log, sizeof(log), "%s/log", s->dir);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0)
		child_run(log, argv);
	await(s);
}

void redis_start(struct redis_server *s)
{
	char port[8];
	const char *argv[ARGS_MAX] = {
		redis_program(), "--port", port,     "--bind", "127.0.0.1",   "--unixsocket", s->socket,
		"--dir",         s->dir,   "--save", "",       "--daemonize", "no",
	};
	int n = 0;

	snprintf(port, sizeof(port), "%u", s->port);
	while (argv[n])
		n++;
	for (int i = 0; s->args[i]; i++)
		argv[n++] = s->args[i];
	spawn(s, (char *const *)argv);
}

void redis_start_sentinel(struct redis_server *s, const char *config)
{
	const char *argv[] = {redis_program(), NULL, "--sentinel", NULL};
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/sentinel.conf", s->dir);
	f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "port %u\nbind 127.0.0.1\nunixsocket %s\ndir %s\n%s", s->port, s->socket, s->dir, config);
	fclose(f);
	argv[1] = path;
	spawn(s, (char *const *)argv);
}

void redis_kill(struct redis_server *s)
{
	if (s->control)
		redisFree(s->control);
	s->control = NULL;
	if (s->pid > 0) {
		kill(s->pid, SIGKILL);
		waitpid(s->pid, NULL, 0);
	}
	s->pid = 0;
}

void redis_deinit(struct redis_server *s)
{
	char command[128];

	redis_kill(s);
	if (!s->dir[0])
		return;
	snprintf(command, sizeof(command), "rm -rf %s", s->dir);
	(void)!system(command);
}

/* A Sentinel ends all connections of a server whose part it changes: then once more, on a new one. */
static redisReply *ask(struct redis_server *s, const char *format, va_list args)
{
	redisReply *r = NULL;
	char *command;
	int n = redisvFormatCommand(&command, format, args);

	assert_true(n > 0);
	for (int i = 0; i < 2 && !r; i++) {
		if (i > 0) {
			redisFree(s->control);
			s->control = NULL;
			await(s);
		}
		if (redisAppendFormattedCommand(s->control, command, (size_t)n) != REDIS_OK ||
		    redisGetReply(s->control, (void **)&r) != REDIS_OK)
			r = NULL;
	}
	redisFreeCommand(command);
	if (!r)
		fail_msg("%s: no answer", format);
	return r;
}

redisReply *redis_ask(struct redis_server *s, const char *format, ...)
{
	redisReply *r;
	va_list args;

	va_start(args, format);
	r = ask(s, format, args);
	va_end(args);
	return r;
}

void redis_do(struct redis_server *s, const char *format, ...)
{
	redisReply *r;
	va_list args;

	va_start(args, format);
	r = ask(s, format, args);
	va_end(args);
	if (r->type == REDIS_REPLY_ERROR)
		fail_msg("%s: %s", format, r->str);
	freeReplyObject(r);
}
