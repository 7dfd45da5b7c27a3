/*
 * procd/sftp_link.c - names in folders: REMOVE, RENAME, SYMLINK, READLINK, posix-rename@openssh.com, hardlink@openssh.com.
 *
 * Thread: the one that serves.
 */
#include "procd/sftp_server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* Two paths into s->path and s->path2. */
static int get_two_paths(struct sftp *s, struct sftp_in *in)
{
	int r = sftp_get_path(in, s->path);
	int r2 = sftp_get_path(in, s->path2);

	if (in->is_bad)
		return -EBADMSG;
	return r < 0 ? r : r2;
}

int sftp_on_remove(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	int r = sftp_get_path(in, s->path);

	if (r == 0 && unlinkat(s->home_fd, s->path, 0) < 0)
		r = -errno;
	return sftp_status_errno(s, id, r);
}

static int move(const struct sftp *s)
{
	return renameat(s->home_fd, s->path, s->home_fd, s->path2) < 0 ? -errno : 0;
}

static int make_link(const struct sftp *s)
{
	return linkat(s->home_fd, s->path, s->home_fd, s->path2, 0) < 0 ? -errno : 0;
}

/* For what cannot be linked. Somebody else may create the target between the two calls; OpenSSH has the same gap. */
static int move_if_absent(const struct sftp *s)
{
	struct stat st;

	if (fstatat(s->home_fd, s->path2, &st, 0) == 0)
		return -EEXIST;
	return move(s);
}

static bool is_link_unsupported(int error)
{
	return error == -EOPNOTSUPP || error == -ENOSYS || error == -EXDEV || error == -EPERM;
}

/* Version 3's rename never overwrites. For a regular file link and unlink do that without a gap. */
static int move_without_overwriting(const struct sftp *s)
{
	struct stat st;
	int r;

	if (fstatat(s->home_fd, s->path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return move_if_absent(s);
	r = make_link(s);
	if (is_link_unsupported(r))
		return move_if_absent(s);
	if (r)
		return r;
	if (unlinkat(s->home_fd, s->path, 0) < 0) {
		r = -errno;
		(void)unlinkat(s->home_fd, s->path2, 0);
	}
	return r;
}

int sftp_on_rename(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	int r = get_two_paths(s, in);

	return sftp_status_errno(s, id, r < 0 ? r : move_without_overwriting(s));
}

int sftp_on_posix_rename(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	int r = get_two_paths(s, in);

	return sftp_status_errno(s, id, r < 0 ? r : move(s));
}

int sftp_on_hardlink(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	int r = get_two_paths(s, in);

	return sftp_status_errno(s, id, r < 0 ? r : make_link(s));
}

/* Target first, then the link's own path: not the draft's order but OpenSSH's, which all clients send (PROTOCOL, 4.1). */
int sftp_on_symlink(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	int r = get_two_paths(s, in);

	if (r == 0 && symlinkat(s->path, s->home_fd, s->path2) < 0)
		r = -errno;
	return sftp_status_errno(s, id, r);
}

int sftp_on_readlink(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	int r = sftp_get_path(in, s->path);
	ssize_t n;

	if (r < 0)
		return sftp_status_errno(s, id, r);
	n = readlinkat(s->home_fd, s->path, s->path2, sizeof(s->path2) - 1);
	if (n < 0)
		return sftp_status_errno(s, id, -errno);
	s->path2[n] = 0;
	return sftp_reply_name(s, id, s->path2);
}
