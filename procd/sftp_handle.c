/*
 * procd/sftp_handle.c - the table of open files and folders.
 *
 * Owner:  the struct sftp. A slot owns its descriptor or DIR from sftp_handle_use until sftp_handle_close.
 * Thread: the one that serves.
 *
 * A handle on the wire is its slot's number and generation. It is no secret: the client that holds it could open the file
 * anyway. The generation only keeps a handle that was closed from meaning what was opened after it.
 */
#include "procd/sftp_server.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define HANDLES_FIRST 8

void sftp_handles_init(struct sftp *s)
{
	struct rlimit limit;

	s->first_free = -1;
	s->handle_max = SFTP_HANDLES_MAX;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < SFTP_HANDLES_MAX + SFTP_HANDLES_RESERVE) {
		/* With a tiny limit some handles are still tried; open itself says when there are none. */
		s->handle_max = HANDLES_FIRST;
		if (limit.rlim_cur > HANDLES_FIRST + SFTP_HANDLES_RESERVE)
			s->handle_max = (uint32_t)limit.rlim_cur - SFTP_HANDLES_RESERVE;
	}
}

void sftp_handles_deinit(struct sftp *s)
{
	for (uint32_t i = 0; i < s->handle_count; i++)
		if (s->handles[i].kind != SFTP_HANDLE_FREE)
			(void)sftp_handle_close(s, &s->handles[i]);
	free(s->handles);
}

static int handles_grow(struct sftp *s)
{
	uint32_t count = s->handle_count ? s->handle_count * 2 : HANDLES_FIRST;
	struct sftp_handle *handles;

	if (s->handle_count >= s->handle_max)
		return -EMFILE;
	if (count > s->handle_max)
		count = s->handle_max;
	handles = realloc(s->handles, count * sizeof(*handles));
	if (!handles)
		return -ENOMEM;
	for (uint32_t i = count; i-- > s->handle_count;) {
		handles[i] = (struct sftp_handle){.kind = SFTP_HANDLE_FREE, .fd = -1, .next_free = s->first_free};
		s->first_free = (int)i;
	}
	s->handles = handles;
	s->handle_count = count;
	return 0;
}

struct sftp_handle *sftp_handle_reserve(struct sftp *s)
{
	if (s->first_free < 0) {
		int r = handles_grow(s);

		if (r) {
			errno = -r;
			return NULL;
		}
	}
	return &s->handles[s->first_free];
}

void sftp_handle_use(struct sftp *s, struct sftp_handle *h, enum sftp_handle_kind kind)
{
	ASSERT(h == &s->handles[s->first_free] && h->kind == SFTP_HANDLE_FREE && kind != SFTP_HANDLE_FREE);
	s->first_free = h->next_free;
	h->kind = kind;
}

int sftp_handle_reply(struct sftp *s, uint32_t id, const struct sftp_handle *h)
{
	struct sftp_out o;
	int r = sftp_reply_begin(s, SFTP_HANDLE, id, 4 + SFTP_HANDLE_BYTES, &o);

	if (r)
		return r;
	sftp_put_u32(&o, SFTP_HANDLE_BYTES);
	sftp_put_u32(&o, (uint32_t)(h - s->handles));
	sftp_put_u32(&o, h->generation);
	return sftp_reply_end(s, &o);
}

static struct sftp_handle *handle_any(struct sftp *s, struct bytes name)
{
	struct sftp_handle *h;
	uint32_t slot;

	if (name.n != SFTP_HANDLE_BYTES)
		return NULL;
	slot = sftp_load_u32(name.p);
	if (slot >= s->handle_count)
		return NULL;
	h = &s->handles[slot];
	return h->kind != SFTP_HANDLE_FREE && h->generation == sftp_load_u32(name.p + 4) ? h : NULL;
}

struct sftp_handle *sftp_handle_find(struct sftp *s, struct bytes name, enum sftp_handle_kind kind)
{
	struct sftp_handle *h = handle_any(s, name);

	return h && h->kind == kind ? h : NULL;
}

int sftp_handle_close(struct sftp *s, struct sftp_handle *h)
{
	int r;

	ASSERT(h->kind != SFTP_HANDLE_FREE);
	if (h->kind == SFTP_HANDLE_DIR)
		r = closedir(h->dir);
	else
		r = close(h->fd);
	r = r < 0 ? -errno : 0;
	*h = (struct sftp_handle){
		.kind = SFTP_HANDLE_FREE,
		.generation = h->generation + 1,
		.fd = -1,
		.next_free = s->first_free,
	};
	s->first_free = (int)(h - s->handles);
	return r;
}
