/*
 * procd/sftp.c - the SFTP server's loop: packets in, one handler each, answers in the order of the requests.
 *
 * Owner:  sftp_serve owns the server; see sftp_server.h.
 * Thread: the one that calls sftp_serve.
 *
 * A packet that lies in one piece in the input is parsed where it is; one in several pieces is gathered in a buffer of its
 * own size. WRITE, the one that can be large and frequent, is never gathered: its payload goes from the input to the file.
 */
#include "procd/sftp_server.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A gathering buffer larger than this is given back after its request. */
#define PACKET_KEEP 4096

struct request {
	uint8_t type;
	bool does_write;
	int (*handle)(struct sftp *s, uint32_t id, struct sftp_in *in);
};

/* OPEN looks at its own flags in read-only mode, EXTENDED at its own table. WRITE is not here: see sftp_write_stream. */
static const struct request requests[] = {
	{SFTP_OPEN, false, sftp_on_open},         {SFTP_CLOSE, false, sftp_on_close},
	{SFTP_READ, false, sftp_on_read},         {SFTP_LSTAT, false, sftp_on_lstat},
	{SFTP_FSTAT, false, sftp_on_fstat},       {SFTP_SETSTAT, true, sftp_on_setstat},
	{SFTP_FSETSTAT, true, sftp_on_fsetstat},  {SFTP_OPENDIR, false, sftp_on_opendir},
	{SFTP_READDIR, false, sftp_on_readdir},   {SFTP_REMOVE, true, sftp_on_remove},
	{SFTP_MKDIR, true, sftp_on_mkdir},        {SFTP_RMDIR, true, sftp_on_rmdir},
	{SFTP_REALPATH, false, sftp_on_realpath}, {SFTP_STAT, false, sftp_on_stat},
	{SFTP_RENAME, true, sftp_on_rename},      {SFTP_READLINK, false, sftp_on_readlink},
	{SFTP_SYMLINK, true, sftp_on_symlink},    {SFTP_EXTENDED, false, sftp_on_extended},
};

ssize_t sftp_peek(struct sftp *s, size_t max, const uint8_t **ret_p)
{
	ssize_t n = s->io->peek(s->io->ctx, ret_p);

	if (n <= 0)
		return n < 0 ? n : -EPIPE;
	return (size_t)n > max ? (ssize_t)max : n;
}

int sftp_read_exact(struct sftp *s, void *ret_p, size_t n)
{
	uint8_t *to = ret_p;

	while (n > 0) {
		const uint8_t *p;
		ssize_t got = sftp_peek(s, n, &p);

		if (got < 0)
			return (int)got;
		memcpy(to, p, (size_t)got);
		s->io->consume(s->io->ctx, (size_t)got);
		to += got;
		n -= (size_t)got;
	}
	return 0;
}

int sftp_skip(struct sftp *s, size_t n)
{
	while (n > 0) {
		const uint8_t *p;
		ssize_t got = sftp_peek(s, n, &p);

		if (got < 0)
			return (int)got;
		s->io->consume(s->io->ctx, (size_t)got);
		n -= (size_t)got;
	}
	return 0;
}

static int packet_dispatch(struct sftp *s, uint8_t type, struct sftp_in in)
{
	uint32_t id = sftp_get_u32(&in);

	/* Without an id (in INIT: a version) there is nobody to answer. */
	if (in.is_bad)
		return -EPROTO;
	if (type == SFTP_INIT) {
		s->version = id;
		s->is_ready = true;
		return sftp_send_version(s);
	}
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		if (requests[i].type != type)
			continue;
		if (requests[i].does_write && s->options->is_read_only)
			return sftp_status_read_only(s, id);
		return requests[i].handle(s, id, &in);
	}
	return sftp_status(s, id, SFTP_FX_OP_UNSUPPORTED);
}

/* Collects n bytes into s->packet. */
static int packet_gather(struct sftp *s, size_t n)
{
	if (n > s->packet_size) {
		uint8_t *p = realloc(s->packet, n);

		if (!p)
			return -ENOMEM;
		s->packet = p;
		s->packet_size = n;
	}
	return sftp_read_exact(s, s->packet, n);
}

static void packet_trim(struct sftp *s)
{
	if (s->packet_size <= PACKET_KEEP)
		return;
	free(s->packet);
	s->packet = NULL;
	s->packet_size = 0;
}

/* Handles the n bytes behind a packet's type. */
static int packet_body(struct sftp *s, uint8_t type, size_t n)
{
	const uint8_t *p;
	ssize_t got;
	int r;

	if (n < 4)
		return -EPROTO;
	got = sftp_peek(s, n, &p);
	if (got < 0)
		return (int)got;
	if ((size_t)got == n) {
		r = packet_dispatch(s, type, (struct sftp_in){.p = p, .n = n});
		s->io->consume(s->io->ctx, n);
		return r;
	}
	r = packet_gather(s, n);
	if (r == 0)
		r = packet_dispatch(s, type, (struct sftp_in){.p = s->packet, .n = n});
	packet_trim(s);
	return r;
}

/* One packet. 1 at the end of the input, 0 to go on, or negative errno. */
static int packet_serve(struct sftp *s)
{
	uint8_t head[5];
	const uint8_t *p;
	ssize_t got = s->io->peek(s->io->ctx, &p);
	uint32_t n;
	int r;

	if (got <= 0)
		return got < 0 ? (int)got : 1;
	r = sftp_read_exact(s, head, 4);
	if (r)
		return r;
	n = sftp_load_u32(head);
	if (n == 0 || n > SFTP_PACKET_MAX)
		return -EPROTO;
	r = sftp_read_exact(s, head + 4, 1);
	if (r)
		return r;
	if (!s->is_ready && head[4] != SFTP_INIT)
		return -EPROTO;
	if (head[4] == SFTP_WRITE)
		return sftp_write_stream(s, n - 1);
	return packet_body(s, head[4], n - 1);
}

/* Where relative paths start. Never fails: a sandbox without a home still has its files. */
static void home_open(struct sftp *s)
{
	const char *home = s->options->home;

	s->home_fd = AT_FDCWD;
	if (!home) {
		if (!getcwd(s->home, sizeof(s->home)) || s->home[0] != '/')
			strcpy(s->home, "/");
		return;
	}
	if (realpath(home, s->home))
		s->home_fd = open(s->home, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s->home_fd < 0) {
		strcpy(s->home, "/");
		s->home_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
}

/*
 * A file over RLIMIT_FSIZE raises SIGXFSZ in the thread that writes, which would end the process; blocked, the write fails
 * with EFBIG. Blocking is this thread's own affair, unlike a handler.
 */
static bool sigxfsz_block(sigset_t *ret_set)
{
	sigset_t old;

	sigemptyset(ret_set);
	sigaddset(ret_set, SIGXFSZ);
	pthread_sigmask(SIG_BLOCK, ret_set, &old);
	return sigismember(&old, SIGXFSZ) != 1;
}

static void sigxfsz_unblock(const sigset_t *set)
{
	const struct timespec now = {0};

	while (sigtimedwait(set, NULL, &now) == SIGXFSZ)
		;
	pthread_sigmask(SIG_UNBLOCK, set, NULL);
}

int sftp_serve(const struct sftp_io *io, const struct sftp_options *options)
{
	struct sftp *s = calloc(1, sizeof(*s));
	sigset_t set;
	bool was_open;
	int r;

	if (!s)
		return -ENOMEM;
	s->io = io;
	s->options = options;
	was_open = sigxfsz_block(&set);
	home_open(s);
	sftp_handles_init(s);
	do
		r = packet_serve(s);
	while (r == 0);
	sftp_handles_deinit(s);
	if (s->home_fd >= 0)
		close(s->home_fd);
	if (was_open)
		sigxfsz_unblock(&set);
	free(s->packet);
	free(s);
	return r > 0 ? 0 : r;
}
