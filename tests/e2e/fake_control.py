"""A control plane in the test itself, which answers as the test says: what gateways ask, nothing else.

It keeps the shapes of the contract and may hold answers back, break them in many ways, and forget to tell of changes.
Owner: the test, by `with`.
"""

import json
import re
import threading
import time
import urllib.parse
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HELD_MAX_S = 60


class Box:
    """A sandbox; what has a procd_url is running. Who asks for a paused one wakes it."""

    def __init__(self, team, procd):
        self.team = team
        self.state = "running"
        self.procd_url = f"tcp://{procd.address}"
        self.procd_key = procd.public
        self.wake_s = 0         # from being asked for until it runs; None: never
        self.wake_fails = None  # instead of running: why not
        self.wake_count = 0
        self.on_wake = None     # called when it is to run: its processes go on; may give another procd
        self.holds = True       # answers, for ?wait
        self.policies = {}      # "policy", "team_policy": as they go into the answer


class FakeControl:
    def __init__(self):
        self.lock = threading.Condition()
        self.keys = {}      # fingerprint: [(team, user)]
        self.lines = {}     # fingerprint: the public key, without a comment
        self.boxes = {}     # ID: Box
        self.seq = 100
        self.changes = []   # (seq, "revoked" or "moved", subject)
        self.low = 100      # the feed knows what comes after it
        self.calls = Counter()   # "keys", "boxes", "changes"
        self.requests = []  # (kind, ID, query, status)
        self.has_versions = True
        self.has_feed = True
        self.trouble = None  # "held", "500", "html", "half", "big", "garbage", "reset", "slow"
        self.held_kinds = ()  # whose answers are made, and then held
        self.held_count = 0
        self.nonsense = []  # what was no request: the beginning of it
        self.is_over = False

    # ---- what happens there ----------------------------------------------------

    def change(self, kind, subject, tells=True):
        """The change itself is made by the caller, with the lock."""
        self.seq += 1
        if tells:
            self.changes.append((self.seq, kind, subject))
        self.lock.notify_all()

    def add_key(self, key, *grants):
        """key: one of keys.py's."""
        with self.lock:
            self.keys[key.fingerprint] = list(grants)
            self.lines[key.fingerprint] = key.line.rsplit(" ", 1)[0]
            self.change("revoked", {"key": key.fingerprint})

    def delete_key(self, fingerprint, tells=True):
        with self.lock:
            del self.keys[fingerprint]
            self.change("revoked", {"key": fingerprint}, tells)

    def move(self, box, procd, tells=True):
        with self.lock:
            self.boxes[box] = Box(self.boxes[box].team, procd)
            self.change("moved", {"sandbox": box}, tells)

    def pause(self, name, on_wake=None, tells=True):
        """Its processes are the caller's to stop."""
        with self.lock:
            self.boxes[name].state = "paused"
            self.boxes[name].on_wake = on_wake
            self.change("moved", {"sandbox": name}, tells)

    def set_policies(self, name, **policies):
        with self.lock:
            self.boxes[name].policies = policies
            self.change("moved", {"sandbox": name})

    def delete_box(self, name):
        with self.lock:
            del self.boxes[name]
            self.change("revoked", {"sandbox": name})

    def forget_changes(self):
        """Whoever follows the feed has to begin anew."""
        with self.lock:
            self.low = self.seq
            self.changes.clear()

    def fail(self, trouble):
        with self.lock:
            self.trouble = trouble
            self.lock.notify_all()

    def hold(self, *kinds):
        with self.lock:
            self.held_kinds = kinds

    def release(self):
        with self.lock:
            self.held_kinds = ()
            self.lock.notify_all()

    # ---- answers -----------------------------------------------------------------

    def find_key(self, fingerprint):
        if fingerprint not in self.keys:
            return 404, "not_found", "nobody has this key"
        grants = [{"team_id": team, "user_id": user} for team, user in self.keys[fingerprint]]
        return 200, self.versioned({"fingerprint_sha256": fingerprint, "public_key": self.lines[fingerprint],
                                    "grants": grants})

    def find_box(self, name, headers, query):
        box = self.boxes.get(name)
        if box is None:
            return 404, "not_found", "there is no such sandbox"
        grants = [tuple(g.strip().split("=")) for g in headers["X-SSH-Key-Grants"].split(",")]
        known = self.keys.get(headers.get("X-SSH-Key-Fingerprint"), ())
        for team, user in grants:
            if team == box.team and (team, user) in known:
                break
        else:
            return 403, "forbidden", "none of the grants may enter"
        if query.get("wake") != "no":
            self.wake(name, box, float(query.get("wait", 0)) if box.holds else 0)
            if self.boxes.get(name) is not box or (team, user) not in self.keys.get(headers.get("X-SSH-Key-Fingerprint"), ()):
                return 403, "forbidden", "not any more"
            if box.state == "failed":
                return 503, "unavailable", box.wake_fails
            if box.state != "running":
                return 503, "unavailable", "sandbox is waking up"
        is_there = box.state == "running"
        return 200, self.versioned({"sandbox_id": name, "team_id": team, "user_id": user, "state": box.state,
                                    "procd_url": box.procd_url if is_there else "",
                                    "procd_key": box.procd_key if is_there else "", **box.policies})

    def wake(self, name, box, wait_s):
        """Asks for its resume where it is paused, and waits for what comes of it."""
        if box.state == "paused":
            box.state = "resuming"
            box.wake_count += 1
            if box.wake_s is not None:
                threading.Timer(box.wake_s, self.awake, (name, box)).start()
        deadline = time.monotonic() + wait_s
        while box.state == "resuming" and not self.is_over:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self.lock.wait(left)

    def awake(self, name, box):
        with self.lock:
            if self.is_over:
                return
            if box.wake_fails:
                box.state = "failed"
            else:
                procd = box.on_wake() if box.on_wake else None
                if procd:
                    box.procd_url, box.procd_key = f"tcp://{procd.address}", procd.public
                box.state = "running"
            self.change("moved", {"sandbox": name})

    def find_changes(self, since, wait_s):
        if not self.has_feed:
            return 404, "not_found", "there is no feed"
        if since == 0:
            return 200, {"next": self.seq, "revoked": [], "moved": []}
        deadline = time.monotonic() + wait_s
        while True:
            if since < self.low or since > self.seq:
                return 410, "gone", "begin anew"
            news = [c for c in self.changes if c[0] > since]
            left = deadline - time.monotonic()
            if news or left <= 0 or self.is_over or self.trouble or not self.has_feed:
                break
            self.lock.wait(left)
        answer = {"next": self.seq, "revoked": [], "moved": []}
        for _, kind, subject in news:
            answer[kind].append(subject)
        return 200, answer

    def versioned(self, data):
        if self.has_versions:
            data["version"] = self.seq
        return data

    # ---- the server --------------------------------------------------------------

    def answer(self, kind, name, query, headers):
        with self.lock:
            self.calls[kind] += 1
            if kind == "keys":
                result = self.find_key(name)
            elif kind == "boxes":
                result = self.find_box(name, headers, query)
            else:
                result = self.find_changes(int(query.get("since", 0)), float(query.get("wait", 0)))
            if kind in self.held_kinds:
                self.held_count += 1
                self.lock.wait_for(lambda: kind not in self.held_kinds or self.is_over, HELD_MAX_S)
            self.requests.append((kind, name, query, result[0]))
        return result

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        control = self

        class Handler(FakeHandler):
            pass

        Handler.control = control
        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()
        return self

    def __exit__(self, *_):
        with self.lock:
            self.is_over = True
            self.held_kinds = ()
            self.lock.notify_all()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        assert not self.nonsense, self.nonsense


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512


class FakeHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    disable_nagle_algorithm = True  # or each body waits for the acknowledgement of the headers before it

    def log_message(self, *_):
        pass

    def send_error(self, code, message=None, explain=None):
        """Python answers what is no request as HTTP/0.9, without a status line."""
        with self.control.lock:
            self.control.nonsense.append((self.client_address, self.raw_requestline, message))
        self.request_version = self.protocol_version
        super().send_error(code, message, explain)

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        path = urllib.parse.unquote(url.path)
        key = re.fullmatch(r"/internal/v1/ssh-keys/(.+)", path)
        box = re.fullmatch(r"/internal/v1/sandboxes/([^/]+)/ssh-target", path)
        if key:
            kind, name = "keys", key.group(1)
        elif box:
            kind, name = "boxes", box.group(1)
        else:
            assert path == "/internal/v1/changes", path
            kind, name = "changes", ""
        if len(self.headers.get("X-Internal-Token", "").split(".")) != 3:
            self.reply(401, b'{"success": false, "error": {"code": "unauthorized", "message": "no token"}}')
            return
        trouble = self.control.trouble
        if trouble:
            with self.control.lock:
                self.control.calls[kind] += 1
            self.make_trouble(trouble)
            return
        status, *rest = self.control.answer(kind, name, query, self.headers)
        if status == 200:
            body = {"success": True, "data": rest[0]}
        else:
            body = {"success": False, "error": {"code": rest[0], "message": rest[1]}}
        self.reply(status, json.dumps(body).encode())

    def reply(self, status, body, length=None, kind="application/json"):
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def make_trouble(self, trouble):
        control = self.control
        if trouble == "held":
            with control.lock:
                control.lock.wait_for(lambda: control.trouble != "held" or control.is_over, HELD_MAX_S)
            self.close_connection = True
        elif trouble == "500":
            self.reply(500, b'{"success": false, "error": {"code": "internal", "message": "oh"}}')
        elif trouble == "html":
            self.reply(502, b"<html>bad gateway</html>", kind="text/html")
        elif trouble == "half":
            self.reply(200, b'{"success": true, "data": {"finger', length=200)
            self.close_connection = True
        elif trouble == "big":
            self.reply(200, b'{"success": true, "data": "' + b"x" * (10 << 20) + b'"}')
        elif trouble == "garbage":
            self.reply(200, b'{"success": true, "data": {"grants": [{"team_id": "../..", "user_id": 7}]}}')
        else:
            assert trouble == "reset"
            self.close_connection = True
