/*
 * gateway/changes.h - the last changes that the directory told of, in order, for threads to read at their own pace.
 *
 * A reader keeps a position. Who reads so late that something is not kept any more reads SUBJECT_ALL in its place.
 *
 * Owner:  the server.
 * Thread: any; the lock is held for a copy only.
 */
#ifndef GATEWAY_CHANGES_H
#define GATEWAY_CHANGES_H

#include "gateway/directory.h"
#include "gateway/limits.h"

#include <pthread.h>
#include <stdatomic.h>

struct changes {
	pthread_mutex_t lock;
	_Atomic uint64_t count; /* ever; written under the lock */
	struct subject kept[CHANGES_KEPT];
};

void changes_init(struct changes *c);
void changes_deinit(struct changes *c);

void changes_add(struct changes *c, const struct subject *s);
/* Where a reader begins who wants only what comes from now on. */
uint64_t changes_position(const struct changes *c);
/* Copies at most n, moves the position on, and says how many there were. */
uint32_t changes_read(struct changes *c, uint64_t *position, struct subject *ret_subjects, uint32_t n);

#endif
