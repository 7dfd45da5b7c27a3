/*
 * gateway/settings.h - the table of settings and the checking of their values; config.c's own.
 *
 * A value comes as texts, whether from the file, from --set or as the table's own default, and is checked by one
 * function: setting_apply.
 *
 * Thread: any; the table is constant.
 */
#ifndef GATEWAY_SETTINGS_H
#define GATEWAY_SETTINGS_H

#include "gateway/config.h"

/* Most texts that one value has, and the longest reason why it is refused. */
#define SETTING_TEXTS_MAX (CONFIG_LIST_MAX * 4)
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

extern const struct setting settings[];
extern const size_t settings_count;

/* NULL for an unknown key. */
const struct setting *setting_find(const char *key);

/* "session" and "login.unauthenticated" hold settings. */
bool setting_is_section(const char *key);

/* True where a value may have several texts. */
bool setting_is_many(const struct setting *s);

/* Checks the texts of a value and stores it. -EINVAL with the reason, which says what is allowed. */
MUST_USE int setting_apply(struct config *c, const struct setting *s, const char *const *texts, size_t count,
			   char ret_why[SETTING_WHY_MAX]);
/* The same for a value as one text: several are cut at commas. */
MUST_USE int setting_apply_text(struct config *c, const struct setting *s, const char *text,
				char ret_why[SETTING_WHY_MAX]);

/* Appends to a text of `size` bytes, and cuts what does not fit: anything; what a setting takes; what is said of an unknown key. */
__attribute__((format(printf, 3, 4))) void text_add(char *text, size_t size, const char *format, ...);
void text_add_allowed(char *text, size_t size, const struct setting *s);
void text_add_unknown(char *text, size_t size, const char *key);

#endif
