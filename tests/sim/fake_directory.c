/*
 * tests/sim/fake_directory.c - the directory of gateway_world.h: answers late, changes its mind, wakes sandboxes up.
 */
#include "tests/sim/gateway_world.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

struct pending {
	struct sim_actor actor;
	struct mail mail;
	struct key_query *key;
	struct route_query *route;
	struct ring *ring;
	uint64_t due_us;
	enum verdict verdict; /* of gw.is_late */
	bool is_posted, is_cancelled, is_over, is_check, is_wait;
};

static void pending_free(struct pending *p)
{
	sim_actor_stop(&p->actor);
	gw.pending_count--;
	free(p);
}

static enum verdict key_verdict(void)
{
	return gw.is_unavailable ? VERDICT_UNAVAILABLE : gw.key_verdict;
}

static enum verdict route_verdict(const struct route_query *q)
{
	int number = atoi(q->sandbox + strlen("sb-"));

	CHECK(number > 0 && number <= SANDBOXES_MAX);
	if (gw.is_unavailable)
		return VERDICT_UNAVAILABLE;
	if (gw.is_withdrawn[number])
		return VERDICT_NO;
	if (gw.route_verdict != VERDICT_YES)
		return gw.route_verdict;
	if (gw.is_asleep && (gw.awake_us == 0 || sim.now_us < gw.awake_us))
		return VERDICT_WAKING;
	if (gw.is_asleep && gw.wake_end != VERDICT_YES)
		return gw.wake_end;
	if (gw.is_asleep) {
		gw.is_asleep = gw.is_frozen = false;
		gw.listens_us = sim.now_us + gw.listen_delay_us;
	}
	return VERDICT_YES;
}

/* As a control plane: who asks for a paused sandbox wakes it, unless it is only a check. */
static void wake(const struct route_query *q)
{
	if (!gw.is_asleep || gw.awake_us > 0 || q->is_check)
		return;
	gw.wake_count++;
	gw.awake_us = gw.wake_delay_us == SIM_NEVER ? SIM_NEVER : sim.now_us + gw.wake_delay_us;
}

static void answer_key(struct key_query *q, enum verdict verdict)
{
	q->verdict = verdict;
	q->grant_count = 1;
	strcpy(q->grants[0].team, "team1");
	strcpy(q->grants[0].user, "user1");
	q->on_done(q);
}

static void answer_route(struct route_query *q, enum verdict verdict)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&q->route.addr;
	uint32_t place = q->is_retry ? gw.retry_route : gw.route;

	memset(&q->route, 0, sizeof(q->route));
	q->team_policy = q->sandbox_policy = NULL;
	q->verdict = verdict;
	strcpy(q->route.sandbox, q->sandbox);
	if (verdict == VERDICT_UNAVAILABLE)
		strcpy(q->reason, "no room\033");
	if (verdict != VERDICT_YES) {
		q->on_done(q);
		return;
	}
	strcpy(q->route.grant.team, "team1");
	strcpy(q->route.grant.user, "user1");
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)(PORT_FIRST + place));
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	q->route.addr_bytes = sizeof(*in);
	q->route.procd_key = *gateway_sandbox_key();
	q->route.has_procd_key = true;
	q->on_done(q);
}

static void uncount(struct pending *p)
{
	if (p->is_check)
		gw.checks_pending--;
	if (p->is_wait)
		gw.waits_pending--;
	p->is_check = p->is_wait = false;
}

static void on_pending_mail(struct ring *r, struct mail *m)
{
	struct pending *p = CONTAINER_OF(m, struct pending, mail);

	(void)r;
	/* Freed at its next turn. */
	p->is_over = true;
	p->actor.wake_us = sim.now_us;
	if (p->is_cancelled)
		return;
	uncount(p);
	if (p->key)
		answer_key(p->key, gw.is_late ? p->verdict : key_verdict());
	else
		answer_route(p->route, gw.is_late ? p->verdict : route_verdict(p->route));
}

static bool pending_step(struct sim_actor *a)
{
	struct pending *p = CONTAINER_OF(a, struct pending, actor);

	if (p->is_over || (p->is_cancelled && !p->is_posted)) {
		pending_free(p);
		return true;
	}
	if (p->is_posted)
		return false;
	if (sim.now_us < p->due_us) {
		a->wake_us = p->due_us;
		return false;
	}
	p->is_posted = true;
	p->mail.on_mail = on_pending_mail;
	ring_post(p->ring, p->ring, &p->mail);
	return true;
}

/* NULL when the answer is to come at once. hold_us: how long it is held back besides. */
static struct pending *pending_new(struct ring *r, bool is_check, uint64_t hold_us)
{
	struct pending *p;

	gw.check_count += is_check;
	if (gw.directory_delay_us == 0 && hold_us == 0)
		return NULL;
	p = calloc(1, sizeof(*p));
	ASSERT(p);
	p->ring = r;
	p->due_us = sim.now_us + hold_us + (gw.directory_delay_us ? sim_random(gw.directory_delay_us) : 0);
	sim_actor_start(&p->actor, pending_step);
	p->actor.wake_us = p->due_us;
	gw.pending_count++;
	p->is_check = is_check;
	if (is_check && ++gw.checks_pending > gw.checks_pending_max)
		gw.checks_pending_max = gw.checks_pending;
	return p;
}

static void key_find(struct directory *d, struct key_query *q)
{
	struct pending *p = pending_new(q->ring, q->is_check, 0);

	gw.key_count++;
	q->pending = p;
	if (!p) {
		answer_key(q, key_verdict());
		return;
	}
	p->key = q;
	p->verdict = key_verdict();
}

static uint64_t hold_us(const struct route_query *q)
{
	uint64_t most = (uint64_t)q->wait_ms * 1000;

	if (most == 0 || !gw.holds_answers || route_verdict(q) != VERDICT_WAKING)
		return 0;
	if (gw.holds_for_ever)
		return 10000 * (uint64_t)1000000;
	return gw.awake_us - sim.now_us < most ? gw.awake_us - sim.now_us : most;
}

static void route_find(struct directory *d, struct route_query *q)
{
	struct pending *p;

	wake(q);
	p = pending_new(q->ring, q->is_check, hold_us(q));
	if (q->wait_ms > 0)
		gw.wait_count++;
	if (q->is_retry)
		gw.retry_count++;
	else if (!q->is_check)
		gw.route_count++;
	q->pending = p;
	if (!p) {
		answer_route(q, route_verdict(q));
		return;
	}
	p->route = q;
	p->is_wait = q->wait_ms > 0;
	if (p->is_wait && ++gw.waits_pending > gw.waits_pending_max)
		gw.waits_pending_max = gw.waits_pending;
	p->verdict = route_verdict(q);
}

static void pending_cancel(struct pending *p)
{
	CHECK(p && !p->is_over);
	uncount(p);
	p->is_cancelled = true;
}

static void key_cancel(struct directory *d, struct key_query *q)
{
	pending_cancel(q->pending);
}

static void route_cancel(struct directory *d, struct route_query *q)
{
	pending_cancel(q->pending);
}

const struct directory_ops fake_directory_ops = {
	.key_find = key_find,
	.route_find = route_find,
	.key_cancel = key_cancel,
	.route_cancel = route_cancel,
};
