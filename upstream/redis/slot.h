/*
 * upstream/redis/slot.h - the hash slot of a key in a Cluster.
 *
 * CRC16 (XMODEM) of the key, or of what stands between its first { and the } after it if that is not empty, modulo 16384.
 * Source: the Redis Cluster specification, "Key distribution model" and "Hash tags". Pure. Thread: any.
 */
#ifndef UPSTREAM_REDIS_SLOT_H
#define UPSTREAM_REDIS_SLOT_H

#include "core/bytes.h"

#define SLOT_COUNT 16384

uint32_t slot_of(struct bytes key);

#endif
