/*
 * procd/sink.c - see sink.h.
 */
#include "procd/sink.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define KEPT_MIN 4096

void sink_init(struct sink *s, int fd)
{
	memset(s, 0, sizeof(*s));
	s->fd = fd;
	s->state = fd < 0 ? SINK_CLOSED : SINK_OPEN;
	s->is_writable = true;
}

void sink_deinit(struct sink *s)
{
	free(s->kept);
	s->kept = NULL;
	s->kept_at = s->kept_end = s->kept_size = 0;
	s->piece_count = s->piece_bytes = 0;
}

uint32_t sink_waiting(const struct sink *s)
{
	return s->kept_end - s->kept_at + s->piece_bytes;
}

static int keep(struct sink *s, const uint8_t *p, uint32_t n)
{
	uint32_t waiting = s->kept_end - s->kept_at, size = s->kept_size ? s->kept_size : KEPT_MIN;

	if (s->kept_end + n > s->kept_size && s->kept_at > 0) {
		memmove(s->kept, s->kept + s->kept_at, waiting);
		s->kept_at = 0;
		s->kept_end = waiting;
	}
	if (s->kept_end + n > s->kept_size) {
		uint8_t *grown;

		/* Credit bounds this: no peer can make more wait than it was allowed to send. */
		ASSERT(waiting + n <= WINDOW_MAX);
		while (size < waiting + n)
			size *= 2;
		grown = realloc(s->kept, size);
		if (!grown)
			return -ENOMEM;
		s->kept = grown;
		s->kept_size = size;
	}
	memcpy(s->kept + s->kept_end, p, n);
	s->kept_end += n;
	return 0;
}

static int keep_pieces(struct sink *s)
{
	for (uint32_t i = 0; i < s->piece_count; i++) {
		int rc = keep(s, s->pieces[i].iov_base, (uint32_t)s->pieces[i].iov_len);

		if (rc < 0)
			return rc;
	}
	s->piece_count = s->piece_bytes = 0;
	return 0;
}

int sink_put(struct sink *s, struct bytes piece)
{
	ASSERT(s->state == SINK_OPEN);
	if (s->piece_count == SINK_PIECES) {
		int rc = keep_pieces(s);

		if (rc < 0)
			return rc;
	}
	s->pieces[s->piece_count++] = (struct iovec){.iov_base = (void *)(uintptr_t)piece.p, .iov_len = piece.n};
	s->piece_bytes += (uint32_t)piece.n;
	return 0;
}

/* One system call. Bytes written, 0 for none at the moment, negative errno. */
static ssize_t write_once(struct sink *s, const struct iovec *iov, int count, size_t total)
{
	ssize_t n;

	do {
		n = count == 1 ? write(s->fd, iov[0].iov_base, iov[0].iov_len) : writev(s->fd, iov, count);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN)
		return errno == ENOMEM ? -ENOMEM : -EPIPE;
	s->is_writable = n == (ssize_t)total;
	return n > 0 ? n : 0;
}

static ssize_t flush_kept(struct sink *s)
{
	struct iovec iov = {.iov_base = s->kept + s->kept_at, .iov_len = s->kept_end - s->kept_at};
	ssize_t n = iov.iov_len > 0 ? write_once(s, &iov, 1, iov.iov_len) : 0;

	if (n <= 0)
		return n;
	s->kept_at += (uint32_t)n;
	if (s->kept_at == s->kept_end)
		s->kept_at = s->kept_end = 0;
	return n;
}

/* Drops the first n bytes of the pieces. */
static void pieces_skip(struct sink *s, size_t n)
{
	uint32_t i = 0;

	s->piece_bytes -= (uint32_t)n;
	while (i < s->piece_count && n >= s->pieces[i].iov_len)
		n -= s->pieces[i++].iov_len;
	s->piece_count -= i;
	memmove(s->pieces, s->pieces + i, s->piece_count * sizeof(s->pieces[0]));
	if (n > 0) {
		s->pieces[0].iov_base = (uint8_t *)s->pieces[0].iov_base + n;
		s->pieces[0].iov_len -= n;
	}
}

ssize_t sink_flush(struct sink *s)
{
	ssize_t done = 0, n;

	if (s->state == SINK_CLOSED)
		return 0;
	if (s->kept_end > s->kept_at && s->is_writable) {
		n = flush_kept(s);
		if (n < 0)
			return n;
		done += n;
	}
	if (s->piece_count > 0 && s->is_writable && s->kept_end == s->kept_at) {
		n = write_once(s, s->pieces, (int)s->piece_count, s->piece_bytes);
		if (n < 0)
			return n;
		pieces_skip(s, (size_t)n);
		done += n;
	}
	s->written_bytes += (uint64_t)done;
	n = keep_pieces(s);
	return n < 0 ? n : done;
}
