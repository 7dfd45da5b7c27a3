/*
 * What listens in the sandbox for the client: asked for, answered, cancelled.
 */
#include "gateway/forward.h"

#include "gateway/limits.h"
#include "gateway/link_internal.h"
#include "gateway/link_setup.h"
#include "gateway/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_deadline(struct timer *t);

static const uint8_t allowed[] = {
	[LISTENING_WAITING] = 1u << LISTENING_ASKED,
	[LISTENING_ASKED] = 1u << LISTENING_LIVE | 1u << LISTENING_ENDING | 1u << LISTENING_WAITING,
	[LISTENING_LIVE] = 1u << LISTENING_ENDING | 1u << LISTENING_WAITING,
	[LISTENING_ENDING] = 0,
};

/* The only writer of n->state. */
static void listening_move(struct listening *n, enum listening_state to)
{
	ASSERT(allowed[n->state] & 1u << to);
	n->state = to;
	n->links->forwards.ending_count += to == LISTENING_ENDING;
}

void forwards_init(struct forwards *f)
{
	list_init(&f->list);
	f->next_request = 1;
}

static struct listening *listening_new(struct links *ls, const struct conn_listen *c)
{
	struct listening *n = calloc(1, sizeof(*n) + c->address.n);

	if (!n)
		return NULL;
	n->links = ls;
	n->is_unix = c->is_unix;
	n->port = c->port;
	n->is_port_chosen = !c->is_unix && c->port == 0;
	n->reply = c->reply;
	if (c->address.n > 0)
		memcpy(n + 1, c->address.p, c->address.n);
	n->address = bytes_of(n + 1, c->address.n);
	timer_init(&n->deadline, on_deadline);
	list_add_tail(&ls->forwards.list, &n->node);
	ls->forwards.count++;
	return n;
}

static void listening_free(struct listening *n)
{
	timer_stop(n->links->session->ring, &n->deadline);
	list_del(&n->node);
	n->links->forwards.count--;
	n->links->forwards.ending_count -= n->state == LISTENING_ENDING;
	free(n);
}

void forwards_deinit(struct links *ls)
{
	while (!list_is_empty(&ls->forwards.list))
		listening_free(CONTAINER_OF(ls->forwards.list.next, struct listening, node));
}

/* The client's answer, once. */
static void answer(struct listening *n, bool is_yes)
{
	uint64_t reply = n->reply;

	n->reply = 0;
	conn_listen_reply(n->links->session->conn, reply, is_yes, is_yes && n->is_port_chosen ? n->port : 0);
}

static void send_frame(struct links *ls, const struct frame *f)
{
	if (procd_client_send(ls->procd, f) < 0)
		session_close(ls->session, "out of memory");
}

/* Why nobody will listen; SSH's answer has no place for it, so it goes where ssh -v shows it. */
static void tell_why(struct links *ls, bool is_unix, struct bytes why)
{
	char text[POLICY_WHY_MAX + 64], plain[POLICY_WHY_MAX];

	tell_copy_plain(why, plain, sizeof(plain));
	snprintf(text, sizeof(text), "ringgate: remote %s forwarding: %s", is_unix ? "socket" : "port", plain);
	conn_debug(ls->session->conn, text);
}

static void refuse(struct listening *n, struct bytes why)
{
	if (n->reply != 0)
		tell_why(n->links, n->is_unix, why);
	answer(n, false);
	listening_free(n);
}

/* --- LISTEN and UNLISTEN --- */

/* Asked when the client asks, and when procd is asked, since the policy of a sandbox that sleeps is known only then. */
static bool is_allowed(const struct links *ls, bool is_unix, uint32_t port, char ret_why[POLICY_WHY_MAX])
{
	struct policies p = session_policies(ls->session);

	return is_unix ? policies_allow_unix(&p, ret_why) : policies_allow_listen(&p, port, ret_why);
}

/* What procd is told: the client may only choose among what the policy leaves. */
static struct bytes address_for_procd(const struct listening *n)
{
	struct policies p = session_policies(n->links->session);

	if (n->is_unix || bytes_is(n->address, "127.0.0.1") || bytes_is(n->address, "::1"))
		return n->address;
	if (!policies_listen_anywhere(&p))
		return bytes_str("localhost");
	return n->address.n == 0 ? bytes_str("*") : n->address;
}

static void send_listen(struct listening *n)
{
	struct links *ls = n->links;
	struct frame f = {.type = FRAME_LISTEN};

	listening_move(n, LISTENING_ASKED);
	n->is_silent = false;
	n->request = ls->forwards.next_request++;
	timer_start(ls->session->ring, &n->deadline, LINK_SILENT_MS);
	f.listen.request = n->request;
	f.listen.kind = bytes_str(n->is_unix ? "unix" : "tcp");
	f.listen.address = address_for_procd(n);
	f.listen.port = n->port;
	send_frame(ls, &f);
}

static void send_unlisten(struct listening *n)
{
	struct frame f = {.type = FRAME_UNLISTEN};

	listening_move(n, LISTENING_ENDING);
	timer_stop(n->links->session->ring, &n->deadline);
	f.listen.request = n->request;
	send_frame(n->links, &f);
}

/* procd does not answer: it may have been paused with its connections alive, or lives no more. */
static void on_deadline(struct timer *t)
{
	struct listening *n = CONTAINER_OF(t, struct listening, deadline);
	struct links *ls = n->links;

	if (n->state != LISTENING_ASKED || ls->session->phase != SESSION_LIVE)
		return;
	if (!n->is_silent) {
		n->is_silent = true;
		timer_start(ls->session->ring, t, LINK_OPEN_MS - LINK_SILENT_MS);
		ls->events->on_silent(ls);
		return;
	}
	tell_why(ls, n->is_unix, bytes_str("the sandbox does not answer"));
	answer(n, false);
	send_unlisten(n);
	session_flush(ls->session);
}

/* --- what the client asks --- */

static struct listening *find_asked_for(struct links *ls, const struct conn_listen *c)
{
	for (struct list *l = ls->forwards.list.next; l != &ls->forwards.list; l = l->next) {
		struct listening *n = CONTAINER_OF(l, struct listening, node);

		if (n->state != LISTENING_ENDING && n->is_unix == c->is_unix && n->port == c->port &&
		    n->address.n == c->address.n && memcmp(n->address.p, c->address.p, c->address.n) == 0)
			return n;
	}
	return NULL;
}

/* The reply need not wait for procd: from now on whoever connects there is refused here. */
static enum chan_answer on_cancel(struct links *ls, const struct conn_listen *c)
{
	struct listening *n = find_asked_for(ls, c);

	if (!n || n->reply != 0)
		return CHAN_NO;
	if (n->state == LISTENING_LIVE || n->state == LISTENING_ASKED)
		send_unlisten(n);
	else
		listening_free(n);
	return CHAN_YES;
}

/* Why procd is not even asked; NULL: it is. */
static const char *impossible(const struct conn_listen *c)
{
	if (c->is_unix && !path_is_good(c->address))
		return "the path of a Unix socket has 1 to 107 bytes, and no NUL";
	if (!c->is_unix && (c->port > 65535 || c->address.n > FORWARD_ADDRESS_MAX))
		return "no such address";
	return NULL;
}

enum chan_answer forwards_on_listen(struct links *ls, const struct conn_listen *c)
{
	const char *why = impossible(c);
	char policy_why[POLICY_WHY_MAX];
	struct listening *n;

	if (c->is_cancel)
		return on_cancel(ls, c);
	if (!why && !is_allowed(ls, c->is_unix, c->port, policy_why))
		why = policy_why;
	if (!why && (c->is_unix || c->port != 0) && find_asked_for(ls, c))
		why = "this connection has it already";
	if (!why && (ls->forwards.count >= FORWARD_KNOWN_MAX ||
		     ls->forwards.count - ls->forwards.ending_count >= FORWARD_LISTEN_MAX))
		why = "too many on this connection";
	n = why ? NULL : listening_new(ls, c);
	if (!n) {
		tell_why(ls, c->is_unix, bytes_str(why ? why : "out of memory"));
		return CHAN_NO;
	}
	ls->events->on_wanted(ls);
	return CHAN_LATER;
}

/* --- what the stream does --- */

bool forwards_are_waiting(const struct links *ls, bool or_asked)
{
	for (const struct list *l = ls->forwards.list.next; l != &ls->forwards.list; l = l->next) {
		const struct listening *n = CONTAINER_OF(l, struct listening, node);

		/* What listened on a stream that was lost wakes no sandbox up: it waits for somebody who does. */
		if ((n->state == LISTENING_WAITING && !n->is_again) || (or_asked && n->state == LISTENING_ASKED))
			return true;
	}
	return false;
}

struct listening *forwards_find(struct links *ls, uint64_t request)
{
	for (struct list *l = ls->forwards.list.next; l != &ls->forwards.list; l = l->next) {
		struct listening *n = CONTAINER_OF(l, struct listening, node);

		if (n->state != LISTENING_WAITING && n->request == request)
			return n;
	}
	return NULL;
}

void forwards_on_ready(struct links *ls)
{
	char why[POLICY_WHY_MAX];

	for (struct list *l = ls->forwards.list.next, *next; l != &ls->forwards.list; l = next) {
		struct listening *n = CONTAINER_OF(l, struct listening, node);

		next = l->next;
		if (n->state != LISTENING_WAITING || ls->procd->state != PROCD_READY)
			continue;
		if (is_allowed(ls, n->is_unix, n->is_port_chosen ? 0 : n->port, why))
			send_listen(n);
		else
			refuse(n, bytes_str(why));
	}
}

static int on_listening(struct listening *n, uint32_t port)
{
	if (n->state == LISTENING_ENDING)
		return 0; /* given up in the meantime */
	if (n->state != LISTENING_ASKED || port > 65535 || (!n->is_unix && port == 0) ||
	    (n->port != 0 && port != n->port))
		return -EPROTO;
	listening_move(n, LISTENING_LIVE);
	timer_stop(n->links->session->ring, &n->deadline);
	n->port = n->is_unix ? 0 : port;
	answer(n, true);
	return 0;
}

int forwards_on_frame(struct links *ls, const struct frame *f)
{
	struct listening *n;
	int rc = 0;

	if (f->type != FRAME_LISTENING && f->type != FRAME_LISTEN_REFUSED && f->type != FRAME_UNLISTENED)
		return -EPROTO;
	n = forwards_find(ls, f->listen.request);
	if (!n)
		return -EPROTO;
	if (f->type == FRAME_LISTENING)
		rc = on_listening(n, f->listen.port);
	else if (f->type == FRAME_UNLISTENED && n->state == LISTENING_ENDING)
		listening_free(n);
	else if (f->type == FRAME_LISTEN_REFUSED && n->state == LISTENING_ASKED)
		refuse(n, f->listen.message);
	else if (f->type != FRAME_LISTEN_REFUSED || n->state != LISTENING_ENDING)
		rc = -EPROTO;
	links_settle(ls);
	return rc;
}

void forwards_lose(struct links *ls, const char *text)
{
	for (struct list *l = ls->forwards.list.next, *next; l != &ls->forwards.list; l = next) {
		struct listening *n = CONTAINER_OF(l, struct listening, node);

		next = l->next;
		if (n->state == LISTENING_LIVE) {
			listening_move(n, LISTENING_WAITING);
			n->is_again = true;
		} else if (n->state == LISTENING_ENDING) {
			listening_free(n);
		} else if (!n->is_again) {
			refuse(n, bytes_str(text));
		} else if (n->state == LISTENING_ASKED) {
			listening_move(n, LISTENING_WAITING);
			timer_stop(ls->session->ring, &n->deadline);
		}
	}
}
