/*
 * gateway/config.h - every setting of ringgate: its name, its unit, its default and its bounds.
 *
 * One table in settings_table.c describes each setting once; the file reader, the flags (--set key=value), --check, --help's list and
 * docs/configuration.md all come from it.
 *
 * Owner:  main; read-only once the threads run.
 */
#ifndef GATEWAY_CONFIG_H
#define GATEWAY_CONFIG_H

#include "core/check.h"
#include "core/log.h"
#include "core/policy.h"
#include "core/settings.h"

#include <stdbool.h>
#include <stdint.h>

#define CONFIG_LIST_MAX 16
#define CONFIG_PATH_MAX SETTINGS_PATH_MAX
#define CONFIG_ERROR_BYTES SETTINGS_ERROR_BYTES

struct config {
	struct settings settings; /* first: the table's offsets start here */

	/* Where to listen: "ADDR:PORT", "[V6]:PORT"; at least one. listen */
	char listen[CONFIG_LIST_MAX][128];
	uint32_t listen_count;
	char name[64];                      /* gateway name in tickets and logs; default the host name */
	char host_key_dir[CONFIG_PATH_MAX]; /* host_key_dir: ssh_host_{ed25519,ecdsa,rsa}_key, made on first start */
	char directory[CONFIG_PATH_MAX];    /* directory: the static directory file; or control.url */
	uint32_t directory_check_s;         /* directory_check_s: how often it is looked at for changes, default 1 */
	/* procd_key_file: this gateway's Ed25519 secret towards procd; made on first start. */
	char procd_key_file[CONFIG_PATH_MAX];
	uint32_t workers;           /* workers: 0 = one a core */
	uint32_t handshake_threads; /* handshake_threads: 0 = one for four cores, at least 1 */

	struct {
		enum log_level level;       /* log.level: debug info warn error */
		enum log_format format;     /* log.format: logfmt json */
		char file[CONFIG_PATH_MAX]; /* log.file: "-" is standard error */
	} log;

	struct {
		char banner_file[CONFIG_PATH_MAX]; /* login.banner_file: shown before login; "" = none */
		uint32_t grace_s;                  /* login.grace_s: deadline for logging in, 60 */
		uint32_t max_bad_signatures;       /* login.max_bad_signatures: 6 */
		uint32_t max_keys;                 /* login.max_keys: keys offered, 30 */
		uint32_t start_begin;        /* login.unauthenticated.begin: connections from which drops begin, 100 */
		uint32_t start_rate;         /* login.unauthenticated.rate: per cent dropped there, 30 */
		uint32_t start_full;         /* login.unauthenticated.full: all dropped from here, 1000 */
		uint32_t per_address;        /* login.unauthenticated.per_address: 0 = no limit; 0 */
		uint32_t probe_tick_ms;      /* login.probe_tick_ms: with a control plane; 100; 0 = off */
		uint32_t probe_rate;         /* login.probe_lookups.rate: a second, in all; 1000 */
		uint32_t probe_rate_address; /* login.probe_lookups.rate_address: a second, of one address; 50 */
	} login;

	struct {
		uint32_t max_channels;        /* session.max_channels: open channels a connection, 256 (as procd) */
		uint32_t keepalive_s;         /* session.keepalive_s: ClientAliveInterval, 0 = off; 30 */
		uint32_t keepalive_count;     /* session.keepalive_count: unanswered ones before it is lost, 3 */
		uint32_t tcp_user_timeout_ms; /* session.tcp_user_timeout_ms: both legs, 120000; 0 = the system's */
		uint32_t max_sessions;        /* session.max_sessions: live ones in this gateway, 10000 */
		uint32_t window_bytes;        /* session.window_bytes: SSH receive window a channel, 2 MiB */
		uint32_t window_max_bytes;    /* session.window_max_bytes: to which it grows on a long way, 64 MiB */
		uint64_t window_budget_bytes; /* session.window_budget_bytes: held uploads beyond which none grows, 256 MiB */
		uint64_t rekey_bytes;         /* session.rekey_bytes: 0 = the cipher's own limit */
		uint32_t rekey_s;             /* session.rekey_s: 3600; 0 = never by time */
		char accept_env[CONFIG_LIST_MAX * 4][64]; /* session.accept_env: further patterns (NAME or PREFIX*) */
		uint32_t accept_env_count;
		char motd_file[CONFIG_PATH_MAX]; /* session.motd_file: shown on a terminal; "" = none */
		uint32_t resume_timeout_s;       /* session.resume_timeout_s: for a paused sandbox to wake up, 60 */
		uint32_t resume_poll_s;          /* session.resume_poll_s: the directory may hold an answer back, 15 */
	} session;

	/* policy.*: the region's; three of them have older names, session.forward_{tcp,listen,unix} */
	struct policy_values policy;

	struct {
		char names[CONFIG_LIST_MAX][280]; /* jump.names: NAME or NAME:PORT; beside the addresses */
		uint32_t names_count;
		uint32_t depth; /* jump.depth: one inside the other, 3; 0 = off */
	} jump;

	struct {
		uint32_t connect_timeout_ms;     /* procd.connect_timeout_ms: 5000 */
		uint32_t hello_timeout_ms;       /* procd.hello_timeout_ms: connect to WELCOME, 5000 */
		uint32_t ping_s;                 /* procd.ping_s: 30 */
		uint32_t ping_count;             /* procd.ping_count: 3 */
		uint32_t budget_bytes;           /* procd.budget_bytes: credit and held bytes a stream, 8 MiB */
		char allow[CONFIG_LIST_MAX][64]; /* procd.allow: CIDRs of sandboxes; none: anywhere */
		uint32_t allow_count;
	} procd;

	struct {
		char url[256];                  /* control.url: http(s)://HOST:PORT; or directory */
		char ca_file[CONFIG_PATH_MAX];  /* control.ca_file: "" = the system's */
		char key_file[CONFIG_PATH_MAX]; /* control.key_file: signs tokens; "" = procd_key_file */
		uint32_t connect_timeout_ms;    /* control.connect_timeout_ms: 1000 */
		uint32_t timeout_ms;            /* control.timeout_ms: of a call with its retries, 5000 */
		uint32_t connections;           /* control.connections: 16 */
	} control;

	struct {
		char url[512];                       /* redis.url; "" = none */
		char password_file[CONFIG_PATH_MAX]; /* redis.password_file */
		char ca_file[CONFIG_PATH_MAX];       /* redis.ca_file */
		char secret_file[CONFIG_PATH_MAX];   /* redis.secret_file: what the gateways share; with url required */
		uint32_t connect_timeout_ms;         /* redis.connect_timeout_ms: 1000 */
		uint32_t timeout_ms;                 /* redis.timeout_ms: of a command, 200 */
	} redis;

	struct {
		uint32_t key_ttl_s;         /* cache.key_ttl_s: 300 */
		uint32_t route_ttl_s;       /* cache.route_ttl_s: routes and grants, 60 */
		uint32_t unversioned_ttl_s; /* cache.unversioned_ttl_s: answers without a version, 10 */
		uint32_t unknown_ttl_s;     /* cache.unknown_ttl_s: a no, 5 */
		uint32_t keys;              /* cache.keys: remembered in this process, 65536 */
		uint32_t routes;            /* cache.routes: routes, and as many grants, 65536 */
		uint32_t unknown;           /* cache.unknown: 4096 */
	} cache;

	char admin_socket[108]; /* admin.socket: "" = none */

	struct {
		/* crypto.*: OpenSSH names, comma separated; checked. */
		char kex[1024], ciphers[512], macs[512], host_keys[512];
	} crypto;
};

extern const struct setting_table config_table;

void config_defaults(struct config *c);
/* Reads a file over the defaults. 0, or -EINVAL with "file:line: what is wrong and what is known" in ret_error. */
MUST_USE int config_load(struct config *c, const char *path, char ret_error[CONFIG_ERROR_BYTES]);
/* One "key=value", as from --set. */
MUST_USE int config_set(struct config *c, const char *assignment, char ret_error[CONFIG_ERROR_BYTES]);
/* What only holds for the whole: required settings, files that must be readable, addresses that must parse. */
MUST_USE int config_check(const struct config *c, char ret_error[CONFIG_ERROR_BYTES]);
/* Writes the table of settings: name, type, default, bounds, what it does. For --help-settings and docs/configuration.md. */
void config_print_settings(void);

#endif
