/*
 * procd/process.c - see process.h.
 *
 * Without a terminal stdin, stdout and stderr are three pipes. EXIT is sent when the process was reaped and what its pipes
 * held then is sent; whoever else has them open may go on, until their end.
 * With a terminal EXIT is sent at once, then what is left in the terminal, and that is the end: programs in the background
 * keep a terminal open that nobody looks at any more.
 */
#include "procd/process.h"

#include "procd/agent.h"
#include "procd/channel.h"
#include "procd/env.h"
#include "procd/session.h"
#include "procd/signals.h"
#include "procd/spawn.h"
#include "procd/ttymodes.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* A window of the client's, as the kernel counts. */
static struct winsize window_size(uint32_t columns, uint32_t rows, uint32_t xpixels, uint32_t ypixels)
{
	const uint32_t max = TERMINAL_CELLS_MAX;

	return (struct winsize){
		.ws_col = (unsigned short)(columns < max ? columns : max),
		.ws_row = (unsigned short)(rows < max ? rows : max),
		.ws_xpixel = (unsigned short)(xpixels < max ? xpixels : max),
		.ws_ypixel = (unsigned short)(ypixels < max ? ypixels : max),
	};
}

/* --- input --- */

static struct channel *of_sink(struct watch *w)
{
	return CONTAINER_OF(w, struct channel, process.sink.watch);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* No more input is taken: the command has closed its stdin, or has all there is. */
static void input_close(struct channel *c)
{
	struct process *p = &c->process;
	uint32_t waiting = sink_waiting(&p->sink);

	p->sink.state = SINK_CLOSED;
	sink_deinit(&p->sink);
	if (!p->has_pty)
		session_unwatch(c->session, &p->sink.fd);
	if (waiting > 0)
		channel_consumed(c, waiting);
}

static void send_eow(struct channel *c)
{
	struct frame eow = {.type = FRAME_EOW};

	c->process.is_eow_owed = false;
	channel_send_urgent(c, &eow);
}

static int input_flush(struct channel *c)
{
	struct process *p = &c->process;
	ssize_t n = sink_flush(&p->sink);

	if (n == -ENOMEM)
		return -ENOMEM;
	if (n < 0) {
		input_close(c);
		send_eow(c);
		return 0;
	}
	if (n > 0)
		channel_consumed(c, (uint32_t)n);
	if (!p->has_pty && p->sink.written_bytes >= PIPE_BULK_BYTES && !p->is_stdin_enlarged &&
	    p->sink.state != SINK_CLOSED) {
		p->is_stdin_enlarged = true;
		(void)fcntl(p->sink.fd, F_SETPIPE_SZ, PIPE_BYTES);
	}
	if (p->sink.state == SINK_ENDING && sink_waiting(&p->sink) == 0)
		input_close(c);
	return 0;
}

static void on_sink_events(struct watch *w, uint32_t events)
{
	struct channel *c = of_sink(w);
	struct process *p = &c->process;

	if (c->state == CHANNEL_GONE || p->sink.state == SINK_CLOSED)
		return;
	if (events & EPOLLERR) {
		/*
		 * All readers of the pipe are gone. Only somebody who would still send wants to know, and most often it is the
		 * program's end: then its exit comes first and says it all.
		 */
		input_close(c);
		if (!c->is_eof_in) {
			p->is_eow_owed = true;
			channel_deadline(c, EOW_MS);
		}
		return;
	}
	if (events & EPOLLOUT) {
		p->sink.is_writable = true;
		if (input_flush(c) < 0)
			session_fail(c->session, "no-memory", "out of memory");
	}
}

static int process_on_data(struct channel *c, struct bytes piece)
{
	if (c->process.sink.state != SINK_OPEN) {
		channel_consumed(c, (uint32_t)piece.n);
		if (c->process.is_eow_owed)
			send_eow(c);
		return 0;
	}
	return sink_put(&c->process.sink, piece);
}

/* A terminal has no end of input but the character for it: as with sshd, EOF alone changes nothing there. */
static void process_on_eof(struct channel *c)
{
	struct process *p = &c->process;

	if (p->has_pty || p->sink.state != SINK_OPEN)
		return;
	p->sink.state = SINK_ENDING;
	if (sink_waiting(&p->sink) == 0)
		input_close(c);
}

/* --- output --- */

static void on_out_events(struct watch *w, uint32_t events)
{
	struct channel *c = CONTAINER_OF(w, struct channel, process.out.watch);
	struct process *p = &c->process;

	if (c->state == CHANNEL_GONE)
		return;
	if (p->has_pty && (events & EPOLLOUT) && p->sink.state != SINK_CLOSED) {
		p->sink.is_writable = true;
		if (input_flush(c) < 0)
			session_fail(c->session, "no-memory", "out of memory");
	}
	source_on_events(&p->out, events);
	channel_ready(c);
}

static void on_err_events(struct watch *w, uint32_t events)
{
	struct channel *c = CONTAINER_OF(w, struct channel, process.err.watch);

	if (c->state == CHANNEL_GONE)
		return;
	source_on_events(&c->process.err, events);
	channel_ready(c);
}

static bool exit_is_due(const struct process *p)
{
	return p->is_reaped && !p->is_exit_sent && p->out.owed == 0 && p->err.owed == 0;
}

static bool eof_is_due(const struct channel *c)
{
	return !c->is_eof_out && c->process.out.is_done && c->process.err.is_done;
}

static bool process_has_output(const struct channel *c)
{
	const struct process *p = &c->process;

	return c->state == CHANNEL_OPEN && (source_has_output(&p->out, c) || source_has_output(&p->err, c) ||
					    exit_is_due(p) || eof_is_due(c) || (p->is_exit_sent && c->is_eof_out));
}

static void send_exit(struct channel *c)
{
	struct process *p = &c->process;
	struct frame f = {.type = FRAME_EXIT};

	if (WIFSIGNALED(p->wait_status)) {
		f.type = FRAME_EXIT_SIGNAL;
		f.exit_signal.name = bytes_str(signal_name(WTERMSIG(p->wait_status)));
		f.exit_signal.core_dumped = WCOREDUMP(p->wait_status);
		f.exit_signal.message = bytes_str("");
	} else {
		f.exit_status = (uint32_t)WEXITSTATUS(p->wait_status);
	}
	channel_send(c, &f);
	p->is_exit_sent = true;
}

/* How much of a terminal is still sent after its process has ended. */
static void pty_check_drained(struct process *p)
{
	if (p->has_pty && p->is_reaped && p->out.read_bytes - p->reaped_bytes >= PTY_DRAIN_BYTES)
		p->out.is_done = true;
}

static void process_emit(struct channel *c, uint32_t frames)
{
	struct process *p = &c->process;
	struct source *sources[2] = {&p->out, &p->err};

	if (p->has_pty && exit_is_due(p)) {
		send_exit(c);
		return;
	}
	for (int i = 0; i < 2; i++) {
		struct source *s = sources[(p->next_source + (uint32_t)i) % 2];

		if (source_emit(s, c, frames)) {
			p->next_source = s == &p->out ? 1 : 0;
			pty_check_drained(p);
			return;
		}
	}
	if (exit_is_due(p))
		send_exit(c);
	else if (eof_is_due(c))
		channel_send_eof(c);
	else if (p->is_exit_sent && c->is_eof_out)
		channel_close(c);
}

static void process_on_deadline(struct channel *c)
{
	struct process *p = &c->process;

	if (!p->has_pty) {
		if (p->is_eow_owed && !c->is_eof_in)
			send_eow(c);
		return;
	}
	/* The gateway did not take what is there: not the terminal's fault. */
	if (p->out.is_readable && !p->out.is_done) {
		channel_deadline(c, PTY_DRAIN_MS);
		return;
	}
	p->out.is_done = true;
	channel_ready(c);
}

/* --- starting --- */

struct start {
	char *command; /* NULL: a login shell */
	char **env;
	char name[PATH_MAX + 1];
	char tty[64];
	struct spawn spawn;
};

static bool text_is_valid(struct bytes b, size_t max)
{
	return b.n <= max && !(b.n > 0 && memchr(b.p, 0, b.n));
}

static int pty_open(struct channel *c, const struct frame_open_options *o, struct start *st)
{
	struct winsize size = window_size(o->pty.columns, o->pty.rows, o->pty.xpixels, o->pty.ypixels);
	struct termios t;
	int master, slave;

	if (openpty(&master, &slave, NULL, NULL, &size) < 0)
		return -errno;
	c->process.sink.fd = master;
	st->spawn.tty = slave;
	if (fcntl(master, F_SETFD, FD_CLOEXEC) < 0 || fcntl(slave, F_SETFD, FD_CLOEXEC) < 0 ||
	    fcntl(master, F_SETFL, O_NONBLOCK) < 0 || ttyname_r(slave, st->tty, sizeof(st->tty)) != 0)
		return errno ? -errno : -ENOTTY;
	if (tcgetattr(slave, &t) == 0) {
		ttymodes_apply(o->pty.modes, &t);
		(void)tcsetattr(slave, TCSANOW, &t);
	}
	sink_init(&c->process.sink, master);
	source_init(&c->process.out, master, SOURCE_TERMINAL, 0);
	return session_watch(c->session, master, &c->process.out.watch);
}

static int pipes_open(struct channel *c, struct start *st)
{
	struct process *p = &c->process;
	int in = -1, out = -1, err = -1, rc;

	rc = spawn_pipe(false, &in, &st->spawn.in);
	sink_init(&p->sink, in);
	if (rc == 0)
		rc = spawn_pipe(true, &out, &st->spawn.out);
	source_init(&p->out, out, SOURCE_PIPE, 0);
	if (rc == 0)
		rc = spawn_pipe(true, &err, &st->spawn.err);
	source_init(&p->err, err, SOURCE_PIPE, 1);
	if (rc == 0) {
		hangup_note(&p->hangup, in);
		hangup_note(&p->hangup, out);
		hangup_note(&p->hangup, err);
	}
	if (rc == 0)
		rc = session_watch(c->session, in, &p->sink.watch);
	if (rc == 0)
		rc = session_watch(c->session, out, &p->out.watch);
	if (rc == 0)
		rc = session_watch(c->session, err, &p->err.watch);
	return rc;
}

/* The shell's argv[0]: its name, with a dash for a login shell. */
static void shell_name(const struct session *s, bool is_login, char *ret_name, size_t size)
{
	const char *slash = strrchr(s->user.shell, '/');

	snprintf(ret_name, size, "%s%s", is_login ? "-" : "", slash ? slash + 1 : s->user.shell);
}

static int run(struct channel *c, struct start *st)
{
	struct session *s = c->session;
	char dash_c[] = "-c";
	char *argv[] = {st->name, st->command ? dash_c : NULL, st->command, NULL};
	pid_t pid;

	shell_name(s, !st->command, st->name, sizeof(st->name));
	st->spawn.path = s->user.shell;
	st->spawn.argv = argv;
	st->spawn.envp = st->env;
	st->spawn.folder = s->user.home;
	pid = spawn_program(&st->spawn);
	if (pid < 0)
		return (int)pid;
	c->process.pid = pid;
	return 0;
}

static void start_deinit(struct start *st)
{
	close_fd(&st->spawn.in);
	close_fd(&st->spawn.out);
	close_fd(&st->spawn.err);
	close_fd(&st->spawn.tty);
	env_free(st->env);
	free(st->command);
}

/* A session without its agent is better than none; its user is told. */
static void start_agent(struct channel *c, const struct start *st)
{
	int rc = agent_start(c, &c->process.agent);
	char text[160];
	int n;

	if (rc == 0)
		return;
	n = snprintf(text, sizeof(text), "procd: no agent forwarding: %s\r\n", strerror(-rc));
	(void)!write(st->spawn.tty >= 0 ? st->spawn.tty : st->spawn.err, text, (size_t)n);
}

/* The user does not want to be greeted. */
static bool is_hushed(const struct session *s)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/.hushlogin", s->user.home);

	return n < (int)sizeof(path) && access(path, F_OK) == 0;
}

/*
 * The message of the day, before the shell says anything. Not written to the terminal: that holds less, and nobody reads from it while
 * the shell is being started. So CR LF is made here.
 */
static void greet(struct channel *c, struct bytes text)
{
	uint8_t *lines =
		text.n > 0 && text.n <= GREETING_BYTES_MAX && !is_hushed(c->session) ? malloc(2 * text.n) : NULL;
	uint32_t n = 0;

	if (!lines)
		return;
	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] == '\n')
			lines[n++] = '\r';
		lines[n++] = text.p[i];
	}
	source_put_first(&c->process.out, lines, n);
}

static int start(struct channel *c, const struct frame_open_options *o, struct start *st)
{
	struct process *p = &c->process;
	int rc = p->has_pty ? pty_open(c, o, st) : pipes_open(c, st);

	if (rc < 0)
		return channel_refuse(c, p->has_pty ? "no-pty" : "no-memory", strerror(-rc));
	if (o->agent)
		start_agent(c, st);
	if (p->has_pty && !st->command)
		greet(c, o->message);
	st->env = env_make(c->session, o, p->has_pty ? st->tty : NULL, p->agent ? agent_path(p->agent) : NULL);
	rc = st->env ? run(c, st) : -ENOMEM;
	return rc < 0 ? channel_refuse(c, "no-memory", strerror(-rc)) : 0;
}

static int process_open(struct channel *c, const struct frame *f, bool has_command)
{
	const struct frame_open_options *o = &f->open.options;
	struct start st = {.spawn = {.in = -1, .out = -1, .err = -1, .tty = -1}};
	struct process *p = &c->process;
	int rc;

	p->sink.fd = p->out.fd = p->err.fd = -1;
	p->sink.state = SINK_CLOSED;
	p->out.is_done = p->err.is_done = true;
	p->sink.watch.on_events = on_sink_events;
	p->has_pty = c->is_urgent = o->has_pty;
	if (!env_is_valid(o) || !text_is_valid(o->pty.term, TERM_BYTES_MAX))
		return channel_refuse(c, "too-large", "the environment is too large or not text");
	if (!text_is_valid(o->command, COMMAND_BYTES_MAX))
		return channel_refuse(c, "too-large", "the command is too long or holds a NUL");
	if (has_command) {
		st.command = strndup(o->command.n > 0 ? (const char *)o->command.p : "", o->command.n);
		if (!st.command)
			return channel_refuse(c, "no-memory", "out of memory");
	}
	rc = start(c, o, &st);
	/* Set behind sink_init and source_init. */
	p->sink.watch.on_events = on_sink_events;
	p->out.watch.on_events = on_out_events;
	p->err.watch.on_events = on_err_events;
	start_deinit(&st);
	if (rc == 0)
		channel_opened(c);
	if (rc == 0 && p->out.first)
		channel_ready(c);
	return rc;
}

int process_open_shell(struct channel *c, const struct frame *f)
{
	return process_open(c, f, false);
}

int process_open_exec(struct channel *c, const struct frame *f)
{
	return process_open(c, f, true);
}

/* --- its end --- */

void process_reap(struct session *s)
{
	for (;;) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid <= 0)
			return;
		for (struct list *l = s->channels.next; l != &s->channels; l = l->next) {
			struct channel *c = CONTAINER_OF(l, struct channel, in_all);
			struct process *p = &c->process;

			if (c->kind != &process_kind || p->pid != pid || p->is_reaped)
				continue;
			p->is_reaped = true;
			p->wait_status = status;
			p->reaped_bytes = p->out.read_bytes;
			if (p->has_pty) {
				channel_deadline(c, PTY_DRAIN_MS);
			} else {
				source_owe(&p->out);
				source_owe(&p->err);
			}
			channel_ready(c);
			break;
		}
	}
}

static void process_end(struct channel *c)
{
	struct process *p = &c->process;

	/* Without EXIT its user is gone in the middle of it; after EXIT what it left running was left on purpose. */
	bool hang_up = p->pid > 0 && !p->is_reaped && !p->is_exit_sent;

	if (!p->has_pty) {
		session_unwatch(c->session, &p->out.fd);
		session_unwatch(c->session, &p->err.fd);
	}
	session_unwatch(c->session, &p->sink.fd);
	sink_deinit(&p->sink);
	source_deinit(&p->out);
	p->sink.state = SINK_CLOSED;
	p->out.is_done = p->err.is_done = true;
	agent_stop(p->agent);
	p->agent = NULL;
	/*
	 * A terminal's leader and foreground get theirs from the kernel, with the last descriptor of its master. Not once more
	 * from here: a second SIGHUP while bash handles the first ends it at once, and its background jobs live on.
	 */
	if (hang_up && !p->has_pty)
		hangup_send(&p->hangup, p->pid);
}

/* Resize and signals; called by channel_on_frame through the kind. */
static int process_on_frame(struct channel *c, const struct frame *f)
{
	struct process *p = &c->process;

	if (f->type == FRAME_RESIZE && p->has_pty && p->sink.fd >= 0) {
		struct winsize size =
			window_size(f->resize.columns, f->resize.rows, f->resize.xpixels, f->resize.ypixels);

		(void)ioctl(p->sink.fd, TIOCSWINSZ, &size);
	} else if (f->type == FRAME_SIGNAL && p->pid > 0 && !p->is_reaped) {
		int number = signal_number(f->signal);

		if (number > 0)
			(void)kill(-p->pid, number);
	}
	return 0;
}

const struct channel_kind process_kind = {
	.on_data = process_on_data,
	.on_input = input_flush,
	.on_eof = process_on_eof,
	.on_frame = process_on_frame,
	.has_output = process_has_output,
	.emit = process_emit,
	.on_deadline = process_on_deadline,
	.end = process_end,
};
