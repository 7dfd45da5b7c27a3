/*
 * procd/agent.c - see agent.h.
 */
#include "procd/agent.h"

#include "procd/channel.h"
#include "procd/forward.h"
#include "procd/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

struct agent {
	struct listener *listener;
	char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* A new folder that nobody else can enter. 0 or negative errno. */
static int make_folder(struct agent *a, const char *home)
{
	/* Some images have a root that nobody can write to. */
	const char *const places[] = {"/tmp", "/dev/shm", home};
	int rc = -ENOENT;

	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		int n = snprintf(a->folder, sizeof(a->folder), "%s/procd-XXXXXXXXXX", places[i]);

		if (n >= (int)sizeof(a->folder))
			continue;
		if (mkdtemp(a->folder))
			return 0;
		rc = -errno;
	}
	return rc;
}

int agent_start(struct channel *c, struct agent **ret_agent)
{
	struct agent *a = calloc(1, sizeof(*a));
	int rc = a ? make_folder(a, c->session->user.home) : -ENOMEM;

	if (rc < 0) {
		free(a);
		return rc;
	}
	rc = snprintf(a->path, sizeof(a->path), "%s/agent", a->folder) < (int)sizeof(a->path) ? 0 : -ENAMETOOLONG;
	if (rc == 0)
		rc = forward_agent(c->session, c->number, a->path, &a->listener);
	if (rc < 0)
		agent_stop(a);
	else
		*ret_agent = a;
	return rc;
}

const char *agent_path(const struct agent *a)
{
	return a->path;
}

void agent_stop(struct agent *a)
{
	if (!a)
		return;
	if (a->listener)
		forward_agent_end(a->listener);
	(void)rmdir(a->folder);
	free(a);
}
