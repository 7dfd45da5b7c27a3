/*
 * upstream/procd/ticket.c - a ticket as a msgpack map, and back.
 */
#include "upstream/procd/frame_decode.h"
#include "upstream/procd/proof.h"

#include <errno.h>
#include <msgpack.h>
#include <stddef.h>

struct text_field {
	const char *key;
	size_t at, size;
};

static const struct text_field text_fields[] = {
	{"sandbox", offsetof(struct ticket, sandbox), sizeof(((struct ticket *)0)->sandbox)},
	{"user", offsetof(struct ticket, user), sizeof(((struct ticket *)0)->user)},
	{"team", offsetof(struct ticket, team), sizeof(((struct ticket *)0)->team)},
	{"session", offsetof(struct ticket, session), sizeof(((struct ticket *)0)->session)},
	{"gateway", offsetof(struct ticket, gateway), sizeof(((struct ticket *)0)->gateway)},
	{"client", offsetof(struct ticket, client), sizeof(((struct ticket *)0)->client)},
};
#define ISSUED_BIT (1u << ARRAY_LEN(text_fields))

struct out {
	uint8_t *p;
	size_t size, n;
};

static int out_write(void *ctx, const char *p, size_t n)
{
	struct out *o = ctx;

	if (o->n + n > o->size)
		return -1;
	memcpy(o->p + o->n, p, n);
	o->n += n;
	return 0;
}

static int put_str(msgpack_packer *pk, const char *s)
{
	size_t n = strlen(s);

	return msgpack_pack_str(pk, n) || msgpack_pack_str_body(pk, s, n);
}

ssize_t ticket_encode(const struct ticket *t, uint8_t *out, size_t size)
{
	struct out o = {.p = out, .size = size < TICKET_MAX ? size : TICKET_MAX};
	msgpack_packer pk;
	int failed;

	msgpack_packer_init(&pk, &o, out_write);
	failed = msgpack_pack_map(&pk, ARRAY_LEN(text_fields) + 1);
	for (size_t i = 0; i < ARRAY_LEN(text_fields); i++) {
		failed |= put_str(&pk, text_fields[i].key);
		failed |= put_str(&pk, (const char *)t + text_fields[i].at);
	}
	failed |= put_str(&pk, "issued");
	failed |= msgpack_pack_uint64(&pk, t->issued);
	return failed ? -ENOBUFS : (ssize_t)o.n;
}

/* Printable: tickets go to logs. */
static bool is_text(const char *s, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < 0x20 || (unsigned char)s[i] == 0x7f)
			return false;
	return true;
}

/* Returns the bits of what was found, -EPROTO for a field that is wrong. */
static int field_decode(const msgpack_object_kv *kv, struct ticket *t)
{
	struct bytes key;

	if (kv->key.type != MSGPACK_OBJECT_STR)
		return -EPROTO;
	key = bytes_of(kv->key.via.str.ptr, kv->key.via.str.size);
	if (bytes_is(key, "issued")) {
		if (kv->val.type != MSGPACK_OBJECT_POSITIVE_INTEGER)
			return -EPROTO;
		t->issued = kv->val.via.u64;
		return ISSUED_BIT;
	}
	for (size_t i = 0; i < ARRAY_LEN(text_fields); i++) {
		const struct text_field *f = &text_fields[i];

		if (!bytes_is(key, f->key))
			continue;
		if (kv->val.type != MSGPACK_OBJECT_STR || !is_text(kv->val.via.str.ptr, kv->val.via.str.size) ||
		    !bytes_copy_str(bytes_of(kv->val.via.str.ptr, kv->val.via.str.size), (char *)t + f->at, f->size))
			return -EPROTO;
		return 1 << i;
	}
	return 0; /* of a later version */
}

static int map_decode(const msgpack_object *o, struct ticket *ret_ticket)
{
	struct ticket t = {0};
	unsigned found = 0;

	if (o->type != MSGPACK_OBJECT_MAP)
		return -EPROTO;
	for (uint32_t i = 0; i < o->via.map.size; i++) {
		int bit = field_decode(&o->via.map.ptr[i], &t);

		/* A field that is there twice could be read in two ways. */
		if (bit < 0 || (found & (unsigned)bit))
			return -EPROTO;
		found |= (unsigned)bit;
	}
	if (found != 2 * ISSUED_BIT - 1)
		return -EPROTO;
	*ret_ticket = t;
	return 0;
}

int ticket_decode(struct bytes encoded, struct ticket *ret_ticket)
{
	msgpack_zone zone;
	msgpack_object o;
	size_t off = 0;
	int rc = -EPROTO;

	if (encoded.n > TICKET_MAX || !frame_is_one_item(encoded))
		return -EPROTO;
	if (!msgpack_zone_init(&zone, 1024))
		return -ENOMEM;
	if (msgpack_unpack((const char *)encoded.p, encoded.n, &off, &zone, &o) == MSGPACK_UNPACK_SUCCESS &&
	    off == encoded.n)
		rc = map_decode(&o, ret_ticket);
	msgpack_zone_destroy(&zone);
	return rc;
}
