/*
 * procd/user.c - see user.h.
 */
#include "procd/user.h"

#include "procd/options.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

static bool copy(char *to, size_t size, const char *from)
{
	return snprintf(to, size, "%s", from) < (int)size;
}

/* A process may run as a number that nobody has named. */
static int unnamed(struct user *u)
{
	const char *home = getenv("HOME");

	u->uid = geteuid();
	u->gid = getegid();
	snprintf(u->name, sizeof(u->name), "%u", (unsigned)u->uid);
	return copy(u->home, sizeof(u->home), home && home[0] == '/' ? home : "/") ? 0 : -ENAMETOOLONG;
}

static int from_passwd(struct user *u, const struct passwd *pw)
{
	u->uid = pw->pw_uid;
	u->gid = pw->pw_gid;
	if (!copy(u->name, sizeof(u->name), pw->pw_name) || !copy(u->home, sizeof(u->home), pw->pw_dir) ||
	    !copy(u->shell, sizeof(u->shell), pw->pw_shell ? pw->pw_shell : ""))
		return -ENAMETOOLONG;
	return 0;
}

int user_find(const struct options *o, struct user *ret_user)
{
	struct user u = {.is_switched = false};
	const struct passwd *pw;
	int rc;

	errno = 0;
	pw = o->user ? getpwnam(o->user) : getpwuid(geteuid());
	if (!pw && o->user)
		return errno && errno != ENOENT && errno != ESRCH ? -errno : -ENOENT;
	rc = pw ? from_passwd(&u, pw) : unnamed(&u);
	if (rc < 0)
		return rc;
	u.is_switched = u.uid != geteuid() || u.gid != getegid();
	if (u.is_switched && geteuid() != 0)
		return -EPERM;
	if (o->home && !copy(u.home, sizeof(u.home), o->home))
		return -ENAMETOOLONG;
	if (o->shell && !copy(u.shell, sizeof(u.shell), o->shell))
		return -ENAMETOOLONG;
	if (!u.home[0])
		strcpy(u.home, "/");
	if (!u.shell[0])
		strcpy(u.shell, "/bin/sh");
	*ret_user = u;
	return 0;
}

int user_become(const struct user *u)
{
	if (!u->is_switched)
		return 0;
	if (initgroups(u->name, u->gid) < 0 || setgid(u->gid) < 0 || setuid(u->uid) < 0)
		return -errno;
	/* Never trust that it worked: what follows is the user's. */
	if (getuid() != u->uid || geteuid() != u->uid || getgid() != u->gid || getegid() != u->gid || setuid(0) == 0)
		return -EPERM;
	return 0;
}
