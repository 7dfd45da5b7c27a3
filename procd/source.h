/*
 * procd/source.h - output on its way from a descriptor to the gateway: a pipe, a terminal, a socket.
 *
 * Owner:  embedded in a channel's kind; does not own the descriptor where a sink has the same one.
 * Thread: the loop's.
 *
 * Bytes stay in the descriptor until there is room and credit for them, so a reader that is slow stops the writer.
 */
#ifndef PROCD_SOURCE_H
#define PROCD_SOURCE_H

#include "procd/loop.h"

#include <stdbool.h>
#include <stdint.h>

struct channel;

enum source_kind { SOURCE_PIPE, SOURCE_SOCKET, SOURCE_TERMINAL };

struct source {
	struct watch watch;
	int fd;
	enum source_kind kind;
	uint32_t stream; /* of DATA */
	bool is_readable;
	bool is_hung_up; /* its end was announced: read until it shows */
	bool is_done;
	bool is_broken; /* it ended with an error, not with an end of file */
	bool is_enlarged;
	uint8_t *first; /* of a terminal: sent before what is read from it; NULL */
	uint32_t first_bytes, first_sent;
	uint32_t owed; /* bytes that were in it when its writer was reaped */
	uint64_t read_bytes;
};

void source_init(struct source *s, int fd, enum source_kind kind, uint32_t stream);
/* A terminal's first words, of somebody else's than the program's; `text` is the source's then, from malloc. */
void source_put_first(struct source *s, uint8_t *text, uint32_t bytes);
void source_deinit(struct source *s);
/* Takes what epoll said. */
void source_on_events(struct source *s, uint32_t events);
/* True when there may be something to read, and credit for it. */
bool source_has_output(const struct source *s, const struct channel *c);
/* Sends up to `frames` frames of it. True if any was sent. May find that it is done. */
bool source_emit(struct source *s, struct channel *c, uint32_t frames);
/* The writer is gone: what is in it now must be sent before its end is told. */
void source_owe(struct source *s);

#endif
