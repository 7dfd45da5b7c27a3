/*
 * tests/unit/control/test_driver_local.c - the local driver and its keepers on real processes, with a shell script as procd.
 *
 * This program is also the keeper (the driver starts itself anew as `PROGRAM keeper ...`).
 */
#include "control/driver_limits.h"
#include "control/driver_local.h"
#include "control/keeper.h"
#include "control/process_tree.h"
#include "core/ids.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS 20000

/*
 * Writes ticks into its home, and so does a process that has left its parent; a third one stopped itself. In the
 * sandbox "stubborn" a fourth takes no SIGTERM; "broken" does not start.
 */
static const char fake_procd[] =
	"#!/bin/sh\n"
	"if [ \"$1\" = keygen ]; then echo secret >\"$3\"; echo ed25519:KEY >\"$3.pub\"; exit; fi\n"
	"while [ $# -gt 0 ]; do case $1 in --home) home=$2;; --address-file) address=$2;; --sandbox) id=$2;; esac; "
	"shift; done\n"
	"[ \"$id\" != broken ] || exit 7\n"
	"ticks() { while :; do echo tick >>\"$home/$1\"; sleep 0.02; done; }\n"
	"(setsid sh -c 'while :; do echo tick >>\"$0/orphan\"; sleep 0.02; done' \"$home\" &)\n"
	"(sh -c 'echo $$ >\"$0/resting\"; kill -STOP $$; sleep 1000' \"$home\" &)\n"
	"[ \"$id\" != stubborn ] || (sh -c 'trap \"\" TERM HUP INT; while :; do sleep 0.1; done' &)\n"
	"until [ -s \"$home/resting\" ] && [ -s \"$home/orphan\" ]; do sleep 0.01; done\n"
	"echo $$ >\"$home/procd\"\n"
	"env >\"$home/env\"\n"
	"echo 127.0.0.1:7 >\"$address.new\" && mv \"$address.new\" \"$address\"\n"
	"ticks procd_ticks\n";

struct seen {
	char sandbox[SANDBOX_ID_MAX + 1], url[160], key[64], reason[160];
	enum sandbox_state state;
};

struct world {
	char folder[64], boxes[96], procd[96];
	struct driver_local_options o;
	struct driver *driver;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct seen seen[64];
	uint32_t seen_count, read_count;
};

static const char *gateway_keys[] = {"ed25519:GATEWAY", NULL};

static void copy_text(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from ? from : "");
}

static void on_report(void *ctx, const struct driver_report *r)
{
	struct world *w = ctx;
	struct seen *s;

	pthread_mutex_lock(&w->lock);
	assert_true(w->seen_count < ARRAY_LEN(w->seen));
	s = &w->seen[w->seen_count++];
	copy_text(s->sandbox, sizeof(s->sandbox), r->sandbox);
	copy_text(s->url, sizeof(s->url), r->procd_url);
	copy_text(s->key, sizeof(s->key), r->procd_key);
	copy_text(s->reason, sizeof(s->reason), r->reason);
	s->state = r->state;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

static struct seen next_report(struct world *w)
{
	struct timespec until;
	struct seen s;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_MS / 1000;
	pthread_mutex_lock(&w->lock);
	while (w->read_count == w->seen_count && rc == 0)
		rc = pthread_cond_timedwait(&w->changed, &w->lock, &until);
	assert_int_equal(rc, 0);
	s = w->seen[w->read_count++];
	pthread_mutex_unlock(&w->lock);
	return s;
}

static struct seen expect(struct world *w, enum sandbox_state state)
{
	struct seen s = next_report(w);

	if (s.state != state)
		print_message("%s: %s\n", s.sandbox, s.reason);
	assert_int_equal(s.state, state);
	return s;
}

static void start_driver(struct world *w)
{
	char error[256] = "";

	w->o.folder = w->boxes;
	w->o.procd = w->procd;
	w->o.gateway_keys = gateway_keys;
	if (driver_local_new(&w->o, on_report, w, &w->driver, error) < 0)
		print_message("%s\n", error);
	assert_non_null(w->driver);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	FILE *f;

	strcpy(w->folder, "/tmp/test-driver-XXXXXX");
	assert_non_null(mkdtemp(w->folder));
	snprintf(w->boxes, sizeof(w->boxes), "%s/boxes", w->folder);
	snprintf(w->procd, sizeof(w->procd), "%s/procd", w->folder);
	f = fopen(w->procd, "w");
	assert_non_null(f);
	fputs(fake_procd, f);
	fclose(f);
	assert_int_equal(chmod(w->procd, 0755), 0);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->changed, NULL);
	*state = w;
	return 0;
}

static uint32_t process_count(void)
{
	struct process_list l = {0};
	uint32_t count;

	assert_int_equal(process_tree_read(getpid(), &l), 0);
	count = l.count;
	process_list_free(&l);
	return count;
}

static void stop_driver(struct world *w)
{
	if (w->driver)
		w->driver->ops->free(w->driver);
	w->driver = NULL;
	assert_int_equal(process_count(), 0);
}

static int teardown(void **state)
{
	struct world *w = *state;
	char command[128];

	stop_driver(w);
	snprintf(command, sizeof(command), "rm -rf %s", w->folder);
	assert_int_equal(system(command), 0);
	free(w);
	return 0;
}

static struct seen create(struct world *w, const char *id)
{
	assert_int_equal(w->driver->ops->create(w->driver, id), 0);
	return expect(w, SANDBOX_RUNNING);
}

static void path_of(const struct world *w, const char *id, const char *name, char ret_path[256])
{
	snprintf(ret_path, 256, "%s/%s%s%s", w->boxes, id, name[0] ? "/home/" : "", name);
}

static off_t size_of(const struct world *w, const char *id, const char *name)
{
	char path[256];
	struct stat st;

	path_of(w, id, name, path);
	return stat(path, &st) < 0 ? -1 : st.st_size;
}

static long number_in(const struct world *w, const char *id, const char *name)
{
	char path[256];
	long n = -1;
	FILE *f;

	path_of(w, id, name, path);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%ld", &n), 1);
	fclose(f);
	return n;
}

static void pause_ms(long ms)
{
	const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

/* Both writers of a sandbox go on. */
static bool grows(const struct world *w, const char *id)
{
	off_t a = size_of(w, id, "procd_ticks"), b = size_of(w, id, "orphan");
	uint64_t deadline = process_now_ms() + 5000;

	while (process_now_ms() < deadline) {
		if (size_of(w, id, "procd_ticks") > a && size_of(w, id, "orphan") > b)
			return true;
		pause_ms(5);
	}
	return false;
}

static bool stands_still(const struct world *w, const char *id)
{
	off_t a = size_of(w, id, "procd_ticks"), b = size_of(w, id, "orphan");

	pause_ms(300);
	return size_of(w, id, "procd_ticks") == a && size_of(w, id, "orphan") == b;
}

static char state_of(long pid)
{
	char path[64], state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	if (fscanf(f, "%*d %*s %c", &state) != 1)
		state = 0;
	fclose(f);
	return state;
}

static void test_create(void **state)
{
	struct world *w = *state;
	struct seen s;
	char path[256], line[512];
	FILE *f;

	setenv("CONTROL_DATABASE", "secret", 1);
	start_driver(w);
	s = create(w, "rs-one");
	assert_string_equal(s.sandbox, "rs-one");
	assert_string_equal(s.url, "tcp://127.0.0.1:7");
	assert_string_equal(s.key, "ed25519:KEY");
	assert_string_equal(s.reason, "");
	assert_true(grows(w, "rs-one"));
	path_of(w, "rs-one", "env", path);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		assert_null(strstr(line, "CONTROL_DATABASE"));
	fclose(f);
}

static void test_wrong_calls(void **state)
{
	struct world *w = *state;
	const struct driver_ops *ops;

	start_driver(w);
	ops = w->driver->ops;
	create(w, "rs-one");
	assert_int_equal(ops->create(w->driver, "rs-one"), -EEXIST);
	assert_int_equal(ops->create(w->driver, "../rs-two"), -EINVAL);
	assert_int_equal(ops->create(w->driver, ".trash"), -EINVAL);
	assert_int_equal(ops->pause(w->driver, "rs-two"), -ENOENT);
	assert_int_equal(ops->resume(w->driver, "rs-two"), -ENOENT);
	assert_int_equal(ops->remove(w->driver, "rs-two"), -ENOENT);
}

static void test_pause_and_resume(void **state)
{
	struct world *w = *state;
	const struct driver_ops *ops;
	long procd, resting;
	struct seen s;

	start_driver(w);
	ops = w->driver->ops;
	create(w, "rs-one");
	create(w, "rs-two");
	procd = number_in(w, "rs-one", "procd");
	resting = number_in(w, "rs-one", "resting");
	for (int i = 0; i < 3; i++) {
		assert_int_equal(ops->pause(w->driver, "rs-one"), 0);
		s = expect(w, SANDBOX_PAUSED);
		assert_string_equal(s.reason, "");
		assert_int_equal(state_of(procd), 'T');
		assert_true(stands_still(w, "rs-one"));
		assert_true(grows(w, "rs-two"));
		assert_int_equal(ops->resume(w->driver, "rs-one"), 0);
		s = expect(w, SANDBOX_RUNNING);
		assert_string_equal(s.url, "tcp://127.0.0.1:7");
		assert_string_equal(s.key, "ed25519:KEY");
		assert_true(grows(w, "rs-one"));
		/* Its memory stayed, and what its user had stopped rests on. */
		assert_int_equal(number_in(w, "rs-one", "procd"), procd);
		assert_int_not_equal(state_of(procd), 'T');
		assert_int_equal(state_of(resting), 'T');
	}
	/* What is so already is said again. */
	assert_int_equal(ops->resume(w->driver, "rs-one"), 0);
	expect(w, SANDBOX_RUNNING);
}

static void test_remove(void **state)
{
	struct world *w = *state;
	uint64_t deadline = process_now_ms() + WAIT_MS;
	int rc;

	start_driver(w);
	create(w, "rs-one");
	create(w, "stubborn");
	assert_int_equal(w->driver->ops->pause(w->driver, "stubborn"), 0);
	expect(w, SANDBOX_PAUSED);
	assert_int_equal(w->driver->ops->remove(w->driver, "rs-one"), 0);
	assert_int_equal(w->driver->ops->remove(w->driver, "stubborn"), 0);
	/* Until it is over the name is taken. */
	assert_int_equal(w->driver->ops->create(w->driver, "rs-one"), -EBUSY);
	while ((rc = w->driver->ops->create(w->driver, "rs-one")) == -EBUSY && process_now_ms() < deadline) {
		assert_int_equal(w->driver->ops->resume(w->driver, "rs-one"), -ENOENT);
		pause_ms(5);
	}
	assert_int_equal(rc, 0);
	expect(w, SANDBOX_RUNNING);
	while (size_of(w, "stubborn", "") >= 0 && process_now_ms() < deadline)
		pause_ms(5);
	assert_int_equal(size_of(w, "stubborn", ""), -1);
	/* It is another one, not the old one's files. */
	assert_true(size_of(w, "rs-one", "orphan") < 5 * 1000);
	assert_int_equal(w->seen_count, w->read_count);
}

static void test_keeps_files(void **state)
{
	struct world *w = *state;
	uint64_t deadline = process_now_ms() + WAIT_MS;
	long first;

	w->o.keeps_files = true;
	start_driver(w);
	create(w, "stubborn");
	first = number_in(w, "stubborn", "procd");
	assert_int_equal(w->driver->ops->remove(w->driver, "stubborn"), 0);
	while (process_count() > 0 && process_now_ms() < deadline)
		pause_ms(5);
	assert_int_equal(process_count(), 0);
	assert_int_equal(number_in(w, "stubborn", "procd"), first);
}

static void test_procd_dies(void **state)
{
	struct world *w = *state;
	struct seen s;

	start_driver(w);
	create(w, "rs-one");
	assert_int_equal(kill((pid_t)number_in(w, "rs-one", "procd"), SIGKILL), 0);
	s = expect(w, SANDBOX_STOPPED);
	assert_non_null(strstr(s.reason, "signal 9"));
	/* Nothing of it goes on by itself. */
	assert_int_equal(process_count(), 0);
	assert_int_equal(w->driver->ops->pause(w->driver, "rs-one"), 0);
	s = expect(w, SANDBOX_STOPPED);
	assert_non_null(strstr(s.reason, "stopped"));
	assert_int_equal(w->driver->ops->resume(w->driver, "rs-one"), 0);
	expect(w, SANDBOX_RUNNING);
	assert_true(grows(w, "rs-one"));
}

static void test_keeper_is_killed(void **state)
{
	struct world *w = *state;
	struct process_list l = {0};

	start_driver(w);
	create(w, "rs-one");
	create(w, "rs-two");
	assert_int_equal(process_tree_read(getpid(), &l), 0);
	/* Parents come before children, so the first are the keepers. */
	assert_int_equal(kill(l.of[0].pid, SIGKILL), 0);
	process_list_free(&l);
	assert_string_not_equal(expect(w, SANDBOX_STOPPED).reason, "");
	/* The other one lives on, and nothing else. */
	assert_true(grows(w, "rs-one") != grows(w, "rs-two"));
	assert_int_equal(process_tree_read(getpid(), &l), 0);
	for (uint32_t i = 1; i < l.count; i++)
		assert_int_not_equal(l.of[i].parent, getpid());
	process_list_free(&l);
}

static void test_does_not_start(void **state)
{
	struct world *w = *state;
	struct seen s;

	start_driver(w);
	assert_int_equal(w->driver->ops->create(w->driver, "broken"), 0);
	s = expect(w, SANDBOX_STOPPED);
	assert_non_null(strstr(s.reason, "status 7"));
	assert_int_equal(w->driver->ops->resume(w->driver, "broken"), 0);
	expect(w, SANDBOX_STOPPED);
	assert_int_equal(w->driver->ops->remove(w->driver, "broken"), 0);
}

static void test_restart(void **state)
{
	struct world *w = *state;
	const struct driver_ops *ops;
	struct seen s;
	long procd;

	start_driver(w);
	create(w, "rs-one");
	create(w, "stubborn");
	assert_int_equal(w->driver->ops->pause(w->driver, "stubborn"), 0);
	expect(w, SANDBOX_PAUSED);
	procd = number_in(w, "rs-one", "procd");
	stop_driver(w);
	assert_int_equal(w->seen_count, w->read_count);

	start_driver(w);
	ops = w->driver->ops;
	assert_int_equal(ops->restore(w->driver, "stubborn", SANDBOX_PAUSED), 0);
	s = expect(w, SANDBOX_PAUSED);
	assert_string_equal(s.reason, "");
	assert_int_equal(process_count(), 0);
	assert_int_equal(ops->restore(w->driver, "rs-three", SANDBOX_STOPPED), 0);
	expect(w, SANDBOX_STOPPED);
	assert_int_equal(ops->restore(w->driver, "rs-one", SANDBOX_RUNNING), 0);
	expect(w, SANDBOX_RUNNING);
	assert_int_not_equal(number_in(w, "rs-one", "procd"), procd);
	assert_int_equal(ops->resume(w->driver, "stubborn"), 0);
	s = expect(w, SANDBOX_RUNNING);
	assert_string_equal(s.sandbox, "stubborn");
}

static void test_slow_and_failing_resume(void **state)
{
	struct world *w = *state;
	uint64_t began;
	struct seen s;

	w->o.resume_delay_ms = 500;
	start_driver(w);
	create(w, "rs-one");
	assert_int_equal(w->driver->ops->pause(w->driver, "rs-one"), 0);
	expect(w, SANDBOX_PAUSED);
	began = process_now_ms();
	assert_int_equal(w->driver->ops->resume(w->driver, "rs-one"), 0);
	expect(w, SANDBOX_RUNNING);
	assert_true(process_now_ms() - began >= 500);
	stop_driver(w);

	w->o.fails_resume = true;
	start_driver(w);
	assert_int_equal(w->driver->ops->restore(w->driver, "rs-one", SANDBOX_PAUSED), 0);
	expect(w, SANDBOX_PAUSED);
	assert_int_equal(w->driver->ops->resume(w->driver, "rs-one"), 0);
	s = expect(w, SANDBOX_PAUSED);
	assert_string_not_equal(s.reason, "");
	/* Only resumes fail. */
	create(w, "rs-two");
}

/* However fast and mixed the calls come, the last one counts. */
static void test_calls_in_a_row(void **state)
{
	struct world *w = *state;
	const struct driver_ops *ops;
	uint64_t deadline = process_now_ms() + WAIT_MS;

	start_driver(w);
	ops = w->driver->ops;
	assert_int_equal(ops->create(w->driver, "rs-one"), 0);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(ops->pause(w->driver, "rs-one"), 0);
		assert_int_equal(ops->resume(w->driver, "rs-one"), 0);
	}
	assert_int_equal(ops->pause(w->driver, "rs-one"), 0);
	while (next_report(w).state != SANDBOX_PAUSED)
		assert_true(process_now_ms() < deadline);
	assert_true(stands_still(w, "rs-one"));
	assert_int_equal(ops->resume(w->driver, "rs-one"), 0);
	assert_int_equal(ops->remove(w->driver, "rs-one"), 0);
	while (process_count() > 0 && process_now_ms() < deadline)
		pause_ms(5);
	assert_int_equal(process_count(), 0);
}

static void test_many(void **state)
{
	struct world *w = *state;
	char id[32];

	start_driver(w);
	for (int i = 0; i < 2 * LOCAL_STARTS_MAX + 3; i++) {
		snprintf(id, sizeof(id), "rs-%d", i);
		assert_int_equal(w->driver->ops->create(w->driver, id), 0);
	}
	for (int i = 0; i < 2 * LOCAL_STARTS_MAX + 3; i++)
		expect(w, SANDBOX_RUNNING);
}

/* --- process_tree.h --- */

static void *run_on(void *ready)
{
	(void)!write(*(int *)ready, "x", 1);
	for (;;)
		pause();
}

/* A process whose first thread has ended: it looks like a zombie. */
static void leaderless(int ready)
{
	static int fd;
	pthread_t t;

	fd = ready;
	if (pthread_create(&t, NULL, run_on, &fd) != 0)
		_exit(1);
	pthread_exit(NULL);
}

static void test_first_thread_has_ended(void **state)
{
	struct process_list l = {0}, resting;
	uint64_t deadline = process_now_ms() + WAIT_MS;
	int fds[2], status;
	char byte;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0)
		leaderless(fds[1]);
	assert_int_equal(read(fds[0], &byte, 1), 1);
	while (state_of(pid) != 'Z' && process_now_ms() < deadline)
		pause_ms(1);
	assert_int_equal(process_tree_read(getpid(), &l), 0);
	assert_int_equal(l.count, 1);
	assert_int_equal(l.of[0].pid, pid);
	process_list_free(&l);
	assert_int_equal(process_tree_stop(getpid(), process_now_ms() + WAIT_MS, &resting), 0);
	assert_int_equal(process_tree_read(getpid(), &l), 0);
	assert_int_equal(l.of[0].state, 'T');
	process_list_free(&l);
	assert_int_equal(process_tree_continue(getpid(), &resting), 0);
	process_list_free(&resting);
	assert_int_equal(process_tree_signal(getpid(), SIGKILL), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(process_count(), 0);
	close(fds[0]);
	close(fds[1]);
}

/* Names with parentheses and blanks do not lead astray. */
static void test_odd_names(void **state)
{
	struct process_list l = {0};
	int fds[2], status;
	char byte;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_NAME, ") Z 1 (x");
		(void)run_on(&fds[1]);
	}
	assert_int_equal(read(fds[0], &byte, 1), 1);
	assert_int_equal(process_tree_read(getpid(), &l), 0);
	assert_int_equal(l.count, 1);
	assert_int_equal(l.of[0].parent, getpid());
	process_list_free(&l);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(fds[0]);
	close(fds[1]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_thread_has_ended),
		cmocka_unit_test(test_odd_names),
		cmocka_unit_test_setup_teardown(test_create, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_calls, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pause_and_resume, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keeps_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_procd_dies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keeper_is_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_does_not_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_and_failing_resume, setup, teardown),
		cmocka_unit_test_setup_teardown(test_calls_in_a_row, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
	};

	if (argc > 1 && strcmp(argv[1], "keeper") == 0)
		return keeper_main(argc - 1, argv + 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
