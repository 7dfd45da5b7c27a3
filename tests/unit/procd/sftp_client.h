/*
 * tests/unit/procd/sftp_client.h - an SFTP server in a thread of its own over in-memory queues, and requests to it.
 *
 * Owner:  the test owns the struct server; replies are freed by reply_free or with the server.
 * Life:   server_start to server_stop.
 * Thread: the test's. The server's thread sees only the queues, under a lock.
 *
 * Every piece of input that the server borrows, and every reservation, is an allocation of exactly that size, so that a
 * sanitizer sees one byte too much.
 */
#ifndef TESTS_SFTP_CLIENT_H
#define TESTS_SFTP_CLIENT_H

#include "core/bytes.h"
#include "procd/sftp.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The n bytes from p + at on. */
struct queue {
	uint8_t *p;
	size_t at, n, size;
};

/* A request under construction, its length word first. */
struct message {
	uint8_t *p;
	size_t n, size;
};

/* An answer, and a place in it that get_* moves on. */
struct reply {
	uint8_t type;
	uint32_t id;
	uint8_t *p;
	size_t n, at;
};

struct server {
	struct sftp_io io;
	struct sftp_options options;
	size_t piece; /* the most that one peek lends */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct queue input, output;
	bool is_at_eof, is_deaf, has_ended;
	int result;
	uint8_t *lent, *reserved;
	size_t lent_n, reserved_n;
	uint32_t next_id;
	char home[64]; /* a fresh folder, removed by server_stop */
	bool owns_home;
};

/* Started and INIT exchanged. `options` NULL: a fresh home folder. */
void server_start(struct server *s, const struct sftp_options *options, size_t piece);
/* Started, nothing sent. */
void server_start_raw(struct server *s, const struct sftp_options *options, size_t piece);
/* Ends the input, waits for the server, returns its result. */
int server_end(struct server *s);
/* server_end, asserts 0, removes the home folder. */
void server_stop(struct server *s);
void server_send(struct server *s, const void *p, size_t n);
/* Takes no answers any more. */
void server_deafen(struct server *s);
/* The next answer; fails the test if none comes. */
struct reply server_reply(struct server *s);
bool server_has_output(struct server *s);
void reply_free(struct reply *r);

/* A request of that type with a fresh id (for INIT and oddities message_raw). */
struct message message_new(struct server *s, uint8_t type);
struct message message_raw(uint8_t type);
void put_u32(struct message *m, uint32_t v);
void put_u64(struct message *m, uint64_t v);
void put_bytes(struct message *m, const void *p, size_t n); /* with its length before it */
void put_text(struct message *m, const char *text);
/* Fixes the length word. */
void message_close(struct message *m);
void message_free(struct message *m);

/* Sends, waits for the answer to this very request, frees the message. */
struct reply ask(struct server *s, struct message m);
/* The same, and the answer must be this status; returns nothing. */
void ask_status(struct server *s, struct message m, uint32_t code);
void ask_status_text(struct server *s, struct message m, uint32_t code, const char *text);

uint32_t get_u32(struct reply *r);
uint64_t get_u64(struct reply *r);
struct bytes get_bytes(struct reply *r);

struct handle {
	uint8_t p[256];
	size_t n;
};

/* Requests with the plain arguments. */
struct message path_message(struct server *s, uint8_t type, const char *path);
struct message two_paths(struct server *s, uint8_t type, const char *a, const char *b);
struct message handle_message(struct server *s, uint8_t type, const struct handle *h);
struct message open_message(struct server *s, const char *path, uint32_t flags);
struct message write_message(struct server *s, const struct handle *h, uint64_t offset, const void *p, size_t n);
struct message read_message(struct server *s, const struct handle *h, uint64_t offset, uint32_t n);
struct message extended(struct server *s, const char *name);

/* These must succeed. */
struct handle open_file(struct server *s, const char *path, uint32_t flags);
struct handle open_folder(struct server *s, const char *path);
void close_handle(struct server *s, const struct handle *h);
void write_file(struct server *s, const char *path, const void *p, size_t n);
/* The name in a NAME answer with one entry, copied into ret_name. */
void ask_name(struct server *s, struct message m, char *ret_name, size_t size);

/* home/name, in a static buffer. */
const char *in_home(const struct server *s, const char *name);

#endif
