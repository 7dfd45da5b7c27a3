"""End-to-end tests: the real programs of the distribution against a real region.

    /usr/bin/python3 -m pytest tests/e2e --bin zig-out/bin
    /usr/bin/python3 -m pytest tests/e2e --sshd     tests the tests: the gateway is sshd

The distribution's packages that are needed stand in packages.txt. One region serves a
whole run; tests that change settings or break things start one of their own.
"""

import hashlib
import os
import re
import shutil
import tempfile

import pytest

import regions
from fake_region import FakeRegion
from forwards import Server
from regions import CHECKOUT, STANDIN, Region

LOG_TAIL_BYTES = 5000


def pytest_addoption(parser):
    group = parser.getgroup("ringgate")
    group.addoption("--bin", metavar="DIR", default=os.path.join(CHECKOUT, "zig-out", "bin"),
                    help="folder with ringgate and procd (default: zig-out/bin)")
    group.addoption("--sshd", action="store_true",
                    help="test the tests: the machine's sshd stands in for the gateway")
    group.addoption("--editors", metavar="COMMAND",
                    help="what starts a code-server (npm's package, some 600 MB): tests it, too")


def pytest_configure(config):
    config.bin_dir = os.path.abspath(config.getoption("--bin"))
    if config.getoption("--sshd"):
        config.bin_dir = STANDIN


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--sshd"):
        return
    skip = pytest.mark.skip(reason="needs the real gateway, and --sshd was given")
    for item in items:
        if item.get_closest_marker("gateway"):
            item.add_marker(skip)


def pytest_sessionstart(session):
    for name in ("ringgate", "procd"):
        path = os.path.join(session.config.bin_dir, name)
        if not os.access(path, os.X_OK) and not session.config.getoption("collectonly"):
            pytest.exit(f"{path} is not there; build first, or name the folder with "
                        "--bin DIR", returncode=4)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    item.log_offsets = {id(r): r.log_size() for r in Region.live}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    offsets = getattr(item, "log_offsets", {})
    for region in Region.live:
        text = region.log_since(offsets.get(id(region), 0))
        if text:
            report.sections.append((f"log of the region in {region.dir}",
                                    text[-LOG_TAIL_BYTES:]))


@pytest.fixture(scope="session")
def bin_dir(request):
    return request.config.bin_dir


@pytest.fixture(scope="session")
def is_standin(request):
    return request.config.getoption("--sshd")


@pytest.fixture(scope="session")
def region(bin_dir, is_standin):
    """The region that most tests share."""
    with Region(bin_dir, is_standin=is_standin) as started:
        yield started


@pytest.fixture
def new_region(bin_dir, is_standin):
    """new_region(...): a region of the test's own, see regions.Region."""
    started = []

    def start(*arguments, **how):
        one = Region(bin_dir, arguments, is_standin=is_standin, **how).start()
        started.append(one)
        return one

    yield start
    for one in started:
        one.stop()


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
    """A folder for the whole run."""
    path = tmp_path_factory.mktemp("scratch")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def fake_region(bin_dir):
    """fake_region(...): see fake_region.FakeRegion."""
    started = []

    def start(*settings, **how):
        one = FakeRegion(bin_dir, settings, **how)
        started.append(one)
        return one.start()

    yield start
    for one in reversed(started):
        one.stop()


@pytest.fixture
def folder():
    """Its path is short enough for sockets."""
    path = tempfile.mkdtemp(prefix="ringgate-")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def server():
    """server(handle, path=None): a server of the test's own, see forwards.Server."""
    opened = []

    def start(handle, path=None):
        opened.append(Server(handle, path))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


class BigFile:
    """Random bytes in a file, and their SHA-256."""

    def __init__(self, path, mib):
        self.path = str(path)
        self.bytes = mib << 20
        digest = hashlib.sha256()
        blocks = [bytearray(os.urandom(1 << 20)) for _ in range(min(mib, 16))]
        with open(path, "wb") as f:
            for i in range(mib):
                block = blocks[i % len(blocks)]
                block[:8] = i.to_bytes(8, "big")
                digest.update(block)
                f.write(block)
        self.sha = digest.hexdigest()


@pytest.fixture(scope="session")
def random64(scratch):
    """64 MiB of random bytes."""
    return BigFile(scratch / "random64", 64)


@pytest.fixture(scope="session")
def random16(scratch):
    """16 MiB of random bytes."""
    return BigFile(scratch / "random16", 16)


@pytest.fixture
def random1024(roomy):
    """1 GiB of random bytes."""
    return BigFile(os.path.join(roomy, "random1024"), 1024)


@pytest.fixture
def work(region, request):
    """A fresh folder inside the first sandbox's home: its name; ends with the test."""
    name = "w-" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    path = os.path.join(region.home, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    yield name
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def roomy(scratch):
    """A folder for gigabytes: in memory where there is plenty, else on the disk."""
    parent = str(scratch)
    try:
        stat = os.statvfs("/dev/shm")
        with open("/proc/meminfo", encoding="ascii") as f:
            free = int(re.search(r"MemAvailable:\s+(\d+)", f.read()).group(1)) << 10
        if stat.f_bavail * stat.f_frsize > 12 << 30 and free > 16 << 30:
            parent = "/dev/shm"
    except OSError:
        pass
    path = tempfile.mkdtemp(prefix="ringgate-e2e-", dir=parent)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def needs_program(name):
    """Skips, with the reason, where a client is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (see tests/e2e/packages.txt)")
    return path


regions.needs_program = needs_program
