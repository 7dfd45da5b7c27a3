#include "control/changes.h"
#include "control/keys.h"
#include "control/people.h"
#include "control/sandboxes.h"
#include "tests/unit/control/scratch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

static struct scratch x;

static int setup(void **state)
{
	scratch_init(&x);
	return 0;
}

static int teardown(void **state)
{
	scratch_deinit(&x);
	return 0;
}

struct seen {
	struct change list[64];
	int count;
};

static int on_change(void *ctx, const struct change *c)
{
	struct seen *seen = ctx;

	assert_true(seen->count < 64);
	seen->list[seen->count++] = *c;
	return 0;
}

static int64_t last_seq(void)
{
	struct feed_range r;

	assert_int_equal(changes_range(x.s, &r), 0);
	return r.last;
}

static struct seen since(int64_t seq)
{
	struct seen seen = {.count = 0};

	assert_int_equal(changes_read(x.s, seq, 64, on_change, &seen), seen.count);
	return seen;
}

static void make_key(struct ssh_key *k, const char *user, const char *team, unsigned number)
{
	memset(k, 0, sizeof(*k));
	strcpy(k->user, user);
	strcpy(k->team, team);
	strcpy(k->name, "k");
	strcpy(k->type, "ssh-ed25519");
	strcpy(k->text, "ssh-ed25519 AAAA");
	snprintf(k->fingerprint, sizeof(k->fingerprint), "SHA256:%043u", number);
}

static void test_file_is_private(void **state)
{
	struct stat st;

	assert_int_equal(stat(x.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_migrating_again_does_nothing(void **state)
{
	char error[STORE_ERROR_BYTES];
	int64_t before = last_seq();

	assert_int_equal(user_add(x.s, "alice", NULL), 1);
	assert_int_equal(store_migrate(x.s, error), 0);
	assert_int_equal(member_is(x.s, "alice", "alice"), 1);
	assert_true(before > 1600000000000);
}

/* What fails halfway leaves nothing, and the connection is of use. */
static void test_a_failure_is_rolled_back(void **state)
{
	int64_t before = last_seq();

	assert_int_equal(user_add(x.s, "alice", "dev"), 1);
	assert_int_equal(user_add(x.s, "alice", "other"), -EEXIST);
	assert_int_equal(member_add(x.s, "alice", "dev"), -EEXIST);
	assert_int_equal(member_add(x.s, "nobody", "dev"), -ENOENT);
	assert_int_equal(member_add(x.s, "alice", "nothing"), -ENOENT);
	assert_int_equal(last_seq(), before + 1);
	assert_int_equal(team_add(x.s, "dev"), -EEXIST);
	assert_int_equal(team_add(x.s, "other"), 1);
	assert_int_equal(member_is(x.s, "alice", "other"), 0);
}

/* One connection writes; another one that begins to is told to wait, and reads what is committed. */
static void test_two_connections(void **state)
{
	struct store *other = store_take(x.pool);
	int64_t count = 0;

	assert_non_null(other);
	assert_int_equal(store_begin(x.s), 0);
	assert_int_equal(
		store_write(x.s, "INSERT INTO teams (id, created_at) VALUES ($1, $2)", SQL_TEXT("t"), SQL_INT(1)), 1);
	assert_int_equal(store_exec(other, "SELECT count(*) FROM teams", NULL, 0, store_on_int, &count), 1);
	assert_int_equal(count, 0);
	assert_int_equal(store_end(x.s, 0), 0);
	assert_int_equal(store_exec(other, "SELECT count(*) FROM teams", NULL, 0, store_on_int, &count), 1);
	assert_int_equal(count, 1);
	store_give(x.pool, other);
}

static int refuse_row(void *ctx, const struct store_row *row)
{
	return -ECANCELED;
}

static void test_values(void **state)
{
	int64_t number = 0;

	assert_int_equal(store_query(x.s, "SELECT $1", store_on_int, &number, SQL_INT(INT64_MIN)), 1);
	assert_true(number == INT64_MIN);
	assert_int_equal(store_query(x.s, "SELECT $1 WHERE $2 = '''; --'", store_on_int, &number, SQL_INT(7),
				     SQL_TEXT("'; --")),
			 1);
	assert_int_equal(number, 7);
	assert_int_equal(store_query(x.s, "SELECT $1", store_on_int, &number, SQL_TEXT(NULL)), 1);
	assert_int_equal(number, 0);
	assert_int_equal(store_exec(x.s, "SELECT 1", NULL, 0, refuse_row, NULL), -ECANCELED);
	assert_int_equal(store_exec(x.s, "SELECT nothing FROM nowhere", NULL, 0, NULL, NULL), -EIO);
}

static void test_changes_are_in_order_and_trimmed(void **state)
{
	int64_t start = last_seq();
	struct feed_range r;
	struct seen seen;

	for (int i = 0; i < 10; i++) {
		char id[16];

		snprintf(id, sizeof(id), "u%d", i);
		assert_int_equal(user_add(x.s, id, "dev"), 1);
	}
	seen = since(start);
	assert_int_equal(seen.count, 10);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(seen.list[i].seq, start + 1 + i);
		assert_int_equal(seen.list[i].kind, CHANGE_MEMBER);
		assert_string_equal(seen.list[i].team, "dev");
		assert_int_equal(seen.list[i].user[1], '0' + i);
	}
	assert_int_equal(changes_trim(x.s, 4, 3600 * 1000), 1);
	assert_int_equal(changes_range(x.s, &r), 0);
	assert_int_equal(r.low, start + 6);
	assert_int_equal(r.last, start + 10);
	assert_int_equal(since(start).count, 4);
	assert_int_equal(changes_trim(x.s, 4, 3600 * 1000), 0);
	/* All are older than -1000 ms. */
	assert_int_equal(changes_trim(x.s, 4, -1000), 1);
	assert_int_equal(since(start).count, 0);
	assert_int_equal(changes_range(x.s, &r), 0);
	assert_int_equal(r.low, r.last);
}

static void test_where_a_follower_begins(void **state)
{
	int64_t start = last_seq(), seq;

	assert_int_equal(changes_since_time(x.s, store_now_ms() + 1000, &seq), 0);
	assert_int_equal(seq, start);
	assert_int_equal(user_add(x.s, "alice", NULL), 1);
	assert_int_equal(changes_since_time(x.s, store_now_ms() - 60000, &seq), 0);
	assert_int_equal(seq, start);
	assert_int_equal(changes_since_time(x.s, store_now_ms() + 60000, &seq), 0);
	assert_int_equal(seq, start + 1);
}

static void test_key_limits(void **state)
{
	struct ssh_key k;
	char team[16];

	assert_int_equal(user_add(x.s, "alice", "t0"), 1);
	for (unsigned i = 1; i <= GRANTS_MAX; i++) {
		snprintf(team, sizeof(team), "t%u", i);
		assert_int_equal(team_add(x.s, team), 1);
		assert_int_equal(member_add(x.s, "alice", team), 1);
	}
	for (unsigned i = 0; i < GRANTS_MAX; i++) {
		snprintf(team, sizeof(team), "t%u", i);
		make_key(&k, "alice", team, 1);
		assert_int_equal(key_add(x.s, &k), 0);
	}
	snprintf(team, sizeof(team), "t%u", GRANTS_MAX);
	make_key(&k, "alice", team, 1);
	assert_int_equal(key_add(x.s, &k), -EDQUOT);
	for (unsigned i = GRANTS_MAX; i < KEYS_PER_USER_MAX; i++) {
		make_key(&k, "alice", "t0", 1 + i);
		assert_int_equal(key_add(x.s, &k), 0);
	}
	make_key(&k, "alice", "t0", 9999);
	assert_int_equal(key_add(x.s, &k), -EDQUOT);
	make_key(&k, "alice", "nowhere", 9999);
	assert_int_equal(key_add(x.s, &k), -ENOENT);
}

static void test_removing_a_user_tells_all(void **state)
{
	struct key_grants *g = malloc(sizeof(*g));
	struct ssh_key k;
	struct seen seen;
	int64_t start;

	assert_non_null(g);
	assert_int_equal(user_add(x.s, "alice", "dev"), 1);
	make_key(&k, "alice", "dev", 1);
	assert_int_equal(key_add(x.s, &k), 0);
	assert_int_equal(key_grants_find(x.s, k.fingerprint, g), 0);
	assert_int_equal(g->count, 1);
	assert_int_equal(g->version, last_seq());
	start = last_seq();
	assert_int_equal(user_remove(x.s, "alice"), 1);
	seen = since(start);
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.list[0].kind, CHANGE_KEY);
	assert_string_equal(seen.list[0].key, k.fingerprint);
	assert_int_equal(seen.list[1].kind, CHANGE_MEMBER);
	assert_int_equal(key_grants_find(x.s, k.fingerprint, g), -ENOENT);
	assert_int_equal(user_remove(x.s, "alice"), -ENOENT);
	free(g);
}

static void test_sandbox_moves(void **state)
{
	struct sandbox b = {.id = "rs-one", .team = "dev", .driver = "local", .state = SANDBOX_RESUMING}, found, report;

	assert_int_equal(sandbox_add(x.s, &b), -ENOENT); /* no such team */
	assert_int_equal(team_add(x.s, "dev"), 1);
	assert_int_equal(sandbox_add(x.s, &b), 0);
	assert_int_equal(sandbox_add(x.s, &b), -EEXIST);
	report = (struct sandbox){.id = "rs-one", .state = SANDBOX_RUNNING, .procd_url = "tcp://1.2.3.4:5"};
	assert_int_equal(sandbox_set(x.s, &report), 1);
	assert_int_equal(sandbox_set(x.s, &report), 0); /* nothing new */
	assert_int_equal(sandbox_find(x.s, "rs-one", &found), 0);
	assert_int_equal(found.state, SANDBOX_RUNNING);
	assert_string_equal(found.procd_url, "tcp://1.2.3.4:5");
	assert_string_equal(found.team, "dev");
	assert_int_equal(sandbox_move(x.s, "rs-one", SANDBOX_PAUSED, SANDBOX_RESUMING), 0);
	report = (struct sandbox){.id = "rs-one", .state = SANDBOX_PAUSED, .reason = "no memory"};
	assert_int_equal(sandbox_set(x.s, &report), 1);
	assert_int_equal(sandbox_set(x.s, &report), 1); /* failed once more */
	assert_int_equal(sandbox_find(x.s, "rs-one", &found), 0);
	assert_string_equal(found.procd_url, "");
	assert_string_equal(found.reason, "no memory");
	assert_true(found.failed_at > 0);
	assert_int_equal(sandbox_move(x.s, "rs-one", SANDBOX_PAUSED, SANDBOX_RESUMING), 1);
	assert_int_equal(sandbox_move(x.s, "rs-one", SANDBOX_PAUSED, SANDBOX_RESUMING), 0);
	assert_int_equal(sandbox_find(x.s, "rs-one", &found), 0);
	assert_string_equal(found.reason, "");
	assert_int_equal(found.failed_at, 0);
	assert_int_equal(sandbox_import(x.s, &b), -EEXIST); /* a driver's */
	assert_int_equal(sandbox_remove(x.s, "rs-one"), 0);
	assert_int_equal(sandbox_remove(x.s, "rs-one"), -ENOENT);
	assert_int_equal(sandbox_set(x.s, &report), 0); /* of one that is gone */
	assert_int_equal(sandbox_find(x.s, "rs-one", &found), -ENOENT);
}

static void test_tokens(void **state)
{
	struct token t = {.user = "alice"};
	char text[TOKEN_CHARS + 1], user[USER_ID_MAX + 1];

	assert_int_equal(token_create(x.s, &t, text), -ENOENT);
	assert_int_equal(user_add(x.s, "alice", NULL), 1);
	assert_int_equal(token_create(x.s, &t, text), 0);
	assert_int_equal(strlen(text), TOKEN_CHARS);
	assert_int_equal(token_find(x.s, bytes_str(text), user), 0);
	assert_string_equal(user, "alice");
	text[10] ^= 1;
	assert_int_equal(token_find(x.s, bytes_str(text), user), -ENOENT);
	assert_int_equal(token_find(x.s, bytes_of(NULL, 0), user), -ENOENT);
	assert_int_equal(token_revoke(x.s, t.id), 0);
	assert_int_equal(token_revoke(x.s, t.id), -ENOENT);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_file_is_private),
		TEST(test_migrating_again_does_nothing),
		TEST(test_a_failure_is_rolled_back),
		TEST(test_two_connections),
		TEST(test_values),
		TEST(test_changes_are_in_order_and_trimmed),
		TEST(test_where_a_follower_begins),
		TEST(test_key_limits),
		TEST(test_removing_a_user_tells_all),
		TEST(test_sandbox_moves),
		TEST(test_tokens),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
