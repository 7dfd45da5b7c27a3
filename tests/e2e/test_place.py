"""Large packets of the client's are decrypted where they are sent on from: what comes there, and what does not."""

import asyncio
import contextlib
import hashlib
import os
import socket
import threading

import asyncssh
import pytest

from aclient import connect, finish
from test_status import counts

PIECE = 16 * 1024
CIPHERS = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr"]
ETM = ["hmac-sha2-256-etm@openssh.com"]


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


async def back_and_forth(process, data):
    """It comes back before more is sent, so that each packet is alone on its way."""
    process.stdin.write(data)
    assert await process.stdout.readexactly(len(data)) == data


@pytest.mark.gateway
@pytest.mark.parametrize("cipher", CIPHERS)
def test_they_are_not_copied(region, cipher):
    """Down one copy is made. Up none but where a packet came in two pieces."""
    async def go():
        async with connect(region, encryption_algs=[cipher], mac_algs=ETM) as conn:
            process = await conn.create_process("cat", encoding=None)
            await back_and_forth(process, os.urandom(PIECE))
            before = counts(region)["workers"]["copied_bytes"]
            for _ in range(100):
                await back_and_forth(process, os.urandom(PIECE))
            copied = counts(region)["workers"]["copied_bytes"] - before
            process.stdin.write_eof()
            await process.wait()
            return copied / (100 * PIECE)

    assert finish(go(), 60) < 1.6


@pytest.mark.parametrize("mac", ["hmac-sha2-256", *ETM])
@pytest.mark.parametrize("cipher", CIPHERS)
def test_of_two_channels_in_turn(region, cipher, mac):
    """Whose data comes next is a guess, and here a wrong one each time."""
    async def go():
        async with connect(region, encryption_algs=[cipher], mac_algs=[mac]) as conn:
            two = [await conn.create_process("cat", encoding=None) for _ in range(2)]
            for size in (2 * PIECE, PIECE, 5000, 2048, 2047, 1, 2 * PIECE):
                for process in two:
                    await back_and_forth(process, os.urandom(size))

    finish(go(), 60)


def test_with_other_large_packets_between(region):
    """What is no channel's data, or for a channel that takes none, goes the usual way."""
    async def go():
        async with connect(region) as conn:
            process = await conn.create_process("cat", encoding=None)
            digest, out = hashlib.sha256(), hashlib.sha256()
            for i in range(60):
                data = os.urandom(2 * PIECE)
                digest.update(data)
                process.stdin.write(data)
                conn.send_debug("x" * (3000 + i))
                conn.send_packet(asyncssh.constants.MSG_IGNORE, asyncssh.packet.String(os.urandom(4000 + 100 * i)))
                out.update(await process.stdout.readexactly(len(data)))
            # This one takes no more: what is sent all the same has no place.
            deaf = await conn.create_process("exec 0<&-; echo closed; sleep 1", encoding=None)
            await deaf.stdout.readline()
            deaf.stdin.write(os.urandom(40 * PIECE))
            assert (await deaf.wait()).exit_status == 0
            long = await conn.run("true '" + "y" * 30000 + "'")
            assert long.exit_status == 0
            await back_and_forth(process, os.urandom(2 * PIECE))
            return digest.digest() == out.digest()

    assert finish(go(), 90)


def test_held_back_and_let_go(region):
    """A program that sleeps first: its data is held, what comes later must not overtake it."""
    async def go():
        data = os.urandom(6 << 20)
        async with connect(region) as conn:
            process = await conn.create_process("sleep 1; sha256sum", encoding=None)
            for at in range(0, len(data), 40000):
                process.stdin.write(data[at:at + 40000])
                await process.stdin.drain()
            process.stdin.write_eof()
            out = await process.stdout.read()
            return out.split()[0].decode() == hashlib.sha256(data).hexdigest()

    assert finish(go(), 60)


class Spoiler:
    """A line to the gateway on which one bit of what the client sends is wrong."""

    def __init__(self, region, at):
        self.at = at
        self.region = region
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        client, _ = self.listener.accept()
        server = socket.create_connection((self.region.host, self.region.port))
        threading.Thread(target=self.carry, args=(server, client, None), daemon=True).start()
        self.carry(client, server, self.at)

    @staticmethod
    def carry(source, target, at):
        done = 0
        try:
            while data := bytearray(source.recv(65536)):
                if at is not None and done <= at < done + len(data):
                    data[at - done] ^= 1
                done += len(data)
                target.sendall(data)
        except OSError:
            pass
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)  # Merely closed, the other thread's recv() would keep it open.


@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_spoiled_packet_ends_the_session(region, work, cipher):
    """Nothing of it reaches the sandbox: what is there is the beginning of what was sent."""
    target, data = os.path.join(region.home, work, "spoiled"), os.urandom(4 << 20)
    spoiler = Spoiler(region, 2 << 20)

    async def go():
        async with asyncssh.connect(
                "127.0.0.1", spoiler.port, username=region.box, client_keys=[region.identity], known_hosts=None,
                config=None, agent_path=None, encryption_algs=[cipher], mac_algs=ETM) as conn:
            process = await conn.create_process(f"cat > {work}/spoiled; true", encoding=None)
            await until(lambda: os.path.exists(target))
            process.stdin.write(data)
            return (await process.wait()).exit_status

    assert finish(go(), 30) != 0
    # None of it may be there: who was to write it is hung up.
    with open(target, "rb") as f:
        found = f.read()
    assert len(found) < 2 << 20 and found == data[:len(found)]
    region.ssh("true").ok()
