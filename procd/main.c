/*
 * procd/main.c - the command line.
 */
#include "procd/options.h"
#include "procd/serve.h"
#include "procd/sftp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Descriptors 0, 1 and 2 must be somebody's, or a socket of ours would be a command's stdin. */
static int standard_open(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
	return fd < 0 ? -errno : 0;
}

/* What else our starter left open, a lock or a secret, is not for the sandbox's commands. */
static void inherited_keep_here(void)
{
	int fd_max = (int)sysconf(_SC_OPEN_MAX);

	/* Not close_range(3): not every libc that this is built with has it. */
	if (syscall(SYS_close_range, STDERR_FILENO + 1u, ~0u, CLOSE_RANGE_CLOEXEC) == 0)
		return;
	/* Linux before 5.11; a limit of a billion stands for none. */
	for (int fd = STDERR_FILENO + 1; fd < fd_max && fd < INHERITED_FD_MAX; fd++)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static int keygen(int argc, char **argv)
{
	char text[PROOF_PUBLIC_TEXT_MAX];
	struct proof_public public;
	int rc;

	if (argc != 3 || strcmp(argv[1], "--out") != 0 || !argv[2][0]) {
		fprintf(stderr, "usage: procd keygen --out FILE\n");
		return 2;
	}
	rc = proof_keygen(argv[2], &public);
	if (rc < 0) {
		fprintf(stderr, "procd: cannot make the key %s: %s\n", argv[2], strerror(-rc));
		return 1;
	}
	proof_public_format(&public, text);
	printf("%s\n", text);
	return 0;
}

static int serve(int argc, char **argv)
{
	static struct options options;
	struct log_options log = {.path = "-"};
	int rc = options_parse(argc, argv, &options);

	if (rc != 0)
		return rc == 1 ? 0 : rc == -EINVAL ? 2 : 1;
	inherited_keep_here();
	/* Sets the level. A log thread has no use here: each process writes its few lines by itself. */
	log.level = options.log_level;
	rc = log_start(&log);
	if (rc < 0) {
		fprintf(stderr, "procd: cannot log: %s\n", strerror(-rc));
		return 1;
	}
	log_stop();
	return serve_run(&options);
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";

	if (standard_open() < 0 || proof_init() < 0) {
		fprintf(stderr, "procd: cannot start: no /dev/null or no random numbers\n");
		return 1;
	}
	if (strcmp(command, "serve") == 0)
		return serve(argc - 1, argv + 1);
	if (strcmp(command, "keygen") == 0)
		return keygen(argc - 1, argv + 1);
	if (strcmp(command, "sftp-server") == 0)
		return sftp_main(argc - 1, argv + 1);
	if (strcmp(command, "--version") == 0) {
		printf("procd %s\n", RINGGATE_VERSION);
		return 0;
	}
	options_usage(strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0 ? stdout : stderr);
	return strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0 ? 0 : 2;
}
