/*
 * bench/client.h - an SSH client for measuring: libssh's transport on its client side, over a ring stream.
 *
 *   CONNECTING ──► KEX ──► SERVICE ──► AUTH ──USERAUTH_SUCCESS──► LIVE ──client_close, lost──► CLOSED
 *        └──────────┴─────────┴─────────┴────────── lost, refused ──────────────────────────────┘
 *
 * Thousands of them live on one thread. The host's key is not checked: what is measured is one's own server.
 *
 * Owner:  the scenario; channels are embedded in its own objects.
 * Life:   from client_new until on_closed, in which the client may be freed.
 * Thread: the ring's.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include "core/bytes.h"
#include "ring/ring.h"

struct client;
struct client_chan;
struct ssh_key_struct;

#define CLIENT_CHANS_MAX 256
#define CLIENT_REASON_MAX 160

/* What we let a server send on a channel: as OpenSSH's client. */
#define CLIENT_WINDOW_BYTES (2 * 1024 * 1024)
#define CLIENT_PACKET_BYTES (32 * 1024)

enum client_state {
	CLIENT_CONNECTING,
	CLIENT_KEX,
	CLIENT_SERVICE,
	CLIENT_AUTH,
	CLIENT_LIVE,
	CLIENT_CLOSED,
};

struct client_events {
	/* Logged in. */
	void (*on_live)(struct client *c);
	/* Nothing more comes; was_asked: by client_close. Its channels have no further events. client_free may be called. */
	void (*on_closed)(struct client *c, bool was_asked, const char *reason);
};

struct client_options {
	const struct sockaddr *addr;
	socklen_t addr_bytes;
	const char *user;
	struct ssh_key_struct *key;
	const char *kex, *cipher, *mac, *host_key; /* OpenSSH's names, comma separated; NULL: our own choice */
	uint32_t login_ms;                         /* deadline until on_live */
};

struct client {
	struct stream stream;
	struct timer deadline;
	struct ring *ring;
	const struct client_events *events;
	const struct client_options *options;
	struct ssh_session_struct *session;
	struct ssh_packet_callbacks_struct *callbacks;
	enum client_state state;
	bool is_closing, was_asked, is_feeding;
	uint8_t *partial;
	size_t partial_bytes, partial_size;
	struct client_chan *chans[CLIENT_CHANS_MAX];
	uint32_t chan_count;
	uint32_t refused_count; /* USERAUTH_FAILURE */
	char reason[CLIENT_REASON_MAX];
	void *owner;
};

struct client_chan_events {
	/* The command runs, or (is_good false) it was refused: then on_closed follows. */
	void (*on_started)(struct client_chan *ch, bool is_good);
	void (*on_data)(struct client_chan *ch, bool is_error, struct bytes data);
	/* There is room to send: client_chan_room. */
	void (*on_room)(struct client_chan *ch);
	/* Closed both ways. status: the exit status, or -1 where none came. */
	void (*on_closed)(struct client_chan *ch, int status);
};

struct client_chan {
	struct client *client;
	const struct client_chan_events *events;
	void *owner;
	const char *command;        /* NULL: a shell */
	bool has_pty, is_subsystem; /* the command is a subsystem's name */
	uint32_t number, peer_number, peer_window, peer_packet;
	uint32_t ungranted;
	bool is_open, is_eof_sent, is_close_sent, is_refused;
	int status;
};

/* libssh's start; once. A private key file without passphrase. 0 or negative errno. */
MUST_USE int client_library_start(void);
MUST_USE int client_key_load(const char *path, struct ssh_key_struct **ret_key);
void client_key_free(struct ssh_key_struct *key);

/* Connects and logs in. NULL: no memory, or a name of an algorithm that libssh does not know. */
struct client *client_new(struct ring *r, const struct client_options *o, const struct client_events *events,
			  void *owner);
/* Says DISCONNECT; on_closed follows. */
void client_close(struct client *c);
/* In or after on_closed. */
void client_free(struct client *c);

/*
 * Opens a session channel with a command or a shell; events, owner, command and has_pty were set by the caller. ch stays valid until
 * its on_closed or the client's. -EMFILE: CLIENT_CHANS_MAX are open.
 */
MUST_USE int client_chan_open(struct client *c, struct client_chan *ch);
/* How much may be sent now: window, packet size and what waits for the socket. */
uint32_t client_chan_room(const struct client_chan *ch);
/* At most client_chan_room bytes. */
void client_chan_write(struct client_chan *ch, const uint8_t *p, uint32_t n);
void client_chan_eof(struct client_chan *ch);

#endif
