/*
 * procd/sftp_path.c - canonical paths: REALPATH, expand-path@openssh.com, home-directory.
 *
 * Thread: the one that serves.
 *
 * realpath(3) is no help: it knows the process's current folder only, and fails where the last component does not exist,
 * which is the very path that a client asks for before it creates it.
 */
#include "procd/sftp_server.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* A path being resolved. `done` is absolute and has no links in it; the root is "". */
struct walk {
	char done[PATH_MAX];
	size_t done_n;
	char todo[PATH_MAX];
	const char *rest; /* inside todo */
	int links;
};

static void walk_up(struct walk *w)
{
	while (w->done_n > 0 && w->done[--w->done_n] != '/')
		;
	w->done[w->done_n] = 0;
}

static int walk_down(struct walk *w, const char *name, size_t n)
{
	if (w->done_n + 1 + n >= sizeof(w->done))
		return -ENAMETOOLONG;
	w->done[w->done_n++] = '/';
	memcpy(w->done + w->done_n, name, n);
	w->done_n += n;
	w->done[w->done_n] = 0;
	return 0;
}

/* `done` is a link: what it says goes before the rest. */
static int walk_link(struct walk *w)
{
	char target[PATH_MAX];
	size_t rest_n = strlen(w->rest);
	ssize_t n;

	if (++w->links > SFTP_SYMLINKS_MAX)
		return -ELOOP;
	n = readlink(w->done, target, sizeof(target));
	if (n < 0)
		return -errno;
	if ((size_t)n + rest_n >= sizeof(w->todo))
		return -ENAMETOOLONG;
	/* The rest, if any, begins with its slash. */
	memmove(w->todo + n, w->rest, rest_n + 1);
	memcpy(w->todo, target, (size_t)n);
	w->rest = w->todo;
	if (w->todo[0] == '/') {
		w->done_n = 0;
		w->done[0] = 0;
	} else {
		walk_up(w);
	}
	return 0;
}

/* Takes one component off the rest. 1 when the path is resolved, 0 to go on, negative errno. */
static int walk_step(struct walk *w)
{
	const char *name = w->rest + strspn(w->rest, "/");
	size_t n = strcspn(name, "/");
	struct stat st;
	int r;

	w->rest = name + n;
	if (n == 0)
		return 1;
	if (n == 1 && name[0] == '.')
		return 0;
	if (n == 2 && name[0] == '.' && name[1] == '.') {
		walk_up(w);
		return 0;
	}
	r = walk_down(w, name, n);
	if (r)
		return r;
	if (lstat(w->done, &st) < 0)
		return errno == ENOENT && *w->rest == 0 ? 1 : -errno; /* only the last one may be missing */
	return S_ISLNK(st.st_mode) ? walk_link(w) : 0;
}

static int resolve(const struct sftp *s, const char *path, char *ret_path)
{
	struct walk w = {.done_n = 0};
	size_t n = strlen(path);
	int r;

	if (n >= sizeof(w.todo))
		return -ENAMETOOLONG;
	memcpy(w.todo, path, n + 1);
	w.rest = w.todo;
	if (path[0] != '/' && strcmp(s->home, "/") != 0) {
		w.done_n = strlen(s->home);
		memcpy(w.done, s->home, w.done_n + 1);
	}
	do
		r = walk_step(&w);
	while (r == 0);
	if (r < 0)
		return r;
	strcpy(ret_path, w.done_n > 0 ? w.done : "/");
	return 0;
}

static int reply_resolved(struct sftp *s, uint32_t id, const char *path)
{
	int r = resolve(s, path[0] ? path : ".", s->path2);

	return r < 0 ? sftp_status_errno(s, id, r) : sftp_reply_name(s, id, s->path2);
}

int sftp_on_realpath(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	int r = sftp_get_path(in, s->path);

	return r < 0 ? sftp_status_errno(s, id, r) : reply_resolved(s, id, s->path);
}

/* "~user/rest" in place: the user's home instead of the first component. */
static int expand_user(char *path)
{
	char user[PATH_MAX], home[PATH_MAX];
	size_t n = strcspn(path, "/"), home_n, rest_n = strlen(path + n);
	int r;

	memcpy(user, path + 1, n - 1);
	user[n - 1] = 0;
	r = sftp_user_home(user, home);
	if (r)
		return r;
	home_n = strlen(home);
	if (home_n + rest_n >= PATH_MAX)
		return -ENAMETOOLONG;
	memmove(path + home_n, path + n, rest_n + 1);
	memcpy(path, home, home_n);
	return 0;
}

int sftp_on_expand_path(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	int r = sftp_get_path(in, s->path);

	if (r < 0)
		return sftp_status_errno(s, id, r);
	/* The user's own home is where relative paths start. */
	if (strcmp(s->path, "~") == 0)
		return reply_resolved(s, id, ".");
	if (strncmp(s->path, "~/", 2) == 0)
		return reply_resolved(s, id, s->path + 2 + strspn(s->path + 2, "/"));
	if (s->path[0] == '~') {
		r = expand_user(s->path);
		if (r == -ENOENT)
			return sftp_status_text(s, id, SFTP_FX_NO_SUCH_FILE, "no such user");
		if (r < 0)
			return sftp_status_errno(s, id, r);
	}
	return reply_resolved(s, id, s->path);
}

int sftp_on_home_directory(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	int r = sftp_get_path(in, s->path);

	if (r < 0)
		return sftp_status_errno(s, id, r);
	if (s->path[0])
		r = sftp_user_home(s->path, s->path2);
	else if (s->options->home || sftp_user_home(NULL, s->path2) < 0)
		strcpy(s->path2, s->home);
	return r < 0 ? sftp_status(s, id, SFTP_FX_FAILURE) : sftp_reply_name(s, id, s->path2);
}
