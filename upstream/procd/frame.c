/*
 * upstream/procd/frame.c - cutting a byte stream into frames.
 *
 * DATA is parsed by hand up to its payload, which passes through in the pieces in which it came: nothing is copied and
 * nothing allocated. Every other frame is scanned until its end is known (frame_scan), then decoded by msgpack-c
 * (frame_decode.c). A frame is copied to `partial` only when the bytes fed end inside it; then only as much is taken as the
 * scan asks for, so that what follows the frame is again read in place.
 */
#include "upstream/procd/frame.h"

#include "upstream/procd/frame_decode.h"

#include <errno.h>
#include <stdlib.h>

#define PARTIAL_MIN 256
/* Array, type, channel, stream and payload headers, each in its widest encoding. */
#define HEAD_MAX (5 + 9 + 9 + 9 + 5)

/* What a step of the scan found besides errors: the frame goes on past the bytes at hand, or it is whole. */
#define SCAN_MORE 0
#define SCAN_WHOLE 1

void frame_reader_init(struct frame_reader *r, const struct frame_sink *sink, void *ctx)
{
	memset(r, 0, sizeof(*r));
	r->sink = sink;
	r->ctx = ctx;
}

void frame_reader_deinit(struct frame_reader *r)
{
	free(r->partial);
	r->partial = NULL;
	r->partial_bytes = r->partial_size = 0;
	r->error = "the reader was closed";
}

const char *frame_reader_error(const struct frame_reader *r)
{
	return r->error ? r->error : "no error";
}

bool frame_reader_is_between(const struct frame_reader *r)
{
	return r->data_left == 0 && r->partial_bytes == 0 && !r->is_tail;
}

static int fail(struct frame_reader *r, int error, const char *why)
{
	r->error = why;
	return error;
}

static uint64_t load_be(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | *p++;
	return v;
}

/* --- single msgpack items --- */

/* Bytes of an item's header: its first byte, and the length or number that follows it. 0: no such item exists. */
static size_t item_head_bytes(uint8_t first)
{
	static const uint8_t from_c0[32] = {
		[0x00] = 1,                                                   /* nil; c1 is never used */
		[0x02] = 1, [0x03] = 1,                                       /* false, true */
		[0x04] = 2, [0x05] = 3, [0x06] = 5,                           /* bin */
		[0x07] = 3, [0x08] = 4, [0x09] = 6,                           /* ext and its type */
		[0x0a] = 5, [0x0b] = 9,                                       /* float */
		[0x0c] = 2, [0x0d] = 3, [0x0e] = 5, [0x0f] = 9,               /* uint */
		[0x10] = 2, [0x11] = 3, [0x12] = 5, [0x13] = 9,               /* int */
		[0x14] = 3, [0x15] = 4, [0x16] = 6, [0x17] = 10, [0x18] = 18, /* fixext */
		[0x19] = 2, [0x1a] = 3, [0x1b] = 5,                           /* str */
		[0x1c] = 3, [0x1d] = 5, [0x1e] = 3, [0x1f] = 5,               /* array, map */
	};

	return first >= 0xc0 && first <= 0xdf ? from_c0[first - 0xc0] : 1;
}

/* What follows a header that is wholly there: bytes of payload, and items inside it. */
static void item_measure(const uint8_t *p, uint64_t *ret_payload, uint64_t *ret_items)
{
	*ret_payload = *ret_items = 0;
	if (p[0] >= 0xa0 && p[0] <= 0xbf)
		*ret_payload = p[0] & 0x1f;
	else if (p[0] >= 0x80 && p[0] <= 0x8f)
		*ret_items = 2 * (uint64_t)(p[0] & 0x0f);
	else if (p[0] >= 0x90 && p[0] <= 0x9f)
		*ret_items = p[0] & 0x0f;
	else if (p[0] >= 0xc4 && p[0] <= 0xc9)
		*ret_payload = load_be(p + 1, (size_t)1 << ((p[0] - 0xc4) % 3));
	else if (p[0] >= 0xd9 && p[0] <= 0xdb)
		*ret_payload = load_be(p + 1, (size_t)1 << (p[0] - 0xd9));
	else if (p[0] == 0xdc || p[0] == 0xdd)
		*ret_items = load_be(p + 1, p[0] == 0xdc ? 2 : 4);
	else if (p[0] == 0xde || p[0] == 0xdf)
		*ret_items = 2 * load_be(p + 1, p[0] == 0xde ? 2 : 4);
}

/* Bytes of the header at p when there are that many; 0 for more needed (*ret_need in all), -EPROTO. */
static ssize_t head_at(const uint8_t *p, size_t at, size_t n, size_t *ret_need)
{
	size_t bytes = at < n ? item_head_bytes(p[at]) : 1;

	if (bytes == 0)
		return -EPROTO;
	if (at + bytes <= n)
		return (ssize_t)bytes;
	*ret_need = at + bytes;
	return 0;
}

/* The same for an unsigned int of at most 32 bits. */
static ssize_t uint_at(const uint8_t *p, size_t at, size_t n, size_t *ret_need, uint32_t *ret_value)
{
	ssize_t bytes = head_at(p, at, n, ret_need);
	uint64_t v;

	if (bytes <= 0)
		return bytes;
	if (p[at] <= 0x7f)
		v = p[at];
	else if (p[at] >= 0xcc && p[at] <= 0xcf)
		v = load_be(p + at + 1, (size_t)bytes - 1);
	else
		return -EPROTO;
	if (v > UINT32_MAX)
		return -EPROTO;
	*ret_value = (uint32_t)v;
	return bytes;
}

/* --- the head of a frame --- */

struct head {
	uint32_t items; /* of the frame's array */
	uint32_t type, channel;
	uint32_t stream, payload_bytes; /* DATA */
	size_t bytes;
};

static int data_head_parse(struct frame_reader *r, const uint8_t *p, size_t n, struct head *h, size_t *ret_need)
{
	uint64_t payload, items;
	ssize_t k;

	if (h->items < 4)
		return fail(r, -EPROTO, "DATA without a payload");
	if (h->channel == 0)
		return fail(r, -EPROTO, "DATA on channel 0");
	k = uint_at(p, h->bytes, n, ret_need, &h->stream);
	if (k <= 0)
		return k < 0 ? fail(r, -EPROTO, "DATA's stream is no unsigned int") : SCAN_MORE;
	h->bytes += (size_t)k;
	k = head_at(p, h->bytes, n, ret_need);
	if (k < 0 || (h->bytes < n && (p[h->bytes] < 0xc4 || p[h->bytes] > 0xc6)))
		return fail(r, -EPROTO, "DATA's payload is not bin");
	if (k == 0)
		return SCAN_MORE;
	item_measure(p + h->bytes, &payload, &items);
	h->bytes += (size_t)k;
	if (payload > FRAME_DATA_MAX)
		return fail(r, -EMSGSIZE, "DATA's payload is too large");
	h->payload_bytes = (uint32_t)payload;
	return SCAN_WHOLE;
}

/* Array, type and channel; for DATA all up to its payload. Starts over at each call: there are few bytes to see. */
static int head_parse(struct frame_reader *r, const uint8_t *p, size_t n, struct head *h, size_t *ret_need)
{
	uint64_t payload, items;
	ssize_t k = head_at(p, 0, n, ret_need);

	if (n > 0 && !((p[0] >= 0x90 && p[0] <= 0x9f) || p[0] == 0xdc || p[0] == 0xdd))
		return fail(r, -EPROTO, "a frame is not an array");
	if (k <= 0)
		return SCAN_MORE;
	item_measure(p, &payload, &items);
	if (items < 2)
		return fail(r, -EPROTO, "a frame without type and channel");
	if (items > FRAME_ITEMS_MAX)
		return fail(r, -EMSGSIZE, "a frame has too many fields");
	h->items = (uint32_t)items;
	h->bytes = (size_t)k;
	k = uint_at(p, h->bytes, n, ret_need, &h->type);
	if (k <= 0)
		return k < 0 ? fail(r, -EPROTO, "a frame's type is no unsigned int") : SCAN_MORE;
	h->bytes += (size_t)k;
	if (h->type < FRAME_IGNORABLE && !frame_type_is_known(h->type))
		return fail(r, -EPROTO, "a frame of unknown type");
	k = uint_at(p, h->bytes, n, ret_need, &h->channel);
	if (k <= 0)
		return k < 0 ? fail(r, -EPROTO, "a frame's channel is no unsigned int") : SCAN_MORE;
	h->bytes += (size_t)k;
	return h->type == FRAME_DATA ? data_head_parse(r, p, n, h, ret_need) : SCAN_WHOLE;
}

/* --- the end of a frame --- */

/* Begins a scan of `items` items at offset `at` of the frame. */
static void scan_begin(struct frame_reader *r, size_t at, uint32_t items, uint32_t limit_bytes)
{
	r->is_scanning = true;
	r->scanned_bytes = (uint32_t)at;
	r->limit_bytes = limit_bytes;
	r->item_count = items;
	r->open_counts[0] = items;
	r->depth = 0;
}

/* Enters an item's inside. */
static int scan_push(struct frame_reader *r, uint32_t items)
{
	if (r->depth == FRAME_DEPTH_MAX)
		return fail(r, -EPROTO, "a frame is nested too deeply");
	r->open_counts[++r->depth] = items;
	return 0;
}

static int scan_item(struct frame_reader *r, const uint8_t *p, size_t head_bytes)
{
	uint64_t payload, items, end;

	item_measure(p + r->scanned_bytes, &payload, &items);
	end = (uint64_t)r->scanned_bytes + head_bytes + payload;
	if (end + items > r->limit_bytes)
		return fail(r, -EMSGSIZE, "a frame is too large");
	if (items > FRAME_ITEMS_MAX - r->item_count)
		return fail(r, -EMSGSIZE, "a frame has too many fields");
	r->item_count += (uint32_t)items;
	r->open_counts[r->depth]--;
	r->scanned_bytes = (uint32_t)end;
	return items > 0 ? scan_push(r, (uint32_t)items) : 0;
}

/* Goes on with the scan over the n bytes from the frame's start on. May step past n: then *ret_need says how many it takes. */
static int scan_run(struct frame_reader *r, const uint8_t *p, size_t n, size_t *ret_need)
{
	for (;;) {
		ssize_t head;
		int rc;

		while (r->depth > 0 && r->open_counts[r->depth] == 0)
			r->depth--;
		if (r->open_counts[r->depth] == 0) {
			*ret_need = r->scanned_bytes;
			return r->scanned_bytes <= n ? SCAN_WHOLE : SCAN_MORE;
		}
		head = head_at(p, r->scanned_bytes, n, ret_need);
		if (head < 0)
			return fail(r, -EPROTO, "bytes that are no msgpack");
		if (head == 0)
			return *ret_need > r->limit_bytes ? fail(r, -EMSGSIZE, "a frame is too large") : SCAN_MORE;
		rc = scan_item(r, p, (size_t)head);
		if (rc < 0)
			return rc;
	}
}

bool frame_is_one_item(struct bytes b)
{
	struct frame_reader r = {0};
	size_t need;

	if (b.n == 0 || b.n > FRAME_OTHER_MAX)
		return false;
	scan_begin(&r, 0, 1, (uint32_t)b.n);
	return scan_run(&r, b.p, b.n, &need) == SCAN_WHOLE && r.scanned_bytes == b.n;
}

/* --- feeding --- */

static void data_begin(struct frame_reader *r, const struct head *h)
{
	r->data_channel = h->channel;
	r->data_stream = h->stream;
	r->data_left = h->payload_bytes;
	r->is_tail = h->items > 4;
	r->tail_items = h->items - 4;
}

/*
 * One step at the n bytes from a frame's start on: SCAN_MORE with *ret_need; SCAN_WHOLE with *ret_bytes taken, all of the
 * frame or DATA's head; or an error.
 */
static int frame_step(struct frame_reader *r, const uint8_t *p, size_t n, size_t *ret_bytes, size_t *ret_need)
{
	struct head h;
	int rc;

	if (!r->is_scanning && r->is_tail)
		scan_begin(r, 0, r->tail_items, FRAME_OTHER_MAX);
	if (!r->is_scanning) {
		rc = head_parse(r, p, n, &h, ret_need);
		if (rc != SCAN_WHOLE)
			return rc;
		if (h.type == FRAME_DATA) {
			data_begin(r, &h);
			*ret_bytes = h.bytes;
			return SCAN_WHOLE;
		}
		r->type = h.type;
		scan_begin(r, h.bytes, h.items - 2, h.type == FRAME_OPEN ? FRAME_OPEN_MAX : FRAME_OTHER_MAX);
	}
	rc = scan_run(r, p, n, ret_need);
	if (rc != SCAN_WHOLE)
		return rc;
	*ret_bytes = r->scanned_bytes;
	r->is_scanning = false;
	if (r->is_tail) { /* DATA's fields after its payload: of a later version */
		r->is_tail = false;
		return SCAN_WHOLE;
	}
	if (r->type >= FRAME_IGNORABLE)
		return SCAN_WHOLE;
	rc = frame_decode(p, r->scanned_bytes, r->sink, r->ctx, &r->error);
	return rc < 0 ? rc : SCAN_WHOLE;
}

/* Makes room for `need` bytes of a cut frame. need <= the limit of its type. */
static int partial_grow(struct frame_reader *r, size_t need)
{
	size_t size = r->partial_size ? 2 * (size_t)r->partial_size : PARTIAL_MIN;
	uint8_t *p;

	if (need <= r->partial_size)
		return 0;
	if (size > FRAME_OPEN_MAX)
		size = FRAME_OPEN_MAX;
	if (size < need)
		size = need;
	p = realloc(r->partial, size);
	if (!p)
		return fail(r, -ENOMEM, "out of memory");
	r->partial = p;
	r->partial_size = (uint32_t)size;
	return 0;
}

/* A frame's bytes go on in the next feed, or it began in an earlier one. Takes from p what the frame needs. */
static int partial_feed(struct frame_reader *r, const uint8_t *p, size_t n, size_t *ret_taken)
{
	size_t taken = 0, bytes = 0;

	for (;;) {
		size_t need = 0, take;
		int rc = frame_step(r, r->partial, r->partial_bytes, &bytes, &need);

		if (rc < 0)
			return rc;
		if (rc == SCAN_WHOLE)
			break;
		ASSERT(need > r->partial_bytes && need <= FRAME_OPEN_MAX + HEAD_MAX);
		take = need - r->partial_bytes < n - taken ? need - r->partial_bytes : n - taken;
		if (take == 0) {
			*ret_taken = taken;
			return 0;
		}
		rc = partial_grow(r, r->partial_bytes + take);
		if (rc < 0)
			return rc;
		memcpy(r->partial + r->partial_bytes, p + taken, take);
		r->partial_bytes += (uint32_t)take;
		taken += take;
	}
	ASSERT(bytes == r->partial_bytes);
	free(r->partial);
	r->partial = NULL;
	r->partial_bytes = r->partial_size = 0;
	*ret_taken = taken;
	return 0;
}

static int data_feed(struct frame_reader *r, const uint8_t *p, size_t n, size_t *ret_taken)
{
	uint32_t take = n < r->data_left ? (uint32_t)n : r->data_left;
	int rc;

	r->data_left -= take;
	*ret_taken = take;
	rc = r->sink->on_data(r->ctx, r->data_channel, r->data_stream, bytes_of(p, take), r->data_left);
	return rc < 0 ? fail(r, rc, "DATA was not accepted") : 0;
}

/* At a frame's first byte: reads in place as long as all of the frame is here. */
static int whole_feed(struct frame_reader *r, const uint8_t *p, size_t n, size_t *ret_taken)
{
	size_t need = 0;
	int rc = frame_step(r, p, n, ret_taken, &need);

	if (rc != SCAN_MORE)
		return rc < 0 ? rc : 0;
	rc = partial_grow(r, n);
	if (rc < 0)
		return rc;
	memcpy(r->partial, p, n);
	r->partial_bytes = (uint32_t)n;
	*ret_taken = n;
	return 0;
}

int frame_reader_feed(struct frame_reader *r, const uint8_t *p, size_t n)
{
	if (r->error)
		return -EPROTO;
	while (n > 0) {
		size_t taken = 0;
		int rc;

		if (r->data_left > 0)
			rc = data_feed(r, p, n, &taken);
		else if (r->partial_bytes > 0)
			rc = partial_feed(r, p, n, &taken);
		else
			rc = whole_feed(r, p, n, &taken);
		if (rc < 0) {
			if (!r->error)
				r->error = "a frame was not accepted";
			return rc;
		}
		p += taken;
		n -= taken;
	}
	return 0;
}
