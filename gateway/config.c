/*
 * gateway/config.c - the settings from the file and from --set, and what must hold for all of them together.
 */
#include "gateway/config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void name_default(struct config *c)
{
	char name[sizeof(c->name)] = "", why[SETTING_WHY_MAX];
	const struct setting *s = setting_find(c->settings.table, "name");

	(void)gethostname(name, sizeof(name) - 1);
	if (setting_apply_text(&c->settings, s, name, why) < 0)
		strcpy(c->name, "ringgate");
}

void config_defaults(struct config *c)
{
	memset(c, 0, sizeof(*c));
	settings_defaults(&c->settings, &config_table);
	name_default(c);
}

int config_load(struct config *c, const char *path, char ret_error[CONFIG_ERROR_BYTES])
{
	return settings_load(&c->settings, path, ret_error);
}

int config_set(struct config *c, const char *assignment, char ret_error[CONFIG_ERROR_BYTES])
{
	return settings_set(&c->settings, assignment, ret_error);
}

void config_print_settings(void)
{
	settings_print(&config_table);
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

static int check_readable(const struct config *c, const char *key, const char *path, char ret_error[CONFIG_ERROR_BYTES])
{
	struct stat st;

	if (!path[0])
		return 0;
	if (stat(path, &st) < 0 || access(path, R_OK) < 0)
		return settings_fail(&c->settings, key, ret_error, "%.200s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return settings_fail(&c->settings, key, ret_error, "%.200s is not a regular file", path);
	return 0;
}

/* Who answers: a file, or a control plane with perhaps a Redis before it. */
static int check_directory(const struct config *c, char ret_error[CONFIG_ERROR_BYTES])
{
	const struct {
		const char *key, *path;
	} files[] = {
		{"directory", c->directory},
		{"control.ca_file", c->control.ca_file},
		{"control.key_file", c->control.key_file},
		{"redis.password_file", c->redis.password_file},
		{"redis.ca_file", c->redis.ca_file},
		{"redis.secret_file", c->redis.secret_file},
	};

	if (!c->directory[0] && !c->control.url[0])
		return settings_fail(&c->settings, "directory", ret_error,
				     "must be set: the file of users and sandboxes (or control.url)");
	if (c->directory[0] && c->control.url[0])
		return settings_fail(&c->settings, "control.url", ret_error,
				     "directory is set, too: only one can answer");
	if (c->redis.url[0] && !c->control.url[0])
		return settings_fail(&c->settings, "redis.url", ret_error,
				     "there is nothing to cache without control.url");
	if (c->redis.url[0] && !c->redis.secret_file[0])
		return settings_fail(&c->settings, "redis.secret_file", ret_error, "must be set where redis.url is");
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		if (check_readable(c, files[i].key, files[i].path, ret_error) < 0)
			return -EINVAL;
	return 0;
}

static int check_files(const struct config *c, char ret_error[CONFIG_ERROR_BYTES])
{
	struct stat st;

	if (stat(c->host_key_dir, &st) == 0 && !S_ISDIR(st.st_mode))
		return settings_fail(&c->settings, "host_key_dir", ret_error, "%.200s is not a folder",
				     c->host_key_dir);
	if (stat(c->procd_key_file, &st) == 0 && !S_ISREG(st.st_mode))
		return settings_fail(&c->settings, "procd_key_file", ret_error, "%.200s is not a regular file",
				     c->procd_key_file);
	if (strcmp(c->log.file, "-") != 0 && !has_folder(c->log.file))
		return settings_fail(&c->settings, "log.file", ret_error, "%.200s: its folder is not there",
				     c->log.file);
	return 0;
}

static bool is_set(const struct config *c, const char *key)
{
	return c->settings.lines[setting_find(c->settings.table, key) - c->settings.table->settings] != 0;
}

/* The same setting under two names: which of them stands last would rule. */
static int check_old_names(const struct config *c, char ret_error[CONFIG_ERROR_BYTES])
{
	static const char *const names[][2] = {{"session.forward_tcp", "policy.forward_tcp"},
					       {"session.forward_listen", "policy.forward_listen"},
					       {"session.forward_unix", "policy.forward_unix"}};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (is_set(c, names[i][0]) && is_set(c, names[i][1]))
			return settings_fail(&c->settings, names[i][0], ret_error,
					     "is the older name of %s, which is set, too", names[i][1]);
	return 0;
}

int config_check(const struct config *c, char ret_error[CONFIG_ERROR_BYTES])
{
	if (check_old_names(c, ret_error) < 0)
		return -EINVAL;
	if (c->listen_count == 0)
		return settings_fail(&c->settings, "listen", ret_error, "names no address");
	if (c->login.start_full < c->login.start_begin)
		return settings_fail(&c->settings, "login.unauthenticated.full", ret_error,
				     "%u is less than login.unauthenticated.begin (%u)", c->login.start_full,
				     c->login.start_begin);
	if (check_directory(c, ret_error) < 0)
		return -EINVAL;
	return check_files(c, ret_error);
}
