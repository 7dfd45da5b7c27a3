/*
 * tests/unit/upstream/test_record.c - records: there and back, golden values, and everything that must not open.
 */
#include "upstream/redis/record.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sodium.h>

#define EXPIRES_MS 1893456000000u
#define NOW_MS (EXPIRES_MS - 1000)

static uint8_t secret[RECORD_SECRET_BYTES];
static char fingerprint[FINGERPRINT_CHARS + 1];
static const struct grant member = {.team = "team-1", .user = "user_1"};

struct sealed {
	char name[RECORD_NAME_MAX];
	uint8_t value[RECORD_VALUE_MAX];
	size_t n;
};

static struct record_key key_of(uint32_t count, size_t id_bytes)
{
	struct record_key k = {.grant_count = count};

	for (uint32_t i = 0; i < count; i++) {
		memset(k.grants[i].team, 't', id_bytes);
		memset(k.grants[i].user, 'A' + (int)(i % 26), id_bytes);
	}
	return k;
}

static struct record_route route_of(void)
{
	struct record_route r = {.procd_url = "tcp://192.0.2.1:7000",
				 .team = "team-1",
				 .state = "running",
				 .policy = "{\"sandbox\": {\"agent\": false}}"};

	memcpy(r.procd_key, "ed25519:", 8);
	memset(r.procd_key + 8, 'B', 44);
	return r;
}

static struct sealed sealed_key(uint64_t version, const struct record_key *k)
{
	struct record_head h = {.version = version, .expires_ms = EXPIRES_MS};
	struct sealed s;
	ssize_t n;

	record_key_name(fingerprint, s.name);
	n = record_key_seal(secret, s.name, &h, k, s.value);
	assert_true(n > 0);
	s.n = (size_t)n;
	return s;
}

static struct sealed sealed_route(void)
{
	struct record_head h = {.version = 7, .expires_ms = EXPIRES_MS};
	struct record_route r = route_of();
	struct sealed s;
	ssize_t n;

	record_route_name("sb-1", s.name);
	n = record_route_seal(secret, s.name, &h, &r, s.value);
	assert_true(n > 0);
	s.n = (size_t)n;
	return s;
}

static struct sealed sealed_grant(void)
{
	struct record_head h = {.version = 0, .expires_ms = EXPIRES_MS};
	struct sealed s;
	ssize_t n;

	record_grant_name("sb-1", &member, s.name);
	n = record_grant_seal(secret, s.name, &h, s.value);
	assert_true(n > 0);
	s.n = (size_t)n;
	return s;
}

/* Opens from memory of exactly n bytes, so that ASan sees a read behind them. What fails leaves the answer alone. */
static int open_as(enum record_kind kind, const char *name, const uint8_t *value, size_t n, uint64_t now_ms)
{
	struct record_head h;
	union {
		struct record_key key;
		struct record_route route;
	} got, before;
	uint8_t *copy = malloc(n + (n == 0));
	int rc;

	memcpy(copy, value, n);
	memset(&got, 0x55, sizeof(got));
	before = got;
	memset(&h, 0x55, sizeof(h));
	if (kind == RECORD_KEY)
		rc = record_key_open(secret, name, bytes_of(copy, n), now_ms, &h, &got.key);
	else if (kind == RECORD_ROUTE)
		rc = record_route_open(secret, name, bytes_of(copy, n), now_ms, &h, &got.route);
	else
		rc = record_grant_open(secret, name, bytes_of(copy, n), now_ms, &h);
	free(copy);
	if (rc < 0) {
		assert_memory_equal(&got, &before, sizeof(got));
		assert_int_equal(h.version, 0x5555555555555555);
	} else {
		assert_int_equal(h.expires_ms, EXPIRES_MS);
	}
	return rc;
}

/* --- tests --- */

static void test_round_trip(void **state)
{
	static const struct {
		uint32_t count;
		size_t id_bytes;
	} sizes[] = {{0, 0}, {1, 1}, {2, 31}, {15, 32}, {16, 33}, {GRANTS_MAX, TEAM_ID_MAX}};
	static const uint64_t versions[] = {0, 1, 9999999999, UINT64_MAX};

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		for (size_t v = 0; v < ARRAY_LEN(versions); v++) {
			struct record_key k = key_of(sizes[i].count, sizes[i].id_bytes), got;
			struct sealed s = sealed_key(versions[v], &k);
			struct record_head h;

			assert_int_equal(record_key_open(secret, s.name, bytes_of(s.value, s.n), NOW_MS, &h, &got), 0);
			assert_true(h.version == versions[v] && h.expires_ms == EXPIRES_MS);
			assert_memory_equal(&got, &k, sizeof(k));
		}
	}
}

static void test_round_trip_route_and_grant(void **state)
{
	struct record_route r = route_of(), got;
	struct sealed s = sealed_route();
	struct record_head h;

	assert_int_equal(record_route_open(secret, s.name, bytes_of(s.value, s.n), NOW_MS, &h, &got), 0);
	assert_int_equal(h.version, 7);
	assert_memory_equal(&got, &r, sizeof(r));
	s = sealed_grant();
	assert_int_equal(record_grant_open(secret, s.name, bytes_of(s.value, s.n), NOW_MS, &h), 0);
	assert_int_equal(h.version, 0);
}

static void test_policies_of_all_sizes(void **state)
{
	static const size_t sizes[] = {0, 1, 31, 32, 255, 256, POLICY_TEXT_MAX - 1};

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct record_head h = {.version = 7, .expires_ms = EXPIRES_MS};
		struct record_route r = route_of(), got;
		uint8_t value[RECORD_VALUE_MAX];
		ssize_t n;

		memset(r.procd_url, 'u', sizeof(r.procd_url) - 1);
		memset(r.policy, 0, sizeof(r.policy));
		memset(r.policy, '~', sizes[i]);
		n = record_route_seal(secret, "n", &h, &r, value);
		assert_true(n > 0);
		assert_int_equal(record_route_open(secret, "n", bytes_of(value, (size_t)n), NOW_MS, &h, &got), 0);
		assert_memory_equal(&got, &r, sizeof(r));
	}
}

static void test_expires_of_all_sizes(void **state)
{
	static const uint64_t times[] = {1,      0x7f,    0x80,       0xff,        0x100,
					 0xffff, 0x10000, 0xffffffff, 0x100000000, UINT64_MAX};

	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		struct record_head h = {.version = 1, .expires_ms = times[i]}, got = {0};
		uint8_t value[RECORD_VALUE_MAX];
		ssize_t n = record_grant_seal(secret, "rg:grant:a:b:c", &h, value);

		assert_true(n > 0);
		assert_int_equal(
			record_grant_open(secret, "rg:grant:a:b:c", bytes_of(value, (size_t)n), times[i] - 1, &got), 0);
		assert_true(got.expires_ms == times[i]);
		assert_int_equal(record_grant_open(secret, "rg:grant:a:b:c", bytes_of(value, (size_t)n), times[i],
						   &got),
				 -ENOENT);
	}
}

/* Made with Python's msgpack, hmac and hashlib: the form is not what this code happens to write. */
static void test_golden(void **state)
{
	static const char key[] =
		"303030303030303132333435363738393031323392cf000001b8dac5b4009292a67465616d2d31a6757365725f3192a1"
		"74d940555555555555555555555555555555555555555555555555555555555555555555555555555555555555555555"
		"555555555555555555555555555555555555556a306c4bc2e6a75962ca222dc7dbec7d18dd8ef87e1e9501ebd68484fb"
		"43f41c";
	static const char route[] =
		"303030303030303030303030303030303030303792cf000001b8dac5b40095b47463703a2f2f3139322e302e322e313a"
		"37303030d934656432353531393a42424242424242424242424242424242424242424242424242424242424242424242"
		"42424242424242424242a67465616d2d31a772756e6e696e67bd7b2273616e64626f78223a207b226167656e74223a20"
		"66616c73657d7d9b983a628eda55230f5349474d39910344cc3aad6af874c2b077d2f46b5d86f6";
	static const char grant[] =
		"303030303030303030303030303030303030303092cf000001b8dac5b400c37f14e8ad365d8f5aaa688541d0e6a78ad1"
		"70dfa2e37be11fc8d3fe4710d00d4b";
	struct record_key k = {.grant_count = 2, .grants = {member, {.team = "t"}}};
	struct sealed s[3];
	const char *want[] = {key, route, grant};

	memset(k.grants[1].user, 'U', USER_ID_MAX);
	s[0] = sealed_key(1234567890123, &k);
	s[1] = sealed_route();
	s[2] = sealed_grant();
	for (size_t i = 0; i < ARRAY_LEN(s); i++) {
		char hex[2 * RECORD_VALUE_MAX + 1];

		sodium_bin2hex(hex, sizeof(hex), s[i].value, s[i].n);
		assert_string_equal(hex, want[i]);
	}
}

static void check_every_bit(enum record_kind kind, struct sealed *s)
{
	assert_int_equal(open_as(kind, s->name, s->value, s->n, NOW_MS), 0);
	for (size_t bit = 0; bit < 8 * s->n; bit++) {
		s->value[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		assert_int_equal(open_as(kind, s->name, s->value, s->n, NOW_MS), -EBADMSG);
		s->value[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	assert_int_equal(open_as(kind, s->name, s->value, s->n, NOW_MS), 0);
}

static void test_every_bit_counts(void **state)
{
	struct record_key k = key_of(3, 20);
	struct sealed s = sealed_key(5, &k);

	check_every_bit(RECORD_KEY, &s);
	s = sealed_route();
	check_every_bit(RECORD_ROUTE, &s);
	s = sealed_grant();
	check_every_bit(RECORD_GRANT, &s);
}

static void test_truncated_and_longer(void **state)
{
	struct sealed s = sealed_route();
	uint8_t big[RECORD_VALUE_MAX + 100] = {0};

	for (size_t n = 0; n < s.n; n++)
		assert_int_equal(open_as(RECORD_ROUTE, s.name, s.value, n, NOW_MS), -EBADMSG);
	memcpy(big, s.value, s.n);
	assert_int_equal(open_as(RECORD_ROUTE, s.name, big, s.n + 1, NOW_MS), -EBADMSG);
	assert_int_equal(open_as(RECORD_ROUTE, s.name, big, sizeof(big), NOW_MS), -EBADMSG);
}

/* What was sealed for one name, kind or secret opens for no other. */
static void test_wrong_name(void **state)
{
	struct record_key k = key_of(1, 4);
	struct sealed s = sealed_key(1, &k);
	char other[RECORD_NAME_MAX];

	for (size_t i = 0; i < strlen(s.name); i++) {
		memcpy(other, s.name, sizeof(other));
		other[i] ^= 1;
		assert_int_equal(open_as(RECORD_KEY, other, s.value, s.n, NOW_MS), -EBADMSG);
	}
	memcpy(other, s.name, sizeof(other));
	other[strlen(other) - 1] = 0;
	assert_int_equal(open_as(RECORD_KEY, other, s.value, s.n, NOW_MS), -EBADMSG);
	assert_int_equal(open_as(RECORD_KEY, "", s.value, s.n, NOW_MS), -EBADMSG);
	/* The same name read as another kind: the payload does not fit. */
	assert_int_equal(open_as(RECORD_ROUTE, s.name, s.value, s.n, NOW_MS), -EBADMSG);
	assert_int_equal(open_as(RECORD_GRANT, s.name, s.value, s.n, NOW_MS), -EBADMSG);
	secret[31] ^= 1;
	assert_int_equal(open_as(RECORD_KEY, s.name, s.value, s.n, NOW_MS), -EBADMSG);
	secret[31] ^= 1;
}

static void test_expired(void **state)
{
	struct sealed s = sealed_grant();

	assert_int_equal(open_as(RECORD_GRANT, s.name, s.value, s.n, EXPIRES_MS - 1), 0);
	assert_int_equal(open_as(RECORD_GRANT, s.name, s.value, s.n, EXPIRES_MS), -ENOENT);
	assert_int_equal(open_as(RECORD_GRANT, s.name, s.value, s.n, UINT64_MAX), -ENOENT);
}

/* Seals any body, as somebody with the secret and another program would. */
static size_t seal_body(const char *name, const char *digits, const void *body, size_t n,
			uint8_t ret_value[RECORD_VALUE_MAX])
{
	static const char label[] = "ringgate-record-1";
	crypto_auth_hmacsha256_state st;

	memcpy(ret_value, digits, RECORD_VERSION_DIGITS);
	memcpy(ret_value + RECORD_VERSION_DIGITS, body, n);
	n += RECORD_VERSION_DIGITS;
	crypto_auth_hmacsha256_init(&st, secret, sizeof(secret));
	crypto_auth_hmacsha256_update(&st, (const uint8_t *)label, sizeof(label));
	crypto_auth_hmacsha256_update(&st, (const uint8_t *)name, strlen(name) + 1);
	crypto_auth_hmacsha256_update(&st, ret_value, n);
	crypto_auth_hmacsha256_final(&st, ret_value + n);
	return n + crypto_auth_hmacsha256_BYTES;
}

#define DIGITS "00000000000000000007"
#define LATER "\xcf\x00\x00\x01\xb8\xda\xc5\xb4\x00"

/* Bodies that verify and are wrong all the same. */
static void test_strict(void **state)
{
	static const struct {
		enum record_kind kind;
		int rc;
		const char *digits;
		struct bytes body;
	} cases[] = {
#define CASE(kind, rc, digits, body) {kind, rc, digits, {(const uint8_t *)(body), sizeof(body) - 1}}
		CASE(RECORD_GRANT, 0, DIGITS, "\x92" LATER "\xc3"),
		CASE(RECORD_GRANT, -EBADMSG, "0000000000000000000x", "\x92" LATER "\xc3"),
		CASE(RECORD_GRANT, -EBADMSG, "18446744073709551616", "\x92" LATER "\xc3"),
		CASE(RECORD_GRANT, -EBADMSG, DIGITS, ""),
		CASE(RECORD_GRANT, -EBADMSG, DIGITS, "\x92" LATER),
		CASE(RECORD_GRANT, -EBADMSG, DIGITS, "\x92" LATER "\xc3\xc3"),
		CASE(RECORD_GRANT, -EBADMSG, DIGITS, "\x92" LATER "\xc2"),
		CASE(RECORD_GRANT, -EBADMSG, DIGITS, "\x92" LATER "\x01"),
		CASE(RECORD_GRANT, -EBADMSG, DIGITS, "\x93" LATER "\xc3\xc3"),
		CASE(RECORD_GRANT, -EBADMSG, DIGITS, "\x91" LATER),
		/* Not the shortest encoding, negative, a float, a string for the time. */
		CASE(RECORD_GRANT, -EBADMSG, DIGITS, "\xdc\x00\x02" LATER "\xc3"),
		CASE(RECORD_GRANT, -EBADMSG, DIGITS, "\x92\xcf\x00\x00\x00\x00\xff\xff\xff\xff\xc3"),
		CASE(RECORD_GRANT, -EBADMSG, DIGITS, "\x92\xcc\x7f\xc3"),
		CASE(RECORD_GRANT, -EBADMSG, DIGITS, "\x92\xff\xc3"),
		CASE(RECORD_GRANT, -EBADMSG, DIGITS, "\x92\xcb\x40\x00\x00\x00\x00\x00\x00\x00\xc3"),
		CASE(RECORD_GRANT, -EBADMSG, DIGITS, "\x92\xa1\x31\xc3"),
		CASE(RECORD_GRANT, -ENOENT, DIGITS, "\x92\x01\xc3"),
		CASE(RECORD_KEY, 0, DIGITS, "\x92" LATER "\x91\x92\xa1t\xa1u"),
		CASE(RECORD_KEY, 0, DIGITS, "\x92" LATER "\x90"),
		CASE(RECORD_KEY, -EBADMSG, DIGITS, "\x92" LATER "\x91\x92\xa1t\xa1:"),
		CASE(RECORD_KEY, -EBADMSG, DIGITS, "\x92" LATER "\x91\x92\xa1t\xa0"),
		CASE(RECORD_KEY, -EBADMSG, DIGITS, "\x92" LATER "\x91\x92\xa1t\xa3u\0v"),
		CASE(RECORD_KEY, -EBADMSG, DIGITS, "\x92" LATER "\x91\x92\xa1t\xc4\x01u"),
		CASE(RECORD_KEY, -EBADMSG, DIGITS, "\x92" LATER "\x91\x92\xd9\x01t\xa1u"),
		CASE(RECORD_KEY, -EBADMSG, DIGITS, "\x92" LATER "\x92\x92\xa1t\xa1u"),
		CASE(RECORD_KEY, -EBADMSG, DIGITS, "\x92" LATER "\x91\x93\xa1t\xa1u\xa1v"),
		CASE(RECORD_KEY, -EBADMSG, DIGITS, "\x92" LATER "\x81\xa1t\xa1u"),
		/* More than there are bytes, more than are allowed: nothing is taken for them. */
		CASE(RECORD_KEY, -EBADMSG, DIGITS, "\x92" LATER "\xdd\xff\xff\xff\xff"),
		CASE(RECORD_KEY, -EBADMSG, DIGITS, "\x92" LATER "\xdc\x00\x21"),
		CASE(RECORD_KEY, -EBADMSG, DIGITS, "\x92" LATER "\x91\x92\xdb\xff\xff\xff\xff"),
		CASE(RECORD_KEY, -EBADMSG, DIGITS, "\x92" LATER "\x91\x92\xd9\x80t"),
		CASE(RECORD_ROUTE, 0, DIGITS, "\x92" LATER "\x95\xa5h:700\xa0\xa1t\xa0\xa0"),
		/* A gateway's that knows of no policies. */
		CASE(RECORD_ROUTE, -EBADMSG, DIGITS, "\x92" LATER "\x94\xa5h:700\xa0\xa1t\xa0"),
		CASE(RECORD_ROUTE, -EBADMSG, DIGITS, "\x92" LATER "\x95\xa5h:700\xa0\xa1t\xa0\xa1\n"),
		CASE(RECORD_ROUTE, -EBADMSG, DIGITS, "\x92" LATER "\x95\xa5h:700\xa0\xa1t\xa0\xda\x00\x01{"),
		CASE(RECORD_ROUTE, -EBADMSG, DIGITS, "\x92" LATER "\x95\xa5h:700\xa0\xa1t\xa0\xda\xff\xff{"),
		CASE(RECORD_ROUTE, -EBADMSG, DIGITS, "\x92" LATER "\x95\xa0\xa0\xa1t\xa0\xa0"),
		CASE(RECORD_ROUTE, -EBADMSG, DIGITS, "\x92" LATER "\x95\xa5h:7\n0\xa0\xa1t\xa0\xa0"),
		CASE(RECORD_ROUTE, -EBADMSG, DIGITS, "\x92" LATER "\x95\xa5h:700\xa1\xff\xa1t\xa0\xa0"),
		CASE(RECORD_ROUTE, -EBADMSG, DIGITS,
		     "\x92" LATER "\x95\xa5h:700\xa0\xa1t\xb0"
		     "0123456789abcdef\xa0"),
		CASE(RECORD_ROUTE, -EBADMSG, DIGITS, "\x92" LATER "\x93\xa5h:700\xa0\xa1t"),
#undef CASE
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint8_t value[RECORD_VALUE_MAX];
		size_t n = seal_body("rg:x", cases[i].digits, cases[i].body.p, cases[i].body.n, value);

		if (open_as(cases[i].kind, "rg:x", value, n, NOW_MS) != cases[i].rc)
			fail_msg("case %zu", i);
	}
}

static void test_seal_refuses(void **state)
{
	struct record_head h = {.expires_ms = EXPIRES_MS};
	struct record_key k = key_of(GRANTS_MAX, 5);
	struct record_route r = route_of();
	uint8_t value[RECORD_VALUE_MAX];

	k.grant_count = GRANTS_MAX + 1;
	assert_int_equal(record_key_seal(secret, "n", &h, &k, value), -EINVAL);
	k = key_of(1, 5);
	k.grants[0].user[2] = ':';
	assert_int_equal(record_key_seal(secret, "n", &h, &k, value), -EINVAL);
	r.procd_url[3] = ' ';
	assert_int_equal(record_route_seal(secret, "n", &h, &r, value), -EINVAL);
	r = route_of();
	r.procd_url[0] = 0;
	assert_int_equal(record_route_seal(secret, "n", &h, &r, value), -EINVAL);
	r = route_of();
	r.policy[3] = '\n';
	assert_int_equal(record_route_seal(secret, "n", &h, &r, value), -EINVAL);
	r = route_of();
	r.team[0] = 0;
	assert_int_equal(record_route_seal(secret, "n", &h, &r, value), -EINVAL);
}

static void test_names(void **state)
{
	struct grant big = {.team = ""};
	char name[RECORD_NAME_MAX], sandbox[SANDBOX_ID_MAX + 1] = {0};
	struct record_name n;

	memset(sandbox, 's', SANDBOX_ID_MAX);
	memset(big.team, 'T', TEAM_ID_MAX);
	memset(big.user, 'U', USER_ID_MAX);
	record_grant_name(sandbox, &big, name);
	assert_int_equal(strlen(name), 9 + SANDBOX_ID_MAX + 1 + TEAM_ID_MAX + 1 + USER_ID_MAX);
	assert_true(record_name_parse(bytes_str(name), &n) && n.kind == RECORD_GRANT);
	assert_string_equal(n.sandbox, sandbox);
	assert_string_equal(n.member.team, big.team);
	assert_string_equal(n.member.user, big.user);
	record_rev_member_name(&member, name);
	assert_string_equal(name, "rg:rev:member:team-1:user_1");
	assert_true(record_name_parse(bytes_str(name), &n) && n.kind == RECORD_REV_MEMBER);
	assert_string_equal(n.member.user, "user_1");
	record_rev_key_name(fingerprint, name);
	assert_true(record_name_parse(bytes_str(name), &n) && n.kind == RECORD_REV_KEY);
	assert_string_equal(n.fingerprint, fingerprint);
	assert_string_equal(n.sandbox, "");
	record_key_name(fingerprint, name);
	assert_true(record_name_parse(bytes_str(name), &n) && n.kind == RECORD_KEY);
	record_route_name("sb-1", name);
	assert_string_equal(name, "rg:route:sb-1");
	assert_true(record_name_parse(bytes_str(name), &n) && n.kind == RECORD_ROUTE);
	record_rev_sandbox_name("sb-1", name);
	assert_string_equal(name, "rg:rev:sandbox:sb-1");
	assert_true(record_name_parse(bytes_str(name), &n) && n.kind == RECORD_REV_SANDBOX);
}

static void test_names_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"rg:",
		"rg:key:",
		"rg:key:SHA256:short",
		"rg:route:",
		"rg:route:-a",
		"rg:route:a:b",
		"rg:route:A",
		"rg:grant:a",
		"rg:grant:a:b",
		"rg:grant:a:b:",
		"rg:grant::b:c",
		"rg:grant:a:b:c:d",
		"rg:rev:member:a",
		"rg:rev:member:a:b:c",
		"rg:rev:sandbox:",
		"rg:rev:team:a",
		"xrg:route:a",
		"rg:route:a ",
		"rg:other:a",
	};
	char longer[RECORD_NAME_MAX + 8] = "rg:route:";
	struct record_name n;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (record_name_parse(bytes_str(bad[i]), &n))
			fail_msg("taken: %s", bad[i]);
	memset(longer + 9, 'a', sizeof(longer) - 9);
	assert_false(record_name_parse(bytes_of(longer, sizeof(longer)), &n));
	assert_false(record_name_parse(bytes_of("rg:route:a\0b", 12), &n));
	assert_false(record_name_parse((struct bytes){0}, &n));
}

static void test_versions(void **state)
{
	uint64_t v = 5;

	assert_true(record_version_parse(bytes_str("0"), &v) && v == 0);
	assert_true(record_version_parse(bytes_str("00000000000000000042"), &v) && v == 42);
	assert_true(record_version_parse(bytes_str("18446744073709551615"), &v) && v == UINT64_MAX);
	v = 5;
	assert_false(record_version_parse(bytes_str("18446744073709551616"), &v));
	assert_false(record_version_parse(bytes_str("99999999999999999999"), &v));
	assert_false(record_version_parse(bytes_str("000000000000000000001"), &v));
	assert_false(record_version_parse(bytes_str(""), &v));
	assert_false(record_version_parse(bytes_str("-1"), &v));
	assert_false(record_version_parse(bytes_str("1 "), &v));
	assert_int_equal(v, 5);
}

static int setup(void **state)
{
	for (size_t i = 0; i < sizeof(secret); i++)
		secret[i] = (uint8_t)i;
	memcpy(fingerprint, "SHA256:", 7);
	memset(fingerprint + 7, 'A', 43);
	return sodium_init() < 0 ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_round_trip_route_and_grant),
		cmocka_unit_test(test_policies_of_all_sizes),
		cmocka_unit_test(test_expires_of_all_sizes),
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_every_bit_counts),
		cmocka_unit_test(test_truncated_and_longer),
		cmocka_unit_test(test_wrong_name),
		cmocka_unit_test(test_expired),
		cmocka_unit_test(test_strict),
		cmocka_unit_test(test_seal_refuses),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_names_refused),
		cmocka_unit_test(test_versions),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
