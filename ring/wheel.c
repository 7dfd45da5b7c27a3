#include "ring/wheel.h"

#include "core/check.h"

void wheel_init(struct wheel *w, uint64_t now_ms)
{
	w->now_ms = now_ms;
	for (int level = 0; level < WHEEL_LEVELS; level++) {
		w->used[level] = 0;
		for (int slot = 0; slot < WHEEL_SLOTS; slot++)
			list_init(&w->slots[level][slot]);
	}
}

void wheel_add(struct wheel *w, struct timer *t)
{
	uint64_t differs = t->at_ms ^ w->now_ms;
	int level = differs ? (63 - __builtin_clzll(differs)) / WHEEL_BITS : 0;
	int slot = (t->at_ms >> (level * WHEEL_BITS)) & (WHEEL_SLOTS - 1);

	ASSERT(t->at_ms >= w->now_ms);
	t->slot = (uint16_t)(1 + level * WHEEL_SLOTS + slot);
	list_add_tail(&w->slots[level][slot], &t->node);
	w->used[level] |= 1ULL << slot;
}

void wheel_remove(struct wheel *w, struct timer *t)
{
	int level = (t->slot - 1) / WHEEL_SLOTS, slot = (t->slot - 1) % WHEEL_SLOTS;

	list_del(&t->node);
	t->slot = 0;
	if (list_is_empty(&w->slots[level][slot]))
		w->used[level] &= ~(1ULL << slot);
}

static bool wheel_find(const struct wheel *w, int *ret_level, int *ret_slot)
{
	for (int level = 0; level < WHEEL_LEVELS; level++) {
		if (w->used[level]) {
			*ret_level = level;
			*ret_slot = __builtin_ctzll(w->used[level]);
			return true;
		}
	}
	return false;
}

/* The first millisecond of a slot. */
static uint64_t wheel_slot_ms(const struct wheel *w, int level, int slot)
{
	int shift = level * WHEEL_BITS;
	uint64_t above = shift + WHEEL_BITS >= 64 ? 0 : w->now_ms >> (shift + WHEEL_BITS) << (shift + WHEEL_BITS);

	return above | (uint64_t)slot << shift;
}

uint64_t wheel_next(const struct wheel *w)
{
	int level, slot;

	return wheel_find(w, &level, &slot) ? wheel_slot_ms(w, level, slot) : WHEEL_NONE;
}

void wheel_advance(struct wheel *w, uint64_t now_ms)
{
	int level, slot;

	while (wheel_find(w, &level, &slot)) {
		uint64_t at = wheel_slot_ms(w, level, slot);
		struct list *list = &w->slots[level][slot];

		if (at > now_ms)
			break;
		/* A slot that is due may stand for the wheel's present time, when its timers were just sorted in. */
		ASSERT(at >= w->now_ms);
		w->now_ms = at;
		/* A callback may stop any timer of the slot, and none may be started into it: those fire 1 ms later at least. */
		while (!list_is_empty(list)) {
			struct timer *t = CONTAINER_OF(list->next, struct timer, node);

			wheel_remove(w, t);
			if (level == 0)
				t->on_fire(t);
			else
				wheel_add(w, t);
		}
	}
	if (now_ms > w->now_ms)
		w->now_ms = now_ms;
}
