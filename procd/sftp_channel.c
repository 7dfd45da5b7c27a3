/*
 * procd/sftp_channel.c - see sftp_channel.h. How a channel opens and ends, and what is done with all of a connection's.
 *
 * Input and serving are sftp_loop.h's, or sftp_thread.h's where files hang; answers are sftp_output.h's.
 */
#include "procd/sftp_channel.h"

#include "core/log.h"
#include "procd/channel.h"
#include "procd/session.h"
#include "procd/sftp_loop.h"
#include "procd/sftp_output.h"
#include "procd/sftp_thread.h"

#include <stdlib.h>
#include <string.h>

/* --- opening --- */

static void guard_wanted(struct session *s)
{
	if (!guard_start(&s->guard))
		log_event(LOG_WARN, "no_guard", LOG_STR("reason", "no thread: files that hang hold up the stream"));
}

/* What is told to who writes. False: no memory. */
static bool read_only_set(struct sftp_channel *f, struct bytes message)
{
	if (message.n == 0)
		message = bytes_str("these files may only be read");
	if (message.n > FRAME_MESSAGE_MAX)
		message.n = FRAME_MESSAGE_MAX;
	f->read_only = strndup((const char *)message.p, message.n);
	return f->read_only != NULL;
}

int sftp_open(struct channel *c, const struct frame *open)
{
	struct sftp_channel *f = &c->sftp;
	bool is_read_only = bytes_is(open->open.options.name, FRAME_SFTP_READ_ONLY);

	if (!is_read_only && !bytes_is(open->open.options.name, "sftp"))
		return channel_refuse(c, "unknown-subsystem", "this sandbox has no such subsystem");
	if (c->session->sftp_count >= SFTP_CHANNELS_MAX)
		return channel_refuse(c, "too-many-channels", "too many SFTP sessions are open");
	if (is_read_only && !read_only_set(f, open->open.options.message))
		return channel_refuse(c, "no-memory", "no memory for SFTP");
	guard_wanted(c->session);
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->wake, NULL);
	f->consumed_notice = c->window / 4;
	f->io = sftp_output_io(c);
	f->options = (struct sftp_options){
		.home = c->session->user.home,
		.is_read_only = is_read_only,
		.read_only = f->read_only,
	};
	list_init(&f->in_serving);
	f->is_live = true;
	c->session->sftp_count++;
	channel_hold(c);
	channel_opened(c);
	return 0;
}

/* --- serving --- */

/* Ends what the server is here, once it has ended, and so has its channel. */
static void bury(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;
	bool is_ended;

	pthread_mutex_lock(&f->lock);
	is_ended = f->is_ended;
	pthread_mutex_unlock(&f->lock);
	if (!f->is_live || !is_ended || c->state != CHANNEL_GONE || f->borrowed > 0 || f->is_told_borrowed)
		return;
	f->is_live = false;
	list_del(&f->in_serving);
	c->session->sftp_count--;
	channel_unhold(c);
}

static void keep_all(struct session *s)
{
	for (struct list *l = s->serving.next; l != &s->serving; l = l->next)
		sftp_loop_keep(CONTAINER_OF(l, struct channel, sftp.in_serving));
}

bool sftp_channels_serve(struct session *s)
{
	uint64_t began = list_is_empty(&s->serving) ? 0 : now_ms();
	uint32_t turn = ++s->serving_turn;

	while (!list_is_empty(&s->serving) && s->served_ms < SFTP_ROUND_MS) {
		struct channel *c = CONTAINER_OF(s->serving.next, struct channel, sftp.in_serving);
		uint64_t now;

		if (c->sftp.turn == turn)
			break;
		c->sftp.turn = turn;
		list_del(&c->sftp.in_serving);
		if (!sftp_loop_turn(c))
			return false;
		bury(c);
		now = now_ms();
		s->served_ms += now - began;
		began = now;
	}
	keep_all(s);
	return true;
}

void sftp_channels_taken_over(struct session *s)
{
	struct channel *c = s->served;

	pthread_mutex_lock(&c->sftp.lock);
	c->sftp.is_threaded = true;
	pthread_mutex_unlock(&c->sftp.lock);
	list_del(&c->sftp.in_serving);
	sftp_loop_keep(c);
	keep_all(s);
	/* The step may still write from what was read last. */
	c->sftp.old_input = s->input;
	s->input = malloc(READ_BYTES);
	if (!s->input)
		session_fail(s, "no-memory", "out of memory");
	log_event(LOG_INFO, "files_hang", LOG_U64("channel", c->number));
	guard_wanted(s);
	/* It may have answered before it could see that it is alone. */
	channel_ready(c);
}

/* --- all of a connection's --- */

static void for_each(struct session *s, void (*look)(struct channel *c))
{
	struct list *lists[] = {&s->channels, &s->graveyard};

	for (size_t i = 0; s->sftp_count > 0 && i < ARRAY_LEN(lists); i++) {
		struct list *l = lists[i]->next;

		while (l != lists[i]) {
			struct channel *c = i == 0 ? CONTAINER_OF(l, struct channel, in_all)
						   : CONTAINER_OF(l, struct channel, in_grave);

			l = l->next;
			if (c->kind == &sftp_kind && c->sftp.is_live)
				look(c);
		}
	}
}

static void sent(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;

	if (!sftp_output_release(c))
		return;
	if (f->is_full && !f->is_threaded)
		sftp_loop_want(c);
	bury(c);
}

void sftp_channels_sent(struct session *s)
{
	for_each(s, sent);
}

static void check(struct channel *c)
{
	sftp_thread_check(c);
	bury(c);
}

void sftp_channels_check(struct session *s)
{
	for_each(s, check);
}

/* --- its end --- */

static void sftp_end(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;

	if (!f->is_live)
		return;
	pthread_mutex_lock(&f->lock);
	f->is_gone = true;
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
	if (!f->is_threaded && !f->is_ended)
		sftp_loop_want(c);
	bury(c);
}

static void sftp_deinit(struct channel *c)
{
	struct sftp_channel *f = &c->sftp;

	if (f->consumed_notice == 0)
		return; /* it never started */
	block_queue_free(&f->in);
	block_queue_free(&f->out);
	block_spares_free(&f->spares);
	free(f->old_input);
	free(f->read_only);
	free(f->told);
	pthread_cond_destroy(&f->wake);
	pthread_mutex_destroy(&f->lock);
}

const struct channel_kind sftp_kind = {
	.on_data = sftp_loop_on_data,
	.on_input = sftp_loop_on_input,
	.on_eof = sftp_loop_on_eof,
	.has_output = sftp_output_has,
	.emit = sftp_output_emit,
	.end = sftp_end,
	.deinit = sftp_deinit,
};
