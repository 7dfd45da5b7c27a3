#include "upstream/redis/slot.h"

/* A nibble at a time: names are short, and a table of 16 stays in the cache. */
static uint16_t crc16(struct bytes b)
{
	static const uint16_t table[16] = {
		0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
		0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef,
	};
	uint16_t crc = 0;

	for (size_t i = 0; i < b.n; i++) {
		crc = (uint16_t)(crc << 4 ^ table[crc >> 12 ^ b.p[i] >> 4]);
		crc = (uint16_t)(crc << 4 ^ table[crc >> 12 ^ (b.p[i] & 15)]);
	}
	return crc;
}

uint32_t slot_of(struct bytes key)
{
	const uint8_t *open = key.n > 0 ? memchr(key.p, '{', key.n) : NULL, *close = NULL;

	if (open)
		close = memchr(open + 1, '}', key.n - (size_t)(open + 1 - key.p));
	if (close && close > open + 1)
		key = bytes_of(open + 1, (size_t)(close - open - 1));
	return crc16(key) % SLOT_COUNT;
}
