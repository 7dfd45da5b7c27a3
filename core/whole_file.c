/*
 * core/whole_file.c - see whole_file.h.
 */
#include "core/whole_file.h"

#include <errno.h>
#include <unistd.h>

int whole_file_start(struct whole_file *w, const char *path)
{
	if (snprintf(w->path, sizeof(w->path), "%s", path) >= (int)sizeof(w->path) ||
	    snprintf(w->part, sizeof(w->part), "%s.part", path) >= (int)sizeof(w->part))
		return -ENAMETOOLONG;
	w->stream = fopen(w->part, "we");
	return w->stream ? 0 : -errno;
}

int whole_file_finish(struct whole_file *w)
{
	/* What was flushed while it was written may have failed; its errno is gone. */
	int rc = ferror(w->stream) ? -EIO : 0;

	if (fclose(w->stream) != 0)
		rc = -errno;
	if (rc == 0 && rename(w->part, w->path) < 0)
		rc = -errno;
	if (rc < 0)
		(void)unlink(w->part);
	return rc;
}
