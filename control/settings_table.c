/*
 * control/settings_table.c - every setting: its key, where it is stored, what it takes, its default, what it does.
 */
#include "control/config.h"
#include "control/jwt.h"
#include "core/address.h"

#include <stddef.h>
#include <string.h>

static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const log_formats[] = {"logfmt", "json", NULL};
static const char *const drivers[] = {"none", "local", NULL};
static const char *const no_yes[] = {"no", "yes", NULL};

static bool is_address(const char *text)
{
	struct sockaddr_storage addr;
	socklen_t bytes;

	return socket_address_parse(text, &addr, &bytes) == 0;
}

static bool is_text(const char *text)
{
	return text[0] != 0;
}

static bool is_path(const char *text)
{
	return text[0] == '/';
}

static bool is_path_or_empty(const char *text)
{
	return !text[0] || is_path(text);
}

static bool is_any(const char *text)
{
	return true;
}

static bool is_host(const char *text)
{
	return text[0] &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:-") == strlen(text);
}

static bool is_key(const char *text)
{
	uint8_t key[JWT_KEY_BYTES];

	return jwt_key_parse(text, key);
}

#define AT(field) .offset = offsetof(struct config, field), .bytes = sizeof(((struct config *)0)->field)
#define U32(field) .type = TYPE_U32, AT(field)
#define CHOICE(field, names) .type = TYPE_CHOICE, AT(field), .choices = (names)
#define TEXT(field, test) .type = TYPE_TEXT, AT(field), .is_good = (test)
#define LIST(field, count, test)                                                         \
	.type = TYPE_LIST, AT(field[0]), .count_offset = offsetof(struct config, count), \
	.most = sizeof(((struct config *)0)->field) / sizeof(((struct config *)0)->field[0]), .is_good = (test)

static const struct setting settings[] = {
	{"listen", TEXT(listen, is_address), .unit = "ADDR:PORT, [V6]:PORT (numeric) or unix:PATH",
	 .initial = "127.0.0.1:8080",
	 .help = "Where HTTP is served. Port 0 takes any free one. For HTTPS put a proxy in front."},
	{"database", TEXT(database, is_text), .unit = "a file, or postgres://USER@HOST/NAME",
	 .initial = "/var/lib/ringgate/control.db",
	 .help = "The SQLite file (made where it is not there), or a PostgreSQL database."},
	{"threads", U32(threads), .min = 1, .max = 32, .initial = "4", .help = "Threads that answer requests."},
	{"gateway_keys", LIST(gateway_keys, gateway_key_count, is_key), .unit = "ed25519:BASE64", .initial = "",
	 .help = "Public keys of the gateways that may ask under /internal: the line of their procd_key_file with "
		 ".pub."},

	{"driver", CHOICE(driver, drivers), .initial = "none",
	 .help = "What makes, pauses and resumes sandboxes. With none they are imported: ringgate-control sandbox "
		 "import. local runs them on this machine, as processes of one user: no isolation."},

	{"ssh.host", TEXT(ssh.host, is_host), .unit = "a host name or address", .initial = "localhost",
	 .help = "The gateways' address as users are told it."},
	{"ssh.port", U32(ssh.port), .min = 1, .max = 65535, .initial = "22", .help = "And their port."},

	{"redis.url", TEXT(redis.url, is_any), .unit = "redis://HOST:PORT and the like", .initial = "",
	 .initial_shown = "none",
	 .help = "The gateways' cache, which is told of each change: redis://[USER:PASSWORD@]HOST[:PORT][/DB], "
		 "rediss:// "
		 "(TLS), unix:/PATH, sentinel://[...@]HOST:PORT,HOST:PORT/NAME, sentinels://, cluster://, "
		 "clusters://."},
	{"redis.password_file", TEXT(redis.password_file, is_path_or_empty), .unit = "a file", .initial = "",
	 .initial_shown = "none", .help = "The password, in place of one in the URL."},
	{"redis.ca_file", TEXT(redis.ca_file, is_path_or_empty), .unit = "a file", .initial = "",
	 .initial_shown = "the system's", .help = "For TLS: certificates that the server's must lead to."},
	{"redis.connect_timeout_ms", U32(redis.connect_timeout_ms), .unit = "milliseconds", .min = 10, .max = 60000,
	 .initial = "1000", .help = "Until a connection is made."},
	{"redis.timeout_ms", U32(redis.timeout_ms), .unit = "milliseconds", .min = 10, .max = 60000, .initial = "1000",
	 .help = "Until a command is answered."},

	{"local.folder", TEXT(local.folder, is_path), .unit = "a folder", .initial = "/var/lib/ringgate/sandboxes",
	 .help = "Driver local: a folder for each sandbox, with its home, key and log."},
	{"local.procd", TEXT(local.procd, is_path), .unit = "a file", .initial = "/usr/local/bin/procd",
	 .help = "The procd program, which is started once for each sandbox."},
	{"local.user", TEXT(local.user, is_any), .unit = "a user name", .initial = "", .initial_shown = "who runs this",
	 .help = "Whom commands in sandboxes run as; needs root."},
	{"local.shell", TEXT(local.shell, is_path_or_empty), .unit = "a file", .initial = "",
	 .initial_shown = "the user's", .help = "The login shell in sandboxes."},
	{"local.procd_args", LIST(local.procd_args, local.procd_arg_count, is_text), .unit = "an argument",
	 .initial = "", .help = "More arguments for every procd."},
	{"local.keep_files", CHOICE(local.keep_files, no_yes), .initial = "no",
	 .help = "Whether a deleted sandbox's home stays: one of the same ID finds it again."},
	{"local.resume_delay_ms", U32(local.resume_delay_ms), .unit = "milliseconds", .max = 600000, .initial = "0",
	 .help = "For tests: a resume begins so much later."},
	{"local.fail_resume", CHOICE(local.fail_resume, no_yes), .initial = "no", .help = "For tests: resumes fail."},

	{"log.level", CHOICE(log.level, log_levels), .initial = "info", .help = "Records below this are not written."},
	{"log.format", CHOICE(log.format, log_formats), .initial = "logfmt",
	 .help = "One line a record in either form."},
	{"log.file", TEXT(log.file, is_text), .unit = "a file, or - for standard error", .initial = "-",
	 .help = "Records are appended to it; SIGHUP opens it anew."},
};

_Static_assert(ARRAY_LEN(settings) <= SETTINGS_MAX, "each setting's line is kept");
_Static_assert(offsetof(struct config, settings) == 0, "offsets start at it");
_Static_assert(sizeof(enum log_level) == 4 && sizeof(enum log_format) == 4, "a choice is stored as uint32_t");

static const char *const sections[] = {"ssh", "redis", "local", "log", NULL};

const struct setting_table config_table = {
	.program = "ringgate-control",
	.settings = settings,
	.count = ARRAY_LEN(settings),
	.sections = sections,
};
