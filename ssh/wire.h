/*
 * ssh/wire.h - reading and writing the fields of an SSH packet in place (RFC 4251 section 5).
 *
 * Every read checks what is left; the first that fails makes all later ones return nothing, and is_bad stays set.
 *
 * Owner:  nothing is owned; strings point into the packet.
 */
#ifndef SSH_WIRE_H
#define SSH_WIRE_H

#include "core/bytes.h"

struct wire {
	const uint8_t *p;
	size_t n;
	bool is_bad;
};

static inline const uint8_t *wire_take(struct wire *w, size_t n)
{
	const uint8_t *p = w->p;

	if (w->is_bad || w->n < n) {
		w->is_bad = true;
		return NULL;
	}
	w->p += n;
	w->n -= n;
	return p;
}

static inline uint8_t wire_u8(struct wire *w)
{
	const uint8_t *p = wire_take(w, 1);

	return p ? p[0] : 0;
}

static inline bool wire_bool(struct wire *w)
{
	return wire_u8(w) != 0;
}

static inline uint32_t wire_u32(struct wire *w)
{
	const uint8_t *p = wire_take(w, 4);

	return p ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3] : 0;
}

static inline struct bytes wire_string(struct wire *w)
{
	uint32_t n = wire_u32(w);
	const uint8_t *p = wire_take(w, n);

	return p ? bytes_of(p, n) : bytes_of("", 0);
}

/* Writes fields one after the other; the caller knows that there is room. */
struct wire_writer {
	uint8_t *p;
};

static inline void wire_put_u8(struct wire_writer *w, uint8_t v)
{
	*w->p++ = v;
}

static inline void wire_put_u32(struct wire_writer *w, uint32_t v)
{
	wire_put_u8(w, (uint8_t)(v >> 24));
	wire_put_u8(w, (uint8_t)(v >> 16));
	wire_put_u8(w, (uint8_t)(v >> 8));
	wire_put_u8(w, (uint8_t)v);
}

#endif
