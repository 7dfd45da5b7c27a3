/*
 * gateway/link_setup.h - what a channel's client asked for before its program starts: pty, environment, and what to run.
 *
 * Owner:  the link, until OPEN was sent.
 */
#ifndef GATEWAY_LINK_SETUP_H
#define GATEWAY_LINK_SETUP_H

#include "core/check.h"
#include "gateway/config.h"
#include "gateway/limits.h"
#include "ssh/conn.h"
#include "upstream/procd/frame.h"

struct link_setup {
	const char *kind; /* shell, exec, subsystem, tcp, unix */
	struct frame_open_options options;
	bool is_agent_refused; /* by the policy, when it was offered; its user is told when the program starts */
	/* Owned copies behind the options. */
	struct frame_env env[FRAME_ENV_MAX];
	size_t env_bytes;
	uint8_t *term, *modes, *value, *originator;
};

struct link_setup *link_setup_new(void);
void link_setup_free(struct link_setup *s);

/* The request's content, copied. False: too large, not allowed, or no memory. */
MUST_USE bool link_setup_pty(struct link_setup *s, const struct chan_request *r);
MUST_USE bool link_setup_env(struct link_setup *s, const struct config *c, const struct chan_request *r);
MUST_USE bool link_setup_start(struct link_setup *s, const struct chan_request *r);
MUST_USE bool link_setup_forward(struct link_setup *s, const struct chan_open *o);

/* Is it a login shell on a terminal? */
bool link_setup_is_greeted(const struct link_setup *s);

/* Once it says what to start or where to lead. */
MUST_USE bool link_setup_is_allowed(const struct link_setup *s, const struct policies *p, char ret_why[POLICY_WHY_MAX]);
/*
 * What else the policy makes of it, before it is sent. `why` holds what a client is told who writes to files that may only be read:
 * for as long as the options are used.
 */
void link_setup_limit(struct link_setup *s, const struct policies *p, char why[POLICY_WHY_MAX]);

/* True for the server side of the old scp protocol: `scp -t …` or `scp -f …`. */
bool command_is_legacy_scp(struct bytes command);

/* Can a Unix socket have this path? */
bool path_is_good(struct bytes path);

#endif
