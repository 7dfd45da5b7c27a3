/*
 * core/settings.h - a program's settings: a table that describes each once, and their values from a file, from --set, by default.
 *
 * A value comes as texts, whether from the file, from --set or as the table's own default, and is checked by one
 * function: setting_apply. It is stored in the program's own struct, whose first member is a struct settings.
 *
 * Owner:  main; read-only once the threads run.
 */
#ifndef CORE_SETTINGS_H
#define CORE_SETTINGS_H

#include "core/check.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SETTINGS_PATH_MAX 4096
#define SETTINGS_ERROR_BYTES 512
#define SETTINGS_MAX 96
#define SETTINGS_LINE_SET UINT32_MAX

/* Most texts that one value has, and the longest reason why it is refused. */
#define SETTING_TEXTS_MAX 64
#define SETTING_WHY_MAX 320

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* A list is entries of `bytes` each at `offset` and their count, a uint32_t, at `count_offset`. */
enum setting_type { TYPE_U32, TYPE_U64, TYPE_CHOICE, TYPE_TEXT, TYPE_LIST, TYPE_ALGORITHMS };

struct setting {
	const char *key;
	enum setting_type type;
	size_t offset;
	size_t bytes;               /* TEXT, ALGORITHMS: room; LIST: of an entry */
	size_t count_offset, most;  /* LIST */
	uint64_t min, max;          /* U32, U64 */
	const char *zero;           /* U32, U64: what 0 means; it is allowed then, whatever min is */
	const char *unit;           /* "seconds"; "bytes" may be written with KiB, MiB, GiB; TEXT, LIST: what it is */
	const char *const *choices; /* CHOICE (the value is the index), ALGORITHMS; NULL ends them */
	bool (*is_good)(const char *text); /* TEXT, and each entry of a LIST */
	const char *initial;               /* as --set takes it; NULL: there is none, "" an empty list */
	const char *initial_shown;         /* where `initial` says too little */
	const char *help;
};

struct setting_table {
	const char *program; /* for error texts */
	const struct setting *settings;
	size_t count;
	const char *const *sections; /* "log", "login.unauthenticated"; NULL ends them: for error texts */
};

/* The first member of a program's struct of settings, which is zeroed before settings_defaults. */
struct settings {
	const struct setting_table *table;
	char path[SETTINGS_PATH_MAX]; /* of the file, for error texts; "" without one */
	/* Where each setting of the table stands; 0: its default; SETTINGS_LINE_SET: --set. */
	uint32_t lines[SETTINGS_MAX];
};

void settings_defaults(struct settings *c, const struct setting_table *t);

/* Reads a file over the defaults. 0, or -EINVAL with "file:line: what is wrong and what is known" in ret_error. */
MUST_USE int settings_load(struct settings *c, const char *path, char ret_error[SETTINGS_ERROR_BYTES]);

/* One "key=value", as from --set. */
MUST_USE int settings_set(struct settings *c, const char *assignment, char ret_error[SETTINGS_ERROR_BYTES]);

/* An error that no single line makes, with where the setting stands. Returns -EINVAL. */
__attribute__((format(printf, 4, 5))) int settings_fail(const struct settings *c, const char *key,
							char ret_error[SETTINGS_ERROR_BYTES], const char *format, ...);

/* The list of all settings, as Markdown: for --help-settings and docs. */
void settings_print(const struct setting_table *t);

/* NULL for an unknown key. */
const struct setting *setting_find(const struct setting_table *t, const char *key);

/* "session" and "login.unauthenticated" hold settings. */
bool setting_is_section(const struct setting_table *t, const char *key);

/* True where a value may have several texts. */
bool setting_is_many(const struct setting *s);

/* Checks the texts of a value and stores it. -EINVAL with the reason, which says what is allowed. */
MUST_USE int setting_apply(struct settings *c, const struct setting *s, const char *const *texts, size_t count,
			   char ret_why[SETTING_WHY_MAX]);
/* The same for a value as one text: several are cut at commas. */
MUST_USE int setting_apply_text(struct settings *c, const struct setting *s, const char *text,
				char ret_why[SETTING_WHY_MAX]);

/* Appends to a text of `size` bytes, and cuts what does not fit: anything; what a setting takes; what is said of an unknown key. */
__attribute__((format(printf, 3, 4))) void text_add(char *text, size_t size, const char *format, ...);
void text_add_allowed(char *text, size_t size, const struct setting *s);
void text_add_unknown(char *text, size_t size, const struct setting_table *t, const char *key);

#endif
