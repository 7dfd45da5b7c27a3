/*
 * ssh/internal.h - what conn.c, auth.c, chan.c and server.c share of a connection. Private to ssh/.
 *
 * Together with libssh_socket.c these are the files that use libssh's internal headers; each libssh update checks them.
 */
#ifndef SSH_INTERNAL_H
#define SSH_INTERNAL_H

#include "ssh/conn.h"
#include "ssh/limits.h"
#include "ssh/packet_out.h"
#include "ssh/wire.h"

#include <libssh/callbacks.h>
#include <libssh/libssh.h>

/* The types of host keys that libssh's server knows. */
enum host_key_type { HOST_KEY_ED25519, HOST_KEY_ECDSA, HOST_KEY_RSA, HOST_KEY_TYPE_COUNT };

struct server_key {
	ssh_key key; /* private; shared, never written */
	enum host_key_type type;
	bool is_active;
	ssh_string blob; /* public; without a certificate */
	char *fingerprint;
	bool has_certificate; /* beside `key`, as libssh has it */
	uint64_t valid_from_s, valid_until_s;
};

struct conn_server {
	char *kex, *ciphers, *macs, *host_key_algorithms, *version;
	struct server_key keys[HOST_KEYS_MAX];
	uint32_t key_count;
	ssh_key active[HOST_KEY_TYPE_COUNT]; /* of keys; NULL where there is none */
	ssh_buffer told;                     /* what clients are told after login: the public keys, each a string */
	uint64_t rekey_bytes;
	uint32_t rekey_s;
	uint32_t max_bad_signatures;
	uint32_t max_keys;
	uint32_t max_channels;
	uint32_t window_bytes;
};

/* One USERAUTH_REQUEST that waits for the one before it. */
struct auth_waiting {
	uint8_t *payload;
	size_t bytes;
};

struct auth {
	bool is_service_accepted;
	bool is_asking; /* on_auth was called, conn_auth_answer has not */
	bool is_asking_signed;
	bool is_done;         /* USERAUTH_SUCCESS was queued */
	bool has_user;        /* a request named him */
	bool has_begun;       /* on_auth_begin was called */
	uint32_t key_count;   /* keys offered */
	uint32_t bad_count;   /* wrong signatures */
	uint32_t other_count; /* requests of methods that are not offered */
	char user[AUTH_USER_MAX + 1];
	char algorithm[64];
	uint8_t *key; /* of the query at hand, for PK_OK */
	size_t key_bytes;
	struct auth_waiting waiting[AUTH_WAITING_MAX];
	uint32_t waiting_count;
};

/* Each side of a channel is a half-state of its own: OPEN ─► EOF ─► CLOSED, or OPEN ─► CLOSED. */
enum half { HALF_OPEN, HALF_EOF, HALF_CLOSED };

enum chan_state {
	CHAN_OPENING, /* the client asked, the gateway has not answered */
	CHAN_ASKED,   /* we asked, the client has not answered; its owner is NULL when nobody wants it any more */
	CHAN_LIVE,
};

struct chan {
	struct conn *conn;
	void *owner;
	uint32_t number, peer_number;
	enum chan_state state;
	enum half in, out;
	uint32_t window;      /* what the client may still send */
	uint32_t peer_window; /* what we may still send */
	uint32_t peer_packet;
	bool is_forward;       /* not a session */
	bool is_answering;     /* inside on_chan_open */
	bool is_started;       /* shell, exec or subsystem was asked for */
	bool is_start_pending; /* and not answered */
	bool start_wants_reply;
	uint8_t reply_count; /* replies that wait behind that answer */
	bool replies[CHAN_REPLIES_MAX];
	uint32_t refusal;
	const char *refusal_text;
};

struct conn {
	const struct conn_server *server;
	const struct conn_events *events;
	void *owner;
	ssh_session session;
	struct ssh_packet_callbacks_struct callbacks;
	struct auth auth;
	struct packet_out packet;
	struct global_replies *replies; /* NULL until one is wanted */
	struct chan **chans;
	uint32_t chan_slots, chan_count;
	bool is_paused, has_ended, is_feeding, was_rekeying, no_more_sessions;
	bool has_room;        /* on_room gave some, for the packet at hand */
	uint32_t proof_count; /* requests to prove host keys */
	size_t rekey_held;    /* about what libssh holds back since a key exchange began */
	/* Input that is not yet a whole packet, or held while paused. */
	uint8_t *partial;
	size_t partial_bytes, partial_size;
};

/* Of users and of hosts. */
#define RSA_BITS_MIN 2048

/* The host key algorithms of a connection that begins now, those of certificates that are valid among them. */
#define OFFERED_MAX 1024
void server_offered(const struct conn_server *s, char ret_list[OFFERED_MAX]);
/* host_certificate.c: reads it and puts it beside the key. 0, or -EINVAL with a sentence. */
int host_certificate_load(struct server_key *k, const char *path, char ret_error[256]);

/* RFC 4254 section 5.2: the only extended data that there is. */
#define CHAN_STDERR 1
/* Type, channel, data type, length. */
#define CHAN_DATA_HEAD_MAX (1 + 4 + 4 + 4)

/* Sends what was packed into the session's out_buffer. 0 or -EIO, and then the connection has ended. */
int conn_send(struct conn *c);
/* Wipes what the last key exchange left behind, unless one is running. */
void conn_forget_kex(struct conn *c);
void conn_end(struct conn *c, const char *reason, bool is_clean);

void auth_init(struct auth *a);
void auth_deinit(struct auth *a);
int auth_on_packet(struct conn *c, uint8_t type, struct wire *w);
int chan_on_packet(struct conn *c, uint8_t type, struct wire *w);
void chan_free_all(struct conn *c);
/* A packet stands in the room that on_room gave. True: it was a channel's data, which its owner has taken there. */
bool chan_take_in_room(struct conn *c, struct wire *w);
/* In the lowest free slot; NULL when there are too many or no memory. */
struct chan *chan_new(struct conn *c);
void chan_free(struct chan *ch);
/* What the client said of its end. */
void chan_set_peer(struct chan *ch, uint32_t number, uint32_t window, uint32_t packet);
/* chan_ask.c: CHANNEL_OPEN_CONFIRMATION, CHANNEL_OPEN_FAILURE. */
void chan_on_answer(struct conn *c, uint8_t type, struct wire *w);
/* global.c */
void global_on_request(struct conn *c, struct wire *w);

/* rotation.c: the host keys, by their places in the server's, that a client wants proved. */
struct proof {
	uint8_t count, keys[HOST_KEYS_MAX];
};
void rotation_tell(struct conn *c);
/* What stands behind want_reply in the request; false: it is refused. */
bool rotation_read(struct conn *c, struct wire *w, struct proof *ret_proof);
/* Packs the reply. False: nothing was packed. */
bool rotation_prove(struct conn *c, const struct proof *p);

#endif
