/*
 * tests/fuzz/fuzz_frame.c - libFuzzer target for the procd codec's reader and the ticket decoder.
 *
 * The first byte says where the input is cut. What is decoded must not depend on that: both readings are compared.
 */
#include "upstream/procd/frame.h"
#include "upstream/procd/proof.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

struct sum {
	uint64_t hash;
	uint32_t left;
};

static void add(struct sum *s, uint64_t v)
{
	s->hash = (s->hash ^ v) * 0x100000001b3u;
}

static void add_bytes(struct sum *s, struct bytes b)
{
	add(s, b.n);
	for (size_t i = 0; i < b.n; i++)
		add(s, b.p[i]);
}

static int on_frame(void *ctx, const struct frame *f)
{
	struct sum *s = ctx;

	ASSERT(s->left == 0);
	add(s, f->type);
	add(s, f->channel);
	if (f->type == FRAME_OPEN) {
		add_bytes(s, f->open.kind);
		add_bytes(s, f->open.options.command);
		for (uint32_t i = 0; i < f->open.options.env_count; i++) {
			add_bytes(s, f->open.options.env[i].name);
			add_bytes(s, f->open.options.env[i].value);
		}
	}
	return 0;
}

static int on_data(void *ctx, uint32_t channel, uint32_t stream, struct bytes piece, uint32_t left)
{
	struct sum *s = ctx;

	ASSERT(piece.n > 0 && piece.n + left <= FRAME_DATA_MAX && channel > 0);
	ASSERT(s->left == 0 || s->left == piece.n + left);
	for (size_t i = 0; i < piece.n; i++)
		add(s, piece.p[i]);
	s->left = left;
	return 0;
}

static const struct frame_sink sink = {.on_frame = on_frame, .on_data = on_data};

/* Reads in steps of `step` bytes, each from memory of its own. */
static int run(const uint8_t *p, size_t n, size_t step, struct sum *s)
{
	struct frame_reader r;
	int rc = 0;

	*s = (struct sum){.hash = 0xcbf29ce484222325u};
	frame_reader_init(&r, &sink, s);
	for (size_t at = 0; at < n && rc == 0;) {
		size_t take = n - at < step ? n - at : step;
		uint8_t *copy = malloc(take);

		ASSERT(copy);
		memcpy(copy, p + at, take);
		rc = frame_reader_feed(&r, copy, take);
		free(copy);
		at += take;
	}
	frame_reader_deinit(&r);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct ticket t;
	struct sum whole, cut;
	int a, b;

	if (n < 1)
		return 0;
	a = run(p + 1, n - 1, n, &whole);
	b = run(p + 1, n - 1, 1u + p[0], &cut);
	ASSERT((a < 0) == (b < 0) && whole.hash == cut.hash);
	(void)!ticket_decode(bytes_of(p + 1, n - 1), &t);
	return 0;
}
