/*
 * control/commands.c - users, teams, memberships, tokens and imported sandboxes from the command line.
 */
#include "control/commands.h"

#include "control/jwt.h"
#include "control/people.h"
#include "control/policies.h"
#include "control/sandboxes.h"
#include "core/address.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

__attribute__((format(printf, 3, 4))) static int fail(char error[CONFIG_ERROR_BYTES], int rc, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(error, CONFIG_ERROR_BYTES, format, ap);
	va_end(ap);
	return rc;
}

/* --- options --- */

static int need_member(const char *name, const char *value, char error[CONFIG_ERROR_BYTES])
{
	if (!value)
		return fail(error, -EINVAL, "--%s is missing", name);
	if (!member_id_is_good(bytes_str(value)))
		return fail(error, -EINVAL, "--%s: 1 to %d letters, digits, _ and - are expected", name, USER_ID_MAX);
	return 0;
}

static int need_sandbox(const char *value, char error[CONFIG_ERROR_BYTES])
{
	if (!value)
		return fail(error, -EINVAL, "--id is missing");
	if (!sandbox_id_is_good(bytes_str(value)))
		return fail(error, -EINVAL, "--id: 1 to %d small letters, digits and inner hyphens are expected",
			    SANDBOX_ID_MAX);
	return 0;
}

static int need_both(const struct command_options *o, char error[CONFIG_ERROR_BYTES])
{
	int rc = need_member("user", o->user, error);

	return rc < 0 ? rc : need_member("team", o->team, error);
}

/* --- running one --- */

typedef int work_fn(struct store *s, const struct command_options *o, char *error);

static int with_store(const struct config *c, const struct command_options *o, work_fn *work, char *error)
{
	struct store_pool *pool;
	struct store *s;
	int rc = store_pool_new(c->database, &pool, error);

	if (rc < 0)
		return rc;
	s = store_take(pool);
	if (!s) {
		store_pool_free(pool);
		return fail(error, -EIO, "the database does not answer");
	}
	rc = work(s, o, error);
	store_give(pool, s);
	store_pool_free(pool);
	if (rc < 0 && !error[0])
		fail(error, rc, "the database failed: %s", strerror(-rc));
	return rc < 0 ? rc : 0;
}

static int print_row(void *ctx, const struct store_row *row)
{
	for (uint32_t i = 0; i < row->count; i++)
		printf("%s%s", i ? "\t" : "", row->columns[i] ? row->columns[i] : "");
	putchar('\n');
	return 0;
}

static int print_all(struct store *s, const char *sql)
{
	return store_exec(s, sql, NULL, 0, print_row, NULL);
}

/* --- users, teams, members --- */

static int user_add_work(struct store *s, const struct command_options *o, char *error)
{
	int rc = user_add(s, o->user, o->team);

	return rc == -EEXIST ? fail(error, rc, "there is a user %s already", o->user) : rc;
}

static int run_user_add(const struct config *c, const struct command_options *o, char *error)
{
	int rc = need_member("user", o->user, error);

	if (rc == 0 && o->team)
		rc = need_member("team", o->team, error);
	return rc < 0 ? rc : with_store(c, o, user_add_work, error);
}

static int user_list_work(struct store *s, const struct command_options *o, char *error)
{
	return print_all(s, "SELECT id FROM users ORDER BY created_at, id");
}

static int run_user_list(const struct config *c, const struct command_options *o, char *error)
{
	return with_store(c, o, user_list_work, error);
}

static int user_remove_work(struct store *s, const struct command_options *o, char *error)
{
	int rc = user_remove(s, o->user);

	return rc == -ENOENT ? fail(error, rc, "there is no user %s", o->user) : rc;
}

static int run_user_remove(const struct config *c, const struct command_options *o, char *error)
{
	int rc = need_member("user", o->user, error);

	return rc < 0 ? rc : with_store(c, o, user_remove_work, error);
}

static int team_add_work(struct store *s, const struct command_options *o, char *error)
{
	int rc = team_add(s, o->team);

	return rc == -EEXIST ? fail(error, rc, "there is a team %s already", o->team) : rc;
}

static int run_team_add(const struct config *c, const struct command_options *o, char *error)
{
	int rc = need_member("team", o->team, error);

	return rc < 0 ? rc : with_store(c, o, team_add_work, error);
}

static int team_list_work(struct store *s, const struct command_options *o, char *error)
{
	return print_all(s, "SELECT id FROM teams ORDER BY created_at, id");
}

static int run_team_list(const struct config *c, const struct command_options *o, char *error)
{
	return with_store(c, o, team_list_work, error);
}

static int member_add_work(struct store *s, const struct command_options *o, char *error)
{
	int rc = member_add(s, o->user, o->team);

	if (rc == -EEXIST)
		return fail(error, rc, "%s is in team %s already", o->user, o->team);
	return rc == -ENOENT ? fail(error, rc, "there is no user %s or no team %s", o->user, o->team) : rc;
}

static int run_member_add(const struct config *c, const struct command_options *o, char *error)
{
	int rc = need_both(o, error);

	return rc < 0 ? rc : with_store(c, o, member_add_work, error);
}

static int member_remove_work(struct store *s, const struct command_options *o, char *error)
{
	int rc = member_remove(s, o->user, o->team);

	return rc == -ENOENT ? fail(error, rc, "%s is not in team %s", o->user, o->team) : rc;
}

static int run_member_remove(const struct config *c, const struct command_options *o, char *error)
{
	int rc = need_both(o, error);

	return rc < 0 ? rc : with_store(c, o, member_remove_work, error);
}

static int member_list_work(struct store *s, const struct command_options *o, char *error)
{
	return print_all(s, "SELECT team_id, user_id FROM members ORDER BY team_id, user_id");
}

static int run_member_list(const struct config *c, const struct command_options *o, char *error)
{
	return with_store(c, o, member_list_work, error);
}

/* --- tokens --- */

static int token_create_work(struct store *s, const struct command_options *o, char *error)
{
	struct token t = {0};
	char text[TOKEN_CHARS + 1];
	int rc;

	strcpy(t.user, o->user);
	snprintf(t.name, sizeof(t.name), "%s", o->name ? o->name : "");
	if (o->expires)
		t.expires_at = store_now_ms() + strtoll(o->expires, NULL, 10) * 24 * 3600 * 1000;
	rc = token_create(s, &t, text);
	if (rc == -ENOENT)
		return fail(error, rc, "there is no user %s: ringgate-control user add --user %s", o->user, o->user);
	if (rc == 0)
		puts(text);
	return rc;
}

static int run_token_create(const struct config *c, const struct command_options *o, char *error)
{
	int rc = need_member("user", o->user, error);

	if (rc == 0 && o->name && strlen(o->name) > TOKEN_NAME_MAX)
		return fail(error, -EINVAL, "--name: at most %d bytes", TOKEN_NAME_MAX);
	if (rc == 0 && o->expires &&
	    (!o->expires[0] || strlen(o->expires) > 5 || strspn(o->expires, "0123456789") != strlen(o->expires)))
		return fail(error, -EINVAL, "--expires-days: a number of days is expected");
	return rc < 0 ? rc : with_store(c, o, token_create_work, error);
}

static int token_list_work(struct store *s, const struct command_options *o, char *error)
{
	return print_all(s, "SELECT id, user_id, name FROM tokens ORDER BY created_at, id");
}

static int run_token_list(const struct config *c, const struct command_options *o, char *error)
{
	return with_store(c, o, token_list_work, error);
}

static int token_revoke_work(struct store *s, const struct command_options *o, char *error)
{
	int rc = token_revoke(s, o->id);

	return rc == -ENOENT ? fail(error, rc, "there is no token %s (token list names them)", o->id) : rc;
}

static int run_token_revoke(const struct config *c, const struct command_options *o, char *error)
{
	int rc = need_member("id", o->id, error);

	return rc < 0 ? rc : with_store(c, o, token_revoke_work, error);
}

/* --- sandboxes --- */

static int import_work(struct store *s, const struct command_options *o, char *error)
{
	struct sandbox b = {.auto_resume = !o->is_auto_resume_off};
	int rc;

	strcpy(b.id, o->id);
	strcpy(b.team, o->team);
	if (o->state && !sandbox_state_parse(o->state, &b.state))
		return fail(error, -EINVAL, "--state: running, paused, resuming or stopped is expected");
	snprintf(b.procd_url, sizeof(b.procd_url), "%s%s", strncmp(o->procd, "unix:", 5) == 0 ? "" : "tcp://",
		 o->procd);
	strcpy(b.procd_key, o->procd_key);
	rc = sandbox_import(s, &b);
	if (rc == -EEXIST)
		return fail(error, rc, "there is a sandbox %s, of another team or of a driver", o->id);
	return rc == -ENOENT ? fail(error, rc, "there is no team %s", o->team) : rc;
}

static int run_sandbox_import(const struct config *c, const struct command_options *o, char *error)
{
	struct sockaddr_storage addr;
	uint8_t key[JWT_KEY_BYTES];
	socklen_t bytes;
	int rc = need_sandbox(o->id, error);

	if (rc == 0)
		rc = need_member("team", o->team, error);
	if (rc < 0)
		return rc;
	if (!o->procd || socket_address_parse(o->procd, &addr, &bytes) < 0)
		return fail(error, -EINVAL, "--procd: ADDR:PORT, [V6]:PORT or unix:PATH is expected");
	if (!o->procd_key || !jwt_key_parse(o->procd_key, key))
		return fail(error, -EINVAL,
			    "--procd-key: ed25519:BASE64 is expected, the line of procd's key file .pub");
	return with_store(c, o, import_work, error);
}

static int sandbox_list_work(struct store *s, const struct command_options *o, char *error)
{
	return print_all(s, "SELECT id, team_id, state, driver, procd_url FROM sandboxes ORDER BY created_at, id");
}

static int run_sandbox_list(const struct config *c, const struct command_options *o, char *error)
{
	return with_store(c, o, sandbox_list_work, error);
}

static int sandbox_remove_work(struct store *s, const struct command_options *o, char *error)
{
	struct sandbox b;
	int rc = sandbox_find(s, o->id, &b);

	if (rc == 0 && strcmp(b.driver, DRIVER_STATIC) != 0)
		return fail(error, -EINVAL,
			    "%s was not imported: delete it through the API, so that its driver ends it", o->id);
	if (rc == 0)
		rc = sandbox_remove(s, o->id);
	return rc == -ENOENT ? fail(error, rc, "there is no sandbox %s", o->id) : rc;
}

static int run_sandbox_remove(const struct config *c, const struct command_options *o, char *error)
{
	int rc = need_sandbox(o->id, error);

	return rc < 0 ? rc : with_store(c, o, sandbox_remove_work, error);
}

/* --- policies --- */

static int need_one(const struct command_options *o, char error[CONFIG_ERROR_BYTES])
{
	if (!o->team == !o->id)
		return fail(error, -EINVAL, "either --team or --id (a sandbox's) is expected");
	return o->team ? need_member("team", o->team, error) : need_sandbox(o->id, error);
}

static int not_there(const struct command_options *o, int rc, char *error)
{
	return rc == -ENOENT
		       ? fail(error, rc, "there is no %s %s", o->team ? "team" : "sandbox", o->team ? o->team : o->id)
		       : rc;
}

/* All of a file, or of standard input. */
static int read_policy(const char *path, char ret_policy[POLICY_ONE_MAX], char *error)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	char text[4 * POLICY_ONE_MAX], wrong[POLICY_WRONG_BYTES] = "";
	size_t n;
	int rc;

	if (!f)
		return fail(error, -errno, "%.200s: %s", path, strerror(errno));
	n = fread(text, 1, sizeof(text), f);
	rc = ferror(f) ? -EIO : 0;
	if (f != stdin)
		fclose(f);
	if (rc < 0 || n == sizeof(text))
		return fail(error, rc < 0 ? rc : -E2BIG, "%.200s %s", path, rc < 0 ? "cannot be read" : "is too large");
	rc = policy_check(bytes_of(text, n), ret_policy, wrong);
	return rc < 0 ? fail(error, rc, "%.200s: %s", path, rc == -ENOMEM ? "out of memory" : wrong) : 0;
}

static int policy_set_work(struct store *s, const struct command_options *o, char *error)
{
	char policy[POLICY_ONE_MAX];
	int rc = read_policy(o->file, policy, error);

	return rc < 0 ? rc : not_there(o, policy_set(s, o->team, o->id, policy), error);
}

static int run_policy_set(const struct config *c, const struct command_options *o, char *error)
{
	int rc = need_one(o, error);

	if (rc == 0 && !o->file)
		return fail(error, -EINVAL, "--file is missing: JSON, or - for standard input");
	return rc < 0 ? rc : with_store(c, o, policy_set_work, error);
}

static int policy_show_work(struct store *s, const struct command_options *o, char *error)
{
	char policy[POLICY_ONE_MAX];
	int rc = policy_find(s, o->team, o->id, policy);

	if (rc == 0)
		puts(policy[0] ? policy : "{}");
	return not_there(o, rc, error);
}

static int run_policy_show(const struct config *c, const struct command_options *o, char *error)
{
	int rc = need_one(o, error);

	return rc < 0 ? rc : with_store(c, o, policy_show_work, error);
}

static int policy_clear_work(struct store *s, const struct command_options *o, char *error)
{
	return not_there(o, policy_set(s, o->team, o->id, ""), error);
}

static int run_policy_clear(const struct config *c, const struct command_options *o, char *error)
{
	int rc = need_one(o, error);

	return rc < 0 ? rc : with_store(c, o, policy_clear_work, error);
}

const struct command commands[] = {
	{"serve", "", command_serve, "[--ready-file FILE]",
	 "Serves the API until SIGTERM. The file is written once connections are accepted: the address, JSON."},
	{"user", "add", run_user_add, "--user ID [--team ID]",
	 "With a first team, made where it is not there; else one of its own, of the same name."},
	{"user", "list", run_user_list, "", "One ID a line."},
	{"user", "remove", run_user_remove, "--user ID", "With its keys, tokens and memberships; its sessions end."},
	{"team", "add", run_team_add, "--team ID", "A team without members."},
	{"team", "list", run_team_list, "", "One ID a line."},
	{"member", "add", run_member_add, "--user ID --team ID", "Puts a user into a team."},
	{"member", "remove", run_member_remove, "--user ID --team ID",
	 "Takes a user out; sessions that hang on it end."},
	{"member", "list", run_member_list, "", "Team and user a line."},
	{"token", "create", run_token_create, "--user ID [--name TEXT] [--expires-days N]",
	 "Prints a token of that user. It is shown this once: only its hash is kept."},
	{"token", "list", run_token_list, "", "ID, user and name a line."},
	{"token", "revoke", run_token_revoke, "--id ID", "From now on it is refused."},
	{"sandbox", "import", run_sandbox_import,
	 "--id ID --team ID --procd ADDR:PORT --procd-key KEY [--state STATE] [--no-auto-resume]",
	 "A sandbox that something else runs, or its new address or state."},
	{"sandbox", "list", run_sandbox_list, "", "ID, team, state, driver and address a line."},
	{"sandbox", "remove", run_sandbox_remove, "--id ID", "Forgets an imported one; its sessions end."},
	{"policy", "set", run_policy_set, "{--team ID | --id ID} --file FILE",
	 "What is forbidden in a team's sandboxes, or in one: a JSON object; - is standard input."},
	{"policy", "show", run_policy_show, "{--team ID | --id ID}",
	 "That of a team or of a sandbox; {} where there is none."},
	{"policy", "clear", run_policy_clear, "{--team ID | --id ID}", "From now on it forbids nothing."},
};

const size_t command_count = ARRAY_LEN(commands);
