/*
 * tests/sim/fake_procd.h - the sandbox's end of one stream, by a script: honest, slow, silent, lying or hostile.
 *
 * Channels do what their command says:
 *	echo     sends back what comes, and ends with status 0 after EOF
 *	sink     reads all, then status 0
 *	flood N  sends N bytes, whatever comes, then status 0 (from plan.silence_us on)
 *	hold     reads nothing, grants nothing, never ends
 *	exit N   status N at once
 * Everything the gateway promises is asserted: its proof, numbers, credits, nothing behind EOF or CLOSE.
 *
 * Owner:  its world; it goes when its stream has ended (procd_stop before that).
 */
#ifndef TESTS_SIM_FAKE_PROCD_H
#define TESTS_SIM_FAKE_PROCD_H

#include "core/chain.h"
#include "tests/sim/sim.h"
#include "upstream/procd/frame.h"
#include "upstream/procd/proof.h"

#define PROCD_CHANS_MAX 64

struct procd_plan {
	const struct proof_secret *secret;  /* the sandbox's, for WELCOME */
	const struct proof_public *gateway; /* whom it trusts */
	uint32_t credit_bytes;              /* of each channel, from OPENED on */
	uint32_t refuse_percent;
	bool says_nothing; /* no CHALLENGE */
	bool never_welcomes;
	bool never_opens;
	bool is_wrong; /* its WELCOME is signed by somebody else's key */
	bool says_wrong_sandbox;
	bool stops_granting; /* after the first credit */
	bool stops_reading;  /* from WELCOME on */
	bool stops_reading_after_open;
	bool floods_pings;
	uint32_t end_after; /* frames and pieces sent or read before the sudden end; 0: none */
	uint32_t garbage_after;
	bool is_reset;
	const bool *is_frozen, *is_gone; /* while it says so: does nothing; ends */
	/* Counted from the first OPEN on. */
	uint64_t silence_us;  /* no program sends before that */
	uint64_t lifetime_us; /* then the sudden end; 0: none */
};

struct procd_chan {
	uint32_t number;
	char command[64];
	bool is_tcp, is_opened, is_eof_seen, is_eof_sent, is_exit_sent, is_close_sent, is_close_seen;
	struct chain held; /* of echo */
	uint64_t to_send;  /* of flood */
	uint64_t read;
	uint32_t credit;  /* what we may send */
	uint32_t granted; /* what the gateway may send */
	uint32_t due;     /* to be granted */
	uint32_t status;
};

struct fake_procd {
	struct sim_actor actor;
	struct sim_socket *socket;
	struct procd_plan plan;
	struct frame_reader reader;
	struct chunk_pool pool;
	struct chain out;
	uint8_t challenge[FRAME_CHALLENGE_BYTES];
	bool is_hello_seen, is_ready, is_at_end, has_sent_garbage;
	uint32_t event_count;
	uint32_t last_number, open_seen;
	uint64_t opened_us; /* the first OPEN came */
	struct procd_chan chans[PROCD_CHANS_MAX];
	uint32_t chan_count;
	uint32_t *closed_count; /* of the world */
};

struct fake_procd *procd_start(struct sim_socket *s, const struct procd_plan *plan);
/* Its end of the stream goes, without a word. */
void procd_stop(struct fake_procd *p, bool is_reset);

#endif
