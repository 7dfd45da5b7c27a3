#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/secret_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define BASE64 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static char dir[] = "/tmp/test_secret.XXXXXX";
static char path[64];

static int load(const char *text, mode_t mode, uint8_t secret[SECRET_FILE_BYTES])
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600), rc;
	char error[256] = "";

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
	rc = secret_file_load(path, secret, error);
	assert_int_equal(error[0] == 0, rc == 0);
	if (rc < 0 && strlen(text) > 8)
		assert_null(strstr(error, text)); /* what is in it is told to nobody */
	return rc;
}

static void test_good(void **state)
{
	static const char *const good[] = {HEX,         HEX "\n",       BASE64,
					   BASE64 "\n", BASE64 " \r\n", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"};

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		uint8_t secret[SECRET_FILE_BYTES] = {0};

		assert_int_equal(load(good[i], 0600, secret), 0);
		for (int k = 0; k < SECRET_FILE_BYTES; k++)
			assert_int_equal(secret[k], k);
		assert_int_equal(load(good[i], 0400, secret), 0);
	}
}

static void test_bad(void **state)
{
	static const char *const bad[] = {"", "\n", "AAEC", HEX "00", HEX " x", "00" BASE64, BASE64 "\n" BASE64};
	uint8_t secret[SECRET_FILE_BYTES] = {7}, before[SECRET_FILE_BYTES] = {7};
	char error[256];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (load(bad[i], 0600, secret) != -EINVAL)
			fail_msg("'%s' is taken", bad[i]);
	assert_int_equal(load(HEX, 0640, secret), -EACCES);
	assert_int_equal(load(HEX, 0604, secret), -EACCES);
	assert_int_equal(secret_file_load("/none/such", secret, error), -ENOENT);
	assert_int_equal(secret_file_load(dir, secret, error), -EINVAL);
	assert_memory_equal(secret, before, sizeof(secret));
}

static int setup(void **state)
{
	if (sodium_init() < 0 || !mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/secret", dir);
	return 0;
}

static int teardown(void **state)
{
	unlink(path);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
