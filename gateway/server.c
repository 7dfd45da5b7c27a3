/*
 * The gateway's threads: handshake threads accept and log in, workers carry the sessions, main waits for signals.
 */
#include "gateway/server.h"

#include "core/log.h"
#include "gateway/login.h"
#include "gateway/session.h"
#include "ring/socket.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Handshakes cost a millisecond of CPU each; the sessions' keystrokes go first. */
#define HANDSHAKE_NICE 5
#define WORKER_NICE (-10)

struct worker *server_pick_worker(struct server *s)
{
	struct worker *best = &s->workers[0];

	for (uint32_t i = 1; i < s->worker_count; i++)
		if (atomic_load(&s->workers[i].session_count) < atomic_load(&best->session_count))
			best = &s->workers[i];
	return best;
}

static void on_accept(struct listener *l, int fd)
{
	struct handshaker *h = l->owner;

	if (login_admits(h))
		session_start(h, fd, NULL);
	else
		close(fd);
}

static void name_thread(const char *name)
{
	pthread_setname_np(pthread_self(), name);
}

static void *handshaker_main(void *arg)
{
	struct handshaker *h = arg;
	int rc;

	name_thread("handshake");
	(void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), HANDSHAKE_NICE);
	rc = ring_run(h->ring);
	if (rc < 0)
		log_event(LOG_ERROR, "ring", LOG_STR("thread", "handshake"), LOG_STR("error", strerror(-rc)));
	return NULL;
}

/*
 * Workers go before what else runs here: a keystroke waits for them. Threads of a session (setsid) are scheduled as one
 * group where the kernel does that, so the group is raised, too. Without CAP_SYS_NICE all stays as it is. sched(7)
 */
static void worker_raise_priority(void)
{
	FILE *group = fopen("/proc/self/autogroup", "w");

	(void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), WORKER_NICE);
	if (!group)
		return;
	(void)fprintf(group, "%d", WORKER_NICE);
	(void)fclose(group);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	int rc;

	name_thread("worker");
	worker_raise_priority();
	rc = ring_run(w->ring);
	if (rc < 0)
		log_event(LOG_ERROR, "ring", LOG_STR("thread", "worker"), LOG_STR("error", strerror(-rc)));
	return NULL;
}

/* Whoever tells while sessions and rings go is not let in. */
static void on_changed(struct directory *d, const struct subject *subject)
{
	struct server *s = d->owner;

	atomic_fetch_add(&s->telling_count, 1);
	if (!atomic_load(&s->is_stopping))
		checks_tell(s, subject);
	atomic_fetch_sub(&s->telling_count, 1);
}

/* --- the end: every session is told, then the rings are drained within SHUTDOWN_MS --- */

static void disconnect_all(struct list *sessions)
{
	for (struct list *n = sessions->next, *next; n != sessions; n = next) {
		next = n->next;
		session_disconnect(CONTAINER_OF(n, struct session, node), DISCONNECT_BY_APPLICATION,
				   "the gateway is shutting down");
	}
}

#define SHUTDOWN_TICK_MS 20

static void worker_on_shutdown(struct timer *t)
{
	struct worker *w = CONTAINER_OF(t, struct worker, shutdown);

	if ((atomic_load(&w->session_count) == 0 && w->jump_count == 0) || ring_now_us(w->ring) >= w->shutdown_until_us)
		ring_stop(w->ring);
	else
		timer_start(w->ring, t, SHUTDOWN_TICK_MS);
}

static void worker_on_stop(struct ring *r, struct mail *m)
{
	struct worker *w = CONTAINER_OF(m, struct worker, stop);

	disconnect_all(&w->sessions);
	w->shutdown_until_us = ring_now_us(r) + SHUTDOWN_MS * 1000;
	timer_init(&w->shutdown, worker_on_shutdown);
	timer_start(r, &w->shutdown, SHUTDOWN_TICK_MS);
}

static void handshaker_on_shutdown(struct timer *t)
{
	struct handshaker *h = CONTAINER_OF(t, struct handshaker, shutdown);

	if (list_is_empty(&h->sessions) || ring_now_us(h->ring) >= h->shutdown_until_us)
		ring_stop(h->ring);
	else
		timer_start(h->ring, t, SHUTDOWN_TICK_MS);
}

static void handshaker_on_stop(struct ring *r, struct mail *m)
{
	struct handshaker *h = CONTAINER_OF(m, struct handshaker, stop);

	for (uint32_t i = 0; i < h->server->config->listen_count; i++)
		listener_stop(&h->listeners[i]);
	disconnect_all(&h->sessions);
	h->shutdown_until_us = ring_now_us(r) + SHUTDOWN_MS * 1000;
	timer_init(&h->shutdown, handshaker_on_shutdown);
	timer_start(r, &h->shutdown, SHUTDOWN_TICK_MS);
}

/* --- start --- */

/* Each handshake thread gets a socket of its own for every address. */
static int listen_all(struct server *s, char ret_error[512])
{
	const struct config *c = s->config;
	int fds[HANDSHAKERS_MAX];

	for (uint32_t k = 0; k < c->listen_count; k++) {
		int rc = listen_sockets(c->listen[k], s->handshaker_count, fds);

		if (rc < 0) {
			snprintf(ret_error, 512, "cannot listen on %s: %s%s", c->listen[k], strerror(-rc),
				 rc == -EADDRINUSE
					 ? " (another program has this port; choose one with --set listen=ADDR:PORT)"
					 : "");
			return rc;
		}
		for (uint32_t i = 0; i < s->handshaker_count; i++)
			s->handshakers[i].listen_fds[k] = fds[i];
	}
	return 0;
}

const char *server_address(const struct server *s, uint32_t i, char *buf, size_t size)
{
	if (i >= s->config->listen_count)
		return NULL;
	socket_local_text(s->handshakers[0].listen_fds[i], buf, size);
	return buf;
}

static uint32_t core_count(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > WORKERS_MAX ? WORKERS_MAX : (uint32_t)n;
}

static int make_rings(struct server *s, char ret_error[512])
{
	int rc = 0;

	for (uint32_t i = 0; i < s->worker_count && rc == 0; i++) {
		struct worker *w = &s->workers[i];

		w->server = s;
		list_init(&w->sessions);
		checks_init(&w->checks, w);
		rc = ring_new(&(struct ring_options){0}, &w->ring);
	}
	for (uint32_t i = 0; i < s->handshaker_count && rc == 0; i++) {
		struct handshaker *h = &s->handshakers[i];

		h->server = s;
		list_init(&h->sessions);
		rc = ring_new(&(struct ring_options){.recv_buffer_count = 16, .recv_buffer_bytes = 16 * 1024},
			      &h->ring);
	}
	if (rc < 0)
		snprintf(ret_error, 512, "%s", ring_explain(rc));
	return rc;
}

int server_start(struct server *s, char ret_error[512])
{
	const struct config *c = s->config;
	int rc;

	s->policy = policy_new(&c->policy);
	if (!s->policy) {
		snprintf(ret_error, 512, "out of memory");
		return -ENOMEM;
	}
	s->worker_count = c->workers ? c->workers : core_count();
	s->handshaker_count = c->handshake_threads ? c->handshake_threads : (core_count() + 3) / 4;
	if (s->worker_count > WORKERS_MAX)
		s->worker_count = WORKERS_MAX;
	if (s->handshaker_count > HANDSHAKERS_MAX)
		s->handshaker_count = HANDSHAKERS_MAX;
	s->workers = calloc(s->worker_count, sizeof(*s->workers));
	s->handshakers = calloc(s->handshaker_count, sizeof(*s->handshakers));
	snprintf(ret_error, 512, "out of memory");
	if (!s->workers || !s->handshakers) {
		s->worker_count = s->handshaker_count = 0; /* nothing for server_stop to look at */
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < s->handshaker_count; i++)
		for (uint32_t k = 0; k < CONFIG_LIST_MAX; k++)
			s->handshakers[i].listen_fds[k] = -1;
	rc = make_rings(s, ret_error);
	if (rc < 0)
		return rc;
	s->started_us = ring_now_us(s->workers[0].ring);
	rc = listen_all(s, ret_error);
	if (rc < 0)
		return rc;
	changes_init(&s->changes);
	probe_limit_init(&s->probes, c->login.probe_rate, c->login.probe_rate_address);
	s->directory->owner = s;
	s->directory->on_changed = on_changed;
	if (s->directory->ops->start) {
		char error[256];

		rc = s->directory->ops->start(s->directory, error);
		if (rc < 0) {
			snprintf(ret_error, 512, "%s", error);
			return rc;
		}
	}
	for (uint32_t i = 0; i < s->worker_count; i++) {
		struct worker *w = &s->workers[i];

		rc = -pthread_create(&w->thread, NULL, worker_main, w);
		if (rc < 0)
			goto no_thread;
		w->is_running = true;
	}
	for (uint32_t i = 0; i < s->handshaker_count; i++) {
		struct handshaker *h = &s->handshakers[i];

		for (uint32_t k = 0; k < c->listen_count; k++) {
			h->listeners[k].on_accept = on_accept;
			h->listeners[k].owner = h;
			listener_start(&h->listeners[k], h->ring, h->listen_fds[k]);
		}
		rc = -pthread_create(&h->thread, NULL, handshaker_main, h);
		if (rc < 0)
			goto no_thread;
		h->is_running = true;
	}
	return 0;
no_thread:
	snprintf(ret_error, 512, "cannot make a thread: %s", strerror(-rc));
	return rc;
}

void server_stop(struct server *s)
{
	atomic_store(&s->is_stopping, true);
	while (atomic_load(&s->telling_count) > 0)
		sched_yield();
	for (uint32_t i = 0; i < s->handshaker_count; i++) {
		struct handshaker *h = &s->handshakers[i];

		if (!h->is_running)
			continue;
		h->stop.on_mail = handshaker_on_stop;
		ring_post(h->ring, NULL, &h->stop);
		pthread_join(h->thread, NULL);
	}
	for (uint32_t i = 0; i < s->worker_count; i++) {
		struct worker *w = &s->workers[i];

		if (!w->is_running)
			continue;
		w->stop.on_mail = worker_on_stop;
		ring_post(w->ring, NULL, &w->stop);
	}
	for (uint32_t i = 0; i < s->worker_count; i++)
		if (s->workers[i].is_running)
			pthread_join(s->workers[i].thread, NULL);
	if (s->directory->ops->stop)
		s->directory->ops->stop(s->directory); /* it posts to our rings */
	for (uint32_t i = 0; i < s->handshaker_count; i++) {
		for (uint32_t k = 0; k < CONFIG_LIST_MAX; k++)
			if (s->handshakers[i].listen_fds[k] >= 0)
				close(s->handshakers[i].listen_fds[k]);
		ring_free(s->handshakers[i].ring);
	}
	for (uint32_t i = 0; i < s->worker_count; i++)
		ring_free(s->workers[i].ring);
	policy_put(s->policy);
	s->policy = NULL;
	free(s->workers);
	free(s->handshakers);
	s->workers = NULL;
	s->handshakers = NULL;
	s->worker_count = s->handshaker_count = 0;
}
