/*
 * procd/source.c - see source.h.
 */
#include "procd/source.h"

#include "procd/channel.h"
#include "procd/session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* A terminal gives at most this at once. */
#define TERMINAL_READ 4096
#define TERMINAL_READS 4

void source_init(struct source *s, int fd, enum source_kind kind, uint32_t stream)
{
	s->fd = fd;
	s->kind = kind;
	s->stream = stream;
	s->is_readable = s->is_hung_up = s->is_broken = s->is_enlarged = false;
	s->is_done = fd < 0;
	s->first = NULL;
	s->first_bytes = s->first_sent = 0;
	s->owed = 0;
	s->read_bytes = 0;
}

void source_put_first(struct source *s, uint8_t *text, uint32_t bytes)
{
	ASSERT(s->kind == SOURCE_TERMINAL && !s->first && s->read_bytes == 0);
	s->first = text;
	s->first_bytes = bytes;
}

void source_deinit(struct source *s)
{
	free(s->first);
	s->first = NULL;
}

void source_on_events(struct source *s, uint32_t events)
{
	if (events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP | EPOLLERR))
		s->is_readable = true;
	if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR))
		s->is_hung_up = true;
}

bool source_has_output(const struct source *s, const struct channel *c)
{
	return (s->is_readable || s->first) && !s->is_done && c->send_credit > 0;
}

void source_owe(struct source *s)
{
	int n = 0;

	if (s->is_done)
		return;
	if (ioctl(s->fd, FIONREAD, &n) == 0 && n > 0) {
		s->owed = (uint32_t)n;
		s->is_readable = true;
	}
}

static void source_end(struct source *s, bool is_broken)
{
	s->is_done = true;
	s->is_broken = is_broken;
	s->is_readable = false;
	s->owed = 0;
}

/* A read's result other than bytes. */
static void source_no_bytes(struct source *s, ssize_t result)
{
	if (result == -EAGAIN || result == -EINTR) {
		s->is_readable = result == -EINTR;
		/* What was owed was taken by somebody else who reads there. */
		s->owed = 0;
	} else if (result == -EIO && s->kind == SOURCE_TERMINAL) {
		source_end(s, false); /* nobody has the other side open */
	} else {
		source_end(s, result < 0);
	}
}

static void source_read(struct source *s, struct channel *c, uint32_t n)
{
	c->send_credit -= n;
	s->read_bytes += n;
	s->owed -= n < s->owed ? n : s->owed;
	if (s->kind == SOURCE_PIPE && !s->is_enlarged && s->read_bytes >= PIPE_BULK_BYTES) {
		s->is_enlarged = true;
		/* Fewer switches between its writer and us. Over the user's allowance it fails, and that is fine. */
		(void)fcntl(s->fd, F_SETPIPE_SZ, PIPE_BYTES);
	}
}

static bool first_emit(struct source *s, struct channel *c)
{
	struct outq *q = &c->session->out;
	uint32_t n = s->first_bytes - s->first_sent;
	uint8_t *p;

	if (n > TERMINAL_READ * TERMINAL_READS)
		n = TERMINAL_READ * TERMINAL_READS;
	if (n > c->send_credit)
		n = c->send_credit;
	p = outq_urgent_reserve(q, n);
	if (!p)
		return false;
	memcpy(p, s->first + s->first_sent, n);
	outq_urgent_commit(q, c->number, s->stream, n);
	c->send_credit -= n;
	s->first_sent += n;
	if (s->first_sent == s->first_bytes)
		source_deinit(s);
	return true;
}

/* Terminals: small reads, into the urgent frames. */
static bool terminal_emit(struct source *s, struct channel *c)
{
	struct outq *q = &c->session->out;
	uint32_t want = TERMINAL_READ * TERMINAL_READS, n = 0;
	uint8_t *p;

	if (want > c->send_credit)
		want = c->send_credit;
	p = outq_urgent_reserve(q, want);
	if (!p)
		return false;
	while (n < want && s->is_readable) {
		ssize_t got = read(s->fd, p + n, want - n);

		if (got <= 0)
			source_no_bytes(s, got < 0 ? -errno : 0);
		else
			n += (uint32_t)got;
	}
	if (n == 0)
		return false;
	outq_urgent_commit(q, c->number, s->stream, n);
	source_read(s, c, n);
	return true;
}

bool source_emit(struct source *s, struct channel *c, uint32_t frames)
{
	uint32_t asked;
	ssize_t n;

	if (!source_has_output(s, c))
		return false;
	if (s->first)
		return first_emit(s, c);
	if (s->kind == SOURCE_TERMINAL)
		return terminal_emit(s, c);
	n = outq_read(&c->session->out, s->fd, c->number, s->stream, frames, c->send_credit, &asked);
	if (n <= 0) {
		if (n != -ENOMEM && n != -ENOBUFS)
			source_no_bytes(s, n);
		return false;
	}
	/*
	 * Fewer bytes than asked for: a pipe is empty, and more will be an event. An end that was announced is not. A socket may hold
	 * more: a read stops at urgent data, and behind descriptors that were passed along.
	 */
	if ((uint32_t)n < asked && s->kind == SOURCE_PIPE)
		s->is_readable = s->is_hung_up;
	source_read(s, c, (uint32_t)n);
	return true;
}
