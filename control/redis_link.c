/*
 * control/redis_link.c - see redis_link.h.
 */
#include "control/redis_link.h"

#include "control/limits.h"
#include "upstream/redis/target.h"

#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define WHY_MAX 160

struct redis_link {
	struct target target;
	SSL_CTX *tls; /* NULL: none */
	struct timeval connect_timeout, timeout;
	uint32_t timeout_ms;
	redisContext *context; /* NULL: closed */
	char where[ENDPOINT_TEXT_MAX];
	char why[WHY_MAX];
};

/* --- ends --- */

__attribute__((format(printf, 2, 3))) static void close_link(struct redis_link *l, const char *why, ...)
{
	va_list args;

	va_start(args, why);
	vsnprintf(l->why, sizeof(l->why), why, args);
	va_end(args);
	redisFree(l->context);
	l->context = NULL;
}

const char *redis_link_why(const struct redis_link *l)
{
	return l->why;
}

const char *redis_link_where(const struct redis_link *l)
{
	return l->where;
}

/* --- commands --- */

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool send_all(redisContext *c)
{
	int is_done = 0;

	while (!is_done)
		if (redisBufferWrite(c, &is_done) != REDIS_OK)
			return false;
	return true;
}

/* Whatever the server sends: neither more memory nor more time than this. NULL: why says it. */
static redisReply *read_reply(struct redis_link *l, const char **ret_why)
{
	uint64_t deadline = now_ms() + l->timeout_ms;
	size_t bytes = 0, before;
	void *reply = NULL;

	*ret_why = NULL;
	while (redisGetReplyFromReader(l->context, &reply) == REDIS_OK && !reply && !*ret_why) {
		before = l->context->reader->len;
		if (redisBufferRead(l->context) != REDIS_OK)
			break;
		bytes += l->context->reader->len - before;
		if (bytes > REDIS_REPLY_BYTES_MAX)
			*ret_why = "a reply that is too long";
		else if (now_ms() > deadline)
			*ret_why = "a reply that does not end";
	}
	if (!reply && !*ret_why)
		*ret_why = l->context->errstr;
	return reply;
}

/* All errors are of a server that cannot serve us: what we say is not wrong by itself. */
redisReply *redis_link_ask(struct redis_link *l, int argc, const char **argv)
{
	redisReply *reply = NULL;
	const char *why;

	if (!l->context)
		return NULL;
	if (redisAppendCommandArgv(l->context, argc, argv, NULL) != REDIS_OK || !send_all(l->context))
		why = l->context->errstr;
	else
		reply = read_reply(l, &why);
	if (!reply) {
		close_link(l, "%s: %s", argv[0], why);
		return NULL;
	}
	if (reply->type == REDIS_REPLY_ERROR) {
		close_link(l, "%s: %.100s", argv[0], reply->str);
		freeReplyObject(reply);
		return NULL;
	}
	return reply;
}

static bool ask_nothing(struct redis_link *l, int argc, const char **argv)
{
	redisReply *reply = redis_link_ask(l, argc, argv);

	freeReplyObject(reply);
	return reply != NULL;
}

/* --- one connection --- */

/* The peer must be who the URL names. hiredis takes the SSL where it succeeds. */
static bool begin_tls(struct redis_link *l, const struct endpoint *e)
{
	SSL *ssl = SSL_new(l->tls);
	X509_VERIFY_PARAM *param = ssl ? SSL_get0_param(ssl) : NULL;

	if (!param ||
	    (X509_VERIFY_PARAM_set1_ip_asc(param, e->host) != 1 &&
	     (X509_VERIFY_PARAM_set1_host(param, e->host, 0) != 1 || SSL_set_tlsext_host_name(ssl, e->host) != 1))) {
		SSL_free(ssl);
		close_link(l, "no memory");
		return false;
	}
	if (redisInitiateSSL(l->context, ssl) == REDIS_OK)
		return true;
	close_link(l, "TLS: %.100s", l->context->errstr);
	ERR_clear_error();
	return false;
}

static bool connect_to(struct redis_link *l, const struct endpoint *e)
{
	redisOptions o = {.connect_timeout = &l->connect_timeout, .command_timeout = &l->timeout};

	endpoint_text(e, l->where);
	if (e->port == 0)
		REDIS_OPTIONS_SET_UNIX(&o, e->host);
	else
		REDIS_OPTIONS_SET_TCP(&o, e->host, e->port);
	l->context = redisConnectWithOptions(&o);
	if (!l->context || l->context->err) {
		close_link(l, "%s", l->context ? l->context->errstr : "no memory");
		return false;
	}
	(void)fcntl(l->context->fd, F_SETFD, FD_CLOEXEC);
	/* hiredis takes memory as an array's head says. */
	l->context->reader->maxelements = REDIS_REPLY_ELEMENTS_MAX;
	/* A socket of this machine needs none. */
	return !l->tls || e->port == 0 || begin_tls(l, e);
}

static bool log_in(struct redis_link *l)
{
	const struct target *t = &l->target;
	const char *argv[3] = {"AUTH", t->user, t->password};

	if (!t->password[0] && !t->user[0])
		return true;
	if (t->user[0])
		return ask_nothing(l, 3, argv);
	argv[1] = t->password;
	return ask_nothing(l, 2, argv);
}

static bool select_db(struct redis_link *l)
{
	char number[16];
	const char *argv[2] = {"SELECT", number};

	snprintf(number, sizeof(number), "%u", l->target.db);
	return l->target.db == 0 || ask_nothing(l, 2, argv);
}

/* After a failover the old master may answer still. */
static bool is_master(struct redis_link *l)
{
	const char *argv[1] = {"ROLE"};
	redisReply *reply = redis_link_ask(l, 1, argv);
	bool yes = reply && reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 &&
		   reply->element[0]->type == REDIS_REPLY_STRING && strcmp(reply->element[0]->str, "master") == 0;

	freeReplyObject(reply);
	if (reply && !yes)
		close_link(l, "it is no master");
	return yes;
}

static bool open_server(struct redis_link *l, const struct endpoint *e)
{
	return connect_to(l, e) && log_in(l) && select_db(l) && is_master(l);
}

/* --- Sentinels --- */

/* What one Sentinel says of the master's address. */
static bool sentinel_ask(struct redis_link *l, const struct endpoint *sentinel, struct endpoint *ret_master)
{
	const char *argv[3] = {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", l->target.master};
	redisReply *reply;
	bool is_good;

	if (!connect_to(l, sentinel) || !log_in(l))
		return false;
	reply = redis_link_ask(l, 3, argv);
	is_good = reply && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
		  reply->element[0]->type == REDIS_REPLY_STRING && reply->element[1]->type == REDIS_REPLY_STRING &&
		  endpoint_set(ret_master, bytes_of(reply->element[0]->str, reply->element[0]->len),
			       strtoull(reply->element[1]->str, NULL, 10));
	freeReplyObject(reply);
	if (is_good || reply)
		close_link(l, "%s", is_good ? "" : "this Sentinel knows no such master");
	return is_good;
}

static bool open_by_sentinels(struct redis_link *l)
{
	struct endpoint master;

	for (uint32_t i = 0; i < l->target.endpoint_count; i++)
		if (sentinel_ask(l, &l->target.endpoints[i], &master))
			return open_server(l, &master);
	return false;
}

/* --- all of it --- */

int redis_link_open(struct redis_link *l)
{
	const char *ping[1] = {"PING"};

	if (l->context && ask_nothing(l, 1, ping))
		return 0;
	/* A connection that ended while nothing was asked is no failure: the next one counts. */
	if (l->target.kind == TARGET_SENTINELS ? open_by_sentinels(l) : open_server(l, &l->target.endpoints[0]))
		return 1;
	return -ENOTCONN;
}

static int make_tls(struct redis_link *l, const char *ca_file, char ret_error[256])
{
	l->tls = SSL_CTX_new(TLS_client_method());
	if (!l->tls) {
		snprintf(ret_error, 256, "redis: TLS does not start");
		return -ENOMEM;
	}
	SSL_CTX_set_min_proto_version(l->tls, TLS1_2_VERSION);
	SSL_CTX_set_verify(l->tls, SSL_VERIFY_PEER, NULL);
	if ((ca_file ? SSL_CTX_load_verify_locations(l->tls, ca_file, NULL)
		     : SSL_CTX_set_default_verify_paths(l->tls)) == 1)
		return 0;
	snprintf(ret_error, 256, "redis: no certificates in %.150s", ca_file ? ca_file : "the system's place");
	ERR_clear_error();
	return -EINVAL;
}

static struct timeval time_of(uint32_t ms)
{
	return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

int redis_link_new(const struct redis_link_options *o, struct redis_link **ret_link, char ret_error[256])
{
	struct redis_link *l = calloc(1, sizeof(*l));
	int rc;

	if (!l) {
		snprintf(ret_error, 256, "no memory");
		return -ENOMEM;
	}
	rc = target_parse(o->url, &l->target, ret_error);
	if (rc == 0 && l->target.kind == TARGET_CLUSTER) {
		snprintf(ret_error, 256,
			 "a Redis Cluster is not told of changes by this control plane: name one server or Sentinels");
		rc = -ENOTSUP;
	}
	if (rc == 0 && o->password_file)
		rc = target_load_password(&l->target, o->password_file, ret_error);
	if (rc == 0 && l->target.is_tls)
		rc = make_tls(l, o->ca_file, ret_error);
	l->connect_timeout = time_of(o->connect_timeout_ms);
	l->timeout = time_of(o->timeout_ms);
	l->timeout_ms = o->timeout_ms;
	if (rc < 0) {
		redis_link_free(l);
		return rc;
	}
	*ret_link = l;
	return 0;
}

void redis_link_free(struct redis_link *l)
{
	if (!l)
		return;
	redisFree(l->context);
	SSL_CTX_free(l->tls);
	target_wipe(&l->target);
	free(l);
}
