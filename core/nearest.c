#include "core/nearest.h"

#include <stdint.h>
#include <string.h>

void nearest_begin(struct nearest *n, const char *name)
{
	size_t far = strnlen(name, NEAREST_NAME_MAX) / 3;

	*n = (struct nearest){.name = name, .distance = (far < 1 ? 1 : far) + 1};
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Levenshtein's: how many characters must be put in, taken out or changed. */
static size_t distance(const char *a, size_t an, const char *b, size_t bn)
{
	uint8_t row[NEAREST_NAME_MAX + 1];

	for (size_t j = 0; j <= bn; j++)
		row[j] = (uint8_t)j;
	for (size_t i = 1; i <= an; i++) {
		size_t diagonal = row[0];

		row[0] = (uint8_t)i;
		for (size_t j = 1; j <= bn; j++) {
			size_t change = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = (uint8_t)least(change, least(row[j], row[j - 1]) + 1);
		}
	}
	return row[bn];
}

void nearest_offer(struct nearest *n, const char *known)
{
	size_t name_n = strnlen(n->name, NEAREST_NAME_MAX + 1), known_n = strnlen(known, NEAREST_NAME_MAX + 1);
	size_t d;

	if (name_n > NEAREST_NAME_MAX || known_n > NEAREST_NAME_MAX)
		return;
	d = distance(n->name, name_n, known, known_n);
	if (d < n->distance) {
		n->best = known;
		n->distance = d;
	}
}
