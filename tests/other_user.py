"""What a test does as another user: in a process that takes that user's ids itself, after its imports.

The interpreter of a test run may lie where only root can go; nobody else could start it.
"""

from __future__ import annotations

import concurrent.futures.thread  # imported late by asyncio, when another user may not read it
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

__all__ = ["AS_ROOT", "as_user", "command", "common", "concurrent", "environment"]

AS_ROOT = os.getuid() == 0

#: Drops every right but those of the user in `sys.argv[1]` and the groups in `sys.argv[2]`; 0 stays root.
_DROP = """
import asyncio, concurrent.futures.thread, encodings.idna, os, sys

def become():
    uid, groups = int(sys.argv.pop(1)), [int(g) for g in sys.argv.pop(1).split(",") if g]
    if uid:
        os.setgroups(groups)
        os.setgid(uid)
        os.setuid(uid)
"""


def as_user(uid: int, groups: Iterable[int], work: Callable[[], object]) -> str:
    """Do something as another user, with a umask that takes nothing away; give what came of it, in words."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(list(groups))
            os.setgid(uid)
            os.setuid(uid)
            os.umask(0)
            told = str(work())
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told


def command(code: str, uid: int, groups: Iterable[int], *arguments: object) -> list[str]:
    """Give the command of a process that runs `code`, which calls `become()` after its imports."""
    given = [str(uid), ",".join(map(str, groups)), *map(str, arguments)]
    return [sys.executable, "-c", _DROP + code, *given]


def environment() -> dict[str, str]:
    """Give an environment that says where modules are, and nothing else."""
    return {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PATH": os.environ["PATH"]}


@pytest.fixture
def common() -> Iterator[Path]:
    """Give a folder that every user can pass through; pytest closes those that it makes, again and again."""
    folder = Path(tempfile.mkdtemp(prefix="keyturn-common-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
