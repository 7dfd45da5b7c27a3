/*
 * core/policy_read.c - a policy from a map of the directory file or of a control plane's answer.
 *
 * The values are checked as settings are, against a table of the same form: policy.* of the settings file and a policy anywhere
 * else take the same.
 */
#include "core/limits.h"
#include "core/policy.h"
#include "core/settings.h"
#include "core/yaml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct reading {
	struct settings settings; /* first: the table's offsets start here */
	struct policy_values v;
};

#define AT(field) .offset = offsetof(struct reading, v.field), .bytes = sizeof(((struct reading *)0)->v.field)
#define CHOICE(field, names) .type = TYPE_CHOICE, AT(field), .choices = (names)
#define SECONDS(field) .type = TYPE_U32, AT(field), .unit = "seconds", .max = 31536000
#define LIST(field, test)                                                                           \
	.type = TYPE_LIST, AT(field[0]), .count_offset = offsetof(struct reading, v.field##_count), \
	.most = ARRAY_LEN(((struct reading *)0)->v.field), .is_good = (test)

static const struct setting fields[] = {
	{"forward_tcp", CHOICE(forward_tcp, policy_scopes), .initial = "all"},
	{"forward_ports", LIST(forward_ports, policy_ports_are_good), .unit = POLICY_PORTS_UNIT},
	{"forward_listen", CHOICE(forward_listen, policy_scopes), .initial = "all"},
	{"listen_ports", LIST(listen_ports, policy_ports_are_good), .unit = POLICY_PORTS_UNIT},
	{"forward_unix", CHOICE(forward_unix, policy_no_yes), .initial = "yes"},
	{"agent", CHOICE(agent, policy_no_yes), .initial = "yes"},
	{"jump", CHOICE(jump, policy_no_yes), .initial = "yes"},
	{"commands", LIST(commands, policy_command_is_good), .unit = POLICY_COMMAND_UNIT},
	{"sftp", CHOICE(sftp, policy_sftp_scopes), .initial = "full"},
	{"sftp_only", CHOICE(sftp_only, policy_no_yes), .initial = "no"},
	{"idle_timeout_s", SECONDS(idle_timeout_s), .min = 1, .zero = "never", .initial = "0"},
	{"idle_warning_s", SECONDS(idle_warning_s), .initial = "60"},
};

static const char *const no_sections[] = {NULL};

static const struct setting_table table = {
	.program = "ringgate",
	.settings = fields,
	.count = ARRAY_LEN(fields),
	.sections = no_sections,
};

static int unknown_key(const struct doc *d, const struct doc_node *k, char *ret_error, size_t error_bytes)
{
	char known[256] = "", shown[DOC_SHOW_BYTES];

	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		text_add(known, sizeof(known), "%s%s", i ? ", " : "", fields[i].key);
	return doc_fail(d, k, ret_error, error_bytes, "policy: unknown key '%s'; known here: %s",
			doc_show(doc_text(d, k), shown), known);
}

/* true and false, as JSON has them, besides yes and no. */
static const char *text_of(const struct doc *d, const struct setting *s, const struct doc_node *n)
{
	const char *text = doc_text(d, n);

	if (s->type != TYPE_CHOICE || s->choices != policy_no_yes || !n->is_plain)
		return text;
	return strcmp(text, "true") == 0 ? "yes" : strcmp(text, "false") == 0 ? "no" : text;
}

static int field_read(struct reading *r, const struct doc *d, const struct setting *s, const struct doc_node *value,
		      char *ret_error, size_t error_bytes)
{
	const char *texts[POLICY_COMMANDS_MAX > POLICY_PORTS_MAX ? POLICY_COMMANDS_MAX : POLICY_PORTS_MAX];
	enum doc_kind kind = s->type == TYPE_LIST ? DOC_LIST : DOC_SCALAR;
	char why[SETTING_WHY_MAX];
	size_t count = 0;

	if (value->kind != kind)
		return doc_fail(d, value, ret_error, error_bytes, "policy: %s: %s where %s is expected", s->key,
				doc_kind_name(value), doc_kind_name(&(struct doc_node){.kind = (uint8_t)kind}));
	/* An empty list reads as "nothing" and as "no limit": neither is guessed. */
	if (kind == DOC_LIST && value->count == 0)
		return doc_fail(d, value, ret_error, error_bytes,
				"policy: %s is empty: leave it out for no limit; to forbid all there are "
				"forward_tcp: none, forward_listen: none and sftp_only: yes",
				s->key);
	if (kind == DOC_LIST && value->count > ARRAY_LEN(texts))
		return doc_fail(d, value, ret_error, error_bytes, "policy: %s: at most %zu entries", s->key, s->most);
	if (kind == DOC_SCALAR)
		texts[count++] = text_of(d, s, value);
	for (const struct doc_node *n = kind == DOC_LIST ? doc_first(d, value) : NULL; n; n = doc_next(d, n)) {
		if (n->kind != DOC_SCALAR)
			return doc_fail(d, n, ret_error, error_bytes, "policy: %s: %s where a text is expected", s->key,
					doc_kind_name(n));
		texts[count++] = doc_text(d, n);
	}
	if (setting_apply(&r->settings, s, texts, count, why) == 0)
		return 0;
	return doc_fail(d, value, ret_error, error_bytes, "policy: %s: %s", s->key, why);
}

static int map_read(struct reading *r, const struct doc *d, const struct doc_node *map, char *ret_error,
		    size_t error_bytes)
{
	const struct doc_node *value;
	int rc = 0;

	if (map->kind != DOC_MAP)
		return doc_fail(d, map, ret_error, error_bytes, "policy: %s where a map is expected",
				doc_kind_name(map));
	settings_defaults(&r->settings, &table);
	for (const struct doc_node *k = doc_first(d, map); k && rc == 0; k = doc_next(d, value)) {
		const struct setting *s = setting_find(&table, doc_text(d, k));

		value = doc_next(d, k);
		rc = s ? field_read(r, d, s, value, ret_error, error_bytes) : unknown_key(d, k, ret_error, error_bytes);
	}
	return rc;
}

int policy_read(const struct doc *doc, const struct doc_node *map, struct policy **ret_policy, char *ret_error,
		size_t error_bytes)
{
	struct reading *r = calloc(1, sizeof(*r));
	struct policy *p;
	int rc = r ? map_read(r, doc, map, ret_error, error_bytes) : -ENOMEM;

	if (rc == 0) {
		p = policy_new(&r->v);
		if (p)
			*ret_policy = p;
		else
			rc = -ENOMEM;
	}
	if (rc == -ENOMEM)
		snprintf(ret_error, error_bytes, "out of memory");
	free(r);
	return rc;
}

/* JSON is YAML. Two policies are some 150 nodes. */
static const struct doc_limits text_limits = {.bytes = POLICY_TEXT_MAX, .nodes = 512};

/* It hangs on the sandbox's policy, which forbids nothing if there was none. */
static int motd_read(const struct doc *d, const struct doc_node *value, struct policy **sandbox, char *ret_error,
		     size_t error_bytes)
{
	static const struct doc_node no_fields = {.kind = DOC_MAP};
	int rc = 0;

	if (value->kind != DOC_SCALAR)
		return doc_fail(d, value, ret_error, error_bytes, "motd: %s where a text is expected",
				doc_kind_name(value));
	if (!*sandbox)
		rc = policy_read(d, &no_fields, sandbox, ret_error, error_bytes);
	if (rc == 0)
		rc = policy_set_motd(*sandbox, doc_text(d, value));
	return rc;
}

static int both_read(const struct doc *d, struct policy **both, char *ret_error, size_t error_bytes)
{
	const struct doc_node *root = doc_root(d), *value, *motd = NULL;
	int rc = 0;

	if (!root || root->kind != DOC_MAP)
		return doc_fail(d, root, ret_error, error_bytes, "no map of policies");
	for (const struct doc_node *k = doc_first(d, root); k && rc == 0; k = doc_next(d, value)) {
		bool is_team = strcmp(doc_text(d, k), "team") == 0;

		value = doc_next(d, k);
		if (strcmp(doc_text(d, k), "motd") == 0) {
			motd = value;
			continue;
		}
		if (!is_team && strcmp(doc_text(d, k), "sandbox") != 0)
			return doc_fail(d, k, ret_error, error_bytes, "no policy of a team or a sandbox");
		rc = policy_read(d, value, &both[is_team], ret_error, error_bytes);
	}
	return motd && rc == 0 ? motd_read(d, motd, &both[0], ret_error, error_bytes) : rc;
}

int policies_read(const char *text, struct policy **ret_team, struct policy **ret_sandbox, char *ret_error,
		  size_t error_bytes)
{
	struct policy *both[2] = {NULL, NULL};
	struct doc *d;
	int rc = 0;

	if (text[0]) {
		rc = doc_parse("policy", bytes_str(text), &text_limits, &d, ret_error, error_bytes);
		if (rc == 0) {
			rc = both_read(d, both, ret_error, error_bytes);
			doc_free(d);
		}
	}
	if (rc < 0) {
		policy_put(both[0]);
		policy_put(both[1]);
		return rc;
	}
	*ret_sandbox = both[0];
	*ret_team = both[1];
	return 0;
}
