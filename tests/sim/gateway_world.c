#include "tests/sim/gateway_world.h"

#include "gateway/login.h"
#include "ssh/host_key.h"
#include "tests/sim/fake_libc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libssh/libssh.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct gateway gw;

/* What does not change from seed to seed. */
static struct {
	struct config config;
	struct policy *policy;
	struct conn_server *servers[3]; /* by how often keys are exchanged anew */
	struct proof_secret gateway_secret, sandbox_secret, other_secret;
	struct proof_public gateway_public, sandbox_public;
	ssh_key user_key;
	char fingerprint[FINGERPRINT_CHARS + 1];
	bool is_loud;
} fixed;

/* The log of a world is read only when one looks for a fault: SIM_LOG=1. */
void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t count)
{
	(void)level;
	if (!fixed.is_loud)
		return;
	fprintf(stderr, "%12.6f %s", (double)sim.now_us / 1e6, event);
	for (size_t i = 0; i < count; i++)
		if (fields[i].kind == LOG_FIELD_STR)
			fprintf(stderr, " %s=\"%s\"", fields[i].key, fields[i].str);
	fputc('\n', stderr);
}

struct worker *server_pick_worker(struct server *s)
{
	return &s->workers[0];
}

/* It listens nowhere. */
const char *server_address(const struct server *s, uint32_t i, char *buf, size_t size)
{
	return NULL;
}

/* --- once a process --- */

static void make_secret(struct proof_secret *ret_secret, struct proof_public *ret_public)
{
	char dir[] = "/tmp/ringgate-sim.XXXXXX", path[64], public_path[64];

	ASSERT(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/key", dir);
	snprintf(public_path, sizeof(public_path), "%s/key.pub", dir);
	ASSERT(proof_keygen(path, ret_public) == 0);
	ASSERT(proof_secret_load(path, ret_secret) == 0);
	unlink(path);
	unlink(public_path);
	rmdir(dir);
}

static void make_servers(void)
{
	static const uint64_t rekey_bytes[] = {0, 64 * 1024, 1024 * 1024};
	char path[] = "/tmp/ringgate-sim-host.XXXXXX", error[256];
	struct host_key key;
	struct conn_host_key file = {.type = "ed25519", .path = path, .is_active = true};
	int fd = mkstemp(path);

	ASSERT(fd >= 0 && host_key_make("ed25519", &key) == 0);
	ASSERT(write(fd, key.private_text, strlen(key.private_text)) == (ssize_t)strlen(key.private_text));
	close(fd);
	host_key_deinit(&key);
	for (size_t i = 0; i < ARRAY_LEN(rekey_bytes); i++) {
		const struct config *c = &fixed.config;
		struct conn_server_options o = {
			.kex = c->crypto.kex,
			.ciphers = c->crypto.ciphers,
			.macs = c->crypto.macs,
			.host_key_algorithms = c->crypto.host_keys,
			.host_keys = &file,
			.host_key_count = 1,
			.rekey_bytes = rekey_bytes[i],
			.max_bad_signatures = c->login.max_bad_signatures,
			.max_keys = c->login.max_keys,
			.max_channels = c->session.max_channels,
			.window_bytes = LINK_WINDOW_FIRST,
			.version = "ringgate_sim",
		};

		if (conn_server_new(&o, &fixed.servers[i], error) < 0) {
			fprintf(stderr, "%s\n", error);
			abort();
		}
	}
	unlink(path);
}

void gateway_prepare(void)
{
	struct proof_public ignored;
	unsigned char *hash = NULL;
	size_t hash_bytes = 0;
	char *text;

	fixed.is_loud = getenv("SIM_LOG") != NULL;
	ASSERT(proof_init() == 0);
	config_defaults(&fixed.config);
	snprintf(fixed.config.name, sizeof(fixed.config.name), "sim");
	make_secret(&fixed.gateway_secret, &fixed.gateway_public);
	make_secret(&fixed.sandbox_secret, &fixed.sandbox_public);
	make_secret(&fixed.other_secret, &ignored);
	fixed.policy = policy_new(&fixed.config.policy);
	ASSERT(fixed.policy);
	make_servers();
	ASSERT(ssh_pki_generate_key(SSH_KEYTYPE_ED25519, NULL, &fixed.user_key) == SSH_OK);
	ASSERT(ssh_get_publickey_hash(fixed.user_key, SSH_PUBLICKEY_HASH_SHA256, &hash, &hash_bytes) == SSH_OK);
	text = ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256, hash, hash_bytes);
	ASSERT(text && strlen(text) < sizeof(fixed.fingerprint));
	strcpy(fixed.fingerprint, text);
	ssh_string_free_char(text);
	ssh_clean_pubkey_hash(&hash);
}

void gateway_forget(void)
{
	ssh_key_free(fixed.user_key);
	policy_put(fixed.policy);
	for (size_t i = 0; i < ARRAY_LEN(fixed.servers); i++)
		conn_server_free(fixed.servers[i]);
}

/* --- procds --- */

static int on_connect(const struct sockaddr *addr, struct sim_socket *far_end)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)addr;
	uint32_t place = (uint32_t)(ntohs(in->sin_port) - PORT_FIRST);
	struct place *p;

	CHECK(place < ROUTES_MAX);
	p = &gw.places[place];
	p->connect_count++;
	if (gw.is_asleep || sim.now_us < gw.listens_us)
		return gw.has_asleep_hang ? -EINPROGRESS : -ECONNREFUSED;
	if (p->answer == CONNECT_REFUSED && !(p->has_later && p->connect_count > 1))
		return -ECONNREFUSED;
	if (p->answer == CONNECT_HANGS && !(p->has_later && p->connect_count > 1))
		return -EINPROGRESS;
	procd_start(far_end, p->has_later && p->connect_count > 1 ? &p->later : &p->plan);
	return 0;
}

struct procd_plan gateway_honest_plan(void)
{
	static const uint32_t credits[] = {1, 1000, 64 * 1024, 64 * 1024, 1024 * 1024};

	return (struct procd_plan){
		.secret = &fixed.sandbox_secret,
		.gateway = &fixed.gateway_public,
		.credit_bytes = credits[sim_random(ARRAY_LEN(credits))],
		.is_frozen = &gw.is_frozen,
		.is_gone = &gw.is_gone,
	};
}

void gateway_make_wrong(struct procd_plan *plan)
{
	plan->secret = &fixed.other_secret;
	plan->is_wrong = true;
}

/* --- a world --- */

void gateway_begin(const char *scenario, uint64_t seed)
{
	sim_begin(scenario, seed);
	memset(&gw, 0, sizeof(gw));
	sim_on_connect = on_connect;
	gw.config = fixed.config;
	gw.directory.ops = &fake_directory_ops;
	gw.directory_delay_us = sim_chance(50) ? 0 : sim_between(1, 500000);
	gw.key_verdict = gw.route_verdict = VERDICT_YES;
	gw.server = (struct server){
		.config = &gw.config,
		.conn_server = fixed.servers[sim_chance(70) ? 0 : sim_random(ARRAY_LEN(fixed.servers))],
		.directory = &gw.directory,
		.policy = fixed.policy,
		.secret = fixed.gateway_secret,
		.workers = &gw.worker,
		.worker_count = 1,
		.handshakers = &gw.handshaker,
		.handshaker_count = 1,
	};
	changes_init(&gw.server.changes);
	gw.worker.server = gw.handshaker.server = &gw.server;
	checks_init(&gw.worker.checks, &gw.worker);
	list_init(&gw.worker.sessions);
	list_init(&gw.handshaker.sessions);
	ASSERT(ring_new(NULL, &gw.worker.ring) == 0 && ring_new(NULL, &gw.handshaker.ring) == 0);
	gw.places[0].plan = gateway_honest_plan();
	for (uint32_t i = 0; i < ROUTES_MAX; i++)
		gw.places[i].plan = gw.places[i].later = gw.places[0].plan;
}

void gateway_never_rekeys(void)
{
	gw.server.conn_server = fixed.servers[0];
}

struct client_options gateway_client_options(void)
{
	static const char *const ciphers[] = {"aes128-gcm@openssh.com", "aes128-gcm@openssh.com",
					      "chacha20-poly1305@openssh.com", "aes256-ctr"};

	return (struct client_options){
		.user = "sb-1",
		.key = fixed.user_key,
		.kex = "curve25519-sha256",
		.cipher = ciphers[sim_random(ARRAY_LEN(ciphers))],
		.rekey_bytes = sim_chance(20) ? 32 * 1024 : 0,
	};
}

struct sim_client *gateway_client(const struct client_options *o)
{
	int fd;
	struct sim_socket *far_end = sim_connection(&fd);

	/* As on_accept of server.c. */
	if (login_admits(&gw.handshaker))
		session_start(&gw.handshaker, fd, NULL);
	else
		sim_libc_close(fd);
	return client_new(far_end, o);
}

const struct proof_public *gateway_sandbox_key(void)
{
	return &fixed.sandbox_public;
}

const char *gateway_fingerprint(void)
{
	return fixed.fingerprint;
}

void gateway_changed(enum subject_kind kind, const char *what)
{
	struct subject s = {.kind = kind};

	switch (kind) {
	case SUBJECT_KEY:
		strcpy(s.fingerprint, what);
		break;
	case SUBJECT_MEMBER:
		strcpy(s.user, "user1");
		strcpy(s.team, what);
		break;
	case SUBJECT_SANDBOX:
		strcpy(s.sandbox, what);
		break;
	case SUBJECT_ALL:
		break;
	}
	checks_tell(&gw.server, &s);
}

struct session *gateway_session(void)
{
	if (list_is_empty(&gw.worker.sessions))
		return NULL;
	return CONTAINER_OF(gw.worker.sessions.next, struct session, node);
}

void gateway_watch(void)
{
	const struct chunk_pool *pool = ring_pool(gw.worker.ring);
	uint64_t limit = 0;

	if (pool->used_count > gw.chunks_max)
		gw.chunks_max = pool->used_count;
	for (struct list *n = gw.worker.sessions.next; n != &gw.worker.sessions; n = n->next) {
		const struct session *s = CONTAINER_OF(n, struct session, node);
		const struct bridge *b = &s->bridge;
		uint32_t count = b->links.count;
		uint64_t down = SESSION_DOWN_BUDGET + (uint64_t)count * LINK_CREDIT_MIN;

		if (s->client.out.bytes > gw.out_max)
			gw.out_max = s->client.out.bytes;
		if (procd_client_unsent(&b->procd) > gw.procd_out_max)
			gw.procd_out_max = procd_client_unsent(&b->procd);
		CHECK(b->links.up_total <= SESSION_UP_BUDGET + count * LINK_WINDOW_FIRST);
		CHECK(b->links.down_total <= down);
		CHECK(s->client.out.bytes <= SESSION_OUT_MAX + down);
		/* A chunk may be half empty when a whole packet did not fit; each queue has one that is begun. */
		limit += 2 * (SESSION_OUT_MAX + down) + 2 * SESSION_UP_BUDGET + 2 * PROCD_OUT_MAX +
			 (count + 4) * CHUNK_BYTES;
	}
	CHECK(list_is_empty(&gw.worker.sessions) || (uint64_t)pool->used_count * CHUNK_BYTES <= limit);
}

void gateway_end(void)
{
	/* The longest wait of an ending: farewells to both sides, and the other ends' own. */
	(void)sim_run(NULL, NULL, sim.now_us + 60 * 1000000u);
	CHECK(gw.server.counters.session_count == 0);
	CHECK(gw.server.counters.unauthenticated_count == 0);
	CHECK(gw.worker.session_count == 0);
	CHECK(list_is_empty(&gw.worker.sessions) && list_is_empty(&gw.handshaker.sessions));
	CHECK(gw.pending_count == 0);
	CHECK(!sim_ring_has_timers(gw.worker.ring) && !sim_ring_has_timers(gw.handshaker.ring));
	CHECK(sim_ring_ops(gw.worker.ring) == 0 && sim_ring_ops(gw.handshaker.ring) == 0);
	CHECK(ring_pool(gw.worker.ring)->used_count == 0 && ring_pool(gw.handshaker.ring)->used_count == 0);
	ring_free(gw.worker.ring);
	ring_free(gw.handshaker.ring);
	sim_end();
}
