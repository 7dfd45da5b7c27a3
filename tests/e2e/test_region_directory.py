"""The gateway's directory against a control plane and a Redis of which the test says what they do, and when."""

import asyncio
import json
import os
import re
import socket
import subprocess
import threading
import time

import asyncssh
import paramiko
import pytest

from aclient import connect, finish
from fake_control import Box
from fake_region import TEAM, USER
from flow import Flow
from redises import Redis
from regions import end_with_us, run
from waiting import stays_true, wait_until

pytestmark = pytest.mark.gateway

UNAVAILABLE = "temporarily unavailable"
DENIED = "Permission denied (publickey)"
WITHDRAWN = "access to this sandbox has been withdrawn"
# Short, so that a test sees what happens at the end of it; a login with it on a busy machine takes a few seconds more.
TIMEOUT_MS = 1500
LOGIN_S = 20
FEED_S = 2.0   # from a change to the end of what hangs on it
REDIS_S = 1.0


@pytest.fixture
def redis():
    with Redis() as one:
        yield one


def login(region, **how):
    return region.ssh("echo", "in", timeout=LOGIN_S, **how)


def gets_in(region, **how):
    result = login(region, **how)
    assert result.status == 0 and result.stdout == b"in\n", result
    return True


def is_told(region, words, **how):
    result = login(region, **how)
    assert result.status == 255 and words in result.err, result
    return True


def feed_is_up(region):
    wait_until(lambda: region.counts()["changes"]["state"] == "up", "the changes feed")


def redis_is(region, state, seconds=20):
    wait_until(lambda: region.counts()["redis"]["state"] == state, f"Redis {state}", seconds)


class Live:
    """A session that runs `cat`."""

    def __init__(self, region, **how):
        self.process = subprocess.Popen(
            region.ssh_argv("echo in; cat", **how), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True, preexec_fn=end_with_us)
        assert self.process.stdout.readline() == b"in\n", self.process.stderr.read()

    def is_live(self):
        if self.process.poll() is not None:
            return False
        self.process.stdin.write(b"x\n")
        self.process.stdin.flush()
        return self.process.stdout.readline() == b"x\n"

    def carries(self, count):
        """So many random bytes come back as they went."""
        data = os.urandom(count)
        writer = threading.Thread(target=lambda: (self.process.stdin.write(data), self.process.stdin.flush()))
        writer.start()
        back = self.process.stdout.read(count)
        writer.join()
        return back == data

    def ends(self, seconds):
        """What it says."""
        self.process.wait(seconds)
        return self.process.stderr.read().decode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()


# ---- look-ups ----------------------------------------------------------------------


def test_one_login(fake_region):
    region = fake_region()
    feed_is_up(region)
    for _ in range(3):
        gets_in(region)
    assert region.control.calls["keys"] == 1
    assert region.control.calls["boxes"] == 1
    status = region.counts()
    assert status["l1_keys"]["hits"] >= 2 and status["l1_routes"]["hits"] == 2
    assert status["directory"]["kind"] == "control plane" and status["redis"]["state"] == "none"


def test_many_logins_at_once_are_one_look_up(fake_region):
    """All of them ask before the first answer is there."""
    region = fake_region("login.unauthenticated.begin=200")
    feed_is_up(region)
    region.control.hold("keys")

    async def one():
        async with connect(region) as client:
            done = await client.run("echo in")
            return done.stdout, done.stderr

    async def all_of_them():
        jobs = [asyncio.create_task(one()) for _ in range(50)]
        await asyncio.sleep(0)
        while region.counts()["lookups"]["joined"] < 49:
            await asyncio.sleep(0.05)
        region.control.release()
        return await asyncio.gather(*jobs)

    assert set(finish(all_of_them(), 100)) == {("in\n", "")}
    assert region.control.calls["keys"] == 1
    assert region.control.calls["boxes"] == 1


def test_all_denials_look_alike(fake_region):
    region = fake_region(boxes=("rs-one", "rs-two"))
    region.control.boxes["rs-two"].team = "t-others"
    _, unknown = region.add_user("unknown", grants=())
    texts = set()
    for how in ({"identity": unknown}, {"box": "rs-none"}, {"box": "rs-two"}, {"user": "NO_SANDBOX"}):
        result = login(region, **how)
        assert result.status == 255 and DENIED in result.err, result
        texts.add(re.sub(r"\S+@", "", result.err))
    assert len(texts) == 1, texts


def test_a_probe_asks_for_no_sandbox(fake_region):
    """A client that offers a key and does not sign: nothing is asked that could wake a sandbox."""
    region = fake_region()
    result = region.ssh("true", timeout=LOGIN_S, opts=("PubkeyAuthentication=yes", "SecurityKeyProvider=none"),
                        identity=region.identity + ".none")
    assert result.status == 255
    with open(region.identity, "rb") as private:
        public = asyncssh.import_private_key(private.read()).export_public_key().decode()
    path = region.path("only.pub")
    with open(path, "w", encoding="ascii") as f:
        f.write(public)
    result = login(region, identity=path)  # no private half beside it: ssh offers it and cannot sign
    assert result.status == 255, result
    assert region.control.calls["keys"] == 1
    assert region.control.calls["boxes"] == 0


def test_probes_leave_by_the_clock(fake_region):
    """Known to L1, known to the control plane, known to nobody: answers come at ticks since the connection began."""
    region = fake_region("login.probe_tick_ms=400")
    feed_is_up(region)
    _, other = region.add_user("other")
    _, unknown = region.add_user("unknown", grants=())
    gets_in(region)
    for identity in (region.identity, other, unknown, unknown):
        offset = region.log_size()
        login(region, identity=identity)
        session = wait_until(lambda: re.search(r"ts=(\S+)Z \S+ event=connect session=(\w+)", region.log_since(offset)),
                             "the connection's line")
        end = wait_until(lambda: re.search(rf"ts=(\S+)Z \S+ event=(?:auth|end) session={session.group(2)}",
                                           region.log_since(offset)), "the login's line")
        assert seconds_of(end.group(1)) - seconds_of(session.group(1)) >= 0.39, region.log_since(offset)


def seconds_of(text):
    clock = text.split("T")[1].split(":")
    return int(clock[0]) * 3600 + int(clock[1]) * 60 + float(clock[2])


def test_probes_are_rationed(fake_region):
    """What is above the rate waits for its turn, and is let in then."""
    region = fake_region("login.probe_lookups.rate_address=1")
    feed_is_up(region)
    users = [region.add_user(f"user{i}")[1] for i in range(5)]
    started = time.monotonic()
    processes = [subprocess.Popen(region.ssh_argv("echo", "in", identity=identity), stdout=subprocess.PIPE,
                                  stdin=subprocess.DEVNULL, preexec_fn=end_with_us) for identity in users]
    outputs = [p.communicate(timeout=LOGIN_S)[0] for p in processes]
    assert outputs == [b"in\n"] * 5
    assert time.monotonic() - started > 2.5


def test_signing_at_once_is_rationed_too(fake_region):
    """A client need not probe: it makes keys that nobody knows and signs with each."""
    region = fake_region("login.probe_lookups.rate_address=1")
    feed_is_up(region)
    started = time.monotonic()
    with socket.create_connection((region.host, region.port)) as sock:
        transport = paramiko.Transport(sock)
        try:
            transport.start_client(timeout=LOGIN_S)
            for _ in range(5):
                with pytest.raises(paramiko.AuthenticationException):
                    transport.auth_publickey(region.box, paramiko.ECDSAKey.generate())
        finally:
            transport.close()
    assert region.control.calls["keys"] == 5
    assert time.monotonic() - started > 2.5


def test_answers_without_a_version_live_shorter(fake_region):
    region = fake_region("cache.unversioned_ttl_s=1")
    feed_is_up(region)
    region.control.has_versions = False
    gets_in(region)
    calls = region.control.calls["keys"]
    assert calls == 1
    wait_until(lambda: gets_in(region) and region.control.calls["keys"] > calls, "the end of its time")


def test_check(fake_region, redis):
    """--check looks into the files that are named, and asks nobody."""
    region = fake_region(redis=redis.url)
    calls = dict(region.control.calls)

    def check(*settings):
        argv = [os.path.join(region.bin_dir, "ringgate"), "--check"]
        for setting in (*region.gateway_settings(), *settings):
            argv += ["--set", setting]
        return run(argv)

    assert check().ok().out == "ringgate: the configuration is good\n"
    open_secret = region.path("open_secret")
    with open(open_secret, "w", encoding="ascii") as f:
        f.write("00" * 32)
    os.chmod(open_secret, 0o644)
    for setting, words in (
            (f"redis.secret_file={open_secret}", "redis.secret_file: "),
            (f"redis.secret_file={region.path('known_hosts')}", "redis.secret_file: "),
            ("redis.url=redis://127.0.0.1:port", "redis: "),
            ("control.url=http://user@host:1", "control: "),
            (f"control.key_file={region.path('known_hosts')}", "control.key_file"),
            (f"control.ca_file={region.path('nothing')}", "control.ca_file: "),
            (f"directory={region.path('known_hosts')}", "directory is set, too")):
        result = check(setting)
        assert result.status == 1 and words in result.err, (setting, result)
    assert region.control.calls["keys"] == calls.get("keys", 0)


# ---- changes ----------------------------------------------------------------------


def test_revoked_by_the_feed(fake_region):
    region = fake_region()
    feed_is_up(region)
    _, identity = region.add_user("other")
    with Live(region) as live, Live(region, identity=identity) as other:
        region.control.delete_key(region.fingerprint)
        started = time.monotonic()
        assert WITHDRAWN in live.ends(FEED_S)
        assert time.monotonic() - started < FEED_S
        assert is_told(region, DENIED)
        assert other.is_live()


def test_the_feed_was_away(fake_region):
    """What it would have told is found when it is back."""
    region = fake_region("control.timeout_ms=500")
    feed_is_up(region)
    with Live(region) as live:
        region.control.fail("500")
        wait_until(lambda: region.counts()["changes"]["state"] == "down", "the loss of the feed")
        with region.control.lock:
            del region.control.keys[region.fingerprint]
            region.control.change("revoked", {"key": region.fingerprint})
        assert live.is_live()
        region.control.fail(None)
        assert WITHDRAWN in live.ends(20)
        assert is_told(region, DENIED)


def test_the_feed_forgot(fake_region):
    """410: everybody is checked, and nothing that was known counts."""
    region = fake_region("control.timeout_ms=500")
    feed_is_up(region)
    _, identity = region.add_user("other")
    with Live(region) as live, Live(region, identity=identity) as other:
        region.control.fail("500")
        wait_until(lambda: region.counts()["changes"]["state"] == "down", "the loss of the feed")
        with region.control.lock:
            del region.control.keys[region.fingerprint]
            region.control.change("revoked", {"key": region.fingerprint})
        region.control.forget_changes()
        region.control.fail(None)
        assert WITHDRAWN in live.ends(20)
        assert other.is_live()
        assert is_told(region, DENIED)


def test_without_a_feed(fake_region):
    """A platform of which the contract's optional parts are missing: 404, asked for now and then; entries live short."""
    region = fake_region("cache.unversioned_ttl_s=2", has_feed=False)
    wait_until(lambda: region.counts()["changes"]["state"] == "absent", "the feed's absence")
    assert len(re.findall("event=changes state=absent", region.output_text())) == 1
    gets_in(region)
    region.control.delete_key(region.fingerprint)
    wait_until(lambda: DENIED in login(region).err, "the end of its time")


@pytest.mark.parametrize("tells", [True, False])
def test_a_sandbox_moves(fake_region, tells):
    """Told or not, the next login is where it is now; the attempt at the old place is not seen."""
    region = fake_region()
    feed_is_up(region)
    assert login(region).ok()
    old = region.procds["rs-one"]
    new = region.new_procd("rs-one")
    region.control.move("rs-one", new, tells=tells)
    if tells:
        wait_until(lambda: region.counts()["changes"]["told"] > 1, "the feed's word")
    old.stop()
    region.more_procds.remove(old)
    result = region.ssh("pwd", timeout=LOGIN_S)
    assert result.out.strip() == new.home and result.err == "", result
    assert region.control.calls["boxes"] == 2


def test_a_change_overtakes_an_answer(fake_region):
    """Look-up, then change, then the late answer, which said yes: it lets nobody in, and is not remembered."""
    region = fake_region()
    feed_is_up(region)
    region.control.hold("keys")
    results = []
    thread = threading.Thread(target=lambda: results.append(login(region)))
    thread.start()
    wait_until(lambda: region.control.held_count == 1, "the look-up")
    region.control.delete_key(region.fingerprint)
    wait_until(lambda: region.counts()["changes"]["told"] > 1, "the feed's word")
    region.control.release()
    thread.join(LOGIN_S)
    assert results[0].status == 255 and DENIED in results[0].err, results[0]
    assert is_told(region, DENIED)


# ---- a control plane in trouble -------------------------------------------------------


@pytest.mark.parametrize("trouble", ["held", "500", "html", "half", "big", "garbage", "reset"])
def test_control_plane_in_trouble(fake_region, trouble):
    """Who is known works on, live sessions do not notice, others are told so within the deadline; then all is well again."""
    region = fake_region(f"control.timeout_ms={TIMEOUT_MS}")
    feed_is_up(region)
    _, identity = region.add_user("other")
    gets_in(region)
    with Live(region) as live, Flow(region) as flow:
        region.control.fail(trouble)
        for _ in range(3):
            started = time.monotonic()
            assert is_told(region, UNAVAILABLE, identity=identity)
            assert time.monotonic() - started < TIMEOUT_MS / 1000 + 6
        gets_in(region)
        assert live.is_live()
        region.control.fail(None)
        wait_until(lambda: login(region, identity=identity).status == 0, "the control plane to be believed again")
        feed_is_up(region)
        assert live.is_live()
    assert flow.kept_its_rate()
    assert "temporarily unavailable" in region.output_text()


def test_control_plane_frozen_for_ten_seconds(fake_region):
    region = fake_region(f"control.timeout_ms={TIMEOUT_MS}")
    feed_is_up(region)
    _, identity = region.add_user("other")
    gets_in(region)
    with Flow(region) as flow:
        region.control.fail("held")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            gets_in(region)
            assert is_told(region, UNAVAILABLE, identity=identity)
        region.control.fail(None)
        wait_until(lambda: login(region, identity=identity).status == 0, "its return")
    assert flow.kept_its_rate()


def test_control_plane_is_not_there_at_start(fake_region):
    region = fake_region(f"control.timeout_ms={TIMEOUT_MS}")
    region.control.fail("reset")
    assert is_told(region, UNAVAILABLE)
    region.control.fail(None)
    wait_until(lambda: login(region).status == 0, "the first answer")


# ---- Redis ---------------------------------------------------------------------------


def test_gateways_share_what_they_know(fake_region, redis):
    first = fake_region(redis=redis.url)
    second = fake_region(redis=redis.url, like=first)
    for one in first, second:
        redis_is(one, "up")
        feed_is_up(one)
    gets_in(first)
    wait_until(lambda: redis.cli("EXISTS", f"rg:key:{first.fingerprint}", "rg:route:rs-one",
                                 f"rg:grant:rs-one:{TEAM}:{USER}") == "3", "the fill")
    gets_in(second)
    gets_in(second)
    assert first.control.calls["keys"] == 1 and first.control.calls["boxes"] == 1
    assert second.counts()["lookups"]["from_redis"] == 2
    assert int(redis.cli("PTTL", "rg:route:rs-one")) <= 60000
    assert not redis.cli("KEYS", "*unknown*")


def test_unknown_keys_fill_nothing_that_is_shared(fake_region, redis):
    region = fake_region(redis=redis.url)
    redis_is(region, "up")
    _, identity = region.add_user("unknown", grants=())
    assert is_told(region, DENIED, identity=identity)
    assert is_told(region, DENIED, identity=identity)
    assert redis.cli("DBSIZE") == "0"
    assert region.control.calls["keys"] == 1


def test_forged_and_wrong_values(fake_region, redis):
    region = fake_region(redis=redis.url)
    redis_is(region, "up")
    _, identity = region.add_user("unknown", grants=())
    gets_in(region)
    name = f"rg:key:{region.fingerprint}"
    wait_until(lambda: redis.cli("EXISTS", name) == "1", "the fill")
    # The value of one key under another's name, garbage, and every wrong type.
    fingerprint = key_of(identity)
    redis.cli("COPY", name, f"rg:key:{fingerprint}")
    assert is_told(region, DENIED, identity=identity)
    for words in (("SET", name, "garbage"), ("SET", name, "0" * 20 + "x" * 300), ("SET", name, "x" * 100000),
                  ("LPUSH", name, "1"), ("HSET", name, "a", "b"), ("SADD", name, "1"), ("ZADD", name, "1", "1")):
        redis.cli("DEL", name, "rg:route:rs-one", f"rg:grant:rs-one:{TEAM}:{USER}")
        redis.cli(*words)
        redis.cli(words[0], "rg:route:rs-one", *words[2:])
        gets_in(region)
    assert "values that do not verify are not believed" in region.output_text()
    assert region.counts()["redis"]["not_verified"] > 1


def key_of(identity):
    return asyncssh.read_private_key(identity).get_fingerprint()


def control_plane_tells(redis, name, *gone):
    """What a control plane does in Redis on a change."""
    redis.cli("DEL", *gone)
    redis.cli("SET", name, str(int(time.time())), "PX", "600000")


def test_revoked_by_redis(fake_region, redis):
    region = fake_region(redis=redis.url, has_feed=False)
    redis_is(region, "up")
    gets_in(region)
    with Live(region) as live:
        region.control.delete_key(region.fingerprint, tells=False)
        started = time.monotonic()
        control_plane_tells(redis, f"rg:rev:key:{region.fingerprint}", f"rg:key:{region.fingerprint}")
        assert WITHDRAWN in live.ends(REDIS_S + 5)
        assert time.monotonic() - started < REDIS_S
        assert is_told(region, DENIED)


def test_an_expired_entry_ends_nobody(fake_region, redis):
    region = fake_region(redis=redis.url)
    redis_is(region, "up")
    gets_in(region)
    with Live(region) as live:
        redis.cli("SET", f"rg:rev:key:{region.fingerprint}", "1", "PX", "100")
        redis.cli("DEL", f"rg:key:{region.fingerprint}", "rg:route:rs-one")
        assert stays_true(live.is_live, 1)


def test_a_late_fill_is_refused(fake_region, redis):
    """The answer is older than the revision that the control plane left in Redis meanwhile: it does not come in."""
    region = fake_region(redis=redis.url)
    redis_is(region, "up")
    feed_is_up(region)
    region.control.hold("boxes")
    results = []
    thread = threading.Thread(target=lambda: results.append(login(region)))
    thread.start()
    wait_until(lambda: region.control.held_count == 1, "the look-up")
    redis.cli("SET", "rg:rev:sandbox:rs-one", "999999999", "PX", "600000")
    region.control.release()
    thread.join(LOGIN_S)
    assert results[0].status == 0
    assert redis.cli("EXISTS", "rg:route:rs-one", f"rg:grant:rs-one:{TEAM}:{USER}") == "0"


def test_an_invalidation_lost_in_a_reconnect(fake_region, redis):
    """The gateway's connection ends before the change: nobody tells, and it is found in the revisions."""
    region = fake_region(redis=redis.url, has_feed=False)
    redis_is(region, "up")
    gets_in(region)
    with Live(region) as live:
        region.control.delete_key(region.fingerprint, tells=False)
        reconnects = region.counts()["redis"]["reconnects"]
        with open(os.path.join(redis.folder, "lost"), "w", encoding="ascii") as f:
            f.write(f"MULTI\nCLIENT KILL TYPE normal SKIPME yes\nDEL rg:key:{region.fingerprint}\n"
                    f"SET rg:rev:key:{region.fingerprint} 9999999 PX 600000\nEXEC\n")
        with open(os.path.join(redis.folder, "lost"), "rb") as f:
            subprocess.run([redis.cli_program, "-s", redis.socket], stdin=f, check=True, timeout=20,
                           stdout=subprocess.DEVNULL)
        assert WITHDRAWN in live.ends(20)
        assert region.counts()["redis"]["reconnects"] > reconnects
        assert is_told(region, DENIED)


def test_redis_killed_and_started_again(fake_region, redis):
    region = fake_region(redis=redis.url)
    redis_is(region, "up")
    _, identity = region.add_user("other")
    gets_in(region)
    with Live(region) as live, Flow(region) as flow:
        redis.kill()
        redis_is(region, "down")
        gets_in(region)
        gets_in(region, identity=identity)
        assert live.is_live()
        redis.start()
        redis_is(region, "up")
        gets_in(region)
        assert live.is_live()
    assert flow.kept_its_rate()
    log = region.output_text()
    assert "event=redis state=down" in log and log.count("event=redis state=up") == 2


def test_redis_frozen_for_ten_seconds(fake_region, redis):
    """No login hangs: at most one waits for the time that a command has."""
    region = fake_region(redis=redis.url)
    redis_is(region, "up")
    users = [region.add_user(f"user{i}")[1] for i in range(20)]
    gets_in(region)
    with Live(region) as live, Flow(region) as flow:
        redis.freeze()
        deadline = time.monotonic() + 10
        for identity in users:
            if time.monotonic() > deadline:
                break
            started = time.monotonic()
            gets_in(region, identity=identity)
            assert time.monotonic() - started < 8
            assert live.is_live()
        redis_is(region, "down")
        redis.thaw()
        redis_is(region, "up")
        gets_in(region)
    assert flow.kept_its_rate()


def test_flushall_under_logins(fake_region, redis, bin_dir):
    """As fast as ringbench logs in and as fast as Redis forgets: every login gets in."""
    region = fake_region(redis=redis.url)
    redis_is(region, "up")
    stop = threading.Event()

    def flush():
        while not stop.is_set():
            redis.cli("FLUSHALL")

    thread = threading.Thread(target=flush)
    with Live(region) as live, Flow(region) as flow:
        thread.start()
        try:
            done = run([os.path.join(bin_dir, "ringbench"), "connect", "--address", f"{region.host}:{region.port}",
                        "--user", region.box, "--identity", region.identity, "--count", "200", "--parallel", "8",
                        "--kex", "curve25519-sha256", "--json", "--quiet", "--limit", "90"], timeout=100).ok()
        finally:
            stop.set()
            thread.join()
        assert json.loads(done.out)["done"] == 200
        assert live.is_live()
    assert flow.kept_its_rate()


def test_redis_and_control_plane_down(fake_region, redis):
    """Live sessions do not notice; others are told."""
    region = fake_region(f"control.timeout_ms={TIMEOUT_MS}", redis=redis.url)
    redis_is(region, "up")
    _, identity = region.add_user("other")
    with Live(region) as live, Flow(region) as flow:
        region.control.fail("reset")
        redis.kill()
        assert is_told(region, UNAVAILABLE, identity=identity)
        assert stays_true(live.is_live, 1)
        assert live.carries(32 << 20)
        redis.start()
        region.control.fail(None)
        wait_until(lambda: login(region, identity=identity).status == 0, "their return")
        assert live.is_live()
    assert flow.kept_its_rate()


def test_redis_has_what_the_control_plane_cannot_say(fake_region, redis):
    """Control plane down: what is in Redis lets in, also at a gateway that has never asked."""
    first = fake_region(redis=redis.url)
    redis_is(first, "up")
    gets_in(first)
    wait_until(lambda: redis.cli("EXISTS", f"rg:grant:rs-one:{TEAM}:{USER}") == "1", "the fill")
    second = fake_region(f"control.timeout_ms={TIMEOUT_MS}", redis=redis.url, like=first)
    redis_is(second, "up")
    first.control.fail("reset")
    gets_in(second)
    first.control.fail(None)
