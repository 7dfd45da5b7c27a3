#include "gateway/config.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/test_config.XXXXXX";
static char config_path[64], directory_path[64];
static struct config c;

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static int setup(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	snprintf(config_path, sizeof(config_path), "%s/ringgate.yaml", dir);
	snprintf(directory_path, sizeof(directory_path), "%s/directory.yaml", dir);
	write_text(directory_path, "");
	return 0;
}

static int teardown(void **state)
{
	unlink(config_path);
	unlink(directory_path);
	return rmdir(dir);
}

static void load(const char *text)
{
	char error[CONFIG_ERROR_BYTES] = "";

	write_text(config_path, text);
	config_defaults(&c);
	if (config_load(&c, config_path, error) < 0)
		fail_msg("%s", error);
}

/* What the error text says after "FILE:". */
static void expect_load_error(const char *text, const char *says)
{
	char error[CONFIG_ERROR_BYTES] = "";
	size_t n = strlen(config_path);

	write_text(config_path, text);
	config_defaults(&c);
	assert_int_equal(config_load(&c, config_path, error), -EINVAL);
	if (strncmp(error, config_path, n) != 0 || error[n] != ':' || strncmp(error + n + 1, says, strlen(says)) != 0)
		fail_msg("%s\n    where expected: %s", error, says);
}

static void set(const char *assignment)
{
	char error[CONFIG_ERROR_BYTES] = "";

	if (config_set(&c, assignment, error) < 0)
		fail_msg("%s", error);
}

static void expect_set_error(const char *assignment, const char *says)
{
	char error[CONFIG_ERROR_BYTES] = "";

	assert_int_equal(config_set(&c, assignment, error), -EINVAL);
	if (strncmp(error, says, strlen(says)) != 0)
		fail_msg("%s\n    where expected: %s", error, says);
}

static void test_defaults(void **state)
{
	memset(&c, 0xff, sizeof(c));
	config_defaults(&c);
	assert_int_equal(c.listen_count, 1);
	assert_string_equal(c.listen[0], "0.0.0.0:2222");
	assert_true(strlen(c.name) > 0);
	assert_string_equal(c.directory, "");
	assert_string_equal(c.log.file, "-");
	assert_int_equal(c.log.level, LOG_INFO);
	assert_int_equal(c.log.format, LOG_LOGFMT);
	assert_int_equal(c.directory_check_s, 1);
	assert_int_equal(c.login.grace_s, 60);
	assert_int_equal(c.login.max_bad_signatures, 6);
	assert_int_equal(c.login.max_keys, 30);
	assert_int_equal(c.login.start_begin, 100);
	assert_int_equal(c.login.start_rate, 30);
	assert_int_equal(c.login.start_full, 1000);
	assert_int_equal(c.login.per_address, 0);
	assert_int_equal(c.session.max_channels, 256);
	assert_int_equal(c.session.keepalive_s, 30);
	assert_int_equal(c.session.keepalive_count, 3);
	assert_int_equal(c.session.tcp_user_timeout_ms, 120000);
	assert_int_equal(c.session.max_sessions, 10000);
	assert_int_equal(c.session.window_bytes, 2 << 20);
	assert_true(c.session.rekey_bytes == 0);
	assert_int_equal(c.session.rekey_s, 3600);
	assert_int_equal(c.session.accept_env_count, 0);
	assert_int_equal(c.policy.forward_tcp, 1);
	assert_int_equal(c.procd.connect_timeout_ms, 5000);
	assert_int_equal(c.procd.hello_timeout_ms, 5000);
	assert_int_equal(c.procd.ping_s, 30);
	assert_int_equal(c.procd.ping_count, 3);
	assert_int_equal(c.procd.budget_bytes, 8 << 20);
	assert_memory_equal(c.crypto.kex, "mlkem768x25519-sha256,sntrup761x25519-sha512,", 45);
	assert_memory_equal(c.crypto.ciphers, "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-", 55);
	assert_memory_equal(c.crypto.macs, "hmac-sha2-256-etm@openssh.com,", 30);
	assert_string_equal(c.crypto.host_keys, "ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512,rsa-sha2-256");
}

/* Nothing weak is ever offered unasked. */
static void test_defaults_are_strong(void **state)
{
	static const char *const weak[] = {"sha1", "cbc",     "group1-", "group-exchange", "ssh-rsa", "md5",
					   "3des", "arcfour", "none"};

	config_defaults(&c);
	for (size_t i = 0; i < ARRAY_LEN(weak); i++) {
		assert_null(strstr(c.crypto.kex, weak[i]));
		assert_null(strstr(c.crypto.ciphers, weak[i]));
		assert_null(strstr(c.crypto.macs, weak[i]));
		assert_null(strstr(c.crypto.host_keys, weak[i]));
	}
}

static void test_file(void **state)
{
	load("# all kinds\n"
	     "listen: [\"127.0.0.1:0\", \"[::1]:22\"]\n"
	     "name: gw-1.example\n"
	     "directory: /etc/x.yaml\n"
	     "workers: 3\n"
	     "log: {level: debug, format: json, file: /var/log/x}\n"
	     "login:\n"
	     "  grace_s: 5\n"
	     "  unauthenticated:\n"
	     "    begin: 7\n"
	     "    per_address: 9\n"
	     "session:\n"
	     "  rekey_bytes: 1 GiB\n"
	     "  window_bytes: 1048576\n"
	     "  accept_env: [EDITOR, MY_*]\n"
	     "  forward_tcp: none\n"
	     "crypto:\n"
	     "  kex: [curve25519-sha256, ecdh-sha2-nistp521]\n"
	     "  ciphers: aes256-ctr, aes128-gcm@openssh.com\n");
	assert_int_equal(c.listen_count, 2);
	assert_string_equal(c.listen[0], "127.0.0.1:0");
	assert_string_equal(c.listen[1], "[::1]:22");
	assert_string_equal(c.name, "gw-1.example");
	assert_string_equal(c.directory, "/etc/x.yaml");
	assert_int_equal(c.workers, 3);
	assert_int_equal(c.log.level, LOG_DEBUG);
	assert_int_equal(c.log.format, LOG_JSON);
	assert_string_equal(c.log.file, "/var/log/x");
	assert_int_equal(c.login.grace_s, 5);
	assert_int_equal(c.login.start_begin, 7);
	assert_int_equal(c.login.per_address, 9);
	assert_int_equal(c.login.start_full, 1000);
	assert_true(c.session.rekey_bytes == 1ull << 30);
	assert_int_equal(c.session.window_bytes, 1 << 20);
	assert_int_equal(c.session.accept_env_count, 2);
	assert_string_equal(c.session.accept_env[1], "MY_*");
	assert_int_equal(c.policy.forward_tcp, 0);
	assert_string_equal(c.crypto.kex, "curve25519-sha256,ecdh-sha2-nistp521");
	assert_string_equal(c.crypto.ciphers, "aes256-ctr,aes128-gcm@openssh.com");
}

static void test_empty_file(void **state)
{
	load("");
	load("# nothing\n");
	load("session: {accept_env: []}\n");
	assert_int_equal(c.session.accept_env_count, 0);
}

static void test_unknown_keys(void **state)
{
	expect_load_error("x: 1\n", "1: unknown setting 'x'; ringgate --help-settings lists all");
	expect_load_error("\nlisen: []\n", "2: unknown setting 'lisen'; did you mean 'listen'?");
	expect_load_error("login:\n  grace: 5\n", "2: unknown setting 'login.grace'; did you mean 'login.grace_s'?");
	expect_load_error("session: {max_chanels: 5}\n",
			  "1: unknown setting 'session.max_chanels'; did you mean 'session.max_channels'?");
	expect_load_error("max_channels: 5\n",
			  "1: unknown setting 'max_channels'; did you mean 'session.max_channels'?");
	expect_load_error("sesion: {}\n", "1: unknown setting 'sesion'; did you mean 'session'?");
	expect_load_error(
		"login: {unauthenticated: {begn: 1}}\n",
		"1: unknown setting 'login.unauthenticated.begn'; did you mean 'login.unauthenticated.begin'?");
	expect_load_error("\"a\\nb\": 1\n", "1: unknown setting 'a?b'");
}

static void test_wrong_types(void **state)
{
	expect_load_error("login: {grace_s: abc}\n",
			  "1: login.grace_s: 'abc' is no number; allowed: 1 to 3600 seconds");
	expect_load_error("login: {grace_s: \"60\"}\n", "1: login.grace_s: a number is written without quotes");
	expect_load_error("login: {grace_s: [60]}\n",
			  "1: login.grace_s: a list where none is accepted; allowed: 1 to 3600 seconds");
	expect_load_error("login: {grace_s: {a: 1}}\n", "1: login.grace_s: a map where none is accepted");
	expect_load_error("login: {grace_s: }\n", "1: login.grace_s: has no value");
	expect_load_error("login: {grace_s: -1}\n", "1: login.grace_s: '-1' is no number");
	expect_load_error("login: {grace_s: 1.5}\n", "1: login.grace_s: '1.5' is no number");
	expect_load_error("login: {grace_s: 0x10}\n", "1: login.grace_s: '0x10' is no number");
	expect_load_error("login: {grace_s: 1KiB}\n", "1: login.grace_s: '1KiB' is no number");
	expect_load_error("login: 5\n", "1: login: is a section");
	expect_load_error("log: [level]\n", "1: log: is a section");
	expect_load_error("listen: 0.0.0.0:22\n",
			  "1: listen: a value where none is accepted; allowed: a list of at most 16");
	expect_load_error("listen:\n  - \"0.0.0.0:22\"\n  - [x]\n", "3: listen: an entry is no text");
	expect_load_error("name: [x]\n", "1: name: a list where none is accepted");
	expect_load_error("name: null\n", "1: name: has no value");
	expect_load_error("login.grace_s: 5\n",
			  "1: login.grace_s: in the file a dot stands for a map: write login: {grace_s: ...}");
	expect_load_error("[1]\n", "1: a list where settings (key: value) are expected");
	expect_load_error("hello\n", "1: a value where settings (key: value) are expected");
	expect_load_error("name: a\nname: b\n", "2: name stands here twice");
}

static void test_bounds(void **state)
{
	expect_load_error("login: {grace_s: 0}\n", "1: login.grace_s: 0 is out of bounds; allowed: 1 to 3600 seconds");
	expect_load_error("login: {grace_s: 3601}\n", "1: login.grace_s: 3601 is out of bounds");
	expect_load_error("workers: 257\n",
			  "1: workers: 257 is out of bounds; allowed: 0 (one for each core) or 1 to 256");
	expect_load_error("workers: 4294967297\n", "1: workers: 4294967297 is out of bounds");
	expect_load_error("workers: 99999999999999999999999\n", "1: workers: '99999999999999999999999' is no number");
	expect_load_error("session: {window_bytes: 1 KiB}\n",
			  "1: session.window_bytes: 1 KiB is out of bounds; allowed: 32 KiB to 64 MiB");
	expect_load_error("session: {rekey_bytes: 99999999999 GiB}\n",
			  "1: session.rekey_bytes: '99999999999 GiB' is no number");
	expect_load_error("session: {tcp_user_timeout_ms: 5}\n",
			  "1: session.tcp_user_timeout_ms: 5 is out of bounds; allowed: 0 (the system's) or 1000 to "
			  "86400000 milliseconds");
	load("login: {grace_s: 3600}\nsession: {tcp_user_timeout_ms: 0, window_bytes: 64 MiB}\n");
}

static void test_texts(void **state)
{
	char text[6000] = "directory: ";

	expect_load_error("listen: [\"localhost:22\"]\n",
			  "1: listen: 'localhost:22' is not accepted; allowed: ADDR:PORT");
	expect_load_error("listen: [\"0.0.0.0\"]\n", "1: listen: '0.0.0.0' is not accepted");
	expect_load_error("listen: [\"unix:/run/x\"]\n", "1: listen: 'unix:/run/x' is not accepted");
	expect_load_error("listen: [\"0.0.0.0:22\", \"0.0.0.0:22\"]\n", "1: listen: '0.0.0.0:22' stands here twice");
	expect_load_error("name: \"two words\"\n", "1: name: 'two words' is not accepted");
	expect_load_error("directory: \"\"\n", "1: directory: '' is not accepted");
	expect_load_error("log: {level: verbose}\n",
			  "1: log.level: 'verbose' is unknown; allowed: debug, info, warn, error");
	expect_load_error("log: {level: inf}\n", "1: log.level: 'inf' is unknown; did you mean 'info'?");
	expect_load_error("session: {accept_env: [\"*\"]}\n",
			  "1: session.accept_env: '*' is not accepted; allowed: NAME or PREFIX*");
	expect_load_error("session: {accept_env: [\"A*B\"]}\n", "1: session.accept_env: 'A*B' is not accepted");
	expect_load_error("session: {accept_env: [\"1A\"]}\n", "1: session.accept_env: '1A' is not accepted");
	expect_load_error("session: {accept_env: [\"A=B\"]}\n", "1: session.accept_env: 'A=B' is not accepted");
	memset(text + strlen(text), 'x', CONFIG_PATH_MAX);
	strcpy(text + 11 + CONFIG_PATH_MAX, "\n");
	expect_load_error(text, "1: directory: 'xxxx");
	text[11 + CONFIG_PATH_MAX - 1] = '\n';
	text[11 + CONFIG_PATH_MAX] = 0;
	load(text);
}

static void test_jump_names(void **state)
{
	static const char *const bad[] = {"",     "two words", "a:",     "a:0",      "a:65536", "a:1:2", "a:x",
					  "[::1", "[]",        "[::1]x", "[a]",      "*.a",     ":22",   "::1",
					  "a/b",  "[::1]:",    "a:-1",   "a:00001x", "[::1]:0"};
	char text[200];

	load("jump: {names: [gw, GW.example.org:22, \"[fd00::1]\", \"[fd00::1]:2222\", 192.0.2.1, \"a:65535\"]}\n");
	assert_int_equal(c.jump.names_count, 6);
	assert_int_equal(c.jump.depth, 3);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char expected[200];

		snprintf(text, sizeof(text), "jump: {names: [\"%s\"]}\n", bad[i]);
		snprintf(expected, sizeof(expected), "1: jump.names: '%s' is not accepted; allowed: NAME, NAME:PORT",
			 bad[i]);
		expect_load_error(text, expected);
	}
	expect_load_error("jump: {depth: 9}\n", "1: jump.depth: 9 is out of bounds; allowed: 0 (off) or 1 to 8");
}

static void test_lists_are_bounded(void **state)
{
	char text[8192] = "session:\n  accept_env: [";

	for (int i = 0; i < CONFIG_LIST_MAX * 4; i++)
		sprintf(text + strlen(text), "V%d, ", i);
	strcat(text, "]\n");
	load(text);
	assert_int_equal(c.session.accept_env_count, CONFIG_LIST_MAX * 4);
	strcpy(text + strlen(text) - 2, "MORE]\n");
	expect_load_error(text, "2: session.accept_env: too many entries");
	strcpy(text, "listen: [");
	for (int i = 0; i <= CONFIG_LIST_MAX; i++)
		sprintf(text + strlen(text), "\"127.0.0.1:%d\", ", i);
	strcat(text, "]\n");
	expect_load_error(text, "1: listen: 17 entries; allowed: at most 16");
}

static void test_crypto(void **state)
{
	expect_load_error("crypto: {kex: [diffie-hellman-group14-sha1]}\n",
			  "1: crypto.kex: 'diffie-hellman-group14-sha1' is unknown; did "
			  "you mean 'diffie-hellman-group14-sha256'?");
	expect_load_error("crypto: {kex: [diffie-hellman-group-exchange-sha256]}\n",
			  "1: crypto.kex: 'diffie-hellman-group-exchange-sha256'");
	expect_load_error("crypto: {ciphers: [aes128-cbc]}\n", "1: crypto.ciphers: 'aes128-cbc' is unknown");
	expect_load_error("crypto: {ciphers: [none]}\n", "1: crypto.ciphers: 'none' is not among those accepted");
	expect_load_error("crypto: {macs: [hmac-sha1]}\n", "1: crypto.macs: 'hmac-sha1' is not among");
	expect_load_error("crypto: {host_keys: [ssh-rsa]}\n", "1: crypto.host_keys: 'ssh-rsa' is ");
	expect_load_error("crypto: {host_keys: []}\n", "1: crypto.host_keys: names nothing");
	expect_load_error("crypto: {ciphers: \"aes128-ctr,,aes192-ctr\"}\n", "1: crypto.ciphers: '' is ");
	expect_load_error("crypto: {ciphers: [aes128-ctr, aes128-ctr]}\n",
			  "1: crypto.ciphers: 'aes128-ctr' stands here twice");
	expect_load_error("crypto: {ciphers: [\"aes128-ctr,aes192-ctr\"]}\n",
			  "1: crypto.ciphers: 'aes128-ctr,aes192-ctr' is ");
}

static void test_unreadable_files(void **state)
{
	char error[CONFIG_ERROR_BYTES] = "";

	config_defaults(&c);
	assert_int_equal(config_load(&c, "/nonexistent/ringgate.yaml", error), -EINVAL);
	assert_string_equal(error, "/nonexistent/ringgate.yaml: No such file or directory");
	assert_int_equal(config_load(&c, dir, error), -EINVAL);
	assert_non_null(strstr(error, "Is a directory"));
	expect_load_error("a: [\n", "2: ");
}

static void test_set(void **state)
{
	load("login: {grace_s: 5}\n");
	set("login.grace_s=7");
	assert_int_equal(c.login.grace_s, 7);
	set("listen=127.0.0.1:1, [::1]:2");
	assert_int_equal(c.listen_count, 2);
	assert_string_equal(c.listen[1], "[::1]:2");
	set("listen=127.0.0.1:3");
	assert_int_equal(c.listen_count, 1);
	assert_string_equal(c.listen[0], "127.0.0.1:3");
	set("session.accept_env=");
	assert_int_equal(c.session.accept_env_count, 0);
	set("session.window_bytes=4MiB");
	assert_int_equal(c.session.window_bytes, 4 << 20);
	set("directory=/a=b");
	assert_string_equal(c.directory, "/a=b");
	set("crypto.macs=hmac-sha2-512");
	assert_string_equal(c.crypto.macs, "hmac-sha2-512");
	expect_set_error("login.grace_s", "--set login.grace_s: KEY=VALUE is expected");
	expect_set_error("=5", "--set =5: KEY=VALUE is expected");
	expect_set_error("", "--set : KEY=VALUE is expected");
	expect_set_error("login.grace=5", "--set: unknown setting 'login.grace'; did you mean 'login.grace_s'?");
	expect_set_error("login=5", "--set: unknown setting 'login'");
	expect_set_error("login.grace_s=", "--set login.grace_s: '' is no number; allowed: 1 to 3600 seconds");
	expect_set_error("login.grace_s=0", "--set login.grace_s: 0 is out of bounds");
	set("listen=");
	assert_int_equal(c.listen_count, 0);
}

static void expect_check_error(const char *says)
{
	char error[CONFIG_ERROR_BYTES] = "";

	assert_int_equal(config_check(&c, error), -EINVAL);
	if (!strstr(error, says))
		fail_msg("%s\n    where expected: %s", error, says);
}

static void test_check(void **state)
{
	char text[256], error[CONFIG_ERROR_BYTES] = "";

	config_defaults(&c);
	expect_check_error("directory: must be set");
	snprintf(text, sizeof(text), "directory: %s\n", directory_path);
	load(text);
	if (config_check(&c, error) < 0)
		fail_msg("%s", error);
	snprintf(text, sizeof(text), "directory: %s\nlogin:\n  unauthenticated:\n    begin: 5\n    full: 4\n",
		 directory_path);
	load(text);
	expect_check_error(
		"ringgate.yaml:5: login.unauthenticated.full: 4 is less than login.unauthenticated.begin (5)");
	set("login.unauthenticated.full=3");
	expect_check_error("--set login.unauthenticated.full: 3 is less");
	set("listen=");
	expect_check_error("--set listen: names no address");
	load("\ndirectory: /nonexistent/x\n");
	expect_check_error("ringgate.yaml:2: directory: /nonexistent/x: No such file or directory");
	snprintf(text, sizeof(text), "directory: %s\n", dir);
	load(text);
	expect_check_error("is not a regular file");
	snprintf(text, sizeof(text), "directory: %s\nhost_key_dir: %s\n", directory_path, directory_path);
	load(text);
	expect_check_error("ringgate.yaml:2: host_key_dir: ");
	snprintf(text, sizeof(text), "directory: %s\nlog:\n  file: /nonexistent/log\n", directory_path);
	load(text);
	expect_check_error("ringgate.yaml:3: log.file: /nonexistent/log: its folder is not there");
}

/* A file or a control plane answers, not both; Redis only before a control plane, and only with a secret. */
static void test_check_control(void **state)
{
	char text[512], error[CONFIG_ERROR_BYTES] = "";

	snprintf(text, sizeof(text), "directory: %s\ncontrol: {url: \"http://192.0.2.1:80\"}\n", directory_path);
	load(text);
	expect_check_error("ringgate.yaml:2: control.url: directory is set, too");
	snprintf(text, sizeof(text), "directory: %s\nredis: {url: \"redis://192.0.2.1\"}\n", directory_path);
	load(text);
	expect_check_error("redis.url: there is nothing to cache without control.url");
	load("control: {url: \"http://192.0.2.1:80\"}\n");
	if (config_check(&c, error) < 0)
		fail_msg("%s", error);
	set("redis.url=unix:/run/redis");
	expect_check_error("redis.secret_file: must be set where redis.url is");
	set("redis.secret_file=/nonexistent/secret");
	expect_check_error("redis.secret_file: /nonexistent/secret: No such file");
	snprintf(text, sizeof(text), "redis.secret_file=%s", directory_path);
	set(text);
	assert_int_equal(config_check(&c, error), 0); /* what is in it is looked at later */
	set("control.ca_file=/nonexistent/ca");
	expect_check_error("control.ca_file: /nonexistent/ca: No such file");
	expect_load_error("control: {url: \"192.0.2.1:80\"}\n", "1: control.url: '192.0.2.1:80' is not accepted");
	expect_load_error("redis: {url: \"memcached://x\"}\n", "1: redis.url: ");
	expect_load_error("procd: {allow: [10.0.0.0/33]}\n", "1: procd.allow: '10.0.0.0/33' is not accepted");
}

/* What --help-settings prints. The caller frees it. */
static char *printed_settings(void)
{
	char path[128], *text;
	struct stat st;
	int saved, fd;

	snprintf(path, sizeof(path), "%s/settings", dir);
	fflush(stdout);
	saved = dup(STDOUT_FILENO);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(dup2(fd, STDOUT_FILENO), STDOUT_FILENO);
	config_print_settings();
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	assert_int_equal(fstat(fd, &st), 0);
	text = calloc(1, (size_t)st.st_size + 1);
	assert_int_equal(pread(fd, text, (size_t)st.st_size, 0), st.st_size);
	close(fd);
	unlink(path);
	return text;
}

static void test_settings_are_printed(void **state)
{
	static const char *const keys[] = {"listen", "login.unauthenticated.per_address", "session.rekey_bytes",
					   "crypto.host_keys"};
	char *text = printed_settings(), needle[128];

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		snprintf(needle, sizeof(needle), "- `%s`\n", keys[i]);
		assert_non_null(strstr(text, needle));
	}
	assert_non_null(strstr(text, "a number, 1 to 3600 seconds; default: 60."));
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		assert_true(strlen(line) <= 100);
	free(text);
}

/* docs/configuration.md holds exactly what the table says. */
static void test_documentation(void **state)
{
	char *text = printed_settings(), *doc = calloc(1, 1 << 20);
	FILE *f = fopen("docs/configuration.md", "r");

	if (!f)
		fail_msg("docs/configuration.md cannot be read; tests run in the folder above it");
	assert_true(fread(doc, 1, (1 << 20) - 1, f) > 0);
	fclose(f);
	if (!strstr(doc, text))
		fail_msg("docs/configuration.md differs from the settings: put what `ringgate --help-settings` prints "
			 "into it");
	free(text);
	free(doc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),      cmocka_unit_test(test_defaults_are_strong),
		cmocka_unit_test(test_file),          cmocka_unit_test(test_empty_file),
		cmocka_unit_test(test_unknown_keys),  cmocka_unit_test(test_wrong_types),
		cmocka_unit_test(test_bounds),        cmocka_unit_test(test_texts),
		cmocka_unit_test(test_jump_names),    cmocka_unit_test(test_lists_are_bounded),
		cmocka_unit_test(test_crypto),        cmocka_unit_test(test_unreadable_files),
		cmocka_unit_test(test_set),           cmocka_unit_test(test_check),
		cmocka_unit_test(test_check_control), cmocka_unit_test(test_settings_are_printed),
		cmocka_unit_test(test_documentation),
	};

	return cmocka_run_group_tests_name("config", tests, setup, teardown);
}
