"""Forwards under load: hundreds at once, web sockets, bulk through each kind, readers that stall.

RINGGATE_E2E_FORWARD_MIB says how much goes through each kind, each way (64; 1024 for the whole truth).
"""

import asyncio
import contextlib
import hashlib
import os
import shlex
import socket
import struct
import threading
import time

import pytest

import ws
from aclient import finish
from editor_server import BLOCK
from forwards import connect, echo, exchange, forwarding, socks
from regions import CHECKOUT
from test_many import MIB, Growth
from waiting import free_port, wait_until

BULK_MIB = int(os.environ.get("RINGGATE_E2E_FORWARD_MIB", "64"))
SERVER = os.path.join(CHECKOUT, "tests", "e2e", "editor_server.py")


@pytest.fixture(scope="module")
def site(region):
    """The port of an HTTP server that runs in the sandbox."""
    out = f"{region.dir}/site"
    pid = int(region.ssh(f"nohup python3 {shlex.quote(SERVER)} >{out} 2>&1 </dev/null & echo $!").ok().out)

    def port():
        with open(out, encoding="ascii") as f:
            last = f.read().rpartition("listening on ")[2]
        return last.endswith("\n") and int(last)

    yield wait_until(port, "the server's port")
    os.kill(pid, 15)


async def connected(way, port, target):
    """Through -L, or through -D by its SOCKS."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if way == "dynamic":
        writer.write(b"\x05\x01\x00\x05\x01\x00\x01\x7f\0\0\1" + struct.pack(">H", target))
        assert await reader.readexactly(2) == b"\x05\x00"
        assert (await reader.readexactly(10))[1] == 0
    return reader, writer


def forward_flags(way, port, target):
    return ("-D", f"127.0.0.1:{port}") if way == "dynamic" else \
        ("-L", f"127.0.0.1:{port}:127.0.0.1:{target}")


@pytest.mark.parametrize("way", ["local", "dynamic"])
def test_two_hundred_pages_at_once(region, site, way):
    """200 connections are open at the same time; each then gets three pages, of its own sizes."""
    count, port = 200, free_port()

    async def page(reader, writer, size):
        writer.write(f"GET /bytes/{size} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        return await reader.readexactly(size)

    async def one(i, state):
        reader, writer = await connected(way, port, site)
        assert await page(reader, writer, i) == BLOCK[:i]
        state["open"] += 1
        if state["open"] == count:
            state["all"].set()
        await state["all"].wait()
        for size in (i * 300, 1):
            assert await page(reader, writer, size) == (BLOCK * 2)[:size]
        writer.close()

    async def go():
        state = {"open": 0, "all": asyncio.Event()}
        await asyncio.gather(*(one(i, state) for i in range(count)))

    with forwarding(region, *forward_flags(way, port, site), port=port):
        finish(go(), 120)


def web_sockets(connections):
    """Each says its own things; all are open before the first one speaks."""
    opened = [ws.upgraded(s, f"/?reconnectionToken={os.urandom(8).hex()}") for s in connections]
    for i, one in enumerate(opened):
        one.send(b"%d" % i * 5000)
    for i, one in reversed(list(enumerate(opened))):
        assert one.receive() == (ws.BINARY, b"%d" % i * 5000)
        one.send(b"", ws.PING)
        assert one.receive() == (ws.PONG, b"")
    for one in opened:
        one.send(b"", ws.CLOSE)
        assert one.receive()[0] == ws.CLOSE


@pytest.mark.parametrize("way", ["local", "dynamic", "remote"])
def test_web_sockets(region, site, way):
    """50 at once; with -R the server counts as one on the user's machine."""
    port = free_port()
    flags = ("-R", f"{port}:127.0.0.1:{site}") if way == "remote" else forward_flags(way, port, site)
    with forwarding(region, *flags, port=port), contextlib.ExitStack() as stack:
        web_sockets([stack.enter_context(socks(port, "localhost", site) if way == "dynamic"
                                         else connect(port)) for _ in range(50)])


class Bulk:
    """Random blocks, each made different by its number, and the SHA-256 of them all."""

    def __init__(self, mib):
        self.blocks = [os.urandom(MIB - 8) for _ in range(min(mib, 8))]
        self.mib = mib
        digest = hashlib.sha256()
        for part in self:
            digest.update(part)
        self.sha = digest.hexdigest()

    def __iter__(self):
        for i in range(self.mib):
            yield i.to_bytes(8, "big")
            yield self.blocks[i % len(self.blocks)]


@pytest.fixture(scope="module")
def bulk():
    return Bulk(BULK_MIB)


def send_and_take(s, bulk):
    """Both at the same time; the SHA-256 of what came until the other side's end."""
    def send():
        with contextlib.suppress(OSError):  # Then the sum is not the one that is looked for.
            for part in bulk:
                s.sendall(part)
            s.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    digest, buffer = hashlib.sha256(), bytearray(1 << 18)
    while count := s.recv_into(buffer):
        digest.update(memoryview(buffer)[:count])
    sender.join()
    return digest.hexdigest()


@pytest.mark.timeout(60 + BULK_MIB)
@pytest.mark.parametrize("way", ["local", "dynamic", "remote", "local-unix", "remote-unix"])
def test_bulk_both_ways(region, server, folder, bulk, way):
    """Up and down at the same time through one connection, equal by SHA-256."""
    seen = []

    def handle(connection):
        connection.settimeout(None)
        sha = send_and_take(connection, bulk)
        seen.append(sha)

    here, there = f"{folder}/here", f"{folder}/there"
    target = server(handle, there if way.endswith("unix") else None)
    port = here if way.endswith("unix") else free_port()
    flags = {
        "local": lambda: ("-L", f"127.0.0.1:{port}:127.0.0.1:{target.port}"),
        "dynamic": lambda: ("-D", f"127.0.0.1:{port}"),
        "remote": lambda: ("-R", f"{port}:127.0.0.1:{target.port}"),
        "local-unix": lambda: ("-L", f"{here}:{there}"),
        "remote-unix": lambda: ("-R", f"{here}:{there}"),
    }[way]()
    with forwarding(region, *flags, port=port):
        with socks(port, "127.0.0.1", target.port) if way == "dynamic" else connect(port) as s:
            s.settimeout(60)
            assert send_and_take(s, bulk) == bulk.sha
            wait_until(lambda: bulk.sha in seen, "the server's sum")


# (forward, what an upload's windows may grow to). All windows of a connection stay within that, or within 8 MiB.
STALLS = {"local": ("L", 2), "remote": ("R", 2), "grown": ("L", 64)}


@pytest.mark.parametrize("way", list(STALLS))
def test_stalled_readers_beside_a_fast_one(new_region, server, way):
    """40 connections are sent without end and nobody reads them here, 40 nobody reads over
    there: one more is as fast as ever, and no side's memory grows beyond its budget."""
    count, (letter, window_mib) = 40, STALLS[way]
    region = new_region("--set", f"session.window_max_bytes={window_mib}MiB", sandboxes=1)
    stop, stuck = threading.Event(), []

    def flood(s):
        s.settimeout(0.2)
        block = bytes(1 << 16)
        with contextlib.suppress(OSError):
            while not stop.is_set():
                try:
                    s.sendall(block)
                except TimeoutError:
                    stuck.append(s)
                    stop.wait(60)

    floods, deafs, echoes = server(flood), server(lambda _: stop.wait(60)), server(echo)
    ports, flags = [free_port() for _ in range(3)], []
    for port, target in zip(ports, (floods, deafs, echoes)):
        flags += [f"-{letter}", f"{port}:127.0.0.1:{target.port}"]
    with forwarding(region, *flags, port=ports[2]), contextlib.ExitStack() as stack:
        data = os.urandom(16 * MIB)

        def seconds():
            begin = time.monotonic()
            assert exchange(ports[2], data) == data
            return time.monotonic() - begin

        usual = min(seconds() for _ in range(2))
        growth = Growth(region)
        try:
            for _ in range(count):
                stack.enter_context(connect(ports[0])).recv(1)
                s = stack.enter_context(connect(ports[1]))
                threading.Thread(target=flood, args=(s,), daemon=True).start()
            wait_until(lambda: len(stuck) >= 2 * count, "so many stuck connections", 60)
            # Three tries: this machine has other things to do, too.
            beside = min(seconds() for _ in range(3))
            assert beside < 3 * usual + 0.5, (beside, usual)
            growth.check(more=(window_mib - 8) * MIB if window_mib > 8 else 0)
        finally:
            stop.set()
    region.serves()
