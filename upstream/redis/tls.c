#include "upstream/redis/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>

/* OpenSSL's own type, by the name that says what it is here. */
static SSL_CTX *ctx_of(struct tls_context *c)
{
	return (SSL_CTX *)c;
}

/* The reason of the oldest error in this thread's queue, which is emptied. */
static const char *last_error(char *buf, size_t size)
{
	unsigned long e = ERR_get_error();
	const char *reason = e ? ERR_reason_error_string(e) : NULL;

	snprintf(buf, size, "%s", reason ? reason : "TLS failed");
	ERR_clear_error();
	return buf;
}

static int load_ca(SSL_CTX *ctx, const char *ca_file)
{
	return ca_file ? SSL_CTX_load_verify_file(ctx, ca_file) : SSL_CTX_set_default_verify_paths(ctx);
}

int tls_context_new(const char *ca_file, struct tls_context **ret_context, char ret_error[256])
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	char why[128];

	if (!ctx) {
		snprintf(ret_error, 256, "%s", last_error(why, sizeof(why)));
		return -ENOMEM;
	}
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	/* Our bytes may lie elsewhere when SSL_write is called again; read buffers of idle connections go. */
	SSL_CTX_set_mode(ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 || load_ca(ctx, ca_file) != 1) {
		snprintf(ret_error, 256, "%.150s: %s", ca_file ? ca_file : "the system's CAs",
			 last_error(why, sizeof(why)));
		SSL_CTX_free(ctx);
		return -EINVAL;
	}
	*ret_context = (struct tls_context *)ctx;
	return 0;
}

void tls_context_free(struct tls_context *c)
{
	SSL_CTX_free(ctx_of(c));
}

/* A number must stand in the certificate as a number; only a name is sent along (RFC 6066). */
static int expect_host(SSL *ssl, const char *host)
{
	uint8_t number[16];

	if (inet_pton(AF_INET, host, number) == 1 || inet_pton(AF_INET6, host, number) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
	return SSL_set_tlsext_host_name(ssl, host) == 1 && SSL_set1_host(ssl, host) == 1;
}

/* What OpenSSL has to say to the peer. */
static int drain(struct tls *t, struct chain *to)
{
	char *p;
	long n = BIO_get_mem_data(t->out, &p);

	if (n <= 0)
		return 0;
	if (chain_append(to, p, (size_t)n) < 0)
		return -ENOMEM;
	(void)BIO_reset(t->out);
	return 0;
}

int tls_start(struct tls *t, struct tls_context *c, const char *host, struct chain *to)
{
	*t = (struct tls){.ssl = SSL_new(ctx_of(c)), .in = BIO_new(BIO_s_mem()), .out = BIO_new(BIO_s_mem())};
	if (!t->ssl || !t->in || !t->out) {
		BIO_free(t->in);
		BIO_free(t->out);
		SSL_free(t->ssl);
		*t = (struct tls){0};
		return -ENOMEM;
	}
	/* Empty means: later. */
	BIO_set_mem_eof_return(t->in, -1);
	SSL_set_bio(t->ssl, t->in, t->out);
	SSL_set_connect_state(t->ssl);
	if (expect_host(t->ssl, host) != 1)
		return -EINVAL;
	ERR_clear_error();
	(void)SSL_do_handshake(t->ssl);
	return drain(t, to);
}

void tls_deinit(struct tls *t)
{
	SSL_free(t->ssl);
	*t = (struct tls){0};
}

int tls_feed(struct tls *t, const uint8_t *p, size_t n)
{
	return BIO_write(t->in, p, (int)n) == (int)n ? 0 : -ENOMEM;
}

/* What SSL_do_handshake or SSL_read says by a result that is no success. */
static int outcome(const struct tls *t, int rc)
{
	switch (SSL_get_error(t->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return 0;
	case SSL_ERROR_ZERO_RETURN:
		return -EPIPE;
	default:
		return -EPROTO;
	}
}

ssize_t tls_read(struct tls *t, uint8_t *ret_bytes, size_t size, struct chain *to)
{
	ssize_t got;
	int rc;

	ERR_clear_error();
	if (!t->is_up) {
		rc = SSL_do_handshake(t->ssl);
		t->is_up = rc == 1;
		/* An alert says why, so it goes out in any case. */
		if (drain(t, to) < 0)
			return -ENOMEM;
		if (!t->is_up)
			return outcome(t, rc);
	}
	rc = SSL_read(t->ssl, ret_bytes, (int)size);
	got = rc > 0 ? rc : outcome(t, rc);
	return drain(t, to) < 0 ? -ENOMEM : got;
}

int tls_write(struct tls *t, const void *p, size_t n, struct chain *to)
{
	ASSERT(t->is_up);
	ERR_clear_error();
	if (n == 0)
		return 0;
	/* Into memory, which never is full. */
	if (SSL_write(t->ssl, p, (int)n) != (int)n)
		return -EPROTO;
	return drain(t, to);
}

const char *tls_why(const struct tls *t, char *buf, size_t size)
{
	long verified = t->ssl ? SSL_get_verify_result(t->ssl) : X509_V_OK;

	if (verified != X509_V_OK) {
		snprintf(buf, size, "TLS: %s", X509_verify_cert_error_string(verified));
		ERR_clear_error();
		return buf;
	}
	return last_error(buf, size);
}
