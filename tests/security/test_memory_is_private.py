"""What keyturn holds in memory leaves no process of its own: in no core dump, and to no other process."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keyturn.processes import keep_memory_private
from tests.cli import fleet

KEYTURN = Path(sys.executable).with_name("keyturn")
NOBODY = 65534
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
PR_SET_DUMPABLE = 4

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"),
    reason="what a process gives away is read from /proc: run it on Linux",
)


def core_limit(pid: int) -> str:
    """The soft limit of a process's core dumps, as the system has it."""
    return core_limit_in(Path(f"/proc/{pid}/limits").read_text())


def core_limit_in(limits: str) -> str:
    lines = limits.splitlines()
    (line,) = [line for line in lines if line.startswith("Max core file size")]
    return line.split()[4]


def dumps_when_aborted(work: Callable[[], None], folder: Path) -> bool:
    """Whether a process that did this, with cores allowed, leaves one when it is aborted."""
    if (child := os.fork()) == 0:
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
        work()
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGABRT)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGABRT
    return os.WCOREDUMP(status) or any(folder.iterdir())


def test_a_process_that_is_aborted_leaves_no_core(tmp_path: Path) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    assert not dumps_when_aborted(keep_memory_private, after)
    libc = ctypes.CDLL(None)
    if most == 0 or not dumps_when_aborted(lambda: libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), before):
        pytest.skip("this machine keeps no cores, so that none could be missed: raise ulimit -H -c")


def test_a_command_that_waits_for_a_secret_leaves_no_core(tmp_path: Path) -> None:
    asyncio.run(fleet.make(tmp_path, 1))
    soft_as_hard = 'ulimit -S -c $(ulimit -H -c); exec "$@"'
    command = ["/bin/sh", "-c", soft_as_hard, "sh", str(KEYTURN), "put", "bot-0000"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp_path) as process:
        assert process.stdin is not None
        process.stdin.write(b"not-a-real-key\nnot-a-real-secret\n")
        process.stdin.flush()
        deadline = time.monotonic() + 60
        comm = Path(f"/proc/{process.pid}/comm")
        while comm.read_text() == "sh\n" or core_limit(process.pid) != "0":
            assert time.monotonic() < deadline, core_limit(process.pid)
            time.sleep(0.02)
        process.send_signal(signal.SIGABRT)
        _, status = os.waitpid(process.pid, 0)
        process.returncode = -os.WTERMSIG(status)
    assert not os.WCOREDUMP(status)
    assert not list(tmp_path.glob("core*"))


def as_one_user() -> None:
    """Be a user for whom the rule holds: root may look everywhere."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    # Changing the user closes a process; an exec, which is how one starts, opens it again.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def seen_by_another_process(work: Callable[[], Any]) -> bool:
    """Whether a process of the same user can read the variables of one that did this."""
    reading, writing = os.pipe()
    if (holder := os.fork()) == 0:
        as_one_user()
        work()
        os.write(writing, b"x")
        signal.pause()
        os._exit(0)
    os.read(reading, 1)
    if (looker := os.fork()) == 0:
        as_one_user()
        try:
            Path(f"/proc/{holder}/environ").read_bytes()
        except PermissionError:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(looker, 0)
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    os.close(reading)
    os.close(writing)
    return os.waitstatus_to_exitcode(status) == 0


def test_no_other_process_of_the_same_user_reads_it() -> None:
    assert seen_by_another_process(lambda: None)
    assert not seen_by_another_process(keep_memory_private)


def test_what_a_command_starts_may_decide_for_itself() -> None:
    """A bot that a consumer's command starts is its owner's: the limit can be raised again there."""
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE)[1])"
    before = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    keep_memory_private()
    after = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert before == after


@pytest.mark.prefect
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_process_of_a_flow_run_keeps_its_own_too(whole_run: Any) -> None:
    assert whole_run.limits
    assert {core_limit_in(limits) for limits in whole_run.limits} == {"0"}
