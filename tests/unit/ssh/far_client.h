/*
 * tests/unit/ssh/far_client.h - the client at the far end of a struct conn: libssh's transport on its client side, in memory.
 *
 * It logs in as "user" by a key of its own, opens one session channel with a window that never fills, and counts what comes.
 *
 * Owner:  the test.
 */
#ifndef TESTS_UNIT_SSH_FAR_CLIENT_H
#define TESTS_UNIT_SSH_FAR_CLIENT_H

#include "core/chain.h"

#define FAR_WINDOW_BYTES 0x7fffffff
#define FAR_PACKET_BYTES 32768

struct far_client {
	struct ssh_session_struct *session;
	struct ssh_key_struct *key;
	struct ssh_packet_callbacks_struct *callbacks;
	struct chunk_pool pool;
	struct chain out;
	uint8_t *in;
	size_t in_bytes;
	bool is_asking, is_open, is_closed;
	uint32_t peer_number, peer_window;
	uint64_t got[2]; /* of output, of errors: each byte was far_byte's */
	uint64_t sent;   /* as far_byte has them, too */
	uint32_t keepalives, debugs, adjusts, keys;
};

/* As long as it is set, nobody in this process gets a MAC. */
extern bool far_mac_fails;

/* What is to come as the at-th byte of a channel's data. */
static inline uint8_t far_byte(bool is_error, uint64_t at)
{
	return (uint8_t)(at * 31 + (at >> 8) + (is_error ? 7 : 0));
}

/* OpenSSH's names. rekey_bytes: it asks for new keys after so many; 0: never. */
void far_client_init(struct far_client *f, const char *cipher, const char *mac, uint64_t rekey_bytes);
void far_client_deinit(struct far_client *f);
/* Takes n bytes of the server's. Says what there is to say: its bytes are in out. */
void far_client_input(struct far_client *f, const uint8_t *p, size_t n);
/* Sends n bytes on the channel, or of IGNORE. */
void far_client_send(struct far_client *f, uint32_t n);
void far_client_ignore(struct far_client *f, uint32_t n);

#endif
