/*
 * tests/unit/procd/test_sftp_files.c - OPEN, READ, WRITE, CLOSE and attributes of the SFTP server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "procd/sftp_wire.h"
#include "sftp_client.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define RW (SFTP_FXF_READ | SFTP_FXF_WRITE | SFTP_FXF_CREAT | SFTP_FXF_TRUNC)

static uint8_t *noise(size_t n, unsigned seed)
{
	uint8_t *p = malloc(n);

	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)((seed = seed * 1103515245 + 12345) >> 16);
	return p;
}

static void check_data(struct reply *r, const uint8_t *want, size_t n)
{
	struct bytes data;

	assert_int_equal(r->type, SFTP_DATA);
	data = get_bytes(r);
	assert_int_equal(data.n, n);
	assert_memory_equal(data.p, want, n);
	assert_int_equal(r->at, r->n);
	reply_free(r);
}

/* The largest WRITE and READ, with input in pieces of several sizes. */
static void test_round_trip(void **state)
{
	static const size_t pieces[] = {1, 7, 4096, 32768, 1 << 20};
	uint8_t *data = noise(SFTP_DATA_MAX, 1);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		struct server s;
		struct handle h;
		struct reply r;

		server_start(&s, NULL, pieces[i]);
		h = open_file(&s, "f", RW);
		ask_status(&s, write_message(&s, &h, 5, data, SFTP_DATA_MAX), SFTP_FX_OK);
		r = ask(&s, read_message(&s, &h, 5, SFTP_DATA_MAX));
		check_data(&r, data, SFTP_DATA_MAX);
		r = ask(&s, read_message(&s, &h, 0, 5));
		check_data(&r, (const uint8_t *)"\0\0\0\0\0", 5);
		close_handle(&s, &h);
		server_stop(&s);
	}
	free(data);
}

static void test_read_ends(void **state)
{
	struct server s;
	struct handle h;
	struct reply r;

	(void)state;
	server_start(&s, NULL, 4096);
	write_file(&s, "f", "0123456789", 10);
	h = open_file(&s, "f", SFTP_FXF_READ);
	r = ask(&s, read_message(&s, &h, 4, 100));
	check_data(&r, (const uint8_t *)"456789", 6);
	r = ask(&s, read_message(&s, &h, 4, 0));
	check_data(&r, (const uint8_t *)"", 0);
	r = ask(&s, read_message(&s, &h, 0, UINT32_MAX)); /* cut to what the server gives at most */
	check_data(&r, (const uint8_t *)"0123456789", 10);
	ask_status_text(&s, read_message(&s, &h, 10, 100), SFTP_FX_EOF, "End of file");
	ask_status(&s, read_message(&s, &h, UINT64_MAX, 100), SFTP_FX_BAD_MESSAGE);
	ask_status(&s, write_message(&s, &h, 0, "x", 1), SFTP_FX_NO_SUCH_FILE); /* EBADF, as OpenSSH says it */
	server_stop(&s);
}

static void test_read_is_capped(void **state)
{
	uint8_t *data = noise(SFTP_DATA_MAX + 1000, 2);
	struct server s;
	struct handle h;
	struct reply r;

	(void)state;
	server_start(&s, NULL, 65536);
	h = open_file(&s, "f", RW);
	ask_status(&s, write_message(&s, &h, 0, data, SFTP_DATA_MAX), SFTP_FX_OK);
	ask_status(&s, write_message(&s, &h, SFTP_DATA_MAX, data + SFTP_DATA_MAX, 1000), SFTP_FX_OK);
	r = ask(&s, read_message(&s, &h, 0, SFTP_DATA_MAX + 1000));
	check_data(&r, data, SFTP_DATA_MAX);
	server_stop(&s);
	free(data);
}

static off_t size_of(const struct server *s, const char *name)
{
	struct stat st;

	assert_int_equal(stat(in_home(s, name), &st), 0);
	return st.st_size;
}

static void test_open_flags(void **state)
{
	struct server s;
	struct handle h;

	(void)state;
	server_start(&s, NULL, 4096);
	ask_status_text(&s, open_message(&s, "f", SFTP_FXF_READ), SFTP_FX_NO_SUCH_FILE, "No such file");
	write_file(&s, "f", "0123456789", 10);
	ask_status_text(&s, open_message(&s, "f", SFTP_FXF_WRITE | SFTP_FXF_CREAT | SFTP_FXF_EXCL), SFTP_FX_FAILURE,
			"File exists");
	h = open_file(&s, "f", SFTP_FXF_WRITE);
	assert_int_equal(size_of(&s, "f"), 10);
	ask_status(&s, write_message(&s, &h, 8, "abcd", 4), SFTP_FX_OK);
	close_handle(&s, &h);
	assert_int_equal(size_of(&s, "f"), 12);
	h = open_file(&s, "f", SFTP_FXF_WRITE | SFTP_FXF_APPEND);
	ask_status(&s, write_message(&s, &h, 0, "end", 3), SFTP_FX_OK); /* the offset does not count */
	close_handle(&s, &h);
	assert_int_equal(size_of(&s, "f"), 15);
	h = open_file(&s, "f", SFTP_FXF_WRITE | SFTP_FXF_TRUNC);
	close_handle(&s, &h);
	assert_int_equal(size_of(&s, "f"), 0);
	ask_status(&s, open_message(&s, "f/x", SFTP_FXF_READ), SFTP_FX_NO_SUCH_FILE);
	ask_status(&s, open_message(&s, "", SFTP_FXF_READ), SFTP_FX_NO_SUCH_FILE);
	server_stop(&s);
}

static void test_create_mode(void **state)
{
	mode_t old = umask(027);
	struct message m;
	struct server s;
	struct reply r;
	struct stat st;

	(void)state;
	server_start(&s, NULL, 4096);
	m = path_message(&s, SFTP_OPEN, "given");
	put_u32(&m, SFTP_FXF_WRITE | SFTP_FXF_CREAT);
	put_u32(&m, SFTP_ATTR_PERMISSIONS);
	put_u32(&m, S_IFREG | 0774);
	r = ask(&s, m);
	assert_int_equal(r.type, SFTP_HANDLE);
	reply_free(&r);
	write_file(&s, "default", "", 0);
	assert_int_equal(stat(in_home(&s, "given"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0750);
	assert_int_equal(stat(in_home(&s, "default"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	server_stop(&s);
	umask(old);
}

/* A FIFO without a writer must not hang the client; OpenSSH's server would. */
static void test_fifo_does_not_block(void **state)
{
	struct server s;
	struct handle h;

	(void)state;
	server_start(&s, NULL, 4096);
	assert_int_equal(mkfifo(in_home(&s, "fifo"), 0600), 0);
	h = open_file(&s, "fifo", SFTP_FXF_READ);
	ask_status(&s, read_message(&s, &h, 0, 10), SFTP_FX_FAILURE);
	close_handle(&s, &h);
	ask_status(&s, open_message(&s, "fifo", SFTP_FXF_WRITE), SFTP_FX_FAILURE);
	server_stop(&s);
}

static void test_full_device(void **state)
{
	uint8_t *data = noise(SFTP_DATA_MAX, 3);
	struct server s;
	struct handle h;

	(void)state;
	server_start(&s, NULL, 1000);
	h = open_file(&s, "/dev/full", SFTP_FXF_WRITE);
	ask_status_text(&s, write_message(&s, &h, 0, data, SFTP_DATA_MAX), SFTP_FX_FAILURE, "No space left on device");
	ask_status_text(&s, write_message(&s, &h, 0, data, 1), SFTP_FX_FAILURE, "No space left on device");
	close_handle(&s, &h);
	server_stop(&s);
	free(data);
}

/* EFBIG instead of a process that SIGXFSZ ends; and the signal is not left pending for whoever comes next. */
static void test_file_too_large(void **state)
{
	uint8_t *data = noise(SFTP_DATA_MAX, 4);
	struct rlimit old, small = {.rlim_cur = 100000};
	struct server s;
	struct handle h;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small.rlim_max = old.rlim_max;
	server_start(&s, NULL, 4096);
	h = open_file(&s, "f", RW);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	ask_status_text(&s, write_message(&s, &h, 0, data, SFTP_DATA_MAX), SFTP_FX_FAILURE, "File too large");
	assert_int_equal(size_of(&s, "f"), 100000);
	ask_status(&s, write_message(&s, &h, 0, data, 1000), SFTP_FX_OK);
	server_stop(&s);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	free(data);
}

static void check_attrs(struct reply *r, uint64_t size, uint32_t mode, uint32_t atime, uint32_t mtime)
{
	assert_int_equal(r->type, SFTP_ATTRS);
	assert_int_equal(get_u32(r), SFTP_ATTR_SIZE | SFTP_ATTR_UIDGID | SFTP_ATTR_PERMISSIONS | SFTP_ATTR_ACMODTIME);
	assert_int_equal(get_u64(r), size);
	assert_int_equal(get_u32(r), getuid());
	assert_int_equal(get_u32(r), getgid());
	assert_int_equal(get_u32(r), mode);
	assert_int_equal(get_u32(r), atime);
	assert_int_equal(get_u32(r), mtime);
	assert_int_equal(r->at, r->n);
	reply_free(r);
}

static void put_attrs(struct message *m, uint64_t size, uint32_t mode, uint32_t atime, uint32_t mtime)
{
	put_u32(m,
		SFTP_ATTR_SIZE | SFTP_ATTR_UIDGID | SFTP_ATTR_PERMISSIONS | SFTP_ATTR_ACMODTIME | SFTP_ATTR_EXTENDED);
	put_u64(m, size);
	put_u32(m, getuid());
	put_u32(m, getgid());
	put_u32(m, mode);
	put_u32(m, atime);
	put_u32(m, mtime);
	put_u32(m, 1); /* an attribute nobody knows */
	put_text(m, "colour@example.org");
	put_text(m, "red");
}

static void test_attributes(void **state)
{
	struct message m;
	struct server s;
	struct handle h;
	struct reply r;

	(void)state;
	server_start(&s, NULL, 3);
	write_file(&s, "f", "0123456789", 10);
	m = path_message(&s, SFTP_SETSTAT, "f");
	put_attrs(&m, 5, S_IFREG | 01751, 1000000001, 3000000002u);
	ask_status(&s, m, SFTP_FX_OK);
	r = ask(&s, path_message(&s, SFTP_STAT, "f"));
	check_attrs(&r, 5, S_IFREG | 01751, 1000000001, 3000000002u);

	h = open_file(&s, "f", SFTP_FXF_WRITE);
	m = handle_message(&s, SFTP_FSETSTAT, &h);
	put_attrs(&m, 7, 0600, 5, 6);
	ask_status(&s, m, SFTP_FX_OK);
	r = ask(&s, handle_message(&s, SFTP_FSTAT, &h));
	check_attrs(&r, 7, S_IFREG | 0600, 5, 6);

	ask_status(&s, path_message(&s, SFTP_STAT, "none"), SFTP_FX_NO_SUCH_FILE);
	m = path_message(&s, SFTP_SETSTAT, "none");
	put_attrs(&m, 7, 0600, 5, 6);
	ask_status(&s, m, SFTP_FX_NO_SUCH_FILE);
	server_stop(&s);
}

static void test_links_attributes(void **state)
{
	struct message m;
	struct server s;
	struct reply r;
	struct stat st;

	(void)state;
	server_start(&s, NULL, 4096);
	write_file(&s, "f", "x", 1);
	ask_status(&s, two_paths(&s, SFTP_SYMLINK, "f", "l"), SFTP_FX_OK);
	m = extended(&s, "lsetstat@openssh.com");
	put_text(&m, "l");
	put_u32(&m, SFTP_ATTR_ACMODTIME);
	put_u32(&m, 11);
	put_u32(&m, 22);
	ask_status(&s, m, SFTP_FX_OK);
	/* Before anything follows the link, which touches its access time. */
	r = ask(&s, path_message(&s, SFTP_LSTAT, "l"));
	check_attrs(&r, 1, S_IFLNK | 0777, 11, 22);
	assert_int_equal(stat(in_home(&s, "l"), &st), 0);
	assert_int_not_equal(st.st_mtime, 22);
	m = extended(&s, "lsetstat@openssh.com");
	put_text(&m, "l");
	put_u32(&m, SFTP_ATTR_SIZE);
	put_u64(&m, 0);
	ask_status(&s, m, SFTP_FX_BAD_MESSAGE);
	server_stop(&s);
}

static void test_setstat_size_errors(void **state)
{
	struct message m;
	struct server s;

	(void)state;
	server_start(&s, NULL, 4096);
	assert_int_equal(mkdir(in_home(&s, "d"), 0700), 0);
	m = path_message(&s, SFTP_SETSTAT, "d");
	put_u32(&m, SFTP_ATTR_SIZE);
	put_u64(&m, 1);
	ask_status_text(&s, m, SFTP_FX_FAILURE, "Is a directory");
	write_file(&s, "f", "x", 1);
	m = path_message(&s, SFTP_SETSTAT, "f");
	put_u32(&m, SFTP_ATTR_SIZE);
	put_u64(&m, UINT64_MAX);
	ask_status(&s, m, SFTP_FX_BAD_MESSAGE);
	server_stop(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),          cmocka_unit_test(test_read_ends),
		cmocka_unit_test(test_read_is_capped),      cmocka_unit_test(test_open_flags),
		cmocka_unit_test(test_create_mode),         cmocka_unit_test(test_fifo_does_not_block),
		cmocka_unit_test(test_full_device),         cmocka_unit_test(test_file_too_large),
		cmocka_unit_test(test_attributes),          cmocka_unit_test(test_links_attributes),
		cmocka_unit_test(test_setstat_size_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
