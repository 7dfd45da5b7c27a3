"""bench/forwards.py - what a forwarded connection costs: MB/s, CPU and the time until its first byte, of ssh -L and -R.

The program behind a forward, and the one in front of it, are threads of this process: the sandbox is on this machine, as sshd is.
Up is from the user to the sandbox, whoever opened the connection.
"""

import contextlib
import hashlib
import os
import socket
import subprocess
import threading
import time

from meters import stat_fields, TICK_S
from measure import Altered, measured, transfer_limit_s
from servers import Trouble, end_process, free_port, say, wait_for

READY_S = 20
BUFFER_BYTES = 1 << 20
WAYS = ("-L", "-R")


class Far:
    """The server behind a forward: sends a file, takes bytes, or gives each byte back."""

    def __init__(self, source):
        self.source = source
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.mode = "echo"
        self.taken = None
        self.is_taken = threading.Event()
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.mode == "give":
                give(connection, self.source)
            elif self.mode in ("take", "keep"):
                self.taken = take(connection, self.mode == "keep")
                self.is_taken.set()
            else:
                while data := connection.recv(64):
                    connection.sendall(data)

    def close(self):
        # Merely closed, the thread's accept() would go on.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)
        self.listener.close()


def give(connection, source):
    with open(source, "rb") as f:
        connection.sendfile(f)
    connection.shutdown(socket.SHUT_WR)


def take(connection, is_kept):
    """(bytes, SHA-256 or None) of what comes until the end."""
    buffer, count = bytearray(BUFFER_BYTES), 0
    digest = hashlib.sha256() if is_kept else None
    while n := connection.recv_into(buffer):
        count += n
        if digest:
            digest.update(memoryview(buffer)[:n])
    return count, digest.hexdigest() if digest else None


def cpu_of(pid):
    fields = stat_fields(pid)
    return sum(int(word) for word in fields[11:13]) * TICK_S if fields else 0


@contextlib.contextmanager
def forward(target, way, far, cipher):
    """(port, ssh's pid) of a session that forwards and does nothing else."""
    port = free_port()
    client = subprocess.Popen(
        target.ssh(cipher=cipher, options=("-N", way, f"127.0.0.1:{port}:127.0.0.1:{far.port}",
                                           "-o", "ExitOnForwardFailure=yes")),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def is_ready():
        if client.poll() is not None:
            raise Trouble(f"ssh {way} ended with status {client.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
            return True
        except ConnectionRefusedError:
            return False

    try:
        wait_for(is_ready, READY_S, f"the port of ssh {way}")
        target.learn_rest()  # The session's own processes are there while it is measured.
        yield port, client.pid
    finally:
        end_process(client)
        target.learn_rest()


class Forwards:
    """Part of Bench: uses its options, targets and report."""

    def forwards(self):
        size, cipher = self.options.forward_size, self.options.ciphers[0]
        source = self.source(size)
        far = Far(source)
        try:
            for way in WAYS:
                runs = {}
                for i, target in self.in_turn():
                    with forward(target, way, far, cipher) as (port, pid):
                        for direction in ("down", "up"):
                            run = self.forwarded(target, way, direction, far, (port, pid), i)
                            runs.setdefault(direction, {}).setdefault(target.name, []).append(run)
                        found = self.first_bytes(target, way, far, port, i)
                        runs.setdefault("connect", {}).setdefault(target.name, []).append(found)
                for direction in ("down", "up"):
                    self.add_transfer_rows(f"forward {way} {direction}", cipher, size, runs[direction])
                for measure, key in (("p50 ms", 0.5), ("p99 ms", 0.99)):
                    self.report.add(f"forward {way}, to the first byte", cipher, measure,
                                    *([quantile(times, key) for times in runs["connect"][target.name]]
                                      for target in (self.ours, self.sshd)), digits=3)
        finally:
            far.close()

    def forwarded(self, target, way, direction, far, at, i):
        """One transfer of the source; the first repetition's is made once more, and checked."""
        (port, pid), size = at, self.options.forward_size
        source = self.source(size)
        # Who connects is in the sandbox with -R: then the far end is the user's.
        is_sent_by_far = (direction == "down") == (way == "-L")

        def once(is_kept):
            far.mode = "give" if is_sent_by_far else ("keep" if is_kept else "take")
            far.is_taken.clear()
            with socket.create_connection(("127.0.0.1", port), READY_S) as near:
                near.settimeout(transfer_limit_s(size))
                if is_sent_by_far:
                    return take(near, is_kept)
                give(near, source)
                if not far.is_taken.wait(transfer_limit_s(size)):
                    raise Trouble(f"forward {way} {direction} {target.name}: over its time")
                return far.taken

        def work():
            before = cpu_of(pid)
            found.append(once(False))
            return cpu_of(pid) - before

        found = []
        run = measured(target, work, size)
        if found[0][0] != size:
            raise Altered(f"forward {way} {direction} {target.name}: {found[0][0]} bytes of {size}")
        if i == 0 and once(True) != (size, self.hashes[source]):
            raise Altered(f"forward {way} {direction} {target.name}: SHA-256 differs")
        say(f"forward {way} {direction} {target.name} {i + 1}/{self.repeat}: "
            f"{size / 1e6 / run.seconds:.0f} MB/s, CPU s/GB " +
            ", ".join(f"{key} {value / (size / 1e9):.2f}" for key, value in run.cpu.items()))
        return run

    def first_bytes(self, target, way, far, port, i):
        """Seconds from connect until a byte has gone there and back, one connection after the other."""
        far.mode, times = "echo", []  # As the next probe finds it.
        for _ in range(self.options.forward_connects):
            begin = time.perf_counter()
            with socket.create_connection(("127.0.0.1", port), READY_S) as near:
                near.settimeout(READY_S)
                near.sendall(b"x")
                if near.recv(1) != b"x":
                    raise Trouble(f"forward {way} {target.name}: no byte came back")
                times.append(time.perf_counter() - begin)
        say(f"forward {way} to the first byte {target.name} {i + 1}/{self.repeat}: "
            f"p50 {quantile(times, 0.5):.3f} ms, p99 {quantile(times, 0.99):.3f} ms")
        return times


def quantile(times, q):
    """In milliseconds."""
    ordered = sorted(times)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)] * 1e3

