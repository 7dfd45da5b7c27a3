/*
 * procd/sftp_file.c - files: OPEN, CLOSE, READ, WRITE, fsync@openssh.com.
 *
 * Thread: the one in sftp_serve.
 *
 * READ lets the kernel write into the output where the answer's payload will stand. WRITE lets it read from the input where
 * the payload arrived, piece by piece, so neither needs memory of its own.
 */
#include "procd/sftp_server.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

_Static_assert(SFTP_DATA_HEAD + SFTP_DATA_MAX <= SFTP_RESERVE_MAX, "a full READ fits into one reservation");

static int open_flags(uint32_t pflags)
{
	/* Without O_NONBLOCK the open of a FIFO waits for its other end, and the whole client with it. */
	int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;

	if ((pflags & SFTP_FXF_READ) && (pflags & SFTP_FXF_WRITE))
		flags |= O_RDWR;
	else if (pflags & SFTP_FXF_WRITE)
		flags |= O_WRONLY;
	else
		flags |= O_RDONLY;
	if (pflags & SFTP_FXF_APPEND)
		flags |= O_APPEND;
	if (pflags & SFTP_FXF_CREAT)
		flags |= O_CREAT;
	if (pflags & SFTP_FXF_TRUNC)
		flags |= O_TRUNC;
	if (pflags & SFTP_FXF_EXCL)
		flags |= O_EXCL;
	return flags;
}

/* A file's descriptor and whether it is a regular one; negative errno. */
static int file_open(const struct sftp *s, const char *path, int flags, mode_t mode, bool *ret_is_regular)
{
	struct stat st;
	int fd = openat(s->home_fd, path, flags, mode);

	if (fd < 0)
		return -errno;
	*ret_is_regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
	/* Where nothing can block for long, file systems in user space must not see the flag. */
	if (*ret_is_regular)
		(void)fcntl(fd, F_SETFL, flags & O_APPEND);
	return fd;
}

int sftp_on_open(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	int r = sftp_get_path(in, s->path);
	int flags = open_flags(sftp_get_u32(in));
	struct sftp_handle *h;
	struct sftp_attrs a;
	mode_t mode;
	int fd;

	sftp_get_attrs(in, &a);
	if (in->is_bad)
		return sftp_bad_message(s, id);
	if (r < 0)
		return sftp_status_errno(s, id, r);
	if (s->options->is_read_only && ((flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC))))
		return sftp_status_read_only(s, id);
	/* The slot first: no file is made or emptied that then cannot be used. */
	h = sftp_handle_reserve(s);
	if (!h)
		return sftp_status_errno(s, id, -errno);
	mode = (a.flags & SFTP_ATTR_PERMISSIONS) ? a.permissions & 07777 : 0666;
	fd = file_open(s, s->path, flags, mode, &h->is_regular);
	if (fd < 0)
		return sftp_status_errno(s, id, fd);
	h->fd = fd;
	sftp_handle_use(s, h, SFTP_HANDLE_FILE);
	return sftp_handle_reply(s, id, h);
}

int sftp_on_close(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	struct bytes name = sftp_get_string(in);
	struct sftp_handle *h = sftp_handle_find(s, name, SFTP_HANDLE_FILE);

	if (in->is_bad)
		return sftp_bad_message(s, id);
	if (!h)
		h = sftp_handle_find(s, name, SFTP_HANDLE_DIR);
	return sftp_status_errno(s, id, h ? sftp_handle_close(s, h) : -ENOENT);
}

int sftp_on_fsync(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	struct sftp_handle *h = sftp_handle_find(s, sftp_get_string(in), SFTP_HANDLE_FILE);
	int r;

	if (in->is_bad)
		return sftp_bad_message(s, id);
	if (!h)
		return sftp_status(s, id, SFTP_FX_NO_SUCH_FILE);
	do
		r = fsync(h->fd);
	while (r < 0 && errno == EINTR);
	return sftp_status_errno(s, id, r < 0 ? -errno : 0);
}

/*
 * Up to n bytes from `offset`; 0 at the end; negative errno if not even one could be read. A regular file is read until n
 * or its end, since some clients take a short answer for the end; from a device the first answer is the answer.
 */
static ssize_t file_read(const struct sftp_handle *h, uint8_t *ret_p, size_t n, uint64_t offset)
{
	size_t done = 0;

	while (done < n) {
		ssize_t got = pread(h->fd, ret_p + done, n - done, (off_t)(offset + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && done == 0)
			return -errno;
		if (got <= 0)
			break;
		done += (size_t)got;
		if (!h->is_regular)
			break;
	}
	return (ssize_t)done;
}

int sftp_on_read(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	struct sftp_handle *h = sftp_handle_find(s, sftp_get_string(in), SFTP_HANDLE_FILE);
	uint64_t offset = sftp_get_u64(in);
	size_t n = sftp_get_u32(in);
	struct sftp_out o;
	ssize_t got;
	int r;

	if (in->is_bad)
		return sftp_bad_message(s, id);
	if (!h)
		return sftp_status(s, id, SFTP_FX_FAILURE);
	if (n > SFTP_DATA_MAX)
		n = SFTP_DATA_MAX;
	r = sftp_reply_begin(s, SFTP_DATA, id, 4 + n, &o);
	if (r)
		return r;
	got = file_read(h, o.p + 4, n, offset);
	if (got < 0)
		return sftp_status_errno(s, id, (int)got);
	if (got == 0 && n > 0)
		return sftp_status(s, id, SFTP_FX_EOF);
	sftp_put_u32(&o, (uint32_t)got);
	(void)sftp_put_room(&o, (size_t)got);
	return sftp_reply_end(s, &o);
}

/* All n bytes, or negative errno. A file opened with O_APPEND takes them at its end, whatever the offset. */
static int file_write(int fd, const uint8_t *p, size_t n, uint64_t offset)
{
	do {
		ssize_t put = pwrite(fd, p, n, (off_t)offset);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		if (put == 0 && n > 0)
			return -EIO;
		p += put;
		n -= (size_t)put;
		offset += (uint64_t)put;
	} while (n > 0);
	return 0;
}

/* Moves n payload bytes from the input to the file. *result is the file's answer; the return value the stream's. */
static int payload_write(struct sftp *s, int fd, size_t n, uint64_t offset, int *result)
{
	*result = n == 0 ? file_write(fd, (const uint8_t *)"", 0, offset) : 0;
	while (n > 0 && *result == 0) {
		const uint8_t *p;
		ssize_t got = sftp_peek(s, n, &p);

		if (got < 0)
			return (int)got;
		*result = file_write(fd, p, (size_t)got, offset);
		s->io->consume(s->io->ctx, (size_t)got);
		n -= (size_t)got;
		offset += (uint64_t)got;
	}
	return sftp_skip(s, n);
}

struct write_head {
	uint32_t id;
	uint8_t handle[SFTP_HANDLE_BYTES_MAX];
	size_t handle_n;
	uint64_t offset;
	size_t data_n;
};

/*
 * The fields before the payload. *left (bytes of the packet not yet taken) is kept up to date. -EBADMSG if they do not fit
 * into the packet: then h->id is valid, since packets without an id are -EPROTO.
 */
static int write_head_read(struct sftp *s, struct write_head *h, size_t *left)
{
	uint8_t fixed[12];
	int r;

	if (*left < 4)
		return -EPROTO;
	r = sftp_read_exact(s, fixed, 4);
	if (r)
		return r;
	h->id = sftp_load_u32(fixed);
	*left -= 4;
	if (*left < 4)
		return -EBADMSG;
	r = sftp_read_exact(s, fixed, 4);
	if (r)
		return r;
	h->handle_n = sftp_load_u32(fixed);
	*left -= 4;
	if (h->handle_n > SFTP_HANDLE_BYTES_MAX || *left < h->handle_n + sizeof(fixed))
		return -EBADMSG;
	r = sftp_read_exact(s, h->handle, h->handle_n);
	if (r == 0)
		r = sftp_read_exact(s, fixed, sizeof(fixed));
	if (r)
		return r;
	*left -= h->handle_n + sizeof(fixed);
	h->offset = sftp_load_u64(fixed);
	h->data_n = sftp_load_u32(fixed + 8);
	return h->data_n > *left ? -EBADMSG : 0;
}

int sftp_write_stream(struct sftp *s, size_t n)
{
	struct write_head head;
	struct sftp_handle *h;
	int result = 0;
	int r = write_head_read(s, &head, &n);

	if (r == -EBADMSG) {
		r = sftp_skip(s, n);
		return r ? r : sftp_bad_message(s, head.id);
	}
	if (r)
		return r;
	h = sftp_handle_find(s, bytes_of(head.handle, head.handle_n), SFTP_HANDLE_FILE);
	if (!h || s->options->is_read_only) {
		r = sftp_skip(s, n);
		if (r)
			return r;
		return s->options->is_read_only ? sftp_status_read_only(s, head.id)
						: sftp_status(s, head.id, SFTP_FX_FAILURE);
	}
	r = payload_write(s, h->fd, head.data_n, head.offset, &result);
	if (r == 0)
		r = sftp_skip(s, n - head.data_n);
	return r ? r : sftp_status_errno(s, head.id, result);
}
