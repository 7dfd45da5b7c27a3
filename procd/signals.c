/*
 * procd/signals.c - see signals.h.
 */
#include "procd/signals.h"

#include "core/check.h"

#include <signal.h>

static const struct {
	const char *name;
	int number;
} names[] = {
	{"ABRT", SIGABRT}, {"ALRM", SIGALRM}, {"FPE", SIGFPE},   {"HUP", SIGHUP},   {"ILL", SIGILL},
	{"INT", SIGINT},   {"KILL", SIGKILL}, {"PIPE", SIGPIPE}, {"QUIT", SIGQUIT}, {"SEGV", SIGSEGV},
	{"TERM", SIGTERM}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2},
};

int signal_number(struct bytes name)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (bytes_is(name, names[i].name))
			return names[i].number;
	return 0;
}

const char *signal_name(int number)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (names[i].number == number)
			return names[i].name;
	return "SIG@openssh.com";
}
