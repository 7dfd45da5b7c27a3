/*
 * procd/outq.c - see outq.h.
 */
#include "procd/outq.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define PARTS_MAX (2 * BATCH_FRAMES)

void outq_init(struct outq *q, int fd)
{
	memset(q, 0, sizeof(*q));
	q->fd = fd;
}

void outq_deinit(struct outq *q)
{
	free(q->urgent);
	free(q->data);
	q->urgent = q->data = NULL;
}

/* --- urgent frames --- */

/* Room for n bytes behind the urgent ones; moves them. */
static uint8_t *urgent_room(struct outq *q, uint32_t n)
{
	uint32_t waiting = q->urgent_end - q->urgent_at, size = 1024;
	uint8_t *p;

	if (waiting + n > URGENT_BYTES_MAX)
		return NULL;
	if (q->urgent_end + n <= q->urgent_size)
		return q->urgent + q->urgent_end;
	while (size < waiting + n)
		size *= 2;
	p = malloc(size);
	if (!p)
		return NULL;
	if (waiting > 0)
		memcpy(p, q->urgent + q->urgent_at, waiting);
	free(q->urgent);
	q->urgent = p;
	q->urgent_size = size;
	q->urgent_at = 0;
	q->urgent_end = waiting;
	return p + waiting;
}

int outq_urgent(struct outq *q, const struct frame *f)
{
	uint8_t *p = urgent_room(q, FRAME_SMALL_MAX);
	ssize_t n;

	if (!p)
		return -ENOBUFS;
	n = frame_encode(f, p, FRAME_SMALL_MAX);
	if (n < 0)
		return (int)n;
	q->urgent_end += (uint32_t)n;
	return 0;
}

uint8_t *outq_urgent_reserve(struct outq *q, uint32_t n)
{
	uint8_t *p;

	if (q->urgent_end - q->urgent_at >= URGENT_BYTES_FULL)
		return NULL;
	ASSERT(n <= FRAME_DATA_MAX);
	p = urgent_room(q, FRAME_DATA_HEADER_MAX + n);
	return p ? p + FRAME_DATA_HEADER_MAX : NULL;
}

void outq_urgent_commit(struct outq *q, uint32_t channel, uint32_t stream, uint32_t n)
{
	uint8_t *p = q->urgent + q->urgent_end;
	size_t head = frame_encode_data_head(channel, stream, n, p);

	/* Terminals write little at once: closing the gap is cheaper than a head of its own piece. */
	memmove(p + head, p + FRAME_DATA_HEADER_MAX, n);
	q->urgent_end += (uint32_t)head + n;
}

/* --- the batch --- */

uint32_t outq_room(const struct outq *q)
{
	/* Once a part is sent the batch is not added to: its memory is used again from the start when it is gone. */
	if (q->part_at > 0 || q->part_offset > 0)
		return 0;
	return BATCH_FRAMES - q->small_count;
}

static uint8_t *small_take(struct outq *q)
{
	ASSERT(q->small_count < BATCH_FRAMES);
	return q->small[q->small_count++];
}

static void part_add(struct outq *q, const uint8_t *p, uint32_t n, bool ends_frame)
{
	ASSERT(q->part_end < PARTS_MAX && n > 0);
	q->parts[q->part_end++] = (struct outq_part){.p = p, .n = n, .ends_frame = ends_frame};
}

void outq_add(struct outq *q, const struct frame *f)
{
	uint8_t *p = small_take(q);
	ssize_t n = frame_encode(f, p, BATCH_SMALL_BYTES);

	ASSERT(n > 0);
	part_add(q, p, (uint32_t)n, true);
}

void outq_add_borrowed(struct outq *q, uint32_t channel, uint32_t stream, const uint8_t *p, uint32_t n)
{
	uint8_t *head = small_take(q);

	part_add(q, head, (uint32_t)frame_encode_data_head(channel, stream, n, head), false);
	part_add(q, p, n, true);
}

ssize_t outq_read(struct outq *q, int fd, uint32_t channel, uint32_t stream, uint32_t frames, uint32_t max,
		  uint32_t *ret_asked)
{
	struct iovec iov[BATCH_FRAMES];
	uint32_t asked = 0, left;
	int count = 0;
	ssize_t n;

	if (!q->data)
		q->data = malloc(BATCH_BYTES);
	if (!q->data)
		return -ENOMEM;
	while ((uint32_t)count < frames && asked < max && q->data_used + asked < BATCH_BYTES) {
		uint32_t size = FRAME_DATA_MAX;

		if (size > max - asked)
			size = max - asked;
		if (size > BATCH_BYTES - q->data_used - asked)
			size = BATCH_BYTES - q->data_used - asked;
		iov[count++] = (struct iovec){.iov_base = q->data + q->data_used + asked, .iov_len = size};
		asked += size;
	}
	*ret_asked = asked;
	if (count == 0)
		return -ENOBUFS;
	n = count == 1 ? read(fd, iov[0].iov_base, iov[0].iov_len) : readv(fd, iov, count);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	left = (uint32_t)n;
	for (int i = 0; left > 0; i++) {
		uint32_t size = left < iov[i].iov_len ? left : (uint32_t)iov[i].iov_len;

		outq_add_borrowed(q, channel, stream, iov[i].iov_base, size);
		left -= size;
	}
	q->data_used += (uint32_t)n;
	return n;
}

/* --- sending --- */

bool outq_is_empty(const struct outq *q)
{
	return q->urgent_at == q->urgent_end && q->part_at == q->part_end;
}

static int add_iov(struct iovec *iov, int count, const uint8_t *p, uint32_t n)
{
	iov[count] = (struct iovec){.iov_base = (void *)(uintptr_t)p, .iov_len = n};
	return count + 1;
}

/* Lays out what to send, in order. *ret_first_parts: the batch's parts that go before the urgent frames. */
static int layout(const struct outq *q, struct iovec iov[PARTS_MAX + 1], uint32_t *ret_first_parts)
{
	uint32_t urgent = q->urgent_end - q->urgent_at, i = q->part_at, skip = q->part_offset;
	bool is_mid_frame = i > 0 && (skip > 0 || !q->parts[i - 1].ends_frame);
	int count = 0;

	is_mid_frame = is_mid_frame || (i == 0 && skip > 0);
	*ret_first_parts = 0;
	if (urgent > 0 && is_mid_frame && !q->urgent_is_cut) {
		bool is_end;

		do {
			count = add_iov(iov, count, q->parts[i].p + skip, q->parts[i].n - skip);
			is_end = q->parts[i].ends_frame;
			skip = 0;
			i++;
			(*ret_first_parts)++;
		} while (!is_end);
	}
	if (urgent > 0)
		count = add_iov(iov, count, q->urgent + q->urgent_at, urgent);
	for (; i < q->part_end; i++, skip = 0)
		count = add_iov(iov, count, q->parts[i].p + skip, q->parts[i].n - skip);
	return count;
}

/* Takes up to n bytes off the batch's next `parts` parts; returns how many of n are left over. */
static size_t parts_sent(struct outq *q, uint32_t parts, size_t n)
{
	while (n > 0 && parts > 0) {
		uint32_t left = q->parts[q->part_at].n - q->part_offset;

		if (n < left) {
			q->part_offset += (uint32_t)n;
			return 0;
		}
		n -= left;
		q->part_offset = 0;
		q->part_at++;
		parts--;
	}
	return n;
}

static void sent(struct outq *q, size_t n, uint32_t first_parts)
{
	uint32_t urgent = q->urgent_end - q->urgent_at;

	q->sent_bytes += n;
	n = parts_sent(q, first_parts, n);
	if (n > 0 && urgent > 0) {
		uint32_t take = n < urgent ? (uint32_t)n : urgent;

		q->urgent_at += take;
		n -= take;
		q->urgent_is_cut = q->urgent_at < q->urgent_end;
		if (!q->urgent_is_cut)
			q->urgent_at = q->urgent_end = 0;
	}
	n = parts_sent(q, q->part_end - q->part_at, n);
	ASSERT(n == 0);
}

/* A terminal's burst leaves no memory behind. */
static void urgent_trim(struct outq *q)
{
	if (q->urgent_end > 0 || q->urgent_size <= 16 * FRAME_SMALL_MAX)
		return;
	free(q->urgent);
	q->urgent = NULL;
	q->urgent_size = 0;
}

int outq_send(struct outq *q)
{
	struct iovec iov[PARTS_MAX + 1];
	struct msghdr msg = {.msg_iov = iov};
	uint32_t first_parts;
	size_t total = 0;
	ssize_t n;
	int count;

	if (q->is_blocked || outq_is_empty(q))
		return 0;
	count = layout(q, iov, &first_parts);
	for (int i = 0; i < count; i++)
		total += iov[i].iov_len;
	msg.msg_iovlen = (size_t)count;
	do {
		n = sendmsg(q->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN)
		return -errno;
	/* Less than all was taken: the next call would only say EAGAIN. */
	q->is_blocked = n < (ssize_t)total;
	if (n > 0)
		sent(q, (size_t)n, first_parts);
	urgent_trim(q);
	if (q->part_at < q->part_end || q->part_end == 0)
		return 0;
	q->part_at = q->part_end = 0;
	q->small_count = q->data_used = 0;
	return 1;
}
