/*
 * procd/sftp.c - the SFTP server's loop: packets in, one handler each, answers in the order of the requests.
 *
 * Owner:  see sftp_server.h.
 * Thread: the one that serves.
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

/* OPEN looks at its own flags in read-only mode, EXTENDED at its own table. WRITE is not here: see packet_handle. */
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

/* --- a packet's bytes --- */

/*
 * How many bytes a packet needs before it can be handled, as far as its first n bytes tell: at most n once it can be. A WRITE
 * needs what stands before its payload.
 */
static size_t packet_need(const struct sftp *s, const uint8_t *p, size_t n)
{
	size_t all, head;

	if (n < 4)
		return 4;
	all = (size_t)4 + sftp_load_u32(p);
	if (all < 4 + 5 || all > 4 + SFTP_PACKET_MAX)
		return 4;
	if (n < 5 || (!s->is_ready && p[4] != SFTP_INIT))
		return 5;
	if (p[4] != SFTP_WRITE)
		return all;
	head = SFTP_WRITE_HEAD;
	if (n >= SFTP_WRITE_HEAD && sftp_load_u32(p + SFTP_WRITE_HEAD - 4) <= SFTP_HANDLE_BYTES_MAX)
		head += sftp_load_u32(p + SFTP_WRITE_HEAD - 4) + 8 + 4;
	return head < all ? head : all;
}

static void packet_trim(struct sftp *s)
{
	s->packet_n = 0;
	if (s->packet_size <= PACKET_KEEP)
		return;
	free(s->packet);
	s->packet = NULL;
	s->packet_size = 0;
}

/* Collects n more bytes of a packet that needs `need`. */
static int packet_gather(struct sftp *s, const uint8_t *p, size_t n, size_t need)
{
	if (need > s->packet_size) {
		uint8_t *grown = realloc(s->packet, need);

		if (!grown)
			return -ENOMEM;
		s->packet = grown;
		s->packet_size = need;
	}
	memcpy(s->packet + s->packet_n, p, n);
	s->packet_n += n;
	return 0;
}

/* The n bytes at p are a whole packet, or a WRITE up to its payload. */
static int packet_handle(struct sftp *s, const uint8_t *p, size_t n)
{
	uint32_t all = sftp_load_u32(p);

	if (all < 5 || all > SFTP_PACKET_MAX || (!s->is_ready && p[4] != SFTP_INIT))
		return -EPROTO;
	if (p[4] == SFTP_WRITE)
		return sftp_write_begin(s, (struct sftp_in){.p = p + 5, .n = n - 5}, all - 1);
	return packet_dispatch(s, p[4], (struct sftp_in){.p = p + 5, .n = n - 5});
}

size_t sftp_next(const struct sftp *s, const uint8_t *p, size_t n)
{
	size_t need, left;

	if (s->write.left > 0)
		return n < s->write.left ? n : s->write.left;
	if (s->packet_n > 0) {
		need = packet_need(s, s->packet, s->packet_n) - s->packet_n;
		return n < need ? n : need;
	}
	need = packet_need(s, p, n);
	if (need > n)
		return n;
	if (need <= 5 || p[4] != SFTP_WRITE)
		return need;
	left = 4 + sftp_load_u32(p) - need;
	return need + (left < n - need ? left : n - need);
}

int sftp_take(struct sftp *s, const uint8_t *p, size_t n)
{
	size_t need;
	int r;

	if (s->write.left > 0)
		return sftp_write_more(s, p, n);
	if (s->packet_n > 0) {
		r = packet_gather(s, p, n, packet_need(s, s->packet, s->packet_n));
		if (r || packet_need(s, s->packet, s->packet_n) > s->packet_n)
			return r;
		r = packet_handle(s, s->packet, s->packet_n);
		packet_trim(s);
		return r;
	}
	need = packet_need(s, p, n);
	if (need > n)
		return packet_gather(s, p, n, need);
	r = packet_handle(s, p, need);
	return r == 0 && need < n ? sftp_write_more(s, p + need, n - need) : r;
}

bool sftp_is_between(const struct sftp *s)
{
	return s->packet_n == 0 && s->write.left == 0;
}

/* --- the server --- */

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

struct sftp *sftp_new(const struct sftp_io *io, const struct sftp_options *options)
{
	struct sftp *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->io = io;
	s->options = options;
	home_open(s);
	sftp_handles_init(s);
	return s;
}

void sftp_free(struct sftp *s)
{
	if (!s)
		return;
	sftp_handles_deinit(s);
	if (s->home_fd >= 0)
		close(s->home_fd);
	free(s->packet);
	free(s);
}

int sftp_serve(const struct sftp_io *io, const struct sftp_options *options)
{
	struct sftp *s;
	sigset_t set;
	bool was_open = sigxfsz_block(&set);
	int r = 0;

	s = sftp_new(io, options);
	if (!s)
		r = -ENOMEM;
	while (r == 0) {
		const uint8_t *p;
		ssize_t n = io->peek(io->ctx, &p);

		if (n > 0) {
			size_t next = sftp_next(s, p, (size_t)n);

			r = sftp_take(s, p, next);
			io->consume(io->ctx, next);
		} else if (n == 0) {
			r = sftp_is_between(s) ? 1 : -EPIPE;
		} else {
			r = (int)n;
		}
	}
	sftp_free(s);
	if (was_open)
		sigxfsz_unblock(&set);
	return r > 0 ? 0 : r;
}
