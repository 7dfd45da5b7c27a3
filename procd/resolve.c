/*
 * procd/resolve.c - see resolve.h. Threads come when there are jobs and go when there are none.
 */
#include "procd/resolve.h"

#include "core/thread.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static struct {
	pthread_mutex_t lock;
	struct list waiting, done;
	int thread_count;
	int notify_fd;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

void resolve_init(int notify_fd)
{
	list_init(&pool.waiting);
	list_init(&pool.done);
	pool.notify_fd = notify_fd;
}

static void add_address(struct sockaddr_storage *list, uint32_t *count, const struct sockaddr *sa, socklen_t bytes)
{
	if (*count == ADDRESSES_MAX || (sa->sa_family != AF_INET && sa->sa_family != AF_INET6))
		return;
	memset(&list[*count], 0, sizeof(list[0]));
	memcpy(&list[*count], sa, bytes);
	(*count)++;
}

/* RFC 6761 section 6.4: nobody has a name below `invalid`, so nobody is asked. */
static bool is_nobodys(const char *host)
{
	static const char suffix[] = ".invalid";
	size_t n = strlen(host);

	if (n > 0 && host[n - 1] == '.')
		n--;
	return n >= sizeof(suffix) - 1 && strncasecmp(host + n - (sizeof(suffix) - 1), suffix, sizeof(suffix) - 1) == 0;
}

static int look_up(const char *host, uint16_t port, int flags, struct sockaddr_storage *list, uint32_t *ret_count)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV}, *found;
	char service[8];
	int error;

	*ret_count = 0;
	if (is_nobodys(host))
		return EAI_NONAME;
	snprintf(service, sizeof(service), "%u", port);
	error = getaddrinfo(host, service, &hints, &found);
	if (error)
		return error;
	for (struct addrinfo *a = found; a; a = a->ai_next)
		add_address(list, ret_count, a->ai_addr, a->ai_addrlen);
	freeaddrinfo(found);
	return *ret_count > 0 ? 0 : EAI_NONAME;
}

uint32_t resolve_literal(const char *host, uint16_t port, struct sockaddr_storage ret[ADDRESSES_MAX])
{
	const struct sockaddr_in v4 = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const struct sockaddr_in6 v6 = {
		.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	uint32_t count = 0;

	/* RFC 6761: no need to ask anybody. Containers often have no file that says so. */
	if (strcasecmp(host, "localhost") == 0) {
		add_address(ret, &count, (const struct sockaddr *)&v4, sizeof(v4));
		add_address(ret, &count, (const struct sockaddr *)&v6, sizeof(v6));
		return count;
	}
	(void)look_up(host, port, AI_NUMERICHOST, ret, &count);
	return count;
}

static void *resolver(void *unused)
{
	const uint64_t one = 1;

	pthread_mutex_lock(&pool.lock);
	while (!list_is_empty(&pool.waiting)) {
		struct resolve_job *job = CONTAINER_OF(pool.waiting.next, struct resolve_job, node);

		list_del(&job->node);
		job->is_waiting = false;
		pthread_mutex_unlock(&pool.lock);
		job->error = look_up(job->host, job->port, AI_ADDRCONFIG, job->addresses, &job->count);
		pthread_mutex_lock(&pool.lock);
		list_add_tail(&pool.done, &job->node);
		(void)!write(pool.notify_fd, &one, sizeof(one));
	}
	pool.thread_count--;
	pthread_mutex_unlock(&pool.lock);
	return NULL;
}

/* With the lock held. */
static int resolver_start(void)
{
	pthread_t thread;
	int rc = thread_start(&thread, RESOLVER_STACK_BYTES, resolver, NULL);

	if (rc < 0)
		return rc;
	pthread_detach(thread);
	pool.thread_count++;
	return 0;
}

struct resolve_job *resolve_start(const char *host, uint16_t port, void *owner)
{
	struct resolve_job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->owner = owner;
	job->port = port;
	job->is_waiting = true;
	snprintf(job->host, sizeof(job->host), "%s", host);
	pthread_mutex_lock(&pool.lock);
	list_add_tail(&pool.waiting, &job->node);
	if (pool.thread_count < RESOLVERS_MAX && resolver_start() < 0 && pool.thread_count == 0) {
		list_del(&job->node);
		free(job);
		job = NULL;
	}
	pthread_mutex_unlock(&pool.lock);
	return job;
}

void resolve_cancel(struct resolve_job *job)
{
	/* Only the loop looks at owner, so whoever works on the job now is not disturbed. */
	job->owner = NULL;
	pthread_mutex_lock(&pool.lock);
	if (job->is_waiting) {
		list_del(&job->node);
		free(job);
	}
	pthread_mutex_unlock(&pool.lock);
}

struct resolve_job *resolve_take(void)
{
	struct resolve_job *job = NULL;

	pthread_mutex_lock(&pool.lock);
	while (!list_is_empty(&pool.done)) {
		job = CONTAINER_OF(pool.done.next, struct resolve_job, node);
		list_del(&job->node);
		if (job->owner)
			break;
		free(job);
		job = NULL;
	}
	pthread_mutex_unlock(&pool.lock);
	return job;
}
