/*
 * core/utf8.h - reading UTF-8 (RFC 3629). Pure.
 */
#ifndef CORE_UTF8_H
#define CORE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Length of the sequence at p, of n > 0 bytes: in its shortest form, no surrogates. 0 where there is none. */
size_t utf8_at(const uint8_t *p, size_t n, uint32_t *ret_code);

#endif
