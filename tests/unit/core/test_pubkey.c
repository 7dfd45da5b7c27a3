#include "core/pubkey.h"

#include "tests/unit/core/keys.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <sodium.h>

static void expect_good(const char *line, const char *type, uint32_t bits, const char *fingerprint)
{
	char error[PUBKEY_ERROR_BYTES] = "", checked_type[PUBKEY_TYPE_MAX];
	uint32_t checked_bits;
	struct pubkey key;

	if (pubkey_parse_line(line, &key, error) < 0)
		fail_msg("%s: %s", line, error);
	assert_string_equal(key.type, type);
	assert_int_equal(key.bits, bits);
	if (fingerprint)
		assert_string_equal(key.fingerprint, fingerprint);
	assert_int_equal(pubkey_check_blob(bytes_of(key.blob, key.blob_bytes), checked_type, &checked_bits), 0);
	assert_string_equal(checked_type, type);
	assert_int_equal(checked_bits, bits);
	assert_int_equal(pubkey_check_blob(bytes_of(key.blob, key.blob_bytes), NULL, NULL), 0);
}

static void expect_bad(const char *line, const char *says)
{
	char error[PUBKEY_ERROR_BYTES] = "";
	struct pubkey key, before;

	memset(&key, 0x5a, sizeof(key));
	before = key;
	assert_int_equal(pubkey_parse_line(line, &key, error), -EINVAL);
	assert_memory_equal(&key, &before, sizeof(key));
	if (!strstr(error, says))
		fail_msg("'%s' does not say '%s'", error, says);
}

static void test_good_lines(void **state)
{
	expect_good(KEY_ED25519_1, "ssh-ed25519", 256, PRINT_ED25519_1);
	expect_good(KEY_ED25519_2 " a comment with words", "ssh-ed25519", 256, PRINT_ED25519_2);
	expect_good("  \t" KEY_ED25519_3 "   ", "ssh-ed25519", 256, PRINT_ED25519_3);
	expect_good(KEY_P256 " me@host", "ecdsa-sha2-nistp256", 256, PRINT_P256);
	expect_good(KEY_P384, "ecdsa-sha2-nistp384", 384, PRINT_P384);
	expect_good(KEY_P521, "ecdsa-sha2-nistp521", 521, PRINT_P521);
	expect_good(KEY_RSA_2048, "ssh-rsa", 2048, PRINT_RSA_2048);
	expect_good(KEY_RSA_3072 " r\xc3\xa9sum\xc3\xa9", "ssh-rsa", 3072, PRINT_RSA_3072);
}

/* --- keys made by hand --- */

struct made {
	uint8_t p[8192];
	size_t n;
};

static void put_string(struct made *m, const void *p, size_t n)
{
	uint8_t length[4] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};

	assert_true(m->n + 4 + n <= sizeof(m->p));
	memcpy(m->p + m->n, length, 4);
	memcpy(m->p + m->n + 4, p, n);
	m->n += 4 + n;
}

static void put_text(struct made *m, const char *s)
{
	put_string(m, s, strlen(s));
}

static void put_fill(struct made *m, uint8_t first, uint8_t fill, size_t n)
{
	uint8_t tmp[4096];

	assert_true(n <= sizeof(tmp));
	memset(tmp, fill, n);
	if (n > 0)
		tmp[0] = first;
	put_string(m, tmp, n);
}

static int check(const struct made *m)
{
	return pubkey_check_blob(bytes_of(m->p, m->n), NULL, NULL);
}

static const char *line_of(const struct made *m, const char *type)
{
	static char line[16384];
	size_t n = strlen(type);

	memcpy(line, type, n);
	line[n++] = ' ';
	sodium_bin2base64(line + n, sizeof(line) - n, m->p, m->n, sodium_base64_VARIANT_ORIGINAL);
	return line;
}

static struct made sk_ed25519(void)
{
	struct made m = {.n = 0};

	put_text(&m, "sk-ssh-ed25519@openssh.com");
	put_fill(&m, 1, 2, 32);
	put_text(&m, "ssh:");
	return m;
}

static struct made sk_ecdsa(uint8_t form)
{
	struct made m = {.n = 0};

	put_text(&m, "sk-ecdsa-sha2-nistp256@openssh.com");
	put_text(&m, "nistp256");
	put_fill(&m, form, 2, 65);
	put_text(&m, "ssh:");
	return m;
}

/* A modulus of so many bytes, its first byte without sign, and an exponent. */
static struct made rsa(uint8_t first, uint8_t last, size_t bytes, const char *e, size_t e_bytes)
{
	uint8_t n[4096] = {0};
	struct made m = {.n = 0};
	size_t sign = first & 0x80 ? 1 : 0;

	memset(n + sign, 0x33, bytes);
	n[sign] = first;
	n[sign + bytes - 1] = last;
	put_text(&m, "ssh-rsa");
	put_string(&m, e, e_bytes);
	put_string(&m, n, bytes + sign);
	return m;
}

static void test_security_keys(void **state)
{
	struct made m = sk_ed25519();

	expect_good(line_of(&m, "sk-ssh-ed25519@openssh.com"), "sk-ssh-ed25519@openssh.com", 256, NULL);
	m = sk_ecdsa(4);
	expect_good(line_of(&m, "sk-ecdsa-sha2-nistp256@openssh.com"), "sk-ecdsa-sha2-nistp256@openssh.com", 256, NULL);
	m = sk_ecdsa(2); /* a compressed point */
	assert_int_equal(check(&m), -EINVAL);
	m = (struct made){.n = 0};
	put_text(&m, "sk-ssh-ed25519@openssh.com");
	put_fill(&m, 1, 2, 32);
	assert_int_equal(check(&m), -EINVAL); /* no application */
	put_text(&m, "");
	assert_int_equal(check(&m), -EINVAL);
	m = (struct made){.n = 0};
	put_text(&m, "sk-ssh-ed25519@openssh.com");
	put_fill(&m, 1, 2, 32);
	put_fill(&m, 'a', 'a', PUBKEY_APPLICATION_MAX + 1);
	assert_int_equal(check(&m), -EINVAL);
}

static void test_rsa_numbers(void **state)
{
	struct made m = rsa(0x80, 1, 256, "\1\0\1", 3);
	uint32_t bits;

	assert_int_equal(check(&m), 0);
	m = rsa(0x7f, 1, 256, "\1\0\1", 3); /* 2047 bits */
	assert_int_equal(pubkey_check_blob(bytes_of(m.p, m.n), NULL, &bits), -EKEYREJECTED);
	assert_int_equal(bits, 2047);
	m = rsa(1, 1, 257, "\1\0\1", 3); /* 2049 bits */
	assert_int_equal(pubkey_check_blob(bytes_of(m.p, m.n), NULL, &bits), 0);
	assert_int_equal(bits, 2049);
	m = rsa(0x80, 1, 2048, "\3", 1); /* 16384 bits */
	assert_int_equal(check(&m), 0);
	m = rsa(1, 1, 2049, "\3", 1);
	assert_int_equal(check(&m), -EKEYREJECTED);
	m = rsa(0x80, 2, 256, "\1\0\1", 3); /* even */
	assert_int_equal(check(&m), -EINVAL);
	m = rsa(0x80, 1, 256, "\1\0\2", 3);
	assert_int_equal(check(&m), -EINVAL);
	m = rsa(0x80, 1, 256, "\1", 1);
	assert_int_equal(check(&m), -EINVAL);
	m = rsa(0x80, 1, 256, "", 0);
	assert_int_equal(check(&m), -EINVAL);
	m = rsa(0x80, 1, 256, "\0\3", 2); /* not the shortest form */
	assert_int_equal(check(&m), -EINVAL);
	m = rsa(0x80, 1, 256, "\0", 1);
	assert_int_equal(check(&m), -EINVAL);
	m = rsa(0x80, 1, 256, "\x81\1", 2); /* negative */
	assert_int_equal(check(&m), -EINVAL);
	m = rsa(0x80, 1, 256, "\1\0\0\0\0\0\0\0\1", 9);
	assert_int_equal(check(&m), -EINVAL);
}

static void test_other_blobs(void **state)
{
	static const char *const curves[][2] = {
		{"ecdsa-sha2-nistp256", "nistp384"},
		{"ecdsa-sha2-nistp384", "nistp256"},
		{"ecdsa-sha2-nistp521", ""},
	};
	struct made m = {.n = 0};

	assert_int_equal(pubkey_check_blob(bytes_of(NULL, 0), NULL, NULL), -EINVAL);
	assert_int_equal(pubkey_check_blob(bytes_of("\0\0\0", 3), NULL, NULL), -EINVAL);
	assert_int_equal(pubkey_check_blob(bytes_of("\xff\xff\xff\xff"
						    "abc",
						    7),
					   NULL, NULL),
			 -EINVAL);
	for (size_t i = 0; i < ARRAY_LEN(curves); i++) {
		m.n = 0;
		put_text(&m, curves[i][0]);
		put_text(&m, curves[i][1]);
		put_fill(&m, 4, 7, i == 0 ? 65 : i == 1 ? 97 : 133);
		assert_int_equal(check(&m), -EINVAL);
	}
	m.n = 0;
	put_text(&m, "ssh-ed25519");
	put_fill(&m, 1, 1, 31);
	assert_int_equal(check(&m), -EINVAL);
	m.n = 0;
	put_text(&m, "ssh-ed25519");
	put_fill(&m, 1, 1, 33);
	assert_int_equal(check(&m), -EINVAL);
	m.n = 0;
	put_text(&m, "ssh-ed25519-cert-v01@openssh.com");
	put_fill(&m, 1, 1, 32);
	assert_int_equal(check(&m), -ENOTSUP);
	m.n = 0;
	put_text(&m, "ssh-dss");
	assert_int_equal(check(&m), -ENOTSUP);
	m.n = 0;
	put_string(&m, "ssh-ed25519\0", 12);
	put_fill(&m, 1, 1, 32);
	assert_int_equal(check(&m), -ENOTSUP);
}

/* Cut anywhere, or with a byte behind it, a key is none; nothing is read beyond it (the sanitizer build sees that). */
static void test_every_cut(void **state)
{
	static const char *const lines[] = {KEY_ED25519_1, KEY_P256, KEY_P384, KEY_P521, KEY_RSA_2048};
	char error[PUBKEY_ERROR_BYTES];
	struct pubkey key;

	for (size_t i = 0; i < ARRAY_LEN(lines) + 2; i++) {
		struct made m = i == ARRAY_LEN(lines) ? sk_ed25519() : sk_ecdsa(4);

		if (i < ARRAY_LEN(lines)) {
			assert_int_equal(pubkey_parse_line(lines[i], &key, error), 0);
			memcpy(m.p, key.blob, key.blob_bytes);
			m.n = key.blob_bytes;
		}
		for (size_t n = 0; n < m.n; n++) {
			uint8_t *exact = malloc(n ? n : 1);
			int rc;

			memcpy(exact, m.p, n);
			rc = pubkey_check_blob(bytes_of(exact, n), NULL, NULL);
			free(exact);
			if (rc == 0)
				fail_msg("key %zu cut to %zu bytes is accepted", i, n);
		}
		m.p[m.n++] = 0;
		assert_int_equal(check(&m), -EINVAL);
	}
}

static void test_bad_lines(void **state)
{
	struct made m = sk_ed25519();

	expect_bad("", "empty");
	expect_bad("   ", "empty");
	expect_bad("ssh-ed25519", "missing");
	expect_bad("ssh-ed25519 ", "missing");
	expect_bad("ssh-ed25519 AAAA", "damaged");
	expect_bad("ssh-ed25519 !!!!", "base64");
	expect_bad("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINSB2OBfaoF1kXcFUMvDg61RAoCAw5Dl7eH0I9O4kSB", "base64");
	expect_bad("AAAAC3NzaC1lZDI1NTE5AAAAINSB2OBfaoF1kXcFUMvDg61RAoCAw5Dl7eH0I9O4kSBW", "no accepted key type");
	expect_bad("ssh-foo AAAA", "'ssh-foo' is no accepted key type");
	expect_bad(line_of(&m, "ssh-ed25519"), "another type inside");
	expect_bad(KEY_RSA_1024, "1024 bits");
	m = rsa(1, 1, 2049, "\3", 1);
	expect_bad(line_of(&m, "ssh-rsa"), "more than 16384 bits");
	m = rsa(0x80, 1, 4000, "\3", 1);
	expect_bad(line_of(&m, "ssh-rsa"), "more than 16384 bits");
	memset(m.p, 0, sizeof(m.p));
	m.n = PUBKEY_BLOB_MAX + 1;
	expect_bad(line_of(&m, "ssh-rsa"), "base64");
	expect_bad("ssh-dss AAAA", "DSA");
	expect_bad("ssh-ed25519-cert-v01@openssh.com AAAA", "certificates");
	expect_bad("no-pty " KEY_ED25519_1, "options");
	expect_bad("command=\"echo hi\",no-pty " KEY_ED25519_1, "options");
	expect_bad("-----BEGIN OPENSSH PRIVATE KEY-----", "private key");
	expect_bad("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU=\n", "private key");
	expect_bad("b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ", "private key");
	expect_bad("PuTTY-User-Key-File-3: ssh-ed25519", "private key");
	expect_bad("---- BEGIN SSH2 PUBLIC KEY ----", "ssh-keygen -i");
	expect_bad("-----BEGIN PUBLIC KEY-----", "ssh-keygen -i");
	expect_bad(KEY_ED25519_1 "\n" KEY_ED25519_2, "one line");
	expect_bad(KEY_ED25519_1 " a\x1b[2Jb", "one line");
}

static void test_fingerprint_of_anything(void **state)
{
	char text[FINGERPRINT_CHARS + 1];

	pubkey_fingerprint(bytes_of("", 0), text);
	assert_string_equal(text, "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU");
	assert_int_equal(strlen(text), FINGERPRINT_CHARS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_lines),
		cmocka_unit_test(test_security_keys),
		cmocka_unit_test(test_rsa_numbers),
		cmocka_unit_test(test_other_blobs),
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_bad_lines),
		cmocka_unit_test(test_fingerprint_of_anything),
	};

	return cmocka_run_group_tests_name("pubkey", tests, NULL, NULL);
}
