/*
 * procd/sftp_server.h - what the files of the SFTP server share; nobody else includes it.
 *
 * Owner:  the struct sftp owns the handle table.
 * Life:   from sftp_new to sftp_free.
 * Thread: the one that calls sftp.h.
 *
 * A request handler gets the bytes behind the request's id, answers exactly once and returns 0; a negative errno from it
 * ends the server, so it stands only for a lost peer or for lost memory, never for a failed request.
 */
#ifndef PROCD_SFTP_SERVER_H
#define PROCD_SFTP_SERVER_H

#include "procd/sftp.h"
#include "procd/sftp_wire.h"

#include <dirent.h>
#include <limits.h>
#include <sys/stat.h>

enum sftp_handle_kind { SFTP_HANDLE_FREE, SFTP_HANDLE_FILE, SFTP_HANDLE_DIR };

struct sftp_handle {
	enum sftp_handle_kind kind;
	uint32_t generation; /* grows when the slot is released: an old handle never means a new file */
	int fd;              /* of a file */
	bool is_regular;
	DIR *dir;      /* of a folder */
	int next_free; /* slot, or -1 */
};

struct sftp_owner {
	bool is_known; /* this slot holds an answer, maybe "no such owner" (an empty name) */
	uint32_t id;
	char name[SFTP_OWNER_NAME_BYTES];
};

/* What a WRITE is answered with when its packet has come to its end. */
enum sftp_write_answer { SFTP_WRITE_RESULT, SFTP_WRITE_BAD, SFTP_WRITE_READ_ONLY, SFTP_WRITE_NO_HANDLE };

struct sftp_write {
	enum sftp_write_answer answer;
	uint32_t id;
	int fd;
	uint64_t offset;
	size_t payload; /* still to come */
	size_t left;    /* the same, and what stands behind the payload */
	int result;     /* the file's */
};

struct sftp {
	const struct sftp_io *io;
	const struct sftp_options *options;
	bool is_ready;    /* INIT was answered */
	uint32_t version; /* the client's */
	int home_fd;      /* where relative paths start: a folder, or AT_FDCWD */
	char home[PATH_MAX];

	struct sftp_handle *handles;
	uint32_t handle_count, handle_max;
	int first_free;

	uint8_t *packet; /* what has come of a request that did not lie in one piece in the input */
	size_t packet_n, packet_size;
	struct sftp_write write; /* the WRITE whose payload is coming */

	struct sftp_owner users[SFTP_OWNER_CACHE], groups[SFTP_OWNER_CACHE];
	char path[PATH_MAX], path2[PATH_MAX]; /* the paths of the request at hand */
};

struct sftp_attrs {
	uint32_t flags;
	uint64_t size;
	uint32_t uid, gid, permissions, atime, mtime;
};

/* sftp_reply.c: answers. sftp_reply_end sends what was put between. */
MUST_USE int sftp_reply_begin(struct sftp *s, uint8_t type, uint32_t id, size_t room, struct sftp_out *ret_out);
MUST_USE int sftp_reply_end(struct sftp *s, struct sftp_out *o);
MUST_USE int sftp_status(struct sftp *s, uint32_t id, enum sftp_status_code code);
MUST_USE int sftp_status_text(struct sftp *s, uint32_t id, enum sftp_status_code code, const char *text);
/* The request would change something, and options->is_read_only. */
MUST_USE int sftp_status_read_only(struct sftp *s, uint32_t id);
/* A system call's result: negative errno becomes the status that OpenSSH would give, with the reason in words. */
MUST_USE int sftp_status_errno(struct sftp *s, uint32_t id, int result);
MUST_USE int sftp_reply_name(struct sftp *s, uint32_t id, const char *name);
MUST_USE int sftp_bad_message(struct sftp *s, uint32_t id);

/* Copies a path into `ret_path` (PATH_MAX bytes). 0; -EBADMSG if it holds a NUL or the cursor is bad; -ENAMETOOLONG. */
MUST_USE int sftp_get_path(struct sftp_in *in, char *ret_path);

/* sftp_handle.c */
void sftp_handles_init(struct sftp *s);
void sftp_handles_deinit(struct sftp *s);
/* A free slot, or NULL (with errno EMFILE or ENOMEM). It stays free until its kind is set by _use. */
struct sftp_handle *sftp_handle_reserve(struct sftp *s);
void sftp_handle_use(struct sftp *s, struct sftp_handle *h, enum sftp_handle_kind kind);
MUST_USE int sftp_handle_reply(struct sftp *s, uint32_t id, const struct sftp_handle *h);
/* The open handle of that name and kind, or NULL. */
struct sftp_handle *sftp_handle_find(struct sftp *s, struct bytes name, enum sftp_handle_kind kind);
/* Closes whatever it is; negative errno from close(2). */
int sftp_handle_close(struct sftp *s, struct sftp_handle *h);

/* sftp_attr.c */
void sftp_get_attrs(struct sftp_in *in, struct sftp_attrs *ret_attrs);
void sftp_put_stat(struct sftp_out *o, const struct stat *st);
MUST_USE int sftp_on_stat(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_lstat(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_fstat(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_setstat(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_fsetstat(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_lsetstat(struct sftp *s, uint32_t id, struct sftp_in *in);

/* sftp_file.c */
MUST_USE int sftp_on_open(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_close(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_read(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_fsync(struct sftp *s, uint32_t id, struct sftp_in *in);
/* Length, type, id, and the length of the handle. */
#define SFTP_WRITE_HEAD (4 + 1 + 4 + 4)
/* A WRITE: `in` is what came behind its type, up to its payload or to the packet's end; n is all behind its type. */
MUST_USE int sftp_write_begin(struct sftp *s, struct sftp_in in, size_t n);
/* The next n of s->write.left bytes. */
MUST_USE int sftp_write_more(struct sftp *s, const uint8_t *p, size_t n);

/* sftp_copy.c */
MUST_USE int sftp_on_copy_data(struct sftp *s, uint32_t id, struct sftp_in *in);

/* sftp_dir.c */
MUST_USE int sftp_on_opendir(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_readdir(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_mkdir(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_rmdir(struct sftp *s, uint32_t id, struct sftp_in *in);

/* sftp_owner.c: names of users and groups; "" where there is none. Valid until the next call. */
const char *sftp_user_name(struct sftp *s, uint32_t uid);
const char *sftp_group_name(struct sftp *s, uint32_t gid);
/* Home folder of a user (NULL: of the user who runs this) into ret_path (PATH_MAX bytes); -ENOENT if unknown. */
MUST_USE int sftp_user_home(const char *user, char *ret_path);
MUST_USE int sftp_on_users_groups(struct sftp *s, uint32_t id, struct sftp_in *in);

/* sftp_path.c */
MUST_USE int sftp_on_realpath(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_expand_path(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_home_directory(struct sftp *s, uint32_t id, struct sftp_in *in);

/* sftp_link.c */
MUST_USE int sftp_on_remove(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_rename(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_posix_rename(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_hardlink(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_symlink(struct sftp *s, uint32_t id, struct sftp_in *in);
MUST_USE int sftp_on_readlink(struct sftp *s, uint32_t id, struct sftp_in *in);

/* sftp_ext.c */
MUST_USE int sftp_on_extended(struct sftp *s, uint32_t id, struct sftp_in *in);
/* The VERSION reply with all extensions. */
MUST_USE int sftp_send_version(struct sftp *s);

#endif
