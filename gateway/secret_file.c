#include "gateway/secret_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* 64 characters of hex, a few blanks and an end of line. */
#define FILE_MAX 80

static int text_load(const char *path, char text[FILE_MAX + 1])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), rc = 0;
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		rc = -errno;
	else if (!S_ISREG(st.st_mode))
		rc = -EINVAL;
	else if (st.st_mode & 077)
		rc = -EACCES;
	else if ((n = read(fd, text, FILE_MAX)) < 0)
		rc = -errno;
	else
		text[n] = 0;
	close(fd);
	return rc;
}

static bool secret_parse(const char *text, uint8_t ret_secret[SECRET_FILE_BYTES])
{
	static const int variants[] = {sodium_base64_VARIANT_ORIGINAL, sodium_base64_VARIANT_ORIGINAL_NO_PADDING};
	size_t n = strcspn(text, " \t\r\n"), bytes;
	const char *end;

	if (text[n + strspn(text + n, " \t\r\n")])
		return false;
	if (n == 2 * SECRET_FILE_BYTES &&
	    sodium_hex2bin(ret_secret, SECRET_FILE_BYTES, text, n, NULL, &bytes, &end) == 0)
		return bytes == SECRET_FILE_BYTES && end == text + n;
	for (size_t i = 0; i < ARRAY_LEN(variants); i++)
		if (sodium_base642bin(ret_secret, SECRET_FILE_BYTES, text, n, NULL, &bytes, &end, variants[i]) == 0 &&
		    bytes == SECRET_FILE_BYTES && end == text + n)
			return true;
	return false;
}

int secret_file_load(const char *path, uint8_t ret_secret[SECRET_FILE_BYTES], char ret_error[256])
{
	char text[FILE_MAX + 1] = "";
	uint8_t secret[SECRET_FILE_BYTES];
	int rc = text_load(path, text);

	if (rc == 0 && !secret_parse(text, secret)) {
		rc = -EINVAL;
		snprintf(ret_error, 256, "%.180s does not hold 32 bytes in base64 or hex", path);
	} else if (rc < 0) {
		snprintf(ret_error, 256, "%.120s: %s%s", path, strerror(-rc),
			 rc == -EACCES ? " (only its owner may read it: chmod 600)" : "");
	} else {
		memcpy(ret_secret, secret, sizeof(secret));
	}
	sodium_memzero(text, sizeof(text));
	sodium_memzero(secret, sizeof(secret));
	return rc;
}
