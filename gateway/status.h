/*
 * gateway/status.h - what `ringgate status` says, as a JSON text.
 *
 * Thread: the admin's.
 */
#ifndef GATEWAY_STATUS_H
#define GATEWAY_STATUS_H

#include "gateway/server.h"

/* On the heap; NULL without memory. */
char *status_text(struct server *s);

/* Writes such a text to standard output, a line for each part. False: it is none. Any thread. */
MUST_USE bool status_print(const char *text);

#endif
