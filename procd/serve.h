/*
 * procd/serve.h - the main process: listens, forks a session process for each connection, reaps.
 */
#ifndef PROCD_SERVE_H
#define PROCD_SERVE_H

struct options;

/* Runs until SIGTERM or SIGINT. Returns the exit status. */
int serve_run(struct options *o);

#endif
