/*
 * core/settings.c - checks values against the table, and finds keys in it.
 */
#include "core/settings.h"

#include "core/nearest.h"
#include "core/yaml.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 2, 3))) static int refuse(char why[SETTING_WHY_MAX], const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(why, SETTING_WHY_MAX, format, ap);
	va_end(ap);
	return -EINVAL;
}

void text_add(char *text, size_t size, const char *format, ...)
{
	size_t n = strlen(text);
	va_list ap;

	va_start(ap, format);
	vsnprintf(text + n, size - n, format, ap);
	va_end(ap);
}

/* 2097152 as "2 MiB". */
static void add_number(char *text, size_t size, const struct setting *s, uint64_t v)
{
	bool is_bytes = s->unit && strcmp(s->unit, "bytes") == 0;

	if (is_bytes && v >= GIB && v % GIB == 0)
		text_add(text, size, "%llu GiB", (unsigned long long)(v / GIB));
	else if (is_bytes && v >= MIB && v % MIB == 0)
		text_add(text, size, "%llu MiB", (unsigned long long)(v / MIB));
	else if (is_bytes && v >= KIB && v % KIB == 0)
		text_add(text, size, "%llu KiB", (unsigned long long)(v / KIB));
	else
		text_add(text, size, "%llu", (unsigned long long)v);
}

void text_add_allowed(char *text, size_t size, const struct setting *s)
{
	switch (s->type) {
	case TYPE_U32:
	case TYPE_U64:
		if (s->zero)
			text_add(text, size, "0 (%s) or ", s->zero);
		add_number(text, size, s, s->min);
		text_add(text, size, " to ");
		add_number(text, size, s, s->max);
		if (s->unit && strcmp(s->unit, "bytes") != 0)
			text_add(text, size, " %s", s->unit);
		break;
	case TYPE_TEXT:
		text_add(text, size, "%s", s->unit);
		break;
	case TYPE_LIST:
		text_add(text, size, "a list of at most %zu, each %s", s->most, s->unit);
		break;
	case TYPE_ALGORITHMS:
		text_add(text, size, "a list of ");
		/* fall through */
	case TYPE_CHOICE:
		for (size_t i = 0; s->choices[i]; i++)
			text_add(text, size, "%s%s", i ? ", " : "", s->choices[i]);
		break;
	}
}

/* Digits, and for bytes perhaps KiB, MiB or GiB. */
static bool number_parse(const struct setting *s, const char *text, uint64_t *ret_value)
{
	static const struct {
		const char *name;
		uint64_t factor;
	} suffixes[] = {{"", 1}, {"KiB", KIB}, {"MiB", MIB}, {"GiB", GIB}};
	uint64_t v = 0;
	size_t n;

	for (n = 0; text[n] >= '0' && text[n] <= '9'; n++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(text[n] - '0'), &v))
			return false;
	if (n == 0)
		return false;
	if (!s->unit || strcmp(s->unit, "bytes") != 0) {
		*ret_value = v;
		return text[n] == 0;
	}
	n += text[n] == ' ' && text[n + 1];
	for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
		if (strcmp(text + n, suffixes[i].name) == 0)
			return !__builtin_mul_overflow(v, suffixes[i].factor, ret_value);
	return false;
}

static int number_apply(void *at, const struct setting *s, const char *text, char why[SETTING_WHY_MAX])
{
	char shown[DOC_SHOW_BYTES], allowed[SETTING_WHY_MAX / 2] = "";
	uint64_t v;

	text_add_allowed(allowed, sizeof(allowed), s);
	if (!number_parse(s, text, &v))
		return refuse(why, "'%s' is no number; allowed: %s", doc_show(text, shown), allowed);
	if ((v < s->min || v > s->max) && !(v == 0 && s->zero))
		return refuse(why, "%s is out of bounds; allowed: %s", doc_show(text, shown), allowed);
	if (s->type == TYPE_U32)
		memcpy(at, &(uint32_t){(uint32_t)v}, sizeof(uint32_t));
	else
		memcpy(at, &v, sizeof(v));
	return 0;
}

static int choice_find(const struct settings *c, const struct setting *s, const char *text, char why[SETTING_WHY_MAX])
{
	char shown[DOC_SHOW_BYTES], allowed[SETTING_WHY_MAX / 2] = "";
	struct nearest near;

	nearest_begin(&near, text);
	for (int i = 0; s->choices[i]; i++) {
		if (strcmp(s->choices[i], text) == 0)
			return i;
		nearest_offer(&near, s->choices[i]);
	}
	if (near.best)
		return refuse(why, "'%s' is unknown; did you mean '%s'?", doc_show(text, shown), near.best);
	if (s->type == TYPE_ALGORITHMS)
		return refuse(why, "'%s' is not among those accepted (%s --help-settings lists them)",
			      doc_show(text, shown), c->table->program);
	text_add_allowed(allowed, sizeof(allowed), s);
	return refuse(why, "'%s' is unknown; allowed: %s", doc_show(text, shown), allowed);
}

static int text_apply(char *at, const struct setting *s, const char *text, char why[SETTING_WHY_MAX])
{
	char shown[DOC_SHOW_BYTES];

	if (strlen(text) >= s->bytes)
		return refuse(why, "'%s' is longer than %zu characters", doc_show(text, shown), s->bytes - 1);
	if (!s->is_good(text))
		return refuse(why, "'%s' is not accepted; allowed: %s", doc_show(text, shown), s->unit);
	strcpy(at, text);
	return 0;
}

static int list_apply(struct settings *c, const struct setting *s, const char *const *texts, size_t count,
		      char why[SETTING_WHY_MAX])
{
	char *entries = (char *)c + s->offset;
	char shown[DOC_SHOW_BYTES];

	if (count > s->most)
		return refuse(why, "%zu entries; allowed: at most %zu", count, s->most);
	for (size_t i = 0; i < count; i++) {
		if (text_apply(entries + i * s->bytes, s, texts[i], why) < 0)
			return -EINVAL;
		for (size_t j = 0; j < i; j++)
			if (strcmp(texts[i], texts[j]) == 0)
				return refuse(why, "'%s' stands here twice", doc_show(texts[i], shown));
	}
	memcpy((char *)c + s->count_offset, &(uint32_t){(uint32_t)count}, sizeof(uint32_t));
	return 0;
}

static int algorithms_apply(const struct settings *c, char *at, const struct setting *s, const char *const *texts,
			    size_t count, char why[SETTING_WHY_MAX])
{
	uint32_t seen = 0;

	if (count == 0)
		return refuse(why, "names nothing; %s --help-settings lists what is accepted", c->table->program);
	at[0] = 0;
	for (size_t i = 0; i < count; i++) {
		int k = choice_find(c, s, texts[i], why);

		if (k < 0)
			return k;
		if (seen & 1u << k)
			return refuse(why, "'%s' stands here twice", texts[i]);
		seen |= 1u << k;
		text_add(at, s->bytes, "%s%s", i ? "," : "", texts[i]);
	}
	return 0;
}

int setting_apply(struct settings *c, const struct setting *s, const char *const *texts, size_t count,
		  char why[SETTING_WHY_MAX])
{
	void *at = (char *)c + s->offset;
	int k;

	if (s->type == TYPE_LIST)
		return list_apply(c, s, texts, count, why);
	if (s->type == TYPE_ALGORITHMS)
		return algorithms_apply(c, at, s, texts, count, why);
	ASSERT(count == 1);
	if (s->type == TYPE_TEXT)
		return text_apply(at, s, texts[0], why);
	if (s->type != TYPE_CHOICE)
		return number_apply(at, s, texts[0], why);
	k = choice_find(c, s, texts[0], why);
	if (k < 0)
		return k;
	memcpy(at, &(uint32_t){(uint32_t)k}, sizeof(uint32_t));
	return 0;
}

bool setting_is_many(const struct setting *s)
{
	return s->type == TYPE_LIST || s->type == TYPE_ALGORITHMS;
}

/* Cuts "a, b" at its commas, in place. Returns the count; more than SETTING_TEXTS_MAX give SETTING_TEXTS_MAX + 1. */
static size_t commas_split(char *text, const char *texts[SETTING_TEXTS_MAX])
{
	size_t count = 0;

	while (text) {
		char *comma = strchr(text, ','), *end;

		if (count == SETTING_TEXTS_MAX)
			return SETTING_TEXTS_MAX + 1;
		if (comma)
			*comma = 0;
		text += strspn(text, " ");
		end = text + strlen(text);
		while (end > text && end[-1] == ' ')
			*--end = 0;
		texts[count++] = text;
		text = comma ? comma + 1 : NULL;
	}
	return count;
}

int setting_apply_text(struct settings *c, const struct setting *s, const char *text, char why[SETTING_WHY_MAX])
{
	char copy[SETTINGS_PATH_MAX];
	const char *texts[SETTING_TEXTS_MAX] = {text};
	size_t count = 1;

	if (setting_is_many(s)) {
		if (strlen(text) >= sizeof(copy))
			return refuse(why, "longer than %zu characters", sizeof(copy) - 1);
		strcpy(copy, text);
		count = text[0] ? commas_split(copy, texts) : 0;
		if (count > SETTING_TEXTS_MAX)
			return refuse(why, "more than %d entries", SETTING_TEXTS_MAX);
	}
	return setting_apply(c, s, texts, count, why);
}

const struct setting *setting_find(const struct setting_table *t, const char *key)
{
	for (size_t i = 0; i < t->count; i++)
		if (strcmp(t->settings[i].key, key) == 0)
			return &t->settings[i];
	return NULL;
}

bool setting_is_section(const struct setting_table *t, const char *key)
{
	size_t n = strlen(key);

	for (size_t i = 0; i < t->count; i++)
		if (strncmp(t->settings[i].key, key, n) == 0 && t->settings[i].key[n] == '.')
			return true;
	return false;
}

static const char *last_part(const char *key)
{
	const char *dot = strrchr(key, '.');

	return dot ? dot + 1 : key;
}

/* The known key that was meant by an unknown one: spelled nearly so, or of the same name in another section. */
static const char *key_nearest(const struct setting_table *t, const char *key)
{
	struct nearest near;

	nearest_begin(&near, key);
	for (size_t i = 0; i < t->count; i++)
		nearest_offer(&near, t->settings[i].key);
	for (size_t i = 0; t->sections[i]; i++)
		nearest_offer(&near, t->sections[i]);
	for (size_t i = 0; !near.best && i < t->count; i++)
		if (strcmp(last_part(t->settings[i].key), last_part(key)) == 0)
			return t->settings[i].key;
	return near.best;
}

void text_add_unknown(char *text, size_t size, const struct setting_table *t, const char *key)
{
	char shown[DOC_SHOW_BYTES];
	const char *near = key_nearest(t, key);

	text_add(text, size, "unknown setting '%s'", doc_show(key, shown));
	if (near)
		text_add(text, size, "; did you mean '%s'?", near);
	else
		text_add(text, size, "; %s --help-settings lists all", t->program);
}
