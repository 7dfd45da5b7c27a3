/*
 * gateway/config.c - the settings from the file and from --set, and what must hold for all of them together.
 */
#include "gateway/config.h"

#include "core/yaml.h"
#include "gateway/settings.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A configuration is written by hand. */
static const struct doc_limits file_limits = {.bytes = 16 << 20, .nodes = 100000};

static void name_default(struct config *c)
{
	char name[sizeof(c->name)] = "", why[SETTING_WHY_MAX];
	const struct setting *s = setting_find("name");

	(void)gethostname(name, sizeof(name) - 1);
	if (setting_apply_text(c, s, name, why) < 0)
		strcpy(c->name, "ringgate");
}

void config_defaults(struct config *c)
{
	char why[SETTING_WHY_MAX];

	memset(c, 0, sizeof(*c));
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *s = &settings[i];
		size_t count = 0;

		if (s->type == TYPE_ALGORITHMS) {
			while (s->choices[count])
				count++;
			ASSERT(setting_apply(c, s, s->choices, count, why) == 0);
		} else if (s->initial) {
			ASSERT(setting_apply_text(c, s, s->initial, why) == 0);
		}
	}
	name_default(c);
}

struct file {
	struct config *config;
	const struct doc *doc;
	char *error;
};

static int file_refuse(const struct file *f, const struct doc_node *n, const char *key, const char *why)
{
	return doc_fail(f->doc, n, f->error, CONFIG_ERROR_BYTES, "%s: %s", key, why);
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
	if (setting_apply(f->config, s, texts, count, why) < 0)
		return file_refuse(f, value, s->key, why);
	return 0;
}

static int file_setting(const struct file *f, const struct setting *s, const struct doc_node *value)
{
	bool is_number = s->type == TYPE_U32 || s->type == TYPE_U64;
	char why[SETTING_WHY_MAX] = "", allowed[SETTING_WHY_MAX / 2] = "";

	f->config->lines[s - settings] = value->line;
	if (value->kind == DOC_LIST && setting_is_many(s))
		return file_list(f, s, value);
	text_add_allowed(allowed, sizeof(allowed), s);
	if (value->kind != DOC_SCALAR || s->type == TYPE_LIST)
		text_add(why, sizeof(why), "%s where none is accepted; allowed: %s", doc_kind_name(value), allowed);
	else if (is_null(f->doc, value))
		text_add(why, sizeof(why), "has no value; allowed: %s", allowed);
	else if (is_number && !value->is_plain)
		text_add(why, sizeof(why), "a number is written without quotes; allowed: %s", allowed);
	else if (setting_apply_text(f->config, s, doc_text(f->doc, value), why) == 0)
		return 0;
	return file_refuse(f, value, s->key, why);
}

/* A map of settings; `section` is "" or ends with a dot. */
static int file_section(const struct file *f, const char *section, const struct doc_node *map)
{
	const struct doc_node *k, *value;
	int rc = 0;

	for (k = doc_first(f->doc, map); k && rc == 0; k = doc_next(f->doc, value)) {
		const char *name = doc_text(f->doc, k), *dot;
		const struct setting *s;
		char key[256], unknown[SETTING_WHY_MAX] = "";

		value = doc_next(f->doc, k);
		snprintf(key, sizeof(key) - 1, "%s%s", section, name);
		s = setting_find(key);
		dot = strchr(name, '.') ? strrchr(key, '.') : NULL;
		if (dot && (s || setting_is_section(key)))
			return doc_fail(f->doc, k, f->error, CONFIG_ERROR_BYTES,
					"%s: in the file a dot stands for a map: write %.*s: {%s: ...}", key,
					(int)(dot - key), key, dot + 1);
		if (s) {
			rc = file_setting(f, s, value);
		} else if (!setting_is_section(key)) {
			text_add_unknown(unknown, sizeof(unknown), key);
			rc = doc_fail(f->doc, k, f->error, CONFIG_ERROR_BYTES, "%s", unknown);
		} else if (value->kind != DOC_MAP) {
			rc = file_refuse(f, value, key, "is a section: settings are expected in it");
		} else {
			strcat(key, ".");
			rc = file_section(f, key, value);
		}
	}
	return rc;
}

int config_load(struct config *c, const char *path, char ret_error[CONFIG_ERROR_BYTES])
{
	struct file f = {.config = c, .error = ret_error};
	const struct doc_node *root;
	struct doc *doc;
	int rc;

	snprintf(c->path, sizeof(c->path), "%s", path);
	if (doc_load(path, &file_limits, &doc, ret_error, CONFIG_ERROR_BYTES) < 0)
		return -EINVAL;
	f.doc = doc;
	root = doc_root(doc);
	if (!root || (root->kind == DOC_SCALAR && is_null(doc, root)))
		rc = 0;
	else if (root->kind != DOC_MAP)
		rc = doc_fail(doc, root, ret_error, CONFIG_ERROR_BYTES, "%s where settings (key: value) are expected",
			      doc_kind_name(root));
	else
		rc = file_section(&f, "", root);
	doc_free(doc);
	return rc;
}

int config_set(struct config *c, const char *assignment, char ret_error[CONFIG_ERROR_BYTES])
{
	const char *equals = strchr(assignment, '=');
	char key[128], why[SETTING_WHY_MAX] = "", shown[DOC_SHOW_BYTES];
	const struct setting *s;

	if (!equals || equals == assignment || (size_t)(equals - assignment) >= sizeof(key)) {
		snprintf(ret_error, CONFIG_ERROR_BYTES, "--set %s: KEY=VALUE is expected", doc_show(assignment, shown));
		return -EINVAL;
	}
	snprintf(key, sizeof(key), "%.*s", (int)(equals - assignment), assignment);
	s = setting_find(key);
	if (!s) {
		text_add_unknown(why, sizeof(why), key);
		snprintf(ret_error, CONFIG_ERROR_BYTES, "--set: %s", why);
		return -EINVAL;
	}
	c->lines[s - settings] = CONFIG_LINE_SET;
	if (setting_apply_text(c, s, equals + 1, why) == 0)
		return 0;
	snprintf(ret_error, CONFIG_ERROR_BYTES, "--set %s: %s", key, why);
	return -EINVAL;
}

/* An error that no single line makes, with where the setting stands. */
__attribute__((format(printf, 4, 5))) static int check_fail(const struct config *c, const char *key, char *ret_error,
							    const char *format, ...)
{
	uint32_t line = c->lines[setting_find(key) - settings];
	size_t path_n = strlen(c->path);
	va_list ap;

	ret_error[0] = 0;
	if (line == CONFIG_LINE_SET)
		text_add(ret_error, CONFIG_ERROR_BYTES, "--set ");
	else if (line)
		text_add(ret_error, CONFIG_ERROR_BYTES, "%s:%u: ", c->path + (path_n > 100 ? path_n - 100 : 0), line);
	text_add(ret_error, CONFIG_ERROR_BYTES, "%s: ", key);
	va_start(ap, format);
	path_n = strlen(ret_error);
	vsnprintf(ret_error + path_n, CONFIG_ERROR_BYTES - path_n, format, ap);
	va_end(ap);
	return -EINVAL;
}

/* The folder in which a file would be made. */
static bool has_folder(const char *path)
{
	char folder[CONFIG_PATH_MAX];
	char *slash;
	struct stat st;

	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (!slash)
		return true;
	slash[slash == folder] = 0;
	return stat(folder, &st) == 0 && S_ISDIR(st.st_mode);
}

static int check_files(const struct config *c, char ret_error[CONFIG_ERROR_BYTES])
{
	struct stat st;

	if (!c->directory[0])
		return check_fail(c, "directory", ret_error, "must be set: the file of users and sandboxes");
	if (stat(c->directory, &st) < 0 || access(c->directory, R_OK) < 0)
		return check_fail(c, "directory", ret_error, "%.200s: %s", c->directory, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return check_fail(c, "directory", ret_error, "%.200s is not a regular file", c->directory);
	if (stat(c->host_key_dir, &st) == 0 && !S_ISDIR(st.st_mode))
		return check_fail(c, "host_key_dir", ret_error, "%.200s is not a folder", c->host_key_dir);
	if (stat(c->procd_key_file, &st) == 0 && !S_ISREG(st.st_mode))
		return check_fail(c, "procd_key_file", ret_error, "%.200s is not a regular file", c->procd_key_file);
	if (strcmp(c->log.file, "-") != 0 && !has_folder(c->log.file))
		return check_fail(c, "log.file", ret_error, "%.200s: its folder is not there", c->log.file);
	return 0;
}

int config_check(const struct config *c, char ret_error[CONFIG_ERROR_BYTES])
{
	if (c->listen_count == 0)
		return check_fail(c, "listen", ret_error, "names no address");
	if (c->login.start_full < c->login.start_begin)
		return check_fail(c, "login.unauthenticated.full", ret_error,
				  "%u is less than login.unauthenticated.begin (%u)", c->login.start_full,
				  c->login.start_begin);
	return check_files(c, ret_error);
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

void config_print_settings(void)
{
	size_t section_n = SIZE_MAX;

	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *s = &settings[i];
		size_t n = strcspn(s->key, ".");
		char text[2048] = "";

		n = s->key[n] ? n : 0;
		if (i == 0 || n != section_n || strncmp(s->key, settings[i - 1].key, n) != 0)
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
