"""A gateway, some procds and a control plane that is the test's own: a region in which the test says what is true.

Owner: whoever calls start() calls stop(); conftest's fixtures do both.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess

from fake_control import Box, FakeControl
from keys import Ed25519
from procds import Procd, make_key
from regions import REPORTS, START_S, STOP_S, Region, end_with_us, run
from waiting import wait_until

TEAM = "t-local"
USER = "u-local"


class FakeRegion(Region):
    """settings: as for --set. control: shared with another gateway. One key, whose user may enter every sandbox."""

    host_keys = {}  # file name: bytes; an RSA key takes seconds to make, so one gateway's are everybody's

    def __init__(self, bin_dir, settings=(), boxes=("rs-one",), redis=None, like=None,
                 has_feed=True):
        super().__init__(bin_dir)
        self.settings = list(settings)
        self.box_names = list(boxes)
        self.redis = redis
        self.like = like  # the gateway whose control plane, secrets and procds this one shares
        self.control = like.control if like else FakeControl()
        self.control.has_feed = has_feed
        self.procds = {}
        self.more_procds = []

    def path(self, *parts):
        return os.path.join(self.state, *parts)

    def add_user(self, name="id", grants=((TEAM, USER),)):
        """A key and its file; the control plane knows it."""
        key = Ed25519()
        path = key.write(pathlib.Path(self.path(name)))
        if grants:
            self.control.add_key(key, *grants)
        return key.fingerprint, path

    def new_procd(self, sandbox):
        folder = self.path(f"procd-{len(self.more_procds)}-{sandbox}")
        os.makedirs(folder)
        procd = Procd(self, sandbox, folder).start()
        self.more_procds.append(procd)
        return procd

    def gateway_settings(self):
        settings = {"listen": "127.0.0.1:0", "host_key_dir": self.path("host_keys"),
                    "procd_key_file": self.path("gateway_key"), "control.url": self.control.url,
                    "admin.socket": self.path("admin")}
        if self.redis:
            settings["redis.url"] = self.redis
            settings["redis.secret_file"] = self.path("redis_secret")
        return [f"{key}={value}" for key, value in settings.items()] + self.settings

    def start(self, port=0):
        os.makedirs(self.state)
        try:
            self.make_state()
            self.start_gateway()
        except BaseException:
            self.stop(check=False)
            raise
        return self

    def make_state(self):
        if self.like:
            for name in ("gateway_key", "gateway_key.pub", "redis_secret"):
                shutil.copy(self.like.path(name), self.path(name))
            self.identity, self.fingerprint = self.like.identity, self.like.fingerprint
            self.procds, self.box_names = self.like.procds, self.like.box_names
        else:
            make_key(self, self.path("gateway_key"))
            with open(self.path("redis_secret"), "w", encoding="ascii") as f:
                os.chmod(f.name, 0o600)
                f.write(os.urandom(32).hex() + "\n")
            self.control.__enter__()
            self.fingerprint, self.identity = self.add_user()
            for name in self.box_names:
                self.procds[name] = self.new_procd(name)
                self.control.boxes[name] = Box(TEAM, self.procds[name])
        os.makedirs(self.path("host_keys"), mode=0o700)
        for name, data in self.host_keys.items():
            with open(self.path("host_keys", name), "wb") as f:
                os.chmod(f.name, 0o600)
                f.write(data)
        self.sandboxes = self.box_names
        self.homes = {name: procd.home for name, procd in self.procds.items()}

    def start_gateway(self):
        ready = self.path("ready.json")
        argv = [os.path.join(self.bin_dir, "ringgate"), "--ready-file", ready]
        for setting in self.gateway_settings():
            argv += ["--set", setting]
        self.output = open(os.path.join(self.dir, "output"), "ab")
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output,
                                        start_new_session=True, preexec_fn=end_with_us)
        Region.live.append(self)
        wait_until(lambda: os.path.exists(ready) or self.process.poll() is not None, "the gateway's start", START_S)
        assert self.process.poll() is None, self.output_text()
        with open(ready, encoding="utf-8") as f:
            self.host, self.port = json.load(f)["listen"][0].rsplit(":", 1)
        self.port = int(self.port)
        self.gateway_pid = self.process.pid
        for name in os.listdir(self.path("host_keys")):
            with open(self.path("host_keys", name), "rb") as f:
                self.host_keys[name] = f.read()
        self.known_hosts = self.path("known_hosts")
        with open(self.path("host_keys", "ssh_host_ed25519_key.pub"), encoding="ascii") as f, \
                open(self.known_hosts, "w", encoding="ascii") as hosts:
            hosts.write(f"[{self.host}]:{self.port} {f.read()}")

    def restart_gateway(self):
        """Ends it as an operator does, then starts it with the same files; its port is another one."""
        self.process.terminate()
        assert self.process.wait(STOP_S) == 0, self.output_text()[-4000:]
        self.output.close()
        Region.live.remove(self)
        os.unlink(self.path("ready.json"))
        self.start_gateway()

    def stop(self, check=True):
        status = None
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                status = self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                status = self.process.wait()
            self.process = None
            self.output.close()
            Region.live.remove(self)
            text = self.output_text()
        for procd in self.more_procds:
            procd.stop()
        if not self.like and hasattr(self.control, "server"):
            self.control.__exit__()
        if check and status is not None:
            assert status == 0, f"the gateway ended with {status}:\n{text[-4000:]}"
            reports = [line for line in text.splitlines() if any(words in line for words in REPORTS)]
            assert not reports, f"the gateway reported: {reports}"
        if self.owns_dir:
            shutil.rmtree(self.dir, ignore_errors=True)

    def gateway_log(self):
        return self.output_text()

    def counts(self):
        """What `ringgate status` says."""
        done = run([os.path.join(self.bin_dir, "ringgate"), "status", "--json", "--socket", self.path("admin")]).ok()
        return json.loads(done.stdout)
