/*
 * procd/env.c - see env.h.
 */
#include "procd/env.h"

#include "procd/limits.h"
#include "procd/session.h"

#include <arpa/inet.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

/* What we add: TERM, two passwd fields twice, PATH, addresses, the agent. */
#define OWN_MAX 16
#define OWN_BYTES (4 * PATH_MAX + 4096)

struct env {
	char **list;
	uint32_t count, count_max;
	char *at, *end;
};

bool env_is_valid(const struct frame_open_options *o)
{
	size_t total = 0;

	for (uint32_t i = 0; i < o->env_count; i++) {
		const struct bytes name = o->env[i].name, value = o->env[i].value;

		if (name.n == 0 || memchr(name.p, 0, name.n) || memchr(name.p, '=', name.n))
			return false;
		if (value.n > 0 && memchr(value.p, 0, value.n))
			return false;
		total += name.n + value.n + 2;
	}
	return total <= ENV_BYTES_MAX;
}

/* Adds "name=value"; an earlier one of that name gives way. What does not fit is left out. */
static void put(struct env *e, struct bytes name, struct bytes value)
{
	uint32_t i;

	if (e->count == e->count_max || name.n + value.n + 2 > (size_t)(e->end - e->at))
		return;
	for (i = 0; i < e->count; i++)
		if (strncmp(e->list[i], (const char *)name.p, name.n) == 0 && e->list[i][name.n] == '=')
			break;
	e->list[i] = e->at;
	if (i == e->count)
		e->count++;
	memcpy(e->at, name.p, name.n);
	e->at += name.n;
	*e->at++ = '=';
	if (value.n > 0)
		memcpy(e->at, value.p, value.n);
	e->at += value.n;
	*e->at++ = 0;
}

static void put_text(struct env *e, const char *name, const char *value)
{
	put(e, bytes_str(name), bytes_str(value));
}

/* "1.2.3.4:5" or "[::1]:5" to "1.2.3.4 5"; false for anything else. */
static bool split_address(const char *text, char ret_spaced[128])
{
	const char *colon = strrchr(text, ':');
	size_t n;

	if (!colon || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1))
		return false;
	n = (size_t)(colon - text);
	if (n > 2 && text[0] == '[' && text[n - 1] == ']') {
		text++;
		n -= 2;
	}
	return n > 0 && snprintf(ret_spaced, 128, "%.*s %s", (int)n, text, colon + 1) < 128;
}

/* Programs ask these whether they run over SSH, and from where. */
static void put_connection(struct env *e, const struct session *s)
{
	char client[128], server[128], line[300];

	if (!split_address(s->ticket.client, client))
		snprintf(client, sizeof(client), "%s 0", s->ticket.client[0] ? s->ticket.client : "UNKNOWN");
	if (!split_address(s->address, server))
		strcpy(server, "UNKNOWN 0");
	snprintf(line, sizeof(line), "%s %s", client, strrchr(server, ' ') + 1);
	put_text(e, "SSH_CLIENT", line);
	snprintf(line, sizeof(line), "%s %s", client, server);
	put_text(e, "SSH_CONNECTION", line);
}

char **env_make(const struct session *s, const struct frame_open_options *o, const char *tty, const char *agent)
{
	size_t bytes = OWN_BYTES + strlen(s->options->path), slots = (size_t)o->env_count + OWN_MAX + 1;
	struct env e = {.count_max = (uint32_t)slots - 1};
	const char *tz = getenv("TZ");

	for (uint32_t i = 0; i < o->env_count; i++)
		bytes += o->env[i].name.n + o->env[i].value.n + 2;
	e.list = calloc(1, slots * sizeof(char *) + bytes);
	if (!e.list)
		return NULL;
	e.at = (char *)(e.list + slots);
	e.end = e.at + bytes;
	for (uint32_t i = 0; i < o->env_count; i++)
		put(&e, o->env[i].name, o->env[i].value);
	put_text(&e, "USER", s->user.name);
	put_text(&e, "LOGNAME", s->user.name);
	put_text(&e, "HOME", s->user.home);
	put_text(&e, "PATH", s->options->path);
	put_text(&e, "SHELL", s->user.shell);
	if (tz && strlen(tz) < 256)
		put_text(&e, "TZ", tz);
	put_connection(&e, s);
	if (tty) {
		put(&e, bytes_str("TERM"), o->pty.term);
		put_text(&e, "SSH_TTY", tty);
	}
	if (agent)
		put_text(&e, "SSH_AUTH_SOCK", agent);
	return e.list;
}

void env_free(char **env)
{
	free(env);
}
