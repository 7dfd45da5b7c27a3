/*
 * procd/listen.h - the listening socket, by its text form.
 */
#ifndef PROCD_LISTEN_H
#define PROCD_LISTEN_H

#include "core/check.h"

#include <stddef.h>

/* ADDR:PORT, [ADDR]:PORT, or unix:/path (a socket left there by a process that is gone is replaced). -EINVAL: no such form. */
MUST_USE int listen_open(const char *text, int *ret_fd);
/* Our own address of a socket, in the same form. */
void listen_name(int fd, char *ret_text, size_t size);
/* Writes one line, so that nobody ever reads half of it. 0 or negative errno. */
MUST_USE int listen_write_file(const char *path, const char *text);
/* Removes a Unix socket's file. */
void listen_remove(const char *text);

#endif
