/*
 * tests/unit/procd/sftp_client.c - see sftp_client.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "procd/sftp_wire.h"
#include "sftp_client.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WAIT_S 20

static void queue_add(struct queue *q, const void *p, size_t n)
{
	if (q->n == 0)
		q->at = 0;
	if (q->at + q->n + n > q->size) {
		q->size = (q->at + q->n + n) * 2;
		q->p = realloc(q->p, q->size);
		assert_non_null(q->p);
	}
	if (n > 0)
		memcpy(q->p + q->at + q->n, p, n);
	q->n += n;
}

static void queue_take(struct queue *q, size_t n)
{
	q->at += n;
	q->n -= n;
}

static ssize_t io_peek(void *ctx, const uint8_t **ret_p)
{
	struct server *s = ctx;
	size_t n;

	pthread_mutex_lock(&s->lock);
	while (s->input.n == 0 && !s->is_at_eof)
		pthread_cond_wait(&s->changed, &s->lock);
	n = s->input.n < s->piece ? s->input.n : s->piece;
	free(s->lent);
	s->lent = malloc(n ? n : 1);
	if (n > 0)
		memcpy(s->lent, s->input.p + s->input.at, n);
	s->lent_n = n;
	pthread_mutex_unlock(&s->lock);
	*ret_p = s->lent;
	return (ssize_t)n;
}

static void io_consume(void *ctx, size_t n)
{
	struct server *s = ctx;

	pthread_mutex_lock(&s->lock);
	ASSERT(n <= s->lent_n);
	queue_take(&s->input, n);
	free(s->lent);
	s->lent = NULL;
	s->lent_n = 0;
	pthread_mutex_unlock(&s->lock);
}

static int io_reserve(void *ctx, size_t n, uint8_t **ret_p)
{
	struct server *s = ctx;
	bool is_deaf;

	ASSERT(n <= SFTP_RESERVE_MAX);
	pthread_mutex_lock(&s->lock);
	is_deaf = s->is_deaf;
	pthread_mutex_unlock(&s->lock);
	free(s->reserved);
	s->reserved = is_deaf ? NULL : malloc(n);
	s->reserved_n = n;
	if (!s->reserved)
		return is_deaf ? -EPIPE : -ENOMEM;
	*ret_p = s->reserved;
	return 0;
}

static int io_commit(void *ctx, size_t n)
{
	struct server *s = ctx;

	ASSERT(s->reserved && n <= s->reserved_n);
	pthread_mutex_lock(&s->lock);
	queue_add(&s->output, s->reserved, n);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	free(s->reserved);
	s->reserved = NULL;
	return 0;
}

static bool io_is_gone(void *ctx)
{
	struct server *s = ctx;
	bool is_deaf;

	pthread_mutex_lock(&s->lock);
	is_deaf = s->is_deaf;
	pthread_mutex_unlock(&s->lock);
	return is_deaf;
}

static void *server_thread(void *arg)
{
	struct server *s = arg;
	int r = sftp_serve(&s->io, &s->options);

	pthread_mutex_lock(&s->lock);
	s->result = r;
	s->has_ended = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

void server_start_raw(struct server *s, const struct sftp_options *options, size_t piece)
{
	memset(s, 0, sizeof(*s));
	if (options)
		s->options = *options;
	if (!s->options.home) {
		strcpy(s->home, "/tmp/sftp-test-XXXXXX");
		assert_non_null(mkdtemp(s->home));
		s->options.home = s->home;
		s->owns_home = true;
	}
	s->piece = piece;
	s->io = (struct sftp_io){
		.ctx = s,
		.peek = io_peek,
		.consume = io_consume,
		.reserve = io_reserve,
		.commit = io_commit,
		.is_gone = io_is_gone,
	};
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	assert_int_equal(pthread_create(&s->thread, NULL, server_thread, s), 0);
}

void server_start(struct server *s, const struct sftp_options *options, size_t piece)
{
	struct message m = message_raw(SFTP_INIT);
	struct reply r;

	server_start_raw(s, options, piece);
	put_u32(&m, 3);
	message_close(&m);
	server_send(s, m.p, m.n);
	message_free(&m);
	r = server_reply(s);
	assert_int_equal(r.type, SFTP_VERSION_REPLY);
	assert_int_equal(r.id, 3);
	reply_free(&r);
}

int server_end(struct server *s)
{
	pthread_mutex_lock(&s->lock);
	s->is_at_eof = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	free(s->lent);
	free(s->reserved);
	s->lent = s->reserved = NULL;
	return s->result;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void server_stop(struct server *s)
{
	if (!s->has_ended || s->lent || s->reserved)
		assert_int_equal(server_end(s), 0);
	free(s->input.p);
	free(s->output.p);
	s->input = s->output = (struct queue){0};
	if (s->owns_home)
		nftw(s->home, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

void server_send(struct server *s, const void *p, size_t n)
{
	pthread_mutex_lock(&s->lock);
	queue_add(&s->input, p, n);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

void server_deafen(struct server *s)
{
	pthread_mutex_lock(&s->lock);
	s->is_deaf = true;
	pthread_mutex_unlock(&s->lock);
}

bool server_has_output(struct server *s)
{
	bool has;

	pthread_mutex_lock(&s->lock);
	has = s->output.n > 0;
	pthread_mutex_unlock(&s->lock);
	return has;
}

/* Waits until n output bytes are there. */
static void wait_output(struct server *s, size_t n)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_S;
	while (s->output.n < n) {
		if (s->has_ended)
			fail_msg("the server ended with %d instead of answering", s->result);
		if (pthread_cond_timedwait(&s->changed, &s->lock, &until) == ETIMEDOUT)
			fail_msg("no answer within %d s", WAIT_S);
	}
}

struct reply server_reply(struct server *s)
{
	struct reply r = {0};
	const uint8_t *p;
	size_t n;

	pthread_mutex_lock(&s->lock);
	wait_output(s, 9);
	n = sftp_load_u32(s->output.p + s->output.at);
	assert_in_range(n, 5, SFTP_PACKET_MAX);
	wait_output(s, 4 + n);
	p = s->output.p + s->output.at;
	r.type = p[4];
	r.id = sftp_load_u32(p + 5);
	r.n = n - 5;
	r.p = malloc(r.n ? r.n : 1);
	memcpy(r.p, p + 9, r.n);
	queue_take(&s->output, 4 + n);
	pthread_mutex_unlock(&s->lock);
	return r;
}

void reply_free(struct reply *r)
{
	free(r->p);
	r->p = NULL;
}

static void put_raw(struct message *m, const void *p, size_t n)
{
	if (m->n + n > m->size) {
		m->size = (m->n + n) * 2;
		m->p = realloc(m->p, m->size);
		assert_non_null(m->p);
	}
	if (n > 0)
		memcpy(m->p + m->n, p, n);
	m->n += n;
}

struct message message_raw(uint8_t type)
{
	struct message m = {0};

	put_u32(&m, 0);
	put_raw(&m, &type, 1);
	return m;
}

struct message message_new(struct server *s, uint8_t type)
{
	struct message m = message_raw(type);

	put_u32(&m, ++s->next_id);
	return m;
}

void put_u32(struct message *m, uint32_t v)
{
	uint8_t b[4];

	sftp_store_u32(b, v);
	put_raw(m, b, 4);
}

void put_u64(struct message *m, uint64_t v)
{
	put_u32(m, (uint32_t)(v >> 32));
	put_u32(m, (uint32_t)v);
}

void put_bytes(struct message *m, const void *p, size_t n)
{
	put_u32(m, (uint32_t)n);
	put_raw(m, p, n);
}

void put_text(struct message *m, const char *text)
{
	put_bytes(m, text, strlen(text));
}

void message_close(struct message *m)
{
	sftp_store_u32(m->p, (uint32_t)(m->n - 4));
}

void message_free(struct message *m)
{
	free(m->p);
	m->p = NULL;
}

struct reply ask(struct server *s, struct message m)
{
	uint32_t id = sftp_load_u32(m.p + 5);
	struct reply r;

	message_close(&m);
	server_send(s, m.p, m.n);
	message_free(&m);
	r = server_reply(s);
	assert_int_equal(r.id, id);
	return r;
}

static void check_status(struct reply *r, uint32_t code, const char *text)
{
	uint32_t got;
	struct bytes words;

	assert_int_equal(r->type, SFTP_STATUS);
	got = get_u32(r);
	words = get_bytes(r);
	if (got != code)
		fail_msg("status %u (%.*s) instead of %u", got, (int)words.n, (const char *)words.p, code);
	if (text && !bytes_is(words, text))
		fail_msg("the words are '%.*s' instead of '%s'", (int)words.n, (const char *)words.p, text);
	(void)get_bytes(r);
	assert_int_equal(r->at, r->n);
}

void ask_status(struct server *s, struct message m, uint32_t code)
{
	ask_status_text(s, m, code, NULL);
}

void ask_status_text(struct server *s, struct message m, uint32_t code, const char *text)
{
	struct reply r = ask(s, m);

	check_status(&r, code, text);
	reply_free(&r);
}

static const uint8_t *get_raw(struct reply *r, size_t n)
{
	const uint8_t *p = r->p + r->at;

	assert_in_range(n, 0, r->n - r->at);
	r->at += n;
	return p;
}

uint32_t get_u32(struct reply *r)
{
	return sftp_load_u32(get_raw(r, 4));
}

uint64_t get_u64(struct reply *r)
{
	return sftp_load_u64(get_raw(r, 8));
}

struct bytes get_bytes(struct reply *r)
{
	size_t n = get_u32(r);

	return bytes_of(get_raw(r, n), n);
}

struct message path_message(struct server *s, uint8_t type, const char *path)
{
	struct message m = message_new(s, type);

	put_text(&m, path);
	return m;
}

struct message two_paths(struct server *s, uint8_t type, const char *a, const char *b)
{
	struct message m = path_message(s, type, a);

	put_text(&m, b);
	return m;
}

struct message handle_message(struct server *s, uint8_t type, const struct handle *h)
{
	struct message m = message_new(s, type);

	put_bytes(&m, h->p, h->n);
	return m;
}

struct message open_message(struct server *s, const char *path, uint32_t flags)
{
	struct message m = path_message(s, SFTP_OPEN, path);

	put_u32(&m, flags);
	put_u32(&m, 0); /* no attributes */
	return m;
}

struct message write_message(struct server *s, const struct handle *h, uint64_t offset, const void *p, size_t n)
{
	struct message m = handle_message(s, SFTP_WRITE, h);

	put_u64(&m, offset);
	put_bytes(&m, p, n);
	return m;
}

struct message read_message(struct server *s, const struct handle *h, uint64_t offset, uint32_t n)
{
	struct message m = handle_message(s, SFTP_READ, h);

	put_u64(&m, offset);
	put_u32(&m, n);
	return m;
}

struct message extended(struct server *s, const char *name)
{
	return path_message(s, SFTP_EXTENDED, name);
}

static struct handle ask_handle(struct server *s, struct message m)
{
	struct reply r = ask(s, m);
	struct handle h;
	struct bytes b;

	if (r.type == SFTP_STATUS)
		check_status(&r, SFTP_FX_OK, NULL); /* says what went wrong */
	assert_int_equal(r.type, SFTP_HANDLE);
	b = get_bytes(&r);
	assert_in_range(b.n, 1, sizeof(h.p));
	memcpy(h.p, b.p, b.n);
	h.n = b.n;
	reply_free(&r);
	return h;
}

struct handle open_file(struct server *s, const char *path, uint32_t flags)
{
	return ask_handle(s, open_message(s, path, flags));
}

struct handle open_folder(struct server *s, const char *path)
{
	return ask_handle(s, path_message(s, SFTP_OPENDIR, path));
}

void close_handle(struct server *s, const struct handle *h)
{
	ask_status(s, handle_message(s, SFTP_CLOSE, h), SFTP_FX_OK);
}

void write_file(struct server *s, const char *path, const void *p, size_t n)
{
	struct handle h = open_file(s, path, SFTP_FXF_WRITE | SFTP_FXF_CREAT | SFTP_FXF_TRUNC);

	ask_status(s, write_message(s, &h, 0, p, n), SFTP_FX_OK);
	close_handle(s, &h);
}

void ask_name(struct server *s, struct message m, char *ret_name, size_t size)
{
	struct reply r = ask(s, m);
	struct bytes name, text;

	if (r.type == SFTP_STATUS)
		check_status(&r, SFTP_FX_OK, NULL);
	assert_int_equal(r.type, SFTP_NAME);
	assert_int_equal(get_u32(&r), 1);
	name = get_bytes(&r);
	text = get_bytes(&r);
	assert_int_equal(name.n, text.n);
	assert_int_equal(get_u32(&r), 0);
	assert_int_equal(r.at, r.n);
	assert_true(bytes_copy_str(name, ret_name, size));
	reply_free(&r);
}

const char *in_home(const struct server *s, const char *name)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/%s", s->options.home, name);
	return path;
}
