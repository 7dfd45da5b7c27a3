/*
 * tests/unit/procd/test_sftp_names.c - folders, paths, links and renames of the SFTP server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "procd/sftp_wire.h"
#include "sftp_client.h"

#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void touch(const struct server *s, const char *name)
{
	FILE *f = fopen(in_home(s, name), "w");

	assert_non_null(f);
	fputs(name, f);
	fclose(f);
}

static bool is_there(const struct server *s, const char *name)
{
	struct stat st;

	return lstat(in_home(s, name), &st) == 0;
}

#define MANY 700

/* Counts the entries of one READDIR answer into seen[]; false at the end. */
static bool readdir_once(struct server *s, const struct handle *h, int *seen, int *dots)
{
	struct reply r = ask(s, handle_message(s, SFTP_READDIR, h));
	uint32_t count;

	if (r.type == SFTP_STATUS) {
		assert_int_equal(get_u32(&r), SFTP_FX_EOF);
		reply_free(&r);
		return false;
	}
	assert_int_equal(r.type, SFTP_NAME);
	assert_true(r.n < 34000);
	count = get_u32(&r);
	assert_true(count > 0);
	for (uint32_t i = 0; i < count; i++) {
		struct bytes name = get_bytes(&r), text = get_bytes(&r);
		unsigned number;
		char copy[300];

		assert_true(bytes_copy_str(name, copy, sizeof(copy)));
		assert_true(text.n > name.n && memcmp(text.p + text.n - name.n, name.p, name.n) == 0);
		assert_int_equal(get_u32(&r), 0xf);
		for (int word = 0; word < 7; word++)
			(void)get_u32(&r);
		if (sscanf(copy, "a-file-with-quite-a-long-name-%u", &number) == 1 && number < MANY)
			seen[number]++;
		else
			(*dots)++;
	}
	assert_int_equal(r.at, r.n);
	reply_free(&r);
	return true;
}

static void test_readdir_many(void **state)
{
	static int seen[MANY];
	struct server s;
	struct handle h;
	int dots = 0, rounds = 0;

	(void)state;
	server_start(&s, NULL, 4096);
	for (int i = 0; i < MANY; i++) {
		char name[64];

		snprintf(name, sizeof(name), "a-file-with-quite-a-long-name-%d", i);
		touch(&s, name);
	}
	h = open_folder(&s, ".");
	while (readdir_once(&s, &h, seen, &dots))
		rounds++;
	assert_true(rounds > 1);
	assert_int_equal(dots, 2); /* . and .. */
	for (int i = 0; i < MANY; i++)
		assert_int_equal(seen[i], 1);
	close_handle(&s, &h);
	server_stop(&s);
}

/* The long name of the only file in a folder. */
static void long_name_of(struct server *s, const char *file, char *ret_text, size_t size)
{
	struct handle h = open_folder(s, "d");
	struct reply r = ask(s, handle_message(s, SFTP_READDIR, &h));
	uint32_t count;

	assert_int_equal(r.type, SFTP_NAME);
	count = get_u32(&r);
	ret_text[0] = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct bytes name = get_bytes(&r), text = get_bytes(&r);

		if (bytes_is(name, file))
			assert_true(bytes_copy_str(text, ret_text, size));
		for (int word = 0; word < 8; word++)
			(void)get_u32(&r);
	}
	reply_free(&r);
	close_handle(s, &h);
}

static void test_long_names(void **state)
{
	struct timespec times[2] = {{.tv_sec = 86400 * 20}, {.tv_sec = 86400 * 20}};
	const struct passwd *pw = getpwuid(getuid());
	char text[2000], want[2000], user[64];
	struct server s;

	(void)state;
	server_start(&s, NULL, 4096);
	snprintf(user, sizeof(user), "%s", pw ? pw->pw_name : "");
	assert_int_equal(mkdir(in_home(&s, "d"), 0700), 0);
	touch(&s, "d/f");
	assert_int_equal(chmod(in_home(&s, "d/f"), 06741), 0);
	assert_int_equal(utimensat(AT_FDCWD, in_home(&s, "d/f"), times, 0), 0);
	long_name_of(&s, "f", text, sizeof(text));
	snprintf(want, sizeof(want), "-rwsr-S--x    1 %-8s ", user);
	if (pw)
		assert_memory_equal(text, want, strlen(want));
	assert_non_null(strstr(text, "        3 Jan 21  1970 f"));
	assert_int_equal(unlink(in_home(&s, "d/f")), 0);

	/* An owner without a name is a number. Only root can make one. */
	if (getuid() == 0) {
		touch(&s, "d/f");
		assert_int_equal(lchown(in_home(&s, "d/f"), 3123456, 3123457), 0);
		long_name_of(&s, "f", text, sizeof(text));
		assert_non_null(strstr(text, " 3123456  3123457 "));
	}
	server_stop(&s);
}

static void test_folders(void **state)
{
	struct message m;
	struct server s;
	struct stat st;

	(void)state;
	server_start(&s, NULL, 4096);
	m = path_message(&s, SFTP_MKDIR, "d");
	put_u32(&m, SFTP_ATTR_PERMISSIONS);
	put_u32(&m, S_IFDIR | 0710);
	ask_status(&s, m, SFTP_FX_OK);
	assert_int_equal(stat(in_home(&s, "d"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0710);
	m = path_message(&s, SFTP_MKDIR, "d");
	put_u32(&m, 0);
	ask_status_text(&s, m, SFTP_FX_FAILURE, "File exists");
	touch(&s, "d/f");
	ask_status_text(&s, path_message(&s, SFTP_RMDIR, "d"), SFTP_FX_FAILURE, "Directory not empty");
	assert_true(is_there(&s, "d/f"));
	ask_status(&s, path_message(&s, SFTP_REMOVE, "d"), SFTP_FX_FAILURE);
	ask_status(&s, path_message(&s, SFTP_RMDIR, "d/f"), SFTP_FX_NO_SUCH_FILE);
	ask_status(&s, path_message(&s, SFTP_REMOVE, "d/f"), SFTP_FX_OK);
	ask_status(&s, path_message(&s, SFTP_RMDIR, "d"), SFTP_FX_OK);
	ask_status(&s, path_message(&s, SFTP_OPENDIR, "d"), SFTP_FX_NO_SUCH_FILE);
	server_stop(&s);
}

static struct message ext_two(struct server *s, const char *name, const char *a, const char *b)
{
	struct message m = extended(s, name);

	put_text(&m, a);
	put_text(&m, b);
	return m;
}

static void test_renames(void **state)
{
	struct server s;

	(void)state;
	server_start(&s, NULL, 4096);
	touch(&s, "a");
	touch(&s, "b");
	ask_status_text(&s, two_paths(&s, SFTP_RENAME, "a", "b"), SFTP_FX_FAILURE, "File exists");
	assert_true(is_there(&s, "a"));
	ask_status(&s, two_paths(&s, SFTP_RENAME, "a", "c"), SFTP_FX_OK);
	assert_true(!is_there(&s, "a") && is_there(&s, "c"));
	ask_status(&s, two_paths(&s, SFTP_RENAME, "none", "x"), SFTP_FX_NO_SUCH_FILE);
	ask_status(&s, ext_two(&s, "posix-rename@openssh.com", "c", "b"), SFTP_FX_OK);
	assert_true(!is_there(&s, "c") && is_there(&s, "b"));

	assert_int_equal(mkdir(in_home(&s, "d"), 0700), 0);
	assert_int_equal(mkdir(in_home(&s, "e"), 0700), 0);
	ask_status(&s, two_paths(&s, SFTP_RENAME, "d", "e"), SFTP_FX_FAILURE);
	ask_status(&s, two_paths(&s, SFTP_RENAME, "d", "f"), SFTP_FX_OK);
	assert_true(!is_there(&s, "d") && is_there(&s, "f"));
	server_stop(&s);
}

/* Where hard links do not work across, rename must fail by itself and leave the source. */
static void test_rename_across(void **state)
{
	char path[64] = "/dev/shm/sftp-test-XXXXXX";
	struct stat a, b;
	struct server s;
	int fd;

	(void)state;
	fd = mkstemp(path);
	if (fd < 0)
		skip();
	close(fd);
	assert_int_equal(unlink(path), 0);
	server_start(&s, NULL, 4096);
	touch(&s, "f");
	if (stat("/dev/shm", &a) == 0 && stat(s.home, &b) == 0 && a.st_dev == b.st_dev) {
		server_stop(&s);
		skip();
	}
	ask_status_text(&s, two_paths(&s, SFTP_RENAME, "f", path), SFTP_FX_FAILURE, "Invalid cross-device link");
	assert_true(is_there(&s, "f"));
	server_stop(&s);
}

static void test_links(void **state)
{
	char name[PATH_MAX];
	struct stat a, b;
	struct server s;

	(void)state;
	server_start(&s, NULL, 4096);
	touch(&s, "f");
	/* Target first: OpenSSH's order. */
	ask_status(&s, two_paths(&s, SFTP_SYMLINK, "some where/else", "l"), SFTP_FX_OK);
	ask_name(&s, path_message(&s, SFTP_READLINK, "l"), name, sizeof(name));
	assert_string_equal(name, "some where/else");
	ask_status(&s, two_paths(&s, SFTP_SYMLINK, "x", "l"), SFTP_FX_FAILURE);
	ask_status(&s, path_message(&s, SFTP_READLINK, "f"), SFTP_FX_BAD_MESSAGE);
	ask_status(&s, ext_two(&s, "hardlink@openssh.com", "f", "g"), SFTP_FX_OK);
	assert_int_equal(stat(in_home(&s, "f"), &a), 0);
	assert_int_equal(stat(in_home(&s, "g"), &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(a.st_nlink, 2);
	ask_status(&s, ext_two(&s, "hardlink@openssh.com", "f", "g"), SFTP_FX_FAILURE);
	server_stop(&s);
}

static void check_realpath(struct server *s, const char *path, const char *below_home)
{
	char name[PATH_MAX], want[PATH_MAX];

	ask_name(s, path_message(s, SFTP_REALPATH, path), name, sizeof(name));
	snprintf(want, sizeof(want), "%s%s", below_home[0] == '!' ? "" : s->options.home,
		 below_home + (below_home[0] == '!'));
	assert_string_equal(name, want);
}

static void test_realpath(void **state)
{
	struct server s;

	(void)state;
	server_start(&s, NULL, 4096);
	assert_int_equal(mkdir(in_home(&s, "d"), 0700), 0);
	touch(&s, "d/f");
	assert_int_equal(symlink("d/./f", in_home(&s, "l")), 0);
	assert_int_equal(symlink("../d", in_home(&s, "d/up")), 0);
	assert_int_equal(symlink("/", in_home(&s, "root")), 0);
	assert_int_equal(symlink("loop", in_home(&s, "loop")), 0);
	check_realpath(&s, "", "");
	check_realpath(&s, ".", "");
	check_realpath(&s, "d//../d/./f", "/d/f");
	check_realpath(&s, "d/", "/d");
	check_realpath(&s, "l", "/d/f");
	check_realpath(&s, "d/up/up/f", "/d/f");
	check_realpath(&s, "d/up/new", "/d/new");
	check_realpath(&s, "new", "/new");
	check_realpath(&s, "/", "!/");
	check_realpath(&s, "root", "!/");
	check_realpath(&s, "/../..", "!/");
	check_realpath(&s, "root/no-such-thing", "!/no-such-thing");
	ask_status(&s, path_message(&s, SFTP_REALPATH, "new/below"), SFTP_FX_NO_SUCH_FILE);
	ask_status(&s, path_message(&s, SFTP_REALPATH, "d/f/below"), SFTP_FX_NO_SUCH_FILE);
	ask_status(&s, path_message(&s, SFTP_REALPATH, "loop"), SFTP_FX_NO_SUCH_FILE);
	server_stop(&s);
}

/* Names at the very limit, from every side; a sanitizer watches. */
static void test_long_paths(void **state)
{
	static char path[PATH_MAX + 2];
	struct server s;

	(void)state;
	server_start(&s, NULL, 4096);
	/* The home's own length is among those that are missing to the limit. */
	for (size_t n = PATH_MAX - 40; n <= PATH_MAX + 1; n++) {
		static const uint8_t types[] = {SFTP_REALPATH, SFTP_STAT, SFTP_OPENDIR, SFTP_READLINK};
		struct message m;

		for (size_t k = 0; k < n; k++)
			path[k] = k % 2 ? '/' : 'a';
		path[n] = 0;
		for (size_t k = 0; k < ARRAY_LEN(types); k++) {
			struct reply r = ask(&s, path_message(&s, types[k], path));

			assert_int_equal(r.type, SFTP_STATUS);
			reply_free(&r);
		}
		memset(path, 'x', n);
		ask_status(&s, path_message(&s, SFTP_REALPATH, path), SFTP_FX_BAD_MESSAGE);
		m = extended(&s, "expand-path@openssh.com");
		path[0] = '~';
		put_text(&m, path);
		struct reply r = ask(&s, m);

		assert_int_equal(r.type, SFTP_STATUS);
		reply_free(&r);
	}
	server_stop(&s);
}

/* A link's target and what stands behind the link are too long only together. */
static void test_long_link(void **state)
{
	char target[4001], path[300];
	struct server s;

	(void)state;
	server_start(&s, NULL, 4096);
	for (size_t i = 0; i < sizeof(target) - 1; i++)
		target[i] = i % 2 ? '/' : '.';
	target[sizeof(target) - 1] = 0;
	assert_int_equal(symlink(target, in_home(&s, "l")), 0);
	check_realpath(&s, "l/b", "/b");
	path[0] = 'l';
	for (size_t i = 1; i < sizeof(path) - 1; i++)
		path[i] = i % 2 ? '/' : 'b';
	path[sizeof(path) - 1] = 0;
	ask_status(&s, path_message(&s, SFTP_REALPATH, path), SFTP_FX_BAD_MESSAGE);
	server_stop(&s);
}

static struct message ext_path(struct server *s, const char *name, const char *path)
{
	struct message m = extended(s, name);

	put_text(&m, path);
	return m;
}

static void test_expand_path(void **state)
{
	const char *expand = "expand-path@openssh.com";
	char name[PATH_MAX], root_home[PATH_MAX];
	const struct passwd *pw = getpwnam("root");
	struct server s;

	(void)state;
	server_start(&s, NULL, 4096);
	ask_name(&s, ext_path(&s, expand, "~"), name, sizeof(name));
	assert_string_equal(name, s.home);
	ask_name(&s, ext_path(&s, expand, "~//f"), name, sizeof(name));
	assert_string_equal(name, in_home(&s, "f"));
	ask_name(&s, ext_path(&s, expand, "f~"), name, sizeof(name));
	assert_string_equal(name, in_home(&s, "f~"));
	ask_name(&s, ext_path(&s, expand, ""), name, sizeof(name));
	assert_string_equal(name, s.home);
	ask_status_text(&s, ext_path(&s, expand, "~no-such-user-here/x"), SFTP_FX_NO_SUCH_FILE, "no such user");
	if (pw) {
		assert_non_null(realpath(pw->pw_dir, root_home));
		ask_name(&s, ext_path(&s, expand, "~root/../"), name, sizeof(name));
		assert_string_equal(name, strcmp(root_home, "/root") == 0 ? "/" : name);
		ask_name(&s, ext_path(&s, "home-directory", "root"), name, sizeof(name));
		assert_string_equal(name, pw->pw_dir);
	}
	ask_name(&s, ext_path(&s, "home-directory", ""), name, sizeof(name));
	assert_string_equal(name, s.home);
	ask_status(&s, ext_path(&s, "home-directory", "no-such-user-here"), SFTP_FX_FAILURE);
	server_stop(&s);
}

/* Relative paths of two servers in one process; and a home that is gone. */
static void test_two_homes(void **state)
{
	const struct sftp_options lost = {.home = "/no/such/folder"};
	struct server a, b, c;
	char name[PATH_MAX];

	(void)state;
	server_start(&a, NULL, 4096);
	server_start(&b, NULL, 4096);
	server_start(&c, &lost, 4096);
	write_file(&a, "f", "a", 1);
	write_file(&b, "g", "b", 1);
	assert_true(is_there(&a, "f") && !is_there(&a, "g"));
	assert_true(is_there(&b, "g") && !is_there(&b, "f"));
	ask_name(&c, path_message(&c, SFTP_REALPATH, "."), name, sizeof(name));
	assert_string_equal(name, "/");
	server_stop(&c);
	server_stop(&b);
	server_stop(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readdir_many),  cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_folders),       cmocka_unit_test(test_renames),
		cmocka_unit_test(test_rename_across), cmocka_unit_test(test_links),
		cmocka_unit_test(test_realpath),      cmocka_unit_test(test_long_paths),
		cmocka_unit_test(test_long_link),     cmocka_unit_test(test_expand_path),
		cmocka_unit_test(test_two_homes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
