#include "core/pubkey.h"

#include <errno.h>
#include <sodium.h>
#include <stdarg.h>

enum family { FAMILY_ED25519, FAMILY_ECDSA, FAMILY_RSA };

static const struct key_type {
	const char *name;
	enum family family;
	uint32_t bits;        /* 0: the key says */
	const char *curve;    /* ECDSA: its name in the blob */
	uint32_t point_bytes; /* ECDSA: of the uncompressed point */
	bool has_application; /* a security key's */
} key_types[] = {
	{"ssh-ed25519", FAMILY_ED25519, 256, NULL, 0, false},
	{"ecdsa-sha2-nistp256", FAMILY_ECDSA, 256, "nistp256", 65, false},
	{"ecdsa-sha2-nistp384", FAMILY_ECDSA, 384, "nistp384", 97, false},
	{"ecdsa-sha2-nistp521", FAMILY_ECDSA, 521, "nistp521", 133, false},
	{"ssh-rsa", FAMILY_RSA, 0, NULL, 0, false},
	{"sk-ssh-ed25519@openssh.com", FAMILY_ED25519, 256, NULL, 0, true},
	{"sk-ecdsa-sha2-nistp256@openssh.com", FAMILY_ECDSA, 256, "nistp256", 65, true},
};

/* RFC 4251 section 5: a uint32 of the length, then the bytes. Takes it off the front of `from`. */
static bool string_take(struct bytes *from, struct bytes *ret_string)
{
	uint32_t n;

	if (from->n < 4)
		return false;
	n = (uint32_t)from->p[0] << 24 | (uint32_t)from->p[1] << 16 | (uint32_t)from->p[2] << 8 | from->p[3];
	if (n > from->n - 4)
		return false;
	*ret_string = bytes_of(from->p + 4, n);
	*from = bytes_of(from->p + 4 + n, from->n - 4 - n);
	return true;
}

/* A positive mpint in its shortest form, without the leading zero byte that its sign may need. */
static bool mpint_take(struct bytes *from, struct bytes *ret_number)
{
	struct bytes s;

	if (!string_take(from, &s) || s.n == 0 || (s.p[0] & 0x80))
		return false;
	if (s.p[0] == 0) {
		if (s.n == 1 || !(s.p[1] & 0x80))
			return false;
		s = bytes_of(s.p + 1, s.n - 1);
	}
	*ret_number = s;
	return true;
}

static const struct key_type *type_find(struct bytes name)
{
	for (size_t i = 0; i < ARRAY_LEN(key_types); i++)
		if (bytes_is(name, key_types[i].name))
			return &key_types[i];
	return NULL;
}

static int check_rsa(struct bytes *rest, uint32_t *ret_bits)
{
	struct bytes e, n;
	size_t bits;

	if (!mpint_take(rest, &e) || !mpint_take(rest, &n))
		return -EINVAL;
	/* Odd, and at least 3; libcrypto takes no larger e than 64 bits with large moduli. */
	if (e.n > 8 || !(e.p[e.n - 1] & 1) || (e.n == 1 && e.p[0] < 3) || !(n.p[n.n - 1] & 1))
		return -EINVAL;
	if (n.n > PUBKEY_RSA_BITS_MAX / 8)
		return -EKEYREJECTED;
	bits = n.n * 8 - (size_t)(__builtin_clz(n.p[0]) - 24);
	*ret_bits = (uint32_t)bits;
	return bits < PUBKEY_RSA_BITS_MIN ? -EKEYREJECTED : 0;
}

static int check_fields(const struct key_type *t, struct bytes *rest, uint32_t *ret_bits)
{
	struct bytes s;

	*ret_bits = t->bits;
	if (t->family == FAMILY_RSA)
		return check_rsa(rest, ret_bits);
	if (t->family == FAMILY_ECDSA && (!string_take(rest, &s) || !bytes_is(s, t->curve)))
		return -EINVAL;
	if (!string_take(rest, &s))
		return -EINVAL;
	if (t->family == FAMILY_ECDSA)
		return s.n == t->point_bytes && s.p[0] == 4 ? 0 : -EINVAL;
	return s.n == 32 ? 0 : -EINVAL;
}

int pubkey_check_blob(struct bytes blob, char ret_type[PUBKEY_TYPE_MAX], uint32_t *ret_bits)
{
	const struct key_type *t;
	struct bytes rest = blob, name;
	uint32_t bits = 0;
	int rc;

	if (!string_take(&rest, &name))
		return -EINVAL;
	t = type_find(name);
	if (!t)
		return -ENOTSUP;
	rc = check_fields(t, &rest, &bits);
	if (rc == -EINVAL)
		return rc;
	if (t->has_application) {
		struct bytes application;

		if (!string_take(&rest, &application) || application.n == 0 || application.n > PUBKEY_APPLICATION_MAX)
			return -EINVAL;
	}
	if (rest.n > 0)
		return -EINVAL;
	if (ret_type)
		strcpy(ret_type, t->name);
	if (ret_bits)
		*ret_bits = bits;
	return rc;
}

void pubkey_fingerprint(struct bytes blob, char ret[FINGERPRINT_CHARS + 1])
{
	uint8_t hash[crypto_hash_sha256_BYTES];

	_Static_assert(sizeof("SHA256:") - 1 + (crypto_hash_sha256_BYTES * 8 + 5) / 6 == FINGERPRINT_CHARS,
		       "its length");
	crypto_hash_sha256(hash, blob.p, blob.n);
	memcpy(ret, "SHA256:", 7);
	sodium_bin2base64(ret + 7, FINGERPRINT_CHARS + 1 - 7, hash, sizeof(hash),
			  sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
}

__attribute__((format(printf, 2, 3))) static int refuse(char ret_error[PUBKEY_ERROR_BYTES], const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(ret_error, PUBKEY_ERROR_BYTES, format, ap);
	va_end(ap);
	return -EINVAL;
}

/* The next word of a line; empty at its end. */
static struct bytes word_take(const char **at)
{
	size_t n;

	*at += strspn(*at, " \t");
	n = strcspn(*at, " \t");
	*at += n;
	return bytes_of(*at - n, n);
}

static bool contains(const char *line, const char *what)
{
	return strstr(line, what) != NULL;
}

/* Things that are put into such files by mistake, each with what to do. */
static int check_mistakes(const char *line, char ret_error[PUBKEY_ERROR_BYTES])
{
	/* "openssh-key-v1" in base64: the first line inside OpenSSH's private key files. */
	if (contains(line, "PRIVATE KEY") || contains(line, "PuTTY-User-Key-File") ||
	    contains(line, "b3BlbnNzaC1rZXktdjE"))
		return refuse(ret_error,
			      "this is a private key: put the line of the .pub file here, and make a new key pair");
	if (contains(line, "BEGIN SSH2 PUBLIC KEY") || contains(line, "BEGIN PUBLIC KEY") ||
	    contains(line, "BEGIN RSA PUBLIC KEY"))
		return refuse(ret_error, "this is another file format: ssh-keygen -i converts it to one line");
	for (const char *p = line; *p; p++)
		if (((unsigned char)*p < ' ' && *p != '\t') || *p == 0x7f)
			return refuse(ret_error, "a key is one line of text");
	return 0;
}

/* The first word is no accepted type: why? */
static int refuse_type(struct bytes first, const char *rest, char ret_error[PUBKEY_ERROR_BYTES])
{
	char name[PUBKEY_TYPE_MAX];

	if (!bytes_copy_str(first, name, sizeof(name)))
		strcpy(name, "the first word");
	if (contains(name, "-cert-v01@openssh.com"))
		return refuse(ret_error, "certificates are not accepted: put the plain public key here");
	if (strcmp(name, "ssh-dss") == 0)
		return refuse(ret_error, "DSA keys are not accepted: make an ed25519 key");
	for (struct bytes w = word_take(&rest); w.n > 0; w = word_take(&rest))
		if (type_find(w))
			return refuse(ret_error, "options before the key are not accepted");
	return refuse(ret_error, "'%s' is no accepted key type (ssh-ed25519, ecdsa-sha2-*, ssh-rsa, sk-*)", name);
}

static int refuse_blob(int rc, uint32_t bits, char ret_error[PUBKEY_ERROR_BYTES])
{
	if (rc != -EKEYREJECTED)
		return refuse(ret_error, "the key is damaged: its content is not that of its type");
	if (bits == 0)
		return refuse(ret_error, "an RSA key of more than %d bits is not accepted", PUBKEY_RSA_BITS_MAX);
	return refuse(ret_error, "an RSA key of %u bits is not accepted: at least %d, or an ed25519 key", bits,
		      PUBKEY_RSA_BITS_MIN);
}

int pubkey_parse_line(const char *line, struct pubkey *ret, char ret_error[PUBKEY_ERROR_BYTES])
{
	struct pubkey key = {0};
	struct bytes type, text;
	size_t n;
	int rc;

	if (check_mistakes(line, ret_error) < 0)
		return -EINVAL;
	type = word_take(&line);
	if (type.n == 0)
		return refuse(ret_error, "the key is empty");
	if (!type_find(type))
		return refuse_type(type, line, ret_error);
	text = word_take(&line);
	if (text.n == 0)
		return refuse(ret_error, "the key's base64 text is missing");
	if (sodium_base642bin(key.blob, sizeof(key.blob), (const char *)text.p, text.n, NULL, &n, NULL,
			      sodium_base64_VARIANT_ORIGINAL) != 0)
		return refuse(ret_error,
			      "the key is damaged: its base64 text is cut, too long or has wrong characters");
	rc = pubkey_check_blob(bytes_of(key.blob, n), key.type, &key.bits);
	if (rc == -ENOTSUP || (rc == 0 && !bytes_is(type, key.type)))
		return refuse(ret_error, "the key is damaged: it says another type inside than outside");
	if (rc < 0)
		return refuse_blob(rc, key.bits, ret_error);
	key.blob_bytes = (uint32_t)n;
	pubkey_fingerprint(bytes_of(key.blob, n), key.fingerprint);
	*ret = key;
	return 0;
}
