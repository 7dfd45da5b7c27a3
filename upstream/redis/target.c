#include "upstream/redis/target.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int fail(char ret_error[256], const char *why)
{
	snprintf(ret_error, 256, "redis URL: %s", why);
	return -EINVAL;
}

/* --- endpoints --- */

const char *endpoint_text(const struct endpoint *e, char ret_text[ENDPOINT_TEXT_MAX])
{
	if (e->port == 0)
		snprintf(ret_text, ENDPOINT_TEXT_MAX, "unix:%s", e->host);
	else if (strchr(e->host, ':'))
		snprintf(ret_text, ENDPOINT_TEXT_MAX, "[%s]:%u", e->host, e->port);
	else
		snprintf(ret_text, ENDPOINT_TEXT_MAX, "%s:%u", e->host, e->port);
	return ret_text;
}

bool endpoint_is_same(const struct endpoint *a, const struct endpoint *b)
{
	return a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* What names and numbers are made of; the log shows it. */
static bool host_is_good(struct bytes host)
{
	for (size_t i = 0; i < host.n; i++) {
		uint8_t c = host.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
		      c == '_' || c == '.' || c == ':' || c == '%'))
			return false;
	}
	return host.n > 0 && host.n <= TARGET_HOST_MAX;
}

bool endpoint_set(struct endpoint *e, struct bytes host, uint64_t port)
{
	if (!host_is_good(host) || port == 0 || port > UINT16_MAX || !bytes_copy_str(host, e->host, sizeof(e->host)))
		return false;
	e->port = (uint16_t)port;
	return true;
}

/* --- the URL; each take_… cuts its part off the front of what is left --- */

static bool take_prefix(struct bytes *b, const char *prefix)
{
	size_t n = strlen(prefix);

	if (b->n < n || memcmp(b->p, prefix, n) != 0)
		return false;
	*b = bytes_of(b->p + n, b->n - n);
	return true;
}

/* All before the first `end`, which goes too; all of it where there is none. */
static struct bytes take_until(struct bytes *b, char end)
{
	const uint8_t *at = b->n > 0 ? memchr(b->p, end, b->n) : NULL;
	struct bytes part = bytes_of(b->p, at ? (size_t)(at - b->p) : b->n);
	size_t skip = part.n + (at ? 1 : 0);

	*b = bytes_of(b->p + skip, b->n - skip);
	return part;
}

static int hex(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* %XX undone. False: not well-formed, a NUL, too long. */
static bool decode(struct bytes b, char *ret_str, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < b.n; i++) {
		int c = b.p[i];

		if (c == '%') {
			if (b.n - i < 3 || hex(b.p[i + 1]) < 0 || hex(b.p[i + 2]) < 0)
				return false;
			c = hex(b.p[i + 1]) << 4 | hex(b.p[i + 2]);
			i += 2;
		}
		if (c == 0 || n + 1 >= size)
			return false;
		ret_str[n++] = (char)c;
	}
	ret_str[n] = 0;
	return true;
}

/* At most `digits` of them. */
static bool number(struct bytes b, size_t digits, uint32_t *ret)
{
	uint32_t v = 0;

	if (b.n == 0 || b.n > digits)
		return false;
	for (size_t i = 0; i < b.n; i++) {
		if (b.p[i] < '0' || b.p[i] > '9')
			return false;
		v = v * 10 + (uint32_t)(b.p[i] - '0');
	}
	*ret = v;
	return true;
}

/* USER:PASSWORD@, if it is there before the first slash. */
static bool take_login(struct bytes *b, struct target *t)
{
	struct bytes rest = *b, authority = take_until(&rest, '/'), login = authority, user;
	size_t at = authority.n;

	while (at > 0 && authority.p[at - 1] != '@')
		at--;
	if (at == 0)
		return true;
	login.n = at - 1;
	*b = bytes_of(b->p + at, b->n - at);
	user = take_until(&login, ':');
	return decode(user, t->user, sizeof(t->user)) && decode(login, t->password, sizeof(t->password));
}

static bool parse_endpoint(struct bytes b, uint16_t default_port, struct endpoint *ret)
{
	uint32_t port = default_port;
	struct bytes host;

	if (take_prefix(&b, "[")) {
		if (b.n == 0 || !memchr(b.p, ']', b.n))
			return false;
		host = take_until(&b, ']');
		if (b.n > 0 && (!take_prefix(&b, ":") || b.n == 0))
			return false;
	} else {
		host = take_until(&b, ':');
		if (memchr(host.p, '%', host.n))
			return false;
	}
	if (b.n > 0 && !number(b, 5, &port))
		return false;
	return endpoint_set(ret, host, port);
}

static bool parse_endpoints(struct bytes b, uint16_t default_port, struct target *t)
{
	do {
		if (t->endpoint_count == TARGET_ENDPOINTS_MAX ||
		    !parse_endpoint(take_until(&b, ','), default_port, &t->endpoints[t->endpoint_count]))
			return false;
		t->endpoint_count++;
	} while (b.n > 0);
	return true;
}

static bool parse_db(struct bytes b, struct target *t)
{
	return b.n == 0 || (number(b, 4, &t->db) && t->db <= TARGET_DB_MAX);
}

static int parse_unix(struct bytes b, struct target *t, char ret_error[256])
{
	struct endpoint *e = &t->endpoints[0];
	struct bytes path;

	if (take_prefix(&b, "//") && !take_login(&b, t))
		return fail(ret_error, "its user or password is not well-formed");
	path = take_until(&b, '?');
	if (path.n == 0 || path.p[0] != '/' || path.n >= sizeof(((struct sockaddr_un *)0)->sun_path) ||
	    !bytes_copy_str(path, e->host, sizeof(e->host)))
		return fail(ret_error, "unix: needs the absolute path of a socket, of at most 107 bytes");
	if (b.n > 0 && (!take_prefix(&b, "db=") || b.n == 0 || !parse_db(b, t)))
		return fail(ret_error, "after a socket's path only ?db=NUMBER is known");
	t->endpoint_count = 1;
	return 0;
}

static int parse_tcp(struct bytes b, struct target *t, char ret_error[256])
{
	uint16_t port = t->kind == TARGET_SENTINELS ? TARGET_SENTINEL_PORT : TARGET_PORT;
	struct bytes hosts;

	if (!take_login(&b, t))
		return fail(ret_error, "its user or password is not well-formed");
	hosts = take_until(&b, '/');
	if (!parse_endpoints(hosts, port, t))
		return fail(ret_error, "its hosts are not HOST or HOST:PORT, or there are more than 16");
	if (t->kind == TARGET_SERVER && t->endpoint_count > 1)
		return fail(ret_error, "several hosts need sentinel:// or cluster://");
	if (t->kind == TARGET_SENTINELS) {
		struct bytes name = take_until(&b, '/');

		if (name.n == 0 || !decode(name, t->master, sizeof(t->master)))
			return fail(ret_error, "sentinel:// needs the master's name after the hosts");
	}
	if (t->kind == TARGET_CLUSTER && b.n > 0)
		return fail(ret_error, "a Cluster has no databases and no names");
	if (!parse_db(b, t))
		return fail(ret_error, "its database is not a number up to 1023");
	return 0;
}

int target_parse(const char *url, struct target *ret_target, char ret_error[256])
{
	static const struct {
		const char *scheme;
		enum target_kind kind;
		bool is_tls;
	} schemes[] = {
		{"redis://", TARGET_SERVER, false},       {"rediss://", TARGET_SERVER, true},
		{"sentinel://", TARGET_SENTINELS, false}, {"sentinels://", TARGET_SENTINELS, true},
		{"cluster://", TARGET_CLUSTER, false},    {"clusters://", TARGET_CLUSTER, true},
	};
	struct target t = {0};
	struct bytes b = bytes_str(url);
	int rc = -EINVAL;

	if (take_prefix(&b, "unix:")) {
		rc = parse_unix(b, &t, ret_error);
		goto out;
	}
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		if (!take_prefix(&b, schemes[i].scheme))
			continue;
		t.kind = schemes[i].kind;
		t.is_tls = schemes[i].is_tls;
		rc = parse_tcp(b, &t, ret_error);
		goto out;
	}
	(void)fail(ret_error, "it starts with none of redis:// rediss:// unix: sentinel:// sentinels:// cluster:// "
			      "clusters://");
out:
	if (rc == 0)
		*ret_target = t;
	target_wipe(&t);
	return rc;
}

/* --- the password's file --- */

static int read_line(int fd, char ret_line[TARGET_SECRET_MAX + 2])
{
	size_t n = 0;

	while (n < TARGET_SECRET_MAX + 1) {
		ssize_t got = read(fd, ret_line + n, TARGET_SECRET_MAX + 1 - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		n += (size_t)got;
	}
	ret_line[n] = 0;
	ret_line[strcspn(ret_line, "\r\n")] = 0;
	n = strlen(ret_line);
	return n == 0 || n > TARGET_SECRET_MAX ? -EINVAL : 0;
}

int target_load_password(struct target *t, const char *path, char ret_error[256])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY), rc = 0;
	char line[TARGET_SECRET_MAX + 2];
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		rc = -errno;
	else if (st.st_mode & 077)
		rc = -EACCES;
	else
		rc = read_line(fd, line);
	if (fd >= 0)
		close(fd);
	if (rc == 0)
		memcpy(t->password, line, strlen(line) + 1);
	else if (rc == -EACCES && fd >= 0)
		snprintf(ret_error, 256, "%.150s: others may read it (chmod 600)", path);
	else
		snprintf(ret_error, 256, "%.150s: %s", path,
			 rc == -EINVAL ? "no password in its first line" : strerror(-rc));
	sodium_memzero(line, sizeof(line));
	return rc;
}

void target_wipe(struct target *t)
{
	sodium_memzero(t, sizeof(*t));
}
