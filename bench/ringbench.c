/*
 * ringbench - loads an SSH server, ours or any other, and says how it did.
 *
 * One thread, one ring, thousands of libssh client sessions. What is moved is compared: lost or altered bytes are a failure, not a result.
 * bench/compare.py runs it beside sshd and counts the servers' CPU.
 */
#include "bench/arguments.h"
#include "bench/bench.h"
#include "bench/pattern.h"
#include "bench/relay.h"

#include "core/nearest.h"
#include "ring/socket.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define PROGRESS_MS 500
#define LOGIN_MS 60000

/* Not scenarios, but called as they are. */
static const struct scenario tool_relay = {
	.name = "relay",
	.help = "a long way to --address: what comes is held back for --delay-ms each way; until it is killed",
	.takes = "address listen delay-ms",
};
static const struct scenario tool_pattern = {
	.name = "pattern",
	.help = "writes the --size bytes that down --keep expects, to standard output",
	.takes = "size",
};

static const struct scenario *const scenarios[] = {
	&scenario_connect, &scenario_exec,      &scenario_idle, &scenario_echo, &scenario_up,  &scenario_down,
	&scenario_sftp_up, &scenario_sftp_down, &scenario_day,  &tool_relay,    &tool_pattern,
};

static void on_limit(struct timer *t)
{
	struct bench *b = CONTAINER_OF(t, struct bench, limit);

	bench_fail(b, "the run", "did not end within --limit seconds");
	bench_end(b);
}

static void on_progress(struct timer *t)
{
	struct bench *b = CONTAINER_OF(t, struct bench, progress);

	fprintf(stderr, "\rringbench: %u done, %u failed, %llu MB ", b->done, b->failed,
		(unsigned long long)(b->bytes / 1000000));
	timer_start(b->ring, t, PROGRESS_MS);
}

static void add_common_results(struct bench *b)
{
	struct rusage u;
	double seconds = (double)(b->ended_us - b->first_us) / 1e6;

	getrusage(RUSAGE_SELF, &u);
	bench_result(b, "done", b->done);
	bench_result(b, "failed", b->failed);
	bench_result(b, "seconds", seconds);
	bench_result(b, "per_s", seconds > 0 ? b->done / seconds : 0);
	bench_result(b, "bytes", (double)b->bytes);
	bench_result(b, "p50_us", (double)histogram_at(&b->latency, 0.5));
	bench_result(b, "p90_us", (double)histogram_at(&b->latency, 0.9));
	bench_result(b, "p99_us", (double)histogram_at(&b->latency, 0.99));
	bench_result(b, "p999_us", (double)histogram_at(&b->latency, 0.999));
	bench_result(b, "max_us", (double)b->latency.max);
	bench_result(b, "mean_us", histogram_mean(&b->latency));
	bench_result(b, "own_cpu_s",
		     (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
			     (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
}

/* Enough of them for a drawing. */
static void print_latencies(const struct bench *b)
{
	static const double shares[] = {0.01, 0.05, 0.1,  0.25,  0.5,   0.75,   0.9,
					0.95, 0.98, 0.99, 0.995, 0.999, 0.9999, 1};

	printf(", \"latencies_us\": [");
	for (size_t i = 0; i < ARRAY_LEN(shares); i++)
		printf("%s[%g, %llu]", i ? ", " : "", shares[i],
		       (unsigned long long)histogram_at(&b->latency, shares[i]));
	printf("]");
}

static void print_results(const struct bench *b, const char *name)
{
	if (b->options.is_json)
		printf("{\"scenario\": \"%s\", \"count\": %u, \"parallel\": %u, \"size\": %llu", name, b->options.count,
		       b->options.parallel, (unsigned long long)b->options.size_bytes);
	else
		printf("%s\n", name);
	for (uint32_t i = 0; i < b->result_count; i++)
		printf(b->options.is_json ? ", \"%s\": %.15g" : "  %-20s %.15g\n", b->results[i].name,
		       round(b->results[i].value * 1000) / 1000);
	if (b->options.is_json) {
		print_latencies(b);
		printf("}\n");
	}
}

static void usage(void)
{
	puts("usage: ringbench SCENARIO --address ADDR:PORT --user NAMES --identity FILE [options]\n"
	     "\n"
	     "Loads an SSH server and prints rates and latencies; altered or missing bytes are a failure.\n");
	for (size_t i = 0; i < ARRAY_LEN(scenarios); i++)
		printf("  %-10s %s\n", scenarios[i]->name, scenarios[i]->help);
	puts("\nringbench SCENARIO --help tells the options of each.\n"
	     "Exit status: 0 all is well, 1 something failed or differed, 2 wrong usage.");
}

static const struct scenario *scenario_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(scenarios); i++)
		if (strcmp(scenarios[i]->name, name) == 0)
			return scenarios[i];
	return NULL;
}

static void raise_descriptor_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
}

static int run(struct bench *b, const struct scenario *s)
{
	int rc = ring_new(&(struct ring_options){0}, &b->ring);

	if (rc < 0) {
		fprintf(stderr, "ringbench: %s\n", ring_explain(rc));
		return rc;
	}
	timer_init(&b->limit, on_limit);
	timer_start(b->ring, &b->limit, b->options.limit_s * 1000ull);
	timer_init(&b->progress, on_progress);
	if (!b->options.is_quiet)
		timer_start(b->ring, &b->progress, PROGRESS_MS);
	b->started_us = bench_now_us();
	rc = s->start(b);
	if (rc == 0)
		rc = ring_run(b->ring);
	if (rc < 0)
		bench_fail(b, "the run",
			   rc == -ENOMEM ? "out of memory, or an algorithm that libssh does not know" : strerror(-rc));
	if (!b->first_us)
		b->first_us = b->started_us;
	if (!b->ended_us)
		b->ended_us = bench_now_us();
	if (!b->options.is_quiet)
		fputs("\r\033[K", stderr);
	return 0; /* what is still open ends with the process */
}

static int load_key(struct bench *b, const char *path)
{
	struct ssh_key_struct **more = realloc(b->keys, (b->key_count + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	b->keys = more;
	if (client_key_load(path, &b->keys[b->key_count]) < 0) {
		fprintf(stderr, "ringbench: --identity %s: not a private key that can be read without a passphrase\n",
			path);
		return -EINVAL;
	}
	b->key_count++;
	return 0;
}

/* A file, or all files of a folder whose names do not end in .pub. */
static int load_keys(struct bench *b, const char *path)
{
	DIR *folder = opendir(path);
	struct dirent *entry;
	int rc = 0;

	if (!folder)
		return load_key(b, path);
	while (rc == 0 && (entry = readdir(folder)) && b->key_count < BENCH_KEYS_MAX) {
		size_t n = strlen(entry->d_name);
		char file[PATH_MAX];

		if (entry->d_name[0] == '.' || (n > 4 && strcmp(entry->d_name + n - 4, ".pub") == 0))
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		rc = load_key(b, file);
	}
	closedir(folder);
	if (rc == 0 && b->key_count == 0) {
		fprintf(stderr, "ringbench: --identity %s: no keys in this folder\n", path);
		rc = -ENOENT;
	}
	return rc;
}

static int make_logins(struct bench *b)
{
	b->login_count = b->key_count > b->user_count ? b->key_count : b->user_count;
	b->logins = calloc(b->login_count, sizeof(*b->logins));
	if (!b->logins)
		return -ENOMEM;
	for (uint32_t i = 0; i < b->login_count; i++) {
		b->logins[i] = b->client;
		b->logins[i].user = b->users[i % b->user_count];
		b->logins[i].key = b->keys[i % b->key_count];
	}
	return 0;
}

static int pattern(const struct bench *b)
{
	pattern_start();
	if (pattern_write(b->options.size_bytes, stdout) < 0) {
		fprintf(stderr, "ringbench: cannot write the pattern\n");
		return 1;
	}
	return 0;
}

static int relay(const struct bench *b, const struct arguments *a)
{
	struct relay_options o = {
		.listen = a->listen,
		.to = b->client.addr,
		.to_bytes = b->client.addr_bytes,
		.delay_ms = a->delay_ms,
	};
	struct ring *r;
	int rc = ring_new(&(struct ring_options){0}, &r);

	if (rc < 0) {
		fprintf(stderr, "ringbench: %s\n", ring_explain(rc));
		return 1;
	}
	return relay_run(r, &o) < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
	static struct bench bench = {
		.options = {.interval_ms = 10,
			    .limit_s = 600,
			    .command = "true",
			    .path = "ringbench.data",
			    .requests = 64,
			    .mix = {10, 2, 1},
			    .seconds = 10,
			    .pause_ms = 100},
		.client = {.login_ms = LOGIN_MS},
	};
	static struct sockaddr_storage addr;
	struct arguments a = {.listen = "127.0.0.1:0", .delay_ms = 50};
	const struct scenario *s;

	if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		usage();
		return 0;
	}
	if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
		puts("ringbench " RINGGATE_VERSION);
		return 0;
	}
	s = argc >= 2 ? scenario_find(argv[1]) : NULL;
	if (!s) {
		fprintf(stderr, "ringbench: %s%s; see ringbench --help\n",
			argc >= 2 ? "no such scenario: " : "which scenario?", argc >= 2 ? argv[1] : "");
		return 2;
	}
	bench.scenario = s;
	bench.options.count = s->count;
	bench.options.parallel = s->parallel;
	bench.options.size_bytes = s->size_bytes;
	if (arguments_parse(argc - 1, argv + 1, s, &bench, &a) < 0)
		return 2;
	if (a.is_help) {
		arguments_help(s);
		return 0;
	}
	if (s == &tool_pattern)
		return pattern(&bench);
	if (socket_address_parse(a.address, &addr, &bench.client.addr_bytes) < 0) {
		fprintf(stderr, "ringbench: --address %s: not ADDR:PORT with a numeric address\n", a.address);
		return 2;
	}
	bench.client.addr = (const struct sockaddr *)&addr;
	raise_descriptor_limit();
	if (s == &tool_relay)
		return relay(&bench, &a);
	if (client_library_start() < 0 || load_keys(&bench, a.identity) < 0 || make_logins(&bench) < 0)
		return 2;
	if (run(&bench, s) < 0)
		return 1;
	add_common_results(&bench);
	print_results(&bench, s->name);
	return bench.failure[0] ? 1 : 0;
}
