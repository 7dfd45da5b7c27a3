/*
 * gateway/status.c - what `ringgate status` says. Numbers count from the gateway's start; *_s are seconds.
 */
#include "gateway/status.h"

#include "gateway/region_directory.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static json_t *gateway_part(const struct server *s)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return json_pack("{s:s, s:s, s:i, s:o, s:o, s:o}", "version", RINGGATE_VERSION, "name", s->config->name, "pid",
			 (int)getpid(), "up_s", number((uint64_t)now.tv_sec - s->started_us / 1000000), "workers",
			 number(s->worker_count), "handshake_threads", number(s->handshaker_count));
}

static json_t *sessions_part(const struct server *s)
{
	const struct counters *n = &s->counters;
	uint64_t live = 0;

	for (uint32_t i = 0; i < s->worker_count; i++)
		live += atomic_load(&s->workers[i].session_count);
	return json_pack("{s:o, s:o, s:o, s:o}", "live", number(live), "logging_in",
			 number(atomic_load(&n->unauthenticated_count)), "ended",
			 number(atomic_load(&n->sessions_ended)), "withdrawn", number(atomic_load(&n->withdrawn)));
}

static json_t *logins_part(const struct server *s)
{
	const struct counters *n = &s->counters;
	const struct {
		const char *name;
		const _Atomic uint64_t *value;
	} all[] = {
		{"accepted_connections", &n->accepted},
		{"dropped_early", &n->dropped_early},
		{"dropped_full", &n->dropped_full},
		{"good", &n->auth_good},
		{"denied", &n->auth_denied},
		{"bad_request", &n->auth_bad_request},
		{"bad_key", &n->auth_bad_key},
		{"bad_signature", &n->auth_bad_signature},
		{"no_method", &n->auth_no_method},
		{"timeout", &n->auth_timeout},
	};
	json_t *part = json_object();

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		json_object_set_new(part, all[i].name, number(atomic_load(all[i].value)));
	return part;
}

/* --- what the threads' rings have done --- */

struct ring_sum {
	struct ring_stats stats;
	uint64_t copied_bytes;
};

static void add_ring(struct ring_sum *sum, struct ring *r)
{
	struct ring_stats one;

	ring_stats_read(r, &one);
	sum->stats.enters += one.enters;
	sum->stats.gathers += one.gathers;
	sum->stats.completions += one.completions;
	sum->stats.recvs += one.recvs;
	sum->stats.recv_bytes += one.recv_bytes;
	sum->stats.sends += one.sends;
	sum->stats.send_bytes += one.send_bytes;
	sum->stats.recv_no_buffer += one.recv_no_buffer;
	sum->stats.accepts += one.accepts;
	sum->stats.mails += one.mails;
	sum->copied_bytes += chunk_pool_copied(ring_pool(r));
}

static json_t *rings_part(const struct ring_sum *sum)
{
	const struct ring_stats *n = &sum->stats;

	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "enters", number(n->enters),
			 "gathers", number(n->gathers), "completions", number(n->completions), "recvs",
			 number(n->recvs), "recv_bytes", number(n->recv_bytes), "sends", number(n->sends), "send_bytes",
			 number(n->send_bytes), "recv_no_buffer", number(n->recv_no_buffer), "accepts",
			 number(n->accepts), "mails", number(n->mails), "copied_bytes", number(sum->copied_bytes));
}

static void add_rings(json_t *root, const struct server *s)
{
	struct ring_sum workers = {0}, handshakes = {0};

	for (uint32_t i = 0; i < s->worker_count; i++)
		add_ring(&workers, s->workers[i].ring);
	for (uint32_t i = 0; i < s->handshaker_count; i++)
		add_ring(&handshakes, s->handshakers[i].ring);
	json_object_set_new(root, "workers", rings_part(&workers));
	json_object_set_new(root, "handshakes", rings_part(&handshakes));
}

/* --- the region's directory --- */

static json_t *control_part(const struct region_status *r)
{
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "state", r->is_control_up ? "up" : "down", "since_s",
			 number(r->control_since_s), "calls", number(r->control.calls), "retries",
			 number(r->control.retries), "failures", number(r->control.failures), "rejected",
			 number(r->control.rejected), "in_flight", number(r->control.in_flight));
}

static json_t *redis_part(const struct region_status *r)
{
	if (!r->has_redis)
		return json_pack("{s:s}", "state", "none");
	return json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "state", r->is_redis_up ? "up" : "down",
			 "since_s", number(r->redis_since_s), "server", r->redis.server, "reads",
			 number(r->redis.reads), "hits", number(r->redis.hits), "fills", number(r->redis.fills),
			 "failures", number(r->redis.failures), "reconnects", number(r->redis.reconnects),
			 "invalidations", number(r->redis.invalidations), "not_verified", number(r->not_verified));
}

static json_t *changes_part(const struct region_status *r)
{
	return json_pack("{s:s, s:o, s:o, s:o}", "state", r->feed, "position", number(r->feed_position), "answered_s",
			 number(r->feed_answered_s), "told", number(r->changes));
}

static json_t *lookups_part(const struct region_status *r)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "requests", number(r->requests),
			 "requests_open", number(r->requests_open), "refused", number(r->refused), "made",
			 number(r->lookups), "open", number(r->lookups_open), "joined", number(r->joined), "again",
			 number(r->again), "from_redis", number(r->from_redis), "from_control", number(r->from_control),
			 "unavailable", number(r->unavailable));
}

static void add_l1(json_t *root, const struct l1_stats *l1)
{
	static const char *const names[] = {"l1_keys", "l1_routes", "l1_grants", "l1_unknown"};

	_Static_assert(ARRAY_LEN(names) == L1_KINDS, "each has a name");
	for (int k = 0; k < L1_KINDS; k++)
		json_object_set_new(root, names[k],
				    json_pack("{s:o, s:o, s:o, s:o}", "entries", number(l1->count[k]), "hits",
					      number(l1->hits[k]), "misses", number(l1->misses[k]), "pushed_out",
					      number(l1->pushed_out[k])));
}

static void add_directory(json_t *root, struct server *s)
{
	struct region_status r;

	if (!s->config->control.url[0]) {
		json_object_set_new(root, "directory", json_pack("{s:s}", "kind", "file"));
		return;
	}
	json_object_set_new(root, "directory", json_pack("{s:s}", "kind", "control plane"));
	if (region_directory_status(s->directory, &r) < 0) {
		json_object_set_new(root, "control", json_pack("{s:s}", "state", "the directory thread is busy"));
		return;
	}
	json_object_set_new(root, "control", control_part(&r));
	json_object_set_new(root, "redis", redis_part(&r));
	json_object_set_new(root, "changes", changes_part(&r));
	json_object_set_new(root, "lookups", lookups_part(&r));
	add_l1(root, &r.l1);
}

char *status_text(struct server *s)
{
	json_t *root = json_object();
	char *text;

	json_object_set_new(root, "gateway", gateway_part(s));
	json_object_set_new(root, "sessions", sessions_part(s));
	json_object_set_new(root, "logins", logins_part(s));
	add_rings(root, s);
	add_directory(root, s);
	text = json_dumps(root, JSON_INDENT(2));
	json_decref(root);
	return text;
}

/* --- as lines --- */

static void print_value(json_t *v)
{
	if (json_is_string(v))
		printf("%s", json_string_value(v));
	else
		printf("%lld", (long long)json_integer_value(v));
}

bool status_print(const char *text)
{
	json_t *root = json_loads(text, 0, NULL), *part, *value;
	const char *name, *key;

	if (!json_is_object(root)) {
		json_decref(root);
		return false;
	}
	json_object_foreach(root, name, part)
	{
		const char *between = "";

		printf("%-11s", name);
		json_object_foreach(part, key, value)
		{
			printf("%s %s ", between, key);
			print_value(value);
			between = ",";
		}
		putchar('\n');
	}
	json_decref(root);
	return true;
}
