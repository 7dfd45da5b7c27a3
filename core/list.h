/*
 * core/list.h - an intrusive doubly linked ring of nodes.
 *
 * Owner:  the node is embedded in the object that it links; the list owns nothing.
 * Life:   a node is linked into at most one list; an unlinked node points to itself.
 * Thread: the one that owns the list.
 */
#ifndef CORE_LIST_H
#define CORE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_is_empty(const struct list *l)
{
	return l->next == l;
}

/* Links n in before `at`: at the tail when `at` is the list's head. */
static inline void list_add_tail(struct list *at, struct list *n)
{
	n->prev = at->prev;
	n->next = at;
	at->prev->next = n;
	at->prev = n;
}

static inline void list_add_head(struct list *at, struct list *n)
{
	list_add_tail(at->next, n);
}

/* Unlinks n; harmless when it is not linked. */
static inline void list_del(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}

#endif
