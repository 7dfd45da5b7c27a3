#include "gateway/host_keys.h"

#include "core/log.h"
#include "core/pubkey.h"
#include "ssh/host_key.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ERROR_BYTES 256

static const char *const types[] = {"ed25519", "ecdsa", "rsa"};

__attribute__((format(printf, 3, 4))) static int fail(char ret_error[ERROR_BYTES], int rc, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(ret_error, ERROR_BYTES, format, ap);
	va_end(ap);
	return rc;
}

int host_key_path(const char *dir, const char *type, char *buf, size_t size)
{
	int n = snprintf(buf, size, "%s/ssh_host_%s_key", dir, type);

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* mkdir -p, for nobody else. */
static int folder_make(const char *dir)
{
	char part[PATH_MAX];
	struct stat st;

	if (strlen(dir) >= sizeof(part))
		return -ENAMETOOLONG;
	for (size_t n = 1; dir[n - 1]; n++) {
		if (dir[n] && dir[n] != '/')
			continue;
		memcpy(part, dir, n);
		part[n] = 0;
		if (mkdir(part, 0700) < 0 && errno != EEXIST) {
			/* Somewhere on a read-only disk, perhaps; it does if it is there. */
			int error = errno;

			if (stat(part, &st) < 0)
				return -error;
		}
	}
	if (stat(dir, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

/* Writes text and a newline unless it ends with one. */
static int text_write(int fd, const char *text)
{
	size_t n = strlen(text);
	ssize_t wrote = write(fd, text, n);

	if (wrote == (ssize_t)n && (n == 0 || text[n - 1] != '\n')) {
		wrote = write(fd, "\n", 1);
		n = 1;
	}
	if (wrote != (ssize_t)n)
		return wrote < 0 ? -errno : -ENOSPC;
	return fsync(fd) < 0 ? -errno : 0;
}

static void folder_sync(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return;
	(void)fsync(fd);
	close(fd);
}

/*
 * A file that is there whole or not at all. With `is_new` it must not be there yet (-EEXIST): by link, which unlike rename never
 * replaces.
 */
static int file_put(const char *path, const char *text, mode_t mode, bool is_new)
{
	char part[PATH_MAX];
	int fd, rc;

	if (snprintf(part, sizeof(part), "%s.XXXXXX", path) >= (int)sizeof(part))
		return -ENAMETOOLONG;
	fd = mkostemp(part, O_CLOEXEC); /* mode 0600 */
	if (fd < 0)
		return -errno;
	rc = text_write(fd, text);
	if (rc == 0 && fchmod(fd, mode) < 0)
		rc = -errno;
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	if (rc == 0 && (is_new ? link(part, path) : rename(part, path)) < 0)
		rc = -errno;
	if (rc < 0 || is_new)
		(void)unlink(part);
	return rc;
}

static int pair_write(const char *dir, const char *path, const char *type, const struct host_key *key,
		      char ret_error[ERROR_BYTES])
{
	char public_path[PATH_MAX + 8], public_line[PUBKEY_BLOB_MAX], error[PUBKEY_ERROR_BYTES];
	struct pubkey public;
	int rc = file_put(path, key->private_text, 0600, true);

	/* Another gateway was faster: its key is as good. */
	if (rc == -EEXIST)
		return 0;
	if (rc < 0)
		return fail(ret_error, rc, "%s: %s", path, strerror(-rc));
	if (pubkey_parse_line(key->public_text, &public, error) < 0)
		return fail(ret_error, -EIO, "%s: the key that was made is wrong: %s", path, error);
	snprintf(public_path, sizeof(public_path), "%s.pub", path);
	snprintf(public_line, sizeof(public_line), "%s ringgate", key->public_text);
	rc = file_put(public_path, public_line, 0644, false);
	if (rc < 0)
		return fail(ret_error, rc, "%s: %s", public_path, strerror(-rc));
	folder_sync(dir);
	log_event(LOG_INFO, "host_key_made", LOG_STR("type", type), LOG_STR("fingerprint", public.fingerprint),
		  LOG_STR("file", path));
	return 0;
}

static int key_make(const char *dir, const char *path, const char *type, char ret_error[ERROR_BYTES])
{
	struct host_key key;
	int rc = host_key_make(type, &key);

	if (rc < 0)
		return fail(ret_error, rc, "no %s host key could be made", type);
	rc = pair_write(dir, path, type, &key, ret_error);
	host_key_deinit(&key);
	return rc;
}

static int key_check(const char *path, const struct stat *st, char ret_error[ERROR_BYTES])
{
	if (!S_ISREG(st->st_mode))
		return fail(ret_error, -EINVAL, "%s is not a regular file", path);
	if (st->st_mode & 077)
		return fail(
			ret_error, -EACCES,
			"others may read the host key %s (mode %03o): chmod 600 it, or remove it and its .pub for a "
			"new one",
			path, (unsigned)st->st_mode & 0777);
	return 0;
}

int host_keys_ensure(const char *dir, char ret_error[ERROR_BYTES])
{
	char path[PATH_MAX];
	struct stat st;
	int rc = folder_make(dir);

	if (rc < 0)
		return fail(ret_error, rc, "%s: %s", dir, strerror(-rc));
	for (size_t i = 0; i < ARRAY_LEN(types) && rc == 0; i++) {
		/* Room for ".pub" and mkostemp's letters. */
		rc = host_key_path(dir, types[i], path, sizeof(path) - 16);
		if (rc < 0)
			return fail(ret_error, rc, "host_key_dir: the path is too long");
		if (stat(path, &st) == 0)
			rc = key_check(path, &st, ret_error);
		else if (errno == ENOENT)
			rc = key_make(dir, path, types[i], ret_error);
		else
			rc = fail(ret_error, -errno, "%s: %s", path, strerror(errno));
	}
	return rc;
}

/* Of the key that was found last. */
static int find_certificate(struct host_key_files *f, char ret_error[ERROR_BYTES])
{
	struct conn_host_key *key = &f->keys[f->count - 1];
	char *path = f->certificate_paths[f->count - 1];
	size_t size = sizeof(f->certificate_paths[0]);

	if (snprintf(path, size, "%s-cert.pub", key->path) >= (int)size)
		return fail(ret_error, -ENAMETOOLONG, "host_key_dir: the path is too long");
	if (access(path, R_OK) == 0)
		key->certificate_path = path;
	else if (errno != ENOENT)
		return fail(ret_error, -errno, "%s: %s", path, strerror(errno));
	return 0;
}

/* One file, if it is there. */
static int find_one(struct host_key_files *f, const char *dir, const char *type, const char *suffix,
		    char ret_error[ERROR_BYTES])
{
	char *path = f->paths[f->count];
	size_t size = sizeof(f->paths[0]);
	struct stat st;
	int rc;

	if (host_key_path(dir, type, path, size) < 0 || strlen(path) + strlen(suffix) >= size)
		return fail(ret_error, -ENAMETOOLONG, "host_key_dir: the path is too long");
	strcat(path, suffix);
	if (stat(path, &st) < 0)
		return errno == ENOENT ? 0 : fail(ret_error, -errno, "%s: %s", path, strerror(errno));
	rc = key_check(path, &st, ret_error);
	if (rc < 0)
		return rc;
	f->keys[f->count++] = (struct conn_host_key){.type = type, .path = path, .is_active = !suffix[0]};
	return suffix[0] ? 0 : find_certificate(f, ret_error);
}

int host_keys_find(const char *dir, struct host_key_files *ret_files, char ret_error[ERROR_BYTES])
{
	static const char *const suffixes[] = {"", ".next", ".old"};
	int rc = 0;

	_Static_assert(ARRAY_LEN(types) * ARRAY_LEN(suffixes) <= HOST_KEYS_MAX, "each has a place");
	ret_files->count = 0;
	for (size_t s = 0; s < ARRAY_LEN(suffixes); s++)
		for (size_t i = 0; i < ARRAY_LEN(types) && rc == 0; i++)
			rc = find_one(ret_files, dir, types[i], suffixes[s], ret_error);
	return rc;
}
