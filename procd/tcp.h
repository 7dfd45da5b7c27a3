/*
 * procd/tcp.h - channels of kind `tcp` and `unix`: a connection made from inside the sandbox; and of `forwarded-tcp`
 * and `forwarded-unix`, or `agent`: one that was made to us there.
 *
 * Owner:  embedded in its channel.
 * Thread: the loop's; names are resolved elsewhere (resolve.h).
 */
#ifndef PROCD_TCP_H
#define PROCD_TCP_H

#include "procd/resolve.h"
#include "procd/sink.h"
#include "procd/source.h"

struct channel_kind;
struct session;
struct channel;
struct frame;

struct tcp {
	struct resolve_job *job;
	struct sockaddr_storage addresses[ADDRESSES_MAX];
	uint32_t address_count, address_at;
	uint64_t until_ms; /* of all attempts together */
	int last_error;
	bool is_connected;
	uint32_t agent_of;  /* `agent`: the session channel that it belongs to */
	struct watch watch; /* while connecting */
	struct sink sink;   /* the socket's descriptor is here */
	struct source in;
};

extern const struct channel_kind tcp_kind;
/* The same, counted in the session's agent_count from tcp_accepted_agent on. */
extern const struct channel_kind agent_kind;

/* An OPEN of each kind. */
int tcp_open(struct channel *c, const struct frame *f);
int tcp_open_unix(struct channel *c, const struct frame *f);

/* A connection that somebody made to us (forward.h), on a channel that was offered. Takes fd. */
void tcp_accepted(struct channel *c, int fd);
/* The same, to the agent of that session channel. */
void tcp_accepted_agent(struct channel *c, int fd, uint32_t session);

/* Names were resolved: goes on with them. */
void tcp_resolved(struct session *s);

#endif
