/*
 * tests/unit/upstream/control/test_control.c - the control plane's client on a ring: its calls, their time, and their end.
 */
#include "fixture.h"

#include <stdlib.h>
#include <unistd.h>

static void test_calls_over_one_connection(void **state)
{
	struct control_changes_call ch;
	struct control_route_call r;
	struct control_key_call k;

	begin(answer_well);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(key_of(&k), CONTROL_OK);
		assert_int_equal(k.call.status, 200);
		assert_string_equal(k.call.reason, "");
		assert_int_equal(k.grant_count, 1);
		assert_string_equal(k.grants[0].user, "u");
		assert_int_equal(k.version, 3);
		assert_int_equal(route_of(&r), CONTROL_OK);
		assert_string_equal(r.procd_url, "tcp://127.0.0.1:9");
		assert_string_equal(r.grant.team, "t");
		assert_int_equal(changes_of(&ch, 0), CONTROL_OK);
		assert_int_equal(ch.next, 7);
		assert_string_equal(changes_seen, "");
		assert_int_equal(changes_of(&ch, 7), CONTROL_OK);
		assert_int_equal(ch.next, 9);
		assert_string_equal(changes_seen, "20rs-1 21rs-2 ");
	}
	assert_int_equal(server.conn_count, 1);
	assert_int_equal(server.request_count, 200);
	assert_int_equal(stats().calls, 200);
	assert_int_equal(stats().retries + stats().failures + stats().rejected + stats().in_flight, 0);
	assert_true(stats().is_up);
	assert_int_equal(state_count, 0);
	end();
}

/* All are answered, and never are more connections used than allowed. */
static void test_many_at_once(void **state)
{
	struct control_key_call *k = calloc(300, sizeof(*k));

	assert_non_null(k);
	begin(answer_slowly);
	for (int i = 0; i < 300; i++)
		key_ask(&k[i]);
	assert_int_equal(stats().in_flight, 300);
	run_calls();
	for (int i = 0; i < 300; i++)
		assert_int_equal(k[i].call.result, CONTROL_OK);
	assert_int_equal(server.conn_count, 4);
	assert_int_equal(server.busy_most, 4);
	end();
	free(k);
}

static void ask_again(struct control_call *c)
{
	struct control_key_call *k = CONTAINER_OF(c, struct control_key_call, call);

	on_done(c);
	if (server.request_count < 20)
		key_ask(k);
	k->call.on_done = ask_again;
}

static void test_ask_again_in_on_done(void **state)
{
	struct control_key_call k;

	begin(answer_well);
	key_ask(&k);
	k.call.on_done = ask_again;
	run_calls();
	assert_int_equal(server.request_count, 20);
	assert_int_equal(server.conn_count, 1);
	end();
}

/* ---- Time ---- */

static bool answer_in_drops(struct server_conn *c, const char *request)
{
	if (!server_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"))
		return false;
	while (server_send(c, " "))
		usleep(20000);
	return false;
}

static void test_late_answers(void **state)
{
	static server_handler *const handlers[] = {answer_never, answer_in_drops};

	for (size_t i = 0; i < ARRAY_LEN(handlers); i++) {
		struct control_key_call k;
		uint64_t begun;

		is_freed = false;
		make_hasty(handlers[i], 300);
		begun = clock_ms();
		assert_int_equal(key_of(&k), CONTROL_FAILED);
		assert_in_range(clock_ms() - begun, 295, 4000);
		assert_string_equal(k.call.reason, "no answer within 300 ms");
		/* One that is silent is not asked again. */
		assert_int_equal(server.request_count, 1);
		assert_int_equal(stats().in_flight, 0);
		end();
	}
}

/* Those that find no connection free have their deadline, too. */
static void test_late_in_the_queue(void **state)
{
	struct control_key_call k[20];
	uint64_t begun;

	make_hasty(answer_never, 300);
	begun = clock_ms();
	for (int i = 0; i < 20; i++)
		key_ask(&k[i]);
	run_calls();
	assert_in_range(clock_ms() - begun, 295, 4000);
	for (int i = 0; i < 20; i++)
		assert_int_equal(k[i].call.result, CONTROL_FAILED);
	assert_int_equal(server.request_count, 4);
	end();
}

static void test_queue_has_an_end(void **state)
{
	size_t count = CONTROL_QUEUE_MAX + 10;
	struct control_key_call *k = calloc(count, sizeof(*k));

	assert_non_null(k);
	begin(answer_well);
	for (size_t i = 0; i < count; i++)
		key_ask(&k[i]);
	run_calls();
	for (size_t i = 0; i < count; i++)
		if (k[i].call.result != (i < CONTROL_QUEUE_MAX ? CONTROL_OK : CONTROL_FAILED))
			fail_msg("call %zu: %s", i, k[i].call.reason);
	assert_int_equal(stats().failures, 10);
	end();
	free(k);
}

/* ---- Connections that end ---- */

/* Not a word of it in the answer, as a server that was restarted. */
static bool answer_and_close(struct server_conn *c, const char *request)
{
	(void)answer_well(c, request);
	return false;
}

static void test_connection_closed_before_it_is_used_again(void **state)
{
	struct control_key_call k;

	begin(answer_and_close);
	for (uint32_t i = 1; i <= 5; i++) {
		if (key_of(&k) != CONTROL_OK)
			fail_msg("call %u: %s", i, k.call.reason);
		assert_int_equal(server.conn_count, i);
		while (!atomic_load(&server.conns[i - 1].is_ended))
			usleep(1000);
		run_for(i % 2 ? 0 : 10);
	}
	assert_int_equal(stats().failures, 0);
	end();
}

/* Closed at the very moment of the second request: tried on another connection without anybody noticing. */
static bool answer_only_first(struct server_conn *c, const char *request)
{
	return c->request == 1 && answer_well(c, request);
}

static void test_connection_closed_while_it_is_used_again(void **state)
{
	struct control_key_call k;

	begin(answer_only_first);
	for (int i = 0; i < 10; i++)
		if (key_of(&k) != CONTROL_OK)
			fail_msg("call %d: %s", i, k.call.reason);
	end();
}

/* ---- Cancelling ---- */

static void test_cancel(void **state)
{
	struct control_key_call k, zero = {0};

	begin(answer_never);
	key_ask(&k);
	k.call.on_done = on_done_never;
	wait_for_requests(1);
	control_cancel(client, &k.call);
	control_cancel(client, &k.call);
	control_cancel(client, &zero.call);
	assert_int_equal(stats().in_flight, 0);
	/* Its memory is the asker's again. */
	memset(&k, 0xee, sizeof(k));
	/* The server is told at once. */
	wait_for_end_of(0);
	/* One that was not even looked at. */
	key_ask(&k);
	k.call.on_done = on_done_never;
	control_cancel(client, &k.call);
	memset(&k, 0xee, sizeof(k));
	run_for(20);
	assert_int_equal(server.request_count, 1);
	calls_left = 0;
	atomic_store(&server.handler, answer_well);
	assert_int_equal(key_of(&k), CONTROL_OK);
	end();
}

static bool answer_nothing(struct server_conn *c, const char *request)
{
	return false;
}

/* In each state that a call passes through, in the next batch each time. */
static void test_cancel_at_any_time(void **state)
{
	uint32_t cancelled = 0;
	struct control_key_call k;

	begin(answer_slowly);
	for (uint32_t i = 0; i < 300; i++) {
		key_ask(&k);
		atomic_store(&server.handler, i % 2 ? answer_slowly : answer_nothing);
		for (uint32_t n = 0; n < i % 30 / 3 && calls_left > 0; n++)
			run_for(i % 7 == 0 ? 1 : 0);
		if (calls_left > 0) {
			k.call.on_done = on_done_never;
			cancelled++;
		}
		control_cancel(client, &k.call);
		calls_left = 0;
		memset(&k, 0xee, sizeof(k));
	}
	assert_true(cancelled > 50);
	end();
}

static struct control_key_call twins[2];

static void cancel_other(struct control_call *c)
{
	int mine = c == &twins[1].call;

	on_done(c);
	control_cancel(client, &twins[!mine].call);
	control_cancel(client, c);
	twins[!mine].call.on_done = on_done_never;
	calls_left = 0;
	ring_stop(ring);
}

static void test_cancel_from_on_done(void **state)
{
	begin(answer_slowly);
	for (int i = 0; i < 20; i++) {
		for (int n = 0; n < 2; n++) {
			key_ask(&twins[n]);
			twins[n].call.on_done = cancel_other;
		}
		run_calls();
	}
	assert_int_equal(stats().in_flight, 0);
	end();
}

/* ---- Freeing ---- */

static void test_free_with_calls_in_flight(void **state)
{
	struct control_key_call k[30];
	struct control_route_call r[10];
	struct control_changes_call ch;

	begin(answer_never);
	for (int i = 0; i < 30; i++) {
		key_ask(&k[i]);
		k[i].call.on_done = on_done_never;
	}
	for (int i = 0; i < 10; i++) {
		route_ask(&r[i], 10);
		r[i].call.on_done = on_done_never;
	}
	changes_ask(&ch, 7, 10);
	ch.call.on_done = on_done_never;
	wait_for_requests(4 + 10 + 1);
	control_client_free(client);
	client = NULL;
	memset(k, 0xee, sizeof(k));
	memset(r, 0xee, sizeof(r));
	memset(&ch, 0xee, sizeof(ch));
	while (!is_freed)
		run();
	calls_left = 0;
	for (uint32_t i = 0; i < server.conn_count; i++)
		wait_for_end_of(i);
	end();
}

static void free_it(struct control_call *c)
{
	on_done(c);
	control_client_free(client);
	client = NULL;
	ring_stop(ring);
}

static void test_free_in_on_done(void **state)
{
	struct control_key_call k[8];

	begin(answer_slowly);
	for (int i = 0; i < 8; i++) {
		key_ask(&k[i]);
		k[i].call.on_done = i ? on_done_never : free_it;
	}
	/* Others may be answered in the same batch: they are not told. */
	k[0].call.on_done = k[1].call.on_done = k[2].call.on_done = k[3].call.on_done = free_it;
	while (client)
		run();
	while (!is_freed)
		run();
	calls_left = 0;
	end();
}

/* Of a call that is refused, in the client's own round. */
static void test_free_in_on_done_of_refused(void **state)
{
	size_t count = CONTROL_QUEUE_MAX + 3;
	struct control_key_call *k = calloc(count, sizeof(*k));

	assert_non_null(k);
	begin(answer_never);
	for (size_t i = 0; i < count; i++) {
		key_ask(&k[i]);
		k[i].call.on_done = i == CONTROL_QUEUE_MAX ? free_it : on_done_never;
	}
	while (client)
		run();
	while (!is_freed)
		run();
	calls_left = 0;
	end();
	free(k);
}

static void test_free_unused(void **state)
{
	struct control_options o;

	server_start(&server, 0, answer_well);
	o = options();
	client_make(&o);
	control_client_free(client);
	client = NULL;
	/* At once: no ring has to run for it. */
	assert_true(is_freed);
	control_client_free(NULL);
	server_stop(&server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_calls_over_one_connection),
		T(test_many_at_once),
		T(test_ask_again_in_on_done),
		T(test_late_answers),
		T(test_late_in_the_queue),
		T(test_queue_has_an_end),
		T(test_connection_closed_before_it_is_used_again),
		T(test_connection_closed_while_it_is_used_again),
		T(test_cancel),
		T(test_cancel_at_any_time),
		T(test_cancel_from_on_done),
		T(test_free_with_calls_in_flight),
		T(test_free_in_on_done),
		T(test_free_in_on_done_of_refused),
		T(test_free_unused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
