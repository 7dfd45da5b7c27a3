/*
 * procd/ttymodes.h - a client's terminal modes (RFC 4254, section 8) on a terminal of ours.
 */
#ifndef PROCD_TTYMODES_H
#define PROCD_TTYMODES_H

#include "core/bytes.h"

#include <termios.h>

/* Changes what the modes name; opcodes that this system does not know are skipped, a cut list ends there. */
void ttymodes_apply(struct bytes modes, struct termios *t);

#endif
