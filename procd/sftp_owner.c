/*
 * procd/sftp_owner.c - names of users and groups, and users' home folders.
 *
 * Owner:  the struct sftp holds the cache: one slot for each value of an id's low bits, so its size is fixed.
 * Thread: the one that serves; only the reentrant look-ups are used, since other threads may look up too.
 */
#include "procd/sftp_server.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOKUP_FIRST 4096

_Static_assert((SFTP_OWNER_CACHE & (SFTP_OWNER_CACHE - 1)) == 0, "a power of two");

/* One look-up in the databases: fills ret_text and returns 0, -ERANGE for a larger buffer, -ENOENT. */
typedef int owner_lookup(const void *key, char *buffer, size_t size, char *ret_text, size_t text_size);

static int copy_out(const char *text, char *ret_text, size_t size)
{
	return bytes_copy_str(bytes_str(text), ret_text, size) ? 0 : -ENOENT;
}

static int lookup_user(const void *key, char *buffer, size_t size, char *ret_text, size_t text_size)
{
	struct passwd pw, *found = NULL;
	int r = getpwuid_r(*(const uint32_t *)key, &pw, buffer, size, &found);

	if (!found)
		return r == ERANGE ? -ERANGE : -ENOENT;
	return copy_out(pw.pw_name, ret_text, text_size);
}

static int lookup_group(const void *key, char *buffer, size_t size, char *ret_text, size_t text_size)
{
	struct group gr, *found = NULL;
	int r = getgrgid_r(*(const uint32_t *)key, &gr, buffer, size, &found);

	if (!found)
		return r == ERANGE ? -ERANGE : -ENOENT;
	return copy_out(gr.gr_name, ret_text, text_size);
}

static int lookup_home(const void *key, char *buffer, size_t size, char *ret_text, size_t text_size)
{
	struct passwd pw, *found = NULL;
	int r = key ? getpwnam_r(key, &pw, buffer, size, &found) : getpwuid_r(getuid(), &pw, buffer, size, &found);

	if (!found)
		return r == ERANGE ? -ERANGE : -ENOENT;
	return copy_out(pw.pw_dir, ret_text, text_size);
}

static int lookup(owner_lookup *fn, const void *key, char *ret_text, size_t text_size)
{
	for (size_t size = LOOKUP_FIRST; size <= SFTP_OWNER_LOOKUP_BYTES; size *= 4) {
		char *buffer = malloc(size);
		int r;

		if (!buffer)
			return -ENOMEM;
		r = fn(key, buffer, size, ret_text, text_size);
		free(buffer);
		if (r != -ERANGE)
			return r;
	}
	return -ENOENT;
}

static const char *owner_name(struct sftp_owner *cache, uint32_t id, owner_lookup *fn)
{
	struct sftp_owner *slot = &cache[id & (SFTP_OWNER_CACHE - 1)];

	if (slot->is_known && slot->id == id)
		return slot->name;
	*slot = (struct sftp_owner){.is_known = true, .id = id};
	if (lookup(fn, &id, slot->name, sizeof(slot->name)) < 0)
		slot->name[0] = 0;
	return slot->name;
}

const char *sftp_user_name(struct sftp *s, uint32_t uid)
{
	return owner_name(s->users, uid, lookup_user);
}

const char *sftp_group_name(struct sftp *s, uint32_t gid)
{
	return owner_name(s->groups, gid, lookup_group);
}

int sftp_user_home(const char *user, char *ret_path)
{
	return lookup(lookup_home, user, ret_path, PATH_MAX);
}

/* The names for a list of ids, as one string of strings. -E2BIG if there is no room. */
static int put_names(struct sftp *s, struct sftp_out *o, struct bytes ids, const char *(*name)(struct sftp *, uint32_t))
{
	uint8_t *start = o->p;

	if ((size_t)(o->end - o->p) < 4)
		return -E2BIG;
	(void)sftp_put_room(o, 4);
	for (size_t i = 0; i < ids.n; i += 4) {
		struct bytes text = bytes_str(name(s, sftp_load_u32(ids.p + i)));

		if ((size_t)(o->end - o->p) < 4 + text.n)
			return -E2BIG;
		sftp_put_string(o, text);
	}
	sftp_store_u32(start, (uint32_t)(o->p - start - 4));
	return 0;
}

int sftp_on_users_groups(struct sftp *s, uint32_t id, struct sftp_in *in)
{
	struct bytes uids = sftp_get_string(in);
	struct bytes gids = sftp_get_string(in);
	size_t room = 8 + (uids.n + gids.n) / 4 * (4 + SFTP_OWNER_NAME_BYTES);
	struct sftp_out o;
	int r;

	if (in->is_bad || uids.n % 4 != 0 || gids.n % 4 != 0)
		return sftp_bad_message(s, id);
	if (room > SFTP_DATA_MAX)
		room = SFTP_DATA_MAX;
	r = sftp_reply_begin(s, SFTP_EXTENDED_REPLY, id, room, &o);
	if (r)
		return r;
	r = put_names(s, &o, uids, sftp_user_name);
	if (r == 0)
		r = put_names(s, &o, gids, sftp_group_name);
	return r < 0 ? sftp_status_errno(s, id, r) : sftp_reply_end(s, &o);
}
