/*
 * core/slice.c - see slice.h.
 */
#include "core/slice.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's struct sched_attr, as it has been since 3.14; C libraries have none, or one under another name. */
struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
};

/* 0: the kernel's own. What cannot be had is done without. */
static void slice_set(uint64_t ns)
{
	struct attributes a = {.size = sizeof(a)};

	if (syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0) != 0 || a.policy != SCHED_OTHER)
		return;
	a.size = sizeof(a);
	a.flags = 0;
	a.runtime_ns = ns;
	(void)syscall(SYS_sched_setattr, 0, &a, 0);
}

void slice_look(struct slice *s, uint64_t now_us, uint64_t bytes)
{
	bool is_bulk;

	if (now_us - s->looked_us < SLICE_LOOK_US)
		return;
	/* One that has slept for long moved what it moved in its last moments, but that is over. */
	is_bulk = (bytes - s->looked_bytes) * SLICE_LOOK_US / (now_us - s->looked_us) >= SLICE_BULK_BYTES;
	s->looked_us = now_us;
	s->looked_bytes = bytes;
	if (is_bulk == s->is_bulk)
		return;
	s->is_bulk = is_bulk;
	slice_set(is_bulk ? SLICE_BULK_NS : 0);
}

void slice_reset(void)
{
	slice_set(0);
}
