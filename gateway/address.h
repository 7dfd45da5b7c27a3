/*
 * gateway/address.h - numeric addresses from text: "IP:PORT", "[V6]:PORT", "unix:/path". No name is ever looked up.
 *
 * Pure. Thread: any.
 */
#ifndef GATEWAY_ADDRESS_H
#define GATEWAY_ADDRESS_H

#include "core/check.h"

#include <sys/socket.h>

/* 0 or -EINVAL. */
MUST_USE int address_parse(const char *text, struct sockaddr_storage *ret_addr, socklen_t *ret_bytes);

#endif
