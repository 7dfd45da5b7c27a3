/*
 * procd/options.c - see options.h. Every flag may also come from the environment: --max-streams is PROCD_MAX_STREAMS.
 */
#include "procd/options.h"

#include "procd/user.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PATH_DEFAULT "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

static int wrong(const char *problem, const char *what)
{
	fprintf(stderr, "procd: %s%s%s\nTry: procd --help\n", problem, what ? " " : "", what ? what : "");
	return -EINVAL;
}

void options_usage(FILE *to)
{
	fputs("usage: procd serve --listen ADDRESS --sandbox ID --key FILE --gateway-key FILE [flags]\n"
	      "       procd keygen --out FILE\n"
	      "       procd sftp-server [-R] [-d FOLDER] [-u UMASK]\n"
	      "       procd --version | --help\n"
	      "\n"
	      "procd runs in a sandbox and gives a ringgate gateway shells, commands, files and connections in it.\n"
	      "\n"
	      "serve: flags, and the environment variables that stand for them\n"
	      "  --listen ADDRESS      PROCD_LISTEN        ADDR:PORT, [ADDR]:PORT or unix:/path; port 0 is a free one\n"
	      "  --sandbox ID          PROCD_SANDBOX       only tickets for this sandbox are taken\n"
	      "  --key FILE            PROCD_KEY           the sandbox's private key, as keygen makes it\n"
	      "  --gateway-key FILE    PROCD_GATEWAY_KEY   a gateway's public key; may be repeated (in the variable: "
	      "spaces)\n"
	      "  --user USER           PROCD_USER          run commands as this user (needs root); default: who runs "
	      "procd\n"
	      "  --home DIR            PROCD_HOME          home folder instead of the user's\n"
	      "  --shell PATH          PROCD_SHELL         login shell instead of the user's\n"
	      "  --address-file FILE   PROCD_ADDRESS_FILE  write the address that is listened on\n"
	      "  --max-streams N       PROCD_MAX_STREAMS   gateway connections at once (default 64)\n"
	      "  --log-level LEVEL     PROCD_LOG_LEVEL     debug, info, warn or error (default info)\n"
	      "\n"
	      "keygen: makes FILE (private, mode 0600) and FILE.pub; also for a gateway's key\n"
	      "sftp-server: SFTP on stdin and stdout, as sshd's Subsystem or for sftp -D\n"
	      "\n"
	      "Exit status: 0 after SIGTERM or success, 1 for a failure, 2 for wrong usage.\n",
	      to);
}

/* Sandbox IDs are one DNS label. */
static bool sandbox_is_valid(const char *id)
{
	size_t n = strlen(id);

	if (n == 0 || n > SANDBOX_ID_MAX || id[0] == '-' || id[n - 1] == '-')
		return false;
	for (size_t i = 0; i < n; i++)
		if (!((id[i] >= 'a' && id[i] <= 'z') || (id[i] >= '0' && id[i] <= '9') || id[i] == '-'))
			return false;
	return true;
}

/* --- single values --- */

static int set_level(struct options *o, const char *text)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(text, names[i]) == 0) {
			o->log_level = (enum log_level)i;
			return 0;
		}
	}
	return wrong("--log-level must be debug, info, warn or error, not", text);
}

static int set_streams(struct options *o, const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (!isdigit((unsigned char)text[0]) || *end || n < 1 || n > STREAMS_MAX)
		return wrong("--max-streams must be a number from 1 to 4096, not", text);
	o->streams_max = (uint32_t)n;
	return 0;
}

static int set_gateway_key(struct options *o, const char *path)
{
	int rc;

	if (o->gateway_key_count == GATEWAY_KEYS_MAX)
		return wrong("too many gateway keys", NULL);
	rc = proof_public_load(path, &o->gateway_keys[o->gateway_key_count]);
	if (rc < 0) {
		fprintf(stderr, "procd: cannot use the gateway key %s: %s\n", path,
			rc == -EINVAL ? "it is not a public key (ed25519:...)" : strerror(-rc));
		return rc == -EINVAL ? -EBADMSG : rc;
	}
	o->gateway_key_count++;
	return 0;
}

static int set_key(struct options *o, const char *path)
{
	int rc = proof_secret_load(path, &o->key);

	if (rc == -EINVAL)
		fprintf(stderr, "procd: cannot use the key %s: it is not a private key of procd keygen\n", path);
	else if (rc == -EACCES)
		fprintf(stderr, "procd: cannot use the key %s: it cannot be read, or others can read it (chmod 600)\n",
			path);
	else if (rc < 0)
		fprintf(stderr, "procd: cannot use the key %s: %s\n", path, strerror(-rc));
	return rc == -EINVAL ? -EBADMSG : rc;
}

/* --- flags --- */

struct flag {
	const char *name, *variable;
	size_t at; /* of a plain text in struct options; 0: set by `set` */
	int (*set)(struct options *o, const char *text);
	bool is_many;
};

#define TEXT(field) (offsetof(struct options, field) + 1)

static const struct flag flags[] = {
	{"--listen", "PROCD_LISTEN", TEXT(listen), NULL, false},
	{"--sandbox", "PROCD_SANDBOX", TEXT(sandbox), NULL, false},
	{"--key", "PROCD_KEY", 0, set_key, false},
	{"--gateway-key", "PROCD_GATEWAY_KEY", 0, set_gateway_key, true},
	{"--user", "PROCD_USER", TEXT(user), NULL, false},
	{"--home", "PROCD_HOME", TEXT(home), NULL, false},
	{"--shell", "PROCD_SHELL", TEXT(shell), NULL, false},
	{"--address-file", "PROCD_ADDRESS_FILE", TEXT(address_file), NULL, false},
	{"--max-streams", "PROCD_MAX_STREAMS", 0, set_streams, false},
	{"--log-level", "PROCD_LOG_LEVEL", 0, set_level, false},
};

static int flag_set(struct options *o, const struct flag *f, const char *value)
{
	if (!value[0])
		return wrong("an empty value for", f->name);
	if (!f->at)
		return f->set(o, value);
	*(const char **)(void *)((char *)o + f->at - 1) = value;
	return 0;
}

/* --name VALUE or --name=VALUE at argv[*i]. */
static const struct flag *flag_match(char **argv, int argc, int *i, const char **ret_value)
{
	for (size_t k = 0; k < ARRAY_LEN(flags); k++) {
		size_t n = strlen(flags[k].name);

		if (strncmp(argv[*i], flags[k].name, n) != 0)
			continue;
		if (argv[*i][n] == '=') {
			*ret_value = argv[*i] + n + 1;
			return &flags[k];
		}
		if (argv[*i][n] == 0) {
			*ret_value = *i + 1 < argc ? argv[++*i] : NULL;
			return &flags[k];
		}
	}
	return NULL;
}

static int parse_flags(int argc, char **argv, struct options *o, bool is_set[])
{
	for (int i = 1; i < argc; i++) {
		const char *value = NULL, *given = argv[i];
		const struct flag *f;
		int rc;

		if (strcmp(given, "--help") == 0 || strcmp(given, "-h") == 0) {
			options_usage(stdout);
			return 1;
		}
		f = flag_match(argv, argc, &i, &value);
		if (!f)
			return wrong("unknown flag", given);
		if (!value)
			return wrong("a value is missing for", f->name);
		if (is_set[f - flags] && !f->is_many)
			return wrong("given twice:", f->name);
		is_set[f - flags] = true;
		rc = flag_set(o, f, value);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int set_many(struct options *o, const struct flag *f, const char *value)
{
	char *copy = strdup(value), *rest = NULL;
	int rc = copy ? 0 : -ENOMEM;

	for (char *one = copy ? strtok_r(copy, " \t", &rest) : NULL; one && rc == 0; one = strtok_r(NULL, " \t", &rest))
		rc = flag_set(o, f, one);
	free(copy);
	return rc;
}

static int parse_environment(struct options *o, const bool is_set[])
{
	for (size_t k = 0; k < ARRAY_LEN(flags); k++) {
		const char *value = getenv(flags[k].variable);
		int rc;

		if (is_set[k] || !value || !value[0])
			continue;
		rc = flags[k].is_many ? set_many(o, &flags[k], value) : flag_set(o, &flags[k], value);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int check(const struct options *o)
{
	static const struct proof_secret none;
	struct user user;
	int rc;

	if (!o->listen)
		return wrong("--listen is missing", NULL);
	if (!o->sandbox)
		return wrong("--sandbox is missing", NULL);
	if (memcmp(&o->key, &none, sizeof(none)) == 0)
		return wrong("--key is missing", NULL);
	if (o->gateway_key_count == 0)
		return wrong("--gateway-key is missing", NULL);
	if (!sandbox_is_valid(o->sandbox))
		return wrong("--sandbox must be lower-case letters, digits and dashes, not", o->sandbox);
	if (o->home && o->home[0] != '/')
		return wrong("--home must start with a slash, not", o->home);
	if (o->shell && o->shell[0] != '/')
		return wrong("--shell must start with a slash, not", o->shell);
	rc = user_find(o, &user);
	if (rc < 0)
		fprintf(stderr, "procd: cannot run commands as %s: %s\n", o->user ? o->user : "the current user",
			rc == -ENOENT  ? "there is no such user"
			: rc == -EPERM ? "only root can become another user"
				       : strerror(-rc));
	return rc == -EINVAL ? -EIO : rc;
}

int options_parse(int argc, char **argv, struct options *ret_options)
{
	bool is_set[ARRAY_LEN(flags)] = {false};
	struct options *o = ret_options;
	const char *path = getenv("PATH");
	int rc;

	memset(o, 0, sizeof(*o));
	o->streams_max = STREAMS_DEFAULT;
	o->log_level = LOG_INFO;
	/* An image's PATH leads to what is installed in it. */
	o->path = path && path[0] && strlen(path) < 4096 ? path : PATH_DEFAULT;
	rc = parse_flags(argc, argv, o, is_set);
	if (rc == 0)
		rc = parse_environment(o, is_set);
	if (rc == 0)
		rc = check(o);
	return rc;
}
