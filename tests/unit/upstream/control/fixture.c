#include "fixture.h"

#include <dirent.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct ring *ring;
struct server server;
struct control_client *client;
int calls_left;
bool is_freed, last_state;
uint32_t state_count;
char last_why[256], changes_seen[256];
int status_to_say;
const char *message_to_say;

static struct timer hang, until;
static uint8_t secret[64];
static uint32_t fds_before;

uint64_t clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- Set-up ---- */

static uint32_t fds_count(void)
{
	DIR *d = opendir("/proc/self/fd");
	uint32_t n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void on_hang(struct timer *t)
{
	fail_msg("the loop did not end within %d ms", TEST_DEADLINE_MS);
}

static void on_until(struct timer *t)
{
	ring_stop(ring);
}

void run(void)
{
	timer_start(ring, &hang, TEST_DEADLINE_MS);
	assert_int_equal(ring_run(ring), 0);
	timer_stop(ring, &hang);
}

void run_for(uint64_t ms)
{
	timer_start(ring, &until, ms);
	run();
}

void run_calls(void)
{
	while (calls_left > 0)
		run();
}

static void on_state(void *owner, bool is_up, const char *why)
{
	assert_ptr_equal(owner, &client);
	assert_true(is_up != last_state);
	last_state = is_up;
	state_count++;
	snprintf(last_why, sizeof(last_why), "%s", why);
}

static void on_freed(void *owner)
{
	assert_ptr_equal(owner, &client);
	is_freed = true;
	ring_stop(ring);
}

struct control_options options(void)
{
	return (struct control_options){
		.url = server.url,
		.name = "gateway-1",
		.secret = secret,
		.connect_timeout_ms = 2000,
		.timeout_ms = 5000,
		.connection_count = 4,
		.on_state = on_state,
		.on_freed = on_freed,
		.owner = &client,
	};
}

void client_make(const struct control_options *o)
{
	char error[256];

	if (control_client_new(ring, o, &client, error) != 0)
		fail_msg("control_client_new: %s", error);
}

void client_end(void)
{
	if (!client)
		return;
	control_client_free(client);
	client = NULL;
	while (!is_freed)
		run();
}

static int setup(void **state)
{
	uint8_t public[32];
	int err = ring_new(NULL, &ring);

	if (err)
		fail_msg("ring_new: %s", ring_explain(err));
	if (sodium_init() < 0)
		return -1;
	crypto_sign_keypair(public, secret);
	timer_init(&hang, on_hang);
	timer_init(&until, on_until);
	calls_left = 0;
	is_freed = false;
	last_state = true;
	state_count = 0;
	client = NULL;
	return 0;
}

static int teardown(void **state)
{
	client_end();
	ring_free(ring);
	return 0;
}

void begin(server_handler *handler)
{
	struct control_options o;

	server_start(&server, 0, handler);
	o = options();
	client_make(&o);
}

/* Of curl's own: nothing is left open. */
void end(void)
{
	client_end();
	server_stop(&server);
	assert_int_equal(server.busy_count, 0);
}

/* ---- Calls ---- */

void on_done(struct control_call *c)
{
	assert_int_not_equal(calls_left, 0);
	calls_left--;
	if (calls_left == 0)
		ring_stop(ring);
}

void on_done_never(struct control_call *c)
{
	fail_msg("on_done of a call that was cancelled");
}

void key_ask(struct control_key_call *k)
{
	memset(k, 0, sizeof(*k));
	k->call.on_done = on_done;
	strcpy(k->fingerprint, FINGERPRINT);
	calls_left++;
	control_key_find(client, k);
	/* Never from inside. */
	assert_int_not_equal(calls_left, 0);
}

enum control_result key_of(struct control_key_call *k)
{
	key_ask(k);
	run_calls();
	return k->call.result;
}

static const struct grant grant = {"t", "u"};

void route_ask(struct control_route_call *r, uint32_t wait_s)
{
	memset(r, 0, sizeof(*r));
	r->call.on_done = on_done;
	strcpy(r->sandbox, "rs-1");
	strcpy(r->fingerprint, FINGERPRINT);
	r->grants = &grant;
	r->grant_count = 1;
	r->wait_s = wait_s;
	calls_left++;
	control_route_find(client, r);
}

enum control_result route_of(struct control_route_call *r)
{
	route_ask(r, 0);
	run_calls();
	return r->call.result;
}

static void on_changes_done(struct control_call *c)
{
	struct control_changes_call *ch = CONTAINER_OF(c, struct control_changes_call, call);

	changes_seen[0] = 0;
	for (uint32_t i = 0; i < ch->change_count; i++)
		snprintf(changes_seen + strlen(changes_seen), sizeof(changes_seen) - strlen(changes_seen), "%d%d%s ",
			 ch->changes[i].kind, ch->changes[i].is_moved, ch->changes[i].sandbox);
	on_done(c);
}

void changes_ask(struct control_changes_call *ch, uint64_t since, uint32_t wait_s)
{
	memset(ch, 0, sizeof(*ch));
	ch->call.on_done = on_changes_done;
	ch->since = since;
	ch->wait_s = wait_s;
	calls_left++;
	control_changes_wait(client, ch);
}

enum control_result changes_of(struct control_changes_call *ch, uint64_t since)
{
	changes_ask(ch, since, 0);
	run_calls();
	return ch->call.result;
}

struct control_stats stats(void)
{
	struct control_stats s;

	control_client_stats(client, &s);
	return s;
}

/* ---- Handlers ---- */

static bool is_good_request(const char *request)
{
	return strncmp(request, "GET /internal/v1/", 17) == 0 && strstr(request, "\r\nX-Internal-Token: eyJ") &&
	       strstr(request, "\r\nUser-Agent: ringgate/") && strstr(request, "\r\nAccept: application/json\r\n") &&
	       !strstr(request, "Authorization") && !strstr(request, "Cookie") && !strstr(request, "Proxy");
}

bool answer_well(struct server_conn *c, const char *request)
{
	if (!is_good_request(request))
		return server_error(c, 400, "not a good request");
	if (strncmp(request,
		    "GET /internal/v1/ssh-keys/SHA256:qARteTb2oz7ABVRSXf%2FocAxO%2BPv8UOQSflvmYv1Lqv0 HTTP/1.1\r\n",
		    80) == 0)
		return server_data(c, KEY_DATA);
	if (strstr(request, "/sandboxes/rs-1/ssh-target HTTP") && strstr(request, "\r\nX-SSH-Key-Grants: t=u\r\n") &&
	    strstr(request, "\r\nX-SSH-Key-Fingerprint: " FINGERPRINT "\r\n"))
		return server_data(c, ROUTE_DATA);
	if (strstr(request, "/changes?since=7 HTTP"))
		return server_data(c, CHANGES_DATA);
	if (strstr(request, "/changes HTTP"))
		return server_data(c, "{\"next\": 7, \"revoked\": [], \"moved\": []}");
	return server_error(c, 404, "what is this");
}

bool answer_slowly(struct server_conn *c, const char *request)
{
	usleep(5000);
	return answer_well(c, request);
}

bool answer_as_told(struct server_conn *c, const char *request)
{
	return message_to_say ? server_error(c, status_to_say, message_to_say)
			      : server_answer(c, status_to_say, "<html>what</html>");
}

bool answer_never(struct server_conn *c, const char *request)
{
	return server_wait_end(c);
}

/* ---- The rest ---- */

void make_hasty(server_handler *handler, uint32_t timeout_ms)
{
	struct control_options o;

	server_start(&server, 0, handler);
	o = options();
	o.timeout_ms = timeout_ms;
	o.connect_timeout_ms = timeout_ms;
	client_make(&o);
}

void wait_for_requests(uint32_t count)
{
	uint64_t begun = clock_ms();

	while (server.request_count < count) {
		assert_true(clock_ms() - begun < 10000);
		run_for(2);
	}
}

void wait_for_end_of(uint32_t conn)
{
	uint64_t begun = clock_ms();

	while (!atomic_load(&server.conns[conn].is_ended)) {
		assert_true(clock_ms() - begun < 5000);
		run_for(2);
	}
}

int count_fds(void **state)
{
	fds_before = fds_count();
	return setup(state);
}

int compare_fds(void **state)
{
	teardown(state);
	assert_int_equal(fds_count(), fds_before);
	return 0;
}
