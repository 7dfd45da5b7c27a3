"""Inputs for the fuzz targets to begin with: good ones, since chance alone hardly makes any."""

import base64
import itertools
import json
import os
import re

try:
    import msgpack
except ImportError:
    msgpack = None

HERE = os.path.dirname(os.path.abspath(__file__))


def key_lines():
    """Those of the unit tests: C strings, in pieces."""
    with open(os.path.join(HERE, "..", "unit", "core", "keys.h"), encoding="ascii") as f:
        defines = re.findall(r'^#define KEY_\w+((?:\s*\\?\n?\s*"[^"]*")+)', f.read(), re.M)
    return ["".join(re.findall(r'"([^"]*)"', d)) for d in defines]


def pubkey():
    for line in key_lines():
        yield line.encode()
        yield f"  {line} a comment\r\n".encode()
        yield base64.b64decode(line.split()[1])


def directory():
    keys = key_lines()
    procd_key = "ed25519:" + base64.b64encode(bytes(range(32))).decode()
    yield f"""\
users:
  - id: u-ada
    teams: [t-one, t-two]
    keys:
      - {keys[0]} ada@laptop
      - "{keys[1]}"
  - {{id: u-none, teams: [], keys: ['{keys[2]}']}}
sandboxes:
  - id: a
    team: t-one
    procd: 127.0.0.1:40001
    procd_key: {procd_key}
  - {{id: b, team: t-two, procd: "[::1]:40002"}}
  - {{id: c, team: t-two, procd: "unix:/run/x.sock"}}
""".encode()
    yield b"# nothing\nusers: []\nsandboxes: []\n"
    yield b"users: &a [{id: u}]\nsandboxes: *a\n---\nteams: |\n  text\n"


def frames():
    """Each kind of frame of docs/procd-protocol.md, a few to a stream."""
    ticket = msgpack.packb({"sandbox": "a", "user": "u", "team": "t", "session": "0123", "gateway": "g",
                            "client": "127.0.0.1:9", "issued": 1700000000})
    pty = {"term": "xterm", "columns": 80, "rows": 24, "xpixels": 0, "ypixels": 0, "modes": b"\x01\0\0\0\x03\0"}
    yield [[0, 0, 1, b"c" * 32, {}]]
    yield [[1, 0, 1, ticket, b"s" * 64, {}]]
    yield [[2, 0, 1, b"s" * 64, {}], [3, 0, "protocol", "words"]]
    yield [[4, 0, 7], [5, 0, 7], [6, 0, "words"]]
    yield [[8, 2, "exec", {"command": b"true", "env": {b"LANG": b"C", b"X": b"y"}, "pty": pty}, 65536],
           [8, 4, "shell", {"pty": pty}, 65536], [8, 6, "subsystem", {"name": "sftp"}, 65536]]
    yield [[8, 8, "tcp", {"host": b"localhost", "port": 80, "originator_host": b"::1", "originator_port": 9}, 0],
           [8, 10, "unix", {"path": b"/x"}, 0]]
    yield [[9, 2, 65536, {}], [11, 2, 0, b"text" * 50], [11, 2, 1, b"x"], [12, 2, 1000], [13, 2]]
    yield [[10, 2, "denied", "no"], [14, 2, 80, 24, 0, 0], [15, 2, "TERM"], [16, 2, 3], [17, 2, "KILL", False, ""]]
    yield [[18, 2], [19, 2], [200, 2, "ignored", [1, {2: None}]]]
    yield [[20, 0, 1, "tcp", b"localhost", 0], [21, 0, 1, 80], [22, 0, 1, "denied", "no"], [23, 0, 1], [24, 0, 1]]


def frame():
    for several in frames():
        data = b"".join(msgpack.packb(f, use_bin_type=True) for f in several)
        for cut in (b"\x00", b"\x06", b"\xff"):
            yield cut + data
    # For the decoder of tickets, behind the same first byte.
    yield b"\xff" + next(itertools.islice(frames(), 1, None))[0][3]


def record():
    version = b"%020d" % 7
    for payload in ([["t-1", "u-1"], ["t-2", "u-2"]], ["tcp://127.0.0.1:7000", "ed25519:AAAA", "t-1", "running", ""],
                    ["tcp://127.0.0.1:7000", "", "t-1", "", '{"team": {"agent": false}}'], True):
        yield version + msgpack.packb([1700000000000, payload], use_bin_type=True)
    for name in ("key:SHA256:" + "a" * 43, "route:sb-1", "grant:sb-1:t-1:u-1", "rev:key:SHA256:" + "a" * 43,
                 "rev:member:t-1:u-1", "rev:sandbox:sb-1"):
        yield b"rg:" + name.encode()


def answer():
    """Of docs/control-plane.md, to the questions of fuzz_answer.c."""
    fingerprint = "SHA256:qARteTb2oz7ABVRSXf/ocAxO+Pv8UOQSflvmYv1Lqv0"
    grants = [{"team_id": "t-1", "user_id": "u-1"}, {"team_id": "t-2", "user_id": "u-1"}]
    route = {"sandbox_id": "sb-1", "team_id": "t-2", "user_id": "u-1", "procd_url": "tcp://127.0.0.1:7000",
             "procd_key": "ed25519:AAAA", "state": "running", "version": 8}
    for data in (
            {"fingerprint_sha256": fingerprint, "public_key": key_lines()[0], "grants": grants, "version": 7},
            {"fingerprint_sha256": fingerprint, "grants": []}, route, {**route, "procd_url": "", "state": "paused"},
            {**route, "policy": {"forward_ports": ["80", "8000-8999"], "agent": False, "commands": ["echo \"*\""]},
             "team_policy": {"sftp": "read_only", "idle_timeout_s": 60}},
            {"next": 9, "revoked": [{"key": fingerprint}, {"user": "u-1", "team": "t-1"}, {"sandbox": "sb-1"}],
             "moved": [{"sandbox": "sb-2"}]}, {"next": 4, "revoked": [], "moved": []}):
        yield json.dumps({"success": True, "data": data}).encode()
    for message in ("sandbox is waking up", "\u001b[31m\u00e4\u20ac\n"):
        yield json.dumps({"success": False, "error": {"code": "unavailable", "message": message}}).encode()


def policy():
    everything = {"forward_tcp": "loopback", "forward_ports": ["80", "8000-8999"], "forward_listen": "none",
                  "listen_ports": ["1-65535"], "forward_unix": False, "agent": True, "jump": False,
                  "commands": ["id", "git-upload-pack '*'", "a*b*c"], "sftp": "read_only", "sftp_only": True,
                  "idle_timeout_s": 60, "idle_warning_s": 5}
    for value in ({}, {"team": everything}, {"sandbox": {"sftp": "none"}, "team": {"commands": ["say \"*\""]}}):
        yield json.dumps(value).encode()


MAKERS = {"policy": policy, "pubkey": pubkey, "directory": directory, "frame": frame, "record": record, "answer": answer}
NEED_MSGPACK = ("frame", "record")


def write(name, folder):
    """Writes a target's seeds into a folder; returns why there are none, or None."""
    if name not in MAKERS:
        return "without seeds"
    if name in NEED_MSGPACK and msgpack is None:
        return "without seeds: python3-msgpack is missing"
    for i, seed in enumerate(MAKERS[name]()):
        with open(os.path.join(folder, str(i)), "wb") as f:
            f.write(seed)
    return None
