"""What the platform's documentation promises a user, by curl, ssh, scp and sftp alone.

With a SQLite file and no Redis, and again with PostgreSQL and Redis.
"""

import contextlib
import json
import os
import subprocess
import time

import pytest

from postgres import Postgres
from redises import Redis, find_program
from regions import Region, run, sha_of_file
from waiting import wait_until

pytestmark = pytest.mark.gateway

SETUPS = {"sqlite": 2.0, "postgres-redis": 1.0}  # seconds within which a revocation is seen


class User:
    """Has a key of his own, and nothing of the region but its token and addresses."""

    def __init__(self, region, folder, revoked_s):
        self.region = region
        self.revoked_s = revoked_s
        self.curl_program = find_program("curl")
        self.key = str(folder / "id_ed25519")
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me@laptop", "-f", self.key]).ok()
        self.public_key = (folder / "id_ed25519.pub").read_text().strip()

    def curl(self, path, *arguments):
        """The status and the JSON of one call."""
        api = self.region.info["api"]
        done = run([self.curl_program, "-sS", "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {api['token']}",
                    *arguments, api["url"] + path]).ok()
        text, _, status = done.out.rpartition("\n")
        return int(status), json.loads(text)

    def upload(self):
        body = json.dumps({"name": "my laptop", "public_key": self.public_key})
        return self.curl("/users/me/ssh-keys", "-H", "Content-Type: application/json", "-d", body)

    def delete(self, id_):
        return self.curl(f"/users/me/ssh-keys/{id_}", "-X", "DELETE")

    def detail(self, box):
        status, answer = self.curl(f"/api/v1/sandboxes/{box}")
        assert status == 200 and answer["success"] is True, answer
        return answer["data"]

    def ssh_argv(self, box, *command, program="ssh"):
        ssh = self.detail(box)["ssh"]
        options = self.region.options(identity=self.key)
        if program == "ssh":
            return ["ssh", *options, "-p", str(ssh["port"]), f"{ssh['username']}@{ssh['host']}", *command]
        return [program, *options, "-P", str(ssh["port"])]

    def ssh(self, box, *command, **how):
        return run(self.ssh_argv(box, *command), **how)

    def is_refused(self, box):
        done = self.ssh(box, "true")
        return done.status == 255 and "Permission denied" in done.err


@pytest.fixture(scope="module", params=list(SETUPS))
def setup(request, bin_dir):
    """The region, and the seconds within which a revocation is seen."""
    with contextlib.ExitStack() as stack:
        arguments = []
        if request.param == "postgres-redis":
            arguments = ["--database", stack.enter_context(Postgres()).create("region"),
                         "--redis", stack.enter_context(Redis()).url]
        region = stack.enter_context(Region(bin_dir, arguments, is_static=False))
        yield region, SETUPS[request.param]


@pytest.fixture
def user(setup, tmp_path):
    return User(*setup[:1], tmp_path, setup[1])


@pytest.fixture
def known_user(user):
    """With his key uploaded; it goes with the test."""
    status, answer = user.upload()
    assert status == 201, answer
    user.key_id = answer["data"]["id"]
    yield user
    user.delete(user.key_id)


def test_the_page(user, tmp_path):
    one, two = user.region.sandboxes
    fingerprint = run(["ssh-keygen", "-lf", user.key + ".pub"]).ok().out.split()[1]

    # 1. Upload the key.
    status, answer = user.upload()
    assert status == 201 and answer["success"] is True, answer
    key = answer["data"]
    assert key["fingerprint_sha256"] == fingerprint and key["name"] == "my laptop", key
    assert key["key_type"] == "ssh-ed25519" and key["comment"] == "me@laptop", key
    assert key["public_key"] == " ".join(user.public_key.split()[:2]), key
    assert user.upload()[0] == 409
    status, answer = user.curl("/users/me/ssh-keys")
    assert status == 200 and key["id"] in [each["id"] for each in answer["data"]["ssh_keys"]], answer

    # 2. Where is the sandbox?
    detail = user.detail(one)
    assert detail["status"] == "running" and detail["id"] == one
    assert detail["ssh"] == {"host": user.region.host, "port": user.region.port, "username": one}

    # 3. Connect.
    assert user.ssh(one, "echo hello from $(pwd)").ok().out == f"hello from {user.region.homes[one]}\n"

    # 4. Copy there and back.
    up, back = tmp_path / "up", tmp_path / "back"
    up.write_bytes(os.urandom(3 << 20))
    scp = user.ssh_argv(one, program="scp")
    run([*scp, str(up), f"{one}@{user.region.host}:copied"]).ok()
    assert sha_of_file(os.path.join(user.region.homes[one], "copied")) == sha_of_file(up)
    run([*scp, f"{one}@{user.region.host}:copied", str(back)]).ok()
    assert sha_of_file(back) == sha_of_file(up)
    sftp = user.ssh_argv(one, program="sftp")
    done = run([*sftp, "-b", "-", f"{one}@{user.region.host}"],
               input=b"mkdir folder\nput " + bytes(up) + b" folder/there\nls -l folder\nrm copied\n").ok()
    assert "there" in done.out and str(3 << 20) in done.out
    assert not os.path.exists(os.path.join(user.region.homes[one], "copied"))

    # 5. A paused sandbox wakes up when one comes.
    if user.detail(two)["status"] != "paused":
        assert user.curl(f"/api/v1/sandboxes/{two}/pause", "-X", "POST")[0] == 200
    assert user.detail(two)["status"] == "paused"
    assert user.ssh(two, "echo awake").ok().out == "awake\n"
    assert user.detail(two)["status"] == "running"

    # 6. Delete the key.
    status, answer = user.delete(key["id"])
    assert status == 200 and "message" in answer["data"], answer
    wait_until(lambda: user.is_refused(one), "the refusal", user.revoked_s)
    assert user.is_refused(two)
    assert user.delete(key["id"])[0] == 404


def test_memory_stays_while_it_is_paused(known_user):
    user, box = known_user, known_user.region.sandboxes[1]
    user.ssh(box, "echo begun >>counted; setsid sh -c 'i=0; while :; do i=$((i+1)); echo $i >>counted; "
             "sleep 0.05; done' >/dev/null 2>&1 </dev/null & echo $!").ok()
    path = os.path.join(user.region.homes[box], "counted")
    lines = lambda: open(path, encoding="ascii").read().split()
    wait_until(lambda: len(lines()) > 3, "counting")
    assert user.curl(f"/api/v1/sandboxes/{box}/pause", "-X", "POST")[0] == 200
    before = lines()
    assert user.detail(box)["status"] == "paused"
    time.sleep(0.3)  # That nothing happens cannot be waited for.
    assert lines() == before
    user.ssh(box, "true").ok()
    wait_until(lambda: len(lines()) > len(before) + 3, "counting on")
    numbers = [int(n) for n in lines()[1:]]
    assert numbers == list(range(1, len(numbers) + 1)), "the same process counts on"
    user.ssh(box, "pkill -f 'echo \\$i >>counte[d]'; rm counted")


def start_session(user, box):
    """A live session that has said `up`."""
    process = subprocess.Popen(user.ssh_argv(box, "echo up; exec sleep 1000"), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    return process


def ends_within(process, seconds, began):
    """Its messages; how long it took is printed."""
    try:
        process.wait(seconds + 10)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError("the session lives on") from None
    took = time.monotonic() - began
    print(f"closed after {took:.3f} s")
    text = process.stderr.read().decode()
    assert took < seconds, f"closed after {took:.3f} s: {text}"
    return text


def test_a_deleted_key_ends_its_sessions(known_user):
    user, box = known_user, known_user.region.box
    other = subprocess.Popen(user.region.ssh_argv("echo up; exec sleep 1000"), stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"up\n"
    live = start_session(user, box)
    began = time.monotonic()
    assert user.delete(user.key_id)[0] == 200
    text = ends_within(live, user.revoked_s, began)
    assert "closed" in text.lower() or "withdrawn" in text.lower() or "no longer" in text.lower(), text
    assert user.is_refused(box)
    # Whose key was not deleted stays.
    assert other.poll() is None
    other.terminate()
    other.wait()


def test_a_deleted_sandbox_ends_its_sessions(known_user):
    user = known_user
    status, answer = user.curl("/api/v1/sandboxes", "-d", json.dumps({"id": "rs-short"}))
    assert status == 201, answer
    wait_until(lambda: user.detail("rs-short")["status"] == "running", "its start")
    live = start_session(user, "rs-short")
    argv = user.ssh_argv("rs-short", "true")
    began = time.monotonic()
    assert user.curl("/api/v1/sandboxes/rs-short", "-X", "DELETE")[0] == 200
    ends_within(live, user.revoked_s, began)
    assert user.curl("/api/v1/sandboxes/rs-short")[0] == 404
    done = run(argv)
    assert done.status == 255 and "Permission denied" in done.err, done
    folder = os.path.join(user.region.state, "sandboxes", "rs-short")
    wait_until(lambda: not os.path.exists(folder), "the end of its files")


def test_a_key_is_known_at_once(user):
    """Refused a moment ago, uploaded, let in."""
    box = user.region.box
    assert user.is_refused(box)
    status, answer = user.upload()
    assert status == 201, answer
    wait_until(lambda: user.ssh(box, "true").status == 0, "the first login", user.revoked_s)
    user.delete(answer["data"]["id"])
