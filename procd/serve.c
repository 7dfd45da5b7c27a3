/*
 * procd/serve.c - see serve.h.
 *
 * Owner:  this process owns the listener and the table of its sessions, which it shares with them.
 * Thread: one; a fork from here copies nothing that somebody is in the middle of.
 *
 * As a container's first process it also gets all orphans of the sandbox, and reaps them.
 */
#include "procd/serve.h"

#include "procd/listen.h"
#include "procd/loop.h"
#include "procd/options.h"
#include "procd/session.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* After accept failed for want of descriptors or memory: trying on at once would only spin. */
#define ACCEPT_PAUSE_MS 100

struct serve {
	struct options *options;
	int listen_fd, signal_fd;
	struct stream_slot *slots; /* shared with the sessions */
	uint32_t slot_count, used_count;
	bool is_stopping;
	uint64_t stop_ms, accept_ms;
};

/* Before a stream is a session's: one frame, if it fits. */
static void refuse(int fd, const char *code, const char *message)
{
	struct frame f = {.type = FRAME_ERROR, .error = {bytes_str(code), bytes_str(message)}};
	uint8_t wire[FRAME_SMALL_MAX];
	ssize_t n = frame_encode(&f, wire, sizeof(wire));

	if (n > 0)
		(void)!send(fd, wire, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
	log_event(LOG_WARN, "stream_refused", LOG_STR("session", "-"), LOG_STR("reason", message));
}

static void stream_options(int fd)
{
	int on = 1, lowat = NOTSENT_BYTES;

	/* They fail on Unix sockets, which need none of them. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof(lowat));
}

__attribute__((noreturn)) static void run_session(struct serve *v, int fd, uint32_t slot)
{
	/* As a session of its own it is also scheduled on its own (autogroup, sched(7)): one that types does not share with 20 that copy. */
	(void)setsid();
	close(v->listen_fd);
	close(v->signal_fd);
	stream_options(fd);
	session_run(fd, v->options, v->slots, slot);
}

/*
 * The oldest stream that has not proved itself: whoever can reach the port may not keep gateways out by being silent.
 * NULL when there is none.
 */
static struct stream_slot *oldest_unproven(struct serve *v)
{
	struct stream_slot *oldest = NULL;

	for (uint32_t i = 0; i < v->slot_count; i++) {
		struct stream_slot *s = &v->slots[i];

		if (s->pid > 0 && !s->is_ready && (!oldest || s->started_ms < oldest->started_ms))
			oldest = s;
	}
	return oldest;
}

/* The free slot for a stream, or -1. */
static int slot_take(struct serve *v)
{
	struct stream_slot *victim;

	if (v->used_count == v->slot_count) {
		victim = oldest_unproven(v);
		if (!victim)
			return -1;
		/* It has nothing yet that would have to be ended in order. */
		(void)kill(victim->pid, SIGKILL);
		(void)waitpid(victim->pid, NULL, 0);
		*victim = (struct stream_slot){.pid = 0};
		v->used_count--;
	}
	for (uint32_t i = 0; i < v->slot_count; i++)
		if (v->slots[i].pid == 0)
			return (int)i;
	return -1;
}

static void accept_one(struct serve *v, int fd)
{
	int slot = slot_take(v);
	pid_t pid;

	if (slot < 0) {
		refuse(fd, "too-many-channels", "too many streams are open");
		return;
	}
	v->slots[slot] = (struct stream_slot){.started_ms = now_ms()};
	pid = fork();
	if (pid == 0)
		run_session(v, fd, (uint32_t)slot);
	if (pid < 0) {
		refuse(fd, "no-memory", "no process for the stream");
		return;
	}
	v->slots[slot].pid = pid;
	v->used_count++;
	close(fd);
}

static void accept_all(struct serve *v)
{
	for (;;) {
		int fd = accept4(v->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			accept_one(v, fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			log_event(LOG_ERROR, "accept", LOG_STR("error", strerror(errno)));
			v->accept_ms = now_ms() + ACCEPT_PAUSE_MS;
		}
		/* The others are of one connection (gone before it was accepted), or say that there are no more. */
		if (errno != ECONNABORTED && errno != EINTR)
			return;
	}
}

static void reap(struct serve *v)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (uint32_t i = 0; i < v->slot_count; i++) {
			if (v->slots[i].pid != pid)
				continue;
			v->slots[i] = (struct stream_slot){.pid = 0};
			v->used_count--;
			if (WIFSIGNALED(status))
				log_event(LOG_WARN, "session_killed", LOG_I64("pid", pid),
					  LOG_I64("signal", WTERMSIG(status)));
			break;
		}
	}
}

static void signal_all(const struct serve *v, int number)
{
	for (uint32_t i = 0; i < v->slot_count; i++)
		if (v->slots[i].pid > 0)
			(void)kill(v->slots[i].pid, number);
}

static void stop(struct serve *v)
{
	if (v->is_stopping)
		return;
	v->is_stopping = true;
	v->stop_ms = now_ms() + STOP_MS;
	close(v->listen_fd);
	v->listen_fd = -1;
	log_event(LOG_INFO, "stop", LOG_U64("streams", v->used_count));
	signal_all(v, SIGTERM);
}

static void on_signals(struct serve *v)
{
	struct signalfd_siginfo info;

	while (read(v->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			reap(v);
		else if (info.ssi_signo != SIGHUP)
			stop(v);
	}
}

static int timeout_ms(const struct serve *v)
{
	uint64_t now = now_ms(), until = v->is_stopping ? v->stop_ms : v->accept_ms;

	if (until == 0)
		return -1;
	return until > now ? (int)(until - now) : 0;
}

static void loop(struct serve *v)
{
	while (!v->is_stopping || (v->used_count > 0 && now_ms() < v->stop_ms)) {
		struct pollfd fds[2] = {{.fd = v->signal_fd, .events = POLLIN},
					{.fd = v->accept_ms ? -1 : v->listen_fd, .events = POLLIN}};
		int n = poll(fds, 2, timeout_ms(v));

		if (v->accept_ms && now_ms() >= v->accept_ms)
			v->accept_ms = 0;
		if (n <= 0)
			continue;
		if (fds[0].revents)
			on_signals(v);
		if (fds[1].revents && !v->is_stopping)
			accept_all(v);
	}
	/* Their streams end with them. */
	signal_all(v, SIGKILL);
}

static int signals_open(void)
{
	/* Whoever started us may ignore it: then no exit status would ever come. */
	(void)signal(SIGCHLD, SIG_DFL);
	return loop_signals();
}

static int complain(const char *what, const char *which, int error)
{
	fprintf(stderr, "procd: %s %s: %s\n", what, which, strerror(-error));
	return 1;
}

int serve_run(struct options *o)
{
	struct serve v = {.options = o, .listen_fd = -1};
	char address[200];
	int rc = listen_open(o->listen, &v.listen_fd);

	if (rc == -EINVAL)
		fprintf(stderr, "procd: --listen wants ADDR:PORT, [ADDR]:PORT or unix:/path, not %s\n", o->listen);
	if (rc < 0)
		return rc == -EINVAL ? 2 : complain("cannot listen on", o->listen, rc);
	v.signal_fd = signals_open();
	v.slot_count = o->streams_max + STREAMS_UNPROVEN;
	v.slots =
		mmap(NULL, v.slot_count * sizeof(*v.slots), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (v.signal_fd < 0 || v.slots == MAP_FAILED)
		return complain("cannot start", "", -ENOMEM);
	o->main_pid = getpid();
	listen_name(v.listen_fd, address, sizeof(address));
	rc = o->address_file ? listen_write_file(o->address_file, address) : 0;
	if (rc < 0)
		return complain("cannot write", o->address_file, rc);
	log_event(LOG_INFO, "start", LOG_STR("sandbox", o->sandbox), LOG_STR("listen", address),
		  LOG_STR("version", RINGGATE_VERSION));
	loop(&v);
	listen_remove(o->listen);
	proof_secret_wipe(&o->key);
	return 0;
}
