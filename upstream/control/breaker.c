#include "upstream/control/breaker.h"

#include "upstream/control/limits.h"

#define BIT(n) (1u << (n))

static const uint8_t breaker_allowed[] = {
	[BREAKER_CLOSED] = BIT(BREAKER_OPEN),
	[BREAKER_OPEN] = BIT(BREAKER_PROBING) | BIT(BREAKER_CLOSED),
	[BREAKER_PROBING] = BIT(BREAKER_OPEN) | BIT(BREAKER_CLOSED),
};

/* The only writer of b->state but for breaker_init. */
static void breaker_move(struct breaker *b, enum breaker_state to)
{
	ASSERT((breaker_allowed[b->state] & BIT(to)) != 0);
	b->state = to;
}

void breaker_init(struct breaker *b)
{
	*b = (struct breaker){.state = BREAKER_CLOSED};
}

bool breaker_lets(struct breaker *b, uint64_t now_us)
{
	if (b->state == BREAKER_CLOSED)
		return true;
	if (now_us < b->probe_us)
		return false;
	if (b->state == BREAKER_OPEN)
		breaker_move(b, BREAKER_PROBING);
	b->probe_us = now_us + CONTROL_BREAKER_PROBE_MS * 1000ull;
	return true;
}

bool breaker_succeeded(struct breaker *b)
{
	b->failures = 0;
	if (b->state == BREAKER_CLOSED)
		return false;
	breaker_move(b, BREAKER_CLOSED);
	return true;
}

bool breaker_failed(struct breaker *b, uint64_t now_us, uint64_t began_us)
{
	if (b->failures == 0 || began_us < b->row_us)
		b->row_us = began_us;
	if (b->failures < UINT32_MAX)
		b->failures++;
	if (b->state == BREAKER_PROBING)
		breaker_move(b, BREAKER_OPEN);
	if (b->state != BREAKER_CLOSED || b->failures < CONTROL_BREAKER_FAILURES ||
	    now_us - b->row_us < CONTROL_BREAKER_MIN_MS * 1000ull)
		return false;
	breaker_move(b, BREAKER_OPEN);
	b->probe_us = now_us + CONTROL_BREAKER_PROBE_MS * 1000ull;
	return true;
}
