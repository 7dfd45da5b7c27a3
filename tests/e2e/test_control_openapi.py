"""The control plane's description of itself, held against the running server by schemathesis.

Schemathesis is in no distribution: zigw gets it (pip.txt). The server has no driver: hundreds of cases
would be hundreds of sandboxes.
"""

import hashlib
import os
import re
import sys
import time

import pytest

from controls import Control
from keys import Ed25519
from regions import CHECKOUT, run

HERE = os.path.dirname(os.path.abspath(__file__))


def packages():
    """Where zigw puts what pip.txt names, for this Python."""
    with open(os.path.join(HERE, "pip.txt"), "rb") as f:
        name = "pip-%d.%d-%s" % (*sys.version_info[:2], hashlib.sha256(f.read()).hexdigest()[:12])
    path = os.path.join(os.environ.get("ZIGW_HOME", os.path.join(CHECKOUT, ".zigw")), name)
    if not os.path.isdir(path):
        pytest.skip(f"schemathesis is not there ({path}): ./zigw build e2e gets it, if pip can")
    return path


def test_the_server_is_as_it_describes_itself(bin_dir, tmp_path):
    path = packages()
    with Control(bin_dir) as one:
        user = one.add_user("alice")
        one.import_sandbox("rs-one", "alice")
        assert user.add_key(Ed25519()).status == 201
        result = run(
            [sys.executable, "-m", "schemathesis.cli", "--config-file", f"{HERE}/schemathesis.toml",
             "run", f"http://{one.address}/openapi.json", "--max-examples", "15", "--no-color",
             "-H", f"Authorization: Bearer {user.token}",
             "-H", f"X-Internal-Token: {one.gateway.token(exp=int(time.time()) + 300)}"],
            env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path, timeout=200)
        assert result.status == 0, result.out[-6000:] + result.err[-2000:]
        # It did reach all of it.
        count = int(re.search(r"Operations:\s+(\d+) selected", result.out).group(1))
        assert f"Tested: {count}" in result.out and count >= 13, result.out
        assert "event=request" in one.log()
        assert user.call("GET", "/users/me/ssh-keys").status == 200
