/*
 * gateway/texts.h - the operator's words for users, from files: before login (login.banner_file), on a terminal (session.motd_file).
 *
 * Owner:  the server.
 * Thread: any; the lock is held for a copy only. texts_load is main's.
 */
#ifndef GATEWAY_TEXTS_H
#define GATEWAY_TEXTS_H

#include "core/check.h"
#include "gateway/config.h"
#include "gateway/limits.h"

#include <pthread.h>

/* With CR LF at each line's end; and a NUL. */
#define BANNER_BYTES (2 * TEXT_FILE_BYTES_MAX + 1)
/* With LF. */
#define MOTD_BYTES (TEXT_FILE_BYTES_MAX + 1)

struct texts {
	pthread_mutex_t lock;
	char banner[BANNER_BYTES], motd[MOTD_BYTES]; /* "" where there is none */
};

void texts_init(struct texts *t);
/* Reads both. -EINVAL with a sentence, and then the old ones stay. */
MUST_USE int texts_load(struct texts *t, const struct config *c, char ret_error[CONFIG_ERROR_BYTES]);
void texts_banner(struct texts *t, char ret_text[BANNER_BYTES]);
void texts_motd(struct texts *t, char ret_text[MOTD_BYTES]);

#endif
