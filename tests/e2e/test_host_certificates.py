"""Host certificates: who trusts the operator's authority needs to know no host key."""

import os
import re

import pytest

import aclient
from host_keys import TYPES, Listener, OwnKeys, keygen, public_line
from keys import Ed25519
from regions import run
from waiting import wait_until

pytestmark = pytest.mark.gateway

SUFFIX = "-cert-v01@openssh.com"
NAME = "gateway.example"


class Authority:
    def __init__(self, folder, name):
        self.path = str(folder / name)
        keygen(self.path)

    def sign(self, public, *options, principals=NAME, is_host=True):
        """Beside the key: KEY-cert.pub."""
        run(["ssh-keygen", "-q", "-s", self.path, *(["-h"] if is_host else []), "-I", "test", "-n", principals,
             *options, public]).ok()

    def known_hosts(self, path):
        with open(path, "w", encoding="ascii") as f:
            f.write(f"@cert-authority *.example {public_line(self.path)}\n")
        return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("authority")


@pytest.fixture(scope="module")
def authority(folder):
    return Authority(folder, "authority")


@pytest.fixture(scope="module")
def known(authority, folder):
    return authority.known_hosts(folder / "known_hosts")


@pytest.fixture(scope="module")
def certified(bin_dir, authority):
    """Each host key has a certificate."""
    with OwnKeys(bin_dir) as one:
        for kind in TYPES:
            authority.sign(one.key(kind, ".pub"), principals=f"{NAME},127.0.0.1")
        one.restart_gateway()
        yield one


def ssh(region, known_hosts, *command, opts=(), **how):
    return region.ssh(*command, opts=[f"HostKeyAlias={NAME}", f"UserKnownHostsFile={known_hosts}", "LogLevel=DEBUG2",
                                      *opts], **how)


def offered(region, known_hosts="/dev/null"):
    """The gateway's host key algorithms, from its KEXINIT."""
    done = ssh(region, known_hosts, "true")
    return re.findall(r"host key algorithms: (\S+)", done.err)[1].split(",")


@pytest.mark.parametrize("algorithm", ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256"])
def test_no_known_key_is_needed(certified, known, algorithm):
    done = ssh(certified, known, "echo", "in", opts=[f"HostKeyAlgorithms={algorithm}{SUFFIX}"]).ok()
    assert done.out == "in\n"
    assert f"kex: host key algorithm: {algorithm}{SUFFIX}" in done.err and "Server host certificate: " in done.err
    # The request that names the host key by which the client knows us is taken, too.
    assert "publickey-hostbound" in done.err


def test_without_options_the_certificate_is_taken(certified, known):
    done = ssh(certified, known, "true").ok()
    assert f"kex: host key algorithm: ssh-ed25519{SUFFIX}" in done.err, done


@pytest.mark.parametrize("kex", ["sntrup761x25519-sha512@openssh.com", "curve25519-sha256", "ecdh-sha2-nistp256",
                                 "diffie-hellman-group14-sha256"])
def test_each_way_to_exchange_keys(certified, known, kex):
    """And again in a re-exchange."""
    data = os.urandom(1 << 20)
    done = ssh(certified, known, "cat", input=data,
               opts=[f"KexAlgorithms={kex}", "RekeyLimit=256K", f"HostKeyAlgorithms=ssh-ed25519{SUFFIX}"]).ok()
    assert done.stdout == data
    assert done.err.count("SSH2_MSG_NEWKEYS received") >= 2, done


def test_who_is_not_convinced(certified, known, authority, folder):
    other = Authority(folder, "other").known_hosts(folder / "other_hosts")
    done = ssh(certified, other, "true")
    assert done.status == 255 and "Host key verification failed" in done.err, done
    done = certified.ssh("true", opts=["HostKeyAlias=elsewhere.example", f"UserKnownHostsFile={known}"])
    assert done.status == 255 and "Host key verification failed" in done.err, done


def test_the_key_itself_is_still_good(certified):
    """For who knows it, and for programs that know nothing of certificates."""
    done = certified.ssh("true", opts=["LogLevel=DEBUG1"]).ok()
    assert "No matching CA found. Retry with plain key" in done.err, done
    certified.ssh("true", opts=["HostKeyAlgorithms=ssh-ed25519"]).ok()
    for algorithm in ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-256"):
        with Listener(certified, host_key=algorithm) as one:
            assert len(one.told()) == 3


def test_certificates_are_not_among_what_clients_learn(certified, known, tmp_path):
    path = tmp_path / "known_hosts"
    path.write_text(f"{NAME} {certified.public('ed25519')}\n")
    ssh(certified, path, "true", opts=["UpdateHostKeys=yes"]).ok()
    lines = path.read_text().splitlines()
    assert {" ".join(line.split()[1:3]) for line in lines} == {certified.public(kind) for kind in TYPES}


def test_asyncssh_trusts_the_authority(certified, authority):
    async def login():
        import asyncssh
        trusted = asyncssh.import_known_hosts(f"@cert-authority * {public_line(authority.path)}\n")
        async with aclient.connect(certified, known_hosts=trusted) as conn:
            done = await conn.run("echo in", check=True)
            return done.stdout
    assert aclient.finish(login(), 60) == "in\n"


# ---- those that are not good -----------------------------------------------------------


@pytest.fixture
def own(bin_dir):
    with OwnKeys(bin_dir) as one:
        yield one


def check(region):
    argv = [os.path.join(region.bin_dir, "ringgate"), "--check"]
    for setting in region.gateway_settings():
        argv += ["--set", setting]
    return run(argv)


def test_useless_ones_are_errors_at_start(own, authority, tmp_path):
    public, path = own.key("ed25519", ".pub"), own.key("ed25519", "-cert.pub")

    def refused(words):
        done = check(own)
        assert done.status == 1 and f"{path}: {words}" in done.err, done

    authority.sign(public)
    check(own).ok()
    authority.sign(public, is_host=False)
    refused("is a user's certificate")
    authority.sign(public, "-O", "critical:unknown=1")
    refused("has critical options")
    stranger = Ed25519().write(tmp_path / "stranger")
    with open(stranger + ".pub", "w", encoding="ascii") as f:
        f.write(run(["ssh-keygen", "-y", "-f", stranger]).ok().out)
    authority.sign(stranger + ".pub")
    os.replace(stranger + "-cert.pub", path)
    refused("is a certificate of another key")
    with open(public, encoding="ascii") as f, open(path, "w", encoding="ascii") as g:
        g.write(f.read())
    refused("is no certificate that can be read")
    authority.sign(public)
    with open(path, encoding="ascii") as f:
        text = f.read().split()
    for cut in (16, 120, 240, 400):
        with open(path, "w", encoding="ascii") as f:
            f.write(f"{text[0]} {text[1][:cut]} cut\n")
        refused("is ")


def test_an_expired_one_is_not_offered(own, authority, known):
    """At start a warning; --check, which has the time, says no."""
    authority.sign(own.key("ed25519", ".pub"), "-V", "-2h:-1h")
    authority.sign(own.key("ecdsa", ".pub"), "-V", "-1h:+1h")
    done = check(own)
    assert done.status == 1 and "ssh_host_ed25519_key-cert.pub: the certificate is expired" in done.err, done
    own.restart_gateway()
    assert "event=host_certificate type=ed25519 state=expired" in own.gateway_log()
    assert "event=host_certificate type=ecdsa state=valid" in own.gateway_log()
    names = offered(own)
    assert f"ssh-ed25519{SUFFIX}" not in names and f"ecdsa-sha2-nistp256{SUFFIX}" in names
    own.ssh("true", opts=["HostKeyAlgorithms=ssh-ed25519"]).ok()
    ssh(own, known, "true").ok()


def test_one_is_offered_while_it_is_valid(own, authority, known):
    """Looked at when a connection begins, not only at start."""
    authority.sign(own.key("ed25519", ".pub"), "-V", "+2s:+1h")
    own.restart_gateway()
    wait_until(lambda: f"ssh-ed25519{SUFFIX}" in offered(own), "the certificate's first second")
    ssh(own, known, "true").ok()
