/*
 * ringgate-control: the reference control plane. Flags and settings; the commands are in commands.c and serve.c.
 */
#include "control/commands.h"
#include "control/keeper.h"

#include <errno.h>
#include <getopt.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SETS_MAX 64

struct flags {
	struct command_options options;
	const char *config_path;
	const char *sets[SETS_MAX];
	int set_count;
	const struct command *command;
};

static void print_help(void)
{
	puts("ringgate-control: the reference control plane: users, teams, SSH keys and sandboxes over HTTP.\n"
	     "\n"
	     "usage: ringgate-control COMMAND [--config FILE] [--set KEY=VALUE]... [OPTIONS]\n");
	for (size_t i = 0; i < command_count; i++)
		printf("  %s%s%s %s\n        %s\n", commands[i].name, commands[i].verb[0] ? " " : "", commands[i].verb,
		       commands[i].usage, commands[i].help);
	puts("\n"
	     "  --config FILE      settings, YAML; see docs/control-plane.md\n"
	     "  --set KEY=VALUE    one setting, over the file's; may be repeated\n"
	     "  --help-settings    list every setting with its default and bounds\n"
	     "  --version          print the version\n"
	     "  --help             this text\n"
	     "\n"
	     "Commands other than serve work on the database directly, whether a server runs or not.\n"
	     "exit status: 0 done; 1 not done, with the reason; 2 wrong usage.");
}

static int usage(const char *format, const char *what)
{
	fprintf(stderr, "ringgate-control: ");
	fprintf(stderr, format, what);
	fprintf(stderr, "; see ringgate-control --help\n");
	return EXIT_USAGE;
}

static int parse_option(int opt, struct flags *f)
{
	struct command_options *o = &f->options;

	switch (opt) {
	case 'c':
		f->config_path = optarg;
		return 0;
	case 's':
		if (f->set_count == SETS_MAX)
			return usage("too many --set%s", "");
		f->sets[f->set_count++] = optarg;
		return 0;
	case 'r':
		o->ready_path = optarg;
		return 0;
	case 'u':
		o->user = optarg;
		return 0;
	case 't':
		o->team = optarg;
		return 0;
	case 'n':
		o->name = optarg;
		return 0;
	case 'i':
		o->id = optarg;
		return 0;
	case 'p':
		o->procd = optarg;
		return 0;
	case 'k':
		o->procd_key = optarg;
		return 0;
	case 'S':
		o->state = optarg;
		return 0;
	case 'e':
		o->expires = optarg;
		return 0;
	case 'f':
		o->file = optarg;
		return 0;
	case 'a':
		o->is_auto_resume_off = true;
		return 0;
	case 'h':
		print_help();
		return -1;
	case 'H':
		settings_print(&config_table);
		return -1;
	case 'V':
		puts("ringgate-control " RINGGATE_VERSION);
		return -1;
	default:
		fprintf(stderr, "ringgate-control: see --help\n");
		return EXIT_USAGE;
	}
}

static int find_command(int argc, char **argv, struct flags *f)
{
	const char *name = optind < argc ? argv[optind] : NULL, *verb = optind + 1 < argc ? argv[optind + 1] : "";
	bool is_known = false;

	if (!name)
		return usage("a command is expected%s", "");
	for (size_t i = 0; i < command_count; i++) {
		if (strcmp(commands[i].name, name) != 0)
			continue;
		is_known = true;
		if (strcmp(commands[i].verb, verb) == 0)
			f->command = &commands[i];
	}
	if (!f->command)
		return is_known ? usage("'%s' takes another word", name) : usage("unknown command '%s'", name);
	if (optind + 1 + (f->command->verb[0] != 0) < argc)
		return usage("unexpected argument '%s'", argv[argc - 1]);
	return 0;
}

static int parse_flags(int argc, char **argv, struct flags *f)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"set", required_argument, NULL, 's'},
		{"ready-file", required_argument, NULL, 'r'},
		{"user", required_argument, NULL, 'u'},
		{"team", required_argument, NULL, 't'},
		{"name", required_argument, NULL, 'n'},
		{"id", required_argument, NULL, 'i'},
		{"procd", required_argument, NULL, 'p'},
		{"procd-key", required_argument, NULL, 'k'},
		{"state", required_argument, NULL, 'S'},
		{"expires-days", required_argument, NULL, 'e'},
		{"file", required_argument, NULL, 'f'},
		{"no-auto-resume", no_argument, NULL, 'a'},
		{"help-settings", no_argument, NULL, 'H'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int opt, rc;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		rc = parse_option(opt, f);
		if (rc != 0)
			return rc;
	}
	return find_command(argc, argv, f);
}

static int fail(const char *text)
{
	fprintf(stderr, "ringgate-control: %s\n", text);
	return EXIT_FAILURE;
}

static int load_config(const struct flags *f, struct config *c, char error[CONFIG_ERROR_BYTES])
{
	memset(c, 0, sizeof(*c));
	settings_defaults(&c->settings, &config_table);
	if (f->config_path && settings_load(&c->settings, f->config_path, error) < 0)
		return -1;
	for (int i = 0; i < f->set_count; i++)
		if (settings_set(&c->settings, f->sets[i], error) < 0)
			return -1;
	return 0;
}

static int run(int argc, char **argv)
{
	static struct config config;
	struct flags flags = {0};
	char error[CONFIG_ERROR_BYTES] = "";
	int rc;

	/* Not for people: how the local driver starts its processes. */
	if (argc > 1 && strcmp(argv[1], "keeper") == 0)
		return keeper_main(argc - 1, argv + 1);
	rc = parse_flags(argc, argv, &flags);
	if (rc != 0)
		return rc < 0 ? EXIT_SUCCESS : rc;
	if (load_config(&flags, &config, error) < 0)
		return fail(error);
	if (sodium_init() < 0)
		return fail("libsodium does not start");
	rc = flags.command->run(&config, &flags.options, error);
	return rc < 0 ? fail(error[0] ? error : strerror(-rc)) : EXIT_SUCCESS;
}

#if __has_feature(address_sanitizer)
void __lsan_do_leak_check(void);

/*
 * Without destructors: that of p11-kit, which comes with libmicrohttpd's GnuTLS, waits for ever for glibc's locale lock, which is
 * left wrong when a program begins with gcc's ASan runtime (Debian 12; a program of one line does it, too).
 */
static int leave(int status)
{
	fflush(NULL);
	__lsan_do_leak_check();
	_exit(status);
}
#else
static int leave(int status)
{
	return status;
}
#endif

int main(int argc, char **argv)
{
	return leave(run(argc, argv));
}
