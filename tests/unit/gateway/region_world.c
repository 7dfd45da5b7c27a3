#include "region_world.h"

#include "core/log.h"

#include <fcntl.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECRET_HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

/* A test that takes longer than this hangs. */
#define DEADLINE_MS 20000

struct world world;
struct grant ada = {.team = "t-one", .user = "u-ada"};

static char dir[] = "/tmp/test_region.XXXXXX";
static char secret_path[64];
static uint8_t control_secret[64];

int world_setup(void **state)
{
	int fd;

	if (sodium_init() < 0 || !mkdtemp(dir))
		return -1;
	snprintf(secret_path, sizeof(secret_path), "%s/secret", dir);
	fd = open(secret_path, O_WRONLY | O_CREAT, 0600);
	if (fd < 0 || write(fd, SECRET_HEX "\n", 65) != 65)
		return -1;
	close(fd);
	return log_start(&(struct log_options){.level = LOG_ERROR, .path = "/dev/null"});
}

int world_teardown(void **state)
{
	log_stop();
	unlink(secret_path);
	return rmdir(dir);
}

static void on_deadline(struct timer *t)
{
	fail_msg("no answer within %d ms", DEADLINE_MS);
}

static void on_changed(struct directory *d, const struct subject *s)
{
	world.last = *s;
	atomic_fetch_add(&world.changed[s->kind], 1);
}

void world_start(bool has_redis)
{
	char error[CONFIG_ERROR_BYTES] = "", setting[128];

	fake_reset();
	memset(&world, 0, sizeof(world));
	config_defaults(&world.config);
	assert_int_equal(config_set(&world.config, "control.url=http://127.0.0.1:1", error), 0);
	if (has_redis) {
		snprintf(setting, sizeof(setting), "redis.secret_file=%s", secret_path);
		assert_int_equal(config_set(&world.config, "redis.url=redis://127.0.0.1:1", error), 0);
		assert_int_equal(config_set(&world.config, setting, error), 0);
	}
	assert_int_equal(ring_new(&(struct ring_options){0}, &world.ring), 0);
	timer_init(&world.deadline, on_deadline);
	if (region_directory_new(&world.config, control_secret, &world.directory, error) < 0)
		fail_msg("%s", error);
	world.directory->on_changed = on_changed;
}

void world_run(void)
{
	char error[256];

	assert_int_equal(world.directory->ops->start(world.directory, error), 0);
	for (int i = 0; i < 2000 && !atomic_load(&world.changed[SUBJECT_ALL]) && fake.feed_result == CONTROL_OK; i++)
		usleep(1000);
	fake_nothing();
}

void world_finish(void)
{
	world.directory->ops->stop(world.directory);
	ring_free(world.ring);
	world.directory->ops->free(world.directory);
}

static void answered(void)
{
	if (--world.awaited == 0)
		ring_stop(world.ring);
}

void world_on_key(struct key_query *q)
{
	answered();
}

static void on_route(struct route_query *q)
{
	struct policies p = {NULL, q->team_policy, q->sandbox_policy, "t-one"};

	if (q->verdict == VERDICT_YES) {
		if (policies_allow_agent(&p, world.agent_why))
			world.agent_why[0] = 0;
		if (policies_allow_jump(&p, world.jump_why))
			world.jump_why[0] = 0;
	}
	answered();
}

void world_wait(void)
{
	timer_start(world.ring, &world.deadline, DEADLINE_MS);
	while (world.awaited > 0) /* an answer inside the call has stopped the next run */
		assert_int_equal(ring_run(world.ring), 0);
	timer_stop(world.ring, &world.deadline);
}

void ask_key(struct key_query *q, const char *fingerprint)
{
	*q = (struct key_query){.ring = world.ring, .on_done = world_on_key, .is_signed = true};
	strcpy(q->fingerprint, fingerprint);
	world.awaited++;
	world.directory->ops->key_find(world.directory, q);
}

void ask_route(struct route_query *q, const char *sandbox)
{
	q->ring = world.ring;
	q->on_done = on_route;
	strcpy(q->sandbox, sandbox);
	strcpy(q->fingerprint, PRINT_1);
	if (!q->grants) {
		q->grants = &ada;
		q->grant_count = 1;
	}
	world.awaited++;
	world.directory->ops->route_find(world.directory, q);
}

enum verdict key_verdict(const char *fingerprint)
{
	struct key_query q;

	ask_key(&q, fingerprint);
	world_wait();
	return q.verdict;
}

enum verdict route_verdict(const char *sandbox)
{
	struct route_query q = {.grant_count = 0};

	ask_route(&q, sandbox);
	world_wait();
	return q.verdict;
}

uint32_t world_open_requests(void)
{
	struct region_status status;

	assert_int_equal(region_directory_status(world.directory, &status), 0);
	return status.requests_open;
}

void change_key(const char *fingerprint)
{
	struct control_change c = {.kind = CONTROL_SUBJECT_KEY};

	strcpy(c.fingerprint, fingerprint);
	fake_feed_tell(&c, 1);
}
