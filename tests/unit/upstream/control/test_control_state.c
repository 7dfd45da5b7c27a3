/*
 * tests/unit/upstream/control/test_control_state.c - the control plane's client: up and down, calls that are held back, names, options.
 */
#include "fixture.h"

#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- Up and down ---- */

static uint16_t free_port(void)
{
	uint16_t port;

	server_start(&server, 0, answer_well);
	port = server.port;
	server_stop(&server);
	return port;
}

static void fail_until_down(void)
{
	uint64_t begun = clock_ms();
	struct control_key_call k;

	while (last_state) {
		assert_int_equal(key_of(&k), CONTROL_FAILED);
		assert_true(k.call.reason[0]);
		assert_true(clock_ms() - begun < 10000);
		run_for(20);
	}
}

static void test_down_and_up_again(void **state)
{
	uint16_t port = free_port();
	struct control_options o = options();
	struct control_key_call k;
	uint64_t rejected, begun;

	client_make(&o);
	fail_until_down();
	assert_int_equal(state_count, 1);
	assert_non_null(strstr(last_why, "onnect"));
	assert_false(stats().is_up);
	/* Refused at once, with the reason, but for the probes. */
	rejected = stats().rejected;
	begun = clock_ms();
	for (int i = 0; i < 100; i++)
		assert_int_equal(key_of(&k), CONTROL_FAILED);
	assert_true(stats().rejected - rejected + 2 + (clock_ms() - begun) / 1000 >= 100);
	assert_non_null(strstr(k.call.reason, "it is down: "));
	server_start(&server, port, answer_well);
	begun = clock_ms();
	while (key_of(&k) != CONTROL_OK) {
		assert_true(clock_ms() - begun < 5000);
		run_for(10);
	}
	assert_int_equal(state_count, 2);
	assert_true(last_state);
	assert_true(stats().is_up);
	/* A probe in a while, and no storm. */
	assert_int_equal(server.request_count, 1);
	end();
}

/* A server that is frozen: what waits is refused when it counts as down, not each by its own deadline. */
static void test_silent_is_down(void **state)
{
	struct control_key_call k[50];
	uint64_t begun;

	make_hasty(answer_never, 600);
	for (int i = 0; i < 8; i++)
		key_ask(&k[i]);
	run_calls();
	begun = clock_ms();
	for (int i = 8; i < 12; i++)
		key_ask(&k[i]);
	run_for(200);
	for (int i = 12; i < 50; i++)
		key_ask(&k[i]);
	run_calls();
	assert_false(last_state);
	assert_true(clock_ms() - begun < 3000);
	assert_in_range(stats().rejected, 35, 38);
	end();
}

/* Wrong questions of one user are no outage for others. */
static void test_wrong_questions_do_not_bring_it_down(void **state)
{
	struct control_route_call r;

	status_to_say = 400;
	message_to_say = "bad request";
	begin(answer_as_told);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(route_of(&r), CONTROL_FAILED);
		run_for(15);
	}
	assert_int_equal(state_count, 0);
	assert_true(stats().is_up);
	end();
}

static void test_refused_token_brings_it_down(void **state)
{
	status_to_say = 401;
	message_to_say = "no known gateway signed it";
	begin(answer_as_told);
	fail_until_down();
	assert_non_null(strstr(last_why, "token"));
	end();
}

/* ---- Calls that are held back ---- */

static _Atomic bool is_held;

static bool hold(struct server_conn *c, const char *request)
{
	if (strstr(request, "wait=")) {
		while (atomic_load(&is_held))
			usleep(1000);
		if (strstr(request, "/changes"))
			return server_data(c, CHANGES_DATA);
		return server_data(c, ROUTE_DATA);
	}
	return strstr(request, "/ssh-target") ? server_error(c, 503, "sandbox is waking up") : answer_well(c, request);
}

static void test_held_calls_hold_up_nobody(void **state)
{
	struct control_route_call *r = calloc(CONTROL_HELD_MAX + 20, sizeof(*r));
	struct control_changes_call ch;
	struct control_options o;
	struct control_key_call k;
	int left;

	assert_non_null(r);
	server_start(&server, 0, hold);
	o = options();
	o.connection_count = 1;
	o.timeout_ms = 3000;
	client_make(&o);
	atomic_store(&is_held, true);
	for (int i = 0; i < CONTROL_HELD_MAX; i++)
		route_ask(&r[i], 20);
	changes_ask(&ch, 7, 20);
	wait_for_requests(CONTROL_HELD_MAX + 1);
	left = calls_left;
	/* Those for whom there is no connection to wait on are answered as it is now. */
	for (int i = CONTROL_HELD_MAX; i < CONTROL_HELD_MAX + 20; i++)
		route_ask(&r[i], 20);
	key_ask(&k);
	while (calls_left > left)
		run_for(2);
	for (int i = CONTROL_HELD_MAX; i < CONTROL_HELD_MAX + 20; i++)
		assert_int_equal(r[i].call.result, CONTROL_WAKING);
	assert_int_equal(k.call.result, CONTROL_OK);
	/* Longer than a call may take otherwise. */
	run_for(3200);
	assert_int_equal(calls_left, left);
	atomic_store(&is_held, false);
	run_calls();
	for (int i = 0; i < CONTROL_HELD_MAX; i++)
		assert_int_equal(r[i].call.result, CONTROL_OK);
	assert_int_equal(ch.call.result, CONTROL_OK);
	assert_string_equal(changes_seen, "20rs-1 21rs-2 ");
	end();
	free(r);
}

static bool hold_for_ever(struct server_conn *c, const char *request)
{
	return strstr(request, "wait=1") ? server_wait_end(c) : answer_well(c, request);
}

static void test_held_call_has_a_deadline(void **state)
{
	struct control_route_call r;
	uint64_t begun = clock_ms();

	make_hasty(hold_for_ever, 300);
	route_ask(&r, 1);
	run_calls();
	assert_int_equal(r.call.result, CONTROL_FAILED);
	assert_string_equal(r.call.reason, "no answer within 1300 ms");
	assert_in_range(clock_ms() - begun, 1295, 6000);
	end();
}

/* A probe is not held back: how else would it be known soon that all is well again? */
static void test_probe_is_not_held(void **state)
{
	uint16_t port = free_port();
	struct control_options o = options();
	struct control_changes_call ch;
	uint64_t begun = clock_ms();

	client_make(&o);
	fail_until_down();
	atomic_store(&is_held, true);
	server_start(&server, port, hold);
	do {
		assert_true(clock_ms() - begun < 10000);
		run_for(20);
		changes_ask(&ch, 7, 20);
		run_calls();
	} while (ch.call.result != CONTROL_OK);
	assert_true(last_state);
	atomic_store(&is_held, false);
	end();
}

/* ---- Names ---- */

static _Atomic uint32_t slow_lookups;

/* In place of the C library's, for libcurl too. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **ret)
{
	static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	if (strcmp(node, "slow.test") == 0) {
		atomic_fetch_add(&slow_lookups, 1);
		usleep(1500 * 1000);
		return EAI_AGAIN;
	}
	return real(strcmp(node, "good.test") == 0 ? "127.0.0.1" : node, service, hints, ret);
}

static void make_named(const char *name, uint32_t timeout_ms)
{
	struct control_options o;
	char url[64];

	server_start(&server, 0, answer_well);
	snprintf(url, sizeof(url), "http://%s:%u", name, server.port);
	o = options();
	o.url = url;
	o.timeout_ms = timeout_ms;
	client_make(&o);
}

static void test_name_is_resolved(void **state)
{
	struct control_key_call k;

	make_named("good.test", 5000);
	for (int i = 0; i < 3; i++)
		if (key_of(&k) != CONTROL_OK)
			fail_msg("%s", k.call.reason);
	assert_int_equal(server.conn_count, 1);
	end();
}

/* The ring goes on while a name is looked up, and nothing waits for the resolver: not the deadline, a cancel, or the end. */
static void test_slow_resolver_blocks_nobody(void **state)
{
	struct control_key_call k[3];
	uint64_t begun = clock_ms(), beat;

	make_named("slow.test", 200);
	key_ask(&k[0]);
	while (calls_left > 0) {
		beat = clock_ms();
		run_for(5);
		assert_true(clock_ms() - beat < 1000);
	}
	assert_int_equal(k[0].call.result, CONTROL_FAILED);
	assert_true(clock_ms() - begun < 1300);
	key_ask(&k[1]);
	run_for(50);
	assert_int_equal(slow_lookups, 2);
	beat = clock_ms();
	control_cancel(client, &k[1].call);
	key_ask(&k[2]);
	run_for(50);
	client_end();
	assert_true(clock_ms() - beat < 1200);
	calls_left = 0;
	server_stop(&server);
	/* The resolver's threads come to their end. */
	usleep(1700 * 1000);
}

static void test_unknown_name(void **state)
{
	struct control_key_call k;

	make_named("nobody.invalid", 3000);
	assert_int_equal(key_of(&k), CONTROL_FAILED);
	assert_non_null(strstr(k.call.reason, "nobody.invalid"));
	end();
}

/* ---- Options ---- */

static void expect_refused(const struct control_options *o, const char *part)
{
	char error[256] = "";

	if (control_client_new(ring, o, &client, error) == 0)
		fail_msg("taken: %s", o->url);
	if (!strstr(error, part))
		fail_msg("%s: %s", o->url, error);
	client = NULL;
}

static void test_wrong_options(void **state)
{
	static const char *const urls[] = {
		"",
		"127.0.0.1:80",
		"ftp://127.0.0.1/",
		"file:///etc/passwd",
		"unix:///x",
		"http://",
		"http://user@127.0.0.1",
		"http://user:pass@127.0.0.1",
		"http://127.0.0.1/?a=b",
		"http://127.0.0.1/#a",
		"http://127.0.0.1:99999",
		"http://127.0.0.1/a b",
		"http://127.0.0.1/\r\nX: y",
	};
	char path[] = "/tmp/test_control.XXXXXX", url[CONTROL_URL_MAX + 1] = "http://127.0.0.1/";
	struct control_options o = options();
	int fd;

	for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
		o.url = urls[i];
		expect_refused(&o, "URL");
	}
	memset(url + strlen(url), 'a', CONTROL_URL_MAX - strlen(url));
	o.url = url;
	expect_refused(&o, "longer");
	o = options();
	o.ca_file = "/nonexistent/ca.pem";
	expect_refused(&o, "/nonexistent/ca.pem: No such file");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "rubbish\n", 8), 8);
	close(fd);
	o.ca_file = path;
	expect_refused(&o, "no PEM certificate");
	unlink(path);
	o = options();
	o.name = "";
	expect_refused(&o, "name");
	o = options();
	o.connection_count = 0;
	expect_refused(&o, "connections");
}

/* A path in the URL stands before ours. */
static bool answer_under_path(struct server_conn *c, const char *request)
{
	if (strncmp(request, "GET /a/b/internal/v1/ssh-keys/", 30) != 0)
		return server_error(c, 400, "the path");
	return server_data(c, KEY_DATA);
}

static void test_path_in_url(void **state)
{
	struct control_options o;
	struct control_key_call k;
	char url[128];

	server_start(&server, 0, answer_under_path);
	snprintf(url, sizeof(url), "%s/a/b//", server.url);
	o = options();
	o.url = url;
	client_make(&o);
	/* Copied. */
	memset(url, 'x', sizeof(url) - 1);
	if (key_of(&k) != CONTROL_OK)
		fail_msg("%s", k.call.reason);
	end();
}

/* Neither a proxy nor a password of the environment is used. */
static void test_environment_is_not_used(void **state)
{
	char home[] = "/tmp/test_control.XXXXXX", path[64];
	struct control_key_call k;
	FILE *f;

	assert_non_null(mkdtemp(home));
	snprintf(path, sizeof(path), "%s/.netrc", home);
	f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "default login me password secret\n");
	fclose(f);
	setenv("HOME", home, 1);
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("all_proxy", "http://127.0.0.1:1", 1);
	begin(answer_well);
	assert_int_equal(key_of(&k), CONTROL_OK);
	end();
	unsetenv("http_proxy");
	unsetenv("all_proxy");
	unlink(path);
	rmdir(home);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_down_and_up_again),
		T(test_silent_is_down),
		T(test_wrong_questions_do_not_bring_it_down),
		T(test_refused_token_brings_it_down),
		T(test_held_calls_hold_up_nobody),
		T(test_held_call_has_a_deadline),
		T(test_probe_is_not_held),
		T(test_name_is_resolved),
		T(test_slow_resolver_blocks_nobody),
		T(test_unknown_name),
		T(test_wrong_options),
		T(test_path_in_url),
		T(test_environment_is_not_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
