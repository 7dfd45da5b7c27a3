/*
 * control/config.h - every setting of ringgate-control: its name, its unit, its default and its bounds.
 *
 * One table in settings_table.c describes each once; the file reader, --set, --help-settings and docs/control-plane.md all come
 * from it.
 *
 * Owner:  main; read-only once the threads run.
 */
#ifndef CONTROL_CONFIG_H
#define CONTROL_CONFIG_H

#include "core/check.h"
#include "core/log.h"
#include "core/settings.h"

#include <stdbool.h>
#include <stdint.h>

#define CONFIG_LIST_MAX 16
#define CONFIG_PATH_MAX SETTINGS_PATH_MAX
#define CONFIG_ERROR_BYTES SETTINGS_ERROR_BYTES

enum config_driver { CONFIG_DRIVER_NONE, CONFIG_DRIVER_LOCAL };

struct config {
	struct settings settings; /* first: the table's offsets start here */

	char listen[128];               /* ADDR:PORT, [V6]:PORT, unix:PATH */
	char database[CONFIG_PATH_MAX]; /* a path, or postgres://... */
	uint32_t threads;
	/* Of the gateways that may call /internal: "ed25519:BASE64". */
	char gateway_keys[CONFIG_LIST_MAX][64];
	uint32_t gateway_key_count;

	struct {
		char host[256]; /* what users are told to connect to */
		uint32_t port;
	} ssh;

	uint32_t driver; /* enum config_driver */

	struct {
		char url[512];                       /* "": none */
		char password_file[CONFIG_PATH_MAX]; /* "" */
		char ca_file[CONFIG_PATH_MAX];       /* "": the system's */
		uint32_t connect_timeout_ms, timeout_ms;
	} redis;

	/* driver_local.h */
	struct {
		char folder[CONFIG_PATH_MAX];
		char procd[CONFIG_PATH_MAX];
		char user[64];               /* "": who runs this */
		char shell[CONFIG_PATH_MAX]; /* "": the user's */
		char procd_args[CONFIG_LIST_MAX][256];
		uint32_t procd_arg_count;
		uint32_t keep_files; /* 0 or 1, as the next but one */
		uint32_t resume_delay_ms;
		uint32_t fail_resume;
	} local;

	struct {
		enum log_level level;
		enum log_format format;
		char file[CONFIG_PATH_MAX];
	} log;
};

extern const struct setting_table config_table;

#endif
