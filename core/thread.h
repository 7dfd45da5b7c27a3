/*
 * core/thread.h - threads that take no signals: those are for the threads that expect them.
 */
#ifndef CORE_THREAD_H
#define CORE_THREAD_H

#include "core/check.h"

#include <pthread.h>
#include <stddef.h>

/* Starts run(arg). stack_bytes 0: the system's default. 0, or negative errno with *ret_thread untouched. */
MUST_USE int thread_start(pthread_t *ret_thread, size_t stack_bytes, void *(*run)(void *arg), void *arg);

#endif
