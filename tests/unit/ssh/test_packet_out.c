/*
 * Packets that packet_out.c seals, read by libssh's own client: each cipher with each MAC, mixed with packets that libssh seals on the
 * same connection, and across key exchanges that either side begins.
 */
#include "ssh/packet_out.h"

#include "ssh/conn.h"
#include "ssh/host_key.h"
#include "tests/unit/ssh/far_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define KIB 1024
#define WINDOW_BYTES (64 * KIB)

/* mac_bytes: behind each packet. is_covered: the length field is encrypted with the rest, in blocks. */
struct algorithms {
	const char *cipher, *mac;
	size_t block, mac_bytes;
	bool is_covered;
};

#define CTR(bits)                                                                \
	{"aes" bits "-ctr", "hmac-sha2-256-etm@openssh.com", 16, 32, 0},         \
		{"aes" bits "-ctr", "hmac-sha2-512-etm@openssh.com", 16, 64, 0}, \
		{"aes" bits "-ctr", "hmac-sha2-256", 16, 32, 1}, {"aes" bits "-ctr", "hmac-sha2-512", 16, 64, 1}

static const struct algorithms every[] = {
	CTR("128"),
	CTR("192"),
	CTR("256"),
	{"aes128-gcm@openssh.com", "hmac-sha2-256", 16, 16, 0},
	{"aes256-gcm@openssh.com", "hmac-sha2-512-etm@openssh.com", 16, 16, 0},
	{"chacha20-poly1305@openssh.com", "hmac-sha2-256", 8, 16, 0},
};

static char key_path[] = "/tmp/ringgate-test-host.XXXXXX";

struct world {
	struct conn_server *server;
	struct conn *conn;
	struct chan *chan;
	struct chunk_pool pool;
	struct chain out;
	struct far_client far;
	uint64_t wrote[2], got;
	uint32_t keepalives, debugs, adjusts, rekeys;
	uint32_t open_count; /* writes behind which a packet was open */
	bool has_ended;
};

static struct world *of(struct conn *c)
{
	return conn_owner(c);
}

static void on_auth(struct conn *c, const struct auth_query *q)
{
	conn_auth_answer(c, true);
}

static void on_auth_failure(struct conn *c, enum auth_failure why, const char *detail)
{
	fail_msg("%s", detail);
}

static void ignore(struct conn *c)
{
}

static enum chan_answer on_chan_open(struct chan *ch, const struct chan_open *o)
{
	of(chan_conn(ch))->chan = ch;
	return CHAN_YES;
}

static void on_chan_data(struct chan *ch, struct bytes data)
{
	struct world *w = of(chan_conn(ch));

	for (size_t i = 0; i < data.n; i++)
		assert_int_equal(data.p[i], far_byte(false, w->got++));
	chan_grant(ch, (uint32_t)data.n);
	w->adjusts++;
}

static void on_rekeyed(struct conn *c)
{
	of(c)->rekeys++;
}

static void on_end(struct conn *c, const char *reason, bool is_clean)
{
	of(c)->has_ended = true;
	print_message("%s\n", reason);
}

static const struct conn_events events = {
	.on_auth_begin = ignore,
	.on_auth = on_auth,
	.on_auth_failure = on_auth_failure,
	.on_authenticated = ignore,
	.on_chan_open = on_chan_open,
	.on_chan_data = on_chan_data,
	.on_rekeyed = on_rekeyed,
	.on_end = on_end,
};

/* Everything that either side has said reaches the other. */
static void exchange(struct world *w)
{
	struct iovec v;

	for (;;) {
		if (w->conn)
			conn_flush(w->conn);
		if (chain_iov(&w->out, &v, 1) == 1) {
			far_client_input(&w->far, v.iov_base, v.iov_len);
			chain_consume(&w->out, v.iov_len);
		} else if (chain_iov(&w->far.out, &v, 1) == 1) {
			conn_input(w->conn, v.iov_base, v.iov_len);
			chain_consume(&w->far.out, v.iov_len);
		} else {
			break;
		}
		assert_false(w->has_ended);
	}
}

static void begin(struct world *w, const struct algorithms *a, uint64_t rekey_bytes, uint64_t far_rekey_bytes)
{
	struct conn_host_key key = {.type = "ed25519", .path = key_path, .is_active = true};
	struct conn_server_options o = {
		.kex = "curve25519-sha256",
		.ciphers = a->cipher,
		.macs = a->mac,
		.host_key_algorithms = "ssh-ed25519",
		.host_keys = &key,
		.host_key_count = 1,
		.rekey_bytes = rekey_bytes,
		.max_bad_signatures = 1,
		.max_keys = 1,
		.max_channels = 1,
		.window_bytes = WINDOW_BYTES,
		.version = "test",
	};
	char error[256] = "";

	print_message("%s %s\n", a->cipher, a->mac);
	*w = (struct world){0};
	chunk_pool_init(&w->pool);
	chain_init(&w->out, &w->pool);
	assert_int_equal(conn_server_new(&o, &w->server, error), 0);
	w->conn = conn_new(w->server, &events, w, &w->out);
	assert_non_null(w->conn);
	far_client_init(&w->far, a->cipher, a->mac, far_rekey_bytes);
	exchange(w);
	assert_true(w->far.is_open);
	assert_non_null(w->chan);
}

static void forget(struct world *w)
{
	conn_free(w->conn);
	chain_clear(&w->out);
	chunk_pool_deinit(&w->pool);
	conn_server_free(w->server);
	far_client_deinit(&w->far);
}

static void end(struct world *w)
{
	exchange(w);
	assert_int_equal(w->far.got[false], w->wrote[false]);
	assert_int_equal(w->far.got[true], w->wrote[true]);
	assert_int_equal(w->got, w->far.sent);
	assert_int_equal(w->far.keepalives, w->keepalives);
	assert_int_equal(w->far.debugs, w->debugs);
	assert_int_equal(w->far.adjusts, w->adjusts);
	forget(w);
}

/* A packet is open in the chain: it goes this file's way, not libssh's. */
static bool is_open(const struct world *w)
{
	return w->out.is_reserved;
}

static void put(struct world *w, bool is_error, size_t n)
{
	static uint8_t data[256 * KIB];

	assert_true(n <= sizeof(data));
	for (size_t i = 0; i < n; i++)
		data[i] = far_byte(is_error, w->wrote[is_error]++);
	assert_int_equal(chan_write(w->chan, is_error, data, n), 0);
	w->open_count += is_open(w);
}

/* RFC 4253 section 6: whole blocks, and padding of 4 bytes at least; no more of it than that takes. */
static void check_size(const struct algorithms *a, size_t body, size_t packet)
{
	size_t encrypted = packet - a->mac_bytes - (a->is_covered ? 0 : 4);
	size_t padding = packet - a->mac_bytes - 4 - 1 - body;

	assert_int_equal(encrypted % a->block, 0);
	assert_in_range(padding, 4, 4 + a->block - 1);
}

static void test_each_size(void **state)
{
	for (size_t k = 0; k < sizeof(every) / sizeof(every[0]); k++) {
		struct world w;

		begin(&w, &every[k], 0, 0);
		for (size_t n = 1; n <= 70; n++) {
			for (int is_error = 0; is_error < 2; is_error++) {
				put(&w, is_error, n);
				assert_true(is_open(&w));
				assert_int_equal(w.out.bytes, 0);
				conn_flush(w.conn);
				check_size(&every[k], (is_error ? 13 : 9) + n, w.out.bytes);
				exchange(&w);
			}
		}
		put(&w, false, FAR_PACKET_BYTES);
		assert_false(is_open(&w));
		check_size(&every[k], 9 + FAR_PACKET_BYTES, w.out.bytes);
		end(&w);
	}
}

/* What libssh seals by itself between two of ours, and what the client sends meanwhile. */
static void say_something_else(struct world *w, unsigned i)
{
	switch (i % 7) {
	case 0:
		if (!conn_is_rekeying(w->conn)) {
			conn_keepalive(w->conn);
			w->keepalives++;
		}
		break;
	case 1:
		conn_debug(w->conn, "a text of some length");
		w->debugs++;
		break;
	case 2:
		chan_grant(w->chan, i);
		w->adjusts++;
		break;
	case 3:
		far_client_send(&w->far, 1 + i % 3000);
		break;
	case 4:
		far_client_ignore(&w->far, 1 + i);
		exchange(w);
		break;
	default:
		break;
	}
}

static void talk(struct world *w, unsigned rounds)
{
	static const size_t sizes[] = {1, 40, 32767, 17, 100000, 32768, 5, 16, 32769, 3000, 70000};

	for (unsigned i = 0; i < rounds; i++) {
		put(w, i % 5 == 0, sizes[i % 11]);
		say_something_else(w, i);
		if (i % 3 == 0)
			exchange(w);
	}
}

static void test_mixed_with_packets_of_libssh(void **state)
{
	for (size_t k = 0; k < sizeof(every) / sizeof(every[0]); k++) {
		struct world w;

		begin(&w, &every[k], 0, 0);
		talk(&w, 7 * 11);
		assert_int_equal(w.rekeys, 0);
		assert_in_range(w.open_count, 60, 77);
		end(&w);
	}
}

/* Both ways to seal count for it alike: what was said since the last exchange is never far above the limit. */
static void test_the_server_changes_keys(void **state)
{
	for (size_t k = 0; k < sizeof(every) / sizeof(every[0]); k++) {
		struct world w;
		uint64_t least;

		begin(&w, &every[k], 256 * KIB, 0);
		talk(&w, 7 * 11);
		exchange(&w);
		least = (w.wrote[0] + w.wrote[1]) / (256 * KIB + 3 * 100000);
		assert_in_range(w.rekeys, least, (w.wrote[0] + w.wrote[1]) / (128 * KIB));
		assert_in_range(w.open_count, 30, 76); /* not while keys are exchanged, nor right before */
		end(&w);
	}
}

static void test_the_client_changes_keys(void **state)
{
	for (size_t k = 0; k < sizeof(every) / sizeof(every[0]); k++) {
		struct world w;

		begin(&w, &every[k], 0, 8 * KIB);
		talk(&w, 7 * 11);
		exchange(&w);
		assert_in_range(w.rekeys, 2, 77);
		assert_in_range(w.open_count, 30, 76);
		end(&w);
	}
}

/* Without a MAC neither way sends anything: not what is encrypted, and not what is not. */
static void test_nothing_leaves_without_a_mac(void **state)
{
	for (size_t k = 0; k < sizeof(every) / sizeof(every[0]); k++) {
		if (every[k].mac_bytes == 16)
			continue; /* an AEAD cipher */
		for (int is_ours = 0; is_ours < 2; is_ours++) {
			struct world w;

			begin(&w, &every[k], 0, 0);
			if (is_ours)
				put(&w, false, 100);
			assert_int_equal(is_open(&w), is_ours);
			far_mac_fails = true;
			if (is_ours)
				conn_flush(w.conn);
			else
				conn_debug(w.conn, "a text");
			far_mac_fails = false;
			assert_true(w.has_ended);
			assert_int_equal(w.out.bytes, 0);
			forget(&w);
		}
	}
}

static int setup(void **state)
{
	struct host_key key;
	int fd = mkstemp(key_path);
	size_t n;

	assert_true(fd >= 0);
	assert_int_equal(host_key_make("ed25519", &key), 0);
	n = strlen(key.private_text);
	assert_int_equal(write(fd, key.private_text, n), n);
	close(fd);
	host_key_deinit(&key);
	return 0;
}

static int teardown(void **state)
{
	unlink(key_path);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_size),
		cmocka_unit_test(test_mixed_with_packets_of_libssh),
		cmocka_unit_test(test_the_server_changes_keys),
		cmocka_unit_test(test_the_client_changes_keys),
		cmocka_unit_test(test_nothing_leaves_without_a_mac),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
