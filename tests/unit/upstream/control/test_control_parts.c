/*
 * tests/unit/upstream/control/test_control_parts.c - the pure parts of the control plane's client: answers, tokens, the breaker, requests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/core/keys.h"
#include "upstream/control/answer.h"
#include "upstream/control/breaker.h"
#include "upstream/control/call.h"
#include "upstream/control/token.h"

#include <errno.h>
#include <jansson.h>
#include <sodium.h>
#include <stdlib.h>

#define FINGERPRINT PRINT_ED25519_1
#define PUBLIC_KEY KEY_ED25519_1
#define OTHER_KEY KEY_ED25519_2
#define OTHER_FINGERPRINT PRINT_ED25519_2

#define DATA(text) "{\"success\": true, \"data\": {" text "}}"

static char reason[CONTROL_REASON_MAX];

static int setup(void **state)
{
	answer_init();
	return sodium_init() < 0 ? -1 : 0;
}

static bool is_printable(const char *text, size_t size)
{
	size_t n = strnlen(text, size);

	for (size_t i = 0; i < n; i++)
		if (text[i] < ' ' || text[i] > '~')
			return false;
	return n < size;
}

/* From memory of its own, so that reading past its end shows. */
static struct bytes own(const char *text)
{
	size_t n = strlen(text);
	uint8_t *p = malloc(n ? n : 1);

	assert_non_null(p);
	memcpy(p, text, n);
	return bytes_of(p, n);
}

/* ---- Keys ---- */

static int key_of(const char *text, struct control_key_call *ret)
{
	struct bytes body = own(text);
	int err;

	memset(ret, 0, sizeof(*ret));
	strcpy(ret->fingerprint, FINGERPRINT);
	memset(reason, 'x', sizeof(reason));
	err = answer_key(body, ret, reason);
	if (err) {
		assert_true(is_printable(reason, sizeof(reason)));
		assert_int_equal(ret->grant_count, 0);
	}
	free((void *)body.p);
	return err;
}

#define FP "\"fingerprint_sha256\": \"" FINGERPRINT "\""
#define GRANTS "\"grants\": [{\"team_id\": \"t-1\", \"user_id\": \"u_1\"}, {\"team_id\": \"T2\", \"user_id\": \"u_1\"}]"

static void test_key(void **state)
{
	struct control_key_call k;

	assert_int_equal(key_of(DATA(FP ", \"public_key\": \"" PUBLIC_KEY "\", " GRANTS ", \"version\": 7"), &k), 0);
	assert_int_equal(k.grant_count, 2);
	assert_string_equal(k.grants[0].team, "t-1");
	assert_string_equal(k.grants[1].team, "T2");
	assert_string_equal(k.grants[1].user, "u_1");
	assert_true(k.has_version);
	assert_int_equal(k.version, 7);
	/* Without what is only ours, and with what is not known. */
	assert_int_equal(key_of(DATA(FP ", " GRANTS ", \"more\": [1, {\"a\": null}]"), &k), 0);
	assert_false(k.has_version);
	assert_int_equal(key_of(DATA(FP ", " GRANTS ", \"version\": null"), &k), 0);
	assert_false(k.has_version);
	assert_int_equal(key_of(DATA(FP ", \"grants\": []"), &k), 0);
	assert_int_equal(k.grant_count, 0);
}

#define MANY_GRANT "{\"team_id\": \"t\", \"user_id\": \"u\"}"

static void test_key_wrong(void **state)
{
	static const char *const answers[] = {
		"",
		"x",
		"{}",
		"[]",
		"null",
		"\xff\xfe",
		"{\"success\": true}",
		"{\"success\": true, \"data\": []}",
		"{\"success\": true, \"data\": null}",
		"{\"success\": false, \"data\": {" FP ", " GRANTS "}}",
		"{\"success\": \"true\", \"data\": {" FP ", " GRANTS "}}",
		"{\"success\": 1, \"data\": {" FP ", " GRANTS "}}",
		"{\"data\": {" FP ", " GRANTS "}}",
		DATA(FP ", " GRANTS) "x",
		DATA(FP ", " GRANTS) DATA(FP ", " GRANTS),
		DATA(GRANTS),
		DATA(FP),
		DATA(FP ", " FP ", " GRANTS),
		DATA(FP ", " GRANTS ", " GRANTS),
		DATA("\"fingerprint_sha256\": \"" OTHER_FINGERPRINT "\", " GRANTS),
		DATA("\"fingerprint_sha256\": \"" FINGERPRINT "\\u0000\", " GRANTS),
		DATA("\"fingerprint_sha256\": 1, " GRANTS),
		DATA(FP ", \"public_key\": \"" OTHER_KEY "\", " GRANTS),
		DATA(FP ", \"public_key\": \"rubbish\", " GRANTS),
		DATA(FP ", \"public_key\": 5, " GRANTS),
		DATA(FP ", \"grants\": {}"),
		DATA(FP ", \"grants\": null"),
		DATA(FP ", \"grants\": [1]"),
		DATA(FP ", \"grants\": [{}]"),
		DATA(FP ", \"grants\": [null]"),
		DATA(FP ", \"grants\": [{\"team_id\": \"t\"}]"),
		DATA(FP ", \"grants\": [{\"team_id\": \"t\", \"user_id\": \"\"}]"),
		DATA(FP ", \"grants\": [{\"team_id\": \"t=u\", \"user_id\": \"u\"}]"),
		DATA(FP ", \"grants\": [{\"team_id\": \"t\", \"user_id\": \"u,v=w\"}]"),
		DATA(FP ", \"grants\": [{\"team_id\": \"t\\r\\nX: y\", \"user_id\": \"u\"}]"),
		DATA(FP ", \"grants\": [{\"team_id\": \"t\", \"user_id\": 5}]"),
		DATA(FP ", \"grants\": [{\"team_id\": "
			"\"12345678901234567890123456789012345678901234567890123456789012345\", \"user_id\": \"u\"}]"),
		DATA(FP ", " GRANTS ", \"version\": -1"),
		DATA(FP ", " GRANTS ", \"version\": \"7\""),
		DATA(FP ", " GRANTS ", \"version\": 1.5"),
		DATA(FP ", " GRANTS ", \"version\": true"),
		DATA(FP ", " GRANTS ", \"version\": 99999999999999999999"),
	};
	struct control_key_call k;

	for (size_t i = 0; i < ARRAY_LEN(answers); i++)
		if (key_of(answers[i], &k) != -EPROTO)
			fail_msg("taken: %s", answers[i]);
}

/* GRANTS_MAX are taken, one more is not. */
static void test_key_most_grants(void **state)
{
	char text[8192];
	struct control_key_call k;

	for (int most = GRANTS_MAX; most <= GRANTS_MAX + 1; most++) {
		int n = sprintf(text, "{\"success\": true, \"data\": {" FP ", \"grants\": [");

		for (int i = 0; i < most; i++)
			n += sprintf(text + n, "%s" MANY_GRANT, i ? "," : "");
		strcpy(text + n, "]}}");
		assert_int_equal(key_of(text, &k), most > GRANTS_MAX ? -EPROTO : 0);
	}
	assert_int_equal(k.grant_count, 0);
}

/* 200,000 levels would take jansson's stack, 100,000 values its time. */
static void test_deep_and_many(void **state)
{
	size_t most = 200000;
	char *text = malloc(2 * most + 64);
	struct control_key_call k;

	assert_non_null(text);
	for (int close = 0; close <= 1; close++) {
		size_t n = 0;

		for (size_t i = 0; i < most; i++)
			text[n++] = '[';
		for (size_t i = 0; close && i < most; i++)
			text[n++] = ']';
		text[n] = 0;
		assert_int_equal(key_of(text, &k), -EPROTO);
		assert_non_null(strstr(reason, "too deep"));
	}
	strcpy(text, "[0");
	for (size_t i = 0; i < CONTROL_JSON_VALUES_MAX; i++)
		memcpy(text + 2 + 2 * i, ",0", 3);
	strcat(text, "]");
	assert_int_equal(key_of(text, &k), -EPROTO);
	assert_non_null(strstr(reason, "too many values"));
	/* Within a string they count for nothing. */
	strcpy(text, "{\"success\": true, \"data\": {" FP ", " GRANTS ", \"x\": \"\\\"");
	memset(text + strlen(text) + 1, 0, 1);
	for (size_t i = 0, n = strlen(text); i < 30; i++) {
		text[n + i] = '[';
		text[n + i + 1] = 0;
	}
	strcat(text, "\"}}");
	assert_int_equal(key_of(text, &k), 0);
	free(text);
}

/* ---- Routes ---- */

static const struct grant grants[] = {{"t-1", "u_1"}, {"T2", "u_1"}};

static int route_of(const char *text, struct control_route_call *ret)
{
	struct bytes body = own(text);
	int err;

	memset(ret, 0, sizeof(*ret));
	strcpy(ret->sandbox, "rs-1");
	strcpy(ret->fingerprint, FINGERPRINT);
	ret->grants = grants;
	ret->grant_count = ARRAY_LEN(grants);
	memset(reason, 'x', sizeof(reason));
	err = answer_route(body, ret, reason);
	if (err) {
		assert_true(is_printable(reason, sizeof(reason)));
		assert_string_equal(ret->procd_url, "");
		assert_string_equal(ret->grant.user, "");
	}
	free((void *)body.p);
	return err;
}

#define WHO "\"sandbox_id\": \"rs-1\", \"team_id\": \"T2\", \"user_id\": \"u_1\""
#define AT "\"procd_url\": \"tcp://10.0.0.1:9\""

static void test_route(void **state)
{
	struct control_route_call r;

	assert_int_equal(
		route_of(DATA(WHO ", " AT ", \"procd_key\": \"ed25519:AAA=\", \"state\": \"running\", \"version\": 9"),
			 &r),
		0);
	assert_string_equal(r.grant.team, "T2");
	assert_string_equal(r.grant.user, "u_1");
	assert_string_equal(r.procd_url, "tcp://10.0.0.1:9");
	assert_string_equal(r.procd_key, "ed25519:AAA=");
	assert_string_equal(r.state, "running");
	assert_true(r.has_version);
	assert_int_equal(r.version, 9);
	assert_int_equal(route_of(DATA(WHO ", " AT), &r), 0);
	assert_string_equal(r.procd_key, "");
	assert_string_equal(r.state, "");
	assert_false(r.has_version);
	assert_int_equal(route_of(DATA(WHO ", " AT ", \"procd_key\": null, \"state\": null"), &r), 0);
	/* One that rests has no address. */
	assert_int_equal(route_of(DATA(WHO ", \"procd_url\": \"\", \"procd_key\": \"\", \"state\": \"paused\""), &r),
			 0);
	assert_string_equal(r.procd_url, "");
}

static void test_route_wrong(void **state)
{
	static const char *const answers[] = {
		DATA(AT),
		DATA(WHO),
		DATA(WHO ", \"procd_url\": \"\", \"state\": \"running\""),
		DATA("\"sandbox_id\": \"rs-2\", \"team_id\": \"T2\", \"user_id\": \"u_1\", " AT),
		DATA("\"sandbox_id\": 1, \"team_id\": \"T2\", \"user_id\": \"u_1\", " AT),
		DATA("\"team_id\": \"T2\", \"user_id\": \"u_1\", " AT),
		/* A grant that was not sent, and one put together from two that were. */
		DATA("\"sandbox_id\": \"rs-1\", \"team_id\": \"T3\", \"user_id\": \"u_1\", " AT),
		DATA("\"sandbox_id\": \"rs-1\", \"team_id\": \"T2\", \"user_id\": \"u_2\", " AT),
		DATA("\"sandbox_id\": \"rs-1\", \"user_id\": \"u_1\", " AT),
		DATA("\"sandbox_id\": \"rs-1\", \"team_id\": null, \"user_id\": \"u_1\", " AT),
		DATA(WHO ", \"procd_url\": 5"),
		DATA(WHO ", \"procd_url\": \"a b\""),
		DATA(WHO ", \"procd_url\": \"a\\nb\""),
		DATA(WHO ", \"procd_url\": \"t\xc3\xa4st:1\""),
		DATA(WHO ", " AT ", \"procd_key\": 5"),
		DATA(WHO ", " AT ", \"procd_key\": [\"x\"]"),
		DATA(WHO ", " AT
			 ", \"procd_key\": \"ed25519:00000000000000000000000000000000000000000000000000000000\""),
		DATA(WHO ", " AT ", \"state\": \"0123456789abcdef\""),
		DATA(WHO ", " AT ", \"state\": false"),
		DATA(WHO ", " AT ", \"version\": -5"),
	};
	char text[1024], url[CONTROL_URL_MAX + 1];
	struct control_route_call r;

	for (size_t i = 0; i < ARRAY_LEN(answers); i++)
		if (route_of(answers[i], &r) != -EPROTO)
			fail_msg("taken: %s", answers[i]);
	memset(url, 'u', sizeof(url));
	for (int n = CONTROL_URL_MAX - 1; n <= CONTROL_URL_MAX; n++) {
		snprintf(text, sizeof(text), DATA(WHO ", \"procd_url\": \"%.*s\""), n, url);
		assert_int_equal(route_of(text, &r), n < CONTROL_URL_MAX ? 0 : -EPROTO);
	}
}

/* ---- Changes ---- */

static struct control_change *list;
static uint32_t count;
static uint64_t next;

static int changes_of(const char *text, uint64_t since)
{
	struct bytes body = own(text);
	int err;

	list = NULL;
	count = 99;
	next = 99;
	memset(reason, 'x', sizeof(reason));
	err = answer_changes(body, since, &next, &list, &count, reason);
	if (err) {
		assert_true(is_printable(reason, sizeof(reason)));
		assert_null(list);
		assert_int_equal(count, 99);
	}
	free((void *)body.p);
	return err;
}

static void test_changes(void **state)
{
	assert_int_equal(
		changes_of(DATA("\"next\": 12, \"revoked\": [{\"key\": \"" FINGERPRINT "\"}, {\"user\": \"u\", "
				"\"team\": \"t\"}, {\"sandbox\": \"rs-1\"}], \"moved\": [{\"sandbox\": \"rs-2\"}]"),
			   7),
		0);
	assert_int_equal(next, 12);
	assert_int_equal(count, 4);
	assert_int_equal(list[0].kind, CONTROL_SUBJECT_KEY);
	assert_string_equal(list[0].fingerprint, FINGERPRINT);
	assert_int_equal(list[1].kind, CONTROL_SUBJECT_MEMBER);
	assert_string_equal(list[1].member.team, "t");
	assert_string_equal(list[1].member.user, "u");
	assert_int_equal(list[2].kind, CONTROL_SUBJECT_SANDBOX);
	assert_string_equal(list[2].sandbox, "rs-1");
	assert_false(list[2].is_moved);
	assert_int_equal(list[3].kind, CONTROL_SUBJECT_SANDBOX);
	assert_string_equal(list[3].sandbox, "rs-2");
	assert_true(list[3].is_moved);
	free(list);
	assert_int_equal(changes_of(DATA("\"next\": 7, \"revoked\": [], \"moved\": []"), 7), 0);
	assert_int_equal(count, 0);
	assert_null(list);
}

static void test_changes_wrong(void **state)
{
	static const char *const answers[] = {
		DATA("\"next\": 12"),
		DATA("\"next\": 12, \"revoked\": []"),
		DATA("\"next\": 12, \"moved\": []"),
		DATA("\"revoked\": [], \"moved\": []"),
		DATA("\"next\": \"12\", \"revoked\": [], \"moved\": []"),
		DATA("\"next\": -1, \"revoked\": [], \"moved\": []"),
		DATA("\"next\": 12, \"revoked\": {}, \"moved\": []"),
		DATA("\"next\": 12, \"revoked\": [5], \"moved\": []"),
		DATA("\"next\": 12, \"revoked\": [{}], \"moved\": []"),
		DATA("\"next\": 12, \"revoked\": [{\"key\": \"x\"}], \"moved\": []"),
		DATA("\"next\": 12, \"revoked\": [{\"key\": \"" FINGERPRINT
		     "\", \"sandbox\": \"rs-1\"}], \"moved\": []"),
		DATA("\"next\": 12, \"revoked\": [{\"user\": \"u\"}], \"moved\": []"),
		DATA("\"next\": 12, \"revoked\": [{\"team\": \"u\"}], \"moved\": []"),
		DATA("\"next\": 12, \"revoked\": [{\"sandbox\": \"RS\"}], \"moved\": []"),
		DATA("\"next\": 12, \"revoked\": [{\"gateway\": \"x\"}], \"moved\": []"),
		DATA("\"next\": 12, \"revoked\": [], \"moved\": [{\"key\": \"" FINGERPRINT "\"}]"),
		DATA("\"next\": 12, \"revoked\": [], \"moved\": [{\"sandbox\": \"-\"}]"),
	};

	for (size_t i = 0; i < ARRAY_LEN(answers); i++)
		if (changes_of(answers[i], 7) != -EPROTO)
			fail_msg("taken: %s", answers[i]);
	/* The feed has lost its memory. */
	assert_int_equal(changes_of(DATA("\"next\": 6, \"revoked\": [], \"moved\": []"), 7), -E2BIG);
}

static void test_changes_most(void **state)
{
	char *text = malloc(64 * CONTROL_CHANGES_MAX);

	assert_non_null(text);
	for (int most = CONTROL_CHANGES_MAX; most <= CONTROL_CHANGES_MAX + 1; most++) {
		int n = sprintf(text, "{\"success\": true, \"data\": {\"next\": 9, \"revoked\": [{\"sandbox\": "
				      "\"a\"}], \"moved\": [");

		for (int i = 1; i < most; i++)
			n += sprintf(text + n, "%s{\"sandbox\": \"rs-%d\"}", i > 1 ? "," : "", i);
		strcpy(text + n, "]}}");
		assert_int_equal(changes_of(text, 7), most > CONTROL_CHANGES_MAX ? -E2BIG : 0);
		free(list);
	}
	free(text);
}

/* ---- Errors ---- */

static int error_of(const char *text)
{
	struct bytes body = own(text);
	int err;

	memset(reason, 'x', sizeof(reason));
	err = answer_error(body, reason);
	assert_true(is_printable(reason, sizeof(reason)));
	free((void *)body.p);
	return err;
}

#define ERROR(message) "{\"success\": false, \"error\": {\"code\": \"c\", \"message\": \"" message "\"}}"

static void test_error(void **state)
{
	char text[1024];

	assert_int_equal(error_of(ERROR("sandbox is waking up")), 0);
	assert_string_equal(reason, "sandbox is waking up");
	assert_int_equal(error_of(ERROR("a\\u001b[31m\\nb \xc3\xa4\xe2\x82\xac\\u007f")), 0);
	assert_string_equal(reason, "a?[31m?b ???");
	snprintf(text, sizeof(text), ERROR("%0500d"), 0);
	assert_int_equal(error_of(text), 0);
	assert_int_equal(strlen(reason), CONTROL_REASON_MAX - 1);
	assert_int_equal(error_of("{\"success\": true, \"error\": {\"message\": \"x\"}}"), -EPROTO);
	assert_int_equal(error_of("{\"success\": false}"), -EPROTO);
	assert_int_equal(error_of("{\"success\": false, \"error\": \"x\"}"), -EPROTO);
	assert_int_equal(error_of("{\"success\": false, \"error\": {\"message\": 5}}"), -EPROTO);
	assert_int_equal(error_of("<html>502 Bad Gateway</html>"), -EPROTO);
}

/* ---- Requests ---- */

static void test_requests(void **state)
{
	struct control_key_call k = {.call.kind = CALL_KEY, .fingerprint = FINGERPRINT};
	struct control_route_call r = {.call.kind = CALL_ROUTE, .sandbox = "rs-1", .fingerprint = FINGERPRINT};
	struct control_changes_call c = {.call.kind = CALL_CHANGES};
	struct call_request q;

	assert_int_equal(call_request_make(&k.call, "http://c/x", "T.O.K", 0, &q), 0);
	assert_string_equal(q.url,
			    "http://c/x/internal/v1/ssh-keys/SHA256:qARteTb2oz7ABVRSXf%2FocAxO%2BPv8UOQSflvmYv1Lqv0");
	assert_int_equal(q.header_count, 2);
	assert_string_equal(q.headers[0], "X-Internal-Token: T.O.K");

	r.grants = grants;
	r.grant_count = 2;
	assert_int_equal(call_request_make(&r.call, "http://c", "T", 0, &q), 0);
	assert_string_equal(q.url, "http://c/internal/v1/sandboxes/rs-1/ssh-target");
	assert_int_equal(q.header_count, 4);
	assert_string_equal(q.headers[2], "X-SSH-Key-Grants: t-1=u_1,T2=u_1");
	assert_string_equal(q.headers[3], "X-SSH-Key-Fingerprint: " FINGERPRINT);
	assert_int_equal(call_request_make(&r.call, "http://c", "T", 25, &q), 0);
	assert_string_equal(q.url, "http://c/internal/v1/sandboxes/rs-1/ssh-target?wait=25");
	r.is_no_wake = true;
	assert_int_equal(call_request_make(&r.call, "http://c", "T", 25, &q), 0);
	assert_string_equal(q.url, "http://c/internal/v1/sandboxes/rs-1/ssh-target?wait=25&wake=no");
	assert_int_equal(call_request_make(&r.call, "http://c", "T", 0, &q), 0);
	assert_string_equal(q.url, "http://c/internal/v1/sandboxes/rs-1/ssh-target?wake=no");

	assert_int_equal(call_request_make(&c.call, "http://c", "T", 25, &q), 0);
	assert_string_equal(q.url, "http://c/internal/v1/changes");
	c.since = UINT64_MAX;
	assert_int_equal(call_request_make(&c.call, "http://c", "T", 25, &q), 0);
	assert_string_equal(q.url, "http://c/internal/v1/changes?since=18446744073709551615&wait=25");
}

static void test_request_of_most_grants_fits(void **state)
{
	struct control_route_call r = {.call.kind = CALL_ROUTE, .sandbox = "rs-1", .fingerprint = FINGERPRINT};
	struct grant many[GRANTS_MAX + 1];
	char base[CONTROL_URL_MAX];
	struct call_request *q = malloc(sizeof(*q));

	assert_non_null(q);
	memset(many, 'g', sizeof(many));
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		many[i].team[TEAM_ID_MAX] = many[i].user[USER_ID_MAX] = 0;
	memset(base, 'b', sizeof(base));
	base[sizeof(base) - 1] = 0;
	memset(r.sandbox, 's', SANDBOX_ID_MAX);
	r.grants = many;
	r.grant_count = GRANTS_MAX;
	r.is_no_wake = true;
	assert_int_equal(call_request_make(&r.call, base, "T", 300, q), 0);
	assert_int_equal(strlen(q->headers[2]), strlen("X-SSH-Key-Grants: ") + GRANTS_MAX * 130 - 1);
	assert_string_equal(q->url + strlen(q->url) - strlen("&wake=no"), "&wake=no");
	r.grant_count++;
	assert_int_equal(call_request_make(&r.call, base, "T", 0, q), -EINVAL);
	free(q);
}

/* What is no name goes nowhere. */
static void test_request_wrong(void **state)
{
	struct control_key_call k = {.call.kind = CALL_KEY, .fingerprint = "SHA256:../../x"};
	struct control_route_call r = {.call.kind = CALL_ROUTE, .fingerprint = FINGERPRINT};
	struct grant bad = {"t", "u\r\nX: y"};
	struct call_request q;

	assert_int_equal(call_request_make(&k.call, "http://c", "T", 0, &q), -EINVAL);
	r.grants = grants;
	r.grant_count = 1;
	strcpy(r.sandbox, "../x");
	assert_int_equal(call_request_make(&r.call, "http://c", "T", 0, &q), -EINVAL);
	strcpy(r.sandbox, "rs-1");
	r.grants = &bad;
	assert_int_equal(call_request_make(&r.call, "http://c", "T", 0, &q), -EINVAL);
	r.grant_count = 0;
	assert_int_equal(call_request_make(&r.call, "http://c", "T", 0, &q), -EINVAL);
}

/* ---- Tokens ---- */

static void decode(const char *text, uint8_t *out, size_t size, size_t *ret_n)
{
	assert_int_equal(sodium_base642bin(out, size, text, strlen(text), NULL, ret_n, NULL,
					   sodium_base64_VARIANT_URLSAFE_NO_PADDING),
			 0);
}

/* RFC 8037, appendix A.4: the key of A.1, the signature of A.4. */
static void test_token_signature(void **state)
{
	static const char expected[] =
		"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
		"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
	uint8_t seed[32], public[32], secret[64];
	char text[256];
	size_t n;

	decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A", seed, sizeof(seed), &n);
	assert_int_equal(crypto_sign_seed_keypair(public, secret, seed), 0);
	assert_int_equal(token_sign("{\"alg\":\"EdDSA\"}", "Example of Ed25519 signing", secret, text, sizeof(text)),
			 (ssize_t)strlen(expected));
	assert_string_equal(text, expected);
	/* To the last byte of room, and never past it. */
	for (size_t size = 0; size < sizeof(expected) + 4; size++) {
		char *out = malloc(size ? size : 1);
		ssize_t rc = token_sign("{\"alg\":\"EdDSA\"}", "Example of Ed25519 signing", secret, out, size);

		assert_true(rc == -ENOBUFS || (rc == (ssize_t)strlen(expected) && size >= sizeof(expected)));
		free(out);
	}
}

static json_t *claims_of(const char *token)
{
	char part[CONTROL_TOKEN_MAX], json[CONTROL_TOKEN_MAX];
	const char *from = strchr(token, '.') + 1;
	size_t n = strcspn(from, ".");
	json_t *claims;

	memcpy(part, from, n);
	part[n] = 0;
	decode(part, (uint8_t *)json, sizeof(json), &n);
	claims = json_loadb(json, n, 0, NULL);
	assert_non_null(claims);
	return claims;
}

static json_int_t number(const json_t *claims, const char *name)
{
	return json_integer_value(json_object_get(claims, name));
}

static void test_token_claims_and_renewal(void **state)
{
	static const char header[] = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.";
	char first[CONTROL_TOKEN_MAX], second[CONTROL_TOKEN_MAX];
	uint8_t public[32], secret[64];
	json_t *claims, *other;
	struct token t;

	crypto_sign_keypair(public, secret);
	assert_int_equal(token_init(&t, "gw \"1\"\\", secret), 0);
	strcpy(first, token_get(&t, 1000000));
	assert_memory_equal(first, header, strlen(header));
	claims = claims_of(first);
	assert_string_equal(json_string_value(json_object_get(claims, "iss")), "gw \"1\"\\");
	assert_string_equal(json_string_value(json_object_get(claims, "aud")), "ringgate-control");
	assert_int_equal(number(claims, "iat"), 1000000);
	assert_int_equal(number(claims, "exp"), 1000060);
	assert_true(number(claims, "nbf") <= 1000000);
	assert_int_equal(json_string_length(json_object_get(claims, "jti")), 32);
	/* While it has 20 s to live it is used again. */
	assert_string_equal(token_get(&t, 1000040), first);
	strcpy(second, token_get(&t, 1000041));
	assert_string_not_equal(second, first);
	other = claims_of(second);
	assert_int_equal(number(other, "exp"), 1000101);
	assert_string_not_equal(json_string_value(json_object_get(other, "jti")),
				json_string_value(json_object_get(claims, "jti")));
	/* A clock that was put back. */
	assert_string_not_equal(token_get(&t, 999990), second);
	json_decref(claims);
	json_decref(other);
	token_wipe(&t);
}

static void test_token_names(void **state)
{
	char name[CONTROL_NAME_MAX + 2];
	uint8_t public[32], secret[64];
	struct token t;

	crypto_sign_keypair(public, secret);
	assert_int_equal(token_init(&t, "", secret), -EINVAL);
	assert_int_equal(token_init(&t, "\xff", secret), -EINVAL);
	memset(name, 1, sizeof(name));
	name[CONTROL_NAME_MAX + 1] = 0;
	assert_int_equal(token_init(&t, name, secret), -EINVAL);
	/* The longest in JSON: six characters each. */
	name[CONTROL_NAME_MAX] = 0;
	assert_int_equal(token_init(&t, name, secret), 0);
	assert_non_null(token_get(&t, UINT32_MAX));
}

/* ---- The breaker ---- */

#define MS 1000ull

static void test_breaker(void **state)
{
	uint64_t now = 10 * 1000 * MS;
	struct breaker b;

	breaker_init(&b);
	for (int i = 1; i < CONTROL_BREAKER_FAILURES; i++)
		assert_false(breaker_failed(&b, now, now - 5000 * MS));
	/* One success, and the row begins anew. */
	assert_false(breaker_succeeded(&b));
	for (int i = 1; i < CONTROL_BREAKER_FAILURES; i++)
		assert_false(breaker_failed(&b, now, now - 5000 * MS));
	assert_true(breaker_lets(&b, now));
	assert_true(breaker_failed(&b, now, now));
	assert_false(breaker_is_closed(&b));
	assert_false(breaker_failed(&b, now, now));
	/* One probe each while. */
	assert_false(breaker_lets(&b, now));
	assert_false(breaker_lets(&b, now + CONTROL_BREAKER_PROBE_MS * MS - 1));
	now += CONTROL_BREAKER_PROBE_MS * MS;
	assert_true(breaker_lets(&b, now));
	assert_false(breaker_lets(&b, now));
	assert_false(breaker_failed(&b, now + 1, now));
	assert_false(breaker_lets(&b, now + 1));
	now += CONTROL_BREAKER_PROBE_MS * MS;
	assert_true(breaker_lets(&b, now));
	/* It has not come back: the next one. */
	now += CONTROL_BREAKER_PROBE_MS * MS;
	assert_true(breaker_lets(&b, now));
	assert_true(breaker_succeeded(&b));
	assert_true(breaker_lets(&b, now));
	assert_true(breaker_lets(&b, now));
}

/* A hundred that fail at one moment are one failure; when they go on failing it is another matter. */
static void test_breaker_waits_for_time_to_pass(void **state)
{
	uint64_t now = 10 * 1000 * MS;
	struct breaker b;

	breaker_init(&b);
	for (int i = 0; i < 100; i++)
		assert_false(breaker_failed(&b, now, now - 1 * MS));
	assert_true(breaker_failed(&b, now + CONTROL_BREAKER_MIN_MS * MS, now));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_key),
		cmocka_unit_test(test_key_wrong),
		cmocka_unit_test(test_key_most_grants),
		cmocka_unit_test(test_deep_and_many),
		cmocka_unit_test(test_route),
		cmocka_unit_test(test_route_wrong),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_changes_wrong),
		cmocka_unit_test(test_changes_most),
		cmocka_unit_test(test_error),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_request_of_most_grants_fits),
		cmocka_unit_test(test_request_wrong),
		cmocka_unit_test(test_token_signature),
		cmocka_unit_test(test_token_claims_and_renewal),
		cmocka_unit_test(test_token_names),
		cmocka_unit_test(test_breaker),
		cmocka_unit_test(test_breaker_waits_for_time_to_pass),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
