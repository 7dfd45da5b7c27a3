#include "gateway/directory.h"

#include "tests/unit/core/keys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PROCD_KEY "ed25519:AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="

static char dir[] = "/tmp/test_directory.XXXXXX";
static char path[64], part[64];

static int setup(void **state)
{
	if (!mkdtemp(dir) || proof_init() < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/directory.yaml", dir);
	snprintf(part, sizeof(part), "%s/directory.yaml.part", dir);
	return 0;
}

static int teardown(void **state)
{
	unlink(path);
	unlink(part);
	return rmdir(dir);
}

static void write_file(const char *to, const char *text)
{
	int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

/* As it should be done: whole, then renamed. */
static void replace_file(const char *text)
{
	write_file(part, text);
	assert_int_equal(rename(part, path), 0);
}

static struct directory *open_text(const char *text)
{
	struct directory *d;
	char error[256] = "";

	write_file(path, text);
	if (static_directory_new(path, &d, error) < 0)
		fail_msg("%s", error);
	return d;
}

/* What the error text says after "FILE:". */
static void expect_error(const char *text, const char *says)
{
	struct directory *d = NULL;
	char error[256] = "";
	size_t n = strlen(path);

	write_file(path, text);
	assert_int_equal(static_directory_new(path, &d, error), -EINVAL);
	assert_null(d);
	if (strncmp(error, path, n) != 0 || error[n] != ':' || strncmp(error + n + 1, says, strlen(says)) != 0)
		fail_msg("%s\n    where expected: %s", error, says);
}

static void on_key(struct key_query *q)
{
	++*(int *)q->owner;
}

static void on_route(struct route_query *q)
{
	++*(int *)q->owner;
}

static struct key_query find_key(struct directory *d, const char *fingerprint)
{
	int done = 0;
	struct key_query q = {.on_done = on_key, .owner = &done};

	strcpy(q.fingerprint, fingerprint);
	d->ops->key_find(d, &q);
	assert_int_equal(done, 1);
	d->ops->key_cancel(d, &q);
	return q;
}

static struct route_query find_route(struct directory *d, const struct key_query *key, const char *sandbox)
{
	int done = 0;
	struct route_query q = {
		.on_done = on_route, .owner = &done, .grants = key->grants, .grant_count = key->grant_count};

	strcpy(q.sandbox, sandbox);
	d->ops->route_find(d, &q);
	assert_int_equal(done, 1);
	d->ops->route_cancel(d, &q);
	return q;
}

static const char two_users[] = "users:\n"
				"  - id: u-ada\n"
				"    teams: [t-one, t-two]\n"
				"    keys:\n"
				"      - " KEY_ED25519_1 " ada@laptop\n"
				"      - \"" KEY_RSA_3072 "\"\n"
				"  - id: u-ben\n"
				"    teams: [t-two]\n"
				"    keys: [" KEY_P256 "]\n"
				"  - {id: u-none, teams: [], keys: [" KEY_ED25519_2 "]}\n"
				"sandboxes:\n"
				"  - id: rs-one\n"
				"    team: t-one\n"
				"    procd: 127.0.0.1:40001\n"
				"    procd_key: " PROCD_KEY "\n"
				"  - id: rs-two\n"
				"    team: t-two\n"
				"    procd: \"[::1]:40002\"\n"
				"  - {id: rs-three, team: t-nobody, procd: \"unix:/run/x.sock\"}\n";

static void test_keys(void **state)
{
	struct directory *d = open_text(two_users);
	struct key_query q = find_key(d, PRINT_ED25519_1);

	assert_int_equal(q.verdict, VERDICT_YES);
	assert_int_equal(q.grant_count, 2);
	assert_string_equal(q.grants[0].team, "t-one");
	assert_string_equal(q.grants[1].team, "t-two");
	assert_string_equal(q.grants[0].user, "u-ada");
	q = find_key(d, PRINT_RSA_3072);
	assert_int_equal(q.verdict, VERDICT_YES);
	assert_string_equal(q.grants[1].user, "u-ada");
	q = find_key(d, PRINT_P256);
	assert_int_equal(q.grant_count, 1);
	assert_string_equal(q.grants[0].user, "u-ben");
	q = find_key(d, PRINT_P384);
	assert_int_equal(q.verdict, VERDICT_NO);
	assert_int_equal(q.grant_count, 0);
	assert_int_equal(find_key(d, PRINT_ED25519_2).verdict, VERDICT_NO); /* in no team */
	assert_int_equal(find_key(d, "").verdict, VERDICT_NO);
	d->ops->free(d);
}

static void test_routes(void **state)
{
	struct directory *d = open_text(two_users);
	struct key_query ada = find_key(d, PRINT_ED25519_1), ben = find_key(d, PRINT_P256), nobody = {.grant_count = 0};
	struct route_query q = find_route(d, &ada, "rs-one");
	const struct sockaddr_in *in = (const struct sockaddr_in *)&q.route.addr;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&q.route.addr;

	assert_int_equal(q.verdict, VERDICT_YES);
	assert_string_equal(q.route.sandbox, "rs-one");
	assert_string_equal(q.route.grant.team, "t-one");
	assert_string_equal(q.route.grant.user, "u-ada");
	assert_int_equal(in->sin_family, AF_INET);
	assert_int_equal(ntohs(in->sin_port), 40001);
	assert_int_equal(ntohl(in->sin_addr.s_addr), INADDR_LOOPBACK);
	assert_int_equal(q.route.addr_bytes, sizeof(*in));
	assert_true(q.route.has_procd_key);
	for (int i = 0; i < 32; i++)
		assert_int_equal(q.route.procd_key.key[i], i + 1);

	q = find_route(d, &ada, "rs-two");
	assert_int_equal(q.verdict, VERDICT_YES);
	assert_string_equal(q.route.grant.team, "t-two");
	assert_int_equal(in6->sin6_family, AF_INET6);
	assert_int_equal(ntohs(in6->sin6_port), 40002);
	assert_false(q.route.has_procd_key);
	q = find_route(d, &ben, "rs-two");
	assert_int_equal(q.verdict, VERDICT_YES);
	assert_string_equal(q.route.grant.user, "u-ben");

	/* Not his team, nobody's team, no sandbox: all the same. */
	assert_int_equal(find_route(d, &ben, "rs-one").verdict, VERDICT_NO);
	assert_int_equal(find_route(d, &ada, "rs-three").verdict, VERDICT_NO);
	assert_int_equal(find_route(d, &ada, "rs-four").verdict, VERDICT_NO);
	assert_int_equal(find_route(d, &ada, "").verdict, VERDICT_NO);
	assert_int_equal(find_route(d, &nobody, "rs-one").verdict, VERDICT_NO);
	d->ops->free(d);
}

static void test_unix_address(void **state)
{
	struct directory *d = open_text("users: [{id: u, teams: [t], keys: [" KEY_ED25519_1 "]}]\n"
					"sandboxes: [{id: a, team: t, procd: \"unix:/run/x.sock\"}]\n");
	struct key_query k = find_key(d, PRINT_ED25519_1);
	struct route_query q = find_route(d, &k, "a");

	assert_int_equal(q.verdict, VERDICT_YES);
	assert_int_equal(q.route.addr.ss_family, AF_UNIX);
	assert_string_equal(((struct sockaddr_un *)&q.route.addr)->sun_path, "/run/x.sock");
	d->ops->free(d);
}

#define USER(body) "users: [{" body "}]\nsandboxes: []\n"
#define SANDBOX(body) "users: []\nsandboxes: [{" body "}]\n"

static void test_mistakes(void **state)
{
	expect_error("", "1: the file is empty");
	expect_error("[]\n", "1: a list where a map (users: ...) is expected");
	expect_error("users: []\n", "1: sandboxes is missing");
	expect_error("users: {}\nsandboxes: []\n", "1: users: a map where a list is expected");
	expect_error("users:\nsandboxes: []\n", "1: users: a value where a list is expected");
	expect_error("users: []\nsandboxs: []\n", "2: unknown key 'sandboxs'; did you mean 'sandboxes'?");
	expect_error("users: []\nsandboxes: []\nfoo: 1\n", "3: unknown key 'foo'; known here: users, sandboxes");
	expect_error("users: []\nusers: []\nsandboxes: []\n", "2: users stands here twice; first in line 1");
	expect_error("users: [x]\nsandboxes: []\n", "1: a value where a map (id: ...) is expected");
	expect_error(USER("id: u, teams: [t]"), "1: keys is missing");
	expect_error(USER("teams: [t], keys: []"), "1: id is missing");
	expect_error(USER("id: , teams: [t], keys: []"), "1: id has no value");
	expect_error(USER("id: u, teams: t, keys: []"), "1: teams: a value where a list is expected");
	expect_error(USER("id: u, teams: [t], key: []"), "1: unknown key 'key'; did you mean 'keys'?");
	expect_error(USER("id: u, teams: [t], keys: [], admin: true"),
		     "1: unknown key 'admin'; known here: id, teams, keys");
	expect_error(USER("id: 'u u', teams: [t], keys: []"), "1: 'u u' is no user ID: 1 to 64 of");
	expect_error(USER("id: u, teams: ['t/t'], keys: []"), "1: 't/t' is no team ID");
	expect_error(USER("id: u, teams: [[t]], keys: []"), "1: a list where a team ID is expected");
	expect_error(USER("id: u, teams: [t, t], keys: []"), "1: user u: team t stands here twice");
	expect_error("users:\n  - {id: u, teams: [], keys: []}\n  - {id: u, teams: [], keys: []}\nsandboxes: []\n",
		     "3: user u stands here twice");
	expect_error(SANDBOX("id: rs_one, team: t, procd: \"127.0.0.1:1\""), "2: 'rs_one' is no sandbox ID");
	expect_error("users: []\nsandboxes:\n  - {id: -a, team: t, procd: \"127.0.0.1:1\"}\n",
		     "3: '-a' is no sandbox ID");
	expect_error("users: []\nsandboxes:\n  - {id: A, team: t, procd: \"127.0.0.1:1\"}\n",
		     "3: 'A' is no sandbox ID");
	expect_error("users: []\nsandboxes:\n  - {id: a, team: t, procd: \"localhost:1\"}\n",
		     "3: sandbox a: 'localhost:1' is no address");
	expect_error("users: []\nsandboxes:\n  - {id: a, team: t, procd: \"127.0.0.1:0\"}\n",
		     "3: sandbox a: '127.0.0.1:0' is no");
	expect_error("users: []\nsandboxes:\n  - {id: a, team: t, procd: \"[::1]:0\"}\n",
		     "3: sandbox a: '[::1]:0' is no");
	expect_error("users: []\nsandboxes:\n  - {id: a, team: t, procd: \"unix:x\"}\n",
		     "3: sandbox a: 'unix:x' is no address");
	expect_error("users: []\nsandboxes:\n  - {id: a, team: t, procd: \"unix:/x\", procd_key: abc}\n",
		     "3: sandbox a: procd_key is no ed25519:BASE64");
	expect_error("users: []\nsandboxes:\n  - {id: a, team: t, procd: \"unix:/x\"}\n  - {id: a, team: t, procd: "
		     "\"unix:/y\"}\n",
		     "4: sandbox a stands here twice");
	expect_error("users: []\nsandboxes: [\n", "3: ");
}

static void test_key_mistakes(void **state)
{
	expect_error("users:\n  - id: u\n    teams: [t]\n    keys:\n      - " KEY_RSA_1024 "\nsandboxes: []\n",
		     "5: user u: an RSA key of 1024 bits is not accepted");
	expect_error("users:\n  - id: u\n    teams: [t]\n    keys:\n      - no-pty " KEY_ED25519_1 "\nsandboxes: []\n",
		     "5: user u: options before the key are not accepted");
	expect_error("users:\n  - id: u\n    teams: [t]\n    keys:\n      - |\n        -----BEGIN OPENSSH PRIVATE "
		     "KEY-----\n        b3Bl\n"
		     "sandboxes: []\n",
		     "5: user u: this is a private key");
	expect_error("users:\n  - id: u\n    teams: [t]\n    keys: [[]]\nsandboxes: []\n",
		     "4: user u: a list where a key");
	expect_error("users:\n  - id: u\n    teams: [t]\n    keys:\n      - " KEY_ED25519_1 "\n      - " KEY_ED25519_1
		     " other comment\nsandboxes: []\n",
		     "6: user u: this key is user u's already, in line 5");
	expect_error("users:\n  - {id: u, teams: [], keys: [" KEY_ED25519_1
		     "]}\n  - {id: v, teams: [], keys: [" KEY_ED25519_1 "]}\nsandboxes: []\n",
		     "3: user v: this key is user u's already, in line 2");
}

static void test_too_many_teams(void **state)
{
	char text[4096] = "users: [{id: u, keys: [" KEY_ED25519_1 "], teams: [";
	struct directory *d;

	for (int i = 0; i < GRANTS_MAX; i++)
		sprintf(text + strlen(text), "t%d,", i);
	strcat(text, "]}]\nsandboxes: []\n");
	d = open_text(text);
	assert_int_equal(find_key(d, PRINT_ED25519_1).grant_count, GRANTS_MAX);
	d->ops->free(d);
	strcpy(strstr(text, "]}]"), "more]}]\nsandboxes: []\n");
	expect_error(text, "1: user u: 33 teams; at most 32");
}

static void test_missing_file(void **state)
{
	struct directory *d = NULL;
	char error[256];

	unlink(path);
	assert_int_equal(static_directory_new(path, &d, error), -ENOENT);
	assert_non_null(strstr(error, "No such file"));
}

#define ONE_USER "users: [{id: u, teams: [t], keys: [" KEY_ED25519_1 "]}]\nsandboxes: []\n"
#define OTHER_USER "users: [{id: v, teams: [t], keys: [" KEY_ED25519_2 "]}]\nsandboxes: []\n"

static void test_reload(void **state)
{
	struct directory *d = open_text(ONE_USER);
	char error[256] = "";

	assert_int_equal(static_directory_reload(d, error), 0);
	replace_file(OTHER_USER);
	assert_int_equal(static_directory_reload(d, error), 1);
	assert_int_equal(find_key(d, PRINT_ED25519_1).verdict, VERDICT_NO);
	assert_string_equal(find_key(d, PRINT_ED25519_2).grants[0].user, "v");
	assert_int_equal(static_directory_reload(d, error), 0);
	/* The same bytes again are no change. */
	replace_file(OTHER_USER);
	assert_int_equal(static_directory_reload(d, error), 0);
	d->ops->free(d);
}

/* Written in place twice within one tick of the file system's clock, and of the same size. */
static void test_reload_sees_quick_changes(void **state)
{
	struct directory *d = open_text(ONE_USER);
	char error[256] = "";

	for (int i = 0; i < 200; i++) {
		write_file(path, i % 2 ? ONE_USER : OTHER_USER);
		assert_int_equal(static_directory_reload(d, error), 1);
		assert_int_equal(find_key(d, i % 2 ? PRINT_ED25519_1 : PRINT_ED25519_2).verdict, VERDICT_YES);
	}
	d->ops->free(d);
}

static void test_reload_keeps_the_old(void **state)
{
	struct directory *d = open_text(ONE_USER);
	char error[256] = "", again[256] = "";

	replace_file("users: [{id: u, teams: [t], keys: [x]}]\nsandboxes: []\n");
	assert_int_equal(static_directory_reload(d, error), -EINVAL);
	assert_non_null(strstr(error, "directory.yaml:1: user u: "));
	assert_int_equal(find_key(d, PRINT_ED25519_1).verdict, VERDICT_YES);
	/* It is told once. */
	assert_int_equal(static_directory_reload(d, again), -EALREADY);
	assert_string_equal(again, error);
	assert_int_equal(find_key(d, PRINT_ED25519_1).verdict, VERDICT_YES);
	replace_file("users: []\n");
	assert_int_equal(static_directory_reload(d, error), -EINVAL);
	assert_non_null(strstr(error, "sandboxes is missing"));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(static_directory_reload(d, error), -ENOENT);
	assert_int_equal(static_directory_reload(d, error), -EALREADY);
	assert_int_equal(find_key(d, PRINT_ED25519_1).verdict, VERDICT_YES);
	/* The very bytes that were wrong before are told again after the file was away. */
	replace_file("users: []\n");
	assert_int_equal(static_directory_reload(d, error), -EINVAL);
	replace_file(ONE_USER);
	assert_int_equal(static_directory_reload(d, error), 1);
	assert_int_equal(static_directory_reload(d, error), 0);
	d->ops->free(d);
}

/* Lookups while the content changes under them: each sees one content whole. */
static struct directory *shared;
static atomic_bool is_over;
static atomic_int looked;

static void *look(void *arg)
{
	while (!is_over) {
		struct key_query one = find_key(shared, PRINT_ED25519_1);

		if (one.verdict == VERDICT_YES && (one.grant_count != 2 || strcmp(one.grants[1].user, "u-ada") != 0))
			return "wrong";
		looked++;
	}
	return NULL;
}

static void test_reload_under_lookups(void **state)
{
	char error[256] = "";
	pthread_t threads[2];
	void *result;

	shared = open_text(two_users);
	is_over = false;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, look, NULL), 0);
	for (int i = 0; i < 100 || looked < 1000; i++) {
		replace_file(i % 2 ? two_users : OTHER_USER);
		assert_int_equal(static_directory_reload(shared, error), 1);
	}
	is_over = true;
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], &result);
		assert_null(result);
	}
	shared->ops->free(shared);
}

/* A region of its full size: found by hashing, read in a time that a region can wait. */
static void test_full_size(void **state)
{
	enum { N = 100000 };
	FILE *f = fopen(path, "w");
	struct key_query k = {.grant_count = 1, .grants = {{.team = "t-77777", .user = "u"}}};
	struct timespec begin, end;
	struct directory *d;
	char error[256] = "";

	assert_non_null(f);
	fprintf(f, "users:\n");
	for (int i = 0; i < N; i++)
		fprintf(f, "  - {id: u-%d, teams: [t-%d], keys: []}\n", i, i);
	fprintf(f, "sandboxes:\n");
	for (int i = 0; i < N; i++)
		fprintf(f, "  - {id: rs-%d, team: t-%d, procd: \"10.0.%d.%d:40001\", procd_key: \"" PROCD_KEY "\"}\n",
			i, i, i / 256 % 256, i % 256);
	fclose(f);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	if (static_directory_new(path, &d, error) < 0)
		fail_msg("%s", error);
	clock_gettime(CLOCK_MONOTONIC, &end);
	print_message("200,000 entries read in %.2f s\n",
		      (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
	assert_int_equal(find_route(d, &k, "rs-77777").verdict, VERDICT_YES);
	assert_int_equal(find_route(d, &k, "rs-77778").verdict, VERDICT_NO);
	d->ops->free(d);
	f = fopen(path, "a");
	fprintf(f, "  - {id: one-more, team: t, procd: \"unix:/x\"}\n");
	fclose(f);
	assert_int_equal(static_directory_new(path, &d, error), -EINVAL);
	assert_non_null(strstr(error, ":200003: more than 100000 "));
}

/* The example in docs/configuration.md is a good file. */
static void test_documentation(void **state)
{
	char *doc = calloc(1, 1 << 20), *begin, *end;
	FILE *f = fopen("docs/configuration.md", "r");
	struct directory *d;

	if (!f)
		fail_msg("docs/configuration.md cannot be read; tests run in the folder above it");
	assert_true(fread(doc, 1, (1 << 20) - 1, f) > 0);
	fclose(f);
	begin = strstr(doc, "```yaml\nusers:");
	assert_non_null(begin);
	begin += strlen("```yaml\n");
	end = strstr(begin, "```");
	assert_non_null(end);
	*end = 0;
	d = open_text(begin);
	assert_string_equal(find_key(d, PRINT_ED25519_1).grants[0].user, "u-ada");
	d->ops->free(d);
	free(doc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_unix_address),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_key_mistakes),
		cmocka_unit_test(test_too_many_teams),
		cmocka_unit_test(test_missing_file),
		cmocka_unit_test(test_reload),
		cmocka_unit_test(test_reload_sees_quick_changes),
		cmocka_unit_test(test_reload_keeps_the_old),
		cmocka_unit_test(test_reload_under_lookups),
		cmocka_unit_test(test_full_size),
		cmocka_unit_test(test_documentation),
	};

	return cmocka_run_group_tests_name("directory", tests, setup, teardown);
}
