/*
 * core/whole_file.h - a file that is written beside its place and then renamed: who waits for it never sees a part of it.
 *
 * Owner:  the caller; every whole_file_start that gave a stream is followed by one whole_file_finish.
 * Thread: any. It writes to a disk: not for threads that may not block.
 */
#ifndef CORE_WHOLE_FILE_H
#define CORE_WHOLE_FILE_H

#include "core/check.h"

#include <limits.h>
#include <stdio.h>

struct whole_file {
	char path[PATH_MAX], part[PATH_MAX];
	FILE *stream; /* to write into */
};

/* 0, or negative errno: then there is nothing to finish. */
MUST_USE int whole_file_start(struct whole_file *w, const char *path);
/* 0, or negative errno of whatever failed since the start: then what stood at the path before stands there still. */
MUST_USE int whole_file_finish(struct whole_file *w);

#endif
