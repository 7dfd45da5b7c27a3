"""A procd of a test's own, beside those of the region."""

import os
import subprocess

from regions import end_with_us, run
from waiting import wait_until


class Procd:
    """Started with a key and a home in `folder`; its directory entry is made here."""

    def __init__(self, region, sandbox, folder, arguments=(), key=None, gateway_keys=None):
        self.region = region
        self.sandbox = sandbox
        self.folder = folder
        self.home = os.path.join(folder, "home")
        self.arguments = list(arguments)
        self.program = os.path.join(region.bin_dir, "procd")
        os.makedirs(self.home, exist_ok=True)
        self.key = key or make_key(region, os.path.join(folder, "key"))
        self.gateway_keys = gateway_keys or [os.path.join(region.state, "gateway_key.pub")]
        self.log_path = os.path.join(folder, "log")
        self.process = None

    def start(self, listen="127.0.0.1:0"):
        address_file = os.path.join(self.folder, "address")
        if os.path.exists(address_file):
            os.unlink(address_file)
        argv = [self.program, "serve", "--listen", listen, "--sandbox",
                self.sandbox, "--key", self.key, "--home", self.home,
                "--address-file", address_file, *self.arguments]
        for path in self.gateway_keys:
            argv += ["--gateway-key", path]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, start_new_session=True,
                                            preexec_fn=end_with_us)
        wait_until(lambda: os.path.exists(address_file) or self.process.poll() is not None,
                   "procd's start")
        assert self.process.poll() is None, self.log()
        with open(address_file, encoding="ascii") as f:
            self.address = f.read().strip()
        return self

    @property
    def pid(self):
        return self.process.pid

    @property
    def public(self):
        with open(self.key + ".pub", encoding="ascii") as f:
            return f.read().strip()

    def directory_entry(self, team="t-local", public=None, address=None):
        return (f"  - id: {self.sandbox}\n    team: {team}\n"
                f"    procd: \"{address or self.address}\"\n"
                f"    procd_key: \"{public or self.public}\"\n")

    def log(self):
        with open(self.log_path, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


def make_key(region, path):
    run([os.path.join(region.bin_dir, "procd"), "keygen", "--out", path]).ok()
    return path
