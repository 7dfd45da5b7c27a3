/*
 * procd/sftp_limits.h - limits of the SFTP server, with their reasons.
 */
#ifndef PROCD_SFTP_LIMITS_H
#define PROCD_SFTP_LIMITS_H

/* One packet without its length word: what OpenSSH's client and server accept. */
#define SFTP_PACKET_MAX (256 * 1024)

/* Payload of one READ or WRITE: a packet less room for its header, as OpenSSH announces by limits@openssh.com. */
#define SFTP_DATA_MAX (SFTP_PACKET_MAX - 1024)

/* Largest output reservation: a DATA reply, its length word and header, fits in it. */
#define SFTP_RESERVE_MAX (4 + SFTP_PACKET_MAX)

/* A DATA reply up to its payload: length, type, id, payload length. A stream may place a reservation so that what stands
 * behind these bytes is aligned: the kernel copies a tenth faster. */
#define SFTP_DATA_HEAD (4 + 1 + 4 + 4)

/* Files and folders open at once in one server; OpenSSH's client uses one or two, sshfs some hundreds. */
#define SFTP_HANDLES_MAX 1024

/* Descriptors that the process keeps for itself when the handles are derived from RLIMIT_NOFILE. */
#define SFTP_HANDLES_RESERVE 32

/* The draft lets a handle have up to 256 bytes; ours have 8, longer ones are not ours. */
#define SFTP_HANDLE_BYTES 8
#define SFTP_HANDLE_BYTES_MAX 256

/* One READDIR reply: inside the 34,000 bytes that the draft lets every client take. */
#define SFTP_READDIR_BYTES (32 * 1024)

/* One directory entry in it: name, long name with the same name in it, attributes. */
#define SFTP_NAME_MAX 1024
#define SFTP_ENTRY_BYTES (4 + SFTP_NAME_MAX + 4 + SFTP_LONG_NAME_MAX + 32)
#define SFTP_LONG_NAME_MAX (SFTP_NAME_MAX + 448)

/* User and group names remembered for listings; a folder has few owners. Names from this length on are shown as numbers. */
#define SFTP_OWNER_CACHE 32
#define SFTP_OWNER_NAME_BYTES 128

/* Buffer for one passwd or group entry: a group with thousands of members is large. */
#define SFTP_OWNER_LOOKUP_BYTES (1024 * 1024)

/* As Linux counts them, with some to spare. */
#define SFTP_SYMLINKS_MAX 40

/* copy-data: bytes asked from the kernel at once (between two looks at whether the client is still there), and the
 * buffer where the kernel cannot copy by itself. */
#define SFTP_COPY_STEP (8 * 1024 * 1024)
#define SFTP_COPY_BUFFER (256 * 1024)

/* The filter: bytes read at once (from 16 to 256 KiB measured: larger ones leave the L2 cache before they are written), and
 * output bytes that are sent without waiting for more. */
#define SFTP_FILTER_INPUT (128 * 1024)
#define SFTP_FILTER_FLUSH (32 * 1024)

#endif
