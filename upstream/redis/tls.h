/*
 * upstream/redis/tls.h - TLS as a client, over memory: OpenSSL turns bytes into bytes, the ring moves them.
 *
 * TLS 1.2 or newer; the server's certificate must lead to the CA and bear the host's name or number.
 *
 * Owner:  a context is made once and outlives its connections; struct tls is embedded in a connection.
 * Thread: the connection's.
 */
#ifndef UPSTREAM_REDIS_TLS_H
#define UPSTREAM_REDIS_TLS_H

#include "core/bytes.h"
#include "core/chain.h"
#include "core/check.h"

#include <sys/types.h>

struct tls_context;

/* ca_file NULL: the system's CAs. 0, or negative errno with a sentence. */
MUST_USE int tls_context_new(const char *ca_file, struct tls_context **ret_context, char ret_error[256]);
void tls_context_free(struct tls_context *c);

struct tls {
	struct ssl_st *ssl; /* NULL: not started */
	struct bio_st *in, *out;
	bool is_up; /* the handshake is done */
};

/* Begins as a client and puts the first bytes into `to`. host is a name or a number. 0 or negative errno. */
MUST_USE int tls_start(struct tls *t, struct tls_context *c, const char *host, struct chain *to);
/* Also of one that was never started. */
void tls_deinit(struct tls *t);

/* Bytes from the peer; then call tls_read until it gives 0. 0 or -ENOMEM. */
MUST_USE int tls_feed(struct tls *t, const uint8_t *p, size_t n);
/*
 * Plaintext: its length; 0 when more bytes are needed; -EPIPE: the peer said that nothing more comes; -EPROTO: no TLS, or not who
 * it should be (tls_why tells). Goes on with the handshake, whose bytes, as all answers, go to `to`.
 */
MUST_USE ssize_t tls_read(struct tls *t, uint8_t *ret_bytes, size_t size, struct chain *to);
/* Only when is_up. 0 or negative errno. */
MUST_USE int tls_write(struct tls *t, const void *p, size_t n, struct chain *to);

/* After -EPROTO; a few words. */
const char *tls_why(const struct tls *t, char *buf, size_t size);

#endif
