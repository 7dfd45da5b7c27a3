/*
 * procd/sftp_reply.c - answers, built where the stream will send them from.
 *
 * Owner:  nothing; the stream owns the bytes.
 * Thread: the one that serves.
 */
#include "procd/sftp_server.h"

#include <errno.h>
#include <string.h>

/* Behind the id of a status: code, message, language. */
#define STATUS_TEXT_MAX 256
#define STATUS_ROOM (4 + 4 + STATUS_TEXT_MAX + 4)

int sftp_reply_begin(struct sftp *s, uint8_t type, uint32_t id, size_t room, struct sftp_out *ret_out)
{
	size_t n = 4 + 1 + 4 + room;
	uint8_t *p;
	int r;

	ASSERT(n <= SFTP_RESERVE_MAX);
	r = s->io->reserve(s->io->ctx, n, &p);
	if (r)
		return r;
	*ret_out = (struct sftp_out){.base = p, .p = p + 4, .end = p + n};
	*sftp_put_room(ret_out, 1) = type;
	sftp_put_u32(ret_out, id);
	return 0;
}

int sftp_reply_end(struct sftp *s, struct sftp_out *o)
{
	size_t n = (size_t)(o->p - o->base);

	sftp_store_u32(o->base, (uint32_t)(n - 4));
	return s->io->commit(s->io->ctx, n);
}

static const char *status_name(enum sftp_status_code code)
{
	switch (code) {
	case SFTP_FX_OK:
		return "Success";
	case SFTP_FX_EOF:
		return "End of file";
	case SFTP_FX_NO_SUCH_FILE:
		return "No such file";
	case SFTP_FX_PERMISSION_DENIED:
		return "Permission denied";
	case SFTP_FX_FAILURE:
		return "Failure";
	case SFTP_FX_BAD_MESSAGE:
		return "Bad message";
	case SFTP_FX_OP_UNSUPPORTED:
		return "Operation unsupported";
	}
	return "Unknown error";
}

int sftp_status_text(struct sftp *s, uint32_t id, enum sftp_status_code code, const char *text)
{
	struct sftp_out o;
	int r = sftp_reply_begin(s, SFTP_STATUS, id, STATUS_ROOM, &o);

	if (r)
		return r;
	sftp_put_u32(&o, code);
	/* Clients of versions before 3 do not expect words. */
	if (s->version >= 3) {
		sftp_put_string(&o, bytes_of(text, strnlen(text, STATUS_TEXT_MAX)));
		sftp_put_string(&o, bytes_str(""));
	}
	return sftp_reply_end(s, &o);
}

int sftp_status(struct sftp *s, uint32_t id, enum sftp_status_code code)
{
	return sftp_status_text(s, id, code, status_name(code));
}

int sftp_status_read_only(struct sftp *s, uint32_t id)
{
	const char *text = s->options->read_only;

	if (!text)
		return sftp_status(s, id, SFTP_FX_PERMISSION_DENIED);
	if (s->io->tell)
		s->io->tell(s->io->ctx);
	return sftp_status_text(s, id, SFTP_FX_PERMISSION_DENIED, text);
}

int sftp_bad_message(struct sftp *s, uint32_t id)
{
	return sftp_status(s, id, SFTP_FX_BAD_MESSAGE);
}

/* The same classes as OpenSSH's server, since clients decide by them. */
static enum sftp_status_code status_of_errno(int error)
{
	switch (error) {
	case 0:
		return SFTP_FX_OK;
	case ENOENT:
	case ENOTDIR:
	case EBADF:
	case ELOOP:
		return SFTP_FX_NO_SUCH_FILE;
	case EPERM:
	case EACCES:
	case EFAULT:
		return SFTP_FX_PERMISSION_DENIED;
	case ENAMETOOLONG:
	case EINVAL:
	case EBADMSG:
		return SFTP_FX_BAD_MESSAGE;
	case ENOSYS:
		return SFTP_FX_OP_UNSUPPORTED;
	default:
		return SFTP_FX_FAILURE;
	}
}

int sftp_status_errno(struct sftp *s, uint32_t id, int result)
{
	int error = result < 0 ? -result : 0;
	enum sftp_status_code code = status_of_errno(error);

	/* The vague codes get the reason in words; the others keep the words that clients know. */
	if (code == SFTP_FX_FAILURE || (code == SFTP_FX_BAD_MESSAGE && error != EBADMSG))
		return sftp_status_text(s, id, code, strerror(error));
	return sftp_status(s, id, code);
}

int sftp_reply_name(struct sftp *s, uint32_t id, const char *name)
{
	struct bytes b = bytes_str(name);
	struct sftp_out o;
	int r = sftp_reply_begin(s, SFTP_NAME, id, 4 + 2 * (4 + b.n) + 4, &o);

	if (r)
		return r;
	sftp_put_u32(&o, 1);
	sftp_put_string(&o, b);
	sftp_put_string(&o, b);
	sftp_put_u32(&o, 0); /* no attributes */
	return sftp_reply_end(s, &o);
}

int sftp_get_path(struct sftp_in *in, char *ret_path)
{
	struct bytes b = sftp_get_string(in);

	if (in->is_bad || (b.n > 0 && memchr(b.p, 0, b.n)))
		return -EBADMSG;
	return bytes_copy_str(b, ret_path, PATH_MAX) ? 0 : -ENAMETOOLONG;
}
