/*
 * control/api_keys.c - /users/me/ssh-keys.
 */
#include "control/keys.h"
#include "control/people.h"
#include "control/request.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

static json_t *key_json(const struct ssh_key *k)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o}", "id", k->id, "name", k->name, "public_key",
			 k->text, "key_type", k->type, "fingerprint_sha256", k->fingerprint, "comment", k->comment,
			 "created_at", json_time(k->created_at), "updated_at", json_time(k->updated_at));
}

static int on_key(void *ctx, const struct ssh_key *k)
{
	return json_array_append_new(ctx, key_json(k)) == 0 ? 0 : -ENOMEM;
}

void handle_key_list(struct request *r, struct store *s)
{
	json_t *list = json_array();

	if (key_list(s, r->user, NULL, on_key, list) >= 0) {
		answer_data(r, 200, json_pack("{s:o}", "ssh_keys", list));
		return;
	}
	json_decref(list);
	answer_failure(r);
}

/* One line of text that is not blank; it is UTF-8 already. */
static bool is_name(const char *name)
{
	size_t characters = 0;

	for (const char *p = name; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return false;
		characters += ((unsigned char)*p & 0xc0) != 0x80;
	}
	return characters > 0 && characters <= KEY_NAME_MAX && strspn(name, " ") < strlen(name);
}

/* What follows the type and the base64, without the blanks around it. */
static bool comment_take(const char *line, char ret_comment[KEY_COMMENT_MAX + 1])
{
	size_t n;

	for (int i = 0; i < 2; i++) {
		line += strspn(line, " \t");
		line += strcspn(line, " \t");
	}
	line += strspn(line, " \t");
	n = strlen(line);
	while (n > 0 && (line[n - 1] == ' ' || line[n - 1] == '\t'))
		n--;
	return bytes_copy_str(bytes_of(line, n), ret_comment, KEY_COMMENT_MAX + 1);
}

/* Type and base64 of the line, as one text; it was parsed already. */
static void text_make(const struct pubkey *p, char ret_text[KEY_TEXT_MAX + 1])
{
	size_t n = strlen(p->type);

	memcpy(ret_text, p->type, n);
	ret_text[n++] = ' ';
	sodium_bin2base64(ret_text + n, KEY_TEXT_MAX + 1 - n, p->blob, p->blob_bytes, sodium_base64_VARIANT_ORIGINAL);
}

/* False, and answered with 400. What was given is not quoted: it may be a private key. */
static bool key_parse(struct request *r, const char *given, struct ssh_key *k)
{
	char line[BODY_BYTES_MAX + 1], error[PUBKEY_ERROR_BYTES];
	size_t n = strlen(given);
	struct pubkey parsed;

	while (n > 0 && strchr("\r\n", given[n - 1]))
		n--;
	if (!bytes_copy_str(bytes_of(given, n), line, sizeof(line))) {
		answer_error(r, 400, "bad_request", "public_key: it is too long");
	} else if (pubkey_parse_line(line, &parsed, error) < 0) {
		answer_error(r, 400, "bad_request", "public_key: %s", error);
	} else if (!comment_take(line, k->comment)) {
		answer_error(r, 400, "bad_request", "public_key: its comment is longer than %d bytes", KEY_COMMENT_MAX);
	} else {
		strcpy(k->type, parsed.type);
		strcpy(k->fingerprint, parsed.fingerprint);
		text_make(&parsed, k->text);
		return true;
	}
	return false;
}

/* The team of the body, or the user's first. False, and answered. */
static bool team_take(struct request *r, struct store *s, const json_t *body, struct ssh_key *k)
{
	const json_t *given = json_object_get(body, "team_id");
	const char *team = json_string_value(given);
	int rc;

	if (given && !json_is_null(given)) {
		if (!team || !member_id_is_good(bytes_str(team))) {
			answer_error(r, 400, "bad_request", "team_id: not the ID of a team");
			return false;
		}
		strcpy(k->team, team);
		return true;
	}
	rc = member_first_team(s, k->user, k->team);
	if (rc == -ENOENT)
		answer_error(r, 400, "bad_request", "you are in no team that the key could be for");
	else if (rc < 0)
		answer_failure(r);
	return rc == 0;
}

static bool body_take(struct request *r, struct store *s, const json_t *body, struct ssh_key *k)
{
	const char *name = json_string_value(json_object_get(body, "name"));
	const char *key = json_string_value(json_object_get(body, "public_key"));

	strcpy(k->user, r->user);
	if (!key) {
		answer_error(r, 400, "bad_request", "public_key: a text is expected, the line of a .pub file");
		return false;
	}
	/* The key first: of all that is wrong, a private key is what must be said. */
	if (!key_parse(r, key, k))
		return false;
	if (!name || !is_name(name)) {
		answer_error(r, 400, "bad_request", "name: a text of 1 to %d characters on one line is expected",
			     KEY_NAME_MAX);
		return false;
	}
	strcpy(k->name, name);
	return team_take(r, s, body, k);
}

static void key_answer(struct request *r, int rc, const struct ssh_key *k)
{
	if (rc == 0)
		answer_data(r, 201, key_json(k));
	else if (rc == -EEXIST)
		answer_error(r, 409, "conflict", "this key is already there");
	else if (rc == -ENOENT)
		answer_error(r, 400, "bad_request", "team_id: you are not in that team");
	else if (rc == -EDQUOT)
		answer_error(r, 409, "conflict", "too many keys: at most %d, and one key in at most %d teams",
			     KEYS_PER_USER_MAX, GRANTS_MAX);
	else
		answer_failure(r);
}

void handle_key_add(struct request *r, struct store *s)
{
	json_t *body = request_object(r, false);
	struct ssh_key k = {0};

	if (!body)
		return;
	if (body_take(r, s, body, &k))
		key_answer(r, key_add(s, &k), &k);
	json_decref(body);
}

void handle_key_remove(struct request *r, struct store *s)
{
	int rc = member_id_is_good(bytes_str(r->id)) ? key_remove(s, r->user, r->id) : -ENOENT;

	if (rc == 0)
		answer_data(r, 200, json_pack("{s:s}", "message", "the key is deleted"));
	else if (rc == -ENOENT)
		answer_error(r, 404, "not_found", "you have no key of that ID");
	else
		answer_failure(r);
}
