/*
 * ssh/packet_out.h - the hot path out: channel data becomes encrypted packets in the outgoing chain with one copy.
 *
 * libssh's own way (ssh_packet_send) copies a packet four times and clears two buffers for it. This one serves the AEAD
 * ciphers, and AES-CTR with an HMAC of SHA-2, while no key exchange runs; for all else it says so and the caller takes libssh's.
 * Counters, sequence numbers and what counts for the next key exchange are libssh's own, so each packet may go either way.
 *
 * A packet stays open at the chain's end, so that pieces that come one after the other share it; it is sealed when it is
 * full, when anything else is to be sent, when input is handed to libssh (which may answer by itself), and by conn_flush.
 *
 * Owner:  embedded in struct conn.
 */
#ifndef SSH_PACKET_OUT_H
#define SSH_PACKET_OUT_H

#include "core/bytes.h"
#include "core/check.h"

struct conn;
struct chan;

struct packet_out {
	uint8_t *at; /* reserved in the chain, not committed; NULL while no packet is open */
	uint32_t head_bytes, payload_bytes, payload_max;
	uint32_t peer_number;
	bool is_error;
};

/*
 * Appends as much of p as the open packet takes; opens one where there is none that fits. Bytes taken; 0 when this way is
 * closed now; -ENOMEM. RFC 4253 section 6; RFC 5647 (AES-GCM); PROTOCOL.chacha20poly1305; RFC 4344 section 4 (AES-CTR),
 * RFC 6668 (HMAC), PROTOCOL section 1.5 (-etm).
 */
MUST_USE int packet_out_append(struct chan *ch, bool is_error, const uint8_t *p, size_t n);

/* Encrypts the open packet, if there is one, and gives it to the chain. */
void packet_out_seal(struct conn *c);

#endif
