/*
 * tests/unit/upstream/certs.h - a CA and a server's certificate, made for a test.
 */
#ifndef TESTS_UNIT_UPSTREAM_CERTS_H
#define TESTS_UNIT_UPSTREAM_CERTS_H

/* Writes DIR/PREFIX-ca.pem, DIR/PREFIX-cert.pem and DIR/PREFIX-key.pem; names as in subjectAltName ("DNS:a,IP:127.0.0.1"). */
void certs_make(const char *dir, const char *prefix, const char *names);

#endif
