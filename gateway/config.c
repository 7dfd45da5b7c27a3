/*
 * gateway/config.c - the table of settings, and what reads them.
 *
 * A value comes as texts, whether from the file, from --set or as the table's own default, and is checked by one function:
 * setting_apply.
 */
#include "gateway/config.h"

#include "core/nearest.h"
#include "core/yaml.h"
#include "gateway/limits.h"
#include "ring/socket.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A configuration is written by hand. */
static const struct doc_limits file_limits = {.bytes = 16 << 20, .nodes = 100000};

/* Most texts that one value has. */
#define TEXTS_MAX (CONFIG_LIST_MAX * 4)
#define WHY_MAX 320

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* A list is entries of `bytes` each at `offset` and their count, a uint32_t, at `count_offset`. */
enum setting_type { TYPE_U32, TYPE_U64, TYPE_CHOICE, TYPE_TEXT, TYPE_LIST, TYPE_ALGORITHMS };

struct setting {
	const char *key;
	enum setting_type type;
	size_t offset;
	size_t bytes;                /* TEXT, ALGORITHMS: room; LIST: of an entry */
	size_t count_offset, most;   /* LIST */
	uint64_t min, max;           /* U32, U64 */
	const char *zero;            /* U32, U64: what 0 means; it is allowed then, whatever min is */
	const char *unit;            /* "seconds"; "bytes" may be written with KiB, MiB, GiB; TEXT, LIST: what it is */
	const char *const *choices;  /* CHOICE (the value is the index), ALGORITHMS; NULL ends them */
	bool (*is_good)(const char *text); /* TEXT, and each entry of a LIST */
	const char *initial;         /* as --set takes it; NULL: there is none, "" an empty list */
	const char *initial_shown;   /* where `initial` says too little */
	const char *help;
};

static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const log_formats[] = {"logfmt", "json", NULL};
static const char *const forward_choices[] = {"none", "loopback", "all", NULL};

/* What is accepted at all: nothing with SHA-1, no CBC, no group under 2048 bits. */
static const char *const kex_choices[] = {
	"mlkem768x25519-sha256", "sntrup761x25519-sha512", "sntrup761x25519-sha512@openssh.com", "curve25519-sha256",
	"curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521",
	"diffie-hellman-group14-sha256", "diffie-hellman-group16-sha512", "diffie-hellman-group18-sha512", NULL,
};
static const char *const cipher_choices[] = {
	"aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com",
	"aes128-ctr", "aes192-ctr", "aes256-ctr", NULL,
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
	return text[0] && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == strlen(text);
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

#define AT(field) .offset = offsetof(struct config, field), .bytes = sizeof(((struct config *)0)->field)
#define U32(field) .type = TYPE_U32, AT(field)
#define U64(field) .type = TYPE_U64, AT(field)
#define CHOICE(field, names) .type = TYPE_CHOICE, AT(field), .choices = (names)
#define TEXT(field, test) .type = TYPE_TEXT, AT(field), .is_good = (test)
#define LIST(field, count, test)                                                                                               \
	.type = TYPE_LIST, AT(field[0]), .count_offset = offsetof(struct config, count),                                       \
	.most = sizeof(((struct config *)0)->field) / sizeof(((struct config *)0)->field[0]), .is_good = (test)
#define ALGORITHMS(field, names) .type = TYPE_ALGORITHMS, AT(field), .choices = (names)

static const struct setting settings[] = {
	{"listen", LIST(listen, listen_count, is_address), .unit = "ADDR:PORT or [V6]:PORT, numeric", .initial = "0.0.0.0:2222",
	 .help = "Where to listen. Port 0 takes any free one; [::] is IPv6 alone."},
	{"name", TEXT(name, is_name), .unit = "letters, digits and . _ -", .initial_shown = "the host name",
	 .help = "The gateway's name in the tickets that sandboxes see and in logs."},
	{"host_key_dir", TEXT(host_key_dir, is_path), .unit = "a folder", .initial = "/var/lib/ringgate/host_keys",
	 .help = "Holds ssh_host_ed25519_key, ssh_host_ecdsa_key and ssh_host_rsa_key; what is missing is made at start. Gateways "
		 "behind one address share these files."},
	{"directory", TEXT(directory, is_path), .unit = "a file",
	 .help = "The directory file: users, their keys and teams, sandboxes. Must be set."},
	{"directory_check_s", U32(directory_check_s), .unit = "seconds", .min = 1, .max = 3600, .zero = "only at SIGHUP",
	 .initial = "1", .help = "How often the directory file is looked at for a change."},
	{"procd_key_file", TEXT(procd_key_file, is_path), .unit = "a file", .initial = "/var/lib/ringgate/gateway_key",
	 .help = "This gateway's Ed25519 secret, by which sandboxes know it; made at first start, with FILE.pub beside it."},
	{"workers", U32(workers), .min = 1, .max = WORKERS_MAX, .zero = "one for each core", .initial = "0",
	 .help = "Threads that carry sessions."},
	{"handshake_threads", U32(handshake_threads), .min = 1, .max = HANDSHAKERS_MAX,
	 .zero = "one for four cores, at least one", .initial = "0", .help = "Threads that accept connections and log users in."},

	{"log.level", CHOICE(log.level, log_levels), .initial = "info", .help = "Records below this are not written."},
	{"log.format", CHOICE(log.format, log_formats), .initial = "logfmt", .help = "One line a record in either form."},
	{"log.file", TEXT(log.file, is_path), .unit = "a file, or - for standard error", .initial = "-",
	 .help = "Records are appended to it; SIGHUP opens it anew."},

	{"login.grace_s", U32(login.grace_s), .unit = "seconds", .min = 1, .max = 3600, .initial = "60",
	 .help = "From accepting a connection to its user being logged in."},
	{"login.max_bad_signatures", U32(login.max_bad_signatures), .min = 1, .max = 100, .initial = "6",
	 .help = "Wrong signatures after which a connection is ended."},
	{"login.max_keys", U32(login.max_keys), .min = 1, .max = 1000, .initial = "30",
	 .help = "Keys that a connection may offer."},
	{"login.unauthenticated.begin", U32(login.start_begin), .min = 1, .max = 1000000, .initial = "100",
	 .help = "Connections not yet logged in from which new ones are dropped at random, as sshd's MaxStartups does."},
	{"login.unauthenticated.rate", U32(login.start_rate), .unit = "per cent", .min = 0, .max = 100, .initial = "30",
	 .help = "How many are dropped there; it grows to all of them at login.unauthenticated.full."},
	{"login.unauthenticated.full", U32(login.start_full), .min = 1, .max = 1000000, .initial = "1000",
	 .help = "Connections not yet logged in from which all new ones are dropped."},
	{"login.unauthenticated.per_address", U32(login.per_address), .min = 1, .max = 1000000, .zero = "no limit", .initial = "0",
	 .help = "Connections not yet logged in from one address."},

	{"session.max_channels", U32(session.max_channels), .min = 1, .max = 256, .initial = "64",
	 .help = "Open channels of one connection."},
	{"session.keepalive_s", U32(session.keepalive_s), .unit = "seconds", .min = 1, .max = 86400, .zero = "off", .initial = "30",
	 .help = "A client that was silent so long is asked whether it lives, as by sshd's ClientAliveInterval."},
	{"session.keepalive_count", U32(session.keepalive_count), .min = 1, .max = 100, .initial = "3",
	 .help = "Unanswered ones after which the connection is lost."},
	{"session.tcp_user_timeout_ms", U32(session.tcp_user_timeout_ms), .unit = "milliseconds", .min = 1000, .max = 86400000,
	 .zero = "the system's", .initial = "120000",
	 .help = "Bytes that were sent and not acknowledged for so long end a connection: to the client and to the sandbox."},
	{"session.max_sessions", U32(session.max_sessions), .min = 1, .max = 1000000, .initial = "10000",
	 .help = "Live sessions in this gateway; more are not accepted."},
	{"session.window_bytes", U32(session.window_bytes), .unit = "bytes", .min = 32 * KIB, .max = 64 * MIB, .initial = "2MiB",
	 .help = "SSH receive window of a channel."},
	{"session.rekey_bytes", U64(session.rekey_bytes), .unit = "bytes", .min = 64 * KIB, .max = 1024 * GIB,
	 .zero = "the cipher's own limit", .initial = "0", .help = "New keys are agreed after so much data."},
	{"session.rekey_s", U32(session.rekey_s), .unit = "seconds", .min = 10, .max = 604800, .zero = "never by time",
	 .initial = "3600", .help = "New keys are agreed after so long."},
	{"session.accept_env", LIST(session.accept_env, session.accept_env_count, is_env_pattern), .unit = "NAME or PREFIX*",
	 .initial = "", .help = "Environment variables that clients may set besides `LANG`, `LC_*`, `TERM`, `COLORTERM` and `GIT_*`."},
	{"session.forward_tcp", CHOICE(session.forward_tcp, forward_choices), .initial = "loopback",
	 .help = "Where ssh -L, -D and -W may lead: nowhere, to addresses inside the sandbox, to whatever the sandbox reaches."},

	{"procd.connect_timeout_ms", U32(procd.connect_timeout_ms), .unit = "milliseconds", .min = 100, .max = 120000,
	 .initial = "5000", .help = "For a connection to a sandbox."},
	{"procd.hello_timeout_ms", U32(procd.hello_timeout_ms), .unit = "milliseconds", .min = 100, .max = 120000,
	 .initial = "5000", .help = "From there to procd's proof of who it is."},
	{"procd.ping_s", U32(procd.ping_s), .unit = "seconds", .min = 1, .max = 3600, .initial = "30",
	 .help = "A sandbox that was silent so long is asked whether it lives."},
	{"procd.ping_count", U32(procd.ping_count), .min = 1, .max = 100, .initial = "3",
	 .help = "Unanswered ones after which it is lost."},
	{"procd.budget_bytes", U32(procd.budget_bytes), .unit = "bytes", .min = 256 * KIB, .max = 1 * GIB, .initial = "8MiB",
	 .help = "Credit granted and bytes held on the connection to one sandbox, over all its channels."},

	{"crypto.kex", ALGORITHMS(crypto.kex, kex_choices), .initial_shown = "all of them in this order",
	 .help = "Key exchanges, the preferred ones first."},
	{"crypto.ciphers", ALGORITHMS(crypto.ciphers, cipher_choices), .initial_shown = "all of them in this order",
	 .help = "Ciphers. The client's preference rules."},
	{"crypto.macs", ALGORITHMS(crypto.macs, mac_choices), .initial_shown = "all of them in this order",
	 .help = "Message authentication for the ciphers named ctr; the others bring their own."},
	{"crypto.host_keys", ALGORITHMS(crypto.host_keys, host_key_choices), .initial_shown = "all of them in this order",
	 .help = "Host key algorithms."},
};

_Static_assert(ARRAY_LEN(settings) <= CONFIG_SETTINGS_MAX, "each setting's line is kept");
_Static_assert(sizeof(enum log_level) == 4 && sizeof(enum log_format) == 4, "a choice is stored as uint32_t");

__attribute__((format(printf, 2, 3))) static int refuse(char why[WHY_MAX], const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(why, WHY_MAX, format, ap);
	va_end(ap);
	return -EINVAL;
}

/* Appends to a text of `size` bytes; what does not fit is cut. */
__attribute__((format(printf, 3, 4))) static void add(char *text, size_t size, const char *format, ...)
{
	size_t n = strlen(text);
	va_list ap;

	va_start(ap, format);
	vsnprintf(text + n, size - n, format, ap);
	va_end(ap);
}

/* 2097152 as "2 MiB". */
static void add_number(char *text, size_t size, const struct setting *s, uint64_t v)
{
	bool is_bytes = s->unit && strcmp(s->unit, "bytes") == 0;

	if (is_bytes && v >= GIB && v % GIB == 0)
		add(text, size, "%llu GiB", (unsigned long long)(v / GIB));
	else if (is_bytes && v >= MIB && v % MIB == 0)
		add(text, size, "%llu MiB", (unsigned long long)(v / MIB));
	else if (is_bytes && v >= KIB && v % KIB == 0)
		add(text, size, "%llu KiB", (unsigned long long)(v / KIB));
	else
		add(text, size, "%llu", (unsigned long long)v);
}

/* "1 to 3600 seconds": what a setting takes. */
static void add_allowed(char *text, size_t size, const struct setting *s)
{
	switch (s->type) {
	case TYPE_U32:
	case TYPE_U64:
		if (s->zero)
			add(text, size, "0 (%s) or ", s->zero);
		add_number(text, size, s, s->min);
		add(text, size, " to ");
		add_number(text, size, s, s->max);
		if (s->unit && strcmp(s->unit, "bytes") != 0)
			add(text, size, " %s", s->unit);
		break;
	case TYPE_TEXT:
		add(text, size, "%s", s->unit);
		break;
	case TYPE_LIST:
		add(text, size, "a list of at most %zu, each %s", s->most, s->unit);
		break;
	case TYPE_ALGORITHMS:
		add(text, size, "a list of ");
		/* fall through */
	case TYPE_CHOICE:
		for (size_t i = 0; s->choices[i]; i++)
			add(text, size, "%s%s", i ? ", " : "", s->choices[i]);
		break;
	}
}

/* Digits, and for bytes perhaps KiB, MiB or GiB. */
static bool number_parse(const struct setting *s, const char *text, uint64_t *ret_value)
{
	static const struct {
		const char *name;
		uint64_t factor;
	} suffixes[] = {{"", 1}, {"KiB", KIB}, {"MiB", MIB}, {"GiB", GIB}};
	uint64_t v = 0;
	size_t n;

	for (n = 0; text[n] >= '0' && text[n] <= '9'; n++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(text[n] - '0'), &v))
			return false;
	if (n == 0)
		return false;
	if (!s->unit || strcmp(s->unit, "bytes") != 0) {
		*ret_value = v;
		return text[n] == 0;
	}
	n += text[n] == ' ' && text[n + 1];
	for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
		if (strcmp(text + n, suffixes[i].name) == 0)
			return !__builtin_mul_overflow(v, suffixes[i].factor, ret_value);
	return false;
}

static int number_apply(void *at, const struct setting *s, const char *text, char why[WHY_MAX])
{
	char shown[DOC_SHOW_BYTES], allowed[WHY_MAX / 2] = "";
	uint64_t v;

	add_allowed(allowed, sizeof(allowed), s);
	if (!number_parse(s, text, &v))
		return refuse(why, "'%s' is no number; allowed: %s", doc_show(text, shown), allowed);
	if ((v < s->min || v > s->max) && !(v == 0 && s->zero))
		return refuse(why, "%s is out of bounds; allowed: %s", doc_show(text, shown), allowed);
	if (s->type == TYPE_U32)
		memcpy(at, &(uint32_t){(uint32_t)v}, sizeof(uint32_t));
	else
		memcpy(at, &v, sizeof(v));
	return 0;
}

static int choice_find(const struct setting *s, const char *text, char why[WHY_MAX])
{
	char shown[DOC_SHOW_BYTES], allowed[WHY_MAX / 2] = "";
	struct nearest near;

	nearest_begin(&near, text);
	for (int i = 0; s->choices[i]; i++) {
		if (strcmp(s->choices[i], text) == 0)
			return i;
		nearest_offer(&near, s->choices[i]);
	}
	if (near.best)
		return refuse(why, "'%s' is unknown; did you mean '%s'?", doc_show(text, shown), near.best);
	if (s->type == TYPE_ALGORITHMS)
		return refuse(why, "'%s' is not among those accepted (ringgate --help-settings lists them)", doc_show(text, shown));
	add_allowed(allowed, sizeof(allowed), s);
	return refuse(why, "'%s' is unknown; allowed: %s", doc_show(text, shown), allowed);
}

static int text_apply(char *at, const struct setting *s, const char *text, char why[WHY_MAX])
{
	char shown[DOC_SHOW_BYTES];

	if (strlen(text) >= s->bytes)
		return refuse(why, "'%s' is longer than %zu characters", doc_show(text, shown), s->bytes - 1);
	if (!s->is_good(text))
		return refuse(why, "'%s' is not accepted; allowed: %s", doc_show(text, shown), s->unit);
	strcpy(at, text);
	return 0;
}

static int list_apply(struct config *c, const struct setting *s, const char *const *texts, size_t count, char why[WHY_MAX])
{
	char *entries = (char *)c + s->offset;
	char shown[DOC_SHOW_BYTES];

	if (count > s->most)
		return refuse(why, "%zu entries; allowed: at most %zu", count, s->most);
	for (size_t i = 0; i < count; i++) {
		if (text_apply(entries + i * s->bytes, s, texts[i], why) < 0)
			return -EINVAL;
		for (size_t j = 0; j < i; j++)
			if (strcmp(texts[i], texts[j]) == 0)
				return refuse(why, "'%s' stands here twice", doc_show(texts[i], shown));
	}
	memcpy((char *)c + s->count_offset, &(uint32_t){(uint32_t)count}, sizeof(uint32_t));
	return 0;
}

static int algorithms_apply(char *at, const struct setting *s, const char *const *texts, size_t count, char why[WHY_MAX])
{
	uint32_t seen = 0;

	if (count == 0)
		return refuse(why, "names nothing; ringgate --help-settings lists what is accepted");
	at[0] = 0;
	for (size_t i = 0; i < count; i++) {
		int k = choice_find(s, texts[i], why);

		if (k < 0)
			return k;
		if (seen & 1u << k)
			return refuse(why, "'%s' stands here twice", texts[i]);
		seen |= 1u << k;
		add(at, s->bytes, "%s%s", i ? "," : "", texts[i]);
	}
	return 0;
}

static int setting_apply(struct config *c, const struct setting *s, const char *const *texts, size_t count, char why[WHY_MAX])
{
	void *at = (char *)c + s->offset;
	int k;

	if (s->type == TYPE_LIST)
		return list_apply(c, s, texts, count, why);
	if (s->type == TYPE_ALGORITHMS)
		return algorithms_apply(at, s, texts, count, why);
	ASSERT(count == 1);
	if (s->type == TYPE_TEXT)
		return text_apply(at, s, texts[0], why);
	if (s->type != TYPE_CHOICE)
		return number_apply(at, s, texts[0], why);
	k = choice_find(s, texts[0], why);
	if (k < 0)
		return k;
	memcpy(at, &(uint32_t){(uint32_t)k}, sizeof(uint32_t));
	return 0;
}

static bool is_many(const struct setting *s)
{
	return s->type == TYPE_LIST || s->type == TYPE_ALGORITHMS;
}

/* Cuts "a, b" at its commas, in place. Returns the count; more than TEXTS_MAX give TEXTS_MAX + 1. */
static size_t commas_split(char *text, const char *texts[TEXTS_MAX])
{
	size_t count = 0;

	while (text) {
		char *comma = strchr(text, ','), *end;

		if (count == TEXTS_MAX)
			return TEXTS_MAX + 1;
		if (comma)
			*comma = 0;
		text += strspn(text, " ");
		end = text + strlen(text);
		while (end > text && end[-1] == ' ')
			*--end = 0;
		texts[count++] = text;
		text = comma ? comma + 1 : NULL;
	}
	return count;
}

/* A value as one text: that of --set, of the table, and of algorithms written as one text in the file. */
static int setting_apply_text(struct config *c, const struct setting *s, const char *text, char why[WHY_MAX])
{
	char copy[CONFIG_PATH_MAX];
	const char *texts[TEXTS_MAX] = {text};
	size_t count = 1;

	if (is_many(s)) {
		if (strlen(text) >= sizeof(copy))
			return refuse(why, "longer than %zu characters", sizeof(copy) - 1);
		strcpy(copy, text);
		count = text[0] ? commas_split(copy, texts) : 0;
		if (count > TEXTS_MAX)
			return refuse(why, "more than %d entries", TEXTS_MAX);
	}
	return setting_apply(c, s, texts, count, why);
}

static void name_default(struct config *c)
{
	char name[256];

	if (gethostname(name, sizeof(name)) < 0)
		name[0] = 0;
	name[sizeof(c->name) - 1] = 0;
	strcpy(c->name, is_name(name) ? name : "ringgate");
}

void config_defaults(struct config *c)
{
	char why[WHY_MAX];

	memset(c, 0, sizeof(*c));
	for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
		const struct setting *s = &settings[i];
		size_t count = 0;

		if (s->type == TYPE_ALGORITHMS) {
			while (s->choices[count])
				count++;
			ASSERT(setting_apply(c, s, s->choices, count, why) == 0);
		} else if (s->initial) {
			ASSERT(setting_apply_text(c, s, s->initial, why) == 0);
		}
	}
	name_default(c);
}

static const struct setting *setting_find(const char *key)
{
	for (size_t i = 0; i < ARRAY_LEN(settings); i++)
		if (strcmp(settings[i].key, key) == 0)
			return &settings[i];
	return NULL;
}

/* "session" and "login.unauthenticated" hold settings. */
static bool is_section(const char *key)
{
	size_t n = strlen(key);

	for (size_t i = 0; i < ARRAY_LEN(settings); i++)
		if (strncmp(settings[i].key, key, n) == 0 && settings[i].key[n] == '.')
			return true;
	return false;
}

static const char *last_part(const char *key)
{
	const char *dot = strrchr(key, '.');

	return dot ? dot + 1 : key;
}

/* The known key that was meant by an unknown one: spelled nearly so, or of the same name in another section. */
static const char *key_nearest(const char *key)
{
	static const char *const sections[] = {"log", "login", "login.unauthenticated", "session", "procd", "crypto"};
	struct nearest near;

	nearest_begin(&near, key);
	for (size_t i = 0; i < ARRAY_LEN(settings); i++)
		nearest_offer(&near, settings[i].key);
	for (size_t i = 0; i < ARRAY_LEN(sections); i++)
		nearest_offer(&near, sections[i]);
	for (size_t i = 0; !near.best && i < ARRAY_LEN(settings); i++)
		if (strcmp(last_part(settings[i].key), last_part(key)) == 0)
			return settings[i].key;
	return near.best;
}

/* What is said of an unknown key. */
static void add_unknown(char *text, size_t size, const char *key)
{
	char shown[DOC_SHOW_BYTES];
	const char *near = key_nearest(key);

	add(text, size, "unknown setting '%s'", doc_show(key, shown));
	if (near)
		add(text, size, "; did you mean '%s'?", near);
	else
		add(text, size, "; ringgate --help-settings lists all");
}

struct file {
	struct config *config;
	const struct doc *doc;
	char *error;
};

static int file_refuse(const struct file *f, const struct doc_node *n, const char *key, const char *why)
{
	return doc_fail(f->doc, n, f->error, CONFIG_ERROR_BYTES, "%s: %s", key, why);
}

static bool is_null(const struct doc *d, const struct doc_node *n)
{
	const char *t = doc_text(d, n);

	return n->is_plain && (!*t || strcmp(t, "~") == 0 || strcmp(t, "null") == 0);
}

static int file_list(const struct file *f, const struct setting *s, const struct doc_node *value)
{
	const char *texts[TEXTS_MAX];
	const struct doc_node *n = doc_first(f->doc, value);
	char why[WHY_MAX];
	size_t count = 0;

	for (; n; n = doc_next(f->doc, n)) {
		if (count == TEXTS_MAX)
			return file_refuse(f, n, s->key, "too many entries");
		if (n->kind != DOC_SCALAR || is_null(f->doc, n))
			return file_refuse(f, n, s->key, "an entry is no text");
		texts[count++] = doc_text(f->doc, n);
	}
	if (setting_apply(f->config, s, texts, count, why) < 0)
		return file_refuse(f, value, s->key, why);
	return 0;
}

static int file_setting(const struct file *f, const struct setting *s, const struct doc_node *value)
{
	bool is_number = s->type == TYPE_U32 || s->type == TYPE_U64;
	char why[WHY_MAX] = "", allowed[WHY_MAX / 2] = "";

	f->config->lines[s - settings] = value->line;
	if (value->kind == DOC_LIST && is_many(s))
		return file_list(f, s, value);
	add_allowed(allowed, sizeof(allowed), s);
	if (value->kind != DOC_SCALAR || s->type == TYPE_LIST)
		add(why, sizeof(why), "%s where none is accepted; allowed: %s", doc_kind_name(value), allowed);
	else if (is_null(f->doc, value))
		add(why, sizeof(why), "has no value; allowed: %s", allowed);
	else if (is_number && !value->is_plain)
		add(why, sizeof(why), "a number is written without quotes; allowed: %s", allowed);
	else if (setting_apply_text(f->config, s, doc_text(f->doc, value), why) == 0)
		return 0;
	return file_refuse(f, value, s->key, why);
}

/* A map of settings; `section` is "" or ends with a dot. */
static int file_section(const struct file *f, const char *section, const struct doc_node *map)
{
	const struct doc_node *k, *value;
	int rc = 0;

	for (k = doc_first(f->doc, map); k && rc == 0; k = doc_next(f->doc, value)) {
		const char *name = doc_text(f->doc, k);
		const struct setting *s;
		char key[256], unknown[WHY_MAX] = "";

		value = doc_next(f->doc, k);
		snprintf(key, sizeof(key) - 1, "%s%s", section, name);
		s = setting_find(key);
		if (strchr(name, '.') && (s || is_section(key)))
			return doc_fail(f->doc, k, f->error, CONFIG_ERROR_BYTES,
					"%s: in the file a dot stands for a map: write %.*s: {%s: ...}", key,
					(int)(last_part(key) - key - 1), key, last_part(key));
		if (s) {
			rc = file_setting(f, s, value);
		} else if (!is_section(key)) {
			add_unknown(unknown, sizeof(unknown), key);
			rc = doc_fail(f->doc, k, f->error, CONFIG_ERROR_BYTES, "%s", unknown);
		} else if (value->kind != DOC_MAP) {
			rc = file_refuse(f, value, key, "is a section: settings are expected in it");
		} else {
			strcat(key, ".");
			rc = file_section(f, key, value);
		}
	}
	return rc;
}

int config_load(struct config *c, const char *path, char ret_error[CONFIG_ERROR_BYTES])
{
	struct file f = {.config = c, .error = ret_error};
	const struct doc_node *root;
	struct doc *doc;
	int rc;

	snprintf(c->path, sizeof(c->path), "%s", path);
	if (doc_load(path, &file_limits, &doc, ret_error, CONFIG_ERROR_BYTES) < 0)
		return -EINVAL;
	f.doc = doc;
	root = doc_root(doc);
	if (!root || (root->kind == DOC_SCALAR && is_null(doc, root)))
		rc = 0;
	else if (root->kind != DOC_MAP)
		rc = doc_fail(doc, root, ret_error, CONFIG_ERROR_BYTES, "%s where settings (key: value) are expected",
			      doc_kind_name(root));
	else
		rc = file_section(&f, "", root);
	doc_free(doc);
	return rc;
}

int config_set(struct config *c, const char *assignment, char ret_error[CONFIG_ERROR_BYTES])
{
	const char *equals = strchr(assignment, '=');
	char key[128], why[WHY_MAX] = "", shown[DOC_SHOW_BYTES];
	const struct setting *s;

	if (!equals || equals == assignment || (size_t)(equals - assignment) >= sizeof(key)) {
		snprintf(ret_error, CONFIG_ERROR_BYTES, "--set %s: KEY=VALUE is expected", doc_show(assignment, shown));
		return -EINVAL;
	}
	snprintf(key, sizeof(key), "%.*s", (int)(equals - assignment), assignment);
	s = setting_find(key);
	if (!s) {
		add_unknown(why, sizeof(why), key);
		snprintf(ret_error, CONFIG_ERROR_BYTES, "--set: %s", why);
		return -EINVAL;
	}
	c->lines[s - settings] = CONFIG_LINE_SET;
	if (setting_apply_text(c, s, equals + 1, why) == 0)
		return 0;
	snprintf(ret_error, CONFIG_ERROR_BYTES, "--set %s: %s", key, why);
	return -EINVAL;
}

/* An error that no single line makes, with where the setting stands. */
__attribute__((format(printf, 4, 5))) static int check_fail(const struct config *c, const char *key, char *ret_error,
							    const char *format, ...)
{
	uint32_t line = c->lines[setting_find(key) - settings];
	size_t path_n = strlen(c->path);
	va_list ap;

	ret_error[0] = 0;
	if (line == CONFIG_LINE_SET)
		add(ret_error, CONFIG_ERROR_BYTES, "--set ");
	else if (line)
		add(ret_error, CONFIG_ERROR_BYTES, "%s:%u: ", c->path + (path_n > 100 ? path_n - 100 : 0), line);
	add(ret_error, CONFIG_ERROR_BYTES, "%s: ", key);
	va_start(ap, format);
	path_n = strlen(ret_error);
	vsnprintf(ret_error + path_n, CONFIG_ERROR_BYTES - path_n, format, ap);
	va_end(ap);
	return -EINVAL;
}

/* The folder in which a file would be made. */
static bool has_folder(const char *path)
{
	char folder[CONFIG_PATH_MAX];
	char *slash;
	struct stat st;

	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (!slash)
		return true;
	slash[slash == folder] = 0;
	return stat(folder, &st) == 0 && S_ISDIR(st.st_mode);
}

static int check_files(const struct config *c, char ret_error[CONFIG_ERROR_BYTES])
{
	struct stat st;

	if (!c->directory[0])
		return check_fail(c, "directory", ret_error, "must be set: the file of users and sandboxes");
	if (stat(c->directory, &st) < 0 || access(c->directory, R_OK) < 0)
		return check_fail(c, "directory", ret_error, "%.200s: %s", c->directory, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return check_fail(c, "directory", ret_error, "%.200s is not a regular file", c->directory);
	if (stat(c->host_key_dir, &st) == 0 && !S_ISDIR(st.st_mode))
		return check_fail(c, "host_key_dir", ret_error, "%.200s is not a folder", c->host_key_dir);
	if (stat(c->procd_key_file, &st) == 0 && !S_ISREG(st.st_mode))
		return check_fail(c, "procd_key_file", ret_error, "%.200s is not a regular file", c->procd_key_file);
	if (strcmp(c->log.file, "-") != 0 && !has_folder(c->log.file))
		return check_fail(c, "log.file", ret_error, "%.200s: its folder is not there", c->log.file);
	return 0;
}

int config_check(const struct config *c, char ret_error[CONFIG_ERROR_BYTES])
{
	if (c->listen_count == 0)
		return check_fail(c, "listen", ret_error, "names no address");
	if (c->login.start_full < c->login.start_begin)
		return check_fail(c, "login.unauthenticated.full", ret_error,
				  "%u is less than login.unauthenticated.begin (%u)", c->login.start_full, c->login.start_begin);
	return check_files(c, ret_error);
}

/* Words of `text` in lines of at most 100 columns, each begun with two blanks. */
static void print_wrapped(const char *text)
{
	size_t column = 0;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (column > 0 && column + 1 + n > 100) {
			putchar('\n');
			column = 0;
		}
		printf("%s%.*s", column ? " " : "  ", (int)n, text);
		column += n + (column ? 1 : 2);
		text += n;
		text += strspn(text, " ");
	}
	putchar('\n');
}

void config_print_settings(void)
{
	size_t section_n = SIZE_MAX;

	for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
		const struct setting *s = &settings[i];
		size_t n = strcspn(s->key, ".");
		char text[2048] = "";

		n = s->key[n] ? n : 0;
		if (i == 0 || n != section_n || strncmp(s->key, settings[i - 1].key, n) != 0)
			printf("%s### %.*s\n\n", i ? "\n" : "", n ? (int)n : 7, n ? s->key : "General");
		section_n = n;
		add(text, sizeof(text), "%s",
		    s->type == TYPE_U32 || s->type == TYPE_U64 ? "a number, " : s->type == TYPE_CHOICE ? "one of " : "");
		add_allowed(text, sizeof(text), s);
		add(text, sizeof(text), "; default: %s.",
		    s->initial_shown ? s->initial_shown : !s->initial ? "none" : s->initial[0] ? s->initial : "empty");
		printf("- `%s`\n", s->key);
		print_wrapped(text);
		print_wrapped(s->help);
	}
}
