/*
 * tests/unit/procd/test_sftp_channel.c - a channel of the SFTP server's ends while a batch still borrows from it.
 */
#include "procd/channel.h"
#include "procd/session.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static const uint8_t init[] = {0, 0, 0, 5, 1, 0, 0, 0, 3};
static const uint8_t make_folder[] = {0, 0, 0, 14, 14, 0, 0, 0, 1, 0, 0, 0, 1, 'x', 0, 0, 0, 0};

static void on_nothing(struct guard *g)
{
	(void)g;
	fail();
}

static struct session *session_make(int fds[2])
{
	static struct session session; /* for good: the guard's thread sleeps in it */
	struct session *s = &session;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	s->fd = fds[0];
	s->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->state = SESSION_READY;
	s->budget_left = BUDGET_SHARED;
	strcpy(s->user.home, "/");
	list_init(&s->channels);
	list_init(&s->ready);
	list_init(&s->input_pending);
	list_init(&s->serving);
	list_init(&s->graveyard);
	for (int i = 0; i < CHANNEL_BUCKETS; i++)
		list_init(&s->buckets[i]);
	outq_init(&s->out, s->fd);
	guard_init(&s->guard, on_nothing);
	guard_loop_is_here(&s->guard);
	return s;
}

static void take(struct channel *c, const uint8_t *p, size_t n)
{
	assert_int_equal(channel_on_data(c, 0, bytes_of(p, n)), 0);
	list_del(&c->in_input);
	assert_int_equal(c->kind->on_input(c), 0);
	assert_true(sftp_channels_serve(c->session));
}

/* What the user is told goes out alone, since others have the rest of the batch; then he closes the channel, and it is sent. */
static void test_ends_behind_words(void **state)
{
	struct frame open = {.type = FRAME_OPEN, .channel = 2};
	struct channel *c;
	struct session *s;
	int fds[2];

	(void)state;
	s = session_make(fds);
	open.open.kind = bytes_str("subsystem");
	open.open.credit = 100000;
	open.open.options.name = bytes_str(FRAME_SFTP_READ_ONLY);
	assert_int_equal(channel_open(s, &open), 0);
	c = channel_find(s, 2);
	assert_non_null(c);
	assert_int_equal(c->state, CHANNEL_OPEN);
	take(c, init, sizeof(init));
	c->kind->emit(c, outq_room(&s->out));
	assert_int_equal(outq_send(&s->out), 1);
	sftp_channels_sent(s);
	take(c, make_folder, sizeof(make_folder));
	c->kind->emit(c, 1);
	assert_true(c->sftp.is_told_borrowed && c->sftp.borrowed == 0);
	channel_end(c);
	assert_true(sftp_channels_serve(s));
	assert_true(c->sftp.is_ended && c->hold_count > 0); /* the batch has its words */
	assert_int_equal(outq_send(&s->out), 1);
	sftp_channels_sent(s);
	assert_int_equal(c->hold_count, 0);
	assert_int_equal(s->sftp_count, 0);
	c->kind->deinit(c);
	free(c);
	outq_deinit(&s->out);
	close(fds[0]);
	close(fds[1]);
	close(s->notify_fd);
}

static int reserve_fails(void *ctx, size_t n, uint8_t **ret_p)
{
	(void)n, (void)ret_p;
	return *(const int *)ctx;
}

/* An answer for which there is no memory is no end that looks like success, as that of a client that has gone is. */
static void test_no_memory_for_an_answer(void **state)
{
	static const int whys[] = {-ENOMEM, -EPIPE};
	const struct sftp_options options = {.home = "/"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(whys); i++) {
		int why = whys[i];
		const struct sftp_io io = {.ctx = &why, .reserve = reserve_fails};
		struct sftp *s = sftp_new(&io, &options);

		assert_non_null(s);
		assert_int_equal(sftp_take(s, init, sizeof(init)), why);
		sftp_free(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_memory_for_an_answer),
		cmocka_unit_test(test_ends_behind_words),
	};

	return cmocka_run_group_tests_name("sftp_channel", tests, NULL, NULL);
}
