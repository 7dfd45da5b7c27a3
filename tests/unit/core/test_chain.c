#include "core/chain.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define UNDER_SANITIZER
#endif
#elif defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define UNDER_SANITIZER
#endif

#define DATA_BYTES (CHUNK_BYTES - 16)

/* Bytes that tell where they belong. */
static uint8_t pattern(size_t at)
{
	return (uint8_t)(at * 131 + (at >> 9));
}

struct fixture {
	struct chunk_pool pool;
	struct chain chain;
	size_t in, out; /* how many bytes were appended and consumed so far */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	chunk_pool_init(&f->pool);
	chain_init(&f->chain, &f->pool);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	chain_clear(&f->chain);
	chunk_pool_deinit(&f->pool);
	free(f);
	return 0;
}

static void append(struct fixture *f, size_t n)
{
	uint8_t *p = malloc(n + 1);

	for (size_t i = 0; i < n; i++)
		p[i] = pattern(f->in + i);
	assert_int_equal(chain_append(&f->chain, p, n), 0);
	free(p);
	f->in += n;
}

/* All queued bytes are the pattern from f->out on, and their count is right. */
static void check_content(struct fixture *f)
{
	struct iovec iov[64];
	int count = chain_iov(&f->chain, iov, 64);
	size_t at = f->out;

	for (int i = 0; i < count; i++) {
		assert_true(iov[i].iov_len > 0);
		for (size_t k = 0; k < iov[i].iov_len; k++, at++)
			if (((uint8_t *)iov[i].iov_base)[k] != pattern(at))
				fail_msg("byte %zu is wrong", at);
	}
	assert_int_equal(at, f->in);
	assert_int_equal(f->chain.bytes, f->in - f->out);
}

static void consume(struct fixture *f, size_t n)
{
	chain_consume(&f->chain, n);
	f->out += n;
}

static void test_empty_holds_nothing(void **state)
{
	struct fixture *f = *state;
	struct iovec iov[4];

	assert_int_equal(chain_iov(&f->chain, iov, 4), 0);
	assert_int_equal(f->pool.used_count, 0);
	chain_consume(&f->chain, 0);
	assert_int_equal(chain_append(&f->chain, NULL, 0), 0);
	assert_int_equal(f->pool.used_count, 0);
}

static void test_append_across_chunks(void **state)
{
	struct fixture *f = *state;

	append(f, 1);
	append(f, DATA_BYTES - 2);
	assert_int_equal(f->pool.used_count, 1);
	append(f, 1);
	assert_int_equal(f->pool.used_count, 1);
	append(f, 1);
	assert_int_equal(f->pool.used_count, 2);
	append(f, 3 * DATA_BYTES + 5);
	assert_int_equal(f->pool.used_count, 5);
	check_content(f);
}

static void test_consume_in_odd_steps(void **state)
{
	static const size_t steps[] = {1, 7, DATA_BYTES - 8, DATA_BYTES, 3, DATA_BYTES + 1, 2 * DATA_BYTES};
	struct fixture *f = *state;

	append(f, 6 * DATA_BYTES + 100);
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		consume(f, steps[i]);
		check_content(f);
	}
	consume(f, f->in - f->out);
	check_content(f);
	assert_int_equal(f->pool.used_count, 0);
	assert_null(f->chain.head);
	assert_null(f->chain.tail);
}

static void test_bytes_stay_in_place(void **state)
{
	struct fixture *f = *state;
	struct iovec before[4], after[4];

	append(f, 2 * DATA_BYTES);
	assert_int_equal(chain_iov(&f->chain, before, 4), 2);
	append(f, DATA_BYTES);
	assert_int_equal(chain_iov(&f->chain, after, 4), 3);
	for (int i = 0; i < 2; i++) {
		assert_ptr_equal(before[i].iov_base, after[i].iov_base);
		assert_int_equal(before[i].iov_len, after[i].iov_len);
	}
}

static void test_iov_is_limited(void **state)
{
	struct fixture *f = *state;
	struct iovec iov[4] = {{0}};

	append(f, 4 * DATA_BYTES);
	assert_int_equal(chain_iov(&f->chain, iov, 2), 2);
	assert_null(iov[2].iov_base);
	assert_int_equal(iov[0].iov_len + iov[1].iov_len, 2 * DATA_BYTES);
	assert_int_equal(chain_iov(&f->chain, iov, 0), 0);
}

static void test_reserve_and_commit(void **state)
{
	struct fixture *f = *state;
	uint8_t *p = chain_reserve(&f->chain, 100);

	assert_non_null(p);
	assert_int_equal(f->chain.bytes, 0);
	/* Less than was asked for. */
	for (size_t i = 0; i < 60; i++)
		p[i] = pattern(i);
	chain_commit(&f->chain, 60);
	f->in = 60;
	check_content(f);
	/* The rest of the chunk serves the next. */
	assert_ptr_equal(chain_reserve(&f->chain, 100), p + 60);
	chain_commit(&f->chain, 0);
	/* More than is left begins a chunk; what was before stays first. */
	append(f, DATA_BYTES - 60 - 10);
	p = chain_reserve(&f->chain, DATA_BYTES);
	assert_non_null(p);
	for (size_t i = 0; i < DATA_BYTES; i++)
		p[i] = pattern(f->in + i);
	chain_commit(&f->chain, DATA_BYTES);
	f->in += DATA_BYTES;
	check_content(f);
	append(f, 20);
	check_content(f);
	consume(f, f->in - f->out);
	assert_int_equal(f->pool.used_count, 0);
}

/* What is consumed or cleared meanwhile takes nothing from under the writer. */
static void test_reservation_outlives_consume(void **state)
{
	struct fixture *f = *state;
	uint8_t *p;

	append(f, DATA_BYTES + 50);
	p = chain_reserve(&f->chain, 100);
	assert_non_null(p);
	consume(f, f->in);
	assert_int_equal(f->chain.bytes, 0);
	assert_int_equal(f->pool.used_count, 1);
	chain_clear(&f->chain);
	assert_int_equal(f->pool.used_count, 1);
	for (size_t i = 0; i < 100; i++)
		p[i] = pattern(f->in + i);
	chain_commit(&f->chain, 100);
	f->in += 100;
	check_content(f);
	consume(f, 100);
	assert_int_equal(f->pool.used_count, 0);
}

/* A chunk that was reserved and never written must not hide what comes behind it, nor stay for ever. */
static void test_reserved_and_left_empty(void **state)
{
	struct fixture *f = *state;

	assert_non_null(chain_reserve(&f->chain, 10));
	chain_commit(&f->chain, 0);
	assert_int_equal(f->pool.used_count, 0); /* an empty chain holds no memory */
	check_content(f);
	append(f, DATA_BYTES + 1);
	check_content(f);
	consume(f, f->in);
	assert_int_equal(f->pool.used_count, 0);
	append(f, DATA_BYTES - 5);
	assert_non_null(chain_reserve(&f->chain, 6));
	chain_commit(&f->chain, 0);
	assert_int_equal(f->pool.used_count, 2);
	check_content(f);
	append(f, 30);
	check_content(f);
	consume(f, f->in - f->out);
	assert_int_equal(f->pool.used_count, 0);
	assert_non_null(chain_reserve(&f->chain, 6));
	chain_commit(&f->chain, 0);
	chain_clear(&f->chain);
	assert_int_equal(f->pool.used_count, 0);
}

static void test_pool_reuses(void **state)
{
	struct fixture *f = *state;
	struct chunk *first;

	append(f, 10);
	first = f->chain.head;
	consume(f, 10);
	assert_int_equal(f->pool.free_count, 1);
	append(f, 10);
	assert_ptr_equal(f->chain.head, first);
	assert_int_equal(f->pool.free_count, 0);
}

static void test_pool_keeps_a_limit(void **state)
{
	struct fixture *f = *state;

	append(f, (CHUNK_POOL_KEEP + 10) * (size_t)DATA_BYTES);
	assert_int_equal(f->pool.used_count, CHUNK_POOL_KEEP + 10);
	chain_clear(&f->chain);
	assert_int_equal(f->pool.used_count, 0);
	assert_int_equal(f->pool.free_count, CHUNK_POOL_KEEP);
	chunk_pool_trim(&f->pool, 3);
	assert_int_equal(f->pool.free_count, 3);
	chunk_pool_trim(&f->pool, 10);
	assert_int_equal(f->pool.free_count, 3);
	f->in = f->out = 0;
}

static void test_two_chains_one_pool(void **state)
{
	struct fixture *f = *state;
	struct chain other;

	chain_init(&other, &f->pool);
	append(f, DATA_BYTES);
	assert_int_equal(chain_append(&other, "abc", 3), 0);
	assert_int_equal(f->pool.used_count, 2);
	consume(f, DATA_BYTES);
	assert_int_equal(chain_append(&other, "def", 3), 0);
	assert_int_equal(other.bytes, 6);
	assert_memory_equal(other.head->data, "abcdef", 6);
	chain_clear(&other);
	assert_int_equal(other.bytes, 0);
}

/* Random steps against a plain count of bytes. */
static void test_random_walk(void **state)
{
	struct fixture *f = *state;
	uint32_t seed = 12345;

	for (int i = 0; i < 4000; i++) {
		size_t n;

		seed = seed * 1664525 + 1013904223;
		n = (seed >> 8) % (seed & 64 ? 100 : 2 * DATA_BYTES);
		if (seed >> 31 || f->in - f->out > 20 * (size_t)DATA_BYTES)
			consume(f, n < f->in - f->out ? n : f->in - f->out);
		else
			append(f, n);
		if (i % 50 == 0)
			check_content(f);
	}
	check_content(f);
}

/* Without memory an append changes nothing, however many chunks it had got already. */
static void test_append_without_memory(void **state)
{
	struct fixture *f = *state;
	struct rlimit before, limit;
	size_t big = 64 << 20;
	uint8_t *p;
	int rc;

#ifdef UNDER_SANITIZER
	print_message("skip: a sanitizer's memory cannot be limited\n");
	skip();
#endif
	p = calloc(1, big);
	assert_non_null(p);
	append(f, 100);
	/* Less address space than the append needs, more than its first chunks. */
	assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
	limit = before;
	limit.rlim_cur = 0;
	{
		FILE *statm = fopen("/proc/self/statm", "r");
		unsigned long pages = 0;

		assert_non_null(statm);
		assert_int_equal(fscanf(statm, "%lu", &pages), 1);
		fclose(statm);
		limit.rlim_cur = pages * (rlim_t)sysconf(_SC_PAGESIZE) + (16 << 20);
	}
	assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
	rc = chain_append(&f->chain, p, big);
	assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
	free(p);
	assert_int_equal(rc, -ENOMEM);
	assert_int_equal(f->pool.used_count, 1);
	check_content(f);
	append(f, 2 * DATA_BYTES);
	check_content(f);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_empty_holds_nothing),          T(test_append_across_chunks),    T(test_consume_in_odd_steps),
		T(test_bytes_stay_in_place),          T(test_iov_is_limited),          T(test_reserve_and_commit),
		T(test_reservation_outlives_consume), T(test_reserved_and_left_empty), T(test_pool_reuses),
		T(test_pool_keeps_a_limit),           T(test_two_chains_one_pool),     T(test_random_walk),
		T(test_append_without_memory),
	};

	return cmocka_run_group_tests_name("chain", tests, NULL, NULL);
}
