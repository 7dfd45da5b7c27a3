/*
 * gateway/settings_table.c - every setting: its key, where it is stored, what it takes, its default, what it does.
 */
#include "gateway/config.h"
#include "gateway/limits.h"
#include "gateway/procd_url.h"
#include "ring/socket.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const log_formats[] = {"logfmt", "json", NULL};

/* What is accepted at all: nothing with SHA-1, no CBC, no group under 2048 bits. */
static const char *const kex_choices[] = {
	"mlkem768x25519-sha256",
	"sntrup761x25519-sha512",
	"sntrup761x25519-sha512@openssh.com",
	"curve25519-sha256",
	"curve25519-sha256@libssh.org",
	"ecdh-sha2-nistp256",
	"ecdh-sha2-nistp384",
	"ecdh-sha2-nistp521",
	"diffie-hellman-group14-sha256",
	"diffie-hellman-group16-sha512",
	"diffie-hellman-group18-sha512",
	NULL,
};
static const char *const cipher_choices[] = {
	"aes128-gcm@openssh.com",
	"aes256-gcm@openssh.com",
	"chacha20-poly1305@openssh.com",
	"aes128-ctr",
	"aes192-ctr",
	"aes256-ctr",
	NULL,
};
static const char *const mac_choices[] = {
	"hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512", NULL,
};
static const char *const host_key_choices[] = {
	"ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256", NULL,
};

static bool is_address(const char *text)
{
	struct sockaddr_storage addr;
	socklen_t bytes;

	return socket_address_parse(text, &addr, &bytes) == 0 && addr.ss_family != AF_UNIX;
}

static bool is_name(const char *text)
{
	return text[0] &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == strlen(text);
}

static bool is_path(const char *text)
{
	return text[0] != 0;
}

/* NAME or PREFIX*, the prefix not empty: "*" would let a user set LD_PRELOAD for whatever reads it first. */
static bool is_env_pattern(const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");

	return n > 0 && !(text[0] >= '0' && text[0] <= '9') && (text[n] == 0 || strcmp(text + n, "*") == 0);
}

/* ":PORT", or nothing. */
static bool is_port(const char *text)
{
	unsigned long port;

	if (!text[0])
		return true;
	if (text[0] != ':' || strlen(text) > 6 || strspn(text + 1, "0123456789") != strlen(text + 1))
		return false;
	port = strtoul(text + 1, NULL, 10);
	return port > 0 && port <= 65535;
}

/* As jump.names has them. */
static bool is_jump_name(const char *text)
{
	static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
	char host[INET6_ADDRSTRLEN];
	struct in6_addr v6;
	size_t n;

	if (text[0] != '[') {
		n = strspn(text, name);
		return n > 0 && n <= 253 && is_port(text + n);
	}
	n = strcspn(text, "]");
	if (!text[n] || n > sizeof(host))
		return false;
	memcpy(host, text + 1, n - 1);
	host[n - 1] = 0;
	return inet_pton(AF_INET6, host, &v6) == 1 && is_port(text + n + 1);
}

static bool is_url(const char *text)
{
	return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
}

static bool is_redis_url(const char *text)
{
	static const char *const schemes[] = {"redis://",     "rediss://",  "unix:/",     "sentinel://",
					      "sentinels://", "cluster://", "clusters://"};

	for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
		if (strncmp(text, schemes[i], strlen(schemes[i])) == 0)
			return true;
	return false;
}

#define AT(field) .offset = offsetof(struct config, field), .bytes = sizeof(((struct config *)0)->field)
#define U32(field) .type = TYPE_U32, AT(field)
#define U64(field) .type = TYPE_U64, AT(field)
#define CHOICE(field, names) .type = TYPE_CHOICE, AT(field), .choices = (names)
#define TEXT(field, test) .type = TYPE_TEXT, AT(field), .is_good = (test)
#define LIST(field, count, test)                                                         \
	.type = TYPE_LIST, AT(field[0]), .count_offset = offsetof(struct config, count), \
	.most = sizeof(((struct config *)0)->field) / sizeof(((struct config *)0)->field[0]), .is_good = (test)
#define ALGORITHMS(field, names) .type = TYPE_ALGORITHMS, AT(field), .choices = (names)

static const struct setting settings[] = {
	{"listen", LIST(listen, listen_count, is_address), .unit = "ADDR:PORT or [V6]:PORT, numeric",
	 .initial = "0.0.0.0:2222", .help = "Where to listen. Port 0 takes any free one; [::] is IPv6 alone."},
	{"name", TEXT(name, is_name), .unit = "letters, digits and . _ -", .initial_shown = "the host name",
	 .help = "The gateway's name in the tickets that sandboxes see and in logs."},
	{"host_key_dir", TEXT(host_key_dir, is_path), .unit = "a folder", .initial = "/var/lib/ringgate/host_keys",
	 .help = "Holds ssh_host_ed25519_key, ssh_host_ecdsa_key and ssh_host_rsa_key; what is missing is made at "
		 "start. Gateways behind one address share these files."},
	{"directory", TEXT(directory, is_path), .unit = "a file",
	 .help = "The directory file: users, their keys and teams, sandboxes. Either it or control.url must be set."},
	{"directory_check_s", U32(directory_check_s), .unit = "seconds", .min = 1, .max = 3600,
	 .zero = "only at SIGHUP", .initial = "1", .help = "How often the directory file is looked at for a change."},
	{"procd_key_file", TEXT(procd_key_file, is_path), .unit = "a file", .initial = "/var/lib/ringgate/gateway_key",
	 .help = "This gateway's Ed25519 secret, by which sandboxes know it; made at first start, with FILE.pub beside "
		 "it."},
	{"workers", U32(workers), .min = 1, .max = WORKERS_MAX, .zero = "one for each core", .initial = "0",
	 .help = "Threads that carry sessions."},
	{"handshake_threads", U32(handshake_threads), .min = 1, .max = HANDSHAKERS_MAX,
	 .zero = "one for four cores, at least one", .initial = "0",
	 .help = "Threads that accept connections and log users in."},

	{"log.level", CHOICE(log.level, log_levels), .initial = "info", .help = "Records below this are not written."},
	{"log.format", CHOICE(log.format, log_formats), .initial = "logfmt",
	 .help = "One line a record in either form."},
	{"log.file", TEXT(log.file, is_path), .unit = "a file, or - for standard error", .initial = "-",
	 .help = "Records are appended to it; SIGHUP opens it anew."},

	{"login.banner_file", TEXT(login.banner_file, is_path), .unit = "a file",
	 .help = "Shown to everybody before login: UTF-8, at most 8 KiB, without control characters. Read at start and "
		 "at "
		 "SIGHUP."},
	{"login.grace_s", U32(login.grace_s), .unit = "seconds", .min = 1, .max = 3600, .initial = "60",
	 .help = "From accepting a connection to its user being logged in."},
	{"login.max_bad_signatures", U32(login.max_bad_signatures), .min = 1, .max = 100, .initial = "6",
	 .help = "Wrong signatures after which a connection is ended."},
	{"login.max_keys", U32(login.max_keys), .min = 1, .max = 1000, .initial = "30",
	 .help = "Keys that a connection may offer."},
	{"login.unauthenticated.begin", U32(login.start_begin), .min = 1, .max = 1000000, .initial = "100",
	 .help = "Connections not yet logged in from which new ones are dropped at random, as sshd's MaxStartups "
		 "does."},
	{"login.unauthenticated.rate", U32(login.start_rate), .unit = "per cent", .min = 0, .max = 100, .initial = "30",
	 .help = "How many are dropped there; it grows to all of them at login.unauthenticated.full."},
	{"login.unauthenticated.full", U32(login.start_full), .min = 1, .max = 1000000, .initial = "1000",
	 .help = "Connections not yet logged in from which all new ones are dropped."},
	{"login.unauthenticated.per_address", U32(login.per_address), .min = 1, .max = 1000000, .zero = "no limit",
	 .initial = "0", .help = "Connections not yet logged in from one address."},

	{"login.probe_tick_ms", U32(login.probe_tick_ms), .unit = "milliseconds", .min = 10, .max = 1000, .zero = "off",
	 .initial = "100",
	 .help = "With a control plane: an answer to a key that is offered without a signature leaves at the next "
		 "multiple of "
		 "this since the connection began, so that its time does not tell who has been here lately."},
	{"login.probe_lookups.rate", U32(login.probe_rate), .unit = "a second", .min = 1, .max = 1000000,
	 .zero = "no limit", .initial = "1000",
	 .help = "With a control plane: keys offered, signed for or not, that this gateway does not know and asks for. "
		 "What is above it waits, within login.grace_s."},
	{"login.probe_lookups.rate_address", U32(login.probe_rate_address), .unit = "a second", .min = 1,
	 .max = 1000000, .zero = "no limit", .initial = "50",
	 .help = "The same for one IPv4 address or one /64 of IPv6."},

	{"session.max_channels", U32(session.max_channels), .min = 1, .max = 256, .initial = "256",
	 .help = "Open channels of one connection."},
	{"session.keepalive_s", U32(session.keepalive_s), .unit = "seconds", .min = 1, .max = 86400, .zero = "off",
	 .initial = "30",
	 .help = "A client that was silent so long is asked whether it lives, as by sshd's ClientAliveInterval."},
	{"session.keepalive_count", U32(session.keepalive_count), .min = 1, .max = 100, .initial = "3",
	 .help = "Unanswered ones after which the connection is lost."},
	{"session.tcp_user_timeout_ms", U32(session.tcp_user_timeout_ms), .unit = "milliseconds", .min = 1000,
	 .max = 86400000, .zero = "the system's", .initial = "120000",
	 .help = "Bytes that were sent and not acknowledged for so long end a connection: to the client and to the "
		 "sandbox."},
	{"session.max_sessions", U32(session.max_sessions), .min = 1, .max = 1000000, .initial = "10000",
	 .help = "Live sessions in this gateway; more are not accepted."},
	{"session.window_bytes", U32(session.window_bytes), .unit = "bytes", .min = 32 * KIB, .max = 64 * MIB,
	 .initial = "2MiB", .help = "SSH receive window of a channel."},
	{"session.window_max_bytes", U32(session.window_max_bytes), .unit = "bytes", .min = 32 * KIB, .max = 1 * GIB,
	 .initial = "64MiB",
	 .help = "To which the window of an upload grows where a round trip takes longer than the window lasts."},
	{"session.window_budget_bytes", U64(session.window_budget_bytes), .unit = "bytes", .min = 1 * MIB,
	 .max = 1024 * GIB, .initial = "256MiB",
	 .help = "Uploaded bytes of all sessions that wait for slow sandboxes; while there are more, no window is "
		 "grown "
		 "beyond session.window_bytes."},
	{"session.rekey_bytes", U64(session.rekey_bytes), .unit = "bytes", .min = 64 * KIB, .max = 1024 * GIB,
	 .zero = "the cipher's own limit", .initial = "0", .help = "New keys are agreed after so much data."},
	{"session.rekey_s", U32(session.rekey_s), .unit = "seconds", .min = 1, .max = 604800, .zero = "never by time",
	 .initial = "3600", .help = "New keys are agreed after so long."},
	{"session.accept_env", LIST(session.accept_env, session.accept_env_count, is_env_pattern),
	 .unit = "NAME or PREFIX*", .initial = "",
	 .help = "Environment variables that clients may set besides `LANG`, `LC_*`, `TERM`, `COLORTERM` and `GIT_*`."},
	{"session.motd_file", TEXT(session.motd_file, is_path), .unit = "a file",
	 .help = "The message of the day: shown on a terminal before a login shell, unless the sandbox's user has a "
		 "file "
		 "~/.hushlogin. UTF-8, at most 8 KiB; escape sequences are passed on. Read at start and at SIGHUP."},
	{"session.resume_timeout_s", U32(session.resume_timeout_s), .unit = "seconds", .min = 1, .max = 3600,
	 .initial = "60",
	 .help = "A paused sandbox has so long to wake up while the user's channels wait; then they end with exit "
		 "status "
		 "254."},
	{"session.resume_poll_s", U32(session.resume_poll_s), .unit = "seconds", .min = 1, .max = 300, .initial = "15",
	 .help = "How long the control plane may hold back its answer to whether a sandbox is awake; then it is asked "
		 "again."},
	{"session.forward_tcp", CHOICE(policy.forward_tcp, policy_scopes), .initial = "loopback",
	 .help = "The older name of policy.forward_tcp."},
	{"session.forward_listen", CHOICE(policy.forward_listen, policy_scopes), .initial = "loopback",
	 .help = "The older name of policy.forward_listen."},
	{"session.forward_unix", CHOICE(policy.forward_unix, policy_no_yes), .initial = "yes",
	 .help = "The older name of policy.forward_unix."},

	{"policy.forward_tcp", CHOICE(policy.forward_tcp, policy_scopes), .initial = "loopback",
	 .help = "Where ssh -L, -D and -W may lead: nowhere, to addresses inside the sandbox, to whatever the sandbox "
		 "reaches."},
	{"policy.forward_ports", LIST(policy.forward_ports, policy.forward_ports_count, policy_ports_are_good),
	 .unit = POLICY_PORTS_UNIT, .initial = "", .help = "And to which ports. Empty: to any."},
	{"policy.forward_listen", CHOICE(policy.forward_listen, policy_scopes), .initial = "loopback",
	 .help = "Where ssh -R may listen in the sandbox: nowhere; on its loopback only, whatever the client asks for "
		 "(as sshd's GatewayPorts no); where the client asks (clientspecified)."},
	{"policy.listen_ports", LIST(policy.listen_ports, policy.listen_ports_count, policy_ports_are_good),
	 .unit = POLICY_PORTS_UNIT, .initial = "",
	 .help = "And at which ports. Empty: at any; else -R with port 0 is refused, too."},
	{"policy.forward_unix", CHOICE(policy.forward_unix, policy_no_yes), .initial = "yes",
	 .help = "ssh -L and -R with Unix sockets in the sandbox."},
	{"policy.agent", CHOICE(policy.agent, policy_no_yes), .initial = "yes",
	 .help = "ssh -A: the user's agent in the sandbox."},
	{"policy.jump", CHOICE(policy.jump, policy_no_yes), .initial = "yes",
	 .help = "ssh -J through a sandbox's name to another one of this region."},
	{"policy.commands", LIST(policy.commands, policy.commands_count, policy_command_is_good),
	 .unit = POLICY_COMMAND_UNIT, .initial = "",
	 .help = "The only commands that may be run; then there is no shell. Empty: any, and a shell."},
	{"policy.sftp", CHOICE(policy.sftp, policy_sftp_scopes), .initial = "full",
	 .help = "sftp, scp and sshfs: not at all; to read only, which without policy.commands means "
		 "policy.sftp_only, since a shell could write; fully."},
	{"policy.sftp_only", CHOICE(policy.sftp_only, policy_no_yes), .initial = "no",
	 .help = "Nothing but sftp: no shell, no commands, no forwards, no agent, no jump."},
	{"policy.idle_timeout_s", U32(policy.idle_timeout_s), .unit = "seconds", .min = 1, .max = 31536000,
	 .zero = "never", .initial = "0",
	 .help = "A session none of whose channels has carried a byte for so long is ended."},
	{"policy.idle_warning_s", U32(policy.idle_warning_s), .unit = "seconds", .max = 31536000, .initial = "60",
	 .help = "So long before that its user is told, on standard error; at most half of policy.idle_timeout_s."},

	{"jump.names", LIST(jump.names, jump.names_count, is_jump_name), .unit = "NAME, NAME:PORT, [V6] or [V6]:PORT",
	 .initial = "",
	 .help = "This gateway's own names, for ssh -J through it to a second sandbox; without a port at those of "
		 "listen. Besides, the address at which the client reached the gateway and those of listen, but "
		 "loopback, which is the sandbox's own."},
	{"jump.depth", U32(jump.depth), .min = 1, .max = JUMP_DEPTH_MAX, .zero = "off", .initial = "3",
	 .help = "So many jumps one inside the other."},

	{"procd.connect_timeout_ms", U32(procd.connect_timeout_ms), .unit = "milliseconds", .min = 100, .max = 120000,
	 .initial = "5000", .help = "For a connection to a sandbox."},
	{"procd.hello_timeout_ms", U32(procd.hello_timeout_ms), .unit = "milliseconds", .min = 100, .max = 120000,
	 .initial = "5000", .help = "From there to procd's proof of who it is."},
	{"procd.ping_s", U32(procd.ping_s), .unit = "seconds", .min = 1, .max = 3600, .initial = "30",
	 .help = "A sandbox that was silent so long is asked whether it lives."},
	{"procd.ping_count", U32(procd.ping_count), .min = 1, .max = 100, .initial = "3",
	 .help = "Unanswered ones after which it is lost."},
	{"procd.budget_bytes", U32(procd.budget_bytes), .unit = "bytes", .min = 256 * KIB, .max = 1 * GIB,
	 .initial = "8MiB",
	 .help = "Credit granted and bytes held on the connection to one sandbox, over all its channels."},
	{"procd.allow", LIST(procd.allow, procd.allow_count, cidr_is_good), .unit = "ADDRESS or ADDRESS/BITS",
	 .initial = "",
	 .help = "With a control plane: where sandboxes may be; an address outside is not connected to. Empty: "
		 "anywhere."},

	{"control.url", TEXT(control.url, is_url), .unit = "http://HOST:PORT or https://HOST:PORT",
	 .help = "The control plane that is asked for keys and sandboxes, in place of a directory file."},
	{"control.ca_file", TEXT(control.ca_file, is_path), .unit = "a file", .initial_shown = "the system's",
	 .help = "Certificates (PEM) by which the control plane's own is checked."},
	{"control.key_file", TEXT(control.key_file, is_path), .unit = "a file", .initial_shown = "procd_key_file",
	 .help = "This gateway's Ed25519 secret, by which the control plane knows it; of the form of procd_key_file."},
	{"control.connect_timeout_ms", U32(control.connect_timeout_ms), .unit = "milliseconds", .min = 10, .max = 60000,
	 .initial = "1000", .help = "For a connection to the control plane."},
	{"control.timeout_ms", U32(control.timeout_ms), .unit = "milliseconds", .min = 50, .max = 60000,
	 .initial = "5000",
	 .help = "For an answer, further tries included. Users are told `temporarily unavailable` then."},
	{"control.connections", U32(control.connections), .min = 1, .max = 256, .initial = "16",
	 .help = "Connections to the control plane that are kept."},

	{"redis.url", TEXT(redis.url, is_redis_url),
	 .unit = "redis://, rediss://, unix:, sentinel://, sentinels://, cluster:// or "
		 "clusters://",
	 .help = "The cache that gateways share, a Redis or Valkey: redis://[USER:PASSWORD@]HOST[:PORT][/DB], "
		 "unix:/PATH, "
		 "sentinel://HOST:PORT,HOST:PORT/NAME, cluster://HOST:PORT,HOST:PORT; with an s after the scheme TLS."},
	{"redis.password_file", TEXT(redis.password_file, is_path), .unit = "a file",
	 .help = "Its password, in place of one in the URL."},
	{"redis.ca_file", TEXT(redis.ca_file, is_path), .unit = "a file", .initial_shown = "the system's",
	 .help = "Certificates (PEM) by which its own is checked."},
	{"redis.secret_file", TEXT(redis.secret_file, is_path), .unit = "a file",
	 .help = "32 bytes that all gateways of the region share and nobody else has, in base64 or hex: who can write "
		 "to Redis "
		 "cannot write grants without them. Made by `openssl rand -base64 32`; readable by its owner only. "
		 "Required "
		 "with redis.url."},
	{"redis.connect_timeout_ms", U32(redis.connect_timeout_ms), .unit = "milliseconds", .min = 10, .max = 60000,
	 .initial = "1000", .help = "For a connection to it."},
	{"redis.timeout_ms", U32(redis.timeout_ms), .unit = "milliseconds", .min = 10, .max = 10000, .initial = "200",
	 .help = "For an answer; then the control plane is asked."},

	{"cache.key_ttl_s", U32(cache.key_ttl_s), .unit = "seconds", .min = 1, .max = 3600, .initial = "300",
	 .help = "How long it is remembered whose a key is."},
	{"cache.route_ttl_s", U32(cache.route_ttl_s), .unit = "seconds", .min = 1, .max = 3600, .initial = "60",
	 .help = "How long it is remembered where a sandbox is and who may enter."},
	{"cache.unversioned_ttl_s", U32(cache.unversioned_ttl_s), .unit = "seconds", .min = 1, .max = 3600,
	 .initial = "10",
	 .help = "The most for an answer without a version, and for all while neither Redis nor the changes feed would "
		 "tell of "
		 "a change."},
	{"cache.unknown_ttl_s", U32(cache.unknown_ttl_s), .unit = "seconds", .min = 1, .max = 60, .initial = "5",
	 .help = "How long a no is remembered: an unknown key, a sandbox that the user may not enter."},
	{"cache.keys", U32(cache.keys), .min = 16, .max = 10000000, .initial = "65536",
	 .help = "Keys remembered in this process, some 350 bytes each."},
	{"cache.routes", U32(cache.routes), .min = 16, .max = 10000000, .initial = "65536",
	 .help = "Sandboxes, and as many grants, remembered in this process, some 800 bytes together."},
	{"cache.unknown", U32(cache.unknown), .min = 16, .max = 1000000, .initial = "4096",
	 .help = "Unknown keys and forbidden sandboxes remembered in this process."},

	{"admin.socket", TEXT(admin_socket, is_path), .unit = "a path",
	 .help = "A Unix socket for `ringgate status`, for the gateway's own user. Without it there is none."},

	{"crypto.kex", ALGORITHMS(crypto.kex, kex_choices), .initial_shown = "all of them in this order",
	 .help = "Key exchanges, the preferred ones first."},
	{"crypto.ciphers", ALGORITHMS(crypto.ciphers, cipher_choices), .initial_shown = "all of them in this order",
	 .help = "Ciphers. The client's preference rules."},
	{"crypto.macs", ALGORITHMS(crypto.macs, mac_choices), .initial_shown = "all of them in this order",
	 .help = "Message authentication for the ciphers named ctr; the others bring their own."},
	{"crypto.host_keys", ALGORITHMS(crypto.host_keys, host_key_choices),
	 .initial_shown = "all of them in this order", .help = "Host key algorithms."},
};

_Static_assert(ARRAY_LEN(settings) <= SETTINGS_MAX, "each setting's line is kept");
_Static_assert(offsetof(struct config, settings) == 0, "offsets start at it");
_Static_assert(sizeof(enum log_level) == 4 && sizeof(enum log_format) == 4, "a choice is stored as uint32_t");

static const char *const sections[] = {
	"log",
	"login",
	"login.unauthenticated",
	"login.probe_lookups",
	"session",
	"policy",
	"jump",
	"procd",
	"control",
	"redis",
	"cache",
	"admin",
	"crypto",
	NULL,
};

const struct setting_table config_table = {
	.program = "ringgate",
	.settings = settings,
	.count = ARRAY_LEN(settings),
	.sections = sections,
};
