#include "core/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct doc_limits limits = {.bytes = 1 << 20, .nodes = 1000};

static struct doc *parse(const char *text)
{
	char error[256] = "";
	struct doc *d;

	if (doc_parse("f", bytes_str(text), &limits, &d, error, sizeof(error)) < 0)
		fail_msg("%s", error);
	return d;
}

static void expect_error_n(const char *text, size_t n, const char *expected)
{
	char error[256] = "";
	struct doc *d = NULL;

	assert_int_equal(doc_parse("f", bytes_of(text, n), &limits, &d, error, sizeof(error)), -EINVAL);
	assert_null(d);
	if (strncmp(error, expected, strlen(expected)) != 0)
		fail_msg("'%s' where '%s' is expected", error, expected);
}

static void expect_error(const char *text, const char *expected)
{
	expect_error_n(text, strlen(text), expected);
}

/* The value of a key in a map. */
static const struct doc_node *get(const struct doc *d, const struct doc_node *map, const char *key)
{
	for (const struct doc_node *k = doc_first(d, map); k; k = doc_next(d, doc_next(d, k)))
		if (strcmp(doc_text(d, k), key) == 0)
			return doc_next(d, k);
	fail_msg("no %s", key);
	return NULL;
}

static void test_tree(void **state)
{
	struct doc *d = parse("# a comment\n"
			      "name: plain text\n"
			      "quoted: \"12\"\n"
			      "list:\n"
			      "  - one\n"
			      "  - {deep: [x, 'y y']}\n"
			      "empty: {}\n"
			      "nothing:\n");
	const struct doc_node *root = doc_root(d), *n;

	assert_int_equal(root->kind, DOC_MAP);
	assert_int_equal(root->count, 5);
	n = get(d, root, "name");
	assert_string_equal(doc_text(d, n), "plain text");
	assert_int_equal(n->line, 2);
	assert_int_equal(n->count, 10);
	assert_true(n->is_plain);
	assert_false(get(d, root, "quoted")->is_plain);
	n = get(d, root, "list");
	assert_int_equal(n->kind, DOC_LIST);
	assert_int_equal(n->count, 2);
	n = doc_next(d, doc_first(d, n));
	assert_int_equal(n->line, 6);
	assert_null(doc_next(d, n));
	n = get(d, n, "deep");
	assert_int_equal(n->count, 2);
	assert_string_equal(doc_text(d, doc_next(d, doc_first(d, n))), "y y");
	n = get(d, root, "empty");
	assert_int_equal(n->count, 0);
	assert_null(doc_first(d, n));
	n = get(d, root, "nothing");
	assert_int_equal(n->kind, DOC_SCALAR);
	assert_string_equal(doc_text(d, n), "");
	doc_free(d);
}

static void test_empty(void **state)
{
	static const char *const texts[] = {"", "\n", "# only a comment\n"};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct doc *d = parse(texts[i]);

		assert_null(doc_root(d));
		doc_free(d);
	}
	doc_free(NULL);
}

static void test_refused(void **state)
{
	expect_error("a: 1\nb: 2\na: 3\n", "f:3: a stands here twice; first in line 1");
	expect_error("x:\n  \"k\": 1\n  k: 2\n", "f:3: k stands here twice; first in line 2");
	expect_error("a: &x 1\n", "f:1: anchors (&)");
	expect_error("\na: &x [1]\n", "f:2: anchors (&)");
	expect_error("a: &x {b: 1}\n", "f:1: anchors (&)");
	expect_error("a: *x\n", "f:1: aliases (*)");
	expect_error("a: !!str 1\n", "f:1: tags (!)");
	expect_error("a: !!set {}\n", "f:1: tags (!)");
	expect_error("a: !x [1]\n", "f:1: tags (!)");
	expect_error("---\na: 1\n---\nb: 2\n", "f:3: a second document");
	expect_error("a: 1\n[x]: 2\n", "f:2: a list cannot be a key");
	expect_error("{a: 1}: 2\n", "f:1: a map cannot be a key");
	expect_error("a: \"x\\0y\"\n", "f:1: a NUL character");
	expect_error("a: [1, 2\nb: 3\n", "f:2: ");
	expect_error("a: 1\n b: 2\n", "f:2: ");
	expect_error("\tx: 1\n", "f:1: ");
	expect_error("a: 1\nb: \"open\n", "f:3: ");
}

static void test_not_text(void **state)
{
	expect_error("a: 1\nb: \xff\n", "f:2: ");
	expect_error("a: 1\n\nb: \xc0\x80\n", "f:3: ");
	expect_error("a: \x1b[2J\n", "f:1: ");
	expect_error_n("a: 1\nb: \0\n", 10, "f:2: ");
}

/* The billion laughs need aliases, and depth has its own limit. */
static void test_depth(void **state)
{
	char text[2 * 200000 + 1];
	struct doc *d;

	memset(text, '[', DOC_DEPTH_MAX);
	memset(text + DOC_DEPTH_MAX, ']', DOC_DEPTH_MAX);
	text[2 * DOC_DEPTH_MAX] = 0;
	d = parse(text);
	doc_free(d);
	memset(text, '[', 200000);
	memset(text + 200000, ']', 200000);
	text[400000] = 0;
	expect_error(text, "f:1: nested deeper than 12 levels");
	for (int i = 0; i < 1000; i++)
		memcpy(text + 2 * i, "- ", 2);
	text[2000] = 0;
	expect_error(text, "f:1: nested deeper than 12 levels");
}

static void test_nodes(void **state)
{
	char text[8192] = "[";
	struct doc *d;

	for (unsigned i = 0; i < limits.nodes - 1; i++)
		strcat(text, "a,");
	strcpy(text + strlen(text) - 1, "]");
	d = parse(text);
	assert_int_equal(doc_root(d)->count, limits.nodes - 1);
	doc_free(d);
	strcpy(text + strlen(text) - 1, ",a]");
	expect_error(text, "f:1: more than 1000 values");
}

static void test_keys_of_one_map(void **state)
{
	char text[8192] = "";

	for (int i = 0; i < DOC_KEYS_MAX; i++)
		sprintf(text + strlen(text), "k%d: 1\n", i);
	doc_free(parse(text));
	strcat(text, "more: 1\n");
	expect_error(text, "f:129: more than 128 keys");
}

static void test_size(void **state)
{
	static const struct doc_limits small = {.bytes = 10, .nodes = 10};
	char error[64];
	struct doc *d;

	assert_int_equal(doc_parse("f", bytes_str("a: 3456789"), &small, &d, error, sizeof(error)), 0);
	doc_free(d);
	assert_int_equal(doc_parse("f", bytes_str("a: 34567890"), &small, &d, error, sizeof(error)), -EINVAL);
	assert_string_equal(error, "f:1: larger than 10 bytes");
}

static void test_files(void **state)
{
	static const struct doc_limits small = {.bytes = 100, .nodes = 100};
	char dir[] = "/tmp/test_yaml.XXXXXX", path[128], error[256];
	struct doc *d = NULL;
	struct stat st;
	uint8_t *text;
	size_t n;
	int fd;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/f", dir);
	assert_int_equal(doc_load(path, &small, &d, error, sizeof(error)), -ENOENT);
	assert_non_null(strstr(error, "No such file"));
	assert_int_equal(doc_load(dir, &small, &d, error, sizeof(error)), -EISDIR);
	assert_int_equal(doc_load("/dev/zero", &small, &d, error, sizeof(error)), -ENODEV);
	/* Nobody writes to it: that must not be waited for. */
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(doc_load(path, &small, &d, error, sizeof(error)), -ENODEV);
	assert_int_equal(unlink(path), 0);

	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "a: 1\n", 5), 5);
	assert_int_equal(doc_load(path, &small, &d, error, sizeof(error)), 0);
	assert_string_equal(doc_text(d, get(d, doc_root(d), "a")), "1");
	doc_free(d);
	assert_int_equal(doc_read_file(path, 5, &text, &n, &st, error, sizeof(error)), 0);
	assert_int_equal(n, 5);
	assert_int_equal(st.st_size, 5);
	assert_memory_equal(text, "a: 1\n", 5);
	free(text);
	assert_int_equal(doc_read_file(path, 4, &text, &n, NULL, error, sizeof(error)), -EFBIG);
	assert_int_equal(ftruncate(fd, 101), 0);
	assert_int_equal(doc_load(path, &small, &d, error, sizeof(error)), -EFBIG);
	close(fd);
	unlink(path);
	rmdir(dir);
}

/* Error texts fit their room whatever the file's name and content. */
static void test_error_texts_are_bounded(void **state)
{
	char name[5000], key[900], text[2000], error[64], longer[512];
	struct doc *d;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	memset(key, 'k', sizeof(key) - 1);
	key[sizeof(key) - 1] = 0;
	snprintf(text, sizeof(text), "%s: 1\n%s: 2\n", key, key);
	assert_int_equal(doc_parse(name, bytes_str(text), &limits, &d, error, sizeof(error)), -EINVAL);
	assert_int_equal(strlen(error), sizeof(error) - 1);
	/* Of a long name the end is shown, so that there is room for the message. */
	assert_int_equal(doc_parse(name, bytes_str(text), &limits, &d, longer, sizeof(longer)), -EINVAL);
	assert_memory_equal(longer, "...nnn", 6);
	assert_non_null(strstr(longer, "nnn:2: kkk"));
	assert_non_null(strstr(longer, "k... stands here twice; first in line 1"));
}

static void test_show(void **state)
{
	char buf[DOC_SHOW_BYTES], text[200];

	assert_string_equal(doc_show("abc", buf), "abc");
	assert_string_equal(doc_show("a\nb\x1b"
				     "c\x7f",
				     buf),
			    "a?b?c?");
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = 0;
	doc_show(text, buf);
	assert_int_equal(strlen(buf), DOC_SHOW_BYTES - 1);
	assert_string_equal(buf + strlen(buf) - 3, "...");
	text[DOC_SHOW_BYTES - 1] = 0;
	assert_string_equal(doc_show(text, buf), text);
	/* A character is not cut in two. */
	memcpy(text + DOC_SHOW_BYTES - 5, "\xc3\xa9xxx", 5);
	doc_show(text, buf);
	assert_string_equal(buf + strlen(buf) - 4, "x...");
}

/* Every prefix and every single changed byte of a good file: an error or a tree, never anything else. */
static void test_mangled(void **state)
{
	static const char good[] =
		"users:\n  - id: u\n    teams: [a, \"b\"]\n    keys:\n      - 'x y z'\nsandboxes: []\n";
	char text[sizeof(good)], error[256];
	struct doc *d;

	for (size_t n = 0; n < sizeof(good); n++)
		if (doc_parse("f", bytes_of(good, n), &limits, &d, error, sizeof(error)) == 0)
			doc_free(d);
	for (size_t at = 0; at < sizeof(good) - 1; at++)
		for (int byte = 0; byte < 256; byte++) {
			memcpy(text, good, sizeof(good));
			text[at] = (char)byte;
			if (doc_parse("f", bytes_of(text, sizeof(good) - 1), &limits, &d, error, sizeof(error)) == 0)
				doc_free(d);
			else
				assert_memory_equal(error, "f:", 2);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tree),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_not_text),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_keys_of_one_map),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_error_texts_are_bounded),
		cmocka_unit_test(test_show),
		cmocka_unit_test(test_mangled),
	};

	return cmocka_run_group_tests_name("yaml", tests, NULL, NULL);
}
