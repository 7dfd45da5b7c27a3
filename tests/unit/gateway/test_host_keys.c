#include "gateway/host_keys.h"

#include "core/log.h"
#include "core/pubkey.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <dirent.h>
#include <libssh/libssh.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const types[] = {"ed25519", "ecdsa", "rsa"};
static const char *const names[] = {"ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"};
static const uint32_t bits[] = {256, 256, 3072};

static char base[] = "/tmp/test_host_keys.XXXXXX";
static char dir[64], log_path[64];

static int setup(void **state)
{
	if (!mkdtemp(base))
		return -1;
	snprintf(dir, sizeof(dir), "%s/new/host_keys", base);
	snprintf(log_path, sizeof(log_path), "%s/log", base);
	return 0;
}

/* Removes all files in `path`; returns how many there were. */
static int clear(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	int count = 0;

	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		assert_int_equal(unlinkat(dirfd(d), e->d_name, 0), 0);
		count++;
	}
	if (d)
		closedir(d);
	return count;
}

static int teardown(void **state)
{
	char parent[64];

	clear(dir);
	rmdir(dir);
	snprintf(parent, sizeof(parent), "%s/new", base);
	rmdir(parent);
	unlink(log_path);
	return rmdir(base);
}

static char *content_of(const char *path)
{
	char *text = calloc(1, 16384);
	int fd = open(path, O_RDONLY);

	assert_true(fd >= 0);
	assert_true(read(fd, text, 16383) > 0);
	close(fd);
	return text;
}

static void path_of(const char *type, char buf[128])
{
	assert_int_equal(host_key_path(dir, type, buf, 128), 0);
}

static void ensure(void)
{
	char error[256] = "";

	if (host_keys_ensure(dir, error) < 0)
		fail_msg("%s", error);
}

static void test_path(void **state)
{
	char path[32];

	assert_int_equal(host_key_path("/a", "rsa", path, sizeof(path)), 0);
	assert_string_equal(path, "/a/ssh_host_rsa_key");
	assert_int_equal(host_key_path("/a", "rsa", path, 19), -ENAMETOOLONG);
	assert_int_equal(host_key_path("/a", "rsa", path, 20), 0);
}

/* All three, readable by libssh, private to us, logged with their fingerprints. */
static void test_made(void **state)
{
	struct log_options o = {.level = LOG_INFO, .path = log_path};
	char *log;
	struct stat st;

	assert_int_equal(log_start(&o), 0);
	ensure();
	log_stop();
	log = content_of(log_path);
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	for (int i = 0; i < 3; i++) {
		char path[128], public_path[160], error[PUBKEY_ERROR_BYTES], *line, *base64;
		struct pubkey public;
		ssh_key key;

		path_of(types[i], path);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
		assert_int_equal(st.st_nlink, 1);
		assert_int_equal(ssh_pki_import_privkey_file(path, NULL, NULL, NULL, &key), SSH_OK);
		assert_int_equal(ssh_pki_export_pubkey_base64(key, &base64), SSH_OK);
		ssh_key_free(key);

		snprintf(public_path, sizeof(public_path), "%s.pub", path);
		assert_int_equal(stat(public_path, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0644);
		line = content_of(public_path);
		assert_int_equal(strcspn(line, "\n"), strlen(line) - 1);
		line[strlen(line) - 1] = 0;
		assert_int_equal(pubkey_parse_line(line, &public, error), 0);
		assert_string_equal(public.type, names[i]);
		assert_int_equal(public.bits, bits[i]);
		/* The public file is that of the private one. */
		assert_non_null(strstr(line, base64));
		ssh_string_free_char(base64);
		free(line);
		assert_non_null(strstr(log, public.fingerprint));
	}
	assert_non_null(strstr(log, "event=host_key_made type=ed25519 fingerprint=SHA256:"));
	free(log);
	assert_int_equal(clear(dir), 6);
}

static void test_kept(void **state)
{
	char path[128], rsa[128], *before, *after;

	ensure();
	path_of("ed25519", path);
	path_of("rsa", rsa);
	before = content_of(path);
	assert_int_equal(unlink(rsa), 0);
	ensure();
	after = content_of(path);
	assert_string_equal(before, after);
	assert_int_equal(access(rsa, F_OK), 0);
	free(before);
	free(after);
	assert_int_equal(clear(dir), 6);
}

static void test_open_to_others(void **state)
{
	static const mode_t modes[] = {0640, 0604, 0610, 0660};
	char path[128], error[256];

	ensure();
	path_of("ecdsa", path);
	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		assert_int_equal(chmod(path, modes[i]), 0);
		assert_int_equal(host_keys_ensure(dir, error), -EACCES);
		assert_non_null(strstr(error, "chmod 600"));
		assert_non_null(strstr(error, "ssh_host_ecdsa_key"));
	}
	assert_int_equal(chmod(path, 0400), 0);
	ensure();
	assert_int_equal(clear(dir), 6);
}

static void test_in_the_way(void **state)
{
	char path[128], error[256], file[80];
	int fd;

	ensure();
	path_of("rsa", path);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(host_keys_ensure(dir, error), -EINVAL);
	assert_non_null(strstr(error, "not a regular file"));
	assert_int_equal(rmdir(path), 0);
	clear(dir);
	/* A file where the folder should be, and one on the way to it. */
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(host_keys_ensure(path, error), -ENOTDIR);
	snprintf(file, sizeof(file), "%s/x", path);
	assert_int_equal(host_keys_ensure(file, error), -ENOTDIR);
	assert_int_equal(clear(dir), 1);
}

/* Gateways that start at once agree on each key, and nothing half-written stays. */
static void *start_one(void *arg)
{
	char error[256] = "";

	return host_keys_ensure(dir, error) < 0 ? "failed" : NULL;
}

static void test_at_once(void **state)
{
	pthread_t threads[4];
	void *result;

	assert_int_equal(clear(dir), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, start_one, NULL), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &result);
		assert_null(result);
	}
	assert_int_equal(clear(dir), 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_path),       cmocka_unit_test(test_made),
		cmocka_unit_test(test_kept),       cmocka_unit_test(test_open_to_others),
		cmocka_unit_test(test_in_the_way), cmocka_unit_test(test_at_once),
	};

	return cmocka_run_group_tests_name("host_keys", tests, setup, teardown);
}
