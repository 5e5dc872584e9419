"""Gives files of tests to the workers of a parallel run so that all workers end at about the same time."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from keyturn.loopback import answers, past_proxies
from keyturn.prefect_access import draw_auth, shared_settings
from keyturn.processes import python
from tests.ports import free_port

# What takes longest, in seconds of a run with three workers on two cores (2026-11-29), with what shares its
# server. These files begin, the longest first, so that no worker is left with one of them at the end; what is
# left fills the gaps. Only the order hangs on these numbers: an old one costs a little time and nothing else.
SECONDS = {
    "tests/flows/test_real_server.py": 300,
    "tests/canary/test_no_leak.py": 180,
    "tests/demo/test_demo.py": 130,
    "tests/stores/test_aws_copies.py": 130,
    "tests/flows/test_real_worker.py": 110,
    "tests/flows/test_rotate.py": 100,
    "tests/simulation/test_simulation.py": 90,
    "tests/stores/test_every_call.py": 80,
    "tests/crash/test_real_kill.py": 80,
    "tests/crash/test_simulated_venues.py": 70,
    "tests/crash/test_every_call.py": 45,
    "tests/stores/test_hostile_answers.py": 45,
    "tests/stores/test_vault_faults.py": 40,
}
# Files whose tests use one server of the session go to one worker: on two, each would start its own.
SHARED = {
    "tests/flows/test_browser.py": "tests/flows/test_real_server.py",
    "tests/flows/test_deploy.py": "tests/flows/test_rotate.py",
    "tests/flows/test_prefect_yaml.py": "tests/flows/test_real_worker.py",
    "tests/flows/test_sweep.py": "tests/flows/test_rotate.py",
    "tests/security/test_folder_is_not_trusted.py": "tests/flows/test_real_server.py",
    "tests/security/test_memory_is_private.py": "tests/flows/test_real_server.py",
    "tests/security/test_prefect_is_ours.py": "tests/flows/test_real_server.py",
} | {
    f"tests/stores/test_{name}.py": "tests/stores/test_aws_copies.py"
    for name in (
        "aws_access",
        "aws_contract",
        "aws_copies_rotation",
        "aws_credentials",
        "aws_formats",
        "aws_parameter_store",
        "aws_policies",
        "aws_secrets_manager",
        "aws_secrets_manager_faults",
        "aws_unreadable",
        "faults_on_the_way",
        "remote_sources",
    )
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--product",
        action="store_true",
        help="run the tests that walk a shape of a product, and walk the full product (make product)",
    )


@pytest.fixture(scope="session")
def product(request: pytest.FixtureRequest) -> bool:
    """Whether to walk full products: every call on every road, on every store, at every venue.

    Without it a suite walks a shape: each thing that can happen at least once, wherever it first does.
    """
    return bool(request.config.getoption("--product"))


def unit_of(nodeid: str) -> str:
    """Name what goes to a worker as a whole: the file of a test, or the one that it shares a server with."""
    file = nodeid.partition("::")[0]
    return SHARED.get(file, file)


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell without job control ignores SIGINT in what it starts with "&", and a child inherits that.
        # Prefect's worker answers SIGTERM with SIGINT to itself (processutils of 3.8.8): it would never end.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config.option, "loadscopereorder"):
        # Its own order is by the number of tests, and the longest files here have the fewest.
        config.option.loadscopereorder = False


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Leave what collecting makes (modules, thousands of tests) out of every garbage collection: it stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--product"):
        others = [item for item in items if "product" not in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if "product" in getattr(item, "fixturenames", ())]
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: -SECONDS.get(unit_of(item.nodeid), 0))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    return Scheduling(config, log)


class SmallDisk:
    """A file system of one megabyte, which a test may fill."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        with self._filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def make_room(self) -> None:
        self._filler.unlink(missing_ok=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    path = tmp_path / "disk"
    path.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(argv, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs root and mount(8) for a small file system; run the suite as root in a container")
    yield SmallDisk(path)
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture(scope="session")
def furnish_prefect(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], None]:
    """Give what puts an empty database of Prefect's into a folder that is to be its `PREFECT_HOME`.

    Prefect makes it in a hundred migrations, ten seconds of a core each time. Here one server of the session
    does so once, in its first start.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    template = root / "prefect-template"

    def furnish(home: Path) -> None:
        with (root / "prefect-template.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (template / "prefect.db").exists():
                _make_prefect_database(template)
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(template / "prefect.db", home / "prefect.db")

    return furnish


def _make_prefect_database(home: Path) -> None:
    """Start keyturn's Prefect server where none ever was, and end it when it answers."""
    making, port = home.with_name("prefect-in-the-making"), free_port()
    url = f"http://127.0.0.1:{port}"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environ |= shared_settings(url, draw_auth()) | past_proxies(os.environ)
    server = subprocess.Popen(
        python("-m", "flows.prefect_server", "--host", "127.0.0.1", "--port", str(port), "--no-ui"),
        env=environ | {"PREFECT_HOME": str(making), "DO_NOT_TRACK": "1"},
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 300
        while not answers(f"{url}/api/health"):
            assert server.poll() is None, "Prefect's first start failed; see what it wrote above"
            assert time.monotonic() < deadline, "Prefect's first start took five minutes"
            time.sleep(0.2)
    finally:
        server.terminate()
        server.wait(60)
    # What it had not yet written back, where it was ended in a hurry.
    with closing(sqlite3.connect(making / "prefect.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    making.rename(home)


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory, furnish_prefect: Callable[[Path], None]) -> Iterator[Any]:
    """One running `keyturn up`, with a house whose exchange is a process; of two folders of tests."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("these tests find their processes in /proc: run them on Linux")
    from tests.flows.town import Town

    made = Town(tmp_path_factory.mktemp("town"))
    furnish_prefect(made.folder / ".keyturn" / "prefect")
    try:
        made.up()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def whole_run(town: Any) -> Any:
    """One run of that town, looked at in its middle and at its end."""
    from tests.flows.town import WholeRun

    return WholeRun.of(town)
