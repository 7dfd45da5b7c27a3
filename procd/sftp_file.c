/*
 * procd/sftp_file.c - files: OPEN, CLOSE, READ, WRITE, fsync@openssh.com.
 *
 * Thread: the one that serves.
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

static int write_answer(struct sftp *s)
{
	const struct sftp_write *w = &s->write;

	switch (w->answer) {
	case SFTP_WRITE_BAD:
		return sftp_bad_message(s, w->id);
	case SFTP_WRITE_READ_ONLY:
		return sftp_status_read_only(s, w->id);
	case SFTP_WRITE_NO_HANDLE:
		return sftp_status(s, w->id, SFTP_FX_FAILURE);
	default:
		return sftp_status_errno(s, w->id, w->result);
	}
}

int sftp_write_more(struct sftp *s, const uint8_t *p, size_t n)
{
	struct sftp_write *w = &s->write;
	size_t payload = n < w->payload ? n : w->payload;

	ASSERT(n <= w->left);
	if (payload > 0 && w->result == 0)
		w->result = file_write(w->fd, p, payload, w->offset);
	w->offset += payload;
	w->payload -= payload;
	w->left -= n;
	return w->left == 0 ? write_answer(s) : 0;
}

/* The fields before the payload; NULL if they do not fit into the packet. */
static struct sftp_handle *write_head(struct sftp *s, struct sftp_in *in, size_t n)
{
	struct sftp_write *w = &s->write;
	size_t before = in->n;
	struct bytes name = sftp_get_string(in);
	uint32_t payload;

	w->offset = sftp_get_u64(in);
	payload = sftp_get_u32(in);
	if (in->is_bad || name.n > SFTP_HANDLE_BYTES_MAX || payload > n - (before - in->n)) {
		w->answer = SFTP_WRITE_BAD;
		return NULL;
	}
	w->payload = payload;
	w->answer = s->options->is_read_only ? SFTP_WRITE_READ_ONLY : SFTP_WRITE_NO_HANDLE;
	return s->options->is_read_only ? NULL : sftp_handle_find(s, name, SFTP_HANDLE_FILE);
}

int sftp_write_begin(struct sftp *s, struct sftp_in in, size_t n)
{
	struct sftp_write *w = &s->write;
	size_t all = in.n;
	const struct sftp_handle *h;

	*w = (struct sftp_write){.id = sftp_get_u32(&in)};
	/* Without an id there is nobody to answer. */
	if (in.is_bad)
		return -EPROTO;
	h = write_head(s, &in, n - 4);
	w->left = n - all;
	if (h) {
		w->answer = SFTP_WRITE_RESULT;
		w->fd = h->fd;
		/* With no payload the file still says whether it could be written. */
		if (w->payload == 0)
			w->result = file_write(w->fd, (const uint8_t *)"", 0, w->offset);
	} else {
		w->payload = 0; /* all of it is skipped */
	}
	return w->left == 0 ? write_answer(s) : 0;
}
