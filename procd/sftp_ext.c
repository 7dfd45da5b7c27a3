/*
 * procd/sftp_ext.c - EXTENDED requests: their table, what VERSION announces, statvfs and limits.
 *
 * Source: OpenSSH's PROTOCOL, section 4, and draft-ietf-secsh-filexfer-extensions-00.
 * Thread: the one that serves.
 */
#include "procd/sftp_server.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Bits of f_flag on the wire. */
#define STATVFS_RDONLY 1
#define STATVFS_NOSUID 2

static int reply_statvfs(struct sftp *s, uint32_t id, const struct statvfs *v)
{
	struct sftp_out o;
	int r = sftp_reply_begin(s, SFTP_EXTENDED_REPLY, id, 11 * 8, &o);

	if (r)
		return r;
	sftp_put_u64(&o, v->f_bsize);
	sftp_put_u64(&o, v->f_frsize);
	sftp_put_u64(&o, v->f_blocks);
	sftp_put_u64(&o, v->f_bfree);
	sftp_put_u64(&o, v->f_bavail);
	sftp_put_u64(&o, v->f_files);
	sftp_put_u64(&o, v->f_ffree);
	sftp_put_u64(&o, v->f_favail);
	sftp_put_u64(&o, v->f_fsid);
	sftp_put_u64(&o,
		     ((v->f_flag & ST_RDONLY) ? STATVFS_RDONLY : 0) | ((v->f_flag & ST_NOSUID) ? STATVFS_NOSUID : 0));
	sftp_put_u64(&o, v->f_namemax);
	return sftp_reply_end(s, &o);
}

static int on_statvfs(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	int r = sftp_get_path(in, s->path);
	struct statvfs v;
	int fd;

	if (r < 0)
		return sftp_status_errno(s, id, r);
	/* There is no statvfs below a folder; O_PATH needs no right to the file itself, as statvfs does not. */
	fd = openat(s->home_fd, s->path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return sftp_status_errno(s, id, -errno);
	r = fstatvfs(fd, &v) < 0 ? -errno : 0;
	close(fd);
	return r < 0 ? sftp_status_errno(s, id, r) : reply_statvfs(s, id, &v);
}

static int on_fstatvfs(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	struct sftp_handle *h = sftp_handle_find(s, sftp_get_string(in), SFTP_HANDLE_FILE);
	struct statvfs v;

	if (in->is_bad)
		return sftp_bad_message(s, id);
	if (!h)
		return sftp_status(s, id, SFTP_FX_FAILURE);
	if (fstatvfs(h->fd, &v) < 0)
		return sftp_status_errno(s, id, -errno);
	return reply_statvfs(s, id, &v);
}

static int on_limits(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	struct sftp_out o;
	int r = sftp_reply_begin(s, SFTP_EXTENDED_REPLY, id, 4 * 8, &o);

	(void)in;
	if (r)
		return r;
	sftp_put_u64(&o, SFTP_PACKET_MAX);
	sftp_put_u64(&o, SFTP_DATA_MAX); /* READ */
	sftp_put_u64(&o, SFTP_DATA_MAX); /* WRITE */
	sftp_put_u64(&o, s->handle_max);
	return sftp_reply_end(s, &o);
}

struct extension {
	const char *name, *version;
	bool does_write;
	int (*handle)(struct sftp *s, uint32_t id, struct sftp_in *in);
};

static const struct extension extensions[] = {
	{"posix-rename@openssh.com", "1", true, sftp_on_posix_rename},
	{"statvfs@openssh.com", "2", false, on_statvfs},
	{"fstatvfs@openssh.com", "2", false, on_fstatvfs},
	{"hardlink@openssh.com", "1", true, sftp_on_hardlink},
	{"fsync@openssh.com", "1", true, sftp_on_fsync},
	{"lsetstat@openssh.com", "1", true, sftp_on_lsetstat},
	{"limits@openssh.com", "1", false, on_limits},
	{"expand-path@openssh.com", "1", false, sftp_on_expand_path},
	{"copy-data", "1", true, sftp_on_copy_data},
	{"home-directory", "1", false, sftp_on_home_directory},
	{"users-groups-by-id@openssh.com", "1", false, sftp_on_users_groups},
};

int sftp_on_extended(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	struct bytes name = sftp_get_string(in);

	if (in->is_bad)
		return sftp_bad_message(s, id);
	for (size_t i = 0; i < ARRAY_LEN(extensions); i++) {
		if (!bytes_is(name, extensions[i].name))
			continue;
		if (extensions[i].does_write && s->options->is_read_only)
			return sftp_status_read_only(s, id);
		return extensions[i].handle(s, id, in);
	}
	return sftp_status(s, id, SFTP_FX_OP_UNSUPPORTED);
}

int sftp_send_version(struct sftp *s)
{
	struct sftp_out o;
	/* In VERSION the version stands where other answers have their id. */
	int r = sftp_reply_begin(s, SFTP_VERSION_REPLY, SFTP_VERSION, 1024, &o);

	if (r)
		return r;
	for (size_t i = 0; i < ARRAY_LEN(extensions); i++) {
		if (extensions[i].does_write && s->options->is_read_only)
			continue;
		sftp_put_string(&o, bytes_str(extensions[i].name));
		sftp_put_string(&o, bytes_str(extensions[i].version));
	}
	return sftp_reply_end(s, &o);
}
