#include "certs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

static void extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *e;
	X509V3_CTX ctx;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(e);
	assert_int_equal(X509_add_ext(cert, e, -1), 1);
	X509_EXTENSION_free(e);
}

/* Signed by issuer, or by itself where that is NULL. */
static X509 *make(EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key, const char *name, long serial)
{
	X509 *cert = X509_new();
	X509_NAME *subject;

	assert_non_null(cert);
	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), serial);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	subject = X509_get_subject_name(cert);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(cert, issuer ? X509_get_subject_name(issuer) : subject);
	return cert;
}

static FILE *open_file(const char *dir, const char *prefix, const char *what)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s-%s.pem", dir, prefix, what);
	f = fopen(path, "w");
	assert_non_null(f);
	return f;
}

static void write_cert(const char *dir, const char *prefix, const char *what, X509 *cert)
{
	FILE *f = open_file(dir, prefix, what);

	assert_int_equal(PEM_write_X509(f, cert), 1);
	fclose(f);
}

void certs_make(const char *dir, const char *prefix, const char *names)
{
	EVP_PKEY *ca_key = EVP_EC_gen("P-256"), *key = EVP_EC_gen("P-256");
	X509 *ca = make(ca_key, NULL, ca_key, "test CA", 1), *cert = make(key, ca, ca_key, "test server", 2);
	FILE *f;

	extend(ca, ca, NID_basic_constraints, "critical,CA:TRUE");
	extend(ca, ca, NID_key_usage, "critical,keyCertSign,cRLSign");
	assert_true(X509_sign(ca, ca_key, EVP_sha256()) > 0);
	extend(cert, ca, NID_subject_alt_name, names);
	assert_true(X509_sign(cert, ca_key, EVP_sha256()) > 0);
	write_cert(dir, prefix, "ca", ca);
	write_cert(dir, prefix, "cert", cert);
	f = open_file(dir, prefix, "key");
	assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(f);
	X509_free(cert);
	X509_free(ca);
	EVP_PKEY_free(key);
	EVP_PKEY_free(ca_key);
}
