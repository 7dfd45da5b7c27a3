/*
 * control/serve.c - `ringgate-control serve`: from the settings to the signals that end it.
 */
#include "control/commands.h"
#include "control/driver_local.h"
#include "control/limits.h"
#include "control/publish_redis.h"
#include "control/server.h"
#include "core/address.h"
#include "core/log.h"
#include "core/whole_file.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* A file that an ended server left is removed; one that somebody listens on is not. */
static void unix_clear(const struct sockaddr_storage *addr, socklen_t bytes)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)addr, bytes) < 0 && errno == ECONNREFUSED)
		(void)unlink(((const struct sockaddr_un *)addr)->sun_path);
	close(fd);
}

static int listen_open(const char *address, int *ret_fd)
{
	struct sockaddr_storage addr;
	socklen_t bytes;
	int one = 1, rc = socket_address_parse(address, &addr, &bytes);
	int fd = rc == 0 ? socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;

	if (rc < 0 || fd < 0)
		return rc < 0 ? rc : -errno;
	if (addr.ss_family == AF_UNIX)
		unix_clear(&addr, bytes);
	else
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&addr, bytes) < 0 || listen(fd, SOMAXCONN) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	*ret_fd = fd;
	return 0;
}

static const char *listen_text(int fd, char *buf, size_t size)
{
	struct sockaddr_storage addr;
	socklen_t bytes = sizeof(addr);

	if (getsockname(fd, (struct sockaddr *)&addr, &bytes) < 0)
		bytes = 0;
	return socket_address_text((struct sockaddr *)&addr, bytes, buf, size);
}

static int write_ready_file(const char *path, const char *address)
{
	struct whole_file w;
	int rc = whole_file_start(&w, path);

	if (rc < 0)
		return rc;
	fprintf(w.stream, "{\"listen\": [\"%s\"]}\n", address);
	return whole_file_finish(&w);
}

static void wait_for_end(const sigset_t *signals)
{
	int sig;

	while ((sig = sigwaitinfo(signals, NULL)) != SIGTERM && sig != SIGINT)
		if (sig == SIGHUP)
			log_reopen();
	log_event(LOG_INFO, "stop", LOG_STR("signal", sig == SIGTERM ? "TERM" : "INT"));
}

/* A connection is a descriptor: as many as the system lets us have. */
static void raise_descriptor_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
}

static int local_make(struct server *s, char error[CONFIG_ERROR_BYTES])
{
	const struct config *c = s->config;
	const char *keys[CONFIG_LIST_MAX + 1] = {NULL}, *args[CONFIG_LIST_MAX + 1] = {NULL};
	struct driver_local_options o = {.folder = c->local.folder,
					 .procd = c->local.procd,
					 .gateway_keys = keys,
					 .user = c->local.user[0] ? c->local.user : NULL,
					 .shell = c->local.shell[0] ? c->local.shell : NULL,
					 .procd_args = args,
					 .keeps_files = c->local.keep_files != 0,
					 .resume_delay_ms = c->local.resume_delay_ms,
					 .fails_resume = c->local.fail_resume != 0};

	for (uint32_t i = 0; i < c->gateway_key_count; i++)
		keys[i] = c->gateway_keys[i];
	for (uint32_t i = 0; i < c->local.procd_arg_count; i++)
		args[i] = c->local.procd_args[i];
	s->fleet.driver_name = "local";
	return driver_local_new(&o, fleet_report, &s->fleet, &s->fleet.driver, error);
}

static int driver_make(struct server *s, char error[CONFIG_ERROR_BYTES])
{
	switch ((enum config_driver)s->config->driver) {
	case CONFIG_DRIVER_NONE:
		return 0;
	case CONFIG_DRIVER_LOCAL:
		return local_make(s, error);
	}
	snprintf(error, CONFIG_ERROR_BYTES, "driver: unknown");
	return -EINVAL;
}

/* With a cache: made before anything runs, so that a wrong URL ends the start; it connects later. */
static int publisher_make(struct server *s, char error[CONFIG_ERROR_BYTES])
{
	const struct config *c = s->config;
	struct redis_link_options o = {.url = c->redis.url,
				       .password_file = c->redis.password_file[0] ? c->redis.password_file : NULL,
				       .ca_file = c->redis.ca_file[0] ? c->redis.ca_file : NULL,
				       .connect_timeout_ms = c->redis.connect_timeout_ms,
				       .timeout_ms = c->redis.timeout_ms};
	struct publish_sink *sink;
	int rc;

	if (!c->redis.url[0])
		return 0;
	rc = publish_redis_new(&o, &sink, error);
	return rc < 0 ? rc : publisher_start(s->pool, s->feed, sink, &s->publisher);
}

/* Everything but HTTP. */
static int server_start(struct server *s, char error[CONFIG_ERROR_BYTES])
{
	int rc = store_pool_new(s->config->database, &s->pool, error);

	if (rc < 0)
		return rc;
	rc = feed_new(s->pool, &s->feed);
	fleet_init(&s->fleet, s->pool, s->feed);
	if (rc == 0)
		rc = publisher_make(s, error);
	if (rc == 0)
		rc = driver_make(s, error);
	if (rc == 0)
		rc = fleet_start(&s->fleet);
	if (rc < 0 && !error[0])
		snprintf(error, CONFIG_ERROR_BYTES, "cannot start: %s", strerror(-rc));
	return rc;
}

static void server_stop(struct server *s)
{
	if (s->feed)
		feed_stop(s->feed);
	http_stop(s);
	publisher_stop(s->publisher);
	fleet_stop(&s->fleet);
	feed_free(s->feed);
	store_pool_free(s->pool);
}

static int server_run(struct server *s, int fd, const struct command_options *o, const sigset_t *signals,
		      char error[CONFIG_ERROR_BYTES])
{
	char address[SOCKET_TEXT_MAX];
	int rc = server_start(s, error);

	if (rc == 0) {
		rc = http_start(s, fd);
		if (rc < 0)
			snprintf(error, CONFIG_ERROR_BYTES, "the HTTP server does not start");
	}
	if (rc < 0)
		return rc;
	listen_text(fd, address, sizeof(address));
	log_event(LOG_INFO, "listen", LOG_STR("address", address), LOG_STR("version", RINGGATE_VERSION),
		  LOG_U64("gateway_keys", s->config->gateway_key_count));
	if (o->ready_path) {
		rc = write_ready_file(o->ready_path, address);
		if (rc < 0)
			snprintf(error, CONFIG_ERROR_BYTES, "--ready-file %s: %s", o->ready_path, strerror(-rc));
	}
	if (rc == 0)
		wait_for_end(signals);
	return rc;
}

int command_serve(const struct config *c, const struct command_options *o, char error[CONFIG_ERROR_BYTES])
{
	struct log_options log = {.level = c->log.level, .format = c->log.format, .path = c->log.file};
	static struct server server;
	sigset_t signals;
	int fd, rc = log_start(&log);

	if (rc < 0) {
		snprintf(error, CONFIG_ERROR_BYTES, "log.file %.200s: %s", c->log.file, strerror(-rc));
		return rc;
	}
	server.config = c;
	for (uint32_t i = 0; i < c->gateway_key_count; i++)
		ASSERT(jwt_key_parse(c->gateway_keys[i], server.gateway_keys[i]));
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	raise_descriptor_limit();
	rc = listen_open(c->listen, &fd);
	if (rc < 0) {
		snprintf(error, CONFIG_ERROR_BYTES, "listen %s: %s", c->listen, strerror(-rc));
	} else {
		rc = server_run(&server, fd, o, &signals, error);
		server_stop(&server);
	}
	log_event(rc < 0 ? LOG_ERROR : LOG_INFO, "end", LOG_STR("result", rc < 0 ? error : "clean"));
	log_stop();
	return rc;
}
