/*
 * control/change.h - one entry of the changes feed: what somebody who cached an answer has to ask for again.
 *
 * Entries are rows of the table `changes`, written in the transaction of the change itself, so that none is ever lost, whoever
 * made it: this server, another one on the same database, the command line. `seq` grows in the order of the commits. It is
 * also the `version` of the internal API: an answer's version is the last seq before the answer was read. So an answer is out of
 * date for a subject exactly if it is below the seq of a later change of that subject.
 *
 * Thread: any; plain data.
 */
#ifndef CONTROL_CHANGE_H
#define CONTROL_CHANGE_H

#include "core/limits.h"

#include <stdint.h>

enum change_kind {
	CHANGE_KEY,     /* key: its grants */
	CHANGE_MEMBER,  /* user in team: may enter or not */
	CHANGE_SANDBOX, /* sandbox: deleted (or its team changed): who may enter */
	CHANGE_MOVED,   /* sandbox: its state or its address */
};

struct change {
	int64_t seq;
	enum change_kind kind;
	char key[FINGERPRINT_CHARS + 1]; /* KEY */
	char user[USER_ID_MAX + 1];      /* MEMBER */
	char team[TEAM_ID_MAX + 1];      /* MEMBER */
	char sandbox[SANDBOX_ID_MAX + 1];
};

#endif
