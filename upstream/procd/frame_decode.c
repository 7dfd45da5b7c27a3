/*
 * upstream/procd/frame_decode.c - whole frames by msgpack-c.
 *
 * Strings are borrowed from the encoded frame; arrays and maps live in a zone that is dropped after the sink was called.
 * Text and bytes (`str` and `bin`) are taken for each other: encoders of other languages differ in them. Fields after the
 * known ones and unknown keys of maps are ignored.
 */
#include "upstream/procd/frame_decode.h"

#include <errno.h>
#include <msgpack.h>

/* First piece of the zone; small frames need no second one. */
#define ZONE_BYTES 1024

struct fields {
	const msgpack_object *at;
	uint32_t n;
	bool is_wrong; /* a field is missing or of the wrong type */
	bool is_too_large;
	msgpack_zone *zone;
};

static bool is_bytes(const msgpack_object *o, struct bytes *ret_bytes)
{
	if (o->type == MSGPACK_OBJECT_STR)
		*ret_bytes = bytes_of(o->via.str.ptr, o->via.str.size);
	else if (o->type == MSGPACK_OBJECT_BIN)
		*ret_bytes = bytes_of(o->via.bin.ptr, o->via.bin.size);
	else
		return false;
	return true;
}

static const msgpack_object *take(struct fields *f, msgpack_object_type type)
{
	const msgpack_object *o = f->n > 0 ? f->at : NULL;

	if (!o || (type != MSGPACK_OBJECT_NIL && o->type != type)) {
		f->is_wrong = true;
		return NULL;
	}
	f->at++;
	f->n--;
	return o;
}

static uint64_t take_uint(struct fields *f, uint64_t max)
{
	const msgpack_object *o = take(f, MSGPACK_OBJECT_POSITIVE_INTEGER);

	if (o && o->via.u64 <= max)
		return o->via.u64;
	f->is_wrong = true;
	return 0;
}

static uint32_t take_u32(struct fields *f)
{
	return (uint32_t)take_uint(f, UINT32_MAX);
}

static struct bytes take_bytes(struct fields *f)
{
	const msgpack_object *o = take(f, MSGPACK_OBJECT_NIL);
	struct bytes b = {0};

	if (!o || !is_bytes(o, &b))
		f->is_wrong = true;
	return b;
}

static bool take_bool(struct fields *f)
{
	const msgpack_object *o = take(f, MSGPACK_OBJECT_BOOLEAN);

	return o && o->via.boolean;
}

/* --- the options of OPEN --- */

static void get_bytes(struct fields *f, const msgpack_object *o, struct bytes *ret)
{
	if (!is_bytes(o, ret))
		f->is_wrong = true;
}

static uint64_t get_uint(struct fields *f, const msgpack_object *o, uint64_t max)
{
	if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER && o->via.u64 <= max)
		return o->via.u64;
	f->is_wrong = true;
	return 0;
}

static bool get_bool(struct fields *f, const msgpack_object *o)
{
	if (o->type != MSGPACK_OBJECT_BOOLEAN)
		f->is_wrong = true;
	return o->type == MSGPACK_OBJECT_BOOLEAN && o->via.boolean;
}

static void get_pty(struct fields *f, const msgpack_object *o, struct frame_open_options *opt)
{
	if (o->type != MSGPACK_OBJECT_MAP) {
		f->is_wrong = true;
		return;
	}
	opt->has_pty = true;
	for (uint32_t i = 0; i < o->via.map.size; i++) {
		const msgpack_object *v = &o->via.map.ptr[i].val;
		struct bytes key;

		if (!is_bytes(&o->via.map.ptr[i].key, &key))
			f->is_wrong = true;
		else if (bytes_is(key, "term"))
			get_bytes(f, v, &opt->pty.term);
		else if (bytes_is(key, "columns"))
			opt->pty.columns = (uint32_t)get_uint(f, v, UINT32_MAX);
		else if (bytes_is(key, "rows"))
			opt->pty.rows = (uint32_t)get_uint(f, v, UINT32_MAX);
		else if (bytes_is(key, "xpixels"))
			opt->pty.xpixels = (uint32_t)get_uint(f, v, UINT32_MAX);
		else if (bytes_is(key, "ypixels"))
			opt->pty.ypixels = (uint32_t)get_uint(f, v, UINT32_MAX);
		else if (bytes_is(key, "modes"))
			get_bytes(f, v, &opt->pty.modes);
	}
}

static void get_env(struct fields *f, const msgpack_object *o, struct frame_open_options *opt)
{
	struct frame_env *env;

	if (o->type != MSGPACK_OBJECT_MAP) {
		f->is_wrong = true;
		return;
	}
	if (o->via.map.size > FRAME_ENV_MAX) {
		f->is_too_large = true;
		return;
	}
	if (o->via.map.size == 0)
		return;
	env = msgpack_zone_malloc(f->zone, o->via.map.size * sizeof(*env));
	if (!env) {
		f->is_too_large = true;
		return;
	}
	for (uint32_t i = 0; i < o->via.map.size; i++) {
		get_bytes(f, &o->via.map.ptr[i].key, &env[i].name);
		get_bytes(f, &o->via.map.ptr[i].val, &env[i].value);
	}
	opt->env = env;
	opt->env_count = o->via.map.size;
}

static void get_option(struct fields *f, struct bytes key, const msgpack_object *v, struct frame_open_options *opt)
{
	if (bytes_is(key, "pty"))
		get_pty(f, v, opt);
	else if (bytes_is(key, "env"))
		get_env(f, v, opt);
	else if (bytes_is(key, "command"))
		get_bytes(f, v, &opt->command);
	else if (bytes_is(key, "name"))
		get_bytes(f, v, &opt->name);
	else if (bytes_is(key, "message"))
		get_bytes(f, v, &opt->message);
	else if (bytes_is(key, "host"))
		get_bytes(f, v, &opt->host);
	else if (bytes_is(key, "originator_host"))
		get_bytes(f, v, &opt->originator_host);
	else if (bytes_is(key, "path"))
		get_bytes(f, v, &opt->path);
	else if (bytes_is(key, "port"))
		opt->port = (uint32_t)get_uint(f, v, UINT16_MAX);
	else if (bytes_is(key, "originator_port"))
		opt->originator_port = (uint32_t)get_uint(f, v, UINT16_MAX);
	else if (bytes_is(key, "request"))
		opt->request = get_uint(f, v, UINT64_MAX);
	else if (bytes_is(key, "session"))
		opt->session = (uint32_t)get_uint(f, v, UINT32_MAX);
	else if (bytes_is(key, "agent"))
		opt->agent = get_bool(f, v);
}

static void take_options(struct fields *f, struct frame_open_options *opt)
{
	const msgpack_object *o = take(f, MSGPACK_OBJECT_MAP);

	for (uint32_t i = 0; o && i < o->via.map.size; i++) {
		struct bytes key;

		if (is_bytes(&o->via.map.ptr[i].key, &key))
			get_option(f, key, &o->via.map.ptr[i].val, opt);
		else
			f->is_wrong = true;
	}
}

/* --- frames --- */

static void decode_connection(struct fields *f, struct frame *out)
{
	switch (out->type) {
	case FRAME_CHALLENGE:
		out->challenge.version = take_u32(f);
		out->challenge.nonce = take_bytes(f);
		(void)take(f, MSGPACK_OBJECT_MAP);
		break;
	case FRAME_HELLO:
		out->hello.version = take_u32(f);
		out->hello.ticket = take_bytes(f);
		out->hello.signature = take_bytes(f);
		(void)take(f, MSGPACK_OBJECT_MAP);
		break;
	case FRAME_WELCOME:
		out->welcome.version = take_u32(f);
		out->welcome.signature = take_bytes(f);
		(void)take(f, MSGPACK_OBJECT_MAP);
		break;
	case FRAME_PING:
	case FRAME_PONG:
		out->opaque = take_uint(f, UINT64_MAX);
		break;
	case FRAME_GOAWAY:
		out->error.message = take_bytes(f);
		break;
	default: /* LISTEN and its relatives */
		out->listen.request = take_uint(f, UINT64_MAX);
		if (out->type == FRAME_LISTEN) {
			out->listen.kind = take_bytes(f);
			out->listen.address = take_bytes(f);
		}
		if (out->type == FRAME_LISTEN || out->type == FRAME_LISTENING)
			out->listen.port = (uint32_t)take_uint(f, UINT16_MAX);
		if (out->type == FRAME_LISTEN_REFUSED) {
			out->listen.code = take_bytes(f);
			out->listen.message = take_bytes(f);
		}
	}
}

static void decode_fields(struct fields *f, struct frame *out)
{
	switch (out->type) {
	case FRAME_ERROR:
	case FRAME_REFUSED:
		out->error.code = take_bytes(f);
		out->error.message = take_bytes(f);
		break;
	case FRAME_OPEN:
		out->open.kind = take_bytes(f);
		take_options(f, &out->open.options);
		out->open.credit = take_u32(f);
		break;
	case FRAME_OPENED:
		out->opened.credit = take_u32(f);
		(void)take(f, MSGPACK_OBJECT_MAP);
		break;
	case FRAME_CREDIT:
		out->credit = take_u32(f);
		break;
	case FRAME_RESIZE:
		out->resize.columns = take_u32(f);
		out->resize.rows = take_u32(f);
		out->resize.xpixels = take_u32(f);
		out->resize.ypixels = take_u32(f);
		break;
	case FRAME_SIGNAL:
		out->signal = take_bytes(f);
		break;
	case FRAME_EXIT:
		out->exit_status = take_u32(f);
		break;
	case FRAME_EXIT_SIGNAL:
		out->exit_signal.name = take_bytes(f);
		out->exit_signal.core_dumped = take_bool(f);
		out->exit_signal.message = take_bytes(f);
		break;
	case FRAME_EOF:
	case FRAME_CLOSE:
	case FRAME_EOW:
		break;
	default:
		decode_connection(f, out);
	}
}

/* What must come on channel 0, what never may. */
static bool channel_fits(const struct frame *f)
{
	switch (f->type) {
	case FRAME_CHALLENGE ... FRAME_GOAWAY:
	case FRAME_LISTEN ... FRAME_UNLISTENED:
		return f->channel == 0;
	default:
		return f->channel != 0;
	}
}

static int decode_in(msgpack_zone *zone, const uint8_t *p, size_t n, const struct frame_sink *sink, void *ctx,
		     const char **ret_error)
{
	struct fields f = {.zone = zone};
	struct frame out;
	msgpack_object o;
	size_t off = 0;
	int rc;

	if (msgpack_unpack((const char *)p, n, &off, zone, &o) != MSGPACK_UNPACK_SUCCESS || off != n ||
	    o.type != MSGPACK_OBJECT_ARRAY) {
		*ret_error = "bytes that are no frame";
		return -EPROTO;
	}
	memset(&out, 0, sizeof(out));
	f.at = o.via.array.ptr;
	f.n = o.via.array.size;
	out.type = take_u32(&f);
	out.channel = take_u32(&f);
	decode_fields(&f, &out);
	if (f.is_too_large) {
		*ret_error = "OPEN has too much environment";
		return -EMSGSIZE;
	}
	if (f.is_wrong || !channel_fits(&out)) {
		*ret_error = f.is_wrong ? "a frame lacks a field or has a wrong one" : "a frame on the wrong channel";
		return -EPROTO;
	}
	rc = sink->on_frame(ctx, &out);
	if (rc < 0)
		*ret_error = "a frame was not accepted";
	return rc;
}

int frame_decode(const uint8_t *p, size_t n, const struct frame_sink *sink, void *ctx, const char **ret_error)
{
	msgpack_zone zone;
	int rc;

	if (!msgpack_zone_init(&zone, ZONE_BYTES)) {
		*ret_error = "out of memory";
		return -ENOMEM;
	}
	rc = decode_in(&zone, p, n, sink, ctx, ret_error);
	msgpack_zone_destroy(&zone);
	return rc < 0 ? rc : 0;
}

/* --- names --- */

static const char *const type_names[] = {
	[FRAME_CHALLENGE] = "CHALLENGE",
	[FRAME_HELLO] = "HELLO",
	[FRAME_WELCOME] = "WELCOME",
	[FRAME_ERROR] = "ERROR",
	[FRAME_PING] = "PING",
	[FRAME_PONG] = "PONG",
	[FRAME_GOAWAY] = "GOAWAY",
	[FRAME_OPEN] = "OPEN",
	[FRAME_OPENED] = "OPENED",
	[FRAME_REFUSED] = "REFUSED",
	[FRAME_DATA] = "DATA",
	[FRAME_CREDIT] = "CREDIT",
	[FRAME_EOF] = "EOF",
	[FRAME_RESIZE] = "RESIZE",
	[FRAME_SIGNAL] = "SIGNAL",
	[FRAME_EXIT] = "EXIT",
	[FRAME_EXIT_SIGNAL] = "EXIT_SIGNAL",
	[FRAME_CLOSE] = "CLOSE",
	[FRAME_EOW] = "EOW",
	[FRAME_LISTEN] = "LISTEN",
	[FRAME_LISTENING] = "LISTENING",
	[FRAME_LISTEN_REFUSED] = "LISTEN_REFUSED",
	[FRAME_UNLISTEN] = "UNLISTEN",
	[FRAME_UNLISTENED] = "UNLISTENED",
};

bool frame_type_is_known(uint32_t type)
{
	return type < ARRAY_LEN(type_names) && type_names[type];
}

const char *frame_type_name(uint32_t type)
{
	return frame_type_is_known(type) ? type_names[type] : "unknown";
}
