#include "gateway/link_setup.h"

#include <stdlib.h>
#include <string.h>

struct link_setup *link_setup_new(void)
{
	return calloc(1, sizeof(struct link_setup));
}

void link_setup_free(struct link_setup *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; i < s->options.env_count; i++)
		free((void *)(uintptr_t)s->env[i].name.p); /* name and value are one block */
	free(s->term);
	free(s->modes);
	free(s->value);
	free(s->originator);
	free(s);
}

/* A copy that *ret_copy owns and *ret_view shows; an empty one needs no memory but has an address. */
static bool copy(struct bytes from, size_t max, uint8_t **ret_copy, struct bytes *ret_view)
{
	uint8_t *p;

	if (from.n > max)
		return false;
	p = malloc(from.n + 1);
	if (!p)
		return false;
	memcpy(p, from.p, from.n);
	p[from.n] = 0;
	free(*ret_copy);
	*ret_copy = p;
	*ret_view = bytes_of(p, from.n);
	return true;
}

bool link_setup_pty(struct link_setup *s, const struct chan_request *r)
{
	if (s->options.has_pty || !copy(r->key, LINK_TERM_MAX, &s->term, &s->options.pty.term) ||
	    !copy(r->value, LINK_MODES_MAX, &s->modes, &s->options.pty.modes))
		return false;
	s->options.has_pty = true;
	s->options.pty.columns = r->columns;
	s->options.pty.rows = r->rows;
	s->options.pty.xpixels = r->xpixels;
	s->options.pty.ypixels = r->ypixels;
	return true;
}

/* "NAME", or "PREFIX*". */
static bool pattern_matches(const char *pattern, struct bytes name)
{
	size_t n = strlen(pattern);

	if (n > 0 && pattern[n - 1] == '*')
		return name.n >= n - 1 && memcmp(name.p, pattern, n - 1) == 0;
	return bytes_is(name, pattern);
}

static bool env_is_allowed(const struct config *c, struct bytes name)
{
	static const char *const always[] = {"LANG", "LC_*", "TERM", "COLORTERM", "GIT_*"};

	for (size_t i = 0; i < ARRAY_LEN(always); i++)
		if (pattern_matches(always[i], name))
			return true;
	for (uint32_t i = 0; i < c->session.accept_env_count; i++)
		if (pattern_matches(c->session.accept_env[i], name))
			return true;
	return false;
}

bool link_setup_env(struct link_setup *s, const struct config *c, const struct chan_request *r)
{
	size_t bytes = r->key.n + r->value.n;
	struct frame_env *e = &s->env[s->options.env_count];
	uint8_t *block;

	if (!env_is_allowed(c, r->key) || s->options.env_count == FRAME_ENV_MAX ||
	    s->env_bytes + bytes > LINK_ENV_BYTES)
		return false;
	if (memchr(r->key.p, 0, r->key.n) || memchr(r->key.p, '=', r->key.n) ||
	    (r->value.n > 0 && memchr(r->value.p, 0, r->value.n)))
		return false;
	block = malloc(bytes + 1);
	if (!block)
		return false;
	memcpy(block, r->key.p, r->key.n);
	memcpy(block + r->key.n, r->value.p, r->value.n);
	e->name = bytes_of(block, r->key.n);
	e->value = bytes_of(block + r->key.n, r->value.n);
	s->options.env = s->env;
	s->options.env_count++;
	s->env_bytes += bytes;
	return true;
}

bool link_setup_start(struct link_setup *s, const struct chan_request *r)
{
	switch (r->kind) {
	case CHAN_SHELL:
		s->kind = "shell";
		return true;
	case CHAN_EXEC:
		s->kind = "exec";
		return copy(r->value, LINK_COMMAND_MAX, &s->value, &s->options.command);
	case CHAN_SUBSYSTEM:
		s->kind = "subsystem";
		return copy(r->value, 64, &s->value, &s->options.name);
	default:
		return false;
	}
}

bool link_setup_is_greeted(const struct link_setup *s)
{
	return s->options.has_pty && strcmp(s->kind, "shell") == 0;
}

bool link_setup_forward(struct link_setup *s, const struct chan_open *o)
{
	if (o->kind == CHAN_UNIX) {
		s->kind = "unix";
		return copy(o->path, LINK_PATH_MAX, &s->value, &s->options.path);
	}
	s->kind = "tcp";
	s->options.port = o->port;
	s->options.originator_port = o->originator_port;
	return copy(o->host, 255, &s->value, &s->options.host) &&
	       copy(o->originator_host, 255, &s->originator, &s->options.originator_host);
}

static bool is_sftp(const struct link_setup *s)
{
	return strcmp(s->kind, "subsystem") == 0 &&
	       (bytes_is(s->options.name, "sftp") || bytes_is(s->options.name, FRAME_SFTP_READ_ONLY));
}

bool link_setup_is_allowed(const struct link_setup *s, const struct policies *p, char ret_why[POLICY_WHY_MAX])
{
	if (strcmp(s->kind, "tcp") == 0)
		return policies_allow_connect(p, s->options.host, s->options.port, ret_why);
	if (strcmp(s->kind, "unix") == 0)
		return policies_allow_unix(p, ret_why);
	if (strcmp(s->kind, "shell") == 0)
		return policies_allow_shell(p, ret_why);
	if (strcmp(s->kind, "exec") == 0)
		return policies_allow_command(p, s->options.command, ret_why);
	return is_sftp(s) ? policies_allow_sftp(p, ret_why) : policies_allow_subsystem(p, ret_why);
}

/* Variables by which no permitted command becomes another one: GIT_SSH_COMMAND and the like do that. */
static void limit_env(struct link_setup *s)
{
	static const char *const harmless[] = {"LANG", "LC_*", "TERM", "COLORTERM", "GIT_PROTOCOL"};
	uint32_t kept = 0;

	for (uint32_t i = 0; i < s->options.env_count; i++) {
		size_t k = 0;

		while (k < ARRAY_LEN(harmless) && !pattern_matches(harmless[k], s->env[i].name))
			k++;
		if (k < ARRAY_LEN(harmless))
			s->env[kept++] = s->env[i];
		else
			free((void *)(uintptr_t)s->env[i].name.p);
	}
	s->options.env_count = kept;
}

void link_setup_limit(struct link_setup *s, const struct policies *p, char why[POLICY_WHY_MAX])
{
	if (policies_limit_commands(p))
		limit_env(s);
	if (!is_sftp(s) || policies_allow_writing(p, why))
		return;
	s->options.name = bytes_str(FRAME_SFTP_READ_ONLY);
	s->options.message = bytes_str(why);
}

static struct bytes next_word(struct bytes *rest)
{
	size_t from = 0, to;

	while (from < rest->n && rest->p[from] == ' ')
		from++;
	to = from;
	while (to < rest->n && rest->p[to] != ' ')
		to++;
	struct bytes word = bytes_of(rest->p + from, to - from);

	rest->p += to;
	rest->n -= to;
	return word;
}

bool command_is_legacy_scp(struct bytes command)
{
	struct bytes rest = command, word = next_word(&rest);

	if (!bytes_is(word, "scp") && !bytes_is(word, "/usr/bin/scp"))
		return false;
	while ((word = next_word(&rest)).n >= 2 && word.p[0] == '-' && word.p[1] != '-')
		for (size_t i = 1; i < word.n; i++)
			if (word.p[i] == 't' || word.p[i] == 'f')
				return true;
	return false;
}

bool path_is_good(struct bytes path)
{
	return path.n > 0 && path.n <= LINK_PATH_MAX && !memchr(path.p, 0, path.n);
}
