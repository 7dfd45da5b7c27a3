/*
 * control/keeper.c - see keeper.h.
 */
#include "control/keeper.h"

#include "control/driver_limits.h"
#include "control/process_tree.h"
#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 *	STARTING ──► RUNNING ◄──► PAUSED
 *	   └────────────┴──────────┴──► ended
 */
enum state { STARTING, RUNNING, PAUSED };

struct keeper {
	const char *folder, *trash, *sandbox, *procd, *user, *shell;
	const char *gateway_keys[LOCAL_GATEWAY_KEYS_MAX];
	const char *procd_args[LOCAL_PROCD_ARGS_MAX];
	int gateway_key_count, procd_arg_count;
	enum state state;
	int signal_fd;
	pid_t procd_pid; /* 0: there is none */
	int procd_status;
	uint64_t start_ms;
	struct process_list resting; /* PAUSED: what its user had stopped himself */
	struct keeper_message now;   /* what was said last */
};

/* --- the link --- */

__attribute__((format(printf, 3, 4))) static void say(struct keeper *k, enum keeper_kind kind, const char *reason, ...)
{
	va_list args;

	k->now.kind = kind;
	k->now.reason[0] = 0;
	if (reason) {
		va_start(args, reason);
		vsnprintf(k->now.reason, sizeof(k->now.reason), reason, args);
		va_end(args);
		log_event(LOG_WARN, "keeper", LOG_STR("sandbox", k->sandbox), LOG_STR("reason", k->now.reason));
	}
	/* Nobody may listen any more: then the link's end is what comes next. */
	(void)send(KEEPER_LINK_FD, &k->now, sizeof(k->now), MSG_NOSIGNAL);
}

/* The order, 0 when there is none, KEEPER_END when the other side is gone. */
static int order_read(void)
{
	char order;
	ssize_t n = recv(KEEPER_LINK_FD, &order, 1, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return n == 1 ? order : KEEPER_END;
}

/* --- processes --- */

/* In the child: as if nobody had touched signals. Ends with us whatever happens to us. */
static void child_prepare(pid_t parent)
{
	sigset_t none;

	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	(void)setsid();
}

static pid_t child_start(const char *const argv[])
{
	pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		child_prepare(parent);
		execvp(argv[0], (char *const *)argv);
		fprintf(stderr, "keeper: cannot run %s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	return pid < 0 ? -errno : pid;
}

/* Runs a short program to its end. 0, or negative errno, -EIO for a failure of its own. */
static int tool_run(const char *const argv[])
{
	pid_t pid = child_start(argv);
	int status;

	if (pid < 0)
		return (int)pid;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

/* Takes all that have ended. False when there are no children at all. */
static bool reap(struct keeper *k)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == k->procd_pid) {
			k->procd_pid = 0;
			k->procd_status = status;
		}
	}
	return pid == 0;
}

/* Waits for SIGCHLD or the time; the signal itself is of no interest. */
static void signals_wait(struct keeper *k, int timeout_ms)
{
	struct pollfd fd = {.fd = k->signal_fd, .events = POLLIN};
	struct signalfd_siginfo info;

	if (poll(&fd, 1, timeout_ms) > 0)
		while (read(k->signal_fd, &info, sizeof(info)) == sizeof(info))
			;
}

/* Until procd (or, with is_all, everything) has ended, at most so long. True when it has. */
static bool end_wait(struct keeper *k, bool is_all, uint64_t ms)
{
	uint64_t deadline = process_now_ms() + ms;

	while (reap(k) && (is_all || k->procd_pid > 0)) {
		if (process_now_ms() >= deadline)
			return false;
		signals_wait(k, TREE_WALK_PAUSE_MS);
	}
	return true;
}

/* procd ends its sessions in order; what it leaves is told, then killed. Afterwards we have no children. */
static void end_all(struct keeper *k)
{
	uint64_t deadline;

	if (k->state == PAUSED)
		(void)!process_tree_continue(getpid(), &(struct process_list){0});
	if (k->procd_pid > 0)
		(void)kill(k->procd_pid, SIGTERM);
	if (!end_wait(k, false, KEEPER_PROCD_END_MS))
		log_event(LOG_WARN, "keeper_kill", LOG_STR("sandbox", k->sandbox), LOG_I64("pid", k->procd_pid));
	if (reap(k) && process_tree_signal(getpid(), SIGTERM) >= 0) {
		/* A stopped process takes SIGTERM only when it runs. */
		(void)!process_tree_signal(getpid(), SIGCONT);
		(void)end_wait(k, true, KEEPER_REST_END_MS);
	}
	deadline = process_now_ms() + KEEPER_KILL_MS;
	while (reap(k) && process_now_ms() < deadline) {
		(void)!process_tree_signal(getpid(), SIGKILL);
		signals_wait(k, TREE_WALK_PAUSE_MS);
	}
	if (reap(k))
		log_event(LOG_ERROR, "keeper_left", LOG_STR("sandbox", k->sandbox),
			  LOG_STR("error", "processes do not end by SIGKILL"));
}

/* --- the folder --- */

static bool in_folder(const struct keeper *k, const char *name, char ret_path[PATH_MAX])
{
	return snprintf(ret_path, PATH_MAX, "%s/%s", k->folder, name) < PATH_MAX;
}

static int home_make(const struct keeper *k)
{
	char path[PATH_MAX];
	const struct passwd *pw;

	if (!in_folder(k, "home", path))
		return -ENAMETOOLONG;
	if (mkdir(path, 0755) < 0)
		return errno == EEXIST ? 0 : -errno;
	if (!k->user || geteuid() != 0)
		return 0;
	pw = getpwnam(k->user);
	return !pw ? -ENOENT : chown(path, pw->pw_uid, pw->pw_gid) < 0 ? -errno : 0;
}

static int key_make(const struct keeper *k)
{
	char secret[PATH_MAX], public[PATH_MAX];
	const char *argv[] = {k->procd, "keygen", "--out", secret, NULL};

	if (!in_folder(k, "key", secret) || !in_folder(k, "key.pub", public))
		return -ENAMETOOLONG;
	if (access(secret, F_OK) == 0 && access(public, F_OK) == 0)
		return 0;
	/* Half a pair is of a machine that went down. */
	(void)unlink(secret);
	(void)unlink(public);
	return tool_run(argv);
}

/* A file of one line, which is whole: its newline is there. */
static bool line_read(const struct keeper *k, const char *name, char *ret_line, size_t size)
{
	char path[PATH_MAX];
	FILE *f = in_folder(k, name, path) ? fopen(path, "re") : NULL;
	char *end = NULL;

	if (f && fgets(ret_line, (int)size, f))
		end = strchr(ret_line, '\n');
	if (end)
		*end = 0;
	if (f)
		fclose(f);
	return end != NULL;
}

/* Nobody but us reaches the trash, so nobody puts a link where a folder was. What cannot be removed stays there. */
static int folder_remove(const struct keeper *k)
{
	char path[PATH_MAX];
	const char *chmod_argv[] = {"chmod", "-R", "u+rwX", "--", path, NULL};
	const char *rm_argv[] = {"rm", "-rf", "--", path, NULL};
	const char *name = strrchr(k->folder, '/');

	if (!name ||
	    snprintf(path, sizeof(path), "%s%s.%llu", k->trash, name, (unsigned long long)process_now_ms()) >= PATH_MAX)
		return -ENAMETOOLONG;
	if (mkdir(k->trash, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (rename(k->folder, path) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (geteuid() != 0)
		(void)!tool_run(chmod_argv);
	return tool_run(rm_argv);
}

static int remove_and_log(const struct keeper *k)
{
	int rc = folder_remove(k);

	if (rc < 0)
		log_event(LOG_ERROR, "keeper_remove", LOG_STR("folder", k->folder), LOG_STR("error", strerror(-rc)));
	return rc < 0 ? 1 : 0;
}

/* --- what it does --- */

static int procd_start(struct keeper *k)
{
	char home[PATH_MAX], key[PATH_MAX], address[PATH_MAX];
	const char *argv[24 + 2 * LOCAL_GATEWAY_KEYS_MAX + LOCAL_PROCD_ARGS_MAX] = {
		k->procd, "serve", "--listen", "127.0.0.1:0", "--sandbox",      k->sandbox,
		"--key",  key,     "--home",   home,          "--address-file", address};
	size_t n = 12;
	pid_t pid;

	if (!in_folder(k, "home", home) || !in_folder(k, "key", key) || !in_folder(k, "address", address))
		return -ENAMETOOLONG;
	for (int i = 0; i < k->gateway_key_count; i++) {
		argv[n++] = "--gateway-key";
		argv[n++] = k->gateway_keys[i];
	}
	if (k->user) {
		argv[n++] = "--user";
		argv[n++] = k->user;
	}
	if (k->shell) {
		argv[n++] = "--shell";
		argv[n++] = k->shell;
	}
	for (int i = 0; i < k->procd_arg_count; i++)
		argv[n++] = k->procd_args[i];
	(void)unlink(address);
	pid = child_start(argv);
	if (pid < 0)
		return (int)pid;
	k->procd_pid = pid;
	k->start_ms = process_now_ms();
	return 0;
}

static int start(struct keeper *k)
{
	int rc = home_make(k);

	if (rc == 0)
		rc = key_make(k);
	if (rc == 0 && !line_read(k, "key.pub", k->now.procd_key, sizeof(k->now.procd_key)))
		rc = -EBADMSG;
	if (rc == 0)
		rc = procd_start(k);
	if (rc < 0)
		say(k, KEEPER_IS_ENDED, "the sandbox could not be started: %s", strerror(-rc));
	return rc;
}

/* False when it is to be given up. */
static bool start_look(struct keeper *k)
{
	char address[128];

	if (line_read(k, "address", address, sizeof(address))) {
		/* "unix:PATH" comes from --listen, which is not a setting here. */
		snprintf(k->now.procd_url, sizeof(k->now.procd_url), "tcp://%s", address);
		k->state = RUNNING;
		say(k, KEEPER_IS_RUNNING, NULL);
		return true;
	}
	if (process_now_ms() < k->start_ms + KEEPER_START_MS)
		return true;
	say(k, KEEPER_IS_ENDED, "the sandbox did not start within %d s", KEEPER_START_MS / 1000);
	return false;
}

static void do_pause(struct keeper *k)
{
	int rc = k->state == RUNNING ? process_tree_stop(getpid(), process_now_ms() + KEEPER_PAUSE_MS, &k->resting)
				     : -EBUSY;

	if (rc == 0) {
		k->state = PAUSED;
		say(k, KEEPER_IS_PAUSED, NULL);
		return;
	}
	(void)!process_tree_continue(getpid(), &k->resting);
	process_list_free(&k->resting);
	say(k, KEEPER_IS_RUNNING, "the sandbox could not be paused: %s",
	    rc == -ETIMEDOUT ? "it starts processes faster than they can be stopped" : strerror(-rc));
}

static void do_resume(struct keeper *k)
{
	int rc = k->state == PAUSED ? process_tree_continue(getpid(), &k->resting) : 0;

	if (rc < 0) {
		say(k, KEEPER_IS_PAUSED, "the sandbox could not be resumed: %s", strerror(-rc));
		return;
	}
	process_list_free(&k->resting);
	k->state = RUNNING;
	say(k, KEEPER_IS_RUNNING, NULL);
}

static void procd_ended(struct keeper *k)
{
	if (WIFSIGNALED(k->procd_status))
		say(k, KEEPER_IS_ENDED, "the sandbox's procd was ended by signal %d", WTERMSIG(k->procd_status));
	else
		say(k, KEEPER_IS_ENDED, "the sandbox's procd ended with status %d", WEXITSTATUS(k->procd_status));
}

/* One turn. Returns the order that ends us, or 0. */
static int turn(struct keeper *k)
{
	struct pollfd fds[2] = {{.fd = KEEPER_LINK_FD, .events = POLLIN}, {.fd = k->signal_fd, .events = POLLIN}};
	struct signalfd_siginfo info;
	int order = 0;

	if (poll(fds, 2, k->state == STARTING ? KEEPER_START_LOOK_MS : -1) < 0)
		return errno == EINTR ? 0 : KEEPER_END;
	while (fds[1].revents && read(k->signal_fd, &info, sizeof(info)) == sizeof(info))
		if (info.ssi_signo != SIGCHLD)
			order = KEEPER_END;
	if (fds[0].revents && order == 0)
		order = order_read();
	if (!reap(k) || k->procd_pid == 0) {
		if (order != KEEPER_REMOVE)
			procd_ended(k);
		return order == KEEPER_REMOVE ? order : KEEPER_END;
	}
	if (order == KEEPER_PAUSE)
		do_pause(k);
	else if (order == KEEPER_RESUME)
		do_resume(k);
	else if (order != 0)
		return order;
	return k->state == STARTING && !start_look(k) ? KEEPER_END : 0;
}

static int keep(struct keeper *k)
{
	int order = start(k) < 0 ? KEEPER_END : 0;

	while (order == 0)
		order = turn(k);
	end_all(k);
	process_list_free(&k->resting);
	return order == KEEPER_REMOVE ? remove_and_log(k) : 0;
}

/* --- the start --- */

static int parse(int argc, char **argv, struct keeper *k)
{
	static const struct option options[] = {
		{"folder", required_argument, NULL, 'f'},
		{"trash", required_argument, NULL, 't'},
		{"sandbox", required_argument, NULL, 's'},
		{"procd", required_argument, NULL, 'p'},
		{"gateway-key", required_argument, NULL, 'g'},
		{"user", required_argument, NULL, 'u'},
		{"shell", required_argument, NULL, 'l'},
		{"procd-arg", required_argument, NULL, 'a'},
		{0},
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'f')
			k->folder = optarg;
		else if (opt == 't')
			k->trash = optarg;
		else if (opt == 's')
			k->sandbox = optarg;
		else if (opt == 'p')
			k->procd = optarg;
		else if (opt == 'g' && k->gateway_key_count < LOCAL_GATEWAY_KEYS_MAX)
			k->gateway_keys[k->gateway_key_count++] = optarg;
		else if (opt == 'u')
			k->user = optarg;
		else if (opt == 'l')
			k->shell = optarg;
		else if (opt == 'a' && k->procd_arg_count < LOCAL_PROCD_ARGS_MAX)
			k->procd_args[k->procd_arg_count++] = optarg;
		else
			return -EINVAL;
	}
	return optind == argc && k->folder && k->trash && !k->procd == !k->sandbox ? 0 : -EINVAL;
}

/* All orphans of the sandbox come to us; nothing of ringgate-control's is passed on. */
static int process_prepare(struct keeper *k)
{
	const struct sigaction take_ends = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP};
	sigset_t set;

	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0 || fcntl(KEEPER_LINK_FD, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	(void)close_range(KEEPER_LINK_FD + 1, ~0U, 0);
	(void)prctl(PR_SET_NAME, "ringgate-keeper");
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_SETMASK, &set, NULL) < 0 || sigaction(SIGCHLD, &take_ends, NULL) < 0)
		return -errno;
	k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return k->signal_fd < 0 ? -errno : 0;
}

int keeper_main(int argc, char **argv)
{
	static struct keeper k;
	int rc = parse(argc, argv, &k);

	if (rc == 0)
		rc = process_prepare(&k);
	if (rc < 0) {
		fprintf(stderr, "keeper: cannot start: %s\n", strerror(-rc));
		return 1;
	}
	return k.procd ? keep(&k) : remove_and_log(&k);
}
