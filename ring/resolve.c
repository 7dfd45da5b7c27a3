/*
 * ring/resolve.c - see resolve.h. Threads come when there are jobs and go when there are none.
 *
 * A job is made for a query and lives until its mail is delivered, whatever becomes of the query: cancelling only cuts the job's
 * pointer to it, which the thread never follows. All jobs of a ring stand in a list, so that ring_free can take them away.
 */
#include "ring/resolve.h"

#include "core/thread.h"
#include "ring/internal.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>
#include <time.h>

/* What the thread finds out, and the cache keeps. Ports are 0. */
struct answer {
	int err;
	uint32_t count;
	struct resolve_address addresses[RESOLVE_ADDRESSES_MAX];
};

struct resolve_job {
	struct mail mail;
	struct list waiting; /* in resolver.waiting until a thread takes it */
	struct list node;    /* in resolver.jobs until it is freed */
	struct ring *ring;   /* NULL: the ring is gone, the thread frees the job */
	struct resolve *q;   /* the ring's thread's; NULL: cancelled */
	uint16_t port;
	char host[RESOLVE_HOST_MAX + 1];
	struct answer answer;
	enum { JOB_WAITING, JOB_RUNNING, JOB_POSTED } state;
};

struct cached {
	char host[RESOLVE_HOST_MAX + 1];
	uint64_t until_ms; /* 0: an empty place */
	struct answer answer;
};

static struct {
	pthread_mutex_t lock; /* held for copies and lists only, never while a name server is asked */
	struct list waiting, jobs;
	uint32_t waiting_count, thread_count;
	bool is_ready;
	struct cached cache[RESOLVE_CACHE_COUNT];
} resolver = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* --- the cache; with the lock held --- */

static bool cache_find(const char *host, struct answer *ret)
{
	uint64_t now = now_ms();

	for (size_t i = 0; i < RESOLVE_CACHE_COUNT; i++) {
		const struct cached *c = &resolver.cache[i];

		if (c->until_ms <= now || strcasecmp(c->host, host) != 0)
			continue;
		*ret = c->answer;
		return true;
	}
	return false;
}

/* Takes the place of the same name, else of whatever expires first. */
static void cache_put(const char *host, const struct answer *a)
{
	struct cached *to = &resolver.cache[0];

	for (size_t i = 0; i < RESOLVE_CACHE_COUNT; i++) {
		struct cached *c = &resolver.cache[i];

		if (strcasecmp(c->host, host) == 0) {
			to = c;
			break;
		}
		if (c->until_ms < to->until_ms)
			to = c;
	}
	memcpy(to->host, host, sizeof(to->host));
	to->answer = *a;
	to->until_ms = now_ms() + (a->err ? RESOLVE_CACHE_FAILED_MS : RESOLVE_CACHE_MS);
}

/* --- asking --- */

static void add_address(struct answer *a, const void *sa, socklen_t bytes)
{
	const struct sockaddr *any = sa;
	struct resolve_address *to = &a->addresses[a->count];

	if (a->count == RESOLVE_ADDRESSES_MAX || (any->sa_family != AF_INET && any->sa_family != AF_INET6) ||
	    bytes > sizeof(to->storage))
		return;
	memset(to, 0, sizeof(*to));
	memcpy(&to->storage, sa, bytes);
	to->bytes = bytes;
	a->count++;
}

static int error_of(int eai)
{
	switch (eai) {
	case 0:
	case EAI_NONAME:
#ifdef EAI_NODATA
	case EAI_NODATA:
#endif
		return -ENOENT;
	case EAI_AGAIN:
		return -EAGAIN;
	case EAI_MEMORY:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

static void ask(const char *host, int flags, struct answer *ret)
{
	/* Without AI_ADDRCONFIG: on a machine with a loopback interface alone it hides what /etc/hosts says. */
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags}, *found = NULL;
	int eai = getaddrinfo(host, NULL, &hints, &found);

	*ret = (struct answer){0};
	if (eai == 0) {
		for (const struct addrinfo *a = found; a; a = a->ai_next)
			add_address(ret, a->ai_addr, a->ai_addrlen);
		freeaddrinfo(found);
	}
	if (ret->count == 0)
		ret->err = error_of(eai);
}

/* What needs nobody's help. */
static bool ask_nobody(const char *host, struct answer *ret)
{
	const struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};

	/* RFC 6761. Containers often have no file that says so. */
	if (strcasecmp(host, "localhost") == 0) {
		*ret = (struct answer){0};
		add_address(ret, &v4, sizeof(v4));
		add_address(ret, &v6, sizeof(v6));
		return true;
	}
	ask(host, AI_NUMERICHOST, ret);
	return ret->err == 0;
}

/* --- threads --- */

/* With the lock held. */
static void job_free(struct resolve_job *job)
{
	list_del(&job->node);
	free(job);
}

static void on_mail(struct ring *r, struct mail *m);

/* With the lock held, which it gives up while it asks. Another thread may meanwhile have asked for the same name. */
static void job_run(struct resolve_job *job)
{
	job->state = JOB_RUNNING;
	if (!cache_find(job->host, &job->answer)) {
		pthread_mutex_unlock(&resolver.lock);
		ask(job->host, 0, &job->answer);
		pthread_mutex_lock(&resolver.lock);
		cache_put(job->host, &job->answer);
	}
	if (!job->ring) {
		job_free(job);
		return;
	}
	job->state = JOB_POSTED;
	/* Under the lock, since ring_free takes it before the ring goes. It only counts up an eventfd. */
	ring_post(job->ring, NULL, &job->mail);
}

static void *resolver_run(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&resolver.lock);
	while (!list_is_empty(&resolver.waiting)) {
		struct resolve_job *job = CONTAINER_OF(resolver.waiting.next, struct resolve_job, waiting);

		list_del(&job->waiting);
		resolver.waiting_count--;
		job_run(job);
	}
	resolver.thread_count--;
	pthread_mutex_unlock(&resolver.lock);
	return NULL;
}

/* With the lock held. */
static int resolver_start(void)
{
	pthread_t thread;
	int rc = thread_start(&thread, RESOLVE_STACK_BYTES, resolver_run, NULL);

	if (rc < 0)
		return rc;
	pthread_detach(thread);
	resolver.thread_count++;
	return 0;
}

/* --- queries --- */

static void finish(struct resolve *q)
{
	timer_stop(q->ring, &q->deadline);
	q->on_done(q);
}

static void on_deferred(struct deferred *d)
{
	finish(CONTAINER_OF(d, struct resolve, done));
}

static void set_port(struct resolve_address *a, uint16_t port)
{
	if (a->any.sa_family == AF_INET)
		((struct sockaddr_in *)&a->storage)->sin_port = htons(port);
	else
		((struct sockaddr_in6 *)&a->storage)->sin6_port = htons(port);
}

static void take_answer(struct resolve *q, const struct answer *a, uint16_t port)
{
	q->err = a->err;
	q->count = a->count;
	memcpy(q->addresses, a->addresses, a->count * sizeof(a->addresses[0]));
	for (uint32_t i = 0; i < q->count; i++)
		set_port(&q->addresses[i], port);
}

static void on_mail(struct ring *r, struct mail *m)
{
	struct resolve_job *job = CONTAINER_OF(m, struct resolve_job, mail);
	struct resolve *q = job->q;

	if (q) {
		q->job = NULL;
		take_answer(q, &job->answer, job->port);
	}
	pthread_mutex_lock(&resolver.lock);
	job_free(job);
	pthread_mutex_unlock(&resolver.lock);
	if (q)
		finish(q);
}

/* With the lock held. */
static int job_queue(struct resolve *q, const char *host, uint16_t port)
{
	struct resolve_job *job;

	if (resolver.waiting_count >= RESOLVE_QUEUE_MAX)
		return -EBUSY;
	job = calloc(1, sizeof(*job));
	if (!job)
		return -ENOMEM;
	job->mail.on_mail = on_mail;
	job->ring = q->ring;
	job->q = q;
	job->port = port;
	memcpy(job->host, host, strlen(host));
	list_add_tail(&resolver.waiting, &job->waiting);
	list_add_tail(&resolver.jobs, &job->node);
	resolver.waiting_count++;
	if (resolver.thread_count < RESOLVE_THREADS_MAX && resolver_start() < 0 && resolver.thread_count == 0) {
		list_del(&job->waiting);
		resolver.waiting_count--;
		job_free(job);
		return -ENOMEM;
	}
	q->job = job;
	return 0;
}

/* 0: a job was made for it; 1: the answer is there. */
static int query_begin(struct resolve *q, const char *host, uint16_t port)
{
	struct answer a;
	bool is_known;
	int rc = 1;

	if (!host[0] || strlen(host) > RESOLVE_HOST_MAX)
		return -EINVAL;
	is_known = ask_nobody(host, &a);
	if (!is_known) {
		pthread_mutex_lock(&resolver.lock);
		if (!resolver.is_ready) {
			list_init(&resolver.waiting);
			list_init(&resolver.jobs);
			resolver.is_ready = true;
		}
		is_known = cache_find(host, &a);
		if (!is_known)
			rc = job_queue(q, host, port);
		pthread_mutex_unlock(&resolver.lock);
	}
	if (is_known)
		take_answer(q, &a, port);
	return rc;
}

/* One that no thread has taken yet need not be asked for any more. */
static void job_cancel(struct resolve_job *job)
{
	job->q = NULL;
	pthread_mutex_lock(&resolver.lock);
	if (job->state == JOB_WAITING) {
		list_del(&job->waiting);
		resolver.waiting_count--;
		job_free(job);
	}
	pthread_mutex_unlock(&resolver.lock);
}

static void on_deadline(struct timer *t)
{
	struct resolve *q = CONTAINER_OF(t, struct resolve, deadline);

	resolve_cancel(q);
	q->err = -ETIMEDOUT;
	q->on_done(q);
}

void resolve_init(struct resolve *q)
{
	q->ring = NULL;
	q->job = NULL;
	q->err = 0;
	q->count = 0;
	deferred_init(&q->done, on_deferred);
	timer_init(&q->deadline, on_deadline);
}

void resolve_start(struct resolve *q, struct ring *r, const char *host, uint16_t port,
		   void (*on_done)(struct resolve *q))
{
	int rc;

	ring_check_thread(r);
	ASSERT(!resolve_is_started(q));
	q->ring = r;
	q->on_done = on_done;
	q->err = 0;
	q->count = 0;
	rc = query_begin(q, host, port);
	if (rc == 0) {
		timer_start(r, &q->deadline, RESOLVE_TIMEOUT_MS);
		return;
	}
	if (rc < 0)
		q->err = rc;
	deferred_ask(r, &q->done);
}

bool resolve_is_started(const struct resolve *q)
{
	return q->job || !list_is_empty(&q->done.node);
}

void resolve_cancel(struct resolve *q)
{
	if (!q->ring)
		return;
	if (q->job)
		job_cancel(q->job);
	q->job = NULL;
	deferred_cancel(&q->done);
	timer_stop(q->ring, &q->deadline);
}

void resolve_forget(struct ring *r)
{
	pthread_mutex_lock(&resolver.lock);
	for (struct list *n = resolver.jobs.next, *next; resolver.is_ready && n != &resolver.jobs; n = next) {
		struct resolve_job *job = CONTAINER_OF(n, struct resolve_job, node);

		next = n->next;
		if (job->ring != r)
			continue;
		job->ring = NULL;
		if (job->state == JOB_RUNNING)
			continue; /* its thread frees it */
		if (job->state == JOB_WAITING) {
			list_del(&job->waiting);
			resolver.waiting_count--;
		}
		job_free(job);
	}
	pthread_mutex_unlock(&resolver.lock);
}

const char *resolve_explain(int err)
{
	switch (err) {
	case -ENOENT:
		return "no such host";
	case -EAGAIN:
	case -ETIMEDOUT:
		return "no name server answers";
	case -EBUSY:
		return "too many names are being looked up";
	case -EINVAL:
		return "not a host name";
	default:
		return strerror(-err);
	}
}
