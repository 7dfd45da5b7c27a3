/*
 * upstream/procd/frame.h - the procd protocol's frames: encoding and incremental decoding. Pure: no I/O, no state of channels.
 *
 * Owner:  a frame_reader is embedded in whoever reads a stream; decoded frames borrow its memory.
 * Life:   a struct frame and all bytes in it are valid during on_frame only; on_data's piece lies in the bytes fed and lives as
 *         long as they do.
 * Thread: the one that owns the reader.
 *
 * Source: docs/procd-protocol.md. Everything read here is hostile: sizes are checked against the limits below before memory
 * is taken for them, nesting is bounded, and what is wrong is FRAME_ERROR, never a crash.
 */
#ifndef UPSTREAM_PROCD_FRAME_H
#define UPSTREAM_PROCD_FRAME_H

#include "core/bytes.h"
#include "core/check.h"

#include <stdint.h>
#include <sys/types.h>

#define FRAME_VERSION 1
#define FRAME_DATA_MAX (32 * 1024)  /* payload of one DATA frame: one SSH packet */
#define FRAME_OPEN_MAX (288 * 1024) /* an encoded OPEN */
#define FRAME_OTHER_MAX (64 * 1024) /* any other encoded frame */
#define FRAME_ENV_MAX 256           /* environment names in one OPEN */
#define FRAME_DEPTH_MAX 8           /* nested arrays and maps */
#define FRAME_ITEMS_MAX 4096        /* items in one frame, nested ones included: bounds the memory to decode it */
#define FRAME_DATA_HEADER_MAX 16    /* an encoded DATA frame up to its payload */
#define FRAME_CHALLENGE_BYTES 32
#define FRAME_SIGNATURE_BYTES 64

enum frame_type {
	FRAME_CHALLENGE = 0,
	FRAME_HELLO = 1,
	FRAME_WELCOME = 2,
	FRAME_ERROR = 3,
	FRAME_PING = 4,
	FRAME_PONG = 5,
	FRAME_GOAWAY = 6,
	FRAME_OPEN = 8,
	FRAME_OPENED = 9,
	FRAME_REFUSED = 10,
	FRAME_DATA = 11,
	FRAME_CREDIT = 12,
	FRAME_EOF = 13,
	FRAME_RESIZE = 14,
	FRAME_SIGNAL = 15,
	FRAME_EXIT = 16,
	FRAME_EXIT_SIGNAL = 17,
	FRAME_CLOSE = 18,
	FRAME_EOW = 19,
	FRAME_LISTEN = 20,
	FRAME_LISTENING = 21,
	FRAME_LISTEN_REFUSED = 22,
	FRAME_UNLISTEN = 23,
	FRAME_UNLISTENED = 24,
	FRAME_IGNORABLE = 128, /* this number and all above: skipped by the reader */
};

/* The subsystem `sftp` with nothing opened for writing. A procd that does not know it serves nothing, which is safe. */
#define FRAME_SFTP_READ_ONLY "sftp-read-only"
#define FRAME_MESSAGE_MAX 255

struct frame_env {
	struct bytes name, value;
};

/* The options of an OPEN, of every kind; what the frame does not carry is empty, zero or false. */
struct frame_open_options {
	bool has_pty;
	struct {
		struct bytes term;
		uint32_t columns, rows, xpixels, ypixels;
		struct bytes modes; /* as in RFC 4254 section 8 */
	} pty;
	const struct frame_env *env;
	uint32_t env_count;
	struct bytes command; /* exec */
	struct bytes name;    /* subsystem */
	struct bytes message; /* shell: of the day; subsystem FRAME_SFTP_READ_ONLY: for whoever tries to write */
	struct bytes host;    /* tcp: where to; forwarded-tcp: the address listened on */
	struct bytes originator_host;
	struct bytes path; /* unix */
	uint32_t port, originator_port;
	uint64_t request; /* forwarded-*: the LISTEN's request */
	uint32_t session; /* agent: the session channel */
	bool agent;       /* shell, exec: the user's client offers its agent */
};

struct frame {
	uint32_t type; /* enum frame_type */
	uint32_t channel;
	union {
		struct {
			uint32_t version;
			struct bytes nonce;
		} challenge;
		struct {
			uint32_t version;
			struct bytes ticket, signature;
		} hello;
		struct {
			uint32_t version;
			struct bytes signature;
		} welcome;
		struct {
			struct bytes code, message;
		} error;         /* ERROR, REFUSED; GOAWAY has only the message */
		uint64_t opaque; /* PING, PONG */
		struct {
			struct bytes kind;
			uint32_t credit;
			struct frame_open_options options;
		} open;
		struct {
			uint32_t credit;
		} opened;
		uint32_t credit;
		struct {
			uint32_t columns, rows, xpixels, ypixels;
		} resize;
		struct bytes signal; /* name without SIG */
		uint32_t exit_status;
		struct {
			struct bytes name, message;
			bool core_dumped;
		} exit_signal;
		struct {
			uint64_t request;
			struct bytes kind, address; /* LISTEN */
			uint32_t port;              /* LISTEN, LISTENING */
			struct bytes code, message; /* LISTEN_REFUSED */
		} listen;                           /* LISTEN, LISTENING, LISTEN_REFUSED, UNLISTEN, UNLISTENED */
	};
};

/*
 * Encodes any frame but DATA into `out` (room for `size` bytes). Returns its length, or -ENOBUFS when it does not fit,
 * -EMSGSIZE when it is over the protocol's limit for its type.
 */
MUST_USE ssize_t frame_encode(const struct frame *f, uint8_t *out, size_t size);

/* Most frames fit in this; OPEN needs up to FRAME_OPEN_MAX. */
#define FRAME_SMALL_MAX 1024

/* Encodes a DATA frame's head for `payload_bytes` (1..FRAME_DATA_MAX) that follow it; returns its length. */
size_t frame_encode_data_head(uint32_t channel, uint32_t stream, uint32_t payload_bytes,
			      uint8_t out[FRAME_DATA_HEADER_MAX]);

/*
 * The same in a fixed number of bytes, for who must know where the payload will stand before he knows its channel.
 */
#define FRAME_DATA_HEADER_WIDE 11
void frame_encode_data_head_wide(uint32_t channel, uint32_t stream, uint32_t payload_bytes,
				 uint8_t out[FRAME_DATA_HEADER_WIDE]);

struct frame_sink {
	/* A whole frame, never DATA. 0 to go on, negative errno to stop: frame_reader_feed returns it. */
	int (*on_frame)(void *ctx, const struct frame *f);
	/*
	 * A piece of a DATA frame's payload, as much as has arrived. A frame's pieces come in order, nothing between them;
	 * left is how many bytes of this frame are still to come after this piece. Empty frames do not show.
	 */
	int (*on_data)(void *ctx, uint32_t channel, uint32_t stream, struct bytes piece, uint32_t left);
};

struct frame_reader {
	const struct frame_sink *sink;
	void *ctx;
	/* Private: DATA in progress, and how many fields of it follow its payload. */
	uint32_t data_channel, data_stream, data_left;
	uint32_t tail_items;
	bool is_tail;
	/* Private: the scan over a frame whose end is not known yet. */
	bool is_scanning;
	uint32_t type, limit_bytes, scanned_bytes, item_count;
	uint32_t depth;
	uint32_t open_counts[FRAME_DEPTH_MAX + 1];
	/* Private: what came of a frame that was cut by the end of the bytes fed. */
	uint8_t *partial;
	uint32_t partial_bytes, partial_size;
	const char *error;
};

void frame_reader_init(struct frame_reader *r, const struct frame_sink *sink, void *ctx);
void frame_reader_deinit(struct frame_reader *r);

/*
 * Takes n bytes as they came from the stream and hands out all that they complete. 0; -EPROTO for bytes that are no frame
 * (frame_reader_error says why); -EMSGSIZE for one over its limit; -ENOMEM; or what the sink returned. After an error the
 * reader is done. The sink must not deinit the reader inside a callback.
 * Memory: nothing between whole frames, and none for DATA but its head.
 */
MUST_USE int frame_reader_feed(struct frame_reader *r, const uint8_t *p, size_t n);
const char *frame_reader_error(const struct frame_reader *r);

/* True between two frames: where a stream may end without having been cut. */
bool frame_reader_is_between(const struct frame_reader *r);

const char *frame_type_name(uint32_t type);

#endif
