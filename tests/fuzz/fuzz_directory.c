/*
 * tests/fuzz/fuzz_directory.c - libFuzzer target for the directory file, and with it the YAML tree and keys in lines.
 *
 * The input is a file. It is either refused with an error text, or a directory that answers.
 */
#include "gateway/directory.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void on_key(struct key_query *q)
{
	ASSERT(q->verdict == VERDICT_NO);
}

static void on_route(struct route_query *q)
{
	ASSERT(q->verdict == VERDICT_NO || (q->verdict == VERDICT_YES && q->route.addr_bytes > 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const struct grant grant = {.team = "t", .user = "u"};
	static int fd = -1;
	struct key_query key = {.on_done = on_key};
	struct route_query route = {.sandbox = "a", .grants = &grant, .grant_count = 1, .on_done = on_route};
	struct directory *d = NULL;
	char path[64], error[256];
	int rc;

	if (fd < 0)
		fd = memfd_create("directory", MFD_CLOEXEC);
	ASSERT(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, p, n, 0) == (ssize_t)n);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	memset(error, 'x', sizeof(error));
	rc = static_directory_new(path, &d, error);
	if (rc < 0) {
		ASSERT(!d && memchr(error, 0, sizeof(error)));
		return 0;
	}
	d->ops->key_find(d, &key);
	d->ops->route_find(d, &route);
	ASSERT(static_directory_reload(d, error) == 0);
	d->ops->free(d);
	return 0;
}
