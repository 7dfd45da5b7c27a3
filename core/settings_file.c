/*
 * core/settings_file.c - settings from a file and from --set, errors with their place, and the list of all settings.
 */
#include "core/settings.h"

#include "core/yaml.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A configuration is written by hand. */
static const struct doc_limits file_limits = {.bytes = 16 << 20, .nodes = 100000};

void settings_defaults(struct settings *c, const struct setting_table *t)
{
	char why[SETTING_WHY_MAX];

	c->table = t;
	ASSERT(t->count <= SETTINGS_MAX);
	for (size_t i = 0; i < t->count; i++) {
		const struct setting *s = &t->settings[i];
		size_t count = 0;

		if (s->type == TYPE_ALGORITHMS) {
			while (s->choices[count])
				count++;
			ASSERT(setting_apply(c, s, s->choices, count, why) == 0);
		} else if (s->initial) {
			ASSERT(setting_apply_text(c, s, s->initial, why) == 0);
		}
	}
}

struct file {
	struct settings *settings;
	const struct doc *doc;
	char *error;
};

static int file_refuse(const struct file *f, const struct doc_node *n, const char *key, const char *why)
{
	return doc_fail(f->doc, n, f->error, SETTINGS_ERROR_BYTES, "%s: %s", key, why);
}

static bool is_null(const struct doc *d, const struct doc_node *n)
{
	const char *t = doc_text(d, n);

	return n->is_plain && (!*t || strcmp(t, "~") == 0 || strcmp(t, "null") == 0);
}

static int file_list(const struct file *f, const struct setting *s, const struct doc_node *value)
{
	const char *texts[SETTING_TEXTS_MAX];
	const struct doc_node *n = doc_first(f->doc, value);
	char why[SETTING_WHY_MAX];
	size_t count = 0;

	for (; n; n = doc_next(f->doc, n)) {
		if (count == SETTING_TEXTS_MAX)
			return file_refuse(f, n, s->key, "too many entries");
		if (n->kind != DOC_SCALAR || is_null(f->doc, n))
			return file_refuse(f, n, s->key, "an entry is no text");
		texts[count++] = doc_text(f->doc, n);
	}
	if (setting_apply(f->settings, s, texts, count, why) < 0)
		return file_refuse(f, value, s->key, why);
	return 0;
}

static int file_setting(const struct file *f, const struct setting *s, const struct doc_node *value)
{
	bool is_number = s->type == TYPE_U32 || s->type == TYPE_U64;
	char why[SETTING_WHY_MAX] = "", allowed[SETTING_WHY_MAX / 2] = "";

	f->settings->lines[s - f->settings->table->settings] = value->line;
	if (value->kind == DOC_LIST && setting_is_many(s))
		return file_list(f, s, value);
	text_add_allowed(allowed, sizeof(allowed), s);
	if (value->kind != DOC_SCALAR || s->type == TYPE_LIST)
		text_add(why, sizeof(why), "%s where none is accepted; allowed: %s", doc_kind_name(value), allowed);
	else if (is_null(f->doc, value))
		text_add(why, sizeof(why), "has no value; allowed: %s", allowed);
	else if (is_number && !value->is_plain)
		text_add(why, sizeof(why), "a number is written without quotes; allowed: %s", allowed);
	else if (setting_apply_text(f->settings, s, doc_text(f->doc, value), why) == 0)
		return 0;
	return file_refuse(f, value, s->key, why);
}

/* A map of settings; `section` is "" or ends with a dot. */
static int file_section(const struct file *f, const char *section, const struct doc_node *map)
{
	const struct setting_table *t = f->settings->table;
	const struct doc_node *k, *value;
	int rc = 0;

	for (k = doc_first(f->doc, map); k && rc == 0; k = doc_next(f->doc, value)) {
		const char *name = doc_text(f->doc, k), *dot;
		const struct setting *s;
		char key[256], unknown[SETTING_WHY_MAX] = "";

		value = doc_next(f->doc, k);
		snprintf(key, sizeof(key) - 1, "%s%s", section, name);
		s = setting_find(t, key);
		dot = strchr(name, '.') ? strrchr(key, '.') : NULL;
		if (dot && (s || setting_is_section(t, key)))
			return doc_fail(f->doc, k, f->error, SETTINGS_ERROR_BYTES,
					"%s: in the file a dot stands for a map: write %.*s: {%s: ...}", key,
					(int)(dot - key), key, dot + 1);
		if (s) {
			rc = file_setting(f, s, value);
		} else if (!setting_is_section(t, key)) {
			text_add_unknown(unknown, sizeof(unknown), t, key);
			rc = doc_fail(f->doc, k, f->error, SETTINGS_ERROR_BYTES, "%s", unknown);
		} else if (value->kind != DOC_MAP) {
			rc = file_refuse(f, value, key, "is a section: settings are expected in it");
		} else {
			strcat(key, ".");
			rc = file_section(f, key, value);
		}
	}
	return rc;
}

int settings_load(struct settings *c, const char *path, char ret_error[SETTINGS_ERROR_BYTES])
{
	struct file f = {.settings = c, .error = ret_error};
	const struct doc_node *root;
	struct doc *doc;
	int rc;

	snprintf(c->path, sizeof(c->path), "%s", path);
	if (doc_load(path, &file_limits, &doc, ret_error, SETTINGS_ERROR_BYTES) < 0)
		return -EINVAL;
	f.doc = doc;
	root = doc_root(doc);
	if (!root || (root->kind == DOC_SCALAR && is_null(doc, root)))
		rc = 0;
	else if (root->kind != DOC_MAP)
		rc = doc_fail(doc, root, ret_error, SETTINGS_ERROR_BYTES, "%s where settings (key: value) are expected",
			      doc_kind_name(root));
	else
		rc = file_section(&f, "", root);
	doc_free(doc);
	return rc;
}

int settings_set(struct settings *c, const char *assignment, char ret_error[SETTINGS_ERROR_BYTES])
{
	const char *equals = strchr(assignment, '=');
	char key[128], why[SETTING_WHY_MAX] = "", shown[DOC_SHOW_BYTES];
	const struct setting *s;

	if (!equals || equals == assignment || (size_t)(equals - assignment) >= sizeof(key)) {
		snprintf(ret_error, SETTINGS_ERROR_BYTES, "--set %s: KEY=VALUE is expected",
			 doc_show(assignment, shown));
		return -EINVAL;
	}
	snprintf(key, sizeof(key), "%.*s", (int)(equals - assignment), assignment);
	s = setting_find(c->table, key);
	if (!s) {
		text_add_unknown(why, sizeof(why), c->table, key);
		snprintf(ret_error, SETTINGS_ERROR_BYTES, "--set: %s", why);
		return -EINVAL;
	}
	c->lines[s - c->table->settings] = SETTINGS_LINE_SET;
	if (setting_apply_text(c, s, equals + 1, why) == 0)
		return 0;
	snprintf(ret_error, SETTINGS_ERROR_BYTES, "--set %s: %s", key, why);
	return -EINVAL;
}

int settings_fail(const struct settings *c, const char *key, char ret_error[SETTINGS_ERROR_BYTES], const char *format,
		  ...)
{
	uint32_t line = c->lines[setting_find(c->table, key) - c->table->settings];
	size_t path_n = strlen(c->path);
	va_list ap;

	ret_error[0] = 0;
	if (line == SETTINGS_LINE_SET)
		text_add(ret_error, SETTINGS_ERROR_BYTES, "--set ");
	else if (line)
		text_add(ret_error, SETTINGS_ERROR_BYTES, "%s:%u: ", c->path + (path_n > 100 ? path_n - 100 : 0), line);
	text_add(ret_error, SETTINGS_ERROR_BYTES, "%s: ", key);
	va_start(ap, format);
	path_n = strlen(ret_error);
	vsnprintf(ret_error + path_n, SETTINGS_ERROR_BYTES - path_n, format, ap);
	va_end(ap);
	return -EINVAL;
}

/* Words of `text` in lines of at most 100 columns, each begun with two blanks. */
static void print_wrapped(const char *text)
{
	size_t column = 0;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (column > 0 && column + 1 + n > 100) {
			putchar('\n');
			column = 0;
		}
		printf("%s%.*s", column ? " " : "  ", (int)n, text);
		column += n + (column ? 1 : 2);
		text += n;
		text += strspn(text, " ");
	}
	putchar('\n');
}

static const char *initial_name(const struct setting *s)
{
	if (s->initial_shown)
		return s->initial_shown;
	if (!s->initial)
		return "none";
	return s->initial[0] ? s->initial : "empty";
}

void settings_print(const struct setting_table *t)
{
	size_t section_n = SIZE_MAX;

	for (size_t i = 0; i < t->count; i++) {
		const struct setting *s = &t->settings[i];
		size_t n = strcspn(s->key, ".");
		char text[2048] = "";

		n = s->key[n] ? n : 0;
		if (i == 0 || n != section_n || strncmp(s->key, t->settings[i - 1].key, n) != 0)
			printf("%s### %.*s\n\n", i ? "\n" : "", n ? (int)n : 7, n ? s->key : "General");
		section_n = n;
		if (s->type == TYPE_U32 || s->type == TYPE_U64)
			text_add(text, sizeof(text), "a number, ");
		else if (s->type == TYPE_CHOICE)
			text_add(text, sizeof(text), "one of ");
		text_add_allowed(text, sizeof(text), s);
		text_add(text, sizeof(text), "; default: %s.", initial_name(s));
		printf("- `%s`\n", s->key);
		print_wrapped(text);
		print_wrapped(s->help);
	}
}
