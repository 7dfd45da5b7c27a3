/*
 * procd/sftp_dir.c - folders: OPENDIR, READDIR with ls -l style lines, MKDIR, RMDIR.
 *
 * Thread: the one that serves.
 */
#include "procd/sftp_server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int sftp_on_opendir(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	int r = sftp_get_path(in, s->path);
	struct sftp_handle *h;
	DIR *dir;
	int fd;

	if (r < 0)
		return sftp_status_errno(s, id, r);
	h = sftp_handle_reserve(s);
	if (!h)
		return sftp_status_errno(s, id, -errno);
	fd = openat(s->home_fd, s->path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return sftp_status_errno(s, id, -errno);
	dir = fdopendir(fd);
	if (!dir) {
		r = -errno;
		close(fd);
		return sftp_status_errno(s, id, r);
	}
	h->dir = dir;
	sftp_handle_use(s, h, SFTP_HANDLE_DIR);
	return sftp_handle_reply(s, id, h);
}

static char mode_type(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return 'd';
	case S_IFLNK:
		return 'l';
	case S_IFCHR:
		return 'c';
	case S_IFBLK:
		return 'b';
	case S_IFIFO:
		return 'p';
	case S_IFSOCK:
		return 's';
	case S_IFREG:
		return '-';
	default:
		return '?';
	}
}

/* "drwxr-sr-t ": a type, nine permissions, the place of a mark that Linux has no use for. */
static void mode_text(mode_t mode, char ret_text[12])
{
	static const char bits[] = "rwxrwxrwx";

	ret_text[0] = mode_type(mode);
	for (int i = 0; i < 9; i++)
		ret_text[1 + i] = (mode & (0400u >> i)) ? bits[i] : '-';
	if (mode & S_ISUID)
		ret_text[3] = (mode & S_IXUSR) ? 's' : 'S';
	if (mode & S_ISGID)
		ret_text[6] = (mode & S_IXGRP) ? 's' : 'S';
	if (mode & S_ISVTX)
		ret_text[9] = (mode & S_IXOTH) ? 't' : 'T';
	ret_text[10] = ' ';
	ret_text[11] = 0;
}

/* As ls does: the time of day for the last half year, the year for what is older or in the future. */
static void time_text(time_t t, char *ret_text, size_t size)
{
	const time_t half_year = 365 * 24 * 60 * 60 / 2;
	time_t now = time(NULL);
	struct tm tm;
	bool is_recent = t > now - half_year && t <= now;

	ret_text[0] = 0;
	if (localtime_r(&t, &tm) && strftime(ret_text, size, is_recent ? "%b %e %H:%M" : "%b %e  %Y", &tm) == 0)
		ret_text[0] = 0;
}

/* A name, or the number where there is none. */
static const char *owner_text(const char *name, uint32_t id, char ret_number[16])
{
	if (name[0])
		return name;
	snprintf(ret_number, 16, "%u", id);
	return ret_number;
}

static size_t long_name(struct sftp *s, const char *name, const struct stat *st, char *ret_text, size_t size)
{
	char mode[12], date[32], user_number[16], group_number[16];
	const char *user = owner_text(sftp_user_name(s, st->st_uid), st->st_uid, user_number);
	const char *group = owner_text(sftp_group_name(s, st->st_gid), st->st_gid, group_number);
	int n;

	mode_text(st->st_mode, mode);
	time_text(st->st_mtime, date, sizeof(date));
	n = snprintf(ret_text, size, "%s %3lu %-8s %-8s %8llu %s %s", mode, (unsigned long)st->st_nlink, user, group,
		     (unsigned long long)st->st_size, date, name);
	return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

static void put_entry(struct sftp *s, struct sftp_out *o, const char *name, const struct stat *st)
{
	char text[SFTP_LONG_NAME_MAX];
	size_t n = long_name(s, name, st, text, sizeof(text));

	sftp_put_string(o, bytes_str(name));
	sftp_put_string(o, bytes_of(text, n));
	sftp_put_stat(o, st);
}

/* Fills `o` with entries while one more is sure to fit; their count, or negative errno if there is none but an error. */
static int put_entries(struct sftp *s, struct sftp_out *o, DIR *dir)
{
	int count = 0;

	while ((size_t)(o->end - o->p) >= SFTP_ENTRY_BYTES) {
		struct dirent *entry;
		struct stat st;

		errno = 0;
		entry = readdir(dir);
		if (!entry)
			return count > 0 ? count : -errno;
		if (strlen(entry->d_name) > SFTP_NAME_MAX)
			continue;
		/* Gone meanwhile, most likely. */
		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		put_entry(s, o, entry->d_name, &st);
		count++;
	}
	return count;
}

int sftp_on_readdir(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	struct sftp_handle *h = sftp_handle_find(s, sftp_get_string(in), SFTP_HANDLE_DIR);
	struct sftp_out o;
	uint8_t *count_at;
	int r;

	if (in->is_bad)
		return sftp_bad_message(s, id);
	if (!h)
		return sftp_status(s, id, SFTP_FX_FAILURE);
	r = sftp_reply_begin(s, SFTP_NAME, id, SFTP_READDIR_BYTES, &o);
	if (r)
		return r;
	count_at = sftp_put_room(&o, 4);
	r = put_entries(s, &o, h->dir);
	if (r < 0)
		return sftp_status_errno(s, id, r);
	if (r == 0)
		return sftp_status(s, id, SFTP_FX_EOF);
	sftp_store_u32(count_at, (uint32_t)r);
	return sftp_reply_end(s, &o);
}

int sftp_on_mkdir(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	int r = sftp_get_path(in, s->path);
	struct sftp_attrs a;

	sftp_get_attrs(in, &a);
	if (in->is_bad)
		return sftp_bad_message(s, id);
	if (r == 0 &&
	    mkdirat(s->home_fd, s->path, (a.flags & SFTP_ATTR_PERMISSIONS) ? a.permissions & 07777 : 0777) < 0)
		r = -errno;
	return sftp_status_errno(s, id, r);
}

int sftp_on_rmdir(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	int r = sftp_get_path(in, s->path);

	if (r == 0 && unlinkat(s->home_fd, s->path, AT_REMOVEDIR) < 0)
		r = -errno;
	return sftp_status_errno(s, id, r);
}
