/*
 * procd/signals.h - signals by the names that SSH has for them (RFC 4254, section 6.10).
 */
#ifndef PROCD_SIGNALS_H
#define PROCD_SIGNALS_H

#include "core/bytes.h"

/* The number of a name without SIG; 0 for one that there is not. */
int signal_number(struct bytes name);
/* The name of a number; "SIG@openssh.com" for one without, as sshd says. */
const char *signal_name(int number);

#endif
