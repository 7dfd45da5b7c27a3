#include "bench/arguments.h"
#include "bench/sftp.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum which {
	ADDRESS,
	USER,
	IDENTITY,
	COUNT,
	PARALLEL,
	RATE,
	SIZE,
	REQUESTS,
	INTERVAL,
	MIX,
	SECONDS,
	PAUSE,
	HOLD,
	COMMAND,
	FILE_PATH,
	KEEP,
	LISTEN,
	DELAY,
	KEX,
	CIPHER,
	MAC,
	HOST_KEY,
	LIMIT,
	JSON,
	QUIET,
	HELP,
	OPTIONS,
};

/* getopt's number of an option, none of which is a letter. */
#define FIRST 256

static const struct {
	const char *name, *value, *help;
} known[OPTIONS] = {
	[ADDRESS] = {"address", "ADDR:PORT", "numeric address of the server"},
	[USER] = {"user", "NAMES", "SSH user name: the sandbox ID at a gateway; several, comma separated, take turns"},
	[IDENTITY] = {"identity", "FILE", "private key without a passphrase; a folder of them: connections take turns"},
	[COUNT] = {"count", "N", "how many in all"},
	[PARALLEL] = {"parallel", "N", "how many at once"},
	[RATE] = {"rate", "N",
		  "so many begin in a second, late ones count from when they were due; 0: each as one ends (0)"},
	[SIZE] = {"size", "BYTES", "of each stream or file; K, M, G as powers of 1024"},
	[REQUESTS] = {"requests", "N", "in flight at once on each connection (64)"},
	[INTERVAL] = {"interval-ms", "N", "pause after an echo (10)"},
	[MIX] = {"mix", "S,C,B", "how many shells, runners of commands, copiers of bytes (10,2,1)"},
	[SECONDS] = {"seconds", "N", "how long (10)"},
	[PAUSE] = {"pause-ms", "N", "after a command or a copy (100)"},
	[HOLD] = {"hold", "SECONDS", "how long to rest; 0: until standard input ends (0)"},
	[COMMAND] = {"command", "TEXT", "what runs in the sandbox (true)"},
	[FILE_PATH] = {"path", "FILE", "the file or folder in the sandbox, removed at the end (ringbench.data)"},
	[KEEP] = {"keep", NULL,
		  "the measured part alone: what goes up stays and is compared by you, what comes down is there\n"
		  "                       already (down: as `ringbench pattern` wrote it; sftp-down: as sftp-up left "
		  "it)"},
	[LISTEN] = {"listen", "ADDR:PORT", "where to listen (127.0.0.1:0)"},
	[DELAY] = {"delay-ms", "N", "each way (50)"},
	[KEX] = {"kex", "LIST", "key exchanges by OpenSSH's names, comma separated (libssh's own order)"},
	[CIPHER] = {"cipher", "LIST", "ciphers, as well"},
	[MAC] = {"mac", "LIST", "MACs, as well"},
	[HOST_KEY] = {"host-key", "LIST", "types of the host's key, as well"},
	[LIMIT] = {"limit", "SECONDS", "deadline of the whole run (600)"},
	[JSON] = {"json", NULL, "one line of JSON"},
	[QUIET] = {"quiet", NULL, "no progress"},
	[HELP] = {"help", NULL, "this"},
};

/* Words separated by a space. */
static bool has_word(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = words; p && *p; p = strchr(p, ' ') ? strchr(p, ' ') + 1 : NULL)
		if (strncmp(p, word, n) == 0 && (p[n] == ' ' || p[n] == 0))
			return true;
	return false;
}

static bool takes(const struct scenario *s, enum which which)
{
	if (which == HELP || has_word(s->takes, known[which].name))
		return true;
	return s->start && (which <= IDENTITY || which >= KEX);
}

void arguments_help(const struct scenario *s)
{
	printf("usage: ringbench %s%s [options]\n\n%s\n\n", s->name,
	       s->start            ? " --address ADDR:PORT --user NAMES --identity FILE"
	       : takes(s, ADDRESS) ? " --address ADDR:PORT"
				   : "",
	       s->help);
	for (int i = 0; i < OPTIONS; i++) {
		char left[40], number[32] = "";
		unsigned long long standard = i == COUNT      ? s->count
					      : i == PARALLEL ? s->parallel
					      : i == SIZE     ? s->size_bytes
							      : 0;

		if (!takes(s, (enum which)i))
			continue;
		if (standard)
			snprintf(number, sizeof(number), " (%llu)", standard);
		snprintf(left, sizeof(left), "--%s %s", known[i].name, known[i].value ? known[i].value : "");
		printf("  %-20s %s%s\n", left, known[i].help, number);
	}
}

/* A number with K, M or G behind it, within 1 (or 0 where that may be) and max. */
static bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	char *end;
	unsigned long long v;
	uint32_t shift = 0;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (end == text || errno || text[0] == '-')
		return false;
	if (*end && strchr("KMG", *end)) {
		shift = *end == 'K' ? 10 : *end == 'M' ? 20 : 30;
		end++;
	}
	if (*end || v > max >> shift || v << shift < min)
		return false;
	*ret = (uint64_t)v << shift;
	return true;
}

static bool parse_u32(const char *text, uint32_t min, uint32_t max, uint32_t *ret)
{
	uint64_t n;

	if (!parse_number(text, min, max, &n))
		return false;
	*ret = (uint32_t)n;
	return true;
}

/* SHELLS,COMMANDS,COPIES; not all of them 0. */
static bool parse_mix(const char *text, uint32_t ret_mix[3])
{
	unsigned long long sum = 0;

	for (int i = 0; i < 3; i++) {
		char *end;
		unsigned long v = strtoul(text, &end, 10);

		if (end == text || *end != (i < 2 ? ',' : 0) || text[0] == '-' || v > BENCH_PARALLEL_MAX)
			return false;
		ret_mix[i] = (uint32_t)v;
		sum += v;
		text = end + 1;
	}
	return sum > 0 && sum <= BENCH_PARALLEL_MAX;
}

static bool parse_users(char *text, struct bench *b)
{
	for (char *name = strtok(text, ","); name; name = strtok(NULL, ",")) {
		if (b->user_count == BENCH_USERS_MAX)
			return false;
		b->users[b->user_count++] = name;
	}
	return b->user_count > 0;
}

static bool take(enum which which, char *value, struct bench *b, struct arguments *a)
{
	struct bench_options *o = &b->options;

	switch (which) {
	case ADDRESS:
		a->address = value;
		return true;
	case USER:
		return parse_users(value, b);
	case IDENTITY:
		a->identity = value;
		return true;
	case COUNT:
		return parse_u32(value, 1, BENCH_COUNT_MAX, &o->count);
	case PARALLEL:
		return parse_u32(value, 1, BENCH_PARALLEL_MAX, &o->parallel);
	case RATE:
		return parse_u32(value, 0, BENCH_RATE_MAX, &o->rate);
	case SIZE:
		return parse_number(value, 0, 1ull << 40, &o->size_bytes);
	case REQUESTS:
		return parse_u32(value, 1, SFTP_REQUESTS_MAX, &o->requests);
	case INTERVAL:
		return parse_u32(value, 0, 60000, &o->interval_ms);
	case MIX:
		return parse_mix(value, o->mix);
	case SECONDS:
		return parse_u32(value, 1, 86400, &o->seconds);
	case PAUSE:
		return parse_u32(value, 0, 60000, &o->pause_ms);
	case HOLD:
		return parse_u32(value, 0, 86400, &o->hold_s);
	case COMMAND:
		o->command = value;
		return true;
	case FILE_PATH:
		o->path = value;
		return true;
	case KEEP:
		o->is_kept = true;
		return true;
	case LISTEN:
		a->listen = value;
		return true;
	case DELAY:
		return parse_u32(value, 0, 10000, &a->delay_ms);
	case KEX:
		b->client.kex = value;
		return true;
	case CIPHER:
		b->client.cipher = value;
		return true;
	case MAC:
		b->client.mac = value;
		return true;
	case HOST_KEY:
		b->client.host_key = value;
		return true;
	case LIMIT:
		return parse_u32(value, 1, 86400, &o->limit_s);
	case JSON:
		o->is_json = true;
		return true;
	case QUIET:
		o->is_quiet = true;
		return true;
	case HELP:
		a->is_help = true;
		return true;
	case OPTIONS:
		break;
	}
	return false;
}

static int complain(const struct scenario *s, const char *what, const char *why)
{
	fprintf(stderr, "ringbench: %s%s; see ringbench %s --help\n", what, why, s->name);
	return -EINVAL;
}

int arguments_parse(int argc, char **argv, const struct scenario *s, struct bench *b, struct arguments *a)
{
	struct option options[OPTIONS + 1] = {{0}};
	int n = 0, which;

	for (int i = 0; i < OPTIONS; i++)
		if (takes(s, (enum which)i))
			options[n++] = (struct option){known[i].name, known[i].value ? required_argument : no_argument,
						       NULL, FIRST + i};
	opterr = 0;
	while ((which = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (which == 'h')
			which = FIRST + HELP;
		if (which < FIRST)
			return complain(s, argv[optind - 1],
					which == ':' ? ": its value is missing" : ": there is no such option here");
		if (!take((enum which)(which - FIRST), optarg, b, a)) {
			char what[256];

			snprintf(what, sizeof(what), "--%s %s", known[which - FIRST].name, optarg);
			return complain(s, what, ": not what it takes, or out of its bounds");
		}
	}
	if (a->is_help)
		return 0;
	if (optind < argc)
		return complain(s, argv[optind], ": what is this?");
	if (takes(s, USER) && (!a->address || !b->user_count || !a->identity))
		return complain(s, "--address, --user and --identity are needed", "");
	if (takes(s, ADDRESS) && !a->address)
		return complain(s, "--address is needed", "");
	return 0;
}
