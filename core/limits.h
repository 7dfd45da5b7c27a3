/*
 * core/limits.h - every limit that more than one folder shares, with the reason for its size.
 *
 * What only one program or folder needs stands in that folder's own limits.h.
 */
#ifndef CORE_LIMITS_H
#define CORE_LIMITS_H

/* One chunk of a byte queue, its header included: two whole SSH packets of 32 KiB payload. */
#define CHUNK_BYTES (66 * 1024)

/* Free chunks a pool keeps for reuse; more are given back to the system, so a burst leaves no memory behind. */
#define CHUNK_POOL_KEEP 64

/* Sandbox IDs match ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$ (one DNS label), team and user IDs ^[A-Za-z0-9_-]{1,64}$. */
#define SANDBOX_ID_MAX 63
#define TEAM_ID_MAX 64
#define USER_ID_MAX 64

/* What a team and a sandbox forbid, as a control plane says it in JSON, and a NUL: 16 commands and 32 ranges of ports each fit. */
#define POLICY_TEXT_MAX 8192

/* A message of the day that a control plane has for a sandbox's users, in bytes; with every one of them escaped it fits, too. */
#define MOTD_TEXT_MAX 1000

/* "SHA256:" and 43 characters of unpadded base64. */
#define FINGERPRINT_CHARS 50

/* Teams in which one key of one user may be registered. */
#define GRANTS_MAX 32

#endif
