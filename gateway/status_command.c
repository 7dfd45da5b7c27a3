#include "gateway/status_command.h"

#include "gateway/admin.h"
#include "gateway/config.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 2 };

static void print_help(void)
{
	puts("usage: ringgate status [--config FILE] [--socket PATH] [--json]\n"
	     "\n"
	     "Asks a gateway on this machine what it is doing; numbers count from its start, _s are seconds.\n"
	     "\n"
	     "  --config FILE   the gateway's settings, for admin.socket\n"
	     "  --socket PATH   that socket itself\n"
	     "  --json          the answer as it comes\n"
	     "\n"
	     "exit status: 0 it answered; 1 it did not; 2 wrong usage.");
}

static int usage(const char *text)
{
	fprintf(stderr, "ringgate status: %s; see --help\n", text);
	return EXIT_USAGE;
}

/* The file's admin.socket; whatever else stands there need not be good. */
static const char *socket_of(const char *config_path)
{
	static struct config config;
	char error[CONFIG_ERROR_BYTES];

	config_defaults(&config);
	if (config_load(&config, config_path, error) < 0) {
		fprintf(stderr, "ringgate: %s\n", error);
		return NULL;
	}
	if (!config.admin_socket[0])
		fprintf(stderr, "ringgate: %s sets no admin.socket\n", config_path);
	return config.admin_socket[0] ? config.admin_socket : NULL;
}

int status_command(int argc, char **argv)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"socket", required_argument, NULL, 's'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	const char *path = NULL, *config_path = NULL;
	bool is_json = false;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			config_path = optarg;
			break;
		case 's':
			path = optarg;
			break;
		case 'j':
			is_json = true;
			break;
		case 'h':
			print_help();
			return EXIT_SUCCESS;
		default:
			return usage("an option is wrong");
		}
	}
	if (optind < argc || (!path && !config_path))
		return usage(optind < argc ? "there are no arguments" : "--socket or --config is needed");
	if (!path)
		path = socket_of(config_path);
	return path ? admin_ask(path, is_json) : EXIT_FAILURE;
}
