/*
 * tests/unit/procd/test_sftp_ext.c - extensions and read-only mode of the SFTP server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "procd/sftp_wire.h"
#include "sftp_client.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define RW (SFTP_FXF_READ | SFTP_FXF_WRITE | SFTP_FXF_CREAT)

/* name=version, joined by commas, from the VERSION answer. */
static void announced(bool is_read_only, char *ret_text, size_t size)
{
	const struct sftp_options options = {.is_read_only = is_read_only};
	struct message m = message_raw(SFTP_INIT);
	struct server s;
	struct reply r;
	size_t n = 0;

	server_start_raw(&s, &options, 4096);
	put_u32(&m, 3);
	put_text(&m, "something@example.org"); /* a client may announce too */
	put_text(&m, "1");
	message_close(&m);
	server_send(&s, m.p, m.n);
	message_free(&m);
	r = server_reply(&s);
	assert_int_equal(r.type, SFTP_VERSION_REPLY);
	assert_int_equal(r.id, 3);
	ret_text[0] = 0;
	while (r.at < r.n) {
		struct bytes name = get_bytes(&r), version = get_bytes(&r);

		n += (size_t)snprintf(ret_text + n, size - n, "%s%.*s=%.*s", n ? "," : "", (int)name.n,
				      (const char *)name.p, (int)version.n, (const char *)version.p);
	}
	reply_free(&r);
	server_stop(&s);
}

static void test_announcements(void **state)
{
	char text[2000];

	(void)state;
	announced(false, text, sizeof(text));
	assert_string_equal(text, "posix-rename@openssh.com=1,statvfs@openssh.com=2,fstatvfs@openssh.com=2,"
				  "hardlink@openssh.com=1,fsync@openssh.com=1,lsetstat@openssh.com=1,"
				  "limits@openssh.com=1,expand-path@openssh.com=1,copy-data=1,home-directory=1,"
				  "users-groups-by-id@openssh.com=1");
	announced(true, text, sizeof(text));
	assert_string_equal(text, "statvfs@openssh.com=2,fstatvfs@openssh.com=2,limits@openssh.com=1,"
				  "expand-path@openssh.com=1,home-directory=1,users-groups-by-id@openssh.com=1");
}

static void check_statvfs(struct reply *r, const char *path)
{
	struct statvfs v;

	assert_int_equal(r->type, SFTP_EXTENDED_REPLY);
	assert_int_equal(statvfs(path, &v), 0);
	assert_int_equal(get_u64(r), v.f_bsize);
	assert_int_equal(get_u64(r), v.f_frsize);
	assert_int_equal(get_u64(r), v.f_blocks);
	for (int i = 0; i < 2; i++)
		(void)get_u64(r); /* free blocks change under us */
	assert_int_equal(get_u64(r), v.f_files);
	for (int i = 0; i < 2; i++)
		(void)get_u64(r);
	assert_int_equal(get_u64(r), v.f_fsid);
	assert_in_range(get_u64(r), 0, 3);
	assert_int_equal(get_u64(r), v.f_namemax);
	assert_int_equal(r->at, r->n);
	reply_free(r);
}

static void test_statvfs(void **state)
{
	struct message m;
	struct server s;
	struct handle h;
	struct reply r;

	(void)state;
	server_start(&s, NULL, 4096);
	m = extended(&s, "statvfs@openssh.com");
	put_text(&m, ".");
	r = ask(&s, m);
	check_statvfs(&r, s.home);
	h = open_file(&s, "f", RW);
	m = extended(&s, "fstatvfs@openssh.com");
	put_bytes(&m, h.p, h.n);
	r = ask(&s, m);
	check_statvfs(&r, s.home);
	m = extended(&s, "statvfs@openssh.com");
	put_text(&m, "none");
	ask_status(&s, m, SFTP_FX_NO_SUCH_FILE);
	server_stop(&s);
}

static uint64_t ask_limits(struct server *s)
{
	struct reply r = ask(s, extended(s, "limits@openssh.com"));
	uint64_t handles;

	assert_int_equal(r.type, SFTP_EXTENDED_REPLY);
	assert_int_equal(get_u64(&r), 262144);
	assert_int_equal(get_u64(&r), 261120);
	assert_int_equal(get_u64(&r), 261120);
	handles = get_u64(&r);
	assert_int_equal(r.at, r.n);
	reply_free(&r);
	return handles;
}

/* Exactly as many handles as announced, and every one usable again after it was closed. */
static void test_handle_limit(void **state)
{
	struct rlimit old, low = {80, 0};
	struct server s;
	struct handle *h;
	uint64_t max;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	server_start(&s, NULL, 4096);
	max = ask_limits(&s);
	assert_int_equal(max, 80 - SFTP_HANDLES_RESERVE);
	h = calloc(max, sizeof(*h));
	for (int round = 0; round < 3; round++) {
		for (uint64_t i = 0; i < max; i++)
			h[i] = i % 2 ? open_folder(&s, ".") : open_file(&s, "f", RW);
		ask_status_text(&s, open_message(&s, "g", RW), SFTP_FX_FAILURE, "Too many open files");
		assert_int_not_equal(access(in_home(&s, "g"), F_OK), 0); /* refused before it was made */
		ask_status(&s, path_message(&s, SFTP_OPENDIR, "."), SFTP_FX_FAILURE);
		for (uint64_t i = 0; i < max; i++)
			close_handle(&s, &h[i]);
	}
	free(h);
	server_stop(&s);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

static void test_fsync(void **state)
{
	struct message m;
	struct server s;
	struct handle h;

	(void)state;
	server_start(&s, NULL, 4096);
	h = open_file(&s, "f", RW);
	m = extended(&s, "fsync@openssh.com");
	put_bytes(&m, h.p, h.n);
	ask_status(&s, m, SFTP_FX_OK);
	close_handle(&s, &h);
	m = extended(&s, "fsync@openssh.com");
	put_bytes(&m, h.p, h.n);
	ask_status(&s, m, SFTP_FX_NO_SUCH_FILE);
	server_stop(&s);
}

static struct message copy_message(struct server *s, const struct handle *from, uint64_t from_at, uint64_t n,
				   const struct handle *to, uint64_t to_at)
{
	struct message m = extended(s, "copy-data");

	put_bytes(&m, from->p, from->n);
	put_u64(&m, from_at);
	put_u64(&m, n);
	put_bytes(&m, to->p, to->n);
	put_u64(&m, to_at);
	return m;
}

static void check_content(const struct server *s, const char *name, const char *want, size_t n)
{
	char got[64];
	FILE *f = fopen(in_home(s, name), "r");

	assert_non_null(f);
	assert_int_equal(fread(got, 1, sizeof(got), f), n);
	assert_memory_equal(got, want, n);
	fclose(f);
}

static void test_copy_data(void **state)
{
	struct handle from, to, end, version, full;
	struct server s;

	(void)state;
	server_start(&s, NULL, 4096);
	write_file(&s, "f", "0123456789", 10);
	from = open_file(&s, "f", SFTP_FXF_READ);
	to = open_file(&s, "g", RW);
	ask_status(&s, copy_message(&s, &from, 2, 3, &to, 1), SFTP_FX_OK);
	check_content(&s, "g",
		      "\0"
		      "234",
		      4);
	ask_status(&s, copy_message(&s, &from, 0, 0, &to, 0), SFTP_FX_OK); /* 0: until the end */
	check_content(&s, "g", "0123456789", 10);
	ask_status(&s, copy_message(&s, &from, 5, 100, &to, 10), SFTP_FX_EOF);
	check_content(&s, "g", "012345678956789", 15);

	/* At the end of a file that only grows, where the kernel refuses to copy by itself. */
	end = open_file(&s, "g", SFTP_FXF_WRITE | SFTP_FXF_APPEND);
	ask_status(&s, copy_message(&s, &from, 0, 2, &end, 0), SFTP_FX_OK);
	check_content(&s, "g", "01234567895678901", 17);

	/* A file that claims to be empty. */
	version = open_file(&s, "/proc/self/comm", SFTP_FXF_READ);
	ask_status(&s, copy_message(&s, &version, 0, 0, &end, 0), SFTP_FX_OK);
	full = open_file(&s, "/dev/full", SFTP_FXF_WRITE);
	ask_status_text(&s, copy_message(&s, &from, 0, 0, &full, 0), SFTP_FX_FAILURE, "No space left on device");

	ask_status(&s, copy_message(&s, &from, 0, 0, &from, 20), SFTP_FX_FAILURE);
	ask_status(&s, copy_message(&s, &to, 0, 0, &end, 20), SFTP_FX_FAILURE); /* one file, two handles */
	ask_status(&s, copy_message(&s, &from, UINT64_MAX, 1, &to, 0), SFTP_FX_BAD_MESSAGE);
	close_handle(&s, &from);
	ask_status(&s, copy_message(&s, &from, 0, 0, &to, 0), SFTP_FX_NO_SUCH_FILE);
	server_stop(&s);
}

/* An endless copy ends with its client. */
static void test_copy_stops_with_client(void **state)
{
	struct handle from, to;
	struct message m;
	struct server s;
	int r;

	(void)state;
	server_start(&s, NULL, 4096);
	from = open_file(&s, "/dev/zero", SFTP_FXF_READ);
	to = open_file(&s, "/dev/null", SFTP_FXF_WRITE);
	m = copy_message(&s, &from, 0, 0, &to, 0);
	message_close(&m);
	server_send(&s, m.p, m.n);
	message_free(&m);
	usleep(10000);
	assert_false(server_has_output(&s));
	server_deafen(&s);
	r = server_end(&s);
	assert_true(r < 0);
	server_stop(&s);
}

static void test_users_groups(void **state)
{
	static const uint8_t ids[] = {0, 0, 0, 0, 0x7f, 0x12, 0x34, 0x56};
	struct message m;
	struct server s;
	struct reply r;
	struct bytes names;

	(void)state;
	server_start(&s, NULL, 4096);
	m = extended(&s, "users-groups-by-id@openssh.com");
	put_bytes(&m, ids, 8);
	put_bytes(&m, ids, 4);
	r = ask(&s, m);
	assert_int_equal(r.type, SFTP_EXTENDED_REPLY);
	names = get_bytes(&r);
	assert_int_equal(names.n, 4 + 4 + 4);
	assert_memory_equal(names.p, "\0\0\0\4root\0\0\0\0", 12);
	names = get_bytes(&r);
	assert_int_equal(names.n, 4 + 4);
	assert_memory_equal(names.p, "\0\0\0\4root", 8);
	assert_int_equal(r.at, r.n);
	reply_free(&r);

	m = extended(&s, "users-groups-by-id@openssh.com");
	put_bytes(&m, "", 0);
	put_bytes(&m, "", 0);
	r = ask(&s, m);
	assert_int_equal(r.type, SFTP_EXTENDED_REPLY);
	assert_int_equal(r.n, 8);
	reply_free(&r);

	m = extended(&s, "users-groups-by-id@openssh.com");
	put_bytes(&m, ids, 7);
	put_bytes(&m, ids, 4);
	ask_status(&s, m, SFTP_FX_BAD_MESSAGE);
	server_stop(&s);
}

/* More names than an answer holds. */
static void test_users_groups_flood(void **state)
{
	uint8_t *ids = calloc(1, 200000);
	struct message m;
	struct server s;

	(void)state;
	server_start(&s, NULL, 65536);
	m = extended(&s, "users-groups-by-id@openssh.com");
	put_bytes(&m, ids, 200000); /* 50,000 times root: 8 bytes each */
	put_bytes(&m, ids, 0);
	ask_status_text(&s, m, SFTP_FX_FAILURE, "Argument list too long");
	server_stop(&s);
	free(ids);
}

static void test_unknown(void **state)
{
	struct server s;

	(void)state;
	server_start(&s, NULL, 4096);
	ask_status_text(&s, extended(&s, "check-file-name"), SFTP_FX_OP_UNSUPPORTED, "Operation unsupported");
	ask_status(&s, extended(&s, ""), SFTP_FX_OP_UNSUPPORTED);
	ask_status(&s, message_new(&s, 21), SFTP_FX_OP_UNSUPPORTED);
	ask_status(&s, message_new(&s, SFTP_STATUS), SFTP_FX_OP_UNSUPPORTED);
	server_stop(&s);
}

static void test_read_only(void **state)
{
	char home[] = "/tmp/sftp-test-XXXXXX", path[64];
	const struct sftp_options options = {.home = home, .is_read_only = true};
	static const uint8_t with_path[] = {SFTP_SETSTAT, SFTP_REMOVE, SFTP_MKDIR, SFTP_RMDIR};
	static const char *const ext[] = {"posix-rename@openssh.com", "hardlink@openssh.com", "fsync@openssh.com",
					  "lsetstat@openssh.com", "copy-data"};
	struct server s;
	struct handle h;
	FILE *f;

	(void)state;
	assert_non_null(mkdtemp(home));
	snprintf(path, sizeof(path), "%s/f", home);
	f = fopen(path, "w");
	assert_non_null(f);
	fclose(f);
	server_start(&s, &options, 4096);
	for (size_t i = 0; i < ARRAY_LEN(with_path); i++)
		ask_status(&s, path_message(&s, with_path[i], "f"), SFTP_FX_PERMISSION_DENIED);
	for (size_t i = 0; i < ARRAY_LEN(ext); i++)
		ask_status(&s, extended(&s, ext[i]), SFTP_FX_PERMISSION_DENIED);
	ask_status(&s, two_paths(&s, SFTP_RENAME, "f", "g"), SFTP_FX_PERMISSION_DENIED);
	ask_status(&s, two_paths(&s, SFTP_SYMLINK, "f", "g"), SFTP_FX_PERMISSION_DENIED);
	ask_status(&s, open_message(&s, "f", SFTP_FXF_WRITE), SFTP_FX_PERMISSION_DENIED);
	ask_status(&s, open_message(&s, "f", SFTP_FXF_READ | SFTP_FXF_TRUNC), SFTP_FX_PERMISSION_DENIED);
	ask_status(&s, open_message(&s, "g", SFTP_FXF_READ | SFTP_FXF_CREAT), SFTP_FX_PERMISSION_DENIED);
	h = open_file(&s, "f", SFTP_FXF_READ);
	ask_status(&s, write_message(&s, &h, 0, "x", 1), SFTP_FX_PERMISSION_DENIED);
	ask_status(&s, handle_message(&s, SFTP_FSETSTAT, &h), SFTP_FX_PERMISSION_DENIED);
	close_handle(&s, &h);
	server_stop(&s);
	unlink(path);
	rmdir(home);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_announcements), cmocka_unit_test(test_statvfs),
		cmocka_unit_test(test_handle_limit),  cmocka_unit_test(test_fsync),
		cmocka_unit_test(test_copy_data),     cmocka_unit_test(test_copy_stops_with_client),
		cmocka_unit_test(test_users_groups),  cmocka_unit_test(test_users_groups_flood),
		cmocka_unit_test(test_unknown),       cmocka_unit_test(test_read_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
