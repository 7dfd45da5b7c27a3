"""What the control plane tells the gateways' cache: revisions and deletions, whatever becomes of the Redis between."""

import subprocess
import time

import pytest

import keys
from controls import Control
from redises import Cluster, Redis, find_program
from regions import run
from waiting import stays_true, wait_until

pytestmark = pytest.mark.gateway


@pytest.fixture
def key():
    return keys.Ed25519().line


@pytest.fixture
def start(bin_dir):
    """start(redis, ...): a control plane that tells this Redis, with the user alice in the team blue."""
    started = []

    def begin(redis, **more):
        url = redis if isinstance(redis, str) else redis.url
        settings = {"url": url, **more}
        control = Control(bin_dir, settings=[f"redis.{name}={value}" for name, value in settings.items()])
        control.alice = control.add_user("alice", "blue")
        started.append(control)
        return control.start()

    yield begin
    for control in started:
        control.stop()


def add_key(control, key):
    """Its fingerprint and its ID."""
    data = control.alice.add_key(key).data
    return data["fingerprint_sha256"], data["id"]


def delete_key(control, id_):
    assert control.alice.call("DELETE", f"/users/me/ssh-keys/{id_}").status == 200


def revision(redis, name):
    """What stands under rg:rev:NAME, as a number; 0 for nothing."""
    text = redis.cli("GET", f"rg:rev:{name}", check=False)
    return int(text) if text.isdigit() else 0


def import_sandbox(control, state="running"):
    control.import_sandbox("rs-x", "blue", "--state", state)


def told(redis, name, above=0, seconds=5):
    wait_until(lambda: revision(redis, name) > above, f"rg:rev:{name}", seconds)
    return revision(redis, name)


def test_a_key_that_comes_and_goes(start, key):
    with Redis() as redis:
        control = start(redis)
        print_, id_ = add_key(control, key)
        first = told(redis, f"key:{print_}")
        lifetime = int(redis.cli("PTTL", f"rg:rev:key:{print_}"))
        assert 590_000 < lifetime <= 600_000
        redis.cli("SET", f"rg:key:{print_}", "filled by a gateway")
        redis.cli("SET", "rg:key:SHA256:another", "filled by a gateway")
        began = time.monotonic()
        delete_key(control, id_)
        wait_until(lambda: redis.cli("EXISTS", f"rg:key:{print_}") == "0", "the deletion")
        assert time.monotonic() - began < 1
        assert revision(redis, f"key:{print_}") > first
        assert redis.cli("EXISTS", "rg:key:SHA256:another") == "1"


def test_a_member_that_goes(start):
    with Redis() as redis:
        control = start(redis)
        for name in ("rs-x:blue:alice", "rs-y:blue:alice", "rs-x:blue:bob", "rs-x:red:alice"):
            redis.cli("SET", f"rg:grant:{name}", "filled by a gateway")
        before = revision(redis, "member:blue:alice")
        control.tell("member", "remove", "--user", "alice", "--team", "blue")
        told(redis, "member:blue:alice", before)
        wait_until(lambda: redis.cli("EXISTS", "rg:grant:rs-x:blue:alice", "rg:grant:rs-y:blue:alice") == "0",
                   "the deletion")
        assert redis.cli("EXISTS", "rg:grant:rs-x:blue:bob", "rg:grant:rs-x:red:alice") == "2"


def test_a_sandbox_that_moves_and_goes(start):
    with Redis() as redis:
        control = start(redis)
        import_sandbox(control)
        first = told(redis, "sandbox:rs-x")
        redis.cli("SET", "rg:route:rs-x", "filled by a gateway")
        redis.cli("SET", "rg:grant:rs-x:blue:alice", "filled by a gateway")
        redis.cli("SET", "rg:grant:rs-xy:blue:alice", "filled by a gateway")
        import_sandbox(control, "paused")
        second = told(redis, "sandbox:rs-x", first)
        wait_until(lambda: redis.cli("EXISTS", "rg:route:rs-x") == "0", "the deletion of the route")
        # It may still be entered: its grants stay.
        assert redis.cli("EXISTS", "rg:grant:rs-x:blue:alice") == "1"
        redis.cli("SET", "rg:route:rs-x", "filled by a gateway")
        control.tell("sandbox", "remove", "--id", "rs-x")
        told(redis, "sandbox:rs-x", second)
        wait_until(lambda: redis.cli("EXISTS", "rg:route:rs-x", "rg:grant:rs-x:blue:alice") == "0", "the deletions")
        assert redis.cli("EXISTS", "rg:grant:rs-xy:blue:alice") == "1"


def test_ten_thousand_names(start):
    """A member's grants are found among many others."""
    with Redis() as redis:
        control = start(redis)
        redis.cli("EVAL", "for i = 1, 10000 do redis.call('SET', 'rg:grant:rs-' .. i .. ':blue:' .. "
                  "(i % 100 == 0 and 'alice' or 'bob'), 'x') end", "0")
        control.tell("member", "remove", "--user", "alice", "--team", "blue")
        wait_until(lambda: redis.cli("DBSIZE") == "9901", "the deletion of a hundred grants")


def test_what_changed_while_redis_was_away(start, key):
    with Redis() as redis:
        redis.kill()
        control = start(redis)
        print_, id_ = add_key(control, key)
        wait_until(lambda: 'event=redis state=down' in control.log(), "a word in the log")
        delete_key(control, id_)
        redis.start()
        told(redis, f"key:{print_}", seconds=10)
        assert control.log().count("event=redis state=down") == 1


def test_a_redis_that_lost_its_memory_is_told_again(start, key):
    with Redis() as redis:
        control = start(redis)
        print_, id_ = add_key(control, key)
        delete_key(control, id_)
        import_sandbox(control)
        wait_until(lambda: revision(redis, "sandbox:rs-x"), "the last change")
        before = revision(redis, f"key:{print_}")
        redis.kill()
        redis.start()
        # Nothing changes: it is told all the same, and the same.
        told(redis, f"key:{print_}", seconds=5)
        assert revision(redis, f"key:{print_}") == before
        told(redis, "sandbox:rs-x", seconds=5)


def test_a_restart_tells_again_and_disturbs_nobody(start, key):
    """What stands there already is not written: a write would make every gateway ask."""
    with Redis() as redis:
        control = start(redis)
        print_, _ = add_key(control, key)
        first = told(redis, f"key:{print_}")
        redis.cli("DEL", f"rg:rev:key:{print_}")
        import_sandbox(control)
        wait_until(lambda: revision(redis, "sandbox:rs-x"), "the last change")
        control.end()
        redis.cli("CONFIG", "RESETSTAT")
        control.start()
        told(redis, f"key:{print_}")
        assert revision(redis, f"key:{print_}") == first
        wait_until(lambda: "cmdstat_ping" in redis.cli("INFO", "commandstats"), "the end of the telling")
        sets = [line for line in redis.cli("INFO", "commandstats").splitlines() if line.startswith("cmdstat_set:")]
        assert sets and sets[0].startswith("cmdstat_set:calls=1,"), sets


def test_a_frozen_redis_holds_nobody_up(start, key):
    with Redis() as redis:
        control = start(redis, timeout_ms=200)
        wait_until(lambda: "event=redis state=up" in control.log(), "the connection")
        redis.freeze()
        began = time.monotonic()
        print_, _ = add_key(control, key)
        assert time.monotonic() - began < 1
        wait_until(lambda: "event=redis state=down" in control.log(), "a word in the log", 10)
        redis.thaw()
        told(redis, f"key:{print_}", seconds=15)


def test_garbage_under_its_names(start, key):
    with Redis() as redis:
        control = start(redis)
        print_, id_ = add_key(control, key)
        told(redis, f"key:{print_}")
        redis.cli("DEL", f"rg:rev:key:{print_}")
        redis.cli("LPUSH", f"rg:rev:key:{print_}", "a list")
        redis.cli("LPUSH", f"rg:key:{print_}", "a list")
        delete_key(control, id_)
        wait_until(lambda: redis.cli("TYPE", f"rg:rev:key:{print_}") == "string", "the revision")
        wait_until(lambda: redis.cli("EXISTS", f"rg:key:{print_}") == "0", "the deletion")


def test_passwords(start, key, tmp_path):
    secret = "p@ss:word/1"
    with Redis(password=secret) as redis:
        control = start(f"redis://:p%40ss%3Aword%2F1@127.0.0.1:{redis.port}/3")
        print_, _ = add_key(control, key)
        wait_until(lambda: redis.cli("-n", "3", "EXISTS", f"rg:rev:key:{print_}") == "1", "the revision in database 3")
        assert secret not in control.log() and "p%40ss" not in control.log()
        # What deploy/README.md says that it needs.
        redis.cli("ACL", "SETUSER", "control", "on", ">other", "~rg:*", "+ping", "+role", "+mget", "+set", "+del",
                  "+scan")
        path = tmp_path / "password"
        path.write_text("other\n")
        path.chmod(0o600)
        control = start(f"redis://control@127.0.0.1:{redis.port}", password_file=str(path))
        import_sandbox(control)
        told(redis, "sandbox:rs-x")
        redis.cli("SET", "rg:grant:rs-x:blue:alice", "filled by a gateway")
        control.tell("member", "remove", "--user", "alice", "--team", "blue")
        wait_until(lambda: redis.cli("EXISTS", "rg:grant:rs-x:blue:alice") == "0", "the deletion")
        control = start(f"redis://:wrong@127.0.0.1:{redis.port}")
        wait_until(lambda: "WRONGPASS" in control.log(), "a word in the log")
        assert "wrong@" not in control.log()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    openssl = find_program("openssl")
    folder = tmp_path_factory.mktemp("tls")
    commands = [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -subj /CN=ca -days 2",
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile names",
    ]
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    for command in commands:
        subprocess.run([openssl, *command.split()], cwd=folder, check=True, capture_output=True)
    return folder


def test_tls(start, key, certificates):
    with Redis(tls=str(certificates)) as redis:
        ca_file = str(certificates / "ca.crt")
        control = start(f"rediss://localhost:{redis.tls_port}", ca_file=ca_file)
        print_, _ = add_key(control, key)
        told(redis, f"key:{print_}")
        # Not the name in the certificate, and not a CA that is trusted.
        for url, settings in ((f"rediss://127.0.0.1:{redis.tls_port}", {"ca_file": ca_file}),
                              (f"rediss://localhost:{redis.tls_port}", {})):
            other = start(url, **settings)
            wait_until(lambda: "event=redis state=down" in other.log(), "a word in the log")
            assert "certificate" in other.log() or "verify" in other.log(), other.log()


def test_sentinels_and_a_failover(start, key):
    with Redis() as first, Redis() as second:
        second.cli("REPLICAOF", "127.0.0.1", str(first.port))
        wait_until(lambda: "master_link_status:up" in second.cli("INFO", "replication"), "the replica")
        with Redis(sentinel_of=first) as sentinel:
            wait_until(lambda: f"127.0.0.1 {second.port}" in sentinel.cli("SENTINEL", "REPLICAS", "region").replace(
                "127.0.0.1\nport\n", "127.0.0.1 "), "the Sentinel's look at the replica", 30)
            control = start(f"sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/region")
            print_, id_ = add_key(control, key)
            before = told(first, f"key:{print_}")
            first.kill()
            wait_until(lambda: "role:master" in second.cli("INFO", "replication", check=False), "the failover", 40)
            delete_key(control, id_)
            told(second, f"key:{print_}", before, seconds=20)


def test_a_cluster(start):
    with Cluster() as cluster:
        control = start(cluster)
        for _ in range(6):
            print_, id_ = add_key(control, keys.Ed25519().line)
            revision_name, name = f"key:{print_}", f"rg:key:{print_}"
            first = told(cluster.of(f"rg:rev:{revision_name}"), revision_name)
            cluster.of(name).cli("SET", name, "filled by a gateway")
            delete_key(control, id_)
            wait_until(lambda: cluster.of(name).cli("EXISTS", name) == "0", "the deletion")
            told(cluster.of(f"rg:rev:{revision_name}"), revision_name, first)
        grants = [f"rg:grant:rs-{i}:blue:alice" for i in range(30)]
        for name in grants:
            cluster.of(name).cli("SET", name, "filled by a gateway")
        assert {cluster.of(name) for name in grants} == set(cluster.servers), "they are everywhere"
        control.tell("member", "remove", "--user", "alice", "--team", "blue")
        wait_until(lambda: not any(cluster.of(name).cli("EXISTS", name) == "1" for name in grants), "the deletions")


def test_slots_of_a_cluster_that_move(start):
    with Cluster() as cluster:
        control = start(cluster)
        wait_until(lambda: "event=redis state=up" in control.log(), "the connections")
        one, two, _ = cluster.servers
        key = next(key for key in (keys.Ed25519() for _ in range(1000))
                   if cluster.of(f"rg:rev:key:{key.fingerprint}") is one)
        slot = one.cli("CLUSTER", "KEYSLOT", f"rg:rev:key:{key.fingerprint}")
        for server in cluster.servers:
            assert server.cli("CLUSTER", "SETSLOT", slot, "NODE", two.cli("CLUSTER", "MYID")) == "OK"
        add_key(control, key.line)
        told(two, f"key:{key.fingerprint}")
        # All connections were good: nothing had to be told again, nobody was said to be away.
        assert "event=redis state=down" not in control.log()


def test_a_master_of_a_cluster_that_is_away(start):
    with Cluster() as cluster:
        control = start(cluster)
        wait_until(lambda: "event=redis state=up" in control.log(), "the connections")
        last = cluster.servers[2]
        key = next(key for key in (keys.Ed25519() for _ in range(1000))
                   if cluster.of(f"rg:rev:key:{key.fingerprint}") is last)
        last.kill()
        add_key(control, key.line)
        wait_until(lambda: "event=redis state=down" in control.log(), "a word in the log")
        last.start()
        told(last, f"key:{key.fingerprint}", seconds=20)


def test_nonsense_ends_the_start(bin_dir):
    control = Control(bin_dir, settings=["redis.url=http://127.0.0.1"])
    try:
        done = control.command("serve")
        assert done.status == 1 and "starts with none of" in done.err, done
    finally:
        control.stop()


def test_without_redis_nothing_is_said(bin_dir, key):
    with Control(bin_dir) as control:
        control.alice = control.add_user("alice", "blue")
        add_key(control, key)
        assert stays_true(lambda: "redis" not in control.log(), 0.3)
