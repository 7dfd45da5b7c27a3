#include "bench/pattern.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

static uint8_t block[PATTERN_BLOCK + PATTERN_PIECE_MAX];

void pattern_start(void)
{
	static const uint8_t seed[randombytes_SEEDBYTES] = "ringbench";

	randombytes_buf_deterministic(block, PATTERN_BLOCK, seed);
	memcpy(block + PATTERN_BLOCK, block, PATTERN_PIECE_MAX);
}

const uint8_t *pattern_at(uint64_t at)
{
	return block + at % PATTERN_BLOCK;
}

bool pattern_is(uint64_t at, const uint8_t *p, size_t n)
{
	while (n > 0) {
		size_t piece = n < PATTERN_PIECE_MAX ? n : PATTERN_PIECE_MAX;

		if (memcmp(pattern_at(at), p, piece) != 0)
			return false;
		at += piece;
		p += piece;
		n -= piece;
	}
	return true;
}

int pattern_write(uint64_t n, FILE *f)
{
	for (uint64_t at = 0; at < n;) {
		uint64_t piece = n - at < PATTERN_PIECE_MAX ? n - at : PATTERN_PIECE_MAX;

		if (fwrite(pattern_at(at), 1, piece, f) != piece)
			return -EIO;
		at += piece;
	}
	return fflush(f) == 0 ? 0 : -EIO;
}

void pattern_sha256(uint64_t n, char ret_hex[65])
{
	crypto_hash_sha256_state state;
	uint8_t hash[crypto_hash_sha256_BYTES];

	crypto_hash_sha256_init(&state);
	for (uint64_t at = 0; at < n;) {
		uint64_t piece = n - at < PATTERN_PIECE_MAX ? n - at : PATTERN_PIECE_MAX;

		crypto_hash_sha256_update(&state, pattern_at(at), piece);
		at += piece;
	}
	crypto_hash_sha256_final(&state, hash);
	sodium_bin2hex(ret_hex, 65, hash, sizeof(hash));
}
