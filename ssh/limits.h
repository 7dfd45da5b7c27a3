/*
 * ssh/limits.h - the limits of one SSH connection.
 */
#ifndef SSH_LIMITS_H
#define SSH_LIMITS_H

/* Payload of one CHANNEL_DATA that we take: the smallest maximum that RFC 4253 section 6.1 asks of everybody. */
#define CHAN_PACKET_MAX (32 * 1024)

/* A packet with less in it is decrypted into libssh's buffer: to copy it costs less than to look where it might go. */
#define CHAN_PLACE_MIN 2048

/* Open channels a connection may have at most, whatever the setting. procd allows as many. */
#define CHAN_COUNT_MAX 256

/* Requests on one channel whose reply waits behind the answer to shell, exec or subsystem. */
#define CHAN_REPLIES_MAX 64

/* Global requests whose reply waits: for what listens in the sandbox, or behind such a one. Clients send all their -R at once. */
#define CONN_REPLIES_MAX 64

/* Host keys: three types, of each the active one, the next and the old one. */
#define HOST_KEYS_MAX 9

/*
 * Host keys that a connection may have proved, in requests: clients ask once, after they were told of all. A signature costs 40 us, with
 * RSA 2 to 4 ms, on a worker: one request is less than the key exchange that a client may ask for at any time.
 */
#define CONN_PROOFS_MAX 1

/* A user name in USERAUTH_REQUEST: a sandbox ID and "+main" are far shorter. */
#define AUTH_USER_MAX 255

/* USERAUTH_REQUESTs a client may send before the first is answered (RFC 4252 section 5.1 lets it). */
#define AUTH_WAITING_MAX 4

/* One USERAUTH_REQUEST: RSA keys of 16384 bits with their signatures fit. */
#define AUTH_REQUEST_BYTES_MAX (16 * 1024)

/* The environment variable's name and value in one request. */
#define CHAN_ENV_NAME_MAX 256
#define CHAN_ENV_VALUE_MAX (32 * 1024)

/*
 * What libssh may hold back during a key exchange, its bookkeeping included: all credit that the gateway gives (1 MiB, and
 * 32 KiB for each channel) with the replies to what was on its way. A client that never answers KEXINIT gets no more.
 */
#define CONN_REKEY_HELD_MAX (16 * 1024 * 1024)
/* A held packet costs about this much besides its bytes. */
#define CONN_REKEY_HELD_EACH 256

/* The peer's version line: RFC 4253 section 4.2 says 255; libssh reads 128. An SSH packet: libssh's MAX_PACKET_LEN. */
#define CONN_PACKET_BYTES_MAX (256 * 1024 + 64)

#endif
