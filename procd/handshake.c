/*
 * procd/handshake.c - the first frames of a stream: who is the gateway, and which sandbox is this.
 *
 * Nothing of the gateway's is done before its HELLO was verified; then this process becomes the user.
 */
#include "procd/session.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

int handshake_start(struct session *s)
{
	struct frame f = {.type = FRAME_CHALLENGE};

	proof_random(s->challenge, sizeof(s->challenge));
	f.challenge.version = FRAME_VERSION;
	f.challenge.nonce = bytes_of(s->challenge, sizeof(s->challenge));
	s->deadline_ms = s->now_ms + HELLO_MS;
	return outq_urgent(&s->out, &f);
}

static bool is_signed(const struct session *s, const struct frame *f)
{
	for (uint32_t i = 0; i < s->options->gateway_key_count; i++)
		if (proof_hello_verify(&s->options->gateway_keys[i], s->challenge, f->hello.ticket, f->hello.signature))
			return true;
	return false;
}

static int refuse(struct session *s, const char *code, const char *reason)
{
	session_fail(s, code, reason);
	return -EACCES;
}

static int become_user(struct session *s)
{
	int rc = user_find(s->options, &s->user);

	if (rc == 0)
		rc = user_become(&s->user);
	if (rc < 0) {
		log_event(LOG_ERROR, "user", LOG_STR("error", strerror(-rc)));
		return refuse(s, "internal", "procd cannot become the sandbox's user");
	}
	/* A change of the user makes the kernel forget it. */
	if (prctl(PR_SET_PDEATHSIG, SIGHUP) < 0 || getppid() != s->options->main_pid)
		return refuse(s, "shutting-down", "procd has ended");
	if (chdir(s->user.home) < 0 && chdir("/") < 0)
		return refuse(s, "internal", "procd cannot enter any folder");
	return 0;
}

/* Streams that proved themselves are counted; those that did not may be more. */
static bool is_one_too_many(const struct session *s)
{
	uint32_t ready = 0;

	for (uint32_t i = 0; i < s->options->streams_max + STREAMS_UNPROVEN; i++)
		ready += s->slots[i].is_ready;
	return ready >= s->options->streams_max;
}

static int send_welcome(struct session *s, struct bytes ticket)
{
	struct frame f = {.type = FRAME_WELCOME};
	uint8_t signature[FRAME_SIGNATURE_BYTES];

	proof_welcome_sign(&s->options->key, s->challenge, ticket, signature);
	f.welcome.version = FRAME_VERSION;
	f.welcome.signature = bytes_of(signature, sizeof(signature));
	return outq_urgent(&s->out, &f);
}

int handshake_on_frame(struct session *s, const struct frame *f)
{
	int rc;

	if (f->type != FRAME_HELLO)
		return refuse(s, "protocol", "the first frame must be HELLO");
	if (f->hello.version != FRAME_VERSION)
		return refuse(s, "version", "this procd speaks version 1 only");
	if (!is_signed(s, f) || ticket_decode(f->hello.ticket, &s->ticket) < 0)
		return refuse(s, "bad-ticket", "the ticket is not signed by a gateway that this sandbox trusts");
	if (strcmp(s->ticket.sandbox, s->options->sandbox) != 0)
		return refuse(s, "wrong-sandbox", "the ticket is for another sandbox");
	if (is_one_too_many(s))
		return refuse(s, "too-many-channels", "too many streams are open");
	s->slots[s->slot].is_ready = true;
	rc = become_user(s);
	if (rc == 0)
		rc = send_welcome(s, f->hello.ticket);
	/* This process forks the user's commands: it must not know the sandbox's key any longer. */
	proof_secret_wipe(&s->options->key);
	if (rc < 0)
		return rc;
	s->state = SESSION_READY;
	s->deadline_ms = 0;
	log_event(LOG_INFO, "stream", LOG_STR("session", s->ticket.session), LOG_STR("user", s->ticket.user),
		  LOG_STR("team", s->ticket.team), LOG_STR("gateway", s->ticket.gateway),
		  LOG_STR("client", s->ticket.client));
	return 0;
}
