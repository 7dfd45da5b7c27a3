/*
 * upstream/procd/frame_encode.c - struct frame to bytes, by msgpack-c; DATA's head by hand.
 */
#include "upstream/procd/frame.h"

#include <errno.h>
#include <msgpack.h>

/* Counts all bytes, keeps those that fit: so "does not fit here" and "over the limit" are told apart. */
struct out {
	uint8_t *p;
	size_t size, n;
};

static int out_write(void *ctx, const char *p, size_t n)
{
	struct out *o = ctx;

	if (o->n + n <= o->size)
		memcpy(o->p + o->n, p, n);
	o->n += n;
	return 0;
}

static void put_uint(msgpack_packer *pk, uint64_t v)
{
	(void)msgpack_pack_uint64(pk, v);
}

static void put_str(msgpack_packer *pk, struct bytes b)
{
	(void)msgpack_pack_str(pk, b.n);
	if (b.n > 0)
		(void)msgpack_pack_str_body(pk, b.p, b.n);
}

static void put_bin(msgpack_packer *pk, struct bytes b)
{
	(void)msgpack_pack_bin(pk, b.n);
	if (b.n > 0)
		(void)msgpack_pack_bin_body(pk, b.p, b.n);
}

static void put_key(msgpack_packer *pk, const char *key)
{
	put_str(pk, bytes_str(key));
}

static void put_no_options(msgpack_packer *pk)
{
	(void)msgpack_pack_map(pk, 0);
}

static void put_pty(msgpack_packer *pk, const struct frame_open_options *o)
{
	(void)msgpack_pack_map(pk, 6);
	put_key(pk, "term");
	put_bin(pk, o->pty.term);
	put_key(pk, "columns");
	put_uint(pk, o->pty.columns);
	put_key(pk, "rows");
	put_uint(pk, o->pty.rows);
	put_key(pk, "xpixels");
	put_uint(pk, o->pty.xpixels);
	put_key(pk, "ypixels");
	put_uint(pk, o->pty.ypixels);
	put_key(pk, "modes");
	put_bin(pk, o->pty.modes);
}

static void put_env(msgpack_packer *pk, const struct frame_open_options *o)
{
	(void)msgpack_pack_map(pk, o->env_count);
	for (uint32_t i = 0; i < o->env_count; i++) {
		put_bin(pk, o->env[i].name);
		put_bin(pk, o->env[i].value);
	}
}

/* Only what is there: an absent option and an empty one mean the same. */
static void put_options(msgpack_packer *pk, const struct frame_open_options *o)
{
	const struct {
		const char *key;
		struct bytes value;
	} bins[] = {
		{"command", o->command}, {"name", o->name},
		{"host", o->host},       {"originator_host", o->originator_host},
		{"path", o->path},       {"message", o->message},
	};
	const struct {
		const char *key;
		uint64_t value;
	} uints[] = {
		{"port", o->port},
		{"originator_port", o->originator_port},
		{"request", o->request},
		{"session", o->session},
	};
	size_t count = (o->has_pty ? 1u : 0u) + (o->env_count > 0 ? 1u : 0u) + (o->agent ? 1u : 0u);

	for (size_t i = 0; i < ARRAY_LEN(bins); i++)
		count += bins[i].value.n > 0;
	for (size_t i = 0; i < ARRAY_LEN(uints); i++)
		count += uints[i].value > 0;
	(void)msgpack_pack_map(pk, count);
	if (o->has_pty) {
		put_key(pk, "pty");
		put_pty(pk, o);
	}
	if (o->env_count > 0) {
		put_key(pk, "env");
		put_env(pk, o);
	}
	if (o->agent) {
		put_key(pk, "agent");
		(void)msgpack_pack_true(pk);
	}
	for (size_t i = 0; i < ARRAY_LEN(bins); i++) {
		if (bins[i].value.n == 0)
			continue;
		put_key(pk, bins[i].key);
		put_bin(pk, bins[i].value);
	}
	for (size_t i = 0; i < ARRAY_LEN(uints); i++) {
		if (uints[i].value == 0)
			continue;
		put_key(pk, uints[i].key);
		put_uint(pk, uints[i].value);
	}
}

/* Fields after type and channel. */
static size_t field_count(uint32_t type)
{
	static const uint8_t counts[] = {
		[FRAME_CHALLENGE] = 3, [FRAME_HELLO] = 4,          [FRAME_WELCOME] = 3,     [FRAME_ERROR] = 2,
		[FRAME_PING] = 1,      [FRAME_PONG] = 1,           [FRAME_GOAWAY] = 1,      [FRAME_OPEN] = 3,
		[FRAME_OPENED] = 2,    [FRAME_REFUSED] = 2,        [FRAME_CREDIT] = 1,      [FRAME_RESIZE] = 4,
		[FRAME_SIGNAL] = 1,    [FRAME_EXIT] = 1,           [FRAME_EXIT_SIGNAL] = 3, [FRAME_LISTEN] = 4,
		[FRAME_LISTENING] = 2, [FRAME_LISTEN_REFUSED] = 3, [FRAME_UNLISTEN] = 1,    [FRAME_UNLISTENED] = 1,
	};

	return counts[type];
}

static void put_connection(msgpack_packer *pk, const struct frame *f)
{
	switch (f->type) {
	case FRAME_CHALLENGE:
		put_uint(pk, f->challenge.version);
		put_bin(pk, f->challenge.nonce);
		put_no_options(pk);
		break;
	case FRAME_HELLO:
		put_uint(pk, f->hello.version);
		put_bin(pk, f->hello.ticket);
		put_bin(pk, f->hello.signature);
		put_no_options(pk);
		break;
	case FRAME_WELCOME:
		put_uint(pk, f->welcome.version);
		put_bin(pk, f->welcome.signature);
		put_no_options(pk);
		break;
	case FRAME_PING:
	case FRAME_PONG:
		put_uint(pk, f->opaque);
		break;
	case FRAME_GOAWAY:
		put_str(pk, f->error.message);
		break;
	default: /* LISTEN and its relatives */
		put_uint(pk, f->listen.request);
		if (f->type == FRAME_LISTEN) {
			put_str(pk, f->listen.kind);
			put_bin(pk, f->listen.address);
		}
		if (f->type == FRAME_LISTEN || f->type == FRAME_LISTENING)
			put_uint(pk, f->listen.port);
		if (f->type == FRAME_LISTEN_REFUSED) {
			put_str(pk, f->listen.code);
			put_str(pk, f->listen.message);
		}
	}
}

static void put_fields(msgpack_packer *pk, const struct frame *f)
{
	switch (f->type) {
	case FRAME_ERROR:
	case FRAME_REFUSED:
		put_str(pk, f->error.code);
		put_str(pk, f->error.message);
		break;
	case FRAME_OPEN:
		put_str(pk, f->open.kind);
		put_options(pk, &f->open.options);
		put_uint(pk, f->open.credit);
		break;
	case FRAME_OPENED:
		put_uint(pk, f->opened.credit);
		put_no_options(pk);
		break;
	case FRAME_CREDIT:
		put_uint(pk, f->credit);
		break;
	case FRAME_RESIZE:
		put_uint(pk, f->resize.columns);
		put_uint(pk, f->resize.rows);
		put_uint(pk, f->resize.xpixels);
		put_uint(pk, f->resize.ypixels);
		break;
	case FRAME_SIGNAL:
		put_str(pk, f->signal);
		break;
	case FRAME_EXIT:
		put_uint(pk, f->exit_status);
		break;
	case FRAME_EXIT_SIGNAL:
		put_str(pk, f->exit_signal.name);
		(void)(f->exit_signal.core_dumped ? msgpack_pack_true(pk) : msgpack_pack_false(pk));
		put_str(pk, f->exit_signal.message);
		break;
	case FRAME_EOF:
	case FRAME_CLOSE:
	case FRAME_EOW:
		break;
	default:
		put_connection(pk, f);
	}
}

ssize_t frame_encode(const struct frame *f, uint8_t *out, size_t size)
{
	size_t limit = f->type == FRAME_OPEN ? FRAME_OPEN_MAX : FRAME_OTHER_MAX;
	struct out o = {.p = out, .size = size};
	msgpack_packer pk;

	ASSERT(f->type <= FRAME_UNLISTENED && f->type != FRAME_DATA);
	if (f->type == FRAME_OPEN && f->open.options.env_count > FRAME_ENV_MAX)
		return -EMSGSIZE;
	msgpack_packer_init(&pk, &o, out_write);
	(void)msgpack_pack_array(&pk, 2 + field_count(f->type));
	put_uint(&pk, f->type);
	put_uint(&pk, f->channel);
	put_fields(&pk, f);
	if (o.n > limit)
		return -EMSGSIZE;
	return o.n > size ? -ENOBUFS : (ssize_t)o.n;
}

static size_t store_uint(uint8_t *p, uint32_t v)
{
	if (v < 0x80) {
		p[0] = (uint8_t)v;
		return 1;
	}
	if (v <= UINT16_MAX) {
		p[0] = 0xcd;
		p[1] = (uint8_t)(v >> 8);
		p[2] = (uint8_t)v;
		return 3;
	}
	p[0] = 0xce;
	p[1] = (uint8_t)(v >> 24);
	p[2] = (uint8_t)(v >> 16);
	p[3] = (uint8_t)(v >> 8);
	p[4] = (uint8_t)v;
	return 5;
}

size_t frame_encode_data_head(uint32_t channel, uint32_t stream, uint32_t payload_bytes,
			      uint8_t out[FRAME_DATA_HEADER_MAX])
{
	size_t n = 0;

	ASSERT(payload_bytes > 0 && payload_bytes <= FRAME_DATA_MAX);
	ASSERT(stream < 0x80);
	out[n++] = 0x94; /* array of four */
	out[n++] = FRAME_DATA;
	n += store_uint(out + n, channel);
	out[n++] = (uint8_t)stream;
	out[n++] = 0xc5; /* bin 16 */
	out[n++] = (uint8_t)(payload_bytes >> 8);
	out[n++] = (uint8_t)payload_bytes;
	return n;
}

void frame_encode_data_head_wide(uint32_t channel, uint32_t stream, uint32_t payload_bytes,
				 uint8_t out[FRAME_DATA_HEADER_WIDE])
{
	ASSERT(payload_bytes > 0 && payload_bytes <= FRAME_DATA_MAX);
	ASSERT(stream < 0x80);
	out[0] = 0x94; /* array of four */
	out[1] = FRAME_DATA;
	out[2] = 0xce; /* uint 32, whatever the number needs */
	for (int i = 0; i < 4; i++)
		out[3 + i] = (uint8_t)(channel >> (24 - 8 * i));
	out[7] = (uint8_t)stream;
	out[8] = 0xc5; /* bin 16 */
	out[9] = (uint8_t)(payload_bytes >> 8);
	out[10] = (uint8_t)payload_bytes;
}
