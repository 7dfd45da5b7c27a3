#include "core/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

/* Of a long path the end is shown: error texts have little room. */
#define NAME_SHOWN 100

struct doc {
	char *name;
	struct doc_node *nodes;
	uint32_t node_count, node_room;
	char *text;
	size_t text_n, text_room;
};

/* A map or list whose end was not seen yet. */
struct level {
	uint32_t node, last;
	bool is_value_next; /* a map: its last child is a key */
};

struct reader {
	struct doc *doc;
	const struct doc_limits *limits;
	struct bytes input;
	struct level levels[DOC_DEPTH_MAX];
	uint32_t depth;
	bool has_document;
	char *error;
	size_t error_bytes;
};

const char *doc_show(const char *text, char buf[DOC_SHOW_BYTES])
{
	size_t n = strnlen(text, DOC_SHOW_BYTES);
	bool is_cut = n == DOC_SHOW_BYTES;

	if (is_cut) {
		n = DOC_SHOW_BYTES - 4;
		while (n > 0 && ((uint8_t)text[n] & 0xc0) == 0x80)
			n--;
	}
	for (size_t i = 0; i < n; i++)
		buf[i] = (uint8_t)text[i] < ' ' || text[i] == 0x7f ? '?' : text[i];
	strcpy(buf + n, is_cut ? "..." : "");
	return buf;
}

__attribute__((format(printf, 5, 0))) static void say_at(const char *name, uint32_t line, char *ret_error,
							 size_t error_bytes, const char *format, va_list ap)
{
	size_t name_n = strlen(name);
	const char *shown = name_n > NAME_SHOWN ? name + name_n - NAME_SHOWN : name;
	int n = snprintf(ret_error, error_bytes, "%s%s:%u: ", shown == name ? "" : "...", shown, line);

	if (n > 0 && (size_t)n < error_bytes)
		vsnprintf(ret_error + n, error_bytes - (size_t)n, format, ap);
}

int doc_fail(const struct doc *d, const struct doc_node *n, char *ret_error, size_t error_bytes, const char *format,
	     ...)
{
	va_list ap;

	va_start(ap, format);
	say_at(d->name, n ? n->line : 1, ret_error, error_bytes, format, ap);
	va_end(ap);
	return -EINVAL;
}

__attribute__((format(printf, 3, 4))) static int fail_at(struct reader *r, size_t line, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say_at(r->doc->name, (uint32_t)line, r->error, r->error_bytes, format, ap);
	va_end(ap);
	return -EINVAL;
}

static int no_memory(struct reader *r)
{
	snprintf(r->error, r->error_bytes, "%s: out of memory", r->doc->name);
	return -ENOMEM;
}

static int node_new(struct reader *r, enum doc_kind kind, size_t line, uint32_t *ret_index)
{
	struct doc *d = r->doc;

	if (d->node_count >= r->limits->nodes)
		return fail_at(r, line, "more than %u values in the file", r->limits->nodes);
	if (d->node_count == d->node_room) {
		uint32_t room = d->node_room ? d->node_room * 2 : 64;
		struct doc_node *nodes = reallocarray(d->nodes, room, sizeof(*nodes));

		if (!nodes)
			return no_memory(r);
		d->nodes = nodes;
		d->node_room = room;
	}
	d->nodes[d->node_count] = (struct doc_node){.kind = (uint8_t)kind, .line = (uint32_t)line};
	*ret_index = d->node_count++;
	return 0;
}

static int text_add(struct reader *r, const char *p, size_t n, uint32_t *ret_offset)
{
	struct doc *d = r->doc;

	if (d->text_room - d->text_n <= n) {
		size_t room = d->text_room * 2 + n + 256;
		char *text = room <= UINT32_MAX ? realloc(d->text, room) : NULL;

		if (!text)
			return no_memory(r);
		d->text = text;
		d->text_room = room;
	}
	*ret_offset = (uint32_t)d->text_n;
	memcpy(d->text + d->text_n, p, n);
	d->text[d->text_n + n] = 0;
	d->text_n += n + 1;
	return 0;
}

/* A key stands already in its map? */
static int check_key(struct reader *r, const struct doc_node *map, const struct doc_node *key)
{
	const struct doc *d = r->doc;
	char shown[DOC_SHOW_BYTES];

	if (map->count >= DOC_KEYS_MAX)
		return fail_at(r, key->line, "more than %d keys in one map", DOC_KEYS_MAX);
	for (const struct doc_node *k = doc_first(d, map); k; k = doc_next(d, doc_next(d, k)))
		if (k->count == key->count && memcmp(doc_text(d, k), doc_text(d, key), k->count) == 0)
			return fail_at(r, key->line, "%s stands here twice; first in line %u",
				       doc_show(doc_text(d, key), shown), k->line);
	return 0;
}

/* Links the new node into the open map or list. */
static int node_link(struct reader *r, uint32_t index)
{
	struct doc_node *nodes = r->doc->nodes;
	struct level *l;
	struct doc_node *parent;

	if (r->depth == 0)
		return 0;
	l = &r->levels[r->depth - 1];
	parent = &nodes[l->node];
	if (parent->kind == DOC_MAP && !l->is_value_next) {
		if (nodes[index].kind != DOC_SCALAR)
			return fail_at(r, nodes[index].line, "%s cannot be a key", doc_kind_name(&nodes[index]));
		if (check_key(r, parent, &nodes[index]) < 0)
			return -EINVAL;
	}
	if (parent->kind == DOC_LIST || !l->is_value_next)
		parent->count++;
	l->is_value_next = !l->is_value_next;
	if (l->last)
		nodes[l->last].next = index;
	else
		parent->first = index;
	l->last = index;
	return 0;
}

static int on_scalar(struct reader *r, const yaml_event_t *e)
{
	const char *text = (const char *)e->data.scalar.value;
	size_t n = e->data.scalar.length, line = e->start_mark.line + 1;
	uint32_t index, offset = 0;
	int rc;

	if (e->data.scalar.anchor)
		return fail_at(r, line, "anchors (&) are not accepted");
	if (e->data.scalar.tag)
		return fail_at(r, line, "tags (!) are not accepted");
	if (memchr(text, 0, n))
		return fail_at(r, line, "a NUL character is not accepted");
	rc = node_new(r, DOC_SCALAR, line, &index);
	if (rc == 0)
		rc = text_add(r, text, n, &offset);
	if (rc < 0)
		return rc;
	r->doc->nodes[index].text = offset;
	r->doc->nodes[index].count = (uint32_t)n;
	r->doc->nodes[index].is_plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	return node_link(r, index);
}

static int on_start(struct reader *r, enum doc_kind kind, const yaml_event_t *e, const void *anchor, const void *tag)
{
	size_t line = e->start_mark.line + 1;
	uint32_t index;
	int rc;

	if (anchor)
		return fail_at(r, line, "anchors (&) are not accepted");
	if (tag)
		return fail_at(r, line, "tags (!) are not accepted");
	if (r->depth == DOC_DEPTH_MAX)
		return fail_at(r, line, "nested deeper than %d levels", DOC_DEPTH_MAX);
	rc = node_new(r, kind, line, &index);
	if (rc == 0)
		rc = node_link(r, index);
	if (rc == 0)
		r->levels[r->depth++] = (struct level){.node = index};
	return rc;
}

static int on_event(struct reader *r, const yaml_event_t *e)
{
	size_t line = e->start_mark.line + 1;

	switch (e->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (r->has_document)
			return fail_at(r, line, "a second document is not accepted");
		r->has_document = true;
		return 0;
	case YAML_ALIAS_EVENT:
		return fail_at(r, line, "aliases (*) are not accepted");
	case YAML_SCALAR_EVENT:
		return on_scalar(r, e);
	case YAML_SEQUENCE_START_EVENT:
		return on_start(r, DOC_LIST, e, e->data.sequence_start.anchor, e->data.sequence_start.tag);
	case YAML_MAPPING_START_EVENT:
		return on_start(r, DOC_MAP, e, e->data.mapping_start.anchor, e->data.mapping_start.tag);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		ASSERT(r->depth > 0);
		r->depth--;
		return 0;
	default:
		return 0;
	}
}

static int parser_failed(struct reader *r, const yaml_parser_t *p)
{
	size_t line = p->problem_mark.line + 1;

	if (p->error == YAML_MEMORY_ERROR)
		return no_memory(r);
	if (p->error == YAML_READER_ERROR) {
		/* Bytes that are no text have an offset only. */
		line = 1;
		for (size_t i = 0; i < p->problem_offset && i < r->input.n; i++)
			line += r->input.p[i] == '\n';
	}
	return fail_at(r, line, "%s%s%s", p->problem ? p->problem : "this is no YAML", p->context ? " " : "",
		       p->context ? p->context : "");
}

static int parse_events(struct reader *r)
{
	yaml_parser_t parser;
	bool is_end = false;
	int rc = 0;

	if (!yaml_parser_initialize(&parser))
		return no_memory(r);
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, r->input.p, r->input.n);
	while (!is_end && rc == 0) {
		yaml_event_t event;

		if (!yaml_parser_parse(&parser, &event)) {
			rc = parser_failed(r, &parser);
			break;
		}
		is_end = event.type == YAML_STREAM_END_EVENT;
		rc = on_event(r, &event);
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	return rc;
}

int doc_parse(const char *name, struct bytes text, const struct doc_limits *limits, struct doc **ret_doc,
	      char *ret_error, size_t error_bytes)
{
	struct reader r = {.limits = limits, .input = text, .error = ret_error, .error_bytes = error_bytes};
	struct doc *d = calloc(1, sizeof(*d));
	int rc;

	ASSERT(limits->nodes < UINT32_MAX / 2);
	if (!d || !(d->name = strdup(name))) {
		free(d);
		snprintf(ret_error, error_bytes, "out of memory");
		return -ENOMEM;
	}
	r.doc = d;
	if (text.n > limits->bytes)
		rc = fail_at(&r, 1, "larger than %zu bytes", limits->bytes);
	else
		rc = parse_events(&r);
	if (rc < 0) {
		doc_free(d);
		return rc;
	}
	*ret_doc = d;
	return 0;
}

static int file_read_all(int fd, size_t size, size_t max_bytes, uint8_t **ret_text, size_t *ret_bytes)
{
	size_t room = size + 1, n = 0;
	uint8_t *text = malloc(room);

	while (text) {
		ssize_t got = read(fd, text + n, room - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			int error = errno;

			free(text);
			return -error;
		}
		n += (size_t)got;
		if (n > max_bytes) {
			free(text);
			return -EFBIG;
		}
		if (got == 0) {
			*ret_text = text;
			*ret_bytes = n;
			return 0;
		}
		if (n == room) {
			/* It grew meanwhile. */
			uint8_t *larger = realloc(text, room = room * 2);

			if (!larger)
				free(text);
			text = larger;
		}
	}
	return -ENOMEM;
}

int doc_read_file(const char *path, size_t max_bytes, uint8_t **ret_text, size_t *ret_bytes, struct stat *ret_stat,
		  char *ret_error, size_t error_bytes)
{
	struct stat st;
	/* Not to wait where the path is a FIFO. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int rc = fd < 0 ? -errno : 0;

	if (rc == 0 && fstat(fd, &st) < 0)
		rc = -errno;
	if (rc == 0 && S_ISDIR(st.st_mode))
		rc = -EISDIR;
	else if (rc == 0 && (!S_ISREG(st.st_mode) || st.st_size < 0))
		rc = -ENODEV;
	if (rc == 0 && (uint64_t)st.st_size > max_bytes)
		rc = -EFBIG;
	if (rc == 0)
		rc = file_read_all(fd, (size_t)st.st_size, max_bytes, ret_text, ret_bytes);
	if (rc == 0 && ret_stat)
		*ret_stat = st;
	if (fd >= 0)
		close(fd);
	if (rc == -EFBIG)
		snprintf(ret_error, error_bytes, "%s: larger than %zu bytes", path, max_bytes);
	else if (rc == -ENODEV)
		snprintf(ret_error, error_bytes, "%s: not a regular file", path);
	else if (rc < 0)
		snprintf(ret_error, error_bytes, "%s: %s", path, strerror(-rc));
	return rc;
}

int doc_load(const char *path, const struct doc_limits *limits, struct doc **ret_doc, char *ret_error,
	     size_t error_bytes)
{
	uint8_t *text;
	size_t n;
	int rc = doc_read_file(path, limits->bytes, &text, &n, NULL, ret_error, error_bytes);

	if (rc < 0)
		return rc;
	rc = doc_parse(path, bytes_of(text, n), limits, ret_doc, ret_error, error_bytes);
	free(text);
	return rc;
}

void doc_free(struct doc *d)
{
	if (!d)
		return;
	free(d->nodes);
	free(d->text);
	free(d->name);
	free(d);
}

const struct doc_node *doc_root(const struct doc *d)
{
	return d->node_count > 0 ? &d->nodes[0] : NULL;
}

const struct doc_node *doc_first(const struct doc *d, const struct doc_node *n)
{
	return n->first ? &d->nodes[n->first] : NULL;
}

const struct doc_node *doc_next(const struct doc *d, const struct doc_node *n)
{
	return n->next ? &d->nodes[n->next] : NULL;
}

const char *doc_text(const struct doc *d, const struct doc_node *n)
{
	ASSERT(n->kind == DOC_SCALAR);
	return d->text + n->text;
}

const char *doc_kind_name(const struct doc_node *n)
{
	static const char *const names[] = {[DOC_SCALAR] = "a value", [DOC_LIST] = "a list", [DOC_MAP] = "a map"};

	return names[n->kind];
}
