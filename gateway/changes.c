#include "gateway/changes.h"

#include <string.h>

void changes_init(struct changes *c)
{
	memset(c, 0, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
}

void changes_deinit(struct changes *c)
{
	pthread_mutex_destroy(&c->lock);
}

void changes_add(struct changes *c, const struct subject *s)
{
	uint64_t count;

	pthread_mutex_lock(&c->lock);
	count = atomic_load(&c->count);
	c->kept[count % CHANGES_KEPT] = *s;
	atomic_store(&c->count, count + 1);
	pthread_mutex_unlock(&c->lock);
}

uint64_t changes_position(const struct changes *c)
{
	return atomic_load(&c->count);
}

uint32_t changes_read(struct changes *c, uint64_t *position, struct subject *ret_subjects, uint32_t n)
{
	uint32_t got = 0;
	uint64_t count;

	if (changes_position(c) == *position)
		return 0;
	ASSERT(n > 0);
	pthread_mutex_lock(&c->lock);
	count = atomic_load(&c->count);
	ASSERT(*position <= count);
	if (count - *position > CHANGES_KEPT) {
		/* It stands for all of them, those that are still kept among them. */
		memset(&ret_subjects[got], 0, sizeof(*ret_subjects));
		ret_subjects[got++].kind = SUBJECT_ALL;
		*position = count;
	}
	while (got < n && *position < count)
		ret_subjects[got++] = c->kept[(*position)++ % CHANGES_KEPT];
	pthread_mutex_unlock(&c->lock);
	return got;
}
