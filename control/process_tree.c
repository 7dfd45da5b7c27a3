/*
 * control/process_tree.c - see process_tree.h.
 */
#include "control/process_tree.h"

#include "control/driver_limits.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t process_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void process_list_free(struct process_list *l)
{
	free(l->of);
	*l = (struct process_list){0};
}

static int list_add(struct process_list *l, struct process p)
{
	if (l->count == l->room) {
		uint32_t room = l->room ? 2 * l->room : 64;
		struct process *of;

		if (room > TREE_PROCESSES_MAX)
			return -E2BIG;
		of = reallocarray(l->of, room, sizeof(*of));
		if (!of)
			return -ENOMEM;
		l->of = of;
		l->room = room;
	}
	l->of[l->count++] = p;
	return 0;
}

static bool list_has(const struct process_list *l, pid_t pid)
{
	for (uint32_t i = 0; i < l->count; i++)
		if (l->of[i].pid == pid)
			return true;
	return false;
}

/* Reads PATH, a stat file below /proc. False when its process or thread has ended meanwhile. */
static bool stat_read(int proc_fd, const char *path, struct process *ret, long *ret_threads)
{
	int fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC), parent;
	char text[512], *after_name;
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return false;
	text[n] = 0;
	/* The name stands in parentheses and may hold any character, these too. */
	after_name = strrchr(text, ')');
	if (!after_name ||
	    sscanf(after_name + 1, " %c %d %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %ld",
		   &ret->state, &parent, ret_threads) != 3)
		return false;
	ret->pid = (pid_t)atoi(text);
	ret->parent = (pid_t)parent;
	return true;
}

/* A process whose first thread has ended looks like a zombie, and its other threads go on: their state is its state. */
static void state_of_threads(int proc_fd, struct process *p)
{
	char path[64];
	struct dirent *entry;
	struct process thread;
	long threads;
	DIR *tasks;
	int fd;

	snprintf(path, sizeof(path), "%d/task", (int)p->pid);
	fd = openat(proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	tasks = fd < 0 ? NULL : fdopendir(fd);
	if (!tasks) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while (p->state == 'Z' && (entry = readdir(tasks)) != NULL) {
		snprintf(path, sizeof(path), "%.20s/stat", entry->d_name);
		if (isdigit((unsigned char)entry->d_name[0]) && stat_read(fd, path, &thread, &threads))
			p->state = thread.state;
	}
	closedir(tasks);
}

static bool process_read(int proc_fd, const char *pid, struct process *ret)
{
	char path[32];
	long threads;

	snprintf(path, sizeof(path), "%.20s/stat", pid);
	if (!stat_read(proc_fd, path, ret, &threads))
		return false;
	if (ret->state == 'Z' && threads > 1)
		state_of_threads(proc_fd, ret);
	return true;
}

/* Every process of the machine that we can see. */
static int read_all(struct process_list *ret_list)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int rc = 0;

	if (!proc)
		return -errno;
	while (rc == 0 && (entry = readdir(proc)) != NULL) {
		struct process p;

		if (isdigit((unsigned char)entry->d_name[0]) && process_read(dirfd(proc), entry->d_name, &p))
			rc = list_add(ret_list, p);
	}
	closedir(proc);
	return rc;
}

static int by_parent(const void *a, const void *b)
{
	pid_t x = ((const struct process *)a)->parent, y = ((const struct process *)b)->parent;

	return (x > y) - (x < y);
}

/* Adds the children of `parent` to the list; `all` is sorted by parent. */
static int add_children(const struct process_list *all, pid_t parent, struct process_list *to)
{
	uint32_t low = 0, high = all->count;
	int rc = 0;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (all->of[middle].parent < parent)
			low = middle + 1;
		else
			high = middle;
	}
	for (; rc == 0 && low < all->count && all->of[low].parent == parent; low++)
		if (all->of[low].state != 'Z' && all->of[low].state != 'X')
			rc = list_add(to, all->of[low]);
	return rc;
}

int process_tree_read(pid_t root, struct process_list *ret_list)
{
	struct process_list all = {0}, found = {0};
	int rc = read_all(&all);

	if (rc == 0 && all.count > 0)
		qsort(all.of, all.count, sizeof(*all.of), by_parent);
	if (rc == 0)
		rc = add_children(&all, root, &found);
	/* The list is its own queue: it ends with the last child of the last one. */
	for (uint32_t i = 0; rc == 0 && i < found.count; i++)
		rc = add_children(&all, found.of[i].pid, &found);
	process_list_free(&all);
	if (rc < 0)
		process_list_free(&found);
	else
		*ret_list = found;
	return rc;
}

static bool is_stopped(const struct process *p)
{
	return p->state == 'T' || p->state == 't';
}

static void rest(void)
{
	const struct timespec t = {.tv_nsec = TREE_WALK_PAUSE_MS * 1000000L};

	nanosleep(&t, NULL);
}

/* One walk: sends SIGSTOP to all that run. Returns how many could still act: those in the kernel (D) stop before they return from it. */
static int stop_walk(pid_t root, bool is_first, struct process_list *resting)
{
	struct process_list l;
	int rc = process_tree_read(root, &l), acting = 0;

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; rc == 0 && i < l.count; i++) {
		if (!is_stopped(&l.of[i])) {
			(void)kill(l.of[i].pid, SIGSTOP);
			acting += l.of[i].state != 'D' || is_first;
		} else if (is_first) {
			rc = list_add(resting, l.of[i]);
		}
	}
	process_list_free(&l);
	return rc < 0 ? rc : acting;
}

int process_tree_stop(pid_t root, uint64_t deadline_ms, struct process_list *ret_resting)
{
	bool is_first = true;
	int acting;

	*ret_resting = (struct process_list){0};
	for (;;) {
		acting = stop_walk(root, is_first, ret_resting);
		if (acting <= 0)
			return acting;
		if (process_now_ms() >= deadline_ms)
			return -ETIMEDOUT;
		is_first = false;
		rest();
	}
}

int process_tree_continue(pid_t root, const struct process_list *resting)
{
	struct process_list l;
	int rc = process_tree_read(root, &l);

	if (rc < 0)
		return rc;
	/* A shell finds its children running when it can look again. */
	for (uint32_t i = l.count; i-- > 0;)
		if (!list_has(resting, l.of[i].pid))
			(void)kill(l.of[i].pid, SIGCONT);
	process_list_free(&l);
	return 0;
}

int process_tree_signal(pid_t root, int number)
{
	struct process_list l;
	int rc = process_tree_read(root, &l);

	if (rc < 0)
		return rc;
	rc = (int)l.count;
	for (uint32_t i = 0; i < l.count; i++)
		(void)kill(l.of[i].pid, number);
	process_list_free(&l);
	return rc;
}
