/*
 * core/policy.h - what a user who was let in may do: forwards, programs, files, and how long he may rest.
 *
 * A policy is what one of the region's settings, a team or a sandbox forbids; what it does not mention it allows. Of all that
 * hold for a session each must allow what is asked for, so the strictest rules, and a refusal names the policy that refused.
 *
 * Owner:  whoever holds a reference; immutable from policy_new on.
 * Thread: any. Pure.
 */
#ifndef CORE_POLICY_H
#define CORE_POLICY_H

#include "core/bytes.h"
#include "core/check.h"

#include <stdint.h>

struct doc;
struct doc_node;
struct policy;

/* Ranges of ports in one list, and commands. */
#define POLICY_PORTS_MAX 16
#define POLICY_COMMANDS_MAX 16
/* "65535-65535" and a NUL; a command or pattern and a NUL. */
#define POLICY_PORTS_BYTES 12
#define POLICY_COMMAND_BYTES 128

/* A command longer than this is not among a limited set: matching is bounded work. */
#define POLICY_COMMAND_MAX 1024

/* A sentence that says what is refused by which policy, and whom to ask. */
#define POLICY_WHY_MAX 224

/* Where forwards may lead: nowhere, to addresses inside the sandbox, to whatever it reaches. */
enum forward_scope { FORWARD_NONE, FORWARD_LOOPBACK, FORWARD_ALL };

enum sftp_scope { POLICY_SFTP_NONE, POLICY_SFTP_READ_ONLY, POLICY_SFTP_FULL };

/* The words for these, and for 0 and 1; NULL ends them. */
extern const char *const policy_scopes[], *const policy_sftp_scopes[], *const policy_no_yes[];

/* As settings and files say it; the rows of a setting_table write here. */
struct policy_values {
	uint32_t forward_tcp; /* enum forward_scope: ssh -L, -D, -W */
	char forward_ports[POLICY_PORTS_MAX][POLICY_PORTS_BYTES];
	uint32_t forward_ports_count; /* 0: any */
	uint32_t forward_listen;      /* enum forward_scope: ssh -R */
	char listen_ports[POLICY_PORTS_MAX][POLICY_PORTS_BYTES];
	uint32_t listen_ports_count;        /* 0: any */
	uint32_t forward_unix, agent, jump; /* 0 or 1 */
	char commands[POLICY_COMMANDS_MAX][POLICY_COMMAND_BYTES];
	uint32_t commands_count; /* 0: any, and a shell */
	uint32_t sftp;           /* enum sftp_scope */
	uint32_t sftp_only;      /* 0 or 1 */
	uint32_t idle_timeout_s; /* 0: never */
	uint32_t idle_warning_s; /* before it */
};

#define POLICY_PORTS_UNIT "PORT or FIRST-LAST"
#define POLICY_COMMAND_UNIT \
	"a command of at most 127 ASCII characters, * for letters, digits and _-./:=@,+%, not at its start"

/* "22" or "8000-8999", neither 0. */
bool policy_ports_are_good(const char *text);
/* Printable ASCII that does not begin with `*`, under POLICY_COMMAND_BYTES. */
bool policy_command_is_good(const char *text);

/* Every value was checked. NULL without memory. */
MUST_USE struct policy *policy_new(const struct policy_values *v);
/* Before anybody else has it. Copied, made fit for terminals. -ENOMEM. */
MUST_USE int policy_set_motd(struct policy *p, const char *text);
/* NULL is fine in both. */
struct policy *policy_get(struct policy *p);
void policy_put(struct policy *p);

/*
 * One map of a file or an answer: what policy_values holds, under the same names; yes, no, true and false are known. An unknown key
 * is an error. -EINVAL with "FILE:LINE: " and what is wrong, -ENOMEM; *ret_policy is the caller's then.
 */
MUST_USE int policy_read(const struct doc *doc, const struct doc_node *map, struct policy **ret_policy, char *ret_error,
			 size_t error_bytes);

/*
 * {"motd": "…", "sandbox": …, "team": …} as JSON, some of them or none; "" is none. What is read here came from a control plane, perhaps through
 * Redis. *ret_team and *ret_sandbox are the caller's then, or NULL.
 */
MUST_USE int policies_read(const char *text, struct policy **ret_team, struct policy **ret_sandbox, char *ret_error,
			   size_t error_bytes);

/* What holds for one session. NULL: says nothing, or is not known yet. */
struct policies {
	struct policy *region, *team, *sandbox;
	const char *team_id;
};

/* False: ret_why says why not. */
MUST_USE bool policies_allow_connect(const struct policies *p, struct bytes host, uint32_t port,
				     char ret_why[POLICY_WHY_MAX]);
MUST_USE bool policies_allow_listen(const struct policies *p, uint32_t port, char ret_why[POLICY_WHY_MAX]);
MUST_USE bool policies_allow_unix(const struct policies *p, char ret_why[POLICY_WHY_MAX]);
MUST_USE bool policies_allow_agent(const struct policies *p, char ret_why[POLICY_WHY_MAX]);
/* To another sandbox, through this gateway (ssh -J). */
MUST_USE bool policies_allow_jump(const struct policies *p, char ret_why[POLICY_WHY_MAX]);
MUST_USE bool policies_allow_shell(const struct policies *p, char ret_why[POLICY_WHY_MAX]);
MUST_USE bool policies_allow_command(const struct policies *p, struct bytes command, char ret_why[POLICY_WHY_MAX]);
MUST_USE bool policies_allow_sftp(const struct policies *p, char ret_why[POLICY_WHY_MAX]);
/* Any other subsystem. */
MUST_USE bool policies_allow_subsystem(const struct policies *p, char ret_why[POLICY_WHY_MAX]);

/* May what listens be reached from outside of the sandbox? Else it listens on its loopback, whatever the client asks for. */
bool policies_listen_anywhere(const struct policies *p);
/* What the sandbox's control plane has to say on a terminal, control characters but line ends taken out; "" where it has nothing. */
const char *policies_motd(const struct policies *p);
/* May files be written by sftp? Else ret_why is what a client is told who tries. */
MUST_USE bool policies_allow_writing(const struct policies *p, char ret_why[POLICY_WHY_MAX]);
/* Are commands limited? Then so is what else could make a permitted one do something else: environment variables. */
bool policies_limit_commands(const struct policies *p);

/* When a session that moves nothing ends. */
struct idle_limit {
	uint32_t timeout_s;         /* 0: never */
	uint32_t warning_s;         /* its user is told so long before; at most half the timeout */
	char whose[POLICY_WHY_MAX]; /* "the policy of team blue (idle_timeout_s)" */
};
void policies_idle(const struct policies *p, struct idle_limit *ret);

/* Is this an address of the sandbox itself: localhost, 127.0.0.0/8, ::1, or nothing? */
bool host_is_loopback(struct bytes host);

#endif
