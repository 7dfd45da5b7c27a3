#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN
#endif
#elif defined(__SANITIZE_THREAD__)
#define UNDER_TSAN
#endif

static char dir[] = "/tmp/test_log.XXXXXX";
static char path[64], rotated[64];

static int setup(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	return rmdir(dir);
}

static int begin(void **state)
{
	snprintf(path, sizeof(path), "%s/log", dir);
	snprintf(rotated, sizeof(rotated), "%s/log.1", dir);
	return 0;
}

static int end(void **state)
{
	log_stop();
	unlink(path);
	unlink(rotated);
	return 0;
}

static void start(enum log_level level, enum log_format format)
{
	struct log_options o = {.level = level, .format = format, .path = path};

	assert_int_equal(log_start(&o), 0);
}

/* All of a file, NUL after it; the caller frees it. */
static char *content_of(const char *file, size_t *ret_bytes)
{
	int fd = open(file, O_RDONLY);
	struct stat st;
	char *text;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	text = malloc((size_t)st.st_size + 1);
	assert_int_equal(read(fd, text, (size_t)st.st_size), st.st_size);
	text[st.st_size] = 0;
	close(fd);
	if (ret_bytes)
		*ret_bytes = (size_t)st.st_size;
	return text;
}

/* Stops the log; its only line must be this, after the time. */
static void expect_line(const char *expected)
{
	char *text, *rest;

	log_stop();
	text = content_of(path, NULL);
	assert_non_null(strchr(text, '\n'));
	assert_null(strchr(strchr(text, '\n') + 1, '\n'));
	text[strlen(text) - 1] = 0;
	rest = strstr(text, text[0] == '{' ? "\"level\"" : "level=");
	assert_non_null(rest);
	assert_string_equal(rest, expected);
	free(text);
}

static void test_logfmt(void **state)
{
	start(LOG_INFO, LOG_LOGFMT);
	log_event(LOG_WARN, "connect", LOG_STR("client", "127.0.0.1:22"), LOG_U64("n", UINT64_MAX),
		  LOG_I64("i", INT64_MIN), LOG_F3("s", 1.0005), LOG_STR("words", "two words"), LOG_STR("empty", ""),
		  LOG_STR("none", NULL), LOG_BYTES("b", bytes_of("a=b", 3)), LOG_STR("q", "say \"hi\"\\"));
	expect_line(
		"level=warn event=connect client=127.0.0.1:22 n=18446744073709551615 i=-9223372036854775808 s=1.001 "
		"words=\"two words\" empty=\"\" none=\"\" b=\"a=b\" q=\"say \\\"hi\\\"\\\\\"");
}

static void test_json(void **state)
{
	start(LOG_DEBUG, LOG_JSON);
	log_event(LOG_DEBUG, "connect", LOG_STR("client", "127.0.0.1:22"), LOG_U64("n", 7), LOG_I64("i", -7),
		  LOG_F3("s", -0.25), LOG_STR("none", NULL), LOG_F3("nan", 0.0 / 0.0), LOG_F3("inf", 1.0 / 0.0),
		  LOG_F3("zero", -0.0001), LOG_STR("q", "say \"hi\"\\"));
	expect_line(
		"\"level\":\"debug\",\"event\":\"connect\",\"client\":\"127.0.0.1:22\",\"n\":7,\"i\":-7,\"s\":-0.250,"
		"\"none\":null,\"nan\":null,\"inf\":null,\"zero\":0.000,\"q\":\"say \\\"hi\\\"\\\\\"}");
}

/* Line ends of every kind, escape sequences, turned text, bytes that are no UTF-8: one line, and nothing for a terminal. */
#define HOSTILE                                                                                                        \
	"a\nb\rc\td\x1b[2Je\x7f"                                                                                       \
	"f\xc2\x85g\xe2\x80\xa8h\xe2\x80\xaei\xff\xc0\xafj\xed\xa0\x80k\xf4\x90\x80\x80l\xe2\x82m\xc3\xa9\xf0\x9f\x98" \
	"\x80"

static void test_hostile_logfmt(void **state)
{
	start(LOG_INFO, LOG_LOGFMT);
	log_event(LOG_INFO, "x", LOG_STR("v", HOSTILE));
	expect_line("level=info event=x "
		    "v=\"a\\nb\\rc\\td\\u001b[2Je\\u007ff\\u0085g\\u2028h\\u202ei\\xff\\xc0\\xafj\\xed\\xa0\\x80"
		    "k\\xf4\\x90\\x80\\x80l\\xe2\\x82m\xc3\xa9\xf0\x9f\x98\x80\"");
}

static void test_hostile_json(void **state)
{
	start(LOG_INFO, LOG_JSON);
	log_event(LOG_INFO, "x", LOG_STR("v", HOSTILE), LOG_BYTES("nul", bytes_of("a\0b", 3)));
	expect_line(
		"\"level\":\"info\",\"event\":\"x\",\"v\":\"a\\nb\\rc\\td\\u001b[2Je\\u007ff\\u0085g\\u2028h\\u202ei"
		"\\ufffd\\ufffd\\ufffdj\\ufffd\\ufffd\\ufffdk\\ufffd\\ufffd\\ufffd\\ufffdl\\ufffd\\ufffdm\xc3\xa9\xf0"
		"\x9f\x98\x80\","
		"\"nul\":\"a\\u0000b\"}");
}

/* Random bytes in both forms: lines are never broken, and only printable ASCII and good UTF-8 come out. */
static void test_random_bytes_stay_one_line(void **state)
{
	uint32_t seed = 1;
	size_t n, lines = 0;
	char *text;

	for (int format = LOG_LOGFMT; format <= LOG_JSON; format++) {
		start(LOG_INFO, (enum log_format)format);
		for (int i = 0; i < 200; i++) {
			uint8_t bytes[LOG_VALUE_MAX + 40];
			size_t count = (size_t)i * sizeof(bytes) / 199;

			for (size_t k = 0; k < count; k++) {
				seed = seed * 1664525 + 1013904223;
				bytes[k] = (uint8_t)(seed >> 24);
			}
			log_event(LOG_INFO, "x", LOG_BYTES("v", bytes_of(bytes, count)));
		}
		log_stop();
	}
	text = content_of(path, &n);
	for (size_t i = 0; i < n; i++) {
		lines += text[i] == '\n';
		if (text[i] != '\n' && ((uint8_t)text[i] < ' ' || text[i] == 0x7f))
			fail_msg("byte %02x came out", (uint8_t)text[i]);
	}
	assert_int_equal(lines, 400);
	free(text);
}

static void test_long_values_are_cut(void **state)
{
	char value[2 * LOG_VALUE_MAX], expected[2 * LOG_VALUE_MAX];
	int n;

	/* A two-byte character on the place of the cut goes whole. */
	memset(value, 'a', sizeof(value) - 1);
	value[sizeof(value) - 1] = 0;
	memcpy(value + LOG_VALUE_MAX - 4, "\xc3\xa9", 2);
	start(LOG_INFO, LOG_JSON);
	log_event(LOG_INFO, "x", LOG_STR("v", value));
	n = snprintf(expected, sizeof(expected), "\"level\":\"info\",\"event\":\"x\",\"v\":\"%.*s...\"}",
		     LOG_VALUE_MAX - 4, value);
	assert_true(n > 0);
	expect_line(expected);
}

static void test_exactly_the_limit_is_kept(void **state)
{
	char value[LOG_VALUE_MAX + 1], expected[2 * LOG_VALUE_MAX];

	memset(value, 'b', LOG_VALUE_MAX);
	value[LOG_VALUE_MAX] = 0;
	start(LOG_INFO, LOG_LOGFMT);
	log_event(LOG_INFO, "x", LOG_STR("v", value));
	snprintf(expected, sizeof(expected), "level=info event=x v=%s", value);
	expect_line(expected);
}

/* Fields that do not fit are left out whole, and counted. */
static void test_long_records_are_cut_at_a_field(void **state)
{
	static const char tail[] = "\",\"cut\":19}\n";
	struct log_field fields[20];
	char value[LOG_VALUE_MAX + 1], *text;
	size_t n;

	memset(value, 1, LOG_VALUE_MAX); /* six characters each */
	value[LOG_VALUE_MAX] = 0;
	for (int i = 0; i < 20; i++)
		fields[i] = LOG_STR("v", value);
	start(LOG_INFO, LOG_JSON);
	log_write(LOG_INFO, "x", fields, 20);
	log_stop();
	text = content_of(path, &n);
	assert_true(n <= LOG_RECORD_MAX);
	assert_string_equal(text + n - strlen(tail), tail);
	free(text);
}

static void test_level(void **state)
{
	start(LOG_WARN, LOG_LOGFMT);
	log_event(LOG_INFO, "no", LOG_U64("n", 1));
	log_event(LOG_DEBUG, "no", LOG_U64("n", 1));
	log_event(LOG_ERROR, "yes", LOG_U64("n", 2));
	expect_line("level=error event=yes n=2");
}

static void test_time(void **state)
{
	struct tm tm = {0};
	char *text, *dot;
	time_t before, at;

	start(LOG_INFO, LOG_LOGFMT);
	before = time(NULL);
	log_event(LOG_INFO, "x", LOG_U64("n", 1));
	log_stop();
	text = content_of(path, NULL);
	dot = strptime(text, "ts=%Y-%m-%dT%H:%M:%S", &tm);
	assert_non_null(dot);
	assert_true(dot[0] == '.' && strspn(dot + 1, "0123456789") == 3 && dot[4] == 'Z' && dot[5] == ' ');
	at = timegm(&tm);
	assert_in_range(at, before, before + 5);
	free(text);
}

static void test_reopen(void **state)
{
	char *text;

	start(LOG_INFO, LOG_LOGFMT);
	log_event(LOG_INFO, "one", LOG_U64("n", 1));
	/* As logrotate does it: what waits still goes to the old file. */
	assert_int_equal(rename(path, rotated), 0);
	log_event(LOG_INFO, "two", LOG_U64("n", 2));
	log_reopen();
	for (int i = 0; access(path, F_OK) < 0; i++) {
		assert_true(i < 5000);
		usleep(1000);
	}
	log_event(LOG_INFO, "three", LOG_U64("n", 3));
	expect_line("level=info event=three n=3");
	text = content_of(rotated, NULL);
	assert_non_null(strstr(text, "event=one n=1\n"));
	assert_non_null(strstr(text, "event=two n=2\n"));
	free(text);
}

static void test_appends_to_a_file(void **state)
{
	char *text;

	for (int i = 0; i < 2; i++) {
		start(LOG_INFO, LOG_LOGFMT);
		log_event(LOG_INFO, "x", LOG_I64("i", i));
		log_stop();
	}
	text = content_of(path, NULL);
	assert_non_null(strstr(text, "i=0\n"));
	assert_non_null(strstr(text, "i=1\n"));
	free(text);
}

static void test_start_fails(void **state)
{
	struct log_options o = {.path = "/nonexistent/dir/log"};
	struct log_options again = {.path = path};

	assert_int_equal(log_start(&o), -ENOENT);
	start(LOG_INFO, LOG_LOGFMT);
	assert_int_equal(log_start(&again), -EALREADY);
}

/* Threads at once: no record is lost, torn or out of its thread's order. */
#define THREADS 4
#define EACH 500

static void *writer(void *arg)
{
	for (uint64_t i = 0; i < EACH; i++) {
		log_event(LOG_INFO, "x", LOG_U64("t", (uint64_t)(uintptr_t)arg), LOG_U64("i", i),
			  LOG_STR("pad", "0123456789"));
		/* The queue holds all of them, but let the log thread have a turn. */
		if (i % 100 == 0)
			usleep(100);
	}
	return NULL;
}

static void test_threads(void **state)
{
	unsigned next[THREADS] = {0};
	pthread_t threads[THREADS];
	char *text, *line;

	start(LOG_INFO, LOG_LOGFMT);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, writer, (void *)i), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	log_stop();
	text = content_of(path, NULL);
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		unsigned t, i;
		char pad[16];

		assert_int_equal(sscanf(line, "ts=%*s level=info event=x t=%u i=%u pad=%15s", &t, &i, pad), 3);
		assert_string_equal(pad, "0123456789");
		assert_true(t < THREADS);
		assert_int_equal(i, next[t]++);
	}
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(next[i], EACH);
	free(text);
}

/* A pipe that nobody reads stands for a file that cannot take more. */
struct pipe_reader {
	int fd;
	char *text;
	size_t n;
};

static void *read_all(void *arg)
{
	struct pipe_reader *r = arg;
	ssize_t got;

	r->text = malloc(8 << 20);
	while ((got = read(r->fd, r->text + r->n, (8 << 20) - 1 - r->n)) > 0)
		r->n += (size_t)got;
	r->text[r->n] = 0;
	return NULL;
}

static void test_full_queue_drops_and_says_so(void **state)
{
	struct pipe_reader reader = {0};
	int saved = dup(STDERR_FILENO), ends[2];
	struct log_options o = {.level = LOG_INFO, .path = "-"};
	unsigned written = 0, dropped = 0, total = 20000;
	char value[201], *line;
	pthread_t thread;

	memset(value, 'v', 200);
	value[200] = 0;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
	close(ends[1]);
	assert_int_equal(log_start(&o), 0);
	/* Some 5 MB into a queue of 1 MiB: returns at once though nobody reads. */
	for (unsigned i = 0; i < total; i++)
		log_event(LOG_INFO, "x", LOG_STR("v", value));
	reader.fd = ends[0];
	assert_int_equal(pthread_create(&thread, NULL, read_all, &reader), 0);
	log_stop();
	dup2(saved, STDERR_FILENO);
	close(saved);
	pthread_join(thread, NULL);
	close(ends[0]);
	for (line = strtok(reader.text, "\n"); line; line = strtok(NULL, "\n")) {
		unsigned count;

		if (sscanf(line, "ts=%*s level=warn event=log_dropped count=%u", &count) == 1)
			dropped += count;
		else
			written += strstr(line, "event=x v=vvv") != NULL;
	}
	free(reader.text);
	assert_true(dropped > 0);
	assert_true(written * 200 <= LOG_QUEUE_BYTES + (64 << 10));
	assert_int_equal(written + dropped, total);
}

/* Nobody will ever read: stopping gives up after a while instead of hanging. */
static void test_stop_does_not_hang(void **state)
{
	int status;
	pid_t pid;

#ifdef UNDER_TSAN
	print_message("skip: ThreadSanitizer allows no new thread after a fork\n");
	skip();
#endif
	pid = fork();
	if (pid == 0) {
		struct log_options o = {.level = LOG_INFO, .path = "-"};
		int ends[2];

		alarm(20);
		if (pipe(ends) < 0 || dup2(ends[1], STDERR_FILENO) < 0 || log_start(&o) < 0)
			_exit(1);
		for (int i = 0; i < 5000; i++)
			log_event(LOG_INFO, "x", LOG_STR("v", "0123456789012345678901234567890123456789"));
		log_stop();
		log_event(LOG_INFO, "after", LOG_U64("n", 1));
		_exit(7);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
}

/* A child has no log thread: its records go out at once, and what waits in the parent is written once. */
static void test_fork(void **state)
{
	char *text;
	int status;
	pid_t pid;

	start(LOG_INFO, LOG_LOGFMT);
	log_event(LOG_INFO, "parent", LOG_U64("n", 1));
	pid = fork();
	if (pid == 0) {
		log_event(LOG_INFO, "child", LOG_U64("n", 2));
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	log_event(LOG_INFO, "parent", LOG_U64("n", 3));
	log_stop();
	text = content_of(path, NULL);
	for (int i = 1; i <= 3; i++) {
		char expected[16];
		const char *at;

		snprintf(expected, sizeof(expected), " n=%d\n", i);
		at = strstr(text, expected);
		assert_non_null(at);
		assert_null(strstr(at + 1, expected));
	}
	free(text);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		T(test_logfmt),
		T(test_json),
		T(test_hostile_logfmt),
		T(test_hostile_json),
		T(test_random_bytes_stay_one_line),
		T(test_long_values_are_cut),
		T(test_exactly_the_limit_is_kept),
		T(test_long_records_are_cut_at_a_field),
		T(test_level),
		T(test_time),
		T(test_reopen),
		T(test_appends_to_a_file),
		T(test_start_fails),
		T(test_threads),
		T(test_full_queue_drops_and_says_so),
		T(test_stop_does_not_hang),
		T(test_fork),
	};

	return cmocka_run_group_tests_name("log", tests, setup, teardown);
}
