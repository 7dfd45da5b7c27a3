/*
 * tests/unit/upstream/control/test_control_answers.c - the control plane's client: what answers mean, and those that mean harm.
 */
#include "fixture.h"

#include <stdlib.h>
#include <unistd.h>

/* ---- What an answer means ---- */

struct meaning {
	int status;
	const char *message;
	enum control_result key, route, changes;
	uint32_t tries;
};

static const struct meaning meanings[] = {
	{404, "no such", CONTROL_NOT_FOUND, CONTROL_NOT_FOUND, CONTROL_NOT_FOUND, 1},
	/* Somebody else's 404 says nothing about a key; but one without a feed says just this. */
	{404, NULL, CONTROL_FAILED, CONTROL_FAILED, CONTROL_NOT_FOUND, 1},
	{403, "may not", CONTROL_FAILED, CONTROL_FORBIDDEN, CONTROL_FAILED, 1},
	{403, NULL, CONTROL_FAILED, CONTROL_FAILED, CONTROL_FAILED, 1},
	{410, "gone", CONTROL_FAILED, CONTROL_FAILED, CONTROL_TOO_OLD, 1},
	{503, "sandbox is waking up", CONTROL_FAILED, CONTROL_WAKING, CONTROL_FAILED, 1},
	{503, "sandbox is stopped", CONTROL_FAILED, CONTROL_UNAVAILABLE, CONTROL_FAILED, 1},
	{503, NULL, CONTROL_FAILED, CONTROL_FAILED, CONTROL_FAILED, CONTROL_TRIES_MAX},
	{500, "oops", CONTROL_FAILED, CONTROL_FAILED, CONTROL_FAILED, CONTROL_TRIES_MAX},
	{502, NULL, CONTROL_FAILED, CONTROL_FAILED, CONTROL_FAILED, CONTROL_TRIES_MAX},
	{401, "who are you", CONTROL_FAILED, CONTROL_FAILED, CONTROL_FAILED, 1},
	{400, "bad", CONTROL_FAILED, CONTROL_FAILED, CONTROL_FAILED, 1},
	{201, "created", CONTROL_FAILED, CONTROL_FAILED, CONTROL_FAILED, 1},
	{200, "a status of success", CONTROL_FAILED, CONTROL_FAILED, CONTROL_FAILED, 1},
	{200, NULL, CONTROL_FAILED, CONTROL_FAILED, CONTROL_FAILED, 1},
};

static void check_call(const struct control_call *c, const struct meaning *m, enum control_result result,
		       uint32_t before)
{
	if (c->result != result || c->status != (uint32_t)m->status)
		fail_msg("status %d, message %s: result %d, status %u, reason %s", m->status,
			 m->message ? m->message : "none", c->result, c->status, c->reason);
	assert_true(c->reason[0]);
	assert_int_equal(server.request_count - before, m->tries);
	if (c->result != CONTROL_FAILED && m->message)
		assert_string_equal(c->reason, m->message);
}

static void test_what_a_status_means(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(meanings); i++) {
		const struct meaning *m = &meanings[i];
		struct control_changes_call ch;
		struct control_route_call r;
		struct control_key_call k;

		status_to_say = m->status;
		message_to_say = m->message;
		/* A client for each: its breaker has seen nothing. */
		is_freed = false;
		last_state = true;
		begin(answer_as_told);
		key_of(&k);
		check_call(&k.call, m, m->key, 0);
		end();
		is_freed = false;
		last_state = true;
		begin(answer_as_told);
		route_of(&r);
		check_call(&r.call, m, m->route, 0);
		end();
		is_freed = false;
		last_state = true;
		begin(answer_as_told);
		changes_of(&ch, 7);
		check_call(&ch.call, m, m->changes, 0);
		end();
	}
}

static bool answer_without_grants(struct server_conn *c, const char *request)
{
	return server_data(c, "{\"fingerprint_sha256\": \"" FINGERPRINT "\", \"grants\": []}");
}

static void test_key_without_grants_is_unknown(void **state)
{
	struct control_key_call k;

	begin(answer_without_grants);
	assert_int_equal(key_of(&k), CONTROL_NOT_FOUND);
	assert_int_equal(k.grant_count, 0);
	end();
}

static bool answer_500_twice(struct server_conn *c, const char *request)
{
	return server.request_count <= 2 ? server_answer(c, 500, "x") : answer_well(c, request);
}

static void test_tried_again_until_well(void **state)
{
	struct control_key_call k;

	begin(answer_500_twice);
	assert_int_equal(key_of(&k), CONTROL_OK);
	assert_int_equal(server.request_count, 3);
	assert_int_equal(stats().retries, 2);
	assert_int_equal(stats().failures, 0);
	assert_string_equal(k.call.reason, "");
	end();
}

/* ---- Hostile answers ---- */

static bool answer_in_pieces(struct server_conn *c, const char *request)
{
	static const char body[] = "{\"success\": true, \"data\": " KEY_DATA "}";
	char all[512];

	snprintf(all, sizeof(all), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
	for (const char *p = all; *p; p++) {
		if (!server_send_bytes(c, p, 1))
			return false;
		usleep(200);
	}
	return true;
}

static bool answer_in_chunks(struct server_conn *c, const char *request)
{
	char all[1024];

	snprintf(all, sizeof(all),
		 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		 "1A\r\n{\"success\": true, \"data\": \r\n%zX;x=y\r\n%s\r\n1\r\n}\r\n0\r\nX-Trailer: 1\r\n\r\n",
		 strlen(KEY_DATA), KEY_DATA);
	return server_send(c, all);
}

static bool answer_until_close(struct server_conn *c, const char *request)
{
	(void)server_send(c, "HTTP/1.0 200 OK\r\n\r\n{\"success\": true, \"data\": " KEY_DATA "}");
	return false;
}

static bool answer_after_continue(struct server_conn *c, const char *request)
{
	return server_send(c, "HTTP/1.1 100 Continue\r\n\r\n") &&
	       server_send(c, "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n") && answer_well(c, request);
}

static void test_odd_but_good_answers(void **state)
{
	static server_handler *const handlers[] = {answer_in_pieces, answer_in_chunks, answer_until_close,
						   answer_after_continue};
	struct control_key_call k;

	for (size_t i = 0; i < ARRAY_LEN(handlers); i++) {
		is_freed = false;
		begin(handlers[i]);
		for (int n = 0; n < 3; n++)
			if (key_of(&k) != CONTROL_OK)
				fail_msg("handler %zu: %s", i, k.call.reason);
		assert_int_equal(server.conn_count, handlers[i] == answer_until_close ? 3 : 1);
		assert_int_equal(stats().retries, 0);
		end();
	}
}

static bool answer_half(struct server_conn *c, const char *request)
{
	(void)server_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"success\": true, \"data\": {");
	return false;
}

static bool answer_half_of_headers(struct server_conn *c, const char *request)
{
	(void)server_send(c, "HTTP/1.1 200 OK\r\nContent-Le");
	return false;
}

static bool answer_nothing(struct server_conn *c, const char *request)
{
	return false;
}

static bool answer_no_http(struct server_conn *c, const char *request)
{
	(void)server_send(c, "SSH-2.0-OpenSSH_9.2\r\n");
	return false;
}

static bool answer_redirect(struct server_conn *c, const char *request)
{
	char text[512];

	snprintf(text, sizeof(text), "HTTP/1.1 302 Found\r\nLocation: %s/elsewhere\r\nContent-Length: 0\r\n\r\n",
		 server.url);
	return server_send(c, text);
}

static bool answer_bad_chunks(struct server_conn *c, const char *request)
{
	(void)server_send(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n");
	return false;
}

static bool answer_wrong_json(struct server_conn *c, const char *request)
{
	return server_answer(c, 200, "{\"success\": true, \"data\": {\"fingerprint_sha256\": ");
}

static bool answer_deep_json(struct server_conn *c, const char *request)
{
	static char deep[200001];

	memset(deep, '[', sizeof(deep) - 1);
	return server_answer(c, 200, deep);
}

static bool answer_wrong_types(struct server_conn *c, const char *request)
{
	return server_data(c, "{\"fingerprint_sha256\": [\"" FINGERPRINT "\"], \"grants\": \"t=u\", \"version\": {}}");
}

static bool answer_other_key(struct server_conn *c, const char *request)
{
	return server_data(c, "{\"fingerprint_sha256\": \"" PRINT_ED25519_2 "\", \"grants\": "
			      "[{\"team_id\": \"t\", \"user_id\": \"u\"}]}");
}

static bool answer_gzip_bomb(struct server_conn *c, const char *request)
{
	(void)server_send(c, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x01");
	return false;
}

struct evil {
	const char *name;
	server_handler *handler;
	uint32_t tries; /* 0: libcurl's versions differ */
	uint32_t status;
};

static const struct evil evils[] = {
	{"half a body", answer_half, CONTROL_TRIES_MAX, 0},
	{"half of the headers", answer_half_of_headers, 0, 0},
	{"nothing", answer_nothing, CONTROL_TRIES_MAX, 0},
	{"no HTTP", answer_no_http, 1, 0},
	{"a redirect", answer_redirect, 1, 302},
	{"bad chunks", answer_bad_chunks, 0, 0},
	{"wrong JSON", answer_wrong_json, 1, 200},
	{"deep JSON", answer_deep_json, 1, 200},
	{"wrong types", answer_wrong_types, 1, 200},
	{"another key", answer_other_key, 1, 200},
	{"what was not asked to be packed", answer_gzip_bomb, 1, 200},
};

static void test_evil_answers(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(evils); i++) {
		const struct evil *e = &evils[i];
		struct control_key_call k;
		uint64_t begun = clock_ms();

		is_freed = false;
		begin(e->handler);
		if (key_of(&k) != CONTROL_FAILED || !k.call.reason[0] || clock_ms() - begun > 4500 ||
		    (e->tries > 0 && (server.request_count != e->tries || k.call.status != e->status)))
			fail_msg("%s: result %d, %u tries, status %u, %s", e->name, k.call.result, server.request_count,
				 k.call.status, k.call.reason);
		assert_int_equal(k.grant_count, 0);
		assert_int_equal(stats().failures, 1);
		atomic_store(&server.handler, answer_well);
		/* No harm to the next one. */
		if (key_of(&k) != CONTROL_OK)
			fail_msg("after %s: %s", e->name, k.call.reason);
		end();
	}
}

static _Atomic uint64_t poured;

static bool pour(struct server_conn *c, const char *head, size_t total, bool is_chunked)
{
	static const char block[16384] = {[0 ... 16383] = ' '};

	atomic_store(&poured, 0);
	if (!server_send(c, head))
		return false;
	for (size_t n = 0; n < total; n += sizeof(block)) {
		if ((is_chunked && !server_send(c, "4000\r\n")) || !server_send_bytes(c, block, sizeof(block)) ||
		    (is_chunked && !server_send(c, "\r\n")))
			return false;
		atomic_fetch_add(&poured, sizeof(block));
	}
	return server_wait_end(c);
}

#define TEN_MB (10 * 1024 * 1024)

static bool answer_10_mb(struct server_conn *c, const char *request)
{
	return pour(c, "HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n", TEN_MB, false);
}

static bool answer_10_mb_in_chunks(struct server_conn *c, const char *request)
{
	return pour(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", TEN_MB, true);
}

static bool answer_10_mb_of_nothing(struct server_conn *c, const char *request)
{
	return pour(c, "HTTP/1.1 200 OK\r\n\r\n", TEN_MB, false);
}

static bool answer_10_mb_of_headers(struct server_conn *c, const char *request)
{
	if (!server_send(c, "HTTP/1.1 200 OK\r\n"))
		return false;
	for (uint64_t n = 0; n < TEN_MB; n += 64, atomic_store(&poured, n))
		if (!server_send(c, "X-A: 89012345678901234567890123456789012345678901234567890123\r\n"))
			return false;
	return server_wait_end(c);
}

static bool answer_one_long_header(struct server_conn *c, const char *request)
{
	return pour(c, "HTTP/1.1 200 OK\r\nX-A: ", TEN_MB, false);
}

static bool answer_hints_for_ever(struct server_conn *c, const char *request)
{
	for (uint64_t n = 0; n < TEN_MB; n += 32, atomic_store(&poured, n))
		if (!server_send(c, "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"))
			return false;
	return server_wait_end(c);
}

static void test_large_answers_are_cut_off(void **state)
{
	static server_handler *const handlers[] = {
		answer_10_mb,           answer_10_mb_in_chunks, answer_10_mb_of_nothing, answer_10_mb_of_headers,
		answer_one_long_header, answer_hints_for_ever};
	struct control_key_call k;

	for (size_t i = 0; i < ARRAY_LEN(handlers); i++) {
		is_freed = false;
		begin(handlers[i]);
		if (key_of(&k) != CONTROL_FAILED || server.request_count != 1)
			fail_msg("handler %zu: result %d, %u tries", i, k.call.result, server.request_count);
		end();
		/* What sockets hold of it besides. */
		if (atomic_load(&poured) >= TEN_MB)
			fail_msg("handler %zu: all of it was taken: %s", i, k.call.reason);
	}
}

/* To the byte. */
static bool answer_of_most(struct server_conn *c, const char *request)
{
	static const char text[] = "{\"success\": true, \"data\": " KEY_DATA "}";
	size_t bytes = CONTROL_BODY_MAX + (server.request_count == 2);
	char *body = malloc(bytes + 1);
	bool is_sent;

	memset(body, ' ', bytes);
	body[bytes] = 0;
	memcpy(body, text, sizeof(text) - 1);
	is_sent = server_answer(c, 200, body);
	free(body);
	return is_sent;
}

static void test_largest_answer(void **state)
{
	struct control_key_call k;

	begin(answer_of_most);
	assert_int_equal(key_of(&k), CONTROL_OK);
	assert_int_equal(key_of(&k), CONTROL_FAILED);
	assert_string_equal(k.call.reason, "the answer is too large");
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_what_a_status_means),    T(test_key_without_grants_is_unknown),
		T(test_tried_again_until_well), T(test_odd_but_good_answers),
		T(test_evil_answers),           T(test_large_answers_are_cut_off),
		T(test_largest_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
