/*
 * tests/unit/upstream/test_frame.c - the procd codec: all frames there and back, cut at every place, limits, garbage.
 */
#include "upstream/procd/frame.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define TEXT_MAX (8u * 1024 * 1024)

/* What a reader handed out, written down as text, so that two runs can be compared. DATA's pieces are joined. */
struct seen {
	char *text;
	size_t n;
	uint32_t frames, payload_bytes;
	uint32_t data_channel, data_left;
	int stop_with; /* on_frame returns this */
};

static void note(struct seen *s, const void *p, size_t n)
{
	assert_true(s->n + n < TEXT_MAX);
	memcpy(s->text + s->n, p, n);
	s->n += n;
}

static void note_u64(struct seen *s, uint64_t v)
{
	char b[24];

	note(s, b, (size_t)snprintf(b, sizeof(b), "%llu,", (unsigned long long)v));
}

static void note_bytes(struct seen *s, struct bytes b)
{
	note_u64(s, b.n);
	if (b.n > 0)
		note(s, b.p, b.n);
}

static void note_open(struct seen *s, const struct frame *f)
{
	const struct frame_open_options *o = &f->open.options;

	note_bytes(s, f->open.kind);
	note_u64(s, f->open.credit);
	note_u64(s, o->has_pty);
	note_bytes(s, o->pty.term);
	note_u64(s, o->pty.columns);
	note_u64(s, o->pty.rows);
	note_u64(s, o->pty.xpixels);
	note_u64(s, o->pty.ypixels);
	note_bytes(s, o->pty.modes);
	for (uint32_t i = 0; i < o->env_count; i++) {
		note_bytes(s, o->env[i].name);
		note_bytes(s, o->env[i].value);
	}
	note_bytes(s, o->command);
	note_bytes(s, o->name);
	note_bytes(s, o->host);
	note_bytes(s, o->originator_host);
	note_bytes(s, o->path);
	note_u64(s, o->port);
	note_u64(s, o->originator_port);
	note_u64(s, o->request);
	note_u64(s, o->session);
	note_u64(s, o->agent);
}

static void note_listen(struct seen *s, const struct frame *f)
{
	note_u64(s, f->listen.request);
	note_bytes(s, f->listen.kind);
	note_bytes(s, f->listen.address);
	note_u64(s, f->listen.port);
	note_bytes(s, f->listen.code);
	note_bytes(s, f->listen.message);
}

static void note_fields(struct seen *s, const struct frame *f)
{
	switch (f->type) {
	case FRAME_CHALLENGE:
		note_u64(s, f->challenge.version);
		note_bytes(s, f->challenge.nonce);
		break;
	case FRAME_HELLO:
		note_u64(s, f->hello.version);
		note_bytes(s, f->hello.ticket);
		note_bytes(s, f->hello.signature);
		break;
	case FRAME_WELCOME:
		note_u64(s, f->welcome.version);
		note_bytes(s, f->welcome.signature);
		break;
	case FRAME_ERROR:
	case FRAME_REFUSED:
	case FRAME_GOAWAY:
		note_bytes(s, f->error.code);
		note_bytes(s, f->error.message);
		break;
	case FRAME_PING:
	case FRAME_PONG:
		note_u64(s, f->opaque);
		break;
	case FRAME_OPEN:
		note_open(s, f);
		break;
	case FRAME_OPENED:
	case FRAME_CREDIT:
	case FRAME_EXIT:
		note_u64(s, f->credit);
		break;
	case FRAME_RESIZE:
		note_u64(s, f->resize.columns);
		note_u64(s, f->resize.rows);
		note_u64(s, f->resize.xpixels);
		note_u64(s, f->resize.ypixels);
		break;
	case FRAME_SIGNAL:
		note_bytes(s, f->signal);
		break;
	case FRAME_EXIT_SIGNAL:
		note_bytes(s, f->exit_signal.name);
		note_u64(s, f->exit_signal.core_dumped);
		note_bytes(s, f->exit_signal.message);
		break;
	case FRAME_LISTEN:
	case FRAME_LISTENING:
	case FRAME_LISTEN_REFUSED:
	case FRAME_UNLISTEN:
	case FRAME_UNLISTENED:
		note_listen(s, f);
		break;
	default:
		break;
	}
}

static int on_frame(void *ctx, const struct frame *f)
{
	struct seen *s = ctx;

	assert_int_equal(s->data_left, 0);
	s->frames++;
	note(s, "<", 1);
	note_u64(s, f->type);
	note_u64(s, f->channel);
	note_fields(s, f);
	return s->stop_with;
}

static int on_data(void *ctx, uint32_t channel, uint32_t stream, struct bytes piece, uint32_t left)
{
	struct seen *s = ctx;

	assert_true(piece.n > 0 && piece.n + left <= FRAME_DATA_MAX);
	if (s->data_left == 0) {
		note(s, "<D", 2);
		note_u64(s, channel);
		note_u64(s, stream);
		note_u64(s, piece.n + left);
		s->data_channel = channel;
	} else {
		assert_int_equal(s->data_left, piece.n + left);
		assert_int_equal(s->data_channel, channel);
	}
	s->data_left = left;
	s->payload_bytes += (uint32_t)piece.n;
	note(s, piece.p, piece.n);
	return 0;
}

static const struct frame_sink sink = {.on_frame = on_frame, .on_data = on_data};

static void seen_clear(struct seen *s)
{
	char *text = s->text;

	memset(s, 0, sizeof(*s));
	s->text = text ? text : malloc(TEXT_MAX);
	assert_non_null(s->text);
}

/* One of each type, with every field set. Returns the bytes in out. */
static size_t put(uint8_t *out, size_t at, size_t size, const struct frame *f)
{
	ssize_t n = frame_encode(f, out + at, size - at);

	assert_true(n > 0);
	return at + (size_t)n;
}

static size_t put_data(uint8_t *out, size_t at, uint32_t channel, uint32_t stream, uint32_t n)
{
	/* Both heads are read alike: the narrow one, and that of a fixed width. */
	if (n % 2 == 0) {
		frame_encode_data_head_wide(channel, stream, n, out + at);
		at += FRAME_DATA_HEADER_WIDE;
	} else {
		at += frame_encode_data_head(channel, stream, n, out + at);
	}
	for (uint32_t i = 0; i < n; i++)
		out[at + i] = (uint8_t)(i * 7 + channel);
	return at + n;
}

static void fill_open(struct frame *f, const struct frame_env *env, uint32_t env_count)
{
	*f = (struct frame){.type = FRAME_OPEN, .channel = 70000};
	f->open.kind = bytes_str("exec");
	f->open.credit = 65536;
	f->open.options = (struct frame_open_options){
		.has_pty = true,
		.pty = {bytes_str("xterm-256color"), 80, 24, 640, 480, bytes_of("\1\0\0\0\3\0", 6)},
		.env = env,
		.env_count = env_count,
		.command = bytes_of("printf '\xff\0'", 11),
		.name = bytes_str("sftp"),
		.host = bytes_str("localhost"),
		.originator_host = bytes_str("::1"),
		.path = bytes_str("/tmp/s"),
		.port = 65535,
		.originator_port = 1,
		.request = UINT64_MAX,
		.session = UINT32_MAX,
		.agent = true,
	};
}

static size_t all_frames(uint8_t *out, size_t size, uint32_t *ret_count)
{
	static const uint8_t blob[64] = {1, 2, 3};
	const struct frame_env env[] = {{bytes_str("LANG"), bytes_str("C.UTF-8")},
					{bytes_str("EMPTY"), bytes_of("", 0)}};
	struct frame f;
	struct frame simple[] = {
		{.type = FRAME_CHALLENGE, .challenge = {1, bytes_of(blob, 32)}},
		{.type = FRAME_HELLO, .hello = {1, bytes_of(blob, 60), bytes_of(blob, 64)}},
		{.type = FRAME_WELCOME, .welcome = {1, bytes_of(blob, 64)}},
		{.type = FRAME_ERROR, .error = {bytes_str("protocol"), bytes_str("what was that?")}},
		{.type = FRAME_PING, .opaque = UINT64_MAX},
		{.type = FRAME_PONG, .opaque = 127},
		{.type = FRAME_GOAWAY, .error = {.message = bytes_str("leaving")}},
		{.type = FRAME_OPENED, .channel = 2, .opened = {UINT32_MAX}},
		{.type = FRAME_REFUSED, .channel = 128, .error = {bytes_str("denied"), bytes_str("")}},
		{.type = FRAME_CREDIT, .channel = 256, .credit = 32768},
		{.type = FRAME_EOF, .channel = 65536},
		{.type = FRAME_RESIZE, .channel = 2, .resize = {132, 50, 1, 2}},
		{.type = FRAME_SIGNAL, .channel = 2, .signal = bytes_str("INT")},
		{.type = FRAME_EXIT, .channel = 2, .exit_status = 255},
		{.type = FRAME_EXIT_SIGNAL, .channel = 2, .exit_signal = {bytes_str("SEGV"), bytes_str("oh"), true}},
		{.type = FRAME_CLOSE, .channel = UINT32_MAX},
		{.type = FRAME_EOW, .channel = 2},
		{.type = FRAME_LISTEN, .listen = {7, bytes_str("tcp"), bytes_str("::"), 8080, {0}, {0}}},
		{.type = FRAME_LISTENING, .listen = {.request = 7, .port = 8080}},
		{.type = FRAME_LISTEN_REFUSED,
		 .listen = {.request = 7, .code = bytes_str("denied"), .message = bytes_str("no")}},
		{.type = FRAME_UNLISTEN, .listen = {.request = 7}},
		{.type = FRAME_UNLISTENED, .listen = {.request = 7}},
	};
	size_t n = 0;

	fill_open(&f, env, ARRAY_LEN(env));
	n = put(out, n, size, &f);
	for (size_t i = 0; i < ARRAY_LEN(simple); i++)
		n = put(out, n, size, &simple[i]);
	n = put_data(out, n, 2, 0, 1);
	n = put_data(out, n, 300, 1, 200);
	n = put_data(out, n, 70000, 1, 300);
	*ret_count = ARRAY_LEN(simple) + 1;
	return n;
}

/* --- tests --- */

static void test_round_trip(void **state)
{
	static uint8_t wire[16384];
	struct seen a = {0};
	struct frame_reader r;
	uint32_t count;
	size_t n = all_frames(wire, sizeof(wire), &count);

	seen_clear(&a);
	frame_reader_init(&r, &sink, &a);
	assert_true(frame_reader_is_between(&r));
	assert_int_equal(frame_reader_feed(&r, wire, n), 0);
	assert_true(frame_reader_is_between(&r));
	assert_null(r.partial);
	assert_int_equal(a.frames, count);
	assert_int_equal(a.payload_bytes, 501);
	frame_reader_deinit(&r);
	free(a.text);
}

/* The text of all_frames holds each value that went in. */
static void test_values(void **state)
{
	static uint8_t wire[16384];
	static const char *const parts[] = {
		"<8,70000,4,exec65536,1,14,xterm-256color80,24,640,480,6,",
		"4,LANG7,C.UTF-85,EMPTY0,11,printf '",
		"4,sftp9,localhost3,::16,/tmp/s65535,1,18446744073709551615,4294967295,1,",
		"<3,0,8,protocol14,what was that?",
		"<4,0,18446744073709551615,",
		"<5,0,127,",
		"<6,0,0,7,leaving",
		"<9,2,4294967295,",
		"<10,128,6,denied0,",
		"<12,256,32768,",
		"<13,65536,",
		"<14,2,132,50,1,2,",
		"<15,2,3,INT",
		"<16,2,255,",
		"<17,2,4,SEGV1,2,oh",
		"<18,4294967295,",
		"<19,2,",
		"<20,0,7,3,tcp2,::8080,0,0,",
		"<21,0,7,0,0,8080,0,0,",
		"<22,0,7,0,0,0,6,denied2,no",
		"<23,0,7,",
		"<24,0,7,",
		"<D300,1,200,",
	};
	struct seen a = {0};
	struct frame_reader r;
	uint32_t count;
	size_t n = all_frames(wire, sizeof(wire), &count);

	seen_clear(&a);
	frame_reader_init(&r, &sink, &a);
	assert_int_equal(frame_reader_feed(&r, wire, n), 0);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		if (!memmem(a.text, a.n, parts[i], strlen(parts[i])))
			fail_msg("not found: %s", parts[i]);
	frame_reader_deinit(&r);
	free(a.text);
}

static void feed_same(const uint8_t *wire, size_t n, size_t (*next)(size_t left, void *ctx), void *ctx,
		      const struct seen *want)
{
	static struct seen got;
	struct frame_reader r;

	seen_clear(&got);
	frame_reader_init(&r, &sink, &got);
	for (size_t at = 0; at < n;) {
		size_t take = next(n - at, ctx);
		/* A copy of exactly this many bytes, so that ASan sees a read behind them. */
		uint8_t *copy = malloc(take);

		memcpy(copy, wire + at, take);
		assert_int_equal(frame_reader_feed(&r, copy, take), 0);
		free(copy);
		at += take;
	}
	assert_true(frame_reader_is_between(&r));
	assert_int_equal(got.n, want->n);
	assert_memory_equal(got.text, want->text, want->n);
	frame_reader_deinit(&r);
}

static size_t take_first_then_rest(size_t left, void *ctx)
{
	size_t *first = ctx, n = *first && *first < left ? *first : left;

	*first = 0;
	return n;
}

static size_t take_random(size_t left, void *ctx)
{
	size_t n = 1 + (size_t)(rand_r(ctx) % 90);

	return n < left ? n : left;
}

static size_t take_one(size_t left, void *ctx)
{
	return 1;
}

static void test_splits(void **state)
{
	static uint8_t wire[16384];
	struct seen want = {0};
	struct frame_reader r;
	unsigned seed = 1;
	uint32_t count;
	size_t n = all_frames(wire, sizeof(wire), &count);

	seen_clear(&want);
	frame_reader_init(&r, &sink, &want);
	assert_int_equal(frame_reader_feed(&r, wire, n), 0);
	frame_reader_deinit(&r);
	for (size_t i = 1; i < n; i++) {
		size_t first = i;

		feed_same(wire, n, take_first_then_rest, &first, &want);
	}
	feed_same(wire, n, take_one, NULL, &want);
	for (int i = 0; i < 1000; i++)
		feed_same(wire, n, take_random, &seed, &want);
	free(want.text);
}

/* Feeds raw bytes to a new reader; a cut frame is -EAGAIN here. */
static int feed_raw(const void *p, size_t n, struct seen *s)
{
	struct frame_reader r;
	int rc;

	seen_clear(s);
	frame_reader_init(&r, &sink, s);
	rc = frame_reader_feed(&r, p, n);
	if (rc < 0)
		assert_string_not_equal(frame_reader_error(&r), "no error");
	else if (!frame_reader_is_between(&r))
		rc = -EAGAIN;
	if (rc < 0 && rc != -EAGAIN)
		assert_int_equal(frame_reader_feed(&r, p, n), -EPROTO);
	frame_reader_deinit(&r);
	return rc;
}

#define RAW(s, str) feed_raw(str, sizeof(str) - 1, s)

static void test_widths(void **state)
{
	struct seen s = {0};

	/* Every array header, every width of uint, every bin header. */
	assert_int_equal(RAW(&s, "\xdc\x00\x04\xcc\x0b\xcd\x00\x02\xce\x00\x00\x00\x01\xc4\x01Z"), 0);
	assert_int_equal(s.payload_bytes, 1);
	assert_int_equal(
		RAW(&s, "\xdd\x00\x00\x00\x04\xcf\x00\x00\x00\x00\x00\x00\x00\x0b\x02\x00\xc6\x00\x00\x00\x01Z"), 0);
	assert_int_equal(s.payload_bytes, 1);
	/* Empty payload: nothing shows. */
	assert_int_equal(RAW(&s, "\x94\x0b\x02\x00\xc4\x00"), 0);
	assert_int_equal(s.n, 0);
	/* Fields after DATA's payload are ignored, even nested ones, even after an empty payload. */
	assert_int_equal(RAW(&s, "\x96\x0b\x02\x00\xc4\x02ZZ\x81\x01\x92\x01\x02\xa1x\x92\x0d\x02"), 0);
	assert_int_equal(s.payload_bytes, 2);
	assert_int_equal(s.frames, 1);
	assert_int_equal(RAW(&s, "\x95\x0b\x02\x00\xc4\x00\xa1x\x92\x0d\x02"), 0);
	assert_int_equal(s.frames, 1);
	/* Unknown trailing fields and unknown keys. */
	assert_int_equal(RAW(&s, "\x94\x0d\x02\xc0\xcb\x00\x00\x00\x00\x00\x00\x00\x00"), 0);
	assert_int_equal(RAW(&s, "\x95\x08\x02\xa4"
				 "exec"
				 "\x82\xa3new\x81\x01\x02\xa7"
				 "command\xa2ls\x05"),
			 0);
	assert_non_null(memmem(s.text, s.n, "2,ls", 4));
	/* An unknown type from 128 on is skipped; below it is an error. */
	assert_int_equal(RAW(&s, "\x93\xcc\x80\x00\xa1x\x92\x0d\x02"), 0);
	assert_int_equal(s.frames, 1);
	assert_int_equal(RAW(&s, "\x92\x7f\x02"), -EPROTO);
	assert_int_equal(RAW(&s, "\x92\x07\x02"), -EPROTO);
	free(s.text);
}

static void test_errors(void **state)
{
	struct seen s = {0};

	assert_int_equal(RAW(&s, "SSH-2.0-OpenSSH_9.2\r\n"), -EPROTO);
	assert_int_equal(RAW(&s, "GET / HTTP/1.1\r\n\r\n"), -EPROTO);
	assert_int_equal(RAW(&s, "\xc1"), -EPROTO);
	assert_int_equal(RAW(&s, "\x90"), -EPROTO);
	assert_int_equal(RAW(&s, "\x91\x0d"), -EPROTO);
	assert_int_equal(RAW(&s, "\x92\xff\x02"), -EPROTO);                                 /* type -1 */
	assert_int_equal(RAW(&s, "\x92\x0d\xd0\x02"), -EPROTO);                             /* a signed channel */
	assert_int_equal(RAW(&s, "\x92\x0d\xcf\x00\x00\x00\x01\x00\x00\x00\x00"), -EPROTO); /* 2^32 */
	assert_int_equal(RAW(&s, "\x92\x0d\x00"), -EPROTO);                                 /* EOF on channel 0 */
	assert_int_equal(RAW(&s, "\x93\x04\x02\x00"), -EPROTO);                             /* PING on a channel */
	assert_int_equal(RAW(&s, "\x92\x0c\x02"), -EPROTO);                                 /* CREDIT of nothing */
	assert_int_equal(RAW(&s, "\x93\x0c\x02\xff"), -EPROTO);
	assert_int_equal(RAW(&s, "\x93\x0c\x02\xa1"
				 "1"),
			 -EPROTO);
	assert_int_equal(RAW(&s, "\x93\x0b\x02\x00"), -EPROTO);          /* DATA without payload */
	assert_int_equal(RAW(&s, "\x94\x0b\x02\x00\xa1x"), -EPROTO);     /* DATA with str */
	assert_int_equal(RAW(&s, "\x94\x0b\x00\x00\xc4\x01x"), -EPROTO); /* DATA on channel 0 */
	assert_int_equal(RAW(&s, "\x95\x08\x02\xa4"
				 "exec\x90\x05"),
			 -EPROTO); /* options are no map */
	assert_int_equal(RAW(&s, "\x95\x08\x02\xa4"
				 "exec\x81\xa4port\xce\x00\x01\x00\x00\x05"),
			 -EPROTO);
	assert_int_equal(RAW(&s, "\x95\x08\x02\xa4"
				 "exec\x81\xa3pty\x01\x05"),
			 -EPROTO);
	assert_int_equal(RAW(&s, "\x95\x08\x02\xa4"
				 "exec\x81\xa3"
				 "env\x81\x01\x02\x05"),
			 -EPROTO);
	/* Nested too deeply, on the way to the end of the frame. */
	assert_int_equal(RAW(&s, "\x93\x0d\x02\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x01"), -EPROTO);
	s.stop_with = 0;
	free(s.text);
}

static void test_limits(void **state)
{
	static uint8_t big[FRAME_OPEN_MAX + 1024], payload[FRAME_OPEN_MAX];
	struct seen s = {0};
	struct frame f;
	ssize_t n;

	/* Announced sizes are refused before anything is kept for them. */
	assert_int_equal(RAW(&s, "\x94\x0b\x02\x00\xc5\x80\x01"), -EMSGSIZE);
	assert_int_equal(RAW(&s, "\x94\x0b\x02\x00\xc6\xff\xff\xff\xff"), -EMSGSIZE);
	assert_int_equal(RAW(&s, "\x94\x0a\x02\xdb\xff\xff\xff\xff"), -EMSGSIZE);
	assert_int_equal(RAW(&s, "\x94\x0a\x02\xdb\x00\x01\x00\x00"), -EMSGSIZE);
	assert_int_equal(RAW(&s, "\x93\xcc\x80\x02\xdb\x00\x01\x00\x00"), -EMSGSIZE);
	assert_int_equal(RAW(&s, "\xdd\xff\xff\xff\xff\x0d\x02"), -EMSGSIZE);
	assert_int_equal(RAW(&s, "\x93\x0d\x02\xdd\x7f\xff\xff\xff"), -EMSGSIZE);
	assert_int_equal(RAW(&s, "\x93\x0d\x02\xdf\xff\xff\xff\xff"), -EMSGSIZE);
	assert_int_equal(RAW(&s, "\x93\x0d\x02\xdc\x20\x00"), -EMSGSIZE); /* 8192 items */
	assert_int_equal(RAW(&s, "\x95\x08\x02\xa4"
				 "exec\x81\xa3"
				 "env\xde\x01\x01"),
			 -EAGAIN);
	/* The largest OPEN passes, one byte more is neither encoded nor taken. */
	f = (struct frame){.type = FRAME_OPEN, .channel = 2, .open = {.kind = bytes_str("exec"), .credit = 1}};
	f.open.options.command = bytes_of(payload, FRAME_OPEN_MAX - 23);
	n = frame_encode(&f, big, sizeof(big));
	assert_int_equal(n, FRAME_OPEN_MAX);
	assert_int_equal(feed_raw(big, (size_t)n, &s), 0);
	f.open.options.command.n++;
	assert_int_equal(frame_encode(&f, big, sizeof(big)), -EMSGSIZE);
	f.open.options.command.n--;
	assert_int_equal(frame_encode(&f, big, (size_t)n - 1), -ENOBUFS);
	f = (struct frame){.type = FRAME_ERROR, .error = {.message = bytes_of(payload, FRAME_OTHER_MAX)}};
	assert_int_equal(frame_encode(&f, big, sizeof(big)), -EMSGSIZE);
	free(s.text);
}

static void test_env_limit(void **state)
{
	static struct frame_env env[FRAME_ENV_MAX + 1];
	static uint8_t wire[FRAME_OPEN_MAX];
	struct seen s = {0};
	struct frame f;
	ssize_t n;

	for (size_t i = 0; i < ARRAY_LEN(env); i++)
		env[i] = (struct frame_env){bytes_str("NAME"), bytes_str("value")};
	fill_open(&f, env, FRAME_ENV_MAX);
	n = frame_encode(&f, wire, sizeof(wire));
	assert_true(n > 0);
	assert_int_equal(feed_raw(wire, (size_t)n, &s), 0);
	f.open.options.env_count++;
	assert_int_equal(frame_encode(&f, wire, sizeof(wire)), -EMSGSIZE);
	/* 257 of them from a peer that does not care. */
	n = 0;
	memcpy(wire,
	       "\x95\x08\x02\xa4"
	       "exec\x81\xa3"
	       "env\xde\x01\x01",
	       16);
	for (n = 16; n < 16 + 257 * 2;)
		wire[n++] = 0xa0;
	wire[n++] = 5;
	assert_int_equal(feed_raw(wire, (size_t)n, &s), -EMSGSIZE);
	free(s.text);
}

static void test_sink_stops(void **state)
{
	struct seen s = {0};
	struct frame_reader r;

	seen_clear(&s);
	s.stop_with = -ECANCELED;
	frame_reader_init(&r, &sink, &s);
	assert_int_equal(frame_reader_feed(&r, (const uint8_t *)"\x92\x0d\x02\x92\x0d\x02", 6), -ECANCELED);
	assert_int_equal(s.frames, 1);
	assert_int_equal(frame_reader_feed(&r, (const uint8_t *)"\x92\x0d\x02", 3), -EPROTO);
	frame_reader_deinit(&r);
	free(s.text);
}

static int ignore_frame(void *ctx, const struct frame *f)
{
	return 0;
}

static int ignore_data(void *ctx, uint32_t channel, uint32_t stream, struct bytes piece, uint32_t left)
{
	return 0;
}

/* Mutated streams: whatever comes out, nothing crashes, and memory stays bounded. */
static void test_garbage(void **state)
{
	static const struct frame_sink quiet = {.on_frame = ignore_frame, .on_data = ignore_data};
	static uint8_t wire[16384], copy[16384];
	const char *env = getenv("FRAME_FUZZ_ROUNDS");
	long rounds = env ? atol(env) : 200000;
	unsigned seed = 12345;
	uint32_t count;
	size_t n = all_frames(wire, sizeof(wire), &count);
	long bad = 0;

	for (long i = 0; i < rounds; i++) {
		struct frame_reader r;
		size_t from = (size_t)rand_r(&seed) % n, len = 1 + (size_t)rand_r(&seed) % (n - from);
		int rc = 0;

		/* Short streams mostly: they reach the error paths sooner. */
		if (rand_r(&seed) % 4)
			len = 1 + len % 200;
		if (len > n - from)
			len = n - from;
		if (rand_r(&seed) % 2) {
			from = 0;
		}
		memcpy(copy, wire + from, len);
		for (int k = rand_r(&seed) % 6; k >= 0; k--)
			copy[(size_t)rand_r(&seed) % len] =
				(uint8_t)(rand_r(&seed) % 3 ? rand_r(&seed) : 0x80 + rand_r(&seed) % 0x60);
		frame_reader_init(&r, &quiet, NULL);
		for (size_t at = 0; at < len && rc == 0;) {
			size_t take = rand_r(&seed) % 2 ? len - at : 1 + (size_t)rand_r(&seed) % (len - at);

			rc = frame_reader_feed(&r, copy + at, take);
			at += take;
			assert_true(r.partial_bytes <= FRAME_OPEN_MAX && r.partial_size <= FRAME_OPEN_MAX);
		}
		assert_true(rc == 0 || rc == -EPROTO || rc == -EMSGSIZE);
		bad += rc < 0;
		frame_reader_deinit(&r);
	}
	assert_true(bad > rounds / 4 && bad < rounds);
}

static void test_names(void **state)
{
	assert_string_equal(frame_type_name(FRAME_DATA), "DATA");
	assert_string_equal(frame_type_name(7), "unknown");
	assert_string_equal(frame_type_name(UINT32_MAX), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_values),     cmocka_unit_test(test_splits),
		cmocka_unit_test(test_widths),     cmocka_unit_test(test_errors),     cmocka_unit_test(test_limits),
		cmocka_unit_test(test_env_limit),  cmocka_unit_test(test_sink_stops), cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
