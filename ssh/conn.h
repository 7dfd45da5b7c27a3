/*
 * ssh/conn.h - the server's side of one SSH connection: version, key exchange, authentication, channels.
 *
 * libssh does the transport (RFC 4253): version exchange, key exchange and re-exchange, ciphers. Authentication
 * (RFC 4252) and the connection protocol (RFC 4254) are our own, in auth.c, chan.c and global.c, on its packets: so every reply has
 * its place in order, every window is a budget of ours and no byte is kept twice.
 *
 *     bytes in ──► conn_input ──► libssh ──► auth.c, chan.c ──► struct conn_events
 *     struct chain `out` ◄── libssh ◄── chan_write, chan_reply … ◄── the gateway
 *
 * Owner:  the gateway's session. Strings and bytes in events are borrowed for the call.
 * Life:   conn_free only outside of all callbacks. After on_end nothing is sent or reported any more.
 * Thread: one at a time; a connection may move to another thread between two calls (conn_move).
 */
#ifndef SSH_CONN_H
#define SSH_CONN_H

#include "core/bytes.h"
#include "core/chain.h"
#include "core/check.h"

#include <stdbool.h>
#include <stdint.h>

struct conn;
struct chan;

/* Host keys and algorithms, read once, shared by all connections and threads; read-only afterwards. */
struct conn_server;

/* A host key's file. */
struct conn_host_key {
	const char *type; /* "ed25519", "ecdsa" (P-256), "rsa" */
	const char *path;
	/* It is what the gateway is known by, one of a type. Else clients only learn it: it is to be that, or was. */
	bool is_active;
	/* Of an active one: its certificate as a host, made by `ssh-keygen -s`; NULL: it has none. Offered while it is valid. */
	const char *certificate_path;
};

struct conn_server_options {
	const char *kex, *ciphers, *macs, *host_key_algorithms; /* OpenSSH names, comma separated */
	const struct conn_host_key *host_keys;                  /* at most HOST_KEYS_MAX; the active ones first */
	uint32_t host_key_count;
	uint64_t rekey_bytes; /* 0: the cipher's own limit */
	uint32_t rekey_s;     /* 0: never by time */
	uint32_t max_bad_signatures;
	uint32_t max_keys;
	uint32_t max_channels; /* at most CHAN_COUNT_MAX */
	uint32_t window_bytes; /* first receive window of a channel */
	const char *version;   /* behind "SSH-2.0-": "ringgate_0.1" */
};

/* 0, or -EINVAL with a sentence in ret_error. Call from main before threads. */
MUST_USE int conn_server_new(const struct conn_server_options *o, struct conn_server **ret_server, char ret_error[256]);
void conn_server_free(struct conn_server *s);
/* For the log and known_hosts; false behind the last. */
struct conn_host_key_told {
	const char *type, *fingerprint; /* "SHA256:…" */
	bool is_active, has_certificate;
	uint64_t valid_from_s, valid_until_s; /* of the certificate, since 1970; until: not any more */
};
bool conn_server_host_key(const struct conn_server *s, uint32_t index, struct conn_host_key_told *ret_told);

/* What a client asks in authentication. */
struct auth_query {
	bool is_signed;        /* false: a probe, "would you take this key?"; true: its signature has been verified */
	const char *user;      /* the SSH user name: NUL-terminated, printable */
	const char *algorithm; /* of the signature: rsa-sha2-512, … */
	struct bytes key;      /* the public key blob */
};

enum auth_failure {
	AUTH_BAD_REQUEST, /* cannot be parsed */
	AUTH_BAD_KEY,     /* unparsable, too small, a certificate, or a kind that is not taken */
	AUTH_BAD_SIGNATURE,
	AUTH_NO_METHOD, /* none, password, …: not offered */
};

/* A request on a session channel. Which fields count depends on kind. */
enum chan_request_kind {
	CHAN_PTY,
	CHAN_ENV,
	CHAN_SHELL,
	CHAN_EXEC,
	CHAN_SUBSYSTEM,
	CHAN_WINDOW_CHANGE,
	CHAN_SIGNAL,
	CHAN_BREAK,
	CHAN_OFFER_AGENT, /* auth-agent-req@openssh.com: the client would take channels of kind CHAN_AGENT */
	CHAN_OTHER,       /* refused unless the gateway knows it by name */
};

struct chan_request {
	enum chan_request_kind kind;
	bool wants_reply;
	struct bytes name;  /* the request's type as sent */
	struct bytes value; /* exec: command; subsystem: name; env: value; signal: name; pty: modes */
	struct bytes key;   /* env: name; pty: TERM */
	uint32_t columns, rows, xpixels, ypixels; /* pty, window-change */
};

enum chan_kind {
	CHAN_SESSION,
	CHAN_TCP,  /* direct-tcpip */
	CHAN_UNIX, /* direct-streamlocal@openssh.com */
	/* That we open: */
	CHAN_FORWARDED_TCP,  /* forwarded-tcpip */
	CHAN_FORWARDED_UNIX, /* forwarded-streamlocal@openssh.com */
	CHAN_AGENT,          /* auth-agent@openssh.com */
};

/* What a channel is opened for. */
struct chan_open {
	enum chan_kind kind;
	struct bytes host, originator_host; /* CHAN_TCP; CHAN_FORWARDED_TCP: where it was listened */
	uint32_t port, originator_port;
	struct bytes path; /* CHAN_UNIX, CHAN_FORWARDED_UNIX */
};

/* That somebody is to listen over there (tcpip-forward, streamlocal-forward@openssh.com), or not any more. */
struct conn_listen {
	bool is_unix, is_cancel;
	struct bytes address; /* or the path; as the client wrote it */
	uint32_t port;        /* 0: any */
	uint64_t reply;       /* for conn_listen_reply; 0: none is wanted */
};

/* RFC 4254 section 5.1. */
enum chan_open_failure {
	CHAN_PROHIBITED = 1,
	CHAN_CONNECT_FAILED = 2,
	CHAN_UNKNOWN_TYPE = 3,
	CHAN_RESOURCE_SHORTAGE = 4,
};

enum chan_answer { CHAN_NO, CHAN_YES, CHAN_LATER };

/* What stands before the data in a packet: the padding's length, type, channel, and the data's length. */
#define CONN_ROOM_HEAD (1 + 1 + 4 + 4)

struct conn_events {
	/* The client's first request to log in has come and is not answered: words for him go now (conn_banner). */
	void (*on_auth_begin)(struct conn *c);
	/* A key is offered, or proved. Answer by conn_auth_answer, now or later; until then no further request is looked at. */
	void (*on_auth)(struct conn *c, const struct auth_query *q);
	/* A request that was refused here, for the log and counters. */
	void (*on_auth_failure)(struct conn *c, enum auth_failure why, const char *detail);

	/* USERAUTH_SUCCESS is queued. Pause the connection here to move it. */
	void (*on_authenticated)(struct conn *c);

	/* CHAN_YES accepts, CHAN_NO refuses (with chan_refuse's reason, else CHAN_PROHIBITED), CHAN_LATER: chan_accept or chan_refuse. */
	enum chan_answer (*on_chan_open)(struct chan *ch, const struct chan_open *o);
	/* A channel that we opened is live; or the client did not want it, and it is gone after this call. */
	void (*on_chan_opened)(struct chan *ch);
	void (*on_chan_refused)(struct chan *ch, uint32_t why, struct bytes text);
	/* CHAN_LATER: conn_listen_reply follows. */
	enum chan_answer (*on_listen)(struct conn *c, const struct conn_listen *l);
	/* CHAN_LATER is for shell, exec and subsystem only: chan_reply follows. */
	enum chan_answer (*on_chan_request)(struct chan *ch, const struct chan_request *r);
	/* The client's bytes; they count against the window until chan_grant. */
	void (*on_chan_data)(struct chan *ch, struct bytes data);
	/*
	 * A large packet has come, most likely a channel's data, and has not been decrypted. Room for n bytes, which end up there with the data from the
	 * CONN_ROOM_HEAD-th on; NULL: there is none, the data comes by on_chan_data. May be NULL itself. One of the next two follows at once.
	 */
	uint8_t *(*on_room)(struct conn *c, size_t n);
	/* They are this channel's data, in that room; true: it is taken there, as by on_chan_data. False: it comes by on_chan_data, elsewhere. */
	bool (*on_room_data)(struct chan *ch, struct bytes data);
	/* The room was for nothing. */
	void (*on_room_back)(struct conn *c);
	void (*on_chan_eof)(struct chan *ch);
	/* The client closed the channel. Answer by chan_close once what must be sent was sent. */
	void (*on_chan_close)(struct chan *ch);
	/* The client's window grew. */
	void (*on_chan_window)(struct chan *ch);
	/* Both sides closed: the channel is gone after this call. */
	void (*on_chan_gone)(struct chan *ch);

	/* The client answered a keepalive. */
	void (*on_keepalive_reply)(struct conn *c);
	/* A key re-exchange is over: what waited may be written again. */
	void (*on_rekeyed)(struct conn *c);
	/* The connection is at its end: the client said so, or broke the protocol. Comes once, last. */
	void (*on_end)(struct conn *c, const char *reason, bool is_clean);
};

/*
 * A connection that queues what it sends in `out`. NULL without memory.
 * The version line is queued at once.
 */
struct conn *conn_new(const struct conn_server *s, const struct conn_events *events, void *owner, struct chain *out);
void conn_free(struct conn *c);
void *conn_owner(const struct conn *c);

/* From now on `out` is where bytes go; the old one must be empty. With the connection's next thread. */
void conn_move(struct conn *c, struct chain *out);

/* Bytes from the socket. Everything they complete is handled before it returns. After on_end they are dropped. */
void conn_input(struct conn *c, const uint8_t *p, size_t n);

/* Hold back and go on: input that is a whole packet is not handled while paused, but kept (bounded by what the caller gives). */
void conn_pause(struct conn *c, bool is_paused);

bool conn_is_authenticated(const struct conn *c);
bool conn_is_rekeying(const struct conn *c);
bool conn_has_ended(const struct conn *c);
/* True for OpenSSH's clients, which know eow@openssh.com. */
bool conn_knows_eow(const struct conn *c);
const char *conn_client_version(const struct conn *c);
/* The negotiated key exchange and the two directions' cipher, for the log; "" before. */
void conn_algorithms(const struct conn *c, const char **ret_kex, const char **ret_cipher);

/* Answers the query at hand: for a probe PK_OK, for a signature USERAUTH_SUCCESS; false is USERAUTH_FAILURE. */
void conn_auth_answer(struct conn *c, bool is_yes);
/* Says goodbye (RFC 4253 section 11.1) and ends; on_end comes with `text`. Send what is in `out`, then close. */
void conn_disconnect(struct conn *c, uint32_t code, const char *text);
#define DISCONNECT_PROTOCOL_ERROR 2
#define DISCONNECT_SERVICE_NOT_AVAILABLE 7
#define DISCONNECT_BY_APPLICATION 11
#define DISCONNECT_TOO_MANY_CONNECTIONS 12
#define DISCONNECT_NO_MORE_AUTH_METHODS 14

/* Ends without a word and without on_end: nothing is sent, handled or reported any more, the rest of the read at hand included. */
void conn_stop(struct conn *c);

/* Completes what chan_write has begun: call it before what stands in `out` is sent. */
void conn_flush(struct conn *c);
/* keepalive@openssh.com with a wish for a reply. */
void conn_keepalive(struct conn *c);
/* A message that clients show who are asked to tell much (ssh -v). */
void conn_debug(struct conn *c, const char *text);
/* The answer that was left for later; with the port that was chosen where the client left it open, else 0. */
void conn_listen_reply(struct conn *c, uint64_t reply, bool is_yes, uint32_t port);
/* A message for the user while he is not yet in: USERAUTH_BANNER. */
void conn_banner(struct conn *c, const char *text);
/* Gives back what buffers hold beyond their content; for a connection that rests. */
void conn_trim(struct conn *c);

/* Channels in the order of their numbers; NULL behind the last. */
struct chan *conn_chan_next(const struct conn *c, const struct chan *after);
uint32_t conn_chan_count(const struct conn *c);

/* --- channels --- */

struct conn *chan_conn(const struct chan *ch);
void *chan_owner(const struct chan *ch);
void chan_set_owner(struct chan *ch, void *owner);
uint32_t chan_number(const struct chan *ch);

/* Asks the client for a channel of a kind that servers open. NULL: too many channels, or no memory. */
struct chan *conn_chan_open(struct conn *c, const struct chan_open *o, void *owner);
/* Before the client has answered: nothing is reported of it any more; it closes when he does. */
void chan_abandon(struct chan *ch);

void chan_accept(struct chan *ch);
/* The channel is gone after this call. */
void chan_refuse(struct chan *ch, enum chan_open_failure why, const char *text);
/* The answer to shell, exec or subsystem that was left for later. */
void chan_reply(struct chan *ch, bool is_yes);

/* Bytes that chan_write takes now: the client's window. */
uint32_t chan_room(const struct chan *ch);
/* Sends n <= chan_room bytes as packets; is_error for stderr. 0 or negative errno (the connection ends). */
MUST_USE int chan_write(struct chan *ch, bool is_error, const uint8_t *p, size_t n);

/* The receive window that the client has left. */
uint32_t chan_window(const struct chan *ch);
/* Opens the receive window by n bytes; sent at once: batch them. */
void chan_grant(struct chan *ch, uint32_t n);

void chan_eof(struct chan *ch);
void chan_close(struct chan *ch);
void chan_exit_status(struct chan *ch, uint32_t status);
void chan_exit_signal(struct chan *ch, struct bytes name, bool core_dumped, struct bytes message);
void chan_eow(struct chan *ch);
bool chan_is_eof_sent(const struct chan *ch);
bool chan_is_close_sent(const struct chan *ch);

#endif
