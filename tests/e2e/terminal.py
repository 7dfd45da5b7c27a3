"""A client on a pseudo terminal of its own: what a person at a keyboard sees."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time


class Terminal:
    def __init__(self, argv, rows=24, columns=80, env=None, before=None):
        """env: the client's; else ours with TERM=xterm, whatever the tests were started from.
        before(fd): may change the terminal's modes before the client starts."""
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        if before is not None:
            before(slave)
        environment = dict(os.environ, TERM="xterm") if env is None else env

        def own_terminal():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave,
                                        env=environment, start_new_session=True,
                                        preexec_fn=own_terminal)
        os.close(slave)
        self.text = bytearray()  # All that has come.
        self.mark = 0     # Where the next expect() starts.

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ,
                    struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, data):
        data = data.encode() if isinstance(data, str) else data
        while data:
            _, writable, _ = select.select([], [self.master], [], 20)
            assert writable, "the client takes no more input"
            data = data[os.write(self.master, data):]

    def pump(self, seconds):
        """Takes what has come; False at the end."""
        readable, _, _ = select.select([self.master], [], [], seconds)
        if not readable:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.text += data
        return bool(data)

    def expect(self, pattern, seconds=20):
        """Waits for a regular expression behind the last match; returns the match."""
        compiled = re.compile(pattern.encode() if isinstance(pattern, str) else pattern,
                              re.S)
        deadline = time.monotonic() + seconds
        alive = True
        start = self.mark
        while True:
            match = compiled.search(bytes(self.text[start:]))
            if match:
                self.mark = start + match.end()
                return match
            # What was looked through is not looked through again, but for its tail.
            start = max(start, len(self.text) - 16384)
            assert alive, f"the client ended before {pattern!r}; it wrote {self.shown()}"
            assert time.monotonic() < deadline, \
                f"no {pattern!r} within {seconds} s; it wrote {self.shown()}"
            alive = self.pump(0.05)

    def take(self, count, seconds=20):
        """Waits for so many bytes more, whatever they are."""
        wanted = len(self.text) + count
        deadline = time.monotonic() + seconds
        while len(self.text) < wanted:
            assert self.pump(0.05), f"the client ended; it wrote {self.shown()}"
            assert time.monotonic() < deadline, \
                f"{wanted - len(self.text)} bytes of {count} did not come within {seconds} s"

    def shown(self):
        return repr(bytes(self.text[-3000:]))

    def wait(self, seconds=20):
        """The client's exit status, after all its output was taken."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, \
                f"the client did not end in {seconds} s; it wrote {self.shown()}"
            if not self.pump(0.05):
                time.sleep(0.01)
        while self.pump(0):
            if not select.select([self.master], [], [], 0)[0]:
                break
        return self.process.returncode

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self):
        self.kill()
        if self.master is not None:
            os.close(self.master)
            self.master = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
