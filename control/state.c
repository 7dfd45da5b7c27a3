#include "control/state.h"

#include <string.h>

static const char *const names[] = {"running", "paused", "resuming", "stopped"};

const char *sandbox_state_name(enum sandbox_state state)
{
	return names[state];
}

bool sandbox_state_parse(const char *name, enum sandbox_state *ret_state)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(names[i], name) == 0) {
			*ret_state = (enum sandbox_state)i;
			return true;
		}
	}
	return false;
}
