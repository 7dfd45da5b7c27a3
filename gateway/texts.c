#include "gateway/texts.h"

#include "core/utf8.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ESCAPE 0x1b

void texts_init(struct texts *t)
{
	pthread_mutex_init(&t->lock, NULL);
	t->banner[0] = t->motd[0] = 0;
}

/* Sized so that one byte too many is seen. */
struct text_file {
	uint8_t bytes[TEXT_FILE_BYTES_MAX + 1];
	size_t count;
};

static int text_read(const struct config *c, const char *key, const char *path, struct text_file *ret_text,
		     char ret_error[CONFIG_ERROR_BYTES])
{
	FILE *f = fopen(path, "re");
	int error = errno;

	if (f) {
		errno = 0;
		ret_text->count = fread(ret_text->bytes, 1, sizeof(ret_text->bytes), f);
		error = ferror(f) ? (errno ? errno : EIO) : 0;
		fclose(f);
	}
	if (error != 0 || !f)
		return settings_fail(&c->settings, key, ret_error, "%.200s: %s", path, strerror(error));
	if (ret_text->count > TEXT_FILE_BYTES_MAX)
		return settings_fail(&c->settings, key, ret_error, "%.200s has more than %d bytes", path,
				     TEXT_FILE_BYTES_MAX);
	return 0;
}

/* Colours are for terminals; clients would show them as signs before login. */
static bool is_fine(uint32_t code, bool takes_escapes)
{
	if (code == '\t' || code == '\n' || code == '\r')
		return true;
	return code == ESCAPE ? takes_escapes : code >= ' ' && !(code >= 0x7f && code <= 0x9f);
}

static int text_check(const struct config *c, const char *key, const char *path, const struct text_file *t,
		      bool takes_escapes, char ret_error[CONFIG_ERROR_BYTES])
{
	uint32_t line = 1, code;

	for (size_t i = 0, n; i < t->count; i += n) {
		n = utf8_at(t->bytes + i, t->count - i, &code);
		if (n == 0)
			return settings_fail(&c->settings, key, ret_error, "%.200s:%u: is no UTF-8", path, line);
		if (!is_fine(code, takes_escapes))
			return settings_fail(&c->settings, key, ret_error, "%.200s:%u: holds a control character", path,
					     line);
		line += code == '\n';
	}
	return 0;
}

/* Whatever the file's line ends, these; the last line has one, too. ret_text takes two bytes for each, and a NUL. */
static void text_copy(const struct text_file *t, const char *line_end, char *ret_text)
{
	char *to = ret_text;
	bool is_open = false;

	for (size_t i = 0; i < t->count; i++) {
		if (t->bytes[i] == '\r')
			continue;
		is_open = t->bytes[i] != '\n';
		if (is_open)
			*to++ = (char)t->bytes[i];
		else
			to = stpcpy(to, line_end);
	}
	if (is_open)
		to = stpcpy(to, line_end);
	*to = 0;
}

int texts_load(struct texts *t, const struct config *c, char ret_error[CONFIG_ERROR_BYTES])
{
	struct text_file banner = {.count = 0}, motd = {.count = 0};
	const struct {
		const char *key, *path;
		struct text_file *text;
		bool takes_escapes;
	} files[] = {
		{"login.banner_file", c->login.banner_file, &banner, false},
		{"session.motd_file", c->session.motd_file, &motd, true},
	};

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		int rc = files[i].path[0] ? text_read(c, files[i].key, files[i].path, files[i].text, ret_error) : 0;

		if (rc == 0)
			rc = text_check(c, files[i].key, files[i].path, files[i].text, files[i].takes_escapes,
					ret_error);
		if (rc < 0)
			return rc;
	}
	pthread_mutex_lock(&t->lock);
	text_copy(&banner, "\r\n", t->banner);
	text_copy(&motd, "\n", t->motd);
	pthread_mutex_unlock(&t->lock);
	return 0;
}

void texts_banner(struct texts *t, char ret_text[BANNER_BYTES])
{
	pthread_mutex_lock(&t->lock);
	strcpy(ret_text, t->banner);
	pthread_mutex_unlock(&t->lock);
}

void texts_motd(struct texts *t, char ret_text[MOTD_BYTES])
{
	pthread_mutex_lock(&t->lock);
	strcpy(ret_text, t->motd);
	pthread_mutex_unlock(&t->lock);
}
