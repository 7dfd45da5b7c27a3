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

static int check_files(const struct config *c, char ret_error[CONFIG_ERROR_BYTES])
{
	struct stat st;

	if (!c->directory[0])
		return settings_fail(&c->settings, "directory", ret_error,
				     "must be set: the file of users and sandboxes");
	if (stat(c->directory, &st) < 0 || access(c->directory, R_OK) < 0)
		return settings_fail(&c->settings, "directory", ret_error, "%.200s: %s", c->directory, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return settings_fail(&c->settings, "directory", ret_error, "%.200s is not a regular file",
				     c->directory);
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

int config_check(const struct config *c, char ret_error[CONFIG_ERROR_BYTES])
{
	if (c->listen_count == 0)
		return settings_fail(&c->settings, "listen", ret_error, "names no address");
	if (c->login.start_full < c->login.start_begin)
		return settings_fail(&c->settings, "login.unauthenticated.full", ret_error,
				     "%u is less than login.unauthenticated.begin (%u)", c->login.start_full,
				     c->login.start_begin);
	return check_files(c, ret_error);
}
