"""The control plane's two APIs as a peer sees them: docs/control-plane.md, every status code of it.

Everything here runs twice: on SQLite and on a PostgreSQL of the distribution.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import nacl.signing
import pytest

from controls import Control, Gateway, http_call
from keys import Ed25519, Rsa, SecurityEcdsa, SecurityEd25519
from postgres import Postgres
from regions import CHECKOUT, run
from waiting import wait_until

KEY_FIELDS = {"id", "name", "public_key", "key_type", "fingerprint_sha256", "comment", "created_at",
              "updated_at"}
SANDBOX_FIELDS = {"id", "status", "team_id", "auto_resume", "created_at", "updated_at", "ssh"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
RESUME_MS = 1200


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def control(request, bin_dir):
    """With a driver; a resume takes RESUME_MS."""
    server = Postgres().start() if request.param == "postgres" else None
    try:
        database = server.create("ringgate") if server else None
        one = Control(bin_dir, database).local_driver(resume_delay_ms=RESUME_MS)
        with one:
            yield one
    finally:
        if server:
            server.stop()


@pytest.fixture(scope="module")
def gateway(control):
    return control.gateway


@pytest.fixture(scope="module")
def alice(control):
    return control.add_user("alice", "dev", "ops")


@pytest.fixture(scope="module")
def bob(control):
    return control.add_user("bob")


@pytest.fixture
def key(alice):
    """A key of alice's that is gone after the test."""
    one = Ed25519()
    one.id = alice.add_key(one).data["id"]
    yield one
    alice.call("DELETE", f"/users/me/ssh-keys/{one.id}")


@pytest.fixture
def no_keys(alice):
    yield
    for one in alice.keys():
        alice.call("DELETE", f"/users/me/ssh-keys/{one['id']}")


@pytest.fixture(scope="module")
def box(alice):
    """A sandbox of team dev that runs."""
    alice.create("rs-one", team_id="dev")
    return "rs-one"


def ssh_keygen(path, *arguments):
    run(["ssh-keygen", "-q", "-N", "", "-f", str(path), *arguments]).ok()
    with open(f"{path}.pub", encoding="utf-8") as f:
        return f.read()


# ---- users' keys -------------------------------------------------------------------


def test_a_key_comes_back_as_it_should(alice, no_keys, tmp_path):
    line = ssh_keygen(tmp_path / "k", "-t", "ed25519", "-C", "me@laptop  and more")
    printed = run(["ssh-keygen", "-l", "-f", str(tmp_path / "k.pub")]).ok().out.split()[1]
    answer = alice.add_key(line, name="laptop é")
    assert answer.status == 201, answer
    assert answer.headers["Content-Type"] == "application/json"
    key = answer.data
    assert set(key) == KEY_FIELDS
    assert key["name"] == "laptop é"
    assert key["public_key"] == " ".join(line.split()[:2])
    assert key["key_type"] == "ssh-ed25519"
    assert key["fingerprint_sha256"] == printed
    assert key["comment"] == "me@laptop  and more"
    assert TIME.fullmatch(key["created_at"]) and key["updated_at"] == key["created_at"]
    assert alice.call("GET", "/users/me/ssh-keys").status == 200
    assert alice.keys() == [key]


@pytest.mark.parametrize("arguments, name", [
    (["-t", "ed25519"], "ssh-ed25519"),
    (["-t", "ecdsa", "-b", "256"], "ecdsa-sha2-nistp256"),
    (["-t", "ecdsa", "-b", "384"], "ecdsa-sha2-nistp384"),
    (["-t", "ecdsa", "-b", "521"], "ecdsa-sha2-nistp521"),
    (["-t", "rsa", "-b", "2048"], "ssh-rsa"),
])
def test_accepted_types(alice, no_keys, tmp_path, arguments, name):
    answer = alice.add_key(ssh_keygen(tmp_path / "k", *arguments))
    assert answer.status == 201, answer
    assert answer.data["key_type"] == name


@pytest.mark.parametrize("kind", [SecurityEd25519, SecurityEcdsa])
def test_security_keys_are_accepted(alice, no_keys, kind):
    key = kind()
    answer = alice.add_key(key)
    assert answer.status == 201, answer
    assert answer.data["key_type"] == key.name
    assert answer.data["fingerprint_sha256"] == key.fingerprint


def bad_lines():
    good = Ed25519().line
    return {
        "empty": "", "blank": "  \n", "words": "hello world", "no base64": "ssh-ed25519",
        "cut": good[:40], "damaged": good.replace("AAAAC3", "AAAAC4"),
        "another type": good.replace("ssh-ed25519", "ssh-rsa"),
        "two lines": good + "\n" + Ed25519().line, "options": 'command="x" ' + good,
        "certificate": good.replace("ssh-ed25519 ", "ssh-ed25519-cert-v01@openssh.com "),
        "dsa": "ssh-dss AAAAB3NzaC1kc3MAAACB", "rsa 1024": Rsa(1024).line,
        "control characters": good + "\x1b[2J", "long comment": good + "x" * 2000,
        "number": 7, "list": [good], "null": None, "very long": good + "A" * 40000,
    }


@pytest.mark.parametrize("what", sorted(bad_lines()))
def test_no_public_key(alice, what):
    answer = alice.call("POST", "/users/me/ssh-keys", {"name": "x", "public_key": bad_lines()[what]})
    assert answer.status == 400, answer
    assert answer.error[0] == "bad_request"
    assert answer.error[1].startswith("public_key: "), answer
    assert alice.keys() == []


@pytest.mark.parametrize("how", [["-t", "ed25519"], ["-t", "rsa", "-m", "PEM"],
                                 ["-t", "ecdsa", "-m", "PKCS8"]])
def test_a_private_key_is_refused_and_kept_nowhere(control, alice, tmp_path, how):
    ssh_keygen(tmp_path / "k", *how)
    text = (tmp_path / "k").read_text()
    answer = alice.add_key(text)
    assert answer.status == 400, answer
    assert "private key" in answer.error[1]
    middle = text.splitlines()[2][:40]
    assert middle not in answer.body.decode()
    assert middle not in control.log()


@pytest.mark.parametrize("name", [None, "", "   ", "two\nlines", "x" * 129, 3])
def test_bad_names(alice, name):
    body = {"public_key": Ed25519().line}
    if name is not None:
        body["name"] = name
    answer = alice.call("POST", "/users/me/ssh-keys", body)
    assert answer.status == 400, answer
    assert answer.error[1].startswith("name: ")


def test_a_name_has_as_many_characters_as_it_says(alice, no_keys):
    assert alice.add_key(Ed25519(), name="é" * 128).data["name"] == "é" * 128
    assert alice.add_key(Ed25519(), name="é" * 129).status == 400


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b'"text"', b"\x00", b'{"name": "a\x00b"}', b'{"name": "\\u0000"}',
    b'{"name": "\xff\xfe"}', b'{"name": "\\ud800"}', b"[" * 60000, b'{"a":' * 12000,
    b'{"name": "x", "name": "y", "public_key": "z"}', b"{} {}", b"name=x&public_key=y",
])
def test_bodies_that_are_no_json_object(alice, body):
    answer = alice.call("POST", "/users/me/ssh-keys", body)
    assert answer.status == 400, answer
    assert answer.error[0] == "bad_request"


def test_the_same_key_again(alice, bob, no_keys):
    key = Ed25519()
    assert alice.add_key(key).status == 201
    for who, more in ((alice, {}), (alice, {"team_id": "dev"}), (bob, {})):
        answer = who.add_key(key, **more)
        assert answer.status == 409, answer
        assert answer.error[0] == "conflict"
    assert alice.add_key(key, team_id="ops").status == 201
    assert [k["fingerprint_sha256"] for k in alice.keys()] == [key.fingerprint] * 2
    assert bob.keys() == []


@pytest.mark.parametrize("team", ["nowhere", "bob", "", "a b", 7, "x" * 65])
def test_a_team_that_is_not_ones_own(alice, bob, team):
    answer = alice.add_key(Ed25519(), team_id=team)
    assert answer.status == 400, answer
    assert answer.error[1].startswith("team_id: ")


def test_delete(alice, bob, no_keys):
    one, other = alice.add_key(Ed25519()).data, bob.add_key(Ed25519()).data
    for name in (other["id"], "key-nothing", "x" * 100, "a%20b", "%2e%2e", "a%00b", "%zz"):
        answer = alice.call("DELETE", f"/users/me/ssh-keys/{name}")
        assert answer.status == 404, answer
        assert answer.error[0] == "not_found"
    assert [k["id"] for k in bob.keys()] == [other["id"]]
    answer = alice.call("DELETE", f"/users/me/ssh-keys/{one['id']}")
    assert answer.status == 200, answer
    assert set(answer.data) == {"message"}
    assert alice.call("DELETE", f"/users/me/ssh-keys/{one['id']}").status == 404
    assert alice.keys() == []
    bob.call("DELETE", f"/users/me/ssh-keys/{other['id']}")


def test_who_uploads_it_first_has_it(control, alice):
    """A race of two users for one key: one 201, one 409."""
    carol = control.add_user("carol")
    for _ in range(5):
        key, got = Ed25519(), []
        threads = [threading.Thread(target=lambda u=u: got.append(u.add_key(key)))
                   for u in (alice, carol)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert sorted(a.status for a in got) == [201, 409], got
    for user in (alice, carol):
        for one in user.keys():
            user.call("DELETE", f"/users/me/ssh-keys/{one['id']}")


# ---- tokens ------------------------------------------------------------------------


@pytest.mark.parametrize("header", [
    None, "", "Bearer", "Bearer ", "Basic YTpi", "rgt_x", "Bearer rgt_" + "A" * 43,
    "Bearer " + "x" * 5000, "Bearer rgt_' OR '1'='1",
])
@pytest.mark.parametrize("method, path", [
    ("GET", "/users/me/ssh-keys"), ("POST", "/users/me/ssh-keys"),
    ("DELETE", "/users/me/ssh-keys/x"), ("GET", "/api/v1/sandboxes"),
    ("GET", "/api/v1/sandboxes/rs-one"), ("POST", "/api/v1/sandboxes/rs-one/resume"),
])
def test_no_good_token(control, header, method, path):
    headers = {} if header is None else {"Authorization": header}
    answer = control.call(method, path, headers=headers)
    assert answer.status == 401, answer
    assert answer.error[0] == "unauthorized"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_tokens_are_shown_once_and_end(control, alice):
    def works(token):
        headers = {"Authorization": f"bearer  {token}"}  # RFC 9110: the scheme in any case
        return control.call("GET", "/users/me/ssh-keys", headers=headers).status == 200

    token = control.tell("token", "create", "--user", "alice", "--name", "ci", "--expires-days", "1")
    assert works(token) and not works(token[:-1]) and not works(token + "x")
    listed = [line.split("\t") for line in control.tell("token", "list").splitlines()]
    mine = [line for line in listed if line[1:] == ["alice", "ci"]]
    assert len(mine) == 1
    assert token not in control.tell("token", "list")
    control.tell("token", "revoke", "--id", mine[0][0])
    assert not works(token)
    assert not works(control.tell("token", "create", "--user", "alice", "--expires-days", "0"))
    assert token[8:] not in control.log()


def test_a_database_does_not_hold_tokens(bin_dir):
    with Control(bin_dir) as one:
        user = one.add_user("alice")
        assert user.call("GET", "/users/me/ssh-keys").status == 200
        one.end()
        found = b""
        for suffix in ("", "-wal"):
            try:
                with open(one.database + suffix, "rb") as f:
                    found += f.read()
            except FileNotFoundError:
                pass
        assert b"alice" in found and user.token[4:].encode() not in found


# ---- sandboxes ---------------------------------------------------------------------


def test_a_sandbox_tells_how_to_reach_it(alice, box):
    answer = alice.call("GET", f"/api/v1/sandboxes/{box}")
    assert answer.status == 200, answer
    one = answer.data
    assert set(one) == SANDBOX_FIELDS
    assert one["ssh"] == {"host": "ssh.example.net", "port": 2222, "username": box}
    assert (one["id"], one["status"], one["team_id"], one["auto_resume"]) == (
        box, "running", "dev", True)
    assert TIME.fullmatch(one["created_at"]) and TIME.fullmatch(one["updated_at"])
    assert one in alice.call("GET", "/api/v1/sandboxes").data["sandboxes"]


def test_a_sandbox_of_others_is_not_there(bob, box):
    for method, path in (("GET", box), ("DELETE", box), ("POST", f"{box}/pause"),
                         ("POST", f"{box}/resume")):
        theirs = bob.call(method, f"/api/v1/sandboxes/{path}")
        none = bob.call(method, f"/api/v1/sandboxes/{path.replace(box, 'rs-none')}")
        assert theirs.status == none.status == 404
        assert theirs.body == none.body
    assert bob.call("GET", "/api/v1/sandboxes").data == {"sandboxes": []}


@pytest.mark.parametrize("name", ["RS-ONE", "-a", "a-", "a" * 64, "a_b", "a%2Fb", "..", "%00", "a'b"])
def test_ids_that_cannot_be(alice, box, name):
    assert alice.call("GET", f"/api/v1/sandboxes/{name}").status == 404


def test_create(alice, box):
    def create(**body):
        return alice.call("POST", "/api/v1/sandboxes", body)

    answer = create(id="rs-new", team_id="ops", auto_resume=False)
    assert answer.status == 201, answer
    assert answer.data["status"] in ("resuming", "running")
    assert (answer.data["team_id"], answer.data["auto_resume"]) == ("ops", False)
    assert create(id="rs-new").status == 409
    assert create(id="rs-other", team_id="bob").status == 403
    assert create(id="rs-other", team_id="nowhere").status == 403
    for wrong in ({"id": "RS"}, {"id": ""}, {"id": 7}, {"id": None}, {"id": "a" * 64},
                  {"team_id": "a b"}, {"team_id": 1}, {"auto_resume": "yes"}, {"auto_resume": None}):
        answer = create(**wrong)
        assert answer.status == 400, (wrong, answer)
    answer = alice.call("POST", "/api/v1/sandboxes")
    assert answer.status == 201, answer
    assert answer.data["team_id"] == "dev"  # the first one
    for name in (answer.data["id"], "rs-new"):
        wait_until(lambda: alice.sandbox(name)["status"] == "running", f"{name}'s start")
        answer = alice.call("DELETE", f"/api/v1/sandboxes/{name}")
        assert answer.status == 200 and set(answer.data) == {"message"}, answer
        assert alice.call("GET", f"/api/v1/sandboxes/{name}").status == 404
        assert alice.call("DELETE", f"/api/v1/sandboxes/{name}").status == 404


def test_pause_and_resume(alice, box):
    answer = alice.call("POST", f"/api/v1/sandboxes/{box}/pause")
    assert answer.status == 200 and answer.data["status"] == "paused", answer
    assert alice.call("POST", f"/api/v1/sandboxes/{box}/pause").data["status"] == "paused"
    answer = alice.call("POST", f"/api/v1/sandboxes/{box}/resume")
    assert answer.status == 200 and answer.data["status"] == "resuming", answer
    answer = alice.call("POST", f"/api/v1/sandboxes/{box}/pause")
    assert answer.status == 409, answer  # not now
    assert alice.call("POST", f"/api/v1/sandboxes/{box}/resume").data["status"] == "resuming"
    wait_until(lambda: alice.sandbox(box)["status"] == "running", "the resume")
    assert alice.call("POST", f"/api/v1/sandboxes/{box}/resume").data["status"] == "running"


def test_without_a_driver(bin_dir):
    """Imported sandboxes are read, and nothing is done to them."""
    with Control(bin_dir) as one:
        user = one.add_user("alice")
        key = one.import_sandbox("rs-one", "alice", procd="[2001:db8::1]:40")
        assert user.sandbox("rs-one")["status"] == "running"
        assert one.gateway.target("rs-one", [("alice", "alice")]).data["procd_key"] == key
        for method, path in (("POST", ""), ("POST", "/rs-one/pause")):
            answer = user.call(method, f"/api/v1/sandboxes{path}", {} if not path else None)
            assert answer.status == 501, answer
            assert answer.error[0] == "not_implemented"
        one.import_sandbox("rs-two", "alice", "--state", "paused")
        assert user.call("POST", "/api/v1/sandboxes/rs-two/resume").status == 501
        answer = one.gateway.target("rs-two", [("alice", "alice")])
        assert answer.status == 503 and "no driver" in answer.error[1], answer
        assert user.call("DELETE", "/api/v1/sandboxes/rs-one").status == 200


# ---- what is everywhere ------------------------------------------------------------


@pytest.mark.parametrize("path", [
    "/", "/users", "/users/me/ssh-keys/", "/users/me/ssh-keys/a/b", "/users%2Fme%2Fssh-keys",
    "//users/me/ssh-keys", "/api/v1/sandboxes/", "/api/v1/sandboxes/rs-one/kill", "/api/v2/sandboxes",
    "/internal/v1/ssh-keys/", "/internal/v1/", "/%", "/" + "x" * 8000,
])
def test_no_such_path(alice, path):
    answer = alice.call("GET", path)
    assert answer.status == 404, answer
    assert answer.error[0] == "not_found"


@pytest.mark.parametrize("method, path, allowed", [
    ("PUT", "/users/me/ssh-keys", {"GET", "POST"}), ("GET", "/users/me/ssh-keys/x", {"DELETE"}),
    ("PATCH", "/api/v1/sandboxes/rs-one", {"GET", "DELETE"}),
    ("GET", "/api/v1/sandboxes/rs-one/pause", {"POST"}),
    ("POST", "/internal/v1/changes", {"GET"}), ("OPTIONS", "/api/v1/sandboxes", {"GET", "POST"}),
    ("TRACE", "/health", {"GET"}), ("NONSENSE", "/health", {"GET"}),
])
def test_methods(control, method, path, allowed):
    answer = control.call(method, path)
    assert answer.status == 405, answer
    assert answer.error[0] == "method_not_allowed"
    assert set(answer.headers["Allow"].split(", ")) == allowed


def test_head_is_get_without_a_body(alice):
    answer = alice.call("HEAD", "/users/me/ssh-keys")
    assert answer.status == 200 and answer.body == b""


def test_health(control):
    assert control.call("GET", "/health").data == {"status": "ok"}


def test_long_bodies(control, alice):
    limit = 64 * 1024
    answer = alice.call("POST", "/users/me/ssh-keys", b" " * limit + b"{")
    assert answer.status == 413, answer
    assert answer.error[0] == "payload_too_large"
    assert alice.call("POST", "/users/me/ssh-keys", b" " * (limit - 1) + b"{").status == 400
    # Without a length, and announced alone.
    head = (f"POST /users/me/ssh-keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.token}\r\n")
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    got = control.raw(head.encode() + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
                      + chunk * 5 + b"0\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 413"), got[:200]
    got = control.raw(head.encode() + b"Content-Length: 99999999999\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 413"), got[:200]
    # One that does not end is not read for ever.
    started = time.monotonic()
    control.raw(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 1000)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("data", [
    b"\x00" * 100 + b"\r\n\r\n", b"\xff" * 100000, b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"x" * 100000,
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 50000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200000 + b"\r\n\r\n",
    b"POST /users/me/ssh-keys HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /users/me/ssh-keys HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    b"POST /users/me/ssh-keys HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 300, b"SSH-2.0-OpenSSH_9.9\r\n",
], ids=range(11))
def test_garbage(control, data):
    got = control.raw(data, seconds=3)
    assert not got or re.match(rb"HTTP/1\.[01] [45]\d\d ", got), got[:200]
    assert control.call("GET", "/health").status == 200


def test_silent_connections_do_not_matter(control):
    host, _, port = control.address.rpartition(":")
    held = [socket.create_connection((host, int(port))) for _ in range(300)]
    try:
        for one in held[::2]:
            one.sendall(b"GET /hea")
        started = time.monotonic()
        assert control.call("GET", "/health").status == 200
        assert time.monotonic() - started < 5
    finally:
        for one in held:
            one.close()


def test_the_log_has_a_line_for_each_request(control, alice):
    offset = control.log_size()
    alice.call("GET", "/users/me/ssh-keys?secret=1")
    line = wait_until(lambda: re.search(r".*event=request .*\n", control.log(offset)), "the line").group()
    assert "method=GET" in line and "path=/users/me/ssh-keys " in line and "status=200" in line
    assert "user=alice" in line and "ms=" in line and "secret" not in line


# ---- gateways: tokens --------------------------------------------------------------


def test_gateways_have_to_be_known(control, gateway):
    path = "/internal/v1/changes"
    now = int(time.time())
    stranger = nacl.signing.SigningKey.generate()
    good = gateway.token()
    head, payload, signature = good.split(".")
    none = Gateway(gateway.name)
    wrong = {
        "stranger": gateway.token(key=stranger),
        "expired": gateway.token(exp=now - 61), "no end": gateway.token(exp=None),
        "for too long": gateway.token(exp=now + 3600), "not yet": gateway.token(nbf=now + 120),
        "from the future": gateway.token(iat=now + 120), "end as text": gateway.token(exp=str(now + 60)),
        "for others": gateway.token(aud="somebody"), "for nobody": gateway.token(aud=None),
        "nameless": gateway.token(iss=None), "odd name": gateway.token(iss="a b\n"),
        "alg none": gateway.token(header={"alg": "none"}),
        "alg HS256": gateway.token(header={"alg": "HS256"}), "no alg": gateway.token(header={"typ": "JWT"}),
        "critical": gateway.token(header={"alg": "EdDSA", "crit": ["x"], "x": 1}),
        "unsigned": f"{head}.{payload}.", "two parts": f"{head}.{payload}",
        "four parts": f"{good}.x", "padding": f"{head}.{payload}.{signature}==",
        "other payload": f"{head}.{none.token(exp=now + 100).split('.')[1]}.{signature}",
        "text": "x", "empty": "", "long": "a" * 9000,
    }
    for what, token in wrong.items():
        answer = control.call("GET", path, headers={"X-Internal-Token": token})
        assert answer.status == 401, (what, answer)
        assert answer.error[0] == "unauthorized"
    assert control.call("GET", path).status == 401
    for token in (good, gateway.token(aud=["x", "ringgate-control"]), gateway.token(exp=now - 30),
                  gateway.token(nbf=now, iat=now + 30), gateway.token(exp=now + 300)):
        assert control.call("GET", path, headers={"X-Internal-Token": token}).status == 200


def test_users_are_no_gateways(alice, gateway, control):
    assert alice.call("GET", "/internal/v1/changes").status == 401
    headers = {"X-Internal-Token": gateway.token()}
    assert control.call("GET", "/users/me/ssh-keys", headers=headers).status == 401


# ---- gateways: keys ----------------------------------------------------------------


def test_grants(control, gateway, alice, key):
    answer = gateway.grants(key.fingerprint)
    assert answer.status == 200, answer
    assert answer.data == {"fingerprint_sha256": key.fingerprint,
                           "public_key": " ".join(key.line.split()[:2]),
                           "grants": [{"team_id": "dev", "user_id": "alice"}],
                           "version": answer.data["version"]}
    second = alice.add_key(key, team_id="ops").data
    later = gateway.grants(key.fingerprint).data
    assert later["grants"] == [{"team_id": "dev", "user_id": "alice"},
                               {"team_id": "ops", "user_id": "alice"}]
    assert later["version"] > answer.data["version"]
    assert gateway.get(f"/internal/v1/ssh-keys/{key.fingerprint}").data == later  # its slashes plain
    alice.call("DELETE", f"/users/me/ssh-keys/{second['id']}")
    assert gateway.grants(key.fingerprint).data["grants"] == answer.data["grants"]


def test_grants_with_slashes(gateway, alice, no_keys):
    """Fingerprints hold '/' and '+'."""
    while True:
        key = Ed25519()
        if "/" in key.fingerprint and "+" in key.fingerprint:
            break
    alice.add_key(key)
    assert gateway.grants(key.fingerprint).status == 200
    assert gateway.get(f"/internal/v1/ssh-keys/{key.fingerprint}").status == 200
    lower = key.fingerprint.replace("/", "%2f").replace("+", "%2b")
    assert gateway.get(f"/internal/v1/ssh-keys/{lower}").status == 200


@pytest.mark.parametrize("text", ["SHA256:" + "A" * 43, "SHA256:x", "MD5:aa", "x", "SHA256:" + "A" * 44,
                                  "SHA256:" + "A" * 42 + "'", "%00", "a" * 300])
def test_unknown_keys(gateway, text):
    answer = gateway.get(f"/internal/v1/ssh-keys/{text}")
    assert answer.status == 404, answer
    assert answer.error[0] == "not_found"


def test_a_key_whose_user_left_grants_nothing(control, gateway):
    user = control.add_user("dora", "west")
    key = Ed25519()
    user.add_key(key)
    assert gateway.grants(key.fingerprint).status == 200
    control.tell("member", "remove", "--user", "dora", "--team", "west")
    assert gateway.grants(key.fingerprint).status == 404
    control.tell("member", "add", "--user", "dora", "--team", "west")
    assert gateway.grants(key.fingerprint).status == 200
    control.tell("user", "remove", "--user", "dora")
    assert gateway.grants(key.fingerprint).status == 404


# ---- gateways: where to ------------------------------------------------------------


def test_target_of_one_that_runs(gateway, alice, key, box):
    answer = gateway.target(box, [("ops", "alice"), ("dev", "alice")], key.fingerprint)
    assert answer.status == 200, answer
    data = answer.data
    assert set(data) == {"sandbox_id", "team_id", "user_id", "procd_url", "procd_key", "state",
                         "version"}
    assert (data["sandbox_id"], data["team_id"], data["user_id"], data["state"]) == (
        box, "dev", "alice", "running")
    assert re.fullmatch(r"(tcp://.+:\d+|unix:/.+)", data["procd_url"])
    assert re.fullmatch(r"ed25519:[A-Za-z0-9+/]{43}=", data["procd_key"])
    assert gateway.target(box, [("dev", "alice")]).status == 200  # without a key
    for query in ({"wait": 5}, {"wake": "no"}, {"wake": "yes", "wait": 0}, {"unknown": "x"}):
        assert gateway.target(box, [("dev", "alice")], **query).data == data


def test_target_refuses(gateway, alice, bob, key, box):
    foreign = Ed25519()
    bob.add_key(foreign)
    for grants, fingerprint in (
            ([("bob", "bob")], foreign.fingerprint),   # another team's
            ([("dev", "bob")], foreign.fingerprint),   # not in the team
            ([("dev", "bob")], None),
            ([("dev", "alice")], foreign.fingerprint), # not this key's
            ([("ops", "alice")], key.fingerprint),     # not the sandbox's team
            ([("dev", "alice")], "SHA256:" + "A" * 43),
            ([("dev", "nobody")], None)):
        answer = gateway.target(box, grants, fingerprint)
        assert answer.status == 403, (grants, answer)
        assert answer.error[0] == "forbidden"
    for one in bob.keys():
        bob.call("DELETE", f"/users/me/ssh-keys/{one['id']}")


def test_target_of_none(gateway, key):
    for name in ("rs-none", "RS", "a" * 64):
        answer = gateway.target(name, [("dev", "alice")], key.fingerprint)
        assert answer.status == 404, answer


@pytest.mark.parametrize("headers", [
    {}, {"X-SSH-Key-Grants": ""}, {"X-SSH-Key-Grants": "dev"}, {"X-SSH-Key-Grants": "dev=alice,"},
    {"X-SSH-Key-Grants": "=alice"}, {"X-SSH-Key-Grants": "dev=a b"}, {"X-SSH-Key-Grants": "dev=a=b"},
    {"X-SSH-Key-Grants": "dev=" + "x" * 65}, {"X-SSH-Key-Grants": ",".join(["dev=alice"] * 33)},
    {"X-SSH-Key-Grants": "dev=alice", "X-SSH-Key-Fingerprint": "SHA256:x"},
    {"X-SSH-Key-Grants": "dev=alice", "X-SSH-Key-Fingerprint": ""},
], ids=range(11))
def test_target_headers_that_are_wrong(gateway, box, headers):
    answer = gateway.get(f"/internal/v1/sandboxes/{box}/ssh-target", headers)
    assert answer.status == 400, answer
    assert answer.error[0] == "bad_request"


@pytest.mark.parametrize("query", [{"wait": "x"}, {"wait": "-1"}, {"wait": ""}, {"wait": "9" * 30},
                                   {"wait": "1.5"}, {"wait": "3601"}, {"wake": "maybe"}, {"wake": ""}])
def test_target_questions_that_are_wrong(gateway, box, query):
    answer = gateway.target(box, [("dev", "alice")], **query)
    assert answer.status == 400, answer


def test_as_many_grants_as_there_may_be(gateway, box):
    grants = [("t" * 60 + f"{i:04}", "u" * 64) for i in range(31)] + [("dev", "alice")]
    assert gateway.target(box, grants).status == 200


def resumes(control, offset, name):
    """How often the driver was asked."""
    return control.log(offset).count(f"event=resume sandbox={name} ")


def pause(user, name):
    answer = user.call("POST", f"/api/v1/sandboxes/{name}/pause")
    assert answer.status == 200, answer


def test_a_paused_one_is_woken_once(control, gateway, alice, key, box):
    pause(alice, box)
    offset, started, got = control.log_size(), time.monotonic(), []
    threads = [threading.Thread(target=lambda: got.append(
        gateway.target(box, [("dev", "alice")], key.fingerprint, wait=20))) for _ in range(30)]
    for t in threads:
        t.start()
    wait_until(lambda: resumes(control, offset, box), "the resume to be asked for")
    answer = gateway.target(box, [("dev", "alice")], key.fingerprint)
    assert answer.status == 503, answer
    assert answer.error[1] == "sandbox is waking up"
    for t in threads:
        t.join()
    assert [a.status for a in got] == [200] * 30, got
    assert {a.data["state"] for a in got} == {"running"}
    assert RESUME_MS / 1000 - 0.1 <= time.monotonic() - started < 15
    assert resumes(control, offset, box) == 1


def test_held_for_as_long_as_asked(gateway, alice, box):
    pause(alice, box)
    assert gateway.target(box, [("dev", "alice")]).status == 503
    started = time.monotonic()
    answer = gateway.target(box, [("dev", "alice")], wait=1)
    took = time.monotonic() - started
    # RESUME_MS is longer than the wait; both ends are of this machine, so a late one may be 200.
    assert (answer.status, took < 5) in ((503, True), (200, True)), (answer, took)
    assert took >= 0.9
    assert gateway.target(box, [("dev", "alice")], wait=20).status == 200


def test_who_may_not_enter_wakes_nothing(control, gateway, bob, alice, key, box):
    pause(alice, box)
    offset = control.log_size()
    assert gateway.target(box, [("bob", "bob")], wait=1).status == 403
    assert gateway.grants(key.fingerprint).status == 200  # a probe
    for query in ({}, {"wait": 1}):
        answer = gateway.target(box, [("dev", "alice")], wake="no", **query)
        assert answer.status == 200, answer
        assert (answer.data["state"], answer.data["procd_url"]) == ("paused", "")
    assert gateway.target(box, [("bob", "bob")], wake="no").status == 403
    assert alice.sandbox(box)["status"] == "paused"
    assert resumes(control, offset, box) == 0
    assert gateway.target(box, [("dev", "alice")], wait=20).status == 200


def test_auto_resume_off(control, gateway, alice):
    alice.create("rs-still", auto_resume=False)
    assert gateway.target("rs-still", [("dev", "alice")]).status == 200
    pause(alice, "rs-still")
    offset = control.log_size()
    for query in ({}, {"wait": 5}):
        answer = gateway.target("rs-still", [("dev", "alice")], **query)
        assert answer.status == 503, answer
        assert answer.error[1] == "sandbox is paused and auto_resume is off"
    assert resumes(control, offset, "rs-still") == 0
    alice.call("DELETE", "/api/v1/sandboxes/rs-still")
    assert gateway.target("rs-still", [("dev", "alice")]).status == 404


def test_a_resume_that_fails(bin_dir):
    with Control(bin_dir).local_driver(fail_resume="yes") as one:
        user = one.add_user("alice")
        user.create("rs-one")
        pause(user, "rs-one")
        offset = one.log_size()
        answer = one.gateway.target("rs-one", [("alice", "alice")], wait=20)
        assert answer.status == 503, answer
        assert answer.error[1].startswith("sandbox could not be resumed: "), answer
        assert answer.error == one.gateway.target("rs-one", [("alice", "alice")], wait=20).error
        assert resumes(one, offset, "rs-one") == 1  # not over and over
        assert user.sandbox("rs-one")["status"] == "paused"
        assert user.sandbox("rs-one")["reason"]


def test_a_stopped_one(bin_dir):
    with Control(bin_dir) as one:
        one.add_user("alice")
        one.import_sandbox("rs-one", "alice", "--state", "stopped")
        answer = one.gateway.target("rs-one", [("alice", "alice")], wait=20)
        assert answer.status == 503 and answer.error[1] == "sandbox is stopped", answer


# ---- gateways: changes -------------------------------------------------------------


def subjects(answer):
    assert answer.status == 200, answer
    assert set(answer.data) == {"next", "revoked", "moved"}
    return answer.data["revoked"], answer.data["moved"]


def test_every_change_is_told(control, gateway, alice, no_keys):
    def told(since):
        return subjects(gateway.changes(since=since))

    since = gateway.now()
    assert told(since) == ([], [])
    key = Ed25519()
    one = alice.add_key(key).data
    assert told(since) == ([{"key": key.fingerprint}], [])
    since = gateway.now()
    version = gateway.grants(key.fingerprint).data["version"]
    assert version == since
    alice.call("DELETE", f"/users/me/ssh-keys/{one['id']}")
    assert told(since) == ([{"key": key.fingerprint}], [])
    assert gateway.now() > version
    since = gateway.now()
    control.tell("user", "add", "--user", "emil", "--team", "dev")
    control.tell("member", "remove", "--user", "emil", "--team", "dev")
    assert told(since) == ([{"user": "emil", "team": "dev"}] * 2, [])
    since = gateway.now()
    control.import_sandbox("rs-moving", "dev", procd="127.0.0.1:7")
    control.import_sandbox("rs-moving", "dev", procd="127.0.0.1:8")
    assert told(since) == ([], [{"sandbox": "rs-moving"}] * 2)
    assert gateway.target("rs-moving", [("dev", "alice")]).data["procd_url"] == "tcp://127.0.0.1:8"
    since = gateway.now()
    alice.call("DELETE", "/api/v1/sandboxes/rs-moving")
    assert told(since) == ([{"sandbox": "rs-moving"}], [])
    answer = gateway.changes(since=since)
    assert answer.data["next"] == gateway.now()
    assert told(answer.data["next"]) == ([], [])
    # A removed user's keys and memberships, all of them.
    frida, key = control.add_user("frida", "dev", "ops"), Ed25519()
    frida.add_key(key)
    since = gateway.now()
    control.tell("user", "remove", "--user", "frida")
    revoked, moved = told(since)
    assert {"key": key.fingerprint} in revoked and moved == []
    assert {"user": "frida", "team": "dev"} in revoked and {"user": "frida", "team": "ops"} in revoked


def test_what_fails_changes_nothing(control, gateway, alice, bob, no_keys):
    key = Ed25519()
    alice.add_key(key)
    since = gateway.now()
    assert bob.add_key(key).status == 409
    assert alice.call("DELETE", "/users/me/ssh-keys/nothing").status == 404
    assert alice.call("POST", "/api/v1/sandboxes", {"id": "rs-x", "team_id": "bob"}).status == 403
    assert control.command("member", "remove", "--user", "bob", "--team", "ops").status == 1
    assert control.command("user", "add", "--user", "bob").status == 1
    assert gateway.now() == since


def test_the_feed_is_held_until_something_happens(control, gateway, alice, no_keys):
    key = Ed25519()
    one = alice.add_key(key).data

    def when(action):
        """(subjects, seconds from the action's end to the answer)"""
        got = []
        since = gateway.now()
        thread = threading.Thread(target=lambda: got.append(
            (gateway.changes(since=since, wait=30), time.monotonic())))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), got  # nothing has happened yet
        action()
        ended = time.monotonic()
        thread.join()
        return subjects(got[0][0]), got[0][1] - ended

    told, seconds = when(lambda: alice.call("DELETE", f"/users/me/ssh-keys/{one['id']}"))
    assert told == ([{"key": key.fingerprint}], []) and seconds < 1
    told, seconds = when(lambda: control.tell("user", "add", "--user", f"u{time.time_ns()}"))
    assert len(told[0]) == 1 and seconds < 2  # seen at the next look at the table


def test_the_feed_is_held_no_longer_than_asked(gateway):
    started = time.monotonic()
    since = gateway.now()
    answer = gateway.changes(since=since, wait=1)
    assert subjects(answer) == ([], []) and answer.data["next"] == since
    assert 0.9 <= time.monotonic() - started < 5


def test_the_feed_begins_now(gateway):
    started = time.monotonic()
    for query in ({}, {"since": 0}, {"wait": 30}, {"since": 0, "wait": 30}):
        assert subjects(gateway.changes(**query)) == ([], [])
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("since", [1, 5000, (1 << 53) - 1])
def test_what_is_not_in_the_feed(gateway, since):
    answer = gateway.changes(since=since, wait=30)
    assert answer.status == 410, answer
    assert answer.error[0] == "gone"


@pytest.mark.parametrize("query", [{"since": "x"}, {"since": "-1"}, {"since": str(1 << 53)},
                                   {"since": "9" * 40}, {"wait": "x"}, {"since": ""}])
def test_feed_questions_that_are_wrong(gateway, query):
    assert gateway.changes(**query).status == 400


def test_many_wait_and_take_no_threads(control, gateway):
    """Two hundred held answers, four threads: the server answers others meanwhile."""
    since, got = gateway.now(), []
    threads = [threading.Thread(target=lambda: got.append(gateway.changes(since=since, wait=30)))
               for _ in range(200)]
    for t in threads:
        t.start()
    wait_until(lambda: len(held_connections(control)) >= 200, "all of them to be held")
    started = time.monotonic()
    assert gateway.now() == since
    assert time.monotonic() - started < 5
    assert not got
    control.tell("user", "add", "--user", f"u{time.time_ns()}")
    for t in threads:
        t.join()
    assert {a.status for a in got} == {200} and len(got) == 200
    assert all(len(a.data["revoked"]) == 1 for a in got)


def held_connections(control):
    """Connections that the server has open."""
    want = f"{control.port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return [row for row in rows if row[1].endswith(":" + want) and row[3] == "01"]


def test_held_answers_end_with_the_server(bin_dir):
    with Control(bin_dir) as one:
        got = []
        since = one.gateway.now()
        thread = threading.Thread(target=lambda: got.append(one.gateway.changes(since=since, wait=50)))
        thread.start()
        wait_until(lambda: len(held_connections(one)) >= 1, "it to be held")
        started = time.monotonic()
        one.end()
        thread.join()
        assert time.monotonic() - started < 5
        assert subjects(got[0]) == ([], [])


# ---- starting anew, and the database -----------------------------------------------


def test_a_restart_forgets_nothing(bin_dir):
    with Control(bin_dir).local_driver() as one:
        user, key = one.add_user("alice"), Ed25519()
        user.add_key(key)
        user.create("rs-one")
        since = one.gateway.now()
        grants = one.gateway.grants(key.fingerprint).data
        one.end()
        one.tell("member", "remove", "--user", "alice", "--team", "alice")
        one.tell("member", "add", "--user", "alice", "--team", "alice")
        one.start()
        wait_until(lambda: user.sandbox("rs-one")["status"] == "running", "its start")
        revoked, _ = subjects(one.gateway.changes(since=since))
        assert revoked == [{"user": "alice", "team": "alice"}] * 2
        later = one.gateway.grants(key.fingerprint).data
        assert later["version"] > grants.pop("version")
        del later["version"]
        assert later == grants


def test_two_servers_on_one_database(bin_dir):
    """What one does, the other's waiters learn; a token of the one is good at the other."""
    with Control(bin_dir) as one, Control(bin_dir, one.database) as other:
        user = one.add_user("alice")
        since, got = other.gateway.now(), []
        thread = threading.Thread(target=lambda: got.append(other.gateway.changes(since=since, wait=30)))
        thread.start()
        key = Ed25519()
        assert user.add_key(key).status == 201
        thread.join()
        assert subjects(got[0]) == ([{"key": key.fingerprint}], [])
        headers = {"Authorization": f"Bearer {user.token}"}
        assert other.call("GET", "/users/me/ssh-keys", headers=headers).status == 200


def test_postgres_that_goes_and_comes_back(bin_dir):
    with Postgres() as server:
        with Control(bin_dir, server.create("ringgate")) as one:
            user = one.add_user("alice")
            assert user.call("GET", "/users/me/ssh-keys").status == 200
            server.end()
            answer = user.call("GET", "/users/me/ssh-keys")
            assert answer.status == 500, answer
            assert answer.error[0] == "internal_error"
            server.start()
            wait_until(lambda: user.call("GET", "/users/me/ssh-keys").status == 200, "it goes on")
            key = Ed25519()
            assert user.add_key(key).status == 201
            assert one.gateway.grants(key.fingerprint).status == 200


@pytest.mark.slow
def test_postgres_that_stands_still(bin_dir):
    with Postgres() as server:
        with Control(bin_dir, server.create("ringgate")) as one:
            user = one.add_user("alice")
            assert user.call("GET", "/users/me/ssh-keys").status == 200
            pids = server.pids()
            try:
                os.kill(pids[0], signal.SIGSTOP)
                for pid in pids[1:]:
                    with contextlib.suppress(ProcessLookupError):  # A worker that is done.
                        os.kill(pid, signal.SIGSTOP)
                started = time.monotonic()
                assert user.call("GET", "/users/me/ssh-keys").status == 500
                assert time.monotonic() - started < 20
            finally:
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
            wait_until(lambda: user.call("GET", "/users/me/ssh-keys").status == 200, "it goes on", 30)


# ---- policies ----------------------------------------------------------------------


def policy_file(tmp_path, value):
    path = tmp_path / "policy.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def test_policies(control, gateway, alice, tmp_path):
    """Of a sandbox and of its team: in the answer, and in the feed as moves; gone with it."""
    names = [f"rs-p{i}" for i in range(3)]
    for name in names:
        control.import_sandbox(name, "ops")
    control.import_sandbox("rs-other", "dev")
    one, other = {"agent": False, "commands": ["echo \"*\""]}, {"sftp": "read_only", "forward_ports": ["80-90", 22]}

    def target(name, team="ops", **query):
        data = gateway.target(name, [(team, "alice")], **query).data
        return data.get("policy"), data.get("team_policy")

    assert target(names[0]) == (None, None)
    since = gateway.now()
    control.tell("policy", "set", "--id", names[0], "--file", policy_file(tmp_path, one))
    assert target(names[0]) == (one, None) and target(names[1]) == (None, None)
    assert target(names[0], wake="no") == (one, None)
    assert gateway.changes(since=since).data["moved"] == [{"sandbox": names[0]}]
    since = gateway.now()
    control.tell("policy", "set", "--team", "ops", "--file", policy_file(tmp_path, other))
    assert target(names[0]) == (one, other) and target(names[2]) == (None, other)
    assert target("rs-other", "dev") == (None, None)
    moved = [change["sandbox"] for change in gateway.changes(since=since).data["moved"]]
    assert set(names) <= set(moved) and "rs-other" not in moved
    assert json.loads(control.tell("policy", "show", "--id", names[0])) == one
    assert json.loads(control.tell("policy", "show", "--team", "ops")) == other
    assert control.tell("policy", "show", "--team", "dev") == "{}"
    since = gateway.now()
    control.tell("policy", "clear", "--team", "ops")
    assert target(names[0]) == (one, None)
    assert set(names) <= {change["sandbox"] for change in gateway.changes(since=since).data["moved"]}
    control.tell("sandbox", "remove", "--id", names[0])
    control.import_sandbox(names[0], "ops")
    assert target(names[0]) == (None, None), "it is another one"
    for name in (*names, "rs-other"):
        control.tell("sandbox", "remove", "--id", name)


def test_policies_that_are_wrong(control, alice, tmp_path):
    """Nothing that would let nobody in is taken."""
    for value, words in (("", "no JSON"), ("[]", "no JSON object"), ('{"agent": false, "agent": true}', "no JSON"),
                         ({"agnet": False}, "unknown key 'agnet'"), ({"commands": []}, "commands is empty"),
                         ({"commands": ["* x"]}, "not accepted"), ({"sftp": "some"}, "allowed: none, read_only, full"),
                         ({"commands": ["x" * 128]}, "longer than 127"), ({"idle_timeout_s": -1}, "no number"),
                         ({"a": "x" * 5000}, "at most"), ("{" + " " * 20000 + "}", "too large")):
        result = control.command("policy", "set", "--team", "ops", "--file", policy_file(tmp_path, value))
        assert result.status == 1 and words in result.err, (value, result)
    good = policy_file(tmp_path, {})
    for command, words in ((("set", "--team", "ops"), "--file is missing"),
                           (("set", "--file", good), "either --team or --id"),
                           (("show", "--team", "ops", "--id", "rs-x"), "either --team or --id"),
                           (("set", "--team", "none", "--file", good), "there is no team none"),
                           (("clear", "--id", "rs-none"), "there is no sandbox rs-none"),
                           (("show", "--id", "rs-none"), "there is no sandbox rs-none"),
                           (("set", "--team", "ops", "--file", "/nothing"), "No such file")):
        result = control.command("policy", *command)
        assert result.status == 1 and words in result.err, (command, result)
    assert control.tell("policy", "show", "--team", "ops") == "{}"


# ---- the command line --------------------------------------------------------------


def test_commands_say_what_is_wrong(control, alice):
    for command, words, status in (
            ((), "a command is expected", 2), (("fly",), "unknown command 'fly'", 2),
            (("user",), "takes another word", 2), (("user", "fly"), "takes another word", 2),
            (("user", "list", "x"), "unexpected argument 'x'", 2),
            (("user", "list", "--fly"), "see --help", 2),
            (("user", "add"), "--user is missing", 1),
            (("user", "add", "--user", "a b"), "letters, digits", 1),
            (("user", "add", "--user", "alice"), "there is a user alice already", 1),
            (("user", "remove", "--user", "nobody"), "there is no user nobody", 1),
            (("team", "add", "--team", "dev"), "there is a team dev already", 1),
            (("member", "add", "--user", "nobody", "--team", "dev"), "there is no user nobody", 1),
            (("member", "add", "--user", "alice", "--team", "dev"), "is in team dev already", 1),
            (("member", "remove", "--user", "nobody", "--team", "dev"), "is not in team dev", 1),
            (("token", "create", "--user", "nobody"), "user add --user nobody", 1),
            (("token", "revoke", "--id", "tok-x"), "there is no token tok-x", 1),
            (("sandbox", "import", "--id", "rs-x", "--team", "dev", "--procd", "host:1"), "--procd:", 1),
            (("sandbox", "import", "--id", "rs-x", "--team", "dev", "--procd", "1.2.3.4:5",
              "--procd-key", "x"), "--procd-key:", 1),
            (("sandbox", "remove", "--id", "rs-none"), "there is no sandbox rs-none", 1)):
        result = control.command(*command)
        assert result.status == status and words in result.err, (command, result)
        assert result.out == ""


def test_a_newer_database_is_refused(bin_dir):
    import sqlite3

    one = Control(bin_dir)
    try:
        one.tell("user", "list")
        with sqlite3.connect(one.database) as db:
            db.execute("INSERT INTO migrations VALUES (9999, 0)")
        db.close()
        for command in (("user", "list"), ("serve",)):
            result = one.command(*command)
            assert result.status == 1 and "newer version" in result.err, result
    finally:
        one.stop()


@pytest.mark.parametrize("setting, words", [
    ("database=/nonexistent/x.db", "/nonexistent/x.db: No such file"),
    ("database=postgres://nobody@127.0.0.1:1/x", "PostgreSQL: "),
    ("listen=1.2.3.4:1", "listen 1.2.3.4:1: "), ("listen=nowhere", "ADDR:PORT"),
    ("gateway_keys=x", "ed25519:BASE64"), ("driver=magic", "unknown; allowed: none"),
    ("log.file=/nonexistent/log", "log.file"),
])
def test_serve_says_why_it_does_not_start(bin_dir, tmp_path, setting, words):
    result = run([f"{bin_dir}/ringgate-control", "serve", "--set", f"database={tmp_path}/c.db",
                  "--set", setting])
    assert result.status == 1 and words in result.err, result


def test_a_configuration_file(bin_dir, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(f"database: {tmp_path}/c.db\nlisten: unix:{tmp_path}/s\nssh: {{port: 22}}\n")
    argv = [f"{bin_dir}/ringgate-control", "user", "add", "--config", str(config), "--user", "a"]
    run(argv).ok()
    config.write_text("datbase: x\n")
    result = run(argv)
    assert result.status == 1 and "c.yaml:1:" in result.err and "did you mean 'database'" in result.err


def test_the_documentation_has_all_settings(bin_dir):
    """After a change of settings: ringgate-control --help-settings goes to the end of the file."""
    printed = run([f"{bin_dir}/ringgate-control", "--help-settings"]).ok().out
    with open(os.path.join(CHECKOUT, "docs", "control-plane.md"), encoding="utf-8") as f:
        assert f.read().endswith("-->\n\n" + printed)


def test_on_a_unix_socket(bin_dir, tmp_path):
    one = Control(bin_dir, settings=[f"listen=unix:{tmp_path}/s"])
    for _ in range(2):  # the second finds the first one's file
        one.start()
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(f"{tmp_path}/s")
            s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert s.recv(4096).startswith(b"HTTP/1.1 200")
        one.end()
    one.stop()


def test_its_description_is_json(control):
    answer = control.call("GET", "/openapi.json")
    assert answer.status == 200
    document = json.loads(answer.body)
    assert document["openapi"].startswith("3.")
    assert http_call(control.address, "POST", "/openapi.json").status == 405
