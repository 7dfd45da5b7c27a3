/*
 * control/driver_local.c - see driver_local.h.
 *
 * Ops write what is wanted into a sandbox's box and wake the thread; the thread moves each box towards it (local_box.h) whenever
 * something happened: an op, a keeper's message or end, a time. There is no queue that could fill up. The lock is held for a
 * look or a note, never over a report or over anything that may wait.
 */
#include "control/driver_local.h"

#include "control/driver_limits.h"
#include "control/local_box.h"
#include "control/process_tree.h"
#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct driver_local {
	struct driver base;
	struct driver_local_options o;
	char *gateway_keys[LOCAL_GATEWAY_KEYS_MAX + 1], *procd_args[LOCAL_PROCD_ARGS_MAX + 1];
	struct box_world world;
	pthread_t thread;
	int wake_fd;
	struct list boxes; /* the world's lock, as the next; only the thread takes boxes out */
	uint32_t box_count;
	bool is_stopping;
	/* The thread's own: the boxes of this turn, and what is polled for them. */
	struct box *turn[LOCAL_SANDBOXES_MAX];
	uint32_t turn_count;
	struct pollfd fds[1 + LOCAL_SANDBOXES_MAX];
	struct box *polled[1 + LOCAL_SANDBOXES_MAX];
};

static void lock(struct driver_local *d)
{
	pthread_mutex_lock(&d->world.lock);
}

static void unlock(struct driver_local *d)
{
	pthread_mutex_unlock(&d->world.lock);
}

/* --- ops --- */

static void wake(struct driver_local *d)
{
	uint64_t one = 1;

	(void)!write(d->wake_fd, &one, sizeof(one));
}

static struct box *find(struct driver_local *d, const char *id)
{
	for (struct list *n = d->boxes.next; n != &d->boxes; n = n->next) {
		struct box *b = CONTAINER_OF(n, struct box, node);

		if (strcmp(b->id, id) == 0)
			return b;
	}
	return NULL;
}

static int add(struct driver_local *d, const char *id, enum want want)
{
	struct box *b = find(d, id);

	if (d->is_stopping)
		return -ESHUTDOWN;
	if (b)
		return b->want == WANT_GONE ? -EBUSY : -EEXIST;
	if (d->box_count == LOCAL_SANDBOXES_MAX)
		return -ENOSPC;
	b = box_new(&d->world, id, want, want == WANT_PAUSED);
	if (!b)
		return -ENOMEM;
	list_add_tail(&d->boxes, &b->node);
	d->box_count++;
	return 0;
}

static int op_add(struct driver *base, const char *id, enum want want)
{
	struct driver_local *d = (struct driver_local *)base;
	int rc;

	/* It becomes part of paths. */
	if (!sandbox_id_is_good(bytes_str(id)))
		return -EINVAL;
	lock(d);
	rc = add(d, id, want);
	unlock(d);
	if (rc == 0)
		wake(d);
	return rc;
}

static int op_want(struct driver *base, const char *id, enum want want, uint64_t resume_ms)
{
	struct driver_local *d = (struct driver_local *)base;
	struct box *b;
	int rc = 0;

	lock(d);
	b = find(d, id);
	if (d->is_stopping)
		rc = -ESHUTDOWN;
	else if (!b || b->want == WANT_GONE)
		rc = -ENOENT;
	if (rc == 0) {
		b->want = want;
		b->is_asked = true;
		b->is_to_run |= want == WANT_RUNNING;
		b->resume_ms = resume_ms;
	}
	unlock(d);
	if (rc == 0)
		wake(d);
	return rc;
}

static int op_restore(struct driver *d, const char *id, enum sandbox_state was)
{
	return op_add(d, id,
		      was == SANDBOX_PAUSED    ? WANT_PAUSED
		      : was == SANDBOX_STOPPED ? WANT_STOPPED
					       : WANT_RUNNING);
}

static int op_create(struct driver *d, const char *id)
{
	return op_add(d, id, WANT_RUNNING);
}

static int op_pause(struct driver *d, const char *id)
{
	return op_want(d, id, WANT_PAUSED, 0);
}

static int op_resume(struct driver *d, const char *id)
{
	return op_want(d, id, WANT_RUNNING, process_now_ms() + ((struct driver_local *)d)->o.resume_delay_ms);
}

static int op_remove(struct driver *d, const char *id)
{
	return op_want(d, id, WANT_GONE, 0);
}

/* --- the thread --- */

/* The list may grow meanwhile; what is in the turn stays until we take it out. False when it is to end. */
static bool turn_begin(struct driver_local *d)
{
	bool is_stopping;

	d->turn_count = 0;
	lock(d);
	for (struct list *n = d->boxes.next; n != &d->boxes; n = n->next)
		d->turn[d->turn_count++] = CONTAINER_OF(n, struct box, node);
	is_stopping = d->is_stopping;
	unlock(d);
	return !is_stopping;
}

static struct box *box_of(struct driver_local *d, pid_t keeper)
{
	for (uint32_t i = 0; i < d->turn_count; i++)
		if (d->turn[i]->keeper.pid == keeper)
			return d->turn[i];
	return NULL;
}

/* Kills what is below us but no keeper of ours. Returns how many there were. */
static int kill_orphans(struct driver_local *d)
{
	struct process_list l = {0};
	int count = 0;

	if (process_tree_read(getpid(), &l) < 0)
		return 0;
	for (uint32_t i = 0; i < l.count; i++) {
		if (l.of[i].parent != getpid() || box_of(d, l.of[i].pid))
			continue;
		(void)!process_tree_signal(l.of[i].pid, SIGKILL);
		(void)kill(l.of[i].pid, SIGKILL);
		count++;
	}
	process_list_free(&l);
	return count;
}

static void rest(void)
{
	const struct timespec t = {.tv_nsec = TREE_WALK_PAUSE_MS * 1000000L};

	nanosleep(&t, NULL);
}

/* Of a keeper that was killed; we are a subreaper, so they have come to us. */
static void end_orphans(struct driver_local *d)
{
	uint64_t deadline = process_now_ms() + KEEPER_KILL_MS;

	while (kill_orphans(d) > 0 && process_now_ms() < deadline)
		rest();
}

static void reap(struct driver_local *d)
{
	bool is_killed = false;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct box *b = box_of(d, pid);

		if (!b)
			continue;
		b->is_keeper_reaped = true;
		if (WIFSIGNALED(status)) {
			log_event(LOG_ERROR, "keeper_killed", LOG_STR("sandbox", b->id), LOG_I64("pid", pid),
				  LOG_I64("signal", WTERMSIG(status)));
			is_killed = true;
		}
	}
	if (is_killed)
		end_orphans(d);
}

static void take_out(struct driver_local *d, struct box *b)
{
	lock(d);
	list_del(&b->node);
	d->box_count--;
	unlock(d);
	box_free(b);
}

/* Returns when the next step is due. Boxes that are gone leave the turn. */
static uint64_t step_all(struct driver_local *d)
{
	uint64_t now_ms = process_now_ms(), next = UINT64_MAX, due;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < d->turn_count; i++) {
		struct box *b = d->turn[i];

		if (!box_step(b, now_ms)) {
			take_out(d, b);
			continue;
		}
		due = box_next_ms(b, now_ms);
		next = due < next ? due : next;
		d->turn[kept++] = b;
	}
	d->turn_count = kept;
	return next;
}

static void drain(int fd)
{
	uint64_t count;

	(void)!read(fd, &count, sizeof(count));
}

/* Waits for an op, a message or the time, and reads messages. */
static void wait_and_read(struct driver_local *d, uint64_t until_ms)
{
	uint64_t now_ms = process_now_ms();
	nfds_t count = 1;
	int timeout = until_ms == UINT64_MAX      ? -1
		      : until_ms <= now_ms        ? 0
		      : until_ms - now_ms > 60000 ? 60000
						  : (int)(until_ms - now_ms);

	d->fds[0] = (struct pollfd){.fd = d->wake_fd, .events = POLLIN};
	for (uint32_t i = 0; i < d->turn_count; i++) {
		struct box *b = d->turn[i];

		if (b->keeper.pid == 0 || b->is_link_ended)
			continue;
		d->polled[count] = b;
		d->fds[count++] = (struct pollfd){.fd = b->keeper.fd, .events = POLLIN};
	}
	if (poll(d->fds, count, timeout) <= 0)
		return;
	if (d->fds[0].revents)
		drain(d->wake_fd);
	for (nfds_t i = 1; i < count; i++)
		if (d->fds[i].revents)
			box_read(d->polled[i]);
}

static bool has_keepers(const struct driver_local *d)
{
	for (uint32_t i = 0; i < d->turn_count; i++)
		if (d->turn[i]->keeper.pid > 0 && !d->turn[i]->is_keeper_reaped)
			return true;
	return false;
}

/* Nothing is reported any more: the next control plane finds in its database what ran. */
static void stop(struct driver_local *d)
{
	uint64_t deadline = process_now_ms() + LOCAL_STOP_MS;

	for (uint32_t i = 0; i < d->turn_count; i++)
		if (d->turn[i]->keeper.pid > 0 && d->turn[i]->state != BOX_ENDING)
			keeper_order(&d->turn[i]->keeper, KEEPER_END);
	for (reap(d); has_keepers(d) && process_now_ms() < deadline; reap(d))
		rest();
	/* What is late counts as an orphan from now on. */
	for (uint32_t i = 0; i < d->turn_count; i++)
		if (d->turn[i]->keeper.pid > 0)
			keeper_close(&d->turn[i]->keeper);
	end_orphans(d);
	reap(d);
}

/* What a removal that was cut short left there. The program that removes it counts as an orphan, should we end first. */
static void clean_trash(const struct driver_local *d)
{
	char trash[PATH_MAX], old[PATH_MAX];
	char *argv[] = {"rm", "-rf", "--", old, NULL};
	pid_t pid;

	if (snprintf(trash, sizeof(trash), "%s/.trash", d->o.folder) >= PATH_MAX ||
	    snprintf(old, sizeof(old), "%s.old", trash) >= PATH_MAX)
		return;
	(void)rename(trash, old);
	if (access(old, F_OK) == 0)
		(void)posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
}

static void *thread_run(void *arg)
{
	struct driver_local *d = arg;

	clean_trash(d);
	while (turn_begin(d)) {
		reap(d);
		wait_and_read(d, step_all(d));
	}
	stop(d);
	return NULL;
}

/* --- life --- */

static void memory_free(struct driver_local *d)
{
	while (!list_is_empty(&d->boxes)) {
		struct box *b = CONTAINER_OF(d->boxes.next, struct box, node);

		list_del(&b->node);
		box_free(b);
	}
	for (size_t i = 0; i < LOCAL_GATEWAY_KEYS_MAX; i++)
		free(d->gateway_keys[i]);
	for (size_t i = 0; i < LOCAL_PROCD_ARGS_MAX; i++)
		free(d->procd_args[i]);
	free((char *)d->o.folder);
	free((char *)d->o.procd);
	free((char *)d->o.user);
	free((char *)d->o.shell);
	if (d->wake_fd >= 0)
		close(d->wake_fd);
	pthread_mutex_destroy(&d->world.lock);
	free(d);
}

static void op_free(struct driver *base)
{
	struct driver_local *d = (struct driver_local *)base;

	lock(d);
	d->is_stopping = true;
	unlock(d);
	wake(d);
	pthread_join(d->thread, NULL);
	memory_free(d);
}

static const struct driver_ops ops = {
	.restore = op_restore,
	.create = op_create,
	.pause = op_pause,
	.resume = op_resume,
	.remove = op_remove,
	.free = op_free,
};

/* procd wants a file for each. From here on they are what stands in the options. */
static int write_keys(struct driver_local *d)
{
	for (size_t i = 0; d->gateway_keys[i]; i++) {
		char path[PATH_MAX];
		FILE *f;
		int rc;

		if (snprintf(path, sizeof(path), "%s/.gateway-%zu.pub", d->o.folder, i) >= PATH_MAX)
			return -ENAMETOOLONG;
		f = fopen(path, "we");
		rc = !f || fprintf(f, "%s\n", d->gateway_keys[i]) < 0 ? -errno : 0;
		if (f && fclose(f) != 0 && rc == 0)
			rc = -errno;
		free(d->gateway_keys[i]);
		d->gateway_keys[i] = strdup(path);
		if (rc < 0 || !d->gateway_keys[i])
			return rc < 0 ? rc : -ENOMEM;
	}
	return 0;
}

/* NULL stays NULL. */
static bool copy(const char *from, const char **ret_to)
{
	*ret_to = from ? strdup(from) : NULL;
	return !from || *ret_to;
}

static int copy_list(const char *const *from, char **to, size_t max)
{
	for (size_t i = 0; from && from[i]; i++) {
		if (i == max)
			return -E2BIG;
		to[i] = strdup(from[i]);
		if (!to[i])
			return -ENOMEM;
	}
	return 0;
}

static int copy_options(struct driver_local *d, const struct driver_local_options *o)
{
	int rc = copy_list(o->gateway_keys, d->gateway_keys, LOCAL_GATEWAY_KEYS_MAX);

	if (rc == 0)
		rc = copy_list(o->procd_args, d->procd_args, LOCAL_PROCD_ARGS_MAX);
	d->o = *o;
	d->o.gateway_keys = (const char *const *)d->gateway_keys;
	d->o.procd_args = (const char *const *)d->procd_args;
	d->o.folder = d->o.procd = d->o.user = d->o.shell = NULL;
	if (!copy(o->folder, &d->o.folder) || !copy(o->procd, &d->o.procd) || !copy(o->user, &d->o.user) ||
	    !copy(o->shell, &d->o.shell))
		rc = -ENOMEM;
	return rc;
}

static int check(const struct driver_local_options *o, char ret_error[256])
{
	if (o->folder[0] != '/') {
		snprintf(ret_error, 256, "the sandboxes' folder must start with a slash, not %s", o->folder);
		return -EINVAL;
	}
	if (!o->gateway_keys[0]) {
		snprintf(ret_error, 256, "the local driver needs a gateway's public key (gateway_keys)");
		return -EINVAL;
	}
	if (access(o->procd, X_OK) < 0) {
		snprintf(ret_error, 256, "cannot run %s: %s", o->procd, strerror(errno));
		return -EINVAL;
	}
	if (mkdir(o->folder, 0755) < 0 && errno != EEXIST) {
		snprintf(ret_error, 256, "cannot make %s: %s", o->folder, strerror(errno));
		return -EINVAL;
	}
	return 0;
}

int driver_local_new(const struct driver_local_options *o, driver_report_fn *report, void *ctx,
		     struct driver **ret_driver, char ret_error[256])
{
	struct driver_local *d;
	int rc = check(o, ret_error);

	if (rc < 0)
		return rc;
	d = calloc(1, sizeof(*d));
	if (!d) {
		snprintf(ret_error, 256, "no memory");
		return -ENOMEM;
	}
	d->base.ops = &ops;
	list_init(&d->boxes);
	pthread_mutex_init(&d->world.lock, NULL);
	d->world.o = &d->o;
	d->world.report = report;
	d->world.report_ctx = ctx;
	d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = d->wake_fd < 0 ? -errno : copy_options(d, o);
	if (rc == 0)
		rc = write_keys(d);
	if (rc == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		rc = -errno;
	if (rc == 0)
		rc = -pthread_create(&d->thread, NULL, thread_run, d);
	if (rc < 0) {
		snprintf(ret_error, 256, "the local driver does not start: %s", strerror(-rc));
		memory_free(d);
		return rc;
	}
	*ret_driver = &d->base;
	return 0;
}
