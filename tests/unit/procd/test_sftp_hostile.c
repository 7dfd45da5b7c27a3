/*
 * tests/unit/procd/test_sftp_hostile.c - input that no honest client sends, and clients that leave.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "procd/sftp_wire.h"
#include "sftp_client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RW (SFTP_FXF_READ | SFTP_FXF_WRITE | SFTP_FXF_CREAT)

/* A server that gets these bytes and then the end of its input: its result. */
static int serve_raw(bool with_init, const void *p, size_t n)
{
	struct server s;
	int r;

	if (with_init)
		server_start(&s, NULL, 4096);
	else
		server_start_raw(&s, NULL, 4096);
	server_send(&s, p, n);
	r = server_end(&s);
	server_stop(&s);
	return r;
}

static void test_lost_framing(void **state)
{
	static const uint8_t too_long[] = {0, 4, 0, 1, SFTP_STAT, 0, 0, 0, 1};
	static const uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, SFTP_WRITE};
	static const uint8_t empty[] = {0, 0, 0, 0, 0, 0, 0, 0};
	static const uint8_t no_id[] = {0, 0, 0, 1, SFTP_STAT};
	static const uint8_t short_id[] = {0, 0, 0, 4, SFTP_STAT, 0, 0, 0};
	static const uint8_t write_no_id[] = {0, 0, 0, 4, SFTP_WRITE, 0, 0, 0};
	static const uint8_t early[] = {0, 0, 0, 9, SFTP_STAT, 0, 0, 0, 1, 0, 0, 0, 0};
	static const uint8_t early_write[] = {0, 0, 0, 9, SFTP_WRITE, 0, 0, 0, 1, 0, 0, 0, 0};

	(void)state;
	assert_int_equal(serve_raw(true, too_long, sizeof(too_long)), -EPROTO);
	assert_int_equal(serve_raw(true, huge, sizeof(huge)), -EPROTO);
	assert_int_equal(serve_raw(true, empty, sizeof(empty)), -EPROTO);
	assert_int_equal(serve_raw(true, no_id, sizeof(no_id)), -EPROTO);
	assert_int_equal(serve_raw(true, short_id, sizeof(short_id)), -EPROTO);
	assert_int_equal(serve_raw(true, write_no_id, sizeof(write_no_id)), -EPROTO);
	assert_int_equal(serve_raw(false, early, sizeof(early)), -EPROTO);
	assert_int_equal(serve_raw(false, early_write, sizeof(early_write)), -EPROTO);
	assert_int_equal(serve_raw(false, "", 0), 0);
	assert_int_equal(serve_raw(true, "", 0), 0);
	assert_int_equal(serve_raw(false, "SSH-2.0-garbage\r\n", 17), -EPROTO);
}

/* The input ends inside a packet, at every place. */
static void test_truncated_input(void **state)
{
	uint8_t data[300] = {0};
	struct message m;
	struct server s;
	struct handle h;

	(void)state;
	server_start(&s, NULL, 4096);
	h = open_file(&s, "f", RW);
	m = write_message(&s, &h, 0, data, sizeof(data));
	message_close(&m);
	server_stop(&s);
	for (size_t n = 1; n < m.n; n += n < 60 ? 1 : 50)
		assert_int_equal(serve_raw(true, m.p, n), -EPIPE);
	message_free(&m);
}

/*
 * One request of each type with all its fields, at place i; false behind the last. Names are long and relative, so that
 * no damaged one can mean anything outside the test's folder.
 */
static bool sample(struct server *s, const struct handle *h, size_t i, struct message *ret_m)
{
	static const uint8_t with_path[] = {SFTP_LSTAT, SFTP_STAT,     SFTP_OPENDIR, SFTP_REMOVE,
					    SFTP_RMDIR, SFTP_REALPATH, SFTP_READLINK};
	static const uint8_t with_two[] = {SFTP_RENAME, SFTP_SYMLINK};
	static const uint8_t with_handle[] = {SFTP_CLOSE, SFTP_FSTAT, SFTP_READDIR};
	static const char *const ext_two[] = {"posix-rename@openssh.com", "hardlink@openssh.com"};
	static const char *const ext_one[] = {"statvfs@openssh.com", "expand-path@openssh.com", "home-directory"};
	static const char *const ext_handle[] = {"fstatvfs@openssh.com", "fsync@openssh.com"};
	const char *a = "victim_aaaaaaaaaaaa", *b = "victim_bbbbbbbbbbbb";
	struct message m;

	if (i < ARRAY_LEN(with_path)) {
		*ret_m = path_message(s, with_path[i], a);
		return true;
	}
	i -= ARRAY_LEN(with_path);
	if (i < ARRAY_LEN(with_two)) {
		*ret_m = two_paths(s, with_two[i], a, b);
		return true;
	}
	i -= ARRAY_LEN(with_two);
	if (i < ARRAY_LEN(with_handle)) {
		*ret_m = handle_message(s, with_handle[i], h);
		return true;
	}
	i -= ARRAY_LEN(with_handle);
	if (i < ARRAY_LEN(ext_two)) {
		m = extended(s, ext_two[i]);
		put_text(&m, a);
		put_text(&m, b);
		*ret_m = m;
		return true;
	}
	i -= ARRAY_LEN(ext_two);
	if (i < ARRAY_LEN(ext_one)) {
		m = extended(s, ext_one[i]);
		put_text(&m, a);
		*ret_m = m;
		return true;
	}
	i -= ARRAY_LEN(ext_one);
	if (i < ARRAY_LEN(ext_handle)) {
		m = extended(s, ext_handle[i]);
		put_bytes(&m, h->p, h->n);
		*ret_m = m;
		return true;
	}
	i -= ARRAY_LEN(ext_handle);
	switch (i) {
	case 0:
		m = open_message(s, a, RW);
		break;
	case 1:
		m = read_message(s, h, 0, 1000);
		break;
	case 2:
		m = write_message(s, h, 0, "0123456789", 10);
		break;
	case 3:
	case 4:
	case 5:
	case 6:
		if (i == 3)
			m = path_message(s, SFTP_SETSTAT, a);
		else if (i == 4)
			m = path_message(s, SFTP_MKDIR, a);
		else if (i == 5)
			m = handle_message(s, SFTP_FSETSTAT, h);
		else {
			m = extended(s, "lsetstat@openssh.com");
			put_text(&m, a);
		}
		put_u32(&m, SFTP_ATTR_PERMISSIONS | SFTP_ATTR_ACMODTIME | SFTP_ATTR_EXTENDED);
		put_u32(&m, 0700);
		put_u32(&m, 1);
		put_u32(&m, 2);
		put_u32(&m, 1);
		put_text(&m, "a");
		put_text(&m, "b");
		break;
	case 7:
		m = extended(s, "copy-data");
		put_bytes(&m, h->p, h->n);
		put_u64(&m, 0);
		put_u64(&m, 10);
		put_bytes(&m, h->p, h->n);
		put_u64(&m, 0);
		break;
	case 8:
		m = extended(s, "users-groups-by-id@openssh.com");
		put_bytes(&m, "\0\0\0\0", 4);
		put_bytes(&m, "\0\0\0\0", 4);
		break;
	default:
		return false;
	}
	*ret_m = m;
	return true;
}

static void check_bad(struct server *s, const struct message *m, size_t n)
{
	struct message part = message_raw(m->p[4]);
	struct reply r;

	for (size_t i = 5; i < n; i += 4) {
		/* put in words, the last maybe shorter */
		size_t step = n - i < 4 ? n - i : 4;

		part.p = realloc(part.p, part.n + 4);
		memcpy(part.p + part.n, m->p + i, step);
		part.n += step;
		part.size = part.n;
	}
	r = ask(s, part);
	assert_int_equal(r.type, SFTP_STATUS);
	if (get_u32(&r) != SFTP_FX_BAD_MESSAGE)
		fail_msg("type %u cut to %zu of %zu bytes was not refused", m->p[4], n, m->n);
	reply_free(&r);
}

/* Every request cut at every place: refused as a bad message, and the next one is served. */
static void test_cut_requests(void **state)
{
	static const size_t pieces[] = {1, 4096};
	struct message m;

	(void)state;
	for (size_t k = 0; k < ARRAY_LEN(pieces); k++) {
		struct server s;
		struct handle h;

		server_start(&s, NULL, pieces[k]);
		h = open_file(&s, "victim_aaaaaaaaaaaa", RW);
		for (size_t i = 0; sample(&s, &h, i, &m); i++) {
			for (size_t n = 9; n < m.n; n++)
				check_bad(&s, &m, n);
			message_free(&m);
		}
		/* All of that changed nothing. */
		ask_status(&s, write_message(&s, &h, 0, "fine", 4), SFTP_FX_OK);
		close_handle(&s, &h);
		server_stop(&s);
	}
}

static void test_nul_in_path(void **state)
{
	struct message m;
	struct server s;

	(void)state;
	server_start(&s, NULL, 4096);
	m = message_new(&s, SFTP_STAT);
	put_bytes(&m, ".\0x", 3);
	ask_status(&s, m, SFTP_FX_BAD_MESSAGE);
	m = message_new(&s, SFTP_SYMLINK);
	put_text(&m, "target");
	put_bytes(&m, "l\0x", 3);
	ask_status(&s, m, SFTP_FX_BAD_MESSAGE);
	assert_int_not_equal(access(in_home(&s, "l"), F_OK), 0);
	server_stop(&s);
}

static void test_bad_handles(void **state)
{
	struct handle h, old, folder, bad;
	struct server s;

	(void)state;
	server_start(&s, NULL, 4096);
	old = open_file(&s, "f", RW);
	close_handle(&s, &old);
	ask_status(&s, handle_message(&s, SFTP_CLOSE, &old), SFTP_FX_NO_SUCH_FILE);
	h = open_file(&s, "f", RW); /* the same slot */
	ask_status(&s, read_message(&s, &old, 0, 1), SFTP_FX_FAILURE);
	ask_status(&s, write_message(&s, &old, 0, "x", 1), SFTP_FX_FAILURE);
	folder = open_folder(&s, ".");
	ask_status(&s, read_message(&s, &folder, 0, 1), SFTP_FX_FAILURE);
	ask_status(&s, write_message(&s, &folder, 0, "x", 1), SFTP_FX_FAILURE);
	ask_status(&s, handle_message(&s, SFTP_FSTAT, &folder), SFTP_FX_FAILURE);
	ask_status(&s, handle_message(&s, SFTP_READDIR, &h), SFTP_FX_FAILURE);
	for (size_t n = 0; n <= sizeof(bad.p); n++) {
		if (n == h.n)
			continue;
		memset(bad.p, 0, sizeof(bad.p));
		memcpy(bad.p, h.p, n < h.n ? n : h.n);
		bad.n = n;
		ask_status(&s, write_message(&s, &bad, 0, "x", 1), SFTP_FX_FAILURE);
		ask_status(&s, handle_message(&s, SFTP_CLOSE, &bad), SFTP_FX_NO_SUCH_FILE);
	}
	bad = h;
	bad.p[0] = 0x7f; /* a slot far away */
	ask_status(&s, read_message(&s, &bad, 0, 1), SFTP_FX_FAILURE);
	close_handle(&s, &h);
	close_handle(&s, &folder);
	server_stop(&s);
}

/* A WRITE whose payload claims to be longer than its packet writes nothing. */
static void test_write_lies(void **state)
{
	struct message m;
	struct server s;
	struct handle h;

	(void)state;
	server_start(&s, NULL, 5);
	h = open_file(&s, "f", RW);
	m = handle_message(&s, SFTP_WRITE, &h);
	put_u64(&m, 0);
	put_u32(&m, 1000);
	put_u64(&m, 0);
	ask_status(&s, m, SFTP_FX_BAD_MESSAGE);
	/* Less payload than packet: the rest is skipped, as OpenSSH does. */
	m = write_message(&s, &h, 0, "ab", 2);
	put_u32(&m, 0);
	ask_status(&s, m, SFTP_FX_OK);
	m = message_new(&s, SFTP_WRITE);
	put_u32(&m, UINT32_MAX);
	put_u64(&m, 0);
	ask_status(&s, m, SFTP_FX_BAD_MESSAGE);
	server_stop(&s);
}

/* Damaged requests by the thousand, framed well: each gets one answer or ends the server in an orderly way. */
static void test_damaged_requests(void **state)
{
	unsigned seed = 20240611;
	struct server s;
	struct handle h;

	(void)state;
	server_start(&s, NULL, 100);
	h = open_file(&s, "victim_aaaaaaaaaaaa", RW);
	for (int round = 0; round < 200; round++) {
		struct message m;

		for (size_t i = 0; sample(&s, &h, i, &m); i++) {
			struct reply r;
			size_t flips = 1 + (seed >> 8) % 3;

			/* Not this one: a damaged offset makes a file of terabytes, and copying it would be right. */
			if (memmem(m.p, m.n, "copy-data", 9)) {
				message_free(&m);
				continue;
			}
			/* Neither type nor id: the answer must be found again, and INIT's has no id. */
			while (flips-- > 0) {
				seed = seed * 1103515245 + 12345;
				m.p[9 + (seed >> 16) % (m.n - 9)] ^= (uint8_t)(1u << (seed >> 13) % 8);
			}
			r = ask(&s, m);
			reply_free(&r);
		}
	}
	server_stop(&s);
}

/* Hundreds of requests at once: answered in their order. */
static void test_pipelined(void **state)
{
	uint32_t ids[600];
	struct server s;
	struct handle h;

	(void)state;
	server_start(&s, NULL, 1000);
	h = open_file(&s, "f", RW);
	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		struct message m;

		if (i % 3 == 0)
			m = write_message(&s, &h, i, "abc", 3);
		else if (i % 3 == 1)
			m = read_message(&s, &h, 0, 100);
		else
			m = path_message(&s, SFTP_STAT, "f");
		message_close(&m);
		ids[i] = sftp_load_u32(m.p + 5);
		server_send(&s, m.p, m.n);
		message_free(&m);
	}
	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		static const uint8_t types[] = {SFTP_STATUS, SFTP_DATA, SFTP_ATTRS};
		struct reply r = server_reply(&s);

		assert_int_equal(r.id, ids[i]);
		assert_int_equal(r.type, types[i % 3]);
		reply_free(&r);
	}
	server_stop(&s);
}

static void test_peer_gone(void **state)
{
	struct message m;
	struct server s;

	(void)state;
	server_start(&s, NULL, 4096);
	server_deafen(&s);
	m = path_message(&s, SFTP_STAT, ".");
	message_close(&m);
	server_send(&s, m.p, m.n);
	message_free(&m);
	assert_int_equal(server_end(&s), -EPIPE);
	server_stop(&s);
}

/* A client of version 2 gets statuses without words. */
static void test_old_client(void **state)
{
	struct message m = message_raw(SFTP_INIT);
	struct server s;
	struct reply r;

	(void)state;
	server_start_raw(&s, NULL, 4096);
	put_u32(&m, 2);
	message_close(&m);
	server_send(&s, m.p, m.n);
	message_free(&m);
	r = server_reply(&s);
	assert_int_equal(r.type, SFTP_VERSION_REPLY);
	reply_free(&r);
	r = ask(&s, path_message(&s, SFTP_STAT, "none"));
	assert_int_equal(r.type, SFTP_STATUS);
	assert_int_equal(r.n, 4);
	assert_int_equal(get_u32(&r), SFTP_FX_NO_SUCH_FILE);
	reply_free(&r);
	server_stop(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lost_framing),     cmocka_unit_test(test_truncated_input),
		cmocka_unit_test(test_cut_requests),     cmocka_unit_test(test_nul_in_path),
		cmocka_unit_test(test_bad_handles),      cmocka_unit_test(test_write_lies),
		cmocka_unit_test(test_damaged_requests), cmocka_unit_test(test_pipelined),
		cmocka_unit_test(test_peer_gone),        cmocka_unit_test(test_old_client),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
