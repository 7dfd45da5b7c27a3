#include "core/ids.h"

static bool is_lower_or_digit(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_letter_or_digit(uint8_t c)
{
	return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z');
}

bool sandbox_id_is_good(struct bytes id)
{
	if (id.n == 0 || id.n > SANDBOX_ID_MAX || id.p[0] == '-' || id.p[id.n - 1] == '-')
		return false;
	for (size_t i = 0; i < id.n; i++)
		if (!is_lower_or_digit(id.p[i]) && id.p[i] != '-')
			return false;
	return true;
}

bool member_id_is_good(struct bytes id)
{
	_Static_assert(TEAM_ID_MAX == USER_ID_MAX, "one rule for both");

	if (id.n == 0 || id.n > USER_ID_MAX)
		return false;
	for (size_t i = 0; i < id.n; i++)
		if (!is_letter_or_digit(id.p[i]) && id.p[i] != '_' && id.p[i] != '-')
			return false;
	return true;
}

bool fingerprint_is_good(struct bytes text)
{
	static const char prefix[] = "SHA256:";
	size_t from = sizeof(prefix) - 1;

	if (text.n != FINGERPRINT_CHARS || memcmp(text.p, prefix, from) != 0)
		return false;
	for (size_t i = from; i < text.n; i++)
		if (!is_letter_or_digit(text.p[i]) && text.p[i] != '+' && text.p[i] != '/')
			return false;
	return true;
}
