#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/address.h"
#include "gateway/procd_url.h"

#include <errno.h>
#include <string.h>

static void expect_address(const char *url, const char *text)
{
	struct procd_place p;
	char shown[SOCKET_TEXT_MAX];

	if (procd_url_parse(url, &p) < 0)
		fail_msg("%s is refused", url);
	assert_string_equal(p.host, "");
	assert_string_equal(socket_address_text((struct sockaddr *)&p.addr, p.addr_bytes, shown, sizeof(shown)), text);
}

static void expect_name(const char *url, const char *host, uint16_t port)
{
	struct procd_place p;

	if (procd_url_parse(url, &p) < 0)
		fail_msg("%s is refused", url);
	assert_string_equal(p.host, host);
	assert_int_equal(p.port, port);
}

static void test_good(void **state)
{
	expect_address("tcp://192.0.2.7:40001", "192.0.2.7:40001");
	expect_address("192.0.2.7:1", "192.0.2.7:1");
	expect_address("tcp://[2001:db8::1]:65535", "[2001:db8::1]:65535");
	expect_address("[::1]:8080", "[::1]:8080");
	expect_address("http://10.1.2.3:49983", "10.1.2.3:49983");
	expect_address("http://10.1.2.3:49983/", "10.1.2.3:49983");
	expect_address("http://[fd00::9]:49983/init?x=1", "[fd00::9]:49983");
	expect_address("unix:/run/procd.sock", "unix:/run/procd.sock");
	expect_name("tcp://procd.rs-one.svc.cluster.local:40001", "procd.rs-one.svc.cluster.local", 40001);
	expect_name("rs_one:22", "rs_one", 22);
	expect_name("http://a-b.example.:80/path", "a-b.example.", 80);
}

static void test_bad(void **state)
{
	static const char *const bad[] = {
		"",
		"tcp://",
		"192.0.2.7",
		"192.0.2.7:",
		"192.0.2.7:0",
		"192.0.2.7:65536",
		"192.0.2.7:123456",
		"192.0.2.7:22x",
		"192.0.2.7:-1",
		"tcp://192.0.2.7/:22",
		"https://192.0.2.7:22",
		"ftp://192.0.2.7:22",
		"tcp://tcp://192.0.2.7:22",
		"user@192.0.2.7:22",
		"http://user:pw@192.0.2.7:22",
		"[192.0.2.7]:22",
		"::1:22",
		"[::1:22",
		"[fe80::1%eth0]:22",
		"300.0.2.7:22",
		"127.1:22",
		"2130706433:22",
		"name.0x7f:22x",
		"a..b:22",
		".a:22",
		"-a:22",
		"a b:22",
		"a\nb:22",
		":22",
		"unix:run/procd.sock",
		"unix:",
	};
	struct procd_place p;
	char longest[512];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (procd_url_parse(bad[i], &p) != -EINVAL)
			fail_msg("%s is taken", bad[i]);
	memset(longest, 'a', sizeof(longest));
	strcpy(longest + 254, ":22");
	assert_int_equal(procd_url_parse(longest, &p), -EINVAL);
	strcpy(longest + 253, ":22");
	assert_int_equal(procd_url_parse(longest, &p), 0);
}

static bool holds(const char *cidr, const char *address)
{
	struct sockaddr_storage addr;
	socklen_t bytes;

	assert_int_equal(socket_address_parse(address, &addr, &bytes), 0);
	return cidr_holds(cidr, (struct sockaddr *)&addr);
}

static void test_cidr(void **state)
{
	assert_true(holds("10.0.0.0/8", "10.255.1.2:1"));
	assert_false(holds("10.0.0.0/8", "11.0.0.1:1"));
	assert_true(holds("192.0.2.128/25", "192.0.2.200:1"));
	assert_false(holds("192.0.2.128/25", "192.0.2.100:1"));
	assert_true(holds("192.0.2.7", "192.0.2.7:1"));
	assert_false(holds("192.0.2.7", "192.0.2.8:1"));
	assert_true(holds("0.0.0.0/0", "203.0.113.1:1"));
	assert_false(holds("0.0.0.0/0", "[::1]:1"));
	assert_true(holds("fd00::/8", "[fdff::1]:1"));
	assert_false(holds("fd00::/8", "[fe00::1]:1"));
	assert_true(holds("2001:db8::/33", "[2001:db8:7fff::1]:1"));
	assert_false(holds("2001:db8::/33", "[2001:db8:8000::1]:1"));
	assert_true(holds("10.0.0.0/8", "[::ffff:10.1.1.1]:1"));
	assert_false(holds("::/0", "[::ffff:10.1.1.1]:1"));
	assert_false(holds("10.0.0.0/8", "unix:/x"));
	assert_true(cidr_is_good("10.0.0.0/32"));
	assert_false(cidr_is_good("10.0.0.0/33"));
	assert_false(cidr_is_good("::/129"));
	assert_false(cidr_is_good("10.0.0.0/"));
	assert_false(cidr_is_good("10.0.0.0/+8"));
	assert_false(cidr_is_good("10.0.0.0/8x"));
	assert_false(cidr_is_good("10.0.0/8"));
	assert_false(cidr_is_good("host/8"));
	assert_false(cidr_is_good(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_cidr),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
