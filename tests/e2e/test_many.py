"""Many users, many channels, and users who do not read: bounded, and nobody else waits.

One region of 20 sandboxes serves the file. A client of it is stopped (SIGSTOP) at the
first test for a minute; the last test looks at what it got.
"""

import asyncio
import hashlib
import os
import resource
import signal
import subprocess
import threading
import time

import pytest

from aclient import connect, finish
from raw import channel_request, flood, global_request, transport
from regions import Region, pipe_sha, run, sha_of_file
from waiting import resident_bytes, tree_resident_bytes, wait_until

MIB = 1 << 20
STALL_S = 60
STALLED_BYTES = 200 * MIB

# What one hostile session may cost: 1 MiB of transport, 8 MiB of the procd stream's
# budget, and what allocators round up.
GROWTH_MAX = 24 * MIB
# A sandbox is a process tree; its shells and `head`s are in there, too.
PROCD_GROWTH_MAX = 32 * MIB


@pytest.fixture(scope="module")
def crowd(bin_dir, is_standin):
    """A region with room for a thousand: 50 connections for each of 20 sandboxes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    settings = [] if is_standin else ["--set", "session.max_channels=64"]
    with Region(bin_dir, settings, sandboxes=20, is_standin=is_standin) as started:
        yield started
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def stopped(crowd, tmp_path_factory):
    """(process, start, path): a download whose client does not run for a minute."""
    path = tmp_path_factory.mktemp("stopped") / "out"
    box = crowd.sandboxes[1]
    with open(path, "wb") as out:
        process = subprocess.Popen(
            crowd.ssh_argv(f"head -c {STALLED_BYTES} /dev/zero | tr '\\0' s", box=box),
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE)
        wait_until(lambda: os.path.getsize(path) > 0, "the first bytes")
        process.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        # Not much longer than a minute: then it would rightly be taken for dead.
        timer = threading.Timer(STALL_S, process.send_signal, [signal.SIGCONT])
        timer.start()
        yield process, start, path
        timer.cancel()
        process.kill()
        process.wait()
        process.stderr.close()


class Growth:
    """Resident memory of the gateway and one sandbox's procd, against a start."""

    def __init__(self, region, box=None):
        self.region = region
        self.procd = region.procd_pids[box or region.box]
        self.gateway_bytes = resident_bytes(region.gateway_pid)
        self.procd_bytes = tree_resident_bytes(self.procd)

    def check(self, more=0):
        if self.region.is_standin or self.region.is_sanitized:
            return  # sshd's memory, or a sanitizer's quarantine, is not ours to bound.
        gateway = resident_bytes(self.region.gateway_pid) - self.gateway_bytes
        procd = tree_resident_bytes(self.procd) - self.procd_bytes
        assert gateway < GROWTH_MAX + more, f"the gateway grew by {gateway / MIB:.1f} MiB"
        assert procd < PROCD_GROWTH_MAX, f"procd grew by {procd / MIB:.1f} MiB"


def seconds_of_download(region, box, mib=96):
    begin = time.monotonic()
    result = pipe_sha(region.ssh_argv(f"head -c {mib * MIB} /dev/zero", box=box))
    assert result.status == 0 and result.count == mib * MIB, result
    return time.monotonic() - begin


@pytest.fixture(scope="module")
def usual(crowd):
    """Seconds of a download while nobody else does anything."""
    return min(seconds_of_download(crowd, crowd.sandboxes[4]) for _ in range(2))


def check_others_are_fast(region, usual):
    """Three tries: this machine has other things to do, too."""
    times = []
    for _ in range(3):
        times.append(seconds_of_download(region, region.sandboxes[4]))
        if times[-1] < 2 * usual + 1:
            return
    raise AssertionError(f"others are slowed down: {times} s, usually {usual:.2f} s")


def test_a_gigabyte_beside_a_stopped_client(crowd, stopped, random1024, roomy):
    growth = Growth(crowd, crowd.sandboxes[1])
    target = os.path.join(roomy, "target")
    crowd.scp(random1024.path, crowd.remote(target, box=crowd.sandboxes[2])).ok()
    assert sha_of_file(target) == random1024.sha
    os.unlink(random1024.path)
    crowd.scp(crowd.remote(target, box=crowd.sandboxes[2]), random1024.path).ok()
    assert sha_of_file(random1024.path) == random1024.sha
    growth.check()


def test_same_sandbox_beside_a_stopped_client(crowd, stopped):
    for i in range(5):
        assert crowd.ssh(f"echo {i}", box=crowd.sandboxes[1]).ok().out == f"{i}\n"


def test_four_gib_window_and_no_reading(crowd, stopped, usual):
    """The window is the client's choice; what is held for it is not."""
    box = crowd.sandboxes[3]
    one, sock = transport(crowd, box)
    growth = Growth(crowd, box)
    try:
        channel = one.open_session(window_size=(1 << 32) - 1, max_packet_size=32768)
        channel.exec_command("head -c 3000000000 /dev/zero")
        channel.recv(1)
        sock.shut()
        for _ in range(3):
            check_others_are_fast(crowd, usual)
            growth.check()
        assert crowd.ssh("echo x", box=box).ok().out == "x\n"
    finally:
        sock.close()
        one.close()


@pytest.mark.gateway
def test_windows_are_large_at_once(region):
    """1 MiB for the first channel as soon as its sandbox has answered, all within the connection's 8 MiB; a terminal's stays small."""
    small, budget, count = 32 << 10, 8 << 20, 12
    one, _ = transport(region)
    try:
        channels = []
        for _ in range(count):
            channels.append(one.open_session())
            assert channels[-1].out_window_size == small
            channels[-1].exec_command("cat")
            wait_until(lambda: channels[-1].out_window_size > small, "a larger window")
        assert channels[0].out_window_size >= 1 << 20
        assert sum(c.out_window_size for c in channels) <= budget + count * small
        terminal = one.open_session()
        terminal.get_pty()
        terminal.exec_command("echo here; cat")
        assert terminal.recv(4) == b"here" and terminal.out_window_size == small
    finally:
        one.close()


def test_four_gib_window_is_a_right(crowd):
    """A client with such a window that does read gets every byte."""
    one, sock = transport(crowd)
    try:
        channel = one.open_session(window_size=(1 << 32) - 1, max_packet_size=1 << 18)
        channel.exec_command("head -c 50000000 /dev/zero; exit 3")
        count = 0
        while data := channel.recv(1 << 18):
            count += len(data)
        assert count == 50000000 and channel.recv_exit_status() == 3
    finally:
        one.close()
        sock.close()


@pytest.mark.parametrize("what", ["keepalives", "unknown-requests", "channel-requests",
                                  "window-changes", "environment"])
def test_floods_without_reading(crowd, stopped, usual, what):
    """Requests whose answers nobody takes: the flood stalls, or its connection ends."""
    box = crowd.sandboxes[5]
    one, sock = transport(crowd, box)
    try:
        channel = one.open_session()
        if what == "window-changes":
            channel.get_pty()
        channel.exec_command("sleep 30")
        growth = Growth(crowd, box)
        sock.shut()
        sends = {
            "keepalives": lambda: global_request(one, "keepalive@openssh.com"),
            "unknown-requests": lambda: global_request(one, "x" * 200 + "@example.org"),
            "channel-requests": lambda: channel_request(
                one, channel.remote_chanid, "unknown@example.org"),
            "window-changes": lambda: channel_request(
                one, channel.remote_chanid, "window-change", 80, 24, 0, 0,
                want_reply=False),
            "environment": lambda: channel_request(
                one, channel.remote_chanid, "env", "LC_X", "y" * 1000),
        }
        state = flood(sends[what])
        assert state["count"] > 100, state
        growth.check()
        check_others_are_fast(crowd, usual)
        assert crowd.ssh("echo x", box=box).ok().out == "x\n"
    finally:
        sock.close()
        one.close()
    crowd.serves()


def test_stalled_channel_beside_a_fast_one(crowd):
    """Two channels of one connection: nobody reads the one, the other is at speed."""
    box = crowd.sandboxes[7]

    async def go():
        async with connect(crowd, box) as conn:
            stalled = await conn.create_process("yes", encoding=None)
            await stalled.stdout.read(10)
            begin = time.monotonic()
            fast = await conn.create_process(f"head -c {96 * MIB} /dev/zero",
                                             encoding=None)
            count = 0
            while data := await fast.stdout.read(MIB):
                count += len(data)
            await fast.wait()
            seconds = time.monotonic() - begin
            for i in range(5):
                assert (await conn.run(f"echo {i}")).stdout == f"{i}\n"
            stalled.kill()
            return fast.exit_status, count, seconds

    growth = Growth(crowd, box)
    status, count, seconds = finish(go(), 100)
    assert (status, count) == (0, 96 * MIB)
    assert seconds < 20, seconds
    growth.check()


def test_stalled_stdin_beside_a_fast_one(crowd):
    """The other direction: a command that does not read holds up no other."""
    box = crowd.sandboxes[7]

    async def go():
        async with connect(crowd, box) as conn:
            stalled = await conn.create_process("sleep 60", encoding=None)
            stalled.stdin.write(bytes(20 * MIB))  # Kept by the client past its window.
            data = os.urandom(4 * MIB)
            for _ in range(3):
                done = await conn.run("sha256sum", input=data, encoding=None)
                assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
            stalled.kill()

    finish(go(), 60)


def test_control_master_with_fifty(crowd, tmp_path):
    """One connection, 50 commands that are all there at the same time."""
    control = f"/tmp/ringgate-cm-{os.getpid()}"
    master = subprocess.Popen(
        crowd.ssh_argv(flags=("-M", "-N", "-S", control)), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    clients = []
    try:
        wait_until(lambda: os.path.exists(control), "the master")
        # Each waits until all 50 have marked that they are there.
        folder = f"fifty-{os.getpid()}"
        crowd.ssh(f"mkdir {folder}", flags=("-S", control)).ok()
        command = ("touch {0}/{1}; until [ $(ls {0} | wc -l) -ge 50 ]; do sleep 0.2; done; "
                   "cat; echo err-{1} >&2; exit {1}")
        for i in range(50):
            clients.append(subprocess.Popen(
                crowd.ssh_argv(command.format(folder, i), flags=("-S", control)),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        results = [None] * 50

        def take(i):
            results[i] = clients[i].communicate(b"in-%d " % i * 20000, timeout=90)

        threads = [threading.Thread(target=take, args=(i,)) for i in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        for i in range(50):
            assert clients[i].returncode == i, (i, clients[i].returncode, results[i])
            out, err = results[i]
            assert out == b"in-%d " % i * 20000 and b"err-%d\n" % i in err
        crowd.ssh(f"rm -r {folder}", flags=("-S", control)).ok()
    finally:
        for client in clients:
            client.kill()
            client.wait()
        master.terminate()
        master.wait()


@pytest.mark.gateway
def test_too_many_channels(crowd):
    """Past session.max_channels (64 here) an open is refused; the others do not notice."""
    one, sock = transport(crowd, crowd.sandboxes[8])
    try:
        opened, refused = [], None
        for _ in range(70):
            try:
                opened.append(one.open_session(timeout=20))
            except Exception as error:  # paramiko.ChannelException
                refused = error
                break
        assert len(opened) == 64, len(opened)
        assert type(refused).__name__ == "ChannelException", refused
        opened[0].exec_command("echo first")
        assert opened[0].recv(100) == b"first\n"
        # A closed one makes room.
        opened.pop().close()

        def has_room():
            try:
                return one.open_session(timeout=20)
            except Exception:
                return None

        again = wait_until(has_room, "room for a channel")
        again.exec_command("echo again")
        assert again.recv(100) == b"again\n"
    finally:
        one.close()
        sock.close()


@pytest.mark.slow
def test_a_thousand_connections(crowd, stopped):
    """All 1,000 are logged in at the same time; each command proves whose it is."""
    count = 1000
    state = {"in": 0}

    async def one(i, gate, all_in):
        box = crowd.sandboxes[i % 20]
        async with gate:
            conn = await asyncio.wait_for(connect(
                crowd, box, kex_algs=["curve25519-sha256"],
                encryption_algs=["aes128-gcm@openssh.com"]), 60)
        async with conn:
            state["in"] += 1
            if state["in"] == count:
                all_in.set()
            await all_in.wait()
            token = hashlib.sha256(b"%d" % i).hexdigest()
            process = await conn.create_process(f"read x; echo {token} $x $HOME; exit {i % 100}")
            process.stdin.write(f"in-{i}\n")
            out = await process.stdout.read()
            await process.wait()
            assert out == f"{token} in-{i} {os.path.realpath(crowd.homes[box])}\n", out
            assert process.exit_status == i % 100

    async def go():
        gate, all_in = asyncio.Semaphore(8), asyncio.Event()
        await asyncio.gather(*(one(i, gate, all_in) for i in range(count)))

    finish(go(), 220)
    crowd.serves()


@pytest.mark.gateway
def test_memory_is_given_back(crowd, stopped):
    """After a thousand have left, little more is held than before."""
    if crowd.is_sanitized:
        pytest.skip("a sanitizer keeps freed memory")
    time_left = time.monotonic() + 20
    while time.monotonic() < time_left:
        held = resident_bytes(crowd.gateway_pid)
        if held < 96 * MIB:
            return
        time.sleep(0.5)
    raise AssertionError(f"{held / MIB:.1f} MiB resident with one session left")


def test_connections_in_a_row(crowd):
    """No file descriptor stays behind."""
    def held():
        return len(os.listdir(f"/proc/{crowd.gateway_pid}/fd"))

    crowd.ssh("true").ok()
    before = held()
    for _ in range(30):
        crowd.ssh("true").ok()
    wait_until(lambda: held() <= before, "the end of all descriptors")


def test_stopped_client_goes_on(crowd, stopped):
    """The last of the file: the client that stood still gets all of its bytes."""
    process, start, path = stopped
    assert process.wait(STALL_S + 60) == 0, process.stderr.read()
    assert time.monotonic() - start > STALL_S
    assert os.path.getsize(path) == STALLED_BYTES
    wanted = run(["sh", "-c", f"head -c {STALLED_BYTES} /dev/zero | tr '\\0' s | sha256sum"])
    assert sha_of_file(path) == wanted.out.split()[0]
