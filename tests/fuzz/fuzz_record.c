/*
 * tests/fuzz/fuzz_record.c - libFuzzer target for the records in Redis, and for their names.
 *
 * The input is taken three times: as a whole value, which almost never verifies; as what stands under a good HMAC; and as a
 * name. What opens must be what sealing it again gives: there is one encoding of each record.
 */
#include "upstream/redis/record.h"

#include <errno.h>
#include <sodium.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static const uint8_t secret[RECORD_SECRET_BYTES] = {1};
static const char name[] = "rg:key:x";

static void check_rc(int rc)
{
	ASSERT(rc == 0 || rc == -EBADMSG || rc == -ENOENT);
}

static void check_value(struct bytes value)
{
	uint8_t again[RECORD_VALUE_MAX];
	struct record_head h;
	struct record_key key;
	struct record_route route;
	int rc;

	rc = record_key_open(secret, name, value, 0, &h, &key);
	check_rc(rc);
	if (rc == 0)
		ASSERT(record_key_seal(secret, name, &h, &key, again) == (ssize_t)value.n &&
		       memcmp(again, value.p, value.n) == 0);
	rc = record_route_open(secret, name, value, 0, &h, &route);
	check_rc(rc);
	if (rc == 0)
		ASSERT(record_route_seal(secret, name, &h, &route, again) == (ssize_t)value.n &&
		       memcmp(again, value.p, value.n) == 0);
	rc = record_grant_open(secret, name, value, 0, &h);
	check_rc(rc);
	if (rc == 0)
		ASSERT(record_grant_seal(secret, name, &h, again) == (ssize_t)value.n &&
		       memcmp(again, value.p, value.n) == 0);
}

static void check_signed(const uint8_t *p, size_t n)
{
	static const char label[] = "ringgate-record-1";
	crypto_auth_hmacsha256_state st;
	uint8_t *value = malloc(n + crypto_auth_hmacsha256_BYTES);

	ASSERT(value);
	if (n > 0)
		memcpy(value, p, n);
	crypto_auth_hmacsha256_init(&st, secret, sizeof(secret));
	crypto_auth_hmacsha256_update(&st, (const uint8_t *)label, sizeof(label));
	crypto_auth_hmacsha256_update(&st, (const uint8_t *)name, sizeof(name));
	crypto_auth_hmacsha256_update(&st, value, n);
	crypto_auth_hmacsha256_final(&st, value + n);
	check_value(bytes_of(value, n + crypto_auth_hmacsha256_BYTES));
	free(value);
}

static void check_name(struct bytes text)
{
	char again[RECORD_NAME_MAX];
	struct record_name r;

	if (!record_name_parse(text, &r))
		return;
	if (r.kind == RECORD_KEY)
		record_key_name(r.fingerprint, again);
	else if (r.kind == RECORD_ROUTE)
		record_route_name(r.sandbox, again);
	else if (r.kind == RECORD_GRANT)
		record_grant_name(r.sandbox, &r.member, again);
	else if (r.kind == RECORD_REV_KEY)
		record_rev_key_name(r.fingerprint, again);
	else if (r.kind == RECORD_REV_MEMBER)
		record_rev_member_name(&r.member, again);
	else
		record_rev_sandbox_name(r.sandbox, again);
	ASSERT(bytes_is(text, again));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	check_value(bytes_of(p, n));
	check_signed(p, n);
	check_name(bytes_of(p, n));
	return 0;
}
