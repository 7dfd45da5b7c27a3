/*
 * ringgate: flags, configuration, signals. The work is in server.c's threads.
 */
#include "core/log.h"
#include "core/whole_file.h"
#include "gateway/admin.h"
#include "gateway/config.h"
#include "gateway/host_keys.h"
#include "gateway/region_directory.h"
#include "gateway/server.h"
#include "gateway/status_command.h"

#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define VERSION "0.1.0"
#define SETS_MAX 64

enum { EXIT_USAGE = 2 };

struct flags {
	const char *config_path, *ready_path;
	const char *sets[SETS_MAX];
	int set_count;
	bool is_check;
};

static void print_help(void)
{
	puts("ringgate: a region's SSH entrance to sandboxes.\n"
	     "\n"
	     "usage: ringgate [--config FILE] [--set KEY=VALUE]... [--check] [--ready-file FILE]\n"
	     "       ringgate status --help\n"
	     "\n"
	     "  --config FILE      settings, YAML; see docs/configuration.md\n"
	     "  --set KEY=VALUE    one setting, over the file's; may be repeated\n"
	     "  --check            read and check everything, then exit: 0 good, 1 not\n"
	     "  --ready-file FILE  written once connections are accepted: the addresses and host key fingerprints, "
	     "JSON\n"
	     "  --help-settings    list every setting with its default and bounds\n"
	     "  --version          print the version\n"
	     "  --help             this text\n"
	     "\n"
	     "signals: SIGTERM and SIGINT end live sessions with a message and exit 0; SIGHUP reopens the log and "
	     "reads the\n"
	     "directory, banner and message of the day again.\n"
	     "exit status: 0 ended or checked well; 1 could not start, or lost what it needs; 2 wrong usage.");
}

static int parse_flags(int argc, char **argv, struct flags *f)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},  {"set", required_argument, NULL, 's'},
		{"check", no_argument, NULL, 'k'},         {"ready-file", required_argument, NULL, 'r'},
		{"help-settings", no_argument, NULL, 'S'}, {"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},          {0},
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			f->config_path = optarg;
			break;
		case 's':
			if (f->set_count == SETS_MAX) {
				fprintf(stderr, "ringgate: more than %d times --set: use a file\n", SETS_MAX);
				return EXIT_USAGE;
			}
			f->sets[f->set_count++] = optarg;
			break;
		case 'k':
			f->is_check = true;
			break;
		case 'r':
			f->ready_path = optarg;
			break;
		case 'S':
			config_print_settings();
			return -1;
		case 'V':
			puts("ringgate " VERSION);
			return -1;
		case 'h':
			print_help();
			return -1;
		default:
			fprintf(stderr, "ringgate: see --help\n");
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "ringgate: unexpected argument '%s'; see --help\n", argv[optind]);
		return EXIT_USAGE;
	}
	return 0;
}

static int fail(const char *text)
{
	fprintf(stderr, "ringgate: %s\n", text);
	return EXIT_FAILURE;
}

static int load_config(const struct flags *f, struct config *c, char error[512])
{
	config_defaults(c);
	if (f->config_path && config_load(c, f->config_path, error) < 0)
		return -1;
	for (int i = 0; i < f->set_count; i++)
		if (config_set(c, f->sets[i], error) < 0)
			return -1;
	return config_check(c, error);
}

/* The gateway's own key towards procd; made on first start. */
static int load_secret(const struct config *c, struct proof_secret *ret_secret, char error[512])
{
	struct proof_public public_key;
	char text[PROOF_PUBLIC_TEXT_MAX];
	int rc = proof_secret_load(c->procd_key_file, ret_secret);

	if (rc == -ENOENT) {
		rc = proof_keygen(c->procd_key_file, &public_key);
		if (rc == 0) {
			proof_public_format(&public_key, text);
			log_event(LOG_INFO, "procd_key_made", LOG_STR("file", c->procd_key_file),
				  LOG_STR("public", text));
			rc = proof_secret_load(c->procd_key_file, ret_secret);
		}
	}
	if (rc < 0)
		snprintf(error, 512, "procd_key_file %s: %s%s", c->procd_key_file, strerror(-rc),
			 rc == -EACCES ? " (only its owner may read it: chmod 600)" : "");
	return rc;
}

/* The key that signs the tokens for the control plane: one of its own, or the one towards procd. */
static int load_control_secret(const struct config *c, const struct proof_secret *procd_secret,
			       struct proof_secret *ret_secret, char error[512])
{
	int rc;

	*ret_secret = *procd_secret;
	if (!c->control.key_file[0])
		return 0;
	rc = proof_secret_load(c->control.key_file, ret_secret);
	if (rc < 0)
		snprintf(error, 512, "control.key_file %s: %s%s", c->control.key_file, strerror(-rc),
			 rc == -EACCES ? " (only its owner may read it: chmod 600)" : "");
	return rc;
}

/* The control plane's answers, where one is set. */
static int make_region_directory(struct server *s, struct proof_secret *control_secret, char error[512])
{
	int rc = 0;

	if (!s->config->control.url[0])
		return 0;
	rc = load_control_secret(s->config, &s->secret, control_secret, error);
	if (rc < 0)
		return rc;
	return region_directory_new(s->config, control_secret->key, &s->directory, error);
}

static int make_conn_server(const struct config *c, struct conn_server **ret_server, char error[512])
{
	static struct host_key_files files;
	struct conn_server_options o = {
		.kex = c->crypto.kex,
		.ciphers = c->crypto.ciphers,
		.macs = c->crypto.macs,
		.host_key_algorithms = c->crypto.host_keys,
		.rekey_bytes = c->session.rekey_bytes,
		.rekey_s = c->session.rekey_s,
		.max_bad_signatures = c->login.max_bad_signatures,
		.max_keys = c->login.max_keys,
		.max_channels = c->session.max_channels,
		.window_bytes = LINK_WINDOW_FIRST,
		.version = "ringgate_" VERSION,
	};
	char short_error[256];

	int rc = host_keys_find(c->host_key_dir, &files, short_error);

	o.host_keys = files.keys;
	o.host_key_count = files.count;
	if (rc == 0)
		rc = conn_server_new(&o, ret_server, short_error);
	if (rc < 0)
		snprintf(error, 512, "%s", short_error);
	return rc;
}

/* NULL, or why a key's certificate is not offered now. */
static const char *certificate_fault(const struct conn_host_key_told *k)
{
	uint64_t now_s = (uint64_t)time(NULL);

	if (!k->has_certificate)
		return NULL;
	return now_s < k->valid_from_s ? "not valid yet" : now_s >= k->valid_until_s ? "expired" : NULL;
}

/* What is to be made at start is not there yet; else it must be good. */
static int check_host_keys(const struct config *c, char error[512])
{
	struct conn_server *made = NULL;
	struct conn_host_key_told k;
	char path[CONFIG_PATH_MAX + 64];
	int rc;

	if (host_key_path(c->host_key_dir, "ed25519", path, sizeof(path)) < 0 || access(path, F_OK) < 0)
		return 0;
	rc = make_conn_server(c, &made, error);
	for (uint32_t i = 0; rc == 0 && conn_server_host_key(made, i, &k); i++) {
		const char *fault = certificate_fault(&k);

		if (fault) {
			snprintf(error, 512, "%.300s/ssh_host_%s_key-cert.pub: the certificate is %s", c->host_key_dir,
				 k.type, fault);
			rc = -EINVAL;
		}
	}
	conn_server_free(made);
	return rc;
}

/* Not a reason to stay away: who knows the key itself gets in. */
static void log_host_keys(const struct conn_server *s)
{
	struct conn_host_key_told k;

	for (uint32_t i = 0; conn_server_host_key(s, i, &k); i++) {
		const char *fault = certificate_fault(&k);

		log_event(LOG_INFO, "host_key", LOG_STR("type", k.type), LOG_STR("fingerprint", k.fingerprint),
			  LOG_STR("use", k.is_active ? "active" : "told"));
		if (k.has_certificate)
			log_event(fault ? LOG_WARN : LOG_INFO, "host_certificate", LOG_STR("type", k.type),
				  LOG_STR("state", fault ? fault : "valid"));
	}
}

/* Thousands of sockets: as many descriptors as the system lets us have. */
static void raise_descriptor_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
}

/*
 * Buffers that only a busy session has (a chunk of 66 KiB, libssh's 64 KiB) get pages of their own and give them back; on the heap they
 * would lie between what resting sessions keep. Setting it also stops glibc from raising it by itself. mallopt(3)
 */
static void keep_heap_dense(void)
{
	(void)mallopt(M_MMAP_THRESHOLD, 48 * 1024);
}

static int write_ready_file(const char *path, const struct server *s)
{
	struct whole_file w;
	struct conn_host_key_told key;
	char address[128];
	FILE *f;
	int rc = whole_file_start(&w, path);

	if (rc < 0)
		return rc;
	f = w.stream;
	fprintf(f, "{\"listen\": [");
	for (uint32_t i = 0; server_address(s, i, address, sizeof(address)); i++)
		fprintf(f, "%s\"%s\"", i ? ", " : "", address);
	fprintf(f, "], \"host_keys\": [");
	for (uint32_t i = 0; conn_server_host_key(s->conn_server, i, &key); i++)
		fprintf(f, "%s\"%s\"", i ? ", " : "", key.fingerprint);
	fprintf(f, "]}\n");
	return whole_file_finish(&w);
}

static void reload_directory(struct server *s, bool is_asked)
{
	char error[256];
	int rc = static_directory_reload(s->directory, error);

	if (rc == 1)
		log_event(LOG_INFO, "directory", LOG_STR("result", "read again"));
	else if (rc < 0 && (is_asked || rc != -EALREADY)) /* still wrong: told once, and when asked */
		log_event(LOG_ERROR, "directory", LOG_STR("result", "kept the old content"), LOG_STR("error", error));
	else if (rc == 0 && is_asked)
		log_event(LOG_INFO, "directory", LOG_STR("result", "unchanged"));
}

static void reload_texts(struct server *s)
{
	char error[CONFIG_ERROR_BYTES];

	if (!s->config->login.banner_file[0] && !s->config->session.motd_file[0])
		return;
	if (texts_load(&s->texts, s->config, error) < 0)
		log_event(LOG_ERROR, "texts", LOG_STR("result", "kept the old content"), LOG_STR("error", error));
	else
		log_event(LOG_INFO, "texts", LOG_STR("result", "read again"));
}

/* Main's own work: signals, and the directory file looked at now and then. Returns at SIGTERM or SIGINT. */
static void wait_for_end(struct server *s, const sigset_t *signals)
{
	bool is_file = s->config->directory[0] != 0;
	struct timespec interval = {.tv_sec = s->config->directory_check_s ? s->config->directory_check_s : 3600};

	for (;;) {
		int sig = sigtimedwait(signals, NULL, &interval);

		if (sig == SIGTERM || sig == SIGINT) {
			log_event(LOG_INFO, "stop", LOG_STR("signal", sig == SIGTERM ? "TERM" : "INT"));
			return;
		}
		if (sig == SIGHUP) {
			log_reopen();
			reload_texts(s);
		}
		if (is_file && (sig == SIGHUP || s->config->directory_check_s > 0))
			reload_directory(s, sig == SIGHUP);
	}
}

static void log_start_line(const struct server *s)
{
	char address[128];

	for (uint32_t i = 0; server_address(s, i, address, sizeof(address)); i++)
		log_event(LOG_INFO, "listen", LOG_STR("address", address), LOG_U64("workers", s->worker_count),
			  LOG_U64("handshake_threads", s->handshaker_count), LOG_STR("version", VERSION));
}

/* What was counted since the start. */
static void log_totals(const struct server *s)
{
	const struct counters *n = &s->counters;

	log_event(LOG_INFO, "totals", LOG_U64("accepted", atomic_load(&n->accepted)),
		  LOG_U64("dropped_early", atomic_load(&n->dropped_early)),
		  LOG_U64("dropped_full", atomic_load(&n->dropped_full)),
		  LOG_U64("auth_good", atomic_load(&n->auth_good)),
		  LOG_U64("auth_denied", atomic_load(&n->auth_denied)),
		  LOG_U64("auth_bad_request", atomic_load(&n->auth_bad_request)),
		  LOG_U64("auth_bad_key", atomic_load(&n->auth_bad_key)),
		  LOG_U64("auth_bad_signature", atomic_load(&n->auth_bad_signature)),
		  LOG_U64("auth_no_method", atomic_load(&n->auth_no_method)),
		  LOG_U64("auth_timeout", atomic_load(&n->auth_timeout)),
		  LOG_U64("sessions_ended", atomic_load(&n->sessions_ended)),
		  LOG_U64("withdrawn", atomic_load(&n->withdrawn)));
}

static int run(struct server *s, const struct flags *f, char error[512])
{
	struct admin admin = {.listen_fd = -1};
	sigset_t signals;
	int rc;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	raise_descriptor_limit();
	keep_heap_dense();
	rc = server_start(s, error);
	if (rc == 0 && s->config->admin_socket[0])
		rc = admin_start(&admin, s, s->config->admin_socket, error);
	if (rc == 0) {
		log_host_keys(s->conn_server);
		log_start_line(s);
		if (f->ready_path)
			rc = write_ready_file(f->ready_path, s);
		if (rc < 0)
			snprintf(error, 512, "--ready-file %s: %s", f->ready_path, strerror(-rc));
		else
			wait_for_end(s, &signals);
	}
	admin_stop(&admin);
	server_stop(s);
	log_totals(s);
	return rc;
}

int main(int argc, char **argv)
{
	static struct config config;
	static struct server server;
	static struct proof_secret control_secret;
	struct flags flags = {0};
	struct log_options log_options;
	char error[512] = "";
	int rc;

	if (argc > 1 && strcmp(argv[1], "status") == 0)
		return status_command(argc - 1, argv + 1);
	rc = parse_flags(argc, argv, &flags);
	if (rc != 0)
		return rc < 0 ? EXIT_SUCCESS : rc;
	if (load_config(&flags, &config, error) < 0)
		return fail(error);
	if (proof_init() < 0)
		return fail("libsodium does not start");
	server.config = &config;
	texts_init(&server.texts);
	if (texts_load(&server.texts, &config, error) < 0)
		return fail(error);
	if (config.directory[0] && static_directory_new(config.directory, &server.directory, error) < 0)
		return fail(error);
	if (flags.is_check) {
		if (check_host_keys(&config, error) < 0 || make_region_directory(&server, &control_secret, error) < 0)
			return fail(error);
		server.directory->ops->free(server.directory);
		puts("ringgate: the configuration is good");
		return EXIT_SUCCESS;
	}
	log_options =
		(struct log_options){.level = config.log.level, .format = config.log.format, .path = config.log.file};
	rc = log_start(&log_options);
	if (rc < 0) {
		snprintf(error, sizeof(error), "log.file %s: %s", config.log.file, strerror(-rc));
		return fail(error);
	}
	rc = host_keys_ensure(config.host_key_dir, error);
	if (rc == 0)
		rc = load_secret(&config, &server.secret, error);
	if (rc == 0)
		rc = make_region_directory(&server, &control_secret, error);
	if (rc == 0)
		rc = make_conn_server(&config, &server.conn_server, error);
	if (rc == 0)
		rc = run(&server, &flags, error);
	if (rc < 0)
		log_event(LOG_ERROR, "end", LOG_STR("error", error));
	else
		log_event(LOG_INFO, "end", LOG_STR("result", "clean"));
	conn_server_free(server.conn_server);
	if (server.directory)
		server.directory->ops->free(server.directory);
	proof_secret_wipe(&control_secret);
	proof_secret_wipe(&server.secret);
	log_stop();
	return rc < 0 ? fail(error) : EXIT_SUCCESS;
}
