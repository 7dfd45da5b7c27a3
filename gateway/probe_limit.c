#include "gateway/probe_limit.h"

#include <netinet/in.h>
#include <sodium.h>
#include <string.h>

#define SECOND_US 1000000ull

void probe_limit_init(struct probe_limit *p, uint32_t rate, uint32_t rate_address)
{
	memset(p, 0, sizeof(*p));
	pthread_mutex_init(&p->lock, NULL);
	_Static_assert(sizeof(p->hash_key) == crypto_shorthash_KEYBYTES, "SipHash-2-4");
	crypto_shorthash_keygen(p->hash_key);
	p->all_us = rate ? SECOND_US / rate : 0;
	p->address_us = rate_address ? SECOND_US / rate_address : 0;
}

void probe_limit_deinit(struct probe_limit *p)
{
	pthread_mutex_destroy(&p->lock);
}

uint32_t probe_limit_place(const struct probe_limit *p, const struct sockaddr *from)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)from;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;
	uint8_t text[9] = {(uint8_t)from->sa_family};
	uint64_t hash;

	if (from->sa_family == AF_INET) {
		memcpy(text + 1, &in->sin_addr, 4);
	} else if (from->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
		text[0] = AF_INET;
		memcpy(text + 1, in6->sin6_addr.s6_addr + 12, 4);
	} else if (from->sa_family == AF_INET6) {
		memcpy(text + 1, &in6->sin6_addr, 8);
	}
	crypto_shorthash((uint8_t *)&hash, text, sizeof(text), p->hash_key);
	return hash % PROBE_ADDRESSES;
}

/* When one more would be due, of those that are an interval apart and may be a second early. */
static uint64_t due_us(uint64_t next_us, uint64_t now_us)
{
	uint64_t earliest = now_us > SECOND_US ? now_us - SECOND_US : 0;

	return next_us > earliest ? next_us : earliest;
}

bool probe_limit_take(struct probe_limit *p, const struct sockaddr *from, uint64_t now_us, uint64_t max_wait_us,
		      uint64_t *ret_wait_us)
{
	uint64_t *place = &p->next_us[probe_limit_place(p, from)];
	uint64_t all, one, wait;

	pthread_mutex_lock(&p->lock);
	all = due_us(p->all_next_us, now_us);
	one = due_us(*place, now_us);
	wait = all > now_us ? all - now_us : 0;
	if (one > now_us && one - now_us > wait)
		wait = one - now_us;
	if (wait <= max_wait_us) {
		p->all_next_us = p->all_us ? all + p->all_us : 0;
		*place = p->address_us ? one + p->address_us : 0;
	}
	pthread_mutex_unlock(&p->lock);
	*ret_wait_us = wait;
	return wait <= max_wait_us;
}
