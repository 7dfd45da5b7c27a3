/*
 * procd/sftp_attr.c - attributes of files: STAT, LSTAT, FSTAT, SETSTAT, FSETSTAT, lsetstat@openssh.com.
 *
 * Thread: the one that serves.
 */
#include "procd/sftp_server.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODE_BITS 07777

/* flags, size, uid, gid, permissions, atime, mtime */
#define STAT_BYTES (4 + 8 + 4 + 4 + 4 + 4 + 4)

void sftp_get_attrs(struct sftp_in *in, struct sftp_attrs *ret_attrs)
{
	struct sftp_attrs a = {.flags = sftp_get_u32(in)};

	if (a.flags & SFTP_ATTR_SIZE)
		a.size = sftp_get_u64(in);
	if (a.flags & SFTP_ATTR_UIDGID) {
		a.uid = sftp_get_u32(in);
		a.gid = sftp_get_u32(in);
	}
	if (a.flags & SFTP_ATTR_PERMISSIONS)
		a.permissions = sftp_get_u32(in);
	if (a.flags & SFTP_ATTR_ACMODTIME) {
		a.atime = sftp_get_u32(in);
		a.mtime = sftp_get_u32(in);
	}
	if (a.flags & SFTP_ATTR_EXTENDED) {
		/* A forged count ends with the packet: each round takes at least 8 of its bytes or spoils the cursor. */
		uint32_t count = sftp_get_u32(in);

		for (uint32_t i = 0; i < count && !in->is_bad; i++) {
			(void)sftp_get_string(in);
			(void)sftp_get_string(in);
		}
	}
	*ret_attrs = a;
}

void sftp_put_stat(struct sftp_out *o, const struct stat *st)
{
	sftp_put_u32(o, SFTP_ATTR_SIZE | SFTP_ATTR_UIDGID | SFTP_ATTR_PERMISSIONS | SFTP_ATTR_ACMODTIME);
	sftp_put_u64(o, (uint64_t)st->st_size);
	sftp_put_u32(o, st->st_uid);
	sftp_put_u32(o, st->st_gid);
	sftp_put_u32(o, st->st_mode);
	sftp_put_u32(o, (uint32_t)st->st_atime);
	sftp_put_u32(o, (uint32_t)st->st_mtime);
}

static int reply_stat(struct sftp *s, uint32_t id, const struct stat *st)
{
	struct sftp_out o;
	int r = sftp_reply_begin(s, SFTP_ATTRS, id, STAT_BYTES, &o);

	if (r)
		return r;
	sftp_put_stat(&o, st);
	return sftp_reply_end(s, &o);
}

static int stat_path(struct sftp *s, uint32_t id, struct sftp_in *in, int flags)
{
	struct stat st;
	int r = sftp_get_path(in, s->path);

	if (r == 0 && fstatat(s->home_fd, s->path, &st, flags) < 0)
		r = -errno;
	return r < 0 ? sftp_status_errno(s, id, r) : reply_stat(s, id, &st);
}

int sftp_on_stat(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	return stat_path(s, id, in, 0);
}

int sftp_on_lstat(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	return stat_path(s, id, in, AT_SYMLINK_NOFOLLOW);
}

int sftp_on_fstat(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	struct bytes name = sftp_get_string(in);
	struct sftp_handle *h = sftp_handle_find(s, name, SFTP_HANDLE_FILE);
	struct stat st;

	if (in->is_bad)
		return sftp_bad_message(s, id);
	if (!h)
		return sftp_status(s, id, SFTP_FX_FAILURE);
	if (fstat(h->fd, &st) < 0)
		return sftp_status_errno(s, id, -errno);
	return reply_stat(s, id, &st);
}

static void attrs_times(const struct sftp_attrs *a, struct timespec ret_times[2])
{
	ret_times[0] = (struct timespec){.tv_sec = a->atime};
	ret_times[1] = (struct timespec){.tv_sec = a->mtime};
}

/*
 * Mode, times and owner of a path, in OpenSSH's order: all are tried, the last failure is the answer. `flags` is 0 or
 * AT_SYMLINK_NOFOLLOW.
 */
static int path_set(const struct sftp *s, const char *path, const struct sftp_attrs *a, int flags, int result)
{
	struct timespec times[2];

	attrs_times(a, times);
	if ((a->flags & SFTP_ATTR_PERMISSIONS) && fchmodat(s->home_fd, path, a->permissions & MODE_BITS, flags) < 0)
		result = -errno;
	if ((a->flags & SFTP_ATTR_ACMODTIME) && utimensat(s->home_fd, path, times, flags) < 0)
		result = -errno;
	if ((a->flags & SFTP_ATTR_UIDGID) && fchownat(s->home_fd, path, a->uid, a->gid, flags) < 0)
		result = -errno;
	return result;
}

/* truncate(2) below a folder that is not the current one. */
static int path_truncate(const struct sftp *s, const char *path, uint64_t size)
{
	int fd = openat(s->home_fd, path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
	close(fd);
	return r;
}

int sftp_on_setstat(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	struct sftp_attrs a;
	int r = sftp_get_path(in, s->path);

	sftp_get_attrs(in, &a);
	if (in->is_bad)
		return sftp_bad_message(s, id);
	if (r == 0) {
		if (a.flags & SFTP_ATTR_SIZE)
			r = path_truncate(s, s->path, a.size);
		r = path_set(s, s->path, &a, 0, r);
	}
	return sftp_status_errno(s, id, r);
}

int sftp_on_lsetstat(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	struct sftp_attrs a;
	int r = sftp_get_path(in, s->path);

	sftp_get_attrs(in, &a);
	if (in->is_bad || (a.flags & SFTP_ATTR_SIZE)) /* a link has no size to set */
		return sftp_bad_message(s, id);
	if (r == 0)
		r = path_set(s, s->path, &a, AT_SYMLINK_NOFOLLOW, 0);
	return sftp_status_errno(s, id, r);
}

static int fd_set_attrs(int fd, const struct sftp_attrs *a)
{
	struct timespec times[2];
	int r = 0;

	attrs_times(a, times);
	if ((a->flags & SFTP_ATTR_SIZE) && ftruncate(fd, (off_t)a->size) < 0)
		r = -errno;
	if ((a->flags & SFTP_ATTR_PERMISSIONS) && fchmod(fd, a->permissions & MODE_BITS) < 0)
		r = -errno;
	if ((a->flags & SFTP_ATTR_ACMODTIME) && futimens(fd, times) < 0)
		r = -errno;
	if ((a->flags & SFTP_ATTR_UIDGID) && fchown(fd, a->uid, a->gid) < 0)
		r = -errno;
	return r;
}

int sftp_on_fsetstat(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	struct sftp_handle *h = sftp_handle_find(s, sftp_get_string(in), SFTP_HANDLE_FILE);
	struct sftp_attrs a;

	sftp_get_attrs(in, &a);
	if (in->is_bad)
		return sftp_bad_message(s, id);
	if (!h)
		return sftp_status(s, id, SFTP_FX_FAILURE);
	return sftp_status_errno(s, id, fd_set_attrs(h->fd, &a));
}
