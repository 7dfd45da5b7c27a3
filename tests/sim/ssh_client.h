/*
 * tests/sim/ssh_client.h - an SSH client in memory: libssh's transport on its client side, all above it by hand.
 *
 * Each channel follows its plan: a command for the fake procd, bytes to send (a pattern that is checked where they come back),
 * how it reads. The server's windows are never passed; that it keeps ours is asserted.
 *
 * Owner:  the test. client_free at any time outside of a step.
 */
#ifndef TESTS_SIM_SSH_CLIENT_H
#define TESTS_SIM_SSH_CLIENT_H

#include "core/chain.h"
#include "ssh/wire.h"
#include "tests/sim/sim.h"

#define CLIENT_CHANS_MAX 256

enum chan_end {
	CHAN_END_NONE,
	CHAN_END_STATUS,
	CHAN_END_SIGNAL,
	CHAN_END_REFUSED, /* CHANNEL_OPEN_FAILURE, or FAILURE to the command */
	CHAN_END_BARE,    /* closed without a word */
};

struct client_chan_plan {
	char command[64];       /* exec; "" is a subsystem "sftp"; "tcp" is direct-tcpip to localhost */
	uint64_t up_bytes;      /* to send, then EOF */
	uint32_t packet_max;    /* of one CHANNEL_DATA that we send */
	uint32_t window_bytes;  /* what we let the server send */
	bool is_echo;           /* what comes must be what was sent */
	uint32_t command_bytes; /* the command is padded to these; 0: not */
	bool has_pty, offers_agent;
	bool keeps_input_open;  /* no EOF after up_bytes */
	uint32_t close_percent; /* chance, each step once it is started, to close at once */
};

struct client_chan {
	bool is_used, is_asked, is_open, is_started, is_eof_sent, is_close_sent, is_eof_seen, is_closed;
	struct client_chan_plan plan;
	uint32_t number, peer_number;
	uint32_t window;      /* what the server may still send */
	uint32_t ungranted;   /* read, not yet granted again */
	uint32_t peer_window; /* what we may still send */
	uint32_t peer_packet;
	uint64_t sent, got, got_error;
	char error_text[4096]; /* the beginning of stderr */
	uint64_t key;
	enum chan_end end;
	uint32_t status;
};

enum client_state { CLIENT_KEX, CLIENT_SERVICE, CLIENT_PROBE, CLIENT_AUTH, CLIENT_LIVE, CLIENT_ENDED };

struct client_options {
	const char *user;
	struct ssh_key_struct *key;
	bool is_dumb;         /* connects and says nothing */
	bool stops_at_kex;    /* does the key exchange, then nothing */
	bool stops_at_auth;   /* proves nothing: probes and waits */
	uint32_t junk_count;  /* packets of no known type before the proof; reads no more from there on */
	uint64_t rekey_bytes; /* 0: never by itself */
	const char *kex, *cipher;
};

struct sim_client {
	struct sim_actor actor;
	struct sim_socket *socket;
	struct client_options options;
	struct ssh_session_struct *session;
	struct ssh_packet_callbacks_struct *callbacks;
	struct chunk_pool pool;
	struct chain out;
	uint8_t *in;
	size_t in_bytes, in_size;
	enum client_state state;
	bool is_deaf; /* does not read */
	bool is_mute; /* does not answer keepalives nor send anything */
	bool is_authenticated, was_denied, was_disconnected;
	char farewell[128]; /* was_disconnected: the text */
	uint32_t keepalives_seen;
	struct client_chan chans[CLIENT_CHANS_MAX];
	uint32_t chan_slots; /* that were ever used: the first ones */
	/* Called now and then while LIVE, to send what a test wants to send. NULL: nothing. */
	bool (*on_live)(struct sim_client *c);
	uint64_t flood_count;
};

struct sim_client *client_new(struct sim_socket *s, const struct client_options *o);
void client_free(struct sim_client *c);
/* Without a word. */
void client_vanish(struct sim_client *c, bool is_reset);
/* As ssh does: DISCONNECT, then the socket's end. */
void client_disconnect(struct sim_client *c);

/* A channel by the plan; now or when the connection is there. NULL when all are in use. */
struct client_chan *client_open(struct sim_client *c, const struct client_chan_plan *plan);
/* All channels that were opened are closed on both sides. */
bool client_is_done(const struct sim_client *c);

/* Requests without a wish for a reply. */
void client_window_change(struct sim_client *c, const struct client_chan *ch, uint32_t columns);
void client_signal(struct sim_client *c, const struct client_chan *ch);

/* The byte at a place of a channel's stream. */
static inline uint8_t pattern_at(uint64_t key, uint64_t at)
{
	uint64_t x = (at >> 3) * 0x9e3779b97f4a7c15u ^ key;

	x ^= x >> 29;
	return (uint8_t)(x >> 8 * (at & 7));
}

#endif
