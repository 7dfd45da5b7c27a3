/*
 * procd/hangup.c - see hangup.h.
 */
#include "procd/hangup.h"

#include "core/check.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A line of /proc/PID/stat up to the process group: a name of 16 bytes and a few numbers. */
#define STAT_BYTES 256
#define PATH_BYTES 48

void hangup_note(struct hangup *h, int fd)
{
	struct stat st;

	ASSERT(h->count < 3);
	if (fstat(fd, &st) < 0)
		return;
	h->dev = st.st_dev;
	h->pipes[h->count++] = st.st_ino;
}

static void send_to(pid_t pid)
{
	(void)kill(pid, SIGHUP);
	/* One that was stopped would never see it. */
	(void)kill(pid, SIGCONT);
}

/* 0 for one that has ended. */
static pid_t group_of(const char *pid)
{
	char path[PATH_BYTES], text[STAT_BYTES];
	const char *name_end;
	ssize_t n;
	int fd, group = 0;

	snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	/* A name may hold parentheses, too. */
	name_end = strrchr(text, ')');
	if (!name_end || sscanf(name_end + 1, " %*c %*d %d", &group) != 1)
		return 0;
	return group;
}

static bool has_pipe(const struct hangup *h, const char *pid)
{
	for (int fd = 0; fd <= 2; fd++) {
		char path[PATH_BYTES];
		struct stat st;

		snprintf(path, sizeof(path), "/proc/%.20s/fd/%d", pid, fd);
		if (stat(path, &st) < 0 || st.st_dev != h->dev)
			continue;
		for (int i = 0; i < h->count; i++) {
			if (h->pipes[i] == st.st_ino)
				return true;
		}
	}
	return false;
}

void hangup_send(const struct hangup *h, pid_t leader)
{
	DIR *all = opendir("/proc");
	struct dirent *entry;

	if (!all) {
		send_to(-leader);
		return;
	}
	send_to(leader);
	/* In the order of their numbers: what is forked meanwhile comes later. */
	while ((entry = readdir(all))) {
		pid_t pid = isdigit((unsigned char)entry->d_name[0]) ? (pid_t)atoi(entry->d_name) : 0;

		if (pid > 0 && pid != leader && group_of(entry->d_name) == leader && has_pipe(h, entry->d_name))
			send_to(pid);
	}
	closedir(all);
}
