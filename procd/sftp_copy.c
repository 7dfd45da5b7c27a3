/*
 * procd/sftp_copy.c - copy-data: from one open file to another inside the sandbox.
 *
 * Source: draft-ietf-secsh-filexfer-extensions-00, section 7.
 * Thread: the one that serves.
 */
#include "procd/sftp_server.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct copy {
	struct sftp *s;
	int from, to;
	uint64_t from_offset, to_offset;
	uint64_t left; /* UINT64_MAX: until the end */
};

static bool copy_is_wanted(const struct copy *c)
{
	const struct sftp_io *io = c->s->io;

	return !io->is_gone || !io->is_gone(io->ctx);
}

static void copy_advance(struct copy *c, uint64_t n)
{
	c->from_offset += n;
	c->to_offset += n;
	if (c->left != UINT64_MAX)
		c->left -= n;
}

static size_t copy_step(const struct copy *c, size_t max)
{
	return c->left < max ? (size_t)c->left : max;
}

/*
 * As far as the kernel copies by itself. Any failure, and an end that may be none (files in /proc look empty to it), is
 * left for copy_by_hand to find out.
 */
static int copy_in_kernel(struct copy *c)
{
	while (c->left > 0) {
		off_t from = (off_t)c->from_offset, to = (off_t)c->to_offset;
		ssize_t n = copy_file_range(c->from, &from, c->to, &to, copy_step(c, SFTP_COPY_STEP), 0);

		if (n <= 0)
			return 0;
		copy_advance(c, (uint64_t)n);
		if (!copy_is_wanted(c))
			return -EPIPE;
	}
	return 0;
}

static int write_all(int fd, const uint8_t *p, size_t n, uint64_t offset)
{
	while (n > 0) {
		ssize_t put = pwrite(fd, p, n, (off_t)offset);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put < 0 ? -errno : -EIO;
		p += put;
		n -= (size_t)put;
		offset += (uint64_t)put;
	}
	return 0;
}

/* Copies until nothing is left or the source ends. */
static int copy_by_hand(struct copy *c, uint8_t *buffer)
{
	while (c->left > 0) {
		ssize_t n = pread(c->from, buffer, copy_step(c, SFTP_COPY_BUFFER), (off_t)c->from_offset);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		r = write_all(c->to, buffer, (size_t)n, c->to_offset);
		if (r)
			return r;
		copy_advance(c, (uint64_t)n);
		if (!copy_is_wanted(c))
			return -EPIPE;
	}
	return 0;
}

static int copy_run(struct copy *c)
{
	uint8_t *buffer;
	int r = copy_in_kernel(c);

	if (r < 0 || c->left == 0)
		return r;
	buffer = malloc(SFTP_COPY_BUFFER);
	if (!buffer)
		return -ENOMEM;
	r = copy_by_hand(c, buffer);
	free(buffer);
	return r;
}

/* 0 if both are different files. */
static int copy_check(int from, int to)
{
	struct stat a, b;

	if (fstat(from, &a) < 0 || fstat(to, &b) < 0)
		return -errno;
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino ? -EIO : 0;
}

int sftp_on_copy_data(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	struct sftp_handle *from = sftp_handle_find(s, sftp_get_string(in), SFTP_HANDLE_FILE);
	uint64_t from_offset = sftp_get_u64(in);
	uint64_t n = sftp_get_u64(in);
	struct sftp_handle *to = sftp_handle_find(s, sftp_get_string(in), SFTP_HANDLE_FILE);
	uint64_t to_offset = sftp_get_u64(in);
	struct copy c = {.s = s, .from_offset = from_offset, .to_offset = to_offset, .left = n ? n : UINT64_MAX};
	int r;

	if (in->is_bad)
		return sftp_bad_message(s, id);
	if (!from || !to)
		return sftp_status_errno(s, id, -EBADF);
	c.from = from->fd;
	c.to = to->fd;
	if (copy_check(c.from, c.to) < 0)
		return sftp_status_text(s, id, SFTP_FX_FAILURE, "Source and target are the same file");
	r = copy_run(&c);
	if (r == 0 && c.left > 0 && c.left != UINT64_MAX)
		return sftp_status(s, id, SFTP_FX_EOF);
	return sftp_status_errno(s, id, r);
}
