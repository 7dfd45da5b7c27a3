/*
 * core/policy.c - see policy.h.
 */
#include "core/policy.h"

#include "core/utf8.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const policy_scopes[] = {"none", "loopback", "all", NULL};
const char *const policy_sftp_scopes[] = {"none", "read_only", "full", NULL};
const char *const policy_no_yes[] = {"no", "yes", NULL};

/* From first to last, both in it. */
struct ports {
	uint16_t first, last;
};

struct policy {
	_Atomic uint32_t refs;
	uint8_t forward_tcp, forward_listen, sftp;
	bool forward_unix, agent, jump;
	bool is_sftp_only; /* said, or implied by read_only */
	uint8_t forward_ports_count, listen_ports_count, commands_count;
	uint32_t idle_timeout_s, idle_warning_s;
	char *motd; /* NULL: none */
	struct ports forward_ports[POLICY_PORTS_MAX], listen_ports[POLICY_PORTS_MAX];
	char commands[]; /* each ended by NUL */
};

/* --- made --- */

static bool ports_parse(const char *text, struct ports *ret)
{
	unsigned long number[2];
	size_t count = 0;

	do {
		char *end;

		if (count == 2 || text[0] < '1' || text[0] > '9')
			return false;
		number[count] = strtoul(text, &end, 10);
		if (number[count++] > UINT16_MAX || (*end != 0 && *end != '-'))
			return false;
		text = *end ? end + 1 : NULL;
	} while (text);
	if (number[0] > number[count - 1])
		return false;
	*ret = (struct ports){(uint16_t)number[0], (uint16_t)number[count - 1]};
	return true;
}

bool policy_ports_are_good(const char *text)
{
	struct ports unused;

	return ports_parse(text, &unused);
}

bool policy_command_is_good(const char *text)
{
	size_t n = strlen(text);

	if (n == 0 || n >= POLICY_COMMAND_BYTES || text[0] == '*')
		return false;
	for (size_t i = 0; i < n; i++)
		if (text[i] < ' ' || text[i] > '~')
			return false;
	return true;
}

static uint8_t ports_take(const char (*texts)[POLICY_PORTS_BYTES], uint32_t count, struct ports *ret)
{
	ASSERT(count <= POLICY_PORTS_MAX);
	for (uint32_t i = 0; i < count; i++) {
		bool is_good = ports_parse(texts[i], &ret[i]);

		ASSERT(is_good);
	}
	return (uint8_t)count;
}

static void commands_take(const struct policy_values *v, struct policy *p)
{
	char *to = p->commands;

	ASSERT(v->commands_count <= POLICY_COMMANDS_MAX);
	p->commands_count = (uint8_t)v->commands_count;
	for (uint32_t i = 0; i < v->commands_count; i++)
		to = stpcpy(to, v->commands[i]) + 1;
}

struct policy *policy_new(const struct policy_values *v)
{
	size_t bytes = 0;
	struct policy *p;

	for (uint32_t i = 0; i < v->commands_count; i++)
		bytes += strlen(v->commands[i]) + 1;
	p = calloc(1, sizeof(*p) + bytes);
	if (!p)
		return NULL;
	p->refs = 1;
	p->forward_tcp = (uint8_t)v->forward_tcp;
	p->forward_listen = (uint8_t)v->forward_listen;
	p->forward_unix = v->forward_unix;
	p->agent = v->agent;
	p->jump = v->jump;
	p->sftp = (uint8_t)v->sftp;
	/* A shell, or whatever listens in the sandbox, could write what sftp may not. */
	p->is_sftp_only = v->sftp_only || (v->sftp == POLICY_SFTP_READ_ONLY && v->commands_count == 0);
	p->idle_timeout_s = v->idle_timeout_s;
	p->idle_warning_s = v->idle_warning_s;
	p->forward_ports_count = ports_take(v->forward_ports, v->forward_ports_count, p->forward_ports);
	p->listen_ports_count = ports_take(v->listen_ports, v->listen_ports_count, p->listen_ports);
	commands_take(v, p);
	return p;
}

struct policy *policy_get(struct policy *p)
{
	if (p)
		atomic_fetch_add(&p->refs, 1);
	return p;
}

void policy_put(struct policy *p)
{
	if (!p || atomic_fetch_sub(&p->refs, 1) != 1)
		return;
	free(p->motd);
	free(p);
}

int policy_set_motd(struct policy *p, const char *text)
{
	const uint8_t *from = (const uint8_t *)text;
	size_t left = strlen(text);
	char *to = malloc(left + 1);
	uint32_t code;

	if (!to)
		return -ENOMEM;
	free(p->motd);
	p->motd = to;
	for (size_t n; left > 0; from += n, left -= n) {
		n = utf8_at(from, left, &code);
		if (n == 0 || (code < ' ' && code != '\n' && code != '\t') || (code >= 0x7f && code <= 0x9f)) {
			*to++ = '?';
			n = n ? n : 1;
		} else {
			memcpy(to, from, n);
			to += n;
		}
	}
	*to = 0;
	return 0;
}

/* --- whose it is --- */

enum layer { LAYER_REGION, LAYER_TEAM, LAYER_SANDBOX };
#define LAYERS 3

static const struct policy *layer_of(const struct policies *p, enum layer l)
{
	return l == LAYER_REGION ? p->region : l == LAYER_TEAM ? p->team : p->sandbox;
}

/* "this sandbox's policy forbids WHAT (FIELD); ask …". Returns false, for who refuses. */
static bool refuse(const struct policies *p, enum layer l, const char *what, const char *field, char *ret_why)
{
	if (l == LAYER_REGION)
		snprintf(ret_why, POLICY_WHY_MAX, "this gateway's policy forbids %s (policy.%s); ask its operator",
			 what, field);
	else if (l == LAYER_TEAM)
		snprintf(ret_why, POLICY_WHY_MAX, "the policy of team %s forbids %s (%s); ask its administrators",
			 p->team_id ? p->team_id : "?", what, field);
	else
		snprintf(ret_why, POLICY_WHY_MAX, "this sandbox's policy forbids %s (%s); ask its owner", what, field);
	return false;
}

static const char *sftp_only_field(const struct policy *p)
{
	return p->sftp == POLICY_SFTP_READ_ONLY ? "sftp: read_only" : "sftp_only";
}

/* --- questions --- */

/* All that is no file transfer. */
static bool allow_beside_sftp(const struct policies *p, const char *what, char *ret_why)
{
	for (enum layer l = 0; l < LAYERS; l++) {
		const struct policy *q = layer_of(p, l);

		if (q && q->is_sftp_only)
			return refuse(p, l, what, sftp_only_field(q), ret_why);
	}
	return true;
}

static bool ports_hold(const struct ports *ports, uint32_t count, uint32_t port)
{
	for (uint32_t i = 0; i < count; i++)
		if (port >= ports[i].first && port <= ports[i].last)
			return true;
	return count == 0;
}

bool policies_allow_connect(const struct policies *p, struct bytes host, uint32_t port, char ret_why[POLICY_WHY_MAX])
{
	bool is_inside = host_is_loopback(host);
	char what[64];

	if (!allow_beside_sftp(p, "port forwarding", ret_why))
		return false;
	for (enum layer l = 0; l < LAYERS; l++) {
		const struct policy *q = layer_of(p, l);

		if (!q)
			continue;
		if (q->forward_tcp == FORWARD_NONE)
			return refuse(p, l, "port forwarding", "forward_tcp: none", ret_why);
		if (q->forward_tcp == FORWARD_LOOPBACK && !is_inside)
			return refuse(p, l, "forwarding beyond the sandbox itself (localhost)", "forward_tcp: loopback",
				      ret_why);
		if (ports_hold(q->forward_ports, q->forward_ports_count, port))
			continue;
		snprintf(what, sizeof(what), "forwarding to port %u", port);
		return refuse(p, l, what, "forward_ports", ret_why);
	}
	return true;
}

bool policies_allow_listen(const struct policies *p, uint32_t port, char ret_why[POLICY_WHY_MAX])
{
	char what[64];

	if (!allow_beside_sftp(p, "remote port forwarding", ret_why))
		return false;
	for (enum layer l = 0; l < LAYERS; l++) {
		const struct policy *q = layer_of(p, l);

		if (!q)
			continue;
		if (q->forward_listen == FORWARD_NONE)
			return refuse(p, l, "remote port forwarding", "forward_listen: none", ret_why);
		if (ports_hold(q->listen_ports, q->listen_ports_count, port))
			continue;
		snprintf(what, sizeof(what), port ? "listening at port %u" : "listening at a port of any number", port);
		return refuse(p, l, what, "listen_ports", ret_why);
	}
	return true;
}

bool policies_listen_anywhere(const struct policies *p)
{
	for (enum layer l = 0; l < LAYERS; l++) {
		const struct policy *q = layer_of(p, l);

		if (q && q->forward_listen != FORWARD_ALL)
			return false;
	}
	return true;
}

/* What is allowed or not, and no more. */
static bool allow_fact(const struct policies *p, size_t offset, const char *what, const char *field, char *ret_why)
{
	if (!allow_beside_sftp(p, what, ret_why))
		return false;
	for (enum layer l = 0; l < LAYERS; l++) {
		const struct policy *q = layer_of(p, l);

		if (q && !*(const bool *)((const char *)q + offset))
			return refuse(p, l, what, field, ret_why);
	}
	return true;
}

bool policies_allow_unix(const struct policies *p, char ret_why[POLICY_WHY_MAX])
{
	return allow_fact(p, offsetof(struct policy, forward_unix), "forwarding of Unix sockets", "forward_unix: no",
			  ret_why);
}

bool policies_allow_agent(const struct policies *p, char ret_why[POLICY_WHY_MAX])
{
	return allow_fact(p, offsetof(struct policy, agent), "agent forwarding", "agent: no", ret_why);
}

bool policies_allow_jump(const struct policies *p, char ret_why[POLICY_WHY_MAX])
{
	return allow_fact(p, offsetof(struct policy, jump), "jumping to another sandbox", "jump: no", ret_why);
}

/* --- programs --- */

/* What `*` stands for: nothing that a shell reads as anything but a part of a word, or a blank between words. */
static bool is_plain(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != 0 && strchr(" _-./:=@,+%", c));
}

/* The whole command, with `*` for any number of plain characters. Bounded by the lengths of both multiplied. */
static bool command_matches(const char *pattern, struct bytes command)
{
	const char *star = NULL;
	size_t at = 0, star_at = 0;

	while (at < command.n) {
		if (*pattern == '*') {
			star = pattern++;
			star_at = at;
		} else if (*pattern && (uint8_t)*pattern == command.p[at]) {
			pattern++;
			at++;
		} else if (star && is_plain(command.p[star_at])) {
			/* The last `*` takes one more. What it has taken stays plain, so an earlier one need not take more. */
			pattern = star + 1;
			at = ++star_at;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == 0;
}

static bool is_listed(const struct policy *q, struct bytes command)
{
	const char *pattern = q->commands;

	if (command.n > POLICY_COMMAND_MAX)
		return false;
	for (uint32_t i = 0; i < q->commands_count; i++, pattern += strlen(pattern) + 1)
		if (command_matches(pattern, command))
			return true;
	return false;
}

bool policies_limit_commands(const struct policies *p)
{
	for (enum layer l = 0; l < LAYERS; l++) {
		const struct policy *q = layer_of(p, l);

		if (q && q->commands_count > 0)
			return true;
	}
	return false;
}

static bool allow_no_limits(const struct policies *p, const char *what, char *ret_why)
{
	if (!allow_beside_sftp(p, what, ret_why))
		return false;
	for (enum layer l = 0; l < LAYERS; l++) {
		const struct policy *q = layer_of(p, l);

		if (q && q->commands_count > 0)
			return refuse(p, l, what, "commands", ret_why);
	}
	return true;
}

bool policies_allow_shell(const struct policies *p, char ret_why[POLICY_WHY_MAX])
{
	return allow_no_limits(p, "a shell", ret_why);
}

bool policies_allow_command(const struct policies *p, struct bytes command, char ret_why[POLICY_WHY_MAX])
{
	if (!allow_beside_sftp(p, "commands", ret_why))
		return false;
	for (enum layer l = 0; l < LAYERS; l++) {
		const struct policy *q = layer_of(p, l);

		if (q && q->commands_count > 0 && !is_listed(q, command))
			return refuse(p, l, "this command", "commands", ret_why);
	}
	return true;
}

bool policies_allow_subsystem(const struct policies *p, char ret_why[POLICY_WHY_MAX])
{
	return allow_no_limits(p, "this subsystem", ret_why);
}

bool policies_allow_sftp(const struct policies *p, char ret_why[POLICY_WHY_MAX])
{
	for (enum layer l = 0; l < LAYERS; l++) {
		const struct policy *q = layer_of(p, l);

		if (q && q->sftp == POLICY_SFTP_NONE)
			return refuse(p, l, "file transfer", "sftp: none", ret_why);
	}
	return true;
}

bool policies_allow_writing(const struct policies *p, char ret_why[POLICY_WHY_MAX])
{
	for (enum layer l = 0; l < LAYERS; l++) {
		const struct policy *q = layer_of(p, l);

		if (q && q->sftp != POLICY_SFTP_FULL)
			return refuse(p, l, "writing files", "sftp: read_only", ret_why);
	}
	return true;
}

const char *policies_motd(const struct policies *p)
{
	return p->sandbox && p->sandbox->motd ? p->sandbox->motd : "";
}

/* --- rest --- */

void policies_idle(const struct policies *p, struct idle_limit *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (enum layer l = 0; l < LAYERS; l++) {
		const struct policy *q = layer_of(p, l);

		if (!q || q->idle_timeout_s == 0)
			continue;
		if (q->idle_warning_s > ret->warning_s)
			ret->warning_s = q->idle_warning_s;
		if (ret->timeout_s > 0 && ret->timeout_s <= q->idle_timeout_s)
			continue;
		ret->timeout_s = q->idle_timeout_s;
		if (l == LAYER_REGION)
			snprintf(ret->whose, sizeof(ret->whose), "this gateway's policy (policy.idle_timeout_s)");
		else if (l == LAYER_TEAM)
			snprintf(ret->whose, sizeof(ret->whose), "the policy of team %s (idle_timeout_s)",
				 p->team_id ? p->team_id : "?");
		else
			snprintf(ret->whose, sizeof(ret->whose), "this sandbox's policy (idle_timeout_s)");
	}
	if (ret->warning_s > ret->timeout_s / 2)
		ret->warning_s = ret->timeout_s / 2;
}

bool host_is_loopback(struct bytes host)
{
	char text[INET6_ADDRSTRLEN + 1];
	struct in_addr v4;
	struct in6_addr v6;

	if (host.n == 0 || bytes_is(host, "localhost"))
		return true;
	if (!bytes_copy_str(host, text, sizeof(text)))
		return false;
	if (inet_pton(AF_INET, text, &v4) == 1)
		return (ntohl(v4.s_addr) >> 24) == 127;
	return inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}
