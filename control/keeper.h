/*
 * control/keeper.h - the process that holds one sandbox of this machine: `ringgate-control keeper …`, started by the local driver.
 *
 *	ringgate-control ──► keeper ──► procd ──► session processes, shells, commands, what they left behind
 *	   (driver thread)    subreaper
 *
 * It makes the sandbox's key and home, starts its procd, stops and continues the whole tree, and ends it. All orphans of the
 * sandbox come to it, so that none is lost. It ends the sandbox when the link closes: so also when ringgate-control was killed.
 *
 * The link is a SOCK_SEQPACKET pair, one order or message a packet, at descriptor KEEPER_LINK_FD. An order is given only after
 * the last one was answered, but KEEPER_END and KEEPER_REMOVE, which may come at any time and are answered by the link's end.
 *
 * Its folder is FOLDER/{home,key,key.pub,address,log}. Thread: a process of its own, one thread.
 */
#ifndef CONTROL_KEEPER_H
#define CONTROL_KEEPER_H

#include "core/check.h"

#include <stdint.h>

#define KEEPER_LINK_FD 3

/* Orders: one byte each. */
enum keeper_order {
	KEEPER_PAUSE = 'p',  /* answered by PAUSED, or RUNNING and why */
	KEEPER_RESUME = 'r', /* answered by RUNNING */
	KEEPER_END = 'e',    /* ends all processes */
	KEEPER_REMOVE = 'x', /* the same, and removes the folder */
};

enum keeper_kind {
	KEEPER_IS_RUNNING, /* at the start, too */
	KEEPER_IS_PAUSED,
	KEEPER_IS_ENDED, /* it could not start or its procd died; the link's end follows */
};

struct keeper_message {
	enum keeper_kind kind;
	char procd_url[160]; /* RUNNING */
	char procd_key[64];
	char reason[160]; /* "": as it was asked for */
};

/*
 * keeper --folder DIR --sandbox ID --procd PROGRAM --gateway-key FILE... [--user USER] [--shell PATH] [--procd-arg ARG]...
 * keeper --folder DIR --trash DIR    removes the folder only
 *
 * --trash is where a folder is moved before it is removed, so that nobody changes it meanwhile. Returns an exit status.
 */
MUST_USE int keeper_main(int argc, char **argv);

#endif
