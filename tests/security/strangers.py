"""Another user of this machine, who can do what any user can and no more."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NOBODY = pwd.getpwnam("nobody")
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can act as another user, too; run the suite as root in a container"
)


def as_nobody(work: Callable[[], object]) -> None:
    """Do something in a process of the user `nobody`; it must succeed."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY.pw_gid)
            os.setuid(NOBODY.pw_uid)
            work()
            status = 0
        finally:
            os._exit(status)
    _, ended = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(ended) == 0


@pytest.fixture
def square() -> Iterator[Path]:
    """A folder that every user reaches, unlike pytest's own, and that only this one may write to."""
    folder = Path(tempfile.mkdtemp(prefix="keyturn-square-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
