#include "upstream/control/answer.h"

#include "core/pubkey.h"
#include "upstream/control/limits.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>

void answer_init(void)
{
	json_object_seed(0);
}

void answer_printable(struct bytes text, char *ret, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < text.n && n + 1 < size; i++) {
		uint8_t c = text.p[i];

		/* One mark for a character of several bytes. */
		if ((c & 0xc0) == 0x80)
			continue;
		ret[n++] = c < ' ' || c >= 0x7f ? '?' : (char)c;
	}
	ret[n] = 0;
}

__attribute__((format(printf, 2, 3))) static int wrong(char *ret_reason, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(ret_reason, CONTROL_REASON_MAX, format, ap);
	va_end(ap);
	return -EPROTO;
}

/* ---- The text ---- */

/*
 * jansson recurses into each level and allocates for each value, so both are bounded before it sees the text. Whether it is
 * JSON at all is jansson's to say: of such text these counts are right, of other text nothing depends on them.
 */
static bool is_modest(struct bytes text)
{
	uint32_t depth = 0, values = 0;
	bool is_quoted = false;

	for (size_t i = 0; i < text.n; i++) {
		uint8_t c = text.p[i];

		if (is_quoted) {
			if (c == '\\')
				i++;
			else if (c == '"')
				is_quoted = false;
		} else if (c == '"') {
			is_quoted = true;
		} else if (c == '[' || c == '{') {
			if (++depth > CONTROL_JSON_DEPTH_MAX)
				return false;
			values++;
		} else if (c == ']' || c == '}') {
			if (depth > 0)
				depth--;
		} else if (c == ',') {
			values++;
		}
		if (values > CONTROL_JSON_VALUES_MAX)
			return false;
	}
	return true;
}

/* The envelope; json_decref it. */
static int envelope_load(struct bytes body, json_t **ret_root, bool *ret_is_success, char *ret_reason)
{
	json_error_t error;
	json_t *root, *success;

	if (!is_modest(body))
		return wrong(ret_reason, "the answer's JSON is too deep or has too many values");
	root = json_loadb((const char *)body.p, body.n, JSON_REJECT_DUPLICATES, &error);
	if (!root) {
		if (json_error_code(&error) == json_error_out_of_memory)
			return -ENOMEM;
		return wrong(ret_reason, "the answer is no JSON (line %d)", error.line);
	}
	success = json_object_get(root, "success");
	if (!json_is_boolean(success)) {
		json_decref(root);
		return wrong(ret_reason, "the answer has no \"success\"");
	}
	*ret_root = root;
	*ret_is_success = json_is_true(success);
	return 0;
}

/* The same for an envelope that must hold data, an object. */
static int data_load(struct bytes body, json_t **ret_root, const json_t **ret_data, char *ret_reason)
{
	bool is_success;
	json_t *root, *data;
	int err = envelope_load(body, &root, &is_success, ret_reason);

	if (err)
		return err;
	data = json_object_get(root, "data");
	if (is_success && json_is_object(data)) {
		*ret_root = root;
		*ret_data = data;
		return 0;
	}
	json_decref(root);
	return wrong(ret_reason,
		     is_success ? "the answer has no \"data\"" : "a status of success, an answer of failure");
}

/* ---- Members ---- */

static struct bytes text_of(const json_t *value)
{
	if (!json_is_string(value))
		return bytes_of(NULL, 0);
	return bytes_of(json_string_value(value), json_string_length(value));
}

static bool is_absent(const json_t *value)
{
	return !value || json_is_null(value);
}

static int uint_take(const json_t *object, const char *name, uint64_t *ret, char *ret_reason)
{
	const json_t *value = json_object_get(object, name);

	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return wrong(ret_reason, "\"%s\" is no number", name);
	*ret = (uint64_t)json_integer_value(value);
	return 0;
}

static int version_take(const json_t *data, bool *ret_has, uint64_t *ret_version, char *ret_reason)
{
	*ret_has = !is_absent(json_object_get(data, "version"));
	return *ret_has ? uint_take(data, "version", ret_version, ret_reason) : 0;
}

/* Visible ASCII that fits, at least a character. */
static bool is_word(struct bytes text, size_t size)
{
	if (text.n == 0 || text.n >= size)
		return false;
	for (size_t i = 0; i < text.n; i++)
		if (text.p[i] <= ' ' || text.p[i] >= 0x7f)
			return false;
	return true;
}

/* A word that may be missing or empty: "" then. */
static int word_take(const json_t *data, const char *name, char *ret, size_t size, char *ret_reason)
{
	const json_t *value = json_object_get(data, name);

	ret[0] = 0;
	if (is_absent(value) || (json_is_string(value) && json_string_length(value) == 0))
		return 0;
	if (!is_word(text_of(value), size) || !bytes_copy_str(text_of(value), ret, size))
		return wrong(ret_reason, "\"%s\" is no word of less than %zu characters", name, size);
	return 0;
}

/* team and user are the members' names. */
static int grant_take(const json_t *object, const char *team, const char *user, struct grant *ret, char *ret_reason)
{
	struct bytes t = text_of(json_object_get(object, team)), u = text_of(json_object_get(object, user));

	if (!member_id_is_good(t) || !bytes_copy_str(t, ret->team, sizeof(ret->team)))
		return wrong(ret_reason, "\"%s\" is no ID", team);
	if (!member_id_is_good(u) || !bytes_copy_str(u, ret->user, sizeof(ret->user)))
		return wrong(ret_reason, "\"%s\" is no ID", user);
	return 0;
}

static int sandbox_take(const json_t *value, char ret[SANDBOX_ID_MAX + 1], char *ret_reason)
{
	struct bytes text = text_of(value);

	if (!sandbox_id_is_good(text) || !bytes_copy_str(text, ret, SANDBOX_ID_MAX + 1))
		return wrong(ret_reason, "a sandbox is no ID");
	return 0;
}

/* ---- A key ---- */

/* If it is told, it is the key that was asked for. */
static int public_key_check(const json_t *data, const char *fingerprint, char *ret_reason)
{
	const json_t *value = json_object_get(data, "public_key");
	char error[PUBKEY_ERROR_BYTES];
	struct pubkey key;

	if (is_absent(value))
		return 0;
	if (!json_is_string(value) || json_string_length(value) != strlen(json_string_value(value)) ||
	    pubkey_parse_line(json_string_value(value), &key, error) != 0)
		return wrong(ret_reason, "\"public_key\" is no key that is accepted");
	if (strcmp(key.fingerprint, fingerprint) != 0)
		return wrong(ret_reason, "\"public_key\" is not the key that was asked for");
	return 0;
}

static int grants_take(const json_t *data, struct grant *ret_grants, uint32_t *ret_count, char *ret_reason)
{
	const json_t *list = json_object_get(data, "grants");
	size_t count = json_array_size(list);

	if (!json_is_array(list))
		return wrong(ret_reason, "\"grants\" is no list");
	if (count > GRANTS_MAX)
		return wrong(ret_reason, "%zu grants; %d is the most that one key has", count, GRANTS_MAX);
	for (size_t i = 0; i < count; i++) {
		int err = grant_take(json_array_get(list, i), "team_id", "user_id", &ret_grants[i], ret_reason);

		if (err)
			return err;
	}
	*ret_count = (uint32_t)count;
	return 0;
}

static int key_take(const json_t *data, struct control_key_call *k, char *ret_reason)
{
	struct grant grants[GRANTS_MAX];
	uint64_t version = 0;
	bool has_version;
	uint32_t count;
	int err;

	if (!bytes_is(text_of(json_object_get(data, "fingerprint_sha256")), k->fingerprint))
		return wrong(ret_reason, "not the key that was asked for");
	err = public_key_check(data, k->fingerprint, ret_reason);
	if (!err)
		err = grants_take(data, grants, &count, ret_reason);
	if (!err)
		err = version_take(data, &has_version, &version, ret_reason);
	if (err)
		return err;
	memcpy(k->grants, grants, count * sizeof(struct grant));
	k->grant_count = count;
	k->has_version = has_version;
	k->version = version;
	return 0;
}

int answer_key(struct bytes body, struct control_key_call *k, char ret_reason[CONTROL_REASON_MAX])
{
	const json_t *data;
	json_t *root;
	int err = data_load(body, &root, &data, ret_reason);

	if (err)
		return err;
	err = key_take(data, k, ret_reason);
	json_decref(root);
	return err;
}

/* ---- A route ---- */

static bool grant_is_among(const struct grant *g, const struct grant *grants, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(g->team, grants[i].team) == 0 && strcmp(g->user, grants[i].user) == 0)
			return true;
	return false;
}

/* The texts of a route into a copy of the call. */
static int route_words_take(const json_t *data, struct control_route_call *r, char *ret_reason)
{
	int err = word_take(data, "procd_url", r->procd_url, sizeof(r->procd_url), ret_reason);

	if (!err)
		err = word_take(data, "procd_key", r->procd_key, sizeof(r->procd_key), ret_reason);
	if (!err)
		err = word_take(data, "state", r->state, sizeof(r->state), ret_reason);
	if (err)
		return err;
	/* One that rests may have no address. Without a state it is one that runs. */
	if (!r->procd_url[0] && (!r->state[0] || strcmp(r->state, "running") == 0))
		return wrong(ret_reason, "a sandbox that runs without \"procd_url\"");
	return 0;
}

/* Words for users: cut, never a reason to let nobody in. */
static int motd_take(const json_t *data, json_t *to, char *ret_reason)
{
	const json_t *value = json_object_get(data, "motd");
	char plain[MOTD_TEXT_MAX];
	const char *text;
	size_t n;

	if (is_absent(value))
		return 0;
	if (!json_is_string(value))
		return wrong(ret_reason, "\"motd\" is no text");
	text = json_string_value(value);
	n = json_string_length(value);
	if (n > MOTD_TEXT_MAX)
		for (n = MOTD_TEXT_MAX; (text[n] & 0xc0) == 0x80;)
			n--;
	/* The one character that JSON has as it is and YAML never has. */
	for (size_t i = 0; i < n; i++)
		plain[i] = text[i] == 0x7f ? '?' : text[i];
	return json_object_set_new(to, "motd", json_stringn(plain, n)) < 0 ? -ENOMEM : 0;
}

/*
 * The text is read as YAML, which has no pairs of surrogates: "\uD83D\uDE00" becomes "\U0001F600", which is shorter. All else
 * that jansson escapes is the same in both.
 */
static void join_surrogates(char *text)
{
	char *to = text;
	unsigned high, low;

	for (const char *p = text; *p;) {
		if (p[0] == '\\' && p[1] == 'u' && p[2] == 'D' && sscanf(p, "\\u%4x\\u%4x", &high, &low) == 2 &&
		    high >= 0xd800 && high < 0xdc00) {
			to += sprintf(to, "\\U%08X", 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
			p += strlen("\\uD83D\\uDE00");
			continue;
		}
		if (*p == '\\')
			*to++ = *p++;
		*to++ = *p++;
	}
	*to = 0;
}

/* All as one text, for who knows what they mean. */
static int policy_take(const json_t *data, char ret[POLICY_TEXT_MAX], char *ret_reason)
{
	static const struct {
		const char *name, *as;
	} members[] = {{"policy", "sandbox"}, {"team_policy", "team"}};
	json_t *both = json_object();
	int err = both ? 0 : -ENOMEM;
	size_t n = 0;

	for (size_t i = 0; i < 2 && !err; i++) {
		json_t *value = json_object_get(data, members[i].name);

		if (is_absent(value))
			continue;
		if (!json_is_object(value))
			err = wrong(ret_reason, "\"%s\" is no object", members[i].name);
		else if (json_object_set(both, members[i].as, value) < 0)
			err = -ENOMEM;
	}
	if (!err)
		err = motd_take(data, both, ret_reason);
	ret[0] = 0;
	if (!err && json_object_size(both) > 0) {
		n = json_dumpb(both, ret, POLICY_TEXT_MAX - 1, JSON_ENSURE_ASCII | JSON_SORT_KEYS);
		if (n == 0) {
			err = -ENOMEM;
		} else if (n >= POLICY_TEXT_MAX) {
			err = wrong(ret_reason, "the policies are too large");
		} else {
			ret[n] = 0;
			join_surrogates(ret);
		}
	}
	json_decref(both);
	return err;
}

static int route_take(const json_t *data, struct control_route_call *r, char *ret_reason)
{
	struct control_route_call found = *r;
	int err;

	if (!bytes_is(text_of(json_object_get(data, "sandbox_id")), r->sandbox))
		return wrong(ret_reason, "not the sandbox that was asked for");
	err = grant_take(data, "team_id", "user_id", &found.grant, ret_reason);
	if (!err && !grant_is_among(&found.grant, r->grants, r->grant_count))
		err = wrong(ret_reason, "a grant that was not sent");
	if (!err)
		err = route_words_take(data, &found, ret_reason);
	if (!err)
		err = policy_take(data, found.policy, ret_reason);
	if (!err)
		err = version_take(data, &found.has_version, &found.version, ret_reason);
	if (err)
		return err;
	r->grant = found.grant;
	memcpy(r->procd_url, found.procd_url, sizeof(r->procd_url));
	memcpy(r->procd_key, found.procd_key, sizeof(r->procd_key));
	memcpy(r->state, found.state, sizeof(r->state));
	memcpy(r->policy, found.policy, sizeof(r->policy));
	r->has_version = found.has_version;
	r->version = found.has_version ? found.version : 0;
	return 0;
}

int answer_route(struct bytes body, struct control_route_call *r, char ret_reason[CONTROL_REASON_MAX])
{
	const json_t *data;
	json_t *root;
	int err = data_load(body, &root, &data, ret_reason);

	if (err)
		return err;
	err = route_take(data, r, ret_reason);
	json_decref(root);
	return err;
}

/* ---- Changes ---- */

/* {key} or {user, team} or {sandbox}: one of them, so that none is read as another. */
static int revoked_take(const json_t *entry, struct control_change *ret, char *ret_reason)
{
	const json_t *key = json_object_get(entry, "key"), *user = json_object_get(entry, "user"),
		     *sandbox = json_object_get(entry, "sandbox");
	struct bytes text = text_of(key);

	if (!!key + !!user + !!sandbox != 1)
		return wrong(ret_reason, "\"revoked\" holds what is not known");
	if (user) {
		ret->kind = CONTROL_SUBJECT_MEMBER;
		return grant_take(entry, "team", "user", &ret->member, ret_reason);
	}
	if (sandbox) {
		ret->kind = CONTROL_SUBJECT_SANDBOX;
		return sandbox_take(sandbox, ret->sandbox, ret_reason);
	}
	ret->kind = CONTROL_SUBJECT_KEY;
	if (!fingerprint_is_good(text) || !bytes_copy_str(text, ret->fingerprint, sizeof(ret->fingerprint)))
		return wrong(ret_reason, "\"key\" is no fingerprint");
	return 0;
}

static int moved_take(const json_t *entry, struct control_change *ret, char *ret_reason)
{
	ret->kind = CONTROL_SUBJECT_SANDBOX;
	ret->is_moved = true;
	return sandbox_take(json_object_get(entry, "sandbox"), ret->sandbox, ret_reason);
}

static int changes_fill(const json_t *revoked, const json_t *moved, struct control_change *list, char *ret_reason)
{
	size_t count = 0;
	int err = 0;

	for (size_t i = 0; i < json_array_size(revoked) && !err; i++)
		err = revoked_take(json_array_get(revoked, i), &list[count++], ret_reason);
	for (size_t i = 0; i < json_array_size(moved) && !err; i++)
		err = moved_take(json_array_get(moved, i), &list[count++], ret_reason);
	return err;
}

static int changes_take(const json_t *data, uint64_t since, uint64_t *ret_next, struct control_change **ret_changes,
			uint32_t *ret_count, char *ret_reason)
{
	const json_t *revoked = json_object_get(data, "revoked"), *moved = json_object_get(data, "moved");
	size_t count = json_array_size(revoked) + json_array_size(moved);
	struct control_change *list = NULL;
	uint64_t next;
	int err = uint_take(data, "next", &next, ret_reason);

	if (err)
		return err;
	/* A list that is missing may be one that is named otherwise: nobody would be locked out. */
	if (!json_is_array(revoked) || !json_is_array(moved))
		return wrong(ret_reason, "\"revoked\" or \"moved\" is no list");
	if (count > CONTROL_CHANGES_MAX || next < since) {
		(void)wrong(ret_reason, "%s", next < since ? "the feed has begun anew" : "too many changes");
		return -E2BIG;
	}
	if (count > 0) {
		list = calloc(count, sizeof(*list));
		if (!list)
			return -ENOMEM;
		err = changes_fill(revoked, moved, list, ret_reason);
	}
	if (err) {
		free(list);
		return err;
	}
	*ret_next = next;
	*ret_changes = list;
	*ret_count = (uint32_t)count;
	return 0;
}

int answer_changes(struct bytes body, uint64_t since, uint64_t *ret_next, struct control_change **ret_changes,
		   uint32_t *ret_count, char ret_reason[CONTROL_REASON_MAX])
{
	const json_t *data;
	json_t *root;
	int err = data_load(body, &root, &data, ret_reason);

	if (err)
		return err;
	err = changes_take(data, since, ret_next, ret_changes, ret_count, ret_reason);
	json_decref(root);
	return err;
}

/* ---- Errors ---- */

int answer_error(struct bytes body, char ret_message[CONTROL_REASON_MAX])
{
	const json_t *message;
	bool is_success;
	json_t *root;
	int err = envelope_load(body, &root, &is_success, ret_message);

	if (err)
		return err;
	message = json_object_get(json_object_get(root, "error"), "message");
	if (!is_success && json_is_string(message))
		answer_printable(text_of(message), ret_message, CONTROL_REASON_MAX);
	else
		err = wrong(ret_message, "a status of failure without an error");
	json_decref(root);
	return err;
}
