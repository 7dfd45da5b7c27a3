/*
 * control/redis_conn.c - see redis_conn.h.
 */
#include "control/redis_conn.h"

#include "control/limits.h"
#include "upstream/redis/reply.h"

#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

__attribute__((format(printf, 2, 3))) static void fail(struct redis_conn *c, const char *why, ...)
{
	va_list args;

	va_start(args, why);
	vsnprintf(c->why, sizeof(c->why), why, args);
	va_end(args);
	redis_conn_close(c);
}

void redis_conn_close(struct redis_conn *c)
{
	redisFree(c->context);
	c->context = NULL;
}

/* --- commands --- */

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool send_all(redisContext *context)
{
	int is_done = 0;

	while (!is_done)
		if (redisBufferWrite(context, &is_done) != REDIS_OK)
			return false;
	return true;
}

/* Whatever the server sends: neither more memory nor more time than this. NULL: why says it. */
static redisReply *read_reply(struct redis_conn *c, const char **ret_why)
{
	uint64_t deadline = now_ms() + c->o->timeout_ms;
	size_t bytes = 0, before;
	void *reply = NULL;

	*ret_why = NULL;
	while (redisGetReplyFromReader(c->context, &reply) == REDIS_OK && !reply && !*ret_why) {
		before = c->context->reader->len;
		if (redisBufferRead(c->context) != REDIS_OK)
			break;
		bytes += c->context->reader->len - before;
		if (bytes > REDIS_REPLY_BYTES_MAX)
			*ret_why = "a reply that is too long";
		else if (now_ms() > deadline)
			*ret_why = "a reply that does not end";
	}
	if (!reply && !*ret_why)
		*ret_why = c->context->errstr;
	return reply;
}

/* An error that says only: not here. */
static bool is_redirection(const redisReply *r)
{
	return reply_is_error(r, "MOVED") || reply_is_error(r, "ASK") || reply_is_error(r, "TRYAGAIN");
}

redisReply *redis_conn_ask(struct redis_conn *c, int argc, const char **argv)
{
	char code[REPLY_CODE_MAX];
	redisReply *reply = NULL;
	const char *why;

	if (!c->context)
		return NULL;
	if (redisAppendCommandArgv(c->context, argc, argv, NULL) != REDIS_OK || !send_all(c->context))
		why = c->context->errstr;
	else
		reply = read_reply(c, &why);
	if (reply && reply->type != REDIS_REPLY_ERROR)
		return reply;
	if (!reply)
		fail(c, "%s: %s", argv[0], why);
	else if (is_redirection(reply))
		snprintf(c->why, sizeof(c->why), "%s: %s", argv[0], reply_code(reply, code));
	else /* Its first word only: what follows may repeat the command, and that one may hold a password. */
		fail(c, "%s: %s", argv[0], reply_code(reply, code));
	freeReplyObject(reply);
	return NULL;
}

static bool ask_nothing(struct redis_conn *c, int argc, const char **argv)
{
	redisReply *reply = redis_conn_ask(c, argc, argv);

	freeReplyObject(reply);
	return reply != NULL;
}

/* --- the beginning --- */

/* The peer must be who the URL names. hiredis takes the SSL where it succeeds. */
static bool begin_tls(struct redis_conn *c)
{
	const char *host = c->endpoint.host;
	SSL *ssl = SSL_new(c->o->tls);
	X509_VERIFY_PARAM *param = ssl ? SSL_get0_param(ssl) : NULL;

	if (!param ||
	    (X509_VERIFY_PARAM_set1_ip_asc(param, host) != 1 &&
	     (X509_VERIFY_PARAM_set1_host(param, host, 0) != 1 || SSL_set_tlsext_host_name(ssl, host) != 1))) {
		SSL_free(ssl);
		fail(c, "no memory");
		return false;
	}
	if (redisInitiateSSL(c->context, ssl) == REDIS_OK)
		return true;
	SSL_free(ssl);
	fail(c, "TLS: %.100s", c->context->errstr);
	ERR_clear_error();
	return false;
}

static struct timeval time_of(uint32_t ms)
{
	return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

static bool begin(struct redis_conn *c)
{
	struct timeval connect_timeout = time_of(c->o->connect_timeout_ms), timeout = time_of(c->o->timeout_ms);
	redisOptions o = {.connect_timeout = &connect_timeout, .command_timeout = &timeout};

	if (c->endpoint.port == 0)
		REDIS_OPTIONS_SET_UNIX(&o, c->endpoint.host);
	else
		REDIS_OPTIONS_SET_TCP(&o, c->endpoint.host, c->endpoint.port);
	c->context = redisConnectWithOptions(&o);
	if (!c->context || c->context->err) {
		fail(c, "%s", c->context ? c->context->errstr : "no memory");
		return false;
	}
	(void)fcntl(c->context->fd, F_SETFD, FD_CLOEXEC);
	/* hiredis takes memory as an array's head says. */
	c->context->reader->maxelements = REDIS_REPLY_ELEMENTS_MAX;
	/* A socket of this machine needs no TLS. */
	return !c->o->tls || c->endpoint.port == 0 || begin_tls(c);
}

static bool log_in(struct redis_conn *c)
{
	const struct target *t = &c->o->target;
	const char *argv[3] = {"AUTH", t->user, t->password};

	if (!t->password[0] && !t->user[0])
		return true;
	if (t->user[0])
		return ask_nothing(c, 3, argv);
	argv[1] = t->password;
	return ask_nothing(c, 2, argv);
}

static bool select_db(struct redis_conn *c)
{
	char number[16];
	const char *argv[2] = {"SELECT", number};

	snprintf(number, sizeof(number), "%u", c->o->target.db);
	return c->o->target.db == 0 || ask_nothing(c, 2, argv);
}

/* After a failover the old master may answer still. */
static bool is_master(struct redis_conn *c)
{
	const char *argv[1] = {"ROLE"};
	redisReply *reply = redis_conn_ask(c, 1, argv);
	bool yes = reply && reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 &&
		   bytes_is(reply_bytes(reply->element[0]), "master");

	freeReplyObject(reply);
	if (reply && !yes)
		fail(c, "it is no master");
	return yes;
}

bool redis_conn_open(struct redis_conn *c, const struct redis_conn_options *o, const struct endpoint *e,
		     enum redis_role role)
{
	redis_conn_close(c);
	c->o = o;
	c->endpoint = *e;
	return begin(c) && log_in(c) && (role != REDIS_MASTER || (select_db(c) && is_master(c)));
}
