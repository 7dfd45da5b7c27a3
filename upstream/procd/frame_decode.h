/*
 * upstream/procd/frame_decode.h - between the files of the codec only: one whole encoded frame to struct frame.
 */
#ifndef UPSTREAM_PROCD_FRAME_DECODE_H
#define UPSTREAM_PROCD_FRAME_DECODE_H

#include "upstream/procd/frame.h"

/*
 * Decodes a frame whose end frame.c has found (so size, nesting and number of fields are within the limits) and hands it to
 * the sink. 0; -EPROTO, -EMSGSIZE, -ENOMEM with *ret_error set to the reason; or what the sink returned.
 */
MUST_USE int frame_decode(const uint8_t *p, size_t n, const struct frame_sink *sink, void *ctx, const char **ret_error);

/* True for the types of this version. */
bool frame_type_is_known(uint32_t type);

/* True when b is one msgpack item and nothing else, within the limits of a frame: safe to give to msgpack-c. */
bool frame_is_one_item(struct bytes b);

#endif
