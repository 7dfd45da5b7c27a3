"""Waiting for conditions, and looking at processes through /proc. No sleeps elsewhere."""

import contextlib
import os
import socket
import time

POLL_S = 0.02


def wait_until(condition, what, seconds=20):
    """Returns the condition's first true value; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(POLL_S)


def stays_true(condition, seconds):
    """Whether the condition holds all the time for `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            return False
        time.sleep(POLL_S)
    return True


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def close_listener(listener, thread):
    """Ends a thread that waits in accept(), then closes.

    Were it only closed, the thread would wait on, and after the next signal on whatever has the descriptor's number by then:
    the kernel begins the call anew with the number. Another test's server would lose connections to it.
    """
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    assert not thread.is_alive(), "a thread waits in accept() although nobody listens"
    listener.close()


def stat_fields(pid):
    """(state, parent) of a process, or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            fields = f.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[1])


def is_alive(pid):
    fields = stat_fields(pid)
    return fields is not None and fields[0] != "Z"


def all_pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def pids_running(*argv):
    """Live processes whose whole command line this is: behind nohup's or setsid's exec, not before."""
    wanted = b"".join(word.encode() + b"\0" for word in argv)
    found = []
    for pid in all_pids():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                text = f.read()
        except OSError:
            continue
        if text == wanted and is_alive(pid):
            found.append(pid)
    return found


def pids_with(token):
    """Live processes with `token` in their command line or environment, us excepted."""
    found = []
    for pid in all_pids():
        if pid == os.getpid():
            continue
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                text = f.read()
        except OSError:
            continue
        if token.encode() in text and is_alive(pid):
            found.append(pid)
    return found


def descendants(root):
    parents = {}
    for pid in all_pids():
        fields = stat_fields(pid)
        if fields is not None and fields[0] != "Z":
            parents[pid] = fields[1]
    found = []
    for pid in parents:
        above = parents[pid]
        while above in parents and above != root:
            above = parents[above]
        if above == root:
            found.append(pid)
    return found


def resident_bytes(pid):
    """Resident memory of one process; its own peak is not included."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def tree_resident_bytes(pid):
    total = 0
    for each in [pid] + descendants(pid):
        try:
            total += resident_bytes(each)
        except OSError:
            pass
    return total


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", "rb") as f:
        fields = f.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))
