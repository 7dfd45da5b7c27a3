/*
 * upstream/redis/record_name.c - the names of records, and names taken apart.
 */
#include "upstream/redis/record.h"

#include <stdarg.h>

__attribute__((format(printf, 2, 3))) static void name_print(char ret_name[RECORD_NAME_MAX], const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(ret_name, RECORD_NAME_MAX, format, args);
	va_end(args);
	/* The longest one is a grant's, of three IDs; all have a NUL within their arrays. */
	ASSERT(n > 0 && n < RECORD_NAME_MAX);
}

void record_key_name(const char *fingerprint, char ret_name[RECORD_NAME_MAX])
{
	name_print(ret_name, RECORD_PREFIX "key:%s", fingerprint);
}

void record_route_name(const char *sandbox, char ret_name[RECORD_NAME_MAX])
{
	name_print(ret_name, RECORD_PREFIX "route:%s", sandbox);
}

void record_grant_name(const char *sandbox, const struct grant *g, char ret_name[RECORD_NAME_MAX])
{
	name_print(ret_name, RECORD_PREFIX "grant:%s:%s:%s", sandbox, g->team, g->user);
}

void record_rev_key_name(const char *fingerprint, char ret_name[RECORD_NAME_MAX])
{
	name_print(ret_name, RECORD_REV_PREFIX "key:%s", fingerprint);
}

void record_rev_member_name(const struct grant *g, char ret_name[RECORD_NAME_MAX])
{
	name_print(ret_name, RECORD_REV_PREFIX "member:%s:%s", g->team, g->user);
}

void record_rev_sandbox_name(const char *sandbox, char ret_name[RECORD_NAME_MAX])
{
	name_print(ret_name, RECORD_REV_PREFIX "sandbox:%s", sandbox);
}

/* --- taking apart --- */

static bool take_prefix(struct bytes *b, const char *prefix)
{
	size_t n = strlen(prefix);

	if (b->n < n || memcmp(b->p, prefix, n) != 0)
		return false;
	b->p += n;
	b->n -= n;
	return true;
}

/* What stands before the next colon, or all of it. No ID holds a colon. */
static struct bytes take_part(struct bytes *b)
{
	const uint8_t *colon = b->n > 0 ? memchr(b->p, ':', b->n) : NULL;
	struct bytes part = bytes_of(b->p, colon ? (size_t)(colon - b->p) : b->n);
	size_t skip = part.n + (colon ? 1 : 0);

	b->p += skip;
	b->n -= skip;
	return part;
}

static bool take_sandbox(struct bytes part, struct record_name *r)
{
	return sandbox_id_is_good(part) && bytes_copy_str(part, r->sandbox, sizeof(r->sandbox));
}

static bool take_member(struct bytes *b, struct record_name *r)
{
	struct bytes team = take_part(b), user = *b;

	return member_id_is_good(team) && member_id_is_good(user) &&
	       bytes_copy_str(team, r->member.team, sizeof(r->member.team)) &&
	       bytes_copy_str(user, r->member.user, sizeof(r->member.user));
}

/* The fingerprint's own colon is part of it. */
static bool take_fingerprint(struct bytes b, struct record_name *r)
{
	return fingerprint_is_good(b) && bytes_copy_str(b, r->fingerprint, sizeof(r->fingerprint));
}

static bool take_kind(struct bytes *b, enum record_kind *ret_kind)
{
	static const char *const prefixes[] = {
		[RECORD_KEY] = RECORD_PREFIX "key:",
		[RECORD_ROUTE] = RECORD_PREFIX "route:",
		[RECORD_GRANT] = RECORD_PREFIX "grant:",
		[RECORD_REV_KEY] = RECORD_REV_PREFIX "key:",
		[RECORD_REV_MEMBER] = RECORD_REV_PREFIX "member:",
		[RECORD_REV_SANDBOX] = RECORD_REV_PREFIX "sandbox:",
	};

	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
		if (!take_prefix(b, prefixes[i]))
			continue;
		*ret_kind = (enum record_kind)i;
		return true;
	}
	return false;
}

bool record_name_parse(struct bytes name, struct record_name *ret)
{
	struct record_name r = {0};
	bool is_good = false;

	if (name.n >= RECORD_NAME_MAX || !take_kind(&name, &r.kind))
		return false;
	switch (r.kind) {
	case RECORD_KEY:
	case RECORD_REV_KEY:
		is_good = take_fingerprint(name, &r);
		break;
	case RECORD_ROUTE:
	case RECORD_REV_SANDBOX:
		is_good = take_sandbox(name, &r);
		break;
	case RECORD_GRANT:
		is_good = take_sandbox(take_part(&name), &r) && take_member(&name, &r);
		break;
	case RECORD_REV_MEMBER:
		is_good = take_member(&name, &r);
		break;
	}
	if (is_good)
		*ret = r;
	return is_good;
}
