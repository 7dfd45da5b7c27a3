/*
 * Words for the user, and the ends of channels that did not end by themselves: none looks like success.
 */
#include "core/utf8.h"
#include "gateway/limits.h"
#include "gateway/link_internal.h"
#include "gateway/session.h"

#include <stdio.h>
#include <string.h>

void tell_copy_plain(struct bytes from, char *ret_text, size_t size)
{
	size_t at = 0, to = 0;

	while (at < from.n) {
		uint32_t code = 0;
		size_t n = utf8_at(from.p + at, from.n - at, &code);
		/* Beyond ASCII there are control characters, too: U+009B begins what ESC [ does. */
		bool is_fine = n > 0 && code >= ' ' && !(code >= 0x7f && code <= 0x9f);
		size_t take = is_fine ? n : 1;

		if (to + take > size - 1)
			break;
		if (is_fine)
			memcpy(ret_text + to, from.p + at, n);
		else
			ret_text[to] = '?';
		to += take;
		at += n > 0 ? n : 1;
	}
	ret_text[to] = 0;
}

bool link_has_room_to_tell(const struct link *l)
{
	return chan_room(l->chan) >= LINK_TELL_BYTES;
}

void link_tell(struct link *l, const char *text)
{
	char line[LINK_TELL_BYTES];
	int n = snprintf(line, sizeof(line), "ringgate: %s\r\n", text);

	if (n < 0 || l->is_forward || !l->chan)
		return;
	link_clear_waking(l);
	if ((size_t)n >= sizeof(line))
		n = sizeof(line) - 1;
	if (chan_room(l->chan) >= (uint32_t)n)
		(void)chan_write(l->chan, true, (const uint8_t *)line, (size_t)n);
}

/* On stderr, where the window takes it beside what procd may send. */
static bool tell_whole(struct link *l, const char *text, size_t n)
{
	if (chan_room(l->chan) < l->down_credit + n)
		return false;
	(void)chan_write(l->chan, true, (const uint8_t *)text, n);
	return true;
}

static void tell_waking(struct link *l, uint32_t seconds)
{
	static const char ellipsis[] = "…";
	char line[LINK_TELL_BYTES];
	int n = snprintf(line, sizeof(line), "\rsandbox %s is waking up (%u s)%s", l->links->session->route.sandbox,
			 seconds, ellipsis);
	uint32_t columns = (uint32_t)(n - (int)strlen("\r") - (int)strlen(ellipsis) + 1);

	ASSERT(n > 0 && (size_t)n + 2 < sizeof(line));
	/* A line that a narrow terminal folds could not be written over. */
	if (l->has_pty && (l->columns == 0 || columns < l->columns)) {
		if (tell_whole(l, line, (size_t)n))
			l->told_columns = columns;
		l->is_told = true;
		return;
	}
	if (l->is_told)
		return;
	n += sprintf(line + n, l->has_pty ? "\r\n" : "\n");
	l->is_told = tell_whole(l, line + 1, (size_t)n - 1);
}

void links_tell_waking(struct links *ls, uint32_t seconds)
{
	for (struct list *n = ls->list.next; n != &ls->list; n = n->next) {
		struct link *l = CONTAINER_OF(n, struct link, node);

		if ((l->state == LINK_WAITING || l->state == LINK_OPENING) && !l->is_forward && link_can_send(l))
			tell_waking(l, seconds);
	}
}

void link_clear_waking(struct link *l)
{
	char blank[LINK_TELL_BYTES];
	uint32_t n = l->told_columns;

	l->told_columns = 0;
	if (n == 0 || !link_can_send(l))
		return;
	ASSERT(n + 2 <= sizeof(blank));
	blank[0] = blank[n + 1] = '\r';
	memset(blank + 1, ' ', n);
	(void)tell_whole(l, blank, n + 2);
}

/* The window takes it beside what procd may send. */
static bool has_room_beside(const struct link *l)
{
	uint32_t owed = l->state == LINK_DONE ? 0 : l->down_credit;

	return chan_room(l->chan) >= owed + LINK_TELL_BYTES;
}

void links_tell_all(struct links *ls, const char *text)
{
	for (struct list *n = ls->list.next; n != &ls->list; n = n->next) {
		struct link *l = CONTAINER_OF(n, struct link, node);

		if (link_can_send(l) && !chan_is_eof_sent(l->chan) && has_room_beside(l))
			link_tell(l, text);
	}
}

void link_client_fail(struct link *l, const char *text, uint32_t status)
{
	struct chan *ch = l->chan;

	if (l->is_forward) {
		l->chan = NULL;
		chan_refuse(ch, CHAN_CONNECT_FAILED, text);
		link_free_when_done(l);
		return;
	}
	chan_reply(ch, true);
	link_tell(l, text);
	chan_exit_status(ch, status);
	chan_eof(ch);
	chan_close(ch);
}

void link_fail(struct link *l, const char *text, uint32_t status)
{
	link_move(l, LINK_DONE);
	if (link_can_send(l))
		link_client_fail(l, text, status);
	else
		link_free_when_done(l);
}

void link_forbid(struct link *l, const char *why)
{
	struct chan *ch = l->chan;

	if (!l->is_forward || !link_can_send(l)) {
		link_fail(l, why, EXIT_FORBIDDEN);
		return;
	}
	link_move(l, LINK_DONE);
	l->chan = NULL;
	chan_refuse(ch, CHAN_PROHIBITED, why);
	link_free_when_done(l);
}

/*
 * The sandbox is lost: words, exit-signal, EOF, CLOSE. Where the client's window is used up all of it waits for the window, since
 * the words need some; links_on_settle and the link's deadline come back to it.
 */
void link_lose(struct link *l, const char *text)
{
	link_move(l, LINK_DONE);
	if (!link_can_send(l)) {
		link_free_when_done(l);
		return;
	}
	l->farewell = text;
	if (l->is_forward || link_has_room_to_tell(l) || chan_is_eof_sent(l->chan))
		link_say_farewell(l);
	else
		timer_start(l->links->session->ring, &l->deadline, SESSION_LINGER_MS);
}

void link_say_farewell(struct link *l)
{
	struct chan *ch = l->chan;
	const char *text = l->farewell;

	l->farewell = NULL;
	timer_stop(l->links->session->ring, &l->deadline);
	link_tell(l, text);
	if (!l->is_forward && !l->is_exit_seen)
		chan_exit_signal(ch, bytes_str("HUP"), false, bytes_str(text));
	chan_eof(ch);
	chan_close(ch);
}
