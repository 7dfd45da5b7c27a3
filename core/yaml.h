/*
 * core/yaml.h - YAML files as a small read-only tree, with the line of everything in it, by libyaml.
 *
 * Accepted is what a configuration needs: maps, lists, scalars. Refused, with file and line: duplicate keys, keys that are no
 * scalars, anchors and aliases (a few bytes that stand for gigabytes), tags, a second document, NUL characters, and what is
 * beyond the limits given. The tree is built from libyaml's events, so the limits hold while the file is read.
 *
 * Owner:  the caller, from doc_load or doc_parse until doc_free; nodes and their texts live as long.
 * Thread: any one.
 *
 * An error text begins with "FILE:LINE: ".
 */
#ifndef CORE_YAML_H
#define CORE_YAML_H

#include "core/bytes.h"
#include "core/check.h"

struct doc_limits {
	size_t bytes;   /* of the file */
	uint32_t nodes; /* maps, lists, scalars (keys too) */
};

/* No file of ours is nested deeper than 5. */
#define DOC_DEPTH_MAX 12

/* Keys of one map: duplicates are looked for one by one. */
#define DOC_KEYS_MAX 128

enum doc_kind { DOC_SCALAR, DOC_LIST, DOC_MAP };

/* For reading: kind, is_plain, line, count. The rest is for the functions below. */
struct doc_node {
	uint32_t next, first; /* index of the next sibling, of the first child; 0: none */
	uint32_t count;       /* a list's entries, a map's keys, a scalar's bytes */
	uint32_t text;        /* offset of a scalar's text */
	uint32_t line;        /* from 1 */
	uint8_t kind;         /* enum doc_kind */
	bool is_plain;        /* a scalar without quotes: it may be a number or a boolean */
};

struct doc;
struct stat;

/*
 * Reads a regular file of at most max_bytes into memory that the caller frees. ret_stat (or NULL) gets the file's state before
 * the first byte was read. Negative errno, -EFBIG when it is too large.
 */
MUST_USE int doc_read_file(const char *path, size_t max_bytes, uint8_t **ret_text, size_t *ret_bytes,
			   struct stat *ret_stat, char *ret_error, size_t error_bytes);

/* Parses text; `name` is the file's name for error texts. An empty document gives a doc without a root. -EINVAL, -ENOMEM. */
MUST_USE int doc_parse(const char *name, struct bytes text, const struct doc_limits *limits, struct doc **ret_doc,
		       char *ret_error, size_t error_bytes);

/* Both at once. */
MUST_USE int doc_load(const char *path, const struct doc_limits *limits, struct doc **ret_doc, char *ret_error,
		      size_t error_bytes);

void doc_free(struct doc *d);

/* NULL for an empty document. */
const struct doc_node *doc_root(const struct doc *d);

/* The entries of a list in order; in a map keys and values take turns. NULL at the end. */
const struct doc_node *doc_first(const struct doc *d, const struct doc_node *n);
const struct doc_node *doc_next(const struct doc *d, const struct doc_node *n);

/* A scalar's text: UTF-8, n->count bytes, NUL after it. */
const char *doc_text(const struct doc *d, const struct doc_node *n);

/* "a list", "a map", "a value": for error texts. */
const char *doc_kind_name(const struct doc_node *n);

/* Writes "FILE:LINE: " and the message; n NULL stands for line 1. Returns -EINVAL. */
__attribute__((format(printf, 5, 6))) int doc_fail(const struct doc *d, const struct doc_node *n, char *ret_error,
						   size_t error_bytes, const char *format, ...);

/* Foreign text made fit for an error text: cut, control characters replaced. Returns buf. */
#define DOC_SHOW_BYTES 64
const char *doc_show(const char *text, char buf[DOC_SHOW_BYTES]);

#endif
