/*
 * procd/spawn.c - see spawn.h.
 */
#include "procd/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* As shells have it: found but not run, and not found. */
#define EXIT_NOT_RUN 126
#define EXIT_NOT_FOUND 127

int spawn_pipe(bool reader_is_ours, int *ret_ours, int *ret_theirs)
{
	int ours = reader_is_ours ? 0 : 1, fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	if (fcntl(fds[ours], F_SETFL, O_NONBLOCK) < 0) {
		int error = errno;

		close(fds[0]);
		close(fds[1]);
		return -error;
	}
	*ret_ours = fds[ours];
	*ret_theirs = fds[1 - ours];
	return 0;
}

/* --- in the child: nothing that takes a lock, or changes memory that is the parent's, too --- */

static void say(const char *a, const char *b, const char *c)
{
	const char *const parts[] = {"procd: ", a, b, c, "\r\n"};

	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		if (write(STDERR_FILENO, parts[i], strlen(parts[i])) < 0)
			return;
}

static const char *reason(int error)
{
	switch (error) {
	case ENOENT:
		return ": no such file";
	case EACCES:
		return ": permission denied";
	case ENOEXEC:
		return ": not a program";
	case E2BIG:
		return ": arguments and environment are too long";
	case ENOMEM:
		return ": out of memory";
	default:
		return ": cannot be run";
	}
}

/* What is handled here the kernel resets; what is ignored would stay so in the program. */
static void signals_reset(const sigset_t *ignored)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		if (sigismember(ignored, i) == 1)
			(void)sigaction(i, &dfl, NULL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* A descriptor above standard error: dup2 on 0, 1, 2 must not hit one that is still needed. */
static int raised(int fd)
{
	return fd > STDERR_FILENO ? fd : fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

static void child(const struct spawn *s, const sigset_t *ignored)
{
	int in = raised(s->tty >= 0 ? s->tty : s->in), out = raised(s->tty >= 0 ? s->tty : s->out);
	int err = raised(s->tty >= 0 ? s->tty : s->err);

	signals_reset(ignored);
	(void)setsid();
	if (s->tty >= 0)
		(void)ioctl(in, TIOCSCTTY, 0);
	if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0)
		_exit(EXIT_NOT_RUN);
	if (chdir(s->folder) < 0) {
		say("cannot enter the home folder ", s->folder, reason(errno));
		if (chdir("/") < 0)
			_exit(EXIT_NOT_RUN);
	}
	execve(s->path, s->argv, s->envp);
	say("", s->path, reason(errno));
	_exit(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUN);
}

/* The signals that this process ignores; it decides that once, before it starts programs. */
static const sigset_t *signals_ignored(void)
{
	static sigset_t ignored;
	static bool is_known;
	struct sigaction found;

	if (is_known)
		return &ignored;
	is_known = true;
	sigemptyset(&ignored);
	for (int i = 1; i < NSIG; i++)
		if (sigaction(i, NULL, &found) == 0 && found.sa_handler == SIG_IGN)
			(void)sigaddset(&ignored, i);
	return &ignored;
}

/*
 * vfork: the child has our memory until it is the program, and we wait for that. A fork would copy page tables and then fault on each
 * page that either touches, which is a tenth of what a short command takes.
 */
pid_t spawn_program(const struct spawn *s)
{
	const sigset_t *ignored = signals_ignored();
	sigset_t all, before;
	pid_t pid;
	int error;

	/* No handler of ours may run in the child. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = vfork();
	error = errno;
	if (pid == 0) {
		child(s, ignored);
		_exit(EXIT_NOT_RUN);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return pid < 0 ? -error : pid;
}
