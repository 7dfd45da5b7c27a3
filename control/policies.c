#include "control/policies.h"

#include "control/changes.h"
#include "control/limits.h"
#include "core/policy.h"
#include "core/yaml.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* --- checked --- */

static int check_meaning(const char *text, char ret_wrong[POLICY_WRONG_BYTES])
{
	static const struct doc_limits limits = {.bytes = POLICY_ONE_MAX, .nodes = 256};
	struct policy *p = NULL;
	struct doc *d;
	int rc = doc_parse("policy", bytes_str(text), &limits, &d, ret_wrong, POLICY_WRONG_BYTES);

	if (rc < 0)
		return rc;
	rc = policy_read(d, doc_root(d), &p, ret_wrong, POLICY_WRONG_BYTES);
	doc_free(d);
	policy_put(p);
	return rc;
}

int policy_check(struct bytes text, char ret_policy[POLICY_ONE_MAX], char ret_wrong[POLICY_WRONG_BYTES])
{
	json_error_t error;
	json_t *root = json_loadb((const char *)text.p, text.n, JSON_REJECT_DUPLICATES, &error);
	size_t n = json_is_object(root)
			   ? json_dumpb(root, ret_policy, POLICY_ONE_MAX - 1, JSON_ENSURE_ASCII | JSON_SORT_KEYS)
			   : 0;

	json_decref(root);
	if (!root)
		snprintf(ret_wrong, POLICY_WRONG_BYTES, "it is no JSON: line %d: %.150s", error.line, error.text);
	else if (n == 0)
		snprintf(ret_wrong, POLICY_WRONG_BYTES, "it is no JSON object");
	else if (n >= POLICY_ONE_MAX)
		snprintf(ret_wrong, POLICY_WRONG_BYTES, "it has %zu bytes; at most %d", n, POLICY_ONE_MAX - 1);
	if (!root || n == 0 || n >= POLICY_ONE_MAX)
		return -EINVAL;
	ret_policy[n] = 0;
	return check_meaning(ret_policy, ret_wrong);
}

/* --- the database --- */

static int moved(struct store *s, const char *sandbox)
{
	struct change c = {.kind = CHANGE_MOVED};

	strcpy(c.sandbox, sandbox);
	return change_add(s, &c);
}

/* Collected first, since a connection runs one statement at a time. */
struct batch {
	char ids[64][SANDBOX_ID_MAX + 1];
	uint32_t count;
};

static int on_id(void *ctx, const struct store_row *row)
{
	struct batch *b = ctx;

	return store_row_text(row, 0, b->ids[b->count++], sizeof(b->ids[0])) ? 0 : -EIO;
}

static int all_moved(struct store *s, const char *team)
{
	struct batch b = {.count = 0};
	char after[SANDBOX_ID_MAX + 1] = "";
	int rc;

	do {
		b.count = 0;
		rc = store_query(s, "SELECT id FROM sandboxes WHERE team_id = $1 AND id > $2 ORDER BY id LIMIT $3",
				 on_id, &b, SQL_TEXT(team), SQL_TEXT(after), SQL_INT(ARRAY_LEN(b.ids)));
		for (uint32_t i = 0; rc >= 0 && i < b.count; i++)
			rc = moved(s, b.ids[i]);
		if (b.count > 0)
			strcpy(after, b.ids[b.count - 1]);
	} while (rc >= 0 && b.count == ARRAY_LEN(b.ids));
	return rc;
}

static int set(struct store *s, const char *team, const char *sandbox, const char *policy)
{
	int rc = team ? store_write(s, "UPDATE teams SET policy = $2 WHERE id = $1", SQL_TEXT(team), SQL_TEXT(policy))
		      : store_write(s, "UPDATE sandboxes SET policy = $2 WHERE id = $1", SQL_TEXT(sandbox),
				    SQL_TEXT(policy));

	if (rc <= 0)
		return rc < 0 ? rc : -ENOENT;
	return team ? all_moved(s, team) : moved(s, sandbox);
}

int policy_set(struct store *s, const char *team, const char *sandbox, const char *policy)
{
	int rc = store_begin(s);

	if (rc < 0)
		return rc;
	rc = store_end(s, set(s, team, sandbox, policy));
	return rc < 0 ? rc : 0;
}

static int on_policy(void *ctx, const struct store_row *row)
{
	return store_row_text(row, 0, ctx, POLICY_ONE_MAX) ? 0 : -EIO;
}

int policy_find(struct store *s, const char *team, const char *sandbox, char ret_policy[POLICY_ONE_MAX])
{
	int rc = team ? store_query(s, "SELECT policy FROM teams WHERE id = $1", on_policy, ret_policy, SQL_TEXT(team))
		      : store_query(s, "SELECT policy FROM sandboxes WHERE id = $1", on_policy, ret_policy,
				    SQL_TEXT(sandbox));

	return rc == 0 ? -ENOENT : rc < 0 ? rc : 0;
}
