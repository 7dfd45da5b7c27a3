"""A control plane of a test's own, and clients of both its APIs: from the contract alone, on http.client.

Owner: whoever calls start() calls stop(); Control is a context manager.
"""

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse

import nacl.signing

from regions import REPORTS, end_with_us, run
from waiting import wait_until

START_S = 30
STOP_S = 20
CALL_S = 90
AUDIENCE = "ringgate-control"


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def data(self):
        answer = self.json
        assert answer["success"] is True and set(answer) == {"success", "data"}, answer
        return answer["data"]

    @property
    def error(self):
        """The code and the message of an answer that says no."""
        answer = self.json
        assert answer["success"] is False and set(answer) == {"success", "error"}, answer
        assert set(answer["error"]) == {"code", "message"}, answer
        return answer["error"]["code"], answer["error"]["message"]

    def __repr__(self):
        return f"{self.status} {self.body[:1000]!r}"


def http_call(address, method, path, body=None, headers=None, timeout=CALL_S):
    """body: bytes, or what becomes JSON."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    headers = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


class User:
    """What curl does with a user's token."""

    def __init__(self, control, name, token):
        self.control = control
        self.name = name
        self.token = token

    def call(self, method, path, body=None, headers=None, timeout=CALL_S):
        headers = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        return http_call(self.control.address, method, path, body, headers, timeout)

    def add_key(self, key, name="a key", **more):
        """key: its line, or a keys.Key."""
        line = key if isinstance(key, str) else key.line
        return self.call("POST", "/users/me/ssh-keys",
                         {"name": name, "public_key": line, **more})

    def keys(self):
        return self.call("GET", "/users/me/ssh-keys").data["ssh_keys"]

    def sandbox(self, name):
        return self.call("GET", f"/api/v1/sandboxes/{name}").data

    def create(self, name, **more):
        """A sandbox that runs."""
        answer = self.call("POST", "/api/v1/sandboxes", {"id": name, **more})
        assert answer.status == 201, answer
        wait_until(lambda: self.sandbox(name)["status"] == "running", f"{name}'s start")
        return answer.data


class Gateway:
    """What a gateway asks, with a key of its own."""

    def __init__(self, name="gateway-1"):
        self.name = name
        self.key = nacl.signing.SigningKey.generate()
        self.control = None

    @property
    def public(self):
        return "ed25519:" + base64.b64encode(bytes(self.key.verify_key)).decode()

    def token(self, header=None, key=None, **claims):
        """A good one but for what is given; a claim of None is left out."""
        now = int(time.time())
        payload = {"iss": self.name, "aud": AUDIENCE, "iat": now, "exp": now + 60, **claims}
        payload = {name: value for name, value in payload.items() if value is not None}
        parts = [header or {"alg": "EdDSA", "typ": "JWT"}, payload]
        text = ".".join(base64url(json.dumps(part).encode()) for part in parts)
        return f"{text}.{base64url((key or self.key).sign(text.encode()).signature)}"

    def get(self, path, headers=None, timeout=CALL_S):
        headers = {"X-Internal-Token": self.token(), **(headers or {})}
        return http_call(self.control.address, "GET", path, None, headers, timeout)

    def grants(self, fingerprint):
        return self.get("/internal/v1/ssh-keys/" + urllib.parse.quote(fingerprint, safe=""))

    def target(self, sandbox, grants, fingerprint=None, **query):
        """grants: [(team, user)]"""
        headers = {"X-SSH-Key-Grants": ",".join(f"{team}={user}" for team, user in grants)}
        if fingerprint:
            headers["X-SSH-Key-Fingerprint"] = fingerprint
        question = "?" + urllib.parse.urlencode(query) if query else ""
        return self.get(f"/internal/v1/sandboxes/{sandbox}/ssh-target{question}", headers)

    def changes(self, **query):
        return self.get("/internal/v1/changes?" + urllib.parse.urlencode(query))

    def now(self):
        """Where the feed is."""
        return self.changes().data["next"]


class Control:
    """A running ringgate-control; settings: key=value as for --set."""

    def __init__(self, bin_dir, database=None, settings=(), gateway=None):
        self.bin_dir = bin_dir
        self.program = os.path.join(bin_dir, "ringgate-control")
        self.dir = tempfile.mkdtemp(prefix="ringgate-control-")
        self.gateway = gateway or Gateway()
        self.gateway.control = self
        self.database = database or os.path.join(self.dir, "control.db")
        self.settings = [f"database={self.database}", "listen=127.0.0.1:0",
                         f"gateway_keys={self.gateway.public}", "ssh.host=ssh.example.net",
                         "ssh.port=2222", *settings]
        self.log_path = os.path.join(self.dir, "log")
        self.process = None

    def local_driver(self, **more):
        """Settings of the driver whose sandboxes are processes of this machine."""
        self.settings += ["driver=local", f"local.folder={self.dir}/sandboxes",
                          f"local.procd={self.bin_dir}/procd"]
        self.settings += [f"local.{name}={value}" for name, value in more.items()]
        return self

    def argv(self, *command):
        return [self.program, *command, *(word for s in self.settings for word in ("--set", s))]

    def command(self, *command):
        """A command line, not checked."""
        return run(self.argv(*command))

    def tell(self, *command):
        """The output of one that must work."""
        return self.command(*command).ok().out.strip()

    def add_user(self, name, *teams):
        """With a token; the teams are made. Without one, the team is the user's own."""
        self.tell("user", "add", "--user", name, *(["--team", teams[0]] if teams else []))
        for team in teams[1:]:
            self.command("team", "add", "--team", team)
            self.tell("member", "add", "--user", name, "--team", team)
        return User(self, name, self.tell("token", "create", "--user", name))

    def import_sandbox(self, name, team, *more, procd="127.0.0.1:9"):
        key = "ed25519:" + base64.b64encode(bytes(range(32))).decode()
        self.tell("sandbox", "import", "--id", name, "--team", team, "--procd", procd,
                  "--procd-key", key, *more)
        return key

    def start(self):
        ready = os.path.join(self.dir, "ready.json")
        if os.path.exists(ready):
            os.unlink(ready)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.argv("serve", "--ready-file", ready), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, preexec_fn=end_with_us)
        wait_until(lambda: os.path.exists(ready) or self.process.poll() is not None,
                   "the control plane's start", START_S)
        assert self.process.poll() is None, self.log()
        with open(ready, encoding="utf-8") as f:
            self.address = json.load(f)["listen"][0]
        if not self.address.startswith("unix:"):
            self.port = int(self.address.rpartition(":")[2])
        return self

    def end(self, check=True):
        """SIGTERM; it must end well."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.process = None
        if check:
            assert status == 0, f"ended with {status}:\n{self.log()[-3000:]}"
            found = [line for line in self.log().splitlines()
                     if any(words in line for words in REPORTS)]
            assert not found, found

    def stop(self, check=True):
        try:
            if self.process:
                self.end(check)
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        self.stop(check=kind is None)

    def log(self, offset=0):
        with open(self.log_path, "rb") as f:
            f.seek(offset)
            return f.read().decode("utf-8", "replace")

    def log_size(self):
        return os.path.getsize(self.log_path)

    def call(self, method, path, body=None, headers=None, timeout=CALL_S):
        """Without any token."""
        return http_call(self.address, method, path, body, headers, timeout)

    def raw(self, data, seconds=10):
        """What comes back for these bytes until the connection ends."""
        host, _, port = self.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=seconds) as s:
            got = b""
            try:
                s.sendall(data)
                while True:
                    more = s.recv(65536)
                    if not more:
                        return got
                    got += more
            except (ConnectionResetError, BrokenPipeError, socket.timeout):
                return got
