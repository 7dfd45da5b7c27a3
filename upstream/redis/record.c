/*
 * upstream/redis/record.c - values sealed and opened. See record.h for the form.
 *
 * Reading takes no memory and knows one encoding of each value only, the one that msgpack-c writes: the shortest. It looks at
 * bytes only after their HMAC was verified, and does not trust them even then.
 */
#include "upstream/redis/record.h"

#include <errno.h>
#include <inttypes.h>
#include <msgpack.h>
#include <sodium.h>

#define MAC_BYTES crypto_auth_hmacsha256_BYTES
#define BODY_MAX (RECORD_VALUE_MAX - RECORD_VERSION_DIGITS - MAC_BYTES)

_Static_assert(crypto_auth_hmacsha256_KEYBYTES == RECORD_SECRET_BYTES, "libsodium's HMAC keys");
/* Array headers of 3, string headers of 2. */
_Static_assert(1 + 9 + 3 + GRANTS_MAX * (1 + 2 + TEAM_ID_MAX + 2 + USER_ID_MAX) <= BODY_MAX, "every key's record fits");

/* With its NUL: a name can never be read as part of it. */
static const char label[] = "ringgate-record-1";

static void record_mac(const uint8_t secret[RECORD_SECRET_BYTES], const char *name, struct bytes text,
		       uint8_t ret_mac[MAC_BYTES])
{
	crypto_auth_hmacsha256_state st;

	crypto_auth_hmacsha256_init(&st, secret, RECORD_SECRET_BYTES);
	crypto_auth_hmacsha256_update(&st, (const uint8_t *)label, sizeof(label));
	crypto_auth_hmacsha256_update(&st, (const uint8_t *)name, strlen(name) + 1);
	crypto_auth_hmacsha256_update(&st, text.p, text.n);
	crypto_auth_hmacsha256_final(&st, ret_mac);
	sodium_memzero(&st, sizeof(st));
}

bool record_version_parse(struct bytes text, uint64_t *ret_version)
{
	uint64_t v = 0;

	if (text.n == 0 || text.n > RECORD_VERSION_DIGITS)
		return false;
	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] < '0' || text.p[i] > '9' || __builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, text.p[i] - '0', &v))
			return false;
	}
	*ret_version = v;
	return true;
}

/* --- sealing --- */

struct out {
	uint8_t *p;
	size_t n;
};

static int out_write(void *ctx, const char *p, size_t n)
{
	struct out *o = ctx;

	if (n > RECORD_VALUE_MAX - MAC_BYTES - o->n)
		return -1;
	memcpy(o->p + o->n, p, n);
	o->n += n;
	return 0;
}

static int put_str(msgpack_packer *pk, const char *s)
{
	size_t n = strlen(s);

	return msgpack_pack_str(pk, n) || msgpack_pack_str_body(pk, s, n);
}

/* Version, and the array that the payload has to follow into. */
static int seal_start(struct out *o, msgpack_packer *pk, uint8_t *value, const struct record_head *h)
{
	char digits[RECORD_VERSION_DIGITS + 1];

	snprintf(digits, sizeof(digits), "%020" PRIu64, h->version);
	memcpy(value, digits, RECORD_VERSION_DIGITS);
	*o = (struct out){.p = value, .n = RECORD_VERSION_DIGITS};
	msgpack_packer_init(pk, o, out_write);
	return msgpack_pack_array(pk, 2) || msgpack_pack_uint64(pk, h->expires_ms);
}

static ssize_t seal_end(struct out *o, const uint8_t *secret, const char *name, int is_failed)
{
	if (is_failed || strlen(name) >= RECORD_NAME_MAX)
		return -EINVAL;
	record_mac(secret, name, bytes_of(o->p, o->n), o->p + o->n);
	return (ssize_t)(o->n + MAC_BYTES);
}

ssize_t record_key_seal(const uint8_t secret[RECORD_SECRET_BYTES], const char *name, const struct record_head *h,
			const struct record_key *k, uint8_t ret_value[RECORD_VALUE_MAX])
{
	msgpack_packer pk;
	struct out o;
	int failed;

	if (k->grant_count > GRANTS_MAX)
		return -EINVAL;
	failed = seal_start(&o, &pk, ret_value, h) || msgpack_pack_array(&pk, k->grant_count);
	for (uint32_t i = 0; i < k->grant_count && !failed; i++) {
		const struct grant *g = &k->grants[i];

		failed = !member_id_is_good(bytes_str(g->team)) || !member_id_is_good(bytes_str(g->user)) ||
			 msgpack_pack_array(&pk, 2) || put_str(&pk, g->team) || put_str(&pk, g->user);
	}
	return seal_end(&o, secret, name, failed);
}

/* ASCII without blanks and control characters. */
static bool is_word(const char *s)
{
	for (; *s; s++)
		if (*s <= 0x20 || *s >= 0x7f)
			return false;
	return true;
}

static bool is_printable(const char *s)
{
	for (; *s; s++)
		if (*s < 0x20 || *s >= 0x7f)
			return false;
	return true;
}

static bool route_is_good(const struct record_route *r)
{
	return is_printable(r->policy) && r->procd_url[0] && is_word(r->procd_url) && is_word(r->procd_key) &&
	       is_word(r->state) && member_id_is_good(bytes_str(r->team));
}

ssize_t record_route_seal(const uint8_t secret[RECORD_SECRET_BYTES], const char *name, const struct record_head *h,
			  const struct record_route *r, uint8_t ret_value[RECORD_VALUE_MAX])
{
	msgpack_packer pk;
	struct out o;
	int failed;

	failed = !route_is_good(r) || seal_start(&o, &pk, ret_value, h) || msgpack_pack_array(&pk, 5) ||
		 put_str(&pk, r->procd_url) || put_str(&pk, r->procd_key) || put_str(&pk, r->team) ||
		 put_str(&pk, r->state) || put_str(&pk, r->policy);
	return seal_end(&o, secret, name, failed);
}

ssize_t record_grant_seal(const uint8_t secret[RECORD_SECRET_BYTES], const char *name, const struct record_head *h,
			  uint8_t ret_value[RECORD_VALUE_MAX])
{
	msgpack_packer pk;
	struct out o;
	int failed = seal_start(&o, &pk, ret_value, h) || msgpack_pack_true(&pk);

	return seal_end(&o, secret, name, failed);
}

/* --- opening --- */

/* What is left of a body. The first thing that is not as it should be makes is_wrong true, and then nothing is left. */
struct in {
	struct bytes left;
	bool is_wrong;
};

static void in_fail(struct in *in)
{
	in->is_wrong = true;
	in->left.n = 0;
}

static struct bytes take(struct in *in, size_t n)
{
	struct bytes b = bytes_of(in->left.p, n);

	if (in->left.n < n) {
		in_fail(in);
		return (struct bytes){0};
	}
	in->left.p += n;
	in->left.n -= n;
	return b;
}

/* A big-endian number of n bytes. */
static uint64_t take_be(struct in *in, size_t n)
{
	struct bytes b = take(in, n);
	uint64_t v = 0;

	for (size_t i = 0; i < b.n; i++)
		v = v << 8 | b.p[i];
	return v;
}

static uint8_t take_first(struct in *in)
{
	return (uint8_t)take_be(in, 1);
}

static uint64_t take_uint(struct in *in)
{
	static const uint64_t least[] = {0x80, 0x100, 0x10000, 0x100000000};
	uint8_t first = take_first(in);
	uint64_t v;

	if (first < 0x80)
		return first;
	if (first < 0xcc || first > 0xcf) {
		in_fail(in);
		return 0;
	}
	v = take_be(in, (size_t)1 << (first - 0xcc));
	if (v < least[first - 0xcc])
		in_fail(in);
	return v;
}

/* An array of at most max items. */
static uint32_t take_array(struct in *in, uint32_t max)
{
	uint8_t first = take_first(in);
	uint32_t n = first & 0x0f;

	if (first == 0xdc) {
		n = (uint32_t)take_be(in, 2);
		if (n < 16)
			in_fail(in);
	} else if ((first & 0xf0) != 0x90) {
		in_fail(in);
	}
	if (n > max)
		in_fail(in);
	return in->is_wrong ? 0 : n;
}

static void take_array_of(struct in *in, uint32_t n)
{
	if (take_array(in, n) != n)
		in_fail(in);
}

/* Into a C string of `size` bytes; at most 65,535 of them. */
static void take_str(struct in *in, char *ret_str, size_t size)
{
	uint8_t first = take_first(in);
	size_t n = first & 0x1f;

	if (first == 0xd9) {
		n = (size_t)take_be(in, 1);
		if (n < 32)
			in_fail(in);
	} else if (first == 0xda) {
		n = (size_t)take_be(in, 2);
		if (n < 256)
			in_fail(in);
	} else if ((first & 0xe0) != 0xa0) {
		in_fail(in);
	}
	if (in->is_wrong || !bytes_copy_str(take(in, n), ret_str, size))
		in_fail(in);
}

/* True when all was as it should be and nothing is left over. */
static bool in_end(const struct in *in)
{
	return !in->is_wrong && in->left.n == 0;
}

/* Verifies, and reads up to the payload. */
static int open_start(const uint8_t *secret, const char *name, struct bytes value, struct record_head *ret_head,
		      struct in *ret_in)
{
	uint8_t mac[MAC_BYTES];
	size_t n;

	if (strlen(name) >= RECORD_NAME_MAX || value.n > RECORD_VALUE_MAX ||
	    value.n < RECORD_VERSION_DIGITS + MAC_BYTES)
		return -EBADMSG;
	n = value.n - MAC_BYTES;
	record_mac(secret, name, bytes_of(value.p, n), mac);
	if (sodium_memcmp(mac, value.p + n, MAC_BYTES) != 0)
		return -EBADMSG;
	if (!record_version_parse(bytes_of(value.p, RECORD_VERSION_DIGITS), &ret_head->version))
		return -EBADMSG;
	*ret_in = (struct in){.left = bytes_of(value.p + RECORD_VERSION_DIGITS, n - RECORD_VERSION_DIGITS)};
	take_array_of(ret_in, 2);
	ret_head->expires_ms = take_uint(ret_in);
	return ret_in->is_wrong ? -EBADMSG : 0;
}

/* Decides once the payload was read. */
static int open_end(const struct in *in, const struct record_head *h, uint64_t now_ms, struct record_head *ret_head)
{
	if (!in_end(in))
		return -EBADMSG;
	if (now_ms >= h->expires_ms)
		return -ENOENT;
	*ret_head = *h;
	return 0;
}

static void take_grant(struct in *in, struct grant *g)
{
	take_array_of(in, 2);
	take_str(in, g->team, sizeof(g->team));
	take_str(in, g->user, sizeof(g->user));
	if (!in->is_wrong && (!member_id_is_good(bytes_str(g->team)) || !member_id_is_good(bytes_str(g->user))))
		in_fail(in);
}

int record_key_open(const uint8_t secret[RECORD_SECRET_BYTES], const char *name, struct bytes value, uint64_t now_ms,
		    struct record_head *ret_head, struct record_key *ret)
{
	struct record_key k = {0};
	struct record_head h;
	struct in in;
	int rc = open_start(secret, name, value, &h, &in);

	if (rc < 0)
		return rc;
	k.grant_count = take_array(&in, GRANTS_MAX);
	for (uint32_t i = 0; i < k.grant_count && !in.is_wrong; i++)
		take_grant(&in, &k.grants[i]);
	rc = open_end(&in, &h, now_ms, ret_head);
	if (rc == 0)
		*ret = k;
	return rc;
}

int record_route_open(const uint8_t secret[RECORD_SECRET_BYTES], const char *name, struct bytes value, uint64_t now_ms,
		      struct record_head *ret_head, struct record_route *ret)
{
	struct record_route r = {0};
	struct record_head h;
	struct in in;
	int rc = open_start(secret, name, value, &h, &in);

	if (rc < 0)
		return rc;
	/* One of a gateway that knows of no policies has four: it is worth nothing, since what it left out may forbid something. */
	take_array_of(&in, 5);
	take_str(&in, r.procd_url, sizeof(r.procd_url));
	take_str(&in, r.procd_key, sizeof(r.procd_key));
	take_str(&in, r.team, sizeof(r.team));
	take_str(&in, r.state, sizeof(r.state));
	take_str(&in, r.policy, sizeof(r.policy));
	if (!in.is_wrong && !route_is_good(&r))
		in_fail(&in);
	rc = open_end(&in, &h, now_ms, ret_head);
	if (rc == 0)
		*ret = r;
	return rc;
}

int record_grant_open(const uint8_t secret[RECORD_SECRET_BYTES], const char *name, struct bytes value, uint64_t now_ms,
		      struct record_head *ret_head)
{
	struct record_head h;
	struct in in;
	int rc = open_start(secret, name, value, &h, &in);

	if (rc < 0)
		return rc;
	if (take_first(&in) != 0xc3) /* true */
		in_fail(&in);
	return open_end(&in, &h, now_ms, ret_head);
}
