/*
 * control/driver_limits.h - the limits of the local driver, with their reasons. Times of the end fit into each other:
 * procd's own 3 s, then what it left, then SIGKILL; a region waits for all of it.
 */
#ifndef CONTROL_DRIVER_LIMITS_H
#define CONTROL_DRIVER_LIMITS_H

/* Sandboxes of one machine: each is two processes and two descriptors, and is looked for by comparing names. */
#define LOCAL_SANDBOXES_MAX 1000

/* Sandboxes whose procd is being started at once: after a restart all of them want to. */
#define LOCAL_STARTS_MAX 8

/* What the settings may name. */
#define LOCAL_GATEWAY_KEYS_MAX 16
#define LOCAL_PROCD_ARGS_MAX 32

/* procd has written its address: milliseconds, but a machine that starts all its sandboxes at once is slow. */
#define KEEPER_START_MS 20000
/* Between looks for that address. */
#define KEEPER_START_LOOK_MS 5
/* All processes are stopped: a fork bomb may win this race, and then the pause fails. */
#define KEEPER_PAUSE_MS 3000
/* After SIGTERM: procd tells its sessions and ends by itself in 3 s; then what it left has one more. */
#define KEEPER_PROCD_END_MS 4000
#define KEEPER_REST_END_MS 1000
/* After SIGKILL: only a process that hangs in the kernel is still there. */
#define KEEPER_KILL_MS 3000

/* An answer of the keeper that is later than this never comes. */
#define LOCAL_ANSWER_MS (KEEPER_START_MS + 5000)
/* All keepers have ended after SIGTERM of the control plane. */
#define LOCAL_STOP_MS (KEEPER_PROCD_END_MS + KEEPER_REST_END_MS + KEEPER_KILL_MS + 1000)
/* A keeper that closed its end of the link is reaped after this at the latest. */
#define LOCAL_REAP_LOOK_MS 10

/* A sandbox's log file that is longer is put aside as log.old at the next start. */
#define KEEPER_LOG_BYTES (1024 * 1024)

/* Processes of the machine that a walk may meet: the kernel's own default is 32,768 (4 million where it was raised). */
#define TREE_PROCESSES_MAX (1 << 17)
/* Between two walks. */
#define TREE_WALK_PAUSE_MS 2

#endif
