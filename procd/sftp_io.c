/*
 * procd/sftp_io.c - the SFTP server as a filter on stdin and stdout: `procd sftp-server`.
 *
 * Owner:  sftp_main owns the buffers; the descriptors stay the process's.
 * Thread: the main one; the process does nothing else.
 *
 * Answers wait in the output buffer until the server needs more input (the next read may block) or until they are worth a
 * system call. The input buffer is only refilled when empty, so whatever is read is used where it lies.
 */
#include "procd/sftp.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OUTPUT_BYTES (SFTP_FILTER_FLUSH + SFTP_RESERVE_MAX)

/* Both buffers come from one allocation: input, then output so that a DATA reply's payload begins on a page. */
#define PAGE 4096
#define BUFFER_BYTES (SFTP_FILTER_INPUT + PAGE + OUTPUT_BYTES)

_Static_assert(SFTP_FILTER_INPUT % PAGE == 0, "the output begins on a page too");

struct filter {
	int in_fd, out_fd;
	uint8_t *in, *out;
	size_t in_at, in_n; /* unread: in[in_at..in_n) */
	size_t out_n;       /* unsent: out[0..out_n) */
};

/* For descriptors that somebody made non-blocking. */
static void wait_for(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	(void)poll(&p, 1, -1);
}

static int filter_flush(struct filter *f)
{
	size_t at = 0;

	while (at < f->out_n) {
		ssize_t n = write(f->out_fd, f->out + at, f->out_n - at);

		if (n >= 0)
			at += (size_t)n;
		else if (errno == EAGAIN)
			wait_for(f->out_fd, POLLOUT);
		else if (errno != EINTR)
			return -errno;
	}
	f->out_n = 0;
	return 0;
}

static ssize_t filter_peek(void *ctx, const uint8_t **ret_p)
{
	struct filter *f = ctx;

	if (f->in_at == f->in_n) {
		ssize_t n;
		int r = filter_flush(f);

		if (r)
			return r;
		while ((n = read(f->in_fd, f->in, SFTP_FILTER_INPUT)) < 0) {
			if (errno == EAGAIN)
				wait_for(f->in_fd, POLLIN);
			else if (errno != EINTR)
				return -errno;
		}
		f->in_at = 0;
		f->in_n = (size_t)n;
	}
	*ret_p = f->in + f->in_at;
	return (ssize_t)(f->in_n - f->in_at);
}

static void filter_consume(void *ctx, size_t n)
{
	struct filter *f = ctx;

	ASSERT(n <= f->in_n - f->in_at);
	f->in_at += n;
}

static int filter_reserve(void *ctx, size_t n, uint8_t **ret_p)
{
	struct filter *f = ctx;
	int r = OUTPUT_BYTES - f->out_n < n ? filter_flush(f) : 0;

	ASSERT(n <= SFTP_RESERVE_MAX);
	if (r == 0)
		*ret_p = f->out + f->out_n;
	return r;
}

static int filter_commit(void *ctx, size_t n)
{
	struct filter *f = ctx;

	ASSERT(n <= OUTPUT_BYTES - f->out_n);
	f->out_n += n;
	return f->out_n >= SFTP_FILTER_FLUSH ? filter_flush(f) : 0;
}

static bool filter_is_gone(void *ctx)
{
	struct filter *f = ctx;
	struct pollfd p = {.fd = f->out_fd};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP));
}

static int filter_run(const struct sftp_options *options)
{
	struct filter f = {.in_fd = STDIN_FILENO, .out_fd = STDOUT_FILENO};
	const struct sftp_io io = {
		.ctx = &f,
		.peek = filter_peek,
		.consume = filter_consume,
		.reserve = filter_reserve,
		.commit = filter_commit,
		.is_gone = filter_is_gone,
	};
	void *buffer;
	int r = posix_memalign(&buffer, PAGE, BUFFER_BYTES);

	if (r)
		return -r;
	f.in = buffer;
	f.out = f.in + SFTP_FILTER_INPUT + PAGE - SFTP_DATA_HEAD;
	r = sftp_serve(&io, options);
	if (r == 0)
		r = filter_flush(&f);
	free(buffer);
	return r;
}

/* An octal umask; -1 if it is none. */
static long umask_parse(const char *text)
{
	char *end;
	long mask = strtol(text, &end, 8);

	return *text && !*end && mask >= 0 && mask <= 0777 ? mask : -1;
}

static int usage(const char *problem)
{
	fprintf(stderr, "%s%susage: procd sftp-server [-R] [-d FOLDER] [-u UMASK]\n", problem ? problem : "",
		problem ? "\n" : "");
	fprintf(stderr, "Serves SFTP on stdin and stdout. -R: read only; -d: start in FOLDER; -u: octal umask.\n");
	return problem ? 2 : 0;
}

int sftp_main(int argc, char **argv)
{
	struct sftp_options options = {0};
	long mask;
	int c, r;

	while ((c = getopt(argc, argv, "Rd:u:h")) != -1) {
		switch (c) {
		case 'R':
			options.is_read_only = true;
			break;
		case 'd':
			/* The process is ours alone, so its own folder can be the start. */
			if (chdir(optarg) < 0) {
				fprintf(stderr, "procd sftp-server: %s: %s\n", optarg, strerror(errno));
				return 1;
			}
			break;
		case 'u':
			mask = umask_parse(optarg);
			if (mask < 0)
				return usage("the umask must be octal, 0 to 777");
			(void)umask((mode_t)mask);
			break;
		default:
			return usage(c == 'h' ? NULL : "unknown option");
		}
	}
	if (optind < argc)
		return usage("unexpected argument");
	signal(SIGPIPE, SIG_IGN);
	r = filter_run(&options);
	/* A client that leaves without waiting for the last answer is an everyday end. */
	if (r < 0 && r != -EPIPE && r != -ECONNRESET) {
		fprintf(stderr, "procd sftp-server: %s\n", strerror(-r));
		return 1;
	}
	return 0;
}
