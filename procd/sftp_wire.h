/*
 * procd/sftp_wire.h - numbers of the SFTP version 3 wire format, and cursors that read and write it.
 *
 * Source: draft-ietf-secsh-filexfer-02; the section on SFTP in OpenSSH's PROTOCOL for the extensions.
 * Owner:  cursors borrow their memory.
 * Thread: any.
 */
#ifndef PROCD_SFTP_WIRE_H
#define PROCD_SFTP_WIRE_H

#include "core/bytes.h"
#include "core/check.h"

enum { SFTP_VERSION = 3 };

enum sftp_type {
	SFTP_INIT = 1,
	SFTP_VERSION_REPLY = 2,
	SFTP_OPEN = 3,
	SFTP_CLOSE = 4,
	SFTP_READ = 5,
	SFTP_WRITE = 6,
	SFTP_LSTAT = 7,
	SFTP_FSTAT = 8,
	SFTP_SETSTAT = 9,
	SFTP_FSETSTAT = 10,
	SFTP_OPENDIR = 11,
	SFTP_READDIR = 12,
	SFTP_REMOVE = 13,
	SFTP_MKDIR = 14,
	SFTP_RMDIR = 15,
	SFTP_REALPATH = 16,
	SFTP_STAT = 17,
	SFTP_RENAME = 18,
	SFTP_READLINK = 19,
	SFTP_SYMLINK = 20,
	SFTP_STATUS = 101,
	SFTP_HANDLE = 102,
	SFTP_DATA = 103,
	SFTP_NAME = 104,
	SFTP_ATTRS = 105,
	SFTP_EXTENDED = 200,
	SFTP_EXTENDED_REPLY = 201,
};

enum sftp_status_code {
	SFTP_FX_OK = 0,
	SFTP_FX_EOF = 1,
	SFTP_FX_NO_SUCH_FILE = 2,
	SFTP_FX_PERMISSION_DENIED = 3,
	SFTP_FX_FAILURE = 4,
	SFTP_FX_BAD_MESSAGE = 5,
	SFTP_FX_OP_UNSUPPORTED = 8,
};

enum sftp_open_flag {
	SFTP_FXF_READ = 0x01,
	SFTP_FXF_WRITE = 0x02,
	SFTP_FXF_APPEND = 0x04,
	SFTP_FXF_CREAT = 0x08,
	SFTP_FXF_TRUNC = 0x10,
	SFTP_FXF_EXCL = 0x20,
};

#define SFTP_ATTR_SIZE 0x00000001u
#define SFTP_ATTR_UIDGID 0x00000002u
#define SFTP_ATTR_PERMISSIONS 0x00000004u
#define SFTP_ATTR_ACMODTIME 0x00000008u
#define SFTP_ATTR_EXTENDED 0x80000000u

/* Reading. One missing byte makes the cursor bad for good, so a handler gets all its fields and checks once. */
struct sftp_in {
	const uint8_t *p;
	size_t n;
	bool is_bad;
};

static inline uint32_t sftp_load_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t sftp_load_u64(const uint8_t *p)
{
	return (uint64_t)sftp_load_u32(p) << 32 | sftp_load_u32(p + 4);
}

/* The next n bytes, or NULL (and a bad cursor) where there are fewer. */
static inline const uint8_t *sftp_get(struct sftp_in *in, size_t n)
{
	const uint8_t *p = in->p;

	if (in->is_bad || in->n < n) {
		in->is_bad = true;
		return NULL;
	}
	in->p += n;
	in->n -= n;
	return p;
}

static inline uint32_t sftp_get_u32(struct sftp_in *in)
{
	const uint8_t *p = sftp_get(in, 4);

	return p ? sftp_load_u32(p) : 0;
}

static inline uint64_t sftp_get_u64(struct sftp_in *in)
{
	const uint8_t *p = sftp_get(in, 8);

	return p ? sftp_load_u64(p) : 0;
}

static inline struct bytes sftp_get_string(struct sftp_in *in)
{
	size_t n = sftp_get_u32(in);
	const uint8_t *p = sftp_get(in, n);

	return p ? bytes_of(p, n) : bytes_of(NULL, 0);
}

/* Writing. The caller reserved enough; less is our own mistake. */
struct sftp_out {
	uint8_t *base, *p, *end;
};

static inline uint8_t *sftp_put_room(struct sftp_out *o, size_t n)
{
	uint8_t *p = o->p;

	ASSERT((size_t)(o->end - o->p) >= n);
	o->p += n;
	return p;
}

static inline void sftp_store_u32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static inline void sftp_put_u32(struct sftp_out *o, uint32_t v)
{
	sftp_store_u32(sftp_put_room(o, 4), v);
}

static inline void sftp_put_u64(struct sftp_out *o, uint64_t v)
{
	sftp_put_u32(o, (uint32_t)(v >> 32));
	sftp_put_u32(o, (uint32_t)v);
}

static inline void sftp_put_string(struct sftp_out *o, struct bytes b)
{
	sftp_put_u32(o, (uint32_t)b.n);
	if (b.n > 0)
		memcpy(sftp_put_room(o, b.n), b.p, b.n);
}

#endif
