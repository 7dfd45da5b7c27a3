/*
 * tests/unit/upstream/test_proof.c - tickets, signatures, key files.
 */
#include "upstream/procd/proof.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/test_proof.XXXXXX";

static const char *path_in(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void write_file(const char *name, const void *p, size_t n, mode_t mode)
{
	int fd = open(path_in(name), O_WRONLY | O_CREAT | O_TRUNC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, n), n);
	close(fd);
	assert_int_equal(chmod(path_in(name), mode), 0);
}

static struct ticket sample(void)
{
	return (struct ticket){
		.sandbox = "box-1",
		.user = "alice",
		.team = "",
		.session = "00112233445566778899aabbccddeeff",
		.gateway = "gw-1",
		.client = "[2001:db8::1]:50000",
		.issued = 1700000000,
	};
}

static void test_ticket(void **state)
{
	struct ticket t = sample(), back;
	uint8_t wire[TICKET_MAX];
	ssize_t n = ticket_encode(&t, wire, sizeof(wire));

	assert_true(n > 0);
	assert_int_equal(ticket_decode(bytes_of(wire, (size_t)n), &back), 0);
	assert_string_equal(back.sandbox, t.sandbox);
	assert_string_equal(back.user, t.user);
	assert_string_equal(back.team, t.team);
	assert_string_equal(back.session, t.session);
	assert_string_equal(back.gateway, t.gateway);
	assert_string_equal(back.client, t.client);
	assert_int_equal(back.issued, t.issued);
	assert_int_equal(ticket_encode(&t, wire, (size_t)n - 1), -ENOBUFS);
	for (ssize_t i = 0; i < n; i++) {
		uint8_t *copy = malloc((size_t)i + 1);

		ssize_t whole = ticket_encode(&t, wire, sizeof(wire));

		assert_int_equal(whole, n);
		memcpy(copy, wire, (size_t)i);
		assert_int_equal(ticket_decode(bytes_of(copy, (size_t)i), &back), -EPROTO);
		free(copy);
	}
}

static void refuse(const char *wire, size_t n)
{
	struct ticket back;

	assert_int_equal(ticket_decode(bytes_of(wire, n), &back), -EPROTO);
}

static void test_ticket_wrong(void **state)
{
	struct ticket t = sample(), back;
	uint8_t wire[TICKET_MAX + 1];
	ssize_t n;

	refuse("", 0);
	refuse("\x80", 1);
	refuse("\xdf\xff\xff\xff\xff", 5);
	refuse("\xdd\xff\xff\xff\xff", 5);
	/* A control character: logs would be broken by it. */
	t.client[0] = '\n';
	n = ticket_encode(&t, wire, sizeof(wire));
	refuse((char *)wire, (size_t)n);
	/* Something behind it. */
	t = sample();
	n = ticket_encode(&t, wire, sizeof(wire));
	wire[n] = 0xc0;
	refuse((char *)wire, (size_t)n + 1);
	/* A name that is too long: sandbox is the first, fixstr. */
	n = ticket_encode(&t, wire, sizeof(wire));
	assert_int_equal(ticket_decode(bytes_of(wire, (size_t)n), &back), 0);
	for (int i = 0; i < 100000; i++) {
		n = ticket_encode(&t, wire, sizeof(wire));
		for (int k = rand() % 4; k >= 0; k--)
			wire[rand() % n] = (uint8_t)rand();
		(void)!ticket_decode(bytes_of(wire, (size_t)n), &back);
	}
}

static void make_keys(struct proof_secret *secret, struct proof_public *public, const char *name)
{
	assert_int_equal(proof_keygen(path_in(name), public), 0);
	assert_int_equal(proof_secret_load(path_in(name), secret), 0);
}

static void test_hello(void **state)
{
	struct proof_secret gw, other;
	struct proof_public gw_public, other_public;
	uint8_t challenge[32], signature[64], ticket[] = "ticket";
	struct bytes t = bytes_of(ticket, 6), s = bytes_of(signature, 64);

	make_keys(&gw, &gw_public, "gw");
	make_keys(&other, &other_public, "other");
	proof_random(challenge, sizeof(challenge));
	proof_hello_sign(&gw, challenge, t, signature);
	assert_true(proof_hello_verify(&gw_public, challenge, t, s));
	assert_false(proof_hello_verify(&other_public, challenge, t, s));
	/* Good for this challenge, this ticket, this purpose and whole only. */
	challenge[31] ^= 1;
	assert_false(proof_hello_verify(&gw_public, challenge, t, s));
	challenge[31] ^= 1;
	ticket[5] ^= 1;
	assert_false(proof_hello_verify(&gw_public, challenge, t, s));
	ticket[5] ^= 1;
	assert_false(proof_welcome_verify(&gw_public, challenge, t, s));
	assert_false(proof_hello_verify(&gw_public, challenge, t, bytes_of(signature, 63)));
	assert_false(proof_hello_verify(&gw_public, challenge, t, bytes_of(NULL, 0)));
	assert_false(proof_hello_verify(&gw_public, challenge, bytes_of(NULL, 0), s));
	for (int i = 0; i < 64; i++) {
		signature[i] ^= 0x10;
		assert_false(proof_hello_verify(&gw_public, challenge, t, s));
		signature[i] ^= 0x10;
	}
	assert_true(proof_hello_verify(&gw_public, challenge, t, s));
	proof_secret_wipe(&gw);
	for (size_t i = 0; i < sizeof(gw.key); i++)
		assert_int_equal(gw.key[i], 0);
}

static void test_welcome(void **state)
{
	struct proof_secret box;
	struct proof_public box_public, from_secret;
	uint8_t challenge[32], signature[64], ticket[] = "ticket";
	struct bytes t = bytes_of(ticket, 6), s = bytes_of(signature, 64);

	make_keys(&box, &box_public, "box");
	proof_secret_public(&box, &from_secret);
	assert_memory_equal(&box_public, &from_secret, sizeof(box_public));
	proof_random(challenge, sizeof(challenge));
	proof_welcome_sign(&box, challenge, t, signature);
	assert_true(proof_welcome_verify(&box_public, challenge, t, s));
	assert_false(proof_hello_verify(&box_public, challenge, t, s));
	ticket[0] ^= 1;
	assert_false(proof_welcome_verify(&box_public, challenge, t, s));
	ticket[0] ^= 1;
	challenge[0] ^= 1;
	assert_false(proof_welcome_verify(&box_public, challenge, t, s));
	assert_false(proof_welcome_verify(&box_public, challenge, t, bytes_of(NULL, 0)));
}

/* RFC 8032, section 7.1, test 1: the seed's public key. */
static void test_known_key(void **state)
{
	static const char seed_line[] = "ed25519-private:nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=\n";
	static const char public_text[] = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
	struct proof_secret secret;
	struct proof_public public;
	char text[PROOF_PUBLIC_TEXT_MAX];

	write_file("known", seed_line, sizeof(seed_line) - 1, 0600);
	assert_int_equal(proof_secret_load(path_in("known"), &secret), 0);
	proof_secret_public(&secret, &public);
	proof_public_format(&public, text);
	assert_string_equal(text, public_text);
	assert_int_equal(proof_public_parse(" \ted25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\r\n", &public), 0);
}

static void test_key_text_wrong(void **state)
{
	static const char *const wrong[] = {
		"",
		"ed25519:",
		"ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHUQ==",
		"ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHUQAA",
		"ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=x",
		"ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo",
		"ed25519:!1qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
		"ED25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
		"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJNGkQ",
		"ed25519-private:nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=",
	};
	struct proof_public public;

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		assert_int_equal(proof_public_parse(wrong[i], &public), -EINVAL);
}

static void test_files(void **state)
{
	static const char line[] = "ed25519-private:nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
	char long_line[2000], pub[256];
	struct proof_secret secret;
	struct proof_public public, again;
	struct stat st;

	assert_int_equal(proof_keygen(path_in("new"), &public), 0);
	assert_int_equal(stat(path_in("new"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	snprintf(pub, sizeof(pub), "%s.pub", path_in("new"));
	assert_int_equal(proof_public_load(pub, &again), 0);
	assert_memory_equal(&public, &again, sizeof(public));
	/* Never over an old key, and the old one is still whole. */
	assert_int_equal(proof_keygen(path_in("new"), &again), -EEXIST);
	assert_int_equal(proof_secret_load(path_in("new"), &secret), 0);
	proof_secret_public(&secret, &again);
	assert_memory_equal(&public, &again, sizeof(public));

	assert_int_equal(proof_secret_load(path_in("absent"), &secret), -ENOENT);
	assert_int_equal(proof_keygen(path_in("no/folder"), &again), -ENOENT);
	write_file("open", line, sizeof(line) - 1, 0640);
	assert_int_equal(proof_secret_load(path_in("open"), &secret), -EACCES);
	write_file("ok", line, sizeof(line) - 1, 0400);
	assert_int_equal(proof_secret_load(path_in("ok"), &secret), 0);
	write_file("nul", line, sizeof(line), 0600);
	assert_int_equal(proof_secret_load(path_in("nul"), &secret), -EINVAL);
	write_file("empty", "", 0, 0600);
	assert_int_equal(proof_secret_load(path_in("empty"), &secret), -EINVAL);
	memset(long_line, ' ', sizeof(long_line));
	memcpy(long_line, line, sizeof(line) - 1);
	write_file("long", long_line, sizeof(long_line), 0600);
	assert_int_equal(proof_secret_load(path_in("long"), &secret), -EINVAL);
	assert_int_equal(proof_public_load(path_in("new"), &again), -EINVAL);
}

static int setup(void **state)
{
	return !mkdtemp(dir) || proof_init() < 0;
}

static int teardown(void **state)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) != 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ticket),    cmocka_unit_test(test_ticket_wrong),
		cmocka_unit_test(test_hello),     cmocka_unit_test(test_welcome),
		cmocka_unit_test(test_known_key), cmocka_unit_test(test_key_text_wrong),
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
